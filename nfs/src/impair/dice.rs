//! Dice that fall the same way each time they are thrown from the same seed.

use std::fmt;

/// Parts of a million: a chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMillion(pub u32);

impl PerMillion {
    /// Reads `0.5%`, up to `100%`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no share of packets: write it as `0.5%`, 0% to 100%");
        let number = text.strip_suffix('%').map(str::trim_end).ok_or_else(wrong)?;
        let (whole, parts) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 3
            || parts.len() > 4
            || !digits(whole)
            || !digits(parts)
        {
            return Err(wrong());
        }
        let all: u32 = format!("{whole}{parts:0<4}").parse().map_err(|_| wrong())?;
        if all > MILLION { Err(wrong()) } else { Ok(Self(all)) }
    }
}

impl fmt::Display for PerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / 10_000, self.0 % 10_000);
        let parts = format!("{parts:04}");
        match parts.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            parts => write!(f, "{whole}.{parts}%"),
        }
    }
}

/// A stream of random numbers.
///
/// # Source      SplitMix64: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Number `stream` of those of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        // Apart in the one cycle that all streams are of.
        let mut start = Self(seed ^ stream.wrapping_mul(0xa076_1d64_78bd_642f));
        Self(start.next())
    }

    /// The next number.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Whether something happens that happens so many times in a million.
    #[inline]
    pub fn hits(&mut self, per_million: u64) -> bool {
        self.below(MILLION.into()) < per_million
    }
}

const MILLION: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_exactly_and_what_is_none_is_refused() {
        for (text, value) in
            [("0%", 0), ("1%", 10_000), ("0.5%", 5_000), ("0.0001%", 1), ("100 %", 1_000_000)]
        {
            assert_eq!(PerMillion::parse(text), Ok(PerMillion(value)), "{text}");
        }
        for text in ["", "%", "1", "1.00001%", "100.1%", "-1%", "1e1%", "999%", ".5%", "0.5"] {
            assert!(PerMillion::parse(text).is_err(), "{text}");
        }
        assert_eq!(PerMillion(5_000).to_string(), "0.5%");
    }

    #[test]
    fn the_dice_fall_as_often_as_they_should_and_the_same_each_time() {
        let throws = |seed, stream| -> Vec<bool> {
            let mut dice = Dice::new(seed, stream);
            (0..100_000).map(|_| dice.hits(10_000)).collect()
        };
        let hits = throws(1, 0).iter().filter(|hit| **hit).count();
        // 1,000 expected, with a deviation of 31.
        assert!((850..1150).contains(&hits), "{hits}");
        assert_eq!(throws(1, 0), throws(1, 0));
        assert_ne!(throws(1, 0), throws(2, 0), "control: another seed falls otherwise");
        assert_ne!(throws(1, 0), throws(1, 1), "control: so does another stream");
        let mut dice = Dice::new(1, 0);
        assert!(!(0..1000).any(|_| dice.hits(0)));
        assert!((0..1000).all(|_| dice.hits(1_000_000)));
    }
}
