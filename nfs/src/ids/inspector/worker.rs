//! The life of a packet.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::clock::Time;
use nfv_core::packet::{L3, NO_VLAN, protocol};

use super::counters::{Counter, Counters};
use super::datagrams::Datagrams;
use super::decode::{Decoded, Start, Upper};
use super::feed::News;
use super::settings::Settings;
use super::table::Flows;
use super::{Answer, Recorder, Seen, Verdict};
use crate::ids::app::event::Event as AppEvent;
use crate::ids::blocklist::Blocklists;
use crate::ids::detect::{Detector, FlowState, Matches};
use crate::ids::eve::{DropReason, FlowEnd, PacketSource};
use crate::ids::stream::Streams;

/// One worker's IDS.
#[derive(Debug)]
pub struct Inspector {
    pub(super) settings: Arc<Settings>,
    pub(super) detector: Detector,
    pub(super) matches: Matches,
    pub(super) flows: Flows,
    pub(super) streams: Streams,
    pub(super) datagrams: Datagrams,
    pub(super) counters: Counters,
    pub(super) news: News,
    /// What applications and detection hold with flows.
    pub(super) apps_held: usize,
    /// Given to detection until it keeps something with a flow.
    pub(super) blank: FlowState,
    /// Remarks about the flow at hand.
    pub(super) app_events: Vec<AppEvent>,
    /// Transactions at hand.
    pub(super) ids: Vec<u64>,
    /// The transaction that a rule is told with which matched in none.
    pub(super) guess: Option<u64>,
    /// The second that timeouts were last looked for in.
    second: u64,
    pub(super) now: Time,
    /// Why the last packet was dropped that was, and the group and number of the rule that said so.
    pub(super) dropped: Option<Dropped>,
    /// Whom nobody is to talk to.
    pub(super) lists: Arc<Blocklists>,
    /// Turns whenever they are others: flows have it as a mark when they were looked up.
    pub(super) lists_turn: bool,
    /// Of rules and lists: what was predicted by others does not count.
    pub(super) generation: u32,
}

/// Why a packet was dropped, and the group and number of the rule that said so.
pub type Dropped = (DropReason, Option<(u32, u32)>);

/// One packet: a frame, or one that another carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level<'l> {
    pub seen: &'l Seen<'l>,
    pub decoded: &'l Decoded<'l>,
    /// Bytes on the wire.
    pub length: u32,
    pub source: PacketSource,
    /// How many packets carry it.
    pub depth: u8,
    /// Whether it was put together from fragments.
    pub was_fragmented: bool,
    /// The packet that carries it.
    pub outer: Option<(&'l Decoded<'l>, PacketSource)>,
    /// Whether it is the frame itself: its payload can be rewritten.
    pub is_frame: bool,
}

impl<'l> Level<'l> {
    /// A frame that is one packet.
    pub fn of_frame(seen: &'l Seen<'l>, decoded: &'l Decoded<'l>) -> Self {
        Self {
            seen,
            decoded,
            length: seen.wire_length,
            source: PacketSource::Wire,
            depth: 0,
            was_fragmented: false,
            outer: None,
            is_frame: true,
        }
    }
}

impl Inspector {
    /// Of one worker, with all its memory budgets empty.
    pub fn new(settings: Arc<Settings>, detector: Detector) -> Self {
        Self {
            detector,
            matches: Matches::default(),
            flows: Flows::new(settings.budget.flows, settings.timeouts),
            streams: Streams::new(settings.streams.clone()),
            datagrams: Datagrams::new(settings.datagrams.clone()),
            counters: Counters::default(),
            news: News::default(),
            apps_held: 0,
            blank: FlowState::default(),
            app_events: Vec::new(),
            ids: Vec::new(),
            guess: None,
            second: 0,
            now: Time::default(),
            dropped: None,
            lists: Arc::default(),
            lists_turn: false,
            generation: 1,
            settings,
        }
    }

