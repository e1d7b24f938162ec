//! A timer wheel: a shard's flows, by when they are to be looked at.
//!
//! A packet writes the time into its flow and nothing else. The wheel looks at a flow when its time may be up, and puts
//! it back further on when packets came meanwhile: one look a flow in each turn of the wheel, however many packets. A
//! flow is linked at its slot's end, so that within a slot the oldest comes first.

use super::key::Address;
use super::table::Table;
use crate::clock::Time;

/// Time on a wheel: 2^24 ns, about 17 ms, a tick. It goes round in two years; only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick(pub u32);

impl Tick {
    /// Of a time.
    #[inline(always)]
    pub fn of(now: Time) -> Self {
        Self((now.0 >> TICK_BITS) as u32)
    }

    /// Ticks from `earlier` to this one; 0 when this is the earlier one.
    #[inline(always)]
    pub fn since(self, earlier: Self) -> u32 {
        let passed = self.0.wrapping_sub(earlier.0);
        if passed > u32::MAX / 2 { 0 } else { passed }
    }

    /// Ticks as seconds.
    pub fn seconds(ticks: u32) -> u32 {
        ((u64::from(ticks) << TICK_BITS) / 1_000_000_000) as u32
    }

    fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Where its slot starts.
    fn start(self) -> Self {
        Self(self.0 & !(SLOT_TICKS - 1))
    }

    /// The slot in which a wheel has it.
    fn slot(self) -> usize {
        (self.0 / SLOT_TICKS) as usize % SLOTS
    }

    /// Ticks of a number of seconds, rounded up; at most a year's.
    pub const fn ticks(seconds: u32) -> u32 {
        let seconds = if seconds > 31_536_000 { 31_536_000 } else { seconds };
        ((seconds as u64 * 1_000_000_000) >> TICK_BITS) as u32 + 1
    }
}

/// A shard's flows of one family and kind, linked through their entries.
#[derive(Debug)]
pub struct Wheel {
    /// First and last entry of each slot.
    slots: Box<[(u32, u32); SLOTS]>,
    /// Which slots have any.
    occupied: [u64; SLOTS / 64],
    /// Where the slot starts that is looked at next.
    hand: Tick,
    len: u32,
}

impl Wheel {
    /// An empty one; `now` is where it starts.
    pub fn new(now: Tick) -> Self {
        Self {
            slots: Box::new([(0, 0); SLOTS]),
            occupied: [0; SLOTS / 64],
            hand: now.start(),
            len: 0,
        }
    }

    /// How many flows it has.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Links a flow, to be looked at after `ticks`, or after the wheel's turn when that comes first.
    pub fn link<A: Address>(&mut self, table: &mut Table<A>, number: u32, now: Tick, ticks: u32) {
        // Rounded up: not before its time. A hand that lags behind now must not be overtaken.
        let due = now.plus(ticks.min(HORIZON)).start().plus(SLOT_TICKS);
        let due = if due.since(self.hand) > HORIZON { self.hand.plus(HORIZON) } else { due };
        let at = due.slot();
        let Some((first, last)) = self.slots.get_mut(at) else { return };
        let before = *last;
        *last = number;
        if before == 0 {
            *first = number;
        }
        if let Some(word) = self.occupied.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
        self.len += 1;
        if let Some(entry) = table.get_mut(number) {
            (entry.prev, entry.next, entry.slot) = (before, 0, at as u8);
        }
        if before != 0
            && let Some(entry) = table.get_mut(before)
        {
            entry.next = number;
        }
    }

    /// Takes a flow out that is on this wheel.
    pub fn unlink<A: Address>(&mut self, table: &mut Table<A>, number: u32) {
        let Some((prev, next, slot)) = table.get(number).map(|e| (e.prev, e.next, e.slot)) else {
            return;
        };
        if let Some(entry) = table.get_mut(prev).filter(|_| prev != 0) {
            entry.next = next;
        }
        if let Some(entry) = table.get_mut(next).filter(|_| next != 0) {
            entry.prev = prev;
        }
        let at = usize::from(slot);
        let Some((first, last)) = self.slots.get_mut(at) else { return };
        if prev == 0 {
            *first = next;
        }
        if next == 0 {
            *last = prev;
        }
        if let (0, Some(word)) = (*first, self.occupied.get_mut(at / 64)) {
            *word &= !(1 << (at % 64));
        }
        self.len -= 1;
    }

