//! A traffic class: packets that are told apart once, and what is known of them from then on.
//!
//! The classes of a port stand in an order: a packet is of the first one that has a region with it. Those that overlap are
//! thereby disjoint without being cut into pieces; who needs pieces (a NIC without priorities) cuts them.

use super::region::Region;
use crate::burst::Reason;
use crate::chain::compile::ProgramId;
use crate::port_index::PortIndex;

/// The number of a class, and what a NIC writes into a packet for it.
///
/// A MARK has 24 bits: `[epoch: 4][class: 20]`. Class 0 is none; the epoch is the plan's, so that a packet that was tagged
/// under an older plan is known for it, and classified again by software.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

impl Tag {
    /// That of a class, which counts from 1, in a plan of that epoch.
    pub const fn new(epoch: u8, class: u32) -> Self {
        Self((epoch as u32 & EPOCH_MAX) << CLASS_BITS | class & CLASSES_MAX)
    }

    /// The number of the class, from 1; 0 is none.
    #[inline(always)]
    pub const fn class(self) -> u32 {
        self.0 & CLASSES_MAX
    }

    /// The plan's epoch, 0 to 15.
    #[inline(always)]
    pub const fn epoch(self) -> u8 {
        (self.0 >> CLASS_BITS) as u8
    }
}

/// The classes of all ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classes {
    /// By port, in order.
    pub ports: Vec<PortClasses>,
    /// The epoch that they are tagged with.
    pub epoch: u8,
}

impl Classes {
    /// Tags all of them anew, for a plan that means other packets by them.
    pub(crate) fn change_epoch(&mut self) {
        self.epoch = Tag::new(self.epoch.wrapping_add(1), 0).epoch();
        for class in self.ports.iter_mut().flat_map(|port| &mut port.classes) {
            class.tag = Tag::new(self.epoch, class.tag.class());
        }
    }
}

/// The classes of a port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortClasses {
    /// Which port.
    pub port: PortIndex,
    /// The first that a packet meets is its class. What meets none is not told apart: it takes the way without a tag.
    pub classes: Vec<Class>,
}

/// A class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// What its packets carry.
    pub tag: Tag,
    /// What its packets are: IP packets of any of these.
    pub regions: Vec<Region>,
    /// What becomes of them.
    pub fate: ClassFate,
    /// What they have met by the time they enter, or are dropped, that function among it: a function's place in the plan, and
    /// its rule.
    pub decided: Vec<(usize, Option<u32>)>,
    /// What part of all packets of the port they are likely to be, 0 to 1.
    pub share: f64,
}

/// What becomes of a class's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassFate {
    /// They enter a program at a step, those before it being decided.
    Enter {
        /// Which program.
        program: ProgramId,
        /// The first step that they take.
        step: usize,
    },
    /// A function that keeps no state and answers nobody refuses them: where a NIC can, it drops them.
    Drop {
        /// Which program they are of.
        program: ProgramId,
        /// The function's place in the plan.
        function: usize,
        /// Its reason.
        why: Reason,
    },
}

/// Bits of a tag that number the class.
pub const CLASS_BITS: u32 = 20;
/// As many classes as there may be.
pub const CLASSES_MAX: u32 = (1 << CLASS_BITS) - 1;
const EPOCH_MAX: u32 = 15;
