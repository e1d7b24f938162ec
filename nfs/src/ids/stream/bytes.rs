//! The bytes of one direction: what waits for its turn, what is told in order, and what is kept behind that.
//!
//! ```text
//!        left                    next              numbers go round at 2^32; offsets do not
//!   ------|-----------------------|=======.....======....===-->
//!         |  kept: told already,  |  waits: out of order, or not acknowledged yet
//!         |  unseen by raw rules  |
//!         |  or within history    |
//! ```
//!
//! Pieces never overlap: where a segment meets others, each meeting is decided by the receiver's policy and the bytes that
//! lost are not kept. A piece that lost its middle is two; one that lost all is gone. So a third segment meets what the
//! receiver's queue has, and not what it once was sent. What was told is final: it was acknowledged, or has passed.

use super::policy::{OverlapPolicy, Range, Winner};
use super::segment::{before, earlier, later};
use super::store::{BlockId, LARGE, NO_BYTES, Piece, Run, SMALL, Size, Store};
use super::tree::Tree;

/// The bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    /// Offset of the byte that is told next.
    told: u64,
    /// Its number.
    next: u32,
    /// How far behind `next` pieces are kept.
    kept: u32,
    /// Of those, what [`Bytes::window`] has not shown.
    unseen: u32,
    /// Offsets that those take: bytes that are left out take none.
    unseen_offsets: u32,
    /// What pieces and their bytes take.
    held: u32,
    tree: Tree,
    /// The block that is being filled.
    tail: BlockId,
}

/// Who decides where segments overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// What passed first, whatever the receiver: later packets are made to say the same.
    Passed,
    /// The receiver's policy.
    Receiver(OverlapPolicy),
}

/// What became of a segment's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inserted {
    /// Bytes that are held of it.
    pub(super) stored: u32,
    /// Bytes that found no room.
    pub(super) refused: u32,
    /// Whether all of it is from before what is kept.
    pub(super) is_before: bool,
    /// Whether all of it is behind the depth: nobody looks at it in the stream.
    pub(super) is_beyond: bool,
    /// Whether other segments had some of its bytes.
    pub(super) overlaps: bool,
    /// Whether they were others.
    pub(super) differs: bool,
}

/// How far bytes may be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Number behind the last byte that may be told.
    pub(super) data: u32,
    /// Number up to which bytes that are not there are given up where others follow.
    pub(super) hole: u32,
    /// And where none do.
    pub(super) tail: u32,
}

/// A part of a stream, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'b> {
    Data { offset: u64, bytes: &'b [u8] },
    Gap { offset: u64, length: u64 },
}

/// Bytes of a stream that lie together: some that were shown before, then fresh ones.
#[derive(Clone, Copy, Debug)]
pub struct Window<'b> {
    /// Offset of its first byte.
    pub offset: u64,
    /// How many of its bytes were in a window before.
    pub history: usize,
    /// The bytes.
    pub bytes: &'b [u8],
    /// Whether all that was told since the last one is in this one or still to be shown.
    pub is_whole: bool,
}

