//! What is kept of a flow: for IPv4 one line that an established packet needs, and another for TCP and the NFs.

use zerocopy::FromZeros;

use super::key::{Address, FlowKey, Scope, Tuple};
use super::tcp::TcpTrack;
use crate::clock::Time;

/// A flow.
#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C, align(64))]
pub struct Entry<A> {
    /// As its first packet has it, and as the answers have it.
    pub tuples: [Tuple<A>; 2],
    /// Outer VLAN id.
    pub vlan: u16,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// What is so with it: [`flag`].
    pub flags: u8,
    /// Where a packet of each side is looked up.
    pub places: [u16; 2],
    /// Of the decision.
    pub generation: u32,
    /// When a packet came last, in ticks.
    pub last_seen: u32,
    /// What becomes of a packet of each side; and whether it is let go by a packet NF ([`Entry::is_let_go`]).
    pub(crate) paths: [u32; 2],
    /// What the first side's rewrite adds to the IPv4 header's sum, and to that of the upper layer.
    pub deltas: [u16; 2],
    /// The piece of a chain that decided it.
    pub piece: u16,
    /// Its place on the shard's wheels.
    pub slot: u8,
    /// The shard that it is of: that of its flow's first packet, where it came in.
    pub shard: u8,
    /// Its neighbours in that place.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    /// Of a TCP connection.
    pub track: TcpTrack,
    /// What the NFs keep with it.
    pub kept: [u8; KEPT],
}

/// A term in which flows are let go: with the next one, each has a packet looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetGoTerm(u32);

impl LetGoTerm {
    /// That of a time: half a minute. Three of them take turns.
    pub fn of(now: Time) -> Self {
        let turn = now.0 / 30_000_000_000 % 3 + 1;
        Self((turn as u32) << LET_GO.trailing_zeros())
    }
}

/// In [`Entry::paths`], of which there are far fewer.
const LET_GO: u32 = 3 << 30;

/// Bytes that all NFs of a piece may keep with a flow.
pub const KEPT: usize = 32;

const _: () = assert!(size_of::<Entry<[u8; 4]>>() == 128);
const _: () = assert!(size_of::<Entry<[u8; 16]>>() == 192);

/// What is so with a flow.
pub mod flag {
    /// It is one.
    pub const USED: u8 = 1;
    /// Its packets are changed.
    pub const REWRITE: u8 = 2;
    /// An answer came.
    pub const REPLIED: u8 = 4;
    /// It may be evicted: not established.
    pub const EMBRYO: u8 = 8;
    /// Of a TCP connection: it counts as half open.
    pub const HALF_OPEN: u8 = 16;
    /// It began against its chain's direction.
    pub const BACKWARDS: u8 = 32;
    /// Its answers go another way: what the first side sends has to tell all.
    pub const ONE_WAY: u8 = 64;
    /// Its handshake was made in place of its ends: numbers are shifted.
    pub const PROXIED: u8 = 128;
}

impl<A: Address> Entry<A> {
    /// What a packet of a side is looked up by.
    #[inline(always)]
    pub fn key(&self, side: Side) -> FlowKey<A> {
        let (tuple, place) = match side {
            Side::First => (self.tuples[0], self.places[0]),
            Side::Answer => (self.tuples[1], self.places[1]),
        };
        FlowKey { tuple, scope: Scope { vlan: self.vlan, place, protocol: self.protocol } }
    }

    /// What a packet of a side becomes.
    #[inline(always)]
    pub fn becomes(&self, side: Side) -> Tuple<A> {
        match side {
            Side::First => self.tuples[1].turned(),
            Side::Answer => self.tuples[0].turned(),
        }
    }

    /// What becomes of a packet of a side.
    #[inline(always)]
    pub fn path(&self, side: Side) -> u32 {
        let [first, answer] = self.paths;
        let path = if side == Side::First { first } else { answer };
        path & !LET_GO
    }

    /// Whether the packet NF of its chain that may let flows go has let this side's packets go in a term. A flow that is
    /// decided again has not been let go.
    #[inline(always)]
    pub fn is_let_go(&self, side: Side, term: LetGoTerm) -> bool {
        let [first, answer] = self.paths;
        let path = if side == Side::First { first } else { answer };
        path & LET_GO == term.0
    }

    /// Says so; `None`: it has not.
    #[inline]
    pub fn let_go(&mut self, side: Side, term: Option<LetGoTerm>) {
        let [first, answer] = &mut self.paths;
        let path = if side == Side::First { first } else { answer };
        *path = *path & !LET_GO | term.map_or(0, |term| term.0);
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Which of a flow's directions: that of its first packet, or of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who started it.
    First = 0,
    /// Who answers.
    Answer = 1,
}

impl Side {
    /// 0 or 1.
    #[inline(always)]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// An entry and the side by which it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRef(pub(super) u32);

impl FlowRef {
    /// No flow.
    pub const NONE: Self = Self(0);

    /// An entry, by a side.
    #[inline(always)]
    pub fn of(entry: u32, side: Side) -> Self {
        Self(entry << 1 | side as u32)
    }

    /// The entry's number.
    #[inline(always)]
    pub fn entry(self) -> u32 {
        self.0 >> 1
    }

    /// The side.
    #[inline(always)]
    pub fn side(self) -> Side {
        if self.0 & 1 == 0 { Side::First } else { Side::Answer }
    }

    /// Whether there is one.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn entry() -> Entry<[u8; 4]> {
        Entry { paths: [7, 9], ..Entry::new_zeroed() }
    }

    #[test]
    fn a_side_that_is_let_go_is_so_for_its_term_and_the_other_side_is_not() {
        let mut entry = entry();
        let (now, next) = (LetGoTerm::of(Time(31 * SECOND)), LetGoTerm::of(Time(61 * SECOND)));
        assert_eq!(LetGoTerm::of(Time(59 * SECOND)), now);
        assert_ne!(next, now);
        assert!(!entry.is_let_go(Side::First, now));
        entry.let_go(Side::First, Some(now));
        assert!(entry.is_let_go(Side::First, now));
        assert!(!entry.is_let_go(Side::First, next), "one packet a term is looked at");
        assert!(!entry.is_let_go(Side::Answer, now));
        entry.let_go(Side::First, None);
        assert!(!entry.is_let_go(Side::First, now));
    }

    #[test]
    fn what_becomes_of_packets_is_the_same_whether_they_are_let_go_or_not() {
        let mut entry = entry();
        for seconds in (0..120).step_by(10) {
            let term = LetGoTerm::of(Time(seconds * SECOND));
            entry.let_go(Side::First, Some(term));
            entry.let_go(Side::Answer, Some(term));
            assert_eq!((entry.path(Side::First), entry.path(Side::Answer)), (7, 9));
        }
    }

    #[test]
    fn no_term_is_that_of_a_flow_that_was_not_let_go() {
        let entry = entry();
        for seconds in 0..200 {
            assert!(!entry.is_let_go(Side::First, LetGoTerm::of(Time(seconds * SECOND))));
        }
    }
}
