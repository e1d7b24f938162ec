//! Flows as an operator sees them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::entry::{Entry, flag};
use super::key::{Address, Tuple, Zone};
use super::table::Table;
use super::wheel::Tick;
use crate::chain::compile::Plan;
use crate::packet::{L3, protocol};

/// A part of the list of all flows, filled by a worker.
#[derive(Debug, Default)]
pub struct FlowPage {
    /// Where it begins: 0 for the first one, then what the one before left here; `None` behind the last.
    pub next: Option<u64>,
    /// The flows.
    pub rows: Vec<FlowRow>,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Who began it, and to whom.
    pub ends: [SocketAddr; 2],
    /// Who answers, and to whom: the ends exchanged, when nothing is rewritten.
    pub answers: [SocketAddr; 2],
    /// Outer VLAN id.
    pub vlan: u16,
    /// The zone that it began in; `None`: this is a later piece of its chain.
    pub zone: Option<Zone>,
    /// Number of its chain's piece, to be named by the plan.
    pub piece: u16,
    /// Where it stands, in a word.
    pub state: &'static str,
    /// Seconds since its last packet.
    pub idle: u32,
}

impl FlowPage {
    /// An empty page that begins with the first flow; no memory is taken while it is filled.
    pub fn first() -> Self {
        Self { next: Some(0), rows: Vec::with_capacity(ROWS_MAX) }
    }

    /// Adds flows of a table from an entry on; returns where to go on.
    pub(crate) fn fill<A: Address>(&mut self, table: &Table<A>, from: u32, now: Tick) -> u32 {
        let mut looked = 0;
        let mut number = from;
        while self.rows.len() < ROWS_MAX && looked < LOOKS_MAX && number < table.end() {
            if let Some(entry) = table.get(number).filter(|e| e.is(flag::USED)) {
                self.rows.push(row(entry, now));
            }
            number += 1;
            looked += 1;
        }
        number
    }
}

impl FlowRow {
    /// It with its chain, and the zone that it began in, if that has a name.
    pub fn line(&self, plan: &Plan) -> String {
        let piece = plan.pieces.get(usize::from(self.piece));
        let chain = piece.map_or("", |p| p.chain.as_str());
        let zone = self.zone.or_else(|| Some(piece?.zone)).and_then(|zone| plan.zones.name(zone));
        match zone {
            Some(zone) => format!("{chain} {self}, zone {zone}"),
            None => format!("{chain} {self}"),
        }
    }
}

/// `tcp established lan-host:1000 -> wan-host:80`, without its chain.
impl fmt::Display for FlowRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            protocol::TCP => "tcp",
            protocol::UDP => "udp",
            protocol::ICMP => "icmp",
            protocol::ICMP6 => "icmp6",
            protocol::SCTP => "sctp",
            other => return write!(f, "protocol-{other} {} {}", self.state, Ends(self)),
        };
        write!(f, "{name} {} {}", self.state, Ends(self))
    }
}

struct Ends<'r>(&'r FlowRow);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(row) = self;
        let ([src, dst], [from, to]) = (row.ends, row.answers);
        write!(f, "{src} -> {dst}")?;
        if to != src {
            write!(f, " as {to}")?;
        }
        if from != dst {
            write!(f, " at {from}")?;
        }
        write!(f, ", idle {} s", row.idle)
    }
}

fn row<A: Address>(entry: &Entry<A>, now: Tick) -> FlowRow {
    let [first, answers] = entry.tuples;
    let state = match entry.protocol {
        protocol::TCP => entry.track.state().map_or("picked_up", |s| s.name()),
        _ if entry.is(flag::REPLIED) => "replied",
        _ => "unreplied",
    };
    FlowRow {
        protocol: entry.protocol,
        ends: ends(first),
        answers: ends(answers),
        vlan: entry.vlan,
        zone: Zone::of_place(entry.places[0]),
        piece: entry.piece,
        state,
        idle: Tick::seconds(now.since(Tick(entry.last_seen))),
    }
}

fn ends<A: Address>(tuple: Tuple<A>) -> [SocketAddr; 2] {
    let address = |a: A| match A::FAMILY {
        L3::Ipv4 => IpAddr::from(a.wide().v4()),
        _ => IpAddr::from(a.wide().v6()),
    };
    [
        SocketAddr::new(address(tuple.src), tuple.sport),
        SocketAddr::new(address(tuple.dst), tuple.dport),
    ]
}

/// Flows a page: some 10 us of a worker.
const ROWS_MAX: usize = 256;
/// Entries looked at for a page, of which most may be free.
const LOOKS_MAX: usize = 4096;
