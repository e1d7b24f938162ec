//! The way out: packets wait for their port until there is a burst of them, or nothing more comes.

use super::{Io, Own};
use crate::burst::Burst;
use crate::chain::compile::Plan;
use crate::dpdk::{Packet, Packets};
use crate::nf::PortIndex;

impl Own {
    /// Sends a program's packets out of their port: as they lie, when nothing waits there.
    #[inline]
    pub(super) fn leave(
        &mut self,
        plan: &Plan,
        to: PortIndex,
        burst: &mut Burst,
        io: &mut impl Io,
    ) {
        if self.out.get(to.index()).is_some_and(Packets::is_empty) {
            let (packets, bytes) = burst.outgoing();
            return self.transmit(plan, to, packets, bytes, io);
        }
        for (packet, ..) in burst.drain() {
            self.queue(plan, to, packet, io);
        }
    }

    /// Adds a packet to those that wait for their port.
    #[inline]
    pub(super) fn queue(&mut self, plan: &Plan, to: PortIndex, packet: Packet, io: &mut impl Io) {
        let Some(waiting) = self.out.get_mut(to.index()) else {
            return self.drop(packet, plan.cells.no_chain);
        };
        waiting.push(packet);
        if waiting.is_full() {
            self.send_waiting(plan, to, io);
        }
    }

    /// Sends what NFs send besides.
    #[inline]
    pub(super) fn send_outbox(&mut self, plan: &Plan, io: &mut impl Io) {
        if self.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        for (to, packet) in outbox.drain(..) {
            self.queue(plan, to, packet, io);
        }
        self.outbox = outbox;
    }

    /// Sends what waits for any port, and frees what was dropped.
    #[inline]
    pub(super) fn flush(&mut self, plan: &Plan, io: &mut impl Io) {
        for port in (0..self.out.len()).filter_map(|p| u8::try_from(p).ok()).map(PortIndex) {
            if self.out.get(port.index()).is_some_and(|waiting| !waiting.is_empty()) {
                self.send_waiting(plan, port, io);
            }
        }
        Packet::free_all(&mut self.dead);
    }

    fn send_waiting(&mut self, plan: &Plan, port: PortIndex, io: &mut impl Io) {
        let Some(waiting) = self.out.get_mut(port.index()) else { return };
        let mut packets = waiting.take();
        let bytes = total_bytes(&packets);
        self.transmit(plan, port, &mut packets, bytes, io);
    }

    /// Sends packets of `bytes` together. A ring that stays full is tried again a few times, then the rest is dropped.
    #[inline]
    fn transmit(
        &self,
        plan: &Plan,
        port: PortIndex,
        packets: &mut Packets,
        bytes: u64,
        io: &mut impl Io,
    ) {
        let Some(cells) = plan.cells.ports.get(port.index()) else { return };
        let all = packets.len();
        io.transmit(port, packets);
        for _ in 1..TRANSMIT_TRIES {
            if packets.is_empty() {
                break;
            }
            std::hint::spin_loop();
            io.transmit(port, packets);
        }
        let left = packets.len();
        self.cells.add(cells.tx_packets, (all - left) as u64);
        self.cells.add(cells.tx_bytes, bytes - total_bytes(packets));
        if left > 0 {
            self.cells.add(cells.tx_full, left as u64);
            Packet::free_all(packets);
        }
    }
}

fn total_bytes(packets: &Packets) -> u64 {
    packets.iter().map(|p| u64::from(p.len())).sum()
}

/// About ten microseconds of a driver that makes room as fast as it can.
const TRANSMIT_TRIES: usize = 64;
