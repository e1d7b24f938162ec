//! How a segment's payload is kept: as far as the depth lets it, and the budgets.

use super::super::bytes::{Inserted, Judge};
use super::super::config::{Mode, Settings, Urgent};
use super::super::counters::{Counter, Counters};
use super::super::event::{Event, Events};
use super::super::half::{Half, REACH, STOPPED};
use super::super::key::Side;
use super::super::segment::{Segment, URG};
use super::super::store::Store;
use super::Streams;

impl Streams {
    /// Keeps a segment's payload, as far as the depth and the budgets let it.
    #[inline]
    pub(super) fn keep(
        &mut self,
        number: u32,
        side: Side,
        segment: &Segment<'_>,
        events: &mut Events,
    ) -> Inserted {
        let seq = segment.data_seq();
        let Some(stream) = self.table.get(number) else { return Inserted::default() };
        let half = stream.connection.half(side);
        let ahead = seq.wrapping_sub(half.bytes.next()).cast_signed();
        let room = depth_left(&self.settings, half).saturating_sub(i64::from(ahead)).max(0);
        let payload = segment.payload;
        let payload = payload.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(payload);
        if half.has(STOPPED) || payload.is_empty() {
            return Inserted::default();
        }
        if ahead.unsigned_abs() > REACH {
            events.add(Event::ReassemblyInsertInvalid);
            return Inserted::default();
        }
        if half.bytes.held() as usize + payload.len() > self.settings.direction_bytes as usize
            && !self.makes_room(number, side, payload.len())
        {
            self.counters.add(Counter::SegmentMemcapDrop, 1);
            events.add(Event::ReassemblyInsertLimit);
            return Inserted::default();
        }
        if !self.store.has_room_for(payload.len()) {
            self.shed(payload.len());
        }
        let Some(stream) = self.table.get_mut(number) else { return Inserted::default() };
        let half = stream.connection.half_mut(side);
        let judge = match self.settings.mode {
            Mode::Inline => Judge::Passed,
            Mode::Passive => Judge::Receiver(half.policy),
        };
        let done = match urgent_byte(segment, &self.settings) {
            None => half.bytes.insert(&mut self.store, seq, payload, judge),
            Some(at) => {
                let (store, counters) = (&mut self.store, &mut self.counters);
                insert_around(half, store, counters, (seq, payload, at), judge, events)
            }
        };
        self.count_insert(done, events);
        done
    }

    /// Has a direction that holds all that it may give up what was told and is only kept. Whether that helps.
    #[cold]
    fn makes_room(&mut self, number: u32, side: Side, length: usize) -> bool {
        let Some(stream) = self.table.get_mut(number) else { return false };
        let bytes = &mut stream.connection.half_mut(side).bytes;
        let unseen = bytes.forget_told(&mut self.store);
        self.counters.add(Counter::UnseenDropped, u64::from(unseen));
        bytes.held() as usize + length <= self.settings.direction_bytes as usize
    }

    fn count_insert(&mut self, done: Inserted, events: &mut Events) {
        if done.is_before {
            events.add(Event::ReassemblySegmentBeforeBaseSeq);
        }
        if done.overlaps {
            self.counters.add(Counter::Overlap, 1);
        }
        if done.differs {
            self.counters.add(Counter::OverlapDiffData, 1);
            events.add(Event::ReassemblyOverlapDifferentData);
        }
        if done.refused > 0 {
            self.counters.add(Counter::SegmentMemcapDrop, 1);
            events.add(Event::ReassemblyInsertMemcap);
            events.add(Event::ReassemblyNoSegment);
        }
    }

    /// Makes room for a segment's bytes: of the connections that were idle the longest, first what was told and is only
    /// kept, then what waits.
    #[cold]
    fn shed(&mut self, length: usize) {
        for _ in 0..SHED_MAX {
            let victim = self.table.oldest_holder();
            let Some(stream) = self.table.get_mut(victim) else { return };
            let mut unseen = 0;
            for half in &mut stream.connection.halves {
                unseen += half.bytes.forget_told(&mut self.store);
            }
            self.counters.add(Counter::UnseenDropped, u64::from(unseen));
            if !self.store.has_room_for(length) {
                let waiting = stream.connection.halves.iter_mut();
                let shed: u32 = waiting.map(|half| half.bytes.forget(&mut self.store)).sum();
                self.counters.add(Counter::ShedBytes, u64::from(shed));
                self.counters.add(Counter::ShedStreams, 1);
            }
            self.table.set_holding(victim);
            if self.store.has_room_for(length) {
                return;
            }
        }
    }
}

/// Bytes that a direction may still have, from the one that is told next.
pub(super) fn depth_left(settings: &Settings, half: &Half) -> i64 {
    match settings.depth {
        0 => i64::MAX,
        depth => i64::try_from(depth.saturating_sub(half.bytes.told())).unwrap_or(i64::MAX),
    }
}

/// Where the byte is that the receiver's application does not read in order: the one before where the urgent pointer
/// leads (RFC 6093, section 3.1).
#[inline]
fn urgent_byte(segment: &Segment<'_>, settings: &Settings) -> Option<usize> {
    if !segment.has(URG) || settings.urgent == Urgent::Inline {
        return None;
    }
    usize::from(segment.urgent).checked_sub(1).filter(|at| *at < segment.payload.len())
}

/// Keeps a payload without its byte `at`.
fn insert_around(
    half: &mut Half,
    store: &mut Store,
    counters: &mut Counters,
    (seq, payload, at): (u32, &[u8], usize),
    judge: Judge,
    events: &mut Events,
) -> Inserted {
    if half.urgent >= URGENT_MAX {
        events.add(Event::ReassemblyUrgentOobLimitReached);
        return half.bytes.insert(store, seq, payload, judge);
    }
    let (front, rest) = payload.split_at(at.min(payload.len()));
    let middle = seq.wrapping_add(front.len() as u32);
    let mut done = half.bytes.insert(store, seq, front, judge);
    if half.bytes.leave_out(store, middle) {
        half.urgent += 1;
        counters.add(Counter::UrgentOobData, 1);
    }
    let behind = rest.get(1..).unwrap_or_default();
    let last = half.bytes.insert(store, middle.wrapping_add(1), behind, judge);
    done.stored += last.stored;
    done.refused += last.refused;
    done.is_before &= last.is_before;
    done.overlaps |= last.overlaps;
    done.differs |= last.differs;
    done
}

/// Connections that one segment may take the bytes of.
const SHED_MAX: usize = 16;
/// Urgent bytes that are left out of a direction.
const URGENT_MAX: u8 = 64;
