//! Memory under attack, and evasions.

use proptest::prelude::*;

use super::*;

/// Told nothing.
struct Deaf;

impl Sink for Deaf {
    fn data(&mut self, _: StreamId, _: Side, _: u64, _: &[u8]) {}
    fn gap(&mut self, _: StreamId, _: Side, _: u64, _: u64) {}
}

fn small(budget: usize) -> Settings {
    Settings { budget: Budget { connections: budget, bytes: budget }, ..Settings::default() }
}

fn key(number: u32) -> (Key, End) {
    let mut h = headers((number >> 8) as u16);
    let [a, b, c, d] = number.to_be_bytes();
    h.src.0[..4].copy_from_slice(&[a, b, c, d]);
    Key::of(&h, 0)
}

fn segment(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Segment<'_> {
    let length = payload.len() as u32;
    Segment {
        flags: TcpFlags(flags),
        seq,
        ack,
        window: 65_535,
        length,
        payload,
        ..Segment::default()
    }
}

/// A connection of many, after its handshake; both first numbers are 0.
fn shake_hands(streams: &mut Streams, number: u32, now: Time) -> Option<StreamId> {
    let (key, client) = key(number);
    let _ = streams.segment(&key, client, &segment(SYN, 0, 0, b""), now, &mut Deaf);
    let _ = streams.segment(&key, client.other(), &segment(SYN | ACK, 0, 1, b""), now, &mut Deaf);
    streams.segment(&key, client, &segment(ACK, 1, 1, b""), now, &mut Deaf).stream
}

fn send(streams: &mut Streams, number: u32, side: Side, segment: &Segment<'_>) -> Outcome {
    let (key, client) = key(number);
    let from = if side == Side::Client { client } else { client.other() };
    streams.segment(&key, from, segment, Time(0), &mut Deaf)
}

fn forget_all(streams: &mut Streams) {
    for number in 1..=streams.most() {
        streams.forget(StreamId(number));
    }
    assert_eq!((streams.len(), streams.bytes_in_use()), (0, 0));
}

#[test]
fn a_million_idle_streams_take_less_than_250_bytes_each() {
    let connections = 250_000_000;
    let settings =
        Settings { budget: Budget { connections, bytes: 1 << 20 }, ..Settings::default() };
    let mut streams = Streams::new(settings);
    let before = streams.reserved();
    for number in 0..1_000_000 {
        assert!(shake_hands(&mut streams, number, Time(0)).is_some());
    }
    assert_eq!(streams.len(), 1_000_000);
    let bytes = streams.reserved() - before;
    let all = streams.reserved() - (1 << 20);
    println!(
        "1,000,000 idle streams: {} B each, {} B with index and page table; room for {}",
        bytes / 1_000_000,
        all / 1_000_000,
        streams.most()
    );
    assert!(all <= connections);
    assert_eq!(streams.bytes_in_use(), 0);
}

#[test]
fn a_flood_of_syns_takes_its_budget_and_leaves_open_connections_their_place() {
    let mut streams = Streams::new(small(1 << 20));
    let kept: Vec<_> = (0..100).map(|n| shake_hands(&mut streams, n, Time(0))).collect();
    let budget = 2 << 20;
    let mut refused = 0;
    for number in 100..200_000 {
        let (key, client) = key(number);
        let now = Time(u64::from(number) * 1000);
        let syn = segment(SYN, number, 0, b"data of a SYN");
        let outcome = streams.segment(&key, client, &syn, now, &mut Deaf);
        refused += u32::from(outcome.verdict == Verdict::NotFollowed(NotFollowed::NoRoom));
        while let Some((id, over)) = streams.due(now) {
            assert_eq!(over, Over::Surplus);
            let _ = streams.finish(id, &mut Deaf);
            streams.forget(id);
        }
        assert!(streams.reserved() <= budget);
    }
    assert_eq!(refused, 0);
    for (number, id) in (0..100).zip(kept) {
        assert_eq!(streams.find(&key(number).0), id);
    }
    forget_all(&mut streams);
}

