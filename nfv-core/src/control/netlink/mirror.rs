//! The kernel's tables as last told to the sink: turns what the kernel says into exactly what changed.
//!
//! The kernel does not say everything: it flushes IPv4 routes in silence when an address or a link goes, and drops
//! messages when a socket is full. So the tables are dumped again on such occasions, and a dump is compared with this
//! mirror: entries that it does not list have gone. The sink sees differences only, whatever the kernel repeats.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::fact::{Change, Fact, State};
use super::{Action, KernelEvent, RouteKey};

/// A table that is dumped by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Links,
    Addresses,
    Routes4,
    Routes6,
    Neighbours,
}

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Notification,
    Dump,
}

/// Whether a fact says all there is, or the tables must be read to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    All,
    /// Something went that takes routes with it in silence, or the message is ambiguous.
    AskAgain,
}

/// What the sink knows.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Of the dump that runs or ran last; an entry's is that of the last time the kernel named it.
    generation: u64,
    links: BTreeMap<u32, Seen<bool>>,
    addresses: BTreeMap<(u32, IpNet), Seen<()>>,
    routes: BTreeMap<RouteKey, Seen<Route>>,
    neighbours: BTreeMap<(u32, IpAddr), Seen<Neighbour>>,
}

#[derive(Debug)]
struct Seen<T> {
    generation: u64,
    value: T,
}

#[derive(Debug)]
struct Route {
    action: Action,
    /// The kernel has others of this key behind it, which its deletion would bring forward.
    crowded: bool,
}

#[derive(Debug)]
struct Neighbour {
    mac: [u8; 6],
    stale: bool,
    used: Option<Instant>,
    asked: Option<Instant>,
}

impl Mirror {
    /// A dump begins: entries that it does not name will have gone at its [`end`](Self::end).
    pub(super) fn begin(&mut self) {
        self.generation += 1;
    }

    /// Takes in a fact and gives `out` what changed by it.
    pub(super) fn apply(
        &mut self,
        fact: Fact,
        source: Source,
        out: &mut impl FnMut(KernelEvent),
    ) -> Told {
        let generation = self.generation;
        match fact {
            Fact::Link { interface, up } => {
                let before = self.links.insert(interface, Seen { generation, value: up });
                if before.is_some_and(|seen| seen.value == up) {
                    return Told::All;
                }
                out(KernelEvent::Link { interface, up });
                // Both ways: routes by a link that goes are flushed in silence, hops of one that comes are revived so.
                // A dump lists links before routes, so it has both.
                if source == Source::Notification { Told::AskAgain } else { Told::All }
            }
            Fact::Address { interface, address, there: true } => {
                let seen = Seen { generation, value: () };
                if self.addresses.insert((interface, address), seen).is_none() {
                    out(KernelEvent::Address { interface, address });
                }
                Told::All
            }
            Fact::Address { interface, address, there: false } => {
                if self.addresses.remove(&(interface, address)).is_some() {
                    out(KernelEvent::AddressGone { interface, address });
                }
                // Routes that prefer it as their source go in silence.
                Told::AskAgain
            }
            Fact::Neighbour { interface, address, state } => {
                self.neighbour(interface, address, state, out);
                Told::All
            }
            Fact::Route { key, change } => self.route(key, change, source, out),
        }
    }

    /// The dump of `table` is complete: what it did not name has gone.
    pub(super) fn end(&mut self, table: Table, out: &mut impl FnMut(KernelEvent)) {
        let generation = self.generation;
        match table {
            Table::Links => sweep(
                &mut self.links,
                generation,
                |_| true,
                |&interface, seen| {
                    if seen.value {
                        out(KernelEvent::Link { interface, up: false });
                    }
                },
            ),
            Table::Addresses => {
                sweep(
                    &mut self.addresses,
                    generation,
                    |_| true,
                    |&(interface, address), _| {
                        out(KernelEvent::AddressGone { interface, address });
                    },
                );
            }
            Table::Routes4 | Table::Routes6 => {
                let v4 = table == Table::Routes4;
                let of_table = |key: &RouteKey| key.prefix.addr().is_ipv4() == v4;
                sweep(&mut self.routes, generation, of_table, |&key, _| {
                    out(KernelEvent::RouteGone { key });
                });
            }
            Table::Neighbours => {
                sweep(
                    &mut self.neighbours,
                    generation,
                    |_| true,
                    |&(interface, address), _| {
                        out(KernelEvent::NeighbourGone { interface, address });
                    },
                );
            }
        }
    }

