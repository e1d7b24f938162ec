//! Where packets go: the forwarding table that workers read and the control side writes.
mod addresses;
mod book;
mod forward;
mod hop;
mod routes;

pub use book::{Origin, Target};
pub use hop::{Hop, HopId};
pub use routes::{PortFacts, RouteError, RouteTable, Wanted};

pub(crate) use forward::{Asked, Refusal, forward, is_header_right};
