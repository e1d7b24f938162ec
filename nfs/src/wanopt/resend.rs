//! The sending side of loss recovery: frames as they were sent, for as long as there is room, and the numbers they have.
//!
//! Recovery hides loss from the hosts' TCP, and with it congestion. So only a share of what is sent is sent again: a link
//! that loses more than that is full, and TCP is to see it.

use std::collections::VecDeque;

use nfv_core::clock::Time;
use nfv_core::nf::Place;

use super::order::{WINDOW, Wanted};
use super::wire::Number;

/// Frames of one encoder; all memory is taken when it is made.
#[derive(Debug)]
pub struct Resend {
    /// A ring, in which no frame goes around the end.
    bytes: Box<[u8]>,
    /// Where the next frame begins, counted on and on.
    head: u64,
    frames: VecDeque<Frame>,
    session: u32,
    /// The number of the next frame, and the lane that it is in.
    next: u32,
    lane: usize,
    /// By lane: the number of the last frame.
    last: [Option<u32>; LANES],
    /// Frames that may be sent again, in parts of [`SHARE`].
    budget: u32,
    tail: Option<Tail>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    start: u64,
    length: u16,
    /// Where the Ethernet header ends.
    behind: u8,
    place: Place,
}

/// Nothing was sent for a while: the other box may not know of the last ones.
#[derive(Clone, Copy, Debug)]
struct Tail {
    at: Time,
    left: u8,
}

/// A frame that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'f> {
    /// All of it.
    pub bytes: &'f [u8],
    /// Its Ethernet header.
    pub before: &'f [u8],
    /// Where it went on.
    pub place: Place,
}

impl Resend {
    /// With nothing in it.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ROOM].into(),
            head: 0,
            frames: VecDeque::with_capacity(FRAMES),
            session: 0,
            next: 0,
            lane: 0,
            last: [None; LANES],
            budget: BUDGET_MAX,
            tail: None,
        }
    }

    /// The next frame's number in a session: each begins with 0. Flows of one hash are in one lane, and wait for each other.
    #[inline]
    pub fn next(&mut self, session: u32, hash: u32) -> Number {
        self.begin(session);
        self.lane = hash as usize % LANES;
        let last = self.last.get(self.lane).copied().flatten();
        let back = last.map_or(0, |last| self.next.wrapping_sub(last));
        (self.next, u16::try_from(back).ok().filter(|back| *back <= BACK_MAX).unwrap_or(0))
    }

    /// What is kept is of that session.
    pub fn begin(&mut self, session: u32) {
        if self.session != session {
            self.frames.clear();
            (self.session, self.next, self.tail) = (session, 0, None);
            self.last = [None; LANES];
        }
    }

    /// Keeps a frame that is sent on from `place` under the number that is next. `behind`: where its Ethernet header ends.
    /// Returns when the other box is to hear of it, if nothing else is sent.
    #[inline]
    pub fn keep(&mut self, frame: &[u8], behind: usize, place: Place, now: Time) -> Time {
        let left = ROOM - self.head as usize % ROOM;
        if left < frame.len() {
            self.head += left as u64;
        }
        let (start, at) = (self.head, self.head as usize % ROOM);
        let to = self.bytes.get_mut(at..at + frame.len());
        let (length, behind) = (u16::try_from(frame.len()), u8::try_from(behind));
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
        }
        match (to, length, behind) {
            (Some(to), Ok(length), Ok(behind)) => {
                to.copy_from_slice(frame);
                self.head += u64::from(length);
                self.frames.push_back(Frame { start, length, behind, place });
            }
            // Such a long frame cannot be sent again, and its number has none.
            _ => self.frames.push_back(Frame { start, length: 0, behind: 0, place }),
        }
        if let Some(last) = self.last.get_mut(self.lane) {
            *last = Some(self.next);
        }
        self.next = self.next.wrapping_add(1);
        self.budget = (self.budget + 1).min(BUDGET_MAX);
        let at = Time(now.0.saturating_add(TAIL_AFTER));
        self.tail = Some(Tail { at, left: TAILS });
        at
    }

    /// Gives the frames that are wanted, as far as they are there and may be sent again. Returns how many.
    pub fn again(&mut self, (first, bits): Wanted, mut give: impl FnMut(Sent<'_>)) -> u64 {
        let mut given = 0;
        for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
            let back = self.next.wrapping_sub(first.wrapping_add(bit)) as usize;
            let at = self.frames.len().checked_sub(back).filter(|_| back > 0);
            let Some(sent) = at.and_then(|at| self.sent(at)) else { continue };
            let Some(budget) = self.budget.checked_sub(SHARE) else { break };
            give(sent);
            self.budget = budget;
            given += 1;
        }
        given
    }

    fn sent(&self, at: usize) -> Option<Sent<'_>> {
        let frame = self.frames.get(at)?;
        if frame.length == 0 || frame.start + (ROOM as u64) < self.head {
            return None;
        }
        let from = frame.start as usize % ROOM;
        let bytes = self.bytes.get(from..from + usize::from(frame.length))?;
        let before = bytes.get(..usize::from(frame.behind))?;
        Some(Sent { bytes, before, place: frame.place })
    }

    /// When the other box is to hear how many frames there were, as none follows.
    pub fn tail_at(&self) -> Option<Time> {
        self.tail.map(|tail| tail.at)
    }

    /// If that is now: the session, the number that is next, and the last frame.
    pub fn tail(&mut self, now: Time) -> Option<(u32, u32, Sent<'_>)> {
        let tail = self.tail.filter(|tail| tail.at <= now)?;
        let left = tail.left - 1;
        self.tail = Some(Tail { at: Time(now.0.saturating_add(TAIL_AFTER)), left })
            .filter(|tail| tail.left > 0);
        let last = self.sent(self.frames.len().checked_sub(1)?)?;
        Some((self.session, self.next, last))
    }
}

/// Flows fall into so many lanes.
const LANES: usize = 64;
/// Of a number further back nobody remembers whether it came.
const BACK_MAX: u16 = WINDOW as u16 - 1;
/// Bytes that are kept.
const ROOM: usize = 4 << 20;
/// Frames that are kept.
const FRAMES: usize = 1 << 14;
/// Of so many frames one may be sent again, and so many at once.
const SHARE: u32 = 16;
const BUDGET_MAX: u32 = 256 * SHARE;
/// Nanoseconds of silence after which the other box hears how many there were, and how often it does.
const TAIL_AFTER: u64 = 5_000_000;
const TAILS: u8 = 2;
