//! A service without an engine around it: what is decided for which packet.

use nfv_core::chain::key::check_keys;
use nfv_core::chain::value::PortRange;
use nfv_core::clock::Time;
use nfv_core::nf::{PortIndex, Via};
use nfv_core::packet::protocol;

use super::backends::Member;
use super::health::State;
use super::maglev::TableSize;
use super::snat::Source;
use super::*;

const VIP: [u8; 4] = [192, 0, 2, 80];

fn v4([a, b, c, d]: [u8; 4]) -> AddressBytes {
    AddressBytes::of_v4([a, b, c, d])
}

fn lb(count: u8, affinity: Affinity, ids: Option<PlaintextConfig>) -> Lb {
    let member = |i: u8| Member {
        name: format!("web-{i}"),
        weight: 1,
        way: Way::Address {
            end: Endpoint { address: v4([10, 2, 0, i]), port: 8080 },
            port: if i == 0 { Port::Own } else { Port::Same },
        },
        server: Some(u64::from(i)),
    };
    let members = (0..count).map(member).collect();
    let backends = Backends::new(members, TableSize::default(), Arc::default(), None).unwrap();
    Lb {
        service: Service {
            addresses: [(L3::Ipv4, v4(VIP))].into(),
            ports: PortRange::new(80, 81).unwrap(),
            protocol: if ids.is_some() { protocol::UDP } else { protocol::TCP },
        },
        affinity,
        ids,
        key: [1, 2],
        backends: Arc::new(backends),
        snat: None,
        held: None,
    }
}

/// From a client's address and port to port 80.
fn packet(client: u8, sport: u16) -> Headers {
    Headers {
        kind: L3::Ipv4,
        protocol: protocol::TCP,
        src: v4([198, 51, 100, client]),
        dst: v4(VIP),
        sport,
        dport: 80,
        ..Headers::default()
    }
}

fn ask(lb: &Lb, h: &Headers, upper: &[u8], state: FlowStage, kept: &mut Kept) -> Decision {
    let (in_port, direction, now) = (PortIndex(0), Direction::Forward, Time(0));
    let view = FlowView { headers: h, upper, in_port, direction, now, state };
    lb.decide(&view, 0, kept, &mut ())
}

/// Where the first packet of a flow goes.
fn first(lb: &Lb, h: &Headers) -> (Endpoint, Kept) {
    let mut kept = Kept { backend: 0, port: 0 };
    let decision = ask(lb, h, &[], FlowStage::First, &mut kept);
    let Decision::Forward(Forward { rewrite, via: Via::Chain, .. }) = decision else {
        panic!("{decision:?}")
    };
    (rewrite.dst.unwrap(), kept)
}

#[test]
fn the_keys_are_sound() {
    assert_eq!(check_keys(KIND.keys), Ok(()));
}

#[test]
fn a_flow_goes_to_the_same_backend_each_time_and_flows_to_all() {
    let lb = lb(3, Affinity::None, None);
    let mut counts = [0; 3];
    for sport in 1..=3000 {
        let (end, _) = first(&lb, &packet(1, sport));
        assert_eq!(first(&lb, &packet(1, sport)).0, end);
        counts[usize::from(end.address.v4()[3])] += 1;
        let own = end.address == v4([10, 2, 0, 0]);
        assert_eq!(end.port, if own { 8080 } else { 80 }, "one has a port of its own");
    }
    assert!(counts.iter().all(|n| (900..1100).contains(n)), "{counts:?}");
}

#[test]
fn a_source_stays_at_one_backend_when_that_is_asked_for() {
    let lb = lb(10, Affinity::Source, None);
    for client in 0..20 {
        let one = first(&lb, &packet(client, 1)).0;
        assert!((2..50).all(|sport| first(&lb, &packet(client, sport)).0 == one));
    }
    let all: std::collections::HashSet<_> =
        (0..200).map(|client| first(&lb, &packet(client, 1)).0).collect();
    assert!(all.len() > 5, "{}", all.len());
}

#[test]
fn packets_that_are_not_for_the_service_pass() {
    let lb = lb(2, Affinity::None, None);
    let mut kept = Kept { backend: 0, port: 0 };
    for (what, h) in [
        ("another port", Headers { dport: 82, ..packet(1, 1) }),
        ("another protocol", Headers { protocol: protocol::UDP, ..packet(1, 1) }),
        ("another address", Headers { dst: v4([192, 0, 2, 81]), ..packet(1, 1) }),
        ("another family", Headers { kind: L3::Ipv6, ..packet(1, 1) }),
    ] {
        assert_eq!(ask(&lb, &h, &[], FlowStage::First, &mut kept), Decision::PASS, "{what}");
    }
    assert_eq!(kept.backend, 0);
}

