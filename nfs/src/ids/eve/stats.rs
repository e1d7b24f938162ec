//! What was counted.

use std::borrow::Cow;

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Seconds since the start.
    pub uptime: u64,
    /// Counters by their names, dots between objects: `tcp.sessions`. The log adds its own.
    pub counters: Vec<(Cow<'static, str>, u64)>,
}

impl Stats {
    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        let of_name = |name: &Cow<'static, str>| match name {
            Cow::Borrowed(_) => 0,
            Cow::Owned(name) => name.capacity(),
        };
        let counters = self.counters.iter();
        size_of::<Self>()
            + counters
                .map(|(name, _)| of_name(name) + size_of::<(Cow<'_, str>, u64)>())
                .sum::<usize>()
    }
}
