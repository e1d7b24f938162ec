//! ICMP errors: what the sender of a packet is told when it goes no further.
//!
//! Built into a buffer of the caller's, from the packet as it was received. The rules of who is never answered are RFC
//! 1122's section 3.2.2, RFC 1812's section 4.3.2.7 and RFC 4443's section 2.4 (e): an error would multiply otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use super::{Fragment, Headers, L3, protocol};

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Its time to live, or hop limit, ran out on the way.
    TimeExceeded,
    /// There is no way to its network.
    NoRoute,
    /// The host, or the way to it, does not answer.
    HostUnreachable,
    /// It is forbidden here.
    Prohibited,
    /// It is longer than the next link takes.
    TooBig {
        /// The most that the link takes: bytes of an IP packet.
        mtu: u16,
    },
}

impl IcmpError {
    /// Type, code and the second word of the header, for IPv4 (RFC 792, RFC 1191, RFC 1812).
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (11, 0, 0),
            Self::NoRoute => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::Prohibited => (3, 13, 0),
            Self::TooBig { mtu } => (3, 4, u32::from(mtu)),
        }
    }

    /// The same for IPv6 (RFC 4443, section 3).
    fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (3, 0, 0),
            Self::NoRoute => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::Prohibited => (1, 1, 0),
            Self::TooBig { mtu } => (2, 0, u32::from(mtu)),
        }
    }
}

/// Longest frame that [`icmp_error`] builds: IPv6's smallest MTU behind Ethernet with two tags.
pub const ICMP_ERROR_MAX: usize = 22 + V6_MAX;

/// Builds the frame of an error about `frame`, whose headers are `headers`, back to its sender, from the address `from`.
///
/// Returns its length in `out`; `None` when the sender must not be told, or `from` is of the other family. MACs are
/// those of the frame, exchanged, and its VLAN tags are kept. Cost: a checksum over at most 1,280 bytes.
pub fn icmp_error(
    frame: &[u8],
    headers: &Headers,
    error: IcmpError,
    from: IpAddr,
    out: &mut [u8; ICMP_ERROR_MAX],
) -> Option<usize> {
    let l3 = usize::from(headers.l3);
    let link = frame.get(..l3)?;
    // A group address at either end of the link: who sent it is not who is to be told.
    let (dst_mac, src_mac) = (link.first_chunk::<6>()?, link.get(6..)?.first_chunk::<6>()?);
    if is_group(dst_mac)
        || is_group(src_mac)
        || matches!(headers.fragment, Fragment::Later | Fragment::Following)
    {
        return None;
    }
    let datagram = frame.get(l3..usize::from(headers.l3_end).min(frame.len()))?;
    let ip = out.get_mut(l3..)?;
    let length = match (headers.kind, from) {
        (L3::Ipv4, IpAddr::V4(from)) if may_answer_v4(headers) => {
            v4(ip, datagram, from, headers.src.v4().into(), error)?
        }
        (L3::Ipv6, IpAddr::V6(from)) if may_answer_v6(headers) => {
            v6(ip, datagram, from, headers.src.v6().into(), error)?
        }
        _ => return None,
    };
    let head = out.get_mut(..l3)?;
    head.copy_from_slice(link);
    head.get_mut(..6)?.copy_from_slice(src_mac);
    head.get_mut(6..12)?.copy_from_slice(dst_mac);
    Some(l3 + length)
}

