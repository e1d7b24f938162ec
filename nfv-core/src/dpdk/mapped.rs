//! Memory that is a file: what is in it is there again after a restart.
//!
//! Who writes to a page of it for the first time waits for the kernel, and waits long while disks are slow. So that no
//! worker does, somebody beside it makes the pages ready that come next, and has those written back that are done:
//! [`Beside`]. Its blocks are taken when it is made, as a page for which the disk has no room ends the process (SIGBUS);
//! so does a disk that fails, or who cuts the file short while it is locked: the one thing that cannot be made up for.

use std::ffi::c_void;
use std::fs::File;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags, madvise, mmap, msync, munmap};

/// A file's bytes. Nobody else has the file meanwhile, as far as locks say.
#[derive(Debug)]
pub struct Mapped {
    pages: Arc<Pages>,
}

#[derive(Debug)]
struct Pages {
    start: NonNull<c_void>,
    bytes: usize,
    /// Locked as long as this is.
    file: File,
    /// How far its owner has come, by any measures of its own.
    reached: [AtomicU64; 2],
}

// SAFETY: it gives nobody access to what is in the pages; the kernel's calls on them may come from any thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Mapped {
    /// Maps a file that is `bytes` long, at least one, or made so. Its lock is taken.
    ///
    /// # Errors
    /// Another one has it (`WouldBlock`), or the disk has no room.
    pub fn new(file: File, bytes: usize) -> std::io::Result<Self> {
        file.try_lock()?;
        let bytes = bytes.max(1);
        file.set_len(bytes as u64)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no mapping that exists is touched. The file is as long as the mapping, and
        // locked against others that map it so: its bytes change by this mapping only.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &file, 0) };
        let start = NonNull::new(mapped?).expect("a mapping that succeeded is not at 0");
        let reached = [AtomicU64::new(0), AtomicU64::new(0)];
        Ok(Self { pages: Arc::new(Pages { start, bytes, file, reached }) })
    }

    /// Says how far its owner has come. Cost: two stores.
    #[inline]
    pub fn reach(&self, far: [u64; 2]) {
        for (to, far) in self.pages.reached.iter().zip(far) {
            to.store(far, Ordering::Relaxed);
        }
    }

    /// For who makes its pages ready, and has them written back.
    pub fn beside(&self) -> Beside {
        Beside(Arc::downgrade(&self.pages))
    }

    /// Waits until the pages of some bytes are on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self, range: Range<usize>) -> std::io::Result<()> {
        let start = range.start.min(self.pages.bytes) / PAGE * PAGE;
        let bytes = range.end.min(self.pages.bytes).saturating_sub(start);
        let at = self.pages.start.as_ptr().wrapping_byte_add(start);
        // SAFETY: the range begins at a page and lies in the mapping, and what is in it stays as it is.
        unsafe { msync(at, bytes, MsyncFlags::SYNC) }?;
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is the one made for these pages, and no reference into it outlives its `Mapped`.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}

impl Deref for Mapped {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is so long, and written by the owner of this only.
        unsafe { std::slice::from_raw_parts(self.pages.start.as_ptr().cast(), self.pages.bytes) }
    }
}

impl DerefMut for Mapped {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.pages.start.as_ptr().cast();
        // SAFETY: as in `deref`, and `&mut self` is the only way to its bytes.
        unsafe { std::slice::from_raw_parts_mut(start, self.pages.bytes) }
    }
}

/// Does for a file's memory what its owner has no time for.
#[derive(Debug)]
pub struct Beside(Weak<Pages>);

impl Beside {
    /// How far the owner has come. `None`: it is no more.
    pub fn reached(&self) -> Option<[u64; 2]> {
        let pages = self.0.upgrade()?;
        Some([0, 1].map(|at| pages.reached.get(at).map_or(0, |far| far.load(Ordering::Relaxed))))
    }

    /// Makes bytes ready to be written: their pages are in memory, and the disk knows of it.
    pub fn make_ready(&self, range: Range<usize>) {
        let Some(pages) = self.0.upgrade() else { return };
        let start = range.start / PAGE * PAGE;
        let Some(bytes) = range.end.min(pages.bytes).checked_sub(start) else { return };
        let at = pages.start.as_ptr().wrapping_byte_add(start);
        // Kernels before Linux 5.14 cannot do it; there the owner waits for its pages as it comes to them.
        // SAFETY: the range begins at a page and lies in the mapping, which `pages` keeps; what is in it stays as it is.
        let _ = unsafe { madvise(at, bytes, Advice::LinuxPopulateWrite) };
    }

    /// Has bytes written to the disk, and does not wait for it to be done.
    pub fn write_back(&self, range: Range<usize>) {
        use std::os::fd::AsRawFd;
        let Some(pages) = self.0.upgrade() else { return };
        let (Ok(start), Ok(bytes)) = (i64::try_from(range.start), i64::try_from(range.len()))
        else {
            return;
        };
        // SAFETY: the file is open as long as `pages` is, and no memory is touched.
        let _ = unsafe {
            libc::sync_file_range(pages.file.as_raw_fd(), start, bytes, libc::SYNC_FILE_RANGE_WRITE)
        };
    }
}

const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> std::io::Result<Mapped> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        Mapped::new(options.open(folder.path().join("file"))?, 3 * PAGE)
    }

    #[test]
    fn what_is_written_is_there_for_the_next_one_and_for_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(&folder).unwrap();
        assert_eq!((first.len(), first[2 * PAGE]), (3 * PAGE, 0));
        first[2 * PAGE] = 7;
        assert_eq!(open(&folder).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let beside = first.beside();
        beside.make_ready(100..1 << 20);
        beside.write_back(0..1 << 20);
        first.reach([1, 2]);
        assert_eq!(beside.reached(), Some([1, 2]));
        first.sync(0..usize::MAX).unwrap();
        drop(first);
        assert_eq!(beside.reached(), None);
        assert_eq!(open(&folder).unwrap()[2 * PAGE], 7);
    }
}
