//! Headers of packets.

use super::*;

pub fn headers() -> Vec<Row> {
    let of_tcp = |options: &str| -> &'static str {
        Box::leak(format!("alert tcp any any -> any any ({options} sid:1;)").into_boxed_str())
    };
    let of = |protocol: &str, options: &str| -> &'static str {
        let text = format!("alert {protocol} any any -> any any ({options} sid:1;)");
        Box::leak(text.into_boxed_str())
    };
    let plain = || tcp(0x12, |_| ());
    let mut same = Crafted::udp(b"");
    same.dst = same.src;
    vec![
        Row("ip", of("ip", "dsize:1;"), udp(b"a"), udp(b"")),
        Row("tcp flags", of_tcp("flags:SA;"), plain(), tcp(0x10, |_| ())),
        Row("flags", of_tcp("flags:+S;"), plain(), tcp(0x10, |_| ())),
        Row("flags", of_tcp("flags:*SF;"), plain(), tcp(0x10, |_| ())),
        Row("flags", of_tcp("flags:!S;"), tcp(0x10, |_| ()), plain()),
        Row("flags", of_tcp("flags:S,12;"), tcp(0xc2, |_| ()), plain()),
        Row("flags", of_tcp("flags:0;"), tcp(0, |_| ()), plain()),
        Row("tcp.flags", of_tcp("tcp.flags:SA;"), plain(), tcp(0x18, |_| ())),
        Row("seq tcp.seq", of_tcp("seq:1000;"), plain(), tcp(0x12, |h| h[7] = 1)),
        Row("tcp.seq", of_tcp("tcp.seq:1000;"), plain(), tcp(0x12, |h| h[7] = 1)),
        Row("ack tcp.ack", of_tcp("ack:2000;"), plain(), tcp(0x12, |h| h[11] = 1)),
        Row("tcp.ack", of_tcp("tcp.ack:2000;"), plain(), tcp(0x12, |h| h[11] = 1)),
        Row("window", of_tcp("window:8192;"), plain(), tcp(0x12, |h| h[15] = 1)),
        Row("tcp.window", of_tcp("tcp.window:!8193;"), plain(), tcp(0x12, |h| h[15] = 1)),
        Row("tcp.mss", of_tcp("tcp.mss:536-1460;"), mss(4, 0), mss(5, 0xb4)),
        Row("tcp.mss", of_tcp("tcp.mss:<536;"), mss(1, 0), mss(5, 0xb4)),
        Row("ttl", "ttl:64;", udp(b""), changed(8, 63)),
        Row("ttl", "ttl:<64;", changed(8, 1), udp(b"")),
        Row("ttl", "ttl:10-20;", changed(8, 15), changed(8, 20)),
        Row("tos", "tos:8;", changed(1, 8), udp(b"")),
        Row("tos", "tos:!x8;", udp(b""), changed(1, 8)),
        Row("id", "id:4660;", udp(b""), changed(4, 1)),
        Row("ipopts", of("ip", "ipopts:lsrr;"), option([0x83, 3, 4, 0]), option([7, 3, 4, 0])),
        Row("ipopts", of("ip", "ipopts:rtralt;"), option([148, 4, 0, 0]), option([7, 3, 4, 0])),
        Row("ipopts", of("ip", "ipopts:any;"), option([1, 1, 1, 0]), udp(b"")),
        Row("fragbits", "fragbits:D;", udp(b""), changed(6, 0)),
        Row("fragbits", "fragbits:+D;", changed(6, 0x60), udp(b"")),
        Row("fragbits", "fragbits:*MD;", changed(6, 0x20), changed(6, 0x80)),
        Row("fragbits", "fragbits:!D;", changed(6, 0x20), udp(b"")),
        Row("fragoffset", of("ip", "fragoffset:>0;"), changed(7, 5), udp(b"")),
        Row("ip_proto", of("ip", "ip_proto:UDP;"), udp(b""), plain()),
        Row("ip_proto", of("ip", "ip_proto:!6;"), udp(b""), plain()),
        Row("sameip", "sameip;", Lone(same), udp(b"")),
        Row("icmp itype", of("icmp", "itype:8;"), ping(8, 0, 1, 2), ping(0, 0, 1, 2)),
        Row("itype", of("icmp", "itype:5<>9;"), ping(8, 0, 1, 2), ping(9, 0, 1, 2)),
        Row("icode", of("icmp", "icode:>0;"), ping(3, 1, 0, 0), ping(3, 0, 0, 0)),
        Row("icmp_id", of("icmp", "icmp_id:1;"), ping(8, 0, 1, 2), ping(8, 0, 2, 2)),
        Row("icmp_seq", of("icmp", "icmp_seq:2;"), ping(8, 0, 1, 2), ping(8, 0, 1, 3)),
        Row("icmpv6", of("icmpv6", "itype:128;"), ping6(128), ping6(129)),
        Row("icmp", of("icmp", "itype:128;"), ping6(128), ping(8, 0, 1, 2)),
        Row(
            "ipv4.hdr",
            of("ip", r#"ipv4.hdr; content:"|12 34|"; offset:4; depth:2;"#),
            udp(b""),
            changed(5, 1),
        ),
        Row(
            "ipv6.hdr",
            of("ip", r#"ipv6.hdr; content:"|3a|"; offset:6; depth:1;"#),
            ping6(128),
            ping(8, 0, 1, 2),
        ),
        Row(
            "tcp.hdr",
            of_tcp(r#"tcp.hdr; content:"|20 00|"; offset:14; depth:2;"#),
            plain(),
            tcp(0x12, |h| h[14] = 1),
        ),
        Row(
            "udp.hdr",
            r#"udp.hdr; content:"|00 35|"; offset:2; depth:2;"#,
            udp(b""),
            changed(23, 1),
        ),
        Row(
            "icmpv4.hdr",
            of("icmp", r#"icmpv4.hdr; content:"|08 00|"; startswith;"#),
            ping(8, 0, 1, 2),
            ping(0, 0, 1, 2),
        ),
        Row(
            "icmpv6.hdr",
            of("icmpv6", r#"icmpv6.hdr; content:"|80 00|"; startswith;"#),
            ping6(128),
            ping6(129),
        ),
    ]
}
