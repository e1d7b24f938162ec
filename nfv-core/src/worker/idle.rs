//! What a worker does when nothing comes: it polls on, pauses, or sleeps until a device or another worker wakes it.
//!
//! All begin with a millisecond of polling. At more than some thousand packets a second there is never a pause of that
//! length, so that what follows costs packets under load nothing, neither time nor room in a ring. Then
//!
//! - `poll` goes on as before;
//! - `pause` gives the CPU away for at most 60 us at a time: a ring of 1,024 descriptors holds what 10 Gbit/s bring of the
//!   shortest packets meanwhile;
//! - `interrupt` has the devices wake it. Other workers, orders and the kernel's twin ring a [`super::Bell`]; timers
//!   wait at most [`SLEEP`].

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::{Bell, Io, Worker};
use crate::chain::spec::Idle;
use crate::clock::{Time, Tsc};
use crate::dpdk::Interrupts;

/// How one worker spends its idle time. Stays on its thread.
#[derive(Debug)]
pub struct Rest {
    interrupts: Option<Interrupts>,
    clock: Tsc,
    /// When it had looked in vain first.
    since: Option<Time>,
    pause: Duration,
}

impl Rest {
    /// Of the worker of this thread. Without interrupts it pauses where it is to sleep.
    pub fn new(interrupts: Option<Interrupts>, clock: Tsc) -> Self {
        // Else the kernel adds up to 50 us to each pause. Where it cannot be had pauses are longer.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Self { interrupts, clock, since: None, pause: FIRST_PAUSE }
    }

    /// There were packets.
    #[inline]
    pub fn none(&mut self) {
        self.since = None;
    }

    /// A look at `now` found nothing: takes the time that there is.
    #[inline]
    pub fn take(&mut self, worker: &mut Worker, io: &mut impl Io, now: Time) {
        let since = *self.since.get_or_insert(now);
        // What an NF holds is let go in time.
        let left = worker.due().map_or(SLEEP, |due| Duration::from_nanos(due.since(now)));
        if worker.idle() == Idle::Poll || now.since(since) < AWAKE || left < FIRST_PAUSE {
            self.pause = FIRST_PAUSE;
            return std::hint::spin_loop();
        }
        if worker.idle() == Idle::Interrupt && left >= SLEEP_MIN && self.has_interrupts() {
            return self.sleep(worker, io, left.min(SLEEP));
        }
        worker.counts_sleep();
        std::thread::sleep(self.pause.min(left));
        self.pause = (2 * self.pause).min(PAUSE);
        worker.looks_around();
    }

    /// Whether devices wake it; not any more, once one was started again.
    fn has_interrupts(&mut self) -> bool {
        let gone = self.interrupts.take_if(|interrupts| !interrupts.are_there());
        if gone.is_some() {
            tracing::warn!(
                "a port has started again: a worker pauses when it is idle, it sleeps no more"
            );
        }
        self.interrupts.is_some()
    }

    /// Sleeps until something wakes it, or so long.
    #[cold]
    fn sleep(&mut self, worker: &mut Worker, io: &mut impl Io, limit: Duration) {
        let Some(interrupts) = &mut self.interrupts else { return };
        let bell = worker.bell();
        interrupts.arm();
        bell.lie_down();
        // What came before these two has woken nobody.
        worker.looks_around();
        if worker.poll(io, self.clock.now()) == 0 {
            worker.counts_sleep();
            interrupts.wait(limit);
        } else {
            self.since = None;
        }
        bell.get_up();
        interrupts.disarm();
        worker.looks_around();
    }
}

impl Worker {
    /// What it is to do while nothing comes.
    #[inline]
    pub fn idle(&self) -> Idle {
        self.plan.workers.idle
    }

    /// Who has something for it while it sleeps rings this.
    pub fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// With its next poll it looks at all that it looks at seldom.
    fn looks_around(&mut self) {
        self.polls_to_look = 1;
        if self.own.polls_left != u32::MAX {
            self.own.polls_left = 0;
        }
    }

    fn counts_sleep(&self) {
        self.own.cells.add(self.plan.cells.idle_sleeps, 1);
    }
}

/// For so long it polls first.
const AWAKE: u64 = 1_000_000;
const FIRST_PAUSE: Duration = Duration::from_micros(10);
/// The longest pause: with what the kernel needs to wake a thread it is less than 100 us.
const PAUSE: Duration = Duration::from_micros(60);
/// The longest sleep: flows and fragments that have come to their end wait for a tick of 17 ms anyway.
const SLEEP: Duration = Duration::from_millis(10);
/// The shortest sleep: interrupts are waited for in milliseconds.
const SLEEP_MIN: Duration = Duration::from_millis(1);
