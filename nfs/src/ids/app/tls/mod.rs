//! TLS, and SSL before it: the handshake up to where it is encrypted.
//!
//! ```text
//! bytes --> records --> handshake messages --> hellos, certificates --> session
//! ```
//!
//! Records and messages may be cut anywhere, and messages may be spread over records. A message that says something is
//! gathered up to a limit; all else is counted past. When both sides speak encrypted there is nothing left to read, which
//! the owner is told. Certificates are read by x509-parser, which is what Suricata reads them by: names come out the same.

mod certificate;
mod fingerprint;
mod hello;
mod session;
#[cfg(test)]
mod tests;

pub use certificate::Certificate;
pub use session::{Session, version_name};

use super::event::{Event, Events};
use super::{Fields, Input, Limits, Next, Outcome, Side, Stage, Transactions};

/// The parser of a flow.
#[derive(Debug)]
pub struct Tls {
    id: u64,
    sides: [Half; 2],
}

/// What one direction's next bytes are.
#[derive(Debug, Default)]
struct Half {
    step: Step,
    /// A record's header so far.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// The handshake message at work: its header, then its body as far as it is wanted.
    message: Vec<u8>,
    /// Bytes of the message still to come that nobody wants.
    skip: usize,
    /// Its handshake is over: everything but alerts is encrypted.
    is_encrypted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// The first bytes of the direction: they may be a hello of SSLv2.
    #[default]
    First,
    Header,
    /// So many bytes of a record are left.
    Record {
        kind: u8,
        left: usize,
    },
    /// So many bytes of a hello of SSLv2 are left.
    OldHello {
        left: usize,
    },
}

impl Tls {
    /// Opens the flow's only transaction.
    pub(super) fn new(txs: &mut Transactions) -> Self {
        let tx = txs.open(Fields::Tls(Box::default()));
        Self { id: tx.id(), sides: Default::default() }
    }

    /// The memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.sides.iter().map(|side| side.message.capacity()).sum()
    }

    pub(super) fn feed(
        &mut self,
        direction: Side,
        input: Input<'_>,
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        let mut outcome = Outcome { has_news: true, ..Outcome::all(input) };
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::Eof => return outcome,
            Input::Gap(gap) => {
                if !self.gap(direction, gap) {
                    outcome.next = Next::Failed;
                }
                return outcome;
            }
        };
        let Some(tx) = txs.get_mut(self.id) else {
            // It was inspected and logged as complete.
            return Outcome { next: Next::Encrypted, ..outcome };
        };
        let Some((session, events)) = tx.tls_mut() else { return outcome };
        let side = &mut self.sides[direction.index()];
        let result = side.take(direction, bytes, (session, events), limits);
        let [up, down] = session.stages();
        tx.reach(Side::ToServer, up);
        tx.reach(Side::ToClient, down);
        if let Err(event) = result {
            tx.remark(event);
            outcome.next = Next::Failed;
        } else if tx.is_complete() {
            outcome.next = Next::Encrypted;
        }
        outcome
    }

    /// Bytes are missing: within a record that nobody reads that is borne.
    fn gap(&mut self, direction: Side, gap: u64) -> bool {
        let side = &mut self.sides[direction.index()];
        let Step::Record { kind, left } = &mut side.step else { return false };
        match usize::try_from(gap) {
            Ok(gap) if gap <= *left && (*kind != HANDSHAKE || side.is_encrypted) => {
                *left -= gap;
                true
            }
            _ => false,
        }
    }
}

impl Half {
    fn take(
        &mut self,
        direction: Side,
        mut input: &[u8],
        (session, events): (&mut Session, &mut Events),
        limits: &Limits,
    ) -> Result<(), Event> {
        while !input.is_empty() {
            match self.step {
                Step::First | Step::Header => {
                    while let Some(slot) = self.header.get_mut(self.header_len) {
                        let Some((byte, rest)) = input.split_first() else { return Ok(()) };
                        *slot = *byte;
                        self.header_len += 1;
                        input = rest;
                    }
                    self.header_len = 0;
                    self.step = self.begin_record(direction, session)?;
                }
                Step::OldHello { left } => {
                    let len = left.min(input.len());
                    input = input.get(len..).unwrap_or_default();
                    self.step = Step::OldHello { left: left - len };
                    if left == len {
                        session.reach(direction, Stage::Headers);
                        self.step = Step::Header;
                    }
                }
                Step::Record { kind, left } => {
                    let (part, rest) =
                        input.split_at_checked(left.min(input.len())).unwrap_or_default();
                    input = rest;
                    if kind == HANDSHAKE && !self.is_encrypted {
                        self.take_handshake(direction, part, (session, events), limits)?;
                    }
                    let left = left - part.len();
                    self.step = if left > 0 { Step::Record { kind, left } } else { Step::Header };
                    if left == 0 && matches!(kind, CHANGE_CIPHER_SPEC | APPLICATION_DATA) {
                        self.encrypt(direction, kind, session);
                    }
                }
            }
        }
        Ok(())
    }

