//! A request with its response: what was sent, and the forms of it that rules and logs ask for.
//!
//! What a form needs is kept; the form itself is made when somebody asks first, and kept as well.

use std::cell::OnceCell;

use super::body::Body;
use super::headers::Headers;
use super::uri::{Parts, host_and_port};
use crate::ids::app::text::{Span, number, split_at_first, trim};
use crate::ids::app::{Side, Stage};
use crate::ids::buffer::Buffer;

/// A request with its response.
#[derive(Debug, Default)]
pub struct Exchange {
    pub(super) request: Message,
    pub(super) response: Message,
    /// Words of the request line.
    pub(super) method: Span,
    pub(super) uri: Span,
    pub(super) request_protocol: Span,
    /// Words of the status line.
    pub(super) response_protocol: Span,
    pub(super) status: Span,
    pub(super) reason: Span,
    pub(super) status_code: Option<u16>,
    /// The response came without a request.
    pub(super) is_unasked: bool,
    pub(super) was_continued: bool,
    parts: OnceCell<Parts>,
    normal_uri: OnceCell<Vec<u8>>,
    host: OnceCell<Vec<u8>>,
}

/// A request or a response.
#[derive(Debug, Default)]
pub struct Message {
    pub(super) line: Vec<u8>,
    pub(super) headers: Headers,
    pub(super) body: Body,
    /// Bytes of the body as they were sent, framing included.
    pub(super) wire: u64,
    forms: Forms,
}

/// Made when asked for.
#[derive(Debug, Default)]
struct Forms {
    header: OnceCell<Vec<u8>>,
    names: OnceCell<Vec<u8>>,
    start: OnceCell<Vec<u8>>,
    /// `Name: value`, all headers in a row, and where each is.
    each: OnceCell<(Vec<u8>, Vec<Span>)>,
}

impl Message {
    /// The headers, as servers and browsers read them.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// What is known of the body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The headers changed.
    pub(super) fn forget_forms(&mut self) {
        self.forms = Forms::default();
    }

    fn bytes(&self) -> usize {
        let cell = |cell: &OnceCell<Vec<u8>>| cell.get().map_or(0, Vec::capacity);
        let each =
            self.forms.each.get().map_or(0, |(text, spans)| text.capacity() + 8 * spans.len());
        let forms = cell(&self.forms.header) + cell(&self.forms.names) + cell(&self.forms.start);
        self.line.capacity() + self.headers.bytes() + self.body.bytes() + forms + each
    }

    /// `http.header`: each as `Name: value` with CRLF, without cookies.
    fn header(&self, cookie: &[u8]) -> &[u8] {
        self.forms.header.get_or_init(|| {
            let mut out = Vec::with_capacity(self.headers.raw().len());
            for (name, value) in self.headers.iter() {
                if !name.eq_ignore_ascii_case(cookie) {
                    write_header(&mut out, name, value);
                }
            }
            out
        })
    }

    /// `http.header_names`: each between CRLFs, with an empty line behind the last.
    fn names(&self) -> &[u8] {
        self.forms.names.get_or_init(|| {
            let mut out = b"\r\n".to_vec();
            for (name, _) in self.headers.iter() {
                out.extend_from_slice(name);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            out
        })
    }

    /// `http.start`: the line and all headers, with an empty line behind.
    fn start(&self) -> &[u8] {
        self.forms.start.get_or_init(|| {
            let mut out = self.line.clone();
            out.extend_from_slice(b"\r\n");
            for (name, value) in self.headers.iter() {
                write_header(&mut out, name, value);
            }
            out.extend_from_slice(b"\r\n");
            out
        })
    }

    /// `http.request_header`, `http.response_header`: one of them, without CRLF.
    fn header_at(&self, index: usize) -> Option<&[u8]> {
        let (text, spans) = self.forms.each.get_or_init(|| {
            let (mut text, mut spans) = (Vec::new(), Vec::new());
            for (name, value) in self.headers.iter() {
                let start = text.len();
                write_header(&mut text, name, value);
                spans.push(Span::new(start, text.len() - 2));
            }
            (text, spans)
        });
        spans.get(index).map(|span| span.of(text))
    }
}

impl Exchange {
    /// A response that nobody asked for, as far as was seen.
    pub(super) fn unasked() -> Self {
        Self { is_unasked: true, ..Self::default() }
    }

    /// The request.
    pub fn request(&self) -> &Message {
        &self.request
    }

    /// The response.
    pub fn response(&self) -> &Message {
        &self.response
    }

    /// `http.method`, and `http_method` of records.
    pub fn method(&self) -> Option<&[u8]> {
        self.method.some_of(&self.request.line)
    }

    /// `http.uri.raw`, and `url` of records: as it was sent.
    pub fn url(&self) -> Option<&[u8]> {
        if self.is_unasked {
            return Some(NOT_SEEN);
        }
        self.uri.some_of(&self.request.line)
    }

    /// `protocol` of records: of the request, or of a response without one.
    pub fn protocol(&self) -> Option<&[u8]> {
        let of_request = self.request_protocol.some_of(&self.request.line);
        of_request.or_else(|| self.response_protocol.some_of(&self.response.line))
    }

    /// `http.host`, and `hostname` of records: in lower case, without a port.
    pub fn hostname(&self) -> Option<&[u8]> {
        let host = self.host.get_or_init(|| {
            let in_uri = self.parts().host.of(&self.request.line);
            let in_header = || self.request.headers.get(b"host").map(|v| host_and_port(trim(v)).0);
            let host = if in_uri.is_empty() { in_header().unwrap_or_default() } else { in_uri };
            host.to_ascii_lowercase()
        });
        (!host.is_empty()).then_some(host)
    }

