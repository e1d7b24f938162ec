//! Two workers on two queues: all packets arrive, and those of a flow in their order.

mod testkit;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use testkit::NFV;
use testkit::packets::{Udp, read_capture, write_capture};

const FLOWS: u16 = 200;
const PACKETS: usize = 50_000;

/// Packets of many flows by turns; each carries its number in its flow.
fn traffic(first_port: u16) -> Vec<Vec<u8>> {
    let mut next = HashMap::new();
    let packet = |i: usize| {
        // Three at a time, so that a flow has several packets in a burst.
        let flow = first_port + (i / 3 * 37 % usize::from(FLOWS)) as u16;
        let number: &mut u32 = next.entry(flow).or_default();
        *number += 1;
        let mut frame = Udp { src: ([10, 1, 0, 2], flow), ..Udp::to([10, 2, 0, 2], 53) }.frame();
        frame[42..46].copy_from_slice(&number.to_be_bytes());
        frame
    };
    (0..PACKETS).map(packet).collect()
}

/// The first packet that came before an earlier one of its flow, and how many flows and packets there are.
fn check_order<'f>(frames: impl Iterator<Item = &'f [u8]>) -> (Option<usize>, usize, usize) {
    let mut last: HashMap<[u8; 2], u32> = HashMap::new();
    let (mut wrong, mut count) = (None, 0);
    for (i, frame) in frames.enumerate() {
        let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
        let before = last.insert([frame[34], frame[35]], number).unwrap_or(0);
        if number != before + 1 && wrong.is_none() {
            wrong = Some(i);
        }
        count += 1;
    }
    (wrong, last.len(), count)
}

#[test]
fn two_workers_carry_all_packets_and_each_flow_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let inputs = [("a.pcap", traffic(1000)), ("b.pcap", traffic(30_000))];
    for (name, frames) in &inputs {
        let timed = frames.iter().enumerate().map(|(i, f)| (i as u64, f.clone()));
        write_capture(Path::new(&path(name)), timed);
    }
    let output = Command::new(NFV)
        .args(["run", "--no-pci", "--no-huge", "-m", "512", "--lcores", "0@0,1@0,2@1", "--"])
        .args(["chains/firewall.yaml", "--duration", "3", "--control", &path("nfv.sock")])
        .env("LAN", format!("net_pcap0,rx_pcap={},rx_pcap={}", path("a.pcap"), path("b.pcap")))
        .env("WAN", format!("net_pcap1,tx_pcap={},tx_pcap={}", path("c.pcap"), path("d.pcap")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent = |name: &str| read_capture(Path::new(&path(name)));
    let outputs = [sent("c.pcap"), sent("d.pcap")];
    for (frames, (name, _)) in outputs.iter().zip(&inputs) {
        let found = check_order(frames.iter().map(|(_, f)| f.as_slice()));
        assert_eq!(found, (None, usize::from(FLOWS), PACKETS), "of {name}");
    }
    // Control: the check sees a single exchange of two packets of one flow.
    let mut exchanged: Vec<&[u8]> = inputs[0].1.iter().map(Vec::as_slice).collect();
    let of = exchanged[0][34..36].to_vec();
    let second = exchanged.iter().skip(1).position(|f| f[34..36] == of).unwrap() + 1;
    exchanged.swap(0, second);
    assert!(check_order(exchanged.into_iter()).0.is_some());
}
