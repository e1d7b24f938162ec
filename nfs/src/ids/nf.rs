//! The NF: from the chain file to an inspector a worker, and what its answers do to packets.

use std::collections::HashMap;
use std::sync::Arc;

use arrayvec::ArrayVec;
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Packet};
use nfv_core::nf::{Built, Burst, Cx, PacketNf, PortIndex, Purpose, Slot, Surroundings};

use super::beside::{Beside, Lease};
use super::blocklist::Blocklists;
use super::config::{Config, Mode};
use super::detect::{Compile, Detector, Ruleset};
use super::inspector::{Answer, Inspector, Seen, Settings, train_of};
use super::output::Output;
use super::passive::{Analyser, AnalyserLease, Tap};
use super::reasons;
use super::rules::{Action, Rule};

/// What all workers look at packets with. A reload makes it anew.
#[derive(Debug)]
pub struct Shared {
    /// How a worker inspects.
    pub settings: Arc<Settings>,
    /// The rules.
    pub ruleset: Arc<Ruleset>,
    /// The blocklists.
    pub lists: Arc<Blocklists>,
    /// What outlives it.
    pub beside: Arc<Beside>,
    /// By group and number, the counter of what a rule has dropped.
    counters: HashMap<(u32, u32), usize>,
    /// Whether packets have a place in a capture.
    pub purpose: Purpose,
}

impl Shared {
    /// What one worker matches rules with.
    pub fn detector(&self) -> Detector {
        Detector::new(self.ruleset.clone(), self.beside.memory.clone())
    }

    /// What one worker inspects with.
    pub fn inspector(&self) -> Box<Inspector> {
        let mut inspector = Inspector::new(self.settings.clone(), self.detector());
        inspector.set_lists(self.lists.clone());
        Box::new(inspector)
    }
}

/// What the one that replaces it at a reload takes over.
struct Heirloom {
    beside: Arc<Beside>,
    analyser: Option<Arc<Analyser>>,
    /// All that must be as it was for streams to go on: in words, as it is compared and nothing else.
    kept: String,
}

