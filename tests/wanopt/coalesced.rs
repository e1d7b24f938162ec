//! Messages that wait for each other, by a capture's clock: the peer's answers are made here, by its own code.

use std::net::{IpAddr, Ipv4Addr};

use nfs::wanopt::bundle::Bundle;
use nfs::wanopt::decoder::Decoder;
use nfs::wanopt::encoder::Settings;
use nfs::wanopt::seal::Seal;
use nfv_core::packet::checksum::Sum;

use super::testkit::packets::port_mac;
use super::testkit::replayed::Replayed;

/// A box with these lines besides, whose peer answers.
struct Answered {
    chain: tempfile::NamedTempFile,
    frames: Vec<(u64, Vec<u8>)>,
    peer: Decoder,
    /// Of the box's datagrams, those that the peer has seen.
    seen: usize,
}

/// What left the box: when, the datagram, and the packets that came out of it at the peer.
#[derive(Debug)]
struct Left {
    at: u64,
    datagram: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

/// Where the datagram begins in a frame.
const START: usize = 14;
const MS: u64 = 1_000_000;

impl Answered {
    /// That has heard its peer by the time 0.
    fn open(lines: &str) -> Self {
        let text = std::fs::read_to_string("chains/wanopt.yaml").unwrap();
        let text = text.replace("type: wanopt\n", &format!("type: wanopt\n    {lines}\n"));
        let chain = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(chain.path(), text).unwrap();
        let seal = Seal::new([0; 16]);
        let settings =
            Settings { memory: 64 << 20, seal, level: 3, secret: [3, 4], instance: 0, of: 1 };
        let (frames, peer) = (Vec::new(), Decoder::new(settings, 77));
        let mut this = Self { chain, frames, peer, seen: 0 };
        // Whatever it is, it is greeted first.
        this.send(-20, segment(1, 0, 2, b"x"));
        this.answer(-10);
        this
    }

    /// Another frame at a time in milliseconds.
    fn send(&mut self, at: i64, frame: Vec<u8>) {
        self.frames.push((time(at), frame));
    }

