//! The NIC's part of the work: emulated NICs between real hosts.
//!
//! `lan` sends datagrams to ports of which some are denied, `wan` counts what arrives. What the NIC drops is in its count,
//! and in no worker's.

mod testkit;

use std::io::Read;
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;
use testkit::{Rig, is_root, skip};

/// A chain file whose ports are emulated NICs on the rig's devices.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `more`: of the port `lan`. `rest`: what follows the ports.
    fn write(&self, nic: &str, more: &str, rest: &str) -> PathBuf {
        let path = self.0.path().join("chain.yaml");
        let text = format!(
            "ports:\n  \
             lan: {{ device: \"emulated,{nic},wire=${{LAN}}\"{more} }}\n  \
             wan: {{ device: \"emulated,profile=any,queues=2,wire=${{WAN}}\" }}\n{rest}"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn denying(&self, nic: &str, more: &str, ports: &str) -> PathBuf {
        self.write(nic, more, &denying(ports))
    }
}

/// A stateless firewall that refuses datagrams to some ports, and knows the others.
fn denying(ports: &str) -> String {
    format!(
        "functions:\n  edge: {{ type: firewall, default: allow, rules: [ {{ deny: udp, dport: {ports} }}, {{ allow: udp, dport: 9000-9009 }} ] }}\n\
         chains: {{ through: {{ from: lan, through: [edge], to: wan }} }}\n"
    )
}

fn start(path: &std::path::Path) -> Rig {
    Rig::start(path.to_str().unwrap())
}

/// The report of a port's NIC.
fn nic(rig: &Rig, port: &str) -> Value {
    let all: Value = serde_json::from_str(&rig.ask(&["offload", "--json"])).unwrap();
    all.as_array().unwrap().iter().find(|nic| nic["port"] == port).cloned().unwrap()
}

/// What a worker's firewall refused.
fn refused_by_worker(rig: &Rig) -> u64 {
    let stats: Value = serde_json::from_str(&rig.ask(&["stats", "--json"])).unwrap();
    let counters = stats["counters"].as_array().unwrap().iter();
    let own = counters.filter(|c| c["metric"] == "dropped_packets" && c["labels"][0][1] == "edge");
    own.map(|c| c["value"].as_u64().unwrap()).sum()
}

/// Counts datagrams by port on `wan`, until one comes to port 1.
fn listen(rig: &Rig) -> Child {
    const LISTEN: &str = "
import select, socket, sys
ports = list(range(9000, 9010)) + [1]
all = []
for port in ports:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('10.99.0.2', port))
    all.append(s)
print('ready', flush=True)
counts = [0] * len(ports)
while not counts[-1]:
    for s in select.select(all, [], [])[0]:
        s.recv(100)
        counts[all.index(s)] += 1
print(*counts[:-1], flush=True)
";
    let mut child = rig.begin("wan", &["python3", "-c", LISTEN]);
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child
}

/// Sends a hundred datagrams to each of the ports 9000 to 9009, and ends who counts them. Returns how many arrived, by port.
fn send(rig: &Rig, mut listener: Child) -> Vec<u32> {
    const SEND: &str = "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(100):
    for port in range(9000, 9010):
        s.sendto(b'x', ('10.99.0.2', port))
    time.sleep(0.002)
time.sleep(0.1)
s.sendto(b'x', ('10.99.0.2', 1))
";
    rig.on("lan", &format!("python3 -c \"{SEND}\""));
    let mut text = String::new();
    listener.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    listener.wait().unwrap();
    text.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

/// A hundred for each port but the denied ones.
fn all_but(denied: &[usize]) -> Vec<u32> {
    (0..10).map(|at| if denied.contains(&at) { 0 } else { 100 }).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

#[test]
fn what_a_firewall_denies_is_dropped_by_the_nic_and_no_worker_sees_it() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let mut rig = start(&files.denying("profile=any,queues=2", "", "9000-9002"));
    rig.on("lan", "ping -c 3 -i 0.1 10.99.0.2");
    rig.serve("wan", 80, &["python3", "-m", "http.server", "80"]);
    rig.on("lan", "curl -sS --max-time 5 -o /dev/null http://10.99.0.2/");
    let listener = listen(&rig);
    assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]));
    let told = nic(&rig, "lan");
    assert_eq!((number(&told["dropped"]), refused_by_worker(&rig)), (300, 0), "{told}");
    assert!(number(&told["verified"]) > 0 && number(&told["accepted"]) == 0, "{told}");
    assert!(
        told["rules"].as_array().unwrap().iter().any(|r| r["fate"] == "drop" && r["hits"] == 300)
    );
    let summary = rig.finish();
    assert!(summary.contains("it dropped 300 packets"), "{summary}");
    // With the NIC left alone the worker does it.
    let rig = start(&files.denying("profile=any,queues=2", ", offload: false", "9000-9002"));
    let listener = listen(&rig);
    assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]));
    assert_eq!(refused_by_worker(&rig), 300);
    rig.finish();
}

