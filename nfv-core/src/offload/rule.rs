//! A rule of a NIC, and what a NIC is to those who give it rules: a device of DPDK's, an emulated one, a table of facts.
//!
//! A rule always names a transport. So a fragment, or a protocol that a NIC does not know, meets none, whatever the NIC
//! makes of it, and takes the way of packets without a tag, which is always right. What NICs differ in is left to them to
//! refuse: [`Nic::validate`].

use std::fmt::Debug;

use super::facts::{Facts, Limits};
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

impl Pattern {
    /// Whether a packet may meet both. Where that cannot be told, yes.
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = |a: Option<Prefix>, b: Option<Prefix>| match (a, b) {
            (Some(a), Some(b)) => !a.net().contains(&b.net()) && !b.net().contains(&a.net()),
            _ => false,
        };
        self.is_ipv6 == other.is_ipv6
            && !matches!((self.vlan, other.vlan), (Some(a), Some(b)) if a != b)
            && !apart(self.src, other.src)
            && !apart(self.dst, other.dst)
            && self.l4.overlaps(&other.l4)
    }

    /// Whether nothing but the transport is looked at.
    pub fn looks_at_nothing(&self) -> bool {
        let is_any = |prefix: Option<Prefix>| prefix.is_none_or(|p| p.net().prefix_len() == 0);
        let flags = matches!(self.l4, L4Item::Tcp { flags: (mask, _), .. } if mask != 0);
        let kind = matches!(self.l4, L4Item::Icmp { kind: Some(_) });
        is_any(self.src)
            && is_any(self.dst)
            && self.l4.ports() == (PortItem::Any, PortItem::Any)
            && !flags
            && !kind
    }
}

impl L4Item {
    /// The source and the destination port.
    pub const fn ports(&self) -> (PortItem, PortItem) {
        match *self {
            Self::Tcp { sport, dport, .. }
            | Self::Udp { sport, dport }
            | Self::Sctp { sport, dport } => (sport, dport),
            Self::Icmp { .. } => (PortItem::Any, PortItem::Any),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let apart = match (self, other) {
            (Self::Tcp { flags: (m, v), .. }, Self::Tcp { flags: (n, w), .. }) => {
                (v ^ w) & m & n != 0
            }
            (Self::Icmp { kind: Some(a) }, Self::Icmp { kind: Some(b) }) => a != b,
            (one, other) => std::mem::discriminant(one) != std::mem::discriminant(other),
        };
        let ((s, d), (t, e)) = (self.ports(), other.ports());
        !apart && s.overlaps(t) && d.overlaps(e)
    }
}

impl PortItem {
    /// Whether a port is meant.
    pub const fn takes(self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Masked { value, mask } => port & mask == value & mask,
            Self::Range(first, last) => first <= port && port <= last,
        }
    }

    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Masked { value: v, mask: m }, Self::Masked { value: w, mask: n }) => {
                (v ^ w) & m & n == 0
            }
            (Self::Range(first, last), Self::Range(from, to)) => first <= to && from <= last,
            (Self::Range(first, last), masked) | (masked, Self::Range(first, last)) => {
                (first..=last).any(|port| masked.takes(port))
            }
        }
    }
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

    /// What it cannot be asked a rule at a time: as far as its driver is known.
    fn limits(&self) -> Limits {
        Facts::of_driver(self.driver()).map_or_else(Limits::default, Facts::limits)
    }

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

    /// Gives it rules of which none overlaps another, together where its driver can. What comes of each is as by
    /// [`Nic::install`].
    fn install_all(&mut self, rules: &[NicRule]) -> Vec<Result<RuleId, Refusal>> {
        rules.iter().map(|rule| self.install(rule)).collect()
    }

    /// Takes such rules back.
    fn remove_all(&mut self, ids: &[RuleId]) -> Vec<Result<(), Refusal>> {
        ids.iter().map(|id| self.remove(*id)).collect()
    }

    /// Has a rule do something else with its packets: at no moment is it not there. Pattern and priority are as they were.
    ///
    /// # Errors
    /// The NIC cannot; the rule is as it was.
    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        let _ = (id, rule);
        Err(Refusal("its rules cannot be changed where they are".to_owned()))
    }

    /// Takes all rules back, also those that are not this process's.
    ///
    /// # Errors
    /// The NIC does not answer.
    fn flush(&mut self) -> Result<(), Refusal>;

    /// One like it that has no rules, to plan for while it has some; `None`: it has to be asked itself.
    fn blank(&self) -> Option<Box<dyn Nic>> {
        None
    }

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
