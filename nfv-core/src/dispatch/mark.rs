//! How a tag is written where a NIC's MARK has fewer bits than a tag.
//!
//! ```text
//!   24 bits     [epoch: 4][class: 20]             as the tag is
//!   15 bits     [epoch: 3][class of the port: 12] classes count from the port's first one
//! ```
//!
//! The epoch shrinks with the mark, but never away: a packet that was tagged under the plan before is to be known for it.
//! What is behind the last class that fits has no mark, and is told apart by software.

use super::class::{CLASS_BITS, PortClasses, Tag};

/// What a port's NIC writes for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkForm {
    class_bits: u32,
    epoch_bits: u32,
    /// What is taken from a class's number.
    base: u32,
}

impl MarkForm {
    /// The tag as it is.
    pub const WIDE: Self = Self { class_bits: CLASS_BITS, epoch_bits: 4, base: 0 };

    /// That for the classes of a port whose NIC's marks end at `largest`; `None`: they are too small for any.
    pub fn within(largest: u32, classes: &PortClasses) -> Option<Self> {
        let number = |class: Option<&super::Class>| class.map_or(1, |class| class.tag.class());
        let (first, last) = (number(classes.classes.first()), number(classes.classes.last()));
        if Self::WIDE.largest(last) <= largest {
            return Some(Self::WIDE);
        }
        // All marks of so many bits are to be there.
        let bits = largest.checked_add(1).map_or(u32::BITS, u32::ilog2);
        if bits < BITS_MIN {
            return None;
        }
        let epoch_bits = bits.saturating_sub(12).clamp(2, 4);
        let class_bits = (bits - epoch_bits).min(CLASS_BITS);
        Some(Self { class_bits, epoch_bits, base: first.saturating_sub(1) })
    }

    /// What is written for a tag; `None`: its class is behind the last one that fits.
    pub fn mark(self, tag: Tag) -> Option<u32> {
        let class = tag.class().checked_sub(self.base).filter(|class| *class <= self.classes())?;
        let epoch = u32::from(tag.epoch()) & ((1 << self.epoch_bits) - 1);
        Some(epoch << self.class_bits | class)
    }

    /// The number of the class that a mark of a plan's epoch is for; `None`: it is of another plan, or of none.
    #[inline(always)]
    pub fn class(self, mark: u32, epoch: u8) -> Option<u32> {
        let is = mark >> self.class_bits;
        let class = mark & self.classes();
        let same = is == u32::from(epoch) & ((1 << self.epoch_bits) - 1);
        (same && class != 0).then_some(class + self.base)
    }

    /// The largest mark that there will be in any epoch, when that is the last class.
    pub fn largest(self, last: u32) -> u32 {
        let last = last.saturating_sub(self.base).min(self.classes());
        ((1 << self.epoch_bits) - 1) << self.class_bits | last
    }

    /// How many bits it takes.
    pub const fn bits(self) -> u32 {
        self.class_bits + self.epoch_bits
    }

    /// The most classes that have a mark.
    #[inline(always)]
    pub const fn classes(self) -> u32 {
        (1 << self.class_bits) - 1
    }
}

/// Fewer are not worth a rule: 2 for the epoch, and 63 classes.
const BITS_MIN: u32 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::compile::ProgramId;
    use crate::dispatch::{Class, ClassFate};
    use crate::nf::PortIndex;

    fn classes(first: u32, count: u32) -> PortClasses {
        let fate = ClassFate::Enter { program: ProgramId(0), step: 0 };
        let class = |number| Class {
            tag: Tag::new(0, number),
            regions: Vec::new(),
            fate,
            decided: Vec::new(),
            share: 0.0,
        };
        PortClasses { port: PortIndex(0), classes: (first..first + count).map(class).collect() }
    }

    #[test]
    fn a_mark_that_is_wide_enough_is_the_tag_and_a_narrow_one_counts_from_the_ports_first() {
        // mlx5's last marks are the driver's own.
        let mlx5 = MarkForm::within(16_777_199, &classes(1, 1000)).unwrap();
        assert_eq!(mlx5, MarkForm::WIDE);
        assert_eq!(mlx5.mark(Tag::new(9, 77)), Some(Tag::new(9, 77).0));
        let cnxk = MarkForm::within(65_533, &classes(50_001, 10)).unwrap();
        assert_eq!((cnxk.bits(), cnxk.classes()), (15, 4095));
        assert_eq!(cnxk.mark(Tag::new(9, 50_001)), Some(1 << 12 | 1));
        assert_eq!(cnxk.mark(Tag::new(0, 50_001 + 4094)), Some(4095));
        assert_eq!(cnxk.mark(Tag::new(0, 50_001 + 4095)), None, "it does not fit");
        assert_eq!(MarkForm::within(100, &classes(1, 1)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_its_epoch_and_in_no_near_one(
            largest in 255u32.., first in 1u32..900_000, at in 0u32..100_000, epoch in 0u8..16, later in 1u8..4,
        ) {
            let form = MarkForm::within(largest, &classes(first, 1)).unwrap();
            let tag = Tag::new(epoch, first + at);
            let Some(mark) = form.mark(tag) else { return Ok(()) };
            prop_assert!(mark <= largest || form == MarkForm::WIDE);
            prop_assert_eq!(form.class(mark, epoch), Some(first + at));
            prop_assert_eq!(form.class(mark, (epoch + later) % 16), None, "the next plans do not know it");
            prop_assert_eq!(form.class(mark | 1 << form.bits(), epoch), None);
        }
    }
}
