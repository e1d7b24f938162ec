//! Threads that do something now and then beside the workers: memory made ready, shards moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::nic_rules::NicRules;
use super::running::Workers;
use crate::worker::Mates;

/// Such a thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Periodic {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Periodic {
    /// Makes memory ready for the tables of workers, so that none waits for the kernel to zero a page.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn memory(mates: Arc<Mates>) -> std::io::Result<Self> {
        Self::start("memory", MEMORY, move || mates.make_memory_ready())
    }

    /// Moves shards from workers that have too much to do to others that have time, where the chain file has it so.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn balance(workers: Workers) -> std::io::Result<Self> {
        Self::start("balance", BALANCE, move || workers.balance())
    }

    /// Looks at what workers saw of the tags that NICs write.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn tags(rules: Arc<NicRules>) -> std::io::Result<Self> {
        Self::start("tags", TAGS, move || rules.look())
    }

    /// It inherits the CPUs of the caller: the main lcore's, no worker's.
    fn start(
        name: &str,
        every: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let body = move || {
            while !ends.load(Ordering::Relaxed) {
                work();
                std::thread::park_timeout(every);
            }
        };
        let thread = Some(std::thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(Self { thread, stop })
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A million new flows a second use up half a huge page of entries in 8 ms.
const MEMORY: Duration = Duration::from_millis(4);
/// A NIC that is not trusted is not, from the worker's look on; what is done here is to tell, and to take rules back.
const TAGS: Duration = Duration::from_millis(100);
/// Ten times a second: often enough to be done within one, and seldom enough to see what a move did.
const BALANCE: Duration = Duration::from_millis(100);
