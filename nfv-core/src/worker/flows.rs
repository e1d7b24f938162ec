//! Packets of flows: one lookup, one action; and what happens to the first packet of one.
//!
//! ```text
//!   found, decided by what is true now --> follow TCP, write the time, count the path, rewrite      (act)
//!   found, decided before a change     --> ask all functions again, keep what they kept             (again)
//!   not found                          --> ask all functions, keep the flow                         (first)
//! ```

mod act;
mod cookies;
mod decide;
mod errors;
mod guards;
mod let_go;
mod life;
mod moves;
mod renew;

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::act::undo;
use self::cookies::Made;
pub(super) use self::cookies::become_of;
use self::decide::in_order;
use self::guards::Guards;
pub(super) use self::moves::Flows;
use super::Seat as WorkerSeat;
use super::mates::Mates;
use crate::account::Cells;
use crate::burst::{Burst, Slot, Verdict};
use crate::chain::compile::{Plan, ProgramId};
use crate::chain::piece::Piece;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, ReserveError};
use crate::flow::{
    Address, FlowKey, FlowLimits, FlowPage, FlowRef, Paths, SHARDS, Secret, Side, Table, Tick,
    Wheel, flag, is_tracked, quoted,
};
use crate::nf::{Direction, Lookup, Nf, PortIndex, Shard, Tracking};
use crate::packet::{Headers, L3, is_icmp_error};

/// The flows of a worker.
#[derive(Debug)]
pub(super) struct FlowEngine {
    v4: Table<[u8; 4]>,
    v6: Table<[u8; 16]>,
    common: Common,
}

/// What the families share.
#[derive(Debug)]
struct Common {
    shards: Box<[FlowShard]>,
    paths: Paths,
    limits: FlowLimits,
    /// Most flows of this worker: its shards' part.
    max: u32,
    /// Flows of the other family.
    others: u32,
    /// What flows must have been decided under.
    generation: u32,
    /// The sum of the functions' generations that it stands for.
    seen: u32,
    /// Flows that were forgotten: a reference found before that may be another's now.
    forgotten: u32,
    /// What that was when the packets that came in were looked up.
    looked_up: u32,
    sweep: Sweep,
    /// Until when connections that are under way are taken into chains that kept no flows before.
    picks_up_until: Time,
    guards: Guards,
    /// Packets that were made while a burst was at a piece.
    made: ArrayVec<Made, BURST_MAX>,
    seat: WorkerSeat,
    mates: Arc<Mates>,
}

/// Where the look for flows whose time is up has come to.
#[derive(Debug)]
struct Sweep {
    /// All is done up to this tick.
    done: Tick,
    /// The next shard to look at, when the look was broken off.
    shard: usize,
}

/// A shard: when its flows are to be looked at, and its slice of every function.
struct FlowShard {
    /// By family, then not established or established.
    wheels: [[Wheel; 2]; 2],
    slices: Vec<Box<dyn Any + Send>>,
    /// About how many packets came.
    packets: u64,
}

impl std::fmt::Debug for FlowShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowShard").field("wheels", &self.wheels).finish_non_exhaustive()
    }
}

/// What is the same for all packets of a burst at a piece.
#[derive(Clone)]
struct Seat<'p> {
    plan: &'p Plan,
    piece: &'p Piece,
    number: u16,
    place: u16,
    cells: &'p Cells,
    now: Time,
    tick: Tick,
    in_port: PortIndex,
    direction: Direction,
    /// How closely connections are followed, now.
    tracking: Tracking,
    /// Flows forgotten when the burst was looked up.
    forgotten: u32,
    /// What the piece's first function found for the packet at hand, if it was asked.
    hint: Cell<Option<u32>>,
    /// Length of the packet at hand, where it is counted by itself.
    bytes: Cell<u32>,
    /// A packet is longer or shorter than it was.
    resized: Cell<bool>,
}

