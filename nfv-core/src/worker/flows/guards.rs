//! How many connections of a worker are half open, and where that is too many: SYNs get cookies there.
//!
//! Counted by piece, where a flow is put in and taken out, so that a reload loses none; a function that gives cookies
//! guards all its pieces, and a worker has its part of what it may have half open. The one rejected: one count for all
//! workers, which each new flow of each would write.

use super::part_of;
use crate::chain::compile::Plan;
use crate::chain::piece::Piece;

/// The guards of a worker, and what they count.
#[derive(Debug, Default)]
pub(super) struct Guards {
    pieces: Vec<OfPiece>,
    guards: Vec<Guard>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfPiece {
    half_open: u32,
    /// 1 + its place; 0 without one.
    guard: usize,
}

/// A function that has SYNs answered with cookies.
#[derive(Debug)]
struct Guard {
    /// Its place in the plan.
    function: usize,
    /// At its pieces.
    half_open: u32,
    /// Of all shards.
    all: u32,
    /// Of the worker's shards.
    most: u32,
    cookies: Cookies,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cookies {
    /// It passes.
    Off,
    /// It is answered.
    On,
}

impl Guards {
    /// `shards`: how many are the worker's.
    pub fn new(plan: &Plan, shards: u16) -> Self {
        let mut guards = Self::default();
        guards.change(plan, shards);
        guards
    }

    /// Lets as many be half open as so many shards may have.
    pub fn reckon(&mut self, shards: u16) {
        for guard in &mut self.guards {
            guard.most = part_of(guard.all, shards);
        }
    }

    /// Changes to another plan, in which pieces that there were have their numbers still.
    pub fn change(&mut self, plan: &Plan, shards: u16) {
        self.guards.clear();
        self.pieces.resize(plan.pieces.len(), OfPiece::default());
        for (own, piece) in self.pieces.iter_mut().zip(&plan.pieces) {
            own.guard = 0;
            let Some((function, all)) = guard_of(piece, plan) else { continue };
            let known = self.guards.iter().position(|g| g.function == function);
            let at = known.unwrap_or_else(|| {
                let (most, cookies) = (part_of(all, shards), Cookies::Off);
                self.guards.push(Guard { function, half_open: 0, all, most, cookies });
                self.guards.len() - 1
            });
            own.guard = at + 1;
            if let Some(guard) = self.guards.get_mut(at) {
                guard.half_open += own.half_open;
            }
        }
    }

    /// The function that guards a piece, by its place in the plan.
    #[inline]
    pub fn of(&self, piece: u16) -> Option<usize> {
        let at = self.pieces.get(usize::from(piece))?.guard.checked_sub(1)?;
        self.guards.get(at).map(|g| g.function)
    }

    /// Whether a SYN at a piece gets a cookie now.
    #[inline]
    pub fn gives(&mut self, piece: u16) -> bool {
        self.guard(piece).is_some_and(Guard::gives)
    }

    /// A connection of a piece is half open.
    #[inline]
    pub fn one_more(&mut self, piece: u16) {
        if let Some(own) = self.pieces.get_mut(usize::from(piece)) {
            own.half_open += 1;
        }
        if let Some(guard) = self.guard(piece) {
            guard.half_open += 1;
        }
    }

    /// One is no more, or open.
    #[inline]
    pub fn one_less(&mut self, piece: u16) {
        if let Some(own) = self.pieces.get_mut(usize::from(piece)) {
            own.half_open = own.half_open.saturating_sub(1);
        }
        if let Some(guard) = self.guard(piece) {
            guard.half_open = guard.half_open.saturating_sub(1);
        }
    }

    fn guard(&mut self, piece: u16) -> Option<&mut Guard> {
        let at = self.pieces.get(usize::from(piece))?.guard.checked_sub(1)?;
        self.guards.get_mut(at)
    }
}

impl Guard {
    /// From `most` on, until a quarter of them is over: at the limit it would change with each SYN.
    fn gives(&mut self) -> bool {
        let least = self.most - self.most / 4;
        self.cookies = match self.cookies {
            Cookies::Off if self.half_open >= self.most => Cookies::On,
            Cookies::On if self.half_open < least => Cookies::Off,
            as_it_was => as_it_was,
        };
        self.cookies == Cookies::On
    }
}

/// The first function of a piece that gives cookies, and how many connections may be half open before.
fn guard_of(piece: &Piece, plan: &Plan) -> Option<(usize, u32)> {
    piece.functions.iter().find_map(|function| {
        let at = function.at?;
        let cookies = plan.functions.get(at)?.built.syn_cookies.as_ref()?;
        Some((at, cookies.half_open))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(most: u32) -> Guards {
        let guard = Guard { function: 7, half_open: 0, all: most, most, cookies: Cookies::Off };
        let of = |guard| OfPiece { half_open: 0, guard };
        Guards { pieces: vec![of(0), of(1), of(1)], guards: vec![guard] }
    }

    #[test]
    fn cookies_are_given_from_the_limit_on_until_a_quarter_is_over() {
        let mut g = guards(8);
        assert_eq!(g.of(1), Some(7));
        for piece in [1, 2, 1, 2, 1, 2, 1] {
            g.one_more(piece);
        }
        assert!(!g.gives(1), "seven of eight");
        g.one_more(2);
        assert!(g.gives(1), "all pieces of the function count together");
        g.one_less(1);
        g.one_less(1);
        assert!(g.gives(2), "six of eight are three quarters");
        g.one_less(2);
        assert!(!g.gives(1));
        g.one_more(1);
        assert!(!g.gives(1), "not before the limit is reached again");
    }

    #[test]
    fn a_limit_of_none_gives_cookies_always_and_a_piece_without_guard_never() {
        let mut g = guards(0);
        assert!(g.gives(1));
        assert!(!g.gives(0));
        g.one_more(0);
        assert_eq!(
            (g.of(0), g.pieces[0].half_open),
            (None, 1),
            "counted for a reload that guards it"
        );
        g.one_less(5);
        assert!(!g.gives(5), "there is no such piece");
    }
}
