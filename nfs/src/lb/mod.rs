//! `lb`: shares the flows to a virtual address out among backends.
//!
//! ```text
//!     in ---->[ lb ]----> next      kind: flow NF, keeps flows
//!
//! Keys   virtual     required  the virtual address, or a list
//!        port        any       the service's port, or a range; without it all ports
//!        protocol    tcp       `tcp` | `udp` | `quic`: UDP whose flows are known by their connection ids too
//!        backends    required  a list of `{address: 10.2.0.11}`, each with
//!                                name       its address   what handles, logs and counters call it
//!                                port       the packet's  its own port, in mode `dnat` and for checks
//!                                weight     1             its part of new flows; 0: none, as if drained
//!                                mac        none          its station on the link; `dsr` needs it
//!                                server-id  none          the id by which QUIC connections name it
//!        mode        dnat      `dnat`: to the backend's address, answers come back through the chain
//!                              `dsr`: to the backend's station, which has the virtual address too and answers directly
//!                              `ipip`, `gue`: in a tunnel to the backend, which answers directly
//!        affinity    none      `source`: all flows of a source address to one backend
//!        table-size  65537     slots of the table: 251 509 1021 2039 4093 8191 16381 32749 65537 131071
//!        health      none      checks: `{kind: tcp}` or `{kind: http, path: /health}`, and
//!                                port       the backend's where to ask
//!                                host       its address   HTTP's virtual host
//!                                statuses   200-399       the answers that are right
//!                                interval   2s            how often
//!                                timeout    1s            how long an answer may take
//!                                rise       2             right answers in a row after which it is up
//!                                fall       3             wrong ones after which it is down
//!        from        none      the tunnels' near end, an address of the box; one of each family that backends have
//!        gue-port    6080      the tunnels' UDP port
//!        quic        none      `{server-id-length: 1}`, 1 to 8 bytes, and `rotation: 0`, of the connection ids
//!        seed        none      a text by which flows are spread; boxes that share a virtual address have the same one
//! Handles backends             of each its name, state (`up`, `draining`, `down`), weight and flows
//!        drain (rw)            a name: it keeps its flows and gets no new ones
//!        enable (rw)           a name: it is drained no longer
//! Drops  no_backend            all are down or drained; the sender is told (ICMP: host unreachable)
//! Counts each backend's packets and bytes, as rules
//! Cost   of a flow's first packet a keyed hash and one slot; of later ones nothing besides the flow's own
//! State  4 B a flow, which is the same after a reload; 128 KiB a function
//! Source Maglev, NSDI 2016; Ananta, SIGCOMM 2013; Katran
//! ```
//!
//! It works in the chain's direction, on packets to the virtual address and port; all others pass. Behind it in the chain
//! belongs a `route` that finds the backend, or the tunnel's other end; with `dsr` the chain's `to` is the backends' link.
//! Nobody answers ARP for a virtual address: what comes in has to be routed to the box.
//!
//! A flow keeps its backend as long as that is up, drained or not. New flows are spread by a hash with a secret, so that
//! nobody can aim them at one backend; of N backends one that fails moves its own flows and at most 1 % of new ones
//! besides (`maglev.rs`). A flow whose backend is down goes to another, which will reset a TCP connection that it does not
//! know. Before the first check a backend is taken for up. Checks are made by the box's kernel to the backend's own address,
//! in all modes.
//!
//! A QUIC packet of no known flow, as its client's address changed, goes to the backend whose `server-id` its connection
//! id has (QUIC-LB, without a key); when none has it, by its hash.
//!
//! With `dsr`, `ipip` and `gue` the box sees one side of a flow only. A TCP connection is then taken for established when
//! its sender says so, and may still make room for others when there are too many flows. What becomes longer than the MTU
//! by a tunnel's header is dropped, and the sender told. Time to live counts a tunnel as one hop. A backend takes GUE's
//! variant 1: in Linux `ip fou add port 6080 gue` and `ip link add t0 type ipip external`, and IPIP without the first.

use std::hash::Hasher;
use std::sync::Arc;

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::value::PortRange;
use nfv_core::nf::{
    Answer, Decision, Direction, Endpoint, FlowNf, FlowStage, FlowView, Forward, Kind, Named,
    Profile, Reason, Rewrite, Shard,
};
use nfv_core::packet::{AddressBytes, Headers, IcmpError, L3};
use siphasher::sip::SipHasher13;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod backends;
mod build;
mod health;
mod maglev;
mod quic;

use self::backends::{Backend, Backends, Port, Way};
use self::quic::{PlaintextConfig, Quic, server_id};

