use std::collections::HashMap;
use std::net::Ipv4Addr;

use nfv_core::flow::SHARDS;
use nfv_core::nf::{Direction, PortIndex};
use nfv_core::packet::{end_word, word_hash};
use proptest::prelude::*;
use zerocopy::FromZeros;

use super::layout::Pooling;
use super::log::Log;
use super::mappings::Plot;
use super::shares::Shares;
use super::statics::Listens;
use super::*;

fn end(text: &str) -> End {
    let (address, port) = text.split_once(':').unwrap();
    End { address: address.parse().unwrap(), port: port.parse().unwrap() }
}

/// Another word every time.
fn random() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(1) | 1
}

/// Inside: 10.0.0.0/8; pool: 192.0.2.1-192.0.2.2 with these ports.
fn nat_of(ports: (u16, u16), filtering: Filtering) -> Nat {
    let range = |a: &str, b: &str| Ranges::of([(a.parse().unwrap(), b.parse().unwrap())]);
    let plot = Plot {
        pool: range("192.0.2.1", "192.0.2.2"),
        ports,
        pooling: Pooling::Paired,
        shares: Shares::Common,
        log: Arc::new(Log::not_kept()),
        secret: random(),
    };
    let mut mappings = Mappings::new(plot, None).unwrap();
    let mut forwards = Forwards::default();
    forwards.add(protocol::TCP, Listens::Pool, 8080, end("10.0.0.80:80"));
    forwards.ends().for_each(|(proto, end)| mappings.reserve(proto, end));
    let mut one_to_one = OneToOne::default();
    one_to_one.add(end("192.0.2.20:0").address, end("10.0.0.20:0").address, 1);
    let prefixes =
        PrefixPair::new("fd01:203:405::/48".parse().unwrap(), "2001:db8:1::/48".parse().unwrap());
    Nat {
        internal: range("10.0.0.0", "10.255.255.255"),
        mappings: mappings.into(),
        forwards,
        one_to_one,
        prefixes: prefixes.into_iter().collect(),
        filtering,
        hairpin: Hairpin::On,
        limit: None,
    }
}

fn nat() -> Nat {
    nat_of((1024, 65_535), Filtering::AddressAndPort)
}

/// A flow that was let through: both ends as they left, and what it holds.
#[derive(Clone, Copy, Debug)]
struct Flow {
    src: End,
    dst: End,
    via: Via,
    kept: Kept,
}

fn ask(
    nat: &Nat,
    proto: u8,
    src: End,
    dst: End,
    kept: &mut Kept,
    state: FlowStage,
) -> Result<(End, End, Via), Reason> {
    let headers = Headers {
        kind: L3::Ipv4,
        protocol: proto,
        src: src.endpoint().address,
        dst: dst.endpoint().address,
        sport: src.port,
        dport: dst.port,
        ..Headers::default()
    };
    let view = FlowView {
        headers: &headers,
        upper: &[],
        in_port: PortIndex(0),
        direction: Direction::Forward,
        now: Time(0),
        state,
    };
    match nat.decide(&view, 0, kept, &mut ()) {
        Decision::Forward(forward) => {
            let or = |end: Option<Endpoint>, old| end.map_or(old, |e| End::of(e.address, e.port));
            Ok((or(forward.rewrite.src, src), or(forward.rewrite.dst, dst), forward.via))
        }
        Decision::Drop { why, .. } => Err(why),
    }
}

/// As the engine asks about a flow's first packet: what a refused flow took is given back.
fn begin(nat: &Nat, proto: u8, src: End, dst: End) -> Result<Flow, Reason> {
    let mut kept = Kept::new_zeroed();
    match ask(nat, proto, src, dst, &mut kept, FlowStage::First) {
        Ok((src, dst, via)) => Ok(Flow { src, dst, via, kept }),
        Err(why) => {
            nat.release(&kept, &mut (), Time(0));
            Err(why)
        }
    }
}

fn finish(nat: &Nat, flow: &Flow) {
    nat.release(&flow.kept, &mut (), Time(0));
}

fn tcp(nat: &Nat, src: &str, dst: &str) -> Result<Flow, Reason> {
    begin(nat, protocol::TCP, end(src), end(dst))
}

