//! What a record holds, before it is JSON.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::clock::Time;

use super::{
    Alert, Anomaly, DnsRecord, DropRecord, FlowRecord, HttpRecord, SshRecord, Stats, TlsRecord,
};

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
    /// Where the packet comes from; flow records have no packet.
    pub source: PacketSource,
    /// `tx_id`: the transaction that it is about.
    pub transaction: Option<u64>,
    /// `metadata` and `traffic`: what rules keep with the flow.
    pub variables: Option<Arc<Variables>>,
}

impl Head {
    /// Of something that is about no packet and no flow.
    pub fn at(time: Time) -> Self {
        Self {
            time,
            flow_id: None,
            pcap_cnt: None,
            in_iface: None,
            vlan: [None; 3],
            src: None,
            dst: None,
            sport: None,
            dport: None,
            protocol: None,
            icmp: None,
            source: PacketSource::Wire,
            transaction: None,
            variables: None,
        }
    }
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
    /// `stream (detect/log)`: made to look at what a stream holds.
    Stream,
    /// `gre tunnel`
    Gre,
    /// `ipv4 tunnel`
    Ipv4,
    /// `ipv6 tunnel`
    Ipv6,
    /// `teredo tunnel`
    Teredo,
    /// `vxlan encapsulation`
    Vxlan,
    /// `geneve encapsulation`
    Geneve,
}

impl PacketSource {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire/pcap",
            Self::Defrag => "defrag",
            Self::FlowTimeout => "stream (flow timeout)",
            Self::Stream => "stream (detect/log)",
            Self::Gre => "gre tunnel",
            Self::Ipv4 => "ipv4 tunnel",
            Self::Ipv6 => "ipv6 tunnel",
            Self::Teredo => "teredo tunnel",
            Self::Vxlan => "vxlan encapsulation",
            Self::Geneve => "geneve encapsulation",
        }
    }
}

/// What rules keep with a flow, by names. Bits `traffic/id/NAME` and `traffic/label/NAME` are told apart from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// `flowbits` that are set.
    pub bits: Vec<Box<str>>,
    /// `flowint`s.
    pub numbers: Vec<(Box<str>, u64)>,
}

impl Variables {
    /// The memory that they hold.
    pub fn bytes(&self) -> usize {
        let bits: usize = self.bits.iter().map(|bit| bit.len() + size_of::<Box<str>>()).sum();
        let numbers = self.numbers.iter();
        bits + numbers.map(|(name, _)| name.len() + size_of::<(Box<str>, u64)>()).sum::<usize>()
    }
}

/// What a record is about; `event_type` is its name.
#[derive(Debug)]
pub enum Body {
    /// A rule matched.
    Alert(Box<Alert>),
    /// A packet was dropped.
    Drop(Box<DropRecord>),
    /// A flow ended.
    Flow(Box<FlowRecord>),
    /// A request and its response.
    Http(Box<HttpRecord>),
    /// A message.
    Dns(Box<DnsRecord>),
    /// A handshake.
    Tls(Box<TlsRecord>),
    /// A handshake.
    Ssh(Box<SshRecord>),
    /// Something odd.
    Anomaly(Anomaly),
    /// What was counted.
    Stats(Box<Stats>),
    /// A packet behind an alert whose rule has `tag`.
    Packet(Box<TaggedPacket>),
}

/// A kind of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`Kind::name` says what each is")]
pub enum Kind {
    Alert,
    Drop,
    Flow,
    Http,
    Dns,
    Tls,
    Ssh,
    Anomaly,
    Stats,
    Packet,
}

/// A packet behind an alert whose rule has `tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedPacket {
    /// From the Ethernet header on.
    pub frame: Box<[u8]>,
}

impl Body {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Alert(_) => Kind::Alert,
            Self::Drop(_) => Kind::Drop,
            Self::Flow(_) => Kind::Flow,
            Self::Http(_) => Kind::Http,
            Self::Dns(_) => Kind::Dns,
            Self::Tls(_) => Kind::Tls,
            Self::Ssh(_) => Kind::Ssh,
            Self::Anomaly(_) => Kind::Anomaly,
            Self::Stats(_) => Kind::Stats,
            Self::Packet(_) => Kind::Packet,
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Alert,
        Self::Drop,
        Self::Flow,
        Self::Http,
        Self::Dns,
        Self::Tls,
        Self::Ssh,
        Self::Anomaly,
        Self::Stats,
        Self::Packet,
    ];

    /// `event_type`
    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Drop => "drop",
            Self::Flow => "flow",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Anomaly => "anomaly",
            Self::Stats => "stats",
            Self::Packet => "packet",
        }
    }
}

impl Record {
    /// The memory that it holds, with its own size: what a queue's budget is counted in.
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Alert(alert) => alert.bytes(),
            Body::Drop(_) => size_of::<DropRecord>(),
            Body::Flow(_) => size_of::<FlowRecord>(),
            Body::Http(http) => http.bytes(),
            Body::Dns(dns) => dns.bytes(),
            Body::Tls(tls) => tls.bytes(),
            Body::Ssh(ssh) => ssh.bytes(),
            Body::Anomaly(_) => 0,
            Body::Stats(stats) => stats.bytes(),
            Body::Packet(packet) => size_of::<TaggedPacket>() + packet.frame.len(),
        };
        let variables = self.head.variables.as_ref().map_or(0, |variables| variables.bytes());
        size_of::<Self>() + body + variables
    }
}
