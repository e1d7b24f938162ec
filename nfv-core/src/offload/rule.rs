//! A rule of a NIC, and what a NIC is to those who give it rules: a device of DPDK's, an emulated one, a table of facts.
//!
//! A rule always names a transport. So a fragment, or a protocol that a NIC does not know, meets none, whatever the NIC
//! makes of it, and takes the way of packets without a tag, which is always right. What NICs differ in is left to them to
//! refuse: [`Nic::validate`].

use std::fmt::Debug;

use crate::chain::value::Prefix;

/// A rule: packets, and what is done with them. Of several that a packet meets, that of the lowest priority number acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NicRule {
    /// Which packets.
    pub pattern: Pattern,
    /// 0 comes first. A NIC without priorities takes 0 only, and patterns that do not overlap.
    pub priority: u32,
    /// The tag that they get.
    pub mark: Option<u32>,
    /// Whether the NIC counts them.
    pub count: bool,
    /// Where they go.
    pub fate: Fate,
}

/// Which packets, from the outside in. An address of `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The outermost VLAN id; `None`: whether there is a tag is not looked at.
    pub vlan: Option<u16>,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
    /// Of the family.
    pub src: Option<Prefix>,
    /// Of the family.
    pub dst: Option<Prefix>,
    /// The transport.
    pub l4: L4Item,
}

/// The transport of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4Item {
    /// TCP: ports, and flags that are looked at with their values (`mask`, `value`).
    Tcp {
        /// Source port.
        sport: PortItem,
        /// Destination port.
        dport: PortItem,
        /// Which flags, and what they are.
        flags: (u8, u8),
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: PortItem,
        /// Destination port.
        dport: PortItem,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        sport: PortItem,
        /// Destination port.
        dport: PortItem,
    },
    /// The family's ICMP.
    Icmp {
        /// The type of message.
        kind: Option<u8>,
    },
}

/// A port of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortItem {
    /// Any.
    Any,
    /// Those that are `value` where `mask` has bits.
    Masked {
        /// What they are.
        value: u16,
        /// Which bits are looked at; all of them: one port.
        mask: u16,
    },
    /// Those between, both ends included.
    Range(u16, u16),
}

/// Where packets of a rule go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nowhere.
    Drop,
    /// To a queue.
    Queue(u16),
    /// To the queues that the NIC's table has, as packets without a rule.
    Rss,
}

/// Why a NIC does not take a rule, in its driver's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What became of a frame that a NIC was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A rule dropped it.
    Dropped,
    /// A worker gets it.
    Passed {
        /// Which one.
        queue: u16,
        /// With that tag.
        mark: Option<u32>,
    },
}

/// A rule that a NIC has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

/// How a NIC spreads packets without a rule over its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The key of its hash, as far as it is known.
    pub key: Option<Vec<u8>>,
    /// By the hash's lowest bits, a queue; empty: it is not known.
    pub table: Vec<u16>,
}

/// A NIC as those who give it rules see it. For the control side: calls take microseconds to milliseconds.
pub trait Nic: Debug + Send {
    /// Its driver, as DPDK names it.
    fn driver(&self) -> &str;

    /// How many receive queues are in use.
    fn queues(&self) -> u16;

    /// Whether it would take a rule now.
    ///
    /// # Errors
    /// Why not.
    fn validate(&self, rule: &NicRule) -> Result<(), Refusal>;

    /// Gives it a rule, which acts from then on.
    ///
    /// # Errors
    /// Why it does not take it.
    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal>;

    /// Takes a rule back.
    ///
    /// # Errors
    /// There is no such rule, or the NIC does not answer.
    fn remove(&mut self, id: RuleId) -> Result<(), Refusal>;

    /// Takes all rules back, also those that are not this process's.
    ///
    /// # Errors
    /// The NIC does not answer.
    fn flush(&mut self) -> Result<(), Refusal>;

    /// The device was reset: it has none of its rules any more, and those who gave them give them again.
    fn forget(&mut self) {}

    /// How many packets a rule has met; `None`: the NIC does not count them.
    fn hits(&self, id: RuleId) -> Option<u64>;

    /// How it spreads what has no rule.
    fn spread(&self) -> Spread;

    /// Sends each part of the hash to another queue.
    ///
    /// # Errors
    /// It cannot, or the table has another size.
    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal>;

    /// What it does with a frame from the wire, by its rules as they act; `None`: it cannot be shown one (a loop is needed).
    fn probe(&self, frame: &[u8]) -> Option<Met> {
        let _ = frame;
        None
    }
}
