//! PCRE's language in the words of the two engines that stand for it.
//!
//! What they share is written the same; what they read differently is written out: a class becomes its ranges of bytes,
//! `$` becomes what PCRE means by it, a literal its number. Flags but `i` and `U` are resolved here. No recursion: groups
//! are on a stack.

use std::fmt::Write;

use super::class::{self, Set};
use super::regex::Flags;

/// For which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `regex-automata` without Unicode.
    Automaton,
    /// `fancy-regex` on characters that are bytes.
    Backtracking,
}

/// An expression for an engine.
#[derive(Debug)]
pub(super) struct Translated {
    pub text: String,
    pub names: Vec<(Box<str>, usize)>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// PCRE refuses it at this byte.
    Wrong(usize, String),
    /// Neither engine has this.
    Beyond(String),
    /// [`Dialect::Automaton`] only: it takes one that backtracks.
    NotRegular,
}

/// Translates an expression. O(n).
pub(super) fn translate(
    pattern: &[u8],
    flags: Flags,
    dialect: Dialect,
) -> Result<Translated, Refused> {
    let mut translator = Translator {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() * 2),
        dialect,
        flags,
        around: Vec::new(),
        groups: 0,
        reference_max: 0,
        names: Vec::new(),
    };
    translator.whole()?;
    Ok(Translated { text: translator.out, names: translator.names })
}

struct Translator<'p> {
    pattern: &'p [u8],
    at: usize,
    out: String,
    dialect: Dialect,
    flags: Flags,
    /// The flags around each open group.
    around: Vec<Flags>,
    groups: usize,
    reference_max: usize,
    names: Vec<(Box<str>, usize)>,
}

type Done = Result<(), Refused>;

impl<'p> Translator<'p> {
    fn whole(&mut self) -> Done {
        if self.flags.anchored {
            self.out += r"\A";
        }
        self.out += match (self.flags.ignore_case, self.flags.ungreedy) {
            (true, true) => "(?iU:",
            (true, false) => "(?i:",
            (false, true) => "(?U:",
            (false, false) => "(?:",
        };
        while let Some(byte) = self.next() {
            self.one(byte)?;
        }
        if !self.around.is_empty() {
            return self.wrong("a `(` without its `)`");
        }
        if self.reference_max > self.groups {
            return self.wrong("a reference to a group that is not there");
        }
        self.out.push(')');
        Ok(())
    }

    fn one(&mut self, byte: u8) -> Done {
        match byte {
            b'\\' => self.escape()?,
            b'[' => {
                let (class, end) = class::read(self.pattern, self.at)
                    .map_err(|(at, why)| Refused::Wrong(at, why.to_owned()))?;
                self.at = end;
                class.write(&mut self.out);
            }
            b'(' => self.group()?,
            b')' => match self.around.pop() {
                Some(flags) => {
                    self.flags = flags;
                    self.out.push(')');
                }
                None => return self.wrong("a `)` without its `(`"),
            },
            b'|' => self.out.push('|'),
            b'*' | b'+' | b'?' => {
                self.out.push(char::from(byte));
                self.repetition()?;
            }
            b'{' => match quantifier(self.rest()) {
                Some(length) => {
                    let digits = self.rest().get(..length).unwrap_or_default();
                    self.out.push('{');
                    self.out.extend(digits.iter().map(|b| char::from(*b)));
                    self.at += length;
                    self.repetition()?;
                }
                None => self.literal(b'{'),
            },
            b'^' => self.out += if self.flags.multi_line { "(?m:^)" } else { r"\A" },
            b'$' if self.flags.multi_line => self.out += "(?m:$)",
            b'$' if self.flags.dollar_end_only => self.out += r"\z",
            b'$' => self.end(),
            b'.' if self.flags.dot_all => self.out += "(?s:.)",
            b'.' => self.out += r"[^\n]",
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c if self.flags.extended => {}
            b'#' if self.flags.extended => {
                let comment = self.rest().iter().position(|b| *b == b'\n');
                self.at += comment.map_or(self.rest().len(), |end| end + 1);
            }
            byte => self.literal(byte),
        }
        Ok(())
    }

    /// What may stand behind a repetition: lazy, or possessive.
    fn repetition(&mut self) -> Done {
        match self.rest().first() {
            Some(b'?') => {
                self.at += 1;
                self.out.push('?');
            }
            Some(b'+') => {
                self.at += 1;
                self.backtracks()?;
                self.out.push('+');
            }
            _ => {}
        }
        Ok(())
    }

    /// The end, or before a line feed at the end.
    fn end(&mut self) {
        // An automaton cannot look ahead. It takes the line feed into the match, behind which nothing else can be.
        self.out += match self.dialect {
            Dialect::Automaton => r"(?:\n?\z)",
            Dialect::Backtracking => r"(?=\n?\z)",
        };
    }

