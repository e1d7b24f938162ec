//! From a packet to its flow.

use nfv_core::packet::{Headers, L3, NO_VLAN, protocol};

use super::counters::Counter;
use super::decode::{Ip, Quoted, Upper};
use super::flow::{DROPPED, Flow, FlowKey, FlowPhase, PASSES_BY, one_of};
use super::look::Look;
use super::settings::Vlans;
use super::table::Due;
use super::worker::{Level, address};
use super::{Inspector, Recorder};
use crate::ids::buffer::Side;
use crate::ids::eve::FlowEnd;
use crate::ids::stream::{End, Events, Key};

impl Inspector {
    /// The flow of a packet, made if there is none, and the end that sent the packet.
    ///
    /// `None`: there is no room, its protocol has none, or it is an error about a flow that is not known.
    pub(super) fn flow_of(
        &mut self,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Option<(u32, End)> {
        let ip = level.decoded.ip.as_ref().filter(|ip| has_flow(ip.protocol))?;
        let (sport, dport) = ends_of(&level.decoded.upper);
        let (key, from) = self.key(ip, (sport, dport), ip.protocol, level);
        let number = self.flows.find(&key);
        if number != 0 {
            if !self.flows.is_over(number, level.seen.time) {
                return Some((number, from));
            }
            self.end(number, FlowEnd::Timeout, recorder);
        } else if let Upper::Icmp { kind, quoted, .. } = &level.decoded.upper
            && ip.kind == L3::Ipv4
            && is_error(*kind)
        {
            let quoted = quoted.as_ref().filter(|_| *kind == UNREACHABLE)?;
            return self.quoted_flow(ip, quoted, level);
        }
        let Some(number) = self.flows.insert(&key, from, level.seen.time) else {
            self.counters.add(Counter::FlowsRefused, 1);
            return None;
        };
        self.count_flow(ip.protocol);
        if let Some(flow) = self.flows.get_mut(number) {
            flow.port = level.seen.port;
            let [outer, inner, _] = level.decoded.vlans;
            flow.vlans = [outer, inner];
            if let Upper::Icmp { kind, code, .. } = level.decoded.upper {
                flow.icmp = [(kind, code), (answer_to(ip.protocol, kind), code)];
            }
        }
        Some((number, from))
    }

    /// The flow that an error is about; errors open none.
    fn quoted_flow(&self, ip: &Ip<'_>, quoted: &Quoted, level: &Level<'_>) -> Option<(u32, End)> {
        let about = Ip { src: quoted.src, dst: quoted.dst, ..*ip };
        let (key, _) = self.key(&about, (quoted.sport, quoted.dport), quoted.protocol, level);
        let number = self.flows.find(&key);
        let flow = self.flows.get(number)?;
        let is_client = flow.key.ends.address(flow.client()) == address(ip.kind, ip.src);
        Some((number, if is_client { flow.client() } else { flow.client().other() }))
    }

    fn key(
        &self,
        ip: &Ip<'_>,
        (sport, dport): (u16, u16),
        protocol: u8,
        level: &Level<'_>,
    ) -> (FlowKey, End) {
        let [vlan, inner, _] = match self.settings.vlans {
            Vlans::Apart => level.decoded.vlans,
            Vlans::Together => [NO_VLAN; 3],
        };
        let (src, dst) = (ip.src, ip.dst);
        let headers = Headers { src, dst, sport, dport, kind: ip.kind, vlan, ..Headers::default() };
        let inner = if inner == NO_VLAN { 0 } else { inner };
        let (ends, from) = Key::of(&headers, inner << 3 | u16::from(level.depth & 7));
        (FlowKey { ends, protocol }, from)
    }

    fn count_flow(&mut self, protocol: u8) {
        self.counters.add(Counter::Flows, 1);
        self.counters.add(
            match protocol {
                protocol::TCP => Counter::FlowsTcp,
                protocol::UDP => Counter::FlowsUdp,
                protocol::ICMP | protocol::ICMP6 => Counter::FlowsIcmp,
                _ => Counter::FlowsOther,
            },
            1,
        );
    }

    /// Whether a packet begins a connection where one was that is not looked at any more, and that has come to its end: its
    /// bytes are others.
    #[inline]
    pub(super) fn begins_anew(&self, number: u32, level: &Level<'_>) -> bool {
        let Upper::Tcp { segment, .. } = &level.decoded.upper else { return false };
        if segment.flags.0 & (SYN | ACK | RST) != SYN {
            return false;
        }
        self.flows.get(number).is_some_and(|flow| {
            let [up, down] = flow.tcp_flags;
            flow.phase == FlowPhase::Bypassed && (up | down) & (FIN | RST) != 0
        })
    }

    /// Whether a packet is of a flow that is not looked at any more: then it is counted, and that is all.
    #[inline]
    pub(super) fn is_let_go(&mut self, number: u32, from: End, level: &Level<'_>) -> bool {
        let Some(flow) = self.flows.get_mut(number) else { return false };
        let side = flow.side_of(from);
        if flow.phase != FlowPhase::Bypassed && !passes_by(flow, side, level) {
            return false;
        }
        flow.count(side, level.length, level.seen.time);
        if let Upper::Tcp { segment, .. } = &level.decoded.upper
            && let Some(flags) = flow.tcp_flags.get_mut(side.index())
        {
            *flags |= segment.flags.0;
        }
        self.counters.add(Counter::Bypassed, 1);
        self.flows.touch(number);
        true
    }

    /// Counts a packet of a flow, and notes how far the flow is.
    #[inline]
    pub(super) fn enter(&mut self, number: u32, from: End, level: &Level<'_>) -> Look {
        let mut look = Look::of(number);
        let Some(flow) = self.flows.get_mut(number) else { return look };
        look.side = flow.side_of(from);
        flow.count(look.side, level.length, level.seen.time);
        // An error is no word of the side that it comes from.
        if !is_error_packet(level) {
            look.is_first = flow.note_seen(look.side);
        }
        if flow.is_tcp() {
            let state = flow.stream().and_then(|id| self.streams.view(id)).map(|view| view.state);
            look.tcp = state;
            // As it was before this packet: the one that ends the handshake is no part of what it establishes.
            look.is_established = state.is_some_and(|state| state.is_established());
        } else {
            let both = flow.has_seen_both();
            if both && flow.phase == FlowPhase::New {
                flow.phase = FlowPhase::Established;
            }
            look.is_established = both;
        }
        self.flows.touch(number);
        look
    }

    /// Ends the next flow whose time is up. Whether there was one.
    pub(super) fn end_due(&mut self, recorder: &mut impl Recorder) -> bool {
        if let Some((number, why)) = self.flows.due(self.now) {
            let reason = match why {
                Due::Idle => FlowEnd::Timeout,
                Due::Surplus => FlowEnd::Forced,
            };
            self.counters.add(Counter::FlowsForced, u64::from(why == Due::Surplus));
            self.end(number, reason, recorder);
            return true;
        }
        false
    }

    /// Ends the flow whose connection makes room for others', where the stream engine has no room left. Whether there was
    /// one.
    pub(super) fn end_surplus_stream(&mut self, recorder: &mut impl Recorder) -> bool {
        if self.streams.len() + STREAMS_SPARE <= self.streams.most() {
            return false;
        }
        let Some((id, _)) = self.streams.due(self.now) else { return false };
        let key = self.streams.view(id).map(|view| *view.key);
        let key = key.map(|ends| FlowKey { ends, protocol: protocol::TCP });
        match key.map_or(0, |key| self.flows.find(&key)) {
            0 => self.streams.forget(id),
            number => {
                self.counters.add(Counter::FlowsForced, 1);
                self.end(number, FlowEnd::Forced, recorder);
            }
        }
        true
    }

    /// Lets a flow go: its packets cost a look-up from now on.
    pub(super) fn let_go(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        if flow.phase == FlowPhase::Bypassed {
            return;
        }
        flow.phase = FlowPhase::Bypassed;
        flow.bypassed_at = Some(Box::new(flow.counts));
        self.flows.touch(number);
    }
}

/// Whether a segment is one of a side that is past its depth, and says nothing else.
fn passes_by(flow: &Flow, side: Side, level: &Level<'_>) -> bool {
    flow.has(one_of(PASSES_BY, side))
        && !flow.has(DROPPED)
        && matches!(&level.decoded.upper, Upper::Tcp { segment, .. } if segment.flags.0 & (SYN | FIN | RST) == 0)
}

impl Look {
    /// At a flow of which nothing is known yet.
    pub(super) fn of(flow: u32) -> Self {
        Self {
            flow,
            side: Side::ToServer,
            is_first: false,
            is_established: false,
            tcp: None,
            is_in_stream: false,
            is_ending: false,
            events: Events::NONE,
            rewrite: None,
            is_other: false,
        }
    }
}

/// Whether packets of a protocol are of flows, as they are to Suricata: of others each stands for itself.
fn has_flow(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP
            | protocol::UDP
            | protocol::SCTP
            | protocol::ICMP
            | protocol::ICMP6
            | IP_IN_IP
            | IPV6
            | ESP
    )
}

