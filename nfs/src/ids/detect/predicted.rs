//! The short way of segments that are what was expected: when nothing but patterns are to be looked for in them, and how.
//!
//! Of most flows most segments are the middle of something: a body, a file, a tunnel. What [`Detector::inspect`] would do for
//! them is known before: no transaction gets further, no rule waits, so that all there is to do is to look for patterns. Who
//! has no match has been looked at; who has one goes the long way.

use super::FlowState;
use super::groups::Group;
use super::header::TCP;
use super::inspect::{Detector, Work};
use super::patterns::Patterns;
use super::ruleset::{BufferPatterns, Ruleset};
use super::transactions::is_at_rest;
use crate::ids::app::{App, Expected, Protocol};
use crate::ids::rules::{App as Application, Side};

/// What is done with the next segment of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Nothing, if it has no payload.
    pub is_quiet: bool,
    /// If it has one, these patterns are looked for; `None`: more than that.
    pub plan: Option<Plan>,
}

/// Which patterns are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    group: u16,
    /// Those of bodies, too.
    has_body: bool,
}

impl Detector {
    /// What is done with the next segment of a side, behind a packet that was looked at. `ports`: source and destination of that
    /// segment. `expected`: what its application expects.
    pub fn outlook(
        &self,
        side: Side,
        ports: [u16; 2],
        app: Option<&App>,
        state: Option<&FlowState>,
        expected: Option<Expected>,
    ) -> Outlook {
        let ruleset = &**self.ruleset();
        let Some((place, group)) = ruleset.groups.place_of(TCP, side, ports) else {
            return Outlook::default();
        };
        let was_asked = ruleset.application.is_empty()
            || state.is_some_and(|state| state.asked_application.get(side.index()) == Some(&true));
        let is_quiet = group.bare.is_empty()
            && !ruleset.tags_hosts
            && state.is_none_or(|state| state.tag.is_none())
            && (was_asked || app.and_then(App::protocol).is_none())
            && app.is_none_or(|app| app.original().is_none() && is_at_rest(app, side));
        let has_plan = is_quiet
            && group.wants_stream()
            && !group.transactions_look
            && state.is_none_or(|state| state.is_at_rest(side));
        let plan = expected.filter(|_| has_plan).and_then(|expected| {
            let has_body = expected == Expected::Body;
            (!has_body || body_is_in_stream(ruleset, group, app?, side))
                .then_some(Plan { group: place, has_body })
        });
        // No more of a flow that nobody parses than its bytes can match.
        Outlook { is_quiet, plan: plan.filter(|_| self.reach(side, plan).is_some()) }
    }

    /// How many bytes before a payload a pattern of a plan may begin; `None`: more than are at hand.
    pub fn reach(&self, side: Side, plan: Option<Plan>) -> Option<usize> {
        let plan = plan?;
        let patterns = self.ruleset().groups.get(plan.group)?.of_plan(side, plan);
        Some(patterns.reach()).filter(|reach| *reach <= REACH_MAX)
    }

    /// How many bytes before the next ones of a body its rules may look back at; at most `most`.
    pub fn looks_back(&self, side: Side, most: usize) -> usize {
        self.ruleset().looks_back(side, most)
    }

    /// Looks for a plan's patterns. `payload`: that of the segment; `window`: the same behind the last bytes of the stream before
    /// it, as many as [`Detector::reach`] said. Whether there are none.
    pub fn glance(&mut self, side: Side, plan: Plan, payload: &[u8], window: &[u8]) -> bool {
        let nothing_in_packet = self.packet_sees_nothing(plan, payload);
        self.stream_sees_nothing(side, plan, window) && nothing_in_packet
    }

    /// Looks for a plan's patterns of payloads. Whether there are none.
    pub fn packet_sees_nothing(&mut self, plan: Plan, payload: &[u8]) -> bool {
        let (ruleset, work) = self.parts();
        let group = ruleset.groups.get(plan.group);
        group.is_some_and(|group| work.sees_nothing(&group.packet, payload))
    }

    /// Looks for a plan's patterns of streams in some part of one. Whether there are none.
    pub fn stream_sees_nothing(&mut self, side: Side, plan: Plan, bytes: &[u8]) -> bool {
        let (ruleset, work) = self.parts();
        let group = ruleset.groups.get(plan.group);
        group.is_some_and(|group| work.sees_nothing(group.of_plan(side, plan), bytes))
    }
}

impl Work {
    fn sees_nothing(&mut self, patterns: &Patterns, bytes: &[u8]) -> bool {
        patterns.look(bytes, &mut self.scratch, &mut self.candidates);
        if self.candidates.is_empty() {
            return true;
        }
        self.list.clear();
        self.candidates.take(&mut self.list);
        false
    }
}

impl Group {
    /// The patterns of a plan.
    #[inline]
    fn of_plan(&self, side: Side, plan: Plan) -> &Patterns {
        let with_bodies = self.with_bodies(side).filter(|_| plan.has_body);
        with_bodies.unwrap_or(&self.stream)
    }
}

/// Whether the patterns of a body that lies in the stream as it is are looked for along with those of the stream, and nothing else
/// asks for the body.
fn body_is_in_stream(ruleset: &Ruleset, group: &Group, app: &App, side: Side) -> bool {
    if app.protocol() != Some(Protocol::Http) {
        return false;
    }
    let rules = ruleset.of_transactions(Application::Http, side);
    let has_events = app.transactions().iter().any(|tx| !tx.events().is_empty());
    let asks_body = |set: &&BufferPatterns| set.buffer.is_body();
    let are_raw = rules.sets.iter().filter(asks_body).all(|set| set.is_raw);
    let are_there = group.with_bodies(side).is_some() || !rules.sets.iter().any(|s| asks_body(&s));
    !rules.bare_goes_on && (rules.events.is_empty() || !has_events) && are_raw && are_there
}

/// Bytes before a segment that are looked at again at most: longer patterns are rare, and have all go the long way.
pub const REACH_MAX: usize = 128;
