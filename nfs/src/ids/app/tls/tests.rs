//! Handshakes of TLS, whole and cut anywhere.

use proptest::prelude::*;

use crate::ids::app::testkit::{DOWN, Talk, UP, same_however_cut};
use crate::ids::app::{App, Fields, Input, Limits, Pickup, Ports, Protocol, Ready, Stage};
use crate::ids::buffer::Buffer;

const CLIENT_12: &[u8] = include_bytes!("data/client12.bin");
const SERVER_12: &[u8] = include_bytes!("data/server12.bin");
const CLIENT_13: &[u8] = include_bytes!("data/client13.bin");
const SERVER_13: &[u8] = include_bytes!("data/server13.bin");

fn secure() -> Talk {
    Talk::tcp(Ports { client: 40000, server: 443 })
}

fn talk(pieces: &[(crate::ids::app::Side, &[u8])]) -> Talk {
    let mut talk = secure();
    for (direction, bytes) in pieces {
        talk.say(*direction, bytes);
    }
    talk
}

/// What the openssl command says of the certificate, and an implementation of JA3 in another language of the hello.
#[test]
fn a_handshake_of_version_1_2_shows_names_and_certificate() {
    let (hello, rest) = CLIENT_12.split_at(204);
    let (flight, last) = SERVER_12.split_at(749);
    let mut talk = talk(&[(UP, hello), (DOWN, flight)]);
    for (name, direction, expected) in [
        ("tls.sni", UP, "www.example.org"),
        ("tls.cert_subject", DOWN, "C=DE, O=Example Works, CN=www.example.org"),
        ("tls.cert_issuer", DOWN, "C=DE, O=Example Works, CN=www.example.org"),
        ("tls.cert_serial", DOWN, "27:EE:3B:CD:1D:4A:85:02:72:90:E9:D5:87:4F:A8:A0:53:EA:63:68"),
        (
            "tls.cert_fingerprint",
            DOWN,
            "0a:c4:ab:e8:94:49:da:a4:06:28:f2:51:99:9c:8c:f9:d5:10:91:a3",
        ),
        ("tls.subjectaltname", DOWN, "www.example.org"),
        ("ja3.hash", UP, "104774240db569f8f87b1a28206b25e5"),
        ("tls.cert_subject", UP, "-"),
    ] {
        assert_eq!(talk.text(0, name, direction), expected, "{name}");
    }
    let Fields::Tls(session) = talk.tx(0).fields() else { panic!() };
    let certificate = session.certificate().unwrap();
    assert_eq!(certificate.not_after - certificate.not_before, 3650 * 86_400);
    assert_eq!((session.version(), session.is_resumed()), (Some(0x0303), false));
    assert_eq!(session.protocols(UP), [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(session.is_worth_a_record());
    assert_eq!(talk.tx(0).ready(Buffer::TlsCertSubject, DOWN), Ready::Whole);
    assert!(!talk.say(UP, rest).is_encrypted);
    assert!(talk.say(DOWN, last).is_encrypted);
    assert!(talk.tx(0).is_complete());
    assert_eq!(talk.app.protocol(), Some(Protocol::Tls));
}

#[test]
fn a_handshake_of_version_1_3_has_no_certificate_to_show() {
    let talk = talk(&[(UP, CLIENT_13), (DOWN, SERVER_13)]);
    let Fields::Tls(session) = talk.tx(0).fields() else { panic!() };
    assert_eq!((session.version(), session.is_resumed()), (Some(0x0304), false));
    assert_eq!(talk.text(0, "ja3.hash", UP), "a4e852ed87d60903caddb37da85ae9a9");
    assert!(talk.text(0, "ja4.hash", UP).starts_with("t13d0412h2_"));
    assert_eq!(talk.tx(0).ready(Buffer::TlsCertSubject, DOWN), Ready::Never);
    assert!(talk.tx(0).is_complete());
}

#[test]
fn handshakes_are_the_same_however_they_are_cut() {
    same_however_cut(secure, &[(UP, CLIENT_12), (DOWN, SERVER_12)]);
    same_however_cut(secure, &[(UP, CLIENT_13), (DOWN, SERVER_13)]);
}

#[test]
fn messages_spread_over_records_are_put_together() {
    let record = |part: &[u8]| [&[22, 3, 3, 0, u8::try_from(part.len()).unwrap()], part].concat();
    let body = &CLIENT_12[5..204];
    let spread: Vec<u8> = body.chunks(7).flat_map(record).collect();
    let picture = same_however_cut(secure, &[(UP, &spread)]);
    assert!(picture.contains("tls.sni www.example.org"), "{picture}");
}

#[test]
fn a_hello_of_sslv2_is_known() {
    let hello = [&[0x80, 0x2e, 1, 0, 2][..], &[0; 43]].concat();
    let talk = talk(&[(UP, &hello)]);
    let Fields::Tls(session) = talk.tx(0).fields() else { panic!() };
    assert_eq!(session.version().and_then(super::version_name), Some("SSLv2"));
    assert_eq!(talk.tx(0).stage(UP), Stage::Headers);
}

#[test]
fn lengths_that_lie_are_remarked_and_end_the_parser() {
    for (bytes, event) in [
        (&b"\x16\x03\x01\xff\xff"[..], "INVALID_RECORD_LENGTH"),
        (b"\x16\x03\x01\x00\x01\x01\x63\x03\x01\x00\x01", "INVALID_RECORD_TYPE"),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", "INVALID_HANDSHAKE_MESSAGE"),
        (b"\x16\x03\x01\x00\x01\x01\x16\x04\x01\x00\x01", "INVALID_RECORD_VERSION"),
    ] {
        let talk = talk(&[(UP, bytes)]);
        assert_eq!(talk.events(0), event);
        assert!(talk.app.is_ignored());
    }
}

#[test]
fn a_message_of_sixteen_megabytes_is_not_gathered() {
    let mut talk = talk(&[(UP, b"\x16\x03\x01\x40\x00\x01\xff\xff\xff")]);
    talk.say(UP, &[0; 0x4000 - 4]);
    for _ in 0..64 {
        talk.say(UP, b"\x16\x03\x01\x40\x00");
        talk.say(UP, &[0; 0x4000]);
    }
    assert_eq!(talk.events(0), "HANDSHAKE_INVALID_LENGTH");
    assert!(talk.app.bytes() < 8 << 10, "{}", talk.app.bytes());
}

#[test]
fn bytes_missing_in_encrypted_records_are_borne() {
    let mut app = App::tcp(Ports { client: 40000, server: 443 }, Pickup::Start);
    let limits = Limits::default();
    app.feed(UP, Input::Bytes(&CLIENT_13[..517]), &limits);
    app.feed(DOWN, Input::Bytes(b"\x17\x03\x03\x10\x00abc"), &limits);
    assert!(!app.is_ignored());
    app.feed(DOWN, Input::Gap(4000), &limits);
    assert!(!app.is_ignored());
    app.feed(DOWN, Input::Gap(4000), &limits);
    assert!(app.is_ignored());
}

proptest! {
    /// Whatever comes behind a hello: no panic, no more memory than the limits allow.
    #[test]
    fn hostile_bytes_are_bounded(
        parts in prop::collection::vec((any::<bool>(), fragment()), 1..40),
    ) {
        let mut talk = secure();
        for (is_up, part) in parts {
            talk.say(if is_up { UP } else { DOWN }, &part);
            prop_assert!(talk.app.bytes() < 200 << 10);
        }
        talk.end();
        talk.picture();
    }
}

/// Pieces of handshakes, spoilt or not.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let piece =
        (prop::sample::select(vec![CLIENT_12, SERVER_12, SERVER_13]), 0_usize..900, 0_usize..900);
    let piece = piece.prop_map(|(bytes, one, two)| {
        let (one, two) = (one.min(bytes.len()), two.min(bytes.len()));
        bytes[one.min(two)..one.max(two)].to_vec()
    });
    let spoilt = (0_usize..749, any::<u8>()).prop_map(|(at, byte)| {
        let mut bytes = SERVER_12[..749].to_vec();
        bytes[at] = byte;
        bytes
    });
    prop_oneof![
        2 => spoilt,
        1 => piece,
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"\x16\x03\x03\x40\x00\x0b\x00\xff\xff".to_vec()),
    ]
}
