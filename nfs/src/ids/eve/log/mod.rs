//! Records on their way to a file or a socket.
//!
//! ```text
//!   worker --LogQueue--> bounded queue --+
//!   worker --LogQueue--> bounded queue --+--> a thread: to JSON --> Output: file, socket
//! ```
//!
//! Workers never wait, allocate nothing for it and make no system call: a record moves into a queue of fixed places, or is
//! shed and counted where the queue has no place, or holds as many bytes as it may. The thread looks into the queues every
//! [`IDLE`] and writes what it gathered at once, at the latest each second. While a socket is away the records stay where
//! they are.
//!
//! Rejected: a channel that wakes its reader, which costs the worker a system call a record when there are few of them.

mod output;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use nfv_core::clock::Time;

use self::output::Output;
use super::{Body, Head, Kind, Record, Settings, Stats};
use crate::ids::inspector::Recorder;

/// What is logged, and where to.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Where to.
    pub target: Target,
    /// What.
    pub settings: Arc<Settings>,
    /// Records that wait, of each worker.
    pub queue_records: usize,
    /// Bytes of records that wait, of each worker.
    pub queue_bytes: usize,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file: written behind what it has, made when it is not there.
    File(PathBuf),
    /// A stream socket that somebody listens on: lines.
    Stream(PathBuf),
    /// A datagram socket that somebody listens on: a datagram a line.
    Datagram(PathBuf),
}

/// The log cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open {path} for writing")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no thread to be had.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// What was gathered cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Those that were written.
    pub written: u64,
    /// Those that found no place.
    pub shed: u64,
    /// Those that were lost on the way out: a full disk, a socket whose reader went away or was too slow.
    pub lost: u64,
}

/// The thread that writes. Stops when it is dropped.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker gives its records to.
#[derive(Debug)]
pub struct LogQueue {
    line: Arc<Line>,
}

/// A log without a thread: what it is given, it writes, all of it and in order. For captures.
#[derive(Debug)]
pub struct ReplayLog {
    writer: Writer,
    output: Output,
    path: PathBuf,
}

