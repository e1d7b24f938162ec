//! What runs now, and how it is exchanged for something else while packets pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::moving::{Move, rest, together};
use super::tables::Tables;
use super::watch::Watch;
use crate::account::{Cells, Totals};
use crate::chain::compile::Plan;
use crate::clock::Tsc;
use crate::flow::{FlowPage, SHARDS, ShardCounts};
use crate::nf::Task;
use crate::worker::{Desk, Mates, Next, Order, Seat};

/// A plan that workers run, and what has been counted since the run began.
#[derive(Debug)]
pub struct Running {
    /// The plan.
    pub plan: Arc<Plan>,
    /// By worker.
    cells: Vec<Arc<Cells>>,
    /// Counted under the plans before this one, by worker.
    before: Vec<Totals>,
}

impl Running {
    /// The first plan of a run, and the workers' counters.
    pub fn first(plan: Arc<Plan>, cells: Vec<Arc<Cells>>) -> Self {
        let before = cells.iter().map(|_| plan.ledger.totals(&[])).collect();
        Self { plan, cells, before }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.cells.len()
    }

    /// What each worker has counted.
    pub fn by_worker(&self) -> Vec<Totals> {
        let own = self.cells.iter().map(|c| self.plan.ledger.totals(std::slice::from_ref(c)));
        own.zip(&self.before).map(|(own, before)| own.plus(before)).collect()
    }

    /// Nanoseconds in which each worker had packets, under this plan.
    pub(super) fn busy(&self) -> impl Iterator<Item = u64> {
        self.cells.iter().map(|cells| cells.get(self.plan.cells.busy_nanoseconds))
    }

    /// Counts packets that were under way between workers when all had ended.
    pub fn count_lost(&self, packets: u64) {
        if let Some(cells) = self.cells.first() {
            cells.add(self.plan.cells.inbox_full, packets);
        }
    }

    /// What all workers have counted.
    pub fn totals(&self) -> Totals {
        let none = self.plan.ledger.totals(&[]);
        self.by_worker().iter().fold(none, |sum, one| sum.plus(one))
    }
}

/// The workers, and what they run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    running: Arc<RwLock<Arc<Running>>>,
    desks: Arc<[Arc<Desk>]>,
    mates: Arc<Mates>,
    clock: Tsc,
    /// Held by who gives orders.
    ordering: Arc<Mutex<()>>,
    watch: Arc<Mutex<Watch>>,
    tables: Arc<Mutex<Tables>>,
}

/// What came of a change.
#[allow(missing_debug_implementations, reason = "futures have none")]
pub struct Changed {
    /// What functions that are new do beside the workers.
    pub tasks: Vec<(String, Task)>,
    /// Functions that are no more, or were built anew: their tasks are to end.
    pub replaced: Vec<String>,
    /// How long the slowest worker took to come to it.
    pub took: Duration,
}

impl Workers {
    /// Of a run that begins.
    pub fn new(running: Running, desks: Vec<Arc<Desk>>, mates: Arc<Mates>, clock: Tsc) -> Self {
        Self::with_tables(running, desks, mates, Tables::default(), clock)
    }

    /// The same, with tables of NICs that follow the shards.
    pub fn with_tables(
        running: Running,
        desks: Vec<Arc<Desk>>,
        mates: Arc<Mates>,
        tables: Tables,
        clock: Tsc,
    ) -> Self {
        Self {
            running: Arc::new(RwLock::new(Arc::new(running))),
            desks: desks.into(),
            mates,
            clock,
            ordering: Arc::default(),
            watch: Arc::default(),
            tables: Arc::new(Mutex::new(tables)),
        }
    }

