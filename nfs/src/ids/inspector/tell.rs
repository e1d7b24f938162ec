//! Records of what a packet led to.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::clock::Time;
use nfv_core::packet::{NO_VLAN, protocol};

use super::counters::Counter;
use super::decode::Upper;
use super::flow::{self, Flow};
use super::look::Look;
use super::worker::{Level, address};
use super::{Inspector, Recorder};
use crate::ids::app::{Protocol, Stage, Transaction};
use crate::ids::buffer::Side;
use crate::ids::detect::{Captured, Match, Origin};
use crate::ids::eve::{
    Alert, AlertAction, Anomaly, AppNames, Application, Body, DropReason, DropRecord, DroppedFlows,
    FlowSummary, Head, PacketSource, Payload, PayloadFrom, Place, Record, Rejects, TaggedPacket,
    Tunnel, Variables, Verdict as Fate,
};
use crate::ids::rules::{Action, CaptureScope, Rule};
use crate::ids::stream::Events;

/// Which packet a record is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends<'l> {
    /// A packet that came.
    Packet(&'l Level<'l>),
    /// One of no content, while that packet is worked on.
    Level { level: &'l Level<'l>, side: Side },
    /// One of no content, at the end of the flow.
    Flow { side: Side, time: Time },
}

impl Inspector {
    /// Gives a record to who takes them.
    pub(super) fn tell(&mut self, head: Head, body: Body, recorder: &mut impl Recorder) {
        self.counters.add(Counter::Records, 1);
        recorder.record(Record { head, body });
    }

    /// Tells the rules that matched.
    pub(super) fn tell_alerts(
        &mut self,
        look: Option<&Look>,
        ends: &Ends<'_>,
        recorder: &mut impl Recorder,
    ) {
        let told = std::mem::take(&mut self.matches.told);
        for found in told.iter().take(ALERTS_MAX) {
            self.counters.add(Counter::Alerts, 1);
            self.tell_alert(found, look, ends, recorder);
        }
        let more = told.len().saturating_sub(ALERTS_MAX) as u64;
        self.counters.add(Counter::AlertsOverflow, more);
        self.matches.told = told;
    }

    /// What becomes of the packet at hand.
    fn fate(&self, ends: &Ends<'_>) -> Fate {
        let is_passive = self.is_passive();
        match self.matches.action {
            Some((_, Action::Reject(to))) => {
                let is_tcp = match ends {
                    Ends::Packet(level) | Ends::Level { level, .. } => {
                        matches!(level.decoded.upper, Upper::Tcp { .. })
                    }
                    Ends::Flow { .. } => true,
                };
                let by = if is_tcp { Rejects::TcpReset } else { Rejects::IcmpProhibited };
                Fate::Reject { to, by, is_dropped: !is_passive }
            }
            Some((_, Action::Drop)) if !is_passive => Fate::Drop,
            Some((_, Action::Pass)) => Fate::Pass,
            _ => Fate::Alert,
        }
    }

    /// Tells a packet that a rule wants after its match.
    pub(super) fn tell_tagged(
        &mut self,
        look: Option<&Look>,
        ends: &Ends<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Ends::Packet(level) = ends else { return };
        if !self.settings.records.alert.as_ref().is_some_and(|alert| alert.tagged_packets) {
            return;
        }
        let head = self.head(look.map(|look| look.flow), ends, Way::Packet);
        let packet = TaggedPacket { frame: level.seen.frame.into() };
        self.tell(head, Body::Packet(Box::new(packet)), recorder);
    }

