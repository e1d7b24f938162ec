//! The life of a flow: when it opens, how long it may be idle, how it ends.

use std::any::Any;

use arrayvec::ArrayVec;

use super::{Common, Seat, Sweeping};
use crate::account::Cells;
use crate::chain::compile::Plan;
use crate::chain::piece::{Piece, PieceFunction};
use crate::clock::Time;
use crate::flow::{
    Address, Entry, FlowKey, FlowRefusal, KEPT, NotKept, SHARDS, Side, Table, TcpState, Tick,
    Wheel, WhenFull, Zone, flag, shard_of, tcp_idle_ticks,
};
use crate::nf::{AnyFlowNf, Nf};
use crate::packet::{L3, protocol};

impl Common {
    /// A flow's state changed, or its first answer came: it is looked at when its new time is up, and may not be evicted
    /// once it is established. Its functions are told when it opens, and when it closes.
    #[cold]
    pub(super) fn move_on<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        number: u32,
        moves: Moves,
    ) {
        let Some(entry) = table.get(number) else { return };
        let shard = usize::from(entry.shard);
        let was = usize::from(!entry.is(flag::EMBRYO));
        if let Some(wheel) = self.wheel::<A>(shard, was) {
            wheel.unlink(table, number);
        }
        let Some(entry) = table.get_mut(number) else { return };
        let state = entry.track.state().filter(|_| entry.protocol == protocol::TCP);
        // Whom nobody has answered may have made its address up, so it stays one that may be evicted: also in the middle
        // of a connection, where it is picked up, and where its answers go another way.
        let has_answered = entry.is(flag::REPLIED) && !entry.is(flag::ONE_WAY);
        let is_open = match entry.protocol {
            protocol::TCP => has_answered && is_past_handshake(state),
            _ => entry.is(flag::REPLIED),
        };
        let opens = is_open && entry.is(flag::EMBRYO);
        let closes = moves == Moves::Over;
        if opens || closes {
            let (piece, mut kept) = (entry.piece, entry.kept);
            if opens {
                entry.flags &= !flag::EMBRYO;
            }
            if entry.is_half_open() {
                entry.flags &= !flag::HALF_OPEN;
                self.guards.one_less(piece);
            }
            if let Some(piece) = seat.plan.pieces.get(usize::from(piece)) {
                for news in [opens.then_some(News::Opened), closes.then_some(News::Closed)] {
                    let Some(news) = news else { continue };
                    self.tell(seat.plan, piece, &mut kept, shard, news, seat.now);
                }
            }
            if let Some(entry) = table.get_mut(number) {
                entry.kept = kept;
            }
        }
        let ticks = self.wait_ticks(table, number, 0);
        let now = usize::from(table.get(number).is_some_and(|e| !e.is(flag::EMBRYO)));
        if let Some(wheel) = self.wheel::<A>(shard, now) {
            wheel.link(table, number, seat.tick, ticks);
        }
    }

    /// Tells the functions what has become of a flow.
    fn tell(
        &mut self,
        plan: &Plan,
        piece: &Piece,
        kept: &mut [u8; KEPT],
        shard: usize,
        news: News,
        now: Time,
    ) {
        for function in &piece.functions {
            if news == News::Closed && !function.hears_closed {
                continue;
            }
            let own = kept.get_mut(function.kept.clone()).filter(|own| !own.is_empty());
            if let (Some((_, nf, slice)), Some(own)) = (self.asked(plan, shard, function), own) {
                match news {
                    News::Opened => nf.flow_opened(own, slice, now),
                    News::Closed => nf.flow_closed(own, slice, now),
                }
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
            self.prefetch_next(table, seat.plan, number);
            let idle = self.idle_ticks(table, number);
            let passed = table.get(number).map_or(0, |e| seat.tick.since(Tick(e.last_seen)));
            let wait = self.wait_ticks(table, number, passed);
            if passed >= idle {
                self.retire(table, seat.plan, seat.cells, number, seat.now);
            } else if let Some(wheel) = self.wheel::<A>(shard, established) {
                wheel.unlink(table, number);
                wheel.link(table, number, seat.tick, wait);
            }
        }
    }

    /// Asks the CPU for what the end of the flow behind this one on its wheel reads, and for the one behind that.
    #[inline]
    fn prefetch_next<A: Address>(&self, table: &Table<A>, plan: &Plan, number: u32) {
        let behind = |n: u32| table.get(n).map(|e| e.next).filter(|next| *next != 0);
        let Some(next) = behind(number) else { return };
        if let Some(entry) = table.get(next) {
            table.prefetch_key(&entry.key(Side::First));
            table.prefetch_key(&entry.key(Side::Answer));
            let functions =
                plan.pieces.get(usize::from(entry.piece)).map_or(&[][..], |p| &p.functions);
            for function in functions {
                let nf = function.at.and_then(|at| plan.functions.get(at)).map(|f| &f.built.nf);
                let own = entry.kept.get(function.kept.clone()).filter(|own| !own.is_empty());
                if let (Some(Nf::Flow(nf)), Some(own)) = (nf, own) {
                    nf.prefetch_release(own);
                }
            }
        }
        if let Some(then) = behind(next) {
            table.prefetch_entry(then);
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
        if let Some(entry) = self.take_out(table, number) {
            let shard = usize::from(entry.shard);
            cells.add(plan.cells.flows_ended, 1);
            if let Some(piece) = plan.pieces.get(usize::from(entry.piece)) {
                self.give_back(plan, piece, &entry.kept, shard, now);
            }
        }
    }

    /// Puts an entry on its wheel that was put into the table.
    ///
    /// # Errors
    /// It was not: there is no room, or its answers are those of another flow.
    pub(super) fn put_in<A: Address>(
        &mut self,
        table: &mut Table<A>,
        inserted: Result<u32, NotKept>,
        entry: &Entry<A>,
        tick: Tick,
    ) -> Result<u32, FlowRefusal> {
        let number = inserted.map_err(|why| match why {
            NotKept::Full => FlowRefusal::TableFull,
            NotKept::Clash => FlowRefusal::Clash,
        })?;
        if !self.steer(entry) {
            table.remove(number);
            return Err(FlowRefusal::Clash);
        }
        if entry.is_half_open() {
            self.guards.one_more(entry.piece);
        }
        let shard = usize::from(entry.shard);
        let established = usize::from(!entry.is(flag::EMBRYO));
        let ticks = self.wait_ticks(table, number, 0);
        if let Some(wheel) = self.wheel::<A>(shard, established) {
            wheel.link(table, number, tick, ticks);
        }
        Ok(number)
    }

    /// Takes an entry off its wheel and out of the table; what functions keep with it is the caller's.
    pub(super) fn take_out<A: Address>(
        &mut self,
        table: &mut Table<A>,
        number: u32,
    ) -> Option<Entry<A>> {
        let entry = self.detach(table, number)?;
        self.unsteer(&entry);
        Some(entry)
    }

    /// The same, while its packets go on being steered to its shard.
    pub(super) fn detach<A: Address>(
        &mut self,
        table: &mut Table<A>,
        number: u32,
    ) -> Option<Entry<A>> {
        let entry = table.get(number)?;
        let shard = usize::from(entry.shard);
        let established = usize::from(!entry.is(flag::EMBRYO));
        if let Some(wheel) = self.wheel::<A>(shard, established) {
            wheel.unlink(table, number);
        }
        self.forgotten = self.forgotten.wrapping_add(1);
        let entry = table.remove(number)?;
        if entry.is_half_open() {
            self.guards.one_less(entry.piece);
        }
        Some(entry)
    }

    /// The shard that packets are of: the one that they are steered to, else their own.
    pub(super) fn shard<A: Address>(&self, key: FlowKey<A>) -> u8 {
        let steered = self.mates.secret().and_then(|secret| self.mates.steered(key.hash(secret)));
        steered.unwrap_or_else(|| shard_of(key.tuple, key.scope.protocol))
    }

    /// Has all workers send the packets of a flow to its shard that would be of another. False: they are another flow's.
    fn steer<A: Address>(&self, entry: &Entry<A>) -> bool {
        let Some(secret) = self.mates.secret() else { return true };
        let mut sides = foreign(entry);
        let done = sides.iter().position(|key| !self.mates.steer(key.hash(secret), entry.shard));
        if let Some(failed) = done {
            sides.truncate(failed);
            sides.iter().for_each(|key| self.mates.unsteer(key.hash(secret), entry.shard));
            return false;
        }
        true
    }

    pub(super) fn unsteer<A: Address>(&self, entry: &Entry<A>) {
        let Some(secret) = self.mates.secret() else { return };
        for key in foreign(entry) {
            self.mates.unsteer(key.hash(secret), entry.shard);
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
            // All zero: it took nothing.
            let own = kept.get(function.kept.clone()).filter(|own| own.iter().any(|b| *b != 0));
            if let (Some((_, nf, slice)), Some(own)) = (self.asked(plan, shard, function), own) {
                nf.release_flow(own, slice, now);
            }
        }
    }

    /// A function of a piece with its place and its slice of a shard; `None` when a reload took it away.
    pub(super) fn asked<'p>(
        &mut self,
        plan: &'p Plan,
        shard: usize,
        function: &PieceFunction,
    ) -> Option<(usize, &'p dyn AnyFlowNf, &mut (dyn Any + Send))> {
        let at = function.at?;
        self.function(plan, shard, at).map(|(nf, slice)| (at, nf, slice))
    }

    /// A function by its place in the plan, with its slice of a shard.
    pub(super) fn function<'p>(
        &mut self,
        plan: &'p Plan,
        shard: usize,
        at: usize,
    ) -> Option<(&'p dyn AnyFlowNf, &mut (dyn Any + Send))> {
        let Nf::Flow(nf) = &plan.functions.get(at)?.built.nf else { return None };
        let slice = self.shards.get_mut(shard)?.slices.get_mut(at)?;
        Some((nf.as_ref(), slice.as_mut()))
    }

    /// After how many ticks a flow is looked at that has been idle for `passed`: when its time is up, or before.
    ///
    /// All that may be evicted wait as long, so that the first of a wheel is the oldest, whatever its state.
    pub(super) fn wait_ticks<A: Address>(&self, table: &Table<A>, number: u32, passed: u32) -> u32 {
        let left = self.idle_ticks(table, number).saturating_sub(passed);
        let embryo = table.get(number).is_some_and(|e| e.is(flag::EMBRYO));
        if embryo { left.min(EMBRYO_TICKS) } else { left }
    }

    /// How long a flow lives without a packet, as it is now.
    pub(super) fn idle_ticks<A: Address>(&self, table: &Table<A>, number: u32) -> u32 {
        let Some(entry) = table.get(number) else { return 0 };
        match entry.protocol {
            // What was picked up and nobody answers is a connection that has gone elsewhere: Linux's time for it.
            protocol::TCP if !entry.is(flag::REPLIED | flag::ONE_WAY) => {
                tcp_idle_ticks(entry.track.state(), &self.limits.idle).min(UNANSWERED_TICKS)
            }
            protocol::TCP => tcp_idle_ticks(entry.track.state(), &self.limits.idle),
            other => self.limits.idle.ticks(other, entry.is(flag::REPLIED | flag::ONE_WAY)),
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

/// By what a flow's packets come in that by their own hash are of another shard.
fn foreign<A: Address>(entry: &Entry<A>) -> ArrayVec<FlowKey<A>, 2> {
    let keys = [entry.key(Side::First), entry.key(Side::Answer)];
    let comes_in = |key: &FlowKey<A>| Zone::of_place(key.scope.place).is_some();
    let is_foreign = |key: &FlowKey<A>| shard_of(key.tuple, key.scope.protocol) != entry.shard;
    keys.into_iter().filter(|key| comes_in(key) && is_foreign(key)).collect()
}

/// Whether both ends have said something: such a connection is not evicted.
fn is_past_handshake(state: Option<TcpState>) -> bool {
    !matches!(state, None | Some(TcpState::SynSent | TcpState::SynReceived | TcpState::SynSent2))
}

/// What a packet did to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// Its state is another, or it is its first answer.
    On,
    /// Its connection is over.
    Over,
}

/// What functions are told of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    /// Both ends have spoken.
    Opened,
    /// Its connection is over.
    Closed,
}

/// A connection lives no longer without a packet that nobody has answered: five minutes.
const UNANSWERED_TICKS: u32 = Tick::ticks(300);
/// As long as UDP flows live that nobody answers, 30 s, unless configured otherwise.
const EMBRYO_TICKS: u32 = Tick::ticks(30);
