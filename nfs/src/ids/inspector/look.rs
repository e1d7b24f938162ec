//! Rules on a packet and on what is new of its flow, and what becomes of both.

use nfv_core::clock::Time;

use super::counters::Counter;
use super::decode::{Decoded, Start, Upper};
use super::flow;
use super::rewrite::Rewrite;
use super::tcp::end_both;
use super::tell::Ends;
use super::worker::{Level, PASS, address};
use super::{Answer, Inspector, Recorder, Seen, Verdict};
use crate::ids::app::Stage;
use crate::ids::buffer::Side;
use crate::ids::detect::{FlowFacts, Packet, Subject};
use crate::ids::eve::DropReason;
use crate::ids::rules::Action;
use crate::ids::stream::{Events, Mode, TcpState};

/// What is known of a packet of a flow when rules are evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its flow's number.
    pub flow: u32,
    /// Which way it goes.
    pub side: Side,
    /// The first of its direction.
    pub is_first: bool,
    /// The handshake was done before it; of others than TCP: both sides have spoken.
    pub is_established: bool,
    /// Where the connection stands.
    pub tcp: Option<TcpState>,
    /// Its payload is seen in the stream, too.
    pub is_in_stream: bool,
    /// All that is left of the flow is looked at now.
    pub is_ending: bool,
    /// What is odd about the segment.
    pub events: Events,
    /// Its payload differs from what passed before.
    pub rewrite: Option<Rewrite>,
    /// It does, and cannot be made the same: it came in fragments, or in a tunnel.
    pub is_other: bool,
}

impl Inspector {
    /// Evaluates rules on a packet without a flow.
    pub(super) fn look_at_packet(
        &mut self,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        let packet = packet_of(level);
        let mut subject = Subject {
            packet,
            flow: None,
            state: None,
            app: None,
            limits: &self.settings.apps,
            streams: None,
            stream_events: Events::NONE,
            app_events: &[],
        };
        self.detector.inspect(&mut subject, &mut self.matches);
        self.tell_header_events(None, level, recorder);
        self.answer(None, &Ends::Packet(level), recorder)
    }

    /// Evaluates rules on a packet of a flow and on what is new of its direction, tells what there is to be told, and
    /// frees what nobody needs any more.
    pub(super) fn look(
        &mut self,
        look: Look,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        let packet = packet_of(level);
        let listed = self.listed_name(&look);
        self.evaluate(&look, packet);
        if self.matches.is_quiet && !self.news.has_news && self.news.fed == 0 {
            return PASS;
        }
        let mut verdict = self.answer(Some(&look), &Ends::Packet(level), recorder);
        if let Some((rule, id)) = listed {
            verdict = self.blocked(&look, level, &rule, Some(id), verdict, recorder);
        }
        self.tell_header_events(Some(&look), level, recorder);
        self.log_transactions(look.flow, &Ends::Packet(level), recorder);
        self.collect(look.flow);
        if let Some(rewrite) = look.rewrite
            && !verdict.answer.is_drop()
        {
            self.counters.add(Counter::Rewritten, 1);
            verdict.rewrite = Some(rewrite);
        }
        verdict
    }

    /// The same of a packet that is to say what passed before, with the bytes that it will have.
    pub(super) fn look_rewritten(
        &mut self,
        look: Look,
        rewrite: &Rewrite,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        let mut frame = level.seen.frame.to_vec();
        self.rewrite(rewrite, &mut frame);
        let seen = Seen { frame: &frame, ..*level.seen };
        let tunnels = &self.settings.tunnels;
        let decoded = Decoded::of(Start::Ethernet, seen.frame, seen.wire_length, tunnels);
        self.look(look, &Level { seen: &seen, decoded: &decoded, ..*level }, recorder)
    }

    /// Evaluates rules on what is new of a direction, with a packet of no content: before more of it is taken.
    pub(super) fn look_at_rest(
        &mut self,
        look: &Look,
        side: Side,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) {
        self.look_aside(&Look { is_ending: false, ..*look }, side, level, recorder);
    }

    /// Evaluates rules on all that a direction has before nothing more of it is shown.
    pub(super) fn look_at_last(
        &mut self,
        look: &Look,
        side: Side,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) {
        self.look_aside(&Look { is_ending: true, ..*look }, side, level, recorder);
    }

    fn look_aside(
        &mut self,
        look: &Look,
        side: Side,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Some(packet) = self.empty_packet(look.flow, side, level.seen.time) else { return };
        let look = Look { side, rewrite: None, ..*look };
        self.evaluate(&look, packet);
        let ends = Ends::Level { level, side };
        let verdict = self.answer(Some(&look), &ends, recorder);
        // What is dropped because of what waits is the packet that made it be told.
        if verdict.answer.is_drop()
            && let Some(flow) = self.flows.get_mut(look.flow)
            && self.settings.streams.mode == Mode::Inline
        {
            flow.mark(flow::DROPPED);
        }
        self.log_transactions(look.flow, &ends, recorder);
        self.collect(look.flow);
    }

