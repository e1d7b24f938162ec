//! chains/ids.yaml: packets are inspected, what rules drop does not leave, and records are where they are looked for.

mod testkit;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::packets::Udp;
use testkit::replayed::Replayed;
use testkit::{NFV, Rig, is_root, must, skip};

/// Chain files, rules and logs of a test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A chain through an `ids` named `inspect` with these keys, its rules in `rules` and its log in `eve.json`.
    fn chain(&self, keys: &str) -> String {
        self.chain_with(keys, "", "inspect")
    }

    fn chain_with(&self, keys: &str, functions: &str, through: &str) -> String {
        let (rules, log) = (self.path("rules"), self.path("eve.json"));
        let (rules, log) = (rules.display(), log.display());
        let text = format!(
            "ports: {{lan: {{device: \"${{LAN:-net_null0}}\"}}, wan: {{device: \"${{WAN:-net_null1,no-rx=1}}\"}}}}\n\
             functions:\n  {functions}\n  inspect: {{type: ids, rules: {rules}, log: {log}, {keys}}}\n\
             chains: {{through: {{from: lan, through: [{through}], to: wan}}}}\n"
        );
        self.write("chain.yaml", &text).to_str().unwrap().to_owned()
    }

    /// The records of a kind that are in the log by now; a line may be under way.
    fn records(&self, kind: &str) -> Vec<Value> {
        records(&self.path("eve.json"), kind)
    }
}

fn records(log: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|record| record["event_type"] == kind).collect()
}

const UNWANTED: &str = "drop http any any -> any any (msg:\"unwanted\"; flow:established,to_server; http.uri; content:\"/unwanted/\"; sid:1; rev:1;)\n";

/// Files that a server of the host `wan` has.
fn site(files: &Files) -> String {
    for name in ["wanted", "unwanted"] {
        let folder = files.path("site").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), vec![b'x'; 4 << 20]).unwrap();
        std::fs::write(folder.join("small"), "here\n").unwrap();
    }
    files.path("site").to_str().unwrap().to_owned()
}

fn serve(rig: &mut Rig, site: &str) {
    rig.serve("wan", 80, &["python3", "-m", "http.server", "-b", "::", "-d", site, "80"]);
}

/// Whether a download from the host `wan` succeeds.
fn gets(rig: &Rig, path: &str) -> bool {
    rig.succeeds("lan", &format!("curl -sf -m 4 -o /dev/null http://10.99.0.2{path}"))
}

fn check(chain: &str) -> Output {
    Command::new(NFV).args(["check", chain]).output().unwrap()
}

fn dropped(rig: &Rig, reason: &str) -> u64 {
    let all = rig.counted("dropped_packets");
    all.get(&format!("inspect {reason}")).copied().unwrap_or_else(|| panic!("{reason} in {all:?}"))
}

fn counted(rig: &Rig, counter: &str) -> u64 {
    let all = rig.counted("nf_counter");
    all.get(&format!("inspect {counter}")).copied().unwrap_or_else(|| panic!("{counter}: {all:?}"))
}

#[test]
fn a_replay_leaves_its_records_beside_its_captures() {
    let frames = [Udp::to([10, 2, 0, 2], 9999).frame(), Udp::to([10, 2, 0, 2], 9999).frame()];
    let run = || {
        Replayed::of("chains/ids.yaml", frames.iter().cloned().map(|f| (7_000_000_000, f)))
            .succeeded()
    };
    let (run, again) = (run(), run());
    assert_eq!(run.sent("wan"), frames, "no rule is for them");
    let text = |run: &Replayed| std::fs::read_to_string(run.path("eve.json")).unwrap();
    let all = text(&run);
    assert_eq!(all, text(&again), "the same capture has the same records");
    assert_eq!(records(&run.path("eve.json"), "flow").len(), 1, "{all}");
}

/// A segment between 10.1.0.1:4000, who is the client, and 10.2.0.2:80.
fn segment(from_client: From, (seq, ack): (u32, u32), flags: &str, payload: &[u8]) -> Vec<u8> {
    let (client, server) = (([10, 1, 0, 1], 4000), ([10, 2, 0, 2], 80));
    let (src, dst) = match from_client {
        From::Client => (client, server),
        From::Server => (server, client),
    };
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src.0, dst.0, 64)
        .tcp(src.1, dst.1, seq, 60_000);
    let builder = if flags.contains('S') { builder.syn() } else { builder };
    let builder = if flags.contains('A') { builder.ack(ack) } else { builder };
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

