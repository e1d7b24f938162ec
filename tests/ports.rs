//! Real hosts over each driver that this kernel has, links that come and go, and two runs beside each other.

mod testkit;

use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{BRIDGED, Driver, NFV, ROUTED, Rig, is_root, must, skip};

/// Ping, 100 MB by curl with an equal sha256, iperf3 TCP and UDP, and port 81 that is closed.
fn carries_traffic(rig: &mut Rig, host: &str, host6: &str) {
    rig.wait_until("a ping passes", || rig.succeeds("lan", &format!("ping -c1 -W1 {host}")));
    rig.wait_until("a ping over IPv6 passes", || {
        rig.succeeds("lan", &format!("ping -c1 -W1 {host6}"))
    });
    rig.on("lan", &format!("ping -c 5 -i 0.2 {host}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    must(&format!("head -c 100000000 /dev/urandom > {path}/file"));
    for port in ["80", "81"] {
        let words = ["python3", "-m", "http.server", "--bind", "::", "--directory", &path, port];
        rig.serve("wan", port.parse().unwrap(), &words);
    }
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    let sent = must(&format!("sha256sum < {path}/file"));
    let got = rig.on("lan", &format!("curl -sS --max-time 120 http://{host}/file | sha256sum"));
    assert_eq!(got, sent, "the file arrives as it was sent");
    let closed = format!("curl -s --max-time 2 -o /dev/null http://{host}:81/");
    assert!(!rig.succeeds("lan", &closed), "port 81 is closed");
    rig.iperf("lan", host);
}

fn over(driver: Driver) {
    if !is_root() {
        return skip("ports", "making namespaces needs root");
    }
    let bridged = ("chains/firewall.yaml", &BRIDGED, "10.99.0.2", "fd00:99::2");
    let routed = ("chains/router.yaml", &ROUTED, "10.2.0.2", "fd00:2::2");
    // net_tap calls a tap that is in another namespace down, and so would its twin be.
    let chains = if driver == Driver::Tap { vec![bridged] } else { vec![bridged, routed] };
    for (chain, hosts, host, host6) in chains {
        match Rig::start_on(chain, hosts, driver) {
            Err(why) if driver == Driver::AfXdp => {
                let last = why.lines().last().unwrap_or_default();
                return skip("ports over net_af_xdp", &format!("the kernel refused: {last}"));
            }
            Err(why) => panic!("{driver:?}: {why}"),
            Ok(mut rig) => {
                carries_traffic(&mut rig, host, host6);
                let summary = rig.finish();
                assert!(summary.contains("edge no_rule"), "{summary}");
            }
        }
    }
}

#[test]
fn taps_that_nfv_makes_carry_hosts_traffic() {
    over(Driver::Tap);
}

#[test]
fn xdp_sockets_carry_hosts_traffic() {
    over(Driver::AfXdp);
}

#[test]
fn packets_longer_than_a_buffer_are_counted_and_hinted_at_once() {
    if !is_root() {
        return skip("ports", "making namespaces needs root");
    }
    let rig = Rig::start("chains/firewall.yaml");
    // As long as packets that a veth has not segmented.
    rig.on("lan", "ip link set eth0 mtu 9000");
    rig.on("nfv", "ip link set lan-veth mtu 9000");
    assert!(!rig.succeeds("lan", "ping -c 3 -i 0.2 -W 1 -s 6000 10.99.0.2"));
    std::thread::sleep(Duration::from_millis(1500));
    let log = rig.log();
    let hints: Vec<_> = log.lines().filter(|l| l.contains("tso off gso off tx off")).collect();
    assert_eq!(hints.len(), 1, "{log}");
    rig.on("lan", "ping -c 3 -i 0.2 10.99.0.2");
    let summary = rig.finish();
    assert!(summary.contains("parse ipv4_total_length"), "{summary}");
}

#[test]
fn a_link_that_goes_down_and_comes_back_carries_packets_again() {
    if !is_root() {
        return skip("ports", "making namespaces needs root");
    }
    let rig = Rig::start("chains/firewall.yaml");
    let ping = "ping -c 1 -W 1 10.99.0.2";
    rig.on("nfv", "ip link set lan-veth down");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!rig.succeeds("lan", ping), "control: the link is down");
    rig.on("nfv", "ip link set lan-veth up");
    rig.wait_until("a ping passes again", || rig.succeeds("lan", ping));
    rig.finish();
}

#[test]
fn a_links_changes_are_told() {
    if !is_root() {
        return skip("ports", "making taps needs root");
    }
    let name = format!("nfvl{}", std::process::id());
    let run = Command::new(NFV)
        .args(["run", "--no-pci", "--no-huge", "-m", "128", "-l", "0,1", "--"])
        .args(["chains/forward.yaml", "--duration", "3"])
        .env("LAN", format!("net_tap0,iface={name}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nfv starts");
    std::thread::sleep(Duration::from_secs(1));
    must(&format!("ip link set {name} down"));
    std::thread::sleep(Duration::from_millis(500));
    must(&format!("ip link set {name} up"));
    let output = run.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let (down, up) = (log.find("port lan: link down"), log.rfind("port lan: link up"));
    assert!(down.is_some() && down < up, "both are in the log:\n{log}");
}

#[test]
fn a_second_run_beside_the_first_has_files_and_a_socket_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        Command::new(NFV)
            .args(["run", "--no-pci", "-m", "128", "-l", "0,1", "--"])
            .args(["chains/forward.yaml", "--duration", "3"])
            .env("XDG_RUNTIME_DIR", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nfv starts")
    };
    let runs = [start(), start()];
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert!(!log.contains("ERROR") && !log.contains("no control socket"), "{log}");
    }
}
