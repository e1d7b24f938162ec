//! Shards move between workers in mid-stream, and nothing of it is seen outside: three workers, whose queues receive what
//! chance gives them, poll in turns that chance picks, while hosts talk through them and shards come and go. Each packet
//! comes out once, in its flow's order, with its flow's ends. The same with NICs that spread packets by tables, which follow
//! the shards. Without the protocol, or a step of it, the same check fails.

#[path = "testkit/table_nic.rs"]
mod table_nic;
#[path = "moves/world.rs"]
mod world;

use std::sync::Arc;

use nfv_core::account::{Cells, Side};
use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Time;
use nfv_core::control::moving::Move;
use nfv_core::control::tables::{TablePort, Tables};
use nfv_core::dpdk::{Eal, Mempool};
use nfv_core::flow::ShardSet;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::worker::{Desk, Left, Mates, Order, Parcel, Seat, Ties, Worker};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use table_nic::TableNic;
use world::{Table, World};

const CHAIN: &str = r#"
ports: { lan: net_null0, wan: "net_null1,no-rx=1" }
functions:
  edge: { type: firewall, stateful: true, rules: [ { allow: [ tcp, udp, icmp ] } ] }
  seen: { type: count }
  nat: { type: nat, internal: 10.1.0.0/16, external: 198.51.100.10-198.51.100.13 }
  web:
    type: lb
    virtual: 192.0.2.80
    port: 80
    backends: [ { address: 10.2.0.11, port: 8080 }, { address: 10.2.0.12, weight: 2 } ]
chains:
  outbound: { from: lan, through: [ edge, seen, nat, web ], to: wan }
"#;

/// More shards than this have moved at the end.
const MOVES: u32 = 100;
const WORKERS: u16 = 3;
/// All flows are of these shards, so that each has more than a parcel holds.
const SHARDS: u8 = 5;

/// How shards move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// As the control side moves them.
    Protocol,
    /// Nobody waits: the flows follow when they come.
    ParcelsAlone,
    /// As the control side does, but nobody waits for what a queue has from the time before its table was rewritten.
    NotDrained,
}

/// Whether NICs spread packets by tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nics {
    Table,
    NoTable,
}

/// A shard on its way.
enum UnderWay {
    Protocol(Move),
    Parcels { from: usize, to: usize, at: usize },
}

impl UnderWay {
    fn begin(
        by: By,
        (mates, tables): (&Mates, &mut Tables),
        desks: &[Arc<Desk>],
        (shard, to): (u8, u16),
    ) -> Option<Self> {
        let from = usize::from(mates.owner(shard));
        let shards: ShardSet = [shard].into_iter().collect();
        let under_way = Move::new(mates, shards, to)?;
        match by {
            By::Protocol => return Some(Self::Protocol(under_way)),
            By::NotDrained => {
                tables.rewrite(shards, to);
                return Some(Self::Protocol(under_way));
            }
            By::ParcelsAlone => {}
        }
        mates.give(shard, to);
        desks[from].order(Order::Export(Box::new(Parcel::of(shards)))).expect("it has no order");
        Some(Self::Parcels { from, to: to.into(), at: from })
    }

    fn step(&mut self, desks: &[Arc<Desk>], mates: &Mates, tables: &mut Tables) -> bool {
        let (from, to, at) = match self {
            Self::Protocol(under_way) => {
                return under_way.step(desks, mates, tables).expect("it moves");
            }
            Self::Parcels { from, to, at } => (*from, *to, at),
        };
        let (next, order) = match desks[*at].report() {
            None => return false,
            Some(Order::Export(parcel)) if parcel.left() == Left::Nothing => return true,
            Some(Order::Export(parcel)) if parcel.left() == Left::Flows => {
                (to, Order::Import(parcel))
            }
            Some(Order::Export(parcel) | Order::Import(parcel)) => (from, Order::Export(parcel)),
            Some(other) => panic!("{other:?}"),
        };
        *at = next;
        desks[next].order(order).expect("it has no order");
        false
    }
}

struct Run {
    workers: Vec<Worker>,
    desks: Vec<Arc<Desk>>,
    mates: Arc<Mates>,
    tables: Tables,
    world: World,
    rng: SmallRng,
    moves: u32,
    polls: u64,
}

impl Run {
    fn poll(&mut self, worker: usize) {
        self.polls += 1;
        let now = Time(1_000_000_000 + self.polls * 300);
        self.workers[worker].poll(&mut self.world.queue_of(worker), now);
    }

