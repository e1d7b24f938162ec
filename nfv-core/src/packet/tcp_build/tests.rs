use super::super::parse;
use super::super::syn_cookie::{CookieCount, CookieKey, Server};
use super::*;
use proptest::prelude::*;

mod exchange;

const PSH: u8 = 0x08;
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 3];
const TAG: [u8; 4] = [0x81, 0, 0, 100];

/// A frame of TCP as a host sends it, built without the code under test.
#[derive(Clone, Debug)]
struct Wire {
    macs: [[u8; 6]; 2],
    tag: Vec<u8>,
    ends: [IpAddr; 2],
    ports: [u16; 2],
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

impl Wire {
    fn bytes(&self) -> Vec<u8> {
        let mut tcp = [self.ports[0].to_be_bytes(), self.ports[1].to_be_bytes()].concat();
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([((20 + self.options.len()) / 4 * 16) as u8, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.data);
        let [src, dst] = self.ends;
        let sum = Sum::of_pseudo_header(src, dst, 6, tcp.len() as u32).plus(Sum::of(&tcp));
        tcp[16..18].copy_from_slice(&sum.checksum().to_be_bytes());
        let mut frame = [self.macs[1], self.macs[0]].concat();
        frame.extend(&self.tag);
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = vec![0x45, 0];
                ip.extend(((20 + tcp.len()) as u16).to_be_bytes());
                ip.extend([0x12, 0x34, 0x40, 0, 57, 6, 0, 0]);
                ip.extend([src.octets(), dst.octets()].concat());
                let checksum = Sum::of(&ip).checksum();
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(ip);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd, 0x60, 1, 2, 3]);
                frame.extend((tcp.len() as u16).to_be_bytes());
                frame.extend([6, 57]);
                frame.extend([src.octets(), dst.octets()].concat());
            }
            _ => unreachable!("two families"),
        }
        frame.extend(tcp);
        frame
    }

    /// The packet of an answer to this one; what else it says is to be set.
    fn reply(&self, from: [u8; 6]) -> Self {
        let ([a, b], [p, q]) = (self.ends, self.ports);
        Self { macs: [from, self.macs[0]], ends: [b, a], ports: [q, p], ..self.clone() }
    }
}

fn client(v6: bool) -> Wire {
    let v4 = ["192.0.2.1".parse().unwrap(), "198.51.100.2".parse().unwrap()];
    Wire {
        macs: [CLIENT, GATEWAY],
        tag: vec![],
        ends: if v6 {
            ["2001:db8::1".parse().unwrap(), "2001:db8:1::2".parse().unwrap()]
        } else {
            v4
        },
        ports: [4660, 80],
        seq: 0x1122_3344,
        ack: 0,
        flags: SYN,
        window: 64240,
        options: vec![],
        data: vec![],
    }
}

fn headers(frame: &[u8]) -> Headers {
    parse(frame, frame.len() as u32).unwrap()
}

fn tcp_of(frame: &[u8]) -> &[u8] {
    let h = headers(frame);
    &frame[usize::from(h.l4)..usize::from(h.l3_end)]
}

fn checksums_are_right(frame: &[u8]) -> bool {
    let (h, tcp) = (headers(frame), tcp_of(frame));
    let (src, dst) = addresses(&h).unwrap();
    let pseudo = Sum::of_pseudo_header(src, dst, 6, tcp.len() as u32);
    let ip = &frame[usize::from(h.l3)..usize::from(h.l4)];
    Sum::of(tcp).plus(pseudo).is_right() && (h.kind == L3::Ipv6 || Sum::of(ip).is_right())
}

fn written(options: &SynOptions) -> Vec<u8> {
    let mut out = [0xee; SYN_OPTIONS_MAX];
    let length = options.write(&mut out);
    out[..length].to_vec()
}

