//! TCP streams put together as their receivers do.
mod event;
mod policy;
mod state;

pub use event::{Event, Events};
pub use policy::{HostPolicies, OverlapPolicy, Range, Winner};
pub use state::{Phase, TcpState};
