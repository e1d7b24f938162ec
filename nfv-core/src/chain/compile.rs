//! From the chain file to what workers run: functions built, chains turned into programs, counters laid out.
//!
//! A chain becomes one program for each direction. A packet's port and the chains' matches pick the program, the
//! program's steps are functions, its end is a port. A reason to drop may lead to another program (`on:`), so programs
//! form a graph; the compiler keeps it without cycles, so every packet ends.

use std::sync::{Arc, OnceLock};

use crate::account::{CellId, Counter, Ledger, Side};
pub use crate::chain::cells::{EngineCells, FunctionCells, PortCells};
use crate::chain::cells::{engine_cells, function_cells};
use crate::chain::claims::{Claim, Claims};
use crate::chain::key::FunctionType;
use crate::chain::piece::{Piece, Pieces, Run, folded};
use crate::chain::report::{Report, nearest, quoted};
use crate::chain::routing::route_table;
use crate::chain::source::Spanned;
use crate::chain::spec::{ChainFile, ChainSpec, FunctionSpec, WorkerSettings};
use crate::chain::zone::{self, Sources, Zones};
use crate::dispatch::{
    Classes, Classifier, Measured, PortTags, TagCells, TagCheck, compile_tags, generations,
};
use crate::flow::{FlowLimits, KEPT, RouteTable, SHIFT, Zone};
use crate::nf::{
    Answer, Built, Direction, Kind, PortIndex, Purpose, Reason, Surroundings, Tracking,
};

/// What all workers share, read only.
#[derive(Debug)]
pub struct Plan {
    /// The ports' names, by index.
    pub ports: Vec<String>,
    /// The zones that the ports are in.
    pub zones: Zones,
    /// Where a packet from each port enters.
    pub entries: Vec<Entry>,
    /// The functions.
    pub functions: Vec<Function>,
    /// The programs: two a chain, and behind them those that are the rest of one.
    pub programs: Vec<Program>,
    /// The traffic classes of all ports.
    pub classes: Classes,
    /// Where their packets are counted.
    pub tag_cells: TagCells,
    /// The pieces of chains that keep flows.
    pub pieces: Vec<Piece>,
    /// What flows may take, and how long they live.
    pub flows: FlowLimits,
    /// How workers share the work.
    pub workers: WorkerSettings,
    /// What is counted.
    pub ledger: Ledger,
    /// Where the engine counts.
    pub cells: EngineCells,
    /// Where routed packets go; there is one where a port is routed or a function routes.
    pub routes: Option<Arc<RouteTable>>,
    /// The first [`FunctionId`] that no function has had yet.
    ids: u32,
}

/// A function of the chain file.
#[derive(Debug)]
pub struct Function {
    /// The user's name.
    pub name: String,
    /// Its type.
    pub kind: &'static Kind,
    /// What works, and its rules; a reload keeps it where nothing that it was built from has changed.
    pub built: Arc<Built>,
    /// Which function it is, for as long as one of its name and type is in the file.
    pub(crate) id: FunctionId,
    /// What it was built from, and what it took for itself.
    spec: FunctionSpec,
    claims: Vec<Claim>,
    /// Counts its packets, then each of the kind's drops, then the kind's counters, then its rules.
    pub cells: FunctionCells,
}

/// A function, whatever becomes of its section; one that comes back later is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionId(pub(crate) u32);

/// A program by its place in [`Plan::programs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub u16);

/// Where packets of one port enter.
#[derive(Debug)]
pub struct Entry {
    /// The chains of all packets, those among them that only answer.
    pub all: Choice,
    /// Where chains keep flows, the chains of a flow's first packet; those that only answer take none.
    pub first: Option<Choice>,
    /// What its classes are to a worker; `None`: it has none.
    pub tags: Option<PortTags>,
    /// How far the NIC's tags are looked at; there is one where the NIC was given rules.
    pub check: OnceLock<Arc<TagCheck>>,
    /// Where it is seen how the NIC spreads packets; there is one where it does not tell.
    pub measured: OnceLock<Arc<Measured>>,
}

/// Which chain takes a packet.
#[derive(Debug)]
pub enum Choice {
    /// No chain takes it.
    Closed,
    /// One chain takes all.
    All(ProgramId),
    /// The first match picks.
    Matched {
        /// The matches of all its chains.
        classifier: Classifier,
        /// The program of each match.
        programs: Vec<ProgramId>,
    },
}

