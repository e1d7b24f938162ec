//! Packets of flows: one lookup, one action; and what happens to the first packet of one.
//!
//! ```text
//!   found, decided by what is true now --> follow TCP, write the time, count the path, rewrite      (act)
//!   found, decided before a change     --> ask all functions again, keep what they kept             (again)
//!   not found                          --> ask all functions, keep the flow                         (first)
//! ```

mod decide;
mod errors;
mod life;
mod renew;

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::decide::{About, count_once};
use super::Seat as WorkerSeat;
use super::mates::Mates;
use super::tunnel::{encapsulate, send_to};
use crate::account::Cells;
use crate::burst::{Burst, Slot, Verdict};
use crate::chain::compile::{Plan, ProgramId};
use crate::chain::piece::Piece;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, ReserveError};
use crate::flow::{
    Address, Change, Entry, FlowKey, FlowLimits, FlowPage, FlowRef, FlowRefusal, KEPT, Paths,
    SHARDS, Secret, Segment, Side, Strictness, Table, TcpTrack, Tick, Tuple, Way, Wheel, flag,
    is_tracked, quoted, rewrite,
};
use crate::nf::{Direction, FlowStage, Nf, PortIndex, Shard, Tracking, Via, upper};
use crate::packet::{Fragment, Headers, L3, is_icmp_error, protocol};

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
    /// Most flows of this worker.
    max: u32,
    /// Flows of the other family.
    others: u32,
    /// What flows must have been decided under.
    generation: u32,
    /// The sum of the functions' generations that it stands for.
    seen: u32,
    /// Flows that were forgotten: a reference found before that may be another's now.
    forgotten: u32,
    sweep: Sweep,
    /// Until when connections that are under way are taken into chains that kept no flows before.
    picks_up_until: Time,
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
    /// Length of the packet at hand, where it is counted by itself.
    bytes: Cell<u32>,
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
        let max = plan.flows.max.div_ceil(u32::from(seat.of.max(1)));
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
        let shard = |index| FlowShard { wheels: wheels(), slices: slices(index) };
        Ok(Self {
            v4: Table::new(max, secret)?,
            v6: Table::new(max, secret)?,
            common: Common {
                shards: (0..SHARDS).map(shard).collect(),
                paths: Paths::new(),
                limits: plan.flows,
                max,
                others: 0,
                generation: 1,
                seen: generations(plan),
                forgotten: 0,
                sweep: Sweep { done: tick, shard: 0 },
                picks_up_until: Time(0),
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

    /// The worker that a packet's flow is of, when it is none of this one's known ones; `None`: it is of no flow.
    #[cold]
    pub fn owner(&self, data: &[u8], h: &Headers) -> Option<u16> {
        // An error goes where the answers of the packet go that it quotes.
        let quote = is_icmp_error(h).then(|| quoted(data, h)).flatten();
        let h = match &quote {
            Some(inner) => inner,
            None if is_tracked(h) => h,
            None => return None,
        };
        let turned = quote.is_some();
        Some(match h.kind {
            L3::Ipv4 => self.common.owner(looked_up::<[u8; 4]>(h, turned)),
            _ => self.common.owner(looked_up::<[u8; 16]>(h, turned)),
        })
    }

    /// Looks whether any function changed its mind: once a burst.
    #[inline]
    pub fn refresh(&mut self, plan: &Plan) {
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
        let place = piece.place(direction);
        if place != 0 {
            let (headers, found) = burst.flows_mut();
            self.look_up(headers, found, place);
        }
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
            bytes: Cell::new(0),
        };
        self.prefetch_unknown(&seat, burst);
        let (mut back, mut longer) = (0u32, false);
        for (i, mut slot) in burst.slots().enumerate() {
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
        if longer {
            burst.recount();
        }
        if back != 0 {
            burst.allow_detours();
            for (_, slot) in burst.slots().enumerate().filter(|(i, _)| back & (1 << i) != 0) {
                *slot.out = in_port;
            }
        }
    }

    /// Asks the CPU for what the functions will read of flows that begin in this burst.
    #[inline]
    fn prefetch_unknown(&self, seat: &Seat<'_>, burst: &Burst) {
        let (headers, found) = burst.flows();
        if found.iter().all(|flow| flow.is_some()) {
            return;
        }
        self.v4.prefetch_entry(self.v4.next_free());
        let functions = seat.piece.functions.iter().filter_map(|f| f.at);
        for nf in functions.filter_map(|at| match &seat.plan.functions.get(at)?.built.nf {
            Nf::Flow(nf) => Some(nf),
            Nf::Packet(_) => None,
        }) {
            for (h, _) in headers.iter().zip(found).filter(|(_, flow)| !flow.is_some()) {
                nf.prefetch_flow(h);
            }
        }
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

fn looked_up<A: Address>(h: &Headers, turned: bool) -> FlowKey<A> {
    let key = FlowKey::of(h, 0);
    if turned { FlowKey { tuple: key.tuple.turned(), ..key } } else { key }
}

/// What a sweep works with.
struct Sweeping<'p> {
    plan: &'p Plan,
    cells: &'p Cells,
    now: Time,
    tick: Tick,
}

impl Common {
    /// One packet at a piece.
    #[inline(always)]
    fn packet<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<Leaves, Refused> {
        let found = *slot.flow;
        let known = table.get(found.entry()).is_some_and(|e| {
            found.is_some()
                && e.generation == self.generation
                && (self.forgotten == seat.forgotten
                    || e.key(found.side()) == FlowKey::of(slot.headers, seat.place))
        });
        if !known {
            return self.unknown(table, seat, slot);
        }
        self.act(table, seat, slot, found)
    }

    /// A packet of a flow that was decided under what is true now.
    #[inline(always)]
    fn act<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let side = found.side();
        let Some(entry) = table.get_mut(found.entry()) else { return Ok(Leaves::ByChain) };
        let before = entry.last_seen;
        entry.last_seen = seat.tick.0;
        let path = match side {
            Side::First => entry.paths[0],
            Side::Answer => entry.paths[1],
        };
        if entry.protocol == protocol::TCP {
            let changed = follow(entry, seat, slot, side);
            match changed {
                Ok(Change::Same) => {}
                Ok(Change::State(_)) => self.move_on(table, seat, found.entry()),
                Ok(Change::Reopened) => return self.reopened(table, seat, slot, found),
                Err(refused) => {
                    entry.last_seen = before;
                    return Err(refused);
                }
            }
        } else if side == Side::Answer && !entry.is(flag::REPLIED) {
            entry.flags |= flag::REPLIED;
            self.move_on(table, seat, found.entry());
        }
        self.paths.count(path, slot.packet.len());
        let Some(entry) = table.get(found.entry()) else { return Ok(Leaves::ByChain) };
        if entry.is(flag::REWRITE) {
            let (to, deltas) = (entry.becomes(side), entry.deltas);
            rewrite(slot.packet.data_mut(), slot.headers, to, deltas, side);
        }
        if self.paths.get(path).is_some_and(|p| p.via != 0) {
            return leave_by(seat, self.paths.via(path), slot);
        }
        Ok(Leaves::ByChain)
    }

    /// A packet whose flow is not known, or was decided before something changed, or that is of none.
    #[cold]
    fn unknown<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<Leaves, Refused> {
        if is_icmp_error(slot.headers)
            && let Some(leaves) = self.error(table, seat, slot)?
        {
            return Ok(leaves);
        }
        if !is_tracked(slot.headers) {
            return self.alone(seat, slot);
        }
        seat.bytes.set(slot.packet.len());
        let key = FlowKey::of(slot.headers, seat.place);
        // A packet before this one in the burst may have begun it.
        let found = table.look_up(&key);
        *slot.flow = found;
        if !found.is_some() {
            return self.first(table, seat, slot, key);
        }
        if table.get(found.entry()).is_some_and(|e| e.generation != self.generation) {
            self.again(table, seat, found)?;
            // It may have found another place.
            *slot.flow = table.look_up(&key);
            if !slot.flow.is_some() {
                return Err(unkept(FlowRefusal::Clash));
            }
        }
        let found = *slot.flow;
        self.act(table, seat, slot, found)
    }

    /// A packet that is of no flow: each function is asked about it alone.
    #[cold]
    fn alone(&mut self, seat: &Seat<'_>, slot: &Slot<'_>) -> Result<Leaves, Refused> {
        seat.bytes.set(slot.packet.len());
        let mut headers = *slot.headers;
        let shard = 0;
        let about = About {
            upper: upper(slot.packet, slot.headers),
            state: FlowStage::Packet,
            direction: seat.direction,
        };
        let decided = self.decide(seat, about, &mut headers, &mut [0; KEPT], shard);
        let rules = decided?.rules;
        count_once(seat, seat.direction, &rules);
        Ok(Leaves::ByChain)
    }
}

/// A segment of a connection that is known.
#[inline(always)]
fn follow<A: Address>(
    entry: &mut Entry<A>,
    seat: &Seat<'_>,
    slot: &Slot<'_>,
    side: Side,
) -> Result<Change, Refused> {
    let Some(segment) = segment(slot) else { return Ok(Change::Same) };
    let way = match side {
        Side::First => Way::Original,
        Side::Answer => Way::Reply,
    };
    match entry.track.next(way, &segment, strictness(seat.tracking)) {
        Ok(change) => Ok(change),
        // An ACK that answers what went another way: the handshake is over, or the window has moved on.
        Err(_) if entry.is(flag::ONE_WAY) && side == Side::First => {
            let Ok(track) = TcpTrack::start(&segment, Strictness::Loose) else {
                return Ok(Change::Same);
            };
            let was = std::mem::replace(&mut entry.track, track).state();
            let now = entry.track.state().filter(|now| Some(*now) != was);
            Ok(now.map_or(Change::Same, Change::State))
        }
        Err(_) if seat.tracking <= Tracking::Follow => Ok(Change::Same),
        Err(invalid) => Err(unkept(FlowRefusal::Tcp(invalid))),
    }
}

/// A TCP packet's segment; `None` for what is not TCP.
#[inline(always)]
fn segment(slot: &Slot<'_>) -> Option<Segment> {
    let h = &*slot.headers;
    // What follows a first fragment has no header.
    if h.protocol != protocol::TCP || h.l4 == 0 {
        return None;
    }
    let tcp = slot.packet.data().get(usize::from(h.l4)..)?;
    let header = u32::from(tcp.get(12)? >> 4) * 4;
    let here = u32::from(h.l3_end.saturating_sub(h.l4)).saturating_sub(header);
    // How much more there is of a segment that was cut is not known yet: no more than a datagram holds.
    let payload = if h.fragment == Fragment::First { u32::from(u16::MAX) - header } else { here };
    Segment::read(tcp, payload)
}

fn strictness(tracking: Tracking) -> Strictness {
    match tracking {
        Tracking::Check => Strictness::Strict,
        _ => Strictness::Loose,
    }
}

fn undo<A: Address>(table: &Table<A>, slot: &mut Slot<'_>) {
    let found = *slot.flow;
    let rewritten = |e: &&Entry<A>| {
        found.is_some() && e.is(flag::REWRITE) && e.becomes(found.side()) == Tuple::of(slot.headers)
    };
    let Some(entry) = table.get(found.entry()).filter(rewritten) else { return };
    let [first, answer] = entry.tuples;
    // The one side's change backwards is the other side's.
    let (was, other) = match found.side() {
        Side::First => (first, Side::Answer),
        Side::Answer => (answer, Side::First),
    };
    rewrite(slot.packet.data_mut(), slot.headers, was, entry.deltas, other);
}

/// Makes a packet ready to leave by its flow's way.
#[cold]
fn leave_by(seat: &Seat<'_>, via: Via, slot: &mut Slot<'_>) -> Result<Leaves, Refused> {
    let program = seat.piece.programs.map(|[forward, reverse]| match seat.direction {
        Direction::Forward => forward,
        Direction::Reverse => reverse,
    });
    let to = program.and_then(|p| seat.plan.programs.get(usize::from(p.0))).and_then(|p| p.to);
    match via {
        Via::Chain => Ok(Leaves::ByChain),
        Via::Back => Ok(Leaves::Back),
        Via::Station(mac) => {
            send_to(seat.plan, to, mac, slot);
            Ok(Leaves::ByChain)
        }
        Via::Tunnel(tunnel) => match encapsulate(seat.plan, to, &tunnel, slot) {
            Ok(()) => Ok(Leaves::InTunnel),
            Err(verdict) => Err(Refused(verdict)),
        },
    }
}

/// Whether the answers of a flow that leaves so go another way.
fn one_way(via: Via) -> u8 {
    match via {
        Via::Chain | Via::Back => 0,
        Via::Station(_) | Via::Tunnel(_) => flag::ONE_WAY,
    }
}

fn unkept(why: FlowRefusal) -> Refused {
    Refused(Verdict::Unkept(why))
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
