//! Hosts on both sides of the workers, and the wires between: each packet is known by its flow and number.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nfv_core::dpdk::{Mempool, Packets};
use nfv_core::nf::PortIndex;
use nfv_core::packet::{AddressBytes, end_word, flow_hash, parse, word_hash};
use nfv_core::worker::Io;
use rand::RngExt;
use rand::rngs::SmallRng;

type End = ([u8; 4], u16);

/// Everything outside of the workers.
pub struct World {
    pool: Mempool,
    /// By port, then by queue.
    received: [Vec<VecDeque<Vec<u8>>>; 2],
    /// By port, what came out.
    sent: [VecDeque<Vec<u8>>; 2],
    flows: Vec<Flow>,
    /// Errors that are under way, by flow and the number that they quote.
    errors: HashSet<(u32, u32)>,
    errors_read: u64,
    packets: u64,
    /// By port, the queue of each hash, where a NIC spreads packets; else each flow has its queues.
    tables: Option<[Table; 2]>,
    /// By port, what is inside of the NIC, with its queue.
    inside: [VecDeque<(usize, Vec<u8>)>; 2],
}

/// The table of a NIC, as it and the control side have it.
pub type Table = Arc<Mutex<Vec<u16>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    /// UDP from inside in fragments.
    Cut,
}

#[derive(Debug)]
struct Flow {
    kind: Kind,
    client: End,
    server: End,
    /// The queues that receive what the client and the server send.
    queues: [usize; 2],
    /// Its ends outside, once they were seen.
    outside: Option<[End; 2]>,
    /// Numbers of the next packets to be sent: out, in, and second fragments out.
    sent: [u32; 3],
    /// Numbers of the next ones to be read; of second fragments, how many were.
    read: [u32; 3],
    /// Second fragments that were read, a bit each.
    cut: u64,
}

/// Which way a packet goes; also the port that receives it.
const OUT: usize = 0;
const IN: usize = 1;
const OUT_CUT: usize = 2;
const FLOWS: u32 = 3000;
/// Packets of a side of a flow.
const NUMBERS: u32 = 40;
/// Packets that are received at once: few, so that there are many turns.
const BURST: usize = 4;
/// Bytes of a message.
const MESSAGE: usize = 16;

impl World {
    /// Hosts whose flows fall into the first `shards` shards.
    pub fn new(
        pool: Mempool,
        queues: usize,
        shards: u8,
        tables: Option<[Table; 2]>,
        rng: &mut SmallRng,
    ) -> Self {
        let mut known = HashSet::new();
        let mut flows = Vec::new();
        while flows.len() < FLOWS as usize {
            let kind = [Kind::Tcp, Kind::Udp, Kind::Cut][rng.random_range(0..3)];
            let client: End = (
                [10, 1, rng.random_range(0..4), rng.random_range(1..250)],
                rng.random_range(1024..65000),
            );
            let server: End = match kind {
                Kind::Tcp if rng.random_ratio(1, 2) => ([192, 0, 2, 80], 80),
                _ => ([203, 0, 113, rng.random_range(1..250)], rng.random_range(7..12)),
            };
            if shard_of(client, server) >= shards.into()
                || !known.insert((kind == Kind::Tcp, client))
            {
                continue;
            }
            let queues = [rng.random_range(0..queues), rng.random_range(0..queues)];
            flows.push(Flow {
                kind,
                client,
                server,
                queues,
                outside: None,
                sent: [0; 3],
                read: [0; 3],
                cut: 0,
            });
        }
        let none = || (0..queues).map(|_| VecDeque::new()).collect();
        Self {
            pool,
            received: [none(), none()],
            sent: [VecDeque::new(), VecDeque::new()],
            flows,
            errors: HashSet::new(),
            errors_read: 0,
            packets: 0,
            tables,
            inside: Default::default(),
        }
    }

