//! The levels of a frame: packets that others carry, and datagrams that fragments make whole.

use nfv_core::packet::L3;

use super::decode::{Carried, Decoded, Start, Tunnel};
use super::worker::Level;
use super::{Answer, Inspector, Recorder, Seen, Verdict};
use crate::ids::eve::PacketSource;

/// Where a level's bytes are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of a datagram that was put together; `None`: of the frame.
    datagram: Option<usize>,
    start: usize,
    end: usize,
    length: u32,
    begins: Start,
    source: PacketSource,
    depth: u8,
}

impl Inspector {
    /// Inspects a frame of several levels, the innermost first.
    #[cold]
    pub(super) fn levels(&mut self, seen: &Seen<'_>, recorder: &mut impl Recorder) -> Verdict {
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        let mut places = vec![Place {
            datagram: None,
            start: 0,
            end: seen.frame.len(),
            length: seen.wire_length,
            begins: Start::Ethernet,
            source: PacketSource::Wire,
            depth: 0,
        }];
        let mut remarked = Vec::new();
        let mut vlans = None;
        while let Some(place) = places.last().copied()
            && places.len() <= LEVELS_MAX
        {
            let Some(bytes) = bytes_at(&place, seen.frame, &datagrams) else { break };
            let mut decoded =
                Decoded::of(place.begins, bytes, place.length, &self.settings.tunnels);
            let tags = *vlans.get_or_insert(decoded.vlans);
            if let Some(ip) = decoded.ip
                && ip.piece.is_some()
                && !decoded.remarks.is_invalid()
            {
                let whole = self.datagrams.add(
                    &ip,
                    (tags, place.depth),
                    seen.time,
                    &mut decoded.remarks,
                    &mut self.counters,
                );
                remarked.push((places.len() - 1, decoded.remarks));
                let Some(whole) = whole else { break };
                places.push(of_datagram(&place, datagrams.len(), whole.len(), ip.kind));
                datagrams.push(whole);
            } else if let Some(carried) = decoded.carried {
                let Some(inner) = of_carried(&place, bytes, &carried) else { break };
                places.push(inner);
            } else {
                break;
            }
        }
        let mut verdict: Option<Verdict> = None;
        for (number, place) in places.iter().enumerate().rev() {
            let Some(bytes) = bytes_at(place, seen.frame, &datagrams) else { continue };
            let mut decoded =
                Decoded::of(place.begins, bytes, place.length, &self.settings.tunnels);
            decoded.vlans = vlans.unwrap_or(decoded.vlans);
            if let Some((_, remarks)) = remarked.iter().find(|(of, _)| *of == number) {
                decoded.remarks = *remarks;
            }
            // The packet that carries this one; of a datagram's level its last fragment is none.
            let outer = places
                .get(..number)
                .and_then(|outer| outer.iter().rev().find(|outer| outer.depth < place.depth))
                .and_then(|outer| {
                    let bytes = bytes_at(outer, seen.frame, &datagrams)?;
                    let tunnels = &self.settings.tunnels;
                    let around = Decoded::of(outer.begins, bytes, outer.length, tunnels);
                    Some((around.ip?.src, around.ip?.dst, around, outer.source))
                });
            let level = Level {
                seen,
                decoded: &decoded,
                length: place.length,
                source: place.source,
                depth: place.depth,
                was_fragmented: place.datagram.is_some() && place.source == PacketSource::Defrag,
                outer: outer.as_ref().map(|(_, _, around, source)| (around, *source)),
                is_frame: false,
            };
            let of_level = self.level(&level, recorder);
            let answer =
                verdict.map_or(of_level.answer, |so_far| so_far.answer.and(of_level.answer));
            verdict = Some(Verdict { answer, rewrite: None });
        }
        verdict.unwrap_or(Verdict { answer: Answer::Pass, rewrite: None })
    }
}

fn bytes_at<'b>(place: &Place, frame: &'b [u8], datagrams: &'b [Vec<u8>]) -> Option<&'b [u8]> {
    let whole = match place.datagram {
        None => frame,
        Some(number) => datagrams.get(number)?,
    };
    whole.get(place.start..place.end)
}

fn of_datagram(place: &Place, number: usize, length: usize, kind: L3) -> Place {
    Place {
        datagram: Some(number),
        start: 0,
        end: length,
        length: length as u32,
        begins: Start::EtherType(if kind == L3::Ipv6 { 0x86dd } else { 0x0800 }),
        source: PacketSource::Defrag,
        depth: place.depth,
    }
}

fn of_carried(place: &Place, bytes: &[u8], carried: &Carried<'_>) -> Option<Place> {
    // Where it lies: it is a part of `bytes`.
    let at = carried.bytes.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
    let start = place.start + at;
    Some(Place {
        datagram: place.datagram,
        start,
        end: (start + carried.bytes.len()).min(place.end),
        length: carried.length,
        begins: carried.start,
        source: match carried.tunnel {
            Tunnel::Ipv4 => PacketSource::Ipv4,
            Tunnel::Ipv6 => PacketSource::Ipv6,
            Tunnel::Gre => PacketSource::Gre,
            Tunnel::Teredo => PacketSource::Teredo,
            Tunnel::Vxlan => PacketSource::Vxlan,
            Tunnel::Geneve => PacketSource::Geneve,
        },
        depth: place.depth + 1,
    })
}

/// Levels of a frame; what is below is not looked into.
const LEVELS_MAX: usize = 8;
