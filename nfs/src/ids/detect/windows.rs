//! The parts of a stream that one call looks at.

use std::ops::Range;

use super::flow::{FlowState, Mark};
use super::groups::Group;
use super::matcher::MatcherScratch;
use super::patterns::{Candidates, Patterns};
use crate::ids::rules::Side;
use crate::ids::stream::{self, StreamId, Streams, When, Window};

/// Windows of one side's stream, copied: only of streams that a rule may match in.
#[derive(Debug, Default)]
pub(super) struct Windows {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Whether there were any, kept or not.
    has_fresh: bool,
    /// Whether none lacks bytes that were told before it.
    is_whole: bool,
}

/// A window.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Offset of its first byte.
    pub offset: u64,
    /// How many of its bytes were in a window before.
    pub history: usize,
    /// It is shown again, whatever a rule has seen of it.
    pub is_again: bool,
    range: Range<usize>,
}

impl Span {
    /// Offset behind its last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.range.len() as u64
    }
}

impl Windows {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.is_whole = true;
        self.has_fresh = false;
    }

    /// Takes what is new of a stream, and looks its rules up, by the group's patterns or more.
    ///
    /// # Cost
    /// That of the patterns; a copy where there are candidates.
    #[allow(clippy::too_many_arguments, reason = "each is of another owner")]
    pub fn take(
        &mut self,
        streams: &mut Streams,
        id: StreamId,
        side: Side,
        when: When,
        (group, patterns): (&Group, &Patterns),
        state: &mut FlowState,
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        let from = side_of(side);
        while let Some(()) = streams.window(id, from, when, |window| {
            self.look(window, side, (group, patterns), state, scratch, candidates);
        }) {}
    }

    fn look(
        &mut self,
        window: Window<'_>,
        side: Side,
        (group, patterns): (&Group, &Patterns),
        state: &mut FlowState,
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        state.pass_marks(side, window.offset);
        // A pattern that ends in fresh bytes may begin before them.
        self.has_fresh = true;
        self.is_whole &= window.is_whole;
        let from = window.history.saturating_sub(patterns.reach());
        let bytes = window.bytes.get(from..).unwrap_or_default();
        patterns.look(bytes, scratch, candidates);
        group.bare_stream.iter().for_each(|rule| candidates.add(*rule));
        // Those whose pattern was in a window before, and is still shown: the rest may be in this one.
        state.marks(side).filter(|mark| mark.from == 0).for_each(|mark| candidates.add(mark.rule));
        if candidates.is_empty() && !group.transactions_look {
            return;
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(window.bytes);
        let range = begin..self.bytes.len();
        let Window { offset, history, .. } = window;
        self.spans.push(Span { offset, history, is_again: false, range });
    }

    /// Takes a payload whose bytes were in a window before: inline, what is sent again is told again, as Suricata does, which
    /// looks at the stream around each packet. To be called before [`Windows::take`], so that marks follow the fresh bytes.
    pub fn take_again(
        &mut self,
        payload: &[u8],
        group: &Group,
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        group.stream.look(payload, scratch, candidates);
        if candidates.is_empty() {
            return;
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let range = begin..self.bytes.len();
        self.spans.push(Span { offset: 0, history: 0, is_again: true, range });
    }

    /// Whether they show all that was told since the last ones.
    pub fn are_whole(&self) -> bool {
        self.has_fresh && self.is_whole
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All of them, with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Span, &[u8])> {
        self.spans.iter().map(|span| (span, self.bytes.get(span.range.clone()).unwrap_or_default()))
    }

    /// Marks a rule that matched in a window: what it showed is not new to the rule.
    pub fn matched(&self, rule: u32, side: Side, state: &mut FlowState) {
        if let Some(end) = self.spans.last().map(Span::end) {
            state.mark(Mark { side, rule, from: end, until: end });
        }
    }

    /// Marks a rule whose pattern is in a window, and that did not match yet.
    pub fn waits(&self, rule: u32, side: Side, state: &mut FlowState) {
        if let Some(end) = self.spans.last().map(Span::end) {
            state.mark(Mark { side, rule, from: 0, until: end });
        }
    }
}

/// Whose bytes a direction's are.
pub(super) fn side_of(side: Side) -> stream::Side {
    match side {
        Side::ToServer => stream::Side::Client,
        Side::ToClient => stream::Side::Server,
    }
}