/// A packet goes no further.
struct Refused(Verdict);

/// By which port a packet leaves.
enum Leaves {
    /// Where its chain ends.
    ByChain,
    /// The one that received it.
    Back,
    /// Where its chain ends, in a tunnel: it is longer than it was.
    InTunnel,
}

impl FlowEngine {
    /// Without flows. `seat`: whose they are; all workers share the number that there may be.
    pub fn new(
        plan: &Plan,
        seat: WorkerSeat,
        mates: Arc<Mates>,
        now: Time,
    ) -> Result<Self, ReserveError> {
        let secret = Secret::random();
        let tick = Tick::of(now);
        let wheels =
            || [[Wheel::new(tick), Wheel::new(tick)], [Wheel::new(tick), Wheel::new(tick)]];
        let slices = |index: u16| {
            let shard = Shard { index, of: SHARDS };
            let slice = |nf: &Nf| -> Box<dyn Any + Send> {
                match nf {
                    Nf::Flow(nf) => nf.any_slice(shard),
                    Nf::Packet(_) => Box::new(()),
                }
            };
            plan.functions.iter().map(|f| slice(&f.built.nf)).collect()
        };
        let shard = |index| FlowShard { wheels: wheels(), slices: slices(index), packets: 0 };
        // Shards may all come to be this worker's.
        let (v4, v6) = (Table::new(plan.flows.max, secret)?, Table::new(plan.flows.max, secret)?);
        mates.add_growing(v4.ahead().into_iter().chain(v6.ahead()));
        Ok(Self {
            v4,
            v6,
            common: Common {
                shards: (0..SHARDS).map(shard).collect(),
                paths: Paths::new(),
                limits: plan.flows,
                max: part_of(plan.flows.max, mates.shards_of(seat.index)),
                others: 0,
                generation: 1,
                seen: generations(plan),
                forgotten: 0,
                looked_up: 0,
                sweep: Sweep { done: tick, shard: 0 },
                picks_up_until: Time(0),
                guards: Guards::new(plan, mates.shards_of(seat.index)),
                made: ArrayVec::new(),
                seat,
                mates,
            },
        })
    }

    /// Changes to another plan: all flows are decided again at their next packet. `paths`: none yet; those before, then.
    pub fn change(&mut self, plan: &Plan, paths: &mut Paths, now: Time) {
        let common = &mut self.common;
        std::mem::swap(&mut common.paths, paths);
        // The tables were made for as many as there might be when the run began.
        let idle_and_full = plan.flows;
        common.limits = FlowLimits { max: common.limits.max, ..idle_and_full };
        common.generation = common.generation.wrapping_add(1);
        common.seen = generations(plan);
        common.guards.change(plan, common.mates.shards_of(common.seat.index));
        self.pick_up(plan, now);
    }

    /// Takes connections that are under way into chains that kept no flows until now, for a while.
    pub fn pick_up(&mut self, plan: &Plan, now: Time) {
        if plan.pieces.iter().any(|p| p.is_fresh) {
            self.common.picks_up_until = Time(now.0.saturating_add(PICK_UP_NS));
        }
    }

    /// Whether connections that are under way may begin with what looks like an answer.
    #[inline]
    pub fn picks_up(&self, now: Time) -> bool {
        now < self.common.picks_up_until
    }

    /// By shard, the slices of all functions.
    pub fn slices(&mut self) -> impl Iterator<Item = &mut Vec<Box<dyn Any + Send>>> {
        self.common.shards.iter_mut().map(|shard| &mut shard.slices)
    }

    /// Fills a page of the list of flows.
    pub fn list(&self, page: &mut FlowPage, now: Time) {
        let Some(from) = page.next else { return };
        let tick = Tick::of(now);
        let (is_v6, at) = (from >> 32 != 0, (from as u32).max(1));
        page.next = if is_v6 {
            let next = page.fill(&self.v6, at, tick);
            (next < self.v6.end()).then_some(V6 | u64::from(next))
        } else {
            let next = page.fill(&self.v4, at, tick);
            Some(if next < self.v4.end() { u64::from(next) } else { V6 })
        };
    }

