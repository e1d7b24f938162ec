//! The NIC's side of an emulated NIC: frames in from the wire, out to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::decide::{From, Tables};
use super::{Shared, add};
use crate::dpdk::{Packet, Packets, RingInto, RingOut, RingPort};
use crate::offload::rule::Met;
use crate::packet::{Headers, flow_hash, parse};

/// The NIC's side. It belongs to one thread: that of the wire, or of the sender.
#[derive(Debug)]
pub struct NicSide {
    shared: Arc<Shared>,
    queues: u16,
    version: u64,
    tables: Tables,
    /// What was decided for headers, by a hash of theirs.
    decided: Vec<Option<(Key, Decision)>>,
    into: Vec<(RingInto, Packets)>,
    out: Vec<RingOut>,
    /// The queue whose packets go out next.
    turn: usize,
}

/// What is done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rule that it met, by its place among those that act.
    pub(super) rule: Option<usize>,
    pub(super) mark: Option<u32>,
    /// `None`: it is dropped.
    pub(super) queue: Option<u16>,
    /// The hash, where workers can use it.
    pub(super) hash: Option<u32>,
}

impl Decision {
    pub(super) const fn to(queue: u16) -> Self {
        Self { rule: None, mark: None, queue: Some(queue), hash: None }
    }

    /// As it is seen from outside.
    pub fn met(&self) -> Met {
        match self.queue {
            None => Met::Dropped,
            Some(queue) => Met::Passed { queue, mark: self.mark },
        }
    }

    /// Whether it is dropped.
    pub fn is_drop(&self) -> bool {
        self.queue.is_none()
    }
}

/// What is done with packets for which a queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// They are lost, and counted, as by a NIC.
    Lose,
    /// They wait: the sender is no faster than the workers.
    Wait,
}

/// What a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    ends: ([u8; 16], [u8; 16]),
    ports: (u16, u16),
    vlan: u16,
    /// Kind of packet, protocol, TCP flags, ICMP type, fragment.
    kind: [u8; 5],
}

impl Key {
    fn of(h: &Headers) -> Self {
        let kind = [h.kind as u8, h.protocol, h.tcp_flags.0, h.icmp_type, h.fragment as u8];
        Self { ends: (h.src.0, h.dst.0), ports: (h.sport, h.dport), vlan: h.vlan, kind }
    }

    fn place(&self, h: &Headers) -> usize {
        let [_, _, flags, icmp, _] = self.kind;
        let mixed = flow_hash(h) ^ u32::from(flags) << 3 ^ u32::from(icmp) << 7;
        // Both directions of a flow have one hash.
        (mixed ^ u32::from(h.sport)) as usize % DECIDED_MAX
    }
}

impl NicSide {
    pub(super) fn new(shared: Arc<Shared>, queues: u16, port: RingPort) -> Self {
        let tables = Tables::of(&shared.lock(), queues, From::Wire);
        Self {
            queues,
            version: 0,
            tables,
            decided: vec![None; DECIDED_MAX],
            into: port.into.into_iter().map(|ring| (ring, Packets::new())).collect(),
            out: port.out,
            turn: 0,
            shared,
        }
    }

    /// A number that changes when frames may be decided otherwise than before.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Takes up rules that changed since. What was decided before is decided again.
    fn refresh(&mut self) {
        let version = self.version();
        if version != self.version {
            self.version = version;
            self.tables = Tables::of(&self.shared.lock(), self.queues, From::Wire);
            self.decided.fill(None);
        }
    }

    /// What the NIC does with a frame that had so many bytes on the wire.
    pub fn decide(&mut self, frame: &[u8], wire_length: u32) -> Decision {
        self.refresh();
        let Ok(headers) = parse(frame, wire_length) else { return Decision::to(0) };
        let key = Key::of(&headers);
        let Some(place) = self.decided.get_mut(key.place(&headers)) else {
            return self.tables.decide_parsed(&headers);
        };
        match place {
            Some((known, decision)) if *known == key => *decision,
            _ => {
                let decision = self.tables.decide_parsed(&headers);
                *place = Some((key, decision));
                decision
            }
        }
    }

