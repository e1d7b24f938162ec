//! Headers written as what differs from headers that were kept, without what follows from the rest.
//!
//! Lengths always follow from the packet, checksums nearly always; both are taken out before headers are kept or
//! compared ([`strip`]), and put in again behind ([`fill`]). Which of the two checksums did follow is said by two flags.

use std::net::IpAddr;

use nfv_core::packet::checksum::Sum;

/// The longest headers that are written.
pub const HEADERS_MAX: usize = 120;
/// Headers and where the upper layer's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of all headers.
    pub length: usize,
    l4: usize,
    is_v6: bool,
    protocol: u8,
}

impl Shape {
    /// Of a datagram over IPv4 or IPv6 without extension headers that carries TCP or UDP, and is none of its fragments.
    /// `None`: it is something else, or headers longer than [`HEADERS_MAX`].
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let (l4, is_v6, protocol) = match datagram.first()? >> 4 {
            4 => {
                let l4 = usize::from(datagram.first()? & 15) * 4;
                let [a, b] = *datagram.get(6..)?.first_chunk()?;
                let cut = u16::from_be_bytes([a, b]) & 0x3fff;
                (cut == 0 && l4 >= 20).then_some((l4, false, *datagram.get(9)?))?
            }
            6 => (40, true, *datagram.get(6)?),
            _ => return None,
        };
        let upper = match protocol {
            TCP => usize::from(datagram.get(l4 + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let length = l4 + upper;
        let least = if protocol == TCP { 20 } else { 8 };
        let fits = upper >= least && length <= HEADERS_MAX && length <= datagram.len();
        fits.then_some(Self { length, l4, is_v6, protocol })
    }

    /// The places of the lengths: of the network layer, and of UDP's.
    fn lengths(&self) -> [Option<usize>; 2] {
        let l3 = if self.is_v6 { 4 } else { 2 };
        [Some(l3), (self.protocol == UDP).then_some(self.l4 + 4)]
    }

    /// The places of the checksums: of the network layer, and the upper one's.
    fn sums(&self) -> [Option<usize>; 2] {
        let l4 = if self.protocol == TCP { 16 } else { 6 };
        [(!self.is_v6).then_some(10), Some(self.l4 + l4)]
    }

    /// What the lengths are, when they are right.
    fn right_lengths(&self, payload: usize) -> Option<[u16; 2]> {
        let all = self.length + payload;
        let l3 = if self.is_v6 { all - 40 } else { all };
        Some([u16::try_from(l3).ok()?, u16::try_from(all - self.l4).ok()?])
    }

    /// What the checksums are, when they are right: over headers in which they are 0.
    fn right_sums(&self, headers: &[u8], payload: &[u8]) -> Option<[u16; 2]> {
        let (network, upper) = headers.split_at_checked(self.l4)?;
        let [src, dst] = if self.is_v6 {
            let address = |at| Some(IpAddr::from(*network.get(at..)?.first_chunk::<16>()?));
            [address(8)?, address(24)?]
        } else {
            let address = |at| Some(IpAddr::from(*network.get(at..)?.first_chunk::<4>()?));
            [address(12)?, address(16)?]
        };
        let length = u32::try_from(upper.len() + payload.len()).ok()?;
        let pseudo = Sum::of_pseudo_header(src, dst, self.protocol, length);
        let l4 = pseudo.plus(Sum::of(upper)).plus(Sum::of(payload)).checksum();
        // RFC 768: 0 means that there is none.
        let l4 = if self.protocol == UDP && l4 == 0 { 0xffff } else { l4 };
        Some([Sum::of(network).checksum(), l4])
    }
}

/// Takes out of headers what follows from the rest. Returns which checksums did; `None`: a length does not, or the upper
/// layer's header is not at an even place, so that its sum would be another.
pub fn strip(shape: &Shape, headers: &mut [u8], payload: &[u8]) -> Option<[bool; 2]> {
    let lengths = shape.right_lengths(payload.len())?;
    for (place, right) in shape.lengths().into_iter().zip(lengths) {
        let Some(place) = place else { continue };
        if take(headers, place)? != right {
            return None;
        }
    }
    let mut found = [0; 2];
    for (found, place) in found.iter_mut().zip(shape.sums()) {
        *found = place.map_or(Some(0), |place| take(headers, place))?;
    }
    // A checksum is over the lengths, too.
    put_lengths(shape, headers, lengths);
    let right = shape.right_sums(headers, payload)?;
    put_lengths(shape, headers, [0; 2]);
    let mut follow = [false; 2];
    let each = found.into_iter().zip(right).zip(shape.sums()).zip(&mut follow);
    for (((found, right), place), follow) in each {
        let Some(place) = place else { continue };
        *follow = found == right;
        if !*follow {
            put(headers, place, found);
        }
    }
    Some(follow)
}

/// Puts what follows from the rest in again. `None`: the headers are not such.
pub fn fill(headers: &mut [u8], payload: &[u8], follow: [bool; 2]) -> Option<()> {
    let shape = Shape::of(headers)?;
    let lengths = shape.right_lengths(payload.len())?;
    if shape.length != headers.len() {
        return None;
    }
    put_lengths(&shape, headers, lengths);
    // Those that do not follow stand there, and are not summed.
    let mut stand = [None; 2];
    for (stand, (place, follow)) in stand.iter_mut().zip(shape.sums().into_iter().zip(follow)) {
        let (Some(place), false) = (place, follow) else { continue };
        *stand = take(headers, place);
    }
    let right = shape.right_sums(headers, payload)?;
    for ((stand, right), place) in stand.into_iter().zip(right).zip(shape.sums()) {
        if let Some(place) = place {
            put(headers, place, stand.unwrap_or(right));
        }
    }
    Some(())
}

/// Writes how headers differ from others that are as long: a bit for each byte, then the bytes. Returns how many differ.
pub fn differences(headers: &[u8], like: &[u8], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + headers.len().div_ceil(8), 0);
    for (at, (own, other)) in headers.iter().zip(like).enumerate() {
        if own != other {
            if let Some(byte) = out.get_mut(start + at / 8) {
                *byte |= 1 << (at % 8);
            }
            out.push(*own);
        }
    }
    out.len() - start - headers.len().div_ceil(8)
}

/// Makes headers of those that they are like. `None`: there are too few bytes. Returns what follows.
pub fn apply<'b>(headers: &mut [u8], bytes: &'b [u8]) -> Option<&'b [u8]> {
    let (bits, mut rest) = bytes.split_at_checked(headers.len().div_ceil(8))?;
    for (at, to) in headers.iter_mut().enumerate() {
        if bits.get(at / 8)? & (1 << (at % 8)) != 0 {
            let (first, behind) = rest.split_first()?;
            *to = *first;
            rest = behind;
        }
    }
    Some(rest)
}