    /// Hosts talk for so many steps while shards move; for more where few have moved, as a move waits by the clock.
    fn talk(&mut self, by: By, steps: u32) -> Result<(), String> {
        let mut under_way: Option<UnderWay> = None;
        // The kernel stops a worker now and then, so that much waits for it when it goes on.
        let (mut stopped, mut goes_on) = (0, 0);
        for step in 0..4 * steps {
            if step >= steps && self.moves > MOVES {
                break;
            }
            if step > goes_on + 4000 && self.rng.random_ratio(1, 1000) {
                stopped = self.rng.random_range(0..self.workers.len());
                goes_on = step + [100, 1000, 9000][self.rng.random_range(0..3)];
            }
            // Whatever NICs have inside of them is in the rings much sooner than workers wait for it.
            self.world.nics_work();
            match self.rng.random_range(0..4) {
                0 => self.world.send_something(&mut self.rng),
                1 => self.world.hosts_read(&mut self.rng)?,
                _ => {
                    let worker = self.rng.random_range(0..self.workers.len());
                    if worker != stopped || step > goes_on {
                        self.poll(worker);
                    }
                }
            }
            if let Some(on_its_way) = &mut under_way {
                if self.rng.random_ratio(1, 3)
                    && on_its_way.step(&self.desks, &self.mates, &mut self.tables)
                {
                    self.moves += 1;
                    under_way = None;
                }
            } else if step > steps / 4 && self.rng.random_ratio(1, 50) {
                let way = (self.rng.random_range(0..SHARDS), self.rng.random_range(0..WORKERS));
                under_way = UnderWay::begin(by, (&self.mates, &mut self.tables), &self.desks, way);
            }
        }
        // What is under way comes to its end.
        let mut left = 2000;
        while left > 0 {
            self.world.nics_work();
            (0..self.workers.len()).for_each(|worker| self.poll(worker));
            self.world.hosts_read(&mut self.rng)?;
            let (desks, mates, tables) = (&self.desks, &self.mates, &mut self.tables);
            let moved = under_way.as_mut().is_none_or(|m| m.step(desks, mates, tables));
            under_way = under_way.filter(|_| !moved);
            left = if moved { left - 1 } else { left };
        }
        self.world.all_has_come()
    }
}

fn plan() -> Plan {
    let source = Arc::new(Source::from_bytes("moves.yaml", CHAIN.into()).expect("text"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
    let plan = compile(&file.expect("a chain file"), nfs::KINDS, Purpose::Run, None, &mut report);
    plan.expect("it is right")
}

/// Sends hosts' talk through workers; the error says what a host saw that should not be.
fn run((by, nics): (By, Nics), seed: u64, pool: Mempool) -> Result<u32, String> {
    let plan = Arc::new(plan());
    let mates = Arc::new(Mates::new(WORKERS, 100_000).expect("there is room"));
    let desks: Vec<Arc<Desk>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let cells: Vec<Arc<Cells>> = (0..WORKERS).map(|_| plan.ledger.cells()).collect();
    let worker = |index: u16| {
        let at = usize::from(index);
        let ties = Ties { kernel: Vec::new(), desk: desks[at].clone(), mates: mates.clone() };
        let seat = Seat { index, of: WORKERS };
        Worker::new(plan.clone(), cells[at].clone(), pool, seat, ties, Time(1_000_000_000))
            .expect("there is room")
    };
    let mut rng = SmallRng::seed_from_u64(seed);
    let spread: [Table; 2] = Default::default();
    let of = |port: usize| {
        *spread[port].lock().unwrap() = vec![0; 128 << (2 * port)];
        let (index, table) = (PortIndex(port as u8), spread[port].clone());
        let written = table.clone();
        let read = move || table.lock().unwrap().clone();
        let write = move |table: &[u16]| *written.lock().unwrap() = table.to_vec();
        let nic = Box::new(TableNic::new(WORKERS, read, write));
        TablePort { port: index, name: format!("port {port}"), ring: 512, nic }
    };
    let ports = if nics == Nics::Table { vec![of(0), of(1)] } else { Vec::new() };
    let tables = Tables::start(ports, &mates, WORKERS);
    let spread = (nics == Nics::Table).then_some(spread);
    let mut run = Run {
        workers: (0..WORKERS).map(worker).collect(),
        world: World::new(pool, usize::from(WORKERS), SHARDS, spread, &mut rng),
        tables,
        desks: desks.clone(),
        mates: mates.clone(),
        rng,
        moves: 0,
        polls: 0,
    };
    let result = run.talk(by, 400_000);
    let end = Time(1_000_000_000 + run.polls * 300);
    for (at, worker) in run.workers.iter_mut().enumerate() {
        worker.end(&mut run.world.queue_of(at), end);
    }
    mates.empty();
    let totals = plan.ledger.totals(&cells);
    if result.is_ok() {
        assert_eq!(totals.side(&plan.ledger, Side::Dropped), 0, "nothing is dropped");
        assert_eq!(totals.balance(&plan.ledger), 0, "each packet is accounted for");
        assert_eq!(pool.in_use(), 0, "all mbufs came back");
        println!("seed {seed}: {} moves, {}", run.moves, run.world);
    }
    let dropped = totals.iter(&plan.ledger).filter(|(c, n)| c.side == Side::Dropped && *n > 0);
    let dropped: Vec<String> = dropped.map(|(c, n)| format!("{n} {:?}", c.labels)).collect();
    result.map(|()| run.moves).map_err(|why| format!("{why}; dropped: {dropped:?}"))
}

#[test]
fn shards_that_move_in_mid_stream_lose_double_and_reorder_nothing() {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("EAL starts");
    let pool = Mempool::create(65_535, 2048, -1).expect("there is memory");
    for (nics, seed) in (1..=4).flat_map(|seed| [(Nics::NoTable, seed), (Nics::Table, seed)]) {
        let moves = run((By::Protocol, nics), seed, pool)
            .unwrap_or_else(|why| panic!("{nics:?}, seed {seed}: {why}"));
        assert!(moves > MOVES, "only {moves} moves");
    }
    // The controls: the same talk, the same check. Shards that move without anybody waiting, and tables that are rewritten
    // without anybody waiting for what queues have.
    for what in [(By::ParcelsAlone, Nics::NoTable), (By::NotDrained, Nics::Table)] {
        let why = (1..=4).find_map(|seed| run(what, seed, pool).err());
        println!("{what:?}: {}", why.expect("the check sees what is lost or late"));
    }
}