    fn tell_alert(
        &mut self,
        found: &Match,
        look: Option<&Look>,
        ends: &Ends<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Some(settings) = &self.settings.records.alert else { return };
        let settings_metadata = self.settings.records.metadata;
        let Some(rule) = self.detector.ruleset().rule(found.rule) else { return };
        let action = match rule.action {
            // Whose rate filter speaks has what becomes of the packet, whoever drops it or would.
            _ if found.is_rated => match self.matches.action {
                Some((_, Action::Drop | Action::Reject(_))) => AlertAction::Blocked,
                _ => AlertAction::Allowed,
            },
            Action::Reject(_) => AlertAction::Blocked,
            Action::Drop if !self.is_passive() => AlertAction::Blocked,
            _ => AlertAction::Allowed,
        };
        let flow = look.and_then(|look| self.flows.get(look.flow));
        let mut alert = Alert::of(rule, action);
        alert.side = look.map(|look| look.side);
        let mut told_in = found.transaction;
        if let Some(flow) = flow {
            alert.apps = apps_of(flow);
            alert.flow = settings.metadata.then(|| summary_of(flow));
            // A datagram has its message in it; of a stream the only open transaction is a guess.
            let is_sure = !flow.is_tcp() && rule.protocol.is_some();
            let guess = self.guess.filter(|_| is_sure || settings.guess_transaction);
            told_in = found.transaction.or(guess);
            alert.is_guessed = found.transaction.is_none() && guess.is_some() && !is_sure;
            let transaction = told_in.and_then(|id| flow.app.as_ref()?.transactions().get(id));
            alert.application = transaction
                .and_then(|tx| Application::of(tx, Place::Alert, &self.settings.records));
        }
        alert.verdict = settings.verdict.then(|| self.fate(ends));
        if settings.wants_payload() {
            alert.payload = self.payload_of(found, look, ends, settings.payload_buffer_size);
        }
        if let Ends::Packet(level) = ends {
            if settings.packet {
                alert.packet = Some(level.seen.frame.into());
            }
            alert.tunnel = tunnel_of(level).map(Box::new);
        }
        let of_alert = |(rule, captured): &&(u32, Captured)| {
            *rule == found.rule && captured.scope == CaptureScope::Alert
        };
        let pair =
            |(_, captured): &(u32, Captured)| (captured.name.clone(), captured.value.clone());
        alert.context = self.matches.captured.iter().filter(of_alert).map(pair).collect();
        let mut head = self.head(look.map(|look| look.flow), ends, Way::Packet);
        if settings_metadata && !self.matches.captured.is_empty() {
            self.add_packet_variables(&mut head);
        }
        head.transaction = told_in;
        self.tell(head, Body::Alert(Box::new(alert)), recorder);
    }

