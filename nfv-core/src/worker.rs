//! The loop of a worker: receive, parse, dispatch, run the chain, transmit.
//!
//! One worker owns its queues, its NF instances and its counters; nothing here is shared and written. Packets move
//! `receive -> parse -> burst of their program -> steps -> buffer of a port -> transmit`, and every way out of that
//! line is counted where it leaves it. The same code serves a run (queues of DPDK) and a replay (captures): [`Io`].

mod answer;
mod bell;
mod change;
mod checked;
mod desk;
mod drain;
mod flows;
mod fragments;
mod handed;
mod idle;
mod instance;
mod kernel;
mod made;
mod mates;
mod moves;
mod output;
mod routed;
mod sort;
mod step;
mod tagged;
mod timed;
mod tunnel;

use std::sync::Arc;

use self::answer::Budget;
pub use self::bell::Bell;
pub use self::change::Next;
pub use self::desk::{Desk, Order};
pub use self::drain::Drain;
use self::flows::FlowEngine;
use self::fragments::Reassembly;
pub use self::idle::Rest;
use self::instance::Instance;
pub use self::kernel::KernelQueues;
use self::mates::Came;
pub use self::mates::Mates;
pub use self::moves::{Held, Hold, Left, Parcel};
use self::tagged::TagCounts;
use crate::account::{CellId, Cells};
use crate::burst::{Burst, Refused, Routing, Verdict};
use crate::chain::compile::{Entry, Plan, Program, ProgramId, Step};
use crate::clock::Time;
use crate::dpdk::{Mempool, Packet, Packets, ReserveError};
use crate::flow::{Asked, FlowRef, ShardSet};
use crate::nf::{Alarm, Answer, Made, Nf, OUTBOX_MAX, Place, PortIndex, Shard};
use crate::packet::Headers;

/// Where packets come from and go to: one queue pair a port, or captures.
pub trait Io {
    /// Receives packets of a port into `packets`, which is empty.
    fn receive(&mut self, port: PortIndex, packets: &mut Packets);

    /// Sends packets out of a port, from the front; what it does not take stays, in order.
    fn transmit(&mut self, port: PortIndex, packets: &mut Packets);

    /// What is sent from here on is sent at that time, for who writes times down.
    fn at(&mut self, _now: Time) {}
}

/// Which worker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Below `of`.
    pub index: u16,
    /// How many workers there are.
    pub of: u16,
}

/// What ties a worker to others.
#[derive(Clone, Debug)]
pub struct Ties {
    /// By port: the way to its twin.
    pub kernel: Vec<Option<Arc<KernelQueues>>>,
    /// Where orders come.
    pub desk: Arc<Desk>,
    /// The other workers.
    pub mates: Arc<Mates>,
}

impl Ties {
    /// Of a worker that is alone, without orders and twins.
    ///
    /// # Errors
    /// There is no address space.
    pub fn none() -> Result<Self, ReserveError> {
        let mates = Arc::new(Mates::new(1, 1)?);
        Ok(Self { kernel: Vec::new(), desk: Arc::default(), mates })
    }
}

/// A worker: the plan that it shares with the others, and what is its own.
#[derive(Debug)]
pub struct Worker {
    plan: Arc<Plan>,
    own: Own,
    desk: Arc<Desk>,
    /// Who has something for it rings.
    bell: Arc<Bell>,
    /// Polls until the next look at the desk.
    polls_to_look: u32,
}

/// What belongs to one worker alone.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a burst of 3 KiB changes places by its pointer")]
struct Own {
    cells: Arc<Cells>,
    pool: Mempool,
    /// By function.
    instances: Vec<Instance>,
    /// Where packets come in.
    inbox: Option<Box<Burst>>,
    /// A burst for each program, empty between receive calls.
    bursts: Vec<Option<Box<Burst>>>,
    /// Programs whose burst has packets.
    touched: Vec<ProgramId>,
    /// Packets on their way out, by port.
    out: Vec<Packets>,
    outbox: Vec<(PortIndex, Packet)>,
    /// Packets that were made at a piece, and a burst for them.
    made: Vec<Made>,
    spare: Option<Box<Burst>>,
    /// Packets to free, a burst at a time.
    dead: Packets,
    /// Neighbours that it asked for.
    asked: Asked,
    /// ICMP errors that it may still send.
    answers: Budget,
    /// By port: where packets for the box itself go.
    kernel: Vec<Option<Arc<KernelQueues>>>,
    /// Polls until the next look at what the kernel sends.
    polls_left: u32,
    seat: Seat,
    mates: Arc<Mates>,
    /// Packets that were taken from the inbox.
    taken: u64,
    /// While shards come to this worker.
    hold: Option<Box<Hold>>,
    /// Shards that are this worker's until it lets their flows go.
    keeps: ShardSet,
    /// While its queues may have what NICs send elsewhere by now.
    drain: Option<Box<Drain>>,
    /// The flows, where a chain keeps any.
    flows: Option<Box<FlowEngine>>,
    /// Fragments, where flows are kept.
    fragments: Option<Box<Reassembly>>,
    /// What packets with a tag came.
    tags: TagCounts,
    /// Polls until what paths and classes counted is added up.
    polls_to_sum: u32,
    /// Packets until the NIC's tag of one is looked at, and whose turn it is.
    unchecked: u32,
    turn: u32,
    /// When it looked at the ports last, if there were packets then.
    busy_since: Option<Time>,
    /// When the packet NFs want to be woken.
    alarm: Alarm,
}