fn shard(a: End, b: End) -> u32 {
    let word = |e: End| end_word(e.endpoint().address, e.port);
    word_hash(word(a) ^ word(b)) % u32::from(SHARDS)
}

#[test]
fn what_leaves_has_an_outside_source_and_one_inside_end_has_one_outside_end() {
    let nat = nat();
    let first = tcp(&nat, "10.0.0.1:1000", "198.51.100.1:80").unwrap();
    assert!(nat.mappings.is_outside(first.src.address) && first.src.port >= 1024);
    assert_eq!((first.dst, first.via), (end("198.51.100.1:80"), Via::Chain));
    let second = tcp(&nat, "10.0.0.1:1000", "203.0.113.9:443").unwrap();
    assert_eq!(second.src, first.src, "whomever it leads to");
    assert_ne!(tcp(&nat, "10.0.0.1:1001", "198.51.100.1:80").unwrap().src, first.src);
    let udp = begin(&nat, protocol::UDP, end("10.0.0.1:1000"), end("198.51.100.1:80"));
    assert_eq!(udp.unwrap().src.address, first.src.address, "pooled in pairs");
}

#[test]
fn what_is_neither_from_inside_nor_for_an_outside_address_passes_as_it_is() {
    let nat = nat();
    for (src, dst) in [("10.0.0.1:1", "10.0.0.2:2"), ("198.51.100.1:1", "203.0.113.1:2")] {
        let flow = tcp(&nat, src, dst).unwrap();
        assert_eq!((flow.src, flow.dst, flow.via), (end(src), end(dst), Via::Chain));
    }
    assert_eq!(nat.mappings.in_use(), 0);
}

#[test]
fn what_is_not_one_of_a_flow_takes_nothing() {
    let nat = nat();
    let mut kept = Kept::new_zeroed();
    let (src, dst) = (end("10.0.0.1:1"), end("198.51.100.1:2"));
    let asked = ask(&nat, protocol::TCP, src, dst, &mut kept, FlowStage::Packet);
    assert_eq!(asked, Ok((src, dst, Via::Chain)));
    assert_eq!(nat.mappings.in_use(), 0);
}

#[test]
fn strangers_come_in_as_filtering_says() {
    let contacts =
        || Filtering::AddressDependent(Arc::new(Contacts::new([random(), random()]).unwrap()));
    // By whom: the peer itself from another port, and a stranger.
    for (filtering, peer, stranger) in [
        (Filtering::EndpointIndependent, true, true),
        (contacts(), true, false),
        (Filtering::AddressAndPort, false, false),
    ] {
        let nat = nat_of((1024, 65_535), filtering);
        let out = tcp(&nat, "10.0.0.1:1000", "198.51.100.1:80").unwrap();
        for (from, let_in) in [("198.51.100.1:81", peer), ("198.51.100.2:80", stranger)] {
            let flow = begin(&nat, protocol::TCP, end(from), out.src);
            match flow {
                Ok(flow) => {
                    assert!(let_in, "{:?} {from}", nat.filtering);
                    assert_eq!((flow.src, flow.dst), (end(from), end("10.0.0.1:1000")));
                    finish(&nat, &flow);
                }
                Err(why) => assert_eq!((why, let_in), (FILTERED, false), "{:?}", nat.filtering),
            }
        }
        let udp = begin(&nat, protocol::UDP, end("198.51.100.1:80"), out.src);
        assert_eq!(udp.unwrap_err(), NO_MAPPING, "a mapping is one protocol's");
        finish(&nat, &out);
        let late = begin(&nat, protocol::TCP, end("198.51.100.1:81"), out.src);
        assert_eq!(late.unwrap_err(), NO_MAPPING, "it ended with its last flow");
        assert_eq!(nat.mappings.in_use(), 0);
    }
}