    /// The next flow whose time may be up, not taken out yet; `None` when the hand has reached `now`.
    pub fn due(&mut self, now: Tick) -> Option<u32> {
        let end = now.start();
        while end.since(self.hand) > 0 || end == self.hand {
            let (first, _) = self.slots.get(self.hand.slot())?;
            if *first != 0 {
                return Some(*first);
            }
            // A long pause is passed over at once, or in one turn.
            self.hand = if self.is_empty() { end } else { self.hand }.plus(SLOT_TICKS);
        }
        None
    }

    /// The flow that is to be looked at first. Of flows linked for the same ticks, the oldest.
    pub fn first(&self) -> Option<u32> {
        let start = self.hand.slot();
        let at = (0..=self.occupied.len())
            .map(|i| (start / 64 + i) % self.occupied.len())
            .enumerate()
            .find_map(|(turn, word)| {
                let bits = *self.occupied.get(word)?;
                // Of the hand's own word, first what is ahead of the hand; after a turn, what is behind it.
                let ahead = u64::MAX << (start % 64);
                let bits = match turn {
                    0 => bits & ahead,
                    t if t == self.occupied.len() => bits & !ahead,
                    _ => bits,
                };
                (bits != 0).then(|| 64 * word + bits.trailing_zeros() as usize)
            })?;
        self.slots.get(at).map(|(first, _)| *first)
    }
}

const TICK_BITS: u32 = 24;
/// Ticks a slot: 268 ms.
const SLOT_TICKS: u32 = 16;
/// As many as [`Entry::slot`](super::entry::Entry::slot) tells apart.
const SLOTS: usize = 256;
/// Ticks of a turn, less the slot of the hand and the one of rounding.
const HORIZON: u32 = (SLOTS as u32 - 2) * SLOT_TICKS;

#[cfg(test)]
mod tests {
    use super::super::key::{Secret, Tuple};
    use zerocopy::FromZeros;

    use super::*;
    use crate::flow::entry::Entry;

    fn table_of(flows: u32) -> Table<[u8; 4]> {
        let mut table = Table::new(flows, Secret::random()).unwrap();
        for i in 0..flows {
            let mut entry = Entry::new_zeroed();
            let tuple = Tuple { src: i.to_be_bytes(), dst: [1; 4], sport: 1, dport: 2 };
            entry.tuples = [tuple, tuple.turned()];
            assert_eq!(table.insert(entry), Ok(i + 1));
        }
        table
    }

    #[test]
    fn a_flow_is_due_after_its_time_and_not_before() {
        let mut table = table_of(3);
        let start = Tick(u32::MAX - 100);
        let mut wheel = Wheel::new(start);
        wheel.link(&mut table, 1, start, Tick::ticks(30));
        wheel.link(&mut table, 2, start, Tick::ticks(1));
        wheel.link(&mut table, 3, start, Tick::ticks(432_000));
        assert_eq!(wheel.first(), Some(2));
        assert_eq!(wheel.due(start.plus(Tick::ticks(1) - 1)), None);
        assert_eq!(wheel.due(start.plus(Tick::ticks(2))), Some(2));
        wheel.unlink(&mut table, 2);
        assert_eq!(wheel.due(start.plus(Tick::ticks(29))), None);
        assert_eq!(wheel.due(start.plus(Tick::ticks(31))), Some(1));
        // Put further on, as packets came.
        wheel.unlink(&mut table, 1);
        wheel.link(&mut table, 1, start.plus(Tick::ticks(31)), Tick::ticks(30));
        assert_eq!(wheel.due(start.plus(Tick::ticks(60))), None);
        assert_eq!(wheel.due(start.plus(Tick::ticks(62))), Some(1));
        wheel.unlink(&mut table, 1);
        // The long one is looked at once a turn.
        assert_eq!(wheel.due(start.plus(Tick::ticks(75))), Some(3));
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn flows_of_a_slot_come_in_their_order_wherever_one_is_taken_out() {
        let mut table = table_of(5);
        let mut wheel = Wheel::new(Tick(0));
        for number in 1..=5 {
            wheel.link(&mut table, number, Tick(0), 10);
        }
        for number in [3, 1, 5] {
            wheel.unlink(&mut table, number);
        }
        let mut seen = Vec::new();
        while let Some(number) = wheel.due(Tick(1000)) {
            wheel.unlink(&mut table, number);
            seen.push(number);
        }
        assert_eq!((seen, wheel.len(), wheel.first()), (vec![2, 4], 0, None));
        // Years later.
        wheel.link(&mut table, 1, Tick(1 << 30), 10);
        assert_eq!(wheel.due(Tick((1 << 30) + 5000)), Some(1));
    }
}
