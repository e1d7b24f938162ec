//! chains/nat.yaml between real hosts: what servers see, what comes in, and what happens when ports run out.

mod testkit;

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::{NFV, ROUTED, Rig, is_root, must, skip};

const PEER: &str = "python3 tests/nat_peer.py";

/// A rig in which the NAT carries pings. Inside are 10.1.0.2, .3 and .20; outside is a server on 10.2.0.2 and .3.
fn rig(chain: &str) -> Rig {
    let mut rig = Rig::start_with(chain, &ROUTED);
    for address in ["10.1.0.3/24", "10.1.0.20/24"] {
        rig.on("lan", &format!("ip addr add {address} dev eth0"));
    }
    rig.on("wan", "ip addr add 10.2.0.3/24 dev eth0");
    // Each once, so that the box knows all its neighbours.
    for (from, to) in [
        ("10.1.0.2", "10.2.0.2"),
        ("10.1.0.3", "10.2.0.3"),
        ("10.1.0.20", "10.2.0.2"),
        ("fd00:1::2", "fd00:2::2"),
    ] {
        rig.wait_until("the chain carries a ping", || {
            rig.succeeds("lan", &format!("ping -c1 -W1 -I {from} {to}"))
        });
    }
    for (address, port) in [("10.2.0.2", "7"), ("10.2.0.3", "7"), ("::", "8")] {
        let words = ["python3", "tests/nat_peer.py", "serve", address, port];
        rig.serve("wan", port.parse().unwrap(), &words);
    }
    rig.serve("lan", 8080, &["python3", "tests/nat_peer.py", "serve", "0.0.0.0", "8080"]);
    rig
}

/// chains/nat.yaml with some of its text replaced.
fn changed(changes: &[(&str, &str)]) -> (TempDir, String) {
    changed_from("chains/nat.yaml", changes)
}

fn changed_from(chain: &str, changes: &[(&str, &str)]) -> (TempDir, String) {
    let mut text = std::fs::read_to_string(chain).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is in the chain file");
        text = text.replace(from, to);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nat.yaml");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

/// What servers answer who are asked from one port, one after the other.
fn asked(rig: &Rig, host: &str, protocol: &str, from: &str, servers: &str) -> Vec<String> {
    let printed = rig.on(host, &format!("{PEER} ask {protocol} {from} {servers}"));
    printed.lines().map(str::to_owned).collect()
}

fn is_pooled(seen: &str) -> bool {
    seen.starts_with("198.51.100.10 ") || seen.starts_with("198.51.100.11 ")
}

#[test]
fn servers_see_one_outside_end_of_an_inside_end_whichever_they_are() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let mut rig = rig("chains/nat.yaml");
    rig.on("lan", "ping -c 3 -i 0.2 10.2.0.2");
    for protocol in ["tcp", "udp"] {
        let seen = asked(&rig, "lan", protocol, "10.1.0.2 5000", "10.2.0.2 7 10.2.0.3 7");
        assert!(is_pooled(&seen[0]), "{protocol}: {seen:?}");
        assert_eq!(seen[0], seen[1], "{protocol}: another server sees the same end");
    }
    // One source port of two hosts: each has its own answers.
    let one = asked(&rig, "lan", "udp", "10.1.0.2 6000", "10.2.0.2 7");
    let other = asked(&rig, "lan", "udp", "10.1.0.3 6000", "10.2.0.2 7");
    assert!(is_pooled(&one[0]) && is_pooled(&other[0]) && one != other, "{one:?} {other:?}");

    let mapped = asked(&rig, "lan", "udp", "10.1.0.20 7000", "10.2.0.2 7");
    assert_eq!(mapped, ["198.51.100.20 7000"], "one to one");
    let mapped = asked(&rig, "lan", "udp", "fd00:1::2 7000", "fd00:2::2 8");
    assert!(mapped[0].starts_with("2001:db8:1:") && mapped[0].ends_with("::2 7000"), "{mapped:?}");

    let trace = rig.on("lan", "traceroute -n -q 1 -w 2 -I 10.2.0.2");
    let hops: Vec<&str> =
        trace.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(hops, ["10.1.0.1", "10.2.0.2"], "the box is seen on the way:\n{trace}");

    rig.serve("wan", 5201, &["iperf3", "-s"]);
    rig.iperf("lan", "10.2.0.2");
    rig.serve("wan", 90, &["python3", "tests/testkit/many.py", "serve", "10.2.0.2", "90"]);
    let printed = rig.on("lan", "python3 tests/testkit/many.py connect 10.2.0.2 90 1000");
    assert_eq!(printed.trim(), "1000 connections, each echoed its own bytes");
    rig.finish();
}

