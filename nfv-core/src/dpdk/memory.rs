//! Memory for tables: address space is reserved at once, pages come as they are used, huge ones where the kernel has them.
//!
//! A table of flows must grow without moving what is in it, and without a pause: so its place is reserved for the most
//! that it may ever hold, and costs nothing until it is touched. As the kernel zeroes a huge page for 100 us and more, who
//! has time touches the next one before it is needed: [`Ahead`]. The one rejected: EAL's heap, which wants all of it at
//! the start, or maps files in the middle of the packet path.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use zerocopy::FromZeros;

/// An array of `len` values, all zero at first, whose memory comes as it is touched.
#[derive(Debug)]
pub struct Reserved<T> {
    start: NonNull<T>,
    len: usize,
    pages: Arc<Pages>,
    values: PhantomData<T>,
}

/// The address space of a table. It is given back with the last who knows it.
#[derive(Debug)]
struct Pages {
    start: NonNull<c_void>,
    bytes: usize,
    /// Bytes from the start that are used; written by the table's owner.
    used: AtomicUsize,
}

// SAFETY: it owns its values, as a `Vec` does.
unsafe impl<T: Send> Send for Reserved<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Reserved<T> {}
// SAFETY: it gives nobody access to what is in the pages; the kernel's calls on them may come from any thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

/// There is no address space for a table.
#[derive(Debug, thiserror::Error)]
#[error("no room for a table of {bytes} bytes: mmap: {source}")]
pub struct ReserveError {
    bytes: usize,
    source: rustix::io::Errno,
}

impl<T: FromZeros> Reserved<T> {
    /// Reserves room for `len` values; at least one.
    ///
    /// # Errors
    /// The process may not have that much address space (`ulimit -v`).
    pub fn new(len: usize) -> Result<Self, ReserveError> {
        let len = len.max(1);
        let bytes = len.saturating_mul(size_of::<T>()).next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: no address is asked for, so no mapping that exists is touched.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) };
        let start = mapped.map_err(|source| ReserveError { bytes, source })?;
        // Small pages serve as well, only slower.
        // SAFETY: the range is the mapping made above; the advice changes nothing that can be seen.
        let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
        prefer_this_node(start, bytes);
        let start = NonNull::new(start).expect("a mapping that succeeded is not at 0");
        let pages = Arc::new(Pages { start, bytes, used: AtomicUsize::new(0) });
        Ok(Self { start: start.cast(), len, pages, values: PhantomData })
    }
}

impl<T> Reserved<T> {
    /// Says that values up to this number are in use, so that what comes behind them is made ready. Cost: a store.
    #[inline]
    pub fn reach(&self, number: usize) {
        self.pages.used.store(number.saturating_mul(size_of::<T>()), Ordering::Relaxed);
    }

    /// For who makes its memory ready.
    pub fn ahead(&self) -> Ahead {
        Ahead { pages: Arc::downgrade(&self.pages), ready: 0, used: 0 }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // The values need no drop: `FromZeros` does not say so, but all that is kept here is plain.
        // SAFETY: the mapping is the one made for these pages, and no reference into it outlives its `Reserved`.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// Makes a table's memory ready before it is needed, beside the worker that the table is of.
#[derive(Debug)]
pub struct Ahead {
    pages: Weak<Pages>,
    /// Bytes from the start that are ready.
    ready: usize,
    /// Bytes that were used at the last look.
    used: usize,
}

impl Ahead {
    /// Makes as much ready behind what is used as was used up since the last look: at least half a huge page, and at most a
    /// whole one. False: the table is no more.
    ///
    /// Kernels before Linux 5.14 cannot do it; there the table's owner waits for its pages as it comes to them.
    pub fn make_ready(&mut self) -> bool {
        let Some(pages) = self.pages.upgrade() else { return false };
        let used = pages.used.load(Ordering::Relaxed);
        let behind = used.saturating_sub(self.used).clamp(HUGE_PAGE / 2, HUGE_PAGE);
        let end = (used + behind).next_multiple_of(HUGE_PAGE).min(pages.bytes);
        self.used = used;
        if end > self.ready {
            let (start, bytes) =
                (pages.start.as_ptr().wrapping_byte_add(self.ready), end - self.ready);
            // SAFETY: from `ready` to `end` lies in the mapping, which `pages` keeps; what is in its pages stays as it is.
            let _ = unsafe { madvise(start, bytes, Advice::LinuxPopulateWrite) };
            self.ready = end;
        }
        true
    }
}

impl<T> Deref for Reserved<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` values, is aligned to a page, and its zeros are values (`FromZeros`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Reserved<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is the only way to them.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Has the kernel take a mapping's pages from the memory that is near to the calling thread, whoever touches them first.
fn prefer_this_node(start: *mut c_void, bytes: usize) {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: both are written, and nothing else; the third argument has not been used since Linux 2.6.24.
    let known = unsafe {
        libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, std::ptr::null_mut::<c_void>())
    };
    let mut nodes = [0u64; 16];
    let Some(word) = nodes.get_mut(node as usize / 64).filter(|_| known == 0) else { return };
    *word |= 1 << (node % 64);
    // Where it is not allowed (a container's seccomp) the pages come from wherever they are touched.
    // SAFETY: the range is a mapping of the caller's, of which only the placement changes; the kernel reads `nodes`.
    let _ = unsafe {
        let bits = 8 * size_of_val(&nodes) + 1;
        libc::syscall(libc::SYS_mbind, start, bytes, libc::MPOL_PREFERRED, nodes.as_ptr(), bits, 0)
    };
}

/// Asks the CPU to fetch the line where a value starts; costs nothing when it is there.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    super::mbuf::fetch(std::ptr::from_ref(value).cast::<u8>());
}

const HUGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Huge pages' worth of a range that has memory. (Not by /proc/self/smaps: mappings side by side are one there.)
    fn resident(words: &[u64]) -> usize {
        let mut pages = vec![0u8; size_of_val(words).div_ceil(4096)];
        let start = words.as_ptr().cast_mut().cast();
        // SAFETY: the range is a mapping of `Reserved`, and `pages` has a byte for each of its pages.
        let code = unsafe { libc::mincore(start, size_of_val(words), pages.as_mut_ptr()) };
        assert_eq!(code, 0);
        pages.iter().filter(|page| **page & 1 == 1).count() * 4096 / HUGE_PAGE
    }

    #[test]
    fn memory_is_ready_behind_what_is_used_and_no_further() {
        let words = Reserved::<u64>::new(64 << 20).unwrap();
        let page = HUGE_PAGE / 8;
        let mut ahead = words.ahead();
        assert_eq!(resident(&words), 0);
        assert!(ahead.make_ready());
        assert_eq!(resident(&words), 1);
        words.reach(page / 4);
        assert!(ahead.make_ready());
        assert_eq!(resident(&words), 1, "half of it is left");
        words.reach(page / 2 + 1);
        assert!(ahead.make_ready());
        assert_eq!(resident(&words), 2);
        words.reach(3 * page);
        assert!(ahead.make_ready());
        assert_eq!(resident(&words), 4, "it grows fast, but what it does not need costs memory");
        drop(words);
        assert!(!ahead.make_ready());
    }

    #[test]
    fn what_is_reserved_is_zero_and_keeps_what_is_written() {
        // 64 GiB of address space, of which two pages are used.
        let mut words = Reserved::<u64>::new(1 << 33).unwrap();
        assert_eq!((words.len(), words[0], words[(1 << 33) - 1]), (1 << 33, 0, 0));
        words[1 << 32] = 7;
        assert_eq!(words[1 << 32], 7);
    }
}
