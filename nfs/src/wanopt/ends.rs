//! A worker's part of a box: packets to the peers' networks become messages, messages become packets.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Packet};
use nfv_core::nf::{Burst, Cx, PacketNf, PortIndex, Reason, Shard, Sifted};
use nfv_core::packet::{Fragment, Headers, L3, flow_hash, parse};

use super::build::{Compress, Mail, Peer, Shared, WORKERS_MAX};
use super::codec::Effort;
use super::counts::{Count, Counts};
use super::decoder::{Decoder, Undecodable};
use super::encoder::{Encoded, Encoder, Heard, Settings};
use super::outer::{self, Class, Path};
use super::wire::{Hello, Message, Report};

const UNDECODABLE: Reason = Reason(0);
const STALE: Reason = Reason(1);
const MISSING: Reason = Reason(2);
const STRANGER: Reason = Reason(3);
const CUT: Reason = Reason(4);
const NO_ROOM: Reason = Reason(5);
const CONGESTED: Reason = Reason(6);
const ENCODED_PACKETS: usize = 0;
const ENCODED_BYTES: usize = 1;
const MESSAGE_BYTES: usize = 2;
const COPIED_BYTES: usize = 3;
const PLAIN_PACKETS: usize = 4;
const PLAIN_BYTES: usize = 5;
const DECODED_PACKETS: usize = 6;
const DECODED_BYTES: usize = 7;
const HELLOS: usize = 8;
const REPORTS: usize = 9;

/// A worker's part of a box.
#[derive(Debug)]
pub struct Site {
    shared: Arc<Shared>,
    worker: usize,
    peers: Vec<Ends>,
    /// What becomes of the packet at hand.
    datagram: Vec<u8>,
    frame: Vec<u8>,
    /// IPv4's identification of the next message.
    number: u16,
    /// Full bursts in a row.
    full: u8,
}

/// Both sides towards one peer.
#[derive(Debug)]
struct Ends {
    path: Path,
    /// None of a worker that is one too many.
    encoder: Option<Encoder>,
    /// When the next hello is due, if there is traffic, and how many were not answered.
    hello_at: Time,
    unanswered: u8,
    /// By the number of the peer's encoder.
    decoders: [Option<Box<Decoding>>; WORKERS_MAX],
}

/// One decoder, and where its reports go.
#[derive(Debug)]
struct Decoding {
    decoder: Decoder,
    /// What stands before the datagrams that it gets, turned around, and where they come from.
    before: Before,
    port: PortIndex,
    /// When the next report is due, and when the last one was.
    report_at: Option<Time>,
    reported: Time,
}

