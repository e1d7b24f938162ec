//! Tells the sender of a dropped packet why, by an ICMP error or a TCP reset: off the packet path, and never more than a
//! budget.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Own;
use crate::chain::compile::{Function, Plan, ProgramId};
use crate::clock::Time;
use crate::dpdk::Packet;
use crate::flow::FlowRef;
use crate::nf::{Answer, OUTBOX_MAX, PortIndex, Reason};
use crate::packet::{
    Headers, ICMP_ERROR_MAX, IcmpError, L3, TCP_RESET_MAX, icmp_error, protocol, tcp_reset,
};

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

    pub fn take(&mut self, now: Time) -> bool {
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
    /// A function refused a packet: it goes to the chain that `on` names for the reason, or ends here.
    pub(super) fn refuse(
        &mut self,
        plan: &Plan,
        (function, reroutes): (&Function, &[Option<ProgramId>]),
        reason: Reason,
        (packet, headers): (Packet, &Headers),
        port: PortIndex,
        now: Time,
    ) {
        let Reason(why) = reason;
        if let Some(program) = reroutes.get(usize::from(why)).copied().flatten() {
            return self.enter(plan, program, packet, headers, FlowRef::NONE);
        }
        if let Some((_, answer)) = function.kind.answers.iter().find(|(r, _)| *r == reason) {
            self.answer(plan, &packet, headers, *answer, port, now);
        }
        self.drop(packet, function.cells.drops.plus(usize::from(why)));
    }

    /// Sends an answer to a packet back by the port that received it, if its sender is to be told and can be.
    #[cold]
    pub(super) fn answer(
        &mut self,
        plan: &Plan,
        packet: &Packet,
        headers: &Headers,
        answer: Answer,
        port: PortIndex,
        now: Time,
    ) {
        let mut frame = [0; ICMP_ERROR_MAX];
        let own = plan.routes.as_deref().and_then(|table| table.source(port, headers.kind));
        let Some(length) = build(packet.data(), headers, answer, own, &mut frame) else { return };
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

/// Builds an answer; its length. `own`: the box's address on the port, of the packet's family.
fn build(
    packet: &[u8],
    headers: &Headers,
    answer: Answer,
    own: Option<IpAddr>,
    out: &mut [u8; ICMP_ERROR_MAX],
) -> Option<usize> {
    match answer {
        Answer::Icmp(error) => icmp_error(packet, headers, error, own?, out),
        Answer::RejectReceiver => None,
        Answer::Reject | Answer::RejectBoth if headers.protocol == protocol::TCP => {
            tcp_reset(packet, headers, out.first_chunk_mut::<TCP_RESET_MAX>()?)
        }
        Answer::Reject | Answer::RejectBoth => {
            let from = own.or_else(|| destination(headers))?;
            icmp_error(packet, headers, IcmpError::Prohibited, from, out)
        }
    }
}

fn destination(headers: &Headers) -> Option<IpAddr> {
    match headers.kind {
        L3::Ipv4 => Some(Ipv4Addr::from(headers.dst.v4()).into()),
        L3::Ipv6 => Some(Ipv6Addr::from(headers.dst.v6()).into()),
        L3::Arp | L3::Other => None,
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
