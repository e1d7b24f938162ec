//! What the kernel knows and the dataplane needs: links, own addresses, routes and neighbours of the twins.
//!
//! ```text
//!   ip, FRR, ARP, ND --> kernel tables --notifications--> Watch --KernelEvent--> sink (the dataplane's tables)
//!                              ^                            |
//!                              +------ dumps, probes -------+ <--Neighbours-- dataplane: resolve, in use
//! ```
//!
//! [`Watch`] subscribes first and dumps then, on one socket, so nothing falls between; after that it follows the
//! notifications, a few milliseconds behind. When the kernel had to drop some (a full socket) or does not send them
//! (IPv4 routes flushed with a link or an address), it dumps again and tells the differences. The sink therefore sees
//! changes only: nothing twice, nothing that was not there.
//!
//! Rejected: a fixed interval of polling (late, or costly with a full table), and trusting the notifications alone
//! (they are not complete).
mod fact;
mod mirror;
pub(super) mod socket;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::fact::{Fact, State};
use self::mirror::{Mirror, Source, Table, Told};
use self::socket::{Heard, Socket};

/// A change in the kernel's tables that concerns a watched interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A neighbour can be sent to, at `mac`; also when its MAC changed.
    Neighbour {
        /// Kernel index of the twin.
        interface: u32,
        /// The neighbour's address; never multicast.
        address: IpAddr,
        /// Where its frames go.
        mac: [u8; 6],
    },
    /// A neighbour cannot be sent to: it was deleted, or does not answer. Also for one that never could.
    NeighbourGone {
        /// Kernel index of the twin.
        interface: u32,
        /// The neighbour's address.
        address: IpAddr,
    },
    /// The main table has this route of this key; also when its action changed.
    Route {
        /// What it matches.
        key: RouteKey,
        /// What becomes of a packet that it matches.
        action: Action,
    },
    /// The main table has no route of this key, or none by a watched interface.
    RouteGone {
        /// What it matched.
        key: RouteKey,
    },
    /// A watched interface has this address; a packet to it is for the box itself.
    Address {
        /// Kernel index of the twin.
        interface: u32,
        /// The address with the length of its network's prefix.
        address: IpNet,
    },
    /// A watched interface no longer has this address.
    AddressGone {
        /// Kernel index of the twin.
        interface: u32,
        /// The address with the length of its network's prefix.
        address: IpNet,
    },
    /// A watched interface went up (administratively, and with a carrier) or down.
    Link {
        /// Kernel index of the twin.
        interface: u32,
        /// Whether the kernel sends and receives on it.
        up: bool,
    },
}

/// What tells one route of the main table from another. Of equal prefixes the lowest metric is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Destinations, host bits zero.
    pub prefix: IpNet,
    /// The kernel's priority; lower is better. 0 when `ip route` was given none, 1024 then for IPv6.
    pub metric: u32,
}

/// What becomes of a packet that a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent by one of these hops, in proportion to their weights; at least one.
    Forward(Vec<Hop>),
    /// Dropped without a word (`blackhole`).
    Blackhole,
    /// Dropped with ICMP host unreachable (`unreachable`).
    Unreachable,
    /// Dropped with ICMP administratively prohibited (`prohibit`).
    Prohibit,
}

/// One way out of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The router to send to, `None` when the destination itself is on the link. May be IPv6 in a route of IPv4.
    pub via: Option<IpAddr>,
    /// Kernel index of the twin.
    pub interface: u32,
    /// Share of the flows, relative to the other hops; 1 to 256.
    pub weight: u16,
}

/// Takes what the kernel tells. Called on the control thread; must not block.
pub trait KernelSink: Send {
    /// Something changed.
    fn event(&mut self, event: KernelEvent);
    /// All tables were read in full: after the first time the sink is complete; later ones repair what was missed.
    fn resync_done(&mut self);
}

