//! What rules are evaluated on.

use std::net::IpAddr;

use nfv_core::clock::Time;

use super::FlowState;
use crate::ids::app::event::Event as AppEvent;
use crate::ids::app::{App, Limits};
use crate::ids::buffer::Side;
use crate::ids::stream::{Events as StreamEvents, StreamId, Streams, TcpState};

/// A packet, taken apart. Slices are cut where its headers say, never beyond what is there.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'p> {
    /// When it came.
    pub time: Time,
    /// Its source.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// The protocol above IP and its extension headers.
    pub protocol: u8,
    /// Its ports; of protocols without, 0.
    pub sport: u16,
    /// See `sport`.
    pub dport: u16,
    /// From the IP header to the datagram's end.
    pub network: &'p [u8],
    /// From the upper layer's header to the datagram's end; of later fragments empty.
    pub upper: &'p [u8],
    /// The upper layer's payload; of other protocols, what is behind IP.
    pub payload: &'p [u8],
    /// Whether it was put together from fragments.
    pub was_fragmented: bool,
    /// Whether it is a fragment that could not be put together.
    pub is_fragment: bool,
    /// What the decoder remarked: names as in `decode-event` rules without `decoder.` (`ipv4.trunc_pkt`).
    pub remarks: &'p [&'static str],
}

/// What is known of a packet's flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts {
    /// Which way the packet goes.
    pub side: Side,
    /// The handshake is done; of UDP and others: both ends have spoken.
    pub is_established: bool,
    /// It is the first packet of its direction.
    pub is_first_of_side: bool,
    /// The connection's state, of TCP that is followed.
    pub tcp: Option<TcpState>,
    /// Whether the packet is part of the followed stream: its payload is seen in the stream, too.
    pub is_in_stream: bool,
    /// Whether the connection ended with this packet, or the flow's time is up: all that is left is looked at now.
    pub is_ending: bool,
}

/// All that one call evaluates: the packet, and what is new of its flow.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The packet; of a flow whose time is up, one without a byte, not even a header, from the direction that is looked at.
    pub packet: Packet<'a>,
    /// Its flow; `None`: it has none (fragments, broken packets).
    pub flow: Option<FlowFacts>,
    /// What detection keeps with the flow.
    pub state: Option<&'a mut FlowState>,
    /// The flow's application, with the transactions; detection calls `mark_inspected` on them.
    pub app: Option<&'a mut App>,
    /// The limits that the application has.
    pub limits: &'a Limits,
    /// The streams, and the flow's number there: detection takes its windows.
    pub streams: Option<(&'a mut Streams, StreamId)>,
    /// What is odd about the segment.
    pub stream_events: StreamEvents,
    /// What the application's parsers remarked since the last call, of the flow; those of transactions are taken from them.
    pub app_events: &'a [AppEvent],
}

/// On what a rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the packet.
    Packet,
    /// On the stream.
    Stream,
    /// On a transaction.
    Transaction,
}
