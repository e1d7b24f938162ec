//! The direction of responses.

use super::event::*;
use super::exchange::{Exchange, Message};
use super::headers::Step as Taken;
use super::{Chunks, Decoder, Flow, Http, Line, Part, Step, starts_with_one_of};
use crate::ids::app::event::Events;
use crate::ids::app::text::{
    Span, chomp, has_word, is_space, number, place_in, split_at_first, starts_with, trim,
};
use crate::ids::app::{Fields, Limits, Next, Protocol, Side, Stage, Transaction, Transactions};

const DOWN: Side = Side::ToClient;

impl Http {
    /// Takes responses until the input is used up.
    pub(super) fn response(
        &mut self,
        input: &mut &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Flow {
        while !input.is_empty() {
            let flow = self.response_step(input, txs, limits);
            if !matches!(flow, Flow::On | Flow::Wait) {
                return flow;
            }
        }
        Flow::Wait
    }

    fn response_step(
        &mut self,
        input: &mut &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Flow {
        let bounds = (limits.response_body, limits);
        let side = &mut self.response;
        match &mut side.step {
            Step::Line => return self.status_line(input, txs, limits),
            Step::Junk => return self.after_junk(input, txs, limits),
            Step::PerhapsBody(_) => return self.perhaps_body(input, txs, limits),
            Step::Lost { .. } => {
                side.find_start(input, |line| starts_with_one_of(line, &[b"HTTP/1.", b"HTTP/0."]));
                return Flow::On;
            }
            _ => {}
        }
        let Some((tx, id)) = side.id.and_then(|id| Some((txs.get_mut(id)?, id))) else {
            side.id = None;
            side.line.clear();
            side.step = Step::Lost { is_skipping: false };
            return Flow::On;
        };
        let Some((exchange, events)) = tx.http_mut() else { return Flow::Leave(Next::Failed) };
        let message = &mut exchange.response;
        let is_over = match &mut side.step {
            Step::Headers => match message.headers.take(input, &RESPONSE, events, limits) {
                Taken::More => return Flow::Wait,
                Taken::TooMuch => return Flow::Leave(Next::Failed),
                Taken::End => return self.after_response_headers(id, txs, limits),
            },
            Step::Trailers => match message.headers.take(input, &RESPONSE, events, limits) {
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
            Step::Endless => {
                side.take_body(input, u64::MAX, (message, events), bounds);
                false
            }
            Step::Chunked(_) => {
                match side.take_chunk(input, (message, events), &RESPONSE, bounds) {
                    Part::More | Part::Data(_) => false,
                    Part::Last => {
                        side.step = Step::Trailers;
                        tx.reach(DOWN, Stage::Trailers);
                        false
                    }
                    Part::Invalid(line) => {
                        // Browsers take it for a body without an end.
                        events.add(RESPONSE.chunk_length);
                        side.step = Step::Endless;
                        side.take_body(&mut line.as_slice(), u64::MAX, (message, events), bounds);
                        false
                    }
                }
            }
            _ => return Flow::Leave(Next::Failed),
        };
        if is_over {
            self.response.finish(DOWN, txs, limits);
        }
        Flow::On
    }

    /// A status line, with empty lines before it. What does not start like one is a body, as browsers see it.
    fn status_line(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        if self.response.line.is_empty() {
            let (_, rest) = split_at_first(input, |b| !matches!(b, b'\r' | b'\n'));
            *input = rest;
            if rest.is_empty() {
                return Flow::Wait;
            }
        }
        if self.response.id.is_none() {
            // Its transaction is needed now, for the events and for the body that it may be.
            match self.match_request(txs, limits) {
                Some(id) => self.response.id = Some(id),
                None => return Flow::Full,
            }
        }
        let side = &mut self.response;
        let most =
            if is_status_line(&side.line) == Some(false) { MOST_JUNK } else { limits.http_line };
        match side.take_line(input, most) {
            Line::Part => match is_status_line(&side.line) {
                Some(false) if side.line.len() >= MOST_JUNK => self.junk_is_body(txs, limits),
                _ => Flow::Wait,
            },
            Line::TooLong if is_status_line(&side.line) == Some(true) => {
                if let Some(tx) = side.id.and_then(|id| txs.get_mut(id)) {
                    tx.remark(RESPONSE.field_too_long);
                }
                Flow::Leave(Next::Failed)
            }
            Line::TooLong => self.junk_is_body(txs, limits),
            Line::Whole if is_status_line(&side.line) == Some(true) => {
                self.begin_response(txs);
                Flow::On
            }
            // As it would be if it had come in pieces.
            Line::Whole if side.line.len() > MOST_JUNK => self.junk_is_body(txs, limits),
            Line::Whole => {
                side.step = Step::Junk;
                Flow::On
            }
        }
    }

    /// The oldest request without a response; if there is none, a transaction for a response that nobody asked for.
    fn match_request(&mut self, txs: &mut Transactions, limits: &Limits) -> Option<u64> {
        let is_waiting = |tx: &&Transaction| {
            tx.id() >= self.next_answer
                && tx.stage(DOWN) == Stage::Idle
                && tx.protocol() == Protocol::Http
        };
        let mut found = txs.iter().find(is_waiting).map(Transaction::id);
        let has_partial = matches!(self.request.step, Step::Line) && !self.request.line.is_empty();
        if found.is_none() && has_partial && txs.has_room(limits) {
            // The server did not wait for the end of the line either.
            self.begin_request(txs, limits);
            found = self.request.id;
        }
        let id = match found {
            Some(id) => id,
            None if !txs.has_room(limits) => return None,
            None => {
                let tx = txs.open(Fields::Http(Box::new(Exchange::unasked())));
                tx.remark(UNMATCHED_RESPONSE);
                tx.reach(Side::ToServer, Stage::Complete);
                tx.id()
            }
        };
        self.next_answer = id + 1;
        if let Some(tx) = txs.get_mut(id) {
            tx.reach(DOWN, Stage::Started);
        }
        // A request of HTTP/0.9 ends where its response begins.
        if self.request.id == Some(id) && matches!(self.request.step, Step::Old { .. }) {
            self.request.finish(Side::ToServer, txs, limits);
        }
        Some(id)
    }

    /// The line is a status line.
    fn begin_response(&mut self, txs: &mut Transactions) {
        let mut line = std::mem::take(&mut self.response.line);
        line.truncate(chomp(&line).len());
        self.response.step = Step::Headers;
        let Some(tx) = self.response.id.and_then(|id| txs.get_mut(id)) else { return };
        if let Some((exchange, events)) = tx.http_mut() {
            exchange.response.line = line;
            exchange.read_status_line(events);
        }
        tx.reach(DOWN, Stage::Line);
    }

    /// Behind a line that is no status line: if a status line follows, or the line is as good as empty, it counts for
    /// nothing; if not, it is the start of a body.
    fn after_junk(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        if input.first() == Some(&b'H') || chomp(&self.response.line).len() <= 2 {
            self.response.line.clear();
            self.response.step = Step::Line;
            return Flow::On;
        }
        self.junk_is_body(txs, limits)
    }

    /// A response without a head: the body of HTTP/0.9.
    fn junk_is_body(&mut self, txs: &mut Transactions, limits: &Limits) -> Flow {
        let line = std::mem::take(&mut self.response.line);
        self.response.step = Step::Endless;
        let Some(tx) = self.response.id.and_then(|id| txs.get_mut(id)) else { return Flow::On };
        tx.reach(DOWN, Stage::Headers);
        let Some((exchange, events)) = tx.http_mut() else { return Flow::Leave(Next::Failed) };
        let bounds = (limits.response_body, limits);
        let message = &mut exchange.response;
        self.response.take_body(&mut line.as_slice(), u64::MAX, (message, events), bounds);
        Flow::On
    }

    /// Status, headers and request tell what follows (RFC 9112, section 6.3).
    fn after_response_headers(&mut self, id: u64, txs: &mut Transactions, limits: &Limits) -> Flow {
        let Some(tx) = txs.get_mut(id) else { return Flow::Leave(Next::Failed) };
        let Some((exchange, events)) = tx.http_mut() else { return Flow::Leave(Next::Failed) };
        let status = exchange.status_code.unwrap_or(0);
        let has_body = exchange.response.announces_body();
        let is_connect = exchange.method() == Some(b"CONNECT");
        match status {
            101 if has_body => events.add(SWITCHING_WITH_BODY),
            100..=199 if status != 101 && !has_body => {
                if exchange.was_continued && status == 100 {
                    events.add(CONTINUE_AGAIN);
                }
                exchange.await_final_response();
                tx.fall_back(DOWN, Stage::Started);
                self.response.step = Step::Line;
                return Flow::On;
            }
            _ => {}
        }
        let next = exchange.next_protocol();
        let is_refusal = (400..500).contains(&status) && exchange.awaits_continue();
        let is_head = exchange.method() == Some(b"HEAD");
        tx.reach(DOWN, Stage::Headers);
        if status == 101 && !has_body {
            self.end_both(txs, limits);
            return Flow::Leave(next);
        }
        if is_connect && (200..300).contains(&status) {
            self.end_both(txs, limits);
            return Flow::Leave(Next::Tunnel);
        }
        let is_waiting = self.request.id == Some(id);
        if is_waiting && is_connect || is_waiting && is_refusal && self.request_has_no_body(txs) {
            self.request.finish(Side::ToServer, txs, limits);
        }
        let Some((exchange, events)) = txs.get_mut(id).and_then(Transaction::http_mut) else {
            return Flow::Leave(Next::Failed);
        };
        let step = exchange.response.framing(events, exchange.response_protocol);
        let is_bodiless = (100..200).contains(&status) || matches!(status, 204 | 304);
        if is_head || is_bodiless && !has_body || matches!(step, Step::Line) {
            self.response.finish(DOWN, txs, limits);
            return Flow::On;
        }
        let encoding = exchange.response.headers.get(b"content-encoding");
        self.response.decoder = Decoder::new(encoding, limits, events);
        self.response.step = if is_bodiless { Step::PerhapsBody(Box::new(step)) } else { step };
        Flow::On
    }

    /// Behind headers that announce a body where the status forbids one: a status line says that there is none.
    fn perhaps_body(&mut self, input: &mut &[u8], txs: &mut Transactions, limits: &Limits) -> Flow {
        let Some((byte, rest)) = input.split_first() else { return Flow::Wait };
        let side = &mut self.response;
        side.line.push(*byte);
        *input = rest;
        let is_next = starts_with_one_of(&side.line, &[b"HTTP/1."]);
        let Some(is_next) = is_next else { return Flow::On };
        let line = std::mem::take(&mut side.line);
        if is_next {
            side.finish(DOWN, txs, limits);
            side.line = line;
            return Flow::On;
        }
        if let Step::PerhapsBody(step) = std::mem::replace(&mut side.step, Step::Line) {
            side.step = *step;
        }
        if let Some(tx) = side.id.and_then(|id| txs.get_mut(id)) {
            tx.remark(UNEXPECTED_RESPONSE_BODY);
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let flow = self.response_step(&mut rest, txs, limits);
            if !matches!(flow, Flow::On | Flow::Wait) {
                return flow;
            }
        }
        Flow::On
    }

    /// Whether the request at work waits with its body for the server's word.
    fn request_has_no_body(&self, txs: &Transactions) -> bool {
        let tx = self.request.id.and_then(|id| txs.get(id));
        tx.is_some_and(|tx| tx.body(Side::ToServer).is_none())
    }

    /// The flow speaks something else from here.
    fn end_both(&mut self, txs: &mut Transactions, limits: &Limits) {
        self.response.finish(DOWN, txs, limits);
        self.request.finish(Side::ToServer, txs, limits);
    }

    /// Nothing more comes from the server: what there is counts.
    pub(super) fn end_response(&mut self, txs: &mut Transactions, limits: &Limits) {
        if matches!(self.response.step, Step::Line) && !self.response.line.is_empty() {
            match is_status_line(&self.response.line) {
                Some(true) => self.begin_response(txs),
                _ => {
                    self.junk_is_body(txs, limits);
                }
            }
        } else if matches!(self.response.step, Step::Junk) {
            self.junk_is_body(txs, limits);
        }
        let tx = self.response.id.and_then(|id| txs.get_mut(id));
        if let Some((exchange, events)) = tx.and_then(Transaction::http_mut)
            && matches!(self.response.step, Step::Headers | Step::Trailers)
        {
            exchange.response.headers.close(&RESPONSE, events);
            exchange.response.forget_forms();
        }
        self.response.finish(DOWN, txs, limits);
    }
}

impl Exchange {
    /// Takes the status line apart.
    fn read_status_line(&mut self, events: &mut Events) {
        let line = self.response.line.as_slice();
        let span = |part: &[u8]| Span::at(place_in(line, part), part);
        let (_, rest) = split_at_first(line, |b| !is_space(b) && b != 0);
        let (protocol, rest) = split_at_first(rest, is_space);
        let (_, rest) = split_at_first(rest, |b| !is_space(b));
        let (status, rest) = split_at_first(rest, is_space);
        let (_, reason) = split_at_first(rest, |b| !is_space(b));
        self.response_protocol = span(protocol);
        self.status = span(status);
        self.reason = span(reason);
        self.status_code = std::str::from_utf8(status)
            .ok()
            .and_then(|status| status.parse().ok())
            .filter(|status| (100..=999).contains(status));
        if self.status_code.is_none() {
            events.add(INVALID_STATUS);
        }
        if !matches!(
            protocol.to_ascii_uppercase().as_slice(),
            b"HTTP/1.1" | b"HTTP/1.0" | b"HTTP/0.9"
        ) {
            events.add(INVALID_PROTOCOL);
        }
    }

    /// An interim response is forgotten: another status line follows.
    fn await_final_response(&mut self) {
        self.was_continued = true;
        self.response = Message::default();
        self.status_code = None;
        [self.response_protocol, self.status, self.reason] = Default::default();
    }

    /// What the flow speaks behind `101 Switching Protocols`.
    fn next_protocol(&self) -> Next {
        match self.response.headers.get(b"upgrade") {
            Some(word) if has_word(word, b"h2c") => Next::Becomes(Protocol::Http2),
            Some(word) if has_word(word, b"websocket") => Next::Becomes(Protocol::WebSocket),
            _ => Next::Ended,
        }
    }

    fn awaits_continue(&self) -> bool {
        let expect = self.request.headers.get(b"expect");
        expect.is_some_and(|expect| trim(expect).eq_ignore_ascii_case(b"100-continue"))
    }
}

impl Message {
    fn announces_body(&self) -> bool {
        let length = self.headers.get(b"content-length");
        self.headers.get(b"transfer-encoding").is_some()
            || length.is_some_and(|length| number(length) != Some(0))
    }

    /// What the headers of a response say about its body; [`Step::Line`] when there is none.
    fn framing(&self, events: &mut Events, protocol: Span) -> Step {
        let coding = self.headers.get(b"transfer-encoding");
        if let Some(coding) = coding.filter(|coding| has_word(coding, b"chunked")) {
            if !trim(coding).eq_ignore_ascii_case(b"chunked") {
                events.add(RESPONSE.transfer_encoding);
            }
            if !protocol.of(&self.line).ends_with(b"/1.1") {
                events.add(OLD_CHUNKED);
            }
            return Step::Chunked(Chunks::default());
        }
        match self.headers.get(b"content-length").map(number) {
            None => Step::Endless,
            Some(Some(0)) => Step::Line,
            Some(Some(length)) => Step::Sized(length),
            Some(None) => {
                events.add(RESPONSE.content_length);
                Step::Endless
            }
        }
    }
}

/// Whether a line starts as a status line does: `http`, whatever its case; `None` while it may yet.
fn is_status_line(line: &[u8]) -> Option<bool> {
    // Looked at again with each piece, so not all of it.
    let head = line.get(..MOST_INDENT).unwrap_or(line);
    let (_, text) = split_at_first(head, |b| !is_space(b) && b != 0);
    if starts_with(text, b"http") {
        return Some(true);
    }
    let is_start = text.len() < 4 && starts_with(b"http", text) && line.len() < MOST_INDENT;
    if is_start && !line.ends_with(b"\n") { None } else { Some(false) }
}

/// White space before a status line, and the word behind it.
const MOST_INDENT: usize = 64;

/// A line of a response without a status line is a body at this length, whether its end was seen or not.
const MOST_JUNK: usize = 1 << 10;
