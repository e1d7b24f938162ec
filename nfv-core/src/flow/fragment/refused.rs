//! Why a fragment is not let on.

use crate::nf::Named;

/// Why a fragment is not let on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refused {
    /// It has bytes that another one has, and others.
    Overlap,
    /// Another one of its datagram was an offence against all of it.
    Poisoned,
    /// All its bytes were there before.
    Duplicate,
    /// The upper layer's header is cut.
    TinyFragment,
    /// Empty, or not the last and no multiple of eight.
    BadLength,
    /// Beyond what a datagram can have.
    TooLong,
    /// The datagram would have two ends.
    TwoEnds,
    /// A later one at the start of the datagram, or a first one elsewhere.
    BadPlace,
    /// Too many holes in its datagram.
    TooScattered,
    /// Its datagram had to make room for another.
    TooMany,
    /// No room to hold it.
    NoRoom,
    /// The first one did not come in time.
    TooLate,
    /// The run ended while it was held.
    Stopped,
}

impl Refused {
    /// Name and meaning of each, by [`Refused::index`].
    pub const NAMES: [Named; 13] = [
        Named {
            name: "fragment_overlap",
            help: "a fragment that overlaps another one of its datagram",
        },
        Named {
            name: "fragment_poisoned",
            help: "a fragment of a datagram of which one was an attack",
        },
        Named {
            name: "fragment_duplicate",
            help: "a fragment whose bytes have all been there before",
        },
        Named { name: "fragment_tiny", help: "a fragment that cuts the upper layer's header" },
        Named {
            name: "fragment_bad_length",
            help: "a fragment that is empty, or no multiple of 8 bytes",
        },
        Named {
            name: "fragment_too_long",
            help: "a fragment beyond the 65,535 bytes of a datagram",
        },
        Named {
            name: "fragment_two_ends",
            help: "fragments that disagree on where their datagram ends",
        },
        Named {
            name: "fragment_bad_place",
            help: "two fragment headers that contradict each other",
        },
        Named {
            name: "fragment_too_scattered",
            help: "a fragment of a datagram with more than 16 pieces",
        },
        Named {
            name: "fragment_too_many",
            help: "a fragment held, whose datagram made room for another",
        },
        Named {
            name: "fragment_no_room",
            help: "a fragment before its first one, and no room to hold it",
        },
        Named {
            name: "fragment_too_late",
            help: "a fragment whose first one did not come in time",
        },
        Named { name: "fragment_stopped", help: "a fragment that was held when the run ended" },
    ];

    /// Its place in [`Refused::NAMES`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// Its name, `snake_case`.
    #[cfg(test)]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self.index()).map_or("refused", |named| named.name)
    }

    /// Whether none of the datagram may pass any more: a receiver could put it together in two ways.
    pub(super) fn poisons(self) -> bool {
        matches!(self, Self::Overlap | Self::TwoEnds)
    }
}
