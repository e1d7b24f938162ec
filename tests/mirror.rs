//! chains/mirror.yaml: copies of what matches leave by another port, and the packets go on.

mod testkit;

use testkit::packets::Udp;
use testkit::replayed::Replayed;

#[test]
fn what_matches_is_copied_to_the_other_port_cut_to_its_snap() {
    let dns = Udp { payload: 400, ..Udp::to([10, 2, 0, 2], 53) }.frame();
    let other = Udp::to([10, 2, 0, 2], 54).frame();
    let frames = [dns.clone(), other.clone(), dns.clone()];
    let run = Replayed::of("chains/mirror.yaml", frames.iter().cloned().map(|f| (7, f)));
    let run = run.succeeded();
    assert_eq!(run.sent("wan"), frames, "all go on, whole and in order");
    assert_eq!(run.sent("span"), [&dns[..128], &dns[..128]]);
    assert_eq!(run.counter("copy", "mirrored_packets"), 2);
    assert_eq!(run.report["created_packets"], 2);
}
