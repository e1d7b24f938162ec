//! Keywords that look at bytes, and the buffers that they look in.

use super::*;

#[test]
fn a_sticky_buffer_holds_for_what_follows_and_pkt_data_ends_it() {
    let rule = tcp(
        "http.method; content:\"POST\"; http.uri; content:\"/a\"; content:\"b\"; distance:1; within:4; \
         pkt_data; content:\"raw\"; http.uri; content:\"c\";",
    );
    assert_eq!(
        buffers(&rule),
        [(Buffer::HttpMethod, 1), (Buffer::HttpUri, 3), (Buffer::Payload, 1)],
    );
    let b = content(&rule, 1, 1);
    assert_eq!((b.distance, b.within), (Some(Value::Number(1)), Some(Value::Number(4))));
    assert_eq!(rule.protocol, Some(App::Http));
    assert_eq!(rule.flow.side, Some(Side::ToServer));
}

#[test]
fn an_old_modifier_moves_the_content_before_it() {
    let rule = tcp(
        "content:\"x\"; content:\"GET\"; nocase; http_method; content:!\"/b\"; http_raw_uri; uricontent:\"/c\";",
    );
    assert_eq!(
        buffers(&rule),
        [
            (Buffer::Payload, 1),
            (Buffer::HttpMethod, 1),
            (Buffer::HttpUriRaw, 1),
            (Buffer::HttpUri, 1)
        ],
    );
    assert!(content(&rule, 1, 0).nocase);
    assert_eq!(content(&rule, 2, 0).presence, Presence::Absent);
    let only = tcp("content:\"GET\"; http_method;");
    assert_eq!(buffers(&only), [(Buffer::HttpMethod, 1)]);
}

#[test]
fn a_buffer_of_which_there_are_many_begins_anew_each_time() {
    let twice = |name: &str| {
        let text = format!(
            "alert ip any any -> any any ({name}; content:\"a\"; {name}; content:\"b\"; sid:1;)"
        );
        rule(&text).inspects.len()
    };
    assert_eq!(twice("dns.query"), 2);
    assert_eq!(twice("http.request_header"), 2);
    assert_eq!(twice("http.uri"), 1);
}

#[test]
fn transforms_make_another_buffer_of_one() {
    let rule = tcp(
        "http.uri; content:\"/get?data=\"; startswith; http.uri; pcrexform:\"/get\\?data=(.*)\"; \
         xor:\"0d0ac8ff\"; content:\"password=\";",
    );
    assert_eq!(buffers(&rule), [(Buffer::HttpUri, 1), (Buffer::HttpUri, 1)]);
    assert_eq!(rule.inspects[0].transforms.len(), 0);
    assert_eq!(rule.inspects[1].transforms.len(), 2);
    assert_eq!(rule.inspects[1].transforms[1], Transform::Xor(vec![0x0d, 0x0a, 0xc8, 0xff].into()),);
    let all = "to_lowercase; strip_whitespace; compress_whitespace; dotprefix; url_decode; to_md5; to_sha1; to_sha256";
    assert_eq!(tcp(&format!("http.host; {all}; bsize:5;")).inspects[0].transforms.len(), 8);
}

#[test]
fn a_relative_test_without_a_buffer_follows_the_last_match() {
    let rule = tcp(
        "content:\"a\"; http_uri; byte_test:1,>,5,0,relative; isdataat:4,relative; pcre:\"/b/R\"; content:\"c\";",
    );
    assert_eq!(buffers(&rule), [(Buffer::HttpUri, 4), (Buffer::Payload, 1)]);
}

#[test]
fn flags_of_an_expression_choose_its_buffer() {
    for (flag, buffer) in [
        ('U', Buffer::HttpUri),
        ('I', Buffer::HttpUriRaw),
        ('P', Buffer::HttpRequestBody),
        ('Q', Buffer::HttpResponseBody),
        ('H', Buffer::HttpHeader),
        ('D', Buffer::HttpHeaderRaw),
        ('M', Buffer::HttpMethod),
        ('C', Buffer::HttpCookie),
        ('S', Buffer::HttpStatCode),
        ('Y', Buffer::HttpStatMsg),
        ('V', Buffer::HttpUserAgent),
        ('W', Buffer::HttpHost),
        ('Z', Buffer::HttpHostRaw),
    ] {
        assert_eq!(buffers(&tcp(&format!("pcre:\"/a/i{flag}\";"))), [(buffer, 1)]);
    }
    assert_eq!(buffers(&tcp("pcre:!\"/a/Bsmix\";")), [(Buffer::Payload, 1)]);
}

