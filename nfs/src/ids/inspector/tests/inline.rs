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

/// A talk whose server has sent more than rules look at, and what became of its last segment.
fn downloading(site: &mut Site) -> (Talk, Answer) {
    let mut talk = Talk::open(site, 9999);
    let _ = talk.says(site, Client, b"send it");
    let mut last = Answer::Pass;
    for _ in 0..3 {
        last = site.sees(&talk.frame(Server, "ap", &[b'y'; 60])).answer;
        talk.sent(Server, 60);
        assert_eq!(site.sees(&talk.frame(Client, "a", b"")).answer, Answer::Pass);
    }
    (talk, last)
}

const WORD: &str = "drop tcp any any -> any any (flow:to_server,established; content:\"needle\"; sid:1;)\n\
    alert tcp any any -> any any (flow:to_client; content:\"hay\"; sid:2;)\n";

fn deep(bypass: Bypass) -> Site {
    Site::under(WORD, |settings| {
        settings.streams.mode = Mode::Inline;
        settings.streams.depth = 100;
        settings.bypass = bypass;
    })
}

#[test]
fn of_a_download_the_answer_passes_by_and_the_next_request_is_looked_at() {
    for (bypass, answer, passed) in
        [(Bypass::Deep, Answer::Bypass, 42), (Bypass::Never, Answer::Pass, 0)]
    {
        let mut site = deep(bypass);
        let (mut talk, last) = downloading(&mut site);
        assert_eq!(last, answer, "{bypass:?}");
        // As where the engine lets it pass by: most of it is never shown, nor what it acknowledges.
        for round in 0..40 {
            talk.sent(Server, 300_000 / 40);
            assert_eq!(site.sees(&talk.frame(Client, "a", b"")).answer, Answer::Pass, "{round}");
            assert_eq!(site.sees(&talk.frame(Server, "a", b"hay")).answer, answer);
            talk.sent(Server, 3);
        }
        assert_eq!(site.sees(&talk.frame(Server, "a", b"hay")).answer, answer);
        talk.sent(Server, 3);
        assert_eq!(site.inspector.counters().get(Counter::Bypassed), passed);
        assert_eq!(site.told.of(Kind::Alert).is_empty(), passed > 0);
        let first = talk.frame(Client, "ap", b"a nee");
        assert_eq!(site.sees(&first).answer, Answer::Pass);
        talk.sent(Client, 5);
        assert_eq!(site.sees(&talk.frame(Client, "ap", b"dle")).answer, Answer::Drop);
        // Nothing of a flow that is dropped passes by.
        assert_eq!(site.sees(&talk.frame(Server, "a", b"hay")).answer, Answer::Drop);
    }
}

#[test]
fn who_uploads_while_the_answer_passes_by_is_not_held_to_a_window_that_nobody_saw() {
    let mut site = deep(Bypass::Deep);
    let (mut talk, _) = downloading(&mut site);
    // Each is acknowledged, by segments that nobody shows.
    site.inspector.settings = {
        let mut settings = (*site.inspector.settings).clone();
        settings.bypass = Bypass::Never;
        settings.into()
    };
    for _ in 0..200 {
        let frame = talk.frame(Client, "ap", &[b'x'; 1000]);
        assert_eq!(site.sees(&frame).answer, Answer::Pass);
        talk.sent(Client, 1000);
    }
}

#[test]
fn the_end_of_a_download_that_passed_by_is_seen() {
    let mut site = deep(Bypass::Deep);
    let (mut talk, _) = downloading(&mut site);
    talk.sent(Server, 50_000);
    assert_eq!(site.sees(&talk.frame(Client, "a", b"")).answer, Answer::Pass);
    let fin = talk.frame(Server, "af", b"last");
    assert_ne!(site.sees(&fin).answer, Answer::Drop);
    talk.sent(Server, 5);
    let _ = site.sees(&talk.frame(Client, "af", b""));
    talk.sent(Client, 1);
    let _ = site.sees(&talk.frame(Server, "a", b""));
    let told = site.ends();
    let flow = told.flows()[0];
    assert_eq!(flow.state, crate::ids::eve::FlowState::Closed);
}

#[test]
fn passive_no_direction_passes_by_alone() {
    let mut site = Site::under(WORD, |settings| {
        settings.streams.depth = 100;
        settings.bypass = Bypass::Deep;
    });
    assert_eq!(downloading(&mut site).1, Answer::Pass);
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
