//! chains/firewall-per-source.yaml: a source has so many flows, of which only some may be half open.

mod testkit;

use etherparse::PacketBuilder;
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

/// A segment of the connection from a port of 10.1.0.2 to [`THERE`], by who opened it or by who answers; `flags` of `SAFR`.
fn segment(out: bool, sport: u16, flags: &str, seq: u32, ack: u32) -> Vec<u8> {
    let (inside, outside) = (([10, 1, 0, 2], sport), THERE);
    let ((src, sport), (dst, dport)) = if out { (inside, outside) } else { (outside, inside) };
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut tcp = builder.ipv4(src, dst, 64).tcp(sport, dport, seq, 1000);
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'A' => tcp.ack(ack),
            'F' => tcp.fin(),
            _ => tcp.rst(),
        };
    }
    let mut frame = Vec::new();
    tcp.write(&mut frame, &[]).unwrap();
    frame
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Reset,
}

/// A connection from a time on, which ends so: its segments, with whether lan sends them.
fn connection(time: u64, sport: u16, end: End) -> Vec<(u64, bool, Vec<u8>)> {
    let opening = [(true, "S", 100, 0), (false, "SA", 500, 101), (true, "A", 101, 501)];
    let ending: &[_] = match end {
        End::Open => &[],
        End::Closed => &[(true, "FA", 101, 501), (false, "FA", 501, 102), (true, "A", 102, 502)],
        // A reset that comes once more ends nothing twice.
        End::Reset => &[(false, "R", 501, 0), (false, "R", 501, 0)],
    };
    let steps = opening.iter().chain(ending).zip((0..).map(|i| time + 100 * i));
    let of = |((out, flags, seq, ack), at): (&(bool, &str, u32, u32), u64)| {
        (at, *out, segment(*out, sport, flags, *seq, *ack))
    };
    steps.map(of).collect()
}

#[test]
fn a_connection_that_is_over_counts_no_more_and_its_end_takes_nothing_from_others() {
    // Ten stay open. Then thirty, one after the other; when those are forgotten as well, fifteen more.
    let run = |end: [End; 2]| {
        let at = |second: u64, i: u16| second * SECOND + u64::from(i) * 10_000;
        let held = (0..10).map(|i| connection(at(1, i), 1000 + i, End::Open));
        let short = (0..30)
            .map(|i| connection(at(2, i), 2000 + i, if i % 2 == 0 { end[0] } else { end[1] }));
        let later = (0..15).map(|i| connection(at(200, i), 3000 + i, End::Open));
        let all: Vec<_> = held.chain(short).chain(later).flatten().collect();
        let by = |lan: bool| {
            let own = all.iter().filter(move |(_, out, _)| *out == lan);
            own.map(|(time, _, frame)| (*time, frame.clone()))
        };
        let capture = tempfile::NamedTempFile::new().unwrap();
        write_capture(capture.path(), by(false));
        let more = ["--in", &format!("wan={}", capture.path().display())];
        let run = Replayed::with(CHAIN, by(true), &more, &[]).succeeded();
        run.dropped("edge/source_connections")
    };
    assert_eq!(run([End::Closed, End::Reset]), 5, "the ten and ten of the last are open");
    assert_eq!(run([End::Open, End::Open]), 20 + 15, "control: none of twenty makes room");
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
    let mut held = rig
        .begin("lan", &["python3", "tests/testkit/many.py", "hold", "10.99.0.2", "80", "15", "60"]);
    rig.wait_until("they are open", || {
        rig.ask(&["get", "edge.sources"]).starts_with("1 sources, 16 flows, 0 half open")
    });
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("chain.yaml");
    let text = std::fs::read_to_string(CHAIN).unwrap();
    std::fs::write(&other, text.replace("- { allow: any }", "- { allow: any, in-port: lan }"))
        .unwrap();
    rig.ask(&["reload", other.to_str().unwrap()]);
    let shown = rig.ask(&["get", "edge.sources"]);
    assert!(shown.starts_with("1 sources, 16 flows"), "handed over at a reload: {shown}");
    held.kill().unwrap();
    held.wait().unwrap();
    // They were over when their program ended, before the reload and behind it.
    rig.wait_until("closed connections count no more", || {
        rig.ask(&["get", "edge.sources"]).starts_with("1 sources, 1 flows, 0 half open")
    });
    assert_eq!(rig.on("lan", open).trim(), opened.to_string());
    let summary = rig.finish();
    assert!(summary.contains("edge source_connections"), "{summary}");
}
