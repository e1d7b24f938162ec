//! The rules of a port's NIC: rte_flow, a rule at a time, from the control side.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use dpdk_sys::{nfv_flow_rule, rte_flow};

use super::flow_queue::{FlowQueue, Groups, Made};
use super::port::OpenPort;
use super::started::StartedPort;

/// A rule, as flat as NICs take them. Addresses are in network order, IPv4 in the first four bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowPort {
    /// The least one.
    pub first: u16,
    /// The greatest one.
    pub last: u16,
    /// Which bits are looked at.
    pub mask: u16,
}

/// Where packets of a rule go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FlowFate {
    /// Nowhere.
    Drop,
    /// To a queue.
    Queue(u16),
    /// To one of some queues, by a hash of the fields that the pattern has, or that the driver chooses.
    Rss {
        /// By the hash's lowest bits.
        queues: Arc<[u16]>,
        /// By what.
        by: HashFields,
    },
    /// To the rules of another group.
    Jump {
        /// Which one.
        group: u32,
    },
    /// Where they would go without the rule.
    PassThrough,
}

/// What a rule's own hash is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Of a driver that takes rules by templates.
    queue: Option<FlowQueue>,
    installed: BTreeMap<u64, Handle>,
    next: u64,
    /// The start of the port after which they were given: the next one ends them.
    start: u32,
}

/// A rule by its driver's pointer, which is never followed here.
#[derive(Debug)]
enum Handle {
    One(NonNull<rte_flow>),
    Made(Made),
}

// SAFETY: the pointer goes back to the driver by calls on `FlowRules` alone, which are `&mut self` or reads of a counter;
// rte_flow's calls may come from any thread, one at a time.
unsafe impl Send for Handle {}

impl FlowRules {
    /// Of a port that runs. `groups`: where rules may be, if its driver takes them by templates.
    pub fn of(port: &OpenPort, groups: Groups) -> Self {
        let started = port.started();
        let queue = started
            .flow_queue()
            .map(|depth| FlowQueue::new(started.id(), depth, groups, port.queues));
        let (port, start) = (Arc::downgrade(started), started.start());
        Self { port, queue, installed: BTreeMap::new(), next: 1, start }
    }

    /// Whether the driver would take a rule now.
    ///
    /// # Errors
    /// Its words.
    pub fn validate(&self, rule: &FlowRule) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        if let Some(queue) = &self.queue {
            return queue.validate(rule);
        }
        let (raw, port) = (Raw::of(rule), started.id());
        // SAFETY: the port runs as long as `started`; the call reads the rule and writes text of at most that length.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_validate(port, raw.get(), why, room) })
    }

    /// Gives the driver rules of which none overlaps another; returns their numbers.
    pub fn install_all(&mut self, rules: &[FlowRule]) -> Vec<Result<u64, String>> {
        let started = match self.started() {
            Ok(started) => started,
            Err(why) => return rules.iter().map(|_| Err(why.clone())).collect(),
        };
        if self.start != started.start() {
            self.forget();
        }
        let _control = started.control();
        let made: Vec<Result<Handle, String>> = match &mut self.queue {
            Some(queue) => {
                queue.create(rules).into_iter().map(|made| made.map(Handle::Made)).collect()
            }
            None => rules.iter().map(|rule| create(started.id(), rule).map(Handle::One)).collect(),
        };
        let mut keep = |made| {
            let id = self.next;
            self.next += 1;
            self.installed.insert(id, made);
            id
        };
        made.into_iter().map(|made| made.map(&mut keep)).collect()
    }

    /// Takes rules back: what becomes of each. One of which the driver says that it cannot, is there still.
    pub fn remove_all(&mut self, ids: &[u64]) -> Vec<Result<(), String>> {
        let started = match self.started() {
            Ok(started) if self.start == started.start() => started,
            Ok(_) => {
                let why = "the port has started again, without its rules";
                return ids.iter().map(|_| Err(why.to_owned())).collect();
            }
            Err(why) => return ids.iter().map(|_| Err(why.clone())).collect(),
        };
        let _control = started.control();
        let (mut batch, mut results) = (Vec::new(), Vec::new());
        for id in ids {
            results.push(match self.installed.remove(id) {
                None => Err("there is no such rule".to_owned()),
                Some(Handle::Made(made)) => {
                    batch.push((results.len(), made));
                    Ok(())
                }
                Some(Handle::One(flow)) => {
                    let (port, raw) = (started.id(), flow.as_ptr());
                    // SAFETY: the driver made the rule, and it is given back once: it has left `installed`.
                    let done = told(|why, room| unsafe {
                        dpdk_sys::nfv_flow_destroy(port, raw, why, room)
                    });
                    if done.is_err() {
                        self.installed.insert(*id, Handle::One(flow));
                    }
                    done
                }
            });
        }
        let (places, made): (Vec<usize>, Vec<Made>) = batch.into_iter().unzip();
        let done = self.queue.as_mut().map(|queue| queue.destroy(made)).unwrap_or_default();
        for (at, done) in places.into_iter().zip(done) {
            if let Some(result) = results.get_mut(at) {
                *result = done;
            }
        }
        results
    }

    /// Has a rule do something else with its packets, which stay the same.
    ///
    /// # Errors
    /// There is none of that number, or the driver's words; the rule is as it was.
    pub fn change(&mut self, id: u64, rule: &FlowRule) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        if self.start != started.start() {
            return Err("the port has started again, without its rules".to_owned());
        }
        let flow = match self.installed.get(&id).ok_or("there is no such rule")? {
            Handle::One(flow) => flow.as_ptr(),
            Handle::Made(_) => return Err("a template's rule is made anew".to_owned()),
        };
        let (raw, port) = (Raw::of(rule), started.id());
        // SAFETY: the driver made the rule, and has it still; the call reads the new one.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_change(port, flow, raw.get(), why, room) })
    }

    /// Takes all rules of the port back, whoever gave them.
    ///
    /// # Errors
    /// The driver's words.
    pub fn flush(&mut self) -> Result<(), String> {
        let started = self.started()?;
        let _control = started.control();
        let port = started.id();
        // What is known of is taken back as it was given: what leads to a group ends before what is there.
        let all = std::mem::take(&mut self.installed);
        let made = all.into_values().filter_map(|handle| match handle {
            Handle::Made(made) if self.start == started.start() => Some(made),
            _ => None,
        });
        let made = made.collect();
        if let Some(queue) = &mut self.queue {
            queue.destroy(made);
        }
        // SAFETY: the port runs as long as `started`; the handles that end by this are forgotten: after a flush that failed
        // nobody knows which of them are left, and none is used again.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_flush(port, why, room) })
    }

    /// Forgets what was installed, as a device that was reset has.
    pub fn forget(&mut self) {
        self.installed.clear();
        if let Some(queue) = &mut self.queue {
            queue.forget();
        }
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
        let flow = match self.installed.get(&id).filter(|_| self.start == started.start())? {
            Handle::One(flow) => flow.as_ptr(),
            Handle::Made(made) => made.as_ptr(),
        };
        let (port, mut hits) = (started.id(), 0);
        // SAFETY: the driver made the rule, and it is not given back yet; the call writes a number.
        told(|why, room| unsafe { dpdk_sys::nfv_flow_hits(port, flow, &mut hits, why, room) })
            .ok()?;
        Some(hits)
    }
}

