//! A rule whose options are all read: whether it can match at all, and on what it is evaluated.
//!
//! The checks are those that Suricata makes, so that a rule that loads there loads here; of two answers that are both
//! right, its own is taken (`https://docs.suricata.io/en/latest/rules/rule-types.html`).

use super::draft::Draft;
use super::fast_pattern;
use super::inspect::{Inspect, Presence, Test, Value};
use super::mistake::{Read, broken};
use super::number::Compare;
use super::packet::{PacketTest, needs_packet, needs_tcp};
use super::rule::{Action, AppTest, FlowTest, Only, Protocol, Rule, RuleKind, Scope};
use super::state::{Effect, IntegerChange};
use crate::ids::buffer::{App, Buffer, Origin, Side};

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub source: usize,
    pub line: u32,
}

/// Makes the rule of a draft; `end` is where its options end.
pub(super) fn finish(mut draft: Draft<'_>, action: Action, stand: Stand, end: usize) -> Read<Rule> {
    draft.leave(end)?;
    let sid = match draft.sid {
        None => return broken(end, "the rule has no `sid`"),
        Some(0) => return broken(end, "a `sid` is not 0"),
        Some(sid) => sid,
    };
    let mut inspects = draft.take_inspects();
    inspects.iter_mut().for_each(write_digits);
    let checked = Checked { draft: &draft, inspects: &inspects, end };
    checked.protocol()?;
    checked.lengths()?;
    checked.transforms()?;
    let flow = FlowTest { side: checked.side()?, ..draft.flow.unwrap_or_default() };
    let scope = checked.scope()?;
    let kind = checked.kind(flow, scope);
    let fast_pattern = fast_pattern::choose(&inspects);
    let priority = draft.priority.or(draft.class.as_ref().map(|c| c.priority));
    Ok(Rule {
        action,
        sid,
        gid: draft.gid.unwrap_or(1),
        rev: draft.rev.unwrap_or(0),
        msg: draft.msg.take().unwrap_or_default(),
        priority: priority.unwrap_or(PRIORITY),
        class: draft.class.take(),
        references: std::mem::take(&mut draft.references).into(),
        metadata: std::mem::take(&mut draft.metadata).into(),
        target: draft.target,
        source: stand.source,
        line: stand.line,
        flow,
        packet: std::mem::take(&mut draft.packet).into(),
        app: std::mem::take(&mut draft.app).into(),
        inspects,
        variables: draft.variables(),
        state: std::mem::take(&mut draft.state).into(),
        effects: std::mem::take(&mut draft.effects).into(),
        threshold: draft.threshold,
        detection_filter: draft.detection_filter,
        rate_filter: None,
        suppressed: Vec::new(),
        tag: draft.tag,
        noalert: draft.noalert,
        fast_pattern,
        protocol: draft.protocol,
        kind,
        scope,
        header: draft.header,
    })
}

struct Checked<'d, 's> {
    draft: &'d Draft<'s>,
    inspects: &'d [Inspect],
    end: usize,
}

impl Checked<'_, '_> {
    fn uses(&self, buffer: Buffer) -> bool {
        self.inspects.iter().any(|i| i.buffer == buffer)
    }

    fn uses_transactions(&self) -> bool {
        let of_app = |t: &AppTest| !matches!(t, AppTest::Is(_) | AppTest::IsNot(_));
        self.inspects.iter().any(|i| i.buffer.is_of_transactions())
            || self.draft.app.iter().any(of_app)
    }

    fn uses_headers(&self) -> bool {
        self.inspects.iter().any(|i| i.buffer.info().origin == Origin::Header)
    }

    /// Whether what is asked for is there in packets of the header's protocol.
    fn protocol(&self) -> Read<()> {
        use Protocol as P;
        let protocol = self.draft.header.protocol;
        let no_tcp = matches!(protocol, P::Udp | P::Icmp | P::Icmpv4 | P::Icmpv6);
        let no_udp = match protocol {
            P::Tcp | P::TcpPacket | P::TcpStream | P::Icmp | P::Icmpv4 | P::Icmpv6 => true,
            P::App(app) => app != App::Dns,
            P::Ip | P::Ipv4 | P::Ipv6 | P::Udp => false,
        };
        let wrong = match self.draft.protocol {
            Some(App::Http | App::Tls | App::Ssh) => no_tcp,
            Some(App::Dns) => no_tcp && no_udp,
            None => false,
        };
        let asks_tcp = self.draft.packet.iter().any(needs_tcp) || self.uses(Buffer::TcpHeader);
        if wrong || (asks_tcp && no_tcp) || (self.uses(Buffer::UdpHeader) && no_udp) {
            return broken(self.end, "the header's protocol has not what the options ask for");
        }
        if self.uses(Buffer::FileData) && !matches!(self.draft.protocol, None | Some(App::Http)) {
            return broken(self.end, "the rule's protocol carries no files");
        }
        Ok(())
    }

