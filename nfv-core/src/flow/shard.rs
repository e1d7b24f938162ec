//! Shards: all flows fall into 128 parts by the hash that NICs spread packets by, the same in both directions.

use super::key::{Address, Tuple};
use crate::packet::{AddressBytes, Fragment, Headers, end_word, flow_hash, word_hash};

/// How many shards there are: the entries of the smallest table by which NICs spread hashes over queues.
pub const SHARDS: u16 = 128;

const _: () = assert!(SHARDS <= 256, "an entry has a byte for its shard");

/// Some of the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

const _: () = assert!(SHARDS as u32 <= u128::BITS, "a shard has a bit");

impl ShardSet {
    /// Whether a shard is one of them.
    #[inline]
    pub fn has(self, shard: u8) -> bool {
        self.0.checked_shr(shard.into()).is_some_and(|rest| rest & 1 == 1)
    }

    /// Takes in a shard.
    pub fn insert(&mut self, shard: u8) {
        self.0 |= 1u128.checked_shl(shard.into()).unwrap_or_default();
    }

    /// How many they are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..SHARDS as u8).filter(move |shard| self.has(*shard))
    }
}

impl FromIterator<u8> for ShardSet {
    fn from_iter<I: IntoIterator<Item = u8>>(shards: I) -> Self {
        let mut all = Self::default();
        shards.into_iter().for_each(|shard| all.insert(shard));
        all
    }
}

/// What shards have, added up over workers.
#[derive(Clone, Debug)]
pub struct ShardCounts {
    /// Entries of flows, by shard.
    pub flows: [u32; SHARDS as usize],
    /// About how many packets came since the run began, by shard.
    pub packets: [u64; SHARDS as usize],
}

impl Default for ShardCounts {
    fn default() -> Self {
        Self { flows: [0; SHARDS as usize], packets: [0; SHARDS as usize] }
    }
}

/// The shard of a flow, by the tuple of its first packet. Cost: 5 ns.
#[inline]
pub(crate) fn shard_of<A: Address>(tuple: Tuple<A>, protocol: u8) -> u8 {
    let mut h =
        Headers { kind: A::FAMILY, protocol, fragment: Fragment::Whole, ..Headers::default() };
    tuple.put(&mut h);
    (flow_hash(&h) % u32::from(SHARDS)) as u8
}

/// What one end of a flow adds to the number of its shard, by exclusive or: the shard stays as it is when an end is
/// replaced by one with the same part. Of protocols with ports; others fall into shards by addresses alone.
#[inline]
pub fn shard_part(address: AddressBytes, port: u16) -> u16 {
    (word_hash(end_word(address, port)) % u32::from(SHARDS)) as u16
}
