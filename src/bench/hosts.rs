//! The hosts on both sides of a bench, as far as it takes to open flows: a client behind the first port, servers behind
//! the others. They answer what they receive, so a chain may translate as it likes.
//!
//! ```text
//!   client --SYN--> chain --> server        client --datagram--> chain --> server
//!          <-- chain <--SYN-ACK--                  <-- chain <--datagram--
//!          --ACK--> chain --> open                 open
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use nfv_core::dpdk::{BURST_MAX, Packet, Packets};
use nfv_core::nf::PortIndex;
use nfv_core::packet::checksum::Sum;
use nfv_core::packet::{Headers, L3, parse, protocol};
use nfv_core::worker::Io;

use crate::traffic::{SERVER_ISN, Template, WINDOW};

/// Queues whose packets are answered.
#[derive(Debug)]
pub struct Hosts<'q, Q> {
    /// The first port's packets are taken for their room alone.
    queues: &'q mut Q,
    opening: Template,
    flows: Range<u64>,
    /// By port.
    answers: Vec<VecDeque<Packet>>,
    opened: u64,
}

/// On which side of the chains a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Client,
    Server,
}

/// What a host makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// An answer, in its place.
    Answer,
    /// Its flow is open.
    Open,
    /// Nothing.
    Nothing,
}

impl<'q, Q: Io> Hosts<'q, Q> {
    /// Hosts that open these flows.
    pub fn new(queues: &'q mut Q, ports: usize, opening: Template, flows: Range<u64>) -> Self {
        let answers = (0..ports).map(|_| VecDeque::new()).collect();
        Self { queues, opening, flows, answers, opened: 0 }
    }

    /// Flows whose last opening packet arrived.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Says no more: what waits is not sent.
    pub fn leave(&mut self) {
        for packet in self.answers.iter_mut().flat_map(|a| a.drain(..)) {
            packet.free();
        }
    }
}

impl<Q: Io> Io for Hosts<'_, Q> {
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        if let Some(answers) = self.answers.get_mut(port.index()).filter(|a| !a.is_empty()) {
            let count = answers.len().min(BURST_MAX);
            packets.extend(answers.drain(..count));
            return;
        }
        if port.index() != 0 || self.flows.is_empty() {
            return;
        }
        self.queues.receive(port, packets);
        let left = usize::try_from(self.flows.end - self.flows.start).unwrap_or(usize::MAX);
        while packets.len() > left {
            // More room than is needed.
            let Some(packet) = packets.pop() else { break };
            packet.free();
        }
        for (packet, flow) in packets.iter_mut().zip(&mut self.flows) {
            self.opening.write_whole(packet.data_mut(), flow);
        }
    }

    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        let host = if port.index() == 0 { Host::Client } else { Host::Server };
        for mut packet in packets.drain(..) {
            match (answer(packet.data_mut(), host), self.answers.get_mut(port.index())) {
                (Made::Answer, Some(answers)) => {
                    answers.push_back(packet);
                    continue;
                }
                (Made::Open, _) => self.opened += 1,
                _ => {}
            }
            packet.free();
        }
    }
}

/// Makes a packet the answer to it. One with a wrong checksum is not heard, as by any host.
fn answer(frame: &mut [u8], host: Host) -> Made {
    let Ok(length) = u32::try_from(frame.len()) else { return Made::Nothing };
    let Ok(h) = parse(frame, length) else { return Made::Nothing };
    if sum_of(frame, &h).is_none_or(|sum| !sum.is_right()) {
        return Made::Nothing;
    }
    let (syn, ack) = (h.tcp_flags.0 & SYN != 0, h.tcp_flags.0 & ACK != 0);
    match (h.protocol, host) {
        (protocol::UDP, Host::Server) => {}
        (protocol::UDP, Host::Client) => return Made::Open,
        (protocol::TCP, Host::Server) if syn && !ack => say(frame, &h, SYN | ACK),
        (protocol::TCP, Host::Client) if syn && ack => say(frame, &h, ACK),
        (protocol::TCP, Host::Server) if ack => return Made::Open,
        _ => return Made::Nothing,
    }
    turn(frame, &h);
    Made::Answer
}

/// The sum of all that the upper checksum covers.
fn sum_of(frame: &[u8], h: &Headers) -> Option<Sum> {
    let (l3, l4) = (usize::from(h.l3), usize::from(h.l4));
    let upper = frame.get(l4..usize::from(h.l3_end))?;
    if h.protocol == protocol::UDP && upper.get(6..8) == Some(&[0, 0]) {
        // Its sender made none.
        return Some(Sum::of(&[0xff, 0xff]));
    }
    let (at, bytes) = addresses(h);
    let ends = Sum::of(frame.get(l3 + at..l3 + at + 2 * bytes)?);
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let header =
        Sum::of_pseudo_header(nobody, nobody, h.protocol, u32::try_from(upper.len()).ok()?);
    Some(ends.plus(header).plus(Sum::of(upper)))
}

