//! The headers between the boxes: IP, and UDP where the network wants ports.

use std::net::IpAddr;
use std::ops::Range;

use nfv_core::packet::checksum::Sum;

/// In what messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// UDP, to this port.
    Udp(u16),
    /// A protocol number of IP's.
    Ip(u8),
}

/// What an outer header says of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// DSCP and ECN.
    pub traffic: u8,
    /// Whether routers may not fragment it.
    pub dont_fragment: bool,
}

/// One box's end of the path to another.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// This box.
    pub local: IpAddr,
    /// The other one, of the same family.
    pub peer: IpAddr,
    /// In what messages travel.
    pub over: Over,
    /// Added to UDP's source port: one number a worker, so that what it sends stays together.
    pub instance: u8,
}

impl Path {
    /// How many bytes go before a message.
    pub const fn length(&self) -> usize {
        let ip = if self.local.is_ipv4() { 20 } else { 40 };
        match self.over {
            Over::Udp(_) => ip + 8,
            Over::Ip(_) => ip,
        }
    }

    /// Writes the headers before a message, for which there is room at the front of `datagram`.
    pub fn fill(&self, class: Class, number: u16, datagram: &mut [u8]) {
        let (all, own) = (datagram.len(), self.length());
        let Some((headers, message)) = datagram.split_at_mut_checked(own) else { return };
        headers.fill(0);
        let protocol = match self.over {
            Over::Udp(_) => UDP,
            Over::Ip(number) => number,
        };
        let ip = match (self.local, self.peer) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let Some(ip) = headers.first_chunk_mut::<20>() else { return };
                let [a, b] = short(all);
                let [c, d] = number.to_be_bytes();
                let fragment = if class.dont_fragment { 0x40 } else { 0 };
                *ip.first_chunk_mut::<10>().unwrap_or(&mut [0; 10]) =
                    [0x45, class.traffic, a, b, c, d, fragment, 0, TTL, protocol];
                let addresses = src.octets().into_iter().chain(dst.octets());
                ip.iter_mut().skip(12).zip(addresses).for_each(|(to, from)| *to = from);
                let [a, b] = Sum::of(ip).checksum().to_be_bytes();
                ip.iter_mut().skip(10).zip([a, b]).for_each(|(to, from)| *to = from);
                20
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let [a, b] = short(all - 40);
                let traffic = class.traffic;
                let first = [0x60 | traffic >> 4, traffic << 4, 0, 0, a, b, protocol, TTL];
                let addresses = src.octets().into_iter().chain(dst.octets());
                let bytes = first.into_iter().chain(addresses);
                headers.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                40
            }
            // The configuration has seen that they are of one family.
            _ => return,
        };
        let Over::Udp(port) = self.over else { return };
        let Some(udp) = headers.get_mut(ip..).and_then(<[u8]>::first_chunk_mut::<8>) else {
            return;
        };
        let ([a, b], [c, d]) = (self.source_port(port).to_be_bytes(), port.to_be_bytes());
        let length = all - ip;
        let [e, f] = short(length);
        *udp = [a, b, c, d, e, f, 0, 0];
        let length = u32::try_from(length).unwrap_or(0);
        let pseudo = Sum::of_pseudo_header(self.local, self.peer, UDP, length);
        let sum = pseudo.plus(Sum::of(udp)).plus(Sum::of(message)).checksum();
        let [g, h] = if sum == 0 { 0xffffu16 } else { sum }.to_be_bytes();
        *udp = [a, b, c, d, e, f, g, h];
    }

    const fn source_port(&self, port: u16) -> u16 {
        port.wrapping_add(self.instance as u16)
    }
}

/// Where the message is in a datagram that is for a box, and whether it is a fragment. `None`: it has none.
pub fn message(datagram: &[u8], over: Over) -> Option<Range<usize>> {
    let (ip, protocol) = match datagram.first()? >> 4 {
        4 => (usize::from(datagram.first()? & 15) * 4, *datagram.get(9)?),
        6 => (40, *datagram.get(6)?),
        _ => return None,
    };
    let all = datagram.len();
    match over {
        Over::Udp(port) => {
            let udp = datagram.get(ip..)?.first_chunk::<8>()?;
            let [_, _, c, d, e, f, _, _] = *udp;
            let length = usize::from(u16::from_be_bytes([e, f]));
            let is_ours = protocol == UDP && u16::from_be_bytes([c, d]) == port;
            (is_ours && length >= 8 && ip + length <= all).then_some(ip + 8..ip + length)
        }
        Over::Ip(number) => (protocol == number && ip <= all).then_some(ip..all),
    }
}

