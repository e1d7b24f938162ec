//! Looks for the bytes of one content.

use std::ops::Range;

use memchr::memmem;

/// Bytes to look for, prepared once.
#[derive(Debug)]
pub(super) enum Finder {
    /// As they are.
    Exact(Box<memmem::Finder<'static>>),
    /// Letters of either case.
    Caseless(Caseless),
}

/// Bytes whose letters match either case: its rarest byte is looked for, and the rest compared around it.
#[derive(Debug)]
pub(super) struct Caseless {
    pattern: Box<[u8]>,
    /// The place of its rarest byte.
    rare: usize,
    /// That byte in both cases.
    cases: [u8; 2],
}

impl Finder {
    /// For `pattern`, at least one byte.
    pub fn exact(pattern: &[u8]) -> Self {
        Self::Exact(Box::new(memmem::Finder::new(pattern).into_owned()))
    }

    /// The same, letters in either case.
    pub fn caseless(pattern: &[u8]) -> Self {
        if !pattern.iter().any(u8::is_ascii_alphabetic) {
            return Self::exact(pattern);
        }
        let rarest = pattern.iter().enumerate().min_by_key(|(_, byte)| frequency(**byte));
        let (rare, byte) = rarest.map_or((0, 0), |(place, byte)| (place, *byte));
        let cases = [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
        Self::Caseless(Caseless { pattern: pattern.into(), rare, cases })
    }

    /// How many bytes are looked for.
    pub fn len(&self) -> usize {
        match self {
            Self::Exact(finder) => finder.needle().len(),
            Self::Caseless(caseless) => caseless.pattern.len(),
        }
    }

    /// Where they begin first in `range` of `bytes`, the whole of them in it.
    ///
    /// # Cost
    /// Some 0.1 ns a byte; of letters in either case up to as many comparisons a byte as there are bytes to look for.
    pub fn find(&self, bytes: &[u8], range: Range<usize>) -> Option<usize> {
        let from = range.start;
        let part = bytes.get(range)?;
        match self {
            Self::Exact(finder) => finder.find(part).map(|place| place + from),
            Self::Caseless(caseless) => caseless.find(part).map(|place| place + from),
        }
    }

    /// Whether they are at `place` of `bytes`.
    pub fn is_at(&self, bytes: &[u8], place: usize) -> bool {
        let Some(part) = place.checked_add(self.len()).and_then(|end| bytes.get(place..end)) else {
            return false;
        };
        match self {
            Self::Exact(finder) => part == finder.needle(),
            Self::Caseless(caseless) => part.eq_ignore_ascii_case(&caseless.pattern),
        }
    }
}

impl Caseless {
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let length = self.pattern.len();
        let last = bytes.len().checked_sub(length)?;
        let [lower, upper] = self.cases;
        // Where the rarest byte may be, so that all others have room around it.
        let places = bytes.get(self.rare..=last + self.rare)?;
        let hits = memchr::memchr2_iter(lower, upper, places);
        hits.into_iter().find(|start| {
            let part = bytes.get(*start..start + length);
            part.is_some_and(|part| part.eq_ignore_ascii_case(&self.pattern))
        })
    }
}

/// How often a byte is seen in what networks carry, roughly.
fn frequency(byte: u8) -> u8 {
    match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b' ' | 0 => 5,
        b'a'..=b'z' | b'\r' | b'\n' | b'/' | b'.' | b'-' => 4,
        b'A'..=b'Z' | b'0'..=b'9' | b':' | b'=' | 0xff | 1 => 3,
        b'!'..=b'~' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_place_is_found_in_either_way_to_compare(
            pattern in prop::collection::vec(prop::sample::select(b"aAbB1\x00".to_vec()), 1..5),
            bytes in prop::collection::vec(prop::sample::select(b"aAbB1\x00".to_vec()), 0..40),
            from in 0_usize..20,
            end in 0_usize..40,
        ) {
            let end = end.min(bytes.len());
            let from = from.min(end);
            let places = (from..end).filter(|place| place + pattern.len() <= end);
            let at = |place: usize| &bytes[place..place + pattern.len()];
            let exact = places.clone().find(|place| at(*place) == pattern);
            let either = places.clone().find(|place| at(*place).eq_ignore_ascii_case(&pattern));
            prop_assert_eq!(Finder::exact(&pattern).find(&bytes, from..end), exact);
            prop_assert_eq!(Finder::caseless(&pattern).find(&bytes, from..end), either);
            for place in places {
                prop_assert_eq!(Finder::exact(&pattern).is_at(&bytes, place), at(place) == pattern);
                let is_either = at(place).eq_ignore_ascii_case(&pattern);
                prop_assert_eq!(Finder::caseless(&pattern).is_at(&bytes, place), is_either);
            }
            prop_assert!(!Finder::exact(&pattern).is_at(&bytes, bytes.len()));
        }
    }
}
