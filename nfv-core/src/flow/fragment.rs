//! Fragments of IP datagrams: the first one, which has the ports, decides, and the later ones follow it.
//!
//! ```text
//!   first  ------> decided by its ports; what was decided is kept ----> passes, and before the later ones
//!   later  -- first one known? -- yes ---------------------------------> follows it
//!                        `------- no --> held, until the first one comes, or 1 s
//! ```
//!
//! Virtual reassembly, in any order of arrival as RFC 4787 (REQ-14) has it: bytes are neither copied nor put together,
//! only the extents of what has been seen are kept. The one rejected: to put datagrams together and cut them again, which
//! costs a copy, holds every fragment until the last one and hides from both ends what the path's MTU is.
//!
//! What a receiver could put together in two ways is let through in none (RFC 5722 for IPv6; here for IPv4 too): after an
//! overlap or a second end nothing more of the datagram passes. Headers cut in pieces (RFC 1858, RFC 3128) go nowhere.
//!
//! Each worker has its own: the NIC's and our own hash take of a fragment the addresses alone, so that those of a
//! datagram meet. All memory is taken at the start; time comes in as nanoseconds.

mod datagrams;
mod extent;
mod pen;
mod refused;
#[cfg(test)]
mod tests;

use datagrams::{Datagrams, Queue, State};
pub use extent::{Extent, read};
use pen::{Line, Pen};
pub use refused::Refused;

use super::key::Secret;
use crate::packet::protocol;

/// Datagrams of which fragments have been seen, and the packets that wait for a first fragment.
///
/// `C`: what a first fragment decides for the later ones. `P`: a packet; each one that is given comes out once.
#[derive(Debug)]
pub struct Fragments<C, P> {
    limits: Limits,
    table: Datagrams<C>,
    pen: Pen<P>,
}

/// What fragments may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams known at a time; for one more the oldest goes. 1 to 2^20.
    pub datagrams: usize,
    /// Packets held at a time, at most 2^20.
    pub held_packets: usize,
    /// Bytes of those.
    pub held_bytes: usize,
    /// Packets held of one datagram: as many may come out at once.
    pub held_of_one: usize,
    /// How long the first fragment is waited for.
    pub hold_ns: u64,
    /// How long the later ones are known by a first one.
    pub known_ns: u64,
}

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentKey {
    /// Source address; IPv4's in the first four bytes, the others 0.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Identification.
    pub id: u32,
    /// Outer VLAN id.
    pub vlan: u16,
    /// The port where it comes in, so that a datagram that comes by twice is two, and one of another zone another.
    pub place: u16,
    /// Protocol of what was cut. IPv6's fragments may differ in it and belong together all the same.
    pub protocol: u8,
    /// Version of IP.
    pub family: Family,
}

/// Version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// 4.
    #[default]
    Ipv4,
    /// 6.
    Ipv6,
}

/// What becomes of a later fragment.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Later<C, P> {
    /// It goes where the first one went.
    Follows(P, C),
    /// It waits for the first one.
    Held,
    /// It goes nowhere.
    Refused(P, Refused),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            datagrams: 4096,
            held_packets: 1024,
            held_bytes: 4 << 20,
            // 45 of an Ethernet frame's size are the largest datagram.
            held_of_one: 64,
            hold_ns: 1_000_000_000,
            // Linux's; RFC 8200, section 4.5, lets receivers wait 60.
            known_ns: 30_000_000_000,
        }
    }
}

impl Family {
    /// Bytes that a datagram can have behind the headers that each fragment has: its own length field has 16 bits, and
    /// counts IPv4's header.
    #[inline]
    pub(crate) fn data_max(self) -> u32 {
        match self {
            Self::Ipv4 => 65_535 - 20,
            Self::Ipv6 => 65_535,
        }
    }
}

impl FragmentKey {
    /// As it is looked up: RFC 8200, section 4.5, does not count the protocol.
    #[inline]
    fn of_datagram(&self) -> Self {
        match self.family {
            Family::Ipv4 => *self,
            Family::Ipv6 => Self { protocol: 0, ..*self },
        }
    }
}

impl<C: Copy, P> Fragments<C, P> {
    /// None yet, with memory for all.
    pub fn new(limits: Limits, secret: Secret) -> Self {
        // A datagram waits as long as one of it is held, so each must be able to hold one.
        let held_of_one = limits.held_of_one.max(1);
        Self {
            limits,
            table: Datagrams::new(limits.datagrams, secret),
            pen: Pen::new(limits.held_packets, limits.held_bytes, held_of_one),
        }
    }

