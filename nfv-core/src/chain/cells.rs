//! Where things are counted: the cells of the engine, of each port, of each function.

use crate::account::{CellId, Counter, Ledger, Side};
use crate::burst::Refused;
use crate::chain::port::{Mode, PortSpec};
use crate::flow::{FlowRefusal, Refusal};
use crate::nf::{Built, Kind};
use crate::packet::MALFORMED;

/// Where a function is counted.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCells {
    /// Packets that it saw.
    pub packets: CellId,
    /// Bytes that it saw.
    pub bytes: CellId,
    /// Cycles that it took.
    pub cycles: CellId,
    /// The first of its reasons to drop.
    pub drops: CellId,
    /// The first of its counters.
    pub counters: CellId,
    /// The first of its rules.
    pub rules: CellId,
}

/// Where the engine counts what no function answers for.
#[derive(Clone, Debug)]
pub struct EngineCells {
    /// By port.
    pub ports: Vec<PortCells>,
    /// The first of [`MALFORMED`].
    pub malformed: CellId,
    /// No chain's match was met.
    pub no_chain: CellId,
    /// A header was not in the first segment, and did not fit there.
    pub scattered: CellId,
    /// The first of the reasons why a routed packet goes no further.
    pub(crate) refused: CellId,
    /// For another worker, which had too many.
    pub(crate) inbox_full: CellId,
    /// Handed to another worker.
    pub(crate) handed_over: CellId,
    /// What was dropped by functions that are no more.
    pub(crate) removed: CellId,
    /// The first of the reasons why a packet is not one of a flow.
    pub(crate) unkept: CellId,
    /// Flows begun.
    pub(crate) flows_begun: CellId,
    /// Flows ended, by their time or their own word.
    pub(crate) flows_ended: CellId,
    /// Flows ended to make room.
    pub(crate) flows_evicted: CellId,
    /// Flows decided again.
    pub(crate) flows_again: CellId,
    /// ICMP errors that were not sent, as there had been many.
    pub(crate) unanswered: CellId,
    /// Packets that NFs made.
    pub created: CellId,
    /// Packets that NFs kept for good.
    pub consumed: CellId,
    /// Polls that found nothing.
    pub idle_polls: CellId,
    /// Polls that found packets.
    pub busy_polls: CellId,
    /// Times that idle workers slept.
    pub(crate) idle_sleeps: CellId,
    /// Time of the workers' rounds in which there were packets.
    pub(crate) busy_nanoseconds: CellId,
}

impl EngineCells {
    /// Where a packet is counted that no parse took.
    pub(crate) fn refused_by(&self, why: Refused) -> CellId {
        match why {
            Refused::Malformed(why) => self.malformed.plus(why.index()),
            Refused::Scattered => self.scattered,
        }
    }
}

/// Where a port is counted.
#[derive(Clone, Copy, Debug)]
pub struct PortCells {
    /// Packets received.
    pub rx_packets: CellId,
    /// Bytes received.
    pub rx_bytes: CellId,
    /// Packets sent.
    pub tx_packets: CellId,
    /// Bytes sent.
    pub tx_bytes: CellId,
    /// Packets dropped because the transmit ring stayed full.
    pub tx_full: CellId,
    /// Of a routed port.
    pub(crate) routed: Option<RoutedCells>,
}

/// Where a routed port is counted besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutedCells {
    /// Packets given to the kernel.
    pub to_kernel: CellId,
    /// Packets that the kernel sent.
    pub from_kernel: CellId,
    /// Dropped: for another station.
    pub not_for_us: CellId,
    /// Dropped: for the box itself, and the port has no twin.
    pub no_twin: CellId,
    /// Dropped: the kernel takes them too slowly.
    pub twin_full: CellId,
}

