//! Shards: all flows fall into 128 parts by the hash that NICs spread packets by, the same in both directions.

use super::key::{Address, Tuple};
use crate::packet::{AddressBytes, Fragment, Headers, end_word, flow_hash, word_hash};

/// How many shards there are: the entries of the smallest table by which NICs spread hashes over queues.
pub const SHARDS: u16 = 128;

const _: () = assert!(SHARDS <= 256, "an entry has a byte for its shard");

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
