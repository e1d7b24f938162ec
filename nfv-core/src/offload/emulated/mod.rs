//! An emulated NIC: it takes rules as a NIC of some kind would, and does with each frame what that NIC would do.
//!
//! ```text
//!  wire or sender --> [ parse, rule, RSS ] --> a ring for each queue --> workers (a port as any other)
//!                      drop, mark, count        full: lost, counted
//! ```
//! Its work is done in the sender's thread, so workers spend nothing on it, as with hardware. Which rules it takes is
//! another [`Nic`]'s answer: a table of a driver's facts. It was chosen over a driver of our own inside DPDK, whose headers
//! distributions do not have.
mod decide;
mod device;
mod side;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use self::decide::{Entry, Tables};
pub use self::device::{EmulatedDevice, Lie};
pub use self::side::{Decision, Full, NicSide};
pub use self::wire::Wire;
use super::rule::{Met, Nic, NicRule, Refusal, RuleId, Spread};
use crate::dpdk::{RingPort, SYMMETRIC_KEY};

/// An emulated NIC, as the control side has it. Cheap to clone: all clones are one NIC.
#[derive(Clone, Debug)]
pub struct EmulatedNic {
    shared: Arc<Shared>,
    driver: String,
    queues: u16,
}

/// What a NIC has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct NicCounts {
    /// Frames from the wire.
    pub received: u64,
    /// Frames that a rule dropped.
    pub dropped: u64,
    /// Frames for which a queue had no room.
    pub missed: u64,
    /// Frames to the wire.
    pub sent: u64,
    /// Frames that the wire did not take until the end.
    pub unsent: u64,
    /// Frames that no worker had received when the run ended.
    pub left: u64,
}

impl EmulatedNic {
    /// A NIC with the far side of a port, of which so many queues are in use. `takes` answers for which rules it has room
    /// and sense.
    pub fn new(
        takes: Box<dyn Nic>,
        queues: u16,
        port: RingPort,
        lie: Option<Lie>,
    ) -> (Self, NicSide) {
        let driver = takes.driver().to_owned();
        let Spread { key, mut table } = takes.spread();
        if table.is_empty() {
            table = (0..TABLE_USUAL).map(|entry| entry % queues.max(1)).collect();
        }
        let key = key.unwrap_or_else(|| SYMMETRIC_KEY.repeat(KEY_USUAL / SYMMETRIC_KEY.len()));
        let rules = Rules { takes, entries: Vec::new(), key, table, lie, flushes: 0 };
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            version: AtomicU64::new(1),
            counts: Counts::default(),
        });
        let side = NicSide::new(shared.clone(), queues, port);
        (Self { shared, driver, queues }, side)
    }

    /// What it has counted.
    pub fn counts(&self) -> NicCounts {
        self.shared.counts.read()
    }

    /// How often all its rules were taken back.
    pub fn flushes(&self) -> u64 {
        self.shared.lock().flushes
    }
}

impl Nic for EmulatedNic {
    fn driver(&self) -> &str {
        &self.driver
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        Entry::check(rule)?;
        self.shared.lock().takes.validate(rule)
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        Entry::check(rule)?;
        let mut rules = self.shared.lock();
        let id = rules.takes.install(rule)?;
        let lie = rules.lie;
        rules.entries.push(Entry::new(id, rule, lie));
        self.shared.changed();
        Ok(id)
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        let mut rules = self.shared.lock();
        rules.takes.remove(id)?;
        rules.entries.retain(|entry| entry.id != id);
        self.shared.changed();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        let mut rules = self.shared.lock();
        rules.takes.flush()?;
        rules.entries.clear();
        rules.flushes += 1;
        self.shared.changed();
        Ok(())
    }

    fn hits(&self, id: RuleId) -> Option<u64> {
        let rules = self.shared.lock();
        let entry = rules.entries.iter().find(|entry| entry.id == id && entry.counts)?;
        Some(entry.hits.load(Ordering::Relaxed))
    }

    fn spread(&self) -> Spread {
        let rules = self.shared.lock();
        let Spread { key, table } = rules.takes.spread();
        // What cannot be read of the NIC is not told of the emulated one either.
        let table = if table.is_empty() { table } else { rules.table.clone() };
        Spread { key, table }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        let mut rules = self.shared.lock();
        if let Some(queue) = table.iter().find(|queue| **queue >= self.queues) {
            return Err(Refusal(format!("queue {queue}: {} are in use", self.queues)));
        }
        rules.takes.set_table(table)?;
        rules.table = table.to_vec();
        self.shared.changed();
        Ok(())
    }

    fn probe(&self, frame: &[u8]) -> Option<Met> {
        let tables = Tables::of(&self.shared.lock(), self.queues);
        let length = u32::try_from(frame.len()).ok()?;
        Some(tables.decide(frame, length).met())
    }
}

/// What the control side and the NIC's side share.
#[derive(Debug)]
struct Shared {
    rules: Mutex<Rules>,
    /// Changes with the rules; the NIC's side looks at it for each burst.
    version: AtomicU64,
    counts: Counts,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What the control side sets.
#[derive(Debug)]
struct Rules {
    takes: Box<dyn Nic>,
    entries: Vec<Entry>,
    key: Vec<u8>,
    table: Vec<u16>,
    lie: Option<Lie>,
    flushes: u64,
}

/// Written by the NIC's side alone.
#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    dropped: AtomicU64,
    missed: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
    left: AtomicU64,
}

impl Counts {
    fn read(&self) -> NicCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        NicCounts {
            received: get(&self.received),
            dropped: get(&self.dropped),
            missed: get(&self.missed),
            sent: get(&self.sent),
            unsent: get(&self.unsent),
            left: get(&self.left),
        }
    }
}

/// Adds to a count that one thread alone writes.
fn add(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// Where the NIC's facts have no table.
const TABLE_USUAL: u16 = 128;
/// Where they have no key, in bytes.
const KEY_USUAL: usize = 40;

#[cfg(test)]
mod tests;
