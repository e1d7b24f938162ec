//! A flow after a reload that cut its chain otherwise, or after a change of what its packets become: its entries are
//! taken out, the functions of its chain are asked again with what each kept, and new entries are put in.
//!
//! ```text
//!   before:  [edge + nat]                 one entry
//!   after:   [edge] -> count -> [nat]     two: the nat has its mapping still
//! ```

use arrayvec::ArrayVec;

use super::act::{one_way, unkept};
use super::decide::{About, begun, headers_of, place_of_answers, turned};
use super::{Common, Refused, Seat};
use crate::chain::compile::{FunctionId, Plan};
use crate::flow::{
    Address, Entry, FlowKey, FlowRefusal, KEPT, SHIFT, Scope, Side, Table, Tuple, Zone, deltas,
    flag, put_shift,
};
use crate::packet::tcp_build::Shift;

/// What functions kept with a flow, whatever piece they were in.
#[derive(Debug, Default)]
struct Bag {
    kept: ArrayVec<(FunctionId, [u8; KEPT], usize), BAG_MAX>,
}

impl Bag {
    fn put(&mut self, id: FunctionId, bytes: &[u8]) {
        let mut own = [0; KEPT];
        if let Some(to) = own.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
            let _ = self.kept.try_push((id, own, bytes.len()));
        }
    }

    /// What a function kept, which is then no longer here.
    fn take(&mut self, id: FunctionId, to: &mut [u8]) {
        let Some(at) = self.kept.iter().position(|(other, ..)| *other == id) else { return };
        let (_, bytes, len) = self.kept.remove(at);
        // One that keeps more now, or less, has the same at the start.
        let both = len.min(to.len());
        if let (Some(from), Some(to)) = (bytes.get(..both), to.get_mut(..both)) {
            to.copy_from_slice(from);
        }
    }
}

impl Common {
    /// Asks the functions of a flow's chain again, and puts the flow where its packets are looked up from now on.
    ///
    /// # Errors
    /// A function refuses it: it is no more.
    #[cold]
    pub(super) fn renew<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        number: u32,
    ) -> Result<(), Refused> {
        let Some(found) = table.get(number).copied() else { return Ok(()) };
        let backwards = found.is(flag::BACKWARDS);
        let mut bag = Bag::default();
        let mut head = found;
        let mut proxied = None;
        for number in whole(table, seat.plan, number) {
            let Some(entry) = table.get(number).copied() else { continue };
            if let Some(piece) = seat.plan.pieces.get(usize::from(entry.piece)) {
                for function in &piece.functions {
                    bag.put(function.id, entry.kept.get(function.kept.clone()).unwrap_or_default());
                }
                if is_first(seat, entry.piece, backwards) {
                    head = entry;
                }
            }
            if entry.is(flag::PROXIED) {
                proxied = Some((entry.shift(), entry.track));
            }
            self.take_out(table, number);
        }
        let shard = usize::from(head.shard);
        let mut shift = None;
        head.flags &= !flag::PROXIED;
        if let Some((by, track)) = proxied {
            // Its first entry shifts from now on, so that all behind it see the server's numbers, as this track does.
            (shift, head.track) = (Some(by), track);
        }
        // The chain that its packet takes now, which may be another one than it took.
        let mut pieces: ArrayVec<u16, BAG_MAX> =
            seat.piece.now.iter().copied().take(BAG_MAX).collect();
        if backwards {
            pieces.reverse();
        }
        let mut before = head.tuples[0];
        let mut result = Ok(());
        for number in pieces {
            let Some(piece) = seat.plan.pieces.get(usize::from(number)) else { continue };
            // It comes in where it came in before, whatever its chain is now.
            let comes_in = Zone::of_place(head.places[0]).map(Zone::place);
            let place = piece
                .place(begun(backwards))
                .or(comes_in)
                .unwrap_or_else(|| seat.plan.entrance(seat.in_port));
            let own = Seat { piece, number, place, ..seat.clone() };
            match self.renew_at(table, &own, &head, before, (shard, shift.take()), &mut bag) {
                Ok(after) => before = after,
                Err(refused) => {
                    result = Err(refused);
                    break;
                }
            }
        }
        // What no function of the chain has taken goes back to where it came from.
        for (id, bytes, len) in bag.kept {
            let own = bytes.get(..len).filter(|own| own.iter().any(|b| *b != 0));
            let (Some(at), Some(own)) = (seat.plan.place_of(id), own) else { continue };
            if let Some((nf, slice)) = self.function(seat.plan, shard, at) {
                nf.release_flow(own, slice, seat.now);
            }
        }
        result
    }

    /// A flow at one piece of its chain; returns what its packets have become behind it.
    fn renew_at<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        head: &Entry<A>,
        before: Tuple<A>,
        (shard, shift): (usize, Option<Shift>),
        bag: &mut Bag,
    ) -> Result<Tuple<A>, Refused> {
        let backwards = head.is(flag::BACKWARDS);
        let direction = begun(backwards);
        let mut kept = [0; KEPT];
        for function in &seat.piece.functions {
            if let Some(own) = kept.get_mut(function.kept.clone()) {
                bag.take(function.id, own);
            }
        }
        let mut headers = headers_of(head, before);
        let decided = self.decide(seat, About::again(direction), &mut headers, &mut kept, shard);
        let decided = match decided {
            Ok(decided) => decided,
            Err(refused) => {
                self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
                return Err(refused);
            }
        };
        let after = Tuple::<A>::of(&headers);
        if let Some(shift) = shift {
            // Functions that need all the room there is, put where cookies were given: the connection ends.
            if seat.piece.functions.iter().any(|f| f.kept.end > KEPT - SHIFT) {
                self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
                return Err(unkept(FlowRefusal::NoCookie));
            }
            put_shift(&mut kept, shift);
        }
        let rewrite = if after == before { 0 } else { flag::REWRITE };
        let entry = Entry::<A> {
            tuples: [before, after.turned()],
            flags: head.flags & (flag::REPLIED | flag::EMBRYO | flag::BACKWARDS | flag::HALF_OPEN)
                | rewrite
                | if shift.is_some() { flag::PROXIED } else { 0 }
                | one_way(decided.via),
            places: [seat.place, place_of_answers(seat, decided.via, backwards)],
            generation: self.generation,
            paths: self.paths_of(seat, &decided, backwards),
            deltas: deltas(before, after, head.protocol),
            piece: seat.number,
            kept,
            ..*head
        };
        let inserted = table.insert(entry);
        match self.put_in(table, inserted, &entry, seat.tick) {
            Ok(_) => Ok(after),
            Err(why) => {
                self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
                Err(unkept(why))
            }
        }
    }
}

