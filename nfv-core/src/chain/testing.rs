//! What the tests of the chain file share: types of functions, and a file without mistakes.
use std::sync::Arc;

use super::key::{FunctionType, Key, Names, Need, Shape, Table};
use super::matching::{HEADER_KEYS, MATCH};
use super::report::{Entry, Report};
use super::source::Source;
use super::spec::ChainFile;

/// Reads `edge.yaml`, with no variable set.
pub(crate) fn read(text: &str) -> (Option<ChainFile>, Report) {
    let source = Arc::new(Source::from_bytes("edge.yaml", text.into()).unwrap());
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, FUNCTIONS, &mut report);
    (file, report)
}

/// What is wrong with a chain file: `line:column: message`.
pub(crate) fn mistakes(text: &str) -> Vec<String> {
    shown(&read(text).1)
}

/// The entries of a report: `line:column: message`.
pub(crate) fn shown(report: &Report) -> Vec<String> {
    let show = |e: &&Entry| format!("{}:{}: {}", e.span().line, e.span().column, e.message());
    report.entries().iter().map(show).collect()
}

const RULE: Table = Table {
    what: "a firewall rule",
    groups: &[
        &[
            Key {
                name: "allow",
                shape: Shape::OneOrMany(&Shape::Protocol),
                need: Need::Optional,
                help: "let packets of these protocols pass",
            },
            Key {
                name: "deny",
                shape: Shape::OneOrMany(&Shape::Protocol),
                need: Need::Optional,
                help: "drop packets of these protocols",
            },
        ],
        HEADER_KEYS,
    ],
};

/// Types of functions such as there are, for tests only.
pub(crate) const FUNCTIONS: &[FunctionType] = &[
    FunctionType {
        name: "firewall",
        keys: &[
            Key {
                name: "default",
                shape: Shape::Choice(&["allow", "deny"]),
                need: Need::Default("deny"),
                help: "what happens to a packet that no rule matches",
            },
            Key {
                name: "rules",
                shape: Shape::List(&Shape::Record(&RULE)),
                need: Need::Optional,
                help: "the rules; the first that matches decides",
            },
        ],
    },
    FunctionType {
        name: "ratelimit",
        keys: &[
            Key { name: "rate", shape: Shape::Rate, need: Need::Required, help: "the rate" },
            Key {
                name: "burst",
                shape: Shape::Size,
                need: Need::Default("64KiB"),
                help: "the size of the bucket",
            },
            Key {
                name: "idle",
                shape: Shape::Duration,
                need: Need::Default("30s"),
                help: "after which a bucket is forgotten",
            },
        ],
    },
    FunctionType {
        name: "mirror",
        keys: &[
            Key {
                name: "to",
                shape: Shape::Name(Names::Port),
                need: Need::Required,
                help: "the port that gets the copies",
            },
            Key {
                name: "match",
                shape: Shape::OneOrMany(&Shape::Record(&MATCH)),
                need: Need::Optional,
                help: "which packets are copied",
            },
        ],
    },
];

/// A chain file that uses every key, and has no mistake.
pub(crate) const GATEWAY: &str = r#"%YAML 1.2
---
ports:
  lan: { device: "0000:03:02.0", promiscuous: true, rx-descriptors: 1024, tx-descriptors: 512 }
  wan:
    device: net_af_packet0,iface=${WAN_IF:-wan0}
    mode: routed
    addresses: [203.0.113.2/24, "2001:db8::2/64"]
    mac: 02:00:00:00:00:01
    mtu: "${MTU:-1500}"
    mempool-size: 8192
    link-timeout: 250ms
    twin: wan-k
    neighbours: { 203.0.113.1: "02:00:00:00:00:fe" }
  tap: { device: net_tap0, zone: watch }
functions:
  edge:
    type: firewall
    default: deny
    rules:
      - { allow: tcp, dport: [80, 443, 8000-8010], src: &inside [10.0.0.0/8] }
      - { allow: udp, dport: 53, dst: "2001:db8::53" }
      - { allow: icmp, icmp-type: echo-request, in-port: lan }
      - { deny: [tcp, 47], src: *inside }
  limit: { type: ratelimit, rate: 10kpps }
  spy: { type: mirror, to: tap, match: { vlan: [1, 2], family: ipv4, flags: "syn,!ack" } }
chains:
  outbound:
    from: [lan]
    match: [{ src: 10.0.0.0/8, protocol: [tcp, udp] }, { icmp-type: 8, protocol: icmp }]
    through: [edge, limit]
    to: wan
    on: { suspicious: quarantine }
  quarantine: { through: [spy], to: wan, oneway: true }
"#;