    /// What runs now.
    pub fn now(&self) -> Arc<Running> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has all workers change to another plan, compiled after the one that runs, and waits until they have.
    ///
    /// No packet waits: each worker changes between two bursts, in some microseconds.
    /// # Errors
    /// There is no memory, or a worker does not answer.
    pub fn change(&self, plan: Plan) -> Result<Changed, String> {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.now();
        let plan = Arc::new(plan);
        let of = u16::try_from(self.desks.len()).unwrap_or(u16::MAX);
        let mut orders = Vec::new();
        let mut cells = Vec::new();
        for index in 0..of {
            let own = plan.ledger.cells();
            let (seat, now) = (Seat { index, of }, self.clock.now());
            let next =
                Next::new(&old.plan, plan.clone(), own.clone(), (seat, self.mates.clone()), now)
                    .map_err(|why| why.to_string())?;
            orders.push(Order::Change(Box::new(next)));
            cells.push(own);
        }
        let start = Instant::now();
        let past = self.carry_out(orders)?;
        let took = start.elapsed();
        let before = old.by_worker().iter().map(|t| t.carried(&old.plan.ledger, &plan)).collect();
        let running = Arc::new(Running { plan: plan.clone(), cells, before });
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = running;
        drop(past);
        let is_kept = |built| plan.functions.iter().any(|f| Arc::ptr_eq(&f.built, built));
        let mut replaced = Vec::new();
        for function in old.plan.functions.iter().filter(|f| !is_kept(&f.built)) {
            replaced.push(function.name.clone());
            if let Some(Err(why)) = function.built.finish.as_ref().map(|finish| finish()) {
                tracing::error!("{}: {why}", function.name);
            }
        }
        Ok(Changed { tasks: plan.tasks(), replaced, took })
    }

    /// Walks all flows of all workers, some at a time, and gives `each` every page; it says whether to go on.
    ///
    /// # Errors
    /// A worker does not answer.
    pub fn list(&self, mut each: impl FnMut(&Plan, &FlowPage) -> bool) -> Result<(), String> {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.now();
        for desk in self.desks.iter() {
            let mut page = Box::new(FlowPage::first());
            while page.next.is_some() {
                page.rows.clear();
                desk.order(Order::List(page)).map_err(|_| BUSY)?;
                page = match wait(desk)? {
                    Order::List(page) => page,
                    _ => return Err(BUSY.to_owned()),
                };
                if !each(&running.plan, &page) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Moves shards to workers; returns how many were not theirs already.
    ///
    /// # Errors
    /// There is one worker only, or none of that number, or one that does not answer.
    pub fn move_shards(&self, moves: &[(u8, u16)]) -> Result<usize, String> {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.desks.len();
        let unknown = moves
            .iter()
            .find(|(shard, to)| u16::from(*shard) >= SHARDS || usize::from(*to) >= workers);
        if let Some((shard, to)) = unknown {
            return Err(format!(
                "shard {shard} to worker {to}: there are shards 0 to {} and workers 0 to {}",
                SHARDS - 1,
                workers.saturating_sub(1)
            ));
        }
        let counts = self.count()?;
        self.move_all(moves, &counts)
    }

    /// Those of one way together, as many as have few flows, so that tables of NICs are written seldom.
    fn move_all(&self, moves: &[(u8, u16)], counts: &ShardCounts) -> Result<usize, String> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = 0;
        for (shards, to) in together(&tables.whole(moves), &self.mates, &counts.flows) {
            let Some(mut under_way) = Move::new(&self.mates, shards, to) else { continue };
            let start = Instant::now();
            while !under_way.step(&self.desks, &self.mates, &mut tables)? {
                if self.has_ended() {
                    return Err(ENDS.to_owned());
                }
                if start.elapsed() > PATIENCE {
                    return Err(format!("moving shards to worker {to}: a worker does not answer"));
                }
                std::thread::sleep(under_way.rest());
            }
            moved += under_way.shards().len() as usize;
        }
        Ok(moved)
    }

    /// By port, the entries of its NIC's table, which follows the shards, or why it does not.
    pub fn tables(&self) -> Vec<(String, Result<usize, String>)> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = |(name, table): (&str, Result<usize, &str>)| {
            (name.to_owned(), table.map_err(str::to_owned))
        };
        tables.list().map(owned).collect()
    }

    /// Lets go of the NICs, so that their ports can be closed. The workers have ended.
    pub fn leave_tables(&self) {
        *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Tables::default();
    }

    /// Writes the tables of NICs again, after one was reset.
    pub fn restore_tables(&self) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.restore(&self.mates);
    }

