//! Frames for classes: what parts of a header rules look at, and nothing else.

use nfv_core::packet::{Headers, L3};

/// A frame, and a number for what a test wants to be by chance.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub noise: u32,
}

/// What is in a frame.
#[derive(Clone, Debug)]
pub struct Parts {
    pub vlan: Option<u16>,
    pub ends: Ends,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    pub flags: u8,
    pub icmp: u8,
    pub cut: Cut,
    pub noise: u32,
}

#[derive(Clone, Debug)]
pub enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
    Arp,
}

/// Whether it is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    First,
    Later,
}

impl Parts {
    /// The frame; `number` stands in its payload.
    pub fn frame(&self, number: u32) -> Frame {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if let Some(vlan) = self.vlan {
            bytes.extend([0x81, 0]);
            bytes.extend(vlan.to_be_bytes());
        }
        let payload = [self.upper(), number.to_be_bytes().to_vec(), vec![0; 20]].concat();
        match self.ends {
            Ends::Arp => {
                bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
                bytes.extend([0; 20]);
                bytes.extend(number.to_be_bytes());
            }
            Ends::V4(src, dst) => {
                let cut: u16 = match self.cut {
                    Cut::Whole => 0,
                    Cut::First => 0x2000,
                    Cut::Later => 0x2000 | 5,
                };
                bytes.extend([8, 0, 0x45, 0]);
                bytes.extend((20 + payload.len() as u16).to_be_bytes());
                bytes.extend((number as u16).to_be_bytes());
                bytes.extend(cut.to_be_bytes());
                bytes.extend([64, self.protocol, 0, 0]);
                bytes.extend(src);
                bytes.extend(dst);
                bytes.extend(payload);
            }
            Ends::V6(src, dst) => {
                let extension = match self.cut {
                    Cut::Whole => Vec::new(),
                    Cut::First => [[self.protocol, 0, 0, 1], number.to_be_bytes()].concat(),
                    Cut::Later => [[self.protocol, 0, 0, 41], number.to_be_bytes()].concat(),
                };
                let next = if self.cut == Cut::Whole { self.protocol } else { 44 };
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                bytes.extend(((payload.len() + extension.len()) as u16).to_be_bytes());
                bytes.extend([next, 255]);
                bytes.extend(src);
                bytes.extend(dst);
                bytes.extend(extension);
                bytes.extend(payload);
            }
        }
        Frame { bytes, noise: self.noise }
    }

    fn upper(&self) -> Vec<u8> {
        let ports = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        match self.protocol {
            _ if self.cut == Cut::Later => Vec::new(),
            6 => [&ports[..], &[0; 8], &[0x50, self.flags, 0, 0, 0, 0, 0, 0]].concat(),
            17 => [&ports[..], &[0, 32, 0, 0]].concat(),
            1 | 58 => vec![self.icmp, 0, 0, 0, 0, 9],
            132 => [&ports[..], &[0; 8]].concat(),
            _ => Vec::new(),
        }
    }
}

/// A TCP segment.
pub fn tcp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, flags: u8, number: u32) -> Frame {
    let (vlan, ends) = (None, Ends::V4(src, dst));
    let parts =
        Parts { vlan, ends, protocol: 6, sport, dport, flags, icmp: 0, cut: Cut::Whole, noise: 0 };
    parts.frame(number)
}

/// What the packets of a flow have in common, in one direction: those of one are to stay in order.
pub fn flow(h: &Headers) -> Vec<u8> {
    let kind = match h.kind {
        L3::Ipv4 => 4,
        L3::Ipv6 => 6,
        L3::Arp | L3::Other => return Vec::new(),
    };
    let ports = [h.sport.to_be_bytes(), h.dport.to_be_bytes(), h.vlan.to_be_bytes()].concat();
    let cut = u8::from(h.fragment == nfv_core::packet::Fragment::Later);
    [&h.src.0[..], &h.dst.0, &ports, &[kind, h.protocol, h.icmp_type, cut]].concat()
}
