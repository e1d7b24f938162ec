//! Changes a packet's ends: addresses, ports and all checksums over them, by one addition prepared once a flow.
//!
//! RFC 1624: a checksum after a change is `~(~old + delta)`, where the delta is what was added less what was taken away.
//! It depends on the two tuples only, so it is computed when the flow is decided; of the answers it is the complement.

use super::entry::Side;
use super::key::{Address, Tuple};
use crate::packet::{Headers, L3, is_icmp_query, protocol};

/// What turning one tuple into another adds to the sums of the IPv4 header and of the upper layer.
pub fn deltas<A: Address>(from: Tuple<A>, to: Tuple<A>, proto: u8) -> [u16; 2] {
    let addresses = sum(from.src, from.dst).less_than(sum(to.src, to.dst));
    let ports = |t: Tuple<A>| match proto {
        // A query has its identifier once.
        protocol::ICMP | protocol::ICMP6 => Sum(u32::from(t.sport)),
        _ => Sum(u32::from(t.sport) + u32::from(t.dport)),
    };
    let ports = ports(from).less_than(ports(to));
    let upper = match proto {
        // No pseudo header (RFC 792).
        protocol::ICMP => ports,
        _ => addresses.plus(ports),
    };
    [addresses.fold(), upper.fold()]
}

/// Writes `to` into a packet: `data` is the frame, `h` what the parse found in it, which is brought up to date.
///
/// `deltas`: of the first side; `side`: the packet's. Cost: 5 ns; the packet's first line is written.
#[inline(always)]
pub fn rewrite<A: Address>(
    data: &mut [u8],
    h: &mut Headers,
    to: Tuple<A>,
    deltas: [u16; 2],
    side: Side,
) {
    let [ip, upper] = match side {
        Side::First => deltas,
        Side::Answer => deltas.map(|d| !d),
    };
    to.put(h);
    let (l3, l4) = (usize::from(h.l3), usize::from(h.l4));
    if A::FAMILY == L3::Ipv4 {
        let Some(header) = data.get_mut(l3..).and_then(|d| d.first_chunk_mut::<20>()) else {
            return;
        };
        let [.., c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), ip).to_be_bytes();
        [*s0, *s1, *s2, *s3] = h.src.v4();
        [*d0, *d1, *d2, *d3] = h.dst.v4();
    } else if let Some(addresses) = data.get_mut(l3 + 8..).and_then(|d| d.first_chunk_mut::<32>()) {
        let (src, dst) = addresses.split_at_mut(16);
        src.copy_from_slice(&h.src.v6());
        dst.copy_from_slice(&h.dst.v6());
    }
    // A later fragment has none.
    if l4 != 0 {
        write_upper(data, h, to, upper);
    }
}

/// Writes ends and checksum into an upper layer's header, as far as it is there: it is quoted, and may be cut.
pub fn rewrite_upper<A: Address>(
    data: &mut [u8],
    h: &mut Headers,
    to: Tuple<A>,
    deltas: [u16; 2],
    side: Side,
) {
    let [_, upper] = match side {
        Side::First => deltas,
        Side::Answer => deltas.map(|d| !d),
    };
    to.put(h);
    let has_ports = matches!(h.protocol, protocol::TCP | protocol::UDP);
    // Of TCP most errors quote eight bytes only, and not the checksum.
    if has_ports
        && let Some([s0, s1, d0, d1]) =
            data.get_mut(usize::from(h.l4)..).and_then(|d| d.first_chunk_mut::<4>())
    {
        [*s0, *s1] = to.sport.to_be_bytes();
        [*d0, *d1] = to.dport.to_be_bytes();
    }
    let end = usize::from(h.l3_end).min(data.len());
    write_upper(data.get_mut(..end).unwrap_or_default(), h, to, upper);
}

/// Writes ends and checksum into an upper layer's header.
#[inline(always)]
fn write_upper<A: Address>(data: &mut [u8], h: &Headers, to: Tuple<A>, upper: u16) {
    let Some(header) = data.get_mut(usize::from(h.l4)..) else { return };
    match h.protocol {
        protocol::TCP => {
            if let Some([s0, s1, d0, d1, .., c0, c1]) = header.first_chunk_mut::<18>() {
                [*s0, *s1] = to.sport.to_be_bytes();
                [*d0, *d1] = to.dport.to_be_bytes();
                [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), upper).to_be_bytes();
            }
        }
        protocol::UDP => {
            if let Some([s0, s1, d0, d1, _, _, c0, c1]) = header.first_chunk_mut::<8>() {
                [*s0, *s1] = to.sport.to_be_bytes();
                [*d0, *d1] = to.dport.to_be_bytes();
                let old = u16::from_be_bytes([*c0, *c1]);
                [*c0, *c1] = udp(old, upper).to_be_bytes();
            }
        }
        protocol::ICMP | protocol::ICMP6 => {
            if let Some([_, _, c0, c1, i0, i1]) = header.first_chunk_mut::<6>() {
                [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), upper).to_be_bytes();
                if is_icmp_query(h) {
                    [*i0, *i1] = to.sport.to_be_bytes();
                }
            }
        }
        // SCTP's CRC does not cover addresses, and its ports stay; others have nothing to change.
        _ => {}
    }
}

/// A UDP checksum after a change: none stays none, and 0 is written as its other form (RFC 768).
#[inline(always)]
pub fn udp(old: u16, delta: u16) -> u16 {
    if old == 0 {
        return 0;
    }
    match added(old, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

/// A checksum after a change of what it covers.
#[inline(always)]
pub fn added(checksum: u16, delta: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(delta);
    !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16)
}

#[derive(Clone, Copy)]
struct Sum(u32);

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self(u32::from(self.fold()) + u32::from(other.fold()))
    }

    /// What is added when this becomes `to`.
    fn less_than(self, to: Self) -> Self {
        Self(u32::from(!self.fold()) + u32::from(to.fold()))
    }

    fn fold(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }
}

