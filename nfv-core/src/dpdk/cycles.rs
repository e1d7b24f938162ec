//! The time-stamp counter.

use std::sync::OnceLock;

/// The time-stamp counter now, in cycles since the machine started. Cost: 20 to 30 clocks, no memory access.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: RDTSC reads a register; every x86-64 has it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: reads the architecture's cycle counter, no argument.
        unsafe { dpdk_sys::nfv_cycles() }
    }
}

/// Cycles a second, as EAL measured at its start. Call after [`Eal::start`](super::Eal::start).
pub fn cycles_per_second() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    // SAFETY: reads a number that `rte_eal_init` set; 0 before, which is replaced below.
    *HZ.get_or_init(|| unsafe { dpdk_sys::nfv_cycles_per_second() }.max(1))
}