/// Ethernet's header with tags.
type Before = ArrayVec<u8, 22>;

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
        let ends = |(at, peer): (usize, &Peer)| Ends {
            path: Path {
                local: shared.local,
                peer: peer.address,
                over: shared.over,
                instance: settings.instance,
            },
            encoder: instance.map(|_| Encoder::new(settings, settings.epoch(at))),
            hello_at: Time(0),
            unanswered: 0,
            decoders: std::array::from_fn(|_| None),
        };
        let peers = shared.peers.iter().enumerate().map(ends).collect();
        let (datagram, frame) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM));
        Self { worker: own, peers, datagram, frame, number: 0, full: 0, shared }
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
            greet(ends, &packet, range.start, &mut self.frame, &mut self.number, cx);
            counts.add(Count::Talk, 1);
        }
        let whole = headers.fragment == Fragment::Whole;
        let own = ends.path.length();
        let encoder =
            ends.encoder.as_mut().filter(|e| encodes && whole && e.is_open() && all > own);
        let out = &mut self.datagram;
        out.clear();
        out.resize(own, 0);
        let encoded = encoder.zip(packet.data().get(range.clone())).map(|(encoder, datagram)| {
            let class = outer::class(datagram);
            (encoder.encode(datagram, all - own, effort, out), class)
        });
        let Some((Encoded::Shorter { copied }, Some(class))) = encoded else {
            cx.count(PLAIN_PACKETS, 1);
            cx.count(PLAIN_BYTES, all as u64);
            counts.add(Count::Sent, all);
            return Sifted::Stays(packet);
        };
        self.number = self.number.wrapping_add(1);
        ends.path.fill(class, self.number, out);
        // It is shorter than what is there.
        if !put(&mut packet, range.start, out, headers) {
            return Sifted::Dropped(packet, NO_ROOM);
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
        let heard = match Message::of(bytes) {
            Some(Message::Data) => {
                let message = range.start + message.start..range.start + message.end;
                return self.decode(at, packet, headers, message, cx);
            }
            Some(Message::Hello) => self.hello(at, &packet, bytes, range.start, port, cx),
            Some(Message::Report) => self.report(at, bytes, cx),
            None => Heard::NotOurs,
        };
        match heard {
            Heard::NotOurs => Sifted::Dropped(packet, UNDECODABLE),
            Heard::Ours | Heard::Anew => {
                if let Some(counts) = counts_of(&self.shared, at, self.worker) {
                    counts.add(Count::Talk, 1);
                }
                cx.consume(packet);
                Sifted::Taken
            }
        }
    }

    /// A peer's encoder says hello.
    fn hello(
        &mut self,
        at: usize,
        packet: &Packet,
        message: &[u8],
        start: usize,
        port: PortIndex,
        cx: &mut Cx<'_>,
    ) -> Heard {
        let Some((hello, _)) = Hello::read(message) else { return Heard::NotOurs };
        let Some(ends) = self.peers.get_mut(at) else { return Heard::NotOurs };
        let instance = usize::from(hello.instance);
        let Some(slot) = ends.decoders.get_mut(instance) else { return Heard::NotOurs };
        let Some(before) = turned(packet.data().get(..start).unwrap_or_default()) else {
            return Heard::NotOurs;
        };
        // A stranger's hello takes no memory: it is not sealed.
        if !self.shared.seal.is_closed_hello(message) {
            return Heard::NotOurs;
        }
        let decoding = slot.get_or_insert_with(|| {
            let settings = Settings {
                memory: self.shared.memory / usize::from(hello.of).clamp(1, WORKERS_MAX),
                seal: self.shared.seal,
                level: self.shared.level,
                secret: self.shared.secret,
                instance: hello.instance,
                of: hello.of,
            };
            let decoder = Decoder::new(settings, settings.epoch(at ^ self.worker << 8 ^ 0x8000));
            let before = before.clone();
            Box::new(Decoding { decoder, before, port, report_at: None, reported: Time(0) })
        });
        (decoding.before, decoding.port) = (before, port);
        cx.count(HELLOS, 1);
        let heard = decoding.decoder.hello(message);
        tell(decoding, ends.path, &mut self.frame, &mut self.number, cx);
        heard
    }

    /// A peer's decoder says what it has.
    fn report(&mut self, at: usize, message: &[u8], cx: &Cx<'_>) -> Heard {
        cx.count(REPORTS, 1);
        let Some((report, _)) = Report::read(message) else { return Heard::NotOurs };
        let instance = usize::from(report.instance);
        if instance != self.worker {
            let peer = self.shared.peers.get(at);
            let Some(mail) = peer.and_then(|peer| peer.mail.get(instance)) else {
                return Heard::NotOurs;
            };
            // One that is lost is made up for by the next.
            return match Mail::try_from(message).map(|message| mail.push(message)) {
                Ok(_) => Heard::Ours,
                Err(_) => Heard::NotOurs,
            };
        }
        self.peers.get_mut(at).map_or(Heard::NotOurs, |ends| ends.hear(message))
    }

    /// Reads the reports that other workers received.
    fn read_mail(&mut self) {
        for (peer, ends) in self.shared.peers.iter().zip(&mut self.peers) {
            let Some(mail) = peer.mail.get(self.worker).filter(|mail| !mail.is_empty()) else {
                continue;
            };
            while let Some(message) = mail.pop() {
                ends.hear(&message);
            }
        }
    }

    /// A packet of hosts comes out of a message, which is at `message` of the frame.
    fn decode(
        &mut self,
        at: usize,
        mut packet: Packet,
        headers: &mut Headers,
        message: std::ops::Range<usize>,
        cx: &mut Cx<'_>,
    ) -> Sifted {
        let (Some(ends), Some(counts)) =
            (self.peers.get_mut(at), counts_of(&self.shared, at, self.worker))
        else {
            return Sifted::Dropped(packet, UNDECODABLE);
        };
        let bytes = packet.data().get(message).unwrap_or_default();
        counts.add(Count::Received, usize::from(headers.l3_end) - usize::from(headers.l3));
        let mut all = ends.decoders.iter_mut().flatten();
        let Some(decoding) = all.find(|d| d.decoder.is_of(bytes)) else {
            // Whose encoder knows of another decoder than there is: it hears which there is.
            for decoding in ends.decoders.iter_mut().flatten() {
                if cx.now.since(decoding.reported) >= STALE_EVERY {
                    tell(decoding, ends.path, &mut self.frame, &mut self.number, cx);
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
            tell(decoding, ends.path, &mut self.frame, &mut self.number, cx);
        }
        if let Err(why) = decoded {
            counts.add(Count::Undecodable, 1);
            let reason = match why {
                Undecodable::Malformed | Undecodable::Wrong => UNDECODABLE,
                Undecodable::Stale => STALE,
                Undecodable::Missing => MISSING,
            };
            return Sifted::Dropped(packet, reason);
        }
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
        Sifted::Becomes(packet)
    }
}

impl PacketNf for Site {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.read_mail();
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
        let (port, mut excluded) = (burst.in_port, excluded.into_iter());
        burst.sift(|packet, headers| {
            let is_excluded = excluded.next().is_some_and(|found| found != 0);
            self.one(packet, headers, is_excluded, effort, (port, cx))
        });
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        for ends in &mut self.peers {
            for decoding in ends.decoders.iter_mut().flatten() {
                match decoding.report_at {
                    Some(at) if at <= cx.now => {
                        tell(decoding, ends.path, &mut self.frame, &mut self.number, cx);
                    }
                    Some(at) => cx.wake_at(at),
                    None => {}
                }
            }
        }
    }
}

