//! One function at work: what it is shown, what it answers, and what it does by itself.

use super::timed::{Lent, NOWHERE};
use super::{Instance, Own};
use crate::account::CellId;
use crate::burst::{Burst, Verdict};
use crate::chain::compile::{Entry, Function, Plan, ProgramId, Step};
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Packet, cycles};
use crate::nf::{NO_RULE, Nf, Place, PortIndex};

impl Own {
    /// Whether all packets of a burst pass a function by, as their flows were let go; else it sees those of the others.
    #[inline]
    pub(super) fn passes_by(
        &mut self,
        function: &Function,
        cell: CellId,
        burst: &mut Burst,
        now: Time,
    ) -> bool {
        let gone = self.flows.as_ref().map_or(0, |flows| flows.let_go(burst, now));
        if gone == 0 {
            return false;
        }
        self.cells.add(cell, u64::from(gone.count_ones()));
        if gone.count_ones() as usize != burst.len() {
            burst.set_let_go(gone);
            return false;
        }
        self.cells.add(function.cells.packets, burst.len() as u64);
        self.cells.add(function.cells.bytes, burst.bytes());
        true
    }

    /// One function on a burst: its answers are carried out and counted.
    #[inline]
    pub(super) fn step(
        &mut self,
        plan: &Plan,
        function: &Function,
        (at, reroutes, changes_follow): (usize, &[Option<ProgramId>], bool),
        place: Place,
        burst: &mut Burst,
        now: Time,
    ) {
        let Some(instance) = self.instances.get_mut(at) else { return };
        let cells = &function.cells;
        self.cells.add(cells.packets, burst.len() as u64);
        self.cells.add(cells.bytes, burst.bytes());
        let start = cycles();
        match (&function.built.nf, instance) {
            (Nf::Flow(nf), Instance::Slice(slice)) => {
                let mut rules = [NO_RULE; BURST_MAX];
                nf.decide_burst(burst, slice.as_mut(), &mut rules, now);
                for rule in rules.iter().take(burst.len()).filter(|r| **r != NO_RULE) {
                    self.cells.add(cells.rules.plus(*rule as usize), 1);
                }
            }
            (_, Instance::Packet(nf)) => {
                let Self { cells, pool, outbox, made, alarm, .. } = self;
                let lent = Lent { cells, pool, outbox, made, alarm };
                let mut cx = lent.cx(plan, function, (place, changes_follow), now);
                let before = burst.are_let_go();
                nf.process(burst, &mut cx);
                if let (Some(flows), Some(_)) = (&mut self.flows, function.built.lets_go) {
                    flows.note_let_go(burst, (before, burst.are_let_go()), now);
                }
                // The bits are of this function's packets: in the next burst, other packets are at their places.
                burst.set_let_go(0);
            }
            (Nf::Packet(_), Instance::Slice(_)) => {}
        }
        self.cells.add(cells.cycles, cycles().wrapping_sub(start));
        let port = burst.in_port;
        if function.tells_receivers() {
            self.tell_receivers(plan, function, reroutes, place, burst, now);
        }
        if let Some(flows) = self.flows.as_ref().filter(|_| !function.kind.answers.is_empty()) {
            for mut slot in burst.slots().filter(|s| *s.verdict != Verdict::Next) {
                flows.undo(&mut slot);
            }
        }
        burst.settle(|packet, headers, verdict| {
            let Verdict::Drop(reason) = verdict else { return packet.free() };
            self.refuse(plan, (function, reroutes), reason, (packet, headers), port, now);
        });
    }

    /// Tells the receivers of packets that a function refused, where they are to be told: before anything of what earlier
    /// functions made of the packets is undone for their senders.
    pub(super) fn tell_receivers(
        &mut self,
        plan: &Plan,
        function: &Function,
        reroutes: &[Option<ProgramId>],
        place: Place,
        burst: &mut Burst,
        now: Time,
    ) {
        for slot in burst.slots() {
            let Verdict::Drop(reason) = *slot.verdict else { continue };
            let is_rerouted = reroutes.get(usize::from(reason.0)).is_some_and(Option::is_some);
            if function.tells_receiver_of(reason) && !is_rerouted {
                self.reset_onward(plan, (slot.packet.data(), slot.headers), place, now);
            }
        }
    }

    /// Shows the packet NFs of a port's chains a packet whose headers cannot be read.
    #[cold]
    pub(super) fn show_refused(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        (packet, port): (&Packet, PortIndex),
        now: Time,
    ) {
        let is_behind = |wanted: usize| {
            let mut programs = entry.all.programs().iter();
            programs.any(|id| {
                let program = plan.programs.get(usize::from(id.0));
                program.is_some_and(|program| {
                    let mut steps = program.steps.iter();
                    steps.any(|step| matches!(step, Step::Function { at, .. } if *at == wanted))
                })
            })
        };
        for (at, function) in plan.functions.iter().enumerate().filter(|(at, _)| is_behind(*at)) {
            let Some(Instance::Packet(nf)) = self.instances.get_mut(at) else { continue };
            let Self { cells, pool, outbox, made, alarm, .. } = self;
            let lent = Lent { cells, pool, outbox, made, alarm };
            // It goes no further.
            let mut cx = lent.cx(plan, function, (NOWHERE, false), now);
            nf.refused(packet, port, &mut cx);
        }
    }
}
