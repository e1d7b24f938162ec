//! The checks: one connection each, with one time limit for all of it.
//!
//! What a server sends is read to the end of its status line and no further, at most [`LINE_MAX`] bytes; then the connection
//! is closed, which a server that still sends may log as a reset.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What one check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered as it should.
    Passed,
    /// It did not.
    Failed(Failure),
    /// The check could not be made for a want of this machine's own, which says nothing about the backend: if we run
    /// out of descriptors, not all backends are down.
    Unknown,
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// Most often refused, unreachable or reset.
    #[error("the connection failed: {0}")]
    Connection(io::ErrorKind),
    /// Within the target's time limit, connecting and all.
    #[error("no answer in time")]
    TimedOut,
    /// The server closed before the end of its status line.
    #[error("the connection was closed before an answer")]
    Closed,
    /// What came is no status line of HTTP/1, or none within [`LINE_MAX`] bytes.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// A status that is not expected.
    #[error("the answer's status is {0}")]
    Status(u16),
}

/// What a backend is asked.
#[derive(Clone, Debug)]
pub enum Probe {
    /// Whether it accepts a connection.
    Tcp,
    /// Whether it answers a request with an expected status.
    Http(HttpGet),
}

/// A GET request and the statuses that are right.
#[derive(Clone, Debug)]
pub struct HttpGet {
    request: Box<[u8]>,
    expected: Statuses,
}

/// What cannot stand in a request.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    /// It would end the line and start another.
    #[error("`{0}` is not a host: it is empty, or has a blank or a character that is not ASCII")]
    Host(String),
    /// Likewise, or relative.
    #[error("`{0}` is not a path: it starts with `/` and has no blank, only ASCII")]
    Path(String),
}

impl HttpGet {
    /// A request for `path` (with its query) to the virtual host `host` (an IPv6 address in brackets).
    ///
    /// # Errors
    ///
    /// When one of them cannot be sent as it is.
    pub fn new(host: &str, path: &str, expected: Statuses) -> Result<Self, RequestError> {
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_word(host) {
            return Err(RequestError::Host(host.into()));
        }
        if !path.starts_with('/') || !is_word(path) {
            return Err(RequestError::Path(path.into()));
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Ok(Self { request: request.into_bytes().into(), expected })
    }
}

/// A list of statuses, `200-299,301`; each within 100 to 599.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// A part of a list that is no status and no range of them.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a status or a range of them: write `200` or `200-299`, within 100 to 599")]
pub struct StatusesError(String);

impl Statuses {
    /// Whether a status is one of them.
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    /// 200 to 399, as an answer that leads elsewhere is an answer.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl FromStr for Statuses {
    type Err = StatusesError;

    fn from_str(text: &str) -> Result<Self, StatusesError> {
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let range = status(low.trim().as_bytes())?..=status(high.trim().as_bytes())?;
            (!range.is_empty()).then_some(range)
        };
        let ranges = text.split(',').map(|part| range(part).ok_or(StatusesError(part.into())));
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}", range.start())?;
            if range.end() > range.start() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}

impl Probe {
    /// Makes one check, which ends within `limit`.
    pub async fn ask(&self, address: SocketAddr, limit: Duration) -> Outcome {
        let check = async {
            match self {
                Self::Tcp => connect(address).await,
                Self::Http(get) => get.ask(address).await,
            }
        };
        timeout(limit, check).await.unwrap_or(Outcome::Failed(Failure::TimedOut))
    }
}

async fn connect(address: SocketAddr) -> Outcome {
    match TcpStream::connect(address).await {
        Ok(_) => Outcome::Passed,
        Err(e) => failed(&e),
    }
}

impl HttpGet {
    async fn ask(&self, address: SocketAddr) -> Outcome {
        let line = match self.status_line(address).await {
            Ok(line) => line,
            Err(e) => return failed(&e),
        };
        // Without its end it is a line that was cut off, or one longer than any status line is.
        if line.last() != Some(&b'\n') {
            let is_full = u64::try_from(line.len()) == Ok(LINE_MAX);
            return Outcome::Failed(if is_full { Failure::NotHttp } else { Failure::Closed });
        }
        match status_of(&line) {
            None => Outcome::Failed(Failure::NotHttp),
            Some(status) if self.expected.contain(status) => Outcome::Passed,
            Some(status) => Outcome::Failed(Failure::Status(status)),
        }
    }