#[test]
fn a_forward_leads_inside_and_no_inside_end_gets_its_port() {
    let nat = nat();
    let flow = tcp(&nat, "198.51.100.1:5000", "192.0.2.2:8080").unwrap();
    assert_eq!((flow.src, flow.dst), (end("198.51.100.1:5000"), end("10.0.0.80:80")));
    assert_eq!(tcp(&nat, "198.51.100.1:5000", "192.0.2.2:8081").unwrap_err(), NO_MAPPING);
    let small = nat_of((8080, 8080), Filtering::AddressAndPort);
    let one = |port: u16| {
        let src = End { port, ..end("10.0.0.1:0") };
        begin(&small, protocol::TCP, src, end("198.51.100.1:80"))
    };
    assert!((1..=65_535).all(|port| one(port).is_err_and(|why| why == POOL_EXHAUSTED)));
}

#[test]
fn a_one_to_one_address_keeps_its_ports_and_carries_protocols_without_any() {
    let nat = nat();
    let out = tcp(&nat, "10.0.0.20:1000", "198.51.100.1:80").unwrap();
    assert_eq!(out.src, end("192.0.2.20:1000"));
    let esp = 50;
    for proto in [protocol::TCP, protocol::UDP, protocol::ICMP, esp] {
        let flow = begin(&nat, proto, end("198.51.100.1:7"), end("192.0.2.20:7")).unwrap();
        assert_eq!(flow.dst, end("10.0.0.20:7"));
    }
    let of = |proto, src| begin(&nat, proto, end(src), end("198.51.100.1:0")).map(|f| f.src);
    assert_eq!(of(esp, "10.0.0.20:0"), Ok(end("192.0.2.20:0")));
    assert_eq!(of(esp, "10.0.0.1:0"), Err(UNTRANSLATABLE), "a pool address is many hosts'");
    assert_eq!(of(protocol::AH, "10.0.0.20:0"), Err(UNTRANSLATABLE));
}

#[test]
fn a_hairpin_goes_back_with_both_ends_replaced() {
    let nat = nat_of((1024, 65_535), Filtering::EndpointIndependent);
    let forwarded = tcp(&nat, "10.0.0.1:1000", "192.0.2.1:8080").unwrap();
    assert_eq!((forwarded.dst, forwarded.via), (end("10.0.0.80:80"), Via::Back));
    assert!(nat.mappings.is_outside(forwarded.src.address));
    let other = tcp(&nat, "10.0.0.2:1000", "198.51.100.1:80").unwrap();
    let mapped = begin(&nat, protocol::TCP, end("10.0.0.1:1000"), other.src).unwrap();
    assert_eq!((mapped.src, mapped.dst), (forwarded.src, end("10.0.0.2:1000")));
    let echo = begin(&nat, protocol::ICMP, end("10.0.0.1:9"), end("192.0.2.20:9")).unwrap();
    assert_eq!(echo.dst.address, end("10.0.0.20:0").address);
    assert_eq!(echo.dst.port, echo.src.port, "a query has one identifier");
    let off = Nat { hairpin: Hairpin::Off, ..self::nat() };
    assert_eq!(tcp(&off, "10.0.0.1:1000", "192.0.2.1:8080").unwrap_err(), NO_MAPPING);
}

#[test]
fn a_flow_that_is_decided_again_keeps_its_ends_and_takes_nothing_more() {
    let contacts =
        Filtering::AddressDependent(Arc::new(Contacts::new([random(), random()]).unwrap()));
    for filtering in [Filtering::EndpointIndependent, contacts] {
        let nat = nat_of((1024, 65_535), filtering);
        let peer = tcp(&nat, "10.0.0.2:1000", "192.0.2.1:8080").unwrap();
        let flows = [("10.0.0.1:1000", end("198.51.100.1:80")), ("10.0.0.1:1000", peer.src)];
        for (src, dst) in flows {
            let Ok(mut flow) = begin(&nat, protocol::TCP, end(src), dst) else {
                assert!(matches!(nat.filtering, Filtering::AddressDependent(_)));
                continue;
            };
            let before = (nat.mappings.in_use(), flow.kept.as_bytes().to_vec());
            for _ in 0..3 {
                let again =
                    ask(&nat, protocol::TCP, end(src), dst, &mut flow.kept, FlowStage::Again);
                assert_eq!(again, Ok((flow.src, flow.dst, flow.via)));
            }
            assert_eq!((nat.mappings.in_use(), flow.kept.as_bytes().to_vec()), before);
            finish(&nat, &flow);
        }
        finish(&nat, &peer);
        assert_eq!(nat.mappings.in_use(), 0);
    }
}

