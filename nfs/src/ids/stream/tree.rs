//! The pieces of a direction in the order of their numbers: a treap (Seidel and Aragon, 1996) through the pieces' links.
//!
//! In-order segments are added at the right end, in constant time on average; any other in logarithmic time, also when an
//! attacker picks the order, as the priorities come from a secret. No recursion: the way up is in the pieces. The one
//! rejected, a sorted list, is walked in quadratic time by who sends every other byte of a window.

use super::segment::before;
use super::store::Store;

/// The root and the last piece of a tree; 0 and 0 when it is empty. No two of its pieces overlap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tree {
    root: u32,
    last: u32,
}

impl Tree {
    pub(super) fn is_empty(self) -> bool {
        self.root == 0
    }

    /// The last piece, 0 without one.
    #[inline(always)]
    pub(super) fn last(self) -> u32 {
        self.last
    }

    /// The first piece, 0 without one.
    #[inline]
    pub(super) fn first(self, store: &Store) -> u32 {
        leftmost(store, self.root)
    }

    /// The first piece that ends behind a number, 0 without one.
    #[inline]
    pub(super) fn ending_behind(self, store: &Store, seq: u32) -> u32 {
        let (mut at, mut found) = (self.root, 0);
        while at != 0 {
            let piece = store.piece(at);
            if before(seq, piece.end()) {
                found = at;
                at = piece.left;
            } else {
                at = piece.right;
            }
        }
        found
    }

    /// The piece behind another, 0 without one.
    #[inline]
    pub(super) fn next(self, store: &Store, number: u32) -> u32 {
        let right = store.piece(number).right;
        if right != 0 {
            return leftmost(store, right);
        }
        let mut at = number;
        loop {
            let parent = store.piece(at).parent;
            if parent == 0 || store.piece(parent).left == at {
                return parent;
            }
            at = parent;
        }
    }

    /// The piece before another, 0 without one.
    #[inline]
    pub(super) fn previous(self, store: &Store, number: u32) -> u32 {
        let left = store.piece(number).left;
        if left != 0 {
            return rightmost(store, left);
        }
        let mut at = number;
        loop {
            let parent = store.piece(at).parent;
            if parent == 0 || store.piece(parent).right == at {
                return parent;
            }
            at = parent;
        }
    }

    /// Adds a piece that is in no tree and overlaps none of this one's.
    #[inline]
    pub(super) fn insert(&mut self, store: &mut Store, number: u32) {
        if self.root == 0 {
            (self.root, self.last) = (number, number);
            return;
        }
        let seq = store.piece(number).seq;
        let mut parent = self.last;
        if before(seq, store.piece(parent).seq) {
            let mut at = self.root;
            while at != 0 {
                parent = at;
                let piece = store.piece(at);
                at = if before(seq, piece.seq) { piece.left } else { piece.right };
            }
        } else {
            self.last = number;
        }
        let is_left = before(seq, store.piece(parent).seq);
        if let Some(piece) = store.piece_mut(parent) {
            *(if is_left { &mut piece.left } else { &mut piece.right }) = number;
        }
        set_parent(store, number, parent);
        let own = store.priority(number);
        while parent != 0 && store.priority(parent) < own {
            self.lift(store, number);
            parent = store.piece(number).parent;
        }
    }

    /// Takes a piece out.
    #[inline]
    pub(super) fn remove(&mut self, store: &mut Store, number: u32) {
        if number == self.last {
            self.last = self.previous(store, number);
        }
        loop {
            let piece = store.piece(number);
            let child = match (piece.left, piece.right) {
                (0, only) | (only, 0) => {
                    self.replace(store, piece.parent, number, only);
                    return;
                }
                (left, right) if store.priority(left) > store.priority(right) => left,
                (_, right) => right,
            };
            self.lift(store, child);
        }
    }

    /// Takes all pieces out, each once it has none under it, and gives them to `take`. Linear.
    pub(super) fn drain(&mut self, store: &mut Store, mut take: impl FnMut(&mut Store, u32)) {
        let mut at = std::mem::take(self).root;
        while at != 0 {
            let piece = store.piece(at);
            match (piece.left, piece.right) {
                (0, 0) => {
                    match store.piece_mut(piece.parent) {
                        Some(above) if above.left == at => above.left = 0,
                        Some(above) => above.right = 0,
                        None => {}
                    }
                    take(store, at);
                    at = piece.parent;
                }
                (0, right) => at = right,
                (left, _) => at = left,
            }
        }
    }

