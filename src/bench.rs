//! `nfv bench`: how fast the chains are on this machine, beside the same receive and transmit without a chain.
//!
//! The first port receives the traffic over and over from memory (net_pcap), the others take what is sent and drop it
//! (net_null): no NIC, no wire, and nothing waits for anything. Windows with the chains and windows without are taken by
//! turns, so that what the machine does besides falls on both.
//!
//! Where the first port is an emulated NIC, a thread on the main lcore's CPU feeds that NIC, which carries out its rules there;
//! windows in which it has none are taken by turns with the others.
//!
//! With more flows than a capture holds, the flow is written into each packet as it is received, in both kinds of window;
//! and windows of a third kind, with neither chains nor writing, tell what that costs.

mod hosts;
mod measured;
mod sender;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use nfv_core::account::{CellId, Cells, Counter, Ledger, Side};
use nfv_core::chain::port::PortSpec;
use nfv_core::chain::spec::Idle;
use nfv_core::clock::Tsc;
use nfv_core::control::nic_rules::NicRules;
use nfv_core::control::periodic::Periodic;
use nfv_core::control::running::Running;
use nfv_core::dpdk::{Packets, ReserveError, cycles};
use nfv_core::flow::PortFacts;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::worker::{Io, Mates, Seat, Ties, Worker};

use self::hosts::Hosts;
use self::measured::{Meter, Sample, Windows};
use self::sender::{Send, Sender, frames};
use crate::cli::BenchArgs;
use crate::config::Config;
use crate::dataplane::{Opened, Queues, open_ports, start_eal};
use crate::emulated::{emulated, nics, shared_nics};
use crate::failure::{Failure, Outcome};
use crate::say::say;
use crate::traffic::{Template, Writer};