/// Ports, or of ICMP the question and its answer: both have the same two, the other way round.
fn ends_of(upper: &Upper<'_>) -> (u16, u16) {
    match upper {
        Upper::Tcp { sport, dport, .. }
        | Upper::Udp { sport, dport, .. }
        | Upper::Sctp { sport, dport, .. } => (*sport, *dport),
        Upper::Icmp { kind, .. } => (u16::from(*kind), u16::from(answer_to_any(*kind))),
        Upper::None | Upper::Other => (0, 0),
    }
}

/// The type of the answer to a message; 255 without one. The types of ICMP's and of ICMPv6's questions differ.
fn answer_to_any(kind: u8) -> u8 {
    match kind {
        0 => 8,
        8 => 0,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        128 => 129,
        129 => 128,
        130 => 131,
        131 => 130,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => NO_ANSWER,
    }
}

fn answer_to(protocol: u8, kind: u8) -> u8 {
    let is_of_six = protocol == protocol::ICMP6;
    if is_of_six == (kind >= 128) { answer_to_any(kind) } else { NO_ANSWER }
}

fn is_error_packet(level: &Level<'_>) -> bool {
    let is_four = level.decoded.ip.as_ref().is_some_and(|ip| ip.kind == L3::Ipv4);
    matches!(level.decoded.upper, Upper::Icmp { kind, .. } if is_four && is_error(kind))
}

fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | 4 | 5 | 11 | 12)
}

/// Places that the stream engine is kept free.
const STREAMS_SPARE: u32 = 64;
const IP_IN_IP: u8 = 4;
const IPV6: u8 = 41;
const ESP: u8 = 50;
const UNREACHABLE: u8 = 3;
/// No type of an answer.
pub(super) const NO_ANSWER: u8 = 255;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
