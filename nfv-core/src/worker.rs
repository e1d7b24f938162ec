//! The loop of a worker: receive, parse, dispatch, run the chain, transmit.
//!
//! One worker owns its queues, its NF instances and its counters; nothing here is shared and written. Packets move
//! `receive -> parse -> burst of their program -> steps -> buffer of a port -> transmit`, and every way out of that
//! line is counted where it leaves it. The same code serves a run (queues of DPDK) and a replay (captures): [`Io`].

use std::sync::Arc;

use crate::account::{CellId, Cells};
use crate::chain::compile::{Entry, Plan, PortCells, ProgramId};
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Mempool, Packet, Packets, cycles};
use crate::nf::{Burst, Cx, Nf, OUTBOX_MAX, PacketNf, PortIndex, Reason};
use crate::packet::Headers;

/// Where packets come from and go to: one queue pair a port, or captures.
pub trait Io {
    /// Receives packets of a port into `packets`, which is empty.
    fn receive(&mut self, port: PortIndex, packets: &mut Packets);

    /// Sends packets out of a port, from the front; what it does not take stays, in order.
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets);
}

/// A worker: the plan that it shares with the others, and what is its own.
#[derive(Debug)]
pub struct Worker {
    plan: Arc<Plan>,
    own: Own,
}

/// What belongs to one worker alone.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a burst of 3 KiB is exchanged for an empty one by its pointer")]
struct Own {
    cells: Arc<Cells>,
    pool: Mempool,
    instances: Vec<Option<Box<dyn PacketNf>>>,
    /// A burst for each program, empty between receive calls. Boxed: a burst is 3 KiB, and changes places.
    bursts: Vec<Box<Burst>>,
    /// Programs whose burst has packets.
    touched: Vec<ProgramId>,
    spare: Vec<Box<Burst>>,
    /// Packets on their way out, by port.
    out: Vec<Packets>,
    outbox: Vec<(PortIndex, Packet)>,
    /// Packets to free, a burst at a time.
    dead: Packets,
}

impl Worker {
    /// A worker with its own instances of the packet NFs; `pool`: where NFs take packets that they make.
    pub fn new(plan: Arc<Plan>, cells: Arc<Cells>, pool: Mempool) -> Self {
        let burst = || Box::new(Burst::empty());
        let own = Own {
            instances: plan.instances(),
            bursts: plan.programs.iter().map(|_| burst()).collect(),
            touched: Vec::with_capacity(plan.programs.len()),
            spare: vec![burst()],
            out: plan.ports.iter().map(|_| Packets::new()).collect(),
            outbox: Vec::with_capacity(OUTBOX_MAX),
            dead: Packets::new(),
            cells,
            pool,
        };
        Self { plan, own }
    }

    /// Looks at each port once. Returns how many packets there were.
    #[inline]
    pub fn poll(&mut self, io: &mut impl Io, now: Time) -> usize {
        self.own.poll(&self.plan, io, now)
    }

    /// Takes packets that a port received to their ends.
    pub fn dispatch(
        &mut self,
        port: PortIndex,
        packets: &mut Packets,
        io: &mut impl Io,
        now: Time,
    ) {
        self.own.dispatch(&self.plan, port, packets, io, now);
    }
}

impl Own {
    #[inline]
    fn poll(&mut self, plan: &Plan, io: &mut impl Io, now: Time) -> usize {
        let mut seen = 0;
        let mut packets = Packets::new();
        for port in (0..self.out.len()).filter_map(|p| u8::try_from(p).ok()).map(PortIndex) {
            io.receive(port, &mut packets);
            if packets.is_empty() {
                self.cells.add(plan.cells.idle_polls, 1);
                continue;
            }
            self.cells.add(plan.cells.busy_polls, 1);
            seen += packets.len();
            self.dispatch(plan, port, &mut packets, io, now);
        }
        seen
    }

