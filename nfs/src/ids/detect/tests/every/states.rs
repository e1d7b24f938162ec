//! Flows, and what earlier matches left.

use super::*;

pub fn states() -> Vec<Row> {
    let two = |one: &str, other: &str| -> &'static str {
        let text = format!(
            "alert udp any any -> any any (content:\"a\"; {one} sid:2;)\n\
             alert udp any any -> any any (content:\"b\"; {other} sid:1;)"
        );
        Box::leak(text.into_boxed_str())
    };
    let talked = || talk(&[(UP, b"needle"), (DOWN, b"other")]);
    let answered = || talk(&[(UP, b"other"), (DOWN, b"needle")]);
    let fragmented = Crafted { was_fragmented: true, ..Crafted::udp(b"a") };
    vec![
        Row(
            "flow",
            r#"alert tcp any any -> any any (flow:established,to_server; content:"needle"; sid:1;)"#,
            talked(),
            answered(),
        ),
        Row(
            "flow",
            r#"alert tcp any any -> any any (flow:from_server,Established; content:"needle"; sid:1;)"#,
            answered(),
            talked(),
        ),
        Row(
            "flow",
            r#"alert tcp any any -> any any (flow:to_client,stateless; content:"needle"; sid:1;)"#,
            answered(),
            talked(),
        ),
        Row("flow", r#"flow:not_established; content:"a";"#, udp(b"a"), said(&[b"a"])),
        Row("flow", r#"flow:only_frag; content:"a";"#, Lone(fragmented.clone()), udp(b"a")),
        Row("flow", r#"flow:no_frag; content:"a";"#, udp(b"a"), Lone(fragmented)),
        Row(
            "flow tcp-stream",
            r#"alert tcp any any -> any any (flow:only_stream; content:"needle"; sid:1;)"#,
            talk(&[(UP, b"nee"), (UP, b"dle")]),
            talk(&[(UP, b"nee"), (UP, b"edle")]),
        ),
        Row(
            "flow",
            r#"alert tcp any any -> any any (flow:no_stream; content:"needle"; sid:1;)"#,
            talk(&[(UP, b"needle")]),
            talk(&[(UP, b"nee"), (UP, b"dle")]),
        ),
        Row(
            "tcp-pkt",
            r#"alert tcp-pkt any any -> any any (content:"needle"; sid:1;)"#,
            talk(&[(UP, b"needle")]),
            talk(&[(UP, b"nee"), (UP, b"dle")]),
        ),
        Row(
            "tcp-stream",
            r#"alert tcp-stream any any -> any any (content:"needle"; sid:1;)"#,
            talk(&[(UP, b"nee"), (UP, b"dle")]),
            talk(&[(UP, b"needl")]),
        ),
        Row(
            "flowbits",
            two("flowbits:set,x;", "flowbits:isset,x;"),
            said(&[b"a", b"b"]),
            said(&[b"b"]),
        ),
        Row(
            "flowbits",
            two("flowbits:set,x;", "flowbits:isset,y|x;"),
            said(&[b"a", b"b"]),
            said(&[b"b"]),
        ),
        Row(
            "flowbits",
            two("flowbits:set,x;", "flowbits:isnotset,x;"),
            said(&[b"b"]),
            said(&[b"a", b"b"]),
        ),
        Row(
            "flowbits",
            two("flowbits:toggle,x;", "flowbits:isset,x;"),
            said(&[b"a", b"b"]),
            said(&[b"a", b"a", b"b"]),
        ),
        Row(
            "flowint",
            two("flowint:n,+,1;", "flowint:n,>=,2;"),
            said(&[b"a", b"a", b"b"]),
            said(&[b"a", b"b"]),
        ),
        Row(
            "flowint",
            two("flowint:n,notset; flowint:n,=,5;", "flowint:n,isset; flowint:n,==,5;"),
            said(&[b"a", b"b"]),
            said(&[b"b"]),
        ),
        Row(
            "xbits",
            two("xbits:set,x,track ip_src,expire 2;", "xbits:isset,x,track ip_src;"),
            said(&[b"a", b"b"]),
            said(&[b"a", b"-", b"-", b"b"]),
        ),
        Row(
            "xbits",
            two("xbits:set,x,track ip_pair;", "xbits:isnotset,x,track ip_pair;"),
            said(&[b"b"]),
            said(&[b"a", b"b"]),
        ),
        Row(
            "xbits",
            two("xbits:set,x,track ip_dst;", "xbits:isset,x,track ip_dst;"),
            said(&[b"a", b"b"]),
            said(&[b"b"]),
        ),
        Row(
            "hostbits",
            two("hostbits:set,x,dst;", "hostbits:isset,x,dst;"),
            said(&[b"a", b"b"]),
            said(&[b"b"]),
        ),
        Row(
            "threshold",
            r#"content:"a"; threshold:type threshold,track by_src,count 2,seconds 9;"#,
            said(&[b"a", b"a"]),
            said(&[b"a"]),
        ),
        Row(
            "detection_filter",
            r#"content:"a"; detection_filter:track by_dst,count 1,seconds 9;"#,
            said(&[b"a", b"a"]),
            said(&[b"a"]),
        ),
        Row(
            "stream_size",
            r#"alert tcp any any -> any any (flow:to_server; stream_size:client,>,5; sid:1;)"#,
            talk(&[(UP, b"needle")]),
            talk(&[(UP, b"nee")]),
        ),
        Row(
            "stream_size",
            r#"alert tcp any any -> any any (flow:to_server; stream_size:either,>=,9; sid:1;)"#,
            talk(&[(UP, b"a"), (DOWN, b"12345678"), (UP, b"a")]),
            talk(&[(UP, b"a"), (DOWN, b"123"), (UP, b"a")]),
        ),
    ]
}
