//! Applications: what the bytes of a flow mean.
//!
//! ```text
//! ordered bytes of a direction --> [ App: guess, then a parser ] --> transactions --> detection, logs
//! ```
//!
//! The owner of a flow keeps one [`App`] with it and feeds it what the stream engine hands out, in order and with gaps told,
//! or the datagrams of UDP. The App guesses the protocol by the first bytes of either direction and by ports, then has that
//! protocol's parser take the bytes apart. No parser needs a message whole: bytes may be cut anywhere, with the same result.
//!
//! After each [`App::feed`] the owner, for each of [`Transactions::iter`]:
//! 1. evaluates rules: [`Transaction::ready`] says whether a [`Buffer`] can be, [`Transaction::buffer`] and
//!    [`Transaction::buffer_at`] give its bytes, [`Transaction::body`] those of a streamed body with their place; numbers are
//!    asked for at [`Transaction::fields`];
//! 2. says so: [`Transactions::mark_inspected`];
//! 3. writes its record when it [`Transaction::is_complete`] (for TLS and SSH: when it thinks it has enough), and says so:
//!    [`Transactions::mark_logged`]; remarks: [`Transactions::take_events`], of the flow: [`App::take_events`];
//! 4. frees what is done: [`Transactions::collect`].
//!
//! [`Progress::consumed`] below what was fed means that there are too many open transactions: do 1 to 4, feed the rest. Who
//! feeds the rest without having freed any gives the oldest up ([`Transactions::shed`] counts).
//!
//! State is bounded by [`Limits`]; [`App::bytes`] says what a flow holds, for a budget over all flows. An App that has
//! failed, and one that says [`Progress::is_encrypted`], needs no more bytes; it ignores what it gets.
//!
//! Parsers of our own rather than a library: `httparse` and hyper refuse what servers accept, and what an attacker therefore
//! sends; rules are written against the tolerance and the normal forms of Suricata's parsers.
//!
//! [`Buffer`]: crate::ids::buffer::Buffer

pub mod detect;
pub mod dns;
pub mod event;
pub mod http;
mod reader;
pub mod ssh;
#[cfg(test)]
mod testkit;
mod text;
pub mod tls;
mod transaction;

pub use super::buffer::Side;
pub use transaction::{BodyView, Fields, Ready, Stage, Transaction, Transactions};

use detect::{Guess, Guesser};
use event::{Event, Events};

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.x, and 0.9.
    Http,
    /// HTTP/2: known by name, not parsed.
    Http2,
    /// WebSocket, after an upgrade: known by name, not parsed.
    WebSocket,
    /// DNS over UDP or TCP.
    Dns,
    /// TLS and SSL.
    Tls,
    /// SSH.
    Ssh,
    /// SMTP: known by name, not parsed.
    Smtp,
    /// FTP: known by name, not parsed.
    Ftp,
    /// SMB: known by name, not parsed.
    Smb,
    /// None of these.
    Failed,
}

impl Protocol {
    /// `app_proto` of EVE records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::WebSocket => "websocket",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Smtp => "smtp",
            Self::Ftp => "ftp",
            Self::Smb => "smb",
            Self::Failed => "failed",
        }
    }
}

/// What is fed.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The next bytes of a stream, or a datagram.
    Bytes(&'a [u8]),
    /// So many bytes are missing.
    Gap(u64),
    /// Nothing more comes in this direction.
    Eof,
}

/// How the flow was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pickup {
    /// From its first packet: who opened it is known.
    Start,
    /// In its middle: the directions are a guess, which the first bytes may turn round.
    Midstream,
}

/// The ports of a flow: of the opener, and the one that it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the opener.
    pub client: u16,
    /// Of the server.
    pub server: u16,
}