/// Runs the bench and prints what it measured.
pub fn bench(eal_options: &[String], args: &BenchArgs) -> Outcome {
    if args.established && args.traffic.opening(MAC, 0)?.is_none() {
        let why =
            "--established wants flows that are known: not those of a capture, and not `flows=new`";
        return Err(Failure::User(format!("nfv: {why}")));
    }
    let mut config = Config::read(&args.config)?;
    let is_emulated = config.file.ports.first().is_some_and(|port| emulated(port).is_some());
    if is_emulated && (args.traffic.is_written() || args.established) {
        let why =
            "an emulated NIC is fed from a capture: no --established, no order=random or flows=new";
        return Err(Failure::User(format!("nfv: {why}")));
    }
    if args.attack.is_some() && !is_emulated {
        let why = "--attack wants a chain file whose first port is an emulated NIC";
        return Err(Failure::User(format!("nfv: {why}")));
    }
    let folder = tempfile::tempdir().context("making a folder for the traffic")?;
    let mut options = eal_options.to_vec();
    if options.is_empty() {
        options = ["-l", "0,1", "--no-pci"].map(str::to_owned).into();
    }
    let (capture, packets) = args.traffic.capture(folder.path(), MAC)?;
    let (eal, lcores) = {
        // The devices are known when the workers are.
        replace_devices(&mut config.file.ports, &capture.display().to_string(), packets, 1);
        start_eal(&options, &config.file)?
    };
    replace_devices(&mut config.file.ports, &capture.display().to_string(), packets, lcores.len());
    let (file, plan) = config.compile(Purpose::Run, None)?;
    let plan = Arc::new(plan);
    let Opened { ports, queues: seeds, emulated } =
        open_ports(&eal, &file.ports, (lcores.len(), Idle::Poll))?;
    let shared = shared_nics(&ports, &emulated);
    let rules = NicRules::none(nics(&shared, &file.ports, &emulated));
    rules.change(&plan);
    let sender = emulated.into_iter().find(|nic| nic.port == PortIndex(0)).zip(ports.first());
    let sender = sender
        .map(|(nic, port)| {
            let attack = args.attack.as_ref().map_or(Ok(Vec::new()), |attack| {
                let made = tempfile::tempdir().context("making a folder for the attack")?;
                frames(&attack.capture(made.path(), MAC)?.0)
            })?;
            Sender::start(nic.side, port.pool, frames(&capture)?, attack)
        })
        .transpose()?;
    if let Some(table) = &plan.routes {
        for (index, port) in (0..=u8::MAX).map(PortIndex).zip(&ports) {
            let mac = if index.index() == 0 { MAC } else { port.mac() };
            table.set_port(index, PortFacts { mac, mtu: port.mtu });
        }
    }
    let pool = ports.first().map(|p| p.pool).context("the chain file has no port")?;
    let mut ledger = Ledger::default();
    let bare = ledger.add(Counter {
        metric: "bare_packets",
        help: "packets received and sent without a chain",
        labels: Vec::new(),
        side: Side::Aside,
    });
    let phase = Arc::new(AtomicU32::new(IDLE));
    let (mut running, mut cells, mut bare_cells) = (Vec::new(), Vec::new(), Vec::new());
    let of = u16::try_from(lcores.len().min(seeds.len())).context("too many workers")?;
    let clock = Tsc::start();
    let busy: Arc<[AtomicU64]> = (0..of).map(|_| AtomicU64::new(0)).collect();
    let (latencies, taken) = std::sync::mpsc::channel();
    let opened: Arc<[AtomicU64]> = (0..of).map(|_| AtomicU64::new(0)).collect();
    let mut known = 0;
    let mates = Arc::new(Mates::new(of, file.flows.max)?);
    let _memory = Periodic::memory(mates.clone()).context("starting the memory thread")?;
    let meter = args.attack.as_ref().map(|_| Arc::new(Meter::default()));
    let ready = Arc::new(Barrier::new(usize::from(of) + 1));
    for (index, (lcore, seeds)) in (0..of).zip(lcores.into_iter().zip(seeds)) {
        let ties = Ties { kernel: Vec::new(), desk: Arc::default(), mates: mates.clone() };
        let (own, own_bare) = (plan.ledger.cells(), ledger.cells());
        cells.push(own.clone());
        bare_cells.push(own_bare.clone());
        let (plan, phase, busy) = (plan.clone(), phase.clone(), busy.clone());
        let (latencies, opened) = (latencies.clone(), opened.clone());
        let writer = args.traffic.writer(MAC, index, of)?;
        let opening = if args.established { args.traffic.opening(MAC, index)? } else { None };
        known += opening.as_ref().map_or(0, |(_, flows)| flows.end - flows.start);
        let (ready, meter) = (ready.clone(), meter.clone());
        let body = move || -> Result<(), ReserveError> {
            let seat = Seat { index, of };
            let worker = Worker::new(plan, own, pool, seat, ties, clock.now());
            ready.wait();
            let bench = Bench {
                worker: worker?,
                io: Sampled::new(Source { queues: Queues::claim(seeds), writer }),
                bare: (own_bare, bare),
                opening,
                opened,
                busy,
                meter,
                index,
            };
            let _ = latencies.send(bench.work(&phase, clock));
            Ok(())
        };
        running.push(eal.launch(lcore, body)?);
    }
    drop(latencies);
    // What is there before the first flow is no flow's.
    ready.wait();
    mates.make_memory_ready();
    let opened = if args.established {
        if args.step {
            wait_for_line("flows are about to be opened")?;
        }
        phase.store(OPEN, Ordering::Relaxed);
        let opened = wait_for_flows(&opened, known);
        if args.step {
            wait_for_line(&format!("{opened} flows are open"))?;
        }
        Some(opened)
    } else {
        None
    };
    if args.traffic.is_new_flows() {
        // Until flows end as fast as they begin.
        let lives = file.flows.idle.udp_unreplied.min(SETTLE_MAX);
        phase.store(CHAIN, Ordering::Relaxed);
        std::thread::sleep(lives * 2);
    }
    let writes = args.traffic.is_written();
    let kinds = match (writes, sender.is_some(), args.attack.is_some()) {
        (true, ..) => 3,
        (_, false, _) => 2,
        (_, true, false) => 3,
        (_, true, true) => 6,
    };
    let window = Duration::from_secs_f64(args.seconds / f64::from(kinds * WINDOWS));
    let mut windows = Windows::default();
    let send = |what| {
        if let Some(sender) = &sender {
            sender.orders().set(what);
        }
    };
    let waited = || sender.as_ref().map_or(0.0, |sender| sender.orders().waited());
    for _ in 0..WINDOWS {
        let metered = || meter.as_ref().map_or((0, 0), |meter| meter.read());
        let chain =
            || Sample { metered: metered(), ..Sample::of(&plan, &plan.ledger.totals(&cells)) };
        if sender.is_some() {
            let [told, untold] = &mut windows.waited;
            send(Send::AllUntold);
            windows.untold.push(measure(&phase, CHAIN, window, &busy, chain));
            untold.push(waited());
            let paced = [Send::Good, Send::Attack, Send::AttackUntold];
            for (what, all) in
                paced.into_iter().zip(&mut windows.paced).filter(|_| args.attack.is_some())
            {
                send(what);
                all.push(measure(&phase, CHAIN, window, &busy, chain));
            }
            send(Send::All);
            waited();
            windows.chain.push(measure(&phase, CHAIN, window, &busy, chain));
            told.push(waited());
            send(Send::AllUntold);
        } else {
            windows.chain.push(measure(&phase, CHAIN, window, &busy, chain));
        }
        let alone =
            || Sample { offered: ledger.totals(&bare_cells).get(bare), ..Sample::default() };
        windows.bare.push(measure(&phase, BARE, window, &busy, alone));
        if writes {
            windows.unwritten.push(measure(&phase, UNWRITTEN, window, &busy, alone));
        }
    }
    // What a worker handed over is to come to its end, too.
    send(Send::Nothing);
    phase.store(DRAIN, Ordering::Relaxed);
    std::thread::sleep(DRAIN_TIME);
    phase.store(END, Ordering::Relaxed);
    let mut latency = new_histogram();
    for own in taken {
        latency.add(own).map_err(|why| anyhow!("adding up latencies: {why}"))?;
    }
    for worker in running {
        worker.wait().ok_or_else(|| anyhow!("a worker panicked"))??;
    }
    // What was under way between workers when the last one ended.
    Running::first(plan.clone(), cells.clone()).count_lost(mates.empty());
    if let Some(sender) = sender {
        sender.end()?;
    }
    rules.end();
    let totals = plan.ledger.totals(&cells);
    let _ = plan.finish();
    drop(ports);
    if totals.balance(&plan.ledger) != 0 {
        return Err(anyhow!("the account does not balance; please report this").into());
    }
    let result = windows.result(usize::from(of), Sample::of(&plan, &totals), opened, &latency);
    if args.json {
        say(&(serde_json::to_string_pretty(&result)? + "\n"));
    } else {
        say(&result.table());
    }
    Ok(())
}

