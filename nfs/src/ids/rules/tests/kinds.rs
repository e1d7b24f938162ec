//! On what rules are evaluated, and what they are looked up by.

use super::*;

fn kind(header: &str, options: &str) -> RuleKind {
    rule(&format!("alert {header} any any -> any any ({options} sid:1;)")).kind
}

#[test]
fn what_a_rule_asks_decides_on_what_it_is_evaluated() {
    let cases = [
        ("ip", "", RuleKind::IpOnly),
        ("tcp", "", RuleKind::IpOnly),
        ("ip", "threshold: type limit, track by_rule, count 5, seconds 300;", RuleKind::IpOnly),
        ("tcp", "flowbits:set,a; noalert;", RuleKind::IpOnly),
        ("ip", "hostbits:set,a; xbits:unset,b,track ip_src;", RuleKind::IpOnly),
        ("tcp-stream", "", RuleKind::IpOnly),
        ("tcp", "hostbits:isset,a;", RuleKind::Packet),
        ("tcp", "flowint:a,+,1;", RuleKind::Packet),
        ("tls", "flowint:a,=,0;", RuleKind::App),
        ("tls", "flowbits:isset,a;", RuleKind::Packet),
        ("http", "flow:established;", RuleKind::Packet),
        ("http", "flow:to_server;", RuleKind::App),
        ("http", "content:\"a\"; depth:30;", RuleKind::PacketStream),
        ("tcp", "flow:to_server; content:\"a\"; flowbits:set,a;", RuleKind::Stream),
        ("tcp", "app-layer-protocol:dns; flow:to_server;", RuleKind::Protocol),
        ("tcp", "byte_test:4,>,1,4,little;", RuleKind::Stream),
        ("tcp", "flowbits:isset,a;", RuleKind::Packet),
        ("tcp", "flow:to_server;", RuleKind::Packet),
        ("ip", "flow:stateless;", RuleKind::Packet),
        ("ip", "ip_proto:47;", RuleKind::Packet),
        ("icmp", "itype:8;", RuleKind::Packet),
        ("tcp", "content:\"a\";", RuleKind::Stream),
        ("tcp", "content:\"a\"; dsize:>0;", RuleKind::Packet),
        ("tcp", "content:\"a\"; offset:5;", RuleKind::PacketStream),
        ("tcp", "content:\"a\"; depth:5;", RuleKind::PacketStream),
        ("tcp", "content:\"a\"; startswith;", RuleKind::PacketStream),
        ("tcp", "content:\"a\"; stream_size:client,>,5;", RuleKind::PacketStream),
        ("tcp", "content:\"a\"; flags:S;", RuleKind::Packet),
        ("tcp", "content:\"a\"; flow:no_stream;", RuleKind::Packet),
        ("tcp", "content:\"a\"; depth:5; flow:only_stream;", RuleKind::Stream),
        ("tcp-pkt", "content:\"a\";", RuleKind::Packet),
        ("tcp-stream", "content:\"a\"; depth:5;", RuleKind::Stream),
        ("udp", "content:\"a\";", RuleKind::Packet),
        ("ip", "content:\"a\";", RuleKind::Stream),
        ("tcp", "tcp.hdr; content:\"a\";", RuleKind::Packet),
        ("http", "", RuleKind::App),
        ("http", "content:\"a\";", RuleKind::Stream),
        ("http", "http.uri; content:\"a\";", RuleKind::Transaction),
        ("tcp", "content:\"a\"; pcre:\"/b/U\";", RuleKind::Transaction),
        ("ip", "file.data; content:\"a\";", RuleKind::Transaction),
        ("dns", "dns.opcode:4;", RuleKind::Transaction),
        ("tcp", "app-layer-protocol:!tls;", RuleKind::Protocol),
        ("tcp", "app-layer-protocol:!tls; flow:established;", RuleKind::Packet),
        ("ip", "decode-event:ipv4.trunc_pkt;", RuleKind::Event),
    ];
    for (header, options, expected) in cases {
        assert_eq!(kind(header, options), expected, "{header} {options}");
    }
    let negated = rule("alert ip !10.0.0.0/8 any -> any any (sid:1;)");
    assert_eq!(negated.kind, RuleKind::LikeIpOnly);
}

#[test]
fn contents_without_a_buffer_are_looked_for_where_the_rule_means() {
    let scope = |options: &str| {
        let scope = tcp(options).scope;
        (scope.packet, scope.stream)
    };
    assert_eq!(scope("content:\"a\"; file_data; content:\"b\";"), (false, true));
    assert_eq!(scope("content:\"a\"; depth:4; file_data; content:\"b\";"), (true, true));
    assert_eq!(scope("file_data; content:\"b\";"), (false, false));
}

fn fast(options: &str) -> Option<(Buffer, String)> {
    let rule = tcp(options);
    let fast = rule.fast_pattern?;
    let content = content(&rule, fast.inspect, fast.test);
    let (from, length) = (usize::from(fast.offset), usize::from(fast.length));
    let bytes = &content.pattern[from..from + length];
    Some((rule.inspects[fast.inspect].buffer, String::from_utf8_lossy(bytes).into_owned()))
}

#[test]
fn the_fast_pattern_is_the_one_that_is_named_or_the_longest_of_the_best_buffer() {
    let cases = [
        ("content:\"ab\"; content:\"abc\";", Buffer::Payload, "abc"),
        ("content:\"aaaa\"; content:\"abcd\";", Buffer::Payload, "abcd"),
        ("content:\"abcd\"; content:\"ab|02|d\";", Buffer::Payload, "ab\u{2}d"),
        ("content:\"abcd\"; content:\"efgh\";", Buffer::Payload, "abcd"),
        ("content:\"abcdef\"; http.uri; content:\"a\";", Buffer::HttpUri, "a"),
        ("http.method; content:\"OPTIONS\"; http.uri; content:\"/\";", Buffer::HttpUri, "/"),
        ("http.method; content:\"OPTIONS\"; pkt_data; content:\"b\";", Buffer::Payload, "b"),
        ("content:\"abcdef\"; content:\"b\"; fast_pattern;", Buffer::Payload, "b"),
        ("content:\"abcdef\"; fast_pattern:1,3; http.uri; content:\"x\";", Buffer::Payload, "bcd"),
        ("content:!\"abcdef\"; content:\"b\";", Buffer::Payload, "b"),
        (
            "http.stat_code; content:\"200\"; fast_pattern; file.data; content:\"abcd\";",
            Buffer::HttpStatCode,
            "200",
        ),
        ("base64_decode; base64_data; content:\"abcdef\"; ", Buffer::Base64Data, ""),
    ];
    for (options, buffer, expected) in cases {
        let expected = (!expected.is_empty()).then(|| (buffer, expected.to_owned()));
        assert_eq!(fast(options), expected, "{options}");
    }
    assert_eq!(fast("content:!\"abc\";"), None);
    assert_eq!(fast("flags:S;"), None);
}
