//! One worker's detection: what is looked at of a packet, in which order.
//!
//! ```text
//!   once a flow and direction:  rules of addresses, of the application
//!   each packet:                group --> patterns of payload and stream --> candidates --+
//!                                     \-> rules without a pattern, of events  ------------+--> header --> bytes --> hits
//!   transactions with news:     buffer --> patterns --> candidates, rules that were begun --> header --> buffers --> hits
//!   hits --> order, thresholds, pass --> Matches
//! ```

use std::sync::Arc;

use super::captured::Captured;
use super::engine::{Engine, View};
use super::finish::{self, Hit};
use super::flow::FlowState;
use super::groups::Group;
use super::matcher::MatcherScratch;
use super::memory::Memory;
use super::packet::{self, Around, is_of_wire};
use super::patterns::Candidates;
use super::program::Program;
use super::ruleset::{Ready, Ruleset};
use super::scene::Scene;
use super::transactions::{self, has_plain_body, is_due};
use super::windows::{Windows, side_of};
use super::{Matches, Origin, Packet, Subject, header};
use crate::ids::app::{App, Stage};
use crate::ids::rules::{AppTest, Buffer, CaptureScope, Only, Rule, RuleKind, Side};
use crate::ids::stream::{Event, Mode, Segment, StreamId, Streams, TcpState, When};

/// What one worker needs to match rules.
#[derive(Debug)]
pub struct Detector {
    ruleset: Arc<Ruleset>,
    memory: Arc<Memory>,
    work: Work,
}

/// What a call works with; kept, so that no packet allocates.
#[derive(Debug)]
pub(super) struct Work {
    pub scratch: MatcherScratch,
    pub engine: Engine,
    pub candidates: Candidates,
    /// Candidates by their pattern in the stream, sorted.
    pub streamed: Vec<u32>,
    pub list: Vec<u32>,
    pub windows: Windows,
    pub hits: Vec<Hit>,
    /// What groups of the hits' expressions matched, but for what flows keep.
    pub captured: Vec<(u32, Captured)>,
    events: Vec<u16>,
    pub transactions: Vec<u64>,
    /// The patterns of bodies were looked for along with those of the stream.
    pub looked_at_bodies: bool,
    /// The rules that are looked at in one transaction.
    pub begun_now: Vec<u32>,
}

impl Detector {
    /// Of one worker.
    pub fn new(ruleset: Arc<Ruleset>, memory: Arc<Memory>) -> Self {
        let mut scratch = MatcherScratch::default();
        ruleset.fit(&mut scratch);
        let work = Work {
            scratch,
            engine: Engine::new(EXPRESSIONS),
            candidates: Candidates::new(ruleset.len()),
            streamed: Vec::new(),
            list: Vec::new(),
            windows: Windows::default(),
            hits: Vec::new(),
            captured: Vec::new(),
            events: Vec::new(),
            transactions: Vec::new(),
            looked_at_bodies: false,
            begun_now: Vec::new(),
        };
        Self { ruleset, memory, work }
    }

    /// Its rules.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// Its rules, and what it works with.
    pub(super) fn parts(&mut self) -> (&Ruleset, &mut Work) {
        (&self.ruleset, &mut self.work)
    }

    /// Evaluations that took too long to say, and came to "no".
    pub fn given_up(&self) -> u64 {
        self.work.engine.given_up
    }