#[test]
fn a_flow_of_which_enough_was_seen_hides_no_other() {
    let files = Files::new();
    files.write("rules", "alert udp any any -> any 9999 (msg:\"seen\"; sid:1;)\n");
    let chain = files.chain("stream: {depth: 1KiB}");
    let text = std::fs::read_to_string(&chain).unwrap();
    let log = files.path("eve.json").display().to_string();
    std::fs::write(&chain, text.replace(&log, "eve.json")).unwrap();
    let (client, server) = (From::Client, From::Server);
    let mut frames = vec![
        segment(client, (0, 0), "S", b""),
        segment(server, (0, 1), "SA", b""),
        segment(client, (1, 1), "A", b""),
    ];
    for i in 0..20 {
        let (sent, heard) = (1 + i * 1000, 1 + i * 1000);
        frames.push(segment(client, (sent, heard), "A", &[b'c'; 1000]));
        frames.push(segment(server, (heard, sent + 1000), "A", &[b's'; 1000]));
    }
    let most = frames.len();
    for i in 0..200 {
        frames.push(Udp { src: ([10, 1, 0, 1], 1000 + i), ..Udp::to([10, 2, 0, 2], 9999) }.frame());
    }
    let frames = (0..).zip(frames).map(|(i, frame)| (7_000_000_000 + i * 1000, frame));
    let run = Replayed::of(&chain, frames).succeeded();
    assert_eq!(run.sent("wan").len(), most + 200);
    assert_eq!(records(&run.path("eve.json"), "alert").len(), 200);
}

#[test]
fn a_passive_replay_has_the_same_records_every_time_and_all_packets_leave() {
    let files = Files::new();
    files.write("rules", "alert udp any any -> any 9999 (msg:\"seen\"; threshold: type limit, track by_src, seconds 60, count 1; sid:1;)\n");
    let chain = files.chain("mode: passive");
    let text = std::fs::read_to_string(&chain).unwrap();
    let log = files.path("eve.json").display().to_string();
    std::fs::write(&chain, text.replace(&log, "eve.json")).unwrap();
    let frames: Vec<_> = (0..3000u32)
        .map(|i| {
            let [_, _, c, d] = i.to_be_bytes();
            let src = ([10, 1, c, d], 1000);
            (
                7_000_000_000 + u64::from(i) * 1_000,
                Udp { src, ..Udp::to([10, 2, 0, 2], 9999) }.frame(),
            )
        })
        .collect();
    let run = || Replayed::of(&chain, frames.iter().cloned()).succeeded();
    let (run, again) = (run(), run());
    assert_eq!(run.sent("wan").len(), 3000);
    assert_eq!(
        (run.counter("inspect", "copied_packets"), run.counter("inspect", "shed_copies")),
        (3000, 0)
    );
    let text = |run: &Replayed| std::fs::read_to_string(run.path("eve.json")).unwrap();
    assert!(text(&run) == text(&again), "the same capture has the same records");
    let log = run.path("eve.json");
    assert_eq!((records(&log, "flow").len(), records(&log, "alert").len()), (3000, 3000));
}

#[test]
fn frames_that_cannot_be_read_are_told_and_go_no_further() {
    let files = Files::new();
    files.write(
        "rules",
        "alert pkthdr any any -> any any (msg:\"cut\"; decode-event:ipv4.trunc_pkt; sid:1;)\n\
         alert pkthdr any any -> any any (msg:\"short\"; decode-event:udp.len_invalid; sid:2;)\n\
         alert udp any any -> any 9999 (msg:\"whole\"; sid:3;)\n",
    );
    let whole = Udp::to([10, 2, 0, 2], 9999).frame();
    let (mut cut, mut short) = (whole.clone(), whole.clone());
    cut.truncate(40);
    short[39] = 7;
    for mode in ["inline", "passive"] {
        let chain = files.chain(&format!("mode: {mode}"));
        let text = std::fs::read_to_string(&chain).unwrap();
        let log = files.path("eve.json").display().to_string();
        std::fs::write(&chain, text.replace(&log, "eve.json")).unwrap();
        let frames = [&cut, &whole, &short].into_iter().cloned();
        let run = Replayed::of(&chain, frames.map(|f| (7_000_000_000, f))).succeeded();
        assert_eq!(run.sent("wan"), std::slice::from_ref(&whole), "{mode}");
        let mut sids: Vec<_> = records(&run.path("eve.json"), "alert")
            .iter()
            .map(|alert| alert["alert"]["signature_id"].as_u64().unwrap())
            .collect();
        sids.sort_unstable();
        assert_eq!(sids, [1, 2, 3], "{mode}");
        assert_eq!(records(&run.path("eve.json"), "flow").len(), 1, "{mode}");
    }
}

