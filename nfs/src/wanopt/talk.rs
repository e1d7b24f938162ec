//! What the boxes say to each other besides packets: hellos and their answers, what is wanted again, how much there was.

use crossbeam_queue::ArrayQueue;
use nfv_core::clock::Time;
use nfv_core::dpdk::Packet;
use nfv_core::nf::{Cx, PortIndex};

use super::arrives::Decoding;
use super::build::{Mail, WORKERS_MAX};
use super::decoder::Decoder;
use super::encoder::{Heard, Settings};
use super::ends::{Ends, Own, Ready, Site};
use super::frame::{begin, finish, turned};
use super::keeper::{Made, Side, Wanted};
use super::outer::Path;
use super::seal::Seal;
use super::wire::{Ask, Hello, Report, Tail};

const HELLOS: usize = 8;
const REPORTS: usize = 9;
const RESENT: usize = 11;
const ASKED: usize = 12;

/// That a message was of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfUse;

impl Site {
    /// A peer's encoder says hello.
    pub(super) fn hello(
        &mut self,
        at: usize,
        packet: &Packet,
        message: &[u8],
        start: usize,
        port: PortIndex,
        cx: &mut Cx<'_>,
    ) -> Option<OfUse> {
        let (hello, rest) = Hello::read(message)?;
        let ends = self.peers.get_mut(at)?;
        let slot = ends.decoders.get_mut(usize::from(hello.instance))?;
        let before = turned(packet.data().get(..start).unwrap_or_default())?;
        // A stranger's hello takes no memory: it is not sealed.
        if !self.shared.seal.is_closed(message, rest) {
            return None;
        }
        if slot.is_none() {
            let of = usize::from(hello.of).clamp(1, WORKERS_MAX);
            let settings = Settings {
                memory: self.shared.memory / of,
                seal: self.shared.seal,
                level: self.shared.level,
                secret: self.shared.secret,
                instance: hello.instance,
                of: u8::try_from(of).unwrap_or(1),
            };
            let epoch = settings.epoch(at ^ self.worker << 8 ^ 0x8000);
            let shelf = self.shared.peers.get(at).and_then(|peer| peer.shelf.as_ref());
            let decoder = match self.shared.keeper.as_ref().filter(|_| shelf.is_some()) {
                None => Decoder::new(settings, epoch),
                Some(keeper) => {
                    let ready = ends.ready.get_mut(usize::from(hello.instance))?;
                    match std::mem::replace(ready, Ready::Asked) {
                        Ready::Here(decoder) => *decoder,
                        Ready::Asked => return Some(OfUse),
                        Ready::No => {
                            let of = (self.worker, at);
                            keeper.ask(Wanted { side: Side::Came, settings, epoch, of });
                            // The next hello comes soon.
                            return Some(OfUse);
                        }
                    }
                }
            };
            *slot = Some(Box::new(Decoding::new(decoder, before.clone(), port)));
        }
        let decoding = slot.as_mut()?;
        (decoding.before, decoding.port) = (before, port);
        cx.count(HELLOS, 1);
        let heard = decoding.decoder.hello(message);
        tell(decoding, ends.path, &mut self.own, cx);
        (heard != Heard::NotOurs).then_some(OfUse)
    }

    /// A peer's decoder says what it has.
    pub(super) fn report(&mut self, at: usize, message: &[u8], cx: &Cx<'_>) -> Option<OfUse> {
        cx.count(REPORTS, 1);
        let (report, rest) = Report::read(message)?;
        if report.echo != 0 && self.shared.seal.is_closed(message, rest) {
            let peer = self.shared.peers.get(at)?;
            peer.measure(u64::from(stamp(cx.now).wrapping_sub(report.echo)) * 1_000);
        }
        if usize::from(report.instance) != self.worker {
            return self.post(at, report.instance, message);
        }
        self.peers.get_mut(at)?.hear(message)
    }

    /// A peer's decoder wants messages again.
    pub(super) fn asked(&mut self, at: usize, message: &[u8], cx: &mut Cx<'_>) -> Option<OfUse> {
        let (ask, rest) = Ask::read(message)?;
        if !self.shared.seal.is_closed(message, rest) {
            return None;
        }
        if usize::from(ask.instance) != self.worker {
            return self.post(at, ask.instance, message);
        }
        self.peers.get_mut(at)?.send_again(&ask, cx)
    }

    /// A peer's encoder says how many numbers there were.
    pub(super) fn tail(&mut self, at: usize, message: &[u8], cx: &mut Cx<'_>) -> Option<OfUse> {
        let (tail, rest) = Tail::read(message)?;
        let decoding = self.peers.get_mut(at)?.decoders.get_mut(usize::from(tail.instance))?;
        let decoding = decoding.as_mut().filter(|d| d.decoder.session() == Some(tail.session))?;
        if !self.shared.seal.is_closed(message, rest) {
            return None;
        }
        if decoding.of == Some(tail.session) {
            decoding.order.hear_of(tail.next, cx.now);
            let patience = self.shared.peers.get(at)?.patience();
            if let Some(due) = decoding.order.due(patience) {
                cx.wake_at(due);
            }
        }
        Some(OfUse)
    }

    /// Gives a message to the worker that it is for. One that is lost is made up for by the next.
    fn post(&self, at: usize, worker: u8, message: &[u8]) -> Option<OfUse> {
        let mail = self.shared.peers.get(at)?.mail.get(usize::from(worker))?;
        let _ = mail.push(Mail::try_from(message).ok()?);
        Some(OfUse)
    }

