//! Whose the ports of a virtual address are from which backends open connections, and which of them are in use.
//!
//! Each backend has a range of ports of its own, in the file: so what comes to a port says by itself to which backend it
//! goes, on every worker and every box that has the file. The one rejected: ranges that are given when they are needed,
//! which boxes would have to tell each other.
//!
//! In mode `dnat` the box puts the port there, one a flow. Which are in use is a bit for each, of the whole virtual address
//! and not of ranges, so that ranges may be changed under flows that hold ports. Of the free ones that is taken with which
//! answers fall into the flow's shard, if there is one: the worker that receives them has their flow then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::chain::value::PortRange;
use nfv_core::flow::{SHARDS, shard_part};
use nfv_core::nf::Endpoint;
use nfv_core::packet::{AddressBytes, Headers, L3, protocol};

/// Ports of the virtual addresses that backends have for connections that they open.
#[derive(Debug)]
pub struct Snat {
    /// In order of their first ports, with the backends' indices.
    ranges: Box<[(PortRange, u16)]>,
    /// Where the box puts ports into packets; else backends do it themselves.
    source: Option<Source>,
}

/// What the sources of backends' flows become.
#[derive(Debug)]
pub struct Source {
    family: L3,
    address: AddressBytes,
    /// Backends by address, each with its index and range.
    backends: Box<[(AddressBytes, u16, Option<PortRange>)]>,
    /// All ports by the part that they have in the shard of a flow from the address; of one part in order.
    by_part: Box<[u16]>,
    held: Arc<Held>,
}

/// Ports that flows hold, by protocol. It outlives reloads.
#[derive(Debug)]
pub struct Held([Box<[AtomicU64]>; 3]);

/// A port, held by a flow; 0 as a number is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPort {
    space: usize,
    port: u16,
}

/// What a packet's source becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outward {
    /// It stays: no backend with a range sends it, or to another backend, or it has no ports.
    AsItIs,
    /// This, by which the flow holds a port.
    Becomes {
        /// The new source.
        end: Endpoint,
        /// What the flow keeps.
        held: HeldPort,
        /// The index of the backend.
        backend: u16,
    },
    /// All ports of the backend's range are in use.
    Exhausted,
}

impl Snat {
    /// Of ranges that do not overlap.
    pub fn new(ranges: impl IntoIterator<Item = (PortRange, u16)>, source: Option<Source>) -> Self {
        let mut ranges: Vec<(PortRange, u16)> = ranges.into_iter().collect();
        ranges.sort_unstable();
        Self { ranges: ranges.into(), source }
    }

    /// The backend that a port of a virtual address is of.
    pub fn owner(&self, h: &Headers) -> Option<u16> {
        if !matches!(h.protocol, protocol::TCP | protocol::UDP) {
            return None;
        }
        let after = self.ranges.partition_point(|(range, _)| range.first() <= h.dport);
        let (range, at) = self.ranges.get(after.checked_sub(1)?)?;
        (h.dport <= range.last()).then_some(*at)
    }

    /// The source of a flow's first packet, or of one that holds a port already. `hash`: where the look for a free one begins.
    ///
    /// Cost: of flows of others a search for their address; of backends' a bit for each 128 ports of the range, and when
    /// all those are in use a word for each 64.
    pub fn outward(&self, h: &Headers, held: Option<HeldPort>, hash: impl Fn() -> u32) -> Outward {
        let Some(source) = self.source.as_ref().filter(|s| s.family == h.kind) else {
            return Outward::AsItIs;
        };
        let Some((backend, Some(range))) = source.backend(h.src) else { return Outward::AsItIs };
        let Some(space) = space_of(h.protocol).filter(|_| source.backend(h.dst).is_none()) else {
            return Outward::AsItIs;
        };
        let held = held.filter(|held| held.space == space).or_else(|| {
            let port = source.take(space, range, shard_part(h.src, h.sport), hash())?;
            Some(HeldPort { space, port })
        });
        let Some(held) = held else { return Outward::Exhausted };
        let end = Endpoint { address: source.address, port: held.port };
        Outward::Becomes { end, held, backend }
    }

    /// Of each range the index of its backend, first and last port, and how many of its ports are in use, where that is
    /// known.
    pub fn in_use(&self) -> impl Iterator<Item = (u16, PortRange, Option<u32>)> + '_ {
        let count = |range| self.source.as_ref().map(|source| source.held.count(range));
        self.ranges.iter().map(move |(range, at)| (*at, *range, count(*range)))
    }
}

impl Source {
    /// The address that all sources become, of whatever ports `held` has free.
    pub fn new(
        (family, address): (L3, AddressBytes),
        backends: impl IntoIterator<Item = (AddressBytes, u16, Option<PortRange>)>,
        held: Arc<Held>,
    ) -> Self {
        let mut backends: Vec<_> = backends.into_iter().collect();
        // Of some at one address that with a range.
        backends.sort_unstable_by_key(|(address, at, range)| (address.0, range.is_none(), *at));
        backends.dedup_by_key(|(address, ..)| address.0);
        let mut by_part: Vec<u16> = (0..=u16::MAX).collect();
        by_part.sort_by_cached_key(|port| (shard_part(address, *port), *port));
        Self { family, address, backends: backends.into(), by_part: by_part.into(), held }
    }

