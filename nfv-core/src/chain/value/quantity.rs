//! Quantities with units: durations, sizes, rates.
//!
//! A number without a unit is an error: `timeout: 30` is seconds to one reader and milliseconds to
//! the next. Arithmetic is exact; what is no whole number of the smallest unit is an error too.
use std::fmt;
use std::time::Duration;

use super::{Scalar, ValueError};
use crate::chain::report::quoted;

/// A unit as the user writes it, and how many of the smallest unit it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    factor: u64,
}

const fn unit(name: &'static str, factor: u64) -> Unit {
    Unit { name, factor }
}

/// In nanoseconds, largest first.
pub(crate) const DURATION_UNITS: &[Unit] = &[
    unit("d", 86_400_000_000_000),
    unit("h", 3_600_000_000_000),
    unit("m", 60_000_000_000),
    unit("s", 1_000_000_000),
    unit("ms", 1_000_000),
    unit("us", 1_000),
    unit("ns", 1),
];

/// In bytes, largest first.
pub(crate) const SIZE_UNITS: &[Unit] = &[
    unit("TiB", 1 << 40),
    unit("TB", 1_000_000_000_000),
    unit("GiB", 1 << 30),
    unit("GB", 1_000_000_000),
    unit("MiB", 1 << 20),
    unit("MB", 1_000_000),
    unit("KiB", 1 << 10),
    unit("kB", 1_000),
    unit("B", 1),
];

/// In packets or bits a second, largest first; [`RateUnit::of`] tells which.
pub(crate) const RATE_UNITS: &[Unit] = &[
    unit("Gpps", 1_000_000_000),
    unit("Mpps", 1_000_000),
    unit("kpps", 1_000),
    unit("pps", 1),
    unit("Tbps", 1_000_000_000_000),
    unit("Gbps", 1_000_000_000),
    unit("Mbps", 1_000_000),
    unit("kbps", 1_000),
    unit("bps", 1),
    unit("Tbit/s", 1_000_000_000_000),
    unit("Gbit/s", 1_000_000_000),
    unit("Mbit/s", 1_000_000),
    unit("kbit/s", 1_000),
    unit("bit/s", 1),
];

impl Scalar for Duration {
    /// `250ms`, `30s`, `1.5h`: up to 100 years.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (nanoseconds, _) = amount(text, "a duration", "30s", DURATION_UNITS)?;
        Ok(Self::from_nanos(nanoseconds))
    }
}

/// Writes a duration as the chain file does: `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled(pub Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanoseconds == 0 {
            return f.write_str("0s");
        }
        spell(f, nanoseconds, DURATION_UNITS)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// A size of `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Scalar for Size {
    /// `1500B`, `2MB` (a million), `64KiB` (1,024).
    fn parse(text: &str) -> Result<Self, ValueError> {
        amount(text, "a size", "64KiB", SIZE_UNITS).map(|(bytes, _)| Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spell(f, self.0, SIZE_UNITS)
    }
}

/// What a [`Rate`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// Packets of any length.
    Packets,
    /// Bits of the frames.
    Bits,
}

impl RateUnit {
    fn of(unit: &Unit) -> Self {
        if unit.name.ends_with("pps") { Self::Packets } else { Self::Bits }
    }
}

/// Packets or bits a second: 1 to 10^12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    per_second: u64,
    unit: RateUnit,
}

impl Rate {
    /// How many a second; never 0.
    pub const fn per_second(self) -> u64 {
        self.per_second
    }

    /// How many of what.
    pub const fn unit(self) -> RateUnit {
        self.unit
    }
}

