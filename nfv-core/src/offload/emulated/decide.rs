//! What a NIC does with a frame: the rule that it meets, else its hash and its table.
//!
//! Rules are walked one after another, in their order: nothing of how software classifies is used here, so that both can
//! be held against each other. Who has many frames keeps what was decided (`NicSide`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::side::Decision;
use super::{Lie, Rules};
use crate::dpdk::SYMMETRIC_KEY;
use crate::offload::rule::{Fate, L4Item, NicRule, Pattern, PortItem, Refusal, RuleId};
use crate::packet::{Fragment, Headers, L3, NO_VLAN, flow_hash, parse, protocol};

/// A rule that is installed.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub id: RuleId,
    pub counts: bool,
    pub hits: Arc<AtomicU64>,
    priority: u32,
    pattern: Test,
    /// The NIC lies about it.
    is_dead: bool,
    mark: Option<u32>,
    fate: Fate,
}

impl Entry {
    /// What no NIC can do.
    pub fn check(rule: &NicRule) -> Result<(), Refusal> {
        let of_family = |prefix: Option<crate::chain::value::Prefix>| {
            prefix.is_none_or(|p| matches!(p.net(), ipnet::IpNet::V6(_)) == rule.pattern.is_ipv6)
        };
        if of_family(rule.pattern.src) && of_family(rule.pattern.dst) {
            return Ok(());
        }
        Err(Refusal("an address is of the other family".to_owned()))
    }

    pub fn new(id: RuleId, rule: &NicRule, lie: Option<Lie>) -> Self {
        let mark = match lie {
            Some(Lie::Mark) => None,
            Some(Lie::Tag) => rule.mark.map(|mark| mark ^ 1),
            Some(Lie::Match) | None => rule.mark,
        };
        Self {
            id,
            counts: rule.count,
            hits: Arc::default(),
            priority: rule.priority,
            pattern: Test::of(&rule.pattern),
            is_dead: lie == Some(Lie::Match),
            mark,
            fate: rule.fate.clone(),
        }
    }
}

/// The rules, the key and the table at one time.
#[derive(Debug)]
pub(super) struct Tables {
    /// In the order in which they are looked at.
    pub entries: Vec<Entry>,
    key: Key,
    table: Vec<u16>,
    queues: u16,
}

/// The key of a hash.
#[derive(Debug)]
enum Key {
    /// That of the software, so that workers may use the hash.
    Symmetric,
    Other(Vec<u8>),
}

impl Tables {
    pub fn of(rules: &Rules, queues: u16) -> Self {
        let mut entries: Vec<Entry> =
            rules.entries.iter().filter(|e| !e.is_dead).cloned().collect();
        // What was installed first acts first, where priorities are equal.
        entries.sort_by_key(|entry| entry.priority);
        let is_symmetric =
            rules.key.chunks(SYMMETRIC_KEY.len()).all(|c| SYMMETRIC_KEY.starts_with(c));
        let key = if is_symmetric { Key::Symmetric } else { Key::Other(rules.key.clone()) };
        Self { entries, key, table: rules.table.clone(), queues: queues.max(1) }
    }

    pub fn decide(&self, frame: &[u8], wire_length: u32) -> Decision {
        match parse(frame, wire_length) {
            Ok(headers) => self.decide_parsed(&headers),
            // A NIC does not look further, and passes it on.
            Err(_) => Decision::to(0),
        }
    }

    /// As [`Tables::decide`]. Cost: a walk through the rules.
    pub fn decide_parsed(&self, h: &Headers) -> Decision {
        let hash = self.hash(h);
        let spread = self.spread(hash);
        let is_symmetric = matches!(self.key, Key::Symmetric);
        let plain = Decision { hash: hash.filter(|_| is_symmetric), ..Decision::to(spread) };
        // A fragment's ports are not there, or not in all of them: it meets no rule.
        if h.fragment != Fragment::Whole {
            return plain;
        }
        let Some(at) = self.entries.iter().position(|entry| entry.pattern.is_met_by(h)) else {
            return plain;
        };
        let Some(entry) = self.entries.get(at) else { return plain };
        let queue = match entry.fate {
            Fate::Drop => None,
            Fate::Queue(queue) => Some(queue % self.queues),
            Fate::Rss => Some(spread),
        };
        Decision { rule: Some(at), mark: entry.mark, queue, ..plain }
    }

    fn spread(&self, hash: Option<u32>) -> u16 {
        let Some(hash) = hash else { return 0 };
        let at = hash as usize % self.table.len().max(1);
        self.table.get(at).map_or(0, |queue| queue % self.queues)
    }

