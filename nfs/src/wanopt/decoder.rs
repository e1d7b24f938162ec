//! The receiving side from one peer: what comes out is what went in, or nothing does.
//!
//! It knows of its log only where the newest byte is. Whether bytes are those that the encoder meant it does not know,
//! and need not: the digest of the packet that comes out says so, and nothing is kept of one that is wrong.

use super::cipher::Salt;
use super::codec::Decompressor;
use super::encoder::{EPOCH_STEP, Heard, Settings};
use super::header;
use super::log::Log;
use super::records::Record;
use super::store::{Found, Names, Store};
use super::window::Window;
use super::wire::{Copied, Data, Hello, Keep, Number, Reader, Report, session};

/// The receiving side from one peer.
#[derive(Debug)]
pub struct Decoder {
    settings: Settings,
    /// The epoch of the encoder that it hears, when one has said hello.
    encoder: Option<u32>,
    /// What that one drew for encryption.
    salt: Salt,
    /// Its own, another each time that it forgets.
    epoch: u32,
    /// That encoder's log, and its own.
    names: Names,
    log: Log,
    /// The highest record that came, plus one, and which of those before it did.
    next: u32,
    came: [u64; 4],
    /// Records that came since the last report.
    unreported: u32,
    /// The stamp of the last hello, until it is answered.
    stamp: u32,
    /// Packets in a row that did not come out as their digests say.
    wrong: u32,
    decompressor: Decompressor,
    /// The dictionary that was used last: its place, length and bytes.
    dictionary: (u64, u32, Vec<u8>),
    rest: Vec<u8>,
    /// The message at hand, decrypted.
    clear: Vec<u8>,
    /// With a key: which messages of this session came.
    window: Window,
}

/// Why a packet does not come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// The message is not whole.
    Malformed,
    /// It is of another session: one of the ends began anew.
    Stale,
    /// It refers to what is not there any more.
    Missing,
    /// What came out is not what went in.
    Wrong,
    /// It came before, or may have; there is a key.
    Repeated,
}

impl Decoder {
    /// That has nothing. `epoch`: one that no decoder of this box had before.
    pub fn new(settings: Settings, epoch: u32) -> Self {
        let names = Names { sent: 0, came: settings.log(epoch) };
        Self::with(settings, epoch, Log::new(settings.memory), names)
    }

    /// With what a file has of a log.
    pub fn stored(settings: Settings, epoch: u32, store: Store, found: Found) -> Self {
        let names = store.names();
        let Found::Records { newest, head } = found else {
            return Self::with(settings, epoch, Log::stored(store, 0), names);
        };
        let mut all = Self::with(settings, epoch, Log::stored(store, head), names);
        all.next = newest.wrapping_add(1);
        let backs = 0..64 * u32::try_from(all.came.len()).unwrap_or(0);
        for back in backs {
            let is_there = all.log.store().and_then(|s| s.record(newest.wrapping_sub(back)));
            if let Some(word) = all.came.get_mut(back as usize / 64).filter(|_| is_there.is_some())
            {
                *word |= 1 << (back % 64);
            }
        }
        all
    }

    fn with(settings: Settings, epoch: u32, log: Log, names: Names) -> Self {
        Self {
            encoder: None,
            salt: [0; 16],
            epoch,
            names,
            log,
            next: 0,
            came: [0; 4],
            unreported: 0,
            stamp: 0,
            wrong: 0,
            decompressor: Decompressor::new(),
            dictionary: (0, 0, Vec::new()),
            rest: Vec::new(),
            clear: Vec::new(),
            window: Window::new(),
            settings,
        }
    }

    /// An encoder says hello: a new one makes it forget all. Answered by a report, if it is [`Heard::Ours`] or anew.
    pub fn hello(&mut self, message: &[u8]) -> Heard {
        let Some((hello, rest)) = Hello::read(message) else { return Heard::NotOurs };
        if !self.settings.seal.is_closed(message, rest) {
            return Heard::NotOurs;
        }
        self.stamp = hello.stamp;
        if self.encoder == Some(hello.encoder) && self.salt == hello.salt {
            return Heard::Ours;
        }
        // It started again with the log that this one has, and knows of all that is in it.
        let is_behind =
            (hello.next.wrapping_sub(self.next) as i32) < 0 || hello.head < self.log.head();
        if hello.log == self.names.sent && !is_behind {
            self.renew();
        } else {
            self.names.sent = hello.log;
            self.forget();
        }
        self.encoder = Some(hello.encoder);
        self.salt = hello.salt;
        Heard::Anew
    }

