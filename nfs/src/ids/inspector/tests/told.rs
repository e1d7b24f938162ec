//! What alerts say of what they were raised on.

use std::sync::Arc;

use super::*;
use crate::ids::detect::ActionOrder;
use crate::ids::eve::{Alert, Payload};
use crate::ids::rules::{Classes, Setup, Source, Variables};

impl Site {
    fn with(rules: &str, order: ActionOrder, change: impl FnOnce(&mut Settings)) -> Self {
        let mut site = Self::new(change);
        let (variables, _) = Variables::new(&[], &[]);
        let setup = Setup { variables: &variables, classes: &Classes::default(), events: &[] };
        let rules = Rules::read(&[Source { name: "x", text: rules.as_bytes() }], &setup);
        assert!(rules.broken.is_empty() && rules.skipped.is_empty(), "{rules:?}");
        let ruleset = Ruleset::compile(rules, &Compile { order, ..Compile::default() });
        let memory = Arc::new(Memory::new(1 << 20));
        site.inspector.set_detector(Detector::new(Arc::new(ruleset), memory));
        site
    }

    fn alerts(&self) -> Vec<(&Record, &Alert)> {
        let mut alerts = Vec::new();
        for record in &self.told.0 {
            if let Body::Alert(alert) = &record.body {
                alerts.push((record, &**alert));
            }
        }
        alerts
    }
}

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla\r\n\r\n";

#[test]
fn what_rules_keep_with_a_flow_is_in_its_records_from_then_on() {
    let rules = "alert http any any -> any any (http.user_agent; content:\"Mozilla\"; flowbits:set,traffic/id/browser; sid:1;)\n\
        alert tcp any any -> any any (content:\"GET\"; flowint:seen,+,3; noalert; sid:2;)\n";
    let mut site = Site::with(rules, ActionOrder::default(), |_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    site.ends();
    let (record, _) = site.alerts()[0];
    let bits = |record: &Record| record.head.variables.as_ref().map(|v| v.bits.clone());
    assert_eq!(bits(record), Some(vec!["traffic/id/browser".into()]));
    let flow = site.told.of(Kind::Flow)[0];
    assert_eq!(bits(flow), Some(vec!["traffic/id/browser".into()]));
    let numbers = flow.head.variables.as_ref().map(|v| v.numbers.clone()).unwrap_or_default();
    assert!(numbers.iter().all(|(name, _)| **name == *"seen"), "{numbers:?}");
}

#[test]
fn a_match_outside_of_transactions_is_told_with_the_only_open_one_if_that_is_wanted() {
    let rules = "alert tcp any any -> any any (content:\"GET\"; sid:1;)\n";
    for is_wanted in [false, true] {
        let mut site = Site::with(rules, ActionOrder::default(), |settings| {
            if let Some(alert) = &mut settings.records.alert {
                alert.guess_transaction = is_wanted;
            }
        });
        let mut talk = Talk::open(&mut site, 80);
        let _ = talk.says(&mut site, Client, REQUEST);
        let _ = talk.says(&mut site, Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        site.ends();
        let (record, alert) = site.alerts()[0];
        assert_eq!(alert.is_guessed, is_wanted);
        assert_eq!(alert.application.is_some(), is_wanted);
        assert_eq!(record.head.transaction, is_wanted.then_some(0));
    }
}

#[test]
fn a_streams_payload_says_how_much_of_it_is_missing() {
    let rules = "alert tcp-stream any any -> any any (content:\"DATA\"; sid:1;)\n";
    let mut site = Site::with(rules, ActionOrder::default(), |settings| {
        if let Some(alert) = &mut settings.records.alert {
            alert.payload = true;
        }
    });
    let talk = Talk::open(&mut site, 9);
    let _ = site.sees(&talk.frame(Client, "ap", b"VERY"));
    let _ = site.sees(&talk.frame_at(Client, "ap", 8, b"DATA"));
    site.ends();
    let payload =
        |alert: &Alert| alert.payload.as_ref().map(|Payload { bytes, .. }| bytes.to_vec());
    let (_, alert) = site.alerts()[0];
    assert_eq!(payload(alert).as_deref(), Some(&b"VERY[4 bytes missing]DATA"[..]));
}

#[test]
fn inline_a_packet_is_looked_at_as_it_will_be() {
    let rules = "alert tcp-pkt any any -> any any (content:\"EVIL\"; sid:3;)\n\
        alert tcp-pkt any any -> any any (content:\"GOOD\"; sid:4;)\n";
    let mut site = Site::with(rules, ActionOrder::default(), |settings| {
        settings.streams.mode = stream::Mode::Inline;
    });
    let talk = Talk::open(&mut site, 9);
    let _ = site.sees(&talk.frame(Client, "ap", b"GOOD"));
    let verdict = site.sees(&talk.frame(Client, "ap", b"EVIL"));
    assert!(verdict.rewrite.is_some());
    site.ends();
    let sids: Vec<_> = site.alerts().iter().map(|(_, alert)| alert.rule.sid).collect();
    assert_eq!(sids, [4, 4]);
}

#[test]
fn actions_are_in_the_order_that_is_asked_for() {
    let rules = "drop ip any any -> any any (sid:1;)\npass ip any any -> any any (sid:2;)\n";
    let answer = |order| {
        let mut site = Site::with(rules, order, |settings| {
            settings.streams.mode = stream::Mode::Inline;
        });
        site.sees(&udp(([10, 0, 0, 1], 5), ([10, 0, 0, 2], 6), b"x")).answer
    };
    assert_eq!(answer(ActionOrder::default()), Answer::Pass);
    assert_eq!(answer(ActionOrder::of(["drop", "pass"].into_iter())), Answer::Drop);
    assert_eq!(answer(ActionOrder::of(["alert", "pass", "drop"].into_iter())), Answer::Pass);
}

#[test]
fn a_rule_of_an_application_is_asked_even_if_one_packet_brings_it_and_its_end() {
    let rules = "alert http any any -> any any (sid:1;)\nalert http any any -> any any (content:\"PRI\"; sid:2;)\n";
    let mut site = Site::with(rules, ActionOrder::default(), |_| ());
    let mut talk = Talk::open(&mut site, 80);
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n";
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    let _ = site.sees(&talk.frame(Client, "ap", request));
    talk.sent(Client, request.len());
    // It acknowledges the request.
    let _ = talk.says(&mut site, Server, answer);
    let _ = talk.says(&mut site, Client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    site.ends();
    let sids: Vec<_> = site.alerts().iter().map(|(_, alert)| alert.rule.sid).collect();
    assert!(sids.contains(&1), "{sids:?}");
    assert!(!sids.contains(&2), "{sids:?}");
}
