//! Header prediction (Van Jacobson, 1990): the short way of a segment that is what was expected.
//!
//! Of an open connection the next segment is, most likely, the next bytes or an acknowledgement, with nothing odd about it.
//! Whatever else it is, nothing is done here, and it goes the long way. A segment that goes this way leaves behind what it would
//! have left on the long way, but for memory: what it acknowledges is freed a little later.

use nfv_core::clock::Time;

use super::super::config::{Mode, Settings};
use super::super::counters::Counter;
use super::super::half::{Half, STOPPED, UNWATCHED};
use super::super::key::Side;
use super::super::segment::Segment;
use super::super::store::LARGE;
use super::keep::depth_left;
use super::tell::keep_of;
use super::{StreamId, Streams, tick};

/// How the next bytes of a direction are taken.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// Bytes before them that are shown again, if there are as many.
    pub reach: usize,
    /// So many of the last bytes are kept for who fetches them later: with [`Streams::fetch`].
    pub kept: u16,
}

impl Streams {
    /// Follows an acknowledgement without a payload, inline. False: it is none that was expected, and nothing was done.
    pub fn expect_ack(
        &mut self,
        id: StreamId,
        side: Side,
        segment: &Segment<'_>,
        now: Time,
    ) -> bool {
        let tick = tick(now);
        let Some(stream) = self.table.get_mut(id.0) else { return false };
        let connection = &mut stream.connection;
        if !connection.expects(segment, side, tick) || connection.half(side).bytes.unseen() > 0 {
            return false;
        }
        connection.go_on(segment, side, tick);
        let other = connection.half_mut(side.other());
        let keep = keep_of(&self.settings, other);
        if other.bytes.surplus(keep) > SURPLUS_MAX {
            other.bytes.release(&mut self.store, keep);
        }
        self.table.touch(id.0, tick);
        true
    }

    /// Takes a payload that is next, inline, and shows it to `look`, behind the last bytes before it. `look` says whether it was
    /// looked at; if not, windows show it. `None`: it is none that was expected, and nothing was done.
    ///
    /// # Cost
    /// One copy, and some 30 ns.
    pub fn expect_data(
        &mut self,
        id: StreamId,
        side: Side,
        segment: &Segment<'_>,
        now: Time,
        ahead: Ahead,
        look: impl FnOnce(&[u8]) -> bool,
    ) -> Option<bool> {
        let tick = tick(now);
        let payload = segment.payload;
        let stream = self.table.get_mut(id.0)?;
        let connection = &mut stream.connection;
        if !connection.expects(segment, side, tick) || !self.store.has_room_for(payload.len()) {
            return None;
        }
        let half = connection.half_mut(side);
        if !takes(&self.settings, half, payload.len()) {
            return None;
        }
        let added = half.bytes.append(&mut self.store, payload, ahead.reach)?;
        let was_seen = look(self.store.run(added));
        if was_seen {
            half.bytes.pass_seen();
        }
        half.later = half.later.saturating_add(payload.len() as u16).min(ahead.kept);
        connection.go_on(segment, side, tick);
        let half = connection.half_mut(side);
        let keep = keep_of(&self.settings, half);
        if half.bytes.surplus(keep) > SURPLUS_MAX {
            half.bytes.release(&mut self.store, keep);
        }
        self.counters.add(Counter::ToldBytes, payload.len() as u64);
        self.table.touch(id.0, tick);
        Some(was_seen)
    }

    /// Adds the last `reach` bytes that were told of a direction to `to`, or all that there were. False: they are not there in a row
    /// that [`Streams::expect_data`] would show.
    pub fn last(&self, id: StreamId, side: Side, reach: usize, to: &mut Vec<u8>) -> bool {
        let last = self
            .table
            .get(id.0)
            .and_then(|stream| stream.connection.half(side).bytes.last(&self.store, reach));
        last.inspect(|bytes| to.extend_from_slice(bytes)).is_some()
    }

    /// The last `most` bytes that were told of a direction, or those that are there, in order: what [`Ahead::kept`] was for. They
    /// are not kept any longer.
    pub fn fetch(&mut self, id: StreamId, side: Side, most: u32, mut show: impl FnMut(&[u8])) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let half = stream.connection.half_mut(side);
        half.later = 0;
        half.bytes.each_told(&self.store, most, &mut show);
    }
}

/// Whether a direction takes a payload that is next without further ado.
#[inline]
fn takes(settings: &Settings, half: &Half, length: usize) -> bool {
    settings.mode == Mode::Inline
        && !half.has(STOPPED | UNWATCHED)
        && half.bytes.unseen() == 0
        && depth_left(settings, half) > length as i64
        && half.bytes.held() as usize + length + LARGE <= settings.direction_bytes as usize
}

/// Bytes that are kept longer than they must be.
const SURPLUS_MAX: u32 = 8 << 10;
