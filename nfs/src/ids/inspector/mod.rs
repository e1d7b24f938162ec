//! One worker's IDS: a packet goes in, an answer and records come out.
//!
//! ```text
//!   packet --> headers, fragments --> flow --> stream (TCP) --> application --> rules --> answer
//!                                      |                            |             |
//!                                      +---- flow records           +-- http ...  +-- alert, drop    --> Recorder
//! ```

use nfv_core::clock::Time;
use nfv_core::packet::Headers;

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
    /// What the engine read of its headers.
    pub headers: &'p Headers,
    /// Its bytes from the Ethernet header on.
    pub frame: &'p [u8],
    /// Its length on the wire; a capture may have cut it.
    pub wire_length: u32,
    /// The port that received it, by number.
    pub port: u8,
    /// Its place in the capture, from 1.
    pub place: Option<u64>,
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
