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
use nfv_core::packet::{AddressBytes, Headers, L3, NO_VLAN, protocol};

use super::counters::Counter;
use super::flow::{Flow, FlowKey, FlowPhase, PASSES_BY, one_of};
use super::predicted::stream_side;
use super::settings::Checksums;
use super::{Inspector, Recorder};
use crate::ids::buffer::Side;
use crate::ids::detect::Plan;
use crate::ids::stream::{Ahead, End, Key, Segment, StreamId};

/// Segments that may be looked at together.
#[derive(Clone, Debug, Default)]
pub struct Train<'p> {
    cars: ArrayVec<Car<'p>, CARS_MAX>,
    shape: Shape,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Car<'p> {
    frame: &'p [u8],
    /// Where its payload ends: behind it may be what fills a frame up.
    end: usize,
}

/// Where the parts of a frame are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    /// The TCP header.
    tcp: usize,
    /// The payload.
    payload: usize,
}

/// The first of these frames, as far as they are a train.
///
/// # Cost
/// Some 5 ns a frame.
#[inline]
pub fn train_of<'p>(mut frames: impl Iterator<Item = &'p [u8]>) -> Train<'p> {
    let mut train = Train::default();
    let Some((first, shape)) = frames.next().and_then(Shape::of) else { return train };
    train.shape = shape;
    train.cars.push(first);
    let mut last = first;
    for frame in frames {
        let Some(next) = shape.next(last, frame) else { break };
        if train.cars.try_push(next).is_err() {
            break;
        }
        last = next;
    }
    train
}

impl Train<'_> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.cars.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cars.is_empty()
    }

    /// The ends of its flow, and which one sent it.
    fn key(&self) -> Option<(FlowKey, End)> {
        let frame = self.cars.first()?.frame;
        let port = |at: usize| word(frame, self.shape.tcp + at).map(u16::from_be_bytes);
        let (kind, src, dst) = match self.shape.tcp {
            TCP_BEHIND_IPV4 => {
                let four = |at: usize| word::<4>(frame, at).map(AddressBytes::of_v4);
                (L3::Ipv4, four(26)?, four(30)?)
            }
            _ => (L3::Ipv6, AddressBytes(word(frame, 22)?), AddressBytes(word(frame, 38)?)),
        };
        let (sport, dport) = (port(0)?, port(2)?);
        let headers = Headers { src, dst, sport, dport, kind, vlan: NO_VLAN, ..Headers::default() };
        let (ends, from) = Key::of(&headers, 0);
        Some((FlowKey { ends, protocol: protocol::TCP }, from))
    }
}

impl Shape {
    /// Of a frame that can be one of a train: TCP in IP without IP's options or extension headers and in one piece, an
    /// acknowledgement and nothing else.
    #[inline]
    fn of(frame: &[u8]) -> Option<(Car<'_>, Self)> {
        let tcp = match word::<12>(frame, 12)? {
            [0x08, 0x00, 0x45, _, _, _, _, _, 0x00 | 0x40, 0, _, protocol::TCP] => TCP_BEHIND_IPV4,
            [0x86, 0xdd, version, _, _, _, _, _, protocol::TCP, ..] if version >> 4 == 6 => {
                TCP_BEHIND_IPV6
            }
            _ => return None,
        };
        // No options, or a timestamp as all hosts write it.
        let payload = match word(frame, tcp + 12)? {
            [offset] if offset >> 4 == 5 => tcp + 20,
            [offset] if offset >> 4 == 8 && word(frame, tcp + 20) == Some([1, 1, 8, 10]) => {
                tcp + 32
            }
            _ => return None,
        };
        let shape = Self { tcp, payload };
        Some((shape.car(frame)?, shape))
    }

