use std::collections::HashMap;

use nfv_core::chain::value::{AddressRange, Scalar};
use proptest::prelude::*;

use super::*;
use crate::nat::outside::steps::disturb;

const NOW: Time = Time(1_700_000_000_000_000_000);

fn mappings_of(
    pool: Ranges,
    ports: (u16, u16),
    pooling: Pooling,
    shares: Shares,
    before: Option<&Mappings>,
) -> Mappings {
    let log = Arc::new(Log::kept());
    let secret = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1) | 1;
    Mappings::new(Plot { pool, ports, pooling, shares, log, secret }, before).unwrap()
}

fn mappings(ranges: &[&str], ports: (u16, u16), pooling: Pooling) -> Mappings {
    let range = |r: &&str| AddressRange::parse(r).unwrap();
    let pool = Ranges::of(ranges.iter().map(range).map(|r| (r.first(), r.last())));
    mappings_of(pool, ports, pooling, Shares::Common, None)
}

fn inside(i: u32) -> End {
    End { address: Ipv4Addr::from_bits(0x0a00_0000 + i / 100), port: 1024 + (i % 100) as u16 }
}

#[test]
fn an_inside_end_has_one_outside_end_of_its_class_until_its_last_flow_ends() {
    let m = mappings(&["203.0.113.1", "203.0.113.8-203.0.113.9"], (1024, 65_535), Pooling::Paired);
    let mut seen = HashMap::new();
    for i in 0..5_000 {
        let (id, outside) = m.bind(protocol::TCP, inside(i), NOW).unwrap();
        assert!(outside.port >= 1024 && m.is_outside(outside.address));
        assert_eq!(
            class_of_end(outside.address, outside.port),
            class_of_end(inside(i).address, inside(i).port)
        );
        assert_eq!(seen.insert((outside.address, outside.port), i), None);
        assert_eq!(m.held_by(id), Some((outside, inside(i))));
        // A second flow, and one from outside.
        assert_eq!(m.bind(protocol::TCP, inside(i), NOW), Ok((id, outside)));
        assert_eq!(m.hold(protocol::TCP, outside), Some((id, inside(i))));
        assert_eq!(m.hold(protocol::UDP, outside), None);
        assert_eq!(MappingId::of(id.number()), Some(id));
        (0..2).for_each(|_| m.release(id, NOW));
    }
    assert_eq!(m.in_use(), 5_000);
    for (address, i) in &seen {
        let (id, _) = m.bind(protocol::TCP, inside(*i), NOW).unwrap();
        (0..2).for_each(|_| m.release(id, NOW));
        assert_eq!(m.hold(protocol::TCP, End { address: address.0, port: address.1 }), None);
    }
    assert_eq!(m.in_use(), 0);
}

#[test]
fn one_inside_address_has_one_outside_address_when_they_are_paired() {
    let m = mappings(&["203.0.113.0/28"], (1024, 65_535), Pooling::Paired);
    let of = |a: u32| (1024..1100).map(move |port| End { address: Ipv4Addr::from_bits(a), port });
    for a in 0..50 {
        let all: Vec<_> = of(a).map(|e| m.bind(protocol::UDP, e, NOW).unwrap().1.address).collect();
        assert!(all.iter().all(|x| *x == all[0]));
    }
}

#[test]
fn a_pool_that_is_used_up_says_so_and_its_ports_come_back() {
    let m = mappings(&["203.0.113.1-203.0.113.2"], (60_000, 60_999), Pooling::Arbitrary);
    let all: Vec<_> =
        (0..40_000).filter_map(|i| m.bind(protocol::UDP, inside(i), NOW).ok()).collect();
    // Each class has its part of the ports; all parts are used to the last.
    assert_eq!(all.len(), 2_000);
    all.iter().for_each(|(id, _)| m.release(*id, NOW));
    assert_eq!(m.in_use(), 0);
    let again = (40_000..80_000).filter_map(|i| m.bind(protocol::UDP, inside(i), NOW).ok()).count();
    assert_eq!(again, 2_000);
}

