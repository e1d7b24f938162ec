//! What a user sets.

use std::sync::Arc;

use super::datagrams;
use super::decode;
use crate::ids::{app, eve, stream};

/// How one worker inspects; the defaults are Suricata's where it has the same.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How streams are followed. `mode` says whether packets can be dropped; its `timeouts` are not used: see `timeouts`.
    pub streams: stream::Settings,
    /// How far applications are looked into.
    pub apps: app::Limits,
    /// How fragments are put together.
    pub datagrams: datagrams::Settings,
    /// Which ports carry packets.
    pub tunnels: decode::Tunnels,
    /// Whether segments with a wrong checksum are of no stream.
    pub checksums: Checksums,
    /// Whether VLANs tell flows apart.
    pub vlans: Vlans,
    /// How long a flow is kept without a packet.
    pub timeouts: Timeouts,
    /// When the rest of a flow is not looked at.
    pub bypass: Bypass,
    /// Inline: whether segments that no receiver would take are dropped.
    pub invalid: Invalid,
    /// What is logged.
    pub records: eve::Settings,
    /// The names of the ports, by their numbers.
    pub ports: Vec<Arc<str>>,
    /// Memory of a worker besides that of streams and fragments.
    pub budget: Budget,
}

/// Whether segments with a wrong checksum are of no stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// They are of none: their receiver throws them away.
    #[default]
    Validate,
    /// They are as others: the capture was made before the NIC summed them.
    Ignore,
}

/// Whether VLANs tell flows apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vlans {
    /// They do.
    #[default]
    Apart,
    /// The same ends are one flow, whatever their tags.
    Together,
}

/// When the rest of a flow is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bypass {
    /// Never: packets are looked at one by one when streams are not any more.
    #[default]
    Never,
    /// Once both directions' depth is reached.
    Deep,
    /// Then, and once the rest is encrypted.
    DeepOrEncrypted,
}

/// Inline: what becomes of segments that no receiver would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invalid {
    /// They are dropped.
    #[default]
    Drop,
    /// They pass.
    Pass,
}

/// How long a flow is kept without a packet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// While there is room.
    pub usual: PerProtocol,
    /// While more than nine tenths of the places are taken.
    pub emergency: PerProtocol,
}

/// By protocol, and there by how far the flow is: new, established, closed, bypassed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerProtocol {
    /// TCP.
    pub tcp: [u32; 4],
    /// UDP.
    pub udp: [u32; 4],
    /// ICMP and ICMPv6.
    pub icmp: [u32; 4],
    /// The others.
    pub other: [u32; 4],
}

/// Memory of a worker, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// For flows and their index.
    pub flows: usize,
    /// For what applications hold, and what detection keeps with flows.
    pub apps: usize,
}

impl Default for Timeouts {
    fn default() -> Self {
        let usual = PerProtocol {
            tcp: [60, 600, 60, 100],
            udp: [30, 300, 0, 100],
            icmp: [30, 300, 0, 100],
            other: [30, 300, 0, 100],
        };
        let emergency = PerProtocol {
            tcp: [5, 100, 10, 50],
            udp: [10, 100, 0, 50],
            icmp: [10, 100, 0, 50],
            other: [10, 100, 0, 50],
        };
        Self { usual, emergency }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { flows: 64 << 20, apps: 128 << 20 }
    }
}
