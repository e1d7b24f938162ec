//! Whether a region lies in one that came before it, found by what is exact in them.
//!
//! ```text
//!   shape    which fields say something, and how long the prefixes are: some tens in a list of 100,000 rules
//!   key      what they say, of a region or of one around it: its prefixes cut to the shape's
//! ```
//!
//! A look goes once to each shape that may have one around it (tuple space search), and compares only ranges of ports one
//! by one. Chosen over comparing each with each, which takes minutes for 100,000 rules.

use std::collections::HashMap;

use ipnet::IpNet;

use super::region::Region;
use crate::chain::value::{IpFamily, Prefix};
use crate::nf::PortIndex;

/// Regions, each with the port that its packets come in by (`None`: any) and a number.
#[derive(Debug)]
pub(crate) struct Cover {
    shapes: Vec<(Shape, HashMap<Key, Vec<Ranges>>)>,
    places: HashMap<Shape, usize>,
    /// Looks and compares that it still does: beyond, nothing is found any more.
    left: u64,
}

/// Which fields say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    family: Option<IpFamily>,
    src: Option<u8>,
    dst: Option<u8>,
    protocol: Says,
    icmp: Says,
    vlan: Says,
    in_port: Says,
    sport: Width,
    dport: Width,
    flags: (u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Says {
    Nothing,
    Something,
}

impl Says {
    fn of<T>(field: Option<T>) -> Self {
        if field.is_some() { Self::Something } else { Self::Nothing }
    }

    /// Whether what says this may be around what says `inner`.
    fn around(self, inner: Self) -> bool {
        self == Self::Nothing || inner == Self::Something
    }

    fn keep<T>(self, field: Option<T>) -> Option<T> {
        field.filter(|_| self == Self::Something)
    }
}

/// How many ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Width {
    All,
    Range,
    One,
}

impl Width {
    fn of((first, last): (u16, u16)) -> Self {
        match (first, last) {
            (0, u16::MAX) => Self::All,
            _ if first == last => Self::One,
            _ => Self::Range,
        }
    }

    fn around(self, inner: Self) -> bool {
        match self {
            Self::All => true,
            Self::Range => inner != Self::All,
            Self::One => inner == Self::One,
        }
    }

    fn keep(self, (first, _): (u16, u16)) -> u16 {
        if self == Self::One { first } else { 0 }
    }
}

/// What the fields of a shape say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: u128,
    dst: u128,
    protocol: Option<u8>,
    icmp: Option<u8>,
    vlan: Option<u16>,
    in_port: Option<PortIndex>,
    sport: u16,
    dport: u16,
}

#[derive(Clone, Copy, Debug)]
struct Ranges {
    sport: (u16, u16),
    dport: (u16, u16),
    number: usize,
}

impl Cover {
    /// Of no region. `work`: the looks and compares that may be taken, each some tens of nanoseconds.
    pub fn with_work(work: u64) -> Self {
        Self { shapes: Vec::new(), places: HashMap::new(), left: work }
    }

    /// Whether it gave up.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The number of one that has all of a region; of several in one shape the one that was added first.
    pub fn around(&mut self, at: Option<PortIndex>, region: &Region) -> Option<usize> {
        let inner = Shape::of(at, region);
        let mut found = None::<usize>;
        for (shape, known) in &self.shapes {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return None;
            }
            if !shape.around(&inner) {
                continue;
            }
            let Some(all) = known.get(&shape.key(at, region)) else { continue };
            let within = |a: (u16, u16), b: (u16, u16)| a.0 <= b.0 && b.1 <= a.1;
            for one in all {
                self.left = self.left.saturating_sub(1);
                if within(one.sport, region.sport) && within(one.dport, region.dport) {
                    found = Some(found.map_or(one.number, |n| n.min(one.number)));
                    break;
                }
            }
        }
        found
    }

    /// Adds a region.
    pub fn add(&mut self, at: Option<PortIndex>, region: &Region, number: usize) {
        let shape = Shape::of(at, region);
        let place = *self.places.entry(shape).or_insert_with(|| {
            self.shapes.push((shape, HashMap::new()));
            self.shapes.len() - 1
        });
        if let Some((_, known)) = self.shapes.get_mut(place) {
            let ranges = Ranges { sport: region.sport, dport: region.dport, number };
            known.entry(shape.key(at, region)).or_default().push(ranges);
        }
    }
}

impl Shape {
    fn of(at: Option<PortIndex>, region: &Region) -> Self {
        let length = |net: Option<Prefix>| net.map(|net| net.net().prefix_len());
        Self {
            family: region.family,
            src: length(region.src),
            dst: length(region.dst),
            protocol: Says::of(region.protocol),
            icmp: Says::of(region.icmp),
            vlan: Says::of(region.vlan),
            in_port: Says::of(at),
            sport: Width::of(region.sport),
            dport: Width::of(region.dport),
            flags: region.flags,
        }
    }

