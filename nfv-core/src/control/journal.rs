//! Journals: what NFs write of single flows, a JSON object a line, off the packet path.
//!
//! ```text
//!   worker, worker --> bounded queue --> every 100 ms, beside the workers: JSON, file
//! ```
//!
//! A worker queues a plain record and goes on; names, times and JSON are made where it is written. A full queue takes no
//! record, and says so: the caller counts what was shed, and tells it with its next one. In a replay there is all the time
//! that is needed: a full queue is written there and then, so that nothing is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use serde::Serialize;

use crate::clock::Time;
use crate::nf::Purpose;

/// A journal that records of one type are written to. Clones write to the same.
pub struct Journal<R>(Arc<Shared<R>>);

impl<R> Clone for Journal<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> std::fmt::Debug for Journal<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("waiting", &self.0.queue.len()).finish_non_exhaustive()
    }
}

/// A record was not taken: too many wait to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

struct Shared<R> {
    queue: ArrayQueue<(Time, R)>,
    purpose: Purpose,
    /// Appends a record's line.
    line: Box<Line<R>>,
    sink: Mutex<Sink>,
}

type Line<R> = dyn Fn(Time, R, &mut Vec<u8>) + Send + Sync;

/// The file, and what came of it.
struct Sink {
    path: PathBuf,
    file: File,
    lost: u64,
    /// Why the file did not take the last lines that it was given.
    fails: Option<String>,
}

