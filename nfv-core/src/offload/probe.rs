//! A frame that meets a rule, to be shown to a NIC.

use ipnet::IpNet;

use super::rule::{L4Item, Pattern, PortItem};
use crate::chain::value::Prefix;
use crate::packet::checksum::Sum;
use crate::packet::protocol;

/// Frames that meet a pattern, of different ports as far as it has some. Where it has no condition there is a value that
/// documentation uses.
pub(super) fn frames(pattern: &Pattern) -> impl Iterator<Item = Vec<u8>> {
    let (sport, dport) = pattern.l4.ports();
    let both = ports(dport).flat_map(move |d| ports(sport).take(4).map(move |s| (s, d)));
    both.map(|ports| frame(pattern, ports))
}

/// The shortest frame of these ports that meets a pattern.
fn frame(pattern: &Pattern, ports: (u16, u16)) -> Vec<u8> {
    let (protocol, l4) = transport(pattern, ports);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let Some(vlan) = pattern.vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    let length = u16::try_from(l4.len()).unwrap_or(u16::MAX);
    if pattern.is_ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend(v6(pattern.src, 1));
        frame.extend(v6(pattern.dst, 2));
    } else {
        frame.extend([8, 0]);
        let mut header = vec![0x45, 0];
        header.extend((length + 20).to_be_bytes());
        header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        header.extend(v4(pattern.src, 1));
        header.extend(v4(pattern.dst, 2));
        let checksum = Sum::of(&header).checksum().to_be_bytes();
        header.splice(10..12, checksum);
        frame.extend(header);
    }
    frame.extend(l4);
    frame.resize(frame.len().max(LEAST), 0);
    frame
}

/// Its protocol, and the header. Checksums of transports are left out: no NIC's rule looks at them.
fn transport(pattern: &Pattern, (sport, dport): (u16, u16)) -> (u8, Vec<u8>) {
    let ports = [sport, dport].map(u16::to_be_bytes).concat();
    match pattern.l4 {
        L4Item::Tcp { flags: (mask, value), .. } => {
            let mut header = ports;
            header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, value & mask, 0x10, 0, 0, 0, 0, 0]);
            (protocol::TCP, header)
        }
        L4Item::Udp { .. } => {
            let mut header = ports;
            header.extend([0, 8, 0, 0]);
            (protocol::UDP, header)
        }
        L4Item::Sctp { .. } => {
            let mut header = ports;
            header.extend([0; 8]);
            (protocol::SCTP, header)
        }
        L4Item::Icmp { kind } => {
            let (protocol, echo) =
                if pattern.is_ipv6 { (protocol::ICMP6, 128) } else { (protocol::ICMP, 8) };
            (protocol, vec![kind.unwrap_or(echo), 0, 0, 0, 0, 1, 0, 1])
        }
    }
}

/// Some of the ports that an item takes, all over them.
fn ports(item: PortItem) -> impl Iterator<Item = u16> {
    let (first, last) = match item {
        PortItem::Range(first, last) => (first, last),
        PortItem::Any => (0, u16::MAX),
        // Its other bits are free.
        PortItem::Masked { value, mask } => (value & mask, (value & mask) | !mask),
    };
    let step = ((last - first) / PORTS).max(1);
    let usual = matches!(item, PortItem::Any).then_some(40_000);
    let all = (first..=last).step_by(usize::from(step));
    usual.into_iter().chain(all.filter(move |port| item.takes(*port)))
}

/// The first host of the prefix.
fn v4(prefix: Option<Prefix>, host: u8) -> [u8; 4] {
    match prefix.map(Prefix::net) {
        Some(IpNet::V4(net)) => net.hosts().next().unwrap_or(net.addr()).octets(),
        _ => [192, 0, 2, host],
    }
}

fn v6(prefix: Option<Prefix>, host: u8) -> [u8; 16] {
    match prefix.map(Prefix::net) {
        Some(IpNet::V6(net)) => net.hosts().next().unwrap_or(net.addr()).octets(),
        _ => [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host],
    }
}

/// Of so many parts of a range one port.
const PORTS: u16 = 32;
/// Without a checksum.
const LEAST: usize = 60;
