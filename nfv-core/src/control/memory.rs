//! Memory for the workers' tables, made ready by a thread of its own: a worker does not wait for the kernel to zero pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::worker::Mates;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct MemoryThread {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl MemoryThread {
    /// Starts it. It inherits the CPUs of the caller: the main lcore's, no worker's.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn start(mates: Arc<Mates>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let body = move || {
            while !ends.load(Ordering::Relaxed) {
                mates.make_memory_ready();
                std::thread::sleep(BETWEEN);
            }
        };
        let thread = Some(std::thread::Builder::new().name("memory".to_owned()).spawn(body)?);
        Ok(Self { thread, stop })
    }
}

impl Drop for MemoryThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Between two looks: a million new flows a second use up half a huge page of entries in 8 ms.
const BETWEEN: Duration = Duration::from_millis(4);
