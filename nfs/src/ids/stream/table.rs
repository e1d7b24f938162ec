//! The connections of a worker: slots, the index by key, and lists by age.
//!
//! ```text
//!   hash of the key --> head --> slot --> slot       chained through the slots
//!   lists   new | established | closed               the longest idle first: timeouts look at their heads
//!           holders                                  those with bytes, the longest idle first: whose bytes make room
//! ```
//!
//! The index has its size from the start and never grows: a packet waits for no rehash.

use super::connection::{Connection, HOLDS, PHASE_SHIFT};
use super::key::{Key, Secret};
use super::pool::{Pool, Slot};
use super::state::{Phase, TcpState};

/// A connection and where it hangs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    pub(super) key: Key,
    /// The next one of its chain, or free slot.
    chain: u32,
    /// Before and behind it, by [`List`].
    links: [(u32, u32); 2],
    /// When its last segment came.
    pub(super) seen: u32,
    pub(super) connection: Connection,
}

const _: () = assert!(size_of::<Stream>() == 232);

impl Slot for Stream {
    fn link(&self) -> u32 {
        self.chain
    }
    fn set_link(&mut self, next: u32) {
        self.chain = next;
    }
}

/// Which links of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Age,
    Holders,
}

/// First and last of a list; 0 and 0 when it is empty.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u32,
    last: u32,
}

#[derive(Debug)]
pub(super) struct Table {
    streams: Pool<Stream>,
    heads: Box<[u32]>,
    secret: Secret,
    ages: [Ends; 3],
    holders: Ends,
}

impl Table {
    /// As many as `bytes` hold.
    pub(super) fn new(bytes: usize, secret: Secret) -> Self {
        let slots = (bytes / size_of::<Stream>()).max(1);
        let heads = 1usize << slots.ilog2();
        let rest = bytes.saturating_sub(heads * size_of::<u32>());
        Self {
            streams: Pool::new(rest),
            heads: vec![0; heads].into_boxed_slice(),
            secret,
            ages: [Ends::default(); 3],
            holders: Ends::default(),
        }
    }

    pub(super) fn reserved(&self) -> usize {
        self.streams.reserved() + size_of_val(&*self.heads)
    }

    pub(super) fn len(&self) -> u32 {
        self.streams.taken()
    }

    pub(super) fn most(&self) -> u32 {
        self.streams.most()
    }

    #[inline(always)]
    pub(super) fn get(&self, number: u32) -> Option<&Stream> {
        self.streams.get(number).filter(|stream| stream.connection.state != TcpState::None)
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.streams.get_mut(number).filter(|stream| stream.connection.state != TcpState::None)
    }

    #[inline]
    fn place(&self, key: &Key) -> usize {
        (key.hash(self.secret) >> 7) as usize & (self.heads.len() - 1)
    }

