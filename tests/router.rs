//! chains/router.yaml on the network: two hosts on networks of their own, the box answers for itself and routes between.

mod testkit;

use std::time::{Duration, Instant};

use testkit::{ROUTED, Rig, is_root, must, shell, skip};

/// A rig in which the router is up and knows both hosts.
fn router() -> Rig {
    let rig = Rig::start_with("chains/router.yaml", &ROUTED);
    for address in ["10.2.0.2", "fd00:2::2"] {
        rig.wait_until("the router carries a ping", || {
            rig.succeeds("lan", &format!("ping -c1 -W1 {address}"))
        });
    }
    rig
}

#[test]
fn hosts_on_two_networks_reach_each_other_and_the_box_and_see_it_on_the_way() {
    if !is_root() {
        return skip("router", "making namespaces needs root");
    }
    let mut rig = router();
    for own in ["10.1.0.1", "fd00:1::1", "10.2.0.1", "fd00:2::1"] {
        let answers = rig.on("lan", &format!("ping -c 3 -i 0.2 {own}"));
        assert!(!answers.contains("DUP!"), "another than the twin answers too:\n{answers}");
    }
    rig.on("lan", "ping -c 3 -i 0.2 10.2.0.2");
    rig.on("wan", "ping -c 3 -i 0.2 fd00:1::2");
    for (family, box_, host) in [("-4", "10.1.0.1", "10.2.0.2"), ("-6", "fd00:1::1", "fd00:2::2")] {
        let trace = rig.on("lan", &format!("traceroute {family} -n -q 1 -w 2 {host}"));
        let hops: Vec<&str> =
            trace.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [box_, host], "{trace}");
    }

    let folder = std::env::temp_dir().join(format!("nfv-router-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.display().to_string();
    must(&format!("head -c 100000000 /dev/urandom > {folder}/file"));
    for port in ["80", "81"] {
        let words = ["python3", "-m", "http.server", "--bind", "::", "--directory", &folder, port];
        rig.serve("wan", port.parse().unwrap(), &words);
    }
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    let sent = must(&format!("sha256sum < {folder}/file"));
    for host in ["10.2.0.2", "[fd00:2::2]"] {
        let got = rig.on("lan", &format!("curl -sS --max-time 120 http://{host}/file | sha256sum"));
        assert_eq!(got, sent, "the file arrives from {host} as it was sent");
    }
    must(&format!("rm -r {folder}"));
    let closed = "curl -s --max-time 2 -o /dev/null http://10.2.0.2:81/";
    assert!(!rig.succeeds("lan", closed), "port 81 is closed");
    assert!(rig.succeeds("wan", closed), "control: its server answers");
    rig.iperf("lan", "10.2.0.2");

    let summary = rig.finish();
    for line in ["edge no_rule", "forward ttl_expired", "lan to the kernel"] {
        assert!(summary.contains(line), "{line} is in the account:\n{summary}");
    }
}

#[test]
fn a_thousand_connections_at_once_pass_the_router() {
    if !is_root() {
        return skip("router", "making namespaces needs root");
    }
    let mut rig = router();
    rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "10.2.0.2", "80"]);
    let printed = rig.on("lan", "python3 tests/testkit/many.py connect 10.2.0.2 80 1000");
    assert_eq!(printed.trim(), "1000 connections, each echoed its own bytes");
    rig.finish();
}

/// How long after a command on a host or in nfv's namespace the first ping comes back that none came back before.
fn time_until_a_ping_passes(
    rig: &Rig,
    host: &str,
    to: &str,
    (at, change): (&str, &str),
) -> Duration {
    let start = Instant::now();
    rig.on(at, change);
    let made = start.elapsed();
    // A ping each 10 ms until one is answered.
    rig.on(host, &format!("sh -c 'ping -c 1 -i 0.01 -w 5 {to}'"));
    start.elapsed() - made
}