/// What a flow may hold, and how far it is looked into. The defaults are those of Suricata, but for the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open transactions.
    pub transactions: usize,
    /// A request or status line, in bytes.
    pub http_line: usize,
    /// The headers of a message, in bytes.
    pub http_headers: usize,
    /// The headers of a message, in number.
    pub http_header_count: usize,
    /// How far into a request's body rules look, in bytes.
    pub request_body: u64,
    /// How far into a response's body rules look, in bytes.
    pub response_body: u64,
    /// Bytes of a body kept after they were inspected, for patterns across pieces.
    pub body_window: usize,
    /// Content encodings on top of each other.
    pub encodings: usize,
    /// The window of a decompressor, in bytes.
    pub decompressor: usize,
    /// A body that grew by this factor ...
    pub bomb_ratio: u64,
    /// ... and beyond this many bytes is a bomb.
    pub bomb_bytes: u64,
    /// Queries and records of a DNS message that are kept.
    pub dns_records: usize,
    /// Bytes of names and data of a DNS message that are kept.
    pub dns_text: usize,
    /// A message of a TLS handshake, in bytes.
    pub tls_handshake: usize,
    /// A key exchange of SSH, in bytes.
    pub ssh_kex: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transactions: 512,
            http_line: 64 << 10,
            http_headers: 64 << 10,
            http_header_count: 1024,
            request_body: 100 << 10,
            response_body: 100 << 10,
            body_window: 16 << 10,
            encodings: 2,
            decompressor: 4 << 20,
            bomb_ratio: 2048,
            bomb_bytes: 1 << 20,
            dns_records: 256,
            dns_text: 16 << 10,
            tls_handshake: 64 << 10,
            ssh_kex: 32 << 10,
        }
    }
}

impl Limits {
    /// How far into the body of a direction's messages rules look.
    pub fn body(&self, direction: Side) -> u64 {
        match direction {
            Side::ToServer => self.request_body,
            Side::ToClient => self.response_body,
        }
    }
}

/// What a feed led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes taken. Below what was fed: inspect, collect, feed the rest.
    pub consumed: usize,
    /// Something can be inspected or logged that could not before.
    pub has_news: bool,
    /// The directions were the wrong way round. From now on the App takes them turned: the owner turns the flow, too.
    pub is_swapped: bool,
    /// The rest of the flow is encrypted, or of no interest: it may bypass.
    pub is_encrypted: bool,
    /// It holds as much memory as before.
    pub is_steady: bool,
}

/// What the next bytes of a direction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The middle of a body that is sent as it is, and that rules look at.
    Body,
    /// Nothing that rules look at but as bytes of the stream.
    Nothing,
}

/// The application of one flow.
#[derive(Debug)]
pub struct App {
    state: State,
    ports: Ports,
    protocol: Option<Protocol>,
    original: Option<Protocol>,
    transactions: Transactions,
    events: Events,
}

/// Who takes the bytes.
#[derive(Debug)]
enum State {
    Guessing(Box<Guesser>),
    Http(Box<http::Http>),
    Dns(Box<dns::Dns>),
    Tls(Box<tls::Tls>),
    Ssh(Box<ssh::Ssh>),
    /// Nobody: failed, encrypted, or known by name only.
    Ignored,
}

impl App {
    /// Of a TCP connection.
    pub fn tcp(ports: Ports, pickup: Pickup) -> Self {
        Self::new(State::Guessing(Box::new(Guesser::new(ports, pickup))), ports)
    }

    /// Of datagrams between two endpoints.
    pub fn udp(ports: Ports) -> Self {
        let is_dns = ports.server == dns::PORT || ports.client == dns::PORT;
        if is_dns {
            return Self::new(State::Dns(Box::new(dns::Dns::datagrams())), ports);
        }
        let mut app = Self::new(State::Ignored, ports);
        app.protocol = Some(Protocol::Failed);
        app
    }

    fn new(state: State, ports: Ports) -> Self {
        let (transactions, events) = Default::default();
        Self { state, ports, protocol: None, original: None, transactions, events }
    }

    /// `app_proto`: what it speaks; `None` while that is open.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// `app_proto_orig`: what it spoke before an upgrade or a tunnel.
    pub fn original(&self) -> Option<Protocol> {
        self.original
    }

    /// Whether no parser looks at it any more.
    pub fn is_ignored(&self) -> bool {
        matches!(self.state, State::Ignored)
    }

