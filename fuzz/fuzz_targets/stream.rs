//! Segments of two hosts in any order, alone and in trains: each direction is told in order and once, and no budget is exceeded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs::ids::stream::{
    Ahead, Budget, End, Key, Midstream, Mode, OneSide, Segment, Settings, Side, Sink, StreamId, Streams,
    Verdict, When,
};
use nfv_core::clock::Time;
use nfv_core::packet::{Headers, TcpFlags};

/// Sees that offsets follow each other.
#[derive(Default)]
struct Listener {
    next: [u64; 2],
}

impl Sink for Listener {
    fn data(&mut self, _: StreamId, from: Side, offset: u64, bytes: &[u8]) {
        self.gap(StreamId(0), from, offset, bytes.len() as u64);
    }

    fn gap(&mut self, _: StreamId, from: Side, offset: u64, length: u64) {
        let next = &mut self.next[from.index()];
        assert_eq!(*next, offset, "told twice, or out of order");
        assert!(length > 0);
        *next += length;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((how, mut rest)) = input.split_first() else { return };
    let mut settings = Settings {
        mode: if how & 1 == 0 { Mode::Passive } else { Mode::Inline },
        midstream: if how & 2 == 0 { Midstream::Leave } else { Midstream::PickUp },
        one_side: if how & 4 == 0 { OneSide::Leave } else { OneSide::Follow },
        budget: Budget { connections: 64 << 10, bytes: 256 << 10 },
        ..Settings::default()
    };
    settings.depth = if how & 8 == 0 { 0 } else { 5000 };
    let mut streams = Streams::new(settings);
    let (key, low) = Key::of(&Headers { sport: 1, dport: 2, ..Headers::default() }, 0);
    assert_eq!(low, End::Low);
    let mut listener = Listener::default();
    let (mut time, mut known) = (0, None);
    let payload = [b'x'; 2048];
    // Ten bytes a segment: whose, flags, where (near its predecessor), what it acknowledges, how long.
    while let Some(([end, flags, s0, s1, s2, a0, a1, length, shift, tick], behind)) = rest.split_first_chunk() {
        rest = behind;
        time += u64::from(*tick) << 20;
        let from = if end & 1 == 0 { End::Low } else { End::High };
        let base = if end & 2 == 0 { 0 } else { 0xffff_ff00 };
        let length = usize::from(*length) << (shift & 3);
        let segment = Segment {
            flags: TcpFlags(flags & 0x3f),
            seq: u32::from_be_bytes([0, *s0 & 1, *s1, *s2]).wrapping_add(base),
            ack: u32::from_be_bytes([0, 0, *a0, *a1]).wrapping_add(base),
            window: u16::from_be_bytes([*a1, *s2]),
            length: length as u32,
            payload: &payload[..length.min(payload.len())],
            ..Segment::default()
        };
        // Some of them the short way, if they are what was expected: one to four in a row, in which something is seen or not.
        if let Some((id, client)) = known.filter(|_| end & 4 != 0) {
            let side = if from == client { Side::Client } else { Side::Server };
            let row = (0..=u32::from(shift >> 2 & 3)).map(|n| Segment { seq: segment.seq.wrapping_add(n * length as u32), ..segment });
            let ahead = Ahead { reach: usize::from(shift >> 4), kept: u16::from(*tick) << 4 };
            let taken = streams.expect_train(id, side, row, Time(time), ahead, |bytes| bytes.len() % 7 != 0);
            listener.next[side.index()] += (taken * length) as u64;
            if taken > 0 {
                assert_eq!(streams.view(id).map(|view| view.told), Some(listener.next));
                continue;
            }
        }
        let outcome = streams.segment(&key, from, &segment, Time(time), &mut listener);
        known = outcome.stream.and_then(|id| Some((id, streams.view(id)?.client)));
        if let Some(id) = outcome.stream {
            if outcome.verdict == Verdict::Reopens {
                let _ = streams.finish(id, &mut listener);
                streams.forget(id);
                (listener, known) = (Listener::default(), None);
                continue;
            }
            for side in Side::BOTH {
                while streams.window(id, side, When::Full, |window| assert!(!window.bytes.is_empty())).is_some() {}
            }
        }
        while let Some((id, _)) = streams.due(Time(time)) {
            let _ = streams.finish(id, &mut listener);
            streams.forget(id);
            (listener, known) = (Listener::default(), None);
        }
    }
});
