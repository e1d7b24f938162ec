//! Packets that packets carry: IP in IP, GRE, and those of UDP's ports that are configured.

use nfv_core::packet::L3;

use super::link::of_ppp;
use super::{Ip, Remarks, Start, be16, behind};

/// A packet that another one carries.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Carried<'p> {
    /// With what it begins.
    pub start: Start,
    /// Its bytes at hand.
    pub bytes: &'p [u8],
    /// Its bytes on the wire.
    pub length: u32,
    /// In what.
    pub tunnel: Tunnel,
}

/// What carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Tunnel {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// GRE (RFC 2784, RFC 2890, RFC 2637), and what it carries of mirrors (ERSPAN).
    Gre,
    /// Teredo (RFC 4380).
    Teredo,
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
}

/// The ports of UDP that carry packets; none of a kind: such packets are not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// Of Teredo.
    pub teredo: Vec<u16>,
    /// Of VXLAN.
    pub vxlan: Vec<u16>,
    /// Of Geneve.
    pub geneve: Vec<u16>,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self { teredo: vec![3544], vxlan: vec![4789], geneve: vec![6081] }
    }
}

impl Tunnels {
    /// What a datagram carries.
    pub(super) fn by_udp<'p>(
        &self,
        sport: u16,
        dport: u16,
        payload: &'p [u8],
        length: usize,
    ) -> Option<Carried<'p>> {
        let has = |ports: &[u16]| ports.iter().any(|port| *port == dport || *port == sport);
        if has(&self.teredo) {
            return teredo(payload, length);
        }
        if self.vxlan.contains(&dport) {
            return vxlan(payload, length);
        }
        if self.geneve.contains(&dport) {
            return geneve(payload, length);
        }
        None
    }
}

impl<'p> Carried<'p> {
    /// What an IP packet of another protocol than the usual ones carries.
    pub(super) fn by_ip(ip: Ip<'p>, remarks: &mut Remarks) -> Option<Self> {
        let tunnel = if ip.kind == L3::Ipv4 { Tunnel::Ipv4 } else { Tunnel::Ipv6 };
        let start = match ip.protocol {
            IP_IN_IP => Start::EtherType(0x0800),
            IPV6 => Start::EtherType(0x86dd),
            GRE => return gre(ip, remarks),
            _ => return None,
        };
        Some(Self { start, bytes: ip.rest, length: ip.rest_length, tunnel })
    }
}

/// Version 0 and PPTP's version 1.
fn gre<'p>(ip: Ip<'p>, remarks: &mut Remarks) -> Option<Carried<'p>> {
    let Some(&[flags, second, p0, p1]) = ip.rest.first_chunk::<4>() else {
        remarks.fail("gre.pkt_too_small");
        return None;
    };
    let kind = u16::from_be_bytes([p0, p1]);
    let has = |flag: u8| flags & flag != 0;
    let mut at = 4;
    match second & 7 {
        0 => {
            if has(0x80) || has(0x40) {
                at += 4;
            }
            at += if has(0x20) { 4 } else { 0 };
            at += if has(0x10) { 4 } else { 0 };
            if has(0x40) {
                at = behind_routes(ip.rest, at)?;
            }
        }
        1 => {
            if kind != PPP || !has(0x20) || has(0x40) || has(0x80) {
                remarks.fail("gre.version1_hdr_too_big");
                return None;
            }
            at += 4;
            at += if has(0x10) { 4 } else { 0 };
            at += if second & 0x80 != 0 { 4 } else { 0 };
        }
        _ => {
            remarks.fail("gre.wrong_version");
            return None;
        }
    }
    let mut bytes = behind(ip.rest, at);
    let start = match kind {
        0x0800 | 0x86dd | 0x8100 => Start::EtherType(kind),
        ETHERNET => Start::Ethernet,
        // A mirrored frame behind a header of its own; without the sequence number there is none, and nobody knows that.
        ERSPAN if has(0x10) => {
            let Some(&[version, ..]) = bytes.first_chunk::<8>() else {
                remarks.fail("erspan.header_too_small");
                return None;
            };
            if version >> 4 != 1 {
                remarks.fail("erspan.unsupported_version");
                return None;
            }
            at += 8;
            bytes = behind(bytes, 8);
            Start::Ethernet
        }
        PPP => {
            // Address and control may be left out (RFC 1661, section 6.6).
            if bytes.starts_with(&[0xff, 3]) {
                at += 2;
                bytes = behind(bytes, 2);
            }
            let protocol = be16(bytes, 0)?;
            at += 2;
            bytes = behind(bytes, 2);
            of_ppp(protocol)?
        }
        _ => return None,
    };
    let length = ip.rest_length.checked_sub(at as u32).filter(|length| *length > 0);
    let Some(length) = length else {
        remarks.fail("gre.pkt_too_small");
        return None;
    };
    Some(Carried { start, bytes, length, tunnel: Tunnel::Gre })
}

