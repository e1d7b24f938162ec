//! The order of what is told, actions, and how much is told.

use std::sync::Arc;

use super::*;
use crate::ids::rules::{Action, RejectTo};

#[test]
fn rules_are_told_by_action_then_bits_then_priority_then_number() {
    let text = r#"
alert udp any any -> any any (content:"a"; priority:1; sid:9;)
alert udp any any -> any any (content:"a"; sid:8;)
alert udp any any -> any any (content:"a"; sid:7;)
alert udp any any -> any any (content:"a"; flowbits:isset,x; sid:6;)
alert udp any any -> any any (content:"a"; flowbits:set,x; sid:5;)
reject udp any any -> any any (content:"a"; sid:4;)
drop udp any any -> any any (content:"a"; sid:3;)
"#;
    let mut watch = Watch::new(text);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), [3, 4, 5, 6, 9, 7, 8]);
    assert_eq!(watch.action(), Some((3, Action::Drop)));
    assert!(!watch.matches.drops_flow);
}

#[test]
fn a_pass_hides_all_that_comes_behind_it() {
    let text = r#"
pass udp any any -> any any (content:"a"; sid:1;)
drop udp any any -> any any (content:"a"; sid:2;)
alert udp any any -> any any (content:"a"; sid:3;)
"#;
    let mut watch = Watch::new(text);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), NONE);
    assert_eq!((watch.action(), watch.matches.passes_flow), (None, false));
}

#[test]
fn actions_of_rules_of_flows_are_for_the_rest_of_the_flow() {
    let mut watch = Watch::new("drop ip any any -> 10.0.0.2 any (sid:1;)");
    let first = FlowFacts { is_first_of_side: true, ..facts(UP) };
    assert_eq!(watch.look(&Crafted::udp(b""), Some(first)), [1]);
    assert!(watch.matches.drops_flow);
    let mut watch = Watch::new(
        "pass ip any any -> 10.0.0.2 any (sid:1;)\nalert udp any any -> any any (content:\"a\"; sid:2;)",
    );
    watch.look(&Crafted::udp(b"a"), Some(first));
    assert!(watch.matches.passes_flow);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), NONE);
    assert_eq!(watch.lone(&Crafted::tcp(0, b"a")), NONE);
}

#[test]
fn actions_go_in_the_order_that_is_set() {
    let text = r#"
pass udp any any -> any any (content:"a"; sid:1;)
drop udp any any -> any any (content:"a"; sid:2;)
alert udp any any -> any any (content:"a"; sid:3;)
"#;
    let order = ActionOrder::of(["drop", "pass", "reject", "alert"].into_iter());
    let mut watch = Watch::of(ruleset_with(text, |with| with.order = order));
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), [2]);
    assert_eq!(watch.action(), Some((2, Action::Drop)));
}

#[test]
fn at_most_fifteen_alerts_of_a_packet_are_told() {
    let text: String = (1..=20)
        .map(|sid| format!("alert udp any any -> any any (content:\"a\"; sid:{sid};)\n"))
        .collect();
    let mut watch = Watch::new(&text);
    assert_eq!(watch.lone(&Crafted::udp(b"a")), (1..=15).collect::<Vec<u32>>());
    assert_eq!(watch.matches.untold, [0, 5]);
}

