//! A packet was dropped.

use std::sync::Arc;

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
    /// Its headers cannot be read.
    DecodeError,
    /// A fragment that does not fit the others.
    DefragError,
    /// A fragment without room.
    DefragMemcap,
    /// Its flow found no room.
    FlowMemcap,
    /// All of its flow is dropped.
    FlowDrop,
    /// Its flow's application cannot be followed any more.
    ApplayerError,
    /// A rule says so.
    Rules,
    /// A rule's rate filter says so.
    Threshold,
    /// No receiver would take it.
    StreamError,
    /// Its connection found no room.
    StreamMemcap,
    /// Its connection was met in its middle.
    StreamMidstream,
    /// Its bytes found no room.
    StreamReassembly,
    /// It is on a list.
    Blocklist,
}

impl DropReason {
    /// Its name in records: Suricata's, but for the lists, which Suricata has not.
    pub fn name(self) -> &'static str {
        match self {
            Self::DecodeError => "decode error",
            Self::DefragError => "defrag error",
            Self::DefragMemcap => "defrag memcap",
            Self::FlowMemcap => "flow memcap",
            Self::FlowDrop => "flow drop",
            Self::ApplayerError => "applayer error",
            Self::Rules => "rules",
            Self::Threshold => "threshold detection_filter",
            Self::StreamError => "stream error",
            Self::StreamMemcap => "stream memcap",
            Self::StreamMidstream => "stream midstream",
            Self::StreamReassembly => "stream reassembly",
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

fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
