//! The sending side towards one peer: what was seen before becomes references to it.
//!
//! It refers to nothing but what the peer's decoder has said it has, or has before it in the same datagram. All that it
//! learns comes by reports, and a report that is lost, late or doubled only makes it learn less: a record is confirmed or
//! not, and never unconfirmed but by the decoder's forgetting all, which its number in each report says.

use super::anchors::{Anchor, Finder, Index, Known, WINDOW, common_end, common_start};
use super::cipher::Salt;
use super::codec::{Compressor, Effort, LEAST, Uses};
use super::flows::{FLOWS, Flow, flow_of};
use super::header::{self, Shape};
use super::log::Log;
use super::records::{Record, Records, room_for};
pub use super::settings::Settings;
use super::store::{Found, Names, Store};
pub use super::wire::Heard;
use super::wire::{
    Codec, Copied, DICTIONARY_UNIT, Data, Hello, Keep, NUMBER_MAX, Number, Report, session, widened,
};

/// The sending side towards one peer.
#[derive(Debug)]
pub struct Encoder {
    settings: Settings,
    /// Its own epoch, and its decoder's as far as it is known.
    epoch: u32,
    decoder: Option<Decoder>,
    /// It was not heard of for long.
    is_quiet: bool,
    /// Its own log, and that of the decoder which confirmed what is confirmed.
    names: Names,
    /// For encryption, what it drew at its start; and how many messages it has made, since then or in this session.
    salt: Salt,
    made: u64,
    /// The bundle that the packet at hand goes in, if that is known.
    bundle: Option<u32>,
    log: Log,
    finder: Finder,
    index: Index,
    records: Records,
    /// The next record's number.
    next: u32,
    flows: Box<[Flow]>,
    compressor: Compressor,
    /// Behind the newest byte that is confirmed, and what that is when the dictionary is looked at again.
    confirmed: u64,
    renew_at: u64,
    work: Work,
}

/// What is known of the peer's decoder.
#[derive(Clone, Copy, Debug)]
struct Decoder {
    epoch: u32,
    capacity: u64,
}

/// Room that is used again for each packet.
#[derive(Debug, Default)]
struct Work {
    headers: Vec<u8>,
    like: Vec<u8>,
    differences: Vec<u8>,
    anchors: Vec<Anchor>,
    known: Vec<Known>,
    copies: Vec<Copied>,
    rest: Vec<u8>,
    small: Vec<u8>,
    dictionary: Vec<u8>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// It is in the message; so many of its bytes are copies.
    Shorter {
        /// Copied bytes.
        copied: u16,
    },
    /// There is nothing to gain, or nobody to decode it: it goes as it is.
    AsItIs,
}

impl Encoder {
    /// Of an epoch that no encoder of this box had before.
    pub fn new(settings: Settings, epoch: u32) -> Self {
        // Of 600 bytes 512 are the log's, 64 the index's and 24 a record's.
        let names = Names { sent: settings.log(epoch), came: 0 };
        Self::with(settings, epoch, Log::new(settings.memory / 600 * 512), names)
    }

    /// With what a file has of a log: records, and where their anchors are. Some 2 s for a GiB.
    pub fn stored(settings: Settings, epoch: u32, store: Store, found: Found) -> Self {
        let names = store.names();
        let Found::Records { newest, head } = found else {
            return Self::with(settings, epoch, Log::stored(store, 0), names);
        };
        let mut all = Self::with(settings, epoch, Log::stored(store, head), names);
        let Self { log, records, index, finder, .. } = &mut all;
        let Some(store) = log.store() else { return all };
        let (mut place, mut confirmed) = (None, 0);
        for number in store.numbers(newest) {
            // One that is not there any more has its number nevertheless.
            let none = place.map(|place| Record { place, ..Record::default() });
            let Some(record) = store.record(number).or(none) else { continue };
            place = Some(record.place + u64::from(record.length));
            records.push(record);
            let start = record.place + u64::from(record.headers);
            let length = usize::from(record.length).saturating_sub(record.headers.into());
            let [bytes, _] = log.read(start, length);
            finder.anchors(bytes, |a| index.add(a.print, start + u64::from(a.end)));
            if record.is_confirmed {
                confirmed = record.place + u64::from(record.length);
            }
        }
        (all.next, all.confirmed) = (newest.wrapping_add(1), confirmed);
        all
    }

