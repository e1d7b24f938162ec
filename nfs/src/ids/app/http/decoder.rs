//! Content encodings of bodies: gzip, deflate and Brotli, on top of each other if need be.
//!
//! Bodies are not always what their header says: servers send raw deflate for zlib, zlib for gzip, and plain text for either;
//! browsers cope, and so must this. The first bytes decide. What comes out goes into the body only up to its inspection
//! limit; behind that nothing is decompressed any more, which bounds what a bomb can cost. flate2 (on miniz_oxide) and
//! brotli-decompressor were chosen because they are without unsafe code and take input in pieces.

use brotli_decompressor::{
    BrotliDecoderParameter, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};
use flate2::{Decompress, FlushDecompress, Status};

use super::body::Body;
use super::event::{ABNORMAL_ENCODING, BOMB, DECOMPRESSION_FAILED, TOO_MANY_ENCODINGS};
use crate::ids::app::Limits;
use crate::ids::app::event::Events;
use crate::ids::app::text::{has_word, split_at_first, trim};

/// What a body passes on its way; the outermost encoding first.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    layers: Vec<Layer>,
    taken: u64,
    made: u64,
    /// Nothing more is decoded: a bomb, or bytes are missing.
    is_dead: bool,
}

/// An encoding.
#[derive(Debug)]
enum Layer {
    /// gzip or deflate, before its first bytes told which.
    Undecided(Vec<u8>),
    Deflate(Box<Inflate>),
    Brotli(Box<Brotli>),
    /// Not encoded, whatever the header says.
    Plain,
    /// It ended, or broke.
    Over,
}

/// Where one is in a gzip or zlib stream.
#[derive(Debug)]
struct Inflate {
    state: Decompress,
    at: Gzip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gzip {
    /// So many bytes of the fixed header were seen (RFC 1952, section 2.3).
    Header {
        seen: u8,
        flags: u8,
    },
    /// Length of the extra field: bytes seen, value so far.
    ExtraLen {
        seen: u8,
        len: u16,
        flags: u8,
    },
    Extra {
        left: u16,
        flags: u8,
    },
    /// A name or a comment, up to a zero.
    Text {
        flags: u8,
    },
    HeaderSum {
        left: u8,
    },
    /// The two bytes of zlib's header.
    Zlib {
        left: u8,
    },
    Data,
    /// Checksum and length behind the data, then perhaps another member.
    Trailer {
        left: u8,
    },
    /// A zlib or raw stream is over.
    Ended,
}

/// Where decoded bytes go.
struct Sink<'a> {
    body: &'a mut Body,
    limit: u64,
    events: &'a mut Events,
    taken: u64,
    made: &'a mut u64,
    bomb: (u64, u64),
}

/// Why no more is decoded.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The body has all that is inspected, or is a bomb.
    Full,
    /// This is not the encoding.
    Broken,
}

impl Decoder {
    /// For the value of `Content-Encoding`; `None` says that the body is plain.
    pub fn new(encoding: Option<&[u8]>, limits: &Limits, events: &mut Events) -> Option<Self> {
        let mut layers = Vec::new();
        for (at, word) in words(encoding?).enumerate() {
            if at >= limits.encodings {
                events.add(TOO_MANY_ENCODINGS);
                break;
            }
            let is_one_of = |names: &[&[u8]]| names.iter().any(|n| word.eq_ignore_ascii_case(n));
            if has_word(word, b"gzip") || has_word(word, b"deflate") {
                if !is_one_of(&[b"gzip", b"x-gzip", b"deflate", b"x-deflate"]) {
                    events.add(ABNORMAL_ENCODING);
                }
                layers.push(Layer::Undecided(Vec::new()));
            } else if is_one_of(&[b"br"]) {
                layers.push(Layer::Brotli(Box::new(Brotli::new())));
            } else if !is_one_of(&[b"identity", b"none", b"inflate"]) {
                events.add(ABNORMAL_ENCODING);
            }
        }
        // The last word was applied last, so it comes off first.
        layers.reverse();
        (!layers.is_empty()).then_some(Self { layers, ..Self::default() })
    }

    /// Decodes `input` into `body`.
    pub fn decode(
        &mut self,
        input: &[u8],
        body: &mut Body,
        (limit, limits): (u64, &Limits),
        events: &mut Events,
    ) {
        self.taken += input.len() as u64;
        if self.is_dead || body.is_full() {
            self.give_up();
            return;
        }
        let (made, bomb) = (&mut self.made, (limits.bomb_ratio, limits.bomb_bytes));
        let mut sink = Sink { body, limit, events, taken: self.taken, made, bomb };
        if pass(&mut self.layers, input, &mut sink, limits) == Err(Stop::Full) {
            self.give_up();
        }
    }

