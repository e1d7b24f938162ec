//! chains/firewall-per-source.yaml: a source has so many flows, of which only some may be half open.

mod testkit;

use testkit::packets::{Udp, write_capture};
use testkit::replayed::Replayed;
use testkit::{Rig, is_root, skip};

const CHAIN: &str = "chains/firewall-per-source.yaml";
const SECOND: u64 = 1_000_000_000;
const THERE: ([u8; 4], u16) = ([192, 0, 2, 1], 9);

/// From one of the ports of a source.
fn from(last: u8, sport: u16) -> Vec<u8> {
    Udp { src: ([10, 1, 0, last], sport), ..Udp::to(THERE.0, THERE.1) }.frame()
}

fn answer(last: u8, sport: u16) -> Vec<u8> {
    Udp { src: THERE, ..Udp::to([10, 1, 0, last], sport) }.frame()
}

#[test]
fn flows_without_an_answer_are_few_and_come_back_when_their_time_is_up() {
    let burst = (0..8).map(|i| (SECOND + u64::from(i), from(2, 1000 + i)));
    let other = [(SECOND + 100, from(3, 1))];
    // 30 s later an unanswered flow is forgotten.
    let later = (0..8).map(|i| (40 * SECOND + u64::from(i), from(2, 2000 + i)));
    let run = Replayed::of(CHAIN, burst.chain(other).chain(later)).succeeded();
    assert_eq!(run.dropped("edge/source_half_open"), 6, "{}", run.report);
    assert_eq!(run.sent("wan").len(), 5 + 1 + 5);
}

#[test]
fn an_answer_makes_room_for_another_flow_until_there_are_too_many() {
    // Each is answered before the next one begins.
    let out = (0..30).map(|i| (SECOND + u64::from(i) * 1000, from(2, 1000 + i)));
    let back = (0..20).map(|i| (SECOND + u64::from(i) * 1000 + 500, answer(2, 1000 + i)));
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("wan.pcap");
    write_capture(&capture, back);
    let more = ["--in", &format!("wan={}", capture.display())];
    let run = Replayed::with(CHAIN, out, &more, &[]).succeeded();
    assert_eq!((run.sent("wan").len(), run.sent("lan").len()), (20, 20), "{}", run.report);
    assert_eq!(run.dropped("edge/source_connections"), 10);
}

#[test]
fn without_state_there_is_nothing_to_count() {
    let text = std::fs::read_to_string(CHAIN).unwrap().replace("    stateful: true\n", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain.yaml");
    std::fs::write(&file, text).unwrap();
    let output = std::process::Command::new(testkit::NFV).arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`per-source` without `stateful: true`"), "{said}");
}

#[test]
fn a_host_opens_as_many_connections_as_it_may_have() {
    if !is_root() {
        return skip("firewall_per_source", "making namespaces needs root");
    }
    let mut rig = Rig::start(CHAIN);
    rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "10.99.0.2", "80"]);
    let open = "python3 -c 'import socket\nheld = []\nfor i in range(40):\n s = socket.socket()\n \
                s.settimeout(1)\n if s.connect_ex((\"10.99.0.2\", 80)) != 0: break\n held.append(s)\n\
                print(len(held))'";
    let opened: u32 = rig.on("lan", open).trim().parse().unwrap();
    // The ping that shows that the chain works is a flow as well.
    assert!((18..=20).contains(&opened), "{opened}");
    let shown = rig.ask(&["get", "edge.sources"]);
    assert!(shown.starts_with("1 sources, 20 flows, 0 half open"), "{shown}");
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("chain.yaml");
    let text = std::fs::read_to_string(CHAIN).unwrap();
    std::fs::write(&other, text.replace("- { allow: any }", "- { allow: any, in-port: lan }"))
        .unwrap();
    rig.ask(&["reload", other.to_str().unwrap()]);
    let shown = rig.ask(&["get", "edge.sources"]);
    assert!(shown.starts_with("1 sources, 20 flows"), "handed over at a reload: {shown}");
    let summary = rig.finish();
    assert!(summary.contains("edge source_connections"), "{summary}");
}