fn stamps(value: u32, echo: u32) -> Vec<u8> {
    written(&SynOptions { timestamps: Some((value, echo)), ..SynOptions::default() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn key() -> CookieKey {
    CookieKey::new([
        0x0706_0504_0302_0100,
        0x0f0e_0d0c_0b0a_0908,
        0x1716_1514_1312_1110,
        0x1f1e_1d1c_1b1a_1918,
    ])
}

fn built(build: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    // Dirt, which must not be found in the frame.
    let mut out = [0xdd; HANDSHAKE_MAX];
    let length = build(&mut out)?;
    Some(out[..length].to_vec())
}

/// The four frames of a handshake with the server, in hexadecimal.
fn handshake(mut wire: Wire, offer: SynOptions, window_scale: u8) -> [String; 4] {
    let server =
        Server { mss: 1400, window_scale: Some(9), sack: true, timestamps: true, ecn: Ecn::No };
    let now = CookieCount::at(64_000);
    wire.options = written(&offer);
    let frame = wire.bytes();
    let h = headers(&frame);
    let syn = Syn::read(&frame, &h).unwrap();
    let cookie = key().make(&h, &syn, now);
    let answer = syn.answer(&server, 0x1234_5678);
    let first = built(|out| syn_ack(&frame, &h, cookie, &answer, 65535, out)).unwrap();

    let ours = answer.options.timestamps;
    (wire.seq, wire.ack) = (wire.seq + 1, cookie.wrapping_add(1));
    (wire.flags, wire.window) = (ACK, 502);
    wire.options = ours.map_or(vec![], |(ours, theirs)| stamps(theirs + 1, ours));
    let frame = wire.bytes();
    let h = headers(&frame);
    let opened = Opened::read(&frame, &h).unwrap();
    let syn = opened.syn(key().check(&h, &opened, now).unwrap());
    let second = built(|out| syn_to_server(&frame, &h, &syn, opened.window, out)).unwrap();

    let mut reply = wire.reply(SERVER);
    (reply.seq, reply.ack) = (0xffff_fff0, opened.client_isn + 1);
    (reply.flags, reply.window) = (SYN | ACK, 65160);
    reply.options = written(&SynOptions {
        timestamps: ours.map(|(_, theirs)| (0x0a0b_0c0d, theirs + 1)),
        ..answer.options
    });
    let frame = reply.bytes();
    let h = headers(&frame);
    let third = built(|out| Some(ack_to_server(&frame, &h, &opened, out)?.0)).unwrap();
    let fourth = built(|out| window_to_client(&frame, &h, &opened, window_scale, out)).unwrap();
    [first, second, third, fourth].map(|frame| {
        assert!(checksums_are_right(&frame), "{}", hex(&frame));
        hex(&frame)
    })
}

// The frames of the next three tests come from a second implementation, in Python, field by field.

#[test]
fn a_handshake_over_ipv4_in_a_vlan_is_these_bytes() {
    let offer = SynOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack: true,
        timestamps: Some((0x0102_0304, 0)),
    };
    let frames = handshake(Wire { tag: TAG.to_vec(), ..client(false) }, offer, 9);
    assert_eq!(
        frames,
        [
            "0200000000010200000000028100006408004500003c0000400040064e85c6336402c00002010050\
             12340066124711223345a012ffff85c90000020405780402080a123456570102030401030309",
            "0200000000020200000000018100006408004500003c0000400040064e85c0000201c63364021234\
             00501122334400000000a00201f6fee10000020405b40402080a010203050000000001030307",
            "020000000003020000000001810000640800450000340000400040064e8dc0000201c63364021234\
             005011223345fffffff1801001f6179400000101080a010203050a0b0c0d",
            "020000000001020000000003810000640800450000340000400040064e8dc6336402c00002010050\
             123400661248112233458010007fb3db00000101080a1234565701020305",
        ]
    );
}

#[test]
fn a_handshake_over_ipv6_is_these_bytes() {
    let offer = SynOptions {
        mss: Some(1440),
        window_scale: Some(7),
        sack: true,
        timestamps: Some((0x0102_0304, 0)),
    };
    assert_eq!(
        handshake(client(true), offer, 9),
        [
            "02000000000102000000000286dd600000000028064020010db80001000000000000000000022001\
             0db80000000000000000000000010050123478e2796611223345a012ffff36ef0000020405780402\
             080a123456570102030401030309",
            "02000000000202000000000186dd600000000028064020010db80000000000000000000000012001\
             0db8000100000000000000000002123400501122334400000000a00201f68fb70000020405a00402\
             080a010203050000000001030307",
            "02000000000302000000000186dd600000000020064020010db80000000000000000000000012001\
             0db80001000000000000000000021234005011223345fffffff1801001f6a85500000101080a0102\
             03050a0b0c0d",
            "02000000000102000000000386dd600000000020064020010db80001000000000000000000022001\
             0db80000000000000000000000010050123478e27967112233458010007f650100000101080a1234\
             565701020305",
        ]
    );
}

#[test]
fn a_handshake_without_options_is_these_bytes_and_padded() {
    let frames = handshake(client(false), SynOptions::default(), 0);
    assert_eq!(
        frames,
        [
            "02000000000102000000000208004500002c0000400040064e95c6336402c000020100501234fb20\
             83f6112233456012ffffd6180000020405780000",
            "02000000000202000000000108004500002c0000400040064e95c0000201c6336402123400501122\
             334400000000600201f656ab0000020402180000",
            "0200000000030200000000010800450000280000400040064e99c0000201c6336402123400501122\
             3345fffffff1501001f66aca0000000000000000",
            "0200000000010200000000030800450000280000400040064e99c6336402c000020100501234fb20\
             83f7112233455010fe88ef100000000000000000",
        ]
    );
}

#[test]
fn options_are_written_in_words() {
    let all =
        SynOptions { mss: Some(1460), window_scale: Some(7), sack: true, timestamps: Some((1, 2)) };
    let cases = [
        (SynOptions::default(), ""),
        (all, "020405b40402080a000000010000000201030307"),
        (SynOptions { sack: false, ..all }, "020405b40101080a000000010000000201030307"),
        (SynOptions { timestamps: None, ..all }, "020405b40101040201030307"),
        (SynOptions { mss: None, timestamps: None, sack: false, ..all }, "01030307"),
        (
            SynOptions { window_scale: Some(200), timestamps: None, ..all },
            "020405b4010104020103030e",
        ),
    ];
    for (options, bytes) in cases {
        assert_eq!(hex(&written(&options)), bytes, "{options:?}");
    }
}

#[test]
fn options_that_lie_end_the_list_and_ones_of_a_wrong_length_are_absent() {
    let mss = |mss| SynOptions { mss, ..SynOptions::default() };
    let cases: [(&str, &[u8], SynOptions); 10] = [
        ("nothing", &[], mss(None)),
        ("behind the end", &[0, 2, 2, 4, 5, 180], mss(None)),
        ("behind no-operations", &[1, 1, 1, 2, 4, 5, 180], mss(Some(1460))),
        ("behind an unknown kind", &[254, 3, 9, 2, 4, 5, 180], mss(Some(1460))),
        ("behind a length of 0", &[254, 0, 2, 4, 5, 180], mss(None)),
        ("behind a length of 1", &[254, 1, 2, 4, 5, 180], mss(None)),
        ("behind one beyond the header", &[2, 4, 5, 180, 8, 10, 1, 1], mss(Some(1460))),
        ("a kind without a length", &[2, 4, 5, 180, 3], mss(Some(1460))),
        ("an MSS of three bytes", &[2, 5, 5, 180, 0, 2, 4, 5, 180], mss(Some(1460))),
        ("two: the later counts", &[2, 4, 1, 1, 2, 4, 5, 180], mss(Some(1460))),
    ];
    for (what, bytes, is) in cases {
        assert_eq!(SynOptions::read(bytes), is, "{what}");
    }
    assert_eq!(SynOptions::read(&[3, 3, 255]).window_scale, Some(14));
}

#[test]
fn what_must_not_be_answered_is_not() {
    let answered = |change: fn(&mut Wire)| {
        let mut wire = client(false);
        change(&mut wire);
        let frame = wire.bytes();
        let h = headers(&frame);
        built(|out| syn_ack(&frame, &h, 1, &Syn::default(), 0, out)).is_some()
    };
    assert!(answered(|_| {}), "control: nothing is changed");
    for flags in [0, ACK, SYN | ACK, SYN | RST, SYN | FIN] {
        let frame = Wire { flags, ..client(false) }.bytes();
        let h = headers(&frame);
        assert_eq!(built(|out| syn_ack(&frame, &h, 1, &Syn::default(), 0, out)), None, "{flags:x}");
        assert_eq!(Syn::read(&frame, &h), None, "{flags:x}");
    }
    assert!(!answered(|w| w.macs[1] = [0xff; 6]), "a frame to all");
    assert!(!answered(|w| w.macs[0][0] |= 1), "a frame from a group");
    assert!(!answered(|w| w.ends[1] = "224.0.0.1".parse().unwrap()), "to a group");
    assert!(!answered(|w| w.ends[1] = "255.255.255.255".parse().unwrap()), "to all");
    assert!(!answered(|w| w.ends[0] = "127.0.0.1".parse().unwrap()), "from loopback");
    assert!(!answered(|w| w.ends[0] = "0.0.0.0".parse().unwrap()), "from nobody");
    let mut frame = client(false).bytes();
    frame[20] = 0x20;
    let h = headers(&frame);
    assert_eq!(Syn::read(&frame, &h), None, "a first fragment");
    assert_eq!(built(|out| syn_ack(&frame, &h, 1, &Syn::default(), 0, out)), None, "the same");
}

#[test]
fn the_server_s_answer_must_be_to_our_syn() {
    let opened = Opened { client_isn: 99, server_isn: 7, ..Opened::default() };
    let taken = |ack: u32, flags: u8| {
        let frame = Wire { ack, flags, ..client(false).reply(SERVER) }.bytes();
        let h = headers(&frame);
        let to_client = built(|out| window_to_client(&frame, &h, &opened, 0, out));
        let to_server = ack_to_server(&frame, &h, &opened, &mut [0; HANDSHAKE_MAX]);
        assert_eq!(to_client.is_some(), to_server.is_some());
        to_server.is_some()
    };
    assert!(taken(100, SYN | ACK));
    assert!(!taken(99, SYN | ACK) && !taken(101, SYN | ACK), "of another SYN");
    assert!(!taken(100, ACK) && !taken(100, SYN) && !taken(100, SYN | ACK | RST));
}

#[test]
fn room_that_is_too_short_is_left_and_says_so() {
    let frame = client(false).bytes();
    let h = headers(&frame);
    let build = |room: usize| syn_ack(&frame, &h, 1, &Syn::default(), 0, &mut vec![0; room]);
    assert_eq!([build(0), build(59), build(60), build(2000)], [None, None, Some(60), Some(60)]);
}

#[test]
fn ecn_is_offered_by_two_flags_and_accepted_by_one() {
    let frame = Wire { flags: SYN | ECE | CWR, ..client(false) }.bytes();
    let h = headers(&frame);
    let syn = Syn::read(&frame, &h).unwrap();
    assert_eq!(syn.ecn, Ecn::Yes);
    let answer = built(|out| syn_ack(&frame, &h, 1, &syn, 0, out)).unwrap();
    assert_eq!(tcp_of(&answer)[FLAGS], SYN | ACK | ECE);
    let frame = Wire { flags: ACK, ..client(false) }.bytes();
    let onward = built(|out| syn_to_server(&frame, &headers(&frame), &syn, 0, out)).unwrap();
    assert_eq!(tcp_of(&onward)[FLAGS], SYN | ECE | CWR);
    let half = Wire { flags: SYN | ECE, ..client(false) }.bytes();
    assert_eq!(Syn::read(&half, &headers(&half)).unwrap().ecn, Ecn::No);
}

#[test]
fn without_the_ack_flag_nothing_acknowledged_is_shifted() {
    let frame = Wire { flags: RST, options: stamps(5, 0), ..client(false) }.bytes();
    let mut tcp = tcp_of(&frame).to_vec();
    assert_eq!(Shift { seq: 5, timestamp: 6 }.to_server(&mut tcp), Some(()));
    assert_eq!(tcp, tcp_of(&frame));
    // What the server says of itself is shifted in any segment.
    let mut tcp = tcp_of(&frame).to_vec();
    assert_eq!(Shift { seq: 5, timestamp: 6 }.to_client(&mut tcp), Some(()));
    assert_eq!(SynOptions::read(&tcp[FIXED..]).timestamps, Some((11, 0)));
}

#[test]
fn an_option_of_a_wrong_length_is_not_shifted() {
    for kind in [TIMESTAMPS, SACK] {
        let options = vec![kind, 6, 1, 2, 3, 4, NO_OPERATION, END];
        let frame = Wire { flags: ACK, options, ..client(false) }.bytes();
        for way in [Shift::to_client, Shift::to_server] {
            let mut tcp = tcp_of(&frame).to_vec();
            assert_eq!(way(Shift { seq: 5, timestamp: 6 }, &mut tcp), Some(()));
            assert_eq!(tcp[FIXED..], tcp_of(&frame)[FIXED..], "kind {kind}");
        }
    }
}

#[test]
fn of_a_frame_whose_data_is_not_at_hand_the_header_is_read() {
    let frame = Wire { flags: ACK, data: vec![7; 50], ..client(false) }.bytes();
    let h = headers(&frame);
    assert!(Opened::read(&frame[..54], &h).is_some());
    assert_eq!(Opened::read(&frame[..53], &h), None);
}

/// Behind one no-operation instead of two, edges lie at odd places.
#[test]
fn edges_of_sack_blocks_are_shifted_wherever_they_lie() {
    for pad in [0, 1, 2, 3] {
        let mut options = vec![NO_OPERATION; pad];
        options.extend([SACK, 18]);
        for edge in [1000u32, 2000, 0xffff_fff0, 5] {
            options.extend(edge.to_be_bytes());
        }
        options.resize(24, 0);
        let mut frame = Wire { flags: ACK, ack: 500, options, ..client(true) }.bytes();
        let l4 = usize::from(headers(&frame).l4);
        shift_ack(&mut frame[l4..], 600).unwrap();
        assert!(checksums_are_right(&frame), "{pad} bytes before");
        let tcp = tcp_of(&frame);
        let word = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
        assert_eq!(word(8), 0xffff_ff9c);
        let edges = [0, 4, 8, 12].map(|at| word(22 + pad + at));
        assert_eq!(edges, [400, 1400, 0xffff_fd98, 0xffff_fdad], "{pad} bytes before");
    }
}

proptest! {
    #[test]
    fn options_that_are_written_are_read_again(
        mss in prop::option::of(any::<u16>()), scale in prop::option::of(0u8..15), sack: bool,
        timestamps in prop::option::of(any::<(u32, u32)>()),
    ) {
        let options = SynOptions { mss, window_scale: scale, sack, timestamps };
        let bytes = written(&options);
        prop_assert!(bytes.len().is_multiple_of(4));
        prop_assert_eq!(SynOptions::read(&bytes), options);
    }

    #[test]
    fn no_options_make_the_reader_panic(bytes in prop::collection::vec(0u8..20, 0..60)) {
        let found = SynOptions::read(&bytes);
        prop_assert_eq!(SynOptions::read(&written(&found)), found);
    }

    #[test]
    fn shifts_there_and_back_leave_the_bytes_and_keep_the_sum(
        options in prop::collection::vec(0u8..12, 0..=10), delta: u32, stamp: u32,
        flags: u8, data in prop::collection::vec(any::<u8>(), 0..20), ack: u32,
    ) {
        // What options there are is chance: some are SACK blocks and timestamps, at any place, and some lie.
        let mut wire = client(true);
        wire.options = options.iter().flat_map(|kind| match kind {
            0..4 => vec![NO_OPERATION],
            4..7 => vec![SACK, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            7..9 => vec![TIMESTAMPS, 10, 9, 8, 7, 6, 5, 4, 3, 2],
            9 => vec![SACK, 7, 1, 2, 3, 4, 5],
            _ => vec![*kind, 200],
        }).take(40).collect();
        wire.options.resize(wire.options.len().next_multiple_of(4), NO_OPERATION);
        (wire.flags, wire.data, wire.ack) = (flags, data, ack);
        let before = wire.bytes();
        let l4 = usize::from(headers(&before).l4);
        let there = Shift { seq: delta, timestamp: stamp };
        let back = Shift { seq: delta.wrapping_neg(), timestamp: stamp.wrapping_neg() };
        for way in [Shift::to_client, Shift::to_server] {
            let mut frame = before.clone();
            prop_assert_eq!(way(there, &mut frame[l4..]), Some(()));
            prop_assert!(checksums_are_right(&frame));
            prop_assert_eq!(way(back, &mut frame[l4..]), Some(()));
            prop_assert!(checksums_are_right(&frame));
            frame[l4 + 16..l4 + 18].copy_from_slice(&before[l4 + 16..l4 + 18]);
            prop_assert_eq!(&frame, &before);
        }
    }

    #[test]
    fn no_bytes_make_a_shift_panic_and_refused_ones_are_as_they_were(
        mut bytes in prop::collection::vec(any::<u8>(), 0..90), delta: u32,
    ) {
        let before = bytes.clone();
        for shift in [shift_seq, shift_ack] {
            if shift(&mut bytes, delta).is_none() {
                prop_assert_eq!(&bytes, &before);
                prop_assert!(header_length(&bytes).is_none());
            }
            bytes.clone_from(&before);
        }
        let shift = Shift { seq: delta, timestamp: delta };
        prop_assert_eq!(shift.to_client(&mut bytes), shift.to_server(&mut bytes));
    }

    #[test]
    fn no_frame_makes_it_panic_and_what_it_builds_is_right(
        v6: bool, tagged: bool, flags in prop::sample::select(vec![SYN, ACK, SYN | ACK]),
        at in 0usize..90, value: u8, cut in 0usize..90, sack: bool, stamp: u32,
    ) {
        let options = SynOptions { mss: Some(1), window_scale: Some(1), sack, timestamps: Some((stamp, 1)) };
        let tag = if tagged { [TAG, TAG].concat() } else { vec![] };
        let wire = Wire { tag, flags, ack: 100, options: written(&options), ..client(v6) };
        let mut frame = wire.bytes();
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        // Headers of a longer frame than the one at hand: a capture may be cut short.
        let Ok(h) = parse(&frame, frame.len() as u32) else { return Ok(()) };
        frame.truncate(frame.len() - cut.min(frame.len()));
        let _ = (Syn::read(&frame, &h), Opened::read(&frame, &h));
        let opened = Opened { client_isn: 99, ..Opened::default() };
        let syn = Syn { options, ..Syn::default() };
        let frames = [
            built(|out| syn_ack(&frame, &h, 1, &syn, 2, out)),
            built(|out| syn_to_server(&frame, &h, &syn, 2, out)),
            built(|out| Some(ack_to_server(&frame, &h, &opened, out)?.0)),
            built(|out| window_to_client(&frame, &h, &opened, value, out)),
        ];
        for built in frames.into_iter().flatten() {
            prop_assert!(checksums_are_right(&built));
            prop_assert!(built.len() >= 60 && built.len() <= HANDSHAKE_MAX);
        }
    }
}
