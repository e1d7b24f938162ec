//! ICMP errors belong to the flow whose packet they quote: they take its chain and its way, and are rewritten as it is.

use super::act::{leave_by, unkept};
use super::{Common, FlowEngine, Leaves, Refused, Seat};
use crate::burst::Slot;
use crate::chain::compile::{Plan, ProgramId};
use crate::flow::{
    Address, FlowKey, FlowRef, FlowRefusal, Scope, Side, Table, TcpState, Tuple, flag, quoted,
    rewrite_error, unshift_quoted,
};
use crate::nf::Tracking;
use crate::packet::{Headers, L3};

impl FlowEngine {
    /// The program of an ICMP error that came in.
    ///
    /// `place`: where it came in.
    #[cold]
    pub fn program_of_error(
        &self,
        plan: &Plan,
        data: &[u8],
        h: &Headers,
        place: u16,
    ) -> Option<ProgramId> {
        let inner = quoted(data, h)?;
        let found = match h.kind {
            L3::Ipv4 => self.v4.look_up(&key_of(&inner, place)),
            _ => self.v6.look_up(&key_of(&inner, place)),
        };
        if found.is_some() { self.program_of(plan, h.kind, found) } else { None }
    }
}

impl Common {
    /// An ICMP error at a piece. `Ok(None)`: it is of no flow, and nobody minds.
    #[cold]
    pub(super) fn error<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<Option<Leaves>, Refused> {
        let unrelated = || match seat.tracking {
            Tracking::None | Tracking::Follow => Ok(None),
            Tracking::CheckLoosely | Tracking::Check => Err(unkept(FlowRefusal::IcmpUnrelated)),
        };
        let Some(mut inner) = quoted(slot.packet.data(), slot.headers) else { return unrelated() };
        let key = key_of::<A>(&inner, seat.place);
        let mut found = table.look_up(&key);
        if !found.is_some() {
            return unrelated();
        }
        if table.get(found.entry()).is_some_and(|e| e.generation != self.generation) {
            self.again(table, seat, found)?;
            found = table.look_up(&key);
        }
        let Some(entry) = of(table, found) else { return unrelated() };
        let side = found.side();
        let path = entry.path(side);
        self.paths.count(path, slot.packet.len());
        // It quotes what the server sent as the client sees it.
        let shifted = entry.is(flag::PROXIED) && entry.track.state() != Some(TcpState::SynSent);
        if shifted && side == Side::First {
            unshift_quoted(slot.packet.data_mut(), slot.headers, &inner, entry.shift());
        }
        if entry.is(flag::REWRITE) {
            let ends = (key.tuple, entry.becomes(side));
            let data = slot.packet.data_mut();
            rewrite_error(data, slot.headers, &mut inner, ends, entry.deltas, side);
        }
        leave_by(seat, self.paths.via(path), slot).map(Some)
    }
}

fn of<A: Address>(table: &Table<A>, found: FlowRef) -> Option<&crate::flow::Entry<A>> {
    if found.is_some() { table.get(found.entry()) } else { None }
}

/// What a packet is looked up by that goes where the error goes.
fn key_of<A: Address>(inner: &Headers, place: u16) -> FlowKey<A> {
    let scope = Scope { vlan: inner.vlan, place, protocol: inner.protocol };
    FlowKey { tuple: Tuple::of(inner).turned(), scope }
}
