//! The forwarding table: prefixes to next hops, read by all workers, written by the control side.
//!
//! ```text
//!   destination --rte_fib--> hop id --one word--> port and MAC address     (a worker: no lock, two or three loads)
//!                  ^                    ^
//!                  +------- book -------+------ chain file, kernel          (the control side)
//! ```
//!
//! What the control side changes, workers see at once: a store of a word. A packet that is looked up in the middle of a
//! change goes the old way or the new one, or (when DPDK uses a part of the table for another prefix) as that one's do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
use ipnet::IpNet;

use super::addresses::{ADDRESSES_MAX, Addresses};
use super::book::{Book, Change, Full, Origin, Target};
use super::hop::{Hop, HopId, Hops};
use crate::dpdk::{BURST_MAX, Fib4, Fib6, FibError};
use crate::packet::{Headers, L3};
use crate::port_index::PortIndex;

/// The box's forwarding table. One a chain file; shared.
#[derive(Debug)]
pub struct RouteTable {
    v4: Fib4,
    v6: Fib6,
    hops: Hops,
    ports: Box<[Port]>,
    own: Addresses,
    /// What workers want to know of the control side.
    wanted: ArrayQueue<Wanted>,
    book: Mutex<Book>,
}

/// What forwarding has to know of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Most bytes of an IP packet.
    pub mtu: u16,
}

#[derive(Debug, Default)]
struct Port {
    /// `[mtu: 16][mac: 48]`; 0 before the port is open.
    facts: AtomicU64,
    /// Whence the box answers senders on its link.
    v4: OnceLock<Ipv4Addr>,
    v6: OnceLock<Ipv6Addr>,
}

/// A neighbour whose MAC address a worker has a packet for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// On this port's link.
    pub port: PortIndex,
    /// The hop that led there.
    pub hop: HopId,
    /// The packet's destination; the neighbour itself, when the hop is a link and no router.
    pub destination: IpAddr,
}

/// Why a route or neighbour did not get into the table.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// DPDK's table.
    #[error("{prefix}: {source}")]
    Fib {
        /// What was to be changed.
        prefix: IpNet,
        /// Why it was not.
        source: FibError,
    },
    /// The table of hops.
    #[error(transparent)]
    Hops(#[from] Full),
    /// The list of own addresses.
    #[error(
        "more than {ADDRESSES_MAX} own addresses of a family; packets to the last ones are not the box's"
    )]
    Addresses,
}

