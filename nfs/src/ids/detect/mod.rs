//! Which rules match: what the rest of the IDS asks once a packet, when its flow is up to date.
//!
//! ```text
//!   Rules --Ruleset::compile--> Ruleset (all workers, read only)     Memory (all workers, locked in small parts)
//!
//!   packet, flow, streams, application --> Detector::inspect --> Matches: rules that matched, and what becomes of the packet
//! ```
//!
//! Of a packet's side are looked at: its payload, the windows of the stream, and the transactions. A rule is looked up by its
//! pattern in those, and only then by its header and its other questions; a rule without a pattern by its header. Nothing here
//! waits, and a packet that matches nothing allocates nothing.
//!
//! **What is bounded.** An evaluation takes at most [`engine::STEPS_MAX`] steps; what a flow keeps has a number for each kind; what
//! is kept over flows has the bytes that [`Memory`] was given.
//!
//! Source: how Suricata 8 evaluates rules (user guide, "Rule Types and Categorization"). Differs: patterns across the windows of
//! a stream match; a rule of bodies that asks for nothing that more bytes could change matches as soon as its bytes are there.

mod base64;
mod captured;
mod engine;
mod event;
mod finder;
mod finish;
mod flow;
mod groups;
mod header;
mod inspect;
mod lookback;
mod matcher;
mod memory;
mod number;
mod order;
mod packet;
mod patterns;
mod predicted;
mod program;
mod rate;
mod ruleset;
mod scene;
mod sieve;
mod state;
mod subject;
mod tag;
#[cfg(test)]
mod tests;
mod transactions;
mod windows;

pub use self::captured::Captured;
pub use self::event::events;
pub use self::flow::FlowState;
pub use self::inspect::Detector;
pub use self::memory::{MEMORY_MIN, Memory};
pub use self::order::ActionOrder;
pub use self::predicted::{Outlook, Plan};
pub use self::ruleset::{Compile, Ruleset};
pub use self::subject::{FlowFacts, Origin, Packet, Subject};
use super::rules::Action;

/// A rule that matched and is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its place in the ruleset.
    pub rule: u32,
    /// On what it matched.
    pub origin: Origin,
    /// The transaction that it matched in, by [`super::app::Transaction::id`].
    pub transaction: Option<u64>,
    /// Its rate filter has it do something else than its rule says.
    pub is_rated: bool,
}

/// What a packet's rules come to.
#[derive(Debug, Default)]
pub struct Matches {
    /// What is to be told, in the order in which Suricata tells it; thresholds, `pass` and `noalert` are done.
    pub told: Vec<Match>,
    /// The rule whose action the packet meets, and the action; `None`: it goes on.
    pub action: Option<(u32, Action)>,
    /// Whether that action is what a rate filter says.
    pub is_rated: bool,
    /// Whether a `pass` rule matched that is one of the whole flow: nothing more of it is evaluated.
    pub passes_flow: bool,
    /// Whether the rule of `action` is one of the whole flow: inline, its later packets meet the same without being evaluated.
    pub drops_flow: bool,
    /// Whether a rule's `tag` is on the packet that did not match itself.
    pub is_tagged: bool,
    /// Matches that were not told: because of a threshold, and because there were more than are told of a packet.
    pub untold: [u32; 2],
    /// What groups of expressions matched, with the rules that keep it: of packets and alerts.
    pub captured: Vec<(u32, Captured)>,
    /// Whether there was nothing to evaluate rules on.
    pub is_quiet: bool,
}

impl Matches {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.told.clear();
        self.action = None;
        self.is_rated = false;
        self.passes_flow = false;
        self.drops_flow = false;
        self.is_tagged = false;
        self.untold = [0; 2];
        self.captured.clear();
        self.is_quiet = false;
    }
}
