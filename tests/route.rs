//! chains/route.yaml on captures: what a router does to each packet, and what it tells senders. Hosts: tests/router.rs.

mod testkit;

use nfv_core::packet::checksum::Sum;
use nfv_core::packet::parse;
use testkit::packets::{Udp, port_mac};
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