#[test]
fn what_a_suricata_yaml_asks_for_is_logged_unless_the_chain_file_says_otherwise() {
    let files = Files::new();
    files.write("rules", "alert udp any any -> $SERVERS any (msg:\"seen\"; sid:1;)\n");
    let yaml = "%YAML 1.1\n---\nvars:\n  address-groups:\n    SERVERS: \"[10.2.0.0/16]\"\noutputs:\n  - eve-log:\n      enabled: yes\n      community-id: true\n      types:\n        - alert:\n            payload: yes\n";
    let yaml = files.write("suricata.yaml", yaml);
    let kinds = |more: &str| {
        let chain = files.chain(&format!("suricata-yaml: {}{more}", yaml.display()));
        let text = std::fs::read_to_string(&chain).unwrap();
        let own = files.path("eve.json").display().to_string();
        std::fs::write(&chain, text.replace(&format!("log: {own}, "), "")).unwrap();
        let run = Replayed::of(&chain, [(7, Udp::to([10, 2, 0, 2], 9999).frame())]).succeeded();
        let log = run.path("eve.json");
        let alerts = records(&log, "alert");
        for alert in &alerts {
            assert!(alert["payload"].is_string() && alert["community_id"].is_string(), "{alert}");
        }
        (alerts.len(), records(&log, "flow").len(), records(&log, "stats").len())
    };
    assert_eq!(kinds(""), (1, 0, 0));
    assert_eq!(kinds(", log: {types: [alert, flow]}"), (1, 1, 0));
    assert_eq!(kinds(", vars: {address-groups: {SERVERS: 10.3.0.0/16}}"), (0, 0, 0));
}

#[test]
fn a_check_counts_the_rules_and_says_which_are_left_out_and_why() {
    let files = Files::new();
    let rules = format!(
        "{UNWANTED}alert tcp any any -> any any (msg:\"a\"; modbus: function 1; sid:2;)\n\
         alert tcp any any -> any any (msg:\"b\"; content:\"|zz|\"; sid:3;)\n"
    );
    files.write("rules", &rules);
    let output = check(&files.chain(""));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 rules loaded, 1 skipped, 1 broken"), "{said}");
    let place = |line: u32| format!("{}:{line}:", files.path("rules").display());
    let line = |word: &str, at: u32| {
        let place = place(at);
        said.lines()
            .find(|l| l.contains(word) && l.contains(&place))
            .unwrap_or_else(|| panic!("{said}"))
    };
    assert!(line("skipped", 2).contains("modbus"), "{said}");
    assert!(line("broken", 3).contains("sid 3"), "{said}");
    assert!(!files.path("eve.json").exists(), "a check writes nothing");
}

#[test]
fn what_is_wrong_with_files_and_variables_is_told_with_its_place_and_all_at_once() {
    let files = Files::new();
    files.write("rules", UNWANTED);
    files.write("suricata.yaml", "stream:\n  memcap: much\n");
    files.write("hosts", "10.0.0.1\nnobody\n");
    let (yaml, hosts) = (files.path("suricata.yaml"), files.path("hosts"));
    let chain = files.chain(&format!(
        "suricata-yaml: {}, vars: {{address-groups: {{HOME_NET: 10.0.0.0/99}}}}, \
         classification: /nowhere/classes, blocklists: [{{file: {}, kind: address}}]",
        yaml.display(),
        hosts.display()
    ));
    let output = check(&chain);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["HOME_NET", "10.0.0.0/99", "/nowhere/classes", "stream.memcap: much", "hosts:2:"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("chain.yaml:4:"), "{said}");
}

