//! How many flows each source has: counted at a flow's first packet and given back at its end, or when its connection is
//! over, exactly, for all workers.
//!
//! ```text
//!   source -> hash -> one of 65,536 buckets of 16 words `[source: 32][half-open: 16][all: 16]`
//! ```
//!
//! A word is all that there is of a source, so one compare-and-swap counts a flow, and nobody waits. An IPv4 source is its
//! address. An IPv6 source is its /64, of which a host has all addresses; its word has 32 bits of a keyed hash, whose other
//! bits choose the bucket: two sources are taken for one once in 2^48. A bucket without room counts no further source:
//! whoever floods from a million forged addresses must not close the door to others, and the table of flows has a bound
//! of its own.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::section::Section;
use nfv_core::nf::{Handle, Named};
use nfv_core::packet::{Headers, L3};
use zerocopy::FromZeros;

/// The key `per-source` of a firewall.
pub const KEY: Key = Key {
    name: "per-source",
    shape: Shape::Record(&Table {
        what: "limits of a source",
        groups: &[&[
            Key {
                name: "connections",
                shape: COUNT,
                need: Need::Default("65535"),
                help: "most flows that a source may have, those half open among them",
            },
            Key {
                name: "half-open",
                shape: COUNT,
                need: Need::Default("65535"),
                help: "most flows of a source whose handshake is not over, or that were not answered",
            },
        ]],
    }),
    need: Need::Optional,
    help: "most flows that one source may have; with `stateful: true`",
};

const COUNT: Shape = Shape::Integer { min: 1, max: 65_535 };

/// Most flows of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    connections: u64,
    half_open: u64,
}

impl Limits {
    /// Those of a firewall, if it has any.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let record = section.record("per-source")?;
        let (connections, half_open) =
            (record.integer("connections")?, record.integer("half-open")?);
        Some(Self { connections, half_open })
    }
}

/// The counts of all sources.
#[derive(Debug)]
pub struct Sources {
    /// IPv4, then IPv6.
    words: [Box<[AtomicU64]>; 2],
    secret: RandomState,
    uncounted: AtomicU64,
}

/// Why a source may have no further flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has as many as it may have.
    Connections,
    /// As many of its flows are half open as may be.
    HalfOpen,
}

/// What a flow keeps: where it is counted, and as what. All 0: nowhere.
pub type Kept = [u32; 2];

/// The second word of [`Kept`].
const HALF_OPEN: u32 = 1;
const OPEN: u32 = 2;

impl Sources {
    /// Without any flow. `None`: there is no address space. 16 MiB, of which a page comes when it is used.
    pub fn new() -> Option<Self> {
        let words = || <[AtomicU64]>::new_box_zeroed_with_elems(BUCKETS * BUCKET).ok();
        let secret = RandomState::new();
        Some(Self { words: [words()?, words()?], secret, uncounted: AtomicU64::new(0) })
    }

    /// Counts a flow of the packet's source.
    ///
    /// # Errors
    /// The source has as many as it may have; nothing is counted then.
    /// # Cost
    /// Two lines of memory; 40 ns and a cache miss.
    pub fn begin(&self, headers: &Headers, limits: Limits) -> Result<Kept, Over> {
        let (family, source) = match headers.kind {
            L3::Ipv4 => (0, u64::from(u32::from_be_bytes(headers.src.v4()))),
            L3::Ipv6 => (1, headers.src.v6().first_chunk().map_or(0, |a| u64::from_be_bytes(*a))),
            L3::Arp | L3::Other => return Ok([0, 0]),
        };
        let hash = self.secret.hash_one((family, source));
        let first = hash as usize % BUCKETS * BUCKET;
        let key = if family == 0 { source } else { hash >> 32 };
        let Some(bucket) = self.words.get(family).and_then(|w| w.get(first..first + BUCKET)) else {
            return Ok([0, 0]);
        };
        for _ in 0..TRIES {
            let place = match place_of(bucket, key) {
                Place::Of(_, word) if all(word) >= limits.connections => {
                    return Err(Over::Connections);
                }
                Place::Of(_, word) if half_open(word) >= limits.half_open => {
                    return Err(Over::HalfOpen);
                }
                Place::Of(place, word) => swap(bucket, place, word, word + ONE_HALF_OPEN),
                Place::Free(place, word) => {
                    let place = swap(bucket, place, word, key << 32 | ONE_HALF_OPEN);
                    // Another worker may have begun to count the same source elsewhere in the bucket: one gives way.
                    let twice = place.filter(|place| is_twice(bucket, *place, key));
                    if let Some(word) = twice.and_then(|place| bucket.get(place)) {
                        take(word, ONE_HALF_OPEN);
                        continue;
                    }
                    place
                }
                Place::None => break,
            };
            if let Some(place) = place {
                let at = (first + place) << 1 | family;
                return Ok([at as u32 + 1, HALF_OPEN]);
            }
        }
        self.uncounted.fetch_add(1, Ordering::Relaxed);
        Ok([0, 0])
    }

