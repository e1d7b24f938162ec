//! Ports: found, configured to what the device can do, started; stopped and closed when the last queue is gone.

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::eal::Eal;
use super::errno_text;
use super::flow_queue::open_queue;
use super::interrupts::Wakes;
use super::log;
use super::mempool::{HEADROOM, Mempool, MempoolError};
use super::queue::{RxQueue, TxQueue};
use super::started::StartedPort;

/// A port by DPDK's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// What is wanted of a port.
#[derive(Clone, Debug)]
pub struct PortRequest {
    /// The user's name for it, for messages.
    pub name: String,
    /// A PCI address, a vdev with its arguments, or the name of a device that EAL has already.
    pub device: String,
    /// Receive and transmit queues, one pair a worker.
    pub queues: u16,
    /// The MTU to set; otherwise the device's own.
    pub mtu: Option<u16>,
    /// The MAC address to set; otherwise the device's own.
    pub mac: Option<[u8; 6]>,
    /// Whether to receive frames for other stations.
    pub promiscuous: bool,
    /// Descriptors of a receive queue, of a transmit queue.
    pub descriptors: (Option<u16>, Option<u16>),
    /// Mbufs of the port's pool; otherwise what its queues need.
    pub mempool_size: Option<u32>,
    /// How long to wait for the link.
    pub link_timeout: Duration,
    /// Whether workers are to sleep until its queues wake them.
    pub wakes: bool,
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// There is no such device.
    #[error("port {name} ({device}): no such device: {why}; ports there are: {known}")]
    Missing {
        /// The user's name.
        name: String,
        /// The device as written.
        device: String,
        /// errno's text.
        why: String,
        /// The ports of this process.
        known: String,
    },
    /// A call failed.
    #[error("port {name} ({device}): {call}: {why}")]
    Call {
        /// The user's name.
        name: String,
        /// The device as written.
        device: String,
        /// DPDK's function.
        call: &'static str,
        /// errno's text.
        why: String,
    },
    /// No memory for its packets.
    #[error("port {name}: {source}")]
    Memory {
        /// The user's name.
        name: String,
        /// Which pool.
        source: MempoolError,
    },
}

/// The link of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it carries packets.
    pub up: bool,
    /// Mbit/s, when the driver knows.
    pub speed: Option<u32>,
}

/// The names of the devices that DPDK has as ports.
pub fn known_ports(_: &Eal) -> Vec<String> {
    let mut found = Vec::new();
    let mut at: u16 = 0;
    loop {
        // SAFETY: takes any number; returns the next port, one without a name after the last.
        let next = unsafe { dpdk_sys::rte_eth_find_next(at) };
        let Some((id, name)) =
            u16::try_from(u64::from(next)).ok().and_then(|id| Some((id, name_of(id)?)))
        else {
            return found;
        };
        found.push(name);
        at = id.saturating_add(1);
    }
}

fn name_of(id: u16) -> Option<String> {
    let mut name = [0 as c_char; dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: the buffer has the length that the call requires; an unknown port is an error.
    let failed = unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) };
    if failed != 0 {
        return None;
    }
    // SAFETY: the call wrote a NUL-terminated string.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// A port that carries packets, as the control side sees it.
#[derive(Debug)]
pub struct OpenPort {
    /// The user's name.
    pub name: String,
    /// DPDK's name of the device.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// Queue pairs in use.
    pub queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// The MTU in force.
    pub mtu: u16,
    /// In the lower six bytes.
    mac: AtomicU64,
    /// Where its packets come from.
    pub pool: Mempool,
    /// What was asked for and not had, a sentence each.
    pub shortfalls: Vec<String>,
    /// What was asked for, for a start that comes later.
    pub(super) request: PortRequest,
    /// Descriptors of a receive queue, of a transmit queue.
    pub(super) descriptors: (u16, u16),
    started: Arc<StartedPort>,
}

/// A queue pair that a worker claims on its own thread.
#[derive(Debug)]
pub struct QueueSeed {
    port: Arc<StartedPort>,
    queue: u16,
}

