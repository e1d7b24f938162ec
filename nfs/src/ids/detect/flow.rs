//! What detection keeps with a flow.

use super::captured::{self, Captured};
use super::state::Wanted;
use crate::ids::rules::Side;

/// What detection keeps with a flow: its bits and numbers, and how far it has looked.
#[derive(Debug, Default)]
pub struct FlowState {
    /// Of which ruleset the numbers below are; 0: of none.
    ruleset: u64,
    bits: Vec<u64>,
    integers: Vec<(u32, u32)>,
    /// What groups of expressions matched.
    captured: Vec<Captured>,
    /// Rules that were begun in transactions, sorted by transaction, side and rule.
    begun: Vec<Begun>,
    /// Rules of streams that are to be looked at again, or from another place on.
    marks: Vec<Mark>,
    /// Counts of rules that are counted by flow.
    pub(super) counts: Vec<(u32, super::memory::Entry)>,
    /// What is told of it behind an alert.
    pub(super) tag: Option<Tagged>,
    /// By side: whether the stream was looked at further than transactions were.
    behind: [bool; 2],
    /// By side: the rules that ask for the flow's application alone were asked.
    pub(super) asked_application: [bool; 2],
    /// The rules of the application that the flow had before an upgrade were asked once more.
    pub(super) asked_former: bool,
    /// A `pass` rule matched that is one of the whole flow.
    pub(super) passes: bool,
}

/// A rule that was begun in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// The transaction.
    pub transaction: u64,
    /// The side that is looked at.
    pub side: Side,
    /// The rule.
    pub rule: u32,
    /// The buffers of it that matched, a bit each.
    pub done: u32,
    /// What is known of it.
    pub end: End,
}

/// Whether a rule is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It may match when there is more.
    Open,
    /// It matched, or cannot any more.
    Done,
}

/// Whether transactions are looked at later than the stream that they are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Yes,
    No,
}

/// A rule of a side's stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub side: Side,
    pub rule: u32,
    /// It matched: only bytes from here on are new to it. 0: it did not, and its pattern is in bytes that may be shown again.
    pub from: u64,
    /// Up to here the stream is of interest to it.
    pub until: u64,
}

/// What is told behind an alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged {
    pub left: u64,
    pub unit: crate::ids::rules::TagUnit,
    pub since: nfv_core::clock::Time,
}

