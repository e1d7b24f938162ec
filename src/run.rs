//! `nfv run`: opens the ports, pins the workers, watches until it is told to stop, sums up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nfv_core::account::{Cells, Side, Totals};
use nfv_core::chain::compile::Plan;
use nfv_core::chain::port::PortSpec;
use nfv_core::clock::Tsc;
use nfv_core::control::requests::Control;
use nfv_core::control::twin::{Carrier, TwinConfig};
use nfv_core::dpdk::{
    Eal, EalError, OpenPort, Packets, PortRequest, QueueSeed, RxQueue, TxQueue, unaccounted_packets,
};
use nfv_core::flow::PortFacts;
use nfv_core::nf::{PortIndex, Purpose, Shard};
use nfv_core::worker::{Io, KernelQueues, Worker};
use tokio::sync::mpsc::UnboundedSender;

use crate::cli::{Failure, Outcome, RunArgs};
use crate::config::Config;
use crate::control::{ControlThread, Tasks};
use crate::doctor::{Ask, Color, Finding, HugeChoice, Machine, Severity, preflight, print};
use crate::network::RoutedPort;
use crate::say::say;
use crate::stats::{Counters, Unit, tables};

/// Runs the chains until SIGINT, SIGTERM or the duration's end.
pub fn run(eal_options: &[String], args: &RunArgs) -> Outcome {
    let config = Config::read(&args.config)?;
    let checked = preflight(&Machine::here(), &Ask::new(eal_options, &config.file.ports));
    let told: Vec<Finding> =
        checked.findings.into_iter().filter(|f| f.severity >= Severity::Warning).collect();
    if !told.is_empty() {
        print(&told, &mut std::io::stderr(), Color::Plain)?;
    }
    if checked.fatal {
        return Err(anyhow!("this machine is not ready for the run; see above").into());
    }
    let eal = Eal::start(&with_defaults(eal_options, &checked.huge)).map_err(|why| match &why {
        EalError::Init { user: true, .. } => Failure::User(format!("nfv: {why}")),
        _ => Failure::Machine(why.into()),
    })?;
    let lcores = eal.worker_lcores();
    if lcores.is_empty() {
        let why = "nfv: no lcore is left for a worker: the first one is the control side's. \
                   Name two or more, `-l 0,1`; on a machine with one CPU, `--lcores '(0-1)@0'`";
        return Err(Failure::User(why.to_owned()));
    }
    let (file, plan) = config.compile(Purpose::Run)?;
    let plan = Arc::new(plan);
    let (ports, seeds) = open_ports(&eal, &file.ports, lcores.len())?;
    for (port, spec) in ports.iter().zip(&file.ports) {
        let link = port.wait_for_link(spec.link_timeout);
        let speed = link.speed.map(|s| format!(", {s} Mbit/s")).unwrap_or_default();
        let state = if link.up { "up" } else { "DOWN" };
        tracing::info!(
            "port {}: {} ({}), {} queues, MTU {}, link {state}{speed}",
            port.name,
            port.device,
            port.driver,
            port.queues,
            port.mtu
        );
    }

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("watching for signals")?;
    }
    let pool = ports.first().map(|p| p.pool).context("the chain file has no port")?;
    let routed = routed_ports(&plan, &file.ports, &ports);
    let kernel = kernel_queues(&routed, ports.len());
    let ports: Arc<[OpenPort]> = ports.into();
    let workers: Vec<_> = lcores.into_iter().zip(seeds).collect();
    let cells: Vec<_> = workers.iter().map(|_| plan.ledger.cells()).collect();
    let (carriers, changes) = tokio::sync::mpsc::unbounded_channel();
    let control = ControlThread::start(Tasks {
        control: Control {
            plan: plan.clone(),
            cells: cells.clone(),
            ports: ports.clone(),
            stop: stop.clone(),
            start: Instant::now(),
        },
        socket: args.control.clone(),
        metrics: args.metrics,
        routed: plan.routes.clone().map(|table| (table, routed)),
        carriers: changes,
    })?;
    let of = u16::try_from(workers.len()).context("too many workers")?;
    let clock = Tsc::start();
    let mut running = Vec::new();
    for (index, ((lcore, seeds), own)) in (0..of).zip(workers.into_iter().zip(&cells)) {
        let shard = Shard { index, of };
        let (plan, own) = (plan.clone(), own.clone());
        let (kernel, stop) = (kernel.clone(), stop.clone());
        // Made on its lcore, so that its memory is near.
        let worker = move || Worker::new(plan, own, pool, shard, kernel);
        running.push(eal.launch(lcore, move || work(worker(), seeds, clock, &stop))?);
    }
    let start = Instant::now();
    let mut links = Links::new(&ports, carriers);
    watch(&plan, &cells, args, &mut links, &stop);
    stop.store(true, Ordering::Relaxed);
    for worker in running {
        let lcore = worker.lcore();
        worker.wait().ok_or_else(|| anyhow!("the worker on lcore {} panicked", lcore.index()))?;
    }
    let control = control.stop();
    kernel.iter().flatten().for_each(|queues| queues.empty());
    let finished = plan.finish();
    let totals = plan.ledger.totals(&cells);
    let pools: Vec<_> = ports.iter().map(|p| (p.name.clone(), p.pool)).collect();
    drop(ports);
    sum_up(&plan, &totals, start.elapsed())?;
    if let Some((port, pool)) = pools.iter().find(|(_, pool)| pool.in_use() > 0) {
        let (used, all) = (pool.in_use(), pool.size());
        return Err(anyhow!(
            "port {port}: {used} of {all} mbufs did not come back; please report this"
        )
        .into());
    }
    finished.map_err(|why| anyhow!(why))?;
    control
}

