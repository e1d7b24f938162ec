//! What a flow is known by: the five-tuple, the VLAN, and the place on its way: the zone that it comes in from, or a later
//! piece of its chain.
//!
//! Both directions of a flow lead to one entry: the entry has the tuple as its first packet had it, and the tuple of the
//! answers, which another NF may have changed (a NAT's are to its external address). What a packet becomes is then the
//! other tuple, turned round: see [`super::rewrite`].

use std::fmt::Debug;

use zerocopy::FromZeros;

use crate::packet::{AddressBytes, Fragment, Headers, L3, is_icmp_query, protocol};

/// An IPv4 or IPv6 address as a flow keeps it.
pub trait Address: FromZeros + Copy + Eq + Debug + Default + Send + 'static {
    /// Its family.
    const FAMILY: L3;

    /// Of what the parse found.
    fn of(bytes: AddressBytes) -> Self;
    /// As the parse writes it.
    fn wide(self) -> AddressBytes;
    /// Mixed with a key, for the index.
    fn mix(self, other: Self, secret: [u64; 2]) -> u64;
}

impl Address for [u8; 4] {
    const FAMILY: L3 = L3::Ipv4;

    #[inline(always)]
    fn of(bytes: AddressBytes) -> Self {
        bytes.v4()
    }

    #[inline(always)]
    fn wide(self) -> AddressBytes {
        let [a, b, c, d] = self;
        AddressBytes::of_v4([a, b, c, d])
    }

    #[inline(always)]
    fn mix(self, other: Self, [a, _]: [u64; 2]) -> u64 {
        let both = u64::from(u32::from_ne_bytes(self)) << 32 | u64::from(u32::from_ne_bytes(other));
        both ^ a
    }
}

impl Address for [u8; 16] {
    const FAMILY: L3 = L3::Ipv6;

    #[inline(always)]
    fn of(bytes: AddressBytes) -> Self {
        bytes.v6()
    }

    #[inline(always)]
    fn wide(self) -> AddressBytes {
        AddressBytes(self)
    }

    #[inline(always)]
    fn mix(self, other: Self, [a, b]: [u64; 2]) -> u64 {
        let halves = |x: u128| ((x >> 64) as u64, x as u64);
        let (s0, s1) = halves(u128::from_ne_bytes(self));
        let (d0, d1) = halves(u128::from_ne_bytes(other));
        folded(s0 ^ a, s1 ^ b) ^ folded(d0 ^ b, d1 ^ a.rotate_left(32)).rotate_left(17)
    }
}

/// Both ends of a packet, in the packet's direction. What has no ports has its ICMP identifier, or 0, as both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl<A: Address> Tuple<A> {
    /// Of a packet that [`is_tracked`].
    #[inline(always)]
    pub fn of(h: &Headers) -> Self {
        Self { src: A::of(h.src), dst: A::of(h.dst), sport: h.sport, dport: h.dport }
    }

    /// As an answer has it.
    #[inline(always)]
    pub fn turned(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport }
    }

    /// Writes it where the parse would.
    #[inline(always)]
    pub fn put(self, h: &mut Headers) {
        h.src = self.src.wide();
        h.dst = self.dst.wide();
        (h.sport, h.dport) = (self.sport, self.dport);
    }
}

/// What a packet is looked up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey<A> {
    /// Its ends.
    pub tuple: Tuple<A>,
    /// What is the same in both directions.
    pub scope: Scope,
}

/// What is the same in both directions of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scope {
    /// Outer VLAN id, or [`crate::packet::NO_VLAN`].
    pub vlan: u16,
    /// Where on its way it is looked up: where it comes in, which is a place for each [`Zone`]; else before a later piece
    /// of its chain, behind those.
    pub place: u16,
    /// Upper-layer protocol.
    pub protocol: u8,
}

/// Ports within which an address is one host's, by number; 0 is that of ports that name none.
///
/// It is where a packet comes in, and so a place: it takes no room in a key or a flow, and no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Zone(pub u8);

/// Places where packets come in; those before later pieces of chains are behind them.
pub const ENTRANCES: u16 = 1 << 8;

impl Zone {
    /// The place where its packets come in.
    #[inline(always)]
    pub fn place(self) -> u16 {
        u16::from(self.0)
    }

    /// The zone that packets come in from at a place, unless it is on their way.
    #[inline]
    pub fn of_place(place: u16) -> Option<Self> {
        u8::try_from(place).ok().map(Self)
    }
}

