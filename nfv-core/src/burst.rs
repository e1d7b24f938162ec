//! A burst: packets that move together, their headers, and what is to become of each.

use crate::dpdk::{BURST_MAX, Packet, Packets};
use crate::flow::{FlowRef, FlowRefusal, HopId, Refusal};
use crate::nf::Lookup;
use crate::packet::{Headers, Malformed, check, parse_into};
use crate::port_index::PortIndex;

/// What becomes of a packet after an NF: `Next` unless the NF says otherwise, so none can be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To the next NF of the chain.
    #[default]
    Next,
    /// Dropped for this reason, or to the chain that `on` names for it.
    Drop(Reason),
    /// Dropped by the engine, which forwards what a router decided.
    Refuse(Refusal, u16),
    /// Dropped by one of the functions of a piece, which is at this place of the plan's.
    DropBy(u16, Reason),
    /// Dropped by the engine, which keeps the flows.
    Unkept(FlowRefusal),
    /// A SYN that is answered with a cookie, as the function at this place of the plan's wants it.
    Cookie(u16),
}

/// Which way a packet goes through its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the chain's `from` to its `to`.
    Forward,
    /// Back: an answer.
    Reverse,
}

/// Index into [`Kind::drops`](crate::nf::Kind::drops) of the NF that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(pub u8);

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
    /// Where a router sends the packets at the same places: of use as `routing` says.
    hops: [HopId; BURST_MAX],
    outs: [PortIndex; BURST_MAX],
    /// The flows that the packets at the same places are of, as far as they were looked up.
    flows: [FlowRef; BURST_MAX],
    /// Packets, a bit each, whose flows the packet NF at hand has let go.
    let_go: u32,
    /// How far the routing of its packets is.
    pub(crate) routing: Routing,
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
    pub(crate) verdict: &'b mut Verdict,
    pub(crate) hop: &'b mut HopId,
    pub(crate) out: &'b mut PortIndex,
    pub(crate) flow: &'b mut FlowRef,
}

impl Slot<'_> {
    /// Refuses the packet.
    #[inline]
    pub fn drop(&mut self, why: Reason) {
        *self.verdict = Verdict::Drop(why);
    }
}

/// What becomes of a packet that an NF took out of a burst.
#[derive(Debug)]
pub enum Sifted {
    /// It stays in the burst, of the flow that it was of.
    Stays(Packet),
    /// It stays, as a packet of another flow: the headers are its new ones.
    Becomes(Packet),
    /// It is refused.
    Dropped(Packet, Reason),
    /// The NF has it, or has ended it by name.
    Taken,
}

impl Burst {
    /// A burst without packets.
    pub fn empty() -> Self {
        Self {
            packets: Packets::new(),
            headers: [Headers::default(); BURST_MAX],
            bytes: 0,
            verdicts: [Verdict::Next; BURST_MAX],
            hops: [HopId::NONE; BURST_MAX],
            outs: [PortIndex(0); BURST_MAX],
            flows: [FlowRef::NONE; BURST_MAX],
            let_go: 0,
            routing: Routing::None,
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

    /// What its packets are looked up by.
    #[inline]
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { headers: self.headers(), in_port: self.in_port, direction: self.direction }
    }

    /// Its packets, each with its headers.
    #[inline]
    pub fn slots(&mut self) -> impl Iterator<Item = Slot<'_>> {
        let both = self.packets.iter_mut().zip(self.headers.iter_mut());
        let ways = self.hops.iter_mut().zip(self.outs.iter_mut()).zip(self.flows.iter_mut());
        both.zip(self.verdicts.iter_mut().zip(ways)).map(
            |((packet, headers), (verdict, ((hop, out), flow)))| Slot {
                packet,
                headers,
                verdict,
                hop,
                out,
                flow,
            },
        )
    }

    /// Gives each packet to `take`; what is given back stays, in order.
    #[inline]
    pub fn sift(&mut self, mut take: impl FnMut(Packet, &mut Headers) -> Sifted) {
        let (packets, headers) = (self.packets.take(), self.headers);
        let ways = self.hops.into_iter().zip(self.outs).zip(self.flows);
        let verdicts = std::mem::replace(&mut self.verdicts, [Verdict::Next; BURST_MAX]);
        self.bytes = 0;
        let places = packets.into_iter().zip(headers).zip(ways).zip(verdicts);
        for (((packet, mut headers), ((hop, out), flow)), verdict) in places {
            let (packet, verdict, flow) = match take(packet, &mut headers) {
                Sifted::Stays(packet) => (packet, verdict, flow),
                Sifted::Becomes(packet) => (packet, verdict, FlowRef::NONE),
                Sifted::Dropped(packet, why) => (packet, Verdict::Drop(why), flow),
                Sifted::Taken => continue,
            };
            let at = self.packets.len();
            if let (Some(h), Some(o), Some(v)) =
                (self.hops.get_mut(at), self.outs.get_mut(at), self.verdicts.get_mut(at))
            {
                (*h, *o, *v) = (hop, out, verdict);
            }
            self.push(packet, &headers, flow);
        }
    }

