//! chains/route.yaml on captures: what a router does to each packet, and what it tells senders. Hosts: tests/router.rs.

mod testkit;

use nfv_core::packet::checksum::Sum;
use nfv_core::packet::parse;
use testkit::packets::{Udp, port_mac, udp6};
use testkit::replayed::Replayed;

const WAN_HOST: [u8; 6] = [2, 0, 0, 0, 2, 2];
const THERE: [u8; 4] = [10, 2, 0, 2];

fn route(frames: impl IntoIterator<Item = Vec<u8>>) -> Replayed {
    Replayed::of("chains/route.yaml", frames.into_iter().map(|f| (1_000_000_000, f))).succeeded()
}

#[test]
fn a_routed_packet_loses_a_hop_and_keeps_all_else() {
    for dst in [THERE, [192, 0, 2, 77]] {
        let sent = Udp::to(dst, 9).frame();
        let run = route([sent.clone()]);
        let [got] = &run.sent("wan")[..] else { panic!("one packet: {}", run.report) };
        let mut expected = Udp { ttl: 63, ..Udp::to(dst, 9) }.frame();
        expected[..6].copy_from_slice(&WAN_HOST);
        expected[6..12].copy_from_slice(&port_mac(1));
        assert_eq!(got, &expected);
    }
}

#[test]
fn a_packet_whose_time_runs_out_is_answered_by_the_box_and_no_other_is() {
    let expired = Udp { ttl: 1, ..Udp::to(THERE, 9) }.frame();
    let run = route([expired.clone(), Udp { ttl: 2, ..Udp::to(THERE, 9) }.frame()]);
    assert_eq!(run.dropped("forward/ttl_expired"), 1);
    assert_eq!(run.sent("wan").len(), 1, "control: the other one goes on");
    let [answer] = &run.sent("lan")[..] else { panic!("one answer: {}", run.report) };
    let h = parse(answer, answer.len() as u32).unwrap();
    assert_eq!((h.icmp_type, h.icmp_code), (11, 0));
    assert_eq!((h.src.v4(), h.dst.v4()), ([10, 1, 0, 1], [10, 1, 0, 2]));
    assert_eq!(answer[42..], expired[14..], "the packet is quoted as it came");
    // An answer about an answer would never end.
    let mut about = answer.clone();
    about[..6].copy_from_slice(&port_mac(0));
    about[22] = 1;
    about[26..34].copy_from_slice(&[10, 1, 0, 2, 10, 2, 0, 2]);
    about[24..26].fill(0);
    let checksum = Sum::of(&about[14..34]).checksum();
    about[24..26].copy_from_slice(&checksum.to_be_bytes());
    let run = route([about]);
    assert_eq!((run.dropped("forward/ttl_expired"), run.sent("lan").len()), (1, 0));
}

#[test]
fn each_reason_not_to_forward_has_its_name_and_some_an_answer() {
    let to = |dst| Udp::to(dst, 9).frame();
    let damaged = {
        let mut frame = to(THERE);
        frame[24] ^= 1;
        frame
    };
    let foreign = {
        let mut frame = to(THERE);
        frame[5] = 77;
        frame
    };
    let long = Udp { payload: 1400, ..Udp::to(THERE, 9) }.frame();
    let from = |src| Udp { src: (src, 9), ..Udp::to(THERE, 9) }.frame();
    // What is sent, the reason, and type and code of the answer.
    let cases = [
        (to([8, 8, 8, 8]), "router/no_route", Some((3, 0))),
        (damaged, "forward/bad_checksum", None),
        (foreign, "lan/not_for_us", None),
        (long, "forward/too_big", Some((3, 4))),
        (from([127, 0, 0, 1]), "router/martian", None),
        (to([239, 1, 1, 1]), "router/martian", None),
        (to([10, 1, 0, 1]), "lan/no_twin", None),
        (to([10, 2, 0, 99]), "forward/neighbour_unresolved", None),
    ];
    for (frame, reason, answer) in cases {
        let run = route([frame]);
        assert_eq!(run.dropped(reason), 1, "{reason}: {}", run.report);
        let told = run.sent("lan").first().map(|f| {
            let h = parse(f, f.len() as u32).unwrap();
            (h.icmp_type, h.icmp_code)
        });
        assert_eq!(told, answer, "{reason}");
        assert!(run.sent("wan").is_empty(), "{reason}");
    }
}

