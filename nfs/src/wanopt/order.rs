//! The receiving side of loss recovery: what comes too early waits for what is missing before it, as long as that may come.
//!
//! Each message that takes part has a number, and says how many numbers before it the last one of its flow is: for that one
//! it waits, and for no other's. A gap is asked for once it is clear that it is no reordering, and again a little later, as
//! the question or the answer may get lost, too; when a round trip and a little more have passed it is given up, and those
//! behind it go on. So nobody waits for longer than that, and no more than [`WINDOW`] wait at all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use nfv_core::clock::Time;

use super::wire::Number;

/// What waits, and what is missing; all memory is taken when it is made.
#[derive(Debug)]
pub struct Order<T> {
    /// By number, those from [`WINDOW`] behind `next` to as many ahead.
    slots: Box<[Slot<T>]>,
    /// Below it all have gone on or were given up.
    next: u32,
    /// Behind the highest number that is known of.
    end: u32,
    /// Below it none is missing.
    whole: u32,
    /// Those that wait and need not any more, the lowest number first.
    ready: BinaryHeap<Ready>,
    waiting: usize,
    missing: usize,
    /// When it looks at what is missing again.
    look_at: Time,
}

#[derive(Debug)]
struct Slot<T> {
    state: State<T>,
    /// How many numbers behind it the one is that waits for it; 0: none does.
    after: u16,
}

#[derive(Debug)]
enum State<T> {
    /// It has not come, which was found out then; so often it was asked for.
    Missing { since: Time, asked: u8 },
    /// It waits.
    Waits(T),
    /// It went on.
    Gone,
    /// Nobody waits for it any more.
    GivenUp,
}

