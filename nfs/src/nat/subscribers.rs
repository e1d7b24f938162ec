//! How many flows each inside address has: a limit for each, so that one cannot use up what all share (RFC 6888, REQ-3).

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use zerocopy::FromZeros;

use super::ranges::Ranges;

/// Flows by inside address.
#[derive(Debug)]
pub struct Subscribers {
    internal: Ranges,
    flows: Box<[AtomicU32]>,
}

impl Subscribers {
    /// None has any yet. `None`: there is no memory for so many addresses.
    pub fn new(internal: Ranges) -> Option<Self> {
        // Pages of it come as they are used.
        let flows = <[AtomicU32]>::new_box_zeroed_with_elems(internal.len() as usize).ok()?;
        Some(Self { internal, flows })
    }

    /// Whether both count the same addresses.
    pub fn is_of(&self, internal: &Ranges) -> bool {
        self.internal == *internal
    }

    /// One more flow of an address. False: it has as many as it may have.
    pub fn begin(&self, address: Ipv4Addr, most: u32) -> bool {
        let Some(flows) = self.of(address) else { return true };
        let more = |n: u32| (n < most).then_some(n + 1);
        flows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A flow of an address has ended.
    pub fn end(&self, address: Ipv4Addr) {
        if let Some(flows) = self.of(address) {
            let less = |n: u32| n.checked_sub(1);
            let _ = flows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn of(&self, address: Ipv4Addr) -> Option<&AtomicU32> {
        self.flows.get(self.internal.number_of(address)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_at_most_so_many_flows_at_a_time() {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let subscribers = Subscribers::new(Ranges::of([(address(1), address(2))])).unwrap();
        assert!((0..3).all(|_| subscribers.begin(address(1), 3)));
        assert!(!subscribers.begin(address(1), 3));
        assert!(subscribers.begin(address(2), 3), "each for itself");
        subscribers.end(address(1));
        assert!(subscribers.begin(address(1), 3));
        (0..9).for_each(|_| subscribers.end(address(2)));
        assert!((0..3).all(|_| subscribers.begin(address(2), 3)), "ended too often");
        assert!(!subscribers.begin(address(2), 3));
    }
}