    fn backend(&self, address: AddressBytes) -> Option<(u16, Option<PortRange>)> {
        let at = self.backends.binary_search_by_key(&address.0, |(a, ..)| a.0).ok()?;
        self.backends.get(at).map(|(_, at, range)| (*at, *range))
    }

    /// Takes a port of a range: with this part in the shard, else any.
    fn take(&self, space: usize, range: PortRange, part: u16, hash: u32) -> Option<u16> {
        let each = PORTS / usize::from(SHARDS);
        let all = self.by_part.get(usize::from(part) * each..)?.get(..each)?;
        let first = all.partition_point(|port| *port < range.first());
        let end = all.partition_point(|port| *port <= range.last());
        let (before, behind) = {
            let own = all.get(first..end)?;
            own.split_at(place(hash, own.len()))
        };
        let mut fitting = behind.iter().chain(before).copied();
        fitting
            .find(|port| self.held.take(space, *port))
            .or_else(|| self.held.take_any(space, range, hash))
    }
}

impl Held {
    /// None.
    pub fn new() -> Self {
        Self([(); 3].map(|()| (0..PORTS / 64).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Takes a port. False: it is in use.
    fn take(&self, space: usize, port: u16) -> bool {
        let bit = 1 << (port % 64);
        self.word(space, port).is_some_and(|word| {
            // Most often it is free; what is not is not written.
            word.load(Ordering::Relaxed) & bit == 0
                && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        })
    }

    /// Takes any port of a range.
    fn take_any(&self, space: usize, range: PortRange, hash: u32) -> Option<u16> {
        let (first, last) = (range.first() / 64, range.last() / 64);
        let count = last - first + 1;
        let start = place(hash, usize::from(count)) as u16;
        (0..count).map(|i| first + (start + i) % count).find_map(|at| {
            let mut free = !self.word(space, at * 64)?.load(Ordering::Relaxed);
            while free != 0 {
                let port = at * 64 + free.trailing_zeros() as u16;
                let is_own = (range.first()..=range.last()).contains(&port);
                if is_own && self.take(space, port) {
                    return Some(port);
                }
                free &= free - 1;
            }
            None
        })
    }

    /// A flow that held a port has ended.
    pub fn give_back(&self, HeldPort { space, port }: HeldPort) {
        if let Some(word) = self.word(space, port) {
            word.fetch_and(!(1 << (port % 64)), Ordering::Relaxed);
        }
    }

    fn word(&self, space: usize, port: u16) -> Option<&AtomicU64> {
        self.0.get(space)?.get(usize::from(port) / 64)
    }

    fn count(&self, range: PortRange) -> u32 {
        let is_held = |space: usize, port: u16| {
            let word = self.word(space, port).map_or(0, |word| word.load(Ordering::Relaxed));
            (word >> (port % 64) & 1) as u32
        };
        let ports = range.first()..=range.last();
        ports.map(|port| (0..self.0.len()).map(|space| is_held(space, port)).sum::<u32>()).sum()
    }
}

impl HeldPort {
    /// As a flow keeps it.
    pub fn number(self) -> u32 {
        (self.space as u32 + 1) << 16 | u32::from(self.port)
    }

    /// As it was kept; `None` for 0.
    pub fn of(number: u32) -> Option<Self> {
        let space = (number >> 16).checked_sub(1)?;
        Some(Self { space: space as usize, port: number as u16 })
    }
}

fn space_of(proto: u8) -> Option<usize> {
    match proto {
        protocol::TCP => Some(0),
        protocol::UDP => Some(1),
        protocol::ICMP | protocol::ICMP6 => Some(2),
        _ => None,
    }
}

/// A place below `count`, 0 if there is none.
fn place(hash: u32, count: usize) -> usize {
    ((u64::from(hash) * count as u64) >> 32) as usize
}

/// The ports of a range begin and end where this many do: as Ananta gives them, so that a table of ranges stays short.
pub const RANGE_STEP: u16 = 8;

const PORTS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const VIP: [u8; 4] = [192, 0, 2, 80];

    fn v4([a, b, c, d]: [u8; 4]) -> AddressBytes {
        AddressBytes::of_v4([a, b, c, d])
    }

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).unwrap()
    }

    /// The first backend has 40000-40511, the second 40512-40519, the third none.
    fn snat(held: &Arc<Held>) -> Snat {
        let (a, b) = (range(40_000, 40_511), range(40_512, 40_519));
        let backends = [(1, Some(a)), (2, Some(b)), (3, None)]
            .map(|(i, range)| (v4([10, 2, 0, i as u8]), i - 1, range));
        let source = Source::new((L3::Ipv4, v4(VIP)), backends, held.clone());
        Snat::new([(b, 1), (a, 0)], Some(source))
    }

