//! Frames of a box's own, and datagrams that take the place of others.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use nfv_core::dpdk::Packet;
use nfv_core::nf::Cx;
use nfv_core::packet::{Headers, L3, flow_hash, parse};

use super::ends::Own;
use super::outer::{Class, Path};

/// Ethernet's header with tags.
pub type Before = ArrayVec<u8, BEFORE_MAX>;
/// Bytes of that, at most.
pub const BEFORE_MAX: usize = 22;

/// Begins a frame of this box's own, with room for the outer headers.
pub fn begin(frame: &mut Vec<u8>, before: &[u8], path: &Path) {
    frame.clear();
    frame.extend_from_slice(before);
    frame.resize(before.len() + path.length(), 0);
}

/// Makes a packet of a frame whose message is behind the room for the headers.
pub fn finish(own: &mut Own, start: usize, path: &Path, cx: &Cx<'_>) -> Option<Packet> {
    let Own { frame, number } = own;
    *number = number.wrapping_add(1);
    let class = Class { traffic: 0, dont_fragment: true };
    let datagram = frame.get_mut(start..)?;
    path.fill(class, *number, datagram);
    let kind = ether_type(datagram)?;
    frame.get_mut(..start)?.last_chunk_mut::<2>()?.copy_from_slice(&kind);
    if frame.len() < SHORTEST {
        frame.resize(SHORTEST, 0);
    }
    cx.create(frame)
}

/// Makes a frame of what stands before a packet's own datagram and another one. False: that is no datagram.
pub fn whole(packet: &Packet, start: usize, datagram: &[u8], frame: &mut Vec<u8>) -> bool {
    frame.clear();
    frame.extend_from_slice(packet.data().get(..start).unwrap_or_default());
    let (Some(kind), Some(before)) = (ether_type(datagram), frame.last_chunk_mut::<2>()) else {
        return false;
    };
    *before = kind;
    frame.extend_from_slice(datagram);
    if frame.len() < SHORTEST {
        frame.resize(SHORTEST, 0);
    }
    true
}

/// Puts another datagram in the place of a packet's own. False: there is no room.
pub fn put(packet: &mut Packet, start: usize, datagram: &[u8], headers: &mut Headers) -> bool {
    let (old, end) = (packet.data().len(), start + datagram.len());
    let new = end.max(SHORTEST.min(old));
    if new > old {
        // Its bytes are right; those before are written below.
        let tail = datagram.get(old.saturating_sub(start)..).unwrap_or_default();
        if !packet.append(tail) {
            return false;
        }
    } else if !u16::try_from(old - new).is_ok_and(|off| packet.trim(off)) {
        return false;
    }
    let Some(kind) = ether_type(datagram) else { return false };
    let data = packet.data_mut();
    if let Some(before) = data.get_mut(..start).and_then(<[u8]>::last_chunk_mut::<2>) {
        *before = kind;
    }
    if let Some(to) = data.get_mut(start..end) {
        to.copy_from_slice(datagram);
    }
    if let Some(padding) = data.get_mut(end..) {
        padding.fill(0);
    }
    match parse(packet.data(), packet.len()) {
        Ok(found) => {
            *headers = found;
            // A NIC's hash is of the ends that it had.
            if packet.rss_hash().is_some() {
                packet.set_rss_hash(flow_hash(headers));
            }
            true
        }
        Err(_) => false,
    }
}

/// Ethernet's header of an answer: the stations change places. `None`: it has more tags than there is room for.
pub fn turned(before: &[u8]) -> Option<Before> {
    let (stations, rest) = before.split_first_chunk::<12>()?;
    let (dst, src) = stations.split_first_chunk::<6>()?;
    let mut turned = Before::new();
    for part in [src, dst.as_slice(), rest] {
        turned.try_extend_from_slice(part).ok()?;
    }
    Some(turned)
}

fn ether_type(datagram: &[u8]) -> Option<[u8; 2]> {
    match datagram.first()? >> 4 {
        4 => Some([0x08, 0x00]),
        6 => Some([0x86, 0xdd]),
        _ => None,
    }
}

/// An address as packets have it.
pub fn address(kind: L3, bytes: [u8; 16]) -> IpAddr {
    if kind == L3::Ipv6 {
        return bytes.into();
    }
    let [a, b, c, d, ..] = bytes;
    [a, b, c, d].into()
}

/// Ethernet's shortest frame, without its checksum.
const SHORTEST: usize = 60;
