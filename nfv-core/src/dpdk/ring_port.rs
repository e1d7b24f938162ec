//! A port made of rings: workers have it as any other, and who stands behind it has the other ends of its queues.

use std::ffi::CString;
use std::ptr::NonNull;

use dpdk_sys::{rte_mbuf, rte_ring};

use super::eal::Eal;
use super::mbuf::{BURST_MAX, Packets};
use super::queue::give_away;
use super::{errno_text, last_errno};

/// The far side of a port made of rings. Its packets are passed on, never copied.
#[derive(Debug)]
pub struct RingPort {
    /// By receive queue of the port: what goes in here, a worker receives.
    pub into: Vec<RingInto>,
    /// By transmit queue of the port: what a worker transmits comes out here.
    pub out: Vec<RingOut>,
}

/// Where packets go in: one owner puts them in, anyone takes them out.
#[derive(Debug)]
pub struct RingInto(NonNull<rte_ring>);

/// Where packets come out. One owner, too.
#[derive(Debug)]
pub struct RingOut(NonNull<rte_ring>);

// SAFETY: a ring's side may change threads; `&mut self` keeps it at one at a time, which is all that the ring asks for.
unsafe impl Send for RingInto {}
// SAFETY: as above.
unsafe impl Send for RingOut {}

/// Why there is no such port.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {why}; rings take a little memory of EAL's: reserve more")]
pub struct RingPortError {
    call: &'static str,
    why: String,
}

impl RingPort {
    /// Makes a port of so many queue pairs, each of which holds `room` packets, a power of two. Returns the device's name,
    /// by which [`super::OpenPort::open`] finds it. It is there as long as EAL.
    ///
    /// # Errors
    /// There is no memory, or a port of that name.
    pub fn create(
        _: &Eal,
        name: &str,
        queues: u16,
        room: u32,
    ) -> Result<(String, Self), RingPortError> {
        let ring = |what: &str, flags: u32, queue: u16| {
            let name = CString::new(format!("{name}_{what}{queue}")).unwrap_or_default();
            // SAFETY: the name is NUL-terminated and copied; the numbers are checked by the call.
            let ring = unsafe { dpdk_sys::rte_ring_create(name.as_ptr(), room, ANY_NODE, flags) };
            NonNull::new(ring).ok_or_else(|| RingPortError {
                call: "rte_ring_create",
                why: errno_text(last_errno()),
            })
        };
        let all = |what: &str, flags| -> Result<Vec<_>, _> {
            (0..queues).map(|queue| ring(what, flags, queue)).collect()
        };
        let into = all("in", dpdk_sys::NFV_RING_ONE_TO_ANY)?;
        let out = all("out", dpdk_sys::NFV_RING_ONE_TO_ONE)?;
        let pointers = |rings: &[NonNull<rte_ring>]| -> Vec<*mut rte_ring> {
            rings.iter().map(|ring| ring.as_ptr()).collect()
        };
        let (rx, tx) = (pointers(&into), pointers(&out));
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: both lists hold `queues` rings, which live as long as EAL; the lists and the name are copied.
        let port = unsafe {
            dpdk_sys::rte_eth_from_rings(
                text.as_ptr(),
                rx.as_ptr(),
                u32::from(queues),
                tx.as_ptr(),
                u32::from(queues),
                0,
            )
        };
        if port < 0 {
            let why = errno_text(last_errno());
            return Err(RingPortError { call: "rte_eth_from_rings", why });
        }
        let into = into.into_iter().map(RingInto).collect();
        let out = out.into_iter().map(RingOut).collect();
        Ok((format!("net_ring_{name}"), Self { into, out }))
    }
}

impl RingInto {
    /// Passes packets on from the front, and returns how many there was room for; the rest stay, in order.
    #[inline]
    pub fn push(&mut self, packets: &mut Packets) -> usize {
        let count = packets.len();
        let raw = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: `raw` holds `count` pointers to mbufs that are ours; this side of the ring is ours (`&mut self`).
        let taken = unsafe { dpdk_sys::nfv_ring_push(self.0.as_ptr(), raw, count as u32) } as usize;
        give_away(packets, taken)
    }
}

impl RingInto {
    /// Takes back up to `BURST_MAX` packets that no worker has received, into `packets`, which is empty.
    pub fn take_back(&mut self, packets: &mut Packets) {
        pop(self.0, packets);
    }
}

impl RingOut {
    /// Takes up to `BURST_MAX` packets into `packets`, which is empty.
    #[inline]
    pub fn pop(&mut self, packets: &mut Packets) {
        pop(self.0, packets);
    }
}

#[inline(always)]
fn pop(ring: NonNull<rte_ring>, packets: &mut Packets) {
    debug_assert!(packets.is_empty(), "packets of the last burst were not taken");
    let raw = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
    // SAFETY: `raw` has room for BURST_MAX pointers; of a ring with one taker this is the one (`&mut` of its owner).
    let n = unsafe { dpdk_sys::nfv_ring_pop(ring.as_ptr(), raw, BURST_MAX as u32) };
    // SAFETY: the ring gave `n <= BURST_MAX` pointers to mbufs that have no other owner.
    unsafe { packets.set_len(n as usize) };
}

/// Any NUMA node.
const ANY_NODE: i32 = -1;
