//! Mappings: which outside end stands for which inside end.
//!
//! ```text
//!   outside address -> class of the inside end -> 512 places -> `[inside address: 32][inside port: 16][flows: 16]`
//! ```
//!
//! A mapping's place follows from a hash of its inside end, by linear probing, so the table of ports is its own index: 8
//! bytes a port and nothing besides. All workers share it: a mapping must be the same for all flows of an inside end
//! (RFC 4787, REQ-1), whose flows fall into all shards. It is read and written at a flow's first packet and at its end
//! only, a word at a time, without a lock. The one rejected: ports cut up by shard, which gives an inside end another
//! mapping in each.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::chain::value::AddressRange;
use nfv_core::packet::protocol;
use zerocopy::FromZeros;

use super::classes::{Classes, PLACES, class_of_end};

/// Which outside end stands for which inside end, of all protocols with ports.
#[derive(Debug)]
pub struct Mappings {
    ranges: Vec<AddressRange>,
    /// Addresses before each range.
    starts: Vec<u32>,
    count: u32,
    /// First and last port.
    ports: (u16, u16),
    pooling: Pooling,
    classes: Classes,
    /// By protocol.
    spaces: [Box<[AtomicU64]>; 3],
    secret: u64,
}

/// Which outside addresses an inside address may have (RFC 4787, REQ-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// One, whatever its port.
    Paired,
    /// Any, when its first one has no port left.
    Arbitrary,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port, or ICMP identifier.
    pub port: u16,
}

/// A mapping, held by a flow: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingId(u32);

impl MappingId {
    /// As a flow keeps it.
    pub fn number(self) -> u32 {
        self.0
    }

    /// As it was kept; `None` for 0.
    pub fn of(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

/// Most outside addresses.
pub const ADDRESSES_MAX: u64 = 1 << 13;

impl Mappings {
    /// No mapping yet. `ranges`: disjoint, at most [`ADDRESSES_MAX`] addresses in all.
    pub fn new(ranges: Vec<AddressRange>, ports: (u16, u16), pooling: Pooling) -> Option<Self> {
        let mut starts = Vec::new();
        let mut count = 0;
        for range in &ranges {
            starts.push(count);
            count += u32::try_from(range.len()).ok()?;
        }
        let space = || {
            // Pages of it come as they are used.
            <[AtomicU64]>::new_box_zeroed_with_elems(count as usize * 65_536).ok()
        };
        let spaces = [space()?, space()?, space()?];
        let secret = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1) | 1;
        let classes = Classes::new();
        Some(Self { ranges, starts, count, ports, pooling, classes, spaces, secret })
    }

    /// Whether an address is one of the outside.
    #[inline]
    pub fn is_outside(&self, address: Ipv4Addr) -> bool {
        self.number_of(address).is_some()
    }

    /// The outside end of an inside end, made when there is none, for one more flow. `None`: no port is left.
    ///
    /// Cost: one line of memory, as long as the pool is not nearly full.
    pub fn bind(&self, proto: u8, inside: End) -> Option<(MappingId, End)> {
        let space = space_of(proto)?;
        let hash = self.hash(u64::from(inside.address.to_bits()));
        let first = u32::try_from((hash >> 32).wrapping_mul(u64::from(self.count)) >> 32).ok()?;
        let turns = match self.pooling {
            Pooling::Paired => 1,
            Pooling::Arbitrary => self.count,
        };
        (0..turns).find_map(|turn| self.bind_at(space, (first + turn) % self.count, inside))
    }

    fn bind_at(&self, space: usize, number: u32, inside: End) -> Option<(MappingId, End)> {
        let outside = self.address(number)?;
        let class = class_of_end(inside.address, inside.port);
        let start = self.hash(key_of(inside)) as usize % PLACES;
        let base = number as usize * 65_536 + usize::from(class) * PLACES;
        let block = self.spaces.get(space)?.get(base..base + PLACES)?;
        'again: loop {
            let mut free = None;
            for turn in 0..PLACES {
                let place = (start + turn) % PLACES;
                let slot = block.get(place)?;
                let port = self.classes.port(outside, class, place);
                if port < self.ports.0 || port > self.ports.1 {
                    continue;
                }
                let word = slot.load(Ordering::Relaxed);
                if word >> 16 == key_of(inside) && word != 0 {
                    if word & FLOWS == FLOWS {
                        return None;
                    }
                    if swap(slot, word, word + 1) {
                        return Some(self.held(space, base + place, outside, port));
                    }
                    continue 'again;
                }
                if word & FLOWS == 0 && free.is_none() {
                    free = Some((slot, word, place, port));
                }
                if word == 0 {
                    break;
                }
            }
            let (slot, word, place, port) = free?;
            if swap(slot, word, key_of(inside) << 16 | 1) {
                return Some(self.held(space, base + place, outside, port));
            }
        }
    }

