//! What an operator may ask of a run: statistics, handles, its end. Independent of how it is asked.
//!
//! Requests and answers are JSON objects, one a line (docs/control.md). Nothing here stops a worker: counters are read
//! relaxed, handles are atomics that functions read while they work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::nic_rules::NicRules;
use super::running::Workers;
use crate::account::{CellId, Totals};
use crate::chain::compile::Function;
use crate::chain::report::nearest;
use crate::dpdk::OpenPort;
use crate::nf::Handle;

/// A request.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// All counters, and the ports as they are.
    Stats {},
    /// The value of a handle; without one, all handles with their values.
    Get {
        /// `NF.NAME`.
        #[serde(default)]
        handle: Option<String>,
    },
    /// Sets a handle.
    Set {
        /// `NF.NAME`.
        handle: String,
        /// The value, as text.
        value: String,
    },
    /// Lists flows.
    Flows {
        /// Words that a flow's line must have, all of them.
        #[serde(default)]
        filter: Vec<String>,
        /// Most of them.
        #[serde(default = "rows")]
        most: usize,
    },
    /// Changes to a chain file; without one, to that of the run as it is now.
    Reload {
        /// Its path, absolute.
        #[serde(default)]
        config: Option<PathBuf>,
    },
    /// Which worker has which shards, and how many flows.
    Shards {},
    /// Which ports' NICs send each shard to its worker.
    Tables {},
    /// Moves shards with their flows to a worker.
    Move {
        /// The first one.
        first: u8,
        /// The last one.
        last: u8,
        /// To whom.
        worker: u16,
    },
    /// Moves all of a worker's shards to the others, by turns.
    Drain {
        /// The worker.
        worker: u16,
    },
    /// What NICs do of the work.
    Offload {},
    /// Ends the run as SIGINT does.
    Quit {},
}

/// An answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

/// All counters, and the ports as they are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stats {
    /// Since the workers started.
    pub uptime_seconds: f64,
    /// How many there are.
    pub workers: usize,
    /// In the order of the ledger.
    pub counters: Vec<CounterValue>,
    /// By name.
    pub ports: BTreeMap<String, PortState>,
}

/// A counter's value, the sum over the workers.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct CounterValue {
    /// Its metric, without `nfv_` and `_total`.
    pub metric: String,
    /// The user's names, in order.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: u64,
}

/// A port as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PortState {
    /// DPDK's name of the device.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// `02:00:00:00:00:01`.
    pub mac: String,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// Queue pairs in use.
    pub queues: u16,
    /// Whether it has a link.
    pub link_up: bool,
    /// The link's speed, when the driver knows it.
    pub link_mbits: Option<u32>,
    /// Mbufs that its pool has left.
    pub pool_free_mbufs: u32,
    /// The driver's own statistics.
    pub extended: BTreeMap<String, u64>,
}

/// A handle as it is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct HandleValue {
    /// `NF.NAME`.
    pub handle: String,
    /// Its value.
    pub value: String,
    /// Whether it can be set.
    pub writable: bool,
    /// What it means.
    pub help: String,
}

/// A run, as the control side sees it. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    /// What the workers run.
    pub workers: Workers,
    /// Changes to another chain file; says what came of it, or why not.
    pub reload: Reload,
    /// The ports, as the chain file has them.
    pub ports: Arc<[OpenPort]>,
    /// The rules of their NICs.
    pub rules: Arc<NicRules>,
    /// Ends the run.
    pub stop: Arc<AtomicBool>,
    /// When the workers started.
    pub start: Instant,
}

/// Changes to another chain file; says what came of it, or why not.
pub type Reload = Arc<dyn Fn(Load) -> Result<String, String> + Send + Sync>;

/// What is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// The run's own file, as it is now.
    Own,
    /// This one.
    File(PathBuf),
    /// What runs already, with classes of what its functions decide now.
    Same,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// Flows, as an operator asked for them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Flows {
    /// A line each.
    pub flows: Vec<String>,
    /// Whether there are more that match.
    pub more: bool,
}

/// What a worker has.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct WorkerShards {
    /// Its number.
    pub worker: u16,
    /// Its shards, in order.
    pub shards: Vec<u8>,
    /// Percent of the last tenth of a second in which it had packets.
    pub busy: u8,
    /// How many flows are in them, each with an entry for each part of its chain.
    pub flows: u64,
}

/// The table of a port's NIC.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct PortTable {
    /// The port.
    pub port: String,
    /// How many entries it has, when it follows the shards.
    pub entries: Option<usize>,
    /// Why it does not.
    pub why: Option<String>,
    /// How the NIC spreads packets, where that is known by measuring only.
    #[serde(default)]
    pub measured: Option<String>,
}

impl Control {
    /// Answers a line.
    pub fn answer_line(&self, line: &[u8]) -> Answer {
        match serde_json::from_slice(line) {
            Ok(request) => self.answer(request),
            Err(why) => Answer::Error(format!("not a request: {why}")),
        }
    }