    fn dispatch(
        &mut self,
        plan: &Plan,
        port: PortIndex,
        packets: &mut Packets,
        io: &mut impl Io,
        now: Time,
    ) {
        let (Some(entry), Some(cells)) =
            (plan.entries.get(port.index()), plan.cells.ports.get(port.index()))
        else {
            return;
        };
        self.cells.add(cells.rx_packets, packets.len() as u64);
        for packet in packets.iter() {
            packet.prefetch_data();
        }
        if packets.iter().any(|p| !p.is_contiguous()) {
            self.join_segments(plan, cells, packets);
        }
        let mut burst = self.spare.pop().unwrap_or_else(|| Box::new(Burst::empty()));
        let bytes = burst.fill(packets, |packet, why| {
            self.drop(packet, plan.cells.malformed.plus(why.index()));
        });
        self.cells.add(cells.rx_bytes, bytes);
        match entry {
            Entry::All(program) => {
                // The whole burst is the program's, as it lies.
                if let Some(slot) = self.bursts.get_mut(usize::from(program.0)) {
                    std::mem::swap(slot, &mut burst);
                    self.touched.push(*program);
                }
            }
            Entry::Matched { classifier, programs } => {
                let mut found = [0u32; BURST_MAX];
                classifier.look_up_headers(burst.headers(), port, false, &mut found);
                for ((packet, headers), found) in burst.drain().zip(found) {
                    match (found as usize).checked_sub(1).and_then(|i| programs.get(i)) {
                        Some(program) => self.enter(plan, *program, packet, headers),
                        None => self.drop(packet, plan.cells.no_chain),
                    }
                }
            }
            Entry::Closed => {
                for (packet, _) in burst.drain() {
                    self.drop(packet, plan.cells.no_chain);
                }
            }
        }
        self.spare.push(burst);
        while let Some(program) = self.touched.pop() {
            self.run(plan, program, port, io, now);
        }
        self.flush(plan, io);
    }

    /// Brings each packet into one segment, as all that follows wants it. What does not fit one is dropped.
    #[cold]
    fn join_segments(&mut self, plan: &Plan, cells: &PortCells, packets: &mut Packets) {
        for mut packet in packets.take() {
            if packet.is_contiguous() || packet.linearize() {
                packets.push(packet);
            } else {
                self.cells.add(cells.rx_bytes, u64::from(packet.len()));
                self.drop(packet, plan.cells.scattered);
            }
        }
    }

    /// Adds a packet to its program's burst.
    #[inline(always)]
    fn enter(&mut self, plan: &Plan, program: ProgramId, packet: Packet, headers: &Headers) {
        let Some(burst) = self.bursts.get_mut(usize::from(program.0)) else {
            return self.drop(packet, plan.cells.no_chain);
        };
        if burst.is_empty() {
            self.touched.push(program);
        }
        burst.push(packet, headers);
    }

    /// Runs a program on the packets of its burst.
    fn run(&mut self, plan: &Plan, id: ProgramId, port: PortIndex, io: &mut impl Io, now: Time) {
        let at = usize::from(id.0);
        let empty = self.spare.pop().unwrap_or_else(|| Box::new(Burst::empty()));
        let (Some(program), Some(slot)) = (plan.programs.get(at), self.bursts.get_mut(at)) else {
            return;
        };
        let mut burst = std::mem::replace(slot, empty);
        if burst.is_empty() {
            self.spare.push(burst);
            return;
        }
        burst.in_port = port;
        burst.direction = program.direction;
        self.cells.add(program.packets, burst.len() as u64);
        self.cells.add(program.bytes, burst.bytes());
        for (step, reroutes) in program.steps.iter().zip(&program.reroutes) {
            self.step(plan, *step, reroutes, &mut burst, now);
            if burst.is_empty() {
                break;
            }
        }
        if let Some(to) = program.to {
            self.leave(plan, to, &mut burst, io);
        } else {
            for (packet, _) in burst.drain() {
                self.drop(packet, plan.cells.no_chain);
            }
        }
        self.spare.push(burst);
        while let Some((to, packet)) = self.outbox.pop() {
            self.queue(plan, to, packet, io);
        }
    }

