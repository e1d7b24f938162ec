//! Zones: ports within which an address is one host's. In another zone the same address is another host's.
//!
//! ```text
//!   a-in [zone a] --- chain --------> a-out [zone a]     both directions of a flow are looked up in zone a
//!   b-in [zone b] --- chain, nat ---> wan   [no zone]    in zone b from the inside; from the outside in none, where the
//!                                                        answers have the nat's addresses, which are nobody else's
//! ```
//!
//! A packet is looked up in the zone of the port that received it, so a flow has a zone for each of its directions, as in
//! Linux's conntrack: that of the port where it came in, and that of the port by which it leaves, where its answers come
//! in. The one rejected: one zone a flow, that of its chain, which at a shared outside nobody knows before the flow is found.
//!
//! What knows hosts by addresses alone can be of one zone only: a nat, the forwarding table, and a chain's way back, which
//! leads to one port. What would mix zones there is a mistake of the file.

use crate::chain::compile::Function;
use crate::chain::port::{Mode, PortSpec};
use crate::chain::report::{Report, quoted};
use crate::chain::source::Span;
use crate::chain::spec::{ChainFile, ChainSpec};
use crate::flow::Zone;
use crate::nf::PortIndex;

/// The zones of a file's ports.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    /// By number less 1, in the order of the ports.
    names: Vec<String>,
    /// By port.
    of_ports: Vec<Zone>,
}

impl Zones {
    /// Those that ports name.
    pub(crate) fn of(ports: &[PortSpec]) -> Self {
        let mut zones = Self::default();
        for port in ports {
            let zone = port.zone.as_ref().map_or(Zone::default(), |z| zones.number(&z.value));
            zones.of_ports.push(zone);
        }
        zones
    }

