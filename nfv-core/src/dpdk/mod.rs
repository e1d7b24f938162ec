//! DPDK made safe: the only unsafe code above `dpdk-sys`.
//!
//! No pointer, no bindgen type and no DPDK constant leaves this module. Constructors check, `Drop` returns what was
//! taken, and the types say which thread may do what: a [`Packet`] has one owner and may change threads, a queue
//! ([`RxQueue`], [`TxQueue`]) stays on the thread that claimed it.
mod acl;
mod cycles;
mod eal;
mod events;
mod fib;
mod flow_queue;
mod flow_rules;
mod interrupts;
mod log;
mod mapped;
mod mbuf;
mod memory;
mod mempool;
mod port;
mod queue;
mod restart;
mod ring_port;
mod spread;
mod started;

pub use acl::{Acl, AclError, Edge, Key, Key4, Key6, Rule, Rule4, Rule6};
pub use cycles::{cycles, cycles_per_second};
pub use eal::{Eal, EalError, EalThread, Lcore, Running};
pub use events::PortEvents;
pub use fib::{Fib4, Fib6, FibError};
pub use flow_queue::Groups;
pub use flow_rules::{FlowFate, FlowPort, FlowRule, FlowRules, HashFields};
pub use interrupts::Interrupts;
pub use mapped::{Beside, Mapped};
pub use mbuf::{BURST_MAX, Packet, Packets, SharedPacket, unaccounted_packets};
pub use memory::{Ahead, ReserveError, Reserved, prefetch};
pub use mempool::{Mempool, MempoolError};
pub use port::{
    LinkState, OpenPort, PortError, PortId, PortRequest, QueueSeed, SYMMETRIC_KEY, known_ports,
};
pub use queue::{RxQueue, TxQueue};
pub use restart::Restarted;
pub use ring_port::{RingInto, RingOut, RingPort, RingPortError};
pub use spread::RssTable;

use std::ffi::{CStr, c_int};

/// Text of an errno value, DPDK's own numbers included.
fn errno_text(errno: c_int) -> String {
    // SAFETY: `rte_strerror` takes any number and returns a NUL-terminated string of static or thread-local storage.
    let text = unsafe { dpdk_sys::rte_strerror(errno.abs()) };
    // SAFETY: that string is alive until the next call on this thread, and it is copied right here.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// DPDK's errno of this thread: what the call that just failed left there.
fn last_errno() -> c_int {
    // SAFETY: reads a per-lcore integer, no argument.
    unsafe { dpdk_sys::nfv_errno() }
}