    fn held(&self, space: usize, at: usize, address: Ipv4Addr, port: u16) -> (MappingId, End) {
        let number = (at as u32) << 2 | (space as u32 + 1);
        (MappingId(number), End { address, port })
    }

    /// The inside end that an outside end stands for, for one more flow.
    pub fn hold(&self, proto: u8, outside: End) -> Option<(MappingId, End)> {
        let space = space_of(proto)?;
        let at = self.place_of(outside)?;
        let slot = self.spaces.get(space)?.get(at)?;
        loop {
            let word = slot.load(Ordering::Relaxed);
            if word & FLOWS == 0 || word & FLOWS == FLOWS {
                return None;
            }
            if swap(slot, word, word + 1) {
                let (id, _) = self.held(space, at, outside.address, outside.port);
                return Some((id, inside_of(word)));
            }
        }
    }

    /// What a mapping that a flow holds stands for: the outside and the inside end.
    pub fn held_by(&self, id: MappingId) -> Option<(End, End)> {
        let (slot, at) = self.slot(id)?;
        let number = u32::try_from(at / 65_536).ok()?;
        let address = self.address(number)?;
        let (class, place) = ((at % 65_536 / PLACES) as u16, at % PLACES);
        let port = self.classes.port(address, class, place);
        Some((End { address, port }, inside_of(slot.load(Ordering::Relaxed))))
    }

