//! The way between a routed port and the kernel: frames for the box itself out of the chains' way, the kernel's own in.

use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;

use super::{Bell, Io, Own};
use crate::account::CellId;
use crate::burst::{Burst, Reason, Verdict};
use crate::chain::cells::RoutedCells;
use crate::chain::compile::Plan;
use crate::dpdk::{Mempool, Packet};
use crate::flow::RouteTable;
use crate::nf::PortIndex;
use crate::packet::{Headers, L3};

/// Frames between a port's workers and the control side. Bounded both ways.
#[derive(Debug)]
pub struct KernelQueues {
    to_kernel: ArrayQueue<Packet>,
    from_kernel: ArrayQueue<Packet>,
    pool: Mempool,
    /// What wakes the worker that sends what the kernel sends.
    bell: OnceLock<Arc<Bell>>,
}

impl KernelQueues {
    /// Empty queues; frames from the kernel take their mbufs from `pool`.
    pub fn new(pool: Mempool) -> Self {
        let queue = || ArrayQueue::new(FRAMES_MAX);
        Self { to_kernel: queue(), from_kernel: queue(), pool, bell: OnceLock::new() }
    }

    /// The kernel's frames ring it from now on.
    pub(super) fn has_bell(&self, bell: Arc<Bell>) {
        // It is one worker's.
        let _ = self.bell.set(bell);
    }

    /// Frees what is still in them, at the end of a run. What the kernel sent has not been counted yet; what it was to
    /// get has been counted as consumed.
    pub fn empty(&self) {
        for queue in [&self.to_kernel, &self.from_kernel] {
            while let Some(packet) = queue.pop() {
                packet.free();
            }
        }
    }

    /// Next frame for the kernel: `f` is called with its bytes, then it is freed. False when there is none.
    pub fn next_to_kernel(&self, f: &mut dyn FnMut(&[u8])) -> bool {
        let Some(packet) = self.to_kernel.pop() else { return false };
        f(packet.data());
        packet.free();
        true
    }

    /// Takes a frame of the kernel's. False: there is no room, or no mbuf.
    pub fn push_from_kernel(&self, frame: &[u8]) -> bool {
        let Some(packet) = self.pool.packet_of(frame) else { return false };
        match self.from_kernel.push(packet) {
            Ok(()) => {
                if let Some(bell) = self.bell.get() {
                    bell.ring();
                }
                true
            }
            Err(packet) => {
                packet.free();
                false
            }
        }
    }
}

/// Whom a packet of a routed port concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concerns {
    /// The chains.
    Chains,
    /// The box itself.
    Kernel,
    /// Another station on the link.
    Nobody,
}

impl Concerns {
    /// A frame to a group and what is for the box's own addresses is the kernel's, as is all that keeps a link going.
    #[inline]
    fn of(frame: &[u8], h: &Headers, mac: [u8; 6], table: &RouteTable) -> Self {
        let Some(dst) = frame.first_chunk::<6>() else { return Self::Nobody };
        let group = dst.first().is_some_and(|first| first & 1 == 1);
        if !group && *dst != mac {
            return Self::Nobody;
        }
        let link_local = h.kind == L3::Ipv6 && {
            let [a, b, ..] = h.dst.v6();
            a == 0xfe && b & 0xc0 == 0x80
        };
        if group || h.kind == L3::Arp || link_local || table.is_own(h) {
            return Self::Kernel;
        }
        Self::Chains
    }
}

impl Own {
    /// Takes out of a routed port's burst what is not the chains'.
    #[inline(never)]
    pub(super) fn sort_out(
        &mut self,
        plan: &Plan,
        cells: &RoutedCells,
        port: PortIndex,
        burst: &mut Burst,
    ) {
        let Some(table) = &plan.routes else { return };
        let Some(facts) = table.port(port) else { return };
        for slot in burst.slots() {
            match Concerns::of(slot.packet.data(), slot.headers, facts.mac, table) {
                Concerns::Chains => {}
                Concerns::Kernel => *slot.verdict = Verdict::Drop(TO_KERNEL),
                Concerns::Nobody => *slot.verdict = Verdict::Drop(NOT_FOR_US),
            }
        }
        burst.settle(|packet, _, verdict| {
            if verdict == Verdict::Drop(TO_KERNEL) {
                self.give_to_kernel(cells, port, packet);
            } else {
                self.drop(packet, cells.not_for_us);
            }
        });
    }

    fn give_to_kernel(&mut self, cells: &RoutedCells, port: PortIndex, packet: Packet) {
        let Some(Some(queues)) = self.kernel.get(port.index()) else {
            return self.drop(packet, cells.no_twin);
        };
        match queues.to_kernel.push(packet) {
            Ok(()) => {
                self.cells.add(cells.to_kernel, 1);
            }
            Err(packet) => self.drop(packet, cells.twin_full),
        }
    }

    /// Sends what the kernel sent. Looked at once in many polls: a queue that stays empty costs next to nothing.
    #[inline]
    pub(super) fn look_at_kernel(&mut self, plan: &Plan, io: &mut impl Io) {
        match self.polls_left {
            u32::MAX => {}
            0 => {
                self.polls_left = POLLS;
                self.take_from_kernel(plan, io);
            }
            _ => self.polls_left -= 1,
        }
    }

    #[inline(never)]
    fn take_from_kernel(&mut self, plan: &Plan, io: &mut impl Io) {
        for (at, cells) in plan.cells.ports.iter().enumerate() {
            let Some(Some(queues)) = self.kernel.get(at).map(Option::as_ref) else { continue };
            let (Some(routed), Ok(port)) = (&cells.routed, u8::try_from(at)) else { continue };
            let from_kernel: CellId = routed.from_kernel;
            let mut taken = arrayvec::ArrayVec::<Packet, 32>::new();
            while let Some(packet) = queues.from_kernel.pop() {
                taken.push(packet);
                if taken.is_full() {
                    break;
                }
            }
            self.cells.add(from_kernel, taken.len() as u64);
            for packet in taken {
                self.queue(plan, PortIndex(port), packet, io);
            }
        }
        self.flush(plan, io);
    }
}

const TO_KERNEL: Reason = Reason(0);
const NOT_FOR_US: Reason = Reason(1);
/// Frames that may wait, each way.
const FRAMES_MAX: usize = 1024;
/// Some microseconds when there is nothing to do, some tens when there is.
const POLLS: u32 = 64;