    fn escape(&mut self) -> Done {
        let start = self.at;
        let Some(byte) = self.next() else { return self.wrong("a `\\` at the end") };
        if let Some(set) = Set::of_escape(byte) {
            set.write(&mut self.out);
            return Ok(());
        }
        match byte {
            b'b' | b'B' if self.dialect == Dialect::Automaton => {
                self.out.push('\\');
                self.out.push(char::from(byte));
            }
            b'b' => self.out += BOUNDARY,
            b'B' => self.out += NO_BOUNDARY,
            b'A' | b'G' => self.out += r"\A",
            b'z' => self.out += r"\z",
            b'Z' => self.end(),
            b'R' => self.out += r"(?:\r\n|[\n\x0b\x0c\r\x85])",
            b'N' => self.out += r"[^\n]",
            b'K' => {
                self.backtracks()?;
                self.out += r"\K";
            }
            b'Q' => {
                let quoted = self.rest();
                let end = quoted.windows(2).position(|w| w == br"\E").unwrap_or(quoted.len());
                for byte in quoted.iter().take(end) {
                    self.literal(*byte);
                }
                self.at = (self.at + end + 2).min(self.pattern.len());
            }
            b'E' => {}
            b'1'..=b'9' => self.number(start)?,
            b'k' => self.named_reference()?,
            b'g' => self.relative_reference()?,
            b'p' | b'P' | b'X' | b'C' => {
                return Err(Refused::Beyond(format!("`\\{}`", char::from(byte))));
            }
            _ => match class::escaped_byte(self.pattern, start) {
                Ok((byte, end)) => {
                    self.at = end;
                    self.literal(byte);
                }
                Err((at, why)) => return Err(Refused::Wrong(at, why.to_owned())),
            },
        }
        Ok(())
    }

    /// `\` and a number: a group's below 10 or one of those so far, else an octal byte.
    fn number(&mut self, start: usize) -> Done {
        let digits = self.pattern.get(start..).unwrap_or_default();
        let length = digits.iter().take(5).take_while(|b| b.is_ascii_digit()).count();
        let number = number_of(digits.get(..length).unwrap_or_default()).unwrap_or(usize::MAX);
        if number < 10 || number <= self.groups {
            self.at = start + length;
            return self.reference(number);
        }
        let octal = digits.iter().take(3).take_while(|b| matches!(b, b'0'..=b'7'));
        let (length, value) =
            octal.fold((0, 0_u32), |(n, value), b| (n + 1, value * 8 + u32::from(b - b'0')));
        match u8::try_from(value) {
            Ok(byte) if length > 0 => {
                self.at = start + length;
                self.literal(byte);
                Ok(())
            }
            _ => self.wrong("a reference to a group that is not there"),
        }
    }

    /// `\k<name>`, `\k'name'`, `\k{name}`
    fn named_reference(&mut self) -> Done {
        let close = match self.next() {
            Some(b'<') => b'>',
            Some(b'\'') => b'\'',
            Some(b'{') => b'}',
            _ => return self.wrong("`\\k` without a name"),
        };
        let name = self.until(close)?;
        self.reference_to(&name)
    }

    /// `\g1`, `\g{1}`, `\g{-1}`, `\g{name}`
    fn relative_reference(&mut self) -> Done {
        let word = match self.rest().first() {
            Some(b'{') => {
                self.at += 1;
                self.until(b'}')?
            }
            Some(b'<' | b'\'') => return Err(Refused::Beyond("`\\g<`".to_owned())),
            _ => {
                let digits = |b: &&u8| b.is_ascii_digit() || **b == b'-';
                let word: String =
                    self.rest().iter().take_while(digits).map(|b| char::from(*b)).collect();
                self.at += word.len();
                word
            }
        };
        if let Some(back) = word.strip_prefix('-') {
            let back: usize = back.parse().unwrap_or(0);
            return match (self.groups + 1).checked_sub(back) {
                Some(group) if back > 0 && group > 0 => self.reference(group),
                _ => self.wrong("a reference to a group that is not there"),
            };
        }
        match word.parse() {
            Ok(group) => self.reference(group),
            Err(_) => self.reference_to(&word),
        }
    }

    fn reference_to(&mut self, name: &str) -> Done {
        match self.names.iter().find(|(known, _)| **known == *name) {
            Some((_, group)) => self.reference(*group),
            None => self.wrong("a reference to a group that is not there"),
        }
    }

    fn reference(&mut self, group: usize) -> Done {
        if group == 0 || group > GROUPS_MAX {
            return self.wrong("a reference to a group that is not there");
        }
        self.reference_max = self.reference_max.max(group);
        self.backtracks()?;
        // Digits behind it are none of it.
        let _ = write!(self.out, r"(?:\{group})");
        Ok(())
    }

    fn group(&mut self) -> Done {
        match self.rest() {
            [b'*', ..] => return Err(Refused::Beyond("`(*`".to_owned())),
            [b'?', ..] => {
                self.at += 1;
                return self.special_group();
            }
            _ => {}
        }
        self.capture(None)
    }

    fn capture(&mut self, name: Option<String>) -> Done {
        self.groups += 1;
        if self.groups > GROUPS_MAX {
            return Err(Refused::Beyond(format!("more than {GROUPS_MAX} groups")));
        }
        if let Some(name) = name {
            self.names.push((name.into(), self.groups));
        }
        self.open("(");
        Ok(())
    }

