//! Whether a rule's header is a packet's: protocol, addresses, ports.

use std::net::IpAddr;
use std::sync::Arc;

use super::Packet;
use crate::ids::rules::{Addresses, App, Direction, Ports, Protocol, Rule};

/// A rule's header; what may be anything is left out.
#[derive(Debug)]
pub(super) struct Header {
    version: Version,
    protocol: Upper,
    src: Option<Arc<Addresses>>,
    dst: Option<Arc<Addresses>>,
    sport: Option<Arc<Ports>>,
    dport: Option<Arc<Ports>>,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Any,
    V4,
    V6,
}

/// Which protocols above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upper {
    /// Any.
    Any,
    /// This one.
    One(u8),
    /// One of two.
    Two(u8, u8),
}

impl Upper {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Ip | Protocol::Ipv4 | Protocol::Ipv6 => Self::Any,
            Protocol::Tcp | Protocol::TcpPacket | Protocol::TcpStream => Self::One(TCP),
            Protocol::Udp => Self::One(UDP),
            Protocol::Icmp => Self::Two(ICMP, ICMPV6),
            Protocol::Icmpv4 => Self::One(ICMP),
            Protocol::Icmpv6 => Self::One(ICMPV6),
            Protocol::App(App::Dns) => Self::Two(TCP, UDP),
            Protocol::App(_) => Self::One(TCP),
        }
    }

    /// Whether it has a protocol.
    #[inline]
    pub fn has(self, protocol: u8) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == protocol,
            Self::Two(one, other) => one == protocol || other == protocol,
        }
    }
}

impl Header {
    /// Of a rule.
    pub fn of(rule: &Rule) -> Self {
        let header = &rule.header;
        let addresses = |list: &Arc<Addresses>| (!list.is_any()).then(|| Arc::clone(list));
        let ports = |list: &Arc<Ports>| (!list.is_all()).then(|| Arc::clone(list));
        Self {
            version: match header.protocol {
                Protocol::Ipv4 | Protocol::Icmpv4 => Version::V4,
                Protocol::Ipv6 | Protocol::Icmpv6 => Version::V6,
                _ => Version::Any,
            },
            protocol: Upper::of(header.protocol),
            src: addresses(&header.src),
            dst: addresses(&header.dst),
            sport: ports(&header.sport),
            dport: ports(&header.dport),
            direction: header.direction,
        }
    }

    /// Its protocols.
    pub fn protocol(&self) -> Upper {
        self.protocol
    }

    /// Its ports, of the source and of the destination; `None`: any.
    pub fn ports(&self) -> [Option<&Ports>; 2] {
        [self.sport.as_deref(), self.dport.as_deref()]
    }

    /// Whether source and destination may be the other way round.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether it is this packet's.
    ///
    /// # Cost
    /// 1 ns where all is any; O(log n) of lists of n ranges.
    #[inline]
    pub fn matches(&self, packet: &Packet<'_>) -> bool {
        let version = match self.version {
            Version::Any => true,
            Version::V4 => packet.src.is_ipv4(),
            Version::V6 => packet.src.is_ipv6(),
        };
        if !version || !self.protocol.has(packet.protocol) {
            return false;
        }
        let Packet { src, dst, sport, dport, .. } = *packet;
        self.ends(packet, (src, sport), (dst, dport))
            || (self.direction == Direction::Either
                && self.ends(packet, (dst, dport), (src, sport)))
    }

    fn ends(&self, packet: &Packet<'_>, src: (IpAddr, u16), dst: (IpAddr, u16)) -> bool {
        if self.sport.is_some() || self.dport.is_some() {
            // A rule with ports is for packets that have some.
            if packet.is_fragment || !has_ports(packet.protocol) {
                return false;
            }
            let has = |list: &Option<Arc<Ports>>, port| {
                list.as_ref().is_none_or(|list| list.contains(port))
            };
            if !has(&self.dport, dst.1) || !has(&self.sport, src.1) {
                return false;
            }
        }
        let has = |list: &Option<Arc<Addresses>>, address| {
            list.as_ref().is_none_or(|list| list.contains(address))
        };
        has(&self.dst, dst.0) && has(&self.src, src.0)
    }
}

/// Whether a protocol has ports.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
