//! What a rule asks of a packet's headers.

use super::mistake::{Read, broken};
use super::number::{Compare, compare, number};
use super::options::{Keyword, Value};

/// One question to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketTest {
    /// `dsize`: the payload's length.
    PayloadSize(Compare<u16>),
    /// `ttl`: the time to live, or the hop limit.
    Ttl(Compare<u8>),
    /// `tos`: the byte of service, or the traffic class.
    Tos(Compare<u8>),
    /// `id`: the IPv4 identification.
    Id(Compare<u16>),
    /// `ipopts`: an option of the IPv4 header.
    IpOption(IpOption),
    /// `fragbits`: those of the IPv4 header, in [`FRAGMENT_BITS`].
    FragmentBits(Bits),
    /// `fragoffset`, in units of 8 bytes.
    FragmentOffset(Compare<u16>),
    /// `ip_proto`: the protocol above IP.
    IpProtocol(Compare<u8>),
    /// `sameip`: source and destination are the same address.
    SameIp,
    /// `itype` of ICMP and ICMPv6.
    IcmpType(Compare<u8>),
    /// `icode` of ICMP and ICMPv6.
    IcmpCode(Compare<u8>),
    /// `icmp_id` of echoes.
    IcmpId(u16),
    /// `icmp_seq` of echoes.
    IcmpSequence(u16),
    /// `tcp.flags`
    TcpFlags(Bits),
    /// `seq`
    TcpSequence(Compare<u32>),
    /// `ack`
    TcpAcknowledgement(Compare<u32>),
    /// `window`, as in the header.
    TcpWindow(Compare<u16>),
    /// `tcp.mss`: of a SYN's option.
    TcpMss(Compare<u16>),
    /// `stream_size`: how many bytes of the stream there were.
    StreamSize(StreamSide, Compare<u32>),
    /// `decode-event` or `stream-event`: an index into [`super::Setup::events`].
    Event(u16),
}

/// An option of the IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpOption {
    /// Any.
    Any,
    /// That of this type.
    Type(u8),
}

/// What bits of a header must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Which are asked for.
    pub bits: u8,
    /// Which are not looked at.
    pub ignored: u8,
    /// How.
    pub mode: BitMode,
}

/// How bits are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitMode {
    /// These and no other.
    Exactly,
    /// All of these (`+` of `flags`).
    All,
    /// All of these, and others (`+` of `fragbits`).
    AllAndMore,
    /// One of these (`*`).
    Any,
    /// Not all of these (`!`).
    NotAll,
}

impl Bits {
    /// Whether these bits of a header are so.
    pub fn matches(self, header: u8) -> bool {
        if self.bits == 0 && header != 0 {
            // None at all, whatever is ignored; or any.
            return self.mode == BitMode::NotAll;
        }
        let bits = header & !self.ignored;
        match self.mode {
            BitMode::Exactly => bits == self.bits,
            BitMode::All => bits & self.bits == self.bits,
            BitMode::AllAndMore => bits & self.bits == self.bits && bits != self.bits,
            BitMode::Any => bits & self.bits != 0,
            BitMode::NotAll => bits & self.bits != self.bits,
        }
    }
}

/// `fragbits` as [`Bits`]: the three flags of the IPv4 header, reserved, do not fragment, more fragments.
pub const FRAGMENT_BITS: [u8; 3] = [4, 2, 1];

/// Whose bytes `stream_size` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSide {
    /// The client's.
    Client,
    /// The server's.
    Server,
    /// Each of the two must compare so.
    Both,
    /// One of the two must compare so.
    Either,
}