/// Waits until so many flows are open, or no more of them are opened: the chains drop the rest. Returns how many are.
fn wait_for_flows(opened: &[AtomicU64], known: u64) -> u64 {
    let count = || opened.iter().map(|o| o.load(Ordering::Relaxed)).sum::<u64>();
    let (mut seen, mut since) = (0, Instant::now());
    while seen < known && since.elapsed() < OPENING_STALLS {
        std::thread::sleep(Duration::from_millis(10));
        let now = count();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// Lets whoever started the bench look at the process from outside.
fn wait_for_line(what: &str) -> anyhow::Result<()> {
    eprintln!("nfv: process {}: {what}; press Enter to go on", std::process::id());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("waiting for a line on stdin")?;
    Ok(())
}

/// The first port receives the capture, by as many queues as there are workers; the others send to nobody.
fn replace_devices(ports: &mut [PortSpec], capture: &str, packets: u32, workers: usize) {
    for (i, port) in ports.iter_mut().enumerate() {
        if let Some(device) = emulated(port).filter(|_| i == 0) {
            // It has no wire here.
            port.device.value = device.unwired();
            continue;
        }
        port.device.value = if i == 0 {
            let queues = format!(",rx_pcap={capture}").repeat(workers);
            format!("net_pcap{i}{queues},infinite_rx=1")
        } else {
            format!("net_null{i},no-rx=1")
        };
        // net_pcap holds the capture in mbufs, for each queue, and as much again.
        let queues = u32::try_from(workers).unwrap_or(u32::MAX);
        let held = packets.saturating_mul(2 * queues).saturating_add(8192 * queues);
        port.mempool_size = (i == 0).then(|| held.next_power_of_two() - 1);
        (port.mac, port.rx_descriptors, port.tx_descriptors) = (None, None, None);
    }
}

/// A worker of a bench.
struct Bench {
    worker: Worker,
    io: Sampled,
    bare: (Arc<Cells>, CellId),
    /// What opens its flows, and their numbers.
    opening: Option<(Template, Range<u64>)>,
    /// Flows that each worker saw opened.
    opened: Arc<[AtomicU64]>,
    /// Nanoseconds for which each worker had a CPU.
    busy: Arc<[AtomicU64]>,
    meter: Option<Arc<Meter>>,
    index: u16,
}

impl Bench {
    /// Polls as the phase says, until the end; returns the latencies.
    fn work(mut self, phase: &AtomicU32, clock: Tsc) -> Histogram<u64> {
        let mut packets = Packets::new();
        for turn in 0u64.. {
            if turn.is_multiple_of(TURNS_TO_TELL) {
                self.tell_busy();
            }
            match phase.load(Ordering::Relaxed) {
                CHAIN => {
                    self.io.polls = self.io.polls.wrapping_add(1);
                    self.round(clock);
                }
                OPEN => {
                    if let Some((template, flows)) = self.opening.take() {
                        self.open(template, flows, phase, clock);
                    }
                }
                DRAIN => {
                    self.worker.poll(&mut Quiet(&mut self.io.source), clock.now());
                }
                which @ (BARE | UNWRITTEN) => {
                    for port in (0..self.io.source.len()).filter_map(|p| u8::try_from(p).ok()) {
                        if which == BARE {
                            self.io.source.receive(PortIndex(port), &mut packets);
                        } else {
                            self.io.source.queues.receive(PortIndex(port), &mut packets);
                        }
                        if packets.is_empty() {
                            continue;
                        }
                        let (cells, id) = &self.bare;
                        cells.add(*id, packets.len() as u64);
                        let last = self.io.source.len().saturating_sub(1);
                        let to = PortIndex(u8::try_from(last).unwrap_or(0));
                        while !packets.is_empty() {
                            self.io.source.transmit(to, &mut packets);
                        }
                    }
                }
                END => break,
                _ => std::hint::spin_loop(),
            }
        }
        self.worker.end(&mut self.io, clock.now());
        self.io.latency
    }

    /// Looks at each port once.
    #[inline]
    fn round(&mut self, clock: Tsc) {
        let Some(meter) = &self.meter else {
            self.worker.poll(&mut self.io, clock.now());
            return;
        };
        let (start, sent) = (cycles(), self.io.sent);
        if self.worker.poll(&mut self.io, clock.now()) > 0 {
            meter.add(cycles().wrapping_sub(start), self.io.sent - sent);
        }
    }

    /// Says for how long it has had a CPU.
    fn tell_busy(&self) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let nanos = Duration::try_from(time).unwrap_or_default().as_nanos();
        if let Some(busy) = self.busy.get(usize::from(self.index)) {
            busy.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Opens flows one burst after another, as long as the phase lasts: other workers may have some of their packets.
    fn open(&mut self, template: Template, flows: Range<u64>, phase: &AtomicU32, clock: Tsc) {
        let ports = self.io.source.len();
        let mut hosts = Hosts::new(&mut self.io.source.queues, ports, template, flows);
        while phase.load(Ordering::Relaxed) == OPEN {
            self.worker.poll(&mut hosts, clock.now());
            if let Some(opened) = self.opened.get(usize::from(self.index)) {
                opened.store(hosts.opened(), Ordering::Relaxed);
            }
        }
        hosts.leave();
    }
}

/// Queues that nothing is received from.
struct Quiet<'q>(&'q mut Source);

impl Io for Quiet<'_> {
    fn receive(&mut self, _: PortIndex, _: &mut Packets) {}

    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        self.0.transmit(port, packets);
    }
}

