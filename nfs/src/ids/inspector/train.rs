//! Packet trains (Jain and Routhier, 1986): segments of one direction that come one behind the other are looked at together.
//!
//! ```text
//!   burst:   a a a a b a a      headers alike, numbers in a row          [a a a a] [b] [a a]
//!   train:   one flow, one prediction, one look for patterns over all of it   --> none: each is taken, and passes
//!                                                                             --> some: each for itself, as if alone
//! ```
//!
//! What a receive offload does for a kernel (GRO), without making one packet of them: each is taken by itself, and says what it
//! would say alone. A sender's window comes as a train, and so do its receiver's acknowledgements.

use arrayvec::ArrayVec;
use nfv_core::clock::Time;
use nfv_core::packet::checksum::Sum;
use nfv_core::packet::{L3, protocol};

use super::counters::Counter;
use super::decode::{Decoded, Ip, Start, Upper};
use super::flow::{Flow, FlowPhase, PASSES_BY, one_of};
use super::predicted::stream_side;
use super::settings::Checksums;
use super::tcp::sum_of_pseudo_header;
use super::worker::Level;
use super::{Inspector, Recorder, Seen};
use crate::ids::buffer::Side;
use crate::ids::detect::Plan;
use crate::ids::stream::{Ahead, Segment, StreamId};

/// Segments that may be looked at together.
#[derive(Clone, Debug, Default)]
pub struct Train<'p> {
    frames: ArrayVec<&'p [u8], CARS_MAX>,
    shape: Shape,
}

/// Where a frame's parts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Where the TCP header begins.
    tcp: usize,
    /// Where the payload begins.
    payload: usize,
}

/// The first of these frames, as far as they are a train.
///
/// # Cost
/// Some 10 ns a frame.
#[inline]
pub fn train_of<'p>(mut frames: impl Iterator<Item = &'p [u8]>) -> Train<'p> {
    let mut train = Train::default();
    let Some((mut last, shape)) = frames.next().and_then(|first| Some((first, Shape::of(first)?)))
    else {
        return train;
    };
    train.shape = shape;
    train.frames.push(last);
    for next in frames {
        if !shape.are_in_a_row(last, next) || train.frames.try_push(next).is_err() {
            break;
        }
        last = next;
    }
    train
}

impl Train<'_> {
    /// Segments of it.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }
}

impl Shape {
    /// That of a frame that can be one of a train: TCP in IP without IP's options or extension headers, an acknowledgement and
    /// nothing else.
    #[inline]
    fn of(frame: &[u8]) -> Option<Self> {
        let tcp = match frame.get(12..24)? {
            [0x08, 0x00, 0x45, _, _, _, _, _, _, _, _, protocol::TCP] => 34,
            [0x86, 0xdd, version, _, _, _, _, _, protocol::TCP, ..] if version >> 4 == 6 => 54,
            _ => return None,
        };
        // No options, or a timestamp as all hosts write it.
        let payload = match (frame.get(tcp + 12)? >> 4, frame.get(tcp + 20..tcp + 24)) {
            (5, _) => tcp + 20,
            (8, Some([1, 1, 8, 10])) => tcp + 32,
            _ => return None,
        };
        let shape = Self { tcp, payload };
        shape.end(frame).map(|_| shape)
    }

    /// Whether two frames, the first of this shape, are of one direction, and the second has the bytes behind those of the first.
    #[inline]
    fn are_in_a_row(self, first: &[u8], second: &[u8]) -> bool {
        let same = |from: usize, to: usize| first.get(from..to) == second.get(from..to);
        // Type, class and addresses; IPv4's identification, lengths and sums are each one's own.
        let are_alike = match self.tcp {
            34 => same(12, 16) && same(20, 24) && same(26, 38),
            _ => same(12, 18) && same(20, 58),
        };
        let has_shape = match self.payload - self.tcp {
            20 => second.get(self.tcp + 12).is_some_and(|offset| offset >> 4 == 5),
            _ => Self::of(second) == Some(self),
        };
        let follows = || {
            let length = self.end(first)? - self.payload;
            let number = self.number(first)?.wrapping_add(length as u32);
            Some(self.end(second).is_some() && number == self.number(second)?)
        };
        are_alike && has_shape && follows() == Some(true)
    }

    /// Where the payload ends: behind it may be what fills a frame up. `None`: it is not there in whole, or no plain one.
    #[inline]
    fn end(self, frame: &[u8]) -> Option<usize> {
        let (length_at, header) = if self.tcp == 34 { (16, 14) } else { (18, 54) };
        let [high, low] = *frame.get(length_at..)?.first_chunk()?;
        let end = header + usize::from(u16::from_be_bytes([high, low]));
        let is_plain = frame.get(self.tcp + 13)? & !PUSH == ACK;
        (is_plain && (self.payload..=frame.len()).contains(&end)).then_some(end)
    }

