//! What a bench measured: from samples of the counters to what is printed.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use nfv_core::account::Totals;
use nfv_core::chain::compile::Plan;
use nfv_core::dpdk::cycles_per_second;
use serde::Serialize;

/// Packets in a window, or up to a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Packets received.
    pub offered: u64,
    /// Packets sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Flows that began.
    pub begun: u64,
    /// Flows that ended.
    pub ended: u64,
    /// Flows that ended to make room.
    pub evicted: u64,
    /// Clocks of rounds that sent packets, and how many these were: as [`Meter`] has them.
    pub metered: (u64, u64),
    /// How long it was.
    pub wall: f64,
    /// For how long each worker had its CPU.
    pub seconds: f64,
}

impl Sample {
    /// The counters as they stand.
    pub fn of(plan: &Plan, totals: &Totals) -> Self {
        let sum = |metric| {
            totals.iter(&plan.ledger).filter(|(c, _)| c.metric == metric).map(|(_, v)| v).sum()
        };
        Self {
            offered: sum("received_packets"),
            sent: sum("sent_packets"),
            sent_bytes: sum("sent_bytes"),
            begun: sum("begun_flows"),
            ended: sum("ended_flows"),
            evicted: sum("evicted_flows"),
            metered: (0, 0),
            wall: 0.0,
            seconds: 0.0,
        }
    }

    fn rate(self) -> f64 {
        self.offered as f64 / self.seconds
    }
}

/// What workers spend on packets, told apart from the time in which they did not have their CPUs.
#[derive(Debug, Default)]
pub struct Meter {
    clocks: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    /// Counts a round in which packets came, and of which so many were sent. One that took far too long is left out: the
    /// worker did not have its CPU.
    pub fn add(&self, clocks: u64, sent: u64) {
        if clocks < ROUND_MAX {
            self.clocks.fetch_add(clocks, Ordering::Relaxed);
            self.sent.fetch_add(sent, Ordering::Relaxed);
        }
    }

