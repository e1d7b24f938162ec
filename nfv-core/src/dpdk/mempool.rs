//! Pools of mbufs.

use std::ffi::{CString, c_uint};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::rte_mempool;

use super::mbuf::Packet;
use super::{errno_text, last_errno};

/// A pool of mbufs on one NUMA node. It is never given back: packets point into it, and it lives as long as EAL.
#[derive(Clone, Copy, Debug)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    packets: u32,
    room: u16,
}

// SAFETY: DPDK's default mempool operations take and give back from any thread; the per-lcore cache is the lcore's own.
unsafe impl Send for Mempool {}
// SAFETY: as above, all calls on a shared pool are atomic on its ring.
unsafe impl Sync for Mempool {}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
#[error(
    "no mempool of {packets} mbufs of {room} bytes on NUMA node {socket}: rte_pktmbuf_pool_create: {why}; \
     reserve more huge pages, or set `mempool-size` lower"
)]
pub struct MempoolError {
    packets: u32,
    room: u16,
    socket: i32,
    why: String,
}

/// Mbufs that an lcore keeps at hand; takes the pool's ring out of the packet path.
const CACHE: c_uint = 256;

impl Mempool {
    /// Makes a pool of `packets` mbufs that hold `room` bytes of data each, on NUMA node `socket` (-1: any).
    ///
    /// # Errors
    /// There is no memory for it; the error says how much was asked for.
    pub fn create(packets: u32, room: u16, socket: i32) -> Result<Self, MempoolError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nfv_pool_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).expect("made of letters and digits");
        let buffer = room.saturating_add(HEADROOM);
        // SAFETY: the name is NUL-terminated and copied; the numbers are checked by the call.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(name.as_ptr(), packets, CACHE, 0, buffer, socket)
        };
        match NonNull::new(pool) {
            Some(pool) => Ok(Self { pool, packets, room }),
            None => Err(MempoolError { packets, room, socket, why: errno_text(last_errno()) }),
        }
    }

    /// An empty packet, with head room; `None` when the pool is empty. Cost: the lcore's cache, 10 clocks.
    #[inline]
    pub fn packet(&self) -> Option<Packet> {
        // SAFETY: the pool lives as long as EAL; a returned mbuf is unshared and ours.
        let mbuf = unsafe { dpdk_sys::nfv_mbuf_alloc(self.pool.as_ptr()) };
        // SAFETY: `rte_pktmbuf_alloc` returned it just now, reset and with one reference.
        NonNull::new(mbuf).map(|mbuf| unsafe { Packet::from_raw(mbuf) })
    }

    /// A packet with these bytes; `None` when the pool is empty or they do not fit one mbuf.
    pub fn packet_of(&self, bytes: &[u8]) -> Option<Packet> {
        let mut packet = self.packet()?;
        if packet.append(bytes) {
            return Some(packet);
        }
        packet.free();
        None
    }

    /// Mbufs in use: with packets of ours, or with a device. Scans the lcores' caches; for the control side.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as EAL.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }

    /// Mbufs in all.
    pub fn size(&self) -> u32 {
        self.packets
    }

    /// Bytes of data that one mbuf holds.
    pub fn room(&self) -> u16 {
        self.room
    }

    /// For the calls of this module.
    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

/// Bytes before the data, for headers that are pushed.
pub(super) const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
