//! `route`: sends each packet to the next hop of the longest prefix that its destination is in.
//!
//! ```text
//!     in ---->[ route ]----> the port of the next hop      kind: flow NF
//!
//! Keys   routes       none  a list of `{to: 10.0.0.0/8, via: 192.0.2.1, port: wan}`; `via` may be left out for what is on
//!                           the port's link, `port` where the network of one of its addresses has `via`
//! Drops  no_route           no prefix has the destination; the sender is told (ICMP)
//!        blackhole          its route drops it without a word
//!        unreachable        its route says that it cannot be reached; the sender is told
//!        prohibited         its route forbids it; the sender is told
//!        for_the_box        for an address of the box itself, on a port that is not routed
//!        martian            from or to an address that no router sends on (RFC 1812, RFC 6890), multicast among them
//!        not_ip             neither IPv4 nor IPv6
//! Cost   10 to 15 ns a packet, however many routes there are (rte_fib, a burst at a time)
//! ```
//!
//! The box has one forwarding table. It holds the routes of all functions of this type, the networks and neighbours of
//! the ports' section, and, where a routed port has a twin, the kernel's main table and neighbours: `ip route` and a
//! routing daemon work on it. A route of the chain file counts before one of the kernel's of the same prefix. Of a route
//! with several next hops the first one is used.
//!
//! To each packet the engine then does what routers do, and counts what it drops under `forward`: `ttl_expired` (the
//! sender is told, so that traceroute shows the box), `bad_checksum`, `too_big` (the sender is told the MTU; nothing is
//! fragmented), `neighbour_unresolved` (the kernel is asked; the next packet finds the answer), `other_port` (a chain with
//! `to` lets packets leave by that port only). Answers are at most 1,000 a second and worker.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::chain::key::{Key, Names, Need, Shape, Table};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::Prefix;
use nfv_core::flow::{Hop, HopId, Origin, RouteTable, Target};
use nfv_core::nf::{
    Answer, Built, Decision, FlowNf, FlowView, Forward, Kind, Lookup, Named, PortIndex, Profile,
    Reason, Shard, Surroundings,
};
use nfv_core::packet::{Headers, IcmpError, L3};

/// The type of NF `route`.
pub const KIND: Kind = Kind {
    name: "route",
    profile: Profile {
        reads_payload: false,
        writes: true,
        drops: true,
        creates: false,
        routes: true,
    },
    keys: &[Key {
        name: "routes",
        shape: Shape::List(&Shape::Record(&ROUTE)),
        need: Need::Optional,
        help: "routes besides those of the ports' networks and of the kernel",
    }],
    drops: &[
        Named { name: "no_route", help: "no prefix has its destination" },
        Named { name: "blackhole", help: "its route drops it without a word" },
        Named { name: "unreachable", help: "its route says that it cannot be reached" },
        Named { name: "prohibited", help: "its route forbids it" },
        Named { name: "for_the_box", help: "for the box itself, on a port that is not routed" },
        Named { name: "martian", help: "from or to an address that no router sends on" },
        Named { name: "not_ip", help: "neither IPv4 nor IPv6" },
    ],
    answers: &[
        (NO_ROUTE, Answer::Icmp(IcmpError::NoRoute)),
        (UNREACHABLE, Answer::Icmp(IcmpError::HostUnreachable)),
        (PROHIBITED, Answer::Icmp(IcmpError::Prohibited)),
    ],
    counters: &[],
    source: include_str!("route.rs"),
    build,
};

const NO_ROUTE: Reason = Reason(0);
const BLACKHOLE: Reason = Reason(1);
const UNREACHABLE: Reason = Reason(2);
const PROHIBITED: Reason = Reason(3);
const FOR_THE_BOX: Reason = Reason(4);
const MARTIAN: Reason = Reason(5);
const NOT_IP: Reason = Reason(6);

const ROUTE: Table = Table {
    what: "a route",
    groups: &[&[
        Key {
            name: "to",
            shape: Shape::Prefix,
            need: Need::Required,
            help: "destinations; `0.0.0.0/0` and `::/0` are all of a family",
        },
        Key {
            name: "via",
            shape: Shape::Address,
            need: Need::Optional,
            help: "the router to send to; without it the destination is on the port's link",
        },
        Key {
            name: "port",
            shape: Shape::Name(Names::Port),
            need: Need::Optional,
            help: "the port to leave by; without it the one whose network has `via`",
        },
    ]],
};

fn build(section: &Section<'_>, around: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let table = around.routes?.clone();
    for route in section.sections("routes") {
        if let Some((to, target)) = read_route(&route, around, &table, report) {
            if table.origins(to.net()).contains(&Origin::File) {
                let message = format!("there is a route to {} already", to.net());
                report.error(route.span_of("to"), message);
            } else if let Err(why) = table.announce(to.net(), Origin::File, target) {
                report.error(route.span(), why.to_string());
            }
        }
    }
    Some(Built::flow(Route { table }))
}

