//! Which rules a packet can match at all, by its protocol, its direction and its port.
//!
//! ```text
//!   TCP, UDP:  direction --> the server's port --> group        others:  direction --> protocol --> group
//!
//!   group:     patterns of packets, patterns of streams, and rules without a pattern, whose headers are looked at
//! ```
//!
//! The port is the destination's of packets to the server, and the source's of those from it. Ports between the same ranges of
//! all rules have the same rules, and so one group; of too many groups those of the fewest rules are put together, as a header is
//! looked at before bytes anyway.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::header::{Header, TCP, UDP};
use super::matcher::Compiler;
use super::patterns::{Gathered, Patterns};
use super::program::fast_pattern;
use crate::ids::rules::{Buffer, Direction, PacketTest, Ports, Rule, RuleKind, Side};

/// All groups, and which one a packet has.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Box<[Group]>,
    /// By side.
    tcp: [PortTable; 2],
    udp: [PortTable; 2],
    /// By side, then by protocol.
    others: [Box<[u16]>; 2],
}

/// Rules that packets of the same kind can match.
#[derive(Debug)]
pub(super) struct Group {
    /// Patterns of payloads.
    pub packet: Patterns,
    /// Patterns of streams; of others than TCP they are with those of payloads.
    pub stream: Patterns,
    /// By side: both those of streams and those of bodies, to look for all of them at once where a body lies in the stream as it
    /// is. `None`: there are none of one kind.
    with_bodies: [Option<Patterns>; 2],
    /// Rules without a pattern that is looked for in payloads.
    pub bare: Box<[u32]>,
    /// Those of `bare` that look at streams.
    pub bare_stream: Box<[u32]>,
    /// Whether rules of transactions look at the stream, too.
    pub transactions_look: bool,
}

impl Group {
    /// Whether somebody wants to see streams.
    pub fn wants_stream(&self) -> bool {
        !self.stream.is_empty() || !self.bare_stream.is_empty() || self.transactions_look
    }

    /// Patterns of streams and of bodies together.
    pub fn with_bodies(&self, side: Side) -> Option<&Patterns> {
        self.with_bodies.get(side.index())?.as_ref()
    }
}

/// By port: where a range begins, and its group.
#[derive(Debug, Default)]
struct PortTable(Box<[(u16, u16)]>);

impl PortTable {
    fn group(&self, port: u16) -> usize {
        let behind = self.0.partition_point(|(first, _)| *first <= port);
        let range = behind.checked_sub(1).and_then(|place| self.0.get(place));
        range.map_or(0, |(_, group)| usize::from(*group))
    }
}

impl Groups {
    /// The group of a packet. O(log n) of n ranges of ports.
    #[inline]
    pub fn of(&self, protocol: u8, side: Side, ports: [u16; 2]) -> Option<&Group> {
        self.place_of(protocol, side, ports).map(|(_, group)| group)
    }

    /// A group by its place.
    #[inline]
    pub fn get(&self, place: u16) -> Option<&Group> {
        self.groups.get(usize::from(place))
    }

    /// The group of a packet, with its place.
    #[inline]
    pub fn place_of(&self, protocol: u8, side: Side, ports: [u16; 2]) -> Option<(u16, &Group)> {
        let [sport, dport] = ports;
        let port = if side == Side::ToServer { dport } else { sport };
        let place = match protocol {
            TCP => table(&self.tcp, side).group(port),
            UDP => table(&self.udp, side).group(port),
            protocol => {
                let groups = self.others.get(side.index())?;
                usize::from(*groups.get(usize::from(protocol))?)
            }
        };
        Some((u16::try_from(place).ok()?, self.groups.get(place)?))
    }

    /// Groups rules. `headers` are the rules'.
    /// `bodies`: by side, the rules that are looked up by a pattern in a body as it is.
    pub fn compile(
        rules: &[Arc<Rule>],
        headers: &[Header],
        bodies: &[Gathered; 2],
        compiler: &mut Compiler,
    ) -> Self {
        let mut making = Making::default();
        let sides = [Side::ToServer, Side::ToClient];
        let tcp = sides.map(|side| making.ports(TCP, &members(rules, headers, TCP, side)));
        let udp = sides.map(|side| making.ports(UDP, &members(rules, headers, UDP, side)));
        let others = sides.map(|side| {
            let one = |protocol: u8| match protocol {
                TCP | UDP => 0,
                protocol => {
                    let all = members(rules, headers, protocol, side);
                    // What has no ports has none that a rule with ports wants.
                    let set = all.into_iter().filter(|m| m.ports.is_none()).map(|m| m.rule);
                    making.group(protocol, set.collect())
                }
            };
            (0..=u8::MAX).map(one).collect()
        });
        let sets = making.sets;
        let has = |table: &PortTable, place: usize| {
            table.0.iter().any(|(_, group)| usize::from(*group) == place)
        };
        let groups = sets.iter().enumerate().map(|(place, (stack, set))| {
            let [up, down] = tcp.each_ref().map(|table| has(table, place));
            let [to_server, to_client] = bodies;
            let bodies = [up.then_some(to_server), down.then_some(to_client)];
            compile_group(rules, *stack, set, bodies, compiler)
        });
        Self { groups: groups.collect(), tcp, udp, others }
    }
}

