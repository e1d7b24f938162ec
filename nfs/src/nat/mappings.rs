//! Mappings: which outside end stands for which inside end.
//!
//! ```text
//!   outside address -> class of the inside end -> 512 places -> `[inside address: 32][inside port: 16][flows: 16]`
//! ```
//!
//! A mapping's place follows from a hash of its inside end, by linear probing, so the table of ports is its own index: 8
//! bytes a port and nothing besides. All workers share it: a mapping must be the same for all flows of an inside end
//! (RFC 4787, REQ-1), whose flows fall into all shards. It is read and written at a flow's first packet and at its end
//! only, a word at a time. The one rejected: ports cut up by shard, which gives an inside end another mapping in each.
//!
//! Flows join and leave a mapping by one exchange of its word. A new mapping is proposed first: a word with a number
//! instead of a count. Then whoever looks for the inside end takes the first proposal for it, once a second look has shown
//! it to be the first still and the others are taken away, and makes it the mapping. So two workers that see an inside end
//! at once, each with another place free, end up with one mapping, and a worker that the kernel stops holds up nobody.
//!
//! Why never two: of two proposals that are made mappings, take that which lies first. Its maker has looked at the other's
//! place before the other was there, else it would have taken it away; so the other's maker, whose second look began
//! later, has seen the first. A proposal that was taken away is known by its number.

mod lasting;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::clock::Time;
use nfv_core::dpdk::prefetch;
use nfv_core::packet::protocol;

use self::lasting::Lasting;
use super::classes::{PLACES, class_of_end};
use super::ends::{End, MappingId};
use super::layout::{Layout, Pooling};
use super::log::{Happened, Log, Record};
use super::outside::{Outside, step, swap};
use super::ranges::Ranges;
use super::shares::Shares;

/// Which outside end stands for which inside end, of all protocols with ports.
#[derive(Debug)]
pub struct Mappings {
    layout: Layout,
    /// Those that this one has replaced: mappings that are where they were under those are looked for there.
    earlier: Vec<Layout>,
    /// Those of the pool, and those that flows held when an earlier pool was replaced.
    outsides: Vec<Option<Arc<Outside>>>,
    /// By protocol, a bit a port: those of all addresses that no inside end gets.
    reserved: [Vec<u64>; 3],
    /// Single ends that no inside end gets.
    reserved_ends: HashSet<(usize, End)>,
    log: Arc<Log>,
    lasting: Arc<Lasting>,
}

/// Why an inside end has no outside end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// All ports of the pool that it could have are taken.
    Pool,
    /// Its subscriber has as many ports as it may have.
    Subscriber,
}

/// Most outside addresses.
pub const ADDRESSES_MAX: u64 = 1 << 13;

/// What mappings are made of.
#[derive(Debug)]
pub struct Plot {
    /// At most [`ADDRESSES_MAX`] addresses.
    pub pool: Ranges,
    /// First and last port.
    pub ports: (u16, u16),
    /// Which addresses an inside address may have.
    pub pooling: Pooling,
    /// Who may use which ports.
    pub shares: Shares,
    /// Where ranges of ports that were given and came back are noted.
    pub log: Arc<Log>,
    /// By which inside ends are spread over ports; mappings that are taken over keep theirs.
    pub secret: u64,
}

/// What is looked for, and where it would be.
#[derive(Clone, Copy)]
struct Search {
    space: usize,
    class: u16,
    key: u64,
    subscriber: Ipv4Addr,
    /// Of the subscriber.
    hash: u64,
    /// The first place.
    start: usize,
}

/// A word that has an inside end that is looked for.
#[derive(Clone, Copy)]
struct Seen<'m> {
    outside: &'m Outside,
    /// Of the address.
    at: u16,
    place: usize,
    word: &'m AtomicU64,
    value: u64,
}

impl Seen<'_> {
    fn is_proposed(&self) -> bool {
        self.value & FLOWS > FLOWS_MAX
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.word, other.word) && self.value == other.value
    }
}

/// Which ports of an address are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Those that the subscriber may have.
    Own,
    /// Those of ranges that nobody has: the range is the subscriber's then.
    Nobodys,
}

