//! `nfv bench`: what it prints, and that its account is one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const NFV: &str = env!("CARGO_BIN_EXE_nfv");

fn command(words: &[&str]) -> Command {
    let eal = ["bench", "-l", "0,1", "--no-pci", "--no-huge", "-m", "512", "--"];
    let mut command = Command::new(NFV);
    command.args(eal).args(words);
    command
}

fn bench(words: &[&str]) -> Output {
    command(words).output().expect("nfv starts")
}

fn json(words: &[&str]) -> Value {
    let output = bench(words);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_has_rates_of_packets_and_the_ceiling_and_what_was_lost() {
    let output = bench(&["chains/firewall.yaml", "--seconds", "0.5", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| result[key].as_f64().unwrap_or_else(|| panic!("{key} in {result}"));
    assert!(number("mpps") > 0.0 && number("ceiling_mpps") > 0.0, "{result}");
    assert!(
        number("gbps") > 0.0 && number("ns_per_packet") > 0.0 && number("offered_packets") > 0.0
    );
    assert_eq!(number("lost_packets"), 0.0, "the firewall lets this traffic through");
    let latency = |key: &str| result["latency_ns"][key].as_u64().unwrap();
    assert!(latency("p50") > 0 && latency("p50") <= latency("p99"));
    assert!(latency("p99") <= latency("p999") && latency("p999") <= latency("max"));
}

#[test]
fn connections_are_opened_through_the_chains_and_their_data_pass_a_firewall_that_checks_windows() {
    for order in ["loop", "random"] {
        let traffic = format!("tcp,size=64,dport=80,flows=3000,order={order}");
        let words =
            ["tests/data/bench-flows.yaml", "--seconds", "0.5", "--json", "--traffic", &traffic];
        let result = json(&[&words[..], &["--established"]].concat());
        assert_eq!(result["flows"]["opened"], 3000, "{result}");
        assert_eq!(result["flows"]["begun_per_second"], 0.0, "all were there before: {result}");
        assert_eq!(result["lost_packets"], 0, "{result}");
        assert!(result["mpps"].as_f64().unwrap() > 0.0);
        // Nobody opened them.
        let closed = json(&words);
        assert_eq!(closed["lost_packets"], closed["offered_packets"], "{closed}");
    }
}

#[test]
fn two_workers_open_the_flows_between_them() {
    for order in ["loop", "random"] {
        let traffic = format!("tcp,size=64,dport=80,flows=3000,order={order}");
        let eal = ["bench", "--lcores", "0@0,1@0,2@0", "--no-pci", "--no-huge", "-m", "512", "--"];
        let words = ["tests/data/bench-flows.yaml", "--seconds", "0.5", "--json", "--established"];
        let output =
            Command::new(NFV).args(eal).args(words).args(["--traffic", &traffic]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = if order == "loop" { 3000 } else { 6000 };
        assert_eq!((&result["flows"]["opened"], &result["workers"]), (&all.into(), &2.into()));
    }
}

#[test]
fn flows_that_never_come_back_begin_and_end() {
    let traffic = "udp,dport=53,flows=new";
    let words = ["tests/data/bench-flows.yaml", "--seconds", "1", "--json", "--traffic", traffic];
    let result = json(&words);
    let flows = |key: &str| result["flows"][key].as_f64().unwrap();
    assert!(flows("begun_per_second") > 1000.0, "{result}");
    assert!(flows("ended_per_second") > 0.0, "they live for a second: {result}");
    assert!(result["writing_ns"].as_f64().unwrap() > 0.0, "{result}");
}

#[test]
fn a_bench_stops_before_and_after_flows_are_opened_when_told_to() {
    let words = ["chains/forward.yaml", "--seconds", "0.1", "--established", "--step"];
    let mut nfv = command(&words);
    let mut nfv =
        nfv.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, stderr) = (nfv.stdin.take().unwrap(), nfv.stderr.take().unwrap());
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let pid = format!("process {}", nfv.id());
    for stop in ["are about to be opened", "10000 flows are open"] {
        assert!(lines.any(|line| line.contains(&pid) && line.contains(stop)), "{stop}");
        stdin.write_all(b"\n").unwrap();
    }
    assert!(nfv.wait().unwrap().success());
}

#[test]
fn an_emulated_nic_is_measured_with_its_rules_and_without_and_under_attack() {
    let words = ["tests/data/emulated.yaml", "--seconds", "1", "--json"];
    let result = json(&words);
    let of = |result: &Value, key: &str| result["offload"][key].as_f64();
    assert!(
        of(&result, "ratio") > Some(0.0) && of(&result, "mpps_without") > Some(0.0),
        "{result}"
    );
    assert_eq!(
        (&result["lost_packets"], of(&result, "good_busy_ns")),
        (&0.into(), None),
        "{result}"
    );
    let result = json(&[&words[..], &["--attack", "udp,dport=9"]].concat());
    assert!(of(&result, "attack_busy_ns") > Some(0.0), "{result}");
    // What the NIC does not drop reaches a worker, and is dropped there.
    assert!(result["lost_packets"].as_u64() > Some(0), "{result}");
    for wrong in [["--attack", "udp"], ["--traffic", "udp,flows=new"]] {
        let chain = if wrong[0] == "--attack" { "chains/forward.yaml" } else { words[0] };
        assert_eq!(bench(&[&[chain][..], &wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn flows_that_nobody_knows_before_cannot_be_opened() {
    let output = bench(&["chains/forward.yaml", "--established", "--traffic", "udp,flows=new"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn traffic_that_the_chains_drop_is_lost_and_said_to_be() {
    let words = ["chains/firewall.yaml", "--seconds", "0.5", "--traffic", "udp,dport=9"];
    let output = bench(&words);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("(100.00 %)") && text.contains("the chains drop this traffic"), "{text}");
}

#[test]
fn traffic_that_does_not_exist_is_the_users_mistake() {
    for traffic in ["icmp", "udp,size=9000", "udp,flows"] {
        let output = bench(&["chains/forward.yaml", "--traffic", traffic]);
        assert_eq!(output.status.code(), Some(2), "{traffic}");
    }
}
