//! Where bytes wait: blocks of three sizes, and pieces that say which bytes of a block are where in a direction.
//!
//! ```text
//!   piece: number of the first byte, length, block and place in it, links of the tree       24 bytes
//!   block: 16,376, 2,040 or 248 bytes, filled from the front by one direction, freed with its last piece
//! ```
//!
//! A segment is copied once, into the block that its direction fills, and handed out from there. Small segments share
//! blocks, so that a flood of single bytes costs its pieces and not a block each. What comes in order and is looked at at
//! once grows in place, in a huge block while there are some: several segments are one piece. Of the budget four eighths
//! are for large blocks, two for huge ones, one for small ones and one for pieces: a flood of tiny segments runs out of
//! pieces and leaves whole segments their room.

use super::key::Secret;
use super::pool::{Pool, Slot};

/// Bytes of a direction that are in one block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    /// Number of its first byte.
    pub(super) seq: u32,
    /// Bytes; at least 1.
    pub(super) length: u16,
    /// Where they start in the block.
    pub(super) at: u16,
    /// Where they are; [`NO_BYTES`] for one that is left out of the stream.
    pub(super) block: BlockId,
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) parent: u32,
}

/// Bytes of a block that lie in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) block: BlockId,
    pub(super) from: u16,
    pub(super) end: u16,
}

/// A block by its size, in the two lowest bits, and its number; 0 is none.
pub(super) type BlockId = u32;

/// The block of bytes that there are none of.
pub(super) const NO_BYTES: BlockId = 0;

const _: () = assert!(size_of::<Piece>() == 24);
const _: () = assert!(size_of::<Block<LARGE>>() == 2048 && size_of::<Block<SMALL>>() == 256);
const _: () = assert!(size_of::<Block<HUGE>>() == 16_384);

#[derive(Debug)]
struct Block<const N: usize> {
    link: u32,
    /// Pieces that have bytes here.
    pieces: u16,
    /// Bytes that were filled.
    used: u16,
    bytes: [u8; N],
}