    /// Notes that the dataplane sends to a neighbour.
    pub(super) fn note_use(&mut self, interface: u32, address: IpAddr, now: Instant) {
        if let Some(seen) = self.neighbours.get_mut(&(interface, address)) {
            seen.value.used = Some(now);
        }
    }

    /// Whether to ask the kernel now to see if a neighbour is still there: it went stale while the dataplane uses it.
    ///
    /// The kernel does not see the dataplane's packets, so by itself it would never ask. A yes is remembered, and the
    /// next comes [`PROBE_PAUSE`] later at the earliest, by when the kernel has finished.
    pub(super) fn wants_probe(&mut self, interface: u32, address: IpAddr, now: Instant) -> bool {
        let Some(seen) = self.neighbours.get_mut(&(interface, address)) else { return false };
        let neighbour = &mut seen.value;
        let within = |then: Option<Instant>, span| {
            then.is_some_and(|then| now.saturating_duration_since(then) < span)
        };
        let wanted = neighbour.stale
            && within(neighbour.used, IN_USE)
            && !within(neighbour.asked, PROBE_PAUSE);
        if wanted {
            neighbour.asked = Some(now);
        }
        wanted
    }

    fn neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        state: State,
        out: &mut impl FnMut(KernelEvent),
    ) {
        let generation = self.generation;
        match (self.neighbours.entry((interface, address)), state) {
            (Entry::Vacant(slot), State::Usable { mac, stale }) => {
                let value = Neighbour { mac, stale, used: None, asked: None };
                slot.insert(Seen { generation, value });
                out(KernelEvent::Neighbour { interface, address, mac });
            }
            (Entry::Occupied(mut slot), State::Usable { mac, stale }) => {
                let seen = slot.get_mut();
                seen.generation = generation;
                seen.value.stale = stale;
                if seen.value.mac != mac {
                    seen.value.mac = mac;
                    out(KernelEvent::Neighbour { interface, address, mac });
                }
            }
            (Entry::Occupied(slot), State::Unusable) => {
                slot.remove();
                out(KernelEvent::NeighbourGone { interface, address });
            }
            // Never usable, and now known not to be there: the sink may be waiting for it with packets.
            (Entry::Vacant(_), State::Unusable) => {
                out(KernelEvent::NeighbourGone { interface, address });
            }
            (Entry::Occupied(slot), State::Unknown) => {
                slot.remove();
                out(KernelEvent::NeighbourGone { interface, address });
            }
            (Entry::Vacant(_), State::Unknown) => {}
        }
    }

    fn route(
        &mut self,
        key: RouteKey,
        change: Change,
        source: Source,
        out: &mut impl FnMut(KernelEvent),
    ) -> Told {
        let generation = self.generation;
        let known = self.routes.get_mut(&key);
        match (known, change) {
            (None, Change::Is(action) | Change::Added(action)) => {
                if !action.leads_nowhere_of_ours() {
                    let value = Route { action: action.clone(), crowded: false };
                    self.routes.insert(key, Seen { generation, value });
                    out(KernelEvent::Route { key, action });
                }
                Told::All
            }
            (Some(seen), Change::Is(action) | Change::Added(action))
                if seen.value.action == action =>
            {
                seen.generation = generation;
                Told::All
            }
            (Some(seen), Change::Added(_))
                if source == Source::Dump && seen.generation == generation =>
            {
                // The kernel lists routes of one key in the order in which it uses them.
                seen.value.crowded = true;
                Told::All
            }
            (Some(_), Change::Added(_)) if source == Source::Notification => Told::AskAgain,
            (Some(seen), Change::Is(action) | Change::Added(action)) => {
                if action.leads_nowhere_of_ours() {
                    self.routes.remove(&key);
                    out(KernelEvent::RouteGone { key });
                } else {
                    seen.generation = generation;
                    seen.value = Route { action: action.clone(), crowded: false };
                    out(KernelEvent::Route { key, action });
                }
                Told::All
            }
            (None, Change::Gone(_)) => Told::All,
            (Some(seen), Change::Gone(_)) if seen.value.crowded => Told::AskAgain,
            (Some(seen), Change::Gone(action)) => {
                if seen.value.action == action {
                    self.routes.remove(&key);
                    out(KernelEvent::RouteGone { key });
                    return Told::All;
                }
                // Some hops of an IPv6 route went; the kernel does not tell what is left. IPv4 deletes routes whole.
                let v6 = key.prefix.addr().is_ipv6();
                let left = without(&seen.value.action, &action).filter(|_| v6);
                let Some(left) = left else {
                    return Told::AskAgain;
                };
                seen.value.action = left.clone();
                out(KernelEvent::Route { key, action: left });
                Told::All
            }
        }
    }
}

