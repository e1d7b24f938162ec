//! Transactions: buffers as they come, once each.

use super::*;

fn get(uri: &str) -> Vec<u8> {
    format!("GET {uri} HTTP/1.1\r\nHost: example.org\r\nUser-Agent: probe/1.0\r\n\r\n").into_bytes()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: thing\r\n\r\nhello";

#[test]
fn buffers_of_a_request_and_a_response_are_asked() {
    let text = r#"
alert http any any -> any any (http.uri; content:"/one"; sid:1;)
alert http any any -> any any (http.method; content:"GET"; http.uri; content:"/one"; sid:2;)
alert http any any -> any any (http.user_agent; content:"probe"; startswith; sid:3;)
alert http any any -> any any (http.host; content:"example.org"; bsize:11; sid:4;)
alert http any any -> any any (http.stat_code; content:"200"; sid:5;)
alert http any any -> any any (flow:to_client; http.response_body; content:"hello"; sid:6;)
alert http any any -> any any (file.data; content:"hello"; sid:7;)
alert http any any -> any any (http.uri; content:"/two"; sid:8;)
alert http any any -> any any (http.method; content:"POST"; http.uri; content:"/one"; sid:9;)
alert http any any -> any any (http.server; content:"thing"; sid:10;)
alert tcp any any -> any any (content:"/one"; http_uri; sid:11;)
alert tls any any -> any any (tls.sni; content:"example"; sid:12;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/one")).up(b"").down(OK).down(b"").end();
    let mut told = connection.told.clone();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3, 4, 5, 6, 7, 10, 11]);
}

#[test]
fn a_rule_matches_once_a_transaction() {
    let text = r#"alert http any any -> any any (http.uri; content:"/a"; sid:1;)"#;
    let mut connection = Connection::new(text);
    for byte in get("/a") {
        connection.up(&[byte]);
    }
    connection.up(&get("/b")).up(&get("/ab"));
    connection.down(OK).down(OK).down(OK).end();
    assert_eq!(connection.told, [1, 1]);
}

#[test]
fn a_rule_goes_on_when_the_other_buffer_is_there() {
    let text = r#"
alert http any any -> any any (http.uri; content:"/a"; http.request_body; content:"secret"; sid:1;)
alert http any any -> any any (http.uri; content:"/a"; http.request_body; content:!"secret"; sid:2;)
"#;
    let head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n";
    let mut connection = Connection::inline(text);
    assert_eq!(connection.send(UP, 0x18, head), NONE);
    assert_eq!(connection.send(UP, 0x18, b"a sec"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"ret"), [1]);
    assert_eq!(connection.send(UP, 0x18, b" one"), NONE);
    let mut connection = Connection::inline(text);
    connection.send(UP, 0x18, head);
    assert_eq!(connection.send(UP, 0x18, b"a sec"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"urity a"), [2]);
}

#[test]
fn a_rule_that_waited_for_a_buffer_matches_once() {
    let text = r#"
alert http any any -> any any (http.stat_code; content:"200"; fast_pattern; http.response_header; content:"first"; sid:1;)
alert http any any -> any any (http.stat_code; content:"200"; http.response_header; content:"first"; fast_pattern; sid:2;)
"#;
    let mut connection = Connection::inline(text);
    connection.up(&get("/"));
    for piece in [&b"HTTP/1.1 200 OK\r\n"[..], b"X: first\r\n\r\n", b"a body", b"that goes on"] {
        connection.down(piece);
    }
    connection.end();
    assert_eq!(connection.told, [1, 2]);
}