impl QueueSeed {
    /// The queues, from now on this thread's own.
    pub fn claim(self) -> (RxQueue, TxQueue) {
        (RxQueue::new(self.port.clone(), self.queue), TxQueue::new(self.port, self.queue))
    }
}

impl OpenPort {
    /// DPDK's number of it.
    pub fn id(&self) -> PortId {
        PortId(self.started.id())
    }

    pub(super) fn started(&self) -> &Arc<StartedPort> {
        &self.started
    }

    /// The MAC address in force: of a VF its host may change it, at a reset.
    pub fn mac(&self) -> [u8; 6] {
        let [_, _, mac @ ..] = self.mac.load(Ordering::Relaxed).to_be_bytes();
        mac
    }

    /// Notes the MAC address in force.
    pub fn set_mac(&self, [a, b, c, d, e, f]: [u8; 6]) {
        self.mac.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
    }

    /// Whether and how fast the link is.
    pub fn link(&self) -> LinkState {
        let _control = self.started.control();
        let (mut speed, mut up) = (0, 0);
        // SAFETY: the port exists as long as `started`; the call writes two numbers.
        let failed = unsafe { dpdk_sys::nfv_link(self.started.id(), &mut speed, &mut up) };
        let known = failed == 0 && speed != 0 && speed != u32::MAX;
        LinkState { up: failed == 0 && up != 0, speed: known.then_some(speed) }
    }