    /// What it would do with a frame if it had no rules.
    pub fn decide_without_rules(&mut self, frame: &[u8], wire_length: u32) -> Decision {
        self.refresh();
        match parse(frame, wire_length) {
            Ok(headers) => self.tables.spread_only(&headers),
            Err(_) => Decision::to(0),
        }
    }

    /// Takes packets from the wire to the queues, or wherever the rules have them.
    pub fn receive(&mut self, packets: &mut Packets) {
        self.refresh();
        for packet in packets.drain(..) {
            let decision = self.decide(packet.data(), packet.len());
            self.meet(&decision, 1);
            if decision.is_drop() {
                packet.free();
            } else {
                self.deliver(packet, &decision);
            }
        }
        self.flush(Full::Lose);
    }

    /// Counts frames of which that was decided.
    pub fn meet(&mut self, decision: &Decision, frames: u64) {
        let counts = &self.shared.counts;
        add(&counts.received, frames);
        if decision.is_drop() {
            add(&counts.dropped, frames);
        }
        if let Some(entry) = decision.rule.and_then(|at| self.tables.entries.get(at)) {
            add(&entry.hits, frames);
        }
    }

    /// Puts a packet that is not dropped before its queue. Where a burst stands there already that has no room, it is lost.
    pub fn deliver(&mut self, mut packet: Packet, decision: &Decision) {
        packet.set_mark(decision.mark);
        if let Some(hash) = decision.hash {
            packet.set_rss_hash(hash);
        }
        let queue = decision.queue.map_or(0, usize::from);
        let Some((ring, waiting)) = self.into.get_mut(queue) else { return packet.free() };
        if waiting.is_full() {
            ring.push(waiting);
            add(&self.shared.counts.missed, waiting.len() as u64);
            Packet::free_all(waiting);
        }
        waiting.push(packet);
    }

    /// Passes on what stands before the queues. False: some of it waits still.
    pub fn flush(&mut self, full: Full) -> bool {
        let mut all = true;
        for (ring, waiting) in self.into.iter_mut().filter(|(_, waiting)| !waiting.is_empty()) {
            ring.push(waiting);
            if full == Full::Lose {
                add(&self.shared.counts.missed, waiting.len() as u64);
                Packet::free_all(waiting);
            }
            all &= waiting.is_empty();
        }
        if all {
            self.shared.acts.store(self.version, Ordering::Release);
        }
        all
    }

    /// What workers transmitted, of one queue after another, into `packets`, which is empty.
    pub fn transmitted(&mut self, packets: &mut Packets) {
        for _ in 0..self.out.len() {
            self.turn = (self.turn + 1) % self.out.len();
            if let Some(ring) = self.out.get_mut(self.turn) {
                ring.pop(packets);
            }
            if !packets.is_empty() {
                return;
            }
        }
    }

    /// Counts frames that the wire took, and such that it did not.
    pub(super) fn count_sent(&self, sent: usize, unsent: usize) {
        add(&self.shared.counts.sent, sent as u64);
        add(&self.shared.counts.unsent, unsent as u64);
    }

    /// Ends it: what no worker has received is freed, and what workers have transmitted since. The workers have ended.
    pub fn end(mut self) {
        let mut packets = Packets::new();
        self.flush(Full::Lose);
        for (ring, _) in &mut self.into {
            while {
                ring.take_back(&mut packets);
                !packets.is_empty()
            } {
                add(&self.shared.counts.left, packets.len() as u64);
                Packet::free_all(&mut packets);
            }
        }
        while {
            self.transmitted(&mut packets);
            !packets.is_empty()
        } {
            self.count_sent(0, packets.len());
            Packet::free_all(&mut packets);
        }
    }
}

/// Decisions that are kept: more flows than that meet the rules again.
const DECIDED_MAX: usize = 1 << 14;
