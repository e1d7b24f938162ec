//! A worker's part of a box: packets to the peers' networks become messages, messages become packets.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Packet};
use nfv_core::nf::{Burst, Cx, Holds, PacketNf, Place, PortIndex, Reason, Shard, Sifted};
use nfv_core::packet::{Fragment, Headers, L3, protocol};

use super::build::{Compress, Peer, Recover, Shared, WORKERS_MAX};
use super::codec::Effort;
use super::counts::{Count, Counts};
use super::decoder::{Decoder, Undecodable};
use super::encoder::{Encoded, Encoder, Settings};
use super::frame::{Before, address, put};
use super::keeper::{Side, Wanted};
use super::order::{Came, Order, Turn};
use super::outer::{self, Path};
use super::resend::Resend;
use super::talk::{ask, greet, say_tail, tell};
use super::wire::Message;

const UNDECODABLE: Reason = Reason(0);
const STALE: Reason = Reason(1);
const MISSING: Reason = Reason(2);
const STRANGER: Reason = Reason(3);
const CUT: Reason = Reason(4);
const NO_ROOM: Reason = Reason(5);
const CONGESTED: Reason = Reason(6);
const REPEATED: Reason = Reason(7);
const ENCODED_PACKETS: usize = 0;
const ENCODED_BYTES: usize = 1;
const MESSAGE_BYTES: usize = 2;
const COPIED_BYTES: usize = 3;
const PLAIN_PACKETS: usize = 4;
const PLAIN_BYTES: usize = 5;
const DECODED_PACKETS: usize = 6;
const DECODED_BYTES: usize = 7;
const WAITED: usize = 10;

/// A worker's part of a box.
#[derive(Debug)]
pub struct Site {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: usize,
    pub(super) peers: Vec<Ends>,
    /// What becomes of the packet at hand.
    datagram: Vec<u8>,
    pub(super) own: Own,
    /// Full bursts in a row.
    full: u8,
}

/// What this box says itself.
#[derive(Debug)]
pub struct Own {
    /// The frame at hand.
    pub frame: Vec<u8>,
    /// IPv4's identification of the last message.
    pub number: u16,
}

/// Both sides towards one peer.
#[derive(Debug)]
pub struct Ends {
    pub(super) path: Path,
    /// None of a worker that is one too many.
    pub(super) encoder: Option<Encoder>,
    /// What may have to be sent again, where that is wanted.
    pub(super) resend: Option<Resend>,
    /// When the next hello is due, if there is traffic, and how many were not answered.
    pub(super) hello_at: Time,
    pub(super) unanswered: u8,
    /// By the number of the peer's encoder: whether its decoder's file is open.
    pub(super) ready: [Ready; WORKERS_MAX],
    /// By the number of the peer's encoder.
    pub(super) decoders: [Option<Box<Decoding>>; WORKERS_MAX],
}

/// A decoder with a file, before it is heard of again.
#[derive(Debug)]
pub enum Ready {
    /// Nobody has asked for it.
    No,
    /// It is being opened.
    Asked,
    /// It is here.
    Here(Box<Decoder>),
}

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
    /// Whether those of this burst go on behind others.
    turn: Turn,
}

