//! Mappings: which outside end stands for which inside end.
//!
//! ```text
//!   outside address -> class of the inside end -> 512 places -> `[inside address: 32][inside port: 16][flows: 16]`
//! ```
//!
//! A mapping's place follows from a hash of its inside end, by linear probing, so the table of ports is its own index: 8
//! bytes a port and nothing besides. All workers share it: a mapping must be the same for all flows of an inside end
//! (RFC 4787, REQ-1), whose flows fall into all shards. It is read and written at a flow's first packet and at its end
//! only, a word at a time. The one rejected: ports cut up by shard, which gives an inside end another mapping in each.
//!
//! Flows join and leave a mapping by one exchange of its word. Only a new mapping is made under a mark of the inside
//! end's first block, so that two workers never make two for one end; whoever finds the mark set for longer than that
//! takes gives up, so a worker that the kernel stopped holds up nobody.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU64, Ordering};

use nfv_core::flow::SHARDS;
use nfv_core::nf::Endpoint;
use nfv_core::packet::{AddressBytes, protocol};
use zerocopy::FromZeros;

use super::classes::{Classes, PLACES, class_of_end, wide};
use super::ranges::Ranges;

/// Which outside end stands for which inside end, of all protocols with ports.
#[derive(Debug)]
pub struct Mappings {
    pool: Ranges,
    /// First and last port.
    ports: (u16, u16),
    pooling: Pooling,
    classes: Classes,
    /// By protocol.
    spaces: [Space; 3],
    /// By protocol, a bit a port: those of all addresses that no inside end gets.
    reserved: [Vec<u64>; 3],
    tallies: Box<[Tally]>,
    secret: u64,
}

/// Which outside addresses an inside address may have (RFC 4787, REQ-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// One, whatever its port.
    Paired,
    /// Others too, when its first one has no port left.
    Arbitrary,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port, or ICMP identifier.
    pub port: u16,
}

impl End {
    /// As packets have it.
    pub fn of(address: AddressBytes, port: u16) -> Self {
        Self { address: Ipv4Addr::from(address.v4()), port }
    }

    /// As the engine writes it into packets.
    pub fn endpoint(self) -> Endpoint {
        Endpoint { address: wide(self.address), port: self.port }
    }
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

/// The words of a protocol, and what is known of its blocks: those of one address and class.
#[derive(Debug)]
struct Space {
    words: Box<[AtomicU64]>,
    blocks: Box<[Block]>,
}

/// What is known of 512 places. Their words never become empty again, so a look for a mapping needs a bound.
#[derive(Debug, FromZeros)]
struct Block {
    /// 1 while a worker makes a mapping of an inside end whose first block it is.
    mark: AtomicU8,
    /// 1 when mappings of its inside ends may be in the next address' block.
    spilled: AtomicU8,
    /// How many places from where it should be any mapping has been put.
    reach: AtomicU16,
}

/// Mappings in use, of the classes with one remainder: a line of its own, so that workers seldom meet.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally(AtomicI64);

/// What is looked for, and where it would be.
#[derive(Clone, Copy)]
struct Search {
    space: usize,
    class: u16,
    key: u64,
    /// The first address.
    home: u32,
    /// The first place.
    start: usize,
}

enum Found {
    Nowhere,
    Held(MappingId, End),
    /// As many flows have it as can be counted.
    Full,
}

impl Mappings {
    /// No mapping yet. `pool`: at most [`ADDRESSES_MAX`] addresses. `None`: there is no memory for it.
    pub fn new(pool: Ranges, ports: (u16, u16), pooling: Pooling) -> Option<Self> {
        let count = pool.len() as usize;
        let space = || {
            // Pages of it come as they are used.
            Some(Space {
                words: <[AtomicU64]>::new_box_zeroed_with_elems(count * 65_536).ok()?,
                blocks: <[Block]>::new_box_zeroed_with_elems(count * usize::from(SHARDS)).ok()?,
            })
        };
        let spaces = [space()?, space()?, space()?];
        let secret = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1) | 1;
        let tallies = (0..TALLIES).map(|_| Tally::default()).collect();
        let reserved = [(); 3].map(|()| vec![0; 65_536 / 64]);
        let classes = Classes::new();
        Some(Self { pool, ports, pooling, classes, spaces, reserved, tallies, secret })
    }

    /// Whether an address is one of the outside.
    #[inline]
    pub fn is_outside(&self, address: Ipv4Addr) -> bool {
        self.pool.has(address)
    }