/// Queues, and who writes flows into what the first port receives.
struct Source {
    queues: Queues,
    writer: Option<Writer>,
}

impl Source {
    fn len(&self) -> usize {
        self.queues.len()
    }
}

impl Io for Source {
    #[inline]
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        self.queues.receive(port, packets);
        if let Some(writer) = self.writer.as_mut().filter(|_| port.index() == 0) {
            writer.write(packets);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        self.queues.transmit(port, packets);
    }
}

/// Queues that take the time of one burst in 64, from receive to transmit.
struct Sampled {
    source: Source,
    /// Packets that were sent.
    sent: u64,
    polls: u32,
    received: Option<u64>,
    latency: Histogram<u64>,
}

impl Sampled {
    fn new(source: Source) -> Self {
        Self { source, sent: 0, polls: 0, received: None, latency: new_histogram() }
    }
}

impl Io for Sampled {
    #[inline]
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        self.source.receive(port, packets);
        if self.polls.is_multiple_of(64) {
            self.received = if packets.is_empty() { None } else { Some(cycles()) };
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        let count = packets.len();
        self.source.transmit(port, packets);
        self.sent += (count - packets.len()) as u64;
        if let Some(received) = self.received.take() {
            self.latency.saturating_record(cycles().wrapping_sub(received));
        }
    }
}