fn put_lengths(shape: &Shape, headers: &mut [u8], lengths: [u16; 2]) {
    for (place, length) in shape.lengths().into_iter().zip(lengths) {
        if let Some(place) = place {
            put(headers, place, length);
        }
    }
}

/// A number, which is 0 then.
fn take(bytes: &mut [u8], place: usize) -> Option<u16> {
    let at = bytes.get_mut(place..)?.first_chunk_mut::<2>()?;
    Some(u16::from_be_bytes(std::mem::take(at)))
}

fn put(bytes: &mut [u8], place: usize, number: u16) {
    if let Some(at) = bytes.get_mut(place..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *at = number.to_be_bytes();
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wanopt::testing::{Datagram, Family, Upper};

    /// What comes out of strip and fill, and which checksums followed.
    fn there_and_back(datagram: &[u8]) -> Option<([bool; 2], Vec<u8>)> {
        let shape = Shape::of(datagram)?;
        let (headers, payload) = datagram.split_at(shape.length);
        let mut headers = headers.to_vec();
        let follow = strip(&shape, &mut headers, payload)?;
        fill(&mut headers, payload, follow).expect("it is of the same shape");
        headers.extend_from_slice(payload);
        Some((follow, headers))
    }

    #[test]
    fn what_follows_from_the_rest_is_taken_out_and_comes_back() {
        for (family, upper) in [
            (Family::V4, Upper::Tcp),
            (Family::V4, Upper::Udp),
            (Family::V6, Upper::Tcp),
            (Family::V6, Upper::Udp),
        ] {
            let mut datagram = Datagram { family, upper, ..Datagram::new(1, b"hello") }.bytes();
            let (follow, back) = there_and_back(&datagram).unwrap();
            assert_eq!(back, datagram);
            assert_eq!(follow, [family == Family::V4, true], "{family:?} {upper:?}");
            // The last byte is summed: the checksum is wrong, and stays.
            *datagram.last_mut().unwrap() ^= 1;
            let (follow, back) = there_and_back(&datagram).unwrap();
            assert_eq!(back, datagram);
            assert!(!follow[1]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_or_are_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), v6: bool, tcp: bool,
            lengths_right: bool,
        ) {
            let l4 = if v6 { 40 } else { 20 };
            let length = bytes.len() as u16;
            if let Some(first) = bytes.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            let at = if v6 { 6 } else { 9 };
            if bytes.len() > l4 + 20 {
                bytes[at] = if tcp { TCP } else { UDP };
                if !v6 {
                    bytes[6..8].fill(0);
                }
                if tcp {
                    bytes[l4 + 12] = 0x50;
                }
                if lengths_right {
                    put(&mut bytes, if v6 { 4 } else { 2 }, if v6 { length - 40 } else { length });
                    if !tcp {
                        put(&mut bytes, l4 + 4, length - l4 as u16);
                    }
                }
            }
            let back = there_and_back(&bytes);
            prop_assert!(back.is_none_or(|(_, back)| back == bytes));
            let _ = fill(&mut bytes, &[], [true; 2]);
        }

        #[test]
        fn headers_come_out_of_others_and_the_differences(a: [u8; 52], changes: Vec<(u8, u8)>, tail: Vec<u8>) {
            let mut b = a;
            for (at, to) in changes {
                b[usize::from(at) % 52] = to;
            }
            let mut out = Vec::new();
            let changed = differences(&b, &a, &mut out);
            prop_assert_eq!(changed, a.iter().zip(&b).filter(|(a, b)| a != b).count());
            out.extend_from_slice(&tail);
            let mut made = a;
            prop_assert_eq!(apply(&mut made, &out), Some(&tail[..]));
            prop_assert_eq!(made, b);
        }
    }
}
