//! What a NIC does with a frame: the rule that it meets, else its hash and its table.
//!
//! Rules are walked one after another, in their order: nothing of how software classifies is used here, so that both can
//! be held against each other. Who has many frames keeps what was decided (`NicSide`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::side::Decision;
use super::{Lie, LiedTo, Rules};
use crate::dpdk::SYMMETRIC_KEY;
use crate::offload::compare::Test;
use crate::offload::facts::WithoutVlan;
use crate::offload::rule::{Fate, NicRule, Refusal, RuleId};
use crate::packet::{Fragment, Headers, L3, flow_hash, parse, protocol};

/// A rule that is installed.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub id: RuleId,
    pub counts: bool,
    pub hits: Arc<AtomicU64>,
    priority: u32,
    pattern: Test,
    mark: Option<u32>,
    fate: Fate,
    /// The queues over which it spreads packets; empty: as the table has it.
    pub list: Vec<u16>,
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

    pub fn new(id: RuleId, rule: &NicRule, without_vlan: WithoutVlan, list: Vec<u16>) -> Self {
        Self {
            id,
            counts: rule.count,
            hits: Arc::default(),
            priority: rule.priority,
            pattern: Test::of(&rule.pattern, without_vlan),
            mark: rule.mark,
            fate: rule.fate.clone(),
            list,
        }
    }
}

impl Entry {
    /// Does what the rule says with the packets that it had.
    pub fn change(&mut self, rule: &NicRule) {
        (self.mark, self.fate) = (rule.mark, rule.fate.clone());
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

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// It is shown.
    Probe,
    Wire,
}

/// The key of a hash.
#[derive(Debug)]
enum Key {
    /// That of the software, so that workers may use the hash.
    Symmetric,
    Other(Vec<u8>),
}

impl Entry {
    /// As a NIC that lies carries it out; `None`: not at all.
    fn with(mut self, lie: Option<Lie>) -> Option<Self> {
        self.mark = match lie {
            Some(Lie::Match) => return None,
            Some(Lie::Mark) => None,
            Some(Lie::Tag) => self.mark.map(|mark| mark ^ 1),
            None => self.mark,
        };
        Some(self)
    }
}

impl Tables {
    /// For frames that come from there.
    pub fn of(rules: &Rules, queues: u16, from: From) -> Self {
        let lies =
            |(lie, to): (Lie, LiedTo)| (to == LiedTo::All || from == From::Wire).then_some(lie);
        let lie = rules.lie.and_then(lies);
        let all = rules.entries.iter().cloned();
        let mut entries: Vec<Entry> = all.filter_map(|entry| entry.with(lie)).collect();
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

    /// As if there were no rules.
    pub fn spread_only(&self, h: &Headers) -> Decision {
        let hash = self.hash(h);
        let is_symmetric = matches!(self.key, Key::Symmetric);
        Decision { hash: hash.filter(|_| is_symmetric), ..Decision::to(self.spread(hash)) }
    }

    /// As [`Tables::decide`]. Cost: a walk through the rules.
    pub fn decide_parsed(&self, h: &Headers) -> Decision {
        let plain = self.spread_only(h);
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
            Fate::Rss if entry.list.is_empty() => plain.queue,
            Fate::Rss => Some(self.spread_by(&entry.list, self.hash(h))),
        };
        Decision { rule: Some(at), mark: entry.mark, queue, ..plain }
    }

    fn spread(&self, hash: Option<u32>) -> u16 {
        self.spread_by(&self.table, hash)
    }

    fn spread_by(&self, list: &[u16], hash: Option<u32>) -> u16 {
        let Some(hash) = hash else { return 0 };
        let at = hash as usize % list.len().max(1);
        list.get(at).map_or(0, |queue| queue % self.queues)
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