/// A number among others of the window: the lowest is the greatest, as a heap gives that first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ready(u32);

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.wrapping_sub(self.0).cast_signed().cmp(&0)
    }
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
        let slot = || Slot { state: State::GivenUp, after: 0 };
        let slots = std::iter::repeat_with(slot).take(2 * WINDOW as usize).collect();
        let ready = BinaryHeap::with_capacity(2 * WINDOW as usize);
        let look_at = Time(u64::MAX);
        Self { slots, next: 0, end: 0, whole: 0, ready, waiting: 0, missing: 0, look_at }
    }

    /// Takes a packet by its number.
    #[inline]
    pub fn take(&mut self, (number, back): Number, turn: Turn, now: Time, packet: T) -> Came<T> {
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
            self.move_on(number);
        }
        self.hear_of(number.wrapping_add(1), now);
        let before = self.waits_for((number, back));
        let Some(own) = slot(&mut self.slots, number) else { return Came::Next(packet) };
        match own.state {
            State::Missing { .. } => self.missing -= 1,
            State::GivenUp => {}
            State::Waits(_) | State::Gone => return Came::Again(packet),
        }
        if before.is_none() && turn == Turn::Now {
            self.done(number, State::Gone);
            return Came::Next(packet);
        }
        own.state = State::Waits(packet);
        self.waiting += 1;
        match before.and_then(|before| slot(&mut self.slots, before)) {
            Some(before) => before.after = back,
            None => self.ready.push(Ready(number)),
        }
        Came::Waits
    }

    #[cold]
    fn take_late(&mut self, number: u32, packet: T) -> Came<T> {
        let back = self.next.wrapping_sub(number);
        match slot(&mut self.slots, number) {
            Some(slot) if matches!(slot.state, State::GivenUp) && back <= WINDOW => {
                slot.state = State::Gone;
                Came::Next(packet)
            }
            _ => Came::Again(packet),
        }
    }

    /// A number far ahead comes, and nothing waits: those too far behind it are given up.
    #[cold]
    fn move_on(&mut self, number: u32) {
        if number.wrapping_sub(self.next) >= 2 * WINDOW {
            return self.restart(number);
        }
        while number.wrapping_sub(self.next) >= WINDOW {
            if self.next == self.end {
                // Nobody has heard of it.
                if let Some(slot) = slot(&mut self.slots, self.next) {
                    *slot = Slot { state: State::GivenUp, after: 0 };
                }
                self.end = self.end.wrapping_add(1);
                self.advance();
            } else {
                self.give_up(self.next);
            }
        }
    }

    /// The one that a number waits for, if that has not gone on yet, and none waits for it already.
    fn waits_for(&mut self, (number, back): Number) -> Option<u32> {
        let before = number.wrapping_sub(u32::from(back));
        let is_known = back > 0 && before.wrapping_sub(self.next) < WINDOW;
        let slot = slot(&mut self.slots, before).filter(|_| is_known)?;
        let is_waited_for = matches!(slot.state, State::Missing { .. } | State::Waits(_));
        (is_waited_for && slot.after == 0).then_some(before)
    }

    /// A number is done, and whoever waits for it need not any more.
    #[inline]
    fn done(&mut self, number: u32, state: State<T>) {
        let Some(own) = slot(&mut self.slots, number) else { return };
        own.state = state;
        match std::mem::take(&mut own.after) {
            0 => {}
            after => self.ready.push(Ready(number.wrapping_add(after.into()))),
        }
        self.advance();
    }

    /// A number is waited for no longer, if it is missing.
    fn give_up(&mut self, number: u32) {
        let own = slot(&mut self.slots, number);
        if own.is_some_and(|own| matches!(own.state, State::Missing { .. })) {
            self.missing -= 1;
            self.done(number, State::GivenUp);
        }
    }

    /// Leaves behind what is done.
    #[inline]
    fn advance(&mut self) {
        while self.next != self.end {
            match slot(&mut self.slots, self.next).map(|own| &own.state) {
                Some(State::Gone | State::GivenUp) => self.next = self.next.wrapping_add(1),
                _ => return,
            }
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
                *slot = Slot { state: State::Missing { since: now, asked: 0 }, after: 0 };
                self.missing += 1;
            }
            self.end = self.end.wrapping_add(1);
            self.look_at = self.look_at.min(Time(now.0 + ASK_AFTER));
        }
    }

    /// The next one of those that wait, if it is its turn; what is missing for `patience` nanoseconds is given up.
    pub fn release(&mut self, now: Time, patience: u64) -> Option<T> {
        self.lose_patience(now, patience);
        let Ready(number) = self.ready.pop()?;
        let own = slot(&mut self.slots, number)?;
        let State::Waits(packet) = std::mem::replace(&mut own.state, State::Gone) else {
            // Who is ready waits.
            return None;
        };
        self.waiting -= 1;
        self.done(number, State::Gone);
        Some(packet)
    }

    /// Gives up what is missing for so long: who was missed first has the lowest number.
    fn lose_patience(&mut self, now: Time, patience: u64) {
        if self.whole.wrapping_sub(self.next) >= 1 << 31 {
            self.whole = self.next;
        }
        while self.whole != self.end {
            match slot(&mut self.slots, self.whole).map(|own| &own.state) {
                Some(State::Missing { since, .. }) if now.since(*since) < patience => return,
                Some(State::Missing { .. }) => self.give_up(self.whole),
                _ => {}
            }
            self.whole = self.whole.wrapping_add(1);
        }
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
            let Some(State::Missing { since, asked }) =
                slot(&mut self.slots, number).map(|own| &mut own.state)
            else {
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
        let release = match (self.ready.is_empty(), self.waiting) {
            (false, _) => Time(0),
            (true, 0) => never,
            (true, _) => self.first_missing().map_or(never, |t| Time(t.0.saturating_add(patience))),
        };
        Some(look.min(release)).filter(|due| *due != never)
    }

    /// When the first one that is missing was missed.
    fn first_missing(&self) -> Option<Time> {
        let behind = self.whole.wrapping_sub(self.next) >= 1 << 31;
        let first = if behind { self.next } else { self.whole };
        (0..self.end.wrapping_sub(first)).find_map(|ahead| {
            let at = first.wrapping_add(ahead) as usize & (self.slots.len() - 1);
            match self.slots.get(at)?.state {
                State::Missing { since, .. } => Some(since),
                _ => None,
            }
        })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Gives up all that is missing: those that wait go on as soon as they are released.
    pub fn hurry(&mut self) {
        // What is done is left behind meanwhile.
        let (first, count) = (self.next, self.end.wrapping_sub(self.next));
        for ahead in 0..count {
            self.give_up(first.wrapping_add(ahead));
        }
    }

    /// Begins anew with a number; nothing waits.
    pub fn restart(&mut self, number: u32) {
        self.slots.fill_with(|| Slot { state: State::GivenUp, after: 0 });
        self.ready.clear();
        (self.next, self.end, self.whole) = (number, number, number);
        (self.missing, self.waiting) = (0, 0);
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

    /// One of the only flow.
    fn take(order: &mut Order<u32>, number: u32, at: u64) -> Came<u32> {
        order.take((number, 1), Turn::Now, ms(at), number)
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
        assert_eq!(take(&mut order, 1, 40), Came::Next(1));
        assert_eq!(released(&mut order, 40), [2, 3]);
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

    #[test]
    fn what_is_missing_holds_up_its_own_flow_only() {
        // Of two flows in turn, the one of the even numbers loses one.
        let of_two = |is_told: bool| {
            let mut order = Order::new();
            let mut out = Vec::new();
            for number in (0..10).filter(|number| *number != 2) {
                let back = if is_told { 2 } else { 1 };
                if let Came::Next(n) = order.take((number, back), Turn::Now, ms(0), number) {
                    out.push(n);
                }
            }
            (out, order)
        };
        let (out, mut order) = of_two(true);
        assert_eq!(out, [0, 1, 3, 5, 7, 9]);
        assert_eq!(order.take((2, 2), Turn::Now, ms(1), 2), Came::Next(2));
        assert_eq!(released(&mut order, 1), [4, 6, 8]);
        assert_eq!(of_two(false).0, [0, 1], "the control: all are one flow");
    }

    #[test]
    fn what_is_given_up_at_once_leaves_the_others_in_order() {
        for hurries in [false, true] {
            let mut order = Order::new();
            for number in [1, 2, 4] {
                assert_eq!(take(&mut order, number, 0), Came::Waits);
            }
            if hurries {
                order.hurry();
            }
            assert_eq!(released(&mut order, if hurries { 0 } else { 50 }), [1, 2, 4]);
        }
    }

    #[test]
    fn two_that_say_to_wait_for_one_do_not_both_and_nobody_waits_for_ever() {
        let mut order = Order::new();
        take(&mut order, 0, 0);
        assert_eq!(order.take((2, 1), Turn::Now, ms(0), 2), Came::Waits);
        assert_eq!(order.take((3, 2), Turn::Now, ms(0), 3), Came::Next(3));
        assert_eq!(released(&mut order, 51), [2]);
        // Far ahead while nothing waits: what is missing is given up, and what came is not forgotten.
        assert_eq!(take(&mut order, 4, 60), Came::Next(4));
        assert_eq!(order.take((1500, 0), Turn::Now, ms(61), 1500), Came::Next(1500));
        assert_eq!(take(&mut order, 1500, 62), Came::Again(1500));
        assert_eq!(order.take((1499, 0), Turn::Now, ms(62), 1499), Came::Next(1499));
    }

    proptest! {
        /// Each flow's packets come out once, in order and in time, and wait for their own flow's only.
        #[test]
        fn flows_do_not_wait_for_each_other(
            deeds in prop::collection::vec((0u8..20, 0u64..80, 0usize..5), 1..1500), start: u32,
        ) {
            let mut order = Order::new();
            order.restart(start);
            let mut last = [None; 5];
            let mut arrivals = Vec::new();
            for (n, (deed, late, flow)) in deeds.iter().enumerate() {
                let number = start.wrapping_add(n as u32);
                let back = last[*flow].map_or(0, |last| number.wrapping_sub(last)) as u16;
                last[*flow] = Some(number);
                if *deed > 0 {
                    let at = n as u64 + if *deed == 2 { *late } else { 0 };
                    arrivals.push((at, n, (number, back)));
                }
            }
            arrivals.sort();
            let (mut out, mut came) = (Vec::new(), std::collections::BTreeMap::new());
            let mut arrivals = arrivals.into_iter().peekable();
            for now in 0..deeds.len() as u64 + 200 {
                while let Some((_, n, number)) = arrivals.next_if(|(at, ..)| *at <= now) {
                    came.insert(n, now);
                    if let Came::Next(n) = order.take(number, Turn::Now, ms(now), n as u32) {
                        out.push((now, n as usize));
                    }
                    let due = std::iter::from_fn(|| order.release(ms(now), PATIENCE));
                    out.extend(due.map(|n| (now, n as usize)));
                }
                let due = std::iter::from_fn(|| order.release(ms(now), PATIENCE));
                out.extend(due.map(|n| (now, n as usize)));
            }
            prop_assert_eq!(out.len(), came.len());
            prop_assert_eq!(order.waiting(), 0);
            for flow in 0..5 {
                let own = |n: &usize| deeds[*n].2 == flow;
                let mut highest = 0;
                for (at, n) in out.iter().filter(|(_, n)| own(n)) {
                    let waited = at - came[n];
                    prop_assert!(waited <= PATIENCE / 1_000_000);
                    prop_assert!(*n >= highest || waited == 0, "it had been given up");
                    highest = highest.max(*n);
                    // Who waited did so for one of its own.
                    let mut before = (0..*n).filter(own);
                    prop_assert!(
                        waited == 0 || before.any(|b| came.get(&b).is_none_or(|c| *c > came[n]))
                    );
                }
            }
        }

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
