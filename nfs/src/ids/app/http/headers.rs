//! The headers of a message, taken line by line as they come.

use super::event::Names;
use crate::ids::app::Limits;
use crate::ids::app::event::Events;
use crate::ids::app::text::{Span, chomp, number, place_in, trim};

/// The headers of a message, as they were sent and as servers read them: folded lines joined, values of one name joined by
/// `, ` at the place of the first.
#[derive(Debug, Default)]
pub struct Headers {
    raw: Vec<u8>,
    list: Vec<Header>,
    /// Where the line starts that is not whole yet.
    line: usize,
    /// The header whose value may go on in the next line.
    last: Option<Header>,
    repetitions: usize,
    lines: usize,
}

/// A header.
#[derive(Debug)]
struct Header {
    name: Span,
    value: Value,
    is_repeated: bool,
}

/// Most values are as they were sent.
#[derive(Debug)]
enum Value {
    Sent(Span),
    Joined(Vec<u8>),
}

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    End,
    TooMuch,
}

impl Headers {
    /// The bytes as they were sent, up to the empty line and with it.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Name and value of each, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|header| (header.name.of(&self.raw), header.value.of(&self.raw)))
    }

    /// The value of a name, whatever its case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let is_it = |header: &&Header| header.name.of(&self.raw).eq_ignore_ascii_case(name);
        self.list.iter().find(is_it).map(|header| header.value.of(&self.raw))
    }

    /// The memory that they hold.
    pub fn bytes(&self) -> usize {
        let joined: usize = self.list.iter().map(|header| header.value.bytes()).sum();
        self.raw.capacity() + self.list.capacity() * size_of::<Header>() + joined
    }

    /// Takes lines up to an empty one.
    ///
    /// # Cost
    /// Each byte is looked at twice and kept once, whatever the pieces are.
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        names: &Names,
        events: &mut Events,
        limits: &Limits,
    ) -> Step {
        if self.raw.capacity() == 0 {
            // Mostly all of them are there.
            self.raw.reserve(input.len().min(USUAL_BYTES));
            self.list.reserve(USUAL_COUNT);
        }
        loop {
            let end = memchr::memchr(b'\n', input).map(|at| at + 1);
            let (part, rest) =
                input.split_at_checked(end.unwrap_or(input.len())).unwrap_or_default();
            if self.raw.len() + part.len() > limits.http_headers {
                events.add(names.field_too_long);
                return Step::TooMuch;
            }
            self.raw.extend_from_slice(part);
            *input = rest;
            if end.is_none() {
                return Step::More;
            }
            let start = std::mem::replace(&mut self.line, self.raw.len());
            if chomp(self.raw.get(start..).unwrap_or_default()).is_empty() {
                self.keep_last(names, events);
                return Step::End;
            }
            self.take_line(start, self.raw.len(), names, events);
            self.lines += 1;
            if self.lines > limits.http_header_count {
                events.add(names.too_many_headers);
                return Step::TooMuch;
            }
        }
    }

    /// Nothing more comes: what is there counts.
    pub(super) fn close(&mut self, names: &Names, events: &mut Events) {
        let start = std::mem::replace(&mut self.line, self.raw.len());
        if !chomp(self.raw.get(start..).unwrap_or_default()).is_empty() {
            self.take_line(start, self.raw.len(), names, events);
        }
        self.keep_last(names, events);
    }

    /// A line that is whole: a header, or more of the one before.
    fn take_line(&mut self, start: usize, end: usize, names: &Names, events: &mut Events) {
        let line = chomp(self.raw.get(start..end).unwrap_or_default());
        let is_folded = line.first().is_some_and(|b| matches!(b, b' ' | b'\t'));
        if is_folded && let Some(last) = &mut self.last {
            let first = line.first().copied().unwrap_or(b' ');
            let more = trim(line);
            let mut value = last.value.take(&self.raw);
            if !value.is_empty() && !more.is_empty() {
                value.push(first);
            }
            value.extend_from_slice(more);
            last.value = Value::Joined(value);
            return;
        }
        if is_folded {
            events.add(names.invalid_folding);
        }
        let colon = memchr::memchr(b':', line);
        if colon.is_none() {
            events.add(names.missing_colon);
        }
        let (name, value) = match colon {
            Some(at) => {
                (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default())
            }
            None => (&[][..], line),
        };
        let name = trim(name);
        if !name.iter().all(|b| is_token(*b)) {
            events.add(names.header_invalid);
        }
        let span = |part| Span::at(place_in(&self.raw, part), part);
        let (name, value) = (span(name), span(trim(value)));
        let header = Header { name, value: Value::Sent(value), is_repeated: false };
        self.keep_last(names, events);
        self.last = Some(header);
    }

    /// The header before is whole.
    fn keep_last(&mut self, names: &Names, events: &mut Events) {
        let Some(header) = self.last.take() else { return };
        let raw = &self.raw;
        let name = header.name.of(raw);
        let same = |other: &&mut Header| other.name.of(raw).eq_ignore_ascii_case(name);
        let Some(first) = self.list.iter_mut().find(same) else {
            self.list.push(header);
            return;
        };
        events.add(names.repetition);
        if name.eq_ignore_ascii_case(b"content-length") {
            let [one, two] = [&*first, &header].map(|header| number(header.value.of(raw)));
            if one.is_none() || one != two {
                events.add(names.duplicate_content_length);
            }
            first.is_repeated = true;
            return;
        }
        if self.repetitions >= MOST_REPETITIONS {
            return;
        }
        self.repetitions += usize::from(first.is_repeated);
        first.is_repeated = true;
        let more = header.value.of(raw);
        let mut value = first.value.take(raw);
        value.extend_from_slice(b", ");
        value.extend_from_slice(more);
        first.value = Value::Joined(value);
    }
}