impl Mappings {
    /// No mapping yet, but those that flows hold of the mappings that these replace. `None`: there is no memory for it.
    pub fn new(plot: Plot, before: Option<&Self>) -> Option<Self> {
        let Plot { pool, ports, pooling, shares, log, secret } = plot;
        let alike = before.filter(|b| b.layout.shares.is_like(&shares));
        let share_count = match shares {
            Shares::Given { size, .. } => 65_536 / usize::from(size),
            Shares::Common | Shares::Computed { .. } => 0,
        };
        let earlier = before.map_or(&[][..], |b| &b.outsides);
        let mut outsides = match alike {
            Some(alike) => alike.kept(&pool),
            None => vec![None; earlier.len()],
        };
        let mut places = Vec::new();
        for address in (0..pool.len()).filter_map(|n| pool.address(n)) {
            let is_it = |o: &Option<Arc<Outside>>| o.as_ref().is_some_and(|o| o.address == address);
            let place = match outsides.iter().position(is_it) {
                Some(place) => place,
                None => {
                    let new = Some(Arc::new(Outside::new(address, share_count)?));
                    // Where another was just now, flows may hold mappings of that.
                    let was_free = |at: usize| earlier.get(at).is_some_and(Option::is_none);
                    let mut all = outsides.iter_mut().enumerate();
                    match all.find(|(at, o)| o.is_none() && was_free(*at)) {
                        Some((place, free)) => {
                            *free = new;
                            place
                        }
                        None => {
                            outsides.push(new);
                            outsides.len() - 1
                        }
                    }
                }
            };
            places.push(u16::try_from(place).ok().filter(|place| *place < OUTSIDES_MAX)?);
        }
        let lasting = alike.map_or_else(|| Arc::new(Lasting::new(secret)), |b| b.lasting.clone());
        let layout = Layout { pool, places: places.into(), ports, pooling, shares };
        let mut earlier = Vec::new();
        if let Some(alike) = alike {
            let all = [&alike.layout].into_iter().chain(&alike.earlier);
            earlier.extend(all.filter(|l| !l.is_like(&layout)).take(EARLIER_MAX).cloned());
        }
        Some(Self {
            layout,
            earlier,
            outsides,
            reserved: [(); 3].map(|()| vec![0; 65_536 / 64]),
            reserved_ends: HashSet::new(),
            log,
            lasting,
        })
    }

    /// Addresses that stay in their places: those of a pool, those that flows hold ports of, and those of this one's pool,
    /// which workers use until they have heard of the change.
    fn kept(&self, pool: &Ranges) -> Vec<Option<Arc<Outside>>> {
        let stays = |o: &Arc<Outside>| {
            pool.has(o.address) || self.is_outside(o.address) || !o.is_idle(FLOWS)
        };
        self.outsides.iter().map(|o| o.clone().filter(stays)).collect()
    }

    /// Whether an address is one of the outside.
    #[inline]
    pub fn is_outside(&self, address: Ipv4Addr) -> bool {
        self.layout.pool.has(address)
    }

    /// Whether there is no outside address.
    pub fn is_empty(&self) -> bool {
        self.layout.pool.is_empty()
    }

    /// The outside end of an inside end, made when there is none, for one more flow.
    ///
    /// # Errors
    /// No port is left; also for a protocol that has none.
    /// # Cost
    /// One or two lines of memory, as long as the pool is not nearly used up; a new mapping looks twice.
    pub fn bind(&self, proto: u8, inside: End, now: Time) -> Result<(MappingId, End), Exhausted> {
        let search = self.search(proto, inside).ok_or(Exhausted::Pool)?;
        for _ in 0..TRIES_MAX {
            match self.first(&search) {
                None => self.propose(&search, now)?,
                Some(seen) if seen.is_proposed() => {
                    if self.settle(&search, &seen, now) {
                        return Ok(self.held(&search, &seen));
                    }
                }
                Some(seen) if seen.value & FLOWS == FLOWS_MAX => return Err(Exhausted::Subscriber),
                Some(seen) => {
                    if swap(seen.word, seen.value, seen.value + 1) {
                        return Ok(self.held(&search, &seen));
                    }
                }
            }
        }
        Err(Exhausted::Pool)
    }

