//! The bytes between two boxes: docs/wanopt.md has the pictures, this file reads and writes them.
//!
//! Whatever the network brings is read by `get`; what is not whole is nothing. Numbers are in network order.

use super::cipher::Salt;

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A packet of the hosts, encoded.
    Data,
    /// An encoder begins.
    Hello,
    /// What a decoder has.
    Report,
    /// A packet of the hosts that is sent again if it gets lost.
    Numbered,
    /// Numbers that are to be sent again.
    Ask,
    /// How many numbers there were.
    Tail,
    /// Several packets of the hosts, each encoded.
    Bundle,
}

impl Message {
    /// Of the first byte; `None`: another version, or none of ours.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            0x11 => Some(Self::Data),
            0x12 => Some(Self::Hello),
            0x13 => Some(Self::Report),
            0x14 => Some(Self::Numbered),
            0x15 => Some(Self::Ask),
            0x16 => Some(Self::Tail),
            0x17 => Some(Self::Bundle),
            _ => None,
        }
    }

    /// The first byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Data => 0x11,
            Self::Hello => 0x12,
            Self::Report => 0x13,
            Self::Numbered => 0x14,
            Self::Ask => 0x15,
            Self::Tail => 0x16,
            Self::Bundle => 0x17,
        }
    }
}

/// How the bytes that are no copies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// An LZ4 block.
    Lz4,
    /// A zstd frame without its magic number.
    Zstd,
}

/// What the decoder writes down of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Its headers.
    Headers,
    /// All of it.
    Whole,
}

/// A message's number, and how many numbers before it the last one of its flow is; 0: none, or too many.
pub type Number = (u32, u16);

/// The head of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Of which two states of encoder and decoder it is.
    pub session: u32,
    /// Of the packet that comes out.
    pub digest: u64,
    /// By which it is asked for again, if it is.
    pub number: Option<Number>,
    /// What is written down, under which number, and at which place of the log.
    pub keep: Keep,
    /// The record's number, when something is kept.
    pub record: u32,
    /// The record's place.
    pub place: u64,
    /// Where the headers are that these differ from little.
    pub like: Option<u64>,
    /// A part of the log by which zstd compressed: its place and length.
    pub dictionary: Option<(u64, u32)>,
    /// How the rest is written.
    pub codec: Codec,
    /// The checksums that come out of the sums, of the network and the upper layer.
    pub sums: [bool; 2],
    /// Length of all headers.
    pub headers: u8,
    /// Length of what follows them in the packet.
    pub payload: u16,
    /// How many copies there are.
    pub copies: u8,
}

/// Bytes that were in the log already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many bytes are between the last copy's end, or the start, and this.
    pub gap: u16,
    /// How many bytes.
    pub length: u16,
    /// Where they are in the log.
    pub place: u64,
}

/// An encoder begins, or wants to know how its decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Drawn anew at each start.
    pub encoder: u32,
    /// Which of the box's encoders it is.
    pub instance: u8,
    /// How many it has, which share the memory of a decoder.
    pub of: u8,
    /// When it was sent, by any clock; 0: no answer is wanted.
    pub stamp: u32,
    /// Drawn at its start, for encryption.
    pub salt: Salt,
    /// Which log it has, and as far as it goes: the next record's number, and the next place.
    pub log: Which,
    /// See `log`.
    pub next: u32,
    /// See `log`.
    pub head: u64,
}

/// Tells a log from all others; 0: there is none. Another one is drawn when all that is in it is forgotten.
pub type Which = u64;

/// What a decoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of which encoder.
    pub encoder: u32,
    /// Drawn anew each time the decoder forgets what it had, and when it starts.
    pub decoder: u32,
    /// Which log it has: another one each time it forgets what it had, but not when it starts with what it kept.
    pub log: Which,
    /// Which of the box's encoders it is for.
    pub instance: u8,
    /// How many bytes its log holds.
    pub capacity: u64,
    /// The highest record that came, plus one; 0: none did.
    pub next: u32,
    /// Of the records before that, the last 256: bit 0 of the first word is the last one.
    pub came: [u64; 4],
    /// The stamp of the hello that it answers; 0: of none.
    pub echo: u32,
}

/// Whether a report was of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was.
    Ours,
    /// It was the first of a decoder that has nothing.
    Anew,
    /// It is another encoder's, or nobody's.
    NotOurs,
}

/// A decoder wants messages again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which of the box's encoders it is for.
    pub instance: u8,
    /// Whose numbers these are.
    pub session: u32,
    /// The first one that is wanted.
    pub first: u32,
    /// A bit each for it and those behind it, of which it is the lowest.
    pub bits: u64,
}

/// An encoder has nothing to send at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Which of the box's encoders it is.
    pub instance: u8,
    /// Whose numbers these are.
    pub session: u32,
    /// The number that would have been next.
    pub next: u32,
}

