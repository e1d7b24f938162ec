//! What a `threshold.config` makes of rules that match.

use super::*;
use crate::ids::rules::{Action, RejectTo};

const ALERT: &str = "alert udp any any -> any any (content:\"a\"; sid:1;)";
const DROP: &str = "drop udp any any -> any any (content:\"a\"; sid:1;)";

/// At which of these seconds a packet is told, and at which dropped, under a rule and a file.
fn under(rule: &str, limits: &str, seconds: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let mut watch = Watch::of(ruleset_under(rule, limits));
    let (mut told, mut dropped) = (Vec::new(), Vec::new());
    for second in seconds {
        if !watch.of_flow(&Crafted::udp(b"a").after(*second), UP).is_empty() {
            told.push(*second);
        }
        if matches!(watch.action(), Some((_, Action::Drop))) {
            dropped.push(*second);
        }
    }
    (told, dropped)
}

#[test]
fn a_limit_holds_alerts_back_and_drops_go_on() {
    let seconds: Vec<u64> = (0..25).collect();
    let one = "gen_id 1, sig_id 1,";
    for (limits, expected) in [
        ("", seconds.clone()),
        (
            &*format!("threshold {one} type limit, track by_src, count 2, seconds 10"),
            vec![0, 1, 11, 12, 22, 23],
        ),
        (
            &format!("event_filter {one} type threshold, track by_dst, count 5, seconds 10"),
            vec![4, 9, 15, 20],
        ),
        (
            &format!("threshold {one} type both, track by_both, count 3, seconds 10"),
            vec![2, 13, 24],
        ),
        (
            "threshold gen_id 0, sig_id 0, type both, track by_rule, count 3, seconds 10",
            vec![2, 13, 24],
        ),
    ] {
        assert_eq!(under(ALERT, limits, &seconds), (expected.clone(), vec![]), "{limits}");
        let (told, dropped) = under(DROP, limits, &seconds);
        assert_eq!(told, expected, "{limits}");
        // What is no match yet is not dropped; what is one too many is.
        let is_limit = limits.is_empty() || limits.contains("type limit");
        assert_eq!(dropped == seconds, is_limit, "{limits}: {dropped:?}");
    }
}

#[test]
fn a_limit_of_a_rule_is_instead_of_its_own() {
    let own = "alert udp any any -> any any (content:\"a\"; detection_filter:track by_src,count 20,seconds 99; sid:1;)";
    assert_eq!(under(own, "", &[0, 1, 2]).0, Vec::<u64>::new());
    let limits = "threshold gen_id 1, sig_id 1, type limit, track by_src, count 1, seconds 9";
    assert_eq!(under(own, limits, &[0, 1, 2]).0, [0]);
    let all = "threshold gen_id 1, sig_id 0, type limit, track by_src, count 1, seconds 9";
    assert_eq!(under(own, all, &[0, 1, 2]).0, Vec::<u64>::new());
}