#[test]
fn an_inline_rule_on_a_uri_drops_the_download_and_without_it_the_download_passes() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", UNWANTED);
    let site = site(&files);
    let mut rig = Rig::start(&files.chain(""));
    serve(&mut rig, &site);
    assert!(gets(&rig, "/wanted/file"));
    assert_eq!((dropped(&rig, "rule_drop"), dropped(&rig, "flow_dropped")), (0, 0));
    assert!(!gets(&rig, "/unwanted/file"));
    assert_eq!(dropped(&rig, "rule_drop"), 1, "the packet that completes the match");
    assert!(dropped(&rig, "flow_dropped") > 0, "and what comes behind it");
    let rules = rig.counted("nf_rule_packets");
    assert_eq!(rules.get("inspect 1:1:1 unwanted"), Some(&1), "{rules:?}");
    rig.wait_until("the alert is in the log", || {
        files.records("alert").iter().any(|alert| {
            alert["alert"]["action"] == "blocked" && alert["alert"]["signature_id"] == 1
        })
    });
    assert_eq!(files.records("alert").len(), 1);

    // The control arm: the same chain, without the rule.
    files.write("rules", "# nothing\n");
    rig.ask(&["reload"]);
    assert!(gets(&rig, "/unwanted/file"), "{:?}", files.records("alert"));
    assert_eq!(files.records("alert").len(), 1);
    files.write("rules", UNWANTED);
    rig.ask(&["reload"]);
    assert!(!gets(&rig, "/unwanted/file"));
    rig.finish();
}

#[test]
fn passive_the_download_passes_and_is_told() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", UNWANTED);
    let site = site(&files);
    let mut rig = Rig::start(&files.chain("mode: passive"));
    serve(&mut rig, &site);
    assert!(gets(&rig, "/unwanted/file"));
    rig.wait_until("the alert is in the log", || {
        files.records("alert").iter().any(|alert| alert["alert"]["action"] == "allowed")
    });
    assert!(counted(&rig, "copied_packets") > 100);
    // Which checks that all mbufs came back, those of the analyser, too.
    let summary = rig.finish();
    assert!(!summary.contains("rule_drop"), "{summary}");
}

/// Sends a request in two parts, with seconds between them, and prints how it ended.
const IN_TWO: &str = r#"python3 -c '
import socket, time
s = socket.create_connection(("10.99.0.2", 80), 5)
s.sendall(b"GET /unwan")
time.sleep(4)
try:
    s.sendall(b"ted/small HTTP/1.0\r\n\r\n")
    s.settimeout(4)
    print("got", len(s.recv(4096)))
except OSError as why:
    print("nothing")
'"#;

#[test]
fn a_threshold_file_limits_what_is_told_and_drops_what_is_too_much() {
    let files = Files::new();
    files.write(
        "rules",
        "alert udp any any -> any 9999 (msg:\"seen\"; dsize:<999; sid:1; rev:1;)\n",
    );
    let limits = files.path("threshold.config");
    let yaml = files.write("suricata.yaml", &format!("threshold-file: {}\n", limits.display()));
    let frame = Udp::to([10, 2, 0, 2], 9999).frame();
    // How many packets leave, how many alerts are told, and why the last packet was dropped.
    let of = |keys: &str, lines: &str| {
        std::fs::write(&limits, lines).unwrap();
        let chain = files.chain(keys);
        let text = std::fs::read_to_string(&chain).unwrap();
        let log = files.path("eve.json").display().to_string();
        std::fs::write(&chain, text.replace(&log, "eve.json")).unwrap();
        let run =
            Replayed::of(&chain, (0..4).map(|i| (7_000_000_000 + i, frame.clone()))).succeeded();
        let log = run.path("eve.json");
        let reason =
            records(&log, "drop").last().map(|record| record["drop"]["reason"].to_string());
        (run.sent("wan").len(), records(&log, "alert").len(), reason)
    };
    let own = format!("threshold-file: {}", limits.display());
    let (of_yaml, limit) = (
        format!("suricata-yaml: {}", yaml.display()),
        "threshold gen_id 1, sig_id 1, type limit, track by_src, count 1, seconds 60\n",
    );
    let rate = "rate_filter gen_id 1, sig_id 1, track by_src, count 2, seconds 60, new_action drop, timeout 60\n";
    assert_eq!(of(&own, limit), (4, 1, None));
    assert_eq!(of(&of_yaml, limit), (4, 1, None));
    let reason = Some("\"threshold detection_filter\"".to_owned());
    assert_eq!(of(&own, rate), (2, 4, reason));
    assert_eq!(of(&own, "suppress gen_id 0, sig_id 0\n"), (4, 0, None));
    assert_eq!(of(&own, "# nothing\n"), (4, 4, None));
    // What is wrong is told with its place, and the rest counts.
    std::fs::write(&limits, format!("{limit}nonsense\n{}", limit.replace("sig_id 1", "sig_id 2")))
        .unwrap();
    let output = check(&files.chain(&own));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("2 limits loaded, 1 broken"), "{said}");
    for line in
        [format!("broken {}:2:9: ", limits.display()), format!("unused {}:3:1: ", limits.display())]
    {
        assert!(said.contains(&line), "{line}: {said}");
    }
    let nowhere = check(&files.chain("threshold-file: /nowhere"));
    assert_eq!(nowhere.status.code(), Some(2));
}