    /// What a worker sees of it.
    pub fn queue_of(&mut self, worker: usize) -> Queue<'_> {
        Queue { world: self, worker }
    }

    /// A frame comes to a port. Without a NIC that spreads, its flow says by which queue.
    fn arrive(&mut self, port: usize, queue: usize, frame: Vec<u8>) {
        match &self.tables {
            None => self.received[port][queue].push_back(frame),
            Some(tables) => {
                let hash = parse(&frame, frame.len() as u32).map_or(0, |h| flow_hash(&h));
                let table = tables[port].lock().expect("nobody panicked");
                let queue = table[hash as usize % table.len()];
                self.inside[port].push_back((queue.into(), frame));
            }
        }
    }

    /// Some of what NICs have inside of them comes to the rings.
    pub fn nics_work(&mut self) {
        for (inside, received) in self.inside.iter_mut().zip(&mut self.received) {
            for (queue, frame) in inside.drain(..inside.len().min(4)) {
                received[queue].push_back(frame);
            }
        }
    }

    /// Some flow's next packets go on their way.
    pub fn send_something(&mut self, rng: &mut SmallRng) {
        let at = rng.random_range(0..FLOWS);
        let way = rng.random_range(0..2);
        for _ in 0..rng.random_range(1..4) {
            self.send(at, way, rng);
        }
    }

    fn send(&mut self, at: u32, way: usize, rng: &mut SmallRng) {
        let Some(flow) = self.flows.get_mut(at as usize) else { return };
        let number = flow.sent[way];
        let may = match (flow.kind, way, number) {
            (.., NUMBERS..) => false,
            // A SYN, its answer, then all as they like: the first data has the ACK.
            (Kind::Tcp, OUT, 1) => flow.read[IN] >= 1,
            (Kind::Tcp, IN, 1) => flow.read[OUT] >= 2,
            (_, IN, 0) => flow.read[OUT] >= 1,
            _ => true,
        };
        if !may {
            return;
        }
        flow.sent[way] += 1;
        let (src, dst) = match (way, flow.outside) {
            (IN, Some([client, server])) => (server, client),
            (IN, None) => return,
            _ => (flow.client, flow.server),
        };
        let other = 1 - way;
        let message = message(at, way, number);
        let builder =
            PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], [2, 0, 0, 0, 0, 0]).ipv4(src.0, dst.0, 64);
        let mut frame = Vec::new();
        let queue = flow.queues[way];
        if flow.kind == Kind::Tcp {
            // A SYN counts as one byte, and has no message.
            let next = |number: u32| match number {
                0 => 0,
                n => 1 + (n - 1) * MESSAGE as u32,
            };
            let start = |way: usize| (at << 16) + if way == IN { 0x8000 } else { 0 };
            let tcp = builder.tcp(src.1, dst.1, start(way).wrapping_add(next(number)), u16::MAX);
            let tcp = if number == 0 { tcp.syn() } else { tcp };
            let acked = start(other).wrapping_add(next(flow.read[other]));
            let tcp = if way == IN || number > 0 { tcp.ack(acked) } else { tcp };
            let payload = if number == 0 { &[][..] } else { &message };
            tcp.write(&mut frame, payload).expect("memory takes all");
            return self.arrive(way, queue, frame);
        }
        let udp = builder.udp(src.1, dst.1);
        if flow.kind == Kind::Udp || way == IN {
            udp.write(&mut frame, &message).expect("memory takes all");
            return self.arrive(way, queue, frame);
        }
        // The first fragment has the header and the message, the other one a message of its own.
        let second = self::message(at, OUT_CUT, number);
        flow.sent[OUT_CUT] += 1;
        udp.write(&mut frame, &[message, second].concat()).expect("memory takes all");
        let cut = 14 + 20 + 8 + MESSAGE;
        let mut halves = [frame[..cut].to_vec(), [&frame[..34], &frame[cut..]].concat()];
        for (half, fragment) in halves.iter_mut().zip([0x2000u16, (8 + MESSAGE as u16) / 8]) {
            let length = half.len() as u16 - 14;
            half[16..18].copy_from_slice(&length.to_be_bytes());
            half[18..20].copy_from_slice(&(number as u16 + 1).to_be_bytes());
            half[20..22].copy_from_slice(&fragment.to_be_bytes());
            let sum = etherparse::Ipv4Header::from_slice(&half[14..]).expect("a header").0;
            half[24..26].copy_from_slice(&sum.calc_header_checksum().to_be_bytes());
        }
        if rng.random_ratio(1, 4) {
            halves.reverse();
        }
        halves.into_iter().for_each(|half| self.arrive(way, queue, half));
    }

    /// Hosts read what has come, and note or tell what is wrong with it.
    pub fn hosts_read(&mut self, rng: &mut SmallRng) -> Result<(), String> {
        while let Some(frame) = self.sent[IN].pop_front() {
            self.read(&frame, OUT, rng)?;
        }
        while let Some(frame) = self.sent[OUT].pop_front() {
            self.read(&frame, IN, rng)?;
        }
        Ok(())
    }

    /// A packet that went this way has come out.
    fn read(&mut self, frame: &[u8], way: usize, rng: &mut SmallRng) -> Result<(), String> {
        self.packets += 1;
        let parsed = SlicedPacket::from_ethernet(frame).map_err(|why| why.to_string())?;
        let Some(NetSlice::Ipv4(ip)) = &parsed.net else { return Err("no IPv4 packet".to_owned()) };
        let (src, dst) = (ip.header().source(), ip.header().destination());
        let (said, ports) = match &parsed.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let (seq, ports) =
                    (tcp.sequence_number(), (tcp.source_port(), tcp.destination_port()));
                let said = match tcp.syn() {
                    true => (seq >> 16, way, 0),
                    false => read_message(tcp.payload()).ok_or("a segment without a message")?,
                };
                (said, Some(ports))
            }
            Some(TransportSlice::Udp(udp)) => {
                let said = read_message(udp.payload()).ok_or("a datagram without a message")?;
                (said, Some((udp.source_port(), udp.destination_port())))
            }
            Some(TransportSlice::Icmpv4(icmp)) => return self.read_error(icmp.payload(), dst),
            // The header of a fragment is no whole datagram's.
            None if ip.header().more_fragments() => {
                let bytes = ip.payload().payload;
                let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let said = read_message(&bytes[8..]).ok_or("a fragment without a message")?;
                (said, Some((port(0), port(2))))
            }
            _ => {
                let said =
                    read_message(ip.payload().payload).ok_or("a packet without a message")?;
                (said, None)
            }
        };
        let (at, channel, number) = said;
        let flow = self.flows.get_mut(at as usize).ok_or("a flow that is none")?;
        let expected = flow.read[channel];
        // A second fragment that came before its first one waits; that of the next datagram may overtake it.
        let is_new = flow.cut & (1 << number) == 0;
        let is_right = if channel == OUT_CUT { is_new } else { number == expected };
        if channel == OUT_CUT {
            flow.cut |= 1 << number;
        }
        if !is_right {
            return Err(format!(
                "{:?} flow {at}, {}: number {number} came where {expected} was due",
                flow.kind,
                ["out", "in", "out, second fragments"][channel]
            ));
        }
        flow.read[channel] += 1;
        if let Some((sport, dport)) = ports {
            let ends = [(src, sport), (dst, dport)];
            if way == IN && ends != [flow.server, flow.client] {
                return Err(format!("flow {at}: its answer came as {ends:?}"));
            }
            if way == OUT && *flow.outside.get_or_insert(ends) != ends {
                return Err(format!("flow {at}: {ends:?}, it was {:?}", flow.outside));
            }
        }
        if way == OUT && flow.kind == Kind::Udp && rng.random_ratio(1, 8) {
            self.send_error(frame, (at, number));
        }
        Ok(())
    }

    /// A host answers a datagram by an ICMP error.
    fn send_error(&mut self, frame: &[u8], about: (u32, u32)) {
        let [src, dst] = [&frame[26..30], &frame[30..34]].map(|a| [a[0], a[1], a[2], a[3]]);
        let mut error = Vec::new();
        let icmp = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        );
        PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], [2, 0, 0, 0, 0, 0])
            .ipv4(dst, src, 64)
            .icmpv4(icmp)
            .write(&mut error, &frame[14..])
            .expect("memory takes all");
        let queue = self.flows[about.0 as usize].queues[IN];
        self.arrive(IN, queue, error);
        self.errors.insert(about);
    }

    fn read_error(&mut self, quote: &[u8], to: [u8; 4]) -> Result<(), String> {
        let (at, _, number) =
            quote.get(28..).and_then(read_message).ok_or("an error about nothing")?;
        let client = self.flows[at as usize].client;
        let quoted = &quote[12..16];
        if quoted != client.0.as_slice() || to != client.0 {
            return Err(format!("flow {at}: an error to {to:?} about a packet of {quoted:?}"));
        }
        if !self.errors.remove(&(at, number)) {
            return Err(format!("flow {at}: a second error about {number}"));
        }
        self.errors_read += 1;
        Ok(())
    }

    /// Whether everything that was sent has been read.
    pub fn all_has_come(&self) -> Result<(), String> {
        for (at, flow) in self.flows.iter().enumerate() {
            if flow.sent != flow.read {
                let Flow { kind, sent, read, .. } = flow;
                return Err(format!("{kind:?} flow {at}: {sent:?} were sent, {read:?} came"));
            }
        }
        match self.errors.len() {
            0 => Ok(()),
            n => Err(format!("{n} errors did not come")),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets, {} ICMP errors", self.packets, self.errors_read)
    }
}

