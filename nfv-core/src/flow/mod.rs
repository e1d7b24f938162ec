//! Flows, and where packets go: what workers keep of flows, and the forwarding table that the control side writes.
mod addresses;
mod book;
mod forward;
pub(crate) mod fragment;
mod hop;
mod key;
mod limits;
mod page;
mod paths;
mod quoted;
mod rewrite;
mod routes;
mod shard;
mod shifted;
mod table;
mod tcp;
mod wheel;

pub use book::{Origin, Target};
pub use hop::{Hop, HopId};
pub use key::Zone;
pub use limits::{FlowLimits, IdleTimes, WhenFull};
pub use page::{FlowPage, FlowRow};
pub use routes::{PortFacts, RouteError, RouteTable, Wanted};
pub use shard::{SHARDS, ShardCounts, shard_part};
pub use table::{FlowRef, KEPT};

pub(crate) use forward::{Asked, Refusal, forward, is_header_right};
pub(crate) use key::{Address, ENTRANCES, FlowKey, Scope, Secret, Tuple, is_tracked};
pub(crate) use limits::{FlowRefusal, tcp_idle_ticks};
pub(crate) use paths::{FUNCTIONS_MAX, Paths};
pub(crate) use quoted::{quoted, rewrite_error};
pub(crate) use rewrite::{deltas, rewrite};
pub(crate) use shard::shard_of;
pub(crate) use shifted::{SHIFT, put_shift, shift, unshift, unshift_quoted};
pub(crate) use table::{Entry, NotKept, Side, Table, flag};
pub(crate) use tcp::{Change, Invalid, Segment, Strictness, TcpState, TcpTrack, Way};
pub(crate) use wheel::{Tick, Wheel};
