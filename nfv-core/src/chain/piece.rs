//! A piece of a chain: flow NFs side by side whose decisions fold into one action, kept with the flow.
//!
//! ```text
//!   through: [count, firewall, nat, ids, lb]        firewall and nat: one piece; lb: another; count and ids see packets
//!   place           in     256         258 ...      where a packet of a direction is looked up; `in`: in the zone of its port
//! ```
//!
//! A chain is cut at its packet NFs, and at flow NFs that decide each packet for itself (a router, a firewall without
//! state). What stands before the first piece changes no ends, so the lookup where packets come in is the first piece's.
//!
//! Flows outlive plans: a reload keeps the pieces that there were, so that a flow of an old one is still understood when
//! its next packet comes. One that is the same in the new file keeps its number.

use crate::chain::compile::{Function, FunctionId, Plan, ProgramId};
use crate::flow::{ENTRANCES, Zone};
use crate::nf::{Direction, Nf, Tracking};

/// A piece, shared by both directions of its chain.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its functions, in the order of the chain.
    pub functions: Vec<PieceFunction>,
    /// How closely connections are followed.
    pub tracking: Tracking,
    /// The user's name of its chain.
    pub chain: String,
    /// The zone that its chain takes packets from.
    pub zone: Zone,
    /// Where its packets are looked up, by direction; `None`: where they come in.
    pub(crate) places: [Option<u16>; 2],
    /// The programs that it is of, by direction; of a piece that is no more, those of its chain.
    pub(crate) programs: Option<[ProgramId; 2]>,
    /// All pieces of its chain, in order, itself among them.
    pub(crate) siblings: Vec<u16>,
    /// The pieces that its chain has now: its siblings, unless a reload cut the chain otherwise. None: the chain is gone.
    pub(crate) now: Vec<u16>,
    /// Its chain kept no flows before the last reload: connections are under way that no flow is known of.
    pub(crate) is_fresh: bool,
}

/// A function of a piece.
#[derive(Clone, Debug)]
pub struct PieceFunction {
    /// Which function.
    pub(crate) id: FunctionId,
    /// Its place in [`Plan::functions`]; `None` when a reload took it away.
    pub at: Option<usize>,
    /// Where in the flow's bytes it keeps its own.
    pub(crate) kept: std::ops::Range<usize>,
    /// Whether it is told that a connection is over.
    pub(crate) hears_closed: bool,
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
            let function = all.get(at)?;
            let bytes = match &function.built.nf {
                Nf::Flow(nf) => nf.kept_bytes(),
                Nf::Packet(_) => 0,
            };
            let hears_closed = hears_closed(function);
            tracking = tracking.max(function.built.tracking);
            let kept = end..end + bytes;
            end = kept.end;
            let (id, at) = (function.id, Some(at));
            own.push(PieceFunction { id, at, kept, hears_closed, reroutes });
        }
        (end <= room).then_some(Self {
            functions: own,
            tracking,
            chain: String::new(),
            zone: Zone::default(),
            places: [None; 2],
            programs: Some(programs),
            siblings: Vec::new(),
            now: Vec::new(),
            is_fresh: false,
        })
    }

    /// Where a packet of a direction is looked up; `None`: where it comes in.
    #[inline]
    pub(crate) fn place(&self, direction: Direction) -> Option<u16> {
        let [forward, reverse] = self.places;
        match direction {
            Direction::Forward => forward,
            Direction::Reverse => reverse,
        }
    }

    /// Whether its chain is still cut as it was.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        !self.now.is_empty() && self.now == self.siblings
    }

    /// Whether a flow of `other` reads as one of this.
    fn is_like(&self, other: &Self) -> bool {
        self.functions.len() == other.functions.len()
            && self
                .functions
                .iter()
                .zip(&other.functions)
                .all(|(a, b)| a.id == b.id && a.kept == b.kept)
    }
}

/// The pieces of a plan in the making.
#[derive(Debug)]
pub(crate) struct Pieces {
    all: Vec<Piece>,
    /// Chains that kept flows before; `None`: there was no plan before.
    before: Option<Vec<String>>,
}

