use std::hash::Hasher;

use super::super::{AddressBytes, protocol};
use super::*;
use proptest::prelude::*;

/// The key bytes 0, 1, 2 and so on, as in the vectors of SipHash's paper.
fn key() -> CookieKey {
    CookieKey::new([
        0x0706_0504_0302_0100,
        0x0f0e_0d0c_0b0a_0908,
        0x1716_1514_1312_1110,
        0x1f1e_1d1c_1b1a_1918,
    ])
}

/// 192.0.2.1:4660 to 198.51.100.2:80.
fn v4() -> Headers {
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src[..4].copy_from_slice(&[192, 0, 2, 1]);
    dst[..4].copy_from_slice(&[198, 51, 100, 2]);
    Headers {
        src: AddressBytes(src),
        dst: AddressBytes(dst),
        sport: 4660,
        dport: 80,
        kind: L3::Ipv4,
        protocol: protocol::TCP,
        ..Headers::default()
    }
}

fn syn(client_isn: u32, mss: Option<u16>) -> Syn {
    Syn { client_isn, options: SynOptions { mss, ..SynOptions::default() }, ecn: Ecn::No }
}

fn opened(client_isn: u32, server_isn: u32) -> Opened {
    Opened { client_isn, server_isn, ..Opened::default() }
}

/// SipHash: a fast short-input PRF, appendix A; further ones are of the reference code's `vectors_sip64`.
#[test]
fn the_library_hashes_as_the_paper_says() {
    let hasher = SipHasher24::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
    let bytes: [u8; 64] = std::array::from_fn(|i| i as u8);
    let vectors = [
        (0, 0x726f_db47_dd0e_0e31),
        (1, 0x74f8_39c5_93dc_67fd),
        (7, 0xab02_00f5_8b01_d137),
        (8, 0x93f5_f579_9a93_2462),
        (15, 0xa129_ca61_49be_45e5),
        (63, 0x958a_324c_eb06_4572),
    ];
    for (length, hash) in vectors {
        assert_eq!(hasher.hash(&bytes[..length]), hash, "{length} bytes");
        let mut streamed = hasher;
        streamed.write(&bytes[..length]);
        assert_eq!(streamed.finish(), hash, "{length} bytes, streamed");
    }
}

/// The figures are of a second implementation, in Python, hash included.
#[test]
fn a_cookie_is_what_its_layout_says() {
    let now = CookieCount::at(64 * 1000 + 5);
    let isn = 0x1122_3344;
    assert_eq!(key().make(&v4(), &syn(isn, Some(1460)), now), 0x0066_1247);
    assert_eq!(key().make(&v4(), &syn(isn, None), now), 0xfb20_83f6);
}

#[test]
fn a_cookie_is_good_for_two_steps_and_not_for_three() {
    let made = CookieCount::at(64 * 31);
    let cookie = key().make(&v4(), &syn(7, Some(1460)), made);
    let after = |steps: u64| key().check(&v4(), &opened(7, cookie), CookieCount(made.0 + steps));
    assert_eq!([after(0), after(1), after(2)], [Some(1460); 3]);
    for steps in (3..70).chain([320, 1 << 32]) {
        assert_eq!(
            after(steps),
            None,
            "{steps} steps later: five bits of the count may be the same"
        );
    }
    let before = key().check(&v4(), &opened(7, cookie), CookieCount(made.0 - 1));
    assert_eq!(before, None, "made in the future");
}

#[test]
fn the_clock_goes_in_steps_of_64_seconds_and_starts_anywhere() {
    assert_eq!([0, 63, 64, 128].map(CookieCount::at), [0, 0, 1, 2].map(CookieCount));
    let cookie = key().make(&v4(), &syn(7, None), CookieCount(0));
    assert_eq!(key().check(&v4(), &opened(7, cookie), CookieCount(0)), Some(536));
    let cookie = key().make(&v4(), &syn(7, None), CookieCount(31));
    assert_eq!(key().check(&v4(), &opened(7, cookie), CookieCount(0)), None, "before the start");
}

#[test]
fn an_ack_of_anything_else_is_refused() {
    let now = CookieCount(1000);
    let cookie = key().make(&v4(), &syn(7, Some(1460)), now);
    let check = |h: &Headers, isn, cookie| key().check(h, &opened(isn, cookie), now);
    assert_eq!(check(&v4(), 7, cookie), Some(1460), "control: nothing is changed");
    assert_eq!(check(&v4(), 7, cookie.wrapping_add(1)), None, "one too many");
    assert_eq!(check(&v4(), 7, cookie.wrapping_sub(1)), None, "one too few");
    assert_eq!(check(&v4(), 8, cookie), None, "another client ISN");
    assert_eq!(check(&v4(), 8, cookie.wrapping_add(1)), None, "both moved by one");
    let change = |f: fn(&mut Headers)| {
        let mut h = v4();
        f(&mut h);
        check(&h, 7, cookie)
    };
    assert_eq!(change(|h| h.src.0[3] ^= 1), None, "another source");
    assert_eq!(change(|h| h.dst.0[3] ^= 1), None, "another destination");
    assert_eq!(change(|h| h.sport ^= 1), None, "another source port");
    assert_eq!(change(|h| h.dport ^= 1), None, "another destination port");
    assert_eq!(change(|h| h.kind = L3::Ipv6), None, "the other family");
    assert_eq!(change(|h| std::mem::swap(&mut h.src, &mut h.dst)), None, "the other direction");
    let other = CookieKey::new([1, 2, 3, 4]);
    assert_eq!(other.check(&v4(), &opened(7, cookie), now), None, "another key");
}

