//! chains/firewall-sets.yaml: addresses and ports from files, zones, and files that are read again while flows are open.

mod testkit;

use std::path::PathBuf;
use std::process::Command;

use testkit::packets::{Udp, udp6};
use testkit::replayed::Replayed;
use testkit::{NFV, Rig, is_root, skip};

const CHAIN: &str = "chains/firewall-sets.yaml";

/// A chain file with this firewall, and files beside it.
struct Case(tempfile::TempDir);

impl Case {
    fn new(firewall: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let firewall = firewall.replace("FOLDER", &folder.path().display().to_string());
        let text = format!(
            "ports: {{lan: net_null0, wan: net_null1}}\nfunctions:\n  edge: {{type: firewall, {firewall}}}\n\
             chains:\n  out: {{from: lan, through: [edge], to: wan}}\n"
        );
        std::fs::write(folder.path().join("chain.yaml"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("chain.yaml")
    }

    fn run(&self, frames: impl IntoIterator<Item = Vec<u8>>) -> Replayed {
        let frames = (1..).zip(frames);
        Replayed::of(self.path().to_str().unwrap(), frames).succeeded()
    }

    /// What `nfv check` says, and its exit code.
    fn check(&self) -> (String, Option<i32>) {
        let output = Command::new(NFV).arg("check").arg(self.path()).output().unwrap();
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    }
}

fn to(dst: [u8; 4]) -> Vec<u8> {
    Udp::to(dst, 9).frame()
}

#[test]
fn what_is_on_the_list_is_refused_and_the_rest_passes() {
    let good = [to([192, 0, 3, 1]), to([198, 51, 100, 8]), udp6("2001:db8:1::1", 64)];
    let bad = [to([192, 0, 2, 9]), to([198, 51, 100, 7]), udp6("2001:db8:bad::1", 64)];
    let frames = good.iter().chain(&bad).cloned().map(|f| (7, f));
    let run = Replayed::of(CHAIN, frames).succeeded();
    assert_eq!(run.sent("wan"), good);
    assert_eq!(run.dropped("edge/rule_denied"), 3, "{}", run.report);
}

#[test]
fn the_first_rule_wins_before_beside_and_behind_rules_with_sets() {
    let rules = "stateful: true, sets: {one: {file: FOLDER/one}, two: {file: FOLDER/two}}, rules: [\
                 {allow: any, dst: 10.0.0.1}, {deny: any, dst-set: one}, {allow: any, dst: 10.0.0.2}, \
                 {deny: any, dst: 10.0.0.3}, {allow: any, dst-set: [one, two]}, {allow: any, dst: 10.0.0.3}]";
    let one = "10.0.0.1\n10.0.0.2";
    let case = Case::new(rules, &[("one", one), ("two", "10.0.0.3\n10.0.0.4")]);
    let run = case.run((1..=5).map(|i| to([10, 0, 0, i])));
    // 1: before the sets; 2: in one; 3: denied before two has it; 4: in two; 5: in none.
    assert_eq!(run.sent("wan"), [to([10, 0, 0, 1]), to([10, 0, 0, 4])], "{}", run.report);
    assert_eq!((run.dropped("edge/rule_denied"), run.dropped("edge/no_rule")), (2, 1));
    let without = Case::new(
        &rules.replace("stateful: true, ", ""),
        &[("one", one), ("two", "10.0.0.3\n10.0.0.4")],
    );
    let again = without.run((1..=5).map(|i| to([10, 0, 0, i])));
    assert_eq!(again.sent("wan"), run.sent("wan"), "nor does it depend on state");
}

#[test]
fn ports_come_from_files_and_zones_are_ports_of_the_box() {
    let firewall = "sets: {games: {file: FOLDER/ports, of: ports}}, zones: {in: [lan, wan], out: wan}, \
                    rules: [{deny: udp, dport-set: games}, {deny: any, in-zone: out}, {allow: udp, in-zone: in}]";
    let case = Case::new(firewall, &[("ports", "27000-27100\n3074")]);
    let udp = |port| Udp::to([10, 0, 0, 1], port).frame();
    let run = case.run([udp(3074), udp(27_100), udp(27_101)]);
    assert_eq!(run.sent("wan"), [udp(27_101)]);
}

#[test]
fn mistakes_of_files_sets_and_zones_are_said_with_their_places() {
    let firewall = "sets: {bad: {file: FOLDER/bad}, none: {file: FOLDER/none}, good: {file: FOLDER/good}}, \
                    zones: {inside: lan}, rules: [{deny: any, src-set: bad}, {deny: any, src-set: goood}, \
                    {deny: any, dport-set: good}, {allow: any, in-zone: insid}, \
                    {allow: any, in-zone: inside, in-port: lan}]";
    let case = Case::new(firewall, &[("bad", "10.0.0.1\nten\n"), ("good", "")]);
    let (said, code) = case.check();
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "bad:2: `ten` is not an IPv4 or IPv6 prefix",
        "none: No such file",
        "there is no set `goood`",
        "did you mean `good`?",
        "set `good` has addresses",
        "there is no zone `insid`",
        "did you mean `inside`?",
        "`in-zone` beside `in-port`",
    ] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    assert!(!said.contains("no set `bad`"), "its file is the mistake:\n{said}");
}

#[test]
fn a_list_that_is_read_again_ends_the_flows_that_it_names_and_no_other() {
    if !is_root() {
        return skip("firewall_sets", "making namespaces needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("bad.txt");
    std::fs::write(&list, "192.0.2.1\n").unwrap();
    let text = std::fs::read_to_string(CHAIN).unwrap();
    let chain = folder.path().join("chain.yaml");
    std::fs::write(&chain, text.replace("chains/firewall-sets.txt", list.to_str().unwrap()))
        .unwrap();
    let mut rig = Rig::start(chain.to_str().unwrap());
    rig.serve("wan", 5201, &["iperf3", "-s"]);
    // The server sends, so answers are what is decided again.
    let stream = rig.begin("lan", &["iperf3", "-R", "-c", "10.99.0.2", "-t", "3"]);
    for i in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::write(&list, format!("192.0.2.{i}\n2001:db8::{i}\n")).unwrap();
        rig.ask(&["set", "edge.reload-sets", "bad"]);
    }
    assert_eq!(rig.ask(&["get", "edge.reload-sets"]).trim(), "bad 2");
    let output = stream.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    assert!(rig.succeeds("lan", "ping -c 1 -W 1 10.99.0.2"), "control: not on the list yet");
    std::fs::write(&list, "ten\n").unwrap();
    assert!(!rig.ctl(&["set", "edge.reload-sets", "all"]).status.success());
    assert!(rig.succeeds("lan", "ping -c 1 -W 1 10.99.0.2"), "a wrong file changes nothing");
    std::fs::write(&list, "10.99.0.0/24\n").unwrap();
    rig.ask(&["set", "edge.reload-sets", "all"]);
    assert!(!rig.succeeds("lan", "ping -c 1 -W 1 10.99.0.2"), "and then it is");
    let summary = rig.finish();
    assert!(!summary.contains("edge no_rule"), "no flow was decided otherwise:\n{summary}");
}

#[test]
fn a_million_addresses_are_loaded_within_seconds() {
    let list: String = (0..1_000_000u32)
        .map(|i| format!("{}\n", std::net::Ipv4Addr::from_bits(i.wrapping_mul(0x9e37_79b1))))
        .collect();
    let case = Case::new(
        "sets: {bad: {file: FOLDER/bad}}, rules: [{deny: any, dst-set: bad}, {allow: any}]",
        &[("bad", &list)],
    );
    let start = std::time::Instant::now();
    let (said, code) = case.check();
    assert_eq!(code, Some(0), "{said}");
    // Two seconds when it is built for speed and alone; tests are neither.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    let run = case.run([to([158, 55, 121, 177]), to([158, 55, 121, 178])]);
    assert_eq!(run.sent("wan"), [to([158, 55, 121, 178])]);
}