    /// The shard that a packet is of whose flow is not known here; `None`: it is of no flow.
    ///
    /// `place`: where it came in.
    #[cold]
    pub fn shard(&self, data: &[u8], h: &Headers, place: u16) -> Option<u8> {
        // An error goes where the answers of the packet go that it quotes.
        let quote = is_icmp_error(h).then(|| quoted(data, h)).flatten();
        let h = match &quote {
            Some(inner) => inner,
            None if is_tracked(h) => h,
            None => return None,
        };
        let turned = quote.is_some();
        Some(match h.kind {
            L3::Ipv4 => self.common.shard(looked_up::<[u8; 4]>(h, place, turned)),
            _ => self.common.shard(looked_up::<[u8; 16]>(h, place, turned)),
        })
    }

    /// Looks whether any function changed its mind: once a burst, before its packets are looked up.
    #[inline]
    pub fn refresh(&mut self, plan: &Plan) {
        self.common.looked_up = self.common.forgotten;
        let seen = generations(plan);
        if seen != self.common.seen {
            self.common.seen = seen;
            self.common.generation = self.common.generation.wrapping_add(1);
        }
    }

    /// For each packet the flow that it is of.
    #[inline]
    pub fn look_up(&self, headers: &[Headers], found: &mut [FlowRef; BURST_MAX], place: u16) {
        let mut keys4: ArrayVec<FlowKey<[u8; 4]>, BURST_MAX> = ArrayVec::new();
        let mut keys6: ArrayVec<FlowKey<[u8; 16]>, BURST_MAX> = ArrayVec::new();
        let (mut at4, mut at6) = ([0u8; BURST_MAX], [0u8; BURST_MAX]);
        for (i, h) in headers.iter().enumerate().take(BURST_MAX) {
            if !is_tracked(h) {
                continue;
            }
            if h.kind == L3::Ipv4 {
                if let Some(at) = at4.get_mut(keys4.len()) {
                    *at = i as u8;
                }
                keys4.push(FlowKey::of(h, place));
            } else {
                if let Some(at) = at6.get_mut(keys6.len()) {
                    *at = i as u8;
                }
                keys6.push(FlowKey::of(h, place));
            }
        }
        if keys4.len() == headers.len() {
            return self.v4.look_up_burst(&keys4, found);
        }
        let mut some = [FlowRef::NONE; BURST_MAX];
        found.fill(FlowRef::NONE);
        let mut put = |some: &[FlowRef; BURST_MAX], at: &[u8; BURST_MAX], n: usize| {
            for (reference, i) in some.iter().zip(at).take(n) {
                if let Some(found) = found.get_mut(usize::from(*i)) {
                    *found = *reference;
                }
            }
        };
        self.v4.look_up_burst(&keys4, &mut some);
        put(&some, &at4, keys4.len());
        self.v6.look_up_burst(&keys6, &mut some);
        put(&some, &at6, keys6.len());
    }

    /// The program that a packet of a flow takes.
    #[inline]
    pub fn program_of(&self, plan: &Plan, kind: L3, found: FlowRef) -> Option<ProgramId> {
        let (piece, backwards, generation) = match kind {
            L3::Ipv4 => self
                .v4
                .get(found.entry())
                .map(|e| (e.piece, e.is(flag::BACKWARDS), e.generation))?,
            _ => self
                .v6
                .get(found.entry())
                .map(|e| (e.piece, e.is(flag::BACKWARDS), e.generation))?,
        };
        let answers = found.side() == Side::Answer;
        // Who begins flows may be led elsewhere now.
        if generation != self.common.generation && !answers {
            return None;
        }
        let [forward, reverse] = plan.pieces.get(usize::from(piece))?.programs?;
        Some(if answers == backwards { forward } else { reverse })
    }

