//! The direction of requests.

use super::event::*;
use super::exchange::Exchange;
use super::headers::Step as Taken;
use super::{Chunks, Decoder, Flow, Http, Line, METHODS, Part, Step};
use crate::ids::app::event::Events;
use crate::ids::app::text::{
    Span, chomp, has_word, is_space, number, place_in, split_at_first, starts_with, trim,
};
use crate::ids::app::{Fields, Limits, Next, Side, Stage, Transaction, Transactions};

const UP: Side = Side::ToServer;

impl Http {
    /// Takes requests until the input is used up.
    pub(super) fn request(
        &mut self,
        input: &mut &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Flow {
        if !self.held.is_empty() && !matches!(self.request.step, Step::Connect) {
            let flow = self.release_held(txs, limits);
            if flow != Flow::Wait {
                return flow;
            }
        }
        while !input.is_empty() {
            let flow = self.request_step(input, txs, limits);
            if !matches!(flow, Flow::On | Flow::Wait) {
                return flow;
            }
        }
        Flow::Wait
    }

    fn request_step(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        let bounds = (limits.request_body, limits);
        let side = &mut self.request;
        match &mut side.step {
            Step::Line => return self.request_line(input, txs, limits),
            Step::Lost { .. } => {
                side.find_start(input, is_request_start);
                return Flow::On;
            }
            Step::Connect => return self.hold(input, txs, limits),
            Step::Old { .. } => return self.after_old_line(input, txs, limits),
            _ => {}
        }
        let Some((tx, id)) = side.id.and_then(|id| Some((txs.get_mut(id)?, id))) else {
            return self.skip_shed_request(input);
        };
        let Some((exchange, events)) = tx.http_mut() else { return Flow::Leave(Next::Failed) };
        let message = &mut exchange.request;
        let is_over = match &mut side.step {
            Step::Headers => match message.headers.take(input, &REQUEST, events, limits) {
                Taken::More => return Flow::Wait,
                Taken::TooMuch => return Flow::Leave(Next::Failed),
                Taken::End => {
                    tx.reach(UP, Stage::Headers);
                    return self.after_request_headers(id, txs, limits);
                }
            },
            Step::Trailers => match message.headers.take(input, &REQUEST, events, limits) {
                Taken::More => return Flow::Wait,
                Taken::TooMuch => return Flow::Leave(Next::Failed),
                Taken::End => {
                    message.forget_forms();
                    true
                }
            },
            Step::Sized(left) => {
                let left = *left;
                let left = side.take_body(input, left, (message, events), bounds);
                side.step = Step::Sized(left);
                left == 0
            }
            Step::Chunked(_) => match side.take_chunk(input, (message, events), &REQUEST, bounds) {
                Part::More | Part::Data(_) => false,
                Part::Last => {
                    side.step = Step::Trailers;
                    tx.reach(UP, Stage::Trailers);
                    false
                }
                Part::Invalid(_) => {
                    events.add(REQUEST.chunk_length);
                    return Flow::Leave(Next::Failed);
                }
            },
            _ => return Flow::Leave(Next::Failed),
        };
        if is_over {
            self.request.finish(UP, txs, limits);
        }
        Flow::On
    }

    /// A request line, with empty lines before it.
    fn request_line(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        let side = &mut self.request;
        if side.line.is_empty() {
            let (_, rest) = split_at_first(input, |b| !matches!(b, b'\r' | b'\n'));
            *input = rest;
            if rest.is_empty() {
                return Flow::Wait;
            }
        }
        let end = memchr::memchr(b'\n', input);
        if end.is_some() && !txs.has_room(limits) {
            // The line's end is left, so that the owner has something to come back with.
            let mut head = input.get(..end.unwrap_or(0)).unwrap_or_default();
            side.take_line(&mut head, limits.http_line);
            *input = input.get(end.unwrap_or(0)..).unwrap_or_default();
            return Flow::Full;
        }
        match side.take_line(input, limits.http_line) {
            Line::Part => Flow::Wait,
            Line::Whole => self.begin_request(txs, limits),
            Line::TooLong => {
                if let Some(tx) = self.open_request(txs) {
                    tx.remark(REQUEST.field_too_long);
                }
                Flow::Leave(Next::Failed)
            }
        }
    }

    /// The line is whole.
    pub(super) fn begin_request(&mut self, txs: &mut Transactions, limits: &Limits) -> Flow {
        if is_unexpected_body(&self.request.line)
            && let Some(tx) = txs.last_mut()
            && let Some((exchange, events)) = tx.http_mut()
            && !exchange.is_unasked
        {
            // Bytes behind a request without a length: browsers and servers differ; rules see them as its body.
            events.add(UNEXPECTED_REQUEST_BODY);
            exchange.request.wire += self.request.line.len() as u64;
            exchange.request.body.push(&self.request.line, limits.request_body);
            self.request.line.clear();
            return Flow::On;
        }
        let Some(tx) = self.open_request(txs) else { return Flow::Leave(Next::Failed) };
        tx.reach(UP, Stage::Line);
        let is_old = tx.http_mut().is_some_and(|(exchange, _)| {
            exchange.request_protocol.some_of(&exchange.request.line).is_none()
        });
        self.request.step =
            if is_old { Step::Old { blanks: 0, has_line_end: false } } else { Step::Headers };
        Flow::On
    }

    /// Opens a transaction for the line at hand.
    fn open_request<'t>(&mut self, txs: &'t mut Transactions) -> Option<&'t mut Transaction> {
        let mut line = std::mem::take(&mut self.request.line);
        line.truncate(chomp(&line).len());
        let exchange = Exchange::default();
        let tx = txs.open(Fields::Http(Box::new(exchange)));
        self.request.id = Some(tx.id());
        let (exchange, events) = tx.http_mut()?;
        exchange.request.line = line;
        exchange.read_request_line(events);
        Some(tx)
    }

    /// Behind a line without a protocol: white space belongs to it, anything else makes headers of what follows.
    fn after_old_line(
        &mut self,
        input: &mut &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Flow {
        let Step::Old { blanks, has_line_end } = &mut self.request.step else { return Flow::On };
        while let Some((byte, rest)) = input.split_first() {
            if !is_space(*byte) || *blanks >= MOST_BLANKS {
                if *has_line_end {
                    self.request.finish(UP, txs, limits);
                } else {
                    self.request.step = Step::Headers;
                }
                return Flow::On;
            }
            *blanks += 1;
            *has_line_end |= *byte == b'\n';
            *input = rest;
        }
        Flow::Wait
    }

    /// The headers tell what follows.
    fn after_request_headers(&mut self, id: u64, txs: &mut Transactions, limits: &Limits) -> Flow {
        let Some((exchange, events)) = txs.get_mut(id).and_then(Transaction::http_mut) else {
            return Flow::Leave(Next::Failed);
        };
        exchange.check_host(events);
        if exchange.method() == Some(b"CONNECT") {
            self.request.step = Step::Connect;
            return Flow::On;
        }
        let headers = &exchange.request.headers;
        let encoding = headers.get(b"content-encoding");
        let length = headers.get(b"content-length");
        let coding = headers.get(b"transfer-encoding");
        let is_chunked = coding.is_some_and(|coding| has_word(coding, b"chunked"));
        if coding.is_some_and(|coding| !trim(coding).eq_ignore_ascii_case(b"chunked")) {
            events.add(REQUEST.transfer_encoding);
        }
        let step = if is_chunked {
            Step::Chunked(Chunks::default())
        } else {
            match length.map(number) {
                None | Some(Some(0)) => Step::Line,
                Some(Some(length)) => Step::Sized(length),
                Some(None) => {
                    events.add(REQUEST.content_length);
                    Step::Line
                }
            }
        };
        if matches!(step, Step::Line) {
            self.request.finish(UP, txs, limits);
            return Flow::On;
        }
        self.request.decoder = Decoder::new(encoding, limits, events);
        self.request.step = step;
        Flow::On
    }

    /// The transaction at work was given up: its framing cannot be followed any more.
    fn skip_shed_request(&mut self, _input: &mut &[u8]) -> Flow {
        self.request.id = None;
        self.request.line.clear();
        self.request.step = Step::Lost { is_skipping: false };
        Flow::On
    }

    /// Keeps what comes behind a CONNECT until its answer is known.
    fn hold(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        if self.held.len() + input.len() > MOST_HELD {
            // A client that sends so much without an answer talks to somebody else.
            self.request.finish(UP, txs, limits);
            self.held.clear();
            return Flow::Leave(Next::Ended);
        }
        self.held.extend_from_slice(input);
        *input = &[];
        Flow::Wait
    }

    /// The CONNECT was refused, so what was held are requests.
    pub(super) fn release_held(&mut self, txs: &mut Transactions, limits: &Limits) -> Flow {
        if matches!(self.request.step, Step::Connect) {
            return Flow::Wait;
        }
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        let mut flow = Flow::Wait;
        while !rest.is_empty() && matches!(flow, Flow::On | Flow::Wait) {
            flow = self.request_step(&mut rest, txs, limits);
        }
        self.held = rest.to_vec();
        flow
    }

    /// Nothing more comes from the client: what there is counts.
    pub(super) fn end_request(&mut self, txs: &mut Transactions, limits: &Limits) {
        let side = &mut self.request;
        if matches!(side.step, Step::Line) && !side.line.is_empty() && txs.has_room(limits) {
            self.begin_request(txs, limits);
        }
        let tx = self.request.id.and_then(|id| txs.get_mut(id));
        if let Some((exchange, events)) = tx.and_then(Transaction::http_mut)
            && matches!(self.request.step, Step::Headers | Step::Trailers)
        {
            exchange.request.headers.close(&REQUEST, events);
            exchange.request.forget_forms();
        }
        self.request.finish(UP, txs, limits);
    }
}

