//! Numbers that rules read from bytes: `byte_test`, `byte_jump`, `byte_extract`, `byte_math`.
//!
//! What is computed wraps at 64 bits, as Suricata's does.

use crate::ids::rules::{
    Arithmetic, ByteExtract, ByteJump, ByteMath, ByteTest, Encoding, Field, From, JumpBase,
    Operator, Presence, Value,
};

/// Where tests stand: the bytes, the end of the last match, and what was extracted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'b> {
    /// The buffer.
    pub bytes: &'b [u8],
    /// The end of the last match.
    pub position: usize,
    /// By number.
    pub variables: &'b [u64],
}

/// A number that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    value: u64,
    /// Where it began.
    from: usize,
    /// Bytes that it took.
    length: usize,
}

impl Standing<'_> {
    /// The number that a rule gives, or extracted.
    pub fn value(&self, value: Value) -> i64 {
        match value {
            Value::Number(number) => number,
            Value::Variable(number) => {
                let value = self.variables.get(usize::from(number)).copied().unwrap_or(0);
                i64::try_from(value).unwrap_or(i64::MAX)
            }
        }
    }

    fn unsigned(&self, value: Value) -> u64 {
        match value {
            Value::Number(number) => number.cast_unsigned(),
            Value::Variable(number) => {
                self.variables.get(usize::from(number)).copied().unwrap_or(0)
            }
        }
    }

    /// Whether a number compares as the rule wants.
    pub fn byte_test(&self, test: &ByteTest) -> bool {
        let Some(read) = self.read(&test.field) else { return false };
        let (value, with) = (masked(read.value, test.field.mask), self.unsigned(test.value));
        let holds = match test.operator {
            Operator::Less => value < with,
            Operator::LessOrEqual => value <= with,
            Operator::Greater => value > with,
            Operator::GreaterOrEqual => value >= with,
            Operator::Equal => value == with,
            Operator::And => value & with != 0,
            Operator::Or => value ^ with != 0,
        };
        holds == (test.presence == Presence::Present)
    }

    /// Where a jump ends; `None`: there is no number, or it ends behind the buffer.
    pub fn byte_jump(&self, jump: &ByteJump) -> Option<usize> {
        let read = self.read(&jump.field)?;
        let value = masked(read.value, jump.field.mask).wrapping_mul(jump.multiplier.into());
        let aligned = if jump.align { value.checked_next_multiple_of(4)? } else { value };
        let base = match jump.base {
            JumpBase::Field => read.from + read.length,
            JumpBase::Start => 0,
            JumpBase::End => self.bytes.len(),
        };
        let far = i64::try_from(base).ok()?.checked_add(i64::try_from(aligned).ok()?)?;
        // Before the beginning is at the beginning.
        let place = far.checked_add(self.value(jump.post_offset))?.max(0);
        usize::try_from(place).ok().filter(|place| *place < self.bytes.len())
    }

    /// What is extracted, and where it ends.
    pub fn byte_extract(&self, extract: &ByteExtract) -> Option<(u64, usize)> {
        let read = self.read(&extract.field)?;
        let value = masked(read.value, extract.field.mask).wrapping_mul(extract.multiplier.into());
        let value = match extract.align {
            Some(align) => value.checked_next_multiple_of(align.into())?,
            None => value,
        };
        Some((value, read.from + read.length))
    }

    /// What is computed, and where the number that it was computed of ends.
    pub fn byte_math(&self, math: &ByteMath) -> Option<(u64, usize)> {
        let read = self.read(&math.field)?;
        let (value, with) = (read.value, self.unsigned(math.value));
        let shift = u32::try_from(with).ok();
        let value = match math.operator {
            Arithmetic::Add => value.wrapping_add(with),
            Arithmetic::Subtract => value.wrapping_sub(with),
            Arithmetic::Multiply => value.wrapping_mul(with),
            Arithmetic::Divide => value.checked_div(with)?,
            Arithmetic::ShiftLeft => shift.and_then(|n| value.checked_shl(n)).unwrap_or(0),
            Arithmetic::ShiftRight => shift.and_then(|n| value.checked_shr(n)).unwrap_or(0),
        };
        // Of all of them this one masks what it computed, and not what it read.
        Some((masked(value, math.field.mask), read.from + read.length))
    }

    fn read(&self, field: &Field) -> Option<Read> {
        let base = match field.from {
            From::Start => 0,
            From::LastMatch => i64::try_from(self.position).ok()?,
        };
        let from = usize::try_from(base.checked_add(self.value(field.offset))?).ok()?;
        let length = usize::try_from(self.value(field.length)).ok()?;
        if length == 0 {
            return Some(Read { value: 0, from: from.min(self.bytes.len()), length });
        }
        let bytes = self.bytes.get(from..from.checked_add(length)?)?;
        let (value, length) = match field.encoding {
            Encoding::BigEndian => (big_endian(bytes.iter())?, length),
            Encoding::LittleEndian => (big_endian(bytes.iter().rev())?, length),
            Encoding::Digits(base) => digits(bytes, Some(base))?,
            Encoding::AnyDigits => digits(bytes, None)?,
        };
        Some(Read { value, from, length })
    }
}

