//! The segments of a turn, and others that say something else and that the receiver loses or throws away.

use super::wire::{Said, Wire};
use super::{How, Order, Who};
use crate::ids::stream::{Mode, OverlapPolicy, Range, Winner};

/// What is sent besides the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    None,
    /// Over segments, so that the receiver's policy keeps none of it; left out where every order has some of it kept.
    Over(Lay),
    /// Before each segment what no receiver takes.
    Thrown(Thrown),
}

/// How a lie lies to a segment: how far behind its start it begins, and how far behind its end it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lay(pub isize, pub isize);

impl Lay {
    /// One of each kind.
    pub const ALL: [Self; 9] = [
        Self(-2, -2),
        Self(-2, 0),
        Self(-2, 2),
        Self(0, -2),
        Self(0, 0),
        Self(0, 2),
        Self(2, -2),
        Self(2, 0),
        Self(2, 2),
    ];
}

/// Why no receiver takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thrown {
    Checksum,
    HeaderChecksum,
    Ahead,
    NoAck,
    WrongAck,
    OldStamp,
    SynInside,
    ResetChecksum,
    ResetAhead,
    FinChecksum,
    FinAhead,
    /// It was taken before, and said something else then.
    Again,
}

impl Thrown {
    pub const ALL: [Self; 12] = [
        Self::Checksum,
        Self::HeaderChecksum,
        Self::Ahead,
        Self::NoAck,
        Self::WrongAck,
        Self::OldStamp,
        Self::SynInside,
        Self::ResetChecksum,
        Self::ResetAhead,
        Self::FinChecksum,
        Self::FinAhead,
        Self::Again,
    ];

    fn frame(self, wire: &Wire, who: Who, at: usize, length: usize) -> Vec<u8> {
        let payload = vec![b'#'; length];
        let said = wire.says(who, at, &payload);
        let far = |number: u32| number.wrapping_add(1 << 29);
        let frame = |said: Said<'_>| wire.frame(who, &said);
        // IPv6 has none: there it is TCP's.
        let sum = |mut frame: Vec<u8>, is_header: bool| {
            let is_v4 = frame[12] == 8;
            let place = if is_header && is_v4 {
                24
            } else if is_v4 {
                50
            } else {
                70
            };
            frame[place] ^= 0x5a;
            frame
        };
        match self {
            Self::Checksum => sum(frame(said), false),
            Self::HeaderChecksum => sum(frame(said), true),
            Self::Ahead => frame(Said { seq: far(said.seq), ..said }),
            Self::NoAck => frame(Said { flags: "p", ..said }),
            Self::WrongAck => frame(Said { ack: far(said.ack), ..said }),
            Self::OldStamp => frame(Said { stamp: said.stamp - (1 << 19), ..said }),
            Self::SynInside => frame(Said { flags: "s", ..said }),
            Self::ResetChecksum => sum(frame(Said { flags: "ra", payload: b"", ..said }), false),
            Self::ResetAhead => {
                frame(Said { seq: far(said.seq), flags: "r", payload: b"", ..said })
            }
            Self::FinChecksum => sum(frame(Said { flags: "fa", ..said }), false),
            Self::FinAhead => frame(Said { seq: far(said.seq), flags: "fa", ..said }),
            Self::Again => frame(said),
        }
    }
}

/// A part of a turn: where it begins, where it ends, and whether it is a lie.
type Part = (usize, usize, bool);

