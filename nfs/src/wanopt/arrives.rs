//! What comes from the peers for this box: packets come out of messages, in order where they have numbers.

use std::collections::VecDeque;
use std::ops::Range;

use nfv_core::clock::Time;
use nfv_core::dpdk::Packet;
use nfv_core::nf::{Cx, Place, PortIndex, Reason, Sifted};
use nfv_core::packet::{Fragment, Headers};

use super::bundle::{Bundle, Cut, MESSAGES_MAX};
use super::counts::{Count, Counts};
use super::decoder::{Decoder, Undecodable};
use super::ends::{
    CONGESTED, CUT, DECODED_BYTES, DECODED_PACKETS, MISSING, NO_ROOM, Own, REPEATED, STALE,
    STRANGER, Site, UNDECODABLE, WAITED, counts_of,
};
use super::frame::{Before, address, put, whole};
use super::order::{Came, Order, Turn};
use super::outer::{self, Class, Path};
use super::talk::tell;
use super::wire::{Message, Number};

/// One decoder, and where its reports go.
#[derive(Debug)]
pub struct Decoding {
    pub(super) decoder: Decoder,
    /// What stands before the datagrams that it gets, turned around, and where they come from.
    pub(super) before: Before,
    pub(super) port: PortIndex,
    /// When the next report is due, and when the last one was.
    pub(super) report_at: Option<Time>,
    pub(super) reported: Time,
    /// Packets that wait for those before them, and of which session these are.
    pub(super) order: Order<(Packet, Place)>,
    pub(super) of: Option<u32>,
    /// Datagrams of which more comes out than there is room for at the moment, and those behind them.
    closed: VecDeque<Closed>,
    /// Whether those of this burst go on behind others.
    pub(super) turn: Turn,
}

/// A datagram whose messages have not come out yet.
#[derive(Debug)]
struct Closed {
    packet: Packet,
    /// Where the datagram begins, and its messages are.
    start: usize,
    messages: Range<usize>,
    place: Place,
}

/// What else is needed to open messages.
#[derive(Debug)]
pub(super) struct Desk<'d> {
    pub path: Path,
    pub own: &'d mut Own,
    /// What comes out.
    pub datagram: &'d mut Vec<u8>,
    /// A message of a bundle.
    pub message: &'d mut Vec<u8>,
    pub counts: &'d Counts,
    /// Nanoseconds that packets wait for those before them.
    pub patience: u64,
}

impl Site {
    /// A packet for this box.
    pub(super) fn arrives(
        &mut self,
        packet: Packet,
        headers: &mut Headers,
        port: PortIndex,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let range = usize::from(headers.l3)..usize::from(headers.l3_end);
        let datagram = packet.data().get(range.clone()).unwrap_or_default();
        if headers.fragment != Fragment::Whole {
            return Sifted::Dropped(packet, CUT);
        }
        let Some(message) = outer::message(datagram, self.shared.over) else {
            return Sifted::Stays(packet);
        };
        let src = address(headers.kind, headers.src.0);
        let Some(at) = self.shared.peers.iter().position(|peer| peer.address == src) else {
            return Sifted::Dropped(packet, STRANGER);
        };
        let bytes = datagram.get(message.clone()).unwrap_or_default();
        let is_heard = match Message::of(bytes) {
            Some(Message::Data | Message::Numbered | Message::Bundle) => {
                let message = range.start + message.start..range.start + message.end;
                return self.decode(at, packet, headers, message, cx);
            }
            Some(Message::Hello) => self.hello(at, &packet, bytes, range.start, port, cx),
            Some(Message::Report) => self.report(at, bytes, cx),
            Some(Message::Ask) => self.asked(at, bytes, cx),
            Some(Message::Tail) => self.tail(at, bytes, cx),
            None => None,
        };
        if is_heard.is_none() {
            return Sifted::Dropped(packet, UNDECODABLE);
        }
        if let Some(counts) = counts_of(&self.shared, at, self.worker) {
            counts.add(Count::Talk, 1);
        }
        cx.consume(packet);
        Sifted::Taken
    }

