//! `match`: which packets a chain takes, a rule decides, a tap writes out.
//!
//! All conditions of a match must hold; of several values of one condition, one must. A match that
//! no packet can meet is a mistake of the user's and reported as one: an IPv4 source with an IPv6
//! destination, a port of a protocol without ports.
use super::key::{Key, Names, Need, Shape, Table};
use super::report::Report;
use super::section::Section;
use super::source::{Span, Spanned};
use super::value::{
    IcmpType, IpFamily, PortRange, Prefix, Protocol, ProtocolMatch, TcpFlagsMatch, Vlan,
};

/// The key that names protocols.
pub const PROTOCOL_KEYS: &[Key] = &[Key {
    name: "protocol",
    shape: Shape::OneOrMany(&Shape::Protocol),
    need: Need::Optional,
    help: "protocols over IP; with ports and without this, tcp and udp",
}];

/// The keys of a match but `protocol`, for rules that name the protocol elsewhere (`allow: tcp`).
pub const HEADER_KEYS: &[Key] = &[
    Key {
        name: "src",
        shape: Shape::OneOrMany(&Shape::Prefix),
        need: Need::Optional,
        help: "source address, by prefix",
    },
    Key {
        name: "dst",
        shape: Shape::OneOrMany(&Shape::Prefix),
        need: Need::Optional,
        help: "destination address, by prefix",
    },
    Key {
        name: "sport",
        shape: Shape::OneOrMany(&Shape::L4Ports),
        need: Need::Optional,
        help: "source port or range of ports, both ends included",
    },
    Key {
        name: "dport",
        shape: Shape::OneOrMany(&Shape::L4Ports),
        need: Need::Optional,
        help: "destination port or range of ports, both ends included",
    },
    Key {
        name: "in-port",
        shape: Shape::Name(Names::Port),
        need: Need::Optional,
        help: "the port that received the packet",
    },
    Key {
        name: "vlan",
        shape: Shape::OneOrMany(&Shape::Vlan),
        need: Need::Optional,
        help: "outermost VLAN id",
    },
    Key {
        name: "flags",
        shape: Shape::TcpFlags,
        need: Need::Optional,
        help: "TCP flags that are set, and with `!` those that are not",
    },
    Key {
        name: "icmp-type",
        shape: Shape::OneOrMany(&Shape::IcmpType),
        need: Need::Optional,
        help: "type of ICMP message, by name, or by number with protocol icmp or icmp6",
    },
    Key {
        name: "family",
        shape: Shape::Choice(&["ipv4", "ipv6"]),
        need: Need::Optional,
        help: "IPv4 or IPv6 only",
    },
];

/// A match as a mapping of its own.
pub const MATCH: Table = Table { what: "a match", groups: &[PROTOCOL_KEYS, HEADER_KEYS] };

/// Which packets are meant. An empty list sets no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The one family that the packet must be of; none where both can match. Follows from the
    /// other conditions too.
    pub family: Option<IpFamily>,
    /// Source prefixes, of one of which the source is.
    pub src: Vec<Prefix>,
    /// Destination prefixes.
    pub dst: Vec<Prefix>,
    /// Protocols; completed by what ports, flags and ICMP types imply.
    pub protocols: Vec<Protocol>,
    /// Source ports; then all `protocols` have ports.
    pub sport: Vec<PortRange>,
    /// Destination ports; then all `protocols` have ports.
    pub dport: Vec<PortRange>,
    /// TCP flags; then TCP is the only one of `protocols`.
    pub flags: Option<TcpFlagsMatch>,
    /// ICMP messages; then `protocols` are those in here.
    pub icmp: Vec<IcmpMatch>,
    /// Outermost VLAN ids.
    pub vlan: Vec<Vlan>,
    /// The port that received the packet.
    pub in_port: Option<Spanned<String>>,
}

/// A type of message of one family's ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpMatch {
    /// [`Protocol::ICMP`] or [`Protocol::ICMP6`].
    pub protocol: Protocol,
    /// The type.
    pub kind: u8,
}

impl Match {
    /// Reads a match from a section that has [`PROTOCOL_KEYS`] and [`HEADER_KEYS`].
    ///
    /// Contradictions are reported; then, and when a value was wrong already, the match that is
    /// returned has some condition less, and the report keeps it from being used.
    pub fn read(section: &Section<'_>, report: &mut Report) -> Self {
        Self::with_protocols(section, &section.values("protocol"), report)
    }