impl Site {
    /// Of one worker of so many.
    pub fn new(shared: Arc<Shared>, worker: Shard) -> Self {
        let own = usize::from(worker.index);
        let instance = u8::try_from(own).ok().filter(|_| own < WORKERS_MAX);
        let of = usize::from(worker.of).clamp(1, WORKERS_MAX);
        let settings = Settings {
            memory: shared.memory / of,
            seal: shared.seal,
            level: shared.level,
            secret: shared.secret,
            instance: instance.unwrap_or(0),
            of: u8::try_from(of).unwrap_or(1),
        };
        let recovers = shared.recover != Recover::Off;
        let encoder = |at: usize, peer: &Peer| {
            let settings = settings.of_peer(at);
            let epoch = settings.epoch(at);
            match shared.keeper.as_ref().filter(|_| peer.shelf.is_some()) {
                None => Some(Encoder::new(settings, epoch)),
                Some(keeper) => {
                    keeper.ask(Wanted { side: Side::Sent, settings, epoch, of: (own, at) });
                    None
                }
            }
        };
        let ends = |(at, peer): (usize, &Peer)| Ends {
            path: Path {
                local: shared.local,
                peer: peer.address,
                over: shared.over,
                instance: settings.instance,
            },
            encoder: instance.and_then(|_| encoder(at, peer)),
            ready: std::array::from_fn(|_| Ready::No),
            resend: instance.filter(|_| recovers).map(|_| Resend::new()),
            hello_at: Time(0),
            unanswered: 0,
            decoders: std::array::from_fn(|_| None),
        };
        let peers = shared.peers.iter().enumerate().map(ends).collect();
        let (datagram, frame) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM));
        Self { worker: own, peers, datagram, own: Own { frame, number: 0 }, full: 0, shared }
    }

    fn one(
        &mut self,
        packet: Packet,
        headers: &mut Headers,
        is_excluded: bool,
        effort: Effort,
        (port, cx): (PortIndex, &mut Cx<'_>),
    ) -> Sifted {
        let (start, end) = (usize::from(headers.l3), usize::from(headers.l3_end));
        let is_ip = matches!(headers.kind, L3::Ipv4 | L3::Ipv6);
        // A packet of a capture may have been longer on the wire than what is here of it.
        if !is_ip || packet.data().get(start..end).is_none() {
            return Sifted::Stays(packet);
        }
        let dst = address(headers.kind, headers.dst.0);
        if dst == self.shared.local {
            return self.arrives(packet, headers, port, cx);
        }
        let net = self.shared.networks.iter().find(|(net, _)| net.contains(&dst));
        match net {
            Some((_, peer)) => self.leaves(*peer, packet, headers, is_excluded, effort, cx),
            None => Sifted::Stays(packet),
        }
    }

    /// A packet towards a peer's networks.
    fn leaves(
        &mut self,
        at: usize,
        mut packet: Packet,
        headers: &mut Headers,
        is_excluded: bool,
        effort: Effort,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let Some(counts) = counts_of(&self.shared, at, self.worker) else {
            return Sifted::Stays(packet);
        };
        let Some(ends) = self.peers.get_mut(at) else { return Sifted::Stays(packet) };
        let range = usize::from(headers.l3)..usize::from(headers.l3_end);
        let all = range.len();
        counts.add(Count::Offered, all);
        let encodes = self.shared.encodes.load(Ordering::Relaxed) && !is_excluded;
        if encodes && ends.hello_at <= cx.now {
            greet(ends, &packet, range.start, &mut self.own, cx);
            counts.add(Count::Talk, 1);
        }
        let whole = headers.fragment == Fragment::Whole;
        let own = ends.path.length();
        let encoder =
            ends.encoder.as_mut().filter(|e| encodes && whole && e.is_open() && all > own);
        let is_recovered = match self.shared.recover {
            Recover::Off => false,
            Recover::Tcp => headers.protocol == protocol::TCP,
            Recover::All => true,
        };
        let mut resend = ends.resend.as_mut().filter(|_| is_recovered);
        let out = &mut self.datagram;
        out.clear();
        out.resize(own, 0);
        let encoded = encoder.zip(packet.data().get(range.clone())).map(|(encoder, datagram)| {
            let class = outer::class(datagram);
            let session = encoder.session();
            let number = resend.as_mut().zip(session).map(|(resend, session)| resend.next(session));
            (encoder.encode(datagram, all - own, (effort, number), out), class)
        });
        let Some((Encoded::Shorter { copied }, Some(class))) = encoded else {
            cx.count(PLAIN_PACKETS, 1);
            cx.count(PLAIN_BYTES, all as u64);
            counts.add(Count::Sent, all);
            return Sifted::Stays(packet);
        };
        self.own.number = self.own.number.wrapping_add(1);
        ends.path.fill(class, self.own.number, out);
        // It is shorter than what is there.
        if !put(&mut packet, range.start, out, headers) {
            return Sifted::Dropped(packet, NO_ROOM);
        }
        if let Some(resend) = resend {
            let tail_at = resend.keep(packet.data(), range.start, cx.place(), cx.now);
            cx.wake_at(tail_at);
        }
        cx.count(ENCODED_PACKETS, 1);
        cx.count(ENCODED_BYTES, all as u64);
        cx.count(MESSAGE_BYTES, out.len() as u64);
        cx.count(COPIED_BYTES, u64::from(copied));
        counts.add(Count::Sent, out.len());
        counts.add(Count::Copied, usize::from(copied));
        Sifted::Becomes(packet)
    }

    /// A packet for this box.
    fn arrives(
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
            Some(Message::Data | Message::Numbered) => {
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

    /// A packet of hosts comes out of a message, which is at `message` of the frame.
    fn decode(
        &mut self,
        at: usize,
        mut packet: Packet,
        headers: &mut Headers,
        message: Range<usize>,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let (Some(ends), Some(peer)) = (self.peers.get_mut(at), self.shared.peers.get(at)) else {
            return Sifted::Dropped(packet, UNDECODABLE);
        };
        let Some(counts) = peer.counts.get(self.worker) else {
            return Sifted::Dropped(packet, UNDECODABLE);
        };
        let bytes = packet.data().get(message).unwrap_or_default();
        counts.add(Count::Received, usize::from(headers.l3_end) - usize::from(headers.l3));
        let mut all = ends.decoders.iter_mut().flatten();
        let Some(decoding) = all.find(|d| d.decoder.is_of(bytes)) else {
            // Whose encoder knows of another decoder than there is: it hears which there is.
            for decoding in ends.decoders.iter_mut().flatten() {
                if cx.now.since(decoding.reported) >= STALE_EVERY {
                    tell(decoding, ends.path, &mut self.own, cx);
                }
            }
            counts.add(Count::Undecodable, 1);
            return Sifted::Dropped(packet, STALE);
        };
        let decoded = decoding.decoder.decode(bytes, &mut self.datagram);
        if decoding.decoder.unreported() > 0 {
            cx.wake_at(*decoding.report_at.get_or_insert(Time(cx.now.0 + REPORT_AFTER)));
        }
        if decoding.decoder.unreported() >= REPORT_RECORDS {
            tell(decoding, ends.path, &mut self.own, cx);
        }
        let number = match decoded {
            Ok(number) => number,
            Err(why) => {
                counts.add(Count::Undecodable, 1);
                let reason = match why {
                    Undecodable::Malformed | Undecodable::Wrong => UNDECODABLE,
                    Undecodable::Stale => STALE,
                    Undecodable::Missing => MISSING,
                };
                return Sifted::Dropped(packet, reason);
            }
        };
        let start = usize::from(headers.l3);
        let class = outer::class(packet.data().get(start..).unwrap_or_default());
        if !class.is_some_and(|class| outer::carry_congestion(class, &mut self.datagram)) {
            return Sifted::Dropped(packet, CONGESTED);
        }
        if !put(&mut packet, start, &self.datagram, headers) {
            return Sifted::Dropped(packet, NO_ROOM);
        }
        cx.count(DECODED_PACKETS, 1);
        cx.count(DECODED_BYTES, self.datagram.len() as u64);
        counts.add(Count::Restored, self.datagram.len());
        match number {
            None => Sifted::Becomes(packet),
            Some(number) => decoding.in_order(number, packet, peer.patience(), cx),
        }
    }
}

impl Decoding {
    /// Of a decoder that has heard nothing yet.
    pub(super) fn new(decoder: Decoder, before: Before, port: PortIndex) -> Self {
        let (report_at, reported, of) = (None, Time(0), None);
        let (order, turn) = (Order::new(), Turn::Now);
        Self { decoder, before, port, report_at, reported, order, of, turn }
    }

    /// Sends a packet on when it is its turn.
    fn in_order(&mut self, number: u32, packet: Packet, patience: u64, cx: &mut Cx<'_>) -> Sifted {
        if self.of != self.decoder.session() {
            // What waits is of the time before; what it waits for does not come any more.
            self.order.hurry();
            self.release(patience, cx);
            if self.order.waiting() > 0 {
                return Sifted::Becomes(packet);
            }
            self.order.restart(0);
            self.of = self.decoder.session();
        }
        let taken = match self.order.take(number, self.turn, cx.now, (packet, cx.place())) {
            Came::Next((packet, _)) => Sifted::Becomes(packet),
            Came::Again((packet, _)) => Sifted::Dropped(packet, REPEATED),
            Came::Waits => {
                cx.count(WAITED, 1);
                Sifted::Taken
            }
        };
        self.release(patience, cx);
        taken
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
}

impl PacketNf for Site {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.read_mail(cx);
        let excluded = match &self.shared.exclude {
            Some(exclude) => exclude.look_up(burst),
            None => [0; BURST_MAX],
        };
        // One full burst is what a host sends at once; when more and more follow, the worker is behind.
        self.full = if burst.len() == BURST_MAX { self.full.saturating_add(1) } else { 0 };
        let effort = match self.shared.compress {
            Compress::Auto if self.full > FULL_MAX => Effort::Fast,
            Compress::Auto | Compress::Best => Effort::Best,
            Compress::Fast => Effort::Fast,
        };
        for decoding in self.peers.iter_mut().flat_map(|e| e.decoders.iter_mut().flatten()) {
            decoding.turn = Turn::Now;
        }
        let (port, mut excluded) = (burst.in_port, excluded.into_iter());
        burst.sift(|packet, headers| {
            let is_excluded = excluded.next().is_some_and(|found| found != 0);
            self.one(packet, headers, is_excluded, effort, (port, cx))
        });
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        self.read_mail(cx);
        for (ends, peer) in self.peers.iter_mut().zip(&self.shared.peers) {
            say_tail(ends, &self.shared.seal, &mut self.own, cx);
            for decoding in ends.decoders.iter_mut().flatten() {
                match decoding.report_at {
                    Some(at) if at <= cx.now => tell(decoding, ends.path, &mut self.own, cx),
                    Some(at) => cx.wake_at(at),
                    None => {}
                }
                ask(decoding, ends.path, &self.shared.seal, &mut self.own, cx);
                decoding.release(peer.patience(), cx);
            }
        }
    }

    fn let_go(&mut self, cx: &mut Cx<'_>) -> Holds {
        let mut holds = Holds::Nothing;
        for decoding in self.peers.iter_mut().flat_map(|e| e.decoders.iter_mut().flatten()) {
            decoding.order.hurry();
            decoding.release(0, cx);
            if decoding.order.waiting() > 0 {
                holds = Holds::Packets;
            }
        }
        holds
    }
}

/// One worker's counts of a peer.
pub(super) fn counts_of(shared: &Shared, peer: usize, worker: usize) -> Option<&Counts> {
    shared.peers.get(peer)?.counts.get(worker)
}

/// Full bursts in a row, at most, after which there is time for zstd.
const FULL_MAX: u8 = 8;
/// Nanoseconds after which a record that came is reported, and records that are reported at once.
const REPORT_AFTER: u64 = 5_000_000;
const REPORT_RECORDS: u32 = 32;
/// Nanoseconds between two reports because of messages of another session.
const STALE_EVERY: u64 = 10_000_000;
/// Bytes of the largest datagram.
const ROOM: usize = 1 << 16;