#[test]
fn ipv6_is_routed_and_answered_as_ipv4_is() {
    for dst in ["fd00:2::2", "2001:db8::7"] {
        let run = route([udp6(dst, 64)]);
        let mut expected = udp6(dst, 63);
        expected[..6].copy_from_slice(&WAN_HOST);
        expected[6..12].copy_from_slice(&port_mac(1));
        assert_eq!(run.sent("wan"), [expected], "{}", run.report);
    }
    let cases = [
        (udp6("fd00:2::2", 1), "forward/ttl_expired", Some((3, 0))),
        (udp6("2001:ffff::1", 64), "router/no_route", Some((1, 0))),
        (udp6("fe80::1", 64), "lan/no_twin", None),
        (udp6("ff05::1", 64), "router/martian", None),
        (udp6("fd00:1::1", 64), "lan/no_twin", None),
    ];
    for (frame, reason, answer) in cases {
        let run = route([frame]);
        assert_eq!(run.dropped(reason), 1, "{reason}: {}", run.report);
        let told = run.sent("lan").first().map(|f| {
            let h = parse(f, f.len() as u32).unwrap();
            (h.icmp_type, h.icmp_code)
        });
        assert_eq!(told, answer, "{reason}");
    }
}

#[test]
fn fragments_and_frames_to_groups_are_never_answered() {
    let no_route = Udp::to([8, 8, 8, 8], 9).frame();
    let later = {
        let mut frame = no_route.clone();
        frame[21] = 8;
        frame[24..26].fill(0);
        let checksum = Sum::of(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        frame
    };
    let run = route([no_route.clone(), later]);
    assert_eq!(run.dropped("router/no_route"), 2);
    assert_eq!(run.sent("lan").len(), 1, "only the one that is whole");
    let group = [&[0xff; 6][..], &no_route[6..]].concat();
    let run = route([group]);
    assert_eq!((run.dropped("lan/no_twin"), run.sent("lan").len()), (1, 0));
}

#[test]
fn what_has_no_route_goes_to_another_chain_where_the_file_says_so() {
    let text = std::fs::read_to_string("chains/route.yaml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.yaml");
    let on = text.trim_end().replace(
        "through: [ router ] }",
        "through: [ router ], on: { no_route: lost } }\n  lost: { to: wan }",
    );
    std::fs::write(&file, on).unwrap();
    let sent = Udp::to([8, 8, 8, 8], 9).frame();
    let run = Replayed::of(file.to_str().unwrap(), [(7, sent.clone())]).succeeded();
    assert_eq!(run.sent("wan"), [sent], "as it came");
    assert!(run.sent("lan").is_empty(), "and nobody is told");
}

#[test]
fn a_chain_that_says_where_it_ends_lets_nothing_out_elsewhere() {
    let text = std::fs::read_to_string("chains/route.yaml").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.yaml");
    std::fs::write(&file, text.replace("from: [ lan, wan ]", "from: lan, to: wan")).unwrap();
    let frames = [
        Udp::to(THERE, 9).frame(),
        Udp { src: ([10, 1, 0, 9], 9), ..Udp::to([10, 1, 0, 2], 9) }.frame(),
    ];
    let run = Replayed::of(file.to_str().unwrap(), frames.map(|f| (7, f))).succeeded();
    assert_eq!(run.dropped("forward/other_port"), 1, "{}", run.report);
    assert_eq!((run.sent("wan").len(), run.sent("lan").len()), (1, 0));
}

#[test]
fn answers_are_sent_at_a_rate_that_no_flood_exceeds() {
    let flood = (0..10_000u64).map(|i| {
        let dst = [8, 8, (i >> 8) as u8, i as u8];
        (1_000_000_000 + i * 100_000, Udp::to(dst, 9).frame())
    });
    let run = Replayed::of("chains/route.yaml", flood).succeeded();
    assert_eq!(run.dropped("router/no_route"), 10_000);
    // A second at 1,000 a second, and the first 100.
    let answers = run.sent("lan").len();
    assert!((1_000..=1_101).contains(&answers), "{answers}");
}
