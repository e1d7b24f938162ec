//! The flows of a worker: entries, and an index by linear hashing, which grows by one bucket at a time.
//!
//! ```text
//!   key --hash--> bucket: 12 tags of 12 bits, 12 references        one line
//!                   reference = 4 bits of tag, 27 of entry, side
//!   entry: both tuples, action, time, links of the wheel           one line (IPv4): all that an established packet needs
//!          TCP's state, what the NFs keep                          another
//! ```
//!
//! Linear hashing (Litwin, 1980) splits the buckets in turn as flows come, so no packet waits for a rehash; entries never
//! move. All shards of a worker share one table, and a shard's flows are linked by its wheels: that keeps the index dense
//! and lets an answer whose tuple hashes to another shard find its flow. The one rejected: a table a shard, which costs
//! another dependent load a packet and hundreds of half-filled pages.

use zerocopy::FromZeros;

use super::entry::{Entry, FlowRef, Side, flag};
use super::key::{Address, FlowKey, Secret};
use crate::dpdk::{Ahead, BURST_MAX, ReserveError, Reserved, prefetch};
use crate::packet::protocol;

const _: () = assert!(size_of::<Bucket>() == 64);

#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// The lower part of each tag; 0 is free.
    tags: [u8; SLOTS],
    /// 1 + the place of the bucket that takes what does not fit here.
    more: u32,
    /// The upper part of a tag, and a reference.
    refs: [u32; SLOTS],
}

/// Where a bucket is: of the index, or (1 + its place) of those behind.
#[derive(Clone, Copy, Debug)]
enum Place {
    First(usize),
    More(u32),
}

const SLOTS: usize = 12;
/// References a bucket at which the next one is split: 75 %.
const FILL: usize = 9;
/// Bits of a reference; those above are of the tag.
const REF_BITS: u32 = 28;
/// Most flows of a table.
pub const FLOWS_MAX: u32 = (1 << (REF_BITS - 1)) - 2;
const FIRST_BUCKETS: usize = 64;

/// Why a flow is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// There is no room.
    Full,
    /// Another flow has one of its keys.
    Clash,
}

/// The flows of one family.
#[derive(Debug)]
pub struct Table<A> {
    entries: Reserved<Entry<A>>,
    buckets: Reserved<Bucket>,
    more: Reserved<Bucket>,
    secret: Secret,
    /// Buckets of the level that is being split, less 1.
    mask: usize,
    /// The next one to be split.
    split: usize,
    /// References in the index.
    references: usize,
    /// Flows.
    len: u32,
    /// Most of them.
    max: u32,
    /// The first free entry that was used, linked by `next`; 0 without one.
    free: u32,
    /// The first that was never used.
    fresh: u32,
    free_more: u32,
    fresh_more: u32,
}

impl<A: Address> Table<A> {
    /// A table for at most `max` flows, and at most [`FLOWS_MAX`].
    ///
    /// # Errors
    /// There is no address space for it.
    pub fn new(max: u32, secret: Secret) -> Result<Self, ReserveError> {
        let max = max.clamp(1, FLOWS_MAX);
        let buckets = 2 * max as usize / FILL + 2 * FIRST_BUCKETS;
        Ok(Self {
            entries: Reserved::new(max as usize + 1)?,
            buckets: Reserved::new(buckets)?,
            more: Reserved::new(buckets)?,
            secret,
            mask: FIRST_BUCKETS - 1,
            split: 0,
            references: 0,
            len: 0,
            max,
            free: 0,
            fresh: 1,
            free_more: 0,
            fresh_more: 0,
        })
    }

    /// For who makes its memory ready.
    pub fn ahead(&self) -> [Ahead; 3] {
        [self.entries.ahead(), self.buckets.ahead(), self.more.ahead()]
    }

    /// How many flows there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// A flow; `None` for a number that is none's.
    #[inline(always)]
    pub fn get(&self, entry: u32) -> Option<&Entry<A>> {
        self.entries.get(entry as usize)
    }

    /// A flow, to change; not its keys.
    #[inline(always)]
    pub fn get_mut(&mut self, entry: u32) -> Option<&mut Entry<A>> {
        self.entries.get_mut(entry as usize)
    }