    /// Reads what other workers received, and takes ends whose files are open.
    pub(super) fn read_mail(&mut self, cx: &mut Cx<'_>) {
        for (peer, ends) in self.shared.peers.iter().zip(&mut self.peers) {
            let made = peer.shelf.as_ref().and_then(|shelf| shelf.made.get(self.worker));
            while let Some(made) = made.and_then(ArrayQueue::pop) {
                ends.take(made);
            }
            let Some(mail) = peer.mail.get(self.worker).filter(|mail| !mail.is_empty()) else {
                continue;
            };
            while let Some(message) = mail.pop() {
                match Ask::read(&message) {
                    Some((ask, _)) => ends.send_again(&ask, cx),
                    None => ends.hear(&message),
                };
            }
        }
    }
}

impl Ends {
    fn take(&mut self, made: Made) {
        match made {
            Made::Encoder(encoder) => self.encoder = Some(*encoder),
            Made::Decoder(decoder) => {
                let ready = self.ready.get_mut(usize::from(decoder.instance()));
                if let Some(ready) = ready {
                    *ready = Ready::Here(decoder);
                }
            }
        }
    }

    fn hear(&mut self, message: &[u8]) -> Option<OfUse> {
        let heard = self.encoder.as_mut()?.report(message);
        if heard == Heard::NotOurs {
            return None;
        }
        self.unanswered = 0;
        Some(OfUse)
    }

    fn send_again(&mut self, ask: &Ask, cx: &mut Cx<'_>) -> Option<OfUse> {
        let session = self.encoder.as_ref()?.session().filter(|own| *own == ask.session)?;
        let resend = self.resend.as_mut()?;
        resend.begin(session);
        let sent = resend.again((ask.first, ask.bits), |sent| {
            if let Some(packet) = cx.create(sent.bytes)
                && let Err(packet) = cx.resume(sent.place, packet)
            {
                cx.consume(packet);
            }
        });
        cx.count(RESENT, sent);
        Some(OfUse)
    }
}

/// Says hello the way that a packet goes. Who does not answer gets no messages, until it does.
pub fn greet(ends: &mut Ends, packet: &Packet, start: usize, own: &mut Own, cx: &mut Cx<'_>) {
    let Some(encoder) = &mut ends.encoder else { return };
    ends.hello_at = Time(cx.now.0 + HELLO_EVERY);
    ends.unanswered = ends.unanswered.saturating_add(1);
    if ends.unanswered > UNANSWERED_MAX && encoder.is_open() {
        encoder.close();
    }
    let before = packet.data().get(..start).unwrap_or_default();
    begin(&mut own.frame, before, &ends.path);
    encoder.hello(stamp(cx.now), &mut own.frame);
    let Some(hello) = finish(own, before.len(), &ends.path, cx) else { return };
    cx.count(HELLOS, 1);
    if let Err(hello) = cx.resume(cx.place(), hello) {
        cx.consume(hello);
    }
}

/// Sends a decoder's report back where its messages come from.
pub fn tell(decoding: &mut Decoding, path: Path, own: &mut Own, cx: &mut Cx<'_>) {
    (decoding.report_at, decoding.reported) = (None, cx.now);
    begin(&mut own.frame, &decoding.before, &path);
    decoding.decoder.report(&mut own.frame);
    if let Some(report) = finish(own, decoding.before.len(), &path, cx) {
        cx.count(REPORTS, 1);
        cx.send(decoding.port, report);
    }
}

/// Asks for what is missing, where messages come from.
pub fn ask(decoding: &mut Decoding, path: Path, seal: &Seal, own: &mut Own, cx: &mut Cx<'_>) {
    let Some(session) = decoding.of else { return };
    while let Some((first, bits)) = decoding.order.ask(cx.now) {
        begin(&mut own.frame, &decoding.before, &path);
        let (start, instance) = (own.frame.len(), decoding.decoder.instance());
        Ask { instance, session, first, bits }.emit(&mut own.frame);
        seal.close(start, &mut own.frame);
        let Some(ask) = finish(own, decoding.before.len(), &path, cx) else { return };
        cx.count(ASKED, 1);
        cx.send(decoding.port, ask);
    }
}

/// Says how many messages there were, when none follows.
pub fn say_tail(ends: &mut Ends, seal: &Seal, own: &mut Own, cx: &mut Cx<'_>) {
    let Some(resend) = &mut ends.resend else { return };
    if let Some((session, next, last)) = resend.tail(cx.now) {
        begin(&mut own.frame, last.before, &ends.path);
        let start = own.frame.len();
        Tail { instance: ends.path.instance, session, next }.emit(&mut own.frame);
        seal.close(start, &mut own.frame);
        if let Some(tail) = finish(own, last.before.len(), &ends.path, cx)
            && let Err(tail) = cx.resume(last.place, tail)
        {
            cx.consume(tail);
        }
    }
    if let Some(at) = resend.tail_at() {
        cx.wake_at(at);
    }
}

/// A time as hellos bear it: microseconds, and never 0.
fn stamp(now: Time) -> u32 {
    (now.0 / 1_000) as u32 | 1
}

/// Nanoseconds between two hellos, while there is traffic, and how many may go unanswered.
const HELLO_EVERY: u64 = 500_000_000;
const UNANSWERED_MAX: u8 = 6;
