//! What a network function is: two traits, what they are given, what they answer, and how the engine knows their types.
//!
//! An NF only answers; the engine owns the packets, frees them and counts them. Every reason to drop is an exit too: a
//! chain's `on: {rule_denied: quarantine}` sends what a firewall refuses to another chain instead.

use std::fmt::Debug;

use crate::account::{CellId, Cells};
use crate::chain::key::Key;
use crate::chain::report::Report;
use crate::chain::section::Section;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Mempool, Packet, Packets};
use crate::packet::{Headers, Malformed, parse_into};

/// What becomes of a packet after an NF: `Next` unless the NF says otherwise, so none can be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// To the next NF of the chain.
    #[default]
    Next,
    /// Dropped for this reason, or to the chain that `on` names for it.
    Drop(Reason),
}

/// Index into [`Kind::drops`] of the NF that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u8);

/// A port by its place in the chain file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u8);

impl PortIndex {
    /// As an index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Which way a packet goes through its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the chain's `from` to its `to`.
    Forward,
    /// Back: an answer.
    Reverse,
}

/// Up to [`BURST_MAX`] packets of one chain and direction, owned by one worker, in order of arrival.
///
/// Packets, headers and verdicts lie in arrays of their own, so that transmit passes the mbufs on as they lie.
#[derive(Debug)]
pub struct Burst {
    packets: Packets,
    /// Of the packets at the same places; behind them is what earlier bursts left.
    headers: [Headers; BURST_MAX],
    /// Of all packets together.
    bytes: u64,
    verdicts: [Verdict; BURST_MAX],
    /// The port that received them.
    pub in_port: PortIndex,
    /// Which way they go.
    pub direction: Direction,
}

/// A packet of a burst, with its headers.
#[derive(Debug)]
pub struct Slot<'b> {
    /// The packet.
    pub packet: &'b mut Packet,
    /// What the parse found.
    pub headers: &'b mut Headers,
    verdict: &'b mut Verdict,
}

impl Slot<'_> {
    /// Refuses the packet.
    #[inline]
    pub fn drop(&mut self, why: Reason) {
        *self.verdict = Verdict::Drop(why);
    }
}

impl Burst {
    /// A burst without packets.
    pub fn empty() -> Self {
        Self {
            packets: Packets::new(),
            headers: [Headers::default(); BURST_MAX],
            bytes: 0,
            verdicts: [Verdict::Next; BURST_MAX],
            in_port: PortIndex(0),
            direction: Direction::Forward,
        }
    }

    /// How many packets it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether it takes no more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.packets.is_full()
    }

    /// Bytes of all its packets.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the parse found in each packet, in order.
    #[inline]
    pub fn headers(&self) -> &[Headers] {
        self.headers.get(..self.len()).unwrap_or_default()
    }

    /// Its packets, each with its headers.
    #[inline]
    pub fn slots(&mut self) -> impl Iterator<Item = Slot<'_>> {
        let both = self.packets.iter_mut().zip(self.headers.iter_mut());
        both.zip(self.verdicts.iter_mut()).map(|((packet, headers), verdict)| Slot {
            packet,
            headers,
            verdict,
        })
    }

    /// Adds a packet; the caller has seen that there is room.
    #[inline]
    pub(crate) fn push(&mut self, packet: Packet, headers: &Headers) {
        if let Some(slot) = self.headers.get_mut(self.packets.len()) {
            *slot = *headers;
        }
        self.bytes += u64::from(packet.len());
        self.packets.push(packet);
    }

    /// Takes all of `packets`, which are contiguous, and parses them where they lie; refuses those that are malformed.
    ///
    /// Returns the bytes of all. This burst is empty before.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        packets: &mut Packets,
        mut refused: impl FnMut(Packet, Malformed),
    ) -> u64 {
        std::mem::swap(&mut self.packets, packets);
        let mut malformed = [None; BURST_MAX];
        let mut any = false;
        self.bytes = 0;
        let places = self.packets.iter().zip(self.headers.iter_mut()).zip(malformed.iter_mut());
        for ((packet, headers), wrong) in places {
            self.bytes += u64::from(packet.len());
            if let Err(why) = parse_into(packet.data(), packet.len(), headers) {
                *wrong = Some(why);
                any = true;
            }
        }
        let all = self.bytes;
        if any {
            let (packets, headers) = (self.packets.take(), self.headers);
            self.bytes = 0;
            for ((packet, headers), wrong) in packets.into_iter().zip(&headers).zip(malformed) {
                match wrong {
                    None => self.push(packet, headers),
                    Some(why) => refused(packet, why),
                }
            }
        }
        all
    }

    /// Takes out the packets that were refused, each with its reason; the others stay, in order.
    #[inline]
    pub(crate) fn settle(&mut self, mut refused: impl FnMut(Packet, &Headers, Reason)) {
        let n = self.len();
        let judged = self.verdicts.iter().take(n).any(|v| *v != Verdict::Next);
        if !judged {
            return;
        }
        let verdicts = std::mem::replace(&mut self.verdicts, [Verdict::Next; BURST_MAX]);
        let (packets, headers) = (self.packets.take(), self.headers);
        self.bytes = 0;
        for ((packet, headers), verdict) in packets.into_iter().zip(&headers).zip(verdicts) {
            match verdict {
                Verdict::Next => self.push(packet, headers),
                Verdict::Drop(why) => refused(packet, headers, why),
            }
        }
    }

    /// All its packets with their headers, taken out.
    #[inline]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Packet, &Headers)> {
        self.bytes = 0;
        self.packets.take().into_iter().zip(&self.headers)
    }

    /// Exchanges its packets for none, and returns their bytes: `into` is empty before.
    #[inline]
    pub(crate) fn move_packets(&mut self, into: &mut Packets) -> u64 {
        std::mem::swap(&mut self.packets, into);
        std::mem::take(&mut self.bytes)
    }
}