#[test]
fn a_pattern_across_pieces_of_a_body_matches_once() {
    let text = r#"alert http any any -> any any (file.data; content:"needle"; sid:1;)"#;
    let mut connection = Connection::inline(text);
    connection.up(&get("/"));
    connection.send(DOWN, 0x18, b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n");
    connection.send(DOWN, 0x18, b"a nee");
    assert_eq!(connection.send(DOWN, 0x18, b"dle "), [1]);
    connection.send(DOWN, 0x18, b"and another needle");
    connection.end();
    assert_eq!(connection.told, [1]);
}

#[test]
fn what_more_of_a_body_may_change_is_answered_at_its_end() {
    let text = r#"
alert http any any -> any any (http.response_body; content:"a"; bsize:4; sid:1;)
alert http any any -> any any (http.response_body; content:"a"; isdataat:!5; sid:2;)
alert http any any -> any any (http.response_body; content:"d"; endswith; sid:3;)
alert http any any -> any any (http.response_body; content:"b"; endswith; sid:4;)
"#;
    let mut connection = Connection::inline(text);
    connection.up(&get("/"));
    connection.send(DOWN, 0x18, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(connection.send(DOWN, 0x18, b"ab"), NONE);
    assert_eq!(connection.send(DOWN, 0x18, b"cd"), [1, 2, 3]);
}

#[test]
fn a_long_body_is_looked_at_to_its_end() {
    let text = r#"
alert http any any -> any any (http.response_body; content:"needle"; sid:1;)
alert http any any -> any any (http.response_body; content:"first"; depth:5; content:"needle"; sid:2;)
alert http any any -> any any (http.response_body; content:"needle"; content:!"absent"; sid:3;)
"#;
    let mut connection = Connection::inline(text);
    connection.up(&get("/"));
    connection.send(DOWN, 0x18, b"HTTP/1.1 200 OK\r\nContent-Length: 80006\r\n\r\n");
    for _ in 0..80 {
        connection.down(&[b'x'; 1000]);
    }
    connection.down(b"needle");
    assert_eq!(connection.told, [1, 3]);
}

#[test]
fn transforms_are_done_before_the_pattern_is_looked_for() {
    let text = r#"
alert http any any -> any any (http.host; dotprefix; content:".example.org"; endswith; sid:1;)
alert http any any -> any any (http.user_agent; to_lowercase; content:"probe/1.0"; sid:2;)
alert http any any -> any any (http.uri; to_md5; content:"|e8 8e 33 29 d3 ef fe 22 20 81 c7 4c 00 37 06 9e|"; sid:3;)
alert http any any -> any any (http.uri; strip_whitespace; content:"/ABC"; sid:4;)
alert http any any -> any any (http.uri; pcrexform:"/([A-Z]+)"; content:"ABC"; startswith; sid:5;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/ABC")).end();
    let mut told = connection.told.clone();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 4, 5]);
}

#[test]
fn each_instance_of_a_buffer_is_asked_by_itself() {
    let text = r#"
alert http any any -> any any (http.request_header; content:"Host: example.org"; sid:1;)
alert http any any -> any any (http.request_header; content:"Host"; content:"probe"; sid:2;)
alert http any any -> any any (http.request_header; content:"Host"; http.request_header; content:"probe"; sid:3;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/")).end();
    let mut told = connection.told.clone();
    told.sort_unstable();
    assert_eq!(told, [1, 3]);
}

#[test]
fn rules_without_a_pattern_are_asked_of_each_transaction() {
    let text = r#"
alert http any any -> any any (http.uri; pcre:"/^\/[0-9]+$/"; sid:1;)
alert http any any -> any any (http.uri; content:!"one"; sid:2;)
alert http any any -> any any (urilen:>3; sid:3;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/12")).up(&get("/one")).end();
    let mut told = connection.told.clone();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
}

#[test]
fn a_rule_of_the_stream_and_of_a_buffer_needs_both() {
    let text = r#"
alert http any any -> any any (content:"probe/1.0"; http.uri; content:"/a"; sid:1;)
alert http any any -> any any (content:"probe/2.0"; http.uri; content:"/a"; sid:2;)
alert http any any -> any any (content:"probe/1.0"; http.method; content:"POST"; sid:3;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/a")).end();
    assert_eq!(connection.told, [1]);
}

#[test]
fn applications_are_told_once_or_with_each_packet() {
    let text = r#"
alert tcp any any -> any any (app-layer-protocol:http; sid:1;)
alert tcp any any -> any any (app-layer-protocol:!http; sid:2;)
alert http any any -> any any (flow:to_server; content:"GET"; sid:3;)
alert tls any any -> any any (flow:to_server; content:"GET"; sid:4;)
alert http any any -> any any (flow:to_client; sid:5;)
alert http any any -> any any (sid:6;)
"#;
    let mut connection = Connection::new(text);
    connection.up(&get("/a")).up(&get("/b")).end();
    let count = |sid: u32| connection.told.iter().filter(|told| **told == sid).count();
    assert_eq!([1, 2, 4].map(count), [2, 0, 0]);
    // Each packet once it is known: both directions' second ones, and those of the end.
    assert_eq!([5, 6].map(count), [3, 5]);
    assert!(count(3) >= 1);
}

#[test]
fn a_flow_that_was_upgraded_is_still_one_of_http() {
    let text = "alert http any any -> any any (flow:to_server; sid:1;)";
    let mut connection = Connection::new(text);
    connection.up(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    connection
        .down(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(connection.send(UP, 0x18, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), [1]);
    assert_eq!(connection.app.protocol(), Some(crate::ids::app::Protocol::Http2));
}

#[test]
fn events_of_a_transaction_are_told_once() {
    let text = "alert http any any -> any any (flow:to_server; app-layer-event:http.missing_host_header; sid:1;)";
    let mut connection = Connection::new(text);
    connection.up(b"GET / HTTP/1.1\r\n\r\n").up(b"").up(b"").end();
    assert_eq!(connection.told, [1]);
}

#[test]
fn datagrams_of_dns_are_asked() {
    let text = r#"
alert dns any any -> any any (dns.query; content:"example"; sid:1;)
alert dns any any -> any any (dns.opcode:0; sid:2;)
alert dns any any -> any any (dns.opcode:4; sid:3;)
alert udp any any -> any 53 (content:"example"; sid:4;)
alert dns any any -> any any (content:"example"; dns.query; content:"example.org"; sid:5;)
"#;
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
    let mut watch = Watch::new(text);
    let mut app = crate::ids::app::App::udp(crate::ids::app::Ports { client: 40_000, server: 53 });
    let limits = watch.limits.clone();
    app.feed(UP, crate::ids::app::Input::Bytes(query), &limits);
    let crafted = Crafted::udp(query);
    let mut subject = Subject {
        packet: crafted.packet(),
        flow: Some(FlowFacts { is_established: false, ..facts(UP) }),
        state: Some(&mut watch.state),
        app: Some(&mut app),
        limits: &limits,
        streams: None,
        stream_events: crate::ids::stream::Events::NONE,
        app_events: &[],
    };
    watch.detector.inspect(&mut subject, &mut watch.matches);
    assert_eq!(watch.sids(), [1, 2, 4, 5]);
    assert_eq!(watch.matches.told[0].transaction, Some(0));
}