    /// The device's extended statistics, by name. For the control side; some drivers ask their firmware.
    pub fn extended_statistics(&self) -> Vec<(String, u64)> {
        let _control = self.started.control();
        let id = self.started.id();
        // SAFETY: with no room the call only returns the number of statistics.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get(id, std::ptr::null_mut(), 0) };
        let Ok(count) = usize::try_from(count) else { return Vec::new() };
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); count];
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); count];
        let room = count as u32;
        // SAFETY: `names` has `room` elements.
        let named = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), room) };
        // SAFETY: `values` has `room` elements.
        let valued = unsafe { dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), room) };
        let filled = usize::try_from(named.min(valued)).unwrap_or(0).min(count);
        let text = |raw: &[c_char]| {
            let bytes: Vec<u8> = raw.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let pairs = values.iter().take(filled);
        pairs
            .filter_map(|v| Some((text(&names.get(usize::try_from(v.id).ok()?)?.name), v.value)))
            .collect()
    }

    /// How many queue pairs the device has; it is found, or made, but not started.
    ///
    /// # Errors
    /// There is no such device.
    pub fn queue_limit(eal: &Eal, request: &PortRequest) -> Result<u16, PortError> {
        let id = find(eal, request)?;
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port exists; the call fills the struct.
        let failed = unsafe { dpdk_sys::rte_eth_dev_info_get(id, &mut info) };
        // Some drivers leave their limits at 0.
        Ok(if failed == 0 { info.max_rx_queues.min(info.max_tx_queues).max(1) } else { 1 })
    }

    /// Finds (or makes, for a vdev) the device, configures it to what it can do, and starts it.
    ///
    /// A thing that the device does not take is left out and told in `shortfalls`.
    /// # Errors
    /// There is no such device, or it does not start.
    pub fn open(eal: &Eal, request: &PortRequest) -> Result<(Self, Vec<QueueSeed>), PortError> {
        let id = find(eal, request)?;
        let call = |call: &'static str, failed: i32| {
            if failed == 0 {
                return Ok(());
            }
            let (name, device) = (request.name.clone(), request.device.clone());
            // The driver's own words say more than a number.
            let why = std::iter::once(errno_text(failed)).chain(log::take_errors());
            Err(PortError::Call { name, device, call, why: why.collect::<Vec<_>>().join("; ") })
        };
        let mut shortfalls = Vec::new();
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port exists; the call fills the struct.
        call("rte_eth_dev_info_get", unsafe { dpdk_sys::rte_eth_dev_info_get(id, &mut info) })?;

        let limit = info.max_rx_queues.min(info.max_tx_queues).max(1);
        let queues = request.queues.min(limit).max(1);
        if queues < request.queues {
            shortfalls.push(format!(
                "the device has {queues} queue pairs, {} workers ask for one each",
                request.queues
            ));
        }
        let mtu = fit_mtu(request.mtu, &info, &mut shortfalls);
        configure(id, (queues, request.wakes), mtu, &info, &mut shortfalls, &call)?;

        let mut descriptors =
            (request.descriptors.0.unwrap_or(1024), request.descriptors.1.unwrap_or(1024));
        let asked = descriptors;
        // SAFETY: the port is configured; the call changes the two numbers to what the driver takes.
        call("rte_eth_dev_adjust_nb_rx_tx_desc", unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut descriptors.0, &mut descriptors.1)
        })?;
        if request.descriptors != (None, None) && descriptors != asked {
            shortfalls.push(format!(
                "descriptors are {} and {}, not {} and {}: the driver's limits",
                descriptors.0, descriptors.1, asked.0, asked.1
            ));
        }

        // SAFETY: the port exists; -1 for a vdev without a node.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) };
        let need = u32::from(queues) * (u32::from(descriptors.0) + u32::from(descriptors.1) + 1024);
        let size = request.mempool_size.unwrap_or((need + 1024).next_power_of_two() - 1);
        let room = u16::max(2048, mtu.saturating_add(ETHERNET_OVERHEAD));
        let pool = Mempool::create(size, room, socket)
            .map_err(|source| PortError::Memory { name: request.name.clone(), source })?;
        set_up_queues(id, queues, descriptors, &pool, &call)?;
        set_mac(id, request.mac, &mut shortfalls);
        let flow_queue = log::quietly(|| open_queue(id));
        // SAFETY: configured, with all its queues set up.
        call("rte_eth_dev_start", unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        let wakes = match request.wakes.then(|| log::quietly(|| Wakes::of(id, 0))) {
            Some(Err(why)) => {
                shortfalls.push(format!(
                    "the driver has no receive interrupts ({why}): idle workers pause, as with `idle: pause`"
                ));
                false
            }
            asked => asked.is_some(),
        };
        let started = Arc::new(StartedPort::new(id, queues, wakes, flow_queue));
        set_promiscuous(id, request.promiscuous, &mut shortfalls);

        let mut real_mtu = mtu;
        // SAFETY: the port exists; the call writes a number.
        unsafe { dpdk_sys::rte_eth_dev_get_mtu(id, &mut real_mtu) };
        let port = Self {
            name: request.name.clone(),
            device: name_of(id).unwrap_or_else(|| request.device.clone()),
            driver: text_of(info.driver_name),
            queues,
            rx_descriptors: descriptors.0,
            mtu: real_mtu,
            mac: AtomicU64::new(0),
            pool,
            shortfalls,
            request: request.clone(),
            descriptors,
            started: started.clone(),
        };
        port.set_mac(mac_of(id));
        let seeds = (0..queues).map(|queue| QueueSeed { port: started.clone(), queue }).collect();
        Ok((port, seeds))
    }

    /// Waits until the link is up, `limit` at most. Returns what it is then.
    pub fn wait_for_link(&self, limit: Duration) -> LinkState {
        let start = Instant::now();
        loop {
            let link = self.link();
            if link.up || start.elapsed() >= limit {
                return link;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text_of(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: a driver's name is a NUL-terminated string of static storage.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}

/// The port of `request.device`, which is probed when EAL does not have it yet.
fn find(eal: &Eal, request: &PortRequest) -> Result<u16, PortError> {
    let name = request.device.split(',').next().unwrap_or_default();
    let missing = |why: String| PortError::Missing {
        name: request.name.clone(),
        device: request.device.clone(),
        why,
        known: match known_ports(eal) {
            known if known.is_empty() => "none".to_owned(),
            known => known.join(", "),
        },
    };
    let name_c = CString::new(name).map_err(|_| missing("it holds a NUL byte".to_owned()))?;
    let mut id = 0;
    // SAFETY: the name is NUL-terminated; the call writes a number when it returns 0.
    if unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name_c.as_ptr(), &mut id) } == 0 {
        return Ok(id);
    }
    let whole = CString::new(request.device.as_str())
        .map_err(|_| missing("it holds a NUL byte".to_owned()))?;
    // SAFETY: the arguments are NUL-terminated and copied.
    let failed = unsafe { dpdk_sys::rte_dev_probe(whole.as_ptr()) };
    if failed != 0 {
        return Err(missing(errno_text(failed)));
    }
    // SAFETY: as the first call.
    match unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name_c.as_ptr(), &mut id) } {
        0 => Ok(id),
        failed => Err(missing(errno_text(failed))),
    }
}