#[test]
fn a_rate_filter_drops_what_is_too_much_for_as_long_as_it_says() {
    let rate = |timeout: u32| {
        format!(
            "rate_filter gen_id 1, sig_id 1, track by_src, count 3, seconds 10, new_action drop, timeout {timeout}"
        )
    };
    let seconds: Vec<u64> = (0..12).collect();
    // The fourth is one too many; the one behind the timeout is not counted, and the next is too many again.
    assert_eq!(under(ALERT, &rate(2), &seconds).1, [3, 4, 5, 7, 8, 9]);
    assert_eq!(under(ALERT, &rate(60), &seconds).1, [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(under(ALERT, &rate(60), &seconds).0, seconds);
    // Slower than that, none is.
    assert_eq!(under(ALERT, &rate(60), &[0, 3, 6, 9, 12]).1, [9, 12]);
    assert_eq!(under(ALERT, &rate(60), &[0, 5, 11, 16, 22, 27, 33]).1, Vec::<u64>::new());
    assert_eq!(under(ALERT, "", &seconds).1, Vec::<u64>::new());
}

#[test]
fn a_rate_filter_has_each_action() {
    let rate = |action: &str| {
        format!(
            "rate_filter gen_id 1, sig_id 1, track by_rule, count 1, seconds 10, new_action {action}, timeout 9"
        )
    };
    let second = |rule: &str, action: &str| {
        let mut watch = Watch::of(ruleset_under(rule, &rate(action)));
        let packet = Crafted::udp(b"a");
        let mut plain = Watch::new(rule);
        assert_eq!(watch.lone(&packet), plain.lone(&packet));
        assert_eq!((watch.action(), watch.matches.is_rated), (plain.action(), false));
        (watch.lone(&packet), watch.action(), watch.matches.told.iter().any(|told| told.is_rated))
    };
    assert_eq!(second(ALERT, "drop"), (vec![1], Some((1, Action::Drop)), true));
    let reject = Action::Reject(RejectTo::Src);
    assert_eq!(second(ALERT, "reject"), (vec![1], Some((1, reject)), true));
    assert_eq!(second(ALERT, "pass"), (vec![], None, false));
    assert_eq!(second(DROP, "alert"), (vec![1], None, true));
    // What Suricata reads and does nothing with.
    assert_eq!(second(DROP, "sdrop"), (vec![1], Some((1, Action::Drop)), false));
}

#[test]
fn a_rate_filter_that_passes_hides_what_comes_behind() {
    let rules = format!("{DROP}\nalert udp any any -> any any (content:\"a\"; sid:2;)");
    let rate = "rate_filter gen_id 1, sig_id 1, track by_src, count 1, seconds 10, new_action pass, timeout 9";
    let mut watch = Watch::of(ruleset_under(&rules, rate));
    assert_eq!(watch.lone(&Crafted::udp(b"a")), [1, 2]);
    assert_eq!((watch.lone(&Crafted::udp(b"a")), watch.action()), (vec![], None));
}

#[test]
fn what_is_suppressed_is_not_told_and_done_all_the_same() {
    let client = Crafted::udp(b"a");
    let other = client.clone().from([10, 9, 9, 9]);
    for (limits, told) in [
        ("", [true, true]),
        ("suppress gen_id 1, sig_id 1", [false, false]),
        ("suppress gen_id 1, sig_id 0", [false, false]),
        ("suppress gen_id 0, sig_id 0", [false, false]),
        ("suppress gen_id 7, sig_id 0", [true, true]),
        ("suppress gen_id 1, sig_id 1, track by_src, ip 10.0.0.1", [false, true]),
        ("suppress gen_id 0, sig_id 0, track by_src, ip [10.9.0.0/16,8.8.8.8]", [true, false]),
        ("suppress gen_id 1, sig_id 0, track by_dst, ip 10.0.0.1", [true, true]),
        ("suppress gen_id 1, sig_id 1, track by_dst, ip 10.0.0.2", [false, false]),
        ("suppress gen_id 1, sig_id 1, track by_either, ip 10.9.9.9", [true, false]),
        ("suppress gen_id 7, sig_id 0, track by_src, ip 10.0.0.1", [true, true]),
    ] {
        let mut watch = Watch::of(ruleset_under(DROP, limits));
        let found = [&client, &other].map(|packet| {
            let sids = watch.lone(packet);
            assert_eq!(watch.action(), Some((1, Action::Drop)), "{limits}");
            !sids.is_empty()
        });
        assert_eq!(found, told, "{limits}");
    }
}

#[test]
fn what_is_suppressed_counts_for_no_limit_and_sets_its_bits() {
    let rules = "alert udp any any -> any any (content:\"a\"; flowbits:set,seen; threshold:type limit,track by_rule,count 1,seconds 60; sid:1;)\n\
        alert udp any any -> any any (content:\"b\"; flowbits:isset,seen; sid:2;)";
    let limits = "suppress gen_id 1, sig_id 1, track by_src, ip 10.9.9.9";
    let mut watch = Watch::of(ruleset_under(rules, limits));
    assert_eq!(watch.of_flow(&Crafted::udp(b"a").from([10, 9, 9, 9]), UP), NONE);
    assert_eq!(watch.of_flow(&Crafted::udp(b"b"), UP), [2]);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), [1]);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), NONE);
}