/// `action` less the hops of `gone`; `None` when that does not add up.
fn without(action: &Action, gone: &Action) -> Option<Action> {
    let (Action::Forward(hops), Action::Forward(gone)) = (action, gone) else { return None };
    // A single hop deleted from an IPv6 route is told without its weight.
    let is_gone =
        |hop: &super::Hop| gone.iter().any(|g| (g.via, g.interface) == (hop.via, hop.interface));
    let left: Vec<_> = hops.iter().filter(|hop| !is_gone(hop)).copied().collect();
    let adds_up = !left.is_empty() && !gone.is_empty() && left.len() + gone.len() == hops.len();
    adds_up.then_some(Action::Forward(left))
}

fn sweep<K: Ord + Copy, V>(
    entries: &mut BTreeMap<K, Seen<V>>,
    generation: u64,
    of_table: impl Fn(&K) -> bool,
    mut gone: impl FnMut(&K, &Seen<V>),
) {
    entries.retain(|key, seen| {
        let stays = seen.generation == generation || !of_table(key);
        if !stays {
            gone(key, &*seen);
        }
        stays
    });
}

/// How long after a packet to it a neighbour counts as in use; as long as the kernel takes one for reachable.
const IN_USE: Duration = Duration::from_secs(30);
/// The kernel's own course from stale to a verdict: 5 s of delay, then three probes a second apart, and some.
const PROBE_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::Hop;
    use super::*;

    const LAN: u32 = 5;

    fn key(prefix: &str) -> RouteKey {
        RouteKey { prefix: prefix.parse().expect("a prefix"), metric: 0 }
    }

    fn forward(vias: &[&str]) -> Action {
        let hop = |via: &&str| Hop {
            via: Some(via.parse().expect("an address")),
            interface: LAN,
            weight: 1,
        };
        Action::Forward(vias.iter().map(hop).collect())
    }

    fn route(prefix: &str, change: Change) -> Fact {
        Fact::Route { key: key(prefix), change }
    }

    fn neighbour(state: State) -> Fact {
        Fact::Neighbour { interface: LAN, address: address(), state }
    }

    fn address() -> IpAddr {
        IpAddr::from([10, 0, 0, 2])
    }

    fn usable(stale: bool) -> State {
        State::Usable { mac: [2, 0, 0, 0, 0, 1], stale }
    }

    /// Applies facts as notifications; what the sink hears, and what the last one said about itself.
    fn hear(mirror: &mut Mirror, facts: Vec<Fact>) -> (Vec<KernelEvent>, Told) {
        let (mut heard, mut told) = (Vec::new(), Told::All);
        for fact in facts {
            told = mirror.apply(fact, Source::Notification, &mut |e| heard.push(e));
        }
        (heard, told)
    }

    fn dump(mirror: &mut Mirror, table: Table, facts: Vec<Fact>) -> Vec<KernelEvent> {
        let mut heard = Vec::new();
        mirror.begin();
        for fact in facts {
            mirror.apply(fact, Source::Dump, &mut |e| heard.push(e));
        }
        mirror.end(table, &mut |e| heard.push(e));
        heard
    }

    #[test]
    fn what_the_kernel_repeats_is_told_once() {
        let mut mirror = Mirror::default();
        let added = route("10.1.0.0/16", Change::Added(forward(&["10.0.0.1"])));
        let (heard, told) = hear(&mut mirror, vec![added.clone(), added]);
        assert_eq!((heard.len(), told), (1, Told::All));
    }

    #[test]
    fn what_a_dump_no_longer_lists_has_gone() {
        let mut mirror = Mirror::default();
        hear(&mut mirror, vec![route("10.1.0.0/16", Change::Added(forward(&["10.0.0.1"])))]);
        let heard = dump(&mut mirror, Table::Routes4, vec![]);
        assert_eq!(heard, [KernelEvent::RouteGone { key: key("10.1.0.0/16") }]);
    }

    #[test]
    fn a_dump_of_one_family_leaves_the_other_alone() {
        let mut mirror = Mirror::default();
        hear(&mut mirror, vec![route("fd00::/64", Change::Added(forward(&["fe80::1"])))]);
        assert_eq!(dump(&mut mirror, Table::Routes4, vec![]), []);
    }

    #[test]
    fn a_hop_that_leaves_an_ipv6_route_leaves_the_others() {
        let mut mirror = Mirror::default();
        let both = forward(&["fe80::1", "fe80::2"]);
        hear(&mut mirror, vec![route("fd00::/64", Change::Is(both))]);
        let gone = route("fd00::/64", Change::Gone(forward(&["fe80::1"])));
        let (heard, _) = hear(&mut mirror, vec![gone]);
        let action = forward(&["fe80::2"]);
        assert_eq!(heard, [KernelEvent::Route { key: key("fd00::/64"), action }]);
    }

    #[test]
    fn a_route_with_another_behind_it_is_asked_for_again_when_it_goes() {
        let mut mirror = Mirror::default();
        let (first, second) = (forward(&["10.0.0.1"]), forward(&["10.0.0.2"]));
        let listed = vec![
            route("10.1.0.0/16", Change::Added(first.clone())),
            route("10.1.0.0/16", Change::Added(second.clone())),
        ];
        let heard = dump(&mut mirror, Table::Routes4, listed);
        assert_eq!(heard.len(), 1, "the first of a key is the one in use");
        let (_, told) = hear(&mut mirror, vec![route("10.1.0.0/16", Change::Gone(first))]);
        assert_eq!(told, Told::AskAgain);
        let listed = vec![route("10.1.0.0/16", Change::Added(second.clone()))];
        let heard = dump(&mut mirror, Table::Routes4, listed);
        assert_eq!(heard, [KernelEvent::Route { key: key("10.1.0.0/16"), action: second }]);
    }

    #[test]
    fn a_route_replaced_by_one_of_another_interface_has_gone() {
        let mut mirror = Mirror::default();
        hear(&mut mirror, vec![route("10.1.0.0/16", Change::Added(forward(&["10.0.0.1"])))]);
        let (heard, _) = hear(&mut mirror, vec![route("10.1.0.0/16", Change::Is(forward(&[])))]);
        assert_eq!(heard, [KernelEvent::RouteGone { key: key("10.1.0.0/16") }]);
    }

    #[test]
    fn an_address_that_goes_asks_for_the_routes_again() {
        let mut mirror = Mirror::default();
        let address: IpNet = "10.0.0.1/24".parse().expect("an address");
        let fact = |there| Fact::Address { interface: LAN, address, there };
        let (heard, told) = hear(&mut mirror, vec![fact(true), fact(false)]);
        assert_eq!((heard.len(), told), (2, Told::AskAgain));
    }

    #[test]
    fn a_neighbour_that_only_grows_stale_is_not_told_again() {
        let mut mirror = Mirror::default();
        let (heard, _) = hear(&mut mirror, vec![neighbour(usable(false)), neighbour(usable(true))]);
        assert_eq!(heard.len(), 1);
    }

    #[test]
    fn a_stale_neighbour_is_probed_only_while_it_is_used_and_not_in_a_row() {
        let mut mirror = Mirror::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        hear(&mut mirror, vec![neighbour(usable(true))]);
        assert!(!mirror.wants_probe(LAN, address(), at(0)), "never used");
        mirror.note_use(LAN, address(), at(0));
        assert!(mirror.wants_probe(LAN, address(), at(1)));
        assert!(!mirror.wants_probe(LAN, address(), at(2)), "asked a second ago");
        assert!(mirror.wants_probe(LAN, address(), at(12)));
        assert!(!mirror.wants_probe(LAN, address(), at(40)), "last used 40 s ago");
    }

    #[test]
    fn a_reachable_neighbour_is_not_probed() {
        let mut mirror = Mirror::default();
        let now = Instant::now();
        hear(&mut mirror, vec![neighbour(usable(false))]);
        mirror.note_use(LAN, address(), now);
        assert!(!mirror.wants_probe(LAN, address(), now));
    }
}
