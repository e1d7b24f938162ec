//! How many rules a second a NIC takes, changes and gives back: its driver's calls, and nothing else, are timed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Calls of each kind since the run began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Rules that were given.
    pub given: Calls,
    /// Rules that were changed where they were.
    pub changed: Calls,
    /// Rules that were taken back.
    pub taken_back: Calls,
}

/// Calls that a driver carried out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// How many rules they were about.
    pub rules: u64,
    took: Duration,
}

/// Rules a second; none of a kind that there was none of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RulesPerSecond {
    /// Given.
    pub given: Option<f64>,
    /// Changed in place.
    pub changed: Option<f64>,
    /// Taken back.
    pub taken_back: Option<f64>,
}

impl Calls {
    /// Makes a call about a rule. What the driver refuses is not counted: a refusal is quick.
    pub fn time<T, E>(&mut self, call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let done = call();
        if done.is_ok() {
            self.rules += 1;
            self.took += start.elapsed();
        }
        done
    }

    /// The same about some rules.
    pub fn add(&mut self, rules: u64, took: Duration) {
        self.rules += rules;
        self.took += took;
    }

    fn per_second(&self) -> Option<f64> {
        (self.rules > 0).then(|| self.rules as f64 / self.took.as_secs_f64().max(1e-9))
    }
}

impl Pace {
    /// What was done since then.
    pub fn since(&self, before: &Self) -> Self {
        let since = |now: Calls, then: Calls| Calls {
            rules: now.rules - then.rules,
            took: now.took.saturating_sub(then.took),
        };
        Self {
            given: since(self.given, before.given),
            changed: since(self.changed, before.changed),
            taken_back: since(self.taken_back, before.taken_back),
        }
    }

    /// What it comes to.
    pub fn per_second(&self) -> RulesPerSecond {
        RulesPerSecond {
            given: self.given.per_second(),
            changed: self.changed.per_second(),
            taken_back: self.taken_back.per_second(),
        }
    }
}

impl RulesPerSecond {
    /// `12000 given, 30000 taken back`; empty: nothing was.
    pub fn words(&self) -> String {
        let kinds =
            [(self.given, "given"), (self.changed, "changed"), (self.taken_back, "taken back")];
        let words = kinds.iter().filter_map(|(n, word)| Some(format!("{:.0} {word}", (*n)?)));
        words.collect::<Vec<_>>().join(", ")
    }
}
