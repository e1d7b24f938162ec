//! The chain file as a whole: ports, functions and chains, their names resolved, each with its
//! place.
//!
//! This is the last stage that knows about YAML. What it returns is what the user *said*; what
//! that means (queues, classes, a program for the workers) is for the compiler.
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checker, value_of};
use super::device::Devices;
use super::environment::Environment;
use super::file_keys::FILE;
use super::key::{FunctionType, TYPE_KEY};
use super::matching::Match;
use super::names::resolve;
use super::node::{Content, Node};
use super::port::{PortSpec, check_ports, read_port};
use super::report::{Report, quoted};
use super::section::Section;
use super::source::{Source, Span, Spanned};
use crate::flow::{FlowLimits, IdleTimes, WhenFull};

/// A chain file.
#[derive(Clone, Debug)]
pub struct ChainFile {
    /// The ports, in the file's order.
    pub ports: Vec<PortSpec>,
    /// The functions whose type is known, in the file's order.
    pub functions: Vec<FunctionSpec>,
    /// The chains, in the file's order, which is that of matching.
    pub chains: Vec<ChainSpec>,
    /// What flows may take, and how long they live.
    pub flows: FlowLimits,
    /// How workers share the work.
    pub workers: WorkerSettings,
    /// The folder that a replay leaves its files in; who starts one says so.
    pub out: Option<PathBuf>,
    /// The section `ports`, to be compared with another file's.
    ports_node: Option<Node>,
}

/// How workers share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Whether shards move from busy workers to others.
    pub balance: bool,
    /// What a worker does while nothing comes.
    pub idle: Idle,
    /// Of so many packets of a port whose NIC has rules, one is looked at for its tag; 0: none.
    pub check_tags: u32,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { balance: true, idle: Idle::Pause, check_tags: 1024 }
    }
}

/// What a worker does while nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It looks again and again.
    Poll,
    /// It looks every 50 microseconds.
    Pause,
    /// It sleeps until a device or another worker wakes it.
    Interrupt,
}

/// A network function.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    /// The user's name for it.
    pub name: Spanned<String>,
    /// Its type, and that type's keys.
    pub kind: FunctionType,
    node: Node,
}