#[test]
fn workers_that_bind_one_inside_end_at_once_get_one_mapping() {
    // All of one class, which has few ports: what others give back in between is where the next one goes.
    let m = mappings(&["192.0.2.1"], (1024, 3071), Pooling::Paired);
    let class = |end: &End| class_of_end(end.address, end.port);
    let ends: Vec<End> =
        (0..20_000).map(inside).filter(|e| class(e) == class(&inside(0))).collect();
    let (others, shared) = ends.split_at(12);
    assert!(shared.len() > 60);
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let two = std::thread::scope(|scope| {
        let (m, turns, stop) = (&m, &turns, &stop);
        let churn = |own: &'static [usize]| {
            move || {
                disturb(1);
                while !stop.load(Ordering::Relaxed) {
                    for i in own {
                        let id = m.bind(protocol::TCP, others[*i], NOW).map(|(id, _)| id);
                        id.into_iter().for_each(|id| m.release(id, NOW));
                    }
                }
            }
        };
        scope.spawn(churn(&[0, 1, 2, 3, 4, 5]));
        // Two that bind the same end in the same turn.
        let bind = move |who: u64| {
            disturb(7 + who);
            let mut bound = Vec::new();
            for turn in 0..TURNS {
                turns.fetch_add(1, Ordering::SeqCst);
                while turns.load(Ordering::SeqCst) < 2 * turn + 2 {
                    std::thread::yield_now();
                }
                bound.push(m.bind(protocol::TCP, shared[turn % shared.len()], NOW).ok());
                // Each gives back only when the other has bound too.
                let given = bound.len().checked_sub(4).and_then(|at| bound[at]);
                given.into_iter().for_each(|(id, _)| m.release(id, NOW));
            }
            bound
        };
        let all: Vec<_> = (0..2).map(|who| scope.spawn(move || bind(who))).collect();
        let all: Vec<_> = all.into_iter().map(|t| t.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        all
    });
    for (turn, (a, b)) in two[0].iter().zip(&two[1]).enumerate() {
        if let (Some(a), Some(b)) = (a, b) {
            assert_eq!(a, b, "turn {turn}");
        }
    }
    assert!(two[0].iter().flatten().count() > TURNS / 2);
    two.iter().flat_map(|own| &own[TURNS - 3..]).flatten().for_each(|(id, _)| m.release(*id, NOW));
    assert_eq!(m.in_use(), 0);
}

const TURNS: usize = 3_000;

#[test]
fn an_end_that_is_reserved_is_never_given() {
    let mut m = mappings(&["192.0.2.1"], (2000, 2999), Pooling::Paired);
    let everywhere = End { address: Ipv4Addr::UNSPECIFIED, port: 2600 };
    m.reserve(protocol::TCP, everywhere);
    let reserved = End { address: Ipv4Addr::new(192, 0, 2, 1), port: 2500 };
    m.reserve(protocol::TCP, reserved);
    let all: Vec<_> =
        (0..40_000).filter_map(|i| m.bind(protocol::TCP, inside(i), NOW).ok()).collect();
    assert_eq!(all.len(), 998);
    assert!(all.iter().all(|(_, outside)| *outside != reserved && outside.port != 2600));
    assert_eq!(m.hold(protocol::TCP, reserved), None);
    let other = (0..40_000).filter_map(|i| m.bind(protocol::UDP, inside(i), NOW).ok()).count();
    assert_eq!(other, 1000, "of one protocol only");
}

#[test]
fn what_was_released_too_often_is_no_ones_harm() {
    let m = mappings(&["192.0.2.1"], (1024, 65_535), Pooling::Paired);
    let (id, outside) = m.bind(protocol::TCP, inside(1), NOW).unwrap();
    (0..3).for_each(|_| m.release(id, NOW));
    assert_eq!(m.in_use(), 0);
    assert_eq!(m.bind(protocol::TCP, inside(1), NOW), Ok((id, outside)), "the port is kept");
    assert_eq!(m.in_use(), 1);
    m.release(MappingId::of(u32::MAX).unwrap(), NOW);
    assert_eq!(m.held_by(MappingId::of(u32::MAX).unwrap()), None);
}

proptest! {
    #[test]
    fn it_is_a_map_of_counts(steps in prop::collection::vec((any::<bool>(), 0u32..60), 1..400)) {
        let m = mappings(&["192.0.2.1"], (1024, 65_535), Pooling::Paired);
        let mut model: HashMap<u32, Vec<MappingId>> = HashMap::new();
        for (add, i) in steps {
            let held = model.entry(i).or_default();
            if add {
                let (id, _) = m.bind(protocol::ICMP, inside(i), NOW).unwrap();
                prop_assert!(held.first().is_none_or(|first| *first == id));
                held.push(id);
            } else if let Some(id) = held.pop() {
                m.release(id, NOW);
            }
        }
        prop_assert_eq!(m.in_use() as usize, model.values().filter(|held| !held.is_empty()).count());
    }
}

fn pool(first: &str, last: &str) -> Ranges {
    Ranges::of([(first.parse().unwrap(), last.parse().unwrap())])
}

const CARRIER: (u16, u16) = (1024, 65_535);

