//! Random chain files, and random packets that are likely to meet their rules.

use nfv_core::nf::PortIndex;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::frames::{Cut, Ends, Frame, Parts};

const NETS_4: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.1",
    "10.128.0.0/9",
    "192.0.2.0/25",
    "0.0.0.0/0",
];
const NETS_6: &[&str] = &["2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1"];
const HOSTS_4: &[[u8; 4]] =
    &[[10, 1, 1, 1], [10, 1, 1, 2], [10, 1, 2, 1], [10, 200, 0, 1], [192, 0, 2, 5], [9, 9, 9, 9]];
const HOSTS_6: &[[u8; 16]] = &[
    [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];
const PORTS: &[&str] = &["80", "443", "53", "1-1023", "[53, 80]", "1024-65535", "0-100"];
const PORT_NUMBERS: &[u16] = &[53, 80, 443, 1000, 1024, 50_000];

/// A chain file without mistakes.
pub fn chain_file() -> impl Strategy<Value = String> {
    let firewalls = vec(firewall(), 1..4);
    (firewalls, vec(chain(), 1..4), any::<bool>()).prop_map(|(firewalls, chains, zones)| {
        let zone = if zones { ", zone: inside" } else { "" };
        let mut text = String::from("ports:\n");
        for (port, zone) in [("p0", zone), ("p1", zone), ("p2", "")] {
            let n = &port[1..];
            text += &format!("  {port}: {{ device: net_null{n}{zone} }}\n");
        }
        text += "functions:\n  seen: { type: count }\n";
        text += "  keeps: { type: firewall, stateful: true, loose: true, default: allow }\n";
        text += "  web: { type: lb, virtual: [10.1.1.2, 10.1.1.1], port: 80, seed: a, backends: [ { address: 10.1.2.1 } ] }\n";
        for (i, firewall) in firewalls.iter().enumerate() {
            let firewall = if zones {
                firewall.clone()
            } else {
                firewall.replace("in-zone: inside", "in-port: p0")
            };
            text += &format!("  fw{i}: {{ type: firewall, {firewall} }}\n");
        }
        text += "chains:\n";
        let mut quarantine = false;
        for (i, chain) in chains.iter().enumerate() {
            let (line, leads) = chain.line(i, firewalls.len());
            text += &line;
            quarantine |= leads;
        }
        if quarantine {
            text += "  quarantine: { through: [seen], to: p1, oneway: true }\n";
        }
        text
    })
}

fn firewall() -> impl Strategy<Value = String> {
    let default = select(&["allow", "deny", "reject"][..]);
    (vec(rule(), 2..20), default, select(&["allow", "deny"][..])).prop_map(
        |(rules, default, neighbours)| {
            format!("default: {default}, neighbours: {neighbours}, rules: [ {} ]", rules.join(", "))
        },
    )
}

fn rule() -> impl Strategy<Value = String> {
    let verdict = prop_oneof![4 => Just("allow"), 3 => Just("deny"), 1 => Just("reject")];
    let place = prop_oneof![
        8 => Just(""),
        1 => Just(", in-port: p0"),
        1 => Just(", in-port: p2"),
        1 => Just(", in-zone: inside"),
    ];
    (verdict, words(), place).prop_map(|(verdict, (protocols, rest), place)| {
        format!("{{ {verdict}: {protocols}{rest}{place} }}")
    })
}

/// Protocols, and the other keys of a match that go with them, each behind a comma.
fn words() -> impl Strategy<Value = (String, String)> {
    let port = |key: &'static str| {
        option::of(select(PORTS))
            .prop_map(move |p| p.map_or(String::new(), |p| format!(", {key}: {p}")))
    };
    let ports = || (port("sport"), port("dport")).prop_map(|(s, d)| s + &d);
    let with_ports = (select(&["tcp", "udp", "[tcp, udp]", "sctp"][..]), ports())
        .prop_map(|(protocol, ports)| (protocol.to_owned(), ports));
    let flags = select(&["syn", "\"syn,!ack\"", "\"!syn\"", "fin", "\"!ack\""][..]);
    let with_flags = (flags, port("dport"))
        .prop_map(|(flags, port)| ("tcp".to_owned(), format!(", flags: {flags}{port}")));
    let kinds =
        select(&["echo-request", "echo-reply", "[echo-request, destination-unreachable]"][..]);
    let with_kinds = (select(&["icmp", "icmp6", "[icmp, icmp6]"][..]), kinds)
        .prop_map(|(protocol, kind)| (protocol.to_owned(), format!(", icmp-type: {kind}")));
    let stamps = select(&["13", "14", "0"][..])
        .prop_map(|kind| ("icmp".to_owned(), format!(", icmp-type: {kind}")));
    let others = select(&["any", "tcp", "icmp", "47", "[tcp, 47]"][..])
        .prop_map(|protocol| (protocol.to_owned(), String::new()));
    let l4 =
        prop_oneof![4 => with_ports, 2 => with_flags, 2 => with_kinds, 1 => stamps, 2 => others];
    let vlan = prop_oneof![6 => Just(""), 1 => Just(", vlan: 1"), 1 => Just(", vlan: [1, 2]")];
    (l4, ends(), vlan).prop_map(|((protocols, rest), ends, vlan)| {
        // A family's ICMP has that family's addresses.
        let v6 = ends.contains("2001") || ends.contains("ipv6");
        let v4 = ends.contains('.') || ends.contains("ipv4");
        let kinds = protocols.contains("icmp");
        let clash = (protocols == "icmp" && v6) || (protocols == "icmp6" && v4);
        let ends = if clash || (kinds && v4 && v6) { String::new() } else { ends };
        (protocols, format!("{rest}{ends}{vlan}"))
    })
}

