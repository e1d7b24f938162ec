//! From the chain file to what workers run: functions built, chains turned into programs, counters laid out.
//!
//! A chain becomes one program for each direction. A packet's port and the chains' matches pick the program, the
//! program's steps are functions, its end is a port. A reason to drop may lead to another program (`on:`), so programs
//! form a graph; the compiler keeps it without cycles, so every packet ends.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::account::{CellId, Counter, Ledger, Side};
use crate::chain::key::FunctionType;
use crate::chain::matching::Match;
use crate::chain::port::{Mode, PortSpec};
use crate::chain::report::{Report, nearest, quoted};
use crate::chain::source::{Span, Spanned};
use crate::chain::spec::{ChainFile, ChainSpec};
use crate::dispatch::Classifier;
use crate::flow::{Refusal, RouteTable};
use crate::nf::{Built, Direction, Kind, PortIndex, Purpose, Surroundings};
use crate::packet::MALFORMED;

/// What all workers share, read only.
#[derive(Debug)]
pub struct Plan {
    /// The ports' names, by index.
    pub ports: Vec<String>,
    /// Where a packet from each port enters.
    pub entries: Vec<Entry>,
    /// The functions.
    pub functions: Vec<Function>,
    /// The programs.
    pub programs: Vec<Program>,
    /// What is counted.
    pub ledger: Ledger,
    /// Where the engine counts.
    pub cells: EngineCells,
    /// Where routed packets go; there is one where a port is routed or a function routes.
    pub routes: Option<Arc<RouteTable>>,
}

/// A function of the chain file.
#[derive(Debug)]
pub struct Function {
    /// The user's name.
    pub name: String,
    /// Its type.
    pub kind: &'static Kind,
    /// What works, and its rules.
    pub built: Built,
    /// Counts its packets, then each of the kind's drops, then the kind's counters, then its rules.
    pub cells: FunctionCells,
}

/// Where a function is counted.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCells {
    /// Packets that it saw.
    pub packets: CellId,
    /// Bytes that it saw.
    pub bytes: CellId,
    /// Cycles that it took.
    pub cycles: CellId,
    /// The first of its reasons to drop.
    pub drops: CellId,
    /// The first of its counters.
    pub counters: CellId,
    /// The first of its rules.
    pub rules: CellId,
}

/// Where the engine counts what no function answers for.
#[derive(Clone, Debug)]
pub struct EngineCells {
    /// By port.
    pub ports: Vec<PortCells>,
    /// The first of [`MALFORMED`].
    pub malformed: CellId,
    /// No chain's match was met.
    pub no_chain: CellId,
    /// A header was not in the first segment, and did not fit there.
    pub scattered: CellId,
    /// The first of the reasons why a routed packet goes no further.
    pub(crate) refused: CellId,
    /// ICMP errors that were not sent, as there had been many.
    pub(crate) unanswered: CellId,
    /// Packets that NFs made.
    pub created: CellId,
    /// Packets that NFs kept for good.
    pub consumed: CellId,
    /// Polls that found nothing.
    pub idle_polls: CellId,
    /// Polls that found packets.
    pub busy_polls: CellId,
}

/// Where a port is counted.
#[derive(Clone, Copy, Debug)]
pub struct PortCells {
    /// Packets received.
    pub rx_packets: CellId,
    /// Bytes received.
    pub rx_bytes: CellId,
    /// Packets sent.
    pub tx_packets: CellId,
    /// Bytes sent.
    pub tx_bytes: CellId,
    /// Packets dropped because the transmit ring stayed full.
    pub tx_full: CellId,
    /// Of a routed port.
    pub(crate) routed: Option<RoutedCells>,
}

/// Where a routed port is counted besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutedCells {
    /// Packets given to the kernel.
    pub to_kernel: CellId,
    /// Packets that the kernel sent.
    pub from_kernel: CellId,
    /// Dropped: for another station.
    pub not_for_us: CellId,
    /// Dropped: for the box itself, and the port has no twin.
    pub no_twin: CellId,
    /// Dropped: the kernel takes them too slowly.
    pub twin_full: CellId,
}

/// A program by its place in [`Plan::programs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub u16);

/// Where packets of one port enter.
#[derive(Debug)]
pub enum Entry {
    /// No chain takes them.
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
    /// Functions, by their place in [`Plan::functions`].
    pub steps: Vec<usize>,
    /// Where what is left goes.
    pub to: Option<PortIndex>,
    /// For each step, for each of its reasons to drop, the program that `on` names.
    pub reroutes: Vec<Vec<Option<ProgramId>>>,
    /// Packets that entered.
    pub packets: CellId,
    /// Their bytes.
    pub bytes: CellId,
}

