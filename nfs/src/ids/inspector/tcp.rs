//! Segments: through the stream engine to the application.

use nfv_core::packet::checksum::Sum;
use nfv_core::packet::{L3, protocol};

use super::counters::Counter;
use super::decode::Ip;
use super::feed::{Feed, News, way_of};
use super::flow::{self, Flow, FlowPhase};
use super::look::Look;
use super::rewrite::Rewrite;
use super::settings::{Bypass, Checksums, Invalid};
use super::worker::Level;
use super::{Answer, Inspector, Recorder, Verdict};
use crate::ids::app::{App, Input, Limits, Pickup, Ports, Protocol};
use crate::ids::buffer::Side;
use crate::ids::eve::{DropReason, FlowEnd};
use crate::ids::stream::{
    NotFollowed, Outcome, Phase, Segment, StreamId, TcpState, Verdict as Taken,
};

impl Inspector {
    /// A segment of a flow.
    pub(super) fn tcp(
        &mut self,
        mut look: Look,
        level: &Level<'_>,
        segment: &Segment<'_>,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        if self.settings.checksums == Checksums::Validate
            && level
                .decoded
                .ip
                .as_ref()
                .is_some_and(|ip| !is_header_sum_right(ip) || !is_sum_right(ip))
        {
            self.counters.add(Counter::BadChecksums, 1);
            return self.look(look, level, recorder);
        }
        let mut outcome = self.follow(&look, level, segment);
        if outcome.is_some_and(|outcome| outcome.verdict == Taken::Reopens) {
            look = self.reopen(&look, level, recorder);
            outcome = self.follow(&look, level, segment);
        }
        let Some(outcome) = outcome else { return self.look_at_packet(level, recorder) };
        self.note(&mut look, level, segment, &outcome);
        self.settle(&mut look, level, recorder);
        self.tell_stream_events(&look, level, &outcome.events, recorder);
        // Nobody behind is to see what was not looked at.
        let is_dropped = self.is_refused(&outcome) || look.is_other;
        let mut verdict = match look.rewrite {
            Some(rewrite) => self.look_rewritten(look, &rewrite, level, recorder),
            None => self.look(look, level, recorder),
        };
        if is_dropped && !verdict.answer.is_drop() {
            self.tell_drop(Some(&look), level, DropReason::StreamError, None, recorder);
            verdict.answer = Answer::Drop;
        }
        self.predict(look.flow);
        let deep = outcome.is_done && self.settings.bypass != Bypass::Never;
        // Where packets are dropped one by one, each is looked at.
        if !verdict.answer.is_drop() && (deep || self.may_be_let_go(look.flow)) {
            self.let_go(look.flow);
            if verdict.answer == Answer::Pass {
                verdict.answer = Answer::Bypass;
            }
        } else if verdict.answer == Answer::Pass && self.may_pass_by(&look, &outcome) {
            self.let_pass_by(&look, &outcome);
            verdict.answer = Answer::Bypass;
        }
        verdict
    }

    /// Whether nothing of a segment's direction is looked at any more, while the other one is: of a download its answer, not
    /// the next request. Passive, what one side acknowledges decides about what the other says, and all must be seen.
    fn may_pass_by(&self, look: &Look, outcome: &Outcome) -> bool {
        outcome.is_side_done
            && outcome.state == TcpState::Established
            && matches!(outcome.verdict, Taken::Taken | Taken::NoPayload)
            && !look.is_ending
            && self.settings.bypass != Bypass::Never
            && !self.is_passive()
    }

    fn let_pass_by(&mut self, look: &Look, outcome: &Outcome) {
        if let Some(flow) = self.flows.get_mut(look.flow) {
            flow.mark(flow::one_of(flow::PASSES_BY, look.side));
        }
        if let Some(id) = outcome.stream {
            self.streams.let_pass_by(id, outcome.side);
        }
    }

    /// Inline: whether a segment is dropped because no receiver would take it.
    fn is_refused(&self, outcome: &Outcome) -> bool {
        outcome.verdict == Taken::Refused
            && !self.is_passive()
            && self.settings.invalid == Invalid::Drop
    }

    /// Whether the rest of a flow is encrypted, all of it was looked at, and that is enough.
    fn may_be_let_go(&self, number: u32) -> bool {
        self.settings.bypass == Bypass::DeepOrEncrypted
            && self.flows.get(number).is_some_and(|flow| {
                flow.has(flow::ENCRYPTED)
                    && flow.app.as_ref().is_none_or(|app| app.transactions().is_empty())
            })
    }

