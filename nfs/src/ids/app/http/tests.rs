//! Conversations of HTTP, whole and cut anywhere.

use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use crate::ids::app::testkit::{DOWN, Talk, UP, WEB, same_however_cut, text};
use crate::ids::app::{App, Input, Limits, Pickup, Protocol, Ready, Stage};
use crate::ids::buffer::Buffer;

fn web() -> Talk {
    Talk::tcp(WEB)
}

/// A request and its response, each in one piece, both ended.
fn exchange(request: &[u8], response: &[u8]) -> Talk {
    let mut talk = web();
    talk.say(UP, request);
    talk.say(DOWN, response);
    talk.end();
    talk
}

const GET: &[u8] =
    b"GET //a/./b%2e?c=%41 HTTP/1.1\r\nHost: WWW.Example.com:8080\r\nUser-Agent: curl/7.1\r\n\
Cookie: a=b\r\nAccept: */*\r\nAccept: text/html\r\n\r\n";

/// Nothing to remark about it.
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nSet-Cookie: c=d\r\nContent-Type: text/html; charset=x\r\n\
Content-Length: 5\r\nLocation: /x\r\n\r\nhello";

#[test]
fn a_request_and_its_response_fill_the_buffers() {
    let talk = exchange(GET, PAGE);
    for (name, direction, expected) in [
        ("http.method", UP, "GET"),
        ("http.uri", UP, "/a/b.?c=A"),
        ("http.uri.raw", UP, "//a/./b%2e?c=%41"),
        ("http.host", UP, "www.example.com"),
        ("http.host.raw", UP, "WWW.Example.com:8080"),
        ("http.user_agent", UP, "curl/7.1"),
        ("http.cookie", UP, "a=b"),
        ("http.cookie", DOWN, "c=d"),
        ("http.accept", UP, "*/*, text/html"),
        ("http.request_line", UP, "GET //a/./b%2e?c=%41 HTTP/1.1"),
        ("http.header_names", UP, "\\r\\nHost\\r\\nUser-Agent\\r\\nCookie\\r\\nAccept\\r\\n\\r\\n"),
        (
            "http.header",
            UP,
            "Host: WWW.Example.com:8080\\r\\nUser-Agent: curl/7.1\\r\\nAccept: */*, text/html\\r\\n",
        ),
        ("http.request_header", UP, "Host: WWW.Example.com:8080"),
        ("http.protocol", UP, "HTTP/1.1"),
        ("http.stat_code", DOWN, "200"),
        ("http.stat_msg", DOWN, "OK"),
        ("http.response_line", DOWN, "HTTP/1.1 200 OK"),
        ("http.server", DOWN, "nginx"),
        ("http.location", DOWN, "/x"),
        ("http.content_len", DOWN, "5"),
        ("http.content_type", DOWN, "text/html; charset=x"),
        ("http.response_body", DOWN, "hello"),
        ("file.data", DOWN, "hello"),
        ("file.data", UP, "-"),
        ("http.stat_code", UP, "-"),
    ] {
        assert_eq!(talk.text(0, name, direction), expected, "{name}");
    }
    assert!(
        talk.text(0, "http.start", DOWN).starts_with("HTTP/1.1 200 OK\\r\\nServer: nginx\\r\\n")
    );
    let crate::ids::app::Fields::Http(fields) = talk.tx(0).fields() else { panic!() };
    assert_eq!((fields.port(), fields.length()), (Some(8080), 5));
    assert_eq!(fields.content_type(), Some(&b"text/html"[..]));
}

