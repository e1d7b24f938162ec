//! What becomes of the packets of flows that were decided alike, and how many there were.
//!
//! All flows that the same rules let through share a path for each direction. A packet adds to its path's counters, one
//! line however many functions; from time to time those are added to the counters of each function and rule. The one
//! rejected: counters with each flow, which a rule's sum would have to walk all flows for.

use std::collections::HashMap;

use crate::account::{CellId, Cells};
use crate::chain::compile::ProgramId;
use crate::nf::{Direction, Via};

/// A path: what a worker has to know for each packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    packets: u64,
    bytes: u64,
    /// How packets leave: an index into the vias; 0 is the chain's way.
    pub via: u16,
}

/// All paths of a worker.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    paths: Vec<Path>,
    /// By path: where its packets and bytes are added.
    cells: Vec<PathCells>,
    known: HashMap<Box<[u32]>, u32>,
    /// By path, what it is known by.
    keys: Vec<Box<[u32]>>,
    /// The ones that flows took last: most new ones take them too.
    recent: [u32; 4],
    vias: Vec<Via>,
    /// All but the chain's way by what they are: a balancer has one for each backend.
    known_vias: HashMap<Via, u16>,
    /// Paths that packets took since they were added up.
    dirty: Vec<u32>,
}

#[derive(Debug)]
struct PathCells {
    packets: Box<[CellId]>,
    bytes: Box<[CellId]>,
}

impl Paths {
    pub fn new() -> Self {
        Self { vias: vec![Via::Chain], ..Self::default() }
    }

    /// A path by its number.
    #[inline(always)]
    pub fn get(&self, path: u32) -> Option<&Path> {
        self.paths.get(path as usize)
    }

    /// How packets of a path leave.
    #[inline]
    pub fn via(&self, path: u32) -> Via {
        let via = self.get(path).and_then(|p| self.vias.get(usize::from(p.via)));
        via.copied().unwrap_or_default()
    }

    /// Counts a packet.
    #[inline(always)]
    pub fn count(&mut self, number: u32, bytes: u32) {
        let Some(path) = self.paths.get_mut(number as usize) else { return };
        if path.packets == 0 {
            self.dirty.push(number);
        }
        path.packets += 1;
        path.bytes += u64::from(bytes);
    }

    /// Adds what was counted to the counters.
    pub fn add_up(&mut self, counters: &Cells) {
        for number in self.dirty.drain(..) {
            let (Some(path), Some(cells)) =
                (self.paths.get_mut(number as usize), self.cells.get(number as usize))
            else {
                continue;
            };
            for cell in &cells.packets {
                counters.add(*cell, path.packets);
            }
            for cell in &cells.bytes {
                counters.add(*cell, path.bytes);
            }
            (path.packets, path.bytes) = (0, 0);
        }
    }

    /// The path of a piece in a program for what `rules` of its functions decided, asked in the direction in which a flow
    /// began, made when there is none. `cells` says where its packets and its bytes are counted.
    pub fn intern(
        &mut self,
        (piece, began, program): (u16, Direction, ProgramId),
        via: Via,
        rules: &[u32],
        cells: impl FnOnce() -> (Box<[CellId]>, Box<[CellId]>),
    ) -> u32 {
        let via = self.intern_via(via);
        let mut key = [0; KEY_MAX];
        let mut n = 0;
        let began = u32::from(began == Direction::Reverse);
        let head = [u32::from(piece), began, u32::from(program.0), u32::from(via)];
        for (to, from) in key.iter_mut().zip(head.iter().chain(rules)) {
            *to = *from;
            n += 1;
        }
        let key = key.get(..n).unwrap_or_default();
        let is_it = |path: &&u32| self.keys.get(**path as usize).is_some_and(|k| **k == *key);
        if let Some(path) = self.recent.iter().find(is_it) {
            return *path;
        }
        if let Some(path) = self.known.get(key).copied() {
            self.remember(path);
            return path;
        }
        let number = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        let (packets, bytes) = cells();
        self.paths.push(Path { packets: 0, bytes: 0, via });
        self.cells.push(PathCells { packets, bytes });
        self.known.insert(key.into(), number);
        self.keys.push(key.into());
        self.remember(number);
        number
    }

    /// The index of a way; where there are too many, the chain's.
    fn intern_via(&mut self, via: Via) -> u16 {
        if via == Via::Chain {
            return 0;
        }
        if let Some(at) = self.known_vias.get(&via) {
            return *at;
        }
        let Some(at) = u16::try_from(self.vias.len()).ok().filter(|at| *at < u16::MAX) else {
            return 0;
        };
        self.vias.push(via);
        self.known_vias.insert(via, at);
        at
    }

    fn remember(&mut self, path: u32) {
        let [a, b, c, _] = self.recent;
        self.recent = [path, a, b, c];
    }
}

/// Piece, direction, program, via, and a rule for each function of the piece.
const KEY_MAX: usize = 4 + FUNCTIONS_MAX;
/// Most functions of a piece whose rules are told apart.
pub(crate) const FUNCTIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_out_is_a_path_of_its_own_that_is_found_again() {
        let mut paths = Paths::new();
        let via = |i: u8| match i {
            0 => Via::Chain,
            1 => Via::Back,
            _ => Via::Station([2, 0, 0, 0, 0, i]),
        };
        let mut numbers = Vec::new();
        for i in (0..200).chain(0..200) {
            let cells = || (Box::default(), Box::default());
            let id = (0, Direction::Forward, ProgramId(0));
            numbers.push(paths.intern(id, via(i), &[7], cells));
        }
        let (first, again) = numbers.split_at(200);
        assert_eq!(first, again);
        for (i, path) in (0..200).zip(first) {
            assert_eq!(paths.via(*path), via(i), "a packet leaves the way it was given");
        }
        assert_eq!(paths.get(first[0]).unwrap().via, 0, "the chain's way costs packets nothing");
    }

    #[test]
    fn flows_share_a_path_only_where_they_are_counted_alike() {
        let mut paths = Paths::new();
        let mut path = |piece, began, program, rules: &[u32]| {
            let cells = || (Box::default(), Box::default());
            paths.intern((piece, began, ProgramId(program)), Via::Chain, rules, cells)
        };
        let one = path(0, Direction::Forward, 1, &[7, 8]);
        assert_eq!(path(0, Direction::Forward, 1, &[7, 8]), one);
        let others = [
            path(1, Direction::Forward, 1, &[7, 8]),
            path(0, Direction::Reverse, 1, &[7, 8]),
            path(0, Direction::Forward, 2, &[7, 8]),
            path(0, Direction::Forward, 1, &[8, 7]),
        ];
        let mut all = [&[one][..], &others].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5, "{one} {others:?}");
    }
}
