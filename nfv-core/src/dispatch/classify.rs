//! First match of a list of [`Match`]es, a burst at a time, at a cost that does not grow with the list.
//!
//! Used for the chains' `match` and for a firewall's rules. IP packets are looked up in one rte_acl trie a family;
//! others (ARP, LLDP) can only meet matches without IP conditions, of which the first is known by port and VLAN.

use ipnet::IpNet;

use crate::chain::matching::Match;
use crate::chain::value::{IpFamily, Prefix};
use crate::dpdk::{Acl, AclError, BURST_MAX, Edge, Key4, Key6, Rule};
use crate::nf::{Direction, Lookup, PortIndex, Surroundings};
use crate::packet::{Headers, L3, NO_VLAN, protocol};

/// The list cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// DPDK refused.
    #[error(transparent)]
    Acl(#[from] AclError),
    /// The lists of values of one match multiply to more rules than that.
    #[error("the lists of match {index} multiply to more than {EXPANSION_MAX} rules; split it")]
    TooWide {
        /// Its place in the list, from 0.
        index: usize,
    },
}

/// How addresses and ports are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As the packet has them.
    AsIs,
    /// As the chain's initiator has them: of an answer, source and destination change places.
    Oriented,
}

/// A compiled list.
#[derive(Debug)]
pub struct Classifier {
    v4: Option<Acl<Key4>>,
    v6: Option<Acl<Key6>>,
    /// Matches without IP conditions: their place, port and VLANs.
    plain: Vec<(u32, Option<PortIndex>, Vec<u16>)>,
}

