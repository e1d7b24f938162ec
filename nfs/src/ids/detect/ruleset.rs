//! Rules, compiled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flow::FlowState;
use super::groups::Groups;
use super::header::Header;
use super::lookback;
use super::matcher::{Compiler, Engine, Matcher, MatcherScratch, Pattern};
use super::order::{self, ActionOrder};
use super::patterns::{Gathered, Patterns};
use super::program::{Program, fast_pattern};
use super::state::{Asked, Left, NameLists, Names};
use crate::ids::rules::{
    App, AppTest, Buffer, GroupSuppression, Instances, PacketTest, Rule, RuleKind, Rules, Side,
    TagScope, Transform,
};
use crate::ids::stream::Event as StreamEvent;

/// Rules, compiled for detection. Shared by all workers, read only.
#[derive(Debug)]
pub struct Ruleset {
    /// Different for each that was ever compiled; not 0.
    pub(super) id: u64,
    /// In the order in which they are evaluated.
    rules: Box<[Arc<Rule>]>,
    prepared: Box<[Ready]>,
    pub(super) groups: Groups,
    /// Rules of addresses and ports alone.
    pub(super) ip_only: Box<[u32]>,
    /// Rules of the flow's application alone.
    pub(super) application: Box<[u32]>,
    /// Rules of events of the flow's application.
    pub(super) application_events: Box<[u32]>,
    pub(super) events: Events,
    /// Whether a rule's alerts are followed by packets of a host.
    pub(super) tags_hosts: bool,
    /// By side: how far rules of bodies look back ([`lookback`]).
    lookback: [Option<usize>; 2],
    /// By application, then by side.
    transactions: [[TransactionRules; 2]; APPS],
    matchers: Box<[Arc<Matcher>]>,
    names: NameLists,
    /// What is not told of whole groups of rules.
    suppressed: Vec<GroupSuppression>,
}

/// With what rules are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compile<'c> {
    /// The events that rules have by number: those that they were read with ([`crate::ids::rules::Setup::events`]).
    pub events: &'c [&'c str],
    /// The folder where compiled patterns are kept from run to run; `None`: they are compiled each time.
    pub cache: Option<&'c Path>,
    /// The actions in the order in which their rules are evaluated.
    pub order: ActionOrder,
}

/// A rule's parts that were prepared.
#[derive(Debug)]
pub(super) struct Ready {
    pub header: Header,
    pub programs: Box<[Program]>,
    pub asked: Box<[Asked]>,
    pub left: Box<[Left]>,
}

/// The rules of an application's transactions, on one side.
#[derive(Debug, Default)]
pub(super) struct TransactionRules {
    /// Patterns by buffer.
    pub sets: Box<[BufferPatterns]>,
    /// Rules without a pattern in a buffer of transactions, nor in the stream.
    pub bare: Box<[u32]>,
    /// Those of them that ask for events.
    pub events: Box<[u32]>,
    /// Whether one of `bare` may come to match though its transaction got no further than before: it asks for the body or the
    /// stream, for the packet, or for what others leave.
    pub bare_goes_on: bool,
}

/// Patterns of a buffer, its transforms done.
#[derive(Debug)]
pub(super) struct BufferPatterns {
    pub buffer: Buffer,
    /// Whose transforms: a rule, and which of its programs.
    pub program: (u32, usize),
    pub patterns: Patterns,
    pub instances: Instances,
    /// Whether the buffer's bytes are looked at as they are, without a transform.
    pub is_raw: bool,
}

/// [`BufferPatterns`] while they are gathered.
struct Making<'t> {
    buffer: Buffer,
    transforms: &'t [Transform],
    program: (u32, usize),
    gathered: Gathered,
}

/// Events by name, and their rules.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// By number.
    names: Box<[Box<str>]>,
    numbers: HashMap<Box<str>, u16>,
    /// The number of each event of streams.
    of_streams: Box<[Option<u16>]>,
    /// Rules that ask for an event of packets, by its number.
    rules: HashMap<u16, Vec<u32>>,
}

impl Ruleset {
    /// Compiles them.
    ///
    /// # Cost
    /// Seconds for ten thousands, if `with.cache` does not have them.
    pub fn compile(rules: Rules, with: &Compile<'_>) -> Self {
        let suppressed = rules.suppressed;
        Self { suppressed, ..Self::compile_for(rules.rules, with, Engine::Library) }
    }

