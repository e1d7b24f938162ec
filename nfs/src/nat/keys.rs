//! The keys of a nat in the chain file.

use nfv_core::chain::key::{Key, Need, Shape, Table};

use super::shares::{SIZE_MAX, SIZE_MIN};

/// Of the function itself.
pub const KEYS: &[Key] = &[
    Key {
        name: "external",
        shape: Shape::OneOrMany(&Shape::Addresses),
        need: Need::Optional,
        help: "the pool: outside addresses and ranges of them",
    },
    Key {
        name: "internal",
        shape: Shape::OneOrMany(&Shape::Prefix),
        need: Need::Optional,
        help: "prefixes that are inside; if left out, those of RFC 1918 and 100.64.0.0/10",
    },
    Key {
        name: "ports",
        shape: Shape::L4Ports,
        need: Need::Default("1024-65535"),
        help: "outside ports that are given to inside ends",
    },
    Key {
        name: "forwards",
        shape: Shape::List(&Shape::Record(&FORWARD)),
        need: Need::Optional,
        help: "outside ports that lead inside",
    },
    Key {
        name: "one-to-one",
        shape: Shape::List(&Shape::Record(&ONE_TO_ONE)),
        need: Need::Optional,
        help: "addresses that stand for one another with all ports",
    },
    Key {
        name: "prefixes",
        shape: Shape::List(&Shape::Record(&PREFIXES)),
        need: Need::Optional,
        help: "IPv6 prefixes that stand for one another (NPTv6)",
    },
    Key {
        name: "filtering",
        shape: Shape::Choice(&["endpoint-independent", "address-dependent", "address-and-port"]),
        need: Need::Default("address-and-port"),
        help: "whose new flows to a mapping are let in",
    },
    Key {
        name: "pooling",
        shape: Shape::Choice(&["paired", "arbitrary"]),
        need: Need::Default("paired"),
        help: "whether an inside address may have more than one outside address",
    },
    Key {
        name: "hairpin",
        shape: Shape::Choice(&["on", "off"]),
        need: Need::Default("on"),
        help: "whether inside hosts reach one another by outside addresses",
    },
    Key {
        name: "subscriber-ports",
        shape: Shape::Integer { min: SIZE_MIN, max: SIZE_MAX },
        need: Need::Optional,
        help: "give inside addresses ranges of so many ports, a power of two",
    },
    Key {
        name: "subscriber-ranges",
        shape: Shape::Integer { min: 1, max: 256 },
        need: Need::Default("4"),
        help: "most ranges of an inside address; with `subscriber-ports`",
    },
    Key {
        name: "deterministic",
        shape: Shape::Flag,
        need: Need::Default("false"),
        help: "ranges follow from inside addresses (RFC 7422); with `subscriber-ports`",
    },
    Key {
        name: "subscriber-sessions",
        shape: Shape::Integer { min: 1, max: 1_000_000_000 },
        need: Need::Optional,
        help: "most flows of an inside address at a time",
    },
    Key {
        name: "log",
        shape: Shape::Text,
        need: Need::Optional,
        help: "a file to which a line is added for each range that is given or comes back",
    },
];

const FORWARD: Table = Table {
    what: "a forward",
    groups: &[&[
        Key {
            name: "protocol",
            shape: Shape::OneOrMany(&Shape::Choice(&["tcp", "udp"])),
            need: Need::Default("tcp"),
            help: "`tcp`, `udp` or both",
        },
        Key {
            name: "port",
            shape: Shape::L4Ports,
            need: Need::Required,
            help: "the outside port, or a range of them",
        },
        Key { name: "to", shape: Shape::Address, need: Need::Required, help: "the inside address" },
        Key {
            name: "to-port",
            shape: Shape::Integer { min: 1, max: 65_535 },
            need: Need::Optional,
            help: "the inside port, the first one of a range; if left out, the outside port",
        },
        Key {
            name: "external",
            shape: Shape::Address,
            need: Need::Optional,
            help: "the outside address; if left out, all of the pool",
        },
    ]],
};

const ONE_TO_ONE: Table = Table {
    what: "a one-to-one address",
    groups: &[&[
        Key {
            name: "external",
            shape: Shape::Addresses,
            need: Need::Required,
            help: "the outside address, or a range of them",
        },
        Key {
            name: "internal",
            shape: Shape::Addresses,
            need: Need::Required,
            help: "the inside address, or a range of as many",
        },
    ]],
};

const PREFIXES: Table = Table {
    what: "a pair of prefixes",
    groups: &[&[
        Key {
            name: "internal",
            shape: Shape::Prefix,
            need: Need::Required,
            help: "the inside prefix, of IPv6, at most /64",
        },
        Key {
            name: "external",
            shape: Shape::Prefix,
            need: Need::Required,
            help: "the outside prefix, of the same length",
        },
    ]],
};
