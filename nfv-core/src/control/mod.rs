//! The control side: sockets, metrics, the kernel. Never on a worker's core.
pub mod learn;
pub mod netlink;
pub mod twin;
