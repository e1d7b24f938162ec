//! IPv6's extension headers (RFC 8200, section 4).

use nfv_core::packet::protocol;

use super::{Decoded, Piece};

/// What extension headers lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The protocol behind them.
    pub protocol: u8,
    /// Where that begins, from the IPv6 header on.
    pub end: usize,
    /// What a fragment header said.
    pub piece: Option<Piece>,
}

impl Decoded<'_> {
    /// Walks extension headers. `network`: bytes at hand from the IPv6 header on; `total`: how many there are on the wire.
    pub(super) fn extensions(&mut self, network: &[u8], total: usize, next: u8) -> Chain {
        let mut chain = Chain { protocol: next, end: 40, piece: None };
        let mut next_at = 6;
        let mut seen = Seen::default();
        for _ in 0..=EXTENSIONS_MAX {
            let kind = chain.protocol;
            if kind == NO_NEXT {
                if chain.end < total {
                    self.remarks.add("ipv6.data_after_none_header");
                }
                return chain;
            }
            if !is_extension(kind) {
                return chain;
            }
            let header = network.get(chain.end..).unwrap_or_default();
            let Some(&[next, size, third, fourth, ..]) = header.first_chunk::<8>() else {
                self.remarks.fail("ipv6.trunc_exthdr");
                return chain;
            };
            let length = match kind {
                protocol::FRAGMENT => 8,
                protocol::AH => (usize::from(size) + 2) * 4,
                _ => (usize::from(size) + 1) * 8,
            };
            if chain.end + length > total {
                self.remarks.fail("ipv6.trunc_exthdr");
                return chain;
            }
            let body = header.get(2..length).unwrap_or_default();
            match kind {
                protocol::HOP_BY_HOP => {
                    if std::mem::replace(&mut seen.hop_by_hop, true) {
                        self.remarks.add("ipv6.exthdr_dupl_hh");
                    }
                    self.ipv6_options(body, &HOP_BY_HOP);
                }
                protocol::DESTINATION_OPTIONS => {
                    seen.destination += 1;
                    if seen.destination > 2 {
                        self.remarks.add("ipv6.exthdr_dupl_dh");
                    }
                    self.ipv6_options(body, &DESTINATION);
                }
                protocol::ROUTING => {
                    if std::mem::replace(&mut seen.routing, true) {
                        self.remarks.add("ipv6.exthdr_dupl_rh");
                    }
                    // A route that the sender chooses (RFC 5095).
                    if third == 0 {
                        self.remarks.add("ipv6.rh_type_0");
                    }
                }
                protocol::AH => {
                    if std::mem::replace(&mut seen.authentication, true) {
                        self.remarks.add("ipv6.exthdr_dupl_ah");
                    }
                    if (third, fourth) != (0, 0) {
                        self.remarks.add("ipv6.exthdr_ah_res_not_null");
                    }
                }
                protocol::FRAGMENT => {
                    if size != 0 {
                        self.remarks.add("ipv6.fh_non_zero_reserved_field");
                    }
                    let place = u16::from_be_bytes([third, fourth]);
                    if chain.piece.is_some() {
                        self.remarks.add("ipv6.exthdr_dupl_fh");
                    } else if place & 0xfff9 == 0 {
                        self.remarks.add("ipv6.exthdr_useless_fh");
                    } else {
                        let id = header.get(4..).and_then(<[u8]>::first_chunk);
                        chain.piece = Some(Piece {
                            id: id.map_or(0, |id| u32::from_be_bytes(*id)),
                            offset: place & 0xfff8,
                            has_more: place & 1 != 0,
                            header: chain.end as u16,
                            next_at,
                            next,
                        });
                        chain.protocol = next;
                        chain.end += length;
                        // Behind it is a part of something: no header to walk.
                        return chain;
                    }
                }
                _ => {}
            }
            next_at = chain.end as u16;
            chain.protocol = next;
            chain.end += length;
        }
        self.remarks.fail("ipv6.trunc_exthdr");
        chain
    }

    /// The options of a header. Each is a type, a length and so many bytes; type 0 is a byte alone.
    fn ipv6_options(&mut self, options: &[u8], names: &OptionNames) {
        let mut rest = options;
        let mut is_padding = true;
        loop {
            rest = match *rest {
                [] => break,
                [0, ref behind @ ..] => behind,
                [kind, length, ref behind @ ..] => {
                    let Some(behind) = behind.get(usize::from(length)..) else {
                        return self.remarks.add("ipv6.exthdr_invalid_optlen");
                    };
                    match kind {
                        1 if length == 0 => self.remarks.add("ipv6.zero_len_padn"),
                        1 => {}
                        // Router alert, jumbo payload, home address, endpoint identification (IANA).
                        5 | 0xc2 | 0xc9 | 0x8a => is_padding = false,
                        _ => {
                            is_padding = false;
                            self.remarks.add(names.unknown);
                        }
                    }
                    behind
                }
                [_] => return self.remarks.add("ipv6.exthdr_invalid_optlen"),
            };
        }
        if is_padding {
            self.remarks.add(names.only_padding);
        }
    }
}

/// Which headers were met.
#[derive(Default)]
struct Seen {
    hop_by_hop: bool,
    routing: bool,
    authentication: bool,
    destination: u8,
}

struct OptionNames {
    unknown: &'static str,
    only_padding: &'static str,
}

fn is_extension(kind: u8) -> bool {
    matches!(
        kind,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

const HOP_BY_HOP: OptionNames =
    OptionNames { unknown: "ipv6.hopopts_unknown_opt", only_padding: "ipv6.hopopts_only_padding" };
const DESTINATION: OptionNames =
    OptionNames { unknown: "ipv6.dstopts_unknown_opt", only_padding: "ipv6.dstopts_only_padding" };
/// IANA's "no next header".
const NO_NEXT: u8 = 59;
/// Extension headers of a packet.
const EXTENSIONS_MAX: usize = 16;