impl Ends {
    fn hear(&mut self, message: &[u8]) -> Heard {
        let heard = self.encoder.as_mut().map_or(Heard::NotOurs, |encoder| encoder.report(message));
        if heard != Heard::NotOurs {
            self.unanswered = 0;
        }
        heard
    }
}

/// Says hello the way that a packet goes. Who does not answer gets no messages, until it does.
fn greet(
    ends: &mut Ends,
    packet: &Packet,
    start: usize,
    frame: &mut Vec<u8>,
    number: &mut u16,
    cx: &mut Cx<'_>,
) {
    let Some(encoder) = &mut ends.encoder else { return };
    ends.hello_at = Time(cx.now.0 + HELLO_EVERY);
    ends.unanswered = ends.unanswered.saturating_add(1);
    if ends.unanswered > UNANSWERED_MAX && encoder.is_open() {
        encoder.close();
    }
    let before = packet.data().get(..start).unwrap_or_default();
    begin(frame, before, &ends.path);
    encoder.hello(frame);
    let Some(hello) = finish(frame, before.len(), &ends.path, number, cx) else { return };
    cx.count(HELLOS, 1);
    if let Err(hello) = cx.resume(cx.place(), hello) {
        cx.consume(hello);
    }
}

/// Sends a decoder's report back where its messages come from.
fn tell(
    decoding: &mut Decoding,
    path: Path,
    frame: &mut Vec<u8>,
    number: &mut u16,
    cx: &mut Cx<'_>,
) {
    (decoding.report_at, decoding.reported) = (None, cx.now);
    begin(frame, &decoding.before, &path);
    decoding.decoder.report(frame);
    if let Some(report) = finish(frame, decoding.before.len(), &path, number, cx) {
        cx.count(REPORTS, 1);
        cx.send(decoding.port, report);
    }
}