/// A keyword of a packet's headers, read. `None`: it is none of those.
pub(super) fn read(keyword: &Keyword<'_>) -> Read<Option<PacketTest>> {
    use PacketTest as T;
    if keyword.name == "sameip" {
        keyword.alone()?;
        return Ok(Some(T::SameIp));
    }
    let Some(value) = keyword.value else { return Ok(None) };
    Ok(Some(match keyword.name {
        "dsize" => T::PayloadSize(of(value)?),
        "ttl" => T::Ttl(of(value)?),
        "tos" => T::Tos(tos(value)?),
        "id" => T::Id(of(value)?),
        "ipopts" => T::IpOption(ip_option(value)?),
        "fragbits" => T::FragmentBits(fragment_bits(value)?),
        "fragoffset" => T::FragmentOffset(of(value)?),
        "ip_proto" => T::IpProtocol(ip_protocol(value)?),
        "itype" => T::IcmpType(of(value)?),
        "icode" => T::IcmpCode(of(value)?),
        "icmp_id" => T::IcmpId(number(value.plain()?, value.at)?),
        "icmp_seq" => T::IcmpSequence(number(value.plain()?, value.at)?),
        "flags" | "tcp.flags" => T::TcpFlags(tcp_flags(value)?),
        "seq" | "tcp.seq" => T::TcpSequence(of(value)?),
        "ack" | "tcp.ack" => T::TcpAcknowledgement(of(value)?),
        "window" | "tcp.window" => T::TcpWindow(of(value)?),
        "tcp.mss" => T::TcpMss(of(value)?),
        "stream_size" => stream_size(value)?,
        _ => return Ok(None),
    }))
}

/// Whether only a packet can answer, and no stream: a rule that asks so is one of packets.
pub(super) fn needs_packet(test: &PacketTest) -> bool {
    !matches!(test, PacketTest::IpProtocol(_) | PacketTest::StreamSize(..))
}

/// Whether only TCP has what it asks for.
pub(super) fn needs_tcp(test: &PacketTest) -> bool {
    use PacketTest as T;
    matches!(
        test,
        T::TcpFlags(_)
            | T::TcpSequence(_)
            | T::TcpAcknowledgement(_)
            | T::TcpWindow(_)
            | T::TcpMss(_)
            | T::StreamSize(..)
    )
}

fn of<T: super::number::Number>(value: Value<'_>) -> Read<Compare<T>> {
    compare(value.plain()?, value.at)
}

/// A number, or `x` and hexadecimal digits; either negated, or compared as others are.
fn tos(value: Value<'_>) -> Read<Compare<u8>> {
    let text = value.plain()?;
    let (sign, digits) = match text.strip_prefix('!') {
        Some(rest) => ("!", rest.trim_ascii()),
        None => ("", text),
    };
    match digits.strip_prefix(['x', 'X']) {
        Some(digits) => compare(&format!("{sign}0x{digits}"), value.at),
        None => compare(text, value.at),
    }
}

fn ip_option(value: Value<'_>) -> Read<IpOption> {
    let name = value.plain()?;
    match IP_OPTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, kind)) => Ok(*kind),
        None => broken(
            value.at,
            format!(
                "`{name}` is no IP option: rr eol nop ts sec esec lsrr ssrr satid qs rtralt cipso any"
            ),
        ),
    }
}

fn ip_protocol(value: Value<'_>) -> Read<Compare<u8>> {
    let text = value.plain()?;
    let name = text.trim_start_matches(['!', '<', '>']).trim_ascii();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return compare(text, value.at);
    }
    let known = IP_PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((_, number)) = known else {
        return broken(value.at, format!("`{name}` is no protocol above IP: give its number"));
    };
    match text.strip_suffix(name).unwrap_or_default().trim_ascii() {
        "" => Ok(Compare::Equal(*number)),
        "!" => Ok(Compare::NotEqual(*number)),
        "<" => Ok(Compare::Less(*number)),
        ">" => Ok(Compare::Greater(*number)),
        _ => broken(value.at, format!("`{text}` is no comparison")),
    }
}