    /// Behind the last entry that was ever used; the first one is 1.
    pub fn end(&self) -> u32 {
        self.fresh
    }

    /// For each key the flow that it is one of. All memory accesses of a stage are under way together.
    #[inline]
    pub fn look_up_burst(&self, keys: &[FlowKey<A>], found: &mut [FlowRef; BURST_MAX]) {
        let mut hashes = [0u64; BURST_MAX];
        for (key, hash) in keys.iter().zip(hashes.iter_mut()) {
            *hash = key.hash(self.secret);
            if let Some(bucket) = self.buckets.get(self.bucket_of(*hash)) {
                prefetch(bucket);
            }
        }
        for ((key, hash), found) in keys.iter().zip(&hashes).zip(found.iter_mut()) {
            *found = FlowRef::NONE;
            let Some(bucket) = self.buckets.get(self.bucket_of(*hash)) else { continue };
            let tag = Tag::of(*hash);
            let hits = matches(bucket, tag);
            if let Some(reference) = bucket.refs.get(hits.trailing_zeros() as usize) {
                // One in 16 of those that are another's is known by the rest of the tag later, in `find`.
                *found = tag.reference(*reference);
                if let Some(entry) = self.get(found.entry()) {
                    prefetch(entry);
                    if key.scope.protocol == protocol::TCP {
                        prefetch(&entry.track);
                    }
                }
            }
        }
        for ((key, hash), found) in keys.iter().zip(&hashes).zip(found.iter_mut()) {
            let is_it = found.is_some() && self.is(*found, key);
            if !is_it {
                *found = self.find(key, *hash);
            }
        }
    }

    /// The flow that a key is one of.
    #[inline]
    pub fn look_up(&self, key: &FlowKey<A>) -> FlowRef {
        self.find(key, key.hash(self.secret))
    }

    #[inline(always)]
    fn is(&self, found: FlowRef, key: &FlowKey<A>) -> bool {
        self.get(found.entry()).is_some_and(|e| e.key(found.side()) == *key)
    }

    fn find(&self, key: &FlowKey<A>, hash: u64) -> FlowRef {
        let mut next = self.buckets.get(self.bucket_of(hash));
        while let Some(bucket) = next {
            let tag = Tag::of(hash);
            let mut hits = matches(bucket, tag);
            while let Some(reference) = bucket.refs.get(hits.trailing_zeros() as usize) {
                let found = tag.reference(*reference);
                if found.is_some() && self.is(found, key) {
                    return found;
                }
                hits &= hits - 1;
            }
            next = self.behind(bucket);
        }
        FlowRef::NONE
    }