    /// A flow's both ends have spoken.
    pub fn open(&self, kept: &mut Kept) {
        if let (Some(word), HALF_OPEN) = (self.word(*kept), kept[1]) {
            take(word, HALF);
            kept[1] = OPEN;
        }
    }

    /// A flow's connection is over: it counts no more, and its end takes nothing.
    pub fn close(&self, kept: &mut Kept) {
        self.end(*kept);
        *kept = [0, 0];
    }

    /// A flow has ended.
    pub fn end(&self, kept: Kept) {
        if let Some(word) = self.word(kept) {
            let back = if kept[1] == HALF_OPEN { ONE_HALF_OPEN } else { ONE };
            take(word, back);
        }
    }

    /// What an operator reads.
    pub fn handle(self: &Arc<Self>) -> Handle {
        let sources = self.clone();
        Handle {
            named: Named {
                name: "sources",
                help: "sources that have flows, their flows, those half open; flows without room to be counted",
            },
            read: Box::new(move || {
                let words = sources.words.iter().flatten().map(|w| w.load(Ordering::Relaxed));
                let (mut count, mut flows, mut half) = (0, 0, 0);
                for word in words.filter(|w| all(*w) > 0) {
                    (count, flows, half) = (count + 1, flows + all(word), half + half_open(word));
                }
                let uncounted = sources.uncounted.load(Ordering::Relaxed);
                format!("{count} sources, {flows} flows, {half} half open; {uncounted} not counted")
            }),
            write: None,
        }
    }

    fn word(&self, [number, _]: Kept) -> Option<&AtomicU64> {
        let at = number.checked_sub(1)? as usize;
        self.words.get(at & 1)?.get(at >> 1)
    }
}

/// Where a source is in its bucket.
enum Place {
    /// Here, with this word.
    Of(usize, u64),
    /// Nowhere; this place is free, with this word.
    Free(usize, u64),
    /// Nowhere, and there is no room.
    None,
}

fn place_of(bucket: &[AtomicU64], key: u64) -> Place {
    let mut free = Place::None;
    for (place, word) in bucket.iter().enumerate() {
        let word = word.load(Ordering::SeqCst);
        if all(word) == 0 {
            if matches!(free, Place::None) {
                free = Place::Free(place, word);
            }
        } else if word >> 32 == key {
            return Place::Of(place, word);
        }
    }
    free
}

fn is_twice(bucket: &[AtomicU64], own: usize, key: u64) -> bool {
    bucket.iter().enumerate().any(|(place, word)| {
        let word = word.load(Ordering::SeqCst);
        place != own && all(word) > 0 && word >> 32 == key
    })
}

fn swap(bucket: &[AtomicU64], place: usize, from: u64, to: u64) -> Option<usize> {
    let word = bucket.get(place)?;
    word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok().then_some(place)
}

/// Counts less; never less than nothing, whatever a flow brings from elsewhere.
fn take(word: &AtomicU64, count: u64) {
    let less = |word: u64| {
        (all(word) >= all(count) && half_open(word) >= half_open(count)).then(|| word - count)
    };
    let _ = word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, less);
}

fn all(word: u64) -> u64 {
    word & 0xffff
}

fn half_open(word: u64) -> u64 {
    word >> 16 & 0xffff
}

/// 8 MiB a family.
const BUCKETS: usize = 1 << 16;
/// Words, two cache lines of them.
const BUCKET: usize = 16;
/// Times that other workers may come between before a flow goes uncounted.
const TRIES: usize = 64;
const ONE: u64 = 1;
const HALF: u64 = 1 << 16;
const ONE_HALF_OPEN: u64 = HALF | ONE;

#[cfg(test)]
mod tests {
    use nfv_core::packet::AddressBytes;
    use proptest::prelude::*;
    use std::collections::HashMap;

    use super::*;

    const NO_LIMITS: Limits = Limits { connections: 65_535, half_open: 65_535 };

