//! Budgets under attack, and the sums.

use super::*;
use crate::ids::eve::FlowEnd;

#[test]
fn a_flood_of_flows_keeps_within_its_bytes_and_every_flow_is_told() {
    let mut site = Site::new(|settings| {
        settings.budget = Budget { flows: 256 << 10, apps: 64 << 10 };
        settings.streams.budget = stream::Budget { connections: 256 << 10, bytes: 64 << 10 };
    });
    let most = (256 + 64 + 256 + 64) << 10;
    let talk = Talk::new(80);
    let syn = talk.frame(Client, "s", &[]);
    for i in 0..20_000u32 {
        let mut frame = if i % 3 == 0 { query() } else { syn.clone() };
        frame[27..30].copy_from_slice(&i.to_be_bytes()[1..]);
        // The SYN's checksum covers its address.
        site.now.0 += 1000;
        let seen = Seen {
            time: site.now,
            frame: &frame,
            wire_length: frame.len() as u32,
            port: 0,
            place: None,
        };
        let _ = site.inspector.packet(&seen, &mut site.told);
        assert!(site.inspector.bytes() <= most + (64 << 10), "{}", site.inspector.bytes());
    }
    let counters = site.inspector.counters();
    assert_eq!(counters.get(Counter::Flows), 20_000);
    assert!(counters.get(Counter::FlowsForced) > 15_000);
    assert_eq!(counters.get(Counter::FlowsRefused), 0);
    let told = site.ends();
    assert_eq!(told.flows().len(), 20_000);
    let forced = told.flows().iter().filter(|flow| flow.reason == FlowEnd::Forced).count();
    assert!(forced > 15_000);
}

#[test]
fn applications_that_hold_too_much_make_room_the_longest_idle_first() {
    let mut site = Site::new(|settings| settings.budget.apps = 64 << 10);
    let mut talks = Vec::new();
    for port in 1000..1200 {
        let mut talk = Talk::open(&mut site, port);
        // A header without end.
        let _ = talk.says(&mut site, Client, b"GET / HTTP/1.1\r\nA: ");
        let _ = talk.says(&mut site, Client, &[b'a'; 1000]);
        assert!(site.inspector.apps_held <= 64 << 10, "{}", site.inspector.apps_held);
        talks.push(talk);
    }
    assert!(site.inspector.counters().get(Counter::AppsShed) > 100);
    // The last one is whole.
    let mut last = talks.pop().expect("one");
    let _ = last.says(&mut site, Client, b"\r\n\r\n");
    let _ = last.says(&mut site, Server, ANSWER);
    assert_eq!(site.told.of(Kind::Http).len(), 1);
    let told = site.ends();
    assert_eq!(told.flows().len(), 200);
}

#[test]
fn packets_and_bytes_of_flows_are_those_that_came() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    let _ = talk.says(&mut site, Server, ANSWER);
    let frames = [query(), response(), udp6(7, 8, b"hello")];
    for frame in &frames {
        let _ = site.sees(frame);
    }
    let counted = (
        site.inspector.counters().get(Counter::Packets),
        site.inspector.counters().get(Counter::Bytes),
    );
    let told = site.ends();
    let sum = told.flows().iter().fold((0, 0), |(packets, bytes), flow| {
        let counts = &flow.summary.counts;
        (packets + counts.packets.iter().sum::<u64>(), bytes + counts.bytes.iter().sum::<u64>())
    });
    assert_eq!(sum, counted);
}
