//! Packets that a NIC has told apart already: neither the chains' matches nor the functions that their class decides are
//! asked about them, and all is counted as if they had been.

use super::{Io, Own};
use crate::account::Cells;
use crate::burst::Burst;
use crate::chain::compile::{Choice, Plan, ProgramId};
use crate::clock::Time;
use crate::dispatch::{PortTags, TagCells, Tagged};
use crate::dpdk::BURST_MAX;
use crate::flow::is_tracked;
use crate::nf::PortIndex;
use crate::packet::Headers;

/// What packets of each class came, since it was added to the counters: one line a class, however many functions.
#[derive(Debug, Default)]
pub(super) struct TagCounts {
    /// By class: packets, and their bytes.
    counts: Box<[(u64, u64)]>,
    /// Classes that had packets.
    dirty: Vec<u32>,
}

impl TagCounts {
    /// For so many classes, of which none had any.
    pub fn new(cells: &TagCells) -> Self {
        let counts = vec![(0, 0); cells.len()].into();
        Self { counts, dirty: Vec::with_capacity(cells.len()) }
    }

    /// Counts a packet of a class, by its number.
    #[inline(always)]
    fn count(&mut self, class: u32, bytes: u32) {
        let at = (class as usize).checked_sub(1);
        let Some((packets, sum)) = at.and_then(|at| self.counts.get_mut(at)) else { return };
        if *packets == 0 {
            self.dirty.push(class);
        }
        *packets += 1;
        *sum += u64::from(bytes);
    }

    /// Adds what was counted to the counters of the functions and rules that decided it.
    pub fn add_up(&mut self, plan: &Plan, counters: &Cells) {
        for class in self.dirty.drain(..) {
            let at = (class as usize).checked_sub(1);
            let Some(count) = at.and_then(|at| self.counts.get_mut(at)) else { continue };
            let (packets, bytes) = std::mem::take(count);
            let Some(cells) = plan.tag_cells.get(class) else { continue };
            for cell in &cells.packets {
                counters.add(*cell, packets);
            }
            for cell in &cells.bytes {
                counters.add(*cell, bytes);
            }
        }
    }
}

/// Where the packets of a burst go, and the classes that say so.
pub(super) struct Ways {
    /// The program that each enters.
    pub to: [ProgramId; BURST_MAX],
    /// That program, or the one that it is the rest of.
    whole: [ProgramId; BURST_MAX],
    /// The class of each; 0: it has none.
    class: [u32; BURST_MAX],
}

impl Ways {
    /// Where packets go of which none is tagged.
    #[inline]
    pub fn untagged(to: [ProgramId; BURST_MAX]) -> Self {
        Self { to, whole: to, class: [0; BURST_MAX] }
    }

    /// Has a packet take the way of its class.
    #[inline(always)]
    fn take(&mut self, i: usize, class: u32, tagged: Tagged) {
        if let (Some(to), Some(whole), Some(own)) =
            (self.to.get_mut(i), self.whole.get_mut(i), self.class.get_mut(i))
        {
            (*to, *whole, *own) = (tagged.left.unwrap_or(DROPPED), tagged.program, class);
        }
    }

    /// The same where flows are kept, unless the packet has its way by its flow already.
    #[inline]
    pub fn take_first(&mut self, i: usize, class: u32, tagged: Tagged) {
        if tagged.left.is_some() && self.to.get(i) == Some(&NOWHERE) {
            self.take(i, class, tagged);
        }
    }

    /// Packets without a class enter whole programs.
    pub fn know_whole(&mut self) {
        for ((whole, to), class) in self.whole.iter_mut().zip(&self.to).zip(&self.class) {
            if *class == 0 {
                *whole = *to;
            }
        }
    }

    /// Has packets of one flow enter one program at one step: who is a step ahead would leave before those that came before
    /// it. Flows are told by their addresses alone, and as well as a small table can: a packet that goes the untagged way
    /// without need is only slower.
    fn keep_order(&mut self, headers: &[Headers]) {
        let mut last = [NOBODY; SLOTS];
        let mut mixed = [false; BURST_MAX];
        let mut any = false;
        for (i, h) in headers.iter().enumerate().take(BURST_MAX) {
            let (Some(to), Some(whole)) = (self.to.get(i), self.whole.get(i)) else { break };
            if *to == DROPPED || *to == NOWHERE {
                continue;
            }
            let Some(slot) = last.get_mut(slot_of(h, *whole)) else { continue };
            let before = usize::from(*slot);
            *slot = i as u8;
            if self.to.get(before).is_some_and(|other| other != to) {
                any = true;
                for k in [i, before] {
                    if let Some(mixed) = mixed.get_mut(k) {
                        *mixed = true;
                    }
                }
            }
        }
        if !any {
            return;
        }
        for i in 0..BURST_MAX {
            if mixed.get(i) != Some(&true) {
                continue;
            }
            let Some(program) = self.whole.get(i).copied() else { continue };
            for ((to, whole), class) in
                self.to.iter_mut().zip(&self.whole).zip(self.class.iter_mut())
            {
                if *whole == program && *to != DROPPED && *to != NOWHERE {
                    (*to, *class) = (program, 0);
                }
            }
        }
    }
}

