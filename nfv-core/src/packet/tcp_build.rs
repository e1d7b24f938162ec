//! The segments that a SYN proxy sends in place of either end, and the shift of numbers between the two connections.
//!
//! ```text
//! client                       proxy                             server
//!   | SYN ---------------------> |  keeps nothing                   |
//!   | <---- SYN-ACK, `syn_ack`   |                                  |
//!   | ACK ---------------------> |  `Opened`, and the cookie is right
//!   |                            |  SYN, `syn_to_server` ---------> |
//!   |                            | <---------------------- SYN-ACK  |
//!   |                            |  ACK, `ack_to_server` ---------> |  `Shift`
//!   | <---- `window_to_client`   |                                  |
//!   | data <-------------------- | <- `Shift` -> <------------ data |
//! ```
//!
//! The server chooses its own sequence numbers, so every packet afterwards is shifted by the difference to the cookie's.
//! Windows are not: the window scale that the client is told must be the server's own, and so must be whether there are
//! timestamps and SACK. The proxy is told them ([`Server`](super::syn_cookie::Server)) before any server has spoken.
//! Only MAC addresses that the packets had are used; a routed port sets its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::checksum::{Sum, updated};
use super::{Fragment, Headers, L3, protocol};

/// The options of a SYN or SYN-ACK (RFC 9293, section 3.2; RFC 2018, section 2; RFC 7323).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Most bytes of data in a segment.
    pub mss: Option<u16>,
    /// By how many bits windows are shifted: 14 at most.
    pub window_scale: Option<u8>,
    /// Whether selective acknowledgements may be sent.
    pub sack: bool,
    /// The sender's clock, and what it saw of the other's.
    pub timestamps: Option<(u32, u32)>,
}

impl SynOptions {
    /// Reads the bytes behind the fixed header.
    ///
    /// What comes behind an option that lies about its length is not read; one of the wrong length for its kind is as if
    /// absent; of two of a kind the later counts. Cost: a step for each option, 40 at most.
    pub fn read(options: &[u8]) -> Self {
        let mut found = Self::default();
        let mut at = 0;
        while let Some((kind, body)) = option_at(options, at) {
            at = body.end;
            match (kind, options.get(body).unwrap_or_default()) {
                (MSS, &[high, low]) => found.mss = Some(u16::from_be_bytes([high, low])),
                // RFC 7323, section 2.3: a larger one is taken as 14.
                (WINDOW_SCALE, &[bits]) => found.window_scale = Some(bits.min(WINDOW_SCALE_MAX)),
                (SACK_PERMITTED, []) => found.sack = true,
                (TIMESTAMPS, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
                    let value = u32::from_be_bytes([v0, v1, v2, v3]);
                    found.timestamps = Some((value, u32::from_be_bytes([e0, e1, e2, e3])));
                }
                _ => {}
            }
        }
        found
    }

    /// Writes them in words of four bytes, no-operations first, in Linux' order; returns how many bytes.
    pub fn write(&self, out: &mut [u8; SYN_OPTIONS_MAX]) -> usize {
        let words = [
            self.mss.map(|mss| {
                let [high, low] = mss.to_be_bytes();
                [MSS, 4, high, low]
            }),
            match (self.sack, self.timestamps.is_some()) {
                (true, true) => Some([SACK_PERMITTED, 2, TIMESTAMPS, 10]),
                (false, true) => Some([NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10]),
                (true, false) => Some([NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2]),
                (false, false) => None,
            },
            self.timestamps.map(|(value, _)| value.to_be_bytes()),
            self.timestamps.map(|(_, echo)| echo.to_be_bytes()),
            self.window_scale.map(|s| [NO_OPERATION, WINDOW_SCALE, 3, s.min(WINDOW_SCALE_MAX)]),
        ];
        let (places, _) = out.as_chunks_mut::<4>();
        let mut length = 0;
        for (place, word) in places.iter_mut().zip(words.into_iter().flatten()) {
            *place = word;
            length += word.len();
        }
        length
    }
}

/// Whether congestion is notified explicitly (RFC 3168, section 6.1.1): said by flags, not by an option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// It is not.
    #[default]
    No,
    /// It is offered, or accepted.
    Yes,
}

/// What a client's SYN says, or what is said in answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syn {
    /// The client's first sequence number.
    pub client_isn: u32,
    /// Options.
    pub options: SynOptions,
    /// ECN.
    pub ecn: Ecn,
}

