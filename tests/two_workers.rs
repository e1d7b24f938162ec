//! Two workers behind a device that spreads packets otherwise than flows are: each packet comes to the worker that its
//! flow is of, whoever received it, and what hosts see is what they see of one worker.

mod testkit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nfv_core::packet::checksum::Sum;
use testkit::packets::{Udp, read_capture, write_capture};
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

/// Packets that one worker received and another took.
fn handed_over(rig: &Rig) -> u64 {
    rig.counted("handed_over_packets").values().sum()
}

/// No packet was dropped for what is known of its flow, but on a machine that is loaded: where a worker that the kernel
/// did not let run got too many, or where its queue was full, and the kernel had the other one overtake it. What is so
/// late as to come to the end of its connection is answered by resets, which are out of order themselves.
fn assert_no_flow_is_lost(rig: &Rig) {
    let mut drops = rig.counted("dropped_packets");
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

/// A UDP datagram of flow `n`, with an identification.
fn datagram(n: u16, id: u16) -> Vec<u8> {
    let mut frame = Udp { payload: 64, ..Udp::to([10, 2, 0, 2], 9) }.frame();
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[34..36].copy_from_slice(&(1000 + n).to_be_bytes());
    frame[40..42].fill(0);
    with_header_sum(frame)
}

/// The first 32 bytes of a datagram, or the rest.
fn fragment(whole: &[u8], part: usize) -> Vec<u8> {
    let (field, bytes) = [(0x2000u16, &whole[34..66]), (4, &whole[66..])][part];
    let mut frame = whole[..34].to_vec();
    frame[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame.extend(bytes);
    with_header_sum(frame)
}

fn with_header_sum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let sum = Sum::of(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What leaves by each queue, and so from each worker, of what a port with two queues receives; and the run's summary.
fn through_two_queues(received: [Vec<Vec<u8>>; 2]) -> ([Vec<Vec<u8>>; 2], String) {
    let _alone = testkit::alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, queue: usize| folder.path().join(format!("{name}{queue}.pcap"));
    for (queue, frames) in received.into_iter().enumerate() {
        write_capture(&path("in", queue), frames.into_iter().map(|f| (0, f)));
        write_capture(&path("none", queue), []);
    }
    let device = |name: &str, from: &str, to: &str| {
        let queues = (0..2).map(|queue| {
            format!(
                ",rx_pcap={},tx_pcap={}",
                path(from, queue).display(),
                path(to, queue).display()
            )
        });
        format!("{name}{}", queues.collect::<String>())
    };
    let chain = folder.path().join("chain.yaml");
    // What has no ports meets no rule: a later fragment passes by its flow, or not at all.
    let text = "ports: { lan: \"${LAN}\", wan: \"${WAN}\" }\n\
                functions: { edge: { type: firewall, stateful: true, rules: [ { allow: udp, dport: 9 } ] } }\n\
                chains: { out: { from: lan, through: [ edge ], to: wan } }\n";
    std::fs::write(&chain, text).unwrap();
    let output = std::process::Command::new(testkit::NFV)
        .args(["run", "--no-pci", "--no-huge", "-m", "512", "--lcores", "0@0,1@0,2@1", "--"])
        .arg(&chain)
        .args(["--duration", "4", "--control"])
        .arg(folder.path().join("nfv.sock"))
        .env("LAN", device("net_pcap0", "in", "back"))
        .env("WAN", device("net_pcap1", "none", "out"))
        .output()
        .expect("nfv starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let sent = [0, 1].map(|queue| {
        read_capture(&path("out", queue)).into_iter().map(|(_, frame)| frame).collect()
    });
    (sent, text(&output.stdout))
}

/// First fragments come in by one queue and later ones by the other, by turns; of each flow a whole datagram by each queue.
fn spread(flows: u16, leave_out_first: bool) -> [Vec<Vec<u8>>; 2] {
    let mut queues = [Vec::new(), Vec::new()];
    for n in 0..flows {
        let cut = datagram(n, 3 * n);
        for part in [0, 1].into_iter().filter(|part| *part == 1 || !leave_out_first) {
            queues[(part + usize::from(n / 2)) % 2].push(fragment(&cut, part));
        }
        for (queue, id) in [3 * n + 1, 3 * n + 2].into_iter().enumerate() {
            queues[queue].push(datagram(n, id));
        }
    }
    queues
}

#[test]
fn fragments_that_come_by_different_queues_leave_with_their_flow_from_its_worker() {
    const FLOWS: u16 = 64;
    let received = spread(FLOWS, false);
    let (sent, summary) = through_two_queues(received.clone());
    let sorted = |queues: &[Vec<Vec<u8>>; 2]| {
        let mut all = queues.concat();
        all.sort();
        all
    };
    assert_eq!(sorted(&sent), sorted(&received), "each passes once, as it was:\n{summary}");
    let id = |frame: &[u8]| u16::from_be_bytes([frame[18], frame[19]]);
    let mut flows = [0, 0];
    for n in 0..FLOWS {
        let of = |queue: &Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            queue.iter().filter(|frame| id(frame) / 3 == n).cloned().collect()
        };
        let own = [of(&sent[0]), of(&sent[1])];
        let worker = usize::from(own[0].is_empty());
        flows[worker] += 1;
        assert_eq!(own[worker].len(), 4, "flow {n} is one worker's, with its fragments: {own:?}");
        let cut: Vec<_> = own[worker].iter().filter(|frame| id(frame) == 3 * n).collect();
        let parts = [0, 1].map(|part| fragment(&datagram(n, 3 * n), part));
        assert_eq!(cut, [&parts[0], &parts[1]], "the first one before the other");
    }
    assert!(flows.iter().all(|n| *n > 10), "both workers have some: {flows:?}");

    // The control: without first ones, the others have no flow.
    let (sent, summary) = through_two_queues(spread(FLOWS, true));
    assert_eq!(sent.concat().len(), usize::from(2 * FLOWS), "{summary}");
    assert!(summary.contains("flow fragment_too_late"), "{summary}");
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