    /// Decodes a data message: the datagram is `out`, which is emptied before. Returns its number, if it has one.
    ///
    /// # Errors
    /// It does not come out. Nothing was kept of it.
    pub fn decode(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Number>, Undecodable> {
        out.clear();
        let seal = self.settings.seal;
        let count = seal.count_of(message, self.window.highest());
        let count = count.ok_or(Undecodable::Malformed)?;
        // Its digest is not looked at: who sends it again has it.
        if seal.is_keyed() && self.is_of(message) && !self.window.is_new(count) {
            return Err(Undecodable::Repeated);
        }
        let result = match seal.cipher {
            None => {
                let length = message.len() - seal.added();
                self.decode_to(message.get(..length).unwrap_or_default(), count, out)
            }
            Some(cipher) => {
                let mut clear = std::mem::take(&mut self.clear);
                let opened = cipher.open(self.salt, message, &mut clear);
                let result = opened.ok_or(Undecodable::Malformed);
                let result = result.and_then(|()| self.decode_to(&clear, count, out));
                self.clear = clear;
                result
            }
        };
        match result {
            Ok(_) => self.wrong = 0,
            Err(Undecodable::Wrong | Undecodable::Missing) => {
                self.wrong += 1;
                // The log is not what the encoder believes: it is told to begin anew.
                if self.wrong >= WRONG_MAX {
                    self.forget();
                }
            }
            Err(Undecodable::Malformed | Undecodable::Stale | Undecodable::Repeated) => {}
        }
        result
    }

    fn decode_to(
        &mut self,
        message: &[u8],
        count: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Number>, Undecodable> {
        use Undecodable::{Malformed, Missing, Stale, Wrong};
        let head = self.log.head();
        let (data, rest) = Data::read(message, head).ok_or(Malformed)?;
        let encoder = self.encoder.ok_or(Stale)?;
        if data.session != session(encoder, self.epoch) {
            return Err(Stale);
        }
        let length = usize::from(data.headers);
        let body = if let Some(like) = data.like {
            self.log.read_to(like, length, out).ok_or(Missing)?;
            header::apply(out, rest).ok_or(Malformed)?
        } else {
            let (headers, body) = rest.split_at_checked(length).ok_or(Malformed)?;
            out.extend_from_slice(headers);
            body
        };
        self.payload(&data, body, head, out)?;
        let (headers, payload) = out.split_at_mut_checked(length).ok_or(Malformed)?;
        let mut whole = [0; u8::MAX as usize];
        let whole = whole.get_mut(..length).ok_or(Malformed)?;
        whole.copy_from_slice(headers);
        header::fill(whole, payload, data.sums).ok_or(Wrong)?;
        let kept = (data.keep, data.record, data.place);
        let of = (data.session, data.number, count);
        if self.settings.seal.packet(of, kept, whole, payload) != data.digest {
            return Err(Wrong);
        }
        if self.settings.seal.is_keyed() {
            self.window.note(count);
        }
        self.keep(&data, headers, payload);
        headers.copy_from_slice(whole);
        Ok(data.number)
    }

    /// Puts a payload together behind the headers.
    fn payload(
        &mut self,
        data: &Data,
        body: &[u8],
        head: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Undecodable> {
        use Undecodable::{Malformed, Missing, Wrong};
        // The copies are read twice: first for how much is not copied.
        let (mut copies, mut before, mut copied) = (Reader(body), None, 0);
        for _ in 0..data.copies {
            let one = Copied::read(&mut copies, head, before).ok_or(Malformed)?;
            (before, copied) = (Some(one.end()), copied + usize::from(one.length));
        }
        let all = usize::from(data.payload);
        let bare = all.checked_sub(copied).ok_or(Malformed)?;
        if let Some((place, length)) = data.dictionary {
            self.point(place, length).ok_or(Missing)?;
        }
        let dictionary = data.dictionary.map_or(&[][..], |_| &self.dictionary.2);
        self.decompressor
            .decompress(data.codec, copies.0, dictionary, bare, &mut self.rest)
            .ok_or(Wrong)?;
        let (mut copies, mut before, mut rest) = (Reader(body), None, Reader(&self.rest));
        for _ in 0..data.copies {
            let copied = Copied::read(&mut copies, head, before).ok_or(Malformed)?;
            before = Some(copied.end());
            out.extend_from_slice(rest.slice(copied.gap.into()).ok_or(Malformed)?);
            self.log.read_to(copied.place, copied.length.into(), out).ok_or(Missing)?;
        }
        out.extend_from_slice(rest.0);
        Ok(())
    }

    /// Has the dictionary at hand.
    fn point(&mut self, place: u64, length: u32) -> Option<()> {
        let (known, n, bytes) = &mut self.dictionary;
        if (*known, *n) != (place, length) || bytes.is_empty() {
            bytes.clear();
            // Nothing is known until it is whole.
            *n = 0;
            self.log.read_to(place, usize::try_from(length).ok()?, bytes)?;
            (*known, *n) = (place, length);
        }
        Some(())
    }

    /// Writes down what is to be kept of a packet that has come out.
    fn keep(&mut self, data: &Data, headers: &[u8], payload: &[u8]) {
        let payload = match data.keep {
            Keep::Nothing => return,
            Keep::Headers => &[][..],
            Keep::Whole => payload,
        };
        let (head, length) = (self.log.head(), headers.len() + payload.len());
        let is_old = data.place + self.log.capacity() < head + length as u64;
        let is_far = data.place > head.saturating_add(AHEAD) && self.next > 0;
        if is_far {
            // So much got lost that the log is worth nothing.
            return self.forget();
        }
        if is_old || !self.mark(data.record) {
            return;
        }
        self.log.write(data.place, headers);
        self.log.write(data.place + headers.len() as u64, payload);
        let (own, length) = (u8::try_from(headers.len()), u16::try_from(length));
        if let (Ok(headers_length), Ok(length)) = (own, length) {
            let headers_only =
                Record { place: data.place, length, headers: headers_length, ..Record::default() };
            self.log.note(data.record, &headers_only, [headers, payload]);
        }
        self.unreported += 1;
    }

    /// Notes that a record came. False: it is too long ago to be told.
    fn mark(&mut self, record: u32) -> bool {
        let ahead = record.wrapping_sub(self.next).wrapping_add(1);
        if ahead < 1 << 31 && ahead > 0 {
            let [a, b, c, d] = self.came;
            let wide = [d, c, b, a];
            self.came = shifted(wide, ahead);
            self.next = record.wrapping_add(1);
        }
        let back = self.next.wrapping_sub(1).wrapping_sub(record);
        let word = usize::try_from(back / 64).ok().and_then(|at| self.came.get_mut(at));
        word.is_some_and(|word| {
            *word |= 1 << (back % 64);
            true
        })
    }

    /// How many records came since the last report.
    pub fn unreported(&self) -> u32 {
        self.unreported
    }

    /// Whether a data message is of this session.
    pub fn is_of(&self, message: &[u8]) -> bool {
        let own = self.session();
        own.is_some() && Data::session_of(message) == own
    }

    /// Which of the peer's encoders it hears.
    pub fn instance(&self) -> u8 {
        self.settings.instance
    }

    /// By which messages name the states of both ends.
    pub fn session(&self) -> Option<u32> {
        self.encoder.map(|encoder| session(encoder, self.epoch))
    }

    /// What it has, sealed, at `out`'s end. Nothing, when no encoder has said hello.
    pub fn report(&mut self, out: &mut Vec<u8>) {
        let Some(encoder) = self.encoder else { return };
        self.unreported = 0;
        let start = out.len();
        Report {
            encoder,
            decoder: self.epoch,
            log: self.names.came,
            instance: self.settings.instance,
            capacity: self.log.capacity(),
            next: self.next,
            came: self.came,
            echo: std::mem::take(&mut self.stamp),
        }
        .emit(out);
        self.settings.seal.close(start, out);
    }

    /// Begins anew, in another epoch.
    fn forget(&mut self) {
        self.renew();
        self.names.came = self.settings.log(self.epoch);
        self.log.clear(self.names);
        (self.next, self.came) = (0, [0; 4]);
    }

    /// Has another epoch, and what it had.
    fn renew(&mut self) {
        self.epoch = self.epoch.wrapping_add(EPOCH_STEP);
        self.wrong = 0;
        self.window.clear();
        self.dictionary = (0, 0, std::mem::take(&mut self.dictionary.2));
        self.dictionary.2.clear();
    }
}

/// Four words, of which the last is the lowest, moved up by bits; the lowest comes first then.
fn shifted(words: [u64; 4], by: u32) -> [u64; 4] {
    let [d, c, b, a] = words;
    let both = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
    let (low, high) = (both(b, a), both(d, c));
    let (low, high) = match by {
        0 => (low, high),
        1..128 => (low << by, (high << by) | (low >> (128 - by))),
        128..256 => (0, low << (by - 128)),
        _ => (0, 0),
    };
    [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64]
}

/// So many packets in a row come out wrong, and all is forgotten.
const WRONG_MAX: u32 = 16;
/// Bytes by which a record may be ahead of all others.
const AHEAD: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reports_tell_which_of_the_last_records_came(records in prop::collection::vec(0u32..600, 1..80)) {
            let settings = Settings::for_tests(1 << 16);
            let mut decoder = Decoder::new(settings, 1);
            let mut came = std::collections::BTreeSet::new();
            for record in records {
                let newest = came.last().copied().unwrap_or(record);
                let told = decoder.mark(record);
                prop_assert_eq!(told, record > newest || newest - record < 256);
                came.insert(record);
                let next = came.last().unwrap() + 1;
                prop_assert_eq!(decoder.next, next);
                for back in 0..256u32.min(next) {
                    let is_set = decoder.came[back as usize / 64] >> (back % 64) & 1 == 1;
                    prop_assert_eq!(is_set, came.contains(&(next - 1 - back)));
                }
            }
        }
    }
}
