//! The regions that a match stands for, as packets are when they come in.

use super::region::Region;
use crate::chain::matching::Match;
use crate::chain::value::{IpFamily, PortRange, Prefix, Protocol};
use crate::nf::{PortIndex, Surroundings};
use crate::packet::{Fragment, Headers, L3, protocol};

/// How the packets that a match is compared with stand to those that come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// They are compared as they are.
    AsIs,
    /// With source and destination exchanged, and an ICMP answer as what it answers.
    Turned,
}

/// The IP packets that meet a match, which may be more than one value of each field. `None`: it multiplies to too many.
///
/// Only the port is left out: see [`is_at`].
pub(crate) fn regions_of(one: &Match, seen: Seen) -> Option<Vec<Region>> {
    let l4 = transports(one, seen)?;
    let icmp = |l: &L4| matches!(l.protocol, Some(Protocol::ICMP | Protocol::ICMP6));
    let (src, dst) = match seen {
        Seen::AsIs => (&one.src, &one.dst),
        Seen::Turned => (&one.dst, &one.src),
    };
    // What an address says, or ICMP, is of one family.
    let both = one.family.is_none() && src.is_empty() && dst.is_empty() && !l4.iter().any(icmp);
    let families = match one.family {
        None if both => vec![None],
        None => vec![Some(IpFamily::V4), Some(IpFamily::V6)],
        family => vec![family],
    };
    let mut all = Vec::new();
    for family in families {
        let nets = |list: &[Prefix]| match list {
            [] => vec![None],
            list => list.iter().filter(|p| Some(p.family()) == family).copied().map(Some).collect(),
        };
        let (srcs, dsts) = (nets(src), nets(dst));
        let vlans = match one.vlan.as_slice() {
            [] => vec![None],
            list => list.iter().map(|v| Some(v.id())).collect(),
        };
        let count = [srcs.len(), dsts.len(), l4.len(), vlans.len()];
        let count = count.into_iter().try_fold(1usize, usize::checked_mul)?;
        if count > EXPANSION_MAX {
            return None;
        }
        let flags = one.flags.as_ref().map_or((0, 0), |f| (f.set(), f.clear()));
        for (src, dst) in srcs.iter().flat_map(|s| dsts.iter().map(move |d| (*s, *d))) {
            for (l4, vlan) in l4.iter().flat_map(|l| vlans.iter().map(move |v| (*l, *v))) {
                let L4 { protocol, sport, dport, icmp } = l4;
                all.push(Region { family, src, dst, protocol, sport, dport, icmp, flags, vlan });
            }
        }
    }
    Some(all)
}

/// Whether packets that a port receives can meet a match, as far as that is the port's doing.
pub(crate) fn is_at(one: &Match, port: PortIndex, around: Surroundings<'_>) -> bool {
    one.in_port.as_ref().and_then(|name| around.port(&name.value)).is_none_or(|at| at == port)
}

impl Region {
    /// Whether a packet is in it; one that is not of IP is in none.
    pub fn has(&self, h: &Headers) -> bool {
        let family = match h.kind {
            L3::Ipv4 => IpFamily::V4,
            L3::Ipv6 => IpFamily::V6,
            L3::Arp | L3::Other => return false,
        };
        let inside = |net: Option<Prefix>, address: [u8; 16]| {
            net.is_none_or(|net| match net.net() {
                ipnet::IpNet::V4(net) => {
                    let [a, b, c, d, ..] = address;
                    family == IpFamily::V4 && net.contains(&std::net::Ipv4Addr::new(a, b, c, d))
                }
                ipnet::IpNet::V6(net) => {
                    family == IpFamily::V6 && net.contains(&std::net::Ipv6Addr::from(address))
                }
            })
        };
        let within = |range: (u16, u16), port: u16| range.0 <= port && port <= range.1;
        let flags = h.tcp_flags.0;
        self.family.is_none_or(|f| f == family)
            && inside(self.src, h.src.0)
            && inside(self.dst, h.dst.0)
            && self.protocol.is_none_or(|p| p.number() == h.protocol)
            && within(self.sport, h.sport)
            && within(self.dport, h.dport)
            && self.icmp.is_none_or(|kind| kind == h.icmp_type)
            && flags & self.flags.0 == self.flags.0
            && flags & self.flags.1 == 0
            && self.vlan.is_none_or(|vlan| vlan == h.vlan)
    }
}

/// Whether a NIC's rule may be about a packet: all of a datagram, of a transport that rules name.
#[inline(always)]
pub fn is_taggable(h: &Headers) -> bool {
    let named = match h.kind {
        L3::Ipv4 => h.protocol == protocol::ICMP,
        L3::Ipv6 => h.protocol == protocol::ICMP6,
        L3::Arp | L3::Other => return false,
    };
    let named = named || matches!(h.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    named && h.fragment == Fragment::Whole
}

/// What stands in the place of ports.
#[derive(Clone, Copy)]
struct L4 {
    protocol: Option<Protocol>,
    sport: (u16, u16),
    dport: (u16, u16),
    icmp: Option<u8>,
}

fn transports(one: &Match, seen: Seen) -> Option<Vec<L4>> {
    if !one.icmp.is_empty() {
        let kinds = |m: &crate::chain::matching::IcmpMatch| {
            let (protocol, kind) = (m.protocol, m.kind);
            let of = move |t: &u8| match seen {
                Seen::AsIs => *t == kind,
                Seen::Turned => super::classify::asked_by(protocol.number(), *t) == kind,
            };
            (0..=u8::MAX).filter(of).map(move |t| (protocol, t)).collect::<Vec<_>>()
        };
        let of = |(of, kind)| {
            let protocol = Some(of);
            L4 { protocol, sport: ANY, dport: ANY, icmp: Some(kind) }
        };
        return Some(one.icmp.iter().flat_map(kinds).map(of).collect());
    }
    let protocols = match one.protocols.as_slice() {
        [] => vec![None],
        list => list.iter().copied().map(Some).collect(),
    };
    let ranges = |list: &[PortRange]| match list {
        [] => vec![ANY],
        list => list.iter().map(|r| (r.first(), r.last())).collect(),
    };
    let (sports, dports) = match seen {
        Seen::AsIs => (ranges(&one.sport), ranges(&one.dport)),
        Seen::Turned => (ranges(&one.dport), ranges(&one.sport)),
    };
    let count = protocols.len().checked_mul(sports.len())?.checked_mul(dports.len())?;
    if count > EXPANSION_MAX {
        return None;
    }
    let mut all = Vec::with_capacity(count);
    for protocol in protocols {
        for (sport, dport) in sports.iter().flat_map(|s| dports.iter().map(move |d| (*s, *d))) {
            all.push(L4 { protocol, sport, dport, icmp: None });
        }
    }
    Some(all)
}

const ANY: (u16, u16) = (0, u16::MAX);
/// As many as a classifier takes of one match.
const EXPANSION_MAX: usize = 65_536;
