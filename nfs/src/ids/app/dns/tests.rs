//! Messages of DNS over UDP and TCP, whole and cut anywhere.

use std::time::Instant;

use proptest::prelude::*;

use super::{Data, Message};
use crate::ids::app::testkit::{DOWN, Talk, UP, same_however_cut, unhex};
use crate::ids::app::{App, Fields, Input, Limits, Ports, Protocol};
use crate::ids::buffer::Buffer;

const PORTS: Ports = Ports { client: 40000, server: 53 };

/// `www.example.com A`
const QUERY: &str = "abcd 0100 0001 0000 0000 0000 03777777 076578616d706c65 03636f6d 00 0001 0001";

/// Its answer: a CNAME, an address, an authority, an additional one.
const RESPONSE: &str =
    "abcd 8180 0001 0002 0001 0001 03777777 076578616d706c65 03636f6d 00 0001 0001
    c00c 0005 0001 0000003c 0004 0161c010
    c02d 0001 0001 0000003c 0004 c0000201
    c010 0006 0001 0000003c 0018 c010c010 00000001 00000002 00000003 00000004 00000005
    00 0029 1000 00000000 0000";

fn datagrams(bytes: &[&str]) -> Talk {
    let mut talk = Talk::of(App::udp(PORTS));
    for (at, digits) in bytes.iter().enumerate() {
        talk.say(if at % 2 == 0 { UP } else { DOWN }, &unhex(digits));
    }
    talk
}

fn message(talk: &Talk, id: u64) -> &Message {
    let Fields::Dns(message) = talk.tx(id).fields() else { panic!() };
    message
}

fn framed(digits: &str) -> Vec<u8> {
    let bytes = unhex(digits);
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat()
}

#[test]
fn query_and_response_are_a_transaction_each() {
    let talk = datagrams(&[QUERY, RESPONSE]);
    assert_eq!(talk.app.protocol(), Some(Protocol::Dns));
    assert_eq!(talk.text(0, "dns.query", UP), "www.example.com");
    assert_eq!(talk.text(0, "dns.query", DOWN), "-");
    assert_eq!(talk.text(1, "dns.query", DOWN), "-");
    assert_eq!(talk.text(1, "dns.queries.rrname", DOWN), "www.example.com");
    let tx = talk.tx(1);
    assert_eq!(tx.buffer_at(Buffer::DnsAnswersName, DOWN, 1), Some(&b"a.example.com"[..]));
    assert_eq!(tx.buffer_at(Buffer::DnsAnswersName, DOWN, 2), None);
    let (query, response) = (message(&talk, 0), message(&talk, 1));
    assert_eq!((query.id(), query.flags(), query.is_response()), (0xabcd, 0x0100, false));
    assert_eq!(
        (response.rcode(), response.opcode(), response.is_recursion_available()),
        (0, 0, true)
    );
    let answers: Vec<_> = response.answers().map(|record| record.data).collect();
    assert_eq!(answers, [Data::Name(b"a.example.com"), Data::Address4([192, 0, 2, 1].into())]);
    let authority = response.authorities().next().unwrap().data;
    let name = b"example.com";
    assert_eq!(
        authority,
        Data::Authority { server: name, mailbox: name, numbers: [1, 2, 3, 4, 5] }
    );
    assert_eq!(response.additionals().map(|record| record.kind).collect::<Vec<_>>(), [41]);
    assert!(talk.tx(0).is_complete() && talk.tx(1).events().is_empty());
}

