//! The walk through matches and rules, as their words mean it: one condition after the other, and no trie.

use ipnet::IpNet;
use nfv_core::chain::compile::{Plan, ProgramId, Step};
use nfv_core::chain::matching::Match;
use nfv_core::chain::spec::ChainFile;
use nfv_core::chain::value::{IpFamily, Prefix};
use nfv_core::dispatch::ClassFate;
use nfv_core::nf::{PortIndex, Says};
use nfv_core::packet::{AddressBytes, Headers, L3};

/// The chains of a file.
pub struct Walk<'w> {
    file: &'w ChainFile,
    plan: &'w Plan,
}

/// What becomes of a packet, and what it met.
pub type Told = (ClassFate, Vec<(usize, Option<u32>)>);

/// A packet as one end of a conversation sees it.
struct View {
    family: IpFamily,
    src: AddressBytes,
    dst: AddressBytes,
    sport: u16,
    dport: u16,
    protocol: u8,
    icmp: u8,
    flags: u8,
    vlan: u16,
}

impl View {
    fn of(h: &Headers) -> Option<Self> {
        let family = match h.kind {
            L3::Ipv4 => IpFamily::V4,
            L3::Ipv6 => IpFamily::V6,
            L3::Arp | L3::Other => return None,
        };
        Some(Self {
            family,
            src: h.src,
            dst: h.dst,
            sport: h.sport,
            dport: h.dport,
            protocol: h.protocol,
            icmp: h.icmp_type,
            flags: h.tcp_flags.0,
            vlan: h.vlan,
        })
    }

    /// As the one who asked sees an answer.
    fn turned(self) -> Self {
        let icmp = match (self.protocol, self.icmp) {
            (1, 0) => 8,
            (1, 14) => 13,
            (58, 129) => 128,
            (_, other) => other,
        };
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, icmp, ..self }
    }

    fn inside(&self, list: &[Prefix], address: AddressBytes) -> bool {
        list.is_empty()
            || list.iter().any(|prefix| match (prefix.net(), self.family) {
                (IpNet::V4(net), IpFamily::V4) => {
                    net.contains(&std::net::Ipv4Addr::from(address.v4()))
                }
                (IpNet::V6(net), IpFamily::V6) => {
                    net.contains(&std::net::Ipv6Addr::from(address.v6()))
                }
                _ => false,
            })
    }

    fn meets(&self, one: &Match, port: &str) -> bool {
        let within = |list: &[nfv_core::chain::value::PortRange], port: u16| {
            list.is_empty() || list.iter().any(|r| (r.first()..=r.last()).contains(&port))
        };
        one.family.is_none_or(|f| f == self.family)
            && one.in_port.as_ref().is_none_or(|p| p.value == port)
            && self.inside(&one.src, self.src)
            && self.inside(&one.dst, self.dst)
            && (one.protocols.is_empty()
                || one.protocols.iter().any(|p| p.number() == self.protocol))
            && within(&one.sport, self.sport)
            && within(&one.dport, self.dport)
            && one
                .flags
                .as_ref()
                .is_none_or(|f| self.flags & f.set() == f.set() && self.flags & f.clear() == 0)
            && (one.icmp.is_empty()
                || one
                    .icmp
                    .iter()
                    .any(|m| m.protocol.number() == self.protocol && m.kind == self.icmp))
            && (one.vlan.is_empty() || one.vlan.iter().any(|v| v.id() == self.vlan))
    }
}

impl<'w> Walk<'w> {
    pub fn of(file: &'w ChainFile, plan: &'w Plan) -> Self {
        Self { file, plan }
    }

    /// What becomes of a packet as far as nobody needs to be asked, and what it met. `None`: no chain takes it.
    pub fn packet(&self, port: PortIndex, h: &Headers) -> Option<Told> {
        let (keeps, program) = self.chain(port, h)?;
        let name = &self.plan.ports[port.index()];
        let steps = &self.plan.programs[usize::from(program.0)].steps;
        let reverse = program.0 % 2 == 1;
        let mut decided = Vec::new();
        for (step, what) in steps.iter().enumerate() {
            let asked = ClassFate::Enter { program, step };
            let Step::Function { at, reroutes, .. } = what else { return Some((asked, decided)) };
            let function = &self.plan.functions[*at];
            let Some(decides) = &function.built.decides else { return Some((asked, decided)) };
            let decides = decides();
            let view = View::of(h)?;
            let view = if reverse { view.turned() } else { view };
            let said = decides.list.iter().find(|(one, _)| view.meets(one, name));
            match said.map_or(decides.otherwise, |(_, says)| *says) {
                Says::Pass { rule } => decided.push((*at, rule)),
                Says::Drop { why, rule } if !keeps && reroutes[usize::from(why.0)].is_none() => {
                    decided.push((*at, rule));
                    return Some((ClassFate::Drop { program, function: *at, why }, decided));
                }
                Says::Drop { .. } | Says::Ask => return Some((asked, decided)),
            }
        }
        Some((ClassFate::Enter { program, step: steps.len() }, decided))
    }

    /// Whether its port keeps flows, and the program of the first chain that takes it.
    fn chain(&self, port: PortIndex, h: &Headers) -> Option<(bool, ProgramId)> {
        let name = &self.plan.ports[port.index()];
        let keeps_flows = |program: u16| {
            let steps = &self.plan.programs[usize::from(program)].steps;
            steps.iter().any(|s| matches!(s, Step::Piece(_)))
        };
        let mut ways = Vec::new();
        for (i, chain) in (0u16..).zip(&self.file.chains) {
            if chain.from.iter().any(|p| p.value == *name) {
                ways.push((2 * i, chain));
            }
            let ends_here = chain.to.as_ref().is_some_and(|p| p.value == *name);
            if ends_here && !chain.oneway && !chain.from.is_empty() {
                ways.push((2 * i + 1, chain));
            }
        }
        let keeps = ways.iter().any(|(program, _)| keeps_flows(*program));
        // Answers of flows are known by their flows.
        ways.retain(|(program, _)| !(keeps && program % 2 == 1 && keeps_flows(*program)));
        let takes = |(program, chain): &&(u16, &nfv_core::chain::spec::ChainSpec)| {
            let Some(view) = View::of(h) else { return false };
            // A chain's match is of packets as they are, but for their ends.
            let view = match program % 2 {
                0 => view,
                _ => View { icmp: h.icmp_type, ..view.turned() },
            };
            let meets = |one: &Match| {
                let anywhere = Match { in_port: None, ..one.clone() };
                view.meets(if program % 2 == 0 { one } else { &anywhere }, name)
            };
            chain.matches.is_empty() || chain.matches.iter().any(meets)
        };
        ways.iter().find(takes).map(|(program, _)| (keeps, ProgramId(*program)))
    }
}
