//! A packet was dropped.

use std::sync::Arc;

use super::alert::{side_name, write_rule};
use super::json::Object;
use super::record::Head;
use super::settings::Settings;
use super::{AlertAction, Verdict};
use crate::ids::buffer::Side;
use crate::ids::rules::Rule;

/// A packet was dropped.
#[derive(Clone, Debug)]
pub struct DropRecord {
    /// Why.
    pub reason: DropReason,
    /// Which way it went; `None`: it has no flow.
    pub side: Option<Side>,
    /// The rule because of which, if it is wanted and there is one; its action is [`AlertAction::Blocked`].
    pub rule: Option<(Arc<Rule>, AlertAction)>,
    /// What became of it in all, if that is wanted.
    pub verdict: Option<Verdict>,
    pub(super) network: Network,
    pub(super) upper: Upper,
}

/// `drop.reason`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// All of its flow is dropped.
    FlowDrop,
    /// A rule says so.
    Rules,
    /// A rule's rate filter says so.
    Threshold,
    /// No receiver would take it.
    StreamError,
    /// It is on a list.
    Blocklist,
}

impl DropReason {
    /// Its name in records: Suricata's, but for the lists, which Suricata has not.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlowDrop => "flow drop",
            Self::Rules => "rules",
            Self::Threshold => "threshold detection_filter",
            Self::StreamError => "stream error",
            Self::Blocklist => "blocklist",
        }
    }
}

/// What is said of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    V4 { len: u16, tos: u8, ttl: u8, id: u16 },
    V6 { len: u16, class: u8, hop_limit: u8, label: u32 },
    Unknown,
}

/// What is said of the header above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upper {
    Tcp { seq: u32, ack: u32, window: u16, flags: u8, reserved: u8, urgent: u16 },
    Udp { len: u16 },
    Icmp { id: u16, seq: u16 },
    Other,
}

impl DropRecord {
    /// `network`: from the IP header on; `upper`: from the header above on, empty of later fragments; `protocol`: which that is.
    pub fn of(network: &[u8], upper: &[u8], protocol: u8, reason: DropReason) -> Self {
        let (network, upper) = (Network::read(network), Upper::read(upper, protocol));
        Self { reason, side: None, rule: None, verdict: None, network, upper }
    }
}

impl Network {
    fn read(bytes: &[u8]) -> Self {
        let Some(first) = bytes.first() else { return Self::Unknown };
        let fields = match first >> 4 {
            4 => (|| {
                let (len, id) = (short(bytes, 2)?, short(bytes, 4)?);
                Some(Self::V4 { len, tos: byte(bytes, 1)?, ttl: byte(bytes, 8)?, id })
            })(),
            6 => (|| {
                let word = long(bytes, 0)?;
                let class = u8::try_from(word >> 20 & 0xff).ok()?;
                let (len, hop_limit) = (short(bytes, 4)?, byte(bytes, 7)?);
                Some(Self::V6 { len, class, hop_limit, label: word & 0x000f_ffff })
            })(),
            _ => None,
        };
        fields.unwrap_or(Self::Unknown)
    }
}

impl Upper {
    fn read(bytes: &[u8], protocol: u8) -> Self {
        let fields = match protocol {
            TCP => (|| {
                let (seq, ack) = (long(bytes, 4)?, long(bytes, 8)?);
                let (window, urgent) = (short(bytes, 14)?, short(bytes, 18)?);
                let (reserved, flags) = (byte(bytes, 12)? & 0x0f, byte(bytes, 13)?);
                Some(Self::Tcp { seq, ack, window, flags, reserved, urgent })
            })(),
            UDP => short(bytes, 4).map(|len| Self::Udp { len }),
            ICMP | ICMPV6 => (|| {
                let (id, seq) = (short(bytes, 4)?, short(bytes, 6)?);
                Some(Self::Icmp { id, seq })
            })(),
            _ => None,
        };
        fields.unwrap_or(Self::Other)
    }
}

impl DropRecord {
    pub(super) fn write(&self, head: &Head, settings: &Settings, o: &mut Object<'_>) {
        let wanted = settings.drop.unwrap_or_default();
        if let Some(side) = self.side {
            o.string("direction", side_name(side));
        }
        o.object("drop", |o| {
            self.network.write(o);
            self.upper.write(o);
            o.string("reason", self.reason.name());
        });
        if let Some(verdict) = self.verdict.filter(|_| wanted.verdict) {
            verdict.write(o);
        }
        if let Some((rule, action)) = self.rule.as_ref().filter(|_| wanted.alerts) {
            write_rule(rule, (*action, &[]), head, false, o);
        }
    }
}

impl Network {
    fn write(self, o: &mut Object<'_>) {
        match self {
            Self::V4 { len, tos, ttl, id } => {
                o.number("len", len);
                o.number("tos", tos);
                o.number("ttl", ttl);
                o.number("ipid", id);
            }
            Self::V6 { len, class, hop_limit, label } => {
                o.number("len", len);
                o.number("tc", class);
                o.number("hoplimit", hop_limit);
                o.number("flowlbl", label);
            }
            Self::Unknown => {}
        }
    }
}

impl Upper {
    fn write(self, o: &mut Object<'_>) {
        match self {
            Self::Tcp { seq, ack, window, flags, reserved, urgent } => {
                o.number("tcpseq", seq);
                o.number("tcpack", ack);
                o.number("tcpwin", window);
                for (bit, name) in FLAGS {
                    o.truth(name, flags & bit != 0);
                }
                o.number("tcpres", reserved);
                o.number("tcpurgp", urgent);
            }
            Self::Udp { len } => o.number("udplen", len),
            Self::Icmp { id, seq } => {
                o.number("icmp_id", id);
                o.number("icmp_seq", seq);
            }
            Self::Other => {}
        }
    }
}

fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// In the order in which records have them.
const FLAGS: [(u8, &str); 6] =
    [(0x02, "syn"), (0x10, "ack"), (0x08, "psh"), (0x04, "rst"), (0x20, "urg"), (0x01, "fin")];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
