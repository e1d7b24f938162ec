//! What happens to the first packet of a flow, and to the next one after something changed: the functions are asked.

use arrayvec::ArrayVec;

use super::act::{leave_by, one_way, segment, strictness, unkept};
use super::{Common, Leaves, Refused, Seat};
use crate::burst::{Slot, Verdict};
use crate::chain::compile::ProgramId;
use crate::chain::piece::Piece;
use crate::flow::{
    Address, Entry, FUNCTIONS_MAX, FlowKey, FlowRef, FlowRefusal, Invalid, KEPT, Scope, Side,
    Table, TcpState, TcpTrack, Tuple, Zone, deltas, flag, put_shift, rewrite, shard_of,
};
use crate::nf::{
    Decision, Direction, Endpoint, FlowStage, FlowView, NO_RULE, PortIndex, Tracking, Via, upper,
};
use crate::packet::{Headers, protocol};

impl Common {
    /// A flow's first packet.
    pub(super) fn first<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        key: FlowKey<A>,
    ) -> Result<Leaves, Refused> {
        let opening = self.opening(table, seat, slot, &key)?;
        let begins = match &opening {
            Some(opening) => opening.segment(),
            None => segment(slot.packet.data(), slot.headers),
        };
        let track = match begins {
            // What follows a fragment whose flow has ended.
            None if slot.headers.protocol == protocol::TCP => {
                return Err(unkept(FlowRefusal::Tcp(Invalid::NotASyn)));
            }
            None => TcpTrack::default(),
            Some(segment) => match TcpTrack::start(&segment, strictness(seat.tracking)) {
                Ok(track) => track,
                Err(_) if seat.tracking <= Tracking::Follow => TcpTrack::default(),
                Err(invalid) => return Err(unkept(FlowRefusal::Tcp(invalid))),
            },
        };
        let shard = self.shard_of_first(table, seat, &key);
        let mut kept = [0; KEPT];
        let about = About {
            upper: upper(slot.packet, slot.headers),
            state: FlowStage::First,
            direction: seat.direction,
            hint: seat.hint.get(),
            until: None,
        };
        let (mut headers, about) = match &opening {
            Some(opening) => {
                (opening.headers, About { upper: opening.upper(), hint: None, ..about })
            }
            None => (*slot.headers, about),
        };
        let decided = self.decide(seat, about, &mut headers, &mut kept, shard)?;
        let after = Tuple::<A>::of(&headers);
        let changes = after != key.tuple;
        let backwards = seat.direction == Direction::Reverse;
        let answers_place = place_of_answers(seat, decided.via, backwards);
        let scope = Scope { place: answers_place, ..key.scope };
        table.prefetch_key(&FlowKey { tuple: after.turned(), scope });
        if let Some(opening) = &opening {
            let goes_on = one_way(decided.via) == 0 && opening.put_into(seat, slot);
            if !goes_on {
                self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
                return Err(unkept(FlowRefusal::NoCookie));
            }
            put_shift(&mut kept, opening.cookie());
        }
        let half_open = track.state() == Some(TcpState::SynSent) && one_way(decided.via) == 0;
        let mut entry = Entry::<A> {
            tuples: [key.tuple, after.turned()],
            vlan: key.scope.vlan,
            protocol: key.scope.protocol,
            flags: flag::EMBRYO
                | if changes { flag::REWRITE } else { 0 }
                | if backwards { flag::BACKWARDS } else { 0 }
                | if half_open { flag::HALF_OPEN } else { 0 }
                | if opening.is_some() { flag::PROXIED } else { 0 }
                | one_way(decided.via),
            places: [seat.place, answers_place],
            generation: self.generation,
            last_seen: seat.tick.0,
            paths: [0, 0],
            deltas: deltas(key.tuple, after, key.scope.protocol),
            piece: seat.number,
            shard: shard as u8,
            track,
            kept,
            ..zerocopy::FromZeros::new_zeroed()
        };
        entry.paths = self.paths_of(seat, &decided, backwards);
        if table.len() + self.others >= self.max && !self.make_room(table, seat, shard) {
            self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
            return Err(unkept(FlowRefusal::TableFull));
        }
        let inserted = table.insert_unknown(entry);
        let number = match self.put_in(table, inserted, &entry, seat.tick) {
            Ok(number) => number,
            Err(why) => {
                self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
                return Err(unkept(why));
            }
        };
        seat.cells.add(seat.plan.cells.flows_begun, 1);
        let found = FlowRef::of(number, Side::First);
        *slot.flow = found;
        self.paths.count(entry.paths[0], slot.packet.len());
        if changes {
            rewrite(slot.packet.data_mut(), slot.headers, after, entry.deltas, Side::First);
        }
        leave_by(seat, decided.via, slot)
    }

    /// The shard of a flow that begins here: behind a cut, the one that it has had since it came in.
    pub(super) fn shard_of_first<A: Address>(
        &self,
        table: &Table<A>,
        seat: &Seat<'_>,
        key: &FlowKey<A>,
    ) -> usize {
        let Seat { plan, piece, number, direction, .. } = *seat;
        let before = || {
            let at = piece.now.iter().position(|p| *p == number)?;
            let before = match direction {
                Direction::Forward => at.checked_sub(1)?,
                Direction::Reverse => at + 1,
            };
            let place =
                plan.pieces.get(usize::from(*piece.now.get(before)?))?.place(turned(direction))?;
            let answers =
                FlowKey { tuple: key.tuple.turned(), scope: Scope { place, ..key.scope } };
            let found = table.look_up(&answers);
            table.get(found.entry()).filter(|_| found.is_some()).map(|entry| entry.shard)
        };
        let comes_in = Zone::of_place(seat.place).is_some();
        let known = if comes_in { None } else { before() };
        usize::from(known.unwrap_or_else(|| shard_of(key.tuple, key.scope.protocol)))
    }

    /// The SYN of a new connection between the ends of one that is over.
    #[cold]
    pub(super) fn reopened<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        self.retire(table, seat.plan, seat.cells, found.entry(), seat.now);
        seat.bytes.set(slot.packet.len());
        let key = FlowKey::of(slot.headers, seat.place);
        self.first(table, seat, slot, key)
    }

    /// A flow that was decided before something changed: all functions are asked again, with what they kept.
    pub(super) fn again<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        found: FlowRef,
    ) -> Result<(), Refused> {
        let Some(mut entry) = table.get(found.entry()).copied() else { return Ok(()) };
        seat.cells.add(seat.plan.cells.flows_again, 1);
        let in_port = first_port(seat, found.side(), entry.is(flag::BACKWARDS));
        let seat = &Seat { in_port, ..seat.clone() };
        let still = entry.piece == seat.number && seat.piece.is_current();
        if !still {
            return self.renew(table, seat, found.entry());
        }
        let [first, answers] = entry.tuples;
        let shard = usize::from(entry.shard);
        let backwards = entry.is(flag::BACKWARDS);
        let mut headers = headers_of(&entry, first);
        let mut kept = entry.kept;
        let about = About::again(begun(backwards));
        let decided = match self.decide(seat, about, &mut headers, &mut kept, shard) {
            Ok(decided) => decided,
            Err(refused) => {
                // What the functions hold now is what they get back.
                if let Some(place) = table.get_mut(found.entry()) {
                    place.kept = kept;
                }
                self.retire(table, seat.plan, seat.cells, found.entry(), seat.now);
                return Err(refused);
            }
        };
        let after = Tuple::<A>::of(&headers);
        let [_, place] = entry.places;
        if after.turned() != answers || place != place_of_answers(seat, decided.via, backwards) {
            // It is found by other answers now, or where others come in.
            if let Some(place) = table.get_mut(found.entry()) {
                place.kept = kept;
            }
            return self.renew(table, seat, found.entry());
        }
        entry.paths = self.paths_of(seat, &decided, backwards);
        (entry.kept, entry.generation) = (kept, self.generation);
        entry.flags = entry.flags & !flag::ONE_WAY | one_way(decided.via);
        if let Some(place) = table.get_mut(found.entry()) {
            *place = entry;
        }
        Ok(())
    }

    /// Asks the functions of a piece in order. What they took is given back when one refuses a first packet.
    pub(super) fn decide(
        &mut self,
        seat: &Seat<'_>,
        about: About<'_>,
        headers: &mut Headers,
        kept: &mut [u8; KEPT],
        shard: usize,
    ) -> Result<Decided, Refused> {
        let About { upper, state, direction, mut hint, until } = about;
        let mut decided = Decided { rules: ArrayVec::new(), via: Via::Chain };
        let (in_port, now) = (seat.in_port, seat.now);
        for function in in_order(seat.piece, direction) {
            let (Some((at, nf, slice)), Some(own)) =
                (self.asked(seat.plan, shard, function), kept.get_mut(function.kept.clone()))
            else {
                continue;
            };
            let view = FlowView { headers, upper, in_port, direction, now, state };
            // Those behind it may see other headers.
            match nf.decide_flow(&view, hint.take(), own, slice) {
                Decision::Forward(forward) => {
                    if state != FlowStage::Packet {
                        put(headers, forward.rewrite.src, forward.rewrite.dst);
                        if forward.via != Via::Chain {
                            decided.via = forward.via;
                        }
                    }
                    let _ = decided.rules.try_push(forward.rule.unwrap_or(NO_RULE));
                }
                Decision::Drop { why, rule } => {
                    if matches!(state, FlowStage::First | FlowStage::Probe) {
                        self.give_back(seat.plan, seat.piece, kept, shard, now);
                    }
                    let _ = decided.rules.try_push(rule.unwrap_or(NO_RULE));
                    count_once(seat, direction, &decided.rules);
                    return Err(Refused(Verdict::DropBy(at as u16, why)));
                }
            }
            if until == Some(at) {
                break;
            }
        }
        Ok(decided)
    }

    /// The paths of a flow's sides.
    pub(super) fn paths_of(
        &mut self,
        seat: &Seat<'_>,
        decided: &Decided,
        backwards: bool,
    ) -> [u32; 2] {
        let Seat { plan, piece, number, .. } = *seat;
        let [forward, reverse] = piece.programs.unwrap_or([ProgramId(u16::MAX); 2]);
        let direction = if backwards { Direction::Reverse } else { Direction::Forward };
        let cells = || {
            let functions = in_order(piece, direction).zip(&decided.rules);
            let (mut packets, mut bytes) = (Vec::new(), Vec::new());
            for (function, rule) in functions {
                let Some(cells) =
                    function.at.and_then(|at| plan.functions.get(at)).map(|f| f.cells)
                else {
                    continue;
                };
                packets.push(cells.packets);
                bytes.push(cells.bytes);
                if *rule != NO_RULE {
                    packets.push(cells.rules.plus(*rule as usize));
                }
            }
            (packets.into(), bytes.into())
        };
        let (first, answer) = if backwards { (reverse, forward) } else { (forward, reverse) };
        // Who answers a hairpin answers by the same port; other ways are for the first side only.
        let back = if decided.via == Via::Back { Via::Back } else { Via::Chain };
        [
            self.paths.intern((number, direction, first), decided.via, &decided.rules, cells),
            self.paths.intern((number, direction, answer), back, &decided.rules, cells),
        ]
    }
}

