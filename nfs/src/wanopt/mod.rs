//! `wanopt`: what leaves for another site is made smaller by a box at each end, and comes out there as it was.
//!
//! ```text
//!     hosts ---->[ wanopt ]====> slow link ====>[ wanopt ]----> hosts      kind: packet NF
//!
//! Keys   local     required  this box's address between the boxes; no host needs to have it
//!        peers     required  the other boxes, each with
//!                  name      how `nfv ctl` calls it
//!                  address   its `local`
//!                  prefixes  the networks behind it: packets to them are encoded; the longest prefix that fits
//!                  store     none: `{ folder: PATH, size: 20GiB }`: what was seen is in files, over restarts, and
//!                            `size` stands in place of `memory`
//!        memory    256MiB    of each side of each peer: what was sent, and what came; 1MiB to 64GiB
//!        exclude   none      one match or a list; packets that meet one go as they are
//!        compress  auto      `auto`: zstd, and LZ4 while a worker is behind | `best`: zstd | `fast`: LZ4
//!        level     3         zstd's, 1 to 9
//!        recover   off       `off` | `tcp` | `all`: of what is encoded, what is sent again when the link loses it
//!        coalesce  none      small messages wait for each other and go in one datagram
//!                  delay     required  how long, at most; up to 100ms
//!                  mtu       1280      bytes of it, at most: what the path carries; 576 to 1500
//!        over      udp       `udp` | `ip`: in what messages travel
//!        port      8047      UDP's, of both boxes
//!        protocol  253       IP's protocol number
//!        key-file  none      32 hexadecimal digits, the same in both boxes: messages of others count for nothing
//!        encrypt   no        `yes`: messages are encrypted, in both boxes; needs `key-file`
//! Drops  undecodable         a message that does not come out: damaged, or not the peer's; the sender sends again
//!        stale               a message of before one of the boxes began anew
//!        missing             a message that refers to what is not there any more
//!        stranger            a message for this box from an address that is no peer's
//!        cut                 a fragment of a message
//!        no_room             what came out does not fit a buffer
//!        congested           congestion was met by a packet whose sender does not know such marks
//!        repeated            a message that came already, where what gets lost is sent again or there is a key
//! Handles encoding (rw)      `on` | `off`: packets go as they are; what comes is decoded
//!         peers (r)          a line for each peer: bytes, what is left of a hundred, what did not come out
//! Counts encoded_packets     packets that became messages
//!        encoded_bytes       bytes of those packets
//!        message_bytes       bytes of those messages with their headers
//!        copied_bytes        bytes of those packets that were references
//!        plain_packets       packets to a peer's networks that went as they are
//!        plain_bytes         bytes of those
//!        decoded_packets     packets that came out
//!        decoded_bytes       bytes of those
//!        hello_messages      hellos sent and received
//!        report_messages     reports sent and received
//!        waited_packets      packets that waited for those before them
//!        resent_messages     messages sent again
//!        ask_messages        questions for messages that are missing
//!        coalesced_packets   packets whose messages went with others' in one datagram
//! ```
//!
//! A chain of a box leads from its site to the link, with `wanopt` in it; answers come by the same chain. The peer's
//! prefixes say what is encoded, the addresses and port of a message what is decoded, whichever way it goes.
//!
//! Nothing is referred to that the other box has not said to have, and each packet that comes out is compared with a
//! digest of what went in: docs/wanopt.md has the protocol, and what loss, reordering and restarts do to it. A packet that
//! would not become shorter goes as it is, so that none is ever longer than it was; fragments, and what is neither TCP nor
//! UDP, always do. DSCP and ECN are carried, and "don't fragment".
//!
//! Without `key-file` a box believes whoever has the peer's address, the port and the epochs; with it only who has the
//! key, and a packet that is recorded and sent again comes out once. With `encrypt` messages are encrypted besides, by
//! XChaCha20-Poly1305; what goes as it is is not, and who must not be read should take a VPN. When a peer does not answer
//! for three seconds packets go as they are until it does.
//!
//! With `recover` the link's loss is hidden from the hosts' TCP: what is missing is asked for, and what came behind it of the
//! same flow waits for a round trip and 10 ms at most, with up to 1,024 packets of a peer's worker: a port's `mempool-size`
//! must have room for them. One in 16 messages is sent again at most, so that TCP still sees a link that is full. What goes
//! as it is takes no part, and may overtake.
//!
//! With `coalesce` a message waits for others up to `delay`, and those of one class that are between the same stations go
//! in one datagram: what was seen before is sent in three bytes of a hundred, and TCP's acknowledgements are made shorter,
//! too. A datagram is never longer than `mtu` nor than the packets that come out of it; what waits keeps the order.
//!
//! With `store` a box that starts again goes on with what it had, if its peer has, too. Files are locked, read and compared
//! at the start, some 2 s for a GiB in memory already, and packets go as they are until then. An eighth of `size` is
//! needed in memory besides; what of the files does not fit there is read from the disk when it is referred to, and the
//! worker waits. A file that is damaged, or open when the machine stopped, is begun anew, with a line in the log.
//!
//! Several workers share `memory`; each has an encoder of its own. What comes out of messages then is not spread over the
//! workers by its own flows: functions that keep flows belong into another box, or with one worker into the same.

