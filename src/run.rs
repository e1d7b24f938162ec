//! `nfv run`: opens the ports, pins the workers, watches until it is told to stop, sums up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nfv_core::account::{Side, Totals};
use nfv_core::chain::compile::Plan;
use nfv_core::chain::port::PortSpec;
use nfv_core::clock::Tsc;
use nfv_core::control::nic_rules::NicRules;
use nfv_core::control::periodic::Periodic;
use nfv_core::control::requests::{Control, Load, Reload};
use nfv_core::control::running::{Running, Workers};
use nfv_core::control::tables::{TablePort, Tables};
use nfv_core::control::twin::TwinConfig;
use nfv_core::dpdk::{OpenPort, QueueSeed, ReserveError, unaccounted_packets};
use nfv_core::flow::PortFacts;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::offload::SharedNic;
use nfv_core::worker::{Desk, KernelQueues, Mates, Rest, Seat, Ties, Worker};

use crate::cli::RunArgs;
use crate::config::Config;
use crate::control::{ControlThread, Tasks};
use crate::dataplane::{Opened, Queues, open_ports, start_eal};
use crate::emulated::{Wires, nics, shared_nics};
use crate::failure::Outcome;
use crate::hints::Hints;
use crate::lives::Lives;
use crate::network::RoutedPort;
use crate::offload;
use crate::reload::Reloader;
use crate::say::say;
use crate::stats::{Counters, Unit, tables};

/// Runs the chains until SIGINT, SIGTERM or the duration's end.
pub fn run(eal_options: &[String], args: &RunArgs) -> Outcome {
    let config = Config::read(&args.config)?;
    let (eal, lcores) = start_eal(eal_options, &config.file)?;
    let (file, plan) = config.compile(Purpose::Run, None)?;
    let plan = Arc::new(plan);
    let Opened { ports, queues: seeds, emulated } =
        open_ports(&eal, &file.ports, (lcores.len(), file.workers.idle))?;

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("watching for signals")?;
    }
    let pool = ports.first().map(|p| p.pool).context("the chain file has no port")?;
    let routed = routed_ports(&plan, &file.ports, &ports);
    let kernel = kernel_queues(&routed, ports.len());
    // Before a worker polls: what arrives until then waits in the queues, or is told apart by software.
    let all_nics = shared_nics(&ports, &emulated);
    let rules = Arc::new(NicRules::none(nics(&all_nics, &file.ports, &emulated)));
    rules.change(&plan);
    let ports: Arc<[OpenPort]> = ports.into();
    let workers: Vec<_> = lcores.into_iter().zip(seeds).collect();
    let cells: Vec<_> = workers.iter().map(|_| plan.ledger.cells()).collect();
    let of = u16::try_from(workers.len()).context("too many workers")?;
    let mates = Arc::new(Mates::new(of, file.flows.max)?);
    let _memory = Periodic::memory(mates.clone()).context("starting the memory thread")?;
    let desks: Vec<Arc<Desk>> = workers.iter().map(|_| Arc::default()).collect();
    let (carriers, changes) = tokio::sync::mpsc::unbounded_channel();
    let (tasks, task_changes) = tokio::sync::mpsc::unbounded_channel();
    let clock = Tsc::start();
    // Nothing is received yet, so the tables can be written without anybody waiting.
    let tables = Tables::start(table_ports(&ports, all_nics), &mates, of);
    let all = Workers::with_tables(
        Running::first(plan.clone(), cells.clone()),
        desks.clone(),
        mates.clone(),
        tables,
        clock,
    );
    let _balance = (of > 1).then(|| Periodic::balance(all.clone())).transpose();
    let _balance = _balance.context("starting the balance thread")?;
    let _tags = Periodic::tags(rules.clone()).context("starting the thread that looks at tags")?;
    let hang_up = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, hang_up.clone())
        .context("watching for signals")?;
    let path = args.config.clone();
    let reloader = Reloader { workers: all.clone(), path, file, rules: rules.clone(), tasks };
    let reload = reloader.into_call();
    let control = ControlThread::start(Tasks {
        control: Control {
            workers: all.clone(),
            reload: reload.clone(),
            ports: ports.clone(),
            rules: rules.clone(),
            stop: stop.clone(),
            start: Instant::now(),
        },
        socket: args.control.clone(),
        metrics: args.metrics,
        functions: plan.tasks(),
        changes: task_changes,
        routed: plan.routes.clone().map(|table| (table, routed)),
        carriers: changes,
    })?;
    let mut running = Vec::new();
    for (index, (((lcore, seeds), own), desk)) in
        (0..of).zip(workers.into_iter().zip(&cells).zip(desks))
    {
        let seat = Seat { index, of };
        let (plan, own) = (plan.clone(), own.clone());
        let ties = Ties { kernel: kernel.clone(), desk, mates: mates.clone() };
        let stop = stop.clone();
        // Made on its lcore, so that its memory is near.
        let worker = move || Worker::new(plan, own, pool, seat, ties, clock.now());
        running.push(eal.launch(lcore, move || work(worker(), seeds, clock, &stop))?);
    }
    // Traffic is let in when all is ready for it.
    let wires = Wires::start(emulated)?;
    let start = Instant::now();
    let mut lives = Lives::new(&ports, carriers, |index, port| {
        rules.restore(index);
        all.restore_tables();
        if let Some(table) = &all.now().plan.routes {
            table.set_port(index, PortFacts { mac: port.mac(), mtu: port.mtu });
        }
    });
    let signals = Signals { stop: &stop, hang_up: &hang_up };
    watch(&all, args, &mut lives, signals, &reload);
    let removed = lives.removed().join(", ");
    drop(lives);
    stop.store(true, Ordering::Relaxed);
    for worker in running {
        let lcore = worker.lcore();
        let ended = worker.wait();
        ended.ok_or_else(|| anyhow!("the worker on lcore {} panicked", lcore.index()))??;
    }
    let wire_pools = wires.pools.clone();
    wires.stop()?;
    let told = rules.report();
    rules.end();
    all.leave_tables();
    let control = control.stop();
    kernel.iter().flatten().for_each(|queues| queues.empty());
    let ended = all.now();
    ended.count_lost(mates.empty());
    let (plan, totals) = (&ended.plan, ended.totals());
    let finished = plan.finish();
    // net_af_xdp leaves what is in the kernel's rings there when it is closed.
    let whole = ports.iter().filter(|p| p.driver != "net_af_xdp");
    let pools: Vec<_> = whole.map(|p| (p.name.clone(), p.pool)).chain(wire_pools).collect();
    drop(ports);
    sum_up(plan, &totals, start.elapsed())?;
    say(&offload::table(&told));
    if let Some((port, pool)) = pools.iter().find(|(_, pool)| pool.in_use() > 0) {
        let (used, all) = (pool.in_use(), pool.size());
        return Err(anyhow!(
            "port {port}: {used} of {all} mbufs did not come back; please report this"
        )
        .into());
    }
    finished.map_err(|why| anyhow!(why))?;
    if !removed.is_empty() {
        return Err(anyhow!("removed from the machine while it ran: {removed}").into());
    }
    control
}

