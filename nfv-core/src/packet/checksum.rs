//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::IpAddr;

/// A one's complement sum of 16-bit words, not folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of bytes in network order; an odd last one counts as the high half of a word.
    ///
    /// Cost: four bytes a clock, and 16 to 32 of a whole payload.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let (front, bytes) =
            if bytes.len() < LONG { (Self(0), bytes) } else { Self::of_blocks(bytes) };
        let (pairs, rest) = bytes.as_chunks::<8>();
        let (words, rest) = rest.as_chunks::<4>();
        let pair = |pair: &[u8; 8]| {
            let pair = u64::from_be_bytes(*pair);
            (pair >> 32) + (pair & 0xffff_ffff)
        };
        let mut sum: u64 = pairs.iter().map(pair).sum();
        sum += words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum::<u64>();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum += u64::from(u32::from_be_bytes(last));
        Self(sum).plus(front)
    }

    /// The sum of whole blocks, and what is behind them. The order of bytes matters at the end only (RFC 1071, section 2).
    fn of_blocks(bytes: &[u8]) -> (Self, &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let sum = Self(sum_of(blocks)).fold();
        (Self(u64::from(u16::from_be_bytes(sum.to_ne_bytes()))), rest)
    }

    /// The sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
    pub fn of_pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: u32) -> Self {
        let address = |a| match a {
            IpAddr::V4(a) => Self::of(&a.octets()),
            IpAddr::V6(a) => Self::of(&a.octets()),
        };
        address(src).plus(address(dst)).plus(Self(u64::from(protocol) + u64::from(length)))
    }

    /// Both together.
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum: what makes the sum of all, itself included, come out as 0xffff.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether the summed bytes, which include their checksum, are as they were sent.
    #[inline]
    pub fn is_right(self) -> bool {
        self.fold() == 0xffff
    }

    /// What is added to a checksum's complement when these bytes become those that `after` is the sum of.
    #[inline]
    pub fn delta_to(self, after: Self) -> u16 {
        Self(u64::from(!self.fold()) + u64::from(after.fold())).fold()
    }

    /// The sum of words.
    #[inline]
    pub fn of_words(words: &[u16]) -> Self {
        Self(words.iter().map(|w| u64::from(*w)).sum())
    }

    /// Sixteen bits of it.
    #[inline]
    pub fn folded(self) -> u16 {
        self.fold()
    }

    #[inline]
    fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// The sum of 32-bit words in this machine's order, as many at once as the processor has room for.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn sum_of(blocks: &[[u8; BLOCK]]) -> u64 {
    let mut lanes = [0; BLOCK / 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum()
}

/// Bytes that are added at once.
const BLOCK: usize = 64;
/// From so many bytes on, blocks are worth it.
const LONG: usize = 128;

/// The checksum after one 16-bit word of what it covers changed (RFC 1624, equation 3).
#[inline]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 3.
    #[test]
    fn the_example_of_the_rfc_sums_as_it_says() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    /// RFC 1624, section 4: the case in which RFC 1141's equation goes wrong.
    #[test]
    fn the_update_of_the_rfc_comes_out_as_it_says() {
        assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn an_update_is_what_a_new_sum_would_be(mut bytes: [u8; 20], at in 0usize..9, to: u16) {
            // The last word is the checksum's place.
            bytes[18..].fill(0);
            let before = Sum::of(&bytes).checksum();
            let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            bytes[2 * at..2 * at + 2].copy_from_slice(&to.to_be_bytes());
            let (new, full) = (updated(before, old, to), Sum::of(&bytes).checksum());
            // 0 has two forms; both are right.
            prop_assert!(new == full || (new ^ full) == 0xffff && (new == 0 || full == 0), "{new:x} {full:x}");
        }

        #[test]
        fn a_long_sum_is_that_of_its_parts(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let parts = bytes.chunks(64).map(Sum::of).fold(Sum::default(), Sum::plus);
            prop_assert_eq!(Sum::of(&bytes).folded(), parts.folded());
        }

        #[test]
        fn any_bytes_with_their_checksum_are_right_and_not_with_a_bit_flipped(
            mut bytes in prop::collection::vec(any::<u8>(), 2..100), bit in 0usize..800,
        ) {
            bytes[..2].fill(0);
            let checksum = Sum::of(&bytes).checksum();
            bytes[..2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(Sum::of(&bytes).is_right());
            let at = bit % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(!Sum::of(&bytes).is_right());
        }
    }
}