impl<const N: usize> Default for Block<N> {
    fn default() -> Self {
        Self { link: 0, pieces: 0, used: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Slot for Block<N> {
    fn link(&self) -> u32 {
        self.link
    }
    fn set_link(&mut self, next: u32) {
        self.link = next;
    }
}

impl Slot for Piece {
    fn link(&self) -> u32 {
        self.left
    }
    fn set_link(&mut self, next: u32) {
        self.left = next;
    }
}

impl Piece {
    /// The number behind its last byte.
    #[inline(always)]
    pub(super) fn end(&self) -> u32 {
        self.seq.wrapping_add(u32::from(self.length))
    }
}

/// The bytes of all connections of a worker.
#[derive(Debug)]
pub(super) struct Store {
    huge: Pool<Block<HUGE>>,
    large: Pool<Block<LARGE>>,
    small: Pool<Block<SMALL>>,
    pieces: Pool<Piece>,
    secret: Secret,
}

impl Store {
    pub(super) fn new(bytes: usize, secret: Secret) -> Self {
        let eighth = bytes / 8;
        let (small, pieces) = (Pool::new(eighth), Pool::new(eighth));
        let (huge, large) = (Pool::new(2 * eighth), Pool::new(bytes - 4 * eighth));
        Self { huge, large, small, pieces, secret }
    }

    /// Bytes that it holds of the allocator's.
    pub(super) fn reserved(&self) -> usize {
        self.huge.reserved()
            + self.large.reserved()
            + self.small.reserved()
            + self.pieces.reserved()
    }

    /// Bytes of blocks and pieces that are taken.
    pub(super) fn in_use(&self) -> usize {
        self.huge.taken() as usize * size_of::<Block<HUGE>>()
            + self.large.taken() as usize * size_of::<Block<LARGE>>()
            + self.small.taken() as usize * size_of::<Block<SMALL>>()
            + self.pieces.taken() as usize * size_of::<Piece>()
    }

    /// Whether a segment of `length` bytes finds room however it lies, unless it is cut into many pieces.
    #[inline]
    pub(super) fn has_room_for(&self, length: usize) -> bool {
        let pieces = length / LARGE + PIECES_SPARE;
        let large = (self.large.left() + self.huge.left()) as usize;
        let small = self.small.left() as usize;
        let blocks = length / LARGE + 1;
        let fits = large >= blocks || (length <= SMALL && small > 0);
        fits && self.pieces.left() as usize >= pieces
    }

    /// Copies bytes to the end of a block, `tail`, or of a new one when they do not fit there.
    ///
    /// `size`: which one is to be new. Returns the block, and where the bytes are; `None`: there is no room. At most
    /// [`LARGE`] bytes are taken.
    #[inline]
    pub(super) fn put(
        &mut self,
        tail: BlockId,
        bytes: &[u8],
        size: Size,
    ) -> Option<(BlockId, u16)> {
        if let Some(at) = self.append(tail, bytes) {
            return Some((tail, at));
        }
        let fresh = match size {
            Size::Small => self.take_small().or_else(|| self.take_large())?,
            Size::Large if bytes.len() <= SMALL => {
                self.take_large().or_else(|| self.take_small()).or_else(|| self.take_huge())?
            }
            Size::Large => self.take_large().or_else(|| self.take_huge())?,
        };
        self.append(fresh, bytes).map(|at| (fresh, at))
    }

    /// Copies bytes behind those of a piece, which has them from then on, if there is room behind it. Returns where they are.
    #[inline]
    pub(super) fn grow(&mut self, number: u32, bytes: &[u8]) -> Option<u16> {
        let Self { huge, large, small, pieces, .. } = self;
        let piece = pieces.get_mut(number)?;
        let (block, place) = (piece.block >> 2, piece.at + piece.length);
        let at = match piece.block & SIZES {
            OF_LARGE => large.get_mut(block)?.append_at(place, bytes)?,
            OF_SMALL => small.get_mut(block)?.append_at(place, bytes)?,
            _ => huge.get_mut(block)?.append_at(place, bytes)?,
        };
        piece.length += bytes.len() as u16;
        Some(at)
    }

    /// Takes what a piece has grown by back: it ends at a number again.
    pub(super) fn shrink(&mut self, number: u32, end: u32) {
        let piece = self.piece(number);
        let surplus = piece.end().wrapping_sub(end) as u16;
        if let Some(piece) = self.piece_mut(number) {
            piece.length -= surplus;
        }
        if let Some(used) = self.used_of(piece.block) {
            *used -= surplus;
        }
    }

    /// Copies bytes to a new block, behind a copy of a piece's last `lead` ones: both lie in a row there. Returns the block, where
    /// the `lead` bytes are, and where the bytes are.
    #[inline]
    pub(super) fn put_behind(
        &mut self,
        piece: &Piece,
        lead: usize,
        bytes: &[u8],
    ) -> Option<(BlockId, u16, u16)> {
        let length = usize::from(piece.length);
        let (mut kept, mut room) = ([0; LEAD_MAX], 0);
        if let Some(to) = kept.get_mut(..lead)
            && let Some(from) = self.bytes(piece).get(length.checked_sub(lead)?..)
        {
            to.copy_from_slice(from);
            room = lead;
        }
        if room != lead || lead + bytes.len() > LARGE {
            return None;
        }
        let fresh = self.take_huge().or_else(|| self.take_large())?;
        let at = self.append(fresh, kept.get(..lead)?).and_then(|_| self.append(fresh, bytes));
        at.map(|at| (fresh, at - lead as u16, at))
    }

    /// Bytes that lie in a row.
    #[inline]
    pub(super) fn run(&self, run: Run) -> &[u8] {
        self.block(run.block).get(usize::from(run.from)..usize::from(run.end)).unwrap_or_default()
    }

    #[inline]
    fn take_huge(&mut self) -> Option<BlockId> {
        let number = self.huge.take()?;
        let block = self.huge.get_mut(number)?;
        (block.pieces, block.used) = (0, 0);
        Some(number << 2 | OF_HUGE)
    }

    #[inline]
    fn take_large(&mut self) -> Option<BlockId> {
        let number = self.large.take()?;
        let block = self.large.get_mut(number)?;
        (block.pieces, block.used) = (0, 0);
        Some(number << 2 | OF_LARGE)
    }

    #[inline]
    fn take_small(&mut self) -> Option<BlockId> {
        let number = self.small.take()?;
        let block = self.small.get_mut(number)?;
        (block.pieces, block.used) = (0, 0);
        Some(number << 2 | OF_SMALL)
    }

    #[inline]
    fn append(&mut self, id: BlockId, bytes: &[u8]) -> Option<u16> {
        match id & SIZES {
            OF_LARGE => self.large.get_mut(id >> 2)?.append(bytes),
            OF_SMALL => self.small.get_mut(id >> 2)?.append(bytes),
            _ => self.huge.get_mut(id >> 2)?.append(bytes),
        }
    }

    /// The bytes of a piece.
    #[inline]
    pub(super) fn bytes(&self, piece: &Piece) -> &[u8] {
        let at = usize::from(piece.at);
        let end = at + usize::from(piece.length);
        self.block(piece.block).get(at..end).unwrap_or_default()
    }

    #[inline]
    fn block(&self, id: BlockId) -> &[u8] {
        match id & SIZES {
            OF_LARGE => self.large.get(id >> 2).map_or(&[], |b| &b.bytes),
            OF_SMALL => self.small.get(id >> 2).map_or(&[], |b| &b.bytes),
            _ => self.huge.get(id >> 2).map_or(&[], |b| &b.bytes),
        }
    }

    /// Makes a piece; `None`: there is no room.
    #[inline]
    pub(super) fn add_piece(&mut self, piece: Piece) -> Option<u32> {
        let number = self.pieces.take()?;
        *self.pieces.get_mut(number)? = Piece { left: 0, right: 0, parent: 0, ..piece };
        if let Some(count) = self.pieces_of(piece.block) {
            *count += 1;
        }
        Some(number)
    }

    /// Frees a piece that is in no tree. Returns its block when that was freed with it, else [`NO_BYTES`].
    #[inline]
    pub(super) fn free_piece(&mut self, number: u32) -> BlockId {
        let block = self.piece(number).block;
        self.pieces.give(number);
        let Some(count) = self.pieces_of(block) else { return NO_BYTES };
        *count -= 1;
        if *count != 0 {
            return NO_BYTES;
        }
        self.free_block(block);
        block
    }

    /// Frees a block that no piece was made of.
    #[inline]
    pub(super) fn free_if_unused(&mut self, block: BlockId) {
        if self.pieces_of(block).is_some_and(|count| *count == 0) {
            self.free_block(block);
        }
    }

    #[inline]
    fn free_block(&mut self, block: BlockId) {
        match block & SIZES {
            OF_LARGE => self.large.give(block >> 2),
            OF_SMALL => self.small.give(block >> 2),
            _ => self.huge.give(block >> 2),
        }
    }

    #[inline]
    fn pieces_of(&mut self, block: BlockId) -> Option<&mut u16> {
        match block & SIZES {
            OF_LARGE => self.large.get_mut(block >> 2).map(|b| &mut b.pieces),
            OF_SMALL => self.small.get_mut(block >> 2).map(|b| &mut b.pieces),
            _ => self.huge.get_mut(block >> 2).map(|b| &mut b.pieces),
        }
    }

    fn used_of(&mut self, block: BlockId) -> Option<&mut u16> {
        match block & SIZES {
            OF_LARGE => self.large.get_mut(block >> 2).map(|b| &mut b.used),
            OF_SMALL => self.small.get_mut(block >> 2).map(|b| &mut b.used),
            _ => self.huge.get_mut(block >> 2).map(|b| &mut b.used),
        }
    }

    /// A piece; an empty one for a number that is none's.
    #[inline(always)]
    pub(super) fn piece(&self, number: u32) -> Piece {
        self.pieces.get(number).copied().unwrap_or_default()
    }

    /// A piece where it lies.
    #[inline(always)]
    pub(super) fn piece_at(&self, number: u32) -> Option<&Piece> {
        self.pieces.get(number)
    }

    #[inline(always)]
    pub(super) fn piece_mut(&mut self, number: u32) -> Option<&mut Piece> {
        self.pieces.get_mut(number)
    }

    /// Where a piece stands in the heap that its tree is: nobody outside can foresee it. Numbers come in a row, so one
    /// multiplication does not do: its results are even, not random, and some secrets make trees hundreds of levels
    /// deep. This is SplitMix64 (Steele, Lea and Flood, 2014).
    #[inline(always)]
    pub(super) fn priority(&self, number: u32) -> u64 {
        let Secret(a, b) = self.secret;
        let x = a.wrapping_add(u64::from(number).wrapping_mul(b));
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}

impl<const N: usize> Block<N> {
    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Option<u16> {
        let at = self.used;
        let end = usize::from(at) + bytes.len();
        self.bytes.get_mut(usize::from(at)..end)?.copy_from_slice(bytes);
        self.used = end as u16;
        Some(at)
    }

    /// The same, if that is at `place`.
    #[inline]
    fn append_at(&mut self, place: u16, bytes: &[u8]) -> Option<u16> {
        if self.used == place { self.append(bytes) } else { None }
    }
}

/// Size of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// [`SMALL`] bytes.
    Small,
    /// [`LARGE`] bytes.
    Large,
}

/// Of a block's number.
const SIZES: u32 = 3;
const OF_LARGE: u32 = 0;
const OF_SMALL: u32 = 1;
const OF_HUGE: u32 = 2;
/// Bytes of a huge block: several segments.
const HUGE: usize = 16_376;
/// Bytes of a large block: more than a segment on Ethernet has.
pub(super) const LARGE: usize = 2040;
/// Bytes of a small block.
pub(super) const SMALL: usize = 248;
/// Bytes before a piece's own that a block can begin with.
pub(super) const LEAD_MAX: usize = 128;
/// Pieces that a segment may come to besides one a block.
const PIECES_SPARE: usize = 8;
