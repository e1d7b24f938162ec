//! Which rules match: what the rest of the IDS asks once a packet, when its flow is up to date.
//!
//! ```text
//!   Rules --Ruleset::compile--> Ruleset (all workers, read only)     Memory (all workers, locked in shards)
//!
//!   packet, flow, streams, application --> Detector::inspect --> Matches: rules that matched, and what becomes of the packet
//! ```

mod event;
mod subject;

use std::path::Path;
use std::sync::Arc;

pub use self::event::events;
pub use self::subject::{FlowFacts, Origin, Packet, Subject};
use super::rules::{Action, Rule, Rules};

/// Rules, compiled for detection. Shared by all workers, read only.
#[derive(Debug)]
pub struct Ruleset {
    rules: Box<[Arc<Rule>]>,
}

/// With what rules are compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compile<'c> {
    /// The events that rules have by number: those that they were read with ([`super::rules::Setup::events`]).
    pub events: &'c [&'c str],
    /// The folder where compiled patterns are kept from run to run; `None`: they are compiled each time.
    pub cache: Option<&'c Path>,
}

impl Ruleset {
    /// Compiles them.
    pub fn compile(rules: Rules, _with: &Compile<'_>) -> Self {
        Self { rules: rules.rules.into_iter().map(Arc::new).collect() }
    }

    /// A rule by its place, which is not its place in what was compiled. Shared, so that an alert says which rule it is of
    /// without a copy of what the rule says.
    pub fn rule(&self, index: u32) -> Option<&Arc<Rule>> {
        self.rules.get(usize::try_from(index).ok()?)
    }
}

/// What is counted and remembered over flows, of all workers: thresholds, and bits of hosts. It outlives a ruleset.
#[derive(Debug)]
pub struct Memory {}

impl Memory {
    /// That takes at most so many bytes.
    pub fn new(_bytes: usize) -> Self {
        Self {}
    }
}

/// What one worker needs to match rules.
#[derive(Debug)]
pub struct Detector {
    ruleset: Arc<Ruleset>,
}

/// What detection keeps with a flow: its bits and numbers, and how far it has looked.
#[derive(Debug, Default)]
pub struct FlowState {}

impl FlowState {
    /// The memory that it holds, without its own size.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Whether it is as a new one: then the flow needs none, and the next call is given a new one. So a flow in which
    /// detection keeps nothing costs nothing.
    pub fn is_blank(&self) -> bool {
        true
    }
}

/// A rule that matched and is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its place in the ruleset.
    pub rule: u32,
    /// On what it matched.
    pub origin: Origin,
    /// The transaction that it matched in, by [`super::app::Transaction::id`].
    pub transaction: Option<u64>,
}

/// What a packet's rules come to.
#[derive(Debug, Default)]
pub struct Matches {
    /// What is to be told, in the order in which Suricata tells it; thresholds, `pass` and `noalert` are done.
    pub told: Vec<Match>,
    /// The rule whose action the packet meets, and the action; `None`: it goes on.
    pub action: Option<(u32, Action)>,
    /// Whether a `pass` rule matched that is one of the whole flow: nothing more of it is evaluated.
    pub passes_flow: bool,
    /// Whether the rule of `action` is one of the whole flow: inline, its later packets meet the same without being evaluated.
    pub drops_flow: bool,
    /// Whether a rule's `tag` is on the packet that did not match itself.
    pub is_tagged: bool,
    /// Matches that were not told: because of a threshold, and because there were more than are told of a packet.
    pub untold: [u32; 2],
}

impl Matches {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.told.clear();
        self.action = None;
        self.passes_flow = false;
        self.drops_flow = false;
        self.is_tagged = false;
        self.untold = [0; 2];
    }
}

impl Detector {
    /// Of one worker.
    pub fn new(ruleset: Arc<Ruleset>, _memory: Arc<Memory>) -> Self {
        Self { ruleset }
    }

    /// Its rules.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// Evaluates the rules on a packet, on what is new of its streams, and on what is new of its transactions.
    /// `matches` is emptied first.
    pub fn inspect(&mut self, _subject: &mut Subject<'_>, matches: &mut Matches) {
        matches.clear();
    }
}
