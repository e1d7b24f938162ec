//! Two workers behind a device that spreads packets otherwise than flows are: each packet comes to the worker that its
//! flow is of, whoever received it, and what hosts see is what they see of one worker.

mod testkit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;
use testkit::{Driver, ROUTED, Rig, is_root, must, skip};

const CHAIN: &str = "tests/data/two-workers.yaml";

/// A rig that carries pings, with a server host of two addresses.
fn rig(driver: Driver) -> Rig {
    let rig = Rig::start_on(CHAIN, &ROUTED, driver).expect("packet sockets are there");
    rig.on("wan", "ip addr add 10.2.0.3/24 dev eth0");
    for to in ["10.2.0.2", "10.2.0.3", "fd00:2::2"] {
        rig.wait_until("the chain carries a ping", || {
            rig.succeeds("lan", &format!("ping -c1 -W1 {to}"))
        });
    }
    rig
}

/// What the run has counted so far under a metric, both workers together: by the values of its labels.
fn counted(rig: &Rig, metric: &str) -> BTreeMap<String, u64> {
    let stats: Value = serde_json::from_str(&rig.ask(&["stats", "--json"])).unwrap();
    let counters = stats["counters"].as_array().unwrap().iter();
    let labels = |c: &Value| -> String {
        let all = c["labels"].as_array().unwrap().iter();
        all.filter_map(|l| l[1].as_str()).collect::<Vec<_>>().join(" ")
    };
    let value = |c: &Value| (labels(c), c["value"].as_u64().unwrap());
    counters.filter(|c| c["metric"] == metric).map(value).collect()
}

/// Packets that one worker received and another took.
fn handed_over(rig: &Rig) -> u64 {
    counted(rig, "handed_over_packets").values().sum()
}

/// No packet was dropped for what is known of its flow, but on a machine that is loaded: where a worker that the kernel
/// did not let run got too many, or where its queue was full, and the kernel had the other one overtake it. What is so
/// late as to come to the end of its connection is answered by resets, which are out of order themselves.
fn assert_no_flow_is_lost(rig: &Rig) {
    let mut drops = counted(rig, "dropped_packets");
    let of_load = ["flow inbox_full", "flow tcp_bad_reset"];
    drops.retain(|why, n| *n > 0 && why.starts_with("flow ") && !of_load.contains(&&**why));
    assert_eq!(drops, BTreeMap::new());
}

/// Pings, and opens connections all at once to the balancer's backends; each is to echo its own bytes.
fn load(rig: &mut Rig, connections: u32) {
    for to in ["10.2.0.2", "10.2.0.3", "fd00:2::2"] {
        rig.on("lan", &format!("ping -c 10 -i 0.05 -W 5 {to}"));
    }
    rig.serve("wan", 90, &["python3", "tests/testkit/many.py", "serve", "0.0.0.0", "90"]);
    let many = format!("python3 tests/testkit/many.py connect 192.0.2.80 90 {connections}");
    let expected = format!("{connections} connections, each echoed its own bytes");
    assert_eq!(rig.on("lan", &many).trim(), expected);
}

#[test]
fn what_another_worker_received_is_handed_over_and_hosts_see_nothing_of_it() {
    if !is_root() {
        return skip("two_workers", "making namespaces needs root");
    }
    let mut rig = rig(Driver::AfPacketOfTwo);
    load(&mut rig, 1000);

    // Flows of one inside end are of both workers; it has one outside end all the same.
    for server in ["10.2.0.2", "10.2.0.3"] {
        rig.serve("wan", 7, &["python3", "tests/nat_peer.py", "serve", server, "7"]);
    }
    for port in 5000..5010 {
        let line = format!("ask udp 10.1.0.2 {port} 10.2.0.2 7 10.2.0.3 7 10.2.0.2 7");
        let seen = rig.on("lan", &format!("python3 tests/nat_peer.py {line}"));
        let lines: Vec<&str> = seen.lines().collect();
        assert!(lines[0].starts_with("198.51.100.1"), "{lines:?}");
        assert_eq!(lines, [lines[0]; 3]);
    }

    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().display().to_string();
    must(&format!("head -c 10000000 /dev/urandom > {web}/file"));
    let words = ["python3", "-m", "http.server", "--directory", &web, "80"];
    rig.serve("wan", 80, &words);
    let sent = must(&format!("sha256sum < {web}/file"));
    for from in ["192.0.2.80", "10.2.0.3"] {
        let line = format!("curl -sS --max-time 60 http://{from}/file | sha256sum");
        assert_eq!(rig.on("lan", &line), sent, "the file arrives from {from} as it was sent");
    }
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    rig.iperf("lan", "10.2.0.2");

    let handed = handed_over(&rig);
    println!("{handed} packets were handed over");
    assert!(handed > 1000, "control: the way between workers was taken: {handed}");
    assert_no_flow_is_lost(&rig);
    println!("{}", rig.finish());
}

#[test]
fn connections_go_on_while_their_shards_move_from_worker_to_worker() {
    if !is_root() {
        return skip("two_workers", "making namespaces needs root");
    }
    let mut rig = rig(Driver::AfPacketOfTwo);
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().display().to_string();
    must(&format!("head -c 20000000 /dev/urandom > {web}/file"));
    let sent = must(&format!("sha256sum < {web}/file"));
    rig.serve("wan", 80, &["python3", "-m", "http.server", "--directory", &web, "80"]);
    rig.serve("wan", 90, &["python3", "tests/testkit/many.py", "serve", "0.0.0.0", "90"]);
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    let (talks, rounds) = (AtomicBool::new(true), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while talks.load(Ordering::Relaxed) {
                for way in [["move", "0-63", "1"], ["move", "all", "0"], ["move", "40-127", "1"]] {
                    rig.ask(&way);
                }
                rig.ask(&["drain", "0"]);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let many = "python3 tests/testkit/many.py connect 192.0.2.80 90 300";
        assert!(rig.on("lan", many).starts_with("300 connections, each echoed its own bytes"));
        for from in ["192.0.2.80", "10.2.0.3"] {
            let line = format!("curl -sS --max-time 60 http://{from}/file | sha256sum");
            assert_eq!(rig.on("lan", &line), sent, "the file arrives from {from} as it was sent");
        }
        rig.iperf("lan", "10.2.0.2");
        talks.store(false, Ordering::Relaxed);
    });
    let (rounds, shards) = (rounds.into_inner(), rig.ask(&["shards"]));
    println!("{rounds} rounds of moves\n{shards}");
    assert!(rounds >= 2, "each is of hundreds of moves");
    assert!(shards.contains(" % busy, 0 shards, 0 flows: none\nworker 1: "), "{shards}");
    assert!(shards.contains(" % busy, 128 shards, ") && shards.contains(" flows: 0-127"));
    assert_no_flow_is_lost(&rig);
    println!("{}", rig.finish());
}

/// The control: where a worker is alone nothing is handed over, whatever the load.
#[test]
fn one_worker_hands_nothing_over() {
    if !is_root() {
        return skip("two_workers", "making namespaces needs root");
    }
    let mut rig = rig(Driver::AfPacket);
    load(&mut rig, 100);
    assert_eq!(handed_over(&rig), 0);
    assert_no_flow_is_lost(&rig);
    rig.finish();
}