#[test]
fn what_an_expression_captures_has_its_names() {
    let captures = |text: &str| match &tcp(text).inspects[0].tests[0] {
        Test::Pcre(pcre) => pcre.captures.to_vec(),
        other => panic!("{other:?}"),
    };
    let capture = |scope, name: &str| Capture { scope, name: name.into() };
    assert_eq!(
        captures("pcre:\"/(a)(b)/, flow:one, pkt:two\";"),
        [capture(CaptureScope::Flow, "one"), capture(CaptureScope::Packet, "two")],
    );
    assert_eq!(captures("pcre:\"/(?P<flow_x>a)/\";"), [capture(CaptureScope::Flow, "x")]);
}

#[test]
fn numbers_are_read_from_bytes_as_the_rule_says() {
    let rule = tcp("byte_extract:1,2,two,string,dec; content:\"|33|\"; offset:two; depth:4; \
         byte_test:3,!=,0x07,1,relative,little,bitmask 0xF8; \
         byte_jump:2,-1,relative,multiplier 2,align,from_beginning,post_offset -3; \
         byte_math:bytes 2, offset 1, oper *, rvalue two, result three, relative, endian little; \
         isdataat:!three,relative; content:\"x\"; distance:three; within:two;");
    let number = |n| Value::Number(n);
    let tests = &rule.inspects[0].tests;
    let field = |length, offset, from, encoding| Field {
        length: number(length),
        offset: number(offset),
        from,
        encoding,
        mask: None,
    };
    assert_eq!(rule.variables, 2);
    assert_eq!(
        tests[0],
        Test::ByteExtract(ByteExtract {
            field: field(1, 2, From::Start, Encoding::Digits(10)),
            multiplier: 1,
            align: None,
            variable: 0
        }),
    );
    assert_eq!(content(&rule, 0, 1).offset, Some(Value::Variable(0)));
    let masked = Field { mask: Some(0xf8), ..field(3, 1, From::LastMatch, Encoding::LittleEndian) };
    assert_eq!(
        tests[2],
        Test::ByteTest(ByteTest {
            field: masked,
            operator: Operator::Equal,
            presence: Presence::Absent,
            value: number(7)
        }),
    );
    assert_eq!(
        tests[3],
        Test::ByteJump(ByteJump {
            field: field(2, -1, From::LastMatch, Encoding::BigEndian),
            multiplier: 2,
            align: true,
            base: JumpBase::Start,
            post_offset: number(-3)
        }),
    );
    assert_eq!(
        tests[4],
        Test::ByteMath(ByteMath {
            field: field(2, 1, From::LastMatch, Encoding::LittleEndian),
            operator: Arithmetic::Multiply,
            value: Value::Variable(0),
            variable: 1
        }),
    );
    let there = IsDataAt {
        presence: Presence::Absent,
        offset: Value::Variable(1),
        from: From::LastMatch,
        raw_bytes: false,
    };
    assert_eq!(tests[5], Test::IsDataAt(there));
    assert_eq!(content(&rule, 0, 6).within, Some(Value::Variable(0)));
}

#[test]
fn a_decoded_buffer_follows_what_decodes_it() {
    let rule =
        tcp("http.request_body; content:\"API=\"; startswith; base64_decode:offset 0, relative; \
         base64_data; content:\"cmVwb3J\";");
    assert_eq!(buffers(&rule), [(Buffer::HttpRequestBody, 2), (Buffer::Base64Data, 1)]);
    let decode = Base64Decode { bytes: None, offset: 0, from: From::LastMatch };
    assert_eq!(rule.inspects[0].tests[1], Test::Base64Decode(decode));
}

