//! On the path of packets.

use super::*;
use crate::ids::stream::Mode;

fn inline() -> Site {
    Site::new(|settings| settings.streams.mode = Mode::Inline)
}

#[test]
fn bytes_that_differ_from_what_passed_are_made_the_same() {
    let mut site = inline();
    let mut talk = Talk::open(&mut site, 80);
    let first = talk.frame(Client, "ap", b"GET /right HTTP/1.0\r\n\r\n");
    assert_eq!(site.sees(&first), Verdict { answer: Answer::Pass, rewrite: None });
    let mut other = talk.frame(Client, "ap", b"GET /other HTTP/1.0\r\n\r\nand more");
    let verdict = site.sees(&other);
    let rewrite = verdict.rewrite.expect("a rewrite");
    assert_eq!(site.inspector.rewrite(&rewrite, &mut other), 5);
    let wanted = talk.frame(Client, "ap", b"GET /right HTTP/1.0\r\n\r\nand more");
    assert_eq!(other, wanted);
    // Passive, the receiver has decided.
    let mut site = Site::new(|_| ());
    talk = Talk::open(&mut site, 80);
    let _ = site.sees(&first);
    assert_eq!(site.sees(&talk.frame(Client, "ap", b"GET /other HTTP/1.0\r\n\r\n")).rewrite, None);
}

#[test]
fn bytes_that_differ_and_come_in_fragments_are_dropped() {
    for (text, last) in
        [(b"ET /other HTTP/1.0", Answer::Drop), (b"ET /right HTTP/1.0", Answer::Pass)]
    {
        let mut site = inline();
        let talk = Talk::open(&mut site, 80);
        // Behind a hole: a receiver may keep either.
        let first = talk.frame_at(Client, "ap", 1, b"ET /right HTTP/1.0");
        assert_eq!(site.sees(&first).answer, Answer::Pass);
        let again = talk.frame_at(Client, "ap", 1, text);
        let answers = [(0, 24), (24, 99)]
            .map(|(start, end)| site.sees(&fragments::fragment(&again, start, end, None)).answer);
        assert_eq!(answers, [Answer::Pass, last]);
    }
}

#[test]
fn a_request_is_told_before_it_is_acknowledged() {
    let mut site = inline();
    let mut talk = Talk::open(&mut site, 80);
    let _ = site.sees(&talk.frame(Client, "ap", REQUEST));
    talk.sent(Client, REQUEST.len());
    let _ = site.sees(&talk.frame(Server, "ap", ANSWER));
    assert_eq!(site.told.kinds(), ["http"]);
    assert_eq!(site.told.0[0].head.pcap_cnt, Some(5));
}

#[test]
fn what_no_receiver_would_take_is_dropped_and_told() {
    for (invalid, answer, drops) in
        [(Invalid::Drop, Answer::Drop, 1), (Invalid::Pass, Answer::Pass, 0)]
    {
        let mut site = Site::new(|settings| {
            settings.streams.mode = Mode::Inline;
            settings.invalid = invalid;
            settings.records.drop = Some(crate::ids::eve::DropSettings {
                flows: crate::ids::eve::DroppedFlows::All,
                ..Default::default()
            });
        });
        let talk = Talk::open(&mut site, 80);
        let far = talk.frame_at(Client, "ap", 1 << 28, b"far away");
        assert_eq!(site.sees(&far).answer, answer);
        assert_eq!(site.told.of(Kind::Drop).len(), drops);
        assert_eq!(site.inspector.counters().get(Counter::Dropped), drops as u64);
    }
}

#[test]
fn a_flow_past_its_depth_is_let_go_and_costs_a_look_up() {
    let mut site = Site::new(|settings| {
        settings.streams.depth = 100;
        settings.bypass = Bypass::Deep;
    });
    let mut talk = Talk::open(&mut site, 9999);
    assert_eq!(talk.says(&mut site, Client, &[b'x'; 150]).answer, Answer::Pass);
    assert_eq!(talk.says(&mut site, Server, &[b'y'; 150]).answer, Answer::Bypass);
    assert_eq!(site.sees(&talk.frame(Client, "ap", b"more")).answer, Answer::Bypass);
    assert_eq!(site.inspector.counters().get(Counter::Bypassed), 1);
    let told = site.ends();
    let flow = told.flows()[0];
    assert_eq!(flow.state, crate::ids::eve::FlowState::Bypassed);
    let bypassed = flow.summary.bypassed.expect("what bypassed");
    assert_eq!((bypassed.packets, bypassed.bytes), ([1, 0], [58, 0]));
    assert_eq!(flow.summary.counts.packets, [5, 3]);
}

#[test]
fn what_is_past_its_depth_is_looked_at_packet_by_packet_otherwise() {
    let rules = "alert tcp any any -> any any (content:\"needle\"; sid:1;)\n";
    let mut site = Site::under(rules, |settings| settings.streams.depth = 100);
    let mut talk = Talk::open(&mut site, 9999);
    let _ = talk.says(&mut site, Client, &[b'x'; 150]);
    assert_eq!(talk.says(&mut site, Server, &[b'y'; 150]).answer, Answer::Pass);
    assert_eq!(site.inspector.counters().get(Counter::Bypassed), 0);
    let _ = talk.says(&mut site, Client, b"a nee");
    let _ = talk.says(&mut site, Client, b"dle");
    assert!(site.told.of(Kind::Alert).is_empty(), "there is no stream any more");
    let _ = talk.says(&mut site, Client, b"a needle");
    assert_eq!(site.told.of(Kind::Alert).len(), 1);
}