fn fit_mtu(asked: Option<u16>, info: &rte_eth_dev_info, shortfalls: &mut Vec<String>) -> u16 {
    let Some(asked) = asked else { return DEFAULT_MTU };
    // Some drivers leave their limits at 0.
    let most = if info.max_mtu == 0 { u16::MAX } else { info.max_mtu };
    let fit = asked.clamp(info.min_mtu.min(most), most);
    if fit != asked {
        shortfalls.push(format!("the MTU is {fit}, not {asked}: the driver's limit"));
    }
    fit
}

/// The MAC address, as the driver has it.
pub(super) fn mac_of(id: u16) -> [u8; 6] {
    let mut address = dpdk_sys::rte_ether_addr::default();
    // SAFETY: the port exists; the call writes six bytes.
    unsafe { dpdk_sys::rte_eth_macaddr_get(id, &mut address) };
    address.addr_bytes
}

/// Sets up as many queues, with their descriptors.
pub(super) fn set_up_queues(
    id: u16,
    queues: u16,
    (rx, tx): (u16, u16),
    pool: &Mempool,
    call: &dyn Fn(&'static str, i32) -> Result<(), PortError>,
) -> Result<(), PortError> {
    // SAFETY: the port exists; -1 for a vdev without a node.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) };
    let node = u32::try_from(socket).unwrap_or(u32::MAX);
    for queue in 0..queues {
        let none = std::ptr::null();
        // SAFETY: the port is configured with more than `queue` queues; null asks for the driver's defaults.
        call("rte_eth_rx_queue_setup", unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(id, queue, rx, node, none, pool.as_ptr())
        })?;
        // SAFETY: as above.
        call("rte_eth_tx_queue_setup", unsafe {
            dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx, node, std::ptr::null())
        })?;
    }
    Ok(())
}

pub(super) fn set_mac(id: u16, wanted: Option<[u8; 6]>, shortfalls: &mut Vec<String>) {
    let Some(mac) = wanted else { return };
    let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
    // SAFETY: the port exists; the address is copied.
    let failed = unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(id, &mut address) };
    if failed != 0 {
        shortfalls.push(format!("the MAC address stays: {}", errno_text(failed)));
    }
}

