//! `scripts/rule-cases.sh`: what it makes of cases, with records that are written by hand; and the suite's cases with those
//! that the IDS writes, where the suite is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Stands for nfv: says what `check` says, and copies the records that lie beside the case.
const FAKE: &str = r#"#!/bin/sh
[ -e fails ] && { echo 'something is wrong' >&2; exit 1; }
case $1 in
check) cat notes 2>/dev/null || true ;;
replay) while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done; cp eve "$out/eve.json" ;;
esac
"#;

const EVE: &str = r#"{"event_type":"alert","alert":{"signature_id":1,"gid":1},"vlan":[5,6],"src_port":80,"x":true}
{"event_type":"alert","alert":{"signature_id":1,"gid":1},"src_port":81}
{"event_type":"alert","alert":{"signature_id":2,"gid":1},"app_proto":"http"}
{"event_type":"flow","flow":{"alerted":true},"tcp":{"tcp_flags":"19"}}
{"event_type":"stats","stats":{"decoder":{"udp":1}}}
"#;

/// A folder of cases, and the program that stands for nfv.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let fake = bench.folder.path().join("nfv");
        std::fs::write(&fake, FAKE).unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn case(&self, name: &str, test: &str) -> PathBuf {
        let case = self.folder.path().join("cases").join(name);
        std::fs::create_dir_all(&case).unwrap();
        for (file, text) in [("test.yaml", test), ("eve", EVE), ("input.pcap", "")] {
            std::fs::write(case.join(file), text).unwrap();
        }
        std::fs::write(case.join("test.rules"), RULES).unwrap();
        case
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new("scripts/rule-cases.sh")
            .arg(self.folder.path().join("cases"))
            .args(words)
            .env("NFV", self.folder.path().join("nfv"))
            .output()
            .unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.run(words);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    fn chain(&self, name: &str) -> serde_json::Value {
        let kept = self.folder.path().join("kept");
        self.said(&["--keep", kept.to_str().unwrap()]);
        let text = std::fs::read_to_string(kept.join(name).join("chain.yaml")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

const RULES: &str = "alert http any any -> any any (msg:\"a; b\"; content:\"x\\;y\"; sid:1;)\n\
    # alert tcp any any -> any any (sid:9;)\n\
    alert tcp any any -> any any (msg:\"m\"; \\\n  lua:x.lua; sid:3;)\n\
    alert smb any any -> any any (sid:4;)\n\
    alert tcp any any -> any any (content:\"x\"; sid:5;)\n\
    alert http any any => any any (http.method; content:\"x\"; sid:6;)\n\
    alert tcp any any -> any any (file.data; content:\"x\"; sid:7;)\n";

/// One check.
fn filter(count: u32, matches: &str) -> String {
    format!("checks:\n- filter:\n    count: {count}\n    match:\n      {matches}\n")
}

#[test]
fn a_case_passes_when_its_checks_count_what_they_say() {
    let bench = Bench::new();
    let cases = [
        ("dots", filter(2, "{event_type: alert, alert.signature_id: 1}")),
        ("objects", filter(2, "{alert: {signature_id: 1, gid: 1}}")),
        ("lists", filter(1, "{\"vlan[0]\": 5, vlan.1: 6}")),
        ("there", filter(1, "{event_type: alert, has-key: app_proto}")),
        ("not-there", filter(2, "{event_type: alert, not-has-key: app_proto}")),
        ("texts", filter(1, "{tcp.tcp_flags: '19', flow.alerted: true}")),
        ("none", filter(0, "{event_type: drop}")),
        ("shell", "checks:\n- shell:\n    args: grep -c alert $OUTPUT_DIR/eve.json | xargs\n    expect: 4\n".into()),
        ("stats", "checks:\n- stats:\n    decoder.udp: 1\n".into()),
    ];
    for (name, test) in &cases {
        bench.case(name, test);
    }
    let said = bench.said(&[]);
    assert!(said.ends_with("9 passed, 0 failed, 0 not applicable\n"), "{said}");
}

#[test]
fn a_case_fails_when_a_check_counts_something_else() {
    let bench = Bench::new();
    let cases = [
        ("one-more", filter(3, "{event_type: alert, alert.signature_id: 1}")),
        ("part-of-object", filter(2, "{alert: {signature_id: 1}}")),
        ("number-for-text", filter(1, "{tcp.tcp_flags: 19}")),
        ("number-for-truth", filter(1, "{x: 1}")),
        ("no-such-place", filter(1, "{\"vlan[2]\": 5}")),
        ("shell", "checks:\n- shell:\n    args: echo 1\n    expect: 2\n".into()),
        (
            "one-of-two",
            filter(2, "{alert.signature_id: 1}")
                + "- filter: {count: 1, match: {event_type: tls}}\n",
        ),
    ];
    for (name, test) in &cases {
        bench.case(name, test);
    }
    let said = bench.said(&[]);
    assert!(said.ends_with("0 passed, 7 failed, 0 not applicable\n"), "{said}");
    assert!(
        said.contains(
            "failed          one-of-two: 1 records with {\"event_type\": \"tls\"}: 0 found\n"
        ),
        "{said}"
    );
}

#[test]
fn a_program_that_fails_fails_the_case_with_its_words() {
    let bench = Bench::new();
    let case = bench.case("broken", &filter(0, "{event_type: alert}"));
    std::fs::write(case.join("fails"), "").unwrap();
    let case = bench.case("no-json", &filter(0, "{event_type: alert}"));
    std::fs::write(case.join("eve"), "{\n").unwrap();
    let said = bench.said(&[]);
    assert!(said.contains("failed          broken: nfv check: something is wrong\n"), "{said}");
    assert!(said.contains("failed          no-json: eve.json:1 is no JSON"), "{said}");
}

#[test]
fn only_keywords_protocols_and_records_of_others_are_not_applicable() {
    let bench = Bench::new();
    let skipped = |case: PathBuf| {
        let notes = "seen: 2 rules loaded, 3 skipped, 0 broken\n\
            seen: skipped test.rules:4:3: lua (sid 3)\nseen: skipped test.rules:5:7: smb (sid 4)\n\
            seen: skipped test.rules:6:1: content (sid 5)\n\
            seen: broken test.rules:7:16: a direction is -> or <>\n";
        std::fs::write(case.join("notes"), notes).unwrap();
    };
    bench.case("kind", &filter(1, "{event_type: fileinfo}"));
    skipped(bench.case("keyword", &filter(1, "{event_type: alert, alert.signature_id: 3}")));
    skipped(bench.case("protocol", &filter(1, "{event_type: alert, alert.signature_id: 4}")));
    skipped(bench.case("direction", &filter(1, "{event_type: alert, alert.signature_id: 6}")));
    let mail = bench.case("mail", &filter(1, "{event_type: alert, alert.signature_id: 7}"));
    std::fs::write(mail.join("eve"), "{\"event_type\":\"flow\",\"app_proto\":\"smtp\"}\n").unwrap();
    bench.case("web", &filter(1, "{event_type: alert, alert.signature_id: 7}"));
    // Its keyword is one that the IDS has to know, whatever it says.
    skipped(bench.case("own-keyword", &filter(1, "{event_type: alert, alert.signature_id: 5}")));
    skipped(bench.case("other-rule", &filter(2, "{event_type: alert, alert.signature_id: 1}")));
    bench.case("feature", "requires: {features: [QA_SIMULATION]}\nchecks: []\n");
    bench.case("set", "args: [--set app-layer.protocols.http2.enabled=true]\nchecks: []\n");
    bench.case("shell", "checks:\n- shell: {args: cat fast.log | wc -l, expect: 1}\n");
    let said = bench.said(&[]);
    assert!(said.ends_with("1 passed, 2 failed, 8 not applicable\n"), "{said}");
    for line in [
        "not applicable  kind: records of kind fileinfo\n",
        "not applicable  keyword: keyword lua\n",
        "not applicable  protocol: protocol smb\n",
        "not applicable  direction: direction =>\n",
        "not applicable  mail: protocol smtp\n",
        "not applicable  feature: feature QA_SIMULATION: Suricata is told to fail\n",
        "not applicable  set: protocol http2\n",
        "not applicable  shell: a log fast.log\n",
        "failed          own-keyword: ",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
}

#[test]
fn checks_of_other_kinds_are_set_aside_and_the_others_count() {
    let bench = Bench::new();
    let aside = "- filter: {count: 1, match: {event_type: fileinfo}}\n";
    bench.case("passes", &(filter(2, "{alert.signature_id: 1}") + aside));
    bench.case("fails", &(filter(1, "{alert.signature_id: 1}") + aside));
    let said = bench.said(&[]);
    assert!(said.contains("passed          passes (1 of 2 checks are not applicable)\n"), "{said}");
    assert!(said.ends_with("1 passed, 1 failed, 0 not applicable\n"), "{said}");
}

#[test]
fn checks_hold_for_the_eighth_version() {
    let bench = Bench::new();
    let bound = |bound: &str, count: u32| {
        format!(
            "- filter: {{requires: {{{bound}}}, count: {count}, match: {{alert.signature_id: 1}}}}\n"
        )
    };
    let good = ["min-version: 8.0", "min-version: 7", "lt-version: 9", "gt-version: 7.0.5"];
    let other = ["lt-version: 8.0", "min-version: 9", "gt-version: 8"];
    let mut test = "requires: {min-version: 9}\nchecks:\n".to_owned();
    good.iter().for_each(|bound_of| test += &bound(bound_of, 2));
    other.iter().for_each(|bound_of| test += &bound(bound_of, 7));
    bench.case("bounds", &test);
    let said = bench.said(&[]);
    assert!(said.contains("passed          bounds (3 of 7 checks are not applicable)\n"), "{said}");
}

#[test]
fn what_a_case_says_of_suricata_goes_to_the_nf() {
    let bench = Bench::new();
    bench.case("plain", "checks: []\n");
    let args =
        "args:\n- -k none --simulate-ips\n- --set stream.midstream=true\n- --runmode=single\n";
    let case = bench.case("all", &format!("{args}checks: []\n"));
    std::fs::write(case.join("suricata.yaml"), "%YAML 1.1\n---\n").unwrap();
    bench.case("some-ips", "checks: []\n");
    let limits = "args: ['--set threshold-file=${TEST_DIR}/own.config']\nchecks: []\n";
    let limited = bench.case("limited", "checks: []\n");
    let named = bench.case("named", limits);
    for case in [&limited, &named] {
        std::fs::write(case.join("threshold.config"), "").unwrap();
    }
    let of = |name: &str| bench.chain(name)["functions"]["seen"].clone();
    assert!(
        of("limited")["threshold-file"].as_str().unwrap().ends_with("/limited/threshold.config")
    );
    let set = of("named")["suricata-set"]["threshold-file"].as_str().unwrap().to_owned();
    assert!(set.ends_with("/named/own.config") && of("named").get("threshold-file").is_none());
    assert!(of("plain").get("threshold-file").is_none());
    let chain = bench.chain("all");
    let ids = &chain["functions"]["seen"];
    assert_eq!((&ids["mode"], &ids["checksums"]), (&"inline".into(), &"ignore".into()));
    assert_eq!(ids["suricata-set"]["stream.midstream"], "true");
    assert!(ids["suricata-yaml"].as_str().unwrap().ends_with("/all/suricata.yaml"));
    assert!(ids["rules"][0].as_str().unwrap().ends_with("/all/test.rules"));
    let chain = bench.chain("plain");
    let ids = &chain["functions"]["seen"];
    assert_eq!((&ids["mode"], &ids["checksums"]), (&"passive".into(), &"check".into()));
    assert!(ids.get("suricata-yaml").is_none() && ids.get("suricata-set").is_none());
    assert_eq!(bench.chain("some-ips")["functions"]["seen"]["mode"], "inline");
}

#[test]
fn the_page_keeps_the_causes_that_were_written_and_loses_what_passes_now() {
    let bench = Bench::new();
    bench.case("good", &filter(2, "{alert.signature_id: 1}"));
    bench.case("bad", &filter(1, "{alert.signature_id: 1}"));
    bench.case("new", &filter(1, "{alert.signature_id: 1}"));
    let page = bench.folder.path().join("page.md");
    let old = "| `good` | x | because |\n| `bad` | x | it is [so](y) |\n";
    std::fs::write(&page, old).unwrap();
    bench.said(&["--markdown", page.to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("1 of 3 applicable cases pass (33 %); 0 are not applicable.\n"),
        "{page}"
    );
    let bad = page.lines().find(|line| line.starts_with("| `bad` |")).unwrap();
    assert!(bad.ends_with("2 found | it is [so](y) |"), "{page}");
    assert!(page.contains("| not known yet |") && !page.contains("`good`"), "{page}");
}

#[test]
fn all_of_it_is_there_as_json_and_too_few_passes_are_an_error() {
    let bench = Bench::new();
    bench.case("good", &filter(2, "{alert.signature_id: 1}"));
    bench.case("bad", &filter(1, "{alert.signature_id: 1}"));
    let json = bench.folder.path().join("cases.json");
    let output = bench.run(&["--json", json.to_str().unwrap(), "--at-least", "50"]);
    assert!(output.status.success());
    assert_eq!(bench.run(&["--at-least", "51"]).status.code(), Some(1));
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &1.into()));
    assert_eq!(json["cases"][0]["case"], "bad");
    assert_eq!(json["cases"][0]["checks"][0]["why"], "2 found");
}

#[test]
fn most_cases_of_the_suite_pass() {
    let given = std::env::var_os("RULE_CASES").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| "../shared/suricata-verify/cases".into());
    if !Path::new(&folder).is_dir() {
        eprintln!("SKIPPED rule cases: {} is not there", folder.display());
        return;
    }
    let output = Command::new("scripts/rule-cases.sh")
        .arg(folder)
        .args(["--at-least", "85"])
        .env("NFV", env!("CARGO_BIN_EXE_nfv"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