/// Cycles up to a second or so, three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 36, 3).expect("the bounds are in order")
}

/// Puts the workers into a phase, lets them warm up, and counts for a window.
///
/// Its seconds are those for which the workers had their CPUs: on a machine that does nothing else, all of them.
fn measure(
    phase: &AtomicU32,
    which: u32,
    window: Duration,
    busy: &[AtomicU64],
    count: impl Fn() -> Sample,
) -> Sample {
    let had = || busy.iter().map(|b| b.load(Ordering::Relaxed)).sum::<u64>();
    phase.store(which, Ordering::Relaxed);
    std::thread::sleep(window / 10);
    let (before, had_before, start) = (count(), had(), Instant::now());
    std::thread::sleep(window);
    let (after, had_after, wall) = (count(), had(), start.elapsed().as_secs_f64());
    let seconds = had_after.saturating_sub(had_before) as f64 / 1e9 / busy.len().max(1) as f64;
    Sample {
        offered: after.offered - before.offered,
        sent: after.sent - before.sent,
        sent_bytes: after.sent_bytes - before.sent_bytes,
        begun: after.begun - before.begun,
        ended: after.ended - before.ended,
        metered: (after.metered.0 - before.metered.0, after.metered.1 - before.metered.1),
        evicted: after.evicted - before.evicted,
        wall,
        seconds,
    }
}

/// Of each kind.
const WINDOWS: u32 = 5;
/// Whom made traffic is to: the first port.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];
const IDLE: u32 = 0;
const CHAIN: u32 = 1;
const BARE: u32 = 2;
const END: u32 = 3;
const OPEN: u32 = 4;
const UNWRITTEN: u32 = 5;
const DRAIN: u32 = 6;
/// For as long packets may be between two workers.
const DRAIN_TIME: Duration = Duration::from_millis(50);
/// After so long without another open flow no more are waited for.
const OPENING_STALLS: Duration = Duration::from_secs(1);
/// Loops after which a worker says for how long it has had its CPU: a fraction of a millisecond, for a call of 200 ns.
const TURNS_TO_TELL: u64 = 128;
/// Longest life of a flow for whose end a bench waits.
const SETTLE_MAX: Duration = Duration::from_secs(10);