    /// Its packets whose flows have not been let go, each with its place in the burst.
    #[inline]
    pub fn watched(&mut self) -> impl Iterator<Item = (usize, Slot<'_>)> {
        let let_go = self.let_go;
        self.slots().enumerate().filter(move |(place, _)| let_go >> place & 1 == 0)
    }

    /// Lets go the flows of the packets at these places, a bit each: an NF that says with [`Built::letting_go`] that it does
    /// sees no more of them.
    ///
    /// [`Built::letting_go`]: crate::nf::Built::letting_go
    #[inline]
    pub fn let_go(&mut self, places: u32) {
        self.let_go |= places;
    }

    /// Those that are let go, a bit each.
    #[inline]
    pub(crate) fn are_let_go(&self) -> u32 {
        self.let_go
    }

    /// Begins with these let go.
    #[inline]
    pub(crate) fn set_let_go(&mut self, places: u32) {
        self.let_go = places;
    }

    /// Adds a packet; the caller has seen that there is room.
    #[inline]
    pub(crate) fn push(&mut self, packet: Packet, headers: &Headers, flow: FlowRef) {
        let at = self.packets.len();
        if let (Some(slot), Some(place)) = (self.headers.get_mut(at), self.flows.get_mut(at)) {
            (*slot, *place) = (*headers, flow);
        }
        self.bytes += u64::from(packet.len());
        self.packets.push(packet);
    }

    /// Where a receive call puts packets: before [`Burst::parse`], and empty.
    #[inline]
    pub(crate) fn incoming(&mut self) -> &mut Packets {
        &mut self.packets
    }

    /// Parses the packets that came in, where they lie; takes out those that are malformed.
    ///
    /// Returns the bytes of all that came in.
    #[inline]
    pub(crate) fn parse(&mut self, refused: impl FnMut(Packet, Refused)) -> u64 {
        self.take_in::<true>(refused)
    }

    /// As [`Burst::parse`], where nobody asks for headers: they are not noted.
    #[inline]
    pub(crate) fn check(&mut self, refused: impl FnMut(Packet, Refused)) -> u64 {
        self.take_in::<false>(refused)
    }

    #[inline(always)]
    fn take_in<const NOTES: bool>(&mut self, mut refused: impl FnMut(Packet, Refused)) -> u64 {
        for packet in &self.packets {
            packet.prefetch_data();
        }
        let mut malformed = [None; BURST_MAX];
        let (mut any, mut bytes, mut beyond) = (false, 0, 0);
        let places = self.packets.iter().zip(self.headers.iter_mut()).zip(malformed.iter_mut());
        for ((packet, headers), wrong) in places {
            let (data, length) = (packet.data(), packet.len());
            bytes += u64::from(length);
            beyond |= u64::from(length) ^ data.len() as u64;
            let result =
                if NOTES { parse_into(data, length, headers) } else { check(data, length) };
            if let Err(why) = result {
                *wrong = Some(why);
                any = true;
            }
        }
        if beyond != 0 && self.packets.iter().any(|p| p.segment_count() > 1) {
            return self.join_segments(&mut refused) + self.take_in::<NOTES>(refused);
        }
        self.bytes = bytes;
        if any {
            self.take_out(&malformed, &mut refused);
        }
        bytes
    }

    /// Brings each packet into one segment, as all that follows wants it; takes out what does not fit one.
    ///
    /// Returns the bytes of those.
    #[cold]
    fn join_segments(&mut self, refused: &mut impl FnMut(Packet, Refused)) -> u64 {
        let mut bytes = 0;
        for mut packet in self.packets.take() {
            if packet.segment_count() == 1 || packet.linearize() {
                self.packets.push(packet);
            } else {
                bytes += u64::from(packet.len());
                refused(packet, Refused::Scattered);
            }
        }
        bytes
    }

