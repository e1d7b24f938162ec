//! The one parse of a packet: what it is, where its headers are, and whether it lies about its lengths.
//!
//! Everything later reads [`Headers`], one cache line a packet, and does not look at the bytes again. Lengths that a
//! header claims are checked against the packet's length on the wire, which a capture may have cut short; the header
//! bytes themselves must be there.

/// An address of 16 bytes, network order; IPv4 in the first four, the rest 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressBytes(pub [u8; 16]);

impl AddressBytes {
    /// That of an IPv4 address.
    #[inline(always)]
    pub fn of_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The IPv4 address.
    #[inline(always)]
    pub fn v4(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// The IPv6 address.
    #[inline(always)]
    pub fn v6(self) -> [u8; 16] {
        self.0
    }
}

/// The network layer of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum L3 {
    /// Neither IP nor ARP.
    #[default]
    Other,
    /// Address resolution (RFC 826).
    Arp,
    /// IPv4 (RFC 791).
    Ipv4,
    /// IPv6 (RFC 8200).
    Ipv6,
}

/// Whether a packet is a fragment of an IP datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// Not a fragment.
    #[default]
    Whole,
    /// The first one: it has the upper-layer header.
    First,
    /// A later one: it has none.
    Later,
    /// A later one of which the first one is known: its ports are that one's, its bytes have none.
    Following,
}

/// The flags of a TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

/// What the parse found: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Headers {
    /// Source address.
    pub src: AddressBytes,
    /// Destination address.
    pub dst: AddressBytes,
    /// Source port (TCP, UDP, SCTP, DCCP, UDP-Lite); of an ICMP query its identifier; 0 without one.
    pub sport: u16,
    /// Destination port; of an ICMP query its identifier; 0 without one.
    pub dport: u16,
    /// Where the network header starts.
    pub l3: u16,
    /// Where the upper-layer header starts; 0 in packets without one.
    pub l4: u16,
    /// Where the IP datagram ends by its own length; behind it is Ethernet's padding.
    pub l3_end: u16,
    /// Of what the frame carries behind its VLAN tags.
    pub ether_type: u16,
    /// Outer VLAN id; [`NO_VLAN`] without a tag.
    pub vlan: u16,
    /// Inner VLAN id; [`NO_VLAN`] without a second tag.
    pub inner_vlan: u16,
    /// Network layer.
    pub kind: L3,
    /// Upper-layer protocol, behind IPv6's extension headers.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// TCP flags.
    pub tcp_flags: TcpFlags,
    /// Type of ICMP message.
    pub icmp_type: u8,
    /// Code of ICMP message.
    pub icmp_code: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// Whether IPv4 routers are told not to fragment it.
    pub dont_fragment: bool,
}

const _: () = assert!(size_of::<Headers>() == 64);

/// A frame without VLAN tag.
pub const NO_VLAN: u16 = 0xffff;

/// Why a packet is not what it says: each a reason to drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Malformed {
    /// No room for an Ethernet header.
    FrameTooShort,
    /// A VLAN tag's rest is missing.
    VlanTooShort,
    /// ARP that ends early.
    ArpTooShort,
    /// No room for an IPv4 header.
    Ipv4TooShort,
    /// Not version 4 behind IPv4's ether type.
    Ipv4Version,
    /// A header length below 20, or beyond the packet.
    Ipv4HeaderLength,
    /// A total length below the header's, or beyond the packet.
    Ipv4TotalLength,
    /// No room for an IPv6 header.
    Ipv6TooShort,
    /// Not version 6 behind IPv6's ether type.
    Ipv6Version,
    /// A payload length beyond the packet, or a jumbogram.
    Ipv6PayloadLength,
    /// More than eight extension headers, or one beyond the packet.
    Ipv6ExtensionHeaders,
    /// No room for a TCP header.
    TcpTooShort,
    /// A TCP data offset below five, or beyond the packet.
    TcpDataOffset,
    /// No room for a UDP header.
    UdpTooShort,
    /// A UDP length below eight, or beyond the datagram.
    UdpLength,
    /// No room for an ICMP header.
    IcmpTooShort,
}

/// Name and meaning of each [`Malformed`], in its order.
pub const MALFORMED: [(&str, &str); 16] = [
    ("frame_too_short", "no room for an Ethernet header"),
    ("vlan_too_short", "the frame ends inside a VLAN tag"),
    ("arp_too_short", "the frame ends inside the ARP packet"),
    ("ipv4_too_short", "no room for an IPv4 header"),
    ("ipv4_version", "the version is not 4"),
    ("ipv4_header_length", "the header's length is below 20, or beyond the packet"),
    ("ipv4_total_length", "the total length is below the header's, or beyond the packet"),
    ("ipv6_too_short", "no room for an IPv6 header"),
    ("ipv6_version", "the version is not 6"),
    ("ipv6_payload_length", "the payload's length is beyond the packet, or it is a jumbogram"),
    ("ipv6_extension_headers", "more than eight extension headers, or one beyond the packet"),
    ("tcp_too_short", "no room for a TCP header"),
    ("tcp_data_offset", "the data offset is below five words, or beyond the packet"),
    ("udp_too_short", "no room for a UDP header"),
    ("udp_length", "the UDP length is below eight, or beyond the datagram"),
    ("icmp_too_short", "no room for an ICMP header"),
];

