//! TCP streams put together as their receivers do.
//!
//! ```text
//!   packet --Headers--> Key::of --+                                  +--> Outcome: verdict, events, connection
//!          --bytes----> Segment --+--> Streams::segment(.., sink) ---+--> Sink::data, Sink::gap: each direction in order
//!
//!   now and then:   while let Some((id, why)) = streams.due(now):  finish(id, sink), windows, forget(id)
//!   raw rules:      streams.window(id, side, When::Full | When::Now, |window| ..)      until it returns None
//!   inline:         outcome.must_be_rewritten: streams.normalize(id, side, seq, payload)
//!   enough seen:    streams.stop(id, side), streams.unwatch(id, side); outcome.is_done: nothing is looked at any more
//!   logs:           streams.view(id), streams.each_held(id, side, ..), streams.counters()
//! ```
//!
//! Who detects sees a stream in three ways: (a) a packet's payload as it came, which is the caller's; (b) windows of a
//! direction's bytes, each fresh byte once and up to `history` before it, so that a pattern across two windows lies in
//! the second one whole; (c) what the sink is told, in order and without copies, for parsers: gaps are told as such.
//! Offsets count from the first byte behind the SYN, in 64 bits. [`Side`] says whose bytes they are.
//!
//! **What counts.** Passive, bytes count once their receiver has acknowledged them, and where segments overlap, as its
//! [`OverlapPolicy`] has it; what it acknowledged and nobody saw is a gap once bytes follow. Inline, bytes count when they pass, the first
//! ones for all, and they are kept until they are acknowledged so that later packets can be made to say the same. Of a
//! connection whose other side is not seen they count when they come. A RST tells what is left up to the first hole, as its
//! receiver may not take it; the end tells all. A RST's own bytes are no part of a stream, nor are those of a SYN that
//! the server did not take.
//!
//! **What is bounded.** [`Budget`] is obeyed to the byte; memory is asked of the allocator in pages of 64 KiB and then kept.
//! A connection is 232 bytes, and 4 in the index. For new ones make room, as [`Streams::due`] names them: the closed, then
//! those whose handshake is not done, then the others; of each, who was idle the longest. A segment without room takes it
//! of the holders of bytes that were idle the longest: first what was told and is only kept, then what waits, which becomes
//! a gap when it is acknowledged. A direction that holds three quarters of `direction_bytes` is told what it has: holes are
//! given up. Any order of segments is put together in `n log n`, overlaps in the time of their bytes.
//!
//! **Rejected.** One growing buffer a direction, as Suricata has it: it moves bytes when it grows, a far segment reserves
//! what lies between, and no one can say what it holds. Data in the order of arrival with Hyperscan's streaming mode:
//! its state is kilobytes a direction for the rule sets of the field, many times what a connection is here.
//!
//! **Left to the caller.** Checksums; fragments, which are put together before; `midstream-policy` and its like, by
//! [`Verdict::NotFollowed`]; VLANs that are not to tell connections apart, by clearing `Headers::vlan`.
//!
//! Source: RFC 9293, RFC 7323, RFC 5961, RFC 7413; Novak and Sturges 2007; the events and their names, the states as seen
//! from the server, and the defaults are those of Suricata's stream engine.
mod bytes;
mod config;
mod connection;
mod counters;
mod event;
mod half;
mod key;
mod offers;
mod open;
mod policy;
pub(in crate::ids) mod pool;
mod segment;
mod state;
mod store;
mod streams;
mod table;
mod tree;

pub use bytes::Window;
pub use config::{Budget, Midstream, Mode, OneSide, Settings, Timeouts, Urgent};
pub use counters::{Counter, Counters};
pub use event::{Event, Events};
pub(in crate::ids) use key::Secret;
pub use key::{End, Key, Side};
pub use open::NotFollowed;
pub use policy::{HostPolicies, OverlapPolicy, Range, Winner};
pub use segment::Segment;
pub use state::{Phase, TcpState};
pub use streams::{Ahead, Outcome, Over, Sink, StreamId, Streams, Verdict, View, When};

/// Ticks are 2 to this power of nanoseconds: 17 ms. They go round in two years; only differences count.
const TICK_BITS: u32 = 24;

#[cfg(test)]
mod tests;
