//! Makes packets ready for the ways out that are not their chain's: a station on the link, a tunnel.

use crate::burst::{Slot, Verdict};
use crate::chain::compile::Plan;
use crate::flow::{Hop, Refusal};
use crate::nf::{PortIndex, Tunnel, TunnelKind};
use crate::packet::tunnel::{Envelope, hop};
use crate::packet::{packet_hash, parse};

/// Puts a packet into a tunnel: it has the outer headers then, and a router behind this sends it to the other end.
///
/// `to`: where its chain ends, if it says so. Cost: its headers are moved and parsed again; of packets above 1,280 bytes a
/// look at the forwarding table.
///
/// # Errors
/// What becomes of the packet instead, which is as it was: it is too long, has no hop left, or no room before it.
pub(super) fn encapsulate(
    plan: &Plan,
    to: Option<PortIndex>,
    tunnel: &Tunnel,
    slot: &mut Slot<'_>,
) -> Result<(), Verdict> {
    let port = match tunnel.kind {
        TunnelKind::Ipip => None,
        TunnelKind::Gue { port } => Some(port),
    };
    let envelope = Envelope { src: tunnel.src, dst: tunnel.dst, port };
    let refuse = |why, mtu| Err(Verdict::Refuse(why, mtu));
    let (hash, overhead) = (packet_hash(slot.packet, slot.headers), envelope.overhead());
    let (l3, end) = (usize::from(slot.headers.l3), usize::from(slot.headers.l3_end));
    let length = slot.headers.l3_end.saturating_sub(slot.headers.l3);
    if length.saturating_add(overhead) > MTU_MIN {
        let room = mtu(plan, to, tunnel).saturating_sub(overhead);
        if length > room {
            return refuse(Refusal::TooBig, room);
        }
    }
    // A capture may hold less of a packet than there was.
    let end = end.min(slot.packet.data().len());
    let Some(inner) = slot.packet.data_mut().get_mut(l3..end) else {
        return refuse(Refusal::NoHeadRoom, 0);
    };
    if !hop(inner) {
        return refuse(Refusal::TtlExpired, 0);
    }
    let Some(outer) = envelope.around(inner, hash) else { return refuse(Refusal::NoHeadRoom, 0) };
    let Some(data) = slot.packet.prepend(overhead) else { return refuse(Refusal::NoHeadRoom, 0) };
    let added = usize::from(overhead);
    data.copy_within(added..added + l3, 0);
    if let Some((link, ip)) = data.split_at_mut_checked(l3) {
        if let Some(ether_type) = link.last_chunk_mut::<2>() {
            *ether_type = envelope.ether_type();
        }
        if let Some(place) = ip.get_mut(..added) {
            place.copy_from_slice(outer.bytes());
        }
    }
    if let Some(station) = tunnel.station {
        send_to(plan, to, station, slot);
    }
    if let Ok(headers) = parse(slot.packet.data(), slot.packet.len()) {
        *slot.headers = headers;
    }
    Ok(())
}

/// Addresses a packet to a station on the link where its chain ends: from the box, if it has an address there; a bump in
/// the wire leaves the sender's.
pub(super) fn send_to(plan: &Plan, to: Option<PortIndex>, station: [u8; 6], slot: &mut Slot<'_>) {
    let own = plan.routes.as_ref().zip(to).and_then(|(table, port)| table.port(port));
    let Some(macs) = slot.packet.data_mut().first_chunk_mut::<12>() else { return };
    let (dst, src) = macs.split_at_mut(6);
    dst.copy_from_slice(&station);
    if let Some(facts) = own {
        src.copy_from_slice(&facts.mac);
    }
}

/// Most bytes of an IP packet towards the other end of a tunnel.
fn mtu(plan: &Plan, to: Option<PortIndex>, tunnel: &Tunnel) -> u16 {
    let Some(table) = &plan.routes else { return ETHERNET_MTU };
    let routed = || match table.hop(table.look_up_one(tunnel.dst)) {
        Hop::Neighbour { port, .. } | Hop::Unresolved { port } => Some(port),
        _ => None,
    };
    let port = to.or_else(routed);
    port.and_then(|p| table.port(p)).map_or(ETHERNET_MTU, |facts| facts.mtu)
}

/// What every link takes that takes IPv6 (RFC 8200, section 5).
const MTU_MIN: u16 = 1280;
/// Of a port of which nothing is known, as nothing is routed.
const ETHERNET_MTU: u16 = 1500;
