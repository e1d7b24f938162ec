//! What mappings have in common over reloads: where classes have their ports, how many are in use, and a secret.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::super::classes::Classes;
use super::{FLOWS, FLOWS_MAX};

/// What outlives a reload.
#[derive(Debug)]
pub struct Lasting {
    /// Where each class has its ports.
    pub classes: Classes,
    tallies: Box<[Tally]>,
    secret: u64,
}

/// Mappings in use, of the classes with one remainder: a line of its own, so that workers seldom meet.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally {
    in_use: AtomicI64,
    /// Proposals made.
    proposals: AtomicU64,
}

impl Lasting {
    /// Nothing in use yet.
    pub fn new(secret: u64) -> Self {
        let tallies = (0..TALLIES).map(|_| Tally::default()).collect();
        Self { classes: Classes::new(), tallies, secret }
    }

    /// So many mappings of a class more.
    pub fn count(&self, class: u16, more: i64) {
        if let Some(tally) = self.tallies.get(usize::from(class) % TALLIES) {
            tally.in_use.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Mappings that flows hold.
    pub fn in_use(&self) -> u64 {
        let all = self.tallies.iter().map(|t| t.in_use.load(Ordering::Relaxed));
        u64::try_from(all.sum::<i64>()).unwrap_or_default()
    }

    /// What stands for the count in a proposal: another one each time.
    pub fn proposal(&self, class: u16) -> u64 {
        let tally = self.tallies.get(usize::from(class) % TALLIES);
        let number = tally.map_or(0, |t| t.proposals.fetch_add(1, Ordering::Relaxed));
        FLOWS_MAX + 1 + number % (FLOWS - FLOWS_MAX)
    }

    /// So that nobody outside knows which ports lie together.
    pub fn hash(&self, key: u64) -> u64 {
        let product = u128::from(key ^ self.secret) * u128::from(SPREAD);
        (product >> 64) as u64 ^ product as u64
    }
}

const TALLIES: usize = 64;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