impl Syn {
    /// Reads a SYN; `None`: the packet is none, or its options are cut off.
    pub fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        if headers.tcp_flags.0 & (SYN | ACK | RST | FIN) != SYN {
            return None;
        }
        let tcp = Fields::read(frame, headers)?;
        let offered = headers.tcp_flags.0 & (ECE | CWR) == ECE | CWR;
        Some(Self {
            client_isn: tcp.seq,
            options: SynOptions::read(tcp.options),
            ecn: if offered { Ecn::Yes } else { Ecn::No },
        })
    }
}

/// What the client's first ACK says. All that a proxy keeps of a connection until the server has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The client's first sequence number.
    pub client_isn: u32,
    /// Ours, which must be a cookie.
    pub server_isn: u32,
    /// The client's window, scaled as it said.
    pub window: u16,
    /// The client's clock, and what we said of ours.
    pub timestamps: Option<(u32, u32)>,
}

impl Opened {
    /// Reads an ACK; `None`: the packet is none, or its options are cut off. It may carry data.
    pub fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        if headers.tcp_flags.0 & (SYN | ACK | RST | FIN) != ACK {
            return None;
        }
        let tcp = Fields::read(frame, headers)?;
        Some(Self {
            client_isn: tcp.seq.wrapping_sub(1),
            server_isn: tcp.ack.wrapping_sub(1),
            window: tcp.window,
            timestamps: SynOptions::read(tcp.options).timestamps,
        })
    }
}

/// Most bytes of the options that [`SynOptions::write`] writes.
pub const SYN_OPTIONS_MAX: usize = 20;

/// Longest frame that is built here: IPv6 behind Ethernet with two tags, and all options.
pub const HANDSHAKE_MAX: usize = 22 + 40 + 20 + SYN_OPTIONS_MAX;

/// Builds the SYN-ACK to the sender of a SYN, `frame`, whose headers are `headers`.
///
/// `cookie`: our first sequence number. `answer`: what is said to the SYN. `window`: bytes that the client may send before
/// the server is there; with 0 it waits for [`window_to_client`].
/// Returns the frame's length in `out`, 60 at least; `None`: `frame` is not a SYN from one host to one host, or `out` is
/// too short, which it never is with [`HANDSHAKE_MAX`] bytes.
/// # Cost
/// 100 bytes written and summed: 33 ns (a shared AMD EPYC).
pub fn syn_ack(
    frame: &[u8],
    headers: &Headers,
    cookie: u32,
    answer: &Syn,
    window: u16,
    out: &mut [u8],
) -> Option<usize> {
    if headers.tcp_flags.0 & (SYN | ACK | RST | FIN) != SYN {
        return None;
    }
    let segment = Segment {
        way: Way::Back,
        seq: cookie,
        ack: answer.client_isn.wrapping_add(1),
        flags: SYN | ACK | if answer.ecn == Ecn::Yes { ECE } else { 0 },
        window,
        options: answer.options,
    };
    segment.build(frame, headers, out)
}

/// Builds the SYN to the server, in the client's name, from the client's ACK, `frame`.
///
/// `syn`: what the client offered, as [`Opened::syn`] remembers it. Data in `frame` is not sent along: the client
/// sends it again, unless the caller keeps the frame. Returns as [`syn_ack`].
pub fn syn_to_server(
    frame: &[u8],
    headers: &Headers,
    syn: &Syn,
    window: u16,
    out: &mut [u8],
) -> Option<usize> {
    if headers.tcp_flags.0 & (SYN | ACK | RST | FIN) != ACK {
        return None;
    }
    let segment = Segment {
        way: Way::Onward,
        seq: syn.client_isn,
        ack: 0,
        flags: SYN | if syn.ecn == Ecn::Yes { ECE | CWR } else { 0 },
        window,
        options: syn.options,
    };
    segment.build(frame, headers, out)
}

/// Builds the ACK to the server, in the client's name, from the server's SYN-ACK, `frame`.
///
/// Returns the frame's length in `out`, and the shift of all packets from now on; `None` also when `frame` is not the
/// answer to the SYN of `opened`. The same SYN-ACK again gives the same again.
pub fn ack_to_server(
    frame: &[u8],
    headers: &Headers,
    opened: &Opened,
    out: &mut [u8],
) -> Option<(usize, Shift)> {
    let tcp = answer_to(opened, frame, headers)?;
    let theirs = SynOptions::read(tcp.options).timestamps;
    let timestamps = opened.timestamps.zip(theirs).map(|((client, _), (value, _))| (client, value));
    let segment = Segment {
        way: Way::Back,
        seq: tcp.ack,
        ack: tcp.seq.wrapping_add(1),
        flags: ACK,
        window: opened.window,
        options: SynOptions { timestamps, ..SynOptions::default() },
    };
    Some((segment.build(frame, headers, out)?, Shift::new(opened, &tcp)))
}