mod anchors;
mod arrives;
mod build;
pub mod bundle;
mod cipher;
mod coalesce;
pub mod codec;
mod counts;
pub mod decoder;
pub mod encoder;
mod ends;
mod flows;
mod frame;
mod header;
mod keeper;
mod leaves;
mod log;
mod order;
mod outer;
mod records;
mod resend;
pub mod seal;
mod settings;
#[cfg(test)]
mod speed;
mod store;
mod talk;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;
mod wire;

use nfv_core::chain::key::{Key, Names, Need, Shape, Table};
use nfv_core::dispatch::Selection;
use nfv_core::nf::{Kind, Named, Profile};

/// The type of NF `wanopt`.
pub const KIND: Kind = Kind {
    name: "wanopt",
    profile: Profile {
        reads_payload: true,
        writes: true,
        drops: true,
        creates: true,
        routes: false,
    },
    keys: &[
        Key {
            name: "local",
            shape: Shape::Address,
            need: Need::Required,
            help: "this box's address between the boxes; no host needs to have it",
        },
        Key {
            name: "peers",
            shape: Shape::List(&Shape::Record(&PEER)),
            need: Need::Required,
            help: "the other boxes",
        },
        Key {
            name: "memory",
            shape: Shape::Size,
            need: Need::Default("256MiB"),
            help: "of each side of each peer: what was sent, and what came; 1MiB to 64GiB",
        },
        Key {
            name: "exclude",
            shape: Selection::KEY.shape,
            need: Need::Optional,
            help: "one match or a list; packets that meet one go as they are",
        },
        Key {
            name: "compress",
            shape: Shape::Choice(&["auto", "best", "fast"]),
            need: Need::Default("auto"),
            help: "zstd, and LZ4 while a worker is behind; zstd; or LZ4",
        },
        Key {
            name: "level",
            shape: Shape::Integer { min: 1, max: 9 },
            need: Need::Default("3"),
            help: "zstd's",
        },
        Key {
            name: "recover",
            shape: Shape::Choice(&["off", "tcp", "all"]),
            need: Need::Default("off"),
            help: "of what is encoded, what is sent again when the link loses it",
        },
        Key {
            name: "coalesce",
            shape: Shape::Record(&COALESCE),
            need: Need::Optional,
            help: "small messages wait for each other and go in one datagram",
        },
        Key {
            name: "over",
            shape: Shape::Choice(&["udp", "ip"]),
            need: Need::Default("udp"),
            help: "in what messages travel",
        },
        Key {
            name: "port",
            shape: Shape::Integer { min: 1, max: 65_519 },
            need: Need::Default("8047"),
            help: "UDP's, of both boxes",
        },
        Key {
            name: "protocol",
            shape: Shape::Integer { min: 143, max: 254 },
            need: Need::Default("253"),
            help: "IP's protocol number",
        },
        Key {
            name: "key-file",
            shape: Shape::Text,
            need: Need::Optional,
            help: "32 hexadecimal digits, the same in both boxes",
        },
        Key {
            name: "encrypt",
            shape: Shape::Choice(&["no", "yes"]),
            need: Need::Default("no"),
            help: "messages are encrypted, in both boxes; needs `key-file`",
        },
    ],
    drops: &[
        Named { name: "undecodable", help: "a message that does not come out" },
        Named { name: "stale", help: "a message of before one of the boxes began anew" },
        Named { name: "missing", help: "a message that refers to what is not there any more" },
        Named { name: "stranger", help: "a message from an address that is no peer's" },
        Named { name: "cut", help: "a fragment of a message" },
        Named { name: "no_room", help: "what came out does not fit a buffer" },
        Named { name: "congested", help: "congestion was met, and the sender takes no marks" },
        Named { name: "repeated", help: "a message that came already" },
    ],
    answers: &[],
    counters: &[
        Named { name: "encoded_packets", help: "packets that became messages" },
        Named { name: "encoded_bytes", help: "bytes of those packets" },
        Named { name: "message_bytes", help: "bytes of those messages with their headers" },
        Named { name: "copied_bytes", help: "bytes of those packets that were references" },
        Named { name: "plain_packets", help: "packets to a peer that went as they are" },
        Named { name: "plain_bytes", help: "bytes of those" },
        Named { name: "decoded_packets", help: "packets that came out" },
        Named { name: "decoded_bytes", help: "bytes of those" },
        Named { name: "hello_messages", help: "hellos sent and received" },
        Named { name: "report_messages", help: "reports sent and received" },
        Named { name: "waited_packets", help: "packets that waited for those before them" },
        Named { name: "resent_messages", help: "messages sent again" },
        Named { name: "ask_messages", help: "questions for messages that are missing" },
        Named { name: "coalesced_packets", help: "packets whose messages went with others'" },
    ],
    source: include_str!("mod.rs"),
    build: build::build,
};

