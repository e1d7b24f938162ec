//! Rules in, packets and conversations in, numbers of rules out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nfv_core::clock::Time;
use nfv_core::packet::{Headers, L3};

use super::super::matcher::Engine;
use super::super::*;
use crate::ids::app::{App, Input, Limits, Pickup, Ports};
use crate::ids::rules::{Action, AlertLimits, Classes, Rules, Setup, Side, Source, Variables};
use crate::ids::stream::{
    self, Budget, End, Events, Key, Mode, Segment, Settings, Sink, StreamId, Streams,
};

pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub const UP: Side = Side::ToServer;
pub const DOWN: Side = Side::ToClient;
/// No rule.
pub const NONE: [u32; 0] = [];

/// Rules of a file, which all load.
pub fn rules(text: &str) -> Rules {
    let own = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let (variables, wrong) = Variables::new(&own(&[("HOME_NET", "10.0.0.0/8")]), &own(&[]));
    assert_eq!(wrong, []);
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let setup = Setup { variables: &variables, classes: &Classes::default(), events: &names };
    let rules = Rules::read(&[Source { name: "test.rules", text: text.as_bytes() }], &setup);
    assert!(rules.broken.is_empty() && rules.skipped.is_empty(), "{text}: {rules:#?}");
    rules
}

fn names() -> Vec<String> {
    events().into_iter().chain(["ipv4.trunc_pkt".to_owned()]).collect()
}

pub fn ruleset(text: &str) -> Arc<Ruleset> {
    ruleset_by(text, Engine::Library)
}

pub fn ruleset_by(text: &str, engine: Engine) -> Arc<Ruleset> {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let with = Compile { events: &names, ..Compile::default() };
    Arc::new(Ruleset::compile_for(rules(text).rules, &with, engine))
}

/// Rules, compiled otherwise than usual.
pub fn ruleset_with(text: &str, change: impl FnOnce(&mut Compile<'_>)) -> Arc<Ruleset> {
    let mut with = Compile::default();
    change(&mut with);
    Arc::new(Ruleset::compile(rules(text), &with))
}

/// Rules under a `threshold.config`, all of whose lines are right and about them.
pub fn ruleset_under(text: &str, limits: &str) -> Arc<Ruleset> {
    let source = Source { name: "threshold.config", text: limits.as_bytes() };
    let mut limits = AlertLimits::read(&source, &Variables::default());
    let mut rules = rules(text);
    limits.apply(&mut rules);
    assert!(limits.broken.is_empty() && limits.unused.is_empty(), "{limits:?}");
    Arc::new(Ruleset::compile(rules, &Compile::default()))
}

/// Numbers of rules.
pub type Sids = Vec<u32>;

/// A packet with its headers.
#[derive(Clone, Debug)]
pub struct Crafted {
    pub bytes: Vec<u8>,
    pub upper: usize,
    pub payload: usize,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub ports: [u16; 2],
    pub time: Time,
    pub remarks: &'static [&'static str],
    pub is_fragment: bool,
    pub was_fragmented: bool,
}

impl Crafted {
    /// IPv4 without options, this protocol and header above.
    pub fn ipv4(protocol: u8, upper: &[u8], payload: &[u8]) -> Self {
        let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
        bytes.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend_from_slice(upper);
        bytes.extend_from_slice(payload);
        let ports = match (protocol, upper) {
            (6 | 17, [a, b, c, d, ..]) => {
                [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]
            }
            _ => [0, 0],
        };
        Self {
            bytes,
            upper: 20,
            payload: 20 + upper.len(),
            src: CLIENT,
            dst: SERVER,
            protocol,
            ports,
            time: Time(1_000_000_000_000),
            remarks: &[],
            is_fragment: false,
            was_fragmented: false,
        }
    }

