//! Where the mappings of an inside address are: on which outside addresses, and on which of their ports.

use std::net::Ipv4Addr;

use super::ranges::Ranges;
use super::shares::Shares;

/// Where mappings are, as long as the chain file is not changed.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The outside addresses.
    pub pool: Ranges,
    /// By number in the pool: the place of what is kept of the address.
    pub places: Box<[u16]>,
    /// First and last port.
    pub ports: (u16, u16),
    /// Which addresses an inside address may have.
    pub pooling: Pooling,
    /// Who may use which ports.
    pub shares: Shares,
}

/// Which outside addresses an inside address may have (RFC 4787, REQ-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// One, whatever its port.
    Paired,
    /// Others too, when its first one has no port left.
    Arbitrary,
}

/// Where the mappings of one inside address are.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// The number of the first outside address.
    pub first: u32,
    /// How many from there on it may have.
    pub count: u32,
    /// First and last port.
    pub ports: (u16, u16),
}

impl Layout {
    /// Where the mappings of an inside address are. `hash`: of it.
    #[inline]
    pub fn home(&self, subscriber: Ipv4Addr, hash: u64) -> Option<Home> {
        if let Shares::Computed { .. } = self.shares {
            let share = self.shares.computed(subscriber, self.ports)?;
            return Some(Home { first: share.address, count: 1, ports: share.ports });
        }
        let all = self.pool.len();
        let count = match (&self.shares, self.pooling) {
            (Shares::Common, Pooling::Arbitrary) => all.min(ADDRESSES_TRIED),
            _ => all.min(1),
        };
        let first = (hash >> 32).wrapping_mul(u64::from(all)) >> 32;
        Some(Home { first: first as u32, count, ports: self.shares.whole(self.ports) })
    }

    /// The outside addresses of a home, each with its place.
    #[inline]
    pub fn addresses(&self, home: Home) -> impl Iterator<Item = (Ipv4Addr, u16)> + '_ {
        let all = self.pool.len().max(1);
        (0..home.count).filter_map(move |turn| {
            let number = (home.first + turn) % all;
            Some((self.pool.address(number)?, *self.places.get(number as usize)?))
        })
    }

    /// The place of an outside address.
    #[inline]
    pub fn place(&self, address: Ipv4Addr) -> Option<u16> {
        self.places.get(self.pool.number_of(address)? as usize).copied()
    }

    /// Whether mappings are where they would be under another one.
    pub fn is_like(&self, other: &Self) -> bool {
        self.pool == other.pool && self.pooling == other.pooling && self.shares == other.shares
    }
}

/// Outside addresses that are tried for an inside end where any will do, so that a pool that is used up costs no more.
const ADDRESSES_TRIED: u32 = 8;