    /// Answers a request.
    pub fn answer(&self, request: Request) -> Answer {
        let result = match request {
            Request::Stats {} => json(&self.stats()),
            Request::Get { handle: None } => json(&self.handles()),
            Request::Get { handle: Some(handle) } => self.get(&handle).and_then(|v| json(&v)),
            Request::Set { handle, value } => self.set(&handle, &value).and_then(|v| json(&v)),
            Request::Flows { filter, most } => {
                self.flows(&filter, most.min(ROWS_MAX)).and_then(|v| json(&v))
            }
            Request::Reload { config } => {
                (self.reload)(config.map_or(Load::Own, Load::File)).and_then(|v| json(&v))
            }
            Request::Shards {} => self.shards().and_then(|v| json(&v)),
            Request::Tables {} => json(&self.tables()),
            Request::Move { first, last, worker } => {
                let moves: Vec<_> = (first..=last).map(|shard| (shard, worker)).collect();
                self.workers.move_shards(&moves).map(moved).and_then(|v| json(&v))
            }
            Request::Drain { worker } => self.drain(worker).map(moved).and_then(|v| json(&v)),
            Request::Offload {} => json(&self.rules.report()),
            Request::Quit {} => {
                self.stop.store(true, Ordering::Relaxed);
                json(&"the run ends")
            }
        };
        match result {
            Ok(value) => Answer::Ok(value),
            Err(why) => Answer::Error(why),
        }
    }

    /// The counters' sums over the workers.
    pub fn totals(&self) -> Totals {
        self.workers.now().totals()
    }

    /// All counters, and the ports as they are.
    pub fn stats(&self) -> Stats {
        let running = self.workers.now();
        let counters = running
            .totals()
            .iter(&running.plan.ledger)
            .map(|(c, value)| CounterValue {
                metric: c.metric.to_owned(),
                labels: c.labels.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
                value,
            })
            .collect();
        Stats {
            uptime_seconds: self.start.elapsed().as_secs_f64(),
            workers: running.workers(),
            counters,
            ports: self.ports.iter().map(|p| (p.name.clone(), port_state(p))).collect(),
        }
    }

    /// Flows whose line has all words of a filter.
    fn flows(&self, filter: &[String], most: usize) -> Result<Flows, String> {
        let mut found = Flows { flows: Vec::new(), more: false };
        self.workers.list(|plan, page| {
            for row in &page.rows {
                let line = row.line(plan);
                if !filter.iter().all(|word| line.contains(word.as_str())) {
                    continue;
                }
                if found.flows.len() == most {
                    found.more = true;
                    return false;
                }
                found.flows.push(line);
            }
            true
        })?;
        Ok(found)
    }

    /// Who has which shards.
    fn shards(&self) -> Result<Vec<WorkerShards>, String> {
        let all = self.workers.shards()?;
        let busy = self.workers.busy();
        let of = |worker: u16| {
            let busy = busy.get(usize::from(worker)).copied().unwrap_or_default();
            let busy = (100.0 * busy).round() as u8;
            let own = (0..).zip(&all).filter(|(_, (owner, _))| *owner == worker);
            let flows = own.clone().map(|(_, (_, flows))| u64::from(*flows)).sum();
            WorkerShards { worker, busy, shards: own.map(|(shard, _)| shard).collect(), flows }
        };
        Ok((0..).take(self.workers.now().workers()).map(of).collect())
    }

    /// Which tables follow.
    fn tables(&self) -> Vec<PortTable> {
        let measured = self.rules.measured();
        let row = |(port, table): (String, Result<usize, String>)| PortTable {
            measured: measured.iter().find(|(name, _)| *name == port).map(|(_, w)| w.clone()),
            port,
            entries: table.as_ref().ok().copied(),
            why: table.err(),
        };
        self.workers.tables().into_iter().map(row).collect()
    }

    /// Takes all shards from a worker.
    fn drain(&self, worker: u16) -> Result<usize, String> {
        let all = self.workers.shards()?;
        let others: Vec<u16> =
            (0..).take(self.workers.now().workers()).filter(|other| *other != worker).collect();
        if others.len() == self.workers.now().workers() {
            return Err(format!(
                "there is no worker {worker}; the last one is {}",
                others.len() - 1
            ));
        }
        if others.is_empty() {
            return Err("it is the only worker: there is none to take its shards".to_owned());
        }
        let own = (0..=u8::MAX).zip(all).filter(|(_, (owner, _))| *owner == worker);
        let moves: Vec<_> =
            own.zip(others.iter().cycle()).map(|((shard, _), to)| (shard, *to)).collect();
        self.workers.move_shards(&moves)
    }

    fn handles(&self) -> Vec<HandleValue> {
        let running = self.workers.now();
        let totals = running.totals();
        let of = |f: &Function| {
            let own = f.built.handles.iter().map(|h| own_handle(f, h)).collect::<Vec<_>>();
            let counted = counted(f).into_iter().map(|(name, help, id)| HandleValue {
                handle: format!("{}.{name}", f.name),
                value: totals.get(id).to_string(),
                writable: false,
                help: help.to_owned(),
            });
            own.into_iter().chain(counted).collect::<Vec<_>>()
        };
        running.plan.functions.iter().flat_map(of).collect()
    }

