//! Why a segment is none of its connection.

use crate::nf::Named;

/// Why a segment does not belong to a connection; an index into [`Invalid::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Invalid {
    /// SYN with FIN, none at all, and the like.
    BadFlags,
    /// A flow starts with another segment.
    NotASyn,
    /// A SYN by the side that did not open the connection, or a second one that is not the first again.
    UnexpectedSyn,
    /// Anything but SYNs, before each side had one.
    NotOpenYet,
    /// Bound I.
    SeqAboveWindow,
    /// Bound II.
    SeqBelowWindow,
    /// Bound III.
    AckOfUnsent,
    /// Bound IV; or in a handshake, where only one number is right.
    AckTooOld,
    /// A reset from before what its receiver expects, or beyond the window (RFC 5961, section 3).
    BadReset,
    /// Data behind a FIN, or a FIN before data.
    BadFin,
}

impl Invalid {
    /// Name and meaning of each, in their order.
    pub const NAMES: [Named; 10] = [
        Named { name: "tcp_bad_flags", help: "no TCP sends these flags together" },
        Named { name: "tcp_not_a_syn", help: "the first segment of a connection is not a SYN" },
        Named {
            name: "tcp_unexpected_syn",
            help: "a SYN from the wrong side, or with another number than before",
        },
        Named {
            name: "tcp_not_open_yet",
            help: "a segment other than a SYN before both sides sent one",
        },
        Named {
            name: "tcp_seq_above_window",
            help: "it starts beyond the window that its receiver gave",
        },
        Named {
            name: "tcp_seq_below_window",
            help: "it ends before the window of its receiver, as an old duplicate does",
        },
        Named {
            name: "tcp_ack_of_unsent",
            help: "it acknowledges what the other side has not sent",
        },
        Named {
            name: "tcp_ack_too_old",
            help: "it acknowledges less than any that can still be on the way",
        },
        Named {
            name: "tcp_bad_reset",
            help: "a reset from before the number that its receiver expects, or beyond the window",
        },
        Named {
            name: "tcp_bad_fin",
            help: "data behind the end of its side, or an end before data that passed",
        },
    ];

    /// Its place in [`Invalid::NAMES`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }
}
