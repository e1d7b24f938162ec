//! ICMP errors: the packet that one quotes, by which it belongs to a flow, and both rewritten together.
//!
//! ```text
//!   flow:   client 10.0.0.2:4000 -> server:80, leaves as 198.51.100.1:6000 -> server:80
//!   error:  router -> 198.51.100.1 [ 198.51.100.1:6000 -> server:80 ]      belongs to the answers
//!   becomes router -> 10.0.0.2     [ 10.0.0.2:4000     -> server:80 ]
//! ```
//!
//! As RFC 5508 has it (section 4), and as Linux does: the outer destination becomes whom the error is for; the outer
//! source changes only with the answers' own source, so that no address of the inside is told outside.

use super::entry::Side;
use super::key::{Address, Tuple};
use super::rewrite::{added, rewrite_upper};
use crate::packet::checksum::Sum;
use crate::packet::{AddressBytes, Headers, L3, is_icmp_query, protocol};

/// What an error quotes: `data` is the frame, `h` an ICMP error's headers. `None`: no packet that is of a flow.
///
/// Offsets are those of the frame; a quoted packet's own lengths are not believed, as it may be cut.
/// Cost: 10 ns.
pub fn quoted(data: &[u8], h: &Headers) -> Option<Headers> {
    if h.l4 == 0 {
        return None;
    }
    let l3 = usize::from(h.l4) + 8;
    let packet = data.get(l3..usize::from(h.l3_end).min(data.len()))?;
    let mut inner = match (h.kind, packet.first()? >> 4) {
        (L3::Ipv4, 4) => quoted_v4(packet)?,
        (L3::Ipv6, 6) => quoted_v6(packet)?,
        _ => return None,
    };
    let upper = packet.get(usize::from(inner.l4)..)?;
    match inner.protocol {
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP => {
            let [s0, s1, d0, d1] = *upper.first_chunk()?;
            inner.sport = u16::from_be_bytes([s0, s1]);
            inner.dport = u16::from_be_bytes([d0, d1]);
        }
        protocol::ICMP | protocol::ICMP6 => {
            let [kind, code, _, _, i0, i1] = *upper.first_chunk()?;
            (inner.icmp_type, inner.icmp_code) = (kind, code);
            // Errors about errors are not sent (RFC 1122, section 3.2.2).
            if !is_icmp_query(&inner) {
                return None;
            }
            inner.sport = u16::from_be_bytes([i0, i1]);
            inner.dport = inner.sport;
        }
        _ => {}
    }
    inner.kind = h.kind;
    inner.vlan = h.vlan;
    inner.l3 = u16::try_from(l3).ok()?;
    inner.l4 = inner.l4.checked_add(inner.l3)?;
    inner.l3_end = h.l3_end;
    Some(inner)
}

fn quoted_v4(packet: &[u8]) -> Option<Headers> {
    let [version, _, _, _, _, _, f0, f1, ttl, protocol, _, _, addresses @ ..] =
        packet.first_chunk::<20>()?;
    let length = u16::from(version & 0x0f) * 4;
    // A later fragment has no ports.
    if length < 20 || u16::from_be_bytes([*f0, *f1]) & 0x1fff != 0 {
        return None;
    }
    let [s0, s1, s2, s3, d0, d1, d2, d3] = *addresses;
    Some(Headers {
        src: [s0, s1, s2, s3].wide(),
        dst: [d0, d1, d2, d3].wide(),
        protocol: *protocol,
        ttl: *ttl,
        l4: length,
        ..Headers::default()
    })
}

fn quoted_v6(packet: &[u8]) -> Option<Headers> {
    let header = packet.first_chunk::<40>()?;
    let address = |at: usize| header.get(at..).and_then(|h| h.first_chunk::<16>()).copied();
    let (mut next, mut at) = (*header.get(6)?, 40usize);
    for _ in 0..EXTENSIONS_MAX {
        let length = match next {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                usize::from(*packet.get(at + 1)?) * 8 + 8
            }
            protocol::FRAGMENT => {
                let [_, _, o0, o1] = *packet.get(at..)?.first_chunk()?;
                if u16::from_be_bytes([o0, o1]) & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            _ => break,
        };
        next = *packet.get(at)?;
        at += length;
    }
    Some(Headers {
        src: AddressBytes(address(8)?),
        dst: AddressBytes(address(24)?),
        protocol: next,
        ttl: *header.get(7)?,
        l4: u16::try_from(at).ok()?,
        ..Headers::default()
    })
}