fn table(tables: &[PortTable; 2], side: Side) -> &PortTable {
    let [to_server, to_client] = tables;
    match side {
        Side::ToServer => to_server,
        Side::ToClient => to_client,
    }
}

/// Whether payloads of a group's packets are part of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stack {
    Streams,
    Datagrams,
}

/// A rule, and the server's ports that it is for; `None`: any.
struct Member {
    rule: u32,
    ports: Option<Vec<(u16, u16)>>,
}

/// The rules that packets of a protocol in a direction may match.
fn members(rules: &[Arc<Rule>], headers: &[Header], protocol: u8, side: Side) -> Vec<Member> {
    let mut members = Vec::new();
    for ((number, rule), header) in (0..).zip(rules).zip(headers) {
        let asks = |test: &PacketTest| match test {
            PacketTest::IpProtocol(compare) => compare.matches(&protocol),
            _ => true,
        };
        let is_of_side = rule.flow.side.is_none_or(|wanted| wanted == side);
        let is_one = is_of_packets(rule) && is_of_side && header.protocol().has(protocol);
        if !is_one || !rule.packet.iter().all(asks) {
            continue;
        }
        let [sport, dport] = header.ports();
        let (server, client) = match side {
            Side::ToServer => (dport, sport),
            Side::ToClient => (sport, dport),
        };
        let ranges = |ports: &Ports| ports.ranges().to_vec();
        let ports = match (header.direction(), server, client) {
            (Direction::OneWay, server, _) => server.map(ranges),
            (Direction::Either, Some(server), Some(client)) => {
                Some([ranges(server), ranges(client)].concat())
            }
            (Direction::Either, ..) => None,
        };
        members.push(Member { rule: number, ports });
    }
    members
}

/// Whether a rule is looked at for packets or streams.
fn is_of_packets(rule: &Rule) -> bool {
    match rule.kind {
        RuleKind::LikeIpOnly
        | RuleKind::Packet
        | RuleKind::PacketStream
        | RuleKind::Stream
        | RuleKind::App => true,
        // Of those, the ones whose pattern, or a part, is in the stream.
        RuleKind::Transaction => rule.inspects.iter().any(|i| i.buffer == Buffer::Payload),
        RuleKind::IpOnly | RuleKind::Protocol | RuleKind::Event => false,
    }
}

/// Sets of rules, each once.
#[derive(Default)]
struct Making {
    sets: Vec<(Stack, Vec<u32>)>,
    known: HashMap<(Stack, Vec<u32>), u16>,
}

impl Making {
    /// The number of a group.
    fn group(&mut self, protocol: u8, set: Vec<u32>) -> u16 {
        let stack = if protocol == TCP { Stack::Streams } else { Stack::Datagrams };
        let sets = &mut self.sets;
        *self.known.entry((stack, set)).or_insert_with_key(|(stack, set)| {
            sets.push((*stack, set.clone()));
            u16::try_from(sets.len() - 1).unwrap_or(0)
        })
    }

    /// The groups of a protocol's ports.
    fn ports(&mut self, protocol: u8, members: &[Member]) -> PortTable {
        let any: Vec<u32> = members.iter().filter(|m| m.ports.is_none()).map(|m| m.rule).collect();
        let mut ranges = ranges(members);
        put_together(&mut ranges);
        let group = |(port, special): (u16, Vec<u32>)| {
            let mut set = any.clone();
            set.extend(special);
            set.sort_unstable();
            (port, self.group(protocol, set))
        };
        PortTable(ranges.into_iter().map(group).collect())
    }
}

/// Where ranges of ports begin that have the same rules, and those of their rules that are not for any port.
fn ranges(members: &[Member]) -> Vec<(u16, Vec<u32>)> {
    let mut changes: BTreeMap<u16, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
    changes.entry(0).or_default();
    for member in members {
        for (first, last) in member.ports.as_deref().unwrap_or_default() {
            changes.entry(*first).or_default().0.push(member.rule);
            if let Some(behind) = last.checked_add(1) {
                changes.entry(behind).or_default().1.push(member.rule);
            }
        }
    }
    // The ranges of a rule may overlap: they are counted.
    let mut now: BTreeMap<u32, u32> = BTreeMap::new();
    let mut ranges = Vec::with_capacity(changes.len());
    for (port, (come, go)) in changes {
        for rule in come {
            *now.entry(rule).or_default() += 1;
        }
        for rule in go {
            if let Some(count) = now.get_mut(&rule) {
                *count -= 1;
                if *count == 0 {
                    now.remove(&rule);
                }
            }
        }
        ranges.push((port, now.keys().copied().collect()));
    }
    ranges
}

