//! `nfv check`: is the chain file right, and what becomes of it.

use nfv_core::chain::compile::{Choice, Plan};
use nfv_core::dispatch::ClassFate;
use nfv_core::dpdk::Eal;
use nfv_core::flow::WhenFull;
use nfv_core::nf::{Direction, PortIndex, Purpose};

use crate::cli::CheckArgs;
use crate::config::{Config, small_eal};
use crate::failure::Outcome;
use crate::say::say;

/// Checks the file and prints the compiled chains.
pub fn check(args: &CheckArgs) -> Outcome {
    let config = Config::read(&args.config)?;
    let _eal = Eal::start(&small_eal())?;
    let (file, plan) = config.compile(Purpose::Check, None)?;
    let ports = plan.ports.iter().zip(&plan.entries);
    for (index, (port, entry)) in (0..=u8::MAX).map(PortIndex).zip(ports) {
        let zone = plan.zones.name(plan.zones.of_port(index));
        let zone = zone.map_or_else(String::new, |zone| format!(", zone {zone}"));
        let takes = match &entry.all {
            Choice::Closed => "no chain: its packets are dropped".to_owned(),
            Choice::All(_) => "one chain takes all".to_owned(),
            Choice::Matched { programs, .. } => {
                format!("{} matches pick the chain", programs.len())
            }
        };
        let classes = classes_of(&plan, index);
        say(&format!("port {port}: {takes}{zone}{classes}\n"));
    }
    for program in plan.programs.iter().filter(|p| p.rest_of.is_none()) {
        let chain = file.chains.iter().find(|c| c.name.value == program.chain);
        let answers = chain.is_some_and(|c| !c.oneway && c.to.is_some() && !c.from.is_empty());
        let word = match program.direction {
            Direction::Forward => "forward",
            Direction::Reverse if answers => "reverse",
            Direction::Reverse => continue,
        };
        let to = program.to.and_then(|p| plan.ports.get(p.index()));
        let to = to.map_or("the port of the next hop", String::as_str);
        let steps = plan.functions_of(program);
        let names: Vec<String> =
            steps.map(|f| format!("{} ({}) -> ", f.name, f.kind.name)).collect();
        say(&format!("chain {}, {word}: {}{to}\n", program.chain, names.concat()));
    }
    for function in &plan.functions {
        for note in &function.built.notes {
            say(&format!("function {}: {note}\n", function.name));
        }
    }
    if !plan.pieces.is_empty() {
        say(&flows(&plan));
    }
    say(&format!("{}: no mistake\n", args.config.display()));
    Ok(())
}

/// How many traffic classes a port has, and what becomes of them.
fn classes_of(plan: &Plan, port: PortIndex) -> String {
    let port = plan.classes.ports.iter().find(|p| p.port == port);
    let classes = port.map_or(&[][..], |p| &p.classes);
    if classes.is_empty() {
        return String::new();
    }
    let dropped = classes.iter().filter(|c| matches!(c.fate, ClassFate::Drop { .. })).count();
    let s = if classes.len() == 1 { "" } else { "es" };
    let dropped = if dropped > 0 { format!(", {dropped} of them dropped") } else { String::new() };
    format!("; {} class{s}{dropped}", classes.len())
}

/// How many flows there may be, and what happens to one more.
fn flows(plan: &Plan) -> String {
    let when_full = match plan.flows.full {
        WhenFull::Evict => "for one more the oldest that is not established makes room (evict)",
        WhenFull::Refuse => "one more is dropped (refuse)",
    };
    format!("flows: at most {}; {when_full}\n", plan.flows.max)
}
