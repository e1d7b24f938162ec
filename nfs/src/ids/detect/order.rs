//! The order in which rules are evaluated, told and acted on: Suricata's.
//!
//! By action: pass, drop, reject, alert. Then those that leave a flow's bits before those that ask for them, the same of integers
//! and of hosts' bits; then by priority; then by number.

use std::cmp::Reverse;

use crate::ids::rules::{Action, Effect, Rule, StateTest, Store};

/// Rules sort by this.
pub(super) fn key(rule: &Rule) -> impl Ord + use<> {
    let action = match rule.action {
        Action::Pass => 0,
        Action::Drop => 1,
        Action::Reject(_) => 2,
        Action::Alert => 3,
    };
    let bits = |of: fn(Store) -> bool| {
        let asks = rule.state.iter().any(|test| match test {
            StateTest::IsSet(store, _) | StateTest::IsNotSet(store, _) => of(*store),
            _ => false,
        });
        let leaves = rule.effects.iter().any(|effect| match effect {
            Effect::Set(store, ..) | Effect::Unset(store, _) | Effect::Toggle(store, ..) => {
                of(*store)
            }
            Effect::Integer(..) => false,
        });
        rank(asks, leaves)
    };
    let asks = rule
        .state
        .iter()
        .any(|test| !matches!(test, StateTest::IsSet(..) | StateTest::IsNotSet(..)));
    let leaves = rule.effects.iter().any(|effect| matches!(effect, Effect::Integer(..)));
    (
        action,
        bits(|store| store == Store::Flow),
        rank(asks, leaves),
        bits(|store| matches!(store, Store::SrcHost | Store::DstHost)),
        bits(|store| store == Store::Pair),
        rule.priority,
        rule.sid,
        rule.gid,
    )
}

/// Who leaves comes first, then who does both, then who asks, then who does neither.
fn rank(asks: bool, leaves: bool) -> Reverse<u8> {
    Reverse(match (asks, leaves) {
        (false, true) => 3,
        (true, true) => 2,
        (true, false) => 1,
        (false, false) => 0,
    })
}
