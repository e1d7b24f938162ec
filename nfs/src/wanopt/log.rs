//! What an end keeps of what passed: bytes, each at a place that both ends number alike.
//!
//! A ring: the newest overwrite the oldest. The encoder gives places out; the decoder writes what came where it belongs,
//! so that what got lost leaves a hole with older bytes in it. Who may read what is not known here.

use super::records::Record;
use super::store::{Names, Store};

/// Bytes by place.
#[derive(Debug)]
pub struct Log {
    bytes: Bytes,
    /// Behind the newest byte.
    head: u64,
}

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    InMemory(Box<[u8]>),
    InFile(Box<Store>),
}

impl Bytes {
    #[inline]
    fn all(&self) -> &[u8] {
        match self {
            Self::InMemory(bytes) => bytes,
            Self::InFile(store) => store.bytes(),
        }
    }

    #[inline]
    fn all_mut(&mut self) -> &mut [u8] {
        match self {
            Self::InMemory(bytes) => bytes,
            Self::InFile(store) => store.bytes_mut(),
        }
    }
}

impl Log {
    /// For so many bytes, at least one; their memory is taken when they are first written.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: Bytes::InMemory(vec![0; capacity.max(1)].into()), head: 0 }
    }

    /// In a file, of which the newest byte is before `head`.
    pub fn stored(store: Store, head: u64) -> Self {
        Self { bytes: Bytes::InFile(Box::new(store)), head }
    }

    /// How many bytes it keeps.
    pub fn capacity(&self) -> u64 {
        self.bytes.all().len() as u64
    }

    /// The file, if it is in one.
    pub fn store(&self) -> Option<&Store> {
        match &self.bytes {
            Bytes::InFile(store) => Some(store),
            Bytes::InMemory(_) => None,
        }
    }

    /// Notes that a record is written, so that it counts when the box starts again.
    #[inline]
    pub fn note(&mut self, number: u32, record: &Record, bytes: [&[u8]; 2]) {
        let head = self.head;
        if let Bytes::InFile(store) = &mut self.bytes {
            store.note(number, record, bytes, head);
        }
    }

    /// Notes that the decoder has a record.
    #[inline]
    pub fn confirm(&mut self, number: u32) {
        if let Bytes::InFile(store) = &mut self.bytes {
            store.confirm(number);
        }
    }

    /// Behind the newest byte.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Whether the bytes of such a place are those of that place, if they were written.
    pub fn has(&self, place: u64, length: usize) -> bool {
        let end = place.checked_add(length as u64);
        let oldest = self.head.saturating_sub(self.capacity());
        end.is_some_and(|end| end <= self.head) && place >= oldest
    }

    /// Writes bytes at a place, which is not before what it keeps. Nothing, if they are too many.
    pub fn write(&mut self, place: u64, bytes: &[u8]) {
        let Some(end) = place.checked_add(bytes.len() as u64) else { return };
        if bytes.len() > self.bytes.all().len() {
            return;
        }
        self.head = self.head.max(end);
        let (first, second) = self.parts(place, bytes.len());
        let (a, b) = bytes.split_at(first.len());
        let ring = self.bytes.all_mut();
        if let Some(to) = ring.get_mut(first) {
            to.copy_from_slice(a);
        }
        if let Some(to) = ring.get_mut(second) {
            to.copy_from_slice(b);
        }
    }

    /// The bytes of a place, in two parts where the ring closes; empty, when it has none there.
    pub fn read(&self, place: u64, length: usize) -> [&[u8]; 2] {
        if !self.has(place, length) {
            return [&[]; 2];
        }
        let (first, second) = self.parts(place, length);
        [first, second].map(|part| self.bytes.all().get(part).unwrap_or_default())
    }

    /// Adds the bytes of a place to `out`. `None`: it has none there.
    pub fn read_to(&self, place: u64, length: usize, out: &mut Vec<u8>) -> Option<()> {
        if !self.has(place, length) {
            return None;
        }
        self.read(place, length).into_iter().for_each(|part| out.extend_from_slice(part));
        Some(())
    }

    /// Forgets all; places start again.
    pub fn clear(&mut self, names: Names) {
        self.head = 0;
        if let Bytes::InFile(store) = &mut self.bytes {
            store.rename(names);
        }
    }

    /// Where in the ring `length` bytes are, no more than it has.
    fn parts(&self, place: u64, length: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let start = usize::try_from(place % self.capacity()).unwrap_or(0);
        let first = length.min(self.bytes.all().len() - start);
        (start..start + first, 0..length - first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_the_newest_bytes_and_says_what_it_has_no_more(
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..40)
        ) {
            let (mut log, mut all) = (Log::new(100), Vec::new());
            for bytes in &writes {
                log.write(log.head(), bytes);
                all.extend_from_slice(bytes);
                let oldest = all.len().saturating_sub(100);
                let mut out = Vec::new();
                prop_assert!(log.read_to(oldest as u64, all.len() - oldest, &mut out).is_some());
                prop_assert_eq!(&out, &all[oldest..]);
                prop_assert!(oldest == 0 || log.read_to(oldest as u64 - 1, 1, &mut out).is_none());
                prop_assert!(log.read_to(all.len() as u64, 1, &mut out).is_none());
            }
        }
    }

    #[test]
    fn places_beyond_all_numbers_are_not_there() {
        let mut log = Log::new(10);
        log.write(u64::MAX - 2, &[1; 8]);
        log.write(0, &[1; 11]);
        assert_eq!(log.head(), 0);
        assert!(!log.has(u64::MAX, 5));
    }
}
