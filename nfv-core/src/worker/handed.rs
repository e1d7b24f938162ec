//! Packets that another worker received: how they are handed over, and how they are taken in.

use arrayvec::ArrayVec;

use super::mates::{Came, Handed};
use super::{Io, Own};
use crate::burst::Burst;
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Packet};
use crate::flow::{FlowRef, SHARDS};
use crate::nf::PortIndex;
use crate::packet::{Fragment, Headers, flow_hash, packet_hash};

/// Where a packet belongs.
enum Belongs {
    Here,
    /// To another worker.
    There(u16),
    /// Here, where its flow is about to come.
    Held,
}

impl Own {
    /// Hands packets of flows that are not known here to the workers of their shards, or has them wait; the others stay.
    #[cold]
    pub(super) fn hand_over(
        &mut self,
        plan: &Plan,
        (burst, came): (&mut Burst, Came),
        port: PortIndex,
    ) {
        let (me, place) = (self.seat.index, plan.entrance(port));
        self.part(plan, burst, (port, Came::ForItsFlow), |own, packet, headers, flow| {
            let engine = own.flows.as_ref().filter(|_| !flow.is_some());
            let Some(shard) = engine.and_then(|e| e.shard(packet.data(), headers, place)) else {
                return Belongs::Here;
            };
            if own.hold.as_ref().is_some_and(|hold| hold.is_of(shard)) {
                return Belongs::Held;
            }
            if own.keeps.has(shard) {
                return Belongs::Here;
            }
            match own.mates.owner(shard) {
                // Who handed it over knew whose it is.
                owner if owner == me || came == Came::ForItsFlow => Belongs::Here,
                owner => Belongs::There(owner),
            }
        });
    }

    /// Hands fragments to the workers at which those of their datagrams meet, by what all of them have; the others stay.
    #[cold]
    pub(super) fn hand_over_fragments(&mut self, plan: &Plan, burst: &mut Burst, port: PortIndex) {
        let Self { seat, .. } = *self;
        self.part(plan, burst, (port, Came::AsFragment), |_, _, headers, _| {
            let cut = matches!(headers.fragment, Fragment::First | Fragment::Later);
            // Whose the shard is by now does not matter: half a datagram does not move.
            let owner = (flow_hash(headers) % u32::from(SHARDS)) as u16 % seat.of.max(1);
            if cut && owner != seat.index { Belongs::There(owner) } else { Belongs::Here }
        });
    }

    /// Has packets of a burst wait that NICs send here since a moment ago; the others stay.
    #[cold]
    pub(super) fn hold_hashes(&mut self, plan: &Plan, burst: &mut Burst, port: PortIndex) {
        self.part(plan, burst, (port, Came::ByPort), |own, packet, headers, _| {
            let shard = (packet_hash(packet, headers) % u32::from(SHARDS)) as u8;
            let waits = own.hold.as_ref().is_some_and(|hold| hold.is_of(shard));
            if waits { Belongs::Held } else { Belongs::Here }
        });
    }

    /// Takes out of a burst what does not belong there.
    fn part(
        &mut self,
        plan: &Plan,
        burst: &mut Burst,
        (port, why): (PortIndex, Came),
        of: impl Fn(&Self, &Packet, &Headers, FlowRef) -> Belongs,
    ) {
        let all: ArrayVec<(Packet, Headers, FlowRef), BURST_MAX> =
            burst.drain().map(|(packet, headers, flow)| (packet, *headers, flow)).collect();
        let mut given = None;
        for (packet, headers, flow) in all {
            let left = match of(self, &packet, &headers, flow) {
                Belongs::Here => {
                    burst.push(packet, &headers, flow);
                    continue;
                }
                Belongs::There(owner) => {
                    self.cells.add(plan.cells.handed_over, 1);
                    if let Some(before) = given.replace(owner).filter(|before| *before != owner) {
                        self.mates.ring(before);
                    }
                    self.mates.hand(owner, Handed { packet, headers, port, why })
                }
                Belongs::Held => match &mut self.hold {
                    Some(hold) => hold.add(Handed { packet, headers, port, why }),
                    None => Err(packet),
                },
            };
            if let Err(packet) = left {
                self.drop(packet, plan.cells.inbox_full);
            }
        }
        if let Some(last) = given {
            self.mates.ring(last);
        }
    }

    /// Takes in packets that others received. Returns how many there were.
    #[cold]
    pub(super) fn take_handed(&mut self, plan: &Plan, io: &mut impl Io, now: Time) -> usize {
        let mut seen = 0;
        self.take_each(plan, io, now, |own| {
            let next = if seen < HANDED_MAX { own.next_handed() } else { None };
            seen += usize::from(next.is_some());
            next
        });
        seen
    }

    /// The next packet that another received.
    #[inline]
    pub(super) fn next_handed(&mut self) -> Option<Handed> {
        let next = self.mates.next(self.seat.index);
        self.taken = self.taken.wrapping_add(u64::from(next.is_some()));
        next
    }

    /// Takes in packets whose headers are known, one after the other, by bursts of one port.
    pub(super) fn take_each(
        &mut self,
        plan: &Plan,
        io: &mut impl Io,
        now: Time,
        mut next: impl FnMut(&mut Self) -> Option<Handed>,
    ) {
        let mut one = next(self);
        // There is none, nearly always.
        if one.is_none() {
            return;
        }
        let Some(mut burst) = self.inbox.take() else { return };
        while let Some(Handed { packet, headers, port, why }) = one.take() {
            burst.push(packet, &headers, FlowRef::NONE);
            loop {
                match next(self) {
                    Some(same) if (same.port, same.why) == (port, why) && !burst.is_full() => {
                        burst.push(same.packet, &same.headers, FlowRef::NONE);
                    }
                    other => {
                        one = other;
                        break;
                    }
                }
            }
            match plan.entries.get(port.index()) {
                Some(entry) => self.take_in(plan, entry, (&mut burst, why), port, io, now),
                None => {
                    for (packet, ..) in burst.drain() {
                        self.drop(packet, plan.cells.no_chain);
                    }
                }
            }
        }
        self.inbox = Some(burst);
        self.flush(plan, io);
    }
}

/// Packets of others that are taken in between two looks at the ports.
const HANDED_MAX: usize = 128;