/// The type of NF `lb`.
pub const KIND: Kind = Kind {
    name: "lb",
    profile: Profile {
        reads_payload: true,
        writes: true,
        drops: true,
        creates: false,
        routes: false,
    },
    keys: &[
        Key {
            name: "virtual",
            shape: Shape::OneOrMany(&Shape::Address),
            need: Need::Required,
            help: "the virtual address, or a list",
        },
        Key {
            name: "port",
            shape: Shape::L4Ports,
            need: Need::Optional,
            help: "the service's port, or a range; without it all ports",
        },
        Key {
            name: "protocol",
            shape: Shape::Choice(&["tcp", "udp", "quic"]),
            need: Need::Default("tcp"),
            help: "what is shared out; `quic` is UDP with connection ids",
        },
        Key {
            name: "backends",
            shape: Shape::List(&Shape::Record(&BACKEND)),
            need: Need::Required,
            help: "who serves",
        },
        Key {
            name: "mode",
            shape: Shape::Choice(&["dnat", "dsr", "ipip", "gue"]),
            need: Need::Default("dnat"),
            help: "how packets reach a backend",
        },
        Key {
            name: "affinity",
            shape: Shape::Choice(&["none", "source"]),
            need: Need::Default("none"),
            help: "what has to be the same for flows to go to one backend",
        },
        Key {
            name: "table-size",
            shape: Shape::Integer { min: 251, max: 131_071 },
            need: Need::Default("65537"),
            help: "slots of the table: a prime, a hundred times the backends",
        },
        Key {
            name: "health",
            shape: Shape::Record(&HEALTH),
            need: Need::Optional,
            help: "how backends are checked; without it all are up",
        },
        Key {
            name: "from",
            shape: Shape::OneOrMany(&Shape::Address),
            need: Need::Optional,
            help: "the near end of tunnels, an address of the box; one of each family",
        },
        Key {
            name: "gue-port",
            shape: Shape::Integer { min: 1, max: 65_535 },
            need: Need::Default("6080"),
            help: "the UDP port of tunnels in mode `gue`",
        },
        Key {
            name: "quic",
            shape: Shape::Record(&QUIC),
            need: Need::Optional,
            help: "how connection ids name their backend",
        },
        Key {
            name: "seed",
            shape: Shape::Text,
            need: Need::Optional,
            help: "by what flows are spread; boxes that share a virtual address have the same",
        },
    ],
    drops: &[Named { name: "no_backend", help: "all backends are down or drained" }],
    answers: &[(NO_BACKEND, Answer::Icmp(IcmpError::HostUnreachable))],
    counters: &[],
    source: include_str!("mod.rs"),
    build: build::build,
};

const NO_BACKEND: Reason = Reason(0);

const BACKEND: Table = Table {
    what: "a backend",
    groups: &[&[
        Key {
            name: "address",
            shape: Shape::Address,
            need: Need::Required,
            help: "its own address",
        },
        Key {
            name: "port",
            shape: Shape::Integer { min: 1, max: 65_535 },
            need: Need::Optional,
            help: "its own port, when it is another than the service's",
        },
        Key {
            name: "name",
            shape: Shape::Text,
            need: Need::Optional,
            help: "what to call it; without one its address",
        },
        Key {
            name: "weight",
            shape: Shape::Integer { min: 0, max: 65_535 },
            need: Need::Default("1"),
            help: "its part of new flows; 0: none",
        },
        Key {
            name: "mac",
            shape: Shape::Mac,
            need: Need::Optional,
            help: "its station on the link where the chain ends",
        },
        Key {
            name: "server-id",
            shape: Shape::Integer { min: 0, max: u64::MAX },
            need: Need::Optional,
            help: "by what QUIC connection ids name it",
        },
    ]],
};

const HEALTH: Table = Table {
    what: "a health check",
    groups: &[&[
        Key {
            name: "kind",
            shape: Shape::Choice(&["tcp", "http"]),
            need: Need::Default("tcp"),
            help: "a connection, or a GET request",
        },
        Key {
            name: "path",
            shape: Shape::Text,
            need: Need::Default("/"),
            help: "what HTTP asks for",
        },
        Key {
            name: "host",
            shape: Shape::Text,
            need: Need::Optional,
            help: "HTTP's virtual host; without one the backend's address",
        },
        Key {
            name: "port",
            shape: Shape::Integer { min: 1, max: 65_535 },
            need: Need::Optional,
            help: "where to ask; without it the backend's port, or the service's",
        },
        Key {
            name: "statuses",
            shape: Shape::Text,
            need: Need::Default("200-399"),
            help: "the answers that are right, `200-299,301`",
        },
        Key {
            name: "interval",
            shape: Shape::Duration,
            need: Need::Default("2s"),
            help: "how often",
        },
        Key {
            name: "timeout",
            shape: Shape::Duration,
            need: Need::Default("1s"),
            help: "how long an answer may take; less than the interval",
        },
        Key {
            name: "rise",
            shape: Shape::Integer { min: 1, max: 1000 },
            need: Need::Default("2"),
            help: "right answers in a row after which it is up",
        },
        Key {
            name: "fall",
            shape: Shape::Integer { min: 1, max: 1000 },
            need: Need::Default("3"),
            help: "wrong answers in a row after which it is down",
        },
    ]],
};

