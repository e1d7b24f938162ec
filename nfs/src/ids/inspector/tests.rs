//! Frames of real hosts, and of attackers, through a worker's IDS.

mod cost;
mod cut;
mod ends;
mod evasion;
mod fragments;
mod inline;
mod limits;
mod predicted;
mod records;
mod rules;
mod told;
mod tunnels;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use nfv_core::clock::Time;

use super::*;
use crate::ids::detect::{Compile, Detector, Memory, Ruleset};
use crate::ids::eve::{Body, FlowRecord, Kind};
use crate::ids::rules::{AlertLimits, Classes, Rules, Setup, Source, Variables};
use crate::ids::stream;

/// What a recorder was given.
#[derive(Debug, Default)]
struct Told(Vec<Record>);

impl Recorder for Told {
    fn record(&mut self, record: Record) {
        self.0.push(record);
    }
}

impl Told {
    fn of(&self, kind: Kind) -> Vec<&Record> {
        self.0.iter().filter(|record| record.body.kind() == kind).collect()
    }

    fn flows(&self) -> Vec<&FlowRecord> {
        let flow = |record: &&Record| matches!(record.body, Body::Flow(_));
        let bodies = self.0.iter().filter(flow);
        bodies
            .filter_map(
                |record| if let Body::Flow(flow) = &record.body { Some(&**flow) } else { None },
            )
            .collect()
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.0.iter().map(|record| record.body.kind().name()).collect()
    }
}

/// A worker's IDS, the time, and what it told.
struct Site {
    inspector: Inspector,
    now: Time,
    told: Told,
    place: u64,
}

impl Site {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        Self::under("", change)
    }

    /// With rules.
    fn under(text: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::limited(text, "", change)
    }

    /// With rules and a `threshold.config`.
    fn limited(text: &str, limits: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            budget: Budget { flows: 1 << 20, apps: 4 << 20 },
            streams: stream::Settings {
                budget: stream::Budget { connections: 1 << 20, bytes: 4 << 20 },
                ..stream::Settings::default()
            },
            ..Settings::default()
        };
        change(&mut settings);
        let setup =
            Setup { variables: &Variables::default(), classes: &Classes::default(), events: &[] };
        let source = Source { name: "rules", text: text.as_bytes() };
        let mut rules = Rules::read(&[source], &setup);
        let source = Source { name: "threshold.config", text: limits.as_bytes() };
        AlertLimits::read(&source, setup.variables).apply(&mut rules);
        assert!(rules.broken.is_empty() && rules.skipped.is_empty(), "{rules:?}");
        let ruleset = Arc::new(Ruleset::compile(rules, &Compile::default()));
        let detector = Detector::new(ruleset, Arc::new(Memory::new(1 << 20)));
        Self {
            inspector: Inspector::new(Arc::new(settings), detector),
            now: Time(1_700_000_000_000_000_000),
            told: Told::default(),
            place: 0,
        }
    }

    fn sees(&mut self, frame: &[u8]) -> Verdict {
        self.place += 1;
        self.now.0 += 1_000_000;
        let seen = self.seen(frame);
        self.inspector.packet(&seen, &mut self.told)
    }

    /// A frame that comes now.
    fn seen<'f>(&self, frame: &'f [u8]) -> Seen<'f> {
        let (time, place) = (self.now, Some(self.place));
        Seen { time, frame, wire_length: frame.len() as u32, port: 0, place }
    }

    /// Lets time pass, and the IDS know.
    fn waits(&mut self, seconds: u64) {
        self.now.0 += seconds * 1_000_000_000;
        for _ in 0..100 {
            self.inspector.tick(self.now, &mut self.told);
        }
    }

    fn ends(&mut self) -> &Told {
        self.inspector.finish(self.now, &mut self.told);
        assert_eq!(self.inspector.flows(), 0);
        assert!(self.inspector.streams().is_empty());
        assert_eq!(self.inspector.streams().bytes_in_use(), 0);
        assert_eq!(self.inspector.apps_held, 0);
        &self.told
    }
}

/// A connection between 10.0.0.1:40000 and 10.0.0.2:`port`.
struct Talk {
    port: u16,
    /// Numbers of the next bytes of the client and of the server.
    next: [u32; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}
use Who::{Client, Server};

impl Talk {
    fn new(port: u16) -> Self {
        Self { port, next: [1000, u32::MAX - 20] }
    }

    /// After its handshake, which `site` saw.
    fn open(site: &mut Site, port: u16) -> Self {
        let mut talk = Self::new(port);
        for frame in talk.handshake() {
            assert_eq!(site.sees(&frame).answer, Answer::Pass);
        }
        talk
    }

    fn handshake(&mut self) -> [Vec<u8>; 3] {
        let syn = self.frame(Client, "s", &[]);
        self.next[0] = self.next[0].wrapping_add(1);
        let syn_ack = self.frame(Server, "sa", &[]);
        self.next[1] = self.next[1].wrapping_add(1);
        [syn, syn_ack, self.frame(Client, "a", &[])]
    }

    /// Bytes of one side, which are then acknowledged.
    fn says(&mut self, site: &mut Site, who: Who, bytes: &[u8]) -> Verdict {
        let frame = self.frame(who, "ap", bytes);
        let verdict = site.sees(&frame);
        self.sent(who, bytes.len());
        let other = if who == Client { Server } else { Client };
        let ack = self.frame(other, "a", &[]);
        let of_ack = site.sees(&ack);
        if verdict.answer == Answer::Pass { of_ack } else { verdict }
    }

    fn sent(&mut self, who: Who, length: usize) {
        let next = &mut self.next[who as usize];
        *next = next.wrapping_add(length as u32);
    }

    /// A segment with these flags: s, a, p, f, r.
    fn frame(&self, who: Who, flags: &str, payload: &[u8]) -> Vec<u8> {
        self.frame_at(who, flags, 0, payload)
    }

    /// The same, so many bytes behind the next one.
    fn frame_at(&self, who: Who, flags: &str, behind: u32, payload: &[u8]) -> Vec<u8> {
        let [client, server] = self.next;
        let (seq, ack) = if who == Client { (client, server) } else { (server, client) };
        let has = |flag| flags.contains(flag);
        let ends = if who == Client {
            ([10, 0, 0, 1], [10, 0, 0, 2], 40_000, self.port)
        } else {
            ([10, 0, 0, 2], [10, 0, 0, 1], self.port, 40_000)
        };
        let (src, dst, sport, dport) = ends;
        let mut header = etherparse::TcpHeader::new(sport, dport, seq.wrapping_add(behind), 64_000);
        header.syn = has('s');
        header.ack = has('a');
        header.psh = has('p');
        header.fin = has('f');
        header.rst = has('r');
        if header.ack {
            header.acknowledgment_number = ack;
        }
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(src, dst, 64)
            .tcp_header(header);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        frame
    }
}

fn udp(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(src.0, dst.0, 64)
        .udp(src.1, dst.1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

fn udp6(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let host = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets();
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv6(host(1), host(2), 64)
        .udp(src, dst);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

/// From the client to the resolver.
fn query() -> Vec<u8> {
    udp(([10, 0, 0, 1], 5000), ([10, 0, 0, 2], 53), QUERY)
}

/// And back.
fn response() -> Vec<u8> {
    udp(([10, 0, 0, 2], 53), ([10, 0, 0, 1], 5000), RESPONSE)
}

fn host(last: u8) -> std::net::IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// Asks for the address of example.com.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
/// And it is 93.184.216.34.
const RESPONSE: &[u8] = b"\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x07example\x03com\x00\
    \x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x5d\xb8\xd8\x22";
const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8.0\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
