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
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::decide::{Entry, From, Tables};
pub use self::device::{EmulatedDevice, Lie, LiedTo};
pub use self::side::{Decision, Full, NicSide};
pub use self::wire::Wire;
use super::facts::{Facts, Limits, Unsteered};
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
        lie: Option<(Lie, LiedTo)>,
    ) -> (Self, NicSide) {
        let driver = takes.driver().to_owned();
        let facts = Facts::of_driver(&driver);
        let hash = facts.map(|facts| facts.hash);
        let table = match takes.spread().table {
            known if !known.is_empty() => known,
            _ => (0..TABLE_USUAL).map(|entry| entry % queues.max(1)).collect(),
        };
        // Whose key can be set has the symmetric one, as a port gets it.
        let key = match hash {
            Some(hash) if !hash.key_set => FACTORY_KEY.to_vec(),
            _ => SYMMETRIC_KEY.repeat(KEY_USUAL / SYMMETRIC_KEY.len()),
        };
        let shows_key = hash.is_none_or(|hash| hash.key_read);
        let has_lists = facts.is_some_and(|facts| facts.unsteered == Unsteered::Rss);
        let changes_lists = facts.is_some_and(|facts| facts.updates);
        let rules = Rules {
            takes,
            entries: Vec::new(),
            key,
            shows_key,
            table,
            has_lists,
            changes_lists,
            lie,
            flushes: 0,
        };
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            version: AtomicU64::new(1),
            acts: AtomicU64::new(0),
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

    fn limits(&self) -> Limits {
        self.shared.lock().takes.limits()
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        Entry::check(rule)?;
        self.shared.lock().takes.validate(rule)
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        Entry::check(rule)?;
        let mut rules = self.shared.lock();
        let id = rules.takes.install(rule)?;
        let without_vlan = rules.takes.limits().without_vlan;
        let list = if rules.has_lists { rules.table.clone() } else { Vec::new() };
        rules.entries.push(Entry::new(id, rule, without_vlan, list));
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

    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        let mut rules = self.shared.lock();
        rules.takes.change(id, rule)?;
        if let Some(entry) = rules.entries.iter_mut().find(|entry| entry.id == id) {
            entry.change(rule);
        }
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

    fn forget(&mut self) {
        let mut rules = self.shared.lock();
        // What answers for it is no device that was reset.
        let _ = rules.takes.flush();
        rules.entries.clear();
        self.shared.changed();
    }

    fn blank(&self) -> Option<Box<dyn Nic>> {
        self.shared.lock().takes.blank()
    }

    fn hits(&self, id: RuleId) -> Option<u64> {
        let rules = self.shared.lock();
        let entry = rules.entries.iter().find(|entry| entry.id == id && entry.counts)?;
        Some(entry.hits.load(Ordering::Relaxed))
    }

    fn spread(&self) -> Spread {
        let rules = self.shared.lock();
        let Spread { table, .. } = rules.takes.spread();
        let key = rules.shows_key.then(|| rules.key.clone());
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
        if rules.has_lists && rules.changes_lists {
            rules.entries.iter_mut().for_each(|entry| entry.list = table.to_vec());
        }
        self.shared.changed();
        drop(rules);
        self.shared.wait_for_side();
        Ok(())
    }

    fn probe(&self, frame: &[u8]) -> Option<Met> {
        let tables = Tables::of(&self.shared.lock(), self.queues, From::Probe);
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
    /// The version by which everything was decided that is in front of the queues; 0 until the NIC's side runs.
    acts: AtomicU64,
    counts: Counts,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Waits until nothing is under way that was decided otherwise, as it is after a while in a NIC: its side is a thread
    /// that the kernel may stop for longer.
    fn wait_for_side(&self) {
        let (version, start) = (self.version.load(Ordering::Acquire), Instant::now());
        let behind = || (1..version).contains(&self.acts.load(Ordering::Acquire));
        while behind() && start.elapsed() < SIDE_STOPS {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// What the control side sets.
#[derive(Debug)]
struct Rules {
    takes: Box<dyn Nic>,
    entries: Vec<Entry>,
    key: Vec<u8>,
    /// Whether the driver tells it.
    shows_key: bool,
    table: Vec<u16>,
    /// Rules spread packets by lists of queues, which are as the table was, and whether these can be changed.
    has_lists: bool,
    changes_lists: bool,
    lie: Option<(Lie, LiedTo)>,
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

/// A side that does not act for so long is driven no more.
const SIDE_STOPS: Duration = Duration::from_millis(200);
/// Where the NIC's facts have no table.
const TABLE_USUAL: u16 = 128;
/// Bytes of a key.
const KEY_USUAL: usize = 40;
/// What a NIC has whose key cannot be set: that of Microsoft's "Verifying the RSS hash calculation", as many have.
const FACTORY_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

#[cfg(test)]
mod tests;