    /// Toeplitz over addresses, and ports where there are some: what is not IP has no hash.
    fn hash(&self, h: &Headers) -> Option<u32> {
        if !matches!(h.kind, L3::Ipv4 | L3::Ipv6) {
            return None;
        }
        let Key::Other(key) = &self.key else { return Some(flow_hash(h)) };
        let bytes = if h.kind == L3::Ipv4 { 4 } else { 16 };
        let has_ports = h.fragment == Fragment::Whole
            && matches!(h.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        let ports =
            if has_ports { [h.sport, h.dport].map(u16::to_be_bytes).concat() } else { Vec::new() };
        let ends = [&h.src.0, &h.dst.0].into_iter().flat_map(|address| address.iter().take(bytes));
        Some(toeplitz(key, ends.chain(&ports)))
    }
}

/// A bit of the input at a time, as the specification of RSS has it.
pub(super) fn toeplitz<'b>(key: &[u8], input: impl Iterator<Item = &'b u8>) -> u32 {
    let mut hash = 0;
    for (at, byte) in input.enumerate() {
        let of = |i: usize| u64::from(key.get(at + i).copied().unwrap_or_default());
        let window = (0..5).fold(0, |all, i| all << 8 | of(i));
        for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
            hash ^= (window >> (8 - bit)) as u32;
        }
    }
    hash
}

/// A pattern, made quick to compare with.
#[derive(Clone, Copy, Debug)]
struct Test {
    kind: L3,
    vlan: Option<u16>,
    /// Bits and their mask; IPv4 in the first 32 bits.
    src: (u128, u128),
    dst: (u128, u128),
    protocol: u8,
    sport: PortTest,
    dport: PortTest,
    flags: (u8, u8),
    icmp: Option<u8>,
}

/// A masked value, and a range.
#[derive(Clone, Copy, Debug)]
struct PortTest {
    value: u16,
    mask: u16,
    range: (u16, u16),
}

impl Test {
    fn of(pattern: &Pattern) -> Self {
        let bits = |prefix: Option<crate::chain::value::Prefix>| {
            let (address, length) = match prefix.map(|p| p.net()) {
                None => return (0, 0),
                Some(ipnet::IpNet::V4(net)) => {
                    (u128::from(net.addr().to_bits()) << 96, net.prefix_len())
                }
                Some(ipnet::IpNet::V6(net)) => (net.addr().to_bits(), net.prefix_len()),
            };
            (address, u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default())
        };
        let any = PortTest::of(PortItem::Any);
        let (icmp, icmp6) = (protocol::ICMP, protocol::ICMP6);
        let (protocol, sport, dport, flags, icmp) = match pattern.l4 {
            L4Item::Tcp { sport, dport, flags } => {
                (protocol::TCP, PortTest::of(sport), PortTest::of(dport), flags, None)
            }
            L4Item::Udp { sport, dport } => {
                (protocol::UDP, PortTest::of(sport), PortTest::of(dport), (0, 0), None)
            }
            L4Item::Sctp { sport, dport } => {
                (protocol::SCTP, PortTest::of(sport), PortTest::of(dport), (0, 0), None)
            }
            L4Item::Icmp { kind } => {
                (if pattern.is_ipv6 { icmp6 } else { icmp }, any, any, (0, 0), kind)
            }
        };
        Self {
            kind: if pattern.is_ipv6 { L3::Ipv6 } else { L3::Ipv4 },
            vlan: pattern.vlan.filter(|vlan| *vlan != NO_VLAN),
            src: bits(pattern.src),
            dst: bits(pattern.dst),
            protocol,
            sport,
            dport,
            flags,
            icmp,
        }
    }

    fn is_met_by(&self, h: &Headers) -> bool {
        let in_net = |(net, mask): (u128, u128), address: [u8; 16]| {
            u128::from_be_bytes(address) & mask == net & mask
        };
        let (mask, flags) = self.flags;
        self.protocol == h.protocol
            && self.kind == h.kind
            && in_net(self.dst, h.dst.0)
            && in_net(self.src, h.src.0)
            && self.dport.is_met_by(h.dport)
            && self.sport.is_met_by(h.sport)
            && h.tcp_flags.0 & mask == flags & mask
            && self.icmp.is_none_or(|kind| kind == h.icmp_type)
            && self.vlan.is_none_or(|vlan| vlan == h.vlan)
    }
}

impl PortTest {
    fn of(item: PortItem) -> Self {
        let any = Self { value: 0, mask: 0, range: (0, u16::MAX) };
        match item {
            PortItem::Any => any,
            PortItem::Masked { value, mask } => Self { value, mask, ..any },
            PortItem::Range(first, last) => Self { range: (first, last), ..any },
        }
    }

    fn is_met_by(self, port: u16) -> bool {
        let (first, last) = self.range;
        port & self.mask == self.value & self.mask && first <= port && port <= last
    }
}