#[test]
fn without_anyone_who_makes_room_new_connections_are_refused_and_counted() {
    let mut streams = Streams::new(small(1 << 16));
    for number in 0..1000 {
        let _ = shake_hands(&mut streams, number, Time(0));
    }
    assert_eq!(streams.len(), streams.most());
    assert!(streams.counters().get(Counter::SsnMemcapDrop) > 0);
    assert!(streams.reserved() <= 2 << 16);
    forget_all(&mut streams);
}

#[test]
fn one_byte_every_64_kilobytes_takes_no_more_than_its_budget() {
    let mut streams = Streams::new(small(1 << 20));
    for number in 0..2000 {
        let _ = shake_hands(&mut streams, number, Time(0));
        for i in 0..40u32 {
            let _ = send(&mut streams, number, Side::Client, &segment(ACK, 2 + i * 1500, 1, b"x"));
            assert!(streams.reserved() <= 2 << 20);
        }
    }
    assert!(streams.counters().get(Counter::ShedStreams) > 0);
    // Who comes now is seen all the same.
    let mut heard = Heard::default();
    let _ = shake_hands(&mut streams, 9999, Time(0));
    let (key, client) = key(9999);
    let request = [7; 1460];
    let _ = streams.segment(&key, client, &segment(ACK, 1, 1, &request), Time(0), &mut heard);
    let _ = streams.segment(&key, client.other(), &segment(ACK, 1, 1461, b""), Time(0), &mut heard);
    assert_eq!(heard.bytes[0], request);
    forget_all(&mut streams);
}

#[test]
fn what_was_told_gives_way_before_what_waits() {
    let mut streams = Streams::new(small(1 << 20));
    let mut heard = Heard::default();
    let request = [7; 1460];
    for number in 0..2000 {
        let _ = shake_hands(&mut streams, number, Time(0));
        let _ = send(&mut streams, number, Side::Client, &segment(ACK, 1, 1, &request));
        let _ = send(&mut streams, number, Side::Server, &segment(ACK, 1, 1461, b""));
        let id = streams.find(&key(number).0).expect("a connection");
        let seen = streams.window(id, Side::Client, When::Now, |w| w.bytes.len());
        assert_eq!(seen, Some(1460));
    }
    // The history of the first ones, for raw rules, made room for the last ones.
    assert!(streams.bytes_in_use() > 500_000);
    assert_eq!(streams.counters().get(Counter::ShedStreams), 0);
    assert_eq!(streams.counters().get(Counter::SegmentMemcapDrop), 0);
    let (key, client) = key(1999);
    let _ = streams.segment(&key, client, &segment(ACK, 1461, 1, b"more"), Time(0), &mut heard);
    let id = streams.find(&key).expect("a connection");
    let _ = streams.segment(&key, client.other(), &segment(ACK, 1, 1465, b""), Time(0), &mut Deaf);
    let seen = streams.window(id, Side::Client, When::Now, |w| (w.history, w.offset));
    assert_eq!(seen, Some((1024, 436)));
    forget_all(&mut streams);
}

#[test]
fn a_flood_of_single_bytes_leaves_whole_segments_their_room() {
    let mut streams = Streams::new(small(4 << 20));
    let _ = shake_hands(&mut streams, 1, Time(0));
    let (key, client) = key(1);
    let mut heard = Heard::default();
    let _ = streams.segment(&key, client, &segment(ACK, 1, 1, &[1; 1460]), Time(0), &mut heard);
    for number in 2..200 {
        let _ = shake_hands(&mut streams, number, Time(0));
        for i in 0..100u32 {
            let _ = send(&mut streams, number, Side::Client, &segment(ACK, 2 + i * 2, 1, b"x"));
        }
    }
    let _ = streams.segment(&key, client.other(), &segment(ACK, 1, 1461, b""), Time(0), &mut heard);
    assert_eq!(heard.bytes[0].len(), 1460);
    forget_all(&mut streams);
}

