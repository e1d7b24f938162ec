//! Where a fragment lies in its datagram, as its header has it, and what of a datagram has been seen.

use arrayvec::ArrayVec;

use super::{Family, Refused};
use crate::packet::protocol;

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the datagram before it.
    pub offset: u32,
    /// Its own bytes, without the headers that each fragment has.
    pub length: u32,
    /// Whether none follows.
    pub last: bool,
}

/// What the header of a fragment says: identification, extent, and the protocol of what was cut.
///
/// `frame`: the bytes at hand; `l3`: where the IP header starts; `l3_end`: where the datagram ends by its own length.
/// Returns `None` for what is no fragment (an atomic one of RFC 6946 is none), or whose headers are not all at hand.
/// A first fragment's own bytes start at `l3_end - length`: with extension headers behind the fragment header, the
/// `minimum` of [`super::Fragments::first`] counts from there.
/// # Cost
/// 6 ns; IPv6: 8 ns, and about 1 ns for each more of its extension headers, at most eight.
#[inline]
pub fn read(frame: &[u8], l3: usize, l3_end: usize) -> Option<(u32, Extent, u8)> {
    let header = frame.get(l3..l3_end.min(frame.len()))?;
    let length = l3_end.checked_sub(l3)?;
    match header.first()? >> 4 {
        4 => read_ipv4(header, length),
        6 => read_ipv6(header, length),
        _ => None,
    }
}

/// `packet`: from the IP header on, what is at hand; `length`: all of it.
#[inline]
fn read_ipv4(packet: &[u8], length: usize) -> Option<(u32, Extent, u8)> {
    let &[version, _, _, _, i0, i1, f0, f1, _, protocol, ..] = packet.first_chunk::<20>()?;
    let header_length = usize::from(version & 0x0f) * 4;
    if header_length < 20 {
        return None;
    }
    let field = u16::from_be_bytes([f0, f1]);
    let (offset, more) = (u32::from(field & 0x1fff) * 8, field & 0x2000 != 0);
    let length = u32::try_from(length.checked_sub(header_length)?).ok()?;
    let extent = Extent { offset, length, last: !more };
    let id = u32::from(u16::from_be_bytes([i0, i1]));
    (offset != 0 || more).then_some((id, extent, protocol))
}

fn read_ipv6(packet: &[u8], length: usize) -> Option<(u32, Extent, u8)> {
    let &[_, _, _, _, _, _, mut next, ..] = packet.first_chunk::<40>()?;
    let mut at = 40;
    for _ in 0..EXTENSIONS_MAX {
        let header: &[u8; 8] = packet.get(at..)?.first_chunk()?;
        let &[behind, size, o0, o1, i0, i1, i2, i3] = header;
        at += match next {
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6 => (usize::from(size) + 1) * 8,
            protocol::AH => (usize::from(size) + 2) * 4,
            protocol::FRAGMENT => {
                let field = u16::from_be_bytes([o0, o1]);
                let (offset, more) = (u32::from(field & 0xfff8), field & 1 != 0);
                if offset != 0 || more {
                    let length = u32::try_from(length.checked_sub(at + 8)?).ok()?;
                    let extent = Extent { offset, length, last: !more };
                    return Some((u32::from_be_bytes([i0, i1, i2, i3]), extent, behind));
                }
                8
            }
            _ => return None,
        };
        next = behind;
    }
    None
}

impl Extent {
    /// Whether there can be such a fragment, whatever the others of its datagram are.
    #[inline]
    pub(super) fn check(self, family: Family) -> Result<(), Refused> {
        if self.length == 0 || (!self.last && !self.length.is_multiple_of(8)) {
            return Err(Refused::BadLength);
        }
        if self.offset.saturating_add(self.length) > family.data_max() {
            return Err(Refused::TooLong);
        }
        Ok(())
    }

    /// First byte, and the one behind the last.
    #[inline]
    fn span(self) -> Result<(u16, u16), Refused> {
        let end = u16::try_from(self.offset.saturating_add(self.length));
        let start = u16::try_from(self.offset);
        start.and_then(|start| end.map(|end| (start, end))).map_err(|_| Refused::TooLong)
    }
}

/// What of a datagram has been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Sorted, and none touches another.
    ranges: ArrayVec<(u16, u16), RANGES_MAX>,
    /// Of the datagram, once its last fragment has been seen.
    end: Option<u16>,
}

impl Seen {
    /// Whether a fragment fits to what has been seen.
    ///
    /// What lies wholly in one piece of that is a duplicate, also when it was cut elsewhere, as Linux has it: it goes
    /// nowhere, so there is nothing that a receiver could put together differently, and pieces can be merged.
    #[inline]
    pub(super) fn judge(&self, extent: Extent) -> Result<(), Refused> {
        let (start, end) = extent.span()?;
        let reach = self.ranges.last().map_or(0, |&(_, end)| end);
        let fits_end = match (self.end, extent.last) {
            (Some(known), true) => end == known,
            (Some(known), false) => end < known,
            // What has been seen there came with more to follow.
            (None, true) => end > reach,
            (None, false) => true,
        };
        if !fits_end {
            return Err(Refused::TwoEnds);
        }
        let mut touches = false;
        for &(from, to) in &self.ranges {
            if from <= start && end <= to {
                return Err(Refused::Duplicate);
            }
            if from < end && start < to {
                return Err(Refused::Overlap);
            }
            touches |= from == end || to == start;
        }
        if self.ranges.is_full() && !touches {
            return Err(Refused::TooScattered);
        }
        Ok(())
    }

    /// Adds a fragment that was judged to fit.
    #[inline]
    pub(super) fn add(&mut self, extent: Extent) -> Result<(), Refused> {
        let (start, end) = extent.span()?;
        // The first range that ends at its start, or behind it.
        let at = self.ranges.iter().take_while(|&&(_, to)| to < start).count();
        let right = self.ranges.get(at + 1).copied().filter(|&(from, _)| from == end);
        match self.ranges.get_mut(at) {
            Some(left) if left.1 == start => {
                left.1 = right.map_or(end, |(_, to)| to);
                if right.is_some() {
                    self.ranges.pop_at(at + 1);
                }
            }
            Some(next) if next.0 == end => next.0 = start,
            _ => {
                let added = self.ranges.try_insert(at, (start, end));
                added.map_err(|_| Refused::TooScattered)?;
            }
        }
        if extent.last {
            self.end = Some(end);
        }
        Ok(())
    }

    /// Whether all has been seen, from the start to the end.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        match (self.end, self.ranges.as_slice()) {
            (Some(end), &[(0, to)]) => to == end,
            _ => false,
        }
    }
}

/// Extension headers that are walked, the fragment header among them; the parse has as many.
const EXTENSIONS_MAX: usize = 8;

/// Pieces of a datagram between which are holes. In order there is one; each fragment that overtook others adds one.
const RANGES_MAX: usize = 16;
