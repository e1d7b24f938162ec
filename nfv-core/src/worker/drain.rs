//! When a queue has nothing left of what came before its NIC's table was rewritten.
//!
//! A driver's count of used descriptors cannot be trusted, so what is seen counts: the queue was empty, some time after the
//! rewriting; or, where it never is, as much has come of it as its ring and the NIC hold.

use super::Own;
use crate::clock::Time;
use crate::nf::PortIndex;

/// Queues of a worker that are looked at.
#[derive(Debug)]
pub struct Drain {
    queues: Vec<Queue>,
    since: Option<Time>,
}

#[derive(Debug)]
struct Queue {
    port: PortIndex,
    /// Packets that may still be of the time before.
    left: usize,
}

impl Drain {
    /// Of these ports' queues, with the descriptors of their rings.
    pub fn of(queues: impl IntoIterator<Item = (PortIndex, u16)>) -> Self {
        let queue =
            |(port, ring): (PortIndex, u16)| Queue { port, left: usize::from(ring) + INSIDE_MAX };
        Self { queues: queues.into_iter().map(queue).collect(), since: None }
    }

    /// A look at `now`, or after it, found so many packets.
    pub(super) fn saw(&mut self, port: PortIndex, packets: usize, now: Time) {
        let since = *self.since.get_or_insert(now);
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.port == port) else { return };
        queue.left = match packets {
            0 if now.since(since) >= SETTLES => 0,
            n => queue.left.saturating_sub(n),
        };
    }

    fn is_done(&self) -> bool {
        self.queues.iter().all(|queue| queue.left == 0)
    }
}

impl Own {
    /// Begins to look where there is something to look at; gives it back when all is seen.
    pub(super) fn drain(&mut self, order: &mut Option<Box<Drain>>) {
        if let Some(drain) = order.take() {
            self.drain = Some(drain);
        }
        if self.drain.as_ref().is_some_and(|drain| drain.is_done()) {
            *order = self.drain.take();
        }
    }
}

/// After so long what a NIC had inside of it is in the ring, unless that was full.
const SETTLES: u64 = 100_000;
/// Packets that a NIC holds in front of a ring that is full: 512 KiB of the shortest.
const INSIDE_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortIndex = PortIndex(1);

    fn after(looks: &[(u64, usize)]) -> bool {
        let mut drain = Drain::of([(PORT, 512)]);
        looks.iter().for_each(|(now, packets)| drain.saw(PORT, *packets, Time(*now)));
        drain.is_done()
    }

    #[test]
    fn a_queue_that_was_empty_a_while_after_the_rewriting_has_nothing_left() {
        assert!(!after(&[]));
        assert!(!after(&[(1000, 0), (50_000, 0)]), "what is inside of the NIC may still come");
        assert!(!after(&[(1000, 0), (101_000, 3)]));
        assert!(after(&[(1000, 0), (101_000, 3), (101_500, 0)]));
    }

    #[test]
    fn one_that_is_never_empty_has_nothing_left_once_as_much_has_come_as_there_is_room_for() {
        let looks = |n: u64| (0..n).map(|i| (i, 32)).collect::<Vec<_>>();
        assert!(!after(&looks(271)));
        assert!(after(&looks(272)));
    }
}