    fn with(settings: Settings, epoch: u32, log: Log, names: Names) -> Self {
        let capacity = usize::try_from(log.capacity()).unwrap_or(usize::MAX);
        Self {
            epoch,
            decoder: None,
            is_quiet: false,
            names,
            salt: settings.salt(epoch),
            made: 0,
            bundle: None,
            log,
            finder: Finder::new(settings.secret),
            index: Index::new(capacity / INDEXED),
            records: Records::new(room_for(capacity)),
            next: 0,
            flows: vec![Flow::default(); FLOWS].into(),
            compressor: Compressor::new(settings.level),
            confirmed: 0,
            renew_at: 1,
            work: Work::default(),
            settings,
        }
    }

    /// Whether the peer's decoder has spoken.
    pub fn is_open(&self) -> bool {
        self.decoder.is_some() && !self.is_quiet
    }

    /// The decoder has not been heard of for long. Nothing is encoded until it speaks again.
    pub fn close(&mut self) {
        self.is_quiet = true;
    }

    /// The decoder has less than it had. Begins anew, in another epoch and with another log.
    fn restart(&mut self) {
        self.epoch = self.epoch.wrapping_add(EPOCH_STEP);
        self.decoder = None;
        self.names = Names { sent: self.settings.log(self.epoch), came: 0 };
        self.salt = self.settings.salt(self.epoch);
        self.forget();
    }

    /// By which messages name the states of both ends.
    pub fn session(&self) -> Option<u32> {
        self.decoder.map(|decoder| session(self.epoch, decoder.epoch))
    }

    /// What the decoder has to hear first, sealed. `stamp`: what its answer is to bear.
    pub fn hello(&self, stamp: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let Settings { instance, of, seal, .. } = self.settings;
        let (log, next, head) = (self.names.sent, self.next, self.log.head());
        let (encoder, salt) = (self.epoch, self.salt);
        Hello { encoder, instance, of, stamp, salt, log, next, head }.emit(out);
        seal.close(start, out);
    }

    /// What is encoded next goes in the bundle of this number, behind what was encoded for it before.
    pub fn join(&mut self, bundle: Option<u32>) {
        self.bundle = bundle;
    }

    /// Encodes a datagram at `out`'s end, if that takes fewer than `most` bytes; under a number, if it has one.
    ///
    /// # Cost
    /// 1 ns a byte that was seen before, 3 ns a new one with LZ4, 14 ns with zstd.
    pub fn encode(
        &mut self,
        datagram: &[u8],
        most: usize,
        (effort, number): (Effort, Option<Number>),
        out: &mut Vec<u8>,
    ) -> Encoded {
        let mut work = std::mem::take(&mut self.work);
        let start = out.len();
        let seal = self.settings.seal;
        let most = most.saturating_sub(seal.added());
        let encoded = self.encode_with(&mut work, datagram, start + most, (effort, number), out);
        self.work = work;
        let encoded = encoded.filter(|_| {
            self.made += 1;
            seal.complete(self.salt, self.made, start, out).is_some()
        });
        encoded.unwrap_or_else(|| {
            out.truncate(start);
            Encoded::AsItIs
        })
    }