    /// A first fragment that was decided.
    ///
    /// `minimum`: bytes that it must have, so that the upper layer's header is in it: [`header_minimum`]. `context`: for
    /// the later ones. `out`: gets those that waited, in order of arrival and behind this one, with the context; and
    /// those that are dropped, with the reason. At most [`Limits::held_of_one`] wait, and as many can be dropped when
    /// another datagram has to make room.
    /// # Errors
    /// It must be dropped. Unless it is a duplicate, no later one of its datagram passes either.
    /// # Cost
    /// 25 ns, and 10 ns for each that waited; 50 ns when another datagram has to make room.
    pub fn first(
        &mut self,
        key: &FragmentKey,
        extent: Extent,
        minimum: u32,
        context: C,
        now: u64,
        out: &mut impl FnMut(P, Result<C, Refused>),
    ) -> Result<(), Refused> {
        if extent.offset != 0 {
            return Err(Refused::BadPlace);
        }
        let key = key.of_datagram();
        let bucket = self.table.bucket(&key);
        let dropped = &mut |packet, why| out(packet, Err(why));
        let number = match self.live(bucket, &key, now, dropped) {
            Some(number) => number,
            None => self.make(bucket, key, now, dropped).ok_or(Refused::TooMany)?,
        };
        let datagram = self.table.get_mut(number).ok_or(Refused::TooMany)?;
        if matches!(datagram.state, State::Poisoned) {
            return Err(Refused::Poisoned);
        }
        let long_enough = if extent.length < minimum { Err(Refused::TinyFragment) } else { Ok(()) };
        let judged = extent.check(key.family).and(long_enough);
        match judged.and_then(|()| datagram.seen.judge(extent)) {
            Ok(()) => datagram.seen.add(extent)?,
            Err(Refused::Duplicate) => return Err(Refused::Duplicate),
            Err(why) => {
                // Without it the others are of no use: better refused at once than held for nothing.
                self.poison(number, now, dropped);
                return Err(why);
            }
        }
        while let Some(packet) = self.pen.pop(&mut datagram.held) {
            out(packet, Ok(context));
        }
        if datagram.seen.is_whole() {
            self.table.remove(number);
        } else {
            self.table.settle(number, State::Known(context), now);
        }
        Ok(())
    }

    /// A later fragment.
    ///
    /// `bytes`: what it takes while it is held. `dropped`: gets those that go because of it: of its own datagram when it
    /// is poisoned, or of another that has to make room.
    /// # Cost
    /// 30 ns when the first one is known; 40 ns the last one; 25 ns to hold it. A lookup takes two or three lines.
    pub fn later(
        &mut self,
        key: &FragmentKey,
        extent: Extent,
        packet: P,
        bytes: u32,
        now: u64,
        dropped: &mut impl FnMut(P, Refused),
    ) -> Later<C, P> {
        match self.admit(key, extent, bytes, now, dropped) {
            Ok(Admitted::Follows(context)) => Later::Follows(packet, context),
            Ok(Admitted::Waits(number)) => {
                let Some(datagram) = self.table.get_mut(number) else {
                    return Later::Refused(packet, Refused::NoRoom);
                };
                match self.pen.push(&mut datagram.held, packet, bytes) {
                    Ok(()) => Later::Held,
                    Err(packet) => Later::Refused(packet, Refused::NoRoom),
                }
            }
            Err(why) => Later::Refused(packet, why),
        }
    }

    /// Lets go what waited too long, and what nobody asks for any more. To be called about every millisecond; each call
    /// takes out a bounded number, so that after a flood none takes long.
    /// # Cost
    /// 2 ns when there is nothing to do; at most 64 datagrams, and 95 packets with the default limits.
    pub fn expire(&mut self, now: u64, dropped: &mut impl FnMut(P, Refused)) {
        for queue in [Queue::Waiting, Queue::Settled] {
            let mut budget = EXPIRE_MAX;
            while budget > 0
                && let Some(number) = self.table.oldest(queue)
                && self.is_due(number, now)
            {
                let packets = self.retire(number, Refused::TooLate, dropped);
                budget = budget.saturating_sub(packets.max(1));
            }
        }
    }

    /// Lets go all, when the run ends.
    pub fn drain(&mut self, dropped: &mut impl FnMut(P, Refused)) {
        for queue in [Queue::Waiting, Queue::Settled] {
            while let Some(number) = self.table.oldest(queue) {
                self.retire(number, Refused::Stopped, dropped);
            }
        }
    }

    /// How many datagrams are known.
    #[cfg(test)]
    pub fn datagrams(&self) -> usize {
        self.table.len()
    }

    /// How many packets are held.
    #[cfg(test)]
    pub fn held_packets(&self) -> usize {
        self.pen.packets()
    }