#[test]
fn lengths_are_tests_of_their_buffers() {
    let rule = tcp("urilen:5<>10,raw; http.request_line; bsize:>10;");
    assert_eq!(rule.inspects[0].buffer, Buffer::HttpUriRaw);
    assert_eq!(*rule.inspects[0].tests, [Test::Size(Compare::Between(5, 10))]);
    assert_eq!(*rule.inspects[1].tests, [Test::Size(Compare::Greater(10))]);
}

#[test]
fn applications_and_events_are_asked_for() {
    let app =
        |text: &str| rule(&format!("alert ip any any -> any any ({text} sid:1;)")).app.to_vec();
    assert_eq!(app("dns.opcode:!0;"), [AppTest::DnsOpcode(Compare::NotEqual(0))]);
    assert_eq!(app("tls.version:1.2;"), [AppTest::TlsVersion(0x0303)]);
    assert_eq!(app("app-layer-protocol:!tls;"), [AppTest::IsNot(AppName::App(App::Tls))]);
    assert_eq!(app("app-layer-protocol:failed;"), [AppTest::Is(AppName::Failed)]);
    assert_eq!(app("app-layer-event:http.invalid_uri;"), [AppTest::Event(1)]);
    assert_eq!(
        *tcp("stream-event:reassembly_overlap_different_data;").packet,
        [PacketTest::Event(0)]
    );
    assert_eq!(*tcp("decode-event:ipv4.trunc_pkt;").packet, [PacketTest::Event(2)]);
    assert_eq!(
        skipped("alert ip any any -> any any (decode-event:nsh.bad; sid:1;)"),
        "decode-event:nsh.bad"
    );
    assert_eq!(
        skipped("alert ip any any -> any any (app-layer-protocol:smb; sid:1;)"),
        "app-layer-protocol:smb"
    );
    assert_eq!(skipped("alert tcp any any -> any any (byte_test:1,>,1,0,dce; sid:1;)"), "dce");
}