    /// The direction that the rule says, or its buffers imply.
    fn side(&self) -> Read<Option<Side>> {
        let said = self.draft.flow.unwrap_or_default().side;
        let mut implied = said;
        for side in self.inspects.iter().filter_map(|i| i.buffer.info().side) {
            match implied {
                Some(other) if other != side => {
                    return broken(self.end, "the rule mixes what is in requests and in responses");
                }
                _ => implied = Some(side),
            }
        }
        Ok(implied)
    }

    /// Whether the contents fit into what the rule says of their buffer's length.
    fn lengths(&self) -> Read<()> {
        for inspect in self.inspects {
            let needed = needed(inspect);
            let sizes = inspect.tests.iter().filter_map(|t| match t {
                Test::Size(size) => most(size),
                _ => None,
            });
            if let Some(most) = sizes.min().filter(|most| needed > *most) {
                let name = inspect.buffer.info().name;
                return broken(
                    self.end,
                    format!(
                        "{name} of at most {most} bytes has no room for its contents, {needed} bytes"
                    ),
                );
            }
            if inspect.buffer == Buffer::HttpMethod {
                self.method(inspect)?;
            }
        }
        let sizes: Vec<&Compare<u16>> = self.draft.packet.iter().filter_map(payload_size).collect();
        if sizes.len() > 1 {
            return broken(self.end, "a second `dsize`");
        }
        let payload = self.inspects.iter().find(|i| i.buffer == Buffer::Payload);
        let (Some(size), Some(payload)) = (sizes.first(), payload) else { return Ok(()) };
        let most = match size {
            Compare::Equal(n) | Compare::Between(_, n) | Compare::LessOrEqual(n) => Some(*n),
            Compare::Less(n) => Some(*n),
            _ => None,
        };
        match most.map(u64::from).filter(|most| needed(payload) > *most) {
            Some(most) => broken(
                self.end,
                format!("`dsize` of {most} has no room for contents of {} bytes", needed(payload)),
            ),
            None => Ok(()),
        }
    }

    /// Whether the contents can be in what the transforms make.
    fn transforms(&self) -> Read<()> {
        for inspect in self.inspects {
            let contents = inspect.tests.iter().filter_map(|t| match t {
                Test::Content(content) => Some(content),
                _ => None,
            });
            for content in contents {
                if !inspect.transforms.iter().all(|t| t.can_make(&content.pattern)) {
                    let text = content.pattern.escape_ascii();
                    return broken(self.end, format!("no transform makes what has `{text}` in it"));
                }
            }
        }
        Ok(())
    }

