//! `nfv ctl`: asks a run, or sets one of its handles, over the control socket.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nfv_core::control::nic_rules::NicReport;
use nfv_core::control::requests::{
    Answer, Flows, HandleValue, PortTable, Request, Stats, WorkerShards,
};

use crate::cli::{CtlArgs, CtlCommand, Shards};
use crate::failure::{Failure, Outcome};
use crate::offload;
use crate::say::say;
use crate::stats::{Counters, Unit, tables};

/// Asks, and prints the answer.
pub fn ctl(args: &CtlArgs) -> Outcome {
    let path = args.control.clone().unwrap_or_else(default_path);
    let request = match &args.command {
        CtlCommand::Stats { .. } => Request::Stats {},
        CtlCommand::Get { handle, .. } => Request::Get { handle: handle.clone() },
        CtlCommand::Set { handle, value } => {
            Request::Set { handle: handle.clone(), value: value.clone() }
        }
        CtlCommand::Flows { filter, most, .. } => {
            let words = filter.iter().flat_map(|f| f.split_whitespace()).map(str::to_owned);
            Request::Flows { filter: words.collect(), most: *most }
        }
        CtlCommand::Reload { config } => Request::Reload {
            // The run's folder is another one.
            config: config
                .as_ref()
                .map(|path| std::path::absolute(path).with_context(|| path.display().to_string()))
                .transpose()?,
        },
        CtlCommand::Shards { .. } => Request::Shards {},
        CtlCommand::Move { shards: Shards { first, last }, worker } => {
            Request::Move { first: *first, last: *last, worker: *worker }
        }
        CtlCommand::Drain { worker } => Request::Drain { worker: *worker },
        CtlCommand::Offload { .. } => Request::Offload {},
        CtlCommand::Quit => Request::Quit {},
    };
    let value = match ask(&path, &request)? {
        Answer::Ok(value) => value,
        Answer::Error(why) => return Err(Failure::User(format!("nfv: {why}"))),
    };
    match &args.command {
        CtlCommand::Stats { json: true }
        | CtlCommand::Get { json: true, .. }
        | CtlCommand::Flows { json: true, .. }
        | CtlCommand::Offload { json: true, .. }
        | CtlCommand::Shards { json: true } => {
            say(&format!("{}\n", serde_json::to_string_pretty(&value)?));
        }
        CtlCommand::Stats { .. } => say(&stats(serde_json::from_value(value)?)),
        CtlCommand::Get { handle: None, .. } => {
            for h in serde_json::from_value::<Vec<HandleValue>>(value)? {
                let mode = if h.writable { "rw" } else { "r" };
                say(&format!("{:<32} {mode:<3} {:<20} {}\n", h.handle, h.value, h.help));
            }
        }
        CtlCommand::Get { .. } | CtlCommand::Set { .. } => {
            say(&format!("{}\n", serde_json::from_value::<HandleValue>(value)?.value));
        }
        CtlCommand::Flows { .. } => {
            let flows: Flows = serde_json::from_value(value)?;
            for line in &flows.flows {
                say(&format!("{line}\n"));
            }
            if flows.more {
                say("and more: say --most, or filter them\n");
            }
        }
        CtlCommand::Shards { .. } => {
            for own in serde_json::from_value::<Vec<WorkerShards>>(value)? {
                let WorkerShards { worker, busy, shards, flows } = own;
                let (n, ranges) = (shards.len(), ranges(&shards));
                say(&format!(
                    "worker {worker}: {busy} % busy, {n} shards, {flows} flows: {ranges}\n"
                ));
            }
            if let Answer::Ok(tables) = ask(&path, &Request::Tables {})? {
                serde_json::from_value::<Vec<PortTable>>(tables)?.iter().for_each(say_table);
            }
        }
        CtlCommand::Reload { .. } | CtlCommand::Move { .. } | CtlCommand::Drain { .. } => {
            say(&format!("{}\n", serde_json::from_value::<String>(value)?));
        }
        CtlCommand::Offload { rules, .. } => {
            let ports: Vec<NicReport> = serde_json::from_value(value)?;
            say(&offload::table(&ports));
            if *rules {
                say(&offload::rules(&ports));
            }
        }
        CtlCommand::Quit => {}
    }
    Ok(())
}

