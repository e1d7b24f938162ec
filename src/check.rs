//! `nfv check`: is the chain file right, and what becomes of it.

use nfv_core::chain::compile::Entry;
use nfv_core::dpdk::Eal;

use crate::cli::{CheckArgs, Outcome};
use crate::config::{Config, small_eal};

/// Checks the file and prints the compiled chains.
pub fn check(args: &CheckArgs) -> Outcome {
    let config = Config::read(&args.config)?;
    let _eal = Eal::start(&small_eal())?;
    let (_, plan) = config.compile()?;
    for (port, entry) in plan.ports.iter().zip(&plan.entries) {
        let takes = match entry {
            Entry::Closed => "no chain: its packets are dropped".to_owned(),
            Entry::All(_) => "one chain takes all".to_owned(),
            Entry::Matched { programs, .. } => format!("{} matches pick the chain", programs.len()),
        };
        println!("port {port}: {takes}");
    }
    for program in &plan.programs {
        let Some(to) = program.to.and_then(|p| plan.ports.get(p.index())) else { continue };
        let steps = program.steps.iter().filter_map(|s| plan.functions.get(*s));
        let names: Vec<String> =
            steps.map(|f| format!("{} ({}) -> ", f.name, f.kind.name)).collect();
        println!("chain {} {:?}: {}{to}", program.chain, program.direction, names.concat());
    }
    println!("{}: no mistake", args.config.display());
    Ok(())
}
