//! Two customers with the same addresses, the same ports and the same five-tuples at the same time: chains/zones.yaml with
//! ports of their own, tests/data/shared-outside.yaml with one port outside; and what `nfv check` says of zones that mix.

mod testkit;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testkit::packets::{Udp, write_capture};
use testkit::replayed::Replayed;
use testkit::{Driver, Host, NFV, Rig, is_root, skip};

const CHAIN: &str = "chains/zones.yaml";
const SHARED: &str = "tests/data/shared-outside.yaml";

/// Two customers: what they have is the same but for the names of their hosts.
const CUSTOMERS: [Host; 4] = [
    Host { name: "lan", addresses: ["10.99.0.1/24", "fd00:99::1/64"], routers: &[] },
    Host { name: "wan", addresses: ["10.99.0.2/24", "fd00:99::2/64"], routers: &[] },
    Host { name: "lan-b", addresses: ["10.99.0.1/24", "fd00:99::1/64"], routers: &[] },
    Host { name: "wan-b", addresses: ["10.99.0.2/24", "fd00:99::2/64"], routers: &[] },
];

/// Two insides with the same addresses, and a server outside.
const INSIDES: [Host; 3] = [
    Host { name: "lan", addresses: ["10.99.0.1/24", "fd00:99::1/64"], routers: &[] },
    Host { name: "lan-b", addresses: ["10.99.0.1/24", "fd00:99::1/64"], routers: &[] },
    Host { name: "wan", addresses: ["192.0.2.2/24", "fd00:9a::2/64"], routers: &[] },
];

