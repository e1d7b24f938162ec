//! Conversations, packet by packet, whichever ends they have: what hosts send who have these, with right checksums. What
//! a NAT or a balancer makes of a packet is the same packet between other ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use etherparse::icmpv4::DestUnreachableHeader as Unreachable4;
use etherparse::icmpv6::DestUnreachableCode as Unreachable6;
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber,
    Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};

/// Whose packet: the one's who asks, from `lan` to `wan`, or the one's who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

/// Both ends of a conversation. Of an echo the asker's port is its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who sends first.
    pub asker: SocketAddr,
    /// Whom it sends to.
    pub asked: SocketAddr,
}

/// Of what a conversation consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tcp,
    Udp,
    Echo,
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug)]
pub enum Upper {
    Tcp { seq: u32, ack: Option<u32>, flags: Flags },
    Udp { has_checksum: bool },
    Echo { number: u16 },
}

/// What a segment says besides its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    None,
    Syn,
    Fin,
}

/// A packet, whichever ends its conversation has where it is seen.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Whose it is.
    pub way: Way,
    /// The datagram's identification.
    pub id: u16,
    /// Its header behind the IP header.
    pub upper: Upper,
    /// What is behind that.
    pub payload: Vec<u8>,
}

/// What is sent at once.
#[derive(Clone, Debug)]
pub enum Step {
    Whole(Packet),
    /// These bytes of what is behind the IP header.
    Fragment(Packet, Range<usize>),
    /// An ICMP error with so many bytes of a packet.
    Error(Packet, usize, Teller),
}

/// Who sends an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    Receiver,
    Router,
}

/// A frame: what is sent, and what comes out at the other port.
pub struct Passage {
    /// From which side.
    pub way: Way,
    /// As it is sent.
    pub sent: Vec<u8>,
    /// As it is to come out.
    pub comes: Vec<u8>,
}

impl Step {
    fn way(&self) -> Way {
        match self {
            Self::Whole(packet) | Self::Fragment(packet, _) => packet.way,
            Self::Error(packet, ..) if packet.way == Way::Out => Way::In,
            Self::Error(..) => Way::Out,
        }
    }

    /// Whether its flow can begin with it.
    pub fn opens(&self) -> bool {
        match self {
            Self::Whole(packet) => packet.way == Way::Out,
            Self::Fragment(packet, bytes) => packet.way == Way::Out && bytes.start == 0,
            Self::Error(..) => false,
        }
    }

    /// Where its conversation has these ends. `teller`: the address of the one who sends an error.
    pub fn frame(&self, ends: &Ends, teller: IpAddr) -> Vec<u8> {
        let mut frame = match self.way() {
            Way::Out => vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
            Way::In => vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        };
        frame.extend(if ends.asker.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(match self {
            Self::Whole(packet) => packet.whole(ends),
            Self::Fragment(packet, bytes) => packet.fragment(ends, bytes.clone()),
            Self::Error(packet, quote, _) => {
                let [src, _] = packet.ends(ends);
                let mut quoted = packet.whole(ends);
                quoted.truncate(*quote);
                error(teller, src.ip(), packet.id, &quoted)
            }
        });
        frame
    }

    /// Between the ends that the asker's side has, and those that the other side has.
    pub fn passage(&self, inside: &Ends, outside: &Ends) -> Passage {
        let way = self.way();
        let (from, to) = if way == Way::Out { (inside, outside) } else { (outside, inside) };
        let (mut teller, mut becomes) = (from.asked.ip(), from.asked.ip());
        if let Self::Error(packet, _, who) = self {
            let [[_, here], [_, there]] = [packet.ends(from), packet.ends(to)];
            (teller, becomes) = (here.ip(), there.ip());
            if *who == Teller::Router {
                let v4 = teller.is_ipv4();
                teller = if v4 { ROUTER.into() } else { ROUTER6.into() };
                // Where its receiver has another address outside, a router is hidden behind that, too.
                becomes = if here.ip() == there.ip() { teller } else { becomes };
            }
        }
        Passage { way, sent: self.frame(from, teller), comes: self.frame(to, becomes) }
    }
}

impl Packet {
    /// Source and destination.
    fn ends(&self, ends: &Ends) -> [SocketAddr; 2] {
        match self.way {
            Way::Out => [ends.asker, ends.asked],
            Way::In => [ends.asked, ends.asker],
        }
    }

    fn whole(&self, ends: &Ends) -> Vec<u8> {
        let ([src, dst], (protocol, upper)) = (self.ends(ends), self.upper(ends));
        ip(src.ip(), dst.ip(), protocol, self.id, None, &upper)
    }

    fn fragment(&self, ends: &Ends, bytes: Range<usize>) -> Vec<u8> {
        let ([src, dst], (protocol, upper)) = (self.ends(ends), self.upper(ends));
        let cut = Some((bytes.start, bytes.end < upper.len()));
        ip(src.ip(), dst.ip(), protocol, self.id, cut, &upper[bytes])
    }

