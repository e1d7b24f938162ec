//! All keywords of rules, and what reads each.

use std::collections::HashMap;

use super::content;
use super::draft::Draft;
use super::inspect::{Content, Presence, Test};
use super::mistake::{Read, broken, unsupported};
use super::number::{compare, number};
use super::options::{Keyword, Value};
use super::rule::{AppName, AppTest};
use super::state::State;
use super::transform::Transform;
use super::{bytes, flow, packet, pcre, rate, state};
use crate::ids::buffer::{App, BUFFERS, Buffer};

/// What reads a keyword.
pub(super) type Reader = fn(&mut Draft<'_>, &Keyword<'_>) -> Read<()>;

/// The readers of all keywords, by name.
pub(super) fn table() -> HashMap<&'static str, Reader> {
    let mut table: HashMap<&'static str, Reader> = KEYWORDS.iter().copied().collect();
    for info in BUFFERS {
        for name in std::iter::once(&info.name).chain(info.aliases) {
            table.entry(name).or_insert(sticky);
        }
        if let Some(modifier) = info.modifier {
            table.insert(modifier, modifier_of);
        }
    }
    for name in PACKET {
        table.insert(name, packet_test);
    }
    table
}

const KEYWORDS: &[(&str, Reader)] = &[
    ("msg", |d, k| flow::msg(d, k.required()?)),
    ("sid", |d, k| once(&mut d.sid, k)),
    ("gid", |d, k| once(&mut d.gid, k)),
    ("rev", |d, k| once(&mut d.rev, k)),
    ("classtype", |d, k| flow::classtype(d, k.required()?)),
    ("priority", priority),
    ("reference", |d, k| flow::reference(d, k.required()?)),
    ("metadata", |d, k| flow::metadata(d, k.required()?)),
    ("target", |d, k| flow::target(d, k.required()?)),
    ("tag", |d, k| flow::tag(d, k.required()?)),
    ("flow", |d, k| flow::flow(d, k.required()?)),
    ("noalert", noalert),
    ("prefilter", prefilter),
    ("content", |d, k| content::content(d, k.required()?)),
    ("uricontent", uricontent),
    ("nocase", qualify),
    ("offset", qualify),
    ("depth", qualify),
    ("distance", qualify),
    ("within", qualify),
    ("startswith", qualify),
    ("endswith", qualify),
    ("rawbytes", qualify),
    ("fast_pattern", qualify),
    ("pcre", |d, k| pcre::pcre(d, k.required()?)),
    ("isdataat", |d, k| bytes::is_data_at(d, k.required()?)),
    ("byte_test", |d, k| bytes::byte_test(d, k.required()?)),
    ("byte_jump", |d, k| bytes::byte_jump(d, k.required()?)),
    ("byte_extract", |d, k| bytes::byte_extract(d, k.required()?)),
    ("byte_math", |d, k| bytes::byte_math(d, k.required()?)),
    ("base64_decode", |d, k| bytes::base64_decode(d, k.value)),
    ("base64_data", base64_data),
    ("bsize", bsize),
    ("urilen", urilen),
    ("to_lowercase", |d, k| plain(d, k, Transform::ToLowercase)),
    ("strip_whitespace", |d, k| plain(d, k, Transform::StripWhitespace)),
    ("compress_whitespace", |d, k| plain(d, k, Transform::CompressWhitespace)),
    ("dotprefix", |d, k| plain(d, k, Transform::DotPrefix)),
    ("url_decode", |d, k| plain(d, k, Transform::UrlDecode)),
    ("to_md5", |d, k| plain(d, k, Transform::Md5)),
    ("to_sha1", |d, k| plain(d, k, Transform::Sha1)),
    ("to_sha256", |d, k| plain(d, k, Transform::Sha256)),
    ("pcrexform", pcrexform),
    ("xor", |d, k| d.transform(pcre::xor(k.required()?)?, k.at)),
    ("flowbits", |d, k| put(d, state::flowbits(k.required()?)?)),
    ("xbits", |d, k| put(d, state::xbits(k.required()?)?)),
    ("hostbits", |d, k| put(d, state::hostbits(k.required()?)?)),
    ("flowint", |d, k| put(d, state::flowint(k.required()?)?)),
    ("threshold", threshold),
    ("detection_filter", detection_filter),
    ("dns.opcode", dns_opcode),
    ("tls.version", tls_version),
    ("app-layer-protocol", app_layer_protocol),
    ("app-layer-event", app_layer_event),
    ("decode-event", packet_event),
    ("engine-event", packet_event),
    ("stream-event", packet_event),
];

