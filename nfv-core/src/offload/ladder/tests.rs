//! Random classes on every NIC: no packet gets a tag that is not its class's, none is dropped or steered for another.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::burst::Reason;
use crate::chain::compile::ProgramId;
use crate::chain::value::{IpFamily, Prefix, Protocol, Scalar};
use crate::dispatch::{Class, Region};
use crate::offload::{Facts, L4Item, Profile, WithoutVlan};

/// What NICs and classes look at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    vlan: Option<u16>,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: u16,
    dport: u16,
    flags: u8,
    icmp: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Met {
    mark: Option<u32>,
    queue: Option<u16>,
    is_dropped: bool,
}

fn has(region: &Region, packet: &Seen) -> bool {
    let family = if packet.src.is_ipv6() { IpFamily::V6 } else { IpFamily::V4 };
    let inside = |net: Option<Prefix>, ip: IpAddr| net.is_none_or(|net| net.net().contains(&ip));
    let within = |(first, last): (u16, u16), port: u16| first <= port && port <= last;
    region.family.is_none_or(|f| f == family)
        && inside(region.src, packet.src)
        && inside(region.dst, packet.dst)
        && region.protocol.is_none_or(|p| p.number() == packet.protocol)
        && within(region.sport, packet.sport)
        && within(region.dport, packet.dport)
        && region.icmp.is_none_or(|kind| kind == packet.icmp)
        && packet.flags & region.flags.0 == region.flags.0
        && packet.flags & region.flags.1 == 0
        && region.vlan.is_none_or(|vlan| packet.vlan == Some(vlan))
}

fn takes(pattern: &Pattern, packet: &Seen, without_vlan: WithoutVlan) -> bool {
    let inside = |net: Option<Prefix>, ip: IpAddr| net.is_none_or(|net| net.net().contains(&ip));
    let icmp = if packet.src.is_ipv6() { 58 } else { 1 };
    let vlan = match (pattern.vlan, packet.vlan) {
        (None, Some(_)) => without_vlan == WithoutVlan::Any,
        (vlan, tag) => vlan.is_none() || vlan == tag,
    };
    let l4 = match pattern.l4 {
        L4Item::Tcp { flags: (mask, value), .. } => {
            packet.protocol == 6 && packet.flags & mask == value
        }
        L4Item::Udp { .. } => packet.protocol == 17,
        L4Item::Sctp { .. } => packet.protocol == 132,
        L4Item::Icmp { kind } => {
            packet.protocol == icmp && kind.is_none_or(|kind| kind == packet.icmp)
        }
    };
    let (sport, dport) = pattern.l4.ports();
    vlan && l4
        && pattern.is_ipv6 == packet.src.is_ipv6()
        && inside(pattern.src, packet.src)
        && inside(pattern.dst, packet.dst)
        && sport.takes(packet.sport)
        && dport.takes(packet.dport)
}

/// What a NIC does with a packet. `Err`: two rules at one priority take it.
fn meets(rules: &[NicRule], packet: &Seen, without_vlan: WithoutVlan) -> Result<Met, String> {
    let mut met: Vec<&NicRule> =
        rules.iter().filter(|r| takes(&r.pattern, packet, without_vlan)).collect();
    met.sort_by_key(|rule| rule.priority);
    match met.as_slice() {
        [a, b, ..] if a.priority == b.priority => Err(format!("both {a:?} and {b:?}")),
        [] => Ok(Met::default()),
        [rule, ..] => Ok(Met {
            mark: rule.mark,
            queue: if let Fate::Queue(queue) = rule.fate { Some(queue) } else { None },
            is_dropped: rule.fate == Fate::Drop,
        }),
    }
}

