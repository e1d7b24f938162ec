//! What a network function is: two traits, what they are given, what they answer, and how the engine knows their types.
//!
//! An NF only answers; the engine owns the packets, frees them and counts them. Every reason to drop is an exit too: a
//! chain's `on: {rule_denied: quarantine}` sends what a firewall refuses to another chain instead.

mod built;
mod cookies;
mod cx;
mod decides;
mod erased;

use std::any::Any;
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use self::built::{Built, Finish, Handle, IsCurrent, Reopen, Task, Write};
pub use self::cookies::SynCookies;
pub(crate) use self::cookies::clock;
pub(crate) use self::cx::{Alarm, Made, OUTBOX_MAX};
pub use self::cx::{Cx, Place};
pub use self::decides::{Decider, Decides, Says};
pub use self::erased::AnyFlowNf;
pub(crate) use self::erased::upper;
pub use crate::burst::{Burst, Direction, Reason, Sifted, Slot};
use crate::chain::claims::Claims;
use crate::chain::key::Key;
use crate::chain::report::Report;
use crate::chain::section::Section;
use crate::chain::zone::Zones;
use crate::clock::Time;
use crate::dpdk::Packet;
use crate::flow::{HopId, RouteTable};
use crate::packet::{AddressBytes, Headers, IcmpError};
pub use crate::port_index::PortIndex;

/// Sees every packet of its flows, in bursts. One instance a worker: `&mut self`, no lock.
///
/// It holds packets by [`Burst::sift`] and sends them on by [`Cx::resume`]. What is to be done at a time it asks for with
/// [`Cx::wake_at`] or [`Cx::wake_from`].
pub trait PacketNf: Any + Send + Debug {
    /// Hot: no allocation, lock, log or system call.
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>);

    /// A packet that a port received for one of its chains, and that is dropped before any function as its headers cannot be
    /// read: for who tells of such. Bounded work: whoever sends packets sends these.
    fn refused(&mut self, _packet: &Packet, _in_port: PortIndex, _cx: &mut Cx<'_>) {}

    /// A time has come that it asked for, or another NF: it does what is due, packets as far as there is [`Cx::room`], and
    /// asks again for what is not. Also where it begins, and after [`PacketNf::let_go`]. As hot as `process`.
    fn wake(&mut self, _cx: &mut Cx<'_>) {}

    /// Takes over what the instance kept that this one replaces at a reload: between two bursts, so it is quick.
    fn inherit(&mut self, _before: &mut dyn PacketNf) {}

    /// Sends on or ends the packets that it holds, as far as there is [`Cx::room`]: the run ends, its chains change, or
    /// flows go to another worker. Called again until it holds none. Returns whether it holds some still.
    fn let_go(&mut self, _cx: &mut Cx<'_>) -> Holds {
        Holds::Nothing
    }

    /// No packet comes any more: the run ends, or a reload took it away. Once.
    fn end(&mut self, _now: Time) {}
}

/// Whether an NF holds packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does not.
    Nothing,
    /// It does.
    Packets,
}

/// A flow's packet as a flow NF sees it.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'b> {
    /// Its headers, as the NFs before this one have made them.
    pub headers: &'b Headers,
    /// Its bytes from the upper layer's header on; none when the flow is decided again.
    pub upper: &'b [u8],
    /// The port that received it.
    pub in_port: PortIndex,
    /// Whether it goes the chain's way or back.
    pub direction: Direction,
    /// The time.
    pub now: Time,
    /// What is known of its flow.
    pub state: FlowStage,
}

/// What is known of a packet's flow when an NF is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStage {
    /// Nothing: each packet is decided for itself. What the NF keeps is not kept, and nothing is rewritten.
    Packet,
    /// It is the flow's first packet.
    First,
    /// The flow is known, and is decided again: an NF changed its mind.
    Again,
    /// Whether its flow would begin: a SYN gets a cookie then, and nothing is kept. What the NF takes it gets back at once.
    Probe,
}

/// A flow NF's answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Goes on.
    Forward(Forward),
    /// Refused.
    Drop {
        /// Why.
        why: Reason,
        /// The rule that said so, an index into [`Built::rules`].
        rule: Option<u32>,
    },
}

impl Decision {
    /// Goes on as it is.
    pub const PASS: Self = Self::Forward(Forward::AS_IT_IS);
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The rule that said so, an index into [`Built::rules`].
    pub rule: Option<u32>,
    /// The next hop, from a router: the engine then does to each packet what routers do.
    pub hop: Option<HopId>,
    /// What its ends become; the answers' are changed back.
    pub rewrite: Rewrite,
    /// The way it leaves, when that is not the chain's.
    pub via: Via,
}

