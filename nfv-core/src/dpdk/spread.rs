//! How a port's NIC spreads packets over its queues: the key of its hash, and its table from hash to queue.

use std::sync::{Arc, Weak};

use dpdk_sys::{rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rss_reta_entry64};

use super::errno_text;
use super::port::OpenPort;
use super::started::StartedPort;

/// The key and the table of a port. For the control side; a VF asks its PF, which takes milliseconds.
#[derive(Clone, Debug)]
pub struct RssTable {
    /// Not an owner: the port closes without it.
    port: Weak<StartedPort>,
}

impl RssTable {
    /// Of a port that runs.
    pub fn of(port: &OpenPort) -> Self {
        Self { port: Arc::downgrade(port.started()) }
    }

    /// The key; `None` when the driver does not tell it.
    pub fn key(&self) -> Option<Vec<u8>> {
        let port = self.port.upgrade()?;
        let _control = port.control();
        let mut key = vec![0; KEY_MAX];
        let info = info(&port)?;
        let length = if info.hash_key_size == 0 { KEY_USUAL } else { info.hash_key_size };
        let mut conf = rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: length,
            ..rte_eth_rss_conf::default()
        };
        // SAFETY: the port runs; the key is written to `key`, which has room for the longest (a byte's number).
        let failed = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(port.id(), &mut conf) };
        // Drivers without a key leave it zero.
        key.truncate(usize::from(length));
        (failed == 0 && key.iter().any(|byte| *byte != 0)).then_some(key)
    }

    /// By the hash's lowest bits, a queue; empty: the driver does not tell.
    pub fn table(&self) -> Vec<u16> {
        let Some(port) = self.port.upgrade() else { return Vec::new() };
        let _control = port.control();
        let Some((size, mut groups)) = info(&port).and_then(|info| groups(info.reta_size)) else {
            return Vec::new();
        };
        // SAFETY: the port runs; `groups` has as many elements as `size` entries take.
        let failed =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(port.id(), groups.as_mut_ptr(), size) };
        if failed != 0 {
            return Vec::new();
        }
        groups.iter().flat_map(|g| g.reta).take(usize::from(size)).collect()
    }

    /// Sends each part of the hash to another queue.
    ///
    /// # Errors
    /// The table has another size, or the driver's words.
    pub fn set(&self, table: &[u16]) -> Result<(), String> {
        let port = self.port.upgrade().ok_or("the port is closed")?;
        let _control = port.control();
        let size = info(&port).map_or(0, |info| info.reta_size);
        let Some((_, mut all)) = groups(size).filter(|_| table.len() == usize::from(size)) else {
            return Err(format!("the NIC's table has {size} entries, not {}", table.len()));
        };
        for (group, queues) in all.iter_mut().zip(table.chunks(GROUP)) {
            group.mask = u64::MAX;
            for (entry, queue) in group.reta.iter_mut().zip(queues) {
                *entry = *queue;
            }
        }
        // SAFETY: the port runs; `all` has as many elements as `size` entries take.
        let failed =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(port.id(), all.as_mut_ptr(), size) };
        match failed {
            0 => Ok(()),
            failed => Err(format!("rte_eth_dev_rss_reta_update: {}", errno_text(failed))),
        }
    }
}

fn info(port: &StartedPort) -> Option<rte_eth_dev_info> {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: the port runs; the call fills the struct.
    let failed = unsafe { dpdk_sys::rte_eth_dev_info_get(port.id(), &mut info) };
    (failed == 0).then_some(info)
}

/// A table of that many entries, all of which are asked for; none without a table.
fn groups(size: u16) -> Option<(u16, Vec<rte_eth_rss_reta_entry64>)> {
    let count = usize::from(size).div_ceil(GROUP);
    let all = rte_eth_rss_reta_entry64 { mask: u64::MAX, ..rte_eth_rss_reta_entry64::default() };
    (size > 0).then(|| (size, vec![all; count]))
}

const GROUP: usize = dpdk_sys::RTE_ETH_RETA_GROUP_SIZE as usize;
/// What a byte can count.
const KEY_MAX: usize = 256;
/// Where a driver does not say.
const KEY_USUAL: u8 = 40;
