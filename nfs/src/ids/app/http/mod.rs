//! HTTP/1.x and 0.9, as tolerant as the servers and browsers that rules protect.
//!
//! ```text
//! bytes --> line --> headers --> body (chunks taken apart, decompressed) --> exchange
//! ```
//!
//! Each direction is a state machine that takes bytes as they come and keeps no more than a line, the headers and a window
//! of the body. Requests and responses meet by their order: the response answers the oldest request that has none. What a
//! sender means is decided as libhtp decides, which Suricata uses: spaces in a URI, lines that end with LF alone, folded and
//! repeated headers, bodies whose length is said twice or not at all, responses that nobody asked for. Where libhtp's answer
//! depends on how the bytes are cut, this decides by the bytes alone.
//!
//! # Cost
//! An in-order GET of 500 bytes with nine headers: see the test `a_request_costs_little`, which prints it.

mod body;
mod chunks;
mod decoder;
mod event;
mod exchange;
mod headers;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod uri;

pub(crate) use body::BODY_WINDOWS;
pub use body::Body;
pub use exchange::{Exchange, Message};
pub use headers::Headers;

use super::event::Events;
use super::{Expected, Fields, Input, Limits, Next, Outcome, Side, Transaction, Transactions};
use chunks::{Chunks, Extended, Part};
use decoder::Decoder;
use event::Names;

/// Methods that are known; another word in their place makes a request too, but not the first of a flow.
pub const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"VERSION-CONTROL",
    b"CHECKOUT",
    b"UNCHECKOUT",
    b"CHECKIN",
    b"UPDATE",
    b"LABEL",
    b"REPORT",
    b"MKWORKSPACE",
    b"MKACTIVITY",
    b"BASELINE-CONTROL",
    b"MERGE",
    b"INVALID",
];

/// The parser of a flow.
#[derive(Debug)]
pub struct Http {
    request: Half,
    response: Half,
    /// The oldest request that may have no answer yet.
    next_answer: u64,
    /// What a client sent behind a CONNECT, until its answer is known.
    held: Vec<u8>,
}

/// The state machine of a direction.
#[derive(Debug)]
struct Half {
    step: Step,
    /// The transaction at work.
    id: Option<u64>,
    /// The line so far.
    line: Vec<u8>,
    decoder: Option<Decoder>,
}

/// What the next bytes of a direction are.
#[derive(Debug)]
enum Step {
    /// A request or status line, with empty lines before.
    Line,
    /// Request: behind a line that looks like HTTP/0.9. So much white space was seen, and the end of a line or not.
    Old { blanks: usize, has_line_end: bool },
    /// Response: a whole line that is no status line; the next byte tells whether it counts.
    Junk,
    /// Headers.
    Headers,
    /// Response without a body by its status, but with one by its headers: the bytes tell.
    PerhapsBody(Box<Step>),
    /// A body of which so many bytes are left.
    Sized(u64),
    /// A body up to the end of the stream.
    Endless,
    /// A body in chunks.
    Chunked(Chunks),
    /// Headers behind the last chunk.
    Trailers,
    /// Request: behind a CONNECT, its answer decides.
    Connect,
    /// Bytes are missing: up to the next line that starts a message. Whether the line at hand is of none.
    Lost { is_skipping: bool },
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// There is more to do with what is left.
    On,
    /// All of the input was taken.
    Wait,
    /// There is no room for another transaction.
    Full,
    /// The rest of the flow is not for this parser.
    Leave(Next),
}

impl Http {
    /// For what follows the transactions that there are.
    pub(super) fn new(txs: &Transactions) -> Self {
        Self {
            request: Half::default(),
            response: Half::default(),
            next_answer: txs.next_id(),
            held: Vec::new(),
        }
    }