    /// The answer's first line with its end, or what came of it.
    async fn status_line(&self, address: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&self.request).await?;
        let bounded = stream.take(LINE_MAX);
        let mut line = Vec::new();
        BufReader::with_capacity(READ_SIZE, bounded).read_until(b'\n', &mut line).await?;
        Ok(line)
    }
}

/// The status in `HTTP/1.1 200 OK` (RFC 9112, section 4); the reason, and the blank before it, may be missing.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let ([minor, b' ', code @ ..], rest) = rest.split_first_chunk::<5>()? else { return None };
    let is_end = matches!(rest, [b' ' | b'\r' | b'\n', ..]);
    if !minor.is_ascii_digit() || !is_end { None } else { status(code) }
}

/// Three digits, 100 to 599 (RFC 9110, section 15).
fn status(digits: &[u8]) -> Option<u16> {
    let [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] = digits else { return None };
    Some(digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

fn failed(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(ENOMEM | ENFILE | EMFILE | ENOBUFS) => Outcome::Unknown,
        _ => Outcome::Failed(Failure::Connection(error.kind())),
    }
}

/// Most bytes read of an answer.
pub const LINE_MAX: u64 = 4096;

/// A status line is some 20 bytes; what comes with it is not read.
const READ_SIZE: usize = 512;

// Linux's numbers for want of memory, descriptors (of the machine, of the process) and buffers.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpSocket};

    const LIMIT: Duration = Duration::from_millis(200);

    fn get(expected: &str) -> Probe {
        let expected = expected.parse().unwrap();
        Probe::Http(HttpGet::new("web.example", "/health?x=1", expected).unwrap())
    }

    /// What a server does with its one connection, after the request.
    enum Server {
        Says(Vec<u8>),
        IsSilent,
        /// A byte each 20 ms.
        Drips(&'static [u8]),
    }

    /// Asks a server on `bind`, port 0; gives the request that it got as well.
    async fn ask(probe: Probe, bind: &str, server: Server) -> (Outcome, String) {
        let listener = TcpListener::bind(bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut request = Vec::new();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            match server {
                Server::Says(bytes) => drop(stream.write_all(&bytes).await),
                Server::Drips(bytes) => {
                    for byte in bytes {
                        let _ = stream.write_all(&[*byte]).await;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Server::IsSilent => std::future::pending().await,
            }
            drop(stream);
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = probe.ask(address, LIMIT) => outcome,
            () = serve => unreachable!("it waits for ever"),
        };
        (outcome, String::from_utf8(request).unwrap())
    }

    async fn answer(bytes: &[u8]) -> Outcome {
        ask(get("200-299,301"), "127.0.0.1:0", Server::Says(bytes.into())).await.0
    }

    #[tokio::test]
    async fn a_server_that_accepts_passes_the_tcp_check() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind).await else {
                eprintln!("skipped: this machine has no {bind}");
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert_eq!(Probe::Tcp.ask(address, LIMIT).await, Outcome::Passed);
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_fails_both_checks() {
        // Bound, so that nobody else takes the port, but not listening.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = silent.local_addr().unwrap();
        let refused = Outcome::Failed(Failure::Connection(io::ErrorKind::ConnectionRefused));
        assert_eq!(Probe::Tcp.ask(address, LIMIT).await, refused);
        assert_eq!(get("200").ask(address, LIMIT).await, refused);
    }

    #[tokio::test]
    async fn the_request_is_a_get_that_closes_the_connection() {
        let says = Server::Says(b"HTTP/1.1 200 OK\r\n\r\n".into());
        let (outcome, request) = ask(get("200"), "127.0.0.1:0", says).await;
        assert_eq!(outcome, Outcome::Passed);
        let expected = "GET /health?x=1 HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n";
        assert_eq!(request, expected);
    }

    #[tokio::test]
    async fn expected_statuses_pass_whatever_follows_them() {
        let body = [&b"HTTP/1.0 204 \r\n"[..], &[b'x'; 100_000]].concat();
        let answers =
            [&b"HTTP/1.1 200 OK\r\n\r\nbody"[..], b"HTTP/1.1 301\r\n", b"HTTP/1.1 299\n", &body];
        for bytes in answers {
            assert_eq!(answer(bytes).await, Outcome::Passed);
        }
    }

    #[tokio::test]
    async fn an_unexpected_status_fails_with_its_number() {
        for (bytes, status) in
            [(&b"HTTP/1.1 500 Oops\r\n"[..], 500), (b"HTTP/1.1 302 Found\r\n", 302)]
        {
            assert_eq!(answer(bytes).await, Outcome::Failed(Failure::Status(status)));
        }
    }

    #[tokio::test]
    async fn garbage_is_not_http() {
        let long = [b'H'; 5000];
        let ssh = b"SSH-2.0-OpenSSH_9.2\r\n";
        for bytes in [&ssh[..], b"\n", b"HTTP/2 200\n", b"HTTP/1.1 20x\n", b"\xff\xfe\n", &long] {
            assert_eq!(answer(bytes).await, Outcome::Failed(Failure::NotHttp), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_closes_within_its_status_line_fails() {
        for bytes in [&b""[..], b"HTTP/1.1 200 O"] {
            assert_eq!(answer(bytes).await, Outcome::Failed(Failure::Closed));
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up_in_time() {
        let start = tokio::time::Instant::now();
        let (outcome, _) = ask(get("200"), "127.0.0.1:0", Server::IsSilent).await;
        assert_eq!(outcome, Outcome::Failed(Failure::TimedOut));
        assert!((LIMIT..5 * LIMIT).contains(&start.elapsed()));
    }

    #[tokio::test]
    async fn dripping_bytes_does_not_buy_a_server_time() {
        let slow = Server::Drips(b"HTTP/1.1 200 Okay, but not soon\r\n");
        let (outcome, _) = ask(get("200"), "127.0.0.1:0", slow).await;
        assert_eq!(outcome, Outcome::Failed(Failure::TimedOut));
        let (outcome, _) = ask(get("200"), "127.0.0.1:0", Server::Drips(b"\n")).await;
        assert_eq!(outcome, Outcome::Failed(Failure::NotHttp), "one that is done in time is read");
    }

    #[test]
    fn a_want_of_descriptors_says_nothing_about_the_backend() {
        assert_eq!(failed(&io::Error::from_raw_os_error(EMFILE)), Outcome::Unknown);
        let kind = io::ErrorKind::ConnectionReset;
        assert_eq!(failed(&kind.into()), Outcome::Failed(Failure::Connection(kind)));
    }

    #[test]
    fn a_host_or_path_that_would_write_its_own_headers_is_refused() {
        let get = |host, path| HttpGet::new(host, path, Statuses::default()).map(|_| ());
        assert_eq!(get("[::1]:80", "/"), Ok(()));
        for host in ["", "a b", "a\r\nX: y", "ä"] {
            assert_eq!(get(host, "/"), Err(RequestError::Host(host.into())));
        }
        for path in ["", "x", "/a b", "/\r\nX: y"] {
            assert_eq!(get("a", path), Err(RequestError::Path(path.into())));
        }
    }

    #[test]
    fn a_list_of_statuses_is_read_and_shown_as_written() {
        let list: Statuses = "200-299,301".parse().unwrap();
        assert_eq!(list.to_string(), "200-299,301");
        assert_eq!("200, 204".parse::<Statuses>().unwrap().to_string(), "200,204");
        assert!(list.contain(200) && list.contain(299) && list.contain(301));
        assert!(!list.contain(199) && !list.contain(300) && !list.contain(302));
        for text in ["", "2xx", "299-200", "99", "600", "200,", "200-", "0200", "+20"] {
            assert!(text.parse::<Statuses>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_a_status_within_range_or_none(
            line in prop::collection::vec(any::<u8>(), 0..40), minor in any::<u8>(),
        ) {
            let near = [b"HTTP/1.", &[minor, b' '][..], &line].concat();
            for status in [status_of(&line), status_of(&near)].into_iter().flatten() {
                prop_assert!((100..600).contains(&status));
            }
        }

        #[test]
        fn any_text_is_a_list_that_is_shown_as_it_is_read_or_an_error(text in "[0-9, -]{0,12}") {
            if let Ok(list) = text.parse::<Statuses>() {
                prop_assert_eq!(list.to_string().parse::<Statuses>(), Ok(list));
            }
        }
    }
}