    fn open(&mut self, text: &str) {
        self.around.push(self.flags);
        self.out += text;
    }

    fn special_group(&mut self) -> Done {
        let rest = self.rest();
        let (text, length) = match rest {
            [b':', ..] => ("(?:", 1),
            [b'>', ..] => ("(?>", 1),
            [b'=', ..] => ("(?=", 1),
            [b'!', ..] => ("(?!", 1),
            [b'<', b'=', ..] => ("(?<=", 2),
            [b'<', b'!', ..] => ("(?<!", 2),
            [b'#', ..] => {
                self.until(b')')?;
                return Ok(());
            }
            [b'P', b'=', ..] => {
                self.at += 2;
                let name = self.until(b')')?;
                return self.reference_to(&name);
            }
            [b'P', b'<', ..] => return self.named_group(2, b'>'),
            [b'<', ..] => return self.named_group(1, b'>'),
            [b'\'', ..] => return self.named_group(1, b'\''),
            [b'P' | b'|' | b'(' | b'&' | b'R' | b'C' | b'+' | b'0'..=b'9', ..]
            | [b'-', b'0'..=b'9', ..] => {
                let what = rest.first().copied().map(char::from).unwrap_or_default();
                return Err(Refused::Beyond(format!("`(?{what}`")));
            }
            _ => return self.flag_group(),
        };
        self.at += length;
        if text != "(?:" {
            self.backtracks()?;
        }
        self.open(text);
        Ok(())
    }

    fn named_group(&mut self, skip: usize, close: u8) -> Done {
        self.at += skip;
        let name = self.until(close)?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return self.wrong("a group's name is of letters, digits and `_`");
        }
        self.capture(Some(name))
    }

    /// `(?i-m)` and `(?i-m:...)`
    fn flag_group(&mut self) -> Done {
        let (mut flags, mut on) = (self.flags, true);
        loop {
            match self.next() {
                Some(b'-') if on => on = false,
                Some(b'i') => flags.ignore_case = on,
                Some(b'm') => flags.multi_line = on,
                Some(b's') => flags.dot_all = on,
                Some(b'x') => flags.extended = on,
                Some(b'U') => flags.ungreedy = on,
                Some(b'J') => {}
                Some(end @ (b':' | b')')) => {
                    if end == b':' {
                        self.around.push(self.flags);
                    }
                    self.flags = flags;
                    self.out += "(?";
                    self.out += match (flags.ignore_case, flags.ungreedy) {
                        (true, true) => "iU",
                        (true, false) => "i-U",
                        (false, true) => "U-i",
                        (false, false) => "-iU",
                    };
                    self.out.push(char::from(end));
                    return Ok(());
                }
                _ => return self.wrong("a flag that is not known"),
            }
        }
    }

    /// What follows needs an engine that backtracks.
    fn backtracks(&self) -> Done {
        match self.dialect {
            Dialect::Automaton => Err(Refused::NotRegular),
            Dialect::Backtracking => Ok(()),
        }
    }

    /// A byte that means itself.
    fn literal(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            self.out.push(char::from(byte));
        } else {
            let _ = write!(self.out, r"\x{byte:02x}");
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.pattern.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn rest(&self) -> &'p [u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    /// The text up to `close`, behind which it goes on.
    fn until(&mut self, close: u8) -> Result<String, Refused> {
        let Some(length) = self.rest().iter().position(|b| *b == close) else {
            return Err(Refused::Wrong(self.at, "a `(?` or name that is not closed".to_owned()));
        };
        let text = String::from_utf8_lossy(self.rest().get(..length).unwrap_or_default());
        let text = text.into_owned();
        self.at += length + 1;
        Ok(text)
    }

    fn wrong(&self, why: &str) -> Done {
        Err(Refused::Wrong(self.at.saturating_sub(1), why.to_owned()))
    }
}

/// How long the text behind a `{` is, with its `}`, if it is a repetition: `2}`, `2,}` or `2,3}`.
fn quantifier(rest: &[u8]) -> Option<usize> {
    let end = rest.iter().take(12).position(|b| *b == b'}')?;
    let mut parts = rest.get(..end)?.split(|b| *b == b',');
    number_of(parts.next()?)?;
    if let Some(most) = parts.next().filter(|most| !most.is_empty()) {
        number_of(most)?;
    }
    parts.next().is_none().then_some(end + 1)
}

fn number_of(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// As PCRE without locale means it: letters, digits and `_` of ASCII.
const BOUNDARY: &str = "(?:(?<=[0-9A-Za-z_])(?![0-9A-Za-z_])|(?<![0-9A-Za-z_])(?=[0-9A-Za-z_]))";
const NO_BOUNDARY: &str = "(?:(?<=[0-9A-Za-z_])(?=[0-9A-Za-z_])|(?<![0-9A-Za-z_])(?![0-9A-Za-z_]))";

/// Most groups of an expression.
const GROUPS_MAX: usize = 500;