pub(crate) fn engine_cells(ledger: &mut Ledger, ports: &[PortSpec]) -> EngineCells {
    let dropped = |ledger: &mut Ledger, nf: &str, reason: &str, help| {
        let labels = vec![("nf", nf.to_owned()), ("reason", reason.to_owned())];
        ledger.add(Counter { metric: "dropped_packets", help, labels, side: Side::Dropped })
    };
    let port_cells = ports
        .iter()
        .map(|spec| {
            let port = &spec.name.value;
            let mut count = |metric, help, side| {
                let labels = vec![("port", port.clone())];
                ledger.add(Counter { metric, help, labels, side })
            };
            let twin = (spec.mode == Mode::Routed).then(|| {
                let given = "packets given to the kernel's twin of the port";
                let taken = "packets that the kernel sent by its twin of the port";
                (
                    count("to_kernel_packets", given, Side::Consumed),
                    count("from_kernel_packets", taken, Side::Created),
                )
            });
            PortCells {
                rx_packets: count("received_packets", "packets received", Side::Received),
                rx_bytes: count("received_bytes", "bytes received", Side::Aside),
                tx_packets: count("sent_packets", "packets sent", Side::Sent),
                tx_bytes: count("sent_bytes", "bytes sent", Side::Aside),
                tx_full: dropped(ledger, port, "tx_full", "the transmit ring stayed full"),
                routed: twin.map(|(to_kernel, from_kernel)| RoutedCells {
                    to_kernel,
                    from_kernel,
                    not_for_us: dropped(ledger, port, "not_for_us", "for another station"),
                    no_twin: dropped(
                        ledger,
                        port,
                        "no_twin",
                        "for the box itself, and the port has no twin",
                    ),
                    twin_full: dropped(
                        ledger,
                        port,
                        "twin_full",
                        "the kernel took packets for the box too slowly",
                    ),
                }),
            }
        })
        .collect();
    let mut malformed = None;
    for (name, help) in MALFORMED {
        let id = dropped(ledger, "parse", name, help);
        malformed.get_or_insert(id);
    }
    let no_chain = dropped(ledger, "dispatch", "no_chain", "no chain's match was met");
    let mut refused = None;
    for named in Refusal::NAMES {
        let id = dropped(ledger, "forward", named.name, named.help);
        refused.get_or_insert(id);
    }
    let mut unkept = None;
    for named in FlowRefusal::NAMES {
        let id = dropped(ledger, "flow", named.name, named.help);
        unkept.get_or_insert(id);
    }
    let full = "another worker, whose flow it is of, takes packets too slowly";
    let full = dropped(ledger, "flow", "inbox_full", full);
    let gone = "dropped by functions that a reload took away or changed";
    let removed = dropped(ledger, "reload", "removed_function", gone);
    let scattered = dropped(ledger, "parse", "scattered", "its segments do not fit one buffer");
    let mut count =
        |metric, help, side| ledger.add(Counter { metric, help, labels: Vec::new(), side });
    EngineCells {
        ports: port_cells,
        malformed: malformed.expect("MALFORMED is not empty"),
        no_chain,
        scattered,
        refused: refused.expect("there are refusals"),
        unkept: unkept.expect("there are refusals"),
        removed,
        inbox_full: full,
        handed_over: count(
            "handed_over_packets",
            "packets that one worker received and another took, as their flow is its",
            Side::Aside,
        ),
        flows_begun: count("begun_flows", "flows whose first packet was let through", Side::Aside),
        flows_ended: count("ended_flows", "flows that ended", Side::Aside),
        flows_evicted: count("evicted_flows", "flows not established that made room", Side::Aside),
        flows_again: count("redecided_flows", "flows that were decided again", Side::Aside),
        unanswered: count(
            "unanswered_packets",
            "drops of which no ICMP error was sent, as there had been many",
            Side::Aside,
        ),
        created: count("created_packets", "packets that functions made", Side::Created),
        consumed: count("consumed_packets", "packets that functions kept", Side::Consumed),
        idle_polls: count("idle_polls", "polls of a queue that found nothing", Side::Aside),
        busy_polls: count("busy_polls", "polls of a queue that found packets", Side::Aside),
        idle_sleeps: count("idle_sleeps", "times that idle workers slept", Side::Aside),
        busy_nanoseconds: count(
            "busy_nanoseconds",
            "time that workers spent on rounds in which there were packets",
            Side::Aside,
        ),
    }
}

pub(crate) fn function_cells(
    ledger: &mut Ledger,
    name: &str,
    kind: &Kind,
    built: &Built,
) -> FunctionCells {
    let mut count = |metric, help, more: Option<(&'static str, String)>, side| {
        let labels = std::iter::once(("nf", name.to_owned())).chain(more).collect();
        ledger.add(Counter { metric, help, labels, side })
    };
    let packets = count("nf_packets", "packets that the function saw", None, Side::Aside);
    let bytes = count("nf_bytes", "bytes that the function saw", None, Side::Aside);
    let cycles = count("nf_cycles", "cycles that the function took", None, Side::Aside);
    let mut drops = cycles.plus(1);
    for (i, d) in kind.drops.iter().enumerate() {
        let id =
            count("dropped_packets", d.help, Some(("reason", d.name.to_owned())), Side::Dropped);
        drops = if i == 0 { id } else { drops };
    }
    let counters = cycles.plus(1 + kind.drops.len());
    for c in kind.counters {
        count("nf_counter", c.help, Some(("counter", c.name.to_owned())), Side::Aside);
    }
    let rules = counters.plus(kind.counters.len());
    for rule in &built.rules {
        count(
            "nf_rule_packets",
            "packets that a rule decided",
            Some(("rule", rule.clone())),
            Side::Aside,
        );
    }
    FunctionCells { packets, bytes, cycles, drops, counters, rules }
}
