//! Inline: payloads that are made what passed before.

use nfv_core::packet::checksum::Sum;
use nfv_core::packet::protocol;

use super::Inspector;
use super::worker::{Level, address};
use crate::ids::stream::{Segment, Side, StreamId};

/// A payload that differs from what passed before, and has to say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    stream: StreamId,
    side: Side,
    seq: u32,
    /// Where in the frame the TCP header begins, and where the datagram ends.
    start: usize,
    end: usize,
    /// Bytes of the TCP header.
    header: usize,
    /// The pseudo header's sum.
    pseudo: Sum,
}

impl Rewrite {
    /// Of a frame whose segment is there in whole; `None`: it is not, and cannot be rewritten.
    pub(super) fn of(
        stream: StreamId,
        side: Side,
        segment: &Segment<'_>,
        level: &Level<'_>,
    ) -> Option<Self> {
        let ip = level.decoded.ip.as_ref()?;
        let start = ip.rest.as_ptr().addr().checked_sub(level.seen.frame.as_ptr().addr())?;
        if ip.rest.len() as u64 != u64::from(ip.rest_length) {
            return None;
        }
        let (src, dst) = (address(ip.kind, ip.src), address(ip.kind, ip.dst));
        Some(Self {
            stream,
            side,
            seq: segment.data_seq(),
            start,
            end: start + ip.rest.len(),
            header: ip.rest.len().checked_sub(segment.payload.len())?,
            pseudo: Sum::of_pseudo_header(src, dst, protocol::TCP, ip.rest_length),
        })
    }
}

impl Inspector {
    /// Puts what passed before in the place of other bytes, and mends the checksum. To be called with the very frame,
    /// before another packet is inspected. Returns how many bytes were others.
    pub fn rewrite(&self, rewrite: &Rewrite, frame: &mut [u8]) -> u32 {
        let Some(segment) = frame.get_mut(rewrite.start..rewrite.end) else { return 0 };
        let Some(payload) = segment.get_mut(rewrite.header..) else { return 0 };
        let changed = self.streams.normalize(rewrite.stream, rewrite.side, rewrite.seq, payload);
        if changed > 0 {
            set_checksum(segment, [0, 0]);
            let sum = rewrite.pseudo.plus(Sum::of(segment)).checksum();
            set_checksum(segment, sum.to_be_bytes());
        }
        changed
    }
}

fn set_checksum(segment: &mut [u8], to: [u8; 2]) {
    if let Some(place) = segment.get_mut(16..18) {
        place.copy_from_slice(&to);
    }
}
