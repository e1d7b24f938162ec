//! The command line: EAL options, `--`, then ours.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use nfv_core::flow::SHARDS;

use crate::traffic::Traffic;

/// A DPDK service-chain dataplane: chains of network functions in YAML, run to completion.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "nfv run takes DPDK's EAL options before `--`:  nfv run -l 0,1 -a 0000:03:02.0 -- edge.yaml"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a chain file's chains: nfv run [EAL options] -- CONFIG
    Run(RunArgs),
    /// Check a chain file and print the compiled chains
    Check(CheckArgs),
    /// Send captures through a chain file's chains
    Replay(ReplayArgs),
    /// Show what the NIC does of a chain file's work: nfv plan [EAL options --] CONFIG
    Plan(PlanArgs),
    /// Measure the chains on one core: nfv bench [EAL options --] CONFIG
    Bench(BenchArgs),
    /// Say what is wrong with this machine: nfv doctor [EAL options] [-- CONFIG]
    Doctor(DoctorArgs),
    /// Ask a run, or set one of its handles
    Ctl(CtlArgs),
    /// Print the JSON Schema of the chain file, for editors, or the page of a type of function
    Schema(SchemaArgs),
}

/// Arguments of `nfv schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Print the page of this type of function instead
    #[arg(long, value_name = "TYPE")]
    pub doc: Option<String>,
}

/// Arguments of `nfv bench`, behind `--` if there is one.
#[derive(Debug, Args)]
#[command(override_usage = "nfv bench [EAL options --] <CONFIG> [OPTIONS]")]
pub struct BenchArgs {
    /// The chain file; its devices are replaced by ones in memory
    pub config: PathBuf,
    /// What to send: pcap=FILE | udp|tcp|udp6|tcp6[,size=64][,flows=10000|new][,order=loop|random][,dport=53]
    /// [,dst=198.18.0.1][,dsts=250][,skew=zipf:1.1]
    #[arg(long, value_name = "SPEC", default_value = "udp,size=64,flows=10000")]
    pub traffic: Traffic,
    /// Nine times as much as the traffic, beside it: what an emulated NIC's rules spare the workers of an attack
    #[arg(long, value_name = "SPEC")]
    pub attack: Option<Traffic>,
    /// How long to measure
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub seconds: f64,
    /// Open every flow first: TCP's handshake, a datagram and its answer
    #[arg(long)]
    pub established: bool,
    /// Wait for a line on stdin before the flows are opened, and behind it
    #[arg(long, requires = "established")]
    pub step: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.1..=3600.0).contains(&n) => Ok(n),
        _ => Err("a number from 0.1 to 3600".to_owned()),
    }
}

/// Arguments of `nfv ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The socket of the run; otherwise where a run listens by default
    #[arg(long, value_name = "SOCKET", global = true)]
    pub control: Option<PathBuf>,
    /// What to ask.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What to ask.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// Print all counters, and the ports as they are
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a handle's value, or all handles
    Get {
        /// NF.NAME
        handle: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a handle
    Set {
        /// NF.NAME
        handle: String,
        /// Its value
        value: String,
    },
    /// List flows: nfv ctl flows [FILTER]
    Flows {
        /// Words that a flow's line must have, such as `tcp established 10.0.0.1`
        filter: Vec<String>,
        /// Most flows to list
        #[arg(long, default_value = "1000")]
        most: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change to a chain file, or to the run's own as it is now, while packets pass
    Reload {
        /// The chain file
        config: Option<PathBuf>,
    },
    /// Show which worker has which shards, and how many flows
    Shards {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Move shards with their flows to another worker, while packets pass
    Move {
        /// One, a range (0-63), or all
        #[arg(value_parser = shards)]
        shards: Shards,
        /// The worker's number
        worker: u16,
    },
    /// Move all of a worker's shards to the others, while packets pass
    Drain {
        /// The worker's number
        worker: u16,
    },
    /// Show which rules the ports' NICs have, which of them were seen to act, and what they dropped
    Offload {
        /// Each rule, too
        #[arg(long)]
        rules: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End the run as SIGINT does
    Quit,
}

/// The first and the last of some shards.
#[derive(Clone, Copy, Debug)]
pub struct Shards {
    pub first: u8,
    pub last: u8,
}

/// `5`, `0-63`, `all`.
fn shards(text: &str) -> Result<Shards, String> {
    let end = (SHARDS - 1) as u8;
    if text == "all" {
        return Ok(Shards { first: 0, last: end });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last <= end => Ok(Shards { first, last }),
        _ => Err(format!("a shard from 0 to {end}, a range such as `0-63`, or `all`")),
    }
}

/// Arguments of `nfv run`, behind `--`.
#[derive(Debug, Args)]
#[command(override_usage = "nfv run [EAL options] -- <CONFIG> [OPTIONS]")]
pub struct RunArgs {
    /// The chain file
    pub config: PathBuf,
    /// Stop after so many seconds; otherwise on SIGINT or SIGTERM
    #[arg(long, value_name = "SECS")]
    pub duration: Option<u64>,
    /// Print tables of rates once a second
    #[arg(long)]
    pub live: bool,
    /// Where `nfv ctl` asks; otherwise /run/nfv/nfv.sock, or nfv/nfv.sock in the user's runtime folder
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Serve the counters as OpenMetrics text; a port alone is on loopback
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_address)]
    pub metrics: Option<SocketAddr>,
}

/// `127.0.0.1:9090`, `[::1]:9090`, `9090`.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| "an address with a port, such as `127.0.0.1:9090`, or a port alone".to_owned())
}