impl Bytes {
    /// Starts at a number.
    pub(super) fn starting(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    /// Number of the byte that is told next.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Offset of the byte that is told next.
    #[inline]
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Bytes that it holds, and [`PIECE`] for each piece of them.
    #[inline]
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Bytes that no window has shown.
    #[inline]
    pub(super) fn unseen(&self) -> u32 {
        self.unseen
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Keeps what a segment adds. Cost: one copy; in order, constant time.
    #[inline]
    pub(super) fn insert(
        &mut self,
        store: &mut Store,
        seq: u32,
        bytes: &[u8],
        judge: Judge,
    ) -> Inserted {
        let mut done = Inserted::default();
        let end = seq.wrapping_add(bytes.len() as u32);
        let left = self.next.wrapping_sub(self.kept);
        if !before(left, end) {
            done.is_before = true;
            return done;
        }
        let last = self.tree.last();
        if last == 0 || !before(seq, store.piece(last).end()) {
            self.put_run(store, seq, bytes, &mut done);
        } else {
            self.weave(store, seq, bytes, judge, &mut done);
        }
        done
    }

    /// [`Bytes::insert`] where other pieces may have some of its bytes.
    fn weave(
        &mut self,
        store: &mut Store,
        seq: u32,
        bytes: &[u8],
        judge: Judge,
        done: &mut Inserted,
    ) {
        let end = seq.wrapping_add(bytes.len() as u32);
        let start = later(seq, self.next.wrapping_sub(self.kept));
        // From where on the new bytes are kept that no piece has kept its own against.
        let mut run = start;
        let mut at = self.tree.ending_behind(store, start);
        while at != 0 {
            let piece = store.piece(at);
            if !before(piece.seq, end) {
                break;
            }
            let behind = self.tree.next(store, at);
            let from = later(piece.seq, start);
            let to = earlier(piece.end(), end);
            done.overlaps = true;
            let open = later(from, self.next);
            let differs = |from, to| {
                let old = slice(store.bytes(&piece), piece.seq, from, to);
                piece.block != NO_BYTES && old != slice(bytes, seq, from, to)
            };
            done.differs |= differs(from, to);
            let takes_new = before(open, to)
                && differs(open, to)
                && self.winner(&piece, later(seq, self.next), end, judge) == Winner::New
                && self.cut(store, at, open, to);
            if takes_new {
                if open != from {
                    run = open;
                }
            } else {
                self.put_run_between(store, (seq, bytes), (run, from), done);
                run = to;
            }
            at = behind;
        }
        self.put_run_between(store, (seq, bytes), (run, end), done);
    }

    fn winner(&self, piece: &Piece, start: u32, end: u32, judge: Judge) -> Winner {
        let Judge::Receiver(policy) = judge else { return Winner::Old };
        // What the receiver has taken is not in its queue any more.
        let distance = |seq: u32| i64::from(seq.wrapping_sub(self.next).cast_signed());
        let old = Range { start: distance(piece.seq).max(0), end: distance(piece.end()) };
        policy.winner(old, Range { start: distance(start), end: distance(end) })
    }

    /// Takes bytes out of a piece. False: it would have become two, and there is no room for a second; it is as it was.
    fn cut(&mut self, store: &mut Store, number: u32, from: u32, to: u32) -> bool {
        let piece = store.piece(number);
        let (has_left, has_right) = (before(piece.seq, from), before(to, piece.end()));
        let left = from.wrapping_sub(piece.seq) as u16;
        let skipped = to.wrapping_sub(piece.seq) as u16;
        let rest = Piece {
            seq: to,
            length: piece.length.wrapping_sub(skipped),
            at: piece.at.wrapping_add(skipped),
            ..piece
        };
        match (has_left, has_right) {
            (false, false) => {
                self.drop_piece(store, number);
                return true;
            }
            (true, true) => {
                let Some(second) = store.add_piece(rest) else { return false };
                set_length(store, number, left);
                self.tree.insert(store, second);
                self.held += PIECE;
            }
            (true, false) => set_length(store, number, left),
            (false, true) => {
                if let Some(p) = store.piece_mut(number) {
                    (p.seq, p.length, p.at) = (rest.seq, rest.length, rest.at);
                }
            }
        }
        self.held -= to.wrapping_sub(from);
        true
    }

    fn put_run_between(
        &mut self,
        store: &mut Store,
        (seq, bytes): (u32, &[u8]),
        (from, to): (u32, u32),
        done: &mut Inserted,
    ) {
        if before(from, to) {
            self.put_run(store, from, slice(bytes, seq, from, to), done);
        }
    }

    /// Keeps bytes that no piece has; not those from before `next`.
    #[inline]
    fn put_run(&mut self, store: &mut Store, seq: u32, bytes: &[u8], done: &mut Inserted) {
        let from = later(seq, self.next);
        let mut rest = bytes.get(from.wrapping_sub(seq) as usize..).unwrap_or_default();
        let mut seq = from;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.len().min(LARGE));
            if !self.put(store, seq, chunk) {
                done.refused += rest.len() as u32;
                return;
            }
            done.stored += chunk.len() as u32;
            seq = seq.wrapping_add(chunk.len() as u32);
            rest = behind;
        }
    }

    #[inline]
    fn put(&mut self, store: &mut Store, seq: u32, chunk: &[u8]) -> bool {
        let is_small = chunk.len() + self.held as usize <= SMALL;
        let size = if is_small { Size::Small } else { Size::Large };
        let Some((block, at)) = store.put(self.tail, chunk, size) else { return false };
        let piece = Piece { seq, length: chunk.len() as u16, at, block, ..Piece::default() };
        let Some(number) = store.add_piece(piece) else {
            store.free_if_unused(block);
            return false;
        };
        self.tail = block;
        self.held += PIECE + chunk.len() as u32;
        self.tree.insert(store, number);
        true
    }

