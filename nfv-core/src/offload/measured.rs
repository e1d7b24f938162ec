//! How a NIC spreads packets whose key or table cannot be read: found from packets that came.

use crate::packet::{Headers, flow_hash};

/// What packets have shown.
#[derive(Clone, Debug)]
pub struct Measured {
    /// By the lowest bits of the symmetric hash, the queue of packets that had them.
    queues: Vec<Option<u16>>,
    packets: u64,
    /// Packets that came by another queue than those before them, or with another hash than the symmetric one.
    others: u64,
}

/// What is known by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Too few packets came.
    Nothing,
    /// It spreads by the symmetric hash; by its lowest bits, the queue, where packets had them.
    Symmetric(Vec<Option<u16>>),
    /// It spreads by something else: the two directions of a flow may come by different queues.
    Otherwise,
}

impl Measured {
    /// Nothing yet; `entries`: as many as the device's table has, or 128 where that is not known.
    pub fn new(entries: u16) -> Self {
        Self { queues: vec![None; usize::from(entries.max(1))], packets: 0, others: 0 }
    }

    /// A packet came by a queue, with a hash if the NIC gave one. Fragments and what is not IP say nothing.
    pub fn add(&mut self, headers: &Headers, hash: Option<u32>, queue: u16) {
        let own = flow_hash(headers);
        let entries = self.queues.len();
        let Some(known) = self.queues.get_mut(own as usize % entries).filter(|_| own != 0) else {
            return;
        };
        self.packets += 1;
        let is_other = hash.is_some_and(|hash| hash != own);
        self.others += u64::from(is_other || *known.get_or_insert(queue) != queue);
    }

    /// What is known by now.
    pub fn found(&self) -> Found {
        let seen = self.queues.iter().flatten().count() as u64;
        // A few come by another queue: a flow had been moved, or its hash is of addresses alone.
        if self.others * 20 > self.packets {
            return Found::Otherwise;
        }
        // Each entry twice, as the first packet of each says nothing of the hash.
        if self.packets < 2 * seen.max(ENOUGH) {
            return Found::Nothing;
        }
        Found::Symmetric(self.queues.clone())
    }
}

/// Entries that are to be seen.
const ENOUGH: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{AddressBytes, Fragment, L3, protocol};

    fn headers(n: u16, reply: bool) -> Headers {
        let address = |last: u8| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[10, 0, 0, last]);
            AddressBytes(bytes)
        };
        let (a, b) = ((address(1), 1000 + n), (address(2), 80));
        let ((src, sport), (dst, dport)) = if reply { (b, a) } else { (a, b) };
        Headers {
            kind: L3::Ipv4,
            protocol: protocol::UDP,
            fragment: Fragment::Whole,
            src,
            dst,
            sport,
            dport,
            ..Headers::default()
        }
    }

    fn measure(queue: impl Fn(&Headers, bool) -> u16) -> Found {
        let mut measured = Measured::new(128);
        for n in 0..400 {
            for reply in [false, true] {
                let headers = headers(n, reply);
                measured.add(&headers, None, queue(&headers, reply));
            }
        }
        measured.found()
    }

    #[test]
    fn a_nic_with_the_symmetric_hash_shows_its_table() {
        let Found::Symmetric(table) = measure(|h, _| (flow_hash(h) % 128 / 3 % 2) as u16) else {
            panic!("it is symmetric");
        };
        assert!((0u16..).zip(&table).all(|(entry, q)| q.is_none_or(|q| q == entry / 3 % 2)));
        assert!(table.iter().flatten().count() > 50);
    }

    #[test]
    fn one_with_another_hash_and_one_of_which_little_is_known_say_so() {
        assert_eq!(measure(|h, _| h.sport % 2), Found::Otherwise);
        assert_eq!(
            measure(|h, reply| (flow_hash(h) % 2) as u16 ^ u16::from(reply)),
            Found::Otherwise
        );
        assert_eq!(Measured::new(128).found(), Found::Nothing);
        let mut told = Measured::new(128);
        (0..100).for_each(|n| told.add(&headers(n, false), Some(7), 0));
        assert_eq!(told.found(), Found::Otherwise, "the NIC's own hash says it at once");
    }
}