/// A rule by itself.
fn create(port: u16, rule: &FlowRule) -> Result<NonNull<rte_flow>, String> {
    let raw = Raw::of(rule);
    let mut made = std::ptr::null_mut();
    // SAFETY: the port runs, as the caller knows; the call reads the rule, and writes its handle and text of at most that
    // length.
    told(|why, room| unsafe { dpdk_sys::nfv_flow_create(port, raw.get(), &mut made, why, room) })?;
    NonNull::new(made).ok_or_else(|| "the driver returned no rule".to_owned())
}

/// Makes a call that says why it fails.
pub(super) fn told(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), String> {
    let mut why = [0 as c_char; WORDS_MAX];
    if call(why.as_mut_ptr(), why.len()) == 0 {
        return Ok(());
    }
    // SAFETY: the shim wrote a NUL-terminated string within the room that it was given.
    let text = unsafe { CStr::from_ptr(why.as_ptr()) };
    Err(text.to_string_lossy().into_owned())
}

/// A rule as the shim takes it, for as long as the rule is there.
#[derive(Debug)]
pub(super) struct Raw<'r> {
    rule: nfv_flow_rule,
    of: PhantomData<&'r FlowRule>,
}

impl<'r> Raw<'r> {
    pub fn of(rule: &'r FlowRule) -> Self {
        Self { rule: raw(rule), of: PhantomData }
    }

    pub fn get(&self) -> *const nfv_flow_rule {
        &self.rule
    }
}

/// It has a pointer into the rule.
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
    let mut queue = 0;
    let mut group = 0;
    let mut list: &[u16] = &[];
    let mut types = 0;
    let fate = match &rule.fate {
        FlowFate::Drop => dpdk_sys::NFV_FLOW_DROP,
        FlowFate::Queue(to) => {
            queue = *to;
            dpdk_sys::NFV_FLOW_QUEUE
        }
        FlowFate::Rss { queues, by } => {
            list = queues;
            types = if *by == HashFields::OfPattern { fields } else { 0 };
            dpdk_sys::NFV_FLOW_RSS
        }
        FlowFate::Jump { group: to } => {
            group = *to;
            dpdk_sys::NFV_FLOW_JUMP
        }
        FlowFate::PassThrough => dpdk_sys::NFV_FLOW_PASSTHRU,
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
        rss_queues: u16::try_from(list.len()).unwrap_or(u16::MAX),
        rss_list: list.as_ptr(),
        rss_types: types,
        group_to: group,
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
