//! The hash of a packet's flow: what NICs compute for receive-side scaling, with a key that makes it symmetric.
//!
//! Toeplitz over addresses and ports, as Microsoft's RSS has it. The key repeats every 16 bits (Woo and Park, 2012), so
//! both directions of a flow hash to one value; and as Toeplitz is linear, all 16-bit words of the input can be XORed
//! first and hashed once, which is what makes it cheap without a NIC.

use super::{AddressBytes, Fragment, Headers, L3, protocol};
use crate::dpdk::{Packet, SYMMETRIC_KEY};

/// The hash of a packet's flow: the NIC's, else [`flow_hash`].
#[inline]
pub fn packet_hash(packet: &Packet, headers: &Headers) -> u32 {
    packet.rss_hash().unwrap_or_else(|| flow_hash(headers))
}

/// The symmetric hash of a packet's flow; 0 for what is not IP.
///
/// Fragments and packets without ports hash by their addresses alone, as NICs do. Cost: 5 ns.
#[inline]
pub fn flow_hash(h: &Headers) -> u32 {
    let has_ports = h.fragment == Fragment::Whole
        && matches!(h.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    let ports = if has_ports { h.sport ^ h.dport } else { 0 };
    match h.kind {
        // Of IPv4 the rest of the 16 bytes is 0, which changes nothing.
        L3::Ipv4 | L3::Ipv6 => toeplitz(folded(h.src.0) ^ folded(h.dst.0) ^ ports),
        L3::Arp | L3::Other => 0,
    }
}

/// Whether a NIC with this key computes [`flow_hash`].
pub fn is_symmetric_key(key: &[u8]) -> bool {
    let own = SYMMETRIC_KEY.iter().cycle();
    !key.is_empty() && key.iter().zip(own).all(|(byte, own)| byte == own)
}

/// What one end of a flow adds to the hash: Toeplitz is linear, so the hash of a flow is `word_hash` of both ends' words
/// XORed. A NAT that gives an end another one with the same hash keeps the flow's answers on its shard.
#[inline]
pub fn end_word(address: AddressBytes, port: u16) -> u16 {
    folded(address.0) ^ port
}

/// The hash of a word.
#[inline]
pub fn word_hash(word: u16) -> u32 {
    toeplitz(word)
}

/// The XOR of all 16-bit words.
#[inline]
fn folded(bytes: [u8; 16]) -> u16 {
    let whole = u128::from_be_bytes(bytes);
    let half = (whole >> 64) as u64 ^ whole as u64;
    let quarter = (half >> 32) as u32 ^ half as u32;
    (quarter >> 16) as u16 ^ quarter as u16
}

/// One 16-bit word's hash: the key, shifted by the place of each bit that is set.
#[inline]
fn toeplitz(word: u16) -> u32 {
    let [a, b] = SYMMETRIC_KEY;
    let key = u32::from_be_bytes([a, b, a, b]);
    // The key repeats, so shifting it is rotating it.
    (0..16)
        .filter(|bit| word & (0x8000 >> bit) != 0)
        .fold(0, |hash, bit| hash ^ key.rotate_left(bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Toeplitz as the specification has it, a bit at a time, over any input.
    fn reference(input: &[u8]) -> u32 {
        let key: Vec<u8> = SYMMETRIC_KEY.iter().copied().cycle().take(input.len() + 8).collect();
        let window = |bit: usize| {
            let all = u64::from_be_bytes(key[bit / 8..bit / 8 + 8].try_into().unwrap());
            (all >> (32 - bit % 8)) as u32
        };
        let set = |bit: &usize| input[bit / 8] & (0x80 >> (bit % 8)) != 0;
        (0..8 * input.len()).filter(set).fold(0, |hash, bit| hash ^ window(bit))
    }

    fn tcp4(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Headers {
        let wide = AddressBytes::of_v4;
        Headers {
            kind: L3::Ipv4,
            protocol: 6,
            src: wide(src),
            dst: wide(dst),
            sport,
            dport,
            ..Headers::default()
        }
    }

    #[test]
    fn what_has_no_ports_hashes_by_its_addresses() {
        let whole = tcp4([10, 0, 0, 1], [10, 0, 0, 2], 1000, 80);
        let later = Headers { fragment: Fragment::Later, sport: 0, dport: 0, ..whole };
        let first = Headers { fragment: Fragment::First, ..whole };
        assert_eq!(flow_hash(&first), flow_hash(&later), "fragments of a datagram stay together");
        assert_ne!(flow_hash(&whole), flow_hash(&later));
        assert_eq!(flow_hash(&Headers { kind: L3::Arp, ..whole }), 0);
    }

    proptest! {
        #[test]
        fn it_is_what_a_nic_computes_and_the_same_both_ways(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) {
            let mut input = [src, dst].concat();
            input.extend(sport.to_be_bytes());
            input.extend(dport.to_be_bytes());
            let hash = flow_hash(&tcp4(src, dst, sport, dport));
            prop_assert_eq!(hash, reference(&input));
            prop_assert_eq!(hash, flow_hash(&tcp4(dst, src, dport, sport)));
        }

        #[test]
        fn it_is_what_a_nic_computes_of_ipv6(src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16) {
            let mut input = [src, dst].concat();
            input.extend(sport.to_be_bytes());
            input.extend(dport.to_be_bytes());
            let h = Headers { kind: L3::Ipv6, protocol: 17, src: AddressBytes(src), dst: AddressBytes(dst), sport, dport, ..Headers::default() };
            prop_assert_eq!(flow_hash(&h), reference(&input));
        }
    }
}
