//! Small messages wait for each other, as long as they may, to go in one datagram.
//!
//! Together are those of one session and class, between the same stations; so what the link does to the datagram's class
//! is done to each. What has become no shorter than the packets were does not leave as messages: as long as that may be,
//! the packets are kept, and go on as they came. A packet of the same stations that does not wait has those that do go
//! first, so that none overtakes.

use arrayvec::ArrayVec;
use nfv_core::clock::Time;
use nfv_core::dpdk::Packet;
use nfv_core::nf::{Cx, Place, Sifted};
use nfv_core::packet::Headers;

use super::bundle::{self, HEAD, MESSAGES_MAX, added};
use super::counts::{Count, Counts};
use super::ends::{
    COALESCED, ENCODED_BYTES, ENCODED_PACKETS, MESSAGE_BYTES, NO_ROOM, Own, PLAIN_BYTES,
    PLAIN_PACKETS,
};
use super::frame::{Before, put};
use super::order::Turn;
use super::outer::{Class, Path};

/// How messages wait.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    /// Nanoseconds, at most.
    pub delay: u64,
    /// Bytes of the datagrams that they go in, at most.
    pub mtu: usize,
}

/// What waits towards one peer; all memory is taken when it is made.
#[derive(Debug)]
pub struct Coalescer {
    settings: Coalesce,
    /// By the stations that packets go between.
    waiting: [Waiting; STATIONS],
    /// The number of the next bundle.
    next: u32,
    /// Whether those of this burst go on behind others.
    turn: Turn,
}

/// What becomes one datagram.
#[derive(Debug)]
struct Waiting {
    /// Room for the outer headers, and a bundle.
    bytes: Vec<u8>,
    messages: usize,
    /// Bytes of the packets that are in it.
    offered: usize,
    /// Those packets, as long as they may have to go as they are: only the first, once they need not.
    packets: ArrayVec<Packet, KEPT_MAX>,
    before: Before,
    class: Class,
    session: u32,
    place: Option<Place>,
    /// By which messages are told that they go in it.
    number: u32,
    due: Time,
}

/// A message that may wait.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// Its bytes.
    pub bytes: &'m [u8],
    /// What its packet's header says.
    pub class: Class,
    /// Of which it is.
    pub session: u32,
    /// Bytes of its packet.
    pub all: usize,
    /// The bundle that it has to go in, if it may refer to others there.
    pub bundle: Option<u32>,
}

/// The way to the peer, and what is counted of it.
#[derive(Debug)]
pub struct Way<'w> {
    /// The headers between the boxes.
    pub path: Path,
    /// What this box says itself.
    pub own: &'w mut Own,
    /// The worker's counts of the peer.
    pub counts: &'w Counts,
}

impl Coalescer {
    /// In which nothing waits.
    pub fn new(settings: Coalesce) -> Self {
        let waiting = std::array::from_fn(|_| Waiting::new());
        Self { settings, waiting, next: 0, turn: Turn::Now }
    }

    /// Another burst begins.
    pub fn begin_burst(&mut self) {
        self.turn = Turn::Now;
    }

    /// Whether a message is so small that others go with it.
    pub fn is_small(&self, message: usize, path: &Path) -> bool {
        path.length() + HEAD + added(message) + LEAST <= self.settings.mtu
    }

    /// The number of the bundle that a packet of up to [`TINY`] bytes goes in.
    pub fn bundle(
        &self,
        before: &[u8],
        class: Class,
        session: Option<u32>,
        place: Place,
    ) -> Option<u32> {
        let stations = stations(before)?;
        let waiting = self.waiting.iter().find(|w| w.is_between(stations)).filter(|w| {
            let is_same = (w.class, Some(w.session), w.place) == (class, session, Some(place));
            is_same && w.bytes.len() + added(TINY + EXCESS) <= self.settings.mtu
        });
        Some(waiting.map_or(self.next, |waiting| waiting.number))
    }

