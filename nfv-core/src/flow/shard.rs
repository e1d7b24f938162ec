//! Shards: all flows fall into 128 parts by the hash that NICs spread packets by, the same in both directions.

use super::key::{Address, Tuple};
use crate::packet::{Fragment, Headers, flow_hash};

/// How many shards there are: the entries of the smallest table by which NICs spread hashes over queues.
pub const SHARDS: u16 = 128;

const _: () = assert!(SHARDS <= 256, "an entry has a byte for its shard");

/// The shard of a flow, by the tuple of its first packet. Cost: 5 ns.
#[inline]
pub(crate) fn shard_of<A: Address>(tuple: Tuple<A>, protocol: u8) -> u8 {
    let mut h =
        Headers { kind: A::FAMILY, protocol, fragment: Fragment::Whole, ..Headers::default() };
    tuple.put(&mut h);
    (flow_hash(&h) % u32::from(SHARDS)) as u8
}
