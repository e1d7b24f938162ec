//! Header prediction: the short way of a segment that is what was expected, inline.
//!
//! ```text
//!   long way:   ... look at it --> what will the next segment of each side need? --> noted with the flow
//!   short way:  in order, nothing odd? --> payload behind the stream's last bytes --> patterns --> none: it passes
//!                       | no                                                             | some
//!                       +--> long way                                                    +--> rules, the long way
//! ```
//!
//! The application of a flow is not asked meanwhile: it is in the middle of something that the patterns of the stream cover. What
//! went by is made up for before the long way is gone again, with the last bytes that the stream has kept for that.

use nfv_core::clock::Time;

use super::counters::Counter;
use super::decode::Upper;
use super::flow::FlowPhase;
use super::look::Look;
use super::settings::Checksums;
use super::tcp::{is_header_sum_right, is_sum_right};
use super::worker::{Level, PASS};
use super::{Inspector, Recorder, Verdict};
use crate::ids::app::Expected;
use crate::ids::buffer::Side;
use crate::ids::detect::Plan;
use crate::ids::stream::{Ahead, End, TcpState};

/// What is known of the next segments of a side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Predicted {
    /// One without a payload need not be looked at.
    pub is_quiet: bool,
    /// What one with a payload is looked at with.
    pub plan: Option<Plan>,
    /// Whether its last bytes are kept for the application.
    pub keeps: bool,
    /// Fewer bytes than these need not be known to the application at once.
    pub left: u32,
    /// Bytes that it does not know of.
    pub passed: u32,
}

impl Inspector {
    /// Inspects a segment that is what was expected. `None`: it is not, and nothing was done.
    pub(super) fn predicted(
        &mut self,
        number: u32,
        from: End,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Option<Verdict> {
        let Upper::Tcp { segment, .. } = &level.decoded.upper else { return None };
        let flow = self.flows.get(number)?;
        let side = flow.side_of(from);
        let predicted = flow.predicted.get(side.index()).filter(|p| p.is_quiet)?;
        let is_odd = !level.decoded.remarks.names().is_empty() || !level.is_frame;
        let length = u32::try_from(segment.payload.len()).ok()?;
        let plan = predicted.plan.filter(|_| length < predicted.left);
        let is_foreseen = flow.predicted_by == self.generation && (length == 0 || plan.is_some());
        if is_odd || !is_foreseen || !self.is_sum_right(level) {
            return None;
        }
        let id = flow.stream()?;
        let now = level.seen.time;
        if length == 0 {
            if !self.streams.expect_ack(id, stream_side(side), segment, now) {
                return None;
            }
            self.count_predicted(number, side, (1, 0, level.length.into()), now, segment.flags.0);
            return Some(PASS);
        }
        let plan = plan?;
        let kept = if predicted.keeps { self.kept_for_bodies(side)? } else { 0 };
        let reach = self.detector.reach(side, Some(plan))?;
        let detector = &mut self.detector;
        let glance = |window: &[u8]| detector.glance(side, plan, segment.payload, window);
        let ahead = Ahead { reach, kept };
        let was_seen =
            self.streams.expect_data(id, stream_side(side), segment, now, ahead, glance)?;
        let counts = (1, length, level.length.into());
        self.count_predicted(number, side, counts, now, segment.flags.0);
        if was_seen {
            return Some(PASS);
        }
        self.catch_up(number, side, length);
        self.news.clear();
        self.news.fed = u64::from(length);
        self.news.has_grown = true;
        let look = Look {
            side,
            is_established: true,
            tcp: Some(TcpState::Established),
            is_in_stream: true,
            ..Look::of(number)
        };
        let verdict = self.look(look, level, recorder);
        self.predict(number);
        Some(verdict)
    }

    fn is_sum_right(&self, level: &Level<'_>) -> bool {
        let is_right = |ip| is_header_sum_right(ip) && is_sum_right(ip);
        self.settings.checksums != Checksums::Validate
            || level.decoded.ip.as_ref().is_some_and(is_right)
    }

    /// So many packets, bytes of payload and bytes on the wire, and all their flags.
    pub(super) fn count_predicted(
        &mut self,
        number: u32,
        side: Side,
        (packets, length, wire): (u32, u32, u64),
        now: Time,
        flags: u8,
    ) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        flow.count_some(side, (packets.into(), wire), now);
        if let Some(all) = flow.tcp_flags.get_mut(side.index()) {
            *all |= flags;
        }
        if let Some(predicted) = flow.predicted.get_mut(side.index()) {
            predicted.left -= length.min(predicted.left);
            predicted.passed += length;
        }
        self.flows.touch(number);
        self.counters.add(Counter::Predicted, packets.into());
    }