#[test]
fn of_an_mss_the_next_lower_class_is_kept() {
    let kept = |kind: L3, mss: Option<u16>| {
        let headers = Headers { kind, ..v4() };
        let cookie = key().make(&headers, &syn(7, mss), CookieCount(1));
        key().check(&headers, &opened(7, cookie), CookieCount(1)).unwrap()
    };
    let cases = [(1460, 1460), (1459, 1452), (1400, 1400), (1399, 1360), (9999, 8960), (0, 216)];
    for (offered, is) in cases {
        assert_eq!(kept(L3::Ipv4, Some(offered)), is, "{offered} offered");
    }
    assert_eq!([kept(L3::Ipv4, None), kept(L3::Ipv6, None)], [536, 1220], "what RFCs say of none");
    assert_eq!(kept(L3::Ipv6, Some(1440)), 1440);
    assert!(MSS_V4.is_sorted() && MSS_V6.is_sorted());
}

#[test]
fn the_clock_s_low_bits_carry_what_is_agreed_and_nothing_else() {
    let server =
        Server { mss: 1400, window_scale: Some(9), sack: true, timestamps: true, ecn: Ecn::Yes };
    let offer = Syn {
        client_isn: 7,
        options: SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack: true,
            timestamps: Some((5, 0)),
        },
        ecn: Ecn::Yes,
    };
    let ours = |syn: Syn, server: Server| syn.answer(&server, 0xabcd_ef12).options.timestamps;
    assert_eq!(ours(offer, server), Some((0xabcd_ef37, 5)));
    let without = Server { window_scale: None, ..server };
    assert_eq!(ours(offer, without), Some((0xabcd_ef3f, 5)), "15 is no scale");
    assert_eq!(ours(offer, Server { sack: false, ..server }), Some((0xabcd_ef27, 5)));
    assert_eq!(ours(offer, Server { ecn: Ecn::No, ..server }), Some((0xabcd_ef17, 5)));
    assert_eq!(ours(Syn { ecn: Ecn::No, ..offer }, server), Some((0xabcd_ef17, 5)));
    let mut unscaled = offer;
    unscaled.options.window_scale = None;
    let answer = unscaled.answer(&server, 0xabcd_ef12).options;
    assert_eq!((answer.window_scale, answer.timestamps), (None, Some((0xabcd_ef3f, 5))));
    let mut plain = offer;
    plain.options.timestamps = None;
    for (syn, server) in [(plain, server), (offer, Server { timestamps: false, ..server })] {
        let answer = syn.answer(&server, 0);
        let only_mss = SynOptions { mss: Some(1400), ..SynOptions::default() };
        assert_eq!((answer.options, answer.ecn), (only_mss, Ecn::No), "no clock, no memory");
    }
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", key()), "CookieKey(..)");
}

/// A fixed sequence of guesses: with 24 right ones of 2^32, a hit in 200,000 would be a hole rather than luck.
#[test]
fn guesses_are_refused() {
    let mut guess = 1u32;
    let hits = (0..200_000).filter(|_| {
        guess = guess.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        key().check(&v4(), &opened(7, guess), CookieCount(1000)).is_some()
    });
    assert_eq!(hits.count(), 0);
}

proptest! {
    #[test]
    fn each_client_is_recognized_and_its_offer_remembered(
        random: [u64; 4], src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16, v6: bool,
        isn: u32, mss: u16, count in 0u64..1 << 40, age in 0u64..3,
        scale in prop::option::of(0u8..15), sack: bool, ecn: bool, theirs: u32, clock: u32,
    ) {
        let key = CookieKey::new(random);
        let kind = if v6 { L3::Ipv6 } else { L3::Ipv4 };
        let (src, dst) = (AddressBytes(src), AddressBytes(dst));
        let headers = Headers { src, dst, sport, dport, kind, ..v4() };
        let ecn = if ecn { Ecn::Yes } else { Ecn::No };
        let options =
            SynOptions { mss: Some(mss), window_scale: scale, sack, timestamps: Some((theirs, 0)) };
        let syn = Syn { client_isn: isn, options, ecn };
        let cookie = key.make(&headers, &syn, CookieCount(count));

        let server =
            Server { mss: 1400, window_scale: Some(3), sack: true, timestamps: true, ecn: Ecn::Yes };
        let (ours, echo) = syn.answer(&server, clock).options.timestamps.unwrap();
        prop_assert_eq!((ours & !0x3f, echo), (clock & !0x3f, theirs));
        let timestamps = Some((theirs.wrapping_add(9), ours));
        let ack = Opened { client_isn: isn, server_isn: cookie, window: 1, timestamps };
        let kept = key.check(&headers, &ack, CookieCount(count + age));
        prop_assert!(kept.is_some_and(|kept| kept <= mss.max(216)), "{:?}", kept);
        let timestamps = Some((theirs.wrapping_add(9), 0));
        let remembered = Syn { options: SynOptions { mss: kept, timestamps, ..options }, ..syn };
        prop_assert_eq!(ack.syn(kept.unwrap()), remembered);
    }
}