/// Asks a run.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, Failure> {
    let shown = path.display();
    let mut stream = UnixStream::connect(path).map_err(|why| match why.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow!("no run listens at {shown}: start `nfv run`, or name its socket with --control")
        }
        ErrorKind::PermissionDenied => {
            anyhow!("{shown}: {why}; only the user who started the run may ask it")
        }
        _ => anyhow!(why).context(format!("connecting to {shown}")),
    })?;
    stream.set_read_timeout(Some(PATIENCE)).context("setting a timeout")?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // Who is refused may be answered before having asked.
    match stream.write_all(&line) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            return Err(anyhow!(why).context(format!("asking {shown}")).into());
        }
        _ => {}
    }
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .with_context(|| format!("no answer from {shown}"))?;
    Ok(serde_json::from_str(&answer).with_context(|| format!("the answer of {shown}"))?)
}

fn say_table(table: &PortTable) {
    let PortTable { port, entries, why, measured } = table;
    let said = match (entries, why) {
        (Some(entries), _) => format!("its {entries} entries send each shard to its worker"),
        (None, why) => format!("does not follow: {}", why.as_deref().unwrap_or("unknown")),
    };
    let measured = measured.iter().map(|words| format!("; measured: {words}")).collect::<String>();
    say(&format!("table of port {port}: {said}{measured}\n"));
}

fn stats(stats: Stats) -> String {
    let mut text = format!("up {:.1} s, {} workers\n", stats.uptime_seconds, stats.workers);
    for (name, port) in &stats.ports {
        let link = match (port.link_up, port.link_mbits) {
            (true, Some(speed)) => format!("link up, {speed} Mbit/s"),
            (true, None) => "link up".to_owned(),
            (false, _) => "link DOWN".to_owned(),
        };
        text += &format!(
            "port {name}: {} ({}), {}, MTU {}, {} queues, {link}, {} mbufs free\n",
            port.device, port.driver, port.mac, port.mtu, port.queues, port.pool_free_mbufs
        );
        let own: Vec<String> = port
            .extended
            .iter()
            .filter(|(_, v)| **v > 0)
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        if !own.is_empty() {
            text += &format!("  {}\n", own.join(" "));
        }
    }
    text + &tables(&Counters::new(stats.counters), Unit::Total)
}

/// `0-3 6 8-9`; in steps of two and more, as at the start: `0,2..126`.
fn ranges(shards: &[u8]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = shards;
    while let [first, tail @ ..] = rest {
        let step = tail.first().map_or(1, |next| next - first);
        let pairs = rest.windows(2).take_while(|pair| matches!(pair, [a, b] if b - a == step));
        let steps = pairs.count();
        let last = rest.get(steps).copied().unwrap_or(*first);
        let taken = match (steps, step) {
            (1.., 1) => {
                parts.push(format!("{first}-{last}"));
                steps + 1
            }
            (2.., _) => {
                parts.push(format!("{first},{}..{last}", first + step));
                steps + 1
            }
            _ => {
                parts.push(first.to_string());
                1
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(" ") }
}

/// Where a run listens, and is asked, when nothing else is said.
pub fn default_path() -> PathBuf {
    default_folder().join("nfv.sock")
}

/// Root's in /run, another user's in its own runtime folder.
pub fn default_folder() -> PathBuf {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(own) if !root => PathBuf::from(own).join("nfv"),
        _ if root => PathBuf::from("/run/nfv"),
        _ => std::env::temp_dir().join("nfv"),
    }
}

/// A reload builds tables of rules.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_listed_by_ranges() {
        assert_eq!(ranges(&[]), "none");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[0, 1, 2, 3]), "0-3");
        assert_eq!(ranges(&[0, 1, 2, 6, 8, 9]), "0-2 6 8-9");
        let even: Vec<u8> = (0..128).step_by(2).collect();
        assert_eq!(ranges(&even), "0,2..126");
        let less: Vec<u8> = even.into_iter().filter(|s| *s != 4).collect();
        assert_eq!(ranges(&less), "0 2 6,8..126");
    }
}
