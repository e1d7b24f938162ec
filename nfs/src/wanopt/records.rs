//! What came into an encoder's log by one packet each, in the order of their places.

use std::collections::VecDeque;

/// A part of the log that came into it by one packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Where it begins.
    pub place: u64,
    /// Bytes of it.
    pub length: u16,
    /// Bytes of its headers, which come first.
    pub headers: u8,
    /// Whether the decoder has it.
    pub is_confirmed: bool,
    /// Of the flow.
    pub print: u32,
}

/// How many records there may be in so many bytes of log.
pub fn room_for(capacity: usize) -> usize {
    (capacity / RECORD).clamp(16, RECORDS_MAX)
}

/// Bytes of log for one record, and records at most: 24 bytes each.
const RECORD: usize = 512;
const RECORDS_MAX: usize = 1 << 26;

/// The records that are known of; all memory is taken when they are made.
#[derive(Debug)]
pub struct Records(VecDeque<Record>);

impl Records {
    /// With room for so many: the newest.
    pub fn new(room: usize) -> Self {
        Self(VecDeque::with_capacity(room))
    }

    /// Adds the newest one.
    pub fn push(&mut self, record: Record) {
        if self.0.len() == self.0.capacity() {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// The number of the one that begins last at or before a place.
    ///
    /// Cost: most are of about one size, so that the place says where it is but for a few.
    #[inline]
    pub fn find(&self, place: u64) -> Option<usize> {
        let (first, last) = (self.0.front()?.place, self.0.back()?.place);
        let behind = place.checked_sub(first)?;
        let (count, range) = (self.0.len(), last - first);
        if behind >= range {
            return Some(count - 1);
        }
        // Below 2^26 records, and logs below 2^37 bytes.
        let guess = usize::try_from(behind * (count as u64 - 1) / range).unwrap_or(0);
        let is_before = |at: usize| self.0.get(at).is_some_and(|record| record.place <= place);
        let (mut from, mut to, mut step) = (guess, guess + 1, 1);
        while !is_before(from) {
            to = from;
            from = from.saturating_sub(step);
            step *= 2;
        }
        while to < count && is_before(to) {
            from = to;
            to = (to + step).min(count);
            step *= 2;
        }
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            if is_before(middle) {
                from = middle;
            } else {
                to = middle;
            }
        }
        Some(from)
    }

    /// One by its number.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Record> {
        self.0.get(at)
    }

    /// The decoder has the one that is so many from the end, which is returned if that was not known.
    pub fn confirm(&mut self, from_end: u64) -> Option<Record> {
        let at = self.0.len().checked_sub(usize::try_from(from_end).ok()?)?;
        let record = self.0.get_mut(at).filter(|record| !record.is_confirmed)?;
        record.is_confirmed = true;
        Some(*record)
    }

    /// All, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_found_by_each_of_its_places(
            lengths in prop::collection::vec((1u16..2000, 0u64..300), 1..200), start in 0u64..1 << 40, room in 1usize..200,
        ) {
            let mut records = Records::new(room);
            let mut place = start;
            let mut all = Vec::new();
            for (length, gap) in lengths {
                let record = Record { place, length, headers: 0, is_confirmed: false, print: 0 };
                records.push(record);
                all.push(record);
                place += u64::from(length) + gap;
            }
            let kept = all.split_off(all.len() - records.0.len());
            for (at, record) in kept.iter().enumerate() {
                for place in [record.place, record.place + u64::from(record.length) - 1] {
                    prop_assert_eq!(records.find(place), Some(at));
                }
            }
            prop_assert_eq!(kept[0].place.checked_sub(1).and_then(|before| records.find(before)), None);
        }
    }
}
