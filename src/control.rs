//! The control thread of a run: one thread, one runtime, beside the workers and never on their cores.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;

/// A control thread that runs; it ends with [`ControlThread::stop`].
#[derive(Debug)]
pub struct ControlThread {
    thread: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl ControlThread {
    /// Starts the thread. It inherits the CPUs of the caller, whom EAL pinned to the main lcore: no worker's.
    ///
    /// `set_up` has ended well when this returns; what it returned then runs until the end. When that ends by itself,
    /// it failed, and `ended` is set.
    ///
    /// # Errors
    /// `set_up` failed.
    pub fn start<S, F, R>(set_up: S, ended: Arc<AtomicBool>) -> anyhow::Result<Self>
    where
        S: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<R>>,
        R: Future<Output = anyhow::Result<()>>,
    {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, mut stopped) = oneshot::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the control thread's runtime")?;
            runtime.block_on(async move {
                let run = set_up().await?;
                let _ = ready.send(());
                tokio::select! {
                    result = run => {
                        ended.store(true, Ordering::Relaxed);
                        result
                    }
                    _ = &mut stopped => Ok(()),
                }
            })
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(body)
            .context("starting the control thread")?;
        match is_ready.recv() {
            Ok(()) => Ok(Self { thread, stop }),
            // It ended before it was ready: it says why.
            Err(_) => Err(Self { thread, stop }
                .stop()
                .err()
                .unwrap_or_else(|| anyhow!("the control thread ended"))),
        }
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    pub fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the control thread panicked"))?
    }
}
