//! The control side: sockets, metrics, the kernel. Never on a worker's core.
pub mod journal;
pub mod learn;
pub mod memory;
pub mod metrics;
pub mod moving;
pub mod netlink;
pub mod requests;
pub mod running;
pub mod socket;
pub mod twin;