#[test]
fn a_pool_that_is_used_up_refuses_and_has_room_again_when_flows_end() {
    let nat = nat_of((2000, 2255), Filtering::AddressAndPort);
    let (mut flows, mut refused) = (Vec::new(), 0);
    for port in 1024..4096 {
        let src = End { port, ..end("10.0.0.1:0") };
        match begin(&nat, protocol::UDP, src, end("198.51.100.1:53")) {
            Ok(flow) => flows.push(flow),
            Err(why) => {
                assert_eq!(why, POOL_EXHAUSTED);
                refused += 1;
            }
        }
    }
    assert_eq!((flows.len(), refused), (256, 3072 - 256), "one address, of a pair");
    flows.iter().for_each(|flow| finish(&nat, flow));
    assert_eq!(nat.mappings.in_use(), 0);
    assert!(begin(&nat, protocol::UDP, end("10.0.0.1:5000"), end("198.51.100.1:53")).is_ok());
}

#[test]
fn an_inside_address_has_at_most_so_many_flows_and_gives_them_back() {
    let plain = nat();
    let subscribers = Subscribers::new(plain.internal.clone()).unwrap().into();
    let nat = Nat { limit: Some(Limit { subscribers, most: 3 }), ..plain };
    let to = |host: u32| End { address: Ipv4Addr::from_bits(0xc633_6400 + host), port: 80 };
    let begin = |src, host| begin(&nat, protocol::TCP, end(src), to(host));
    let flows: Vec<Flow> = (0..3).map(|host| begin("10.0.0.1:1000", host).unwrap()).collect();
    assert_eq!(begin("10.0.0.1:1000", 3).unwrap_err(), SUBSCRIBER_LIMIT);
    assert_eq!(begin("10.0.0.1:1001", 3).unwrap_err(), SUBSCRIBER_LIMIT);
    assert_eq!(nat.mappings.in_use(), 1, "what was refused holds nothing");
    assert!(begin("10.0.0.2:1000", 3).is_ok(), "each for itself");
    flows.iter().for_each(|flow| finish(&nat, flow));
    assert!((0..3).all(|host| begin("10.0.0.1:1000", host).is_ok()));
    assert!(begin("10.0.0.1:1000", 3).is_err());
}

#[test]
fn ipv6_prefixes_stand_for_one_another_both_ways_and_in_a_hairpin() {
    let nat = nat();
    let ask = |src: &str, dst: &str| {
        let bytes = |a: &str| AddressBytes(a.parse::<Ipv6Addr>().unwrap().octets());
        let headers = Headers {
            kind: L3::Ipv6,
            protocol: protocol::UDP,
            src: bytes(src),
            dst: bytes(dst),
            sport: 5,
            dport: 7,
            ..Headers::default()
        };
        let text = |end: Endpoint| (Ipv6Addr::from(end.address.v6()).to_string(), end.port);
        let decided = nat.decide_v6(&headers);
        decided.map(|(rewrite, via)| (rewrite.src.map(text), rewrite.dst.map(text), via))
    };
    let (inside, outside) = ("fd01:203:405:1::1234", "2001:db8:1:d550::1234");
    let some = |address: &str, port| Some((address.to_owned(), port));
    assert_eq!(ask(inside, "2001:db8:9::1"), Ok((some(outside, 5), None, Via::Chain)));
    assert_eq!(ask("2001:db8:9::1", outside), Ok((None, some(inside, 7), Via::Chain)));
    assert_eq!(ask(inside, outside), Ok((some(outside, 5), some(inside, 7), Via::Back)));
    assert_eq!(ask(inside, "fd01:203:405:2::1"), Ok((None, None, Via::Chain)));
    assert_eq!(ask("fd01:203:405:ffff::1", "2001:db8:9::1"), Err(UNTRANSLATABLE));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An inside end sends to a remote one.
    Out(u32, u16, u32),
    /// A remote end sends to the outside end of a flow.
    In(usize, u32),
    /// An inside end sends to the outside end of a flow.
    Hairpin(u32, u16, usize),
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (host, port, remote, flow) = (0u32..6, 1000u16..1010, 0u32..5, any::<usize>());
    prop::collection::vec(
        prop_oneof![
            4 => (host.clone(), port.clone(), remote.clone()).prop_map(|(h, p, r)| Step::Out(h, p, r)),
            2 => (flow, remote).prop_map(|(f, r)| Step::In(f, r)),
            2 => (host, port, flow).prop_map(|(h, p, f)| Step::Hairpin(h, p, f)),
            3 => flow.prop_map(Step::End),
        ],
        1..200,
    )
}

