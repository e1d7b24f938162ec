//! Memory for tables: address space is reserved at once, pages come as they are used, huge ones where the kernel has them.
//!
//! A table of flows must grow without moving what is in it, and without a pause: so its place is reserved for the most
//! that it may ever hold, and costs nothing until it is touched. The one rejected: EAL's heap, which wants all of it at
//! the start, or maps files in the middle of the packet path.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use zerocopy::FromZeros;

/// An array of `len` values, all zero at first, whose memory comes as it is touched.
#[derive(Debug)]
pub struct Reserved<T> {
    start: NonNull<T>,
    len: usize,
    bytes: usize,
    values: PhantomData<T>,
}

// SAFETY: it owns its values, as a `Vec` does.
unsafe impl<T: Send> Send for Reserved<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Reserved<T> {}

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
        let start = NonNull::new(start.cast::<T>()).expect("a mapping that succeeded is not at 0");
        Ok(Self { start, len, bytes, values: PhantomData })
    }
}

impl<T> Drop for Reserved<T> {
    fn drop(&mut self) {
        // The values need no drop: `FromZeros` does not say so, but all that is kept here is plain.
        // SAFETY: the mapping is the one made by `new`, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.bytes) };
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

/// Asks the CPU to fetch the line where a value starts; costs nothing when it is there.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    super::mbuf::fetch(std::ptr::from_ref(value).cast::<u8>());
}

const HUGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_zero_and_keeps_what_is_written() {
        // 64 GiB of address space, of which two pages are used.
        let mut words = Reserved::<u64>::new(1 << 33).unwrap();
        assert_eq!((words.len(), words[0], words[(1 << 33) - 1]), (1 << 33, 0, 0));
        words[1 << 32] = 7;
        assert_eq!(words[1 << 32], 7);
    }
}
