//! A flood of SYNs, ten times as many as there is room for flows: who is there already is not hurt, who comes gets in.

mod testkit;

use std::io::{BufRead, BufReader};

use testkit::{Rig, is_root, skip};

/// Runs the flood over a chain; how many of the connections that were opened meanwhile did, and how many were tried.
fn flooded(chain: &str) -> (u32, u32, String) {
    let mut rig = Rig::start(chain);
    // What the flood asks for is forwarded to a host that drops it: its own backlog is not what is tested.
    rig.serve("wan", 80, &["python3", "tests/testkit/many.py", "serve", "10.99.0.2", "80"]);
    let hold = ["python3", "tests/testkit/many.py", "hold", "10.99.0.2", "80", "1000", "16"];
    let mut held = rig.begin("lan", &hold);
    let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "open");
    let flood = ["python3", "tests/testkit/flood.py", "eth0", "10.99.0.2", "9", "12"];
    let flood = rig.begin("lan", &flood);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let opening = rig.on("lan", "python3 tests/testkit/opening.py 10.99.0.2 80 100 8");
    let flood = flood.wait_with_output().unwrap();
    let sent: u32 = String::from_utf8_lossy(&flood.stdout).trim().parse().unwrap();
    assert!(sent >= 100_000, "the flood is ten times the table: {sent}");
    assert_eq!(lines.next().unwrap().unwrap(), "1000 connections held, 0 broken");
    held.wait().unwrap();
    let (opened, tried) = opening.trim().split_once(" of ").unwrap();
    println!("{sent} SYNs; {opening}");
    (opened.parse().unwrap(), tried.parse().unwrap(), rig.finish())
}

#[test]
fn a_flood_of_syns_keeps_nobody_out() {
    if !is_root() {
        return skip("flood", "making namespaces needs root");
    }
    let (opened, tried, summary) = flooded("tests/data/small-table.yaml");
    assert!(opened * 100 >= tried * 99, "{opened} of {tried}\n{summary}");
    assert!(summary.contains("evicted_flows") || !summary.contains("table_full"), "{summary}");
}

/// The control: a table that lets nobody go for another is full, and who comes is refused.
#[test]
fn without_making_room_a_flood_keeps_everybody_out() {
    if !is_root() {
        return skip("flood", "making namespaces needs root");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = std::fs::read_to_string("tests/data/small-table.yaml").unwrap();
    std::fs::write(&file, text.replace("{max: 10000}", "{max: 10000, full: refuse}")).unwrap();
    let (opened, tried, summary) = flooded(file.path().to_str().unwrap());
    assert!(opened * 100 < tried * 99, "{opened} of {tried}");
    assert!(summary.contains("table_full"), "{summary}");
}