    /// IPv6 from fd00::1 to fd00::2, of traffic class 8.
    pub fn ipv6(protocol: u8, upper: &[u8]) -> Self {
        let mut bytes = vec![0x60, 0x80, 0, 0, 0, upper.len() as u8, protocol, 64];
        let ends = [1, 2].map(|last| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        ends.iter().for_each(|end| bytes.extend_from_slice(&end.octets()));
        bytes.extend_from_slice(upper);
        let [src, dst] = ends.map(IpAddr::from);
        let payload = bytes.len();
        Self { bytes, upper: 40, payload, src, dst, protocol, ports: [0; 2], ..Self::udp(b"") }
    }

    pub fn tcp(flags: u8, payload: &[u8]) -> Self {
        let mut header = [0; 20];
        header[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        header[4..8].copy_from_slice(&1000_u32.to_be_bytes());
        header[8..12].copy_from_slice(&2000_u32.to_be_bytes());
        header[12] = 0x50;
        header[13] = flags;
        header[14..16].copy_from_slice(&8192_u16.to_be_bytes());
        Self::ipv4(6, &header, payload)
    }

    pub fn udp(payload: &[u8]) -> Self {
        Self::ipv4(17, &[0x9c, 0x40, 0, 53, 0, 8, 0, 0], payload)
    }

    /// From 10.0.0.2 to 10.0.0.1.
    pub fn back(mut self) -> Self {
        std::mem::swap(&mut self.src, &mut self.dst);
        self.ports.reverse();
        self
    }

    pub fn from(mut self, host: [u8; 4]) -> Self {
        self.src = host.into();
        self
    }

    pub fn after(mut self, seconds: u64) -> Self {
        self.time.0 += seconds * 1_000_000_000;
        self
    }

    pub fn packet(&self) -> Packet<'_> {
        Packet {
            time: self.time,
            src: self.src,
            dst: self.dst,
            protocol: self.protocol,
            sport: self.ports[0],
            dport: self.ports[1],
            network: &self.bytes,
            upper: &self.bytes[self.upper..],
            payload: &self.bytes[self.payload..],
            was_fragmented: self.was_fragmented,
            is_fragment: self.is_fragment,
            remarks: self.remarks,
        }
    }
}

/// Who looks on, with one flow.
#[derive(Debug)]
pub struct Watch {
    pub detector: Detector,
    pub state: FlowState,
    pub matches: Matches,
    pub limits: Limits,
}

impl Watch {
    pub fn new(text: &str) -> Self {
        Self::of(ruleset(text))
    }

    pub fn of(ruleset: Arc<Ruleset>) -> Self {
        Self::with(ruleset, Arc::new(Memory::new(0)))
    }

    pub fn with(ruleset: Arc<Ruleset>, memory: Arc<Memory>) -> Self {
        Self {
            detector: Detector::new(ruleset, memory),
            state: FlowState::default(),
            matches: Matches::default(),
            limits: Limits::default(),
        }
    }

    /// A packet without a flow.
    pub fn lone(&mut self, packet: &Crafted) -> Sids {
        self.look(packet, None)
    }

    /// A packet of the flow, which is no followed stream.
    pub fn of_flow(&mut self, packet: &Crafted, side: Side) -> Sids {
        self.look(packet, Some(facts(side)))
    }

    pub fn look(&mut self, packet: &Crafted, flow: Option<FlowFacts>) -> Sids {
        let limits = self.limits.clone();
        let mut subject = Subject {
            packet: packet.packet(),
            flow,
            state: flow.is_some().then_some(&mut self.state),
            app: None,
            limits: &limits,
            streams: None,
            stream_events: Events::NONE,
            app_events: &[],
        };
        self.detector.inspect(&mut subject, &mut self.matches);
        self.sids()
    }

    /// The rules that are told, in order.
    pub fn sids(&self) -> Sids {
        self.matches.told.iter().map(|told| self.sid(told.rule)).collect()
    }

    pub fn sid(&self, rule: u32) -> u32 {
        self.detector.ruleset().rule(rule).expect("a rule").sid
    }