const PACKET: &[&str] = &[
    "ack",
    "dsize",
    "flags",
    "fragbits",
    "fragoffset",
    "icmp_id",
    "icmp_seq",
    "icode",
    "id",
    "ip_proto",
    "ipopts",
    "itype",
    "sameip",
    "seq",
    "stream_size",
    "tcp.ack",
    "tcp.flags",
    "tcp.mss",
    "tcp.seq",
    "tcp.window",
    "tos",
    "ttl",
    "window",
];

fn once(place: &mut Option<u32>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    let text = value.text()?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return broken(value.at, format!("`{text}` is no number"));
    }
    match place.replace(number(text, value.at)?) {
        None => Ok(()),
        Some(_) => broken(keyword.at, format!("a second `{}`", keyword.name)),
    }
}

fn priority(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    match number::<u8>(value.plain()?, value.at)? {
        0 => broken(value.at, "a priority is 1 to 255"),
        priority => {
            draft.priority = Some(priority);
            Ok(())
        }
    }
}

fn noalert(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    keyword.alone()?;
    draft.noalert = true;
    Ok(())
}

/// Asks that the rule be looked up by the keyword before it: of packets here each rule is, by its header.
fn prefilter(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    keyword.alone()?;
    if draft.packet.is_empty() && draft.parts.is_empty() && draft.app.is_empty() {
        return broken(keyword.at, "`prefilter` has nothing before it");
    }
    Ok(())
}

fn qualify(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    content::qualify(draft, keyword).unwrap_or(Ok(()))
}

/// The old name of a content of the URI.
fn uricontent(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    if draft.is_sticky() {
        return broken(keyword.at, "`uricontent` cannot follow a sticky buffer");
    }
    let quoted = keyword.required()?.quoted()?;
    let presence = if quoted.negated { Presence::Absent } else { Presence::Present };
    let pattern = content::pattern(quoted.bytes, quoted.at)?;
    draft.needs_app(App::Http, keyword.at)?;
    let content = Content { pattern, presence, ..Content::default() };
    draft.test_in(Buffer::HttpUri, Test::Content(content));
    Ok(())
}

fn sticky(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    keyword.alone()?;
    match Buffer::of(keyword.name) {
        Some(buffer) => draft.enter(buffer, keyword.at),
        None => unsupported(keyword.at, keyword.name),
    }
}

fn modifier_of(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    keyword.alone()?;
    match Buffer::of_modifier(keyword.name) {
        Some(buffer) => draft.modify(buffer, keyword.name, keyword.at),
        None => unsupported(keyword.at, keyword.name),
    }
}

fn base64_data(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    keyword.alone()?;
    let mut tests = draft.parts.iter().flat_map(|p| &p.tests);
    if !tests.any(|(_, test)| matches!(test, Test::Base64Decode(_))) {
        return broken(keyword.at, "`base64_data` has no `base64_decode` before it");
    }
    draft.enter(Buffer::Base64Data, keyword.at)
}

fn bsize(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    if !draft.is_sticky() {
        return broken(keyword.at, "`bsize` comes behind a sticky buffer");
    }
    let size = compare(value.plain()?, value.at)?;
    draft.test(Test::Size(size));
    Ok(())
}

/// `urilen:N[,norm|raw]`
fn urilen(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    let mut parts = value.parts()?;
    let (size, at) = parts.next().unwrap_or_default();
    let buffer = match parts.next() {
        None | Some(("norm", _)) => Buffer::HttpUri,
        Some(("raw", _)) => Buffer::HttpUriRaw,
        Some((word, at)) => return broken(at, format!("`{word}` is neither norm nor raw")),
    };
    draft.needs_app(App::Http, keyword.at)?;
    draft.test_in(buffer, Test::Size(compare(size, at)?));
    Ok(())
}