impl FunctionSpec {
    /// Its keys, checked against the table of its type.
    pub fn section(&self) -> Section<'_> {
        Section::function(&self.name, &self.node, &self.kind)
    }

    /// Whether another says the same, wherever it stands.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.node.says_the_same(&other.node)
    }

    /// Whether one that says the same says it in the same lines.
    pub fn is_at_the_same_lines(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// A chain.
#[derive(Clone, Debug)]
pub struct ChainSpec {
    /// The user's name for it.
    pub name: Spanned<String>,
    /// The ports whose packets enter it; none for a chain that only exits lead to.
    pub from: Vec<Spanned<String>>,
    /// The packets that enter it: those of any of these; with none, all.
    pub matches: Vec<Match>,
    /// Where each of them stands.
    pub match_spans: Vec<Span>,
    /// The functions, in the order in which packets meet them.
    pub through: Vec<Spanned<String>>,
    /// The port at its end; none when a function picks it.
    pub to: Option<Spanned<String>>,
    /// Whether replies do *not* take it backwards.
    pub oneway: bool,
    /// Exits of its functions, and the chains that they lead to.
    pub on: Vec<(Spanned<String>, Spanned<String>)>,
}

impl ChainFile {
    /// Reads a chain file.
    ///
    /// `functions`: the types that exist. Every mistake is in `report`, with which the caller ends
    /// when it has errors; until then what is returned is good for finding more of them. `None`:
    /// there is nothing to look at (no YAML, no mapping).
    pub fn read(
        source: &Source,
        environment: Environment<'_>,
        functions: &[FunctionType],
        report: &mut Report,
    ) -> Option<Self> {
        let root = Node::read(source, environment, report)?;
        match root.content {
            Content::Map(_) => {}
            Content::Null => {
                report
                    .error(root.span, "the file is empty")
                    .hint("a chain file has `ports:`, `functions:` and `chains:`");
                return None;
            }
            _ => {
                report
                    .error(root.span, format!("a chain file is a mapping, not {}", root.what()))
                    .hint("it starts with `ports:`, `functions:` and `chains:`");
                return None;
            }
        }
        let references = Checker::new(report, functions).file(&root, &FILE);
        resolve(&root, &references, report);
        let file = Section::root(&root, &FILE);
        let mut devices = Devices::default();
        let this = Self {
            ports: file
                .sections("ports")
                .iter()
                .filter_map(|port| read_port(port, &mut devices, environment, report))
                .collect(),
            functions: read_functions(&file, functions),
            chains: file.sections("chains").iter().map(|chain| read_chain(chain, report)).collect(),
            flows: file.record("flows").map_or_else(FlowLimits::default, |s| read_flows(&s)),
            workers: file
                .record("workers")
                .map_or_else(WorkerSettings::default, |s| read_workers(&s)),
            out: None,
            ports_node: file.node("ports").cloned(),
        };
        check_ports(&this.ports, report);
        this.check_chains(report);
        Some(this)
    }

    /// Whether another file says the same of its ports.
    pub fn has_the_ports_of(&self, other: &Self) -> bool {
        match (&self.ports_node, &other.ports_node) {
            (Some(own), Some(others)) => own.says_the_same(others),
            (own, others) => own == others,
        }
    }

    /// Whether every chain can be reached.
    fn check_chains(&self, report: &mut Report) {
        let led_to: HashSet<&str> =
            self.chains.iter().flat_map(|c| &c.on).map(|(_, chain)| chain.value.as_str()).collect();
        for chain in &self.chains {
            let name = &chain.name;
            if chain.from.is_empty() && !led_to.contains(name.value.as_str()) {
                report
                    .warning(name.span, format!("no packet reaches chain {}", quoted(&name.value)))
                    .hint("give it `from`, or name it under `on` of another chain");
            }
        }
    }
}

fn read_functions(file: &Section<'_>, types: &[FunctionType]) -> Vec<FunctionSpec> {
    let Some(Content::Map(map)) = file.node("functions").map(|node| &node.content) else {
        return Vec::new();
    };
    map.iter()
        .filter_map(|(name, node)| {
            let Content::Scalar(kind) = &value_of(node, TYPE_KEY.name)?.content else {
                return None;
            };
            let kind = *types.iter().find(|known| known.name == kind.text)?;
            Some(FunctionSpec { name: name.clone(), kind, node: node.clone() })
        })
        .collect()
}

fn read_workers(section: &Section<'_>) -> WorkerSettings {
    let usual = WorkerSettings::default();
    let check_tags = section.integer("check-tags").and_then(|n| u32::try_from(n).ok());
    WorkerSettings {
        balance: section.flag("balance").unwrap_or(usual.balance),
        idle: match section.choice("idle") {
            Some("poll") => Idle::Poll,
            Some("interrupt") => Idle::Interrupt,
            Some(_) => Idle::Pause,
            None => usual.idle,
        },
        check_tags: check_tags.unwrap_or(usual.check_tags),
    }
}

fn read_flows(section: &Section<'_>) -> FlowLimits {
    let default = FlowLimits::default();
    let time = |key: &str, default: Duration| section.value(key).unwrap_or(default);
    let idle = default.idle;
    FlowLimits {
        max: section.integer("max").and_then(|n| u32::try_from(n).ok()).unwrap_or(default.max),
        full: match section.choice("full") {
            Some("refuse") => WhenFull::Refuse,
            _ => WhenFull::Evict,
        },
        idle: IdleTimes {
            tcp_established: time("tcp-established", idle.tcp_established),
            udp: time("udp", idle.udp),
            udp_unreplied: time("udp-unreplied", idle.udp_unreplied),
            icmp: time("icmp", idle.icmp),
            other: time("other", idle.other),
        },
    }
}

fn read_chain(section: &Section<'_>, report: &mut Report) -> ChainSpec {
    ChainSpec {
        name: Spanned::new(section.name().to_owned(), section.span()),
        from: section.values("from"),
        match_spans: section.sections("match").iter().map(Section::span).collect(),
        matches: section.sections("match").iter().map(|one| Match::read(one, report)).collect(),
        through: section.values("through"),
        to: section.text("to").map(|to| Spanned::new(to, section.span_of("to"))),
        oneway: section.flag("oneway").unwrap_or_default(),
        on: section.pairs("on"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::port::Mode;
    use super::super::report::Color;
    use super::super::testing::{GATEWAY, mistakes, read};
    use super::super::value::{PortRange, Prefix, Rate, Scalar, Size};

    #[test]
    fn a_sound_file_is_read_as_it_was_meant() {
        let (file, report) = read(GATEWAY);
        assert_eq!(report.render(Color::Never), "");
        let file = file.unwrap();
        let [lan, wan, tap] = file.ports.as_slice() else { panic!("{:?}", file.ports) };
        assert_eq!(tap.zone.as_ref().map(|z| z.value.as_str()), Some("watch"));
        assert_eq!((lan.device.value.as_str(), lan.mode), ("0000:03:02.0", Mode::Transparent));
        assert_eq!(
            (lan.promiscuous, lan.rx_descriptors, lan.tx_descriptors),
            (true, Some(1024), Some(512))
        );
        assert_eq!((lan.link_timeout, &lan.twin), (Duration::from_secs(10), &None));
        assert_eq!(wan.device.value, "net_af_packet0,iface=wan0");
        assert_eq!((wan.mode, wan.promiscuous), (Mode::Routed, false));
        assert_eq!(wan.addresses.len(), 2);
        assert_eq!(wan.mac.unwrap().value.to_string(), "02:00:00:00:00:01");
        assert_eq!((wan.mtu.unwrap().value, wan.mempool_size), (1500, Some(8192)));
        assert_eq!(wan.link_timeout, Duration::from_millis(250));
        assert_eq!(wan.twin.as_ref().unwrap().value, "wan-k");
        assert_eq!(wan.neighbours.len(), 1);
        assert_eq!(tap.device.value, "net_tap0");

        let [edge, limit, spy] = file.functions.as_slice() else { panic!("{:?}", file.functions) };
        let rules = edge.section().sections("rules");
        assert_eq!((edge.section().title(), rules.len()), ("function `edge`", 4));
        assert_eq!(edge.section().choice("default"), Some("deny"));
        assert_eq!(rules[0].values::<PortRange>("dport").len(), 3);
        assert_eq!(rules[3].values::<Prefix>("src")[0].value.to_string(), "10.0.0.0/8");
        assert!(rules[0].has("allow") && !rules[0].has("deny"));
        assert_eq!(limit.section().value::<Rate>("rate").unwrap().per_second(), 10_000);
        assert_eq!(limit.section().value::<Size>("burst"), Size::parse("64KiB").ok());
        assert_eq!(spy.kind.name, "mirror");

        let [outbound, quarantine] = file.chains.as_slice() else { panic!("{:?}", file.chains) };
        assert_eq!(
            (outbound.matches.len(), outbound.through.len(), outbound.oneway),
            (2, 2, false)
        );
        assert_eq!(outbound.on[0].0.value, "suspicious");
        assert_eq!((quarantine.from.len(), quarantine.oneway), (0, true));
    }

    #[test]
    fn ten_mistakes_are_reported_in_one_go_each_at_its_place() {
        let (_, report) = read(
            r#"ports:
  lan: { devise: "0000:03:02.0" }
  wan: { device: net_tap0, mode: routd, mtu: 0x5dc }
functions:
  edge: { type: firewall, rules: [ {allow: tcp, dports: 80} ] }
  slow: { type: ratelimit, rate: 10kpps, idle: 30 }
  nat: { type: natt }
chains:
  outbound: { from: lann, match: { src: 10.0.0.1/8 }, through: [edge, slow], to: wan }
  inbound: { from: wan, to: lan, oneway: no }
  inbound: {}
"#,
        );
        assert_eq!((report.errors(), report.warnings()), (10, 1));
        assert_eq!(
            report.render(Color::Never),
            r#"edge.yaml:2:10: unknown key `devise` in port `lan`
    2 |   lan: { devise: "0000:03:02.0" }
      |          ^^^^^^ did you mean `device`? keys: device mode zone addresses mac mtu promiscuous offload rx-descriptors tx-descriptors mempool-size link-timeout twin neighbours
edge.yaml:3:34: `mode`: `routd` is not a value of it
    3 |   wan: { device: net_tap0, mode: routd, mtu: 0x5dc }
      |                                  ^^^^^ did you mean `routed`? values: transparent routed
edge.yaml:3:46: `mtu`: `0x5dc` is not a whole number
    3 |   wan: { device: net_tap0, mode: routd, mtu: 0x5dc }
      |                                              ^^^^^ write `1500`
edge.yaml:5:49: unknown key `dports` in a firewall rule
    5 |   edge: { type: firewall, rules: [ {allow: tcp, dports: 80} ] }
      |                                                 ^^^^^^ did you mean `dport`? keys: allow deny src dst sport dport in-port vlan flags icmp-type family
edge.yaml:6:48: `idle`: `30` has no unit
    6 |   slow: { type: ratelimit, rate: 10kpps, idle: 30 }
      |                                                ^^ write a number and a unit, `30s`; units: d h m s ms us ns
edge.yaml:7:3: warning: function `nat` is not used
    7 |   nat: { type: natt }
      |   ^^^ name it in a chain, or remove it
edge.yaml:7:16: there is no type of function `natt`
    7 |   nat: { type: natt }
      |                ^^^^ types: firewall ratelimit mirror
edge.yaml:9:21: there is no port `lann`
    9 |   outbound: { from: lann, match: { src: 10.0.0.1/8 }, through: [edge, slow], to: wan }
      |                     ^^^^ did you mean `lan`? ports: lan wan
edge.yaml:9:41: `src`: `10.0.0.1/8` has bits set behind its prefix length
    9 |   outbound: { from: lann, match: { src: 10.0.0.1/8 }, through: [edge, slow], to: wan }
      |                                         ^^^^^^^^^^ the network is `10.0.0.0/8`; the address alone is `10.0.0.1`
edge.yaml:10:42: `oneway`: `no` is not true or false
   10 |   inbound: { from: wan, to: lan, oneway: no }
      |                                          ^^ write `false`
edge.yaml:11:3: the key `inbound` stands here twice
   11 |   inbound: {}
      |   ^^^^^^^ it is also in line 10, column 3
"#
        );
    }

    #[test]
    fn an_empty_file_and_one_that_is_no_mapping_say_what_a_chain_file_is() {
        for text in ["", "# nothing yet\n", "---\n", "~"] {
            let (file, report) = read(text);
            assert!(file.is_none() && report.has_errors(), "{text:?}");
            assert!(report.render(Color::Never).contains("the file is empty"), "{text:?}");
        }
        assert_eq!(mistakes("- a\n- b\n"), ["1:1: a chain file is a mapping, not a list"]);
        assert_eq!(mistakes("hello"), ["1:1: a chain file is a mapping, not a single value"]);
    }

    #[test]
    fn an_empty_part_is_no_mistake_but_what_it_must_hold_is() {
        assert_eq!(
            mistakes("ports:\n  lan:\nfunctions:\nchains:\n"),
            ["2:3: port `lan` has no `device`", "2:3: port `lan` is not used"]
        );
    }

    #[test]
    fn a_key_of_another_kind_says_what_it_takes() {
        assert_eq!(
            mistakes(
                "ports: { a: { device: [x] }, b: { device: }, c: [] }\nfunctions: [x]\n\
                 chains: { k: { from: a, to: { b: c }, through: x, match: 5 }, l: 5, m: { from: [b, c] } }\n"
            ),
            [
                "1:23: `device` cannot be a list",
                "1:35: `device` has no value",
                "1:49: port `c` must be a mapping, not a list",
                "2:12: `functions` cannot be a list",
                "3:29: `to` cannot be a mapping",
                "3:48: `through` cannot be a single value",
                "3:58: a match must be a mapping, not a single value",
                "3:66: chain `l` must be a mapping, not a single value",
            ]
        );
    }

    #[test]
    fn names_of_words_that_other_yaml_takes_for_booleans_stay_words() {
        let text = "ports: { no: net_null0, on: net_null1 }\n\
                    chains: { y: { from: no, to: on, on: { off: y } } }\n";
        assert_eq!(mistakes(text), Vec::<String>::new());
    }

    #[test]
    fn dangling_names_are_found_wherever_a_table_says_that_a_name_stands() {
        assert_eq!(
            mistakes(
                "ports: { lan: x, wan: y }\n\
                 functions: { spy: { type: mirror, to: wann, match: { in-port: lann } } }\n\
                 chains: { a: { from: [lan, lam], through: [spi], to: wan, on: { e: aa } } }\n"
            ),
            [
                "2:14: function `spy` is not used",
                "2:39: there is no port `wann`",
                "2:63: there is no port `lann`",
                "3:28: there is no port `lam`",
                "3:44: there is no function `spi`",
                "3:68: there is no chain `aa`",
            ]
        );
    }

    #[test]
    fn what_nothing_uses_is_a_warning_only() {
        let (_, report) = read("ports: { a: x, b: y }\nchains: { c: { to: a } }\n");
        assert!(!report.has_errors());
        assert_eq!(report.warnings(), 2);
        assert!(report.render(Color::Never).contains("no packet reaches chain `c`"));
    }

    #[test]
    fn names_that_could_not_be_labels_are_refused() {
        assert_eq!(
            mistakes("ports: { LAN: x, a b: y }\nchains: { c: { from: LAN, to: a b } }\n"),
            ["1:10: `LAN` is not a name", "1:18: `a b` is not a name"]
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_one_mistake_not_two() {
        assert_eq!(
            mistakes(
                "ports: { a: { device: \"x${IF}\" } }\nfunctions: { f: { type: \"${T}\" } }\nchains: { c: { from: a, to: a, through: [f] } }\n"
            ),
            [
                "1:25: the environment variable `IF` is not set",
                "2:26: the environment variable `T` is not set"
            ]
        );
    }
}
