//! Reloads while packets pass: nothing is lost to them, no connection breaks, and a wrong file changes nothing.

mod testkit;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{Rig, is_root, must, skip};

/// Files that change what a chain is made of: rules, functions between, functions gone, another cut.
const VARIANTS: [(&str, &str); 5] = [
    ("edge: {type: firewall, stateful: true, rules: [{allow: any}]}", "edge"),
    (
        "edge: {type: firewall, stateful: true, rules: [{deny: tcp, dport: 23}, {allow: any}]}, seen: {type: count}",
        "seen, edge",
    ),
    (
        "edge: {type: firewall, stateful: true, rules: [{allow: any}]}, seen: {type: count}, inner: {type: firewall, stateful: true, default: allow}",
        "edge, seen, inner",
    ),
    (
        "edge: {type: firewall, stateful: true, rules: [{allow: any}]}, inner: {type: firewall, default: allow}",
        "edge, inner",
    ),
    ("seen: {type: count}", "seen"),
];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, functions: &str, through: &str) -> PathBuf {
        let path = self.0.path().join("chain.yaml");
        let text = format!(
            "ports: {{lan: \"${{LAN}}\", wan: \"${{WAN}}\"}}\nfunctions: {{{functions}}}\nchains:\n  through: {{from: lan, through: [{through}], to: wan}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_hundred_reloads_lose_no_packet_and_break_no_connection() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let (functions, through) = VARIANTS[0];
    let path = files.write(functions, through);
    let mut rig = Rig::start(text(&path));
    rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "10.99.0.2", "80"]);
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    let receiver = rig.begin("wan", &["python3", "tests/testkit/sequence.py", "receive", "7000"]);
    let hold = ["python3", "tests/testkit/many.py", "hold", "10.99.0.2", "80", "1000", "25"];
    let mut held = rig.begin("lan", &hold);
    let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "open");
    let iperf = rig.begin("lan", &["iperf3", "-c", "10.99.0.2", "-t", "20", "-b", "50M"]);
    let send = ["python3", "tests/testkit/sequence.py", "send", "10.99.0.2", "7000", "1000", "20"];
    let sender = rig.begin("lan", &send);
    std::thread::sleep(Duration::from_secs(1));
    for turn in 0..100 {
        let (functions, through) = VARIANTS[(turn + 1) % VARIANTS.len()];
        let said = rig.ask(&["reload", text(&files.write(functions, through))]);
        assert!(said.starts_with("reloaded "), "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let stats = rig.ask(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let counters = stats["counters"].as_array().unwrap().iter();
    let again = counters.clone().find(|c| c["metric"] == "redecided_flows").unwrap();
    assert!(again["value"].as_u64() > Some(10_000), "flows are decided again: {again}");
    let sender = sender.wait_with_output().unwrap();
    assert!(sender.status.success(), "{sender:?}");
    let iperf = iperf.wait_with_output().unwrap();
    assert!(iperf.status.success(), "iperf3: {}", String::from_utf8_lossy(&iperf.stderr));
    assert_eq!(lines.next().unwrap().unwrap(), "1000 connections held, 0 broken");
    held.wait().unwrap();
    must(&format!("kill -TERM {}", receiver.id()));
    let received = receiver.wait_with_output().unwrap();
    let received = String::from_utf8_lossy(&received.stdout).into_owned();
    assert!(received.contains(" 0 lost, 0 out of order"), "{received}");
    println!("100 reloads: {received}");
    // The account is that of the whole run.
    let summary = rig.finish();
    assert!(!summary.contains("not_a_syn"), "{summary}");
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_the_answer_says_where() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let (functions, through) = VARIANTS[0];
    let rig = Rig::start(text(&files.write(functions, through)));
    let wrong = files.write("edge: {type: firewall, rulez: []}", "edge");
    let answer = rig.ctl(&["reload", text(&wrong)]);
    let why = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.code(), Some(2));
    assert!(why.contains("rulez") && why.contains("chain.yaml:2:"), "{why}");
    rig.on("lan", "ping -c 2 -i 0.2 10.99.0.2");
    let flows = rig.ask(&["flows", "icmp replied"]);
    assert!(flows.contains("through icmp replied 10.99.0.1:"), "{flows}");
    // On SIGHUP the run's own file is read again: it denies pings now.
    files.write(
        "edge: {type: firewall, stateful: true, rules: [{deny: icmp}], default: allow}",
        "edge",
    );
    let id = must(&format!("ip netns pids {}", rig.namespace("nfv")));
    must(&format!("kill -HUP {}", id.trim()));
    rig.wait_until("the new rules hold", || !rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    drop(rig);
}
