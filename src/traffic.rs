//! The traffic of a bench: a line that says what it is, and the capture that has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

/// What packets a bench sends: `udp,size=64,flows=10000`, `tcp6,skew=zipf:1.1`, `pcap=FILE`.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// A capture, over and over.
    Capture(PathBuf),
    /// Made here.
    Made(Made),
}

/// Packets that are made for a bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    tcp: bool,
    v6: bool,
    /// Bytes of a frame, its checksum among them (RFC 2544); 64 to 1,518.
    size: usize,
    /// Different five-tuples.
    flows: u32,
    dport: u16,
    /// Of the first flow; others go to the 249 addresses behind it, too.
    dst: IpAddr,
    /// Exponent of Zipf's law; none: all flows alike.
    zipf: Option<f64>,
}

impl FromStr for Traffic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix("pcap=") {
            return Ok(Self::Capture(file.into()));
        }
        let mut words = text.split(',');
        let (tcp, v6) = match words.next() {
            Some("udp") => (false, false),
            Some("tcp") => (true, false),
            Some("udp6") => (false, true),
            Some("tcp6") => (true, true),
            first => {
                let first = first.unwrap_or_default();
                return Err(format!("`{first}`: it starts with udp, tcp, udp6, tcp6 or pcap=FILE"));
            }
        };
        let dst = if v6 { IpAddr::V6(BENCHMARK_V6) } else { IpAddr::V4(BENCHMARK_V4) };
        let (size, dport) = (if v6 || tcp { 78 } else { 64 }, if tcp { 80 } else { 53 });
        let mut made = Made { tcp, v6, size, flows: 10_000, dport, dst, zipf: None };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "size" => made.size = number(key, value, made.least_size(), 1518)?,
                "flows" => made.flows = number(key, value, 1, FLOWS_MAX)?,
                "dport" => made.dport = number(key, value, 1, u16::MAX)?,
                "dst" => match value.parse::<IpAddr>() {
                    Ok(dst) if dst.is_ipv6() == v6 => made.dst = dst,
                    _ => return Err(format!("`{word}`: an address of the packets' family")),
                },
                "skew" => match value.strip_prefix("zipf:").map(str::parse::<f64>) {
                    Some(Ok(s)) if (0.0..=10.0).contains(&s) => made.zipf = Some(s),
                    _ => return Err(format!("`{word}`: write it as skew=zipf:1.1, 0 to 10")),
                },
                _ => return Err(format!("`{word}`: the keys are size, flows, dport, dst, skew")),
            }
        }
        Ok(Self::Made(made))
    }
}

fn number<N>(key: &str, text: &str, least: N, most: N) -> Result<N, String>
where
    N: FromStr + PartialOrd + Copy + std::fmt::Display,
{
    match text.parse::<N>() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => Err(format!("`{key}={text}`: a number from {least} to {most}")),
    }
}

impl Traffic {
    /// The capture to send, which is made in `folder` if need be, and how many packets it has.
    ///
    /// `mac`: whom the frames are to, the port that receives them.
    pub fn capture(&self, folder: &Path, mac: [u8; 6]) -> anyhow::Result<(PathBuf, u32)> {
        let made = match self {
            Self::Capture(path) => {
                let bytes = std::fs::metadata(path)
                    .with_context(|| format!("--traffic pcap={}", path.display()))?
                    .len();
                // No packet of a capture takes fewer bytes than its own header.
                return Ok((path.clone(), u32::try_from(bytes / 16).unwrap_or(u32::MAX)));
            }
            Self::Made(made) => made,
        };
        let path = folder.join("traffic.pcap");
        let file = std::fs::File::create(&path).context("making the traffic")?;
        let mut writer =
            PcapWriter::new(std::io::BufWriter::new(file)).context("making the traffic")?;
        let order = made.order();
        for flow in &order {
            let frame = made.frame(*flow, mac)?;
            let packet = PcapPacket::new(Duration::ZERO, u32::try_from(frame.len())?, &frame);
            writer.write_packet(&packet).context("making the traffic")?;
        }
        Ok((path, u32::try_from(order.len())?))
    }
}

impl Made {
    fn least_size(&self) -> usize {
        let ip = if self.v6 { 40 } else { 20 };
        let upper = if self.tcp { 20 } else { 8 };
        (14 + ip + upper + FCS).max(64)
    }