fn big_endian<'b>(bytes: impl ExactSizeIterator<Item = &'b u8>) -> Option<u64> {
    if bytes.len() > 8 {
        return None;
    }
    Some(bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// As `strtoull` reads them: blanks, a sign, digits up to what is none. How many bytes they took, too.
fn digits(bytes: &[u8], base: Option<u32>) -> Option<(u64, usize)> {
    let is_blank = |b: &u8| matches!(b, b'\t'..=b'\r' | b' ');
    let mut at = bytes.iter().take_while(|b| is_blank(b)).count();
    let sign = bytes.get(at).copied();
    if matches!(sign, Some(b'+' | b'-')) {
        at += 1;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let is_hex = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    let prefix = matches!(rest, [b'0', b'x' | b'X', ..]) && is_hex(rest.get(2));
    let base = match (base, prefix, rest.first()) {
        (Some(16) | None, true, _) => {
            at += 2;
            16
        }
        (Some(base), _, _) => base,
        (None, false, Some(b'0')) => 8,
        (None, false, _) => 10,
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let found = rest.iter().map_while(|b| char::from(*b).to_digit(base));
    let (mut value, mut count) = (0_u64, 0);
    for digit in found {
        value = value.checked_mul(base.into())?.checked_add(digit.into())?;
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let value = if sign == Some(b'-') { value.wrapping_neg() } else { value };
    Some((value, at + count))
}

/// The bits of a mask, moved right by as many as there are zeros below its lowest.
fn masked(value: u64, mask: Option<u32>) -> u64 {
    match mask {
        Some(mask) if mask != 0 => (value & u64::from(mask)) >> mask.trailing_zeros(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_up_to_what_is_none() {
        assert_eq!(digits(b" 12a", Some(10)), Some((12, 3)));
        assert_eq!(digits(b"0x1Fg", Some(16)), Some((31, 4)));
        assert_eq!(digits(b"1f", Some(16)), Some((31, 2)));
        assert_eq!(digits(b"0x1F", None), Some((31, 4)));
        assert_eq!(digits(b"017", None), Some((15, 3)));
        assert_eq!(digits(b"019", None), Some((1, 2)));
        assert_eq!(digits(b"-1", Some(10)), Some((u64::MAX, 2)));
        assert_eq!(digits(b"a", Some(10)), None);
        assert_eq!(digits(b"", None), None);
        assert_eq!(digits(b"99999999999999999999999", Some(10)), None);
    }

    #[test]
    fn a_mask_moves_what_it_leaves_to_the_right() {
        assert_eq!(masked(0xabcd, Some(0x0ff0)), 0xbc);
        assert_eq!(masked(0xabcd, None), 0xabcd);
    }
}
