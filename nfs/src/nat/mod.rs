//! `nat`: gives inside ends outside addresses, and lets in what is forwarded to inside ends.
//!
//! ```text
//!     in ---->[ nat ]----> next      kind: flow NF
//!
//! Keys   external    none     the pool: outside addresses and ranges, `203.0.113.10-203.0.113.13`; at most 8,192
//!        internal    private  prefixes that are inside: 10/8, 172.16/12, 192.168/16 and 100.64/10, if left out
//!        ports       1024-65535  outside ports that are given to inside ends
//!        forwards    none     `{protocol: tcp, port: 443, to: 10.0.0.2, to-port: 8443, external: 203.0.113.10}`: outside
//!                             ports that lead inside, from all of the pool if `external` is left out
//!        one-to-one  none     `{external: 203.0.113.20, internal: 10.0.0.20}`: addresses, or ranges of one length, that
//!                             stand for one another with all ports
//!        prefixes    none     `{internal: "fd00:1::/48", external: "2001:db8:1::/48"}`: IPv6 prefixes that stand for one
//!                             another (NPTv6, RFC 6296)
//!        filtering   address-and-port  whose new flows to a mapping are let in: `endpoint-independent` | `address-dependent`
//!                             (of addresses that the inside end has sent to) | `address-and-port` (nobody's)
//!        pooling     paired   `paired`: an inside address has one outside address | `arbitrary`: others too, when it is
//!                             used up
//!        hairpin     on       `on` | `off`: inside hosts reach one another by outside addresses
//!        subscriber-ports     none  a power of two from 256 to 32768: inside addresses get ranges of so many ports
//!        subscriber-ranges    4     most ranges of an inside address; with `subscriber-ports`
//!        deterministic        false `true`: ranges follow from inside addresses (RFC 7422); with `subscriber-ports`
//!        subscriber-sessions  none  most flows of an inside address at a time
//!        log                  none  a file to which a line is added for each range that is given or comes back
//! Drops  pool_exhausted       no port is left for its inside end; the sender is told (ICMP, RFC 5508, REQ-8)
//!        subscriber_limit     its inside address has as many ports, or flows, as it may have; the sender is told
//!        no_mapping           for an outside end that stands for nothing
//!        filtered             for a mapping, by whom `filtering` does not let in
//!        untranslatable       of a protocol without ports that only one-to-one addresses carry, or of an IPv6 address
//!                             that has no other; the sender is told
//! Handles mappings             inside ends that have an outside end
//!        ranges               ranges of ports that inside addresses have
//!        log_lost             records that were not written
//! Cost   a flow's first packet: one or two lines of memory shared by all workers, 64 when the pool is nearly used up;
//!        nothing after it: what its packets become is kept with the flow
//! State  12 B a flow; 8 B an outside port and protocol, taken as they are used
//! Source RFC 4787, RFC 5382, RFC 5508, RFC 6296, RFC 6888, RFC 7422
//! ```
//!
//! Addresses decide, not directions. What is for an outside address goes to the forward, the one-to-one address or the
//! mapping that it stands for, whoever sends it; what an inside address sends to any other that is not inside leaves with
//! an outside end; anything else passes as it is. So one function serves a chain from the inside out and one from the
//! outside in: where flows are kept a chain takes new flows from its `from` only, and forwards need a chain of their own
//! (`chains/nat.yaml`). Outside addresses are routed to the box by its neighbours, or answered for by its twin
//! (`ip neigh add proxy`); they are none of the box's own.
//!
//! An inside end (address and port) has one outside end for all its flows, whomever they lead to (endpoint-independent
//! mapping, RFC 4787, REQ-1), as long as it has any flow: times are those of `flows`. With it goes what makes peers behind
//! different NATs reach each other. Filtering is another matter: by default only answers come in, as in Linux and as
//! RFC 4787 calls the most stringent; games and telephony behind it that invite strangers want `endpoint-independent`.
//!
//! An inside end gets an outside port that keeps its flows' answers on their shard, so that a NIC that spreads packets by
//! their symmetric hash brings them to the same worker: one in 128 of the ports of an address, 504 of those above 1023.
//! That is how many inside ends of one class a pool address has room for, whatever is free in other classes. Ports are
//! not preserved. ICMP queries are spread by addresses alone: their answers may need to be handed over.
//!
//! A carrier gives each subscriber, an inside address, ranges of `subscriber-ports`: the first when its first flow begins,
//! more when it needs them, each back when its last mapping ends. A range is of one outside address and of all protocols.
//! The `log` has a JSON line for each: `{"time":..., "event":"given", "subscriber":"100.64.0.5",
//! "external":"203.0.113.1", "ports":"2048-2559"}`, or `"came_back"`. With `deterministic: true` there is nothing to log: with
//! N whole ranges an address (those that start at a multiple of their size, within `ports`), the inside address with
//! number i among all of `internal`, in order and from 0, has range i mod N of outside address i div N.
//!
//! A reload that changes any of this keeps the mappings that flows have, those of addresses that leave the pool too, as
//! long as the sizes of ranges stay as they are.
//!
//! A hairpin's packet leaves by the port that received it, with an outside source (RFC 4787, REQ-9). An ICMP echo to an
//! address of the pool is nobody's. Behind a one-to-one address all protocols pass, whose checksums do not cover
//! addresses in ways unknown (not DCCP, UDP-Lite, AH); behind NPTv6 all do.