impl Exchange {
    /// Takes the request line apart: a method, a URI that may have blanks in it, a protocol behind the last blank.
    fn read_request_line(&mut self, events: &mut Events) {
        let line = self.request.line.as_slice();
        let span = |part: &[u8]| Span::at(place_in(line, part), part);
        let (blanks, rest) = split_at_first(line, |b| !is_space(b));
        if !blanks.is_empty() {
            events.add(LEADING_SPACE);
        }
        let (method, rest) = split_at_first(rest, is_space);
        let (delimiter, _) = split_at_first(rest, |b| !is_space(b));
        if delimiter.iter().any(|b| *b != b' ') {
            events.add(METHOD_DELIMITER);
        }
        let rest = trim(rest);
        self.method = span(method);
        let by_blank = |is_delimiter: fn(&u8) -> bool| match rest.iter().rposition(is_delimiter) {
            Some(at) => {
                (trim(rest.get(..at).unwrap_or_default()), rest.get(at + 1..).unwrap_or_default())
            }
            None => (rest, &[][..]),
        };
        let (mut uri, mut protocol) = by_blank(|b| *b == b' ');
        if uri.iter().any(|b| is_space(*b) && *b != b' ') {
            events.add(URI_DELIMITER);
            if protocol.is_empty() {
                (uri, protocol) = by_blank(|b| is_space(*b));
            }
        }
        self.uri = span(uri);
        self.request_protocol = span(protocol);
        if !METHODS.contains(&method) && !starts_with(protocol, b"HTTP/") {
            events.add(REQUEST_LINE_INVALID);
        }
    }