    fn number(self, frame: &[u8]) -> Option<u32> {
        frame.get(self.tcp + 4..)?.first_chunk().map(|number| u32::from_be_bytes(*number))
    }

    /// A frame's TCP header and payload.
    #[inline]
    fn tcp<'p>(self, frame: &'p [u8]) -> &'p [u8] {
        self.end(frame).and_then(|end| frame.get(self.tcp..end)).unwrap_or_default()
    }

    #[inline]
    fn payload<'p>(self, frame: &'p [u8]) -> &'p [u8] {
        self.tcp(frame).get(self.payload - self.tcp..).unwrap_or_default()
    }

    /// Whether a frame's checksums are right. `ip`: a header with the same addresses.
    #[inline]
    fn is_right(self, frame: &[u8], ip: &Ip<'_>) -> bool {
        let (header, tcp) = (frame.get(14..34).unwrap_or_default(), self.tcp(frame));
        let is_right = ip.kind == L3::Ipv6 || Sum::of(header).is_right();
        is_right && sum_of_pseudo_header(ip, tcp.len() as u32).plus(Sum::of(tcp)).is_right()
    }
}

/// What is known of the flow of a train.
struct Known {
    number: u32,
    side: Side,
    stream: StreamId,
    plan: Option<Plan>,
    ahead: Ahead,
    /// Fewer bytes than these need not be known to the application at once.
    left: u32,
}

impl Inspector {
    /// Inspects a train. `seen`: its first packet. Returns how many of them, the first ones, have been taken, and pass; and how
    /// many of those behind them are to be inspected by themselves before another train begins.
    ///
    /// # Cost
    /// Of a segment of 1,460 bytes some 100 ns less than by itself, and where it is not taken 50 ns more.
    pub fn train(
        &mut self,
        seen: &Seen<'_>,
        train: &Train<'_>,
        recorder: &mut impl Recorder,
    ) -> (usize, usize) {
        let tunnels = &self.settings.tunnels;
        let decoded = Decoded::of(Start::Ethernet, seen.frame, seen.wire_length, tunnels);
        let is_odd = !decoded.remarks.names().is_empty() || decoded.carried.is_some();
        if is_odd || !matches!(decoded.upper, Upper::Tcp { .. }) {
            return (0, 1);
        }
        self.begin(seen.time, recorder);
        let level = Level::of_frame(seen, &decoded);
        let Some(known) = self.known(&level) else { return (0, 1) };
        let expected = self.expected_ones(&known, &level, train);
        if expected < 2 {
            return (0, 1);
        }
        let frames = train.frames.get(..expected).unwrap_or_default();
        match self.take(&known, frames, train.shape, seen.time) {
            // What has a pattern in it is looked at by itself.
            0 => (0, expected),
            taken => {
                self.count(&level, taken as u64);
                self.count_taken(
                    &known,
                    &level,
                    frames.get(..taken).unwrap_or_default(),
                    train.shape,
                );
                (taken, (expected - taken).min(1))
            }
        }
    }

    /// The flow of a train, if something of it is expected.
    fn known(&self, level: &Level<'_>) -> Option<Known> {
        let (number, from) = self.known_flow(level)?;
        let flow = self.flows.get(number)?;
        let side = flow.side_of(from);
        let predicted = flow.predicted.get(side.index()).filter(|p| p.is_quiet)?;
        if flow.predicted_by != self.generation || is_let_go(flow, side) {
            return None;
        }
        let kept = if predicted.keeps { self.kept_for_bodies() } else { Some(0) };
        let plan = predicted.plan.filter(|_| kept.is_some());
        let reach = self.detector.reach(side, plan);
        let ahead = Ahead { reach: reach.unwrap_or(0), kept: kept.unwrap_or(0) };
        let plan = plan.filter(|_| reach.is_some());
        Some(Known { number, side, stream: flow.stream()?, plan, ahead, left: predicted.left })
    }

    /// How many of a train, the first ones, need no more than what was predicted, and have right checksums.
    fn expected_ones(&self, known: &Known, level: &Level<'_>, train: &Train<'_>) -> usize {
        let Some(ip) = level.decoded.ip.as_ref() else { return 0 };
        let checks = self.settings.checksums == Checksums::Validate;
        let mut left = u64::from(known.left);
        let is_expected = |frame: &&&[u8]| {
            let length = train.shape.payload(frame).len() as u64;
            let fits = length == 0 || (known.plan.is_some() && length < left);
            left = left.saturating_sub(length);
            fits && (!checks || train.shape.is_right(frame, ip))
        };
        train.frames.iter().take_while(is_expected).count()
    }