    /// Has the stream engine follow a segment, and the application take what it tells.
    fn follow(&mut self, look: &Look, level: &Level<'_>, segment: &Segment<'_>) -> Option<Outcome> {
        self.news.clear();
        let flow = self.flows.get_mut(look.flow)?;
        let (key, client) = (flow.key.ends, flow.client());
        let from = if look.side == Side::ToServer { client } else { client.other() };
        let known = flow.stream();
        let is_turned =
            known.and_then(|id| self.streams.view(id)).is_some_and(|view| view.client != client);
        let pickup = if flow.has(flow::MIDSTREAM) { Pickup::Midstream } else { Pickup::Start };
        let is_closed = flow.has(flow::NO_APP);
        let mut feed = Feed {
            ports: ports_of(flow.key.ends.port(client), flow.key.ends.port(client.other())),
            app: &mut flow.app,
            pickup,
            limits: &self.settings.apps,
            is_turned,
            is_closed,
            late: None,
            news: &mut self.news,
        };
        let now = level.seen.time;
        Some(self.streams.segment_of(known, (&key, from), segment, now, &mut feed))
    }

    /// Ends a flow because of the SYN of a new one between its ends, and begins that.
    fn reopen(&mut self, look: &Look, level: &Level<'_>, recorder: &mut impl Recorder) -> Look {
        let Some(flow) = self.flows.get_mut(look.flow) else { return *look };
        // The packet was counted for the old one.
        let [up, down] = &mut flow.counts.packets;
        let packets = if look.side == Side::ToServer { up } else { down };
        *packets = packets.saturating_sub(1);
        let [up, down] = &mut flow.counts.bytes;
        let bytes = if look.side == Side::ToServer { up } else { down };
        *bytes = bytes.saturating_sub(u64::from(level.length));
        let client = flow.client();
        let from = if look.side == Side::ToServer { client } else { client.other() };
        self.end(look.flow, FlowEnd::TcpReuse, recorder);
        match self.flow_of(level, recorder) {
            Some((number, _)) => self.enter(number, from, level),
            None => Look::of(0),
        }
    }

    /// Notes what a segment was.
    fn note(
        &mut self,
        look: &mut Look,
        level: &Level<'_>,
        segment: &Segment<'_>,
        outcome: &Outcome,
    ) {
        look.events = outcome.events;
        let Some(flow) = self.flows.get_mut(look.flow) else { return };
        let Some(id) = outcome.stream else {
            if matches!(outcome.verdict, Taken::NotFollowed(NotFollowed::Midstream)) {
                flow.mark(flow::MIDSTREAM);
            }
            return;
        };
        flow.set_stream(Some(id));
        if outcome.is_new
            && let Some(view) = self.streams.view(id)
        {
            if !view.began_with_syn {
                flow.mark(flow::MIDSTREAM);
            }
            // A SYN-ACK is the server's: who spoke first here is not who opened it.
            if view.client != flow.client() {
                flow.turn();
            }
        }
        look.side = way_of(outcome.side);
        if let Some(view) = self.streams.view(id)
            && view.client != flow.client()
        {
            look.side = look.side.opposite();
        }
        if let Some(flags) = flow.tcp_flags.get_mut(look.side.index()) {
            *flags |= segment.flags.0;
        }
        note_gaps(flow, &self.news);
        look.tcp = Some(outcome.state);
        look.is_in_stream = outcome.verdict == Taken::Taken && !segment.payload.is_empty();
        if flow.phase != FlowPhase::Bypassed {
            flow.phase = phase_of(outcome.state.phase());
        }
        if outcome.must_be_rewritten {
            let rewrite = || Rewrite::of(id, outcome.side, segment, level);
            look.rewrite = level.is_frame.then(rewrite).flatten();
            look.is_other = look.rewrite.is_none();
        }
        look.is_ending = outcome.state == TcpState::Closed && !flow.has(flow::TOLD_END);
        if look.is_ending {
            flow.mark(flow::TOLD_END);
            if let Some(app) = flow.app.as_deref_mut() {
                end_both(app, &mut self.news, &self.settings.apps);
            }
        }
        self.flows.touch(look.flow);
    }

    /// Has what waits taken, as far as transactions become free, and turns the flow if its client is its server.
    fn settle(&mut self, look: &mut Look, level: &Level<'_>, recorder: &mut impl Recorder) {
        for _ in 0..WAITS_MAX {
            if !self.news.is_waiting() {
                break;
            }
            for side in [Side::ToServer, Side::ToClient] {
                self.look_at_rest(look, side, level, recorder);
            }
            let Some(flow) = self.flows.get_mut(look.flow) else { break };
            let Some(app) = flow.app.as_deref_mut() else { break };
            self.news.feed_waiting(app, &self.settings.apps);
        }
        if self.news.is_waiting() {
            self.news.give_up();
        }
        if self.news.is_swapped {
            self.turn(look);
        }
        if self.news.is_encrypted {
            // What came before is not encrypted, and is looked at now, as no window is shown any more.
            for side in [Side::ToServer, Side::ToClient] {
                self.look_at_last(look, side, level, recorder);
            }
            self.note_encrypted(look.flow);
        }
    }

    /// Has a flow's ends change places, and so the way that its packet goes.
    fn turn(&mut self, look: &mut Look) {
        self.news.is_swapped = false;
        look.side = look.side.opposite();
        let Some(flow) = self.flows.get_mut(look.flow) else { return };
        flow.turn();
        if let Some(id) = flow.stream() {
            self.streams.turn(id);
        }
    }