mod classes;
mod config;
mod contacts;
mod ends;
mod keys;
mod layout;
mod log;
mod mappings;
mod outside;
mod prefixes;
mod ranges;
mod shares;
mod statics;
mod subscribers;

use std::net::Ipv6Addr;
use std::sync::Arc;

use nfv_core::clock::Time;
use nfv_core::nf::{
    Answer, Decision, Endpoint, FlowNf, FlowStage, FlowView, Forward, Kind, Named, Profile, Reason,
    Rewrite, Shard, Via,
};
use nfv_core::packet::{AddressBytes, Headers, IcmpError, L3, protocol};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use self::contacts::{ContactId, Contacts};
use self::ends::{End, MappingId};
use self::mappings::{Exhausted, Mappings};
use self::prefixes::PrefixPair;
use self::ranges::Ranges;
use self::statics::{Forwards, OneToOne, Pooled, survives_new_addresses};
use self::subscribers::Subscribers;

/// The type of NF `nat`.
pub const KIND: Kind = Kind {
    name: "nat",
    profile: Profile {
        reads_payload: false,
        writes: true,
        drops: true,
        creates: false,
        routes: false,
    },
    keys: keys::KEYS,
    drops: &[
        Named { name: "pool_exhausted", help: "no port is left for its inside end" },
        Named {
            name: "subscriber_limit",
            help: "its inside address has as many ports, or flows, as it may have",
        },
        Named { name: "no_mapping", help: "for an outside end that stands for nothing" },
        Named { name: "filtered", help: "for a mapping, by whom `filtering` does not let in" },
        Named {
            name: "untranslatable",
            help: "of a protocol without ports, or of an IPv6 address that has no other",
        },
    ],
    answers: &[
        (POOL_EXHAUSTED, Answer::Icmp(IcmpError::Prohibited)),
        (SUBSCRIBER_LIMIT, Answer::Icmp(IcmpError::Prohibited)),
        (UNTRANSLATABLE, Answer::Icmp(IcmpError::Prohibited)),
    ],
    counters: &[],
    source: include_str!("mod.rs"),
    build: config::build,
};

const POOL_EXHAUSTED: Reason = Reason(0);
const SUBSCRIBER_LIMIT: Reason = Reason(1);
const NO_MAPPING: Reason = Reason(2);
const FILTERED: Reason = Reason(3);
const UNTRANSLATABLE: Reason = Reason(4);

#[derive(Debug)]
struct Nat {
    internal: Ranges,
    mappings: Arc<Mappings>,
    forwards: Forwards,
    one_to_one: OneToOne,
    prefixes: Vec<PrefixPair>,
    filtering: Filtering,
    hairpin: Hairpin,
    limit: Option<Limit>,
}

/// Most flows of an inside address.
#[derive(Clone, Debug)]
struct Limit {
    subscribers: Arc<Subscribers>,
    most: u32,
}

