//! Packets that NFs hold: each NF says when it wants to be woken, and the worker looks at the earliest of these times.
//!
//! A comparison a poll, where nothing is held. What an NF lets go runs on behind it, as made packets do.

use super::{Instance, Io, Own, Worker};
use crate::account::Cells;
use crate::chain::cells::FunctionCells;
use crate::chain::compile::{Plan, ProgramId};
use crate::clock::Time;
use crate::dpdk::{Mempool, Packet};
use crate::nf::{Cx, Holds, Made, PacketNf, Place, PortIndex};

/// What an NF may use of a worker while it is called.
pub(super) struct Lent<'w> {
    pub cells: &'w Cells,
    pub pool: &'w Mempool,
}

impl<'w> Lent<'w> {
    /// For a function.
    #[inline(always)]
    pub fn cx(
        self,
        (plan, cells): (&Plan, &FunctionCells),
        (outbox, made): (&'w mut Vec<(PortIndex, Packet)>, &'w mut Vec<Made>),
        place: Place,
        now: Time,
    ) -> Cx<'w> {
        Cx {
            now,
            cells: self.cells,
            counters: cells.counters,
            drops: cells.drops,
            created: plan.cells.created,
            consumed: plan.cells.consumed,
            malformed: plan.cells.malformed,
            pool: self.pool,
            outbox,
            made,
            place,
        }
    }
}

/// The earlier of two times that may be.
#[inline(always)]
pub(super) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl Worker {
    /// When the worker has something to do though nothing comes.
    pub fn due(&self) -> Option<Time> {
        self.own.due
    }

    /// Has all that is due before `now` done at its own time, for a clock that leaps from packet to packet.
    pub fn wake_until(&mut self, io: &mut impl Io, now: Time) {
        let mut last = Time(0);
        while let Some(due) = self.own.due.filter(|due| *due <= now) {
            // Who is due again at once had no room, and has it now.
            last = due.max(last);
            io.at(last);
            self.own.wake(&self.plan, io, last);
        }
        io.at(now);
    }
}

impl Own {
    /// Wakes the NFs that are due, and sees to what they let go. Returns how many packets that is.
    #[cold]
    pub(super) fn wake(&mut self, plan: &Plan, io: &mut impl Io, now: Time) -> usize {
        let sent = self.each_nf(plan, io, now, |nf, cx| {
            if nf.wakes_at().is_some_and(|at| at <= cx.now) {
                nf.wake(cx);
            }
        });
        let wanted = |instance: &Instance| match instance {
            Instance::Packet(nf) => nf.wakes_at(),
            Instance::Slice(_) => None,
        };
        self.due = self.instances.iter().map(wanted).fold(None, earlier);
        sent
    }

    /// Has all NFs let go what they hold.
    #[cold]
    pub(super) fn let_go(&mut self, plan: &Plan, io: &mut impl Io, now: Time) {
        let mut holds = true;
        while holds {
            holds = false;
            let sent = self.each_nf(plan, io, now, |nf, cx| {
                holds |= nf.let_go(cx) == Holds::Packets;
            });
            // One that keeps what it has, with all the room there is, would keep it for ever.
            holds &= sent > 0;
        }
        self.due = None;
    }

    /// Calls each packet NF, and runs what they send on to its end.
    fn each_nf(
        &mut self,
        plan: &Plan,
        io: &mut impl Io,
        now: Time,
        mut call: impl FnMut(&mut dyn PacketNf, &mut Cx<'_>),
    ) -> usize {
        let mut sent = 0;
        for at in 0..self.instances.len() {
            let (Some(Instance::Packet(nf)), Some(function)) =
                (self.instances.get_mut(at), plan.functions.get(at))
            else {
                continue;
            };
            let lent = Lent { cells: &self.cells, pool: &self.pool };
            let both = (&mut self.outbox, &mut self.made);
            call(nf.as_mut(), &mut lent.cx((plan, &function.cells), both, NOWHERE, now));
            sent += self.made.len() + self.outbox.len();
            self.run_made(plan, io, now);
            self.send_outbox(plan, io);
        }
        self.flush(plan, io);
        sent
    }
}

/// What goes on from here is dropped: no chain has so many programs.
const NOWHERE: Place = Place { program: ProgramId(u16::MAX), step: 0, port: PortIndex(0) };
