//! How shards go from one worker to another while their packets come in.
//!
//! ```text
//!   order     to            what it does
//!   Hold      destination   packets of the shards' unknown flows wait here from now on, in the order in which they come; where
//!                           NICs' tables follow, all that its own queues receive of them
//!   Keep      source        whoever owns the shards, it goes on as if they were its own
//!   (tables)                NICs send the shards' packets to the destination
//!   Drain     who had them  done once its queues have nothing of the time before
//!   Open      destination   has taken all that was handed to it; what waits goes on, but what is of the shards' flows
//!   (owner)                 the destination owns the shards from now on: others hand their packets there
//!   See       all others    done once they know: nothing more is handed to the source
//!   Export    source        has taken all that had been handed to it; from now on what is unknown is the destination's. A
//!                           parcel of flows leaves its tables
//!   Import    destination   the parcel is put in, and what waits for its flows goes on                    ... until no flow is left
//!   Release   destination   what still waits begins flows; the move is over
//! ```
//!
//! At each time a flow is at one of both, whole. As long as it is at the source, packets that the source receives pass
//! there; others wait at the destination, behind which they cannot fall, because the source's inbox was empty of them
//! before the first parcel left. So nothing is lost or sent twice, and no packet of a flow overtakes another. A flow's
//! packets wait for one parcel, a new flow's first packet for the whole move. A packet that is in a port's transmit ring
//! when its flow moves may still be overtaken there, by as much as two rings of a port differ; parcels take longer.
//!
//! A NIC's table knows hashes, not flows: what it sends elsewhere may be of another shard's flow, too (an answer whose ends
//! were replaced). That is why all that the destination receives of such hashes waits until it is opened.
//!
//! [`crate::control::moving`] gives the orders, `model` goes through all that can happen meanwhile. The one rejected: to stop
//! the shard, copy it and go on, which lets a large shard's packets wait for tens of milliseconds.

use std::collections::VecDeque;

use super::flows::Flows;
use super::mates::{Handed, INBOX_MAX};
use super::{Io, Own};
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::dpdk::Packet;
use crate::flow::ShardSet;

/// Packets of shards whose flows are about to come.
#[derive(Debug)]
pub struct Hold {
    shards: ShardSet,
    what: Held,
    packets: VecDeque<Handed>,
}

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Packets of the shards' flows.
    OfFlows,
    /// All that this worker's queues receive with a hash of these shards, besides: NICs may send it here by now, and some of
    /// it is still where they sent it before.
    OfHashes,
}

impl Hold {
    /// Of shards, without packets; it has all the memory that it will need.
    pub fn of(shards: ShardSet, what: Held) -> Self {
        Self { shards, what, packets: VecDeque::with_capacity(HOLD_MAX) }
    }

    /// Whether packets of this shard's flows wait.
    pub(super) fn is_of(&self, shard: u8) -> bool {
        self.shards.has(shard)
    }

    /// Whether what was just received is to be looked at.
    #[inline]
    pub(super) fn is_of_hashes(&self) -> bool {
        self.what == Held::OfHashes
    }

    /// One more; it comes back when there are too many.
    pub(super) fn add(&mut self, handed: Handed) -> Result<(), Packet> {
        if self.packets.len() == HOLD_MAX {
            return Err(handed.packet);
        }
        self.packets.push_back(handed);
        Ok(())
    }
}

/// Flows of a shard on their way.
#[derive(Debug)]
pub struct Parcel {
    shards: ShardSet,
    flows: Flows,
    /// How many packets the source will have taken from its inbox, when all are taken that came before this order.
    after: Option<u64>,
    /// How far the source is.
    left: Left,
}

/// What is left at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Packets that others handed to it before they knew.
    Packets,
    /// Flows, perhaps.
    Flows,
    /// Nothing.
    Nothing,
}

impl Parcel {
    /// An empty one for shards.
    pub fn of(shards: ShardSet) -> Self {
        Self { shards, flows: Flows::none(), after: None, left: Left::Packets }
    }

    /// How far the source is, when it comes back from there.
    pub fn left(&self) -> Left {
        self.left
    }
}

impl Own {
    /// Fills a parcel with flows, once nothing is left in the inbox that was there when it was first asked.
    pub(super) fn export(&mut self, plan: &Plan, parcel: &mut Parcel) {
        let waiting = self.mates.waiting(self.seat.index) as u64;
        let after = *parcel.after.get_or_insert(self.taken + waiting);
        if self.taken < after {
            return;
        }
        parcel.left = Left::Nothing;
        self.keeps = ShardSet::default();
        let Some(flows) = &mut self.flows else { return };
        parcel.shards.iter().for_each(|shard| flows.export(plan, shard, &mut parcel.flows));
        if parcel.flows.is_empty() {
            flows.reckon();
        } else {
            parcel.left = Left::Flows;
        }
    }

    /// NICs have nothing left of what they sent elsewhere: takes what others have handed over of it, and then what waited.
    pub(super) fn open(&mut self, plan: &Plan, io: &mut impl Io, now: Time) {
        let Some(hold) = &mut self.hold else { return };
        hold.what = Held::OfFlows;
        let mut handed = self.mates.waiting(self.seat.index);
        self.take_each(plan, io, now, |own| {
            handed = handed.checked_sub(1)?;
            own.next_handed()
        });
        self.take_held(plan, io, now);
    }

    /// Takes in a parcel's flows, and then what waits for them.
    pub(super) fn import(&mut self, plan: &Plan, parcel: &mut Parcel, io: &mut impl Io, now: Time) {
        if let Some(flows) = &mut self.flows {
            flows.import(plan, &self.cells, &mut parcel.flows, now);
        }
        self.take_held(plan, io, now);
    }

    fn take_held(&mut self, plan: &Plan, io: &mut impl Io, now: Time) {
        let mut waiting = self.hold.as_ref().map_or(0, |hold| hold.packets.len());
        // Those whose flows are yet to come wait again, behind all others.
        self.take_each(plan, io, now, |own| {
            waiting = waiting.checked_sub(1)?;
            own.hold.as_mut()?.packets.pop_front()
        });
    }

    /// Holds nothing any more: what waits goes on.
    pub(super) fn release(
        &mut self,
        plan: &Plan,
        io: &mut impl Io,
        now: Time,
    ) -> Option<Box<Hold>> {
        let mut hold = self.hold.take()?;
        if let Some(flows) = &mut self.flows {
            flows.reckon();
        }
        self.take_each(plan, io, now, |_| hold.packets.pop_front());
        Some(hold)
    }

    /// Ends what waits, when the run ends in the middle of a move.
    pub(super) fn end_hold(&mut self, plan: &Plan) {
        let Some(mut hold) = self.hold.take() else { return };
        for handed in hold.packets.drain(..) {
            self.drop(handed.packet, plan.cells.inbox_full);
        }
        Packet::free_all(&mut self.dead);
    }
}

/// Packets that wait: as many as an inbox has room for.
const HOLD_MAX: usize = INBOX_MAX;

#[cfg(test)]
mod model;
