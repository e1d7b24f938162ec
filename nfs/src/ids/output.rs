//! A worker's way to the log.

use std::sync::{Arc, Mutex, PoisonError};

use nfv_core::clock::Time;

use super::eve::log::{LogQueue, ReplayLog};
use super::eve::{Body, Head, Record, Stats};
use super::inspector::{Inspector, Recorder};

/// Where a worker's records go.
#[derive(Debug)]
pub enum Output {
    /// To the thread that writes.
    Queue(LogQueue),
    /// To the file, there and then.
    Replay(Arc<Mutex<ReplayLog>>),
    /// There is no log any more.
    Nowhere,
}

impl Recorder for Output {
    fn record(&mut self, record: Record) {
        match self {
            Self::Queue(queue) => queue.record(record),
            // Nobody else has it: a replay has one worker.
            Self::Replay(log) => {
                log.lock().unwrap_or_else(PoisonError::into_inner).record(record);
            }
            Self::Nowhere => {}
        }
    }
}

impl Output {
    /// Records what was counted since the start.
    pub fn tell_counts(&mut self, inspector: &Inspector, start: Time, now: Time) {
        let own = inspector.counters().iter().map(|(name, n)| (name.into(), n));
        let streams = inspector.streams().counters().iter();
        let streams = streams.map(|(name, n)| (format!("tcp.{name}").into(), n));
        let counters = own.chain(streams).collect();
        let uptime = now.since(start) / 1_000_000_000;
        let body = Body::Stats(Box::new(Stats { uptime, counters }));
        self.record(Record { head: Head::at(now), body });
    }

    /// Records that found no room since the last call.
    pub fn take_shed(&mut self) -> u64 {
        match self {
            Self::Queue(queue) => queue.take_shed(),
            Self::Replay(_) | Self::Nowhere => 0,
        }
    }
}
