//! The receiving side of loss recovery: what comes too early waits for what is missing before it, as long as that may come.
//!
//! Each message that takes part has a number. A gap is asked for once it is clear that it is no reordering, and again a
//! little later, as the question or the answer may get lost, too; when a round trip and a little more have passed it is
//! given up, and those behind it go on. So nobody waits for longer than that, and no more than [`WINDOW`] wait at all.

use nfv_core::clock::Time;

/// What waits, and what is missing; all memory is taken when it is made.
#[derive(Debug)]
pub struct Order<T> {
    /// By number, those from [`WINDOW`] behind `next` to as many ahead.
    slots: Box<[Slot<T>]>,
    /// The number that goes on next.
    next: u32,
    /// Behind the highest number that is known of.
    end: u32,
    waiting: usize,
    missing: usize,
    /// When it looks at what is missing again.
    look_at: Time,
}

#[derive(Debug)]
enum Slot<T> {
    /// It has not come, which was found out then; so often it was asked for.
    Missing { since: Time, asked: u8 },
    /// It waits.
    Waits(T),
    /// It went on.
    Gone,
    /// Nobody waits for it any more.
    GivenUp,
}

/// What becomes of a packet that comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Came<T> {
    /// It goes on: it is the next one, or was given up.
    Next(T),
    /// It waits for others, or for those that waited.
    Waits,
    /// It came before.
    Again(T),
}

/// Whether one may go on at once, when it is its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Now,
    /// Behind those that were sent on just now in another way.
    Later,
}

/// Numbers to be sent again: the first one, and with a bit each those behind it, of which it is the lowest.
pub type Wanted = (u32, u64);

impl<T> Order<T> {
    /// Begins with number 0.
    pub fn new() -> Self {
        let slots = std::iter::repeat_with(|| Slot::GivenUp).take(2 * WINDOW as usize).collect();
        Self { slots, next: 0, end: 0, waiting: 0, missing: 0, look_at: Time(u64::MAX) }
    }

    /// Takes a packet by its number.
    #[inline]
    pub fn take(&mut self, number: u32, turn: Turn, now: Time, packet: T) -> Came<T> {
        let ahead = number.wrapping_sub(self.next);
        if ahead >= 1 << 31 {
            return self.take_late(number, packet);
        }
        if ahead >= WINDOW {
            if self.waiting > 0 {
                // It does not wait: those before it go on as soon as there is room.
                self.hurry();
                return Came::Next(packet);
            }
            self.restart(number);
        }
        self.hear_of(number.wrapping_add(1), now);
        let is_next = number == self.next && turn == Turn::Now && self.waiting == 0;
        let Some(slot) = slot(&mut self.slots, number) else { return Came::Next(packet) };
        match slot {
            Slot::Missing { .. } => self.missing -= 1,
            Slot::GivenUp => {}
            Slot::Waits(_) | Slot::Gone => return Came::Again(packet),
        }
        if is_next {
            *slot = Slot::Gone;
            self.next = self.next.wrapping_add(1);
            return Came::Next(packet);
        }
        *slot = Slot::Waits(packet);
        self.waiting += 1;
        Came::Waits
    }

    #[cold]
    fn take_late(&mut self, number: u32, packet: T) -> Came<T> {
        let back = self.next.wrapping_sub(number);
        match slot(&mut self.slots, number) {
            Some(slot @ Slot::GivenUp) if back <= WINDOW => {
                *slot = Slot::Gone;
                Came::Next(packet)
            }
            _ => Came::Again(packet),
        }
    }

    /// All numbers below `end` were sent: those that did not come are missing.
    #[inline]
    pub fn hear_of(&mut self, end: u32, now: Time) {
        // What is too far away is none of this order's.
        if end.wrapping_sub(self.next) > WINDOW {
            return;
        }
        while self.end != end && end.wrapping_sub(self.end) <= WINDOW {
            if let Some(slot) = slot(&mut self.slots, self.end) {
                *slot = Slot::Missing { since: now, asked: 0 };
                self.missing += 1;
            }
            self.end = self.end.wrapping_add(1);
            self.look_at = self.look_at.min(Time(now.0 + ASK_AFTER));
        }
    }

