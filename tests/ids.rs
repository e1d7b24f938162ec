//! chains/ids.yaml: packets are inspected, what rules drop does not leave, and records are where they are looked for.

mod testkit;

use testkit::packets::Udp;
use testkit::replayed::Replayed;

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
    let records = text(&run);
    assert_eq!(records, text(&again), "the same capture has the same records");
    assert!(records.lines().any(|line| line.contains(r#""event_type":"flow""#)), "{records}");
}
