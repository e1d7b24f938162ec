//! From a packet to its class: the software that a NIC's rules will spare.
mod class;
mod classify;
mod region;
mod selection;

pub use class::{CLASS_BITS, CLASSES_MAX, Class, ClassFate, Classes, PortClasses, Tag};
pub use classify::{Classifier, ClassifyError, View};
pub use region::Region;
pub use selection::Selection;
