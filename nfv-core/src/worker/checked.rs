//! Tags are believed as long as none was seen to be wrong: one packet in so many is classified by software, too.

use super::Own;
use crate::burst::Burst;
use crate::dispatch::{Measured, TagCheck};

impl Own {
    /// Looks at a packet of a burst when it is time to; where the NIC is not trusted its tags are taken off.
    ///
    /// Cost: a subtraction a burst.
    #[inline]
    pub(super) fn check_tags(&mut self, check: &TagCheck, burst: &mut Burst) {
        if check.is_trusted() {
            let count = u32::try_from(burst.len()).unwrap_or(u32::MAX);
            match self.unchecked.checked_sub(count) {
                Some(left) => self.unchecked = left,
                None => self.look_at_tag(check, burst),
            }
        }
        if !check.is_trusted() {
            burst.take_marks_off();
        }
    }

    /// Notes by which queue the packets of a burst came, that of this worker: the first ones all, then one of a burst.
    pub(super) fn measure(&mut self, measured: &Measured, burst: &Burst) {
        if !measured.is_wanted() {
            return;
        }
        let (at, count) = if measured.is_new() {
            (0, usize::MAX)
        } else {
            self.turn = self.turn.wrapping_add(1);
            (self.turn as usize % burst.len().max(1), 1)
        };
        for (packet, headers) in burst.both().skip(at).take(count) {
            measured.add(headers, packet.rss_hash(), self.seat.index);
        }
    }

    #[cold]
    fn look_at_tag(&mut self, check: &TagCheck, burst: &Burst) {
        self.unchecked = check.every();
        if check.every() == 0 {
            // Never, or as good as.
            self.unchecked = u32::MAX;
            return;
        }
        // Another place in the burst each time.
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn as usize % burst.len().max(1);
        if let Some((packet, headers)) = burst.both().nth(at) {
            check.look(packet.mark(), headers);
        }
    }
}