impl Scalar for Rate {
    /// `10kpps`, `1Gbps`, `500Mbit/s`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (per_second, unit) = amount(text, "a rate", "10kpps` or `1Gbps", RATE_UNITS)?;
        if !(1..=RATE_MAX).contains(&per_second) {
            let message = format!("{} is out of range", quoted(text));
            return Err(ValueError::new(message, "1 to 10^12 packets or bits a second"));
        }
        Ok(Self { per_second, unit: RateUnit::of(unit) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_of = |wanted| RATE_UNITS.iter().position(|unit| RateUnit::of(unit) == wanted);
        let units = first_of(self.unit).and_then(|at| RATE_UNITS.get(at..)).unwrap_or_default();
        spell(f, self.per_second, units)
    }
}

/// Reads `NUMBER UNIT`, exactly: how many of the smallest unit, and the unit written.
fn amount<'u>(
    text: &str,
    what: &str,
    example: &str,
    units: &'u [Unit],
) -> Result<(u64, &'u Unit), ValueError> {
    let names = || units.iter().map(|unit| unit.name).collect::<Vec<_>>().join(" ");
    let hint = || format!("write a number and a unit, `{example}`; units: {}", names());
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let name = name.trim_start_matches(' ');
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ValueError::not(text, what, hint()));
    }
    if name.is_empty() {
        return Err(ValueError::new(format!("{} has no unit", quoted(text)), hint()));
    }
    let Some(unit) = find_unit(name, units) else {
        return Err(ValueError::new(format!("{} is not a unit of {what}", quoted(name)), hint()));
    };
    match exact(number, unit.factor) {
        Ok(amount) if amount <= AMOUNT_MAX => Ok((amount, unit)),
        Ok(_) | Err(Inexact::TooLarge) => {
            Err(ValueError::new(format!("{} is too large", quoted(text)), ""))
        }
        Err(Inexact::Fraction) => {
            let smallest = units.iter().min_by_key(|unit| unit.factor).map_or("", |unit| unit.name);
            let message = format!("{} is not a whole number of {smallest}", quoted(text));
            Err(ValueError::new(message, ""))
        }
        Err(Inexact::NotANumber) => Err(ValueError::not(text, what, hint())),
    }
}

/// Exact spelling first; then another case where that can mean one thing only (`10Kpps`, `64kib`).
fn find_unit<'u>(name: &str, units: &'u [Unit]) -> Option<&'u Unit> {
    let exact = units.iter().find(|unit| unit.name == name);
    exact.or_else(|| units.iter().find(|unit| unit.name.eq_ignore_ascii_case(name)))
}

enum Inexact {
    NotANumber,
    Fraction,
    TooLarge,
}

/// `number` (digits, perhaps a point and digits) times `factor`, if that is a whole number.
fn exact(number: &str, factor: u64) -> Result<u64, Inexact> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(Inexact::NotANumber),
        Some((whole, fraction)) => (whole, fraction.trim_end_matches('0')),
        None => (number, ""),
    };
    let digits = |text: &str| match text {
        "" => Ok(0),
        text if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse::<u128>().map_err(|_| Inexact::TooLarge)
        }
        _ => Err(Inexact::NotANumber),
    };
    let exponent = u32::try_from(fraction.len()).map_err(|_| Inexact::Fraction)?;
    let scale = 10_u128.checked_pow(exponent).ok_or(Inexact::Fraction)?;
    let (whole, fraction) = (digits(whole)?, digits(fraction)?);
    let scaled = whole
        .checked_mul(scale)
        .and_then(|whole| whole.checked_add(fraction))
        .and_then(|number| number.checked_mul(u128::from(factor)))
        .ok_or(Inexact::TooLarge)?;
    if scaled % scale != 0 {
        return Err(Inexact::Fraction);
    }
    u64::try_from(scaled / scale).map_err(|_| Inexact::TooLarge)
}

/// Writes an amount in the largest unit of which it is a whole number.
fn spell(f: &mut fmt::Formatter<'_>, amount: u64, units: &[Unit]) -> fmt::Result {
    let fits = |unit: &&Unit| amount > 0 && amount.is_multiple_of(unit.factor);
    // The first 1 in the list is the smallest unit of its kind.
    let smallest = || units.iter().find(|unit| unit.factor == 1);
    match units.iter().take_while(|unit| unit.factor > 1).find(fits).or_else(smallest) {
        Some(unit) => write!(f, "{}{}", amount / unit.factor, unit.name),
        None => write!(f, "{amount}"),
    }
}

