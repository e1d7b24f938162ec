//! Community flow identifiers, version 1: the same flow has the same one in every tool's logs.

use std::net::IpAddr;

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

/// The two ends and the protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// Of protocols that have them, and of ICMP what [`icmp_ports`] makes of it.
    pub ports: Option<(u16, u16)>,
    pub order: Order,
}

/// Whether both directions have the same identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// They do.
    Same,
    /// They do not: ICMP without an answer.
    AsSent,
}

/// `1:` and the SHA-1 of seed, ends and protocol, in base64.
///
/// # Source
/// Corelight's community-id-spec, version 1.
pub(super) fn community_id(ends: Ends, seed: u16) -> String {
    let Ends { src, dst, protocol, ports, order } = ends;
    let (sport, dport) = ports.unwrap_or_default();
    let is_turned = order == Order::Same && (octets(dst), dport) < (octets(src), sport);
    let (low, high) = if is_turned { (dst, src) } else { (src, dst) };
    let (low_port, high_port) = if is_turned { (dport, sport) } else { (sport, dport) };
    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    hash.update(octets(low));
    hash.update(octets(high));
    hash.update([protocol, 0]);
    if ports.is_some() {
        hash.update(low_port.to_be_bytes());
        hash.update(high_port.to_be_bytes());
    }
    format!("1:{}", BASE64.encode(&hash.finalize()))
}

/// What stands for the ports of an ICMP message: its type and that of its answer, or its type and code.
pub(super) fn icmp_ports(protocol: u8, kind: u8, code: u8) -> ((u16, u16), Order) {
    let answers: &[(u8, u8)] = if protocol == ICMPV6 { &ANSWERS6 } else { &ANSWERS4 };
    let answer = answers.iter().find_map(|(ask, answer)| match kind {
        kind if kind == *ask => Some(*answer),
        kind if kind == *answer => Some(*ask),
        _ => None,
    });
    match answer {
        Some(answer) => ((u16::from(kind), u16::from(answer)), Order::Same),
        None => ((u16::from(kind), u16::from(code)), Order::AsSent),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

const ICMPV6: u8 = 58;

/// Echo, router discovery, timestamp, information, mask.
const ANSWERS4: [(u8, u8); 5] = [(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)];

/// Echo, listener query, router and neighbour discovery, node information, home agent discovery.
const ANSWERS6: [(u8, u8); 6] =
    [(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)];

#[cfg(test)]
mod tests {
    use super::*;

    fn id(protocol: u8, src: &str, dst: &str, ports: Option<(u16, u16)>, seed: u16) -> String {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        community_id(Ends { src, dst, protocol, ports, order: Order::Same }, seed)
    }

    fn icmp_id(protocol: u8, src: &str, dst: &str, (kind, code): (u8, u8), seed: u16) -> String {
        let (ports, order) = icmp_ports(protocol, kind, code);
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        community_id(Ends { src, dst, protocol, ports: Some(ports), order }, seed)
    }

    /// Of the specification's baseline: protocol, ends, ports, identifiers with the seeds 0 and 1.
    #[allow(clippy::type_complexity, reason = "a table of cases")]
    const BASELINE: [(u8, &str, &str, Option<(u16, u16)>, &str, &str); 5] = [
        (
            6,
            "128.232.110.120",
            "66.35.250.204",
            Some((34855, 80)),
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "1:3V71V58M3Ksw/yuFALMcW0LAHvc=",
        ),
        (
            17,
            "192.168.1.52",
            "8.8.8.8",
            Some((54585, 53)),
            "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            "1:Q9We8WO3piVF8yEQBNJF4uiSVrI=",
        ),
        (
            6,
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            "2607:f8b0:400c:c03::1a",
            Some((63943, 25)),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            "1:eJYTW6AOzFLlSUoESovMjnu7rMw=",
        ),
        (
            132,
            "192.168.170.8",
            "192.168.170.56",
            Some((7, 7)),
            "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg=",
        ),
        (
            46,
            "10.1.12.1",
            "10.1.12.2",
            None,
            "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=",
            "1:rYir8gphR31noO9iDRQmF/BteEI=",
        ),
    ];

    #[test]
    fn the_specifications_flows_have_their_identifiers_in_both_directions() {
        for (protocol, src, dst, ports, plain, seeded) in BASELINE {
            let back = ports.map(|(sport, dport)| (dport, sport));
            assert_eq!(id(protocol, src, dst, ports, 0), plain);
            assert_eq!(id(protocol, dst, src, back, 0), plain);
            assert_eq!(id(protocol, src, dst, ports, 1), seeded);
        }
    }

    #[test]
    fn an_echo_and_its_answer_have_the_same_identifier() {
        let (one, other) = ("192.168.0.89", "192.168.0.1");
        assert_eq!(icmp_id(1, one, other, (8, 0), 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        assert_eq!(icmp_id(1, other, one, (0, 0), 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        let (one, other) = ("3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2");
        assert_eq!(icmp_id(58, one, other, (128, 0), 1), "1:GfZxjAkDk2MkegpBYHV6tadtFXQ=");
        assert_eq!(icmp_id(58, other, one, (129, 0), 1), "1:GfZxjAkDk2MkegpBYHV6tadtFXQ=");
    }

    #[test]
    fn icmp_without_an_answer_has_type_and_code_as_it_was_sent() {
        let (src, dst) = ("3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da");
        assert_eq!(icmp_id(58, src, dst, (3, 0), 0), "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=");
        assert_eq!(
            icmp_id(1, "10.0.0.1", "10.0.0.2", (11, 0), 0),
            "1:YHxtAirCG//0OzkcVAukqKQN9xM="
        );
    }
}
