//! A flow NF whose types the engine does not know: one virtual call a burst, or one a flow.

use std::any::Any;
use std::fmt::Debug;

use zerocopy::FromZeros;

use super::{Decision, FlowNf, FlowStage, FlowState, FlowView, Forward, Lookup, NO_RULE, Shard};
use crate::burst::{Burst, Routing};
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Packet};
use crate::packet::Headers;

/// The engine's erased twin of [`FlowNf`]: one virtual call a burst, or one a flow.
pub trait AnyFlowNf: Send + Sync + Debug {
    /// A shard's slice.
    fn any_slice(&self, shard: Shard) -> Box<dyn Any + Send>;

    /// Decides for each packet of the burst, and writes into `rules` which rule did; [`NO_RULE`] for none.
    fn decide_burst(
        &self,
        burst: &mut Burst,
        slice: &mut (dyn Any + Send),
        rules: &mut [u32; BURST_MAX],
        now: Time,
    );

    /// How many bytes it keeps with a flow.
    fn kept_bytes(&self) -> usize;

    /// As [`FlowNf::prefetch`].
    fn prefetch_flow(&self, headers: &Headers);

    /// As [`FlowNf::prefetch_kept`].
    fn prefetch_release(&self, kept: &[u8]);

    /// Decides for one flow, of which it keeps `kept`: as many bytes as it said.
    ///
    /// `hint`: what [`AnyFlowNf::hint_burst`] found for the packet, if it was asked; it is looked up otherwise.
    fn decide_flow(
        &self,
        flow: &FlowView<'_>,
        hint: Option<u32>,
        kept: &mut [u8],
        slice: &mut (dyn Any + Send),
    ) -> Decision;

    /// As [`FlowNf::look_up`].
    fn hint_burst(&self, packets: Lookup<'_>, hints: &mut [u32; BURST_MAX]);

    /// Both ends of a flow have spoken.
    fn flow_opened(&self, kept: &mut [u8], slice: &mut (dyn Any + Send), now: Time);

    /// As [`FlowNf::hears_closed`].
    fn wants_closed(&self) -> bool;

    /// A flow's connection is over.
    fn flow_closed(&self, kept: &mut [u8], slice: &mut (dyn Any + Send), now: Time);

    /// A flow has ended.
    fn release_flow(&self, kept: &[u8], slice: &mut (dyn Any + Send), now: Time);
}

/// A packet's bytes from the upper layer's header to the end of its IP datagram; none without one.
#[inline]
pub(crate) fn upper<'p>(packet: &'p Packet, h: &Headers) -> &'p [u8] {
    let (l4, end) = (usize::from(h.l4), usize::from(h.l3_end).min(packet.data().len()));
    if l4 == 0 { &[] } else { packet.data().get(l4..end).unwrap_or_default() }
}

impl<T: FlowNf> AnyFlowNf for T {
    fn any_slice(&self, shard: Shard) -> Box<dyn Any + Send> {
        Box::new(self.slice(shard))
    }

    fn decide_burst(
        &self,
        burst: &mut Burst,
        slice: &mut (dyn Any + Send),
        rules: &mut [u32; BURST_MAX],
        now: Time,
    ) {
        let Some(slice) = slice.downcast_mut::<T::Slice>() else { return };
        let mut hints = [0; BURST_MAX];
        let (in_port, direction) = (burst.in_port, burst.direction);
        self.look_up(burst.lookup(), &mut hints);
        let mut routed = false;
        for ((mut slot, hint), decided) in burst.slots().zip(hints).zip(rules.iter_mut()) {
            let state = FlowStage::Packet;
            let upper = upper(slot.packet, slot.headers);
            let flow = FlowView { headers: slot.headers, upper, in_port, direction, now, state };
            let rule = match self.decide(&flow, hint, &mut T::Flow::new_zeroed(), slice) {
                Decision::Forward(Forward { rule, hop: None, .. }) => rule,
                Decision::Forward(Forward { rule, hop: Some(hop), .. }) => {
                    *slot.hop = hop;
                    routed = true;
                    rule
                }
                Decision::Drop { why, rule } => {
                    slot.drop(why);
                    rule
                }
            };
            *decided = rule.unwrap_or(NO_RULE);
        }
        if routed {
            burst.routing = match burst.routing {
                Routing::Detour => Routing::DecidedWithDetours,
                _ => Routing::Decided,
            };
        }
    }

    fn prefetch_flow(&self, headers: &Headers) {
        self.prefetch(headers);
    }

    fn prefetch_release(&self, kept: &[u8]) {
        self.prefetch_kept(&read::<T::Flow>(kept));
    }

    fn kept_bytes(&self) -> usize {
        self.keeps().min(size_of::<T::Flow>())
    }

    fn hint_burst(&self, packets: Lookup<'_>, hints: &mut [u32; BURST_MAX]) {
        self.look_up(packets, hints);
    }

    fn decide_flow(
        &self,
        flow: &FlowView<'_>,
        hint: Option<u32>,
        kept: &mut [u8],
        slice: &mut (dyn Any + Send),
    ) -> Decision {
        let Some(slice) = slice.downcast_mut::<T::Slice>() else { return Decision::PASS };
        let mut state = read::<T::Flow>(kept);
        let hint = hint.unwrap_or_else(|| {
            let FlowView { headers, in_port, direction, .. } = *flow;
            let mut hint = [0];
            let headers = std::slice::from_ref(headers);
            self.look_up(Lookup { headers, in_port, direction }, &mut hint);
            let [hint] = hint;
            hint
        });
        let decision = self.decide(flow, hint, &mut state, slice);
        write(&state, kept);
        decision
    }

    fn flow_opened(&self, kept: &mut [u8], slice: &mut (dyn Any + Send), now: Time) {
        if let Some(slice) = slice.downcast_mut::<T::Slice>() {
            let mut state = read::<T::Flow>(kept);
            self.opened(&mut state, slice, now);
            write(&state, kept);
        }
    }

    fn wants_closed(&self) -> bool {
        self.hears_closed()
    }

    fn flow_closed(&self, kept: &mut [u8], slice: &mut (dyn Any + Send), now: Time) {
        if let Some(slice) = slice.downcast_mut::<T::Slice>() {
            let mut state = read::<T::Flow>(kept);
            self.closed(&mut state, slice, now);
            write(&state, kept);
        }
    }

    fn release_flow(&self, kept: &[u8], slice: &mut (dyn Any + Send), now: Time) {
        if let Some(slice) = slice.downcast_mut::<T::Slice>() {
            self.release(&read::<T::Flow>(kept), slice, now);
        }
    }
}

/// What is kept, of which a part may be there; the rest is zero.
#[inline]
fn read<S: FlowState>(kept: &[u8]) -> S {
    S::read_from_bytes(kept).unwrap_or_else(|_| {
        let mut state = S::new_zeroed();
        copy(state.as_mut_bytes(), kept);
        state
    })
}

/// Keeps it, as far as there is room.
#[inline]
fn write<S: FlowState>(state: &S, kept: &mut [u8]) {
    if state.write_to(kept).is_err() {
        copy(kept, state.as_bytes());
    }
}

/// Copies as much as both have: some words, for which a call of `memcpy` would take longer.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    let bytes = to.len().min(from.len());
    let (Some(to), Some(from)) = (to.get_mut(..bytes), from.get(..bytes)) else { return };
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<4>(), from.as_chunks::<4>());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}
