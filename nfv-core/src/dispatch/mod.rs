//! From a packet to its class: the software that a NIC's rules will spare.
mod class;
mod classify;
mod cover;
mod region;
mod regions;
mod selection;
mod shadow;
mod synthesis;
mod tag_check;
mod tagged;
mod twin;

pub use class::{CLASS_BITS, CLASSES_MAX, Class, ClassFate, Classes, PortClasses, Tag};
pub use classify::{Classifier, ClassifyError, View};
pub use region::Region;
pub(crate) use regions::is_at;
pub use regions::is_taggable;
pub use selection::Selection;
pub use shadow::{Line, Shadow, Takes, shadows, warn, warn_of_shadows};
pub(crate) use synthesis::{Lane, Port, Synthesis};
pub use tag_check::TagCheck;
pub use tagged::{PortTags, TagCells};
pub(crate) use tagged::{Tagged, compile_tags, generations};
pub use twin::Twin;