#[test]
fn bytes_that_nobody_acknowledges_are_told_before_they_are_too_many() {
    let settings = Settings { direction_bytes: 100_000, depth: 0, ..small(8 << 20) };
    let mut streams = Streams::new(settings);
    let (key, client) = key(5);
    let mut heard = Heard::default();
    let syn = Segment { scale: Some(14), ..segment(SYN, 0, 0, b"") };
    let _ = streams.segment(&key, client, &syn, Time(0), &mut heard);
    let syn_ack = Segment { scale: Some(14), ..segment(SYN | ACK, 0, 1, b"") };
    let _ = streams.segment(&key, client.other(), &syn_ack, Time(0), &mut heard);
    let _ = streams.segment(&key, client.other(), &segment(ACK, 1, 1, b""), Time(0), &mut heard);
    let _ = streams.segment(&key, client, &segment(ACK, 1, 1, b""), Time(0), &mut heard);
    let _ = streams.segment(&key, client.other(), &segment(ACK, 1, 1, b""), Time(0), &mut heard);
    // From the second segment on: the first is lost.
    for i in 1..1000u32 {
        let payload = [i as u8; 1000];
        let outcome = streams.segment(
            &key,
            client,
            &segment(ACK, 1 + i * 1000, 1, &payload),
            Time(0),
            &mut heard,
        );
        assert!(!outcome.events.has(Event::ReassemblyInsertLimit));
        assert!(streams.bytes_in_use() < 300_000, "{}", streams.bytes_in_use());
    }
    assert_eq!(heard.gaps, [(Side::Client, 0, 1000)]);
    assert!(heard.bytes[0].len() > 900_000);
    forget_all(&mut streams);
}

#[test]
fn inline_a_megabyte_in_flight_is_kept_and_more_gives_way() {
    let settings = Settings { direction_bytes: 50_000, mode: Mode::Inline, ..small(8 << 20) };
    let mut streams = Streams::new(settings);
    let (key, client) = key(5);
    let mut heard = Heard::default();
    let _ = shake_hands(&mut streams, 5, Time(0));
    for i in 0..60u32 {
        let payload = [i as u8; 1000];
        let _ = streams.segment(
            &key,
            client,
            &segment(ACK, 1 + i * 1000, 1, &payload),
            Time(0),
            &mut heard,
        );
    }
    assert_eq!(heard.bytes[0].len(), 60_000);
    assert!(streams.bytes_in_use() <= 2 * 60_000);
    forget_all(&mut streams);
}

#[derive(Clone, Debug)]
struct Wild {
    connection: u32,
    side: Side,
    flags: u8,
    seq: u32,
    ack: u32,
    length: usize,
    urgent: u16,
}