    /// The next one of those that wait, if it is its turn; what is missing for `patience` nanoseconds is given up.
    pub fn release(&mut self, now: Time, patience: u64) -> Option<T> {
        while self.next != self.end && self.waiting > 0 {
            let slot = slot(&mut self.slots, self.next)?;
            match std::mem::replace(slot, Slot::Gone) {
                Slot::Waits(packet) => {
                    self.waiting -= 1;
                    self.next = self.next.wrapping_add(1);
                    return Some(packet);
                }
                Slot::Missing { since, asked } if now.since(since) < patience => {
                    *slot = Slot::Missing { since, asked };
                    return None;
                }
                Slot::Missing { .. } => {
                    *slot = Slot::GivenUp;
                    self.missing -= 1;
                }
                other => *slot = other,
            }
            self.next = self.next.wrapping_add(1);
        }
        None
    }

    /// What to ask for now, if anything: some of what is missing. To be called until there is nothing.
    pub fn ask(&mut self, now: Time) -> Option<Wanted> {
        if self.missing == 0 || now < self.look_at {
            return None;
        }
        let mut wanted: Option<Wanted> = None;
        let mut look_at = Time(u64::MAX);
        for ahead in 0..self.end.wrapping_sub(self.next) {
            let number = self.next.wrapping_add(ahead);
            let Some(Slot::Missing { since, asked }) = slot(&mut self.slots, number) else {
                continue;
            };
            let due = |asked: u8| ASKS.get(usize::from(asked)).map(|after| Time(since.0 + after));
            let Some(mut next) = due(*asked) else { continue };
            if next <= now {
                let (first, bits) = wanted.get_or_insert((number, 0));
                let bit = number.wrapping_sub(*first);
                if bit >= 64 {
                    return wanted;
                }
                *bits |= 1 << bit;
                *asked += 1;
                next = due(*asked).unwrap_or(Time(u64::MAX));
            }
            look_at = look_at.min(next);
        }
        self.look_at = look_at;
        wanted
    }

    /// When there is something to release or to ask for, if nothing comes until then.
    pub fn due(&self, patience: u64) -> Option<Time> {
        let never = Time(u64::MAX);
        let look = if self.missing > 0 { self.look_at } else { never };
        let first = self.slots.get(self.next as usize & (self.slots.len() - 1));
        let release = match first.filter(|_| self.waiting > 0) {
            Some(Slot::Missing { since, .. }) => Time(since.0.saturating_add(patience)),
            Some(_) => Time(0),
            None => never,
        };
        Some(look.min(release)).filter(|due| *due != never)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Gives up all that is missing: those that wait go on as soon as they are released.
    pub fn hurry(&mut self) {
        for ahead in 0..self.end.wrapping_sub(self.next) {
            if let Some(slot @ Slot::Missing { .. }) =
                slot(&mut self.slots, self.next.wrapping_add(ahead))
            {
                *slot = Slot::GivenUp;
            }
        }
        self.missing = 0;
    }

    /// Begins anew with a number; nothing waits.
    pub fn restart(&mut self, number: u32) {
        self.slots.fill_with(|| Slot::GivenUp);
        (self.next, self.end, self.missing, self.waiting) = (number, number, 0, 0);
    }
}

fn slot<T>(slots: &mut [Slot<T>], number: u32) -> Option<&mut Slot<T>> {
    // As many as a power of two.
    let at = number as usize & (slots.len() - 1);
    slots.get_mut(at)
}

/// Numbers ahead that may wait, and behind that are remembered.
pub const WINDOW: u32 = 1024;
/// Nanoseconds after which what is missing is asked for: reordering is over by then, mostly; and once more.
const ASKS: [u64; 2] = [ASK_AFTER, 6_000_000];
const ASK_AFTER: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: u64 = 50_000_000;

    fn ms(n: u64) -> Time {
        Time(1_000_000_000 + n * 1_000_000)
    }

    fn take(order: &mut Order<u32>, number: u32, at: u64) -> Came<u32> {
        order.take(number, Turn::Now, ms(at), number)
    }

    fn released(order: &mut Order<u32>, at: u64) -> Vec<u32> {
        std::iter::from_fn(|| order.release(ms(at), PATIENCE)).collect()
    }

