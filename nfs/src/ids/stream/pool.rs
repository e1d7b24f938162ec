//! Slots of one size out of pages, within a budget in bytes.
//!
//! A page is asked of the allocator when all slots are taken, and kept; a slot that is given back is the next to be taken,
//! while its lines are in the cache. So a packet costs no call of the allocator, and what is held is known to the byte.
//! The one rejected, an allocation a segment, costs 20 to 50 ns and an overhead that nobody accounts for.

/// What can lie in a [`Pool`]; free slots are linked by a number within them.
pub(in crate::ids) trait Slot: Default {
    /// The number that it is linked by.
    fn link(&self) -> u32;
    /// Sets it.
    fn set_link(&mut self, next: u32);
}

/// Slots by number, from 1 on; 0 is none.
#[derive(Debug)]
pub(in crate::ids) struct Pool<T> {
    pages: Vec<Box<[T]>>,
    pages_max: usize,
    /// Slots of a page are 2 to this power.
    shift: u32,
    /// Slots that were ever taken.
    fresh: u32,
    free: u32,
    taken: u32,
}

impl<T: Slot> Pool<T> {
    /// As many slots as `bytes` hold, in pages of about 64 KiB.
    pub(in crate::ids) fn new(bytes: usize) -> Self {
        let slot = size_of::<T>();
        let mut shift = (PAGE / slot).max(1).ilog2();
        // A small budget has small pages, at least a few of them.
        while shift > 0 && (slot << shift) + LINK > bytes / 8 {
            shift -= 1;
        }
        let most_slots = (SLOTS_MAX >> shift) as usize;
        let pages_max = (bytes / ((slot << shift) + LINK)).min(most_slots);
        let pages = Vec::with_capacity(pages_max);
        Self { pages, pages_max, shift, fresh: 0, free: 0, taken: 0 }
    }

    /// A slot, as it was left by who gave it back, or as new.
    #[inline]
    pub(in crate::ids) fn take(&mut self) -> Option<u32> {
        if self.free != 0 {
            let number = self.free;
            self.free = self.get(number).map_or(0, T::link);
            self.taken += 1;
            return Some(number);
        }
        if (self.fresh >> self.shift) as usize == self.pages.len() {
            self.add_page()?;
        }
        self.fresh += 1;
        self.taken += 1;
        Some(self.fresh)
    }

    #[cold]
    fn add_page(&mut self) -> Option<()> {
        if self.pages.len() == self.pages_max {
            return None;
        }
        let page: Vec<T> = std::iter::repeat_with(T::default).take(1 << self.shift).collect();
        self.pages.push(page.into_boxed_slice());
        Some(())
    }

    /// Gives a slot back that was taken.
    #[inline]
    pub(in crate::ids) fn give(&mut self, number: u32) {
        let free = self.free;
        let Some(slot) = self.get_mut(number) else { return };
        slot.set_link(free);
        self.free = number;
        self.taken -= 1;
    }

    #[inline(always)]
    pub(in crate::ids) fn get(&self, number: u32) -> Option<&T> {
        let (page, slot) = self.place(number);
        self.pages.get(page)?.get(slot)
    }

    #[inline(always)]
    pub(in crate::ids) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (page, slot) = self.place(number);
        self.pages.get_mut(page)?.get_mut(slot)
    }

    /// 0 becomes the last number that there is, which no page has.
    #[inline(always)]
    fn place(&self, number: u32) -> (usize, usize) {
        let at = number.wrapping_sub(1);
        ((at >> self.shift) as usize, (at & ((1 << self.shift) - 1)) as usize)
    }

    /// Slots that are taken.
    #[inline]
    pub(in crate::ids) fn taken(&self) -> u32 {
        self.taken
    }

    /// Slots that can still be taken.
    #[inline]
    pub(in crate::ids) fn left(&self) -> u32 {
        self.most() - self.taken
    }

    /// Slots that there can be.
    pub(in crate::ids) fn most(&self) -> u32 {
        (self.pages_max as u32) << self.shift
    }

    /// Bytes that it holds of the allocator's.
    pub(in crate::ids) fn reserved(&self) -> usize {
        let pages = self.pages.len() * (size_of::<T>() << self.shift);
        self.pages.capacity() * LINK + pages
    }
}

/// Bytes of a page, about.
const PAGE: usize = 64 << 10;
/// Bytes that a page costs besides.
const LINK: usize = size_of::<Box<[u8]>>();
/// Numbers that are told apart, with room for a bit or two beside them.
const SLOTS_MAX: u32 = 1 << 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Cell {
        next: u32,
        _bytes: [u64; 12],
    }

    impl Slot for Cell {
        fn link(&self) -> u32 {
            self.next
        }
        fn set_link(&mut self, next: u32) {
            self.next = next;
        }
    }

    #[test]
    fn a_pool_never_holds_more_than_its_bytes_and_uses_most_of_them() {
        for bytes in [0, 1, 99, 100, 1000, 12_345, 65_536, 1_000_000, 10_000_001] {
            let mut pool = Pool::<Cell>::new(bytes);
            let mut taken = 0;
            while pool.take().is_some() {
                taken += 1;
                assert!(pool.reserved() <= bytes);
            }
            assert_eq!(taken, pool.most());
            let used = taken as usize * size_of::<Cell>();
            assert!(bytes < 1000 || used > bytes * 3 / 4, "{used} of {bytes}");
        }
    }

    #[test]
    fn what_is_given_back_is_taken_next_and_no_slot_twice() {
        let mut pool = Pool::<Cell>::new(10_000);
        let [a, b, c] = [(); 3].map(|()| pool.take().expect("room"));
        assert_eq!([a, b, c], [1, 2, 3]);
        pool.give(b);
        pool.give(a);
        assert_eq!(pool.taken(), 1);
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(a), Some(b), Some(4)]);
        assert!(pool.get(0).is_none() && pool.get(u32::MAX).is_none());
    }
}