/// A worker's queue.
#[derive(Debug)]
struct Line {
    queue: ArrayQueue<Record>,
    most_bytes: usize,
    bytes: AtomicUsize,
    shed: AtomicU64,
    /// Of those, the ones that its worker has counted.
    told: AtomicU64,
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Shared {
    /// Of the thread, and of who gives a worker its queue.
    lines: Mutex<Vec<Arc<Line>>>,
    queue_records: usize,
    queue_bytes: usize,
    stops: AtomicBool,
    reopens: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
}

impl LogQueue {
    /// Records that found no room since the last call.
    pub fn take_shed(&mut self) -> u64 {
        let shed = self.line.shed.load(Ordering::Relaxed);
        shed.saturating_sub(self.line.told.swap(shed, Ordering::Relaxed))
    }
}

impl Recorder for LogQueue {
    fn record(&mut self, record: Record) {
        self.line.offer(record);
    }
}

impl Line {
    /// Takes it, if there is room. Alerts and drops have the last quarter for themselves.
    fn offer(&self, record: Record) {
        let is_precious = matches!(record.body.kind(), Kind::Alert | Kind::Drop | Kind::Stats);
        let share = |most: usize| if is_precious { most } else { most - most / 4 };
        let bytes = record.bytes();
        let has_bytes = self.bytes.load(Ordering::Relaxed) + bytes <= share(self.most_bytes);
        let has_place = self.queue.len() < share(self.queue.capacity());
        if has_bytes && has_place {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            if self.queue.push(record).is_ok() {
                return;
            }
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> Option<Record> {
        let record = self.queue.pop()?;
        self.bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        Some(record)
    }
}

impl Log {
    /// Opens the target and starts the thread; a queue for each worker.
    ///
    /// # Errors
    /// A file that cannot be opened. A socket that nobody listens on yet is none: the thread tries again each second.
    pub fn start(config: LogConfig, workers: usize) -> Result<(Self, Vec<LogQueue>), LogError> {
        let output = Output::open(config.target)?;
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            queue_records: config.queue_records.max(1),
            queue_bytes: config.queue_bytes,
            stops: AtomicBool::new(false),
            reopens: AtomicBool::new(false),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let queues = (0..workers).map(|_| shared.queue()).collect();
        let writer = Writer::new(config.settings, workers);
        let mut work = Work { shared: Arc::clone(&shared), writer, output };
        let thread = std::thread::Builder::new().name("ids-log".into()).spawn(move || work.run());
        let thread = Some(thread.map_err(LogError::Thread)?);
        Ok((Self { shared, thread }, queues))
    }

    /// A queue for one more worker; that of one that is no more, if there is any.
    pub fn queue(&self) -> LogQueue {
        self.shared.queue()
    }

    /// The file was moved away: what comes from now on goes into a new one of its name. Sockets are connected again.
    pub fn reopen(&self) {
        self.shared.reopens.store(true, Ordering::Release);
    }

    /// What became of records so far.
    pub fn counts(&self) -> LogCounts {
        self.shared.counts()
    }

    /// Writes what waits and ends the thread. What a socket does not take within a second is lost.
    pub fn stop(mut self) -> LogCounts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the thread was told by it.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn queue(&self) -> LogQueue {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let free = lines.iter().find(|line| Arc::strong_count(line) == 1 && line.queue.is_empty());
        if let Some(free) = free {
            return LogQueue { line: Arc::clone(free) };
        }
        let line = Arc::new(Line {
            queue: ArrayQueue::new(self.queue_records),
            most_bytes: self.queue_bytes,
            bytes: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
            told: AtomicU64::new(0),
        });
        lines.push(Arc::clone(&line));
        LogQueue { line }
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> LogCounts {
        LogCounts {
            written: self.written.load(Ordering::Relaxed),
            shed: self.lines().iter().map(|line| line.shed.load(Ordering::Relaxed)).sum(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// The thread.
struct Work {
    shared: Arc<Shared>,
    writer: Writer,
    output: Output,
}

impl Work {
    fn run(&mut self) {
        let mut flushed = Instant::now();
        let mut told = Instant::now();
        let mut ended = Instant::now();
        loop {
            // Read before the queues are emptied, so that what was recorded before the end is written.
            let stops = self.shared.stops.load(Ordering::Acquire);
            if self.shared.reopens.swap(false, Ordering::AcqRel) {
                self.flush();
                self.output.reopen();
            }
            // While a reader is stuck, records stay where they are.
            let has_room = self.writer.out.len() < FULL;
            let had_records = self.output.is_ready() && has_room && self.gather();
            if told.elapsed() >= self.writer.stats_interval() || stops {
                self.writer.write_stats(self.shared.counts());
                told = Instant::now();
            }
            if self.writer.out.len() >= FULL || flushed.elapsed() >= FLUSH || stops {
                self.flush();
                flushed = Instant::now();
            }
            if stops && !had_records {
                if self.writer.out.is_empty() || ended.elapsed() >= PATIENCE {
                    return self.give_up();
                }
            } else if !stops {
                ended = Instant::now();
            }
            if !had_records {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    /// Takes from each queue in turn, up to what is written at once.
    fn gather(&mut self) -> bool {
        let mut had_any = false;
        for (worker, line) in self.shared.lines().iter().enumerate() {
            // Only what is there now, so that one busy worker does not hold the others up.
            for _ in 0..line.queue.len() {
                let Some(record) = line.take() else { break };
                had_any = true;
                self.writer.write(worker, record);
                if self.writer.out.len() >= FULL {
                    break;
                }
            }
        }
        had_any
    }

    fn flush(&mut self) {
        let lines = self.writer.take_lines();
        let lost = self.output.write(&mut self.writer.out);
        self.shared.written.fetch_add(lines.saturating_sub(lost), Ordering::Relaxed);
        self.shared.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// What is left has nowhere to go.
    fn give_up(&mut self) {
        let left = self.writer.out.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.shared.written.fetch_sub(left, Ordering::Relaxed);
        self.shared.lost.fetch_add(left, Ordering::Relaxed);
        for line in self.shared.lines() {
            while line.take().is_some() {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl ReplayLog {
    /// Writes into a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: PathBuf, settings: Arc<Settings>) -> Result<Self, LogError> {
        let output = Output::create(path.clone())?;
        Ok(Self { writer: Writer::new(settings, 1), output, path })
    }

    /// Writes the counts that were recorded last, and what is gathered. Until then there is no stats record.
    ///
    /// # Errors
    /// A record could not be written, this time or earlier.
    pub fn finish(mut self) -> Result<LogCounts, LogError> {
        self.writer.write_stats(LogCounts::default());
        self.flush();
        match self.output.take_error() {
            Some(source) => Err(LogError::Write { path: self.path, source }),
            None => Ok(LogCounts { written: self.writer.lines, ..LogCounts::default() }),
        }
    }

    fn flush(&mut self) {
        self.output.write(&mut self.writer.out);
    }
}

impl Recorder for ReplayLog {
    fn record(&mut self, record: Record) {
        self.writer.write(0, record);
        if self.writer.out.len() >= FULL {
            self.flush();
        }
    }
}

/// Records become lines.
#[derive(Debug)]
struct Writer {
    settings: Arc<Settings>,
    out: Vec<u8>,
    lines: u64,
    /// The counts that each worker recorded last, and when the last came.
    stats: Vec<Option<Box<Stats>>>,
    stats_time: Time,
    has_new_stats: bool,
}

impl Writer {
    fn new(settings: Arc<Settings>, workers: usize) -> Self {
        Self {
            settings,
            out: Vec::with_capacity(FULL + FULL / 4),
            lines: 0,
            stats: std::iter::repeat_with(|| None).take(workers).collect(),
            stats_time: Time(0),
            has_new_stats: false,
        }
    }

    /// Writes it; what was counted is kept until its time has come.
    fn write(&mut self, worker: usize, record: Record) {
        if let Body::Stats(stats) = record.body {
            if self.stats.len() <= worker {
                self.stats.resize_with(worker + 1, || None);
            }
            if let Some(last) = self.stats.get_mut(worker) {
                *last = Some(stats);
                self.stats_time = self.stats_time.max(record.head.time);
                self.has_new_stats = true;
            }
            return;
        }
        record.write(&self.settings, &mut self.out);
        self.lines += 1;
    }

    /// One record of what all workers counted.
    fn write_stats(&mut self, counts: LogCounts) {
        if !std::mem::take(&mut self.has_new_stats) || self.settings.stats.is_none() {
            return;
        }
        let known = || self.stats.iter().flatten();
        let mut counters: Vec<_> = known().flat_map(|stats| stats.counters.clone()).collect();
        counters.push(("eve.shed".into(), counts.shed));
        counters.push(("eve.lost".into(), counts.lost));
        let uptime = known().map(|stats| stats.uptime).max().unwrap_or_default();
        let body = Body::Stats(Box::new(Stats { uptime, counters }));
        Record { head: Head::at(self.stats_time), body }.write(&self.settings, &mut self.out);
        self.lines += 1;
    }

    fn stats_interval(&self) -> Duration {
        let seconds = self.settings.stats.map_or(u32::MAX, |stats| stats.interval.max(1));
        Duration::from_secs(seconds.into())
    }

    /// The lines since the last call.
    fn take_lines(&mut self) -> u64 {
        std::mem::take(&mut self.lines)
    }
}

/// Written at once when so many bytes are gathered.
const FULL: usize = 256 << 10;

/// At the latest after this time.
const FLUSH: Duration = Duration::from_secs(1);

/// How long a reader that is stuck is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the thread looks when there was nothing.
const IDLE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