    #[test]
    fn what_is_missing_is_asked_for_twice_and_those_behind_it_wait_until_it_comes() {
        let mut order = Order::new();
        assert_eq!(take(&mut order, 0, 0), Came::Next(0));
        for number in [2, 3, 5] {
            assert_eq!(take(&mut order, number, 1), Came::Waits);
        }
        assert_eq!(order.ask(ms(2)), None, "it may be late");
        assert_eq!(order.due(PATIENCE), Some(ms(3)));
        assert_eq!(order.ask(ms(3)), Some((1, 0b1001)));
        assert_eq!(order.ask(ms(3)), None, "once");
        assert_eq!(order.ask(ms(7)), Some((1, 0b1001)));
        assert_eq!(order.ask(ms(30)), None, "twice");
        assert!(released(&mut order, 30).is_empty());
        assert_eq!(take(&mut order, 1, 40), Came::Waits);
        assert_eq!(released(&mut order, 40), [1, 2, 3]);
        assert_eq!(take(&mut order, 1, 40), Came::Again(1));
        assert!(released(&mut order, 50).is_empty());
        assert_eq!(order.due(PATIENCE), Some(ms(51)));
        assert_eq!(released(&mut order, 51), [5], "4 is given up");
        assert_eq!(take(&mut order, 4, 52), Came::Next(4), "late, and no copy");
        assert_eq!(take(&mut order, 4, 52), Came::Again(4));
        assert_eq!((order.due(PATIENCE), order.waiting()), (None, 0));
    }

    #[test]
    fn the_last_ones_are_missed_when_the_sender_says_how_many_there_were() {
        let mut order = Order::<u32>::new();
        order.hear_of(3, ms(0));
        assert_eq!(order.ask(ms(2)), Some((0, 0b111)));
        order.hear_of(3, ms(9));
        order.hear_of(900_000, ms(9));
        assert_eq!(order.ask(ms(9)), Some((0, 0b111)), "nothing of an end that cannot be");
    }

    #[test]
    fn a_leap_far_ahead_begins_anew() {
        let mut order = Order::new();
        take(&mut order, 0, 0);
        assert_eq!(take(&mut order, 5_000, 1), Came::Next(5_000));
        assert_eq!(take(&mut order, 5_001, 1), Came::Next(5_001));
        assert_eq!(take(&mut order, 5_003, 1), Came::Waits);
        // With others waiting these are not kept from going on.
        assert_eq!(take(&mut order, 9_000, 1), Came::Next(9_000));
        assert_eq!(released(&mut order, 1), [5_003]);
        assert_eq!(take(&mut order, 9_001, 1), Came::Next(9_001));
    }

    proptest! {
        /// Of each packet at most one comes out, none waits for longer than patience, and whoever goes on before its turn
        /// was given up.
        #[test]
        fn packets_go_on_once_in_order_and_in_time(
            deeds in prop::collection::vec((0u8..20, 0u64..80), 1..1500), start: u32,
        ) {
            let mut order = Order::new();
            order.restart(start);
            let mut arrivals: Vec<(u64, u32)> = Vec::new();
            for (n, (deed, late)) in deeds.iter().enumerate() {
                let (at, number) = (n as u64, start.wrapping_add(n as u32));
                match deed {
                    0 => {}
                    1 => arrivals.extend([(at, number), (at + late, number)]),
                    2 => arrivals.push((at + late, number)),
                    _ => arrivals.push((at, number)),
                }
            }
            arrivals.sort();
            let mut came = std::collections::BTreeMap::new();
            let mut out: Vec<(u64, u32)> = Vec::new();
            let end = deeds.len() as u64 + 200;
            let mut arrivals = arrivals.into_iter().peekable();
            for now in 0..end {
                while let Some((_, number)) = arrivals.next_if(|(at, _)| *at <= now) {
                    came.entry(number).or_insert(now);
                    if let Came::Next(number) = take(&mut order, number, now) {
                        out.push((now, number));
                    }
                    out.extend(released(&mut order, now).into_iter().map(|n| (now, n)));
                }
                out.extend(released(&mut order, now).into_iter().map(|n| (now, n)));
                while order.ask(ms(now)).is_some() {}
            }
            let numbers: std::collections::BTreeSet<u32> = out.iter().map(|(_, n)| *n).collect();
            prop_assert_eq!(numbers.len(), out.len(), "none twice");
            prop_assert_eq!(numbers.len(), came.len(), "all that came");
            for (at, number) in &out {
                prop_assert!(at - came[number] <= PATIENCE / 1_000_000);
            }
            // Late ones came after they had been given up.
            let mut highest = start;
            for (at, number) in &out {
                if number.wrapping_sub(highest) < 1 << 31 {
                    highest = number.wrapping_add(1);
                } else {
                    prop_assert!(came[number] == *at, "it did not wait");
                }
            }
        }
    }
}
