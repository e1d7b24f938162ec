//! One worker's IDS: a packet goes in, an answer and records come out.
//!
//! ```text
//!   frame --> headers, fragments, tunnels --> flow --> stream (TCP) --> application --> rules --> answer
//!                                              |                            |             |
//!                                              +---- flow records           +-- http ...  +-- alert, drop    --> Recorder
//!
//!   let mut inspector = Inspector::new(settings, detector);
//!   each packet:         let verdict = inspector.packet(&seen, recorder);
//!                        if let Some(rewrite) = verdict.rewrite { inspector.rewrite(&rewrite, frame) }
//!   each second or so:   inspector.tick(now, recorder);
//!   new rules:           inspector.set_detector(detector);
//!   a capture's end:     inspector.finish(now, recorder);
//! ```
//!
//! **A packet that others carry** is a packet of its own, as it is to Suricata: of `IPv4 > GRE > IPv4 > TCP` the inner one
//! is looked at first, with a flow of its own, then the outer one; both are dropped if either is. A datagram that a
//! fragment makes whole is looked at before that fragment. Levels are bounded.
//!
//! **What is looked at when.** A packet brings its flow up to date; its segment may make bytes count, of its own direction
//! or, passive, of the other one, which it acknowledges; the application takes them at once. Then rules are evaluated on
//! the packet and on what is new of *its* direction, so that an alert's packet goes the way of what was found. At the end
//! of a flow both directions are looked at with packets of no content.
//!
//! **What is bounded.** Flows, streams, what applications hold and fragments have a budget each. For new flows make room
//! the closed, then those that one side began, then the others; where applications hold too much, those lose theirs whose
//! flows were idle the longest. A flow is 208 bytes, and 4 in the index; a connection of the stream engine 236 more.
//!
//! **Rejected.** A flow's parts in one structure, as Suricata has it: it is there for a million flows of which a thousand
//! are parsed at a time. Bytes copied between streams and parsers: see [`feed`].

mod counters;
mod datagrams;
mod decode;
mod ending;
mod events;
mod feed;
mod flow;
mod levels;
mod listed;
mod look;
mod lookup;
mod predicted;
mod rewrite;
mod settings;
mod shed;
mod table;
mod tcp;
mod tell;
mod train;
mod worker;

use nfv_core::clock::Time;

pub use counters::{Counter, Counters};
pub use datagrams::Settings as DatagramSettings;
pub use decode::Tunnels;
pub use events::HEADER_EVENTS;
pub use rewrite::Rewrite;
pub use settings::{Budget, Bypass, Checksums, Invalid, PerProtocol, Settings, Timeouts, Vlans};
pub use train::train_of;
pub use worker::Inspector;

use super::eve::Record;
use super::rules::RejectTo;

/// Who takes records. Never waits: what it has no room for is counted by it.
pub trait Recorder {
    /// Takes one.
    fn record(&mut self, record: Record);
}

/// A frame as it came.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'p> {
    /// When.
    pub time: Time,
    /// Its bytes from the Ethernet header on.
    pub frame: &'p [u8],
    /// Its length on the wire; a capture may have cut it.
    pub wire_length: u32,
    /// The port that received it, by number.
    pub port: u8,
    /// Its place in the capture, from 1.
    pub place: Option<u64>,
}

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// What becomes of it.
    pub answer: Answer,
    /// Inline: its payload is to be made what passed before, by [`Inspector::rewrite`].
    pub rewrite: Option<Rewrite>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes on.
    Pass,
    /// It goes on, and nothing more of its flow needs to be looked at.
    Bypass,
    /// It is dropped.
    Drop,
    /// It is dropped, and its ends are told.
    Reject(RejectTo),
}

impl Answer {
    /// Of two levels of a packet.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reject(to), _) | (_, Self::Reject(to)) => Self::Reject(to),
            (Self::Drop, _) | (_, Self::Drop) => Self::Drop,
            (Self::Bypass, Self::Bypass) => Self::Bypass,
            _ => Self::Pass,
        }
    }

    /// Whether it is dropped.
    pub fn is_drop(self) -> bool {
        matches!(self, Self::Drop | Self::Reject(_))
    }
}

#[cfg(test)]
mod tests;
