//! Workers share what comes: of flows by Zipf's law nearly all fall to one of two workers at first, as a NIC spreads them;
//! shards move until both are about as busy, and no packet is lost or overtaken meanwhile. With `balance: false` it stays
//! as it was.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nfv_core::account::{Cells, Side};
use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Tsc;
use nfv_core::control::periodic::Periodic;
use nfv_core::control::running::{Running, Workers};
use nfv_core::dpdk::{Eal, Mempool, Packets};
use nfv_core::flow::SHARDS;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::packet::{AddressBytes, end_word, word_hash};
use nfv_core::worker::{Desk, Io, Mates, Seat, Ties, Worker};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

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

/// A flow's frame, in which each packet has its number.
struct Flow {
    frame: Vec<u8>,
    sent: Cell<u32>,
}

/// What one queue receives, when it is due.
struct Wire {
    flows: Vec<(usize, Flow)>,
    /// Up to which of a random number a flow is meant.
    until: Vec<f64>,
    rate: f64,
    start: Instant,
    given: u64,
    rng: SmallRng,
    pool: Mempool,
    seen: Arc<Seen>,
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
        let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64;
        let count = if port == PortIndex(0) { due.saturating_sub(self.given).min(16) } else { 0 };
        self.given += count;
        for _ in 0..count {
            let at = self.rng.random_range(0.0..1.0);
            let at = self.until.partition_point(|until| *until < at).min(self.flows.len() - 1);
            let (_, flow) = &self.flows[at];
            let mut packet = self.pool.packet_of(&flow.frame).expect("there are mbufs");
            let number = flow.sent.replace(flow.sent.get() + 1);
            packet.data_mut()[46..50].copy_from_slice(&number.to_be_bytes());
            packets.push(packet);
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
            let due = self.seen.due[flow].swap(number + 1, Ordering::Relaxed);
            self.seen.wrong.fetch_add(u64::from(due != number), Ordering::Relaxed);
            self.seen.packets.fetch_add(1, Ordering::Relaxed);
            packet.free();
            let start = Instant::now();
            while start.elapsed() < WORK {
                std::hint::spin_loop();
            }
        }
    }
}

/// The flows of both queues, with what part each has of its queue's packets.
fn flows(rng: &mut SmallRng) -> [Vec<(usize, Flow, f64)>; 2] {
    let mut queues = [Vec::new(), Vec::new()];
    let mut share = [0.0, 0.0];
    for rank in 1..=FLOWS {
        let weight = 1.0 / (rank as f64).powf(SKEW);
        let first = share[0] <= TO_FIRST * (share[0] + share[1]);
        let queue = usize::from(!first);
        let (client, port) = loop {
            let client = [10, 1, rng.random_range(0..250), rng.random_range(1..250)];
            let port = rng.random_range(1024..65_000);
            let mut bytes = [[0; 16]; 2];
            bytes[0][..4].copy_from_slice(&client);
            bytes[1][..4].copy_from_slice(&[10, 2, 0, 1]);
            let word = end_word(AddressBytes(bytes[0]), port) ^ end_word(AddressBytes(bytes[1]), 7);
            let shard = word_hash(word) % u32::from(SHARDS);
            if shard as usize % 2 == queue {
                break (client, port);
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
        queues[queue].push((rank - 1, Flow { frame, sent: Cell::new(0) }, weight));
    }
    queues
}

fn plan(chain: &str) -> Plan {
    let source = Arc::new(Source::from_bytes("balance.yaml", chain.into()).expect("text"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
    let plan = compile(&file.expect("a chain file"), nfs::KINDS, Purpose::Run, None, &mut report);
    plan.expect("it is right")
}

/// Runs for some seconds. Returns when workers were first at most so far apart, if ever, and the spread at the end.
fn run(chain: &str, pool: Mempool, seconds: u64) -> (Option<Duration>, f64) {
    let plan = Arc::new(plan(chain));
    let mates = Arc::new(Mates::new(WORKERS, 100_000).expect("there is room"));
    let desks: Vec<Arc<Desk>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let cells: Vec<Arc<Cells>> = (0..WORKERS).map(|_| plan.ledger.cells()).collect();
    let clock = Tsc::start();
    let running = Running::first(plan.clone(), cells.clone());
    let workers = Workers::new(running, desks.clone(), mates.clone(), clock);
    let mut rng = SmallRng::seed_from_u64(1);
    let due = (0..FLOWS).map(|_| AtomicU32::new(0)).collect();
    let (packets, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen = Arc::new(Seen { due, packets, wrong });
    let stop = AtomicBool::new(false);
    let queues = flows(&mut rng);
    let all: f64 = queues.iter().flatten().map(|(.., weight)| weight).sum();
    let (mut balanced, mut spread) = (None, 1.0);
    std::thread::scope(|scope| {
        for (index, queue) in (0..WORKERS).zip(queues) {
            let own: f64 = queue.iter().map(|(.., weight)| weight).sum();
            let until = queue.iter().scan(0.0, |sum, (.., weight)| {
                *sum += weight / own;
                Some(*sum)
            });
            let mut wire = Wire {
                until: until.collect(),
                flows: queue.into_iter().map(|(number, flow, _)| (number, flow)).collect(),
                rate: RATE * own / all,
                start: Instant::now(),
                given: 0,
                rng: SmallRng::seed_from_u64(index.into()),
                pool,
                seen: seen.clone(),
            };
            let at = usize::from(index);
            let ties = Ties { kernel: Vec::new(), desk: desks[at].clone(), mates: mates.clone() };
            let seat = Seat { index, of: WORKERS };
            let (plan, cells, stop) = (plan.clone(), cells[at].clone(), &stop);
            scope.spawn(move || {
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
                worker.end();
            });
        }
        let _balance = Periodic::balance(workers.clone()).expect("there are threads");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(50));
            if let [a, b] = workers.busy()[..] {
                spread = (a - b).abs();
                if spread <= 0.1 && balanced.is_none() {
                    balanced = Some(start.elapsed());
                }
            }
        }
        println!(
            "{:?} busy, shards {:?}",
            workers.busy(),
            workers.shards().map(|s| {
                [0, 1].map(|worker| s.iter().filter(|(owner, _)| *owner == worker).count())
            })
        );
        stop.store(true, Ordering::Relaxed);
    });
    mates.empty();
    let totals = plan.ledger.totals(&cells);
    assert_eq!(seen.wrong.load(Ordering::Relaxed), 0, "no packet is lost or overtaken");
    assert_eq!(totals.side(&plan.ledger, Side::Dropped), 0, "nothing is dropped");
    assert_eq!(pool.in_use(), 0, "all mbufs came back");
    println!("{} packets", seen.packets.load(Ordering::Relaxed));
    (balanced, spread)
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
    let (balanced, spread) = run(CHAIN, pool, 3);
    println!("within 10 points after {balanced:?}, {spread:.2} apart at the end");
    assert!(balanced.is_some() && spread <= 0.25, "{spread}");
    let without = format!("workers: {{ balance: false }}\n{CHAIN}");
    let (_, spread) = run(&without, pool, 2);
    println!("without: {spread:.2} apart");
    assert!(spread > 0.3, "the control: {spread}");
}