impl Worker {
    /// A worker with its own instances of the packet NFs, and its own flows.
    ///
    /// `pool`: where NFs take packets that they make. `now`: when it starts.
    ///
    /// # Errors
    /// There is no address space for the flows.
    pub fn new(
        plan: Arc<Plan>,
        cells: Arc<Cells>,
        pool: Mempool,
        seat: Seat,
        ties: Ties,
        now: Time,
    ) -> Result<Self, ReserveError> {
        let Ties { kernel, desk, mates } = ties;
        let bell = mates.bell(seat.index);
        desk.has_bell(bell.clone());
        kernel.iter().flatten().filter(|_| seat.index == 0).for_each(|k| k.has_bell(bell.clone()));
        let shard = Shard { index: seat.index, of: seat.of };
        let keeps = !plan.pieces.is_empty();
        let flows = keeps
            .then(|| FlowEngine::new(&plan, seat, mates.clone(), now).map(Box::new))
            .transpose()?;
        let burst = || Some(Box::new(Burst::empty()));
        let instance = |nf: &Nf| Instance::of(nf, shard);
        let own = Own {
            instances: plan.functions.iter().map(|f| instance(&f.built.nf)).collect(),
            inbox: burst(),
            bursts: plan.programs.iter().map(|_| burst()).collect(),
            touched: Vec::with_capacity(plan.programs.len()),
            out: plan.ports.iter().map(|_| Packets::new()).collect(),
            outbox: Vec::with_capacity(OUTBOX_MAX),
            made: Vec::with_capacity(OUTBOX_MAX),
            spare: burst(),
            dead: Packets::new(),
            asked: Asked::new(),
            answers: Budget::full(),
            // What the kernel sends is one worker's, so that it stays in order.
            polls_left: if seat.index == 0 { 0 } else { u32::MAX },
            seat,
            mates,
            taken: 0,
            hold: None,
            keeps: ShardSet::default(),
            drain: None,
            fragments: flows.is_some().then(|| Box::new(Reassembly::new())),
            flows,
            tags: TagCounts::new(&plan.tag_cells),
            unchecked: 0,
            turn: 0,
            polls_to_sum: POLLS_TO_SUM,
            busy_since: None,
            alarm: Alarm::SOON,
            kernel,
            cells,
            pool,
        };
        Ok(Self { plan, own, desk, bell, polls_to_look: POLLS_TO_LOOK })
    }

    /// Adds up what is counted by flows, for a look at the counters while no packet is under way.
    pub fn settle(&mut self) {
        self.own.add_up(&self.plan);
    }

    /// Ends what waits: no packet is under way then.
    pub fn end(&mut self, io: &mut impl Io, now: Time) {
        self.desk.close();
        self.own.let_go(&self.plan, io, now);
        self.own.instances.iter_mut().for_each(|instance| instance.end(now));
        self.own.end_fragments(&self.plan);
        self.own.end_hold(&self.plan);
        self.settle();
    }

    /// Looks at each port once. Returns how many packets there were.
    #[inline]
    pub fn poll(&mut self, io: &mut impl Io, now: Time) -> usize {
        self.polls_to_look = self.polls_to_look.wrapping_sub(1);
        if self.polls_to_look == 0 {
            self.polls_to_look = POLLS_TO_LOOK;
            if let Some(order) = self.desk.next() {
                self.carry_out(order, io, now);
            }
        }
        self.own.poll(&self.plan, io, now)
    }

    /// Takes packets that a port received to their ends, after all that time has brought to its end.
    pub fn dispatch(
        &mut self,
        port: PortIndex,
        packets: &mut Packets,
        io: &mut impl Io,
        now: Time,
    ) {
        self.wake_until(io, now);
        io.at(now);
        let Some(mut burst) = self.own.inbox.take() else { return };
        burst.incoming().extend(packets.drain(..));
        if let Some(flows) = &mut self.own.flows {
            flows.expire_all(&self.plan, &self.own.cells, now);
        }
        self.own.expire_fragments(&self.plan, now);
        if self.own.alarm.is_due(now) {
            self.own.wake(&self.plan, io, now);
        }
        self.own.dispatch(&self.plan, port, &mut burst, io, now);
        self.own.inbox = Some(burst);
    }
}

