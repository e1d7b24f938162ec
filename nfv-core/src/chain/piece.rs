//! A piece of a chain: flow NFs side by side whose decisions fold into one action, kept with the flow.
//!
//! ```text
//!   through: [count, firewall, nat, ids, lb]        firewall and nat: one piece; lb: another; count and ids see packets
//!   place           0      1           3  ...       where a packet of a direction is looked up: 0 where it comes in
//! ```
//!
//! A chain is cut at its packet NFs, and at flow NFs that decide each packet for itself (a router, a firewall without
//! state). What stands before the first piece changes no ends, so the lookup where packets come in is the first piece's.

use crate::chain::compile::{Function, ProgramId};
use crate::nf::{Direction, Nf, Tracking};

/// A piece, shared by both directions of its chain.
#[derive(Debug)]
pub struct Piece {
    /// Its functions, in the order of the chain.
    pub functions: Vec<PieceFunction>,
    /// How closely connections are followed.
    pub tracking: Tracking,
    /// Where its packets are looked up, by direction.
    pub(crate) places: [u16; 2],
    /// The programs that it is of, by direction.
    pub(crate) programs: [ProgramId; 2],
}

/// A function of a piece.
#[derive(Debug)]
pub struct PieceFunction {
    /// Its place in [`Plan::functions`](super::compile::Plan::functions).
    pub at: usize,
    /// Where in the flow's bytes it keeps its own.
    pub(crate) kept: std::ops::Range<usize>,
    /// For each of its reasons to drop, the program that `on` names.
    pub(crate) reroutes: Vec<Option<ProgramId>>,
}

impl Piece {
    /// Of these functions; `None` when they keep more bytes with a flow than there are.
    pub(crate) fn of(
        functions: Vec<(usize, Vec<Option<ProgramId>>)>,
        all: &[Function],
        programs: [ProgramId; 2],
        room: usize,
    ) -> Option<Self> {
        let mut end = 0;
        let mut tracking = Tracking::Follow;
        let mut own = Vec::new();
        for (at, reroutes) in functions {
            let built = &all.get(at)?.built;
            let bytes = match &built.nf {
                Nf::Flow(nf) => nf.kept_bytes(),
                Nf::Packet(_) => 0,
            };
            tracking = tracking.max(built.tracking);
            let kept = end..end + bytes;
            end = kept.end;
            own.push(PieceFunction { at, kept, reroutes });
        }
        (end <= room).then_some(Self { functions: own, tracking, places: [0, 0], programs })
    }

    /// Where a packet of a direction is looked up.
    #[inline]
    pub(crate) fn place(&self, direction: Direction) -> u16 {
        let [forward, reverse] = self.places;
        match direction {
            Direction::Forward => forward,
            Direction::Reverse => reverse,
        }
    }
}