    fn from(source: u32) -> Headers {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&source.to_be_bytes());
        Headers { kind: L3::Ipv4, src: AddressBytes(bytes), ..Headers::default() }
    }

    fn from6(network: u64, host: u64) -> Headers {
        let bytes = (u128::from(network) << 64 | u128::from(host)).to_be_bytes();
        Headers { kind: L3::Ipv6, src: AddressBytes(bytes), ..Headers::default() }
    }

    fn counted(sources: &Sources) -> u64 {
        let words = sources.words.iter().flatten();
        words.map(|w| all(w.load(Ordering::Relaxed))).sum()
    }

    #[test]
    fn a_source_has_as_many_flows_as_it_may_have_and_others_theirs() {
        let sources = Sources::new().unwrap();
        let limits = Limits { connections: 3, half_open: 2 };
        let mut one = sources.begin(&from(7), limits).unwrap();
        let two = sources.begin(&from(7), limits).unwrap();
        assert_eq!(sources.begin(&from(7), limits), Err(Over::HalfOpen));
        assert!(sources.begin(&from(8), limits).is_ok(), "another source");
        sources.open(&mut one);
        sources.open(&mut one);
        let three = sources.begin(&from(7), limits).unwrap();
        assert_eq!(sources.begin(&from(7), limits), Err(Over::Connections));
        sources.end(one);
        assert_eq!(sources.begin(&from(7), limits), Err(Over::HalfOpen), "two and three are");
        sources.end(two);
        assert!(sources.begin(&from(7), limits).is_ok());
        sources.end(three);
        assert_eq!(counted(&sources), 2);
    }

    #[test]
    fn an_ipv6_source_is_its_network_and_no_ipv4_source() {
        let sources = Sources::new().unwrap();
        let limits = Limits { connections: 1, half_open: 1 };
        sources.begin(&from6(5, 1), limits).unwrap();
        assert_eq!(sources.begin(&from6(5, 2), limits), Err(Over::Connections));
        assert!(sources.begin(&from6(6, 1), limits).is_ok());
        assert!(sources.begin(&from(0), limits).is_ok());
        assert!(sources.begin(&from(5), limits).is_ok());
    }

    #[test]
    fn a_flood_from_everywhere_ends_with_flows_that_are_not_counted() {
        let sources = Sources::new().unwrap();
        let all: Vec<_> =
            (0..2_000_000).map(|i| sources.begin(&from(i), NO_LIMITS).unwrap()).collect();
        let counted_flows = all.iter().filter(|kept| kept[0] != 0).count();
        assert!((900_000..=1 << 20).contains(&counted_flows), "{counted_flows}");
        assert_eq!(sources.uncounted.load(Ordering::Relaxed), 2_000_000 - counted_flows as u64);
        all.into_iter().for_each(|kept| sources.end(kept));
        assert_eq!(counted(&sources), 0);
    }

    #[test]
    fn workers_that_count_the_same_sources_at_once_lose_and_win_nothing() {
        let sources = Arc::new(Sources::new().unwrap());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let sources = sources.clone();
                std::thread::spawn(move || {
                    for round in 0..200 {
                        let held: Vec<_> = (0..100)
                            .map(|i| sources.begin(&from(i % 10), NO_LIMITS).unwrap())
                            .collect();
                        for (i, mut kept) in held.into_iter().enumerate() {
                            if (i + round) % 2 == 0 {
                                sources.open(&mut kept);
                            }
                            sources.end(kept);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        let words = sources.words.iter().flatten().map(|w| w.load(Ordering::Relaxed));
        assert!(words.into_iter().all(|w| w & 0xffff_ffff == 0));
        assert_eq!(sources.uncounted.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_counts(steps in prop::collection::vec((0u8..4, 0u32..6), 1..200)) {
            let sources = Sources::new().unwrap();
            let limits = Limits { connections: 4, half_open: 2 };
            let mut model: HashMap<u32, Vec<Kept>> = HashMap::new();
            for (what, source) in steps {
                let held = model.entry(source).or_default();
                let half = held.iter().filter(|kept| kept[1] == HALF_OPEN).count();
                match what {
                    3 => {
                        if let Some(mut kept) = held.pop() {
                            sources.close(&mut kept);
                            sources.close(&mut kept);
                            sources.end(kept);
                        }
                    }
                    0 => match sources.begin(&from(source), limits) {
                        Ok(kept) => {
                            prop_assert!(held.len() < 4 && half < 2);
                            held.push(kept);
                        }
                        Err(Over::Connections) => prop_assert_eq!(held.len(), 4),
                        Err(Over::HalfOpen) => prop_assert_eq!(half, 2),
                    },
                    1 => held.first_mut().map_or((), |kept| sources.open(kept)),
                    _ => held.pop().map_or((), |kept| sources.end(kept)),
                }
            }
            prop_assert_eq!(counted(&sources), model.values().map(|h| h.len() as u64).sum::<u64>());
        }
    }
}
