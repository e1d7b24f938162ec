//! chains/firewall-stateful.yaml between two real hosts: lan opens what it likes, wan only what is allowed, and in an open
//! connection only segments of its own pass.

mod testkit;

use std::path::PathBuf;

use etherparse::PacketBuilder;
use testkit::replayed::Replayed;
use testkit::{BRIDGED, Rig, is_root, must, skip};

const CHAIN: &str = "chains/firewall-stateful.yaml";

/// The chain file with one line of its firewall written otherwise.
fn changed(folder: &tempfile::TempDir, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(CHAIN).unwrap();
    assert!(text.contains(from), "{text}");
    let file = folder.path().join("chain.yaml");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file
}

/// How many packets the summary of a run counts under a name, `edge no_rule`.
fn count(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find(|line| line.contains(name));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

#[test]
fn lan_opens_what_it_likes_and_wan_only_what_is_allowed() {
    if !is_root() {
        return skip("firewall_stateful", "making namespaces needs root");
    }
    let mut rig = Rig::start(CHAIN);
    let web = tempfile::tempdir().unwrap();
    let folder = web.path().display().to_string();
    must(&format!("head -c 20000000 /dev/urandom > {folder}/file"));
    for (host, port) in [("wan", "80"), ("lan", "8080"), ("lan", "8081")] {
        let words = ["python3", "-m", "http.server", "--directory", &folder, port];
        rig.serve(host, port.parse().unwrap(), &words);
    }
    rig.serve("wan", 5201, &["iperf3", "-s"]);

    rig.on("lan", "ping -c 5 -i 0.2 10.99.0.2");
    rig.on("lan", "ping -c 5 -i 0.2 fd00:99::2");
    let sent = must(&format!("sha256sum < {folder}/file"));
    let got = rig.on("lan", "curl -sS --max-time 60 http://10.99.0.2/file | sha256sum");
    assert_eq!(got, sent, "the file arrives as it was sent");
    rig.iperf("lan", "10.99.0.2");

    let curl = |host: &str, url: &str| {
        rig.succeeds(host, &format!("curl -gs --max-time 2 -o /dev/null {url}"))
    };
    assert!(curl("wan", "http://10.99.0.1:8080/"), "what is allowed from wan");
    assert!(!curl("wan", "http://10.99.0.1:8081/"), "and no other port");
    assert!(curl("lan", "http://10.99.0.1:8081/"), "control: its server answers");
    assert!(!rig.succeeds("wan", "ping -c 2 -i 0.2 -W 1 10.99.0.1"), "nothing else comes in");
    assert!(!rig.succeeds("wan", "ping -c 2 -i 0.2 -W 1 fd00:99::1"), "of neither family");
    let scan = "python3 -c 'import socket\nfor port in range(1, 101):\n s = socket.socket()\n \
                s.settimeout(0.01)\n assert s.connect_ex((\"10.99.0.1\", port)) != 0'";
    rig.on("wan", scan);

    let summary = rig.finish();
    assert!(count(&summary, "edge no_rule") >= 100, "the scan is in the account:\n{summary}");
    assert!(count(&summary, "flow unsolicited") >= 4, "the pings are, too:\n{summary}");
}

/// Sends segments into an open connection, and returns which of them arrive, and the run's summary.
fn injected(chain: &str) -> (Vec<String>, String) {
    let mut rig = Rig::start_with(chain, &BRIDGED);
    rig.wait_until("the chain carries a ping", || rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let words = ["python3", "tests/testkit/inject.py", "serve", "10.99.0.2", "80"];
    rig.serve("wan", 80, &[&words[..], &[seen.to_str().unwrap()]].concat());
    let said = rig.on("lan", "python3 tests/testkit/inject.py attack 10.99.0.2 80");
    assert_eq!(said.trim(), "the connection works");
    let seen = std::fs::read_to_string(seen).unwrap_or_default();
    (seen.lines().map(str::to_owned).collect(), rig.finish())
}

#[test]
fn segments_out_of_the_window_of_their_connection_go_no_further() {
    if !is_root() {
        return skip("firewall_stateful", "making namespaces needs root");
    }
    let (seen, summary) = injected(CHAIN);
    // A reset in the window is for its receiver to question.
    assert_eq!(seen, ["within", "questioned-reset"], "{summary}");
    for reason in
        ["tcp_seq_above_window", "tcp_seq_below_window", "tcp_ack_of_unsent", "tcp_bad_reset"]
    {
        assert_eq!(count(&summary, &format!("flow {reason}")), 1, "{reason}:\n{summary}");
    }
}

#[test]
fn without_state_the_same_segments_pass() {
    if !is_root() {
        return skip("firewall_stateful", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    // Both ways by one chain: without state there are no answers to tell from the rest.
    let file = changed(&folder, "stateful: true", "stateful: false");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(", in-port: lan", "")).unwrap();
    let (seen, summary) = injected(file.to_str().unwrap());
    let all = ["within", "above", "below", "unsent", "questioned-reset", "reset"];
    assert_eq!(seen, all, "{summary}");
}

/// A segment between 10.99.0.1:40000 and 10.99.0.2:80.
fn segment(out: bool, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = if out { (1, 2) } else { (2, 1) };
    let (sport, dport) = if out { (40_000, 80) } else { (80, 40_000) };
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, src], [2, 0, 0, 0, 0, dst])
        .ipv4([10, 99, 0, src], [10, 99, 0, dst], 64)
        .tcp(sport, dport, seq, 1000)
        .ack(ack);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// The middle of a connection: its SYNs were before the capture.
fn cut_at_its_head(chain: &str) -> Replayed {
    let lan = [(1_000, segment(true, 500, 900, b"GET")), (3_000, segment(true, 503, 905, b""))];
    let wan = [(2_000, segment(false, 900, 503, b"hello"))];
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("wan.pcap");
    testkit::packets::write_capture(&capture, wan);
    let more = ["--in", &format!("wan={}", capture.display())];
    Replayed::with(chain, lan, &more, &[]).succeeded()
}

/// With room for one flow: a connection that is picked up, and then another one's SYN. Whether that makes room for itself.
fn makes_room(answered: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(&folder, "stateful: true", "stateful: true\n    loose: true");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("flows: {{ max: 1 }}\n{text}")).unwrap();
    let syn = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 99, 0, 1], [10, 99, 0, 2], 64)
        .tcp(40_001, 80, 1, 1000)
        .syn();
    let mut other = Vec::new();
    syn.write(&mut other, &[]).unwrap();
    let lan = [(1_000, segment(true, 500, 900, b"GET")), (3_000, other)];
    let wan = [(2_000, segment(false, 900, 503, b"hello"))];
    let capture = folder.path().join("wan.pcap");
    testkit::packets::write_capture(&capture, wan.into_iter().filter(|_| answered));
    let more = ["--in", &format!("wan={}", capture.display())];
    let run = Replayed::with(file.to_str().unwrap(), lan, &more, &[]).succeeded();
    assert_eq!(run.dropped("flow/table_full"), 2 - run.sent("wan").len() as u64, "{}", run.report);
    run.dropped("flow/table_full") == 0
}

#[test]
fn a_connection_that_is_picked_up_is_established_once_both_sides_were_seen() {
    assert!(!makes_room(true), "it stays");
    assert!(makes_room(false), "control: whom nobody answers makes room");
}

#[test]
fn the_middle_of_a_connection_is_picked_up_only_when_the_firewall_is_loose() {
    let strict = cut_at_its_head(CHAIN);
    assert_eq!(strict.dropped("flow/tcp_not_a_syn"), 3, "{}", strict.report);
    assert_eq!((strict.sent("wan").len(), strict.sent("lan").len()), (0, 0));

    let folder = tempfile::tempdir().unwrap();
    let file = changed(&folder, "stateful: true", "stateful: true\n    loose: true");
    let loose = cut_at_its_head(file.to_str().unwrap());
    assert_eq!((loose.sent("wan").len(), loose.sent("lan").len()), (2, 1), "{}", loose.report);
}
