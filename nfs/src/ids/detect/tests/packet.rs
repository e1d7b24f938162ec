//! Headers: protocol, addresses, ports, and what rules ask of packets.

use super::*;

fn lone(rule: &str, packet: &Crafted) -> bool {
    !Watch::new(rule).lone(packet).is_empty()
}

#[test]
fn a_header_is_matched_by_protocol_addresses_and_ports() {
    let udp = Crafted::udp(b"x");
    for (header, expected) in [
        ("udp any any -> any any", true),
        ("tcp any any -> any any", false),
        ("ip any any -> any any", true),
        ("ipv4 any any -> any any", true),
        ("ipv6 any any -> any any", false),
        ("udp any any -> any 53", true),
        ("udp any any -> any 54", false),
        ("udp any 53 -> any any", false),
        ("udp any 53 <> any any", true),
        ("udp 10.0.0.1 any -> 10.0.0.2 any", true),
        ("udp 10.0.0.2 any -> 10.0.0.1 any", false),
        ("udp 10.0.0.2 any <> 10.0.0.1 any", true),
        ("udp !$HOME_NET any -> any any", false),
        ("udp any any -> any [1:60,!53]", false),
    ] {
        let rule = format!("alert {header} (content:\"x\"; sid:1;)");
        assert_eq!(lone(&rule, &udp), expected, "{header}");
    }
    let icmp = Crafted::ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 2], b"x");
    assert!(lone("alert icmp any any -> any any (content:\"x\"; sid:1;)", &icmp));
    assert!(!lone("alert ip any any -> any 80 (content:\"x\"; sid:1;)", &icmp));
    let mut fragment = udp.clone();
    fragment.is_fragment = true;
    assert!(lone("alert udp any any -> any any (content:\"x\"; sid:1;)", &fragment));
    assert!(!lone("alert udp any any -> any 53 (content:\"x\"; sid:1;)", &fragment));
}

#[test]
fn headers_of_ip_are_asked() {
    let packet = Crafted::udp(b"abc");
    for (options, expected) in [
        ("ttl:64;", true),
        ("ttl:<64;", false),
        ("tos:0;", true),
        ("id:4660;", true),
        ("id:1;", false),
        ("fragbits:D;", true),
        ("fragbits:M;", false),
        ("fragoffset:0;", true),
        ("ip_proto:17;", true),
        ("ip_proto:!17;", false),
        ("sameip;", false),
        ("dsize:3;", true),
        ("dsize:>3;", false),
        ("ipopts:any;", false),
        ("ipv4.hdr; content:\"|12 34|\"; offset:4; depth:2;", true),
        ("udp.hdr; content:\"|00 35|\"; offset:2; depth:2;", true),
        ("udp.hdr; content:\"abc\";", false),
    ] {
        let rule = format!("alert udp any any -> any any ({options} sid:1;)");
        assert_eq!(lone(&rule, &packet), expected, "{options}");
    }
}

#[test]
fn options_of_ip_are_found() {
    let mut packet = Crafted::ipv4(17, &[0x83, 3, 4, 0, 0x9c, 0x40, 0, 53, 0, 8, 0, 0], b"x");
    packet.bytes[0] = 0x46;
    packet.upper = 24;
    packet.ports = [40_000, 53];
    let rule = |option: &str| format!("alert ip any any -> any any (ipopts:{option}; sid:1;)");
    assert!(lone(&rule("lsrr"), &packet) && lone(&rule("any"), &packet));
    assert!(!lone(&rule("rr"), &packet));
    // An option without a length ends the list.
    packet.bytes[21] = 0;
    assert!(!lone(&rule("rr"), &packet));
}

#[test]
fn headers_of_tcp_are_asked() {
    let packet = Crafted::tcp(0x12, b"");
    for (options, expected) in [
        ("flags:SA;", true),
        ("flags:S;", false),
        ("flags:S,A;", true),
        ("seq:1000;", true),
        ("seq:1001;", false),
        ("ack:2000;", true),
        ("window:8192;", true),
        ("window:!8192;", false),
        ("tcp.hdr; content:\"|20 00|\"; offset:14; depth:2;", true),
        ("dsize:0;", true),
    ] {
        let rule = format!("alert tcp any any -> any any ({options} sid:1;)");
        assert_eq!(lone(&rule, &packet), expected, "{options}");
    }
    let mut header = Crafted::tcp(2, b"").bytes[20..].to_vec();
    header.extend_from_slice(&[1, 1, 1, 1, 2, 4, 5, 0xb4]);
    header[12] = 0x70;
    let packet = Crafted::ipv4(6, &header, b"");
    assert!(lone("alert tcp any any -> any any (tcp.mss:1460; sid:1;)", &packet));
    assert!(!lone("alert tcp any any -> any any (tcp.mss:<1460; sid:1;)", &packet));
}

