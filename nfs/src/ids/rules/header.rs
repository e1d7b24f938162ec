//! The header of a rule: action, protocol, ends and direction, up to its `(`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::address::{self, Addresses};
use super::draft::Shared;
use super::mistake::{Read, broken, unsupported};
use super::rule::{Action, Direction, Header, Protocol, RejectTo};
use super::variables::Variables;
use crate::ids::buffer::App;

/// A header, and where the options are that follow it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub action: Action,
    pub header: Header,
}

/// Where a rule's words and its options are.
#[derive(Debug)]
pub(super) struct Cut<'r> {
    /// Of a complete header seven.
    words: Vec<(&'r str, usize)>,
    /// Between the brackets.
    pub options: Range<usize>,
}

/// Cuts a rule into its header's words and its options.
pub(super) fn cut(text: &[u8]) -> Read<Cut<'_>> {
    let trimmed = text.trim_ascii_end();
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        let rest = trimmed.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_ascii_start().len();
        let rest = rest.trim_ascii_start();
        match rest.first() {
            None => return broken(at, "the rule has no options: `(...)` behind its header"),
            Some(b'(') => break,
            Some(_) => {}
        }
        // White space within brackets does not end a word.
        let mut depth = 0_usize;
        let length = rest.iter().position(|byte| {
            match byte {
                b'[' => depth += 1,
                b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && (byte.is_ascii_whitespace() || *byte == b'(')
        });
        let length = length.unwrap_or(rest.len());
        match std::str::from_utf8(rest.get(..length).unwrap_or_default()) {
            Ok(word) => words.push((word, at)),
            Err(_) => return broken(at, "the header is no UTF-8"),
        }
        if words.len() > WORDS {
            return broken(at, "the header has more than ACTION PROTOCOL SRC PORT -> DST PORT");
        }
        at += length;
    }
    // Brackets more or less than one are forgiven, as Suricata does; an option without its end is not.
    let bracket = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'(' | b')');
    let rest = trimmed.get(at..).unwrap_or_default();
    let start = at + rest.iter().take_while(|b| bracket(b)).count();
    let end = trimmed.len() - rest.iter().rev().take_while(|b| bracket(b)).count();
    if start >= end {
        return broken(at, "the rule has no options in its brackets");
    }
    Ok(Cut { words, options: start..end })
}

/// Reads a header from its words.
pub(super) fn read(cut: &Cut<'_>, variables: &Variables, shared: &mut Shared) -> Read<Parsed> {
    let [action, protocol, src, sport, direction, dst, dport] = *cut.words else {
        let at = cut.words.last().map_or(0, |(word, at)| at + word.len());
        return broken(at, "the header is ACTION PROTOCOL SRC PORT -> DST PORT");
    };
    let action = read_action(action)?;
    let direction = match direction {
        ("->", _) => Direction::OneWay,
        ("<>", _) => Direction::Either,
        ("=>", at) => return unsupported(at, "=>"),
        (word, at) => return broken(at, format!("`{word}` is neither `->` nor `<>`")),
    };
    let protocol = read_protocol(protocol)?;
    let mut addresses = |(text, at): (&str, usize)| {
        once(&mut shared.addresses, text, || Addresses::read(text, at, variables))
    };
    let (src, dst) = (addresses(src)?, addresses(dst)?);
    let mut ports = |(text, at): (&str, usize)| {
        once(&mut shared.ports, text, || address::ports(text, at, variables))
    };
    let (sport, dport) = (ports(sport)?, ports(dport)?);
    // The same both ways: Suricata makes one rule of it.
    let direction = if src == dst && sport == dport { Direction::OneWay } else { direction };
    Ok(Parsed { action, header: Header { protocol, src, sport, dst, dport, direction } })
}

fn once<T>(
    known: &mut HashMap<Box<str>, Arc<T>>,
    text: &str,
    read: impl FnOnce() -> Read<T>,
) -> Read<Arc<T>> {
    if let Some(known) = known.get(text) {
        return Ok(Arc::clone(known));
    }
    let value = Arc::new(read()?);
    known.insert(text.into(), Arc::clone(&value));
    Ok(value)
}

fn read_action((word, at): (&str, usize)) -> Read<Action> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "alert" => Action::Alert,
        "pass" => Action::Pass,
        "drop" => Action::Drop,
        "reject" | "rejectsrc" => Action::Reject(RejectTo::Src),
        "rejectdst" => Action::Reject(RejectTo::Dst),
        "rejectboth" => Action::Reject(RejectTo::Both),
        "config" | "accept" => return unsupported(at, word),
        _ => return broken(at, format!("`{word}` is no action: alert, pass, drop, reject")),
    })
}

fn read_protocol((word, at): (&str, usize)) -> Read<Protocol> {
    let lower = word.to_ascii_lowercase();
    Ok(match lower.as_str() {
        // What events of packets are asked with; packets of no IP are among them.
        "ip" | "pkthdr" => Protocol::Ip,
        "ipv4" | "ip4" => Protocol::Ipv4,
        "ipv6" | "ip6" => Protocol::Ipv6,
        "tcp" => Protocol::Tcp,
        "tcp-pkt" => Protocol::TcpPacket,
        "tcp-stream" => Protocol::TcpStream,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        "icmpv4" => Protocol::Icmpv4,
        "icmpv6" => Protocol::Icmpv6,
        other => match App::of(other) {
            Some(app) => Protocol::App(app),
            None if OTHERS.contains(&other) => return unsupported(at, word),
            None => return broken(at, format!("`{word}` is no protocol")),
        },
    })
}

/// Words of a header.
const WORDS: usize = 7;

/// Protocols that Suricata or Snort know, and this IDS does not.
const OTHERS: &[&str] = &[
    "bittorrent-dht",
    "dcerpc",
    "dhcp",
    "dnp3",
    "doh2",
    "enip",
    "ether",
    "ftp",
    "ftp-data",
    "http2",
    "ike",
    "imap",
    "krb5",
    "ldap",
    "llmnr",
    "mdns",
    "modbus",
    "mqtt",
    "nfs",
    "ntp",
    "pgsql",
    "pop3",
    "quic",
    "rdp",
    "rfb",
    "sctp",
    "sip",
    "smb",
    "smtp",
    "snmp",
    "telnet",
    "tftp",
    "websocket",
    "arp",
];
