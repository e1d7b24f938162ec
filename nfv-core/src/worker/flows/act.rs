//! A packet at a piece: what is known of its flow is done to it, or the functions are asked.

use super::decide::{About, count_once};
use super::life::Moves;
use super::{Common, Leaves, Refused, Seat};
use crate::burst::{Slot, Verdict};
use crate::flow::{
    Address, Change, Entry, FlowKey, FlowRef, FlowRefusal, KEPT, Segment, Side, Strictness, Table,
    TcpState, TcpTrack, Tuple, Way, flag, is_tracked, rewrite, unshift,
};
use crate::nf::{Direction, FlowStage, Tracking, Via, upper};
use crate::packet::{Fragment, Headers, is_icmp_error, protocol};
use crate::worker::tunnel::{encapsulate, send_to};

impl Common {
    /// One packet at a piece.
    #[inline(always)]
    pub(super) fn packet<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<Leaves, Refused> {
        let found = *slot.flow;
        let known = table.get(found.entry()).is_some_and(|e| {
            found.is_some()
                && e.generation == self.generation
                && !e.is(flag::PROXIED)
                && (self.forgotten == seat.forgotten
                    || e.key(found.side()) == FlowKey::of(slot.headers, seat.place))
        });
        if !known {
            return self.unknown(table, seat, slot);
        }
        self.act_as_it_is(table, seat, slot, found)
    }

    /// A packet of a flow that was decided under what is true now.
    #[inline]
    pub(super) fn act<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let Some(entry) = table.get(found.entry()) else { return Ok(Leaves::ByChain) };
        if entry.is(flag::PROXIED) {
            return self.proxied(table, seat, slot, found);
        }
        self.act_as_it_is(table, seat, slot, found)
    }

    /// The same for a packet whose numbers are those of its flow.
    #[inline(always)]
    pub(super) fn act_as_it_is<A: Address>(
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
        let is_first_answer = side == Side::Answer && !entry.is(flag::REPLIED);
        let mut moves = is_first_answer.then_some(Moves::On);
        if entry.protocol == protocol::TCP {
            match follow(entry, seat, slot, side) {
                Ok(Change::Same) => {}
                Ok(Change::State(_)) => moves = Some(Moves::On),
                Ok(Change::Over(_)) => moves = Some(Moves::Over),
                Ok(Change::Reopened) => return self.reopened(table, seat, slot, found),
                Err(refused) => {
                    entry.last_seen = before;
                    return Err(refused);
                }
            }
        }
        if let Some(moves) = moves {
            if is_first_answer {
                entry.flags |= flag::REPLIED;
            }
            self.move_on(table, seat, found.entry(), moves);
        }
        self.pass(table, seat, slot, found)
    }

    /// A packet that is right: it is counted, becomes what its flow's packets become, and leaves.
    #[inline(always)]
    pub(super) fn pass<A: Address>(
        &mut self,
        table: &Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let side = found.side();
        let Some(entry) = table.get(found.entry()) else { return Ok(Leaves::ByChain) };
        let path = entry.path(side);
        self.paths.count(path, slot.packet.len());
        if entry.is(flag::REWRITE) {
            let (to, deltas) = (entry.becomes(side), entry.deltas);
            rewrite(slot.packet.data_mut(), slot.headers, to, deltas, side);
        }
        if self.paths.get(path).is_some_and(|p| p.via != 0) {
            return leave_by(seat, self.paths.via(path), slot);
        }
        Ok(Leaves::ByChain)
    }

    /// A packet whose flow is not known, began with a cookie, or was decided before something changed, or that is of none.
    #[cold]
    pub(super) fn unknown<A: Address>(
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
    pub(super) fn alone(&mut self, seat: &Seat<'_>, slot: &Slot<'_>) -> Result<Leaves, Refused> {
        seat.bytes.set(slot.packet.len());
        let mut headers = *slot.headers;
        let shard = 0;
        let about = About {
            upper: upper(slot.packet, slot.headers),
            state: FlowStage::Packet,
            direction: seat.direction,
            hint: None,
            until: None,
        };
        let decided = self.decide(seat, about, &mut headers, &mut [0; KEPT], shard);
        let rules = decided?.rules;
        count_once(seat, seat.direction, &rules);
        Ok(Leaves::ByChain)
    }
}

/// A segment of a connection that is known.
#[inline(always)]
pub(super) fn follow<A: Address>(
    entry: &mut Entry<A>,
    seat: &Seat<'_>,
    slot: &Slot<'_>,
    side: Side,
) -> Result<Change, Refused> {
    let Some(segment) = segment(slot.packet.data(), slot.headers) else {
        return Ok(Change::Same);
    };
    let way = match side {
        Side::First => Way::Original,
        Side::Answer => Way::Reply,
    };
    match entry.track.next(way, &segment, strictness(seat.tracking)) {
        Ok(change) => Ok(change),
        // An ACK that answers what went another way: the handshake is over, or the window has moved on.
        Err(_) if entry.is(flag::ONE_WAY) && side == Side::First => {
            // A copy: what is lent lies in memory, also where it need not.
            let copy = segment;
            let Ok(track) = TcpTrack::start(&copy, Strictness::Loose) else {
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
pub(super) fn segment(data: &[u8], h: &Headers) -> Option<Segment> {
    // What follows a first fragment has no header.
    if h.protocol != protocol::TCP || h.l4 == 0 {
        return None;
    }
    let tcp = data.get(usize::from(h.l4)..)?;
    let header = u32::from(tcp.get(12)? >> 4) * 4;
    let here = u32::from(h.l3_end.saturating_sub(h.l4)).saturating_sub(header);
    // How much more there is of a segment that was cut is not known yet: no more than a datagram holds.
    let payload = if h.fragment == Fragment::First { u32::from(u16::MAX) - header } else { here };
    Segment::read(tcp, payload)
}

pub(super) fn strictness(tracking: Tracking) -> Strictness {
    match tracking {
        Tracking::Check => Strictness::Strict,
        _ => Strictness::Loose,
    }
}

pub(super) fn undo<A: Address>(table: &Table<A>, slot: &mut Slot<'_>) {
    let found = *slot.flow;
    let rewritten = |e: &&Entry<A>| {
        found.is_some()
            && e.is(flag::REWRITE | flag::PROXIED)
            && e.becomes(found.side()) == Tuple::of(slot.headers)
    };
    let Some(entry) = table.get(found.entry()).filter(rewritten) else { return };
    if entry.is(flag::PROXIED) && entry.track.state() != Some(TcpState::SynSent) {
        unshift(slot.packet.data_mut(), slot.headers, entry.shift(), found.side());
    }
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
pub(super) fn leave_by(seat: &Seat<'_>, via: Via, slot: &mut Slot<'_>) -> Result<Leaves, Refused> {
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
pub(super) fn one_way(via: Via) -> u8 {
    match via {
        Via::Chain | Via::Back => 0,
        Via::Station(_) | Via::Tunnel(_) => flag::ONE_WAY,
    }
}

pub(super) fn unkept(why: FlowRefusal) -> Refused {
    Refused(Verdict::Unkept(why))
}
