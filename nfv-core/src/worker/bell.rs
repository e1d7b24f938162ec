//! A bell at a worker's bed: who has something for it rings, and what that costs is paid only while it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one worker. Rung by anybody, as often as they like.
#[derive(Debug, Default)]
pub struct Bell {
    /// The worker sleeps, or is about to, and nobody has rung.
    sleeps: AtomicBool,
    /// Not there while nobody would hear it.
    wire: OnceLock<OwnedFd>,
}

impl Bell {
    /// A descriptor that becomes readable with each ring that wakes; nobody needs to read it.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub fn wire(&self) -> std::io::Result<BorrowedFd<'_>> {
        if self.wire.get().is_none() {
            let wire = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            // Two threads may make one each: the first stays.
            let _ = self.wire.set(wire);
        }
        self.wire.get().map(OwnedFd::as_fd).ok_or_else(|| std::io::ErrorKind::Other.into())
    }

    /// Wakes the worker when it sleeps. What was written before this is seen by it.
    ///
    /// # Cost
    /// A fence, 30 clocks; a system call once for each time that it sleeps.
    #[inline]
    pub fn ring(&self) {
        // Either this sees that it sleeps, or it sees, in its last look, what it is rung for.
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let Some(wire) = self.wire.get() else { return };
        if self.sleeps.swap(false, Ordering::Relaxed) {
            // It fails with a full counter only, after more rings than there is time for.
            let _ = rustix::io::write(wire, &1u64.to_ne_bytes());
        }
    }

    /// The worker is about to sleep: it looks once more after this, and then does.
    pub(super) fn lie_down(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It is awake.
    pub(super) fn get_up(&self) {
        self.sleeps.store(false, Ordering::Relaxed);
    }
}