    fn encode_with(
        &mut self,
        work: &mut Work,
        datagram: &[u8],
        most: usize,
        (effort, number): (Effort, Option<Number>),
        out: &mut Vec<u8>,
    ) -> Option<Encoded> {
        let decoder = self.decoder.filter(|_| !self.is_quiet)?;
        let shape = Shape::of(datagram)?;
        let (original, payload) = datagram.split_at_checked(shape.length)?;
        let session = session(self.epoch, decoder.epoch);
        work.headers.clear();
        work.headers.extend_from_slice(original);
        let sums = header::strip(&shape, &mut work.headers, payload)?;
        let (flow_at, print) = flow_of(&work.headers);
        let like = self.like(flow_at, print, work);
        let differing = match like {
            Some(_) => header::differences(&work.headers, &work.like, &mut work.differences),
            None => work.headers.len(),
        };
        let flow = self.flows.get(flow_at).filter(|flow| flow.print == print);
        let (copied, next) = self.copy(work, payload, flow.and_then(|flow| flow.next));
        let bare = std::mem::take(&mut work.rest);
        let rest = if work.copies.is_empty() { payload } else { &bare };
        let (codec, uses) = self.compress(work, rest, (flow_at, print), effort);
        // Small enough that the copies' own bytes need not be kept again.
        let keep = if rest.len() > KEEP_REST {
            Keep::Whole
        } else if differing > KEEP_DIFFERING {
            Keep::Headers
        } else {
            Keep::Nothing
        };
        work.rest = bare;
        let (record, place) = if keep == Keep::Nothing {
            (0, 0)
        } else {
            (self.next, self.place(work.headers.len() + payload.len()))
        };
        let of = (session, number, self.made + 1);
        let digest = self.settings.seal.packet(of, (keep, record, place), original, payload);
        let dictionary = self.compressor.dictionary().filter(|_| uses == Uses::Dictionary);
        Data {
            session,
            digest,
            number,
            keep,
            record,
            place,
            like,
            dictionary,
            codec,
            sums,
            headers: u8::try_from(work.headers.len()).ok()?,
            payload: u16::try_from(payload.len()).ok()?,
            copies: u8::try_from(work.copies.len()).ok()?,
        }
        .emit(out);
        out.extend_from_slice(if like.is_some() { &work.differences } else { &work.headers });
        let mut before = None;
        for copied in &work.copies {
            copied.emit(before, out);
            before = Some(copied.end());
        }
        out.extend_from_slice(&work.small);
        if out.len() >= most {
            return None;
        }
        if let Some(flow) = self.flows.get_mut(flow_at) {
            flow.next = next;
        }
        match keep {
            Keep::Nothing => {}
            Keep::Headers => self.keep(work, &[], place, print),
            Keep::Whole => self.keep(work, payload, place, print),
        }
        Some(Encoded::Shorter { copied })
    }

    /// Headers of the flow that the decoder has: in `work.like` and where they are.
    fn like(&self, flow_at: usize, print: u32, work: &mut Work) -> Option<u64> {
        work.like.clear();
        work.differences.clear();
        let flow = self.flows.get(flow_at).filter(|flow| flow.print == print)?;
        let fits = |(place, length): &(u64, u8)| {
            usize::from(*length) == work.headers.len() && self.is_safe(*place)
        };
        let fresh = flow.fresh.filter(|(bundle, _)| self.bundle == Some(*bundle));
        let like = flow.like.filter(fits).or(fresh.map(|(_, like)| like).filter(fits));
        let (place, length) = like?;
        let length = usize::from(length);
        self.log.read_to(place, length, &mut work.like)?;
        Some(place)
    }

    /// Finds the copies in a payload, and puts the rest together, if there are any. Returns how many bytes are copies, and where the flow's
    /// next payload is, if it goes on as what was copied did.
    fn copy(&self, work: &mut Work, payload: &[u8], expected: Option<u64>) -> (u16, Option<u64>) {
        work.anchors.clear();
        work.copies.clear();
        work.rest.clear();
        let (mut done, mut next) = (0, None);
        if let Some(place) = expected {
            (done, next) = self.follow(work, payload, (0, 0), place);
        }
        if done < payload.len() {
            let Work { anchors, known, .. } = work;
            self.finder.anchors(payload, |anchor| anchors.push(anchor));
            self.index.look_up(anchors, known);
        }
        for at in 0..work.anchors.len() {
            let Some((anchor, known)) =
                work.anchors.get(at).copied().zip(work.known.get(at).copied())
            else {
                break;
            };
            // It is part of the copy before it, or there is no room for others.
            let is_late = usize::from(anchor.end) < done + WINDOW;
            if !known.is_any(anchor) || is_late || work.copies.len() >= COPIES_MAX {
                continue;
            }
            if let Some((start, place)) = self.longest((anchor, known), payload, done) {
                (done, next) = self.follow(work, payload, (done, start), place);
            }
        }
        if !work.copies.is_empty() {
            work.rest.extend_from_slice(payload.get(done..).unwrap_or_default());
        }
        let copied = work.copies.iter().map(|c| c.length).fold(0, u16::saturating_add);
        (copied, next.filter(|_| done == payload.len()))
    }

