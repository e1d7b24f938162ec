//! What a packet costs a worker, in clocks of the time-stamp counter: a sum of what was measured.
//!
//! The figures are those of docs/numbers.md (a 2.6 GHz counter, 64-byte packets, bursts of 32, all in the caches): on
//! another machine they are others, and stand to each other much the same. Reading a tag is not in them: all packets pay it.

use nfv_core::chain::compile::{Choice, Plan, ProgramId, Step};
use nfv_core::dispatch::{Class, ClassFate};
use nfv_core::nf::PortIndex;
use nfv_core::offload::{Placed, Rung};

/// What a packet of a class costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// As planned.
    pub planned: u32,
    /// If the NIC did nothing.
    pub software: u32,
}

/// The cost of a class's packets.
pub fn cost(plan: &Plan, port: PortIndex, class: &Class, placed: &Placed) -> Cost {
    let entry = plan.entries.get(port.index());
    let picked = entry.is_some_and(|entry| matches!(entry.all, Choice::Matched { .. }));
    let pick = if picked { CLASSIFY } else { 0 };
    let (before, after, leaves): (u32, u32, u32) = match class.fate {
        ClassFate::Enter { program, step } => {
            let steps = steps(plan, program);
            let before: u32 = steps.iter().take(step).map(|s| cost_of(plan, s)).sum();
            let after: u32 = steps.iter().skip(step).map(|s| cost_of(plan, s)).sum();
            (before, after, TRANSMIT)
        }
        ClassFate::Drop { program, function, .. } => {
            let steps = steps(plan, program);
            let is_it = |step: &Step| matches!(step, Step::Function { at, .. } if *at == function);
            let last = steps.iter().position(is_it).map_or(steps.len(), |at| at + 1);
            (steps.iter().take(last).map(|s| cost_of(plan, s)).sum(), 0, 0)
        }
    };
    let moved = RECEIVE + PARSE + leaves;
    let software: u32 = moved + pick + before + after;
    let planned = match placed.rung {
        Rung::Drop => 0,
        Rung::MarkQueue | Rung::MarkRss => moved + after,
        Rung::Queue | Rung::Rss | Rung::HandOver => software,
    };
    Cost { planned, software }
}

fn steps(plan: &Plan, program: ProgramId) -> &[Step] {
    plan.programs.get(usize::from(program.0)).map_or(&[], |program| &program.steps)
}

fn cost_of(plan: &Plan, step: &Step) -> u32 {
    match step {
        Step::Piece(_) => FLOW,
        Step::Function { at, .. } => match plan.functions.get(*at).map(|f| f.kind.name) {
            Some("firewall") => FIREWALL,
            Some("route") => ROUTE,
            _ => OTHER,
        },
    }
}

/// Half of the ceiling's 26: 14.7 ns a packet forwarded at 2.6 GHz, less the 12 of the next two lines.
const RECEIVE: u32 = 13;
/// The other half.
const TRANSMIT: u32 = 13;
/// `forward`: 12 above the ceiling, of which the parse is 10 (`cargo bench`: 4 ns).
const PARSE: u32 = 12;
/// `cargo bench`: 12 ns a packet of a burst, whether of 10 rules or of 10,000.
const CLASSIFY: u32 = 31;
/// `firewall 10` and `firewall 10000`: 59 above the ceiling, less the 12 of `forward`.
const FIREWALL: u32 = 47;
/// `router`: 71 above the ceiling, less 12.
const ROUTE: u32 = 59;
/// A piece that keeps flows, however many functions it has, for a flow that is known: `full chain, udp`, 72 less 12.
const FLOW: u32 = 60;
/// Not measured one by one: what a firewall takes beside its lookup.
const OTHER: u32 = FIREWALL - CLASSIFY;
