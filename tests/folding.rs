//! Folding: what the flow functions of a chain do as one action is what they do one after the other. Random conversations
//! go through a chain whose functions are one piece, and through the same chain cut by functions that see packets: what
//! comes out is the same, byte for byte. It is also what hosts would have sent that have the flow's outside ends for
//! inside ones, with the checksums that etherparse gives it: each answer comes to who asked.

mod testkit;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, NetHeaders, PacketHeaders, TransportHeader,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;
use testkit::conversation::{Ends, Flags, Kind, Packet, Passage, ROUTER, Step, Teller, Upper, Way};
use testkit::packets::write_capture;
use testkit::replayed::Replayed;

const CHAIN: &str = r#"
ports: { lan: net_null0, wan: "net_null1,no-rx=1" }
functions:
  edge: { type: firewall, stateful: true, rules: [ { allow: tcp }, { allow: [ udp, icmp, icmp6 ] } ] }
  nat:
    type: nat
    internal: 10.1.0.0/16
    external: 198.51.100.10-198.51.100.11
    prefixes: [ { internal: "fd00:1::/48", external: "2001:db8:1::/48" } ]
  web:
    type: lb
    virtual: 192.0.2.80
    port: 80
    backends: [ { address: 10.2.0.11, port: 8080 }, { address: 10.2.0.12, weight: 2 } ]
  names:
    type: lb
    virtual: 192.0.2.80
    port: 53
    protocol: udp
    backends: [ { address: 10.2.0.13, port: 5353 }, { address: 10.2.0.14 } ]
  web6:
    type: lb
    virtual: "2001:db8::80"
    port: 80
    backends: [ { address: "fd00:2::11", port: 8080 }, { address: "fd00:2::12" } ]
  seen1: { type: count }
  seen2: { type: count }
  seen3: { type: count }
chains:
  outbound: { from: lan, through: [ THROUGH ], to: wan }
"#;
const FOLDED: &str = "edge, nat, web, names, web6";
const CUT: &str = "edge, seen1, nat, seen2, web, names, seen3, web6";

#[derive(Debug)]
struct Conversation {
    kind: Kind,
    inside: Ends,
    steps: Vec<Step>,
}

/// Makes up conversations.
struct Author {
    rng: SmallRng,
    id: u16,
}

impl Author {
    fn conversations(&mut self, count: usize) -> Vec<Conversation> {
        let mut known = HashSet::new();
        let mut all = Vec::new();
        while all.len() < count {
            let (kind, inside) = self.ends();
            // Ends with an address only are one flow whatever is asked of it.
            if known.insert((kind, inside)) {
                let steps = match kind {
                    Kind::Tcp => self.connection(),
                    Kind::Udp | Kind::Echo => self.datagrams(kind, inside.asker.is_ipv4()),
                };
                all.push(Conversation { kind, inside, steps });
            }
        }
        all
    }

    /// Few hosts and ports, so that many flows are of one inside end.
    fn ends(&mut self) -> (Kind, Ends) {
        let kind = [Kind::Tcp, Kind::Udp, Kind::Echo][self.rng.random_range(0..3)];
        let (host, other) = (self.rng.random_range(1..30), self.rng.random_range(1..10));
        let (sport, dport) = (self.rng.random_range(5000..5040), self.rng.random_range(7..12));
        let is_balanced = self.rng.random_ratio(1, 2);
        let (asker, asked): (IpAddr, (IpAddr, u16)) = if self.rng.random_ratio(2, 3) {
            let asked = match kind {
                Kind::Tcp if is_balanced => ([192, 0, 2, 80].into(), 80),
                Kind::Udp if is_balanced => ([192, 0, 2, 80].into(), 53),
                Kind::Echo => ([203, 0, 113, other].into(), sport),
                _ => ([203, 0, 113, other].into(), dport),
            };
            ([10, 1, host % 3, host].into(), asked)
        } else {
            let group = |a: u16, b: u16, last: u8| {
                IpAddr::from(Ipv6Addr::new(a, b, u16::from(a == 0xfd00), 0, 0, 0, 0, last.into()))
            };
            let asked = match kind {
                Kind::Tcp if is_balanced => (group(0x2001, 0xdb8, 0x80), 80),
                Kind::Echo => (group(0x2001, 0xdb9, other), sport),
                _ => (group(0x2001, 0xdb9, other), dport),
            };
            (Ipv6Addr::new(0xfd00, 1, 0, 7, 0, 0, 0, host.into()).into(), asked)
        };
        (kind, Ends { asker: (asker, sport).into(), asked: asked.into() })
    }