/// Writes the answer's flags and numbers: it acknowledges the SYN, and says what the other side expects.
fn say(frame: &mut [u8], h: &Headers, flags: u8) {
    let l4 = usize::from(h.l4);
    let Some(tcp) = frame.get_mut(l4..l4 + 20) else { return };
    let (mut seq, mut expected) = ([0; 4], [0; 4]);
    seq.copy_from_slice(&tcp[4..8]);
    expected.copy_from_slice(&tcp[8..12]);
    let own = if flags & SYN != 0 { SERVER_ISN.to_be_bytes() } else { expected };
    tcp[4..8].copy_from_slice(&own);
    tcp[8..12].copy_from_slice(&u32::from_be_bytes(seq).wrapping_add(1).to_be_bytes());
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    tcp[16..18].copy_from_slice(&[0; 2]);
    let checksum = sum_of(frame, h).map_or(0, Sum::checksum);
    if let Some(place) = frame.get_mut(l4 + 16..l4 + 18) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Exchanges both ends; no checksum notices.
fn turn(frame: &mut [u8], h: &Headers) {
    let (l3, l4) = (usize::from(h.l3), usize::from(h.l4));
    let (at, bytes) = addresses(h);
    for (at, bytes) in [(0, 6), (l3 + at, bytes), (l4, 2)] {
        if let Some(both) = frame.get_mut(at..at + 2 * bytes) {
            both.rotate_left(bytes);
        }
    }
}

/// Where in a network header the source is, with the destination behind it, and the bytes of either.
fn addresses(h: &Headers) -> (usize, usize) {
    if h.kind == L3::Ipv6 { (8, 16) } else { (12, 4) }
}

const SYN: u8 = 2;
const ACK: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Stage, Traffic};

    fn frames(text: &str) -> (Vec<u8>, Vec<u8>) {
        let Traffic::Made(made) = text.parse().unwrap() else { panic!("{text}") };
        let of = |stage| Template::new(&made, [2; 6], stage).unwrap().frame(77_777);
        (of(Stage::Opening), of(Stage::Open))
    }

    fn read(frame: &[u8]) -> Headers {
        parse(frame, frame.len() as u32).unwrap()
    }

    fn number(frame: &[u8], h: &Headers, at: usize) -> u32 {
        u32::from_be_bytes(*frame[usize::from(h.l4) + at..].first_chunk().unwrap())
    }

    #[test]
    fn a_connection_is_open_after_three_segments_of_which_each_fits_the_last() {
        for text in ["tcp,size=64", "tcp6", "tcp,size=1000"] {
            let (mut frame, data) = frames(text);
            let (syn, open) = (read(&frame), read(&data));
            assert_eq!(answer(&mut frame, Host::Server), Made::Answer);
            let h = read(&frame);
            assert_eq!((h.src, h.dst, h.sport, h.dport), (syn.dst, syn.src, syn.dport, syn.sport));
            assert_eq!((h.tcp_flags.0, number(&frame, &h, 4)), (SYN | ACK, SERVER_ISN));
            assert_eq!(answer(&mut frame, Host::Client), Made::Answer);
            let h = read(&frame);
            assert_eq!((h.src, h.sport, h.tcp_flags.0), (syn.src, syn.sport, ACK));
            for at in [4, 8] {
                assert_eq!(number(&frame, &h, at), number(&data, &open, at), "{text}");
            }
            assert_eq!(answer(&mut frame, Host::Server), Made::Open);
        }
    }

    #[test]
    fn a_datagram_is_answered_once() {
        for text in ["udp", "udp6,size=128"] {
            let (mut frame, _) = frames(text);
            let asked = read(&frame);
            assert_eq!(answer(&mut frame, Host::Server), Made::Answer);
            let h = read(&frame);
            assert_eq!((h.src, h.dport), (asked.dst, asked.sport));
            assert_eq!(answer(&mut frame, Host::Client), Made::Open);
        }
    }

    #[test]
    fn nobody_hears_what_has_a_wrong_checksum() {
        for text in ["udp", "tcp,size=64", "tcp6"] {
            let (mut frame, _) = frames(text);
            let h = read(&frame);
            // The source port, as a translator that forgot the checksum leaves it.
            frame[usize::from(h.l4)] ^= 1;
            assert_eq!(answer(&mut frame, Host::Server), Made::Nothing, "{text}");
        }
    }
}
