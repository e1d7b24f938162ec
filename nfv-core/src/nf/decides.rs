//! What an NF decides by headers alone: from it the traffic classes are made.

use super::{Built, Reason};
use crate::chain::matching::Match;

/// What an NF that keeps no state says of packets, by the first of a list of matches that they meet.
///
/// It is the whole truth of what it says there until it raises its generation: a class is made of it once, and its packets
/// do not come to the NF any more. What changes otherwise is [`Says::Ask`].
#[derive(Clone, Debug)]
pub struct Decides {
    /// The first that a packet meets is what it says. As the chain's initiator sees packets: of an answer, source and
    /// destination change places.
    pub list: Vec<(Match, Says)>,
    /// Of packets that meet none.
    pub otherwise: Says,
}

/// What an NF says of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Says {
    /// They go on as they are.
    Pass {
        /// The rule that says so, an index into [`Built::rules`].
        rule: Option<u32>,
    },
    /// They are refused.
    Drop {
        /// Why.
        why: Reason,
        /// The rule that says so.
        rule: Option<u32>,
    },
    /// It has to be asked about each of them.
    Ask,
}

/// Tells what an NF decides now.
pub type Decider = Box<dyn Fn() -> Decides + Send + Sync>;

impl Built {
    /// With what it decides by headers alone; asked when a plan is made, and again when its generation was raised.
    pub fn deciding(self, decides: impl Fn() -> Decides + Send + Sync + 'static) -> Self {
        Self { decides: Some(Box::new(decides)), ..self }
    }
}