    fn get(&self, handle: &str) -> Result<HandleValue, String> {
        let all = self.handles();
        let found = all.iter().find(|h| h.handle == handle).cloned();
        found.ok_or_else(|| unknown(handle, all.iter().map(|h| h.handle.as_str())))
    }

    fn set(&self, handle: &str, value: &str) -> Result<HandleValue, String> {
        let known = self.get(handle)?;
        let running = self.workers.now();
        let functions = running.plan.functions.iter();
        let (function, own) = functions
            .flat_map(|f| f.built.handles.iter().map(move |h| (f, h)))
            .find(|(f, h)| format!("{}.{}", f.name, h.named.name) == handle)
            .ok_or_else(|| format!("`{handle}` can be read only; its value is {}", known.value))?;
        let write = own.write.as_ref();
        let write = write.ok_or_else(|| format!("`{handle}` can be read only"))?;
        write(value).map_err(|why| format!("`{handle}` cannot be `{value}`: {why}"))?;
        // Workers see it at once; a NIC that drops what is to pass now is told before this is answered.
        if !running.plan.are_classes_true() {
            (self.reload)(Load::Same)?;
        }
        tracing::info!("{handle} is {} now, it was {}", (own.read)(), known.value);
        Ok(own_handle(function, own))
    }
}

/// What every function counts without its author's help, by the names of handles.
fn counted(f: &Function) -> Vec<(String, &'static str, CellId)> {
    let mut all = vec![
        ("packets".to_owned(), "packets that it saw", f.cells.packets),
        ("bytes".to_owned(), "bytes that it saw", f.cells.bytes),
        ("cycles".to_owned(), "cycles that it took", f.cells.cycles),
    ];
    let mut row = |named: &'static [crate::nf::Named], first: CellId| {
        for (i, n) in named.iter().enumerate() {
            all.push((n.name.to_owned(), n.help, first.plus(i)));
        }
    };
    row(f.kind.drops, f.cells.drops);
    row(f.kind.counters, f.cells.counters);
    for (i, rule) in f.built.rules.iter().enumerate() {
        let name = rule.split(':').next().unwrap_or_default().replace(' ', "-");
        all.push((name, "packets that the rule decided", f.cells.rules.plus(i)));
    }
    all
}

fn own_handle(f: &Function, h: &Handle) -> HandleValue {
    HandleValue {
        handle: format!("{}.{}", f.name, h.named.name),
        value: (h.read)(),
        writable: h.write.is_some(),
        help: h.named.help.to_owned(),
    }
}

fn unknown<'n>(handle: &str, known: impl Iterator<Item = &'n str>) -> String {
    match nearest(handle, known) {
        Some(near) => format!("there is no handle `{handle}`; did you mean `{near}`?"),
        None => format!("there is no handle `{handle}`; `nfv ctl get` lists them all"),
    }
}

fn port_state(port: &OpenPort) -> PortState {
    let link = port.link();
    let [a, b, c, d, e, f] = port.mac();
    PortState {
        device: port.device.clone(),
        driver: port.driver.clone(),
        mac: format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        mtu: port.mtu,
        queues: port.queues,
        link_up: link.up,
        link_mbits: link.speed,
        pool_free_mbufs: port.pool.size().saturating_sub(port.pool.in_use()),
        extended: port.extended_statistics().into_iter().collect(),
    }
}

fn moved(shards: usize) -> String {
    match shards {
        1 => "1 shard moved".to_owned(),
        n => format!("{n} shards moved"),
    }
}

/// How many flows are listed when nothing is said.
fn rows() -> usize {
    1000
}

/// Most flows that one answer lists.
const ROWS_MAX: usize = 100_000;

fn json(value: &impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(value).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_the_page_has_them_and_nothing_else_is() {
        let read = |text: &str| serde_json::from_str::<Request>(text).ok();
        assert_eq!(read(r#"{"do":"stats"}"#), Some(Request::Stats {}));
        assert_eq!(read(r#"{"do":"get"}"#), Some(Request::Get { handle: None }));
        let handle = "edge.default".to_owned();
        assert_eq!(
            read(r#"{"do":"get","handle":"edge.default"}"#),
            Some(Request::Get { handle: Some(handle.clone()) })
        );
        assert_eq!(
            read(r#"{"do":"set","handle":"edge.default","value":"allow"}"#),
            Some(Request::Set { handle, value: "allow".to_owned() })
        );
        assert_eq!(
            read(r#"{"do":"move","first":3,"last":5,"worker":1}"#),
            Some(Request::Move { first: 3, last: 5, worker: 1 })
        );
        for wrong in ["", "[]", "{}", r#"{"do":"stop"}"#, r#"{"do":"stats","x":1}"#, "\u{0}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