#[test]
fn a_reload_changes_what_the_nic_drops_at_once() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let lan = "profile=any,queues=2";
    let path = files.denying(lan, "", "9000-9002");
    let rig = start(&path);
    let mut dropped = 0;
    for (ports, denied) in
        [("9000-9002", [0, 1, 2]), ("9002-9004", [2, 3, 4]), ("9000-9002", [0, 1, 2])]
    {
        files.denying(lan, "", ports);
        assert!(rig.ask(&["reload"]).starts_with("reloaded "));
        let listener = listen(&rig);
        assert_eq!(send(&rig, listener), all_but(&denied), "{ports}");
        dropped += 300;
        assert_eq!((number(&nic(&rig, "lan")["dropped"]), refused_by_worker(&rig)), (dropped, 0));
    }
    files.write(lan, "", "chains: { through: { from: lan, to: wan } }\n");
    assert!(rig.ask(&["reload"]).starts_with("reloaded "));
    let listener = listen(&rig);
    assert_eq!(send(&rig, listener), all_but(&[]));
    rig.finish();
}

#[test]
fn every_kind_of_nic_gives_the_same_result_and_also_one_that_has_too_little_room() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    // More rules than some hold.
    let each = |port| format!("{{ deny: udp, dport: {port} }}, {{ deny: tcp, dport: {port} }}");
    let list: Vec<String> =
        [9000, 9003, 9007].into_iter().chain(20_000..20_100).map(each).collect();
    let rest = format!(
        "functions:\n  edge: {{ type: firewall, default: allow, rules: [ {} ] }}\n\
         chains: {{ through: {{ from: lan, through: [edge], to: wan }} }}\n",
        list.join(", ")
    );
    let mut by_nic = 0;
    for profile in
        ["any", "mlx5", "ice", "iavf", "i40e", "ixgbe", "igb", "bnxt", "cnxk", "tap", "virtio"]
    {
        let rig = start(&files.write(&format!("profile={profile},queues=2"), "", &rest));
        let listener = listen(&rig);
        assert_eq!(send(&rig, listener), all_but(&[0, 3, 7]), "{profile}");
        let told = nic(&rig, "lan");
        let emulated = number(&told["emulated"]["dropped"]);
        assert_eq!(emulated + refused_by_worker(&rig), 300, "{profile}: {told}");
        println!("{profile}: {} rules, {} dropped by it", told["verified"], emulated);
        by_nic += emulated;
        rig.finish();
    }
    assert!(by_nic > 300, "more than one of them did it");
}

#[test]
fn a_nic_that_does_not_do_what_it_says_is_found_and_the_traffic_is_right() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let said = "it was taken, but does not do what it says";
    let workers = "workers: { check-tags: 1 }\n";
    for (lie, why) in [
        ("mark", said),
        ("tag", said),
        ("match", said),
        ("wire-match", "it was taken, but packets of its class do not meet it"),
    ] {
        let lan = format!("profile=any,queues=2,lies={lie}");
        let rig = start(&files.write(&lan, "", &(workers.to_owned() + &denying("9000-9002"))));
        if lie.starts_with("wire") {
            assert!(number(&nic(&rig, "lan")["verified"]) > 0, "what it is shown it does");
            let listener = listen(&rig);
            assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]), "{lie}");
            rig.wait_until("it is found", || nic(&rig, "lan")["refused"][0][0] == why);
        }
        let told = nic(&rig, "lan");
        assert!(told["refused"][0][0] == why, "{lie}: {told}");
        let listener = listen(&rig);
        assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]), "{lie}");
        rig.finish();
    }
}

#[test]
fn a_wrong_tag_ends_the_trust_in_all_of_a_nic() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let lan = "profile=any,queues=2,lies=wire-tag";
    let rest = "workers: { check-tags: 1 }\n".to_owned() + &denying("9000-9002");
    let rig = start(&files.write(lan, "", &rest));
    let listener = listen(&rig);
    assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]));
    rig.wait_until("it is found", || nic(&rig, "lan")["stopped"].is_string());
    let told = nic(&rig, "lan");
    assert!(
        told["stopped"].as_str().unwrap().starts_with("it tagged a packet as of class "),
        "{told}"
    );
    assert_eq!((number(&told["verified"]), number(&told["accepted"])), (0, 0), "{told}");
    assert!(rig.log().contains("no rules are given to the NIC any more"));
    // It ends with an error in the log, which is what it is to do.
    drop(rig);
}