    pub fn action(&self) -> Option<(u32, Action)> {
        self.matches.action.map(|(rule, action)| (self.sid(rule), action))
    }
}

pub fn facts(side: Side) -> FlowFacts {
    FlowFacts {
        side,
        is_established: true,
        is_first_of_side: false,
        tcp: None,
        is_in_stream: false,
        is_ending: false,
    }
}

/// The rules that match a lone UDP packet with this payload.
pub fn on_payload(text: &str, payload: &[u8]) -> Sids {
    Watch::new(text).lone(&Crafted::udp(payload))
}

/// Whether a rule with these options matches a UDP payload.
pub fn holds(options: &str, payload: &[u8]) -> bool {
    let rule = format!("alert udp any any -> any any ({options} sid:1;)");
    !on_payload(&rule, payload).is_empty()
}

/// A TCP connection between two hosts that know each other, a flow, and who looks on.
#[derive(Debug)]
pub struct Connection {
    pub watch: Watch,
    streams: Streams,
    key: Key,
    client: End,
    pub app: App,
    pub time: Time,
    /// What each side sends next, and what it expects.
    next: [u32; 2],
    is_first: [bool; 2],
    /// Options of the next segments; a multiple of four bytes.
    option: &'static [u8],
    /// All that was told, in order.
    pub told: Sids,
    /// The same of the last packet.
    pub last: Sids,
}

struct Feed<'a> {
    app: &'a mut App,
    limits: &'a Limits,
}

impl Sink for Feed<'_> {
    fn data(&mut self, _: StreamId, from: stream::Side, _: u64, bytes: &[u8]) {
        let side = if from == stream::Side::Client { UP } else { DOWN };
        let mut rest = bytes;
        while !rest.is_empty() {
            let progress = self.app.feed(side, Input::Bytes(rest), self.limits);
            assert!(!progress.is_swapped);
            rest = rest.get(progress.consumed..).unwrap_or_default();
        }
    }

    fn gap(&mut self, _: StreamId, from: stream::Side, _: u64, length: u64) {
        let side = if from == stream::Side::Client { UP } else { DOWN };
        self.app.feed(side, Input::Gap(length), self.limits);
    }
}

impl Connection {
    pub fn new(text: &str) -> Self {
        Self::of(ruleset(text), Mode::Passive)
    }

    pub fn inline(text: &str) -> Self {
        Self::of(ruleset(text), Mode::Inline)
    }

    /// After a handshake.
    pub fn of(ruleset: Arc<Ruleset>, mode: Mode) -> Self {
        let mut connection = Self::closed(ruleset, mode);
        connection.send(UP, 0x02, b"");
        connection.send(DOWN, 0x12, b"");
        connection.send(UP, 0x10, b"");
        connection
    }