fn v4(
    out: &mut [u8],
    quoted: &[u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
    error: IcmpError,
) -> Option<usize> {
    let quoted = quoted.get(..quoted.len().min(V4_MAX - 28))?;
    let length = 28 + quoted.len();
    let packet = out.get_mut(..length)?;
    let (header, message) = packet.split_at_mut(20);
    let total = u16::try_from(length).ok()?.to_be_bytes();
    // Precedence "internetwork control" (RFC 1812, section 4.3.2.5); not to be fragmented.
    header.copy_from_slice(&[
        0x45,
        0xc0,
        total[0],
        total[1],
        0,
        0,
        0x40,
        0,
        64,
        protocol::ICMP,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    header.get_mut(12..16)?.copy_from_slice(&from.octets());
    header.get_mut(16..20)?.copy_from_slice(&to.octets());
    let checksum = Sum::of(header).checksum();
    header.get_mut(10..12)?.copy_from_slice(&checksum.to_be_bytes());
    fill(message, error.v4(), quoted, Sum::default())?;
    Some(length)
}

fn v6(
    out: &mut [u8],
    quoted: &[u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    error: IcmpError,
) -> Option<usize> {
    let quoted = quoted.get(..quoted.len().min(V6_MAX - 48))?;
    let length = 48 + quoted.len();
    let packet = out.get_mut(..length)?;
    let (header, message) = packet.split_at_mut(40);
    let payload = u16::try_from(message.len()).ok()?;
    header.fill(0);
    header.get_mut(..4)?.copy_from_slice(&[0x60, 0, 0, 0]);
    header.get_mut(4..6)?.copy_from_slice(&payload.to_be_bytes());
    header.get_mut(6..8)?.copy_from_slice(&[protocol::ICMP6, 64]);
    header.get_mut(8..24)?.copy_from_slice(&from.octets());
    header.get_mut(24..40)?.copy_from_slice(&to.octets());
    let pseudo = Sum::of_pseudo_header(from.into(), to.into(), protocol::ICMP6, u32::from(payload));
    fill(message, error.v6(), quoted, pseudo)?;
    Some(length)
}

/// Writes an ICMP message: type, code, checksum, a word, and what it is about.
fn fill(
    message: &mut [u8],
    (kind, code, word): (u8, u8, u32),
    quoted: &[u8],
    pseudo: Sum,
) -> Option<()> {
    message.get_mut(..4)?.copy_from_slice(&[kind, code, 0, 0]);
    message.get_mut(4..8)?.copy_from_slice(&word.to_be_bytes());
    message.get_mut(8..)?.copy_from_slice(quoted);
    let checksum = Sum::of(message).plus(pseudo).checksum();
    message.get_mut(2..4)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn may_answer_v4(h: &Headers) -> bool {
    let (src, dst) = (Ipv4Addr::from(h.src.v4()), Ipv4Addr::from(h.dst.v4()));
    let one_host = |a: Ipv4Addr| {
        !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback())
    };
    // Of ICMP only the questions are answered: echo, timestamp, address mask, information, solicitation.
    let question = [8, 13, 15, 17, 10].contains(&h.icmp_type);
    one_host(src) && one_host(dst) && (h.protocol != protocol::ICMP || question)
}

fn may_answer_v6(h: &Headers) -> bool {
    let (src, dst) = (Ipv6Addr::from(h.src.v6()), Ipv6Addr::from(h.dst.v6()));
    let one_host = |a: Ipv6Addr| !(a.is_unspecified() || a.is_multicast() || a.is_loopback());
    // Types below 128 are errors, 137 is a redirect.
    let error = h.protocol == protocol::ICMP6 && (h.icmp_type < 128 || h.icmp_type == 137);
    one_host(src) && one_host(dst) && !error
}

fn is_group(mac: &[u8; 6]) -> bool {
    mac.first().is_some_and(|first| first & 1 == 1)
}

/// RFC 1812, section 4.3.2.3.
const V4_MAX: usize = 576;
/// RFC 4443, section 2.4 (c).
const V6_MAX: usize = 1280;

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use proptest::prelude::*;

    /// 192.0.2.1:4660 to 198.51.100.2:80, UDP, in VLAN 100, `payload` bytes of 7.
    fn udp4(payload: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 100, 8, 0];
        let (total, length) = ((28 + payload) as u16, (8 + payload) as u16);
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1, 0, 0, 1, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 80]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(std::iter::repeat_n(7, payload));
        frame
    }

    fn udp6(payload: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
        let length = ((8 + payload) as u16).to_be_bytes();
        frame.extend(length);
        frame.extend([17, 1]);
        frame.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("2001:db8:1::2".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([0x12, 0x34, 0, 53]);
        frame.extend(length);
        frame.extend([0, 0]);
        frame.extend(std::iter::repeat_n(7, payload));
        frame
    }

    fn answer(frame: &[u8], error: IcmpError) -> Option<Vec<u8>> {
        let headers = parse(frame, frame.len() as u32).ok()?;
        let from: IpAddr = match headers.kind {
            L3::Ipv6 => "2001:db8::ff".parse().unwrap(),
            _ => "192.0.2.254".parse().unwrap(),
        };
        let mut out = [0; ICMP_ERROR_MAX];
        let length = icmp_error(frame, &headers, error, from, &mut out)?;
        Some(out[..length].to_vec())
    }

    fn checksums_are_right(frame: &[u8]) -> bool {
        let h = parse(frame, frame.len() as u32).unwrap();
        let (l3, l4) = (usize::from(h.l3), usize::from(h.l4));
        match h.kind {
            L3::Ipv4 => Sum::of(&frame[l3..l4]).is_right() && Sum::of(&frame[l4..]).is_right(),
            _ => {
                let (src, dst) = (Ipv6Addr::from(h.src.v6()), Ipv6Addr::from(h.dst.v6()));
                let length = (frame.len() - l4) as u32;
                let pseudo = Sum::of_pseudo_header(src.into(), dst.into(), 58, length);
                Sum::of(&frame[l4..]).plus(pseudo).is_right()
            }
        }
    }

    #[test]
    fn an_expired_packet_is_quoted_to_its_sender_in_its_vlan() {
        let asked = udp4(4);
        let frame = answer(&asked, IcmpError::TimeExceeded).unwrap();
        let h = parse(&frame, frame.len() as u32).unwrap();
        assert_eq!((h.src.v4(), h.dst.v4()), ([192, 0, 2, 254], [192, 0, 2, 1]));
        assert_eq!((h.vlan, h.protocol, h.icmp_type, h.icmp_code), (100, 1, 11, 0));
        assert_eq!(frame[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(frame[18 + 28..], asked[18..]);
        assert!(checksums_are_right(&frame));
    }

    #[test]
    fn a_packet_that_is_too_long_is_answered_with_the_mtu() {
        let frame = answer(&udp6(1400), IcmpError::TooBig { mtu: 1400 }).unwrap();
        let h = parse(&frame, frame.len() as u32).unwrap();
        assert_eq!((h.icmp_type, h.icmp_code), (2, 0));
        assert_eq!(frame[58..62], [0, 0, 5, 120]);
        assert_eq!(frame.len(), 14 + 1280, "as much as fits the smallest MTU");
        assert!(checksums_are_right(&frame));
        let frame = answer(&udp4(1400), IcmpError::TooBig { mtu: 1400 }).unwrap();
        assert_eq!(frame.len(), 18 + 576);
        assert_eq!(frame[38..46][4..], [0, 0, 5, 120]);
    }

    #[test]
    fn who_must_not_be_answered_is_not() {
        let change = |at: usize, to: u8| {
            let mut frame = udp4(4);
            frame[at] = to;
            answer(&frame, IcmpError::TimeExceeded)
        };
        assert!(change(27, 17).is_some(), "control: nothing is changed");
        assert_eq!(change(0, 3), None, "a frame to a group");
        assert_eq!(change(25, 8), None, "a later fragment");
        assert_eq!(change(34, 224), None, "to a multicast group");
        assert_eq!(change(30, 127), None, "from loopback");
        let icmp = |kind: u8| {
            let mut frame = udp4(4);
            (frame[27], frame[38]) = (protocol::ICMP, kind);
            answer(&frame, IcmpError::TimeExceeded)
        };
        assert!(icmp(8).is_some(), "an echo request");
        assert_eq!(icmp(11), None, "an error");
        assert_eq!(icmp(0), None, "a reply");
        let icmp6 = |kind: u8| {
            let mut frame = udp6(4);
            (frame[20], frame[54]) = (protocol::ICMP6, kind);
            answer(&frame, IcmpError::TimeExceeded)
        };
        assert!(icmp6(128).is_some(), "an echo request");
        assert_eq!(icmp6(3), None, "an error");
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic_and_what_it_builds_is_right(
            v6: bool, payload in 0usize..2000, at in 0usize..70, value: u8, cut in 0usize..100,
        ) {
            let mut frame = if v6 { udp6(payload) } else { udp4(payload) };
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.truncate(frame.len() - cut.min(frame.len()));
            let errors = [IcmpError::TimeExceeded, IcmpError::NoRoute, IcmpError::TooBig { mtu: 68 }];
            for error in errors {
                if let Some(built) = answer(&frame, error) {
                    prop_assert!(checksums_are_right(&built));
                    prop_assert_eq!(answer(&built, error), None, "an error about an error");
                }
            }
        }
    }
}