    #[cold]
    fn take_out(
        &mut self,
        malformed: &[Option<Malformed>; BURST_MAX],
        refused: &mut impl FnMut(Packet, Refused),
    ) {
        let (packets, headers) = (self.packets.take(), self.headers);
        self.bytes = 0;
        for ((packet, headers), wrong) in packets.into_iter().zip(&headers).zip(malformed) {
            match wrong {
                None => self.push(packet, headers, FlowRef::NONE),
                Some(why) => refused(packet, Refused::Malformed(*why)),
            }
        }
    }

    /// Takes out the packets that were refused, each with its reason; the others stay, in order.
    #[inline]
    pub(crate) fn settle(&mut self, mut refused: impl FnMut(Packet, &Headers, Verdict)) {
        let n = self.len();
        let judged = self.verdicts.iter().take(n).any(|v| *v != Verdict::Next);
        if !judged {
            return;
        }
        let verdicts = std::mem::replace(&mut self.verdicts, [Verdict::Next; BURST_MAX]);
        let (packets, headers) = (self.packets.take(), self.headers);
        let ways = self.hops.into_iter().zip(self.outs).zip(self.flows);
        self.bytes = 0;
        let places = packets.into_iter().zip(&headers).zip(ways).zip(verdicts);
        for (((packet, headers), (way, flow)), verdict) in places {
            if verdict == Verdict::Next {
                let at = self.packets.len();
                if let (Some(hop), Some(out)) = (self.hops.get_mut(at), self.outs.get_mut(at)) {
                    (*hop, *out) = way;
                }
                self.push(packet, headers, flow);
            } else {
                refused(packet, headers, verdict);
            }
        }
    }

    /// From here on its packets may leave by other ports than their chain's.
    #[cold]
    pub(crate) fn allow_detours(&mut self) {
        self.outs = [PortIndex::CHAIN; BURST_MAX];
        self.routing = Routing::Detour;
    }

    /// Some of its packets are longer than they were.
    #[cold]
    pub(crate) fn recount(&mut self) {
        self.bytes = self.packets.iter().map(|p| u64::from(p.len())).sum();
    }

    /// All its packets with the ports that their hops are on, taken out.
    #[inline]
    pub(crate) fn drain_routed(&mut self) -> impl Iterator<Item = (Packet, PortIndex)> {
        self.bytes = 0;
        self.packets.take().into_iter().zip(self.outs)
    }

    /// All its packets with their headers, taken out.
    #[inline]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Packet, &Headers, FlowRef)> {
        self.bytes = 0;
        let all = self.packets.take().into_iter().zip(&self.headers).zip(self.flows);
        all.map(|((packet, headers), flow)| (packet, headers, flow))
    }

    /// Its packets with their headers, to read.
    #[inline]
    pub(crate) fn both(&self) -> impl Iterator<Item = (&Packet, &Headers)> {
        self.packets.iter().zip(&self.headers)
    }

    /// Has no packet a mark.
    #[cold]
    pub(crate) fn take_marks_off(&mut self) {
        self.packets.iter_mut().for_each(|packet| packet.set_mark(None));
    }

    /// Whether a NIC wrote something into any of its packets.
    #[inline]
    pub(crate) fn any_mark(&self) -> bool {
        self.packets.iter().any(|packet| packet.mark().is_some())
    }

    /// Its headers, and the flows that its packets are of.
    #[inline]
    pub(crate) fn flows(&self) -> (&[Headers], &[FlowRef]) {
        let n = self.packets.len();
        (self.headers.get(..n).unwrap_or_default(), self.flows.get(..n).unwrap_or_default())
    }

    /// Its headers, and where the flows that its packets are of are written.
    #[inline]
    pub(crate) fn flows_mut(&mut self) -> (&[Headers], &mut [FlowRef; BURST_MAX]) {
        (self.headers.get(..self.packets.len()).unwrap_or_default(), &mut self.flows)
    }

    /// Its packets and their bytes, for a transmit call that takes all: nothing is left here then.
    #[inline]
    pub(crate) fn outgoing(&mut self) -> (&mut Packets, u64) {
        (&mut self.packets, std::mem::take(&mut self.bytes))
    }
}

/// How far the routing of a burst's packets is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    /// No router saw them.
    None,
    /// A router set their hops.
    Decided,
    /// The same, and some are to leave by another port than their chain's.
    DecidedWithDetours,
    /// They are ready to leave by the ports of their hops.
    Done,
    /// Some leave by another port than their chain's.
    Detour,
}

/// Why a packet that came in goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not what it says.
    Malformed(Malformed),
    /// Its segments do not fit one buffer.
    Scattered,
}