    /// The body is whole: what waits for more bytes has what it gets.
    pub fn finish(
        &mut self,
        body: &mut Body,
        (limit, limits): (u64, &Limits),
        events: &mut Events,
    ) {
        if self.is_dead {
            return;
        }
        let (made, bomb) = (&mut self.made, (limits.bomb_ratio, limits.bomb_bytes));
        let mut sink = Sink { body, limit, events, taken: self.taken, made, bomb };
        for at in 0..self.layers.len() {
            let Some(layers) = self.layers.get_mut(at..) else { break };
            let held = layers.first_mut().map(|layer| layer.finish(sink.events));
            if pass(layers, &held.unwrap_or_default(), &mut sink, limits).is_err() {
                break;
            }
        }
        self.give_up();
    }

    /// Bytes are missing: nothing behind them can be decoded.
    pub fn give_up(&mut self) {
        self.is_dead = true;
        self.layers = Vec::new();
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(Layer::bytes).sum()
    }
}

/// Passes bytes through the layers into the sink. Calls itself once a layer, of which there are as many as the limit allows.
fn pass(
    layers: &mut [Layer],
    input: &[u8],
    sink: &mut Sink<'_>,
    limits: &Limits,
) -> Result<(), Stop> {
    let Some((layer, inner)) = layers.split_first_mut() else { return sink.put(input) };
    let outcome = match layer {
        Layer::Undecided(held) => {
            held.extend_from_slice(input);
            if held.len() < SAMPLE && !is_recognized(held) {
                return Ok(());
            }
            let held = std::mem::take(held);
            *layer = choose(&held, sink.events);
            return pass(layers, &held, sink, limits);
        }
        Layer::Plain => return pass(inner, input, sink, limits),
        Layer::Over => return Ok(()),
        Layer::Deflate(inflate) => inflate.decode(input, |out| pass(inner, out, sink, limits)),
        Layer::Brotli(brotli) => {
            brotli.decode(input, limits.decompressor, |out| pass(inner, out, sink, limits))
        }
    };
    if outcome == Err(Stop::Broken) {
        sink.events.add(DECOMPRESSION_FAILED);
        *layer = Layer::Over;
        return Ok(());
    }
    outcome
}

impl Sink<'_> {
    fn put(&mut self, out: &[u8]) -> Result<(), Stop> {
        self.body.push(out, self.limit);
        *self.made += out.len() as u64;
        let (ratio, bytes) = self.bomb;
        if *self.made > bytes && *self.made / ratio.max(1) > self.taken {
            self.events.add(BOMB);
            return Err(Stop::Full);
        }
        if self.body.is_full() { Err(Stop::Full) } else { Ok(()) }
    }
}

impl Layer {
    /// Bytes that it held back; what there is decides.
    fn finish(&mut self, events: &mut Events) -> Vec<u8> {
        let Self::Undecided(held) = self else { return Vec::new() };
        let held = std::mem::take(held);
        *self = choose(&held, events);
        held
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Undecided(held) => held.capacity(),
            Self::Deflate(_) => INFLATE_BYTES,
            Self::Brotli(brotli) => brotli.window,
            Self::Plain | Self::Over => 0,
        }
    }
}

/// Whether the first bytes say what they are; one byte may, two do.
fn is_recognized(first: &[u8]) -> bool {
    first.starts_with(&GZIP_MARK) || is_zlib(first)
}

fn is_zlib(first: &[u8]) -> bool {
    let [method, flags, ..] = first else { return false };
    method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([*method, *flags]) % 31 == 0
}

/// What the first bytes are.
fn choose(held: &[u8], events: &mut Events) -> Layer {
    // Not more than the sample, so that the choice does not depend on how the bytes came.
    let first = held.get(..SAMPLE).unwrap_or(held);
    let inflate = |at| Layer::Deflate(Box::new(Inflate { state: Decompress::new(false), at }));
    if first.starts_with(&GZIP_MARK) {
        return inflate(Gzip::Header { seen: 0, flags: 0 });
    }
    if is_zlib(first) {
        return inflate(Gzip::Zlib { left: 2 });
    }
    let mut trial = Inflate { state: Decompress::new(false), at: Gzip::Data };
    if first.len() > 1 && trial.decode(first, |_| Ok(())).is_ok() {
        return inflate(Gzip::Data);
    }
    events.add(DECOMPRESSION_FAILED);
    Layer::Plain
}

impl Inflate {
    fn decode(
        &mut self,
        mut input: &[u8],
        mut put: impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        loop {
            if self.at == Gzip::Data {
                input = self.inflate(input, &mut put)?;
                if self.at == Gzip::Data {
                    return Ok(());
                }
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(()) };
            input = rest;
            self.at = match self.at.after(*byte) {
                Ok(at) => at,
                // Behind a member comes something else: padding, mostly.
                Err(()) => Gzip::Ended,
            };
            if self.at == Gzip::Data {
                self.state.reset(false);
            }
        }
    }

    /// Inflates until the input or the stream ends; returns what is behind the stream.
    fn inflate<'a>(
        &mut self,
        mut input: &'a [u8],
        put: &mut impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<&'a [u8], Stop> {
        let mut out = [0; PIECE];
        loop {
            let before = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(input, &mut out, FlushDecompress::None);
            let len = |now: u64, before| usize::try_from(now - before).unwrap_or(usize::MAX);
            let taken = len(self.state.total_in(), before.0);
            let made = len(self.state.total_out(), before.1);
            input = input.get(taken..).unwrap_or_default();
            put(out.get(..made).unwrap_or_default())?;
            match status {
                Ok(Status::StreamEnd) => {
                    self.at = Gzip::Trailer { left: 8 };
                    return Ok(input);
                }
                Ok(_) if made < out.len() && (input.is_empty() || taken == 0 && made == 0) => {
                    return Ok(&[]);
                }
                Ok(_) => {}
                Err(_) => return Err(Stop::Broken),
            }
        }
    }
}

