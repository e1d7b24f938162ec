//! Brings what the kernel knows into the forwarding table, and ties a port's twin to its workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::netlink::{Action, KernelEvent, KernelSink};
use super::twin::TwinLink;
use crate::flow::{Origin, RouteError, RouteTable, Target};
use crate::nf::PortIndex;
use crate::worker::KernelQueues;

impl TwinLink for KernelQueues {
    fn next_to_kernel(&self, f: &mut dyn FnMut(&[u8])) -> bool {
        self.next_to_kernel(f)
    }

    fn from_kernel(&self, frame: &[u8]) -> bool {
        self.push_from_kernel(frame)
    }
}

/// A [`KernelSink`] that keeps a forwarding table as the kernel's tables are.
///
/// Of several next hops of a route the first one is used. Addresses that the chain file gives stay the box's own, whatever
/// becomes of them in the kernel.
#[derive(Debug)]
pub struct Learner {
    table: Arc<RouteTable>,
    /// Ports by the kernel's indices of their twins.
    ports: HashMap<u32, PortIndex>,
    /// Addresses of the chain file.
    fixed: Vec<IpAddr>,
}

impl Learner {
    /// A learner for the twins of these ports; `fixed`: own addresses that the kernel cannot take away.
    pub fn new(table: Arc<RouteTable>, ports: HashMap<u32, PortIndex>, fixed: Vec<IpAddr>) -> Self {
        Self { table, ports, fixed }
    }

    fn learn(&self, event: KernelEvent) -> Result<(), RouteError> {
        let port = |interface| self.ports.get(&interface).copied();
        match event {
            KernelEvent::Neighbour { interface, address, mac } => match port(interface) {
                Some(port) => self.table.neighbour(port, address, Some(mac)),
                None => Ok(()),
            },
            KernelEvent::NeighbourGone { interface, address } => match port(interface) {
                Some(port) => self.table.neighbour(port, address, None),
                None => Ok(()),
            },
            KernelEvent::Route { key, action } => {
                let target = match &action {
                    Action::Blackhole => Some(Target::Blackhole),
                    Action::Unreachable => Some(Target::Unreachable),
                    Action::Prohibit => Some(Target::Prohibited),
                    Action::Forward(hops) => hops.iter().find_map(|hop| {
                        let port = port(hop.interface)?;
                        Some(hop.via.map_or(Target::Link(port), |via| Target::Via(port, via)))
                    }),
                };
                let origin = Origin::Kernel { metric: key.metric };
                match target {
                    Some(target) => self.table.announce(key.prefix, origin, target),
                    None => self.table.withdraw(key.prefix, origin),
                }
            }
            KernelEvent::RouteGone { key } => {
                self.table.withdraw(key.prefix, Origin::Kernel { metric: key.metric })
            }
            KernelEvent::Address { interface, address } => {
                if let Some(port) = port(interface) {
                    self.table.set_source(port, address.addr());
                }
                self.table.add_own(address.addr())
            }
            KernelEvent::AddressGone { address, .. } if self.fixed.contains(&address.addr()) => {
                Ok(())
            }
            KernelEvent::AddressGone { address, .. } => self.table.remove_own(address.addr()),
            KernelEvent::Link { interface, up } => {
                if let Some(port) = port(interface) {
                    tracing::debug!(port = port.0, up, "the kernel's twin of the port");
                }
                Ok(())
            }
        }
    }
}

impl KernelSink for Learner {
    fn event(&mut self, event: KernelEvent) {
        tracing::debug!(?event, "learned from the kernel");
        if let Err(why) = self.learn(event) {
            tracing::warn!("not learned from the kernel: {why}");
        }
    }

    fn resync_done(&mut self) {}
}
