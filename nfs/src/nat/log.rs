//! Who had which outside ports when: a record a range of ports, not one a flow (RFC 6888, REQ-12).
//!
//! Workers put records into a queue, without waiting; a task writes them as JSON lines. What finds the queue full is
//! counted as lost.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use nfv_core::clock::Time;

/// What happened to a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub time: Time,
    /// What.
    pub what: Happened,
    /// To whom.
    pub subscriber: Ipv4Addr,
    /// The outside address.
    pub address: Ipv4Addr,
    /// First and last port.
    pub ports: (u16, u16),
}

/// What happens to a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A subscriber has it from now on.
    Given,
    /// Its last mapping ended, and it is nobody's.
    CameBack,
}

/// Records on their way to the file.
#[derive(Debug)]
pub struct Log {
    queue: Option<ArrayQueue<Record>>,
    lost: AtomicU64,
}

impl Log {
    /// Of which records are written.
    pub fn kept() -> Self {
        Self { queue: Some(ArrayQueue::new(RECORDS_MAX)), lost: AtomicU64::new(0) }
    }

    /// Of which none are.
    pub fn not_kept() -> Self {
        Self { queue: None, lost: AtomicU64::new(0) }
    }

    /// Notes what happened. Cost: a place in a queue.
    pub fn note(&self, record: Record) {
        if self.queue.as_ref().is_some_and(|queue| queue.push(record).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that found the queue full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what is queued, to its end.
    pub fn write(&self, file: &mut Writer) {
        let mut text = String::new();
        while let Some(record) = self.queue.as_ref().and_then(ArrayQueue::pop) {
            text += &record.line();
        }
        if !text.is_empty() && file.0.write_all(text.as_bytes()).is_err() {
            let lines = text.lines().count() as u64;
            self.lost.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

/// The file.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Opens a file, at its end when it is there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }
}

impl Record {
    fn line(&self) -> String {
        let what = match self.what {
            Happened::Given => "given",
            Happened::CameBack => "came_back",
        };
        let Self { time, subscriber, address, ports: (first, last), .. } = self;
        let (seconds, millis) = (time.0 / 1_000_000_000, time.0 / 1_000_000 % 1000);
        format!(
            "{{\"time\":{seconds}.{millis:03},\"event\":\"{what}\",\"subscriber\":\"{subscriber}\",\
             \"external\":\"{address}\",\"ports\":\"{first}-{last}\"}}\n"
        )
    }
}

/// Of a second's worth of the fastest subscribers.
const RECORDS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_a_json_line_each_and_those_without_room_are_counted() {
        let record = Record {
            time: Time(1_700_000_000_250_000_000),
            what: Happened::Given,
            subscriber: Ipv4Addr::new(100, 64, 0, 5),
            address: Ipv4Addr::new(203, 0, 113, 1),
            ports: (2048, 2559),
        };
        let log = Log::kept();
        (0..RECORDS_MAX + 3).for_each(|_| log.note(record));
        assert_eq!(log.lost(), 3);
        let path = std::env::temp_dir().join(format!("nfv-nat-log-{}", std::process::id()));
        log.write(&mut Writer::open(&path).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), RECORDS_MAX);
        assert_eq!(
            text.lines().next(),
            Some(
                "{\"time\":1700000000.250,\"event\":\"given\",\"subscriber\":\"100.64.0.5\",\
                 \"external\":\"203.0.113.1\",\"ports\":\"2048-2559\"}"
            )
        );
    }
}