impl Gzip {
    /// The place behind `byte`; an error where a header should begin and does not.
    fn after(self, byte: u8) -> Result<Self, ()> {
        Ok(match self {
            Self::Header { seen: 0, .. } if byte != GZIP_MARK[0] => return Err(()),
            Self::Header { seen: 1, .. } if byte != GZIP_MARK[1] => return Err(()),
            Self::Header { seen: 3, .. } => Self::Header { seen: 4, flags: byte },
            Self::Header { seen: 9, flags } => Self::next_field(flags),
            Self::Header { seen, flags } => Self::Header { seen: seen + 1, flags },
            Self::ExtraLen { seen: 0, flags, .. } => {
                Self::ExtraLen { seen: 1, len: u16::from(byte), flags }
            }
            Self::ExtraLen { len, flags, .. } => match len | u16::from(byte) << 8 {
                0 => Self::next_field(flags),
                left => Self::Extra { left, flags },
            },
            Self::Extra { left: 1, flags } => Self::next_field(flags),
            Self::Extra { left, flags } => Self::Extra { left: left - 1, flags },
            Self::Text { flags } if byte == 0 => Self::next_field(flags),
            Self::HeaderSum { left: 1 } | Self::Zlib { left: 1 } => Self::Data,
            Self::HeaderSum { left } => Self::HeaderSum { left: left - 1 },
            Self::Zlib { left } => Self::Zlib { left: left - 1 },
            Self::Trailer { left: 1 } => Self::Header { seen: 0, flags: 0 },
            Self::Trailer { left } => Self::Trailer { left: left - 1 },
            Self::Text { .. } | Self::Data | Self::Ended => self,
        })
    }

    /// The first field of those that `flags` announces; the flags of the rest go with it.
    fn next_field(flags: u8) -> Self {
        const SUM: u8 = 2;
        const EXTRA: u8 = 4;
        const NAME: u8 = 8;
        const COMMENT: u8 = 16;
        if flags & EXTRA != 0 {
            Self::ExtraLen { seen: 0, len: 0, flags: flags & !EXTRA }
        } else if flags & NAME != 0 {
            Self::Text { flags: flags & !NAME }
        } else if flags & COMMENT != 0 {
            Self::Text { flags: flags & !COMMENT }
        } else if flags & SUM != 0 {
            Self::HeaderSum { left: 2 }
        } else {
            Self::Data
        }
    }
}

/// A Brotli stream (RFC 7932).
struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    /// Of the stream, by its first byte; 0 before that.
    window: usize,
    is_over: bool,
}

impl Brotli {
    fn new() -> Self {
        let [one, two, three] = std::array::from_fn(|_| StandardAlloc::default());
        let mut state = BrotliState::new(one, two, three);
        // Windows of 1 GiB are no part of RFC 7932.
        state.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
        Self { state, window: 0, is_over: false }
    }

    fn decode(
        &mut self,
        input: &[u8],
        largest: usize,
        mut put: impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if let (0, Some(first)) = (self.window, input.first()) {
            self.window = window(*first);
            if self.window > largest {
                return Err(Stop::Broken);
            }
        }
        let (mut left, mut place, mut total) = (input.len(), 0, 0);
        while !self.is_over {
            let (mut out, mut made) = ([0; PIECE], 0);
            let mut room = out.len();
            let outcome = BrotliDecompressStream(
                &mut left,
                &mut place,
                input,
                &mut room,
                &mut made,
                &mut out,
                &mut total,
                &mut self.state,
            );
            put(out.get(..made).unwrap_or_default())?;
            match outcome {
                BrotliResult::ResultSuccess => self.is_over = true,
                BrotliResult::NeedsMoreInput => break,
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Err(Stop::Broken),
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Brotli {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brotli").field("window", &self.window).finish_non_exhaustive()
    }
}

/// The window that a stream's first bits ask for (RFC 7932, section 9.1).
fn window(first: u8) -> usize {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, low) => 8 + u32::from(low),
        (_, high, _) => 17 + u32::from(high),
    };
    1 << bits
}

/// The words of a header's list.
fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let from = rest.iter().position(|b| !b", ".contains(b))?;
        let (word, after) = split_at_first(rest.get(from..)?, |b| b", ".contains(&b));
        rest = after;
        Some(trim(word))
    })
}

const GZIP_MARK: [u8; 2] = [0x1f, 0x8b];

/// Bytes by which one tells raw deflate from plain text.
const SAMPLE: usize = 64;

/// Decompressed at once.
const PIECE: usize = 8 << 10;

/// State and window of miniz_oxide.
const INFLATE_BYTES: usize = 44 << 10;