/// The tables of keys of `kinds`, for reading a chain file.
pub fn function_types(kinds: &[&'static Kind]) -> Vec<FunctionType> {
    kinds.iter().map(|k| FunctionType { name: k.name, keys: k.keys }).collect()
}

/// Compiles a chain file. `None`, and the mistakes in `report`, when it cannot run.
pub fn compile(
    file: &ChainFile,
    kinds: &[&'static Kind],
    purpose: Purpose,
    report: &mut Report,
) -> Option<Plan> {
    let ports: Vec<String> = file.ports.iter().map(|p| p.name.value.clone()).collect();
    if ports.len() > PORTS_MAX {
        let span = file.ports.get(PORTS_MAX)?.name.span;
        report.error(span, format!("more than {PORTS_MAX} ports"));
    }
    let mut ledger = Ledger::default();
    let cells = engine_cells(&mut ledger, &file.ports);
    let routes = route_table(file, kinds, report);
    let around = Surroundings { ports: &ports, purpose, routes: routes.as_ref() };
    let mut functions = Vec::new();
    for spec in &file.functions {
        let Some(kind) = kinds.iter().find(|k| k.name == spec.kind.name) else { continue };
        if let Some(built) = (kind.build)(&spec.section(), around, report) {
            let name = spec.name.value.clone();
            let cells = function_cells(&mut ledger, &name, kind, &built);
            functions.push(Function { name, kind, built, cells });
        }
    }
    let mut compiler = Compiler { file, ports: &ports, functions: &functions, report };
    compiler.check();
    if compiler.report.has_errors() {
        return None;
    }
    let programs = compiler.programs(&mut ledger);
    compiler.check_cycles(&programs);
    let entries = compiler.entries();
    if report.has_errors() {
        return None;
    }
    Some(Plan { ports, entries, functions, programs, ledger, cells, routes })
}

struct Compiler<'c> {
    file: &'c ChainFile,
    ports: &'c [String],
    functions: &'c [Function],
    report: &'c mut Report,
}

impl Compiler<'_> {
    fn port(&self, name: &str) -> Option<PortIndex> {
        Surroundings { ports: self.ports, purpose: Purpose::Check, routes: None }.port(name)
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

    /// Two programs a chain, forward at twice its place, reverse behind it.
    fn programs(&self, ledger: &mut Ledger) -> Vec<Program> {
        let mut programs = Vec::new();
        for chain in &self.file.chains {
            for direction in [Direction::Forward, Direction::Reverse] {
                programs.push(self.program(chain, direction, ledger));
            }
        }
        programs
    }

    fn program(&self, chain: &ChainSpec, direction: Direction, ledger: &mut Ledger) -> Program {
        let at = |name: &str| self.functions.iter().position(|f| f.name == name);
        let mut steps: Vec<usize> = chain.through.iter().filter_map(|s| at(&s.value)).collect();
        let mut to = chain.to.as_ref().and_then(|p| self.port(&p.value));
        let word = match direction {
            Direction::Forward => "forward",
            Direction::Reverse => {
                steps.reverse();
                to = chain.from.first().and_then(|p| self.port(&p.value));
                "reverse"
            }
        };
        let reroutes = steps
            .iter()
            .filter_map(|s| self.functions.get(*s))
            .map(|f| f.kind.drops.iter().map(|d| self.reroute(chain, d.name)).collect())
            .collect();
        let labels = || vec![("chain", chain.name.value.clone()), ("direction", word.to_owned())];
        let mut count = |metric, help| {
            ledger.add(Counter { metric, help, labels: labels(), side: Side::Aside })
        };
        Program {
            chain: chain.name.value.clone(),
            direction,
            steps,
            to,
            reroutes,
            packets: count("chain_packets", "packets that entered the chain"),
            bytes: count("chain_bytes", "bytes of the packets that entered the chain"),
        }
    }

    /// The program that `on` of `chain` names for a reason.
    fn reroute(&self, chain: &ChainSpec, reason: &str) -> Option<ProgramId> {
        let (_, target) = chain.on.iter().find(|(exit, _)| exit.value == reason)?;
        let at = self.file.chains.iter().position(|c| c.name.value == target.value)?;
        u16::try_from(2 * at).ok().map(ProgramId)
    }

    /// A packet that is rerouted for ever would never be counted.
    fn check_cycles(&mut self, programs: &[Program]) {
        let next = |p: usize| -> Vec<usize> {
            let reroutes = programs.get(p).map(|p| p.reroutes.concat()).unwrap_or_default();
            reroutes.into_iter().flatten().map(|id| usize::from(id.0)).collect()
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

    fn entries(&mut self) -> Vec<Entry> {
        (0..self.ports.len()).map(|port| self.entry(port)).collect()
    }

    /// Where packets of one port enter: its chains in the file's order, and of those that end here the way back.
    fn entry(&mut self, port: usize) -> Entry {
        let name = self.ports.get(port).map_or("", String::as_str);
        let (mut list, mut programs, mut span) = (Vec::new(), Vec::new(), None::<Span>);
        for (i, chain) in self.file.chains.iter().enumerate() {
            let forward = chain.from.iter().any(|p| p.value == name);
            let back = !chain.oneway
                && !chain.from.is_empty()
                && chain.to.as_ref().is_some_and(|p| p.value == name);
            for (takes, swap, id) in [(forward, false, 2 * i), (back, true, 2 * i + 1)] {
                let Ok(id) = u16::try_from(id) else { continue };
                if !takes {
                    continue;
                }
                span = span.or(Some(chain.name.span));
                let all = [Match::default()];
                let matches = if chain.matches.is_empty() { &all[..] } else { &chain.matches };
                for one in matches {
                    list.push(if swap { mirrored(one) } else { one.clone() });
                    programs.push(ProgramId(id));
                }
            }
        }
        match (list.first(), programs.first()) {
            (None, _) | (_, None) => Entry::Closed,
            (Some(first), Some(program)) if *first == Match::default() => Entry::All(*program),
            _ => match Classifier::build(
                &list,
                Surroundings { ports: self.ports, purpose: Purpose::Check, routes: None },
            ) {
                Ok(classifier) => Entry::Matched { classifier, programs },
                Err(why) => {
                    if let Some(span) = span {
                        self.report.error(span, why.to_string());
                    }
                    Entry::Closed
                }
            },
        }
    }
}

/// The match of the answers.
fn mirrored(one: &Match) -> Match {
    let mut m = one.clone();
    std::mem::swap(&mut m.src, &mut m.dst);
    std::mem::swap(&mut m.sport, &mut m.dport);
    m.in_port = None;
    m
}

/// The forwarding table with what the ports' section says, when anything routes.
fn route_table(
    file: &ChainFile,
    kinds: &[&'static Kind],
    report: &mut Report,
) -> Option<Arc<RouteTable>> {
    let routes = |name: &str| kinds.iter().any(|k| k.name == name && k.profile.routes);
    let routed = file.ports.iter().any(|p| p.mode == Mode::Routed);
    let span = file.ports.first()?.name.span;
    if !routed && !file.functions.iter().any(|f| routes(f.kind.name)) {
        return None;
    }
    let table = match RouteTable::create(file.ports.len()) {
        Ok(table) => table,
        Err(why) => {
            let hint = "it takes 200 MiB: give EAL more memory, `-m 1024`";
            report.error(span, format!("no forwarding table: {why}")).hint(hint);
            return None;
        }
    };
    for (index, port) in (0..=u8::MAX).map(PortIndex).zip(&file.ports) {
        for address in &port.addresses {
            if let Err(why) = table.add_port_address(index, address.value) {
                report.error(address.span, why.to_string());
            }
        }
        for (address, mac) in &port.neighbours {
            let on_link = |net: &IpNet| net.contains(&address.value);
            if !port.addresses.iter().any(|a| on_link(&a.value)) && !is_link_local(address.value) {
                let (port, address_text) = (quoted(&port.name.value), address.value);
                report
                    .error(address.span, format!("{address_text} is in no network of port {port}"))
                    .hint("a neighbour is on the port's link: give the port an address in its network");
                continue;
            }
            if let Err(why) = table.neighbour(index, address.value, Some(mac.value.bytes())) {
                report.error(address.span, why.to_string());
            }
        }
    }
    Some(Arc::new(table))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

fn engine_cells(ledger: &mut Ledger, ports: &[PortSpec]) -> EngineCells {
    let dropped = |ledger: &mut Ledger, nf: &str, reason: &str, help| {
        let labels = vec![("nf", nf.to_owned()), ("reason", reason.to_owned())];
        ledger.add(Counter { metric: "dropped_packets", help, labels, side: Side::Dropped })
    };
    let port_cells = ports
        .iter()
        .map(|spec| {
            let port = &spec.name.value;
            let mut count = |metric, help, side| {
                let labels = vec![("port", port.clone())];
                ledger.add(Counter { metric, help, labels, side })
            };
            let twin = (spec.mode == Mode::Routed).then(|| {
                let given = "packets given to the kernel's twin of the port";
                let taken = "packets that the kernel sent by its twin of the port";
                (
                    count("to_kernel_packets", given, Side::Consumed),
                    count("from_kernel_packets", taken, Side::Created),
                )
            });
            PortCells {
                rx_packets: count("received_packets", "packets received", Side::Received),
                rx_bytes: count("received_bytes", "bytes received", Side::Aside),
                tx_packets: count("sent_packets", "packets sent", Side::Sent),
                tx_bytes: count("sent_bytes", "bytes sent", Side::Aside),
                tx_full: dropped(ledger, port, "tx_full", "the transmit ring stayed full"),
                routed: twin.map(|(to_kernel, from_kernel)| RoutedCells {
                    to_kernel,
                    from_kernel,
                    not_for_us: dropped(ledger, port, "not_for_us", "for another station"),
                    no_twin: dropped(
                        ledger,
                        port,
                        "no_twin",
                        "for the box itself, and the port has no twin",
                    ),
                    twin_full: dropped(
                        ledger,
                        port,
                        "twin_full",
                        "the kernel took packets for the box too slowly",
                    ),
                }),
            }
        })
        .collect();
    let mut malformed = None;
    for (name, help) in MALFORMED {
        let id = dropped(ledger, "parse", name, help);
        malformed.get_or_insert(id);
    }
    let no_chain = dropped(ledger, "dispatch", "no_chain", "no chain's match was met");
    let mut refused = None;
    for named in Refusal::NAMES {
        let id = dropped(ledger, "forward", named.name, named.help);
        refused.get_or_insert(id);
    }
    let scattered = dropped(ledger, "parse", "scattered", "its segments do not fit one buffer");
    let mut count =
        |metric, help, side| ledger.add(Counter { metric, help, labels: Vec::new(), side });
    EngineCells {
        ports: port_cells,
        malformed: malformed.expect("MALFORMED is not empty"),
        no_chain,
        scattered,
        refused: refused.expect("there are refusals"),
        unanswered: count(
            "unanswered_packets",
            "drops of which no ICMP error was sent, as there had been many",
            Side::Aside,
        ),
        created: count("created_packets", "packets that functions made", Side::Created),
        consumed: count("consumed_packets", "packets that functions kept", Side::Consumed),
        idle_polls: count("idle_polls", "polls of a queue that found nothing", Side::Aside),
        busy_polls: count("busy_polls", "polls of a queue that found packets", Side::Aside),
    }
}

fn function_cells(ledger: &mut Ledger, name: &str, kind: &Kind, built: &Built) -> FunctionCells {
    let mut count = |metric, help, more: Option<(&'static str, String)>, side| {
        let labels = std::iter::once(("nf", name.to_owned())).chain(more).collect();
        ledger.add(Counter { metric, help, labels, side })
    };
    let packets = count("nf_packets", "packets that the function saw", None, Side::Aside);
    let bytes = count("nf_bytes", "bytes that the function saw", None, Side::Aside);
    let cycles = count("nf_cycles", "cycles that the function took", None, Side::Aside);
    let mut drops = cycles.plus(1);
    for (i, d) in kind.drops.iter().enumerate() {
        let id =
            count("dropped_packets", d.help, Some(("reason", d.name.to_owned())), Side::Dropped);
        drops = if i == 0 { id } else { drops };
    }
    let counters = cycles.plus(1 + kind.drops.len());
    for c in kind.counters {
        count("nf_counter", c.help, Some(("counter", c.name.to_owned())), Side::Aside);
    }
    let rules = counters.plus(kind.counters.len());
    for rule in &built.rules {
        count(
            "nf_rule_packets",
            "packets that a rule decided",
            Some(("rule", rule.clone())),
            Side::Aside,
        );
    }
    FunctionCells { packets, bytes, cycles, drops, counters, rules }
}

/// A packet's port is a byte of its classification key.
const PORTS_MAX: usize = 255;

impl Plan {
    /// Ends what functions do beside the workers, of which none uses the plan any more: files are written to their end.
    ///
    /// # Errors
    /// What was lost, a sentence for each function that lost something.
    pub fn finish(&self) -> Result<(), String> {
        let all = self.functions.iter().filter_map(|f| f.built.finish.as_ref());
        let lost: Vec<String> = all.filter_map(|finish| finish().err()).collect();
        if lost.is_empty() { Ok(()) } else { Err(lost.join("\n")) }
    }
}
