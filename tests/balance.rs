//! Workers share what comes: of flows by Zipf's law nearly all fall to one of two workers at first, as a NIC spreads them;
//! shards move until both are about as busy, and no packet is lost or overtaken meanwhile: with a NIC whose table follows,
//! and with one that goes on as before. With `balance: false` it stays as it was.

#[path = "testkit/table_nic.rs"]
mod table_nic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nfv_core::account::{Cells, Side};
use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Tsc;
use nfv_core::control::periodic::Periodic;
use nfv_core::control::running::{Running, Workers};
use nfv_core::control::tables::{TablePort, Tables};
use nfv_core::dpdk::{Eal, Mempool, Packets};
use nfv_core::flow::SHARDS;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::packet::{AddressBytes, end_word, word_hash};
use nfv_core::worker::{Desk, Io, Mates, Seat, Ties, Worker};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use table_nic::TableNic;

const CHAIN: &str = r#"
ports: { lan: net_null0, wan: "net_null1,no-rx=1" }
functions:
  edge: { type: firewall, stateful: true, rules: [ { allow: udp } ] }
chains:
  outbound: { from: lan, through: [ edge ], to: wan }
"#;
const WORKERS: u16 = 2;
const FLOWS: usize = 10_000;
/// Zipf's exponent.
const SKEW: f64 = 1.1;
/// Of all packets, those of the first worker's shards at the start.
const TO_FIRST: f64 = 0.8;
/// What a worker spends on a packet beside the chain, and packets a second to both: one alone has too much to do.
const WORK: Duration = Duration::from_micros(4);
const RATE: f64 = 240_000.0;
/// Of all packets, those that wait for a worker at most.
const RING: u16 = 512;

/// A flow's frame, in which each packet has its number.
struct Flow {
    frame: Vec<u8>,
    shard: usize,
    sent: AtomicU32,
}

/// All flows, and the NIC's table.
struct Traffic {
    flows: Vec<Flow>,
    /// Up to which of a random number a flow is meant.
    until: Vec<f64>,
    /// By shard, the queue.
    table: Vec<AtomicU16>,
    pool: Mempool,
    seen: Seen,
}

/// One queue, with what is due.
struct Wire {
    traffic: Arc<Traffic>,
    queue: u16,
    rate: f64,
    start: Instant,
    drawn: u64,
    rng: SmallRng,
}

/// What came out.
struct Seen {
    /// By flow, the number that is due.
    due: Vec<AtomicU32>,
    packets: AtomicU64,
    wrong: AtomicU64,
}

impl Io for Wire {
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        if port != PortIndex(0) {
            return;
        }
        // Every queue draws the flows of all packets, and has those that the table sends to it.
        let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64;
        // What finds no room in a ring was never received.
        self.drawn = self.drawn.max(due.saturating_sub(RING.into()));
        for _ in self.drawn..due.min(self.drawn + 64) {
            self.drawn += 1;
            let Traffic { flows, until, table, pool, .. } = &*self.traffic;
            let at = self.rng.random_range(0.0..1.0);
            let flow = &flows[until.partition_point(|until| *until < at).min(flows.len() - 1)];
            if table[flow.shard].load(Ordering::Relaxed) != self.queue {
                continue;
            }
            let mut packet = pool.packet_of(&flow.frame).expect("there are mbufs");
            let number = flow.sent.fetch_add(1, Ordering::Relaxed);
            packet.data_mut()[46..50].copy_from_slice(&number.to_be_bytes());
            packets.push(packet);
            if packets.len() == 16 {
                break;
            }
        }
    }

    fn transmit(&mut self, _: PortIndex, packets: &mut Packets) {
        for packet in packets.drain(..) {
            let word = |at: usize| {
                let bytes = packet.data()[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes)
            };
            let (flow, number) = (word(42) as usize, word(46));
            // A flow is one worker's at a time, so this is no race, or what it finds is wrong.
            let due = self.traffic.seen.due[flow].swap(number + 1, Ordering::Relaxed);
            self.traffic.seen.wrong.fetch_add(u64::from(due != number), Ordering::Relaxed);
            self.traffic.seen.packets.fetch_add(1, Ordering::Relaxed);
            packet.free();
            let start = Instant::now();
            while start.elapsed() < WORK {
                std::hint::spin_loop();
            }
        }
    }
}

