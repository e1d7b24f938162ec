//! Where a connection stands.

/// Where a connection stands, as seen from its server; the names are those of `tcp.state` in flow records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing was seen.
    #[default]
    None,
    /// A SYN.
    SynSent,
    /// A SYN-ACK, or a second SYN.
    SynRecv,
    /// The handshake is done.
    Established,
    /// The server sent its FIN first.
    FinWait1,
    /// And it was acknowledged.
    FinWait2,
    /// Both FINs were, the server's first.
    TimeWait,
    /// The server answered the client's FIN with its own.
    LastAck,
    /// The client sent its FIN first.
    CloseWait,
    /// Both sent a FIN, and neither is acknowledged.
    Closing,
    /// Over.
    Closed,
}

/// What a connection's idle time is counted against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// The handshake is not done.
    #[default]
    New,
    /// Bytes may flow.
    Established,
    /// Both sides are done.
    Closed,
}

impl TcpState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::Established => "established",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::LastAck => "last_ack",
            Self::CloseWait => "close_wait",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// What its idle time is counted against.
    pub fn phase(self) -> Phase {
        match self {
            Self::None | Self::SynSent | Self::SynRecv => Phase::New,
            Self::Established
            | Self::FinWait1
            | Self::FinWait2
            | Self::CloseWait
            | Self::Closing => Phase::Established,
            Self::TimeWait | Self::LastAck | Self::Closed => Phase::Closed,
        }
    }

    /// Whether the handshake is done: `flow:established`.
    pub fn is_established(self) -> bool {
        self >= Self::Established
    }
}
