use super::*;
use proptest::prelude::*;

/// 192.0.2.1:4660 to 198.51.100.2:80, UDP, four bytes of payload.
const UDP: [u8; 46] = [
    0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0,
    192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 80, 0, 12, 0, 0, 1, 2, 3, 4,
];

fn parsed(frame: &[u8]) -> Result<Headers, Malformed> {
    parse(frame, frame.len() as u32)
}

fn changed(at: usize, to: u8) -> [u8; 46] {
    let mut frame = UDP;
    frame[at] = to;
    frame
}

#[test]
fn udp_over_ipv4_is_found_where_it_is() {
    let h = parsed(&UDP).unwrap();
    assert_eq!((h.kind, h.protocol, h.ttl), (L3::Ipv4, 17, 64));
    assert_eq!((h.src.v4(), h.dst.v4()), ([192, 0, 2, 1], [198, 51, 100, 2]));
    assert_eq!((h.sport, h.dport, h.l3, h.l4, h.l3_end), (0x1234, 80, 14, 34, 46));
    assert_eq!((h.vlan, h.fragment), (NO_VLAN, Fragment::Whole));
}

#[test]
fn two_vlan_tags_are_walked_and_a_third_is_not() {
    let tagged = |tags: usize| {
        let mut frame = UDP[..12].to_vec();
        for id in 0..tags {
            frame.extend_from_slice(&[0x81, 0x00, 0x20, 100 + id as u8]);
        }
        frame.extend_from_slice(&UDP[12..]);
        frame
    };
    let two = parsed(&tagged(2)).unwrap();
    assert_eq!((two.vlan, two.inner_vlan, two.dport), (100, 101, 80));
    assert_eq!(parsed(&tagged(3)).unwrap().kind, L3::Other);
}

#[test]
fn a_packet_that_lies_about_a_length_is_malformed_by_name() {
    let cases = [
        (14, 0x65, Malformed::Ipv4Version),
        (14, 0x44, Malformed::Ipv4HeaderLength),
        (17, 33, Malformed::Ipv4TotalLength),
        (17, 19, Malformed::Ipv4TotalLength),
        (39, 7, Malformed::UdpLength),
        (39, 13, Malformed::UdpLength),
    ];
    for (at, value, why) in cases {
        assert_eq!(parsed(&changed(at, value)).unwrap_err(), why, "byte {at} = {value}");
    }
    assert_eq!(parsed(&UDP[..13]).unwrap_err(), Malformed::FrameTooShort);
    assert_eq!(parsed(&UDP[..33]).unwrap_err(), Malformed::Ipv4TooShort);
}

#[test]
fn a_snapped_packet_is_checked_against_its_length_on_the_wire() {
    assert_eq!(parse(&UDP[..42], 46).unwrap().dport, 80);
    assert_eq!(parse(&UDP[..42], 42).unwrap_err(), Malformed::Ipv4TotalLength);
}

#[test]
fn a_usual_packet_takes_the_short_way() {
    let mut padded = [0; 60];
    padded[..46].copy_from_slice(&UDP);
    assert!(usual(&padded, 60, |_| {}));
}

#[test]
fn a_later_fragment_has_no_ports() {
    let h = parsed(&changed(21, 1)).unwrap();
    assert_eq!((h.fragment, h.sport, h.l4), (Fragment::Later, 0, 0));
}

#[test]
fn extension_headers_are_walked_to_the_protocol_and_nine_are_too_many() {
    let with = |count: usize| {
        let mut frame = UDP[..12].to_vec();
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, (count * 8 + 8) as u8]);
        frame.extend_from_slice(&[if count == 0 { 17 } else { 60 }, 64]);
        frame.extend_from_slice(&[0x20; 32]);
        for left in (0..count).rev() {
            frame.extend_from_slice(&[if left == 0 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        frame.extend_from_slice(&[0x12, 0x34, 0, 53, 0, 8, 0, 0]);
        frame
    };
    for count in 0..=8 {
        let h = parsed(&with(count)).unwrap();
        assert_eq!((h.protocol, h.dport, h.ttl), (17, 53, 64), "{count} headers");
    }
    assert_eq!(parsed(&with(9)).unwrap_err(), Malformed::Ipv6ExtensionHeaders);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(frame in prop::collection::vec(any::<u8>(), 0..200), more in 0u32..2000) {
        let _ = parse(&frame, frame.len() as u32 + more);
    }

    #[test]
    fn the_short_way_finds_what_the_long_one_does(
        at in 0usize..58, value: u8, tcp: bool, cut in 30usize..=58, more in 0u32..4,
    ) {
        let mut frame = [0; 58];
        frame[..46].copy_from_slice(&UDP);
        if tcp {
            (frame[17], frame[23], frame[46], frame[47]) = (40, 6, 0x50, 0x12);
        }
        frame[at] = value;
        let (frame, wire) = (&frame[..cut], cut as u32 + more);
        let mut short = Headers::default();
        prop_assert_eq!(check(frame, wire), parse(frame, wire).map(|_| ()));
        if usual(frame, wire, |found| short = found) {
            let mut long = Headers::default();
            prop_assert_eq!(parse_any(frame, wire, &mut long), Ok(()));
            prop_assert_eq!(short, long);
        }
    }

    #[test]
    fn no_change_of_a_real_packet_makes_it_panic(at in 0usize..46, value: u8, cut in 0usize..=46) {
        let frame = changed(at, value);
        if let Ok(h) = parse(&frame[..cut], cut as u32) {
            prop_assert!(usize::from(h.l4) <= cut && usize::from(h.l3_end) <= cut);
        }
    }
}