    /// Whether a region of this shape may be around one of `inner`.
    fn around(&self, inner: &Self) -> bool {
        let shorter = |a: Option<u8>, b: Option<u8>| match (a, b) {
            (None, _) => true,
            (Some(a), Some(b)) => a <= b,
            (Some(_), None) => false,
        };
        (self.family.is_none() || self.family == inner.family)
            && shorter(self.src, inner.src)
            && shorter(self.dst, inner.dst)
            && self.protocol.around(inner.protocol)
            && self.icmp.around(inner.icmp)
            && self.vlan.around(inner.vlan)
            && self.in_port.around(inner.in_port)
            && self.sport.around(inner.sport)
            && self.dport.around(inner.dport)
            && self.flags.0 & !inner.flags.0 == 0
            && self.flags.1 & !inner.flags.1 == 0
    }

    /// What a region of this shape around another would say.
    fn key(&self, at: Option<PortIndex>, region: &Region) -> Key {
        Key {
            src: bits(region.src, self.src),
            dst: bits(region.dst, self.dst),
            protocol: self.protocol.keep(region.protocol.map(|p| p.number())),
            icmp: self.icmp.keep(region.icmp),
            vlan: self.vlan.keep(region.vlan),
            in_port: self.in_port.keep(at),
            sport: self.sport.keep(region.sport),
            dport: self.dport.keep(region.dport),
        }
    }
}

/// The first `length` bits of a prefix.
fn bits(net: Option<Prefix>, length: Option<u8>) -> u128 {
    let (Some(net), Some(length)) = (net, length) else { return 0 };
    let (all, size) = match net.net() {
        IpNet::V4(net) => (u128::from(net.addr().to_bits()), 32),
        IpNet::V6(net) => (net.addr().to_bits(), 128),
    };
    let behind = u32::saturating_sub(size, u32::from(length));
    all.checked_shr(behind).unwrap_or(0)
}

/// The regions among `earlier` that together have all of a region; `None` when they do not, or it is not seen.
///
/// Cost: that of comparing with each of them, and of at most [`PIECES_MAX`] pieces.
pub(crate) fn together<'r>(
    region: &Region,
    earlier: impl Iterator<Item = (usize, &'r Region)>,
) -> Option<Vec<usize>> {
    let mut pieces = vec![region.clone()];
    let mut used = Vec::new();
    for (number, one) in earlier.filter(|(_, one)| one.meet(region).is_some()) {
        let before = pieces.len();
        let mut left = Vec::new();
        let mut took = false;
        for piece in pieces {
            match piece.without(one) {
                Some(parts) => {
                    took = true;
                    left.extend(parts);
                }
                None => left.push(piece),
            }
        }
        if took {
            used.push(number);
        }
        if left.is_empty() {
            return Some(used);
        }
        if left.len() > PIECES_MAX.max(before) {
            return None;
        }
        pieces = left;
    }
    None
}

impl Region {
    /// What is left without another, in pieces that do not overlap; `None`: they do not meet, or what is left is no region.
    fn without(&self, other: &Self) -> Option<Vec<Self>> {
        let meet = self.meet(other)?;
        // Values without an order leave what no region can say, unless there is nothing to leave.
        let same = (&self.protocol, self.icmp, self.vlan);
        if same != (&meet.protocol, meet.icmp, meet.vlan) {
            return None;
        }
        let (mut rest, mut left) = (self.clone(), Vec::new());
        if rest.family != meet.family {
            let family = match meet.family? {
                IpFamily::V4 => IpFamily::V6,
                IpFamily::V6 => IpFamily::V4,
            };
            left.push(Self { family: Some(family), ..rest.clone() });
            rest.family = meet.family;
        }
        for of in [Self::src_of, Self::dst_of] {
            let (from, to) = (*of(&mut rest), *of(&mut meet.clone()));
            for half in halves(from, to, rest.family)? {
                let mut piece = rest.clone();
                *of(&mut piece) = Some(half);
                left.push(piece);
            }
            *of(&mut rest) = to;
        }
        for of in [Self::sport_of, Self::dport_of] {
            let (from, to) = (*of(&mut rest), *of(&mut meet.clone()));
            let below = to.0.checked_sub(1).map(|last| (from.0, last)).filter(|r| r.0 <= r.1);
            let above = to.1.checked_add(1).map(|first| (first, from.1)).filter(|r| r.0 <= r.1);
            for ports in below.into_iter().chain(above) {
                let mut piece = rest.clone();
                *of(&mut piece) = ports;
                left.push(piece);
            }
            *of(&mut rest) = to;
        }
        for bit in (0..8).map(|b| 1u8 << b) {
            if meet.flags.0 & !rest.flags.0 & bit != 0 {
                left.push(Self { flags: (rest.flags.0, rest.flags.1 | bit), ..rest.clone() });
                rest.flags.0 |= bit;
            }
            if meet.flags.1 & !rest.flags.1 & bit != 0 {
                left.push(Self { flags: (rest.flags.0 | bit, rest.flags.1), ..rest.clone() });
                rest.flags.1 |= bit;
            }
        }
        Some(left)
    }