    fn packet(&mut self, way: Way, upper: Upper, most: usize) -> Packet {
        self.id = self.id.wrapping_add(1);
        let length = self.rng.random_range(0..=most);
        let payload = (0..length).map(|_| self.rng.random()).collect();
        Packet { way, id: self.id, upper, payload }
    }

    /// A TCP connection: handshake, data both ways in any order, some of it again, and its end.
    fn connection(&mut self) -> Vec<Step> {
        // Some of them run over the end of the numbers.
        let start = |rng: &mut SmallRng| rng.random_range(0..4u32) * 0x5555_5000 + 0xeff;
        let mut next = [start(&mut self.rng), start(&mut self.rng)];
        let syn = Upper::Tcp { seq: next[0], ack: None, flags: Flags::Syn };
        let syn = Step::Whole(self.packet(Way::Out, syn, 0));
        let mut steps = vec![syn.clone()];
        if self.rng.random_ratio(1, 4) {
            steps.push(syn);
        }
        next[0] = next[0].wrapping_add(1);
        let answer = Upper::Tcp { seq: next[1], ack: Some(next[0]), flags: Flags::Syn };
        steps.push(Step::Whole(self.packet(Way::In, answer, 0)));
        next[1] = next[1].wrapping_add(1);
        let ack = Upper::Tcp { seq: next[0], ack: Some(next[1]), flags: Flags::None };
        steps.push(Step::Whole(self.packet(Way::Out, ack, 0)));
        let mut sent: Vec<Packet> = Vec::new();
        for _ in 0..self.rng.random_range(0..20) {
            let again = sent.len().checked_sub(self.rng.random_range(1..5));
            match (self.rng.random_range(0..8), again.and_then(|i| sent.get(i)).cloned()) {
                (0, Some(packet)) => steps.push(Step::Whole(packet)),
                (1, Some(packet)) => steps.push(self.error(packet)),
                _ => {
                    let (way, own) = self.way();
                    let (seq, ack) = (next[own], Some(next[1 - own]));
                    let upper = Upper::Tcp { seq, ack, flags: Flags::None };
                    let packet = self.packet(way, upper, 300);
                    next[own] = seq.wrapping_add(packet.payload.len() as u32);
                    sent.push(packet.clone());
                    steps.push(Step::Whole(packet));
                }
            }
        }
        if self.rng.random_ratio(1, 3) {
            for (way, own) in [(Way::Out, 0), (Way::In, 1)] {
                let (seq, ack) = (next[own], Some(next[1 - own]));
                let fin = Upper::Tcp { seq, ack, flags: Flags::Fin };
                steps.push(Step::Whole(self.packet(way, fin, 0)));
                next[own] = next[own].wrapping_add(1);
            }
        }
        steps
    }

    fn way(&mut self) -> (Way, usize) {
        if self.rng.random() { (Way::Out, 0) } else { (Way::In, 1) }
    }

    /// Questions and answers in any order after the first question, some in fragments, some more than once.
    fn datagrams(&mut self, kind: Kind, is_v4: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut whole: Vec<Packet> = Vec::new();
        for i in 0..self.rng.random_range(1..12) {
            let (way, _) = if i == 0 { (Way::Out, 0) } else { self.way() };
            let upper = match kind {
                Kind::Echo => Upper::Echo { number: i },
                _ => Upper::Udp { has_checksum: !is_v4 || self.rng.random_ratio(2, 3) },
            };
            match (self.rng.random_range(0..6), whole.last().cloned()) {
                (0, _) => {
                    let packet = self.packet(way, upper, 600);
                    steps.extend(self.fragments(packet));
                }
                (1, Some(packet)) => steps.push(Step::Whole(packet)),
                (2, Some(packet)) => steps.push(self.error(packet)),
                _ => {
                    let packet = self.packet(way, upper, 200);
                    whole.push(packet.clone());
                    steps.push(Step::Whole(packet));
                }
            }
        }
        steps
    }

    /// All fragments of a datagram, in any order.
    fn fragments(&mut self, mut packet: Packet) -> Vec<Step> {
        packet.payload.resize(packet.payload.len() + 100, 7);
        let end = 8 + packet.payload.len();
        let mut cuts: Vec<usize> = (0..self.rng.random_range(1..4))
            .map(|_| self.rng.random_range(2..end / 8) * 8)
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([end]);
        let mut all: Vec<Step> =
            starts.zip(ends).map(|(a, b)| Step::Fragment(packet.clone(), a..b)).collect();
        for i in 1..all.len() {
            if self.rng.random_ratio(1, 3) {
                all.swap(i, self.rng.random_range(0..i));
            }
        }
        all
    }