fn wild() -> impl Strategy<Value = Wild> {
    let flags = prop_oneof![6 => Just(ACK), 1 => Just(SYN), 1 => Just(SYN | ACK), 1 => Just(FIN | ACK),
        1 => Just(RST), 1 => Just(ACK | URG), 1 => any::<u8>()];
    let number = prop_oneof![8 => 0u32..4000, 1 => any::<u32>()];
    let length = prop_oneof![4 => 0usize..3, 2 => 0usize..300, 1 => 0usize..9000];
    let side = prop_oneof![Just(Side::Client), Just(Side::Server)];
    (0u32..12, side, flags, number.clone(), number, length, 0u16..40).prop_map(
        |(connection, side, flags, seq, ack, length, urgent)| Wild {
            connection,
            side,
            flags,
            seq,
            ack,
            length,
            urgent,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_no_byte_more_than_the_budget_is_held_and_all_is_given_back(
        wilds in prop::collection::vec(wild(), 1..400), mode in 0..2, picks in 0..4, offset: u32,
        depth in prop_oneof![Just(0u64), 1u64..5000],
    ) {
        let settings = Settings {
            mode: if mode == 0 { Mode::Passive } else { Mode::Inline },
            midstream: if picks & 1 == 0 { Midstream::Leave } else { Midstream::PickUp },
            one_side: if picks & 2 == 0 { OneSide::Leave } else { OneSide::Follow },
            depth,
            direction_bytes: 20_000,
            ..small(1 << 17)
        };
        let bytes: Vec<u8> = (0..9000).map(|i| (i * 13) as u8).collect();
        let mut streams = Streams::new(settings);
        let mut heard: std::collections::HashMap<u32, Heard> = Default::default();
        let number = |wild: &Wild, own: u32| own.wrapping_add(offset).wrapping_mul(1) ^ (wild.connection & 1);
        for (i, wild) in wilds.iter().enumerate() {
            let now = Time(i as u64 * 50_000_000);
            let (key, client) = key(wild.connection);
            let from = if wild.side == Side::Client { client } else { client.other() };
            let payload = &bytes[..wild.length];
            let mut segment = segment(wild.flags, number(wild, wild.seq), number(wild, wild.ack), payload);
            segment.urgent = wild.urgent;
            let heard = heard.entry(wild.connection).or_default();
            let outcome = streams.segment(&key, from, &segment, now, heard);
            prop_assert!(streams.reserved() <= 2 << 17);
            if outcome.verdict == Verdict::Reopens {
                let id = outcome.stream.expect("it reopens one");
                let _ = streams.finish(id, heard);
                streams.forget(id);
                *heard = Heard::default();
                let again = streams.segment(&key, from, &segment, now, heard);
                prop_assert!(again.is_new || again.stream.is_none());
            }
            if let Some(id) = outcome.stream {
                if outcome.must_be_rewritten {
                    let mut payload = payload.to_vec();
                    streams.normalize(id, outcome.side, segment.data_seq(), &mut payload);
                }
                if i % 3 == 0 {
                    let when = if i % 2 == 0 { When::Full } else { When::Now };
                    streams.window(id, outcome.side, when, |w| assert!(w.history <= w.bytes.len()));
                }
            }
            if i % 16 == 0 {
                while let Some((id, _)) = streams.due(now) {
                    let _ = streams.finish(id, &mut Deaf);
                    while streams.window(id, Side::Client, When::Now, |_| ()).is_some() {}
                    streams.forget(id);
                }
            }
        }
        forget_all(&mut streams);
    }

    #[test]
    fn a_conversation_is_heard_whatever_its_order_and_cuts(
        sizes in prop::collection::vec((1usize..2500, any::<bool>(), 0u8..8), 1..40),
        isn: [u32; 2], mode in 0..2, one_byte: bool,
    ) {
        let mut talk = Talk::new(|s| {
            s.mode = if mode == 0 { Mode::Passive } else { Mode::Inline };
            s.depth = 0;
        });
        (talk.isn, talk.scale) = (isn, Some(7));
        talk.shake_hands();
        let mut sent: [Vec<u8>; 2] = Default::default();
        for (size, is_client, act) in sizes {
            let side = if is_client { Side::Client } else { Side::Server };
            let (own, other) = (sent[side.index()].len() as u32, sent[side.other().index()].len() as u32);
            let size = if one_byte { size.min(80) } else { size };
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + own as usize) as u8).collect();
            let seq = 1 + own;
            let step = if one_byte { 1 } else { 600 };
            let mut parts: Vec<(u32, &[u8])> = (0..).map(|i| i * step).zip(bytes.chunks(step as usize))
                .map(|(at, chunk)| (seq + at, chunk)).collect();
            match act {
                0 => parts.reverse(),
                1 => { let twice = parts.clone(); parts.extend(twice); }
                2 => { let half = parts.len() / 2; parts.rotate_left(half); }
                3 => parts.push((seq, &bytes)),
                4 => parts.insert(0, (seq, &bytes[..size / 2])),
                _ => {}
            }
            for (seq, part) in parts {
                let outcome = talk.send(side, ACK, seq, 1 + other, part);
                prop_assert!(!outcome.events.has(Event::ReassemblyOverlapDifferentData));
                prop_assert_ne!(outcome.verdict, Verdict::Refused);
            }
            // What a target throws away as too old, or beyond its window, must not be heard.
            let _ = talk.send(side, ACK, seq + size as u32 + 90_000_000, 1 + other, b"garbage");
            sent[side.index()].extend_from_slice(&bytes);
            if act != 5 {
                let (own, other) = (sent[side.index()].len() as u32, sent[side.other().index()].len() as u32);
                let _ = talk.send(side.other(), ACK, 1 + other, 1 + own, b"");
                prop_assert_eq!(talk.heard(side), &sent[side.index()][..]);
            }
        }
        let heard = talk.end();
        prop_assert_eq!(heard.bytes, sent);
        prop_assert!(heard.gaps.is_empty());
    }
}
