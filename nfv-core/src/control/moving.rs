//! A shard's move from one worker to another, order by order: [`crate::worker`]'s `moves` says what each does.

use std::sync::Arc;

use crate::worker::{Desk, Hold, Left, Mates, Order, Parcel};

/// A move that is under way. Each [`Move::step`] takes what workers have reported and gives the next orders; between
/// steps anything may happen.
#[derive(Debug)]
pub struct Move {
    shard: u8,
    from: u16,
    to: u16,
    stage: Stage,
    /// Workers that have not reported yet.
    awaited: Vec<u16>,
    parcel: Option<Box<Parcel>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Hold,
    See,
    Export,
    Import,
    Release,
    Done,
}

impl Move {
    /// Of a shard to a worker. `None`: it is that worker's.
    pub fn new(mates: &Mates, shard: u8, to: u16) -> Option<Self> {
        let from = mates.owner(shard);
        let parcel = Some(Box::new(Parcel::of(shard)));
        let all = Self { shard, from, to, stage: Stage::Begin, awaited: Vec::new(), parcel };
        (from != to).then_some(all)
    }

    /// Goes on as far as it can without waiting. True: the shard has moved.
    ///
    /// # Errors
    /// A desk has another's order.
    pub fn step(&mut self, desks: &[Arc<Desk>], mates: &Mates) -> Result<bool, String> {
        loop {
            let mut report = None;
            let mut missing = Vec::new();
            for worker in self.awaited.drain(..) {
                match desks.get(usize::from(worker)).and_then(|desk| desk.report()) {
                    Some(order) => report = Some(order),
                    None => missing.push(worker),
                }
            }
            self.awaited = missing;
            // What is reported besides parcels is of no use.
            if let Some(Order::Export(parcel) | Order::Import(parcel)) = report {
                self.parcel = Some(parcel);
            }
            if !self.awaited.is_empty() || self.stage == Stage::Done {
                return Ok(self.stage == Stage::Done);
            }
            self.next(desks, mates)?;
        }
    }

    /// All have reported: the next stage.
    fn next(&mut self, desks: &[Arc<Desk>], mates: &Mates) -> Result<(), String> {
        let left = self.parcel.as_ref().map_or(Left::Nothing, |parcel| parcel.left());
        self.stage = match (self.stage, left) {
            (Stage::Begin, _) => Stage::Hold,
            (Stage::Hold, _) => Stage::See,
            (Stage::See | Stage::Import, _) | (Stage::Export, Left::Packets) => Stage::Export,
            (Stage::Export, Left::Flows) => Stage::Import,
            (Stage::Export, Left::Nothing) => Stage::Release,
            (Stage::Release | Stage::Done, _) => Stage::Done,
        };
        match self.stage {
            Stage::Begin | Stage::Done => Ok(()),
            Stage::Hold => {
                self.order(desks, self.to, Order::Hold(Some(Box::new(Hold::of(self.shard)))))?;
                self.order(desks, self.from, Order::Keep(self.shard))
            }
            Stage::See => {
                mates.give(self.shard, self.to);
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