#[test]
fn data_of_each_type_is_taken_apart() {
    let record = |kind: &str, data: &str| {
        let len = unhex(data).len();
        format!("0001 8180 0000 0001 0000 0000 00 {kind} 0001 0000003c {len:04x} {data}")
    };
    let data = |kind, digits| {
        let talk = datagrams(&[QUERY, &record(kind, digits)]);
        format!("{:?}", message(&talk, 1).answers().next().unwrap().data)
    };
    assert_eq!(data("001c", "20010db8 00000000 00000000 00000001"), "Address6(2001:db8::1)");
    assert_eq!(data("000f", "000a 016d 00"), "Mail { preference: 10, name: [109] }");
    assert_eq!(
        data("0021", "0001 0002 01bb 016d 00"),
        "Service { numbers: [1, 2, 443], name: [109] }"
    );
    assert_eq!(data("0010", "0161 026263"), "Text([1, 97, 2, 98, 99])");
    assert_eq!(
        data("002c", "04 02 aabb"),
        "Fingerprint { algorithm: 4, kind: 2, fingerprint: [170, 187] }"
    );
    assert_eq!(data("0001", "0102"), "Other([1, 2])");
    let text = unhex("0161 026263");
    assert_eq!(Data::Text(&text).strings().collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
}

#[test]
fn messages_over_tcp_are_the_same_however_they_are_cut() {
    let new = || Talk::tcp(PORTS);
    let (up, down) = ([framed(QUERY), framed(QUERY)].concat(), framed(RESPONSE));
    let picture = same_however_cut(new, &[(UP, &up), (DOWN, &down)]);
    assert_eq!(picture.matches("dns.query www.example.com").count(), 2, "{picture}");
}

#[test]
fn a_response_seen_first_turns_the_flow() {
    let mut app = App::udp(Ports { client: 53, server: 40000 });
    let progress = app.feed(UP, Input::Bytes(&unhex(RESPONSE)), &Limits::default());
    assert!(progress.is_swapped);
    let tx = app.transactions().get(0).unwrap();
    assert!(tx.buffer(Buffer::DnsAnswersName, DOWN).is_some());
}

#[test]
fn what_is_no_dns_on_its_port_fails() {
    let talk = datagrams(&["00 01 02 03"]);
    assert_eq!(talk.app.protocol(), Some(Protocol::Failed));
    assert!(talk.app.transactions().is_empty());
}

#[test]
fn what_is_wrong_with_a_message_is_remarked() {
    let events = |digits: &str| {
        let talk = datagrams(&[QUERY, digits]);
        (talk.events(1), talk.tx(1).is_logged())
    };
    assert_eq!(events("abcd 8180 0001 0000 0000 0000 03777777"), ("malformed_data".into(), true));
    assert_eq!(events("abcd 81c0 0001 0000 0000 0000 00 0001 0001").0, "z_flag_set");
    assert_eq!(events("abcd 0100 0001 0000 0000 0000 00 0001 0001").0, "not_response");
    assert_eq!(events("abcd f980 0001 0000 0000 0000 00 0001 0001").0, "invalid_opcode");
    assert_eq!(events("abcd 8180 0001 0000 0000 0000 c00c 0001 0001").0, "infinite_loop");
    assert_eq!(events("abcd 8180 0001 0000 0000 0001 00 0001 0001 05").0, "invalid_additionals");
}

#[test]
fn a_message_of_pointers_is_bounded_in_time_and_memory() {
    // A name of 1,000 bytes, and 5,000 records that point to it.
    let mut bytes = unhex("0001 8180 0000 1388 0000 0000");
    for _ in 0..16 {
        bytes.push(62);
        bytes.extend_from_slice(&[b'a'; 62]);
    }
    bytes.extend_from_slice(&unhex("00 0001 0001 00000000 0000"));
    for _ in 0..4999 {
        bytes.extend_from_slice(&unhex("c00c 0005 0001 00000000 0002 c00c"));
    }
    bytes.truncate(65_535);
    let start = Instant::now();
    let (message, _) = Message::read(&bytes, DOWN, &Limits::default());
    let time = start.elapsed();
    assert!(message.bytes() < 64 << 10, "{}", message.bytes());
    println!("5,000 records that point to a name of 1,000 bytes: {time:?}");
    assert!(time.as_millis() < 500, "{time:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300), names in any::<bool>()) {
        let bytes = if names { [&unhex(RESPONSE)[..33], &bytes].concat() } else { bytes };
        let (message, _) = Message::read(&bytes, UP, &Limits::default());
        prop_assert!(message.answers().count() <= Limits::default().dns_records);
        prop_assert!(message.bytes() < 256 << 10);
    }
}
