//! Reloads while packets pass: nothing is lost to them, no connection breaks, and a wrong file changes nothing. What has to
//! break a connection is seen to.

mod testkit;

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};
use std::time::Duration;

use testkit::{ROUTED, Rig, is_root, must, shell, skip};

/// Files that change what a chain is made of: rules, functions between, functions gone, another cut.
const VARIANTS: [(&str, &str); 5] = [
    ("edge: {type: firewall, stateful: true, rules: [{allow: any}]}", "edge"),
    (
        "edge: {type: firewall, stateful: true, rules: [{deny: tcp, dport: 23}, {allow: any}]}, seen: {type: count}",
        "seen, edge",
    ),
    (
        "edge: {type: firewall, stateful: true, rules: [{allow: any}]}, seen: {type: count}, inner: {type: firewall, stateful: true, default: allow}",
        "edge, seen, inner",
    ),
    (
        "edge: {type: firewall, stateful: true, rules: [{allow: any}]}, inner: {type: firewall, default: allow}",
        "edge, inner",
    ),
    ("seen: {type: count}", "seen"),
];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, functions: &str, through: &str) -> PathBuf {
        self.write_with("lan: \"${LAN}\", wan: \"${WAN}\"", functions, through)
    }

    /// Between two networks.
    fn write_routed(&self, functions: &str, through: &str) -> PathBuf {
        let ports = "lan: {device: \"${LAN}\", mode: routed, addresses: [10.1.0.1/24, \"fd00:1::1/64\"]}, \
                     wan: {device: \"${WAN}\", mode: routed, addresses: [10.2.0.1/24, \"fd00:2::1/64\"]}";
        self.write_with(ports, functions, through)
    }

    fn write_with(&self, ports: &str, functions: &str, through: &str) -> PathBuf {
        let path = self.0.path().join("chain.yaml");
        let text = format!(
            "ports: {{{ports}}}\nfunctions: {{{functions}}}\nchains:\n  through: {{from: lan, through: [{through}], to: wan}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is under way from `lan` to an address while a chain is reloaded: connections that were opened before and ask now and
/// then, iperf3 over TCP, datagrams with numbers.
struct Load {
    held: Child,
    lines: Lines<BufReader<ChildStdout>>,
    iperf: Child,
    sender: Child,
    receiver: Child,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Of the connections.
    broken: u32,
    iperf: Result<(), String>,
    lost_datagrams: u32,
    disordered_datagrams: u32,
}

const UNHARMED: Outcome =
    Outcome { broken: 0, iperf: Ok(()), lost_datagrams: 0, disordered_datagrams: 0 };

impl Load {
    /// Starts servers on `wan`, and clients for so many seconds.
    fn start(rig: &mut Rig, to: &str, connections: u32, seconds: u32) -> Self {
        rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "0.0.0.0", "80"]);
        rig.serve("wan", 5201, &["iperf3", "-s"]);
        let program = "tests/testkit/sequence.py";
        let receiver = rig.begin("wan", &["python3", program, "receive", "7000"]);
        let ns = rig.namespace("wan");
        rig.wait_until("the receiver listens", || {
            !shell(&format!("ip netns exec {ns} ss -Hlun sport = :7000")).stdout.is_empty()
        });
        let (count, longer) = (connections.to_string(), (seconds + 5).to_string());
        let seconds = seconds.to_string();
        let hold = ["python3", "tests/testkit/many.py", "hold", to, "80", &count, &longer];
        let mut held = rig.begin("lan", &hold);
        let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "open");
        let iperf = rig.begin("lan", &["iperf3", "-c", to, "-t", &seconds, "-b", "50M"]);
        let sender = rig.begin("lan", &["python3", program, "send", to, "7000", "1000", &seconds]);
        std::thread::sleep(Duration::from_secs(1));
        Self { held, lines, iperf, sender, receiver }
    }

    fn is_under_way(&mut self) -> bool {
        self.iperf.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for its end.
    fn outcome(mut self) -> Outcome {
        let sender = self.sender.wait_with_output().unwrap();
        assert!(sender.status.success(), "{sender:?}");
        let iperf = self.iperf.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&iperf.stderr).into_owned();
        let held = self.lines.next().unwrap().unwrap();
        self.held.wait().unwrap();
        must(&format!("kill -TERM {}", self.receiver.id()));
        let received = self.receiver.wait_with_output().unwrap();
        let received = String::from_utf8_lossy(&received.stdout).into_owned();
        println!("{held}; {}", received.trim());
        Outcome {
            broken: before(&held, " broken"),
            iperf: if iperf.status.success() { Ok(()) } else { Err(errors) },
            lost_datagrams: before(&received, " lost"),
            disordered_datagrams: before(&received, " out of order"),
        }
    }
}

