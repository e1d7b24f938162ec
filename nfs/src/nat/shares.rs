//! Who may use which outside ports: a carrier's NAT gives each subscriber ranges of its own (RFC 6888, RFC 7422).
//!
//! Ranges are as long as a power of two of at least 256 ports, and start at a multiple of it: then each has as many ports
//! of every class (the hash is linear), so that a subscriber's flows find ports whatever their shards.

use std::net::Ipv4Addr;

use super::ranges::Ranges;

/// Who may use which outside ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// Everybody any.
    Common,
    /// A subscriber those of the ranges that it is given when it needs them.
    Given {
        /// Ports of a range.
        size: u16,
        /// Most ranges of a subscriber.
        most: u16,
    },
    /// A subscriber those of one range, which follows from its address.
    Computed {
        /// Ports of a range.
        size: u16,
        /// Who the subscribers are: the number of one gives its range.
        subscribers: Ranges,
    },
}

/// The range that a subscriber has by computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of the outside address.
    pub address: u32,
    /// First and last port.
    pub ports: (u16, u16),
}

impl Shares {
    /// First and last range of each address, by [`Shares::of_port`], when addresses have these ports.
    pub fn ranges(&self, ports: (u16, u16)) -> Option<(u16, u16)> {
        let size = self.size()?;
        let first = u32::from(ports.0).div_ceil(u32::from(size));
        let end = (u32::from(ports.1) + 1) / u32::from(size);
        (first < end).then_some((first as u16, end as u16 - 1))
    }

    /// First and last port of all whole ranges; where there are none, all ports.
    pub fn whole(&self, ports: (u16, u16)) -> (u16, u16) {
        let whole = self
            .ranges(ports)
            .and_then(|(first, last)| Some((self.ports(first)?.0, self.ports(last)?.1)));
        whole.unwrap_or(ports)
    }

    /// How many subscribers one address has room for, one range each.
    pub fn per_address(&self, ports: (u16, u16)) -> u32 {
        self.ranges(ports).map_or(0, |(first, last)| u32::from(last - first) + 1)
    }

    /// The range that a port is in; `None` where there are none.
    #[inline]
    pub fn of_port(&self, port: u16) -> Option<u16> {
        Some(port / self.size()?)
    }

    /// First and last port of a range.
    pub fn ports(&self, range: u16) -> Option<(u16, u16)> {
        let size = self.size()?;
        let first = range.checked_mul(size)?;
        Some((first, first + (size - 1)))
    }

    /// The range of a subscriber, where ranges are computed.
    #[inline]
    pub fn computed(&self, subscriber: Ipv4Addr, ports: (u16, u16)) -> Option<Share> {
        let Self::Computed { subscribers, .. } = self else { return None };
        let (first, _) = self.ranges(ports)?;
        let (number, each) = (subscribers.number_of(subscriber)?, self.per_address(ports));
        let range = first + u16::try_from(number % each).ok()?;
        Some(Share { address: number / each, ports: self.ports(range)? })
    }

    /// Whether ranges given under one hold under the other.
    pub fn is_like(&self, other: &Self) -> bool {
        let most = |s: &Self| matches!(s, Self::Given { .. });
        self.size() == other.size() && most(self) == most(other)
    }

    fn size(&self) -> Option<u16> {
        match self {
            Self::Common => None,
            Self::Given { size, .. } | Self::Computed { size, .. } => Some(*size),
        }
    }
}

/// Shorter ranges do not have ports of all classes.
pub const SIZE_MIN: u64 = 256;
/// The longest of which an address has one without the first 1,024 ports.
pub const SIZE_MAX: u64 = 32_768;

#[cfg(test)]
mod tests {
    use nfv_core::flow::SHARDS;

    use super::super::classes::class_of_end;
    use super::*;

    #[test]
    fn each_range_has_as_many_ports_of_every_class() {
        for size in [256u16, 1024, 32_768] {
            let shares = Shares::Given { size, most: 1 };
            let (first, last) = shares.ranges((1024, 65_535)).unwrap();
            for range in [first, last] {
                let (from, to) = shares.ports(range).unwrap();
                let mut count = vec![0; usize::from(SHARDS)];
                for port in from..=to {
                    count[usize::from(class_of_end(Ipv4Addr::new(203, 0, 113, 77), port))] += 1;
                    assert_eq!(shares.of_port(port), Some(range));
                }
                assert!(count.iter().all(|n| *n == size / SHARDS), "{size}: {count:?}");
            }
        }
    }

    #[test]
    fn computed_ranges_are_disjoint_and_within_the_ports() {
        let address = |a: &str| a.parse::<Ipv4Addr>().unwrap();
        let subscribers = Ranges::of([(address("100.64.0.0"), address("100.64.0.255"))]);
        let shares = Shares::Computed { size: 1024, subscribers };
        let ports = (2000, 65_535);
        assert_eq!(shares.per_address(ports), 62);
        let mut seen = std::collections::HashSet::new();
        for host in 0..=255 {
            let share = shares.computed(Ipv4Addr::new(100, 64, 0, host), ports).unwrap();
            assert!(share.ports.0 >= 2000 && share.ports.1 - share.ports.0 == 1023);
            assert!(seen.insert((share.address, share.ports.0)));
            assert_eq!(share.address, u32::from(host) / 62);
        }
        assert_eq!(shares.computed(address("100.64.1.0"), ports), None);
    }
}