#[test]
fn without_a_nat_servers_see_the_inside_and_answer_where_it_is() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let (_folder, chain) = changed(&[
        ("[ edge, nat, router ]", "[ edge, router ]"),
        ("[ nat, inbound,", "[ inbound,"),
    ]);
    let rig = rig(&chain);
    let seen = asked(&rig, "lan", "tcp", "10.1.0.2 5000", "10.2.0.2 7");
    assert_eq!(seen, ["10.1.0.2 5000"], "control");
    let outside = asked(&rig, "wan", "tcp", "10.2.0.2 5000", "198.51.100.10 80");
    assert!(["silence", "refused"].contains(&outside[0].as_str()), "control: {outside:?}");
    rig.finish();
}

#[test]
fn what_is_forwarded_is_reached_from_outside_and_from_inside_and_nothing_else_is() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let rig = rig("chains/nat.yaml");
    let seen = asked(&rig, "wan", "tcp", "10.2.0.3 5000", "198.51.100.10 80");
    assert_eq!(seen, ["10.2.0.3 5000"], "the server inside sees who asks");
    for (server, why) in [
        ("198.51.100.10 81", "a port that is not forwarded"),
        ("198.51.100.11 80", "another address of the pool"),
        ("10.1.0.2 8080", "the inside address is not reached from outside"),
    ] {
        let answer = asked(&rig, "wan", "tcp", "10.2.0.3 5001", server);
        assert_eq!(answer, ["silence"], "{why}");
    }
    rig.on("wan", "ping -c 2 -i 0.2 198.51.100.20");

    // A hairpin: from inside to the outside end of an inside server, which sees an outside source.
    let seen = asked(&rig, "lan", "tcp", "10.1.0.3 5000", "198.51.100.10 80");
    assert!(is_pooled(&seen[0]), "{seen:?}");
    rig.on("lan", "ping -c 2 -i 0.2 -I 10.1.0.3 198.51.100.20");
    let summary = rig.finish();
    assert!(summary.contains("nat no_mapping"), "{summary}");
}

#[test]
fn hairpins_can_be_turned_off() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let (_folder, chain) = changed(&[("    type: nat\n", "    type: nat\n    hairpin: off\n")]);
    let rig = rig(&chain);
    let seen = asked(&rig, "lan", "tcp", "10.1.0.3 5000", "198.51.100.10 80");
    assert_eq!(seen, ["silence"]);
    rig.finish();
}

#[test]
fn a_stranger_reaches_a_mapping_as_filtering_says() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    // Whether who was asked may send from another port, and whether a stranger may send.
    for (filtering, peer, stranger) in [
        ("endpoint-independent", true, true),
        ("address-dependent", true, false),
        ("address-and-port", false, false),
    ] {
        let key = format!("    type: nat\n    filtering: {filtering}\n");
        let open = ("- { allow: tcp, dst: 10.1.0.2, dport: 8080 }", "- { allow: [ tcp, udp ] }");
        let (_folder, chain) = changed(&[("    type: nat\n", &key), open]);
        let rig = rig(&chain);
        for (from, let_in) in [("10.2.0.2", peer), ("10.2.0.3", stranger)] {
            let waits = Command::new("ip")
                .args(["netns", "exec", &rig.namespace("lan")])
                .args(["python3", "-u", "tests/nat_peer.py"])
                .args(["wait", "10.1.0.2", "9000", "10.2.0.2", "7"])
                .stdout(std::process::Stdio::piped())
                .spawn();
            let mut waits = waits.unwrap();
            let mut lines = {
                use std::io::BufRead;
                std::io::BufReader::new(waits.stdout.take().unwrap()).lines()
            };
            let outside = lines.next().unwrap().unwrap();
            assert!(is_pooled(&outside), "{outside}");
            let answer = asked(&rig, "wan", "udp", &format!("{from} 9999"), &outside);
            assert_eq!(answer[0] == "!", let_in, "{filtering}, {from}: {answer:?}");
            let _ = waits.kill();
            let _ = waits.wait();
        }
        let summary = rig.finish();
        assert_eq!(summary.contains("nat filtered"), !(peer && stranger), "{summary}");
    }
}