#[test]
fn a_threshold_file_that_has_changed_is_read_by_a_reload() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", "alert tcp any any -> any 80 (msg:\"begins\"; flags:S; sid:1; rev:1;)\n");
    let limits = files.write("threshold.config", "");
    let site = site(&files);
    let mut rig = Rig::start(&files.chain(&format!("threshold-file: {}", limits.display())));
    serve(&mut rig, &site);
    assert!((0..3).all(|_| gets(&rig, "/wanted/small")));
    let rate = "rate_filter gen_id 1, sig_id 1, track by_rule, count 1, seconds 60, new_action drop, timeout 60\n";
    files.write("threshold.config", rate);
    rig.ask(&["reload"]);
    assert!(gets(&rig, "/wanted/small"));
    assert!(!gets(&rig, "/wanted/small"));
    assert!(dropped(&rig, "rate_exceeded") > 0);
    rig.finish();
}

#[test]
fn a_stream_that_is_under_way_goes_on_across_a_reload_of_rules() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", UNWANTED);
    let site = site(&files);
    let mut rig = Rig::start(&files.chain(""));
    serve(&mut rig, &site);
    let ended = std::thread::scope(|scope| {
        let request = scope.spawn(|| rig.on("lan", IN_TWO));
        std::thread::sleep(Duration::from_secs(2));
        files.write("rules", &format!("# another file\n{UNWANTED}"));
        rig.ask(&["reload"]);
        request.join().unwrap()
    });
    assert_eq!(ended.trim(), "nothing", "both parts are one request");
    assert_eq!(dropped(&rig, "rule_drop"), 1);
    assert!(gets(&rig, "/wanted/small"));
    rig.finish();
}

#[test]
fn a_log_that_was_moved_away_is_opened_again_at_sighup() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", UNWANTED);
    let site = site(&files);
    let mut rig = Rig::start(&files.chain(""));
    serve(&mut rig, &site);
    let told = |log: &str, name: &str| {
        let url = format!("/wanted/small?{name}");
        records(&files.path(log), "http").iter().any(|record| record["http"]["url"] == url.as_str())
    };
    assert!(gets(&rig, "/wanted/small?before"));
    rig.wait_until("the first is in the log", || told("eve.json", "before"));
    std::fs::rename(files.path("eve.json"), files.path("eve.json.1")).unwrap();
    rig.hang_up();
    rig.wait_until("there is a new log", || files.path("eve.json").exists());
    assert!(gets(&rig, "/wanted/small?behind"));
    rig.wait_until("the second is in the new log", || told("eve.json", "behind"));
    assert!(!told("eve.json.1", "behind") && !told("eve.json", "before"));
    rig.finish();
}

