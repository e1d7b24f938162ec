//! The log of a firewall's rules, in a replay and while a run goes on.

mod testkit;

use std::path::Path;

use serde_json::Value;
use testkit::packets::{Udp, udp6};
use testkit::replayed::Replayed;
use testkit::{Rig, is_root, skip};

const SECOND: u64 = 1_000_000_000;

/// chains/firewall-log.yaml, whose log is in this folder.
fn chain(folder: &Path) -> String {
    let text = std::fs::read_to_string("chains/firewall-log.yaml").unwrap();
    let log = folder.join("edge.jsonl");
    let text = text.replace("${LOG:-/tmp/nfv-edge.jsonl}", log.to_str().unwrap());
    let chain = folder.join("chain.yaml");
    std::fs::write(&chain, text).unwrap();
    chain.to_str().unwrap().to_owned()
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("edge.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_rule_that_logs_writes_who_wanted_what_and_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let frames = [
        (SECOND, Udp::to([192, 0, 2, 1], 137).frame()),
        (2 * SECOND, Udp::to([192, 0, 2, 1], 53).frame()),
        (2 * SECOND + 5, Udp::to([192, 0, 2, 1], 53).frame()),
        (3 * SECOND, udp6("2001:db8::1", 64)),
    ];
    let run = Replayed::of(&chain(folder.path()), frames).succeeded();
    let lines = lines(folder.path());
    assert_eq!(lines.len(), 2, "a flow is one line, and a rule without `log` none: {lines:?}");
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:01.000000000Z", "function": "edge", "rule": "line 13: deny",
        "verdict": "deny", "in_port": "lan", "src": "10.1.0.2", "dst": "192.0.2.1",
        "protocol": "udp", "sport": 1000, "dport": 137,
    });
    assert_eq!(lines[0], expected);
    assert_eq!(
        (lines[1]["verdict"].as_str(), lines[1]["dport"].as_u64()),
        (Some("allow"), Some(53))
    );
    assert_eq!(run.dropped("edge/no_rule"), 1);
}

#[test]
fn a_flood_is_logged_at_the_rules_rate_and_what_is_shed_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    // 1,000 a second for three seconds, to a rule that writes ten a second.
    let flood =
        (0..3_000u64).map(|i| (SECOND + i * 1_000_000, Udp::to([192, 0, 2, 1], 137).frame()));
    Replayed::of(&chain(folder.path()), flood).succeeded();
    let lines = lines(folder.path());
    assert!((38..=41).contains(&lines.len()), "ten at once, then ten a second: {}", lines.len());
    let shed: u64 = lines.iter().filter_map(|line| line["shed"].as_u64()).sum();
    let told = lines.len() as u64 + shed;
    assert!((2_900..=3_000).contains(&told), "each is written, or counted by the next: {told}");
    assert!(lines[0].get("shed").is_none());
}

#[test]
fn the_log_is_written_while_the_run_goes_on() {
    if !is_root() {
        return skip("firewall_log", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(&chain(folder.path()));
    rig.on(
        "lan",
        "python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                   s.sendto(b\"?\", (\"10.99.0.2\", 137))'",
    );
    rig.wait_until("the line is in the file", || {
        lines(folder.path()).iter().any(|line| line["dst"] == "10.99.0.2" && line["dport"] == 137)
    });
    rig.finish();
}
