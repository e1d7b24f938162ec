//! Header prediction (Van Jacobson, 1990): the short way of a segment that is what was expected.
//!
//! Of an open connection the next segment is, most likely, the next bytes or an acknowledgement, with nothing odd about it.
//! Whatever else it is, nothing is done here, and it goes the long way. A segment that goes this way leaves behind what it would
//! have left on the long way, but for memory: what it acknowledges is freed a little later.

use arrayvec::ArrayVec;
use nfv_core::clock::Time;

use super::super::config::{Mode, Settings};
use super::super::counters::Counter;
use super::super::half::{Half, STOPPED, UNWATCHED};
use super::super::key::Side;
use super::super::segment::Segment;
use super::super::store::{LARGE, Run, Store};
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
        release(&self.settings, connection.half_mut(side.other()), &mut self.store);
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
        release(&self.settings, connection.half_mut(side), &mut self.store);
        self.counters.add(Counter::ToldBytes, payload.len() as u64);
        self.table.touch(id.0, tick);
        Some(was_seen)
    }

    /// Takes those of a row of segments of one direction, the first ones, that are expected, inline, and shows their bytes to
    /// `sees_nothing`, by stretches that lie in a row, each behind the last bytes before it. Returns how many were taken; none,
    /// and nothing was done, where it says of one that it sees something.
    ///
    /// # Cost
    /// One copy, and some 15 ns a segment.
    pub fn expect_train<'p>(
        &mut self,
        id: StreamId,
        side: Side,
        train: impl Iterator<Item = Segment<'p>>,
        now: Time,
        ahead: Ahead,
        sees_nothing: impl FnMut(&[u8]) -> bool,
    ) -> usize {
        let tick = tick(now);
        let Self { settings, table, store, counters, .. } = self;
        let Some(stream) = table.get_mut(id.0) else { return 0 };
        let connection = &mut stream.connection;
        let was = *connection;
        let mut stretches = Stretches::new();
        let mut taken = 0;
        for segment in train.take(STRETCHES_MAX) {
            let half = connection.half(side);
            let length = segment.payload.len();
            let fits = match length {
                0 => half.bytes.unseen() == 0,
                _ => takes(settings, half, length) && store.has_room_for(length),
            };
            if !fits || !connection.expects(&segment, side, tick) {
                break;
            }
            if length > 0 {
                let half = connection.half_mut(side);
                let added = half.bytes.append(store, segment.payload, ahead.reach);
                let Some(()) = added.and_then(|added| lengthen(&mut stretches, added)) else {
                    break;
                };
                half.bytes.pass_seen();
                half.later = half.later.saturating_add(length as u16).min(ahead.kept);
            }
            connection.go_on(&segment, side, tick);
            taken += 1;
        }
        if !stretches.iter().map(|stretch| store.run(*stretch)).all(sees_nothing) {
            let mut bytes = connection.half(side).bytes;
            bytes.take_back(store, &was.half(side).bytes);
            *connection = was;
            connection.half_mut(side).bytes = bytes;
            return 0;
        }
        let told = connection.half(side).bytes.told() - was.half(side).bytes.told();
        for half in &mut connection.halves {
            release(settings, half, store);
        }
        counters.add(Counter::ToldBytes, told);
        table.touch(id.0, tick);
        taken
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

/// Frees what need not be kept, once it is enough.
#[inline]
fn release(settings: &Settings, half: &mut Half, store: &mut Store) {
    let keep = keep_of(settings, half);
    if half.bytes.surplus(keep) > SURPLUS_MAX {
        half.bytes.release(store, keep);
    }
}

/// Notes where bytes were added: behind the last stretch, or as one of their own.
#[inline]
fn lengthen(stretches: &mut Stretches, added: Run) -> Option<()> {
    match stretches.last_mut() {
        Some(last) if last.block == added.block => last.end = added.end,
        _ => stretches.try_push(added).ok()?,
    }
    Some(())
}

/// Where the bytes of a train lie.
type Stretches = ArrayVec<Run, STRETCHES_MAX>;

/// Segments of a train that are taken at most: each may lie by itself.
const STRETCHES_MAX: usize = 32;
/// Bytes that are kept longer than they must be.
const SURPLUS_MAX: u32 = 8 << 10;
