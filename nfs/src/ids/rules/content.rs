//! `content` and the keywords that qualify the one before them.

use super::draft::Draft;
use super::inspect::{Content, FastPatternWish, Presence, Test, Value as Amount};
use super::mistake::{Read, broken};
use super::number::{number, signed};
use super::options::{Keyword, Value};
use crate::ids::buffer::Buffer;

/// `content:[!]"..."`
pub(super) fn content(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let quoted = value.quoted()?;
    let presence = if quoted.negated { Presence::Absent } else { Presence::Present };
    let pattern = pattern(quoted.bytes, quoted.at)?;
    draft.test(Test::Content(Content { pattern, presence, ..Content::default() }));
    Ok(())
}

/// The bytes of a content: text, with `|hex|` in it, and `\` before what would end it.
pub(super) fn pattern(text: &[u8], at: usize) -> Read<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().enumerate();
    while let Some((here, byte)) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some((_, escaped @ (b':' | b';' | b'\\' | b'"'))) => bytes.push(escaped),
                _ => return broken(at + here, "`\\` only stands before one of : ; \\ \""),
            },
            b'"' => return broken(at + here, "a `\"` in a content is written `\\\"`"),
            b'|' => {
                let mut high = None;
                loop {
                    let Some((digit_at, byte)) = rest.next() else {
                        return broken(at + here, "a `|` without the one that ends it");
                    };
                    match (high, char::from(byte).to_digit(16)) {
                        (None, _) if byte == b'|' => break,
                        (Some(_), _) if byte == b'|' => {
                            return broken(at + digit_at, "half a byte before `|`");
                        }
                        (_, None) if byte == b' ' => {}
                        (_, None) => {
                            return broken(at + digit_at, "between `|` are hexadecimal digits");
                        }
                        (None, Some(digit)) => high = Some(digit),
                        (Some(digits), Some(digit)) => {
                            bytes.extend(u8::try_from(digits * 16 + digit));
                            high = None;
                        }
                    }
                }
            }
            byte => bytes.push(byte),
        }
    }
    match bytes.len() {
        0 => broken(at, "an empty content"),
        1..=PATTERN_MAX => Ok(bytes.into()),
        _ => broken(at, format!("a content of more than {PATTERN_MAX} bytes")),
    }
}