    /// Evaluates other rules from now on. What flows keep of the old ones is forgotten by detection.
    pub fn set_detector(&mut self, detector: Detector) {
        self.detector = detector;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Looks flows up in other blocklists from now on.
    pub fn set_lists(&mut self, lists: Arc<Blocklists>) {
        self.lists = lists;
        self.generation = self.generation.wrapping_add(1);
        self.lists_turn = !self.lists_turn;
    }

    /// Why the last packet was dropped that was.
    pub fn dropped(&self) -> Option<Dropped> {
        self.dropped
    }

    /// Its detection.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Inspects a frame.
    ///
    /// # Cost
    /// About 0.4 us for a segment of 1,460 bytes without rules; see the test `cost_of_packets`.
    pub fn packet(&mut self, seen: &Seen<'_>, recorder: &mut impl Recorder) -> Verdict {
        self.begin(seen.time, recorder);
        self.counters.add(Counter::Bytes, u64::from(seen.wire_length));
        self.counters.add(Counter::Ethernet, 1);
        let tunnels = &self.settings.tunnels;
        let decoded = Decoded::of(Start::Ethernet, seen.frame, seen.wire_length, tunnels);
        let is_piece = decoded.ip.is_some_and(|ip| ip.piece.is_some());
        if is_piece || decoded.carried.is_some() {
            return self.levels(seen, recorder);
        }
        self.level(&Level::of_frame(seen, &decoded), recorder)
    }

    /// Tells what is odd about a frame that nobody takes, as its headers cannot be read; whoever can read it all the same has
    /// seen no packet.
    #[cold]
    pub fn refused(&mut self, seen: &Seen<'_>, recorder: &mut impl Recorder) {
        let tunnels = &self.settings.tunnels;
        let decoded = Decoded::of(Start::Ethernet, seen.frame, seen.wire_length, tunnels);
        if decoded.remarks.is_invalid() {
            let _ = self.packet(seen, recorder);
        }
    }

    /// Ends what was idle for too long. To be called when no packet comes, too.
    pub fn tick(&mut self, now: Time, recorder: &mut impl Recorder) {
        self.begin(now, recorder);
    }

    /// What was counted, besides [`Inspector::streams`].
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The connections that it follows, for their counters.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Flows that it tracks.
    pub fn flows(&self) -> u32 {
        self.flows.len()
    }

    /// Memory that it has of the allocator's, in bytes, but for detection's own.
    pub fn bytes(&self) -> usize {
        self.flows.reserved()
            + self.streams.reserved()
            + self.datagrams.bytes()
            + self.apps_held
            + self.news.bytes()
    }

    /// It is that time.
    #[inline]
    pub(super) fn begin(&mut self, now: Time, recorder: &mut impl Recorder) {
        self.now = self.now.max(now);
        self.expire_some(recorder);
    }

    /// Inspects one packet: a frame, or one that another carries.
    pub(super) fn level(&mut self, level: &Level<'_>, recorder: &mut impl Recorder) -> Verdict {
        self.count(level);
        let decoded = level.decoded;
        let is_broken = decoded.remarks.is_invalid();
        let mut verdict = match (&decoded.ip, &decoded.upper) {
            _ if is_broken => self.look_at_packet(level, recorder),
            // Of no protocol that rules are for; but remarks are.
            (None, _) if decoded.remarks.names().is_empty() => PASS,
            (None, _) | (Some(_), Upper::None) => self.look_at_packet(level, recorder),
            (Some(_), _) => self.in_flow(level, recorder),
        };
        if self.is_passive() {
            verdict = Verdict { answer: passive(verdict.answer), rewrite: None };
        }
        match verdict.answer {
            Answer::Drop => self.counters.add(Counter::Dropped, 1),
            Answer::Reject(_) => self.counters.add(Counter::Rejected, 1),
            Answer::Pass | Answer::Bypass => {}
        }
        verdict
    }

    /// A packet of a flow.
    fn in_flow(&mut self, level: &Level<'_>, recorder: &mut impl Recorder) -> Verdict {
        let Some((mut number, mut from)) = self.flow_of(level, recorder) else {
            return self.look_at_packet(level, recorder);
        };
        if self.begins_anew(number, level) {
            self.end(number, FlowEnd::TcpReuse, recorder);
            match self.flow_of(level, recorder) {
                Some(found) => (number, from) = found,
                None => return self.look_at_packet(level, recorder),
            }
        }
        if self.is_let_go(number, from, level) {
            return Verdict { answer: Answer::Bypass, rewrite: None };
        }
        if let Some(verdict) = self.predicted(number, from, level, recorder) {
            return verdict;
        }
        self.catch_up_both(number);
        let mut look = self.enter(number, from, level);
        if let Some(verdict) = self.decided(&look, level, recorder) {
            return verdict;
        }
        if let Some(verdict) = self.listed(&look, level, recorder)
            && verdict.answer.is_drop()
        {
            return verdict;
        }
        match &level.decoded.upper {
            Upper::Tcp { segment, .. } => self.tcp(look, level, segment, recorder),
            Upper::Udp { payload, .. } => {
                self.datagram(&mut look, payload);
                self.look(look, level, recorder)
            }
            _ => self.look(look, level, recorder),
        }
    }

    /// Counts a packet.
    pub(super) fn count(&mut self, level: &Level<'_>) {
        let decoded = level.decoded;
        let counters = &mut self.counters;
        counters.add(Counter::Packets, 1);
        counters.add(Counter::Tunnelled, u64::from(level.depth > 0));
        counters.add(Counter::Invalid, u64::from(decoded.remarks.is_invalid()));
        let is_tagged = decoded.vlans.iter().any(|vlan| *vlan != NO_VLAN);
        counters.add(Counter::Vlan, u64::from(is_tagged && level.depth == 0));
        counters.add(Counter::Nsh, u64::from(decoded.has_nsh));
        let Some(ip) = decoded.ip else { return };
        let version = if ip.kind == L3::Ipv6 { Counter::Ipv6 } else { Counter::Ipv4 };
        counters.add(version, 1);
        match (ip.protocol, &decoded.upper) {
            (protocol::TCP, Upper::Tcp { .. }) => counters.add(Counter::Tcp, 1),
            (protocol::UDP, Upper::Udp { .. }) => counters.add(Counter::Udp, 1),
            (protocol::SCTP, Upper::Sctp { .. }) => counters.add(Counter::Sctp, 1),
            (protocol::ICMP, Upper::Icmp { .. }) => counters.add(Counter::Icmpv4, 1),
            (protocol::ICMP6, Upper::Icmp { .. }) => counters.add(Counter::Icmpv6, 1),
            _ => {}
        }
    }

    /// Ends flows whose time is up: a few at each packet, once a second is over.
    fn expire_some(&mut self, recorder: &mut impl Recorder) {
        let second = self.now.0 / 1_000_000_000;
        let is_full = self.flows.len() + 64 > self.flows.most()
            || self.streams.len() + 64 > self.streams.most();
        if second == self.second && !is_full {
            return;
        }
        for _ in 0..EXPIRED_MAX {
            if !self.end_due(recorder) && !self.end_surplus_stream(recorder) {
                self.second = second;
                return;
            }
        }
    }

    #[inline]
    pub(super) fn is_passive(&self) -> bool {
        self.settings.streams.mode == crate::ids::stream::Mode::Passive
    }
}

/// Of packets that cannot be dropped.
fn passive(answer: Answer) -> Answer {
    match answer {
        Answer::Drop => Answer::Pass,
        other => other,
    }
}

/// An address of a packet, whatever its version.
pub(super) fn address(kind: L3, bytes: nfv_core::packet::AddressBytes) -> IpAddr {
    if kind == L3::Ipv6 { IpAddr::from(bytes.v6()) } else { IpAddr::from(bytes.v4()) }
}

pub(super) const PASS: Verdict = Verdict { answer: Answer::Pass, rewrite: None };
/// Flows that are ended at one packet.
const EXPIRED_MAX: usize = 16;
