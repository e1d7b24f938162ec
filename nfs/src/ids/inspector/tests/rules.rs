//! What rules find, and what becomes of packets and flows.

use proptest::prelude::*;

use super::*;
use crate::ids::eve::{AlertAction, DropReason, FlowAction};
use crate::ids::stream::Mode;

/// The numbers of the rules that were told, on which packet, and what became of it.
fn alerts(told: &Told) -> Vec<(u32, Option<u64>, AlertAction)> {
    let body = |record: &Record| match &record.body {
        Body::Alert(alert) => Some((alert.rule.sid, record.head.pcap_cnt, alert.action)),
        _ => None,
    };
    told.0.iter().filter_map(body).collect()
}

const REQUESTS: &str = r#"alert http any any -> any any (msg:"a"; http.uri; content:"/index.html"; sid:1;)
alert tcp any any -> any 80 (msg:"b"; flow:to_server,established; content:"Host|3a 20|example"; sid:2;)
alert http any any -> any any (msg:"c"; file.data; content:"hello"; sid:3;)
"#;

#[test]
fn a_request_is_told_on_the_first_packet_of_its_way_behind_its_acknowledgement() {
    let mut site = Site::under(REQUESTS, |_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    let _ = talk.says(&mut site, Server, ANSWER);
    let told = site.ends();
    let mut found = alerts(told);
    found.sort_unstable_by_key(|(sid, ..)| *sid);
    let [(1, at, AlertAction::Allowed), (2, ..), (3, ..)] = found[..] else { panic!("{found:?}") };
    assert_eq!(at, Some(7));
    assert!(told.flows()[0].alerted);
}

#[test]
fn inline_the_packet_that_completes_a_match_is_dropped_and_the_rest_of_its_flow() {
    let rules = r#"drop http any any -> any any (msg:"d"; http.uri; content:"index"; sid:9;)"#;
    let mut site = Site::under(rules, |settings| settings.streams.mode = Mode::Inline);
    let mut talk = Talk::open(&mut site, 80);
    let (first, rest) = REQUEST.split_at(30);
    assert_eq!(site.sees(&talk.frame(Client, "ap", first)).answer, Answer::Drop);
    talk.sent(Client, first.len());
    assert_eq!(site.sees(&talk.frame(Client, "ap", rest)).answer, Answer::Drop);
    assert_eq!(site.sees(&talk.frame(Server, "a", &[])).answer, Answer::Drop);
    assert_eq!(alerts(&site.told), [(9, Some(4), AlertAction::Blocked)]);
    // One a direction.
    assert_eq!(site.told.of(Kind::Drop).len(), 2);
    let told = site.ends();
    assert_eq!(told.flows()[0].action, Some(FlowAction::Drop));
}

#[test]
fn passive_nothing_is_dropped() {
    let rules = r#"drop http any any -> any any (msg:"d"; http.uri; content:"index"; sid:9;)"#;
    let mut site = Site::under(rules, |_| ());
    let mut talk = Talk::open(&mut site, 80);
    assert_eq!(talk.says(&mut site, Client, REQUEST).answer, Answer::Pass);
    assert_eq!(talk.says(&mut site, Server, ANSWER).answer, Answer::Pass);
    let told = site.ends();
    assert_eq!(alerts(told).len(), 1);
    assert!(told.of(Kind::Drop).is_empty());
}

#[test]
fn what_passes_is_not_evaluated_and_logged_all_the_same() {
    let rules = r#"pass tcp any any -> any 80 (msg:"p"; sid:1;)
alert http any any -> any any (msg:"a"; http.uri; content:"index"; sid:2;)
"#;
    let mut site = Site::under(rules, |settings| settings.streams.mode = Mode::Inline);
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    let _ = talk.says(&mut site, Server, ANSWER);
    let told = site.ends();
    assert_eq!(told.kinds(), ["http", "flow"]);
    assert_eq!(told.flows()[0].action, Some(FlowAction::Pass));
}

#[test]
fn a_packet_has_no_more_alerts_than_are_told_of_one() {
    let rules: String = (1..=40)
        .map(|sid| format!("alert udp any any -> any 99 (content:\"x\"; sid:{sid};)\n"))
        .collect();
    let mut site = Site::under(&rules, |_| ());
    let _ = site.sees(&udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 99), b"x"));
    assert_eq!(alerts(&site.told).len(), 15);
    assert_eq!(site.inspector.counters().get(Counter::AlertsOverflow), 25);
}

