//! What an `ids` of the chain file may say.

use nfv_core::chain::key::{Key, Need, Shape, Table};

/// The keys of an `ids`.
pub const KEYS: &[Key] = &[
    Key {
        name: "rules",
        shape: Shape::OneOrMany(&Shape::Text),
        need: Need::Optional,
        help: "files of rules in the language of Suricata and Snort",
    },
    Key {
        name: "mode",
        shape: Shape::Choice(&["inline", "passive"]),
        need: Need::Default("inline"),
        help: "whether rules drop packets, or look at copies beside the chain",
    },
    Key {
        name: "analyser-cpu",
        shape: Shape::Integer { min: 0, max: 1023 },
        need: Need::Optional,
        help: "passive: the CPU of the analyser's thread; without it, that of the main lcore",
    },
    Key {
        name: "vars",
        shape: Shape::Record(&Table { what: "the variables of rules", groups: &[VARS] }),
        need: Need::Optional,
        help: "what `$HOME_NET` and its like stand for, over those of `suricata-yaml`",
    },
    Key {
        name: "suricata-yaml",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a suricata.yaml: its vars, stream, defrag, app-layer, host-os-policy and eve-log count",
    },
    Key {
        name: "suricata-set",
        shape: Shape::Map { of: "path", key: &Shape::Text, value: &Shape::Text },
        need: Need::Optional,
        help: "words by path over those of the suricata.yaml, as its `--set PATH=WORD`",
    },
    Key {
        name: "classification",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a classification.config; without it, that of Suricata and Snort",
    },
    Key {
        name: "threshold-file",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a threshold.config: limits, suppressions and rate filters over those of the rules",
    },
    Key {
        name: "checksums",
        shape: Shape::Choice(&["check", "ignore"]),
        need: Need::Default("check"),
        help: "whether packets with wrong checksums are left out, as their receivers do",
    },
    Key {
        name: "bypass",
        shape: Shape::Choice(&["on", "off"]),
        need: Need::Default("on"),
        help: "whether flows of which enough was seen pass without being looked at",
    },
    Key {
        name: "stream",
        shape: Shape::Record(&Table { what: "the streams", groups: &[STREAM] }),
        need: Need::Optional,
        help: "how TCP connections are followed",
    },
    Key {
        name: "memory",
        shape: Shape::Record(&Table { what: "the memory of a worker", groups: &[MEMORY] }),
        need: Need::Optional,
        help: "what each worker may take",
    },
    Key {
        name: "log",
        shape: Shape::RecordOr {
            short: "file",
            table: &Table { what: "the log of an ids", groups: &[LOG] },
        },
        need: Need::Optional,
        help: "where EVE records go, and which",
    },
    Key {
        name: "blocklists",
        shape: Shape::List(&Shape::Record(&Table { what: "a blocklist", groups: &[BLOCKLIST] })),
        need: Need::Optional,
        help: "files of addresses, prefixes, ports or domains",
    },
    Key {
        name: "database-cache",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a folder where compiled patterns are kept from run to run",
    },
];

const VARS: &[Key] = &[
    group("address-groups", "addresses by name, such as `HOME_NET: 10.0.0.0/8`"),
    group("port-groups", "ports by name, such as `HTTP_PORTS: [80, 8080]`"),
];

const fn group(name: &'static str, help: &'static str) -> Key {
    let shape =
        Shape::Map { of: "group", key: &Shape::Text, value: &Shape::OneOrMany(&Shape::Text) };
    Key { name, shape, need: Need::Optional, help }
}

const STREAM: &[Key] = &[
    flag("midstream", "whether connections are followed whose beginning was not seen"),
    flag("async-oneside", "whether connections are followed of which one side alone is seen"),
    size("depth", "how far into each direction rules look; `0B`: all of it"),
    Key {
        name: "hosts",
        shape: Shape::Map {
            of: "system",
            key: &Shape::Text,
            value: &Shape::OneOrMany(&Shape::Prefix),
        },
        need: Need::Optional,
        help: "prefixes by their systems' overlap policy, as `host-os-policy`: `{linux: 10.0.0.0/8}`",
    },
];

const MEMORY: &[Key] = &[
    size("flows", "flows and their connections"),
    size("streams", "bytes of streams that wait or are kept"),
    size("applications", "what is known of requests, responses and handshakes"),
    size("fragments", "fragments that wait for others"),
    size("detection", "thresholds, and bits of hosts; of all workers together"),
    size("log", "records that wait for the log's thread"),
];

const LOG: &[Key] = &[
    Key {
        name: "file",
        shape: Shape::Text,
        need: Need::Optional,
        help: "the file at whose end records are written, a JSON object a line",
    },
    Key {
        name: "socket",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a unix stream socket that somebody listens on, instead of a file",
    },
    Key {
        name: "types",
        shape: Shape::List(&Shape::Choice(LOG_TYPES)),
        need: Need::Optional,
        help: "the kinds of records; without it, those of `suricata-yaml`, or all",
    },
    flag("community-id", "whether records have the community flow id"),
    Key {
        name: "community-id-seed",
        shape: Shape::Integer { min: 0, max: 65_535 },
        need: Need::Optional,
        help: "what the community flow id begins with",
    },
    flag("payload", "whether alerts have the payload that they were raised on"),
];

/// Kinds of records.
pub const LOG_TYPES: &[&str] =
    &["alert", "drop", "flow", "http", "dns", "tls", "ssh", "anomaly", "stats"];

const BLOCKLIST: &[Key] = &[
    Key {
        name: "file",
        shape: Shape::Text,
        need: Need::Required,
        help: "an entry a line, up to 1,000,000; `#` or `;` begins a comment",
    },
    Key {
        name: "kind",
        shape: Shape::Choice(&["address", "prefix", "port", "domain"]),
        need: Need::Required,
        help: "what its entries are",
    },
    Key {
        name: "action",
        shape: Shape::Choice(&["drop", "alert"]),
        need: Need::Default("drop"),
        help: "what becomes of a packet that has one",
    },
];

const fn flag(name: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::Flag, need: Need::Optional, help }
}

const fn size(name: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::Size, need: Need::Optional, help }
}

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;

    use super::*;

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KEYS), Ok(()));
    }
}