    /// A record's header is whole.
    fn begin_record(&mut self, direction: Side, session: &mut Session) -> Result<Step, Event> {
        let [kind, major, minor, high, low] = self.header;
        let is_first = self.step == Step::First;
        session.reach(direction, Stage::Started);
        if is_first && kind & 0x80 != 0 && minor == CLIENT_HELLO && direction == Side::ToServer {
            let version = u16::from_be_bytes([high, low]);
            let left = usize::from(u16::from_be_bytes([kind & 0x7f, major]));
            session.old_hello(version);
            // Three bytes of it are in the header.
            return left
                .checked_sub(3)
                .map(|left| Step::OldHello { left })
                .ok_or(INVALID_OLD_HEADER);
        }
        if major != 3 {
            return Err(INVALID_RECORD_VERSION);
        }
        if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) {
            return Err(INVALID_RECORD_TYPE);
        }
        let left = usize::from(u16::from_be_bytes([high, low]));
        if left > LONGEST_RECORD {
            return Err(INVALID_RECORD_LENGTH);
        }
        Ok(if left == 0 { Step::Header } else { Step::Record { kind, left } })
    }

    /// From here on nothing of this direction can be read.
    fn encrypt(&mut self, direction: Side, kind: u8, session: &mut Session) {
        // TLS 1.3 sends a change of cipher for show; the server's handshake goes on as application data.
        self.is_encrypted = true;
        self.message = Vec::new();
        if kind == CHANGE_CIPHER_SPEC {
            session.changes_cipher(direction);
        }
        session.reach(direction, Stage::Complete);
    }

    /// A part of the handshake.
    fn take_handshake(
        &mut self,
        direction: Side,
        mut part: &[u8],
        (session, events): (&mut Session, &mut Events),
        limits: &Limits,
    ) -> Result<(), Event> {
        while !part.is_empty() {
            if self.skip > 0 {
                let len = self.skip.min(part.len());
                self.skip -= len;
                part = part.get(len..).unwrap_or_default();
                continue;
            }
            let have = self.message.len();
            let want = match self.message.as_slice() {
                [_, high, middle, low, ..] => {
                    MESSAGE_HEADER_LEN
                        + (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low))
                }
                _ => MESSAGE_HEADER_LEN,
            };
            let len = want.saturating_sub(have).min(part.len());
            let (now, rest) = part.split_at_checked(len).unwrap_or_default();
            self.message.extend_from_slice(now);
            part = rest;
            if have < MESSAGE_HEADER_LEN && self.message.len() == MESSAGE_HEADER_LEN {
                self.begin_message(events, limits);
            }
            self.end_message(direction, (session, events))?;
        }
        Ok(())
    }

    /// A message's header is whole: it is gathered if it says something.
    fn begin_message(&mut self, events: &mut Events, limits: &Limits) {
        let [kind, high, middle, low] = self.message[..] else { return };
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let is_wanted = matches!(kind, CLIENT_HELLO | SERVER_HELLO | CERTIFICATE);
        if is_wanted && len > limits.tls_handshake {
            events.add(HANDSHAKE_LENGTH);
        }
        if !is_wanted || len > limits.tls_handshake {
            self.skip = len;
            // Its header stays without a body, so that the end of the handshake is seen below.
            self.message = vec![kind, 0, 0, 0];
        }
    }

    /// A message may be whole.
    fn end_message(
        &mut self,
        direction: Side,
        (session, events): (&mut Session, &mut Events),
    ) -> Result<(), Event> {
        let Some((&[kind, high, middle, low], body)) = self.message.split_first_chunk() else {
            return Ok(());
        };
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if body.len() < len {
            return Ok(());
        }
        let is_fine = match (kind, direction) {
            _ if body.is_empty() && kind != SERVER_HELLO_DONE => true,
            (CLIENT_HELLO, Side::ToServer) => session.client_hello(body, events),
            (SERVER_HELLO, Side::ToClient) => session.server_hello(body),
            (CERTIFICATE, Side::ToClient) => session.certificates(body, events),
            (SERVER_HELLO_DONE, Side::ToClient) => {
                session.reach(direction, Stage::Headers);
                true
            }
            _ => true,
        };
        self.message.clear();
        if is_fine { Ok(()) } else { Err(INVALID_HANDSHAKE) }
    }
}

const HEADER_LEN: usize = 5;
const MESSAGE_HEADER_LEN: usize = 4;

/// RFC 8446, section 5.1; RFC 6520 for the heartbeat.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// RFC 8446, section 4; RFC 5246, section 7.4.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_HELLO_DONE: u8 = 14;

/// 2^14, and what versions before 1.3 may add.
const LONGEST_RECORD: usize = (1 << 14) + 2048;

const INVALID_OLD_HEADER: Event = Event::tls("INVALID_SSLV2_HEADER");
const INVALID_RECORD_VERSION: Event = Event::tls("INVALID_RECORD_VERSION");
const INVALID_RECORD_TYPE: Event = Event::tls("INVALID_RECORD_TYPE");
const INVALID_RECORD_LENGTH: Event = Event::tls("INVALID_RECORD_LENGTH");
const INVALID_HANDSHAKE: Event = Event::tls("INVALID_HANDSHAKE_MESSAGE");
const HANDSHAKE_LENGTH: Event = Event::tls("HANDSHAKE_INVALID_LENGTH");
const MULTIPLE_SNI: Event = Event::tls("MULTIPLE_SNI_EXTENSIONS");
const INVALID_SNI_TYPE: Event = Event::tls("INVALID_SNI_TYPE");
const INVALID_SNI_LENGTH: Event = Event::tls("INVALID_SNI_LENGTH");
const INVALID_CERTIFICATE: Event = Event::tls("INVALID_CERTIFICATE");
const CERTIFICATE_LENGTH: Event = Event::tls("CERTIFICATE_INVALID_LENGTH");
