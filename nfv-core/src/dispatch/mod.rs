//! From a packet to its class: the software that a NIC's rules will spare.
mod classify;
mod selection;

pub use classify::{Classifier, ClassifyError, View};
pub use selection::Selection;
