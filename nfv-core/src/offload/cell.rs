//! A cell: packets of one family and transport by one range of each field. Regions are cut into cells, cells become
//! patterns, and what one cell has of another can be told and cut away.

use ipnet::IpNet;

use super::rule::{L4Item, Pattern, PortItem};
use crate::chain::value::{IpFamily, Prefix, Protocol};
use crate::dispatch::Region;

/// Packets of one family and transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub plane: Plane,
    pub vlan: Option<u16>,
    pub src: Option<Prefix>,
    pub dst: Option<Prefix>,
    pub sport: (u16, u16),
    pub dport: (u16, u16),
    /// Set, clear.
    pub flags: (u8, u8),
    pub icmp: Option<u8>,
}

/// A family and a transport. No packet is of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Plane {
    pub is_ipv6: bool,
    pub transport: Transport,
}

/// What patterns name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

/// How a cell stands to the part of a region that it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// They are the same.
    Exact,
    /// The cell may have packets that the region has not.
    Wider,
}

/// All planes.
pub(super) const PLANES: [Plane; 8] = {
    const fn plane(is_ipv6: bool, transport: Transport) -> Plane {
        Plane { is_ipv6, transport }
    }
    use Transport::{Icmp, Sctp, Tcp, Udp};
    [
        plane(false, Tcp),
        plane(false, Udp),
        plane(false, Sctp),
        plane(false, Icmp),
        plane(true, Tcp),
        plane(true, Udp),
        plane(true, Sctp),
        plane(true, Icmp),
    ]
};

impl Plane {
    /// In words, for people.
    pub(super) const fn words(self) -> &'static str {
        match (self.is_ipv6, self.transport) {
            (false, Transport::Tcp) => "IPv4 TCP",
            (false, Transport::Udp) => "IPv4 UDP",
            (false, Transport::Sctp) => "IPv4 SCTP",
            (false, Transport::Icmp) => "ICMP",
            (true, Transport::Tcp) => "IPv6 TCP",
            (true, Transport::Udp) => "IPv6 UDP",
            (true, Transport::Sctp) => "IPv6 SCTP",
            (true, Transport::Icmp) => "ICMPv6",
        }
    }

    fn protocol(self) -> Protocol {
        match self.transport {
            Transport::Tcp => Protocol::TCP,
            Transport::Udp => Protocol::UDP,
            Transport::Sctp => Protocol::SCTP,
            Transport::Icmp if self.is_ipv6 => Protocol::ICMP6,
            Transport::Icmp => Protocol::ICMP,
        }
    }
}

impl Cell {
    /// What a region has in a plane, if anything.
    pub(super) fn of(region: &Region, plane: Plane) -> Option<(Self, Fit)> {
        let family = if plane.is_ipv6 { IpFamily::V6 } else { IpFamily::V4 };
        if region.family.is_some_and(|f| f != family) {
            return None;
        }
        if region.protocol.is_some_and(|p| p != plane.protocol()) {
            return None;
        }
        let prefixes = [region.src, region.dst];
        if prefixes.iter().flatten().any(|p| p.family() != family) {
            return None;
        }
        let [src, dst] = prefixes.map(|p| p.filter(|p| p.net().prefix_len() > 0));
        let mut cell = Self {
            plane,
            vlan: region.vlan,
            src,
            dst,
            sport: region.sport,
            dport: region.dport,
            flags: region.flags,
            icmp: region.icmp,
        };
        let mut fit = Fit::Exact;
        if plane.transport != Transport::Tcp {
            // Other packets have no flag set.
            if region.flags.0 != 0 {
                return None;
            }
            cell.flags = (0, 0);
        }
        if plane.transport == Transport::Icmp {
            // What stands in the place of a query's ports is its identifier, which no pattern names.
            if (cell.sport, cell.dport) != (ANY, ANY) {
                (cell.sport, cell.dport, fit) = (ANY, ANY, Fit::Wider);
            }
        } else if cell.icmp.take().is_some() {
            fit = Fit::Wider;
        }
        Some((cell, fit))
    }