/// The number by which messages name the states of both ends.
pub fn session(encoder: u32, decoder: u32) -> u32 {
    encoder ^ decoder.rotate_left(16)
}

/// The number below 2^40 that a place is written as.
const PLACE: u64 = (1 << 40) - 1;

/// The place nearest to `head` that is written as `low`.
pub fn widened(low: u64, head: u64) -> u64 {
    let near = (head & !PLACE) | (low & PLACE);
    if near > head + (PLACE >> 1) {
        near.saturating_sub(PLACE + 1)
    } else if near + (PLACE >> 1) < head {
        near + PLACE + 1
    } else {
        near
    }
}

const KEEP_HEADERS: u8 = 1;
const KEEP_WHOLE: u8 = 2;
const LIKE: u8 = 4;
const LZ4: u8 = 8;
const ZSTD: u8 = 16;
const DICTIONARY: u8 = 32;
const SUM_L3: u8 = 64;
const SUM_L4: u8 = 128;

impl Data {
    /// Writes it at `out`'s end.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut flags = match self.keep {
            Keep::Nothing => 0,
            Keep::Headers => KEEP_HEADERS,
            Keep::Whole => KEEP_WHOLE,
        };
        flags |= match self.codec {
            Codec::Raw => 0,
            Codec::Lz4 => LZ4,
            Codec::Zstd => ZSTD,
        };
        let [l3, l4] = self.sums;
        for (is_set, flag) in [
            (self.like.is_some(), LIKE),
            (self.dictionary.is_some(), DICTIONARY),
            (l3, SUM_L3),
            (l4, SUM_L4),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let kind = if self.number.is_some() { Message::Numbered } else { Message::Data };
        out.extend([kind.byte(), flags]);
        out.extend(self.session.to_be_bytes());
        out.extend(self.digest.to_be_bytes());
        if let Some((number, back)) = self.number {
            out.extend(number.to_be_bytes());
            put_number(back, out);
        }
        if self.keep != Keep::Nothing {
            out.extend(self.record.to_be_bytes());
            put_place(self.place, out);
        }
        if let Some(like) = self.like {
            put_place(like, out);
        }
        if let Some((place, length)) = self.dictionary {
            put_place(place, out);
            out.extend(u16::try_from(length / DICTIONARY_UNIT).unwrap_or(0).to_be_bytes());
        }
        out.push(self.headers);
        out.extend(self.payload.to_be_bytes());
        out.push(self.copies);
    }

    /// The session that a message names.
    pub fn session_of(message: &[u8]) -> Option<u32> {
        let [.., a, b, c, d] = *message.first_chunk::<6>()?;
        Some(u32::from_be_bytes([a, b, c, d]))
    }

    /// Reads it, and what follows. Places are those nearest to `head`.
    pub fn read(bytes: &[u8], head: u64) -> Option<(Self, &[u8])> {
        let mut from = Reader(bytes);
        let [_, flags] = from.take()?;
        let is_numbered = match Message::of(bytes)? {
            Message::Data => false,
            Message::Numbered => true,
            _ => return None,
        };
        let is_set = |flag| flags & flag != 0;
        let keep = match flags & (KEEP_HEADERS | KEEP_WHOLE) {
            0 => Keep::Nothing,
            KEEP_HEADERS => Keep::Headers,
            KEEP_WHOLE => Keep::Whole,
            _ => return None,
        };
        let codec = match flags & (LZ4 | ZSTD) {
            0 => Codec::Raw,
            LZ4 => Codec::Lz4,
            ZSTD => Codec::Zstd,
            _ => return None,
        };
        let session = u32::from_be_bytes(from.take()?);
        let digest = u64::from_be_bytes(from.take()?);
        let number = if is_numbered {
            Some((u32::from_be_bytes(from.take()?), from.number()?))
        } else {
            None
        };
        let (record, place) = if keep == Keep::Nothing {
            (0, 0)
        } else {
            (u32::from_be_bytes(from.take()?), from.place(head)?)
        };
        let like = if is_set(LIKE) { Some(from.place(head)?) } else { None };
        let dictionary = if is_set(DICTIONARY) {
            let place = from.place(head)?;
            Some((place, u32::from(u16::from_be_bytes(from.take()?)) * DICTIONARY_UNIT))
        } else {
            None
        };
        let [headers] = from.take()?;
        let payload = u16::from_be_bytes(from.take()?);
        let [copies] = from.take()?;
        let sums = [is_set(SUM_L3), is_set(SUM_L4)];
        let data = Self {
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
            headers,
            payload,
            copies,
        };
        Some((data, from.0))
    }
}

impl Copied {
    /// Where the bytes behind it are.
    pub fn end(&self) -> u64 {
        self.place.saturating_add(self.length.into())
    }

