//! The NIC's part of the work: emulated NICs between real hosts.
//!
//! `lan` sends datagrams to ports of which some are denied, `wan` counts what arrives. What the NIC drops is in its count,
//! and in no worker's.

mod testkit;

use std::io::Read;
use std::path::PathBuf;
use std::process::Child;

use serde_json::Value;
use testkit::{BRIDGED, Driver, Rig, is_root, skip};

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

/// More classes than a NIC has room for: those of the traffic are the last.
#[test]
fn a_reload_gives_the_room_to_the_classes_that_have_the_traffic() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let few: String =
        (0..200).map(|at| format!("{{ deny: udp, dport: {} }}, ", 10_000 + at)).collect();
    let all =
        few + "{ deny: udp, dport: 9000 }, { deny: udp, dport: 9001 }, { deny: udp, dport: 9002 }";
    for (check, is_counted) in [(1, true), (0, false)] {
        let rest = format!(
            "workers: {{ check-tags: {check} }}\n\
             functions: {{ edge: {{ type: firewall, default: allow, rules: [ {all} ] }} }}\n\
             chains: {{ through: {{ from: lan, through: [edge], to: wan }} }}\n"
        );
        let path = files.write("profile=iavf,queues=2", "", &rest);
        let rig = start(&path);
        let listener = listen(&rig);
        assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]));
        let before = nic(&rig, "lan");
        assert!(number(&before["verified"]) > 100, "{before}");
        assert_eq!((number(&before["dropped"]), refused_by_worker(&rig)), (0, 300));
        // What a run has counted is what a plan goes by.
        let config = path.to_str().unwrap();
        let socket = rig.socket();
        let plan = std::process::Command::new(env!("CARGO_BIN_EXE_nfv"))
            .args(["plan", config, "--nic", "iavf", "--json", "--control", &socket])
            .envs([("LAN", "net_null0"), ("WAN", "net_null1")])
            .output()
            .unwrap();
        assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        let port = &plan["ports"][0];
        assert_eq!(port["shares"], if is_counted { "counted" } else { "guessed" });
        let last = port["classes"].as_array().unwrap().iter().rev().take(3);
        let share: f64 = last.map(|class| class["share"].as_f64().unwrap()).sum();
        assert_eq!(share > 0.3, is_counted, "{share}");
        rig.ask(&["reload"]);
        let listener = listen(&rig);
        assert_eq!(send(&rig, listener), all_but(&[0, 1, 2]));
        let after = nic(&rig, "lan");
        let expected = if is_counted { (300, 300) } else { (0, 600) };
        assert_eq!((number(&after["dropped"]), refused_by_worker(&rig)), expected, "{after}");
        let pace = &after["rules_per_second"];
        assert!(pace["given"].as_f64().unwrap() > 0.0, "{pace}");
        rig.finish();
    }
}

#[test]
fn how_a_nic_spreads_flows_that_does_not_tell_is_measured() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    const FLOWS: &str = "
import socket
for port in range(20000, 20600):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('10.99.0.1', port))
    s.sendto(b'x', ('10.99.0.2', 9))
    s.close()
";
    let files = Files::new();
    let rest = "workers: { balance: false }\n\
        functions: { edge: { type: firewall, stateful: true, rules: [ { allow: any } ] } }\n\
        chains: { through: { from: lan, through: [edge], to: wan } }\n";
    let other = "by another hash";
    for (profile, key, measured) in
        [("vmxnet3", "measured", other), ("ena", "measured", other), ("mlx5", "set", "")]
    {
        let path = files.write(&format!("profile={profile},queues=2"), "", rest);
        let driver = Driver::WireOfTwo;
        let rig = Rig::start_on(path.to_str().unwrap(), &BRIDGED, driver).unwrap();
        rig.wait_until("the chain carries a ping", || {
            rig.succeeds("lan", "ping -c1 -W1 10.99.0.2")
        });
        let hash = || nic(&rig, "lan")["hash"].clone();
        let few = if measured.is_empty() { Value::Null } else { "too few flows came yet".into() };
        assert_eq!((hash()["key"].as_str(), &hash()["measured"]), (Some(key), &few), "{profile}");
        rig.on("lan", &format!("python3 -c \"{FLOWS}\""));
        rig.wait_until("its hash is known", || {
            hash()["measured"].as_str().unwrap_or_default().starts_with(measured)
        });
        let told = hash();
        let shards = rig.ask(&["shards"]);
        assert_eq!(
            shards.contains("; measured: by another hash"),
            !measured.is_empty(),
            "{shards}"
        );
        let page = rig.ask(&["offload"]);
        assert_eq!(page.contains("hash: key measured"), !measured.is_empty(), "{page}");
        let handed: u64 = rig.counted("handed_over_packets").values().sum();
        println!("{profile}: {told}, {handed} handed over");
        assert_eq!(handed > 100, !measured.is_empty(), "{profile}: what is measured is so");
        rig.finish();
    }
}

/// Rules of some NICs spread packets by a list of queues of their own, which is not the port's table.
#[test]
fn rules_that_spread_packets_follow_shards_that_move() {
    if !is_root() {
        return skip("offload", "making namespaces needs root");
    }
    let files = Files::new();
    let rest = "workers: { balance: false }\n\
        functions: { edge: { type: firewall, stateful: true, rules: [ { allow: any } ] } }\n\
        chains:\n  \
          data: { from: lan, match: { protocol: udp, dport: 9000-9009 }, through: [edge], to: wan }\n  \
          rest: { from: lan, through: [edge], to: wan }\n";
    let mut handed = Vec::new();
    // cnxk cannot change a rule where it is: the control.
    for profile in ["mlx5", "cnxk"] {
        let path = files.write(&format!("profile={profile},queues=2"), "", rest);
        let driver = Driver::WireOfTwo;
        let rig = Rig::start_on(path.to_str().unwrap(), &BRIDGED, driver).unwrap();
        rig.wait_until("the chain carries a ping", || {
            rig.succeeds("lan", "ping -c1 -W1 10.99.0.2")
        });
        let of = |rig: &Rig| rig.counted("handed_over_packets").values().sum::<u64>();
        let mut before = of(&rig);
        let mut counted = Vec::new();
        for drained in [None, Some("1"), Some("0")] {
            if let Some(worker) = drained {
                rig.ask(&["drain", worker]);
            }
            let listener = listen(&rig);
            assert_eq!(send(&rig, listener), all_but(&[]), "{profile}");
            let now = of(&rig);
            counted.push(now - before);
            before = now;
        }
        let told = nic(&rig, "lan");
        let hits = told["rules"].as_array().unwrap().iter().filter(|r| r["fate"] == "rss");
        let hits: u64 = hits.filter_map(|r| r["hits"].as_u64()).sum();
        assert!(hits >= 3000, "they were tagged: {told}");
        println!(
            "{profile}: {counted:?} of 1,000 handed over, with all in place, worker 1 and worker 0 drained"
        );
        handed.push(counted);
        rig.finish();
    }
    let [follows, stays] = handed.as_slice() else { panic!("two") };
    assert!(follows.iter().all(|n| *n < 20), "{follows:?}");
    assert!(stays[0] < 20 && stays[1] > 100 && stays[2] > 100, "{stays:?}");
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
