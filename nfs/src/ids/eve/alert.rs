//! A rule matched.

use std::net::IpAddr;
use std::sync::Arc;

use super::json::Object;
use super::line::{address_text, write_end, write_frame};
use super::protocol::protocol_name;
use super::record::{Head, PacketSource};
use super::settings::{AlertSettings, Settings};
use super::{AppNames, Application, FlowSummary};
use crate::ids::buffer::Side;
use crate::ids::rules::{RejectTo, Rule, Target};

/// A rule matched.
#[derive(Debug)]
pub struct Alert {
    /// Which.
    pub rule: Arc<Rule>,
    /// What became of the packet because of it.
    pub action: AlertAction,
    /// `tx_guessed`: it matched outside of transactions, and the head's is the only one that was open.
    pub is_guessed: bool,
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
            is_guessed: false,
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

impl Alert {
    pub(super) fn write(&self, head: &Head, settings: &Settings, o: &mut Object<'_>) {
        let default = AlertSettings::default();
        let wanted = settings.alert.as_ref().unwrap_or(&default);
        o.mark("tx_guessed", self.is_guessed);
        write_rule(&self.rule, self.action, head, wanted.metadata, o);
        if let Some(tunnel) = &self.tunnel {
            tunnel.write(o);
        }
        if let Some(application) = &self.application {
            application.write(settings, o);
        }
        self.apps.write(o);
        if let Some(side) = self.side {
            o.string("direction", side_name(side));
        }
        if let Some(flow) = self.flow.filter(|_| wanted.metadata) {
            let is_turned = self.side == Some(Side::ToClient);
            o.object("flow", |o| {
                flow.write(o);
                let (source, target) = ((head.src, head.sport), (head.dst, head.dport));
                let (source, target) = if is_turned { (target, source) } else { (source, target) };
                o.string("src_ip", &source.0.map(address_text).unwrap_or_default());
                o.string("dest_ip", &target.0.map(address_text).unwrap_or_default());
                for (key, port) in [("src_port", source.1), ("dest_port", target.1)] {
                    if let Some(port) = port {
                        o.number(key, port);
                    }
                }
            });
        }
        if let Some(payload) = &self.payload {
            payload.write(wanted, o);
        }
        if let Some(packet) = self.packet.as_ref().filter(|_| wanted.packet) {
            write_frame(packet, o);
        }
        if let Some(verdict) = self.verdict.filter(|_| wanted.verdict) {
            verdict.write(o);
        }
    }
}

impl Payload {
    fn write(&self, wanted: &AlertSettings, o: &mut Object<'_>) {
        if wanted.payload_length {
            o.number("payload_length", self.bytes.len() as u64);
        }
        if wanted.payload {
            o.base64("payload", &self.bytes);
        }
        if wanted.payload_printable {
            o.printable("payload_printable", &self.bytes);
        }
        o.number("stream", u8::from(self.from == PayloadFrom::Stream));
    }
}

impl Verdict {
    pub(super) fn write(self, o: &mut Object<'_>) {
        o.object("verdict", |o| match self {
            Self::Alert => o.string("action", "alert"),
            Self::Pass => o.string("action", "pass"),
            Self::Drop => o.string("action", "drop"),
            Self::Reject { to, by, is_dropped } => {
                o.string("action", if is_dropped { "drop" } else { "alert" });
                let target = match to {
                    RejectTo::Src => "to_client",
                    RejectTo::Dst => "to_server",
                    RejectTo::Both => "both",
                };
                o.string("reject-target", target);
                o.list("reject", |list| {
                    list.string(match by {
                        Rejects::TcpReset => "tcp-reset",
                        Rejects::IcmpProhibited => "icmp-prohib",
                    });
                });
            }
        });
    }
}

impl Tunnel {
    fn write(&self, o: &mut Object<'_>) {
        o.object("tunnel", |o| {
            write_end("src_ip", "src_port", Some(self.src), Some(self.ports.0), o);
            write_end("dest_ip", "dest_port", Some(self.dst), Some(self.ports.1), o);
            o.string("proto", &protocol_name(self.protocol));
            o.number("depth", self.depth);
            if let Some(place) = self.pcap_cnt {
                o.number("pcap_cnt", place);
            }
            o.string("pkt_src", self.source.name());
        });
    }
}

/// `alert`
pub(super) fn write_rule(
    rule: &Rule,
    action: AlertAction,
    head: &Head,
    with_metadata: bool,
    o: &mut Object<'_>,
) {
    o.object("alert", |o| {
        let action = match action {
            AlertAction::Allowed => "allowed",
            AlertAction::Blocked => "blocked",
        };
        o.string("action", action);
        o.number("gid", rule.gid);
        o.number("signature_id", rule.sid);
        o.number("rev", rule.rev);
        o.string("signature", &rule.msg);
        o.string("category", rule.class.as_ref().map_or("", |class| &class.description));
        o.number("severity", rule.priority);
        if let Some(target) = rule.target {
            let (src, dst) = ((head.src, head.sport), (head.dst, head.dport));
            let (source, target) = match target {
                Target::Src => (dst, src),
                Target::Dst => (src, dst),
            };
            for (key, (address, port)) in [("source", source), ("target", target)] {
                o.object(key, |o| write_end("ip", "port", address, port, o));
            }
        }
        if with_metadata && !rule.metadata.is_empty() {
            o.object("metadata", |o| write_metadata(&rule.metadata, o));
        }
    });
}

/// Values by their keys, in the order in which the rule has them first.
fn write_metadata(pairs: &[(Box<str>, Box<str>)], o: &mut Object<'_>) {
    for (index, (key, _)) in pairs.iter().enumerate() {
        let is_first = pairs.iter().take(index).all(|(other, _)| other != key);
        if is_first {
            let values = pairs.iter().filter(|(other, _)| other == key);
            o.list(key, |list| values.for_each(|(_, value)| list.string(value)));
        }
    }
}

/// `direction`
pub(super) fn side_name(side: Side) -> &'static str {
    match side {
        Side::ToServer => "to_server",
        Side::ToClient => "to_client",
    }
}
