//! What goes to a peer's networks: packets become messages, where that makes them shorter.

use std::sync::atomic::Ordering;

use nfv_core::dpdk::Packet;
use nfv_core::nf::{Cx, Sifted};
use nfv_core::packet::{Fragment, Headers, packet_hash, protocol};

use super::build::Recover;
use super::coalesce::{self, EXCESS, TINY, Way};
use super::codec::Effort;
use super::counts::Count;
use super::encoder::Encoded;
use super::ends::{
    COPIED_BYTES, ENCODED_BYTES, ENCODED_PACKETS, Ends, MESSAGE_BYTES, NO_ROOM, PLAIN_BYTES,
    PLAIN_PACKETS, Site, counts_of,
};
use super::frame::{BEFORE_MAX, put, whole};
use super::outer;
use super::talk::greet;

impl Site {
    /// A packet towards a peer's networks.
    pub(super) fn leaves(
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
        let whole_one = headers.fragment == Fragment::Whole;
        let Ends { path, encoder, resend, coalescer, .. } = ends;
        let own = path.length();
        // Its message is longer with headers of its own; with others' it need not be.
        let waits = coalescer.is_some() && range.start <= BEFORE_MAX;
        let is_tiny = waits && all <= TINY;
        let most = if is_tiny { all + EXCESS } else { all.saturating_sub(own) };
        let encoder = encoder.as_mut().filter(|e| encodes && whole_one && e.is_open() && most > 0);
        let is_recovered = match self.shared.recover {
            Recover::Off => false,
            Recover::Tcp => headers.protocol == protocol::TCP,
            Recover::All => true,
        };
        let mut resend = resend.as_mut().filter(|_| is_recovered && !is_tiny);
        let hash = packet_hash(&packet, headers);
        let out = &mut self.datagram;
        out.clear();
        out.resize(own, 0);
        let before = packet.data().get(..range.start).unwrap_or_default();
        let datagram = packet.data().get(range.clone());
        let encoded = encoder.zip(datagram).and_then(|(encoder, datagram)| {
            let (class, session) = (outer::class(datagram)?, encoder.session());
            let resend = resend.as_mut().zip(session);
            let number = resend.map(|(resend, session)| resend.next(session, hash));
            let coalescer = coalescer.as_ref().filter(|_| is_tiny);
            let bundle = coalescer.and_then(|c| c.bundle(before, class, session, cx.place()));
            encoder.join(bundle);
            let encoded = encoder.encode(datagram, most, (effort, number), out);
            Some((encoded, class, session, bundle))
        });
        let mut way = Way { path: *path, own: &mut self.own, counts };
        let Some((Encoded::Shorter { copied }, class, Some(session), bundle)) = encoded else {
            cx.count(PLAIN_PACKETS, 1);
            cx.count(PLAIN_BYTES, all as u64);
            counts.add(Count::Sent, all);
            let Some(coalescer) = coalescer else { return Sifted::Stays(packet) };
            let passed = coalescer.pass(packet, range.start, &mut way, cx);
            return passed.map_or(Sifted::Taken, Sifted::Stays);
        };
        cx.count(COPIED_BYTES, u64::from(copied));
        counts.add(Count::Copied, usize::from(copied));
        let small = coalescer.as_mut().filter(|c| waits && c.is_small(out.len() - own, path));
        if resend.is_some() || small.is_none() {
            way.own.number = way.own.number.wrapping_add(1);
            path.fill(class, way.own.number, out);
        }
        if let Some(coalescer) = small {
            if let Some(resend) = resend {
                // It is asked for by itself.
                whole(&packet, range.start, out, &mut way.own.frame);
                let tail_at = resend.keep(&way.own.frame, range.start, cx.place(), cx.now);
                cx.wake_at(tail_at);
            }
            let bytes = out.get(own..).unwrap_or_default();
            let message = coalesce::Message { bytes, class, session, all, bundle };
            return coalescer.wait(packet, range.start, message, &mut way, cx);
        }
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
        counts.add(Count::Sent, out.len());
        let Some(coalescer) = coalescer else { return Sifted::Becomes(packet) };
        let passed = coalescer.pass(packet, range.start, &mut way, cx);
        passed.map_or(Sifted::Taken, Sifted::Becomes)
    }
}