#[test]
fn what_a_rate_filter_drops_is_told_and_counted_as_such() {
    let rule = "alert udp any any -> any 99 (content:\"x\"; sid:1;)\n";
    let limit = "rate_filter gen_id 1, sig_id 1, track by_src, count 2, seconds 60, new_action drop, timeout 60";
    let of = |limit: &str, mode: Mode| {
        let mut site = Site::limited(rule, limit, |settings| settings.streams.mode = mode);
        let packet = udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 99), b"x");
        let answers: Vec<Answer> = (0..3).map(|_| site.sees(&packet).answer).collect();
        let blocked = |record: &&Record| match &record.body {
            Body::Alert(alert) => alert.action == AlertAction::Blocked,
            _ => false,
        };
        let blocked = site.told.0.iter().filter(blocked).count();
        let reasons: Vec<DropReason> = site
            .told
            .of(Kind::Drop)
            .iter()
            .map(|record| {
                let Body::Drop(dropped) = &record.body else { panic!() };
                dropped.reason
            })
            .collect();
        let counted = site.inspector.counters().get(Counter::DroppedByRates);
        (answers, blocked, reasons, counted)
    };
    use Answer::{Drop, Pass};
    assert_eq!(
        of(limit, Mode::Inline),
        (vec![Pass, Pass, Drop], 1, vec![DropReason::Threshold], 1)
    );
    // As Suricata has it, which says so of what it would have dropped.
    assert_eq!(of(limit, Mode::Passive), (vec![Pass; 3], 1, vec![], 0));
    assert_eq!(of("", Mode::Inline), (vec![Pass; 3], 0, vec![], 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_alert_fires_however_a_stream_is_cut(
        cuts in prop::collection::vec(1usize..40, 1..20), keys in prop::collection::vec(any::<u32>(), 60), inline: bool,
    ) {
        let mut site = Site::under(REQUESTS, |settings| {
            settings.streams.mode = if inline { Mode::Inline } else { Mode::Passive };
        });
        let mut talk = Talk::open(&mut site, 80);
        for (who, bytes) in [(Client, REQUEST), (Server, ANSWER)] {
            let mut pieces = Vec::new();
            let mut at = 0;
            for (size, key) in cuts.iter().cycle().zip(&keys) {
                let end = (at + size).min(bytes.len());
                if at < end {
                    pieces.push((*key, at, &bytes[at..end]));
                }
                at = end;
            }
            pieces.push((0, at, &bytes[at..]));
            pieces.sort_unstable();
            for (_, at, piece) in pieces {
                let _ = site.sees(&talk.frame_at(who, "ap", at as u32, piece));
            }
            talk.sent(who, bytes.len());
            let other = if who == Client { Server } else { Client };
            let _ = site.sees(&talk.frame(other, "a", &[]));
        }
        let mut found: Vec<u32> = alerts(site.ends()).iter().map(|(sid, ..)| *sid).collect();
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found, [1, 2, 3]);
    }
}

#[test]
fn what_groups_of_expressions_match_is_told_with_the_packet_the_flow_and_the_alert() {
    let rules = r#"alert udp any any -> any 99 (pcre:"/(\w+)=(\w+) (\w+) x/, flow:name, pkt:value, alert:what"; sid:1;)
alert udp any any -> any 99 (content:"x"; sid:2;)
alert udp any any -> any 99 (content:"b"; pcre:"/^(?P<flow_first>\w)/"; sid:3;)
alert udp any any -> any 99 (content:"b"; pcre:"/(c)=(d)/, pkt:key, pkt:value"; sid:4;)
"#;
    let mut site = Site::under(rules, |_| ());
    let _ = site.sees(&udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 99), b"a=b c=d x a=bb cc x"));
    let lines = |site: &Site| -> Vec<serde_json::Value> {
        let settings = crate::ids::eve::Settings::default();
        let line = |record: &Record| {
            let mut line = Vec::new();
            record.write(&settings, &mut line);
            serde_json::from_slice(&line).expect("JSON")
        };
        site.told.0.iter().map(line).collect()
    };
    let told = lines(&site);
    let of =
        |sid: u32| told.iter().find(|line| line["alert"]["signature_id"] == sid).expect("an alert");
    assert_eq!(of(1)["alert"]["context"], serde_json::json!({"what": "cc"}));
    assert!(of(2)["alert"]["context"].is_null());
    for sid in 1..=4 {
        let metadata = &of(sid)["metadata"];
        assert_eq!(metadata["flowvars"], serde_json::json!([{"name": "a"}, {"first": "a"}]));
        assert_eq!(metadata["pktvars"], serde_json::json!([{"value": "bb"}, {"c": "d"}]));
    }
    // Those of the flow stay, those of the packet do not.
    let _ = site.sees(&udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 99), b"x"));
    let last = lines(&site).pop().expect("an alert");
    assert_eq!(last["metadata"]["flowvars"], serde_json::json!([{"name": "a"}, {"first": "a"}]));
    assert!(last["metadata"]["pktvars"].is_null(), "{last}");
}