/// Begins a frame of this box's own, with room for the outer headers.
fn begin(frame: &mut Vec<u8>, before: &[u8], path: &Path) {
    frame.clear();
    frame.extend_from_slice(before);
    frame.resize(before.len() + path.length(), 0);
}

/// Makes a packet of a frame whose message is behind the room for the headers.
fn finish(
    frame: &mut Vec<u8>,
    start: usize,
    path: &Path,
    number: &mut u16,
    cx: &Cx<'_>,
) -> Option<Packet> {
    *number = number.wrapping_add(1);
    let class = Class { traffic: 0, dont_fragment: true };
    let datagram = frame.get_mut(start..)?;
    path.fill(class, *number, datagram);
    let kind = ether_type(datagram)?;
    frame.get_mut(..start)?.last_chunk_mut::<2>()?.copy_from_slice(&kind);
    if frame.len() < SHORTEST {
        frame.resize(SHORTEST, 0);
    }
    cx.create(frame)
}

/// Puts another datagram in the place of a packet's own. False: there is no room.
fn put(packet: &mut Packet, start: usize, datagram: &[u8], headers: &mut Headers) -> bool {
    let (old, end) = (packet.data().len(), start + datagram.len());
    let new = end.max(SHORTEST.min(old));
    if new > old {
        // Its bytes are right; those before are written below.
        let tail = datagram.get(old.saturating_sub(start)..).unwrap_or_default();
        if !packet.append(tail) {
            return false;
        }
    } else if !u16::try_from(old - new).is_ok_and(|off| packet.trim(off)) {
        return false;
    }
    let Some(kind) = ether_type(datagram) else { return false };
    let data = packet.data_mut();
    if let Some(before) = data.get_mut(..start).and_then(<[u8]>::last_chunk_mut::<2>) {
        *before = kind;
    }
    if let Some(to) = data.get_mut(start..end) {
        to.copy_from_slice(datagram);
    }
    if let Some(padding) = data.get_mut(end..) {
        padding.fill(0);
    }
    match parse(packet.data(), packet.len()) {
        Ok(found) => {
            *headers = found;
            // A NIC's hash is of the ends that it had.
            if packet.rss_hash().is_some() {
                packet.set_rss_hash(flow_hash(headers));
            }
            true
        }
        Err(_) => false,
    }
}

/// Ethernet's header of an answer: the stations change places. `None`: it has more tags than there is room for.
fn turned(before: &[u8]) -> Option<Before> {
    let (stations, rest) = before.split_first_chunk::<12>()?;
    let (dst, src) = stations.split_first_chunk::<6>()?;
    let mut turned = Before::new();
    for part in [src, dst.as_slice(), rest] {
        turned.try_extend_from_slice(part).ok()?;
    }
    Some(turned)
}

fn ether_type(datagram: &[u8]) -> Option<[u8; 2]> {
    match datagram.first()? >> 4 {
        4 => Some([0x08, 0x00]),
        6 => Some([0x86, 0xdd]),
        _ => None,
    }
}

fn address(kind: L3, bytes: [u8; 16]) -> IpAddr {
    if kind == L3::Ipv6 {
        return bytes.into();
    }
    let [a, b, c, d, ..] = bytes;
    [a, b, c, d].into()
}

fn counts_of(shared: &Shared, peer: usize, worker: usize) -> Option<&Counts> {
    shared.peers.get(peer)?.counts.get(worker)
}

/// Full bursts in a row, at most, after which there is time for zstd.
const FULL_MAX: u8 = 8;
/// Nanoseconds between two hellos, while there is traffic, and how many may go unanswered.
const HELLO_EVERY: u64 = 500_000_000;
const UNANSWERED_MAX: u8 = 6;
/// Nanoseconds after which a record that came is reported, and records that are reported at once.
const REPORT_AFTER: u64 = 5_000_000;
const REPORT_RECORDS: u32 = 32;
/// Nanoseconds between two reports because of messages of another session.
const STALE_EVERY: u64 = 10_000_000;
/// Ethernet's shortest frame, without its checksum.
const SHORTEST: usize = 60;
/// Bytes of the largest datagram.
const ROOM: usize = 1 << 16;
