//! The network functions of nfv, one file each, none knowing another.
#![forbid(unsafe_code)]

use nfv_core::nf::Kind;

pub mod count;
pub mod firewall;
pub mod mirror;
pub mod ratelimit;
pub mod route;
pub mod tap_out;

/// All types of NF, by the name that a chain file's `type` gives.
pub const KINDS: &[&Kind] =
    &[&count::KIND, &firewall::KIND, &mirror::KIND, &ratelimit::KIND, &route::KIND, &tap_out::KIND];
