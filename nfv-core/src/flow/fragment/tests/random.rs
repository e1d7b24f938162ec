//! Fragments in any order, and any fragments.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a hostile sender does next.
#[derive(Clone, Debug)]
enum Move {
    First { id: u32, length: u32, last: bool },
    Later { id: u32, offset: u32, length: u32, last: bool, bytes: u32 },
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    let id = 0..12u32;
    let length =
        prop_oneof![6 => (0..6u32).prop_map(|n| n * 8), 1 => 0..70_000u32, 1 => any::<u32>()];
    let offset =
        prop_oneof![8 => (0..40u32).prop_map(|n| n * 8), 1 => 65_400..65_600u32, 1 => any::<u32>()];
    let end = prop::bool::weighted(0.15);
    prop_oneof![
        2 => (id.clone(), length.clone(), end)
            .prop_map(|(id, length, last)| Move::First { id, length, last }),
        6 => (id, offset, length, end, 0..2_000u32).prop_map(|(id, offset, length, last, bytes)| {
            Move::Later { id, offset, length, last, bytes }
        }),
        1 => prop_oneof![0..SECOND / 4, 0..40 * SECOND].prop_map(Move::Wait),
    ]
}

proptest! {
    #[test]
    fn in_any_order_a_datagram_comes_out_whole_and_once(
        sizes in prop::collection::vec(1..4u32, 1..15),
        tail in 1..9u32,
        shuffle in prop::collection::vec(any::<u32>(), 16),
        v6: bool,
    ) {
        let mut at = 0;
        let mut extents = Vec::new();
        for size in sizes {
            extents.push(more(at, size * 8));
            at += size * 8;
        }
        extents.push(last(at, tail));
        let mut order: Vec<usize> = (0..extents.len()).collect();
        order.sort_by_key(|&i| shuffle[i]);

        let mut rig = Rig::new(Limits::default());
        rig.key = if v6 { ipv6(9) } else { key(9) };
        let mut passed = Vec::new();
        for i in order {
            let packet = u32::try_from(i).unwrap();
            if i == 0 {
                prop_assert_eq!(rig.first(extents[0]), Ok(()));
                passed.push(0);
                for (packet, fate) in rig.out() {
                    prop_assert_eq!(fate, Ok('c'));
                    passed.push(packet);
                }
                continue;
            }
            match rig.later(extents[i], packet) {
                Later::Follows(packet, 'c') => passed.push(packet),
                Later::Held => prop_assert!(passed.is_empty()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(passed.first(), Some(&0), "nobody passes before the first");
        passed.sort_unstable();
        prop_assert!(passed.iter().map(|&p| p as usize).eq(0..extents.len()));
        prop_assert_eq!(rig.holds(), (0, 0, 0));
        prop_assert_eq!(rig.out(), vec![]);
    }

    #[test]
    fn of_hostile_fragments_each_comes_out_once_and_what_is_held_is_counted(
        moves in prop::collection::vec(moves(), 0..400),
        datagrams in 1..10usize, held_packets in 0..20usize, held_of_one in 1..20usize,
        held_bytes in 0..20_000usize,
    ) {
        let limits =
            Limits { datagrams, held_packets, held_bytes, held_of_one, ..Limits::default() };
        let mut pens = Pens::new(limits, SECRET);
        let mut now = 0;
        // Bytes of those that are held.
        let mut held = BTreeMap::new();
        let mut given = 0u32;
        for step in moves {
            let mut out = Vec::new();
            match step {
                Move::Wait(time) => {
                    now += time;
                    pens.expire(now, &mut |p, _| out.push(p));
                }
                Move::First { id, length, last } => {
                    let extent = Extent { offset: 0, length, last };
                    let _ = pens.first(&key(id), extent, 8, 'c', now, &mut |p, _| out.push(p));
                }
                Move::Later { id, offset, length, last, bytes } => {
                    let extent = Extent { offset, length, last };
                    given += 1;
                    held.insert(given, bytes as usize);
                    let dropped = &mut |p, _| out.push(p);
                    match pens.later(&key(id), extent, given, bytes, now, dropped) {
                        Later::Held => {}
                        Later::Follows(p, 'c') | Later::Refused(p, _) => out.push(p),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            for packet in out {
                prop_assert!(held.remove(&packet).is_some(), "{} came out twice", packet);
            }
            pens.table.assert_sound();
            prop_assert_eq!(pens.held_packets(), held.len());
            prop_assert_eq!(pens.held_bytes(), held.values().sum::<usize>());
            prop_assert!(held.len() <= held_packets && pens.held_bytes() <= held_bytes);
            prop_assert!(pens.datagrams() <= datagrams);
        }
        pens.drain(&mut |p, _| assert!(held.remove(&p).is_some()));
        prop_assert!(held.is_empty());
        prop_assert_eq!((pens.datagrams(), pens.held_packets(), pens.held_bytes()), (0, 0, 0));
    }

    #[test]
    fn what_passes_of_one_datagram_never_overlaps_and_has_one_end(
        pieces in prop::collection::vec((0..12u32, 1..6u32, prop::bool::weighted(0.2)), 1..60),
    ) {
        let mut rig = Rig::new(Limits::default());
        let mut passed: Vec<Extent> = Vec::new();
        let extents: Vec<Extent> = pieces
            .iter()
            .map(|&(offset, length, last)| Extent { offset: offset * 8, length: length * 8, last })
            .collect();
        for (i, &extent) in extents.iter().enumerate() {
            // The datagram is whole, and the next one begins.
            if rig.holds().0 == 0 {
                passed.clear();
            }
            if extent.offset == 0 {
                if rig.first(extent).is_ok() {
                    passed.push(extent);
                }
            } else if let Later::Follows(..) = rig.later(extent, u32::try_from(i).unwrap()) {
                passed.push(extent);
            }
            for (packet, fate) in rig.out() {
                if fate.is_ok() {
                    passed.push(extents[packet as usize]);
                }
            }
            let ends: BTreeSet<u32> =
                passed.iter().filter(|e| e.last).map(|e| e.offset + e.length).collect();
            prop_assert!(ends.len() <= 1);
            for (n, a) in passed.iter().enumerate() {
                prop_assert!(ends.iter().all(|&end| a.offset + a.length <= end));
                for b in &passed[n + 1..] {
                    prop_assert!(a.offset + a.length <= b.offset || b.offset + b.length <= a.offset);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        mut frame in prop::collection::vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        chain in prop_oneof![Just(44u8), Just(0), Just(60), Just(51)],
        l3 in 0..60usize, l3_end in 0..300usize,
    ) {
        if let Some(byte) = frame.get_mut(l3) {
            *byte = version;
        }
        if let Some(byte) = frame.get_mut(l3 + 6) {
            *byte = chain;
        }
        if let Some((_, extent, _)) = read(&frame, l3, l3_end) {
            prop_assert!(extent.length as usize <= l3_end - l3);
            prop_assert!(extent.offset <= 65_528 && (extent.offset != 0 || !extent.last));
        }
    }
}
