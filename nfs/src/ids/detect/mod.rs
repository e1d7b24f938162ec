//! Which rules match: what the rest of the IDS asks once a packet, when its flow is up to date.
//!
//! ```text
//!   Rules --Ruleset::compile--> Ruleset (all workers, read only)
//!
//!   packet, flow, streams, application --> Detector::inspect --> Matches: rules that matched, and what becomes of the packet
//! ```

mod subject;

use std::sync::Arc;

pub use self::subject::{FlowFacts, Origin, Packet, Subject};
use super::rules::{Action, Rule, Rules};

/// Rules, compiled for detection. Shared by all workers, read only.
#[derive(Debug)]
pub struct Ruleset {
    rules: Box<[Arc<Rule>]>,
}

impl Ruleset {
    /// Compiles them.
    pub fn compile(rules: Rules) -> Self {
        Self { rules: rules.rules.into_iter().map(Arc::new).collect() }
    }

    /// A rule by its place. Shared, so that an alert says which rule it is of without a copy of what the rule says.
    pub fn rule(&self, index: u32) -> Option<&Arc<Rule>> {
        self.rules.get(usize::try_from(index).ok()?)
    }
}

/// What one worker needs to match rules: scratch space, and what is counted over flows.
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
    /// Whether a `pass` rule matched: nothing more of this flow is evaluated if it was one of the whole flow.
    pub passes_flow: bool,
}

impl Detector {
    /// Of one worker.
    pub fn new(ruleset: Arc<Ruleset>) -> Self {
        Self { ruleset }
    }

    /// Its rules.
    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    /// Evaluates the rules on a packet, on what is new of its streams, and on what is new of its transactions.
    /// `matches` is emptied first.
    pub fn inspect(&mut self, _subject: &mut Subject<'_>, matches: &mut Matches) {
        matches.told.clear();
        matches.action = None;
        matches.passes_flow = false;
    }
}
