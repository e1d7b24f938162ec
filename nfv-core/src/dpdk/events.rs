//! What a driver tells of a port while it runs: the host has reset a VF, the device is gone.
//!
//! Drivers tell it on a thread of EAL's, in the middle of their work, where nothing may be asked of them: so it is only
//! noted, and the control side looks. Links are not watched this way: few drivers tell, and all can be asked.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

/// What has happened to a port since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortEvents {
    /// The host has reset it, or wants it to be: nothing passes until it has started again.
    pub reset: bool,
    /// The device is gone.
    pub removed: bool,
}

/// Notes from now on what happens to a port.
pub(super) fn watch(id: u16) {
    take(id);
    for event in [dpdk_sys::RTE_ETH_EVENT_INTR_RESET, dpdk_sys::RTE_ETH_EVENT_INTR_RMV] {
        // SAFETY: `note` has the type of a callback, never unwinds, and lives as long as the program; it has no argument.
        let failed = unsafe {
            let none = std::ptr::null_mut();
            dpdk_sys::rte_eth_dev_callback_register(id, event, Some(note), none)
        };
        if failed != 0 {
            tracing::debug!("rte_eth_dev_callback_register: {}", super::errno_text(failed));
        }
    }
}

/// Notes nothing more.
pub(super) fn forget(id: u16) {
    for event in [dpdk_sys::RTE_ETH_EVENT_INTR_RESET, dpdk_sys::RTE_ETH_EVENT_INTR_RMV] {
        // SAFETY: the same function and argument as at `watch`; a callback that is not there is no harm.
        unsafe {
            let none = std::ptr::null_mut();
            dpdk_sys::rte_eth_dev_callback_unregister(id, event, Some(note), none)
        };
    }
}

/// What has been noted; it is forgotten then.
pub(super) fn take(id: u16) -> PortEvents {
    let noted = NOTED.get(usize::from(id)).map_or(0, |noted| noted.swap(0, Ordering::Acquire));
    PortEvents { reset: noted & RESET != 0, removed: noted & REMOVED != 0 }
}

/// Total: it cannot unwind into C.
extern "C" fn note(
    port: u16,
    event: dpdk_sys::rte_eth_event_type,
    _: *mut c_void,
    _: *mut c_void,
) -> c_int {
    let bit = match event {
        dpdk_sys::RTE_ETH_EVENT_INTR_RESET => RESET,
        dpdk_sys::RTE_ETH_EVENT_INTR_RMV => REMOVED,
        _ => 0,
    };
    if let Some(noted) = NOTED.get(usize::from(port)) {
        noted.fetch_or(bit, Ordering::Release);
    }
    0
}

const RESET: u8 = 1;
const REMOVED: u8 = 2;

/// By port.
static NOTED: [AtomicU8; dpdk_sys::RTE_MAX_ETHPORTS as usize] =
    [const { AtomicU8::new(0) }; dpdk_sys::RTE_MAX_ETHPORTS as usize];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_port_is_seen_once() {
        let tell = |port, event| note(port, event, std::ptr::null_mut(), std::ptr::null_mut());
        tell(7, dpdk_sys::RTE_ETH_EVENT_INTR_RESET);
        tell(7, dpdk_sys::RTE_ETH_EVENT_INTR_LSC);
        tell(8, dpdk_sys::RTE_ETH_EVENT_INTR_RMV);
        tell(u16::MAX, dpdk_sys::RTE_ETH_EVENT_INTR_RMV);
        assert_eq!(take(7), PortEvents { reset: true, removed: false });
        assert_eq!(take(7), PortEvents::default());
        assert_eq!(take(8), PortEvents { reset: false, removed: true });
        assert_eq!(take(u16::MAX), PortEvents::default());
    }
}