#[test]
fn a_reader_of_the_log_that_does_not_read_slows_no_packet() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", UNWANTED);
    let site = site(&files);
    let fifo = files.path("eve.json");
    must(&format!("mkfifo {}", fifo.display()));
    let mut rig = Rig::start(&files.chain("memory: {log: 256KiB}"));
    serve(&mut rig, &site);
    // Opened, and not read until the end.
    let reads = Arc::new(AtomicBool::new(false));
    let (bytes, own, path) = (Arc::new(AtomicU64::new(0)), reads.clone(), fifo.clone());
    let seen = bytes.clone();
    let reader = std::thread::spawn(move || {
        let mut pipe = std::fs::File::open(path).unwrap();
        let mut room = [0; 65_536];
        loop {
            while !own.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            match pipe.read(&mut room).unwrap() {
                0 => return,
                n => seen.fetch_add(n as u64, Ordering::Relaxed),
            };
        }
    });
    let time = |requests: u32| {
        let start = Instant::now();
        rig.on(
            "lan",
            &format!("curl -sf -m 60 -o /dev/null http://10.99.0.2/wanted/small?[1-{requests}]"),
        );
        start.elapsed()
    };
    time(10);
    let free = time(300);
    let stuck = (0..5).map(|_| time(300)).min().unwrap();
    println!("300 requests: {free:?} before the queue is full, {stuck:?} behind");
    rig.wait_until("records are shed", || {
        time(300);
        counted(&rig, "shed_records") > 0
    });
    let shed = time(300);
    assert!(shed < 2 * free.max(stuck), "{shed:?} while records are shed");
    reads.store(true, Ordering::Release);
    rig.wait_until("what waited is read", || bytes.load(Ordering::Relaxed) > 100_000);
    rig.finish();
    reader.join().unwrap();
}

#[test]
fn who_is_on_a_blocklist_is_not_talked_to_by_address_port_or_name() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", "# none\n");
    let (hosts, ports, names) = (
        files.write("hosts", "192.0.2.0/24\n"),
        files.write("ports", "81\n"),
        files.write("names", "evil.test\n"),
    );
    let list = |path: &Path, kind: &str| format!("{{file: {}, kind: {kind}}}", path.display());
    let chain = files.chain(&format!(
        "blocklists: [{}, {}, {}]",
        list(&hosts, "prefix"),
        list(&ports, "port"),
        list(&names, "domain")
    ));
    let site = site(&files);
    let mut rig = Rig::start(&chain);
    serve(&mut rig, &site);
    rig.serve("wan", 81, &["python3", "-m", "http.server", "-b", "::", "-d", &site, "81"]);
    assert!(gets(&rig, "/wanted/small"));
    assert!(!gets(&rig, ":81/wanted/small"));
    assert_eq!(dropped(&rig, "blocklisted"), 1, "the first packet of its flow");
    let host = |name: &str| {
        let line =
            format!("curl -sf -m 3 -o /dev/null -H Host:{name} http://10.99.0.2/wanted/small");
        rig.succeeds("lan", &line)
    };
    assert!(host("good.test") && !host("www.Evil.test"));
    rig.wait_until("both are told", || {
        let all = files.records("alert");
        let of = |sid: u32| {
            all.iter()
                .filter(|a| a["alert"]["gid"] == 1000 && a["alert"]["signature_id"] == sid)
                .count()
        };
        (of(1), of(2), of(3)) == (0, 1, 1)
    });
    // Another file counts from the next reload on, for flows that are known, too.
    files.write("hosts", "192.0.2.0/24\n10.99.0.2\n");
    assert!(gets(&rig, "/wanted/small"));
    rig.ask(&["reload"]);
    assert!(!gets(&rig, "/wanted/small"));
    rig.finish();
}

/// Sends a mebibyte to the host `wan`, which sends it back.
const ECHOED: &str = r#"python3 -c '
import socket, threading
s = socket.create_connection(("10.99.0.2", 7), 5)
data = bytes(range(256)) * 4096
threading.Thread(target=s.sendall, args=(data,)).start()
got = b""
while len(got) < len(data):
    more = s.recv(65536)
    assert more
    got += more
assert got == data
'"#;

/// Sends back what it gets.
const ECHO: &str = "import socketserver\nclass Echo(socketserver.BaseRequestHandler):\n    def handle(self):\n        while more := self.request.recv(65536):\n            self.request.sendall(more)\nsocketserver.ThreadingTCPServer((\"10.99.0.2\", 7), Echo).serve_forever()\n";

