//! A rule's options: `name:value;` one after another, in brackets behind its header.
//!
//! As Suricata cuts them: at each `;` without a `\` before it, whether in quotes or not. A `;` within quotes ends the
//! option there too, and what is left of the quotes is then told.

use super::mistake::{Read, broken};

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keyword<'r> {
    pub name: &'r str,
    pub at: usize,
    pub value: Option<Value<'r>>,
}

/// What stands behind an option's `:`; no white space at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'r> {
    pub bytes: &'r [u8],
    pub at: usize,
}

/// A value in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted<'r> {
    pub bytes: &'r [u8],
    pub at: usize,
    /// There is a `!` before the quotes.
    pub negated: bool,
}

/// The options of `text`, which begins behind the `(` and ends before the `)`, at `at` of the rule.
pub(super) fn keywords(text: &[u8], at: usize) -> Read<Vec<Keyword<'_>>> {
    let mut found = Vec::new();
    let mut start = 0;
    let ends = memchr_unescaped(text).chain(std::iter::once(text.len()));
    for end in ends {
        let part = text.get(start..end).unwrap_or_default();
        let here = at + start + (part.len() - part.trim_ascii_start().len());
        let option = part.trim_ascii();
        if end == text.len() {
            if !option.is_empty() {
                return broken(here, "the last option has no `;` behind it");
            }
            break;
        }
        start = end + 1;
        if option.is_empty() {
            // Suricata forgives `;;`.
            continue;
        }
        let (name, value) = match option.iter().position(|b| *b == b':') {
            None => (option, None),
            Some(colon) => {
                let (name, rest) = option.split_at(colon);
                let rest = rest.get(1..).unwrap_or_default();
                let indent = rest.len() - rest.trim_ascii_start().len();
                (name, Some(Value { bytes: rest.trim_ascii(), at: here + colon + 1 + indent }))
            }
        };
        match std::str::from_utf8(name.trim_ascii_end()) {
            Ok(name) if !name.is_empty() => found.push(Keyword { name, at: here, value }),
            _ => return broken(here, "an option without a name"),
        }
        if found.len() > OPTIONS_MAX {
            return broken(here, format!("more than {OPTIONS_MAX} options"));
        }
    }
    Ok(found)
}

fn memchr_unescaped(text: &[u8]) -> impl Iterator<Item = usize> {
    let before = std::iter::once(&b' ').chain(text);
    let semicolons = text.iter().zip(before).enumerate();
    semicolons.filter(|(_, (byte, before))| **byte == b';' && **before != b'\\').map(|(at, _)| at)
}

impl<'r> Keyword<'r> {
    /// Its value. One that must be there.
    pub fn required(&self) -> Read<Value<'r>> {
        match self.value {
            Some(value) if !value.bytes.is_empty() => Ok(value),
            _ => broken(self.at, format!("`{}` needs a value", self.name)),
        }
    }

    /// Nothing: there must be no value.
    pub fn alone(&self) -> Read<()> {
        match self.value {
            Some(value) if !value.bytes.is_empty() => {
                broken(value.at, format!("`{}` takes no value", self.name))
            }
            _ => Ok(()),
        }
    }
}

impl<'r> Value<'r> {
    /// As text.
    pub fn text(&self) -> Read<&'r str> {
        std::str::from_utf8(self.bytes).or_else(|_| broken(self.at, "this is no UTF-8"))
    }

    /// As text, without quotes if it has some.
    pub fn plain(&self) -> Read<&'r str> {
        let text = self.text()?;
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        Ok(inner.unwrap_or(text).trim_ascii())
    }

    /// The bytes within its quotes, which must be there.
    pub fn quoted(&self) -> Read<Quoted<'r>> {
        let (negated, rest) = match self.bytes.strip_prefix(b"!") {
            Some(rest) => (true, rest.trim_ascii_start()),
            None => (false, self.bytes),
        };
        let at = self.at + self.bytes.len() - rest.len();
        let Some(inner) = rest.strip_prefix(b"\"") else {
            return broken(at, "the value must be in quotes");
        };
        match inner.strip_suffix(b"\"") {
            Some(bytes) => Ok(Quoted { bytes, at: at + 1, negated }),
            None => broken(at, "the quotes are not closed: a `;` within them is written `\\;`"),
        }
    }

    /// Its parts between commas, and where each stands.
    pub fn parts(&self) -> Read<impl Iterator<Item = (&'r str, usize)>> {
        let text = self.plain()?;
        let quote = usize::from(self.bytes.first() == Some(&b'"'));
        let at = self.at + quote;
        let mut start = 0;
        Ok(text.split(',').map(move |part| {
            let here = at + start + (part.len() - part.trim_ascii_start().len());
            start += part.len() + 1;
            (part.trim_ascii(), here)
        }))
    }
}

/// Most options of a rule: what they cost grows with the square of their number.
const OPTIONS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(String, Option<String>, usize)> {
        let own = |v: Value<'_>| String::from_utf8_lossy(v.bytes).into_owned();
        let found = keywords(text.as_bytes(), 100).unwrap();
        found.into_iter().map(|k| (k.name.to_owned(), k.value.map(own), k.at)).collect()
    }

    #[test]
    fn options_end_at_semicolons_that_have_no_backslash_before_them() {
        let found = cut(r#" msg:"a\;b"; nocase ;;content : !"x:y" ; "#);
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            found,
            [
                ("msg".to_owned(), some(r#""a\;b""#), 101),
                ("nocase".to_owned(), None, 113),
                ("content".to_owned(), some(r#"!"x:y""#), 122),
            ],
        );
    }

    #[test]
    fn an_option_without_its_end_or_name_is_refused_at_its_place() {
        assert_eq!(keywords(b"sid:1; rev:2", 0).unwrap_err().at, 7);
        assert_eq!(keywords(b"sid:1; :2;", 0).unwrap_err().at, 7);
    }

    #[test]
    fn quotes_must_open_and_close() {
        let read = |text: &'static str| Value { bytes: text.as_bytes(), at: 5 }.quoted();
        let quoted = read(r#"! "ab""#).unwrap();
        assert_eq!((quoted.bytes, quoted.at, quoted.negated), (&b"ab"[..], 8, true));
        for text in ["ab", "\"ab", "\"", "ab\"", "!"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
