//! chains/impair.yaml, by a capture's clock: what becomes of packets on a bad link, and that it is the same each time.

mod testkit;

use std::collections::BTreeMap;

use testkit::packets::Udp;
use testkit::replayed::Replayed;
use testkit::{Rig, is_root, skip};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// So many packets, one a millisecond, each with its number.
fn numbered(count: u32) -> Vec<(u64, Vec<u8>)> {
    let frame = |i: u32| {
        let mut frame = Udp { payload: 400, ..Udp::to([10, 2, 0, 2], 9) }.frame();
        let end = frame.len();
        frame[end - 4..].copy_from_slice(&i.to_be_bytes());
        (SECOND + u64::from(i) * MS, frame)
    };
    (0..count).map(frame).collect()
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(*frame.last_chunk().unwrap())
}

fn chain(folder: &tempfile::TempDir, line: &str) -> String {
    let text = format!(
        "ports: {{ lan: net_null0, wan: net_null1 }}\nfunctions: {{ line: {{ type: impair, {line} }} }}\n\
         chains: {{ through: {{ from: lan, through: [ line ], to: wan }} }}\n"
    );
    let file = folder.path().join("chain.yaml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_bad_link_does_to_packets_what_it_is_told_and_the_same_each_time() {
    let count = 20_000;
    let run = Replayed::of("chains/impair.yaml", numbered(count)).succeeded();
    let arrived = run.timed("wan");
    let about = |what: &str, n: u64, share: f64| {
        let expected = f64::from(count) * share;
        // Five deviations.
        let off = (n as f64 - expected).abs();
        assert!(off < 5.0 * expected.sqrt(), "{what}: {n}, expected {expected}");
    };
    about("lost", run.dropped("line/lost"), 0.01);
    about("twice", run.counter("line", "duplicated_packets"), 0.99 * 0.005);
    about("damaged", run.counter("line", "corrupted_packets"), 0.99 * 0.001);
    about("late", run.counter("line", "late_packets"), 0.99 * 0.005);

    let sent: BTreeMap<u32, Vec<u8>> =
        numbered(count).into_iter().map(|(_, f)| (number(&f), f)).collect();
    let (mut damaged, mut last, mut overtaken, mut seen) = (0, 0, 0, BTreeMap::new());
    for (time, frame) in &arrived {
        let i = number(frame);
        if sent.get(&i) != Some(frame) {
            damaged += 1;
            continue;
        }
        let took = time - (SECOND + u64::from(i) * MS);
        // 442 bytes at 20 Mbit/s are 0.18 ms; then the delay, the jitter, and 5 ms for some.
        assert!((10 * MS..18 * MS).contains(&took), "{took}");
        overtaken += u64::from(i < last);
        last = last.max(i);
        *seen.entry(i).or_insert(0) += 1;
    }
    // What was damaged in its header is dropped as malformed, or has come.
    assert!(damaged > 0 && damaged <= run.counter("line", "corrupted_packets") * 2);
    let late = run.counter("line", "late_packets");
    assert!(overtaken > late * 9 / 10 && overtaken <= late * 2, "{overtaken} of {late}");
    assert!(seen.values().any(|times| *times == 2) && seen.values().all(|times| *times <= 2));

    let again = Replayed::of("chains/impair.yaml", numbered(count)).succeeded();
    assert_eq!(again.timed("wan"), arrived, "the same seed, the same fates");
}

#[test]
fn another_seed_loses_others_and_a_good_link_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let lost = |line: &str| -> Vec<u32> {
        let run = Replayed::of(&chain(&folder, line), numbered(2000)).succeeded();
        let arrived: Vec<u32> = run.sent("wan").iter().map(|f| number(f)).collect();
        assert!(arrived.is_sorted(), "{line}: they come in order");
        (0..2000).filter(|i| !arrived.contains(i)).collect()
    };
    let (one, other) = (lost("loss: 5%, seed: 1"), lost("loss: 5%, seed: 2"));
    assert!(one.len() > 50 && other.len() > 50 && one != other);
    // The dice of a property are its own.
    assert_eq!(lost("loss: 5%, seed: 1, delay: 20ms, jitter: 5ms"), one);
    let none: [u32; 0] = [];
    assert_eq!(lost("loss: 0%"), none);
    assert_eq!(lost("delay: 20ms, jitter: 20ms"), none, "jitter alone reorders nothing");
    assert_eq!(lost("loss: 100%").len(), 2000);
    assert_eq!(lost("loss: 100%, way: reverse"), none, "the other direction is as it was");
}

#[test]
fn a_rate_is_kept_and_what_finds_the_queue_full_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // 442 bytes a millisecond are 3.5 Mbit/s: twice what the link carries.
    let file = chain(&folder, "rate: 1768kbps, queue: 44200B");
    let run = Replayed::of(&file, numbered(10_000)).succeeded();
    let arrived = run.timed("wan");
    let full = run.dropped("line/queue_full");
    // In 10 s the link carries 5,000, and then the 100 that wait.
    assert!((5_090..5_110).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!(full, 10_000 - arrived.len() as u64);
    let gaps = arrived.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(gaps.clone().all(|gap| gap >= 2 * MS), "{:?}", gaps.min());
    let held = chain(&folder, "delay: 1s, packets: 100");
    let run = Replayed::of(&held, numbered(500)).succeeded();
    assert_eq!((run.sent("wan").len(), run.dropped("line/hold_full")), (100, 400));
}

#[test]
fn a_mistake_in_a_share_is_shown_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = Replayed::of(&chain(&folder, "loss: 120%"), numbered(1));
    let said = String::from_utf8_lossy(&run.output.stderr).into_owned();
    assert_eq!(run.output.status.code(), Some(2), "{said}");
    assert!(said.contains("chain.yaml:2:") && said.contains("write it as `0.5%`"), "{said}");
}

#[test]
fn hosts_see_the_delay_and_an_operator_changes_it() {
    if !is_root() {
        return skip("impair", "making namespaces needs root");
    }
    let rig = Rig::start("chains/impair.yaml");
    for knob in ["loss", "duplicate", "reorder", "corrupt"] {
        rig.ask(&["set", &format!("line.{knob}"), "0%"]);
    }
    rig.ask(&["set", "line.jitter", "0ms"]);
    let average = |rig: &Rig| -> f64 {
        let text = rig.on("lan", "ping -q -c 20 -i 0.05 10.99.0.2");
        assert!(text.contains(" 0% packet loss"), "{text}");
        let times = text.split(" = ").nth(1).expect("a line of times");
        times.split('/').nth(1).and_then(|n| n.parse().ok()).expect("an average")
    };
    let at_10 = average(&rig);
    assert!((20.0..26.0).contains(&at_10), "{at_10} ms");
    rig.ask(&["set", "line.delay", "40ms"]);
    let at_40 = average(&rig);
    assert!((80.0..88.0).contains(&at_40), "{at_40} ms");
    rig.ask(&["set", "line.loss", "100%"]);
    assert!(!rig.succeeds("lan", "ping -c 2 -W 1 10.99.0.2"), "control: nothing passes");
    rig.finish();
}
