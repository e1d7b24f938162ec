//! Where the mechanism is off that sees through an evasion, the alert is missing.

use super::lies::{kept, lost, orders};
use super::*;

/// A text that a rule wants in whole.
fn secret() -> Conversation {
    Conversation {
        name: "a text",
        port: 9999,
        turns: vec![(Client, b"the quick brown fox jumps over the lazy dog\n".to_vec())],
        rules: "alert tcp any any -> any any (flow:to_server; content:\"quick brown fox jumps over\"; sid:1;)\n",
    }
}

#[test]
fn without_streams_cut_texts_are_not_found() {
    let cut = How { size: 5, ..PLAIN };
    assert_eq!(fired(&secret(), &cut, |_| ()), BTreeSet::from([1]));
    assert!(fired(&secret(), &cut, |settings| settings.streams.depth = 1).is_empty());
}

#[test]
fn without_fragments_put_together_fragmented_texts_are_not_found() {
    for version in VERSIONS {
        let cut = How { version, fragments: Fragments::Cut(16), ..PLAIN };
        assert_eq!(fired(&secret(), &cut, |_| ()), BTreeSet::from([1]));
        assert!(fired(&secret(), &cut, |settings| settings.datagrams.timeout = 0).is_empty());
    }
}

#[test]
fn with_the_lie_taken_for_the_truth_the_alert_is_missing() {
    for policy in OverlapPolicy::ALL {
        let shape = Shape::Same;
        for version in VERSIONS {
            let how = |fragments| How { version, policy, fragments, ..PLAIN };
            let truth = fired(&secret(), &how(Fragments::Lies(policy, shape)), |_| ());
            assert_eq!(truth, BTreeSet::from([1]), "{policy:?} {shape:?}");
            let lie = fired(&secret(), &how(Fragments::Truths(policy, shape)), |_| ());
            assert!(lie.is_empty(), "{policy:?} {shape:?}");
        }
    }
}

#[test]
fn under_another_policy_than_the_receivers_the_alert_is_missing() {
    let conversation = secret();
    let mut differ = BTreeSet::new();
    for policy in OverlapPolicy::ALL {
        for other in OverlapPolicy::ALL {
            for lay in Lay::ALL {
                // The order in which a receiver of the one policy loses the lie, and one of the other keeps some of it.
                let lie = (
                    8usize.saturating_add_signed(lay.0),
                    14usize.saturating_add_signed(lay.1),
                    true,
                );
                let four = [(2, 8, false), (8, 14, false), (14, 20, false), lie];
                let misled = |order: &[(usize, usize, bool); 4]| kept(order, other).contains(&true);
                if !lost(&four, policy).is_some_and(|order| misled(&order)) {
                    continue;
                }
                let how = How { policy, lies: Lies::Over(lay), size: 6, ..PLAIN };
                assert_eq!(fired(&conversation, &how, |_| ()), BTreeSet::from([1]), "{how:?}");
                let found = fired(&conversation, &how, |settings| {
                    settings.streams.hosts = HostPolicies::new(Vec::new(), other);
                });
                assert!(found.is_empty(), "{how:?} seen as {other:?}");
                differ.insert((policy.name(), other.name()));
            }
        }
    }
    println!("{} pairs of policies differ", differ.len());
    assert!(differ.contains(&("first", "last")) && differ.contains(&("linux", "old-linux")));
    assert_eq!(orders(&[(0, 1, false), (1, 2, false), (2, 3, false), (3, 4, true)]).len(), 24);
}

#[test]
fn with_checksums_passed_over_a_lie_hides_the_truth() {
    let how = How {
        lies: Lies::Thrown(Thrown::Checksum),
        policy: OverlapPolicy::First,
        size: 5,
        ..PLAIN
    };
    assert_eq!(fired(&secret(), &how, |_| ()), BTreeSet::from([1]));
    assert!(fired(&secret(), &how, |settings| settings.checksums = Checksums::Ignore).is_empty());
}
