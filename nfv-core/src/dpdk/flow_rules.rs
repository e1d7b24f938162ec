//! The rules of a port's NIC: rte_flow, a rule at a time, from the control side.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use dpdk_sys::{nfv_flow_rule, rte_flow};

use super::port::OpenPort;
use super::started::StartedPort;

/// A rule, as flat as NICs take them. Addresses are in network order, IPv4 in the first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRule {
    /// 0 acts first.
    pub priority: u32,
    /// Whether it is of IPv6.
    pub is_ipv6: bool,
    /// Source, and how many of its bits are looked at.
    pub src: ([u8; 16], u8),
    /// Destination, likewise.
    pub dst: ([u8; 16], u8),
    /// The outermost VLAN id.
    pub vlan: Option<u16>,
    /// IANA's number: TCP, UDP, SCTP, ICMP or ICMPv6; no other is taken.
    pub protocol: u8,
    /// Source port.
    pub sport: FlowPort,
    /// Destination port.
    pub dport: FlowPort,
    /// TCP flags that are looked at, and what they are.
    pub flags: (u8, u8),
    /// The type of ICMP message.
    pub icmp_type: Option<u8>,
    /// What is written into its packets.
    pub mark: Option<u32>,
    /// Whether its packets are counted.
    pub counts: bool,
    /// Where its packets go.
    pub fate: FlowFate,
}

/// A port of a rule: those from `first` to `last` as far as `mask` has bits; none: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowPort {
    /// The least one.
    pub first: u16,
    /// The greatest one.
    pub last: u16,
    /// Which bits are looked at.
    pub mask: u16,
}

/// Where packets of a rule go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowFate {
    /// Nowhere.
    Drop,
    /// To a queue.
    Queue(u16),
    /// To one of the first queues, by a hash of the fields that the pattern has, or that the driver chooses.
    Rss {
        /// How many.
        queues: u16,
        /// By what.
        by: HashFields,
    },
    /// Where they would go without the rule.
    PassThrough,
}

/// What a rule's own hash is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFields {
    /// Addresses and ports of its family and transport.
    OfPattern,
    /// What the driver takes when nothing is said.
    OfDriver,
}

/// The rules that this process gave a port. They are taken back with it, so they end before the port does.
#[derive(Debug)]
pub struct FlowRules {
    /// Not an owner: the port closes without it, and its rules end with it.
    port: Weak<StartedPort>,
    installed: BTreeMap<u64, Handle>,
    next: u64,
    /// The start of the port after which they were given: the next one ends them.
    start: u32,
}

/// A rule by its driver's pointer, which is never followed here.
#[derive(Debug)]
struct Handle(NonNull<rte_flow>);

// SAFETY: the pointer goes back to the driver by calls on `FlowRules` alone, which are `&mut self` or reads of a counter;
// rte_flow's calls may come from any thread, one at a time.
unsafe impl Send for Handle {}

impl FlowRules {
    /// Of a port that runs.
    pub fn of(port: &OpenPort) -> Self {
        let (port, start) = (Arc::downgrade(port.started()), port.started().start());
        Self { port, installed: BTreeMap::new(), next: 1, start }
    }

    /// Whether the driver would take a rule now.
    ///
    /// # Errors
    /// Its words.
    pub fn validate(&self, rule: &FlowRule) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        let (raw, port) = (raw(rule), started.id());
        // SAFETY: the port runs as long as `started`; the call reads the rule and writes text of at most that length.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_validate(port, &raw, why, room) })
    }

    /// Gives the driver a rule; returns its number.
    ///
    /// # Errors
    /// The driver's words.
    pub fn install(&mut self, rule: &FlowRule) -> Result<u64, String> {
        let started = self.started()?;
        if self.start != started.start() {
            self.forget();
        }
        let _control = started.control();
        let (raw, port) = (raw(rule), started.id());
        let mut made = std::ptr::null_mut();
        // SAFETY: as in `validate`; the rule that is made is written to `made`.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_create(port, &raw, &mut made, why, room) })?;
        let made = NonNull::new(made).ok_or("the driver returned no rule")?;
        let id = self.next;
        self.next += 1;
        self.installed.insert(id, Handle(made));
        Ok(id)
    }

    /// Takes a rule back.
    ///
    /// # Errors
    /// There is none of that number, or the driver's words; the rule is there still, then.
    pub fn remove(&mut self, id: u64) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        if self.start != started.start() {
            return Err("the port has started again, without its rules".to_owned());
        }
        let Handle(flow) = self.installed.get(&id).ok_or("there is no such rule")?;
        let (flow, port) = (flow.as_ptr(), started.id());
        // SAFETY: the driver made the rule, and it is given back once: it leaves `installed` below.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_destroy(port, flow, why, room) })?;
        self.installed.remove(&id);
        Ok(())
    }

    /// Takes all rules of the port back, whoever gave them.
    ///
    /// # Errors
    /// The driver's words.
    pub fn flush(&mut self) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        let port = started.id();
        // SAFETY: the port runs as long as `started`; the handles that end by this are forgotten below.
        let flushed = told(|why, room| unsafe { dpdk_sys::nfv_flow_flush(port, why, room) });
        // After a flush that failed nobody knows which of them are left: none is used again.
        self.installed.clear();
        flushed
    }

    /// Forgets what was installed, as a device that was reset has.
    pub fn forget(&mut self) {
        self.installed.clear();
        if let Some(port) = self.port.upgrade() {
            self.start = port.start();
        }
    }

    fn started(&self) -> Result<Arc<StartedPort>, String> {
        self.port.upgrade().ok_or_else(|| "the port is closed".to_owned())
    }

    /// How many packets a rule has met; `None`: nobody counts them.
    pub fn hits(&self, id: u64) -> Option<u64> {
        let started = self.port.upgrade()?;
        let _control = started.control();
        let Handle(flow) = self.installed.get(&id).filter(|_| self.start == started.start())?;
        let (flow, port, mut hits) = (flow.as_ptr(), started.id(), 0);
        // SAFETY: the driver made the rule, and it is not given back yet; the call writes a number.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_hits(port, flow, &mut hits, why, room) })
            .ok()?;
        Some(hits)
    }
}

