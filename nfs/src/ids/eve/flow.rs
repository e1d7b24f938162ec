//! A flow: what alerts say of it, and the record at its end.

use nfv_core::clock::Time;

use super::json::Object;
use super::time::stamp;
use crate::ids::app::{App, Protocol};
use crate::ids::stream::TcpState;

/// What a flow speaks, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppNames {
    /// `app_proto`
    pub protocol: Option<Protocol>,
    /// `app_proto_ts`: what the client's bytes look like.
    pub to_server: Option<Protocol>,
    /// `app_proto_tc`: what the server's bytes look like.
    pub to_client: Option<Protocol>,
    /// `app_proto_orig`: before an upgrade or a tunnel.
    pub original: Option<Protocol>,
}

impl AppNames {
    /// Those of a flow.
    pub fn of(app: &App) -> Self {
        let (protocol, original) = (app.protocol(), app.original());
        Self { protocol, to_server: None, to_client: None, original }
    }
}

/// Packets and bytes, by [`crate::ids::buffer::Side::index`]: to the server, to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets.
    pub packets: [u64; 2],
    /// Their bytes, Ethernet headers included.
    pub bytes: [u64; 2],
}

/// A flow so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSummary {
    /// Its packets.
    pub counts: Counts,
    /// Of those, the ones that passed without being looked at; `None`: it does not bypass.
    pub bypassed: Option<Counts>,
    /// When it began.
    pub start: Time,
}

/// A flow that ended. Its head has the flow's ends, the client as source, and no packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// What it spoke.
    pub apps: AppNames,
    /// Its packets and its beginning.
    pub summary: FlowSummary,
    /// When its last packet came.
    pub end: Time,
    /// How far it came.
    pub state: FlowState,
    /// Why it ended.
    pub reason: FlowEnd,
    /// Whether a rule matched in it.
    pub alerted: bool,
    /// What was decided for the whole of it.
    pub action: Option<FlowAction>,
    /// Transactions that it had.
    pub transactions: u64,
    /// Of ICMP: type and code of the answers.
    pub response_icmp: Option<(u8, u8)>,
    /// Of TCP.
    pub tcp: Option<TcpRecord>,
}

/// `flow.state`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// One side has spoken.
    New,
    /// Both have.
    Established,
    /// It was closed.
    Closed,
    /// It was no more looked at.
    Bypassed,
}

/// `flow.reason`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// No packet came for too long.
    Timeout,
    /// It made room.
    Forced,
    /// The IDS stopped.
    Shutdown,
    /// A new connection had the same ends.
    TcpReuse,
}

/// `flow.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowAction {
    /// The rest of it was dropped.
    Drop,
    /// The rest of it was let through.
    Pass,
}

/// `tcp` of flow records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRecord {
    /// The flags that were seen, of both sides.
    pub flags: u8,
    /// Those of the client; both are 0 of a connection that was not followed.
    pub flags_to_server: u8,
    /// Those of the server.
    pub flags_to_client: u8,
    /// Where the connection stood; `None`: it was not followed.
    pub state: Option<TcpState>,
    /// Whether bytes were missing: of the client, of the server.
    pub has_gaps: [bool; 2],
    /// The most pieces that a side's bytes were in at once.
    pub max_regions: [u32; 2],
    /// Urgent bytes that were left out.
    pub urgent: [u32; 2],
}

impl FlowState {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Bypassed => "bypassed",
        }
    }
}

impl FlowEnd {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Forced => "forced",
            Self::Shutdown => "shutdown",
            Self::TcpReuse => "tcp_reuse",
        }
    }
}

impl FlowAction {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Pass => "pass",
        }
    }
}

impl AppNames {
    pub(super) fn write(self, o: &mut Object<'_>) {
        if let Some(protocol) = self.protocol {
            o.string("app_proto", protocol.name());
        }
        let others = [
            ("app_proto_ts", self.to_server),
            ("app_proto_tc", self.to_client),
            ("app_proto_orig", self.original),
        ];
        for (key, protocol) in others {
            if let Some(protocol) = protocol.filter(|_| protocol != self.protocol) {
                o.string(key, protocol.name());
            }
        }
    }
}

impl Counts {
    fn write(self, o: &mut Object<'_>) {
        let [packets_up, packets_down] = self.packets;
        let [bytes_up, bytes_down] = self.bytes;
        o.number("pkts_toserver", packets_up);
        o.number("pkts_toclient", packets_down);
        o.number("bytes_toserver", bytes_up);
        o.number("bytes_toclient", bytes_down);
    }
}

impl FlowSummary {
    pub(super) fn write(self, o: &mut Object<'_>) {
        self.counts.write(o);
        if let Some(bypassed) = self.bypassed {
            o.object("bypassed", |o| bypassed.write(o));
        }
        o.string("start", &stamp(self.start));
    }
}

impl FlowRecord {
    /// `common`: what stands between the flow and its connection.
    pub(super) fn write(&self, common: impl FnOnce(&mut Object<'_>), o: &mut Object<'_>) {
        self.apps.write(o);
        o.object("flow", |o| {
            self.summary.write(o);
            o.string("end", &stamp(self.end));
            let seconds = |time: Time| time.0 / NANOS;
            o.number("age", seconds(self.end).saturating_sub(seconds(self.summary.start)));
            o.string("state", self.state.name());
            if self.state == FlowState::Bypassed {
                o.string("bypass", "local");
            }
            o.string("reason", self.reason.name());
            o.truth("alerted", self.alerted);
            if let Some(action) = self.action {
                o.string("action", action.name());
            }
            if self.transactions > 0 {
                o.number("tx_cnt", self.transactions);
            }
        });
        common(o);
        if let Some(tcp) = self.tcp {
            o.object("tcp", |o| tcp.write(o));
        }
    }
}

impl TcpRecord {
    fn write(self, o: &mut Object<'_>) {
        o.string("tcp_flags", &format!("{:02x}", self.flags));
        o.string("tcp_flags_ts", &format!("{:02x}", self.flags_to_server));
        o.string("tcp_flags_tc", &format!("{:02x}", self.flags_to_client));
        for (bit, name) in FLAGS {
            o.mark(name, self.flags & bit != 0);
        }
        let Some(state) = self.state else { return };
        o.string("state", state.name());
        let [gap_up, gap_down] = self.has_gaps;
        o.mark("tc_gap", gap_down);
        o.mark("ts_gap", gap_up);
        let [regions_up, regions_down] = self.max_regions;
        o.number("ts_max_regions", regions_up);
        o.number("tc_max_regions", regions_down);
        for (key, urgent) in ["ts_urgent_oob_data", "tc_urgent_oob_data"].iter().zip(self.urgent) {
            if urgent > 0 {
                o.number(key, urgent);
            }
        }
    }
}

/// In the order in which records have them.
const FLAGS: [(u8, &str); 8] = [
    (0x02, "syn"),
    (0x01, "fin"),
    (0x04, "rst"),
    (0x08, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ecn"),
    (0x80, "cwr"),
];

const NANOS: u64 = 1_000_000_000;