#[test]
fn a_pool_that_is_used_up_says_so_to_who_asks_and_its_ports_come_back() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let (_folder, chain) = changed(&[
        ("    type: nat\n", "    type: nat\n    ports: 2000-2127\n"),
        ("chains:\n", "flows: { udp: 3s, udp-unreplied: 3s }\n\nchains:\n"),
    ]);
    let rig = rig(&chain);
    let ask = || {
        let printed = rig.on("lan", &format!("{PEER} many 10.2.0.2 7 300"));
        let mut numbers = printed.split_whitespace().map(|n| n.parse::<u32>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    let (answered, refused) = ask();
    println!("{answered} answered, {refused} refused");
    assert!((1..=128).contains(&answered), "{answered}");
    assert!(refused > 100, "{refused}: who sends is told, by ICMP");
    // Flows end, ports come back: as many are answered as before, from other ports.
    std::thread::sleep(Duration::from_secs(5));
    let (again, _) = ask();
    assert!(again > answered / 2, "{again} after {answered}");
    let summary = rig.finish();
    assert!(summary.contains("nat pool_exhausted"), "{summary}");
}

#[test]
fn a_subscriber_gets_ranges_of_ports_which_are_logged_once_each() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let (_folder, chain) = changed_from(
        "chains/nat-carrier.yaml",
        &[
            ("${NAT_LOG:-/tmp/nfv-nat.log}", log.path().to_str().unwrap()),
            ("subscriber-ports: 512", "subscriber-ports: 256"),
            ("subscriber-ranges: 4", "subscriber-ranges: 2"),
            ("chains:\n", "flows: { udp: 6s, udp-unreplied: 6s, icmp: 3s }\n\nchains:\n"),
        ],
    );
    let rig = rig(&chain);
    // So that what came before has ended.
    std::thread::sleep(Duration::from_secs(6));
    let before = std::fs::read_to_string(log.path()).unwrap().lines().count();
    let printed = rig.on("lan", &format!("{PEER} many 10.2.0.2 7 600"));
    let answered: u32 = printed.split_whitespace().next().unwrap().parse().unwrap();
    assert!((200..=512).contains(&answered), "{answered} answered, of two ranges of 256");
    assert_eq!(rig.ask(&["get", "nat.ranges"]).trim(), "2");
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines().skip(before).map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let of = |event: &str| lines().iter().filter(|l| l["event"] == event).count();
    rig.wait_until("the ranges are logged", || of("given") == 2);
    assert!(lines().iter().all(|l| l["subscriber"] == "10.1.0.2"), "{:?}", lines());
    rig.wait_until("the ranges come back", || of("came_back") == 2);
    assert_eq!(rig.ask(&["get", "nat.ranges"]).trim(), "0");
    assert_eq!(rig.ask(&["get", "nat.mappings"]).trim(), "0");
    assert_eq!(rig.ask(&["get", "nat.log_lost"]).trim(), "0");
    let summary = rig.finish();
    assert!(summary.contains("nat subscriber_limit"), "{summary}");
}

#[test]
fn a_reload_that_changes_the_pool_breaks_no_connection_and_moves_no_mapping() {
    if !is_root() {
        return skip("nat", "making namespaces needs root");
    }
    let mut rig = rig("chains/nat.yaml");
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    let seen = asked(&rig, "lan", "udp", "10.1.0.2 5000", "10.2.0.2 7");
    let iperf = rig.begin("lan", &["iperf3", "-c", "10.2.0.2", "-t", "6"]);
    for pool in
        ["198.51.100.10-198.51.100.17", "198.51.100.8-198.51.100.11", "198.51.100.10-198.51.100.12"]
    {
        std::thread::sleep(Duration::from_secs(1));
        let pool = ("external: 198.51.100.10-198.51.100.11", &*format!("external: {pool}"));
        let (_folder, chain) =
            changed(&[pool, ("    internal: 10.1", "    pooling: arbitrary\n    internal: 10.1")]);
        rig.ask(&["reload", &chain]);
        let again = asked(&rig, "lan", "udp", "10.1.0.2 5000", "10.2.0.2 7 10.2.0.3 7");
        assert_eq!(again, [&*seen[0], &*seen[0]], "after {pool:?}");
    }
    let ended = iperf.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    rig.finish();
}