    /// An error about a packet, with as much of it as routers quote: eight bytes behind its header, or more.
    fn error(&mut self, packet: Packet) -> Step {
        let quote = [48, 68, 128, 400][self.rng.random_range(0..4)];
        let teller = if self.rng.random() { Teller::Receiver } else { Teller::Router };
        Step::Error(packet, quote, teller)
    }

    /// All steps of all conversations, each conversation's in their order.
    fn interleaved(&mut self, all: &[Conversation]) -> Vec<(usize, Step)> {
        let mut at = vec![0; all.len()];
        let mut open: Vec<usize> = (0..all.len()).collect();
        let mut steps = Vec::new();
        while !open.is_empty() {
            let place = self.rng.random_range(0..open.len().min(40));
            let which = open[place];
            for _ in 0..self.rng.random_range(1..4) {
                let Some(step) = all[which].steps.get(at[which]) else { break };
                steps.push((which, step.clone()));
                at[which] += 1;
            }
            if at[which] == all[which].steps.len() {
                open.swap_remove(place);
            }
        }
        steps
    }

    /// Gives frames their times; those of one time and port are a burst.
    fn timed(&mut self, frames: &[Passage]) -> [Vec<(u64, Vec<u8>)>; 2] {
        let (mut now, mut last) = (1_000_000_000, Way::Out);
        let mut captures = [Vec::new(), Vec::new()];
        for frame in frames {
            if frame.way != last || self.rng.random_ratio(1, 5) {
                now += 1_000;
            }
            last = frame.way;
            captures[usize::from(frame.way == Way::In)].push((now, frame.sent.clone()));
        }
        captures
    }
}

/// A chain of these functions, with what is to come in at each port.
fn replay(through: &str, [lan, wan]: [Vec<(u64, Vec<u8>)>; 2]) -> Replayed {
    let folder = TempDir::new().unwrap();
    let (chain, capture) = (folder.path().join("chain.yaml"), folder.path().join("wan.pcap"));
    std::fs::write(&chain, CHAIN.replace("THROUGH", through)).unwrap();
    write_capture(&capture, wan);
    let more = ["--in", &format!("wan={}", capture.display())];
    Replayed::with(chain.to_str().unwrap(), lan, &more, &[]).succeeded()
}

/// The outside ends of conversations, by their first packets alone, in this order.
fn bindings(through: &str, all: &[Conversation], order: &[usize]) -> HashMap<usize, Ends> {
    let router = IpAddr::from(ROUTER);
    let opening = |(i, which): (usize, &usize)| {
        let Conversation { kind, inside, steps } = &all[*which];
        let packet = match (kind, steps.iter().find(|s| s.opens())) {
            (_, Some(Step::Whole(packet) | Step::Fragment(packet, _))) => packet.clone(),
            _ => panic!("nothing opens {inside:?}"),
        };
        (1_000 * (i as u64 + 1), Step::Whole(packet).frame(inside, router))
    };
    let out = replay(through, [order.iter().enumerate().map(opening).collect(), Vec::new()]);
    let sent = out.sent("wan");
    assert_eq!(sent.len(), order.len(), "all begin: {}", out.report);
    order.iter().copied().zip(sent.iter().map(|frame| ends_of(frame))).collect()
}

fn ends_of(frame: &[u8]) -> Ends {
    let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let [src, dst]: [IpAddr; 2] = match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => [ip.source.into(), ip.destination.into()],
        Some(NetHeaders::Ipv6(ip, _)) => [ip.source.into(), ip.destination.into()],
        other => panic!("{other:?}"),
    };
    let (sport, dport) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(TransportHeader::Udp(udp)) => (udp.source_port, udp.destination_port),
        Some(TransportHeader::Icmpv4(Icmpv4Header {
            icmp_type: Icmpv4Type::EchoRequest(echo),
            ..
        }))
        | Some(TransportHeader::Icmpv6(Icmpv6Header {
            icmp_type: Icmpv6Type::EchoRequest(echo),
            ..
        })) => (echo.id, echo.id),
        other => panic!("{other:?}"),
    };
    Ends { asker: (src, sport).into(), asked: (dst, dport).into() }
}