    /// A flow that held a mapping has ended.
    pub fn release(&self, id: MappingId) {
        if let Some((slot, _)) = self.slot(id) {
            slot.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Mappings that flows hold; for the control side: it reads all ports.
    pub fn in_use(&self) -> usize {
        let used = |s: &&AtomicU64| s.load(Ordering::Relaxed) & FLOWS != 0;
        self.spaces.iter().flat_map(|space| space.iter()).filter(used).count()
    }

    fn slot(&self, MappingId(number): MappingId) -> Option<(&AtomicU64, usize)> {
        let space = (number as usize & 3).checked_sub(1)?;
        let at = (number >> 2) as usize;
        Some((self.spaces.get(space)?.get(at)?, at))
    }

    fn place_of(&self, outside: End) -> Option<usize> {
        let number = self.number_of(outside.address)?;
        let (class, place) = self.classes.find(outside.address, outside.port);
        Some(number as usize * 65_536 + usize::from(class) * PLACES + place)
    }

    #[inline]
    fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        let both = self.ranges.iter().zip(&self.starts);
        let inside = |r: &AddressRange| (r.first()..=r.last()).contains(&address);
        let (range, start) = both.into_iter().find(|(r, _)| inside(r))?;
        Some(start + (address.to_bits() - range.first().to_bits()))
    }

    fn address(&self, number: u32) -> Option<Ipv4Addr> {
        let both = self.ranges.iter().zip(&self.starts);
        let (range, start) = both.rev().find(|(_, start)| **start <= number)?;
        Some(Ipv4Addr::from_bits(range.first().to_bits() + (number - start)))
    }

    /// So that nobody outside knows which ports lie together.
    fn hash(&self, key: u64) -> u64 {
        let product = u128::from(key ^ self.secret) * u128::from(SPREAD);
        (product >> 64) as u64 ^ product as u64
    }
}

fn swap(slot: &AtomicU64, from: u64, to: u64) -> bool {
    slot.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn key_of(inside: End) -> u64 {
    u64::from(inside.address.to_bits()) << 16 | u64::from(inside.port)
}

fn inside_of(word: u64) -> End {
    End { address: Ipv4Addr::from_bits((word >> 32) as u32), port: (word >> 16) as u16 }
}

fn space_of(proto: u8) -> Option<usize> {
    match proto {
        protocol::TCP => Some(0),
        protocol::UDP => Some(1),
        protocol::ICMP => Some(2),
        _ => None,
    }
}

/// How many flows hold a mapping, in its word.
const FLOWS: u64 = 0xffff;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use nfv_core::chain::value::Scalar;
    use proptest::prelude::*;

    use super::*;

    fn mappings(ranges: &[&str], ports: (u16, u16), pooling: Pooling) -> Mappings {
        let ranges = ranges.iter().map(|r| AddressRange::parse(r).unwrap()).collect();
        Mappings::new(ranges, ports, pooling).unwrap()
    }

    fn inside(i: u32) -> End {
        End { address: Ipv4Addr::from_bits(0x0a00_0000 + i / 100), port: 1024 + (i % 100) as u16 }
    }

    #[test]
    fn an_inside_end_has_one_outside_end_of_its_class_until_its_last_flow_ends() {
        let m = mappings(&["203.0.113.1", "203.0.113.8-203.0.113.9"], (1024, 65_535), Pooling::Paired);
        let mut seen = HashMap::new();
        for i in 0..5_000 {
            let (id, outside) = m.bind(protocol::TCP, inside(i)).unwrap();
            assert!(outside.port >= 1024 && m.is_outside(outside.address));
            assert_eq!(
                class_of_end(outside.address, outside.port),
                class_of_end(inside(i).address, inside(i).port)
            );
            assert_eq!(seen.insert((outside.address, outside.port), i), None);
            assert_eq!(m.held_by(id), Some((outside, inside(i))));
            // A second flow, and one from outside.
            assert_eq!(m.bind(protocol::TCP, inside(i)), Some((id, outside)));
            assert_eq!(m.hold(protocol::TCP, outside), Some((id, inside(i))));
            assert_eq!(m.hold(protocol::UDP, outside), None);
            assert_eq!(MappingId::of(id.number()), Some(id));
            (0..2).for_each(|_| m.release(id));
        }
        assert_eq!(m.in_use(), 5_000);
        for (address, i) in &seen {
            let (id, _) = m.bind(protocol::TCP, inside(*i)).unwrap();
            (0..2).for_each(|_| m.release(id));
            assert_eq!(m.hold(protocol::TCP, End { address: address.0, port: address.1 }), None);
        }
        assert_eq!(m.in_use(), 0);
    }

    #[test]
    fn one_inside_address_has_one_outside_address_when_they_are_paired() {
        let m = mappings(&["203.0.113.0/28"], (1024, 65_535), Pooling::Paired);
        let of = |a: u32| {
            (1024..1100).map(move |port| End { address: Ipv4Addr::from_bits(a), port })
        };
        for a in 0..50 {
            let all: Vec<_> =
                of(a).map(|e| m.bind(protocol::UDP, e).unwrap().1.address).collect();
            assert!(all.iter().all(|x| *x == all[0]));
        }
    }

    #[test]
    fn a_pool_that_is_used_up_says_so_and_its_ports_come_back() {
        let m = mappings(&["203.0.113.1-203.0.113.2"], (60_000, 60_999), Pooling::Arbitrary);
        let all: Vec<_> = (0..40_000).filter_map(|i| m.bind(protocol::UDP, inside(i))).collect();
        // Each class has its part of the ports; all parts are used to the last.
        assert_eq!(all.len(), 2_000);
        all.iter().for_each(|(id, _)| m.release(*id));
        assert_eq!(m.in_use(), 0);
        let again = (40_000..80_000).filter_map(|i| m.bind(protocol::UDP, inside(i))).count();
        assert_eq!(again, 2_000);
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_counts(steps in prop::collection::vec((any::<bool>(), 0u32..60), 1..400)) {
            let m = mappings(&["192.0.2.1"], (1024, 65_535), Pooling::Paired);
            let mut model: HashMap<u32, Vec<MappingId>> = HashMap::new();
            for (add, i) in steps {
                let held = model.entry(i).or_default();
                if add {
                    let (id, _) = m.bind(protocol::ICMP, inside(i)).unwrap();
                    prop_assert!(held.first().is_none_or(|first| *first == id));
                    held.push(id);
                } else if let Some(id) = held.pop() {
                    m.release(id);
                }
            }
            prop_assert_eq!(m.in_use(), model.values().filter(|held| !held.is_empty()).count());
        }
    }
}
