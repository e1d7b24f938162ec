//! The control side's book: who says what about each prefix, and which of them counts.
//!
//! Pure bookkeeping, without workers and without DPDK: it says which prefixes and hops changed, and the table carries
//! that out. So what counts can be tested by itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use super::hop::{HOPS_MAX, Hop, HopId};
use crate::port_index::PortIndex;

/// Who says it; the first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// An address of the box itself.
    Own,
    /// A neighbour whose MAC address is known.
    Neighbour,
    /// A route of the chain file.
    File,
    /// The network of an address of the chain file.
    Connected,
    /// The kernel's main table; the lower metric counts.
    Kernel {
        /// Its metric.
        metric: u32,
    },
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// To the destination itself, on the link of a port.
    Link(PortIndex),
    /// To a router or host on the link of a port.
    Via(PortIndex, IpAddr),
    /// To the box itself.
    Local,
    /// Nowhere.
    Blackhole,
    /// Nowhere, and the sender is told so.
    Unreachable,
    /// Nowhere, because it is forbidden.
    Prohibited,
}

/// What is to be changed in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A hop's meaning.
    Hop(HopId, Hop),
    /// A prefix's hop.
    Route(IpNet, HopId),
    /// A prefix has none any more.
    NoRoute(IpNet),
}

#[derive(Debug, Default)]
pub(super) struct Book {
    /// Who says what; the first counts.
    prefixes: BTreeMap<IpNet, BTreeMap<Origin, Target>>,
    neighbours: HashMap<(PortIndex, IpAddr), [u8; 6]>,
    hops: HashMap<Target, (HopId, u32)>,
    targets: HashMap<HopId, Target>,
    /// Ids to use again, the longest unused first: a worker may still hold one for a burst.
    free: VecDeque<HopId>,
    /// Ids given out in all.
    given: u32,
}

/// There are as many hops as the table holds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no room for another next hop: {HOPS_MAX} are in use")]
pub struct Full;

impl Book {
    /// `origin` says that `prefix` leads to `target`; what it said before is void.
    pub fn announce(
        &mut self,
        prefix: IpNet,
        origin: Origin,
        target: Target,
    ) -> Result<Vec<Change>, Full> {
        let before = self.best(prefix);
        let mut changes = Vec::new();
        // Before anything else, as this is what can fail.
        self.take(target, &mut changes)?;
        let was = self.prefixes.entry(prefix).or_default().insert(origin, target);
        self.follow(prefix, before, &mut changes);
        if let Some(was) = was {
            self.give_back(was, &mut changes);
        }
        Ok(changes)
    }

    /// `origin` says nothing about `prefix` any more.
    pub fn withdraw(&mut self, prefix: IpNet, origin: Origin) -> Vec<Change> {
        let before = self.best(prefix);
        let mut changes = Vec::new();
        let Some(says) = self.prefixes.get_mut(&prefix) else { return changes };
        let Some(was) = says.remove(&origin) else { return changes };
        if says.is_empty() {
            self.prefixes.remove(&prefix);
        }
        self.follow(prefix, before, &mut changes);
        self.give_back(was, &mut changes);
        changes
    }

    /// A neighbour's MAC address is known, or no longer.
    pub fn neighbour(
        &mut self,
        port: PortIndex,
        address: IpAddr,
        mac: Option<[u8; 6]>,
    ) -> Result<Vec<Change>, Full> {
        match mac {
            Some(mac) => self.neighbours.insert((port, address), mac),
            None => self.neighbours.remove(&(port, address)),
        };
        let target = Target::Via(port, address);
        let mut changes = Vec::new();
        if let Some((id, _)) = self.hops.get(&target) {
            changes.push(Change::Hop(*id, self.meaning(target)));
        }
        // Where its link is, a link-local address does not say: it is no destination to route to.
        if !is_link_local(address) {
            let prefix = IpNet::from(address);
            changes.extend(match mac {
                Some(_) => self.announce(prefix, Origin::Neighbour, target)?,
                None => self.withdraw(prefix, Origin::Neighbour),
            });
        }
        Ok(changes)
    }

