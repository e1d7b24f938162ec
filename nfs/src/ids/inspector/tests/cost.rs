//! What a packet and a flow cost.

use std::time::Instant;

use super::*;
use crate::ids::inspector::flow::Flow;

struct Nobody;

impl Recorder for Nobody {
    fn record(&mut self, _: Record) {}
}

#[test]
fn a_flow_is_as_large_as_its_manual_says() {
    assert_eq!(size_of::<Flow>(), 208);
}

/// Prints; see `Inspector::packet`.
#[test]
#[ignore = "measures"]
fn cost_of_packets() {
    let mut site = Site::new(|settings| settings.streams.depth = 0);
    let mut talk = Talk::open(&mut site, 9999);
    let payload = [b'x'; 1460];
    let mut frames = Vec::new();
    for i in 0..20_000 {
        frames.push(talk.frame(Server, "ap", &payload));
        talk.sent(Server, payload.len());
        if i % 2 == 1 {
            frames.push(talk.frame(Client, "a", &[]));
        }
    }
    let start = Instant::now();
    for frame in &frames {
        let seen =
            Seen { time: site.now, frame, wire_length: frame.len() as u32, port: 0, place: None };
        let _ = site.inspector.packet(&seen, &mut Nobody);
    }
    let each = start.elapsed().as_nanos() / frames.len() as u128;
    println!("{each} ns a packet, a third of them acknowledgements");
}

/// Prints.
#[test]
#[ignore = "measures"]
fn a_million_connections_fit_into_their_budget() {
    let mut site = Site::new(|settings| {
        settings.checksums = Checksums::Ignore;
        settings.budget = Budget { flows: 300 << 20, apps: 64 << 20 };
        settings.streams.budget = stream::Budget { connections: 280 << 20, bytes: 64 << 20 };
    });
    let frames = Talk::new(80).handshake();
    for i in 0..1_000_000u32 {
        for (frame, at) in frames.iter().zip([27, 31, 27]) {
            let mut frame = frame.clone();
            frame[at..at + 3].copy_from_slice(&i.to_be_bytes()[1..]);
            let seen = Seen {
                time: site.now,
                frame: &frame,
                wire_length: frame.len() as u32,
                port: 0,
                place: None,
            };
            let _ = site.inspector.packet(&seen, &mut Nobody);
        }
    }
    assert_eq!(site.inspector.flows(), 1_000_000);
    assert_eq!(site.inspector.streams().len(), 1_000_000);
    println!("{} MB for a million connections", site.inspector.bytes() >> 20);
}