/// What functions are told of a packet besides its headers.
#[derive(Clone, Copy)]
pub(super) struct About<'p> {
    pub(super) upper: &'p [u8],
    pub(super) state: FlowStage,
    pub(super) direction: Direction,
    /// What the first function that is asked found already.
    pub(super) hint: Option<u32>,
    /// The last function that is asked, by its place in the plan; `None`: all are.
    pub(super) until: Option<usize>,
}

impl About<'_> {
    /// Nothing: the flow is decided again, and began in this direction.
    pub(super) fn again(direction: Direction) -> Self {
        Self { upper: &[], state: FlowStage::Again, direction, hint: None, until: None }
    }
}

/// What the functions of a piece said together.
pub(super) struct Decided {
    /// By function, in the order in which they were asked.
    pub(super) rules: ArrayVec<u32, FUNCTIONS_MAX>,
    pub(super) via: Via,
}

/// The functions of a piece in the order in which packets of a direction meet them.
pub(super) fn in_order(
    piece: &Piece,
    direction: Direction,
) -> impl Iterator<Item = &crate::chain::piece::PieceFunction> {
    let n = piece.functions.len();
    (0..n).filter_map(move |i| {
        piece.functions.get(match direction {
            Direction::Forward => i,
            Direction::Reverse => n - 1 - i,
        })
    })
}

