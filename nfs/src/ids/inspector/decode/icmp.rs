//! ICMP (RFC 792) and ICMPv6 (RFC 4443), and the packets that errors quote.

use nfv_core::packet::{AddressBytes, L3, protocol};

use super::{Decoded, Upper, be16, behind};

/// The packet that an error is about, as far as it tells a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Quoted {
    /// Version of IP.
    pub kind: L3,
    /// Source address.
    pub src: AddressBytes,
    /// Destination address.
    pub dst: AddressBytes,
    /// Protocol behind IP.
    pub protocol: u8,
    /// Source port; 0 without ports.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl<'p> Decoded<'p> {
    pub(super) fn icmp4(&mut self, bytes: &'p [u8]) {
        let Some(&[kind, code, ..]) = bytes.first_chunk::<8>() else {
            return self.remarks.fail("icmpv4.pkt_too_small");
        };
        let codes = match kind {
            3 => 16,
            5 => 4,
            11 => 2,
            12 => 3,
            0 | 4 | 8 | 9 | 10 | 13..=18 => 255,
            _ => 0,
        };
        if codes == 0 {
            self.remarks.add("icmpv4.unknown_type");
        } else if code >= codes || (codes == 255 && code > 0 && !matches!(kind, 9)) {
            self.remarks.add("icmpv4.unknown_code");
        }
        let payload = behind(bytes, 8);
        let is_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
        let quoted = if is_error { quoted4(payload) } else { None };
        if is_error && quoted.is_none() && payload.len() < 20 {
            self.remarks.add("icmpv4.ipv4_trunc_pkt");
        } else if is_error && payload.first().is_some_and(|first| first >> 4 != 4) {
            self.remarks.add("icmpv4.ipv4_unknown_ver");
        }
        self.upper = Upper::Icmp { kind, code, payload, quoted };
    }

    pub(super) fn icmp6(&mut self, bytes: &'p [u8]) {
        let Some(&[kind, code, ..]) = bytes.first_chunk::<8>() else {
            return self.remarks.fail("icmpv6.pkt_too_small");
        };
        let codes = match kind {
            1 => 7,
            2 | 128..=137 => 0,
            3 => 1,
            4 => 2,
            138..=161 => 255,
            0 | 5..=99 | 102..=126 | 162..=199 | 202..=254 => {
                self.remarks.add("icmpv6.unassigned_type");
                255
            }
            100 | 101 | 200 | 201 => {
                self.remarks.add("icmpv6.experimentation_type");
                255
            }
            _ => 255,
        };
        if code > codes {
            self.remarks.add("icmpv6.unknown_code");
        }
        let payload = behind(bytes, 8);
        let is_error = matches!(kind, 1..=4);
        let quoted = if is_error { quoted6(payload) } else { None };
        if is_error && payload.len() < 40 {
            self.remarks.add("icmpv6.ipv6_trunc_pkt");
        } else if is_error && payload.first().is_some_and(|first| first >> 4 != 6) {
            self.remarks.add("icmpv6.ipv6_unknown_version");
        }
        self.upper = Upper::Icmp { kind, code, payload, quoted };
    }
}

fn quoted4(bytes: &[u8]) -> Option<Quoted> {
    let [version, _, _, _, _, _, f0, f1, _, protocol, _, _, addresses @ ..] =
        *bytes.first_chunk::<20>()?;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let header = usize::from(version & 0x0f) * 4;
    // Later fragments have no ports.
    if version >> 4 != 4 || header < 20 || u16::from_be_bytes([f0, f1]) & 0x1fff != 0 {
        return None;
    }
    let (sport, dport) = ports(protocol, behind(bytes, header));
    Some(Quoted {
        kind: L3::Ipv4,
        src: AddressBytes::of_v4([s0, s1, s2, s3]),
        dst: AddressBytes::of_v4([d0, d1, d2, d3]),
        protocol,
        sport,
        dport,
    })
}

fn quoted6(bytes: &[u8]) -> Option<Quoted> {
    let [version, _, _, _, _, _, protocol, _, addresses @ ..] = *bytes.first_chunk::<40>()?;
    if version >> 4 != 6 {
        return None;
    }
    let [src, dst] = [addresses.first_chunk::<16>(), addresses.last_chunk::<16>()];
    let (sport, dport) = ports(protocol, behind(bytes, 40));
    Some(Quoted {
        kind: L3::Ipv6,
        src: AddressBytes(*src?),
        dst: AddressBytes(*dst?),
        protocol,
        sport,
        dport,
    })
}

fn ports(protocol: u8, upper: &[u8]) -> (u16, u16) {
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    match (be16(upper, 0), be16(upper, 2)) {
        (Some(sport), Some(dport)) if has_ports => (sport, dport),
        _ => (0, 0),
    }
}