    /// How many bytes those take.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.pen.bytes()
    }

    /// Whether a later fragment may go on, and where.
    fn admit(
        &mut self,
        key: &FragmentKey,
        extent: Extent,
        bytes: u32,
        now: u64,
        dropped: &mut impl FnMut(P, Refused),
    ) -> Result<Admitted<C>, Refused> {
        if extent.offset == 0 {
            return Err(Refused::BadPlace);
        }
        extent.check(key.family)?;
        if key.protocol == protocol::TCP && extent.offset < header_minimum(protocol::TCP) {
            return Err(Refused::TinyFragment);
        }
        let key = key.of_datagram();
        let bucket = self.table.bucket(&key);
        let number = match self.live(bucket, &key, now, dropped) {
            Some(number) => number,
            // Nobody makes room for a datagram that could not wait.
            None if !self.pen.has_room(&Line::EMPTY, bytes) => return Err(Refused::NoRoom),
            None => self.make(bucket, key, now, dropped).ok_or(Refused::TooMany)?,
        };
        let datagram = self.table.get_mut(number).ok_or(Refused::TooMany)?;
        if matches!(datagram.state, State::Poisoned) {
            return Err(Refused::Poisoned);
        }
        if let Err(why) = datagram.seen.judge(extent) {
            if why.poisons() {
                self.poison(number, now, dropped);
            }
            return Err(why);
        }
        let State::Known(context) = datagram.state else {
            // What is refused here has not been seen: it may come again.
            if !self.pen.has_room(&datagram.held, bytes) {
                return Err(Refused::NoRoom);
            }
            datagram.seen.add(extent)?;
            return Ok(Admitted::Waits(number));
        };
        datagram.seen.add(extent)?;
        if datagram.seen.is_whole() {
            self.table.remove(number);
        }
        Ok(Admitted::Follows(context))
    }

    /// The datagram of a key, unless its time is up.
    #[inline]
    fn live(
        &mut self,
        bucket: usize,
        key: &FragmentKey,
        now: u64,
        dropped: &mut impl FnMut(P, Refused),
    ) -> Option<u32> {
        let number = self.table.find(bucket, key)?;
        if self.is_due(number, now) {
            self.retire(number, Refused::TooLate, dropped);
            return None;
        }
        Some(number)
    }

    /// A new datagram, for which another one goes when there is no room.
    fn make(
        &mut self,
        bucket: usize,
        key: FragmentKey,
        now: u64,
        dropped: &mut impl FnMut(P, Refused),
    ) -> Option<u32> {
        if let Some(victim) = self.table.victim(bucket) {
            self.retire(victim, Refused::TooMany, dropped);
        }
        self.table.insert(bucket, key, now)
    }

    #[inline]
    fn is_due(&self, number: u32, now: u64) -> bool {
        self.table.get(number).is_some_and(|datagram| {
            let lives = match datagram.state.queue() {
                Queue::Waiting => self.limits.hold_ns,
                Queue::Settled => self.limits.known_ns,
            };
            now.saturating_sub(datagram.since) >= lives
        })
    }

    /// Nothing more of a datagram passes. It stays known for that.
    fn poison(&mut self, number: u32, now: u64, dropped: &mut impl FnMut(P, Refused)) {
        self.release(number, Refused::Poisoned, dropped);
        self.table.settle(number, State::Poisoned, now);
    }

    /// Forgets a datagram; returns how many packets went with it.
    fn retire(&mut self, number: u32, why: Refused, dropped: &mut impl FnMut(P, Refused)) -> usize {
        let packets = self.release(number, why, dropped);
        self.table.remove(number);
        packets
    }

    /// Drops what is held of a datagram; returns how many packets that were.
    fn release(
        &mut self,
        number: u32,
        why: Refused,
        dropped: &mut impl FnMut(P, Refused),
    ) -> usize {
        let Some(datagram) = self.table.get_mut(number) else { return 0 };
        let before = self.pen.packets();
        while let Some(packet) = self.pen.pop(&mut datagram.held) {
            dropped(packet, why);
        }
        before - self.pen.packets()
    }
}

/// What is so with a later fragment that may go on.
enum Admitted<C> {
    Follows(C),
    /// In the line of this datagram.
    Waits(u32),
}

/// Bytes of a protocol's header that a first fragment must have: TCP's without options, so that the flags are in it
/// (RFC 1858); of the others what the parse reads. 0: no header that we read.
#[inline]
pub fn header_minimum(proto: u8) -> u32 {
    match proto {
        protocol::TCP => 20,
        protocol::SCTP | protocol::DCCP => 12,
        protocol::UDP | protocol::UDP_LITE | protocol::ICMP | protocol::ICMP6 => 8,
        _ => 0,
    }
}

/// Datagrams or packets that one call of [`Fragments::expire`] lets go of each queue.
const EXPIRE_MAX: usize = 32;