    /// The transactions that somebody still needs.
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// The same, to mark and to free them.
    pub fn transactions_mut(&mut self) -> &mut Transactions {
        &mut self.transactions
    }

    /// The remarks about the flow since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Guessing(_) => size_of::<Guesser>(),
            State::Http(http) => size_of::<http::Http>() + http.bytes(),
            State::Dns(dns) => size_of::<dns::Dns>() + dns.bytes(),
            State::Tls(tls) => size_of::<tls::Tls>() + tls.bytes(),
            State::Ssh(ssh) => size_of::<ssh::Ssh>() + ssh.bytes(),
            State::Ignored => 0,
        };
        size_of::<Self>() + state + self.transactions.bytes() + self.events.bytes()
    }

    /// What the next bytes of a direction are, if they are the middle of something that is looked at where it lies in the stream;
    /// and below how many of them that is so.
    pub fn expects(&self, direction: Side, limits: &Limits) -> Option<(Expected, u32)> {
        match &self.state {
            State::Http(http) => http.expects(direction, &self.transactions, limits),
            _ => None,
        }
    }

    /// So many bytes went by that it [expected](Self::expects), and were looked at but for the last `fresh`. `fetch` adds the last
    /// bytes of the stream, as many as it is asked for.
    pub fn catch_up(
        &mut self,
        direction: Side,
        (passed, fresh): (u32, u32),
        window: usize,
        fetch: impl FnOnce(u32, &mut Vec<u8>),
    ) {
        if let State::Http(http) = &mut self.state {
            http.catch_up(direction, (passed, fresh), &mut self.transactions, window, fetch);
        }
    }

    /// Takes the next of a direction.
    ///
    /// # Cost
    /// Linear in the bytes, however they are cut. See [`http`] for figures.
    pub fn feed(&mut self, direction: Side, input: Input<'_>, limits: &Limits) -> Progress {
        if matches!(self.state, State::Guessing(_)) {
            return self.guess(direction, input, limits);
        }
        self.parse(direction, input, limits)
    }

    /// Gathers first bytes until they tell the protocol, then hands them to its parser.
    fn guess(&mut self, direction: Side, input: Input<'_>, limits: &Limits) -> Progress {
        let State::Guessing(guesser) = &mut self.state else { return Progress::default() };
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::Gap(_) | Input::Eof => {
                guesser.give_up(direction);
                if guesser.is_hopeless() {
                    self.fail();
                }
                if matches!(input, Input::Eof) {
                    self.transactions.finish(direction);
                }
                return Progress::default();
            }
        };
        let (taken, guess) = guesser.add(direction, bytes);
        let everything = Progress { consumed: bytes.len(), ..Progress::default() };
        let (protocol, is_swapped) = match guess {
            Guess::Open => return everything,
            Guess::Hopeless => {
                self.fail();
                return everything;
            }
            Guess::Known { protocol, is_swapped } => (protocol, is_swapped),
        };
        let firsts = guesser.firsts(is_swapped);
        if let Some(event) = guesser.disagreement(direction, protocol) {
            self.events.add(event);
        }
        let direction = if is_swapped { direction.opposite() } else { direction };
        self.begin(protocol);
        let mut progress = Progress { is_swapped, has_news: true, ..Progress::default() };
        let sides = [Side::ToServer, Side::ToClient];
        for (side, (first, lost)) in sides.into_iter().zip(firsts) {
            if lost > 0 {
                self.parse(side, Input::Bytes(&first), limits);
                self.parse(side, Input::Gap(lost), limits);
            } else if !first.is_empty() {
                // At most a few bytes: too few to open more transactions than there is room for.
                let step = self.parse(side, Input::Bytes(&first), limits);
                progress.is_encrypted |= step.is_encrypted;
            }
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        let step = self.parse(direction, Input::Bytes(rest), limits);
        progress.consumed = taken + step.consumed;
        progress.is_encrypted |= step.is_encrypted;
        progress
    }

    fn parse(&mut self, direction: Side, input: Input<'_>, limits: &Limits) -> Progress {
        let txs = &mut self.transactions;
        let outcome = match &mut self.state {
            State::Http(http) => http.feed(direction, input, txs, limits),
            State::Dns(dns) => dns.feed(direction, input, txs, limits),
            State::Tls(tls) => tls.feed(direction, input, txs, limits),
            State::Ssh(ssh) => ssh.feed(direction, input, txs, limits),
            State::Guessing(_) | State::Ignored => Outcome::all(input),
        };
        if matches!(input, Input::Eof) {
            self.transactions.finish(direction);
        }
        let mut progress = Progress {
            consumed: outcome.consumed,
            has_news: outcome.has_news || matches!(input, Input::Eof),
            is_swapped: outcome.next == Next::Swapped,
            is_encrypted: outcome.next == Next::Encrypted,
            is_steady: outcome.is_steady,
        };
        match outcome.next {
            Next::More => {}
            Next::Swapped => self.protocol = Some(Protocol::Dns),
            Next::Known(protocol) => self.protocol = Some(protocol),
            Next::Encrypted | Next::Ended => self.state = State::Ignored,
            Next::Failed => self.stop(),
            Next::Becomes(protocol) => {
                self.original = self.original.or(self.protocol);
                self.begin(protocol);
            }
            Next::Tunnel => {
                let mut held = Vec::new();
                if let State::Http(http) = &mut self.state {
                    held = http.take_held();
                }
                self.original = self.original.or(self.protocol);
                self.state = State::Guessing(Box::new(Guesser::new(self.ports, Pickup::Start)));
                let mut steps = vec![(Side::ToServer, held.as_slice())];
                if let Input::Bytes(bytes) = input {
                    steps.push((direction, bytes.get(outcome.consumed..).unwrap_or_default()));
                    progress.consumed = bytes.len();
                }
                for (direction, bytes) in steps {
                    if !bytes.is_empty() {
                        let step = self.feed(direction, Input::Bytes(bytes), limits);
                        progress.is_encrypted |= step.is_encrypted;
                    }
                }
            }
        }
        if let (State::Ignored, Input::Bytes(bytes)) = (&self.state, input) {
            progress.consumed = bytes.len();
        }
        progress
    }

    /// Hands what follows to a protocol's parser.
    fn begin(&mut self, protocol: Protocol) {
        self.protocol = Some(protocol);
        self.state = match protocol {
            Protocol::Http => State::Http(Box::new(http::Http::new(&self.transactions))),
            Protocol::Dns => State::Dns(Box::new(dns::Dns::stream())),
            Protocol::Tls => State::Tls(Box::new(tls::Tls::new(&mut self.transactions))),
            Protocol::Ssh => State::Ssh(Box::new(ssh::Ssh::new(&mut self.transactions))),
            _ => State::Ignored,
        };
    }

    /// No protocol that is known.
    fn fail(&mut self) {
        self.protocol = Some(Protocol::Failed);
        self.state = State::Ignored;
    }

    /// The parser cannot go on. The protocol stays what it was; what is open ends here.
    fn stop(&mut self) {
        self.protocol = self.protocol.or(Some(Protocol::Failed));
        self.state = State::Ignored;
        self.transactions.finish(Side::ToServer);
        self.transactions.finish(Side::ToClient);
    }
}

/// What a parser did with its input.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    consumed: usize,
    has_news: bool,
    next: Next,
    is_steady: bool,
}

impl Outcome {
    /// All of the input was taken, and nothing came of it.
    fn all(input: Input<'_>) -> Self {
        let consumed = if let Input::Bytes(bytes) = input { bytes.len() } else { 0 };
        Self { consumed, has_news: false, next: Next::More, is_steady: false }
    }
}

/// What becomes of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It waits for more.
    More,
    /// It is sure now.
    Known(Protocol),
    /// It is sure, and the directions are the other way round.
    Swapped,
    /// There is nothing left to read.
    Encrypted,
    /// What follows is of no protocol that is known.
    Ended,
    /// It cannot make sense of this.
    Failed,
    /// The rest is of another protocol.
    Becomes(Protocol),
    /// The rest is of a protocol to guess.
    Tunnel,
}