    /// Evaluates the rules on a packet, on what is new of its streams, and on what is new of its transactions.
    /// `matches` is emptied first.
    ///
    /// # Cost
    /// Some 100 ns, the patterns of the payload or stream, and what the candidates take.
    pub fn inspect(&mut self, subject: &mut Subject<'_>, matches: &mut Matches) {
        matches.clear();
        let Self { ruleset, memory, work } = self;
        let Subject { packet, flow, state, app, limits, streams, stream_events, app_events } =
            subject;
        // Without a flow there is nothing to keep.
        let mut nothing = FlowState::default();
        let state: &mut FlowState = match state {
            Some(state) => state,
            None => &mut nothing,
        };
        state.belong_to(ruleset.id);
        let side = flow.map_or(Side::ToServer, |flow| flow.side);
        if state.passes {
            pass_over(app.as_deref_mut(), limits, streams, side, &mut work.transactions);
            return;
        }
        work.begin();
        let mut events = std::mem::take(&mut work.events);
        gather_events(ruleset, packet, *stream_events, &mut events);
        let view = streams.as_ref().and_then(|(streams, id)| streams.view(*id));
        // The numbers that bytes have used; SYN's is one.
        let sizes = view.map(|view| view.sent.map(|sent| sent.wrapping_add(1)));
        let former = app.as_ref().and_then(|app| app.original());
        let former = former.filter(|_| !std::mem::replace(&mut state.asked_former, true));
        let scene = Scene {
            ruleset,
            memory,
            packet,
            flow: *flow,
            side,
            application: app.as_ref().and_then(|app| app.protocol()),
            former,
            around: Around { events: &events, sizes },
            is_again: stream_events.has(Event::PktRetransmission)
                || stream_events.has(Event::PktSpuriousRetransmission),
        };
        let [sport, dport] = [packet.sport, packet.dport];
        let group = ruleset.groups.of(packet.protocol, side, [sport, dport]);
        let streamed = streams.as_ref().map(|(streams, id)| (&**streams, *id));
        let has_events = !events.is_empty() || !app_events.is_empty();
        if !has_events && is_quiet(&scene, group, streamed, app.as_deref(), state, work) {
            work.events = events;
            matches.is_quiet = true;
            return;
        }
        once(&scene, state, work);
        for event in &events {
            ruleset.events.rules(*event).iter().for_each(|rule| work.candidates.add(*rule));
        }
        if let Some(group) = group {
            if let Some((streams, id)) = streams {
                stream(&scene, group, (streams, *id), app.as_deref(), state, work);
            }
            look(&scene, group, work);
        }
        let mut list = std::mem::take(&mut work.list);
        work.candidates.take(&mut list);
        for rule in &list {
            evaluate(&scene, *rule, state, work);
        }
        let of_application = &ruleset.application_events;
        if !app_events.is_empty() {
            for rule in of_application {
                application_event(&scene, *rule, app_events, state, work);
            }
        }
        work.list = list;
        if let Some(app) = app {
            transactions::inspect(&scene, app, limits, state, work);
        }
        let kept = flow.is_some().then_some(state);
        finish::finish(&scene, kept, &mut work.hits, matches);
        matches.captured.append(&mut work.captured);
        work.events = events;
    }
}

impl Work {
    fn begin(&mut self) {
        self.looked_at_bodies = false;
        self.streamed.clear();
        self.list.clear();
        self.windows.clear();
        self.hits.clear();
        self.captured.clear();
    }
}

/// Whether there is nothing that a rule could be about: of most flows every third packet just acknowledges.
fn is_quiet(
    scene: &Scene<'_>,
    group: Option<&Group>,
    streams: Option<(&Streams, StreamId)>,
    app: Option<&App>,
    state: &FlowState,
    work: &Work,
) -> bool {
    let Some(flow) = scene.flow else { return false };
    let is_empty =
        scene.packet.payload.is_empty() && group.is_none_or(|group| group.bare.is_empty());
    let is_turn = flow.is_first_of_side || flow.is_ending || scene.former.is_some();
    let is_tagged = state.tag.is_some() || scene.ruleset.tags_hosts;
    is_empty
        && !is_turn
        && !is_tagged
        && !asks_application(scene, state)
        && !streams.is_some_and(|(streams, id)| streams.has_unseen(id, side_of(scene.side)))
        && !app.is_some_and(|app| transactions::has_anything(scene, app, work))
}

/// Whether the rules of the flow's application alone are to be asked.
fn asks_application(scene: &Scene<'_>, state: &FlowState) -> bool {
    let is_known = scene.flow.is_some() && scene.application.is_some();
    let was_asked = state.asked_application.get(scene.side.index()).is_none_or(|asked| *asked);
    is_known && !scene.ruleset.application.is_empty() && !was_asked
}

/// Rules that are asked once a flow and direction.
fn once(scene: &Scene<'_>, state: &mut FlowState, work: &mut Work) {
    let is_first = scene.flow.is_none_or(|flow| flow.is_first_of_side);
    if is_first && is_of_wire(scene.packet) {
        scene.ruleset.ip_only.iter().for_each(|rule| work.candidates.add(*rule));
    }
    if asks_application(scene, state) {
        if let Some(asked) = state.asked_application.get_mut(scene.side.index()) {
            *asked = true;
        }
        scene.ruleset.application.iter().for_each(|rule| work.candidates.add(*rule));
    }
}

