//! What NICs are told: rules that tag, steer and drop, as far as each of them takes any.
mod any_nic;
mod cell;
mod compare;
mod emulated;
mod facts;
mod installed;
mod ladder;
mod marks;
mod pace;
mod port_rules;
mod probe;
mod profile;
mod rule;
mod shared;

pub use any_nic::AnyNic;
pub use emulated::{
    Decision, EmulatedDevice, EmulatedNic, Full, Lie, LiedTo, NicCounts, NicSide, Wire,
};
pub use facts::{
    Action, AddressFact, Facts, Fields, HashFacts, Item, Limits, PortFact, Unsteered, WithoutVlan,
};
pub use installed::{Check, Installed, Planned, RuleState};
pub use ladder::{Asked, Offload, Placed, PlannedRule, Role, Room, Rung, bound_to, deal, plan};
pub use marks::mark_form;
pub use pace::{Calls, Pace, RulesPerSecond};
pub use port_rules::PortRules;
pub use profile::{FieldsSeen, Profile, Shape};
pub use rule::{Fate, L4Item, Met, Nic, NicRule, Pattern, PortItem, Refusal, RuleId, Spread};
pub use shared::SharedNic;
