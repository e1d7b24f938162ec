//! What a segment costs; printed, as machines differ.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;

/// Counts, so that nothing is left out.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn data(&mut self, _: StreamId, _: Side, _: u64, bytes: &[u8]) {
        self.0 += black_box(bytes).len() as u64;
    }
    fn gap(&mut self, _: StreamId, _: Side, _: u64, _: u64) {}
}

/// Time of `rounds` segments of 1,460 bytes in order over `connections` in turn, `per_ack` to an acknowledgement.
fn in_order(mode: Mode, connections: u32, per_ack: u32, rounds: u32) -> Duration {
    let settings = Settings {
        mode,
        depth: 0,
        budget: Budget { connections: 64 << 20, bytes: 256 << 20 },
        ..Settings::default()
    };
    let mut streams = Streams::new(settings);
    let mut sink = Count::default();
    let now = Time(0);
    let segment = |flags, seq, ack, payload: &'static [u8]| Segment {
        flags: TcpFlags(flags),
        seq,
        ack,
        window: 65_535,
        length: payload.len() as u32,
        payload,
        ..Segment::default()
    };
    let keys: Vec<(Key, End)> =
        (0..connections).map(|n| Key::of(&headers(n as u16), (n >> 16) as u16)).collect();
    for (key, client) in &keys {
        let _ = streams.segment(key, *client, &segment(SYN, 0, 0, b""), now, &mut sink);
        let _ =
            streams.segment(key, client.other(), &segment(SYN | ACK, 0, 1, b""), now, &mut sink);
        let outcome = streams.segment(key, *client, &segment(ACK, 1, 1, b""), now, &mut sink);
        if let Some(id) = outcome.stream {
            streams.unwatch(id, Side::Client);
        }
    }
    let payload: &'static [u8] = &[5; 1460];
    let start = Instant::now();
    for round in 0..rounds {
        for (key, client) in &keys {
            for i in 0..per_ack {
                let seq = 1 + (round * per_ack + i) * 1460;
                let _ =
                    streams.segment(key, *client, &segment(ACK, seq, 1, payload), now, &mut sink);
            }
            let ack = 1 + (round + 1) * per_ack * 1460;
            let _ =
                streams.segment(key, client.other(), &segment(ACK, 1, ack, b""), now, &mut sink);
        }
    }
    let time = start.elapsed();
    assert_eq!(sink.0, u64::from(rounds * per_ack) * u64::from(connections) * 1460);
    assert_eq!(streams.bytes_in_use(), 0);
    time
}

#[test]
fn cost_of_segments() {
    let cases = [
        ("passive, one connection, an ACK each", Mode::Passive, 1, 1, 200_000),
        ("passive, one connection, an ACK for two", Mode::Passive, 1, 2, 100_000),
        ("passive, 1,000 connections, an ACK for two", Mode::Passive, 1000, 2, 100),
        ("inline, one connection, an ACK for two", Mode::Inline, 1, 2, 100_000),
        ("inline, 1,000 connections, an ACK for ten", Mode::Inline, 1000, 10, 20),
        ("passive, 50,000 connections, an ACK for two", Mode::Passive, 50_000, 2, 4),
    ];
    for (name, mode, connections, per_ack, rounds) in cases {
        let time = in_order(mode, connections, per_ack, rounds);
        let segments = u64::from(connections * per_ack * rounds);
        let each = time.as_nanos() as u64 / segments;
        println!("{name}: {each} ns for 1,460 bytes and their part of the ACK");
        assert!(each < 100_000);
    }
}