/// Counts a packet that is of no path, by the functions that saw it.
pub(super) fn count_once(seat: &Seat<'_>, direction: Direction, rules: &[u32]) {
    for (function, rule) in in_order(seat.piece, direction).zip(rules) {
        let Some(cells) = function.at.and_then(|at| seat.plan.functions.get(at)).map(|f| f.cells)
        else {
            continue;
        };
        seat.cells.add(cells.packets, 1);
        seat.cells.add(cells.bytes, u64::from(seat.bytes.get()));
        if *rule != NO_RULE {
            seat.cells.add(cells.rules.plus(*rule as usize), 1);
        }
    }
}

/// The direction in which a flow began.
pub(super) fn begun(backwards: bool) -> Direction {
    if backwards { Direction::Reverse } else { Direction::Forward }
}

/// The port that receives a flow's first side, seen from a packet of a side: an answer leaves by it.
fn first_port(seat: &Seat<'_>, side: Side, backwards: bool) -> PortIndex {
    let programs = seat.piece.programs.filter(|_| side == Side::Answer);
    let answers = programs.map(|[forward, reverse]| if backwards { forward } else { reverse });
    let program = answers.and_then(|id| seat.plan.programs.get(usize::from(id.0)));
    program.and_then(|program| program.to).unwrap_or(seat.in_port)
}