    /// Writes it at `out`'s end. `before`: where the copy before it in the packet ends; they are often of one place.
    pub fn emit(&self, before: Option<u64>, out: &mut Vec<u8>) {
        put_number(self.gap, out);
        put_number(self.length, out);
        let Some(before) = before else { return put_place(self.place, out) };
        let ahead = self.place.checked_sub(before).and_then(|ahead| u16::try_from(ahead).ok());
        match ahead.filter(|ahead| *ahead <= NUMBER_MAX) {
            Some(ahead) if ahead == u16::from(ELSEWHERE) => {
                out.extend((ahead | 0x8000).to_be_bytes())
            }
            Some(ahead) => put_number(ahead, out),
            None => {
                out.push(ELSEWHERE);
                put_place(self.place, out);
            }
        }
    }

    /// Reads it.
    pub fn read(from: &mut Reader<'_>, head: u64, before: Option<u64>) -> Option<Self> {
        let (gap, length) = (from.number()?, from.number()?);
        let place = match before {
            Some(before) if from.0.first()? != &ELSEWHERE => {
                before.saturating_add(from.number()?.into())
            }
            Some(_) => {
                let [_] = from.take()?;
                from.place(head)?
            }
            None => from.place(head)?,
        };
        Some(Self { gap, length, place })
    }
}

impl Hello {
    /// Writes it at `out`'s end, without its seal.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend([Message::Hello.byte(), self.instance, self.of]);
        out.extend(self.encoder.to_be_bytes());
        out.extend(self.stamp.to_be_bytes());
        out.extend(self.salt);
        out.extend(self.log.to_be_bytes());
        out.extend(self.next.to_be_bytes());
        out.extend(self.head.to_be_bytes());
    }

    /// Reads it, and what follows.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut from = Reader(bytes);
        let [kind, instance, of] = from.take()?;
        let encoder = u32::from_be_bytes(from.take()?);
        let stamp = u32::from_be_bytes(from.take()?);
        let salt = from.take()?;
        let log = u64::from_be_bytes(from.take()?);
        let next = u32::from_be_bytes(from.take()?);
        let head = u64::from_be_bytes(from.take()?);
        let hello = Self { encoder, instance, of, stamp, salt, log, next, head };
        (kind == Message::Hello.byte()).then_some((hello, from.0))
    }
}

impl Report {
    /// Writes it at `out`'s end, without its seal.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend([Message::Report.byte(), self.instance]);
        out.extend(self.encoder.to_be_bytes());
        out.extend(self.decoder.to_be_bytes());
        out.extend(self.log.to_be_bytes());
        out.extend(self.capacity.to_be_bytes());
        out.extend(self.next.to_be_bytes());
        self.came.iter().for_each(|word| out.extend(word.to_be_bytes()));
        out.extend(self.echo.to_be_bytes());
    }

    /// Reads it, and what follows.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut from = Reader(bytes);
        let [kind, instance] = from.take()?;
        let encoder = u32::from_be_bytes(from.take()?);
        let decoder = u32::from_be_bytes(from.take()?);
        let log = u64::from_be_bytes(from.take()?);
        let capacity = u64::from_be_bytes(from.take()?);
        let next = u32::from_be_bytes(from.take()?);
        let mut came = [0; 4];
        for word in &mut came {
            *word = u64::from_be_bytes(from.take()?);
        }
        let echo = u32::from_be_bytes(from.take()?);
        let report = Self { encoder, decoder, log, instance, capacity, next, came, echo };
        (kind == Message::Report.byte()).then_some((report, from.0))
    }
}

impl Ask {
    /// Writes it at `out`'s end, without its seal.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend([Message::Ask.byte(), self.instance]);
        out.extend(self.session.to_be_bytes());
        out.extend(self.first.to_be_bytes());
        out.extend(self.bits.to_be_bytes());
    }

    /// Reads it, and what follows.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut from = Reader(bytes);
        let [kind, instance] = from.take()?;
        let session = u32::from_be_bytes(from.take()?);
        let first = u32::from_be_bytes(from.take()?);
        let bits = u64::from_be_bytes(from.take()?);
        (kind == Message::Ask.byte()).then_some((Self { instance, session, first, bits }, from.0))
    }
}

impl Tail {
    /// Writes it at `out`'s end, without its seal.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend([Message::Tail.byte(), self.instance]);
        out.extend(self.session.to_be_bytes());
        out.extend(self.next.to_be_bytes());
    }

    /// Reads it, and what follows.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut from = Reader(bytes);
        let [kind, instance] = from.take()?;
        let session = u32::from_be_bytes(from.take()?);
        let next = u32::from_be_bytes(from.take()?);
        (kind == Message::Tail.byte()).then_some((Self { instance, session, next }, from.0))
    }
}

/// Reads bytes from the front, as many as there are.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b>(pub &'b [u8]);

