//! The order in which rules are evaluated, told and acted on: Suricata's.
//!
//! By action: pass, drop, reject, alert. Then those that leave a flow's bits before those that ask for them, the same of integers
//! and of hosts' bits; then by priority; then by number.

use std::cmp::Reverse;

use crate::ids::rules::{Action, Effect, Rule, StateTest, Store};

/// The actions in the order in which their rules are evaluated: the place of pass, drop, reject and alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOrder([u8; 4]);

impl ActionOrder {
    /// By their words, the first one first; those that are not named come behind.
    pub fn of<'w>(words: impl Iterator<Item = &'w str>) -> Self {
        let mut places = [4, 5, 6, 7];
        for (place, word) in (0..4).zip(words) {
            let known = ["pass", "drop", "reject", "alert"].iter().position(|known| *known == word);
            if let Some(known) = known.and_then(|known| places.get_mut(known)) {
                *known = place;
            }
        }
        Self(places)
    }
}

impl Default for ActionOrder {
    fn default() -> Self {
        Self([0, 1, 2, 3])
    }
}

/// Rules sort by this.
pub(super) fn key(rule: &Rule, order: ActionOrder) -> impl Ord + use<> {
    let ActionOrder([pass, drop, reject, alert]) = order;
    let action = match rule.action {
        Action::Pass => pass,
        Action::Drop => drop,
        Action::Reject(_) => reject,
        Action::Alert => alert,
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
