//! SYNs and SYN-ACKs that came besides the first, while it is open which of them counts.
//!
//! Who does not see the hosts cannot know which of two SYN-ACKs the client got; its ACK tells. So the others are kept, a few
//! of them a connection, until then.

use super::pool::{Pool, Slot};
use super::segment::Segment;

/// What a SYN or SYN-ACK offered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    link: u32,
    pub(super) seq: u32,
    pub(super) window: u16,
    scale: u8,
    is_stamped: bool,
    stamp: u32,
}

impl Slot for Offer {
    fn link(&self) -> u32 {
        self.link
    }
    fn set_link(&mut self, next: u32) {
        self.link = next;
    }
}

impl Offer {
    fn of(segment: &Segment<'_>) -> Self {
        Self {
            link: 0,
            seq: segment.seq,
            window: segment.window,
            scale: segment.scale.unwrap_or(NO_SCALE),
            is_stamped: segment.timestamp.is_some(),
            stamp: segment.timestamp.unwrap_or_default(),
        }
    }

    /// The segment that it was of, as far as it matters.
    pub(super) fn segment(&self) -> Segment<'static> {
        Segment {
            seq: self.seq,
            window: self.window,
            scale: Some(self.scale).filter(|scale| *scale != NO_SCALE),
            timestamp: Some(self.stamp).filter(|_| self.is_stamped),
            ..Segment::default()
        }
    }
}

/// The offers of all connections.
#[derive(Debug)]
pub(super) struct Offers {
    pool: Pool<Offer>,
    /// Most of a connection.
    most: u8,
}

impl Offers {
    pub(super) fn new(bytes: usize, most: u8) -> Self {
        Self { pool: Pool::new(bytes), most }
    }

    pub(super) fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    /// Adds one to a connection's unless it is there. False: there are as many as may be.
    pub(super) fn add(&mut self, head: &mut u32, segment: &Segment<'_>) -> bool {
        let (mut at, mut count) = (*head, 0);
        while let Some(offer) = self.pool.get(at) {
            if offer.seq == segment.seq {
                return true;
            }
            at = offer.link;
            count += 1;
        }
        if count >= self.most {
            return false;
        }
        let Some(number) = self.pool.take() else { return false };
        if let Some(slot) = self.pool.get_mut(number) {
            *slot = Offer { link: *head, ..Offer::of(segment) };
        }
        *head = number;
        true
    }

    /// The one whose bytes start at a number.
    pub(super) fn find(&self, head: u32, next: u32) -> Option<Offer> {
        let mut at = head;
        while let Some(offer) = self.pool.get(at) {
            if offer.seq.wrapping_add(1) == next {
                return Some(*offer);
            }
            at = offer.link;
        }
        None
    }

    /// Forgets a connection's.
    #[inline]
    pub(super) fn clear(&mut self, head: &mut u32) {
        while let Some(offer) = self.pool.get(*head) {
            let behind = offer.link;
            self.pool.give(*head);
            *head = behind;
        }
        *head = 0;
    }
}

const NO_SCALE: u8 = 0xff;