#[test]
fn a_route_and_a_neighbour_of_the_kernel_are_used_within_100_ms_of_their_change() {
    if !is_root() {
        return skip("router", "making namespaces needs root");
    }
    let rig = router();
    rig.on("wan", "ip addr add 198.51.100.7/32 dev lo");
    let away = "ping -c 1 -W 1 198.51.100.7";
    assert!(!rig.succeeds("lan", away), "control: there is no route yet");
    let took = time_until_a_ping_passes(
        &rig,
        "lan",
        "198.51.100.7",
        ("nfv", "ip route add 198.51.100.0/24 via 10.2.0.2"),
    );
    println!("a new route was used after {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    rig.on("nfv", "ip route replace blackhole 198.51.100.0/24");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!rig.succeeds("lan", away), "the route is a black hole now");

    rig.on("nfv", "ip neigh replace 10.2.0.2 lladdr 02:00:00:00:00:99 dev wan nud permanent");
    std::thread::sleep(Duration::from_millis(100));
    let known = "ping -c 1 -W 1 10.2.0.2";
    assert!(!rig.succeeds("lan", known), "control: the neighbour's address is wrong");
    let mac = rig.on("wan", "cat /sys/class/net/eth0/address");
    let change = format!("ip neigh replace 10.2.0.2 lladdr {} dev wan nud permanent", mac.trim());
    let took = time_until_a_ping_passes(&rig, "lan", "10.2.0.2", ("nfv", &change));
    println!("a new neighbour was used after {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    let summary = rig.finish();
    assert!(summary.contains("router blackhole"), "{summary}");
}

#[test]
fn a_host_that_tells_its_new_mac_address_is_reached_within_100_ms() {
    if !is_root() {
        return skip("router", "making namespaces needs root");
    }
    let rig = router();
    rig.on("wan", "sysctl -qw net.ipv4.conf.eth0.arp_notify=0");
    rig.on("wan", "ip link set eth0 address 02:00:00:00:02:03");
    let ping = "ping -c 1 -W 1 10.2.0.2";
    assert!(!rig.succeeds("lan", ping), "control: it told nobody");
    rig.on("wan", "sysctl -qw net.ipv4.conf.eth0.arp_notify=1");
    let change = "ip link set eth0 address 02:00:00:00:02:04";
    let took = time_until_a_ping_passes(&rig, "lan", "10.2.0.2", ("wan", change));
    println!("a host's new MAC address was used after {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    rig.finish();
}

#[test]
fn neighbours_of_the_chain_file_serve_where_there_is_no_twin() {
    if !is_root() {
        return skip("router", "making namespaces needs root");
    }
    let text = std::fs::read_to_string("chains/router.yaml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = |known: bool| {
        let mut text = text.replace("mode: routed", "mode: routed\n    twin: none");
        for (address, neighbour) in [
            ("addresses: [ 10.1", "10.1.0.2: 02:00:00:00:01:02"),
            ("addresses: [ 10.2", "10.2.0.2: 02:00:00:00:02:02"),
        ] {
            assert!(text.contains(address), "the chain file has it");
            if known {
                let with = format!("neighbours: {{ {neighbour} }}\n    {address}");
                text = text.replace(address, &with);
            }
        }
        let file = folder.path().join("router.yaml");
        std::fs::write(&file, text).unwrap();
        let rig = Rig::start_with(file.to_str().unwrap(), &ROUTED);
        // Nobody answers ARP: the hosts are told where the box is, and have addresses that the file knows.
        for (host, mac, address) in
            [("lan", "02:00:00:00:01:02", "10.1.0.1"), ("wan", "02:00:00:00:02:02", "10.2.0.1")]
        {
            rig.on(host, &format!("ip link set eth0 address {mac}"));
            let router = rig.on("nfv", &format!("cat /sys/class/net/{host}-veth/address"));
            let router = router.trim();
            rig.on(host, &format!("ip neigh replace {address} lladdr {router} dev eth0"));
        }
        rig
    };
    let ping = "ping -c 3 -i 0.2 -W 1 10.2.0.2";
    let rig = start(true);
    rig.wait_until("a ping passes", || rig.succeeds("lan", ping));
    assert!(
        !shell(&format!("ip -n {} link show lan", rig.namespace("nfv"))).status.success(),
        "there is no twin"
    );
    rig.finish();

    let rig = start(false);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!rig.succeeds("lan", ping), "control: nobody knows the neighbours");
    let summary = rig.finish();
    assert!(summary.contains("forward neighbour_unresolved"), "{summary}");
}
