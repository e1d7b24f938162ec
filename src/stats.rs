//! The tables of a run, for the live view, the summary and `nfv ctl stats`: one way to show counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nfv_core::account::{Ledger, Totals};
use nfv_core::control::requests::CounterValue;

/// Counters at one time.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<CounterValue>);

impl Counters {
    /// The sums over the workers.
    pub fn of(ledger: &Ledger, totals: &Totals) -> Self {
        let value = |(c, value): (&nfv_core::account::Counter, u64)| CounterValue {
            metric: c.metric.to_owned(),
            labels: c.labels.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            value,
        };
        Self(totals.iter(ledger).map(value).collect())
    }

    /// As a run sent them.
    pub fn new(values: Vec<CounterValue>) -> Self {
        Self(values)
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let moved = |(now, was): (&CounterValue, &CounterValue)| CounterValue {
            value: now.value.saturating_sub(was.value),
            ..now.clone()
        };
        Self(self.0.iter().zip(&before.0).map(moved).collect())
    }

    /// The metric's counters with their labels' values, in order.
    fn of_metric(&self, metric: &str) -> impl Iterator<Item = (Vec<&str>, u64)> {
        let rows = self.0.iter().filter(move |c| c.metric == metric);
        rows.map(|c| (c.labels.iter().map(|(_, v)| v.as_str()).collect(), c.value))
    }

    fn value(&self, metric: &str, labels: &[&str]) -> u64 {
        self.of_metric(metric).find(|(l, _)| l == labels).map_or(0, |(_, v)| v)
    }
}

/// In which unit numbers are shown.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Since the start.
    Total,
    /// A second, of what was counted in so many.
    PerSecond(f64),
}

impl Unit {
    fn packets(self, n: u64) -> String {
        match self {
            Self::Total => grouped(n),
            Self::PerSecond(seconds) => scaled(n as f64 / seconds),
        }
    }

    fn bytes(self, n: u64) -> String {
        match self {
            Self::Total => scaled(n as f64) + "B",
            // What the wire takes besides, preamble, checksum and gap, is not counted.
            Self::PerSecond(seconds) => scaled(n as f64 * 8.0 / seconds) + "bit",
        }
    }
}

/// Tables of ports, chains, functions and drops, without those that have no row.
pub fn tables(counters: &Counters, unit: Unit) -> String {
    let mut text = String::new();
    let per = if matches!(unit, Unit::Total) { "" } else { "/s" };
    let head = |name: &str| format!("{name}{per}");
    let mut ports =
        Table::new(&["port", &head("received"), "", &head("sent"), "", &head("dropped")]);
    for (labels, received) in counters.of_metric("received_packets") {
        let port = labels.first().copied().unwrap_or_default();
        let at = [port];
        let get = |metric| counters.value(metric, &at);
        let full = counters.value("dropped_packets", &[port, "tx_full"]);
        ports.row([
            port.to_owned(),
            unit.packets(received),
            unit.bytes(get("received_bytes")),
            unit.packets(get("sent_packets")),
            unit.bytes(get("sent_bytes")),
            unit.packets(full),
        ]);
    }
    let mut chains = Table::new(&["chain", &head("packets"), ""]);
    for (labels, packets) in counters.of_metric("chain_packets").filter(|(_, n)| *n > 0) {
        let bytes = counters.value("chain_bytes", &labels);
        chains.row([labels.join(" "), unit.packets(packets), unit.bytes(bytes)]);
    }
    let mut functions = Table::new(&["function", &head("packets"), "", "clocks/packet"]);
    for (labels, packets) in counters.of_metric("nf_packets").filter(|(_, n)| *n > 0) {
        let [bytes, cycles] = ["nf_bytes", "nf_cycles"].map(|m| counters.value(m, &labels));
        let each = format!("{:.0}", cycles as f64 / packets as f64);
        functions.row([labels.join(" "), unit.packets(packets), unit.bytes(bytes), each]);
    }
    for (labels, n) in counters.of_metric("nf_counter").filter(|(_, n)| *n > 0) {
        functions.row([
            format!("  {}", labels.join(" ")),
            unit.packets(n),
            String::new(),
            String::new(),
        ]);
    }
    let mut drops = Table::new(&["dropped", &head("packets")]);
    for (labels, n) in counters.of_metric("dropped_packets").filter(|(_, n)| *n > 0) {
        drops.row([labels.join(" "), unit.packets(n)]);
    }
    let kernel: BTreeMap<&str, &str> =
        [("to_kernel_packets", "to the kernel"), ("from_kernel_packets", "from the kernel")].into();
    let mut others = Table::new(&["kernel", &head("packets")]);
    for (metric, name) in kernel {
        for (labels, n) in counters.of_metric(metric).filter(|(_, n)| *n > 0) {
            others.row([format!("{} {name}", labels.join(" ")), unit.packets(n)]);
        }
    }
    for table in [ports, chains, functions, others, drops] {
        table.print(&mut text);
    }
    text
}

/// A table whose first column is text, and whose others are numbers.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|h| (*h).to_owned()).collect()])
    }

    fn row<const N: usize>(&mut self, row: [String; N]) {
        self.0.push(row.into());
    }

    /// Adds it to `to`, unless it has a head only.
    fn print(&self, to: &mut String) {
        let rows = if self.0.len() > 1 { self.0.as_slice() } else { &[] };
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                let _ = match column {
                    0 => write!(to, "{cell:<NAME$}"),
                    _ => write!(to, "{cell:>NUMBER$}"),
                };
            }
            to.push('\n');
        }
    }
}

const NAME: usize = 32;
const NUMBER: usize = 15;

/// `12.3 M`; below 1,000 as it is.
fn scaled(n: f64) -> String {
    let (mut n, mut at) = (n, 0);
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    while n >= 999.5 && at + 1 < UNITS.len() {
        n /= 1000.0;
        at += 1;
    }
    let digits = match n {
        _ if at == 0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.digits$} {}", UNITS.get(at).copied().unwrap_or_default())
}

/// `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        let all = [0.0, 7.0, 999.0, 1000.0, 1234.0, 12_345.0, 999_950.0, 1.5e9, 2e18];
        let shown = all.map(|n| scaled(n).trim_end().to_owned());
        assert_eq!(
            shown,
            ["0", "7", "999", "1.00 k", "1.23 k", "12.3 k", "1.00 M", "1.50 G", "2000 P"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_has_a_row_for_each_port_and_none_for_what_did_not_happen() {
        let counter = |metric: &str, labels: &[(&str, &str)], value| CounterValue {
            metric: metric.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            value,
        };
        let reason = |why| [("nf", "edge"), ("reason", why)];
        let before = Counters::new(vec![
            counter("received_packets", &[("port", "lan")], 10),
            counter("dropped_packets", &reason("no_rule"), 10),
            counter("dropped_packets", &reason("rule_denied"), 3),
        ]);
        let mut now = before.clone();
        now.0.iter_mut().take(2).for_each(|c| c.value += 5000);
        let text = tables(&now.since(&before), Unit::PerSecond(2.0));
        let words: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(
            words,
            [
                vec!["port", "received/s", "sent/s", "dropped/s"],
                vec!["lan", "2.50", "k", "0", "bit", "0", "0", "bit", "0"],
                vec!["dropped", "packets/s"],
                vec!["edge", "no_rule", "2.50", "k"],
            ]
        );
    }
}
