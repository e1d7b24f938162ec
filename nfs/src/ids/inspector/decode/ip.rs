//! IPv4 (RFC 791) and IPv6 (RFC 8200).

use nfv_core::packet::{AddressBytes, L3, protocol};

use super::{Decoded, Ip, Piece, Tunnels, behind, first};

impl<'p> Decoded<'p> {
    /// An IPv4 packet. `length`: of `bytes` on the wire.
    pub(super) fn ipv4(&mut self, bytes: &'p [u8], length: usize, tunnels: &Tunnels) {
        let Some(header) = bytes.first_chunk::<20>() else {
            return self.remarks.fail("ipv4.pkt_too_small");
        };
        let [version, _, t0, t1, i0, i1, f0, f1, _, protocol, _, _, addresses @ ..] = *header;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        if version >> 4 != 4 {
            return self.remarks.fail("ipv4.wrong_ip_version");
        }
        let header = usize::from(version & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([t0, t1]));
        if header < 20 {
            return self.remarks.fail("ipv4.hlen_too_small");
        }
        if total < header {
            return self.remarks.fail("ipv4.iplen_smaller_than_hlen");
        }
        if total > length {
            return self.remarks.fail("ipv4.trunc_pkt");
        }
        if header > 20 {
            self.ipv4_options(bytes.get(20..header).unwrap_or_default());
        }
        let network = first(bytes, total);
        let place = u16::from_be_bytes([f0, f1]);
        let piece = (place & 0x3fff != 0).then_some(Piece {
            id: u32::from(u16::from_be_bytes([i0, i1])),
            offset: (place & 0x1fff) << 3,
            has_more: place & 0x2000 != 0,
            header: header as u16,
            next_at: 9,
            next: protocol,
        });
        let ip = Ip {
            kind: L3::Ipv4,
            src: AddressBytes::of_v4([s0, s1, s2, s3]),
            dst: AddressBytes::of_v4([d0, d1, d2, d3]),
            protocol,
            network,
            rest: behind(network, header),
            rest_length: (total - header) as u32,
            piece,
        };
        if piece.is_none() && protocol == protocol::ICMP6 {
            self.remarks.fail("ipv4.icmpv6");
        }
        self.upper(ip, tunnels);
    }

    /// An IPv6 packet. `length`: of `bytes` on the wire.
    pub(super) fn ipv6(&mut self, bytes: &'p [u8], length: usize, tunnels: &Tunnels) {
        let Some(header) = bytes.first_chunk::<40>() else {
            return self.remarks.fail("ipv6.pkt_too_small");
        };
        let [version, _, _, _, p0, p1, next, _, addresses @ ..] = *header;
        if version >> 4 != 6 {
            return self.remarks.fail("ipv6.wrong_ip_version");
        }
        let total = 40 + usize::from(u16::from_be_bytes([p0, p1]));
        if total > length {
            return self.remarks.fail("ipv6.trunc_pkt");
        }
        let network = first(bytes, total);
        let [src, dst] = [addresses.first_chunk::<16>(), addresses.last_chunk::<16>()];
        let chain = self.extensions(network, total, next);
        let ip = Ip {
            kind: L3::Ipv6,
            src: AddressBytes(src.copied().unwrap_or_default()),
            dst: AddressBytes(dst.copied().unwrap_or_default()),
            protocol: chain.protocol,
            network,
            rest: behind(network, chain.end),
            rest_length: total.saturating_sub(chain.end) as u32,
            piece: chain.piece,
        };
        self.upper(ip, tunnels);
    }
}
