//! The datagrams of which fragments have been seen: by key, and by age.
//!
//! Chains from an array of buckets, at least as many as datagrams, so that a lookup takes two or three lines; the hash
//! is keyed, so that nobody can aim long chains, and a chain that is long all the same loses a member.

use super::extent::Seen;
use super::pen::{Line, NONE, place};
use super::{Family, FragmentKey};
use crate::flow::key::Secret;

/// All datagrams.
#[derive(Debug)]
pub(super) struct Datagrams<C> {
    secret: Secret,
    /// First datagram of each chain; a power of two.
    buckets: Vec<u32>,
    entries: Vec<Datagram<C>>,
    /// First empty entry.
    free: u32,
    used: usize,
    /// By [`Queue`].
    ends: [Ends; 2],
}

/// What is known of a datagram.
#[derive(Debug)]
pub(super) struct Datagram<C> {
    key: FragmentKey,
    /// Where it stands.
    pub(super) state: State<C>,
    /// Since when.
    pub(super) since: u64,
    /// What of it has been seen, passed or held.
    pub(super) seen: Seen,
    /// Those that are held.
    pub(super) held: Line,
    /// Next of its chain, or next empty one.
    chained: u32,
    older: u32,
    newer: u32,
}

/// Where a datagram stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State<C> {
    /// The first fragment has not come.
    Waiting,
    /// It has.
    Known(C),
    /// None of it may pass any more.
    Poisoned,
}

/// Datagrams of one timeout, in order of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Queue {
    /// Those that wait for their first fragment.
    Waiting,
    /// The others.
    Settled,
}

/// First and last of a queue.
#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

impl<C> State<C> {
    /// Where such ones queue.
    #[inline]
    pub(super) fn queue(&self) -> Queue {
        if matches!(self, Self::Waiting) { Queue::Waiting } else { Queue::Settled }
    }
}

impl<C> Datagrams<C> {
    /// Room for so many, at least one.
    pub(super) fn new(datagrams_max: usize, secret: Secret) -> Self {
        let count = u32::try_from(datagrams_max).unwrap_or(NONE).clamp(1, DATAGRAMS_MAX);
        let empty = |i| Datagram {
            key: FragmentKey::default(),
            state: State::Poisoned,
            since: 0,
            seen: Seen::default(),
            held: Line::EMPTY,
            chained: if i + 1 < count { i + 1 } else { NONE },
            older: NONE,
            newer: NONE,
        };
        Self {
            secret,
            buckets: vec![NONE; place(count.next_power_of_two())],
            entries: (0..count).map(empty).collect(),
            free: 0,
            used: 0,
            ends: [Ends { oldest: NONE, newest: NONE }; 2],
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// One of them.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&Datagram<C>> {
        self.entries.get(place(number))
    }

    /// One of them, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Datagram<C>> {
        self.entries.get_mut(place(number))
    }

    /// Of a key, its chain.
    #[inline]
    pub(super) fn bucket(&self, key: &FragmentKey) -> usize {
        let Secret(secret) = self.secret;
        let most = u64::try_from(self.buckets.len().saturating_sub(1)).unwrap_or_default();
        usize::try_from(key.hash(secret) & most).unwrap_or_default()
    }

    /// The one of a key, in its chain.
    #[inline]
    pub(super) fn find(&self, bucket: usize, key: &FragmentKey) -> Option<u32> {
        self.chain(bucket).find(|(_, datagram)| datagram.key == *key).map(|(number, _)| number)
    }

    /// Who must go before one more can be put in a chain: the oldest when there is no room, else the last of a chain
    /// that is too long.
    pub(super) fn victim(&self, bucket: usize) -> Option<u32> {
        if self.free != NONE {
            return self.chain(bucket).nth(CHAIN_MAX - 1).map(|(number, _)| number);
        }
        let [waiting, settled] = self.ends.map(|ends| self.get(ends.oldest));
        match (waiting, settled) {
            (Some(w), Some(s)) if s.since < w.since => self.oldest(Queue::Settled),
            (None, _) => self.oldest(Queue::Settled),
            _ => self.oldest(Queue::Waiting),
        }
    }

    /// One more, that waits; `None` when there is no room.
    pub(super) fn insert(&mut self, bucket: usize, key: FragmentKey, now: u64) -> Option<u32> {
        let number = self.free;
        let head = self.buckets.get_mut(bucket)?;
        let datagram = self.entries.get_mut(place(number))?;
        self.free = datagram.chained;
        *datagram = Datagram {
            key,
            state: State::Waiting,
            since: now,
            seen: Seen::default(),
            held: Line::EMPTY,
            chained: *head,
            older: NONE,
            newer: NONE,
        };
        *head = number;
        self.used += 1;
        self.enqueue(number, Queue::Waiting);
        Some(number)
    }

