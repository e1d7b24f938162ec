use std::collections::HashMap;

use nfv_core::chain::value::{AddressRange, Scalar};
use proptest::prelude::*;

use super::*;

fn mappings(ranges: &[&str], ports: (u16, u16), pooling: Pooling) -> Mappings {
    let range = |r: &&str| AddressRange::parse(r).unwrap();
    let pool = Ranges::of(ranges.iter().map(range).map(|r| (r.first(), r.last())));
    Mappings::new(pool, ports, pooling).unwrap()
}

fn inside(i: u32) -> End {
    End { address: Ipv4Addr::from_bits(0x0a00_0000 + i / 100), port: 1024 + (i % 100) as u16 }
}

#[test]
fn an_inside_end_has_one_outside_end_of_its_class_until_its_last_flow_ends() {
    let m = mappings(&["203.0.113.1", "203.0.113.8-203.0.113.9"], (1024, 65_535), Pooling::Paired);
    let mut seen = HashMap::new();
    for i in 0..5_000 {
        let (id, outside) = m.bind(protocol::TCP, inside(i)).unwrap();
        assert!(outside.port >= 1024 && m.is_outside(outside.address));
        assert_eq!(
            class_of_end(outside.address, outside.port),
            class_of_end(inside(i).address, inside(i).port)
        );
        assert_eq!(seen.insert((outside.address, outside.port), i), None);
        assert_eq!(m.held_by(id), Some((outside, inside(i))));
        // A second flow, and one from outside.
        assert_eq!(m.bind(protocol::TCP, inside(i)), Some((id, outside)));
        assert_eq!(m.hold(protocol::TCP, outside), Some((id, inside(i))));
        assert_eq!(m.hold(protocol::UDP, outside), None);
        assert_eq!(MappingId::of(id.number()), Some(id));
        (0..2).for_each(|_| m.release(id));
    }
    assert_eq!(m.in_use(), 5_000);
    for (address, i) in &seen {
        let (id, _) = m.bind(protocol::TCP, inside(*i)).unwrap();
        (0..2).for_each(|_| m.release(id));
        assert_eq!(m.hold(protocol::TCP, End { address: address.0, port: address.1 }), None);
    }
    assert_eq!(m.in_use(), 0);
}

#[test]
fn one_inside_address_has_one_outside_address_when_they_are_paired() {
    let m = mappings(&["203.0.113.0/28"], (1024, 65_535), Pooling::Paired);
    let of = |a: u32| (1024..1100).map(move |port| End { address: Ipv4Addr::from_bits(a), port });
    for a in 0..50 {
        let all: Vec<_> = of(a).map(|e| m.bind(protocol::UDP, e).unwrap().1.address).collect();
        assert!(all.iter().all(|x| *x == all[0]));
    }
}

#[test]
fn a_pool_that_is_used_up_says_so_and_its_ports_come_back() {
    let m = mappings(&["203.0.113.1-203.0.113.2"], (60_000, 60_999), Pooling::Arbitrary);
    let all: Vec<_> = (0..40_000).filter_map(|i| m.bind(protocol::UDP, inside(i))).collect();
    // Each class has its part of the ports; all parts are used to the last.
    assert_eq!(all.len(), 2_000);
    all.iter().for_each(|(id, _)| m.release(*id));
    assert_eq!(m.in_use(), 0);
    let again = (40_000..80_000).filter_map(|i| m.bind(protocol::UDP, inside(i))).count();
    assert_eq!(again, 2_000);
}

#[test]
fn workers_that_bind_one_inside_end_at_once_get_one_mapping() {
    let m = mappings(&["192.0.2.1-192.0.2.2"], (1024, 65_535), Pooling::Arbitrary);
    for round in 0..200 {
        // Others come and go, so that places before the one in question become free in between.
        let bound: Vec<_> = std::thread::scope(|scope| {
            let worker = |w: u32| {
                let m = &m;
                move || {
                    let mut own = Vec::new();
                    for i in 0..64 {
                        let other = m.bind(protocol::TCP, inside(1_000 * w + i)).unwrap().0;
                        own.push(m.bind(protocol::TCP, inside(100_000 + round * 64 + i)));
                        m.release(other);
                    }
                    own
                }
            };
            let all: Vec<_> = (1..=3).map(|w| scope.spawn(worker(w))).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (i, first) in bound[0].iter().enumerate() {
            assert!(first.is_some());
            assert!(bound.iter().all(|own| own[i] == *first), "{bound:?}");
        }
        bound.iter().flatten().flatten().for_each(|(id, _)| m.release(*id));
    }
    assert_eq!(m.in_use(), 0);
}

#[test]
fn an_end_that_is_reserved_is_never_given() {
    let mut m = mappings(&["192.0.2.1"], (2000, 2999), Pooling::Paired);
    let everywhere = End { address: Ipv4Addr::UNSPECIFIED, port: 2600 };
    m.reserve(protocol::TCP, everywhere);
    let reserved = End { address: Ipv4Addr::new(192, 0, 2, 1), port: 2500 };
    m.reserve(protocol::TCP, reserved);
    let all: Vec<_> = (0..40_000).filter_map(|i| m.bind(protocol::TCP, inside(i))).collect();
    assert_eq!(all.len(), 998);
    assert!(all.iter().all(|(_, outside)| *outside != reserved && outside.port != 2600));
    assert_eq!(m.hold(protocol::TCP, reserved), None);
    let other = (0..40_000).filter_map(|i| m.bind(protocol::UDP, inside(i))).count();
    assert_eq!(other, 1000, "of one protocol only");
}

#[test]
fn what_was_released_too_often_is_no_ones_harm() {
    let m = mappings(&["192.0.2.1"], (1024, 65_535), Pooling::Paired);
    let (id, outside) = m.bind(protocol::TCP, inside(1)).unwrap();
    (0..3).for_each(|_| m.release(id));
    assert_eq!(m.in_use(), 0);
    assert_eq!(m.bind(protocol::TCP, inside(1)), Some((id, outside)), "the port is kept");
    assert_eq!(m.in_use(), 1);
    m.release(MappingId(u32::MAX));
    assert_eq!(m.held_by(MappingId(u32::MAX)), None);
}

proptest! {
    #[test]
    fn it_is_a_map_of_counts(steps in prop::collection::vec((any::<bool>(), 0u32..60), 1..400)) {
        let m = mappings(&["192.0.2.1"], (1024, 65_535), Pooling::Paired);
        let mut model: HashMap<u32, Vec<MappingId>> = HashMap::new();
        for (add, i) in steps {
            let held = model.entry(i).or_default();
            if add {
                let (id, _) = m.bind(protocol::ICMP, inside(i)).unwrap();
                prop_assert!(held.first().is_none_or(|first| *first == id));
                held.push(id);
            } else if let Some(id) = held.pop() {
                m.release(id);
            }
        }
        prop_assert_eq!(m.in_use() as usize, model.values().filter(|held| !held.is_empty()).count());
    }
}