#[test]
fn options_that_suricata_refuses_are_refused() {
    let wrong = [
        "nocase;",
        "content:\"\";",
        "content:abc;",
        "content:\"a\"b;",
        "content:\"a\"; nocase; nocase;",
        "content:\"ab\"; depth:1;",
        "content:\"ab\"; within:1;",
        "content:\"a\"; depth:3; depth:3;",
        "content:\"a\"; depth:3; distance:1;",
        "content:\"a\"; within:3; offset:1;",
        "content:\"a\"; offset:70000;",
        "content:\"a\"; offset:-1;",
        "content:\"a\"; distance:2000000;",
        "content:\"a\"; startswith; depth:5;",
        "content:\"a\"; offset:5; startswith;",
        "content:\"a\"; offset:nowhere;",
        "content:!\"a\"; offset:1; fast_pattern;",
        "content:!\"a\"; fast_pattern; distance:1;",
        "content:\"a\"; offset:1; fast_pattern:only;",
        "content:\"a\"; fast_pattern:only; offset:1;",
        "content:\"abc\"; fast_pattern:1,3;",
        "content:\"abc\"; fast_pattern:1;",
        "content:\"a\"; fast_pattern; content:\"b\"; fast_pattern;",
        "http.uri; content:\"a\"; rawbytes;",
        "content:\"a\"; rawbytes; http_uri;",
        "http_uri;",
        "http.uri;",
        "http.uri; http.method; content:\"a\";",
        "http.uri; to_lowercase;",
        "to_lowercase; content:\"a\";",
        "http.uri; content:\"a\"; to_lowercase; content:\"b\";",
        "http.host; content:\"a\"; http_uri;",
        "http.host; pcre:\"/a/U\";",
        "pcre:\"/a/UH\";",
        "pcre:\"/a/BU\";",
        "pcre:\"/a/R\";",
        "pcre:\"/a/y\";",
        "pcre:\"a\";",
        "pcre:\"/(a/\";",
        "base64_data; content:\"a\";",
        "base64_decode; base64_data; content:\"a\"; http.uri; content:\"b\";",
        "base64_decode; base64_data; content:\"a\"; fast_pattern;",
        "bsize:5;",
        "http.uri; bsize:3; content:\"abcd\";",
        "http.uri; bsize:7; content:\"abcd\"; content:\"efgh\"; distance:0;",
        "dsize:3; content:\"abcd\";",
        "dsize:3; dsize:4;",
        "http.method; content:\"GET \";",
        "http.uri; content:\"a\"; http.stat_code; content:\"200\";",
        "flow:to_client; http.uri; content:\"a\";",
        "flow:to_client,to_server;",
        "flow:established,stateless;",
        "flow:only_stream,no_stream;",
        "flow:here;",
        "flow:to_server; flow:established;",
        "http.uri; content:\"a\"; dns.query; content:\"b\";",
        "http.uri; content:\"a\"; flags:S;",
        "flow:only_stream; flags:S;",
        "file.data; content:\"a\"; dns.query; content:\"b\";",
        "threshold:type limit, track by_src, count 1, seconds 1; detection_filter:track by_src, count 1, seconds 1;",
        "byte_test:9,>,1,0;",
        "byte_test:0,>,1,0;",
        "byte_test:1,~,1,0;",
        "byte_test:1,>,1;",
        "byte_test:1,>,x,0;",
        "byte_test:1,>,08,0;",
        "byte_test:1,>,1,70000;",
        "byte_test:1,>,1,0,string,big;",
        "byte_jump:1;",
        "byte_jump:1,0,from_end,from_beginning;",
        "byte_extract:1,0,9a;",
        "byte_extract:0,0,a;",
        "byte_math:bytes 1, offset 0, oper /, rvalue 0, result a;",
        "byte_math:bytes 1, offset 0, oper +, result a;",
        "isdataat:70000;",
        "urilen:5,other;",
        "target:me;",
        "priority:0;",
        "classtype:bad-unknown; classtype:bad-unknown;",
        "sameip:1;",
        "ttl;",
        "udp.hdr; content:\"a\";",
        "xor:\"0d\"; content:\"a\";",
        "http.uri; xor:\"0\"; content:\"a\";",
        "prefilter;",
        "http.uri; pcrexform:\"a\"; content:\"a\";",
        "http.uri; pcrexform:\"(a)(b)\"; content:\"a\";",
        "http.uri; to_lowercase; content:\"A\";",
        "http.uri; strip_whitespace; content:\"a b\";",
        "http.uri; compress_whitespace; content:\"a  b\";",
        "http.uri; to_md5; content:\"|00|\";",
    ];
    for options in wrong {
        let text = format!("alert tcp any any -> any any ({options} sid:1;)");
        let (why, column) = broken(&text);
        assert!(column > 30 && !why.is_empty(), "{options}: {why} at {column}");
    }
    for text in [
        "alert udp any any -> any any (http.uri; content:\"a\"; sid:1;)",
        "alert udp any any -> any any (flags:S; sid:1;)",
        "alert icmp any any -> any any (tcp.hdr; content:\"a\"; sid:1;)",
        "alert dns any any -> any any (http.uri; content:\"a\"; sid:1;)",
        "alert dns any any -> any any (file.data; content:\"a\"; sid:1;)",
        "alert http any any -> any any (app-layer-protocol:http; sid:1;)",
        "alert tcp-stream any any -> any any (dsize:1; sid:1;)",
    ] {
        broken(text);
    }
}

#[test]
fn options_that_look_odd_and_are_right_load() {
    for options in [
        "content:\"yY\"; distance:9; within:29; endswith;",
        "content:\"a\"; startswith; endswith;",
        "content:!\"a\"; endswith;",
        "content:\"ab\"; offset:1; depth:2;",
        "http.uri; pcre:\"/a/R\";",
        "content: \"|0A 95 00 20|\"; byte_jump:0,0,relative,post_offset -8; pcre:\"/\\x4e/R\";",
        "byte_jump:2,0,relative,string,from_end,post_offset -26;",
        "flags: S,CE; flowbits:set, a; flowbits: noalert;",
        "classtype:not-known;",
        "metadata:single, key value;",
        "file_data; bsize:>0;",
        "http.uri; bsize:<70; content:\"dog/\"; content:\".exe\"; distance:8; within:4; fast_pattern;",
        "dsize:7; content:\"abcd\"; content:\"efgh\";",
        ";;",
    ] {
        tcp(options);
    }
}
