//! NPTv6: a prefix for another, so that no checksum changes (RFC 6296).
//!
//! What the new prefix adds to the one's complement sum of an address is taken away again in one 16-bit word behind it:
//! the subnet's (bits 48 to 63) of prefixes up to /48, else the first of the interface identifier that is not 0xffff.
//! Every address has one other and back, so nothing is kept.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// An inside and an outside prefix of one length, at most /64.
#[derive(Clone, Copy, Debug)]
pub struct PrefixPair {
    inside: Ipv6Net,
    outside: Ipv6Net,
    /// What the word is changed by on the way out: sum of the inside prefix less that of the outside one.
    adjustment: u16,
}

/// An address that has no other: its subnet, or all of its interface identifier, is 0xffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untranslatable;

impl PrefixPair {
    /// `None`: they are not of one length, or longer than /64.
    pub fn new(inside: Ipv6Net, outside: Ipv6Net) -> Option<Self> {
        if inside.prefix_len() != outside.prefix_len() || inside.prefix_len() > LENGTH_MAX {
            return None;
        }
        let sum = |net: Ipv6Net| net.network().segments().into_iter().fold(0, added);
        Some(Self { inside, outside, adjustment: added(sum(inside), !sum(outside)) })
    }

    /// Whether an address is inside.
    #[inline]
    pub fn is_inside(&self, address: Ipv6Addr) -> bool {
        self.inside.contains(&address)
    }

    /// Whether an address is one of those that stand for the inside.
    #[inline]
    pub fn is_outside(&self, address: Ipv6Addr) -> bool {
        self.outside.contains(&address)
    }

    /// The outside address of an inside one.
    ///
    /// # Errors
    /// It has none.
    #[inline]
    pub fn outward(&self, address: Ipv6Addr) -> Result<Ipv6Addr, Untranslatable> {
        self.replaced(address, self.outside, self.adjustment)
    }

    /// The inside address of an outside one.
    ///
    /// # Errors
    /// It has none.
    #[inline]
    pub fn inward(&self, address: Ipv6Addr) -> Result<Ipv6Addr, Untranslatable> {
        self.replaced(address, self.inside, !self.adjustment)
    }

    fn replaced(
        &self,
        address: Ipv6Addr,
        by: Ipv6Net,
        adjustment: u16,
    ) -> Result<Ipv6Addr, Untranslatable> {
        let host = by.hostmask().to_bits() & address.to_bits();
        let mut words = Ipv6Addr::from_bits(by.network().to_bits() | host).segments();
        let candidates = if by.prefix_len() <= 48 { 3..4 } else { 4..8 };
        let word = words.get_mut(candidates).unwrap_or_default();
        let word = word.iter_mut().find(|w| **w != 0xffff).ok_or(Untranslatable)?;
        *word = match added(*word, adjustment) {
            // The other form of 0, which no address gets (RFC 6296, section 3.4).
            0xffff => 0,
            sum => sum,
        };
        Ok(words.into())
    }
}

/// One's complement addition.
fn added(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// A prefix leaves the word that is changed alone.
pub const LENGTH_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use nfv_core::packet::checksum::Sum;
    use proptest::prelude::*;

    use super::*;

    fn pair(inside: &str, outside: &str) -> PrefixPair {
        PrefixPair::new(inside.parse().unwrap(), outside.parse().unwrap()).unwrap()
    }

    fn a(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_of_rfc_6296_section_3_6_is_translated_as_it_says() {
        let p = pair("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(p.outward(a("fd01:203:405:1::1234")), Ok(a("2001:db8:1:d550::1234")));
        assert_eq!(p.inward(a("2001:db8:1:d550::1234")), Ok(a("fd01:203:405:1::1234")));
    }

    #[test]
    fn addresses_without_another_are_refused() {
        let p = pair("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(p.outward(a("fd01:203:405:ffff::1")), Err(Untranslatable));
        assert_eq!(p.inward(a("2001:db8:1:ffff::1")), Err(Untranslatable));
        let p = pair("fd01:203:405:100::/56", "2001:db8:1:a00::/56");
        assert_eq!(p.outward(a("fd01:203:405:100:ffff:ffff:ffff:ffff")), Err(Untranslatable));
        assert!(p.outward(a("fd01:203:405:1ff:ffff:ffff:ffff:fffe")).is_ok());
    }

    #[test]
    fn lengths_that_differ_or_leave_no_word_are_refused() {
        let new = |a: &str, b: &str| PrefixPair::new(a.parse().unwrap(), b.parse().unwrap());
        assert!(new("fd00::/48", "2001:db8::/56").is_none());
        assert!(new("fd00::/65", "2001:db8::/65").is_none());
        assert!(new("fd00::/64", "2001:db8::/64").is_some());
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_address_and_its_sum_never_changes(
            inside: u128, outside: u128, host: u128, length in 16u8..=64,
        ) {
            let net = |bits: u128| Ipv6Net::new(bits.into(), length).unwrap().trunc();
            let p = PrefixPair::new(net(inside), net(outside)).unwrap();
            let address =
                Ipv6Addr::from_bits(net(inside).network().to_bits() | host & net(0).hostmask().to_bits());
            let Ok(there) = p.outward(address) else { return Ok(()) };
            prop_assert!(p.is_outside(there) && p.is_inside(address));
            prop_assert_eq!(p.inward(there), Ok(address));
            let sum = |a: Ipv6Addr| Sum::of(&a.octets()).checksum();
            // 0 has two forms.
            let same = |a: u16, b: u16| a == b || (a == 0 || a == 0xffff) && (b == 0 || b == 0xffff);
            prop_assert!(same(sum(address), sum(there)), "{address} {there}");
        }
    }
}
