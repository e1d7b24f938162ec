//! One direction of a connection: its numbers and its bytes.

use super::bytes::Bytes;
use super::policy::OverlapPolicy;
use super::segment::{Segment, before, later};

/// One direction: what a side sends, and how far the other side has taken it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Half {
    pub(super) bytes: Bytes,
    /// Number of the SYN.
    pub(super) isn: u32,
    /// Behind the last byte that was sent.
    pub(super) next: u32,
    /// What the other side expects next, as far as it has said.
    pub(super) acked: u32,
    /// Where the window ends that the other side gave.
    pub(super) edge: u32,
    /// That window, scaled.
    pub(super) window: u32,
    /// The sender's clock, of the last segment in order.
    pub(super) stamp: u32,
    /// When that was seen, in ticks.
    pub(super) stamped_at: u32,
    /// Number of the FIN.
    pub(super) fin: u32,
    /// Bytes behind what was told that are kept for who fetches them.
    pub(super) later: u16,
    /// How the receiver treats overlaps.
    pub(super) policy: OverlapPolicy,
    /// The shift of the sender's windows.
    pub(super) scale: u8,
    /// [`SEEN`] and others.
    pub(super) marks: u8,
    /// Urgent bytes that were left out.
    pub(super) urgent: u8,
    /// Bytes were given up that were told and that no window has shown.
    pub(super) has_unshown: bool,
}

impl Half {
    #[inline]
    pub(super) fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    #[inline]
    pub(super) fn mark(&mut self, mark: u8) {
        self.marks |= mark;
    }

    /// Starts with a SYN, or as if one had been there with the number before `next`.
    pub(super) fn start(&mut self, isn: u32) {
        let next = isn.wrapping_add(1);
        (self.isn, self.next, self.acked, self.edge) = (isn, next, next, next);
        self.bytes = Bytes::starting(next);
    }

    /// Notes a SYN's options.
    pub(super) fn read_syn(&mut self, segment: &Segment<'_>, tick: u32) {
        self.mark(SEEN | SYN_SEEN);
        self.marks &= !(SCALED | STAMPED);
        if let Some(scale) = segment.scale {
            self.scale = scale;
            self.mark(SCALED);
        }
        if let Some(stamp) = segment.timestamp {
            (self.stamp, self.stamped_at) = (stamp, tick);
            self.mark(STAMPED);
        }
    }

    /// Whether the other side can have sent this number as what it expects next.
    #[inline]
    pub(super) fn takes_ack(&self, ack: u32, slack: u32) -> bool {
        let most = later(self.edge, self.next).wrapping_add(slack);
        let least = self.acked.wrapping_sub(self.window.max(ACK_AGE) + slack);
        !before(most, ack) && !before(ack, least)
    }

    /// Whether a segment that ends there is within the window. A window of 0 is probed with a byte.
    #[inline]
    pub(super) fn takes_end(&self, segment: &Segment<'_>, slack: u32) -> bool {
        let probe = u32::from(self.edge == self.acked);
        let fin = segment.end().wrapping_sub(segment.seq) - segment.length;
        !before(self.edge.wrapping_add(slack + probe + fin), segment.end())
            && !before(segment.seq, self.acked.wrapping_sub(REACH))
    }

    /// Whether the sender's clock has not gone back (RFC 7323, section 5).
    #[inline]
    pub(super) fn takes_stamp(&self, segment: &Segment<'_>, tick: u32) -> bool {
        let Some(stamp) = segment.timestamp.filter(|_| self.has(STAMPED)) else { return true };
        // Linux takes one that is older by one.
        let slack = match self.policy {
            OverlapPolicy::Linux | OverlapPolicy::Vista => 1,
            _ => 0,
        };
        !before(stamp.wrapping_add(slack), self.stamp)
            || tick.wrapping_sub(self.stamped_at) > STAMP_AGE
    }

    /// Notes that the other side expects a number next, and gives a window from there. Returns how many bytes it has
    /// taken that were never seen.
    #[inline]
    pub(super) fn acknowledge(&mut self, ack: u32, window: u32) -> u32 {
        let mut unseen = 0;
        if before(self.acked, ack) {
            self.acked = ack;
            if before(self.next, ack) {
                unseen = ack.wrapping_sub(self.next);
                self.next = ack;
            }
        }
        if ack == self.acked {
            self.window = window;
            self.edge = later(self.edge, ack.wrapping_add(window));
        }
        unseen
    }

    /// Takes what was sent to be acknowledged, as acknowledgements pass by, and a window to be given from there.
    pub(super) fn trust(&mut self) {
        self.edge = later(self.edge, self.next.wrapping_add(self.window.max(ACK_AGE)));
    }

    /// Notes what was sent.
    #[inline]
    pub(super) fn send(&mut self, segment: &Segment<'_>, tick: u32) {
        self.next = later(self.next, segment.end());
        if let Some(stamp) = segment.timestamp
            && !before(self.acked, segment.seq)
        {
            if !self.has(STAMPED) || before(self.stamp, stamp) {
                (self.stamp, self.stamped_at) = (stamp, tick);
            }
            self.mark(STAMPED);
        }
    }

    /// Bytes that it sent.
    pub(super) fn sent(&self) -> u32 {
        let fin = u32::from(self.has(FINISHED) && before(self.fin, self.next));
        self.next.wrapping_sub(self.isn).wrapping_sub(1 + fin)
    }

    /// Whether its FIN is acknowledged.
    #[inline]
    pub(super) fn is_fin_taken(&self) -> bool {
        self.has(FINISHED) && before(self.fin, self.acked)
    }
}

/// A segment of the side was seen.
pub(super) const SEEN: u8 = 1;
/// Its SYN was.
pub(super) const SYN_SEEN: u8 = 2;
/// Its FIN was.
pub(super) const FINISHED: u8 = 4;
/// Its windows are scaled, if the other side's are.
pub(super) const SCALED: u8 = 8;
/// It sends timestamps.
pub(super) const STAMPED: u8 = 16;
/// Its bytes are not kept any more: enough were.
pub(super) const STOPPED: u8 = 32;
/// No windows are wanted.
pub(super) const UNWATCHED: u8 = 64;
/// It has sent a RST that was taken.
pub(super) const RESET: u8 = 128;

/// Farthest that numbers are compared: a window's largest size.
pub(super) const REACH: u32 = 1 << 30;
/// How old an acknowledgement may be where the window is small.
const ACK_AGE: u32 = 1 << 20;
/// Ticks for which a clock is believed not to have gone round: 24 days.
const STAMP_AGE: u32 = ((24 * 86_400 * 1_000_000_000u64) >> super::TICK_BITS) as u32;