/// The number before a word.
fn before(text: &str, word: &str) -> u32 {
    let number = text.split_once(word).and_then(|(head, _)| head.rsplit(' ').next());
    number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no number{word}: {text}"))
}

/// A hundred files in turn, while the load is under way; flows are decided again.
fn reload_a_hundred_times(rig: &Rig, write: impl Fn(usize) -> PathBuf) {
    for turn in 0..100 {
        let said = rig.ask(&["reload", text(&write(turn + 1))]);
        assert!(said.starts_with("reloaded "), "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let stats = rig.ask(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let counters = stats["counters"].as_array().unwrap().iter();
    let again = counters.clone().find(|c| c["metric"] == "redecided_flows").unwrap();
    assert!(again["value"].as_u64() > Some(10_000), "flows are decided again: {again}");
}

#[test]
fn a_hundred_reloads_lose_no_packet_and_break_no_connection() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let (functions, through) = VARIANTS[0];
    let path = files.write(functions, through);
    let mut rig = Rig::start(text(&path));
    let mut load = Load::start(&mut rig, "10.99.0.2", 1000, 20);
    reload_a_hundred_times(&rig, |turn| {
        let (functions, through) = VARIANTS[turn % VARIANTS.len()];
        files.write(functions, through)
    });
    assert!(load.is_under_way(), "all reloads were under load");
    assert_eq!(load.outcome(), UNHARMED);
    // The account is that of the whole run.
    let summary = rig.finish();
    assert!(!summary.contains("not_a_syn"), "{summary}");
}

/// What stands around a nat and two balancers that stay, and what they have: other functions and orders, more outside
/// addresses, a backend more, one that gets no new flows.
const TRANSLATED: [(&str, &str); 6] = [
    ("EDGE, LB, NAT", "edge, web, datagrams, nat, router"),
    ("EDGE, LB, NAT, seen: {type: count}", "edge, web, datagrams, seen, nat, router"),
    ("EDGE, LB3, NAT2", "edge, web, datagrams, nat, router"),
    ("LB, NAT", "web, datagrams, nat, router"),
    (
        "EDGE, LB0, NAT, inner: {type: firewall, stateful: true, default: allow}",
        "web, inner, datagrams, nat, edge, router",
    ),
    ("EDGE, LB3, NAT2, seen: {type: count}", "edge, web, seen, datagrams, nat, router"),
];

/// The words in capital letters, and what they stand for.
const WORDS: [(&str, &str); 6] = [
    (
        "LB3",
        "web: {type: lb, virtual: 192.0.2.80, backends: [ONE, TWO, {address: 10.2.0.4}]}, UDP3",
    ),
    (
        "LB0",
        "web: {type: lb, virtual: 192.0.2.80, backends: [ONE, {address: 10.2.0.3, weight: 0}]}, UDP2",
    ),
    ("LB", "web: {type: lb, virtual: 192.0.2.80, backends: [ONE, TWO]}, UDP2"),
    (
        "NAT2",
        "nat: {type: nat, external: 198.51.100.10-198.51.100.12, internal: 10.1.0.0/24, filtering: endpoint-independent}",
    ),
    ("NAT", "nat: {type: nat, external: 198.51.100.10, internal: 10.1.0.0/24}"),
    (
        "EDGE",
        "edge: {type: firewall, stateful: true, rules: [{deny: tcp, dport: 23}, {allow: any}]}",
    ),
];

fn write_translated(files: &Files, turn: usize) -> PathBuf {
    let (functions, through) = TRANSLATED[turn % TRANSLATED.len()];
    let udp = "datagrams: {type: lb, virtual: 192.0.2.80, protocol: udp, backends: [ONE, TWO";
    let mut functions = format!("{functions}, router: {{type: route}}");
    for (word, is) in WORDS {
        functions = functions.replace(word, is);
    }
    functions = functions.replace("UDP3", &format!("{udp}, {{address: 10.2.0.4}}]}}"));
    functions = functions.replace("UDP2", &format!("{udp}]}}"));
    functions = functions.replace("ONE", "{address: 10.2.0.2}");
    files.write_routed(&functions.replace("TWO", "{address: 10.2.0.3}"), through)
}

/// A rig with two servers' addresses on `wan`, behind a virtual one and a nat.
fn start_translated(files: &Files) -> Rig {
    let rig = Rig::start_with(text(&write_translated(files, 0)), &ROUTED);
    for address in ["10.2.0.3", "10.2.0.4"] {
        rig.on("wan", &format!("ip addr add {address}/24 dev eth0"));
    }
    rig.wait_until("the chain carries a ping", || rig.succeeds("lan", "ping -c1 -W1 10.2.0.3"));
    rig
}

#[test]
fn a_hundred_reloads_around_a_nat_and_balancers_break_no_connection_through_them() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let mut rig = start_translated(&files);
    let mut load = Load::start(&mut rig, "192.0.2.80", 1000, 20);
    let flows = rig.ask(&["flows", "tcp established"]);
    for end in ["at 10.2.0.2:80", "at 10.2.0.3:80", "as 198.51.100.10:"] {
        assert!(flows.contains(end), "both are in the way: {end}");
    }
    reload_a_hundred_times(&rig, |turn| write_translated(&files, turn));
    assert!(load.is_under_way(), "all reloads were under load");
    assert_eq!(load.outcome(), UNHARMED);
    rig.finish();
}

