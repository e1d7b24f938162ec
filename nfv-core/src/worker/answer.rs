//! Tells the sender of a dropped packet why, by an ICMP error: off the packet path, and never more than a budget.

use super::Own;
use crate::chain::compile::Plan;
use crate::clock::Time;
use crate::dpdk::Packet;
use crate::nf::{OUTBOX_MAX, PortIndex};
use crate::packet::{Headers, ICMP_ERROR_MAX, IcmpError, icmp_error};

/// How many answers a worker may still send (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    since: Time,
}

impl Budget {
    pub fn full() -> Self {
        Self { left: BURST, since: Time(0) }
    }

    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.since) / INTERVAL;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            // What is left of an interval counts for the next one, unless the time began just now.
            let last = self.since.0.saturating_add(earned.saturating_mul(INTERVAL));
            self.since = Time(last.min(now.0));
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl Own {
    /// Sends an error about a packet back by the port that received it, if its sender is to be told and can be.
    #[cold]
    pub(super) fn answer(
        &mut self,
        plan: &Plan,
        packet: &Packet,
        headers: &Headers,
        error: IcmpError,
        port: PortIndex,
        now: Time,
    ) {
        let table = plan.routes.as_ref();
        let Some(from) = table.and_then(|t| t.source(port, headers.kind)) else { return };
        let mut frame = [0; ICMP_ERROR_MAX];
        let Some(length) = icmp_error(packet.data(), headers, error, from, &mut frame) else {
            return;
        };
        if !self.answers.take(now) || self.outbox.len() >= OUTBOX_MAX {
            return self.cells.add(plan.cells.unanswered, 1);
        }
        let bytes = frame.get(..length).unwrap_or_default();
        match self.pool.packet_of(bytes) {
            Some(answer) => {
                self.cells.add(plan.cells.created, 1);
                self.outbox.push((port, answer));
            }
            None => self.cells.add(plan.cells.unanswered, 1),
        }
    }
}

/// At once.
const BURST: u64 = 100;
/// Nanoseconds an answer: 1,000 a second.
const INTERVAL: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_answers_a_second_are_sent_and_a_hundred_at_once() {
        let mut budget = Budget::full();
        let start = 1_700_000_000_000_000_000;
        let mut sent = |at: u64, tries: u64| {
            (0..tries).filter(|_| budget.take(Time(start + at))).count() as u64
        };
        assert_eq!(sent(0, 1000), BURST);
        assert_eq!(sent(10 * INTERVAL, 1000), 10);
        let second: u64 = (0..10_000).map(|i| sent(11 * INTERVAL + i * INTERVAL / 10, 1)).sum();
        assert!((1000..=1001).contains(&second), "{second}");
        let at = 2_000 * INTERVAL;
        let uneven: u64 = (0..10_000).map(|i| sent(at + i * INTERVAL * 6 / 10, 1)).sum();
        assert!((6_000 + 98..=6_000 + 101).contains(&uneven), "{uneven}");
    }
}