#[test]
fn headers_of_icmp_are_asked() {
    let echo = Crafted::ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 2], b"");
    for (options, expected) in [
        ("itype:8;", true),
        ("itype:0;", false),
        ("icode:0;", true),
        ("icmp_id:1;", true),
        ("icmp_id:2;", false),
        ("icmp_seq:2;", true),
    ] {
        let rule = format!("alert icmp any any -> any any ({options} sid:1;)");
        assert_eq!(lone(&rule, &echo), expected, "{options}");
    }
    let unreachable = Crafted::ipv4(1, &[3, 1, 0, 0, 0, 1, 0, 2], b"");
    assert!(!lone("alert icmp any any -> any any (icmp_id:1; sid:1;)", &unreachable));
}

#[test]
fn what_is_cut_short_is_survived() {
    let text = "alert ip any any -> any any (ttl:64; sid:1;)\n\
        alert ip any any -> any any (ipopts:rr; sid:2;)\n\
        alert tcp any any -> any any (flags:S; sid:3;)\n\
        alert tcp any any -> any any (tcp.mss:1460; sid:4;)\n\
        alert tcp any any -> any any (tcp.hdr; content:\"a\"; sid:5;)\n\
        alert icmp any any -> any any (icmp_seq:1; sid:6;)\n\
        alert ip any any -> any any (ipv4.hdr; content:\"a\"; sid:7;)";
    let mut watch = Watch::new(text);
    for whole in [Crafted::tcp(2, b"ab"), Crafted::ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 2], b"")] {
        for length in 1..whole.bytes.len() {
            for first in [0x4f, 0x45, 0x40, 0x00] {
                let mut cut = whole.clone();
                cut.bytes.truncate(length);
                cut.bytes[0] = first;
                cut.upper = cut.upper.min(length);
                cut.payload = cut.payload.min(length);
                watch.lone(&cut);
            }
        }
    }
}

#[test]
fn events_of_packets_and_streams_are_told() {
    let text = "alert ip any any -> any any (decode-event:ipv4.trunc_pkt; sid:1;)\n\
        alert tcp any any -> any any (stream-event:pkt_retransmission; sid:2;)";
    let mut watch = Watch::new(text);
    let mut packet = Crafted::udp(b"");
    assert_eq!(watch.lone(&packet), NONE);
    packet.remarks = &["ipv4.trunc_pkt", "ipv4.unknown"];
    assert_eq!(watch.lone(&packet), [1]);
}

#[test]
fn rules_of_addresses_match_once_a_direction_of_a_flow() {
    let mut watch = Watch::new(
        "alert ip any any -> 10.0.0.2 any (sid:1;)\nalert ip any any -> [!10.0.0.9] any (sid:2;)",
    );
    let packet = Crafted::udp(b"");
    let first = FlowFacts { is_first_of_side: true, ..facts(UP) };
    assert_eq!(watch.look(&packet, Some(first)), [1, 2]);
    assert_eq!(watch.look(&packet, Some(facts(UP))), [2]);
    assert_eq!(watch.lone(&packet), [1, 2]);
}

#[test]
fn flows_are_asked_for_their_side_and_state() {
    let udp = Crafted::udp(b"x");
    for (flow, facts, expected) in [
        ("to_server", Some(facts(UP)), true),
        ("to_client", Some(facts(UP)), false),
        ("established", Some(facts(UP)), true),
        ("not_established", Some(facts(UP)), false),
        ("not_established", Some(FlowFacts { is_established: false, ..facts(UP) }), true),
        ("established", Some(FlowFacts { is_established: false, ..facts(UP) }), false),
        ("stateless", Some(facts(UP)), true),
        ("established", None, false),
        ("to_server", None, false),
        ("only_frag", Some(facts(UP)), false),
        ("no_frag", Some(facts(UP)), true),
    ] {
        let rule = format!("alert udp any any -> any any (flow:{flow}; content:\"x\"; sid:1;)");
        let found = !Watch::new(&rule).look(&udp, facts).is_empty();
        assert_eq!(found, expected, "{flow} {facts:?}");
    }
}