/// A chain in one direction.
#[derive(Debug)]
pub struct Program {
    /// The chain's name.
    pub chain: String,
    /// Which way.
    pub direction: Direction,
    /// What its packets go through.
    pub steps: Vec<Step>,
    /// Where what is left goes.
    pub to: Option<PortIndex>,
    /// Packets that entered.
    pub packets: CellId,
    /// Their bytes.
    pub bytes: CellId,
    /// Of which program it is what is left from a step on, for packets of which the steps before are decided.
    pub rest_of: Option<(ProgramId, usize)>,
}

/// What packets go through at one step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A function that is asked about each packet.
    Function {
        /// Its place in [`Plan::functions`].
        at: usize,
        /// For each of its reasons to drop, the program that `on` names.
        reroutes: Vec<Option<ProgramId>>,
        /// Whether packets are changed behind it.
        changes_follow: bool,
        /// Where packets are counted whose flows it has let go; `None`: it is shown all.
        let_go: Option<CellId>,
    },
    /// Functions that are asked about each flow: a place in [`Plan::pieces`].
    Piece(usize),
}

/// The tables of keys of `kinds`, for reading a chain file.
pub fn function_types(kinds: &[&'static Kind]) -> Vec<FunctionType> {
    kinds.iter().map(|k| FunctionType { name: k.name, keys: k.keys }).collect()
}

/// Compiles a chain file. `None`, and the mistakes in `report`, when it cannot run.
///
/// `before`: what runs now, of the same ports. What has not changed is taken over, and flows find their way.
pub fn compile(
    file: &ChainFile,
    kinds: &[&'static Kind],
    purpose: Purpose,
    before: Option<&Plan>,
    report: &mut Report,
) -> Option<Plan> {
    let ports: Vec<String> = file.ports.iter().map(|p| p.name.value.clone()).collect();
    if ports.len() > PORTS_MAX {
        let span = file.ports.get(PORTS_MAX)?.name.span;
        report.error(span, format!("more than {PORTS_MAX} ports"));
    }
    let mut ledger = Ledger::default();
    let cells = engine_cells(&mut ledger, &file.ports);
    let routes = match before {
        Some(before) => before.routes.clone(),
        None => route_table(file, kinds, report),
    };
    let claims = Claims::default();
    let zones = Zones::of(&file.ports);
    let around = Surroundings {
        ports: &ports,
        zones: &zones,
        purpose,
        out: file.out.as_deref(),
        routes: routes.as_ref(),
        claims: &claims,
        heritage: None,
    };
    let mut functions = Vec::new();
    let mut next = before.map_or(0, |b| b.ids);
    for spec in &file.functions {
        let Some(kind) = kinds.iter().find(|k| k.name == spec.kind.name) else { continue };
        if kind.profile.routes && routes.is_none() && before.is_some() {
            let message = "a reload cannot make a run route that did not route before";
            report.error(spec.name.span, message).hint("start it anew with this file");
        }
        let older = before.and_then(|b| b.namesake(spec));
        let id = older.map_or(FunctionId(next), |f| f.id);
        next = next.max(id.0 + 1);
        let heritage = older.and_then(|f| f.built.heritage.as_ref());
        let first_claim = claims.len();
        let built = match older.filter(|f| f.is_still(spec)) {
            Some(same) => {
                claims.take_again(&same.claims, spec.name.span, report);
                Some(same.built.clone())
            }
            None => (kind.build)(&spec.section(), Surroundings { heritage, ..around }, report)
                .map(Arc::new),
        };
        if let Some(built) = built {
            let name = spec.name.value.clone();
            let cells = function_cells(&mut ledger, &name, kind, &built);
            let spec = spec.clone();
            let claims = claims.since(first_claim);
            functions.push(Function { name, kind, built, cells, id, spec, claims });
        }
    }
    let sources = Sources::of(file, &zones);
    let mut compiler =
        Compiler { around, file, functions: &functions, sources: &sources, before, report };
    compiler.check();
    zone::check(file, &functions, &zones, &sources, compiler.report);
    if compiler.report.has_errors() {
        return None;
    }
    let (mut programs, pieces) = compiler.programs(&mut ledger);
    compiler.check_cycles(&programs, &pieces);
    let asked_at = generations(&functions);
    let (mut entries, classes) = compiler.entries(&programs, &pieces);
    if report.has_errors() {
        return None;
    }
    let (tags, tag_cells) = compile_tags(&classes, &functions, &mut programs, &asked_at);
    for (entry, tags) in entries.iter_mut().zip(tags) {
        entry.tags = tags;
    }
    let flows = file.flows;
    let ids = next;
    Some(Plan {
        ports,
        zones,
        entries,
        functions,
        programs,
        classes,
        tag_cells,
        pieces,
        flows,
        workers: file.workers,
        ledger,
        cells,
        routes,
        ids,
    })
}

pub(super) struct Compiler<'c> {
    pub(super) around: Surroundings<'c>,
    pub(super) file: &'c ChainFile,
    pub(super) functions: &'c [Function],
    sources: &'c Sources,
    pub(super) before: Option<&'c Plan>,
    pub(super) report: &'c mut Report,
}

impl Compiler<'_> {
    fn port(&self, name: &str) -> Option<PortIndex> {
        self.around.port(name)
    }

    /// What a chain may say wrongly that names alone do not show.
    fn check(&mut self) {
        for chain in &self.file.chains {
            let routes = |s: &&Spanned<String>| {
                self.functions.iter().any(|f| f.name == s.value && f.kind.profile.routes)
            };
            if chain.to.is_none() && !chain.through.iter().any(|s| routes(&s)) {
                self.report
                    .error(
                        chain.name.span,
                        format!("chain {} leads nowhere", quoted(&chain.name.value)),
                    )
                    .hint(
                        "say with `to` which port its packets leave by, or end it with a `route`",
                    );
            }
            for (i, step) in chain.through.iter().enumerate() {
                if chain.through.iter().take(i).any(|s| s.value == step.value) {
                    let message =
                        format!("function {} is in this chain already", quoted(&step.value));
                    self.report.error(step.span, message);
                }
            }
            let reasons: Vec<&str> = chain
                .through
                .iter()
                .filter_map(|s| self.functions.iter().find(|f| f.name == s.value))
                .flat_map(|f| f.kind.drops.iter().map(|d| d.name))
                .collect();
            let known = chain.through.len()
                == chain
                    .through
                    .iter()
                    .filter(|s| self.functions.iter().any(|f| f.name == s.value))
                    .count();
            for (exit, _) in &chain.on {
                if known && !reasons.contains(&exit.value.as_str()) {
                    let entry = self.report.error(
                        exit.span,
                        format!("no function of this chain has an exit {}", quoted(&exit.value)),
                    );
                    match nearest(&exit.value, reasons.iter().copied()) {
                        Some(near) => entry.hint(format!("did you mean `{near}`?")),
                        None => entry.hint(format!("exits: {}", reasons.join(" "))),
                    };
                }
            }
        }
    }

    /// Two programs a chain, forward at twice its place, reverse behind it; and the pieces of both, behind those that
    /// there were before.
    fn programs(&mut self, ledger: &mut Ledger) -> (Vec<Program>, Vec<Piece>) {
        let mut pieces = Pieces::after(self.before, self.functions);
        let mut programs = Vec::new();
        for (i, chain) in (0..u16::MAX / 2).zip(&self.file.chains) {
            let ids = [ProgramId(2 * i), ProgramId(2 * i + 1)];
            let zone = self.sources.zone(usize::from(i));
            let steps = self.steps(chain, zone, ids, &mut pieces);
            for direction in [Direction::Forward, Direction::Reverse] {
                programs.push(self.program(chain, direction, &steps, ledger));
            }
        }
        if pieces.is_full() {
            let span = self.file.chains.first().map(|c| c.name.span).unwrap_or_default();
            self.report
                .error(span, "flows have been cut in more ways than can be told apart")
                .hint("start the run anew with this file");
        }
        (programs, pieces.done())
    }

    /// A chain's steps: functions, of which those that keep flows are joined where they stand side by side.
    fn steps(
        &mut self,
        chain: &ChainSpec,
        zone: Zone,
        ids: [ProgramId; 2],
        pieces: &mut Pieces,
    ) -> Vec<Shape> {
        let at = |name: &str| self.functions.iter().position(|f| f.name == name);
        let through: Vec<usize> = chain.through.iter().filter_map(|s| at(&s.value)).collect();
        self.check_answers(chain, &through);
        let runs = folded(&through, self.functions);
        let mut steps = Vec::new();
        let mut own = Vec::new();
        for run in runs {
            let functions = match run {
                Run::Single(at) => {
                    steps.push(Shape::Function(at));
                    continue;
                }
                Run::Piece(functions) => functions,
            };
            let parts = functions.iter().map(|at| (*at, self.reroutes(chain, *at))).collect();
            let built = |at: &usize| self.functions.get(*at).map(|f| &f.built);
            let gives = |at: &usize| built(at).is_some_and(|b| b.syn_cookies.is_some());
            let room = if functions.iter().any(gives) { KEPT - SHIFT } else { KEPT };
            match Piece::of(parts, self.functions, ids, room) {
                // Its number is known when all of the chain's are.
                Some(piece) => {
                    steps.push(Shape::Piece(own.len()));
                    own.push(piece);
                }
                None => {
                    let message = format!(
                        "the functions of chain {} keep more than {room} bytes with a flow",
                        quoted(&chain.name.value)
                    );
                    let hint =
                        "split the chain by a function that sees each packet, such as `count`";
                    self.report.error(chain.name.span, message).hint(hint);
                }
            }
        }
        let numbers = pieces.add(&chain.name.value, zone, own);
        for step in &mut steps {
            if let Shape::Piece(at) = step {
                *at = numbers.get(*at).copied().unwrap_or_default();
            }
        }
        steps
    }

    /// A connection that begins with a cookie needs its server's answer.
    fn check_answers(&mut self, chain: &ChainSpec, through: &[usize]) {
        let own = || through.iter().filter_map(|at| self.functions.get(*at));
        let gives = own().find(|f| f.built.syn_cookies.is_some());
        let one_way = own().find(|f| f.built.is_one_way);
        let Some((gives, one_way)) = gives.zip(one_way) else { return };
        let message = format!(
            "the answers of {} go another way than {}, which {} needs for SYN cookies",
            quoted(&one_way.name),
            quoted(&chain.name.value),
            quoted(&gives.name),
        );
        let hint = "leave out `syn-cookies`, or have answers come back";
        self.report.error(chain.name.span, message).hint(hint);
    }

    fn reroutes(&self, chain: &ChainSpec, at: usize) -> Vec<Option<ProgramId>> {
        let drops = self.functions.get(at).map_or(&[][..], |f| f.kind.drops);
        drops.iter().map(|d| self.reroute(chain, d.name)).collect()
    }

    /// Where packets are counted that pass a function by. One bit with a flow tells those of one function.
    fn let_go(&self, at: usize, shapes: &[Shape]) -> Option<CellId> {
        let counter = |at: usize| {
            let function = self.functions.get(at)?;
            Some(function.cells.counters.plus(function.built.lets_go?))
        };
        let lets_go =
            |shape: &&Shape| matches!(shape, Shape::Function(at) if counter(*at).is_some());
        let keeps_flows = shapes.iter().any(|shape| matches!(shape, Shape::Piece(_)));
        (keeps_flows && shapes.iter().filter(lets_go).count() == 1).then(|| counter(at)).flatten()
    }

    fn program(
        &self,
        chain: &ChainSpec,
        direction: Direction,
        shapes: &[Shape],
        ledger: &mut Ledger,
    ) -> Program {
        let mut steps: Vec<Step> = shapes
            .iter()
            .map(|shape| match *shape {
                Shape::Function(at) => Step::Function {
                    at,
                    reroutes: self.reroutes(chain, at),
                    changes_follow: true,
                    let_go: self.let_go(at, shapes),
                },
                Shape::Piece(piece) => Step::Piece(piece),
            })
            .collect();
        let mut to = chain.to.as_ref().and_then(|p| self.port(&p.value));
        let word = match direction {
            Direction::Forward => "forward",
            Direction::Reverse => {
                steps.reverse();
                self.route_last(&mut steps);
                to = chain.from.first().and_then(|p| self.port(&p.value));
                "reverse"
            }
        };
        self.find_last_changes(&mut steps, to.is_none());
        let labels = || vec![("chain", chain.name.value.clone()), ("direction", word.to_owned())];
        let mut count = |metric, help| {
            ledger.add(Counter { metric, help, labels: labels(), side: Side::Aside })
        };
        Program {
            chain: chain.name.value.clone(),
            direction,
            steps,
            to,
            packets: count("chain_packets", "packets that entered the chain"),
            bytes: count("chain_bytes", "bytes of the packets that entered the chain"),
            rest_of: None,
        }
    }

    /// Which functions have none behind them that change packets. `is_routed`: the next hop's address is written at the end.
    fn find_last_changes(&self, steps: &mut [Step], is_routed: bool) {
        let mut changed = is_routed;
        for step in steps.iter_mut().rev() {
            match step {
                Step::Function { at, changes_follow, .. } => {
                    *changes_follow = changed;
                    let profile = self.functions.get(*at).map(|f| f.kind.profile);
                    changed |= profile.is_none_or(|profile| profile.writes || profile.routes);
                }
                Step::Piece(_) => changed = true,
            }
        }
    }

    /// Routers behind the pieces: the way of an answer is that to the end that a piece has given back to it.
    fn route_last(&self, steps: &mut [Step]) {
        let routes = |step: &Step| match step {
            Step::Function { at, .. } => {
                self.functions.get(*at).is_some_and(|f| f.kind.profile.routes)
            }
            Step::Piece(_) => false,
        };
        if steps.iter().any(|s| matches!(s, Step::Piece(_))) {
            steps.sort_by_key(routes);
        }
    }

    /// The program that `on` of `chain` names for a reason.
    fn reroute(&self, chain: &ChainSpec, reason: &str) -> Option<ProgramId> {
        let (_, target) = chain.on.iter().find(|(exit, _)| exit.value == reason)?;
        let at = self.file.chains.iter().position(|c| c.name.value == target.value)?;
        u16::try_from(2 * at).ok().map(ProgramId)
    }

    /// A packet that is rerouted for ever would never be counted.
    fn check_cycles(&mut self, programs: &[Program], pieces: &[Piece]) {
        let of = |step: &Step| -> Vec<Option<ProgramId>> {
            match step {
                Step::Function { reroutes, .. } => reroutes.clone(),
                Step::Piece(piece) => {
                    let functions = pieces.get(*piece).map_or(&[][..], |p| &p.functions);
                    functions.iter().flat_map(|f| f.reroutes.clone()).collect()
                }
            }
        };
        let next = |p: usize| -> Vec<usize> {
            let steps = programs.get(p).map_or(&[][..], |p| &p.steps);
            steps.iter().flat_map(of).flatten().map(|id| usize::from(id.0)).collect()
        };
        for (i, chain) in self.file.chains.iter().enumerate() {
            let (mut seen, mut todo) = (vec![false; programs.len()], next(2 * i));
            while let Some(p) = todo.pop() {
                if p == 2 * i {
                    let at = chain.on.first().map_or(chain.name.span, |(_, target)| target.span);
                    let message =
                        format!("chain {} leads back to itself", quoted(&chain.name.value));
                    self.report
                        .error(at, message)
                        .hint("packets must end somewhere: break the circle of `on`");
                    break;
                }
                if let Some(seen) = seen.get_mut(p).filter(|s| !**s) {
                    *seen = true;
                    todo.extend(next(p));
                }
            }
        }
    }
}