    fn note_encrypted(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        flow.mark(flow::ENCRYPTED);
        if let Some(id) = flow.stream() {
            for side in crate::ids::stream::Side::BOTH {
                self.streams.unwatch(id, side);
            }
        }
    }

    /// Gives a datagram to its flow's application.
    pub(super) fn datagram(&mut self, look: &mut Look, payload: &[u8]) {
        self.news.clear();
        let Some(flow) = self.flows.get_mut(look.flow) else { return };
        if payload.is_empty() || flow.has(flow::NO_APP) {
            return;
        }
        let client = flow.client();
        let ports = ports_of(flow.key.ends.port(client), flow.key.ends.port(client.other()));
        if flow.app.is_none() {
            let app = App::udp(ports);
            if app.is_ignored() {
                if flow.protocols == [None; 2] {
                    self.counters.add(Counter::AppFailed, 1);
                }
                flow.protocols = [Some(Protocol::Failed), None];
                flow.mark(flow::NO_APP);
                return;
            }
            flow.app = Some(Box::new(app));
        }
        let Some(app) = flow.app.as_deref_mut() else { return };
        let progress = app.feed(look.side, Input::Bytes(payload), &self.settings.apps);
        self.news.note(progress);
        self.news.fed += payload.len() as u64;
        if self.news.is_swapped {
            self.turn(look);
        }
    }

    /// Tells all that a stream has left, and that nothing more comes.
    pub(super) fn tell_end(&mut self, number: u32) -> Option<StreamId> {
        self.news.clear();
        let flow = self.flows.get_mut(number)?;
        let id = flow.stream()?;
        let client = flow.client();
        let is_turned = self.streams.view(id).is_some_and(|view| view.client != client);
        let pickup = if flow.has(flow::MIDSTREAM) { Pickup::Midstream } else { Pickup::Start };
        let is_closed = flow.has(flow::NO_APP);
        let mut feed = Feed {
            ports: ports_of(flow.key.ends.port(client), flow.key.ends.port(client.other())),
            app: &mut flow.app,
            pickup,
            limits: &self.settings.apps,
            is_turned,
            is_closed,
            late: Some([0; 2]),
            news: &mut self.news,
        };
        let _ = self.streams.finish(id, &mut feed);
        note_gaps(flow, &self.news);
        Some(id)
    }
}

/// Whether an IPv4 header's checksum is right: hosts and routers throw away what has another. IPv6 has none.
#[inline]
pub(super) fn is_header_sum_right(ip: &Ip<'_>) -> bool {
    let header = ip.network.len().saturating_sub(ip.rest.len());
    ip.kind != L3::Ipv4 || Sum::of(ip.network.get(..header).unwrap_or_default()).is_right()
}

/// Whether a segment's checksum is right; one that a capture cut is taken to be.
pub(super) fn is_sum_right(ip: &Ip<'_>) -> bool {
    if ip.rest.len() as u64 != u64::from(ip.rest_length) {
        return true;
    }
    sum_of_pseudo_header(ip, ip.rest_length).plus(Sum::of(ip.rest)).is_right()
}

/// The sum of what TCP's checksum covers before the segment (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(super) fn sum_of_pseudo_header(ip: &Ip<'_>, length: u32) -> Sum {
    let ends = match ip.kind {
        L3::Ipv6 => Sum::of(&ip.src.v6()).plus(Sum::of(&ip.dst.v6())),
        _ => Sum::of(&ip.src.v4()).plus(Sum::of(&ip.dst.v4())),
    };
    ends.plus(Sum::of(&length.to_be_bytes())).plus(Sum::of_words(&[protocol::TCP.into()]))
}

/// Notes of which sides bytes are missing.
pub(super) fn note_gaps(flow: &mut Flow, news: &News) {
    for side in [Side::ToServer, Side::ToClient] {
        if news.gaps.get(side.index()).is_some_and(|gap| *gap) {
            flow.mark(flow::one_of(flow::GAPS, side));
        }
        if news.headless.get(side.index()).is_some_and(|headless| *headless) {
            flow.mark(flow::one_of(flow::HEADLESS, side));
        }
    }
}

/// Tells an application that nothing more comes.
pub(super) fn end_both(app: &mut App, news: &mut News, limits: &Limits) {
    for side in [Side::ToServer, Side::ToClient] {
        let progress = app.feed(side, Input::Eof, limits);
        news.note(progress);
    }
}

pub(super) fn ports_of(client: u16, server: u16) -> Ports {
    Ports { client, server }
}

pub(super) fn phase_of(phase: Phase) -> FlowPhase {
    match phase {
        Phase::New => FlowPhase::New,
        Phase::Established => FlowPhase::Established,
        Phase::Closed => FlowPhase::Closed,
    }
}

/// How often transactions are looked at so that one segment's bytes are taken. Each time at least half of those that may
/// be open become free; a megabyte of the shortest requests needs fewer.
const WAITS_MAX: usize = 4096;