/// A century in nanoseconds; 3 EB: more is a slip of the finger.
const AMOUNT_MAX: u64 = 36_525 * 86_400_000_000_000;
const RATE_MAX: u64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_sizes_and_rates_carry_units() {
        assert_eq!(Duration::parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(Duration::parse("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(Duration::parse("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(Duration::parse("0s"), Ok(Duration::ZERO));
        assert_eq!(Size::parse("64KiB"), Ok(Size(65_536)));
        assert_eq!(Size::parse("64kib"), Ok(Size(65_536)));
        assert_eq!(Size::parse("2MB"), Ok(Size(2_000_000)));
        assert_eq!(Size::parse("1500B"), Ok(Size(1500)));
        let rate = |text| Rate::parse(text).map(|r| (r.per_second(), r.unit()));
        assert_eq!(rate("10kpps"), Ok((10_000, RateUnit::Packets)));
        assert_eq!(rate("10Kpps"), Ok((10_000, RateUnit::Packets)));
        assert_eq!(rate("1Gbps"), Ok((1_000_000_000, RateUnit::Bits)));
        assert_eq!(rate("500Mbit/s"), Ok((500_000_000, RateUnit::Bits)));
        assert_eq!(rate("1Tbps"), Ok((RATE_MAX, RateUnit::Bits)));
    }

    #[test]
    fn a_wrong_quantity_says_what_is_wrong() {
        let duration = |text: &str| Duration::parse(text).unwrap_err().message;
        assert_eq!(duration("30"), "`30` has no unit");
        assert_eq!(duration("30sec"), "`sec` is not a unit of a duration");
        assert_eq!(duration("0.1ns"), "`0.1ns` is not a whole number of ns");
        assert_eq!(duration("soon"), "`soon` is not a duration");
        assert_eq!(duration("1.s"), "`1.s` is not a duration");
        assert_eq!(duration("1.2.3s"), "`1.2.3s` is not a duration");
        assert_eq!(duration("-1s"), "`-1s` is not a duration");
        assert_eq!(duration("1000000000000d"), "`1000000000000d` is too large");
        assert!(
            duration(&format!("1.{}1s", "0".repeat(99))).ends_with("is not a whole number of ns")
        );
        assert!(duration(&format!("{}s", "9".repeat(99))).ends_with("is too large"));
        assert_eq!(Rate::parse("0pps").unwrap_err().message, "`0pps` is out of range");
        assert_eq!(Rate::parse("2Tbps").unwrap_err().message, "`2Tbps` is out of range");
        assert!(
            Duration::parse("30").unwrap_err().hint.starts_with("write a number and a unit, `30s`")
        );
    }

    proptest! {
        #[test]
        fn a_duration_survives_being_written_and_read(n in 0..=AMOUNT_MAX) {
            let duration = Duration::from_nanos(n);
            prop_assert_eq!(Duration::parse(&Spelled(duration).to_string()), Ok(duration));
        }

        #[test]
        fn a_size_survives_being_written_and_read(n in 0..=AMOUNT_MAX, zeros in 0..5_u32) {
            let size = Size(n >> (10 * zeros) << (10 * zeros));
            prop_assert_eq!(Size::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn a_rate_survives_being_written_and_read(n in 1..=RATE_MAX, zeros in 0..5_u32, bits: bool) {
            let step = 1000_u64.pow(zeros);
            let per_second = (n / step * step).max(1);
            let unit = if bits { RateUnit::Bits } else { RateUnit::Packets };
            let rate = Rate { per_second, unit };
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
        }

        #[test]
        fn no_text_makes_a_quantity_panic(text in "\\PC*|[0-9.]{0,50}[a-zA-Z/]{0,6}") {
            let _ = (Duration::parse(&text), Size::parse(&text), Rate::parse(&text));
        }
    }
}
