//! Rules of an application's transactions: each is begun where its pattern is in a buffer, or always, goes on when there is more,
//! and matches once a transaction and side.

use super::engine::{Extent, View};
use super::flow::{Begun, Behind, End, FlowState};
use super::inspect::{Work, hit, payload};
use super::program::{Growth, Program};
use super::ruleset::{BufferPatterns, Ready, TransactionRules};
use super::scene::{Scene, application_of};
use super::{FlowFacts, Origin, header};
use crate::ids::app::http::BODY_WINDOWS;
use crate::ids::app::{App, Limits, Ready as Availability, Stage, Transaction};
use crate::ids::rules::{AppTest, Buffer, Instances, Rule, RuleKind, Side};

/// Looks at what is new of the transactions of the packet's side.
pub(super) fn inspect(
    scene: &Scene<'_>,
    app: &mut App,
    limits: &Limits,
    state: &mut FlowState,
    work: &mut Work,
) {
    let Some(flow) = scene.flow else { return };
    let side = scene.side;
    if !is_due(scene, flow) {
        state.set_behind(side, Behind::Yes);
        return;
    }
    state.set_behind(side, Behind::No);
    let mut ids = std::mem::take(&mut work.transactions);
    ids.clear();
    let of_app = |tx: &Transaction| application_of(tx.protocol());
    for tx in app.transactions().iter() {
        let rules = of_app(tx).map(|app| scene.ruleset.of_transactions(app, side));
        let has_rules = rules.is_some_and(|rules| has_work(rules, tx, side, work));
        if has_news(tx, side) || has_rules {
            ids.push(tx.id());
        }
    }
    if let Some(oldest) = app.transactions().iter().next() {
        state.forget_before(oldest.id());
    }
    for id in &ids {
        let Some(tx) = app.transactions().get(*id) else { continue };
        if let Some(app) = of_app(tx) {
            let rules = scene.ruleset.of_transactions(app, side);
            one(scene, rules, tx, limits, state, work);
        }
        if tx.stage(side) == Stage::Complete {
            state.forget(*id, side);
        }
        app.transactions_mut().mark_inspected(*id, side, limits);
    }
    work.transactions = ids;
}

/// Whether transactions are looked at: before the handshake is done nobody knows who speaks.
pub(super) fn is_due(scene: &Scene<'_>, flow: FlowFacts) -> bool {
    scene.packet.protocol != header::TCP || flow.is_established || flow.is_ending
}

/// Whether a side has a body whose bytes lie in the stream as they are.
pub(super) fn has_plain_body(app: &App, side: Side) -> bool {
    let is_plain = |tx: &Transaction| tx.body(side).is_some_and(|body| body.is_plain);
    app.transactions().iter().any(is_plain)
}

/// Whether there is something to look at on a side.
pub(super) fn has_anything(scene: &Scene<'_>, app: &App, work: &Work) -> bool {
    let side = scene.side;
    app.transactions().iter().any(|tx| {
        let rules = application_of(tx.protocol());
        let rules = rules.map(|app| scene.ruleset.of_transactions(app, side));
        has_news(tx, side) || rules.is_some_and(|rules| has_work(rules, tx, side, work))
    })
}

/// Whether all of a side was looked at.
pub(super) fn is_at_rest(app: &App, side: Side) -> bool {
    !app.transactions().iter().any(|tx| has_news(tx, side))
}

/// Whether something of a side was not inspected.
fn has_news(tx: &Transaction, side: Side) -> bool {
    tx.stage(side) != tx.inspected(side)
        || tx.body(side).is_some_and(|body| body.start + body.bytes.len() as u64 > body.inspected)
}

/// Whether rules have something to look at besides news: an event, or the stream.
fn has_work(rules: &TransactionRules, tx: &Transaction, side: Side, work: &Work) -> bool {
    let is_open = tx.inspected(side) != Stage::Complete;
    is_open
        && ((!rules.events.is_empty() && !tx.events().is_empty())
            || !work.windows.is_empty()
            || !work.streamed.is_empty())
}

