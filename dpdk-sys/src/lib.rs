//! Raw bindings to the installed DPDK (22.11 or later), and the shim for its inline functions.
//!
//! Nothing here is safe to call as it is: `nfv_core::dpdk` is the safe side, and the only user.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, reason = "C's names")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