    /// Takes one out that has nothing held.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(datagram) = self.get(number) else { return };
        let (queue, chained) = (datagram.state.queue(), datagram.chained);
        let bucket = self.bucket(&datagram.key);
        self.dequeue(number, queue);
        let before = self.chain(bucket).find(|(_, other)| other.chained == number);
        match before.map(|(before, _)| before).and_then(|before| self.get_mut(before)) {
            Some(before) => before.chained = chained,
            None => {
                if let Some(head) = self.buckets.get_mut(bucket) {
                    *head = chained;
                }
            }
        }
        let free = self.free;
        if let Some(datagram) = self.get_mut(number) {
            datagram.chained = free;
            self.free = number;
            self.used -= 1;
        }
    }

    /// Puts one in another state, from now on.
    pub(super) fn settle(&mut self, number: u32, state: State<C>, now: u64) {
        let Some(queue) = self.get(number).map(|datagram| datagram.state.queue()) else { return };
        self.dequeue(number, queue);
        let queue = state.queue();
        if let Some(datagram) = self.get_mut(number) {
            (datagram.state, datagram.since) = (state, now);
        }
        self.enqueue(number, queue);
    }

    /// The first of a queue.
    #[inline]
    pub(super) fn oldest(&self, queue: Queue) -> Option<u32> {
        let [waiting, settled] = &self.ends;
        let ends = if queue == Queue::Waiting { waiting } else { settled };
        (ends.oldest != NONE).then_some(ends.oldest)
    }

    fn chain(&self, bucket: usize) -> impl Iterator<Item = (u32, &Datagram<C>)> {
        let with = |number: u32| self.get(number).map(|datagram| (number, datagram));
        let first = self.buckets.get(bucket).copied().and_then(with);
        std::iter::successors(first, move |(_, datagram)| with(datagram.chained)).take(CHAIN_MAX)
    }

    fn ends_mut(&mut self, queue: Queue) -> &mut Ends {
        let [waiting, settled] = &mut self.ends;
        if queue == Queue::Waiting { waiting } else { settled }
    }

    fn enqueue(&mut self, number: u32, queue: Queue) {
        let ends = self.ends_mut(queue);
        let before = ends.newest;
        ends.newest = number;
        if before == NONE {
            ends.oldest = number;
        }
        if let Some(before) = self.get_mut(before) {
            before.newer = number;
        }
        if let Some(datagram) = self.get_mut(number) {
            (datagram.older, datagram.newer) = (before, NONE);
        }
    }

    fn dequeue(&mut self, number: u32, queue: Queue) {
        let Some((older, newer)) = self.get(number).map(|d| (d.older, d.newer)) else { return };
        match self.get_mut(older) {
            Some(older) => older.newer = newer,
            None => self.ends_mut(queue).oldest = newer,
        }
        match self.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.ends_mut(queue).newest = older,
        }
    }
}

impl FragmentKey {
    /// Folded multiplications with a secret, as wyhash has them.
    #[inline]
    fn hash(&self, [a, b]: [u64; 2]) -> u64 {
        let halves = |address| {
            let whole = u128::from_ne_bytes(address);
            ((whole >> 64) as u64, whole as u64)
        };
        let (s0, s1) = halves(self.src);
        let (d0, d1) = halves(self.dst);
        let ends = folded(s0 ^ a, s1 ^ b) ^ folded(d0 ^ b, d1 ^ a.rotate_left(32)).rotate_left(17);
        let [p0, p1] = self.place.to_be_bytes();
        let [v0, v1] = self.vlan.to_be_bytes();
        let family = u8::from(self.family == Family::Ipv6);
        let scope = u64::from_be_bytes([0, 0, v0, v1, p0, p1, self.protocol, family]);
        folded(folded(ends ^ u64::from(self.id), b ^ SPREAD) ^ scope, a ^ SPREAD)
    }
}

#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Members of a chain. With a hash as good as random, one in 10^13 is longer.
const CHAIN_MAX: usize = 16;

/// Datagrams at the very most.
const DATAGRAMS_MAX: u32 = 1 << 20;

/// Fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
impl<C> Datagrams<C> {
    /// Asserts that chains, queues and empty entries have each entry once.
    pub(super) fn assert_sound(&self) {
        let mut chained: Vec<u32> =
            (0..self.buckets.len()).flat_map(|b| self.chain(b).map(|(n, _)| n)).collect();
        let mut queued = Vec::new();
        for queue in [Queue::Waiting, Queue::Settled] {
            let mut next = self.oldest(queue);
            while let Some(number) = next {
                let datagram = self.get(number).unwrap();
                assert_eq!(datagram.state.queue(), queue);
                assert_eq!(self.find(self.bucket(&datagram.key), &datagram.key), Some(number));
                queued.push(number);
                next = (datagram.newer != NONE).then_some(datagram.newer);
            }
        }
        chained.sort_unstable();
        queued.sort_unstable();
        assert_eq!(chained, queued);
        assert_eq!(queued.len(), self.used);
        let mut empty = 0;
        let mut next = self.free;
        while next != NONE {
            empty += 1;
            next = self.entries[place(next)].chained;
        }
        assert_eq!(empty + self.used, self.entries.len());
    }
}
