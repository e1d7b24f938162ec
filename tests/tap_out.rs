//! chains/tap-out.yaml: what matches is in the file, whatever becomes of the disk.

mod testkit;

use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::{Block, PcapNgReader};
use testkit::packets::Udp;
use testkit::replayed::Replayed;
use testkit::{is_root, must, shell, skip};

fn read(file: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut reader = PcapNgReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(p) = block.expect("every block is whole") {
            all.push((p.timestamp.as_nanos() as u64, p.data.into_owned()));
        }
    }
    all
}

/// A DNS packet and another one by turns, microseconds apart.
fn traffic(count: u64) -> Vec<(u64, Vec<u8>)> {
    let frame = |i: u64| Udp::to([10, 2, 0, 2], if i.is_multiple_of(2) { 53 } else { 54 }).frame();
    (0..count)
        .map(|i| (Duration::from_secs(1_700_000_000).as_nanos() as u64 + i * 1001, frame(i)))
        .collect()
}

#[test]
fn the_file_has_what_matches_with_its_time_and_all_packets_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dns.pcapng");
    let frames = traffic(20_000);
    let run = Replayed::with("chains/tap-out.yaml", frames.clone(), &[], &[("TAP", &file)]);
    let run = run.succeeded();
    assert_eq!(run.timed("wan"), frames);
    let dns: Vec<_> = frames.into_iter().step_by(2).collect();
    assert_eq!(read(&file), dns);
    assert_eq!(run.counter("dns", "tapped_packets"), 10_000);
    assert_eq!(run.report["consumed_packets"], 10_000);
}

#[test]
fn a_file_that_cannot_be_made_is_a_mistake_with_its_place() {
    let file = Path::new("/nowhere/at/all.pcapng");
    let run = Replayed::with("chains/tap-out.yaml", traffic(2), &[], &[("TAP", file)]);
    assert_eq!(run.output.status.code(), Some(2));
    let why = String::from_utf8_lossy(&run.output.stderr);
    assert!(
        why.contains("chains/tap-out.yaml:7:31: /nowhere/at/all.pcapng: No such file"),
        "{why}"
    );
}

#[test]
fn a_full_disk_ends_the_file_and_not_the_traffic_and_the_run_fails_with_one_error() {
    if !is_root() {
        return skip("tap_out", "mounting a small disk needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().display();
    must(&format!("mount -t tmpfs -o size=1m none {disk}"));
    let file = folder.path().join("dns.pcapng");
    let frames = traffic(40_000);
    let run = Replayed::with("chains/tap-out.yaml", frames.clone(), &[], &[("TAP", &file)]);
    let there = read(&file);
    shell(&format!("umount {disk}"));
    assert_eq!(run.output.status.code(), Some(1));
    assert_eq!(run.timed("wan"), frames, "packets pass as before");
    assert!(there.len() > 5_000, "what fits a mebibyte is there: {}", there.len());
    assert!(
        there.iter().eq(frames.iter().step_by(2).take(there.len())),
        "the first ones, unchanged"
    );
    let said = String::from_utf8_lossy(&run.output.stderr);
    let errors: Vec<_> = said.lines().filter(|l| l.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].contains("No space left on device"), "{said}");
    assert!(errors[0].contains(&file.display().to_string()), "{said}");
}
