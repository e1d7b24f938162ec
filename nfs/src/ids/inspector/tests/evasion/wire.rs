//! Segments of two hosts, byte by byte.

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};

use super::super::{Site, Who};

/// Which version of IP two hosts speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

/// A connection between two hosts whose segments have timestamps.
pub struct Wire {
    version: Version,
    port: u16,
    /// Numbers of the next bytes of the client and of the server.
    pub next: [u32; 2],
    /// Of both hosts.
    pub clock: u32,
}

/// Where a segment says that it lies, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Said<'s> {
    pub seq: u32,
    pub ack: u32,
    pub stamp: u32,
    /// s, a, p, f, r.
    pub flags: &'s str,
    pub payload: &'s [u8],
}

impl Wire {
    /// After a handshake, which `site` saw; the client's numbers go round soon.
    pub fn open(site: &mut Site, version: Version, port: u16) -> Self {
        let mut wire = Self { version, port, next: [u32::MAX - 100, 5000], clock: 1 << 20 };
        for (who, flags) in [(Who::Client, "s"), (Who::Server, "sa"), (Who::Client, "a")] {
            let _ = site.sees(&wire.frame(who, &Said { flags, ..wire.says(who, 0, b"") }));
            if flags != "a" {
                wire.sent(who, 1);
            }
        }
        wire
    }

    /// A part of what a host says, so many bytes behind the next one.
    pub fn says<'s>(&self, who: Who, behind: usize, payload: &'s [u8]) -> Said<'s> {
        let [client, server] = self.next;
        let (seq, ack) = if who == Who::Client { (client, server) } else { (server, client) };
        let seq = seq.wrapping_add(behind as u32);
        Said { seq, ack, stamp: self.clock, flags: "ap", payload }
    }

    pub fn sent(&mut self, who: Who, length: usize) {
        let next = &mut self.next[who as usize];
        *next = next.wrapping_add(length as u32);
    }

    pub fn frame(&self, who: Who, said: &Said<'_>) -> Vec<u8> {
        let (sport, dport) = match who {
            Who::Client => (40_000, self.port),
            Who::Server => (self.port, 40_000),
        };
        let has = |flag| said.flags.contains(flag);
        let mut header = TcpHeader::new(sport, dport, said.seq, 64_000);
        header.syn = has('s');
        header.ack = has('a');
        header.psh = has('p');
        header.fin = has('f');
        header.rst = has('r');
        header.acknowledgment_number = if header.ack { said.ack } else { 0 };
        let pad = TcpOptionElement::Noop;
        let stamp = TcpOptionElement::Timestamp(said.stamp, self.clock);
        header.set_options(&[pad.clone(), pad, stamp]).expect("room for options");
        let last = |who| if who == Who::Client { 1 } else { 2 };
        let other = if who == Who::Client { Who::Server } else { Who::Client };
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut frame = Vec::new();
        let written = match self.version {
            Version::V4 => {
                let host = |who| [10, 0, 0, last(who)];
                let builder = link.ipv4(host(who), host(other), 64).tcp_header(header);
                builder.write(&mut frame, said.payload)
            }
            Version::V6 => {
                let host = |who| {
                    let mut address = [0; 16];
                    (address[0], address[15]) = (0xfd, last(who));
                    address
                };
                let builder = link.ipv6(host(who), host(other), 64).tcp_header(header);
                builder.write(&mut frame, said.payload)
            }
        };
        written.expect("a frame");
        frame
    }
}