    fn packet(from: u8, proto: u8, sport: u16) -> Headers {
        Headers {
            kind: L3::Ipv4,
            protocol: proto,
            src: v4([10, 2, 0, from]),
            dst: v4([198, 51, 100, 1]),
            sport,
            dport: 443,
            ..Headers::default()
        }
    }

    /// The port that a new flow gets.
    fn port(snat: &Snat, h: &Headers) -> Option<u16> {
        match snat.outward(h, None, || u32::from(h.sport).wrapping_mul(0x9e37_79b9)) {
            Outward::Becomes { end, held, .. } => {
                assert_eq!((end.address, end.port), (v4(VIP), held.port));
                Some(end.port)
            }
            Outward::Exhausted => None,
            Outward::AsItIs => panic!("{h:?} passes as it is"),
        }
    }

    #[test]
    fn each_flow_has_a_port_of_its_backends_range_until_that_is_used_up() {
        let held = Arc::new(Held::new());
        let snat = snat(&held);
        for (from, ports) in [(1, 40_000..=40_511), (2, 40_512..=40_519)] {
            let count = ports.len();
            let taken: HashSet<u16> = (0..count as u16)
                .map(|i| port(&snat, &packet(from, protocol::TCP, 1000 + i)).unwrap())
                .collect();
            assert_eq!(taken.len(), count, "no two flows have one port");
            assert!(taken.iter().all(|port| ports.contains(port)));
            assert_eq!(port(&snat, &packet(from, protocol::TCP, 9)), None);
        }
        assert!(port(&snat, &packet(2, protocol::UDP, 9)).is_some(), "of each protocol");
        assert!(port(&snat, &packet(2, protocol::ICMP, 9)).is_some());
        held.give_back(HeldPort { space: 0, port: 40_513 });
        assert_eq!(port(&snat, &packet(2, protocol::TCP, 9)), Some(40_513), "what comes back");
        let in_use: Vec<_> = snat.in_use().map(|(at, _, count)| (at, count.unwrap())).collect();
        assert_eq!(in_use, [(0, 512), (1, 10)]);
    }

    #[test]
    fn answers_fall_into_the_flows_shard_while_there_are_such_ports() {
        let held = Arc::new(Held::new());
        let snat = snat(&held);
        let shard = |address, port| shard_part(address, port);
        for sport in 0..256 {
            let h = packet(1, protocol::TCP, sport);
            let port = port(&snat, &h).unwrap();
            assert_eq!(shard(v4(VIP), port), shard(h.src, h.sport), "{sport}: one in 128 fits");
        }
        let h = packet(1, protocol::TCP, 5);
        let others = (0..256).filter_map(|_| port(&snat, &h));
        let fits = others.filter(|port| shard(v4(VIP), *port) == shard(h.src, h.sport)).count();
        assert_eq!(fits, 2, "of 512 ports four fit, and two were in use");
    }

    #[test]
    fn a_flow_keeps_the_port_that_it_holds() {
        let held = Arc::new(Held::new());
        let snat = snat(&held);
        let h = packet(2, protocol::TCP, 7);
        let kept = HeldPort { space: 0, port: 1234 };
        let outward = snat.outward(&h, HeldPort::of(kept.number()), || 0);
        assert!(matches!(outward, Outward::Becomes { held, .. } if held == kept), "{outward:?}");
        assert_eq!(HeldPort::of(0), None);
    }

    #[test]
    fn what_is_not_a_backends_way_out_stays_as_it_is() {
        let snat = snat(&Arc::new(Held::new()));
        let one = packet(1, protocol::TCP, 1);
        for (what, h) in [
            ("of a backend without a range", packet(3, protocol::TCP, 1)),
            ("of nobody", packet(9, protocol::TCP, 1)),
            ("to another backend", Headers { dst: v4([10, 2, 0, 3]), ..one }),
            ("of another family", Headers { kind: L3::Ipv6, ..one }),
            ("without ports", Headers { protocol: 47, ..one }),
        ] {
            assert_eq!(snat.outward(&h, None, || 0), Outward::AsItIs, "{what}");
        }
    }

    #[test]
    fn a_port_says_whose_it_is() {
        let snat = snat(&Arc::new(Held::new()));
        let owner = |dport| snat.owner(&Headers { dport, ..packet(9, protocol::UDP, 53) });
        for (port, expected) in [
            (39_999, None),
            (40_000, Some(0)),
            (40_511, Some(0)),
            (40_512, Some(1)),
            (40_519, Some(1)),
            (40_520, None),
        ] {
            assert_eq!(owner(port), expected, "{port}");
        }
        assert_eq!(snat.owner(&packet(9, protocol::ICMP, 1)), None);
    }
}
