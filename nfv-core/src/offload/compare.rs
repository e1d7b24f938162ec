//! Whether a packet meets a rule's pattern.

use super::facts::WithoutVlan;
use super::rule::{L4Item, Pattern, PortItem};
use crate::chain::value::Prefix;
use crate::packet::{Headers, L3, NO_VLAN, protocol};

/// A pattern, made quick to compare with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    kind: L3,
    vlan: VlanTest,
    /// Bits and their mask; IPv4 in the first 32 bits.
    src: (u128, u128),
    dst: (u128, u128),
    protocol: u8,
    sport: PortTest,
    dport: PortTest,
    flags: (u8, u8),
    icmp: Option<u8>,
}

/// The outermost VLAN id, [`NO_VLAN`] without a tag.
#[derive(Clone, Copy, Debug)]
enum VlanTest {
    Any,
    Id(u16),
}

/// A masked value, and a range.
#[derive(Clone, Copy, Debug)]
struct PortTest {
    value: u16,
    mask: u16,
    range: (u16, u16),
}

impl Test {
    /// That of a pattern, on a NIC that takes such frames by a pattern without a VLAN.
    pub fn of(pattern: &Pattern, without_vlan: WithoutVlan) -> Self {
        let bits = |prefix: Option<Prefix>| {
            let (address, length) = match prefix.map(|p| p.net()) {
                None => return (0, 0),
                Some(ipnet::IpNet::V4(net)) => {
                    (u128::from(net.addr().to_bits()) << 96, net.prefix_len())
                }
                Some(ipnet::IpNet::V6(net)) => (net.addr().to_bits(), net.prefix_len()),
            };
            (address, u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or_default())
        };
        let any = PortTest::of(PortItem::Any);
        let (icmp, icmp6) = (protocol::ICMP, protocol::ICMP6);
        let (protocol, sport, dport, flags, icmp) = match pattern.l4 {
            L4Item::Tcp { sport, dport, flags } => {
                (protocol::TCP, PortTest::of(sport), PortTest::of(dport), flags, None)
            }
            L4Item::Udp { sport, dport } => {
                (protocol::UDP, PortTest::of(sport), PortTest::of(dport), (0, 0), None)
            }
            L4Item::Sctp { sport, dport } => {
                (protocol::SCTP, PortTest::of(sport), PortTest::of(dport), (0, 0), None)
            }
            L4Item::Icmp { kind } => {
                (if pattern.is_ipv6 { icmp6 } else { icmp }, any, any, (0, 0), kind)
            }
        };
        Self {
            kind: if pattern.is_ipv6 { L3::Ipv6 } else { L3::Ipv4 },
            vlan: match (pattern.vlan, without_vlan) {
                (Some(id), _) => VlanTest::Id(id),
                (None, WithoutVlan::Any) => VlanTest::Any,
                // Where it is not known it is one of both.
                (None, WithoutVlan::Untagged | WithoutVlan::Unknown) => VlanTest::Id(NO_VLAN),
            },
            src: bits(pattern.src),
            dst: bits(pattern.dst),
            protocol,
            sport,
            dport,
            flags,
            icmp,
        }
    }

    /// Whether a packet, which is no fragment, meets it.
    pub fn is_met_by(&self, h: &Headers) -> bool {
        let in_net = |(net, mask): (u128, u128), address: [u8; 16]| {
            u128::from_be_bytes(address) & mask == net & mask
        };
        let (mask, flags) = self.flags;
        self.protocol == h.protocol
            && self.kind == h.kind
            && in_net(self.dst, h.dst.0)
            && in_net(self.src, h.src.0)
            && self.dport.is_met_by(h.dport)
            && self.sport.is_met_by(h.sport)
            && h.tcp_flags.0 & mask == flags & mask
            && self.icmp.is_none_or(|kind| kind == h.icmp_type)
            && match self.vlan {
                VlanTest::Any => true,
                VlanTest::Id(id) => id == h.vlan,
            }
    }
}

impl PortTest {
    fn of(item: PortItem) -> Self {
        let any = Self { value: 0, mask: 0, range: (0, u16::MAX) };
        match item {
            PortItem::Any => any,
            PortItem::Masked { value, mask } => Self { value, mask, ..any },
            PortItem::Range(first, last) => Self { range: (first, last), ..any },
        }
    }

    fn is_met_by(self, port: u16) -> bool {
        let (first, last) = self.range;
        port & self.mask == self.value & self.mask && first <= port && port <= last
    }
}
