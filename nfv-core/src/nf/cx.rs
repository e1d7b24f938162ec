//! What an NF may use while it works: the time, its counters, packets that it makes, and those that it held.

use super::{PortIndex, Reason};
use crate::account::Cells;
use crate::chain::cells::{EngineCells, FunctionCells};
use crate::chain::compile::ProgramId;
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Mempool, Packet, SharedPacket};
use crate::packet::{Headers, parse};

/// What an NF may use while it works: the time, its counters, packets to send besides.
#[derive(Debug)]
pub struct Cx<'w> {
    /// The time, the same for the whole burst.
    pub now: Time,
    pub(crate) cells: &'w Cells,
    pub(crate) own: &'w FunctionCells,
    pub(crate) engine: &'w EngineCells,
    pub(crate) pool: &'w Mempool,
    pub(crate) outbox: &'w mut Vec<(PortIndex, Packet)>,
    pub(crate) made: &'w mut Vec<Made>,
    pub(crate) alarm: &'w mut Alarm,
    pub(crate) place: Place,
    /// Whether packets are changed behind this place.
    pub(crate) changes_follow: bool,
}

/// When packet NFs are to be woken: all of a worker at once, as each knows best what it waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alarm {
    /// On time: a worker that sleeps is awake by then, a clock that leaps stops there.
    pub at: Time,
    /// As soon as there is an occasion.
    pub from: Time,
}

impl Alarm {
    /// For none.
    pub const OFF: Self = Self { at: Time(u64::MAX), from: Time(u64::MAX) };
    /// As soon as there is an occasion.
    pub const SOON: Self = Self { at: Time(u64::MAX), from: Time(0) };

    /// Whether it is time.
    #[inline(always)]
    pub fn is_due(&self, now: Time) -> bool {
        self.at.min(self.from) <= now
    }
}

/// Where packets go on behind an NF: which step of which chain comes next, and the port that they came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) program: ProgramId,
    pub(crate) step: usize,
    pub(crate) port: PortIndex,
}

/// A packet that goes on from a place, when the burst at hand is done.
#[derive(Debug)]
pub(crate) struct Made {
    pub packet: Packet,
    pub headers: Headers,
    pub from: Place,
}

/// Room for what the NFs of one burst send besides: a copy of each packet by eight NFs.
pub(crate) const OUTBOX_MAX: usize = 8 * BURST_MAX;

impl Cx<'_> {
    /// Adds to the counter of that index in [`Kind::counters`].
    ///
    /// [`Kind::counters`]: super::Kind::counters
    #[inline]
    pub fn count(&self, counter: usize, n: u64) {
        self.cells.add(self.own.counters.plus(counter), n);
    }

    /// Adds one to the counter of a rule, by its place in [`Built::rules`].
    ///
    /// [`Built::rules`]: super::Built::rules
    #[inline]
    pub fn count_rule(&self, rule: usize) {
        self.cells.add(self.own.rules.plus(rule), 1);
    }

    /// Has [`PacketNf::wake`] called at that time, not later.
    ///
    /// [`PacketNf::wake`]: super::PacketNf::wake
    #[inline]
    pub fn wake_at(&mut self, time: Time) {
        self.alarm.at = self.alarm.at.min(time);
    }

    /// Has [`PacketNf::wake`] called no sooner than that: a worker that sleeps does so until something else wakes it, and a
    /// clock that leaps from packet to packet has it called once a leap.
    ///
    /// [`PacketNf::wake`]: super::PacketNf::wake
    #[inline]
    pub fn wake_from(&mut self, time: Time) {
        self.alarm.from = self.alarm.from.min(time);
    }

    /// A copy of a packet's first `bytes`, counted as created; `None` when the pool is empty.
    #[inline]
    pub fn copy(&self, packet: &Packet, bytes: u32) -> Option<Packet> {
        let copy = packet.copy(self.pool, bytes)?;
        self.cells.add(self.engine.created, 1);
        Some(copy)
    }

    /// A packet's bytes as they are here, for another thread to read: the mbuf itself where nothing behind this place changes
    /// packets, else a copy. `None`: there is no room for one. It is not counted: it is freed by who lets it go last.
    #[inline]
    pub fn share(&self, packet: &Packet) -> Option<SharedPacket> {
        if !self.changes_follow {
            return packet.share();
        }
        let held = u32::try_from(packet.data().len()).unwrap_or(u32::MAX);
        let mut copy = packet.copy(self.pool, held)?;
        copy.set_wire_length(packet.len());
        Some(SharedPacket::of(copy))
    }

    /// Sends a packet that this NF made out of `port`. False: there is no room; the packet is freed and counted consumed.
    #[inline]
    pub fn send(&mut self, port: PortIndex, packet: Packet) -> bool {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push((port, packet));
            return true;
        }
        self.consume(packet);
        false
    }

    /// Ends a packet that this NF made and keeps no longer, counted as consumed.
    #[inline]
    pub fn consume(&self, packet: Packet) {
        self.cells.add(self.engine.consumed, 1);
        packet.free();
    }

    /// A packet of these bytes, counted as created; `None` when the pool is empty or they do not fit a buffer.
    #[inline]
    pub fn create(&self, bytes: &[u8]) -> Option<Packet> {
        let packet = self.pool.packet_of(bytes)?;
        self.cells.add(self.engine.created, 1);
        Some(packet)
    }

    /// Where the packets of this burst go on. Elsewhere than in [`PacketNf::process`] it is nowhere: a packet
    /// goes on where it was held.
    ///
    /// [`PacketNf::process`]: super::PacketNf::process
    #[inline]
    pub fn place(&self) -> Place {
        self.place
    }

    /// How many packets may be sent on or out now; more is made by the engine between two calls.
    #[inline]
    pub fn room(&self) -> usize {
        OUTBOX_MAX.saturating_sub(self.made.len().max(self.outbox.len()))
    }

    /// Sends a packet that was held or made on from a place, behind this NF. A packet that is not what it says is dropped,
    /// as one that came in would be; without [`Cx::room`] it comes back.
    #[inline]
    pub fn resume(&mut self, from: Place, packet: Packet) -> Result<(), Packet> {
        if self.made.len() >= OUTBOX_MAX {
            return Err(packet);
        }
        match parse(packet.data(), packet.len()) {
            Ok(headers) => self.made.push(Made { packet, headers, from }),
            Err(why) => {
                self.cells.add(self.engine.malformed.plus(why.index()), 1);
                packet.free();
            }
        }
        Ok(())
    }

    /// Ends a packet that was held, under one of [`Kind::drops`].
    ///
    /// [`Kind::drops`]: super::Kind::drops
    #[inline]
    pub fn drop(&self, packet: Packet, Reason(why): Reason) {
        self.cells.add(self.own.drops.plus(usize::from(why)), 1);
        packet.free();
    }

    /// Gives a packet that this NF made to `taker`, another thread's: counted as consumed here.
    #[inline]
    pub fn give_away(&self, packet: Packet, taker: impl FnOnce(Packet)) {
        self.cells.add(self.engine.consumed, 1);
        taker(packet);
    }
}