    /// Puts a piece where its parent is, and the parent under it.
    fn lift(&mut self, store: &mut Store, number: u32) {
        let piece = store.piece(number);
        let parent = piece.parent;
        let above = store.piece(parent);
        let is_left = above.left == number;
        let moved = if is_left { piece.right } else { piece.left };
        self.replace(store, above.parent, parent, number);
        if let Some(below) = store.piece_mut(parent) {
            *(if is_left { &mut below.left } else { &mut below.right }) = moved;
            below.parent = number;
        }
        set_parent(store, moved, parent);
        if let Some(lifted) = store.piece_mut(number) {
            *(if is_left { &mut lifted.right } else { &mut lifted.left }) = parent;
        }
    }

    /// Has `new` where `old` was under `parent`, 0 being the root's.
    fn replace(&mut self, store: &mut Store, parent: u32, old: u32, new: u32) {
        match store.piece_mut(parent) {
            Some(piece) if piece.left == old => piece.left = new,
            Some(piece) => piece.right = new,
            None => self.root = new,
        }
        set_parent(store, new, parent);
    }
}

#[inline]
fn set_parent(store: &mut Store, number: u32, parent: u32) {
    if let Some(piece) = store.piece_mut(number) {
        piece.parent = parent;
    }
}

#[inline]
fn leftmost(store: &Store, mut at: u32) -> u32 {
    loop {
        match store.piece(at).left {
            0 => return at,
            left => at = left,
        }
    }
}

#[inline]
fn rightmost(store: &Store, mut at: u32) -> u32 {
    loop {
        match store.piece(at).right {
            0 => return at,
            right => at = right,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Secret;
    use super::super::store::{NO_BYTES, Piece};
    use super::*;

    fn piece(store: &mut Store, seq: u32) -> u32 {
        let piece = Piece { seq, length: 1, block: NO_BYTES, ..Piece::default() };
        store.add_piece(piece).expect("room")
    }

    fn depth(store: &Store, tree: Tree) -> u32 {
        let mut deepest = 0;
        let mut at = tree.first(store);
        while at != 0 {
            let (mut up, mut levels) = (at, 0);
            while up != 0 {
                up = store.piece(up).parent;
                levels += 1;
            }
            deepest = deepest.max(levels);
            at = tree.next(store, at);
        }
        deepest
    }

    proptest! {
        #[test]
        fn a_tree_has_what_was_added_and_not_taken_out_in_order(
            steps in prop::collection::vec((0u32..400, any::<bool>()), 1..300), start: u32,
        ) {
            let mut store = Store::new(1 << 20, Secret::random());
            let mut tree = Tree::default();
            let mut model = std::collections::BTreeMap::new();
            for (offset, adds) in steps {
                let number = model.get(&offset).copied();
                match (number, adds) {
                    (None, true) => {
                        let number = piece(&mut store, start.wrapping_add(offset * 2));
                        tree.insert(&mut store, number);
                        model.insert(offset, number);
                    }
                    (Some(number), false) => {
                        tree.remove(&mut store, number);
                        store.free_piece(number);
                        model.remove(&offset);
                    }
                    _ => {}
                }
                let mut at = tree.first(&store);
                for number in model.values() {
                    prop_assert_eq!(at, *number);
                    at = tree.next(&store, at);
                }
                prop_assert_eq!(at, 0);
                prop_assert_eq!(tree.last(), model.values().last().copied().unwrap_or(0));
                let behind = start.wrapping_add(offset * 2);
                let wanted = model.range(offset..).next().map_or(0, |(_, number)| *number);
                prop_assert_eq!(tree.ending_behind(&store, behind), wanted);
            }
        }
    }

    #[test]
    fn a_tree_stays_flat_in_any_order() {
        let orders: [fn(u32) -> u32; 3] =
            [|i| i, |i| 50_000 - i, |i| i.wrapping_mul(7919) % 50_000];
        for (round, order) in orders.into_iter().cycle().take(9).enumerate() {
            // A secret that says little, too.
            let secret = if round == 0 { Secret(1, 1) } else { Secret::random() };
            let mut store = Store::new(32 << 20, secret);
            let mut tree = Tree::default();
            for i in 0..50_000 {
                let number = piece(&mut store, order(i) * 2);
                tree.insert(&mut store, number);
            }
            let depth = depth(&store, tree);
            assert!(depth < 70, "{depth} levels");
            tree.drain(&mut store, |store, number| {
                store.free_piece(number);
            });
            assert!(tree.is_empty() && store.in_use() == 0);
        }
    }
}
