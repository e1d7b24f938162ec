//! Flows that go to another worker, a parcel at a time: entries as they are, with all that functions keep with them.
//!
//! A flow's entries go together, so that it is whole at one of both. What a path counts by is each worker's own: a flow
//! is decided again with its first packet at its new worker, as after a reload, and keeps its bindings.

use super::renew::{BAG_MAX, whole};
use super::{Common, FlowEngine, part_of};
use crate::account::Cells;
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::flow::{Address, Entry, ShardCounts, Table, Tick, flag};

/// Flows on their way.
#[derive(Debug)]
pub(in crate::worker) struct Flows {
    v4: Vec<Entry<[u8; 4]>>,
    v6: Vec<Entry<[u8; 16]>>,
}

impl Flows {
    /// Without any; no memory is taken while it is filled.
    pub fn none() -> Self {
        let room = FLOWS_MAX + BAG_MAX;
        Self { v4: Vec::with_capacity(room), v6: Vec::with_capacity(room) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FlowEngine {
    /// Takes some of a shard's flows out of the tables; none, when no more are there.
    ///
    /// # Cost
    /// At most [`FLOWS_MAX`] flows, some 300 ns each.
    pub fn export(&mut self, plan: &Plan, shard: u8, to: &mut Flows) {
        self.common.export(&mut self.v4, plan, shard, &mut to.v4);
        self.common.export(&mut self.v6, plan, shard, &mut to.v6);
    }

    /// Puts flows in that were another worker's.
    pub fn import(&mut self, plan: &Plan, cells: &Cells, from: &mut Flows, now: Time) {
        let arrival = Arrival { plan, cells, now, tick: Tick::of(now) };
        from.v4.drain(..).for_each(|entry| self.common.arrive(&mut self.v4, &arrival, entry));
        from.v6.drain(..).for_each(|entry| self.common.arrive(&mut self.v6, &arrival, entry));
    }

    /// Takes as many flows from now on as the shards may have that are its own now.
    pub fn reckon(&mut self) {
        let own = self.common.mates.shards_of(self.common.seat.index);
        self.common.max = part_of(self.common.limits.max, own);
        self.common.guards.reckon(own);
    }

    /// Adds what each shard has here.
    pub fn count(&self, counts: &mut ShardCounts) {
        for (shard, n) in self.common.shards.iter().zip(&mut counts.flows) {
            *n += shard.wheels.iter().flatten().map(|wheel| wheel.len()).sum::<u32>();
        }
        for (shard, n) in self.common.shards.iter().zip(&mut counts.packets) {
            *n += shard.packets;
        }
    }
}

/// What flows come to.
struct Arrival<'p> {
    plan: &'p Plan,
    cells: &'p Cells,
    now: Time,
    tick: Tick,
}

impl Common {
    fn export<A: Address>(
        &mut self,
        table: &mut Table<A>,
        plan: &Plan,
        shard: u8,
        to: &mut Vec<Entry<A>>,
    ) {
        for established in [0, 1] {
            while to.len() < FLOWS_MAX {
                let first = self.wheel::<A>(usize::from(shard), established).map(|w| w.first());
                let Some(number) = first.flatten() else { break };
                for number in whole(table, plan, number) {
                    to.extend(self.detach(table, number));
                }
            }
        }
    }

    fn arrive<A: Address>(
        &mut self,
        table: &mut Table<A>,
        arrival: &Arrival<'_>,
        mut entry: Entry<A>,
    ) {
        let Arrival { plan, cells, now, tick } = *arrival;
        entry.generation = self.generation.wrapping_sub(1);
        let shard = usize::from(entry.shard);
        match table.insert(entry) {
            Ok(number) => {
                if entry.is_half_open() {
                    self.guards.one_more(entry.piece);
                }
                let established = usize::from(!entry.is(flag::EMBRYO));
                let passed = tick.since(Tick(entry.last_seen));
                let ticks = self.wait_ticks(table, number, passed);
                if let Some(wheel) = self.wheel::<A>(shard, established) {
                    wheel.link(table, number, tick, ticks);
                }
            }
            // More flows than there may be, of shards that were counted otherwise before.
            Err(_) => {
                cells.add(plan.cells.flows_evicted, 1);
                self.unsteer(&entry);
                if let Some(piece) = plan.pieces.get(usize::from(entry.piece)) {
                    self.give_back(plan, piece, &entry.kept, shard, now);
                }
            }
        }
    }
}

/// Flows of a parcel: some 40 us at either end.
pub(super) const FLOWS_MAX: usize = 128;