/// Configures with all that helps; what the driver refuses is left out, a step at a time.
pub(super) fn configure(
    id: u16,
    (queues, wakes): (u16, bool),
    mtu: u16,
    info: &rte_eth_dev_info,
    shortfalls: &mut Vec<String>,
    call: &dyn Fn(&'static str, i32) -> Result<(), PortError>,
) -> Result<(), PortError> {
    let fields = info.flow_type_rss_offloads & WANTED_RSS;
    let key_length = match info.hash_key_size {
        0 => 40,
        bytes => bytes.min(RSS_KEY.len() as u8),
    };
    let mut conf = rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(mtu);
    conf.rxmode.offloads = info.rx_offload_capa
        & (dpdk_sys::NFV_RX_OFFLOAD_IPV4_CKSUM
            | dpdk_sys::NFV_RX_OFFLOAD_RSS_HASH
            | dpdk_sys::NFV_RX_OFFLOAD_SCATTER);
    conf.txmode.mq_mode = dpdk_sys::RTE_ETH_MQ_TX_NONE;
    conf.intr_conf.set_rxq(u32::from(wakes));
    if queues > 1 && fields != 0 {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = fields;
        conf.rx_adv_conf.rss_conf.rss_key = RSS_KEY.as_ptr().cast_mut();
        conf.rx_adv_conf.rss_conf.rss_key_len = key_length;
    } else {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_NONE;
        conf.rxmode.offloads &= !dpdk_sys::NFV_RX_OFFLOAD_RSS_HASH;
        if queues > 1 {
            shortfalls.push(
                "the driver has no RSS: it spreads packets over queues its own way".to_owned(),
            );
        }
    }
    let attempt = |conf: &rte_eth_conf| {
        // SAFETY: the port exists and is stopped; the configuration is copied. Of the key only the pointer is, which some
        // drivers follow when the port starts: it lives as long as the program, and none writes to it.
        unsafe { dpdk_sys::rte_eth_dev_configure(id, queues, queues, conf) }
    };
    let mut failed = attempt(&conf);
    if failed != 0 && conf.rxmode.mq_mode == dpdk_sys::RTE_ETH_MQ_RX_RSS {
        conf.rx_adv_conf.rss_conf.rss_key = std::ptr::null_mut();
        conf.rx_adv_conf.rss_conf.rss_key_len = 0;
        failed = attempt(&conf);
        if failed == 0 {
            shortfalls.push("the driver refused the symmetric RSS key: the two directions of a flow may meet different workers".to_owned());
        }
    }
    if failed != 0 && conf.rxmode.offloads != 0 {
        conf.rxmode.offloads = 0;
        failed = attempt(&conf);
        if failed == 0 {
            shortfalls
                .push("the driver refused its own offloads: software does the work".to_owned());
        }
    }
    call("rte_eth_dev_configure", failed)
}

pub(super) fn set_promiscuous(id: u16, wanted: bool, shortfalls: &mut Vec<String>) {
    // SAFETY: the port exists.
    let is = unsafe { dpdk_sys::rte_eth_promiscuous_get(id) } == 1;
    let failed = if is == wanted {
        0
    } else if wanted {
        // SAFETY: the port exists.
        unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) }
    } else {
        // SAFETY: the port exists.
        unsafe { dpdk_sys::rte_eth_promiscuous_disable(id) }
    };
    if !wanted {
        // For neighbour discovery and routing protocols. Drivers without it receive all anyway.
        // SAFETY: the port exists.
        let failed = unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) };
        if failed != 0 && failed != -ENOTSUP {
            shortfalls.push(format!(
                "it does not receive all multicast ({}): IPv6 neighbours may not find it; for a VF, `ip link set PF vf N trust on` on the host",
                errno_text(failed)
            ));
        }
    }
    if failed != 0 && wanted {
        shortfalls.push(format!(
            "it is not promiscuous ({}): it receives frames for its own address only; for a VF, `ip link set PF vf N trust on` on the host",
            errno_text(failed)
        ));
    }
}

const ENOTSUP: i32 = 95;

const DEFAULT_MTU: u16 = 1500;

/// Ethernet header, two VLAN tags, checksum.
const ETHERNET_OVERHEAD: u16 = 26;

/// With this key repeated, both directions of a flow hash to one value (Woo and Park, "Scalable TCP session monitoring
/// with symmetric receive-side scaling", 2012).
pub const SYMMETRIC_KEY: [u8; 2] = [0x6d, 0x5a];

/// As long as the longest key of a driver, 52 bytes, and more.
static RSS_KEY: [u8; 64] = {
    let [a, b] = SYMMETRIC_KEY;
    let mut key = [a; 64];
    let mut at = 1;
    while at < key.len() {
        key[at] = b;
        at += 2;
    }
    key
};

const WANTED_RSS: u64 = dpdk_sys::NFV_RSS_IPV4
    | dpdk_sys::NFV_RSS_FRAG_IPV4
    | dpdk_sys::NFV_RSS_IPV4_TCP
    | dpdk_sys::NFV_RSS_IPV4_UDP
    | dpdk_sys::NFV_RSS_IPV4_OTHER
    | dpdk_sys::NFV_RSS_IPV6
    | dpdk_sys::NFV_RSS_FRAG_IPV6
    | dpdk_sys::NFV_RSS_IPV6_TCP
    | dpdk_sys::NFV_RSS_IPV6_UDP
    | dpdk_sys::NFV_RSS_IPV6_OTHER;

const _: () = assert!(HEADROOM >= 64, "headers are pushed into the head room");
