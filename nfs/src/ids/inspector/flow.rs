//! What is known of a flow between its packets.

use nfv_core::clock::Time;
use nfv_core::packet::protocol;

use super::predicted::Predicted;
use super::table::Links;
use crate::ids::app::{App, Protocol};
use crate::ids::buffer::Side;
use crate::ids::detect;
use crate::ids::eve::Counts;
use crate::ids::stream::pool::Slot;
use crate::ids::stream::{End, Key, StreamId};

/// What the packets of a flow have in common, whichever way they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlowKey {
    /// Both ends; of ICMP the types of question and answer are ports.
    pub ends: Key,
    /// Protocol above IP.
    pub protocol: u8,
}

/// A flow. What few flows have is in boxes, so that many fit.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub key: FlowKey,
    /// Where it hangs in the table.
    pub links: Links,
    /// What its next segments need, by side, and by which rules and lists that was said.
    pub predicted: [Predicted; 2],
    pub predicted_by: u32,
    /// What was decided, and what was seen: [`DROPPED`] and others.
    pub marks: u32,
    /// How far it is.
    pub phase: FlowPhase,
    /// Flags of its segments, by side.
    pub tcp_flags: [u8; 2],
    /// Of ICMP: type and code of the question, and of the answer.
    pub icmp: [(u8, u8); 2],
    /// Its VLANs, outermost first.
    pub vlans: [u16; 2],
    /// The port that received its first packet.
    pub port: u8,
    /// What it speaks, when there is no `app` any more, and before that.
    pub protocols: [Option<Protocol>; 2],
    /// Its connection; 0: it has none.
    stream: u32,
    /// When its first packet came, and its last one.
    pub start: Time,
    pub last: Time,
    pub counts: Counts,
    /// Transactions of applications that are gone.
    pub transactions: u64,
    /// What its bytes mean, while somebody parses them or needs them.
    pub app: Option<Box<App>>,
    /// What detection keeps.
    pub state: Option<Box<detect::FlowState>>,
    /// What had been counted when it was let go.
    pub bypassed_at: Option<Box<Counts>>,
    /// What `app` and `state` were last counted as, in bytes.
    pub held: u32,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FlowPhase {
    /// One side has spoken.
    #[default]
    New,
    /// Both have, or the handshake is done.
    Established,
    /// It was closed.
    Closed,
    /// It is not looked at any more.
    Bypassed,
}

impl Flow {
    /// A new one.
    pub fn of(key: FlowKey, client: End, now: Time) -> Self {
        let mut flow = Self { key, start: now, last: now, ..Self::default() };
        flow.set_client(client);
        flow
    }

    /// The end that spoke first.
    #[inline]
    pub fn client(&self) -> End {
        if self.has(CLIENT_IS_HIGH) { End::High } else { End::Low }
    }

    /// The way that a packet of an end goes.
    #[inline]
    pub fn side_of(&self, from: End) -> Side {
        if self.client() == from { Side::ToServer } else { Side::ToClient }
    }

    fn set_client(&mut self, client: End) {
        self.marks &= !CLIENT_IS_HIGH;
        self.marks |= if client == End::High { CLIENT_IS_HIGH } else { 0 };
    }

    /// Has its ends change places: who spoke first is the server.
    pub fn turn(&mut self) {
        self.set_client(self.client().other());
        self.counts.packets.reverse();
        self.counts.bytes.reverse();
        self.tcp_flags.reverse();
        if let Some(counts) = &mut self.bypassed_at {
            counts.packets.reverse();
            counts.bytes.reverse();
        }
        self.swap(SEEN);
        self.swap(GAPS);
        self.swap(DROP_TOLD);
        self.swap(HEADLESS);
        self.predicted = Default::default();
        self.swap(PASSES_BY);
    }

    /// Has a pair of marks change places.
    fn swap(&mut self, both: u32) {
        let set = self.marks & both;
        let first = 1 << both.trailing_zeros();
        if set == first || set == both & !first {
            self.marks ^= both;
        }
    }

    #[inline]
    pub fn has(&self, mark: u32) -> bool {
        self.marks & mark != 0
    }

    #[inline]
    pub fn mark(&mut self, mark: u32) {
        self.marks |= mark;
    }

    #[inline]
    pub fn unmark(&mut self, mark: u32) {
        self.marks &= !mark;
    }

    /// Its connection.
    #[inline]
    pub fn stream(&self) -> Option<StreamId> {
        (self.stream != 0).then_some(StreamId(self.stream))
    }

    /// Notes its connection.
    #[inline]
    pub fn set_stream(&mut self, stream: Option<StreamId>) {
        self.stream = stream.map_or(0, |id| id.0);
    }