fn sum<A: Address>(src: A, dst: A) -> Sum {
    let words = |a: A| {
        let bytes = a.wide().0;
        let (words, _) = bytes.as_chunks::<2>();
        words.iter().map(|w| u32::from(u16::from_be_bytes(*w))).sum::<u32>()
    };
    Sum(words(src) + words(dst))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::checksum::Sum as Whole;
    use crate::packet::parse;

    fn frame(v6: bool, proto: u8, t: Tuple<[u8; 16]>, payload: &[u8], with_sum: bool) -> Vec<u8> {
        let mut upper = match proto {
            protocol::TCP => {
                let mut b = vec![0; 20];
                b[12] = 0x50;
                b
            }
            protocol::UDP => {
                let mut b = vec![0; 8];
                b[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
                b
            }
            p => vec![if p == protocol::ICMP { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 1],
        };
        if matches!(proto, protocol::TCP | protocol::UDP) {
            upper[..2].copy_from_slice(&t.sport.to_be_bytes());
            upper[2..4].copy_from_slice(&t.dport.to_be_bytes());
        } else {
            upper[4..6].copy_from_slice(&t.sport.to_be_bytes());
        }
        upper.extend_from_slice(payload);
        let (src, dst): (std::net::IpAddr, std::net::IpAddr) = if v6 {
            (t.src.into(), t.dst.into())
        } else {
            (AddressOf(t.src).v4().into(), AddressOf(t.dst).v4().into())
        };
        let pseudo = if proto == protocol::ICMP {
            Whole::default()
        } else {
            Whole::of_pseudo_header(src, dst, proto, upper.len() as u32)
        };
        let at = match proto {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        };
        if with_sum {
            let mut c = Whole::of(&upper).plus(pseudo).checksum();
            if c == 0 && proto == protocol::UDP {
                c = 0xffff;
            }
            upper[at..at + 2].copy_from_slice(&c.to_be_bytes());
        }
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if v6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            f.extend((upper.len() as u16).to_be_bytes());
            f.extend([proto, 64]);
            f.extend(t.src);
            f.extend(t.dst);
        } else {
            let mut ip = vec![0x45, 0];
            ip.extend((20 + upper.len() as u16).to_be_bytes());
            ip.extend([0, 0, 0, 0, 64, proto, 0, 0]);
            ip.extend(AddressOf(t.src).v4());
            ip.extend(AddressOf(t.dst).v4());
            let c = Whole::of(&ip).checksum();
            ip[10..12].copy_from_slice(&c.to_be_bytes());
            f.extend([8, 0]);
            f.extend(ip);
        }
        f.extend(upper);
        f
    }

    struct AddressOf([u8; 16]);
    impl AddressOf {
        fn v4(&self) -> [u8; 4] {
            *self.0.first_chunk().unwrap()
        }
    }

    fn narrow(t: Tuple<[u8; 16]>) -> Tuple<[u8; 4]> {
        let v4 = |a: [u8; 16]| AddressOf(a).v4();
        Tuple { src: v4(t.src), dst: v4(t.dst), sport: t.sport, dport: t.dport }
    }

    proptest! {
        #[test]
        fn a_rewritten_packet_is_the_one_that_would_have_been_made_so(
            ends: [([u8; 16], u16); 4], payload in prop::collection::vec(any::<u8>(), 0..40),
            v6: bool, which in 0usize..3, with_sum: bool,
        ) {
            let proto = [protocol::TCP, protocol::UDP, if v6 { protocol::ICMP6 } else { protocol::ICMP }][which];
            let with_sum = with_sum || proto != protocol::UDP || v6;
            let [a, b, c, d] = ends;
            let icmp = which == 2;
            let end = |x: ([u8; 16], u16), y: ([u8; 16], u16)| Tuple {
                src: x.0, dst: y.0, sport: x.1, dport: if icmp { x.1 } else { y.1 },
            };
            let (from, to) = (end(a, b), end(c, d));
            let expected = frame(v6, proto, to, &payload, with_sum);
            let original = frame(v6, proto, from, &payload, with_sum);
            let mut data = original.clone();
            let mut h = parse(&data, data.len() as u32).unwrap();
            if v6 {
                rewrite(&mut data, &mut h, to, deltas(from, to, proto), Side::First);
            } else {
                rewrite(&mut data, &mut h, narrow(to), deltas(narrow(from), narrow(to), proto), Side::First);
            }
            // 0 has two forms in a checksum; nobody's sum differs for it.
            let wrong = data.iter().zip(&expected).filter(|(a, b)| a != b).count();
            prop_assert!(wrong == 0 || (wrong <= 4 && parse(&data, data.len() as u32).is_ok()), "{data:x?} {expected:x?}");
            prop_assert_eq!(h, parse(&data, data.len() as u32).unwrap());
            // And back, as an answer's would be.
            if v6 {
                rewrite(&mut data, &mut h, from, deltas(from, to, proto), Side::Answer);
            } else {
                rewrite(&mut data, &mut h, narrow(from), deltas(narrow(from), narrow(to), proto), Side::Answer);
            }
            let wrong = data.iter().zip(&original).filter(|(a, b)| a != b).count();
            prop_assert!(wrong <= 4, "{data:x?} {original:x?}");
        }
    }
}
