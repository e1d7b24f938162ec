//! Longest-prefix match: DPDK's rte_fib (DIR-24-8) and rte_fib6 (a trie of 24 and then 8 bits), a burst a call.
//!
//! One or two memory accesses an address, however many routes there are. Chosen over rte_lpm for its 32-bit next hops.
//! DPDK Programmer's Guide, "FIB library".

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::{rte_fib, rte_fib6};

use super::mbuf::BURST_MAX;
use super::{errno_text, last_errno};

/// Why a table cannot be made or changed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {why}")]
pub struct FibError {
    call: &'static str,
    why: String,
}

/// A table of IPv4 prefixes: 64 MiB. Any number of threads look up while one changes it.
#[derive(Debug)]
pub struct Fib4 {
    fib: NonNull<rte_fib>,
    /// Held by whoever changes the table.
    writer: Mutex<()>,
}

/// A table of IPv6 prefixes: 64 MiB. Any number of threads look up while one changes it.
#[derive(Debug)]
pub struct Fib6 {
    fib: NonNull<rte_fib6>,
    /// Held by whoever changes the table.
    writer: Mutex<()>,
}

// SAFETY: the table is DPDK's own memory, and no call depends on the thread.
unsafe impl Send for Fib4 {}
// SAFETY: lookups only read words that a writer stores whole, in memory that the table keeps as long as it lives; writers
// hold the mutex. A group of 256 that is given back and taken again between two loads of one lookup makes that one lookup
// find another prefix's hop, which is a number like any other.
unsafe impl Sync for Fib4 {}
// SAFETY: as `Fib4`.
unsafe impl Send for Fib6 {}
// SAFETY: as `Fib4`.
unsafe impl Sync for Fib6 {}

fn name() -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("nfv_fib_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    CString::new(name).expect("made of letters and digits")
}

fn check(call: &'static str, code: i32) -> Result<(), FibError> {
    if code == 0 { Ok(()) } else { Err(FibError { call, why: errno_text(code) }) }
}

impl Fib4 {
    /// An empty table: every address finds hop 0.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create() -> Result<Self, FibError> {
        let name = name();
        // SAFETY: the name is NUL-terminated and copied; the numbers are checked by the call.
        let fib = unsafe { dpdk_sys::nfv_fib4_create(name.as_ptr(), -1, ROUTES_MAX, TBL8, 0) };
        match NonNull::new(fib) {
            Some(fib) => Ok(Self { fib, writer: Mutex::new(()) }),
            None => Err(FibError { call: "rte_fib_create", why: errno_text(last_errno()) }),
        }
    }

    /// Sets the hop of a prefix, whether it has one or not. `hop` is below 2^31.
    ///
    /// # Errors
    /// The table is full.
    pub fn set(&self, prefix: [u8; 4], length: u8, hop: u32) -> Result<(), FibError> {
        let _writer = self.writer.lock();
        let prefix = u32::from_be_bytes(prefix);
        // SAFETY: the table is alive, and the mutex keeps other writers out.
        let code =
            unsafe { dpdk_sys::nfv_fib4_add(self.fib.as_ptr(), prefix, length, u64::from(hop)) };
        check("rte_fib_add", code)
    }

    /// Removes a prefix.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, prefix: [u8; 4], length: u8) -> Result<(), FibError> {
        let _writer = self.writer.lock();
        // SAFETY: the table is alive, and the mutex keeps other writers out.
        let code = unsafe {
            dpdk_sys::nfv_fib4_delete(self.fib.as_ptr(), u32::from_be_bytes(prefix), length)
        };
        check("rte_fib_delete", code)
    }

    /// Looks up addresses, in host order; at most [`BURST_MAX`].
    #[inline]
    pub fn look_up(&self, addresses: &[u32], hops: &mut [u64; BURST_MAX]) {
        let n = addresses.len().min(BURST_MAX);
        // SAFETY: both arrays have room for `n`; the call reads the one and writes the other.
        unsafe {
            dpdk_sys::nfv_fib4_lookup(
                self.fib.as_ptr(),
                addresses.as_ptr(),
                hops.as_mut_ptr(),
                n as u32,
            )
        };
    }
}

impl Drop for Fib4 {
    fn drop(&mut self) {
        // SAFETY: this was the one owner, so nobody looks up any more.
        unsafe { dpdk_sys::rte_fib_free(self.fib.as_ptr()) }
    }
}

impl Fib6 {
    /// An empty table: every address finds hop 0.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create() -> Result<Self, FibError> {
        let name = name();
        // SAFETY: the name is NUL-terminated and copied; the numbers are checked by the call.
        let fib = unsafe { dpdk_sys::nfv_fib6_create(name.as_ptr(), -1, ROUTES_MAX, TBL8, 0) };
        match NonNull::new(fib) {
            Some(fib) => Ok(Self { fib, writer: Mutex::new(()) }),
            None => Err(FibError { call: "rte_fib6_create", why: errno_text(last_errno()) }),
        }
    }

    /// Sets the hop of a prefix, whether it has one or not. `hop` is below 2^31.
    ///
    /// # Errors
    /// The table is full.
    pub fn set(&self, prefix: [u8; 16], length: u8, hop: u32) -> Result<(), FibError> {
        let _writer = self.writer.lock();
        let fib = self.fib.as_ptr();
        // SAFETY: the table is alive, the prefix has 16 bytes, and the mutex keeps other writers out.
        let code = unsafe { dpdk_sys::nfv_fib6_add(fib, prefix.as_ptr(), length, u64::from(hop)) };
        check("rte_fib6_add", code)
    }

    /// Removes a prefix.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, prefix: [u8; 16], length: u8) -> Result<(), FibError> {
        let _writer = self.writer.lock();
        // SAFETY: the table is alive, the prefix has 16 bytes, and the mutex keeps other writers out.
        let code = unsafe { dpdk_sys::nfv_fib6_delete(self.fib.as_ptr(), prefix.as_ptr(), length) };
        check("rte_fib6_delete", code)
    }

    /// Looks up addresses; at most [`BURST_MAX`].
    #[inline]
    pub fn look_up(&self, addresses: &[[u8; 16]], hops: &mut [u64; BURST_MAX]) {
        let n = addresses.len().min(BURST_MAX);
        // SAFETY: both arrays have room for `n`; the call reads the one and writes the other.
        unsafe {
            dpdk_sys::nfv_fib6_lookup(
                self.fib.as_ptr(),
                addresses.as_ptr().cast::<u8>(),
                hops.as_mut_ptr(),
                n as u32,
            )
        };
    }
}

impl Drop for Fib6 {
    fn drop(&mut self) {
        // SAFETY: this was the one owner, so nobody looks up any more.
        unsafe { dpdk_sys::rte_fib6_free(self.fib.as_ptr()) }
    }
}

/// What a site has, and some thousand neighbours.
const ROUTES_MAX: u32 = 1 << 17;
/// Groups of 256 for prefixes longer than 24 bits; an IPv6 neighbour takes eight: 32 MiB.
const TBL8: u32 = 1 << 15;