    /// Counts a packet.
    #[inline]
    pub fn count(&mut self, side: Side, length: u32, now: Time) {
        self.count_some(side, (1, length.into()), now);
    }

    /// Counts packets of a side, and their bytes.
    #[inline]
    pub fn count_some(&mut self, side: Side, (more, length): (u64, u64), now: Time) {
        let [to_server, to_client] = &mut self.counts.packets;
        let [up, down] = &mut self.counts.bytes;
        let (packets, bytes) =
            if side == Side::ToServer { (to_server, up) } else { (to_client, down) };
        *packets += more;
        *bytes += length;
        self.last = self.last.max(now);
    }

    /// Notes that a side has spoken. Whether it is the first time.
    #[inline]
    pub fn note_seen(&mut self, side: Side) -> bool {
        let seen = one_of(SEEN, side);
        let is_first = !self.has(seen);
        self.mark(seen);
        is_first
    }

    /// Whether packets of both directions were seen.
    #[inline]
    pub fn has_seen_both(&self) -> bool {
        self.marks & SEEN == SEEN
    }

    /// Whether its packets are dropped or pass, whatever they are.
    #[inline]
    pub fn is_decided(&self) -> bool {
        self.has(DROPPED | PASSED)
    }

    /// Whether nobody parses its bytes any more.
    #[inline]
    pub fn is_unparsed(&self) -> bool {
        self.app.is_none() && self.has(NO_APP)
    }

    /// A number that is the same in all of its records: 51 bits, as programs that read them take numbers for floating
    /// point. The same capture gives the same numbers.
    pub fn id(&self) -> u64 {
        let mut hash = u64::from(self.key.protocol) ^ 0xcbf2_9ce4_8422_2325;
        for end in [End::Low, End::High] {
            let mut add = |byte: u8| {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            };
            match self.key.ends.address(end) {
                std::net::IpAddr::V4(address) => address.octets().into_iter().for_each(&mut add),
                std::net::IpAddr::V6(address) => address.octets().into_iter().for_each(&mut add),
            }
            self.key.ends.port(end).to_be_bytes().into_iter().for_each(&mut add);
        }
        let mixed = (hash ^ self.start.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29) & ((1 << 51) - 1)
    }

    /// What is counted of it behind the point where it was let go.
    pub fn bypassed(&self) -> Option<Counts> {
        let at = self.bypassed_at.as_ref()?;
        let less = |now: [u64; 2], then: [u64; 2]| {
            let ([a, b], [c, d]) = (now, then);
            [a.saturating_sub(c), b.saturating_sub(d)]
        };
        Some(Counts {
            packets: less(self.counts.packets, at.packets),
            bytes: less(self.counts.bytes, at.bytes),
        })
    }

    /// Whether it is one of ICMP, of either version.
    pub fn is_icmp(&self) -> bool {
        matches!(self.key.protocol, protocol::ICMP | protocol::ICMP6)
    }

    /// Whether it is one of TCP.
    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.key.protocol == protocol::TCP
    }
}

impl Slot for Flow {
    fn link(&self) -> u32 {
        self.links.chain
    }
    fn set_link(&mut self, next: u32) {
        self.links.chain = next;
    }
}

/// The mark of a pair that is of a side.
#[inline]
pub(super) fn one_of(both: u32, side: Side) -> u32 {
    (1 << both.trailing_zeros()) << side.index()
}

const CLIENT_IS_HIGH: u32 = 1;
/// Its packets are dropped.
pub(super) const DROPPED: u32 = 1 << 1;
/// Its packets are not evaluated.
pub(super) const PASSED: u32 = 1 << 2;
/// A rule matched.
pub(super) const ALERTED: u32 = 1 << 3;
/// Nobody is to be given its bytes.
pub(super) const NO_APP: u32 = 1 << 4;
/// The rest of it is encrypted.
pub(super) const ENCRYPTED: u32 = 1 << 5;
/// A pair: packets of the sides were seen.
pub(super) const SEEN: u32 = 3 << 6;
/// A pair: bytes of the sides are missing.
pub(super) const GAPS: u32 = 3 << 8;
/// A pair: a drop of the side was told.
pub(super) const DROP_TOLD: u32 = 3 << 10;
/// Its stream ended, and its application knows.
pub(super) const TOLD_END: u32 = 1 << 12;
/// It was looked up in blocklists; which way round it says so turns with them.
pub(super) const LOOKED_UP: u32 = 1 << 15;
/// It was met in its middle.
pub(super) const MIDSTREAM: u32 = 1 << 13;
/// A pair: the first bytes of the sides are missing.
pub(super) const HEADLESS: u32 = 3 << 16;
/// A pair: segments of the sides are not looked at any more.
pub(super) const PASSES_BY: u32 = 3 << 18;