    /// Remarks hosts that are missing, invalid, or two.
    fn check_host(&mut self, events: &mut Events) {
        self.forget_host();
        let in_header = self.request.headers.get(b"host");
        let in_uri = self.parts().host.some_of(&self.request.line);
        let is_new = self.request_protocol.of(&self.request.line).ends_with(b"1.1");
        let in_header = in_header.map(|host| super::uri::host_and_port(trim(host)).0);
        match (in_uri, in_header) {
            (_, None) if is_new => events.add(MISSING_HOST),
            (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => {
                events.add(AMBIGUOUS_HOST);
            }
            _ => {}
        }
        if in_uri.is_some_and(|host| !is_host(host)) {
            events.add(INVALID_URI_HOST);
        }
        if in_header.is_some_and(|host| !is_host(host)) {
            events.add(INVALID_HEADER_HOST);
        }
    }
}

/// Whether a host can be one: labels of letters, digits, dashes and underscores, or an address in brackets.
fn is_host(host: &[u8]) -> bool {
    if let Some(address) = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        let address = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
        return address.is_some_and(|_: std::net::Ipv6Addr| true);
    }
    let is_char = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let host = host.strip_suffix(b".").unwrap_or(host);
    host.len() <= 255
        && host
            .split(|b| *b == b'.')
            .all(|label| (1..=63).contains(&label.len()) && label.iter().all(is_char))
}

/// Whether a line behind a request is none: no method that is known, no protocol.
fn is_unexpected_body(line: &[u8]) -> bool {
    let (_, text) = split_at_first(line, |b| !is_space(b));
    let (method, rest) = split_at_first(text, is_space);
    !METHODS.contains(&method) && !has_word(rest, b" HTTP/")
}

/// Whether a line starts a request; `None` while it may yet.
fn is_request_start(line: &[u8]) -> Option<bool> {
    let (word, rest) = split_at_first(line, |b| b == b' ');
    if !rest.is_empty() {
        return Some(METHODS.contains(&word));
    }
    METHODS.iter().all(|method| !method.starts_with(word)).then_some(false)
}

/// White space behind a line of HTTP/0.9.
const MOST_BLANKS: usize = 16;

/// Held behind a CONNECT.
const MOST_HELD: usize = 16 << 10;
