//! What counters mean that have a cause outside: told once in the log, with what to do.

use nfv_core::account::Totals;
use nfv_core::chain::compile::Plan;
use nfv_core::dpdk::OpenPort;

/// Hints that have not been given yet.
#[derive(Debug)]
pub struct Hints {
    /// Ports whose packets come from the kernel.
    kernel_ports: Vec<String>,
    super_packets: bool,
    /// VFs.
    vfs: Vec<String>,
    multicast: bool,
}

impl Hints {
    /// For a run on these ports.
    pub fn new(ports: &[OpenPort]) -> Self {
        let from_kernel =
            |p: &&OpenPort| ["net_af_packet", "net_af_xdp"].contains(&p.driver.as_str());
        let kernel_ports = ports.iter().filter(from_kernel).map(|p| p.name.clone()).collect();
        let vfs = ports.iter().filter(|p| p.is_vf()).map(|p| p.name.clone()).collect();
        Self { kernel_ports, super_packets: true, vfs, multicast: true }
    }

    /// Looks at the counters, about once a second.
    pub fn look(&mut self, plan: &Plan, totals: &Totals) {
        let dropped = |reason: &str| {
            let is = |c: &nfv_core::account::Counter| {
                c.metric == "dropped_packets" && c.labels.iter().any(|(_, v)| v == reason)
            };
            totals.iter(&plan.ledger).filter(|(c, _)| is(c)).map(|(_, v)| v).sum::<u64>()
        };
        let cut = dropped("ipv4_total_length") + dropped("ipv6_payload_length");
        if self.super_packets && !self.kernel_ports.is_empty() && cut > 0 {
            self.super_packets = false;
            tracing::warn!(
                "{cut} packets were longer than what arrived of them (dropped by parse). On ports that take packets from \
                 the kernel ({}) these are most likely packets that it has not segmented, or an MTU above the port's: at the sender's end, \
                 ethtool -K IFACE tso off gso off tx off",
                self.kernel_ports.join(", ")
            );
        }
        let unresolved = dropped("neighbour_unresolved");
        if self.multicast && !self.vfs.is_empty() && unresolved >= UNRESOLVED {
            self.multicast = false;
            tracing::warn!(
                "{unresolved} packets had a next hop whose MAC address nobody told (neighbour_unresolved). Are they IPv6, that may \
                 be because of the VFs ({}): an untrusted one gets no multicast, and neighbour discovery fails. On the host, \
                 ip link set PF vf N trust on; or name the neighbours of the port under `neighbours`",
                self.vfs.join(", ")
            );
        }
    }
}

/// The first packets to a neighbour may be lost in good order.
const UNRESOLVED: u64 = 100;