    /// Whether a packet may be in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let apart = |a: Option<Prefix>, b: Option<Prefix>| match (a, b) {
            (Some(a), Some(b)) => !a.net().contains(&b.net()) && !b.net().contains(&a.net()),
            _ => false,
        };
        let within = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
        self.plane == other.plane
            && within(self.dport, other.dport)
            && within(self.sport, other.sport)
            && !apart(self.src, other.src)
            && !apart(self.dst, other.dst)
            && !matches!((self.vlan, other.vlan), (Some(a), Some(b)) if a != b)
            && !matches!((self.icmp, other.icmp), (Some(a), Some(b)) if a != b)
            && (self.flags.0 | other.flags.0) & (self.flags.1 | other.flags.1) == 0
    }

    /// Whether all of another is in this, whatever their VLANs.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let around = |a: Option<Prefix>, b: Option<Prefix>| {
            a.is_none_or(|a| b.is_some_and(|b| a.net().contains(&b.net())))
        };
        let within = |a: (u16, u16), b: (u16, u16)| a.0 <= b.0 && b.1 <= a.1;
        self.plane == other.plane
            && within(self.sport, other.sport)
            && within(self.dport, other.dport)
            && around(self.src, other.src)
            && around(self.dst, other.dst)
            && self.icmp.is_none_or(|kind| other.icmp == Some(kind))
            && self.flags.0 & !other.flags.0 == 0
            && self.flags.1 & !other.flags.1 == 0
    }

    /// What is left of this without another that it meets, in pieces that are apart, or less than that: whatever their
    /// VLANs, and where only values that are not some value would be left, nothing.
    pub(super) fn without(&self, other: &Self) -> Vec<Self> {
        let mut pieces = Vec::new();
        // What is cut off is put aside, and the rest narrowed to the other, field by field.
        let mut rest = *self;
        for (first, last) in around(rest.sport, other.sport) {
            pieces.push(Self { sport: (first, last), ..rest });
        }
        rest.sport = common(rest.sport, other.sport);
        for (first, last) in around(rest.dport, other.dport) {
            pieces.push(Self { dport: (first, last), ..rest });
        }
        rest.dport = common(rest.dport, other.dport);
        for prefix in beside(rest.src, other.src, self.plane) {
            pieces.push(Self { src: Some(prefix), ..rest });
        }
        rest.src = narrower(rest.src, other.src);
        for prefix in beside(rest.dst, other.dst, self.plane) {
            pieces.push(Self { dst: Some(prefix), ..rest });
        }
        rest.dst = narrower(rest.dst, other.dst);
        for bit in (0..8).map(|at| 1u8 << at) {
            let (set, clear) = rest.flags;
            if (set | clear) & bit != 0 {
                continue;
            }
            if other.flags.0 & bit != 0 {
                pieces.push(Self { flags: (set, clear | bit), ..rest });
                rest.flags = (set | bit, clear);
            } else if other.flags.1 & bit != 0 {
                pieces.push(Self { flags: (set | bit, clear), ..rest });
                rest.flags = (set, clear | bit);
            }
        }
        pieces
    }

    /// The same without a condition, one more at each step: what may be said where a NIC does not take all of it.
    pub(super) fn coarser(&self) -> impl Iterator<Item = Self> {
        let flat = Self { flags: (0, 0), icmp: None, ..*self };
        let ports = Self { sport: ANY, dport: ANY, ..flat };
        [
            *self,
            flat,
            Self { sport: ANY, ..flat },
            Self { dport: ANY, ..flat },
            ports,
            Self { src: None, ..flat },
            Self { dst: None, ..flat },
            Self { src: None, ..ports },
            Self { dst: None, ..ports },
            Self { src: None, dst: None, ..ports },
        ]
        .into_iter()
    }

    /// Patterns that are this cell together: by ranges of ports, by their bits, or port by port. Each way is whole.
    pub(super) fn patterns(&self) -> Vec<Vec<Pattern>> {
        let mut ways: Vec<Vec<Pattern>> = Vec::new();
        for way in [Ports::Ranges, Ports::Masks, Ports::Values] {
            let (Some(sports), Some(dports)) = (way.of(self.sport), way.of(self.dport)) else {
                continue;
            };
            if sports.len() * dports.len() > PATTERNS_MAX {
                continue;
            }
            let pairs = sports.iter().flat_map(|s| dports.iter().map(move |d| (*s, *d)));
            let patterns: Vec<Pattern> = pairs.map(|(s, d)| self.pattern(s, d)).collect();
            if ways.last() != Some(&patterns) {
                ways.push(patterns);
            }
        }
        ways
    }

    fn pattern(&self, sport: PortItem, dport: PortItem) -> Pattern {
        let (set, clear) = self.flags;
        let l4 = match self.plane.transport {
            Transport::Tcp => L4Item::Tcp { sport, dport, flags: (set | clear, set) },
            Transport::Udp => L4Item::Udp { sport, dport },
            Transport::Sctp => L4Item::Sctp { sport, dport },
            Transport::Icmp => L4Item::Icmp { kind: self.icmp },
        };
        let (src, dst) = (self.src, self.dst);
        Pattern { vlan: self.vlan, is_ipv6: self.plane.is_ipv6, src, dst, l4 }
    }
}