impl Forward {
    /// Without any change.
    pub const AS_IT_IS: Self =
        Self { rule: None, hop: None, rewrite: Rewrite { src: None, dst: None }, via: Via::Chain };
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its address, of the packet's family.
    pub address: AddressBytes,
    /// Its port, or ICMP identifier.
    pub port: u16,
}

/// Ends to be changed; `None`: as it is. Checksums follow, and the answers are changed back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The source.
    pub src: Option<Endpoint>,
    /// The destination.
    pub dst: Option<Endpoint>,
}

/// How a packet of a flow's first side leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// By the port where its chain ends.
    #[default]
    Chain,
    /// By the port that received it: both ends are on one side of the box (a hairpin).
    Back,
    /// To this station on the link, whatever its destination address says (direct server return).
    Station([u8; 6]),
    /// In a tunnel, to its other end.
    Tunnel(Tunnel),
}

/// A tunnel without state: what is put before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// The box's end.
    pub src: IpAddr,
    /// The other end, of the same family.
    pub dst: IpAddr,
    /// The other end's station on the link, when the packet is not routed further.
    pub station: Option<[u8; 6]>,
    /// In what the packet is put.
    pub kind: TunnelKind,
}

/// In what a packet is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// Generic UDP encapsulation, variant 1: IP right behind UDP, which Linux takes since 4.8 (`ip fou add port N gue`).
    Gue {
        /// The UDP port at the other end.
        port: u16,
    },
}

/// How closely an NF wants TCP connections followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracking {
    /// It keeps nothing of flows: it may be asked about each packet.
    #[default]
    None,
    /// For their life times; a segment out of order is none of its business.
    Follow,
    /// As `Check`, but connections that began before are picked up.
    CheckLoosely,
    /// Segments outside of the window are dropped, and connections begin with a SYN.
    Check,
}

/// Decides once a flow. What it works with has three owners: `self` (rules: all workers, read only), [`FlowNf::Slice`]
/// (a shard's part of what is shared, one worker) and [`FlowNf::Flow`] (one flow).
pub trait FlowNf: Send + Sync + Debug + 'static {
    /// A shard's part of what all flows share: a cache, a budget. `()` for an NF that shares nothing. Each worker has one of
    /// each shard, and it stays there when the shard moves: what has to go with a flow is in `Flow`.
    type Slice: Send + Debug + 'static;
    /// What is kept with a flow. `()` for an NF without state.
    type Flow: FlowState;

    /// How many bytes of what it keeps, from the start, it uses as it is configured; the others stay zero, and take no room.
    fn keeps(&self) -> usize {
        size_of::<Self::Flow>()
    }

    /// Cuts a shard's part. The parts are disjoint and cover the whole.
    fn slice(&self, shard: Shard) -> Self::Slice;

    /// Looks up packets at once what `decide` then reads as `hint`: tables are fastest in bulk.
    fn look_up(&self, _packets: Lookup<'_>, _hints: &mut [u32]) {}

    /// Asks the CPU for what `decide` will read of a flow's first packet: there are others to be decided before it.
    fn prefetch(&self, _headers: &Headers) {}

    /// Asks the CPU for what `release` will write.
    fn prefetch_kept(&self, _kept: &Self::Flow) {}

    /// Answers for a flow's first packet, and again when the NF changed its mind. `hint`: what [`FlowNf::look_up`] found.
    ///
    /// Same arguments, same answer: what `kept` holds (a NAT binding) survives a reload.
    fn decide(
        &self,
        flow: &FlowView<'_>,
        hint: u32,
        kept: &mut Self::Flow,
        slice: &mut Self::Slice,
    ) -> Decision;

    /// Both ends of the flow have spoken: a TCP connection's handshake is over, or an answer came.
    fn opened(&self, _kept: &mut Self::Flow, _slice: &mut Self::Slice, _now: Time) {}

    /// Whether it wants to hear of [`FlowNf::closed`], as it is configured; who does not is not asked.
    fn hears_closed(&self) -> bool {
        false
    }

    /// The flow's TCP connection is over: both ends are done, or it was reset. Once; packets may follow, and `release` with
    /// what is left in `kept` when the flow is forgotten.
    fn closed(&self, _kept: &mut Self::Flow, _slice: &mut Self::Slice, _now: Time) {}

    /// Gives back what the flow held. Once, at its end, or when a later NF refuses it.
    fn release(&self, _kept: &Self::Flow, _slice: &mut Self::Slice, _now: Time) {}
}