impl Own {
    #[inline]
    fn poll(&mut self, plan: &Plan, io: &mut impl Io, now: Time) -> usize {
        let mut seen = 0;
        if let Some(start) = self.busy_since {
            self.cells.add(plan.cells.busy_nanoseconds, now.since(start));
        }
        let Some(mut burst) = self.inbox.take() else { return 0 };
        for port in (0..self.out.len()).filter_map(|p| u8::try_from(p).ok()).map(PortIndex) {
            io.receive(port, burst.incoming());
            if let Some(drain) = &mut self.drain {
                drain.saw(port, burst.len(), now);
            }
            if burst.is_empty() {
                self.cells.add(plan.cells.idle_polls, 1);
                continue;
            }
            self.cells.add(plan.cells.busy_polls, 1);
            seen += burst.len();
            self.dispatch(plan, port, &mut burst, io, now);
        }
        self.inbox = Some(burst);
        if self.alarm.is_due(now) {
            seen += self.wake(plan, io, now);
        }
        if self.mates.several() {
            seen += self.take_handed(plan, io, now);
        }
        if !self.kernel.is_empty() {
            self.look_at_kernel(plan, io);
        }
        if let Some(flows) = &mut self.flows {
            flows.expire(plan, &self.cells, now);
        }
        self.polls_to_sum = self.polls_to_sum.saturating_sub(1);
        if seen == 0 || self.polls_to_sum == 0 {
            self.polls_to_sum = POLLS_TO_SUM;
            self.add_up(plan);
            self.expire_fragments(plan, now);
        }
        self.busy_since = (seen > 0).then_some(now);
        seen
    }

    /// Takes a burst that a port received to its packets' ends; it is empty then.
    fn dispatch(
        &mut self,
        plan: &Plan,
        port: PortIndex,
        burst: &mut Burst,
        io: &mut impl Io,
        now: Time,
    ) {
        let (Some(entry), Some(cells)) =
            (plan.entries.get(port.index()), plan.cells.ports.get(port.index()))
        else {
            return;
        };
        self.cells.add(cells.rx_packets, burst.len() as u64);
        if let Some(program) = self.passage(plan, entry, cells) {
            let bytes = burst.check(|packet, why| self.drop(packet, plan.cells.refused_by(why)));
            self.cells.add(cells.rx_bytes, bytes);
            self.run(plan, program, burst, port, io, now);
            return self.flush(plan, io);
        }
        let bytes = burst.parse(|packet, why| {
            if matches!(why, Refused::Malformed(_)) {
                self.show_refused(plan, entry, (&packet, port), now);
            }
            self.drop(packet, plan.cells.refused_by(why));
        });
        self.cells.add(cells.rx_bytes, bytes);
        if let Some(check) = entry.check.get() {
            self.check_tags(check, burst);
        }
        if let Some(measured) = entry.measured.get() {
            self.measure(measured, burst);
        }
        if let Some(routed) = &cells.routed {
            self.sort_out(plan, routed, port, burst);
        }
        if self.hold.as_ref().is_some_and(|hold| hold.is_of_hashes()) {
            self.hold_hashes(plan, burst, port);
        }
        self.take_in(plan, entry, (burst, Came::ByPort), port, io, now);
        self.flush(plan, io);
    }

    /// Takes parsed packets to their programs, and runs these; then the fragments that waited for any of them.
    fn take_in(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        (burst, came): (&mut Burst, Came),
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        self.sort(plan, entry, (burst, came), port, io, now);
        self.run_touched(plan, port, io, now);
        while let Some(port) = self.take_released(burst) {
            let Some(entry) = plan.entries.get(port.index()) else { break };
            self.sort(plan, entry, (burst, Came::AsFragment), port, io, now);
            self.run_touched(plan, port, io, now);
        }
    }

    fn run_touched(&mut self, plan: &Plan, port: PortIndex, io: &mut impl Io, now: Time) {
        while let Some(program) = self.touched.pop() {
            let at = usize::from(program.0);
            // Programs form no circle, so none enters the one that runs.
            let Some(mut burst) = self.bursts.get_mut(at).and_then(Option::take) else { continue };
            self.run(plan, program, &mut burst, port, io, now);
            if let Some(slot) = self.bursts.get_mut(at) {
                *slot = Some(burst);
            }
        }
    }

    /// Adds a packet to its program's burst.
    #[inline(always)]
    fn enter(
        &mut self,
        plan: &Plan,
        program: ProgramId,
        packet: Packet,
        headers: &Headers,
        flow: FlowRef,
    ) {
        let Some(Some(burst)) = self.bursts.get_mut(usize::from(program.0)) else {
            return self.drop(packet, plan.cells.no_chain);
        };
        if burst.is_empty() {
            self.touched.push(program);
        }
        burst.push(packet, headers, flow);
    }

