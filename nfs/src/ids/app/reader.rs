//! Takes binary fields from the front of bytes; behind the end there is none.

/// Bytes not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes; reads nothing if there are fewer.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Two bytes, the higher first.
    pub fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Three bytes, the highest first.
    pub fn triple(&mut self) -> Option<usize> {
        Some(self.take(3)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    /// Four bytes, the highest first.
    pub fn long(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Bytes behind their length of one byte.
    pub fn short_text(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let len = after.byte()?;
        let text = after.take(usize::from(len))?;
        *self = after;
        Some(text)
    }

    /// Bytes behind their length of two.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let len = after.short()?;
        let text = after.take(usize::from(len))?;
        *self = after;
        Some(text)
    }

    /// Numbers of two bytes each, up to the end.
    pub fn shorts(self) -> impl Iterator<Item = u16> {
        self.rest.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)))
    }
}
