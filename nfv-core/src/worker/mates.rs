//! Several workers: each shard is one worker's, and what another receives of it is handed over.
//!
//! ```text
//!   known here                  --> mine                                       costs nothing
//!   unknown, and steered        --> the owner of the shard that it is steered to   its flow's other end is another (a balancer's)
//!   unknown                     --> the owner of its shard                     at first shard % workers, as NICs spread them
//! ```
//!
//! With a NIC that spreads by the symmetric key nothing is handed over but the answers of flows whose other end was
//! replaced, and what is of shards that have moved; with one that spreads otherwise all is still right, only slower. The
//! packets of a flow that one queue receives are handed over in their order. How shards move: [`super::moves`].

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use zerocopy::FromZeros;

use super::Bell;
use crate::dpdk::{Ahead, Packet, ReserveError, Reserved};
use crate::flow::{SHARDS, Secret};
use crate::nf::PortIndex;
use crate::packet::Headers;

/// What the workers of a run share.
#[derive(Debug)]
pub struct Mates {
    /// By worker.
    inboxes: Box<[ArrayQueue<Handed>]>,
    steering: Option<Steering>,
    /// By worker.
    bells: Box<[Arc<Bell>]>,
    /// By shard. Read where a packet's flow is not known; written when a shard moves.
    owners: Box<[AtomicU16]>,
    /// The memory of the workers' tables, while these are there.
    growing: Mutex<Vec<Ahead>>,
}

/// A packet that another worker received.
#[derive(Debug)]
pub(super) struct Handed {
    pub packet: Packet,
    pub headers: Headers,
    /// The port that received it.
    pub port: PortIndex,
    pub why: Came,
}

/// How a packet came to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// From a port.
    ByPort,
    /// It is a fragment: all of its datagram meet here.
    AsFragment,
    /// Its flow is this worker's.
    ForItsFlow,
    /// The same, and none of those that are about to come.
    ToStay,
}

impl Mates {
    /// For so many workers, with at most `max` flows of all together.
    ///
    /// # Errors
    /// There is no address space for it.
    pub fn new(workers: u16, max: u32) -> Result<Self, ReserveError> {
        let several = workers > 1;
        let inbox = |_| ArrayQueue::new(INBOX_MAX);
        Ok(Self {
            inboxes: if several { (0..workers).map(inbox).collect() } else { Box::default() },
            bells: (0..workers).map(|_| Arc::default()).collect(),
            steering: several.then(|| Steering::new(max)).transpose()?,
            owners: (0..SHARDS).map(|shard| AtomicU16::new(shard % workers.max(1))).collect(),
            growing: Mutex::default(),
        })
    }

    /// Whether there is more than one.
    #[inline]
    pub(super) fn several(&self) -> bool {
        self.steering.is_some()
    }

    /// Notes tables whose memory is to be made ready.
    pub(super) fn add_growing(&self, tables: impl IntoIterator<Item = Ahead>) {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner).extend(tables);
    }

    /// Makes memory ready for what the workers' tables will need next: every few milliseconds, beside the workers.
    pub fn make_memory_ready(&self) {
        let mut growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        growing.retain_mut(Ahead::make_ready);
    }

    /// The worker that a shard belongs to.
    #[inline]
    pub fn owner(&self, shard: u8) -> u16 {
        self.owners.get(usize::from(shard)).map_or(0, |owner| owner.load(Ordering::Relaxed))
    }

    /// How many shards are a worker's.
    pub(super) fn shards_of(&self, worker: u16) -> u16 {
        let own = self.owners.iter().filter(|owner| owner.load(Ordering::Relaxed) == worker);
        own.count() as u16
    }

    /// Makes a worker the owner of a shard: from now on others hand its packets to that one. Workers that have taken up
    /// an order that was given after this know of it.
    pub fn give(&self, shard: u8, worker: u16) {
        if let Some(owner) = self.owners.get(usize::from(shard)) {
            owner.store(worker, Ordering::Relaxed);
        }
    }

    /// The shard that packets of a flow were steered to, by a hash of [`Mates::secret`].
    #[inline]
    pub(super) fn steered(&self, hash: u64) -> Option<u8> {
        self.steering.as_ref()?.get(hash)
    }

    /// By which hashes are made.
    pub(super) fn secret(&self) -> Option<Secret> {
        self.steering.as_ref().map(|s| s.secret)
    }

    /// Steers packets to a shard. False: they are steered already, or there is no room.
    pub(super) fn steer(&self, hash: u64, shard: u8) -> bool {
        self.steering.as_ref().is_none_or(|s| s.insert(hash, shard))
    }

    /// Steers them no more.
    pub(super) fn unsteer(&self, hash: u64, shard: u8) {
        if let Some(steering) = &self.steering {
            steering.remove(hash, shard);
        }
    }

    /// How many packets wait for a worker.
    pub(super) fn waiting(&self, worker: u16) -> usize {
        self.inboxes.get(usize::from(worker)).map_or(0, ArrayQueue::len)
    }

    /// What wakes a worker.
    pub(super) fn bell(&self, worker: u16) -> Arc<Bell> {
        self.bells.get(usize::from(worker)).cloned().unwrap_or_default()
    }

    /// Wakes a worker to which packets were handed.
    #[inline]
    pub(super) fn ring(&self, worker: u16) {
        if let Some(bell) = self.bells.get(usize::from(worker)) {
            bell.ring();
        }
    }

    /// Hands a packet over, before [`Mates::ring`]; it comes back when the other one has too many.
    #[inline]
    pub(super) fn hand(&self, worker: u16, handed: Handed) -> Result<(), Packet> {
        match self.inboxes.get(usize::from(worker)) {
            Some(inbox) => inbox.push(handed).map_err(|handed| handed.packet),
            None => Err(handed.packet),
        }
    }

    /// The next packet for a worker.
    #[inline]
    pub(super) fn next(&self, worker: u16) -> Option<Handed> {
        let inbox = self.inboxes.get(usize::from(worker))?;
        if inbox.is_empty() { None } else { inbox.pop() }
    }

    /// Frees what is under way between workers that have all ended; returns how many packets there were.
    pub fn empty(&self) -> u64 {
        let mut n = 0;
        for inbox in &self.inboxes {
            while let Some(handed) = inbox.pop() {
                handed.packet.free();
                n += 1;
            }
        }
        n
    }
}