/// Builds the ACK that tells the client of the server's window, from the server's SYN-ACK, `frame`.
///
/// `window_scale`: the one that the client was told. Returns as [`ack_to_server`].
pub fn window_to_client(
    frame: &[u8],
    headers: &Headers,
    opened: &Opened,
    window_scale: u8,
    out: &mut [u8],
) -> Option<usize> {
    let tcp = answer_to(opened, frame, headers)?;
    // A client that was promised timestamps drops a segment without them (RFC 7323, section 3.2). The server's clock as
    // the client sees it starts where ours stood.
    let timestamps = opened.timestamps.map(|(client, ours)| (ours, client));
    let segment = Segment {
        way: Way::Onward,
        seq: opened.server_isn.wrapping_add(1),
        ack: tcp.ack,
        flags: ACK,
        // A SYN-ACK's own window is never scaled, this one's is.
        window: tcp.window >> window_scale.min(WINDOW_SCALE_MAX),
        options: SynOptions { timestamps, ..SynOptions::default() },
    };
    segment.build(frame, headers, out)
}

/// The options of a server's SYN-ACK; `None`: the packet is none.
pub fn syn_ack_options(frame: &[u8], headers: &Headers) -> Option<SynOptions> {
    let tcp = Fields::read(frame, headers)?;
    let flags = headers.tcp_flags.0 & (SYN | ACK | RST | FIN);
    (flags == SYN | ACK).then(|| SynOptions::read(tcp.options))
}

/// How far the client's view of the server's numbers is from the server's.
///
/// Translates every packet after the handshake. What it does not reach: the numbers in packets that ICMP errors quote,
/// and segments signed by TCP-AO or TCP-MD5, which no proxy may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Of sequence numbers.
    pub seq: u32,
    /// Of timestamps.
    pub timestamp: u32,
}

impl Shift {
    fn new(opened: &Opened, syn_ack: &Fields<'_>) -> Self {
        let timestamp = match (opened.timestamps, SynOptions::read(syn_ack.options).timestamps) {
            (Some((_, ours)), Some((theirs, _))) => ours.wrapping_sub(theirs),
            _ => 0,
        };
        Self { seq: opened.server_isn.wrapping_sub(syn_ack.seq), timestamp }
    }

    /// Translates a segment from the server; `tcp` starts with its TCP header. `None`: it has none, and is as it was.
    ///
    /// Cost: a step for each option; 18 ns with timestamps (a shared AMD EPYC).
    pub fn to_client(self, tcp: &mut [u8]) -> Option<()> {
        shift_seq(tcp, self.seq)?;
        shift_timestamp(tcp, 0, self.timestamp)
    }

    /// Translates a segment from the client, as [`to_client`](Self::to_client) does the other way.
    pub fn to_server(self, tcp: &mut [u8]) -> Option<()> {
        shift_ack(tcp, self.seq)?;
        shift_timestamp(tcp, 4, self.timestamp.wrapping_neg())
    }
}

/// Adds `delta` to the sequence number of a segment from the server; `tcp` starts with its TCP header, whose checksum
/// follows (RFC 1624). `None`: it has none, and is as it was.
pub fn shift_seq(tcp: &mut [u8], delta: u32) -> Option<()> {
    header_length(tcp)?;
    add(tcp, SEQ, delta)
}

/// Subtracts the same `delta` from what a segment from the client acknowledges, the edges of SACK blocks included.
///
/// `None`: there is no whole TCP header, and the bytes are as they were. Without the ACK flag there is nothing to do.
pub fn shift_ack(tcp: &mut [u8], delta: u32) -> Option<()> {
    let end = header_length(tcp)?;
    if tcp.get(FLAGS)? & ACK == 0 {
        return Some(());
    }
    let delta = delta.wrapping_neg();
    add(tcp, ACKNOWLEDGED, delta)?;
    let mut at = FIXED;
    while let Some((kind, body)) = option_at(tcp.get(..end)?, at) {
        at = body.end;
        // RFC 2018, section 3: whole blocks of two edges; others mean nothing to a receiver.
        if kind == SACK && body.len().is_multiple_of(8) {
            for edge in body.step_by(4) {
                add(tcp, edge, delta)?;
            }
        }
    }
    Some(())
}

