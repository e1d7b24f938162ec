use super::*;
use crate::chain::value::{Prefix, Scalar};
use crate::offload::{AnyNic, Fate, L4Item, Pattern, PortItem};

/// A NIC without a port: it can be shown frames.
fn nic(lie: Option<Lie>) -> EmulatedNic {
    let lie = lie.map(|lie| (lie, LiedTo::All));
    let port = RingPort { into: Vec::new(), out: Vec::new() };
    EmulatedNic::new(Box::new(AnyNic::new(4)), 4, port, lie).0
}

fn udp(src: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let mut frame = [[2; 6], [4; 6]].concat();
    // IPv4, 20 + 8 + 4 bytes, identification 0, no fragment, TTL 64, UDP, no checksum.
    frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([src, [10, 0, 0, 2]].concat());
    frame.extend([sport, dport, 12, 0].map(u16::to_be_bytes).concat());
    frame.extend(b"data");
    frame
}

fn to_port(dport: PortItem, fate: Fate, mark: Option<u32>) -> NicRule {
    let l4 = L4Item::Udp { sport: PortItem::Any, dport };
    let pattern = Pattern { vlan: None, is_ipv6: false, src: None, dst: None, l4 };
    NicRule { pattern, priority: 0, mark, count: false, fate }
}

fn probe(nic: &EmulatedNic, frame: &[u8]) -> Met {
    nic.probe(frame).unwrap()
}

#[test]
fn a_rule_tags_steers_and_drops_what_it_names_until_it_is_removed() {
    let mut nic = nic(None);
    let dropping = nic.install(&to_port(PortItem::Range(10, 20), Fate::Drop, None)).unwrap();
    nic.install(&to_port(PortItem::Masked { value: 53, mask: u16::MAX }, Fate::Queue(3), Some(7)))
        .unwrap();
    let frame = |dport| udp([10, 0, 0, 1], 1000, dport);
    assert_eq!(probe(&nic, &frame(10)), Met::Dropped);
    assert_eq!(probe(&nic, &frame(20)), Met::Dropped);
    assert_eq!(probe(&nic, &frame(53)), Met::Passed { queue: 3, mark: Some(7) });
    assert!(matches!(probe(&nic, &frame(21)), Met::Passed { mark: None, .. }));
    nic.remove(dropping).unwrap();
    assert!(matches!(probe(&nic, &frame(10)), Met::Passed { mark: None, .. }));
    assert!(nic.remove(dropping).is_err(), "it is gone");
    nic.flush().unwrap();
    assert!(matches!(probe(&nic, &frame(53)), Met::Passed { mark: None, .. }));
    assert_eq!(nic.flushes(), 1);
}

#[test]
fn of_two_rules_that_of_the_lower_priority_number_acts() {
    let mut nic = nic(None);
    let first = NicRule { priority: 1, ..to_port(PortItem::Any, Fate::Drop, None) };
    nic.install(&first).unwrap();
    let dport = PortItem::Masked { value: 53, mask: u16::MAX };
    nic.install(&to_port(dport, Fate::Rss, Some(9))).unwrap();
    assert!(matches!(probe(&nic, &udp([1; 4], 1, 53)), Met::Passed { mark: Some(9), .. }));
    assert_eq!(probe(&nic, &udp([1; 4], 1, 54)), Met::Dropped);
}

#[test]
fn a_fragment_meets_no_rule() {
    let mut nic = nic(None);
    nic.install(&to_port(PortItem::Any, Fate::Drop, None)).unwrap();
    let mut frame = udp([10, 0, 0, 1], 1, 2);
    assert_eq!(probe(&nic, &frame), Met::Dropped);
    // More fragments follow.
    frame[20] |= 0x20;
    assert!(matches!(probe(&nic, &frame), Met::Passed { mark: None, .. }));
}

#[test]
fn an_address_is_compared_as_far_as_its_prefix_goes() {
    let mut nic = nic(None);
    let mut rule = to_port(PortItem::Any, Fate::Drop, None);
    rule.pattern.src = Some(Prefix::parse("10.0.0.0/23").unwrap());
    nic.install(&rule).unwrap();
    assert_eq!(probe(&nic, &udp([10, 0, 1, 255], 1, 2)), Met::Dropped);
    assert!(matches!(probe(&nic, &udp([10, 0, 2, 0], 1, 2)), Met::Passed { .. }));
    rule.pattern.is_ipv6 = true;
    assert!(nic.install(&rule).is_err(), "no packet has both families");
}

#[test]
fn the_table_sends_each_part_of_the_hash_where_it_says() {
    let mut nic = nic(None);
    let frames: Vec<_> = (0..200).map(|port| udp([10, 0, 0, 1], port, 53)).collect();
    let queues = |nic: &EmulatedNic| -> Vec<u16> {
        let queue = |frame: &Vec<u8>| match probe(nic, frame) {
            Met::Passed { queue, .. } => queue,
            Met::Dropped => panic!("no rule drops"),
        };
        frames.iter().map(queue).collect()
    };
    let spread = queues(&nic);
    assert!((0..4).all(|queue| spread.contains(&queue)), "{spread:?}");
    nic.set_table(&[2; 128]).unwrap();
    assert!(queues(&nic).iter().all(|queue| *queue == 2));
    assert!(nic.set_table(&[4; 128]).is_err(), "there is no such queue");
    assert!(nic.set_table(&[0; 64]).is_err());
}

#[test]
fn the_hash_is_toeplitz_by_the_key_that_the_nic_has() {
    let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
    assert_eq!(decide::toeplitz(&FACTORY_KEY, input.iter()), 0x51cc_c178);
}

#[test]
fn a_nic_that_lies_takes_a_rule_and_does_another_thing() {
    let dport = PortItem::Masked { value: 53, mask: u16::MAX };
    let frame = udp([10, 0, 0, 1], 1, 53);
    for (lie, seen) in [(None, Some(6)), (Some(Lie::Mark), None), (Some(Lie::Tag), Some(7))] {
        let mut nic = nic(lie);
        nic.install(&to_port(dport, Fate::Queue(0), Some(6))).unwrap();
        assert_eq!(probe(&nic, &frame), Met::Passed { queue: 0, mark: seen });
    }
    let mut nic = nic(Some(Lie::Match));
    nic.install(&to_port(dport, Fate::Drop, None)).unwrap();
    assert!(matches!(probe(&nic, &frame), Met::Passed { .. }));
}
