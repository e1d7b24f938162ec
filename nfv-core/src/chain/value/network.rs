//! What a rule or a port says about the network: prefixes, ports, protocols, flags, addresses.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Scalar, ValueError};
use crate::chain::report::did_you_mean;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Scalar for IpAddr {
    fn parse(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| {
            let hint = if text.contains('/') { "without a prefix length: `10.0.0.1`" } else { "" };
            ValueError::not(text, "an IPv4 or IPv6 address", hint)
        })
    }
}

impl Scalar for IpNet {
    /// An address of this box with the length of its network's prefix: `10.0.0.1/24`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let what = "an address with a prefix length";
        text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => ValueError::new(
                format!("`{address}` has no prefix length"),
                format!("such as `{address}/24`"),
            ),
            Ok(IpAddr::V6(address)) => ValueError::new(
                format!("`{address}` has no prefix length"),
                format!("such as `{address}/64`"),
            ),
            Err(_) => ValueError::not(text, what, "such as `10.0.0.1/24` or `2001:db8::1/64`"),
        })
    }
}

/// A network: an IPv4 or IPv6 prefix without bits behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix, its host bits zero.
    pub const fn net(self) -> IpNet {
        self.0
    }

    /// That of a network, its host bits taken away.
    pub fn of(net: IpNet) -> Self {
        Self(net.trunc())
    }

    /// Its family.
    pub const fn family(self) -> IpFamily {
        match self.0 {
            IpNet::V4(_) => IpFamily::V4,
            IpNet::V6(_) => IpFamily::V6,
        }
    }

    /// Of the first `length` bits of `bits`, where IPv4 has the first 32; the others are zero.
    pub(crate) fn of_bits(bits: u128, length: u8, is_ipv6: bool) -> Option<Self> {
        let address = match is_ipv6 {
            true => IpAddr::from(bits.to_be_bytes()),
            false => IpAddr::from(((bits >> 96) as u32).to_be_bytes()),
        };
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }
}

impl Scalar for Prefix {
    /// `10.0.0.0/8`, `2001:db8::/32`; an address alone is a prefix of one address.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) if net == net.trunc() => Ok(Self(net)),
            Ok(net) => {
                let message = format!("`{net}` has bits set behind its prefix length");
                let (prefix, address) = (net.trunc(), net.addr());
                Err(ValueError::new(
                    message,
                    format!("the network is `{prefix}`; the address alone is `{address}`"),
                ))
            }
            Err(_) => {
                let hint = "such as `10.0.0.0/8`, `2001:db8::/32` or one address";
                Err(ValueError::not(text, "an IPv4 or IPv6 prefix", hint))
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// IPv4 addresses from a first to a last one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl AddressRange {
    /// The first address.
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last address.
    pub const fn last(self) -> Ipv4Addr {
        self.last
    }

    /// How many there are.
    pub fn len(self) -> u64 {
        u64::from(self.last.to_bits() - self.first.to_bits()) + 1
    }

    /// Never: there is a first one.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether both have an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// All of them.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl Scalar for AddressRange {
    /// `203.0.113.10`, `203.0.113.10-203.0.113.13`, `203.0.113.0/28`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let hint = "such as `203.0.113.10`, `203.0.113.10-203.0.113.13` or `203.0.113.0/28`";
        let wrong = || ValueError::not(text, "an IPv4 address or a range of them", hint);
        if text.contains('/') {
            let net = match Prefix::parse(text)?.net() {
                IpNet::V4(net) => net,
                IpNet::V6(_) => return Err(wrong()),
            };
            return Ok(Self { first: net.network(), last: net.broadcast() });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| wrong());
        let (first, last) = (address(first)?, address(last)?);
        if first > last {
            let hint = format!("write `{last}-{first}`");
            return Err(ValueError::new(format!("the range `{text}` ends before it starts"), hint));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Transport ports from a first to a last one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The range from `first` to `last`, both included; `None` when they are the wrong way round.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The first port, included.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port, included; not below the first.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Scalar for PortRange {
    /// `80`, `1024-2047`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = |hint: &str| ValueError::not(text, "a port or a range of ports", hint);
        let number = |text: &str| {
            if !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong("such as `443` or `1024-2047`"));
            }
            text.parse::<u16>().map_err(|_| wrong("ports go from 0 to 65535"))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first.trim_end())?, number(last.trim_start())?);
        Self::new(first, last)
            .ok_or_else(|| wrong(&format!("the lower one first: `{last}-{first}`")))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The MAC address of one station: not a group's, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The six bytes in the order of the wire.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl Scalar for MacAddress {
    /// `02:00:00:00:00:01`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::not(text, "a MAC address", "such as `02:00:00:00:00:01`");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            let hex = part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex).ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes == [0; 6] || bytes.first().is_some_and(|first| first & 1 == 1) {
            let hint = "the lowest bit of the first byte is 0 in a station's address";
            return Err(ValueError::not(text, "the MAC address of one station", hint));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The id of a VLAN: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vlan(u16);

impl Vlan {
    /// The id.
    pub const fn id(self) -> u16 {
        self.0
    }
}

impl Scalar for Vlan {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let id = u64::parse(text).ok().and_then(|id| u16::try_from(id).ok());
        id.filter(|id| (1..=4094).contains(id))
            .map(Self)
            .ok_or_else(|| ValueError::not(text, "a VLAN id", "1 to 4094"))
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A protocol over IP: its number in the IPv4 header, or after the IPv6 extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// DCCP.
    pub const DCCP: Self = Self(33);
    /// ICMP for IPv6.
    pub const ICMP6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDP_LITE: Self = Self(136);