impl Classifier {
    /// Compiles a list of which the first match wins.
    ///
    /// # Errors
    /// A match multiplies to too many rules, or there is no memory.
    pub fn build(list: &[Match], around: Surroundings<'_>) -> Result<Self, ClassifyError> {
        let (mut v4, mut v6, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for (index, one) in list.iter().enumerate() {
            let result = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let in_port = one.in_port.as_ref().and_then(|p| around.port(&p.value));
            if one.family != Some(IpFamily::V6) {
                expand(one, index, &mut v4, in_port, result, v4_net)?;
            }
            if one.family != Some(IpFamily::V4) {
                expand(one, index, &mut v6, in_port, result, v6_net)?;
            }
            if is_plain(one) {
                plain.push((result, in_port, one.vlan.iter().map(|v| v.id()).collect()));
            }
        }
        let v4 = if v4.is_empty() { None } else { Some(Acl::build::<4>(&v4)?) };
        let v6 = if v6.is_empty() { None } else { Some(Acl::build::<16>(&v6)?) };
        Ok(Self { v4, v6, plain })
    }

    /// Of rules that are compiled already, and are of IP packets.
    pub(super) fn of(v4: Option<Acl<Key4>>, v6: Option<Acl<Key6>>) -> Self {
        Self { v4, v6, plain: Vec::new() }
    }

    /// For each packet, 1 + the place of the first match, 0 without one.
    #[inline]
    pub fn look_up(&self, packets: Lookup<'_>, view: View, found: &mut [u32]) {
        let swap = view == View::Oriented && packets.direction == Direction::Reverse;
        self.look_up_headers(packets.headers, packets.in_port, swap, found);
    }

    /// As [`Classifier::look_up`], for headers that are not in a burst; `swap` exchanges source and destination.
    #[inline]
    pub fn look_up_headers(
        &self,
        all: &[Headers],
        in_port: PortIndex,
        swap: bool,
        found: &mut [u32],
    ) {
        let mut keys4 = [Key4::default(); BURST_MAX];
        let mut keys6 = [Key6::default(); BURST_MAX];
        let (mut at4, mut at6) = ([0u8; BURST_MAX], [0u8; BURST_MAX]);
        let (mut n4, mut n6) = (0, 0);
        for (i, h) in all.iter().enumerate().take(BURST_MAX) {
            match h.kind {
                L3::Ipv4 => {
                    if let (Some(key), Some(at)) = (keys4.get_mut(n4), at4.get_mut(n4)) {
                        let (src, dst) = ends(h.src.v4(), h.dst.v4(), swap);
                        *key = Key4 {
                            protocol: h.protocol,
                            pad: [0; 3],
                            src,
                            dst,
                            ports: ports(h, swap),
                            edge: edge(h, in_port),
                        };
                        *at = i as u8;
                        n4 += 1;
                    }
                }
                L3::Ipv6 => {
                    if let (Some(key), Some(at)) = (keys6.get_mut(n6), at6.get_mut(n6)) {
                        let (src, dst) = ends(h.src.v6(), h.dst.v6(), swap);
                        *key = Key6 {
                            protocol: h.protocol,
                            pad: [0; 3],
                            src,
                            dst,
                            ports: ports(h, swap),
                            edge: edge(h, in_port),
                        };
                        *at = i as u8;
                        n6 += 1;
                    }
                }
                L3::Arp | L3::Other => {
                    if let Some(result) = found.get_mut(i) {
                        *result = self.look_up_plain(h, in_port);
                    }
                }
            }
        }
        look_up_family(self.v4.as_ref(), &keys4, &at4, n4, found);
        look_up_family(self.v6.as_ref(), &keys6, &at6, n6, found);
    }

    fn look_up_plain(&self, h: &Headers, from: PortIndex) -> u32 {
        let meets = |(_, port, vlans): &&(u32, Option<PortIndex>, Vec<u16>)| {
            port.is_none_or(|p| p == from) && (vlans.is_empty() || vlans.contains(&h.vlan))
        };
        self.plain.iter().find(meets).map_or(0, |(result, ..)| *result)
    }
}

#[inline]
fn look_up_family<K: crate::dpdk::Key>(
    acl: Option<&Acl<K>>,
    keys: &[K],
    at: &[u8],
    n: usize,
    found: &mut [u32],
) {
    if n == 0 {
        return;
    }
    let mut results = [0; BURST_MAX];
    if let (Some(acl), Some(keys)) = (acl, keys.get(..n)) {
        acl.classify(keys, &mut results);
    }
    for (result, i) in results.iter().zip(at).take(n) {
        if let Some(slot) = found.get_mut(usize::from(*i)) {
            *slot = *result;
        }
    }
}

#[inline(always)]
fn ends<T>(src: T, dst: T, swap: bool) -> (T, T) {
    if swap { (dst, src) } else { (src, dst) }
}

#[inline(always)]
fn ports(h: &Headers, swap: bool) -> [[u8; 2]; 2] {
    if h.protocol == protocol::ICMP || h.protocol == protocol::ICMP6 {
        let kind = if swap { asked_by(h.protocol, h.icmp_type) } else { h.icmp_type };
        return [u16::from(kind).to_be_bytes(), [0, 0]];
    }
    let (sport, dport) = ends(h.sport, h.dport, swap);
    [sport.to_be_bytes(), dport.to_be_bytes()]
}

/// The type of message that an ICMP answer answers; others stay what they are.
pub(super) fn asked_by(protocol: u8, kind: u8) -> u8 {
    match (protocol, kind) {
        (protocol::ICMP, 0) => 8,
        (protocol::ICMP, 14) => 13,
        (protocol::ICMP6, 129) => 128,
        _ => kind,
    }
}

#[inline(always)]
fn edge(h: &Headers, in_port: PortIndex) -> Edge {
    Edge { flags: h.tcp_flags.0, in_port: in_port.0, vlan: h.vlan.to_be_bytes() }
}

/// An address and a prefix length.
pub(super) type Net<const BYTES: usize> = ([u8; BYTES], u8);

/// Protocol with its mask, source ports, destination ports.
type L4 = ((u8, u8), (u16, u16), (u16, u16));

fn is_plain(one: &Match) -> bool {
    one.family.is_none()
        && one.src.is_empty()
        && one.dst.is_empty()
        && one.protocols.is_empty()
        && one.sport.is_empty()
        && one.dport.is_empty()
        && one.flags.is_none()
        && one.icmp.is_empty()
}

pub(super) fn v4_net(prefix: &Prefix) -> Option<Net<4>> {
    match prefix.net() {
        IpNet::V4(net) => Some((net.addr().octets(), net.prefix_len())),
        IpNet::V6(_) => None,
    }
}

pub(super) fn v6_net(prefix: &Prefix) -> Option<Net<16>> {
    match prefix.net() {
        IpNet::V6(net) => Some((net.addr().octets(), net.prefix_len())),
        IpNet::V4(_) => None,
    }
}

/// The rules of one family that a match stands for: one for each combination of its lists' values.
fn expand<const BYTES: usize>(
    one: &Match,
    index: usize,
    rules: &mut Vec<Rule<BYTES>>,
    in_port: Option<PortIndex>,
    result: u32,
    net: fn(&Prefix) -> Option<Net<BYTES>>,
) -> Result<(), ClassifyError> {
    let any = ([0; BYTES], 0);
    let nets = |list: &[Prefix]| match list {
        [] => vec![any],
        list => list.iter().filter_map(net).collect(),
    };
    let ranges = |list: &[crate::chain::value::PortRange]| match list {
        [] => vec![ANY16],
        list => list.iter().map(|r| (r.first(), r.last())).collect(),
    };
    let vlans = match one.vlan.as_slice() {
        [] => vec![ANY16],
        list => list.iter().map(|v| (v.id(), v.id())).collect(),
    };
    // Protocol and what stands in the ports' place: an ICMP message's type goes where the source port is.
    let ports: Vec<L4> = if one.icmp.is_empty() {
        let protocols = match one.protocols.as_slice() {
            [] => vec![ANY8],
            list => list.iter().map(|p| (p.number(), u8::MAX)).collect(),
        };
        let dports = ranges(&one.dport);
        let pairs: Vec<_> = ranges(&one.sport)
            .into_iter()
            .flat_map(|s| dports.iter().map(move |d| (s, *d)))
            .collect();
        protocols.iter().flat_map(|p| pairs.iter().map(move |(s, d)| (*p, *s, *d))).collect()
    } else {
        one.icmp
            .iter()
            .map(|m| {
                let kind = u16::from(m.kind);
                ((m.protocol.number(), u8::MAX), (kind, kind), ANY16)
            })
            .collect()
    };
    let (srcs, dsts) = (nets(&one.src), nets(&one.dst));
    let count = [srcs.len(), dsts.len(), ports.len(), vlans.len()]
        .into_iter()
        .try_fold(1usize, usize::checked_mul);
    if count.is_none_or(|n| n > EXPANSION_MAX) {
        return Err(ClassifyError::TooWide { index });
    }
    let flags = one.flags.as_ref().map_or(ANY8, |f| (f.set(), f.set() | f.clear()));
    let in_port = in_port.map_or(ANY8, |p| (p.0, u8::MAX));
    for src in &srcs {
        for dst in &dsts {
            for (protocol, sport, dport) in &ports {
                for vlan in &vlans {
                    rules.push(Rule {
                        protocol: *protocol,
                        src: *src,
                        dst: *dst,
                        sport: *sport,
                        dport: *dport,
                        flags,
                        in_port,
                        vlan: *vlan,
                        result,
                    });
                }
            }
        }
    }
    Ok(())
}

const ANY8: (u8, u8) = (0, 0);
const ANY16: (u16, u16) = (0, u16::MAX);
const EXPANSION_MAX: usize = 65_536;

const _: () = assert!(NO_VLAN == u16::MAX, "no VLAN id is this");
