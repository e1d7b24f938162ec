//! A port is started again while workers run: after its host has reset it, or when it receives nothing any more.

use std::time::Duration;

use super::errno_text;
use super::events::{self, PortEvents};
use super::flow_queue::open_queue;
use super::log;
use super::port::{
    OpenPort, PortError, configure, mac_of, set_mac, set_promiscuous, set_up_queues,
};

/// What a port is like after it has started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarted {
    /// What was asked for and not had this time, a sentence each.
    pub shortfalls: Vec<String>,
}

impl OpenPort {
    /// What has happened to it since it was last asked.
    pub fn take_events(&self) -> PortEvents {
        events::take(self.started().id())
    }

    /// Whether it is a virtual function, of which a host decides.
    pub fn is_vf(&self) -> bool {
        VF_DRIVERS.contains(&self.driver.as_str())
    }

    /// Packets that the device has received and sent, as its driver counts them; a start may begin at 0 again.
    pub fn traffic(&self) -> (u64, u64) {
        let _control = self.started().control();
        let mut stats = dpdk_sys::rte_eth_stats::default();
        // SAFETY: the port exists as long as `started`; the call fills the struct.
        unsafe { dpdk_sys::rte_eth_stats_get(self.started().id(), &mut stats) };
        (stats.ipackets, stats.opackets)
    }

    /// Stops the port and starts it again as it was, with a reset where its driver has one. Packets in its rings are lost;
    /// what workers send meanwhile is dropped and counted there. The NIC's rules, and what was written into its table, are
    /// the caller's to put back.
    ///
    /// # Errors
    /// A worker did not let go of its queues, or the device does not start: no queue touches it then until a call of this
    /// succeeds.
    pub fn restart(&self) -> Result<Restarted, PortError> {
        let done = self.started().paused(PATIENCE, || self.start_again());
        done.unwrap_or_else(|| {
            Err(self.failed("pausing its queues", "a worker does not answer".to_owned()))
        })
    }

    /// No queue touches the device any more: it is gone.
    ///
    /// # Errors
    /// A worker did not let go of its queues.
    pub fn give_up(&self) -> Result<(), PortError> {
        match self.started().paused(PATIENCE, || Err::<(), ()>(())) {
            Some(_) => Ok(()),
            None => Err(self.failed("pausing its queues", "a worker does not answer".to_owned())),
        }
    }

    fn start_again(&self) -> Result<Restarted, PortError> {
        let id = self.started().id();
        let call = |call: &'static str, failed: i32| match failed {
            0 => Ok(()),
            _ => Err(self.failed(call, errno_text(failed))),
        };
        let mut shortfalls = Vec::new();
        // Some drivers keep rules over a stop, others do not: of all there are none afterwards.
        let mut why = [0; 64];
        // SAFETY: the port exists; why it fails is written to `why`, as much as it has room for.
        unsafe { dpdk_sys::nfv_flow_flush(id, why.as_mut_ptr(), why.len()) };
        // SAFETY: no queue is touched. The call stops the port first; a driver without resets says so.
        let has_reset = unsafe { dpdk_sys::rte_eth_dev_reset(id) } == 0;
        if has_reset {
            // The driver has forgotten all that it was told.
            let mut info = dpdk_sys::rte_eth_dev_info::default();
            // SAFETY: the port exists; the call fills the struct.
            call("rte_eth_dev_info_get", unsafe { dpdk_sys::rte_eth_dev_info_get(id, &mut info) })?;
            let (request, queues) = (&self.request, self.queues);
            configure(id, (queues, request.wakes), self.mtu, &info, &mut shortfalls, &call)?;
            set_up_queues(id, queues, self.descriptors, &self.pool, &call)?;
            set_mac(id, request.mac, &mut shortfalls);
            log::quietly(|| open_queue(id));
        } else {
            // SAFETY: no queue is touched; stopping a stopped port does nothing.
            call("rte_eth_dev_stop", unsafe { dpdk_sys::rte_eth_dev_stop(id) })?;
        }
        // SAFETY: it is configured, and its queues are set up: before the stop, or just now.
        call("rte_eth_dev_start", unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        set_promiscuous(id, self.request.promiscuous, &mut shortfalls);
        self.set_mac(mac_of(id));
        // What the driver told of its own reset is no news.
        events::take(id);
        Ok(Restarted { shortfalls })
    }

    fn failed(&self, call: &'static str, why: String) -> PortError {
        PortError::Call { name: self.name.clone(), device: self.device.clone(), call, why }
    }
}

/// A worker looks many times in a millisecond, unless the kernel runs something else in its place.
const PATIENCE: Duration = Duration::from_secs(2);

/// By DPDK's names.
const VF_DRIVERS: &[&str] = &[
    "net_e1000_igb_vf",
    "net_ixgbe_vf",
    "net_iavf",
    "net_i40e_vf",
    "net_bnxt_vf",
    "net_hns3_vf",
    "net_qede_vf",
    "net_enetc4_vf",
    "net_cxgbevf",
    "net_liovf",
    "net_fm10k_vf",
    "net_txgbe_vf",
    "net_octeontx",
];