/// `[modifier]BITS` or `BITS[modifier]`, the modifier one of `+ * !`.
fn bits(text: &str, at: usize, of: impl Fn(char) -> Option<u8>) -> Read<Bits> {
    let (mut bits, mut mode) = (0, BitMode::Exactly);
    let mut given = false;
    for c in text.chars().filter(|c| !c.is_ascii_whitespace()) {
        let modifier = match c {
            '+' => BitMode::All,
            '*' => BitMode::Any,
            '!' => BitMode::NotAll,
            _ => {
                let Some(bit) = of(c) else {
                    return broken(at, format!("`{c}` in `{text}` is no flag"));
                };
                bits |= bit;
                given = true;
                continue;
            }
        };
        if mode != BitMode::Exactly {
            return broken(at, format!("`{text}` has two of `+ * !`"));
        }
        mode = modifier;
    }
    if !given {
        return broken(at, "there is no flag");
    }
    Ok(Bits { bits, ignored: 0, mode })
}

fn tcp_flags(value: Value<'_>) -> Read<Bits> {
    let mut parts = value.parts()?;
    let of = |c: char| TCP_FLAGS.iter().find(|(flag, _)| *flag == c).map(|(_, bit)| *bit);
    let (text, at) = parts.next().unwrap_or_default();
    let mut flags = bits(text, at, of)?;
    if let Some((mask, at)) = parts.next() {
        let mask = bits(mask, at, of)?;
        if mask.mode != BitMode::Exactly {
            return broken(at, "flags that are not looked at have no modifier");
        }
        flags.ignored = mask.bits;
    }
    match parts.next() {
        None => Ok(flags),
        Some((_, at)) => broken(at, "more than flags and those that are not looked at"),
    }
}

fn fragment_bits(value: Value<'_>) -> Read<Bits> {
    let letters = ['R', 'D', 'M'];
    let text = value.plain()?;
    let bit_of = |c: char| {
        letters.iter().zip(FRAGMENT_BITS).find(|(letter, _)| **letter == c).map(|(_, bit)| bit)
    };
    // What comes behind the letters, a modifier too, Suricata does not read.
    let start = text.find(|c| bit_of(c).is_some()).unwrap_or(text.len());
    let (before, rest) = text.split_at(start);
    let end = rest.find(|c| bit_of(c).is_none()).unwrap_or(rest.len());
    let letters = rest.get(..end).unwrap_or_default();
    let bits = bits(&format!("{before}{letters}"), value.at, bit_of)?;
    let mode = if bits.mode == BitMode::All { BitMode::AllAndMore } else { bits.mode };
    Ok(Bits { mode, ..bits })
}

fn stream_size(value: Value<'_>) -> Read<PacketTest> {
    let parts: Vec<_> = value.parts()?.collect();
    let [(side, side_at), (operator, at), (size, _)] = *parts else {
        return broken(value.at, "stream_size is `client|server|both|either,OPERATOR,BYTES`");
    };
    let side = match side {
        "client" => StreamSide::Client,
        "server" => StreamSide::Server,
        "both" => StreamSide::Both,
        "either" => StreamSide::Either,
        _ => return broken(side_at, format!("`{side}` is none of client, server, both, either")),
    };
    if !["<", "<=", ">", ">=", "=", "!", "!="].contains(&operator) {
        return broken(at, format!("`{operator}` is none of < <= > >= = !="));
    }
    Ok(PacketTest::StreamSize(side, compare(&format!("{operator}{size}"), at)?))
}

const TCP_FLAGS: [(char, u8); 11] = [
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('U', 0x20),
    ('E', 0x40),
    ('2', 0x40),
    ('C', 0x80),
    ('1', 0x80),
    ('0', 0),
];

const IP_OPTIONS: [(&str, IpOption); 13] = [
    ("any", IpOption::Any),
    ("eol", IpOption::Type(0)),
    ("nop", IpOption::Type(1)),
    ("rr", IpOption::Type(7)),
    ("qs", IpOption::Type(25)),
    ("ts", IpOption::Type(68)),
    ("sec", IpOption::Type(130)),
    ("lsrr", IpOption::Type(131)),
    ("esec", IpOption::Type(133)),
    ("cipso", IpOption::Type(134)),
    ("satid", IpOption::Type(136)),
    ("ssrr", IpOption::Type(137)),
    ("rtralt", IpOption::Type(148)),
];

