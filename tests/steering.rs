//! NICs send each shard to the worker that owns it, also after it has moved: emulated NICs, with tables, in front of two
//! workers, and real hosts behind them. Where a device has no table, packets are handed over instead.

mod testkit;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::{BRIDGED, Driver, Rig, is_root, skip};

const CHAIN: &str = r#"
workers: { balance: false }
ports:
  lan: { device: "${LAN}", rx-descriptors: 4096 }
  wan: { device: "${WAN}", rx-descriptors: 4096 }
functions:
  edge: { type: firewall, stateful: true, rules: [ { allow: [ tcp, udp, icmp ] } ] }
chains:
  out: { from: lan, through: [ edge ], to: wan }
"#;

fn rig(driver: Driver) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let chain = folder.path().join("chain.yaml");
    std::fs::write(&chain, CHAIN).unwrap();
    let mut rig =
        Rig::start_on(chain.to_str().unwrap(), &BRIDGED, driver).expect("packet sockets are there");
    rig.wait_until("a ping passes", || rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    rig
}

/// What one run of iperf3 saw.
#[derive(Debug)]
struct Seen {
    retransmitted: u64,
    /// Segments that the receiver got before others.
    early: u64,
    bits_per_second: f64,
}

/// Segments that a host got out of order so far.
fn out_of_order(rig: &Rig, host: &str) -> u64 {
    let text = rig.on(host, "cat /proc/net/netstat");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "TCPOFOQueue").expect("the kernel counts it");
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

fn iperf(rig: &Rig, more: &str) -> Seen {
    let before = out_of_order(rig, "wan");
    let said = rig.on("lan", &format!("iperf3 -J -c 10.99.0.2 -b 40M {more}"));
    let sum: Value = serde_json::from_str::<Value>(&said).unwrap()["end"]["sum_sent"].clone();
    // The server takes the next client a moment later.
    std::thread::sleep(Duration::from_millis(300));
    Seen {
        retransmitted: sum["retransmits"].as_u64().expect("it tells"),
        early: out_of_order(rig, "wan") - before,
        bits_per_second: sum["bits_per_second"].as_f64().expect("it tells"),
    }
}

/// Of the packets received while iperf3 sends by several connections, the part that was handed over.
fn handed_over(rig: &Rig) -> f64 {
    let count = |metric| rig.counted(metric).values().sum::<u64>() as f64;
    let both = || [count("handed_over_packets"), count("received_packets")];
    let before = both();
    iperf(rig, "-t 2 -P 8 -b 4M");
    let after = both();
    (after[0] - before[0]) / (after[1] - before[1])
}

#[test]
fn a_tcp_stream_over_a_moving_shard_sees_no_retransmission() {
    if !is_root() {
        return skip("steering", "making namespaces needs root");
    }
    let rig = rig(Driver::EmulatedOfTwo);
    let shards = rig.ask(&["shards"]);
    for port in ["lan", "wan"] {
        let line = format!("table of port {port}: its 128 entries send each shard to its worker");
        assert!(shards.contains(&line), "{shards}");
    }
    // A machine that stops one of the two for long has TCP send again whatever happens here.
    let mut tries = Vec::new();
    for _ in 0..5 {
        let (talks, moves) = (AtomicBool::new(true), AtomicU32::new(0));
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                for to in ["0", "1"].iter().cycle() {
                    if !talks.load(Ordering::Relaxed) {
                        break;
                    }
                    rig.ask(&["move", "all", to]);
                    moves.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let seen = iperf(&rig, "-t 4");
            talks.store(false, Ordering::Relaxed);
            seen
        });
        let moves = moves.into_inner();
        println!("the stream's shard moved {moves} times: {seen:?}");
        assert!(moves >= 10 && seen.bits_per_second > 10e6, "{moves} moves: {seen:?}");
        tries.push(seen);
        if tries.last().is_some_and(|seen| seen.retransmitted + seen.early == 0) {
            break;
        }
    }
    assert!(tries.iter().any(|seen| seen.retransmitted + seen.early == 0), "{tries:?}");

    // Whoever owns the shards is who receives them.
    for worker in ["0", "1"] {
        rig.ask(&["move", "all", worker]);
        let handed = handed_over(&rig);
        println!(
            "all shards are worker {worker}'s: {:.1} % of packets are handed over",
            100.0 * handed
        );
        assert!(handed < 0.01, "{handed}");
    }
    println!("{}", rig.finish());
}

/// The control: without a table the other worker goes on receiving, and hands over.
#[test]
fn where_a_device_has_no_table_packets_are_handed_over_and_shards_say_so() {
    if !is_root() {
        return skip("steering", "making namespaces needs root");
    }
    let rig = rig(Driver::AfPacketOfTwo);
    let shards = rig.ask(&["shards"]);
    let line = "table of port lan: does not follow: the device has no table that could be read";
    assert!(shards.contains(line), "{shards}");
    rig.ask(&["move", "all", "1"]);
    let handed = handed_over(&rig);
    println!("all shards are worker 1's: {:.1} % of packets are handed over", 100.0 * handed);
    assert!(handed > 0.1, "{handed}");
    rig.finish();
}