const QUIC: Table = Table {
    what: "QUIC's connection ids",
    groups: &[&[
        Key {
            name: "server-id-length",
            shape: Shape::Integer { min: 1, max: 8 },
            need: Need::Required,
            help: "bytes of the server id, behind the first byte",
        },
        Key {
            name: "rotation",
            shape: Shape::Integer { min: 0, max: 6 },
            need: Need::Default("0"),
            help: "the first three bits of connection ids that have one",
        },
    ]],
};

/// A service: what all workers share.
#[derive(Debug)]
struct Lb {
    service: Service,
    affinity: Affinity,
    /// Of QUIC, how its connection ids name a backend.
    ids: Option<PlaintextConfig>,
    key: [u64; 2],
    backends: Arc<Backends>,
}

/// Packets to these ends are shared out.
#[derive(Debug)]
struct Service {
    addresses: Box<[(L3, AddressBytes)]>,
    ports: PortRange,
    protocol: u8,
}

impl Service {
    #[inline]
    fn has(&self, h: &Headers) -> bool {
        h.protocol == self.protocol
            && (self.ports.first()..=self.ports.last()).contains(&h.dport)
            && self.addresses.contains(&(h.kind, h.dst))
    }
}

/// What has to be the same for flows to go to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    None,
    Source,
}

/// What is kept with a flow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Kept {
    /// [`Backend::id`]; 0: none.
    backend: u32,
}

impl FlowNf for Lb {
    type Slice = ();
    type Flow = Kept;

    fn slice(&self, _: Shard) {}

    fn decide(&self, flow: &FlowView<'_>, _: u32, kept: &mut Kept, (): &mut ()) -> Decision {
        if flow.direction != Direction::Forward
            || flow.state == FlowStage::Packet
            || !self.service.has(flow.headers)
        {
            return Decision::PASS;
        }
        let held = self.backends.of_id(kept.backend).filter(|(_, backend)| backend.is_up());
        let Some((at, backend)) = held.or_else(|| self.choose(flow)) else {
            return Decision::Drop { why: NO_BACKEND, rule: None };
        };
        if kept.backend != backend.id {
            self.release(kept, &mut (), flow.now);
            backend.take();
            kept.backend = backend.id;
        }
        Decision::Forward(forward(at, backend, flow.headers.dport))
    }

    fn release(&self, kept: &Kept, (): &mut (), _: nfv_core::clock::Time) {
        if let Some((_, backend)) = self.backends.of_id(kept.backend) {
            backend.give_back();
        }
    }
}

impl Lb {
    /// The backend of a new flow.
    fn choose(&self, flow: &FlowView<'_>) -> Option<(u16, &Backend)> {
        let named = self.ids.and_then(|config| self.named(&config, flow.upper));
        named.or_else(|| self.backends.pick(self.hash(flow.headers)))
    }

    /// The backend that a QUIC packet names.
    fn named(&self, config: &PlaintextConfig, udp: &[u8]) -> Option<(u16, &Backend)> {
        let id = Quic::read(udp.get(8..)?)?.dcid(config.length + 1)?;
        let server = server_id(id, config)?;
        self.backends.of_server(server).filter(|(_, backend)| backend.is_up())
    }

    /// By a key that nobody outside knows, or that all boxes share.
    fn hash(&self, h: &Headers) -> u32 {
        let [k0, k1] = self.key;
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hasher.write(&h.src.0);
        if self.affinity == Affinity::None {
            hasher.write(&h.dst.0);
            let ports = u32::from(h.sport) << 16 | u32::from(h.dport);
            hasher.write_u64(u64::from(ports) << 8 | u64::from(h.protocol));
        }
        (hasher.finish() >> 32) as u32
    }
}

/// What becomes of the packets of a flow to a backend.
fn forward(at: u16, backend: &Backend, dport: u16) -> Forward {
    let rule = Some(u32::from(at));
    match backend.member.way {
        Way::Address { end, port } => {
            let dst = match port {
                Port::Own => end,
                Port::Same => Endpoint { port: dport, ..end },
            };
            let rewrite = Rewrite { src: None, dst: Some(dst) };
            Forward { rule, rewrite, ..Forward::AS_IT_IS }
        }
        Way::Via(via) => Forward { rule, via, ..Forward::AS_IT_IS },
    }
}

#[cfg(test)]
mod tests;
