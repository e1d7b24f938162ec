//! What NICs are told: rules that tag, steer and drop, as far as each of them takes any.
mod port_rules;
mod rule;

pub use port_rules::PortRules;
pub use rule::{Fate, L4Item, Nic, NicRule, Pattern, PortItem, Refusal, RuleId, Spread};