/// When windows of the stream are wanted: as soon as something may depend on it.
fn when(scene: &Scene<'_>, streams: &Streams, app: Option<&App>) -> When {
    let Some(flow) = scene.flow else { return When::Now };
    let is_closing = flow.tcp.is_some_and(|state| state >= TcpState::LastAck);
    // Who parses no more holds nothing back, and where a message ended the stream is looked at along with it.
    let is_open = app.is_some_and(|app| {
        let ended = |tx: &crate::ids::app::Transaction| {
            tx.stage(flow.side) == Stage::Complete && tx.inspected(flow.side) != Stage::Complete
        };
        !app.is_ignored() && !app.transactions().iter().any(ended)
    });
    match streams.mode() {
        Mode::Inline => When::Now,
        Mode::Passive if flow.is_ending || is_closing || !is_open => When::Now,
        Mode::Passive => When::Full,
    }
}

/// Looks up the rules of what is new of a stream.
fn stream(
    scene: &Scene<'_>,
    group: &Group,
    (streams, id): (&mut Streams, StreamId),
    app: Option<&App>,
    state: &mut FlowState,
    work: &mut Work,
) {
    let side = scene.side;
    if !group.wants_stream() {
        // Nobody looks at them: they are not to be kept.
        if !scene.packet.payload.is_empty() {
            streams.unwatch(id, side_of(side));
        }
        return;
    }
    let when = when(scene, streams, app);
    // Where all of the stream that was told is shown now, it shows all that is new of a body, too.
    let patterns = app
        .filter(|app| when == When::Now && !state.is_behind(side) && has_plain_body(app, side))
        .filter(|_| scene.flow.is_some_and(|flow| is_due(scene, flow)))
        .and_then(|_| group.with_bodies(side));
    // Candidates of packets come later, so that those of the stream are known.
    let mut before = std::mem::take(&mut work.list);
    work.candidates.take(&mut before);
    let Work { windows, scratch, candidates, .. } = work;
    if scene.is_again && streams.mode() == Mode::Inline && is_in_stream(scene) {
        windows.take_again(scene.packet.payload, group, scratch, candidates);
    }
    let patterns_all = (group, patterns.unwrap_or(&group.stream));
    windows.take(streams, id, side, when, patterns_all, state, scratch, candidates);
    work.looked_at_bodies = patterns.is_some() && work.windows.are_whole();
    let Work { candidates, .. } = work;
    candidates.take(&mut work.streamed);
    work.streamed.iter().chain(&before).for_each(|rule| work.candidates.add(*rule));
    before.clear();
    work.list = before;
}

/// Looks up the rules of a payload, and those without a pattern.
fn look(scene: &Scene<'_>, group: &Group, work: &mut Work) {
    let Packet { payload, protocol, .. } = *scene.packet;
    let Work { scratch, candidates, .. } = work;
    if !payload.is_empty() {
        group.packet.look(payload, scratch, candidates);
        // A segment that is part of no stream is looked at as if it were all of one.
        if protocol == header::TCP && !is_in_stream(scene) {
            group.stream.look(payload, scratch, candidates);
        }
    }
    group.bare.iter().for_each(|rule| candidates.add(*rule));
}

/// Whether a packet's payload is seen in the stream, too. That of a SYN that does not open fast is not: its receiver drops it.
fn is_in_stream(scene: &Scene<'_>) -> bool {
    let Some(flow) = scene.flow.filter(|flow| flow.is_in_stream) else { return false };
    if flow.tcp != Some(TcpState::SynSent) || scene.packet.payload.is_empty() {
        return true;
    }
    let length = u32::try_from(scene.packet.upper.len()).unwrap_or(u32::MAX);
    Segment::read(scene.packet.upper, length).is_some_and(|segment| segment.has_fast_open)
}

/// Evaluates a rule that is none of transactions.
fn evaluate(scene: &Scene<'_>, number: u32, state: &mut FlowState, work: &mut Work) {
    let Some((rule, ready)) = scene.ruleset.both(number) else { return };
    if rule.kind == RuleKind::Transaction || !scene.admits(rule, ready, Some(state)) {
        return;
    }
    work.engine.begin_rule(rule.variables);
    let mut origin = Origin::Packet;
    for program in &ready.programs {
        let found = match program.buffer {
            Buffer::Payload => payload(scene, number, rule, program, state, work),
            buffer => packet::header(buffer, scene.packet).and_then(|bytes| {
                work.engine.holds(program, View::whole(bytes)).then_some(Origin::Packet)
            }),
        };
        match found {
            Some(Origin::Packet) => {}
            Some(other) => origin = other,
            None => {
                if work.streamed.binary_search(&number).is_ok() {
                    work.windows.waits(number, scene.side, state);
                }
                return;
            }
        }
    }
    if origin == Origin::Stream {
        work.windows.matched(number, scene.side, state);
    }
    hit(scene, number, ready, origin, None, state, work);
}

