//! Routed ports on the network: their twins in the kernel, and what the kernel knows brought into the forwarding table.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nfv_core::control::learn::Learner;
use nfv_core::control::netlink::{Neighbours, Watch};
use nfv_core::control::twin::{Change, Twin, TwinConfig};
use nfv_core::flow::RouteTable;
use nfv_core::nf::PortIndex;
use nfv_core::worker::KernelQueues;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// A routed port with a twin.
#[derive(Debug)]
pub struct RoutedPort {
    /// Its place in the chain file.
    pub index: PortIndex,
    /// What its twin is made of.
    pub twin: TwinConfig,
    /// The way between its workers and the twin.
    pub queues: Arc<KernelQueues>,
}

/// The twins of all routed ports, up and not yet pumped.
#[derive(Debug)]
pub struct Network {
    table: Arc<RouteTable>,
    twins: Vec<(PortIndex, Arc<Twin>, Arc<KernelQueues>)>,
    fixed: Vec<IpAddr>,
}

impl Network {
    /// Makes the twins.
    ///
    /// # Errors
    /// One of them cannot be made; none stays.
    pub async fn up(table: Arc<RouteTable>, ports: Vec<RoutedPort>) -> anyhow::Result<Self> {
        let (mut twins, mut fixed) = (Vec::new(), Vec::new());
        for port in ports {
            let twin = Twin::create(&port.twin).await?;
            fixed.extend(port.twin.addresses.iter().map(|net| net.addr()));
            twins.push((port.index, Arc::new(twin), port.queues));
        }
        Ok(Self { table, twins, fixed })
    }

    /// Passes frames between the twins and the workers, and follows the kernel's tables, until something fails.
    ///
    /// `changes`: what has changed of a port.
    pub async fn run(
        self,
        mut changes: UnboundedReceiver<(PortIndex, Change)>,
    ) -> anyhow::Result<()> {
        let interfaces: HashMap<u32, PortIndex> =
            self.twins.iter().map(|(port, twin, _)| (twin.interface(), *port)).collect();
        let (watch, neighbours) = Watch::open(interfaces.keys().copied().collect())?;
        let mut tasks: JoinSet<anyhow::Error> = JoinSet::new();
        for (_, twin, queues) in &self.twins {
            let (twin, queues) = (twin.clone(), queues.clone());
            tasks.spawn(async move { twin.pump(&*queues).await.into() });
        }
        let mut learner = Learner::new(self.table.clone(), interfaces, self.fixed);
        tasks.spawn(async move { watch.run(&mut learner).await.into() });
        let interface: HashMap<PortIndex, u32> =
            self.twins.iter().map(|(port, twin, _)| (*port, twin.interface())).collect();
        tasks.spawn(ask(self.table, neighbours, interface));
        loop {
            tokio::select! {
                ended = tasks.join_next() => {
                    let why = ended.ok_or_else(|| anyhow!("there is no twin"))?;
                    return Err(why.context("a task of the kernel's side")?);
                }
                Some((port, change)) = changes.recv() => {
                    for (_, twin, _) in self.twins.iter().filter(|(index, ..)| *index == port) {
                        if let Err(why) = twin.follow(change).await {
                            tracing::warn!("{why}");
                        }
                    }
                }
            }
        }
    }
}

/// Has the kernel find the neighbours that workers want, and keep those that they use.
async fn ask(
    table: Arc<RouteTable>,
    neighbours: Neighbours,
    interface: HashMap<PortIndex, u32>,
) -> anyhow::Error {
    let mut wanted = tokio::time::interval(WANTED_EVERY);
    let mut used = tokio::time::interval(USED_EVERY);
    loop {
        tokio::select! {
            _ = wanted.tick() => {
                while let Some((port, address)) = table.next_wanted() {
                    if let Some(interface) = interface.get(&port) {
                        neighbours.resolve(*interface, address);
                    }
                }
            }
            _ = used.tick() => {
                for (port, address) in table.take_used() {
                    if let Some(interface) = interface.get(&port) {
                        neighbours.in_use(*interface, address);
                    }
                }
            }
        }
    }
}

const WANTED_EVERY: Duration = Duration::from_millis(2);
const USED_EVERY: Duration = Duration::from_secs(1);
