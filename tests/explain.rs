//! `nfv replay --explain`: who decided what became of each packet.

mod testkit;

use nfv_core::packet::{flow_hash, parse};
use testkit::packets::Udp;
use testkit::replayed::Replayed;

#[test]
fn each_packet_is_told_with_its_chain_its_rule_and_its_end() {
    let lying = {
        let mut frame = Udp::to([10, 2, 0, 2], 53).frame();
        frame[17] = 200;
        frame
    };
    let frames = [Udp::to([10, 2, 0, 2], 53).frame(), Udp::to([10, 2, 0, 2], 9).frame(), lying];
    let hash = |frame: &[u8]| flow_hash(&parse(frame, frame.len() as u32).unwrap());
    let (dns, other) = (hash(&frames[0]), hash(&frames[1]));
    let timed = frames.into_iter().zip(1..).map(|(frame, i)| (i * 1_000_000_007, frame));
    let run = Replayed::with("chains/firewall.yaml", timed, &["--explain"], &[]).succeeded();
    let rules = std::fs::read_to_string("chains/firewall.yaml").unwrap();
    let line = 1 + rules.lines().position(|l| l.contains("allow: udp")).unwrap();
    let expected = format!(
        "lan 1, 1.000000007: 10.1.0.2:1000 > 10.2.0.2:53 udp, 60 bytes, flow {dns:08x}\n  \
           chain outbound, forward\n    \
             edge (firewall): line {line}: allow\n    \
             seen (count): ip_packets\n  \
           out of wan\n\
         lan 2, 2.000000014: 10.1.0.2:1000 > 10.2.0.2:9 udp, 60 bytes, flow {other:08x}\n  \
           chain outbound, forward\n    \
             edge (firewall)\n  \
           dropped: edge/no_rule: no rule matched, and the default is deny\n\
         lan 3, 3.000000021: ipv4_total_length, 60 bytes\n  \
           dropped: parse/ipv4_total_length: "
    );
    let said = String::from_utf8_lossy(&run.output.stdout);
    assert!(said.starts_with(&expected), "{said}\n--- is not\n{expected}");
}