    /// One function on a burst: its answers are carried out and counted.
    #[inline]
    fn step(
        &mut self,
        plan: &Plan,
        at: usize,
        reroutes: &[Option<ProgramId>],
        burst: &mut Burst,
        now: Time,
    ) {
        let Some(function) = plan.functions.get(at) else { return };
        let cells = &function.cells;
        self.cells.add(cells.packets, burst.len() as u64);
        self.cells.add(cells.bytes, burst.bytes());
        let start = cycles();
        match &function.built.nf {
            Nf::Flow(nf) => {
                nf.decide_burst(burst, &mut |rule| {
                    self.cells.add(cells.rules.plus(rule as usize), 1)
                });
            }
            Nf::Packet(_) => {
                if let Some(Some(nf)) = self.instances.get_mut(at) {
                    let mut cx = Cx {
                        now,
                        cells: &self.cells,
                        counters: cells.counters,
                        created: plan.cells.created,
                        consumed: plan.cells.consumed,
                        pool: &self.pool,
                        outbox: &mut self.outbox,
                    };
                    nf.process(burst, &mut cx);
                }
            }
        }
        self.cells.add(cells.cycles, cycles().wrapping_sub(start));
        burst.settle(|packet, headers, Reason(why)| {
            match reroutes.get(usize::from(why)).copied().flatten() {
                Some(program) => self.enter(plan, program, packet, headers),
                None => self.drop(packet, cells.drops.plus(usize::from(why))),
            }
        });
    }

    /// Puts a program's packets into the buffer of their port: as they lie, when nothing waits there.
    #[inline]
    fn leave(&mut self, plan: &Plan, to: PortIndex, burst: &mut Burst, io: &mut impl Io) {
        let Some(buffer) = self.out.get_mut(to.index()) else { return };
        if buffer.is_empty() {
            burst.move_packets(buffer);
            return self.transmit(plan, to, io);
        }
        for (packet, _) in burst.drain() {
            self.queue(plan, to, packet, io);
        }
    }

    #[inline(always)]
    fn queue(&mut self, plan: &Plan, to: PortIndex, packet: Packet, io: &mut impl Io) {
        let Some(buffer) = self.out.get_mut(to.index()) else {
            return self.drop(packet, plan.cells.no_chain);
        };
        buffer.push(packet);
        if buffer.is_full() {
            self.transmit(plan, to, io);
        }
    }

    /// Sends what is waiting.
    #[inline]
    fn flush(&mut self, plan: &Plan, io: &mut impl Io) {
        for port in (0..self.out.len()).filter_map(|p| u8::try_from(p).ok()).map(PortIndex) {
            if self.out.get(port.index()).is_some_and(|b| !b.is_empty()) {
                self.transmit(plan, port, io);
            }
        }
        Packet::free_all(&mut self.dead);
    }

    /// Sends a port's buffer. A ring that stays full is tried again a few times, then the rest is dropped.
    fn transmit(&mut self, plan: &Plan, port: PortIndex, io: &mut impl Io) {
        let (Some(buffer), Some(cells)) =
            (self.out.get_mut(port.index()), plan.cells.ports.get(port.index()))
        else {
            return;
        };
        let all = buffer.len();
        let bytes = |packets: &Packets| packets.iter().map(|p| u64::from(p.len())).sum::<u64>();
        let all_bytes = bytes(buffer);
        for _ in 0..TRANSMIT_TRIES {
            io.transmit(port, buffer);
            if buffer.is_empty() {
                break;
            }
            std::hint::spin_loop();
        }
        let left = buffer.len();
        self.cells.add(cells.tx_packets, (all - left) as u64);
        self.cells.add(cells.tx_bytes, all_bytes - bytes(buffer));
        if left > 0 {
            self.cells.add(cells.tx_full, left as u64);
            Packet::free_all(buffer);
        }
    }

    /// Ends a packet under a name.
    #[inline]
    fn drop(&mut self, packet: Packet, reason: CellId) {
        self.cells.add(reason, 1);
        self.dead.push(packet);
        if self.dead.is_full() {
            Packet::free_all(&mut self.dead);
        }
    }
}

/// About ten microseconds of a driver that makes room as fast as it can.
const TRANSMIT_TRIES: usize = 64;