    /// Asks the CPU for what [`Mappings::bind`] reads first.
    pub fn prefetch(&self, proto: u8, inside: End) {
        let Some(search) = self.search(proto, inside) else { return };
        let Some((_, outside)) = self.homes(&search).next() else { return };
        if let Some(block) = outside.block(search.space, search.class) {
            prefetch(block);
        }
        let Some(words) = outside.words(search.space, search.class) else { return };
        for ahead in 0..LINES_AHEAD {
            if let Some(word) = words.get((search.start + ahead * WORDS_OF_A_LINE) % PLACES) {
                prefetch(word);
            }
        }
    }

    /// Asks the CPU for what [`Mappings::release`] writes.
    pub fn prefetch_held(&self, id: MappingId) {
        if let Some((_, word)) = self.word(id) {
            prefetch(word);
        }
    }

    fn word(&self, id: MappingId) -> Option<(&Arc<Outside>, &AtomicU64)> {
        let outside = self.outsides.get(id.outside())?.as_ref()?;
        Some((outside, outside.word(id.space()?, id.at())?))
    }

    fn search(&self, proto: u8, inside: End) -> Option<Search> {
        let (key, subscriber) = (key_of(inside), inside.address);
        Some(Search {
            space: space_of(proto)?,
            class: class_of_end(subscriber, inside.port),
            key,
            subscriber,
            hash: self.lasting.hash(u64::from(subscriber.to_bits())),
            start: self.lasting.hash(key) as usize % PLACES,
        })
    }