/// Where source routes end (RFC 1701): each is four bytes and as many as its length says; one of length 0 is the last.
fn behind_routes(bytes: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..ROUTES_MAX {
        let length = usize::from(*bytes.get(at + 3)?);
        at += 4 + length;
        if length == 0 {
            return Some(at);
        }
    }
    None
}

/// IPv6 behind what authentication and origin say (RFC 4380, section 5.1.1).
fn teredo(payload: &[u8], length: usize) -> Option<Carried<'_>> {
    let mut at = 0;
    if let Some(&[0, 1, id, auth]) = payload.first_chunk::<4>() {
        at = 13 + usize::from(id) + usize::from(auth);
    }
    if behind(payload, at).starts_with(&[0, 0]) {
        at += 8;
    }
    let bytes = behind(payload, at);
    let size = usize::from(be16(bytes, 4)?);
    let is_whole = at + 40 + size == length;
    let starts = bytes.len() >= 40 && bytes.first().is_some_and(|first| first >> 4 == 6);
    (starts && is_whole).then(|| Carried {
        start: Start::EtherType(0x86dd),
        bytes,
        length: length.saturating_sub(at) as u32,
        tunnel: Tunnel::Teredo,
    })
}

fn vxlan(payload: &[u8], length: usize) -> Option<Carried<'_>> {
    let &[flags, _, _, _, _, _, _, reserved] = payload.first_chunk::<8>()?;
    let bytes = behind(payload, 8);
    let ether_type = be16(bytes, 12)?;
    let is_known = matches!(ether_type, 0x0800 | 0x86dd | 0x0806 | 0x8100 | 0x88a8 | 0x8864);
    (flags & 0x08 != 0 && reserved == 0 && is_known).then(|| Carried {
        start: Start::Ethernet,
        bytes,
        length: length.saturating_sub(8) as u32,
        tunnel: Tunnel::Vxlan,
    })
}

fn geneve(payload: &[u8], length: usize) -> Option<Carried<'_>> {
    let &[first, _, k0, k1, _, _, _, reserved] = payload.first_chunk::<8>()?;
    if first >> 6 != 0 || reserved != 0 {
        return None;
    }
    let at = 8 + usize::from(first & 0x3f) * 4;
    let start = match u16::from_be_bytes([k0, k1]) {
        ETHERNET => Start::Ethernet,
        kind @ (0x0800 | 0x86dd) => Start::EtherType(kind),
        _ => return None,
    };
    let length = length.checked_sub(at)? as u32;
    Some(Carried { start, bytes: behind(payload, at), length, tunnel: Tunnel::Geneve })
}

const IP_IN_IP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const ETHERNET: u16 = 0x6558;
const PPP: u16 = 0x880b;
const ERSPAN: u16 = 0x88be;
/// Source routes of a GRE header.
const ROUTES_MAX: usize = 8;