impl Pieces {
    /// Those that there were before, of chains that nothing is known of yet.
    pub fn after(before: Option<&Plan>, functions: &[Function]) -> Self {
        let mut all = before.map_or_else(Vec::new, |plan| plan.pieces.clone());
        let current = |p: &&Piece| p.is_current();
        let chains = |_| all.iter().filter(current).map(|p| p.chain.clone()).collect();
        let before = before.map(chains);
        for piece in &mut all {
            (piece.programs, piece.is_fresh) = (None, false);
            piece.now.clear();
            for function in &mut piece.functions {
                function.at = functions.iter().position(|f| f.id == function.id);
                let now = function.at.and_then(|at| functions.get(at));
                function.hears_closed = now.is_some_and(hears_closed);
                function.reroutes.clear();
            }
        }
        Self { all, before }
    }

    /// Adds the pieces of a chain, in order, and returns their numbers.
    pub fn add(&mut self, chain: &str, zone: Zone, own: Vec<Piece>) -> Vec<usize> {
        let Some(programs) = own.first().and_then(|p| p.programs) else { return Vec::new() };
        let is_fresh = self.before.as_ref().is_some_and(|b| !b.iter().any(|c| c == chain));
        let numbers = self
            .same(chain, &own)
            .unwrap_or_else(|| (self.all.len()..self.all.len() + own.len()).collect());
        let now: Vec<u16> = numbers.iter().map(|n| u16::try_from(*n).unwrap_or(u16::MAX)).collect();
        let last = own.len() - 1;
        for (i, (piece, at)) in own.into_iter().zip(&numbers).enumerate() {
            // Packets of a direction are looked up where they come in for their first piece, elsewhere for the later ones.
            let place = |k: usize| Some(later_place(2 * at + k));
            let forward = if i == 0 { None } else { place(0) };
            let reverse = if i == last { None } else { place(1) };
            let piece = Piece {
                chain: chain.to_owned(),
                zone,
                places: [forward, reverse],
                siblings: now.clone(),
                is_fresh,
                ..piece
            };
            match self.all.get_mut(*at) {
                Some(same) => *same = piece,
                None => self.all.push(piece),
            }
        }
        for piece in self.all.iter_mut().filter(|p| p.chain == chain) {
            piece.now.clone_from(&now);
            piece.programs = Some(programs);
        }
        numbers
    }

    /// The numbers of pieces that the chain had before and that are as these are.
    fn same(&self, chain: &str, own: &[Piece]) -> Option<Vec<usize>> {
        let like = |p: &Piece| {
            p.chain == chain
                && p.siblings.len() == own.len()
                && p.siblings.iter().zip(own).all(|(at, new)| {
                    self.all.get(usize::from(*at)).is_some_and(|old| old.is_like(new))
                })
        };
        let old = self.all.iter().find(|p| like(p))?;
        Some(old.siblings.iter().map(|at| usize::from(*at)).collect())
    }

    /// Whether there are more than places to look flows up at.
    pub fn is_full(&self) -> bool {
        self.all.len() > PIECES_MAX
    }

    /// All of them.
    pub fn done(self) -> Vec<Piece> {
        self.all
    }
}

/// Functions of a chain that stand side by side.
#[derive(Debug)]
pub(crate) enum Run {
    /// One that is asked about each packet.
    Single(usize),
    /// Those that are asked once a flow.
    Piece(Vec<usize>),
}

/// Cuts a chain.
pub(crate) fn folded(through: &[usize], functions: &[Function]) -> Vec<Run> {
    let tracking = |at: &usize| functions.get(*at).map_or(Tracking::None, |f| f.built.tracking);
    let keeps = |at: &usize| tracking(at) > Tracking::None;
    let folds = |at: &usize| functions.get(*at).is_some_and(|f| f.built.folds) || keeps(at);
    let mut runs = Vec::new();
    for run in through.chunk_by(|a, b| folds(a) && folds(b)) {
        if run.iter().any(keeps) {
            runs.push(Run::Piece(run.to_vec()));
        } else {
            runs.extend(run.iter().map(|at| Run::Single(*at)));
        }
    }
    runs
}

fn hears_closed(function: &Function) -> bool {
    match &function.built.nf {
        Nf::Flow(nf) => nf.wants_closed(),
        Nf::Packet(_) => false,
    }
}

/// The place of that number behind those where packets come in.
fn later_place(number: usize) -> u16 {
    u16::try_from(usize::from(ENTRANCES) + number).unwrap_or(u16::MAX)
}

/// Two places each.
const PIECES_MAX: usize = (u16::MAX - ENTRANCES) as usize / 2;
