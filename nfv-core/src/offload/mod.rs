//! What NICs are told: rules that tag, steer and drop, as far as each of them takes any.
mod rule;

pub use rule::{Fate, L4Item, Nic, NicRule, Pattern, PortItem, Refusal, RuleId, Spread};
