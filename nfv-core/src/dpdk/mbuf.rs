//! Packets: owners of mbufs.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use super::mempool::Mempool;

/// Most packets of one receive call; enough to hide a memory access behind the others.
pub const BURST_MAX: usize = 32;

/// Packets as a receive call leaves them and a transmit call takes them: pointers side by side.
pub type Packets = ArrayVec<Packet, BURST_MAX>;

/// Owns one packet: a chain of one or more mbufs, to which nobody else has a reference but [`SharedPacket`]s of it.
///
/// Neither `Clone` nor `Copy`, so it cannot be freed twice:
/// ```compile_fail
/// fn twice(packet: nfv_core::dpdk::Packet) {
///     packet.free();
///     packet.free();
/// }
/// ```
/// Whoever ends its life says so: [`Packet::free`], transmit, or a queue. A packet that is merely dropped is freed too,
/// but counted as unaccounted ([`unaccounted_packets`]), which is a bug.
#[repr(transparent)]
#[derive(Debug)]
pub struct Packet(NonNull<rte_mbuf>);

// SAFETY: the one owner of an unshared mbuf may be any thread; mempools take mbufs back from any.
unsafe impl Send for Packet {}

static UNACCOUNTED: AtomicU64 = AtomicU64::new(0);

/// Packets that were dropped by Rust's rules and not by name: 0 in a program without bugs.
pub fn unaccounted_packets() -> u64 {
    UNACCOUNTED.load(Ordering::Relaxed)
}

impl Drop for Packet {
    fn drop(&mut self) {
        UNACCOUNTED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `self` owns the mbuf, and is gone after this.
        unsafe { dpdk_sys::nfv_mbuf_free(self.0.as_ptr()) }
    }
}

macro_rules! field {
    ($name:ident, $kind:ty, $offset:ident) => {
        #[inline(always)]
        fn $name(&self) -> $kind {
            // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
            let at = unsafe { self.0.as_ptr().cast::<u8>().add(dpdk_sys::$offset as usize) };
            // SAFETY: the field has this type and alignment, and the mbuf is ours.
            unsafe { at.cast::<$kind>().read() }
        }
    };
}