/// What is wrong with what rules do to a packet.
fn wrong(
    rules: &[NicRule],
    classes: &PortClasses,
    bound: &[Option<u16>],
    packet: &Seen,
    without_vlan: WithoutVlan,
) -> Option<String> {
    let class = classes.classes.iter().position(|c| c.regions.iter().any(|r| has(r, packet)));
    let one = class.and_then(|at| classes.classes.get(at));
    let met = match meets(rules, packet, without_vlan) {
        Ok(met) => met,
        Err(why) => return Some(why),
    };
    let drops = one.is_some_and(|c| matches!(c.fate, ClassFate::Drop { .. }));
    let queue = class.and_then(|at| bound.get(at).copied().flatten());
    // As wide as the tag is, or as narrow as NICs of the table have it.
    let forms = [u32::MAX, 65_533, 32_767].map(|largest| MarkForm::within(largest, classes));
    let is_tag =
        |mark, class: &Class| forms.iter().flatten().any(|form| form.mark(class.tag) == Some(mark));
    let right = met.mark.is_none_or(|mark| one.is_some_and(|class| is_tag(mark, class)))
        && (!met.is_dropped || drops)
        && met.queue.is_none_or(|q| queue == Some(q));
    (!right).then(|| format!("{packet:?} of {one:?} met {met:?}"))
}

fn prefix(text: &str) -> Option<Prefix> {
    Some(Prefix::parse(text).unwrap())
}

fn prefixes(is_ipv6: bool) -> Vec<Option<Prefix>> {
    match is_ipv6 {
        false => vec![
            None,
            None,
            prefix("10.0.0.0/8"),
            prefix("10.1.0.0/16"),
            prefix("10.1.2.3"),
            prefix("10.1.2.4"),
        ],
        true => vec![
            None,
            None,
            prefix("2001:db8::/32"),
            prefix("2001:db8:1::/48"),
            prefix("2001:db8:1::3"),
            prefix("2001:db8:1::4"),
        ],
    }
}

fn addresses(is_ipv6: bool) -> Vec<IpAddr> {
    let all = match is_ipv6 {
        false => ["10.1.2.3", "10.1.2.4", "10.1.0.9", "10.9.9.9", "192.0.2.1"],
        true => ["2001:db8:1::3", "2001:db8:1::4", "2001:db8:1::9", "2001:db8:9::9", "fe80::1"],
    };
    all.iter().map(|text| text.parse().unwrap()).collect()
}

const RANGES: [(u16, u16); 6] =
    [(0, u16::MAX), (0, u16::MAX), (80, 80), (80, 81), (64, 127), (50, 1000)];
const PORTS: [u16; 7] = [0, 50, 64, 80, 81, 443, 65535];

prop_compose! {
    fn region()(
        family in select(vec![None, Some(IpFamily::V4), Some(IpFamily::V4), Some(IpFamily::V6)]),
        protocol in select(vec![None, Some(Protocol::TCP), Some(Protocol::TCP), Some(Protocol::UDP),
            Some(Protocol::SCTP), Some(Protocol::ICMP), Some(Protocol::ICMP6)]),
        (src, dst) in (0usize..6, 0usize..6),
        (sport, dport) in (select(&RANGES[..]), select(&RANGES[..])),
        flags in select(vec![(0, 0), (0, 0), (2, 0), (2, 16), (0, 2)]),
        icmp in select(vec![None, Some(8)]),
        vlan in select(vec![None, None, None, Some(5), Some(6)]),
    ) -> Region {
        let is_icmp = matches!(protocol, Some(Protocol::ICMP | Protocol::ICMP6));
        let pick = |at: usize| match family {
            None => None,
            Some(family) => prefixes(family == IpFamily::V6)[at],
        };
        let any = (0, u16::MAX);
        Region {
            family,
            src: pick(src),
            dst: pick(dst),
            protocol,
            sport: if is_icmp { any } else { sport },
            dport: if is_icmp { any } else { dport },
            icmp: icmp.filter(|_| is_icmp),
            flags: if protocol.is_none_or(|p| p == Protocol::TCP) { flags } else { (0, 0) },
            vlan,
        }
    }
}