/// Of which shard packets are that are not of their own: `[hash: 48][shard + 1: 16]`, in lines of eight, each hash in one
/// of two lines. It names shards and no workers, so that nothing in it changes when a shard moves.
#[derive(Debug)]
struct Steering {
    lines: Reserved<Line>,
    mask: usize,
    secret: Secret,
}

#[derive(Debug, FromZeros)]
#[repr(C, align(64))]
struct Line([AtomicU64; 8]);

impl Steering {
    fn new(max: u32) -> Result<Self, ReserveError> {
        let lines = (max as usize / 2).next_power_of_two().max(64);
        Ok(Self { lines: Reserved::new(lines)?, mask: lines - 1, secret: Secret::random() })
    }

    /// Both lines of a hash.
    #[inline]
    fn slots(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let other = hash.rotate_left(23).wrapping_mul(SPREAD) >> 20;
        let line = |h: u64| self.lines.get(h as usize & self.mask).map_or(&[][..], |l| &l.0);
        line(hash).iter().chain(line(other))
    }

    #[inline]
    fn get(&self, hash: u64) -> Option<u8> {
        let words = self.slots(hash).map(|slot| slot.load(Ordering::Relaxed));
        let word = words.into_iter().find(|word| is_of(*word, hash))?;
        u8::try_from((word & SHARD).checked_sub(1)?).ok()
    }

    fn insert(&self, hash: u64, shard: u8) -> bool {
        if self.get(hash).is_some() {
            return false;
        }
        let word = (hash & !SHARD) | (u64::from(shard) + 1);
        let take = |slot: &AtomicU64| {
            slot.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        self.slots(hash).any(take)
    }

    fn remove(&self, hash: u64, shard: u8) {
        let word = (hash & !SHARD) | (u64::from(shard) + 1);
        for slot in self.slots(hash) {
            if slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

#[inline]
fn is_of(word: u64, hash: u64) -> bool {
    word != 0 && (word ^ hash) & !SHARD == 0
}

const SHARD: u64 = 0xffff;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Packets under way to a worker; as many as a large receive ring has.
pub(super) const INBOX_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_steered_is_found_until_it_is_steered_no_more() {
        let mates = Mates::new(3, 100_000).unwrap();
        let hash = |i: u64| (i + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let all: Vec<u64> = (0..100_000).map(hash).collect();
        let steered = all.iter().enumerate().filter(|(i, h)| mates.steer(**h, (*i % 128) as u8));
        assert_eq!(steered.count(), all.len());
        assert!(!mates.steer(all[5], 1), "it is steered already");
        for (i, h) in all.iter().enumerate() {
            assert_eq!(mates.steered(*h), Some((i % 128) as u8));
        }
        all.iter().enumerate().for_each(|(i, h)| mates.unsteer(*h, (i % 128) as u8));
        assert!(all.iter().all(|h| mates.steered(*h).is_none()));
    }
}