/// The keywords that qualify the last content. `None`: it is none of those.
pub(super) fn qualify(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Option<Read<()>> {
    let name = keyword.name;
    let known = [
        "nocase",
        "offset",
        "depth",
        "distance",
        "within",
        "startswith",
        "endswith",
        "rawbytes",
        "fast_pattern",
    ];
    if !known.contains(&name) {
        return None;
    }
    Some(qualified(draft, keyword))
}

fn qualified(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let (name, at) = (keyword.name, keyword.at);
    let amount = match name {
        "offset" | "depth" | "distance" | "within" => Some(amount(draft, keyword.required()?)?),
        "fast_pattern" => None,
        _ => {
            keyword.alone()?;
            None
        }
    };
    let taken = draft.contents().any(|c| c.fast != FastPatternWish::None);
    let sticky = draft.is_sticky();
    let base64 = draft.current_buffer() == Buffer::Base64Data;
    let Some(content) = draft.last_content() else {
        return broken(at, format!("`{name}` has no content before it"));
    };
    let length = i64::try_from(content.pattern.len()).unwrap_or(i64::MAX);
    let negated = content.presence == Presence::Absent;
    let fast = content.fast;
    let twice = || broken(at, format!("the content has `{name}` twice"));
    let mixed =
        || broken(at, format!("`{name}` cannot be mixed with what the content has already"));
    // Suricata: a negated content with a place can be no fast pattern, nor any with a place be `only`.
    let place_of_fast = match fast {
        FastPatternWish::None => false,
        FastPatternWish::Only => true,
        _ => negated,
    };
    if place_of_fast && matches!(name, "offset" | "depth" | "distance" | "within") {
        return broken(at, format!("`{name}` cannot be used with this `fast_pattern`"));
    }
    match (name, amount) {
        ("nocase", _) if content.nocase => return twice(),
        ("nocase", _) => content.nocase = true,
        ("rawbytes", _) if sticky => {
            return broken(at, "`rawbytes` is of no use with a sticky buffer");
        }
        ("rawbytes", _) if content.raw_bytes => return twice(),
        ("rawbytes", _) => content.raw_bytes = true,
        ("startswith", _) if content.starts_with => return twice(),
        ("startswith", _) if content.is_relative() || content.is_absolute() => return mixed(),
        ("startswith", _) => content.starts_with = true,
        ("endswith", _) if content.ends_with => return twice(),
        ("endswith", _) => content.ends_with = true,
        ("offset" | "depth", _) if content.is_relative() || content.starts_with => return mixed(),
        ("distance" | "within", _) if content.is_absolute() => return mixed(),
        ("offset", _) if content.offset.is_some() => return twice(),
        ("depth", _) if content.depth.is_some() => return twice(),
        ("distance", _) if content.distance.is_some() => return twice(),
        ("within", _) if content.within.is_some() => return twice(),
        ("offset" | "depth", Some(Amount::Number(n))) if !(0..=65_535).contains(&n) => {
            return broken(at, format!("`{name}` is between 0 and 65535"));
        }
        ("distance" | "within", Some(Amount::Number(n))) if n.abs() > DISTANCE_MAX => {
            return broken(at, format!("`{name}` is between -{DISTANCE_MAX} and {DISTANCE_MAX}"));
        }
        ("depth" | "within", Some(Amount::Number(n))) if n < length => {
            return broken(at, format!("`{name}` {n} has no room for a content of {length} bytes"));
        }
        ("offset", n) => content.offset = n,
        ("depth", n) => content.depth = n,
        ("distance", n) => content.distance = n,
        ("within", n) => content.within = n,
        _ => {
            if base64 {
                return broken(at, "what base64_data has can be no fast pattern");
            }
            let wish = wish(keyword, content)?;
            if taken {
                return broken(at, "a second `fast_pattern`");
            }
            content.fast = wish;
        }
    }
    Ok(())
}

fn wish(keyword: &Keyword<'_>, content: &Content) -> Read<FastPatternWish> {
    let negated = content.presence == Presence::Absent;
    let placed = content.is_relative() || content.is_absolute();
    if negated && placed {
        return broken(keyword.at, "a negated content with a place can be no fast pattern");
    }
    let Some(value) = keyword.value.filter(|v| !v.bytes.is_empty()) else {
        return Ok(FastPatternWish::Whole);
    };
    let text = value.plain()?;
    if text == "only" {
        if negated || placed {
            return broken(
                value.at,
                "`only` is for contents that are neither negated nor have a place",
            );
        }
        return Ok(FastPatternWish::Only);
    }
    let Some((offset, length)) = text.split_once(',') else {
        return broken(value.at, format!("`{text}` is neither `only` nor `OFFSET,LENGTH`"));
    };
    let (offset, length): (u16, u16) = (number(offset, value.at)?, number(length, value.at)?);
    if length == 0 || usize::from(offset) + usize::from(length) > content.pattern.len() {
        return broken(
            value.at,
            format!("{offset},{length} is no part of a content of {} bytes", content.pattern.len()),
        );
    }
    Ok(FastPatternWish::Part { offset, length })
}

/// A number, or the name of a variable that was extracted before.
pub(super) fn amount(draft: &Draft<'_>, value: Value<'_>) -> Read<Amount> {
    amount_of(draft, value.plain()?, value.at)
}

/// The same, of a part of a value.
pub(super) fn amount_of(draft: &Draft<'_>, text: &str, at: usize) -> Read<Amount> {
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return match draft.variable(text) {
            Some(variable) => Ok(Amount::Variable(variable)),
            None => broken(at, format!("no byte_extract or byte_math before names `{text}`")),
        };
    }
    signed(text, at).map(Amount::Number)
}

/// Most bytes of a content.
const PATTERN_MAX: usize = 65_535;

/// Farthest that a content is from the one before.
const DISTANCE_MAX: i64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, usize> {
        pattern(text.as_bytes(), 0).map(Vec::from).map_err(|m| m.at)
    }

    #[test]
    fn text_and_hexadecimal_bytes_may_be_mixed() {
        assert_eq!(bytes("uid=0|28|root|29|").unwrap(), b"uid=0(root)");
        assert_eq!(bytes("|0A 95 00 20|").unwrap(), [0x0a, 0x95, 0, 0x20]);
        assert_eq!(bytes("|0d0A||0d|").unwrap(), b"\r\n\r");
        assert_eq!(bytes(r#"a\:b\;c\"d\\e:"#).unwrap(), br#"a:b;c"d\e:"#);
    }

    #[test]
    fn what_is_no_content_is_refused_at_its_place() {
        for (text, at) in
            [("", 0), ("ab|4", 2), ("a|4|", 3), ("|zz|", 1), ("a\\x", 1), ("a\\", 1), ("||", 0)]
        {
            assert_eq!(bytes(text), Err(at), "{text}");
        }
    }
}