/// Whose new flows to a mapping are let in (RFC 4787, section 5).
#[derive(Debug)]
enum Filtering {
    EndpointIndependent,
    AddressDependent(Arc<Contacts>),
    AddressAndPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hairpin {
    On,
    Off,
}

/// What is kept with a flow: numbers of what it holds, 0 for nothing.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Kept {
    /// The mapping of its source.
    source: u32,
    /// The mapping of its destination.
    destination: u32,
    /// That its source has sent to its destination; and [`COUNTED`].
    contact: u32,
}

impl FlowNf for Nat {
    type Slice = ();
    type Flow = Kept;

    fn slice(&self, _: Shard) {}

    fn decide(&self, flow: &FlowView<'_>, _: u32, kept: &mut Kept, (): &mut ()) -> Decision {
        let h = flow.headers;
        let decided = match h.kind {
            // What a flow's fragments and errors become is the engine's to know.
            _ if flow.state == FlowStage::Packet => return Decision::PASS,
            L3::Ipv4 => self.decide_v4(h, kept, flow.now),
            L3::Ipv6 => self.decide_v6(h),
            L3::Arp | L3::Other => return Decision::PASS,
        };
        match decided {
            Ok((rewrite, via)) => Decision::Forward(Forward { rewrite, via, ..Forward::AS_IT_IS }),
            Err(why) => Decision::Drop { why, rule: None },
        }
    }

    fn prefetch(&self, h: &Headers) {
        let src = End::of(h.src, h.sport);
        if h.kind == L3::Ipv4 && self.internal.has(src.address) {
            self.mappings.prefetch(h.protocol, src);
        }
    }

    fn prefetch_kept(&self, kept: &Kept) {
        if let Some(id) = MappingId::of(kept.source) {
            self.mappings.prefetch_held(id);
        }
    }

    fn release(&self, kept: &Kept, (): &mut (), now: Time) {
        let source = MappingId::of(kept.source);
        if let (Some(limit), Some(id)) = (&self.limit, source.filter(|_| kept.is_counted()))
            && let Some((_, inside)) = self.mappings.held_by(id)
        {
            limit.subscribers.end(inside.address);
        }
        for id in source.into_iter().chain(MappingId::of(kept.destination)) {
            self.mappings.release(id, now);
        }
        if let (Filtering::AddressDependent(contacts), Some(id)) =
            (&self.filtering, ContactId::of(kept.contact & !COUNTED))
        {
            contacts.release(id);
        }
    }
}

impl Kept {
    fn is_counted(self) -> bool {
        self.contact & COUNTED != 0
    }
}

impl Nat {
    /// What it takes is in `kept`, from where the engine gives it back when the flow is refused.
    fn decide_v4(&self, h: &Headers, kept: &mut Kept, now: Time) -> Result<(Rewrite, Via), Reason> {
        let (src, dst) = (End::of(h.src, h.sport), End::of(h.dst, h.dport));
        let from_inside = self.internal.has(src.address);
        if !self.is_outside(dst) {
            let leaves = from_inside && !self.internal.has(dst.address);
            let src = if leaves { self.outward(h.protocol, (src, dst), kept, now)? } else { None };
            return Ok((Rewrite { src: src.map(End::endpoint), dst: None }, Via::Chain));
        }
        if !from_inside {
            let inside = self.inward(h.protocol, src, dst, kept)?;
            return Ok((Rewrite { src: None, dst: Some(inside.endpoint()) }, Via::Chain));
        }
        if self.hairpin == Hairpin::Off {
            return Err(NO_MAPPING);
        }
        let outside = self.outward(h.protocol, (src, dst), kept, now)?;
        let mut inside = self.inward(h.protocol, outside.unwrap_or(src), dst, kept)?;
        if h.protocol == protocol::ICMP {
            // A query has one identifier: the source's.
            inside.port = outside.unwrap_or(src).port;
        }
        let rewrite = Rewrite { src: outside.map(End::endpoint), dst: Some(inside.endpoint()) };
        Ok((rewrite, Via::Back))
    }

    /// Whether an end's address is one of those that stand for the inside.
    fn is_outside(&self, end: End) -> bool {
        self.mappings.is_outside(end.address)
            || self.one_to_one.inside(end.address).is_some()
            || self.forwards.is_own_address(end.address)
    }

