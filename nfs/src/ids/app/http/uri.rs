//! A request's URI: its parts, and the normal form that rules match in.
//!
//! The normal form is that of libhtp as Suricata sets it up: escapes decoded once (`%41`, `%u0041`), backslashes turned,
//! UTF-8 folded to one byte a character, runs of slashes squeezed, dot segments removed in the path; escapes decoded in the
//! query; the fragment as it is; scheme and authority left out.

use crate::ids::app::text::{Span, place_in, split_at_first, starts_with};

/// The parts of a URI, as places in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Of the authority; with brackets, if it is an address of IPv6.
    pub host: Span,
    /// Digits behind the host, or whatever stands there.
    pub port: Span,
    path: Span,
    /// Without its `?`.
    query: Option<Span>,
    /// Without its `#`.
    fragment: Option<Span>,
}

impl Parts {
    /// Of what stands in a request line.
    pub fn of(uri: &[u8]) -> Self {
        let span = |part: &[u8]| Span::at(place_in(uri, part), part);
        let mut parts = Self::default();
        let mut rest = uri;
        if let Some(authority) = authority(uri) {
            let (hostport, after) = split_at_first(authority, |b| matches!(b, b'/' | b'?' | b'#'));
            let host = memchr::memrchr(b'@', hostport).map_or(0, |at| at + 1);
            let (host, port) = host_and_port(hostport.get(host..).unwrap_or_default());
            (parts.host, parts.port) = (span(host), span(port));
            rest = after;
        }
        let (rest, fragment) = split_at_first(rest, |b| b == b'#');
        let (path, query) = split_at_first(rest, |b| b == b'?');
        parts.path = span(path);
        parts.query = query.get(1..).map(span);
        parts.fragment = fragment.get(1..).map(span);
        parts
    }

    /// Of the target of a CONNECT: host and port, no path.
    pub fn of_authority(uri: &[u8]) -> Self {
        let (host, port) = host_and_port(uri);
        let span = |part: &[u8]| Span::at(place_in(uri, part), part);
        Self { host: span(host), port: span(port), ..Self::default() }
    }

    /// The same parts, of a text in which the URI starts at `offset`.
    pub fn moved(self, offset: usize) -> Self {
        Self {
            host: self.host.moved(offset),
            port: self.port.moved(offset),
            path: self.path.moved(offset),
            query: self.query.map(|span| span.moved(offset)),
            fragment: self.fragment.map(|span| span.moved(offset)),
        }
    }

    /// The normal form; empty when there is neither path nor query.
    ///
    /// # Cost
    /// Linear; one allocation of the URI's length.
    pub fn normalize(self, uri: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(uri.len());
        decode(self.path.of(uri), Place::Path, &mut out);
        fold_utf8(&mut out);
        remove_dots(&mut out);
        if let Some(query) = self.query {
            out.push(b'?');
            decode(query.of(uri), Place::Query, &mut out);
        }
        if let Some(fragment) = self.fragment {
            out.push(b'#');
            out.extend_from_slice(fragment.of(uri));
        }
        out
    }
}

/// Host and port of `host:port`, `[::1]:port` and either alone.
pub(super) fn host_and_port(text: &[u8]) -> (&[u8], &[u8]) {
    let in_brackets = match text.first() {
        Some(b'[') => memchr::memchr(b']', text).map_or(0, |at| at + 1),
        _ => 0,
    };
    let (_, after) = text.split_at_checked(in_brackets).unwrap_or_default();
    let (_, port) = split_at_first(after, |b| b == b':');
    let host = text.get(..text.len() - port.len()).unwrap_or_default();
    (host, port.get(1..).unwrap_or_default())
}

/// What follows the scheme of an absolute URI.
fn authority(uri: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) =
        split_at_first(uri, |b| !b.is_ascii_alphanumeric() && !b"+-.".contains(&b));
    (!scheme.is_empty() && starts_with(rest, b"://")).then(|| rest.get(3..).unwrap_or_default())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

/// Decodes escapes once; in a path, turns backslashes and squeezes runs of slashes as well.
fn decode(text: &[u8], place: Place, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (mut byte, len) = match first {
            b'%' => escape(after),
            _ => (*first, 0),
        };
        rest = after.get(len..).unwrap_or_default();
        if place == Place::Path {
            byte = if byte == b'\\' { b'/' } else { byte };
            let follows_slash = out.len() > start && out.last() == Some(&b'/');
            if byte == b'/' && follows_slash {
                continue;
            }
        }
        out.push(byte);
    }
}

