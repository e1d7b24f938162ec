//! The dataplane of nfv.
//!
//! Layers, in the order in which they may import: `dpdk` and `packet` are the ground floor; then `flow` and `nf`,
//! `chain` and `dispatch`, `worker`, and `control` on top.
#![deny(unsafe_code)]

pub mod account;
mod burst;
pub mod chain;
pub mod clock;
pub mod control;
pub mod dispatch;
#[allow(unsafe_code, reason = "the one place where DPDK is called")]
pub mod dpdk;
pub mod flow;
pub mod nf;
pub mod offload;
pub mod packet;
mod port_index;
pub mod worker;