    /// `http_port` of records: only if the host named one.
    pub fn port(&self) -> Option<u16> {
        let parts = self.parts();
        let (in_uri, host) = (parts.port.of(&self.request.line), parts.host.of(&self.request.line));
        let in_header = || self.request.headers.get(b"host").map(|value| host_and_port(value).1);
        let port = if host.is_empty() { in_header().unwrap_or_default() } else { in_uri };
        number(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    }

    /// `http_user_agent` of records, and so on: a header of the request.
    pub fn request_header(&self, name: &str) -> Option<&[u8]> {
        self.request.headers.get(name.as_bytes())
    }

    /// `redirect` of records (`location`), and so on: a header of the response.
    pub fn response_header(&self, name: &str) -> Option<&[u8]> {
        self.response.headers.get(name.as_bytes())
    }

    /// `http_content_type` of records: of the response, without parameters.
    pub fn content_type(&self) -> Option<&[u8]> {
        Some(split_at_first(self.response_header("content-type")?, |b| b == b';').0)
    }

    /// `status` of records.
    pub fn status(&self) -> Option<u16> {
        self.status_code
    }

    /// `status_string` of records: what stands for a status and is none.
    pub fn status_text(&self) -> Option<&[u8]> {
        self.status.some_of(&self.response.line)
    }

    /// `length` of records: bytes of the response's body as they were sent.
    pub fn length(&self) -> u64 {
        self.response.wire
    }

    /// What is known of a side's body.
    pub fn body(&self, direction: Side) -> &Body {
        &self.side(direction).body
    }

    pub(crate) fn body_mut(&mut self, direction: Side) -> &mut Body {
        match direction {
            Side::ToServer => &mut self.request.body,
            Side::ToClient => &mut self.response.body,
        }
    }

    /// See [`crate::ids::app::Transaction::buffer_at`].
    pub(crate) fn buffer(
        &self,
        buffer: Buffer,
        direction: Side,
        index: usize,
        stage: Stage,
    ) -> Option<&[u8]> {
        use Buffer as B;
        let side = self.side(direction);
        let is_request = direction == Side::ToServer;
        let header = |name: &str| side.headers.get(name.as_bytes());
        if stage < Stage::Line {
            return None;
        }
        let of_line = match buffer {
            B::HttpUri => self.normal_uri(),
            B::HttpUriRaw if self.is_unasked => None,
            B::HttpUriRaw => self.url(),
            B::HttpMethod => self.method(),
            B::HttpRequestLine | B::HttpResponseLine => Some(side.line.as_slice()),
            B::HttpStatCode => self.status_text(),
            B::HttpStatMsg => self.reason.some_of(&side.line),
            B::HttpProtocol if is_request => self.request_protocol.some_of(&side.line),
            B::HttpProtocol => self.response_protocol.some_of(&side.line),
            _ => None,
        };
        if of_line.is_some() || stage < Stage::Headers {
            return of_line.filter(|bytes| !bytes.is_empty());
        }
        let cookie = if is_request { "cookie" } else { "set-cookie" };
        let bytes = match buffer {
            B::HttpHost => self.hostname(),
            B::HttpHostRaw => self.raw_host(),
            B::HttpUserAgent => header("user-agent"),
            B::HttpHeader => Some(side.header(cookie.as_bytes())),
            B::HttpHeaderRaw => Some(side.headers.raw()),
            B::HttpHeaderNames => Some(side.names()).filter(|names| names.len() > 4),
            B::HttpCookie => header(cookie),
            B::HttpContentType => header("content-type"),
            B::HttpContentLength => header("content-length"),
            B::HttpServer => header("server"),
            B::HttpLocation => header("location"),
            B::HttpRequestHeader | B::HttpResponseHeader => side.header_at(index),
            B::HttpAccept => header("accept"),
            B::HttpAcceptEncoding => header("accept-encoding"),
            B::HttpAcceptLanguage => header("accept-language"),
            B::HttpReferer => header("referer"),
            B::HttpConnection => header("connection"),
            B::HttpStart => Some(side.start()).filter(|_| !side.line.is_empty()),
            _ => None,
        };
        bytes.filter(|bytes| !bytes.is_empty())
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        let cell = |cell: &OnceCell<Vec<u8>>| cell.get().map_or(0, Vec::capacity);
        let made = cell(&self.normal_uri) + cell(&self.host);
        size_of::<Self>() + self.request.bytes() + self.response.bytes() + made
    }

    /// Somebody may have asked for it before the headers were whole.
    pub(super) fn forget_host(&mut self) {
        self.host = OnceCell::new();
    }

    pub(super) fn parts(&self) -> Parts {
        *self.parts.get_or_init(|| {
            let uri = self.uri.of(&self.request.line);
            let parts = if self.method.of(&self.request.line) == b"CONNECT" {
                Parts::of_authority(uri)
            } else {
                Parts::of(uri)
            };
            parts.moved(crate::ids::app::text::place_in(&self.request.line, uri))
        })
    }

    fn normal_uri(&self) -> Option<&[u8]> {
        if self.is_unasked {
            return None;
        }
        Some(self.normal_uri.get_or_init(|| self.parts().normalize(&self.request.line)))
    }

    fn raw_host(&self) -> Option<&[u8]> {
        let in_uri = self.parts().host.some_of(&self.request.line);
        in_uri.or_else(|| self.request.headers.get(b"host"))
    }

    fn side(&self, direction: Side) -> &Message {
        match direction {
            Side::ToServer => &self.request,
            Side::ToClient => &self.response,
        }
    }
}

fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// As Suricata logs it, so that the same searches find it.
const NOT_SEEN: &[u8] = b"/libhtp::request_uri_not_seen";