#[test]
fn flows_past_their_depth_pass_by_in_a_chain_that_keeps_flows() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    let rule = "drop tcp any any -> any 7 (msg:\"word\"; flow:established,to_server; content:\"unwanted\"; sid:1; rev:1;)\n";
    files.write("rules", rule);
    let echo = files.write("echo.py", ECHO);
    let firewall = "edge: {type: firewall, stateful: true, default: allow}";
    let of = |bypass: &str| {
        let keys = format!("bypass: {bypass}, stream: {{depth: 64KiB}}");
        let mut rig = Rig::start(&files.chain_with(&keys, firewall, "edge, inspect"));
        rig.serve("wan", 7, &["python3", echo.to_str().unwrap()]);
        rig.on("lan", ECHOED);
        let passed_by = counted(&rig, "bypassed_packets");
        // Another connection is looked at from its beginning, also after a reload.
        files.write("rules", &format!("# {bypass}\n{rule}"));
        rig.ask(&["reload"]);
        let word = "timeout 3 python3 -c 'import socket\ns = socket.create_connection((\"10.99.0.2\", 7), 3)\ns.sendall(b\"unwanted\")\nassert s.recv(9)'";
        assert!(!rig.succeeds("lan", word));
        assert_eq!(dropped(&rig, "rule_drop"), 1);
        rig.finish();
        passed_by
    };
    let (on, off) = (of("on"), of("off"));
    assert!(on > 100, "{on} of a mebibyte each way");
    assert_eq!(off, 0);
}

#[test]
fn of_a_flow_that_is_let_go_one_packet_a_side_and_half_a_minute_is_looked_at() {
    let files = Files::new();
    files.write("rules", "# nothing\n");
    let edge = "edge: {type: firewall, stateful: true, default: allow}";
    // How many packets passed by, and how many left, of 100 rounds in one half of a minute and two in the next or not.
    let of = |bypass: &str, gap: u64| {
        let keys = format!("bypass: {bypass}, stream: {{depth: 1KiB}}");
        let chain = files.chain_with(&keys, edge, "edge, inspect");
        let text = std::fs::read_to_string(&chain).unwrap();
        let log = files.path("eve.json").display().to_string();
        std::fs::write(&chain, text.replace(&log, "eve.json")).unwrap();
        let (client, server) = (From::Client, From::Server);
        let mut frames = vec![
            (0, segment(client, (0, 0), "S", b"")),
            (0, segment(server, (0, 1), "SA", b"")),
            (0, segment(client, (1, 1), "A", b"")),
        ];
        for i in 0..102 {
            let (number, late) = (1 + i * 1000, if i < 100 { 0 } else { gap });
            frames.push((late, segment(client, (number, number), "A", &[b'c'; 1000])));
            frames.push((late, segment(server, (number, number + 1000), "A", &[b's'; 1000])));
        }
        let stamped = (0..)
            .zip(frames)
            .map(|(i, (late, frame))| (31_000_000_000 + i * 1000 + late * 1_000_000_000, frame));
        let run = Replayed::of(&chain, stamped).succeeded();
        (run.counter("inspect", "bypassed_packets"), run.sent("wan").len())
    };
    let (all, sent) = of("on", 0);
    assert!((190..=204).contains(&all), "{all}");
    let (some, _) = of("on", 30);
    assert_eq!(all - some, 2);
    // The control arm: without it all are looked at, and as many leave.
    assert_eq!(of("off", 0), (0, sent));
}

#[test]
fn both_ends_of_what_is_rejected_hear_of_it_at_once() {
    if !is_root() {
        return skip("ids", "making namespaces needs root");
    }
    let files = Files::new();
    files.write("rules", &UNWANTED.replace("drop http", "rejectboth http"));
    let mut rig = Rig::start(&files.chain(""));
    // Prints what a connection came to when it ends.
    let server = "import socket\ns = socket.create_server((\"10.99.0.2\", 80))\nprint(\"ready\", flush=True)\nc, _ = s.accept()\nc.settimeout(10)\ntry:\n    print(\"got\", len(c.recv(4096)), flush=True)\nexcept OSError as why:\n    print(type(why).__name__, flush=True)\n";
    let script = files.write("server.py", server);
    let mut child = rig.begin("wan", &["python3", script.to_str().unwrap()]);
    rig.wait_until("the server listens", || rig.on("wan", "ss -Hltn sport = :80").contains(":80"));
    let start = Instant::now();
    assert!(!gets(&rig, "/unwanted/small"));
    assert!(start.elapsed() < Duration::from_secs(3), "the client does not wait");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(said.contains("ConnectionResetError"), "{said}");
    assert_eq!(dropped(&rig, "rule_reject_both"), 1);
    let _ = &mut rig;
    rig.finish();
}
