//! Packets and captures for tests, byte by byte.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use nfv_core::packet::checksum::Sum;
use pcap_file::TsResolution;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};

/// The MAC address that a replay gives the port of that index.
pub const fn port_mac(index: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, index]
}

/// A UDP packet over IPv4 with right checksums: TTL 64, `payload` bytes that count up.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Source address and port.
    pub src: ([u8; 4], u16),
    /// Destination address and port.
    pub dst: ([u8; 4], u16),
    /// Time to live.
    pub ttl: u8,
    /// Bytes of payload.
    pub payload: usize,
}

impl Udp {
    /// From 10.1.0.2:1000 to another host.
    pub fn to(dst: [u8; 4], dport: u16) -> Self {
        Self { src: ([10, 1, 0, 2], 1000), dst: (dst, dport), ttl: 64, payload: 18 }
    }

    /// The frame, to the first port's MAC address.
    pub fn frame(self) -> Vec<u8> {
        let mut frame = port_mac(0).to_vec();
        frame.extend([2, 9, 9, 9, 9, 9, 8, 0]);
        let (total, length) = ((28 + self.payload) as u16, (8 + self.payload) as u16);
        let mut ip = vec![0x45, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0, 1, 0x40, 0, self.ttl, 17, 0, 0]);
        ip.extend(self.src.0);
        ip.extend(self.dst.0);
        let checksum = Sum::of(&ip).checksum();
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut udp = self.src.1.to_be_bytes().to_vec();
        udp.extend(self.dst.1.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend((0..self.payload).map(|i| i as u8));
        let ends = [self.src.0, self.dst.0].map(|a| IpAddr::V4(Ipv4Addr::from(a)));
        let pseudo = Sum::of_pseudo_header(ends[0], ends[1], 17, u32::from(length));
        let checksum = Sum::of(&udp).plus(pseudo).checksum();
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
        frame.extend(udp);
        frame
    }
}

/// A UDP packet over IPv6 from fd00:1::2 with 18 bytes of zeros; its UDP checksum is left at 0.
pub fn udp6(dst: &str, hop_limit: u8) -> Vec<u8> {
    let mut frame = port_mac(0).to_vec();
    frame.extend([2, 9, 9, 9, 9, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 17, hop_limit]);
    for address in ["fd00:1::2", dst] {
        frame.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    frame.extend([0x12, 0x34, 0, 9, 0, 26, 0, 0]);
    frame.extend([0; 18]);
    frame
}

/// Writes a capture; a frame and its time in nanoseconds each.
pub fn write_capture(path: &Path, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) {
    let header = PcapHeader { ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
    let file = std::fs::File::create(path).unwrap();
    let mut writer = PcapWriter::with_header(std::io::BufWriter::new(file), header).unwrap();
    for (time, frame) in frames {
        let packet = PcapPacket::new(Duration::from_nanos(time), frame.len() as u32, &frame);
        writer.write_packet(&packet).unwrap();
    }
}

/// The frames of a capture, with their times in nanoseconds.
pub fn read_capture(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut reader = PcapReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        frames.push((packet.timestamp.as_nanos() as u64, packet.data.into_owned()));
    }
    frames
}
