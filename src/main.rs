//! The `nfv` command: dispatches to one subcommand a file. Exit 0, 1 for the machine's failures, 2 for the user's mistakes.
#![forbid(unsafe_code)]

mod bench;
mod capture;
mod check;
mod cli;
mod config;
mod control;
mod ctl;
mod dataplane;
mod doctor;
mod eal_args;
mod emulated;
mod explain;
mod failure;
mod hints;
mod lives;
mod network;
mod offload;
mod plan;
mod reload;
mod replay;
mod run;
mod say;
mod schema;
mod stats;
mod traffic;

use std::io::IsTerminal;
use std::process::ExitCode;

use cli::Command;
use failure::Failure;

fn main() -> ExitCode {
    let (eal_options, cli) = match cli::read(std::env::args().collect()) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("NFV_LOG")
                .unwrap_or_else(|_| "info,dpdk=warn".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
    let result = match cli.command {
        Command::Run(run) => run::run(&eal_options, &run),
        Command::Check(check) => check::check(&check),
        Command::Replay(replay) => replay::replay(&replay),
        Command::Plan(args) => plan::plan(&eal_options, &args),
        Command::Bench(args) => bench::bench(&eal_options, &args),
        Command::Ctl(args) => ctl::ctl(&args),
        Command::Schema(args) => schema::print(&args),
        Command::Doctor(doctor) => match doctor::command(&eal_options, &doctor) {
            Ok(exit) => return exit,
            Err(failure) => Err(failure),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::User(why)) => {
            eprintln!("{}", why.trim_end());
            ExitCode::from(2)
        }
        Err(Failure::Machine(why)) => {
            eprintln!("nfv: {why:#}");
            ExitCode::from(1)
        }
    }
}
