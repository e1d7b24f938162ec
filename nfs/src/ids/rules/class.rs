//! Classes of bytes in PCRE's language: `[...]` and `\d` and its like, and single bytes behind a `\`.

use std::fmt::Write;

/// A set of bytes, and whether it is all but those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    bits: [u64; 4],
    /// Kept apart, because letters of either case are added to the bytes before they are taken out.
    negated: bool,
}

/// At which byte of the expression what is wrong.
pub(super) type Wrong = (usize, &'static str);

impl Set {
    const EMPTY: Self = Self { bits: [0; 4], negated: false };

    fn of(is_in: impl Fn(u8) -> bool) -> Self {
        let mut set = Self::EMPTY;
        for byte in (0..=u8::MAX).filter(|b| is_in(*b)) {
            set.add_range(byte, byte);
        }
        set
    }

    fn has(&self, byte: u8) -> bool {
        self.bits.get(usize::from(byte / 64)).is_some_and(|bits| bits >> (byte % 64) & 1 == 1)
    }

    /// That of `\d`, `\W` and the others; `None`: `\` and this byte is none.
    pub fn of_escape(byte: u8) -> Option<Self> {
        let set = match byte.to_ascii_lowercase() {
            b'd' => Self::of(|b| b.is_ascii_digit()),
            b'w' => Self::of(|b| b.is_ascii_alphanumeric() || b == b'_'),
            b's' => Self::of(|b| matches!(b, b'\t'..=b'\r' | b' ')),
            b'h' => Self::of(|b| matches!(b, b'\t' | b' ' | 0xa0)),
            b'v' => Self::of(|b| matches!(b, b'\n'..=b'\r' | 0x85)),
            _ => return None,
        };
        Some(Self { negated: byte.is_ascii_uppercase(), ..set })
    }

    /// That of `[:name:]`.
    fn of_name(name: &[u8]) -> Option<Self> {
        let (negated, name) = match name.strip_prefix(b"^") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let set = match name {
            b"alnum" => Self::of(|b| b.is_ascii_alphanumeric()),
            b"alpha" => Self::of(|b| b.is_ascii_alphabetic()),
            b"ascii" => Self::of(|b| b.is_ascii()),
            b"blank" => Self::of(|b| matches!(b, b'\t' | b' ')),
            b"cntrl" => Self::of(|b| b.is_ascii_control()),
            b"digit" => Self::of(|b| b.is_ascii_digit()),
            b"graph" => Self::of(|b| b.is_ascii_graphic()),
            b"lower" => Self::of(|b| b.is_ascii_lowercase()),
            b"print" => Self::of(|b| b.is_ascii_graphic() || b == b' '),
            b"punct" => Self::of(|b| b.is_ascii_punctuation()),
            b"space" => Self::of(|b| matches!(b, b'\t'..=b'\r' | b' ')),
            b"upper" => Self::of(|b| b.is_ascii_uppercase()),
            b"word" => Self::of(|b| b.is_ascii_alphanumeric() || b == b'_'),
            b"xdigit" => Self::of(|b| b.is_ascii_hexdigit()),
            _ => return None,
        };
        Some(Self { negated, ..set })
    }

    fn add(&mut self, other: &Self) {
        for (own, new) in self.bits.iter_mut().zip(other.bits) {
            *own |= if other.negated { !new } else { new };
        }
    }

    fn add_range(&mut self, first: u8, last: u8) {
        for byte in first..=last {
            if let Some(bits) = self.bits.get_mut(usize::from(byte / 64)) {
                *bits |= 1 << (byte % 64);
            }
        }
    }

    /// In the words of both engines.
    pub fn write(&self, out: &mut String) {
        out.push('[');
        if self.negated {
            out.push('^');
        }
        let mut open = false;
        for byte in 0..=u8::MAX {
            match (open, self.has(byte)) {
                (false, true) => {
                    let _ = write!(out, r"\x{byte:02x}-");
                    open = true;
                }
                (true, false) => {
                    let _ = write!(out, r"\x{:02x}", byte - 1);
                    open = false;
                }
                _ => {}
            }
        }
        if open {
            *out += r"\xff";
        }
        out.push(']');
    }
}

/// PCRE2 refuses what PCRE took for a `-`.
const NO_RANGE: &str = "a range from or to what is no single byte: write `\\-`";

/// An item of a class.
enum Item {
    Byte(u8),
    Set(Set),
    /// `\E`, or an empty `\Q\E`.
    Nothing,
}

/// Reads the class whose `[` is before `start`: what it is, and where it ends.
pub(super) fn read(pattern: &[u8], start: usize) -> Result<(Set, usize), Wrong> {
    let mut set = Set::EMPTY;
    let mut at = start;
    if pattern.get(at) == Some(&b'^') {
        set.negated = true;
        at += 1;
    }
    let first = at;
    loop {
        match pattern.get(at) {
            None => return Err((start.saturating_sub(1), "a `[` without its `]`")),
            // The first is no end: `[]a]`.
            Some(b']') if at > first => return Ok((set, at + 1)),
            _ => {}
        }
        if pattern.get(at..).is_some_and(|rest| rest.starts_with(br"\Q")) {
            let quoted = pattern.get(at + 2..).unwrap_or_default();
            let end = quoted.windows(2).position(|w| w == br"\E").unwrap_or(quoted.len());
            for byte in quoted.iter().take(end) {
                set.add_range(*byte, *byte);
            }
            at = (at + 2 + end + 2).min(pattern.len());
            continue;
        }
        let (read, end) = item(pattern, at)?;
        at = end;
        let low = match read {
            Item::Byte(byte) => byte,
            Item::Set(other) => {
                set.add(&other);
                let behind = pattern.get(at..).unwrap_or_default();
                if behind.starts_with(b"-") && !behind.starts_with(b"-]") {
                    return Err((at, NO_RANGE));
                }
                continue;
            }
            Item::Nothing => continue,
        };
        // `a-z` is a range; `a-]` is two bytes.
        let dash = pattern.get(at) == Some(&b'-');
        let high = match pattern.get(at + 1) {
            None | Some(b']') => None,
            Some(_) if dash => match item(pattern, at + 1)? {
                (Item::Byte(high), end) => Some((high, end)),
                _ => return Err((at, NO_RANGE)),
            },
            Some(_) => None,
        };
        match high {
            Some((high, _)) if high < low => {
                return Err((at, "a range whose end is before its beginning"));
            }
            Some((high, end)) => {
                set.add_range(low, high);
                at = end;
            }
            None => set.add_range(low, low),
        }
    }
}

fn item(pattern: &[u8], at: usize) -> Result<(Item, usize), Wrong> {
    let rest = pattern.get(at..).unwrap_or_default();
    match rest {
        [b'[', b':', name @ ..] => {
            let end = name.iter().take(10).position(|b| *b == b':');
            let closed = end.filter(|end| name.get(end + 1) == Some(&b']'));
            let Some(end) = closed else { return Ok((Item::Byte(b'['), at + 1)) };
            match Set::of_name(name.get(..end).unwrap_or_default()) {
                Some(set) => Ok((Item::Set(set), at + 2 + end + 2)),
                None => Err((at, "a class of a name that is not known")),
            }
        }
        [b'\\', b'b', ..] => Ok((Item::Byte(8), at + 2)),
        [b'\\', b'E', ..] => Ok((Item::Nothing, at + 2)),
        [b'\\', byte, ..] => match Set::of_escape(*byte) {
            Some(set) => Ok((Item::Set(set), at + 2)),
            None => escaped_byte(pattern, at + 1).map(|(byte, end)| (Item::Byte(byte), end)),
        },
        [byte, ..] => Ok((Item::Byte(*byte), at + 1)),
        [] => Err((at, "a `[` without its `]`")),
    }
}

/// The byte that a `\` and what stands at `at` mean, and where that ends.
pub(super) fn escaped_byte(pattern: &[u8], at: usize) -> Result<(u8, usize), Wrong> {
    let rest = pattern.get(at..).unwrap_or_default();
    let Some((first, rest)) = rest.split_first() else { return Err((at, "a `\\` at the end")) };
    let digits = |text: &[u8], base: u32| {
        let value = text.iter().try_fold(0_u32, |value, b| {
            value.checked_mul(base)?.checked_add(char::from(*b).to_digit(base)?)
        });
        value.and_then(|v| u8::try_from(v).ok())
    };
    let braced = |rest: &[u8], base| {
        let end = rest.iter().position(|b| *b == b'}')?;
        Some((digits(rest.get(1..end)?, base)?, end + 1))
    };
    let run = |rest: &[u8], base: u32, most: usize| {
        let length = rest.iter().take(most).take_while(|b| char::from(**b).is_digit(base)).count();
        digits(rest.get(..length).unwrap_or_default(), base).map(|value| (value, length))
    };
    let (byte, length) = match first {
        b'x' if rest.first() == Some(&b'{') => {
            braced(rest, 16).ok_or((at, "`\\x{...}` is no byte"))?
        }
        b'x' => run(rest, 16, 2).ok_or((at, "`\\x` is no byte"))?,
        b'o' if rest.first() == Some(&b'{') => {
            braced(rest, 8).ok_or((at, "`\\o{...}` is no byte"))?
        }
        b'0'..=b'7' => {
            let most = if *first == b'0' { 2 } else { 3 };
            let from = if *first == b'0' { rest } else { pattern.get(at..).unwrap_or_default() };
            let (byte, length) = run(from, 8, most).ok_or((at, "an octal number is no byte"))?;
            (byte, if *first == b'0' { length } else { length - 1 })
        }
        b'c' => match rest.first() {
            Some(control) if control.is_ascii() => (control.to_ascii_uppercase() ^ 0x40, 1),
            _ => return Err((at, "`\\c` without its letter")),
        },
        b'a' => (7, 0),
        b'e' => (27, 0),
        b'f' => (12, 0),
        b'n' => (10, 0),
        b'r' => (13, 0),
        b't' => (9, 0),
        other if other.is_ascii_alphanumeric() => {
            return Err((at, "a letter behind `\\` that means nothing"));
        }
        other => (*other, 0),
    };
    Ok((byte, at + 1 + length))
}
