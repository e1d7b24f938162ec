//! `pcre:[!]"/EXPRESSION/FLAGS[, SCOPE:NAME]"`, and the transforms that are no bare word.

use std::sync::Arc;

use super::draft::Draft;
use super::inspect::{Capture, CaptureScope, From, Pcre, Presence, Test};
use super::mistake::{Read, broken, unsupported};
use super::options::Value;
use super::regex::{Flags, NotCompiled, Regex, Source};
use super::transform::Transform;
use crate::ids::buffer::Buffer;

/// Reads a `pcre`.
pub(super) fn pcre(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let quoted = value.quoted()?;
    let mut text = quoted.bytes.trim_ascii_start();
    let mut at = quoted.at + quoted.bytes.len() - text.len();
    let mut presence = if quoted.negated { Presence::Absent } else { Presence::Present };
    if let Some(rest) = text.strip_prefix(b"!") {
        // Of old, the `!` stood within the quotes.
        presence = Presence::Absent;
        text = rest.trim_ascii_start();
        at = quoted.at + quoted.bytes.len() - text.len();
    }
    let Some(text) = text.strip_prefix(b"/") else {
        return broken(at, "an expression stands between two `/`");
    };
    at += 1;
    let Some(end) = text.iter().rposition(|b| *b == b'/') else {
        return broken(at, "an expression stands between two `/`");
    };
    let (pattern, behind) = text.split_at(end);
    let behind = behind.get(1..).unwrap_or_default();
    let (letters, names) = match behind.iter().position(|b| *b == b',') {
        Some(comma) => (behind.get(..comma), behind.get(comma + 1..)),
        None => (Some(behind), None),
    };
    let said = said(letters.unwrap_or_default(), at + end + 1)?;
    if let (Some(_), true) = (said.buffer, draft.is_sticky()) {
        return broken(
            at + end + 1,
            "a flag names a buffer, and a sticky one is there: go back by `pkt_data` first",
        );
    }
    if said.from == From::LastMatch && !draft.is_sticky() && said.buffer.is_none() {
        // Of tests without a buffer of their own the one before decides.
        if draft.last_part().is_none() {
            return broken(at + end + 1, "`R` needs a match before it");
        }
    }
    let regex = compile(draft, pattern, said.flags, at)?;
    let captures = captures(names.unwrap_or_default(), &regex, at + end + 1)?;
    let test = Test::Pcre(Pcre { regex, presence, from: said.from, captures });
    match (said.buffer, said.from) {
        (Some(buffer), _) => {
            if let Some(app) = buffer.app() {
                draft.needs_app(app, at + end + 1)?;
            }
            draft.test_in(buffer, test);
        }
        (None, From::LastMatch) => draft.test_relative(test),
        (None, From::Start) => draft.test(test),
    }
    Ok(())
}

/// `pcrexform:"EXPRESSION"`
pub(super) fn pcrexform(draft: &mut Draft<'_>, value: Value<'_>) -> Read<Transform> {
    let quoted = value.quoted()?;
    let regex = compile(draft, quoted.bytes, Flags::default(), quoted.at)?;
    match regex.groups_len() {
        1 => Ok(Transform::PcreXform(regex)),
        n => broken(
            quoted.at,
            format!("`pcrexform` needs one group that captures, and this has {n}"),
        ),
    }
}

/// `xor:"HEX"`
pub(super) fn xor(value: Value<'_>) -> Read<Transform> {
    let text = value.plain()?;
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(text, 16).ok())?
    };
    let key: Option<Box<[u8]>> = digits.chunks(2).map(byte).collect();
    match key {
        Some(key) if digits.len() % 2 == 0 && (1..=KEY_MAX).contains(&key.len()) => {
            Ok(Transform::Xor(key))
        }
        _ => broken(
            value.at,
            format!("the key of `xor` is 1 to {KEY_MAX} bytes in hexadecimal digits"),
        ),
    }
}

fn compile(draft: &mut Draft<'_>, pattern: &[u8], flags: Flags, at: usize) -> Read<Arc<Regex>> {
    let source = Source { pattern: pattern.into(), flags };
    if let Some(known) = draft.shared.regexes.get(&source) {
        return Ok(Arc::clone(known));
    }
    match Regex::new(source.clone()) {
        Ok(regex) => {
            let regex = Arc::new(regex);
            draft.shared.regexes.insert(source, Arc::clone(&regex));
            Ok(regex)
        }
        Err(NotCompiled::Wrong(byte, why)) => broken(at + byte, why),
        Err(NotCompiled::Beyond(why)) => unsupported(at, format!("pcre: {why}")),
    }
}

/// What the letters behind an expression say.
struct Said {
    flags: Flags,
    from: From,
    buffer: Option<Buffer>,
}

fn said(letters: &[u8], at: usize) -> Read<Said> {
    let mut said = Said { flags: Flags::default(), from: From::Start, buffer: None };
    let mut raw = false;
    for (index, letter) in letters.trim_ascii().iter().enumerate() {
        let flags = &mut said.flags;
        match letter {
            b'i' => flags.ignore_case = true,
            b'm' => flags.multi_line = true,
            b's' => flags.dot_all = true,
            b'x' => flags.extended = true,
            b'A' => flags.anchored = true,
            b'E' => flags.dollar_end_only = true,
            b'G' => flags.ungreedy = true,
            b'R' => said.from = From::LastMatch,
            b'B' => raw = true,
            // The limit of steps is ours whatever the rule says.
            b'O' => {}
            letter => match Buffer::of_flag(*letter) {
                Some(buffer) if said.buffer.is_none() => said.buffer = Some(buffer),
                Some(_) => return broken(at + index, "two flags that name a buffer"),
                None => {
                    let letter = char::from(*letter);
                    return broken(at + index, format!("`{letter}` is no flag of an expression"));
                }
            },
        }
    }
    if raw && said.buffer.is_some() {
        return broken(at, "`B` cannot be used with a flag that names a buffer");
    }
    Ok(said)
}

/// The names behind the flags, or, of old, those of the groups themselves.
fn captures(names: &[u8], regex: &Regex, at: usize) -> Read<Box<[Capture]>> {
    let Ok(names) = std::str::from_utf8(names) else {
        return broken(at, "the names of captures are no UTF-8");
    };
    let scope = |word: &str| match word {
        "pkt" => Some(CaptureScope::Packet),
        "flow" => Some(CaptureScope::Flow),
        "alert" => Some(CaptureScope::Alert),
        _ => None,
    };
    let mut captures = Vec::new();
    for part in names.split(',').map(str::trim_ascii).filter(|part| !part.is_empty()) {
        match part.split_once(':').map(|(word, name)| (scope(word.trim_ascii()), name.trim_ascii()))
        {
            Some((Some(scope), name)) if !name.is_empty() => {
                captures.push(Capture { scope, name: name.into() });
            }
            _ => return broken(at, format!("`{part}` is none of pkt:NAME, flow:NAME, alert:NAME")),
        }
    }
    if captures.is_empty() {
        let of_groups = regex.names().iter().filter_map(|(name, _)| {
            let (word, name) = name.split_once('_')?;
            Some(Capture { scope: scope(word)?, name: name.into() })
        });
        captures.extend(of_groups);
    }
    Ok(captures.into())
}

/// Longest key of an exclusive or.
const KEY_MAX: usize = 255;
