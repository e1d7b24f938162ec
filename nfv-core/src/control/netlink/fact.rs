//! What one message of the kernel says about the watched interfaces, in the dataplane's terms.
//!
//! Everything that does not concern them, or that the dataplane could not carry out (a route by source or by type of
//! service, one that pushes a label), ends here.
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Action, Hop, RouteKey};

/// A fact about a watched interface, or about a route that may leave by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Link { interface: u32, up: bool },
    Address { interface: u32, address: IpNet, there: bool },
    Neighbour { interface: u32, address: IpAddr, state: State },
    Route { key: RouteKey, change: Change },
}

/// What became of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Usable {
        mac: [u8; 6],
        stale: bool,
    },
    /// Deleted, or resolution failed.
    Unusable,
    /// Being asked for; usable or not is not known yet.
    Unknown,
}

/// What became of a route. Hops are those by watched interfaces; there may be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This is now the route of its key.
    Is(Action),
    /// Added beside what else its key may have; which of them the kernel uses, its table says.
    Added(Action),
    /// Deleted: for IPv6 the hops named, which may be some of several.
    Gone(Action),
}

/// Reads `body`, `flags` being those of its netlink header.
pub(super) fn read(
    body: &RouteNetlinkMessage,
    flags: u16,
    watched: &BTreeSet<u32>,
) -> Option<Fact> {
    match body {
        RouteNetlinkMessage::NewLink(m) => link(m, watched, true),
        RouteNetlinkMessage::DelLink(m) => link(m, watched, false),
        RouteNetlinkMessage::NewAddress(m) => address(m, watched, true),
        RouteNetlinkMessage::DelAddress(m) => address(m, watched, false),
        RouteNetlinkMessage::NewNeighbour(m) => neighbour(m, watched, true),
        RouteNetlinkMessage::DelNeighbour(m) => neighbour(m, watched, false),
        RouteNetlinkMessage::NewRoute(m) => {
            let (key, action) = route(m, watched, Dead::LeftOut)?;
            // An IPv6 route that grew by a hop is told with all of them.
            let grew = flags & NLM_F_APPEND != 0
                && key.prefix.addr().is_ipv6()
                && matches!(&action, Action::Forward(hops) if hops.len() > 1);
            let certain = grew || flags & NLM_F_REPLACE != 0;
            let change = if certain { Change::Is(action) } else { Change::Added(action) };
            Some(Fact::Route { key, change })
        }
        RouteNetlinkMessage::DelRoute(m) => {
            let (key, action) = route(m, watched, Dead::Named)?;
            Some(Fact::Route { key, change: Change::Gone(action) })
        }
        _ => None,
    }
}

fn link(message: &LinkMessage, watched: &BTreeSet<u32>, there: bool) -> Option<Fact> {
    let LinkMessage { header, .. } = message;
    // Bridges announce their ports as links of another family; `index` 0 never occurs.
    let ours = header.interface_family == AddressFamily::Unspec && watched.contains(&header.index);
    let up = there && header.flags.contains(LinkFlags::Up | LinkFlags::Running);
    ours.then_some(Fact::Link { interface: header.index, up })
}

fn address(message: &AddressMessage, watched: &BTreeSet<u32>, there: bool) -> Option<Fact> {
    let interface = message.header.index;
    if !watched.contains(&interface) {
        return None;
    }
    let (mut own, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point address these differ, and LOCAL is ours. IPv6 names only ADDRESS unless there is a peer.
            AddressAttribute::Local(a) => own = Some(*a),
            AddressAttribute::Address(a) => peer = Some(*a),
            _ => {}
        }
    }
    let address = IpNet::new(own.or(peer)?, message.header.prefix_len).ok()?;
    Some(Fact::Address { interface, address, there })
}

fn neighbour(message: &NeighbourMessage, watched: &BTreeSet<u32>, there: bool) -> Option<Fact> {
    let NeighbourMessage { header, attributes, .. } = message;
    if !watched.contains(&header.ifindex) || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    })?;
    // The MAC of a group follows from its address (RFC 1112, RFC 2464); the kernel's copy of it comes and goes.
    if address.is_multicast() {
        return None;
    }
    let mac = attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    let stale = header.state == NeighbourState::Stale;
    let state = match (header.state, mac) {
        _ if !there => State::Unusable,
        (
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp,
            Some(mac),
        ) => State::Usable { mac, stale },
        (NeighbourState::Incomplete | NeighbourState::None, _) => State::Unknown,
        _ => State::Unusable,
    };
    Some(Fact::Neighbour { interface: header.ifindex, address, state })
}

/// Whether hops whose interface is down count: a route that is there does not use them, one that goes names them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dead {
    LeftOut,
    Named,
}

fn route(
    message: &RouteMessage,
    watched: &BTreeSet<u32>,
    dead: Dead,
) -> Option<(RouteKey, Action)> {
    let RouteMessage { header, attributes, .. } = message;
    // A cloned route is IPv6's cache of a path; the route it came from is told too.
    let whole = header.tos == 0
        && header.source_prefix_length == 0
        && !header.flags.contains(RouteFlags::Cloned);
    let table = attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    if !whole || table.unwrap_or(header.table.into()) != MAIN {
        return None;
    }
    let metric = attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let prefix = prefix(header, attributes)?;
    if is_link_local(prefix) {
        return None;
    }
    let key = RouteKey { prefix, metric: metric.unwrap_or(0) };
    let action = match header.kind {
        RouteType::Unicast => Action::Forward(hops(header, attributes, watched, dead)),
        RouteType::BlackHole => Action::Blackhole,
        RouteType::Unreachable => Action::Unreachable,
        RouteType::Prohibit => Action::Prohibit,
        _ => return None,
    };
    Some((key, action))
}