impl<'b> Reader<'b> {
    /// The next so many.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next so many.
    pub fn slice(&mut self, length: usize) -> Option<&'b [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn place(&mut self, head: u64) -> Option<u64> {
        let [a, b, c, d, e] = self.take()?;
        Some(widened(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]), head))
    }

    /// One byte below 128, or two bytes with the upper bit set.
    pub fn number(&mut self) -> Option<u16> {
        let [first] = self.take()?;
        if first < 0x80 {
            return Some(first.into());
        }
        let [second] = self.take()?;
        Some(u16::from_be_bytes([first & 0x7f, second]))
    }
}

/// Writes the lower 40 bits of a number.
pub fn put_place(place: u64, out: &mut Vec<u8>) {
    let [.., a, b, c, d, e] = place.to_be_bytes();
    out.extend([a, b, c, d, e]);
}

/// Numbers up to [`NUMBER_MAX`].
pub fn put_number(number: u16, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(byte) if byte < 0x80 => out.push(byte),
        _ => out.extend((number | 0x8000).to_be_bytes()),
    }
}

/// In place of how far a copy is behind the one before it: it is elsewhere.
const ELSEWHERE: u8 = 0x7f;
/// The greatest gap and length of a copy.
pub const NUMBER_MAX: u16 = 0x7fff;
/// A dictionary's length is a multiple of this.
pub const DICTIONARY_UNIT: u32 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            session: u32, digest: u64, number in prop::option::of((any::<u32>(), 0..NUMBER_MAX)), record: u32, place in 0u64..1 << 50, keep in 0..3, codec in 0..3,
            like in prop::option::of(0u64..1 << 20), dictionary in prop::option::of((0u64..1 << 20, 0u32..4096)),
            sums: [bool; 2], headers: u8, payload: u16, copies: u8, gap in 0..NUMBER_MAX, length in 0..NUMBER_MAX,
            ahead in prop_oneof![-300i64..300, -100_000i64..100_000], like_that: bool,
        ) {
            let keep = [Keep::Nothing, Keep::Headers, Keep::Whole][keep as usize];
            let (record, kept) = if keep == Keep::Nothing { (0, 0) } else { (record, place) };
            let data = Data {
                session, digest, number, keep, record, place: kept, sums, headers, payload, copies,
                like: like.map(|back| place.saturating_sub(back)),
                dictionary: dictionary
                    .map(|(back, n)| (place.saturating_sub(back), n * DICTIONARY_UNIT)),
                codec: [Codec::Raw, Codec::Lz4, Codec::Zstd][codec as usize],
            };
            let copied = Copied { gap, length, place };
            let mut out = Vec::new();
            data.emit(&mut out);
            let before = like_that.then(|| place.saturating_add_signed(-ahead));
            copied.emit(before, &mut out);
            let (read, rest) = Data::read(&out, place).unwrap();
            prop_assert_eq!(read, data);
            let mut from = Reader(rest);
            prop_assert_eq!(Copied::read(&mut from, place, before), Some(copied));
            prop_assert!(from.0.is_empty());
        }

        #[test]
        fn messages_of_the_boxes_are_read_again(a: u32, b: u32, instance: u8, capacity: u64, next: u32, came: [u64; 4]) {
            let report = Report { encoder: a, decoder: b, log: !capacity, instance, capacity, next, came, echo: !a };
            let mut out = Vec::new();
            report.emit(&mut out);
            out.push(7);
            prop_assert_eq!(Report::read(&out), Some((report, &[7][..])));
            let (log, head, salt) = (!capacity, capacity, [instance; 16]);
            let hello = Hello { encoder: a, instance, of: instance, stamp: b, salt, log, next, head };
            let mut out = Vec::new();
            hello.emit(&mut out);
            prop_assert_eq!(Hello::read(&out), Some((hello, &[][..])));
            let (ask, mut out) = (Ask { instance, session: a, first: b, bits: capacity }, vec![]);
            ask.emit(&mut out);
            prop_assert_eq!(Ask::read(&out), Some((ask, &[][..])));
            let (tail, mut out) = (Tail { instance, session: a, next: b }, vec![]);
            tail.emit(&mut out);
            prop_assert_eq!(Tail::read(&out), Some((tail, &[][..])));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, head: u64) {
            let _ = (Data::read(&bytes, head >> 1), Hello::read(&bytes), Report::read(&bytes));
            let _ = (Ask::read(&bytes), Tail::read(&bytes));
        }

        #[test]
        fn a_place_near_the_head_is_found_by_its_low_bits(head in 1u64 << 41..1 << 60, off in 0..1u64 << 38) {
            prop_assert_eq!(widened((head - off) & PLACE, head), head - off);
            prop_assert_eq!(widened((head + off) & PLACE, head), head + off);
        }
    }
}
