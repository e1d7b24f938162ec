//! What an IDS allocates for a packet: nothing, once its flow is known and what it keeps has found its size.

use std::sync::Arc;

use allocation_counter::measure;
use etherparse::PacketBuilder;
use nfs::ids::detect::{Compile, Detector, Memory, Ruleset};
use nfs::ids::eve::Record;
use nfs::ids::inspector::{Bypass, Inspector, Recorder, Seen, Settings};
use nfs::ids::rules::{Classes, Rules, Setup, Source, Variables};
use nfs::ids::stream::Mode;
use nfv_core::clock::Time;

/// Rules of all kinds that such traffic is looked at with; none matches.
const RULES: &str = r#"
alert http any any -> any any (file.data; content:"never seen"; pcre:"/never (seen|heard)/"; sid:1;)
alert http any any -> any any (http.uri; content:"/never"; http.host; content:"seen"; sid:2;)
alert http any any -> any any (http.request_body; content:"never"; sid:3;)
alert tcp any any -> any any (content:"never seen"; content:"again"; distance:0; sid:4;)
alert tcp any any -> any any (content:"line 00"; content:"never"; distance:0; within:20; sid:5;)
alert tcp-pkt any any -> any any (dsize:>3000; content:"x"; sid:6;)
alert udp any any -> any any (content:"never"; sid:7;)
alert dns any any -> any any (dns.query; content:"never"; sid:8;)
alert tls any any -> any any (tls.sni; content:"never"; sid:9;)
alert ip any any -> any any (ttl:1; sid:10;)
"#;

/// Counts records.
struct Told(u64);

impl Recorder for Told {
    fn record(&mut self, _: Record) {
        self.0 += 1;
    }
}

/// A worker's IDS, and the time.
struct Site {
    inspector: Inspector,
    now: Time,
    told: Told,
}

impl Site {
    fn new(rules: &str, mode: Mode) -> Self {
        let mut settings = Settings { bypass: Bypass::Never, ..Settings::default() };
        settings.streams.mode = mode;
        settings.streams.depth = 0;
        let (variables, _) = Variables::new(&[], &[]);
        let setup = Setup { variables: &variables, classes: &Classes::default(), events: &[] };
        let rules = Rules::read(&[Source { name: "rules", text: rules.as_bytes() }], &setup);
        assert!(rules.broken.is_empty() && rules.skipped.is_empty(), "{rules:?}");
        let ruleset = Arc::new(Ruleset::compile(rules, &Compile::default()));
        let detector = Detector::new(ruleset, Arc::new(Memory::new(1 << 20)));
        let inspector = Inspector::new(Arc::new(settings), detector);
        Self { inspector, now: Time(1_700_000_000_000_000_000), told: Told(0) }
    }

    fn sees(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.now.0 += 10_000;
            let wire_length = frame.len() as u32;
            let seen = Seen { time: self.now, frame, wire_length, port: 0, place: None };
            let _ = self.inspector.packet(&seen, &mut self.told);
        }
    }

    /// Allocations for these packets.
    fn allocates_for(&mut self, frames: &[Vec<u8>]) -> u64 {
        measure(|| self.sees(frames)).count_total
    }
}

/// A connection from 10.0.0.1:40000 to 10.0.0.2.
struct Talk {
    port: u16,
    next: [u32; 2],
    frames: Vec<Vec<u8>>,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Talk {
    /// After its handshake.
    fn open(port: u16) -> Self {
        let mut talk = Self { port, next: [1000, 9000], frames: Vec::new() };
        talk.segment(CLIENT, "s", b"");
        talk.next[CLIENT] += 1;
        talk.segment(SERVER, "sa", b"");
        talk.next[SERVER] += 1;
        talk.segment(CLIENT, "a", b"");
        talk
    }

    fn segment(&mut self, who: usize, flags: &str, payload: &[u8]) {
        let hosts = [([10, 0, 0, 1], 40_000), ([10, 0, 0, 2], self.port)];
        let ((src, sport), (dst, dport)) = (hosts[who], hosts[1 - who]);
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src, dst, 64);
        let builder = builder.tcp(sport, dport, self.next[who], 64_000);
        let builder = if flags.contains('s') { builder.syn() } else { builder };
        let builder = if flags.contains('a') { builder.ack(self.next[1 - who]) } else { builder };
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        self.next[who] = self.next[who].wrapping_add(payload.len() as u32);
        self.frames.push(frame);
    }