/// Flows by Zipf's law, most of which a NIC sends to the first worker at first.
fn traffic(pool: Mempool) -> Traffic {
    let mut rng = SmallRng::seed_from_u64(1);
    let (mut flows, mut weights) = (Vec::new(), Vec::new());
    let mut share = [0.0, 0.0];
    for rank in 1..=FLOWS {
        let weight = 1.0 / (rank as f64).powf(SKEW);
        let first = share[0] <= TO_FIRST * (share[0] + share[1]);
        let queue = usize::from(!first);
        let (client, port, shard) = loop {
            let client = [10, 1, rng.random_range(0..250), rng.random_range(1..250)];
            let port = rng.random_range(1024..65_000);
            let mut bytes = [[0; 16]; 2];
            bytes[0][..4].copy_from_slice(&client);
            bytes[1][..4].copy_from_slice(&[10, 2, 0, 1]);
            let word = end_word(AddressBytes(bytes[0]), port) ^ end_word(AddressBytes(bytes[1]), 7);
            let shard = (word_hash(word) % u32::from(SHARDS)) as usize;
            if shard % 2 == queue {
                break (client, port, shard);
            }
        };
        share[queue] += weight;
        let mut frame = Vec::new();
        let mut payload = [0; 18];
        payload[..4].copy_from_slice(&(rank as u32 - 1).to_be_bytes());
        etherparse::PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], [2, 0, 0, 0, 0, 0])
            .ipv4(client, [10, 2, 0, 1], 64)
            .udp(port, 7)
            .write(&mut frame, &payload)
            .expect("memory takes all");
        flows.push(Flow { frame, shard, sent: AtomicU32::new(0) });
        weights.push(weight);
    }
    let all: f64 = weights.iter().sum();
    let until = weights.iter().scan(0.0, |sum, weight| {
        *sum += weight / all;
        Some(*sum)
    });
    let due = (0..FLOWS).map(|_| AtomicU32::new(0)).collect();
    Traffic {
        until: until.collect(),
        flows,
        table: (0..SHARDS).map(|shard| AtomicU16::new(shard % WORKERS)).collect(),
        pool,
        seen: Seen { due, packets: AtomicU64::new(0), wrong: AtomicU64::new(0) },
    }
}

fn plan(chain: &str) -> Plan {
    let source = Arc::new(Source::from_bytes("balance.yaml", chain.into()).expect("text"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
    let plan = compile(&file.expect("a chain file"), nfs::KINDS, Purpose::Run, None, &mut report);
    plan.expect("it is right")
}

/// Whether the NIC's table follows the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Follows,
    Stays,
}

/// What a run showed.
#[derive(Debug)]
struct Shown {
    /// When workers were at most 10 points apart first.
    even: Option<Duration>,
    /// How far they were apart at the end.
    spread: f64,
    /// Of packets that came in the last second, the part that was handed over.
    handed: f64,
    packets: u64,
    lost: u64,
    out_of_order: u64,
    /// For which part of the time the worker had its CPU that had one less.
    cpu: f64,
}

impl Shown {
    /// For `scripts/bench.sh`.
    fn figures(&self) -> serde_json::Value {
        serde_json::json!({
            "even_after_seconds": self.even.map(|after| after.as_secs_f64()),
            "spread": self.spread,
            "handed_over": self.handed,
            "packets": self.packets,
            "lost": self.lost,
            "out_of_order": self.out_of_order,
        })
    }

    /// Whether the machine did nothing else: a worker that has no CPU is busy with whatever comes.
    fn says_something(&self) -> bool {
        self.cpu > 0.7
    }

    fn is_even_in_a_second(&self) -> bool {
        self.even.is_some_and(|after| after < Duration::from_secs(1)) && self.spread <= 0.25
    }
}

/// Runs for some seconds. No packet is lost, doubled or overtaken, or the test ends here.
fn run(chain: &str, pool: Mempool, table: Table, seconds: u64) -> Shown {
    let plan = Arc::new(plan(chain));
    let mates = Arc::new(Mates::new(WORKERS, 100_000).expect("there is room"));
    let desks: Vec<Arc<Desk>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let cells: Vec<Arc<Cells>> = (0..WORKERS).map(|_| plan.ledger.cells()).collect();
    let clock = Tsc::start();
    let running = Running::first(plan.clone(), cells.clone());
    let traffic = Arc::new(traffic(pool));
    let (read, written) = (traffic.clone(), traffic.clone());
    let read = move || read.table.iter().map(|queue| queue.load(Ordering::Relaxed)).collect();
    let write = move |table: &[u16]| {
        for (entry, queue) in written.table.iter().zip(table) {
            entry.store(*queue, Ordering::Relaxed);
        }
    };
    let nic = Box::new(TableNic::new(WORKERS, read, write));
    let port = TablePort { port: PortIndex(0), name: "lan".to_owned(), ring: RING, nic };
    let ports = if table == Table::Follows { vec![port] } else { Vec::new() };
    let tables = Tables::start(ports, &mates, WORKERS);
    let workers = Workers::with_tables(running, desks.clone(), mates.clone(), tables, clock);
    let stop = AtomicBool::new(false);
    let (mut even, mut spread, mut handed) = (None, 1.0, 0.0);
    let cpu = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..WORKERS {
            let mut wire = Wire {
                traffic: traffic.clone(),
                queue: index,
                rate: RATE,
                start: Instant::now(),
                drawn: 0,
                rng: SmallRng::seed_from_u64(index.into()),
            };
            let at = usize::from(index);
            let ties = Ties { kernel: Vec::new(), desk: desks[at].clone(), mates: mates.clone() };
            let seat = Seat { index, of: WORKERS };
            let (plan, cells, stop) = (plan.clone(), cells[at].clone(), &stop);
            let thread = scope.spawn(move || {
                let start = Instant::now();
                let worker = Worker::new(plan, cells, pool, seat, ties, clock.now());
                let mut worker = worker.expect("there is room");
                while !stop.load(Ordering::Relaxed) {
                    worker.poll(&mut wire, clock.now());
                }
                // What others handed over.
                wire.rate = 0.0;
                for _ in 0..10_000 {
                    worker.poll(&mut wire, clock.now());
                }
                let had = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                worker.end(&mut wire, clock.now());
                let had = Duration::try_from(had).expect("a time");
                had.as_secs_f64() / start.elapsed().as_secs_f64()
            });
            threads.push(thread);
        }
        let _balance = Periodic::balance(workers.clone()).expect("there are threads");
        let (start, mut last) = (Instant::now(), None);
        let counts = || {
            let totals = plan.ledger.totals(&cells);
            let of = |metric| {
                let own = totals.iter(&plan.ledger).filter(|(c, _)| c.metric == metric);
                own.map(|(_, n)| n as f64).sum::<f64>()
            };
            [of("handed_over_packets"), of("received_packets")]
        };
        while start.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(20));
            if let [a, b] = workers.busy()[..] {
                spread = f64::abs(a - b);
                if spread <= 0.1 && even.is_none() {
                    even = Some(start.elapsed());
                }
            }
            if last.is_none() && start.elapsed() > Duration::from_secs(seconds - 1) {
                last = Some(counts());
            }
        }
        let (before, now) = (last.unwrap_or_default(), counts());
        handed = (now[0] - before[0]) / (now[1] - before[1]).max(1.0);
        stop.store(true, Ordering::Relaxed);
        let shares = threads.into_iter().map(|thread| thread.join().expect("it ends"));
        shares.fold(1.0, f64::min)
    });
    mates.empty();
    let totals = plan.ledger.totals(&cells);
    let sent: u64 = traffic.flows.iter().map(|f| u64::from(f.sent.load(Ordering::Relaxed))).sum();
    let (came, wrong) = (&traffic.seen.packets, &traffic.seen.wrong);
    let (came, wrong) = (came.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
    let dropped = totals.side(&plan.ledger, Side::Dropped);
    println!("{sent} packets, {} lost, {wrong} out of order, {dropped} dropped", sent - came);
    let counted = totals.iter(&plan.ledger).filter(|(c, n)| c.side == Side::Dropped && *n > 0);
    counted.for_each(|(counter, n)| println!("dropped: {n} {:?}", counter.labels));
    assert_eq!((sent - came, wrong, dropped), (0, 0, 0));
    assert_eq!(pool.in_use(), 0, "all mbufs came back");
    Shown { even, spread, handed, packets: sent, lost: sent - came, out_of_order: wrong, cpu }
}

