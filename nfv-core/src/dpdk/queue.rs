//! Receive and transmit queues: each the property of one worker's thread.

use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys::rte_mbuf;

use super::mbuf::{BURST_MAX, Packets};
use super::started::{Rested, StartedPort};

/// The receive side of a queue.
///
/// Made on the thread that uses it, and it stays there:
/// ```compile_fail
/// fn elsewhere(queue: nfv_core::dpdk::RxQueue) {
///     std::thread::spawn(move || drop(queue));
/// }
/// ```
#[derive(Debug)]
pub struct RxQueue {
    port: Arc<StartedPort>,
    queue: u16,
    rested: Rested,
    this_thread: PhantomData<*const ()>,
}

impl RxQueue {
    pub(super) fn new(port: Arc<StartedPort>, queue: u16) -> Self {
        Self { port, queue, rested: Rested::default(), this_thread: PhantomData }
    }

    /// Its port and number.
    pub(super) fn place(&self) -> (&Arc<StartedPort>, u16) {
        (&self.port, self.queue)
    }

    /// Whether its interrupts were asked for, and its driver has them.
    pub fn wakes(&self) -> bool {
        self.port.wakes()
    }

    /// Receives up to `BURST_MAX` packets into `packets`, which is empty.
    #[inline]
    pub fn receive(&mut self, packets: &mut Packets) {
        debug_assert!(packets.is_empty(), "packets of the last burst were not taken");
        if self.port.is_paused() {
            return self.port.rest(&mut self.rested);
        }
        let raw = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: `raw` has room for BURST_MAX pointers, and this queue is polled by this thread alone (`!Send`).
        let n =
            unsafe { dpdk_sys::nfv_rx_burst(self.port.id(), self.queue, raw, BURST_MAX as u16) };
        // SAFETY: the driver wrote `n <= BURST_MAX` pointers to unshared mbufs; `Packet` is such a pointer.
        unsafe { packets.set_len(usize::from(n)) };
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        self.port.leave(self.rested);
    }
}

/// The transmit side of a queue. Stays on its thread, as [`RxQueue`] does.
#[derive(Debug)]
pub struct TxQueue {
    port: Arc<StartedPort>,
    queue: u16,
    this_thread: PhantomData<*const ()>,
}

impl TxQueue {
    pub(super) fn new(port: Arc<StartedPort>, queue: u16) -> Self {
        Self { port, queue, this_thread: PhantomData }
    }

    /// Hands packets to the device from the front, and returns how many it took; the rest stay, in order.
    #[inline]
    pub fn transmit(&mut self, packets: &mut Packets) -> usize {
        // The receive side, on this thread, says that nothing is touched.
        if self.port.is_paused() {
            return 0;
        }
        let count = packets.len();
        let raw = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: `raw` holds `count` pointers to mbufs that are ours, and this queue is this thread's alone (`!Send`).
        let sent = unsafe { dpdk_sys::nfv_tx_burst(self.port.id(), self.queue, raw, count as u16) };
        give_away(packets, usize::from(sent))
    }
}

/// Forgets the packets at the front, which someone else owns now; the rest move down. Returns how many were given away.
#[inline(always)]
pub(super) fn give_away(packets: &mut Packets, given: usize) -> usize {
    let count = packets.len();
    let given = given.min(count);
    let raw = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
    // SAFETY: until the rest is moved down nothing may see the slots that another owns now.
    unsafe { packets.set_len(0) };
    if given < count {
        // SAFETY: `given < count`, which is at most the array's length.
        let rest = unsafe { raw.add(given) };
        // SAFETY: both ranges are inside the array; `copy` allows them to overlap.
        unsafe { std::ptr::copy(rest, raw, count - given) };
        // SAFETY: the first `count - given` slots hold packets that were not given away.
        unsafe { packets.set_len(count - given) };
    }
    given
}
