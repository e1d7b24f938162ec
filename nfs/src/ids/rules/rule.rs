//! A rule, typed: what detection evaluates.

use std::sync::Arc;

use super::address::{Addresses, Ports};
use super::inspect::Inspect;
use super::number::Compare;
use super::packet::PacketTest;
use super::rate::{DetectionFilter, RateFilter, Suppression, Threshold};
use super::state::{Effect, StateTest};
use crate::ids::buffer::{App, Side};

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Which packets it is for.
    pub header: Header,
    /// Its number; never 0.
    pub sid: u32,
    /// The group of its number.
    pub gid: u32,
    /// Its revision.
    pub rev: u32,
    /// What it says.
    pub msg: Box<str>,
    /// Its class, as the classification has it.
    pub class: Option<Arc<Class>>,
    /// Its own priority, or its class's, or 3; 1 is the highest.
    pub priority: u8,
    /// What else is known of what it finds.
    pub references: Box<[Reference]>,
    /// `metadata`, in pairs.
    pub metadata: Box<[(Box<str>, Box<str>)]>,
    /// Which end of the flow it is about.
    pub target: Option<Target>,
    /// The index of its file in what was read.
    pub source: usize,
    /// The line in it where it begins, from 1.
    pub line: u32,
    /// In which state and direction of a flow.
    pub flow: FlowTest,
    /// What is asked of a packet's headers.
    pub packet: Box<[PacketTest]>,
    /// What is asked of an application's transaction without bytes.
    pub app: Box<[AppTest]>,
    /// What is asked of bytes, buffer after buffer.
    pub inspects: Box<[Inspect]>,
    /// How many variables its byte tests have.
    pub variables: u8,
    /// What is asked of what earlier matches left.
    pub state: Box<[StateTest]>,
    /// What a match leaves.
    pub effects: Box<[Effect]>,
    /// How many matches become alerts.
    pub threshold: Option<Threshold>,
    /// From how many matches on it alerts.
    pub detection_filter: Option<DetectionFilter>,
    /// What too many matches are answered with.
    pub rate_filter: Option<RateFilter>,
    /// Whose matches are not told.
    pub suppressed: Vec<Suppression>,
    /// What is logged behind an alert.
    pub tag: Option<Tag>,
    /// Matches without an alert: only its effects count.
    pub noalert: bool,
    /// What it is looked up by; `None`: it is looked up by its header.
    pub fast_pattern: Option<FastPattern>,
    /// The application that the flow must have.
    pub protocol: Option<App>,
    /// What it is evaluated on.
    pub kind: RuleKind,
    /// Where [`super::Buffer::Payload`] is looked for.
    pub scope: Scope,
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tells.
    Alert,
    /// Ends the evaluation of others, and tells nothing.
    Pass,
    /// Drops the packet and the rest of the flow, and tells.
    Drop,
    /// Drops, tells, and sends a reset or an unreachable.
    Reject(RejectTo),
}

/// Who is told that a packet was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectTo {
    /// Its source.
    Src,
    /// Its destination.
    Dst,
    /// Both.
    Both,
}

/// Which packets a rule is for.
#[derive(Clone, Debug)]
pub struct Header {
    /// As the rule has it.
    pub protocol: Protocol,
    /// The source's address.
    pub src: Arc<Addresses>,
    /// The source's port; of protocols without ports any.
    pub sport: Arc<Ports>,
    /// The destination's address.
    pub dst: Arc<Addresses>,
    /// The destination's port.
    pub dport: Arc<Ports>,
    /// Whether source and destination may be the other way round.
    pub direction: Direction,
}

/// The protocol of a rule's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Any.
    Ip,
    /// Any over IPv4.
    Ipv4,
    /// Any over IPv6.
    Ipv6,
    /// TCP.
    Tcp,
    /// TCP, contents in packets only.
    TcpPacket,
    /// TCP, contents in the stream only.
    TcpStream,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// ICMP.
    Icmpv4,
    /// ICMPv6.
    Icmpv6,
    /// An application's.
    App(App),
}

/// The arrow of a rule's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `->`
    OneWay,
    /// `<>`
    Either,
}

/// In which state and direction of a flow a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTest {
    /// `to_server`, `from_client`; `to_client`, `from_server`; or what the rule's buffers imply. `None`: either.
    pub side: Option<Side>,
    /// Of the flow.
    pub state: Option<FlowState>,
    /// Whether the bytes are to come of the reassembled stream.
    pub stream: Option<Only>,
    /// Whether the packet is to be one that was in fragments.
    pub fragment: Option<Only>,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Its handshake is complete; of UDP: both ends have spoken.
    Established,
    /// It is not.
    NotEstablished,
    /// Either; but there is a flow.
    Stateless,
}

/// Only such, or none such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Only such.
    Only,
    /// None such.
    No,
}

/// What a rule asks of an application's transaction, besides bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppTest {
    /// `dns.opcode`
    DnsOpcode(Compare<u8>),
    /// `tls.version`
    TlsVersion(u16),
    /// `app-layer-protocol`: the flow's application was found to be this one.
    Is(AppName),
    /// It was found to be another one, or none.
    IsNot(AppName),
    /// An event that the parser of this application, or of no certain one, raised: an index into
    /// [`super::Setup::events`].
    Event(u16),
}

/// What the detection of a flow's application comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppName {
    /// It is this one.
    App(App),
    /// It is none that is known.
    Failed,
}

/// A class of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The word in rules.
    pub name: Box<str>,
    /// What alerts have.
    pub description: Box<str>,
    /// That of rules without their own.
    pub priority: u8,
}

/// Something to read about what a rule finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The system: `url`, `cve`, ...
    pub system: Box<str>,
    /// Its word for it.
    pub id: Box<str>,
}

/// Which end of a flow is the target of what a rule finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The packet's source.
    Src,
    /// The packet's destination.
    Dst,
}

/// What is logged behind an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Packets of what.
    pub scope: TagScope,
    /// How many.
    pub count: u32,
    /// Of what.
    pub unit: TagUnit,
}

/// Whose packets are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagScope {
    /// The flow's.
    Session,
    /// The source's.
    Src,
    /// The destination's.
    Dst,
}

/// How the end of a tag is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagUnit {
    /// In packets.
    Packets,
    /// In seconds.
    Seconds,
    /// In bytes.
    Bytes,
}

/// The content that a rule is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastPattern {
    /// An index into [`Rule::inspects`].
    pub inspect: usize,
    /// An index into its tests; a [`super::Test::Content`].
    pub test: usize,
    /// From this byte of the content.
    pub offset: u16,
    /// So many bytes; at least one.
    pub length: u16,
}

/// What a rule is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// Once a flow and direction, by addresses, ports and protocol alone.
    IpOnly,
    /// The same, with a `!` in its addresses.
    LikeIpOnly,
    /// Once, when the flow's application is known.
    Protocol,
    /// Every packet.
    Packet,
    /// Every packet, and the stream.
    PacketStream,
    /// The stream.
    Stream,
    /// Every packet of flows of an application.
    App,
    /// Transactions of an application.
    Transaction,
    /// Events.
    Event,
}

/// Where a rule looks for contents without a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// In each packet's payload.
    pub packet: bool,
    /// In the reassembled stream.
    pub stream: bool,
}
