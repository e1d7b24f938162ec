//! Every keyword of the language: one rule, what it fires on, and what looks like it and it does not fire on.

mod applications;
mod bytes;
mod headers;
mod states;

use super::*;
use crate::ids::rules::Side;

/// What rules look at.
enum Scene {
    /// One packet without a flow.
    Lone(Crafted),
    /// Packets of a flow, all of its client, a second apart.
    Flow(Vec<Crafted>),
    /// A TCP connection: what each side says, acknowledged.
    Talk(Vec<(Side, Vec<u8>)>),
    /// A datagram of DNS.
    Dns(Vec<u8>),
}
use Scene::{Dns, Flow, Lone, Talk};

/// Names of keywords, a rule, what it fires on, and what not. Of a rule only the options where it is one of UDP.
struct Row(&'static str, &'static str, Scene, Scene);

/// Whether the rule of number 1 is told.
fn fires(text: &str, scene: &Scene) -> bool {
    let text = match text.starts_with("alert") {
        true => text.to_owned(),
        false => format!("alert udp any any -> any any ({text} sid:1;)"),
    };
    let told = match scene {
        Lone(packet) => Watch::new(&text).lone(packet),
        Flow(packets) => {
            let mut watch = Watch::new(&text);
            let one = |(second, packet): (u64, &Crafted)| {
                watch.of_flow(&packet.clone().after(second), UP)
            };
            (0..).zip(packets).flat_map(one).collect()
        }
        Talk(pieces) => {
            let mut connection = Connection::new(&text);
            for (side, bytes) in pieces {
                match side {
                    Side::ToServer => connection.up(bytes),
                    Side::ToClient => connection.down(bytes),
                };
            }
            connection.end();
            connection.told
        }
        Dns(bytes) => of_dns(&text, bytes),
    };
    told.contains(&1)
}

fn of_dns(text: &str, bytes: &[u8]) -> Sids {
    use crate::ids::app::{App, Input, Ports};
    let mut watch = Watch::new(text);
    let mut app = App::udp(Ports { client: 40_000, server: 53 });
    let limits = watch.limits.clone();
    app.feed(UP, Input::Bytes(bytes), &limits);
    let crafted = Crafted::udp(bytes);
    let mut subject = Subject {
        packet: crafted.packet(),
        flow: Some(facts(UP)),
        state: Some(&mut watch.state),
        app: Some(&mut app),
        limits: &limits,
        streams: None,
        stream_events: crate::ids::stream::Events::NONE,
        app_events: &[],
    };
    watch.detector.inspect(&mut subject, &mut watch.matches);
    watch.sids()
}

fn udp(payload: &[u8]) -> Scene {
    Lone(Crafted::udp(payload))
}

fn tcp(flags: u8, change: impl FnOnce(&mut [u8])) -> Scene {
    let mut packet = Crafted::tcp(flags, b"");
    change(&mut packet.bytes[20..]);
    Lone(packet)
}

fn changed(at: usize, byte: u8) -> Scene {
    let mut packet = Crafted::udp(b"a");
    packet.bytes[at] = byte;
    Lone(packet)
}

fn ping(kind: u8, code: u8, id: u8, seq: u8) -> Scene {
    Lone(Crafted::ipv4(1, &[kind, code, 0, 0, 0, id, 0, seq], b""))
}

fn ping6(kind: u8) -> Scene {
    Lone(Crafted::ipv6(58, &[kind, 0, 0, 0, 0, 1, 0, 2]))
}

