//! What packet NFs do in their own time, and packets that they hold: the worker has one alarm, which its NFs set.
//!
//! A comparison a poll. What an NF lets go runs on behind it, as made packets do.

use super::{Instance, Io, Own, Worker};
use crate::account::Cells;
use crate::chain::compile::{Function, Plan, ProgramId};
use crate::clock::Time;
use crate::dpdk::{Mempool, Packet};
use crate::nf::{Alarm, Cx, Holds, Made, PacketNf, Place, PortIndex};

/// What of a worker an NF may use while it is called.
pub(super) struct Lent<'w> {
    pub cells: &'w Cells,
    pub pool: &'w Mempool,
    pub outbox: &'w mut Vec<(PortIndex, Packet)>,
    pub made: &'w mut Vec<Made>,
    pub alarm: &'w mut Alarm,
}

impl<'w> Lent<'w> {
    /// For a function at a place.
    #[inline(always)]
    pub fn cx(
        self,
        plan: &'w Plan,
        function: &'w Function,
        (place, changes_follow): (Place, bool),
        now: Time,
    ) -> Cx<'w> {
        let Self { cells, pool, outbox, made, alarm } = self;
        let (own, engine) = (&function.cells, &plan.cells);
        Cx { now, cells, own, engine, pool, outbox, made, alarm, place, changes_follow }
    }
}

impl Worker {
    /// By when the worker has something to do though nothing comes.
    pub fn due(&self) -> Option<Time> {
        Some(self.own.alarm.at).filter(|at| *at != Alarm::OFF.at)
    }

    /// Has all that is due by `until` done at its own time, for a clock that leaps from packet to packet.
    pub fn wake_until(&mut self, io: &mut impl Io, until: Time) {
        let mut last = Time(0);
        while self.own.alarm.at <= until {
            // Who is due again at once had no room, and has it now.
            last = self.own.alarm.at.max(last);
            io.at(last);
            self.own.wake(&self.plan, io, last);
        }
    }
}

impl Own {
    /// Wakes the NFs, and sees to what they let go. Returns how many packets that is.
    #[cold]
    pub(super) fn wake(&mut self, plan: &Plan, io: &mut impl Io, now: Time) -> usize {
        self.alarm = Alarm::OFF;
        self.each_nf(plan, io, now, |nf, cx| nf.wake(cx))
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
        self.alarm = Alarm::SOON;
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
            let Self { cells, pool, outbox, made, alarm, .. } = self;
            let lent = Lent { cells, pool, outbox, made, alarm };
            call(nf.as_mut(), &mut lent.cx(plan, function, (NOWHERE, true), now));
            sent += self.made.len() + self.outbox.len();
            self.run_made(plan, io, now);
            self.send_outbox(plan, io);
        }
        self.flush(plan, io);
        sent
    }
}

/// What goes on from here is dropped: no chain has so many programs.
pub(super) const NOWHERE: Place =
    Place { program: ProgramId(u16::MAX), step: 0, port: PortIndex(0) };