    fn behind(&self, bucket: &Bucket) -> Option<&Bucket> {
        self.more.get((bucket.more as usize).checked_sub(1)?)
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> usize {
        let hash = hash as usize;
        let bucket = hash & self.mask;
        if bucket < self.split { hash & (2 * self.mask + 1) } else { bucket }
    }

    /// Keeps a flow; returns its number.
    ///
    /// # Errors
    /// There is no room, or another flow has one of its keys. Nothing is changed then.
    ///
    /// # Cost
    /// Two lines of the index; every few calls one bucket is split, which reads its ten flows.
    pub fn insert(&mut self, flow: Entry<A>) -> Result<u32, NotKept> {
        match self.look_up(&flow.key(Side::First)).is_some() {
            true => Err(NotKept::Clash),
            false => self.insert_unknown(flow),
        }
    }

    /// The same for a flow whose first side's key has been looked up and is nobody's.
    ///
    /// # Errors
    /// Those of [`Table::insert`].
    pub fn insert_unknown(&mut self, mut flow: Entry<A>) -> Result<u32, NotKept> {
        if self.is_full() {
            return Err(NotKept::Full);
        }
        let (first, answer) = (flow.key(Side::First), flow.key(Side::Answer));
        let mirrored = first == answer;
        let of_first = first.hash(self.secret);
        let of_answer = if mirrored { of_first } else { answer.hash(self.secret) };
        if !mirrored && self.find(&answer, of_answer).is_some() {
            return Err(NotKept::Clash);
        }
        flow.flags |= flag::USED;
        let number = match self.free {
            0 => self.fresh,
            used => used,
        };
        if !self.put(of_first, FlowRef::of(number, Side::First)) {
            return Err(NotKept::Full);
        }
        if !mirrored && !self.put(of_answer, FlowRef::of(number, Side::Answer)) {
            self.take_out(of_first, FlowRef::of(number, Side::First));
            return Err(NotKept::Full);
        }
        if self.free == 0 {
            self.fresh += 1;
            self.entries.reach(self.fresh as usize);
        } else {
            self.free = self.get(number).map_or(0, |e| e.next);
        }
        if let Some(entry) = self.get_mut(number) {
            *entry = flow;
            (entry.next, entry.prev) = (0, 0);
        }
        self.len += 1;
        // Known only now: where the next flow goes was told by where this one went.
        self.prefetch_entry(self.next_free());
        if self.references > FILL * (self.mask + 1 + self.split) {
            self.split_next();
        }
        Ok(number)
    }

    /// Asks the CPU for what a lookup of a key reads.
    #[inline]
    pub fn prefetch_key(&self, key: &FlowKey<A>) {
        if let Some(bucket) = self.buckets.get(self.bucket_of(key.hash(self.secret))) {
            prefetch(bucket);
        }
    }

    /// Asks the CPU for a flow.
    #[inline]
    pub fn prefetch_entry(&self, number: u32) {
        if let Some(entry) = self.get(number) {
            prefetch(entry);
            prefetch(&entry.track);
        }
    }

    /// Where the next flow goes.
    #[inline]
    pub fn next_free(&self) -> u32 {
        if self.free == 0 { self.fresh } else { self.free }
    }

    /// Forgets a flow, which is on no wheel. Returns what it was.
    pub fn remove(&mut self, number: u32) -> Option<Entry<A>> {
        let entry = *self.get(number).filter(|e| e.is(flag::USED))?;
        self.take_out(entry.key(Side::First).hash(self.secret), FlowRef::of(number, Side::First));
        // Where the answers have the first side's tuple it is looked up once.
        if entry.key(Side::Answer) != entry.key(Side::First) {
            let hash = entry.key(Side::Answer).hash(self.secret);
            self.take_out(hash, FlowRef::of(number, Side::Answer));
        }
        let free = self.free;
        if let Some(entry) = self.get_mut(number) {
            entry.flags = 0;
            entry.next = free;
        }
        self.free = number;
        self.len -= 1;
        Some(entry)
    }

    /// Adds a reference. False: there is no room in any bucket.
    fn put(&mut self, hash: u64, reference: FlowRef) -> bool {
        let at = self.bucket_of(hash);
        let placed = self.put_into(at, Tag::of(hash), reference);
        self.references += usize::from(placed);
        placed
    }

    fn put_into(&mut self, at: usize, tag: Tag, reference: FlowRef) -> bool {
        let mut place = Some(Place::First(at));
        while let Some(bucket) = place.and_then(|p| self.bucket_mut(p)) {
            let mut slots = bucket.tags.iter_mut().zip(bucket.refs.iter_mut());
            if let Some((t, r)) = slots.find(|(t, _)| **t == 0) {
                (*t, *r) = (tag.low, tag.high | reference.0);
                return true;
            }
            let more = bucket.more;
            if more == 0 {
                let Some(taken) = self.take_more() else { return false };
                if let Some(bucket) = place.and_then(|p| self.bucket_mut(p)) {
                    bucket.more = taken;
                }
                place = Some(Place::More(taken));
            } else {
                place = Some(Place::More(more));
            }
        }
        false
    }

    #[inline]
    fn bucket_mut(&mut self, place: Place) -> Option<&mut Bucket> {
        match place {
            Place::First(at) => self.buckets.get_mut(at),
            Place::More(number) => self.more.get_mut((number as usize).checked_sub(1)?),
        }
    }

    /// A bucket for what does not fit where it belongs: one that was given back, else a new one.
    fn take_more(&mut self) -> Option<u32> {
        let taken = if self.free_more > 0 { self.free_more } else { self.fresh_more + 1 };
        let new = self.more.get_mut(taken as usize - 1)?;
        let next = std::mem::replace(new, Bucket::new_zeroed()).more;
        if self.free_more > 0 {
            self.free_more = next;
        } else {
            self.fresh_more += 1;
            self.more.reach(self.fresh_more as usize);
        }
        Some(taken)
    }

    fn take_out(&mut self, hash: u64, reference: FlowRef) {
        let mut place = Place::First(self.bucket_of(hash));
        let mut before = None;
        while let Some(bucket) = self.bucket_mut(place) {
            let mut slots = bucket.tags.iter_mut().zip(&bucket.refs);
            let found = slots.find(|(t, r)| **t != 0 && **r & REF_MASK == reference.0);
            let Some((tag, _)) = found else {
                let more = bucket.more;
                before = Some(place);
                place = Place::More(more);
                continue;
            };
            *tag = 0;
            let (is_empty, more) = (bucket.tags.iter().all(|t| *t == 0), bucket.more);
            self.references -= 1;
            // Without this all buckets would have one more after a while: each is over-full at some time.
            if let (true, Some(before), Place::More(number)) = (is_empty, before, place) {
                if let Some(bucket) = self.bucket_mut(before) {
                    bucket.more = more;
                }
                self.give_more(number);
            }
            return;
        }
    }

    /// Gives back a bucket of [`Table::take_more`].
    fn give_more(&mut self, number: u32) {
        let free = self.free_more;
        if let Some(bucket) = self.bucket_mut(Place::More(number)) {
            bucket.more = free;
            self.free_more = number;
        }
    }

    /// Splits one bucket: each reference stays, or goes to the new bucket, by one more bit of its hash.
    fn split_next(&mut self) {
        let (old, new) = (self.split, self.split + self.mask + 1);
        if new >= self.buckets.len() {
            return;
        }
        let Some(slot) = self.buckets.get_mut(old) else { return };
        let mut bucket = std::mem::replace(slot, Bucket::new_zeroed());
        self.buckets.reach(new);
        self.split += 1;
        if self.split > self.mask {
            (self.mask, self.split) = (2 * self.mask + 1, 0);
        }
        loop {
            for reference in bucket.refs {
                if let Some(entry) = self.get(FlowRef(reference & REF_MASK).entry()) {
                    prefetch(entry);
                }
            }
            for (low, word) in bucket.tags.into_iter().zip(bucket.refs).filter(|(t, _)| *t != 0) {
                let tag = Tag { low, high: word & !REF_MASK };
                let reference = FlowRef(word & REF_MASK);
                let Some(hash) =
                    self.get(reference.entry()).map(|e| e.key(reference.side()).hash(self.secret))
                else {
                    continue;
                };
                // There is room: what was in one chain of buckets is in two.
                self.put_into(self.bucket_of(hash), tag, reference);
            }
            let Some(at) = (bucket.more as usize).checked_sub(1) else { return };
            let given_back = bucket.more;
            let Some(behind) = self.more.get_mut(at) else { return };
            bucket = std::mem::replace(behind, Bucket::new_zeroed());
            behind.more = std::mem::replace(&mut self.free_more, given_back);
        }
    }
}

/// A bit for each slot that has the lower part of a tag.
#[inline(always)]
fn matches(bucket: &Bucket, tag: Tag) -> u32 {
    let mut hits = 0;
    for (i, t) in bucket.tags.iter().enumerate() {
        hits |= u32::from(*t == tag.low) << i;
    }
    hits
}

/// The part of a hash that a bucket has.
#[derive(Clone, Copy)]
struct Tag {
    /// Never 0.
    low: u8,
    /// In the bits above a reference's.
    high: u32,
}

impl Tag {
    #[inline(always)]
    fn of(hash: u64) -> Self {
        Self { low: ((hash >> 52) as u8).max(1), high: (hash >> 32) as u32 & !REF_MASK }
    }

    /// The reference in a slot's word; none, when the slot has another tag.
    #[inline(always)]
    fn reference(self, word: u32) -> FlowRef {
        if word & !REF_MASK == self.high { FlowRef(word & REF_MASK) } else { FlowRef::NONE }
    }
}

const REF_MASK: u32 = (1 << REF_BITS) - 1;

#[cfg(test)]
mod tests;