fn read_route(
    route: &Section<'_>,
    around: Surroundings<'_>,
    table: &RouteTable,
    report: &mut Report,
) -> Option<(Prefix, Target)> {
    let to: Prefix = route.value("to")?;
    let via = route.value::<IpAddr>("via");
    let port = route.text("port").and_then(|name| around.port(&name));
    if route.has("via") != via.is_some() || route.has("port") != port.is_some() {
        // What is wrong with them is in the report.
        return None;
    }
    if let Some(via) = via
        && via.is_ipv4() != to.net().addr().is_ipv4()
    {
        report.error(route.span_of("via"), format!("{via} is not of the family of {}", to.net()));
        return None;
    }
    match (via, port) {
        (Some(via), Some(port)) => Some((to, Target::Via(port, via))),
        (None, Some(port)) => Some((to, Target::Link(port))),
        (Some(via), None) => match port_towards(table, via) {
            Some(port) => Some((to, Target::Via(port, via))),
            None => {
                report
                    .error(route.span_of("via"), format!("no port's network has {via}"))
                    .hint("name the `port`, or give one an address in that network");
                None
            }
        },
        (None, None) => {
            report
                .error(route.span(), "a route that leads nowhere")
                .hint("say `via` which router, or by which `port`");
            None
        }
    }
}

/// The port whose link has an address.
fn port_towards(table: &RouteTable, address: IpAddr) -> Option<PortIndex> {
    match table.hop(table.look_up_one(address)) {
        Hop::Neighbour { port, .. } | Hop::Unresolved { port } => Some(port),
        _ => None,
    }
}

#[derive(Debug)]
struct Route {
    table: Arc<RouteTable>,
}

impl FlowNf for Route {
    type Slice = ();
    type Flow = ();

    fn slice(&self, _: Shard) {}

    fn look_up(&self, packets: Lookup<'_>, hints: &mut [u32]) {
        self.table.look_up(packets.headers, hints);
    }

    fn decide(&self, flow: &FlowView<'_>, hint: u32, (): &mut (), (): &mut ()) -> Decision {
        let drop = |why| Decision::Drop { why, rule: None };
        match flow.headers.kind {
            L3::Ipv4 if is_martian_v4(flow.headers) => return drop(MARTIAN),
            L3::Ipv6 if is_martian_v6(flow.headers) => return drop(MARTIAN),
            L3::Ipv4 | L3::Ipv6 => {}
            L3::Arp | L3::Other => return drop(NOT_IP),
        }
        match self.table.hop(HopId(hint)) {
            Hop::Neighbour { .. } | Hop::Unresolved { .. } => {
                Decision::Forward(Forward { hop: Some(HopId(hint)), ..Forward::AS_IT_IS })
            }
            Hop::None => drop(NO_ROUTE),
            Hop::Blackhole => drop(BLACKHOLE),
            Hop::Unreachable => drop(UNREACHABLE),
            Hop::Prohibited => drop(PROHIBITED),
            Hop::Local => drop(FOR_THE_BOX),
        }
    }
}

/// "This network", loopback, link-local addresses (RFC 3927, section 7), multicast and what is reserved behind it.
#[inline]
fn is_martian_v4(h: &Headers) -> bool {
    let nobody = |[a, b, ..]: [u8; 4]| a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254);
    nobody(h.src.v4()) || nobody(h.dst.v4())
}

/// The unspecified address, loopback, multicast, link-local addresses (RFC 4291, section 2).
#[inline]
fn is_martian_v6(h: &Headers) -> bool {
    let nobody = |address: [u8; 16]| {
        let number = u128::from_be_bytes(address);
        number <= 1 || number >> 120 == 0xff || number >> 118 == 0xfe80 >> 6
    };
    nobody(h.src.v6()) || nobody(h.dst.v6())
}

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;
    use nfv_core::packet::AddressBytes;

    use super::*;

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KIND.keys), Ok(()));
    }

    #[test]
    fn addresses_that_no_router_sends_on_are_martians() {
        let bytes = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(a) => {
                let [a, b, c, d] = a.octets();
                AddressBytes::of_v4([a, b, c, d])
            }
            IpAddr::V6(a) => AddressBytes(a.octets()),
        };
        let headers = |src, dst| Headers { src: bytes(src), dst: bytes(dst), ..Headers::default() };
        let cases = [
            ("10.0.0.1", "192.0.2.1", false),
            ("169.254.0.1", "192.0.2.1", true),
            ("10.0.0.1", "169.254.0.1", true),
            ("127.0.0.1", "192.0.2.1", true),
            ("0.0.0.0", "192.0.2.1", true),
            ("224.0.0.1", "192.0.2.1", true),
            ("10.0.0.1", "239.1.1.1", true),
            ("10.0.0.1", "255.255.255.255", true),
            ("10.0.0.1", "240.0.0.1", true),
        ];
        for (src, dst, martian) in cases {
            assert_eq!(is_martian_v4(&headers(src, dst)), martian, "{src} to {dst}");
        }
        let cases = [
            ("2001:db8::1", "2001:db8::2", false),
            ("2001:db8::1", "fe80::1", true),
            ("fe80::1", "2001:db8::2", true),
            ("febf::1", "2001:db8::2", true),
            ("fec0::1", "2001:db8::2", false),
            ("::", "2001:db8::2", true),
            ("::1", "2001:db8::2", true),
            ("2001:db8::1", "ff05::2", true),
        ];
        for (src, dst, martian) in cases {
            assert_eq!(is_martian_v6(&headers(src, dst)), martian, "{src} to {dst}");
        }
    }
}
