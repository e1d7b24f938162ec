//! What an `ids` has beside its rules, and keeps when they are exchanged: its log, and what detection remembers of hosts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nfv_core::nf::Purpose;

use super::config::{Config, LogConfig, LogTo};
use super::detect::Memory;
use super::eve::log::{Log, LogConfig as Written, ReplayLog, Target};
use super::output::Output;

/// What outlives a reload.
#[derive(Debug)]
pub struct Beside {
    /// What detection counts and remembers over flows.
    pub memory: Arc<Memory>,
    log: Mutex<Option<Writes>>,
    config: LogConfig,
    /// The functions, before and after reloads, that have it.
    users: AtomicUsize,
}

/// Who writes records.
#[derive(Debug)]
enum Writes {
    /// A thread.
    Thread(Log),
    /// Whoever makes them: nothing is left out, and the order is always the same.
    Replay(Arc<Mutex<ReplayLog>>),
}

impl Beside {
    /// That of the one before, where its log is the same; else a new one, which opens the log.
    ///
    /// # Errors
    /// The log cannot be opened: a sentence.
    pub fn of(
        config: &Config,
        purpose: Purpose,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, String> {
        if let Some(same) = before.filter(|before| before.config == config.log) {
            return Ok(same.clone());
        }
        let settings = Arc::new(config.log.settings.clone());
        let told = |why: &dyn std::error::Error| match why.source() {
            Some(source) => format!("{why}: {source}"),
            None => why.to_string(),
        };
        let target = match &config.log.to {
            LogTo::File(path) => Target::File(path.clone()),
            LogTo::Socket(path) => Target::Stream(path.clone()),
        };
        let log = match (&target, purpose) {
            (Target::File(path), Purpose::Replay) => {
                let log = ReplayLog::create(path.clone(), settings).map_err(|why| told(&why))?;
                Writes::Replay(Arc::new(Mutex::new(log)))
            }
            _ => {
                let written = Written {
                    target,
                    settings,
                    queue_records: RECORDS_MAX,
                    queue_bytes: config.memory.log,
                };
                Writes::Thread(Log::start(written, 0).map_err(|why| told(&why))?.0)
            }
        };
        // Thresholds and bits of hosts go on, whatever the log.
        let memory = match before {
            Some(before) => before.memory.clone(),
            None => Arc::new(Memory::new(config.memory.detection)),
        };
        let (log, config) = (Mutex::new(Some(log)), config.log.clone());
        Ok(Arc::new(Self { memory, log, config, users: AtomicUsize::new(0) }))
    }

    /// A worker's way to the log.
    pub fn output(&self) -> Output {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match &*log {
            Some(Writes::Thread(log)) => Output::Queue(log.queue()),
            Some(Writes::Replay(log)) => Output::Replay(log.clone()),
            None => Output::Nowhere,
        }
    }

    /// Opens the file again, which may have been moved.
    pub fn reopen(&self) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Writes::Thread(log)) = &*log {
            log.reopen();
        }
    }

    /// Writes all that was recorded.
    fn end(&self) -> Result<(), String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        match log {
            None => Ok(()),
            Some(Writes::Thread(log)) => {
                let counts = log.stop();
                match counts.lost {
                    0 => Ok(()),
                    lost => Err(format!("{lost} records are not in the log: it did not take them")),
                }
            }
            Some(Writes::Replay(log)) => {
                let Some(log) = Arc::into_inner(log) else { return Ok(()) };
                let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
                log.finish().map(drop).map_err(|why| why.to_string())
            }
        }
    }
}

/// A function's hold of what is beside it: the last one that ends it ends the log.
#[derive(Debug)]
pub struct Lease {
    beside: Arc<Beside>,
    has_ended: AtomicBool,
}

impl Lease {
    /// One more.
    pub fn of(beside: &Arc<Beside>) -> Self {
        beside.users.fetch_add(1, Ordering::Relaxed);
        Self { beside: beside.clone(), has_ended: AtomicBool::new(false) }
    }

    /// No worker uses the function any more.
    ///
    /// # Errors
    /// What was lost: a sentence.
    pub fn end(&self) -> Result<(), String> {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match self.beside.users.fetch_sub(1, Ordering::Relaxed) {
            1 => self.beside.end(),
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    /// Of a function that no worker ever used: the file that has it is wrong elsewhere.
    fn drop(&mut self) {
        if let Err(why) = self.end() {
            tracing::error!("{why}");
        }
    }
}

/// Records of a worker that wait: some 100 ms of a worker that has nothing else to do.
const RECORDS_MAX: usize = 16 << 10;
