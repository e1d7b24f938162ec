//! The traffic of a bench: a line that says what it is, and the capture that has it.

mod template;
mod writer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

pub use self::template::{SERVER_ISN, Stage, Template, WINDOW};
pub use self::writer::{Order, Writer};

/// What packets a bench sends: `udp,size=64,flows=10000`, `tcp6,skew=zipf:1.1`, `udp,flows=new`, `pcap=FILE`.
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
    flows: Flows,
    dport: u16,
    /// Of the first flow.
    dst: IpAddr,
    /// Addresses from `dst` on to which flows go by turns.
    dsts: u32,
    /// Exponent of Zipf's law; none: all flows alike.
    zipf: Option<f64>,
}

/// How many different five-tuples, and whose packet is next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flows {
    /// So many, shuffled once: a capture, over and over.
    Loop(u32),
    /// So many, each time in another order: written into packets as they are received.
    Random(u32),
    /// Each packet is a flow's first; written likewise.
    New,
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
        let flows = Flows::Loop(10_000);
        let mut made = Made { tcp, v6, size, flows, dport, dst, dsts: 250, zipf: None };
        let (mut count, mut order) = (None, None);
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "size" => made.size = number(key, value, made.least_size(), 1518)?,
                "flows" if value == "new" => made.flows = Flows::New,
                "flows" => count = Some(number(key, value, 1, FLOWS_MAX)?),
                "order" if ["loop", "random"].contains(&value) => order = Some(value),
                "order" => return Err(format!("`{word}`: it is loop or random")),
                "dsts" => made.dsts = number(key, value, 1, 65_536)?,
                "dport" => made.dport = number(key, value, 1, u16::MAX)?,
                "dst" => match value.parse::<IpAddr>() {
                    Ok(dst) if dst.is_ipv6() == v6 => made.dst = dst,
                    _ => return Err(format!("`{word}`: an address of the packets' family")),
                },
                "skew" => match value.strip_prefix("zipf:").map(str::parse::<f64>) {
                    Some(Ok(s)) if (0.0..=10.0).contains(&s) => made.zipf = Some(s),
                    _ => return Err(format!("`{word}`: write it as skew=zipf:1.1, 0 to 10")),
                },
                _ => {
                    let keys = "size, flows, order, dport, dst, dsts, skew";
                    return Err(format!("`{word}`: the keys are {keys}"));
                }
            }
        }
        let count = count.unwrap_or(10_000);
        made.flows = match (made.flows, order) {
            (Flows::New, None) => Flows::New,
            (Flows::New, Some(_)) => {
                return Err("`order` with `flows=new`: each flow has one packet".to_owned());
            }
            (_, Some("random")) => Flows::Random(count),
            (_, None) if count > LOOP_MAX && made.zipf.is_none() => Flows::Random(count),
            _ if count > LOOP_MAX => {
                let why = "a capture has at most that; say order=random, without a skew";
                return Err(format!("`flows={count}`: {LOOP_MAX} at most in a loop: {why}"));
            }
            _ => Flows::Loop(count),
        };
        if made.zipf.is_some() && !matches!(made.flows, Flows::Loop(_)) {
            return Err(
                "`skew` is for flows in a loop; leave `order` or `flows=new` out".to_owned()
            );
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
        let template = Template::new(made, mac, Stage::Open)?;
        let order = made.order();
        for flow in &order {
            let frame = template.frame(u64::from(*flow));
            let packet = PcapPacket::new(Duration::ZERO, u32::try_from(frame.len())?, &frame);
            writer.write_packet(&packet).context("making the traffic")?;
        }
        Ok((path, u32::try_from(order.len())?))
    }

    /// Who writes the flow into each packet that a worker of so many receives; `None`: they come as they are.
    pub fn writer(&self, mac: [u8; 6], worker: u16, of: u16) -> anyhow::Result<Option<Writer>> {
        let Self::Made(made) = self else { return Ok(None) };
        let order = match made.flows {
            Flows::Loop(_) => return Ok(None),
            Flows::Random(flows) => Order::random(made.first_flow(worker), flows),
            Flows::New => Order::New { next: u64::from(worker), by: u64::from(of) },
        };
        // What is never answered is a flow's first packet each time.
        let new = made.flows == Flows::New;
        let stage = if new { Stage::Opening } else { Stage::Open };
        Ok(Some(Writer::new(Template::new(made, mac, stage)?, order)))
    }

    /// The first packets of a worker's flows, and the flows' numbers; `None` where they are not known.
    pub fn opening(
        &self,
        mac: [u8; 6],
        worker: u16,
    ) -> anyhow::Result<Option<(Template, std::ops::Range<u64>)>> {
        let Self::Made(made) = self else { return Ok(None) };
        let (Flows::Loop(flows) | Flows::Random(flows)) = made.flows else { return Ok(None) };
        let first = made.first_flow(worker);
        // A loop is received by all workers; one opens its flows.
        let is_shared = matches!(made.flows, Flows::Loop(_)) && worker > 0;
        let flows = if is_shared { 0 } else { flows };
        let template = Template::new(made, mac, Stage::Opening)?;
        Ok(Some((template, first..first + u64::from(flows))))
    }

    /// Whether packets get their flow as they are received.
    pub fn is_written(&self) -> bool {
        matches!(self, Self::Made(Made { flows: Flows::Random(_) | Flows::New, .. }))
    }

    /// Whether each packet is of another flow.
    pub fn is_new_flows(&self) -> bool {
        matches!(self, Self::Made(Made { flows: Flows::New, .. }))
    }
}

