//! What a connection is known by.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use nfv_core::packet::{AddressBytes, Headers, L3};

/// Which side of a connection: the one that opened it, or the other. In names of bytes: whose bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Opened it; its bytes go "to server".
    #[default]
    Client,
    /// Was asked; its bytes go "to client".
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// 0 or 1.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self == Self::Server)
    }

    /// The other one.
    #[inline]
    pub fn other(self) -> Self {
        if self == Self::Client { Self::Server } else { Self::Client }
    }
}

/// The end of a connection that sent a segment, as [`Key`] has the ends in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The one with the lower address, or of equal ones the lower port.
    Low,
    /// The other.
    High,
}

/// Both ends of a connection in an order of their own, VLAN and place: the same for both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    addresses: [AddressBytes; 2],
    ports: [u16; 2],
    vlan: u16,
    /// Place and family: `place << 1 | is_ipv6`.
    place: u16,
}

impl Key {
    /// Of a packet's headers, and which end sent it.
    ///
    /// `place`: what is apart from other networks with the same addresses: a zone's number, or a port's; below 32,768.
    /// # Cost
    /// 3 ns.
    #[inline]
    pub fn of(h: &Headers, place: u16) -> (Self, End) {
        let src = (h.src.0, h.sport);
        let dst = (h.dst.0, h.dport);
        let place = place << 1 | u16::from(h.kind == L3::Ipv6);
        let (end, low, high) =
            if src <= dst { (End::Low, src, dst) } else { (End::High, dst, src) };
        let addresses = [AddressBytes(low.0), AddressBytes(high.0)];
        (Self { addresses, ports: [low.1, high.1], vlan: h.vlan, place }, end)
    }

    /// An end's address.
    pub fn address(&self, end: End) -> IpAddr {
        let [low, high] = self.addresses;
        let bytes = if end == End::Low { low } else { high };
        if self.place & 1 == 1 { IpAddr::from(bytes.v6()) } else { IpAddr::from(bytes.v4()) }
    }

    /// An end's port.
    pub fn port(&self, end: End) -> u16 {
        let [low, high] = self.ports;
        if end == End::Low { low } else { high }
    }

    /// By which the index is sorted: folded multiplications with a secret, so that nobody who does not know it can aim
    /// collisions. Cost: 3 ns.
    #[inline]
    pub(in crate::ids) fn hash(&self, Secret(a, b): Secret) -> u64 {
        let [low, high] = self.addresses;
        let halves = |AddressBytes(x): AddressBytes| {
            let x = u128::from_ne_bytes(x);
            ((x >> 64) as u64, x as u64)
        };
        let ((l0, l1), (h0, h1)) = (halves(low), halves(high));
        let [sport, dport] = self.ports;
        let rest = u64::from(sport) << 48
            | u64::from(dport) << 32
            | u64::from(self.vlan) << 16
            | u64::from(self.place);
        let addresses =
            folded(l0 ^ a, l1 ^ b) ^ folded(h0 ^ b, h1 ^ a.rotate_left(32)).rotate_left(17);
        folded(addresses ^ b, rest ^ a)
    }
}

impl End {
    /// The other one.
    #[inline]
    pub fn other(self) -> Self {
        if self == Self::Low { Self::High } else { Self::Low }
    }
}

/// What nobody outside knows; made anew at each start.
#[derive(Clone, Copy, Debug)]
pub(in crate::ids) struct Secret(pub u64, pub u64);

impl Secret {
    /// From the machine's own source of randomness.
    pub(in crate::ids) fn random() -> Self {
        let word = |i: u64| RandomState::new().hash_one(i) | 1;
        Self(word(1), word(2))
    }
}

#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(src: u8, dst: u8, sport: u16, dport: u16) -> Headers {
        let mut h = Headers { kind: L3::Ipv4, sport, dport, vlan: 7, ..Headers::default() };
        h.src.0[..4].copy_from_slice(&[10, 0, 0, src]);
        h.dst.0[..4].copy_from_slice(&[10, 0, 0, dst]);
        h
    }

    #[test]
    fn both_directions_have_one_key_and_tell_their_ends() {
        let (there, sender) = Key::of(&headers(1, 2, 5000, 80), 3);
        let (back, answerer) = Key::of(&headers(2, 1, 80, 5000), 3);
        assert_eq!(there, back);
        assert_eq!((sender, answerer), (End::Low, End::High));
        assert_eq!(there.address(sender), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(there.port(answerer), 80);
        // A host that speaks with itself.
        let (there, sender) = Key::of(&headers(1, 1, 80, 5000), 3);
        let (back, answerer) = Key::of(&headers(1, 1, 5000, 80), 3);
        assert_eq!((there, sender), (back, answerer.other()));
    }

    #[test]
    fn a_vlan_a_place_and_a_family_make_another_key() {
        let h = headers(1, 2, 5000, 80);
        let (one, _) = Key::of(&h, 3);
        assert_ne!(one, Key::of(&h, 4).0);
        assert_ne!(one, Key::of(&Headers { vlan: 8, ..h }, 3).0);
        assert_ne!(one, Key::of(&Headers { kind: L3::Ipv6, ..h }, 3).0);
    }

    #[test]
    fn hashes_of_a_subnet_spread_evenly() {
        let secret = Secret::random();
        let mut buckets = vec![0u32; 1 << 10];
        for i in 0..10_240u16 {
            let (key, _) = Key::of(&headers(1, 2, i, 80), 0);
            buckets[(key.hash(secret) & 1023) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| *n < 35), "{:?}", buckets.iter().max());
    }
}
