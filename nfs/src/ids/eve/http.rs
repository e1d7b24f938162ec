//! A request and its response.

use super::json::Object;
use super::text::Texts;
use super::{HeaderDump, Place, Settings};
use crate::ids::app::Side;
use crate::ids::app::http::{Exchange, Message};

/// A request and its response. Behind a side's start line more may come; what is not known yet is not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRecord {
    pub(super) words: Texts<WORDS>,
    pub(super) port: Option<u16>,
    pub(super) status: Option<u16>,
    pub(super) length: u64,
    /// Names and values, of the request and of the response.
    pub(super) headers: [Vec<Header>; 2],
    /// Of the request and of the response, if they are wanted.
    pub(super) bodies: [Option<Box<[u8]>>; 2],
}

/// Name and value.
type Header = (Box<[u8]>, Box<[u8]>);

/// The words of a record, by their place in [`HttpRecord::words`].
pub(super) mod word {
    pub const HOST: usize = 0;
    pub const URL: usize = 1;
    pub const USER_AGENT: usize = 2;
    pub const FORWARDED_FOR: usize = 3;
    pub const CONTENT_TYPE: usize = 4;
    pub const CONTENT_RANGE: usize = 5;
    pub const REFERER: usize = 6;
    pub const METHOD: usize = 7;
    pub const PROTOCOL: usize = 8;
    pub const STATUS_TEXT: usize = 9;
    pub const LOCATION: usize = 10;
}

impl HttpRecord {
    /// What `settings` want to be said; `None`: nothing.
    pub fn of(exchange: &Exchange, place: Place, settings: &Settings) -> Option<Self> {
        let (dump, wants_bodies) = match place {
            Place::Record => (settings.http.as_ref()?.dump_headers, false),
            Place::Alert => (HeaderDump::None, settings.alert.as_ref()?.wants_bodies()),
        };
        let parts = [
            exchange.hostname(),
            exchange.url(),
            exchange.request_header("user-agent"),
            exchange.request_header("x-forwarded-for"),
            exchange.content_type(),
            exchange.response_header("content-range"),
            exchange.request_header("referer"),
            exchange.method(),
            exchange.protocol(),
            exchange.status_text(),
            exchange.response_header("location"),
        ];
        let body = |side| {
            let view = exchange.body(side).view(true).filter(|_| wants_bodies)?;
            Some(view.bytes.into())
        };
        let headers = |message: &Message, is_wanted: bool| {
            let each = message.headers().iter().filter(|_| is_wanted).take(MOST_HEADERS);
            each.map(|(name, value)| (cut(name, MOST_NAME), cut(value, MOST_VALUE))).collect()
        };
        let wants_request = matches!(dump, HeaderDump::Request | HeaderDump::Both);
        let wants_response = matches!(dump, HeaderDump::Response | HeaderDump::Both);
        Some(Self {
            words: Texts::gather(parts, MOST_WORD),
            port: exchange.port(),
            status: exchange.status(),
            length: exchange.length(),
            headers: [
                headers(exchange.request(), wants_request),
                headers(exchange.response(), wants_response),
            ],
            bodies: [body(Side::ToServer), body(Side::ToClient)],
        })
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().flatten();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len() + 32).sum();
        let bodies: usize = self.bodies.iter().flatten().map(|body| body.len()).sum();
        size_of::<Self>() + self.words.bytes() + headers + bodies
    }
}

impl HttpRecord {
    pub(super) fn write(&self, is_extended: bool, o: &mut Object<'_>) {
        o.object("http", |o| {
            self.write_basic(o);
            if is_extended {
                self.write_extended(o);
            }
            for (key, headers) in ["request_headers", "response_headers"].iter().zip(&self.headers)
            {
                if !headers.is_empty() {
                    o.list(key, |list| {
                        for (name, value) in headers {
                            list.object(|o| {
                                o.text("name", Some(name));
                                o.text("value", Some(value));
                            });
                        }
                    });
                }
            }
        });
    }

    pub(super) fn write_in_alert(&self, settings: &Settings, o: &mut Object<'_>) {
        let alert = settings.alert.as_ref();
        o.object("http", |o| {
            self.write_basic(o);
            self.write_extended(o);
            let names = ["http_request_body", "http_response_body"];
            let bodies = || names.iter().zip(&self.bodies);
            if alert.is_some_and(|alert| alert.http_body_printable) {
                for (name, body) in bodies() {
                    if let Some(body) = body {
                        o.printable(&format!("{name}_printable"), body);
                    }
                }
            }
            if alert.is_some_and(|alert| alert.http_body) {
                for (name, body) in bodies() {
                    o.base64(name, body.as_deref().unwrap_or_default());
                }
            }
        });
    }

    fn write_basic(&self, o: &mut Object<'_>) {
        o.text("hostname", self.words.get(word::HOST));
        if let Some(port) = self.port {
            o.number("http_port", port);
        }
        o.text("url", self.words.get(word::URL));
        o.text("http_user_agent", self.words.get(word::USER_AGENT));
        o.text("xff", self.words.get(word::FORWARDED_FOR));
        o.text("http_content_type", self.words.get(word::CONTENT_TYPE));
        if let Some(range) = self.words.get(word::CONTENT_RANGE).filter(|range| !range.is_empty()) {
            o.object("content_range", |o| {
                o.text("raw", Some(range));
                let (start, end, size) = content_range(range);
                for (key, number) in [("start", start), ("end", end), ("size", size)] {
                    if let Some(number) = number {
                        o.number(key, number);
                    }
                }
            });
        }
    }

    fn write_extended(&self, o: &mut Object<'_>) {
        o.text("http_refer", self.words.get(word::REFERER));
        o.text("http_method", self.words.get(word::METHOD));
        o.text("protocol", self.words.get(word::PROTOCOL));
        match self.status.filter(|status| *status > 0) {
            Some(status) => o.number("status", status),
            None => o.text("status_string", self.words.get(word::STATUS_TEXT)),
        }
        o.text("redirect", self.words.get(word::LOCATION));
        o.number("length", self.length);
    }
}

/// Start, end and size of `bytes 0-99/1000`, `bytes */1000`, `bytes 0-99/*`.
fn content_range(value: &[u8]) -> (Option<u64>, Option<u64>, Option<u64>) {
    let number = |text: &str| text.trim().parse().ok();
    let parts = || {
        let text = std::str::from_utf8(value).ok()?.trim().strip_prefix("bytes")?;
        let (range, size) = text.split_once('/')?;
        let ends = range.split_once('-').map(|(start, end)| (number(start), number(end)));
        let (start, end) = ends.unwrap_or_default();
        Some((start, end, number(size)))
    };
    parts().unwrap_or_default()
}

fn cut(bytes: &[u8], most: usize) -> Box<[u8]> {
    bytes.get(..most).unwrap_or(bytes).into()
}

const WORDS: usize = 11;

/// The parser's own bound of a line: nothing is cut that it let through.
const MOST_WORD: usize = 64 << 10;

/// As Suricata cuts them.
const MOST_NAME: usize = 255;
const MOST_VALUE: usize = 2047;

/// The parser's own bound.
const MOST_HEADERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_taken_apart_as_far_as_it_goes() {
        assert_eq!(content_range(b"bytes 0-99/1000"), (Some(0), Some(99), Some(1000)));
        assert_eq!(content_range(b"bytes */1000"), (None, None, Some(1000)));
        assert_eq!(content_range(b"bytes 5-9/*"), (Some(5), Some(9), None));
        assert_eq!(content_range(b"lines 5-9/10"), (None, None, None));
        assert_eq!(content_range(b"\xff"), (None, None, None));
    }
}