    /// The memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.request.bytes() + self.response.bytes() + self.held.capacity()
    }

    /// What a client sent into a tunnel before it stood.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    pub(super) fn feed(
        &mut self,
        direction: Side,
        input: Input<'_>,
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        if let Input::Bytes(bytes) = input
            && let Some(outcome) = self.go_on_in_body(direction, bytes, txs, limits)
        {
            return outcome;
        }
        let mut outcome = Outcome { has_news: true, ..Outcome::all(input) };
        let flow = match (direction, input) {
            (Side::ToServer, Input::Bytes(bytes)) => {
                let mut rest = bytes;
                let flow = self.request(&mut rest, txs, limits);
                outcome.consumed = bytes.len() - rest.len();
                flow
            }
            (Side::ToClient, Input::Bytes(bytes)) => {
                let mut rest = bytes;
                let mut flow = self.response(&mut rest, txs, limits);
                outcome.consumed = bytes.len() - rest.len();
                if flow == Flow::Wait && !self.held.is_empty() {
                    flow = self.release_held(txs, limits);
                }
                flow
            }
            (_, Input::Gap(len)) => {
                self.gap(direction, len, txs, limits);
                Flow::Wait
            }
            (Side::ToServer, Input::Eof) => {
                self.end_request(txs, limits);
                Flow::Wait
            }
            (Side::ToClient, Input::Eof) => {
                self.end_response(txs, limits);
                Flow::Wait
            }
        };
        match flow {
            Flow::On | Flow::Wait => {}
            Flow::Full => outcome.has_news = true,
            Flow::Leave(next) => outcome.next = next,
        }
        outcome
    }

    /// See [`crate::ids::app::App::expects`].
    pub(super) fn expects(
        &self,
        direction: Side,
        txs: &Transactions,
        limits: &Limits,
    ) -> Option<(Expected, u32)> {
        let half = match direction {
            Side::ToServer => &self.request,
            Side::ToClient if self.held.is_empty() => &self.response,
            Side::ToClient => return None,
        };
        let left = match &half.step {
            Step::Sized(left) if half.decoder.is_none() => *left,
            Step::Endless if half.decoder.is_none() => u64::MAX,
            _ => return None,
        };
        let Fields::Http(exchange) = txs.get(half.id?)?.fields() else { return None };
        let body = exchange.body(direction);
        let below = |left: u64| u32::try_from(left).unwrap_or(u32::MAX);
        if body.is_full() {
            return Some((Expected::Nothing, below(left)));
        }
        let room = limits.body(direction).saturating_sub(body.total());
        body.is_plain_so_far().then_some((Expected::Body, below(left.min(room))))
    }

    /// See [`crate::ids::app::App::catch_up`].
    pub(super) fn catch_up(
        &mut self,
        direction: Side,
        (passed, fresh): (u32, u32),
        txs: &mut Transactions,
        window: usize,
        fetch: impl FnOnce(u32, &mut Vec<u8>),
    ) {
        let half = match direction {
            Side::ToServer => &mut self.request,
            Side::ToClient => &mut self.response,
        };
        if let Step::Sized(left) = &mut half.step {
            *left = left.saturating_sub(u64::from(passed));
        }
        let tx = half.id.and_then(|id| txs.get_mut(id));
        if let Some((exchange, _)) = tx.and_then(Transaction::http_mut) {
            let message = exchange.side_mut(direction);
            message.wire += u64::from(passed);
            message.body.catch_up((passed, fresh), window, fetch);
        }
    }

    /// What most segments are: the middle of a body that is sent as it is. `None`: this one is not.
    fn go_on_in_body(
        &mut self,
        direction: Side,
        bytes: &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Option<Outcome> {
        let half = match direction {
            Side::ToServer => &mut self.request,
            Side::ToClient if self.held.is_empty() => &mut self.response,
            Side::ToClient => return None,
        };
        let length = bytes.len() as u64;
        let is_middle = match &half.step {
            Step::Sized(left) => *left > length,
            Step::Endless => true,
            _ => false,
        };
        if !is_middle || half.decoder.is_some() {
            return None;
        }
        let (exchange, _) = txs.get_mut(half.id?)?.http_mut()?;
        if let Step::Sized(left) = &mut half.step {
            *left -= length;
        }
        let message = exchange.side_mut(direction);
        message.wire += length;
        let before = message.body.bytes();
        message.body.push_plain(bytes, limits.body(direction));
        let is_steady = message.body.bytes() == before;
        Some(Outcome { is_steady, ..Outcome::all(Input::Bytes(bytes)) })
    }

    /// Bytes are missing. Within a body that is borne; elsewhere the next message is looked for.
    fn gap(&mut self, direction: Side, len: u64, txs: &mut Transactions, limits: &Limits) {
        let limit = limits.body(direction);
        let side = match direction {
            Side::ToServer => &mut self.request,
            Side::ToClient => &mut self.response,
        };
        let mut body_gap = 0;
        let is_borne = match &mut side.step {
            Step::Sized(left) if len <= *left => {
                *left -= len;
                body_gap = len;
                true
            }
            Step::Endless => {
                body_gap = len;
                true
            }
            Step::Chunked(chunks) => {
                let is_borne = chunks.skip(len);
                body_gap = if is_borne { len } else { 0 };
                is_borne
            }
            _ => false,
        };
        let is_over = matches!(side.step, Step::Sized(0));
        if let Some((exchange, _)) =
            side.id.and_then(|id| txs.get_mut(id)).and_then(|tx| tx.http_mut())
        {
            let message = exchange.side_mut(direction);
            message.wire = message.wire.saturating_add(body_gap);
            message.body.skip(body_gap, limit);
        }
        if let Some(decoder) = &mut side.decoder {
            decoder.give_up();
        }
        if !is_borne || is_over {
            side.finish(direction, txs, limits);
        }
        if !is_borne {
            side.step = Step::Lost { is_skipping: false };
        }
    }
}

