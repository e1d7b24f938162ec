//! `nfv bench`: how fast the chains are on this machine, beside the same receive and transmit without a chain.
//!
//! The first port receives the traffic over and over from memory (net_pcap), the others take what is sent and drop it
//! (net_null): no NIC, no wire, and nothing waits for anything. Windows with the chains and windows without are taken by
//! turns, so that what the machine does besides falls on both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use nfv_core::account::{CellId, Cells, Counter, Ledger, Side};
use nfv_core::chain::compile::Plan;
use nfv_core::chain::port::PortSpec;
use nfv_core::clock::Tsc;
use nfv_core::dpdk::{Packets, ReserveError, cycles, cycles_per_second};
use nfv_core::flow::PortFacts;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::worker::{Io, Mates, Seat, Ties, Worker};
use serde::Serialize;

use crate::cli::BenchArgs;
use crate::config::Config;
use crate::dataplane::{Queues, open_ports, start_eal};
use crate::failure::Outcome;
use crate::say::say;

/// Runs the bench and prints what it measured.
pub fn bench(eal_options: &[String], args: &BenchArgs) -> Outcome {
    let mut config = Config::read(&args.config)?;
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
    let (ports, seeds) = open_ports(&eal, &file.ports, lcores.len())?;
    if let Some(table) = &plan.routes {
        for (index, port) in (0..=u8::MAX).map(PortIndex).zip(&ports) {
            let mac = if index.index() == 0 { MAC } else { port.mac };
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
    let (latencies, taken) = std::sync::mpsc::channel();
    let mates = Arc::new(Mates::new(of, file.flows.max)?);
    for (index, (lcore, seeds)) in (0..of).zip(lcores.into_iter().zip(seeds)) {
        let ties = Ties { kernel: Vec::new(), desk: Arc::default(), mates: mates.clone() };
        let (own, own_bare) = (plan.ledger.cells(), ledger.cells());
        cells.push(own.clone());
        bare_cells.push(own_bare.clone());
        let (plan, phase, latencies) = (plan.clone(), phase.clone(), latencies.clone());
        let body = move || -> Result<(), ReserveError> {
            let seat = Seat { index, of };
            let bench = Bench {
                worker: Worker::new(plan, own, pool, seat, ties, clock.now())?,
                io: Sampled::new(Queues::claim(seeds)),
                bare: (own_bare, bare),
            };
            let _ = latencies.send(bench.work(&phase, clock));
            Ok(())
        };
        running.push(eal.launch(lcore, body)?);
    }
    drop(latencies);
    let window = Duration::from_secs_f64(args.seconds / (2 * WINDOWS) as f64);
    let mut windows = Windows::default();
    for _ in 0..WINDOWS {
        let chain = || Sample::of(&plan, &plan.ledger.totals(&cells));
        windows.chain.push(measure(&phase, CHAIN, window, chain));
        let alone =
            || Sample { offered: ledger.totals(&bare_cells).get(bare), ..Sample::default() };
        windows.bare.push(measure(&phase, BARE, window, alone));
    }
    phase.store(END, Ordering::Relaxed);
    let mut latency = new_histogram();
    for own in taken {
        latency.add(own).map_err(|why| anyhow!("adding up latencies: {why}"))?;
    }
    for worker in running {
        worker.wait().ok_or_else(|| anyhow!("a worker panicked"))??;
    }
    let totals = plan.ledger.totals(&cells);
    let _ = plan.finish();
    drop(ports);
    if totals.balance(&plan.ledger) != 0 {
        return Err(anyhow!("the account does not balance; please report this").into());
    }
    let result = windows.result(usize::from(of), Sample::of(&plan, &totals), &latency);
    if args.json {
        say(&(serde_json::to_string_pretty(&result)? + "\n"));
    } else {
        say(&result.table());
    }
    Ok(())
}

/// The first port receives the capture, by as many queues as there are workers; the others send to nobody.
fn replace_devices(ports: &mut [PortSpec], capture: &str, packets: u32, workers: usize) {
    for (i, port) in ports.iter_mut().enumerate() {
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
}

impl Bench {
    /// Polls as the phase says, until the end; returns the latencies.
    fn work(mut self, phase: &AtomicU32, clock: Tsc) -> Histogram<u64> {
        let mut packets = Packets::new();
        loop {
            match phase.load(Ordering::Relaxed) {
                CHAIN => {
                    self.io.polls = self.io.polls.wrapping_add(1);
                    self.worker.poll(&mut self.io, clock.now());
                }
                BARE => {
                    for port in (0..self.io.queues.len()).filter_map(|p| u8::try_from(p).ok()) {
                        self.io.queues.receive(PortIndex(port), &mut packets);
                        if packets.is_empty() {
                            continue;
                        }
                        let (cells, id) = &self.bare;
                        cells.add(*id, packets.len() as u64);
                        let last = self.io.queues.len().saturating_sub(1);
                        let to = PortIndex(u8::try_from(last).unwrap_or(0));
                        while !packets.is_empty() {
                            self.io.queues.transmit(to, &mut packets);
                        }
                    }
                }
                END => {
                    self.worker.end();
                    return self.io.latency;
                }
                _ => std::hint::spin_loop(),
            }
        }
    }
}

/// Queues that take the time of one burst in 64, from receive to transmit.
struct Sampled {
    queues: Queues,
    polls: u32,
    received: Option<u64>,
    latency: Histogram<u64>,
}

impl Sampled {
    fn new(queues: Queues) -> Self {
        Self { queues, polls: 0, received: None, latency: new_histogram() }
    }
}

impl Io for Sampled {
    #[inline]
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        self.queues.receive(port, packets);
        if self.polls.is_multiple_of(64) {
            self.received = if packets.is_empty() { None } else { Some(cycles()) };
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        self.queues.transmit(port, packets);
        if let Some(received) = self.received.take() {
            self.latency.saturating_record(cycles().wrapping_sub(received));
        }
    }
}

/// Cycles up to a second or so, three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 36, 3).expect("the bounds are in order")
}

/// Packets in a window, or up to a time.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    offered: u64,
    sent: u64,
    sent_bytes: u64,
    seconds: f64,
}

impl Sample {
    fn of(plan: &Plan, totals: &nfv_core::account::Totals) -> Self {
        let sum = |metric| {
            totals.iter(&plan.ledger).filter(|(c, _)| c.metric == metric).map(|(_, v)| v).sum()
        };
        Self {
            offered: sum("received_packets"),
            sent: sum("sent_packets"),
            sent_bytes: sum("sent_bytes"),
            seconds: 0.0,
        }
    }

    fn rate(self) -> f64 {
        self.offered as f64 / self.seconds
    }
}

/// Puts the workers into a phase, lets them warm up, and counts for a window.
fn measure(phase: &AtomicU32, which: u32, window: Duration, count: impl Fn() -> Sample) -> Sample {
    phase.store(which, Ordering::Relaxed);
    std::thread::sleep(window / 10);
    let (before, start) = (count(), Instant::now());
    std::thread::sleep(window);
    let (after, seconds) = (count(), start.elapsed().as_secs_f64());
    Sample {
        offered: after.offered - before.offered,
        sent: after.sent - before.sent,
        sent_bytes: after.sent_bytes - before.sent_bytes,
        seconds,
    }
}

#[derive(Debug, Default)]
struct Windows {
    chain: Vec<Sample>,
    bare: Vec<Sample>,
}

impl Windows {
    /// `all`: what was counted from start to end, when no packet was under way any more.
    fn result(&self, workers: usize, all: Sample, latency: &Histogram<u64>) -> Measured {
        let bytes: u64 = self.chain.iter().map(|s| s.sent_bytes).sum();
        let seconds: f64 = self.chain.iter().map(|s| s.seconds).sum();
        let sent = median(self.chain.iter().map(|s| s.sent as f64 / s.seconds));
        let took = median(self.chain.iter().map(|s| 1.0 / s.rate()));
        let ceiling = median(self.bare.iter().map(|s| s.rate()));
        let nanos = |cycles: u64| cycles as f64 * 1e9 / cycles_per_second() as f64;
        let at = |q| nanos(latency.value_at_quantile(q)).round() as u64;
        let clocks = workers as f64 * cycles_per_second() as f64;
        Measured {
            mpps: round(sent / 1e6),
            gbps: round(bytes as f64 * 8.0 / seconds / 1e9),
            ns_per_packet: round(took * 1e9),
            clocks_per_packet: round(took * clocks),
            clocks_above_ceiling: round((took - 1.0 / ceiling) * clocks),
            offered_packets: all.offered,
            lost_packets: all.offered.saturating_sub(all.sent),
            ceiling_mpps: round(ceiling / 1e6),
            workers,
            latency_ns: Latency {
                p50: at(0.5),
                p99: at(0.99),
                p999: at(0.999),
                max: nanos(latency.max()).round() as u64,
            },
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(n: f64) -> f64 {
    (n * 1000.0).round() / 1000.0
}

/// What a bench measured.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    /// Million packets sent a second, by all workers; the median of the windows.
    mpps: f64,
    /// Of the frames without checksum, preamble and gap.
    gbps: f64,
    /// Of a packet received, whether it is sent or not.
    ns_per_packet: f64,
    /// Of all workers' cores, by the time-stamp counter.
    clocks_per_packet: f64,
    /// Beside the same receive and transmit without a chain.
    clocks_above_ceiling: f64,
    offered_packets: u64,
    lost_packets: u64,
    /// The same without a chain, in the same run.
    ceiling_mpps: f64,
    workers: usize,
    latency_ns: Latency,
}

/// Of a burst, from receive to transmit.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Measured {
    fn table(&self) -> String {
        let Latency { p50, p99, p999, max } = self.latency_ns;
        let lost = 100.0 * self.lost_packets as f64 / self.offered_packets.max(1) as f64;
        let hint = if self.lost_packets == self.offered_packets {
            "no packet was sent: the chains drop this traffic; see `nfv replay --explain`, and --traffic\n"
        } else {
            ""
        };
        format!(
            "sent         {:.2} Mpps, {:.2} Gbit/s by {} workers\n\
             a packet     {:.2} ns, {:.0} clocks, {:.0} of them above the ceiling\n\
             ceiling      {:.2} Mpps: the same without a chain\n\
             not sent     {} of {} ({lost:.2} %)\n\
             a burst      p50 {p50} ns, p99 {p99} ns, p999 {p999} ns, max {max} ns\n{hint}",
            self.mpps,
            self.gbps,
            self.workers,
            self.ns_per_packet,
            self.clocks_per_packet,
            self.clocks_above_ceiling,
            self.ceiling_mpps,
            self.lost_packets,
            self.offered_packets,
        )
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
