//! A rule matched.

use std::net::IpAddr;
use std::sync::Arc;

use super::record::PacketSource;
use super::{AppNames, Application, FlowSummary};
use crate::ids::buffer::Side;
use crate::ids::rules::{RejectTo, Rule};

/// A rule matched.
#[derive(Debug)]
pub struct Alert {
    /// Which.
    pub rule: Arc<Rule>,
    /// What became of the packet because of it.
    pub action: AlertAction,
    /// Which way the packet went; `None`: it has no flow.
    pub side: Option<Side>,
    /// What the flow speaks.
    pub apps: AppNames,
    /// The flow so far.
    pub flow: Option<FlowSummary>,
    /// The transaction that it matched in.
    pub application: Option<Application>,
    /// The bytes that it matched on, if they are wanted.
    pub payload: Option<Payload>,
    /// The frame, if it is wanted.
    pub packet: Option<Box<[u8]>>,
    /// What became of the packet in all, if that is wanted.
    pub verdict: Option<Verdict>,
    /// What the packet came in.
    pub tunnel: Option<Box<Tunnel>>,
}

/// `alert.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertAction {
    /// It went on.
    Allowed,
    /// It was dropped.
    Blocked,
}

/// Bytes that a rule matched on: at most `payload-buffer-size` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// They.
    pub bytes: Box<[u8]>,
    /// Whose they are.
    pub from: PayloadFrom,
}

/// `stream`: whose bytes a payload is, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFrom {
    /// The packet's: 0.
    Packet,
    /// The stream's: 1.
    Stream,
}

/// `verdict`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on.
    Alert,
    /// It goes on, and no other rule is looked at.
    Pass,
    /// It is dropped.
    Drop,
    /// Its ends are told as well.
    Reject {
        /// Who.
        to: RejectTo,
        /// How.
        by: Rejects,
        /// Whether it is dropped, too; a passive IDS cannot.
        is_dropped: bool,
    },
}

/// How the ends are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejects {
    /// `tcp-reset`
    TcpReset,
    /// `icmp-prohib`
    IcmpProhibited,
}

/// `tunnel`: the packet that the alert's packet came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its source.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// Its ports; of protocols without, 0.
    pub ports: (u16, u16),
    /// Its protocol above IP.
    pub protocol: u8,
    /// How many tunnels there are around.
    pub depth: u8,
    /// Its place in the capture.
    pub pcap_cnt: Option<u64>,
    /// Where it comes from.
    pub source: PacketSource,
}

impl Alert {
    /// With nothing around it; the rest is set as it is known and wanted.
    pub fn of(rule: &Arc<Rule>, action: AlertAction) -> Self {
        Self {
            rule: Arc::clone(rule),
            action,
            side: None,
            apps: AppNames::default(),
            flow: None,
            application: None,
            payload: None,
            packet: None,
            verdict: None,
            tunnel: None,
        }
    }

    /// The memory that it holds, with its own size and without its rule, which others have as well.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.application.as_ref().map_or(0, Application::bytes)
            + self.payload.as_ref().map_or(0, |payload| payload.bytes.len())
            + self.packet.as_ref().map_or(0, |packet| packet.len())
            + self.tunnel.as_ref().map_or(0, |_| size_of::<Tunnel>())
    }
}
