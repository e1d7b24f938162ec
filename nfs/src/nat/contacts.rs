//! Whom inside ends have sent to: what filtering by address lets in (RFC 4787, REQ-8b).
//!
//! A set of (mapping, remote address) that all workers share, each with the number of flows that put it there. A word is
//! `[tag: 48][flows: 16]`; the tag is a keyed hash, as is the place, so a stranger passes for a contact once in 2^48
//! tries. Where a set's part is full a contact is not noted, and who it is for is filtered.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromZeros;

use super::ends::MappingId;

/// Whom inside ends have sent to.
#[derive(Debug)]
pub struct Contacts {
    words: Box<[AtomicU64]>,
    secret: [u64; 2],
}

/// A contact's place, held by a flow: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactId(u32);

impl ContactId {
    /// As a flow keeps it.
    pub fn number(self) -> u32 {
        self.0
    }

    /// As it was kept; `None` for 0.
    pub fn of(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

impl Contacts {
    /// None yet. `None`: there is no memory for them.
    pub fn new(secret: [u64; 2]) -> Option<Self> {
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(PLACES).ok()?;
        Some(Self { words, secret })
    }

    /// Notes that a mapping's inside end has sent to an address, for one more flow. `None`: there is no room.
    ///
    /// Two workers may note one contact in two places: it counts as long as one of them does.
    pub fn note(&self, mapping: MappingId, remote: Ipv4Addr) -> Option<ContactId> {
        let (start, tag) = self.place_and_tag(mapping, remote);
        for at in places(start) {
            let word = self.words.get(at)?;
            loop {
                let seen = word.load(Ordering::Relaxed);
                let flows = seen & FLOWS;
                if flows != 0 && (seen >> 16 != tag || flows == FLOWS) {
                    break;
                }
                if swap(word, seen, tag << 16 | (flows + 1)) {
                    return Some(ContactId(at as u32 + 1));
                }
            }
        }
        None
    }

    /// Whether a mapping's inside end has sent to an address.
    pub fn knows(&self, mapping: MappingId, remote: Ipv4Addr) -> bool {
        let (start, tag) = self.place_and_tag(mapping, remote);
        places(start).filter_map(|at| self.words.get(at)).any(|word| {
            let seen = word.load(Ordering::Relaxed);
            seen >> 16 == tag && seen & FLOWS != 0
        })
    }

    /// A flow that noted a contact has ended.
    pub fn release(&self, ContactId(number): ContactId) {
        let at = (number as usize).wrapping_sub(1);
        let Some(word) = self.words.get(at) else { return };
        loop {
            let seen = word.load(Ordering::Relaxed);
            if seen & FLOWS == 0 || swap(word, seen, seen - 1) {
                return;
            }
        }
    }

    fn place_and_tag(&self, mapping: MappingId, remote: Ipv4Addr) -> (usize, u64) {
        let key = u64::from(mapping.number()) << 32 | u64::from(remote.to_bits());
        let [a, b] = self.secret;
        let once = folded(key ^ a, b);
        let twice = folded(once ^ b, SPREAD);
        (once as usize % PLACES, twice >> 16)
    }
}

/// Eight places on one line.
fn places(start: usize) -> impl Iterator<Item = usize> {
    let line = start & !(WINDOW - 1);
    (0..WINDOW).map(move |i| line + (start + i) % WINDOW)
}

fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// 32 MiB, of which pages come as they are used: a million flows leave no line full.
const PLACES: usize = 1 << 22;
const WINDOW: usize = 8;
const FLOWS: u64 = 0xffff;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_known_until_its_last_flow_ends() {
        let contacts = Contacts::new([3, 5]).unwrap();
        let id = |n: u32| MappingId::of(n).unwrap();
        let address = |n: u32| Ipv4Addr::from_bits(0xc000_0200 + n);
        let first: Vec<_> =
            (1..100_000).map(|n| contacts.note(id(n), address(n)).unwrap()).collect();
        let second = contacts.note(id(7), address(7)).unwrap();
        assert!((1..100_000).all(|n| contacts.knows(id(n), address(n))));
        assert!((1..100_000).all(|n| !contacts.knows(id(n), address(n + 1))));
        assert!((1..100_000).all(|n| !contacts.knows(id(n + 1), address(n))));
        first.iter().for_each(|c| contacts.release(*c));
        assert!(contacts.knows(id(7), address(7)), "one flow is left");
        contacts.release(second);
        assert!((1..100_000).all(|n| !contacts.knows(id(n), address(n))));
        contacts.release(second);
        assert!(!contacts.knows(id(7), address(7)), "released too often");
    }
}
