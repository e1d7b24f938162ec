//! Time, which comes in from outside: the time-stamp counter in a run, the captures' stamps in a replay.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970. In a run they go on evenly from the start, whatever becomes of the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Nanoseconds from `earlier` to this; 0 when this is the earlier one.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time-stamp counter as a clock.
#[derive(Clone, Copy, Debug)]
pub struct Tsc {
    start: u64,
    /// Nanoseconds from 1970 to the start.
    since_1970: u64,
    /// Nanoseconds a cycle, as a fraction of 2^32.
    scale: u64,
}

impl Tsc {
    /// A clock that starts with the wall clock's time. EAL has started, which measured the counter.
    pub fn start() -> Self {
        let scale = (1_000_000_000u128 << 32) / u128::from(crate::dpdk::cycles_per_second());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_1970 = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        Self {
            start: crate::dpdk::cycles(),
            since_1970,
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
        }
    }

    /// The time now. Cost: 25 clocks.
    #[inline]
    pub fn now(&self) -> Time {
        let cycles = u128::from(crate::dpdk::cycles().wrapping_sub(self.start));
        let passed = u64::try_from((cycles * u128::from(self.scale)) >> 32).unwrap_or(u64::MAX);
        Time(self.since_1970.saturating_add(passed))
    }
}