impl Made {
    fn least_size(&self) -> usize {
        (self.least_size_of_headers() + FCS).max(64)
    }

    /// The flows, in the order of their packets: the same each time. Where flows are written into the packets, one
    /// packet is as good as another.
    fn order(&self) -> Vec<u32> {
        let Flows::Loop(flows) = self.flows else { return vec![0; TEMPLATES] };
        let mut random = SmallRng::seed_from_u64(u64::from(flows));
        match self.zipf.map(|s| Zipf::new(f64::from(flows), s)) {
            Some(Ok(zipf)) => {
                let count = flows.max(10_000);
                (0..count).map(|_| random.sample(zipf) as u32 - 1).collect()
            }
            _ => {
                let mut all: Vec<u32> = (0..flows).collect();
                all.shuffle(&mut random);
                all
            }
        }
    }

    /// Of a worker: each has its own, but all receive the same loop.
    fn first_flow(&self, worker: u16) -> u64 {
        match self.flows {
            Flows::Random(flows) => u64::from(worker) * u64::from(flows),
            _ => 0,
        }
    }

    fn least_size_of_headers(&self) -> usize {
        14 + if self.v6 { 40 } else { 20 } + if self.tcp { 20 } else { 8 }
    }
}

/// Bytes of a frame's checksum, which no mbuf has.
const FCS: usize = 4;
/// More have no five-tuple of their own.
const FLOWS_MAX: u32 = 10_000_000;
/// Each takes an mbuf of 2 KiB.
const LOOP_MAX: u32 = 500_000;
/// Packets of a capture into which flows are written.
const TEMPLATES: usize = 64;
/// RFC 2544, appendix C.2.2, and RFC 5180, section 8.
const BENCHMARK_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const BENCHMARK_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x2, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use nfv_core::packet::parse;

    use super::*;

    pub(super) fn made(text: &str) -> Made {
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
            let template = Template::new(&made(text), [2, 0, 0, 0, 0, 9], Stage::Open).unwrap();
            let frame = template.frame(7);
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
        let template = Template::new(&made, [2; 6], Stage::Open).unwrap();
        let tuple = |flow| {
            let frame = template.frame(flow);
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
    fn more_flows_than_a_capture_holds_are_written_as_they_come() {
        let flows = |text| made(text).flows;
        assert_eq!(flows("udp,flows=500000"), Flows::Loop(500_000));
        assert_eq!(flows("udp,flows=500001"), Flows::Random(500_001));
        assert_eq!(flows("tcp,flows=10,order=random"), Flows::Random(10));
        assert_eq!(flows("udp,flows=new"), Flows::New);
    }

    #[test]
    fn all_flows_go_to_one_address_when_there_is_one() {
        for (text, different) in [("udp,dsts=1", 1), ("udp", 250), ("tcp6,dsts=3", 3)] {
            let template = Template::new(&made(text), [2; 6], Stage::Open).unwrap();
            let dst = |flow| parse(&template.frame(flow), 1514).map(|h| h.dst).unwrap();
            let found: std::collections::HashSet<_> = (0..1000).map(dst).collect();
            assert_eq!(found.len(), different, "{text}");
        }
    }

    #[test]
    fn what_is_not_traffic_is_said_so() {
        for wrong in [
            "",
            "icmp",
            "udp,size=63",
            "udp,size=1519",
            "udp,flows=0",
            "udp,flows=10000001",
            "udp,flows=old",
            "udp,flows=new,order=random",
            "udp,flows=new,skew=zipf:1",
            "udp,flows=600000,skew=zipf:1",
            "udp,flows=600000,order=loop",
            "udp,order=sorted",
            "udp,dsts=0",
            "udp,hops=3",
            "udp,dst=::1",
            "udp,skew=1",
            "tcp6,size=64",
        ] {
            assert!(wrong.parse::<Traffic>().is_err(), "{wrong}");
        }
    }
}
