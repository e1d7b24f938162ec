//! The order in which rules are evaluated, told and acted on: Suricata's.
//!
//! By action: pass, drop, reject, alert. Then those that leave a flow's bits before those that ask for them, the same of integers
//! and of hosts' bits; then by priority; then by number.

use std::cmp::Reverse;

use crate::ids::rules::{Action, Effect, Rule, StateTest, Store};

/// Which action goes before which: `action-order` of a suricata.yaml. The usual one is pass, drop, reject, alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionOrder {
    pass: u8,
    drop: u8,
    reject: u8,
    alert: u8,
}

impl Default for ActionOrder {
    fn default() -> Self {
        Self { pass: 0, drop: 1, reject: 2, alert: 3 }
    }
}

impl ActionOrder {
    /// By their names, each once, the first to go first.
    pub fn of(names: &[&str]) -> Option<Self> {
        let place = |name: &str| {
            let place = names.iter().position(|n| n.eq_ignore_ascii_case(name))?;
            u8::try_from(place).ok()
        };
        if names.len() != 4 {
            return None;
        }
        let (pass, drop) = (place("pass")?, place("drop")?);
        Some(Self { pass, drop, reject: place("reject")?, alert: place("alert")? })
    }

    fn place(self, action: Action) -> u8 {
        match action {
            Action::Pass => self.pass,
            Action::Drop => self.drop,
            Action::Reject(_) => self.reject,
            Action::Alert => self.alert,
        }
    }
}

/// Rules sort by this.
pub(super) fn key(rule: &Rule, order: ActionOrder) -> impl Ord + use<> {
    let action = order.place(rule.action);
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