impl Default for Half {
    fn default() -> Self {
        Self { step: Step::Line, id: None, line: Vec::new(), decoder: None }
    }
}

impl Half {
    fn bytes(&self) -> usize {
        self.line.capacity() + self.decoder.as_ref().map_or(0, Decoder::bytes)
    }

    /// Gathers a line; whether it is whole now.
    fn take_line(&mut self, input: &mut &[u8], most: usize) -> Line {
        let end = memchr::memchr(b'\n', input).map(|at| at + 1);
        let (part, rest) = input.split_at_checked(end.unwrap_or(input.len())).unwrap_or_default();
        if self.line.len() + part.len() > most {
            return Line::TooLong;
        }
        self.line.extend_from_slice(part);
        *input = rest;
        if end.is_some() { Line::Whole } else { Line::Part }
    }

    /// Takes what comes next of a body that is not chunked, up to `left`.
    fn take_body(
        &mut self,
        input: &mut &[u8],
        left: u64,
        (message, events): (&mut Message, &mut Events),
        (limit, limits): (u64, &Limits),
    ) -> u64 {
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let (part, rest) = input.split_at_checked(fits).unwrap_or_default();
        *input = rest;
        message.wire += part.len() as u64;
        match &self.decoder {
            None => message.body.push_plain(part, limit),
            Some(_) => self.keep(part, (message, events), (limit, limits)),
        }
        left - part.len() as u64
    }

    /// Takes what comes next of a chunked body.
    fn take_chunk<'a>(
        &mut self,
        input: &mut &'a [u8],
        (message, events): (&mut Message, &mut Events),
        names: &Names,
        bounds: (u64, &Limits),
    ) -> Part<'a> {
        let Step::Chunked(chunks) = &mut self.step else { return Part::More };
        let (part, extended) = chunks.take(input, &mut message.wire);
        if extended == Extended::Yes {
            events.add(names.chunk_extension);
        }
        if let Part::Data(data) = part {
            self.keep(data, (message, events), bounds);
        }
        part
    }

    /// Keeps bytes of a body, decompressed.
    fn keep(
        &mut self,
        bytes: &[u8],
        (message, events): (&mut Message, &mut Events),
        (limit, limits): (u64, &Limits),
    ) {
        match &mut self.decoder {
            Some(decoder) => decoder.decode(bytes, &mut message.body, (limit, limits), events),
            None => message.body.push(bytes, limit),
        }
    }

    /// The message is whole.
    fn finish(&mut self, direction: Side, txs: &mut Transactions, limits: &Limits) {
        self.step = Step::Line;
        self.line = Vec::new();
        let decoder = self.decoder.take();
        let Some(tx) = self.id.take().and_then(|id| txs.get_mut(id)) else { return };
        if let (Some(mut decoder), Some((exchange, events))) = (decoder, tx.http_mut()) {
            let bounds = (limits.body(direction), limits);
            decoder.finish(&mut exchange.side_mut(direction).body, bounds, events);
        }
        tx.reach(direction, super::Stage::Complete);
    }

    /// Looks for the start of a line that `is_start` knows; gives it back in `line` and returns true.
    fn find_start(&mut self, input: &mut &[u8], is_start: fn(&[u8]) -> Option<bool>) -> bool {
        let Step::Lost { is_skipping } = &mut self.step else { return false };
        while let Some((byte, rest)) = input.split_first() {
            if *is_skipping {
                let Some(end) = memchr::memchr(b'\n', input) else {
                    *input = &[];
                    return false;
                };
                *input = input.get(end + 1..).unwrap_or_default();
                *is_skipping = false;
                continue;
            }
            *input = rest;
            self.line.push(*byte);
            match is_start(&self.line) {
                Some(true) => {
                    self.step = Step::Line;
                    return true;
                }
                Some(false) => {
                    *is_skipping = self.line.last() != Some(&b'\n');
                    self.line.clear();
                }
                None => {}
            }
        }
        false
    }
}

impl Exchange {
    fn side_mut(&mut self, direction: Side) -> &mut Message {
        match direction {
            Side::ToServer => &mut self.request,
            Side::ToClient => &mut self.response,
        }
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Whole,
    Part,
    TooLong,
}

/// Whether `text` starts with the words of `list`; `None` while it may yet.
fn starts_with_one_of(text: &[u8], list: &[&[u8]]) -> Option<bool> {
    if list.iter().any(|word| text.starts_with(word)) {
        return Some(true);
    }
    if list.iter().any(|word| word.starts_with(text)) { None } else { Some(false) }
}