    /// A frame that has this shape, if it is an acknowledgement and nothing else, and all there.
    #[inline]
    fn car(self, frame: &[u8]) -> Option<Car<'_>> {
        let (length_at, header) = if self.tcp == TCP_BEHIND_IPV4 { (16, 14) } else { (18, 54) };
        let end = header + usize::from(u16::from_be_bytes(word(frame, length_at)?));
        let [flags] = word(frame, self.tcp + 13)?;
        let is_whole = (self.payload..=frame.len()).contains(&end);
        (flags & !PUSH == ACK && is_whole).then_some(Car { frame, end })
    }

    /// A frame of this shape and of the direction of another one, whose bytes are those behind the other's.
    #[inline]
    fn next<'p>(self, last: Car<'_>, frame: &'p [u8]) -> Option<Car<'p>> {
        let next = self.car(frame)?;
        let first = last.frame;
        // Type, class and addresses; IPv4's identification, lengths and sums are each one's own.
        let are_alike = match self.tcp {
            TCP_BEHIND_IPV4 => {
                same::<4>(first, frame, 12)
                    && same::<4>(first, frame, 20)
                    && same::<12>(first, frame, 26)
            }
            _ => same::<6>(first, frame, 12) && same::<38>(first, frame, 20),
        };
        // The length of the TCP header, and the timestamp's kind.
        let has_shape = same::<1>(first, frame, self.tcp + 12)
            && (self.payload == self.tcp + 20 || same::<4>(first, frame, self.tcp + 20));
        let length = (last.end - self.payload) as u32;
        let is_next = self.number(last)?.wrapping_add(length) == self.number(next)?;
        (are_alike && has_shape && is_next).then_some(next)
    }

    #[inline]
    fn number(self, car: Car<'_>) -> Option<u32> {
        word(car.frame, self.tcp + 4).map(u32::from_be_bytes)
    }

    /// The TCP header and the payload.
    #[inline]
    fn tcp<'p>(self, car: &Car<'p>) -> &'p [u8] {
        car.frame.get(self.tcp..car.end).unwrap_or_default()
    }

    #[inline]
    fn payload<'p>(self, car: &Car<'p>) -> &'p [u8] {
        car.frame.get(self.payload..car.end).unwrap_or_default()
    }

    /// What TCP's checksum covers of the addresses, and the protocol.
    fn sum_of_ends(self, car: &Car<'_>) -> Sum {
        let ends = if self.tcp == TCP_BEHIND_IPV4 { 26..34 } else { 22..54 };
        Sum::of(car.frame.get(ends).unwrap_or_default())
            .plus(Sum::of_words(&[protocol::TCP.into()]))
    }

    /// Whether the checksums are right. `ends`: [`Shape::sum_of_ends`].
    #[inline]
    fn is_right(self, car: &Car<'_>, ends: Sum) -> bool {
        let tcp = self.tcp(car);
        let has_right_header = || car.frame.get(14..34).is_some_and(|ip| Sum::of(ip).is_right());
        let length = Sum::of_words(&[tcp.len() as u16]);
        (self.tcp == TCP_BEHIND_IPV6 || has_right_header())
            && ends.plus(length).plus(Sum::of(tcp)).is_right()
    }
}

/// Bytes at a place.
#[inline(always)]
fn word<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

