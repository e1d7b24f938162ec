//! Numbers in rules, and what a rule asks of a number of a packet.

use super::mistake::{Read, broken};

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare<T> {
    /// This one.
    Equal(T),
    /// Any other.
    NotEqual(T),
    /// Less than this one.
    Less(T),
    /// At most this one.
    LessOrEqual(T),
    /// More than this one.
    Greater(T),
    /// At least this one.
    GreaterOrEqual(T),
    /// More than the first and less than the second.
    Between(T, T),
    /// Not more than the first, or not less than the second.
    Outside(T, T),
}

impl<T: Ord> Compare<T> {
    /// Whether `number` is so.
    pub fn matches(&self, number: &T) -> bool {
        match self {
            Self::Equal(n) => number == n,
            Self::NotEqual(n) => number != n,
            Self::Less(n) => number < n,
            Self::LessOrEqual(n) => number <= n,
            Self::Greater(n) => number > n,
            Self::GreaterOrEqual(n) => number >= n,
            Self::Between(low, high) => number > low && number < high,
            Self::Outside(low, high) => number <= low || number >= high,
        }
    }
}

/// A type of number that rules compare.
pub(super) trait Number: Copy + Ord {
    /// The number of this value, if it has room for it.
    fn of(value: u64) -> Option<Self>;
    /// Whether a number lies between the two.
    fn apart(low: Self, high: Self) -> bool;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn of(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn apart(low: Self, high: Self) -> bool {
                high > low && high - low > 1
            }
        }
    )*};
}
number!(u8, u16, u32, u64);

/// Reads `N`, `!N`, `<N`, `<=N`, `>N`, `>=N`, `N-M`, `!N-M` and `N<>M`.
pub(super) fn compare<T: Number>(text: &str, at: usize) -> Read<Compare<T>> {
    let text = text.trim_ascii();
    let one = |text: &str| number::<T>(text, at);
    if let Some(rest) = text.strip_prefix("<=") {
        return Ok(Compare::LessOrEqual(one(rest)?));
    }
    if let Some(rest) = text.strip_prefix(">=") {
        return Ok(Compare::GreaterOrEqual(one(rest)?));
    }
    if let Some(rest) = text.strip_prefix('<') {
        return Ok(Compare::Less(one(rest)?));
    }
    if let Some(rest) = text.strip_prefix('>') {
        return Ok(Compare::Greater(one(rest)?));
    }
    let (negated, plain) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.strip_prefix('=').unwrap_or(rest)),
        None => (false, text.strip_prefix('=').unwrap_or(text)),
    };
    let range = plain.split_once("<>").or_else(|| plain.split_once('-'));
    let Some((low, high)) = range else {
        let n = one(plain)?;
        return Ok(if negated { Compare::NotEqual(n) } else { Compare::Equal(n) });
    };
    let (low, high) = (one(low)?, one(high)?);
    if !T::apart(low, high) {
        return broken(at, format!("no number is between the two of `{plain}`"));
    }
    Ok(if negated { Compare::Outside(low, high) } else { Compare::Between(low, high) })
}

/// Reads a number, decimal or `0x` and hexadecimal.
pub(super) fn number<T: Number>(text: &str, at: usize) -> Read<T> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match digits {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    };
    match value.and_then(T::of) {
        Some(value) => Ok(value),
        None => broken(at, format!("`{text}` is no number, or too large a one")),
    }
}

/// Reads a number that may have a sign.
pub(super) fn signed(text: &str, at: usize) -> Read<i64> {
    let text = text.trim_ascii();
    if text.starts_with("0x") || text.starts_with("0X") {
        let value: u64 = number(text, at)?;
        return i64::try_from(value).or_else(|_| broken(at, format!("`{text}` is too large")));
    }
    match text.parse() {
        Ok(value) => Ok(value),
        Err(_) => broken(at, format!("`{text}` is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_matches_what_it_says_and_nothing_else() {
        let of = |text| -> String {
            let compare: Compare<u8> = compare(text, 0).unwrap();
            (0..=9).filter(|n| compare.matches(n)).map(|n| n.to_string()).collect()
        };
        let cases = [
            ("3", "3"),
            ("=3", "3"),
            ("!3", "012456789"),
            ("<3", "012"),
            ("<=3", "0123"),
            ("> 6", "789"),
            (">=6", "6789"),
            ("3<>6", "45"),
            ("3-6", "45"),
            ("!3-6", "01236789"),
            ("0x3", "3"),
        ];
        for (text, numbers) in cases {
            assert_eq!(of(text), numbers, "{text}");
        }
    }

    #[test]
    fn what_cannot_match_or_has_no_room_is_refused() {
        for text in ["", "256", "-1", "+1", "6<>3", "3<>4", "a", "<", "1-", "0x", "0x100", "1 2"] {
            assert!(compare::<u8>(text, 0).is_err(), "{text}");
        }
    }
}
