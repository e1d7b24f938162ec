//! The end of a flow, and of all.

use nfv_core::clock::Time;

use super::flow::{self, Flow, FlowPhase};
use super::lookup::NO_ANSWER;
use super::tell::{apps_of, summary_of, vlans_of};
use super::{Inspector, Recorder};
use crate::ids::buffer::Side;
use crate::ids::eve::{
    Body, FlowAction, FlowEnd, FlowRecord, FlowState, Head, PacketSource, TcpRecord,
};
use crate::ids::stream::TcpState;

impl Inspector {
    /// Ends all flows, as at the end of a capture: what is left of them is looked at, and they are logged.
    pub fn finish(&mut self, now: Time, recorder: &mut impl Recorder) {
        self.now = self.now.max(now);
        while let Some(number) = self.flows.any() {
            self.end(number, FlowEnd::Shutdown, recorder);
        }
    }

    /// Ends a flow: what is left of it is looked at, it is logged, and forgotten.
    pub(super) fn end(&mut self, number: u32, reason: FlowEnd, recorder: &mut impl Recorder) {
        self.news.clear();
        self.catch_up_both(number);
        if self.has_rest(number) {
            self.look_at_end(number, recorder);
        }
        let Some(flow) = self.flows.remove(number) else { return };
        self.apps_held = self.apps_held.saturating_sub(flow.held as usize);
        let state = flow.stream().and_then(|id| {
            let state = self.streams.view(id).map(|view| view.state);
            self.streams.forget(id);
            state
        });
        if self.settings.records.flow {
            let record = record_of(&flow, state, reason);
            let head = self.head_of_end(&flow);
            self.tell(head, Body::Flow(Box::new(record)), recorder);
        }
    }

    /// Whether something of a flow may not have been looked at.
    fn has_rest(&self, number: u32) -> bool {
        let Some(flow) = self.flows.get(number) else { return false };
        if flow.phase == FlowPhase::Bypassed && flow.app.is_none() {
            return false;
        }
        flow.stream().and_then(|id| self.streams.view(id)).is_some_and(|view| {
            let is_open = view.state.is_established() && view.state != TcpState::Closed;
            is_open || flow.app.is_some() || view.told != [0; 2]
        })
    }

    fn head_of_end(&self, flow: &Flow) -> Head {
        let mut head = Head::at(self.now);
        head.flow_id = Some(flow.id());
        head.variables = self.variables_of(flow);
        head.in_iface = self.settings.ports.get(usize::from(flow.port)).cloned();
        head.vlan = vlans_of(flow);
        head.source = PacketSource::FlowTimeout;
        super::tell::set_ends(&mut head, Some(flow), Side::ToServer);
        head
    }
}

fn record_of(flow: &Flow, tcp: Option<TcpState>, reason: FlowEnd) -> FlowRecord {
    let [_, answer] = flow.icmp;
    let transactions = flow.app.as_ref().map_or(0, |app| app.transactions().count());
    FlowRecord {
        apps: apps_of(flow),
        summary: summary_of(flow),
        end: flow.last,
        state: match flow.phase {
            FlowPhase::New => FlowState::New,
            FlowPhase::Established => FlowState::Established,
            FlowPhase::Closed => FlowState::Closed,
            FlowPhase::Bypassed => FlowState::Bypassed,
        },
        reason,
        alerted: flow.has(flow::ALERTED),
        action: if flow.has(flow::DROPPED) {
            Some(FlowAction::Drop)
        } else {
            flow.has(flow::PASSED).then_some(FlowAction::Pass)
        },
        transactions: flow.transactions + transactions,
        response_icmp: flow.is_icmp().then_some(answer).filter(|(kind, _)| *kind != NO_ANSWER),
        tcp: flow.is_tcp().then(|| tcp_of(flow, tcp)),
    }
}

fn tcp_of(flow: &Flow, state: Option<TcpState>) -> TcpRecord {
    let [up, down] = flow.tcp_flags;
    TcpRecord {
        flags: up | down,
        flags_to_server: up,
        flags_to_client: down,
        state,
        has_gaps: [Side::ToServer, Side::ToClient]
            .map(|side| flow.has(flow::one_of(flow::GAPS, side))),
        max_regions: [1, 1],
        urgent: [0, 0],
    }
}
