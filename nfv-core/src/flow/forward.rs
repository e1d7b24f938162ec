//! Sends a packet to its next hop: what a router does to each one (RFC 1812, section 5; RFC 8200).

use super::hop::{Hop, HopId};
use super::routes::{RouteTable, Wanted};
use crate::clock::Time;
use crate::dpdk::Packet;
use crate::nf::Named;
use crate::packet::checksum::{Sum, updated};
use crate::packet::{Headers, IcmpError, L3};
use crate::port_index::PortIndex;

/// Why a packet with a hop goes no further; an index into [`Refusal::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    /// Its time to live ran out.
    TtlExpired,
    /// Its IPv4 header is not as it was sent.
    BadChecksum,
    /// It is longer than the link takes.
    TooBig,
    /// The neighbour's MAC address is not known yet.
    NeighbourUnresolved,
    /// Its hop is gone, or leads by another port than the chain's.
    OtherPort,
    /// A tunnel's header does not fit before it.
    NoHeadRoom,
}

impl Refusal {
    /// Names of the reasons, in their order.
    pub const NAMES: [Named; 6] = [
        Named { name: "ttl_expired", help: "its time to live, or hop limit, ran out here" },
        Named { name: "bad_checksum", help: "its IPv4 header is not as it was sent" },
        Named {
            name: "too_big",
            help: "it is longer than the MTU of the port that it would leave by",
        },
        Named {
            name: "neighbour_unresolved",
            help: "the MAC address of its next hop is not known (yet)",
        },
        Named { name: "other_port", help: "its next hop is not on the port where its chain ends" },
        Named { name: "no_head_room", help: "a tunnel's header does not fit before it" },
    ];

    /// What its sender is told.
    pub fn answer(self, headers: &Headers, mtu: u16) -> Option<IcmpError> {
        match self {
            Self::TtlExpired => Some(IcmpError::TimeExceeded),
            // Who lets routers fragment is not told; this one does not (as RFC 8200 has it for IPv6).
            Self::TooBig if headers.kind == L3::Ipv6 || headers.dont_fragment => {
                Some(IcmpError::TooBig { mtu })
            }
            _ => None,
        }
    }
}

/// Makes a packet ready to leave by its hop, and says by which port.
///
/// TTL and checksum are changed and the MAC addresses set; refused packets are as they were. `to`: the port where the
/// chain ends, if it says so. Cost: 10 ns, the packet's first line is written.
#[inline]
pub(crate) fn forward(
    table: &RouteTable,
    packet: &mut Packet,
    headers: &mut Headers,
    id: HopId,
    to: Option<PortIndex>,
) -> Result<PortIndex, (Refusal, u16)> {
    let refuse = |why| Err((why, 0));
    let (port, mac) = match table.use_hop(id) {
        Hop::Neighbour { port, mac } => (port, mac),
        Hop::Unresolved { port } if to.is_none_or(|to| to == port) => {
            return if headers.ttl > 1 {
                refuse(Refusal::NeighbourUnresolved)
            } else {
                refuse(Refusal::TtlExpired)
            };
        }
        _ => return refuse(Refusal::OtherPort),
    };
    let Some(facts) = table.port(port).filter(|_| to.is_none_or(|to| to == port)) else {
        return refuse(Refusal::OtherPort);
    };
    let Some((link, ip)) = packet.data_mut().split_at_mut_checked(usize::from(headers.l3)) else {
        return refuse(Refusal::BadChecksum);
    };
    if headers.ttl <= 1 {
        return refuse(Refusal::TtlExpired);
    }
    if headers.l3_end - headers.l3 > facts.mtu {
        return Err((Refusal::TooBig, facts.mtu));
    }
    headers.ttl -= 1;
    match headers.kind {
        L3::Ipv4 => {
            if let Some([.., ttl, protocol, c0, c1]) = ip.first_chunk_mut::<12>() {
                let word = |ttl| u16::from_be_bytes([ttl, *protocol]);
                let sum = u16::from_be_bytes([*c0, *c1]);
                [*c0, *c1] = updated(sum, word(*ttl), word(headers.ttl)).to_be_bytes();
                *ttl = headers.ttl;
            }
        }
        _ => {
            if let Some([.., hop_limit]) = ip.first_chunk_mut::<8>() {
                *hop_limit = headers.ttl;
            }
        }
    }
    if let Some(macs) = link.first_chunk_mut::<12>() {
        let ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]) = (mac, facts.mac);
        *macs = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    }
    Ok(port)
}

/// Whether an IPv4 header is as it was sent, by the NIC's word or by summing it up; before anything else is made of the
/// packet (RFC 1812, section 5.2.2). Cost: 3 ns without the NIC's word.
#[inline]
pub(crate) fn is_header_right(packet: &Packet, headers: &Headers) -> bool {
    if headers.kind != L3::Ipv4 {
        return true;
    }
    packet.ip_checksum_good().unwrap_or_else(|| {
        let ip = packet.data().get(usize::from(headers.l3)..).unwrap_or_default();
        let words = ip.first().map_or(0, |first| usize::from(first & 0x0f));
        ip.get(..4 * words).is_some_and(|header| Sum::of(header).is_right())
    })
}

/// What a worker asked about lately, so that a flood towards one silent host does not ask for each packet.
#[derive(Debug)]
pub(crate) struct Asked(Box<[(u64, Time); ASKED]>);

impl Asked {
    pub fn new() -> Self {
        Self(Box::new([(0, Time(0)); ASKED]))
    }

    /// Asks the control side about the neighbour of a hop, unless it was asked within [`ASK_AGAIN`].
    pub fn ask(&mut self, table: &RouteTable, id: HopId, headers: &Headers, now: Time) {
        let Hop::Unresolved { port } = table.hop(id) else { return };
        let destination = match headers.kind {
            L3::Ipv4 => headers.dst.v4().into(),
            _ => headers.dst.v6().into(),
        };
        let key = headers.dst.0.iter().fold(u64::from(id.0), |key, byte| {
            (key ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let Some((last, when)) = self.0.get_mut((key >> 32) as usize % ASKED) else { return };
        if *last != key || now.since(*when) >= ASK_AGAIN {
            (*last, *when) = (key, now);
            table.want(Wanted { port, hop: id, destination });
        }
    }
}

const ASKED: usize = 256;
/// Nanoseconds.
const ASK_AGAIN: u64 = 200_000_000;