    /// Reads a match from a section that has [`HEADER_KEYS`], with the protocols given.
    ///
    /// For rules that name them under a key of their own: `allow: tcp`.
    pub fn with_protocols(
        section: &Section<'_>,
        protocols: &[Spanned<ProtocolMatch>],
        report: &mut Report,
    ) -> Self {
        let bare = |values: Vec<Spanned<Prefix>>| values.into_iter().map(|v| v.value).collect();
        let mut this = Self {
            src: bare(section.values("src")),
            dst: bare(section.values("dst")),
            vlan: section.values("vlan").into_iter().map(|v| v.value).collect(),
            in_port: section
                .text("in-port")
                .map(|name| Spanned::new(name, section.span_of("in-port"))),
            ..Self::default()
        };
        let mut reader = Reader { section, report };
        this.protocols = reader.protocols(protocols);
        this.sport = reader.ports("sport", &this.protocols);
        this.dport = reader.ports("dport", &this.protocols);
        this.flags = reader.flags(&this.protocols);
        this.icmp = reader.icmp(&this.protocols);
        this.family = reader.family(&this, protocols);
        if let Some(family) = this.family {
            this.icmp.retain(|icmp| icmp.family() == family);
        }
        if !this.icmp.is_empty() {
            let named = |protocol| this.icmp.iter().any(|icmp| icmp.protocol == protocol);
            this.protocols =
                [Protocol::ICMP, Protocol::ICMP6].into_iter().filter(|p| named(*p)).collect();
        }
        this
    }
}

impl IcmpMatch {
    fn family(self) -> IpFamily {
        if self.protocol == Protocol::ICMP6 { IpFamily::V6 } else { IpFamily::V4 }
    }
}

struct Reader<'r, 'n> {
    section: &'r Section<'n>,
    report: &'r mut Report,
}

impl Reader<'_, '_> {
    /// The protocols that are said, or else those that flags or ports imply.
    fn protocols(&mut self, said: &[Spanned<ProtocolMatch>]) -> Vec<Protocol> {
        let mut protocols = Vec::new();
        for Spanned { value, span } in said {
            match value {
                ProtocolMatch::One(protocol) => protocols.push(*protocol),
                ProtocolMatch::Any if said.len() > 1 => {
                    self.report
                        .error(*span, "`any` beside other protocols")
                        .hint("`any` includes them: keep it alone, or remove it");
                }
                ProtocolMatch::Any => {}
            }
        }
        if protocols.is_empty() && self.section.has("flags") {
            protocols = vec![Protocol::TCP];
        } else if protocols.is_empty() && (self.section.has("sport") || self.section.has("dport")) {
            protocols = vec![Protocol::TCP, Protocol::UDP];
        }
        protocols
    }

    fn ports(&mut self, key: &str, protocols: &[Protocol]) -> Vec<PortRange> {
        if self.section.has(key)
            && let Some(portless) = protocols.iter().find(|protocol| !protocol.has_ports())
        {
            self.contradiction(key, *portless, "which has no ports");
            return Vec::new();
        }
        self.section.values(key).into_iter().map(|ports| ports.value).collect()
    }

    fn flags(&mut self, protocols: &[Protocol]) -> Option<TcpFlagsMatch> {
        if self.section.has("flags")
            && let Some(other) = protocols.iter().find(|protocol| **protocol != Protocol::TCP)
        {
            self.contradiction("flags", *other, "which has no TCP flags");
            return None;
        }
        self.section.value("flags")
    }

    fn icmp(&mut self, protocols: &[Protocol]) -> Vec<IcmpMatch> {
        const BOTH: &[Protocol] = &[Protocol::ICMP, Protocol::ICMP6];
        if self.section.has("icmp-type")
            && let Some(other) = protocols.iter().find(|protocol| !BOTH.contains(protocol))
        {
            self.contradiction("icmp-type", *other, "which has no ICMP messages");
            return Vec::new();
        }
        let protocols = if protocols.is_empty() { BOTH } else { protocols };
        let mut icmp = Vec::new();
        for Spanned { value, span } in self.section.values::<IcmpType>("icmp-type") {
            match value {
                IcmpType::Number(kind) => match protocols {
                    [protocol] => icmp.push(IcmpMatch { protocol: *protocol, kind }),
                    _ => {
                        let message =
                            format!("ICMP type {kind} means one thing in ICMP, another in ICMPv6");
                        self.report
                            .error(span, message)
                            .hint("add `protocol: icmp` or `protocol: icmp6`, or use its name");
                    }
                },
                IcmpType::Named { name, v4, v6 } => {
                    let before = icmp.len();
                    for (protocol, kind) in [(Protocol::ICMP, v4), (Protocol::ICMP6, v6)] {
                        let kind = kind.filter(|_| protocols.contains(&protocol));
                        icmp.extend(kind.map(|kind| IcmpMatch { protocol, kind }));
                    }
                    if icmp.len() == before {
                        let other = if v4.is_some() { Protocol::ICMP } else { Protocol::ICMP6 };
                        self.report
                            .error(span, format!("`{name}` is a message of `{other}` only"))
                            .hint("the protocol here is the other one");
                    }
                }
            }
        }
        icmp
    }