#[test]
fn a_flow_keeps_its_backend_until_that_is_down() {
    let lb = lb(4, Affinity::None, None);
    let flows: Vec<(Headers, Endpoint, Kept)> = (1..500)
        .map(|sport| {
            let h = packet(1, sport);
            let (end, kept) = first(&lb, &h);
            (h, end, kept)
        })
        .collect();
    lb.backends.set_health(2, State::Down);
    let mut lost = 0;
    for (h, end, kept) in &flows {
        let mut kept = *kept;
        let decision = ask(&lb, h, &[], FlowStage::Again, &mut kept);
        let Decision::Forward(Forward { rewrite, .. }) = decision else { panic!("{decision:?}") };
        let stays = rewrite.dst == Some(*end);
        assert_eq!(stays, end.address != v4([10, 2, 0, 2]), "0 % of the others move");
        lost += u32::from(!stays);
    }
    assert!(lost > 50, "control: some flows were its");
}

#[test]
fn flows_are_counted_where_they_are() {
    let lb = lb(2, Affinity::None, None);
    let read = || (lb.backends.handles()[0].read)();
    let h = packet(1, 1);
    let (end, mut kept) = first(&lb, &h);
    let at = end.address.v4()[3];
    assert!(read().contains(&format!("web-{at} up 1 1")), "{}", read());
    lb.backends.set_health(usize::from(at), State::Down);
    let _ = ask(&lb, &h, &[], FlowStage::Again, &mut kept);
    assert!(read().contains(&format!("web-{at} down 1 0")), "{}", read());
    assert!(read().contains(&format!("web-{} up 1 1", 1 - at)), "{}", read());
    lb.release(&kept, &mut (), Time(0));
    assert!(read().contains(&format!("web-{} up 1 0", 1 - at)), "{}", read());
}

#[test]
fn without_a_backend_that_is_up_a_packet_is_dropped() {
    let lb = lb(1, Affinity::None, None);
    let (_, mut kept) = first(&lb, &packet(1, 1));
    lb.backends.set_health(0, State::Down);
    for state in [FlowStage::First, FlowStage::Again] {
        let decision = ask(&lb, &packet(1, 1), &[], state, &mut kept);
        assert_eq!(decision, Decision::Drop { why: NO_BACKEND, rule: None });
    }
}

#[test]
fn a_quic_packet_goes_to_the_backend_that_its_connection_id_names() {
    let lb = lb(8, Affinity::None, Some(PlaintextConfig { rotation: 0, length: 1 }));
    let h = Headers { protocol: protocol::UDP, ..packet(1, 1) };
    let goes = |quic: &[u8]| {
        let udp = [&[0; 8][..], quic].concat();
        let decision = ask(&lb, &h, &udp, FlowStage::First, &mut Kept { backend: 0, port: 0 });
        let Decision::Forward(Forward { rule, .. }) = decision else { panic!("{decision:?}") };
        rule.unwrap()
    };
    for server in 0..8 {
        // A short header: the id's first byte, the server, a nonce.
        assert_eq!(goes(&[0x40, 0x05, server, 1, 2, 3, 4]), u32::from(server));
        let long = [0xc0, 0, 0, 0, 1, 7, 0x05, server, 1, 2, 3, 4, 5];
        assert_eq!(goes(&long), u32::from(server));
    }
    let by_hash = goes(&[]);
    assert_eq!(goes(&[0x40, 0x05, 99, 1]), by_hash, "nobody has that server id");
    assert_eq!(goes(&[0x40, 0x25, 3, 1]), by_hash, "an id of another rotation");
    lb.backends.set_health(3, State::Down);
    assert_ne!(goes(&[0x40, 0x05, 3, 1]), 3, "who is down gets nothing");
}

/// With 40000-40007 for the first backend, 40008-40015 for the second.
fn with_ranges(mut lb: Lb) -> Lb {
    let ranges = [40_000, 40_008].map(|first| PortRange::new(first, first + 7).unwrap());
    let held = Arc::new(Held::new());
    let backends = (0..2u16).zip(ranges).map(|(at, r)| (v4([10, 2, 0, at as u8]), at, Some(r)));
    let source = Source::new((L3::Ipv4, v4(VIP)), backends, held.clone());
    lb.snat = Some(Arc::new(Snat::new(ranges.into_iter().zip(0..), Some(source))));
    lb.held = Some(held);
    lb
}

/// From a backend to somebody outside.
fn outward(backend: u8, sport: u16) -> Headers {
    Headers {
        src: v4([10, 2, 0, backend]),
        dst: v4([198, 51, 100, 1]),
        dport: 443,
        ..packet(1, sport)
    }
}