    /// A packet that does not wait goes on, behind those of its stations that do. It comes back, if it may do so where it is.
    pub fn pass(
        &mut self,
        packet: Packet,
        start: usize,
        way: &mut Way<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Packet> {
        let stations = packet.data().get(..start).and_then(stations).unwrap_or_default();
        if let Some(waiting) = self.waiting.iter_mut().find(|w| w.is_between(stations)) {
            waiting.send(way, cx);
            self.turn = Turn::Later;
        }
        match self.turn {
            Turn::Now => Some(packet),
            Turn::Later => cx.resume(cx.place(), packet).err(),
        }
    }

    /// A message that is small waits for others; `packet` is what it was made of.
    pub fn wait(
        &mut self,
        packet: Packet,
        start: usize,
        message: Message<'_>,
        way: &mut Way<'_>,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let before = packet.data().get(..start).and_then(|b| Before::try_from(b).ok());
        let Some((before, stations)) = before.as_ref().and_then(|b| Some((b, stations(b)?))) else {
            return Sifted::Dropped(packet, NO_ROOM);
        };
        let place = Some(cx.place());
        let own = way.path.length();
        let Self { settings, waiting, next: number, turn } = self;
        let known = waiting.iter().position(|w| w.is_between(stations));
        let first = || {
            let order = |w: &Waiting| if w.messages == 0 { Time(0) } else { w.due };
            (0..STATIONS).min_by_key(|at| waiting.get(*at).map(order))
        };
        let at = known.or_else(first).unwrap_or(0);
        let Some(waiting) = waiting.get_mut(at) else { return Sifted::Dropped(packet, NO_ROOM) };
        let length = waiting.bytes.len() + added(message.bytes.len());
        // Whose packets are gone cannot go as they came any more.
        let is_gain = waiting.has_all() || length <= waiting.offered + message.all;
        let fits = length <= settings.mtu && is_gain;
        let is_same = (waiting.class, waiting.session, waiting.place)
            == (message.class, message.session, place)
            && message.bundle.is_none_or(|bundle| bundle == waiting.number);
        if waiting.messages > 0 && (known.is_none() || !fits || !is_same) {
            waiting.send(way, cx);
            *turn = Turn::Later;
        }
        if waiting.messages == 0 {
            waiting.before.clone_from(before);
            (waiting.class, waiting.session) = (message.class, message.session);
            waiting.number = *number;
            *number = number.wrapping_add(1);
            (waiting.place, waiting.due) = (place, Time(cx.now.0.saturating_add(settings.delay)));
            waiting.bytes.resize(own, 0);
            bundle::begin(message.session, &mut waiting.bytes);
        }
        bundle::add(message.bytes, own, &mut waiting.bytes);
        waiting.messages += 1;
        waiting.offered += message.all;
        waiting.keep(packet, cx);
        let is_full = waiting.bytes.len() + LEAST > settings.mtu
            || waiting.messages == MESSAGES_MAX
            || waiting.packets.is_full();
        if is_full {
            waiting.send(way, cx);
            *turn = Turn::Later;
        } else {
            cx.wake_at(waiting.due);
        }
        Sifted::Taken
    }

    /// Sends on those that have waited until a time, and says when to look again.
    pub fn release(&mut self, by: Time, way: &mut Way<'_>, cx: &mut Cx<'_>) {
        for waiting in self.waiting.iter_mut().filter(|w| w.messages > 0) {
            if waiting.due <= by && cx.room() >= KEPT_MAX {
                waiting.send(way, cx);
                self.turn = Turn::Later;
            } else {
                cx.wake_at(waiting.due.max(cx.now));
            }
        }
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.messages).sum()
    }
}

