//! What is counted and remembered over flows, by all workers: thresholds and bits of hosts.
//!
//! One table of sets of places: a key is kept in one of the eight places of its set, in that of another whose time is up, or in
//! the place of the one whose time is up next. So it never grows, costs the same however full it is, and forgets first what would
//! be forgotten first. Keys are digests with a secret: nobody can aim at a set. A set's lock is held for nanoseconds, and taken by
//! packets that match a rule with such a keyword, and by no others.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use nfv_core::clock::Time;

/// What is counted and remembered over flows, of all workers: thresholds, and bits of hosts. It outlives a ruleset.
#[derive(Debug)]
pub struct Memory {
    secrets: [RandomState; 2],
    sets: Box<[Mutex<[Place; WAYS]>]>,
}

/// What is remembered under a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// When counting began.
    pub since: Time,
    /// Until when it counts.
    pub until: Time,
    /// How many.
    pub count: u32,
    /// What is done at how many; of its owner's meaning.
    pub next: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// 0: nothing is here.
    key: [u64; 2],
    entry: Entry,
}

/// What something is remembered under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A bit of a host, or of two.
    Bit(u64, IpAddr, Option<IpAddr>),
    /// A count of a rule: its group, number and revision, and whose.
    Count([u32; 3], Option<IpAddr>, Option<IpAddr>),
    /// A port that a count of a rule has seen since a time.
    Port([u32; 3], Option<IpAddr>, Option<IpAddr>, u16, u64),
    /// What is logged of a host because of a rule.
    Tag(IpAddr),
}

impl Key {
    /// A bit of a host, or of two, the lesser first.
    pub fn bit(bit: u64, one: IpAddr, other: Option<IpAddr>) -> Self {
        Self::Bit(bit, one, other)
    }
}

impl Memory {
    /// That takes at most so many bytes, and at least [`MEMORY_MIN`].
    pub fn new(bytes: usize) -> Self {
        let sets = bytes.max(MEMORY_MIN) / size_of::<Mutex<[Place; WAYS]>>();
        Self {
            secrets: [RandomState::new(), RandomState::new()],
            sets: (0..sets.max(1)).map(|_| Mutex::new([Place::default(); WAYS])).collect(),
        }
    }

    /// Whether a bit is set.
    pub(super) fn is_set(&self, key: Key, now: Time) -> bool {
        self.find(key, |entry| entry.until >= now).unwrap_or(false)
    }

    /// Sets a bit until a time.
    pub(super) fn set(&self, key: Key, now: Time, until: Time) {
        self.with(key, now, |entry, _| entry.until = until);
    }

    /// Takes a bit away.
    pub(super) fn unset(&self, key: Key) {
        let digest = self.digest(key);
        let mut set = self.set_of(digest);
        if let Some(place) = set.iter_mut().find(|place| place.key == digest) {
            *place = Place::default();
        }
    }

    /// What is remembered under a key, if something is.
    pub(super) fn find<R>(&self, key: Key, use_it: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let digest = self.digest(key);
        let mut set = self.set_of(digest);
        set.iter_mut().find(|place| place.key == digest).map(|place| use_it(&mut place.entry))
    }

    /// What is remembered under a key, and whether that is new.
    pub(super) fn with<R>(
        &self,
        key: Key,
        now: Time,
        use_it: impl FnOnce(&mut Entry, Age) -> R,
    ) -> R {
        let digest = self.digest(key);
        let mut set = self.set_of(digest);
        if let Some(place) = set.iter_mut().find(|place| place.key == digest) {
            return use_it(&mut place.entry, Age::Known);
        }
        let next_to_go = |place: &&mut Place| match place.key {
            [0, 0] => (0, Time(0)),
            _ if place.entry.until < now => (1, place.entry.until),
            _ => (2, place.entry.until),
        };
        let entry = Entry { since: now, ..Entry::default() };
        match set.iter_mut().min_by_key(next_to_go) {
            Some(place) => {
                *place = Place { key: digest, entry };
                use_it(&mut place.entry, Age::New)
            }
            None => use_it(&mut { entry }, Age::New),
        }
    }

    fn digest(&self, key: Key) -> [u64; 2] {
        let [one, other] = &self.secrets;
        [one.hash_one(key), other.hash_one(key).max(1)]
    }

    fn set_of(&self, [digest, _]: [u64; 2]) -> std::sync::MutexGuard<'_, [Place; WAYS]> {
        let count = self.sets.len() as u128;
        let place = usize::try_from((u128::from(digest) * count) >> 64).unwrap_or(0);
        // The place is below the count: a fraction of it.
        let set = &self.sets[place];
        // A panic elsewhere leaves a set as whole as before.
        set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether something was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It was not.
    New,
    /// It was.
    Known,
}

/// Places of a set.
const WAYS: usize = 8;

/// Least bytes of a memory.
pub const MEMORY_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::Count([1, number, 0], None, None)
    }

    #[test]
    fn a_bit_is_set_until_its_time_is_up_or_it_is_taken_away() {
        let memory = Memory::new(0);
        let bit = Key::bit(7, IpAddr::from([10, 0, 0, 1]), None);
        let other = Key::bit(7, IpAddr::from([10, 0, 0, 2]), None);
        memory.set(bit, Time(10), Time(20));
        assert!(memory.is_set(bit, Time(20)) && !memory.is_set(other, Time(20)));
        assert!(!memory.is_set(bit, Time(21)));
        memory.set(bit, Time(10), Time(u64::MAX));
        assert!(memory.is_set(bit, Time(1 << 60)));
        memory.unset(bit);
        assert!(!memory.is_set(bit, Time(10)));
    }

    #[test]
    fn what_does_not_end_soon_outlives_a_flood() {
        let memory = Memory::new(0);
        let places = u32::try_from(MEMORY_MIN / size_of::<Place>()).unwrap();
        for number in 0..4 {
            memory.with(key(number), Time(0), |entry, _| entry.until = Time(u64::MAX));
        }
        for number in 100..100 + 20 * places {
            memory.with(key(number), Time(5), |entry, _| entry.until = Time(100));
        }
        let is_kept = |number: &u32| memory.find(key(*number), |_| ()).is_some();
        assert_eq!((0..4).filter(is_kept).count(), 4);
        assert!((100..100 + 20 * places).filter(is_kept).count() <= places as usize);
    }

    #[test]
    fn a_count_goes_on_where_it_was() {
        let memory = Memory::new(0);
        let count = |age| {
            memory.with(key(1), Time(3), |entry, was| {
                assert_eq!(was, age);
                entry.count += 1;
                (entry.count, entry.since)
            })
        };
        assert_eq!(count(Age::New), (1, Time(3)));
        assert_eq!(count(Age::Known), (2, Time(3)));
    }
}