    /// What has been counted.
    pub fn read(&self) -> (u64, u64) {
        (self.clocks.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

/// Clocks: some twenty microseconds, many times what a burst takes.
const ROUND_MAX: u64 = 60_000;

/// The samples of a bench, by kind of window.
#[derive(Debug, Default)]
pub struct Windows {
    /// With the chains.
    pub chain: Vec<Sample>,
    /// Without.
    pub bare: Vec<Sample>,
    /// Without, and without flows being written into packets, where they are.
    pub unwritten: Vec<Sample>,
    /// With the chains, and without the rules of the NIC.
    pub untold: Vec<Sample>,
    /// At a fixed rate: the traffic alone, with an attack, with an attack and without the rules.
    pub paced: [Vec<Sample>; 3],
    /// By window with the chains, the part of the sender's bursts that had to wait; with the rules, and without.
    pub waited: [Vec<f64>; 2],
}

impl Windows {
    /// `all`: what was counted from start to end, when no packet was under way any more.
    /// `opened`: flows that were opened before.
    pub fn result(
        &self,
        workers: usize,
        all: Sample,
        opened: Option<u64>,
        latency: &Histogram<u64>,
    ) -> Measured {
        let sum = |of: fn(&Sample) -> u64| self.chain.iter().map(of).sum::<u64>();
        let bytes = sum(|s| s.sent_bytes);
        let seconds: f64 = self.chain.iter().map(|s| s.seconds).sum();
        let sent = median(self.chain.iter().map(|s| s.sent as f64 / s.seconds));
        let took = median(self.chain.iter().map(|s| 1.0 / s.rate()));
        let ceiling = median(self.bare.iter().map(|s| s.rate()));
        let writing = match self.unwritten.is_empty() {
            true => 0.0,
            false => {
                (1.0 / ceiling - median(self.unwritten.iter().map(|s| 1.0 / s.rate()))).max(0.0)
            }
        };
        let nanos = |cycles: u64| cycles as f64 * 1e9 / cycles_per_second() as f64;
        let at = |q| nanos(latency.value_at_quantile(q)).round() as u64;
        let clocks = workers as f64 * cycles_per_second() as f64;
        Measured {
            mpps: round(sent / 1e6),
            gbps: round(bytes as f64 * 8.0 / seconds / 1e9),
            ns_per_packet: round((took - writing) * 1e9),
            clocks_per_packet: round((took - writing) * clocks),
            clocks_above_ceiling: round((took - 1.0 / ceiling) * clocks),
            offered_packets: all.offered,
            lost_packets: all.offered.saturating_sub(all.sent),
            ceiling_mpps: round(ceiling / 1e6),
            writing_ns: round(writing * 1e9),
            workers,
            cpu_share: round(seconds / self.chain.iter().map(|s| s.wall).sum::<f64>()),
            latency_ns: Latency {
                p50: at(0.5),
                p99: at(0.99),
                p999: at(0.999),
                max: nanos(latency.max()).round() as u64,
            },
            offload: self.offload(),
            flows: FlowRates {
                opened,
                begun_per_second: (sum(|s| s.begun) as f64 / seconds).round(),
                ended_per_second: (sum(|s| s.ended) as f64 / seconds).round(),
                evicted: sum(|s| s.evicted),
            },
        }
    }
}

impl Windows {
    fn offload(&self) -> Option<Offloaded> {
        if self.untold.is_empty() {
            return None;
        }
        let rate = |all: &[Sample]| median(all.iter().map(|s| s.rate())) / 1e6;
        let (tagged, untagged) = (rate(&self.chain), rate(&self.untold));
        let waited = |all: &[f64]| round(median(all.iter().copied()));
        let [good, attack, untold] = &self.paced;
        // Of the traffic: the attack is not sent on.
        let busy = |all: &[Sample]| {
            let each = all.iter().map(|s| s.metered.0 as f64 / s.metered.1.max(1) as f64);
            let clocks = median(each);
            (!all.is_empty()).then(|| round(clocks * 1e9 / cycles_per_second() as f64))
        };
        let [told, without] = &self.waited;
        Some(Offloaded {
            mpps: round(tagged),
            mpps_without: round(untagged),
            ratio: round(tagged / untagged),
            sender_waited: waited(told),
            sender_waited_without: waited(without),
            good_busy_ns: busy(good),
            attack_busy_ns: busy(attack),
            attack_busy_ns_without: busy(untold),
        })
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

/// What a bench measured. A second is one for which each worker had its CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Million packets sent a second, by all workers; the median of the windows.
    mpps: f64,
    /// Of the frames without checksum, preamble and gap.
    gbps: f64,
    /// Of a packet received, whether it is sent or not; without `writing_ns`.
    ns_per_packet: f64,
    /// Of all workers' cores, by the time-stamp counter.
    clocks_per_packet: f64,
    /// Beside the same receive and transmit without a chain.
    clocks_above_ceiling: f64,
    offered_packets: u64,
    lost_packets: u64,
    /// The same without a chain, in the same run.
    ceiling_mpps: f64,
    /// What it costs to write the flow into a packet, which `mpps` and `ceiling_mpps` have in them.
    writing_ns: f64,
    workers: usize,
    /// The part of the time for which the workers had their CPUs: 1, if nothing else ran there.
    cpu_share: f64,
    latency_ns: Latency,
    /// Where the first port is an emulated NIC.
    offload: Option<Offloaded>,
    flows: FlowRates,
}

/// What the rules of an emulated NIC spare the workers. Packets are received, whether they are sent or not.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Offloaded {
    mpps: f64,
    /// The same traffic in the same run, through a NIC without rules.
    mpps_without: f64,
    ratio: f64,
    /// The part of the sender's bursts for which the workers had no room yet: they were what was measured.
    sender_waited: f64,
    sender_waited_without: f64,
    /// With `--attack`: for how long workers had packets, for each of the traffic, at a fixed rate of it.
    good_busy_ns: Option<f64>,
    attack_busy_ns: Option<f64>,
    attack_busy_ns_without: Option<f64>,
}

impl Offloaded {
    fn lines(&self) -> String {
        let Self {
            mpps,
            mpps_without,
            ratio,
            sender_waited: with,
            sender_waited_without: without,
            ..
        } = self;
        let mut text = format!(
            "offload      {mpps:.2} Mpps through the NIC's rules, {mpps_without:.2} Mpps without: {ratio:.2} times\n             \
             the sender waited for the workers in {:.0} % and {:.0} % of its bursts\n",
            100.0 * with,
            100.0 * without
        );
        if let (Some(good), Some(attack), Some(untold)) =
            (self.good_busy_ns, self.attack_busy_ns, self.attack_busy_ns_without)
        {
            text += &format!(
                "attack       workers busy {good:.0} ns for each packet of the traffic alone, {attack:.0} ns with nine times as \
                 much attack, {untold:.0} ns without the NIC's rules\n"
            );
        }
        text
    }
}

/// Flows of chains that keep any.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowRates {
    /// By `--established`: those of which both sides heard.
    opened: Option<u64>,
    begun_per_second: f64,
    ended_per_second: f64,
    /// Not established, ended to make room for new ones.
    evicted: u64,
}

impl FlowRates {
    /// A line of the table, if there is anything to say.
    fn line(&self) -> String {
        let Self { opened, begun_per_second: begun, ended_per_second: ended, evicted } = self;
        let opened = opened.map_or_else(String::new, |n| format!("{n} opened before, "));
        if *begun == 0.0 && opened.is_empty() {
            return String::new();
        }
        format!(
            "flows        {opened}{begun} begun and {ended} ended a second, {evicted} evicted\n"
        )
    }
}

/// Of a burst, from receive to transmit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Measured {
    /// As text.
    pub fn table(&self) -> String {
        let Latency { p50, p99, p999, max } = self.latency_ns;
        let lost = 100.0 * self.lost_packets as f64 / self.offered_packets.max(1) as f64;
        let share = if self.cpu_share < 0.95 {
            let share = 100.0 * self.cpu_share;
            format!("CPUs         the workers had {share:.0} % of them; rates are of whole ones\n")
        } else {
            String::new()
        };
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
             a burst      p50 {p50} ns, p99 {p99} ns, p999 {p999} ns, max {max} ns\n{}{}{share}{hint}",
            self.mpps,
            self.gbps,
            self.workers,
            self.ns_per_packet,
            self.clocks_per_packet,
            self.clocks_above_ceiling,
            self.ceiling_mpps,
            self.lost_packets,
            self.offered_packets,
            self.offload.map(|offload| offload.lines()).unwrap_or_default(),
            self.flows.line(),
        )
    }
}
