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
//!                                snat-ports none          ports of the virtual address for connections that it opens:
//!                                                         `40000-40511`, from a multiple of 8 on, and whole eights
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
//!        snat                  of each backend with `snat-ports` its name, those, and how many flows have one
//! Drops  no_backend            all are down or drained; the sender is told (ICMP: host unreachable)
//!        snat_exhausted        all ports of its backend's range are in use; the backend is told (ICMP: prohibited)
//!        no_mapping            to a port of a backend's range that no flow has
//! Counts each backend's packets and bytes, as rules
//! Cost   of a flow's first packet a keyed hash and one slot; of later ones nothing besides the flow's own
//! State  8 B a flow, which is the same after a reload; 128 KiB a function, 152 more with `snat-ports`
//! Source Maglev, NSDI 2016; Ananta, SIGCOMM 2013, section 3.2.3; Katran
//! ```
//!
//! It works in the chain's direction, on packets to the virtual address and port; others pass, but for those of `snat-ports`
//! (below). Behind it in the chain
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
//!
//! A backend with `snat-ports` opens connections under the virtual address too, the first one of a list. They come from the
//! backends' side, so they have a chain of their own that names the same function: `outbound: { from: wan, through:
//! [ web, router ], to: lan }`. Its TCP and UDP flows and its pings leave with a port (a ping: an identifier) of its range,
//! one each, whatever they lead to, until they end: a TCP connection two minutes after it was closed. To other backends
//! they stay as they are, as do other protocols. A connection to the service itself goes by the box both ways. Ranges of
//! 512 ports and more have ports for answers of all shards, which then come to the worker that has their flow; with
//! shorter ones they may be handed over. A range may be changed by a reload: flows keep their ports.
//!
//! With `dsr`, `ipip` and `gue` a backend puts the virtual address and a port of its range there itself (Linux: `nft add
//! rule ip nat post oif eth0 tcp sport != 80 snat to 192.0.2.80:40000-40511`), as Ananta's do, and its packets go any way
//! but through a chain that keeps flows. What comes to a port of a range goes to its backend the way that all packets do,
//! whether it is up or not: for that no box needs to know the flow.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::matching::Match;
use nfv_core::chain::value::{PortRange, Prefix, Protocol};
use nfv_core::nf::{
    Answer, Decides, Decision, Direction, Endpoint, FlowNf, FlowStage, FlowView, Forward, Kind,
    Named, Profile, Reason, Rewrite, Says, Shard, Via,
};
use nfv_core::packet::{AddressBytes, Headers, IcmpError, L3, protocol};
use siphasher::sip::SipHasher13;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod backends;
mod build;
mod health;
mod maglev;
mod quic;
mod snat;

use self::backends::{Backend, Backends, Port, Way};
use self::quic::{PlaintextConfig, Quic, server_id};
use self::snat::{Held, HeldPort, Outward, Snat};

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
    drops: &[
        Named { name: "no_backend", help: "all backends are down or drained" },
        Named { name: "snat_exhausted", help: "all ports of its backend's range are in use" },
        Named { name: "no_mapping", help: "to a port of a backend's range that no flow has" },
    ],
    answers: &[
        (NO_BACKEND, Answer::Icmp(IcmpError::HostUnreachable)),
        (SNAT_EXHAUSTED, Answer::Icmp(IcmpError::Prohibited)),
    ],
    counters: &[],
    source: include_str!("mod.rs"),
    build: build::build,
};

const NO_BACKEND: Reason = Reason(0);
const SNAT_EXHAUSTED: Reason = Reason(1);
const NO_MAPPING: Reason = Reason(2);

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
        Key {
            name: "snat-ports",
            shape: Shape::L4Ports,
            need: Need::Optional,
            help: "ports of the virtual address for connections that it opens; whole eights",
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
    /// Where a backend has ports for connections that it opens.
    snat: Option<Arc<Snat>>,
    /// Those that flows hold; of flows that began before the last reload, too.
    held: Option<Arc<Held>>,
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
            && self.is_at(h)
    }

    #[inline]
    fn is_at(&self, h: &Headers) -> bool {
        self.addresses.contains(&(h.kind, h.dst))
    }

    /// Its addresses, each to be a traffic class of its own. Nothing of them is decided: flows are.
    fn told_apart(&self) -> Decides {
        let one = |(kind, address): &(L3, AddressBytes)| {
            let address: IpAddr = match kind {
                L3::Ipv4 => address.v4().into(),
                _ => address.v6().into(),
            };
            let dst = Prefix::of(address.into());
            let protocol =
                if self.protocol == protocol::TCP { Protocol::TCP } else { Protocol::UDP };
            let of = Match {
                family: Some(dst.family()),
                dst: vec![dst],
                protocols: vec![protocol],
                dport: vec![self.ports],
                ..Match::default()
            };
            (of, Says::Ask)
        };
        Decides { list: self.addresses.iter().map(one).collect(), otherwise: Says::Ask }
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
    /// Of a flow that a backend began: [`HeldPort::number`].
    port: u32,
}

