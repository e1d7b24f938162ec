//! chains/count.yaml: what is counted, and that all passes.

mod testkit;

use testkit::packets::Udp;
use testkit::replayed::Replayed;

#[test]
fn ip_packets_are_counted_apart_and_all_pass_as_they_are() {
    let lldp = [&[1, 0x80, 0xc2, 0, 0, 14, 2, 0, 0, 0, 0, 1, 0x88, 0xcc], &[0; 46][..]].concat();
    let frames = vec![Udp::to([10, 2, 0, 2], 9).frame(), lldp, Udp::to([10, 2, 0, 2], 10).frame()];
    let run = Replayed::of("chains/count.yaml", frames.iter().cloned().map(|f| (7, f))).succeeded();
    assert_eq!(run.counter("seen", "ip_packets"), 2);
    assert_eq!(run.report["functions"]["seen"]["packets"], 3);
    assert_eq!(run.sent("wan"), frames);
}
