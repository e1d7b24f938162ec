//! What was counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::json::Object;

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

impl Stats {
    pub(super) fn write(&self, o: &mut Object<'_>) {
        // One name may come from several workers.
        let mut sums: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        for (name, count) in &self.counters {
            let sum = sums.entry(name.split('.').collect()).or_default();
            *sum = sum.saturating_add(*count);
        }
        let rows: Vec<(&[&str], u64)> = sums.iter().map(|(name, sum)| (&name[..], *sum)).collect();
        o.object("stats", |o| {
            o.number("uptime", self.uptime);
            write_level(&rows, 0, o);
        });
    }
}

/// The rows that agree in their first `depth` words, sorted. A name that others go on from is left out.
fn write_level(rows: &[(&[&str], u64)], depth: usize, o: &mut Object<'_>) {
    let word = |row: &(&[&str], u64)| row.0.get(depth).copied().unwrap_or_default().to_owned();
    for rows in rows.chunk_by(|one, other| word(one) == word(other)) {
        let is_last = |row: &(&[&str], u64)| row.0.len() == depth + 1;
        match rows {
            [row] if is_last(row) => o.number(&word(row), row.1),
            [row, ..] if depth < DEEPEST => {
                let key = word(row);
                let below = if is_last(row) { rows.get(1..).unwrap_or_default() } else { rows };
                o.object(&key, |o| write_level(below, depth + 1, o));
            }
            _ => {}
        }
    }
}

/// Names are ours, and none is deeper.
const DEEPEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::eve::json::object;

    #[test]
    fn dots_make_objects_and_the_same_name_is_summed() {
        let counters = [("tcp.syn", 1), ("decoder.pkts", 5), ("tcp.syn", 2), ("a.b.c", 1)];
        let counters = counters.map(|(name, count)| (Cow::Borrowed(name), count)).to_vec();
        let mut out = Vec::new();
        object(&mut out, |o| Stats { uptime: 3, counters }.write(o));
        let expected =
            r#"{"stats":{"uptime":3,"a":{"b":{"c":1}},"decoder":{"pkts":5},"tcp":{"syn":3}}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
