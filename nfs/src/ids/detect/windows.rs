//! The parts of a stream that one call looks at.

use std::ops::Range;

use super::flow::{FlowState, Mark};
use super::groups::Group;
use super::matcher::MatcherScratch;
use super::patterns::Candidates;
use crate::ids::rules::Side;
use crate::ids::stream::{self, StreamId, Streams, When, Window};

/// Windows of one side's stream, copied: only of streams that a rule may match in.
#[derive(Debug, Default)]
pub(super) struct Windows {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A window.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Offset of its first byte.
    pub offset: u64,
    /// How many of its bytes were in a window before.
    pub history: usize,
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
    }

    /// Takes what is new of a stream, and looks its rules up.
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
        group: &Group,
        state: &mut FlowState,
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        let from = side_of(side);
        while let Some(()) = streams.window(id, from, when, |window| {
            self.look(window, side, group, state, scratch, candidates);
        }) {}
    }

    fn look(
        &mut self,
        window: Window<'_>,
        side: Side,
        group: &Group,
        state: &mut FlowState,
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        state.pass_marks(side, window.offset);
        // A pattern that ends in fresh bytes may begin before them.
        let from = window.history.saturating_sub(group.stream.reach());
        let bytes = window.bytes.get(from..).unwrap_or_default();
        group.stream.look(bytes, scratch, candidates);
        group.bare_stream.iter().for_each(|rule| candidates.add(*rule));
        // Those whose pattern was in a window before, and is still shown: the rest may be in this one.
        state.marks(side).filter(|mark| mark.from == 0).for_each(|mark| candidates.add(mark.rule));
        if candidates.is_empty() && !group.transactions_look {
            return;
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(window.bytes);
        let range = begin..self.bytes.len();
        self.spans.push(Span { offset: window.offset, history: window.history, range });
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
