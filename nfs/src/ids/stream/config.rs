//! What a user sets.

use super::policy::HostPolicies;

/// How streams are tracked and put together; the defaults are Suricata's where it has the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who sees the bytes first.
    pub mode: Mode,
    /// Whether a connection is followed whose SYN was not seen.
    pub midstream: Midstream,
    /// Whether a connection is followed of which one side alone is seen.
    pub one_side: OneSide,
    /// What becomes of urgent bytes.
    pub urgent: Urgent,
    /// How receivers treat overlaps.
    pub hosts: HostPolicies,
    /// Bytes of a direction that are looked at; 0 for all.
    pub depth: u64,
    /// Bytes that a window waits for, to the server and to the client.
    pub chunk: [u32; 2],
    /// Bytes that a window shows again before the fresh ones.
    pub history: u32,
    /// Bytes that one direction may hold.
    pub direction_bytes: u32,
    /// SYNs, or SYN-ACKs, of a connection that are kept besides the first.
    pub offers: u8,
    /// How long a connection is kept without a packet.
    pub timeouts: Timeouts,
    /// Memory of a worker.
    pub budget: Budget,
}

/// Who sees the bytes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Their receiver does: bytes count once they are acknowledged, and overlaps as the receiver treats them.
    #[default]
    Passive,
    /// We do: bytes count when they come, and what passed first counts for all.
    Inline,
}

/// Whether a connection is followed whose SYN was not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Midstream {
    /// No: its packets are no stream's.
    #[default]
    Leave,
    /// From any packet on but RST and FIN.
    PickUp,
}

/// Whether a connection is followed of which one side alone is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneSide {
    /// No: its handshake is never done.
    #[default]
    Leave,
    /// It is; its bytes count when they come, as nobody is seen to acknowledge them.
    Follow,
}

/// What becomes of urgent bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgent {
    /// The byte is left out of the stream, as sockets do without `SO_OOBINLINE`; at most 64 a direction.
    #[default]
    LeftOut,
    /// It is a byte as any other.
    Inline,
}

/// How long a connection is kept without a packet, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By the phase: new, established, closed.
    pub usual: [u32; 3],
    /// The same, while more than nine tenths of the places are taken.
    pub emergency: [u32; 3],
}

/// Memory of a worker, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// For connections, their index, and the SYNs that are kept of them.
    pub connections: usize,
    /// For bytes that wait or are kept.
    pub bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Passive,
            midstream: Midstream::Leave,
            one_side: OneSide::Leave,
            urgent: Urgent::LeftOut,
            hosts: HostPolicies::default(),
            depth: 1 << 20,
            chunk: [2560, 2560],
            history: 1024,
            direction_bytes: 4 << 20,
            offers: 5,
            timeouts: Timeouts { usual: [60, 600, 60], emergency: [5, 100, 10] },
            budget: Budget { connections: 64 << 20, bytes: 256 << 20 },
        }
    }
}