/// A worker's queues.
pub struct Queue<'w> {
    world: &'w mut World,
    worker: usize,
}

impl Io for Queue<'_> {
    fn receive(&mut self, port: PortIndex, packets: &mut Packets) {
        let World { received, pool, .. } = &mut *self.world;
        let queue = &mut received[port.index()][self.worker];
        for frame in queue.drain(..queue.len().min(BURST)) {
            packets.push(pool.packet_of(&frame).expect("there are mbufs"));
        }
    }

    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        for packet in packets.drain(..) {
            self.world.sent[port.index()].push_back(packet.data().to_vec());
            packet.free();
        }
    }
}

/// `[flow: 4][way: 1][number: 4]`, and zeros.
fn message(flow: u32, way: usize, number: u32) -> [u8; MESSAGE] {
    let mut bytes = [0; MESSAGE];
    bytes[..4].copy_from_slice(&flow.to_be_bytes());
    bytes[4] = way as u8;
    bytes[5..9].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn read_message(bytes: &[u8]) -> Option<(u32, usize, u32)> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, usize::from(*bytes.get(4)?).min(OUT_CUT), word(5)?))
}

fn shard_of(client: End, server: End) -> u32 {
    let word = |(address, port): End| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address);
        end_word(AddressBytes(bytes), port)
    };
    word_hash(word(client) ^ word(server)) % u32::from(nfv_core::flow::SHARDS)
}