/// Of IANA's registry of protocol numbers, those that rules name.
const IP_PROTOCOLS: [(&str, u8); 30] = [
    ("ip", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("pup", 12),
    ("udp", 17),
    ("hmp", 20),
    ("rdp", 27),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("skip", 57),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, value: &str) -> Result<PacketTest, String> {
        let value = Some(Value { bytes: value.as_bytes(), at: 0 });
        read(&Keyword { name, at: 0, value }).map(|t| t.unwrap()).map_err(|m| m.text)
    }

    fn flags(text: &str) -> Bits {
        match test("tcp.flags", text).unwrap() {
            PacketTest::TcpFlags(bits) => bits,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_match_exactly_all_of_them_any_of_them_or_not_all_of_them() {
        let (syn, syn_ack, ack) = (0x02, 0x12, 0x10);
        let cases = [
            ("S", [true, false, false]),
            ("+S", [true, true, false]),
            ("S+", [true, true, false]),
            ("*SA", [true, true, true]),
            ("!SA", [true, false, true]),
            ("SA", [false, true, false]),
            ("S,A", [true, true, false]),
            ("0", [false, false, false]),
            ("0,SA", [false, false, false]),
            ("!0", [true, true, true]),
            ("+0", [false, false, false]),
        ];
        for (text, expected) in cases {
            assert_eq!([syn, syn_ack, ack].map(|f| flags(text).matches(f)), expected, "{text}");
        }
        assert!(flags("S,CE").matches(0xc2) && flags("S,12").matches(0xc2));
        assert!(!flags("S").matches(0xc2));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for text in ["", "X", "+*S", "S,+A", "S,A,P", "+"] {
            assert!(test("flags", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_protocol_is_a_number_or_a_name() {
        assert_eq!(test("ip_proto", "!GRE"), Ok(PacketTest::IpProtocol(Compare::NotEqual(47))));
        assert_eq!(test("ip_proto", "47"), Ok(PacketTest::IpProtocol(Compare::Equal(47))));
        assert_eq!(test("ip_proto", ">100"), Ok(PacketTest::IpProtocol(Compare::Greater(100))));
        assert!(test("ip_proto", "nonsense").is_err() && test("ip_proto", "256").is_err());
    }

    #[test]
    fn the_other_keywords_are_read_to_their_types() {
        let cases = [
            ("dsize", ">3", PacketTest::PayloadSize(Compare::Greater(3))),
            ("ttl", "1-5", PacketTest::Ttl(Compare::Between(1, 5))),
            ("window", "!55808", PacketTest::TcpWindow(Compare::NotEqual(55_808))),
            ("icmp_id", "\"21781\"", PacketTest::IcmpId(21_781)),
            ("ipopts", "lsrr", PacketTest::IpOption(IpOption::Type(131))),
            (
                "stream_size",
                "both, >, 5",
                PacketTest::StreamSize(StreamSide::Both, Compare::Greater(5)),
            ),
            (
                "fragbits",
                "+M",
                PacketTest::FragmentBits(Bits { bits: 1, ignored: 0, mode: BitMode::AllAndMore }),
            ),
            (
                "fragbits",
                "M+",
                PacketTest::FragmentBits(Bits { bits: 1, ignored: 0, mode: BitMode::Exactly }),
            ),
            ("tos", "!x1C", PacketTest::Tos(Compare::NotEqual(0x1c))),
            ("tos", "8", PacketTest::Tos(Compare::Equal(8))),
            ("ipopts", "rtralt", PacketTest::IpOption(IpOption::Type(148))),
        ];
        for (name, value, expected) in cases {
            assert_eq!(test(name, value), Ok(expected), "{name}:{value}");
        }
    }
}
