//! Where bytes that were seen before are found again: at anchors, places that their content alone chooses.
//!
//! A gear hash runs over the bytes; where it is one of 64 values in 4,096 the 32 bytes before are an anchor, wherever
//! they stand in a packet, a flow or a protocol. Found again, an anchor is compared byte by byte and grows to both sides,
//! so that a copy has no edges but the content's own. The rejected: chunks cut at such places and kept whole (FastCDC).
//! A chunk of useful size spans packets, and a packet of which only the end of one chunk is new could refer to nothing.
//!
//! Source: Xia and others, FastCDC, ATC 2016 (the gear hash); Spring and Wetherall, A protocol-independent technique for
//! eliminating redundant network traffic, SIGCOMM 2000 (anchors that grow).

use siphasher::sip::SipHasher13;

/// Finds the anchors of bytes.
#[derive(Debug)]
pub struct Gear {
    table: [u32; 256],
}

/// An anchor: its bytes end before `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Behind its last byte.
    pub end: u16,
    /// By which it is found again.
    pub print: u64,
}

impl Gear {
    /// Chooses places by a secret, so that nobody outside makes bytes without anchors, or of nothing else.
    pub fn new(secret: [u64; 2]) -> Self {
        let [a, b] = secret;
        let hasher = SipHasher13::new_with_keys(a, b);
        let word = |n: u8| hasher.hash(&[n]) as u32;
        Self { table: std::array::from_fn(|n| word(u8::try_from(n).unwrap_or(0))) }
    }

    /// The anchors of bytes, in order; at most one in [`APART`] bytes.
    ///
    /// Cost: 1 ns a byte.
    #[inline]
    pub fn anchors(&self, bytes: &[u8], mut found: impl FnMut(Anchor)) {
        let (mut hash, mut last) = (0u32, 0);
        // The index is below 256, as the table is long.
        let gear = |byte: u8| self.table.get(usize::from(byte)).copied().unwrap_or(0);
        // A byte has left the hash after 32 more: it is of the window alone.
        let mut look = |hash: u32, end: usize| {
            if hash >> 26 != 0 || end < WINDOW || end < last + APART {
                return;
            }
            let window = bytes.get(end - WINDOW..end).and_then(|w| w.as_array::<WINDOW>());
            if let (Some(window), Ok(place)) = (window, u16::try_from(end)) {
                last = end;
                found(Anchor { end: place, print: print(window) });
            }
        };
        let (blocks, rest) = bytes.as_chunks::<4>();
        for (n, block) in blocks.iter().enumerate() {
            let hashes = block.map(|byte| {
                hash = (hash << 1).wrapping_add(gear(byte));
                hash
            });
            // Few blocks of four have an anchor.
            let [a, b, c, d] = hashes;
            if a.min(b).min(c.min(d)) >> 26 == 0 {
                for (end, hash) in (4 * n + 1..).zip(hashes) {
                    look(hash, end);
                }
            }
        }
        for (end, byte) in (4 * blocks.len() + 1..).zip(rest) {
            hash = (hash << 1).wrapping_add(gear(*byte));
            look(hash, end);
        }
    }
}

/// What is kept of an anchor's bytes.
#[inline]
fn print(window: &[u8; WINDOW]) -> u64 {
    let (words, _) = window.as_chunks::<8>();
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |sum: u64, word| {
        let product = u128::from(sum ^ u64::from_le_bytes(*word)) * 0xa076_1d64_78bd_642f_u128;
        (product >> 64) as u64 ^ product as u64
    })
}

/// By their prints: where anchors are in the log. Two at each place of the table; the older one makes room.
///
/// Cost: one cache line a look.
#[derive(Debug)]
pub struct Index {
    /// The print's upper 24 bits, and the place's lower 40.
    slots: Box<[[u64; 2]]>,
}

impl Index {
    /// For about so many anchors.
    pub fn new(anchors: usize) -> Self {
        let slots = (anchors / 2).max(1).next_power_of_two();
        Self { slots: vec![[0; 2]; slots].into() }
    }

    /// Adds an anchor that ends at a place.
    #[inline]
    pub fn add(&mut self, print: u64, end: u64) {
        let slot = self.slot(print);
        if let Some([new, old]) = self.slots.get_mut(slot) {
            // The decoder may not have the newer one yet, nor ever.
            *old = *new;
            *new = (print & !LOW) | (end & LOW);
        }
    }

    /// Looks anchors up: what is known of each, in order. The looks do not wait for each other.
    #[inline]
    pub fn look_up(&self, anchors: &[Anchor], found: &mut Vec<Known>) {
        found.clear();
        let known = |anchor: &Anchor| self.slots.get(self.slot(anchor.print)).copied();
        found.extend(anchors.iter().map(|anchor| Known(known(anchor).unwrap_or_default())));
    }

    #[inline]
    fn slot(&self, print: u64) -> usize {
        // As many as a power of two.
        usize::try_from(print).unwrap_or(0) & (self.slots.len() - 1)
    }
}

/// What is known of an anchor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known([u64; 2]);

impl Known {
    /// Where it ended, as written: the lower 40 bits. Not sure: it has to be compared.
    #[inline]
    pub fn places(self, anchor: Anchor) -> impl Iterator<Item = u64> {
        let Self(slots) = self;
        let same = move |s: &u64| *s != 0 && *s >> 40 == anchor.print >> 40;
        slots.into_iter().filter(same).map(|s| s & LOW)
    }
}

/// Bytes of an anchor.
pub const WINDOW: usize = 32;
/// Bytes between two anchors' ends at least, for bytes that are all alike.
pub const APART: usize = 16;
/// Bytes for one anchor, on average.
pub const SPACING: usize = 64;
const LOW: u64 = (1 << 40) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn anchors(bytes: &[u8]) -> Vec<Anchor> {
        let mut all = Vec::new();
        Gear::new([1, 2]).anchors(bytes, |anchor| all.push(anchor));
        all
    }

    #[test]
    fn anchors_are_where_the_content_is_however_it_is_cut() {
        let bytes = noise(20_000, 7);
        let whole = anchors(&bytes);
        let share = bytes.len() / whole.len();
        assert!((SPACING * 3 / 4..SPACING * 3 / 2).contains(&share), "{share} bytes an anchor");
        let cut = anchors(&bytes[1111..]);
        let prints: Vec<u64> = whole.iter().map(|a| a.print).collect();
        let again = cut.iter().filter(|a| prints.contains(&a.print)).count();
        assert!(again + 2 >= cut.len(), "{again} of {}", cut.len());
    }

    #[test]
    fn bytes_that_are_all_alike_have_few_anchors() {
        for byte in 0..=255 {
            assert!(anchors(&[byte; 1500]).len() <= 1500 / APART);
        }
    }

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let mut index = Index::new(1 << 12);
        let all = anchors(&noise(60_000, 9));
        for anchor in &all {
            index.add(anchor.print, u64::from(anchor.end));
        }
        let mut found = Vec::new();
        let mut hits = |anchors: &[Anchor], right: fn(Anchor, u64) -> bool| {
            index.look_up(anchors, &mut found);
            let both = anchors.iter().zip(&found);
            both.filter(|(a, known)| known.places(**a).any(|end| right(**a, end))).count()
        };
        assert!(hits(&all, |a, end| end == u64::from(a.end)) * 100 > all.len() * 95);
        assert_eq!(hits(&anchors(&noise(60_000, 10)), |_, _| true), 0);
    }
}