    /// The flows, in the order of their packets: the same each time.
    fn order(&self) -> Vec<u32> {
        let mut random = SmallRng::seed_from_u64(u64::from(self.flows));
        match self.zipf.map(|s| Zipf::new(f64::from(self.flows), s)) {
            Some(Ok(zipf)) => {
                let count = self.flows.max(10_000);
                (0..count).map(|_| random.sample(zipf) as u32 - 1).collect()
            }
            _ => {
                let mut all: Vec<u32> = (0..self.flows).collect();
                all.shuffle(&mut random);
                all
            }
        }
    }

    fn frame(&self, flow: u32, mac: [u8; 6]) -> anyhow::Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2([2, 0x10, 0x20, 0x30, 0x40, 0x50], mac);
        let [_, a, b, c] = flow.to_be_bytes();
        let last = flow % 250;
        let ip = match self.dst {
            IpAddr::V4(dst) => {
                let dst = Ipv4Addr::from_bits(dst.to_bits().wrapping_add(last));
                ethernet.ipv4([10, a, b, c], dst.octets(), 64)
            }
            IpAddr::V6(dst) => {
                let src = Ipv6Addr::new(
                    0xfd00,
                    0x10,
                    0,
                    0,
                    0,
                    0,
                    u16::from(a),
                    u16::from_be_bytes([b, c]),
                );
                let dst = Ipv6Addr::from_bits(dst.to_bits().wrapping_add(u128::from(last)));
                ethernet.ipv6(src.octets(), dst.octets(), 64)
            }
        };
        let sport = 1024 + (flow % 60_000) as u16;
        let payload = vec![0; self.size - FCS - (self.least_size_of_headers())];
        let mut frame = Vec::with_capacity(self.size);
        if self.tcp {
            ip.tcp(sport, self.dport, flow, 65_535).ack(1).write(&mut frame, &payload)?;
        } else {
            ip.udp(sport, self.dport).write(&mut frame, &payload)?;
        }
        Ok(frame)
    }

    fn least_size_of_headers(&self) -> usize {
        14 + if self.v6 { 40 } else { 20 } + if self.tcp { 20 } else { 8 }
    }
}

/// Bytes of a frame's checksum, which no mbuf has.
const FCS: usize = 4;
/// Each takes an mbuf of 2 KiB.
const FLOWS_MAX: u32 = 500_000;
/// RFC 2544, appendix C.2.2, and RFC 5180, section 8.
const BENCHMARK_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const BENCHMARK_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x2, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use nfv_core::packet::parse;

    use super::*;

    fn made(text: &str) -> Made {
        match text.parse().unwrap() {
            Traffic::Made(made) => made,
            Traffic::Capture(_) => panic!("{text}"),
        }
    }

    #[test]
    fn frames_are_as_long_as_asked_for_and_to_the_port() {
        for (text, bytes) in
            [("udp", 60), ("udp,size=1518", 1514), ("tcp6", 74), ("udp6,size=128", 124)]
        {
            let frame = made(text).frame(7, [2, 0, 0, 0, 0, 9]).unwrap();
            assert_eq!((frame.len(), &frame[..6]), (bytes, &[2, 0, 0, 0, 0, 9][..]), "{text}");
            assert!(parse(&frame, frame.len() as u32).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_flow_is_one_five_tuple_and_has_one_packet_when_all_are_alike() {
        let made = made("udp,flows=70000");
        let mut order = made.order();
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..70_000));
        let tuple = |flow| {
            let frame = made.frame(flow, [2; 6]).unwrap();
            let h = parse(&frame, frame.len() as u32).unwrap();
            (h.src, h.dst, h.sport, h.dport)
        };
        let different: std::collections::HashSet<_> = (0..70_000).map(tuple).collect();
        assert_eq!(different.len(), 70_000);
    }

    #[test]
    fn a_skew_gives_the_first_flow_more_packets_than_the_second() {
        let order = made("udp,flows=1000,skew=zipf:1.1").order();
        let count = |flow| order.iter().filter(|f| **f == flow).count();
        assert!(count(0) > count(1) && count(1) > count(50), "{} {}", count(0), count(1));
        assert!(order.iter().all(|f| *f < 1000));
    }

    #[test]
    fn what_is_not_traffic_is_said_so() {
        for wrong in [
            "",
            "icmp",
            "udp,size=63",
            "udp,size=1519",
            "udp,flows=0",
            "udp,hops=3",
            "udp,dst=::1",
            "udp,skew=1",
            "tcp6,size=64",
        ] {
            assert!(wrong.parse::<Traffic>().is_err(), "{wrong}");
        }
    }
}