    /// By shard, the worker that it belongs to, and how many flows it has.
    ///
    /// # Errors
    /// A worker does not answer.
    pub fn shards(&self) -> Result<Vec<(u16, u32)>, String> {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.count()?;
        Ok((0..=u8::MAX).zip(counts.flows).map(|(s, n)| (self.mates.owner(s), n)).collect())
    }

    /// By worker, the part of the time in which it had packets, 0 to 1: at the last look of the balancer.
    pub fn busy(&self) -> Vec<f64> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).load.busy.clone()
    }

    /// Looks what workers have done since the last look, and moves shards where one has too much to do.
    pub(super) fn balance(&self) {
        let _ordering = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.now();
        let Ok(counts) = self.count() else { return };
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.look(&running, &counts, &self.mates);
        let moves = watch.moves();
        if !running.plan.workers.balance || moves.is_empty() {
            return;
        }
        match self.move_all(&moves, &counts) {
            Ok(moved) => {
                tracing::info!("workers were {} % busy: {moved} shards moved", watch.load.percent())
            }
            Err(_) if self.has_ended() => {}
            Err(why) => tracing::error!("moving shards: {why}"),
        }
        // What the moves did is seen in the time after them.
        watch.forget();
    }

    /// Whether a worker has ended, as all do when the run ends.
    fn has_ended(&self) -> bool {
        self.desks.iter().any(|desk| desk.is_closed())
    }

    fn count(&self) -> Result<ShardCounts, String> {
        let mut counts = Box::<ShardCounts>::default();
        for desk in self.desks.iter() {
            desk.order(Order::Count(counts)).map_err(|_| BUSY)?;
            counts = match wait(desk)? {
                Order::Count(counts) => counts,
                _ => return Err(BUSY.to_owned()),
            };
        }
        Ok(*counts)
    }

    /// Gives each worker an order, and waits until all are carried out.
    fn carry_out(&self, orders: Vec<Order>) -> Result<Vec<Order>, String> {
        for (desk, order) in self.desks.iter().zip(orders) {
            desk.order(order).map_err(|_| BUSY)?;
        }
        self.desks.iter().map(|desk| wait(desk)).collect()
    }
}

fn wait(desk: &Desk) -> Result<Order, String> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let ended = desk.is_closed();
        if let Some(order) = desk.report() {
            return Ok(order);
        }
        if ended {
            return Err(ENDS.to_owned());
        }
        std::thread::sleep(rest(start));
    }
    Err("a worker does not answer".to_owned())
}

impl Totals {
    /// The same values by the counters of another plan. What functions dropped that are no more is one sum there.
    fn carried(&self, ledger: &crate::account::Ledger, plan: &Plan) -> Self {
        let mut by_name: HashMap<_, u64> =
            self.iter(ledger).map(|(c, value)| ((c.metric, c.labels.clone()), value)).collect();
        let take = |c: &crate::account::Counter| {
            by_name.remove(&(c.metric, c.labels.clone())).unwrap_or_default()
        };
        let mut carried = Self::of(plan.ledger.counters().iter().map(take).collect());
        let gone = self.iter(ledger).filter(|(c, _)| c.side == crate::account::Side::Dropped);
        let gone: u64 =
            gone.filter_map(|(c, _)| by_name.remove(&(c.metric, c.labels.clone()))).sum();
        carried.add(plan.cells.removed, gone);
        carried
    }
}

const BUSY: &str = "another request of this kind is under way";
const ENDS: &str = "the run ends";
const PATIENCE: Duration = Duration::from_secs(10);