impl RouteTable {
    /// A table without routes, for as many ports. Memory: 200 MiB of EAL's.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create(ports: usize) -> Result<Self, FibError> {
        Ok(Self {
            v4: Fib4::create()?,
            v6: Fib6::create()?,
            hops: Hops::new(),
            ports: (0..ports).map(|_| Port::default()).collect(),
            own: Addresses::new(),
            wanted: ArrayQueue::new(WANTED_MAX),
            book: Mutex::default(),
        })
    }

    /// For each packet, the hop of its destination; [`HopId::NONE`] for what is not IP or has no route.
    ///
    /// Cost: 2 to 5 ns a packet, a burst at a time.
    #[inline]
    pub fn look_up(&self, all: &[Headers], found: &mut [u32]) {
        let (mut v4, mut v6) = ([0u32; BURST_MAX], [[0u8; 16]; BURST_MAX]);
        let (mut at4, mut at6) = ([0u8; BURST_MAX], [0u8; BURST_MAX]);
        let (mut n4, mut n6) = (0, 0);
        for (i, h) in all.iter().enumerate().take(BURST_MAX) {
            match h.kind {
                L3::Ipv4 => {
                    if let (Some(address), Some(at)) = (v4.get_mut(n4), at4.get_mut(n4)) {
                        (*address, *at) = (u32::from_be_bytes(h.dst.v4()), i as u8);
                        n4 += 1;
                    }
                }
                L3::Ipv6 => {
                    if let (Some(address), Some(at)) = (v6.get_mut(n6), at6.get_mut(n6)) {
                        (*address, *at) = (h.dst.v6(), i as u8);
                        n6 += 1;
                    }
                }
                L3::Arp | L3::Other => {}
            }
        }
        found.fill(0);
        let mut hops = [0u64; BURST_MAX];
        let mut put = |hops: &[u64; BURST_MAX], at: &[u8; BURST_MAX], n: usize| {
            for (hop, i) in hops.iter().zip(at).take(n) {
                if let Some(found) = found.get_mut(usize::from(*i)) {
                    *found = *hop as u32;
                }
            }
        };
        if n4 > 0 {
            self.v4.look_up(v4.get(..n4).unwrap_or_default(), &mut hops);
            put(&hops, &at4, n4);
        }
        if n6 > 0 {
            self.v6.look_up(v6.get(..n6).unwrap_or_default(), &mut hops);
            put(&hops, &at6, n6);
        }
    }

    /// The hop of one destination; for the control side.
    pub fn look_up_one(&self, destination: IpAddr) -> HopId {
        let mut hops = [0; BURST_MAX];
        match destination {
            IpAddr::V4(a) => self.v4.look_up(&[a.to_bits()], &mut hops),
            IpAddr::V6(a) => self.v6.look_up(&[a.octets()], &mut hops),
        }
        let [first, ..] = hops;
        HopId(first as u32)
    }

    /// What becomes of a packet at a hop. Cost: one load.
    #[inline]
    pub fn hop(&self, id: HopId) -> Hop {
        self.hops.get(id)
    }

    /// As [`RouteTable::hop`], by a worker that sends a packet there.
    #[inline]
    pub(crate) fn use_hop(&self, id: HopId) -> Hop {
        self.hops.use_hop(id)
    }

    /// What forwarding has to know of a port; `None` before it is open.
    #[inline]
    pub fn port(&self, port: PortIndex) -> Option<PortFacts> {
        let facts = self.ports.get(port.index())?.facts.load(Ordering::Relaxed);
        let [m0, m1, mac @ ..] = facts.to_be_bytes();
        (facts != 0).then_some(PortFacts { mac, mtu: u16::from_be_bytes([m0, m1]) })
    }

    /// Whether a packet is for the box itself. Cost: a compare for each own address.
    #[inline]
    pub fn is_own(&self, headers: &Headers) -> bool {
        self.own.is_destination(headers)
    }

    /// Whence the box answers a sender of that family on a port's link.
    pub fn source(&self, port: PortIndex, family: L3) -> Option<IpAddr> {
        let port = self.ports.get(port.index())?;
        match family {
            L3::Ipv4 => port.v4.get().copied().map(IpAddr::V4),
            L3::Ipv6 => port.v6.get().copied().map(IpAddr::V6),
            L3::Arp | L3::Other => None,
        }
    }

    /// Asks the control side about a neighbour. When many wait already, this one is asked for by a later packet.
    #[inline]
    pub fn want(&self, wanted: Wanted) {
        let _ = self.wanted.push(wanted);
    }

    /// What a worker asked for, and the neighbour meant by it. For the control side.
    pub fn next_wanted(&self) -> Option<(PortIndex, IpAddr)> {
        let wanted = self.wanted.pop()?;
        let neighbour = self.book().neighbour_of(wanted.hop);
        Some(neighbour.unwrap_or((wanted.port, wanted.destination)))
    }

    /// Neighbours to which packets were sent since the last call. For the control side, about once a second.
    pub fn take_used(&self) -> Vec<(PortIndex, IpAddr)> {
        let book = self.book();
        self.hops.take_used(book.given()).filter_map(|id| book.neighbour_of(id)).collect()
    }

    /// Says what a port is, once it is open.
    pub fn set_port(&self, port: PortIndex, facts: PortFacts) {
        let [a, b, c, d, e, f] = facts.mac;
        let [m0, m1] = facts.mtu.to_be_bytes();
        if let Some(port) = self.ports.get(port.index()) {
            let word = u64::from_be_bytes([m0, m1, a, b, c, d, e, f]);
            port.facts.store(word, Ordering::Relaxed);
        }
    }

    /// An address of the chain file: the box's own, its network on the port's link.
    ///
    /// # Errors
    /// The table is full.
    pub fn add_port_address(&self, port: PortIndex, address: IpNet) -> Result<(), RouteError> {
        self.set_source(port, address.addr());
        self.add_own(address.addr())?;
        self.announce(address.trunc(), Origin::Connected, Target::Link(port))
    }

    /// Whence the box answers senders on a port's link: the first address of each family that it is given.
    pub fn set_source(&self, port: PortIndex, address: IpAddr) {
        if let Some(port) = self.ports.get(port.index()) {
            match address {
                IpAddr::V4(a) => drop(port.v4.set(a)),
                IpAddr::V6(a) if a.is_unicast_link_local() => {}
                IpAddr::V6(a) => drop(port.v6.set(a)),
            }
        }
    }

    /// Packets to this address are for the box itself.
    ///
    /// # Errors
    /// The table is full.
    pub fn add_own(&self, address: IpAddr) -> Result<(), RouteError> {
        self.announce(IpNet::from(address), Origin::Own, Target::Local)?;
        self.publish_own()
    }

    /// They are no longer.
    ///
    /// # Errors
    /// The table is full.
    pub fn remove_own(&self, address: IpAddr) -> Result<(), RouteError> {
        self.withdraw(IpNet::from(address), Origin::Own)?;
        self.publish_own()
    }

    /// `origin` says that `prefix` leads to `target`; what it said before is void.
    ///
    /// # Errors
    /// The table is full.
    pub fn announce(
        &self,
        prefix: IpNet,
        origin: Origin,
        target: Target,
    ) -> Result<(), RouteError> {
        let mut book = self.book();
        let changes = book.announce(prefix.trunc(), origin, target)?;
        self.carry_out(changes)
    }

    /// `origin` says nothing about `prefix` any more.
    ///
    /// # Errors
    /// DPDK's table did not have it.
    pub fn withdraw(&self, prefix: IpNet, origin: Origin) -> Result<(), RouteError> {
        let mut book = self.book();
        let changes = book.withdraw(prefix.trunc(), origin);
        self.carry_out(changes)
    }

    /// Who says something about a prefix.
    pub fn origins(&self, prefix: IpNet) -> Vec<Origin> {
        self.book().origins(prefix.trunc()).collect()
    }

    /// A neighbour's MAC address, or that it is not known any more.
    ///
    /// # Errors
    /// The table is full.
    pub fn neighbour(
        &self,
        port: PortIndex,
        address: IpAddr,
        mac: Option<[u8; 6]>,
    ) -> Result<(), RouteError> {
        let mut book = self.book();
        let changes = book.neighbour(port, address, mac)?;
        self.carry_out(changes)
    }

    fn publish_own(&self) -> Result<(), RouteError> {
        if self.own.set(self.book().own()) { Ok(()) } else { Err(RouteError::Addresses) }
    }

    /// The book, which is as it should be even when someone panicked over it.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller holds the book, so that changes are made in its order. All of them are tried; the first failure is told.
    fn carry_out(&self, changes: Vec<Change>) -> Result<(), RouteError> {
        let mut result = Ok(());
        for change in changes {
            let (prefix, done) = match change {
                Change::Hop(id, hop) => {
                    self.hops.set(id, hop);
                    continue;
                }
                Change::Route(IpNet::V4(p), HopId(id)) => {
                    (IpNet::V4(p), self.v4.set(p.addr().octets(), p.prefix_len(), id))
                }
                Change::Route(IpNet::V6(p), HopId(id)) => {
                    (IpNet::V6(p), self.v6.set(p.addr().octets(), p.prefix_len(), id))
                }
                Change::NoRoute(IpNet::V4(p)) => {
                    (IpNet::V4(p), self.v4.remove(p.addr().octets(), p.prefix_len()))
                }
                Change::NoRoute(IpNet::V6(p)) => {
                    (IpNet::V6(p), self.v6.remove(p.addr().octets(), p.prefix_len()))
                }
            };
            if let Err(source) = done
                && result.is_ok()
            {
                result = Err(RouteError::Fib { prefix, source });
            }
        }
        result
    }
}

/// Neighbours asked for that the control side has not seen yet.
const WANTED_MAX: usize = 1024;