    /// A connection by its key, 0 without one.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> u32 {
        let mut at = self.heads.get(self.place(key)).copied().unwrap_or_default();
        while let Some(stream) = self.streams.get(at) {
            if stream.key == *key {
                return at;
            }
            at = stream.chain;
        }
        0
    }

    /// Adds one whose key no other has; `None`: there is no room.
    pub(super) fn insert(&mut self, key: &Key, connection: Connection, tick: u32) -> Option<u32> {
        let number = self.streams.take()?;
        let place = self.place(key);
        let head = self.heads.get_mut(place)?;
        let chain = std::mem::replace(head, number);
        let stream = self.streams.get_mut(number)?;
        *stream = Stream { key: *key, chain, links: Default::default(), seen: tick, connection };
        let phase = connection.state.phase();
        set_phase(stream, phase);
        self.push(List::Age, phase, number);
        Some(number)
    }

    /// Takes one out. What is left in its slot is [`TcpState::None`], by which a number that is no connection's is known.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(stream) = self.get(number).copied() else { return };
        self.unhold(number);
        self.unlink(List::Age, phase_of(&stream), number);
        let place = self.place(&stream.key);
        let head = self.heads.get(place).copied().unwrap_or_default();
        if head == number {
            if let Some(head) = self.heads.get_mut(place) {
                *head = stream.chain;
            }
        } else {
            let mut at = head;
            while let Some(before) = self.streams.get_mut(at) {
                if before.chain == number {
                    before.chain = stream.chain;
                    break;
                }
                at = before.chain;
            }
        }
        if let Some(stream) = self.streams.get_mut(number) {
            stream.connection = Connection::default();
        }
        self.streams.give(number);
    }

    /// Notes that a segment came: it is the least idle one of its phase, and of the holders if it is one.
    #[inline]
    pub(super) fn touch(&mut self, number: u32, tick: u32) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        let (old, new) = (phase_of(stream), stream.connection.state.phase());
        stream.seen = tick;
        set_phase(stream, new);
        let holds = stream.connection.has(HOLDS);
        if old != new || self.ages_of(old).last != number {
            self.unlink(List::Age, old, number);
            self.push(List::Age, new, number);
        }
        if holds && self.holders.last != number {
            self.unlink(List::Holders, old, number);
            self.push(List::Holders, new, number);
        }
    }

    /// Notes whether it holds bytes.
    #[inline]
    pub(super) fn set_holding(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        let [client, server] = &stream.connection.halves;
        let holds = !client.bytes.is_empty() || !server.bytes.is_empty();
        if holds == stream.connection.has(HOLDS) {
            return;
        }
        if holds {
            stream.connection.flags |= HOLDS;
            self.push(List::Holders, Phase::New, number);
        } else {
            self.unhold(number);
        }
    }

    fn unhold(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        if stream.connection.has(HOLDS) {
            stream.connection.flags &= !HOLDS;
            self.unlink(List::Holders, Phase::New, number);
        }
    }

    /// The one of the holders that is idle the longest, 0 without one.
    pub(super) fn oldest_holder(&self) -> u32 {
        self.holders.first
    }

    /// The one of a phase that is idle the longest, 0 without one.
    pub(super) fn oldest(&self, phase: Phase) -> u32 {
        self.ages_of(phase).first
    }

    #[inline]
    fn ages_of(&self, phase: Phase) -> Ends {
        let [new, established, closed] = self.ages;
        match phase {
            Phase::New => new,
            Phase::Established => established,
            Phase::Closed => closed,
        }
    }

    #[inline]
    fn ends(&mut self, list: List, phase: Phase) -> &mut Ends {
        let [new, established, closed] = &mut self.ages;
        match (list, phase) {
            (List::Holders, _) => &mut self.holders,
            (List::Age, Phase::New) => new,
            (List::Age, Phase::Established) => established,
            (List::Age, Phase::Closed) => closed,
        }
    }

    #[inline]
    fn link(&mut self, list: List, number: u32) -> Option<&mut (u32, u32)> {
        let [age, holders] = &mut self.streams.get_mut(number)?.links;
        Some(if list == List::Age { age } else { holders })
    }

    fn push(&mut self, list: List, phase: Phase, number: u32) {
        let ends = self.ends(list, phase);
        let last = std::mem::replace(&mut ends.last, number);
        if ends.first == 0 {
            ends.first = number;
        }
        if let Some(link) = self.link(list, number) {
            *link = (last, 0);
        }
        if let Some((_, next)) = self.link(list, last) {
            *next = number;
        }
    }

    fn unlink(&mut self, list: List, phase: Phase, number: u32) {
        let Some((previous, next)) = self.link(list, number).map(|link| *link) else { return };
        match self.link(list, previous) {
            Some((_, n)) => *n = next,
            None => self.ends(list, phase).first = next,
        }
        match self.link(list, next) {
            Some((p, _)) => *p = previous,
            None => self.ends(list, phase).last = previous,
        }
    }
}

/// The phase by whose list a stream hangs; its state may be further.
#[inline]
fn phase_of(stream: &Stream) -> Phase {
    match stream.connection.flags >> PHASE_SHIFT & 3 {
        0 => Phase::New,
        1 => Phase::Established,
        _ => Phase::Closed,
    }
}

#[inline]
fn set_phase(stream: &mut Stream, phase: Phase) {
    let flags = &mut stream.connection.flags;
    *flags = *flags & !(3 << PHASE_SHIFT) | (phase as u16) << PHASE_SHIFT;
}
