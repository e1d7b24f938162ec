use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::flow::key::Tuple;

fn flow(i: u32) -> Entry<[u8; 4]> {
    let mut entry = Entry::new_zeroed();
    let tuple =
        Tuple { src: i.to_be_bytes(), dst: [192, 0, 2, 1], sport: 1, dport: (i % 7) as u16 };
    entry.tuples = [tuple, tuple.turned()];
    entry.protocol = 17;
    entry
}

#[test]
fn both_sides_lead_to_the_flow_and_it_grows_bucket_by_bucket() {
    let mut table = Table::<[u8; 4]>::new(300_000, Secret::random()).unwrap();
    for i in 0..300_000 {
        table.insert(flow(i)).unwrap();
    }
    assert_eq!(table.insert(flow(300_000)), Err(NotKept::Full));
    for i in (0..300_000).step_by(7) {
        let there = table.look_up(&flow(i).key(Side::First));
        let back = table.look_up(&flow(i).key(Side::Answer));
        assert_eq!((there.side(), back.side()), (Side::First, Side::Answer));
        assert_eq!(there.entry(), back.entry());
        assert_eq!(table.get(there.entry()).unwrap().tuples, flow(i).tuples);
    }
    let buckets = table.mask + 1 + table.split;
    assert!((62_000..70_000).contains(&buckets), "{buckets}");
    assert!((table.fresh_more as usize) < buckets / 4, "{} of {buckets}", table.fresh_more);
}

#[test]
fn a_flow_that_has_another_ones_key_is_refused_and_a_mirrored_one_is_kept_once() {
    let mut table = Table::<[u8; 4]>::new(10, Secret::random()).unwrap();
    table.insert(flow(1)).unwrap();
    assert_eq!(table.insert(flow(1)), Err(NotKept::Clash));
    let mut nat = flow(2);
    nat.tuples[1] = flow(1).tuples[1];
    assert_eq!(table.insert(nat), Err(NotKept::Clash));
    let same = Tuple { src: [1; 4], dst: [1; 4], sport: 5, dport: 5 };
    let land = Entry { tuples: [same, same], ..flow(3) };
    let number = table.insert(land).unwrap();
    assert_eq!(table.references, 3);
    table.remove(number).unwrap();
    assert_eq!((table.references, table.len()), (2, 1));
    assert!(!table.look_up(&land.key(Side::First)).is_some());
}

#[test]
fn a_full_table_takes_a_new_flow_for_each_that_ends_for_ever() {
    let mut table = Table::<[u8; 4]>::new(1000, Secret::random()).unwrap();
    let mut numbers: std::collections::VecDeque<u32> =
        (0..1000).map(|i| table.insert(flow(i)).unwrap()).collect();
    for i in 1000..200_000 {
        table.remove(numbers.pop_front().unwrap()).unwrap();
        numbers.push_back(table.insert(flow(i)).unwrap());
    }
    let buckets = table.mask + 1 + table.split;
    assert!((table.fresh_more as usize) < buckets, "{} of {buckets}", table.fresh_more);
}

proptest! {
    #[test]
    fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..600), 1..3000)) {
        let mut table = Table::<[u8; 4]>::new(400, Secret::random()).unwrap();
        let mut model: HashMap<u32, u32> = HashMap::new();
        for (add, i) in steps {
            match (add, model.get(&i).copied()) {
                (true, None) if model.len() < 400 => {
                    model.insert(i, table.insert(flow(i)).unwrap());
                }
                (true, None) => prop_assert_eq!(table.insert(flow(i)), Err(NotKept::Full)),
                (true, Some(_)) if model.len() < 400 => {
                    prop_assert_eq!(table.insert(flow(i)), Err(NotKept::Clash));
                }
                (false, Some(number)) => {
                    prop_assert_eq!(table.remove(number).unwrap().tuples, flow(i).tuples);
                    model.remove(&i);
                }
                _ => {}
            }
        }
        prop_assert_eq!(table.len() as usize, model.len());
        let used = |n: &u32| table.get(*n).is_some_and(|e| e.is(flag::USED));
        prop_assert_eq!((1..table.end()).filter(used).count(), model.len());
        let keys: Vec<_> = (0..600).map(|i| flow(i).key(Side::Answer)).collect();
        for (chunk, keys) in keys.chunks(BURST_MAX).enumerate() {
            let mut found = [FlowRef::NONE; BURST_MAX];
            table.look_up_burst(keys, &mut found);
            for (j, found) in found.iter().take(keys.len()).enumerate() {
                let i = (chunk * BURST_MAX + j) as u32;
                prop_assert_eq!(found.is_some().then(|| found.entry()), model.get(&i).copied());
            }
        }
    }
}