    /// The bytes that a rule matched on.
    fn payload_of(
        &self,
        found: &Match,
        look: Option<&Look>,
        ends: &Ends<'_>,
        most: usize,
    ) -> Option<Payload> {
        let of_packet = |level: &Level<'_>| {
            let payload = level.decoded.payload();
            Payload { bytes: payload.into(), from: PayloadFrom::Packet }
        };
        let is_of_stream = found.origin != Origin::Packet;
        let stream = look
            .filter(|_| is_of_stream)
            .and_then(|look| Some((look, self.flows.get(look.flow)?.stream()?)));
        let Some((look, id)) = stream else {
            return match ends {
                Ends::Packet(level) => Some(of_packet(level)),
                _ => None,
            };
        };
        let side = match look.side {
            Side::ToServer => crate::ids::stream::Side::Client,
            Side::ToClient => crate::ids::stream::Side::Server,
        };
        let is_headless = self
            .flows
            .get(look.flow)
            .is_some_and(|flow| flow.has(flow::one_of(flow::HEADLESS, look.side)));
        let mut bytes = Vec::new();
        let mut next = is_headless.then_some(0);
        self.streams.each_held(id, side, |offset, held| {
            let missing = next.map_or(0, |next| offset.saturating_sub(next));
            next = Some(offset + held.len() as u64);
            let gap = format!("[{missing} bytes missing]");
            let gap = if missing > 0 { gap.as_bytes() } else { b"" };
            for part in [gap, held] {
                let room = most.saturating_sub(bytes.len());
                bytes.extend_from_slice(part.get(..room).unwrap_or(part));
            }
        });
        if bytes.is_empty()
            && let Ends::Packet(level) = ends
        {
            return Some(of_packet(level));
        }
        Some(Payload { bytes: bytes.into(), from: PayloadFrom::Stream })
    }

    /// Tells that a packet is dropped: of a flow that is dropped as a whole once a direction, unless each is wanted.
    pub(super) fn tell_drop(
        &mut self,
        look: Option<&Look>,
        level: &Level<'_>,
        reason: DropReason,
        rule: Option<u32>,
        recorder: &mut impl Recorder,
    ) {
        let rule = rule.and_then(|rule| self.detector.ruleset().rule(rule)).map(Arc::clone);
        self.tell_drop_of(look, level, reason, rule, recorder);
    }

    /// The same of a rule that need not be one of the ruleset.
    pub(super) fn tell_drop_of(
        &mut self,
        look: Option<&Look>,
        level: &Level<'_>,
        reason: DropReason,
        rule: Option<Arc<Rule>>,
        recorder: &mut impl Recorder,
    ) {
        self.dropped = Some((reason, rule.as_ref().map(|rule| (rule.gid, rule.sid))));
        self.counters.add(Counter::of_drop(reason), 1);
        let Some(settings) = self.settings.records.drop else { return };
        if let Some(look) = look
            && let Some(flow) = self.flows.get_mut(look.flow)
            && settings.flows == DroppedFlows::Start
        {
            let mark = flow::one_of(flow::DROP_TOLD, look.side);
            let is_first = flow.has(flow::DROPPED) && !flow.has(mark);
            if flow.has(flow::DROPPED) {
                flow.mark(mark);
            }
            if !is_first && rule.is_none() {
                return;
            }
        }
        let decoded = level.decoded;
        let network = decoded.ip.as_ref().map_or(&[][..], |ip| ip.network);
        let upper = match (&decoded.ip, &decoded.upper) {
            (Some(ip), upper) if !matches!(upper, Upper::None) => ip.rest,
            _ => &[],
        };
        let protocol = decoded.ip.as_ref().map_or(0, |ip| ip.protocol);
        let mut dropped = DropRecord::of(network, upper, protocol, reason);
        dropped.side = look.map(|look| look.side);
        dropped.verdict = settings.verdict.then_some(Fate::Drop);
        dropped.rule = rule.filter(|_| settings.alerts).map(|rule| (rule, AlertAction::Blocked));
        let ends = Ends::Packet(level);
        let head = self.head(look.map(|look| look.flow), &ends, Way::Packet);
        self.tell(head, Body::Drop(Box::new(dropped)), recorder);
    }

    /// Tells what is odd about a packet's headers.
    pub(super) fn tell_header_events(
        &mut self,
        look: Option<&Look>,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) {
        if level.decoded.remarks.names().is_empty()
            || !self.settings.records.anomaly.as_ref().is_some_and(|anomaly| anomaly.decode)
        {
            return;
        }
        for name in level.decoded.remarks.names() {
            let head = self.head(look.map(|look| look.flow), &Ends::Packet(level), Way::Packet);
            self.tell(head, Body::Anomaly(Anomaly::of_headers(name)), recorder);
        }
    }

    /// Tells what is odd about a segment.
    pub(super) fn tell_stream_events(
        &mut self,
        look: &Look,
        level: &Level<'_>,
        events: &Events,
        recorder: &mut impl Recorder,
    ) {
        if events.is_empty()
            || !self.settings.records.anomaly.as_ref().is_some_and(|anomaly| anomaly.stream)
        {
            return;
        }
        for event in events.iter() {
            let head = self.head(Some(look.flow), &Ends::Packet(level), Way::Packet);
            self.tell(head, Body::Anomaly(Anomaly::of_stream(event)), recorder);
        }
    }

    /// Tells what parsers remarked, and the transactions that are whole.
    pub(super) fn log_transactions(
        &mut self,
        number: u32,
        ends: &Ends<'_>,
        recorder: &mut impl Recorder,
    ) {
        self.tell_app_events(number, ends, recorder);
        let Some(app) = self.flows.get(number).and_then(|flow| flow.app.as_deref()) else {
            return;
        };
        self.ids.clear();
        let due = app.transactions().iter().filter(|tx| !tx.is_logged() && is_loggable(tx));
        self.ids.extend(due.map(Transaction::id));
        if self.ids.is_empty() {
            return;
        }
        let ids = std::mem::take(&mut self.ids);
        for id in &ids {
            let Some(app) = self.flows.get(number).and_then(|flow| flow.app.as_deref()) else {
                break;
            };
            let record = app
                .transactions()
                .get(*id)
                .and_then(|tx| Application::of(tx, Place::Record, &self.settings.records));
            if let Some(record) = record {
                let mut head = self.head(Some(number), ends, Way::Flow);
                head.transaction = Some(*id);
                self.tell(head, record.into_body(), recorder);
            }
            let flow = self.flows.get_mut(number);
            if let Some(app) = flow.and_then(|flow| flow.app.as_deref_mut()) {
                app.transactions_mut().mark_logged(*id);
            }
        }
        self.ids = ids;
    }

    fn tell_app_events(&mut self, number: u32, ends: &Ends<'_>, recorder: &mut impl Recorder) {
        let wants = self.settings.records.anomaly.as_ref().is_some_and(|anomaly| anomaly.applayer);
        if !wants {
            return;
        }
        let mut found = Vec::new();
        if let Some(flow) = self.flows.get_mut(number)
            && let Some(app) = flow.app.as_deref_mut()
        {
            let protocol = app.protocol();
            let of_flow = self.app_events.drain(..);
            found.extend(of_flow.map(|event| (None, Anomaly::of_app(event, protocol))));
            if self.news.has_news {
                self.ids.clear();
                let odd = app.transactions().iter().filter(|tx| !tx.events().is_empty());
                self.ids.extend(odd.map(Transaction::id));
                for id in &self.ids {
                    let events = app.transactions_mut().take_events(*id);
                    found.extend(
                        events.iter().map(|event| (Some(*id), Anomaly::of_app(*event, protocol))),
                    );
                }
            }
        }
        for (transaction, anomaly) in found {
            let mut head = self.head(Some(number), ends, Way::Packet);
            head.transaction = transaction;
            self.tell(head, Body::Anomaly(anomaly), recorder);
        }
    }

    /// What all records about a packet have.
    pub(super) fn head(&self, number: Option<u32>, ends: &Ends<'_>, way: Way) -> Head {
        let flow = number.and_then(|number| self.flows.get(number));
        let mut head = match ends {
            Ends::Packet(level) => self.head_of_packet(level),
            Ends::Level { level, side } => {
                let mut head = self.head_of_packet(level);
                set_ends(&mut head, flow, *side);
                head.source = PacketSource::Stream;
                head
            }
            Ends::Flow { side, time } => {
                let mut head = Head::at(*time);
                set_ends(&mut head, flow, *side);
                head.source = PacketSource::FlowTimeout;
                if let Some(flow) = flow {
                    head.vlan = vlans_of(flow);
                    head.protocol = Some(flow.key.protocol);
                    head.in_iface = self.settings.ports.get(usize::from(flow.port)).cloned();
                }
                head
            }
        };
        if let Some(flow) = flow {
            head.flow_id = Some(flow.id());
            head.variables = self.variables_of(flow);
            if way == Way::Flow {
                set_ends(&mut head, Some(flow), Side::ToServer);
            }
        }
        head
    }

    /// What rules keep with a flow, if it is wanted and there is something.
    pub(super) fn variables_of(&self, flow: &Flow) -> Option<Arc<Variables>> {
        let state = flow.state.as_deref().filter(|_| self.settings.records.metadata)?;
        let ruleset = self.detector.ruleset();
        let variables = Variables {
            bits: ruleset.bits_of(state).map(Into::into).collect(),
            numbers: ruleset.integers_of(state).map(|(name, n)| (name.into(), n.into())).collect(),
            of_flow: state.captured().iter().map(|c| (c.name.clone(), c.value.clone())).collect(),
            of_packet: Vec::new(),
        };
        (variables != Variables::default()).then(|| Arc::new(variables))
    }

    /// Adds what groups of expressions matched on the packet at hand. `key` and `value` of a rule are one variable.
    fn add_packet_variables(&self, head: &mut Head) {
        let mut variables = head.variables.take().map(|v| (*v).clone()).unwrap_or_default();
        let mut key = None;
        for (rule, Captured { name, value, scope }) in &self.matches.captured {
            if *scope != CaptureScope::Packet {
                continue;
            }
            match (&**name, key.take()) {
                ("key", _) => key = Some((rule, String::from_utf8_lossy(value).into())),
                ("value", Some((of, name))) if of == rule => {
                    variables.of_packet.push((name, value.clone()));
                }
                _ => variables.of_packet.push((name.clone(), value.clone())),
            }
        }
        if variables != Variables::default() {
            head.variables = Some(Arc::new(variables));
        }
    }

    fn head_of_packet(&self, level: &Level<'_>) -> Head {
        let decoded = level.decoded;
        let mut head = Head::at(level.seen.time);
        head.pcap_cnt = level.seen.place;
        head.in_iface = self.settings.ports.get(usize::from(level.seen.port)).cloned();
        head.vlan = decoded.vlans.map(|vlan| Some(vlan).filter(|vlan| *vlan != NO_VLAN));
        head.source = level.source;
        if let Some(ip) = &decoded.ip {
            head.src = Some(address(ip.kind, ip.src));
            head.dst = Some(address(ip.kind, ip.dst));
            head.protocol = Some(ip.protocol);
        }
        match decoded.upper {
            Upper::Tcp { sport, dport, .. }
            | Upper::Udp { sport, dport, .. }
            | Upper::Sctp { sport, dport, .. } => {
                (head.sport, head.dport) = (Some(sport), Some(dport));
            }
            Upper::Icmp { kind, code, .. } => head.icmp = Some((kind, code)),
            Upper::None | Upper::Other => {}
        }
        head
    }
}

