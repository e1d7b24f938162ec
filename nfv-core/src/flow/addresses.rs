//! The box's own addresses, which workers compare each packet of a routed port with.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::packet::{Headers, L3};

/// A short list, written by the control side and read by workers. A word that is read while it changes makes one packet
/// miss its address, as if it had come a moment earlier.
#[derive(Debug)]
pub(super) struct Addresses {
    v4: [AtomicU32; ADDRESSES_MAX],
    v4_count: AtomicUsize,
    v6: [[AtomicU64; 2]; ADDRESSES_MAX],
    v6_count: AtomicUsize,
}

impl Addresses {
    pub fn new() -> Self {
        Self {
            v4: [const { AtomicU32::new(0) }; ADDRESSES_MAX],
            v4_count: AtomicUsize::new(0),
            v6: [const { [const { AtomicU64::new(0) }; 2] }; ADDRESSES_MAX],
            v6_count: AtomicUsize::new(0),
        }
    }

    /// Whether the packet's destination is one of them. Cost: a compare for each address of the family.
    #[inline]
    pub fn is_destination(&self, h: &Headers) -> bool {
        match h.kind {
            L3::Ipv4 => {
                let (dst, n) =
                    (u32::from_be_bytes(h.dst.v4()), self.v4_count.load(Ordering::Relaxed));
                self.v4.iter().take(n).any(|a| a.load(Ordering::Relaxed) == dst)
            }
            L3::Ipv6 => {
                let (dst, n) = (halves(h.dst.v6()), self.v6_count.load(Ordering::Relaxed));
                let is = |[high, low]: &[AtomicU64; 2]| {
                    [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)] == dst
                };
                self.v6.iter().take(n).any(is)
            }
            L3::Arp | L3::Other => false,
        }
    }

    /// Replaces the list. False: there were more than [`ADDRESSES_MAX`] of a family, and the last ones are left out.
    pub fn set(&self, list: impl Iterator<Item = IpAddr>) -> bool {
        let (mut n4, mut n6, mut all) = (0, 0, true);
        for address in list {
            match address {
                IpAddr::V4(a) => match self.v4.get(n4) {
                    Some(slot) => {
                        slot.store(a.to_bits(), Ordering::Relaxed);
                        n4 += 1;
                    }
                    None => all = false,
                },
                IpAddr::V6(a) => match self.v6.get(n6) {
                    Some([high, low]) => {
                        let [h, l] = halves(a.octets());
                        high.store(h, Ordering::Relaxed);
                        low.store(l, Ordering::Relaxed);
                        n6 += 1;
                    }
                    None => all = false,
                },
            }
        }
        self.v4_count.store(n4, Ordering::Relaxed);
        self.v6_count.store(n6, Ordering::Relaxed);
        all
    }
}

#[inline]
fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_be_bytes(bytes);
    [(whole >> 64) as u64, whole as u64]
}

/// Of each family.
pub(super) const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::AddressBytes;

    fn to(text: &str) -> Headers {
        let mut dst = [0; 16];
        let kind = match text.parse().unwrap() {
            IpAddr::V4(a) => {
                dst[..4].copy_from_slice(&a.octets());
                L3::Ipv4
            }
            IpAddr::V6(a) => {
                dst = a.octets();
                L3::Ipv6
            }
        };
        Headers { kind, dst: AddressBytes(dst), ..Headers::default() }
    }

    #[test]
    fn only_the_addresses_of_the_list_are_the_box() {
        let own = Addresses::new();
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        assert!(own.set(list(&["10.0.0.1", "2001:db8::1"]).into_iter()));
        assert!(own.is_destination(&to("10.0.0.1")) && own.is_destination(&to("2001:db8::1")));
        assert!(!own.is_destination(&to("10.0.0.2")) && !own.is_destination(&to("2001:db8::2")));
        assert!(own.set(list(&["10.0.0.2"]).into_iter()));
        assert!(!own.is_destination(&to("10.0.0.1")) && !own.is_destination(&to("2001:db8::1")));
        let many = (0..65u8).map(|i| IpAddr::from([10, 0, 1, i]));
        assert!(!own.set(many), "a list that is too long is told");
        assert!(own.is_destination(&to("10.0.1.63")) && !own.is_destination(&to("10.0.1.64")));
    }
}
