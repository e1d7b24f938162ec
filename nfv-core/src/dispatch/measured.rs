//! How a NIC spreads packets whose key or table cannot be read: found from packets that came.
//!
//! Two flows, or the two directions of one, that have the lowest bits of the symmetric hash in common come by one queue if
//! the NIC spreads by it, whatever its table; if it spreads by another hash, they do by chance only.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::packet::{Headers, flow_hash};

/// What packets have shown. Shared by the workers; each adds few.
#[derive(Debug)]
pub struct Measured {
    /// By the lowest bits of the symmetric hash: the queue of the last packet that had them, and which flow it was of, from
    /// that end. 0: none came.
    entries: Box<[AtomicU64]>,
    /// Packets looked at.
    seen: AtomicU32,
    /// Packets that had what another flow's had.
    pairs: AtomicU32,
    /// Of these, such that came by another queue, and packets with another hash than the symmetric one.
    others: AtomicU32,
}

/// What is known by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Too few packets came.
    Nothing,
    /// It spreads by the symmetric hash; by its lowest bits, the queue, where packets had them.
    Symmetric(Vec<Option<u16>>),
    /// It spreads by something else: the two directions of a flow may come by different queues.
    Otherwise,
}

impl Measured {
    /// Nothing yet; `entries`: as many as the device's table has, or 128 where that is not known.
    pub fn new(entries: u16) -> Self {
        let entries = (0..entries.max(1)).map(|_| AtomicU64::new(0)).collect();
        let zero = || AtomicU32::new(0);
        Self { entries, seen: zero(), pairs: zero(), others: zero() }
    }

    /// Whether more packets would tell more.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.pairs.load(Ordering::Relaxed) < PLENTY
    }

    /// Whether every packet should be looked at, not one of each burst: where few packets came they may all have come in
    /// a few bursts.
    pub fn is_new(&self) -> bool {
        self.seen.load(Ordering::Relaxed) < PLENTY
    }

    /// A packet came by a queue, with a hash if the NIC gave one. Fragments and what is not IP say nothing.
    pub fn add(&self, headers: &Headers, hash: Option<u32>, queue: u16) {
        let own = flow_hash(headers);
        let count = self.entries.len().max(1);
        let entry = self.entries.get(own as usize % count).filter(|_| own != 0);
        let Some(entry) = entry else { return };
        let ends = (headers.src.0, headers.dst.0, headers.sport, headers.dport);
        let flow = BuildHasherDefault::<DefaultHasher>::default().hash_one(ends) | 1;
        let word = flow << QUEUE_BITS | u64::from(queue);
        self.seen.fetch_add(1, Ordering::Relaxed);
        let before = entry.swap(word, Ordering::Relaxed);
        let is_other_hash = hash.is_some_and(|hash| hash != own);
        if before != 0 && before >> QUEUE_BITS != word >> QUEUE_BITS || is_other_hash {
            let is_other = is_other_hash || before as u16 != queue;
            self.others.fetch_add(u32::from(is_other), Ordering::Relaxed);
            self.pairs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is known by now.
    pub fn found(&self) -> Found {
        let pairs = self.pairs.load(Ordering::Relaxed);
        if pairs < ENOUGH {
            return Found::Nothing;
        }
        // A few come by another queue: a flow had been moved, or its hash is of addresses alone.
        if self.others.load(Ordering::Relaxed) * 20 > pairs {
            return Found::Otherwise;
        }
        let queue = |entry: &AtomicU64| {
            let word = entry.load(Ordering::Relaxed);
            (word != 0).then_some(word as u16)
        };
        Found::Symmetric(self.entries.iter().map(queue).collect())
    }
}

impl Found {
    /// In words, behind "measured".
    pub fn words(&self) -> String {
        match self {
            Self::Nothing => "too few flows came yet".to_owned(),
            Self::Symmetric(entries) => {
                let (seen, all) = (entries.iter().flatten().count(), entries.len());
                format!("by the symmetric hash, {seen} of {all} parts of it seen")
            }
            Self::Otherwise => {
                "by another hash: what comes to another worker than its flow's is handed over"
                    .to_owned()
            }
        }
    }
}

/// Of a word, those that are a queue.
const QUEUE_BITS: u32 = 16;
/// So many pairs are by chance all of one queue in one of 65,000 cases, with two queues.
const ENOUGH: u32 = 16;
/// More say nothing new.
const PLENTY: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{AddressBytes, Fragment, L3, protocol};

    fn headers(n: u16, reply: bool) -> Headers {
        let address = |last: u8| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[10, 0, 0, last]);
            AddressBytes(bytes)
        };
        let (a, b) = ((address(1), 1000 + n), (address(2), 80));
        let ((src, sport), (dst, dport)) = if reply { (b, a) } else { (a, b) };
        Headers {
            kind: L3::Ipv4,
            protocol: protocol::UDP,
            fragment: Fragment::Whole,
            src,
            dst,
            sport,
            dport,
            ..Headers::default()
        }
    }

    fn measure(queue: impl Fn(&Headers, bool) -> u16) -> Found {
        let measured = Measured::new(128);
        for n in 0..400 {
            for reply in [false, true] {
                let headers = headers(n, reply);
                measured.add(&headers, None, queue(&headers, reply));
            }
        }
        measured.found()
    }

    #[test]
    fn a_nic_with_the_symmetric_hash_shows_its_table() {
        let Found::Symmetric(table) = measure(|h, _| (flow_hash(h) % 128 / 3 % 2) as u16) else {
            panic!("it is symmetric");
        };
        assert!((0u16..).zip(&table).all(|(entry, q)| q.is_none_or(|q| q == entry / 3 % 2)));
        assert!(table.iter().flatten().count() > 50);
    }

    #[test]
    fn one_with_another_hash_and_one_of_which_little_is_known_say_so() {
        assert_eq!(measure(|h, _| h.sport % 2), Found::Otherwise);
        assert_eq!(
            measure(|h, reply| (flow_hash(h) % 2) as u16 ^ u16::from(reply)),
            Found::Otherwise
        );
        assert_eq!(Measured::new(128).found(), Found::Nothing);
        let told = Measured::new(128);
        (0..100).for_each(|n| told.add(&headers(n, false), Some(7), 0));
        assert_eq!(told.found(), Found::Otherwise, "the NIC's own hash says it at once");
    }

    #[test]
    fn of_few_flows_nothing_is_known_however_many_packets_they_have() {
        let measured = Measured::new(128);
        for packet in 0..10_000 {
            measured.add(&headers(packet % 4, false), None, packet % 2);
        }
        assert_eq!(measured.found(), Found::Nothing);
        assert!(measured.is_wanted());
    }
}