    /// The outside end of an inside one that sends to `dst`; `None`: it keeps its own, as there is no pool.
    fn outward(
        &self,
        proto: u8,
        (src, dst): (End, End),
        kept: &mut Kept,
        now: Time,
    ) -> Result<Option<End>, Reason> {
        if let Some(address) = self.one_to_one.outside(src.address) {
            return match survives_new_addresses(proto) {
                true => Ok(Some(End { address, ..src })),
                false => Err(UNTRANSLATABLE),
            };
        }
        if self.mappings.is_empty() {
            return Ok(None);
        }
        // Decided again: the mapping that the flow has.
        let held = MappingId::of(kept.source).and_then(|id| self.mappings.held_by(id));
        if let Some((outside, _)) = held.filter(|(_, inside)| *inside == src) {
            return Ok(Some(outside));
        }
        if !matches!(proto, protocol::TCP | protocol::UDP | protocol::ICMP) {
            return Err(UNTRANSLATABLE);
        }
        let bound = self.mappings.bind(proto, src, now);
        let (id, outside) = bound.map_err(|why| match why {
            Exhausted::Pool => POOL_EXHAUSTED,
            Exhausted::Subscriber => SUBSCRIBER_LIMIT,
        })?;
        kept.source = id.number();
        if let Filtering::AddressDependent(contacts) = &self.filtering {
            kept.contact = contacts.note(id, dst.address).map_or(0, ContactId::number);
        }
        if let Some(limit) = &self.limit {
            if !limit.subscribers.begin(src.address, limit.most) {
                return Err(SUBSCRIBER_LIMIT);
            }
            kept.contact |= COUNTED;
        }
        Ok(Some(outside))
    }

    /// The inside end that the outside end `dst` stands for, for a flow of `src`.
    fn inward(&self, proto: u8, src: End, dst: End, kept: &mut Kept) -> Result<End, Reason> {
        let pooled = match self.mappings.is_outside(dst.address) {
            true => Pooled::Yes,
            false => Pooled::No,
        };
        if let Some(inside) = self.forwards.inside(proto, dst, pooled) {
            return Ok(inside);
        }
        if let Some(address) = self.one_to_one.inside(dst.address) {
            return match survives_new_addresses(proto) {
                true => Ok(End { address, ..dst }),
                false => Err(UNTRANSLATABLE),
            };
        }
        let held = MappingId::of(kept.destination).and_then(|id| self.mappings.held_by(id));
        if let Some((_, inside)) = held.filter(|(outside, _)| *outside == dst) {
            return Ok(inside);
        }
        // Nobody outside asks an inside end's queries for an echo.
        if proto == protocol::ICMP {
            return Err(NO_MAPPING);
        }
        let (id, inside) = self.mappings.hold(proto, dst).ok_or(NO_MAPPING)?;
        kept.destination = id.number();
        let allowed = match &self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent(contacts) => contacts.knows(id, src.address),
            Filtering::AddressAndPort => false,
        };
        if allowed { Ok(inside) } else { Err(FILTERED) }
    }

    fn decide_v6(&self, h: &Headers) -> Result<(Rewrite, Via), Reason> {
        let (src, dst) = (Ipv6Addr::from(h.src.v6()), Ipv6Addr::from(h.dst.v6()));
        let inside = |a| self.prefixes.iter().find(|p| p.is_inside(a));
        let source = inside(src).filter(|_| inside(dst).is_none());
        let target = self.prefixes.iter().find(|p| p.is_outside(dst));
        if source.is_some() && target.is_some() && self.hairpin == Hairpin::Off {
            return Err(NO_MAPPING);
        }
        let end =
            |address: Ipv6Addr, port| Endpoint { address: AddressBytes(address.octets()), port };
        let become_of = |other: Result<Ipv6Addr, _>, port| {
            other.map(|address| end(address, port)).map_err(|_| UNTRANSLATABLE)
        };
        let rewrite = Rewrite {
            src: source.map(|p| become_of(p.outward(src), h.sport)).transpose()?,
            dst: target.map(|p| become_of(p.inward(dst), h.dport)).transpose()?,
        };
        let via = if source.is_some() && target.is_some() { Via::Back } else { Via::Chain };
        Ok((rewrite, via))
    }
}

/// In what a flow keeps: it counts for its inside address.
const COUNTED: u32 = 1 << 31;

#[cfg(test)]
mod tests;