impl Scope {
    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.vlan) << 32 | u64::from(self.place) << 16 | u64::from(self.protocol)
    }
}

impl<A: Address> FlowKey<A> {
    /// Of a packet that [`is_tracked`].
    #[inline(always)]
    pub fn of(h: &Headers, place: u16) -> Self {
        let scope = Scope { vlan: h.vlan, place, protocol: h.protocol };
        Self { tuple: Tuple::of(h), scope }
    }

    /// The hash by which the index is sorted: two folded multiplications with a secret, as wyhash has them, so that
    /// nobody who does not know it can aim collisions. Cost: 3 ns, half of it hidden in a burst.
    #[inline(always)]
    pub fn hash(&self, secret: Secret) -> u64 {
        let Secret([a, b]) = secret;
        let ports = u64::from(self.tuple.sport) << 16 | u64::from(self.tuple.dport);
        let first = folded(self.tuple.src.mix(self.tuple.dst, [a, b]), ports << 32 ^ b);
        folded(first ^ self.scope.word(), a ^ SPREAD)
    }
}

/// What nobody outside knows; made anew at each start.
#[derive(Clone, Copy, Debug)]
pub struct Secret(pub [u64; 2]);

impl Secret {
    /// From the machine's own source of randomness.
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let word = |i: u64| RandomState::new().hash_one(i) | 1;
        Self([word(1), word(2)])
    }
}

#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Whether a packet is one of a flow: IP, with ports that are known, and of ICMP a query or its answer.
#[inline(always)]
pub fn is_tracked(h: &Headers) -> bool {
    let is_icmp = matches!(h.protocol, protocol::ICMP | protocol::ICMP6);
    matches!(h.kind, L3::Ipv4 | L3::Ipv6)
        && h.fragment != Fragment::Later
        && (!is_icmp || is_icmp_query(h))
}

/// Fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_bit_of_the_key_changes_half_of_the_hash(
            src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16, bit in 0usize..288, secret: [u64; 2],
        ) {
            let secret = Secret(secret.map(|s| s | 1));
            let scope = Scope { vlan: 5, place: 1, protocol: 6 };
            let one = FlowKey { tuple: Tuple { src, dst, sport, dport }, scope };
            let mut tuple = one.tuple;
            match bit {
                0..128 => tuple.src[bit / 8] ^= 1 << (bit % 8),
                128..256 => tuple.dst[(bit - 128) / 8] ^= 1 << (bit % 8),
                256..272 => tuple.sport ^= 1 << (bit % 16),
                _ => tuple.dport ^= 1 << (bit % 16),
            }
            let other = FlowKey { tuple, scope };
            prop_assert!((one.hash(secret) ^ other.hash(secret)).count_ones() > 8);
            let elsewhere = FlowKey { scope: Scope { place: 2, ..scope }, ..one };
            prop_assert_ne!(one.hash(secret), elsewhere.hash(secret));
            prop_assert_eq!(one.tuple.turned().turned(), one.tuple);
        }
    }

    #[test]
    fn a_zone_is_a_place_of_its_own_and_no_place_on_the_way_is_one() {
        let secret = Secret::random();
        let headers =
            Headers { kind: L3::Ipv4, protocol: 17, sport: 5, dport: 7, ..Headers::default() };
        let key = |zone: Zone| FlowKey::<[u8; 4]>::of(&headers, zone.place());
        let mut hashes: Vec<u64> = (0..=255).map(|n| key(Zone(n)).hash(secret)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 256);
        for n in 0..=255 {
            assert_eq!(Zone::of_place(Zone(n).place()), Some(Zone(n)));
        }
        assert_eq!(Zone::of_place(ENTRANCES), None);
    }

    #[test]
    fn hashes_of_a_subnet_spread_evenly_over_tags_and_buckets() {
        let secret = Secret::random();
        let mut buckets = vec![0u32; 1 << 10];
        for i in 0..10_240u32 {
            let [_, _, c, d] = i.to_be_bytes();
            let tuple = Tuple { src: [10, 0, c, d], dst: [192, 0, 2, 1], sport: 1024, dport: 53 };
            let scope = Scope { vlan: 0xffff, place: 0, protocol: 17 };
            buckets[(FlowKey { tuple, scope }.hash(secret) & 1023) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| *n < 30), "{:?}", buckets.iter().max());
    }
}