fn ends() -> impl Strategy<Value = String> {
    let of = |nets: &'static [&'static str]| {
        let some = subsequence(nets, 0..=2);
        (some, option::of(select(nets))).prop_map(|(src, dst)| {
            let src = if src.is_empty() { String::new() } else { format!(", src: {}", list(&src)) };
            src + &dst.map_or(String::new(), |d| format!(", dst: {}", list(&[d])))
        })
    };
    prop_oneof![
        4 => of(NETS_4),
        2 => of(NETS_6),
        2 => Just(String::new()),
        1 => Just(", src: [10.1.0.0/16, \"2001:db8::/32\"]".to_owned()),
        1 => select(&[", family: ipv4", ", family: ipv6"][..]).prop_map(str::to_owned),
    ]
}

fn list(nets: &[&str]) -> String {
    let quoted: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// The number of what sees each packet, among firewalls.
const SEEN: usize = 6;

#[derive(Clone, Debug)]
struct Chain {
    from: &'static [&'static str],
    to: &'static str,
    matches: Vec<String>,
    through: Vec<usize>,
    keeps: bool,
    oneway: bool,
    leads: bool,
}

fn chain() -> impl Strategy<Value = Chain> {
    let ways: &[(&[&str], &str)] =
        &[(&["p0"], "p2"), (&["p0", "p1"], "p2"), (&["p2"], "p0"), (&["p1"], "p0")];
    let one = words().prop_map(|(protocols, rest)| match protocols.as_str() {
        "any" if rest.is_empty() => "{ family: ipv4 }".to_owned(),
        "any" => format!("{{ {} }}", rest.trim_start_matches(", ")),
        _ => format!("{{ protocol: {protocols}{rest} }}"),
    });
    let matches = prop_oneof![2 => Just(Vec::new()), 3 => vec(one, 1..3)];
    let keeps = prop_oneof![7 => Just(false), 1 => Just(true)];
    (select(ways), matches, vec(0..=SEEN, 1..4), keeps, any::<(bool, bool)>()).prop_map(
        |((from, to), matches, through, keeps, (oneway, leads))| Chain {
            from,
            to,
            matches,
            through,
            keeps,
            oneway,
            leads,
        },
    )
}

impl Chain {
    /// Its line, and whether it leads to another chain.
    fn line(&self, number: usize, firewalls: usize) -> (String, bool) {
        let mut through: Vec<String> = Vec::new();
        for n in &self.through {
            let name = if *n < SEEN { format!("fw{}", n % firewalls) } else { "seen".to_owned() };
            if !through.contains(&name) {
                through.push(name);
            }
        }
        let leads = self.leads && through.iter().any(|name| name.starts_with("fw"));
        if self.keeps {
            through.push(if number == 0 { "web" } else { "keeps" }.to_owned());
        }
        let matches = match self.matches.as_slice() {
            [] => String::new(),
            list => format!("match: [{}], ", list.join(", ")),
        };
        let on = if leads { ", on: { rule_denied: quarantine }" } else { "" };
        let line = format!(
            "  c{number}: {{ from: [{}], {matches}through: [{}], to: {}, oneway: {}{on} }}\n",
            self.from.join(", "),
            through.join(", "),
            self.to,
            self.oneway,
        );
        (line, leads)
    }
}

/// Bursts of packets, each for a port.
pub fn bursts() -> impl Strategy<Value = Vec<(PortIndex, Vec<Frame>)>> {
    let burst = (0..3u8, vec(parts(), 1..33), any::<bool>());
    vec(burst, 1..6).prop_map(|bursts| {
        let mut number = 0;
        let frame = |parts: Parts| {
            number += 1;
            parts.frame(number)
        };
        let mut frame = frame;
        let own = |(port, parts, few): (u8, Vec<Parts>, bool)| {
            // Some bursts are of few flows, whose order is seen.
            let parts: Vec<Parts> = match few {
                true => parts.iter().cycle().take(3).cycle().take(parts.len()).cloned().collect(),
                false => parts,
            };
            (PortIndex(port), parts.into_iter().map(&mut frame).collect())
        };
        bursts.into_iter().map(own).collect()
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let ends = prop_oneof![
        12 => (select(HOSTS_4), select(HOSTS_4)).prop_map(|(s, d)| Ends::V4(s, d)),
        6 => (select(HOSTS_6), select(HOSTS_6)).prop_map(|(s, d)| Ends::V6(s, d)),
        1 => Just(Ends::Arp),
    ];
    let vlan =
        prop_oneof![5 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2)), 1 => Just(Some(3))];
    let protocol = prop_oneof![
        6 => Just(6), 4 => Just(17), 2 => Just(1), 2 => Just(58), 1 => Just(132), 1 => Just(47)
    ];
    let flags = select(&[2u8, 16, 18, 1, 17, 4, 24][..]);
    let icmp = select(&[0u8, 8, 13, 14, 3, 128, 129, 1, 135][..]);
    let cut = prop_oneof![10 => Just(Cut::Whole), 1 => Just(Cut::First), 1 => Just(Cut::Later)];
    let ports = (select(PORT_NUMBERS), select(PORT_NUMBERS));
    (vlan, ends, protocol, ports, flags, icmp, cut, any::<u32>()).prop_map(
        |(vlan, ends, protocol, (sport, dport), flags, icmp, cut, noise)| Parts {
            vlan,
            ends,
            protocol,
            sport,
            dport,
            flags,
            icmp,
            cut,
            noise,
        },
    )
}