fn one(
    scene: &Scene<'_>,
    rules: &TransactionRules,
    tx: &Transaction,
    limits: &Limits,
    state: &mut FlowState,
    work: &mut Work,
) {
    let side = scene.side;
    for set in &rules.sets {
        look(scene, set, tx, work);
    }
    rules.bare.iter().for_each(|rule| work.candidates.add(*rule));
    if !tx.events().is_empty() {
        rules.events.iter().for_each(|rule| work.candidates.add(*rule));
    }
    for begun in state.begun(tx.id(), side) {
        if begun.end == End::Open {
            work.candidates.add(begun.rule);
        }
    }
    // Those by a pattern in the stream, or in a datagram's payload.
    let is_of_transactions = |rule: &&u32| {
        scene.ruleset.rule(**rule).is_some_and(|rule| rule.kind == RuleKind::Transaction)
    };
    let Work { list, candidates, .. } = work;
    list.iter().filter(is_of_transactions).for_each(|rule| candidates.add(*rule));
    let mut now = std::mem::take(&mut work.begun_now);
    now.clear();
    work.candidates.take(&mut now);
    for rule in &now {
        evaluate(scene, *rule, tx, limits, state, work);
    }
    work.begun_now = now;
}

/// Looks up the rules of a buffer, if it is new.
fn look(scene: &Scene<'_>, set: &BufferPatterns, tx: &Transaction, work: &mut Work) {
    let side = scene.side;
    if let Some(body) = body_of(set.buffer, tx, side) {
        let inspected = usize::try_from(body.inspected.saturating_sub(body.start)).unwrap_or(0);
        if inspected >= body.bytes.len() {
            return;
        }
        if body.is_plain && set.is_raw && work.looked_at_bodies {
            return;
        }
        let from = inspected.saturating_sub(set.patterns.reach());
        return scan(scene, set, body.bytes, from, work);
    }
    if set.buffer.is_body() || !tx.is_fresh(set.buffer, side) {
        return;
    }
    for index in 0..INSTANCES_MAX {
        let Some(bytes) = tx.buffer_at(set.buffer, side, index) else { return };
        scan(scene, set, bytes, 0, work);
        if set.instances == Instances::One {
            return;
        }
    }
}

/// Looks in bytes, from `from` on if no transform needs them all.
fn scan(scene: &Scene<'_>, set: &BufferPatterns, bytes: &[u8], from: usize, work: &mut Work) {
    let Work { scratch, engine, candidates, .. } = work;
    if set.is_raw {
        let part = bytes.get(from..).unwrap_or_default();
        return set.patterns.look(part, scratch, candidates);
    }
    let (rule, program) = set.program;
    let program = scene.ruleset.both(rule).and_then(|(_, ready)| ready.programs.get(program));
    let Some(program) = program else { return };
    engine.transformed(program, bytes, |bytes| set.patterns.look(bytes, scratch, candidates));
}

/// What a part of a rule comes to in a transaction.
enum Outcome {
    /// It holds.
    Holds,
    /// It may, when there is more.
    NotYet,
    /// It will not.
    Never,
}

fn evaluate(
    scene: &Scene<'_>,
    number: u32,
    tx: &Transaction,
    limits: &Limits,
    state: &mut FlowState,
    work: &mut Work,
) {
    let Some((rule, ready)) = scene.ruleset.both(number) else { return };
    let side = scene.side;
    let known = state.progress(tx.id(), side, number);
    match known {
        Some(Begun { end: End::Done, .. }) => return,
        Some(_) => {}
        None if !scene.admits(rule, ready, Some(state)) => return,
        None => {}
    }
    work.engine.begin_rule(rule.variables);
    let before = known.map_or(0, |begun| begun.done);
    let mut begun =
        Begun { transaction: tx.id(), side, rule: number, done: before, end: End::Open };
    match goes_on(scene, rule, ready, tx, limits, state, work, &mut begun) {
        Outcome::Holds => {
            // What would come again is to match once.
            if known.is_some() || comes_again(rule) {
                begun.end = End::Done;
                state.note(begun);
            }
            hit(scene, number, ready, Origin::Transaction, Some(tx.id()), state, work);
        }
        Outcome::NotYet if begun.done == 0 && rule.fast_pattern.is_none() => {}
        Outcome::NotYet => state.note(begun),
        Outcome::Never if known.is_some() || comes_again(rule) => {
            begun.end = End::Done;
            state.note(begun);
        }
        Outcome::Never => {}
    }
}