/// Link-local packets are never forwarded (RFC 4291 section 2.5.6), and each interface has its own route of that prefix.
fn is_link_local(prefix: IpNet) -> bool {
    matches!(prefix, IpNet::V6(net) if net.addr().is_unicast_link_local() && net.prefix_len() >= 10)
}

fn prefix(header: &RouteHeader, attributes: &[RouteAttribute]) -> Option<IpNet> {
    let named = attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    });
    let address = match header.address_family {
        AddressFamily::Inet => named.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => named.unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
        _ => return None,
    };
    IpNet::new(address, header.destination_prefix_length).ok().map(|net| net.trunc())
}

/// The hops that leave by watched interfaces and that the dataplane could use.
fn hops(
    header: &RouteHeader,
    attributes: &[RouteAttribute],
    watched: &BTreeSet<u32>,
    dead: Dead,
) -> Vec<Hop> {
    let many = attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops.as_slice()),
        _ => None,
    });
    let mut hops: Vec<Hop> = match many {
        Some(many) => many.iter().filter_map(|hop| multipath_hop(hop, dead)).collect(),
        None => single_hop(header, attributes, dead).into_iter().collect(),
    };
    hops.retain(|hop| watched.contains(&hop.interface));
    hops
}

fn single_hop(header: &RouteHeader, attributes: &[RouteAttribute], dead: Dead) -> Option<Hop> {
    let alive = dead == Dead::Named || !header.flags.contains(RouteFlags::Dead);
    let out = attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(interface) => Some(*interface),
        _ => None,
    });
    out.filter(|_| alive && !encapsulated(attributes)).map(|interface| Hop {
        via: via(attributes),
        interface,
        weight: 1,
    })
}

fn multipath_hop(hop: &RouteNextHop, dead: Dead) -> Option<Hop> {
    let alive = dead == Dead::Named || !hop.flags.contains(RouteNextHopFlags::Dead);
    (alive && !encapsulated(&hop.attributes)).then(|| Hop {
        via: via(&hop.attributes),
        interface: hop.interface_index,
        // `rtnh_hops` is the weight less one.
        weight: u16::from(hop.hops) + 1,
    })
}

/// Whether a hop wants a label or a tunnel header pushed; sent without one it would go astray.
fn encapsulated(attributes: &[RouteAttribute]) -> bool {
    attributes.iter().any(|a| matches!(a, RouteAttribute::Encap(_) | RouteAttribute::EncapType(_)))
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        RouteAttribute::Gateway(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        // An IPv4 route by an IPv6 next hop (RFC 8950), as routing daemons on unnumbered links install.
        RouteAttribute::Via(RouteVia::Inet(a)) => Some(IpAddr::V4(*a)),
        RouteAttribute::Via(RouteVia::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    })
}

/// `RT_TABLE_MAIN`, where `ip route` and routing daemons put routes unless told otherwise.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

#[cfg(test)]
mod tests {
    use super::*;

    fn unicast(attributes: Vec<RouteAttribute>) -> RouteNetlinkMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(Ipv4Addr::new(10, 9, 8, 0))));
        RouteNetlinkMessage::NewRoute(message)
    }

    fn read_new(message: &RouteNetlinkMessage) -> Option<Change> {
        match read(message, 0, &BTreeSet::from([5, 6])) {
            Some(Fact::Route { change, .. }) => Some(change),
            _ => None,
        }
    }

    fn hop(interface: u32) -> Hop {
        Hop { via: None, interface, weight: 1 }
    }

    #[test]
    fn a_route_of_the_main_table_is_told() {
        let message = unicast(vec![RouteAttribute::Oif(5)]);
        assert_eq!(read_new(&message), Some(Change::Added(Action::Forward(vec![hop(5)]))));
    }

    #[test]
    fn a_route_of_another_table_is_not_told() {
        let message = unicast(vec![RouteAttribute::Oif(5), RouteAttribute::Table(100)]);
        assert_eq!(read_new(&message), None);
    }

    #[test]
    fn hops_by_other_interfaces_are_left_out() {
        let message = unicast(vec![RouteAttribute::Oif(7)]);
        assert_eq!(read_new(&message), Some(Change::Added(Action::Forward(vec![]))));
    }

    #[test]
    fn a_multipath_route_gives_its_live_hops_with_their_weights() {
        let mut first = RouteNextHop::default();
        first.interface_index = 5;
        first.hops = 9;
        let mut dead = RouteNextHop::default();
        dead.interface_index = 6;
        dead.flags = RouteNextHopFlags::Dead;
        let message = unicast(vec![RouteAttribute::MultiPath(vec![first, dead])]);
        let hops = vec![Hop { weight: 10, ..hop(5) }];
        assert_eq!(read_new(&message), Some(Change::Added(Action::Forward(hops))));
    }

    #[test]
    fn an_ipv4_route_by_an_ipv6_next_hop_keeps_it() {
        let next: Ipv6Addr = "fe80::1".parse().expect("an address");
        let message =
            unicast(vec![RouteAttribute::Oif(5), RouteAttribute::Via(RouteVia::Inet6(next))]);
        let hops = vec![Hop { via: Some(next.into()), ..hop(5) }];
        assert_eq!(read_new(&message), Some(Change::Added(Action::Forward(hops))));
    }

    #[test]
    fn a_prefix_longer_than_its_family_is_not_told() {
        let RouteNetlinkMessage::NewRoute(mut message) = unicast(vec![RouteAttribute::Oif(5)])
        else {
            return;
        };
        message.header.destination_prefix_length = 33;
        assert_eq!(read_new(&RouteNetlinkMessage::NewRoute(message)), None);
    }
}
