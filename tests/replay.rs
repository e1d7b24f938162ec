//! `nfv replay`: real captures in, exact accounts out, the same twice, and what is only forwarded unchanged.

mod testkit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::{NFV, skip};

fn replay(chain: &str, capture: &Path, out: &Path) -> (Output, Option<serde_json::Value>) {
    let report = out.join("report.json");
    let _ = std::fs::remove_file(&report);
    let output = Command::new(NFV)
        .args(["replay", chain, "--in", &format!("lan={}", capture.display()), "--out"])
        .arg(out)
        .arg("--report")
        .arg(&report)
        .output()
        .expect("nfv starts");
    let text = std::fs::read_to_string(report).ok();
    (output, text.and_then(|t| serde_json::from_str(&t).ok()))
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("nfv-replay-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A capture of Ethernet with these frames, microseconds apart.
fn capture_of(path: &Path, frames: &[&[u8]]) {
    let mut bytes =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (i, frame) in frames.iter().enumerate() {
        for word in [1, i as u32, frame.len() as u32, frame.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

/// A SYN from 192.0.2.1 to 198.51.100.2, `dport`.
fn syn(dport: u16) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    frame.extend([192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34]);
    frame.extend(dport.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0]);
    frame
}

fn assert_balanced(report: &serde_json::Value) {
    let n = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} is in {report}"));
    assert_eq!(
        n("rx_packets") + n("created_packets"),
        n("tx_packets") + n("dropped_packets") + n("consumed_packets"),
        "{report}"
    );
    let drops: u64 = report["drops"].as_object().unwrap().values().filter_map(|v| v.as_u64()).sum();
    assert_eq!(drops, n("dropped_packets"), "every drop has a name: {report}");
}

#[test]
fn a_firewall_passes_what_a_rule_allows_and_names_what_it_drops() {
    let dir = folder("firewall");
    let capture = dir.join("in.pcap");
    let mut lying = syn(80);
    lying[17] = 200;
    capture_of(&capture, &[&syn(80), &syn(81), &lying, &[1, 2, 3]]);
    let (output, report) = replay("chains/firewall.yaml", &capture, &dir);
    assert!(output.status.success(), "{output:?}");
    let report = report.expect("there is a report");
    assert_balanced(&report);
    assert_eq!(report["tx_packets"], 1);
    let drops = serde_json::json!(
        {"edge/no_rule": 1, "parse/frame_too_short": 1, "parse/ipv4_total_length": 1});
    assert_eq!(report["drops"], drops);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_capture_cut_in_the_middle_is_an_error_and_what_was_whole_is_written() {
    let dir = folder("cut");
    let capture = dir.join("in.pcap");
    capture_of(&capture, &[&syn(80), &syn(80)]);
    let bytes = std::fs::read(&capture).unwrap();
    std::fs::write(&capture, &bytes[..bytes.len() - 10]).unwrap();
    let (output, report) = replay("chains/forward.yaml", &capture, &dir);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in.pcap: frame 2"), "{output:?}");
    assert_eq!(report.expect("there is a report")["tx_packets"], 1);
    assert_eq!(std::fs::metadata(dir.join("wan.pcap")).unwrap().len(), 24 + 16 + 54);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn every_mistake_of_a_chain_file_is_told_at_once_with_its_place() {
    let dir = folder("mistakes");
    let chain = dir.join("bad.yaml");
    std::fs::write(
        &chain,
        "ports:\n  lan: { device: net_null0, colour: red }\n  wan: net_null1\nfunctions:\n  edge: { type: firewal }\nchains:\n  a: { from: lam, to: wan }\n  b: { from: lan, through: [edg], to: wan }\n",
    )
    .unwrap();
    let output = Command::new(NFV).arg("check").arg(&chain).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for place in ["bad.yaml:2:29:", "bad.yaml:5:17:", "bad.yaml:7:14:", "bad.yaml:8:29:"] {
        assert!(text.contains(place), "{place} is missing in:\n{text}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn real_captures_are_forwarded_byte_for_byte_and_the_same_twice() {
    let shared = std::env::var("NFV_SHARED").unwrap_or_else(|_| "../shared".to_owned());
    let captures = Path::new(&shared).join("captures/ndpi");
    let Ok(entries) = std::fs::read_dir(&captures) else {
        return skip("real captures", &format!("there is no {}", captures.display()));
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "pcap" || e == "pcapng"));
    files.sort();
    let (first, second) = (folder("first"), folder("second"));
    let mut refused = 0;
    for file in &files {
        let (one, report) = replay("chains/forward.yaml", file, &first);
        let (two, again) = replay("chains/forward.yaml", file, &second);
        let code =
            one.status.code().unwrap_or_else(|| panic!("{} ends it: {one:?}", file.display()));
        assert!(code == 0 || code == 2, "{}: {one:?}", file.display());
        assert_eq!(two.status.code(), Some(code), "{}", file.display());
        refused += u32::from(code == 2);
        let Some(report) = report else { continue };
        assert_balanced(&report);
        assert_eq!(Some(&report), again.as_ref(), "{}", file.display());
        let wan = |dir: &Path| std::fs::read(dir.join("wan.pcap")).unwrap();
        assert!(wan(&first) == wan(&second), "{} differs from run to run", file.display());
        if report["dropped_packets"] == 0 && file.extension().is_some_and(|e| e == "pcap") {
            assert_same_frames(file, &wan(&first));
        }
    }
    println!("{} captures, {refused} of them refused with a reason", files.len());
    for dir in [first, second] {
        std::fs::remove_dir_all(dir).unwrap();
    }
}

/// The frames of an Ethernet capture are those that were written.
fn assert_same_frames(file: &Path, written: &[u8]) {
    let read = |bytes: &[u8]| -> Option<Vec<Vec<u8>>> {
        let mut reader = pcap_file::pcap::PcapReader::new(bytes).ok()?;
        if reader.header().datalink != pcap_file::DataLink::ETHERNET {
            return None;
        }
        let mut frames = Vec::new();
        while let Some(Ok(packet)) = reader.next_packet() {
            frames.push(packet.data.into_owned());
        }
        Some(frames)
    };
    let Some(original) = read(&std::fs::read(file).unwrap()) else { return };
    assert!(read(written) == Some(original), "{} was changed on its way", file.display());
}
