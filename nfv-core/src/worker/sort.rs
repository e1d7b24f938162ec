//! Which program a packet takes: that of its flow, else the first chain that matches.

use super::tagged::NOWHERE;
use super::{Came, Io, Own};
use crate::burst::Burst;
use crate::chain::compile::{Choice, Entry, Plan, PortCells, ProgramId};
use crate::clock::Time;
use crate::dpdk::BURST_MAX;
use crate::flow::{FlowRefusal, is_tracked};
use crate::packet::{Headers, is_icmp_error};
use crate::port_index::PortIndex;

impl Own {
    /// The program that all packets of a port pass as they are, where nobody asks what is in them.
    #[inline]
    pub(super) fn passage(
        &self,
        plan: &Plan,
        entry: &Entry,
        cells: &PortCells,
    ) -> Option<ProgramId> {
        let Choice::All(program) = entry.all else { return None };
        let measures = entry.measured.get().is_some_and(|measured| measured.is_wanted());
        let is_unseen = entry.check.get().is_none() && !measures;
        let is_asked = entry.first.is_some() || entry.tags.is_some() || cells.routed.is_some();
        let goes_on = plan.programs.get(usize::from(program.0))?.steps.is_empty();
        (is_unseen && !is_asked && goes_on && self.hold.is_none()).then_some(program)
    }

    /// Takes the packets of a burst to their programs; it is empty then.
    #[inline]
    pub(super) fn sort(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        (burst, came): (&mut Burst, Came),
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        let keeps = entry.first.as_ref().filter(|_| self.flows.is_some());
        if let (Some(tags), None) = (&entry.tags, keeps)
            && burst.any_mark()
            && tags.is_true()
        {
            return self.sort_tagged(plan, (tags, &entry.all), burst, port, io, now);
        }
        match (keeps, &entry.all) {
            (Some(first), _) => self.sort_flows(plan, (first, entry), (burst, came), port, io, now),
            // The whole burst is the program's, as it lies.
            (None, Choice::All(program)) => self.run(plan, *program, burst, port, io, now),
            (None, Choice::Matched { classifier, programs }) => {
                let mut found = [0u32; BURST_MAX];
                classifier.look_up_headers(burst.headers(), port, false, &mut found);
                for ((packet, headers, flow), found) in burst.drain().zip(found) {
                    match (found as usize).checked_sub(1).and_then(|i| programs.get(i)) {
                        Some(program) => self.enter(plan, *program, packet, headers, flow),
                        None => self.drop(packet, plan.cells.no_chain),
                    }
                }
            }
            (None, Choice::Closed) => {
                for (packet, ..) in burst.drain() {
                    self.drop(packet, plan.cells.no_chain);
                }
            }
        }
    }

    /// The same where chains keep flows: packets of known flows are not classified.
    #[inline]
    fn sort_flows(
        &mut self,
        plan: &Plan,
        (first, entry): (&Choice, &Entry),
        (burst, came): (&mut Burst, Came),
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        let fragments = burst.headers().iter().fold(0, |all, h| all | h.fragment as u8) != 0;
        if fragments && matches!(came, Came::ByPort | Came::AsFragment) {
            if self.mates.several() && came == Came::ByPort {
                self.hand_over_fragments(plan, burst, port);
            }
            self.follow_fragments(plan, burst, port, now);
        }
        let all = &entry.all;
        let mut to = [NOWHERE; BURST_MAX];
        let Some(engine) = &mut self.flows else { return };
        engine.refresh(plan);
        let (headers, found) = burst.flows_mut();
        let place = plan.entrance(port);
        engine.look_up(headers, found, place);
        let mut known = true;
        for ((h, flow), to) in headers.iter().zip(found.iter()).zip(to.iter_mut()) {
            match engine.program_of(plan, h.kind, *flow).filter(|_| flow.is_some()) {
                Some(program) => *to = program,
                None => known = false,
            }
        }
        let may_be_others = came != Came::ForItsFlow || self.hold.is_some();
        if !known && self.mates.several() && may_be_others && came != Came::ToStay {
            self.hand_over(plan, (burst, came), port);
            // What is left is as it was, but stands elsewhere.
            return self.sort_flows(plan, (first, entry), (burst, Came::ToStay), port, io, now);
        }
        if !known {
            for ((packet, h), to) in
                burst.both().zip(to.iter_mut()).filter(|((_, h), _)| is_icmp_error(h))
            {
                if let Some(program) = engine.program_of_error(plan, packet.data(), h, place) {
                    *to = program;
                }
            }
            let picks_up = engine.picks_up(now);
            // What a class decides is about flows' first packets.
            let tags = entry.tags.as_ref().filter(|_| !picks_up && burst.any_mark());
            let tags = tags.filter(|tags| tags.is_true());
            let mut ways = tags.map(|tags| self.ways_of_first(tags, burst, to));
            let first = if picks_up { all } else { first };
            let places = ways.as_mut().map_or(&mut to, |ways| &mut ways.to);
            if places.iter().take(burst.len()).any(|to| *to == NOWHERE) {
                choose(first, all, burst.headers(), port, places);
            }
            if let Some(mut ways) = ways {
                ways.know_whole();
                self.settle_ways(&mut ways, burst);
                to = ways.to;
            }
        }
        let n = burst.len();
        let [head, ..] = to;
        if head != NOWHERE && to.iter().take(n).all(|t| *t == head) {
            return self.run(plan, head, burst, port, io, now);
        }
        for ((packet, headers, flow), to) in burst.drain().zip(to) {
            match to {
                NOWHERE => {
                    let answers = is_tracked(headers) && !matches!(all, Choice::Closed);
                    let unkept = plan.cells.unkept.plus(FlowRefusal::Unsolicited.index());
                    self.drop(packet, if answers { unkept } else { plan.cells.no_chain });
                }
                to => self.enter(plan, to, packet, headers, flow),
            }
        }
    }
}

/// Chooses for the packets that have no program yet: a flow's first packet by `first`, what is of no flow by `all`.
#[cold]
fn choose(
    first: &Choice,
    all: &Choice,
    headers: &[Headers],
    port: PortIndex,
    to: &mut [ProgramId; BURST_MAX],
) {
    let (mut by_first, mut by_all) = ([0u32; BURST_MAX], [0u32; BURST_MAX]);
    for (choice, found) in [(first, &mut by_first), (all, &mut by_all)] {
        if let Choice::Matched { classifier, .. } = choice {
            classifier.look_up_headers(headers, port, false, found);
        }
    }
    for (i, (h, to)) in
        headers.iter().zip(to.iter_mut()).enumerate().filter(|(_, (_, t))| **t == NOWHERE)
    {
        let (choice, found) = if is_tracked(h) { (first, &by_first) } else { (all, &by_all) };
        *to = match choice {
            Choice::Closed => NOWHERE,
            Choice::All(program) => *program,
            Choice::Matched { programs, .. } => {
                let found = found.get(i).copied().unwrap_or_default() as usize;
                found.checked_sub(1).and_then(|i| programs.get(i)).copied().unwrap_or(NOWHERE)
            }
        };
    }
}