#[test]
fn what_cannot_be_translated_so_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nat.yaml");
    let cases = [
        ("external: 10.0.0.1", "10.0.0.1 is in an internal prefix"),
        ("external: [192.0.2.1, 192.0.2.0/30]", "192.0.2.0-192.0.2.3 overlaps the pool of a nat"),
        ("external: 192.0.0.0/16", "a pool of 65536 addresses is too large"),
        ("external: 192.0.2.9", "192.0.2.9 is an address of the box itself"),
        ("external: 192.0.2.1, ports: 0-1023", "`ports` has port 0"),
        ("external: 192.0.2.1, ports: 9-8", "`ports`: `9-8` is not a port or a range of ports"),
        (
            "external: 192.0.2.1, internal: \"fd00::/8\"",
            "an IPv6 prefix is not translated by ports",
        ),
        ("hairpin: off", "a nat that translates nothing"),
        (
            "external: 192.0.2.1, forwards: [ {port: 80, to: 198.51.100.1} ]",
            "198.51.100.1 is not in an internal prefix",
        ),
        (
            "external: 192.0.2.1, forwards: [ {port: 80, to: 10.0.0.1}, {port: 79-81, to: 10.0.0.2} ]",
            "port 80 is forwarded already",
        ),
        (
            "external: 192.0.2.1, forwards: [ {port: 80-90, to: 10.0.0.1, to-port: 65530} ]",
            "the inside ports would end behind 65535",
        ),
        ("forwards: [ {port: 80, to: 10.0.0.1} ]", "a forward without an outside address"),
        ("forwards: [ {port: 80, to: \"fd00::1\"} ]", "a port is forwarded to an IPv4 address"),
        (
            "external: 192.0.2.1, one-to-one: [ {external: 192.0.2.1, internal: 10.0.0.1} ]",
            "192.0.2.1 is in the pool",
        ),
        (
            "one-to-one: [ {external: 192.0.2.0/30, internal: 10.0.0.1} ]",
            "4 outside addresses for 1 inside ones",
        ),
        (
            "one-to-one: [ {external: 192.0.2.1, internal: 198.51.100.1} ]",
            "198.51.100.1 is not in an internal prefix",
        ),
        (
            "one-to-one: [ {external: 192.0.2.1, internal: 10.0.0.1}, {external: 192.0.2.2, internal: 10.0.0.1} ]",
            "10.0.0.1 has an outside address already",
        ),
        ("external: 192.0.2.1, deterministic: true", "`deterministic` without `subscriber-ports`"),
        ("external: 192.0.2.1, subscriber-ports: 1000", "1000 is no power of two"),
        ("external: 192.0.2.1, subscriber-ports: 64", "`subscriber-ports`: 64 is out of range"),
        (
            "external: 192.0.2.1, ports: 2049-5000, subscriber-ports: 2048",
            "`ports` has no whole range of 2048",
        ),
        (
            "external: 192.0.2.1, internal: 10.0.0.0/24, subscriber-ports: 1024, deterministic: true",
            "256 inside addresses, and room for 63",
        ),
        (
            "prefixes: [ {internal: \"fd00::/48\", external: \"2001:db8::/56\"} ]",
            "a prefix of 56 bits for one of 48",
        ),
        (
            "prefixes: [ {internal: \"fd00::/72\", external: \"2001:db8::/72\"} ]",
            "a prefix of 72 bits is too long",
        ),
        (
            "prefixes: [ {internal: 10.0.0.0/8, external: \"2001:db8::/56\"} ]",
            "only prefixes of IPv6 stand for one another",
        ),
        (
            "prefixes: [ {internal: \"fd00::/48\", external: \"fd00::/48\"} ]",
            "fd00::/48 overlaps fd00::/48",
        ),
    ];
    let told = |text: &str| {
        let text = format!(
            "ports:\n  lan: net_null0\n  wan: {{device: net_null1, mode: routed, twin: none, addresses: [192.0.2.9/24]}}\n\
             functions:\n{text}chains:\n  out: {{from: lan, through: [n], to: wan}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let output = Command::new(NFV).arg("check").arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (keys, message) in cases {
        let (code, told) = told(&format!("  n: {{type: nat, {keys}}}\n"));
        assert_eq!(code, Some(2), "{keys}: {told}");
        let heads: Vec<&str> =
            told.lines().filter(|l| l.starts_with(file.to_str().unwrap())).collect();
        assert_eq!(heads.len(), 1, "{keys}: one mistake, one message:\n{told}");
        assert!(heads[0].contains(message), "{keys}:\n{told}");
        assert!(heads[0].contains(":5:"), "it is on line 5:\n{told}");
    }
    let two =
        "  n: {type: nat, external: 192.0.2.1-192.0.2.8}\n  m: {type: nat, external: 192.0.2.8}\n";
    let (code, told) = told(two);
    assert_eq!(code, Some(2));
    assert!(told.contains(":6:28: 192.0.2.8 overlaps the pool of a nat in line 5"), "{told}");
    must(&format!("{NFV} check chains/nat.yaml"));
}
