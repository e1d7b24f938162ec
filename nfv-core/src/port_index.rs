//! Which port: by its place in the chain file.

/// A port by its place in the chain file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u8);

impl PortIndex {
    /// No port's: where a packet's chain ends.
    pub(crate) const CHAIN: Self = Self(u8::MAX);

    /// As an index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