/// What an NF may use while it looks at a burst: the time, its counters, packets to send besides.
#[derive(Debug)]
pub struct Cx<'w> {
    /// The time, the same for the whole burst.
    pub now: Time,
    pub(crate) cells: &'w Cells,
    pub(crate) counters: CellId,
    pub(crate) created: CellId,
    pub(crate) consumed: CellId,
    pub(crate) pool: &'w Mempool,
    pub(crate) outbox: &'w mut Vec<(PortIndex, Packet)>,
}

/// Room for what the NFs of one burst send besides: a copy of each packet by eight NFs.
pub(crate) const OUTBOX_MAX: usize = 8 * BURST_MAX;

impl Cx<'_> {
    /// Adds to the counter of that index in [`Kind::counters`].
    #[inline]
    pub fn count(&self, counter: usize, n: u64) {
        self.cells.add(self.counters.plus(counter), n);
    }

    /// A copy of a packet's first `bytes`, counted as created; `None` when the pool is empty.
    #[inline]
    pub fn copy(&self, packet: &Packet, bytes: u32) -> Option<Packet> {
        let copy = packet.copy(self.pool, bytes)?;
        self.cells.add(self.created, 1);
        Some(copy)
    }

    /// Sends a packet that this NF made out of `port`. False: there is no room; the packet is freed and counted consumed.
    #[inline]
    pub fn send(&mut self, port: PortIndex, packet: Packet) -> bool {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push((port, packet));
            return true;
        }
        self.consume(packet);
        false
    }

    /// Ends a packet that this NF made and keeps no longer, counted as consumed.
    #[inline]
    pub fn consume(&self, packet: Packet) {
        self.cells.add(self.consumed, 1);
        packet.free();
    }

    /// Gives a packet that this NF made to `taker`, another thread's: counted as consumed here.
    #[inline]
    pub fn give_away(&self, packet: Packet, taker: impl FnOnce(Packet)) {
        self.cells.add(self.consumed, 1);
        taker(packet);
    }
}

/// Sees every packet of its flows, in bursts. One instance a worker: `&mut self`, no lock.
pub trait PacketNf: Send + Debug + 'static {
    /// Hot: no allocation, lock, log or system call.
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>);
}

/// A flow's packet as a flow NF sees it.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'b> {
    /// Its headers.
    pub headers: &'b Headers,
    /// The port that received it.
    pub in_port: PortIndex,
    /// Whether it goes the chain's way or back.
    pub direction: Direction,
}

/// A flow NF's answer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Goes on.
    Forward {
        /// The rule that said so, an index into [`Built::rules`].
        rule: Option<u32>,
    },
    /// Refused.
    Drop {
        /// Why.
        why: Reason,
        /// The rule that said so, an index into [`Built::rules`].
        rule: Option<u32>,
    },
}

/// Decides once a flow: the same flow, the same answer. Shared by all workers, read only.
pub trait FlowNf: Send + Sync + Debug + 'static {
    /// Looks up a burst at once what `decide` then reads as `hint`: tables are fastest in bulk.
    fn look_up(&self, burst: &Burst, hints: &mut [u32]);

    /// Answers for one flow, given what [`FlowNf::look_up`] found for it.
    fn decide(&self, flow: &FlowView<'_>, hint: u32) -> Decision;
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
}

/// A drop reason or a counter: `snake_case` name, and an operator's sentence.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// The sentence.
    pub help: &'static str,
}

/// What `build` may ask for besides its section.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'c> {
    /// The ports' names, in the order of their indices.
    pub ports: &'c [String],
}

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
    /// What it counts besides.
    pub counters: &'static [Named],
    /// Reports every mistake with its place, then returns `None`; never stops at the first.
    pub build: fn(&Section<'_>, Surroundings<'_>, &mut Report) -> Option<Built>,
}

/// A network function, built from its section.
#[derive(Debug)]
pub struct Built {
    /// What works.
    pub nf: Nf,
    /// Its rules as an operator sees them, `line: text`; each gets a counter.
    pub rules: Vec<String>,
}

/// Makes a worker's own instance of a packet NF.
pub type Factory = Box<dyn Fn() -> Box<dyn PacketNf> + Send + Sync>;

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

/// The engine's erased twin of [`FlowNf`]: one virtual call a burst, not one a packet.
pub trait AnyFlowNf: Send + Sync + Debug {
    /// Decides for each packet of the burst; `rule` is told which rule did.
    fn decide_burst(&self, burst: &mut Burst, rule: &mut dyn FnMut(u32));
}

impl<T: FlowNf> AnyFlowNf for T {
    fn decide_burst(&self, burst: &mut Burst, count: &mut dyn FnMut(u32)) {
        let mut hints = [0; BURST_MAX];
        self.look_up(burst, &mut hints);
        let (in_port, direction) = (burst.in_port, burst.direction);
        for (mut slot, hint) in burst.slots().zip(hints) {
            let flow = FlowView { headers: slot.headers, in_port, direction };
            let rule = match self.decide(&flow, hint) {
                Decision::Forward { rule } => rule,
                Decision::Drop { why, rule } => {
                    slot.drop(why);
                    rule
                }
            };
            if let Some(rule) = rule {
                count(rule);
            }
        }
    }
}