/// The numbers of all entries of a flow, one for each piece of its chain as that was.
pub(super) fn whole<A: Address>(
    table: &Table<A>,
    plan: &Plan,
    number: u32,
) -> ArrayVec<u32, BAG_MAX> {
    let mut all = ArrayVec::new();
    let _ = all.try_push(number);
    for (side, ahead) in [(Side::Answer, true), (Side::First, false)] {
        let mut at = number;
        while let Some(next) = next_of(table, plan, at, side, ahead) {
            if all.contains(&next) || all.try_push(next).is_err() {
                break;
            }
            at = next;
        }
    }
    all
}

/// The entry of the same flow at the next piece, `ahead` or behind, in the direction of the flow.
fn next_of<A: Address>(
    table: &Table<A>,
    plan: &Plan,
    number: u32,
    side: Side,
    ahead: bool,
) -> Option<u32> {
    let entry = table.get(number)?;
    let piece = plan.pieces.get(usize::from(entry.piece))?;
    let at = piece.siblings.iter().position(|p| *p == entry.piece)?;
    let backwards = entry.is(flag::BACKWARDS);
    let next = if ahead == backwards { at.checked_sub(1)? } else { at + 1 };
    let other = plan.pieces.get(usize::from(*piece.siblings.get(next)?))?;
    // Ahead lies what the first side becomes here; behind, what the answers become.
    let (tuple, direction) = match side {
        Side::Answer => (entry.tuples[1].turned(), begun(backwards)),
        Side::First => (entry.tuples[0].turned(), turned(begun(backwards))),
    };
    let place = other.place(direction)?;
    let scope = Scope { vlan: entry.vlan, place, protocol: entry.protocol };
    let found = table.look_up(&FlowKey { tuple, scope });
    found.is_some().then(|| found.entry())
}

/// Whether a piece is the first that a flow comes to.
fn is_first(seat: &Seat<'_>, piece: u16, backwards: bool) -> bool {
    let siblings = seat.plan.pieces.get(usize::from(piece)).map_or(&[][..], |p| &p.siblings);
    let end = if backwards { siblings.last() } else { siblings.first() };
    end == Some(&piece)
}

/// Entries of a flow, and functions that keep something with it.
pub(super) const BAG_MAX: usize = 32;
