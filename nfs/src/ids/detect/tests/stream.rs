//! Streams: what lies across segments, what is told twice, and when.

use super::*;
use crate::ids::stream::Mode;

const NEEDLE: &str = r#"alert tcp any any -> any any (content:"needle"; sid:1;)"#;

#[test]
fn a_pattern_across_segments_matches() {
    let mut connection = Connection::new(NEEDLE);
    connection.up(b"a nee").up(b"dle in hay").end();
    assert_eq!(connection.told, [1]);
}

#[test]
fn inline_the_packet_that_completes_the_match_is_told() {
    let text = r#"drop tcp any any -> any any (content:"needle"; sid:1;)"#;
    let mut connection = Connection::inline(text);
    assert_eq!(connection.send(UP, 0x18, b"a nee"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"dl"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"e"), [1]);
    assert!(connection.watch.matches.drops_flow);
    assert_eq!(connection.watch.matches.told[0].origin, Origin::Stream);
}

#[test]
fn a_match_is_told_once_though_its_bytes_are_shown_again() {
    for mode in [Mode::Inline, Mode::Passive] {
        let mut connection = Connection::of(ruleset(NEEDLE), mode);
        connection.up(b"a needle").up(b" in hay").up(b", and no other").end();
        assert_eq!(connection.told, [1], "{mode:?}");
    }
    let mut connection = Connection::inline(NEEDLE);
    connection.up(b"a needle").up(b" and another needle").end();
    assert_eq!(connection.told, [1, 1]);
}

#[test]
fn contents_in_different_windows_match_together() {
    let text =
        r#"alert tcp any any -> any any (content:"first"; content:"second"; distance:0; sid:1;)"#;
    let mut connection = Connection::inline(text);
    connection.up(b"the first").up(b" and the sec").up(b"ond").end();
    assert_eq!(connection.told, [1]);
    let mut connection = Connection::inline(text);
    connection.up(b"the second").up(b" and the first").end();
    assert_eq!(connection.told, NONE);
}

#[test]
fn segments_of_one_byte_match_as_the_whole_does() {
    let text = r#"
alert tcp any any -> any any (content:"first"; content:"second"; within:20; sid:1;)
alert tcp any any -> any any (content:"GET"; depth:3; flow:only_stream; sid:2;)
alert tcp any any -> any any (pcre:"/s[a-z]+nd/"; sid:3;)
alert tcp any any -> any any (content:"second"; content:"first"; distance:0; sid:4;)
"#;
    for mode in [Mode::Inline, Mode::Passive] {
        let mut connection = Connection::of(ruleset(text), mode);
        for byte in b"GET the first and the second" {
            connection.up(&[*byte]);
        }
        connection.end();
        connection.told.sort_unstable();
        assert_eq!(connection.told, [1, 2, 3], "{mode:?}");
    }
}

#[test]
fn sides_are_apart() {
    let text = r#"
alert tcp any any -> any any (flow:to_client; content:"needle"; sid:1;)
alert tcp any any -> any any (flow:to_server; content:"needle"; sid:2;)
alert tcp any any -> any 80 (content:"needle"; sid:3;)
alert tcp any 80 -> any any (content:"needle"; sid:4;)
"#;
    let mut connection = Connection::new(text);
    connection.up(b"a nee").down(b"dle").end();
    assert_eq!(connection.told, NONE);
    let mut connection = Connection::new(text);
    connection.down(b"a needle").end();
    assert_eq!(connection.told, [1, 4]);
    let mut connection = Connection::new(text);
    connection.up(b"a needle").end();
    assert_eq!(connection.told, [2, 3]);
}

#[test]
fn a_placed_content_is_looked_for_in_packets_and_in_the_stream() {
    let text = r#"
alert tcp any any -> any any (content:"ab"; depth:2; sid:1;)
alert tcp-pkt any any -> any any (content:"ab"; depth:2; sid:2;)
alert tcp-stream any any -> any any (content:"ab"; depth:2; sid:3;)
alert tcp any any -> any any (flow:no_stream; content:"ab"; sid:4;)
"#;
    let mut connection = Connection::inline(text);
    assert_eq!(connection.send(UP, 0x18, b"a"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"b"), [1, 3]);
    assert_eq!(connection.send(UP, 0x18, b"xxab"), [4]);
    assert_eq!(connection.send(UP, 0x18, b"abxx"), [1, 2, 3, 4]);
}

#[test]
fn a_segment_of_no_stream_is_looked_at_as_one() {
    let packet = Crafted::tcp(0x18, b"a needle");
    let mut watch = Watch::new(NEEDLE);
    assert_eq!(watch.lone(&packet), [1]);
    assert_eq!(watch.of_flow(&packet, UP), [1]);
    let of_stream = FlowFacts { is_in_stream: true, ..facts(UP) };
    assert_eq!(watch.look(&packet, Some(of_stream)), NONE);
    let mut only =
        Watch::new(r#"alert tcp any any -> any any (flow:only_stream; content:"needle"; sid:1;)"#);
    assert_eq!(only.of_flow(&packet, UP), NONE);
}

#[test]
fn the_size_of_a_stream_is_what_it_sent() {
    let text = "alert tcp any any -> any any (stream_size:client,>,8; sid:1;)\n\
        alert tcp any any -> any any (stream_size:server,>,8; sid:2;)\n\
        alert tcp any any -> any any (stream_size:both,>,2; sid:3;)";
    let mut connection = Connection::new(text);
    assert_eq!(connection.send(UP, 0x18, b"1234567"), NONE);
    assert_eq!(connection.send(UP, 0x18, b"8"), [1]);
    assert_eq!(connection.send(DOWN, 0x18, b"12"), [1, 3]);
}

#[test]
fn events_of_the_stream_are_told() {
    let text =
        "alert tcp any any -> any any (stream-event:reassembly_overlap_different_data; sid:1;)";
    let mut connection = Connection::new(text);
    connection.send(UP, 0x18, b"abc");
    assert_eq!(connection.send_at(UP, 0x18, 1001, b"abd"), [1]);
}

#[test]
fn a_stream_that_no_rule_wants_is_not_kept() {
    let mut connection = Connection::new("alert udp any any -> any any (content:\"a\"; sid:1;)");
    connection.up(&[b'a'; 5000]).end();
    assert_eq!(connection.told, NONE);
    assert!(connection.watch.state.is_blank());
}

#[test]
fn bytes_of_a_syn_are_of_the_stream_if_it_opens_fast() {
    let text = r#"
alert tcp-stream any any -> any any (content:"abcd"; sid:1;)
alert tcp any any -> any any (content:"ab"; sid:2;)
alert tcp-pkt any any -> any any (content:"ab"; sid:3;)
"#;
    let mut connection = Connection::syn(text, &[34, 4, 1, 2], b"ab");
    assert_eq!(connection.told, [3]);
    connection.send(DOWN, 0x12, b"");
    connection.send(UP, 0x10, b"");
    connection.up(b"cd").end();
    connection.told.sort_unstable();
    assert_eq!(connection.told, [1, 2, 3]);
}

#[test]
fn bytes_of_a_syn_that_opens_as_usual_are_looked_at_with_it() {
    let text = r#"alert tcp any any -> any any (content:"ab"; sid:1;)"#;
    let mut connection = Connection::syn(text, &[], b"ab");
    assert_eq!(connection.told, [1]);
    connection.end();
    assert_eq!(connection.told, [1]);
}
