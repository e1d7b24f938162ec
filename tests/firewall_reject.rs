//! chains/firewall-reject.yaml: who may not pass is told at once.

mod testkit;

use nfv_core::packet::parse;
use testkit::packets::{Udp, udp6};
use testkit::replayed::Replayed;
use testkit::{Rig, is_root, skip};

const CHAIN: &str = "chains/firewall-reject.yaml";

/// Connects, or sends a datagram and waits for an answer, and prints how that ended and after how many seconds.
const TRY: &str = r#"python3 -c '
import socket, sys, time
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.settimeout(2)
# An ICMP error is told to who asks for it (IP_RECVERR, IPV6_RECVERR).
s.setsockopt(*((41, 25, 1) if ":" in host else (0, 11, 1)))
start = time.time()
try:
    s.connect((host, port))
    if kind == "udp":
        s.send(b"?")
        s.recv(1)
    print("passed")
except TimeoutError:
    print("nothing")
except OSError as why:
    print(type(why).__name__, why.errno, "at once" if time.time() - start < 1 else "late")
'"#;

#[test]
fn who_is_rejected_hears_of_it_at_once_and_who_is_denied_waits() {
    if !is_root() {
        return skip("firewall_reject", "making namespaces needs root");
    }
    let mut rig = Rig::start(CHAIN);
    rig.serve("wan", 23, &["python3", "-m", "http.server", "-b", "::", "23"]);
    rig.serve("wan", 80, &["python3", "-m", "http.server", "-b", "::", "80"]);
    let ends = |what: &str| rig.on("lan", &format!("{TRY} {what}")).trim().to_owned();
    // ECONNREFUSED, EHOSTUNREACH, EACCES.
    assert_eq!(ends("tcp 10.99.0.2 23"), "ConnectionRefusedError 111 at once");
    assert_eq!(ends("tcp fd00:99::2 23"), "ConnectionRefusedError 111 at once");
    assert_eq!(ends("udp 10.99.0.2 9"), "OSError 113 at once");
    assert_eq!(ends("udp fd00:99::2 9"), "PermissionError 13 at once");
    assert_eq!(ends("udp 10.99.0.2 137"), "nothing");
    assert_eq!(ends("tcp 10.99.0.2 80"), "passed");
    assert_eq!(ends("tcp fd00:99::2 80"), "passed");
    let summary = rig.finish();
    for name in ["edge rule_rejected", "edge default_rejected", "edge rule_denied"] {
        assert!(summary.contains(name), "{name}:\n{summary}");
    }
}

#[test]
fn a_box_without_addresses_answers_in_the_destinations_name() {
    let frames = [Udp::to([192, 0, 2, 1], 9).frame(), udp6("2001:db8::1", 64)];
    let run = Replayed::of(CHAIN, frames.map(|f| (7, f))).succeeded();
    let answers = run.sent("lan");
    let facts: Vec<_> = answers
        .iter()
        .map(|frame| {
            let h = parse(frame, frame.len() as u32).unwrap();
            (h.src.v4(), h.icmp_type, h.icmp_code)
        })
        .collect();
    // RFC 1812: 3, 13. RFC 4443: 1, 1. "2001:0db8" begins the other's destination.
    assert_eq!(facts, [([192, 0, 2, 1], 3, 13), ([0x20, 0x01, 0x0d, 0xb8], 1, 1)]);
    assert_eq!(run.report["created_packets"], 2);
}

#[test]
fn a_flood_is_not_answered_by_a_flood() {
    let flood =
        (0..5_000u64).map(|i| (1_000_000_000 + i * 1_000, Udp::to([192, 0, 2, 1], 9).frame()));
    let run = Replayed::of(CHAIN, flood).succeeded();
    assert_eq!(run.dropped("edge/default_rejected"), 5_000);
    let answers = run.sent("lan").len();
    assert!((100..=106).contains(&answers), "{answers}");
}
