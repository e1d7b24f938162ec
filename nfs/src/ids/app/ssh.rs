//! SSH: both banners, and the key exchange up to where it is encrypted (RFC 4253).

use md5::{Digest, Md5};

use super::event::{Event, Events};
use super::reader::Reader;
use super::text::{Span, chomp, hex, split_at_first};
use super::{Fields, Input, Limits, Next, Outcome, Side, Stage, Transactions};
use crate::ids::buffer::Buffer;

/// What is known of a connection.
#[derive(Debug, Default)]
pub struct Session {
    ends: [End; 2],
}

/// What is known of one side.
#[derive(Debug, Default)]
pub struct End {
    banner: Vec<u8>,
    proto: Span,
    software: Span,
    hassh: Option<(Vec<u8>, Vec<u8>)>,
}

impl End {
    /// `proto_version` of records, `ssh.proto`: `2.0`.
    pub fn proto(&self) -> Option<&[u8]> {
        self.proto.some_of(&self.banner)
    }

    /// `software_version` of records, `ssh.software`: `OpenSSH_9.2`.
    pub fn software(&self) -> Option<&[u8]> {
        self.software.some_of(&self.banner)
    }

    /// `hassh` of records: string and hash.
    pub fn hassh(&self) -> Option<(&[u8], &[u8])> {
        self.hassh.as_ref().map(|(string, hash)| (string.as_slice(), hash.as_slice()))
    }

    fn bytes(&self) -> usize {
        self.banner.capacity() + self.hassh.as_ref().map_or(0, |(string, _)| string.capacity() + 32)
    }
}

impl Session {
    /// `client` and `server` of records: of whom a direction's bytes are.
    pub fn end(&self, direction: Side) -> &End {
        &self.ends[direction.index()]
    }

    /// See [`crate::ids::app::Transaction::buffer_at`].
    pub(crate) fn buffer(&self, buffer: Buffer, direction: Side) -> Option<&[u8]> {
        let end = self.end(direction);
        match buffer {
            Buffer::SshProto => end.proto(),
            Buffer::SshSoftware => end.software(),
            Buffer::SshHassh | Buffer::SshHasshServer => end.hassh().map(|(_, hash)| hash),
            Buffer::SshHasshString | Buffer::SshHasshServerString => {
                end.hassh().map(|(string, _)| string)
            }
            _ => None,
        }
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.ends.iter().map(End::bytes).sum::<usize>()
    }
}

/// The parser of a flow.
#[derive(Debug)]
pub struct Ssh {
    id: u64,
    sides: [Half; 2],
}

#[derive(Debug, Default)]
struct Half {
    step: Step,
    /// The banner, a packet's header, or a key exchange, as far as it came.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Banner,
    /// Behind a banner that was cut, up to the line's end.
    BannerRest,
    /// Length, padding and number of a packet's message.
    Header,
    /// A key exchange that is kept; so many bytes are left.
    Kex {
        left: usize,
        padding: usize,
    },
    /// Of a packet that nobody reads so many bytes are left.
    Skip {
        left: usize,
    },
    Encrypted,
}

impl Ssh {
    /// Opens the flow's only transaction.
    pub(super) fn new(txs: &mut Transactions) -> Self {
        let tx = txs.open(Fields::Ssh(Box::default()));
        Self { id: tx.id(), sides: Default::default() }
    }

    /// The memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.sides.iter().map(|side| side.held.capacity()).sum()
    }

    pub(super) fn feed(
        &mut self,
        direction: Side,
        input: Input<'_>,
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        let mut outcome = Outcome { has_news: true, ..Outcome::all(input) };
        let Some(tx) = txs.get_mut(self.id) else {
            return Outcome { next: Next::Encrypted, ..outcome };
        };
        let side = &mut self.sides[direction.index()];
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::Eof => return outcome,
            Input::Gap(gap) => {
                match (&mut side.step, usize::try_from(gap)) {
                    (Step::Skip { left }, Ok(gap)) if gap <= *left => *left -= gap,
                    (Step::Encrypted, _) => {}
                    _ => outcome.next = Next::Failed,
                }
                return outcome;
            }
        };
        let Some((session, events)) = tx.ssh_mut() else { return outcome };
        let end = &mut session.ends[direction.index()];
        match side.take(direction, bytes, (end, events), limits) {
            Ok(stage) => tx.reach(direction, stage),
            Err(event) => {
                tx.remark(event);
                outcome.next = Next::Failed;
            }
        }
        if tx.is_complete() {
            outcome.next = Next::Encrypted;
        }
        outcome
    }
}

