//! What is put before a packet that goes through a tunnel without state: an IP header, and perhaps a UDP header.
//!
//! ```text
//!   IP in IP (RFC 2003, RFC 2473)        IP | inner packet              protocol 4 (IPv4) or 41 (IPv6)
//!   GUE (draft-ietf-intarea-gue-09)      IP | UDP | inner packet        variant 1: the version tells what is inside
//! ```
//!
//! GUE's variant 1 has no header of its own: the first two bits behind UDP, where other variants have their number, are
//! the first two of IP's version, 01 for both. Linux's `ip fou add port N gue` takes it since 4.8, beside variant 0
//! (`gue_udp_recv` in net/ipv4/fou.c), whose four bytes would say no more than the version does. So does Katran.
//!
//! What the outer header says of the inner packet:
//!
//! - DSCP and ECN are the inner packet's (RFC 2983's uniform model; RFC 6040, normal mode).
//! - It starts with a time to live of its own. The inner one counts the tunnel as one hop (RFC 2003, section 3.1; RFC 2473,
//!   section 3.1), which is also what ends a packet that a circle of tunnels would keep for ever.
//! - IPv4 is not to be fragmented, so it needs no identification (RFC 6864, section 4.1).
//! - The flow's hash is UDP's source port, and IPv6's flow label (RFC 6438), for routers that share load by them.
//! - UDP over IPv4 has no checksum, as what is inside has its own. Over IPv6 it has one: RFC 6935 would allow none, but
//!   Linux's default is to drop that.

use std::net::IpAddr;

use super::checksum::{Sum, updated};
use super::protocol;

/// What is put before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The near end.
    pub src: IpAddr,
    /// The far end, of the same family.
    pub dst: IpAddr,
    /// The far end's UDP port, when it goes in UDP.
    pub port: Option<u16>,
}

/// Longest outer header: IPv6 and UDP.
pub const OUTER_MAX: usize = 48;

/// An outer header, ready to be put before its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    bytes: [u8; OUTER_MAX],
    length: u8,
}

impl Outer {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl Envelope {
    /// How many bytes it adds to a packet.
    pub const fn overhead(&self) -> u16 {
        let ip = if self.src.is_ipv4() { 20 } else { 40 };
        if self.port.is_some() { ip + 8 } else { ip }
    }

    /// The Ethernet type of what is put before a packet.
    pub const fn ether_type(&self) -> [u8; 2] {
        if self.src.is_ipv4() { [8, 0] } else { [0x86, 0xdd] }
    }

    /// The header for an IP packet `inner`, which [`hop`] has counted already. `hash`: of its flow.
    ///
    /// `None`: it is no IP packet, it would become longer than IP allows, or the ends are of two families.
    ///
    /// # Cost
    /// 48 bytes are written; over IPv6 with UDP a checksum over the packet.
    pub fn around(&self, inner: &[u8], hash: u32) -> Option<Outer> {
        let (of_inner, traffic_class) = match inner.first_chunk::<2>()? {
            [version, class] if version >> 4 == 4 => (IPV4, *class),
            [version, class] if version >> 4 == 6 => (IPV6, version << 4 | class >> 4),
            _ => return None,
        };
        let udp = self.port.map_or(0, |_| 8);
        let length = u16::try_from(udp + inner.len()).ok()?;
        let proto = if self.port.is_some() { protocol::UDP } else { of_inner };
        let mut bytes = [0; OUTER_MAX];
        let ip = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let [t0, t1] = length.checked_add(20)?.to_be_bytes();
                let header = bytes.first_chunk_mut::<20>()?;
                let (fixed, ends) = header.split_first_chunk_mut::<12>()?;
                // Not to be fragmented; the checksum is 0 yet.
                *fixed = [0x45, traffic_class, t0, t1, 0, 0, 0x40, 0, HOP_LIMIT, proto, 0, 0];
                let (from, to) = ends.split_first_chunk_mut::<4>()?;
                *from = src.octets();
                to.copy_from_slice(&dst.octets());
                let sum = Sum::of(header).checksum();
                header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
                20
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = bytes.first_chunk_mut::<40>()?;
                let (fixed, ends) = header.split_first_chunk_mut::<8>()?;
                let word = 6 << 28 | u32::from(traffic_class) << 20 | hash & 0x000f_ffff;
                let ([w0, w1, w2, w3], [l0, l1]) = (word.to_be_bytes(), length.to_be_bytes());
                *fixed = [w0, w1, w2, w3, l0, l1, proto, HOP_LIMIT];
                let (from, to) = ends.split_first_chunk_mut::<16>()?;
                *from = src.octets();
                to.copy_from_slice(&dst.octets());
                40
            }
            _ => return None,
        };
        if let Some(port) = self.port {
            let header = bytes.get_mut(ip..)?.first_chunk_mut::<8>()?;
            let ([s0, s1], [d0, d1]) = (source_port(hash).to_be_bytes(), port.to_be_bytes());
            let [l0, l1] = length.to_be_bytes();
            *header = [s0, s1, d0, d1, l0, l1, 0, 0];
            if self.src.is_ipv6() {
                let pseudo =
                    Sum::of_pseudo_header(self.src, self.dst, protocol::UDP, u32::from(length));
                let sum = match Sum::of(header).plus(Sum::of(inner)).plus(pseudo).checksum() {
                    0 => 0xffff,
                    sum => sum,
                };
                header.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
            }
        }
        Some(Outer { bytes, length: u8::try_from(ip + usize::from(udp as u8)).ok()? })
    }
}