    /// Notes what the next segments of a flow will need, behind one that was looked at.
    pub(super) fn predict(&mut self, number: u32) {
        if self.is_passive() {
            return;
        }
        let (is_plain, id) = match self.flows.get(number) {
            Some(flow) => {
                (flow.phase == FlowPhase::Established && !flow.is_decided(), flow.stream())
            }
            None => return,
        };
        let view = id.and_then(|id| self.streams.view(id)).filter(|_| is_plain);
        let Some(flow) = self.flows.get_mut(number) else { return };
        let client = flow.client();
        let is_open =
            view.is_some_and(|view| view.state == TcpState::Established && view.client == client);
        flow.predicted = Default::default();
        if !is_open || !flow.has_seen_both() {
            return;
        }
        flow.predicted_by = self.generation;
        let limits = &self.settings.apps;
        let [up, down] = [flow.key.ends.port(client), flow.key.ends.port(client.other())];
        for side in [Side::ToServer, Side::ToClient] {
            let ports = if side == Side::ToServer { [up, down] } else { [down, up] };
            let (app, state) = (flow.app.as_deref(), flow.state.as_deref());
            let expected = match app {
                Some(app) => app.expects(side, limits),
                None => flow.is_unparsed().then_some((Expected::Nothing, u32::MAX)),
            };
            let expects = expected.map(|(expected, _)| expected);
            let outlook = self.detector.outlook(side, ports, app, state, expects);
            if let Some(place) = flow.predicted.get_mut(side.index()) {
                *place = Predicted {
                    is_quiet: outlook.is_quiet,
                    plan: outlook.plan,
                    keeps: expects == Some(Expected::Body),
                    left: expected.map_or(0, |(_, left)| left),
                    passed: 0,
                };
            }
        }
    }

    /// Tells the application of a flow what went by.
    #[inline]
    pub(super) fn catch_up_both(&mut self, number: u32) {
        for side in [Side::ToServer, Side::ToClient] {
            self.catch_up(number, side, 0);
        }
    }

    /// The same of a side; `fresh`: the last bytes, which are to be looked at yet.
    fn catch_up(&mut self, number: u32, side: Side, fresh: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        let Some(predicted) = flow.predicted.get_mut(side.index()) else { return };
        let (passed, id) = (std::mem::take(&mut predicted.passed), flow.stream());
        let (Some(app), Some(id), true) = (flow.app.as_deref_mut(), id, passed > 0) else { return };
        let window = self.detector.looks_back(side, self.settings.apps.body_window);
        let streams = &mut self.streams;
        app.catch_up(side, (passed, fresh), window, |most, to| {
            streams.fetch(id, stream_side(side), most, |bytes| to.extend_from_slice(bytes));
        });
    }

    /// Bytes of a direction that are kept for what its application may ask for; `None`: it may ask for too many.
    pub(super) fn kept_for_bodies(&self, side: Side) -> Option<u16> {
        let window = self.detector.looks_back(side, self.settings.apps.body_window);
        u16::try_from(window + SEGMENT_MAX).ok()
    }
}

/// Whose bytes go that way, of a flow whose client is the stream's.
#[inline]
pub(super) fn stream_side(side: Side) -> crate::ids::stream::Side {
    match side {
        Side::ToServer => crate::ids::stream::Side::Client,
        Side::ToClient => crate::ids::stream::Side::Server,
    }
}

/// Bytes of a segment that goes this way, at most.
const SEGMENT_MAX: usize = 2048;