    /// The number that IANA gave it.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether its header starts with a source and a destination port.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDP_LITE)
    }
}

/// The protocols with a name in chain files.
pub(crate) const PROTOCOL_NAMES: &[(&str, Protocol)] = &[
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("icmp", Protocol::ICMP),
    ("icmp6", Protocol::ICMP6),
    ("sctp", Protocol::SCTP),
];

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOL_NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// One protocol, or `any`: what a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolMatch {
    /// Every packet, also one that is not IP.
    Any,
    /// One protocol over IP.
    One(Protocol),
}

impl Scalar for ProtocolMatch {
    /// `tcp`, `udp`, `icmp`, `icmp6`, `sctp`, a number from 0 to 255, or `any`.
    fn parse(text: &str) -> Result<Self, ValueError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let named = PROTOCOL_NAMES.iter().find(|(name, _)| *name == text);
        let number = || u8::try_from(u64::parse(text).ok()?).ok();
        let found = named.map(|(_, protocol)| *protocol).or_else(|| number().map(Protocol));
        found.map(Self::One).ok_or_else(|| {
            let names = || PROTOCOL_NAMES.iter().map(|(name, _)| *name).chain(["any"]);
            let hint = format!(
                "{} one of {}, or a number from 0 to 255",
                did_you_mean(text, names()),
                names().collect::<Vec<_>>().join(" ")
            );
            ValueError::not(text, "a protocol", hint.trim_start())
        })
    }
}

impl fmt::Display for ProtocolMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::One(protocol) => protocol.fmt(f),
        }
    }
}

/// Flags of TCP that must be set, and flags that must not: `syn,!ack`.
///
/// The bits are those of the flags byte of the TCP header; the two sets have none in common, and
/// at least one of them is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlagsMatch {
    set: u8,
    clear: u8,
}

impl TcpFlagsMatch {
    /// The flags that must be set.
    pub const fn set(self) -> u8 {
        self.set
    }

    /// The flags that must not be set.
    pub const fn clear(self) -> u8 {
        self.clear
    }
}

/// From the lowest bit of the flags byte (RFC 9293 section 3.1).
const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

impl Scalar for TcpFlagsMatch {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (mut set, mut clear) = (0, 0);
        for term in text.split(',').map(str::trim) {
            let (flags, name) = match term.strip_prefix('!') {
                Some(name) => (&mut clear, name.trim_start()),
                None => (&mut set, term),
            };
            let Some(bit) = TCP_FLAGS.iter().position(|flag| *flag == name) else {
                let hint = format!("such as `syn,!ack`; flags: {}", TCP_FLAGS.join(" "));
                return Err(ValueError::not(name, "a TCP flag", hint));
            };
            *flags |= 1 << bit;
        }
        if set & clear != 0 {
            return Err(ValueError::not(text, "possible", "a flag is both set and not set"));
        }
        Ok(Self { set, clear })
    }
}

impl fmt::Display for TcpFlagsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (bit, name) in TCP_FLAGS.iter().enumerate() {
            for (flags, not) in [(self.set, ""), (self.clear, "!")] {
                if flags >> bit & 1 == 1 {
                    write!(f, "{comma}{not}{name}")?;
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

/// A type of ICMP message, by a name that both families may know, or by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpType {
    /// A named message: its type in ICMP, in ICMPv6, or in both.
    Named {
        /// The name.
        name: &'static str,
        /// Its type in ICMP.
        v4: Option<u8>,
        /// Its type in ICMPv6.
        v6: Option<u8>,
    },
    /// A number, which means something else in each family.
    Number(u8),
}

/// Named messages: name, type in ICMP (RFC 792), type in ICMPv6 (RFC 4443, RFC 4861).
pub(crate) const ICMP_NAMES: &[(&str, Option<u8>, Option<u8>)] = &[
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("redirect", Some(5), Some(137)),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("router-solicitation", Some(10), Some(133)),
    ("router-advertisement", Some(9), Some(134)),
    ("neighbour-solicitation", None, Some(135)),
    ("neighbour-advertisement", None, Some(136)),
];

impl Scalar for IcmpType {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if let Some((name, v4, v6)) = ICMP_NAMES.iter().copied().find(|(name, ..)| *name == text) {
            return Ok(Self::Named { name, v4, v6 });
        }
        let number = u64::parse(text).ok().and_then(|number| u8::try_from(number).ok());
        number.map(Self::Number).ok_or_else(|| {
            let names = || ICMP_NAMES.iter().map(|(name, ..)| *name);
            let hint = match did_you_mean(text, names()) {
                none if none.is_empty() => {
                    format!("a number from 0 to 255, or {}", names().collect::<Vec<_>>().join(" "))
                }
                hint => hint,
            };
            ValueError::not(text, "a type of ICMP message", hint)
        })
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, .. } => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