impl Value {
    fn of<'a>(&'a self, raw: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Sent(span) => span.of(raw),
            Self::Joined(value) => value,
        }
    }

    /// To grow it: without a copy, if it has grown before.
    fn take(&mut self, raw: &[u8]) -> Vec<u8> {
        match self {
            Self::Sent(span) => span.of(raw).to_vec(),
            Self::Joined(joined) => std::mem::take(joined),
        }
    }

    fn bytes(&self) -> usize {
        if let Self::Joined(value) = self { value.capacity() } else { 0 }
    }
}

/// RFC 9110, section 5.6.2, as libhtp sees it.
fn is_token(byte: u8) -> bool {
    TOKENS.get(usize::from(byte)).is_some_and(|is_token| *is_token)
}

const TOKENS: [bool; 256] = {
    let (mut tokens, mut byte) = ([false; 256], 0x21);
    while byte <= 0x7e {
        tokens[byte] = true;
        byte += 1;
    }
    let separators = b"()<>@,;:\\\"/[]?={}";
    let mut at = 0;
    while at < separators.len() {
        tokens[separators[at] as usize] = false;
        at += 1;
    }
    tokens
};

/// Of the headers of a message.
const USUAL_BYTES: usize = 1 << 10;
const USUAL_COUNT: usize = 8;

/// Beyond so many repetitions of names already repeated, values are dropped, as libhtp does.
const MOST_REPETITIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::event::REQUEST;
    use super::*;

    fn take(pieces: &[&[u8]]) -> (Headers, Events, Step) {
        let (mut headers, mut events) = (Headers::default(), Events::default());
        let mut step = Step::More;
        for mut piece in pieces.iter().copied() {
            step = headers.take(&mut piece, &REQUEST, &mut events, &Limits::default());
        }
        (headers, events, step)
    }

    fn list(headers: &Headers) -> Vec<String> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        headers.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    #[test]
    fn values_of_one_name_are_joined_at_the_first() {
        let (headers, events, step) = take(&[b"A: 1\r\nB: 2\r\na: 3\r\n\r\n"]);
        assert_eq!(step, Step::End);
        assert_eq!(list(&headers), ["A=1, 3", "B=2"]);
        assert_eq!(events.as_slice(), [REQUEST.repetition]);
    }

    #[test]
    fn a_folded_line_continues_the_value() {
        let (headers, ..) = take(&[b"A: 1\r\n\t2\r\n  3 \r\nB:x\r\n\r\n"]);
        assert_eq!(list(&headers), ["A=1\t2 3", "B=x"]);
    }

    #[test]
    fn lines_may_end_with_lf_alone_and_lack_a_colon() {
        let (headers, events, step) = take(&[b"A : 1\nno colon\n\n"]);
        assert_eq!(step, Step::End);
        assert_eq!(list(&headers), ["A=1", "=no colon"]);
        assert_eq!(events.as_slice(), [REQUEST.missing_colon]);
    }

    #[test]
    fn the_first_of_two_lengths_that_differ_counts() {
        let (headers, events, _) = take(&[b"Content-Length: 5\r\ncontent-length: 6\r\n\r\n"]);
        assert_eq!(headers.get(b"CONTENT-LENGTH"), Some(&b"5"[..]));
        assert!(events.as_slice().contains(&REQUEST.duplicate_content_length));
    }

    #[test]
    fn what_is_cut_off_by_the_end_counts() {
        let (mut headers, mut events, step) = take(&[b"A: 1\r\nServer: ng1nx"]);
        assert_eq!(step, Step::More);
        headers.close(&REQUEST, &mut events);
        assert_eq!(list(&headers), ["A=1", "Server=ng1nx"]);
    }

    #[test]
    fn a_megabyte_of_header_is_refused_at_the_limit() {
        let mut headers = Headers::default();
        let mut events = Events::default();
        let limits = Limits::default();
        let mut step = Step::More;
        for _ in 0..1_000_000 {
            step = headers.take(&mut &b"a"[..], &REQUEST, &mut events, &limits);
            if step != Step::More {
                break;
            }
        }
        assert_eq!(step, Step::TooMuch);
        assert!(headers.bytes() <= 2 * limits.http_headers);
        assert_eq!(events.as_slice(), [REQUEST.field_too_long]);
    }
}