    /// The neighbour that a hop sends to, with its port.
    pub fn neighbour_of(&self, id: HopId) -> Option<(PortIndex, IpAddr)> {
        match self.targets.get(&id) {
            Some(Target::Via(port, address)) => Some((*port, *address)),
            _ => None,
        }
    }

    /// The highest id that was given out.
    pub fn given(&self) -> u32 {
        self.given
    }

    /// The origins that say something about a prefix.
    pub fn origins(&self, prefix: IpNet) -> impl Iterator<Item = Origin> {
        self.prefixes.get(&prefix).into_iter().flat_map(|says| says.keys().copied())
    }

    /// The box's own addresses.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        let own = |(prefix, says): (&IpNet, &BTreeMap<Origin, Target>)| {
            says.contains_key(&Origin::Own).then(|| prefix.addr())
        };
        self.prefixes.iter().filter_map(own)
    }

    fn best(&self, prefix: IpNet) -> Option<Target> {
        self.prefixes.get(&prefix)?.values().next().copied()
    }

    fn follow(&self, prefix: IpNet, before: Option<Target>, changes: &mut Vec<Change>) {
        let now = self.best(prefix);
        if now == before {
            return;
        }
        changes.push(match now.and_then(|target| self.hops.get(&target)) {
            Some((id, _)) => Change::Route(prefix, *id),
            None => Change::NoRoute(prefix),
        });
    }

    /// One more use of a target's hop.
    fn take(&mut self, target: Target, changes: &mut Vec<Change>) -> Result<(), Full> {
        if let Some((_, users)) = self.hops.get_mut(&target) {
            *users += 1;
            return Ok(());
        }
        let id = if self.given + 1 < HOPS_MAX {
            self.given += 1;
            HopId(self.given)
        } else {
            self.free.pop_front().ok_or(Full)?
        };
        self.hops.insert(target, (id, 1));
        self.targets.insert(id, target);
        changes.push(Change::Hop(id, self.meaning(target)));
        Ok(())
    }

    /// One use less; the last one frees the hop.
    fn give_back(&mut self, target: Target, changes: &mut Vec<Change>) {
        let Some((id, users)) = self.hops.get_mut(&target) else { return };
        *users -= 1;
        if *users == 0 {
            let id = *id;
            changes.push(Change::Hop(id, Hop::None));
            self.hops.remove(&target);
            self.targets.remove(&id);
            self.free.push_back(id);
        }
    }

    fn meaning(&self, target: Target) -> Hop {
        match target {
            Target::Link(port) => Hop::Unresolved { port },
            Target::Via(port, address) => match self.neighbours.get(&(port, address)) {
                Some(mac) => Hop::Neighbour { port, mac: *mac },
                None => Hop::Unresolved { port },
            },
            Target::Local => Hop::Local,
            Target::Blackhole => Hop::Blackhole,
            Target::Unreachable => Hop::Unreachable,
            Target::Prohibited => Hop::Prohibited,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: PortIndex = PortIndex(0);
    const WAN: PortIndex = PortIndex(1);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A table in which changes are carried out.
    #[derive(Default)]
    struct Done {
        book: Book,
        hops: HashMap<HopId, Hop>,
        routes: HashMap<IpNet, HopId>,
    }

    impl Done {
        fn apply(&mut self, changes: Vec<Change>) {
            for change in changes {
                match change {
                    Change::Hop(id, hop) => drop(self.hops.insert(id, hop)),
                    Change::Route(prefix, id) => drop(self.routes.insert(prefix, id)),
                    Change::NoRoute(prefix) => drop(self.routes.remove(&prefix)),
                }
            }
        }

        fn announce(&mut self, prefix: &str, origin: Origin, target: Target) {
            let changes = self.book.announce(net(prefix), origin, target).unwrap();
            self.apply(changes);
        }

        fn withdraw(&mut self, prefix: &str, origin: Origin) {
            let changes = self.book.withdraw(net(prefix), origin);
            self.apply(changes);
        }

        fn neighbour(&mut self, port: PortIndex, address: &str, mac: Option<[u8; 6]>) {
            let changes = self.book.neighbour(port, ip(address), mac).unwrap();
            self.apply(changes);
        }

        fn hop(&self, prefix: &str) -> Option<Hop> {
            self.hops.get(self.routes.get(&net(prefix))?).copied()
        }
    }

    #[test]
    fn a_neighbour_that_answers_turns_the_routes_through_it_on() {
        let mut t = Done::default();
        t.announce("0.0.0.0/0", Origin::File, Target::Via(WAN, ip("192.0.2.1")));
        assert_eq!(t.hop("0.0.0.0/0"), Some(Hop::Unresolved { port: WAN }));
        t.neighbour(WAN, "192.0.2.1", Some(MAC));
        assert_eq!(t.hop("0.0.0.0/0"), Some(Hop::Neighbour { port: WAN, mac: MAC }));
        assert_eq!(t.hop("192.0.2.1/32"), Some(Hop::Neighbour { port: WAN, mac: MAC }));
        t.neighbour(WAN, "192.0.2.1", None);
        assert_eq!(t.hop("0.0.0.0/0"), Some(Hop::Unresolved { port: WAN }));
        assert_eq!(t.hop("192.0.2.1/32"), None);
    }

    #[test]
    fn a_neighbour_known_before_its_route_is_used_at_once() {
        let mut t = Done::default();
        t.neighbour(LAN, "fe80::1", Some(MAC));
        assert_eq!(t.hop("fe80::1/128"), None, "link-local addresses are not routed to");
        t.announce("::/0", Origin::Kernel { metric: 1024 }, Target::Via(LAN, ip("fe80::1")));
        assert_eq!(t.hop("::/0"), Some(Hop::Neighbour { port: LAN, mac: MAC }));
    }

    #[test]
    fn the_file_counts_before_the_kernel_and_a_low_metric_before_a_high_one() {
        let mut t = Done::default();
        let via = |last: u8| Target::Via(WAN, IpAddr::from([192, 0, 2, last]));
        t.announce("10.0.0.0/8", Origin::Kernel { metric: 100 }, Target::Blackhole);
        t.announce("10.0.0.0/8", Origin::Kernel { metric: 20 }, Target::Prohibited);
        assert_eq!(t.hop("10.0.0.0/8"), Some(Hop::Prohibited));
        t.announce("10.0.0.0/8", Origin::File, via(7));
        assert_eq!(t.hop("10.0.0.0/8"), Some(Hop::Unresolved { port: WAN }));
        t.withdraw("10.0.0.0/8", Origin::File);
        t.withdraw("10.0.0.0/8", Origin::Kernel { metric: 20 });
        assert_eq!(t.hop("10.0.0.0/8"), Some(Hop::Blackhole));
        t.withdraw("10.0.0.0/8", Origin::Kernel { metric: 100 });
        assert_eq!(t.hop("10.0.0.0/8"), None);
    }

    #[test]
    fn hops_are_given_back_and_those_of_long_ago_are_used_again_first() {
        let mut book = Book::default();
        let prefix = |i: u32| IpNet::from(IpAddr::from(i.to_be_bytes()));
        let via = |i: u32| Target::Via(LAN, IpAddr::from(i.to_be_bytes()));
        for i in 1..HOPS_MAX {
            book.announce(prefix(i), Origin::File, via(i)).unwrap();
        }
        assert_eq!(book.announce(prefix(0), Origin::File, via(0)), Err(Full));
        assert_eq!(book.origins(prefix(0)).count(), 0, "what found no room left no trace");
        book.withdraw(prefix(5), Origin::File);
        book.withdraw(prefix(4), Origin::File);
        let changes = book.announce(prefix(0), Origin::File, via(0)).unwrap();
        assert_eq!(changes.last(), Some(&Change::Route(prefix(0), HopId(5))));
    }

    #[test]
    fn an_own_address_goes_before_a_neighbour_of_the_same() {
        let mut t = Done::default();
        t.neighbour(LAN, "10.0.0.1", Some(MAC));
        t.announce("10.0.0.1/32", Origin::Own, Target::Local);
        assert_eq!(t.hop("10.0.0.1/32"), Some(Hop::Local));
        assert_eq!(t.book.own().collect::<Vec<_>>(), [ip("10.0.0.1")]);
        t.withdraw("10.0.0.1/32", Origin::Own);
        assert_eq!(t.hop("10.0.0.1/32"), Some(Hop::Neighbour { port: LAN, mac: MAC }));
    }
}