    /// Whether there is no outside address.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// The outside end of an inside end, made when there is none, for one more flow. `None`: no port is left.
    ///
    /// Cost: one or two lines of memory, as long as the pool is not nearly full; 20 ns more for a new mapping.
    pub fn bind(&self, proto: u8, inside: End) -> Option<(MappingId, End)> {
        let search = self.search(proto, inside)?;
        let mut found = self.find(&search);
        let mut mark = None;
        if matches!(found, Found::Nowhere) {
            mark = Some(self.block(search.space, search.home, search.class)?.mark()?);
            // Another worker may have made it in between.
            found = self.find(&search);
        }
        let bound = match found {
            Found::Held(id, outside) => Some((id, outside)),
            Found::Nowhere => self.insert(&search),
            Found::Full => None,
        };
        drop(mark);
        bound
    }

    fn search(&self, proto: u8, inside: End) -> Option<Search> {
        let key = key_of(inside);
        let hash = self.hash(u64::from(inside.address.to_bits()));
        let home = (hash >> 32).wrapping_mul(u64::from(self.pool.len())) >> 32;
        Some(Search {
            space: space_of(proto)?,
            class: class_of_end(inside.address, inside.port),
            key,
            home: u32::try_from(home).ok()?,
            start: self.hash(key) as usize % PLACES,
        })
    }

    /// A mapping that there is, for one more flow.
    fn find(&self, search: &Search) -> Found {
        for number in self.numbers(search) {
            let (Some(block), Some(words), Some(outside)) = (
                self.block(search.space, number, search.class),
                self.words(search.space, number, search.class),
                self.pool.address(number),
            ) else {
                return Found::Nowhere;
            };
            for turn in 0..usize::from(block.reach.load(Ordering::Relaxed)) {
                let place = (search.start + turn) % PLACES;
                let Some(word) = words.get(place) else { continue };
                match self.join(word, search) {
                    Join::Another => {}
                    Join::Full => return Found::Full,
                    Join::Joined => {
                        let (id, outside) = self.held(search, number, place, outside);
                        return Found::Held(id, outside);
                    }
                }
            }
            if block.spilled.load(Ordering::Relaxed) == 0 {
                break;
            }
        }
        Found::Nowhere
    }

    fn join(&self, word: &AtomicU64, search: &Search) -> Join {
        loop {
            let seen = word.load(Ordering::Relaxed);
            if seen >> 16 != search.key || seen == 0 {
                return Join::Another;
            }
            if seen & FLOWS >= FLOWS_MAX {
                return Join::Full;
            }
            if swap(word, seen, seen + 1) {
                if seen & FLOWS == 0 {
                    self.count(search.class, 1);
                }
                return Join::Joined;
            }
        }
    }

    /// A new mapping, in the first place that is free.
    fn insert(&self, search: &Search) -> Option<(MappingId, End)> {
        for number in self.numbers(search) {
            let block = self.block(search.space, number, search.class)?;
            let words = self.words(search.space, number, search.class)?;
            let outside = self.pool.address(number)?;
            for turn in 0..PLACES {
                let place = (search.start + turn) % PLACES;
                let port = self.classes.port(outside, search.class, place);
                if port < self.ports.0
                    || port > self.ports.1
                    || self.is_reserved(search.space, port)
                {
                    continue;
                }
                let word = words.get(place)?;
                let seen = word.load(Ordering::Relaxed);
                if seen & FLOWS != 0 {
                    continue;
                }
                block.reach.fetch_max(turn as u16 + 1, Ordering::Relaxed);
                // Else another worker's mapping is there now.
                if swap(word, seen, search.key << 16 | 1) {
                    self.count(search.class, 1);
                    return Some(self.held(search, number, place, outside));
                }
            }
            block.spilled.store(1, Ordering::Relaxed);
        }
        None
    }

    fn held(
        &self,
        search: &Search,
        number: u32,
        place: usize,
        address: Ipv4Addr,
    ) -> (MappingId, End) {
        let at = start_of(number, search.class) + place;
        let port = self.classes.port(address, search.class, place);
        (id_of(search.space, at), End { address, port })
    }

    /// The inside end that an outside end stands for, for one more flow.
    pub fn hold(&self, proto: u8, outside: End) -> Option<(MappingId, End)> {
        let space = space_of(proto)?;
        let at = self.place_of(outside)?;
        let word = self.spaces.get(space)?.words.get(at)?;
        loop {
            let seen = word.load(Ordering::Relaxed);
            if !(1..FLOWS_MAX).contains(&(seen & FLOWS)) {
                return None;
            }
            if swap(word, seen, seen + 1) {
                return Some((id_of(space, at), inside_of(seen)));
            }
        }
    }

    /// What a mapping that a flow holds stands for: the outside and the inside end.
    pub fn held_by(&self, id: MappingId) -> Option<(End, End)> {
        let (word, at) = self.word(id)?;
        let address = self.pool.address(u32::try_from(at / 65_536).ok()?)?;
        let port = self.classes.port(address, class_at(at), at % PLACES);
        Some((End { address, port }, inside_of(word.load(Ordering::Relaxed))))
    }

