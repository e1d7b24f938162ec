//! Names side by side, found by their hashes.

use std::hash::{BuildHasher, RandomState};

/// Domains, each of which stands for those below it.
#[derive(Debug)]
pub struct Domains {
    /// Each with its length before it.
    texts: Box<[u8]>,
    /// By hash, where a name begins, and one more; 0: none. At most half of the places are taken.
    places: Box<[u32]>,
    /// Seeded by the system: nobody outside can make names that meet.
    hash: RandomState,
}

/// A name in the form in which it is looked for: small letters, no dot behind it. `None`: it is no domain.
pub fn normal(name: &[u8]) -> Option<Vec<u8>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_letter = |b: &u8| b.is_ascii_graphic() && !b"/:@\"'\\".contains(b);
    let is_whole = !name.is_empty() && name.len() <= NAME_MAX && name.iter().all(is_letter);
    (is_whole && !name.split(|b| *b == b'.').any(<[u8]>::is_empty))
        .then(|| name.to_ascii_lowercase())
}

impl Domains {
    /// Of names in their normal form, which begin at `starts`, each with its length before it.
    pub fn of(texts: Vec<u8>, starts: &[u32]) -> Self {
        let size = (2 * starts.len()).next_power_of_two().max(2);
        let mut this =
            Self { texts: texts.into(), places: vec![0; size].into(), hash: RandomState::new() };
        for start in starts {
            let Some(name) = this.text(*start) else { continue };
            let mut place = this.place(name);
            // As many tries as places: half of them are free.
            for _ in 0..size {
                match this.places.get_mut(place) {
                    Some(free @ 0) => {
                        *free = start + 1;
                        break;
                    }
                    _ => place = (place + 1) & (size - 1),
                }
            }
        }
        this
    }

    /// Whether it has a name, or one that it is below.
    pub fn has(&self, name: &[u8]) -> bool {
        let name = name.strip_suffix(b".").unwrap_or(name);
        // Names on the wire are no longer; of a longer one, the end tells.
        let from = name.len().saturating_sub(NAME_MAX);
        let mut small = [0; NAME_MAX];
        let Some(small) = small.get_mut(..name.len() - from) else { return false };
        for (to, byte) in small.iter_mut().zip(name.get(from..).unwrap_or_default()) {
            *to = byte.to_ascii_lowercase();
        }
        let mut rest: &[u8] = small;
        // Of a name that was cut, the first label is not whole.
        let mut is_whole = from == 0;
        for _ in 0..LABELS_MAX {
            if is_whole && self.has_exactly(rest) {
                return true;
            }
            let Some(dot) = memchr::memchr(b'.', rest) else { return false };
            rest = rest.get(dot + 1..).unwrap_or_default();
            is_whole = true;
        }
        false
    }

    fn has_exactly(&self, name: &[u8]) -> bool {
        let mut place = self.place(name);
        for _ in 0..self.places.len() {
            match self.places.get(place).and_then(|start| start.checked_sub(1)) {
                None => return false,
                Some(start) if self.text(start) == Some(name) => return true,
                Some(_) => place = (place + 1) & (self.places.len() - 1),
            }
        }
        false
    }

    fn place(&self, name: &[u8]) -> usize {
        self.hash.hash_one(name) as usize & (self.places.len() - 1)
    }

    fn text(&self, start: u32) -> Option<&[u8]> {
        let (length, rest) = self.texts.get(start as usize..)?.split_first()?;
        rest.get(..usize::from(*length))
    }
}

/// Longest name (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;
/// Most labels of one.
pub const LABELS_MAX: usize = 128;
