//! From streams to applications.
//!
//! The stream engine tells bytes while it works on a segment, and the application takes them there and then, without a
//! copy. What it does not take, because too many of its transactions are open, waits as a copy until those were looked at.

use crate::ids::app::{App, Input, Limits, Pickup, Ports};
use crate::ids::buffer::Side;
use crate::ids::stream::{self, Sink, StreamId};

/// What feeding led to.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Something can be looked at or logged that could not before.
    pub has_news: bool,
    /// The directions turned out to be the other way round.
    pub is_swapped: bool,
    /// The rest is encrypted.
    pub is_encrypted: bool,
    /// Bytes were fed.
    pub fed: u64,
    /// Bytes of the sides are missing.
    pub gaps: [bool; 2],
    /// Of those, the first ones.
    pub headless: [bool; 2],
    /// What was not taken.
    waiting: Vec<u8>,
    /// Its parts, in order.
    parts: Vec<(Side, Part)>,
}

/// A part of what was not taken.
#[derive(Clone, Copy, Debug)]
enum Part {
    Bytes { start: usize, end: usize },
    Gap(u64),
}

/// Takes what a stream tells for a flow's application.
pub(super) struct Feed<'a> {
    pub app: &'a mut Option<Box<App>>,
    pub ports: Ports,
    pub pickup: Pickup,
    pub limits: &'a Limits,
    /// Whether the stream's client is the flow's server.
    pub is_turned: bool,
    /// Whether nobody is to be given the bytes.
    pub is_closed: bool,
    /// At the end of a stream: bytes that are missing and followed by none, so far. If that is how it stays, nobody
    /// missed them.
    pub late: Option<[u64; 2]>,
    pub news: &'a mut News,
}

impl News {
    /// Forgets what was.
    pub fn clear(&mut self) {
        self.has_news = false;
        self.is_swapped = false;
        self.is_encrypted = false;
        self.fed = 0;
        self.gaps = [false; 2];
        self.headless = [false; 2];
        self.waiting.clear();
        self.parts.clear();
        if self.waiting.capacity() > WAITING_KEPT {
            self.waiting = Vec::new();
        }
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Feeds what waits, as far as it is taken. Called after transactions were looked at and freed.
    pub fn feed_waiting(&mut self, app: &mut App, limits: &Limits) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut parts = std::mem::take(&mut self.parts);
        let mut done = 0;
        for (side, part) in &mut parts {
            let side = if self.is_swapped { side.opposite() } else { *side };
            match part {
                Part::Gap(length) => {
                    let progress = app.feed(side, Input::Gap(*length), limits);
                    self.note(progress);
                }
                Part::Bytes { start, end } => {
                    let bytes = waiting.get(*start..*end).unwrap_or_default();
                    let progress = app.feed(side, Input::Bytes(bytes), limits);
                    self.note(progress);
                    if progress.consumed < bytes.len() {
                        *start += progress.consumed;
                        break;
                    }
                }
            }
            done += 1;
        }
        parts.drain(..done);
        self.waiting = waiting;
        self.parts = parts;
    }

    /// Gives up what waits.
    pub fn give_up(&mut self) {
        self.parts.clear();
    }

    pub fn note(&mut self, progress: crate::ids::app::Progress) {
        self.has_news |= progress.has_news;
        self.is_swapped ^= progress.is_swapped;
        self.is_encrypted |= progress.is_encrypted;
    }

    /// Memory that it holds.
    pub fn bytes(&self) -> usize {
        self.waiting.capacity() + self.parts.capacity() * size_of::<(Side, Part)>()
    }
}

impl Feed<'_> {
    /// Gives the application the next of a direction.
    pub fn give(&mut self, side: Side, input: Input<'_>) {
        if self.is_closed {
            return;
        }
        let side = if self.is_turned { side.opposite() } else { side };
        if self.news.is_waiting() {
            return self.keep(side, input);
        }
        let (ports, pickup) = (self.ports, self.pickup);
        let app = self.app.get_or_insert_with(|| Box::new(App::tcp(ports, pickup)));
        let turned = if self.news.is_swapped { side.opposite() } else { side };
        let progress = app.feed(turned, input, self.limits);
        self.news.note(progress);
        if let Input::Bytes(bytes) = input {
            self.news.fed += bytes.len() as u64;
            let rest = bytes.get(progress.consumed..).unwrap_or_default();
            if !rest.is_empty() {
                self.keep(side, Input::Bytes(rest));
            }
        }
    }

    fn miss(&mut self, from: stream::Side, offset: Option<u64>, length: u64) {
        let side = way_of(from);
        if offset == Some(0)
            && let Some(headless) = self.news.headless.get_mut(side.index())
        {
            *headless = true;
        }
        if let Some(gap) = self.news.gaps.get_mut(side.index()) {
            *gap = true;
        }
        self.give(side, Input::Gap(length));
    }

    /// Sides are kept as the flow has them, not turned by what was found since.
    fn keep(&mut self, side: Side, input: Input<'_>) {
        let part = match input {
            Input::Bytes(bytes) => {
                let start = self.news.waiting.len();
                self.news.waiting.extend_from_slice(bytes);
                Part::Bytes { start, end: start + bytes.len() }
            }
            Input::Gap(length) => Part::Gap(length),
            Input::Eof => return,
        };
        self.news.parts.push((side, part));
    }
}

impl Sink for Feed<'_> {
    fn data(&mut self, _: StreamId, from: stream::Side, offset: u64, bytes: &[u8]) {
        let missing = self.late.as_mut().and_then(|late| late.get_mut(from.index()));
        let missing = missing.map_or(0, std::mem::take);
        if missing > 0 {
            self.miss(from, offset.checked_sub(missing), missing);
        }
        self.give(way_of(from), Input::Bytes(bytes));
    }

    fn gap(&mut self, _: StreamId, from: stream::Side, offset: u64, length: u64) {
        match self.late.as_mut().and_then(|late| late.get_mut(from.index())) {
            Some(missing) => *missing += length,
            None => self.miss(from, Some(offset), length),
        }
    }
}

/// The way that a side's bytes go.
#[inline]
pub(super) fn way_of(side: stream::Side) -> Side {
    match side {
        stream::Side::Client => Side::ToServer,
        stream::Side::Server => Side::ToClient,
    }
}

/// Room for what waits that is kept for the next time.
const WAITING_KEPT: usize = 256 << 10;
