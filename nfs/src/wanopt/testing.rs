//! Datagrams for tests.

use std::net::IpAddr;

use nfv_core::packet::checksum::Sum;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    Tcp,
    Udp,
}

/// A datagram as a host sends it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'p> {
    pub family: Family,
    pub upper: Upper,
    pub flow: u16,
    pub sequence: u32,
    pub payload: &'p [u8],
}

impl<'p> Datagram<'p> {
    pub fn new(flow: u16, payload: &'p [u8]) -> Self {
        Self { family: Family::V4, upper: Upper::Tcp, flow, sequence: 0, payload }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut upper = Vec::new();
        upper.extend(self.flow.to_be_bytes());
        upper.extend(80u16.to_be_bytes());
        let (protocol, sum_at) = match self.upper {
            Upper::Tcp => {
                upper.extend(self.sequence.to_be_bytes());
                upper.extend(77u32.to_be_bytes());
                // With the timestamp option, as Linux sends it.
                upper.extend([0x80, 0x10, 1, 2, 0, 0, 0, 0, 1, 1, 8, 10]);
                upper.extend((self.sequence / 1448).to_be_bytes());
                upper.extend(9u32.to_be_bytes());
                (6, 16)
            }
            Upper::Udp => {
                upper.extend((8 + self.payload.len() as u16).to_be_bytes());
                upper.extend([0, 0]);
                (17, 6)
            }
        };
        upper.extend_from_slice(self.payload);
        let (src, dst): (IpAddr, IpAddr) = match self.family {
            Family::V4 => ([10, 1, 0, 2].into(), [10, 2, 0, 2].into()),
            Family::V6 => ([1u16; 8].into(), [2u16; 8].into()),
        };
        let pseudo = Sum::of_pseudo_header(src, dst, protocol, upper.len() as u32);
        let sum = pseudo.plus(Sum::of(&upper)).checksum();
        let sum = if self.upper == Upper::Udp && sum == 0 { 0xffff } else { sum };
        upper[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut all = Vec::new();
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                all.extend([0x45, 0]);
                all.extend((20 + upper.len() as u16).to_be_bytes());
                all.extend(((self.sequence / 1448) as u16).to_be_bytes());
                all.extend([0x40, 0, 64, protocol, 0, 0]);
                all.extend(src.octets());
                all.extend(dst.octets());
                let sum = Sum::of(&all).checksum();
                all[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                all.extend([0x60, 0, 0, 0]);
                all.extend((upper.len() as u16).to_be_bytes());
                all.extend([protocol, 64]);
                all.extend(src.octets());
                all.extend(dst.octets());
            }
            _ => unreachable!("both are of one family"),
        }
        all.extend(upper);
        all
    }
}