impl FlowState {
    /// The memory that it holds, without its own size.
    pub fn bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>()
            + self.integers.capacity() * size_of::<(u32, u32)>()
            + self.begun.capacity() * size_of::<Begun>()
            + self.marks.capacity() * size_of::<Mark>()
            + self.counts.capacity() * size_of::<(u32, super::memory::Entry)>()
            + self.captured.capacity() * size_of::<Captured>()
            + self.captured.iter().map(|c| c.name.len() + c.value.len()).sum::<usize>()
    }

    /// Whether it is as a new one: then the flow needs none, and the next call is given a new one. So a flow in which
    /// detection keeps nothing costs nothing.
    pub fn is_blank(&self) -> bool {
        let Self { bits, integers, captured, begun, marks, counts, tag, passes, behind, .. } = self;
        let is_empty =
            captured.is_empty() && integers.is_empty() && begun.is_empty() && marks.is_empty();
        let is_unmarked = !passes && tag.is_none() && self.asked_application == [false; 2];
        let is_unmarked = is_unmarked && !self.asked_former && *behind == [false; 2];
        is_empty && is_unmarked && counts.is_empty() && bits.iter().all(|word| *word == 0)
    }

    /// Forgets all but `pass` if it is of another ruleset: numbers mean something else then. As Suricata does when rules
    /// change.
    pub(super) fn belong_to(&mut self, ruleset: u64) {
        if self.ruleset != ruleset {
            *self = Self { ruleset, passes: self.passes, ..Self::default() };
        }
    }

    /// Whether no rule waits for what comes next of a side.
    pub(super) fn is_at_rest(&self, side: Side) -> bool {
        !self.passes
            && self.begun.is_empty()
            && self.marks(side).next().is_none()
            && !self.is_behind(side)
    }

    /// Whether a side's stream was looked at further than its transactions.
    pub(super) fn is_behind(&self, side: Side) -> bool {
        self.behind.get(side.index()).is_some_and(|behind| *behind)
    }

    /// Notes whether it was.
    pub(super) fn set_behind(&mut self, side: Side, is_behind: Behind) {
        if let Some(behind) = self.behind.get_mut(side.index()) {
            *behind = is_behind == Behind::Yes;
        }
    }

    pub(super) fn bit(&self, bit: u32) -> bool {
        self.bits.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// The bits that are set, by number, if they are of this ruleset.
    pub(super) fn set_bits(&self, ruleset: u64) -> impl Iterator<Item = usize> + '_ {
        let words: &[u64] = if self.ruleset == ruleset { &self.bits } else { &[] };
        let is_set =
            |bit: usize| words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        (0..words.len() * 64).filter(move |bit| is_set(*bit))
    }

    /// The integers, by number, if they are of this ruleset.
    pub(super) fn integers(&self, ruleset: u64) -> &[(u32, u32)] {
        if self.ruleset == ruleset { &self.integers } else { &[] }
    }

    pub(super) fn set_bit(&mut self, bit: u32, to: Wanted) {
        let place = bit as usize / 64;
        if self.bits.len() <= place {
            if to == Wanted::NotThere {
                return;
            }
            self.bits.resize(place + 1, 0);
        }
        let Some(word) = self.bits.get_mut(place) else { return };
        match to {
            Wanted::There => *word |= 1 << (bit % 64),
            Wanted::NotThere => *word &= !(1 << (bit % 64)),
        }
    }

    /// Keeps what a group matched.
    pub(super) fn capture(&mut self, captured: Captured) {
        captured::put(&mut self.captured, captured);
    }

    /// What groups of expressions matched.
    pub fn captured(&self) -> &[Captured] {
        &self.captured
    }

    pub(super) fn integer(&self, integer: u32) -> Option<u32> {
        self.integers.iter().find(|(number, _)| *number == integer).map(|(_, value)| *value)
    }

    pub(super) fn set_integer(&mut self, integer: u32, value: u32) {
        match self.integers.iter_mut().find(|(number, _)| *number == integer) {
            Some((_, place)) => *place = value,
            None => self.integers.push((integer, value)),
        }
    }

    /// The rules that were begun on a side of a transaction, by their order.
    pub(super) fn begun(&self, transaction: u64, side: Side) -> &[Begun] {
        let from = self.begun.partition_point(|b| b.order() < (transaction, side.index(), 0));
        let rest = self.begun.get(from..).unwrap_or_default();
        let until = rest.partition_point(|b| b.order() <= (transaction, side.index(), u32::MAX));
        rest.get(..until).unwrap_or_default()
    }

    /// How far a rule is on a side of a transaction.
    pub(super) fn progress(&self, transaction: u64, side: Side, rule: u32) -> Option<Begun> {
        let place =
            self.begun.binary_search_by_key(&(transaction, side.index(), rule), Begun::order);
        self.begun.get(place.ok()?).copied()
    }

    /// Notes how far a rule is. Of too many that were begun no more are noted.
    pub(super) fn note(&mut self, begun: Begun) {
        match self.begun.binary_search_by_key(&begun.order(), Begun::order) {
            Ok(place) => {
                if let Some(known) = self.begun.get_mut(place) {
                    *known = begun;
                }
            }
            Err(place) if self.begun.len() < BEGUN_MAX => self.begun.insert(place, begun),
            Err(_) => {}
        }
    }

    /// A side of a transaction is done with.
    pub(super) fn forget(&mut self, transaction: u64, side: Side) {
        if !self.begun.is_empty() {
            self.begun.retain(|b| b.transaction != transaction || b.side != side);
        }
    }

    /// Forgets those of transactions that are gone: the oldest that is there is this one.
    pub(super) fn forget_before(&mut self, transaction: u64) {
        let gone = self.begun.partition_point(|b| b.transaction < transaction);
        self.begun.drain(..gone);
    }

    /// What is marked of a side's stream.
    pub(super) fn marks(&self, side: Side) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(move |mark| mark.side == side)
    }

    /// Marks a rule; of too many the one that ends first is given up.
    pub(super) fn mark(&mut self, mark: Mark) {
        let same = |m: &&mut Mark| m.rule == mark.rule && m.side == mark.side;
        if let Some(known) = self.marks.iter_mut().find(same) {
            known.from = known.from.max(mark.from);
            known.until = known.until.max(mark.until);
            return;
        }
        if self.marks.len() < MARKS_MAX {
            self.marks.push(mark);
        } else if let Some(first) = self.marks.iter_mut().min_by_key(|m| m.until) {
            *first = mark;
        }
    }

    /// Forgets marks that end at or before the first byte that will be shown again.
    pub(super) fn pass_marks(&mut self, side: Side, shown: u64) {
        if !self.marks.is_empty() {
            self.marks.retain(|m| m.side != side || m.until > shown);
        }
    }
}

impl Begun {
    fn order(&self) -> (u64, usize, u32) {
        (self.transaction, self.side.index(), self.rule)
    }
}

/// Most rules that are begun in a flow's transactions.
const BEGUN_MAX: usize = 4096;

/// Most rules that are marked in a flow's streams.
const MARKS_MAX: usize = 64;
