//! How many flows there may be, how long they live without a packet, and why a packet is none of them.

use std::time::Duration;

use super::fragment::Refused;
use super::tcp::{Invalid, TcpState, idle_seconds};
use super::wheel::Tick;
use crate::nf::Named;
use crate::packet::protocol;

/// What flows may take, and how long they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Most flows, of all workers together.
    pub max: u32,
    /// What happens when there are so many.
    pub full: WhenFull,
    /// How long a flow lives without a packet.
    pub idle: IdleTimes,
}

/// What happens to a new flow when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Its packet is dropped.
    Refuse,
    /// The oldest flow that is not established makes room; without one its packet is dropped.
    Evict,
}

/// How long a flow lives without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimes {
    /// An established TCP connection.
    pub tcp_established: Duration,
    /// A UDP flow to which an answer came.
    pub udp: Duration,
    /// A UDP flow without an answer.
    pub udp_unreplied: Duration,
    /// ICMP queries.
    pub icmp: Duration,
    /// Any other protocol.
    pub other: Duration,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self { max: 1 << 20, full: WhenFull::Evict, idle: IdleTimes::default() }
    }
}

impl Default for IdleTimes {
    /// Those of Linux; UDP as RFC 4787, REQ-5, has it.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tcp_established: seconds(432_000),
            udp: seconds(300),
            udp_unreplied: seconds(30),
            icmp: seconds(30),
            other: seconds(600),
        }
    }
}

impl IdleTimes {
    /// Ticks that a flow of no connection may be idle.
    #[inline]
    pub(crate) fn ticks(&self, proto: u8, replied: bool) -> u32 {
        let time = match (proto, replied) {
            (protocol::UDP | protocol::UDP_LITE, true) => self.udp,
            (protocol::UDP | protocol::UDP_LITE, false) => self.udp_unreplied,
            (protocol::ICMP | protocol::ICMP6, _) => self.icmp,
            (_, true) => self.other,
            (_, false) => self.other.min(self.udp_unreplied),
        };
        Tick::ticks(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1))
    }
}

/// Ticks that a connection may be idle in a state.
#[inline]
pub(crate) fn tcp_idle_ticks(state: Option<TcpState>, times: &IdleTimes) -> u32 {
    let seconds = match state {
        Some(TcpState::Established) => {
            u32::try_from(times.tcp_established.as_secs()).unwrap_or(u32::MAX)
        }
        // It began with what begins no connection.
        None => idle_seconds(TcpState::Closed),
        Some(other) => idle_seconds(other),
    };
    Tick::ticks(seconds.max(1))
}

/// Why a packet is not one of a flow, where flows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowRefusal {
    /// There are as many flows as there may be.
    TableFull,
    /// Its answers would be those of another flow.
    Clash,
    /// It came from where only answers come from.
    Unsolicited,
    /// An ICMP error about a packet of no flow.
    IcmpUnrelated,
    /// A SYN that no cookie can be sent for, or a cookie that no connection can begin with.
    NoCookie,
    /// A fragment that could be an attack, or whose first one did not come.
    Fragment(Refused),
    /// A segment that does not belong to its connection as it is.
    Tcp(Invalid),
}

impl FlowRefusal {
    /// Names of the reasons, by [`FlowRefusal::index`].
    pub const NAMES: [Named; Self::TCP + Invalid::NAMES.len()] = {
        let mut names = [Self::OTHERS[0]; Self::TCP + Invalid::NAMES.len()];
        let mut i = 0;
        while i < names.len() {
            names[i] = if i < Self::FRAGMENTS {
                Self::OTHERS[i]
            } else if i < Self::TCP {
                Refused::NAMES[i - Self::FRAGMENTS]
            } else {
                Invalid::NAMES[i - Self::TCP]
            };
            i += 1;
        }
        names
    };

    const OTHERS: [Named; 5] = [
        Named { name: "table_full", help: "there are as many flows as `flows: max` allows" },
        Named { name: "clash", help: "its answers would look like those of another flow" },
        Named { name: "unsolicited", help: "no flow of its chain, and only answers come this way" },
        Named { name: "icmp_unrelated", help: "an ICMP error about a packet of no known flow" },
        Named { name: "no_cookie", help: "a SYN cookie is due, and this packet cannot have one" },
    ];
    /// Where in the names the fragments' begin, and where TCP's.
    const FRAGMENTS: usize = Self::OTHERS.len();
    const TCP: usize = Self::FRAGMENTS + Refused::NAMES.len();

    /// Its place in [`FlowRefusal::NAMES`].
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::TableFull => 0,
            Self::Clash => 1,
            Self::Unsolicited => 2,
            Self::IcmpUnrelated => 3,
            Self::NoCookie => 4,
            Self::Fragment(refused) => Self::FRAGMENTS + refused.index(),
            Self::Tcp(invalid) => Self::TCP + invalid.index(),
        }
    }
}