/// Tells the forwarding table what the open ports are, and returns the routed ones that have a twin.
fn routed_ports(plan: &Plan, specs: &[PortSpec], ports: &[OpenPort]) -> Vec<RoutedPort> {
    let Some(table) = &plan.routes else { return Vec::new() };
    let mut routed = Vec::new();
    for (index, (spec, port)) in (0..=u8::MAX).map(PortIndex).zip(specs.iter().zip(ports)) {
        table.set_port(index, PortFacts { mac: port.mac, mtu: port.mtu });
        if let Some(name) = &spec.twin {
            let twin = TwinConfig {
                name: name.value.clone(),
                mac: port.mac,
                mtu: port.mtu,
                addresses: spec.addresses.iter().map(|a| a.value).collect(),
            };
            let queues = Arc::new(KernelQueues::new(port.pool));
            routed.push(RoutedPort { index, twin, queues });
        }
    }
    routed
}

/// By port.
fn kernel_queues(routed: &[RoutedPort], ports: usize) -> Vec<Option<Arc<KernelQueues>>> {
    if routed.is_empty() {
        return Vec::new();
    }
    let of = |port: usize| routed.iter().find(|r| r.index.index() == port);
    (0..ports).map(|port| of(port).map(|r| r.queues.clone())).collect()
}

/// What EAL needs and the user did not say.
fn with_defaults(options: &[String], huge: &HugeChoice) -> Vec<String> {
    let has = |names: &[&str]| {
        options.iter().any(|o| names.iter().any(|n| o == n || o.starts_with(&format!("{n}="))))
    };
    let mut all = options.to_vec();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|w| (*w).to_owned()));
    if !has(&["--file-prefix", "--in-memory", "--no-shconf"]) {
        add(&["--file-prefix", &format!("nfv-{}", std::process::id())]);
    }
    match huge {
        HugeChoice::NoHuge { why } => {
            tracing::warn!("without huge pages: {why}");
            add(if has(&["--no-huge"]) { &[] } else { &["--no-huge"] });
            if !has(&["-m"]) {
                add(&["-m", "1024"]);
            }
        }
        // The files in hugetlbfs are of no use to others, and none may stay there.
        _ if !has(&["--huge-unlink", "--in-memory"]) => add(&["--huge-unlink=always"]),
        _ => {}
    }
    all
}

/// Opens the ports with one queue pair a worker, or as many workers as the least of them has queues for.
fn open_ports(
    eal: &Eal,
    specs: &[PortSpec],
    workers: usize,
) -> Result<(Vec<OpenPort>, Vec<Vec<QueueSeed>>), Failure> {
    let mut requests: Vec<PortRequest> = specs
        .iter()
        .map(|spec| request(spec, u16::try_from(workers).unwrap_or(u16::MAX)))
        .collect();
    let missing = |why: nfv_core::dpdk::PortError| match why {
        nfv_core::dpdk::PortError::Missing { .. } => Failure::User(format!("nfv: {why}")),
        _ => Failure::Machine(why.into()),
    };
    for i in 0..requests.len() {
        let Some(request) = requests.get(i) else { continue };
        let limit = OpenPort::queue_limit(eal, request).map_err(missing)?;
        if limit < request.queues {
            tracing::warn!(
                "port {}: the device has {limit} queue pairs, {} workers ask for one each: {} workers stay idle",
                request.name,
                request.queues,
                request.queues - limit
            );
            requests.iter_mut().for_each(|r| r.queues = r.queues.min(limit));
        }
    }
    let mut ports = Vec::new();
    let mut by_worker: Vec<Vec<QueueSeed>> = Vec::new();
    for request in &requests {
        let (port, seeds) = OpenPort::open(eal, request).map_err(missing)?;
        for shortfall in &port.shortfalls {
            tracing::warn!("port {}: {shortfall}", port.name);
        }
        by_worker.resize_with(by_worker.len().max(seeds.len()), Vec::new);
        for (worker, seed) in by_worker.iter_mut().zip(seeds) {
            worker.push(seed);
        }
        ports.push(port);
    }
    Ok((ports, by_worker))
}