/// Packets of one port and direction that are looked up at once.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'b> {
    /// Their headers.
    pub headers: &'b [Headers],
    /// The port that received them.
    pub in_port: PortIndex,
    /// Which way they go.
    pub direction: Direction,
}

/// Plain bytes without a pointer: a shard moves to another worker, process or host by copying. All 0 is a new flow.
pub trait FlowState:
    FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Debug + 'static
{
}

impl<T> FlowState for T where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Debug + 'static
{
}

/// One of the parts into which all flows fall: number `index` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Below `of`.
    pub index: u16,
    /// How many shards there are.
    pub of: u16,
}

/// What an NF may do; by it the compiler folds, reorders, offloads or rejects a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether it looks behind the headers.
    pub reads_payload: bool,
    /// Whether it changes packets.
    pub writes: bool,
    /// Whether it refuses packets.
    pub drops: bool,
    /// Whether it sends packets of its own.
    pub creates: bool,
    /// Whether it picks the port that packets leave by.
    pub routes: bool,
}

/// A drop reason or a counter: `snake_case` name, and an operator's sentence.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The sentence.
    pub help: &'static str,
}

/// What the sender of a packet that is refused is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, by the box's address on the port; where it has none, nothing.
    Icmp(IcmpError),
    /// That it is refused, as if by its destination: a reset to TCP, "administratively prohibited" to others. An ICMP
    /// error is the box's where it has an address, else the destination's, as Linux' bridge does it.
    Reject,
    /// That it is refused, as if by its source: a reset to TCP, in the packet's place; nothing to others.
    RejectReceiver,
    /// Both.
    RejectBoth,
}

/// What a chain file is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To see whether it is right: nothing is opened, written or started.
    Check,
    /// To carry packets.
    Run,
    /// To send captures through: the same every time, so nothing may be left out for lack of time.
    Replay,
}

/// What `build` may ask for besides its section.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'c> {
    /// The ports' names, in the order of their indices.
    pub ports: &'c [String],
    /// The zones that they are in.
    pub zones: &'c Zones,
    /// What for.
    pub purpose: Purpose,
    /// The folder that a replay leaves its files in.
    pub out: Option<&'c Path>,
    /// The box's forwarding table; there is one where a port is routed or an NF routes.
    pub routes: Option<&'c Arc<RouteTable>>,
    /// What the functions built before this one have taken.
    pub claims: &'c Claims,
    /// At a reload, the [`Built::heritage`] of the function of the same name and type that runs now.
    pub heritage: Option<&'c Heritage>,
}

/// What a changed NF takes over from the one that it replaces: bindings that flows hold.
pub type Heritage = Arc<dyn Any + Send + Sync>;

impl Surroundings<'_> {
    /// The index of a port.
    pub fn port(&self, name: &str) -> Option<PortIndex> {
        let at = self.ports.iter().position(|p| p == name)?;
        u8::try_from(at).ok().map(PortIndex)
    }
}

/// All that the engine knows of a type of NF. One `const` a file, one line in `nfs/src/lib.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in the chain file.
    pub name: &'static str,
    /// What it may do.
    pub profile: Profile,
    /// Its keys in the chain file.
    pub keys: &'static [Key],
    /// Its reasons to drop; each is an exit too.
    pub drops: &'static [Named],
    /// What the sender is told of a drop for a reason, where `on` does not lead elsewhere.
    pub answers: &'static [(Reason, Answer)],
    /// What it counts besides.
    pub counters: &'static [Named],
    /// The text of its source file, whose `//!` header is its manual page ([`Kind::page`]).
    pub source: &'static str,
    /// Reports every mistake with its place, then returns `None`; never stops at the first.
    pub build: fn(&Section<'_>, Surroundings<'_>, &mut Report) -> Option<Built>,
}

impl Kind {
    /// Its manual page, as Markdown.
    pub fn page(&self) -> String {
        let header = self.source.lines().map_while(|line| line.strip_prefix("//!"));
        let lines: Vec<&str> = header.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        format!("# {}\n\n{}\n", self.name, lines.join("\n"))
    }
}

/// Makes a worker's own instance of a packet NF.
pub type Factory = Box<dyn Fn(Shard) -> Box<dyn PacketNf> + Send + Sync>;

/// A flow NF is shared; of a packet NF each worker makes its own.
pub enum Nf {
    /// Decides once a flow.
    Flow(Box<dyn AnyFlowNf>),
    /// Sees every packet.
    Packet(Factory),
}

impl Debug for Nf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flow(nf) => f.debug_tuple("Flow").field(nf).finish(),
            Self::Packet(_) => f.write_str("Packet"),
        }
    }
}

/// No rule decided.
pub const NO_RULE: u32 = u32::MAX;
