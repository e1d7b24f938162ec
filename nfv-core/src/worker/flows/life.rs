//! The life of a flow: when it opens, how long it may be idle, how it ends.

use super::{Common, Seat, Sweeping};
use crate::account::Cells;
use crate::chain::compile::Plan;
use crate::chain::piece::Piece;
use crate::clock::Time;
use crate::flow::{
    Address, KEPT, SHARDS, Table, TcpState, Tick, Wheel, WhenFull, flag, shard_of, tcp_idle_ticks,
};
use crate::nf::Nf;
use crate::packet::{L3, protocol};

impl Common {
    /// A flow's state changed: it is looked at when its new time is up, and may not be evicted once it is established.
    #[cold]
    pub(super) fn move_on<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        number: u32,
    ) {
        let Some(entry) = table.get(number) else { return };
        let shard = usize::from(shard_of(entry.tuples[0], entry.protocol));
        let was = usize::from(!entry.is(flag::EMBRYO));
        if let Some(wheel) = self.wheel::<A>(shard, was) {
            wheel.unlink(table, number);
        }
        let Some(entry) = table.get_mut(number) else { return };
        let established = match entry.protocol {
            protocol::TCP => is_past_handshake(entry.track.state()),
            _ => entry.is(flag::REPLIED),
        };
        if established && entry.is(flag::EMBRYO) {
            entry.flags &= !flag::EMBRYO;
            let (piece, mut kept) = (entry.piece, entry.kept);
            if let Some(piece) = seat.plan.pieces.get(usize::from(piece)) {
                self.tell_opened(seat.plan, piece, &mut kept, shard, seat.now);
            }
            if let Some(entry) = table.get_mut(number) {
                entry.kept = kept;
            }
        }
        let ticks = self.idle_ticks(table, number);
        let now = usize::from(table.get(number).is_some_and(|e| !e.is(flag::EMBRYO)));
        if let Some(wheel) = self.wheel::<A>(shard, now) {
            wheel.link(table, number, seat.tick, ticks);
        }
    }

    /// Tells the functions that both ends of a flow have spoken.
    pub(super) fn tell_opened(
        &mut self,
        plan: &Plan,
        piece: &Piece,
        kept: &mut [u8; KEPT],
        shard: usize,
        now: Time,
    ) {
        for function in &piece.functions {
            let (Some(Nf::Flow(nf)), Some(slice), Some(own)) = (
                plan.functions.get(function.at).map(|f| &f.built.nf),
                self.shards.get_mut(shard).and_then(|s| s.slices.get_mut(function.at)),
                kept.get_mut(function.kept.clone()),
            ) else {
                continue;
            };
            if !own.is_empty() {
                nf.flow_opened(own, slice.as_mut(), now);
            }
        }
    }

    /// Ends the oldest flow that is not established: of the shard, else of any. False: there is none.
    pub(super) fn make_room<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        shard: usize,
    ) -> bool {
        if self.limits.full == WhenFull::Refuse {
            return false;
        }
        for i in 0..usize::from(SHARDS) {
            let oldest =
                self.wheel::<A>((shard + i) % usize::from(SHARDS), 0).and_then(|w| w.first());
            if let Some(number) = oldest {
                seat.cells.add(seat.plan.cells.flows_evicted, 1);
                self.retire(table, seat.plan, seat.cells, number, seat.now);
                return true;
            }
        }
        false
    }

    /// Looks at flows whose time may be up.
    pub(super) fn expire<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Sweeping<'_>,
        shard: usize,
        established: usize,
        budget: &mut u32,
    ) {
        while *budget > 0 {
            let due = self.wheel::<A>(shard, established).and_then(|w| w.due(seat.tick));
            let Some(number) = due else { return };
            *budget -= 1;
            let idle = self.idle_ticks(table, number);
            let passed = table.get(number).map_or(0, |e| seat.tick.since(Tick(e.last_seen)));
            if passed >= idle {
                self.retire(table, seat.plan, seat.cells, number, seat.now);
            } else if let Some(wheel) = self.wheel::<A>(shard, established) {
                wheel.unlink(table, number);
                wheel.link(table, number, seat.tick, idle - passed);
            }
        }
    }

    /// Ends a flow.
    pub(super) fn retire<A: Address>(
        &mut self,
        table: &mut Table<A>,
        plan: &Plan,
        cells: &Cells,
        number: u32,
        now: Time,
    ) {
        let Some(entry) = table.get(number) else { return };
        let shard = usize::from(shard_of(entry.tuples[0], entry.protocol));
        let established = usize::from(!entry.is(flag::EMBRYO));
        if let Some(wheel) = self.wheel::<A>(shard, established) {
            wheel.unlink(table, number);
        }
        if let Some(entry) = table.remove(number) {
            self.forgotten = self.forgotten.wrapping_add(1);
            cells.add(plan.cells.flows_ended, 1);
            if let Some(piece) = plan.pieces.get(usize::from(entry.piece)) {
                self.give_back(plan, piece, &entry.kept, shard, now);
            }
        }
    }

    /// Gives back to the functions what they took for a flow.
    pub(super) fn give_back(
        &mut self,
        plan: &Plan,
        piece: &Piece,
        kept: &[u8; KEPT],
        shard: usize,
        now: Time,
    ) {
        for function in &piece.functions {
            let (Some(Nf::Flow(nf)), Some(slice), Some(own)) = (
                plan.functions.get(function.at).map(|f| &f.built.nf),
                self.shards.get_mut(shard).and_then(|s| s.slices.get_mut(function.at)),
                kept.get(function.kept.clone()),
            ) else {
                continue;
            };
            // All zero: it took nothing.
            if own.iter().any(|b| *b != 0) {
                nf.release_flow(own, slice.as_mut(), now);
            }
        }
    }

    /// How long a flow lives without a packet, as it is now.
    pub(super) fn idle_ticks<A: Address>(&self, table: &Table<A>, number: u32) -> u32 {
        let Some(entry) = table.get(number) else { return 0 };
        match entry.protocol {
            protocol::TCP => tcp_idle_ticks(entry.track.state(), &self.limits.idle),
            other => self.limits.idle.ticks(other, entry.is(flag::REPLIED)),
        }
    }

    #[inline]
    pub(super) fn wheel<A: Address>(
        &mut self,
        shard: usize,
        established: usize,
    ) -> Option<&mut Wheel> {
        let family = usize::from(A::FAMILY == L3::Ipv6);
        self.shards.get_mut(shard)?.wheels.get_mut(family)?.get_mut(established)
    }
}

/// Whether both ends have said something: such a connection is not evicted.
fn is_past_handshake(state: Option<TcpState>) -> bool {
    !matches!(state, None | Some(TcpState::SynSent | TcpState::SynReceived | TcpState::SynSent2))
}
