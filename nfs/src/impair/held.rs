//! Packets that come out later, in the order of their times; those of one time in the order in which they came.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use nfv_core::clock::Time;
use nfv_core::dpdk::Packet;
use nfv_core::nf::Place;

/// The packets of a worker. All memory is taken when it is made.
///
/// Cost: a heap, some 10 ns a packet with hundreds of them.
#[derive(Debug)]
pub struct Held {
    heap: BinaryHeap<One>,
    most: usize,
    /// How many came.
    came: u64,
}

/// There is no room: the packet comes back.
#[derive(Debug)]
pub struct Full(pub Packet);

#[derive(Debug)]
struct One {
    due: Time,
    number: u64,
    packet: Packet,
    place: Place,
}

impl Held {
    /// With room for `most`.
    pub fn new(most: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(most), most, came: 0 }
    }

    /// Takes a packet that goes on from `place` when it is due.
    #[inline]
    pub fn push(&mut self, due: Time, packet: Packet, place: Place) -> Result<(), Full> {
        if self.heap.len() >= self.most {
            return Err(Full(packet));
        }
        self.came = self.came.wrapping_add(1);
        self.heap.push(One { due, number: self.came, packet, place });
        Ok(())
    }

    /// The next packet that is due by a time.
    #[inline]
    pub fn pop(&mut self, by: Time) -> Option<(Packet, Place)> {
        self.next().filter(|due| *due <= by)?;
        self.heap.pop().map(|one| (one.packet, one.place))
    }

    /// When the next one is due.
    #[inline]
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|one| one.due)
    }
}

impl Ord for One {
    /// The heap's greatest is the one that is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for One {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for One {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for One {}
