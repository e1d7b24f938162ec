//! A worker's part of a box: packets to the peers' networks become messages, messages become packets.

use std::sync::Arc;

use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Packet};
use nfv_core::nf::{Burst, Cx, Holds, PacketNf, PortIndex, Reason, Shard, Sifted};
use nfv_core::packet::{Headers, L3};

use super::arrives::{Decoding, Desk};
use super::build::{Compress, Peer, Recover, Shared, WORKERS_MAX};
use super::coalesce::{Coalescer, Way};
use super::codec::Effort;
use super::counts::Counts;
use super::decoder::Decoder;
use super::encoder::{Encoder, Settings};
use super::frame::address;
use super::keeper::{Side, Wanted};
use super::order::Turn;
use super::outer::Path;
use super::resend::Resend;
use super::talk::{ask, say_tail, tell};

pub(super) const UNDECODABLE: Reason = Reason(0);
pub(super) const STALE: Reason = Reason(1);
pub(super) const MISSING: Reason = Reason(2);
pub(super) const STRANGER: Reason = Reason(3);
pub(super) const CUT: Reason = Reason(4);
pub(super) const NO_ROOM: Reason = Reason(5);
pub(super) const CONGESTED: Reason = Reason(6);
pub(super) const REPEATED: Reason = Reason(7);
pub(super) const ENCODED_PACKETS: usize = 0;
pub(super) const ENCODED_BYTES: usize = 1;
pub(super) const MESSAGE_BYTES: usize = 2;
pub(super) const COPIED_BYTES: usize = 3;
pub(super) const PLAIN_PACKETS: usize = 4;
pub(super) const PLAIN_BYTES: usize = 5;
pub(super) const DECODED_PACKETS: usize = 6;
pub(super) const DECODED_BYTES: usize = 7;
pub(super) const WAITED: usize = 10;
pub(super) const COALESCED: usize = 13;

/// A worker's part of a box.
#[derive(Debug)]
pub struct Site {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: usize,
    pub(super) peers: Vec<Ends>,
    /// What becomes of the packet at hand, and the message of a bundle that it is in.
    pub(super) datagram: Vec<u8>,
    pub(super) message: Vec<u8>,
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
    /// What waits for others, where that is wanted.
    pub(super) coalescer: Option<Coalescer>,
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
            coalescer: instance.and(shared.coalesce).map(Coalescer::new),
            hello_at: Time(0),
            unanswered: 0,
            decoders: std::array::from_fn(|_| None),
        };
        let peers = shared.peers.iter().enumerate().map(ends).collect();
        let [datagram, message, frame] = [ROOM; 3].map(Vec::with_capacity);
        let (worker, own) = (own, Own { frame, number: 0 });
        Self { worker, peers, datagram, message, own, full: 0, shared }
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
        for ends in &mut self.peers {
            ends.decoders.iter_mut().flatten().for_each(|decoding| decoding.turn = Turn::Now);
            ends.coalescer.iter_mut().for_each(Coalescer::begin_burst);
        }
        let (port, mut excluded) = (burst.in_port, excluded.into_iter());
        burst.sift(|packet, headers| {
            let is_excluded = excluded.next().is_some_and(|found| found != 0);
            self.one(packet, headers, is_excluded, effort, (port, cx))
        });
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        self.read_mail(cx);
        self.release(Patience::Theirs, cx);
        for ends in &mut self.peers {
            say_tail(ends, &self.shared.seal, &mut self.own, cx);
            for decoding in ends.decoders.iter_mut().flatten() {
                match decoding.report_at {
                    Some(at) if at <= cx.now => tell(decoding, ends.path, &mut self.own, cx),
                    Some(at) => cx.wake_at(at),
                    None => {}
                }
                ask(decoding, ends.path, &self.shared.seal, &mut self.own, cx);
            }
        }
    }

    fn let_go(&mut self, cx: &mut Cx<'_>) -> Holds {
        for decoding in self.peers.iter_mut().flat_map(|e| e.decoders.iter_mut().flatten()) {
            decoding.order.hurry();
        }
        self.release(Patience::None, cx);
        let holds = |ends: &Ends| {
            ends.coalescer.as_ref().is_some_and(|c| c.waiting() > 0)
                || ends.decoders.iter().flatten().any(|decoding| decoding.holds())
        };
        if self.peers.iter().any(holds) { Holds::Packets } else { Holds::Nothing }
    }
}

/// How long packets wait that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// As they are to.
    Theirs,
    /// No longer.
    None,
}

impl Site {
    /// Sends on packets that are held, as far as there is room.
    fn release(&mut self, how: Patience, cx: &mut Cx<'_>) {
        let Self { shared, worker, peers, datagram, message, own, .. } = self;
        for (ends, peer) in peers.iter_mut().zip(&shared.peers) {
            let Some(counts) = peer.counts.get(*worker) else { continue };
            let (by, patience) = match how {
                Patience::Theirs => (cx.now, peer.patience()),
                Patience::None => (Time(u64::MAX), 0),
            };
            let path = ends.path;
            if let Some(coalescer) = &mut ends.coalescer {
                coalescer.release(by, &mut Way { path, own, counts }, cx);
            }
            for decoding in ends.decoders.iter_mut().flatten() {
                let mut desk = Desk { path, own, datagram, message, counts, patience };
                decoding.open(&mut desk, cx);
                decoding.release(patience, cx);
            }
        }
    }
}

/// One worker's counts of a peer.
pub(super) fn counts_of(shared: &Shared, peer: usize, worker: usize) -> Option<&Counts> {
    shared.peers.get(peer)?.counts.get(worker)
}

/// Full bursts in a row, at most, after which there is time for zstd.
const FULL_MAX: u8 = 8;
/// Bytes of the largest datagram.
pub(super) const ROOM: usize = 1 << 16;