    /// Copies from a place on, record by record, as long as the payload is the same from `start` on; what is between `done` and
    /// that goes to the rest. Returns how far it came, and the place behind.
    fn follow(
        &self,
        work: &mut Work,
        payload: &[u8],
        (mut done, mut start): (usize, usize),
        mut place: u64,
    ) -> (usize, Option<u64>) {
        while start < payload.len() && work.copies.len() < COPIES_MAX {
            let Some((at, bytes)) = self.confirmed_at(place) else { return (done, None) };
            let behind = payload.get(start..).unwrap_or_default();
            let same = common_start(bytes, behind);
            let both = u16::try_from(start - done).ok().zip(u16::try_from(same).ok());
            let Some((gap, length)) =
                both.filter(|(gap, n)| *gap <= NUMBER_MAX && *n <= NUMBER_MAX)
            else {
                return (done, None);
            };
            if same < COPY_MIN && same < behind.len() {
                return (done, None);
            }
            work.rest.extend_from_slice(payload.get(done..start).unwrap_or_default());
            work.copies.push(Copied { gap, length, place });
            (done, start) = (start + same, start + same);
            if same < bytes.len() {
                return (done, Some(place + u64::from(length)));
            }
            // The next record's payload is what came next.
            let Some(next) = self.records.get(at + 1) else { return (done, None) };
            place = next.place + u64::from(next.headers);
        }
        (done, Some(place))
    }

    /// The longest copy around an anchor, from `from` on: where it starts, and its place.
    fn longest(
        &self,
        (anchor, known): (Anchor, Known),
        payload: &[u8],
        from: usize,
    ) -> Option<(usize, u64)> {
        let mut best: Option<(usize, usize, u64)> = None;
        let start = usize::from(anchor.end) - WINDOW;
        for low in known.places(anchor).into_iter().flatten() {
            let end = widened(low, self.log.head());
            let Some(place) = end.checked_sub(WINDOW as u64) else { continue };
            let Some((at, bytes)) = self.confirmed_at(place) else { continue };
            let on = common_start(bytes, payload.get(start..).unwrap_or_default());
            if on < WINDOW {
                continue;
            }
            let Some(record) = self.records.get(at) else { continue };
            let [before, _] =
                self.log.read(record.place, usize::try_from(place - record.place).unwrap_or(0));
            let back = common_end(before, payload.get(from..start).unwrap_or_default());
            if best.is_none_or(|(longest, ..)| on + back > longest) {
                best = Some((on + back, start - back, place - back as u64));
            }
        }
        best.map(|(_, start, place)| (start, place))
    }

    /// The number and the bytes from a place on of the record that it is in, if the decoder has it.
    fn confirmed_at(&self, place: u64) -> Option<(usize, &[u8])> {
        let at = self.records.find(place)?;
        let record = self.records.get(at)?;
        let end = record.place + u64::from(record.length);
        if !record.is_confirmed || place >= end || !self.is_safe(record.place) {
            return None;
        }
        // No record goes around the end of the ring.
        let [bytes, _] = self.log.read(place, usize::try_from(end - place).ok()?);
        Some((at, bytes))
    }