#[test]
fn a_worker_that_has_too_much_to_do_gives_shards_to_one_that_has_time() {
    // EAL keeps its threads, and those that they start, on the CPUs that it is given.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        return println!("SKIPPED balance: two workers want two CPUs");
    }
    let lcores = format!("0@(0-{})", cpus - 1);
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    let options = options.into_iter().chain(["--lcores", &lcores]).collect::<Vec<_>>();
    let _eal = Eal::start(&options.into_iter().map(str::to_owned).collect::<Vec<_>>())
        .expect("EAL starts");
    let pool = Mempool::create(65_535, 2048, -1).expect("there is memory");
    // What else the machine does may keep one of the two from its CPU: such a run says nothing.
    let try_it = |chain: &str, table: Table, seconds: u64, is_good: fn(&Shown) -> bool| {
        let mut tries: Vec<Shown> = Vec::new();
        while tries.len() < TRIES && !tries.last().is_some_and(|t| t.says_something() && is_good(t))
        {
            let shown = run(chain, pool, table, seconds);
            println!(
                "table {table:?}: within 10 points after {:.2?}, {:.2} apart at the end; {:.1} % handed over ({:.0} % of a CPU)",
                shown.even,
                shown.spread,
                100.0 * shown.handed,
                100.0 * shown.cpu
            );
            tries.push(shown);
        }
        let says = tries.into_iter().filter(Shown::says_something).collect::<Vec<_>>();
        assert!(says.is_empty() || says.iter().any(is_good), "{says:?}");
        says.into_iter().find(is_good)
    };
    let even = Shown::is_even_in_a_second;
    let stays = try_it(CHAIN, Table::Stays, 3, even);
    let follows = try_it(CHAIN, Table::Follows, 3, even);
    let without = format!("workers: {{ balance: false }}\n{CHAIN}");
    // The control.
    let without = try_it(&without, Table::Follows, 2, |shown| shown.spread > 0.3);
    let (Some(stays), Some(follows), Some(without)) = (stays, follows, without) else {
        return println!("SKIPPED balance: the machine is too busy for two workers");
    };
    let [stays_as, follows_as] = [&stays, &follows].map(Shown::figures);
    let figures = serde_json::json!({
        "stays": stays_as, "follows": follows_as, "without": without.figures()
    });
    println!("figures: {figures}");
    assert!(stays.handed > 0.05 && follows.handed < 0.01, "a table that follows spares it");
}

/// Runs of one kind until one is as it should be.
const TRIES: usize = 5;
