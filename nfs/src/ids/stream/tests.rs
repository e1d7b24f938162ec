//! Connections as hosts would have them, and as attackers would.

mod attacks;
mod closing;
mod cost;
mod data;
mod opening;

use nfv_core::clock::Time;
use nfv_core::packet::{Headers, L3, TcpFlags};

use super::segment::{ACK, FIN, RST, SYN, URG};
use super::*;

/// What a sink was told, by [`Side`].
#[derive(Debug, Default)]
struct Heard {
    bytes: [Vec<u8>; 2],
    gaps: Vec<(Side, u64, u64)>,
}

impl Sink for Heard {
    fn data(&mut self, _: StreamId, from: Side, offset: u64, bytes: &[u8]) {
        let heard = &mut self.bytes[from.index()];
        let gaps: u64 = self.gaps.iter().filter(|gap| gap.0 == from).map(|gap| gap.2).sum();
        assert_eq!(offset, heard.len() as u64 + gaps);
        heard.extend_from_slice(bytes);
    }

    fn gap(&mut self, _: StreamId, from: Side, offset: u64, length: u64) {
        self.gaps.push((from, offset, length));
    }
}

/// Two hosts, and who looks on.
struct Talk {
    streams: Streams,
    key: Key,
    client: End,
    now: Time,
    heard: Heard,
    /// First number of the client, and of the server.
    isn: [u32; 2],
    scale: Option<u8>,
    window: u16,
    /// Both clocks, unless they have none.
    stamp: Option<u32>,
    urgent: u16,
    fast_open: bool,
}

impl Talk {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            budget: Budget { connections: 1 << 20, bytes: 4 << 20 },
            ..Settings::default()
        };
        change(&mut settings);
        let (key, client) = Key::of(&headers(40_000), 0);
        Self {
            streams: Streams::new(settings),
            key,
            client,
            now: Time(1_000_000_000_000),
            heard: Heard::default(),
            isn: [u32::MAX - 1, u32::MAX - 5],
            scale: None,
            window: 8192,
            stamp: None,
            urgent: 0,
            fast_open: false,
        }
    }

    /// After a handshake.
    fn open(change: impl FnOnce(&mut Settings)) -> Self {
        let mut talk = Self::new(change);
        talk.shake_hands();
        talk
    }

    fn shake_hands(&mut self) {
        assert!(self.client(SYN, 0, 0, b"").is_new);
        let _ = self.server(SYN | ACK, 0, 1, b"");
        let outcome = self.client(ACK, 1, 1, b"");
        assert_eq!(outcome.state, TcpState::Established);
        assert!(outcome.events.is_empty());
    }

    /// A segment of the client: its numbers are counted from both sides' first.
    fn client(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Outcome {
        self.send(Side::Client, flags, seq, ack, payload)
    }

    fn server(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Outcome {
        self.send(Side::Server, flags, seq, ack, payload)
    }

    fn send(&mut self, side: Side, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Outcome {
        let (own, other) = (self.isn[side.index()], self.isn[side.other().index()]);
        let segment = Segment {
            flags: TcpFlags(flags),
            seq: own.wrapping_add(seq),
            ack: if flags & ACK != 0 { other.wrapping_add(ack) } else { 0 },
            window: self.window,
            urgent: self.urgent,
            timestamp: self.stamp,
            scale: self.scale.filter(|_| flags & SYN != 0),
            has_fast_open: self.fast_open && flags & SYN != 0,
            length: payload.len() as u32,
            payload,
        };
        let from = if side == Side::Client { self.client } else { self.client.other() };
        self.now.0 += 1_000_000;
        self.streams.segment(&self.key, from, &segment, self.now, &mut self.heard)
    }

    fn id(&self) -> StreamId {
        self.streams.find(&self.key).expect("a connection")
    }

    fn heard(&self, side: Side) -> &[u8] {
        &self.heard.bytes[side.index()]
    }

    fn state(&self) -> TcpState {
        self.streams.view(self.id()).expect("a connection").state
    }

    fn count(&self, counter: Counter) -> u64 {
        self.streams.counters().get(counter)
    }

    /// Ends the connection, and sees that nothing is left.
    fn end(mut self) -> Heard {
        let id = self.id();
        self.streams.finish(id, &mut self.heard);
        self.streams.forget(id);
        assert_eq!((self.streams.len(), self.streams.bytes_in_use()), (0, 0));
        self.heard
    }
}

fn headers(sport: u16) -> Headers {
    let mut h = Headers { kind: L3::Ipv4, protocol: 6, sport, dport: 80, ..Headers::default() };
    h.src.0[..4].copy_from_slice(&[10, 0, 0, 9]);
    h.dst.0[..4].copy_from_slice(&[10, 0, 0, 2]);
    h
}

fn names(events: Events) -> Vec<&'static str> {
    events.iter().map(Event::name).collect()
}