prop_compose! {
    fn classes()(all in proptest::collection::vec(
        (proptest::collection::vec(region(), 1..3), any::<bool>(), 1u8..100), 1..8)) -> PortClasses
    {
        let class = |(at, (regions, drops, share)): (u32, (Vec<Region>, bool, u8))| {
            class(at + 1, regions, drops, f64::from(share) / 100.0)
        };
        PortClasses { port: PortIndex(0), classes: (0..).zip(all).map(class).collect() }
    }
}

prop_compose! {
    fn packet()(
        is_ipv6 in any::<bool>(),
        (src, dst) in (0usize..5, 0usize..5),
        protocol in select(vec![6, 6, 17, 132, 1, 58, 47]),
        (sport, dport) in (select(&PORTS[..]), select(&PORTS[..])),
        flags in select(vec![0, 2, 16, 18]),
        icmp in select(vec![0, 8]),
        vlan in select(vec![None, None, Some(5), Some(6), Some(7)]),
    ) -> Seen {
        let addresses = addresses(is_ipv6);
        let is_icmp = protocol == 1 || protocol == 58;
        let has_ports = protocol != 47;
        Seen {
            vlan,
            src: addresses[src],
            dst: addresses[dst],
            protocol,
            sport: if has_ports { sport } else { 0 },
            dport: if has_ports { dport } else { 0 },
            flags: if protocol == 6 { flags } else { 0 },
            icmp: if is_icmp { icmp } else { 0 },
        }
    }
}

fn class(number: u32, regions: Vec<Region>, drops: bool, share: f64) -> Class {
    let program = ProgramId(0);
    let fate = match drops {
        true => ClassFate::Drop { program, function: 0, why: Reason(0) },
        false => ClassFate::Enter { program, step: 0 },
    };
    Class { tag: Tag::new(15, number), regions, fate, decided: Vec::new(), share }
}

/// What patterns without a VLAN may do on a NIC.
fn sights(limits: Limits) -> Vec<WithoutVlan> {
    match limits.without_vlan {
        WithoutVlan::Unknown => vec![WithoutVlan::Any, WithoutVlan::Untagged],
        known => vec![known],
    }
}