    fn number(&mut self, name: &str) -> Zone {
        let known = self.names.iter().position(|n| n == name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        // There are no more ports than numbers: a file with more is refused.
        Zone(u8::try_from(at + 1).unwrap_or(u8::MAX))
    }

    /// The zone of a port.
    #[inline]
    pub fn of_port(&self, port: PortIndex) -> Zone {
        self.of_ports.get(port.index()).copied().unwrap_or_default()
    }

    /// Its name; `None`: it is that of the ports that name none.
    pub fn name(&self, zone: Zone) -> Option<&str> {
        self.names.get(usize::from(zone.0).checked_sub(1)?).map(String::as_str)
    }

    /// The ports of a zone; `None`: no port names it.
    pub fn ports(&self, name: &str) -> Option<impl Iterator<Item = PortIndex>> {
        let at = self.names.iter().position(|n| n == name)?;
        let is_in = move |zone: &Zone| usize::from(zone.0) == at + 1;
        let all = (0..=u8::MAX).map(PortIndex).zip(&self.of_ports);
        Some(all.filter(move |(_, zone)| is_in(zone)).map(|(port, _)| port))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// As a message says it.
    fn words(&self, zone: Zone) -> String {
        self.name(zone)
            .map_or_else(|| "no zone".to_owned(), |name| format!("zone {}", quoted(name)))
    }
}

/// The zones that packets of each chain come from, each with the place in the file that says so.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Vec<(Zone, Span)>>);

impl Sources {
    /// Of a file's chains, in order: of a chain's ports, and of the chains that lead to it by their exits.
    pub fn of(file: &ChainFile, zones: &Zones) -> Self {
        let of_ports = |chain: &ChainSpec| {
            let mut all = Vec::new();
            for port in &chain.from {
                add(&mut all, zone_of(file, zones, &port.value), port.span);
            }
            all
        };
        let mut all: Vec<Vec<(Zone, Span)>> = file.chains.iter().map(of_ports).collect();
        // Each round takes zones one exit further.
        for _ in 0..file.chains.len() {
            for (from, chain) in file.chains.iter().enumerate() {
                for (_, target) in &chain.on {
                    let at = file.chains.iter().position(|c| c.name.value == target.value);
                    let came = all.get(from).cloned().unwrap_or_default();
                    let Some(to) = at.and_then(|at| all.get_mut(at)) else { continue };
                    for (zone, _) in came {
                        add(to, zone, target.span);
                    }
                }
            }
        }
        Self(all)
    }

    /// The zone of a chain's packets: where flows are kept there is one.
    pub fn zone(&self, chain: usize) -> Zone {
        self.0.get(chain).and_then(|all| all.first()).map_or(Zone::default(), |(zone, _)| *zone)
    }

    fn all(&self, chain: usize) -> &[(Zone, Span)] {
        self.0.get(chain).map_or(&[], Vec::as_slice)
    }
}

fn add(all: &mut Vec<(Zone, Span)>, zone: Zone, span: Span) {
    if all.iter().all(|(other, _)| *other != zone) {
        all.push((zone, span));
    }
}

fn zone_of(file: &ChainFile, zones: &Zones, port: &str) -> Zone {
    let at = file.ports.iter().position(|p| p.name.value == port);
    at.and_then(|at| zones.of_ports.get(at)).copied().unwrap_or_default()
}

/// Reports what would take hosts of two zones for one.
pub(crate) fn check(
    file: &ChainFile,
    functions: &[Function],
    zones: &Zones,
    sources: &Sources,
    report: &mut Report,
) {
    if zones.names.is_empty() {
        return;
    }
    let of = |chain: &ChainSpec| -> Vec<&Function> {
        let through = chain.through.iter();
        through.filter_map(|s| functions.iter().find(|f| f.name == s.value)).collect()
    };
    check_ways_back(file, &of, zones, sources, report);
    check_bindings(file, functions, zones, sources, report);
    check_routes(file, &of, zones, report);
}

/// A chain that keeps flows takes packets of one zone.
fn check_ways_back<'f>(
    file: &ChainFile,
    of: &impl Fn(&ChainSpec) -> Vec<&'f Function>,
    zones: &Zones,
    sources: &Sources,
    report: &mut Report,
) {
    for (i, chain) in file.chains.iter().enumerate() {
        let keeps = of(chain).iter().any(|f| f.keeps_flows());
        let [(first, _), (second, span), ..] = sources.all(i) else { continue };
        if keeps {
            let (name, first, second) =
                (quoted(&chain.name.value), zones.words(*first), zones.words(*second));
            let message = format!("chain {name} keeps flows, of {first} and of {second}");
            report
                .error(*span, message)
                .hint("their answers go one way back: give each zone a chain of its own");
        }
    }
}

/// A function that knows hosts by their addresses stands between the same two zones everywhere.
fn check_bindings(
    file: &ChainFile,
    functions: &[Function],
    zones: &Zones,
    sources: &Sources,
    report: &mut Report,
) {
    for function in functions.iter().filter(|f| f.built.binds_addresses) {
        let mut first = None::<([Zone; 2], Span)>;
        for (i, chain) in file.chains.iter().enumerate() {
            let Some(step) = chain.through.iter().find(|s| s.value == function.name) else {
                continue;
            };
            for (from, _) in sources.all(i) {
                let to = chain.to.as_ref().map_or(*from, |to| zone_of(file, zones, &to.value));
                let mut both = [*from, to];
                both.sort_by_key(|zone| zone.0);
                let (known, at) = *first.get_or_insert((both, step.span));
                if known != both {
                    let name = quoted(&function.name);
                    let pair = |[a, b]: [Zone; 2]| match a == b {
                        true => format!("within {}", zones.words(a)),
                        false => format!("between {} and {}", zones.words(a), zones.words(b)),
                    };
                    let message =
                        format!("{name} stands {} here, {} before", pair(both), pair(known));
                    let hint = format!(
                        "in line {}; an address is another host's in each zone: take a {} for each",
                        at.line, function.kind.name
                    );
                    report.error(step.span, message).hint(hint);
                    break;
                }
            }
        }
    }
}

/// What the box routes is of one zone.
fn check_routes<'f>(
    file: &ChainFile,
    of: &impl Fn(&ChainSpec) -> Vec<&'f Function>,
    zones: &Zones,
    report: &mut Report,
) {
    let routing = file.chains.iter().filter(|c| of(c).iter().any(|f| f.kind.profile.routes));
    let named: Vec<&str> =
        routing.flat_map(|c| c.from.iter().chain(&c.to)).map(|p| p.value.as_str()).collect();
    let routed = |p: &&PortSpec| p.mode == Mode::Routed || named.contains(&p.name.value.as_str());
    let mut first = None::<(&PortSpec, Zone)>;
    for port in file.ports.iter().filter(routed) {
        let zone = zone_of(file, zones, &port.name.value);
        let (known, its) = *first.get_or_insert((port, zone));
        if zone != its {
            let span = port.zone.as_ref().map_or(port.name.span, |z| z.span);
            let (a, b) = (quoted(&port.name.value), quoted(&known.name.value));
            let message = format!(
                "port {a} is of {}, and port {b} of {}, which is routed too",
                zones.words(zone),
                zones.words(its)
            );
            report.error(span, message).hint(
                "the box has one forwarding table: ports that it routes between are of one zone",
            );
        }
    }
}
