//! `nfv bench`: what it prints, and that its account is one.

use std::process::{Command, Output};

use serde_json::Value;

const NFV: &str = env!("CARGO_BIN_EXE_nfv");

fn bench(words: &[&str]) -> Output {
    let eal = ["bench", "-l", "0,1", "--no-pci", "--no-huge", "-m", "512", "--"];
    Command::new(NFV).args(eal).args(words).output().expect("nfv starts")
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