    /// Runs a program on a burst, which is empty then.
    #[inline]
    fn run(
        &mut self,
        plan: &Plan,
        id: ProgramId,
        burst: &mut Burst,
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        let Some(program) = plan.programs.get(usize::from(id.0)) else { return };
        self.cells.add(program.packets, burst.len() as u64);
        self.cells.add(program.bytes, burst.bytes());
        self.run_from(plan, (id, 0), burst, port, io, now);
        if !self.made.is_empty() {
            self.run_made(plan, io, now);
        }
    }

    /// Runs a program from a step on.
    #[inline(always)]
    fn run_from(
        &mut self,
        plan: &Plan,
        (id, from): (ProgramId, usize),
        burst: &mut Burst,
        port: PortIndex,
        io: &mut impl Io,
        now: Time,
    ) {
        let Some(program) = plan.programs.get(usize::from(id.0)) else {
            return burst.drain().for_each(|(packet, ..)| self.drop(packet, plan.cells.no_chain));
        };
        burst.in_port = port;
        burst.direction = program.direction;
        burst.routing = Routing::None;
        for (number, step) in program.steps.iter().enumerate().skip(from) {
            if burst.is_empty() {
                break;
            }
            match step {
                Step::Piece(piece) => self.piece(plan, *piece, burst, now),
                Step::Function { at, reroutes, changes_follow, let_go } => {
                    let Some(function) = plan.functions.get(*at) else { continue };
                    if let Some(cell) = let_go
                        && self.passes_by(function, *cell, burst, now)
                    {
                        continue;
                    }
                    if function.kind.profile.routes {
                        self.check_headers(plan, burst);
                    }
                    let place = Place { program: id, step: number + 1, port };
                    let own = (*at, reroutes.as_slice(), *changes_follow);
                    self.step(plan, function, own, place, burst, now);
                    if matches!(burst.routing, Routing::Decided | Routing::DecidedWithDetours) {
                        self.forward(plan, program.to, burst, now);
                    }
                }
            }
        }
        self.end(plan, program, burst, io);
        self.send_outbox(plan, io);
    }

    /// Sends what is left of a burst where its program ends.
    #[inline]
    fn end(&mut self, plan: &Plan, program: &Program, burst: &mut Burst, io: &mut impl Io) {
        if burst.routing == Routing::Detour {
            for (packet, out) in burst.drain_routed() {
                let to = if out == PortIndex::CHAIN { program.to } else { Some(out) };
                match to {
                    Some(to) => self.queue(plan, to, packet, io),
                    None => self.drop(packet, plan.cells.no_chain),
                }
            }
        } else if let Some(to) = program.to {
            self.leave(plan, to, burst, io);
        } else if burst.routing == Routing::Done {
            for (packet, to) in burst.drain_routed() {
                self.queue(plan, to, packet, io);
            }
        } else {
            for (packet, ..) in burst.drain() {
                self.drop(packet, plan.cells.no_chain);
            }
        }
    }

    /// The functions of a piece on a burst: packets of known flows need none of them.
    #[inline]
    fn piece(&mut self, plan: &Plan, piece: usize, burst: &mut Burst, now: Time) {
        let Some(mut flows) = self.flows.take() else { return };
        flows.run(plan, piece, burst, &self.cells, now);
        self.flows = Some(flows);
        let (port, direction) = (burst.in_port, burst.direction);
        self.take_up_made(plan, piece, port);
        burst.settle(|packet, headers, verdict| match verdict {
            Verdict::DropBy(at, why) => {
                let at = usize::from(at);
                let Some(function) = plan.functions.get(at) else { return packet.free() };
                let functions = plan.pieces.get(piece).map_or(&[][..], |p| &p.functions);
                let reroutes =
                    functions.iter().find(|f| f.at == Some(at)).map_or(&[][..], |f| &f.reroutes);
                self.refuse(plan, (function, reroutes), why, (packet, headers), port, now);
            }
            Verdict::Unkept(why) => self.drop(packet, plan.cells.unkept.plus(why.index())),
            Verdict::Cookie(at) => {
                self.give_cookie(plan, (piece, at), (packet, headers), (port, direction), now);
            }
            Verdict::Refuse(why, mtu) => {
                if let Some(error) = why.answer(headers, mtu) {
                    self.answer(plan, &packet, headers, Answer::Icmp(error), port, now);
                }
                self.drop(packet, plan.cells.refused.plus(why as usize));
            }
            _ => packet.free(),
        });
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

/// Polls between two looks at the desk: some microseconds.
const POLLS_TO_LOOK: u32 = 8;
/// Polls after which what flows counted is added up, however busy it is: a fraction of a millisecond.
const POLLS_TO_SUM: u32 = 256;
