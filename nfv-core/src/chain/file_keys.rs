//! The tables of keys of the chain file itself: the file, its ports, its chains.
use super::key::{Key, Names, Need, Shape, Table};
use super::matching::MATCH;

/// The file.
pub(crate) const FILE: Table = Table {
    what: "a chain file",
    groups: &[&[
        Key {
            name: "ports",
            shape: Shape::Map {
                of: "port",
                key: &Shape::Name(Names::New),
                value: &Shape::RecordOr { short: "device", table: &PORT },
            },
            need: Need::Required,
            help: "the ports, by name",
        },
        Key {
            name: "functions",
            shape: Shape::Map {
                of: "function",
                key: &Shape::Name(Names::New),
                value: &Shape::Function,
            },
            need: Need::Optional,
            help: "the network functions, by name",
        },
        Key {
            name: "chains",
            shape: Shape::Map {
                of: "chain",
                key: &Shape::Name(Names::New),
                value: &Shape::Record(&CHAIN),
            },
            need: Need::Required,
            help: "the chains, by name; a packet takes the first one that matches",
        },
        Key {
            name: "flows",
            shape: Shape::Record(&FLOWS),
            need: Need::Optional,
            help: "what flows may take, and how long they live",
        },
        Key {
            name: "workers",
            shape: Shape::Record(&WORKERS),
            need: Need::Optional,
            help: "how workers share the work",
        },
    ]],
};

/// How workers share the work.
pub(crate) const WORKERS: Table = Table {
    what: "the settings of workers",
    groups: &[&[
        Key {
            name: "balance",
            shape: Shape::Flag,
            need: Need::Default("true"),
            help: "move shards of flows from a worker that is more than 85 % busy to one that is less than 60 % busy",
        },
        Key {
            name: "idle",
            shape: Shape::Choice(&["poll", "pause", "interrupt"]),
            need: Need::Default("pause"),
            help: "what a worker does when nothing has come for a millisecond: poll on, look every 60 us, or sleep until a device wakes it",
        },
        Key {
            name: "check-tags",
            shape: Shape::Integer { min: 0, max: 1_000_000_000 },
            need: Need::Default("1024"),
            help: "of so many packets of a port whose NIC has rules, look at the tag of one; 0: of none",
        },
    ]],
};

/// What flows may take.
pub(crate) const FLOWS: Table = Table {
    what: "the limits of flows",
    groups: &[&[
        Key {
            name: "max",
            shape: Shape::Integer { min: 1, max: 1_000_000_000 },
            need: Need::Default("1048576"),
            help: "most flows at a time, of all workers together; 150 bytes each, taken as they come",
        },
        Key {
            name: "full",
            shape: Shape::Choice(&["refuse", "evict"]),
            need: Need::Default("evict"),
            help: "when there is no room: refuse new flows, or evict the oldest that is not established",
        },
        Key {
            name: "tcp-established",
            shape: Shape::Duration,
            need: Need::Default("5d"),
            help: "how long an established TCP connection lives without a packet",
        },
        Key {
            name: "udp",
            shape: Shape::Duration,
            need: Need::Default("300s"),
            help: "the same of a UDP flow that was answered",
        },
        Key {
            name: "udp-unreplied",
            shape: Shape::Duration,
            need: Need::Default("30s"),
            help: "the same of a UDP flow that was not answered",
        },
        Key {
            name: "icmp",
            shape: Shape::Duration,
            need: Need::Default("30s"),
            help: "the same of ICMP queries",
        },
        Key {
            name: "other",
            shape: Shape::Duration,
            need: Need::Default("600s"),
            help: "the same of any other protocol",
        },
    ]],
};

