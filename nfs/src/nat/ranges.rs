//! Sets of IPv4 addresses: the pool, and what is inside.

use std::net::Ipv4Addr;

/// Addresses, in order and numbered from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First and last address, and how many there are before.
    ranges: Vec<(u32, u32, u32)>,
    count: u32,
}

impl Ranges {
    /// Of ranges from a first to a last address, in any order; what overlaps is joined. At most 2^32 - 1 addresses count.
    pub fn of(ranges: impl IntoIterator<Item = (Ipv4Addr, Ipv4Addr)>) -> Self {
        let mut all: Vec<(u32, u32)> =
            ranges.into_iter().map(|(a, b)| (a.to_bits(), b.to_bits())).collect();
        all.sort_unstable();
        let mut this = Self::default();
        for (first, last) in all {
            match this.ranges.last_mut() {
                Some((_, end, _)) if first <= *end => {
                    this.count = this.count.saturating_add(last.saturating_sub(*end));
                    *end = last.max(*end);
                }
                _ => {
                    this.ranges.push((first, last, this.count));
                    this.count = this.count.saturating_add((last - first).saturating_add(1));
                }
            }
        }
        this
    }

    /// How many addresses there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an address is one of them.
    #[inline]
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.number_of(address).is_some()
    }

    /// Whether any address from a first to a last one is one of them.
    pub fn overlaps(&self, first: Ipv4Addr, last: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(a, b, _)| *a <= last.to_bits() && first.to_bits() <= *b)
    }

    /// The number of an address. Cost: O(log of the ranges).
    #[inline]
    pub fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        let bits = address.to_bits();
        let after = self.ranges.partition_point(|(first, ..)| *first <= bits);
        let (first, last, before) = *self.ranges.get(after.checked_sub(1)?)?;
        (bits <= last).then(|| before + (bits - first))
    }

    /// The address with a number.
    #[inline]
    pub fn address(&self, number: u32) -> Option<Ipv4Addr> {
        let after = self.ranges.partition_point(|(.., before)| *before <= number);
        let (first, last, before) = *self.ranges.get(after.checked_sub(1)?)?;
        let bits = first.checked_add(number - before)?;
        (bits <= last).then(|| Ipv4Addr::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbered_in_order_and_found_by_their_numbers() {
        let address = |a: &str| a.parse::<Ipv4Addr>().unwrap();
        let of =
            |all: &[(&str, &str)]| Ranges::of(all.iter().map(|(a, b)| (address(a), address(b))));
        let r =
            of(&[("192.0.2.8", "192.0.2.9"), ("10.0.0.0", "10.0.0.3"), ("10.0.0.2", "10.0.0.4")]);
        assert_eq!(r.len(), 7);
        let all: Vec<String> = (0..r.len()).map(|n| r.address(n).unwrap().to_string()).collect();
        let expected =
            ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "192.0.2.8", "192.0.2.9"];
        assert_eq!(all, expected);
        for n in 0..r.len() {
            assert_eq!(r.number_of(r.address(n).unwrap()), Some(n));
        }
        for out in ["9.255.255.255", "10.0.0.5", "192.0.2.7", "192.0.2.10", "255.255.255.255"] {
            assert!(!r.has(address(out)), "{out}");
        }
        assert_eq!(r.address(7), None);
        assert!(r.overlaps(address("10.0.0.4"), address("11.0.0.0")));
        assert!(!r.overlaps(address("10.0.0.5"), address("192.0.2.7")));
        let all = of(&[("0.0.0.0", "255.255.255.255")]);
        assert!(all.has(address("255.255.255.255")) && of(&[]).is_empty());
    }
}
