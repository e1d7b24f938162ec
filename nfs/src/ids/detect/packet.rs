//! What rules ask of a packet's headers.

use super::Packet;
use super::header::{ICMP, ICMPV6, TCP, UDP};
use crate::ids::rules::{Buffer, IpOption, PacketTest, StreamSide};

/// What is asked for besides the packet's own bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// The packet's events, by number, sorted.
    pub events: &'a [u16],
    /// Numbers that the client's and the server's bytes have used of TCP's, if it is followed.
    pub sizes: Option<[u32; 2]>,
}

/// Whether a packet answers a test with yes.
pub(super) fn holds(test: &PacketTest, packet: &Packet<'_>, around: Around<'_>) -> bool {
    use PacketTest as T;
    let v4 = packet.src.is_ipv4();
    let network = |at: usize| packet.network.get(at).copied();
    match test {
        T::PayloadSize(size) => {
            is_of_wire(packet)
                && size.matches(&u16::try_from(packet.payload.len()).unwrap_or(u16::MAX))
        }
        T::Ttl(compare) => network(if v4 { 8 } else { 7 }).is_some_and(|n| compare.matches(&n)),
        T::Tos(compare) => tos(packet).is_some_and(|n| compare.matches(&n)),
        T::Id(compare) => v4 && word(packet.network, 4).is_some_and(|n| compare.matches(&n)),
        T::IpOption(option) => v4 && has_ip_option(packet.network, *option),
        T::FragmentBits(bits) => v4 && network(6).is_some_and(|b| bits.matches(b >> 5)),
        T::FragmentOffset(compare) => {
            v4 && word(packet.network, 6).is_some_and(|n| compare.matches(&(n & 0x1fff)))
        }
        T::IpProtocol(compare) => compare.matches(&packet.protocol),
        T::SameIp => packet.src == packet.dst,
        T::IcmpType(compare) => icmp(packet, 0).is_some_and(|n| compare.matches(&n)),
        T::IcmpCode(compare) => icmp(packet, 1).is_some_and(|n| compare.matches(&n)),
        T::IcmpId(id) => echo(packet, 4) == Some(*id),
        T::IcmpSequence(sequence) => echo(packet, 6) == Some(*sequence),
        T::TcpFlags(bits) => tcp(packet).is_some_and(|t| bits.matches(t[13])),
        T::TcpSequence(compare) => {
            tcp(packet).and_then(|t| double(t, 4)).is_some_and(|n| compare.matches(&n))
        }
        T::TcpAcknowledgement(compare) => {
            tcp(packet).and_then(|t| double(t, 8)).is_some_and(|n| compare.matches(&n))
        }
        T::TcpWindow(compare) => {
            tcp(packet).and_then(|t| word(t, 14)).is_some_and(|n| compare.matches(&n))
        }
        T::TcpMss(compare) => mss(packet).is_some_and(|n| compare.matches(&n)),
        T::StreamSize(side, compare) => around.sizes.is_some_and(|[client, server]| {
            let (client, server) = (compare.matches(&client), compare.matches(&server));
            match side {
                StreamSide::Client => client,
                StreamSide::Server => server,
                StreamSide::Both => client && server,
                StreamSide::Either => client || server,
            }
        }),
        T::Event(event) => around.events.binary_search(event).is_ok(),
    }
}

/// The bytes of a buffer of headers.
pub(super) fn header<'p>(buffer: Buffer, packet: &Packet<'p>) -> Option<&'p [u8]> {
    let v4 = packet.src.is_ipv4();
    let of = |protocol: u8| (packet.protocol == protocol).then_some(packet.upper);
    match buffer {
        Buffer::Ipv4Header if v4 => {
            let length = usize::from(packet.network.first()? & 0x0f) * 4;
            packet.network.get(..length)
        }
        Buffer::Ipv6Header if !v4 => packet.network.get(..40),
        Buffer::TcpHeader => {
            let tcp = of(TCP)?;
            tcp.get(..usize::from(tcp.get(12)? >> 4) * 4)
        }
        Buffer::UdpHeader => of(UDP)?.get(..8),
        Buffer::Icmpv4Header => of(ICMP)?.get(..8),
        Buffer::Icmpv6Header => of(ICMPV6)?.get(..8),
        _ => None,
    }
}

/// Whether it came, and was not made to look at what is left of a flow.
pub(super) fn is_of_wire(packet: &Packet<'_>) -> bool {
    !packet.network.is_empty()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|double| u32::from_be_bytes(*double))
}

/// The byte of service of IPv4, the traffic class of IPv6.
fn tos(packet: &Packet<'_>) -> Option<u8> {
    match packet.src.is_ipv4() {
        true => packet.network.get(1).copied(),
        false => word(packet.network, 0).and_then(|n| u8::try_from(n >> 4 & 0xff).ok()),
    }
}

fn tcp<'p>(packet: &Packet<'p>) -> Option<&'p [u8]> {
    (packet.protocol == TCP && packet.upper.len() >= 20).then_some(packet.upper)
}

fn icmp(packet: &Packet<'_>, at: usize) -> Option<u8> {
    matches!(packet.protocol, ICMP | ICMPV6).then(|| packet.upper.get(at).copied())?
}

/// A word of what has an identifier and a sequence number: echoes, and of ICMP time stamps, information and masks.
fn echo(packet: &Packet<'_>, at: usize) -> Option<u16> {
    let kind = icmp(packet, 0)?;
    let has = match packet.protocol {
        ICMP => matches!(kind, 0 | 8 | 13..=18),
        _ => matches!(kind, 128 | 129),
    };
    word(packet.upper, at).filter(|_| has)
}

fn has_ip_option(network: &[u8], wanted: IpOption) -> bool {
    let length = network.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let mut rest = network.get(20..length).unwrap_or_default();
    loop {
        let Some(kind) = rest.first().copied() else { return false };
        match wanted {
            IpOption::Any => return true,
            IpOption::Type(wanted) if wanted == kind => return true,
            IpOption::Type(_) => {}
        }
        let size = match kind {
            0 => return false,
            1 => 1,
            _ => rest.get(1).map_or(0, |size| usize::from(*size)),
        };
        if size == 0 {
            return false;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
}

/// The option of a segment with SYN (RFC 9293, section 3.7.1).
fn mss(packet: &Packet<'_>) -> Option<u16> {
    let tcp = tcp(packet)?;
    let mut rest = tcp.get(20..usize::from(tcp.get(12)? >> 4) * 4)?;
    loop {
        let size = match *rest {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            [] | [0, ..] | [_] => return None,
            [1, ..] => 1,
            [_, size, ..] => usize::from(size).max(2),
        };
        rest = rest.get(size..)?;
    }
}