/// The bindings are those of a NAT and of balancers, not just any.
fn check_bindings(all: &[Conversation], outside: &HashMap<usize, Ends>) {
    let mut by_inside: HashMap<(Kind, SocketAddr), SocketAddr> = HashMap::new();
    for (which, out) in outside {
        let Conversation { kind, inside, .. } = &all[*which];
        let first = by_inside.entry((*kind, inside.asker)).or_insert(out.asker);
        assert_eq!(*first, out.asker, "one outside end of {inside:?}, whoever is asked");
        let pooled = match out.asker.ip() {
            IpAddr::V4(a) => POOL.contains(&a),
            IpAddr::V6(a) => a.segments()[..3] == [0x2001, 0xdb8, 1],
        };
        assert!(pooled, "{inside:?} is {out:?}");
        let is_virtual = inside.asked.ip() == IpAddr::from([192, 0, 2, 80])
            || inside.asked.to_string() == "[2001:db8::80]:80";
        assert_eq!(is_virtual && *kind != Kind::Echo, inside.asked.ip() != out.asked.ip());
    }
    let outsides: HashSet<_> = by_inside.iter().map(|((kind, _), out)| (*kind, *out)).collect();
    assert_eq!(outsides.len(), by_inside.len(), "no outside end is of two inside ends");
    assert!(by_inside.len() < all.len(), "control: inside ends have several flows");
}

/// What came out, without its order: the later fragments of a datagram wait for the first one.
fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort_unstable();
    frames
}

/// Fails with what is on one side only.
fn assert_same(what: &str, came: Vec<Vec<u8>>, expected: Vec<Vec<u8>>) {
    let (came, expected) = (sorted(came), sorted(expected));
    if came == expected {
        return;
    }
    let only = |a: &[Vec<u8>], b: &[Vec<u8>]| -> Vec<String> {
        let b: HashSet<&Vec<u8>> = b.iter().collect();
        let decoded =
            |f: &Vec<u8>| format!("{:x?}\n{f:02x?}", PacketHeaders::from_ethernet_slice(f));
        a.iter().filter(|f| !b.contains(f)).take(2).map(decoded).collect()
    };
    panic!(
        "{what}: {} frames came, {} were to come; only the one: {:#?}; only the other: {:#?}",
        came.len(),
        expected.len(),
        only(&came, &expected),
        only(&expected, &came)
    );
}

/// What all functions but `seen` count.
fn counted(replayed: &Replayed) -> BTreeMap<String, Value> {
    let functions = replayed.report["functions"].as_object().unwrap();
    functions
        .iter()
        .filter(|(n, _)| !n.starts_with("seen"))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

fn folds(seed: u64) {
    println!("seed {seed}");
    let mut author = Author { rng: SmallRng::seed_from_u64(seed), id: 0 };
    let all = author.conversations(400);
    let steps = author.interleaved(&all);
    let mut known = HashSet::new();
    let mut order =
        steps.iter().filter(|(_, s)| s.opens()).map(|(which, _)| *which).collect::<Vec<_>>();
    order.retain(|which| known.insert(*which));
    assert_eq!(order.len(), all.len());
    let of = |which: fn(&Step) -> bool| steps.iter().filter(|(_, s)| which(s)).count();
    let late = |s: &Step| matches!(s, Step::Fragment(_, bytes) if bytes.start > 0);
    let unsummed = |s: &Step| {
        matches!(s, Step::Whole(Packet { upper: Upper::Udp { has_checksum: false }, .. }))
    };
    let kinds = [of(late), of(unsummed), of(|s| matches!(s, Step::Error(..)))];
    assert!(kinds.iter().all(|n| *n > 50), "control: there are some of each kind: {kinds:?}");
    let outside = bindings(FOLDED, &all, &order);
    check_bindings(&all, &outside);
    assert_eq!(bindings(CUT, &all, &order), outside, "the cut chain makes the same choices");

    let passages: Vec<Passage> = steps
        .iter()
        .map(|(which, step)| step.passage(&all[*which].inside, &outside[which]))
        .collect();
    let captures = author.timed(&passages);
    let folded = replay(FOLDED, captures.clone());
    let comes = |way: Way| -> Vec<Vec<u8>> {
        passages.iter().filter(|p| p.way == way).map(|p| p.comes.clone()).collect()
    };
    assert_eq!(folded.report["drops"], serde_json::json!({}), "all passes");
    assert_same("at wan", folded.sent("wan"), comes(Way::Out));
    assert_same("at lan", folded.sent("lan"), comes(Way::In));

    let cut = replay(CUT, captures);
    for port in ["wan", "lan"] {
        assert!(
            cut.timed(port) == folded.timed(port),
            "{port}: the cut chain makes the same of it"
        );
    }
    assert_eq!(counted(&cut), counted(&folded), "each function counts as if it were alone");
    let seen = |name: &str| cut.report["functions"][name]["packets"].as_u64().unwrap();
    let came = passages.len() as u64;
    assert_eq!(["seen1", "seen2", "seen3"].map(seen), [came; 3], "control: the chain is cut");
}

#[test]
fn folded_functions_do_what_they_do_one_after_the_other_and_answers_come_to_who_asked() {
    for seed in 1..=4 {
        folds(seed);
    }
}

const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(198, 51, 100, 11)];