fn request(spec: &PortSpec, queues: u16) -> PortRequest {
    PortRequest {
        name: spec.name.value.clone(),
        device: spec.device.value.clone(),
        queues,
        mtu: spec.mtu.as_ref().map(|m| m.value),
        mac: spec.mac.as_ref().map(|m| m.value.bytes()),
        promiscuous: spec.promiscuous,
        descriptors: (spec.rx_descriptors, spec.tx_descriptors),
        mempool_size: spec.mempool_size,
        link_timeout: spec.link_timeout,
    }
}

/// One worker's queues, by port.
struct Queues(Vec<(RxQueue, TxQueue)>);

impl Io for Queues {
    #[inline]
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        if let Some((rx, _)) = self.0.get_mut(port.index()) {
            rx.receive(packets);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        if let Some((_, tx)) = self.0.get_mut(port.index()) {
            tx.transmit(packets);
        }
    }
}

/// A worker's life, on its lcore.
fn work(mut worker: Worker, seeds: Vec<QueueSeed>, clock: Tsc, stop: &AtomicBool) {
    let mut queues = Queues(seeds.into_iter().map(QueueSeed::claim).collect());
    while !stop.load(Ordering::Relaxed) {
        if worker.poll(&mut queues, clock.now()) == 0 {
            std::hint::spin_loop();
        }
    }
}

/// The ports' links, watched for changes.
struct Links<'p> {
    ports: &'p [OpenPort],
    up: Vec<bool>,
    carriers: UnboundedSender<(PortIndex, Carrier)>,
}

impl<'p> Links<'p> {
    fn new(ports: &'p [OpenPort], carriers: UnboundedSender<(PortIndex, Carrier)>) -> Self {
        let mut links = Self { ports, up: vec![true; ports.len()], carriers };
        links.look();
        links
    }

    /// Tells what changed: the log, and the twin of the port.
    fn look(&mut self) {
        let all = self.ports.iter().zip(self.up.iter_mut());
        for (index, (port, was)) in (0..=u8::MAX).map(PortIndex).zip(all) {
            let link = port.link();
            if link.up == *was {
                continue;
            }
            *was = link.up;
            match (link.up, link.speed) {
                (true, Some(speed)) => {
                    tracing::info!("port {}: link up, {speed} Mbit/s", port.name)
                }
                (true, None) => tracing::info!("port {}: link up", port.name),
                (false, _) => tracing::warn!("port {}: link down", port.name),
            }
            let carrier = if link.up { Carrier::Present } else { Carrier::Absent };
            // Without a twin nobody listens.
            let _ = self.carriers.send((index, carrier));
        }
    }
}

/// Waits for the end, watches the links, and shows rates once a second when asked to.
fn watch(
    plan: &Plan,
    cells: &[Arc<Cells>],
    args: &RunArgs,
    links: &mut Links<'_>,
    stop: &AtomicBool,
) {
    let start = Instant::now();
    let end = args.duration.map(Duration::from_secs);
    let counters = || Counters::of(&plan.ledger, &plan.ledger.totals(cells));
    let mut shown = (Instant::now(), counters());
    for turn in 0u64.. {
        if stop.load(Ordering::Relaxed) || end.is_some_and(|end| start.elapsed() >= end) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        if turn % 5 == 0 {
            links.look();
        }
        let elapsed = shown.0.elapsed();
        if args.live && elapsed >= Duration::from_secs(1) {
            let now = counters();
            let unit = Unit::PerSecond(elapsed.as_secs_f64());
            say(&format!("{}\n", tables(&now.since(&shown.1), unit)));
            shown = (Instant::now(), now);
        }
    }
}

/// The summary. An account that does not balance is the machine's failure.
fn sum_up(plan: &Plan, totals: &Totals, elapsed: Duration) -> Outcome {
    let ledger = &plan.ledger;
    say(&format!("ran {:.1} s\n", elapsed.as_secs_f64()));
    say(&tables(&Counters::of(ledger, totals), Unit::Total));
    let side = |s| totals.side(ledger, s);
    say(&format!(
        "received {} + created {} = sent {} + dropped {} + consumed {}\n",
        side(Side::Received),
        side(Side::Created),
        side(Side::Sent),
        side(Side::Dropped),
        side(Side::Consumed)
    ));
    let (balance, lost) = (totals.balance(ledger), unaccounted_packets());
    if balance != 0 || lost != 0 {
        return Err(anyhow!("the account does not balance: {balance} packets missing, {lost} unaccounted; please report this").into());
    }
    Ok(())
}