/// Where the answers of a flow are looked up that leaves so; `seat` is that of its first side.
///
/// They come in where it leaves, in that port's zone. A chain without `to` leads into the zone that it comes from.
pub(super) fn place_of_answers(seat: &Seat<'_>, via: Via, backwards: bool) -> u16 {
    let answers = turned(begun(backwards));
    seat.piece.place(answers).unwrap_or_else(|| {
        let [forward, reverse] = seat.piece.programs.unwrap_or([ProgramId(u16::MAX); 2]);
        let program = if backwards { reverse } else { forward };
        let to = seat.plan.programs.get(usize::from(program.0)).and_then(|program| program.to);
        let leaves = to.filter(|_| via != Via::Back).unwrap_or(seat.in_port);
        seat.plan.entrance(leaves)
    })
}

/// What is known of a flow's packets, with these ends.
pub(super) fn headers_of<A: Address>(entry: &Entry<A>, ends: Tuple<A>) -> Headers {
    let mut headers = Headers {
        kind: A::FAMILY,
        protocol: entry.protocol,
        vlan: entry.vlan,
        l4: 1,
        ttl: 64,
        // Which question it was is not kept; nearly all are echoes.
        icmp_type: match entry.protocol {
            protocol::ICMP => 8,
            protocol::ICMP6 => 128,
            _ => 0,
        },
        ..Headers::default()
    };
    ends.put(&mut headers);
    headers
}

pub(super) fn turned(direction: Direction) -> Direction {
    match direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    }
}

pub(super) fn put(h: &mut Headers, src: Option<Endpoint>, dst: Option<Endpoint>) {
    if let Some(Endpoint { address, port }) = src {
        (h.src, h.sport) = (address, port);
        if matches!(h.protocol, protocol::ICMP | protocol::ICMP6) {
            h.dport = port;
        }
    }
    if let Some(Endpoint { address, port }) = dst {
        (h.dst, h.dport) = (address, port);
        if matches!(h.protocol, protocol::ICMP | protocol::ICMP6) {
            h.sport = port;
        }
    }
}