    /// Packets of hosts come out of a message or several, which are at `messages` of the frame.
    fn decode(
        &mut self,
        at: usize,
        packet: Packet,
        headers: &mut Headers,
        messages: Range<usize>,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let Self { shared, worker, peers, datagram, message, own, .. } = self;
        let (Some(ends), Some(peer)) = (peers.get_mut(at), shared.peers.get(at)) else {
            return Sifted::Dropped(packet, UNDECODABLE);
        };
        let Some(counts) = peer.counts.get(*worker) else {
            return Sifted::Dropped(packet, UNDECODABLE);
        };
        let bytes = packet.data().get(messages.clone()).unwrap_or_default();
        counts.add(Count::Received, usize::from(headers.l3_end) - usize::from(headers.l3));
        let mut all = ends.decoders.iter_mut().flatten();
        let Some(decoding) = all.find(|d| d.decoder.is_of(bytes)) else {
            // Whose encoder knows of another decoder than there is: it hears which there is.
            for decoding in ends.decoders.iter_mut().flatten() {
                if cx.now.since(decoding.reported) >= STALE_EVERY {
                    tell(decoding, ends.path, own, cx);
                }
            }
            counts.add(Count::Undecodable, 1);
            return Sifted::Dropped(packet, STALE);
        };
        let is_bundle = Message::of(bytes) == Some(Message::Bundle);
        let patience = peer.patience();
        let mut desk = Desk { path: ends.path, own, datagram, message, counts, patience };
        if is_bundle || !decoding.closed.is_empty() {
            if decoding.closed.len() == CLOSED_MAX {
                return Sifted::Dropped(packet, NO_ROOM);
            }
            let (start, place) = (usize::from(headers.l3), cx.place());
            decoding.closed.push_back(Closed { packet, start, messages, place });
            decoding.open(&mut desk, cx);
            return Sifted::Taken;
        }
        decoding.alone(packet, headers, messages, &mut desk, cx)
    }
}

impl Decoding {
    /// Of a decoder that has heard nothing yet.
    pub(super) fn new(decoder: Decoder, before: Before, port: PortIndex) -> Self {
        let (report_at, reported, of) = (None, Time(0), None);
        let (order, turn) = (Order::new(), Turn::Now);
        let closed = VecDeque::with_capacity(CLOSED_MAX);
        Self { decoder, before, port, report_at, reported, order, of, closed, turn }
    }

    /// A packet comes out of the only message of its datagram, and takes its place.
    fn alone(
        &mut self,
        mut packet: Packet,
        headers: &mut Headers,
        message: Range<usize>,
        desk: &mut Desk<'_>,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let start = usize::from(headers.l3);
        let class = outer::class(packet.data().get(start..).unwrap_or_default());
        let bytes = packet.data().get(message).unwrap_or_default();
        let number = match self.restore(bytes, class, desk, cx) {
            Ok(number) => number,
            Err(why) => return Sifted::Dropped(packet, why),
        };
        if !put(&mut packet, start, desk.datagram, headers) {
            return Sifted::Dropped(packet, NO_ROOM);
        }
        let next = match number {
            None => Ok(packet),
            Some(number) => self.in_order(number, (packet, cx.place()), desk.patience, cx),
        };
        let sifted = match next {
            Ok(packet) if self.turn == Turn::Later => match cx.resume(cx.place(), packet) {
                Ok(()) => Sifted::Taken,
                Err(packet) => Sifted::Becomes(packet),
            },
            Ok(packet) => Sifted::Becomes(packet),
            Err(None) => Sifted::Taken,
            Err(Some(packet)) => Sifted::Dropped(packet, REPEATED),
        };
        self.release(desk.patience, cx);
        sifted
    }

    /// Opens the datagrams that wait for it, as far as there is room for what comes out of them.
    pub(super) fn open(&mut self, desk: &mut Desk<'_>, cx: &mut Cx<'_>) {
        while cx.room() >= MESSAGES_MAX
            && let Some(closed) = self.closed.pop_front()
        {
            self.turn = Turn::Later;
            match self.each(&closed, desk, cx) {
                Ok(()) => cx.consume(closed.packet),
                // What did come out of it has gone on.
                Err(why) => cx.drop(closed.packet, why),
            }
            self.release(desk.patience, cx);
        }
        if !self.closed.is_empty() {
            cx.wake_at(cx.now);
        }
    }