impl FlowNf for Lb {
    type Slice = ();
    type Flow = Kept;

    fn keeps(&self) -> usize {
        // Ports are held where backends begin flows.
        if self.held.is_some() { size_of::<Kept>() } else { size_of::<u32>() }
    }

    fn slice(&self, _: Shard) {}

    fn decide(&self, flow: &FlowView<'_>, _: u32, kept: &mut Kept, (): &mut ()) -> Decision {
        if flow.direction != Direction::Forward || flow.state == FlowStage::Packet {
            return Decision::PASS;
        }
        let decided = if self.service.has(flow.headers) {
            self.inward(flow, kept)
        } else {
            self.by_port(flow.headers)
        };
        match decided.and_then(|forward| self.outward(flow.headers, kept, forward)) {
            Ok(forward) => Decision::Forward(forward),
            Err(why) => Decision::Drop { why, rule: None },
        }
    }

    fn release(&self, kept: &Kept, (): &mut (), _: nfv_core::clock::Time) {
        if let Some((_, backend)) = self.backends.of_id(kept.backend) {
            backend.give_back();
        }
        if let (Some(held), Some(port)) = (&self.held, HeldPort::of(kept.port)) {
            held.give_back(port);
        }
    }
}

impl Lb {
    /// What becomes of a flow to the service.
    fn inward(&self, flow: &FlowView<'_>, kept: &mut Kept) -> Result<Forward, Reason> {
        let held = self.backends.of_id(kept.backend).filter(|(_, backend)| backend.is_up());
        let (at, backend) = held.or_else(|| self.choose(flow)).ok_or(NO_BACKEND)?;
        if kept.backend != backend.id {
            if let Some((_, before)) = self.backends.of_id(kept.backend) {
                before.give_back();
            }
            backend.take();
            kept.backend = backend.id;
        }
        Ok(forward(at, backend, flow.headers.dport))
    }

    /// What becomes of a flow to no service: what comes to a port of a backend's range is for that.
    fn by_port(&self, h: &Headers) -> Result<Forward, Reason> {
        let Some(snat) = self.snat.as_ref().filter(|_| self.service.is_at(h)) else {
            return Ok(Forward::AS_IT_IS);
        };
        let Some((at, backend)) = snat.owner(h).and_then(|at| self.backends.at(at)) else {
            return Ok(Forward::AS_IT_IS);
        };
        match backend.member.way {
            // Which of its ports is meant only its flow would know.
            Way::Address { .. } => Err(NO_MAPPING),
            Way::Via(_) => Ok(forward(at, backend, h.dport)),
        }
    }

    /// The same, with the source that it gets when a backend began it.
    fn outward(&self, h: &Headers, kept: &mut Kept, on: Forward) -> Result<Forward, Reason> {
        let Some(snat) = &self.snat else { return Ok(on) };
        match snat.outward(h, HeldPort::of(kept.port), || self.hash_of_ends(h)) {
            Outward::AsItIs => Ok(on),
            Outward::Exhausted => Err(SNAT_EXHAUSTED),
            Outward::Becomes { end, held, backend } => {
                kept.port = held.number();
                let rewrite = Rewrite { src: Some(end), ..on.rewrite };
                let rule = on.rule.or(Some(u32::from(backend)));
                // From a backend to a backend: both are where it comes from.
                let via = if rewrite.dst.is_some() { Via::Back } else { on.via };
                Ok(Forward { rewrite, rule, via, ..on })
            }
        }
    }

    /// The backend of a new flow.
    fn choose(&self, flow: &FlowView<'_>) -> Option<(u16, &Backend)> {
        let named = self.ids.and_then(|config| self.named(&config, flow.upper));
        named.or_else(|| {
            let h = flow.headers;
            self.backends.pick(match self.affinity {
                Affinity::None => self.hash_of_ends(h),
                Affinity::Source => self.hash(|hasher| hasher.write(&h.src.0)),
            })
        })
    }

    /// The backend that a QUIC packet names.
    fn named(&self, config: &PlaintextConfig, udp: &[u8]) -> Option<(u16, &Backend)> {
        let id = Quic::read(udp.get(8..)?)?.dcid(config.length + 1)?;
        let server = server_id(id, config)?;
        self.backends.of_server(server).filter(|(_, backend)| backend.is_up())
    }

    fn hash_of_ends(&self, h: &Headers) -> u32 {
        self.hash(|hasher| {
            hasher.write(&h.src.0);
            hasher.write(&h.dst.0);
            let ports = u32::from(h.sport) << 16 | u32::from(h.dport);
            hasher.write_u64(u64::from(ports) << 8 | u64::from(h.protocol));
        })
    }

    /// By a key that nobody outside knows, or that all boxes share.
    fn hash(&self, of: impl FnOnce(&mut SipHasher13)) -> u32 {
        let [k0, k1] = self.key;
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        of(&mut hasher);
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