/// Adds `delta` to the half of the timestamps option that starts `half` bytes behind its head.
fn shift_timestamp(tcp: &mut [u8], half: usize, delta: u32) -> Option<()> {
    let end = header_length(tcp)?;
    // Only with the ACK flag does the echo mean anything (RFC 7323, section 3.2).
    if delta == 0 || (half != 0 && tcp.get(FLAGS)? & ACK == 0) {
        return Some(());
    }
    let mut at = FIXED;
    while let Some((kind, body)) = option_at(tcp.get(..end)?, at) {
        at = body.end;
        if kind == TIMESTAMPS && body.len() == 8 {
            add(tcp, body.start + half, delta)?;
        }
    }
    Some(())
}

/// Adds to the four bytes at `at`, which the checksum follows.
fn add(tcp: &mut [u8], at: usize, delta: u32) -> Option<()> {
    let field = tcp.get_mut(at..)?.first_chunk_mut::<4>()?;
    let old = *field;
    *field = u32::from_be_bytes(old).wrapping_add(delta).to_be_bytes();
    let new = *field;
    let checksum = tcp.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()?;
    // Options lie anywhere: at an odd place each byte counts in the other half of its word.
    let word = if at.is_multiple_of(2) { u16::from_be_bytes } else { u16::from_le_bytes };
    let ([a, b, c, d], [e, f, g, h]) = (old, new);
    let first = updated(u16::from_be_bytes(*checksum), word([a, b]), word([e, f]));
    *checksum = updated(first, word([c, d]), word([g, h])).to_be_bytes();
    Some(())
}

/// The length of the TCP header, all of which is there.
fn header_length(tcp: &[u8]) -> Option<usize> {
    let length = usize::from(tcp.get(OFFSET)? >> 4) * 4;
    (length >= FIXED && length <= tcp.len()).then_some(length)
}

/// The next option from `at` on: its kind, and where what it holds lies. `None`: the list ends, or lies.
fn option_at(options: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let skipped = options.get(at..)?.iter().take_while(|kind| **kind == NO_OPERATION).count();
    let at = at + skipped;
    let (kind, length) = (*options.get(at)?, usize::from(*options.get(at + 1)?));
    let whole = length >= 2 && at + length <= options.len();
    (kind != END && whole).then_some((kind, at + 2..at + length))
}

/// The server's SYN-ACK to the SYN of `opened`.
fn answer_to<'a>(opened: &Opened, frame: &'a [u8], headers: &Headers) -> Option<Fields<'a>> {
    let tcp = Fields::read(frame, headers)?;
    let flags = headers.tcp_flags.0 & (SYN | ACK | RST | FIN);
    (flags == SYN | ACK && tcp.ack == opened.client_isn.wrapping_add(1)).then_some(tcp)
}

/// What a handshake's segment says behind its ports.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) seq: u32,
    pub(super) ack: u32,
    window: u16,
    options: &'a [u8],
    /// With its options.
    pub(super) header_length: u16,
}

impl<'a> Fields<'a> {
    pub(super) fn read(frame: &'a [u8], headers: &Headers) -> Option<Self> {
        if headers.protocol != protocol::TCP || headers.fragment != Fragment::Whole {
            return None;
        }
        let end = usize::from(headers.l3_end).min(frame.len());
        let tcp = frame.get(usize::from(headers.l4)..end)?;
        let header_length = header_length(tcp)?;
        let options = tcp.get(FIXED..header_length)?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, _, w0, w1, ..] =
            *tcp.first_chunk::<20>()?;
        Some(Self {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            window: u16::from_be_bytes([w0, w1]),
            options,
            header_length: u16::try_from(header_length).ok()?,
        })
    }
}

/// Where a segment goes, seen from the packet that it is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To its sender.
    Back,
    /// To its destination.
    Onward,
}

/// A segment without data.
#[derive(Debug)]
pub(super) struct Segment {
    pub way: Way,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: SynOptions,
}