fn plain(draft: &mut Draft<'_>, keyword: &Keyword<'_>, transform: Transform) -> Read<()> {
    keyword.alone()?;
    draft.transform(transform, keyword.at)
}

fn pcrexform(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let transform = pcre::pcrexform(draft, keyword.required()?)?;
    draft.transform(transform, keyword.at)
}

fn packet_test(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    match packet::read(keyword)? {
        Some(test) => {
            draft.packet.push(test);
            Ok(())
        }
        None => broken(keyword.at, format!("`{}` needs a value", keyword.name)),
    }
}

fn put(draft: &mut Draft<'_>, state: State) -> Read<()> {
    match state {
        State::Test(test) => draft.state.push(test),
        State::Effect(effect) => draft.effects.push(effect),
        State::NoAlert => draft.noalert = true,
    }
    Ok(())
}

fn threshold(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let threshold = rate::threshold(keyword.required()?)?;
    if draft.detection_filter.is_some() {
        return broken(keyword.at, "a rule has `threshold` or `detection_filter`, not both");
    }
    match draft.threshold.replace(threshold) {
        None => Ok(()),
        Some(_) => broken(keyword.at, "a second `threshold`"),
    }
}

fn detection_filter(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let filter = rate::detection_filter(keyword.required()?)?;
    if draft.threshold.is_some() {
        return broken(keyword.at, "a rule has `threshold` or `detection_filter`, not both");
    }
    match draft.detection_filter.replace(filter) {
        None => Ok(()),
        Some(_) => broken(keyword.at, "a second `detection_filter`"),
    }
}

fn dns_opcode(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    draft.needs_app(App::Dns, keyword.at)?;
    draft.app.push(AppTest::DnsOpcode(compare(value.plain()?, value.at)?));
    Ok(())
}

fn tls_version(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    let text = value.plain()?;
    let version = match text {
        "1.0" => 0x0301,
        "1.1" => 0x0302,
        "1.2" => 0x0303,
        "1.3" => 0x0304,
        text if text.starts_with("0x") => number(text, value.at)?,
        text => return broken(value.at, format!("`{text}` is none of 1.0 1.1 1.2 1.3 0x....")),
    };
    draft.needs_app(App::Tls, keyword.at)?;
    draft.app.push(AppTest::TlsVersion(version));
    Ok(())
}

fn app_layer_protocol(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    let text = value.plain()?;
    let (negated, name) = match text.strip_prefix('!') {
        Some(name) => (true, name.trim_ascii()),
        None => (false, text),
    };
    if draft.protocol.is_some() {
        return broken(keyword.at, "the rule's protocol is that of an application already");
    }
    let name = match (name, App::of(name)) {
        ("failed", _) => AppName::Failed,
        (_, Some(app)) => AppName::App(app),
        (name, None) => return unsupported(value.at, format!("app-layer-protocol:{name}")),
    };
    let test = if negated { AppTest::IsNot(name) } else { AppTest::Is(name) };
    draft.app.push(test);
    Ok(())
}

/// The number of an event that is raised; a rule for another one could never match.
fn event(draft: &Draft<'_>, keyword: &Keyword<'_>, value: Value<'_>) -> Read<u16> {
    let name = value.plain()?;
    let full = match keyword.name {
        "stream-event" if !name.starts_with("stream.") => format!("stream.{name}"),
        _ => name.to_owned(),
    };
    let known = draft.setup.events.iter().position(|event| *event == full);
    match known.and_then(|index| u16::try_from(index).ok()) {
        Some(index) => Ok(index),
        None => unsupported(keyword.at, format!("{}:{name}", keyword.name)),
    }
}

fn app_layer_event(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let value = keyword.required()?;
    let index = event(draft, keyword, value)?;
    let app = value.plain()?.split_once('.').and_then(|(app, _)| App::of(app));
    if let Some(app) = app {
        draft.needs_app(app, keyword.at)?;
    }
    draft.app.push(AppTest::Event(index));
    Ok(())
}

fn packet_event(draft: &mut Draft<'_>, keyword: &Keyword<'_>) -> Read<()> {
    let index = event(draft, keyword, keyword.required()?)?;
    draft.packet.push(packet::PacketTest::Event(index));
    Ok(())
}