    /// Before it.
    pub fn closed(ruleset: Arc<Ruleset>, mode: Mode) -> Self {
        let budget = Budget { connections: 1 << 20, bytes: 4 << 20 };
        let settings = Settings { budget, mode, ..Settings::default() };
        let headers = headers();
        let (key, client) = Key::of(&headers, 0);
        Self {
            watch: Watch::of(ruleset),
            streams: Streams::new(settings),
            key,
            client,
            app: App::tcp(Ports { client: 40_000, server: 80 }, Pickup::Start),
            time: Time(1_000_000_000_000),
            next: [1000, 2000],
            is_first: [true; 2],
            option: &[],
            told: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Bytes of the client, and their acknowledgement.
    pub fn up(&mut self, bytes: &[u8]) -> &mut Self {
        self.send(UP, 0x18, bytes);
        self.send(DOWN, 0x10, b"");
        self
    }

    /// Bytes of the server, and their acknowledgement.
    pub fn down(&mut self, bytes: &[u8]) -> &mut Self {
        self.send(DOWN, 0x18, bytes);
        self.send(UP, 0x10, b"");
        self
    }

    /// One packet; what it is told for.
    pub fn send(&mut self, side: Side, flags: u8, payload: &[u8]) -> Sids {
        let sequence = self.next[side.index()];
        let takes = payload.len() as u32 + u32::from(flags >> 1 & 1) + u32::from(flags & 1);
        self.next[side.index()] = sequence.wrapping_add(takes);
        self.send_at(side, flags, sequence, payload)
    }

    /// Before a handshake whose SYN brings bytes, and has the option for it or not.
    pub fn syn(text: &str, option: &'static [u8], payload: &[u8]) -> Self {
        let mut connection = Self::closed(ruleset(text), Mode::Passive);
        connection.option = option;
        connection.send(UP, 0x02, payload);
        connection.option = &[];
        connection
    }

    /// One packet with a sequence number of its own.
    pub fn send_at(&mut self, side: Side, flags: u8, sequence: u32, payload: &[u8]) -> Sids {
        let expects = self.next[side.opposite().index()];
        let mut crafted = Crafted::tcp(flags, payload);
        crafted.bytes[24..28].copy_from_slice(&sequence.to_be_bytes());
        let expects = if flags & 0x10 != 0 { expects } else { 0 };
        crafted.bytes[28..32].copy_from_slice(&expects.to_be_bytes());
        crafted.bytes.splice(40..40, self.option.iter().copied());
        crafted.bytes[32] += (self.option.len() as u8 / 4) << 4;
        crafted.payload += self.option.len();
        let mut crafted = if side == UP { crafted } else { crafted.back() };
        self.time.0 += 1_000_000;
        crafted.time = self.time;
        let packet = crafted.packet();
        let from = if side == UP { self.client } else { self.client.other() };
        let segment = Segment::read(packet.upper, packet.upper.len() as u32).expect("a segment");
        let limits = self.watch.limits.clone();
        let mut feed = Feed { app: &mut self.app, limits: &limits };
        let outcome = self.streams.segment(&self.key, from, &segment, self.time, &mut feed);
        let flow = FlowFacts {
            side,
            is_established: outcome.state.is_established(),
            is_first_of_side: std::mem::take(&mut self.is_first[side.index()]),
            tcp: Some(outcome.state),
            is_in_stream: outcome.verdict == stream::Verdict::Taken,
            is_ending: false,
        };
        let id = outcome.stream.expect("it is followed");
        self.inspect(packet, flow, id, outcome.events);
        self.last.clone()
    }

    /// The connection's time is up: both sides are looked at.
    pub fn end(&mut self) -> &mut Self {
        let id = self.streams.find(&self.key).expect("a connection");
        let limits = self.watch.limits.clone();
        let mut feed = Feed { app: &mut self.app, limits: &limits };
        self.streams.finish(id, &mut feed);
        for side in [UP, DOWN] {
            self.app.feed(side, Input::Eof, &limits);
        }
        for side in [UP, DOWN] {
            let crafted = Crafted::tcp(0x10, b"");
            let crafted = if side == UP { crafted } else { crafted.back() };
            let packet = Packet { network: &[], upper: &[], payload: &[], ..crafted.packet() };
            let flow = FlowFacts { is_ending: true, is_in_stream: true, ..facts(side) };
            self.inspect(packet, flow, id, Events::NONE);
        }
        self
    }

    fn inspect(&mut self, packet: Packet<'_>, flow: FlowFacts, id: StreamId, events: Events) {
        let app_events = self.app.take_events();
        let limits = self.watch.limits.clone();
        let Watch { detector, state, matches, .. } = &mut self.watch;
        let mut subject = Subject {
            packet,
            flow: Some(flow),
            state: Some(state),
            app: Some(&mut self.app),
            limits: &limits,
            streams: Some((&mut self.streams, id)),
            stream_events: events,
            app_events: &app_events,
        };
        detector.inspect(&mut subject, matches);
        self.app.transactions_mut().collect();
        self.last = self.watch.sids();
        self.told.extend_from_slice(&self.last);
    }
}

fn headers() -> Headers {
    let mut h =
        Headers { kind: L3::Ipv4, protocol: 6, sport: 40_000, dport: 80, ..Headers::default() };
    h.src.0[..4].copy_from_slice(&[10, 0, 0, 1]);
    h.dst.0[..4].copy_from_slice(&[10, 0, 0, 2]);
    h
}

/// Whether a rule matches a UDP payload; `None`: it does not load, as it could never match.
pub fn try_on_payload(text: &str, payload: &[u8]) -> Option<bool> {
    let (variables, _) = Variables::new(&[], &[]);
    let setup = Setup { variables: &variables, classes: &Classes::default(), events: &[] };
    let rules = Rules::read(&[Source { name: "test.rules", text: text.as_bytes() }], &setup);
    if rules.rules.is_empty() {
        return None;
    }
    let ruleset = Arc::new(Ruleset::compile(rules, &Compile::default()));
    Some(!Watch::of(ruleset).lone(&Crafted::udp(payload)).is_empty())
}
