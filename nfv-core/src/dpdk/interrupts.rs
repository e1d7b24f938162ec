//! Receive interrupts: a worker's thread sleeps until one of its queues has packets, or a bell rings.
//!
//! Two kinds of driver are met. NICs raise an interrupt once for each time that they are asked to; DPDK's own epoll knows
//! how to clear it. `net_tap` has a descriptor that is readable as long as packets wait, and nothing to be asked.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use dpdk_sys::rte_epoll_event;

use super::started::StartedPort;
use super::{RxQueue, errno_text};

/// What wakes a thread. Made on the thread that sleeps, and it stays there, as its queues do.
#[derive(Debug)]
pub struct Interrupts {
    epoll: OwnedFd,
    queues: Vec<Waking>,
    /// What DPDK's epoll knows descriptors by that no driver has added.
    watched: Vec<*mut rte_epoll_event>,
    this_thread: PhantomData<*const ()>,
}

/// A queue that wakes.
#[derive(Debug)]
struct Waking {
    port: Arc<StartedPort>,
    queue: u16,
    by: Wakes,
    /// The port's pauses when this was made: one that was stopped since has forgotten whom to wake.
    pauses: u16,
}

impl Waking {
    fn is_there(&self) -> bool {
        !self.port.is_paused() && self.port.pauses() == self.pauses
    }
}

/// How a queue wakes who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wakes {
    /// It is asked to, each time.
    WhenAsked,
    /// Its descriptor is readable as long as packets wait.
    AsLongAsPacketsWait,
}

impl Wakes {
    /// How a queue of a started port does, whose interrupts were configured.
    pub(super) fn of(port: u16, queue: u16) -> Result<Self, String> {
        // SAFETY: the port is started; a driver without interrupts answers ENOTSUP.
        let failed = unsafe { dpdk_sys::rte_eth_dev_rx_intr_enable(port, queue) };
        if failed == 0 {
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_disable(port, queue) };
            return Ok(Self::WhenAsked);
        }
        if failed == -libc::ENOTSUP && descriptor(port, queue).is_some() {
            return Ok(Self::AsLongAsPacketsWait);
        }
        Err(errno_text(failed))
    }
}

/// The descriptor of a queue's interrupt.
fn descriptor(port: u16, queue: u16) -> Option<i32> {
    // SAFETY: the port is started; without interrupts the call returns -1.
    let fd = unsafe { dpdk_sys::rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue) };
    (fd >= 0).then_some(fd)
}

impl Interrupts {
    /// Of queues, all of whose ports wake, and a bell: a descriptor that becomes readable each time it is rung, and
    /// outlives this.
    ///
    /// # Errors
    /// The call that failed, and why.
    pub fn of<'q>(
        queues: impl Iterator<Item = &'q RxQueue>,
        bell: BorrowedFd<'_>,
    ) -> Result<Self, String> {
        let flags = rustix::event::epoll::CreateFlags::CLOEXEC;
        let epoll = rustix::event::epoll::create(flags).map_err(|why| why.to_string())?;
        let (queues, watched) = (queues.collect::<Vec<_>>(), Vec::new());
        let mut all = Self { epoll, queues: Vec::new(), watched, this_thread: PhantomData };
        // At its edge, so that nobody needs to read it.
        all.watch(bell.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET)?;
        for queue in queues {
            let (port, queue) = queue.place();
            let pauses = port.pauses();
            let by = Wakes::of(port.id(), queue)?;
            match (by, descriptor(port.id(), queue)) {
                (Wakes::AsLongAsPacketsWait, Some(fd)) => all.watch(fd, libc::EPOLLIN)?,
                _ => all.control(port.id(), queue, dpdk_sys::RTE_INTR_EVENT_ADD)?,
            }
            all.queues.push(Waking { port: port.clone(), queue, by, pauses });
        }
        Ok(all)
    }

    /// Whether all ports are as they were. One that is being started again must not be touched, and wakes nobody afterwards.
    pub fn are_there(&self) -> bool {
        self.queues.iter().all(Waking::is_there)
    }

    /// Asks for interrupts from now on. What came before wakes nobody, so queues are looked at once more after this.
    pub fn arm(&mut self) {
        for Waking { port, queue, .. } in self.asked() {
            // SAFETY: the port is started as long as `port`, and this thread has the queue.
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_enable(port.id(), *queue) };
        }
    }

    /// Sleeps until something wakes it, or for so long, in milliseconds.
    pub fn wait(&mut self, limit: Duration) {
        let mut events = [rte_epoll_event::default(); EVENTS_MAX];
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `events` has room for EVENTS_MAX; what the epoll points to is alive as long as `self`.
        unsafe {
            let room = EVENTS_MAX as i32;
            dpdk_sys::rte_epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), room, limit)
        };
    }

    /// Wants no more interrupts, as it polls.
    pub fn disarm(&mut self) {
        for Waking { port, queue, .. } in self.asked() {
            // SAFETY: as in `arm`.
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_disable(port.id(), *queue) };
        }
    }

    /// Queues that are to be asked. A port that is being started again must not be touched: this thread has let go of it.
    fn asked(&self) -> impl Iterator<Item = &Waking> {
        self.queues.iter().filter(|queue| queue.by == Wakes::WhenAsked && queue.is_there())
    }

    /// Waits for a descriptor, too.
    fn watch(&mut self, fd: i32, events: i32) -> Result<(), String> {
        let mut event = Box::<rte_epoll_event>::default();
        event.epdata.event = events as u32;
        let event = Box::into_raw(event);
        self.watched.push(event);
        // SAFETY: the epoll keeps the pointer, which is freed when `self` is dropped, after it was taken out.
        let failed = unsafe {
            dpdk_sys::rte_epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, event)
        };
        if failed == 0 { Ok(()) } else { Err(format!("rte_epoll_ctl: {}", errno_text(failed))) }
    }

    /// Adds a queue's interrupt to the epoll, or takes it out.
    fn control(&self, port: u16, queue: u16, what: u32) -> Result<(), String> {
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: the port is started; nothing is kept of the last argument, which is null.
        let failed = unsafe {
            let none = std::ptr::null_mut();
            dpdk_sys::rte_eth_dev_rx_intr_ctl_q(port, queue, epoll, what as i32, none)
        };
        let text = || format!("rte_eth_dev_rx_intr_ctl_q: {}", errno_text(failed));
        if failed == 0 { Ok(()) } else { Err(text()) }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for Waking { port, queue, .. } in self.asked() {
            // The epoll goes, whatever comes of this.
            let _ = self.control(port.id(), *queue, dpdk_sys::RTE_INTR_EVENT_DEL);
        }
        for event in self.watched.drain(..) {
            // SAFETY: `event` is the box of `watch`, and nobody waits any more: this thread alone does.
            let own = unsafe { Box::from_raw(event) };
            let (epoll, fd) = (self.epoll.as_raw_fd(), own.fd);
            // SAFETY: the event is alive during the call, which takes it out.
            unsafe { dpdk_sys::rte_epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, event) };
        }
    }
}

/// Events of one wait: all that matters is that there was one.
const EVENTS_MAX: usize = 8;
