//! How bytes are told: what may be, and what is kept behind it.

use super::super::bytes::{Keep, Reach, Told, Watch};
use super::super::config::{Mode, Settings};
use super::super::connection::ASYNC;
use super::super::counters::Counter;
use super::super::event::{Event, Events};
use super::super::half::{Half, REACH, STOPPED, UNWATCHED};
use super::super::key::Side;
use super::super::segment::{before, earlier};
use super::super::state::TcpState;
use super::keep::depth_left;
use super::{Sink, StreamId, Streams};

impl Streams {
    /// Tells what may be told of a direction, and frees what need not be kept.
    #[inline]
    pub(super) fn tell(
        &mut self,
        id: StreamId,
        side: Side,
        events: &mut Events,
        sink: &mut impl Sink,
    ) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let connection = &mut stream.connection;
        if connection.state <= TcpState::SynSent {
            return;
        }
        let is_async = connection.has(ASYNC);
        let half = connection.half_mut(side);
        let taken = half.acked;
        // Nothing is held, and nothing is missing.
        if half.bytes.is_empty() && taken == half.bytes.next() {
            return;
        }
        let far = half.bytes.next().wrapping_add(REACH);
        let next = half.bytes.next();
        // What is missing at the end may still come: a mirror may show the acknowledgement first.
        let is_late = before(next.wrapping_add(LATE_MAX), taken);
        let tail = if is_late { taken } else { next };
        let held = half.bytes.held();
        // Nobody acknowledges, or a hole is not filled.
        let gives_up =
            held > self.settings.direction_bytes / 4 * 3 || (is_async && held > HOLE_MAX);
        let reach = match self.settings.mode {
            _ if gives_up => Reach { data: far, hole: far, tail },
            Mode::Passive if !is_async => Reach { data: taken, hole: taken, tail },
            _ => Reach { data: far, hole: taken, tail },
        };
        self.tell_to(id, side, reach, events, sink);
    }

    fn tell_to(
        &mut self,
        id: StreamId,
        side: Side,
        reach: Reach,
        events: &mut Events,
        sink: &mut impl Sink,
    ) {
        let settings = &self.settings;
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let half = stream.connection.half_mut(side);
        if half.has(STOPPED) {
            return;
        }
        let counters = &mut self.counters;
        let reach = within_depth(settings, half, reach);
        let is_watched = !half.has(UNWATCHED);
        let watch = if is_watched { Watch::Yes } else { Watch::No };
        half.bytes.tell(&self.store, reach, watch, |told| match told {
            Told::Data { offset, bytes } => {
                counters.add(Counter::ToldBytes, bytes.len() as u64);
                sink.data(id, side, offset, bytes);
            }
            Told::Gap { offset, length } => {
                counters.add(Counter::ReassemblyGap, 1);
                counters.add(Counter::GapBytes, length);
                events.add(Event::ReassemblySeqGap);
                sink.gap(id, side, offset, length);
            }
        });
        if settings.depth != 0 && half.bytes.told() >= settings.depth {
            events.add(Event::ReassemblyDepthReached);
            counters.add(Counter::StreamDepthReached, 1);
            half.mark(STOPPED);
        }
        let lost = half.bytes.release(&mut self.store, keep_of(settings, half));
        half.has_unshown |= lost > 0;
        counters.add(Counter::UnseenDropped, u64::from(lost));
    }

    /// Tells what has come of both directions up to their first holes, acknowledged or not.
    pub(super) fn tell_both(&mut self, id: StreamId, events: &mut Events, sink: &mut impl Sink) {
        for side in Side::BOTH {
            let Some(stream) = self.table.get(id.0) else { return };
            let half = stream.connection.half(side);
            let next = half.bytes.next();
            let reach = Reach { data: next.wrapping_add(REACH), hole: half.acked, tail: next };
            self.tell_to(id, side, reach, events, sink);
        }
    }

    /// Tells what has come of both directions up to their first holes, whoever acknowledged what.
    fn tell_whole(&mut self, id: StreamId, events: &mut Events, sink: &mut impl Sink) {
        for side in Side::BOTH {
            let Some(stream) = self.table.get(id.0) else { return };
            let next = stream.connection.half(side).bytes.next();
            let reach = Reach { data: next.wrapping_add(REACH), hole: next, tail: next };
            self.tell_to(id, side, reach, events, sink);
        }
    }

    /// Tells all that is left, acknowledged or not; but not of a SYN that nobody answered. First what both sides have before
    /// their holes: a parser that cannot go on behind one of them has then seen what there is of the other side.
    pub(super) fn tell_rest(&mut self, id: StreamId, events: &mut Events, sink: &mut impl Sink) {
        if self.table.get(id.0).is_some_and(|stream| stream.connection.state > TcpState::SynSent) {
            self.tell_whole(id, events, sink);
        }
        for side in Side::BOTH {
            let Some(stream) = self.table.get(id.0) else { return };
            if stream.connection.state <= TcpState::SynSent {
                return;
            }
            let half = stream.connection.half(side);
            let far = half.bytes.next().wrapping_add(REACH);
            let reach = Reach { data: far, hole: far, tail: half.acked };
            self.tell_to(id, side, reach, events, sink);
        }
    }
}

#[inline]
fn within_depth(settings: &Settings, half: &Half, reach: Reach) -> Reach {
    let left = depth_left(settings, half);
    if left >= i64::from(REACH) {
        return reach;
    }
    let end = half.bytes.next().wrapping_add(left as u32);
    let (data, hole, tail) = (earlier(reach.data, end), earlier(reach.hole, end), reach.tail);
    Reach { data, hole, tail: earlier(tail, end) }
}

/// What is kept of a direction behind what was told.
#[inline]
pub(super) fn keep_of(settings: &Settings, half: &Half) -> Keep {
    let next = half.bytes.next();
    let is_unacked = settings.mode == Mode::Inline && before(half.acked, next);
    let is_stopped = half.has(STOPPED);
    let is_watched = !half.has(UNWATCHED);
    Keep {
        least: if is_unacked && !is_stopped { next.wrapping_sub(half.acked) } else { 0 },
        history: if is_watched && !is_stopped {
            settings.history.max(u32::from(half.later))
        } else {
            0
        },
        unseen_max: if is_watched { settings.direction_bytes / 4 } else { 0 },
    }
}

/// Bytes behind a hole at which it is given up where nobody is seen to acknowledge it.
const HOLE_MAX: u32 = 64 << 10;
/// Bytes that are acknowledged and not there, and followed by none, at which they are given up.
const LATE_MAX: u32 = 64 << 10;
