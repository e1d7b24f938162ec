//! A port that is started, as its queues and the control side share it; and how it is stopped while workers run.
//!
//! ```text
//!   control                          worker, at each of its queues
//!   pause: "keep away", number n --> sees it at its next poll: rests, and says so once for n
//!   waits until all have said so
//!   stop, reset, start ...           receives nothing, transmits nothing
//!   go on ------------------------> polls again
//! ```
//!
//! A worker pays for it one load a poll, of the cache line where it reads the port's number. Rejected: an order at the
//! workers' desks, which a queue that nobody polls any more could not answer, and which safe code could forget to give.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::events;

/// A started port: stopped and closed when the last owner (the control side, or a queue) is gone.
#[derive(Debug)]
pub(super) struct StartedPort {
    id: u16,
    /// How many operations its queue of rules holds, if it has one.
    flow_queue: Option<u32>,
    /// Its queues have receive interrupts, which were asked for.
    wakes: bool,
    /// Queues keep away.
    paused: AtomicBool,
    /// The number of the last pause in the upper half, and how many receive queues have said that they rest in it.
    resting: AtomicU32,
    /// Receive queues that are not gone.
    queues: AtomicU16,
    /// How often it has started: what the driver was told before the last time is forgotten.
    starts: AtomicU32,
    /// Held by who asks the driver, or changes the port.
    control: Mutex<()>,
}

/// The last pause in which a queue has said that it rests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rested(u16);

impl StartedPort {
    /// With so many queues, none of which is claimed yet.
    pub(super) fn new(id: u16, queues: u16, wakes: bool, flow_queue: Option<u32>) -> Self {
        events::watch(id);
        Self {
            id,
            flow_queue,
            wakes,
            paused: AtomicBool::new(false),
            resting: AtomicU32::new(0),
            queues: AtomicU16::new(queues),
            starts: AtomicU32::new(0),
            control: Mutex::default(),
        }
    }

    /// Which of its starts the last one was.
    pub(super) fn start(&self) -> u32 {
        self.starts.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn flow_queue(&self) -> Option<u32> {
        self.flow_queue
    }

    pub(super) fn wakes(&self) -> bool {
        self.wakes
    }

    /// How often queues were to keep away. Who has seen a number may touch the device until it says that it rests.
    pub(super) fn pauses(&self) -> u16 {
        number_of(self.resting.load(Ordering::Acquire))
    }

    /// Whether queues are to keep away from the device.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// A queue keeps away.
    #[cold]
    pub(super) fn rest(&self, rested: &mut Rested) {
        let says = |state: u32| {
            let news = number_of(state) != rested.0;
            news.then_some(state.wrapping_add(1))
        };
        if let Ok(state) = self.resting.fetch_update(Ordering::AcqRel, Ordering::Acquire, says) {
            rested.0 = number_of(state);
        }
    }

    /// A receive queue is gone.
    pub(super) fn leave(&self, rested: Rested) {
        let unsays = |state: u32| {
            let said = number_of(state) == rested.0 && state & COUNT != 0;
            said.then_some(state.wrapping_sub(1))
        };
        // It may not have said that it rests.
        let _ = self.resting.fetch_update(Ordering::AcqRel, Ordering::Acquire, unsays);
        self.queues.fetch_sub(1, Ordering::AcqRel);
    }

    /// Who asks the driver, or changes the port, does it alone.
    pub(super) fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something while no queue touches the device. `None`: one did not rest in time, and nothing was done.
    ///
    /// When it fails, queues keep away until it is done again and does not.
    pub(super) fn paused<T, E>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let _control = self.control();
        let was_paused = self.is_paused();
        // Never 0, at which queues begin.
        let number = number_of(self.resting.load(Ordering::Acquire)).wrapping_add(1).max(1);
        self.resting.store(u32::from(number) << COUNT.count_ones(), Ordering::Release);
        self.paused.store(true, Ordering::Release);
        let start = Instant::now();
        let rest = || self.resting.load(Ordering::Acquire) & COUNT;
        while rest() < u32::from(self.queues.load(Ordering::Acquire)) {
            if start.elapsed() > patience {
                self.paused.store(was_paused, Ordering::Release);
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        self.starts.fetch_add(1, Ordering::AcqRel);
        let done = work();
        if done.is_ok() {
            self.paused.store(false, Ordering::Release);
        }
        Some(done)
    }
}

impl Drop for StartedPort {
    fn drop(&mut self) {
        events::forget(self.id);
        // SAFETY: the port was started, and no queue of it is left: each holds a reference to this.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        // SAFETY: it is stopped, and closed only here.
        unsafe { dpdk_sys::rte_eth_dev_close(self.id) };
    }
}

fn number_of(state: u32) -> u16 {
    (state >> COUNT.count_ones()) as u16
}

/// The bits of the count.
const COUNT: u32 = 0xffff;

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;
    use std::sync::Arc;

    use super::*;

    /// Of no device: it is never dropped.
    fn port(queues: u16) -> Arc<ManuallyDrop<StartedPort>> {
        Arc::new(ManuallyDrop::new(StartedPort {
            id: u16::MAX,
            flow_queue: None,
            wakes: false,
            paused: AtomicBool::new(false),
            resting: AtomicU32::new(0),
            queues: AtomicU16::new(queues),
            starts: AtomicU32::new(0),
            control: Mutex::default(),
        }))
    }

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);

    fn nothing() -> Result<(), ()> {
        Ok(())
    }

    #[test]
    fn nothing_is_done_before_every_queue_rests() {
        let port = port(2);
        assert_eq!(port.paused(SOON, nothing), None, "none does");
        assert!(!port.is_paused(), "and all go on");
        let mut queue = Rested::default();
        let other = port.clone();
        let thread = std::thread::spawn(move || {
            while !other.is_paused() {
                std::thread::yield_now();
            }
            // However often one says so, it is one.
            (0..10).for_each(|_| other.rest(&mut queue));
            queue
        });
        assert_eq!(
            port.paused(Duration::from_millis(200), nothing),
            None,
            "the other one does not"
        );
        port.leave(thread.join().unwrap());
        port.leave(Rested::default());
        assert_eq!(port.paused(SOON, nothing), Some(Ok(())), "nobody is left to wait for");
    }

    #[test]
    fn workers_never_touch_what_is_being_changed() {
        let port = port(3);
        let changing = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (port, changing, stop) = (port.clone(), changing.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut rested = Rested::default();
                    while !stop.load(Ordering::Relaxed) {
                        if port.is_paused() {
                            port.rest(&mut rested);
                            std::thread::yield_now();
                        } else {
                            assert!(!changing.load(Ordering::SeqCst), "a queue was touched");
                        }
                    }
                    port.leave(rested);
                })
            })
            .collect();
        for _ in 0..200 {
            let done = port.paused(LATE, || {
                changing.store(true, Ordering::SeqCst);
                std::thread::yield_now();
                changing.store(false, Ordering::SeqCst);
                nothing()
            });
            assert_eq!(done, Some(Ok(())));
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn after_a_change_that_failed_queues_keep_away_until_one_does_not() {
        let port = port(0);
        assert_eq!(port.paused(SOON, || Err::<(), _>("no")), Some(Err("no")));
        assert!(port.is_paused());
        assert_eq!(port.paused(SOON, nothing), Some(Ok(())));
        assert!(!port.is_paused());
    }
}
