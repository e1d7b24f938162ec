//! Flows that a packet NF needs no more of: their packets pass it by.
//!
//! Two bits with each side of a flow say so, in the line that its packets need anyway. They are set by what the NF answers to
//! a packet and go when the flow is decided again, after a reload or a move. Packets that begin or end a connection are shown
//! all the same, so that the NF sees when ports are used for another one; and of each flow a packet every half a minute, so
//! that the NF knows that there is still one.

use super::FlowEngine;
use crate::burst::Burst;
use crate::clock::Time;
use crate::dpdk::BURST_MAX;
use crate::flow::{FlowRef, LetGoTerm};
use crate::packet::{Fragment, Headers, L3, TcpFlags, protocol};

impl FlowEngine {
    /// The packets of a burst, a bit each, whose flows are let go.
    ///
    /// Cost: one load a packet, of a line that its piece has read.
    #[inline]
    pub fn let_go(&self, burst: &Burst, now: Time) -> u32 {
        // A flow that was forgotten since may have left its place to another one.
        if self.common.forgotten != self.common.looked_up {
            return 0;
        }
        let (headers, flows) = burst.flows();
        let (mut all, term) = (0, LetGoTerm::of(now));
        for (i, (h, flow)) in headers.iter().zip(flows).enumerate().take(BURST_MAX) {
            all |= u32::from(self.is_let_go(h, *flow, term)) << i;
        }
        all
    }

    /// Notes what the NF answered: of the packets that it saw, those whose flows are let go from now on. `before`: those
    /// that it did not see.
    #[inline]
    pub fn note_let_go(&mut self, burst: &Burst, (before, after): (u32, u32), now: Time) {
        if self.common.forgotten != self.common.looked_up {
            return;
        }
        let (generation, term) = (self.common.generation, LetGoTerm::of(now));
        let (headers, flows) = burst.flows();
        for (i, (h, flow)) in headers.iter().zip(flows).enumerate().take(BURST_MAX) {
            if before >> i & 1 == 1 || !flow.is_some() {
                continue;
            }
            let term = (after >> i & 1 == 1).then_some(term);
            let (entry, side) = (flow.entry(), flow.side());
            match h.kind {
                L3::Ipv4 => {
                    if let Some(e) = self.v4.get_mut(entry).filter(|e| e.generation == generation) {
                        e.let_go(side, term);
                    }
                }
                L3::Ipv6 => {
                    if let Some(e) = self.v6.get_mut(entry).filter(|e| e.generation == generation) {
                        e.let_go(side, term);
                    }
                }
                L3::Arp | L3::Other => {}
            }
        }
    }

    #[inline(always)]
    fn is_let_go(&self, h: &Headers, flow: FlowRef, term: LetGoTerm) -> bool {
        let TcpFlags(flags) = h.tcp_flags;
        let begins_or_ends = h.protocol == protocol::TCP && flags & (FIN | SYN | RST) != 0;
        if !flow.is_some() || begins_or_ends || h.fragment != Fragment::Whole {
            return false;
        }
        let (entry, side) = (flow.entry(), flow.side());
        let generation = self.common.generation;
        match h.kind {
            L3::Ipv4 => self
                .v4
                .get(entry)
                .is_some_and(|e| e.generation == generation && e.is_let_go(side, term)),
            L3::Ipv6 => self
                .v6
                .get(entry)
                .is_some_and(|e| e.generation == generation && e.is_let_go(side, term)),
            L3::Arp | L3::Other => false,
        }
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
