//! Connections whose handshake was made in place of their ends: what is kept of one, and its packets' numbers.
//!
//! ```text
//!   flag::PROXIED, and in the last eight bytes of `kept`:
//!   until the server has answered     the cookie, which the client takes for the server's first number
//!   from then on                      how far the client's view of the server's numbers is from the server's
//! ```

use super::entry::{Entry, KEPT, Side, flag};
use super::key::Address;
use super::rewrite::added;
use crate::packet::checksum::Sum;
use crate::packet::tcp_build::Shift;
use crate::packet::{Headers, protocol};

/// Bytes of a flow that functions may not keep where handshakes are made.
pub const SHIFT: usize = 8;

impl<A: Address> Entry<A> {
    /// Whether it counts as half open.
    #[inline]
    pub fn is_half_open(&self) -> bool {
        self.protocol == protocol::TCP && self.is(flag::HALF_OPEN)
    }

    /// The cookie, or the shift, of a flow that is `PROXIED`.
    pub fn shift(&self) -> Shift {
        let [.., s0, s1, s2, s3, t0, t1, t2, t3] = self.kept;
        Shift {
            seq: u32::from_le_bytes([s0, s1, s2, s3]),
            timestamp: u32::from_le_bytes([t0, t1, t2, t3]),
        }
    }

    /// Keeps it.
    pub fn put_shift(&mut self, shift: Shift) {
        put_shift(&mut self.kept, shift);
    }
}

/// Keeps a shift in the bytes of a flow.
pub fn put_shift(kept: &mut [u8; KEPT], shift: Shift) {
    let (seq, timestamp) = (shift.seq.to_le_bytes(), shift.timestamp.to_le_bytes());
    for (to, from) in kept.iter_mut().skip(KEPT - SHIFT).zip(seq.into_iter().chain(timestamp)) {
        *to = from;
    }
}

/// Shifts a packet's numbers; `side`: who sent it. Without a TCP header it has none.
pub fn shift(data: &mut [u8], h: &Headers, shift: Shift, side: Side) {
    let (start, end) = (usize::from(h.l4), usize::from(h.l3_end).min(data.len()));
    let Some(tcp) = data.get_mut(start..end).filter(|_| start != 0) else { return };
    let _ = match side {
        Side::First => shift.to_server(tcp),
        Side::Answer => shift.to_client(tcp),
    };
}

/// Shifts a packet's numbers back to what they were.
pub fn unshift(data: &mut [u8], h: &Headers, by: Shift, side: Side) {
    let back = Shift { seq: by.seq.wrapping_neg(), timestamp: by.timestamp.wrapping_neg() };
    shift(data, h, back, side);
}

/// Makes the number of a server's segment what it was, in an ICMP error to it: it heeds no others (RFC 5927, section 4.1).
///
/// `h`: of the error; `inner`: of what it quotes.
pub fn unshift_quoted(data: &mut [u8], h: &Headers, inner: &Headers, by: Shift) {
    let (seq, end) = (usize::from(inner.l4) + 4, usize::from(h.l3_end).min(data.len()));
    let quote = data.get_mut(..end).unwrap_or_default();
    let Some(field) = quote.get_mut(seq..).and_then(|d| d.first_chunk_mut::<4>()) else { return };
    let before = Sum::of(field);
    *field = u32::from_be_bytes(*field).wrapping_sub(by.seq).to_be_bytes();
    let delta = before.delta_to(Sum::of(field));
    if let Some([_, _, c0, c1]) =
        quote.get_mut(usize::from(h.l4)..).and_then(|d| d.first_chunk_mut::<4>())
    {
        [*c0, *c1] = added(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_of_a_handshake_is_read_back_and_functions_have_the_rest(
            seq: u32, timestamp: u32, kept: [u8; KEPT - SHIFT],
        ) {
            let mut entry = Entry::<[u8; 4]>::new_zeroed();
            entry.kept[..KEPT - SHIFT].copy_from_slice(&kept);
            let by = Shift { seq, timestamp };
            entry.put_shift(by);
            prop_assert_eq!(entry.shift(), by);
            prop_assert_eq!(&entry.kept[..KEPT - SHIFT], &kept);
        }

        #[test]
        fn a_packet_that_is_shifted_back_is_as_it_was(
            seq: u32, timestamp: u32, mut segment: [u8; 32], l4 in 0u16..40, first: bool,
        ) {
            // A timestamp alone, as nearly all have.
            segment[12] = 0x80;
            segment[20..24].copy_from_slice(&[1, 1, 8, 10]);
            let frame = [&[0; 34][..], &segment].concat();
            let h = Headers { l4, l3_end: 66, ..Headers::default() };
            let (by, side) =
                (Shift { seq, timestamp }, if first { Side::First } else { Side::Answer });
            let mut data = frame.clone();
            shift(&mut data, &h, by, side);
            unshift(&mut data, &h, by, side);
            // 0 has two forms in a checksum.
            let differ = data.iter().zip(&frame).filter(|(a, b)| a != b).count();
            prop_assert!(differ <= 2, "{:x?} {:x?}", data, frame);
        }
    }
}