    /// Takes the packets of a burst through a piece; those that go no further have their verdict then.
    #[inline]
    pub fn run(&mut self, plan: &Plan, number: usize, burst: &mut Burst, cells: &Cells, now: Time) {
        let Some(piece) = plan.pieces.get(number) else { return };
        let (in_port, direction) = (burst.in_port, burst.direction);
        let later = piece.place(direction);
        if let Some(place) = later {
            let (headers, found) = burst.flows_mut();
            self.look_up(headers, found, place);
        }
        let place = later.unwrap_or_else(|| plan.entrance(in_port));
        let seat = Seat {
            plan,
            piece,
            number: number as u16,
            place,
            cells,
            now,
            tick: Tick::of(now),
            in_port,
            direction,
            tracking: if piece.is_fresh && self.picks_up(now) {
                Tracking::Follow
            } else {
                piece.tracking
            },
            forgotten: self.common.forgotten,
            hint: Cell::new(None),
            bytes: Cell::new(0),
            resized: Cell::new(false),
        };
        let mut hints = [0; BURST_MAX];
        let hinted = self.prepare_unknown(&seat, burst, &mut hints);
        let (mut back, mut longer) = (0u32, false);
        for (i, mut slot) in burst.slots().enumerate() {
            if hinted {
                seat.hint.set(hints.get(i).copied());
            }
            let result = match slot.headers.kind {
                L3::Ipv4 => {
                    self.common.others = self.v6.len();
                    self.common.packet(&mut self.v4, &seat, &mut slot)
                }
                L3::Ipv6 => {
                    self.common.others = self.v4.len();
                    self.common.packet(&mut self.v6, &seat, &mut slot)
                }
                L3::Arp | L3::Other => self.common.alone(&seat, &slot),
            };
            match result {
                Ok(Leaves::ByChain) => {}
                Ok(Leaves::Back) => back |= 1 << i,
                Ok(Leaves::InTunnel) => longer = true,
                Err(Refused(verdict)) => *slot.verdict = verdict,
            }
        }
        self.sample(burst);
        if longer || seat.resized.get() {
            burst.recount();
        }
        if back != 0 {
            burst.allow_detours();
            for (_, slot) in burst.slots().enumerate().filter(|(i, _)| back & (1 << i) != 0) {
                *slot.out = in_port;
            }
        }
    }

    /// Has the shard of a burst's first packet stand for all of it: over many bursts each shard gets what it has.
    #[inline]
    fn sample(&mut self, burst: &Burst) {
        let (headers, flows) = burst.flows();
        let (Some(h), Some(flow)) = (headers.first(), flows.first()) else { return };
        let shard = match h.kind {
            L3::Ipv4 => self.v4.get(flow.entry()).map(|e| e.shard),
            _ => self.v6.get(flow.entry()).map(|e| e.shard),
        };
        let shard = shard.and_then(|shard| self.common.shards.get_mut(usize::from(shard)));
        if let Some(shard) = shard.filter(|_| flow.is_some()) {
            shard.packets += headers.len() as u64;
        }
    }

    /// For flows that begin in this burst: looks up for all what the first function looks up, and asks the CPU for what
    /// the others will read. Whether there is any.
    #[inline]
    fn prepare_unknown(
        &self,
        seat: &Seat<'_>,
        burst: &Burst,
        hints: &mut [u32; BURST_MAX],
    ) -> bool {
        let (headers, found) = burst.flows();
        if found.iter().all(|flow| flow.is_some()) {
            return false;
        }
        self.v4.prefetch_entry(self.v4.next_free());
        let function = |at: usize| match &seat.plan.functions.get(at)?.built.nf {
            Nf::Flow(nf) => Some(nf),
            Nf::Packet(_) => None,
        };
        let functions = in_order(seat.piece, seat.direction).filter_map(|f| function(f.at?));
        let (in_port, direction) = (seat.in_port, seat.direction);
        for (i, nf) in functions.enumerate() {
            if i == 0 {
                nf.hint_burst(Lookup { headers, in_port, direction }, hints);
            }
            for (h, _) in headers.iter().zip(found).filter(|(_, flow)| !flow.is_some()) {
                nf.prefetch_flow(h);
            }
        }
        true
    }