impl Packet {
    field!(buffer, *mut u8, NFV_MBUF_BUF_ADDR);
    field!(data_offset, u16, NFV_MBUF_DATA_OFF);
    field!(data_length, u16, NFV_MBUF_DATA_LEN);
    field!(packet_length, u32, NFV_MBUF_PKT_LEN);
    field!(flags, u64, NFV_MBUF_OL_FLAGS);
    field!(hash, u32, NFV_MBUF_RSS);
    field!(mark_value, u32, NFV_MBUF_MARK);
    field!(next, *mut rte_mbuf, NFV_MBUF_NEXT);
    field!(tx_offload, u64, NFV_MBUF_TX_OFFLOAD);

    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// `mbuf` is valid, and nobody else holds a reference to it.
    #[inline(always)]
    pub(super) unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Bytes in all segments.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.packet_length()
    }

    /// Says how long a captured packet was on the wire, when the capture holds less of it. For packets that no device
    /// will see: a driver would read beyond the data.
    pub fn set_wire_length(&mut self, bytes: u32) {
        let length = bytes.max(u32::from(self.data_length()));
        let base = self.0.as_ptr().cast::<u8>();
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_PKT_LEN as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u32>().write(length) }
    }

    /// Says where in its capture it is, from 1. For packets that no device will see: a driver would read another thing there.
    pub fn set_place(&mut self, place: u64) {
        let base = self.0.as_ptr().cast::<u8>();
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_TX_OFFLOAD as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u64>().write(place) };
    }

    /// Where in its capture it is, from 1, if it is of a capture.
    pub fn place(&self) -> Option<u64> {
        Some(self.tx_offload()).filter(|place| *place > 0)
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first segment's bytes: the whole packet, when it has one segment.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: `data_off` is inside the buffer of this mbuf.
        let start = unsafe { self.buffer().add(usize::from(self.data_offset())) };
        // SAFETY: `data_len` bytes from there are initialised and belong to this mbuf, which `self` owns.
        unsafe { std::slice::from_raw_parts(start, usize::from(self.data_length())) }
    }

    /// The first segment's bytes, to change. Of a packet that is shared they are copied first; where there is no room for
    /// that, there are none: who shares packets that are changed later copies them instead.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        if !self.own() {
            return &mut [];
        }
        // SAFETY: `data_off` is inside the buffer of this mbuf.
        let start = unsafe { self.buffer().add(usize::from(self.data_offset())) };
        // SAFETY: `data_len` bytes from there belong to this mbuf, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(start, usize::from(self.data_length())) }
    }

    /// How many mbufs hold it.
    #[inline(always)]
    pub fn segment_count(&self) -> u16 {
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { self.0.as_ptr().cast::<u8>().add(dpdk_sys::NFV_MBUF_NB_SEGS as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u16>().read() }
    }

    /// Moves all bytes into the first segment. False, and nothing changes, when they do not fit there.
    pub fn linearize(&mut self) -> bool {
        if !self.own() {
            return false;
        }
        // SAFETY: the mbuf is ours; the call checks the room.
        unsafe { dpdk_sys::nfv_mbuf_linearize(self.0.as_ptr()) == 0 }
    }

    /// Copies the bytes of all segments to `out`'s end.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.data());
        let mut next = NonNull::new(self.next());
        while let Some(mbuf) = next {
            // A segment is looked at as a packet, and is not freed by it.
            // SAFETY: `next` of an mbuf that is ours is ours.
            let segment = std::mem::ManuallyDrop::new(unsafe { Self::from_raw(mbuf) });
            out.extend_from_slice(segment.data());
            next = NonNull::new(segment.next());
        }
    }

    /// Adds bytes at the end of a packet of one segment. False, and nothing changes, when there is no room.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if !self.own() {
            return false;
        }
        let Ok(length) = u16::try_from(bytes.len()) else { return false };
        // SAFETY: the mbuf is ours; the call checks the room and returns null when there is too little.
        let at = unsafe { dpdk_sys::nfv_mbuf_append(self.0.as_ptr(), length) };
        let Some(at) = NonNull::new(at) else { return false };
        // SAFETY: `at` is the start of `length` bytes that the packet has just grown by; the source is not in it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.as_ptr().cast::<u8>(), bytes.len())
        };
        true
    }

    /// Puts `bytes` zeros before the first byte, and returns all there are then. `None`, and nothing changes, when there is
    /// too little room.
    pub fn prepend(&mut self, bytes: u16) -> Option<&mut [u8]> {
        if !self.own() {
            return None;
        }
        // SAFETY: the mbuf is ours; the call checks the room and returns null when there is too little.
        let at = unsafe { dpdk_sys::nfv_mbuf_prepend(self.0.as_ptr(), bytes) };
        let at = NonNull::new(at)?.as_ptr().cast::<u8>();
        // SAFETY: `at` is the start of `bytes` bytes that the packet has just grown by.
        unsafe { at.write_bytes(0, usize::from(bytes)) };
        Some(self.data_mut())
    }

    /// Takes `bytes` off the end. False, and nothing changes, when the last segment has fewer.
    pub fn trim(&mut self, bytes: u16) -> bool {
        if !self.own() {
            return false;
        }
        // SAFETY: the mbuf is ours; the call checks the length.
        unsafe { dpdk_sys::nfv_mbuf_trim(self.0.as_ptr(), bytes) == 0 }
    }

    /// A second reference to its one segment, to read: the bytes are not copied. `None`: it has several segments.
    ///
    /// # Cost
    /// An addition to the mbuf's first line, and one more when it is freed.
    pub fn share(&self) -> Option<SharedPacket> {
        if self.segment_count() != 1 {
            return None;
        }
        // SAFETY: the mbuf is alive: `self` has a reference to it.
        unsafe { dpdk_sys::nfv_mbuf_refer(self.0.as_ptr()) };
        let (start, length) = (self.data_offset(), self.data_length());
        Some(SharedPacket { mbuf: self.0, start, length, wire_length: self.len() })
    }

    /// Makes its bytes its own, if they are shared: by a copy. False: there is no room for one.
    #[inline(always)]
    fn own(&mut self) -> bool {
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { self.0.as_ptr().cast::<u8>().add(dpdk_sys::NFV_MBUF_REFCNT as usize) };
        // SAFETY: the field has this type and alignment, and whoever else has a reference changes it atomically.
        let references = unsafe { AtomicU16::from_ptr(at.cast::<u16>()) };
        // What others have read of it, they have read when they let go.
        references.load(Ordering::Acquire) == 1 || self.make_own()
    }

    #[cold]
    fn make_own(&mut self) -> bool {
        let (length, wire_length) = (self.data_length(), self.len());
        // SAFETY: the mbuf is alive.
        let pool = unsafe { dpdk_sys::nfv_mbuf_pool(self.0.as_ptr()) };
        let bytes = if self.segment_count() == 1 { u32::from(length) } else { wire_length };
        // SAFETY: both are alive; the call reads from ours and returns a new, unshared mbuf or null.
        let copy = unsafe { dpdk_sys::rte_pktmbuf_copy(self.0.as_ptr(), pool, 0, bytes) };
        let Some(copy) = NonNull::new(copy) else { return false };
        // SAFETY: a copy made just now has no other owner.
        let mut copy = unsafe { Self::from_raw(copy) };
        copy.set_wire_length(wire_length);
        std::mem::replace(self, copy).free();
        true
    }

    /// A copy of the first `bytes` at most, from `pool`; `None` when the pool is empty.
    pub fn copy(&self, pool: &Mempool, bytes: u32) -> Option<Self> {
        // SAFETY: both are alive; the call reads from ours and returns a new, unshared mbuf or null.
        let copy = unsafe { dpdk_sys::rte_pktmbuf_copy(self.0.as_ptr(), pool.as_ptr(), 0, bytes) };
        // SAFETY: a copy made just now has no other owner.
        NonNull::new(copy).map(|mbuf| unsafe { Self::from_raw(mbuf) })
    }

    /// The NIC's hash of the flow, when it made one.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        (self.flags() & dpdk_sys::NFV_RX_RSS_HASH != 0).then(|| self.hash())
    }

    /// Writes the hash of the flow, as a NIC does that made one.
    #[inline]
    pub fn set_rss_hash(&mut self, hash: u32) {
        let flags = self.flags() | dpdk_sys::NFV_RX_RSS_HASH;
        let base = self.0.as_ptr().cast::<u8>();
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_RSS as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u32>().write(hash) };
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_OL_FLAGS as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u64>().write(flags) };
    }

    /// What a rule of the NIC's wrote into it (a rule's MARK), when one did.
    ///
    /// Cost: the mbuf's first line, which whoever looks at a packet has read.
    #[inline(always)]
    pub fn mark(&self) -> Option<u32> {
        (self.flags() & dpdk_sys::NFV_RX_MARK == dpdk_sys::NFV_RX_MARK).then(|| self.mark_value())
    }

    /// Writes what a rule of a NIC's would write, or takes it away.
    #[inline]
    pub fn set_mark(&mut self, mark: Option<u32>) {
        let base = self.0.as_ptr().cast::<u8>();
        let flags = match mark {
            Some(_) => self.flags() | dpdk_sys::NFV_RX_MARK,
            None => self.flags() & !dpdk_sys::NFV_RX_MARK,
        };
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_OL_FLAGS as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u64>().write(flags) };
        let Some(mark) = mark else { return };
        // SAFETY: the offset is that of the field in the installed DPDK's `struct rte_mbuf`.
        let at = unsafe { base.add(dpdk_sys::NFV_MBUF_MARK as usize) };
        // SAFETY: the field has this type and alignment, and the mbuf is ours.
        unsafe { at.cast::<u32>().write(mark) };
    }

    /// What the NIC says of the IPv4 header's checksum; `None`: it did not look.
    #[inline]
    pub fn ip_checksum_good(&self) -> Option<bool> {
        match self.flags() & dpdk_sys::NFV_RX_IP_CKSUM_MASK {
            dpdk_sys::NFV_RX_IP_CKSUM_GOOD => Some(true),
            dpdk_sys::NFV_RX_IP_CKSUM_BAD => Some(false),
            _ => None,
        }
    }

    /// Asks the CPU to fetch the mbuf's first line; costs nothing when it is there.
    #[inline(always)]
    pub fn prefetch(&self) {
        fetch(self.0.as_ptr().cast::<u8>());
    }

    /// Asks the CPU to fetch the first line of data.
    #[inline(always)]
    pub fn prefetch_data(&self) {
        fetch(self.buffer().wrapping_add(usize::from(self.data_offset())));
    }

    /// Ends its life by name: the caller has counted it.
    #[inline]
    pub fn free(self) {
        let mbuf = self.0.as_ptr();
        std::mem::forget(self);
        // SAFETY: the one owner is gone, so nobody uses the mbuf any more.
        unsafe { dpdk_sys::nfv_mbuf_free(mbuf) }
    }

    /// Ends the lives of a burst, a pool at a time: cheaper than one by one. The caller has counted them.
    #[inline]
    pub fn free_all(packets: &mut Packets) {
        if packets.is_empty() {
            return;
        }
        let count = packets.len();
        // SAFETY: no element is used again; the bulk call below owns them all.
        unsafe { packets.set_len(0) };
        // SAFETY: `Packet` is a transparent non-null pointer, and the first `count` slots still hold what they held.
        unsafe {
            dpdk_sys::rte_pktmbuf_free_bulk(
                packets.as_mut_ptr().cast::<*mut rte_mbuf>(),
                count as u32,
            )
        };
    }
}