    pub(super) fn compile_for(mut rules: Vec<Rule>, with: &Compile<'_>, engine: Engine) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        rules.sort_by_cached_key(|rule| order::key(rule, with.order));
        let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
        let mut names = Names::default();
        let mut compiler = Compiler::new(engine, with.cache);
        let headers: Vec<Header> = rules.iter().map(|rule| Header::of(rule)).collect();
        let sides = [Side::ToServer, Side::ToClient];
        let bodies = sides.map(|side| {
            let mut gathered = Gathered::default();
            of_bodies(&rules, side).for_each(|(number, _, pattern)| gathered.add(pattern, number));
            gathered
        });
        let lookback = sides.map(|side| {
            let mut rules = of_bodies(&rules, side);
            rules.try_fold(0, |most, (_, rule, _)| Some(lookback::of(rule)?.max(most)))
        });
        let groups = Groups::compile(&rules, &headers, &bodies, &mut compiler);
        let ready = |(rule, header): (&Arc<Rule>, Header)| Ready {
            header,
            programs: Program::all_of(rule),
            asked: names.asked(rule),
            left: names.left(rule),
        };
        let prepared: Box<[Ready]> = rules.iter().zip(headers).map(ready).collect();
        let of_kind = |kind: RuleKind| -> Box<[u32]> {
            (0..).zip(&rules).filter(|(_, r)| r.kind == kind).map(|(n, _)| n).collect()
        };
        let is_of_flow = |rule: &Rule| {
            rule.kind == RuleKind::Transaction
                && rule.inspects.is_empty()
                && rule.protocol.is_none()
        };
        let application_events = (0..).zip(&rules).filter(|(_, r)| is_of_flow(r)).map(|(n, _)| n);
        let transactions = App::ALL.map(|app| {
            [Side::ToServer, Side::ToClient]
                .map(|side| TransactionRules::compile(&rules, &prepared, app, side, &mut compiler))
        });
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            groups,
            ip_only: of_kind(RuleKind::IpOnly),
            application: of_kind(RuleKind::Protocol),
            application_events: application_events.collect(),
            events: Events::compile(&rules, with.events),
            tags_hosts: rules.iter().any(|r| r.tag.is_some_and(|t| t.scope != TagScope::Session)),
            lookback,
            transactions,
            prepared,
            rules: rules.into(),
            matchers: compiler.into_matchers().into(),
            names: names.into_lists(),
            suppressed: Vec::new(),
        }
    }

    /// A rule by its place, which is not its place in what was compiled. Shared, so that an alert says which rule it is of
    /// without a copy of what the rule says.
    pub fn rule(&self, index: u32) -> Option<&Arc<Rule>> {
        self.rules.get(usize::try_from(index).ok()?)
    }

    /// The names of the bits that are set in a flow.
    pub fn bits_of<'r>(&'r self, state: &'r FlowState) -> impl Iterator<Item = &'r str> {
        let bits = state.set_bits(self.id);
        bits.filter_map(|bit| self.names.bits.get(bit).map(AsRef::as_ref))
    }

    /// The names and values of a flow's integers.
    pub fn integers_of<'r>(&'r self, state: &'r FlowState) -> impl Iterator<Item = (&'r str, u32)> {
        let integers = state.integers(self.id).iter();
        integers.filter_map(|(number, value)| {
            let name = self.names.integers.get(usize::try_from(*number).ok()?)?;
            Some((name.as_ref(), *value))
        })
    }

    /// Whether a rule's match on a packet from `src` to `dst` is not told.
    pub(super) fn is_suppressed(&self, rule: &Rule, src: IpAddr, dst: IpAddr) -> bool {
        let groups = self.suppressed.iter().filter(|of| of.gid == 0 || of.gid == rule.gid);
        let mut all = rule.suppressed.iter().chain(groups.map(|of| &of.suppression));
        all.any(|suppression| suppression.is_of(src, dst))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A rule with what was prepared of it.
    pub(super) fn both(&self, index: u32) -> Option<(&Rule, &Ready)> {
        let index = usize::try_from(index).ok()?;
        Some((self.rules.get(index)?, self.prepared.get(index)?))
    }

    pub(super) fn of_transactions(&self, app: App, side: Side) -> &TransactionRules {
        // Both are as long as there are applications and sides.
        &self.transactions[app as usize][side.index()]
    }

    /// How many bytes before the next ones of a body its rules look back at, on a side; at most `most`.
    pub(super) fn looks_back(&self, side: Side, most: usize) -> usize {
        self.lookback.get(side.index()).copied().flatten().map_or(most, |bytes| bytes.min(most))
    }

    /// Makes a worker's scratch fit.
    pub(super) fn fit(&self, scratch: &mut MatcherScratch) {
        for matcher in &self.matchers {
            matcher.fit(scratch);
        }
    }
}

