//! Next hops: one word each, so that a worker reads a whole one while the control side changes it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::port_index::PortIndex;

/// A next hop by its place in the table of hops; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HopId(pub u32);

impl HopId {
    /// No hop: no route, or nobody asked for one.
    pub const NONE: Self = Self(0);
}

/// What becomes of a packet at a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// There is no route.
    None,
    /// It leaves by a port, to this MAC address.
    Neighbour {
        /// The port.
        port: PortIndex,
        /// The neighbour's MAC address.
        mac: [u8; 6],
    },
    /// It would leave by a port, to a neighbour whose MAC address is not known.
    Unresolved {
        /// The port.
        port: PortIndex,
    },
    /// It is for the box itself.
    Local,
    /// It is dropped without a word.
    Blackhole,
    /// It is dropped, and the sender is told that the host is unreachable.
    Unreachable,
    /// It is dropped, and the sender is told that this is forbidden.
    Prohibited,
}

impl Hop {
    /// `[used: 1][kind: 7][port: 8][mac: 48]`.
    fn word(self) -> u64 {
        let word = |kind: u8, PortIndex(port): PortIndex, mac: [u8; 6]| {
            let [a, b, c, d, e, f] = mac;
            u64::from_be_bytes([kind, port, a, b, c, d, e, f])
        };
        let nowhere = |kind| word(kind, PortIndex(0), [0; 6]);
        match self {
            Self::None => nowhere(0),
            Self::Neighbour { port, mac } => word(1, port, mac),
            Self::Unresolved { port } => word(2, port, [0; 6]),
            Self::Local => nowhere(3),
            Self::Blackhole => nowhere(4),
            Self::Unreachable => nowhere(5),
            Self::Prohibited => nowhere(6),
        }
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        let [kind, port, mac @ ..] = (word & !USED).to_be_bytes();
        let port = PortIndex(port);
        match kind {
            1 => Self::Neighbour { port, mac },
            2 => Self::Unresolved { port },
            3 => Self::Local,
            4 => Self::Blackhole,
            5 => Self::Unreachable,
            6 => Self::Prohibited,
            _ => Self::None,
        }
    }
}

/// All hops, by id.
#[derive(Debug)]
pub(super) struct Hops(Box<[AtomicU64]>);

impl Hops {
    /// All of them [`Hop::None`].
    pub fn new() -> Self {
        Self((0..HOPS_MAX).map(|_| AtomicU64::new(0)).collect())
    }

    /// As [`Hops::get`], by a worker that sends a packet there: the hop is marked as used. Cost: one load; a store once
    /// in each time that [`Hops::take_used`] is called.
    #[inline]
    pub fn use_hop(&self, HopId(id): HopId) -> Hop {
        let Some(word) = self.0.get(id as usize) else { return Hop::None };
        let seen = word.load(Ordering::Relaxed);
        if seen & USED == 0 {
            word.fetch_or(USED, Ordering::Relaxed);
        }
        Hop::from_word(seen)
    }

    /// The hops of the first `count` that were used since the last call.
    pub fn take_used(&self, count: u32) -> impl Iterator<Item = HopId> {
        let used = |w: &AtomicU64| w.fetch_and(!USED, Ordering::Relaxed) & USED != 0;
        (0..=count).zip(&self.0).filter(move |(_, w)| used(w)).map(|(id, _)| HopId(id))
    }

    /// Cost: one load.
    #[inline]
    pub fn get(&self, HopId(id): HopId) -> Hop {
        self.0.get(id as usize).map_or(Hop::None, |w| Hop::from_word(w.load(Ordering::Relaxed)))
    }

    /// Workers see it within the time that a store takes to reach them.
    pub fn set(&self, HopId(id): HopId, hop: Hop) {
        if let Some(word) = self.0.get(id as usize) {
            word.store(hop.word(), Ordering::Relaxed);
        }
    }
}

const USED: u64 = 1 << 63;
/// Neighbours and routes' ends that there can be.
pub(super) const HOPS_MAX: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_read_as_it_was_written() {
        let (port, mac) = (PortIndex(7), [2, 3, 4, 5, 6, 0xff]);
        for hop in [
            Hop::None,
            Hop::Neighbour { port, mac },
            Hop::Unresolved { port },
            Hop::Local,
            Hop::Blackhole,
            Hop::Unreachable,
            Hop::Prohibited,
        ] {
            assert_eq!(Hop::from_word(hop.word()), hop);
            assert_eq!(Hop::from_word(hop.word() | USED), hop);
        }
    }

    #[test]
    fn a_hop_that_was_used_is_told_once() {
        let hops = Hops::new();
        hops.set(HopId(2), Hop::Local);
        assert_eq!(hops.use_hop(HopId(2)), Hop::Local);
        assert_eq!(hops.use_hop(HopId(2)), Hop::Local);
        assert_eq!(hops.take_used(9).collect::<Vec<_>>(), [HopId(2)]);
        assert_eq!(hops.take_used(9).count(), 0);
        assert_eq!(hops.get(HopId(2)), Hop::Local);
    }
}