    /// Writes what is no copy into `work.small`.
    fn compress(
        &mut self,
        work: &mut Work,
        rest: &[u8],
        (flow_at, print): (usize, u32),
        effort: Effort,
    ) -> (Codec, Uses) {
        let as_it_is = |work: &mut Work| {
            work.small.clear();
            work.small.extend_from_slice(rest);
            (Codec::Raw, Uses::Nothing)
        };
        let Some(flow) = self.flows.get_mut(flow_at) else { return as_it_is(work) };
        if flow.print != print {
            *flow = Flow { print, ..Flow::default() };
        }
        if flow.pause > 0 {
            flow.pause -= 1;
            return as_it_is(work);
        }
        if effort == Effort::Best && rest.len() >= LEAST {
            self.renew_dictionary(work);
        }
        let made = self.compressor.compress(rest, effort, &mut work.small);
        let Some(flow) = self.flows.get_mut(flow_at) else { return made };
        if work.small.len() + work.small.len() / 16 < rest.len() {
            flow.vain = 0;
        } else if rest.len() >= VAIN_LEAST {
            flow.vain = flow.vain.saturating_add(1);
            flow.pause = if flow.vain >= VAIN { PAUSE } else { 0 };
        }
        made
    }

    /// Where a record of so many bytes goes: the next place from which it does not go around the end of the ring.
    fn place(&self, length: usize) -> u64 {
        let (head, capacity) = (self.log.head(), self.log.capacity());
        let left = capacity - head % capacity;
        if (length as u64) > left { head + left } else { head }
    }

    /// Adds a packet to the log, not confirmed yet.
    fn keep(&mut self, work: &Work, payload: &[u8], place: u64, print: u32) {
        let headers = u64::try_from(work.headers.len()).unwrap_or(0);
        let length = work.headers.len() + payload.len();
        let (Ok(length), Ok(own)) = (u16::try_from(length), u8::try_from(headers)) else { return };
        self.log.write(place, &work.headers);
        self.log.write(place + headers, payload);
        let record = Record { place, length, headers: own, is_confirmed: false, print };
        self.log.note(self.next, &record, [&work.headers, payload]);
        self.records.push(record);
        self.next = self.next.wrapping_add(1);
        let flow = self.flows.get_mut(print as usize % FLOWS).filter(|flow| flow.print == print);
        if let Some((flow, bundle)) = flow.zip(self.bundle) {
            flow.fresh = Some((bundle, (place, own)));
        }
        if payload.is_empty() {
            return;
        }
        // Of copies, too: the next time the packet is found as a whole.
        for anchor in &work.anchors {
            self.index.add(anchor.print, place + headers + u64::from(anchor.end));
        }
    }

    /// What the decoder has; a message of a kind that is known. Returns whether it is this encoder's.
    pub fn report(&mut self, message: &[u8]) -> Heard {
        let Some((report, rest)) = Report::read(message) else { return Heard::NotOurs };
        if !self.settings.seal.is_closed(message, rest) || report.encoder != self.epoch {
            return Heard::NotOurs;
        }
        self.is_quiet = false;
        let decoder = Decoder { epoch: report.decoder, capacity: report.capacity };
        let is_known = self.decoder.is_some_and(|known| known.epoch == report.decoder);
        if !is_known && report.log == self.names.came {
            if !self.has_what_was_confirmed(report.next) {
                self.restart();
                return Heard::Ours;
            }
            // It started again with what it had.
            self.decoder = Some(decoder);
            self.count_anew();
        } else if !is_known {
            self.names.came = report.log;
            self.forget();
            self.decoder = Some(decoder);
            // What it says it has was sent to it in another session, if at all.
            return Heard::Anew;
        }
        let behind = self.next.wrapping_sub(report.next);
        for back in (0..CAME).rev() {
            let word = report.came.get(usize::from(back / 64)).copied().unwrap_or(0);
            // The newest has number `next - 1`, and is `behind + 1` from the records' end.
            let from_end = u64::from(behind) + u64::from(back) + 1;
            if word >> (back % 64) & 1 == 0 || report.next == 0 {
                continue;
            }
            if let Some(record) = self.records.confirm(from_end) {
                self.confirm(record);
                self.log.confirm(report.next.wrapping_sub(1 + u32::from(back)));
            }
        }
        Heard::Ours
    }