fn rewritten(lb: &Lb, h: &Headers, state: FlowStage, kept: &mut Kept) -> (Rewrite, Via) {
    match ask(lb, h, &[], state, kept) {
        Decision::Forward(Forward { rewrite, via, .. }) => (rewrite, via),
        refused => panic!("{refused:?}"),
    }
}

#[test]
fn what_a_backend_begins_leaves_by_the_virtual_address_with_a_port_of_its_range() {
    let lb = with_ranges(lb(2, Affinity::None, None));
    let mut all = Vec::new();
    for sport in 0..8 {
        let mut kept = Kept { backend: 0, port: 0 };
        let h = outward(1, sport);
        let (rewrite, _) = rewritten(&lb, &h, FlowStage::First, &mut kept);
        let src = rewrite.src.unwrap();
        assert!(src.address == v4(VIP) && (40_008..=40_015).contains(&src.port), "{src:?}");
        assert_eq!(rewrite.dst, None);
        let again = rewritten(&lb, &h, FlowStage::Again, &mut kept);
        assert_eq!(again.0, rewrite, "a flow keeps its port");
        all.push(kept);
    }
    let mut more = Kept { backend: 0, port: 0 };
    let decision = ask(&lb, &outward(1, 9), &[], FlowStage::First, &mut more);
    assert_eq!(decision, Decision::Drop { why: SNAT_EXHAUSTED, rule: None });
    let other = rewritten(&lb, &outward(0, 9), FlowStage::First, &mut Kept { backend: 0, port: 0 });
    assert!((40_000..=40_007).contains(&other.0.src.unwrap().port), "the other one has its own");
    lb.release(&all[0], &mut (), Time(0));
    let next = rewritten(&lb, &outward(1, 9), FlowStage::First, &mut more);
    assert_eq!(HeldPort::of(all[0].port), HeldPort::of(more.port), "{next:?}");
}

#[test]
fn an_answer_that_is_of_no_flow_says_so_where_the_box_chose_the_port() {
    let lb = with_ranges(lb(2, Affinity::None, None));
    let mut kept = Kept { backend: 0, port: 0 };
    let to = |dport| Headers { dport, ..packet(1, 443) };
    let decision = ask(&lb, &to(40_009), &[], FlowStage::First, &mut kept);
    assert_eq!(decision, Decision::Drop { why: NO_MAPPING, rule: None });
    assert_eq!(ask(&lb, &to(40_016), &[], FlowStage::First, &mut kept), Decision::PASS);
}

#[test]
fn an_answer_finds_its_backend_by_the_range_where_that_chose_the_port_itself() {
    let mut lb = lb(2, Affinity::None, None);
    let station = |at| Via::Station([2, 0, 0, 0, 0, at]);
    let member = |at| Member {
        name: format!("web-{at}"),
        weight: 1,
        way: Way::Via(station(at)),
        server: None,
    };
    let members = vec![member(0), member(1)];
    lb.backends =
        Arc::new(Backends::new(members, TableSize::default(), Arc::default(), None).unwrap());
    let ranges = [40_000, 40_008].map(|first| PortRange::new(first, first + 7).unwrap());
    lb.snat = Some(Arc::new(Snat::new(ranges.into_iter().zip(0..), None)));
    lb.backends.set_health(1, State::Down);
    let mut kept = Kept { backend: 0, port: 0 };
    for (dport, expected) in
        [(40_000, station(0)), (40_007, station(0)), (40_015, station(1)), (40_016, Via::Chain)]
    {
        let h = Headers { dport, ..packet(1, 443) };
        let (rewrite, via) = rewritten(&lb, &h, FlowStage::First, &mut kept);
        assert_eq!((rewrite, via), (Rewrite::default(), expected), "{dport}");
    }
    assert_eq!((kept.backend, kept.port), (0, 0), "nothing is kept for it");
}

#[test]
fn a_backend_reaches_the_service_by_the_box_both_ways() {
    let lb = with_ranges(lb(2, Affinity::None, None));
    let h = Headers { dst: v4(VIP), dport: 80, ..outward(1, 7) };
    let mut kept = Kept { backend: 0, port: 0 };
    let (rewrite, via) = rewritten(&lb, &h, FlowStage::First, &mut kept);
    assert_eq!(via, Via::Back);
    assert_eq!(rewrite.src.unwrap().address, v4(VIP));
    assert_eq!(rewrite.dst.unwrap().address.v4()[..3], [10, 2, 0]);
    assert!(kept.backend != 0 && kept.port != 0);
}