#[test]
fn a_nat_of_another_name_is_another_nat_and_its_connections_break() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let mut rig = start_translated(&files);
    let load = Load::start(&mut rig, "192.0.2.80", 200, 4);
    let path = write_translated(&files, 0);
    let renamed = std::fs::read_to_string(&path).unwrap();
    let renamed = renamed.replace("nat: {", "other: {").replace("nat, router", "other, router");
    std::fs::write(&path, renamed).unwrap();
    assert!(rig.ask(&["reload", text(&path)]).starts_with("reloaded "));
    let outcome = load.outcome();
    // Hardly any finds the port free that it had.
    assert!(outcome.broken > 150, "{outcome:?}");
    assert!(outcome.iperf.is_err(), "{outcome:?}");
    rig.finish();
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_the_answer_says_where() {
    if !is_root() {
        return skip("reload", "making namespaces needs root");
    }
    let files = Files::new();
    let (functions, through) = VARIANTS[0];
    let rig = Rig::start(text(&files.write(functions, through)));
    let wrong = files.write("edge: {type: firewall, rulez: []}", "edge");
    let answer = rig.ctl(&["reload", text(&wrong)]);
    let why = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.code(), Some(2));
    assert!(why.contains("rulez") && why.contains("chain.yaml:2:"), "{why}");
    rig.on("lan", "ping -c 2 -i 0.2 10.99.0.2");
    let flows = rig.ask(&["flows", "icmp replied"]);
    assert!(flows.contains("through icmp replied 10.99.0.1:"), "{flows}");
    // On SIGHUP the run's own file is read again: it denies pings now.
    files.write(
        "edge: {type: firewall, stateful: true, rules: [{deny: icmp}], default: allow}",
        "edge",
    );
    let id = must(&format!("ip netns pids {}", rig.namespace("nfv")));
    must(&format!("kill -HUP {}", id.trim()));
    rig.wait_until("the new rules hold", || !rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    drop(rig);
}