    /// Whether a decoder with such a next record can have all that is confirmed.
    fn has_what_was_confirmed(&self, next: u32) -> bool {
        let mut newest = (1..).zip(self.records.newest());
        let confirmed = newest.find(|(_, record)| record.is_confirmed);
        confirmed.is_none_or(|(back, _)| next.wrapping_sub(self.next.wrapping_sub(back)) as i32 > 0)
    }

    fn confirm(&mut self, record: Record) {
        self.confirmed = self.confirmed.max(record.place + u64::from(record.length));
        let flow = self.flows.get_mut(record.print as usize % FLOWS);
        let like = Some((record.place, record.headers));
        if let Some(flow) = flow.filter(|f| f.print == record.print && f.like < like) {
            flow.like = like;
        }
    }

    /// Takes a newer part of the log as the dictionary, now and then: the longest that ends with what is newest.
    fn renew_dictionary(&mut self, work: &mut Work) {
        if self.compressor.dictionary().is_some_and(|(place, _)| !self.is_safe(place)) {
            self.compressor.forget();
        }
        if self.confirmed < self.renew_at {
            return;
        }
        let newest = self.records.newest().skip_while(|r| !r.is_confirmed);
        let run = newest.take_while(|r| r.is_confirmed && self.is_safe(r.place));
        let (mut start, mut length) = (0, 0);
        for record in run {
            let is_next = length == 0 || record.place + u64::from(record.length) == start;
            if !is_next || length + u32::from(record.length) > DICTIONARY_MAX {
                break;
            }
            (start, length) = (record.place, length + u32::from(record.length));
        }
        // There was a hole just now: the one that there is will do until more has come behind it.
        if u64::from(length) < RENEW && self.compressor.dictionary().is_some() {
            self.renew_at = self.confirmed + RENEW / 4;
            return;
        }
        self.renew_at = self.confirmed + if u64::from(length) < RENEW { RENEW / 4 } else { RENEW };
        length -= length % DICTIONARY_UNIT;
        work.dictionary.clear();
        let n = usize::try_from(length).unwrap_or(0);
        if n > 0 && self.log.read_to(start, n, &mut work.dictionary).is_some() {
            self.compressor.prepare(start, &work.dictionary);
        }
    }

    /// The decoder has nothing any more: places start again. What the index says of others is compared, and found wrong.
    fn forget(&mut self) {
        self.log.clear(self.names);
        self.records.clear();
        self.flows.fill(Flow::default());
        self.compressor.forget();
        (self.confirmed, self.renew_at) = (0, 1);
        self.next = 0;
        self.count_anew();
    }

    /// Another session begins. No nonce comes twice, whatever the session.
    fn count_anew(&mut self) {
        if self.settings.seal.cipher.is_none() {
            self.made = 0;
        }
    }

    /// Whether the decoder has the bytes of a place still, if it ever had: with room for what overtakes.
    fn is_safe(&self, place: u64) -> bool {
        let capacity = self.decoder.map_or(0, |d| d.capacity).min(self.log.capacity());
        place + (capacity - capacity / 16) > self.log.head()
    }
}

/// Odd, so that no epoch comes again for 2^32 times.
pub const EPOCH_STEP: u32 = 0x9e37_79b9;
/// Reports tell of so many records.
const CAME: u16 = 256;
/// Bytes of log for one anchor of the index, up to twice as many of which have room.
const INDEXED: usize = 128;
/// Copies of one packet at most.
const COPIES_MAX: usize = 32;
/// What is shorter is no copy, but at a payload's end.
const COPY_MIN: usize = 16;
/// With so few bytes that are no copies a packet is not kept.
const KEEP_REST: usize = 48;
/// With so few bytes of headers that differ they are not kept.
const KEEP_DIFFERING: usize = 16;
/// Bytes of log after which the dictionary is a newer part.
const RENEW: u64 = 32 << 10;
const DICTIONARY_MAX: u32 = 112 << 10;
/// After so many packets in a row that did not shrink a flow's next ones are not tried.
const VAIN: u8 = 8;
const PAUSE: u8 = 64;
/// What is shorter says nothing of its flow.
const VAIN_LEAST: usize = 256;
