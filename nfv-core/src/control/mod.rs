//! The control side: sockets, metrics, the kernel. Never on a worker's core.
pub mod balance;
pub mod journal;
pub mod learn;
pub mod metrics;
pub mod moving;
pub mod netlink;
pub mod nic_rules;
pub mod periodic;
pub mod requests;
pub mod running;
pub mod socket;
pub mod tables;
pub mod twin;
mod watch;
