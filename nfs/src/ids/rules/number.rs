//! Numbers in rules, and what a rule asks of a number of a packet.

use std::ops::BitAnd;

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
    /// Its bits of the first are those of the second.
    Masked(T, T),
    /// Its bits of the first are others than those of the second.
    NotMasked(T, T),
}

impl<T: Copy + Ord + BitAnd<Output = T>> Compare<T> {
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
            Self::Masked(mask, value) => *number & *mask == *value,
            Self::NotMasked(mask, value) => *number & *mask != *value,
        }
    }
}

/// A type of number that rules compare.
pub(super) trait Number: Copy + Ord + BitAnd<Output = Self> {
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

/// Reads `N`, `!N`, `<N`, `<=N`, `>N`, `>=N`, `N-M`, `!N-M`, `N<>M`, `&N=M` and `&N!=M`.
pub(super) fn compare<T: Number>(text: &str, at: usize) -> Read<Compare<T>> {
    let text = text.trim_ascii();
    let one = |text: &str| number::<T>(text, at);
    if let Some(rest) = text.strip_prefix('&') {
        let (mask, value, differs) = match (rest.split_once("!="), rest.split_once('=')) {
            (Some((mask, value)), _) => (one(mask)?, one(value)?, true),
            (_, Some((mask, value))) => (one(mask)?, one(value)?, false),
            _ => return broken(at, format!("`{text}` is no `&MASK=VALUE`")),
        };
        if value & mask != value {
            return broken(at, format!("no number has these bits: `{text}`"));
        }
        let masked = if differs { Compare::NotMasked } else { Compare::Masked };
        return Ok(masked(mask, value));
    }
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

/// Reads a number, decimal or `0x` and hexadecimal, with a unit or without.
pub(super) fn number<T: Number>(text: &str, at: usize) -> Read<T> {
    let whole = text.trim_ascii();
    let (text, unit) = unit(whole);
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match digits {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    };
    match value.and_then(|value| T::of(value.checked_mul(unit)?)) {
        Some(value) => Ok(value),
        None => broken(at, format!("`{whole}` is no number, or too large a one")),
    }
}

/// `10kib` is 10 and 1024, as is `10kb`.
fn unit(text: &str) -> (&str, u64) {
    let units = [("kb", 10), ("kib", 10), ("mb", 20), ("mib", 20), ("gb", 30), ("gib", 30)];
    for (unit, bits) in units {
        if let Some((digits, end)) = text.split_at_checked(text.len().saturating_sub(unit.len()))
            && end.eq_ignore_ascii_case(unit)
            && !text.starts_with("0x")
        {
            return (digits, 1 << bits);
        }
    }
    (text, 1)
}

/// Reads a number that says its base as in C: hexadecimal behind `0x`, octal behind `0`.
pub(super) fn by_prefix(text: &str, at: usize) -> Read<u64> {
    match text.strip_prefix('0').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        Some(octal) => u64::from_str_radix(octal, 8)
            .or_else(|_| broken(at, format!("`{text}` begins with a 0, and is no octal number"))),
        None => number(text, at),
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
            ("&0x6=2", "23"),
            ("&6!=0x2", "01456789"),
        ];
        for (text, numbers) in cases {
            assert_eq!(of(text), numbers, "{text}");
        }
    }

    #[test]
    fn a_number_may_have_a_unit() {
        assert_eq!(compare::<u32>(">2KiB", 0), Ok(Compare::Greater(2048)));
        assert_eq!(compare::<u64>("3gb", 0), Ok(Compare::Equal(3 << 30)));
    }

    #[test]
    fn what_cannot_match_or_has_no_room_is_refused() {
        for text in [
            "", "256", "-1", "+1", "6<>3", "3<>4", "a", "<", "1-", "0x", "0x100", "1 2", "&1",
            "&1=2", "1kb",
        ] {
            assert!(compare::<u8>(text, 0).is_err(), "{text}");
        }
    }
}