fn rules_of(offload: &Offload) -> Vec<NicRule> {
    offload.rules.iter().map(|planned| planned.rule.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn on_every_nic_a_packet_gets_the_tag_of_its_class_or_none(
        classes in classes(),
        packets in proptest::collection::vec(packet(), 60),
        bound in proptest::collection::vec(select(vec![None, None, Some(0), Some(1)]), 8),
        room in select(vec![None, None, Some(2), Some(5)]),
        cut in 0usize..20,
    ) {
        for name in Facts::names() {
            let mut nic = Profile::named(name, 2).unwrap();
            let offload = plan(&classes, &nic, Asked { bound: &bound, room, refused: &[] });
            let rules = rules_of(&offload);
            prop_assert!(room.is_none_or(|room| rules.len() <= room), "{name}");
            for rule in &rules {
                let taken = nic.install(rule);
                prop_assert!(taken.is_ok(), "{name}: {rule:?}: {taken:?}");
            }
            let first = &rules[..cut.min(rules.len())];
            for (packet, sight) in packets.iter().flat_map(|p| sights(nic.limits()).into_iter().map(move |s| (p, s))) {
                for rules in [&rules[..], first] {
                    let wrong = wrong(rules, &classes, &bound, packet, sight);
                    prop_assert!(wrong.is_none(), "{name}: {}\n{rules:#?}", wrong.unwrap_or_default());
                }
            }
        }
    }
}

fn tcp(src: &str, dport: (u16, u16)) -> Region {
    let protocol = Some(Protocol::TCP);
    Region { family: Some(IpFamily::V4), src: prefix(src), protocol, dport, ..Region::ALL }
}

fn of(classes: Vec<(Region, bool)>) -> PortClasses {
    let share = 1.0 / classes.len() as f64;
    let class =
        |(at, (region, drops)): (u32, (Region, bool))| class(at + 1, vec![region], drops, share);
    PortClasses { port: PortIndex(0), classes: (0..).zip(classes).map(class).collect() }
}

fn syn(src: &str, dport: u16) -> Seen {
    Seen {
        vlan: None,
        src: src.parse().unwrap(),
        dst: "192.0.2.1".parse().unwrap(),
        protocol: 6,
        sport: 1024,
        dport,
        flags: 2,
        icmp: 0,
    }
}

fn rungs(offload: &Offload) -> Vec<Rung> {
    offload.classes.iter().map(|c| c.rung).collect()
}

const WEB: [(u16, u16); 2] = [(80, 80), (443, 443)];

/// A network that may use one port, another that may not be met at all.
fn two_layers() -> PortClasses {
    of(vec![(tcp("10.1.2.3", WEB[0]), false), (tcp("10.0.0.0/8", (0, u16::MAX)), true)])
}

#[test]
fn without_their_priorities_rules_do_wrong() {
    let (classes, packet) = (two_layers(), syn("10.1.2.3", 80));
    let nic = Profile::named("mlx5", 2).unwrap();
    let offload = plan(&classes, &nic, Asked::default());
    assert_eq!(rungs(&offload), [Rung::MarkRss, Rung::Drop]);
    let mut rules = rules_of(&offload);
    assert_eq!(wrong(&rules, &classes, &[], &packet, WithoutVlan::Untagged), None);
    rules.iter_mut().for_each(|rule| rule.priority = 9 - rule.priority);
    assert!(wrong(&rules, &classes, &[], &packet, WithoutVlan::Untagged).is_some());
    rules.iter_mut().for_each(|rule| rule.priority = 0);
    assert!(wrong(&rules, &classes, &[], &packet, WithoutVlan::Untagged).is_some());
}

#[test]
fn without_their_shields_rules_do_wrong() {
    // cnxk looks at no flags: the first class is not told, and the second would drop its packets.
    let (mut classes, packet) = (two_layers(), syn("10.1.2.3", 80));
    classes.classes[0].regions[0].flags = (2, 0);
    let nic = Profile::named("cnxk", 2).unwrap();
    let offload = plan(&classes, &nic, Asked::default());
    assert_eq!(rungs(&offload), [Rung::Rss, Rung::Drop]);
    let shields = |p: &&PlannedRule| p.role == Role::Shields;
    assert_eq!(offload.rules.iter().filter(shields).count(), 1);
    let bare: Vec<NicRule> =
        offload.rules.iter().filter(|p| !shields(p)).map(|p| p.rule.clone()).collect();
    assert_eq!(wrong(&rules_of(&offload), &classes, &[], &packet, WithoutVlan::Any), None);
    assert!(wrong(&bare, &classes, &[], &packet, WithoutVlan::Any).is_some());
}

#[test]
fn a_nic_without_priorities_leaves_out_what_overlaps_and_says_so() {
    let all = of(vec![(tcp("10.1.2.3", WEB[0]), false), (tcp("10.1.2.3", (0, u16::MAX)), false)]);
    let nic = Profile::named("bnxt", 2).unwrap();
    let offload = plan(&all, &nic, Asked::default());
    assert_eq!(rungs(&offload), [Rung::MarkRss, Rung::Rss]);
    let why = &offload.classes[1].why;
    assert!(why.iter().any(|w| w.contains("beside class 1")), "{why:?}");
}

#[test]
fn ports_become_masks_or_values_where_the_nic_wants_them() {
    let all = of(vec![(tcp("10.1.2.3", (1024, 2047)), false), (tcp("10.1.2.4", (80, 83)), false)]);
    let rules = |name| {
        let offload = plan(&all, &Profile::named(name, 2).unwrap(), Asked::default());
        offload.classes.iter().map(|c| c.rules).collect::<Vec<_>>()
    };
    assert_eq!(rules("mlx5"), [1, 1]);
    assert_eq!(rules("bnxt"), [0, 4]);
}

#[test]
fn when_the_table_is_full_the_largest_shares_are_in_it() {
    let net = |at: u32| (tcp(&format!("10.0.0.{at}"), WEB[0]), false);
    let mut all = of((1..=100).map(net).collect());
    for (at, class) in all.classes.iter_mut().enumerate() {
        class.share = if at % 10 == 3 { 0.09 } else { 0.001 };
    }
    let nic = Profile::named("iavf", 2).unwrap().with_room(10);
    let offload = plan(&all, &nic, Asked::default());
    assert_eq!(offload.rules.len(), 10);
    for (at, placed) in offload.classes.iter().enumerate() {
        assert_eq!(placed.rules == 1, at % 10 == 3, "class {at}");
        assert_eq!(placed.why.iter().any(|w| w.contains("holds 10 rules")), at % 10 != 3);
    }
}

#[test]
fn where_rules_look_at_the_same_fields_those_are_chosen_that_are_told_in_the_end() {
    // By ports most would be told, were it not for the first class, which is not told then.
    let udp = |src: &str, dport| Region { protocol: Some(Protocol::UDP), ..tcp(src, dport) };
    let any = Region { src: None, ..udp("10.0.0.1", WEB[0]) };
    let all = of(vec![
        (udp("10.1.2.3", (0, u16::MAX)), true),
        (any.clone(), false),
        (Region { dport: WEB[1], ..any }, false),
    ]);
    let offload = plan(&all, &Profile::named("iavf", 2).unwrap(), Asked::default());
    assert_eq!(rungs(&offload), [Rung::Drop, Rung::Rss, Rung::Rss]);
    assert_eq!(offload.rules.len(), 1);
}

#[test]
fn a_nic_without_rules_ends_on_the_plain_rung() {
    for (name, rung) in [("ena", Rung::Rss), ("igbvf", Rung::HandOver), ("virtio", Rung::HandOver)]
    {
        let offload = plan(&two_layers(), &Profile::named(name, 2).unwrap(), Asked::default());
        assert_eq!(rungs(&offload), [rung; 2], "{name}");
        assert!(offload.rules.is_empty());
        assert!(offload.classes[0].why[0].contains("no rules"), "{:?}", offload.classes[0].why);
    }
}

#[test]
fn a_pattern_that_was_refused_is_planned_around() {
    let classes = two_layers();
    let nic = Profile::named("mlx5", 2).unwrap();
    let first = plan(&classes, &nic, Asked::default());
    let words = Refusal("no more of these".to_owned());
    let refused = [(first.rules[0].rule.pattern, words)];
    let again = plan(&classes, &nic, Asked { refused: &refused, ..Asked::default() });
    assert_eq!(
        wrong(&rules_of(&again), &classes, &[], &syn("10.1.2.3", 80), WithoutVlan::Any),
        None
    );
    assert!(again.classes[0].why.iter().any(|w| w.contains("no more of these")));
    // The shield is coarser: all of that address's TCP.
    assert_eq!(rungs(&again), [Rung::Rss, Rung::Drop]);
}

#[test]
fn classes_without_flows_are_dealt_to_queues_by_their_share() {
    let mut all = of(vec![
        (tcp("10.0.0.1", WEB[0]), false),
        (tcp("10.0.0.2", WEB[0]), false),
        (tcp("10.0.0.3", WEB[0]), false),
        (tcp("10.0.0.4", WEB[0]), true),
    ]);
    for (class, share) in all.classes.iter_mut().zip([0.3, 0.4, 0.2, 0.1]) {
        class.share = share;
    }
    let bound = deal(&all, |class| class.tag.class() == 3, 2);
    assert_eq!(bound, [Some(1), Some(0), None, None]);
    let nic = Profile::named("tap", 2).unwrap();
    let offload = plan(&all, &nic, Asked { bound: &bound, ..Asked::default() });
    assert_eq!(rungs(&offload), [Rung::Queue, Rung::Queue, Rung::HandOver, Rung::Drop]);
}
