//! What is before IP: Ethernet, tags, labels and other wrappers that make no packet of their own.

use super::{Decoded, Start, Tunnels, be16, behind, first};

impl<'p> Decoded<'p> {
    /// Walks to IP, and takes it apart. `length`: of `bytes` on the wire.
    pub(super) fn link(&mut self, start: Start, bytes: &'p [u8], length: usize, tunnels: &Tunnels) {
        let mut rest = bytes;
        let mut length = length;
        let mut start = start;
        let mut tags = 0;
        for _ in 0..WRAPPERS_MAX {
            let ether_type = match start {
                Start::Ethernet => {
                    let Some(ether_type) = be16(rest, 12) else {
                        return self.remarks.fail("ethernet.pkt_too_small");
                    };
                    step(&mut rest, &mut length, 14);
                    ether_type
                }
                Start::EtherType(ether_type) => ether_type,
            };
            let next = match ether_type {
                0x0800 => return self.ipv4(rest, length, tunnels),
                0x86dd => return self.ipv6(rest, length, tunnels),
                VLAN | QINQ | QINQ_OLD => {
                    let (Some(tag), Some(next)) = (be16(rest, 0), be16(rest, 2)) else {
                        return self.remarks.fail("vlan.header_too_small");
                    };
                    let Some(vlan) = self.vlans.get_mut(tags) else {
                        return self.remarks.fail("vlan.too_many_layers");
                    };
                    *vlan = tag & 0x0fff;
                    tags += 1;
                    step(&mut rest, &mut length, 4);
                    Some(Start::EtherType(next))
                }
                0x8864 => self.pppoe(&mut rest, &mut length),
                0x8847 | 0x8848 => self.mpls(&mut rest, &mut length),
                0x894f => self.nsh(&mut rest, &mut length),
                VN_TAG => self.tag(&mut rest, &mut length, 6, "vntag.header_too_small"),
                E_TAG => self.tag(&mut rest, &mut length, 8, "etag.header_too_small"),
                I_TAG => self.tag(&mut rest, &mut length, 18, "ieee8021ah.header_too_small"),
                _ => None,
            };
            match next {
                Some(next) => start = next,
                None => return,
            }
        }
        self.remarks.fail("too_many_layers");
    }

    /// A tag of so many bytes, whose last two say what follows.
    fn tag(
        &mut self,
        rest: &mut &'p [u8],
        length: &mut usize,
        size: usize,
        too_small: &'static str,
    ) -> Option<Start> {
        let Some(next) = be16(rest, size - 2) else {
            self.remarks.fail(too_small);
            return None;
        };
        step(rest, length, size);
        Some(Start::EtherType(next))
    }

    /// PPP over Ethernet, in session (RFC 2516).
    fn pppoe(&mut self, rest: &mut &'p [u8], length: &mut usize) -> Option<Start> {
        let (Some(size), Some(protocol)) = (be16(rest, 4), be16(rest, 6)) else {
            self.remarks.fail("pppoe.pkt_too_small");
            return None;
        };
        step(rest, length, 8);
        // The length counts the two bytes that say the protocol.
        cut(rest, length, usize::from(size).saturating_sub(2));
        of_ppp(protocol)
    }

    /// Labels (RFC 3032); what they carry is guessed as Suricata does.
    fn mpls(&mut self, rest: &mut &'p [u8], length: &mut usize) -> Option<Start> {
        for _ in 0..LABELS_MAX {
            let Some(&[a, b, c, _]) = rest.first_chunk::<4>() else {
                self.remarks.fail("mpls.header_too_small");
                return None;
            };
            let label = u32::from(a) << 12 | u32::from(b) << 4 | u32::from(c) >> 4;
            step(rest, length, 4);
            if c & 1 == 0 {
                continue;
            }
            return match (label, rest.first().map(|byte| byte >> 4)) {
                (_, None) => {
                    self.remarks.fail("mpls.pkt_too_small");
                    None
                }
                (0, _) => Some(Start::EtherType(0x0800)),
                (1, _) => {
                    self.remarks.fail("mpls.bad_label_router_alert");
                    None
                }
                (2, _) => Some(Start::EtherType(0x86dd)),
                (3, _) => {
                    self.remarks.fail("mpls.bad_label_implicit_null");
                    None
                }
                (4..=15, _) => {
                    self.remarks.fail("mpls.bad_label_reserved");
                    None
                }
                (_, Some(4)) => Some(Start::EtherType(0x0800)),
                (_, Some(6)) => Some(Start::EtherType(0x86dd)),
                (_, Some(0)) => {
                    step(rest, length, 4);
                    Some(Start::Ethernet)
                }
                _ => Some(Start::Ethernet),
            };
        }
        self.remarks.fail("mpls.unknown_payload_type");
        None
    }

    /// A network service header (RFC 8300).
    fn nsh(&mut self, rest: &mut &'p [u8], length: &mut usize) -> Option<Start> {
        let Some(&[version, size, kind, next, ..]) = rest.first_chunk::<8>() else {
            self.remarks.fail("nsh.header_too_small");
            return None;
        };
        let words = usize::from(size & 0x3f);
        let kind = kind & 0x0f;
        if version >> 6 != 0 {
            self.remarks.fail("nsh.unsupported_version");
        } else if words * 4 > *length || words < 2 || (kind == 1 && words != 6) {
            self.remarks.fail("nsh.bad_header_length");
        } else if kind == 0 {
            self.remarks.fail("nsh.reserved_type");
        } else if kind > 2 {
            self.remarks.fail("nsh.unsupported_type");
        } else {
            step(rest, length, words * 4);
            self.has_nsh = true;
            match next {
                1 => return Some(Start::EtherType(0x0800)),
                2 => return Some(Start::EtherType(0x86dd)),
                3 => return Some(Start::Ethernet),
                4 => return Some(Start::EtherType(0x894f)),
                5 => return Some(Start::EtherType(0x8847)),
                _ => self.remarks.add("nsh.unknown_payload"),
            }
        }
        None
    }
}

/// What follows a PPP header (RFC 1332, RFC 5072).
pub(super) fn of_ppp(protocol: u16) -> Option<Start> {
    match protocol {
        0x0021 => Some(Start::EtherType(0x0800)),
        0x0057 => Some(Start::EtherType(0x86dd)),
        _ => None,
    }
}

fn step(rest: &mut &[u8], length: &mut usize, by: usize) {
    *rest = behind(rest, by);
    *length = length.saturating_sub(by);
}

fn cut(rest: &mut &[u8], length: &mut usize, to: usize) {
    *rest = first(rest, to);
    *length = to.min(*length);
}

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const QINQ_OLD: u16 = 0x9100;
/// Of network interfaces behind one (Cisco's VN-Tag), and of ports behind one (IEEE 802.1BR).
const VN_TAG: u16 = 0x8926;
const E_TAG: u16 = 0x893f;
/// Of a provider's backbone, with the customer's addresses (IEEE 802.1ah).
const I_TAG: u16 = 0x88e7;
/// Wrappers around an IP header.
const WRAPPERS_MAX: usize = 16;
/// Labels on a packet.
const LABELS_MAX: usize = 16;