/// The frames of a turn, in their order.
pub fn segments(wire: &mut Wire, who: Who, bytes: &[u8], how: &How) -> Vec<Vec<u8>> {
    // Its first byte comes last: only what waits for it meets other segments in the receiver's queue.
    let holds_first = matches!(how.lies, Lies::Over(_)) && how.mode == Mode::Passive;
    let begin = usize::from(holds_first);
    let parts = (begin..bytes.len()).step_by(how.size);
    let mut parts: Vec<Part> =
        parts.map(|start| (start, (start + how.size).min(bytes.len()), false)).collect();
    match (how.lies, how.order) {
        (Lies::Over(lay), _) => parts = lied_over(&parts, lay, how, bytes.len()),
        (_, Order::Forwards) => {}
        (_, Order::Backwards) => parts.reverse(),
        (_, Order::Shuffled(seed)) => {
            parts.sort_by_key(|(start, ..)| {
                (*start as u32 ^ seed)
                    .wrapping_mul(0x9e37_79b9)
                    .rotate_left(9)
                    .wrapping_mul(0x85eb_ca6b)
            });
        }
    }
    if holds_first {
        parts.push((0, 1, false));
    }
    let mut frames = Vec::new();
    for (start, end, is_lie) in parts {
        wire.clock += 1;
        if let Lies::Thrown(thrown) = how.lies
            && thrown != Thrown::Again
        {
            frames.push(thrown.frame(wire, who, start, end - start));
        }
        let lie = vec![b'#'; end - start];
        let payload = if is_lie { &lie } else { &bytes[start..end] };
        frames.push(wire.frame(who, &wire.says(who, start, payload)));
    }
    frames
}

/// What is sent once a turn was acknowledged.
pub fn behind(wire: &Wire, who: Who, bytes: &[u8], how: &How) -> Vec<Vec<u8>> {
    if how.lies != Lies::Thrown(Thrown::Again) {
        return Vec::new();
    }
    let lie = vec![b'#'; bytes.len()];
    let said = wire.says(who, 0, &lie);
    vec![wire.frame(who, &Said { seq: said.seq.wrapping_sub(bytes.len() as u32), ..said })]
}

/// Segments with a lie over every third one.
fn lied_over(parts: &[Part], lay: Lay, how: &How, length: usize) -> Vec<Part> {
    let mut all = Vec::new();
    for three in parts.chunks(3) {
        let [_, (start, end, _), _] = *three else {
            all.extend_from_slice(three);
            continue;
        };
        let lie = (
            start.saturating_add_signed(lay.0),
            end.saturating_add_signed(lay.1).min(length),
            true,
        );
        if lie.0 >= lie.1 {
            all.extend_from_slice(three);
        } else if how.mode == Mode::Inline {
            // What passed first counts.
            all.extend_from_slice(three);
            all.push(lie);
        } else {
            let four = [three[0], three[1], three[2], lie];
            all.extend(
                lost(&four, how.policy).map_or_else(|| three.to_vec(), |order| order.to_vec()),
            );
        }
    }
    all
}

/// The first order of four segments in which nothing of the lie is kept; `None`: there is none.
pub fn lost(four: &[Part; 4], policy: OverlapPolicy) -> Option<[Part; 4]> {
    orders(four).into_iter().find(|order| kept(order, policy).iter().all(|is_lie| !is_lie))
}

/// All orders of four.
pub fn orders(four: &[Part; 4]) -> Vec<[Part; 4]> {
    let mut all = Vec::new();
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                all.push([four[a], four[b], four[c], four[6 - a - b - c]]);
            }
        }
    }
    all
}

/// What a receiver's queue holds of segments behind a hole, byte by byte: whether it is of a lie.
pub fn kept(order: &[Part], policy: OverlapPolicy) -> Vec<bool> {
    let first = order.iter().map(|(start, ..)| *start).min().unwrap_or(0);
    let last = order.iter().map(|(_, end, _)| *end).max().unwrap_or(0);
    // Each byte with the segment that it is of.
    let mut queue: Vec<Option<usize>> = vec![None; last - first];
    for (number, (start, end, _)) in order.iter().enumerate() {
        let (start, end) = (start - first, end - first);
        let mut at = start;
        while at < end {
            let owner = queue[at];
            let is_its = |i: &usize| queue[*i] == owner;
            let to = (at..queue.len()).take_while(is_its).last().map_or(at, |i| i + 1);
            if owner.is_some() {
                // The whole piece that is there, also where it begins before.
                let from = (0..at).rev().take_while(is_its).last().unwrap_or(at);
                let range = |start, end| Range { start: start as i64, end: end as i64 };
                if policy.winner(range(from, to), range(start, end)) == Winner::New {
                    queue[at..to.min(end)].fill(Some(number));
                }
            } else {
                queue[at..to.min(end)].fill(Some(number));
            }
            at = to;
        }
    }
    queue.iter().flatten().map(|owner| order[*owner].2).collect()
}
