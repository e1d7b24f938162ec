//! The packets that a function picks by its key `match`.

use std::sync::Arc;

use super::{Classifier, View};
use crate::burst::Burst;
use crate::chain::key::{Key, Need, Shape};
use crate::chain::matching::{MATCH, Match};
use crate::chain::report::Report;
use crate::chain::section::Section;
use crate::dpdk::BURST_MAX;
use crate::nf::Surroundings;

/// What a function's `match` picks; without one, all packets.
#[derive(Clone, Debug)]
pub struct Selection(Option<Arc<Classifier>>);

impl Selection {
    /// The key `match` of a type of function.
    pub const KEY: Key = Key {
        name: "match",
        shape: Shape::OneOrMany(&Shape::Record(&MATCH)),
        need: Need::Optional,
        help: "one match or a list; only packets that meet one are taken",
    };

    /// Reads the key. `None`, and the mistake in `report`, when it cannot be compiled.
    pub fn read(
        section: &Section<'_>,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        Self::read_key("match", section, around, report)
    }

    /// As [`Selection::read`], of another key with the same shape.
    pub fn read_key(
        key: &str,
        section: &Section<'_>,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let list: Vec<Match> =
            section.sections(key).iter().map(|one| Match::read(one, report)).collect();
        if list.is_empty() {
            return Some(Self(None));
        }
        match Classifier::build(&list, around) {
            Ok(classifier) => Some(Self(Some(Arc::new(classifier)))),
            Err(why) => {
                report.error(section.span_of(key), why.to_string());
                None
            }
        }
    }

    /// For each packet of a burst, whether it is picked: not 0. An answer is compared with its ends exchanged.
    #[inline]
    pub fn look_up(&self, burst: &Burst) -> [u32; BURST_MAX] {
        let mut found = [1; BURST_MAX];
        if let Some(classifier) = &self.0 {
            classifier.look_up(burst.lookup(), View::Oriented, &mut found);
        }
        found
    }
}