/// A chain file with some of its text replaced.
fn changed(chain: &str, changes: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let mut text = std::fs::read_to_string(chain).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is in the chain file");
        text = text.replace(from, to);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chain.yaml");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

const WITHOUT_ZONES: [(&str, &str); 2] = [(", zone: customer-a", ""), (", zone: customer-b", "")];

/// What both customers' hosts say who hold connections to their own server, from the same ports to the same address.
fn held(rig: &Rig, address: &str, source: &str) -> [String; 2] {
    let line =
        ["python3", "tests/testkit/named.py", "hold", address, "81", "50", "3", source, "5000"];
    let line = [&["timeout", "20"][..], &line].concat();
    let both = ["lan", "lan-b"].map(|host| rig.begin(host, &line));
    both.map(|host| {
        let output = host.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// A rig with a server for each customer that says whose it is.
fn customers(chain: &str, driver: Driver) -> Rig {
    let mut rig = Rig::start_on(chain, &CUSTOMERS, driver).expect("packet sockets are there");
    for (host, name) in [("wan", "a"), ("wan-b", "b")] {
        rig.serve(host, 81, &["python3", "tests/testkit/named.py", "serve", name, "81"]);
    }
    for host in &CUSTOMERS {
        // Stations have the same addresses, too.
        let mac =
            if host.name.starts_with("lan") { "02:00:00:00:00:01" } else { "02:00:00:00:00:02" };
        rig.on(host.name, &format!("ip link set eth0 address {mac}"));
    }
    rig
}

#[test]
fn two_customers_with_the_same_five_tuples_each_reach_their_own() {
    if !is_root() {
        return skip("zones", "making namespaces needs root");
    }
    for driver in [Driver::AfPacket, Driver::AfPacketOfTwo] {
        let rig = customers(CHAIN, driver);
        for to in ["10.99.0.2", "fd00:99::2"] {
            for host in ["lan", "lan-b"] {
                rig.wait_until("a ping passes", || {
                    rig.succeeds(host, &format!("ping -c1 -W1 {to}"))
                });
            }
        }
        assert_eq!(held(&rig, "10.99.0.2", "10.99.0.1"), ["a kept 50", "b kept 50"]);
        let first = "10.99.0.1:5000 -> 10.99.0.2:81";
        for zone in ["customer-a", "customer-b"] {
            let listed = rig.ask(&["flows", first, zone]);
            assert_eq!(listed.lines().count(), 1, "{zone}: {listed}");
            assert!(listed.contains(&format!(", zone {zone}")), "{listed}");
        }
        assert_eq!(rig.ask(&["flows", first]).lines().count(), 2);
        assert_eq!(held(&rig, "fd00:99::2", "fd00:99::1"), ["a kept 50", "b kept 50"]);
        println!("{}", rig.finish());
    }
}

/// The control: on ports of one zone they are one flow, which is the one customer's or the other's.
#[test]
fn without_zones_one_of_two_customers_with_the_same_five_tuples_is_out() {
    if !is_root() {
        return skip("zones", "making namespaces needs root");
    }
    let (_folder, chain) = changed(CHAIN, &WITHOUT_ZONES);
    let rig = customers(chain.to_str().unwrap(), Driver::AfPacket);
    assert_ne!(held(&rig, "10.99.0.2", "10.99.0.1"), ["a kept 50", "b kept 50"]);
    rig.finish();
}

#[test]
fn two_customers_share_an_outside_by_pools_of_their_own() {
    if !is_root() {
        return skip("zones", "making namespaces needs root");
    }
    for driver in [Driver::AfPacket, Driver::AfPacketOfTwo] {
        let mut rig = Rig::start_on(SHARED, &INSIDES, driver).expect("packet sockets are there");
        // Nobody answers ARP for outside addresses of a port that is not routed: the hosts know their stations.
        for (host, mac) in [("lan", "02::1"), ("lan-b", "02::2"), ("wan", "02::3")] {
            let mac = mac.replace("::", ":00:00:00:00:0");
            rig.on(host, &format!("ip link set eth0 address {mac}"));
        }
        for host in ["lan", "lan-b"] {
            rig.on(host, "ip neigh replace 10.99.0.254 lladdr 02:00:00:00:00:03 dev eth0");
            rig.on(host, "ip route add default via 10.99.0.254");
        }
        rig.on("wan", "ip route add 198.51.100.0/24 dev eth0");
        rig.on("wan", "ip neigh replace 198.51.100.10 lladdr 02:00:00:00:00:01 dev eth0");
        rig.on("wan", "ip neigh replace 198.51.100.20 lladdr 02:00:00:00:00:02 dev eth0");
        rig.serve("wan", 7, &["python3", "tests/nat_peer.py", "serve", "192.0.2.2", "7"]);
        rig.serve("wan", 81, &["python3", "tests/testkit/named.py", "serve", "server", "81"]);
        for host in ["lan", "lan-b"] {
            rig.wait_until("a ping passes", || rig.succeeds(host, "ping -c1 -W1 192.0.2.2"));
        }
        assert_eq!(held(&rig, "192.0.2.2", "10.99.0.1"), ["server kept 50"; 2]);
        for protocol in ["tcp", "udp"] {
            for (host, pool) in [("lan", "198.51.100.10 "), ("lan-b", "198.51.100.20 ")] {
                let line = format!("ask {protocol} 10.99.0.1 6000 192.0.2.2 7");
                let seen = rig.on(host, &format!("python3 tests/nat_peer.py {line}"));
                assert!(seen.starts_with(pool), "{host}, {protocol}: {seen}");
            }
        }
        // An error about a packet of one comes to that one: a closed port, by the outside's own kernel.
        for host in ["lan", "lan-b"] {
            let seen = rig.on(host, "python3 tests/nat_peer.py ask udp 10.99.0.1 6001 192.0.2.2 9");
            assert_eq!(seen.trim(), "refused", "{host}");
        }
        println!("{}", rig.finish());
    }
}

/// What of two customers' packets leaves by their own port: `b` sends later than `a`, the same but for one byte.
fn crossing(chain: &Path, of: impl Fn(u8) -> Vec<Vec<u8>>) -> [Vec<Vec<u8>>; 2] {
    let capture = tempfile::NamedTempFile::new().unwrap();
    write_capture(capture.path(), (0..).map(|i| 2_000 * i + 1_000).zip(of(b'b')));
    let input = format!("lan-b={}", capture.path().display());
    let frames = (0..).map(|i| 2_000 * i).zip(of(b'a'));
    let replayed = Replayed::with(chain.to_str().unwrap(), frames, &["--in", &input], &[]);
    let replayed = replayed.succeeded();
    ["wan", "wan-b"].map(|port| replayed.sent(port))
}

/// A datagram that ends with a byte, and the same in two fragments with one identification.
fn datagrams(mark: u8) -> Vec<Vec<u8>> {
    let marked = |mut frame: Vec<u8>| {
        *frame.last_mut().unwrap() = mark;
        // Without a UDP checksum, so that one byte may differ.
        frame[40..42].fill(0);
        frame
    };
    let whole = marked(Udp { payload: 64, ..Udp::to([10, 2, 0, 2], 9) }.frame());
    let fragment = |field: u16, bytes: &[u8]| {
        let mut frame = whole[..34].to_vec();
        frame[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[24..26].fill(0);
        let sum = nfv_core::packet::checksum::Sum::of(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(bytes);
        frame
    };
    let upper = &whole[34..];
    vec![whole.clone(), fragment(0x2000, &upper[..32]), fragment(4, &upper[32..])]
}

#[test]
fn packets_and_fragments_that_are_alike_leave_by_their_own_customers_port() {
    // Behind a cut flows are looked up again, and there they are told apart as well.
    let cut = [
        (
            "  edge:",
            "  again: { type: firewall, stateful: true, rules: [ { allow: any } ] }\n  seen: { type: count }\n  edge:",
        ),
        ("[ edge ]", "[ edge, seen, again ]"),
    ];
    for changes in [&[][..], &cut] {
        let (_folder, chain) = changed(CHAIN, changes);
        let [a, b] = crossing(&chain, datagrams);
        assert_eq!((a, b), (datagrams(b'a'), datagrams(b'b')), "{changes:?}");
    }
    let (_folder, chain) = changed(CHAIN, &WITHOUT_ZONES);
    let [a, b] = crossing(&chain, datagrams);
    assert!(
        b.is_empty() && a.len() == 6,
        "control: without zones they are one flow, the first one's"
    );
}

/// What `nfv check` says of a file: its first line of errors, or what it printed.
fn checked(chain: &Path) -> Result<String, String> {
    let output = Command::new(NFV).arg("check").arg(chain).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr).replace(&chain.display().to_string(), "FILE")),
    }
}

#[test]
fn what_would_mix_zones_is_a_mistake_with_its_reason() {
    let told = checked(CHAIN.as_ref()).unwrap();
    assert!(told.contains("port lan: one chain takes all, zone customer-a\n"), "{told}");
    assert!(checked(SHARED.as_ref()).is_ok());
    for (chain, changes, place, why) in [
        (
            SHARED,
            &[("nat-b ]", "nat-a ]"), ("  nat-b: { type: nat, external: 198.51.100.20 }\n", "")][..],
            "FILE:11:38",
            "`nat-a` stands between no zone and zone `customer-b` here, \
             between no zone and zone `customer-a` before",
        ),
        (
            CHAIN,
            &[("from: lan,", "from: [ lan, lan-b ],"), ("  b: { from: lan-b", "  b: { from: wan")],
            "FILE:10:21",
            "chain `a` keeps flows, of zone `customer-a` and of zone `customer-b`",
        ),
        (
            CHAIN,
            &[
                (
                    "  a: { from: lan, through: [ edge ], to: wan }",
                    "  a: { from: lan, through: [ edge ], to: wan, on: { rule_denied: c } }",
                ),
                (
                    "to: wan-b }",
                    "to: wan-b, on: { rule_denied: c } }\n  c: { through: [ edge ], to: wan }",
                ),
            ],
            "FILE:11:70",
            "chain `c` keeps flows, of zone `customer-a` and of zone `customer-b`",
        ),
        (
            SHARED,
            &[
                ("nat-a ], to", "nat-a, out ], to"),
                ("  nat-b:", "  out: { type: route }\n  nat-b:"),
            ],
            "FILE:5:3",
            "port `wan` is of no zone, and port `lan` of zone `customer-a`, which is routed too",
        ),
        (
            CHAIN,
            &[(
                "rules: [ { allow: any } ]",
                "zones: { customer-a: [ lan ] }, rules: [ { allow: any } ]",
            )],
            "FILE:8:52",
            "`customer-a` is the zone of ports already",
        ),
    ] {
        let (_folder, file) = changed(chain, changes);
        let told = checked(&file).unwrap_err();
        let line = format!("{place}: {why}");
        assert!(told.lines().any(|l| l == line), "`{line}` is not in\n{told}");
    }
}

#[test]
fn a_rule_knows_the_zones_that_ports_name() {
    let zoned = ("{ allow: any }", "{ allow: any, in-zone: customer-b }");
    let (_folder, chain) = changed(CHAIN, &[zoned]);
    let [a, b] = crossing(&chain, datagrams);
    assert_eq!((a, b), (vec![], datagrams(b'b')));
}
