//! Where bytes that were seen before are found again: at anchors, places that their content alone chooses.
//!
//! Each eight bytes are multiplied by a secret; where the product is in one of 32 ranges alike, the 32 bytes before are an
//! anchor, wherever they stand in a packet, a flow or a protocol. The next one is behind [`APART`] bytes more, which are
//! not looked at. Found again, an anchor is compared byte by byte and grows to both sides,
//! so that a copy has no edges but the content's own. The rejected: chunks cut at such places and kept whole (FastCDC).
//! A chunk of useful size spans packets, and a packet of which only the end of one chunk is new could refer to nothing.
//! A gear hash over all bytes, in which each step waits for the one before: it takes four times the instructions.
//!
//! Source: Spring and Wetherall, A protocol-independent technique for eliminating redundant network traffic, SIGCOMM 2000
//! (anchors that grow); Aggarwal and others, EndRE, NSDI 2010 (bytes that are left out behind a place that was chosen);
//! Dietzfelbinger and others, A reliable randomized algorithm for the closest-pair problem, 1997 (one multiplication).

use siphasher::sip::SipHasher13;

/// Finds the anchors of bytes.
#[derive(Debug)]
pub struct Finder {
    factor: u64,
}

/// An anchor: its bytes end before `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Behind its last byte.
    pub end: u16,
    /// By which it is found again.
    pub print: u64,
}

impl Finder {
    /// Chooses places by a secret, so that nobody outside makes bytes without anchors, or of nothing else.
    pub fn new(secret: [u64; 2]) -> Self {
        let [a, b] = secret;
        Self { factor: SipHasher13::new_with_keys(a, b).hash(&[]) | 1 }
    }

    /// The anchors of bytes, in order.
    ///
    /// Cost: two instructions a byte.
    #[inline]
    pub fn anchors(&self, bytes: &[u8], mut found: impl FnMut(Anchor)) {
        let mut end = WINDOW;
        while let Some(behind) = bytes.get(end - EIGHT..) {
            let Some(on) = self.first(behind) else { return };
            end += on;
            let window = bytes.get(end - WINDOW..end).and_then(|w| w.as_array::<WINDOW>());
            let (Some(window), Ok(place)) = (window, u16::try_from(end)) else { return };
            found(Anchor { end: place, print: print(window) });
            end += APART;
        }
    }

    /// How many bytes are before the first eight that are chosen.
    #[inline]
    fn first(&self, bytes: &[u8]) -> Option<usize> {
        let mixed = |eight: &[u8]| match eight.first_chunk() {
            Some(eight) => u64::from_le_bytes(*eight).wrapping_mul(self.factor),
            None => u64::MAX,
        };
        // Few of four are chosen.
        let mut fours = bytes.windows(EIGHT + 3).step_by(4);
        let four = fours.position(|some| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| some.get(at..).map_or(u64::MAX, mixed));
            a.min(b).min(c.min(d)) < CHOSEN
        });
        let start = 4 * four.unwrap_or(bytes.len().saturating_sub(EIGHT - 1) / 4);
        let mut left = bytes.get(start..)?.windows(EIGHT);
        Some(start + left.position(|eight| mixed(eight) < CHOSEN)?)
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
    pub fn places(self, anchor: Anchor) -> [Option<u64>; 2] {
        self.0.map(|slot| (slot >> 40 == anchor.print >> 40).then_some(slot & LOW))
    }

    /// Whether there is any.
    #[inline]
    pub fn is_any(self, anchor: Anchor) -> bool {
        let Self([new, old]) = self;
        new >> 40 == anchor.print >> 40 || old >> 40 == anchor.print >> 40
    }
}

/// How many bytes at the start are the same.
pub fn common_start(a: &[u8], b: &[u8]) -> usize {
    let (blocks, _) = a.as_chunks::<16>();
    let same = blocks.iter().zip(b.as_chunks::<16>().0).take_while(|(a, b)| a == b).count() * 16;
    let rest = a.iter().zip(b).skip(same).take_while(|(a, b)| a == b).count();
    same + rest
}

/// How many bytes at the end are the same.
pub fn common_end(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Bytes of an anchor.
pub const WINDOW: usize = 32;
/// Bytes between two anchors' ends at least.
pub const APART: usize = 64;
/// Bytes for one anchor, on average.
#[cfg(test)]
const SPACING: usize = 96;
/// Bytes by which a place is chosen, and the products that are: one in 32.
const EIGHT: usize = 8;
const CHOSEN: u64 = 1 << 59;
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
        Finder::new([1, 2]).anchors(bytes, |anchor| all.push(anchor));
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
            both.filter(|(a, known)| {
                known.places(**a).into_iter().flatten().any(|end| right(**a, end))
            })
            .count()
        };
        assert!(hits(&all, |a, end| end == u64::from(a.end)) * 100 > all.len() * 95);
        assert_eq!(hits(&anchors(&noise(60_000, 10)), |_, _| true), 0);
    }
}