    /// Takes frames, the first ones, that are what was expected. Returns how many; none, and nothing was done, where some pattern
    /// is in them, or in them and what is before them.
    fn take(&mut self, known: &Known, frames: &[&[u8]], shape: Shape, now: Time) -> usize {
        let Self { streams, detector, .. } = self;
        let side = known.side;
        if let Some(plan) = known.plan {
            let mut payloads = frames.iter().map(|frame| shape.payload(frame));
            if !payloads.all(|payload| detector.packet_sees_nothing(plan, payload)) {
                return 0;
            }
        }
        let segments = frames.iter().map_while(|frame| {
            let tcp = shape.tcp(frame);
            Segment::read(tcp, tcp.len() as u32)
        });
        let sees_nothing = |bytes: &[u8]| {
            known.plan.is_none_or(|plan| detector.stream_sees_nothing(side, plan, bytes))
        };
        let (id, ahead) = (known.stream, known.ahead);
        streams.expect_train(id, stream_side(side), segments, now, ahead, sees_nothing)
    }

    fn count_taken(&mut self, known: &Known, level: &Level<'_>, taken: &[&[u8]], shape: Shape) {
        let bytes: usize = taken.iter().map(|frame| frame.len()).sum();
        let payload: usize = taken.iter().map(|frame| shape.payload(frame).len()).sum();
        let flags = taken.iter().filter_map(|frame| frame.get(shape.tcp + 13));
        let flags = flags.fold(0, |all, flags| all | flags);
        let counts = (taken.len() as u32, payload as u32, bytes as u64);
        self.count_predicted(known.number, known.side, counts, level.seen.time, flags);
        // Of frames themselves.
        self.counters.add(Counter::Bytes, bytes as u64);
        self.counters.add(Counter::Ethernet, taken.len() as u64);
    }
}

/// Whether nobody looks at a side of a flow any more.
fn is_let_go(flow: &Flow, side: Side) -> bool {
    flow.phase == FlowPhase::Bypassed || flow.has(one_of(PASSES_BY, side))
}

/// Segments of a train.
const CARS_MAX: usize = 32;
const ACK: u8 = 16;
const PUSH: u8 = 8;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    /// Segments of one direction, each behind the one before.
    fn row(payloads: &[&[u8]], change: impl Fn(usize, &mut Vec<u8>)) -> Vec<Vec<u8>> {
        let mut number = u32::MAX - 5;
        let frame = |(at, payload): (usize, &&[u8])| {
            let ends = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let mut frame = Vec::new();
            let ip = ends.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
            ip.tcp(80, 4000, number, 64).ack(7).write(&mut frame, payload).unwrap();
            number = number.wrapping_add(payload.len() as u32);
            change(at, &mut frame);
            frame
        };
        payloads.iter().enumerate().map(frame).collect()
    }

    fn length(frames: &[Vec<u8>]) -> usize {
        train_of(frames.iter().map(Vec::as_slice)).len()
    }

    #[test]
    fn segments_in_a_row_are_a_train_round_the_end_of_numbers_and_padded_too() {
        let payloads: [&[u8]; 5] = [b"twelve bytes", b"", b"", b"more", b""];
        assert_eq!(length(&row(&payloads, |_, _| {})), 5);
        let padded = row(&payloads, |_, frame| frame.resize(frame.len().max(60), 0));
        assert_eq!(length(&padded), 5);
        let six = |at: usize| {
            let (mut frame, number) = (Vec::new(), 100 + 4 * at as u32);
            let ends = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64);
            ends.tcp(80, 4000, number, 64).ack(7).write(&mut frame, b"four").unwrap();
            frame
        };
        assert_eq!(length(&[six(0), six(1), six(2), six(4)]), 3);
    }

    #[test]
    fn what_is_not_alike_ends_a_train() {
        let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
        let with = |at: usize, to: u8| {
            let change = move |n: usize, frame: &mut Vec<u8>| {
                if n == 1 {
                    frame[at] ^= to;
                }
            };
            length(&row(&payloads, change))
        };
        // Class, fragment, life, protocol, addresses, ports, number, options, flags.
        for at in [15, 20, 22, 23, 26, 33, 35, 37, 41, 46, 47] {
            assert_eq!(with(at, 1 << 5), 1, "byte {at}");
        }
        // Identification, checksums, what is acknowledged, the window, the payload.
        for at in [18, 24, 42, 48, 50, 54] {
            assert_eq!(with(at, 1), 3, "byte {at}");
        }
        assert_eq!(length(&row(&payloads, |_, frame| frame.truncate(56))), 0, "one that was cut");
        assert_eq!(length(&[]), 0);
    }
}