impl TransactionRules {
    fn compile(
        rules: &[Arc<Rule>],
        prepared: &[Ready],
        app: App,
        side: Side,
        compiler: &mut Compiler,
    ) -> Self {
        // What is looked for in the same bytes belongs together: buffer and transforms.
        let mut sets: Vec<Making<'_>> = Vec::new();
        let (mut bare, mut events) = (Vec::new(), Vec::new());
        for ((number, rule), ready) in (0..).zip(rules).zip(prepared) {
            if !is_looked_at(rule, app, side) {
                continue;
            }
            let fast = fast_pattern(rule)
                .and_then(|(inspect, pattern)| Some((rule.inspects.get(inspect)?, pattern)));
            match fast {
                Some((inspect, pattern)) if inspect.buffer.is_of_transactions() => {
                    let (buffer, transforms) = (inspect.buffer, &*inspect.transforms);
                    let place = sets
                        .iter()
                        .position(|set| (set.buffer, set.transforms) == (buffer, transforms));
                    let place = place.unwrap_or_else(|| {
                        let is_its =
                            |p: &Program| p.buffer == buffer && *p.transforms == *transforms;
                        let program = ready.programs.iter().position(is_its).unwrap_or(0);
                        let gathered = Gathered::default();
                        sets.push(Making {
                            buffer,
                            transforms,
                            program: (number, program),
                            gathered,
                        });
                        sets.len() - 1
                    });
                    if let Some(set) = sets.get_mut(place) {
                        set.gathered.add(pattern, number);
                    }
                }
                Some((inspect, _)) if inspect.buffer == Buffer::Payload => {}
                _ if rule.app.iter().any(|test| matches!(test, AppTest::Event(_))) => {
                    events.push(number);
                }
                _ => bare.push(number),
            }
        }
        let set = |made: Making<'_>| BufferPatterns {
            buffer: made.buffer,
            program: made.program,
            patterns: made.gathered.compile(compiler),
            instances: made.buffer.info().instances,
            is_raw: made.transforms.is_empty(),
        };
        let goes_on = |number: &u32| {
            let place = *number as usize;
            let of_bytes = |rule: &Arc<Rule>| {
                let asks = |b: Buffer| b.is_body() || b == Buffer::Payload;
                !rule.packet.is_empty() || rule.inspects.iter().any(|i| asks(i.buffer))
            };
            rules.get(place).is_none_or(of_bytes)
                || prepared.get(place).is_none_or(|ready| !ready.asked.is_empty())
        };
        Self {
            bare_goes_on: bare.iter().any(goes_on),
            sets: sets.into_iter().map(set).collect(),
            bare: bare.into(),
            events: events.into(),
        }
    }
}

/// The rules that are looked up by a pattern in an HTTP body as it is.
fn of_bodies(rules: &[Arc<Rule>], side: Side) -> impl Iterator<Item = (u32, &Rule, Pattern)> {
    let rules = (0..).zip(rules).filter(move |(_, rule)| is_looked_at(rule, App::Http, side));
    rules.filter_map(|(number, rule)| {
        let (inspect, pattern) = fast_pattern(rule)?;
        let inspect = rule.inspects.get(inspect)?;
        let is_one = inspect.buffer.is_body() && inspect.transforms.is_empty();
        is_one.then_some((number, &**rule, pattern))
    })
}

/// Whether a rule is looked at in an application's transactions, on a side.
fn is_looked_at(rule: &Rule, app: App, side: Side) -> bool {
    rule.kind == RuleKind::Transaction
        && rule.flow.side.is_none_or(|wanted| wanted == side)
        && may_be_of(rule, app)
}

/// Whether a rule's transactions may be this application's.
fn may_be_of(rule: &Rule, app: App) -> bool {
    match rule.protocol {
        Some(wanted) => wanted == app,
        // Files are in HTTP alone; without any buffer it is a rule of flows.
        None => app == App::Http && !rule.inspects.is_empty(),
    }
}

impl Events {
    fn compile(rules: &[Arc<Rule>], names: &[&str]) -> Self {
        let plain = |name: &&str| -> Box<str> {
            name.strip_prefix("decoder.").unwrap_or(name).to_ascii_lowercase().into()
        };
        let names: Box<[Box<str>]> = names.iter().map(plain).collect();
        let mut numbers: HashMap<Box<str>, u16> = HashMap::new();
        for (number, name) in (0..).zip(&names) {
            numbers.insert(name.clone(), number);
        }
        let of_streams = StreamEvent::ALL
            .iter()
            .map(|event| numbers.get(&*format!("stream.{}", event.name())).copied())
            .collect();
        let mut wanted: HashMap<u16, Vec<u32>> = HashMap::new();
        for (number, rule) in (0..).zip(rules) {
            for test in &rule.packet {
                if let PacketTest::Event(event) = test
                    && rule.kind == RuleKind::Event
                {
                    wanted.entry(*event).or_default().push(number);
                }
            }
        }
        Self { names, numbers, of_streams, rules: wanted }
    }

    /// The number of an event of packets.
    pub fn of_packet(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    /// The number of an event of streams.
    pub fn of_stream(&self, event: StreamEvent) -> Option<u16> {
        self.of_streams.get(usize::from(event as u8)).copied().flatten()
    }

    /// The rules of events that ask for one.
    pub fn rules(&self, event: u16) -> &[u32] {
        self.rules.get(&event).map(Vec::as_slice).unwrap_or_default()
    }

    /// The application, if there is one, and the name of an event.
    pub fn name(&self, event: u16) -> (Option<App>, &str) {
        let full = self.names.get(usize::from(event)).map_or("", |name| &**name);
        match full.split_once('.') {
            Some((app, name)) => (App::of(app), name),
            None => (None, full),
        }
    }
}

/// How many applications there are.
const APPS: usize = App::ALL.len();
