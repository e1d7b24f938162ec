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
        self.kept.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        self.total = self.total.saturating_add(bytes.len() as u64);
        self.is_full |= self.total >= limit;
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

    /// It was inspected: only the last `window` bytes stay, for patterns across pieces.
    pub(crate) fn slide(&mut self, window: usize) {
        self.inspected = self.start + self.kept.len() as u64;
        let over = self.kept.len().saturating_sub(window);
        // Moving the rest costs its length: only when as much goes as stays.
        if over > 0 && over >= window {
            self.kept.drain(..over);
            self.start += over as u64;
            self.kept.shrink_to(2 * window);
        }
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inspected_slides_out_but_for_the_window() {
        let mut body = Body::default();
        body.push(&[b'a'; 100], 1000);
        body.slide(40);
        let view = body.view(true).unwrap();
        assert_eq!((view.start, view.bytes.len(), view.inspected), (60, 40, 100));
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