/// A port.
pub(crate) const PORT: Table = Table {
    what: "a port",
    groups: &[&[
        Key {
            name: "device",
            shape: Shape::Text,
            need: Need::Required,
            help: "a PCI address, a DPDK vdev with its arguments, or the name of a device given in the EAL options",
        },
        Key {
            name: "mode",
            shape: Shape::Choice(&["transparent", "routed"]),
            need: Need::Default("transparent"),
            help: "bump in the wire, or an interface of a router",
        },
        Key {
            name: "zone",
            shape: Shape::Name(Names::New),
            need: Need::Optional,
            help: "the zone that it is in: an address is another host's in each; ports without one are in one together",
        },
        Key {
            name: "addresses",
            shape: Shape::OneOrMany(&Shape::Interface),
            need: Need::Optional,
            help: "the port's own addresses with their prefix lengths; routed ports only",
        },
        Key {
            name: "mac",
            shape: Shape::Mac,
            need: Need::Optional,
            help: "the MAC address to set; without it the device's own",
        },
        Key {
            name: "mtu",
            shape: Shape::Integer { min: 68, max: 9600 },
            need: Need::Optional,
            help: "the MTU to set; without it the device's own",
        },
        Key {
            name: "promiscuous",
            shape: Shape::Flag,
            need: Need::Optional,
            help: "receive frames for other stations; without it true for a transparent port, false for a routed one",
        },
        Key {
            name: "offload",
            shape: Shape::Flag,
            need: Need::Default("true"),
            help: "give the NIC rules that tag, steer and drop packets, as far as it takes any",
        },
        Key {
            name: "rx-descriptors",
            shape: Shape::Integer { min: 32, max: 32_768 },
            need: Need::Optional,
            help: "descriptors of each receive queue; without it the driver's preference",
        },
        Key {
            name: "tx-descriptors",
            shape: Shape::Integer { min: 32, max: 32_768 },
            need: Need::Optional,
            help: "descriptors of each transmit queue; without it the driver's preference",
        },
        Key {
            name: "mempool-size",
            shape: Shape::Integer { min: 1024, max: 16_777_216 },
            need: Need::Optional,
            help: "mbufs in the port's pool; without it what its queues need",
        },
        Key {
            name: "link-timeout",
            shape: Shape::Duration,
            need: Need::Default("10s"),
            help: "how long a start waits for the link",
        },
        Key {
            name: "twin",
            shape: Shape::Text,
            need: Need::Optional,
            help: "name of the kernel interface that stands for a routed port; without it the port's name, `none` for no such interface",
        },
        Key {
            name: "neighbours",
            shape: Shape::Map { of: "neighbour", key: &Shape::Address, value: &Shape::Mac },
            need: Need::Optional,
            help: "MAC addresses of neighbours by address, for which nobody is asked; routed ports only",
        },
    ]],
};

/// A chain.
pub(crate) const CHAIN: Table = Table {
    what: "a chain",
    groups: &[&[
        Key {
            name: "from",
            shape: Shape::OneOrMany(&Shape::Name(Names::Port)),
            need: Need::Optional,
            help: "the ports whose packets enter here; without it only exits lead here",
        },
        Key {
            name: "match",
            shape: Shape::OneOrMany(&Shape::Record(&MATCH)),
            need: Need::Optional,
            help: "which packets enter here; without it all; of several, one must match",
        },
        Key {
            name: "through",
            shape: Shape::List(&Shape::Name(Names::Function)),
            need: Need::Optional,
            help: "the functions that packets meet, in order; replies meet them backwards",
        },
        Key {
            name: "to",
            shape: Shape::Name(Names::Port),
            need: Need::Optional,
            help: "the port at the end; may be left out where a function picks it",
        },
        Key {
            name: "oneway",
            shape: Shape::Flag,
            need: Need::Default("false"),
            help: "replies do not take this chain backwards",
        },
        Key {
            name: "on",
            shape: Shape::Map { of: "exit", key: &Shape::Text, value: &Shape::Name(Names::Chain) },
            need: Need::Optional,
            help: "named exits of the functions, and the chains that they lead to",
        },
    ]],
};

#[cfg(test)]
mod tests {
    use super::super::key::check_keys;
    use super::*;

    #[test]
    fn the_tables_of_the_chain_file_are_sound() {
        assert_eq!(check_keys(FILE.keys()), Ok(()));
    }
}
