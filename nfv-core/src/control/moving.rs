//! Shards' move from one worker to another, order by order: [`crate::worker`]'s `moves` says what each does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tables::Tables;
use crate::flow::{SHARDS, ShardSet};
use crate::worker::{Desk, Drain, Held, Hold, Left, Mates, Order, Parcel};

/// A move that is under way. Each [`Move::step`] takes what workers have reported and gives the next orders; between
/// steps anything may happen.
#[derive(Debug)]
pub struct Move {
    shards: ShardSet,
    from: u16,
    to: u16,
    stage: Stage,
    /// When the last orders were given.
    since: Instant,
    /// Workers that have not reported yet.
    awaited: Vec<u16>,
    /// Workers whose queues may still have what NICs send elsewhere by now.
    draining: Vec<u16>,
    parcel: Option<Box<Parcel>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Hold,
    Drain,
    Open,
    See,
    Export,
    Import,
    Release,
    Done,
}

impl Move {
    /// Of shards to a worker: of those that are the first one's owner's. `None`: they are all that worker's.
    pub fn new(mates: &Mates, shards: ShardSet, to: u16) -> Option<Self> {
        let elsewhere = || shards.iter().filter(|shard| mates.owner(*shard) != to);
        let from = mates.owner(elsewhere().next()?);
        let shards: ShardSet = elsewhere().filter(|shard| mates.owner(*shard) == from).collect();
        Some(Self {
            shards,
            from,
            to,
            stage: Stage::Begin,
            since: Instant::now(),
            awaited: Vec::new(),
            draining: Vec::new(),
            parcel: Some(Box::new(Parcel::of(shards))),
        })
    }

    /// Those that move.
    pub fn shards(&self) -> ShardSet {
        self.shards
    }

    /// For how long nothing need be done.
    pub fn rest(&self) -> Duration {
        rest(self.since)
    }

    /// Goes on as far as it can without waiting. True: the shards have moved.
    ///
    /// # Errors
    /// A desk has another's order.
    pub fn step(
        &mut self,
        desks: &[Arc<Desk>],
        mates: &Mates,
        tables: &mut Tables,
    ) -> Result<bool, String> {
        loop {
            let mut missing = Vec::new();
            for worker in self.awaited.drain(..) {
                match desks.get(usize::from(worker)).and_then(|desk| desk.report()) {
                    Some(Order::Export(parcel) | Order::Import(parcel)) => {
                        self.parcel = Some(parcel);
                    }
                    Some(Order::Drain(None)) => self.draining.push(worker),
                    // What else is reported is of no use.
                    Some(_) => {}
                    None => missing.push(worker),
                }
            }
            self.awaited = missing;
            if !self.awaited.is_empty() || self.stage == Stage::Done {
                return Ok(self.stage == Stage::Done);
            }
            self.next(desks, mates, tables)?;
            self.since = Instant::now();
        }
    }