/// Which way a record's ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As the packet goes.
    Packet,
    /// From the client.
    Flow,
}

/// Sets the ends of a record to those of a flow, as a packet of a side would have them.
pub(super) fn set_ends(head: &mut Head, flow: Option<&Flow>, side: Side) {
    let Some(flow) = flow else { return };
    let client = flow.client();
    let from = if side == Side::ToServer { client } else { client.other() };
    let ends = &flow.key.ends;
    let (src, dst): (IpAddr, IpAddr) = (ends.address(from), ends.address(from.other()));
    (head.src, head.dst) = (Some(src), Some(dst));
    head.protocol = Some(flow.key.protocol);
    if has_ports(flow.key.protocol) {
        (head.sport, head.dport) = (Some(ends.port(from)), Some(ends.port(from.other())));
    } else if matches!(flow.key.protocol, protocol::ICMP | protocol::ICMP6) {
        head.icmp = Some(flow.icmp[0]);
    }
}

pub(super) fn vlans_of(flow: &Flow) -> [Option<u16>; 3] {
    let [outer, inner] = flow.vlans;
    [outer, inner, NO_VLAN].map(|vlan| Some(vlan).filter(|vlan| *vlan != NO_VLAN))
}

pub(super) fn apps_of(flow: &Flow) -> AppNames {
    match &flow.app {
        Some(app) => AppNames::of(app),
        None => {
            let [protocol, original] = flow.protocols;
            AppNames { protocol, original, ..AppNames::default() }
        }
    }
}

pub(super) fn summary_of(flow: &Flow) -> FlowSummary {
    FlowSummary { counts: flow.counts, bypassed: flow.bypassed(), start: flow.start }
}

/// The packet that carries another one.
fn tunnel_of(level: &Level<'_>) -> Option<Tunnel> {
    let (outer, source) = level.outer?;
    let ip = outer.ip.as_ref()?;
    Some(Tunnel {
        src: address(ip.kind, ip.src),
        dst: address(ip.kind, ip.dst),
        ports: outer.ports(),
        protocol: ip.protocol,
        depth: level.depth,
        pcap_cnt: level.seen.place,
        source,
    })
}

/// Whether a transaction has all that its record says.
fn is_loggable(tx: &Transaction) -> bool {
    tx.is_complete()
        || (tx.protocol() == Protocol::Ssh
            && [Side::ToServer, Side::ToClient].iter().all(|side| tx.stage(*side) >= Stage::Line))
}

fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// Alerts of one packet, as Suricata's `packet-alert-max`.
const ALERTS_MAX: usize = 15;