    /// Packets come out of each message of a datagram. An error is that of the last one that did not come out.
    fn each(
        &mut self,
        closed: &Closed,
        desk: &mut Desk<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Reason> {
        let Closed { packet, start, messages, place } = closed;
        let class = outer::class(packet.data().get(*start..).unwrap_or_default());
        let bytes = packet.data().get(messages.clone()).unwrap_or_default();
        let Some(mut bundle) = Bundle::read(bytes) else {
            return self.one(bytes, (packet, *start, class, *place), desk, cx);
        };
        let (mut result, mut message) = (Ok(()), std::mem::take(desk.message));
        loop {
            message.clear();
            match bundle.next(&mut message) {
                None => break,
                Some(Err(Cut)) => result = Err(UNDECODABLE),
                Some(Ok(())) => {
                    let one = self.one(&message, (packet, *start, class, *place), desk, cx);
                    result = one.and(result);
                }
            }
        }
        *desk.message = message;
        result
    }

    /// A packet comes out of a message that is in another one's frame.
    fn one(
        &mut self,
        message: &[u8],
        (frame, start, class, place): (&Packet, usize, Option<Class>, Place),
        desk: &mut Desk<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Reason> {
        let number = self.restore(message, class, desk, cx)?;
        let is_whole = whole(frame, start, desk.datagram, &mut desk.own.frame);
        let packet = Some(&desk.own.frame).filter(|_| is_whole).and_then(|f| cx.create(f));
        let packet = packet.ok_or(NO_ROOM)?;
        let next = match number {
            None => Ok(packet),
            Some(number) => self.in_order(number, (packet, place), desk.patience, cx),
        };
        match next {
            // There is room.
            Ok(packet) => {
                if let Err(packet) = cx.resume(place, packet) {
                    cx.drop(packet, NO_ROOM);
                }
            }
            Err(None) => {}
            Err(Some(packet)) => cx.drop(packet, REPEATED),
        }
        Ok(())
    }

    /// A datagram of hosts comes out of a message. Returns its number, if it has one.
    fn restore(
        &mut self,
        message: &[u8],
        class: Option<Class>,
        desk: &mut Desk<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Number>, Reason> {
        let decoded = self.decoder.decode(message, desk.datagram);
        if self.decoder.unreported() > 0 {
            cx.wake_at(*self.report_at.get_or_insert(Time(cx.now.0 + REPORT_AFTER)));
        }
        if self.decoder.unreported() >= REPORT_RECORDS {
            tell(self, desk.path, desk.own, cx);
        }
        let number = decoded.map_err(|why| {
            let undecodable = usize::from(why != Undecodable::Repeated);
            desk.counts.add(Count::Undecodable, undecodable);
            match why {
                Undecodable::Repeated => REPEATED,
                Undecodable::Malformed | Undecodable::Wrong => UNDECODABLE,
                Undecodable::Stale => STALE,
                Undecodable::Missing => MISSING,
            }
        })?;
        if !class.is_some_and(|class| outer::carry_congestion(class, desk.datagram)) {
            return Err(CONGESTED);
        }
        cx.count(DECODED_PACKETS, 1);
        cx.count(DECODED_BYTES, desk.datagram.len() as u64);
        desk.counts.add(Count::Restored, desk.datagram.len());
        Ok(number)
    }

    /// Gives a packet back when it is its turn, and when it came before.
    fn in_order(
        &mut self,
        number: Number,
        packet: (Packet, Place),
        patience: u64,
        cx: &mut Cx<'_>,
    ) -> Result<Packet, Option<Packet>> {
        if self.of != self.decoder.session() {
            // What waits is of the time before; what it waits for does not come any more.
            self.order.hurry();
            self.release(patience, cx);
            if self.order.waiting() > 0 {
                return Ok(packet.0);
            }
            self.order.restart(0);
            self.of = self.decoder.session();
        }
        let turn = if self.turn == Turn::Later && cx.room() == 0 { Turn::Later } else { Turn::Now };
        match self.order.take(number, turn, cx.now, packet) {
            Came::Next((packet, _)) => Ok(packet),
            Came::Again((packet, _)) => Err(Some(packet)),
            Came::Waits => {
                cx.count(WAITED, 1);
                Err(None)
            }
        }
    }

    /// Sends on those whose turn it is, and says when to look again.
    pub(super) fn release(&mut self, patience: u64, cx: &mut Cx<'_>) {
        while cx.room() > 0 {
            let Some((packet, place)) = self.order.release(cx.now, patience) else { break };
            self.turn = Turn::Later;
            if let Err(packet) = cx.resume(place, packet) {
                // There was room.
                cx.drop(packet, NO_ROOM);
            }
        }
        if let Some(due) = self.order.due(patience) {
            cx.wake_at(due.max(cx.now));
        }
    }

    /// Whether it holds packets.
    pub(super) fn holds(&self) -> bool {
        self.order.waiting() > 0 || !self.closed.is_empty()
    }
}

/// Nanoseconds after which a record that came is reported, and records that are reported at once.
const REPORT_AFTER: u64 = 5_000_000;
const REPORT_RECORDS: u32 = 32;
/// Nanoseconds between two reports because of messages of another session.
const STALE_EVERY: u64 = 10_000_000;
/// Datagrams that wait to be opened, at most.
const CLOSED_MAX: usize = 256;