/// Tells the forwarding table what the open ports are, and returns the routed ones that have a twin.
fn routed_ports(plan: &Plan, specs: &[PortSpec], ports: &[OpenPort]) -> Vec<RoutedPort> {
    let Some(table) = &plan.routes else { return Vec::new() };
    let mut routed = Vec::new();
    for (index, (spec, port)) in (0..=u8::MAX).map(PortIndex).zip(specs.iter().zip(ports)) {
        table.set_port(index, PortFacts { mac: port.mac(), mtu: port.mtu });
        if let Some(name) = &spec.twin {
            let twin = TwinConfig {
                name: name.value.clone(),
                mac: port.mac(),
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

/// The ports as NICs with tables.
fn table_ports(ports: &[OpenPort], nics: Vec<SharedNic>) -> Vec<TablePort> {
    let of = |(index, (port, nic)): (PortIndex, (&OpenPort, SharedNic))| TablePort {
        port: index,
        name: port.name.clone(),
        ring: port.rx_descriptors,
        nic: Box::new(nic),
    };
    (0..=u8::MAX).map(PortIndex).zip(ports.iter().zip(nics)).map(of).collect()
}

/// A worker's life, on its lcore.
fn work(
    worker: Result<Worker, ReserveError>,
    seeds: Vec<QueueSeed>,
    clock: Tsc,
    stop: &AtomicBool,
) -> Result<(), ReserveError> {
    let mut worker = worker.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
    let mut queues = Queues::claim(seeds);
    let interrupts = queues.interrupts(&worker.bell()).unwrap_or_else(|why| {
        tracing::warn!("a worker pauses when it is idle, it cannot sleep: {why}");
        None
    });
    let mut rest = Rest::new(interrupts, clock);
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        match worker.poll(&mut queues, now) {
            0 => rest.take(&mut worker, &mut queues, now),
            _ => rest.none(),
        }
    }
    drop(rest);
    worker.end(&mut queues, clock.now());
    Ok(())
}

/// What signals have asked for.
#[derive(Clone, Copy)]
struct Signals<'s> {
    stop: &'s AtomicBool,
    hang_up: &'s AtomicBool,
}

/// Waits for the end, watches the links, reloads on SIGHUP, and shows rates once a second when asked to.
fn watch(
    workers: &Workers,
    args: &RunArgs,
    lives: &mut Lives<'_>,
    signals: Signals<'_>,
    reload: &Reload,
) {
    let start = Instant::now();
    let end = args.duration.map(Duration::from_secs);
    let counters = || {
        let running = workers.now();
        Counters::of(&running.plan.ledger, &running.totals())
    };
    let mut hints = Hints::new(lives.ports());
    let mut shown = (Instant::now(), counters());
    for turn in 0u64.. {
        let is_over = signals.stop.load(Ordering::Relaxed);
        if is_over || end.is_some_and(|end| start.elapsed() >= end) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        if signals.hang_up.swap(false, Ordering::Relaxed) {
            workers.now().plan.reopen();
            // It has told the log what came of it.
            let _ = reload(Load::Own);
        }
        if turn % 5 == 0 {
            lives.look(Instant::now());
        }
        if turn % 50 == 49 {
            let running = workers.now();
            hints.look(&running.plan, &running.totals());
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