    /// Leaves a byte out of the stream, as receivers do with an urgent one, unless it is there or was told.
    pub(super) fn leave_out(&mut self, store: &mut Store, seq: u32) -> bool {
        if before(seq, self.next) {
            return false;
        }
        let at = self.tree.ending_behind(store, seq);
        if at != 0 && !before(seq, store.piece(at).seq) {
            return store.piece(at).block == NO_BYTES;
        }
        let piece = Piece { seq, length: 1, block: NO_BYTES, ..Piece::default() };
        let Some(number) = store.add_piece(piece) else { return false };
        self.held += PIECE;
        self.tree.insert(store, number);
        true
    }

    /// Tells what may be told, in order. `watch`: whether windows are to show it.
    #[inline]
    pub(super) fn tell(
        &mut self,
        store: &Store,
        reach: Reach,
        watch: Watch,
        mut tell: impl FnMut(Told<'_>),
    ) {
        let mut at = self.tree.ending_behind(store, self.next);
        loop {
            let piece = store.piece(at);
            let hole_end = if at == 0 { reach.tail } else { earlier(piece.seq, reach.hole) };
            // One that nothing follows may be a FIN that was not seen.
            let may_be_fin = at == 0 && hole_end == self.next.wrapping_add(1);
            if before(self.next, hole_end) && !may_be_fin {
                let length = hole_end.wrapping_sub(self.next);
                tell(Told::Gap { offset: self.told, length: u64::from(length) });
                self.pass(length, length, watch);
            }
            if at == 0 || before(self.next, piece.seq) {
                return;
            }
            let to = earlier(piece.end(), reach.data);
            if !before(self.next, to) {
                return;
            }
            let length = to.wrapping_sub(self.next);
            if piece.block == NO_BYTES {
                self.pass(length, 0, watch);
            } else {
                let bytes = slice(store.bytes(&piece), piece.seq, self.next, to);
                tell(Told::Data { offset: self.told, bytes });
                self.pass(length, length, watch);
            }
            if to != piece.end() {
                return;
            }
            at = self.tree.next(store, at);
        }
    }

    /// Keeps and tells bytes that are next, right behind the last ones that it has, where as many as `reach` of those lie before
    /// them. `None`: that cannot be, and nothing was done.
    // What it returns, and a piece that has just grown, are not to be read by more bytes at once than were written: that would
    // wait for the copy before it, some 20 ns.
    #[inline(always)]
    pub(super) fn append(&mut self, store: &mut Store, bytes: &[u8], reach: usize) -> Option<Run> {
        let (block, reach) = self.reached(store, reach)?;
        let run = match store.grow(self.tree.last(), bytes) {
            Some(at) => Run { block, from: at - reach as u16, end: at + bytes.len() as u16 },
            None => self.append_piece(store, bytes, reach)?,
        };
        self.held += bytes.len() as u32;
        self.pass(bytes.len() as u32, bytes.len() as u32, Watch::Yes);
        Some(run)
    }

    /// Undoes all that [`Bytes::append`] has done since it was as it `was`.
    pub(super) fn take_back(&mut self, store: &mut Store, was: &Self) {
        let last = was.tree.last();
        while !self.tree.is_empty() && self.tree.last() != last {
            self.drop_piece(store, self.tree.last());
        }
        store.shrink(last, was.next);
        *self = Self { tree: self.tree, ..*was };
    }

    /// The block that the last `reach` bytes are in, or all that were told, right before the next ones; and how many they are.
    #[inline(always)]
    fn reached(&self, store: &Store, reach: usize) -> Option<(BlockId, usize)> {
        let last = store.piece_at(self.tree.last())?;
        let length = usize::from(last.length);
        let has_reach = length >= reach || length as u64 == self.told;
        let is_next = last.block != NO_BYTES && last.end() == self.next;
        (is_next && has_reach).then_some((last.block, reach.min(length)))
    }

    /// [`Bytes::append`] as a piece of its own.
    #[inline(never)]
    fn append_piece(&mut self, store: &mut Store, bytes: &[u8], reach: usize) -> Option<Run> {
        let last = store.piece(self.tree.last());
        let (block, from, at) = store.put_behind(&last, reach, bytes)?;
        let length = bytes.len() as u16;
        let piece = Piece { seq: self.next, length, at, block, ..Piece::default() };
        let Some(number) = store.add_piece(piece) else {
            store.free_if_unused(block);
            return None;
        };
        self.tail = block;
        self.held += PIECE;
        self.tree.insert(store, number);
        Some(Run { block, from, end: at + length })
    }

    /// All that was told was looked at, as if a window had shown it.
    #[inline]
    pub(super) fn pass_seen(&mut self) {
        (self.unseen, self.unseen_offsets) = (0, 0);
    }

    /// Bytes that were told and are kept, and need not be.
    #[inline]
    pub(super) fn surplus(&self, keep: Keep) -> u32 {
        self.kept.saturating_sub((self.unseen + keep.history).max(keep.least))
    }

    /// The last `most` bytes that were told, as far as they are there in one row.
    pub(super) fn each_told(&self, store: &Store, most: u32, show: &mut impl FnMut(&[u8])) {
        let most = u32::try_from(self.told).map_or(most, |told| most.min(told)).min(self.kept);
        let mut seq = self.next.wrapping_sub(most);
        let mut at = self.tree.ending_behind(store, seq);
        while at != 0 && before(seq, self.next) {
            let piece = store.piece(at);
            seq = later(seq, piece.seq);
            let to = earlier(piece.end(), self.next);
            if piece.block != NO_BYTES && before(seq, to) {
                show(slice(store.bytes(&piece), piece.seq, seq, to));
            }
            seq = later(seq, to);
            at = self.tree.next(store, at);
        }
    }

    /// Goes on by as many numbers and offsets.
    #[inline]
    fn pass(&mut self, numbers: u32, offsets: u32, watch: Watch) {
        self.next = self.next.wrapping_add(numbers);
        self.told += u64::from(offsets);
        self.kept = self.kept.saturating_add(numbers);
        if watch == Watch::Yes {
            self.unseen = self.unseen.saturating_add(numbers);
            self.unseen_offsets = self.unseen_offsets.saturating_add(offsets);
        }
    }

    /// Frees what need not be kept: all but the last `least` bytes that were told, and what no window has shown with as
    /// much as `history` before it. If that is more than `unseen_max`, nobody asks for windows, and none of it is kept;
    /// returns how much that was.
    #[inline]
    pub(super) fn release(&mut self, store: &mut Store, keep: Keep) -> u32 {
        let lost = if self.unseen > keep.unseen_max { self.unseen } else { 0 };
        if lost > 0 {
            (self.unseen, self.unseen_offsets) = (0, 0);
        }
        let kept = self.kept.min((self.unseen + keep.history).max(keep.least));
        self.kept = kept;
        let left = self.next.wrapping_sub(kept);
        let mut first = self.tree.first(store);
        while first != 0 && !before(left, store.piece(first).end()) {
            self.drop_piece(store, first);
            first = self.tree.first(store);
        }
        lost
    }

    /// Frees all that was told. Returns how many bytes no window had shown.
    pub(super) fn forget_told(&mut self, store: &mut Store) -> u32 {
        self.release(store, Keep { least: 0, history: 0, unseen_max: 0 })
    }

    /// Frees everything. Returns how many bytes were held.
    pub(super) fn forget(&mut self, store: &mut Store) -> u32 {
        let held = self.held;
        self.tree.drain(store, |store, number| {
            store.free_piece(number);
        });
        (self.held, self.kept, self.tail) = (0, 0, NO_BYTES);
        (self.unseen, self.unseen_offsets) = (0, 0);
        held
    }

    /// The first bytes that no window has shown, with up to `history` before them that lie together with them, as many as
    /// `scratch` has room for where they are of several pieces; then they count as shown. `None`: there are none.
    ///
    /// `scratch`: room for `history` and two pieces, at least.
    pub(super) fn window<'b>(
        &mut self,
        store: &'b Store,
        history: u32,
        scratch: &'b mut Vec<u8>,
    ) -> Option<Window<'b>> {
        let from = self.next.wrapping_sub(self.unseen);
        let first = self.tree.ending_behind(store, from);
        let head = store.piece(first);
        let start = later(head.seq, from);
        if first == 0 || self.unseen == 0 || !before(start, self.next) {
            (self.unseen, self.unseen_offsets) = (0, 0);
            return None;
        }
        let skipped = start.wrapping_sub(from);
        let offset = self.told - u64::from(self.unseen_offsets) + u64::from(skipped);
        // Back, to where the history begins.
        let (mut at, mut begin) = (first, start);
        let left = later(start.wrapping_sub(history), self.next.wrapping_sub(self.kept));
        loop {
            begin = later(earlier(store.piece(at).seq, begin), left);
            let previous = self.tree.previous(store, at);
            let touches = previous != 0 && store.piece(previous).end() == store.piece(at).seq;
            if !touches || !before(left, begin) {
                break;
            }
            at = previous;
        }
        // And on, to where the fresh bytes end.
        let only = store.piece(at);
        let is_one = !before(only.end(), self.next);
        scratch.clear();
        let mut seq = begin;
        // Bytes before and from `start` on that have offsets.
        let (mut shown, mut fresh) = (0, 0);
        while at != 0 && before(seq, self.next) {
            let piece = store.piece(at);
            if before(seq, piece.seq) {
                break;
            }
            let to = earlier(piece.end(), self.next);
            if !is_one {
                let bytes = slice(store.bytes(&piece), piece.seq, seq, to);
                if scratch.capacity() - scratch.len() < bytes.len() {
                    break;
                }
                scratch.extend_from_slice(bytes);
            }
            if piece.block != NO_BYTES {
                let border = later(seq, earlier(to, start));
                shown += border.wrapping_sub(seq);
                fresh += to.wrapping_sub(border);
            }
            seq = to;
            at = self.tree.next(store, at);
        }
        self.unseen = self.next.wrapping_sub(seq);
        self.unseen_offsets = self.unseen_offsets.saturating_sub(skipped + fresh);
        let bytes =
            if is_one { slice(store.bytes(&only), only.seq, begin, seq) } else { &scratch[..] };
        let (offset, history) = (offset - u64::from(shown), shown as usize);
        Some(Window { offset, history, bytes, is_whole: true })
    }

    /// Puts what is held in the place of other bytes from a number on. Returns how many were others.
    pub(super) fn overwrite(&self, store: &Store, seq: u32, bytes: &mut [u8]) -> u32 {
        let end = seq.wrapping_add(bytes.len() as u32);
        let mut changed = 0;
        let mut at = self.tree.ending_behind(store, seq);
        while at != 0 && before(store.piece(at).seq, end) {
            let piece = store.piece(at);
            let (from, to) = (later(piece.seq, seq), earlier(piece.end(), end));
            let old = slice(store.bytes(&piece), piece.seq, from, to);
            let range = from.wrapping_sub(seq) as usize..to.wrapping_sub(seq) as usize;
            for (new, old) in bytes.get_mut(range).unwrap_or_default().iter_mut().zip(old) {
                changed += u32::from(new != old);
                *new = *old;
            }
            at = self.tree.next(store, at);
        }
        changed
    }

    /// All that is held, with its distance from the byte that is told next; urgent bytes that are left out are not.
    pub(super) fn each_held(&self, store: &Store, mut tell: impl FnMut(i64, &[u8])) {
        let mut at = self.tree.first(store);
        while at != 0 {
            let piece = store.piece(at);
            if piece.block != NO_BYTES {
                let distance = piece.seq.wrapping_sub(self.next).cast_signed();
                tell(i64::from(distance), store.bytes(&piece));
            }
            at = self.tree.next(store, at);
        }
    }

    fn drop_piece(&mut self, store: &mut Store, number: u32) {
        let piece = store.piece(number);
        let bytes = if piece.block == NO_BYTES { 0 } else { u32::from(piece.length) };
        self.held -= PIECE + bytes;
        self.tree.remove(store, number);
        let freed = store.free_piece(number);
        if freed != NO_BYTES && freed == self.tail {
            self.tail = NO_BYTES;
        }
    }
}

/// Whether windows are to show bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Yes,
    No,
}

/// What is kept of bytes that were told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Bytes before `next`, whoever has seen them.
    pub(super) least: u32,
    /// Bytes before those that no window has shown.
    pub(super) history: u32,
    /// Bytes that wait for a window.
    pub(super) unseen_max: u32,
}

#[inline]
fn set_length(store: &mut Store, number: u32, length: u16) {
    if let Some(piece) = store.piece_mut(number) {
        piece.length = length;
    }
}

/// Bytes from one number to another, of some that start at `seq`.
#[inline]
fn slice(bytes: &[u8], seq: u32, from: u32, to: u32) -> &[u8] {
    let range = from.wrapping_sub(seq) as usize..to.wrapping_sub(seq) as usize;
    bytes.get(range).unwrap_or_default()
}

/// What a piece takes besides its bytes.
const PIECE: u32 = size_of::<Piece>() as u32;

#[cfg(test)]
mod tests;