/// An IPv4 packet with these options, four bytes.
fn option(options: [u8; 4]) -> Scene {
    let mut upper = options.to_vec();
    upper.extend_from_slice(&[0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let mut packet = Crafted::ipv4(17, &upper, b"");
    packet.bytes[0] = 0x46;
    packet.upper = 24;
    packet.ports = [40_000, 53];
    Lone(packet)
}

fn mss(high: u8, low: u8) -> Scene {
    let mut header = Crafted::tcp(2, b"").bytes[20..].to_vec();
    header.extend_from_slice(&[2, 4, high, low]);
    header[12] = 0x60;
    Lone(Crafted::ipv4(6, &header, b""))
}

fn said(words: &[&[u8]]) -> Scene {
    Flow(words.iter().map(|word| Crafted::udp(word)).collect())
}

fn talk(pieces: &[(Side, &[u8])]) -> Scene {
    Talk(pieces.iter().map(|(side, bytes)| (*side, bytes.to_vec())).collect())
}

/// The conversation that rules of HTTP fire on, and the other one.
fn http() -> Scene {
    let request = b"POST /a%20b?q=1 HTTP/1.1\r\nHost: Example.org:8080\r\nUser-Agent: probe/1.0  x\r\nCookie: c=1\r\n\
        Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecret";
    let answer = b"HTTP/1.1 200 Fine\r\nServer: thing\r\nSet-Cookie: s=2\r\nLocation: /there\r\nContent-Type: text/html\r\n\
        Content-Length: 5\r\n\r\nhello";
    talk(&[(UP, request), (DOWN, answer)])
}

fn other_http() -> Scene {
    let request = b"GET /c HTTP/1.0\r\nHost: other.net\r\nUser-Agent: else\r\n\r\n";
    let answer = b"HTTP/1.0 404 None\r\nServer: no\r\nContent-Length: 2\r\n\r\nno";
    talk(&[(UP, request), (DOWN, answer)])
}

fn of_http(names: &'static str, rule: &'static str) -> Row {
    Row(names, rule, http(), other_http())
}

fn tls12() -> Scene {
    let client = include_bytes!("../../app/tls/data/client12.bin");
    let server = include_bytes!("../../app/tls/data/server12.bin");
    talk(&[(UP, &client[..204]), (DOWN, &server[..749])])
}

fn tls13() -> Scene {
    let client = include_bytes!("../../app/tls/data/client13.bin");
    let server = include_bytes!("../../app/tls/data/server13.bin");
    talk(&[(UP, client), (DOWN, server)])
}

fn ssh(banner: &[u8]) -> Scene {
    talk(&[(UP, banner), (DOWN, b"SSH-2.0-x\r\n")])
}

/// A question for `example.org`, or another word of as many letters.
fn dns(opcode: u8, word: &[u8; 7]) -> Scene {
    let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07".to_vec();
    bytes[2] |= opcode << 3;
    bytes.extend_from_slice(word);
    bytes.extend_from_slice(b"\x03org\x00\x00\x01\x00\x01");
    Dns(bytes)
}

/// The names of the language that are tested here; `noalert` and `tag` are where alerts are held back.
const NAMES: &str = "msg sid gid rev classtype priority reference metadata target content nocase offset depth distance within \
    startswith endswith rawbytes fast_pattern pcre isdataat byte_test byte_jump byte_extract byte_math bsize dsize urilen \
    base64_decode base64_data flow flowbits flowint xbits hostbits threshold detection_filter flags tcp.flags seq ack window \
    ttl tos id ipopts fragbits fragoffset ip_proto sameip itype icode icmp_id icmp_seq tcp.mss stream_size ipv4.hdr ipv6.hdr \
    tcp.hdr udp.hdr icmpv4.hdr icmpv6.hdr http.uri http.uri.raw http.method http.host http.user_agent http.header \
    http.header_names http.cookie http.request_line http.request_body http.stat_code http.stat_msg http.response_line \
    http.response_body file.data http.content_type http.server http.location http.protocol http_uri http_raw_uri http_method \
    http_host http_user_agent http_header http_cookie http_client_body http_stat_code http_stat_msg http_server_body file_data \
    uricontent dns.query dns_query dns.opcode tls.sni tls_sni tls.cert_subject tls_cert_subject tls.version ja3.hash ja3_hash \
    ssh.proto ssh.software to_lowercase strip_whitespace compress_whitespace dotprefix url_decode to_md5 to_sha1 to_sha256 \
    pcrexform xor ip tcp udp icmp icmpv6 tcp-pkt tcp-stream http dns tls ssh";

#[test]
fn every_keyword_fires_on_what_it_is_about_and_on_nothing_else() {
    let of_applications = [applications::of_requests(), applications::of_others()];
    let rows = [bytes::contents(), states::states(), headers::headers()]
        .into_iter()
        .chain(of_applications)
        .flatten();
    let mut tested = Vec::new();
    let mut wrong = Vec::new();
    for Row(names, rule, hit, miss) in rows {
        tested.extend(names.split_whitespace());
        match (fires(rule, &hit), fires(rule, &miss)) {
            (true, false) => {}
            (hit, miss) => wrong.push(format!("{rule}: fires {hit}, control fires {miss}")),
        }
    }
    let is_untested = |name: &&str| !tested.contains(name);
    let untested: Vec<&str> = NAMES.split_whitespace().filter(is_untested).collect();
    assert!(untested.is_empty(), "{untested:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
