//! A request and its response.

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
    pub(super) headers: [Vec<(Box<[u8]>, Box<[u8]>)>; 2],
    /// Of the request and of the response, if they are wanted.
    pub(super) bodies: [Option<Box<[u8]>>; 2],
}

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
