//! The names under which an `ids` drops and counts packets.

use nfv_core::nf::{Answer, Named, Reason};

use super::eve::DropReason;
use super::rules::RejectTo;

/// Why packets are dropped, by the number of the reason.
pub const DROPS: &[Named] = &[
    Named { name: "rule_drop", help: "a rule with `drop` matches" },
    Named { name: "rule_reject", help: "a rule with `reject` matches; its sender is told" },
    Named {
        name: "rule_reject_dst",
        help: "a rule with `rejectdst` matches; its receiver is told",
    },
    Named { name: "rule_reject_both", help: "a rule with `rejectboth` matches; both are told" },
    Named { name: "flow_dropped", help: "a packet before it made its whole flow be dropped" },
    Named { name: "blocklisted", help: "an end, the port or a name of its flow is on a blocklist" },
    Named { name: "stream_invalid", help: "a segment that no receiver would take" },
    Named { name: "rate_exceeded", help: "a rule's rate filter has it dropped" },
];

/// Who is told.
pub const ANSWERS: &[(Reason, Answer)] = &[
    (Reason(1), Answer::Reject),
    (Reason(2), Answer::RejectReceiver),
    (Reason(3), Answer::RejectBoth),
];

/// What is counted besides.
pub const COUNTERS: &[Named] = &[
    Named {
        name: "bypassed_packets",
        help: "packets of flows that need not be looked at any more, which passed it by",
    },
    Named { name: "rewritten_packets", help: "packets whose bytes were made what passed before" },
    Named { name: "shed_records", help: "records that found no room in the log's queue" },
    Named { name: "shed_copies", help: "passive: packets that the analyser had no time for" },
    Named { name: "copied_packets", help: "passive: packets that the analyser was given" },
];

/// In [`COUNTERS`].
pub const PASSED_BY: usize = 0;
/// In [`COUNTERS`].
pub const REWRITTEN: usize = 1;
/// In [`COUNTERS`].
pub const SHED: usize = 2;
/// In [`COUNTERS`].
pub const SHED_COPIES: usize = 3;
/// In [`COUNTERS`].
pub const COPIED: usize = 4;

/// The reason for what an inspector dropped.
pub fn of(why: Option<DropReason>) -> Reason {
    Reason(match why {
        None | Some(DropReason::Rules) => 0,
        Some(DropReason::FlowDrop) => 4,
        Some(DropReason::Blocklist) => 5,
        Some(DropReason::StreamError) => 6,
        Some(DropReason::Threshold) => 7,
    })
}

/// The reason for what is rejected.
pub fn of_reject(to: RejectTo) -> Reason {
    Reason(match to {
        RejectTo::Src => 1,
        RejectTo::Dst => 2,
        RejectTo::Both => 3,
    })
}
