//! Streams that are cut, reordered, sent twice and lied about.

use proptest::prelude::*;

use super::*;

/// What records say, without when and on which packet.
fn said(told: &Told) -> Vec<String> {
    let mut all: Vec<String> = told
        .0
        .iter()
        .filter(|record| record.body.kind() != Kind::Flow)
        .map(|record| format!("{:?}:{:?} {:?}", record.head.src, record.head.sport, record.body))
        .collect();
    all.sort();
    all
}

/// Three requests and their answers: with a length, in chunks, and as long as the connection lasts.
fn exchanges() -> [(&'static [u8], &'static [u8]); 3] {
    [
        (REQUEST, ANSWER),
        (
            b"POST /form?a=1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 11\r\n\r\na=1&b=hello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ),
        (
            b"GET /last HTTP/1.0\r\n\r\n",
            b"HTTP/1.0 404 Not Found\r\nServer: small\r\n\r\nnothing here",
        ),
    ]
}

fn whole(inline: bool) -> Vec<String> {
    let mut site = site(inline);
    let mut talk = Talk::open(&mut site, 80);
    for (request, answer) in exchanges() {
        let _ = talk.says(&mut site, Client, request);
        let _ = talk.says(&mut site, Server, answer);
    }
    said(site.ends())
}

fn site(inline: bool) -> Site {
    Site::new(|settings| {
        if inline {
            settings.streams.mode = stream::Mode::Inline;
        }
        settings.streams.hosts =
            stream::HostPolicies::new(Vec::new(), stream::OverlapPolicy::First);
    })
}

/// Sends bytes in pieces: each is `size` long, in an order that `keys` make, some of them twice, and before some a lie
/// with a wrong checksum.
fn in_pieces(talk: &mut Talk, site: &mut Site, who: Who, bytes: &[u8], size: usize, keys: &[u32]) {
    let mut pieces: Vec<(u32, usize)> = (0..bytes.len())
        .step_by(size)
        .zip(keys.iter().cycle())
        .map(|(at, key)| (*key, at))
        .collect();
    pieces.sort_unstable();
    for (key, at) in pieces {
        let piece = &bytes[at..(at + size).min(bytes.len())];
        if key % 5 == 0 {
            let lie = vec![b'#'; piece.len()];
            let mut frame = talk.frame_at(who, "ap", at as u32, &lie);
            frame[50] ^= 0xa5;
            let _ = site.sees(&frame);
        }
        let frame = talk.frame_at(who, "ap", at as u32, piece);
        let _ = site.sees(&frame);
        if key % 7 == 0 {
            let _ = site.sees(&frame);
        }
    }
    talk.sent(who, bytes.len());
    let other = if who == Client { Server } else { Client };
    let ack = talk.frame(other, "a", &[]);
    let _ = site.sees(&ack);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_are_the_same_however_a_stream_is_cut(
        size in 1usize..60, keys in prop::collection::vec(any::<u32>(), 1..50), inline: bool,
    ) {
        let mut site = site(inline);
        let mut talk = Talk::open(&mut site, 80);
        for (request, answer) in exchanges() {
            in_pieces(&mut talk, &mut site, Client, request, size, &keys);
            in_pieces(&mut talk, &mut site, Server, answer, size, &keys);
        }
        prop_assert_eq!(said(site.ends()), whole(inline));
    }

    #[test]
    fn no_frame_makes_it_panic_and_every_flow_is_told_once(
        flips in prop::collection::vec((0usize..200, any::<u8>()), 1..12), lengths in prop::collection::vec(0usize..200, 8),
    ) {
        let mut site = Site::new(|_| ());
        let mut talk = Talk::new(80);
        let mut frames: Vec<Vec<u8>> = talk.handshake().into();
        frames.push(talk.frame(Client, "ap", REQUEST));
        frames.push(talk.frame(Server, "ap", ANSWER));
        frames.extend([query(), response(), udp6(53, 5000, RESPONSE)]);
        for (frame, length) in frames.iter_mut().zip(lengths) {
            for (at, value) in &flips {
                if let Some(byte) = frame.get_mut(*at) {
                    *byte ^= value;
                }
            }
            frame.truncate(length.max(1));
            let _ = site.sees(frame);
        }
        let flows = site.inspector.counters().get(Counter::Flows);
        prop_assert_eq!(site.ends().flows().len() as u64, flows);
    }
}

#[test]
fn one_byte_at_a_time_says_the_same() {
    let mut site = site(false);
    let mut talk = Talk::open(&mut site, 80);
    for (request, answer) in exchanges() {
        for (who, bytes) in [(Client, request), (Server, answer)] {
            for byte in bytes.chunks(1) {
                let _ = talk.says(&mut site, who, byte);
            }
        }
    }
    assert_eq!(said(site.ends()), whole(false));
    assert_eq!(whole(false).len(), 3);
}

#[test]
fn more_requests_in_one_segment_than_may_be_open_are_all_told() {
    let mut site = Site::new(|settings| settings.apps.transactions = 4);
    let mut talk = Talk::open(&mut site, 80);
    let requests: Vec<u8> =
        (0..64).flat_map(|i| format!("GET /{i} HTTP/1.1\r\n\r\n").into_bytes()).collect();
    let answers: Vec<u8> = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(4);
    for _ in 0..2 {
        let _ = talk.says(&mut site, Client, &requests[..]);
        let _ = talk.says(&mut site, Server, &answers);
    }
    let told = site.ends();
    assert_eq!(told.flows()[0].transactions, 128);
}
