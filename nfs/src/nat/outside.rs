//! The ports of one outside address: a word each and protocol, in 128 blocks by class, and whose they are.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use nfv_core::flow::SHARDS;
use zerocopy::FromZeros;

use super::classes::PLACES;

/// The ports of one outside address. It outlives a reload that keeps the address.
#[derive(Debug)]
pub struct Outside {
    /// The address.
    pub address: Ipv4Addr,
    /// By protocol.
    spaces: [Space; 3],
    /// By range of ports, where subscribers have ranges: `[subscriber: 32][mappings: 32]`.
    shares: Box<[AtomicU64]>,
}

/// The words of a protocol, and what is known of its blocks.
#[derive(Debug)]
struct Space {
    words: Box<[AtomicU64]>,
    blocks: Box<[Block]>,
}

/// What is known of 512 places. Their words never become empty again, so a look for a mapping needs a bound.
#[derive(Debug, FromZeros)]
pub struct Block {
    /// 1 when mappings of its inside ends may be in the next address' block.
    pub spilled: AtomicU8,
    /// How many places from where it should be any mapping has been put.
    pub reach: AtomicU16,
}

impl Outside {
    /// Nobody's. `shares`: ranges of ports that are given to subscribers. `None`: there is no memory for it.
    pub fn new(address: Ipv4Addr, shares: usize) -> Option<Self> {
        let space = || {
            // Pages of it come as they are used.
            Some(Space {
                words: <[AtomicU64]>::new_box_zeroed_with_elems(65_536).ok()?,
                blocks: <[Block]>::new_box_zeroed_with_elems(usize::from(SHARDS)).ok()?,
            })
        };
        let shares = (0..shares).map(|_| AtomicU64::new(0)).collect();
        Some(Self { address, spaces: [space()?, space()?, space()?], shares })
    }

    /// The words of a class.
    #[inline]
    pub fn words(&self, space: usize, class: u16) -> Option<&[AtomicU64]> {
        let start = usize::from(class) * PLACES;
        self.spaces.get(space)?.words.get(start..start + PLACES)
    }

    /// A word, by class and place together.
    #[inline]
    pub fn word(&self, space: usize, at: u16) -> Option<&AtomicU64> {
        self.spaces.get(space)?.words.get(usize::from(at))
    }

    /// What is known of a class.
    #[inline]
    pub fn block(&self, space: usize, class: u16) -> Option<&Block> {
        self.spaces.get(space)?.blocks.get(usize::from(class))
    }

    /// Whether no flow holds any of its ports. Cost: a look at all of them.
    pub fn is_idle(&self, flows: u64) -> bool {
        let words = self.spaces.iter().flat_map(|space| space.words.iter());
        words.into_iter().all(|word| word.load(Ordering::Relaxed) & flows == 0)
    }

    /// How many ranges a subscriber has.
    pub fn shares_of(&self, subscriber: Ipv4Addr) -> usize {
        let own = |s: &&AtomicU64| owner(s.load(Ordering::Relaxed)) == Some(subscriber);
        self.shares.iter().filter(own).count()
    }

    /// How many ranges anybody has.
    pub fn shares_given(&self) -> usize {
        self.shares.iter().filter(|s| owner(s.load(Ordering::Relaxed)).is_some()).count()
    }

    /// One more mapping in a range that is the subscriber's already. Whether it is.
    pub fn join_share(&self, share: usize, subscriber: Ipv4Addr) -> bool {
        let Some(word) = self.shares.get(share) else { return false };
        loop {
            let seen = word.load(Ordering::Relaxed);
            if owner(seen) != Some(subscriber) {
                return false;
            }
            if swap(word, seen, seen + 1) {
                return true;
            }
        }
    }

    /// The first mapping of a subscriber in a range that was nobody's. Whether it was.
    pub fn take_share(&self, share: usize, subscriber: Ipv4Addr) -> bool {
        let to = u64::from(subscriber.to_bits()) << 32 | 1;
        self.shares.get(share).is_some_and(|word| swap(word, 0, to))
    }

    /// A mapping in a range has ended. Whose the range was, if it is nobody's now.
    pub fn leave_share(&self, share: usize) -> Option<Ipv4Addr> {
        let word = self.shares.get(share)?;
        loop {
            let seen = word.load(Ordering::Relaxed);
            let subscriber = owner(seen)?;
            let last = seen & MAPPINGS == 1;
            if swap(word, seen, if last { 0 } else { seen - 1 }) {
                return last.then_some(subscriber);
            }
        }
    }
}

/// Replaces a word by another, unless it has changed.
pub fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    step();
    word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn owner(share: u64) -> Option<Ipv4Addr> {
    (share & MAPPINGS != 0).then(|| Ipv4Addr::from_bits((share >> 32) as u32))
}

const MAPPINGS: u64 = 0xffff_ffff;

/// Where one worker may get ahead of another. Nothing, but in a test that wants them to.
#[inline(always)]
pub fn step() {
    #[cfg(test)]
    steps::step();
}

#[cfg(test)]
pub mod steps {
    use std::cell::Cell;

    thread_local! {
        static RANDOM: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on this thread lets others go first now and then.
    pub fn disturb(seed: u64) {
        RANDOM.set(seed | 1);
    }

    pub(super) fn step() {
        let mut x = RANDOM.get();
        if x != 0 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            RANDOM.set(x);
            if x.is_multiple_of(4) {
                std::thread::yield_now();
            }
        }
    }
}