impl<R: Send + 'static> Journal<R> {
    /// A journal at the end of a file, which is made when it is not there. `capacity`: records that may wait, 100 ms' worth.
    /// `show`: what a record's line says behind its `time`, an object.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open<S: Serialize>(
        path: &Path,
        capacity: usize,
        purpose: Purpose,
        show: impl Fn(R) -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let line = move |time, record, out: &mut Vec<u8>| {
            let before = out.len();
            let line = Stamped { time: rfc3339(time), record: show(record) };
            match serde_json::to_writer(&mut *out, &line) {
                Ok(()) => out.push(b'\n'),
                Err(_) => out.truncate(before),
            }
        };
        Ok(Self(Arc::new(Shared {
            queue: ArrayQueue::new(capacity.max(1)),
            purpose,
            line: Box::new(line),
            sink: Mutex::new(Sink { path: path.to_owned(), file, lost: 0, fails: None }),
        })))
    }

    /// Has a record written, with a worker's time. Cost: 20 ns, no lock and no system call, but in a replay.
    ///
    /// # Errors
    /// Too many wait; the caller counts it.
    #[inline]
    pub fn write(&self, now: Time, record: R) -> Result<(), Full> {
        let Err(back) = self.0.queue.push((now, record)) else { return Ok(()) };
        if self.0.purpose != Purpose::Replay {
            return Err(Full);
        }
        self.0.drain();
        self.0.queue.push(back).map_err(|_| Full)
    }

    /// Writes what is queued, every 100 ms: for [`Built::with_task`](crate::nf::Built::with_task).
    pub fn task(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.0.clone();
        async move {
            loop {
                tokio::time::sleep(EVERY).await;
                if shared.queue.is_empty() {
                    continue;
                }
                let own = shared.clone();
                // A disk may take its time, which the control thread has not.
                if tokio::task::spawn_blocking(move || own.drain()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Writes all that is queued, for [`Built::with_finish`](crate::nf::Built::with_finish).
    ///
    /// # Errors
    /// What was lost because the file did not take it.
    pub fn finish(&self) -> Result<(), String> {
        self.0.drain();
        let sink = self.0.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match (&sink.fails, sink.lost) {
            (_, 0) => Ok(()),
            (why, lost) => {
                let why = why.as_deref().unwrap_or("it was full for a while");
                Err(format!("{}: {lost} records are not in it: {why}", sink.path.display()))
            }
        }
    }
}

impl<R> Shared<R> {
    /// Writes as many records as the queue can hold, so that it ends however many come meanwhile.
    fn drain(&self) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        for _ in 0..self.queue.capacity() {
            let Some((time, record)) = self.queue.pop() else { break };
            (self.line)(time, record, &mut lines);
            if lines.len() >= BATCH {
                sink.append(&mut lines);
            }
        }
        sink.append(&mut lines);
    }
}

impl Sink {
    /// Writes whole lines, and empties them. What the file does not take is lost, and it ends with a whole line.
    fn append(&mut self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let before = self.file.metadata().map_or(0, |m| m.len());
        match self.file.write_all(lines) {
            Ok(()) => self.fails = None,
            Err(why) => {
                let there = self.file.metadata().map_or(before, |m| m.len());
                let taken = usize::try_from(there.saturating_sub(before)).unwrap_or(usize::MAX);
                let (taken, rest) = lines.split_at(taken.min(lines.len()));
                let whole = taken.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                let cut = taken.len() - whole;
                let newlines = rest.iter().filter(|b| **b == b'\n').count();
                self.lost += newlines as u64;
                if cut > 0 {
                    let _ = self.file.set_len(there.saturating_sub(cut as u64));
                }
                let why = why.to_string();
                if self.fails.as_ref() != Some(&why) {
                    tracing::error!("{}: {why}; records are lost", self.path.display());
                }
                self.fails = Some(why);
            }
        }
        lines.clear();
    }
}

#[derive(Serialize)]
struct Stamped<S> {
    time: String,
    #[serde(flatten)]
    record: S,
}

/// `2026-11-21T08:13:11.000000001Z` (RFC 3339).
pub fn rfc3339(time: Time) -> String {
    let (seconds, nanoseconds) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is the last of its year. 719,468 days from then to 1970.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

const EVERY: Duration = Duration::from_millis(100);
/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Shown {
        number: u32,
    }

    fn journal(path: &Path, capacity: usize, purpose: Purpose) -> Journal<u32> {
        Journal::open(path, capacity, purpose, |number| Shown { number }).unwrap()
    }

    #[test]
    fn times_are_written_as_the_rfc_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (951_868_800, "2000-03-01T00:00:00.000000007Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ] {
            assert_eq!(rfc3339(Time(seconds * 1_000_000_000 + 7)), text);
        }
        assert!(rfc3339(Time(u64::MAX)).starts_with("2554-07-21T23:34:33"));
    }

    #[test]
    fn records_are_lines_behind_what_the_file_had() {
        let folder = std::env::temp_dir().join(format!("nfv-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lines");
        std::fs::write(&path, "before\n").unwrap();
        let journal = journal(&path, 2, Purpose::Run);
        assert_eq!(journal.write(Time(1), 1), Ok(()));
        assert_eq!(journal.clone().write(Time(2), 2), Ok(()));
        assert_eq!(journal.write(Time(3), 3), Err(Full), "in a run nobody waits");
        assert_eq!(journal.finish(), Ok(()));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1], r#"{"time":"1970-01-01T00:00:00.000000001Z","number":1}"#);

        let replayed = self::journal(&path, 2, Purpose::Replay);
        (0..100).for_each(|i| assert_eq!(replayed.write(Time(i), i as u32), Ok(())));
        assert_eq!(replayed.finish(), Ok(()));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 103);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_that_is_full_is_told_at_the_end() {
        let journal = journal(Path::new("/dev/full"), 8, Purpose::Run);
        (0..3).for_each(|i| assert_eq!(journal.write(Time(0), i), Ok(())));
        let why = journal.finish().unwrap_err();
        assert!(why.starts_with("/dev/full: 3 records are not in it: No space left"), "{why}");
    }

    #[tokio::test]
    async fn the_task_writes_while_the_run_goes_on() {
        let folder = std::env::temp_dir().join(format!("nfv-journal-task-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lines");
        let journal = journal(&path, 8, Purpose::Run);
        journal.write(Time(0), 5).unwrap();
        let _ = tokio::time::timeout(3 * EVERY, journal.task()).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
