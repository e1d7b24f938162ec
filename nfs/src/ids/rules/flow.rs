//! `flow`, and what a rule is about: `classtype`, `metadata`, `reference`, `tag`, `target`.

use std::sync::Arc;

use super::draft::Draft;
use super::mistake::{Read, broken};
use super::number::number;
use super::options::Value;
use super::rule::{FlowState, FlowTest, Only, Reference, Tag, TagScope, TagUnit, Target};
use crate::ids::buffer::Side;

/// `flow:WORD[,WORD...]`
pub(super) fn flow(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let mut flow = FlowTest::default();
    for (word, at) in value.parts()? {
        let clash = match word.to_ascii_lowercase().as_str() {
            "to_server" | "from_client" => flow.side.replace(Side::ToServer).is_some(),
            "to_client" | "from_server" => flow.side.replace(Side::ToClient).is_some(),
            "established" => flow.state.replace(FlowState::Established).is_some(),
            "not_established" => flow.state.replace(FlowState::NotEstablished).is_some(),
            "stateless" => flow.state.replace(FlowState::Stateless).is_some(),
            "only_stream" | "stream_only" => flow.stream.replace(Only::Only).is_some(),
            "no_stream" => flow.stream.replace(Only::No).is_some(),
            "only_frag" => flow.fragment.replace(Only::Only).is_some(),
            "no_frag" => flow.fragment.replace(Only::No).is_some(),
            _ => return broken(at, format!("`{word}` is no word of `flow`")),
        };
        if clash {
            return broken(at, format!("`{word}` says again, or otherwise, what was said"));
        }
    }
    match draft.flow.replace(flow) {
        None => Ok(()),
        Some(_) => broken(value.at, "a second `flow`"),
    }
}

/// `msg:"..."`
pub(super) fn msg(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let quoted = value.quoted()?;
    if quoted.negated {
        return broken(value.at, "a `msg` has no `!`");
    }
    let mut text = Vec::with_capacity(quoted.bytes.len());
    let mut rest = quoted.bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\\', Some(b':' | b';' | b'\\' | b'"')) => text.extend(rest.next()),
            (byte, _) => text.push(*byte),
        }
    }
    match draft.msg.replace(String::from_utf8_lossy(&text).into()) {
        None => Ok(()),
        Some(_) => broken(value.at, "a second `msg`"),
    }
}

/// `classtype:NAME`
pub(super) fn classtype(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let name = value.plain()?;
    if draft.class.is_some() {
        return broken(value.at, "a second `classtype`");
    }
    match draft.setup.classes.get(name) {
        // One that is not known is a warning for Suricata, and the rule has the default priority.
        None => Ok(()),
        Some(class) => {
            draft.class = Some(Arc::clone(class));
            Ok(())
        }
    }
}

/// `metadata:KEY VALUE[, KEY VALUE...]`
pub(super) fn metadata(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let text = String::from_utf8_lossy(value.bytes);
    for pair in text.trim_matches('"').split(',').map(str::trim_ascii).filter(|p| !p.is_empty()) {
        // What has no value is left out, as Suricata does.
        if let Some((key, word)) = pair.split_once(char::is_whitespace) {
            draft.metadata.push((key.into(), word.trim_ascii().into()));
        }
    }
    Ok(())
}

/// `reference:SYSTEM,ID`
pub(super) fn reference(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let text = String::from_utf8_lossy(value.bytes);
    match text.split_once(',').map(|(system, id)| (system.trim_ascii(), id.trim_ascii())) {
        Some((system, id)) if !system.is_empty() && !id.is_empty() => {
            let id = id.replace("\\;", ";");
            draft.references.push(Reference { system: system.into(), id: id.into() });
            Ok(())
        }
        _ => broken(value.at, "a reference is `SYSTEM,ID`"),
    }
}

/// `target:src_ip|dest_ip`
pub(super) fn target(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let target = match value.plain()? {
        "src_ip" => Target::Src,
        "dest_ip" => Target::Dst,
        word => return broken(value.at, format!("`{word}` is neither src_ip nor dest_ip")),
    };
    draft.target = Some(target);
    Ok(())
}

/// `tag:session|host[,COUNT,packets|seconds|bytes[,src|dst]]`; without a side the destination's host.
pub(super) fn tag(draft: &mut Draft<'_>, value: Value<'_>) -> Read<()> {
    let parts: Vec<_> = value.parts()?.collect();
    let (scope, rest) = match *parts {
        // A side of a session says nothing.
        [("session", _), ref rest @ .., ("src" | "dst", _)] | [("session", _), ref rest @ ..] => {
            (TagScope::Session, rest)
        }
        [("host", _), ref rest @ .., ("src", _)] => (TagScope::Src, rest),
        [("host", _), ref rest @ .., ("dst", _)] | [("host", _), ref rest @ ..] => {
            (TagScope::Dst, rest)
        }
        _ => return broken(value.at, TAG),
    };
    let (count, unit) = match *rest {
        [] => (TAG_PACKETS, TagUnit::Packets),
        [(count, at), (unit, unit_at)] => {
            let unit = match unit {
                "packets" => TagUnit::Packets,
                "seconds" => TagUnit::Seconds,
                "bytes" => TagUnit::Bytes,
                _ => {
                    return broken(unit_at, format!("`{unit}` is none of packets, seconds, bytes"));
                }
            };
            let most = if unit == TagUnit::Packets { TAG_PACKETS } else { u32::MAX };
            (number::<u32>(count, at)?.min(most), unit)
        }
        _ => return broken(value.at, TAG),
    };
    draft.tag = Some(Tag { scope, count, unit });
    Ok(())
}

/// How many packets a tag logs at most.
const TAG_PACKETS: u32 = 256;
const TAG: &str = "tag is `session|host[,N,packets|seconds|bytes[,src|dst]]`";