proptest! {
    #[test]
    fn answers_stay_on_their_flows_shard(
        src: [u8; 3], sport: u16, dst in 0xc000_0300u32..0xdfff_ffff, dport: u16, is_tcp: bool,
    ) {
        let nat = nat();
        let [b, c, d] = src;
        let src = End { address: Ipv4Addr::new(10, b, c, d), port: sport };
        let dst = End { address: Ipv4Addr::from_bits(dst), port: dport };
        let proto = if is_tcp { protocol::TCP } else { protocol::UDP };
        prop_assume!(nat.one_to_one.outside(src.address).is_none());
        let flow = begin(&nat, proto, src, dst).unwrap();
        prop_assert_ne!(flow.src, src);
        prop_assert_eq!(shard(src, dst), shard(flow.dst, flow.src));
    }

    #[test]
    fn any_flows_keep_one_outside_end_an_inside_end_and_give_all_back(steps in steps(), dependent: bool) {
        let filtering = match dependent {
            true => Filtering::AddressDependent(Arc::new(Contacts::new([random(), random()]).unwrap())),
            false => Filtering::EndpointIndependent,
        };
        // Few ports: the pool is used up now and then.
        let nat = nat_of((2000, 3023), filtering);
        let inside = |host: u32, port| {
            End { address: Ipv4Addr::from_bits(0x0a00_0100 + host), port }
        };
        let remote = |r: u32| End { address: Ipv4Addr::from_bits(0xc633_6400 + r), port: 80 };
        // Each with its source as it came, when that is inside.
        let mut flows: Vec<(Flow, End)> = Vec::new();
        for step in steps {
            let nth = |at: usize| flows.get(at % flows.len().max(1));
            let asked = match step {
                Step::Out(host, port, r) => Some((inside(host, port), remote(r))),
                Step::In(at, r) => nth(at).map(|(flow, _)| (remote(r), flow.src)),
                Step::Hairpin(host, port, at) => {
                    nth(at).map(|(flow, _)| (inside(host, port), flow.src))
                }
                Step::End(at) => {
                    if !flows.is_empty() {
                        let (flow, _) = flows.swap_remove(at % flows.len());
                        finish(&nat, &flow);
                    }
                    None
                }
            };
            let Some((src, dst)) = asked.filter(|(src, dst)| src != dst) else { continue };
            if let Ok(flow) = begin(&nat, protocol::UDP, src, dst) {
                if nat.is_outside(dst) {
                    // It went to whom the outside end stands for.
                    let stands_for = flows.iter().find(|(f, src)| f.src == dst && nat.internal.has(src.address));
                    if let Some((_, inside)) = stands_for {
                        prop_assert_eq!(flow.dst, *inside);
                    }
                    prop_assert!(nat.internal.has(flow.dst.address));
                }
                flows.push((flow, src));
            }
            let mut outside_of: HashMap<End, End> = HashMap::new();
            let mut inside_of: HashMap<End, End> = HashMap::new();
            for (flow, src) in flows.iter().filter(|(_, src)| nat.internal.has(src.address)) {
                prop_assert_eq!(*outside_of.entry(*src).or_insert(flow.src), flow.src);
                prop_assert_eq!(*inside_of.entry(flow.src).or_insert(*src), *src);
            }
            prop_assert!(nat.mappings.in_use() as usize >= outside_of.len());
        }
        flows.iter().for_each(|(flow, _)| finish(&nat, flow));
        prop_assert_eq!(nat.mappings.in_use(), 0);
    }
}