/// How ports are said.
#[derive(Clone, Copy)]
enum Ports {
    Ranges,
    Masks,
    Values,
}

impl Ports {
    /// `None`: not in this way, or not in few words.
    fn of(self, range: (u16, u16)) -> Option<Vec<PortItem>> {
        let (first, last) = range;
        if range == ANY {
            return Some(vec![PortItem::Any]);
        }
        if first == last {
            return Some(vec![PortItem::Masked { value: first, mask: u16::MAX }]);
        }
        match self {
            Self::Ranges => Some(vec![PortItem::Range(first, last)]),
            Self::Masks => {
                let (mut at, mut items) = (u32::from(first), Vec::new());
                while at <= u32::from(last) {
                    let left = u32::from(last) - at + 1;
                    let bits = at.trailing_zeros().min(left.ilog2()).min(16);
                    let mask = (u32::from(u16::MAX) << bits) as u16;
                    items.push(PortItem::Masked { value: at as u16, mask });
                    at += 1 << bits;
                }
                Some(items)
            }
            Self::Values => {
                let value = |port| PortItem::Masked { value: port, mask: u16::MAX };
                (usize::from(last - first) < VALUES_MAX)
                    .then(|| (first..=last).map(value).collect())
            }
        }
    }
}

/// The ports of a range that are below and above another that it meets.
fn around(range: (u16, u16), other: (u16, u16)) -> impl Iterator<Item = (u16, u16)> {
    let below = (range.0 < other.0).then(|| (range.0, other.0 - 1));
    let above = (other.1 < range.1).then(|| (other.1 + 1, range.1));
    below.into_iter().chain(above)
}

fn common(a: (u16, u16), b: (u16, u16)) -> (u16, u16) {
    (a.0.max(b.0), a.1.min(b.1))
}

fn narrower(a: Option<Prefix>, b: Option<Prefix>) -> Option<Prefix> {
    let length = |prefix: Option<Prefix>| prefix.map_or(0, |p| p.net().prefix_len());
    if length(b) > length(a) { b } else { a }
}

/// The prefixes of one that are beside another within it.
fn beside(of: Option<Prefix>, other: Option<Prefix>, plane: Plane) -> Vec<Prefix> {
    let Some(other) = other else { return Vec::new() };
    let from = of.map_or(0, |p| p.net().prefix_len());
    let (bits, all) = match other.net() {
        IpNet::V4(net) => (u128::from(net.addr().to_bits()) << 96, 32),
        IpNet::V6(net) => (net.addr().to_bits(), 128),
    };
    debug_assert_eq!(all == 128, plane.is_ipv6, "cells of a plane are of its family");
    let flipped = |length: u8| {
        let turned = bits ^ (1 << (128 - u32::from(length)));
        let kept = turned & (u128::MAX << (128 - u32::from(length)));
        Prefix::of_bits(kept, length, plane.is_ipv6)
    };
    (from + 1..=other.net().prefix_len()).filter_map(flipped).collect()
}

const ANY: (u16, u16) = (0, u16::MAX);
/// Most patterns for a cell: what needs more is better left to software.
const PATTERNS_MAX: usize = 32;
const VALUES_MAX: usize = 16;
