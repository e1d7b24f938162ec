//! What a record holds, before it is JSON.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::clock::Time;

/// A record. It owns what it says: it is written by another thread.
#[derive(Debug)]
pub struct Record {
    /// What all records have.
    pub head: Head,
    /// What it is about.
    pub body: Body,
}

/// What all records have.
#[derive(Clone, Debug)]
pub struct Head {
    /// When.
    pub time: Time,
    /// The flow's number, if there is a flow.
    pub flow_id: Option<u64>,
    /// The packet's place in the capture, from 1; of a run `None`.
    pub pcap_cnt: Option<u64>,
    /// The port that received it.
    pub in_iface: Option<Arc<str>>,
    /// VLAN identifiers, outermost first.
    pub vlan: [Option<u16>; 3],
    /// Ends, as the packet has them (alerts, drops) or as the flow has them (others).
    pub src: Option<IpAddr>,
    /// See `src`.
    pub dst: Option<IpAddr>,
    /// Ports, of protocols that have them.
    pub sport: Option<u16>,
    /// See `sport`.
    pub dport: Option<u16>,
    /// The protocol above IP.
    pub protocol: Option<u8>,
    /// Of ICMP: type and code.
    pub icmp: Option<(u8, u8)>,
    /// Where the packet comes from.
    pub source: PacketSource,
}

/// `pkt_src`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketSource {
    /// `wire/pcap`
    Wire,
    /// `Defrag`
    Defrag,
    /// `stream (flow timeout)`
    FlowTimeout,
}

/// What a record is about; `event_type` is its name.
#[derive(Debug)]
pub enum Body {}