/// A reference to a packet's bytes as they were when it was shared, to read: any thread's.
///
/// The packet goes on, and is freed when the last one lets it go.
#[derive(Debug)]
pub struct SharedPacket {
    mbuf: NonNull<rte_mbuf>,
    start: u16,
    length: u16,
    wire_length: u32,
}

// SAFETY: it reads bytes that nobody writes while there are several references, and takes one off atomically.
unsafe impl Send for SharedPacket {}

impl SharedPacket {
    /// Of a packet that is nobody else's any more.
    pub fn of(packet: Packet) -> Self {
        let (start, length) = (packet.data_offset(), packet.data_length());
        let this = Self { mbuf: packet.0, start, length, wire_length: packet.len() };
        std::mem::forget(packet);
        this
    }

    /// Its bytes.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // An mbuf that this holds a reference to is looked at as a packet, and is not freed by it.
        // SAFETY: the reference keeps it alive.
        let packet = std::mem::ManuallyDrop::new(unsafe { Packet::from_raw(self.mbuf) });
        // SAFETY: `start` is inside the buffer of the mbuf.
        let start = unsafe { packet.buffer().add(usize::from(self.start)) };
        // SAFETY: `length` bytes from there were the packet's, and `Packet` gives them to no writer while they are shared.
        unsafe { std::slice::from_raw_parts(start, usize::from(self.length)) }
    }

    /// Its length on the wire.
    pub fn wire_length(&self) -> u32 {
        self.wire_length
    }
}

impl Drop for SharedPacket {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's, and gone after this; the mbuf goes back with the last.
        unsafe { dpdk_sys::nfv_mbuf_free(self.mbuf.as_ptr()) }
    }
}

#[inline(always)]
pub(super) fn fetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults on nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = at;
    }
}
