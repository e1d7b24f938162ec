//! What the scalars of a chain file can mean: quantities with units, addresses, ports, names.
//!
//! Each type here cannot hold a wrong value. [`Scalar::parse`] makes one from the user's text or
//! says what is wrong and what to write instead; `Display` writes it as a user would, and what it
//! writes parses to the same value.
mod network;
mod quantity;

pub use network::{
    AddressRange, IcmpType, IpFamily, MacAddress, PortRange, Prefix, Protocol, ProtocolMatch,
    TcpFlagsMatch, Vlan,
};
pub(crate) use network::{ICMP_NAMES, PROTOCOL_NAMES};
pub(crate) use quantity::{DURATION_UNITS, RATE_UNITS, SIZE_UNITS, Unit};
pub use quantity::{Rate, RateUnit, Size, Spelled};

use super::report::quoted;

/// A type that one scalar of a chain file can be read as.
pub trait Scalar: Sized {
    /// Reads the text of a scalar.
    ///
    /// # Errors
    /// What is wrong with the text, to be shown at its place.
    fn parse(text: &str) -> Result<Self, ValueError>;
}

/// What is wrong with the text of a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, with the text: "`30` has no unit".
    pub message: String,
    /// What to do about it; empty when the message says it.
    pub hint: String,
}

impl std::fmt::Display for ValueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.hint.as_str() {
            "" => f.write_str(&self.message),
            hint => write!(f, "{}; {hint}", self.message),
        }
    }
}

impl ValueError {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// "`text` is not WHAT".
    pub(crate) fn not(text: &str, what: &str, hint: impl Into<String>) -> Self {
        Self::new(format!("{} is not {what}", quoted(text)), hint)
    }
}

impl Scalar for String {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::new("an empty text means nothing here", ""));
        }
        if text.chars().any(char::is_control) {
            return Err(ValueError::new("a text may not contain control characters", ""));
        }
        Ok(text.to_owned())
    }
}

impl Scalar for bool {
    /// `true` or `false` only: in YAML 1.2 `no`, `off` and `n` are words.
    fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "yes" | "y" | "on" | "1" => "write `true`",
                    "no" | "n" | "off" | "0" => "write `false`",
                    _ => "write `true` or `false`",
                };
                Err(ValueError::not(text, "true or false", hint))
            }
        }
    }
}

impl Scalar for u64 {
    /// Decimal digits only: `0x10`, `1_000`, `010` and `10.0` mean something else elsewhere.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = |hint: String| Err(ValueError::not(text, "a whole number", hint));
        let write = |number: u64| format!("write `{number}`");
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            let hex = text.strip_prefix("0x").and_then(|t| u64::from_str_radix(t, 16).ok());
            let octal = text.strip_prefix("0o").and_then(|t| u64::from_str_radix(t, 8).ok());
            let plain = text.replace(['_', ','], "");
            let plain = plain.strip_suffix(".0").unwrap_or(&plain).parse().ok();
            return wrong(hex.or(octal).or(plain).map(write).unwrap_or_default());
        }
        match text.parse() {
            Ok(number) if text.len() > 1 && text.starts_with('0') => wrong(write(number)),
            Ok(number) => Ok(number),
            Err(_) => Err(ValueError::new(format!("{} is too large", quoted(text)), "")),
        }
    }
}

/// Checks the name that the user gives to a port, function or chain.
///
/// A name becomes a label of metrics, a part of handles and a file name: small letters, digits,
/// `-` and `_`, at most 32, starting with a letter or digit.
///
/// # Errors
/// When it is not such a name.
pub fn check_name(text: &str) -> Result<(), ValueError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let sound = text.len() <= NAME_MAX
        && text.starts_with(allowed)
        && text.chars().all(|c| allowed(c) || c == '-' || c == '_');
    if sound {
        return Ok(());
    }
    let hint = "small letters, digits, `-` and `_`, at most 32, starting with a letter or digit";
    Err(ValueError::not(text, "a name", hint))
}

/// What [`check_name`] accepts, as a regular expression for the schema.
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{0,31}$";
const NAME_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_decimal_and_the_hint_says_how_to_write_others() {
        assert_eq!(u64::parse("0"), Ok(0));
        assert_eq!(u64::parse("18446744073709551615"), Ok(u64::MAX));
        for (text, hint) in [
            ("0x10", "write `16`"),
            ("0o17", "write `15`"),
            ("010", "write `10`"),
            ("1_000", "write `1000`"),
            ("10.0", "write `10`"),
            ("-1", ""),
            ("1k", ""),
            ("", ""),
            ("18446744073709551616", ""),
        ] {
            assert_eq!(u64::parse(text).unwrap_err().hint, hint, "{text}");
        }
    }

    #[test]
    fn only_true_and_false_are_flags() {
        assert_eq!(bool::parse("true"), Ok(true));
        assert_eq!(bool::parse("False"), Ok(false));
        assert_eq!(bool::parse("no").unwrap_err().hint, "write `false`");
        assert_eq!(bool::parse("on").unwrap_err().hint, "write `true`");
        assert_eq!(bool::parse("no").unwrap_err().message, "`no` is not true or false");
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["lan", "0", "a-b_c9", "no", &"a".repeat(32)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "LAN", "-a", "a b", "é", "a.b", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