/// Arguments of `nfv doctor`, behind `--`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The chain file whose ports are to be looked at
    pub config: Option<PathBuf>,
}

/// Arguments of `nfv check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The chain file
    pub config: PathBuf,
}

/// Arguments of `nfv plan`, behind `--` if there is one.
#[derive(Debug, Args)]
#[command(override_usage = "nfv plan [EAL options --] <CONFIG> [OPTIONS]")]
pub struct PlanArgs {
    /// The chain file
    pub config: PathBuf,
    /// Plan for this driver's NICs by the table, without any device: mlx5 ice iavf i40e ixgbe ixgbevf igb igbvf bnxt
    /// cnxk ena virtio vmxnet3 tap; otherwise the ports are opened, and their drivers asked
    #[arg(long, value_name = "DRIVER")]
    pub nic: Option<String>,
    /// With --nic: receive queues, one a worker
    #[arg(long, value_name = "N", default_value = "4", requires = "nic", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queues: u16,
    /// Take the shares of classes, and what else was measured, from the run that listens there
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Without --nic: give the NICs the rules, measure how many a second they take, change and give back, and take them back
    #[arg(long, conflicts_with = "nic")]
    pub install: bool,
    /// Show each class and each rule
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `nfv replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The chain file
    pub config: PathBuf,
    /// A capture (pcap or pcapng) that a port receives; once for each
    #[arg(long = "in", value_name = "PORT=FILE", required = true)]
    pub inputs: Vec<String>,
    /// Where PORT.pcap is written for each port
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print what became of each packet, and which rule decided it
    #[arg(long)]
    pub explain: bool,
    /// Where the report is written, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Splits EAL's options off, and reads the rest.
pub fn read(words: Vec<String>) -> Result<(Vec<String>, Cli), ExitCode> {
    let mut eal = Vec::new();
    let mut ours = words;
    let split = ours.iter().position(|w| w == "--");
    let asks = |w: &String| ["-h", "--help", "--version"].contains(&w.as_str());
    let at = match ours.get(1).map(String::as_str) {
        Some("run" | "bench" | "plan") => split,
        // The chain file may be left out, and the dashes with it.
        Some("doctor") if !ours.iter().any(asks) => split.or(Some(ours.len())),
        _ => None,
    };
    if let Some(at) = at {
        let rest = ours.split_off(at);
        eal = ours.split_off(2);
        ours.extend(rest.into_iter().skip(1));
    }
    let asked = ours.clone();
    Cli::try_parse_from(ours).map(|cli| (eal, cli)).map_err(|why| {
        let dashes = at.is_none().then(|| missing_dashes(&asked)).flatten();
        if why.kind() == ErrorKind::UnknownArgument
            && let Some(instead) = dashes
        {
            eprintln!(
                "nfv: EAL's options come before `--`, and the chain file behind it:\n  {instead}"
            );
            return ExitCode::from(2);
        }
        // Help and version are printed to stdout, and are no mistake.
        let _ = why.print();
        ExitCode::from(if why.use_stderr() { 2 } else { 0 })
    })
}

/// What was meant by `nfv run -l 0,1 edge.yaml`.
fn missing_dashes(words: &[String]) -> Option<String> {
    let [_, command, rest @ ..] = words else { return None };
    if !["run", "bench", "doctor", "plan"].contains(&command.as_str()) {
        return None;
    }
    let is_file = |word: &String| word.ends_with(".yaml") || word.ends_with(".yml");
    let (eal, ours) = rest.split_at(rest.iter().position(is_file)?);
    Some(format!("nfv {command} {} -- {}", eal.join(" "), ours.join(" ")))
}