/// Leaves the sets with the most rules as they are, and makes one of all others, if they are too many.
fn put_together(ranges: &mut [(u16, Vec<u32>)]) {
    let mut sets: Vec<&Vec<u32>> = ranges.iter().map(|(_, set)| set).collect();
    sets.sort_unstable_by_key(|set| (Reverse(set.len()), *set));
    sets.dedup();
    // Ports that no rule names have a group of their own all the same: most packets are of those.
    let kept: Vec<Vec<u32>> = sets.iter().take(GROUPS_MAX - 2).map(|s| (*s).clone()).collect();
    let mut rest: Vec<u32> = sets.iter().skip(GROUPS_MAX - 2).copied().flatten().copied().collect();
    rest.sort_unstable();
    rest.dedup();
    for (_, set) in ranges {
        if !set.is_empty() && !kept.contains(set) {
            set.clone_from(&rest);
        }
    }
}

fn compile_group(
    rules: &[Arc<Rule>],
    stack: Stack,
    set: &[u32],
    bodies: [Option<&Gathered>; 2],
    compiler: &mut Compiler,
) -> Group {
    let (mut packet, mut stream) = (Gathered::default(), Gathered::default());
    let (mut bare, mut bare_stream) = (Vec::new(), Vec::new());
    let mut transactions_look = false;
    for number in set {
        let Some(rule) = rules.get(*number as usize) else { continue };
        let is_of_transactions = rule.kind == RuleKind::Transaction;
        transactions_look |= is_of_transactions;
        let fast = fast_pattern(rule).filter(|(inspect, _)| {
            rule.inspects
                .get(*inspect)
                .is_some_and(|i| i.buffer == Buffer::Payload && i.transforms.is_empty())
        });
        // What is in streams is in payloads of segments that are part of none, too.
        let in_stream = rule.scope.stream && stack == Stack::Streams;
        match fast {
            Some((_, pattern)) => {
                if rule.scope.packet || !in_stream {
                    packet.add(pattern.clone(), *number);
                }
                if in_stream {
                    stream.add(pattern, *number);
                }
            }
            None if is_of_transactions => {}
            None => {
                bare.push(*number);
                if in_stream {
                    bare_stream.push(*number);
                }
            }
        }
    }
    let with_bodies = bodies.map(|bodies| {
        let bodies = bodies.filter(|bodies| !bodies.is_empty() && !stream.is_empty())?;
        let mut both = stream.clone();
        both.add_all(bodies);
        Some(both.compile(compiler))
    });
    Group {
        with_bodies,
        packet: packet.compile(compiler),
        stream: stream.compile(compiler),
        bare: bare.into(),
        bare_stream: bare_stream.into(),
        transactions_look: transactions_look && stack == Stack::Streams,
    }
}

/// Most groups of the ports of a protocol in a direction. Each has patterns of its own, of a few hundred KB.
const GROUPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rule: u32, ports: &[(u16, u16)]) -> Member {
        Member { rule, ports: (!ports.is_empty()).then(|| ports.to_vec()) }
    }

    #[test]
    fn ports_between_the_same_ranges_have_the_same_rules() {
        let members = [
            member(1, &[]),
            member(2, &[(80, 80), (8080, 8090)]),
            member(3, &[(80, 90), (85, 65_535)]),
        ];
        let mut making = Making::default();
        let table = making.ports(TCP, &members);
        let rules = |port: u16| making.sets.get(table.group(port)).unwrap().1.clone();
        for (port, expected) in [
            (0, vec![1]),
            (79, vec![1]),
            (80, vec![1, 2, 3]),
            (81, vec![1, 3]),
            (91, vec![1, 3]),
            (8085, vec![1, 2, 3]),
            (65_535, vec![1, 3]),
        ] {
            assert_eq!(rules(port), expected, "{port}");
        }
        assert_eq!(making.sets.len(), 3);
    }

    #[test]
    fn too_many_groups_are_put_together_and_no_rule_is_lost() {
        let members: Vec<Member> =
            (0..100).map(|n| member(n, &[(1000 + 2 * n as u16, 1000 + 2 * n as u16)])).collect();
        let mut making = Making::default();
        let table = making.ports(TCP, &members);
        assert!(making.sets.len() <= GROUPS_MAX, "{}", making.sets.len());
        for n in 0..100_u32 {
            let group = table.group(1000 + 2 * n as u16);
            assert!(making.sets.get(group).unwrap().1.contains(&n));
        }
        assert!(making.sets.get(table.group(7)).unwrap().1.is_empty());
    }
}