    /// The peer says what it has of all that was sent.
    fn answer(&mut self, at: i64) {
        let left = self.run();
        for one in left.iter().skip(self.seen) {
            let message = message(&one.datagram);
            if message.first() == Some(&0x12) {
                self.peer.hello(message);
            }
        }
        self.seen = left.len();
        let mut report = Vec::new();
        self.peer.report(&mut report);
        let mut frame = [port_mac(0).as_slice(), &[2, 9, 9, 9, 9, 9, 8, 0]].concat();
        let length = 28 + report.len() as u16;
        let [a, b] = length.to_be_bytes();
        let mut ip = vec![0x45, 0, a, b, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
        let sum = Sum::of(&ip).checksum().to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        let [c, d] = (length - 20).to_be_bytes();
        frame.extend(ip);
        frame.extend([0x1f, 0x6f, 0x1f, 0x6f, c, d, 0, 0]);
        frame.extend(report);
        self.frames.push((time(at), frame));
    }

    /// All that leaves the box, hellos too; the peer decodes what it has not seen yet.
    fn run(&mut self) -> Vec<Left> {
        let mut frames = self.frames.clone();
        frames.sort_by_key(|(at, _)| *at);
        let run = Replayed::of(&self.chain.path().display().to_string(), frames).succeeded();
        let mut all = Vec::new();
        for (n, (at, frame)) in run.timed("wan").into_iter().enumerate() {
            let length = usize::from(u16::from_be_bytes([frame[START + 2], frame[START + 3]]));
            let datagram = frame[START..START + length].to_vec();
            let mut packets = Vec::new();
            if n >= self.seen {
                for message in messages(message(&datagram)) {
                    let mut out = Vec::new();
                    assert_eq!(self.peer.decode(&message, &mut out), Ok(None));
                    packets.push(out);
                }
            }
            all.push(Left { at, datagram, packets });
        }
        all
    }

    /// What left since the peer has answered last, without hellos.
    fn leaves(mut self) -> Vec<Left> {
        let seen = self.seen;
        let left = self.run().into_iter().skip(seen);
        left.filter(|one| message(&one.datagram).first() != Some(&0x12)).collect()
    }
}

fn time(ms: i64) -> u64 {
    1_000_000_000_000u64.checked_add_signed(ms * MS as i64).unwrap()
}

/// The message of a datagram of the box; nothing, when it is none.
fn message(datagram: &[u8]) -> &[u8] {
    let is_one = datagram[9] == 17 && datagram[12..16] == [192, 0, 2, 1];
    if is_one { &datagram[28..] } else { &[] }
}

/// The messages of data, if it has some.
fn messages(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    match datagram.first() {
        Some(0x11) => all.push(datagram.to_vec()),
        Some(0x17) => {
            let (mut bundle, mut message) = (Bundle::read(datagram).unwrap(), Vec::new());
            while let Some(next) = bundle.next(&mut message) {
                next.unwrap();
                all.push(std::mem::take(&mut message));
            }
        }
        _ => {}
    }
    all
}

/// A segment of TCP as Linux sends it. `traffic`: DSCP and ECN.
fn segment(flow: u16, sequence: u32, traffic: u8, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = ([10, 1, 0, 2], [10, 2, 0, 2]);
    let mut tcp = [flow.to_be_bytes(), 80u16.to_be_bytes()].concat();
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0, 0, 0, 9, 0x80, 0x10, 1, 2, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    tcp.extend_from_slice(payload);
    let [pseudo_src, pseudo_dst] = [src, dst].map(|a| IpAddr::V4(Ipv4Addr::from(a)));
    let pseudo = Sum::of_pseudo_header(pseudo_src, pseudo_dst, 6, tcp.len() as u32);
    let sum = pseudo.plus(Sum::of(&tcp)).checksum().to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    let [a, b] = (20 + tcp.len() as u16).to_be_bytes();
    let [c, d] = (sequence as u16).to_be_bytes();
    let mut ip = vec![0x45, traffic, a, b, c, d, 0x40, 0, 64, 6, 0, 0];
    ip.extend(src.into_iter().chain(dst));
    let sum = Sum::of(&ip).checksum().to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let before = [port_mac(0).as_slice(), &[2, 9, 9, 9, 9, 9, 8, 0]].concat();
    [before, ip, tcp].concat()
}

/// A segment with much to gain.
fn dull(flow: u16, sequence: u32, traffic: u8) -> Vec<u8> {
    segment(flow, sequence, traffic, &[b'a'; 400])
}

/// One with nothing to gain.
fn noise(flow: u16, sequence: u32) -> Vec<u8> {
    let mut state = sequence | 1;
    let payload = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    segment(flow, sequence, 2, &payload.take(1000).collect::<Vec<_>>())
}

const COALESCE: &str = "coalesce: { delay: 2ms }";

#[test]
fn a_message_that_none_follows_leaves_when_its_time_is_over() {
    let leaves = |lines: &str| {
        let mut own = Answered::open(lines);
        own.send(0, dull(1, 0, 2));
        own.send(50, dull(1, 400, 2));
        own.leaves()
    };
    let (alone, bare) = (leaves(COALESCE), leaves("level: 3"));
    assert_eq!((alone.len(), bare.len()), (2, 2));
    for (n, (alone, bare)) in alone.iter().zip(&bare).enumerate() {
        let at = time(50 * n as i64);
        assert_eq!(bare.at, at, "control: it does not wait");
        assert_eq!(alone.at, at + 2 * MS);
        assert_eq!(alone.datagram, bare.datagram, "alone it is no longer");
        assert_eq!(alone.packets, bare.packets);
    }
}

#[test]
fn what_comes_within_the_time_goes_together_and_comes_out_in_order() {
    let frames: Vec<_> = (0..10).map(|n| dull(1 + n % 3, 400 * u32::from(n), 2)).collect();
    let leaves = |lines: &str| {
        let mut own = Answered::open(lines);
        frames.iter().for_each(|frame| own.send(0, frame.clone()));
        own.leaves()
    };
    let (together, bare) = (leaves(COALESCE), leaves("level: 3"));
    assert_eq!(bare.len(), 10, "control: each by itself");
    assert_eq!(together.len(), 1);
    let sent: Vec<_> = frames.iter().map(|frame| frame[START..].to_vec()).collect();
    assert_eq!(together[0].packets, sent);
    let sum = |all: &[Left]| all.iter().map(|one| one.datagram.len()).sum::<usize>();
    assert!(sum(&together) + 9 * 28 < sum(&bare), "{} and {}", sum(&together), sum(&bare));
    assert_eq!(together[0].datagram[1], 2, "of the packets' class");
}

#[test]
fn a_datagram_is_of_one_class_and_no_longer_than_the_path_carries() {
    let mut own = Answered::open("coalesce: { delay: 2ms, mtu: 600 }");
    for n in 0..60 {
        own.send(0, dull(1, 400 * n, if n < 30 { 2 } else { 0 }));
    }
    let left = own.leaves();
    assert!((4..20).contains(&left.len()), "{}", left.len());
    let mut n = 0;
    for one in &left {
        assert!(one.datagram.len() <= 600);
        for packet in &one.packets {
            assert_eq!(packet, &dull(1, 400 * n, if n < 30 { 2 } else { 0 })[START..]);
            assert_eq!(packet[1], one.datagram[1]);
            n += 1;
        }
    }
    assert_eq!(n, 60);
}

#[test]
fn what_does_not_wait_has_those_that_do_go_first() {
    let mut own = Answered::open(COALESCE);
    let frames =
        [dull(1, 0, 2), dull(1, 400, 2), noise(1, 800), dull(1, 1800, 2), dull(1, 2200, 2)];
    frames.iter().for_each(|frame| own.send(0, frame.clone()));
    let left = own.leaves();
    let counts: Vec<usize> = left.iter().map(|one| one.packets.len()).collect();
    assert_eq!(counts, [2, 0, 2]);
    assert_eq!(left[1].datagram, frames[2][START..], "it is as it was");
    assert_eq!([left[0].at, left[1].at, left[2].at], [time(0), time(0), time(2)]);
}

#[test]
fn acknowledgements_of_flows_that_nobody_knows_yet_are_shorter_together_too() {
    let ack = |n: u32| segment(5, 400 + n, 0, b"");
    for (acks, datagrams) in [(2, 2), (6, 1), (30, 1)] {
        let mut own = Answered::open(COALESCE);
        (0..acks).for_each(|n| own.send(0, ack(n)));
        let left = own.leaves();
        assert_eq!(left.len(), datagrams, "{acks}");
        if datagrams == 1 {
            let sent: Vec<_> = (0..acks).map(|n| ack(n)[START..].to_vec()).collect();
            assert_eq!(left[0].packets, sent);
            assert!(left[0].datagram.len() <= 52 * acks as usize);
        }
    }
}

#[test]
fn acknowledgements_are_shorter_together_and_as_they_were_when_there_are_too_few() {
    let ack = |n: u32| segment(1, 400 + n, 0, b"");
    let leaves = |lines: &str, acks: u32| {
        let mut own = Answered::open(lines);
        // The flow is known then.
        own.send(0, dull(1, 0, 0));
        own.answer(100);
        (0..acks).for_each(|n| own.send(200, ack(n)));
        own.leaves()
    };
    let bytes = |all: &[Left]| all.iter().map(|one| one.datagram.len()).sum::<usize>();
    let (many, bare) = (leaves(COALESCE, 20), leaves("level: 3", 20));
    assert_eq!((many.len(), bare.len()), (1, 20));
    assert_eq!(many[0].packets, (0..20).map(|n| ack(n)[START..].to_vec()).collect::<Vec<_>>());
    assert!(bytes(&many) * 10 < bytes(&bare) * 8, "{} and {}", bytes(&many), bytes(&bare));
    let few = leaves(COALESCE, 1);
    let sent: Vec<_> = few.iter().map(|one| (one.at, one.datagram.clone())).collect();
    assert_eq!(sent, [(time(202), ack(0)[START..].to_vec())]);
}