/// What its network header says of a datagram's class.
pub fn class(datagram: &[u8]) -> Option<Class> {
    let [first, second] = *datagram.first_chunk()?;
    match first >> 4 {
        4 => {
            let dont_fragment = datagram.get(6)? & 0x40 != 0;
            Some(Class { traffic: second, dont_fragment })
        }
        6 => Some(Class { traffic: first << 4 | second >> 4, dont_fragment: true }),
        _ => None,
    }
}

/// Carries the mark of congestion that a message got on its way over to the packet that came out of it. False: the packet's
/// sender does not know such marks, and it is to be dropped instead.
///
/// # Source      RFC 6040, section 4.2
pub fn carry_congestion(outer: Class, datagram: &mut [u8]) -> bool {
    let Some(inner) = class(datagram) else { return false };
    if outer.traffic & CE != CE || inner.traffic & CE == CE {
        return true;
    }
    if inner.traffic & CE == 0 {
        return false;
    }
    let is_v4 = datagram.first().is_some_and(|b| b >> 4 == 4);
    if !is_v4 {
        if let Some(byte) = datagram.get_mut(1) {
            *byte |= CE << 4;
        }
        return true;
    }
    let length = datagram.first().map_or(0, |b| usize::from(b & 15) * 4);
    let Some(header) = datagram.get_mut(..length) else { return false };
    let was_right = Sum::of(header).is_right();
    if let Some(byte) = header.get_mut(1) {
        *byte |= CE;
    }
    if was_right {
        header.iter_mut().skip(10).take(2).for_each(|byte| *byte = 0);
        let sum = Sum::of(header).checksum().to_be_bytes();
        header.iter_mut().skip(10).zip(sum).for_each(|(to, from)| *to = from);
    }
    true
}

/// Lengths of datagrams are below 65,536.
fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

const UDP: u8 = 17;
const TTL: u8 = 64;
/// Both bits of ECN: congestion was met.
const CE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(local: &str, peer: &str, over: Over) -> Path {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        Path { local, peer, over, instance: 2 }
    }

    #[test]
    fn a_message_is_found_behind_its_headers_which_are_right() {
        for (over, other) in [(Over::Udp(8047), Over::Udp(8048)), (Over::Ip(253), Over::Ip(254))] {
            for path in [path("10.0.0.1", "10.0.0.2", over), path("fd00::1", "fd00::2", over)] {
                let mut datagram = vec![0xee; path.length()];
                datagram.extend(b"message");
                let sent = Class { traffic: 0xb9, dont_fragment: true };
                path.fill(sent, 7, &mut datagram);
                let found = message(&datagram, over).unwrap();
                assert_eq!(&datagram[found.clone()], b"message");
                assert_eq!(class(&datagram), Some(sent));
                assert_eq!(message(&datagram, other), None);
                for n in 0..datagram.len() {
                    let cut = message(&datagram[..n], over);
                    assert!(cut.is_none_or(|range| range.end <= n));
                }
                if path.local.is_ipv4() {
                    assert!(Sum::of(&datagram[..20]).is_right());
                }
                if over == Over::Udp(8047) {
                    let ip = path.length() - 8;
                    let length = (datagram.len() - ip) as u32;
                    let pseudo = Sum::of_pseudo_header(path.local, path.peer, UDP, length);
                    assert!(pseudo.plus(Sum::of(&datagram[ip..])).is_right());
                }
            }
        }
    }

    #[test]
    fn congestion_on_the_way_is_told_to_who_asked_to_hear_of_it() {
        use crate::wanopt::testing::{Datagram, Family};
        let met = Class { traffic: CE, dont_fragment: true };
        for family in [Family::V4, Family::V6] {
            let plain = Datagram { family, ..Datagram::new(1, b"x") }.bytes();
            let mut marked = plain.clone();
            assert!(!carry_congestion(met, &mut marked), "the sender does not take marks");
            assert_eq!(marked, plain);
            // ECT(0).
            let mut able = plain.clone();
            able[1] |= if family == Family::V4 { 2 } else { 2 << 4 };
            if family == Family::V4 {
                able[10..12].fill(0);
                let sum = Sum::of(&able[..20]).checksum().to_be_bytes();
                able[10..12].copy_from_slice(&sum);
            }
            let before = able.clone();
            assert!(carry_congestion(Class { traffic: 2, ..met }, &mut able));
            assert_eq!(able, before, "control: there was none");
            assert!(carry_congestion(met, &mut able));
            assert_eq!(class(&able).unwrap().traffic & CE, CE);
            if family == Family::V4 {
                assert!(Sum::of(&able[..20]).is_right());
            }
        }
    }
}