/// Counts a hop in an IP packet that goes on: its time to live or hop limit, and IPv4's checksum. False, and nothing
/// changes, when it has none left, or is no IP packet.
pub fn hop(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let Some([.., ttl, proto, c0, c1]) = packet.first_chunk_mut::<12>() else {
                return false;
            };
            if *ttl <= 1 {
                return false;
            }
            let word = |ttl| u16::from_be_bytes([ttl, *proto]);
            let sum = updated(u16::from_be_bytes([*c0, *c1]), word(*ttl), word(*ttl - 1));
            [*c0, *c1] = sum.to_be_bytes();
            *ttl -= 1;
            true
        }
        Some(6) => match packet.first_chunk_mut::<8>() {
            Some([.., limit]) if *limit > 1 => {
                *limit -= 1;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// A port of those that nobody listens on (RFC 6335, section 6).
fn source_port(hash: u32) -> u16 {
    let [high, low] = [(hash >> 16) as u16, hash as u16];
    (high ^ low) | 0xc000
}

/// As Linux sends.
const HOP_LIMIT: u8 = 64;
/// IPv4 inside (RFC 2003).
const IPV4: u8 = 4;
/// IPv6 inside (RFC 2473).
const IPV6: u8 = 41;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{L3, parse};
    use super::*;

    const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "198.51.100.7"], ["2001:db8::1", "2001:db8:2::7"]];

    /// 10.0.0.1:1000 to 10.0.0.2:80 or the same over IPv6, with a traffic class and a time to live.
    fn udp(v6: bool, class: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let mut packet = if v6 {
            let mut ip = vec![0x60 | class >> 4, class << 4, 0, 0];
            ip.extend(length.to_be_bytes());
            ip.extend([17, ttl]);
            ip.extend([1; 16]);
            ip.extend([2; 16]);
            ip
        } else {
            let mut ip = vec![0x45, class];
            ip.extend((20 + length).to_be_bytes());
            ip.extend([0, 1, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = Sum::of(&ip).checksum();
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            ip
        };
        packet.extend([3, 232, 0, 80]);
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    fn envelope(v6: bool, port: Option<u16>) -> Envelope {
        let [src, dst] = ENDS[usize::from(v6)].map(|a| a.parse().unwrap());
        Envelope { src, dst, port }
    }

    fn wrapped(envelope: &Envelope, inner: &[u8], hash: u32) -> Vec<u8> {
        let outer = envelope.around(inner, hash).unwrap();
        assert_eq!(outer.bytes().len(), usize::from(envelope.overhead()));
        let link = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &envelope.ether_type()].concat();
        [&link, outer.bytes(), inner].concat()
    }

    #[test]
    fn ip_in_ip_is_what_the_rfc_draws() {
        let frame = wrapped(&envelope(false, None), &udp(false, 0xb9, 63, b"x"), 7);
        let outer = [0x45, 0xb9, 0, 49, 0, 0, 0x40, 0, 64, 4];
        assert_eq!(frame[14..24], outer, "DSCP 46 and ECT(1) are those of the inner packet");
        assert_eq!(frame[26..34], [192, 0, 2, 1, 198, 51, 100, 7]);
        assert_eq!(frame[34..], udp(false, 0xb9, 63, b"x"));
    }

    #[test]
    fn the_protocol_says_which_ip_is_inside_and_gue_says_udp() {
        for (v6, inner, port, proto) in [
            (false, true, None, 41),
            (true, true, None, 41),
            (true, false, None, 4),
            (true, false, Some(6080), 17),
            (false, true, Some(6080), 17),
        ] {
            let frame = wrapped(&envelope(v6, port), &udp(inner, 0, 64, b"abc"), 1);
            let h = parse(&frame, frame.len() as u32).unwrap();
            assert_eq!(h.protocol, proto, "IPv6 {v6}, inside {inner}, {port:?}");
            if let Some(port) = port {
                assert_eq!(h.dport, port);
                assert!(h.sport >= 0xc000);
            }
        }
    }

    #[test]
    fn flows_have_source_ports_and_labels_of_their_own() {
        let port = |hash| {
            let frame = wrapped(&envelope(false, Some(6080)), &udp(false, 0, 64, b""), hash);
            parse(&frame, frame.len() as u32).unwrap().sport
        };
        assert_eq!(port(0x1234_5678), port(0x1234_5678));
        assert_ne!(port(0x1234_5678), port(0x1234_5679));
        let label = wrapped(&envelope(true, None), &udp(false, 0, 64, b""), 0xabc1_2345);
        assert_eq!(label[14..18], [0x60, 1, 0x23, 0x45]);
    }

    #[test]
    fn the_inner_packet_counts_the_tunnel_as_a_hop_until_none_is_left() {
        for v6 in [false, true] {
            let mut packet = udp(v6, 0, 2, b"abc");
            assert!(hop(&mut packet));
            assert_eq!(packet, udp(v6, 0, 1, b"abc"), "with the right checksum");
            assert!(!hop(&mut packet));
            assert_eq!(packet, udp(v6, 0, 1, b"abc"));
        }
        assert!(
            !hop(&mut []) && !hop(&mut [0x45; 11]) && !hop(&mut [0x60; 7]) && !hop(&mut [9; 20])
        );
    }

    #[test]
    fn what_cannot_be_put_into_a_tunnel_is_not() {
        let envelope = envelope(false, None);
        assert_eq!(envelope.around(&[], 0), None);
        assert_eq!(envelope.around(&[0x08, 0x06], 0), None, "ARP");
        let long = |length: usize| [&[0x45, 0][..], &vec![0; length - 2]].concat();
        assert!(envelope.around(&long(65_515), 0).is_some());
        assert_eq!(envelope.around(&long(65_516), 0), None);
        let mixed = Envelope { dst: "::1".parse().unwrap(), ..envelope };
        assert_eq!(mixed.around(&long(100), 0), None);
    }

    proptest! {
        #[test]
        fn all_checksums_are_right_and_the_inner_packet_is_untouched(
            v6: bool, inner: bool, gue: bool, class: u8, hash: u32,
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let envelope = envelope(v6, gue.then_some(6080));
            let packet = udp(inner, class, 64, &payload);
            let frame = wrapped(&envelope, &packet, hash);
            let h = parse(&frame, frame.len() as u32).unwrap();
            prop_assert_eq!(h.kind, if v6 { L3::Ipv6 } else { L3::Ipv4 });
            prop_assert_eq!(usize::from(h.l3_end), frame.len());
            prop_assert_eq!(&frame[14 + usize::from(envelope.overhead())..], &packet[..]);
            if v6 {
                let word = u32::from_be_bytes(frame[14..18].try_into().unwrap());
                prop_assert_eq!((word >> 20) as u8, class);
            } else {
                prop_assert!(Sum::of(&frame[14..34]).is_right());
                prop_assert_eq!(frame[15], class);
            }
            if gue {
                let at = usize::from(h.l4);
                let sum = u16::from_be_bytes([frame[at + 6], frame[at + 7]]);
                let pseudo = Sum::of_pseudo_header(envelope.src, envelope.dst, 17, (frame.len() - at) as u32);
                let is_right = Sum::of(&frame[at..]).plus(pseudo).is_right();
                prop_assert!(if v6 { is_right } else { sum == 0 }, "{sum:x}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), hash: u32) {
            hop(&mut bytes);
            for v6 in [false, true] {
                let _ = envelope(v6, Some(1)).around(&bytes, hash);
            }
        }
    }
}