/// Makes a call that says why it fails.
fn told(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), String> {
    let mut why = [0 as c_char; WORDS_MAX];
    if call(why.as_mut_ptr(), why.len()) == 0 {
        return Ok(());
    }
    // SAFETY: the shim wrote a NUL-terminated string within the room that it was given.
    let text = unsafe { CStr::from_ptr(why.as_ptr()) };
    Err(text.to_string_lossy().into_owned())
}

fn raw(rule: &FlowRule) -> nfv_flow_rule {
    let fields = match (rule.is_ipv6, rule.protocol) {
        (false, TCP) => dpdk_sys::NFV_RSS_IPV4_TCP,
        (false, UDP) => dpdk_sys::NFV_RSS_IPV4_UDP,
        (false, SCTP) => dpdk_sys::NFV_RSS_IPV4_SCTP,
        (false, _) => dpdk_sys::NFV_RSS_IPV4,
        (true, TCP) => dpdk_sys::NFV_RSS_IPV6_TCP,
        (true, UDP) => dpdk_sys::NFV_RSS_IPV6_UDP,
        (true, SCTP) => dpdk_sys::NFV_RSS_IPV6_SCTP,
        (true, _) => dpdk_sys::NFV_RSS_IPV6,
    };
    let (fate, queue, rss_queues, rss_types) = match rule.fate {
        FlowFate::Drop => (dpdk_sys::NFV_FLOW_DROP, 0, 0, 0),
        FlowFate::Queue(queue) => (dpdk_sys::NFV_FLOW_QUEUE, queue, 0, 0),
        FlowFate::Rss { queues, by: HashFields::OfPattern } => {
            (dpdk_sys::NFV_FLOW_RSS, 0, queues, fields)
        }
        FlowFate::Rss { queues, by: HashFields::OfDriver } => {
            (dpdk_sys::NFV_FLOW_RSS, 0, queues, 0)
        }
        FlowFate::PassThrough => (dpdk_sys::NFV_FLOW_PASSTHRU, 0, 0, 0),
    };
    nfv_flow_rule {
        src: rule.src.0,
        dst: rule.dst.0,
        priority: rule.priority,
        mark: rule.mark.unwrap_or_default(),
        vlan: rule.vlan.unwrap_or(dpdk_sys::NFV_FLOW_NO_VLAN as u16),
        sport_first: rule.sport.first,
        sport_last: rule.sport.last,
        sport_mask: rule.sport.mask,
        dport_first: rule.dport.first,
        dport_last: rule.dport.last,
        dport_mask: rule.dport.mask,
        queue,
        rss_queues,
        rss_types,
        is_ipv6: rule.is_ipv6.into(),
        src_bits: rule.src.1,
        dst_bits: rule.dst.1,
        protocol: rule.protocol,
        flags_mask: rule.flags.0,
        flags: rule.flags.1,
        has_icmp_type: rule.icmp_type.is_some().into(),
        icmp_type: rule.icmp_type.unwrap_or_default(),
        has_mark: rule.mark.is_some().into(),
        has_count: rule.counts.into(),
        fate: fate as u8,
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// The longest that a driver says.
const WORDS_MAX: usize = 256;