/// Whether what a rule asks of the payload, or of the stream, holds, and of which.
pub(super) fn payload(
    scene: &Scene<'_>,
    number: u32,
    rule: &Rule,
    program: &Program,
    state: &FlowState,
    work: &mut Work,
) -> Option<Origin> {
    let Work { windows, engine, .. } = work;
    let is_of_stream = rule.scope.stream && scene.packet.protocol == header::TCP;
    if is_of_stream {
        let known = state.marks(scene.side).find(|mark| mark.rule == number);
        let new_from = known.map_or(0, |mark| mark.from);
        for (span, bytes) in windows.iter() {
            let seen = match span.is_again {
                true => 0,
                false => {
                    usize::try_from(new_from.saturating_sub(span.offset)).unwrap_or(usize::MAX)
                }
            };
            if on_window(engine, program, span.offset, span.history, seen, bytes) {
                return Some(Origin::Stream);
            }
        }
        let only_stream = rule.flow.stream == Some(Only::Only);
        if only_stream || (!rule.scope.packet && is_in_stream(scene)) {
            return None;
        }
    }
    let bytes = scene.packet.payload;
    let holds = !bytes.is_empty() && engine.holds(program, View::whole(bytes));
    holds.then_some(Origin::Packet)
}

/// Whether a program holds on a window, but for what the rule has seen of it.
///
/// What counts from the beginning counts from the stream's, if it is there, and from the first fresh byte: there, if anywhere,
/// a message begins.
fn on_window(
    engine: &mut Engine,
    program: &Program,
    offset: u64,
    history: usize,
    seen: usize,
    bytes: &[u8],
) -> bool {
    let mut on = |from: usize| {
        let part = bytes.get(from..).unwrap_or_default();
        !part.is_empty() && engine.holds(program, View::whole(part))
    };
    if !program.is_placed {
        return on(seen);
    }
    let fresh = history.max(seen);
    (offset == 0 && seen == 0 && fresh != 0 && on(0)) || on(fresh)
}

/// A rule of an event of the application, not of a transaction.
fn application_event(
    scene: &Scene<'_>,
    number: u32,
    events: &[crate::ids::app::event::Event],
    state: &mut FlowState,
    work: &mut Work,
) {
    let Some((rule, ready)) = scene.ruleset.both(number) else { return };
    let is_there = rule.app.iter().all(|test| match test {
        AppTest::Event(event) => scene.has_event(*event, events),
        _ => true,
    });
    if is_there && scene.admits(rule, ready, Some(state)) {
        hit(scene, number, ready, Origin::Packet, None, state, work);
    }
}

/// A rule matched: it leaves what it leaves, whether it is told or not.
pub(super) fn hit(
    scene: &Scene<'_>,
    rule: u32,
    ready: &Ready,
    origin: Origin,
    transaction: Option<u64>,
    state: &mut FlowState,
    work: &mut Work,
) {
    for left in &ready.left {
        left.leave(scene.packet, Some(state), scene.memory);
    }
    for captured in work.engine.captured.drain(..) {
        match captured.scope {
            CaptureScope::Flow => state.capture(captured),
            CaptureScope::Packet | CaptureScope::Alert => work.captured.push((rule, captured)),
        }
    }
    work.hits.push(Hit { rule, origin, transaction });
}

fn gather_events(
    ruleset: &Ruleset,
    packet: &Packet<'_>,
    of_stream: crate::ids::stream::Events,
    events: &mut Vec<u16>,
) {
    events.clear();
    if packet.remarks.is_empty() && of_stream.is_empty() {
        return;
    }
    events.extend(packet.remarks.iter().filter_map(|name| ruleset.events.of_packet(name)));
    events.extend(of_stream.iter().filter_map(|event| ruleset.events.of_stream(event)));
    events.sort_unstable();
    events.dedup();
}

/// Nothing more of a flow is looked at: nobody waits for it.
fn pass_over(
    app: Option<&mut App>,
    limits: &crate::ids::app::Limits,
    streams: &mut Option<(&mut Streams, StreamId)>,
    side: Side,
    ids: &mut Vec<u64>,
) {
    if let Some((streams, id)) = streams {
        streams.unwatch(*id, side_of(side));
    }
    let Some(app) = app else { return };
    ids.clear();
    ids.extend(app.transactions().iter().map(|tx| tx.id()));
    for id in ids {
        app.transactions_mut().mark_inspected(*id, side, limits);
    }
}

/// Bytes for the caches of regular expressions of a worker.
const EXPRESSIONS: usize = 16 << 20;