impl Malformed {
    /// Its place in [`MALFORMED`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// Its name, `snake_case`.
    pub fn name(self) -> &'static str {
        MALFORMED.get(self.index()).map_or("malformed", |(name, _)| name)
    }
}

/// IP protocol numbers (IANA) that the parse knows.
pub mod protocol {
    #![allow(missing_docs, reason = "IANA's names")]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AH: u8 = 51;
    pub const ICMP6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const MOBILITY: u8 = 135;
    pub const UDP_LITE: u8 = 136;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// Parses a frame.
///
/// `frame`: its bytes at hand, from the Ethernet header on. `wire_length`: its length on the wire, at least as much.
/// # Errors
/// What is wrong with it; such a packet is dropped under that name.
/// # Cost
/// 15 to 20 clocks for UDP over IPv4; no allocation.
#[inline]
pub fn parse(frame: &[u8], wire_length: u32) -> Result<Headers, Malformed> {
    let mut headers = Headers::default();
    parse_into(frame, wire_length, &mut headers)?;
    Ok(headers)
}

/// As [`parse`], into a line that is there already: on the packet path nothing is moved.
///
/// # Errors
/// As [`parse`]; `h` then holds what was found until there.
#[inline(always)]
pub fn parse_into(frame: &[u8], wire_length: u32, h: &mut Headers) -> Result<(), Malformed> {
    if usual(frame, wire_length, |found| *h = found) {
        return Ok(());
    }
    parse_any(frame, wire_length, h)
}

/// Whether [`parse`] takes a frame, for who does not ask what is in it.
///
/// # Errors
/// As [`parse`].
/// # Cost
/// Half of a parse.
#[inline(always)]
pub fn check(frame: &[u8], wire_length: u32) -> Result<(), Malformed> {
    if usual(frame, wire_length, |_| {}) {
        return Ok(());
    }
    parse_any(frame, wire_length, &mut Headers::default())
}

/// What most packets are, TCP or UDP in IPv4 without tags, options and fragments: one look at fixed places, and every
/// field told once. False: something is not so, or not right, and nothing was told.
#[inline(always)]
fn usual(frame: &[u8], wire_length: u32, tell: impl FnOnce(Headers)) -> bool {
    let Some(f) = frame.first_chunk::<48>() else { return false };
    // Words as the CPU reads them: the first byte is the lowest.
    let word =
        |at: usize| f.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |w| u64::from_le_bytes(*w));
    let half =
        |at: usize| f.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |w| u32::from_le_bytes(*w));
    let port =
        |at: usize| f.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |w| u16::from_be_bytes(*w));
    // Type, version, length of the header, service, total length; then fragment, time to live, protocol.
    let (start, middle) = (word(12), word(20));
    let total = u32::from(((start >> 32) as u16).swap_bytes());
    let room = wire_length.wrapping_sub(14);
    if start & 0xff_ffff != 0x45_0008 || middle & 0xff3f != 0 || total > room {
        return false;
    }
    let proto = (middle >> 24) as u8;
    let flags = match proto {
        protocol::UDP => {
            let length = u32::from(port(38));
            if length < 8 || 20 + length > total {
                return false;
            }
            0
        }
        protocol::TCP => {
            let [.., offset, flags] = *f;
            let length = u32::from(offset >> 4) * 4;
            if length < 20 || 20 + length > total || frame.len() < 54 {
                return false;
            }
            flags
        }
        _ => return false,
    };
    tell(Headers {
        src: AddressBytes(u128::from(half(26)).to_le_bytes()),
        dst: AddressBytes(u128::from(half(30)).to_le_bytes()),
        sport: port(34),
        dport: port(36),
        l3: 14,
        l4: 34,
        l3_end: small(14 + total as usize),
        ether_type: 0x0800,
        vlan: NO_VLAN,
        inner_vlan: NO_VLAN,
        kind: L3::Ipv4,
        protocol: proto,
        ttl: (middle >> 16) as u8,
        tcp_flags: TcpFlags(flags),
        icmp_type: 0,
        icmp_code: 0,
        fragment: Fragment::Whole,
        dont_fragment: middle & 0x40 != 0,
    });
    true
}