/// Whether two frames have the same bytes at a place.
#[inline(always)]
fn same<const N: usize>(one: &[u8], other: &[u8], at: usize) -> bool {
    word::<N>(one, at) == word(other, at)
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
    /// Inspects a train, at `now`. Returns how many of it, the first ones, have been taken, and pass; and how many of those behind
    /// them are to be inspected by themselves before another train begins.
    ///
    /// # Cost
    /// Of a segment of 1,460 bytes some 150 ns less than by itself, and where it is not taken 50 ns more.
    pub fn train(
        &mut self,
        train: &Train<'_>,
        now: Time,
        recorder: &mut impl Recorder,
    ) -> (usize, usize) {
        self.begin(now, recorder);
        let Some(known) = self.known(train) else { return (0, 1) };
        let expected = self.expected_ones(&known, train);
        let cars = train.cars.get(..expected).filter(|cars| cars.len() > 1);
        let Some(cars) = cars else { return (0, 1) };
        match self.take(&known, cars, train.shape) {
            // Where a pattern is, each is looked at by itself.
            0 => (0, expected),
            taken => {
                self.count_train(&known, cars.get(..taken).unwrap_or_default(), train.shape);
                (taken, (expected - taken).min(1))
            }
        }
    }

    /// The flow of a train, if something of it is expected.
    fn known(&self, train: &Train<'_>) -> Option<Known> {
        let (key, from) = train.key()?;
        let number = self.flows.find(&key);
        if number == 0 || self.flows.is_over(number, self.now) {
            return None;
        }
        let flow = self.flows.get(number)?;
        let side = flow.side_of(from);
        let predicted = flow.predicted.get(side.index()).filter(|p| p.is_quiet)?;
        if flow.predicted_by != self.generation || is_let_go(flow, side) {
            return None;
        }
        let kept = if predicted.keeps { self.kept_for_bodies(side) } else { Some(0) };
        let plan = predicted.plan.filter(|_| kept.is_some());
        let reach = self.detector.reach(side, plan);
        let ahead = Ahead { reach: reach.unwrap_or(0), kept: kept.unwrap_or(0) };
        let plan = plan.filter(|_| reach.is_some());
        Some(Known { number, side, stream: flow.stream()?, plan, ahead, left: predicted.left })
    }

    /// How many of a train, the first ones, need no more than what was predicted, and have right checksums.
    fn expected_ones(&self, known: &Known, train: &Train<'_>) -> usize {
        let shape = train.shape;
        let checks = self.settings.checksums == Checksums::Validate;
        let ends = train.cars.first().map(|first| shape.sum_of_ends(first)).unwrap_or_default();
        let mut left = u64::from(known.left);
        let is_expected = |car: &&Car<'_>| {
            let length = shape.payload(car).len() as u64;
            let fits = length == 0 || (known.plan.is_some() && length < left);
            left = left.saturating_sub(length);
            fits && (!checks || shape.is_right(car, ends))
        };
        train.cars.iter().take_while(is_expected).count()
    }

    /// Takes those, the first ones, that are what was expected. Returns how many; none, and nothing was done, where some pattern
    /// is in them, or in them and what is before them.
    fn take(&mut self, known: &Known, cars: &[Car<'_>], shape: Shape) -> usize {
        let Self { streams, detector, now, .. } = self;
        let side = known.side;
        let mut payloads = cars.iter().map(|car| shape.payload(car));
        if let Some(plan) = known.plan
            && !payloads.all(|payload| detector.packet_sees_nothing(plan, payload))
        {
            return 0;
        }
        let segments = cars.iter().map_while(|car| {
            let tcp = shape.tcp(car);
            Segment::read(tcp, tcp.len() as u32)
        });
        let sees_nothing = |bytes: &[u8]| {
            known.plan.is_none_or(|plan| detector.stream_sees_nothing(side, plan, bytes))
        };
        let (id, ahead) = (known.stream, known.ahead);
        streams.expect_train(id, stream_side(side), segments, *now, ahead, sees_nothing)
    }

    fn count_train(&mut self, known: &Known, taken: &[Car<'_>], shape: Shape) {
        let (mut bytes, mut payload, mut flags) = (0, 0, 0);
        for car in taken {
            bytes += car.frame.len() as u64;
            payload += (car.end - shape.payload) as u32;
            flags |= word(car.frame, shape.tcp + 13).map_or(0, |[flags]| flags);
        }
        let (packets, now) = (taken.len() as u32, self.now);
        self.count_predicted(known.number, known.side, (packets, payload, bytes), now, flags);
        let version = if shape.tcp == TCP_BEHIND_IPV4 { Counter::Ipv4 } else { Counter::Ipv6 };
        for counter in [Counter::Packets, version, Counter::Tcp, Counter::Ethernet] {
            self.counters.add(counter, packets.into());
        }
        self.counters.add(Counter::Bytes, bytes);
    }
}

/// Whether nobody looks at a side of a flow any more.
fn is_let_go(flow: &Flow, side: Side) -> bool {
    flow.phase == FlowPhase::Bypassed || flow.has(one_of(PASSES_BY, side))
}

/// Where TCP begins in a frame, behind headers without options or extensions.
const TCP_BEHIND_IPV4: usize = 34;
const TCP_BEHIND_IPV6: usize = 54;
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
