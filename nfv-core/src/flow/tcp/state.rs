//! Where a connection stands, and for how long it may stand there in silence.

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// A SYN passed.
    SynSent = 1,
    /// A SYN passed, and one that acknowledges it.
    SynReceived,
    /// Both SYNs are acknowledged.
    Established,
    /// One side's FIN passed.
    FinWait,
    /// One side's FIN is acknowledged.
    CloseWait,
    /// Both sides' FINs passed.
    LastAck,
    /// Both sides' FINs are acknowledged.
    TimeWait,
    /// It was reset.
    Closed,
    /// SYNs of both sides passed, and none is acknowledged.
    SynSent2,
}

impl TcpState {
    /// Its name, `snake_case`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::FinWait => "fin_wait",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::SynSent2 => "syn_sent2",
        }
    }

    /// Whether neither side sends data any more.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }

    #[inline]
    pub(super) fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Closed,
            9 => Self::SynSent2,
            _ => return None,
        })
    }

    #[inline(always)]
    pub(super) const fn byte(self) -> u8 {
        self as u8
    }
}

/// For how long a connection may be idle before it is forgotten: Linux's defaults.
pub const fn idle_seconds(state: TcpState) -> u32 {
    match state {
        TcpState::SynSent | TcpState::SynSent2 | TcpState::FinWait | TcpState::TimeWait => 120,
        TcpState::SynReceived | TcpState::CloseWait => 60,
        TcpState::Established => 5 * 24 * 60 * 60,
        TcpState::LastAck => 30,
        TcpState::Closed => 10,
    }
}
