//! What passed between two boxes, counted by each worker for itself and shown to the operator together.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's counts of one peer: only it writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    cells: [AtomicU64; COUNTS.len()],
}

/// What is counted of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Bytes of datagrams towards it, as their hosts sent them.
    Offered,
    /// Bytes of what became of them.
    Sent,
    /// Bytes of those that were references.
    Copied,
    /// Bytes of messages from it.
    Received,
    /// Bytes of the datagrams that came out of them.
    Restored,
    /// Messages that did not come out.
    Undecodable,
    /// Hellos and reports sent and received.
    Talk,
}

/// Their names, in order.
const COUNTS: &[&str] =
    &["offered", "sent", "copied", "received", "restored", "undecodable", "talk"];

impl Counts {
    /// Adds, as the one writer.
    #[inline]
    pub fn add(&self, count: Count, n: usize) {
        if let Some(cell) = self.cells.get(count as usize) {
            let sum = cell.load(Ordering::Relaxed).wrapping_add(n as u64);
            cell.store(sum, Ordering::Relaxed);
        }
    }
}

/// A line for a peer: its name, its address, what was counted, and what is left of a hundred bytes.
pub fn line(name: &str, address: IpAddr, workers: &[Counts]) -> String {
    let sum = |at: usize| -> u64 {
        let cells = workers.iter().filter_map(|w| w.cells.get(at));
        cells.map(|cell| cell.load(Ordering::Relaxed)).sum()
    };
    let mut line = format!("{name} {address}");
    for (at, name) in COUNTS.iter().enumerate() {
        let _ = write!(line, " {name}={}", sum(at));
    }
    let share = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    let (offered, sent) = (sum(Count::Offered as usize), sum(Count::Sent as usize));
    let (received, restored) = (sum(Count::Received as usize), sum(Count::Restored as usize));
    let _ = write!(line, " out={:.1}% in={:.1}%", share(sent, offered), share(received, restored));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_sums_over_the_workers_and_what_is_left_of_a_hundred_bytes() {
        let workers = [Counts::default(), Counts::default()];
        for worker in &workers {
            worker.add(Count::Offered, 500);
            worker.add(Count::Sent, 100);
        }
        let line = line("b", [10, 0, 0, 2].into(), &workers);
        assert_eq!(
            line,
            "b 10.0.0.2 offered=1000 sent=200 copied=0 received=0 restored=0 undecodable=0 talk=0 out=20.0% in=0.0%"
        );
    }
}