    fn src_of(&mut self) -> &mut Option<Prefix> {
        &mut self.src
    }

    fn dst_of(&mut self) -> &mut Option<Prefix> {
        &mut self.dst
    }

    fn sport_of(&mut self) -> &mut (u16, u16) {
        &mut self.sport
    }

    fn dport_of(&mut self) -> &mut (u16, u16) {
        &mut self.dport
    }
}

/// The prefixes that are beside `to` on the way down to it from `from`.
fn halves(
    from: Option<Prefix>,
    to: Option<Prefix>,
    family: Option<IpFamily>,
) -> Option<Vec<Prefix>> {
    let Some(to) = to.filter(|_| from != to) else { return Some(Vec::new()) };
    let first = from.map_or(0, |net| net.net().prefix_len());
    family?;
    let beside = |length: u8| match to.net() {
        IpNet::V4(net) => {
            let bit = 1u32.checked_shl(32 - u32::from(length))?;
            let other = std::net::Ipv4Addr::from_bits(net.addr().to_bits() ^ bit);
            Some(IpNet::V4(ipnet::Ipv4Net::new(other, length).ok()?.trunc()))
        }
        IpNet::V6(net) => {
            let bit = 1u128.checked_shl(128 - u32::from(length))?;
            let other = std::net::Ipv6Addr::from_bits(net.addr().to_bits() ^ bit);
            Some(IpNet::V6(ipnet::Ipv6Net::new(other, length).ok()?.trunc()))
        }
    };
    (first + 1..=to.net().prefix_len()).map(|length| Some(Prefix::of(beside(length)?))).collect()
}

/// Pieces that a region may fall into while others are taken out of it.
const PIECES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::value::{Protocol, Scalar};

    fn net(text: &str) -> Region {
        let prefix = Prefix::parse(text).unwrap();
        Region { family: Some(prefix.family()), src: Some(prefix), ..Region::ALL }
    }

    fn to(text: &str, first: u16, last: u16) -> Region {
        Region { protocol: Some(Protocol::TCP), dport: (first, last), ..net(text) }
    }

    #[test]
    fn a_region_is_found_in_one_around_it_and_in_no_other() {
        let mut cover = Cover::with_work(1_000_000);
        let all = [
            to("10.0.0.0/8", 80, 80),
            net("192.168.0.0/16"),
            to("2001:db8::/32", 1000, 2000),
            to("0.0.0.0/0", 5, 6),
        ];
        for (i, region) in all.iter().enumerate() {
            cover.add(None, region, i);
        }
        for (inner, outer) in [
            (to("10.1.0.0/16", 80, 80), Some(0)),
            (to("10.1.0.0/16", 80, 81), None),
            (net("10.1.0.0/16"), None),
            (to("192.168.9.1/32", 1, 7), Some(1)),
            (to("2001:db8::1/128", 1500, 1500), Some(2)),
            (to("2001:db9::1/128", 1500, 1500), None),
            (to("8.8.8.8", 5, 5), Some(3)),
            (to("8.8.8.8", 5, 7), None),
        ] {
            assert_eq!(cover.around(None, &inner), outer, "{inner:?}");
        }
        let here = Some(PortIndex(3));
        cover.add(here, &net("172.16.0.0/12"), 9);
        assert_eq!(cover.around(here, &net("172.16.1.0/24")), Some(9));
        assert_eq!(cover.around(None, &net("172.16.1.0/24")), None, "of one port only");
        assert_eq!(cover.around(here, &to("10.1.0.0/16", 80, 80)), Some(0));
    }

    #[test]
    fn several_regions_have_one_together_only_when_nothing_is_left() {
        let together =
            |region: &Region, all: &[Region]| super::together(region, all.iter().enumerate());
        let halves = [net("10.0.0.0/9"), net("192.0.2.0/24"), net("10.128.0.0/9")];
        assert_eq!(together(&net("10.0.0.0/8"), &halves), Some(vec![0, 2]));
        assert_eq!(together(&net("10.0.0.0/7"), &halves), None);
        let ports = [to("10.0.0.0/8", 0, 99), to("10.0.0.0/8", 100, u16::MAX)];
        assert_eq!(together(&to("10.0.0.0/8", 90, 110), &ports), Some(vec![0, 1]));
        assert_eq!(together(&net("10.0.0.0/8"), &ports), None, "and other protocols");
        let families = [
            Region { family: Some(IpFamily::V4), ..Region::ALL },
            Region { family: Some(IpFamily::V6), ..Region::ALL },
        ];
        assert_eq!(together(&Region::ALL, &families), Some(vec![0, 1]));
        let flags = |set, clear| Region {
            protocol: Some(Protocol::TCP),
            flags: (set, clear),
            ..Region::ALL
        };
        let all = [flags(2, 0), flags(0, 18), flags(16, 2)];
        assert_eq!(together(&flags(0, 0), &all), Some(vec![0, 1, 2]));
        assert_eq!(together(&flags(0, 0), &all[..2]), None);
    }
}