impl Half {
    /// Takes bytes; how far the direction is now.
    fn take(
        &mut self,
        direction: Side,
        mut input: &[u8],
        (end, events): (&mut End, &mut Events),
        limits: &Limits,
    ) -> Result<Stage, Event> {
        let mut stage = Stage::Started;
        while !input.is_empty() {
            match self.step {
                Step::Banner => {
                    let line_end = memchr::memchr(b'\n', input).map(|at| at + 1);
                    let most = LONGEST_BANNER - self.held.len();
                    let len = line_end.unwrap_or(input.len()).min(most);
                    let (part, rest) = input.split_at_checked(len).unwrap_or_default();
                    self.held.extend_from_slice(part);
                    input = rest;
                    let is_whole = self.held.last() == Some(&b'\n');
                    if is_whole || self.held.len() >= LONGEST_BANNER {
                        self.step = if is_whole { Step::Header } else { Step::BannerRest };
                        if !is_whole {
                            events.add(LONG_BANNER);
                        }
                        end.read_banner(std::mem::take(&mut self.held))?;
                        stage = Stage::Line;
                        // Version 1 has packets of another form.
                        if end
                            .proto()
                            .is_some_and(|proto| proto.starts_with(b"1.") && proto != b"1.99")
                        {
                            self.step = Step::Encrypted;
                        }
                    }
                }
                Step::BannerRest => match memchr::memchr(b'\n', input) {
                    Some(at) => {
                        input = input.get(at + 1..).unwrap_or_default();
                        self.step = Step::Header;
                    }
                    None => input = &[],
                },
                Step::Header => {
                    let len = (HEADER_LEN - self.held.len()).min(input.len());
                    let (part, rest) = input.split_at_checked(len).unwrap_or_default();
                    self.held.extend_from_slice(part);
                    input = rest;
                    if self.held.len() == HEADER_LEN {
                        self.step = self.begin_packet(events, limits)?;
                        self.held = Vec::new();
                    }
                }
                Step::Kex { left, padding } => {
                    let (part, rest) =
                        input.split_at_checked(left.min(input.len())).unwrap_or_default();
                    self.held.extend_from_slice(part);
                    input = rest;
                    let left = left - part.len();
                    self.step = Step::Kex { left, padding };
                    if left == 0 {
                        self.step = Step::Header;
                        let held = std::mem::take(&mut self.held);
                        let body = held.get(..held.len().saturating_sub(padding));
                        end.hassh = body.and_then(|body| hassh(body, direction));
                        stage = Stage::Headers;
                    }
                }
                Step::Skip { left } => {
                    let len = left.min(input.len());
                    input = input.get(len..).unwrap_or_default();
                    let left = left - len;
                    self.step = if left == 0 { Step::Header } else { Step::Skip { left } };
                }
                Step::Encrypted => input = &[],
            }
        }
        Ok(if self.step == Step::Encrypted { Stage::Complete } else { stage })
    }

    /// A packet's header is whole.
    fn begin_packet(&self, events: &mut Events, limits: &Limits) -> Result<Step, Event> {
        let mut fields = Reader::new(&self.held);
        let (Some(len), Some(padding), Some(message)) =
            (fields.long(), fields.byte(), fields.byte())
        else {
            return Err(INVALID_RECORD);
        };
        // Padding and message number are counted in the length.
        let left = usize::try_from(len).ok().and_then(|len| len.checked_sub(2));
        let Some(left) = left.filter(|left| *left <= LONGEST_PACKET) else {
            return Err(INVALID_RECORD);
        };
        let padding = usize::from(padding);
        Ok(match message {
            NEW_KEYS => Step::Encrypted,
            KEX_INIT if left <= limits.ssh_kex && left > 0 => Step::Kex { left, padding },
            _ => {
                if message == KEX_INIT {
                    events.add(LONG_KEX);
                }
                if left == 0 { Step::Header } else { Step::Skip { left } }
            }
        })
    }
}

impl End {
    /// Takes `SSH-2.0-OpenSSH_9.2 comment` apart.
    fn read_banner(&mut self, mut banner: Vec<u8>) -> Result<(), Event> {
        banner.truncate(chomp(&banner).len());
        let rest = banner.strip_prefix(b"SSH-").ok_or(INVALID_BANNER)?;
        let (proto, rest) = split_at_first(rest, |b| b == b'-');
        if rest.is_empty() {
            return Err(INVALID_BANNER);
        }
        let (software, _) = split_at_first(rest.get(1..).unwrap_or_default(), |b| b == b' ');
        self.proto = Span::at(PREFIX_LEN, proto);
        self.software = Span::at(PREFIX_LEN + proto.len() + 1, software);
        self.banner = banner;
        Ok(())
    }
}

/// String and MD5 of what a side offers for its direction: key exchange, encryption, MAC, compression.
fn hassh(body: &[u8], direction: Side) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut fields = Reader::new(body);
    fields.take(COOKIE_LEN)?;
    let mut lists = [&[][..]; 8];
    for list in &mut lists {
        let len = usize::try_from(fields.long()?).ok()?;
        *list = fields.take(len)?;
    }
    let [kex, _keys, ciphers_up, ciphers_down, macs_up, macs_down, packs_up, packs_down] = lists;
    let string = match direction {
        Side::ToServer => [kex, ciphers_up, macs_up, packs_up],
        Side::ToClient => [kex, ciphers_down, macs_down, packs_down],
    }
    .join(&b';');
    let hash = hex(&Md5::digest(&string));
    Some((string, hash))
}

/// With the line's end; RFC 4253, section 4.2.
const LONGEST_BANNER: usize = 256;
const PREFIX_LEN: usize = 4;
const HEADER_LEN: usize = 6;
const COOKIE_LEN: usize = 16;

/// Implementations take at least 35,000; far more is no packet.
const LONGEST_PACKET: usize = 1 << 20;

/// RFC 4253, section 12.
const KEX_INIT: u8 = 20;
const NEW_KEYS: u8 = 21;

const INVALID_BANNER: Event = Event::ssh("invalid_banner");
const LONG_BANNER: Event = Event::ssh("long_banner");
const INVALID_RECORD: Event = Event::ssh("invalid_record");
const LONG_KEX: Event = Event::ssh("long_kex_record");

#[cfg(test)]
mod tests;