impl Own {
    /// Adds what was counted by flows and by classes to the counters of functions.
    pub(super) fn add_up(&mut self, plan: &Plan) {
        if let Some(flows) = &mut self.flows {
            flows.add_up(&self.cells);
        }
        self.tags.add_up(plan, &self.cells);
    }

    /// Takes the packets of a burst of which some are tagged to their programs, of a port where no flows are kept.
    pub(super) fn sort_tagged(
        &mut self,
        plan: &Plan,
        (tags, all): (&PortTags, &Choice),
        burst: &mut Burst,
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        let mut ways = Ways::untagged([NOWHERE; BURST_MAX]);
        let mut untagged = false;
        for (i, (packet, headers)) in burst.both().enumerate() {
            match tags.of(packet, headers) {
                Some((class, tagged)) => ways.take(i, class, tagged),
                None => untagged = true,
            }
        }
        if untagged {
            choose(all, burst.headers(), port, &mut ways);
        }
        if let Some(program) = self.settle_ways(&mut ways, burst) {
            return self.run(plan, program, burst, port, io, now);
        }
        for (i, (packet, headers, flow)) in burst.drain().enumerate() {
            match ways.to.get(i).copied().unwrap_or(NOWHERE) {
                NOWHERE => self.drop(packet, plan.cells.no_chain),
                DROPPED => {
                    let class = ways.class.get(i).copied().unwrap_or_default();
                    let reason = tags.reason(class).unwrap_or(plan.cells.no_chain);
                    self.drop(packet, reason);
                }
                to => self.enter(plan, to, packet, headers, flow),
            }
        }
    }

    /// For the packets of a burst that have no program yet, those of their classes.
    #[cold]
    pub(super) fn ways_of_first(
        &mut self,
        tags: &PortTags,
        burst: &Burst,
        to: [ProgramId; BURST_MAX],
    ) -> Ways {
        let mut ways = Ways::untagged(to);
        for (i, (packet, headers)) in burst.both().enumerate() {
            if let Some((class, tagged)) = tags.of(packet, headers).filter(|_| is_tracked(headers))
            {
                ways.take_first(i, class, tagged);
            }
        }
        ways
    }

    /// Puts packets of one flow in order and counts those of classes. The program, when all take the same.
    #[inline]
    pub(super) fn settle_ways(&mut self, ways: &mut Ways, burst: &Burst) -> Option<ProgramId> {
        let n = burst.len();
        let one = |ways: &Ways| {
            let [head, ..] = ways.to;
            let enters = head != NOWHERE && head != DROPPED;
            (enters && ways.to.iter().take(n).all(|to| *to == head)).then_some(head)
        };
        let mut head = one(ways);
        if head.is_none() {
            ways.keep_order(burst.headers());
            head = one(ways);
        }
        for ((packet, _), class) in burst.both().zip(ways.class).filter(|(_, class)| *class != 0) {
            self.tags.count(class, packet.len());
        }
        head
    }
}

/// Chooses for the packets that have no class.
#[cold]
fn choose(all: &Choice, headers: &[Headers], port: PortIndex, ways: &mut Ways) {
    let mut found = [0u32; BURST_MAX];
    if let Choice::Matched { classifier, .. } = all {
        classifier.look_up_headers(headers, port, false, &mut found);
    }
    let places = ways.to.iter_mut().zip(ways.whole.iter_mut()).zip(ways.class).zip(found);
    for (((to, whole), _), found) in
        places.take(headers.len()).filter(|(((_, _), class), _)| *class == 0)
    {
        *to = match all {
            Choice::Closed => NOWHERE,
            Choice::All(program) => *program,
            Choice::Matched { programs, .. } => {
                let at = (found as usize).checked_sub(1);
                at.and_then(|at| programs.get(at)).copied().unwrap_or(NOWHERE)
            }
        };
        *whole = *to;
    }
}

/// Packets between the same two addresses that take the same program have the same.
#[inline]
fn slot_of(h: &Headers, program: ProgramId) -> usize {
    let words = |address: [u8; 16]| u128::from_ne_bytes(address);
    let mixed = words(h.src.0) ^ words(h.dst.0).rotate_left(1);
    let folded = (mixed ^ (mixed >> 64)) as u64 ^ u64::from(program.0).rotate_left(48);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.ilog2())) as usize
}

/// No chain takes it.
pub(super) const NOWHERE: ProgramId = ProgramId(u16::MAX);
/// Its class is dropped.
const DROPPED: ProgramId = ProgramId(u16::MAX - 1);
const SLOTS: usize = 1024;
const NOBODY: u8 = u8::MAX;