/// Rewrites an error, outer and quoted packet: `to` is what an answer of its flow becomes, and `asked` what it was.
///
/// Wrong checksums stay wrong: they are brought up to date, not made anew. Cost: 20 ns, and a pass over the quote.
pub fn rewrite_error<A: Address>(
    data: &mut [u8],
    h: &mut Headers,
    inner: &mut Headers,
    (asked, to): (Tuple<A>, Tuple<A>),
    deltas: [u16; 2],
    side: Side,
) {
    let end = usize::from(h.l3_end).min(data.len());
    let icmp = usize::from(h.l4)..end;
    let before = Sum::of(data.get(icmp.clone()).unwrap_or_default());
    rewrite_upper(data, inner, to.turned(), deltas, side);
    write_addresses::<A>(data, inner);
    let after = Sum::of(data.get(icmp).unwrap_or_default());
    let mut delta = before.delta_to(after);
    let old = [h.src, h.dst];
    h.dst = to.dst.wide();
    if to.src != asked.src {
        h.src = to.src.wide();
    }
    if h.protocol == protocol::ICMP6 {
        // With its pseudo header.
        let sum = |[src, dst]: [AddressBytes; 2]| Sum::of(&src.0).plus(Sum::of(&dst.0));
        delta = Sum::of_words(&[delta, sum(old).delta_to(sum([h.src, h.dst]))]).folded();
    }
    write_addresses::<A>(data, h);
    if let Some([_, _, c0, c1]) =
        data.get_mut(usize::from(h.l4)..).and_then(|d| d.first_chunk_mut::<4>())
    {
        [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    }
}

/// Writes a header's addresses where they stand; IPv4's own checksum follows.
fn write_addresses<A: Address>(data: &mut [u8], h: &Headers) {
    let l3 = usize::from(h.l3);
    if A::FAMILY == L3::Ipv4 {
        let Some(header) = data.get_mut(l3..).and_then(|d| d.first_chunk_mut::<20>()) else {
            return;
        };
        let [.., c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let before = Sum::of(&[*s0, *s1, *s2, *s3, *d0, *d1, *d2, *d3]);
        [*s0, *s1, *s2, *s3] = h.src.v4();
        [*d0, *d1, *d2, *d3] = h.dst.v4();
        let after = Sum::of(&[*s0, *s1, *s2, *s3, *d0, *d1, *d2, *d3]);
        let delta = before.delta_to(after);
        [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    } else if let Some(addresses) = data.get_mut(l3 + 8..).and_then(|d| d.first_chunk_mut::<32>()) {
        let (src, dst) = addresses.split_at_mut(16);
        src.copy_from_slice(&h.src.v6());
        dst.copy_from_slice(&h.dst.v6());
    }
}

/// As the parse has it.
const EXTENSIONS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::rewrite::deltas;
    use crate::packet::parse;

    const OUTSIDE: [u8; 4] = [198, 51, 100, 1];
    const INSIDE: [u8; 4] = [10, 0, 0, 2];
    const SERVER: [u8; 4] = [203, 0, 113, 9];
    const ROUTER: [u8; 4] = [192, 0, 2, 1];

    fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut p = vec![0x45, 0, length[0], length[1], 0, 7, 0, 0, 64, proto, 0, 0];
        p.extend(src);
        p.extend(dst);
        let sum = Sum::of(&p).checksum().to_be_bytes();
        (p[10], p[11]) = (sum[0], sum[1]);
        p.extend(payload);
        p
    }

    fn error(to: [u8; 4], quote: &[u8]) -> Vec<u8> {
        let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
        icmp.extend(quote);
        let sum = Sum::of(&icmp).checksum().to_be_bytes();
        (icmp[2], icmp[3]) = (sum[0], sum[1]);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend(ipv4(ROUTER, to, protocol::ICMP, &icmp));
        frame
    }

    /// An error about a packet that a NAT made must become, to the byte, the one about the packet that the host sent.
    #[test]
    fn an_error_from_outside_becomes_the_one_that_the_host_would_have_got_without_a_nat() {
        let tuple = |src, sport: u16| Tuple { src, dst: SERVER, sport, dport: 80 };
        let (sent, left) = (tuple(INSIDE, 4000), tuple(OUTSIDE, 6000));
        for proto in [protocol::TCP, protocol::UDP] {
            for upper in [8usize, 20] {
                let quote = |t: Tuple<[u8; 4]>| {
                    let mut bytes = vec![0; upper];
                    bytes[..2].copy_from_slice(&t.sport.to_be_bytes());
                    bytes[2..4].copy_from_slice(&t.dport.to_be_bytes());
                    // As far as it is there, the checksum follows the ends.
                    let at = if proto == protocol::TCP { 16 } else { 6 };
                    if let Some(to) = bytes.get_mut(at..at + 2) {
                        let delta = deltas(sent, t, proto)[1];
                        to.copy_from_slice(&added(0x1234, delta).to_be_bytes());
                    }
                    ipv4(t.src, t.dst, proto, &bytes)
                };
                let mut got = error(OUTSIDE, &quote(left));
                let mut h = parse(&got, got.len() as u32).unwrap();
                let mut inner = quoted(&got, &h).unwrap();
                assert_eq!(Tuple::<[u8; 4]>::of(&inner), left);
                let answers = (left.turned(), sent.turned());
                let deltas = deltas(sent, left, proto);
                rewrite_error(&mut got, &mut h, &mut inner, answers, deltas, Side::Answer);
                assert_eq!(got, error(INSIDE, &quote(sent)), "protocol {proto}, {upper} bytes");
            }
        }
    }

    #[test]
    fn what_is_cut_or_no_packet_of_a_flow_is_none() {
        let whole = error(OUTSIDE, &ipv4(OUTSIDE, SERVER, protocol::TCP, &[0; 8]));
        let h = parse(&whole, whole.len() as u32).unwrap();
        assert!(quoted(&whole, &h).is_some());
        for end in 0..whole.len() {
            let cut = Headers { l3_end: end as u16, ..h };
            // The four bytes of the ports are needed, and no more.
            assert_eq!(quoted(&whole, &cut).is_some(), end >= 14 + 20 + 8 + 20 + 4, "{end}");
        }
        let about = |quote: &[u8]| {
            let frame = error(OUTSIDE, quote);
            quoted(&frame, &parse(&frame, frame.len() as u32).unwrap())
        };
        let mut later = ipv4(OUTSIDE, SERVER, protocol::TCP, &[0; 8]);
        later[7] = 1;
        assert_eq!(about(&later), None, "a later fragment");
        assert_eq!(about(&ipv4(OUTSIDE, SERVER, protocol::ICMP, &[3, 0, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(about(&[0x60; 40]), None, "another version of IP");
    }
}