#[test]
fn conversations_are_the_same_however_they_are_cut() {
    let coded = |name: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let (gzipped, plain) =
        (coded("gzip", &gzip(b"hello, hello, hello!")), coded("gzip", b"not compressed at all"));
    let deflated = coded("deflate", &raw(&[b'x'; 300]));
    let conversations: [&[(_, &[u8])]; 14] = [
        &[(UP, GET), (DOWN, PAGE)],
        &[(UP, GET), (UP, GET), (DOWN, PAGE), (DOWN, PAGE)],
        &[
            (UP, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
            (DOWN, b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n\n2;x\nde\n0\n\n"),
        ],
        &[(UP, GET), (DOWN, &gzipped)],
        &[(UP, GET), (DOWN, &plain)],
        &[(UP, GET), (DOWN, &deflated)],
        &[(UP, b"GET /old\r\n"), (DOWN, b"<html>old</html>")],
        &[(UP, b"GET /not/old\r\nHost: a\r\n\r\n"), (DOWN, PAGE)],
        &[(UP, GET), (DOWN, b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"), (DOWN, PAGE)],
        &[(UP, GET), (UP, GET), (DOWN, b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"), (DOWN, PAGE)],
        &[(UP, GET), (DOWN, b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nHTTPs")],
        &[(UP, GET), (DOWN, b"junk line\r\nHTTP/1.1 200 OK\r\n\r\nto the end")],
        &[(UP, GET), (DOWN, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\nrest")],
        &[(UP, b"HEAD / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"), (DOWN, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), (DOWN, PAGE)],
    ];
    for conversation in conversations {
        same_however_cut(web, conversation);
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn raw(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The body of a response with an encoding.
fn decoded(encoding: &str, body: &[u8]) -> (String, String) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n\r\n");
    let talk = exchange(ASK, &[head.as_bytes(), body].concat());
    (talk.text(0, "file.data", DOWN), talk.events(0))
}

#[test]
fn bodies_are_decompressed_whatever_they_are_said_to_be() {
    let plain = b"a body that is long enough to be worth it, worth it, worth it, worth it";
    let (gzipped, zlibbed, deflated) = (gzip(plain), zlib(plain), raw(plain));
    let twice = gzip(&zlibbed);
    let fine = (text(plain), String::new());
    for (encoding, body) in [
        ("gzip", &gzipped),
        ("x-gzip", &zlibbed),
        ("gzip", &deflated),
        ("deflate", &deflated),
        ("deflate", &zlibbed),
        ("deflate", &gzipped),
        ("deflate, gzip", &twice),
    ] {
        assert_eq!(decoded(encoding, body), fine, "{encoding}");
    }
    let members = [gzipped.as_slice(), &gzipped, b"\0\0"].concat();
    assert_eq!(decoded("gzip", &members).0, text(plain).repeat(2));
    let failed = (text(plain), "GZIP_DECOMPRESSION_FAILED".into());
    assert_eq!(decoded("gzip", plain), failed);
    assert_eq!(decoded("br", b"\x40\x00\x10hello\x03"), ("hello".into(), String::new()));
    assert_eq!(decoded("br", &[0xff; 50]).1, "GZIP_DECOMPRESSION_FAILED");
    let three = gzip(&twice);
    assert_eq!(decoded("deflate, gzip, gzip", &three).1, "TOO_MANY_ENCODING_LAYERS");
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let bomb = gzip(&vec![0; 30 << 20]);
    let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    let mut talk = web();
    talk.say(UP, ASK);
    talk.say(DOWN, &[head, bomb.as_slice()].concat());
    assert!(talk.app.bytes() < 300 << 10, "{}", talk.app.bytes());
    assert_eq!(talk.tx(0).body(DOWN).unwrap().bytes.len(), 100 << 10);
    // Without an inspection limit it is known by its growth.
    let twice = gzip(&bomb);
    let mut talk = web();
    talk.limits = Limits { response_body: u64::MAX, ..Limits::default() };
    talk.say(UP, ASK);
    talk.say(
        DOWN,
        &[b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\n\r\n", twice.as_slice()].concat(),
    );
    assert_eq!(talk.events(0), "COMPRESSION_BOMB");
    assert!(talk.app.bytes() < 8 << 20, "{}", talk.app.bytes());
}

#[test]
fn chunks_are_put_together_and_trailers_are_headers() {
    let talk = exchange(
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n6\r\n world\r\n0\r\nEnd: yes\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    assert_eq!(talk.text(0, "http.request_body", UP), "hello world");
    assert_eq!(talk.text(0, "http.response_body", DOWN), "ok");
    assert!(talk.text(0, "http.header", UP).ends_with("End: yes\\r\\n"));
    assert_eq!(talk.events(0), "REQUEST_CHUNK_EXTENSION");
}

#[test]
fn a_response_without_a_body_by_its_request_or_status_has_none() {
    let mut talk = web();
    talk.say(UP, b"HEAD /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
    talk.say(DOWN, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n");
    talk.say(DOWN, PAGE);
    assert_eq!([0, 1, 2].map(|id| talk.text(id, "http.stat_code", DOWN)), ["200", "304", "200"]);
    assert_eq!(talk.text(2, "file.data", DOWN), "hello");
    let talk = exchange(ASK, b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(talk.text(0, "file.data", DOWN), "hello");
    assert_eq!(talk.events(0), "RESPONSE_BODY_UNEXPECTED");
}

#[test]
fn an_interim_response_is_followed_by_another() {
    let mut talk = web();
    talk.say(
        UP,
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    talk.say(DOWN, b"HTTP/1.1 100 Continue\r\n\r\n");
    talk.say(UP, b"ab");
    talk.say(DOWN, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.text(0, "http.stat_code", DOWN), "201");
    assert_eq!(talk.events(0), "100_CONTINUE_ALREADY_SEEN");
    assert!(talk.tx(0).is_complete());
}

#[test]
fn a_refused_body_is_not_waited_for() {
    let mut talk = web();
    talk.say(
        UP,
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    talk.say(DOWN, b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
    talk.say(UP, GET);
    assert_eq!(talk.text(1, "http.method", UP), "GET");
}

#[test]
fn a_tunnel_is_guessed_anew() {
    let mut talk = web();
    talk.say(UP, b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    talk.say(DOWN, b"HTTP/1.1 200 Established\r\n\r\n");
    assert_eq!(talk.text(0, "http.host", UP), "a.example");
    assert_eq!(talk.text(0, "http.uri", UP), "-");
    talk.say(UP, b"SSH-2.0-x\r\n");
    assert_eq!(
        (talk.app.protocol(), talk.app.original()),
        (Some(Protocol::Ssh), Some(Protocol::Http))
    );
    assert_eq!(talk.text(1, "ssh.software", UP), "x");
}

#[test]
fn behind_a_refused_tunnel_requests_go_on() {
    let mut talk = web();
    talk.say(
        UP,
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\nGET /early HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    talk.say(DOWN, b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(talk.text(1, "http.uri", UP), "/early");
}

#[test]
fn an_upgrade_names_the_next_protocol() {
    for (word, protocol) in [("h2c", Protocol::Http2), ("websocket", Protocol::WebSocket)] {
        let response = format!("HTTP/1.1 101 Switching\r\nUpgrade: {word}\r\n\r\n\0\0\0");
        let talk = exchange(GET, response.as_bytes());
        assert_eq!(
            (talk.app.protocol(), talk.app.original()),
            (Some(protocol), Some(Protocol::Http))
        );
        assert_eq!(talk.text(0, "http.stat_code", DOWN), "101");
    }
}

#[test]
fn a_response_that_nobody_asked_for_is_a_transaction() {
    let mut talk = web();
    talk.say(DOWN, PAGE);
    talk.say(DOWN, PAGE);
    assert_eq!(talk.events(0), "UNABLE_TO_MATCH_RESPONSE_TO_REQUEST");
    let crate::ids::app::Fields::Http(fields) = talk.tx(1).fields() else { panic!() };
    assert_eq!(fields.url(), Some(&b"/libhtp::request_uri_not_seen"[..]));
    assert_eq!(talk.text(1, "http.uri", UP), "-");
    assert_eq!(talk.text(1, "file.data", DOWN), "hello");
    assert!(talk.remarks.contains("APPLAYER_WRONG_DIRECTION_FIRST_DATA"));
}

#[test]
fn a_flow_met_in_its_middle_is_turned_by_its_first_bytes() {
    let mut talk = Talk::of(App::tcp(WEB, Pickup::Midstream));
    assert!(talk.say(DOWN, GET).is_swapped);
    talk.say(UP, GET);
    assert_eq!(talk.text(1, "http.method", UP), "GET");
}

#[test]
fn what_servers_put_up_with_is_put_up_with() {
    let uri = |request: &[u8]| exchange(request, PAGE).text(0, "http.uri", UP);
    assert_eq!(uri(b"GET /a b HTTP/1.1\n\n"), "/a b");
    assert_eq!(uri(b"GET  \t/tab HTTP/1.1\r\n\r\n"), "/tab");
    assert_eq!(uri(b"GET /nul\0byte HTTP/1.1\r\n\r\n"), "/nul\\x00byte");
    assert_eq!(uri(b"GET http://H.example/abs?q HTTP/1.1\r\nHost: other\r\n\r\n"), "/abs?q");
    let talk = exchange(b"GET http://H.example/ HTTP/1.1\r\nHost: other\r\n\r\n", PAGE);
    assert_eq!(talk.text(0, "http.host", UP), "h.example");
    assert_eq!(talk.events(0), "HOST_HEADER_AMBIGUOUS");
    let talk = exchange(&[ASK, b"\r\n\r\nGET / HTTP/1.1\r\nA: 1\r\n 2\r\n\r\n"].concat(), PAGE);
    assert_eq!(talk.text(1, "http.request_header", UP), "A: 1 2");
    assert_eq!(talk.events(1), "MISSING_HOST_HEADER");
}

#[test]
fn a_body_behind_a_request_without_a_length_is_its_body() {
    let mut talk = web();
    talk.say(UP, b"GET / HTTP/1.1\r\nHost: h\r\n\r\nunexpected=1\r\n");
    assert_eq!(talk.text(0, "http.request_body", UP), "unexpected=1\\r\\n");
    assert_eq!(talk.events(0), "REQUEST_BODY_UNEXPECTED");
}

#[test]
fn buffers_are_ready_when_they_are_whole() {
    let mut talk = web();
    let ready = |talk: &Talk, buffer, direction| talk.tx(0).ready(buffer, direction);
    talk.say(UP, b"POST /a HTTP/1.1\r\nHost: ");
    assert_eq!(ready(&talk, Buffer::HttpUri, UP), Ready::Whole);
    assert_eq!(ready(&talk, Buffer::HttpHost, UP), Ready::Later);
    assert_eq!(talk.text(0, "http.host", UP), "-");
    talk.say(UP, b"h\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(ready(&talk, Buffer::HttpHost, UP), Ready::Whole);
    assert_eq!(ready(&talk, Buffer::HttpCookie, UP), Ready::Never);
    assert_eq!(ready(&talk, Buffer::HttpRequestBody, UP), Ready::Growing);
    assert_eq!(ready(&talk, Buffer::HttpStatCode, DOWN), Ready::Later);
    assert_eq!(ready(&talk, Buffer::HttpStatCode, UP), Ready::Never);
    talk.say(UP, b"cd");
    assert_eq!(ready(&talk, Buffer::HttpRequestBody, UP), Ready::Whole);
    assert_eq!(talk.tx(0).stage(UP), Stage::Complete);
}

#[test]
fn inspected_and_logged_transactions_are_freed() {
    let mut talk = exchange(GET, PAGE);
    let txs = talk.app.transactions_mut();
    txs.collect();
    assert_eq!(txs.len(), 1);
    txs.mark_inspected(0, UP, &talk.limits);
    txs.mark_inspected(0, DOWN, &talk.limits);
    txs.mark_logged(0);
    txs.collect();
    assert!(txs.is_empty());
}

#[test]
fn a_flood_of_requests_waits_for_its_owner() {
    let flood = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2000);
    let limits = Limits { transactions: 10, ..Limits::default() };
    let mut app = App::tcp(WEB, Pickup::Start);
    let (mut rest, mut seen) = (flood.as_slice(), 0);
    while !rest.is_empty() {
        let progress = app.feed(UP, Input::Bytes(rest), &limits);
        rest = &rest[progress.consumed..];
        seen += app.transactions().iter().filter(|tx| tx.inspected(UP) < tx.stage(UP)).count();
        let ids: Vec<_> = app.transactions().iter().map(|tx| tx.id()).collect();
        for id in ids {
            app.transactions_mut().mark_inspected(id, UP, &limits);
        }
    }
    // None ends, as no answer comes, yet each was seen before it was given up.
    let txs = app.transactions();
    assert_eq!((seen, txs.count(), txs.shed() + txs.len() as u64), (2000, 2000, 2000));
    assert!(txs.len() <= 10);
}

#[test]
fn bytes_missing_in_a_body_are_borne() {
    let mut talk = web();
    talk.say(UP, GET);
    talk.say(DOWN, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab");
    talk.app.feed(DOWN, Input::Gap(6), &talk.limits);
    talk.say(DOWN, b"yzHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let body = talk.tx(0).body(DOWN).unwrap();
    assert_eq!((body.total, body.has_gaps), (10, true));
    assert_eq!(talk.app.transactions().len(), 2);
}

#[test]
fn behind_missing_headers_the_next_message_is_found() {
    let mut talk = web();
    talk.say(UP, b"GET /1 HTTP/1.1\r\nHost");
    talk.app.feed(UP, Input::Gap(100), &talk.limits);
    talk.say(UP, b"tail of a header\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(talk.text(1, "http.uri", UP), "/2");
}

#[test]
fn a_megabyte_without_a_line_end_is_refused() {
    for start in [&b"GET /"[..], b"GET / HTTP/1.1\r\nA: "] {
        let mut talk = web();
        talk.say(UP, start);
        for _ in 0..1024 {
            talk.say(UP, &[b'a'; 1024]);
        }
        assert_eq!(talk.events(0).split(' ').next(), Some("REQUEST_FIELD_TOO_LONG"));
        assert!(talk.app.bytes() < 300 << 10, "{}", talk.app.bytes());
        assert!(talk.app.is_ignored());
    }
}

#[test]
fn a_flow_of_single_bytes_costs_what_its_bytes_cost() {
    for unit in [&b" "[..], b"\r\n", b"A", b"1\r\na\r\n", b"a: b\r\n", b" b\r\n"] {
        let mut talk = web();
        talk.say(UP, ASK);
        let start = Instant::now();
        for head in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"\r\n"] {
            talk.say(DOWN, head);
            for byte in unit.iter().cycle().take(60_000) {
                talk.say(DOWN, &[*byte]);
            }
        }
        let time = start.elapsed();
        assert!(time.as_millis() < 2000, "{}: {time:?}", text(unit));
        assert!(talk.app.bytes() < 400 << 10, "{}", talk.app.bytes());
    }
}

#[test]
fn a_request_costs_little() {
    let mut request = b"GET /a/path/of/some/length?with=a&query=string HTTP/1.1\r\nHost: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,application/xhtml+xml\r\n\
Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nReferer: http://www.example.com/\r\n\
Cookie: session=0123456789abcdef0123456789abcdef\r\n".to_vec();
    request.extend_from_slice(format!("X: {}\r\n\r\n", "x".repeat(493 - request.len())).as_bytes());
    assert_eq!(request.len(), 500);
    let limits = Limits::default();
    let mut app = App::tcp(WEB, Pickup::Start);
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..1000 {
            app.feed(UP, Input::Bytes(&request), &limits);
            let id = app.transactions().count() - 1;
            let tx = app.transactions().get(id).unwrap();
            assert!(tx.buffer(Buffer::HttpUri, UP).is_some());
            let txs = app.transactions_mut();
            txs.finish(DOWN);
            txs.mark_inspected(id, UP, &limits);
            txs.mark_inspected(id, DOWN, &limits);
            txs.mark_logged(id);
            txs.collect();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("a request of 500 bytes: {:.0} ns", best * 1e6);
    assert!(best < 0.1, "{best} s a thousand");
}

proptest! {
    /// Whatever comes, and however it is cut: no panic, no more memory than the limits allow.
    #[test]
    fn hostile_bytes_are_bounded(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(fragment(), 1..8)), 1..20),
    ) {
        let limits = Limits { transactions: 16, http_headers: 2048, http_line: 1024, request_body: 4096, response_body: 4096, ..Limits::default() };
        let mut talk = Talk { limits, ..web() };
        talk.say(UP, b"GET / HTTP/1.1\r\n");
        for (is_up, parts) in pieces {
            talk.say(if is_up { UP } else { DOWN }, &parts.concat());
            prop_assert!(talk.app.bytes() < 16 * 40_000 + 200_000);
        }
        talk.end();
        talk.picture();
    }

    /// Two ways to cut the same bytes are one.
    #[test]
    fn any_cuts_lead_to_the_same(
        parts in prop::collection::vec(fragment(), 1..30),
        cuts in prop::collection::vec(1_usize..60, 1..20),
    ) {
        let bytes = parts.concat();
        let run = |cuts: &[usize]| {
            let mut talk = web();
            talk.say(UP, GET);
            talk.say(UP, b"HEAD /2 HTTP/1.1\r\n\r\n");
            talk.say(DOWN, b"HTTP/1.1 ");
            let mut rest = bytes.as_slice();
            let mut at = 0;
            while !rest.is_empty() {
                let len = cuts.get(at % cuts.len().max(1)).copied().unwrap_or(rest.len()).min(rest.len());
                talk.say(DOWN, &rest[..len]);
                rest = &rest[len..];
                at += 1;
            }
            talk.end();
            talk.picture()
        };
        prop_assert_eq!(run(&cuts), run(&[]));
    }
}

/// Words that parsers trip over, and bytes at random.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\n"[..],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 304 X\r\n",
        b"HTTP/1.1 100 C\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b" ",
        b"H",
        b"HTTP",
        b"Content-Encoding: gzip\r\n",
        b"\x1f\x8b\x08\x00",
        b"A: b\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"fffffff;\r\n",
        b"junk\r\n",
        b"\0",
    ]);
    prop_oneof![
        3 => word.prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}