/// Why the kernel's tables cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No netlink socket.
    #[error(
        "netlink: {call} failed; routes and neighbours cannot be learned from the kernel (a seccomp or container rule that forbids AF_NETLINK sockets does this)"
    )]
    Open {
        /// The call that failed.
        call: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The socket failed while in use.
    #[error("netlink: {call} failed; routes and neighbours are no longer learned from the kernel")]
    Lost {
        /// The call that failed.
        call: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Follows the kernel's tables for a set of interfaces.
///
/// Routes by source address or type of service, routes of other tables than `main`, of link-local prefixes and hops that
/// push a label or a tunnel header are left out: the dataplane would not treat them as the kernel does.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    interfaces: BTreeSet<u32>,
    wishes: mpsc::Receiver<Wish>,
    mirror: Mirror,
    pass: Pass,
}

/// The dataplane's wishes about neighbours, carried out by a [`Watch`]. Cheap to clone.
///
/// For the control thread: a worker that called this would make a system call to wake it.
#[derive(Clone, Debug)]
pub struct Neighbours {
    wishes: mpsc::Sender<Wish>,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Resolve { interface: u32, address: IpAddr },
    InUse { interface: u32, address: IpAddr },
}

/// The reading of all tables: what remains to be read, and when to begin.
#[derive(Debug)]
struct Pass {
    /// The table that is being read, and the request's sequence number.
    reading: Option<(Table, u32)>,
    /// Those to read after it, last first.
    todo: Vec<Table>,
    /// Something was lost or changed under the reading: entries that were not named may be there all the same.
    spoiled: bool,
    /// When to begin the next one.
    due: Option<Instant>,
    /// When the one that runs, or ran last, began.
    began: Instant,
    /// Passes follow each other at least this far apart, so that reading a large table never takes all the time.
    pause: Duration,
}

impl Neighbours {
    /// Asks the kernel to find out the MAC of `address`, by ARP or ND.
    ///
    /// The answer is an event: `Neighbour`, or `NeighbourGone` after three tries of a second. Asking again meanwhile does
    /// no harm but costs a system call, so ask once a second at most for each address. False when too many wishes wait.
    pub fn resolve(&self, interface: u32, address: IpAddr) -> bool {
        self.wishes.try_send(Wish::Resolve { interface, address }).is_ok()
    }

    /// Says that packets were sent to `address` lately, so that the kernel keeps knowing whether it is still there.
    ///
    /// Meant about once a second for each neighbour in use. While one was in use within 30 s the kernel is asked to
    /// probe it each time that it goes stale. False when too many wishes wait.
    pub fn in_use(&self, interface: u32, address: IpAddr) -> bool {
        self.wishes.try_send(Wish::InUse { interface, address }).is_ok()
    }
}

impl Watch {
    /// Subscribes to the kernel's tables for `interfaces`, kernel indices of twins. Call it in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// `Open`: the socket could not be had.
    pub fn open(interfaces: BTreeSet<u32>) -> Result<(Self, Neighbours), WatchError> {
        let fail = |call| move |source| WatchError::Open { call, source };
        let socket = Socket::open(&GROUPS).map_err(fail("socket(AF_NETLINK)"))?;
        socket.widen(RECEIVE_BYTES).map_err(fail("setsockopt(SO_RCVBUF)"))?;
        let (sender, wishes) = mpsc::channel(WISHES_MAX);
        let pass = Pass::new(Instant::now());
        let watch = Self { socket, interfaces, wishes, mirror: Mirror::default(), pass };
        Ok((watch, Neighbours { wishes: sender }))
    }

    /// Tells `sink` all that there is, then every change, until the socket fails.
    pub async fn run(mut self, sink: &mut impl KernelSink) -> WatchError {
        loop {
            if let Err(error) = self.turn(sink).await {
                return error;
            }
        }
    }

    /// Waits for one thing to happen and deals with it.
    async fn turn(&mut self, sink: &mut impl KernelSink) -> Result<(), WatchError> {
        if self.pass.reading.is_none()
            && let Some(table) = self.pass.todo.pop()
        {
            let dump = self.socket.dump(whole(table)).await;
            let sequence =
                dump.map_err(|source| WatchError::Lost { call: "dump request", source })?;
            self.pass.reading = Some((table, sequence));
        }
        let due = self.pass.due.filter(|_| self.pass.is_idle());
        let Self { socket, interfaces, wishes, mirror, pass } = self;
        let mut probes = Vec::new();
        tokio::select! {
            received = socket.receive(|heard| hear(heard, interfaces, mirror, pass, &mut probes, sink)) => {
                match received {
                    Err(error) if socket::is_overrun(&error) => {
                        tracing::warn!("the kernel had more to tell than the netlink socket holds; reading its tables again");
                        pass.spoiled = true;
                        pass.again(Instant::now());
                    }
                    Err(source) => return Err(WatchError::Lost { call: "recv", source }),
                    Ok(()) => {}
                }
            }
            Some(wish) = wishes.recv() => match wish {
                Wish::Resolve { interface, address } => probes.push((interface, address)),
                Wish::InUse { interface, address } => {
                    let now = Instant::now().into_std();
                    mirror.note_use(interface, address, now);
                    if mirror.wants_probe(interface, address, now) {
                        probes.push((interface, address));
                    }
                }
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                pass.begin(Instant::now());
                mirror.begin();
            }
        }
        for (interface, address) in probes {
            self.probe(interface, address).await?;
        }
        Ok(())
    }

    /// Has the kernel find out about a neighbour, as `ip neigh add ADDRESS dev INTERFACE use` does.
    async fn probe(&mut self, interface: u32, address: IpAddr) -> Result<(), WatchError> {
        if !self.interfaces.contains(&interface) {
            return Ok(());
        }
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = interface;
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
        // No acknowledgement is asked for; a refusal (the kernel's neighbour table is full) comes unasked.
        let sent = self.socket.send(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE).await;
        sent.map(drop).map_err(|source| WatchError::Lost { call: "neighbour request", source })
    }
}

/// Deals with one message: an answer of the dump that runs, or a notification.
fn hear(
    heard: Heard,
    interfaces: &BTreeSet<u32>,
    mirror: &mut Mirror,
    pass: &mut Pass,
    probes: &mut Vec<(u32, IpAddr)>,
    sink: &mut impl KernelSink,
) {
    match heard {
        Heard::Message { answers, flags, body } => {
            let Some(fact) = fact::read(&body, flags, interfaces) else { return };
            let ours = pass.reading.is_some_and(|(_, asked)| answers == Some(asked));
            let source = if ours { Source::Dump } else { Source::Notification };
            let stale = match fact {
                Fact::Neighbour {
                    interface,
                    address,
                    state: State::Usable { stale: true, .. },
                } => Some((interface, address)),
                _ => None,
            };
            if mirror.apply(fact, source, &mut |e| sink.event(e)) == Told::AskAgain {
                pass.again(Instant::now());
            }
            if let Some((interface, address)) = stale
                && mirror.wants_probe(interface, address, Instant::now().into_std())
            {
                probes.push((interface, address));
            }
        }
        Heard::NextHopDeleted => pass.again(Instant::now()),
        Heard::Done { sequence, interrupted, result } => {
            let Some((table, _)) = pass.reading.filter(|(_, asked)| *asked == sequence) else {
                if let Err(error) = result {
                    tracing::debug!(%error, "the kernel refused to look for a neighbour");
                }
                return;
            };
            pass.reading = None;
            pass.spoiled |= interrupted;
            if let Err(error) = result {
                // A kernel without IPv6 has no such table, which is the same as an empty one.
                tracing::debug!(%error, ?table, "the kernel has no such table");
            }
            if !pass.spoiled {
                mirror.end(table, &mut |e| sink.event(e));
            }
            if pass.is_idle() {
                pass.end(Instant::now());
                if !pass.spoiled {
                    sink.resync_done();
                }
            }
        }
    }
}

impl Pass {
    /// Nothing read, and the first reading due at once.
    fn new(now: Instant) -> Self {
        Self {
            reading: None,
            todo: Vec::new(),
            spoiled: false,
            due: Some(now),
            began: now,
            pause: Duration::ZERO,
        }
    }

    fn is_idle(&self) -> bool {
        self.reading.is_none() && self.todo.is_empty()
    }

    fn begin(&mut self, now: Instant) {
        // Links first: the kernel lists them under the lock that it flushes routes under, so a flush that was announced
        // has ended when the routes are read. Neighbours last: they are of use only with their routes.
        self.todo.extend([
            Table::Neighbours,
            Table::Routes6,
            Table::Routes4,
            Table::Addresses,
            Table::Links,
        ]);
        self.spoiled = false;
        self.due = None;
        self.began = now;
    }

    fn end(&mut self, now: Instant) {
        self.pause = now.saturating_duration_since(self.began);
        if self.spoiled {
            self.again(now);
        }
    }

    /// Has the tables read again soon; what happens until then is one occasion with this.
    fn again(&mut self, now: Instant) {
        self.due.get_or_insert(now + SETTLE.max(self.pause));
    }
}

impl Action {
    /// Whether it has no hop by a watched interface, so that it does not concern the dataplane.
    fn leads_nowhere_of_ours(&self) -> bool {
        matches!(self, Self::Forward(hops) if hops.is_empty())
    }
}

/// The request for a whole table.
fn whole(table: Table) -> RouteNetlinkMessage {
    let routes = |family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        RouteNetlinkMessage::GetRoute(message)
    };
    match table {
        Table::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
        Table::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        Table::Routes4 => routes(AddressFamily::Inet),
        Table::Routes6 => routes(AddressFamily::Inet6),
        Table::Neighbours => RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
    }
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// `RTNLGRP_*` of `linux/rtnetlink.h`: LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NEXTHOP.
const GROUPS: [u32; 7] = [1, 3, 5, 7, 9, 11, 32];
/// Room for notifications; the kernel counts about 1 KiB for a route.
const RECEIVE_BYTES: u32 = 4 << 20;
/// Wishes that may wait; more are refused, and made again with the next packet.
const WISHES_MAX: usize = 1024;
/// How long to wait for the rest of a change before the tables are read again; well within 100 ms.
const SETTLE: Duration = Duration::from_millis(20);