fn is_for_receiver(answer: Answer) -> bool {
    matches!(answer, Answer::RejectReceiver | Answer::RejectBoth)
}

/// A step of a chain before it has a direction.
enum Shape {
    Function(usize),
    Piece(usize),
}

/// A packet's port is a byte of its classification key.
const PORTS_MAX: usize = 255;

impl Function {
    /// Whether it has the flows of its chains kept.
    pub(crate) fn keeps_flows(&self) -> bool {
        self.built.tracking > Tracking::None
    }

    /// Whether it may tell the receiver of a packet that it refuses.
    #[inline]
    pub(crate) fn tells_receivers(&self) -> bool {
        self.kind.answers.iter().any(|(_, answer)| is_for_receiver(*answer))
    }

    /// Whether it tells the receiver of a packet that it refuses for a reason.
    pub(crate) fn tells_receiver_of(&self, why: Reason) -> bool {
        self.kind.answers.iter().any(|(r, answer)| *r == why && is_for_receiver(*answer))
    }

    /// Whether it would be built the same from `spec`, down to the lines by which its rules are named.
    fn is_still(&self, spec: &FunctionSpec) -> bool {
        self.spec.says_the_same(spec)
            && self.built.is_current.as_ref().is_none_or(|is_current| is_current())
            && (self.built.rules.is_empty() || self.spec.is_at_the_same_lines(spec))
    }
}