const COALESCE: Table = Table {
    what: "waiting for each other",
    groups: &[&[
        Key {
            name: "delay",
            shape: Shape::Duration,
            need: Need::Required,
            help: "how long messages wait, at most",
        },
        Key {
            name: "mtu",
            shape: Shape::Integer { min: 576, max: 1500 },
            need: Need::Default("1280"),
            help: "bytes of the datagram, at most: what the path carries",
        },
    ]],
};

const PEER: Table = Table {
    what: "a peer",
    groups: &[&[
        Key {
            name: "name",
            shape: Shape::Name(Names::New),
            need: Need::Required,
            help: "how `nfv ctl` calls it",
        },
        Key { name: "address", shape: Shape::Address, need: Need::Required, help: "its `local`" },
        Key {
            name: "prefixes",
            shape: Shape::OneOrMany(&Shape::Prefix),
            need: Need::Required,
            help: "the networks behind it",
        },
        Key {
            name: "store",
            shape: Shape::Record(&STORE),
            need: Need::Optional,
            help: "keeps what was seen in files, over restarts",
        },
    ]],
};

const STORE: Table = Table {
    what: "a store",
    groups: &[&[
        Key {
            name: "folder",
            shape: Shape::Text,
            need: Need::Required,
            help: "that is there, for this function of this box",
        },
        Key {
            name: "size",
            shape: Shape::Size,
            need: Need::Required,
            help: "of each side: what was sent, and what came; 1MiB to 64GiB",
        },
    ]],
};
