//! What is behind IP: TCP, UDP, SCTP, ICMP, or another packet.

use nfv_core::packet::{L3, protocol};

use super::tunnel::Carried;
use super::{Decoded, Ip, Tunnels, Upper, be16, behind, first};
use crate::ids::stream::Segment;

impl<'p> Decoded<'p> {
    // Else a header is put together in one place, and copied to another before it is there.
    #[inline(always)]
    pub(super) fn upper(&mut self, ip: Ip<'p>, tunnels: &Tunnels) {
        self.ip = Some(ip);
        if self.remarks.is_invalid() || ip.piece.is_some() {
            return;
        }
        let length = ip.rest_length as usize;
        self.upper = Upper::Other;
        match ip.protocol {
            protocol::TCP => self.tcp(ip.rest, length),
            protocol::UDP => self.udp(ip.rest, length, tunnels),
            protocol::ICMP if ip.kind == L3::Ipv4 => self.icmp4(ip.rest),
            protocol::ICMP6 if ip.kind == L3::Ipv6 => self.icmp6(ip.rest),
            protocol::ICMP if ip.kind == L3::Ipv6 => self.remarks.fail("ipv6.icmpv4"),
            protocol::SCTP => match (be16(ip.rest, 0), be16(ip.rest, 2)) {
                (Some(sport), Some(dport)) if length >= 12 => {
                    let payload = behind(ip.rest, 12);
                    self.upper = Upper::Sctp { sport, dport, payload };
                }
                _ => self.remarks.fail("sctp.pkt_too_small"),
            },
            _ => self.carried = Carried::by_ip(ip, &mut self.remarks),
        }
        if self.remarks.is_invalid() {
            self.upper = Upper::None;
        }
    }

    #[inline]
    fn tcp(&mut self, bytes: &'p [u8], length: usize) {
        let (Some(sport), Some(dport), Some(offset)) =
            (be16(bytes, 0), be16(bytes, 2), bytes.get(12))
        else {
            return self.remarks.fail("tcp.pkt_too_small");
        };
        let header = usize::from(offset >> 4) * 4;
        if length < 20 || bytes.len() < 20 {
            return self.remarks.fail("tcp.pkt_too_small");
        }
        if header < 20 || header > length {
            return self.remarks.fail("tcp.hlen_too_small");
        }
        let Some(segment) = Segment::read(bytes, length as u32) else {
            return self.remarks.fail("tcp.pkt_too_small");
        };
        // Nothing, or a timestamp alone, is what most segments have.
        match bytes.get(20..header).unwrap_or_default() {
            [] | [1, 1, 8, 10, _, _, _, _, _, _, _, _] => {}
            options => self.tcp_options(options),
        }
        self.upper = Upper::Tcp { sport, dport, segment };
    }

    fn udp(&mut self, bytes: &'p [u8], length: usize, tunnels: &Tunnels) {
        let Some(&[s0, s1, d0, d1, l0, l1, _, _]) = bytes.first_chunk::<8>() else {
            return self.remarks.fail("udp.hlen_too_small");
        };
        let claimed = usize::from(u16::from_be_bytes([l0, l1]));
        if claimed > length {
            return self.remarks.fail("udp.pkt_too_small");
        }
        if claimed < 8 {
            return self.remarks.fail("udp.len_invalid");
        }
        if claimed < length {
            self.remarks.add("udp.hlen_invalid");
        }
        let sport = u16::from_be_bytes([s0, s1]);
        let dport = u16::from_be_bytes([d0, d1]);
        let payload = behind(first(bytes, claimed), 8);
        self.upper = Upper::Udp { sport, dport, payload };
        self.carried = tunnels.by_udp(sport, dport, payload, claimed - 8);
    }
}
