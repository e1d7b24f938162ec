//! `nfv check`: is the chain file right, and what becomes of it.

use nfv_core::chain::compile::Choice;
use nfv_core::dpdk::Eal;
use nfv_core::nf::{Direction, Purpose};

use crate::cli::CheckArgs;
use crate::config::{Config, small_eal};
use crate::failure::Outcome;
use crate::say::say;

/// Checks the file and prints the compiled chains.
pub fn check(args: &CheckArgs) -> Outcome {
    let config = Config::read(&args.config)?;
    let _eal = Eal::start(&small_eal())?;
    let (file, plan) = config.compile(Purpose::Check, None)?;
    for (port, entry) in plan.ports.iter().zip(&plan.entries) {
        let takes = match &entry.all {
            Choice::Closed => "no chain: its packets are dropped".to_owned(),
            Choice::All(_) => "one chain takes all".to_owned(),
            Choice::Matched { programs, .. } => {
                format!("{} matches pick the chain", programs.len())
            }
        };
        say(&format!("port {port}: {takes}\n"));
    }
    for program in &plan.programs {
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
    say(&format!("{}: no mistake\n", args.config.display()));
    Ok(())
}
