//! Which ports keep a flow's answers on its shard.
//!
//! The shard of a flow is a linear hash of both its ends ([`end_word`]). An end that is replaced by one with the same hash
//! leaves the shard as it is, whoever is at the other end; so all mappings of an inside end come from the ports of one
//! class: those that give the outside address that hash. There are as many classes as shards, 512 ports each.

use std::net::Ipv4Addr;

use nfv_core::flow::{SHARDS, shard_part};
use nfv_core::packet::{AddressBytes, end_word, word_hash};

/// All ports, by class.
#[derive(Debug)]
pub struct Classes {
    /// Words by class, then by place in it.
    words: Box<[u16]>,
    /// By word: its place in its class.
    places: Box<[u16]>,
}

/// Ports of a class.
pub const PLACES: usize = 65_536 / SHARDS as usize;

impl Classes {
    /// Sorts all words.
    pub fn new() -> Self {
        let (mut words, mut places) = (vec![0; 65_536], vec![0; 65_536]);
        let mut filled = vec![0u16; usize::from(SHARDS)];
        for word in 0..=u16::MAX {
            let class = usize::from(class_of(word));
            let Some(n) = filled.get_mut(class) else { continue };
            if let (Some(at), Some(place)) =
                (words.get_mut(class * PLACES + usize::from(*n)), places.get_mut(usize::from(word)))
            {
                (*at, *place) = (word, *n);
            }
            *n += 1;
        }
        Self { words: words.into(), places: places.into() }
    }

    /// The port at a place of a class, of an outside address.
    #[inline]
    pub fn port(&self, outside: Ipv4Addr, class: u16, place: usize) -> u16 {
        let word = self.words.get(usize::from(class) * PLACES + place % PLACES);
        word.copied().unwrap_or_default() ^ end_word(wide(outside), 0)
    }

    /// The class and place of an outside address' port.
    #[inline]
    pub fn find(&self, outside: Ipv4Addr, port: u16) -> (u16, usize) {
        let word = end_word(wide(outside), port);
        (class_of(word), self.places.get(usize::from(word)).map_or(0, |p| usize::from(*p)))
    }
}

/// The class of an end.
#[inline]
pub fn class_of_end(address: Ipv4Addr, port: u16) -> u16 {
    shard_part(wide(address), port)
}

fn class_of(word: u16) -> u16 {
    (word_hash(word) % u32::from(SHARDS)) as u16
}

/// An IPv4 address as packets have it.
#[inline]
pub fn wide(address: Ipv4Addr) -> AddressBytes {
    AddressBytes::of_v4(address.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_as_many_ports_and_each_port_is_found_where_it_is() {
        let classes = Classes::new();
        let outside = Ipv4Addr::new(203, 0, 113, 10);
        let mut seen = vec![false; 65_536];
        for class in 0..SHARDS {
            for place in 0..PLACES {
                let port = classes.port(outside, class, place);
                assert_eq!(classes.find(outside, port), (class, place));
                assert_eq!(class_of_end(outside, port), class);
                assert!(!std::mem::replace(&mut seen[usize::from(port)], true));
            }
        }
    }
}