    /// Looks at all that is left of a flow that ends: both directions, with packets of no content.
    pub(super) fn look_at_end(&mut self, number: u32, recorder: &mut impl Recorder) {
        let Some(id) = self.tell_end(number) else { return };
        for _ in 0..WAITS_MAX {
            self.look_at_both_ends(number, recorder);
            if !self.news.is_waiting() {
                break;
            }
            let Some(app) = self.flows.get_mut(number).and_then(|flow| flow.app.as_deref_mut())
            else {
                break;
            };
            self.news.feed_waiting(app, &self.settings.apps);
        }
        if let Some(flow) = self.flows.get_mut(number) {
            if self.news.is_swapped {
                flow.turn();
                self.streams.turn(id);
            }
            if let Some(app) = flow.app.as_deref_mut() {
                end_both(app, &mut self.news, &self.settings.apps);
            }
        }
        self.look_at_both_ends(number, recorder);
    }

    fn look_at_both_ends(&mut self, number: u32, recorder: &mut impl Recorder) {
        let tcp = self.flows.get(number).and_then(flow::Flow::stream);
        let tcp = tcp.and_then(|id| self.streams.view(id)).map(|view| view.state);
        for side in [Side::ToServer, Side::ToClient] {
            let Some(packet) = self.empty_packet(number, side, self.now) else { return };
            let look =
                Look { side, is_established: true, tcp, is_ending: true, ..Look::of(number) };
            self.evaluate(&look, packet);
            let ends = Ends::Flow { side, time: self.now };
            let _ = self.answer(Some(&look), &ends, recorder);
            self.log_transactions(number, &ends, recorder);
        }
        self.collect(number);
    }

    /// A packet of a flow that has nothing in it.
    fn empty_packet(&self, number: u32, side: Side, time: Time) -> Option<Packet<'static>> {
        let flow = self.flows.get(number)?;
        let client = flow.client();
        let from = if side == Side::ToServer { client } else { client.other() };
        let ends = &flow.key.ends;
        Some(Packet {
            time,
            src: ends.address(from),
            dst: ends.address(from.other()),
            protocol: flow.key.protocol,
            sport: ends.port(from),
            dport: ends.port(from.other()),
            network: &[],
            upper: &[],
            payload: &[],
            was_fragmented: false,
            is_fragment: false,
            remarks: &[],
        })
    }

    /// Evaluates rules on a packet of a flow, unless the flow is one that passes.
    fn evaluate(&mut self, look: &Look, packet: Packet<'_>) {
        self.matches.clear();
        self.app_events.clear();
        let Some(flow) = self.flows.get_mut(look.flow) else { return };
        if self.news.has_news
            && let Some(app) = flow.app.as_deref_mut()
        {
            self.app_events = app.take_events();
        }
        if flow.has(flow::PASSED | flow::DROPPED) {
            if let Some(app) = flow.app.as_deref_mut() {
                mark_all(app, &mut self.ids, &self.settings.apps);
            }
            return;
        }
        let stream = flow.stream();
        let mut subject = Subject {
            packet,
            flow: Some(FlowFacts {
                side: look.side,
                is_established: look.is_established,
                is_first_of_side: look.is_first,
                tcp: look.tcp,
                is_in_stream: look.is_in_stream,
                is_ending: look.is_ending,
            }),
            state: Some(match flow.state.as_deref_mut() {
                Some(state) => state,
                None => &mut self.blank,
            }),
            app: flow.app.as_deref_mut(),
            limits: &self.settings.apps,
            streams: stream.map(|id| (&mut self.streams, id)),
            stream_events: look.events,
            app_events: &self.app_events,
        };
        self.guess = guess_of(subject.app.as_deref(), look.side);
        self.detector.inspect(&mut subject, &mut self.matches);
        // What it keeps with the flow gets a place there once there is something.
        if flow.state.is_none() && !self.blank.is_blank() {
            flow.state = Some(Box::new(std::mem::take(&mut self.blank)));
        }
    }

    /// Tells what matched, and says what becomes of the packet.
    fn answer(
        &mut self,
        look: Option<&Look>,
        ends: &Ends<'_>,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        let action = self.matches.action.map(|(_, action)| action);
        let is_passive = self.is_passive();
        let drops = matches!(action, Some(Action::Drop | Action::Reject(_)));
        let tells = !self.matches.told.is_empty();
        if (tells || self.matches.passes_flow || drops)
            && let Some(flow) = look.and_then(|look| self.flows.get_mut(look.flow))
        {
            if tells {
                flow.mark(flow::ALERTED);
            }
            if self.matches.passes_flow {
                flow.mark(flow::PASSED);
            }
            // Passive, its packets go on, and nobody looks at them any more either.
            if drops && self.matches.drops_flow {
                flow.mark(flow::DROPPED);
            }
        }
        let [held_back, crowded] = self.matches.untold;
        self.counters.add(Counter::AlertsSuppressed, u64::from(held_back));
        self.counters.add(Counter::AlertsOverflow, u64::from(crowded));
        if tells {
            self.tell_alerts(look, ends, recorder);
        } else if self.matches.is_tagged {
            self.tell_tagged(look, ends, recorder);
        }
        let answer = match action {
            Some(Action::Drop) => Answer::Drop,
            Some(Action::Reject(to)) => Answer::Reject(to),
            _ => Answer::Pass,
        };
        if answer.is_drop()
            && !is_passive
            && let Ends::Packet(level) = ends
        {
            let rule = self.matches.action.map(|(rule, _)| rule);
            let is_rated = self.matches.is_rated;
            let reason = if is_rated { DropReason::Threshold } else { DropReason::Rules };
            self.tell_drop(look, level, reason, rule, recorder);
        }
        Verdict { answer, rewrite: None }
    }

    /// What was decided for a flow before this packet.
    pub(super) fn decided(
        &mut self,
        look: &Look,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Option<Verdict> {
        if !self.flows.get(look.flow)?.has(flow::DROPPED) || self.is_passive() {
            return None;
        }
        self.tell_drop(Some(look), level, DropReason::FlowDrop, None, recorder);
        Some(Verdict { answer: Answer::Drop, ..PASS })
    }

    /// Frees what of a flow's application nobody needs any more, and counts what is left.
    fn collect(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        let mut has_changed = self.news.has_grown || flow.state.is_some();
        if let Some(app) = flow.app.as_deref_mut() {
            let open = app.transactions().len();
            if open > 0 {
                app.transactions_mut().collect();
                has_changed |= app.transactions().len() != open;
            }
            let [was, _] = std::mem::replace(&mut flow.protocols, [app.protocol(), app.original()]);
            if let (None, Some(protocol)) = (was, app.protocol()) {
                self.counters.add(Counter::of_app(protocol, flow.key.protocol), 1);
            }
            if app.is_ignored() && app.transactions().is_empty() {
                flow.transactions += app.transactions().count();
                flow.app = None;
                flow.mark(flow::NO_APP);
                has_changed = true;
            }
        }
        if has_changed {
            self.weigh(number);
        }
    }
}