/// Builds an `ids`.
pub fn build(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Built> {
    let mut config = Config::read(section, around, report)?;
    let lists = std::mem::take(&mut config.blocklists);
    let mut notes = config.rules.notes();
    notes.extend(lists.entries().map(|(rule, n)| format!("{n} entries: {}", rule.msg)));
    let stamps = config.stamps.clone();
    let is_current = move || stamps.are_current();
    if around.purpose == Purpose::Check {
        return Some(Built::packet(|| Idle).with_notes(notes).from_files(is_current));
    }
    tell(section.name(), &config);
    let kept = format!("{:?} {:?}", config.mode, config.settings);
    let before = around.heritage.and_then(|heritage| heritage.downcast_ref::<Heirloom>());
    let beside = match Beside::of(&config, around.purpose, before.map(|b| &b.beside)) {
        Ok(beside) => beside,
        Err(why) => {
            report
                .error(section.span_of("log"), why)
                .hint("name a file in a folder that is there and that this user may write");
            return None;
        }
    };
    let (names, counters) = droppers(&config, &lists);
    let events: Vec<&str> = config.rules.events.iter().map(String::as_str).collect();
    let with =
        Compile { events: &events, cache: config.cache.as_deref(), order: config.action_order };
    let cpu = config.analyser_cpu;
    let shared = Arc::new(Shared {
        ruleset: Arc::new(Ruleset::compile(config.rules.rules, &with)),
        settings: Arc::new(config.settings),
        lists: Arc::new(lists),
        beside: beside.clone(),
        counters,
        purpose: around.purpose,
    });
    let goes_on = before.is_some_and(|b| b.kept == kept && Arc::ptr_eq(&b.beside, &beside));
    let analyser = match config.mode {
        Mode::Inline => None,
        Mode::Passive => {
            let same = before.filter(|_| goes_on).and_then(|before| before.analyser.clone());
            match same.map_or_else(|| Analyser::start(&shared, cpu), Ok) {
                Ok(analyser) => Some(analyser),
                Err(why) => {
                    let at = section.span_of("analyser-cpu");
                    report.error(at, format!("starting the analyser: {why}"));
                    return None;
                }
            }
        }
    };
    let built = match &analyser {
        None => {
            let shared = shared.clone();
            Built::packet(move || Inline::new(&shared, goes_on)).letting_go(reasons::PASSED_BY)
        }
        Some(analyser) => {
            let (analyser, shared) = (analyser.clone(), shared.clone());
            Built::packet(move || Tap::new(&analyser, &shared))
        }
    };
    let (lease, reopened) = (Lease::of(&beside), beside.clone());
    let leased = analyser.as_ref().map(AnalyserLease::of);
    let finish = move || {
        leased.iter().for_each(|analyser| analyser.end());
        lease.end()
    };
    Some(
        built
            .with_rules(names)
            .with_notes(notes)
            .from_files(is_current)
            .with_heritage(Arc::new(Heirloom { beside, analyser, kept }))
            .with_reopen(move || reopened.reopen())
            .with_finish(Box::new(finish)),
    )
}

/// The rules that drop packets, by the names of their counters; and where those of each are counted.
fn droppers(config: &Config, lists: &Blocklists) -> (Vec<String>, HashMap<(u32, u32), usize>) {
    let (mut names, mut counters) = (Vec::new(), HashMap::new());
    let mut add = |rule: &Rule| {
        let drops = |action| matches!(action, Action::Drop | Action::Reject(_));
        let may_drop = rule.rate_filter.and_then(|filter| filter.action).is_some_and(drops);
        if drops(rule.action) || may_drop {
            counters.insert((rule.gid, rule.sid), names.len());
            names.push(format!("{}:{}:{} {}", rule.gid, rule.sid, rule.rev, rule.msg));
        }
    };
    if config.mode == Mode::Inline {
        config.rules.rules.rules.iter().for_each(&mut add);
        lists.entries().for_each(|(rule, _)| add(rule));
    }
    (names, counters)
}

/// Tells the log what was loaded.
fn tell(name: &str, config: &Config) {
    let rules = &config.rules.rules;
    let notes = config.rules.notes();
    tracing::info!("{name}: {}", notes.first().map_or("", String::as_str));
    for broken in rules.broken.iter().take(TOLD_MAX) {
        tracing::warn!("{name}: broken {broken}");
    }
    let limits = config.rules.limits.iter();
    for wrong in limits.flat_map(|limits| limits.broken.iter().chain(&limits.unused)).take(TOLD_MAX)
    {
        tracing::warn!("{name}: {wrong}");
    }
    for skipped in &rules.skipped {
        tracing::debug!("{name}: skipped {skipped}");
    }
}

/// A worker's, which drops.
#[derive(Debug)]
pub struct Inline {
    shared: Arc<Shared>,
    /// `None`: that of the one before is still to come.
    inspector: Option<Box<Inspector>>,
    /// For that one.
    detector: Option<Detector>,
    output: Output,
    /// When it began, and when it told last what it had counted.
    start: Option<Time>,
    told: Time,
    timer: Timer,
}

/// About every millisecond, busy or idle, but not while the worker sleeps.
#[derive(Debug, Default)]
pub struct Timer {
    next: Time,
}

impl Timer {
    /// Whether it is time; the next one is asked for.
    pub fn is_due(&mut self, cx: &mut Cx<'_>) -> bool {
        let is_due = self.next <= cx.now;
        if is_due {
            self.next = Time(cx.now.0.saturating_add(TICK));
        }
        cx.wake_from(self.next);
        is_due
    }
}

impl Inline {
    fn new(shared: &Arc<Shared>, goes_on: bool) -> Self {
        let (inspector, detector) = match goes_on {
            true => (None, Some(shared.detector())),
            false => (Some(shared.inspector()), None),
        };
        let output = shared.beside.output();
        let shared = shared.clone();
        Self {
            shared,
            inspector,
            detector,
            output,
            start: None,
            told: Time(0),
            timer: Timer::default(),
        }
    }

    /// Has the first packets inspected together, if they are a train. Returns how many of them pass, and how many behind those are
    /// to be inspected by themselves; one of both at least.
    #[inline]
    fn train(&mut self, slots: &[(usize, Slot<'_>)], cx: &Cx<'_>) -> (usize, usize) {
        let whole = |packet: &Packet| packet.data().len() == packet.len() as usize;
        let frames = slots.iter().map(|(_, slot)| &*slot.packet);
        let train = train_of(frames.take_while(|packet| whole(packet)).map(Packet::data));
        if train.len() < 2 {
            return (0, 1);
        }
        let inspector = self.inspector.get_or_insert_with(|| self.shared.inspector());
        inspector.train(&train, cx.now, &mut self.output)
    }

    /// Has a packet inspected, and does what is answered. Whether its flow is let go.
    #[inline]
    fn packet(&mut self, port: u8, slot: &mut Slot<'_>, cx: &Cx<'_>) -> bool {
        let inspector = self.inspector.get_or_insert_with(|| self.shared.inspector());
        let seen = seen(slot.packet, port, cx.now, self.shared.purpose);
        let verdict = inspector.packet(&seen, &mut self.output);
        match verdict.answer {
            Answer::Pass => {}
            Answer::Bypass => return true,
            Answer::Drop => {
                let why = inspector.dropped();
                slot.drop(reasons::of(why.map(|(reason, _)| reason)));
                self.count_rule(cx);
            }
            Answer::Reject(to) => {
                slot.drop(reasons::of_reject(to));
                self.count_rule(cx);
            }
        }
        if let Some(rewrite) = verdict.rewrite
            && let Some(inspector) = &self.inspector
        {
            inspector.rewrite(&rewrite, slot.packet.data_mut());
            cx.count(reasons::REWRITTEN, 1);
        }
        false
    }

    #[cold]
    fn count_rule(&self, cx: &Cx<'_>) {
        let dropped = self.inspector.as_ref().and_then(|inspector| inspector.dropped());
        let Some((_, Some(rule))) = dropped else { return };
        if let Some(counter) = self.shared.counters.get(&rule) {
            cx.count_rule(*counter);
        }
    }
}

impl PacketNf for Inline {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let port = burst.in_port.0;
        let mut slots: ArrayVec<(usize, Slot<'_>), BURST_MAX> = ArrayVec::new();
        slots.extend(burst.watched());
        let (mut let_go, mut at) = (0, 0);
        while let Some(rest) = slots.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let (passed, alone) = self.train(rest, cx);
            for (place, slot) in rest.iter_mut().skip(passed).take(alone) {
                let_go |= u32::from(self.packet(port, slot, cx)) << *place;
            }
            at += passed + alone;
        }
        drop(slots);
        burst.let_go(let_go);
    }

    fn refused(&mut self, packet: &Packet, in_port: PortIndex, cx: &mut Cx<'_>) {
        let inspector = self.inspector.get_or_insert_with(|| self.shared.inspector());
        let seen = seen(packet, in_port.0, cx.now, self.shared.purpose);
        inspector.refused(&seen, &mut self.output);
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if !self.timer.is_due(cx) {
            return;
        }
        let start = *self.start.get_or_insert(cx.now);
        let Some(inspector) = &mut self.inspector else { return };
        inspector.tick(cx.now, &mut self.output);
        if cx.now.since(self.told) >= SECOND {
            self.told = cx.now;
            self.output.tell_counts(inspector, start, cx.now);
        }
        cx.count(reasons::SHED, self.output.take_shed());
    }

    fn inherit(&mut self, before: &mut dyn PacketNf) {
        let before: &mut dyn std::any::Any = before;
        let Some(before) = before.downcast_mut::<Self>() else { return };
        let Some(detector) = self.detector.take() else { return };
        let Some(mut inspector) = before.inspector.take() else { return };
        inspector.set_detector(detector);
        inspector.set_lists(self.shared.lists.clone());
        self.inspector = Some(inspector);
        std::mem::swap(&mut self.output, &mut before.output);
        self.start = before.start;
    }

    fn end(&mut self, now: Time) {
        // Else a later one goes on with it.
        if let Some(mut inspector) = self.inspector.take() {
            inspector.finish(now, &mut self.output);
            self.output.tell_counts(&inspector, self.start.unwrap_or(now), now);
        }
    }
}

/// A packet as it is inspected.
#[inline]
fn seen(packet: &Packet, port: u8, time: Time, purpose: Purpose) -> Seen<'_> {
    let place = if purpose == Purpose::Replay { packet.place() } else { None };
    Seen { time, frame: packet.data(), wire_length: packet.len(), port, place }
}

/// What a check builds.
#[derive(Debug)]
struct Idle;

impl PacketNf for Idle {
    fn process(&mut self, _: &mut Burst, _: &mut Cx<'_>) {}
}

/// Broken rules that the log names.
const TOLD_MAX: usize = 20;
/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Nanoseconds between two looks at what was idle for too long.
const TICK: u64 = 1_000_000;