impl Waiting {
    fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(ROOM),
            messages: 0,
            offered: 0,
            packets: ArrayVec::new(),
            before: Before::new(),
            class: Class { traffic: 0, dont_fragment: true },
            session: 0,
            place: None,
            number: 0,
            due: Time(u64::MAX),
        }
    }

    fn is_between(&self, other: &[u8]) -> bool {
        self.messages > 0 && stations(&self.before) == Some(other)
    }

    /// Whether the messages together are not longer than the packets.
    fn is_gain(&self) -> bool {
        self.bytes.len() <= self.offered
    }

    /// Whether the packets can go as they came.
    fn has_all(&self) -> bool {
        self.packets.len() == self.messages
    }

    /// Keeps a packet as long as that is needed: the datagram needs one for itself.
    fn keep(&mut self, packet: Packet, cx: &Cx<'_>) {
        if self.packets.is_empty() || !self.is_gain() {
            // There is room: whoever fills it sends all.
            self.packets.push(packet);
            return;
        }
        cx.consume(packet);
        self.packets.drain(1..).for_each(|packet| cx.consume(packet));
    }

    /// Sends what waits, as messages or as it came.
    fn send(&mut self, way: &mut Way<'_>, cx: &mut Cx<'_>) {
        let Way { path, own, counts } = way;
        let Own { frame, number } = &mut **own;
        let (room, has_all) = (path.length(), self.has_all());
        // One alone needs no bundle.
        let datagram = if self.messages == 1 {
            frame.clear();
            frame.resize(room, 0);
            let _ = bundle::lone(self.bytes.get(room..).unwrap_or_default(), frame);
            frame
        } else {
            &mut self.bytes
        };
        let (length, offered) = (datagram.len(), self.offered);
        if length <= offered || !has_all {
            *number = number.wrapping_add(1);
            path.fill(self.class, *number, datagram);
            let rest = self.packets.drain(1..);
            rest.for_each(|packet| cx.consume(packet));
            if let (Some(mut packet), Some(place)) = (self.packets.pop(), self.place) {
                let is_put = put(&mut packet, self.before.len(), datagram, &mut Headers::default());
                let sent = if is_put { cx.resume(place, packet) } else { Err(packet) };
                if let Err(packet) = sent {
                    cx.drop(packet, NO_ROOM);
                }
            }
            cx.count(ENCODED_PACKETS, self.messages as u64);
            cx.count(ENCODED_BYTES, offered as u64);
            cx.count(MESSAGE_BYTES, length as u64);
            counts.add(Count::Sent, length);
            if self.messages > 1 {
                cx.count(COALESCED, self.messages as u64);
            }
        } else {
            for packet in self.packets.drain(..) {
                let sent = match self.place {
                    Some(place) => cx.resume(place, packet),
                    None => Err(packet),
                };
                if let Err(packet) = sent {
                    cx.drop(packet, NO_ROOM);
                }
            }
            cx.count(PLAIN_PACKETS, self.messages as u64);
            cx.count(PLAIN_BYTES, offered as u64);
            counts.add(Count::Sent, offered);
        }
        self.bytes.clear();
        (self.messages, self.offered, self.due) = (0, 0, Time(u64::MAX));
    }
}

/// What stands before a datagram, without the type of that.
fn stations(before: &[u8]) -> Option<&[u8]> {
    before.split_last_chunk::<2>().map(|(stations, _)| stations)
}

/// Bytes of packets, at most, that are encoded though they gain by going with others only: TCP's acknowledgements, and what
/// is as short. They have no number.
pub const TINY: usize = 100;
/// Bytes by which the message of such a packet may be longer than it is: those behind it in the bundle refer to it.
pub const EXCESS: usize = 40;
/// Pairs of stations of which messages wait at a time.
const STATIONS: usize = 4;
/// Packets that are kept at most, until their messages are worth it.
const KEPT_MAX: usize = 6;
/// Bytes that have to be left for another message.
const LEAST: usize = 48;
/// Bytes of the largest datagram.
const ROOM: usize = 2048;