    fn method(&self, inspect: &Inspect) -> Read<()> {
        let blank = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b' ' | b'\t'));
        let pads = |t: &Test| match t {
            Test::Content(c) => blank(c.pattern.first()) || blank(c.pattern.last()),
            _ => false,
        };
        match inspect.tests.iter().any(pads) {
            true => broken(self.end, "a method neither begins nor ends with a blank"),
            false => Ok(()),
        }
    }

    /// Where contents without a buffer are looked for.
    fn scope(&self) -> Read<Scope> {
        use Protocol as P;
        let protocol = self.draft.header.protocol;
        let stream = self.draft.flow.unwrap_or_default().stream;
        let packet_only = protocol == P::TcpPacket
            || stream == Some(Only::No)
            || self.draft.packet.iter().any(needs_packet)
            || self.uses_headers();
        let stream_only = protocol == P::TcpStream || stream == Some(Only::Only);
        if packet_only && stream_only {
            return broken(self.end, "the rule mixes what only packets and what only streams have");
        }
        if packet_only && self.uses_transactions() {
            return broken(
                self.end,
                "the rule mixes what only packets have with an application's transactions",
            );
        }
        let Some(payload) = self.inspects.iter().find(|i| i.buffer == Buffer::Payload) else {
            return Ok(Scope::default());
        };
        if matches!(protocol, P::Udp | P::Icmp | P::Icmpv4 | P::Icmpv6) || packet_only {
            return Ok(Scope { packet: true, stream: false });
        }
        if stream_only {
            return Ok(Scope { packet: false, stream: true });
        }
        // A content at a place of the payload may be meant of a packet's.
        let placed = |t: &Test| matches!(t, Test::Content(c) if c.is_absolute());
        let counts = |t: &PacketTest| matches!(t, PacketTest::StreamSize(..));
        let packet = payload.tests.iter().any(placed) || self.draft.packet.iter().any(counts);
        Ok(Scope { packet, stream: true })
    }

    /// What the rule is evaluated on.
    fn kind(&self, flow: FlowTest, scope: Scope) -> RuleKind {
        let draft = self.draft;
        // What differs from packet to packet makes a rule one of packets, unless it has bytes to look at.
        let counts = |e: &Effect| {
            let changes = [IntegerChange::Add, IntegerChange::Subtract];
            matches!(e, Effect::Integer(_, change, _) if changes.contains(change))
        };
        let varies = !draft.state.is_empty()
            || draft.effects.iter().any(counts)
            || FlowTest { side: None, ..flow } != FlowTest::default();
        if self.uses_transactions() {
            return RuleKind::Transaction;
        }
        let only_packet = |of: fn(&PacketTest) -> bool| {
            self.inspects.is_empty() && !varies && draft.packet.iter().all(of)
        };
        if !draft.packet.is_empty() && only_packet(|t| matches!(t, PacketTest::Event(_))) {
            return RuleKind::Event;
        }
        if only_packet(|_| false) {
            match (draft.app.is_empty(), draft.protocol) {
                (false, _) => return RuleKind::Protocol,
                (true, Some(_)) => return RuleKind::App,
                (true, None) if flow != FlowTest::default() => return RuleKind::Packet,
                _ => {}
            }
            let negated = draft.header.src.has_negation || draft.header.dst.has_negation;
            return if negated { RuleKind::LikeIpOnly } else { RuleKind::IpOnly };
        }
        match scope {
            Scope { packet: true, stream: true } => RuleKind::PacketStream,
            Scope { packet: false, stream: true } => RuleKind::Stream,
            Scope { .. } => RuleKind::Packet,
        }
    }
}

/// Hexadecimal digits of contents are made those that the buffer is written with, as Suricata does.
fn write_digits(inspect: &mut Inspect) {
    let write: fn(&mut [u8]) = match inspect.buffer {
        Buffer::Ja3Hash | Buffer::Ja3sHash | Buffer::TlsCertFingerprint => {
            <[u8]>::make_ascii_lowercase
        }
        Buffer::SshHassh | Buffer::SshHasshServer => <[u8]>::make_ascii_lowercase,
        Buffer::TlsCertSerial => <[u8]>::make_ascii_uppercase,
        _ => return,
    };
    for test in &mut inspect.tests {
        if let Test::Content(content) = test {
            write(&mut content.pattern);
        }
    }
}

fn payload_size(test: &PacketTest) -> Option<&Compare<u16>> {
    match test {
        PacketTest::PayloadSize(size) => Some(size),
        _ => None,
    }
}

/// How many bytes a buffer has at least in which the contents are found.
fn needed(inspect: &Inspect) -> u64 {
    let (mut end, mut least) = (0_i64, 0_i64);
    for test in &inspect.tests {
        let content = match test {
            Test::Content(content) if content.presence == Presence::Present => content,
            // Behind those the next relative one may be anywhere.
            Test::Pcre(_) | Test::ByteJump(_) => {
                end = i64::MIN;
                continue;
            }
            _ => continue,
        };
        let length = i64::try_from(content.pattern.len()).unwrap_or(i64::MAX);
        let start = match (content.offset, content.distance) {
            (Some(Value::Number(offset)), _) => offset,
            (_, Some(Value::Number(distance))) => end.saturating_add(distance),
            _ if content.within.is_some() && content.distance.is_none() => end,
            _ => 0,
        };
        end = start.max(0).saturating_add(length);
        least = least.max(end);
    }
    u64::try_from(least).unwrap_or(0)
}

fn most(size: &Compare<u64>) -> Option<u64> {
    match size {
        Compare::Equal(n) | Compare::Less(n) | Compare::LessOrEqual(n) | Compare::Between(_, n) => {
            Some(*n)
        }
        _ => None,
    }
}

/// Of a rule without its own and without a class.
const PRIORITY: u8 = 3;