    /// The family that all conditions leave, reporting the first one that leaves none.
    fn family(&mut self, this: &Match, said: &[Spanned<ProtocolMatch>]) -> Option<IpFamily> {
        fn families(of: impl Iterator<Item = IpFamily> + Clone) -> [bool; 2] {
            [IpFamily::V4, IpFamily::V6].map(|family| of.clone().any(|other| other == family))
        }
        let of_protocol = |protocol: &Protocol| match *protocol {
            Protocol::ICMP => [true, false],
            Protocol::ICMP6 => [false, true],
            _ => [true, true],
        };
        let named = match self.section.choice("family") {
            Some("ipv4") => [true, false],
            Some(_) => [false, true],
            None => [true, true],
        };
        let protocols = this.protocols.iter().map(of_protocol);
        let protocols = protocols.fold([false; 2], |all, one| [all[0] || one[0], all[1] || one[1]]);
        let section = self.section;
        let conditions = [
            ("family", section.span_of("family"), named),
            ("src", section.span_of("src"), families(this.src.iter().map(|p| p.family()))),
            ("dst", section.span_of("dst"), families(this.dst.iter().map(|p| p.family()))),
            ("the protocol", said.first().map_or(section.span(), |s| s.span), protocols),
            (
                "icmp-type",
                section.span_of("icmp-type"),
                families(this.icmp.iter().map(|icmp| icmp.family())),
            ),
        ];
        let mut left = [true, true];
        let mut by = "";
        for (key, span, can) in conditions {
            // No condition, or one whose values are wrong already.
            if can == [false, false] || can == [true, true] {
                continue;
            }
            let both = [left[0] && can[0], left[1] && can[1]];
            if both == [false, false] {
                self.impossible(key, span, by, can);
                return None;
            }
            if both != left {
                by = key;
            }
            left = both;
        }
        match left {
            [true, false] => Some(IpFamily::V4),
            [false, true] => Some(IpFamily::V6),
            _ => None,
        }
    }