    /// A body, in segments of which every second is acknowledged.
    fn body(&mut self, who: usize, segments: usize) {
        for number in 0..segments {
            let line =
                format!("line {number:08} of a body that goes on and on, neither seen nor heard\n");
            let payload: Vec<u8> = line.bytes().cycle().take(1400).collect();
            self.segment(who, "a", &payload);
            if number % 2 == 1 {
                self.segment(1 - who, "a", b"");
            }
        }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames)
    }
}

fn udp(sport: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut frame = Vec::new();
    builder.udp(sport, 53).write(&mut frame, payload).expect("a frame");
    frame
}

#[test]
fn a_body_under_way_allocates_nothing_and_an_alert_does() {
    for mode in [Mode::Passive, Mode::Inline] {
        for (what, who, begin) in [
            ("a download", SERVER, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"),
            ("an upload", CLIENT, ""),
        ] {
            let mut site = Site::new(RULES, mode);
            let mut talk = Talk::open(80);
            let request = match who {
                SERVER => "GET /file HTTP/1.1\r\nHost: a\r\n\r\n",
                _ => "POST /file HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n",
            };
            talk.segment(CLIENT, "a", request.as_bytes());
            talk.segment(SERVER, "a", begin.as_bytes());
            talk.body(who, 2000);
            site.sees(&talk.take());
            talk.body(who, 2000);
            let frames = talk.take();
            let count = site.allocates_for(&frames);
            println!("{what}, {mode:?}: {count} allocations for {} packets", frames.len());
            assert_eq!(count, 0, "{what}, {mode:?}");
            // The control arm: what matches is told, and that allocates.
            let before = site.told.0;
            talk.segment(who, "a", b"line 00 never never seen again");
            talk.segment(1 - who, "a", b"");
            talk.body(who, 20);
            let frames = talk.take();
            let count = site.allocates_for(&frames);
            assert!(site.told.0 > before && count > 0, "{what}, {mode:?}: {count}");
        }
    }
}

#[test]
fn a_stream_of_an_unknown_protocol_allocates_nothing() {
    for mode in [Mode::Passive, Mode::Inline] {
        let mut site = Site::new(RULES, mode);
        let mut talk = Talk::open(9999);
        talk.body(CLIENT, 1000);
        talk.body(SERVER, 1000);
        site.sees(&talk.take());
        talk.body(CLIENT, 1000);
        talk.body(SERVER, 1000);
        let frames = talk.take();
        let count = site.allocates_for(&frames);
        println!("{mode:?}: {count} allocations for {} packets", frames.len());
        assert_eq!(count, 0, "{mode:?}");
    }
}

#[test]
fn segments_out_of_order_and_sent_again_allocate_nothing() {
    let mut site = Site::new(RULES, Mode::Passive);
    let mut talk = Talk::open(9999);
    let shuffled = |talk: &mut Talk| {
        talk.body(CLIENT, 1000);
        let mut frames = talk.take();
        for three in frames.chunks_mut(3) {
            three.rotate_left(1);
        }
        let again: Vec<Vec<u8>> = frames.iter().step_by(10).cloned().collect();
        frames.extend(again);
        frames
    };
    for _ in 0..3 {
        site.sees(&shuffled(&mut talk));
    }
    let frames = shuffled(&mut talk);
    let count = site.allocates_for(&frames);
    println!("{count} allocations for {} packets", frames.len());
    assert_eq!(count, 0);
}

#[test]
fn datagrams_of_known_flows_allocate_nothing_and_dns_a_few_for_each_message() {
    let mut site = Site::new(RULES, Mode::Passive);
    let frames: Vec<Vec<u8>> = (0..2000).map(|_| udp(5000, &[0xff; 400])).collect();
    site.sees(&frames);
    let count = site.allocates_for(&frames);
    println!("{count} allocations for {} datagrams", frames.len());
    assert_eq!(count, 0);
    // What a message says is kept until it was looked at and logged.
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
    let frames: Vec<Vec<u8>> = (0..2000).map(|_| udp(6000, query)).collect();
    site.sees(&frames);
    let count = site.allocates_for(&frames);
    println!("{count} allocations for {} queries", frames.len());
    // The control arm: they are told, and that is counted.
    assert!(site.told.0 > 0 && count > 0);
    assert!(count <= DNS_EACH * frames.len() as u64, "{count}");
}

/// Allocations for a query: its transaction, what it says, and its record.
const DNS_EACH: u64 = 8;