/// [`parse_into`] for any packet.
fn parse_any(frame: &[u8], wire_length: u32, h: &mut Headers) -> Result<(), Malformed> {
    *h = Headers { vlan: NO_VLAN, inner_vlan: NO_VLAN, ..Headers::default() };
    let mut at = 14;
    let mut ether_type = be16(frame, 12).ok_or(Malformed::FrameTooShort)?;
    if ether_type == VLAN || ether_type == QINQ {
        h.vlan = be16(frame, at).ok_or(Malformed::VlanTooShort)? & 0x0fff;
        ether_type = be16(frame, at + 2).ok_or(Malformed::VlanTooShort)?;
        at += 4;
        if ether_type == VLAN || ether_type == QINQ {
            h.inner_vlan = be16(frame, at).ok_or(Malformed::VlanTooShort)? & 0x0fff;
            ether_type = be16(frame, at + 2).ok_or(Malformed::VlanTooShort)?;
            at += 4;
        }
    }
    h.ether_type = ether_type;
    h.l3 = small(at);
    match ether_type {
        0x0800 => ipv4(frame, at, wire_length, h),
        0x86dd => ipv6(frame, at, wire_length, h),
        0x0806 => arp(frame, at, h),
        _ => Ok(()),
    }
}

#[inline(always)]
fn ipv4(frame: &[u8], at: usize, wire_length: u32, h: &mut Headers) -> Result<(), Malformed> {
    let header: &[u8; 20] =
        frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Ipv4TooShort)?;
    let [version, _, t0, t1, _, _, f0, f1, ttl, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *header;
    if version >> 4 != 4 {
        return Err(Malformed::Ipv4Version);
    }
    let header_length = usize::from(version & 0x0f) * 4;
    let room = room_behind(wire_length, at);
    if header_length < 20 || header_length > room {
        return Err(Malformed::Ipv4HeaderLength);
    }
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    if total < header_length || total > room {
        return Err(Malformed::Ipv4TotalLength);
    }
    h.kind = L3::Ipv4;
    h.ttl = ttl;
    h.protocol = proto;
    h.src.0 = [s0, s1, s2, s3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    h.dst.0 = [d0, d1, d2, d3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    h.l3_end = small(at + total);
    let fragment = u16::from_be_bytes([f0, f1]);
    h.dont_fragment = f0 & 0x40 != 0;
    if fragment & 0x3fff != 0 {
        h.fragment = if fragment & 0x1fff == 0 { Fragment::First } else { Fragment::Later };
    }
    upper(frame, at + header_length, at + total, h)
}

fn ipv6(frame: &[u8], at: usize, wire_length: u32, h: &mut Headers) -> Result<(), Malformed> {
    let header: &[u8; 40] =
        frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Ipv6TooShort)?;
    let [version, _, _, _, p0, p1, next, hops, addresses @ ..] = *header;
    if version >> 4 != 6 {
        return Err(Malformed::Ipv6Version);
    }
    let payload = usize::from(u16::from_be_bytes([p0, p1]));
    let end = at + 40 + payload;
    // A length of 0 with a hop-by-hop header is a jumbogram (RFC 2675): no link of ours carries one.
    if payload + 40 > room_behind(wire_length, at) || (payload == 0 && next == protocol::HOP_BY_HOP)
    {
        return Err(Malformed::Ipv6PayloadLength);
    }
    h.kind = L3::Ipv6;
    h.ttl = hops;
    h.l3_end = small(end);
    let [src, dst] = [addresses.first_chunk::<16>(), addresses.last_chunk::<16>()];
    h.src.0 = src.copied().unwrap_or_default();
    h.dst.0 = dst.copied().unwrap_or_default();
    let mut next = next;
    let mut l4 = at + 40;
    for _ in 0..=EXTENSIONS_MAX {
        let length = match next {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => (usize::from(byte(frame, l4 + 1, end)?) + 1) * 8,
            protocol::AH => (usize::from(byte(frame, l4 + 1, end)?) + 2) * 4,
            protocol::FRAGMENT => {
                let offset =
                    u16::from_be_bytes([byte(frame, l4 + 2, end)?, byte(frame, l4 + 3, end)?]);
                h.fragment = match offset {
                    o if o & 0xfff8 != 0 => Fragment::Later,
                    o if o & 1 != 0 => Fragment::First,
                    _ => h.fragment,
                };
                8
            }
            _ => {
                h.protocol = next;
                return upper(frame, l4, end, h);
            }
        };
        next = byte(frame, l4, end)?;
        l4 += length;
        if l4 > end {
            return Err(Malformed::Ipv6ExtensionHeaders);
        }
        if h.fragment == Fragment::Later {
            // Behind a later fragment's header is the middle of something: no header to walk.
            h.protocol = next;
            return Ok(());
        }
    }
    Err(Malformed::Ipv6ExtensionHeaders)
}

/// The upper-layer header between `at` and `end`, the datagram's end on the wire.
#[inline(always)]
fn upper(frame: &[u8], at: usize, end: usize, h: &mut Headers) -> Result<(), Malformed> {
    if h.fragment == Fragment::Later {
        return Ok(());
    }
    let whole = h.fragment == Fragment::Whole;
    let bytes = frame.get(at..end.min(frame.len())).unwrap_or_default();
    match h.protocol {
        protocol::TCP => match bytes.first_chunk::<20>() {
            Some(&[s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..]) => {
                let length = usize::from(offset >> 4) * 4;
                if length < 20 || (whole && at + length > end) {
                    return Err(Malformed::TcpDataOffset);
                }
                h.sport = u16::from_be_bytes([s0, s1]);
                h.dport = u16::from_be_bytes([d0, d1]);
                h.tcp_flags = TcpFlags(flags);
                h.l4 = small(at);
            }
            None if whole => return Err(Malformed::TcpTooShort),
            None => {}
        },
        protocol::UDP | protocol::UDP_LITE => match bytes.first_chunk::<8>() {
            Some(&[s0, s1, d0, d1, l0, l1, ..]) => {
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                // UDP-Lite has its checksum's coverage there (RFC 3828).
                if h.protocol == protocol::UDP && whole && (length < 8 || at + length > end) {
                    return Err(Malformed::UdpLength);
                }
                h.sport = u16::from_be_bytes([s0, s1]);
                h.dport = u16::from_be_bytes([d0, d1]);
                h.l4 = small(at);
            }
            None if whole => return Err(Malformed::UdpTooShort),
            None => {}
        },
        protocol::ICMP | protocol::ICMP6 => match bytes.first_chunk::<4>() {
            Some(&[kind, code, ..]) => {
                h.icmp_type = kind;
                h.icmp_code = code;
                h.l4 = small(at);
                if let Some(&[.., i0, i1]) = bytes.first_chunk::<6>()
                    && is_icmp_query(h)
                {
                    h.sport = u16::from_be_bytes([i0, i1]);
                    h.dport = h.sport;
                }
            }
            None if whole => return Err(Malformed::IcmpTooShort),
            None => {}
        },
        protocol::SCTP | protocol::DCCP => {
            if let Some(&[s0, s1, d0, d1]) = bytes.first_chunk::<4>() {
                h.sport = u16::from_be_bytes([s0, s1]);
                h.dport = u16::from_be_bytes([d0, d1]);
                h.l4 = small(at);
            }
        }
        _ => h.l4 = small(at),
    }
    Ok(())
}

/// ICMP messages that ask or answer (RFC 792, RFC 4443): their identifier stands for ports.
#[inline]
pub fn is_icmp_query(h: &Headers) -> bool {
    match h.protocol {
        protocol::ICMP => matches!(h.icmp_type, 0 | 8 | 13..=18),
        protocol::ICMP6 => matches!(h.icmp_type, 128 | 129),
        _ => false,
    }
}

/// ICMP messages about another packet, which they quote.
#[inline]
pub fn is_icmp_error(h: &Headers) -> bool {
    match h.protocol {
        protocol::ICMP => matches!(h.icmp_type, 3..=5 | 11 | 12),
        protocol::ICMP6 => matches!(h.icmp_type, 1..=4),
        _ => false,
    }
}

fn arp(frame: &[u8], at: usize, h: &mut Headers) -> Result<(), Malformed> {
    let fixed: &[u8; 8] =
        frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::ArpTooShort)?;
    let [_, _, _, _, hardware, network, ..] = *fixed;
    let length = 8 + 2 * (usize::from(hardware) + usize::from(network));
    if frame.len() < at + length {
        return Err(Malformed::ArpTooShort);
    }
    h.kind = L3::Arp;
    Ok(())
}

#[inline(always)]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

fn byte(frame: &[u8], at: usize, end: usize) -> Result<u8, Malformed> {
    let inside = at < end;
    frame.get(at).copied().filter(|_| inside).ok_or(Malformed::Ipv6ExtensionHeaders)
}

#[inline(always)]
fn room_behind(wire_length: u32, at: usize) -> usize {
    usize::try_from(wire_length).unwrap_or(usize::MAX).saturating_sub(at)
}

/// An offset as 16 bits; beyond them there is no header, only the end of a 64 KiB datagram.
#[inline(always)]
fn small(offset: usize) -> u16 {
    u16::try_from(offset).unwrap_or(u16::MAX)
}

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const EXTENSIONS_MAX: usize = 8;

#[cfg(test)]
mod tests;