#[test]
fn a_reject_says_whom_it_tells() {
    let mut watch = Watch::new(r#"rejectboth udp any any -> any any (content:"a"; sid:1;)"#);
    assert_eq!(watch.lone(&Crafted::udp(b"a")), [1]);
    assert_eq!(watch.action(), Some((1, Action::Reject(RejectTo::Both))));
}

/// At which of these seconds a rule with these options is told.
fn told_at(options: &str, seconds: &[u64]) -> Vec<u64> {
    let rule = format!("alert udp any any -> any any (content:\"a\"; {options} sid:1;)");
    let mut watch = Watch::new(&rule);
    let told = |second: &&u64| !watch.of_flow(&Crafted::udp(b"a").after(**second), UP).is_empty();
    seconds.iter().filter(told).copied().collect()
}

#[test]
fn thresholds_hold_alerts_back() {
    let seconds: Vec<u64> = (0..25).collect();
    for (options, expected) in [
        ("threshold:type limit,track by_src,count 2,seconds 10;", vec![0, 1, 11, 12, 22, 23]),
        ("threshold:type threshold,track by_dst,count 5,seconds 10;", vec![4, 9, 15, 20]),
        ("threshold:type both,track by_rule,count 3,seconds 10;", vec![2, 13, 24]),
        ("threshold:type both,track by_flow,count 3,seconds 10;", vec![2, 13, 24]),
        ("threshold:type backoff,track by_flow,count 1,multiplier 3;", vec![0, 2, 8]),
        ("threshold:type backoff,track by_both,count 2,multiplier 2;", vec![1, 3, 7, 15]),
        ("detection_filter:track by_src,count 8,seconds 10;", vec![8, 9, 10, 19, 20, 21]),
    ] {
        assert_eq!(told_at(options, &seconds), expected, "{options}");
    }
}

#[test]
fn hosts_are_counted_apart_where_the_rule_says_so() {
    let rule = |track: &str| {
        format!(
            "alert udp any any -> any any (content:\"a\"; threshold:type limit,track {track},count 1,seconds 60; sid:1;)"
        )
    };
    let one = Crafted::udp(b"a");
    let other = one.clone().from([10, 0, 0, 3]);
    for (track, expected) in
        [("by_src", [1, 1]), ("by_dst", [1, 0]), ("by_both", [1, 1]), ("by_rule", [1, 0])]
    {
        let mut watch = Watch::new(&rule(track));
        let told = [&one, &other].map(|packet| watch.lone(packet).len());
        assert_eq!(told, expected, "{track}");
    }
}

#[test]
fn a_drop_is_done_while_its_alert_is_held_back() {
    let rule =
        |options: &str| format!("drop udp any any -> any any (content:\"a\"; {options} sid:1;)");
    let packet = Crafted::udp(b"a");
    let mut limit = Watch::new(&rule("threshold:type limit,track by_src,count 1,seconds 60;"));
    assert_eq!(limit.lone(&packet), [1]);
    assert_eq!(limit.lone(&packet), NONE);
    assert_eq!(limit.action(), Some((1, Action::Drop)));
    assert_eq!(limit.matches.untold, [1, 0]);
    let mut filter = Watch::new(&rule("detection_filter:track by_src,count 1,seconds 60;"));
    assert_eq!((filter.lone(&packet), filter.action()), (Vec::new(), None));
    assert_eq!((filter.lone(&packet), filter.action()), (vec![1], Some((1, Action::Drop))));
}

#[test]
fn counts_are_shared_by_workers_and_outlive_a_ruleset() {
    let text = r#"alert udp any any -> any any (content:"a"; threshold:type limit,track by_src,count 1,seconds 60; sid:1;)"#;
    let memory = Arc::new(Memory::new(0));
    let packet = Crafted::udp(b"a");
    assert_eq!(Watch::with(ruleset(text), Arc::clone(&memory)).lone(&packet), [1]);
    assert_eq!(Watch::with(ruleset(text), memory).lone(&packet), NONE);
}

#[test]
fn packets_behind_an_alert_are_tagged_for_a_while() {
    let tagged = |tag: &str, seconds: &[u64]| -> Vec<bool> {
        let rule = format!("alert udp any any -> any any (content:\"a\"; tag:{tag}; sid:1;)");
        let mut watch = Watch::new(&rule);
        watch.of_flow(&Crafted::udp(b"a"), UP);
        assert!(!watch.matches.is_tagged);
        let one = |second: &u64| {
            watch.of_flow(&Crafted::udp(b"b").after(*second), UP);
            watch.matches.is_tagged
        };
        seconds.iter().map(one).collect()
    };
    assert_eq!(tagged("session,2,packets", &[1, 2, 3]), [true, true, false]);
    assert_eq!(tagged("session,2,seconds", &[1, 2, 3]), [true, true, false]);
    assert_eq!(tagged("session,40,bytes", &[1, 2, 3]), [true, true, false]);
    assert_eq!(tagged("host,2,packets,src", &[1, 2, 3]), [true, true, false]);
    assert_eq!(tagged("host,2,seconds,dst", &[1, 2, 3]), [true, true, false]);
}