    /// What is behind the IP header, with its protocol.
    fn upper(&self, ends: &Ends) -> (IpNumber, Vec<u8>) {
        let [src, dst] = self.ends(ends);
        let (sport, dport, payload) = (src.port(), dst.port(), &self.payload[..]);
        let (protocol, mut upper) = match self.upper {
            Upper::Tcp { seq, ack, flags } => {
                let mut tcp = TcpHeader::new(sport, dport, seq, 60_000);
                (tcp.syn, tcp.fin) = (flags == Flags::Syn, flags == Flags::Fin);
                (tcp.ack, tcp.acknowledgment_number) = (ack.is_some(), ack.unwrap_or(0));
                let checksum = match (src.ip(), dst.ip()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        tcp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload)
                    }
                    (a, b) => tcp.calc_checksum_ipv6_raw(v6(a).octets(), v6(b).octets(), payload),
                };
                tcp.checksum = checksum.unwrap();
                (IpNumber::TCP, tcp.to_bytes().to_vec())
            }
            Upper::Udp { has_checksum } => {
                let length = 8 + payload.len() as u16;
                let mut udp =
                    UdpHeader { source_port: sport, destination_port: dport, length, checksum: 0 };
                let checksum = match (src.ip(), dst.ip()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload)
                    }
                    (a, b) => udp.calc_checksum_ipv6_raw(v6(a).octets(), v6(b).octets(), payload),
                };
                udp.checksum = if has_checksum { checksum.unwrap() } else { 0 };
                (IpNumber::UDP, udp.to_bytes().to_vec())
            }
            Upper::Echo { number } => {
                let echo = IcmpEchoHeader { id: ends.asker.port(), seq: number };
                match (src.ip(), self.way) {
                    (IpAddr::V4(_), way) => {
                        let kind = match way {
                            Way::Out => Icmpv4Type::EchoRequest(echo),
                            Way::In => Icmpv4Type::EchoReply(echo),
                        };
                        (
                            IpNumber::ICMP,
                            Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec(),
                        )
                    }
                    (IpAddr::V6(a), way) => {
                        let kind = match way {
                            Way::Out => Icmpv6Type::EchoRequest(echo),
                            Way::In => Icmpv6Type::EchoReply(echo),
                        };
                        (IpNumber::IPV6_ICMP, icmp6(kind, a, v6(dst.ip()), payload))
                    }
                }
            }
        };
        upper.extend(payload);
        (protocol, upper)
    }
}

/// An IP packet. `cut`: where in its datagram a fragment begins, and whether more follow.
fn ip(
    src: IpAddr,
    dst: IpAddr,
    protocol: IpNumber,
    id: u16,
    cut: Option<(usize, bool)>,
    body: &[u8],
) -> Vec<u8> {
    let offset = |at: usize| IpFragOffset::try_new((at / 8) as u16).unwrap();
    let mut packet = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = body.len() as u16;
            let mut ip = Ipv4Header::new(length, 64, protocol, src.octets(), dst.octets()).unwrap();
            let (start, more) = cut.unwrap_or_default();
            (ip.identification, ip.dont_fragment) = (id, false);
            (ip.fragment_offset, ip.more_fragments) = (offset(start), more);
            ip.header_checksum = ip.calc_header_checksum();
            ip.to_bytes().to_vec()
        }
        (src, dst) => {
            let fragment = cut
                .map(|(at, more)| Ipv6FragmentHeader::new(protocol, offset(at), more, id.into()));
            let more = fragment.map_or_else(Vec::new, |f| f.to_bytes().to_vec());
            let ip = Ipv6Header {
                payload_length: (more.len() + body.len()) as u16,
                next_header: if cut.is_some() {
                    IpNumber::IPV6_FRAGMENTATION_HEADER
                } else {
                    protocol
                },
                hop_limit: 64,
                source: v6(src).octets(),
                destination: v6(dst).octets(),
                ..Ipv6Header::default()
            };
            [&ip.to_bytes()[..], &more].concat()
        }
    };
    packet.extend(body);
    packet
}

/// An ICMP error: a port is unreachable.
fn error(src: IpAddr, dst: IpAddr, id: u16, quoted: &[u8]) -> Vec<u8> {
    let (protocol, mut icmp) = match src {
        IpAddr::V4(_) => {
            let kind = Icmpv4Type::DestinationUnreachable(Unreachable4::Port);
            (IpNumber::ICMP, Icmpv4Header::with_checksum(kind, quoted).to_bytes().to_vec())
        }
        IpAddr::V6(src) => {
            let kind = Icmpv6Type::DestinationUnreachable(Unreachable6::Port);
            (IpNumber::IPV6_ICMP, icmp6(kind, src, v6(dst), quoted))
        }
    };
    icmp.extend(quoted);
    ip(src, dst, protocol, !id, None, &icmp)
}

fn icmp6(kind: Icmpv6Type, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let header = Icmpv6Header::with_checksum(kind, src.octets(), dst.octets(), payload);
    header.unwrap().to_bytes().to_vec()
}

fn v6(address: IpAddr) -> Ipv6Addr {
    let IpAddr::V6(address) = address else { panic!("{address} beside one of IPv6") };
    address
}

/// A router, which has the same address on both sides.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// Another of IPv6.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 0xfe);