    /// All have reported: the next stage.
    fn next(
        &mut self,
        desks: &[Arc<Desk>],
        mates: &Mates,
        tables: &mut Tables,
    ) -> Result<(), String> {
        let left = self.parcel.as_ref().map_or(Left::Nothing, |parcel| parcel.left());
        let follow = tables.follow(self.shards, self.to);
        let before = self.stage;
        self.stage = match (self.stage, left) {
            (Stage::Begin, _) => Stage::Hold,
            (Stage::Hold, _) if follow => Stage::Drain,
            (Stage::Drain, _) if !self.draining.is_empty() => Stage::Drain,
            (Stage::Drain, _) => Stage::Open,
            (Stage::Hold | Stage::Open, _) => Stage::See,
            (Stage::See | Stage::Import, _) | (Stage::Export, Left::Packets) => Stage::Export,
            (Stage::Export, Left::Flows) => Stage::Import,
            (Stage::Export, Left::Nothing) => Stage::Release,
            (Stage::Release | Stage::Done, _) => Stage::Done,
        };
        match self.stage {
            Stage::Begin | Stage::Done => Ok(()),
            Stage::Hold => {
                let what = if follow { Held::OfHashes } else { Held::OfFlows };
                let hold = Box::new(Hold::of(self.shards, what));
                self.order(desks, self.to, Order::Hold(Some(hold)))?;
                self.order(desks, self.from, Order::Keep(self.shards))
            }
            Stage::Drain if before == Stage::Drain => {
                let draining = std::mem::take(&mut self.draining);
                draining.into_iter().try_for_each(|w| self.order(desks, w, Order::Drain(None)))
            }
            Stage::Drain => {
                let had = tables.rewrite(self.shards, self.to);
                had.into_iter().try_for_each(|(worker, queues)| {
                    let drain = Box::new(Drain::of(queues));
                    self.order(desks, worker, Order::Drain(Some(drain)))
                })
            }
            Stage::Open => self.order(desks, self.to, Order::Open),
            Stage::See => {
                self.shards.iter().for_each(|shard| mates.give(shard, self.to));
                let others = (0..).zip(desks).map(|(worker, _)| worker);
                let others: Vec<u16> = others.filter(|worker| *worker != self.to).collect();
                others.into_iter().try_for_each(|worker| self.order(desks, worker, Order::See))
            }
            Stage::Export | Stage::Import => {
                let Some(parcel) = self.parcel.take() else {
                    return Err("a worker did not report what it was asked for".to_owned());
                };
                match self.stage {
                    Stage::Export => self.order(desks, self.from, Order::Export(parcel)),
                    _ => self.order(desks, self.to, Order::Import(parcel)),
                }
            }
            Stage::Release => self.order(desks, self.to, Order::Release(None)),
        }
    }

    fn order(&mut self, desks: &[Arc<Desk>], worker: u16, order: Order) -> Result<(), String> {
        let desk = desks.get(usize::from(worker)).ok_or("there is no such worker")?;
        desk.order(order).map_err(|_| "a worker has another order".to_owned())?;
        self.awaited.push(worker);
        Ok(())
    }
}

/// For how long to sleep where workers were asked at `since`: a quarter more than the answer takes. A thread that wakes more
/// often takes much of a CPU that it may share with the worker that it waits for.
pub(super) fn rest(since: Instant) -> Duration {
    (since.elapsed() / 4).clamp(Duration::from_micros(20), Duration::from_millis(1))
}

/// Cuts a list of moves into sets that go together, from one worker to another: with one writing of tables each, and with so
/// few flows that a new flow of theirs does not wait for long.
pub(super) fn together(moves: &[(u8, u16)], mates: &Mates, flows: &[u32]) -> Vec<(ShardSet, u16)> {
    let mut sets: Vec<(ShardSet, u16, u16, u32)> = Vec::new();
    for (shard, to) in moves.iter().filter(|(shard, _)| u16::from(*shard) < SHARDS) {
        let (from, n) = (mates.owner(*shard), flows.get(usize::from(*shard)).copied());
        let n = n.unwrap_or_default();
        // The last of its way that there is: those before it are full.
        let open = sets.iter_mut().rfind(|(_, f, t, _)| (*f, *t) == (from, *to));
        match open.filter(|(.., sum)| *sum + n <= FLOWS_TOGETHER) {
            Some((set, .., sum)) => {
                set.insert(*shard);
                *sum += n;
            }
            None => sets.push((ShardSet::from_iter([*shard]), from, *to, n)),
        }
    }
    sets.into_iter().map(|(set, _, to, _)| (set, to)).collect()
}

/// Some milliseconds.
const FLOWS_TOGETHER: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_one_way_go_together_unless_they_have_many_flows() {
        let mates = Mates::new(2, 1000).unwrap();
        let flows: Vec<u32> = (0..128).map(|shard| if shard < 8 { 600 } else { 2 }).collect();
        let all: Vec<(u8, u16)> = (0..128).step_by(2).map(|shard| (shard, 1)).collect();
        let sets = together(&all, &mates, &flows);
        let lengths: Vec<u32> = sets.iter().map(|(set, _)| set.len()).collect();
        assert_eq!(lengths, [1, 1, 1, 61], "the last one with many flows, and the small ones");
        assert_eq!(lengths.iter().sum::<u32>(), 64);
        let back = together(&[(1, 0), (3, 0), (2, 1)], &mates, &[0; 128]);
        assert_eq!(back.len(), 2, "two ways");
    }
}