    /// A flow that held a mapping has ended.
    pub fn release(&self, id: MappingId) {
        let Some((word, at)) = self.word(id) else { return };
        loop {
            let seen = word.load(Ordering::Relaxed);
            if !(1..=FLOWS_MAX).contains(&(seen & FLOWS)) {
                return;
            }
            if swap(word, seen, seen - 1) {
                if seen & FLOWS == 1 {
                    self.count(class_at(at), -1);
                }
                return;
            }
        }
    }

    /// Keeps an outside end from ever being given to an inside end; with the unspecified address, that port of all.
    pub fn reserve(&mut self, proto: u8, outside: End) {
        let Some(space) = space_of(proto) else { return };
        if outside.address.is_unspecified() {
            let bits = self.reserved.get_mut(space);
            if let Some(bits) = bits.and_then(|b| b.get_mut(usize::from(outside.port) / 64)) {
                *bits |= 1 << (outside.port % 64);
            }
        } else if let (Some(at), Some(space)) = (self.place_of(outside), self.spaces.get(space))
            && let Some(word) = space.words.get(at)
        {
            word.store(RESERVED, Ordering::Relaxed);
        }
    }

    fn is_reserved(&self, space: usize, port: u16) -> bool {
        let bits = self.reserved.get(space).and_then(|b| b.get(usize::from(port) / 64));
        bits.is_some_and(|bits| bits >> (port % 64) & 1 == 1)
    }

    /// Mappings that flows hold.
    pub fn in_use(&self) -> u64 {
        let sum: i64 = self.tallies.iter().map(|t| t.0.load(Ordering::Relaxed)).sum();
        u64::try_from(sum).unwrap_or_default()
    }

    fn count(&self, class: u16, more: i64) {
        if let Some(tally) = self.tallies.get(usize::from(class) % TALLIES) {
            tally.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The numbers of the addresses that may have a mapping, in order.
    fn numbers(&self, search: &Search) -> impl Iterator<Item = u32> + use<> {
        let count = self.pool.len();
        let turns = match self.pooling {
            Pooling::Paired => 1,
            Pooling::Arbitrary => count.min(ADDRESSES_TRIED),
        };
        let home = search.home;
        (0..turns).map(move |turn| (home + turn) % count.max(1))
    }

    fn block(&self, space: usize, number: u32, class: u16) -> Option<&Block> {
        let at = number as usize * usize::from(SHARDS) + usize::from(class);
        self.spaces.get(space)?.blocks.get(at)
    }

    fn words(&self, space: usize, number: u32, class: u16) -> Option<&[AtomicU64]> {
        let start = start_of(number, class);
        self.spaces.get(space)?.words.get(start..start + PLACES)
    }

    fn word(&self, MappingId(number): MappingId) -> Option<(&AtomicU64, usize)> {
        let space = (number as usize & 3).checked_sub(1)?;
        let at = (number >> 2) as usize;
        Some((self.spaces.get(space)?.words.get(at)?, at))
    }

    fn place_of(&self, outside: End) -> Option<usize> {
        let number = self.pool.number_of(outside.address)?;
        let (class, place) = self.classes.find(outside.address, outside.port);
        Some(start_of(number, class) + place)
    }

    /// So that nobody outside knows which ports lie together.
    fn hash(&self, key: u64) -> u64 {
        let product = u128::from(key ^ self.secret) * u128::from(SPREAD);
        (product >> 64) as u64 ^ product as u64
    }
}

enum Join {
    Joined,
    Another,
    Full,
}

impl Block {
    /// Sets the mark, until what is returned is gone. `None`: another worker has it for longer than it needs it.
    fn mark(&self) -> Option<Mark<'_>> {
        for _ in 0..MARK_TRIES {
            let free = self.mark.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed);
            if free.is_ok() {
                return Some(Mark(self));
            }
            std::hint::spin_loop();
        }
        None
    }
}

struct Mark<'b>(&'b Block);

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.mark.store(0, Ordering::Release);
    }
}

fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn start_of(number: u32, class: u16) -> usize {
    number as usize * 65_536 + usize::from(class) * PLACES
}

fn class_at(at: usize) -> u16 {
    (at % 65_536 / PLACES) as u16
}

fn id_of(space: usize, at: usize) -> MappingId {
    MappingId((at as u32) << 2 | (space as u32 + 1))
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
/// The most that hold one: behind it is [`RESERVED`]'s.
const FLOWS_MAX: u64 = FLOWS - 1;
/// The word of an outside end that no inside end gets.
const RESERVED: u64 = u64::MAX;
/// Outside addresses that are tried for an inside end where any will do, so that a pool that is used up costs no more.
const ADDRESSES_TRIED: u32 = 8;
/// Looks at a mark before giving up: some 100 us.
const MARK_TRIES: u32 = 10_000;
const TALLIES: usize = 64;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests;