/// The byte of an escape, and how many bytes behind the `%` it took; what is no escape stays.
fn escape(after: &[u8]) -> (u8, usize) {
    let number = |digits: Option<&[u8]>| {
        digits?.iter().try_fold(0, |n, b| Some(n << 4 | char::from(*b).to_digit(16)?))
    };
    if let Some(value) = number(after.get(..2)) {
        return (best_fit(value), 2);
    }
    match after.first() {
        Some(b'u' | b'U') => {
            number(after.get(1..5)).map_or((b'%', 0), |value| (best_fit(value), 5))
        }
        _ => (b'%', 0),
    }
}

/// The byte that a server with an 8-bit character set makes of a character: the full-width forms are letters to it.
fn best_fit(character: u32) -> u8 {
    match character {
        0..=0xff => u8::try_from(character).unwrap_or(b'?'),
        0xff01..=0xff5e => u8::try_from(character - 0xfee0).unwrap_or(b'?'),
        0x2044 | 0x2215 => b'/',
        0x2216 => b'\\',
        0x2024 => b'.',
        _ => b'?',
    }
}

/// Folds UTF-8 to one byte a character, also where it is longer than it needs to be, which hides `/` and `.` from some.
/// Bytes that are no UTF-8 stay.
fn fold_utf8(text: &mut Vec<u8>) {
    if text.is_ascii() {
        return;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let (len, bits) = match first {
            0xc0..=0xdf => (1, u32::from(first & 0x1f)),
            0xe0..=0xef => (2, u32::from(first & 0x0f)),
            0xf0..=0xf7 => (3, u32::from(first & 0x07)),
            _ => (0, u32::from(*first)),
        };
        let add = |n, b: &u8| (b & 0xc0 == 0x80).then(|| n << 6 | u32::from(b & 0x3f));
        let character = after.get(..len).and_then(|tail| tail.iter().try_fold(bits, add));
        out.push(character.map_or(*first, best_fit));
        rest = after.get(character.map_or(0, |_| len)..).unwrap_or_default();
    }
    *text = out;
}

/// Removes `.` and `..` segments (RFC 3986, section 5.2.4).
fn remove_dots(path: &mut Vec<u8>) {
    if !path.starts_with(b".") && memchr::memmem::find(path, b"/.").is_none() {
        return;
    }
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let starts_with_slash = path.first() == Some(&b'/');
    let mut segments = path.split(|b| *b == b'/').skip(usize::from(starts_with_slash)).peekable();
    let mut has_slash = starts_with_slash;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    // Up to and with the slash before the segment that goes.
                    let from = memchr::memrchr(b'/', &out).unwrap_or(0);
                    has_slash |= out.get(from) == Some(&b'/');
                    out.truncate(from);
                }
                if is_last && has_slash {
                    out.push(b'/');
                }
            }
            _ => {
                if has_slash {
                    out.push(b'/');
                }
                out.extend_from_slice(segment);
                has_slash = true;
            }
        }
    }
    *path = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(uri: &str) -> String {
        let bytes = Parts::of(uri.as_bytes()).normalize(uri.as_bytes());
        bytes.iter().map(|b| char::from(*b)).collect()
    }

    #[test]
    fn a_path_has_one_form_however_it_is_written() {
        for (sent, normal_form) in [
            ("/a/b", "/a/b"),
            ("//a1//b\\\\c", "/a1/b/c"),
            ("/%61%2fb", "/a/b"),
            ("/%2561", "/%61"),
            ("/%zz%4", "/%zz%4"),
            ("/%u0041%uff0fb", "/A/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("./a", "a"),
            ("/..%c0%afetc", "/etc"),
            ("/caf%c3%a9", "/caf\u{e9}"),
            ("/a%e9b", "/a\u{e9}b"),
            ("/wp-content/..hidden", "/wp-content/..hidden"),
        ] {
            assert_eq!(normal(sent), normal_form, "{sent}");
        }
    }

    #[test]
    fn a_query_keeps_its_slashes_and_plus_signs() {
        assert_eq!(normal("/a//b?x=%2e%2e//c+d#e%20"), "/a/b?x=..//c+d#e%20");
    }

    #[test]
    fn scheme_and_host_are_left_out() {
        assert_eq!(normal("http://Host.example:81/a/../b?c"), "/b?c");
        assert_eq!(normal("http://host"), "");
        let uri = b"http://user:pw@Host.example:81/";
        let parts = Parts::of(uri);
        assert_eq!((parts.host.of(uri), parts.port.of(uri)), (&b"Host.example"[..], &b"81"[..]));
    }

    #[test]
    fn a_host_may_be_an_address_in_brackets() {
        assert_eq!(host_and_port(b"[::1]:80"), (&b"[::1]"[..], &b"80"[..]));
        assert_eq!(host_and_port(b"a.b"), (&b"a.b"[..], &b""[..]));
        assert_eq!(host_and_port(b"[::1"), (&b"["[..], &b":1"[..]));
    }
}