/// The only transaction of a side that is not looked at yet, if there is no other: that of a rule which matches outside of
/// transactions, most likely.
fn guess_of(app: Option<&crate::ids::app::App>, side: Side) -> Option<u64> {
    let transactions = app?.transactions();
    let open = transactions.iter().find(|tx| tx.inspected(side) < Stage::Complete)?;
    (open.id() + 1 == transactions.count()).then(|| open.id())
}

/// Says of all transactions that nobody evaluates rules on them.
fn mark_all(app: &mut crate::ids::app::App, ids: &mut Vec<u64>, limits: &crate::ids::app::Limits) {
    ids.clear();
    ids.extend(app.transactions().iter().map(crate::ids::app::Transaction::id));
    for id in ids.iter() {
        for side in [Side::ToServer, Side::ToClient] {
            app.transactions_mut().mark_inspected(*id, side, limits);
        }
    }
}

/// A packet as rules see it.
fn packet_of<'l>(level: &Level<'l>) -> Packet<'l> {
    let decoded = level.decoded;
    let (sport, dport) = decoded.ports();
    let none = std::net::IpAddr::from([0, 0, 0, 0]);
    Packet {
        time: level.seen.time,
        src: decoded.ip.as_ref().map_or(none, |ip| address(ip.kind, ip.src)),
        dst: decoded.ip.as_ref().map_or(none, |ip| address(ip.kind, ip.dst)),
        protocol: decoded.ip.as_ref().map_or(0, |ip| ip.protocol),
        sport,
        dport,
        network: decoded.ip.as_ref().map_or(&[], |ip| ip.network),
        upper: match (&decoded.ip, &decoded.upper) {
            (Some(ip), upper) if !matches!(upper, Upper::None) => ip.rest,
            _ => &[],
        },
        payload: decoded.payload(),
        was_fragmented: level.was_fragmented,
        is_fragment: decoded.ip.as_ref().is_some_and(|ip| ip.piece.is_some()),
        remarks: decoded.remarks.names(),
    }
}

/// As often as in [`super::tcp`].
const WAITS_MAX: usize = 4096;
