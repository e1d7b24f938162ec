//! What is kept of a body: a window that bytes slide through.

use crate::ids::app::BodyView;

/// A body, decoded and decompressed.
#[derive(Debug, Default)]
pub struct Body {
    kept: Vec<u8>,
    /// Place of the first byte kept.
    start: u64,
    /// Up to where it was inspected.
    inspected: u64,
    /// Bytes so far, those not kept included.
    total: u64,
    /// Beyond the limit nothing is kept.
    is_full: bool,
    has_gaps: bool,
    /// It is sent as it is, in one piece.
    is_plain: bool,
}

impl Body {
    /// For detection; `None` while it has no byte. `is_open`: more may come.
    pub(crate) fn view(&self, is_open: bool) -> Option<BodyView<'_>> {
        (self.total > 0).then_some(BodyView {
            start: self.start,
            bytes: &self.kept,
            inspected: self.inspected,
            total: self.total,
            has_gaps: self.has_gaps,
            is_growing: is_open && !self.is_full,
            is_plain: self.is_plain && !self.has_gaps,
        })
    }

    /// Bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether bytes of the stream are missing in it.
    pub fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// Whether it has all that is inspected of it.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// More of it, of which what is within `limit` is kept.
    pub(super) fn push(&mut self, bytes: &[u8], limit: u64) {
        let room = limit.saturating_sub(self.total);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.make_room(fits);
        self.kept.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        self.total = self.total.saturating_add(bytes.len() as u64);
        self.is_full |= self.total >= limit;
        self.is_plain = false;
    }

    /// Grown by and by, a long body would be copied over and over.
    fn make_room(&mut self, more: usize) {
        let needed = self.kept.len() + more;
        if needed > self.kept.capacity()
            && let Some(room) = ROOMS.iter().find(|room| needed <= **room)
        {
            self.kept.reserve_exact(room - self.kept.len());
        }
    }

    /// More of one that is sent as it is, not in chunks nor compressed: bytes that were told just now.
    pub(super) fn push_plain(&mut self, bytes: &[u8], limit: u64) {
        let is_plain = self.is_plain || self.total == 0;
        self.push(bytes, limit);
        self.is_plain = is_plain;
    }

    /// Whether its bytes lie in the stream as they are, all of them so far.
    pub(super) fn is_plain_so_far(&self) -> bool {
        self.is_plain && !self.has_gaps
    }

    /// More of one that is sent as it is, which was looked at in the stream, but for its last `fresh` bytes: of what went by as much
    /// is kept as a window has, if the stream has it still.
    pub(super) fn catch_up(
        &mut self,
        (passed, fresh): (u32, u32),
        window: usize,
        fetch: impl FnOnce(u32, &mut Vec<u8>),
    ) {
        self.total += u64::from(passed);
        if self.is_full {
            return;
        }
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let wanted = passed.min(window.saturating_add(fresh));
        if wanted < passed {
            self.kept.clear();
        }
        self.make_room(wanted as usize);
        let before = self.kept.len();
        fetch(wanted, &mut self.kept);
        // What is gone leaves a hole: nothing before it stays.
        if self.kept.len() - before < wanted as usize {
            self.kept.drain(..before);
        }
        self.start = self.total - self.kept.len() as u64;
        self.inspected = self.total - u64::from(fresh);
    }

    /// So many bytes are missing: what was kept does not touch what comes.
    pub(super) fn skip(&mut self, bytes: u64, limit: u64) {
        self.has_gaps = true;
        if self.inspected == self.start + self.kept.len() as u64 {
            self.kept.clear();
            self.start = self.total.saturating_add(bytes);
            self.inspected = self.start;
        }
        self.total = self.total.saturating_add(bytes);
        self.is_full |= self.total >= limit;
    }

    /// It was inspected: only the last `window` bytes stay, for patterns across pieces, once there are [`BODY_WINDOWS`] of
    /// them: moving them costs their length.
    pub(crate) fn slide(&mut self, window: usize) {
        self.inspected = self.start + self.kept.len() as u64;
        let over = self.kept.len().saturating_sub(window);
        if over > 0 && over >= (BODY_WINDOWS - 1) * window {
            self.kept.drain(..over);
            self.start += over as u64;
            self.kept.shrink_to((BODY_WINDOWS * window).max(LONG));
        }
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.kept.capacity()
    }
}

/// A body's bytes slide when there are so many windows of them.
pub(crate) const BODY_WINDOWS: usize = 3;
/// Room that a body gets when it has grown out of the one before.
const ROOMS: [usize; 4] = [2 << 10, 6 << 10, 18 << 10, LONG];
/// Three windows of 16 KiB, and a segment.
const LONG: usize = 52 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inspected_slides_out_but_for_the_window() {
        let mut body = Body::default();
        body.push(&[b'a'; 100], 1000);
        body.slide(40);
        let view = body.view(true).unwrap();
        assert_eq!((view.start, view.bytes.len(), view.inspected), (0, 100, 100));
        body.push(&[b'a'; 20], 1000);
        body.slide(40);
        let view = body.view(true).unwrap();
        assert_eq!((view.start, view.bytes.len(), view.inspected), (80, 40, 120));
        body.push(b"b", 1000);
        assert_eq!(body.view(true).unwrap().bytes.len(), 41);
    }

    #[test]
    fn nothing_is_kept_beyond_the_limit() {
        let mut body = Body::default();
        body.push(&[b'a'; 100], 60);
        let view = body.view(true).unwrap();
        assert_eq!((view.bytes.len(), view.total, view.is_growing), (60, 100, false));
    }
}