#[test]
fn subscribers_get_ranges_when_they_need_them_and_give_them_back() {
    let given = Shares::Given { size: 256, most: 3 };
    let m = mappings_of(pool("192.0.2.1", "192.0.2.1"), CARRIER, Pooling::Paired, given, None);
    let host = |n: u32, port| End { address: Ipv4Addr::from_bits(0x6440_0000 + n), port };
    let mut held = Vec::new();
    let mut ranges: HashMap<u16, u32> = HashMap::new();
    for n in 0..80 {
        let mut ends = 0;
        let refused =
            (1024..4096).find_map(|port| match m.bind(protocol::UDP, host(n, port), NOW) {
                Ok((id, outside)) => {
                    assert_eq!(*ranges.entry(outside.port / 256).or_insert(n), n, "nobody else's");
                    held.push((id, n));
                    ends += 1;
                    None
                }
                Err(why) => Some(why),
            });
        match refused {
            Some(Exhausted::Subscriber) => assert!(ends > 2 * 128, "{ends} of 768 ports"),
            Some(Exhausted::Pool) => assert!(ranges.len() > 240, "{} of 252", ranges.len()),
            None => panic!("3,072 ends in 768 ports"),
        }
        if n == 0 {
            let tcp = m.bind(protocol::TCP, host(n, 1024), NOW).unwrap();
            assert_eq!(ranges.get(&(tcp.1.port / 256)), Some(&0), "of all protocols");
            held.push((tcp.0, n));
        }
    }
    assert_eq!(m.shares_given(), ranges.len());
    assert!(ranges.keys().all(|range| (4..=255).contains(range)));
    held.iter().for_each(|(id, _)| m.release(*id, NOW));
    assert_eq!((m.shares_given(), m.in_use()), (0, 0));

    let path = std::env::temp_dir().join(format!("nfv-nat-ranges-{}", std::process::id()));
    m.log.write(&mut super::super::log::Writer::open(&path).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines = |event: &str| text.lines().filter(|l| l.contains(event)).count();
    assert_eq!((lines("\"given\""), lines("\"came_back\"")), (ranges.len(), ranges.len()));
}

#[test]
fn computed_ranges_need_no_record_and_are_where_they_are_computed() {
    let subscribers = pool("100.64.0.0", "100.64.0.99");
    let computed = Shares::Computed { size: 1024, subscribers };
    let shares = computed.clone();
    let m = mappings_of(pool("192.0.2.1", "192.0.2.2"), CARRIER, Pooling::Paired, computed, None);
    for n in [0u32, 1, 62, 63, 99] {
        let address = Ipv4Addr::from_bits(0x6440_0000 + n);
        let share = shares.computed(address, CARRIER).unwrap();
        let all: Vec<_> =
            (1024..5000).map(|port| m.bind(protocol::TCP, End { address, port }, NOW)).collect();
        let ends: Vec<End> = all.iter().flatten().map(|(_, end)| *end).collect();
        assert!(ends.len() > 800, "{} of 1,024", ends.len());
        assert!(all.iter().flatten().count() == ends.len());
        assert!(all.contains(&Err(Exhausted::Subscriber)));
        let expected = Ipv4Addr::new(192, 0, 2, 1 + share.address as u8);
        for end in ends {
            assert_eq!(end.address, expected);
            assert!((share.ports.0..=share.ports.1).contains(&end.port));
        }
    }
    let stranger = End { address: Ipv4Addr::new(100, 64, 1, 0), port: 1 };
    assert_eq!(m.bind(protocol::TCP, stranger, NOW), Err(Exhausted::Pool));
}

#[test]
fn mappings_that_flows_hold_outlive_a_change_of_the_pool() {
    let new = |first: &str, last: &str, before: Option<&Mappings>| {
        mappings_of(pool(first, last), CARRIER, Pooling::Paired, Shares::Common, before)
    };
    let old = new("192.0.2.1", "192.0.2.4", None);
    let held: Vec<_> =
        (0..1000).map(|i| (i, old.bind(protocol::TCP, inside(i), NOW).unwrap())).collect();
    // Grown, shrunk to another part, and as it was.
    for (first, last) in
        [("192.0.2.0", "192.0.2.9"), ("192.0.2.3", "192.0.2.3"), ("192.0.2.1", "192.0.2.4")]
    {
        let changed = new(first, last, Some(&old));
        for (i, (id, outside)) in &held {
            assert_eq!(changed.held_by(*id), Some((*outside, inside(*i))));
            if changed.is_outside(outside.address) {
                assert_eq!(changed.hold(protocol::TCP, *outside), Some((*id, inside(*i))));
                changed.release(*id, NOW);
            }
        }
        // Another flow of an inside end that has a mapping has that.
        for (i, (id, outside)) in &held {
            assert_eq!(changed.bind(protocol::TCP, inside(*i), NOW), Ok((*id, *outside)));
            changed.release(*id, NOW);
        }
        // New ones are of the new pool, and meet no old one.
        let taken: std::collections::HashSet<_> = held.iter().map(|(_, (_, end))| *end).collect();
        for i in 5000..6000 {
            let (id, end) = changed.bind(protocol::TCP, inside(i), NOW).unwrap();
            assert!(changed.is_outside(end.address) && !taken.contains(&end));
            changed.release(id, NOW);
        }
        assert_eq!(changed.in_use(), 1000);
    }
    let last = new("192.0.2.3", "192.0.2.3", Some(&old));
    held.iter().for_each(|(_, (id, _))| last.release(*id, NOW));
    assert_eq!(last.in_use(), 0);
    let after = new("192.0.2.3", "192.0.2.3", Some(&last));
    assert_eq!(after.outsides.iter().flatten().count(), 1, "nobody holds the others");
    let moved = new("198.51.100.0", "198.51.100.9", Some(&after));
    let ids: Vec<_> =
        (0..100).map(|i| moved.bind(protocol::TCP, inside(i), NOW).unwrap().0).collect();
    assert!(ids.iter().all(|id| after.held_by(*id).is_none()), "no number has two meanings");
}
