//! Counters: what is counted, one table; where, one line of cells a worker.
//!
//! received + created = sent + dropped + consumed, exactly, whenever no packet is under way ([`Totals::balance`]).
//! A worker writes its own cells with plain adds; readers read them relaxed and take no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Index of a counter in a worker's [`Cells`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellId(u32);

impl CellId {
    /// The `n`th counter after this one, of a row that was made by one call.
    #[inline]
    pub fn plus(self, n: usize) -> Self {
        Self(self.0 + n as u32)
    }
}

/// On which side of the sum a counter of packets stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Came in from a port.
    Received,
    /// Made by an NF or the engine.
    Created,
    /// Went out of a port.
    Sent,
    /// Dropped for a reason.
    Dropped,
    /// Taken by an NF, for good.
    Consumed,
    /// Not part of the sum.
    Aside,
}

/// What one counter counts.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Its metric, without the prefix `nfv_` and the ending `_total`.
    pub metric: &'static str,
    /// What an operator is told of it; of a metric that many share, of this one.
    pub help: &'static str,
    /// Labels: the user's names.
    pub labels: Vec<(&'static str, String)>,
    /// Its place in the sum.
    pub side: Side,
}

impl Counter {
    /// What an operator is told of its metric, which may be that of many reasons or functions.
    pub fn help_of_metric(&self) -> &'static str {
        match self.metric {
            "dropped_packets" => "packets dropped, by who dropped them and why",
            "nf_counter" => "what functions count besides",
            _ => self.help,
        }
    }
}

/// The table of all counters of a program. Made by the compiler, then read only.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    counters: Vec<Counter>,
}

impl Ledger {
    /// Adds a counter.
    pub fn add(&mut self, counter: Counter) -> CellId {
        self.counters.push(counter);
        CellId(u32::try_from(self.counters.len() - 1).expect("fewer counters than 2^32"))
    }

    /// The counters, in the order of their cells.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// A worker's cells, all 0.
    pub fn cells(&self) -> Arc<Cells> {
        Arc::new(Cells { cells: self.counters.iter().map(|_| AtomicU64::new(0)).collect() })
    }

    /// The sums over the workers.
    pub fn totals(&self, workers: &[Arc<Cells>]) -> Totals {
        let sum = |i: usize| {
            workers.iter().filter_map(|w| w.cells.get(i)).map(|c| c.load(Ordering::Relaxed)).sum()
        };
        Totals { values: (0..self.counters.len()).map(sum).collect() }
    }
}

/// One worker's counters. Only that worker writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cells {
    cells: Box<[AtomicU64]>,
}

impl Cells {
    /// Adds, as the one writer: no locked instruction.
    #[inline(always)]
    pub fn add(&self, id: CellId, n: u64) {
        if let Some(cell) = self.cells.get(id.0 as usize) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// One counter's value.
    pub fn get(&self, id: CellId) -> u64 {
        self.cells.get(id.0 as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// Sums over the workers, in the order of [`Ledger::counters`].
#[derive(Clone, Debug)]
pub struct Totals {
    values: Vec<u64>,
}

impl Totals {
    /// Of these values, in the order of a ledger.
    pub(crate) fn of(values: Vec<u64>) -> Self {
        Self { values }
    }

    /// Adds to a counter's value.
    pub(crate) fn add(&mut self, id: CellId, n: u64) {
        if let Some(value) = self.values.get_mut(id.0 as usize) {
            *value += n;
        }
    }

    /// The sum of both, of one ledger.
    pub fn plus(&self, other: &Self) -> Self {
        Self { values: self.values.iter().zip(&other.values).map(|(a, b)| a + b).collect() }
    }

    /// A counter and its value, all of them.
    pub fn iter<'t>(&'t self, ledger: &'t Ledger) -> impl Iterator<Item = (&'t Counter, u64)> {
        ledger.counters.iter().zip(self.values.iter().copied())
    }

    /// One counter's value.
    pub fn get(&self, id: CellId) -> u64 {
        self.values.get(id.0 as usize).copied().unwrap_or(0)
    }

    /// The sum of one side.
    pub fn side(&self, ledger: &Ledger, side: Side) -> u64 {
        self.iter(ledger).filter(|(c, _)| c.side == side).map(|(_, v)| v).sum()
    }

    /// received + created - sent - dropped - consumed: 0 when no packet is under way.
    pub fn balance(&self, ledger: &Ledger) -> i128 {
        let side = |s| i128::from(self.side(ledger, s));
        side(Side::Received) + side(Side::Created)
            - side(Side::Sent)
            - side(Side::Dropped)
            - side(Side::Consumed)
    }
}
