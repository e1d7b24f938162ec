//! Packets that a router has decided on: what routers do to each of them, and what becomes of those that go no further.

use super::Own;
use crate::burst::{Burst, Routing, Verdict};
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::flow::{Refusal, forward, is_header_right};
use crate::nf::{Answer, PortIndex};

impl Own {
    /// Drops packets whose IPv4 header is not as it was sent: no router makes anything of them.
    pub(super) fn check_headers(&mut self, plan: &Plan, burst: &mut Burst) {
        for slot in burst.slots() {
            if !is_header_right(slot.packet, slot.headers) {
                *slot.verdict = Verdict::Refuse(Refusal::BadChecksum, 0);
            }
        }
        burst.settle(|packet, _, _| {
            self.drop(packet, plan.cells.refused.plus(Refusal::BadChecksum as usize));
        });
    }

    /// Does to each packet what routers do, once a router has decided on its hop.
    pub(super) fn forward(
        &mut self,
        plan: &Plan,
        to: Option<PortIndex>,
        burst: &mut Burst,
        now: Time,
    ) {
        let Some(table) = &plan.routes else { return };
        let detours = burst.routing == Routing::DecidedWithDetours;
        for mut slot in burst.slots() {
            // Where no port is said, the router's choice is right for a detour too.
            let detour = Some(*slot.out).filter(|out| detours && *out != PortIndex::CHAIN);
            let to = to.map(|to| detour.unwrap_or(to));
            match forward(table, slot.packet, slot.headers, *slot.hop, to) {
                Ok(out) => *slot.out = out,
                Err((why, mtu)) => *slot.verdict = Verdict::Refuse(why, mtu),
            }
            if matches!(slot.verdict, Verdict::Refuse(Refusal::NeighbourUnresolved, _)) {
                self.asked.ask(table, *slot.hop, slot.headers, now);
            } else if *slot.verdict != Verdict::Next
                && let Some(flows) = &self.flows
            {
                flows.undo(&mut slot);
            }
        }
        burst.routing = if detours { Routing::Detour } else { Routing::Done };
        let port = burst.in_port;
        burst.settle(|packet, headers, verdict| {
            let Verdict::Refuse(why, mtu) = verdict else { return packet.free() };
            if let Some(error) = why.answer(headers, mtu) {
                self.answer(plan, &packet, headers, Answer::Icmp(error), port, now);
            }
            self.drop(packet, plan.cells.refused.plus(why as usize));
        });
    }
}