    /// The mapping of the inside end; without one, the first proposal.
    fn first<'m>(&'m self, search: &Search) -> Option<Seen<'m>> {
        let mut first = None;
        let _ = self.look(search, |seen| match seen.is_proposed() {
            true => {
                first.get_or_insert(seen);
                ControlFlow::Continue(())
            }
            false => {
                first = Some(seen);
                ControlFlow::Break(())
            }
        });
        first
    }

    /// Makes a proposal the mapping, with one flow, when it is still the first one. False: look again.
    fn settle(&self, search: &Search, chosen: &Seen<'_>, now: Time) -> bool {
        let mut is_first = false;
        let looked = self.look(search, |seen| {
            if seen.is_same(chosen) {
                is_first = true;
            } else if !(is_first && seen.is_proposed() && self.take_away(search, &seen, now)) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let mapping = search.key << 16 | 1;
        let made = is_first && looked.is_continue() && swap(chosen.word, chosen.value, mapping);
        if made {
            self.lasting.count(search.class, 1);
        }
        made
    }

    fn take_away(&self, search: &Search, seen: &Seen<'_>, now: Time) -> bool {
        let gone = swap(seen.word, seen.value, search.key << 16);
        if gone {
            let address = seen.outside.address;
            let port = self.lasting.classes.port(address, search.class, seen.place);
            self.leave(seen.outside, port, now);
        }
        gone
    }

    /// Looks at all words that have the inside end and are in use, in order.
    fn look<'m>(
        &'m self,
        search: &Search,
        mut each: impl FnMut(Seen<'m>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for layout in [&self.layout].into_iter().chain(&self.earlier) {
            let home = layout.home(search.subscriber, search.hash);
            for (address, at) in home.into_iter().flat_map(|home| layout.addresses(home)) {
                let outside = self.at(at).filter(|o| o.address == address);
                let Some((outside, block, words)) = outside.and_then(|o| {
                    let block = o.block(search.space, search.class)?;
                    Some((o, block, o.words(search.space, search.class)?))
                }) else {
                    break;
                };
                for turn in 0..usize::from(block.reach.load(Ordering::SeqCst)) {
                    let place = (search.start + turn) % PLACES;
                    let Some(word) = words.get(place) else { continue };
                    step();
                    let value = word.load(Ordering::SeqCst);
                    if value >> 16 == search.key && value & FLOWS != 0 {
                        each(Seen { outside, at, place, word, value })?;
                    }
                }
                if block.spilled.load(Ordering::SeqCst) == 0 {
                    break;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Proposes the first place that is free.
    fn propose(&self, search: &Search, now: Time) -> Result<(), Exhausted> {
        let mut why = Exhausted::Pool;
        for (ports, outside) in self.homes(search) {
            let Some(block) = outside.block(search.space, search.class) else { break };
            let mut taken = self.take(outside, search, ports, Look::Own, now);
            match self.layout.shares {
                Shares::Given { most, .. } if !taken => {
                    if outside.shares_of(search.subscriber) < usize::from(most) {
                        taken = self.take(outside, search, ports, Look::Nobodys, now);
                    } else {
                        why = Exhausted::Subscriber;
                    }
                }
                Shares::Computed { .. } => why = Exhausted::Subscriber,
                _ => {}
            }
            if taken {
                return Ok(());
            }
            block.spilled.store(1, Ordering::SeqCst);
        }
        Err(why)
    }

    /// Puts a proposal where there is room. Whether there is.
    fn take(
        &self,
        outside: &Outside,
        search: &Search,
        (first, last): (u16, u16),
        look: Look,
        now: Time,
    ) -> bool {
        let (Some(block), Some(words)) =
            (outside.block(search.space, search.class), outside.words(search.space, search.class))
        else {
            return false;
        };
        for turn in 0..PLACES {
            let place = (search.start + turn) % PLACES;
            let port = self.lasting.classes.port(outside.address, search.class, place);
            let Some(word) = words.get(place) else { continue };
            let seen = word.load(Ordering::Relaxed);
            if seen & FLOWS != 0
                || port < first
                || port > last
                || self.is_reserved(search.space, End { address: outside.address, port })
            {
                continue;
            }
            let share = self.layout.shares.of_port(port).map(usize::from);
            if let (Shares::Given { .. }, Some(share)) = (&self.layout.shares, share) {
                let is_own = match look {
                    Look::Own => outside.join_share(share, search.subscriber),
                    Look::Nobodys => outside.take_share(share, search.subscriber),
                };
                if !is_own {
                    continue;
                }
                if look == Look::Nobodys {
                    self.note(Happened::Given, search.subscriber, outside.address, share, now);
                }
            }
            // It only ever grows, and nearly always has.
            if block.reach.load(Ordering::SeqCst) <= turn as u16 {
                block.reach.fetch_max(turn as u16 + 1, Ordering::SeqCst);
            }
            // Else another worker's is there now.
            if swap(word, seen, search.key << 16 | self.lasting.proposal(search.class)) {
                return true;
            }
            self.leave(outside, port, now);
        }
        false
    }

    fn held(&self, search: &Search, seen: &Seen<'_>) -> (MappingId, End) {
        let address = seen.outside.address;
        let port = self.lasting.classes.port(address, search.class, seen.place);
        let id = MappingId::new(search.space, seen.at, at_of(search.class, seen.place));
        (id, End { address, port })
    }

    /// The inside end that an outside end stands for, for one more flow.
    pub fn hold(&self, proto: u8, outside: End) -> Option<(MappingId, End)> {
        let space = space_of(proto)?;
        let place = self.layout.place(outside.address)?;
        let own = self.at(place)?;
        let (class, at) = self.lasting.classes.find(outside.address, outside.port);
        let at = at_of(class, at);
        let word = own.word(space, at)?;
        loop {
            let seen = word.load(Ordering::Relaxed);
            if !(1..FLOWS_MAX).contains(&(seen & FLOWS)) {
                return None;
            }
            if swap(word, seen, seen + 1) {
                return Some((MappingId::new(space, place, at), inside_of(seen)));
            }
        }
    }

    /// What a mapping that a flow holds stands for: the outside and the inside end.
    pub fn held_by(&self, id: MappingId) -> Option<(End, End)> {
        let outside = self.outsides.get(id.outside())?.as_ref()?;
        let word = outside.word(id.space()?, id.at())?;
        let (class, place) = class_and_place(id.at());
        let port = self.lasting.classes.port(outside.address, class, place);
        Some((End { address: outside.address, port }, inside_of(word.load(Ordering::Relaxed))))
    }

    /// A flow that held a mapping has ended.
    pub fn release(&self, id: MappingId, now: Time) {
        let Some((outside, word)) = self.word(id) else { return };
        loop {
            let seen = word.load(Ordering::Relaxed);
            if !(1..=FLOWS_MAX).contains(&(seen & FLOWS)) {
                return;
            }
            if swap(word, seen, seen - 1) {
                if seen & FLOWS == 1 {
                    let (class, place) = class_and_place(id.at());
                    self.lasting.count(class, -1);
                    let port = self.lasting.classes.port(outside.address, class, place);
                    self.leave(outside, port, now);
                }
                return;
            }
        }
    }

    /// A mapping of a port has ended.
    fn leave(&self, outside: &Outside, port: u16, now: Time) {
        if let (Shares::Given { .. }, Some(share)) =
            (&self.layout.shares, self.layout.shares.of_port(port))
            && let Some(subscriber) = outside.leave_share(usize::from(share))
        {
            self.note(Happened::CameBack, subscriber, outside.address, usize::from(share), now);
        }
    }

    fn note(
        &self,
        what: Happened,
        subscriber: Ipv4Addr,
        address: Ipv4Addr,
        share: usize,
        time: Time,
    ) {
        let ports = u16::try_from(share).ok().and_then(|share| self.layout.shares.ports(share));
        let Some(ports) = ports else { return };
        self.log.note(Record { time, what, subscriber, address, ports });
    }

    /// Keeps an outside end from being given to inside ends; with the unspecified address, that port of all.
    pub fn reserve(&mut self, proto: u8, outside: End) {
        let Some(space) = space_of(proto) else { return };
        if !outside.address.is_unspecified() {
            self.reserved_ends.insert((space, outside));
        } else if let Some(bits) =
            self.reserved.get_mut(space).and_then(|b| b.get_mut(usize::from(outside.port) / 64))
        {
            *bits |= 1 << (outside.port % 64);
        }
    }

    fn is_reserved(&self, space: usize, end: End) -> bool {
        let bits = self.reserved.get(space).and_then(|b| b.get(usize::from(end.port) / 64));
        bits.is_some_and(|bits| bits >> (end.port % 64) & 1 == 1)
            || !self.reserved_ends.is_empty() && self.reserved_ends.contains(&(space, end))
    }

    /// Mappings that flows hold.
    pub fn in_use(&self) -> u64 {
        self.lasting.in_use()
    }

    /// Ranges of ports that subscribers have.
    pub fn shares_given(&self) -> usize {
        self.outsides.iter().flatten().map(|o| o.shares_given()).sum()
    }

    /// The addresses that may have a new mapping, in order, each with its ports.
    fn homes(&self, search: &Search) -> impl Iterator<Item = ((u16, u16), &Outside)> {
        let home = self.layout.home(search.subscriber, search.hash);
        home.into_iter().flat_map(move |home| {
            let all = self.layout.addresses(home);
            all.filter_map(move |(_, at)| Some((home.ports, self.at(at)?)))
        })
    }

    fn at(&self, place: u16) -> Option<&Outside> {
        self.outsides.get(usize::from(place))?.as_deref()
    }
}

fn at_of(class: u16, place: usize) -> u16 {
    class * PLACES as u16 + place as u16
}

fn class_and_place(at: u16) -> (u16, usize) {
    (at / PLACES as u16, usize::from(at) % PLACES)
}

fn key_of(inside: End) -> u64 {
    u64::from(inside.address.to_bits()) << 16 | u64::from(inside.port)
}

fn inside_of(word: u64) -> End {
    End { address: Ipv4Addr::from_bits((word >> 32) as u32), port: (word >> 16) as u16 }
}

fn space_of(proto: u8) -> Option<usize> {
    match proto {
        protocol::TCP => Some(0),
        protocol::UDP => Some(1),
        protocol::ICMP => Some(2),
        _ => None,
    }
}

/// How many flows hold a mapping, in its word; above [`FLOWS_MAX`], the number of a proposal.
const FLOWS: u64 = 0xffff;
const FLOWS_MAX: u64 = 0xefff;
/// Words in a line of memory.
const WORDS_OF_A_LINE: usize = 8;
/// Lines that a look for an inside end reads, as long as the pool is not nearly used up.
const LINES_AHEAD: usize = 3;
/// Looks for an inside end before giving up: each but the first few means that another worker got on.
const TRIES_MAX: usize = 1000;
/// Layouts before this one in which mappings are looked for.
const EARLIER_MAX: usize = 3;
/// Addresses at a time, those of earlier pools among them: as many as a [`MappingId`] tells apart.
const OUTSIDES_MAX: u16 = 1 << 14;

#[cfg(test)]
mod tests;