/// How far a rule gets; what holds of it is noted in `begun`.
#[allow(clippy::too_many_arguments, reason = "each is of another owner")]
fn goes_on(
    scene: &Scene<'_>,
    rule: &Rule,
    ready: &Ready,
    tx: &Transaction,
    limits: &Limits,
    state: &FlowState,
    work: &mut Work,
    begun: &mut Begun,
) -> Outcome {
    let later_or_never = || match tx.stage(scene.side) {
        Stage::Complete => Outcome::Never,
        _ => Outcome::NotYet,
    };
    for test in &rule.app {
        match scene.transaction_is(test, tx.fields(), tx.events()) {
            Some(true) => {}
            Some(false) if !matches!(test, AppTest::TlsVersion(_)) => return Outcome::Never,
            // The version of a hello is replaced by the one that is chosen.
            Some(false) | None => return later_or_never(),
        }
    }
    for (place, program) in ready.programs.iter().enumerate() {
        let bit = u32::try_from(place).ok().and_then(|place| 1_u32.checked_shl(place)).unwrap_or(0);
        if begun.done & bit != 0 {
            continue;
        }
        let outcome = match program.buffer {
            Buffer::Payload => match payload(scene, begun.rule, rule, program, state, work) {
                Some(_) => Outcome::Holds,
                None => later_or_never(),
            },
            _ => in_buffer(scene, program, tx, limits, work),
        };
        match outcome {
            Outcome::Holds => begun.done |= bit,
            other => return other,
        }
    }
    Outcome::Holds
}

/// Whether what is asked of a buffer of a transaction holds.
fn in_buffer(
    scene: &Scene<'_>,
    program: &Program,
    tx: &Transaction,
    limits: &Limits,
    work: &mut Work,
) -> Outcome {
    let (side, buffer) = (scene.side, program.buffer);
    let availability = tx.ready(buffer, side);
    match availability {
        Availability::Later => return Outcome::NotYet,
        Availability::Never => return Outcome::Never,
        Availability::Growing | Availability::Whole => {}
    }
    if let Some(body) = body_of(buffer, tx, side) {
        let is_whole = availability == Availability::Whole;
        // What may change is answered at the end, or before bytes are given up.
        let is_full = body.bytes.len() >= limits.body_window.saturating_mul(BODY_WINDOWS);
        let is_answered = is_whole || (is_full && program.growth == Growth::MayChange);
        let extent = if is_answered { Extent::Whole } else { Extent::Growing };
        let view = View { bytes: body.bytes, start: body.start, extent };
        return match work.engine.holds(program, view) {
            true => Outcome::Holds,
            false if is_whole => Outcome::Never,
            false => Outcome::NotYet,
        };
    }
    let mut instances = (0..INSTANCES_MAX).map_while(|index| tx.buffer_at(buffer, side, index));
    match instances.any(|bytes| work.engine.holds(program, View::whole(bytes))) {
        true => Outcome::Holds,
        false => Outcome::Never,
    }
}

/// Whether a rule is a candidate of the same transaction again when there is more of it.
fn comes_again(rule: &Rule) -> bool {
    let fast = rule.fast_pattern.and_then(|fast| rule.inspects.get(fast.inspect));
    fast.is_none_or(|inspect| inspect.buffer.is_body() || inspect.buffer == Buffer::Payload)
}

fn body_of<'t>(
    buffer: Buffer,
    tx: &'t Transaction,
    side: Side,
) -> Option<crate::ids::app::BodyView<'t>> {
    let may_be = buffer.is_body() && tx.buffer(buffer, side).is_some();
    if may_be { tx.body(side) } else { None }
}

/// Most instances of a buffer that are looked at.
const INSTANCES_MAX: usize = 1024;