    /// Makes a packet what it was before its flow's rewrite: who sent it is to know it in what it is told about it.
    #[cold]
    pub fn undo(&self, slot: &mut Slot<'_>) {
        match slot.headers.kind {
            L3::Ipv4 => undo(&self.v4, slot),
            L3::Ipv6 => undo(&self.v6, slot),
            L3::Arp | L3::Other => {}
        }
    }

    /// A packet that was made while the last burst was at a piece; each of them once.
    #[inline]
    pub fn take_made(&mut self) -> Option<Made> {
        self.common.made.pop()
    }

    /// Adds what was counted by paths to the counters of functions and rules.
    pub fn add_up(&mut self, cells: &Cells) {
        self.common.paths.add_up(cells);
    }

    /// Ends flows whose time is up, a bounded number at a time.
    #[inline]
    pub fn expire(&mut self, plan: &Plan, cells: &Cells, now: Time) {
        let tick = Tick::of(now);
        if tick.since(self.common.sweep.done) >= SWEEP_TICKS {
            self.sweep(plan, cells, now, tick);
        }
    }

    /// Ends all flows whose time is up.
    pub fn expire_all(&mut self, plan: &Plan, cells: &Cells, now: Time) {
        let tick = Tick::of(now);
        while tick.since(self.common.sweep.done) > 0 {
            self.sweep(plan, cells, now, tick);
        }
    }

    fn sweep(&mut self, plan: &Plan, cells: &Cells, now: Time, tick: Tick) {
        let mut budget = SWEEP_MAX;
        let seat = Sweeping { plan, cells, now, tick };
        while self.common.sweep.shard < usize::from(SHARDS) {
            let shard = self.common.sweep.shard;
            for established in [0, 1] {
                self.common.expire(&mut self.v4, &seat, shard, established, &mut budget);
                self.common.expire(&mut self.v6, &seat, shard, established, &mut budget);
            }
            if budget == 0 {
                return;
            }
            self.common.sweep.shard += 1;
        }
        self.common.sweep = Sweep { done: tick, shard: 0 };
    }
}

fn looked_up<A: Address>(h: &Headers, place: u16, turned: bool) -> FlowKey<A> {
    let key = FlowKey::of(h, place);
    if turned { FlowKey { tuple: key.tuple.turned(), ..key } } else { key }
}

/// What a sweep works with.
struct Sweeping<'p> {
    plan: &'p Plan,
    cells: &'p Cells,
    now: Time,
    tick: Tick,
}

/// How many of `max` flows so many shards may have.
fn part_of(max: u32, shards: u16) -> u32 {
    (u64::from(max) * u64::from(shards)).div_ceil(u64::from(SHARDS)) as u32
}

/// The sum of the functions' generations: it changes when any of them does.
#[inline]
fn generations(plan: &Plan) -> u32 {
    use std::sync::atomic::Ordering;
    let all = plan.functions.iter().filter_map(|f| f.built.generation.as_ref());
    all.fold(0, |sum, g| sum.wrapping_add(g.load(Ordering::Relaxed)))
}

/// In [`FlowPage::next`]: the other family's flows.
const V6: u64 = 1 << 32;
/// Connections that are under way are picked up for so long after a reload: five minutes.
const PICK_UP_NS: u64 = 300_000_000_000;
/// Ticks between two sweeps: 134 ms.
const SWEEP_TICKS: u32 = 8;
/// Most flows that are looked at between two polls: about 10 us.
const SWEEP_MAX: u32 = 32;
