//! `nfv plan`: what NICs do of the example chains, and what users are told.

mod testkit;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::skip;

const NFV: &str = env!("CARGO_BIN_EXE_nfv");
const OFFLOAD: &str = "chains/offload.yaml";

fn nfv(words: &[&str]) -> Output {
    Command::new(NFV).args(words).output().expect("nfv starts")
}

fn text(words: &[&str]) -> String {
    let output = nfv(words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(chain: &str, nic: &str) -> Value {
    serde_json::from_str(&text(&["plan", chain, "--nic", nic, "--json"])).unwrap()
}

/// A port's classes: what they are, their rung, and how many rules they have.
fn classes(plan: &Value, port: usize) -> Vec<(String, String, u64)> {
    let all = plan["ports"][port]["classes"].as_array().unwrap();
    let of = |c: &Value| {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        (text(&c["what"][0]), text(&c["rung"]), c["rules"].as_u64().unwrap())
    };
    all.iter().map(of).collect()
}

fn rungs(plan: &Value, port: usize) -> Vec<String> {
    classes(plan, port).into_iter().map(|(_, rung, _)| rung).collect()
}

fn rules(plan: &Value, port: usize) -> Vec<String> {
    let all = plan["ports"][port]["rules"].as_array().unwrap();
    all.iter().map(|r| r["testpmd"].as_str().unwrap().to_owned()).collect()
}

fn reasons(plan: &Value) -> String {
    let all =
        plan["ports"].as_array().unwrap().iter().flat_map(|p| p["classes"].as_array().unwrap());
    let why = all.flat_map(|c| c["why"].as_array().unwrap());
    why.map(|w| w.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_nic_with_marks_and_priorities_drops_and_tags_all_that_rules_name() {
    let plan = json(OFFLOAD, "mlx5");
    let tagged = ["mark+rss"; 4];
    let all = [&["drop", "drop"][..], &tagged, &["drop"]].concat();
    assert_eq!(rungs(&plan, 0), all, "what meets no rule comes last, and is dropped");
    let rules = rules(&plan, 0);
    let is = |rule: &str| rules.iter().any(|r| r == rule);
    let net = "ipv4 src spec 198.51.100.0 src prefix 24";
    assert!(is(&format!(
        "flow create 0 ingress pattern eth / {net} / udp / end actions count / drop / end"
    )));
    assert!(is("flow create 0 ingress priority 1 pattern eth / ipv4 / tcp dst is 443 / end \
         actions mark id 3 / count / rss / end"));
    assert!(reasons(&plan).contains("mlx5 takes no item SCTP"));
    let first = &plan["ports"][0]["classes"][0];
    assert_eq!(first["cycles"], 0);
    assert!(first["cycles_in_software"].as_u64().unwrap() > 50);
    let tagged = &plan["ports"][0]["classes"][2];
    assert!(tagged["cycles"].as_u64() < tagged["cycles_in_software"].as_u64());
    assert_eq!(plan["ports"][0]["hash"]["key"], "set");
}

#[test]
fn a_nic_without_priorities_is_told_what_overlaps_nothing_before_it() {
    let plan = json(OFFLOAD, "iavf");
    let rules = rules(&plan, 0);
    assert!(!rules.is_empty());
    assert!(rules.iter().all(|rule| !rule.contains("priority")), "{rules:#?}");
    // IPv4's classes overlap a prefix, which cannot be told.
    assert!(rules.iter().all(|rule| !rule.contains("ipv4 / tcp")), "{rules:#?}");
    assert!(rules.iter().any(|rule| rule.contains("ipv6 / tcp dst is 80 / end actions mark id 3")));
    let why = reasons(&plan);
    assert!(why.contains("iavf takes no prefixes (198.51.100.0/24), only addresses"), "{why}");
    assert!(why.contains("rules all look at the same fields"), "{why}");
    let why = reasons(&json(OFFLOAD, "bnxt"));
    assert!(
        why.contains("class 1 comes first and overlaps it, and the NIC has no priorities"),
        "{why}"
    );
}

#[test]
fn a_nic_without_rules_leaves_all_to_software_and_says_so() {
    for (nic, rung) in [("ena", "rss"), ("virtio", "software"), ("ixgbevf", "rss")] {
        let plan = json(OFFLOAD, nic);
        assert_eq!(rungs(&plan, 0), [rung; 7], "{nic}");
        assert!(rules(&plan, 0).is_empty());
        let page = text(&["plan", OFFLOAD, "--nic", nic]);
        assert!(
            page.contains(&format!("classes 1-7 (100 %): {nic} takes no rules (no rte_flow)")),
            "{page}"
        );
    }
}

#[test]
fn a_kernel_that_has_no_marks_gets_queues_for_what_keeps_no_flows() {
    let plan = json(OFFLOAD, "tap");
    let rungs = rungs(&plan, 0);
    assert_eq!(rungs[..4], ["drop", "drop", "queue", "queue"]);
    let rules = rules(&plan, 0);
    // One EtherType a priority, or the kernel refuses it.
    let family = |rule: &String| rule.contains("/ ipv6");
    for (rule, other) in rules.iter().flat_map(|a| rules.iter().map(move |b| (a, b))) {
        let level = |rule: &String| rule.split("pattern").next().unwrap().to_owned();
        assert!(level(rule) != level(other) || family(rule) == family(other), "{rule}\n{other}");
    }
    let queues = |class: &str| {
        let of = |r: &&String| r.contains("queue index") && r.contains(class);
        let mut all: Vec<&str> =
            rules.iter().filter(of).map(|r| r.split("queue index ").nth(1).unwrap()).collect();
        all.dedup();
        all.len()
    };
    assert_eq!((queues("tcp dst"), queues("udp dst")), (1, 1));
}

#[test]
fn flows_are_not_dealt_to_queues_and_chains_say_whether_answers_find_them() {
    let plan = json("chains/edge.yaml", "tap");
    for port in 0..plan["ports"].as_array().unwrap().len() {
        assert!(!rungs(&plan, port).contains(&"queue".to_owned()));
    }
    let same = |name: &str| {
        let chains = plan["chains"].as_array().unwrap();
        chains.iter().find(|c| c["chain"] == name).unwrap()["same_shard"].as_bool().unwrap()
    };
    assert!(same("outbound") && !same("inbound"));
}

#[test]
fn every_example_can_be_planned_for_every_nic() {
    let nics = "mlx5 ice iavf i40e ixgbe ixgbevf igb igbvf bnxt cnxk ena virtio vmxnet3 tap";
    for chain in std::fs::read_dir("chains").unwrap().map(|entry| entry.unwrap().path()) {
        if chain.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        // One of each kind for each, all of them for one.
        let all = chain.ends_with("offload.yaml");
        for nic in nics.split(' ').filter(|nic| all || ["mlx5", "ice", "cnxk"].contains(nic)) {
            let page = text(&["plan", chain.to_str().unwrap(), "--nic", nic]);
            for line in page.lines().filter(|line| !line.contains("flow create")) {
                assert!(line.chars().count() <= 120, "{line}");
            }
            assert!(!page.contains('\x1b'), "colours are for terminals");
        }
    }
}

#[test]
fn an_unknown_nic_is_told_the_nearest_and_all_others() {
    let output = nfv(&["plan", OFFLOAD, "--nic", "ixgb"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("`ixgb` is no NIC of the table; did you mean `ixgbe`?"), "{told}");
    assert!(told.contains("mlx5 ice iavf"), "{told}");
    assert!(text(&["plan", OFFLOAD, "--nic", "net_ice"]).contains("port lan: ice"));
}

#[test]
fn a_port_that_is_to_be_left_alone_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alone.yaml");
    let chain = std::fs::read_to_string(OFFLOAD).unwrap();
    let alone = chain.replace("\"${LAN:-net_null0}\"", "{ device: net_null0, offload: false }");
    assert_ne!(chain, alone);
    std::fs::write(&path, alone).unwrap();
    let page = text(&["plan", path.to_str().unwrap(), "--nic", "mlx5"]);
    assert_eq!(page.matches("offload: false. A run gives it no rules").count(), 1, "{page}");
}

/// A firewall of so many rules, each for another host.
fn firewall(rules: usize, folder: &Path) -> String {
    let host = |at| format!("10.0.{}.{}", at / 250, at % 250 + 1);
    let rule = |at| format!("      - {{ deny: tcp, src: {}, dport: 80 }}\n", host(at));
    let rules: String = (0..rules).map(rule).collect();
    let text = format!(
        "ports: {{ lan: net_null0, wan: \"net_null1,no-rx=1\" }}\nfunctions:\n  fence:\n    type: firewall\n    \
         default: deny\n    rules:\n{rules}      - {{ allow: tcp, dport: 22 }}\n\
         chains: {{ out: {{ from: lan, through: [ fence ], to: wan, oneway: true }} }}\n"
    );
    let path = folder.join("fence.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn more_rules_than_a_nic_holds_leave_the_rest_to_software() {
    let folder = tempfile::tempdir().unwrap();
    let chain = firewall(1000, folder.path());
    let plan = json(&chain, "iavf");
    assert_eq!(rules(&plan, 0).len(), 128);
    assert!(
        reasons(&plan).contains("the NIC holds 128 rules, and classes of a larger share have them")
    );
    let dropped = rungs(&plan, 0).iter().filter(|r| *r == "drop").count();
    assert!((126..=128).contains(&dropped), "{dropped}");
    let plan = json(&chain, "mlx5");
    let dropped = rungs(&plan, 0).iter().filter(|r| *r == "drop").count();
    assert_eq!(dropped, 1001, "a host each, and what meets no rule");
}

#[test]
fn a_thousand_classes_are_a_page_and_all_of_them_are_there_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let chain = firewall(1000, folder.path());
    let page = text(&["plan", &chain, "--nic", "mlx5"]);
    assert!(page.lines().count() < 60, "{page}");
    assert!(page.contains("1000 alike, such as"), "{page}");
    assert!(page.contains(" more: --all shows them"), "{page}");
    assert!(text(&["plan", &chain, "--nic", "mlx5", "--all"]).lines().count() > 2000);
}

#[test]
fn real_drivers_are_asked() {
    let eal = ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--lcores", "(0-1)@0"];
    let words: Vec<&str> = ["plan"].into_iter().chain(eal).chain(["--", OFFLOAD]).collect();
    let page = text(&words);
    assert!(page.contains("port lan: net_null, its driver was asked; 1 queue"), "{page}");
    assert!(page.contains("Function not implemented"), "{page}");
}

/// Of the emulated NIC all three are measured; a driver without rules says why there is nothing to measure.
#[test]
fn rules_are_given_changed_and_taken_back_to_be_timed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timed.yaml");
    let eal = ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--lcores", "(0-1)@0"];
    let timed = |lan: &str, install: &[&str]| -> Value {
        let chain = std::fs::read_to_string(OFFLOAD).unwrap();
        std::fs::write(&path, chain.replace("${LAN:-net_null0}", lan)).unwrap();
        let chain = path.to_str().unwrap();
        let words: Vec<&str> =
            ["plan"].into_iter().chain(eal).chain(["--", chain, "--json"]).collect();
        let plan: Value = serde_json::from_str(&text(&[&words[..], install].concat())).unwrap();
        plan["ports"][0]["rules_per_second"].clone()
    };
    let pace = timed("emulated,profile=mlx5,queues=1", &["--install"]);
    for kind in ["given", "changed", "taken_back"] {
        assert!(pace[kind].as_f64().is_some_and(|rules| rules > 100.0), "{kind}: {pace}");
    }
    // Its rules cannot be changed where they are.
    let pace = timed("emulated,profile=iavf,queues=1", &["--install"]);
    assert!(pace["given"].is_number() && pace["changed"].is_null(), "{pace}");
    assert!(timed("emulated,profile=mlx5,queues=1", &[]).is_null(), "nothing is installed");
}

/// All rules of all NICs, read by testpmd: it must understand each, and then say that its device takes none.
#[test]
fn testpmd_understands_every_rule() {
    if Command::new("dpdk-testpmd").arg("--help").output().is_err() {
        return skip("plan", "dpdk-testpmd is not here");
    }
    let nics = ["mlx5", "iavf", "cnxk", "tap", "ixgbe"];
    let all: Vec<String> = nics
        .iter()
        .flat_map(|nic| rules(&json("tests/data/offload-all.yaml", nic), 0))
        .map(|rule| rule.replace("flow create", "flow validate"))
        .collect();
    assert!(all.len() > 30, "{all:#?}");
    for part in
        ["vlan vid is 7", "flags spec 0x02 flags mask 0x12", "icmp6 type is 128", "dst mask 0x"]
    {
        assert!(all.iter().any(|rule| rule.contains(part)), "no rule has {part}: {all:#?}");
    }
    let prefix = format!("nfv-plan-{}", std::process::id());
    let mut testpmd = Command::new("dpdk-testpmd")
        .args(["--lcores", "(0-1)@0", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry"])
        .args(["--no-shconf", "--file-prefix", &prefix, "--vdev", "net_null0"])
        .args(["--", "-i", "--total-num-mbufs=2048"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = all.join("\n");
    // A control: one that it does not understand.
    lines.push_str("\nflow validate 0 ingress pattern eth / ipv9 / end actions drop / end\nquit\n");
    std::io::Write::write_all(testpmd.stdin.as_mut().unwrap(), lines.as_bytes()).unwrap();
    let output = testpmd.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let count = |what: &str| said.matches(what).count();
    assert_eq!(count("Bad arguments"), 1, "{said}");
    assert_eq!(count("Function not implemented: "), all.len(), "{said}");
}