impl Segment {
    /// The whole frame, in `out`: its length. From one host to one other only, or an answer would multiply.
    pub(super) fn build(&self, frame: &[u8], headers: &Headers, out: &mut [u8]) -> Option<usize> {
        if headers.protocol != protocol::TCP || headers.fragment != Fragment::Whole {
            return None;
        }
        let link = frame.get(..usize::from(headers.l3))?;
        let (to, from) = (link.first_chunk::<6>()?, link.get(6..)?.first_chunk::<6>()?);
        let (src, dst) = addresses(headers)?;
        if is_group(to) || is_group(from) || !is_one_host(src) || !is_one_host(dst) {
            return None;
        }
        let mut options = [0; SYN_OPTIONS_MAX];
        let length = FIXED + self.options.write(&mut options);
        let l4 = link.len() + if headers.kind == L3::Ipv4 { 20 } else { 40 };
        let out = out.get_mut(..(l4 + length).max(FRAME_MIN))?;
        // Behind a short segment is Ethernet's padding, which must not be a former packet's bytes.
        out.fill(0);
        put(out, 0, link)?;
        let (src, dst, sport, dport) = match self.way {
            Way::Onward => (src, dst, headers.sport, headers.dport),
            Way::Back => {
                put(out, 0, from)?;
                put(out, 6, to)?;
                (dst, src, headers.dport, headers.sport)
            }
        };
        ip(out.get_mut(link.len()..l4)?, src, dst, u16::try_from(length).ok()?)?;
        let tcp = out.get_mut(l4..l4 + length)?;
        put(tcp, 0, &sport.to_be_bytes())?;
        put(tcp, 2, &dport.to_be_bytes())?;
        put(tcp, SEQ, &self.seq.to_be_bytes())?;
        put(tcp, ACKNOWLEDGED, &self.ack.to_be_bytes())?;
        put(tcp, OFFSET, &[u8::try_from(length / 4).ok()? << 4, self.flags])?;
        put(tcp, WINDOW, &self.window.to_be_bytes())?;
        put(tcp, FIXED, options.get(..length - FIXED)?)?;
        let covered = u32::try_from(length).ok()?;
        let pseudo = Sum::of_pseudo_header(src, dst, protocol::TCP, covered);
        let checksum = Sum::of(tcp).plus(pseudo).checksum();
        put(tcp, CHECKSUM, &checksum.to_be_bytes())?;
        Some(out.len())
    }
}

/// Writes an IP header, of 20 bytes or of 40, before a segment of `length` bytes.
fn ip(header: &mut [u8], src: IpAddr, dst: IpAddr, length: u16) -> Option<()> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [high, low] = (length + 20).to_be_bytes();
            // Not to be fragmented, so that its identification may be 0 (RFC 6864, section 4.1).
            put(header, 0, &[0x45, 0, high, low, 0, 0, 0x40, 0, TTL, protocol::TCP])?;
            put(header, 12, &src.octets())?;
            put(header, 16, &dst.octets())?;
            let checksum = Sum::of(header).checksum();
            put(header, 10, &checksum.to_be_bytes())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [high, low] = length.to_be_bytes();
            put(header, 0, &[0x60, 0, 0, 0, high, low, protocol::TCP, TTL])?;
            put(header, 8, &src.octets())?;
            put(header, 24, &dst.octets())
        }
        _ => None,
    }
}

fn addresses(headers: &Headers) -> Option<(IpAddr, IpAddr)> {
    let (src, dst) = (headers.src, headers.dst);
    match headers.kind {
        L3::Ipv4 => Some((Ipv4Addr::from(src.v4()).into(), Ipv4Addr::from(dst.v4()).into())),
        L3::Ipv6 => Some((Ipv6Addr::from(src.v6()).into(), Ipv6Addr::from(dst.v6()).into())),
        L3::Arp | L3::Other => None,
    }
}

fn is_one_host(address: IpAddr) -> bool {
    let several = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(several || address.is_unspecified() || address.is_loopback())
}

fn is_group(mac: &[u8; 6]) -> bool {
    mac.first().is_some_and(|first| first & 1 == 1)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    out.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

// Places in a TCP header.
const SEQ: usize = 4;
const ACKNOWLEDGED: usize = 8;
const OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const FIXED: usize = 20;

// Flags.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

// Kinds of options (IANA).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// RFC 7323, section 2.3.
const WINDOW_SCALE_MAX: u8 = 14;
const TTL: u8 = 64;
/// IEEE 802.3 without the frame check sequence.
const FRAME_MIN: usize = 60;

#[cfg(test)]
mod tests;