    fn impossible(&mut self, key: &str, span: Span, by: &str, can: [bool; 2]) {
        let (here, there) = if can[0] { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        self.report
            .error(span, format!("no packet can match: {key} is {here}, {by} is {there}"))
            .hint("write one rule for each family");
    }

    fn contradiction(&mut self, key: &str, protocol: Protocol, why: &str) {
        self.report
            .error(
                self.section.span_of_key(key),
                format!("`{key}` with protocol `{protocol}`, {why}"),
            )
            .hint("write two rules, or remove one of the two");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::shown;
    use super::*;

    /// Reads one match; the columns of mistakes count from its brace.
    fn read(text: &str) -> (Match, Vec<String>) {
        let file = format!("ports: {{p: x}}\nchains: {{c: {{from: p, to: p, match:\n{text}}}}}\n");
        let (file, report) = super::super::testing::read(&file);
        // The match stands alone in line 3.
        let column = |mistake: &String| mistake.trim_start_matches("3:").to_owned();
        let mistakes = shown(&report).iter().map(column).collect();
        let file = file.unwrap();
        (file.chains[0].matches.first().cloned().unwrap_or_default(), mistakes)
    }

    fn sound(text: &str) -> Match {
        let (read, mistakes) = read(text);
        assert_eq!(mistakes, Vec::<String>::new(), "{text}");
        read
    }

    #[test]
    fn ports_alone_imply_tcp_and_udp() {
        assert_eq!(sound("{dport: 53}").protocols, [Protocol::TCP, Protocol::UDP]);
        assert_eq!(sound("{dport: 53, protocol: any}").protocols, [Protocol::TCP, Protocol::UDP]);
        assert_eq!(sound("{sport: 53, protocol: sctp}").protocols, [Protocol::SCTP]);
        assert_eq!(sound("{src: 10.0.0.0/8}").protocols, []);
    }

    #[test]
    fn flags_imply_tcp_also_beside_ports() {
        assert_eq!(sound("{flags: syn}").protocols, [Protocol::TCP]);
        let both = sound("{flags: 'syn,!ack', dport: 80}");
        assert_eq!((both.protocols.as_slice(), both.dport.len()), ([Protocol::TCP].as_slice(), 1));
        assert!(both.flags.is_some());
    }

    #[test]
    fn an_icmp_name_is_resolved_in_the_families_that_remain() {
        let v4 = IcmpMatch { protocol: Protocol::ICMP, kind: 8 };
        let v6 = IcmpMatch { protocol: Protocol::ICMP6, kind: 128 };
        let any = sound("{icmp-type: echo-request}");
        assert_eq!((any.icmp, any.family), (vec![v4, v6], None));
        assert_eq!(any.protocols, [Protocol::ICMP, Protocol::ICMP6]);
        let inside = sound("{icmp-type: echo-request, src: 10.0.0.0/8}");
        assert_eq!((inside.icmp, inside.protocols), (vec![v4], vec![Protocol::ICMP]));
        assert_eq!(inside.family, Some(IpFamily::V4));
        let number = sound("{icmp-type: 128, protocol: icmp6}");
        assert_eq!((number.icmp, number.family), (vec![v6], Some(IpFamily::V6)));
        assert_eq!(sound("{icmp-type: packet-too-big}").family, Some(IpFamily::V6));
    }

    #[test]
    fn the_family_follows_from_any_condition() {
        assert_eq!(sound("{}").family, None);
        assert_eq!(sound("{family: ipv6}").family, Some(IpFamily::V6));
        assert_eq!(sound("{dst: '::/0'}").family, Some(IpFamily::V6));
        assert_eq!(sound("{protocol: icmp}").family, Some(IpFamily::V4));
        assert_eq!(sound("{src: [10.0.0.0/8, '::/0']}").family, None);
        assert_eq!(sound("{src: [10.0.0.0/8, '::/0'], dst: 10.0.0.1}").family, Some(IpFamily::V4));
    }

    #[test]
    fn what_no_packet_can_meet_is_a_mistake() {
        for (text, mistake) in [
            ("{src: 10.0.0.0/8, dst: '::/0'}", "24: no packet can match: dst is IPv6, src is IPv4"),
            (
                "{dst: 10.0.0.0/8, family: ipv6}",
                "7: no packet can match: dst is IPv4, family is IPv6",
            ),
            (
                "{dst: '::1', protocol: icmp}",
                "24: no packet can match: the protocol is IPv4, dst is IPv6",
            ),
            (
                "{dst: 10.0.0.1, icmp-type: packet-too-big}",
                "28: no packet can match: icmp-type is IPv6, dst is IPv4",
            ),
            ("{dport: 80, protocol: icmp}", "2: `dport` with protocol `icmp`, which has no ports"),
            (
                "{sport: 80, protocol: [tcp, 47]}",
                "2: `sport` with protocol `47`, which has no ports",
            ),
            (
                "{flags: syn, protocol: udp}",
                "2: `flags` with protocol `udp`, which has no TCP flags",
            ),
            (
                "{icmp-type: echo-reply, dport: 1}",
                "2: `icmp-type` with protocol `tcp`, which has no ICMP messages",
            ),
            ("{icmp-type: 8}", "13: ICMP type 8 means one thing in ICMP, another in ICMPv6"),
            (
                "{icmp-type: packet-too-big, protocol: icmp}",
                "13: `packet-too-big` is a message of `icmp6` only",
            ),
            ("{protocol: [any, tcp]}", "13: `any` beside other protocols"),
            ("{src: []}", "7: `src` is an empty list"),
        ] {
            assert_eq!(read(text).1, [mistake], "{text}");
        }
    }

    #[test]
    fn a_wrong_value_brings_no_second_mistake() {
        for text in [
            "{src: x, dst: 10.0.0.1}",
            "{protocol: tpc, dport: 80}",
            "{icmp-type: x}",
            "{dport: x}",
            "{flags: x, protocol: tcp}",
        ] {
            assert_eq!(read(text).1.len(), 1, "{text}: {:?}", read(text).1);
        }
    }

    #[test]
    fn several_matches_are_several_ways_in() {
        let (first, mistakes) = read("[{src: 10.0.0.0/8}, {in-port: p, vlan: [1, 2]}]");
        assert_eq!((first.src.len(), mistakes), (1, vec![]));
        assert_eq!(read("{in-port: q}").1, ["11: there is no port `q`"]);
    }
}
