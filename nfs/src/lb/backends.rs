//! The backends of a service: which are up, and which of them a new flow goes to.
//!
//! The control thread writes, workers read, and nobody waits: a table of slots is changed one slot at a time, as a flow
//! reads one slot only, and what stood there before is as right as what comes. The one rejected: a new table behind a
//! pointer, which somebody has to free, and that may be a worker.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nfv_core::nf::{Endpoint, Handle, Named, Via};

use super::health::State;
use super::maglev::{Maglev, TableSize};

/// The backends of a service.
#[derive(Debug)]
pub struct Backends {
    all: Box<[Backend]>,
    /// Ids with indices, by id.
    by_id: Box<[(u32, u16)]>,
    /// QUIC's server ids with indices, by id.
    by_server: Box<[(u64, u16)]>,
    /// Of each slot the backend's index, or [`NOBODY`].
    slots: Box<[AtomicU16]>,
    size: TableSize,
    /// Raised when flows have lost their backend.
    generation: Arc<AtomicU32>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// A backend as `build` found it.
#[derive(Clone, Debug)]
pub struct Member {
    /// As the operator calls it; no other has it.
    pub name: String,
    /// Its part of new flows.
    pub weight: u32,
    /// How packets reach it.
    pub way: Way,
    /// Its server id in QUIC's connection ids.
    pub server: Option<u64>,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By its address instead of the virtual one.
    Address {
        /// Its address; the port is of use only with the next one.
        end: Endpoint,
        /// Whether its port is another than the service's.
        port: Port,
    },
    /// As they are, by a way of their own.
    Via(Via),
}

/// The port of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// That of the packet.
    Same,
    /// Its own.
    Own,
}

/// A backend.
#[derive(Debug)]
pub struct Backend {
    /// What flows know it by: it follows from its name, so it is the same after a reload.
    pub id: u32,
    /// As the file has it.
    pub member: Member,
    is_up: AtomicBool,
    is_drained: AtomicBool,
    /// Shared with the one that it replaces at a reload, as flows stay.
    flows: Arc<AtomicI64>,
}

impl Backend {
    /// Whether flows that it has may stay.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    fn takes_new(&self) -> bool {
        self.is_up() && !self.is_drained.load(Ordering::Relaxed) && self.member.weight > 0
    }

    fn state(&self) -> &'static str {
        match (self.is_up(), self.takes_new()) {
            (true, true) => "up",
            (true, false) => "draining",
            (false, _) => "down",
        }
    }

    /// One flow more.
    pub fn take(&self) {
        self.flows.fetch_add(1, Ordering::Relaxed);
    }

    /// One flow less.
    pub fn give_back(&self) {
        self.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Two names have one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SameId(pub usize, pub usize);

impl Backends {
    /// All of them up, but for what those that they replace at a reload (`before`) know of them. `generation` is raised
    /// when flows are to be decided again.
    ///
    /// # Errors
    /// Two of them that flows could not tell apart: one is to be called otherwise.
    pub fn new(
        members: Vec<Member>,
        size: TableSize,
        generation: Arc<AtomicU32>,
        before: Option<&Self>,
    ) -> Result<Self, SameId> {
        let indexed = || (0..NOBODY).zip(&members);
        let mut by_id: Vec<(u32, u16)> = indexed().map(|(i, m)| (id_of(&m.name), i)).collect();
        by_id.sort_unstable();
        let twice = by_id.iter().zip(by_id.iter().skip(1)).find(|(a, b)| a.0 == b.0);
        if let Some(((_, a), (_, b))) = twice {
            return Err(SameId(usize::from(*a), usize::from(*b)));
        }
        let mut by_server: Vec<(u64, u16)> =
            indexed().filter_map(|(i, m)| m.server.map(|server| (server, i))).collect();
        by_server.sort_unstable();
        let backend = |member: Member| {
            let id = id_of(&member.name);
            let was = before.and_then(|b| b.of_id(id)).map(|(_, backend)| backend);
            let is = |of: fn(&Backend) -> &AtomicBool, new| {
                AtomicBool::new(was.map_or(new, |b| of(b).load(Ordering::Relaxed)))
            };
            Backend {
                id,
                member,
                is_up: is(|b| &b.is_up, true),
                is_drained: is(|b| &b.is_drained, false),
                flows: was.map_or_else(Arc::default, |b| b.flows.clone()),
            }
        };
        let backends = Self {
            all: members.into_iter().map(backend).collect(),
            by_id: by_id.into(),
            by_server: by_server.into(),
            slots: (0..size.slots()).map(|_| AtomicU16::new(NOBODY)).collect(),
            size,
            generation,
            changing: Mutex::new(()),
        };
        backends.share_out();
        Ok(backends)
    }

    /// The backend that a new flow goes to; `None` when none takes any. `hash`: 32 bits, the upper ones even.
    #[inline]
    pub fn pick(&self, hash: u32) -> Option<(u16, &Backend)> {
        self.at(self.slots.get(self.size.slot(hash))?.load(Ordering::Relaxed))
    }

    /// The backend of an id.
    pub fn of_id(&self, id: u32) -> Option<(u16, &Backend)> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.at(self.by_id.get(at)?.1)
    }

    /// The backend of a QUIC server id.
    pub fn of_server(&self, server: u64) -> Option<(u16, &Backend)> {
        let at = self.by_server.binary_search_by_key(&server, |(id, _)| *id).ok()?;
        self.at(self.by_server.get(at)?.1)
    }

    /// The backend of an index.
    pub fn at(&self, at: u16) -> Option<(u16, &Backend)> {
        self.all.get(usize::from(at)).map(|backend| (at, backend))
    }

    /// What a check has found out about a backend.
    pub fn set_health(&self, at: usize, state: State) {
        let Some(backend) = self.all.get(at) else { return };
        let is_up = state == State::Up;
        if backend.is_up.swap(is_up, Ordering::Relaxed) == is_up {
            return;
        }
        self.share_out();
        if !is_up {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a backend is up, as far as is known.
    pub fn health(&self, at: usize) -> State {
        if self.all.get(at).is_none_or(Backend::is_up) { State::Up } else { State::Down }
    }

    /// The name of a backend.
    pub fn name(&self, at: usize) -> &str {
        self.all.get(at).map_or("", |b| &b.member.name)
    }

    /// Whether a backend takes new flows, as far as the operator is concerned.
    fn set_drained(&self, name: &str, drained: bool) -> Result<(), String> {
        let Some(backend) = self.all.iter().find(|b| b.member.name == name) else {
            let names: Vec<&str> = self.all.iter().map(|b| b.member.name.as_str()).collect();
            return Err(format!("it is the name of a backend: {}", names.join(" ")));
        };
        backend.is_drained.store(drained, Ordering::Relaxed);
        self.share_out();
        Ok(())
    }

    /// Fills the slots anew: who takes no new flow has none.
    fn share_out(&self) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = |b: &Backend| if b.takes_new() { b.member.weight } else { 0 };
        let weights: Vec<(&str, u32)> =
            self.all.iter().map(|b| (b.member.name.as_str(), weight(b))).collect();
        let table = Maglev::build(&weights, self.size);
        let new = table.slots().iter().copied().chain(std::iter::repeat(NOBODY));
        for (slot, new) in self.slots.iter().zip(new) {
            slot.store(new, Ordering::Relaxed);
        }
    }

    /// What an operator reads and sets.
    pub fn handles(self: &Arc<Self>) -> Vec<Handle> {
        let named = |name, help| Named { name, help };
        let shown = self.clone();
        let list = move || {
            let line = |b: &Backend| {
                let flows = b.flows.load(Ordering::Relaxed).max(0);
                format!("{} {} {} {flows}", b.member.name, b.state(), b.member.weight)
            };
            shown.all.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        vec![
            Handle {
                named: named("backends", "of each its name, state, weight and flows"),
                read: Box::new(list),
                write: None,
            },
            self.drain(named("drain", "backends that keep their flows and get no new ones"), true),
            self.drain(named("enable", "backends that are not drained"), false),
        ]
    }

    fn drain(self: &Arc<Self>, named: Named, drained: bool) -> Handle {
        let (shown, set) = (self.clone(), self.clone());
        let names = move || {
            let is = |b: &&Backend| b.is_drained.load(Ordering::Relaxed) == drained;
            let names = shown.all.iter().filter(is).map(|b| b.member.name.as_str());
            names.collect::<Vec<_>>().join(" ")
        };
        let write = move |name: &str| set.set_drained(name, drained);
        Handle { named, read: Box::new(names), write: Some(Box::new(write)) }
    }
}

/// What flows know a backend by: a hash of its name, never 0, which is nobody's.
fn id_of(name: &str) -> u32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

/// In a slot while no backend takes new flows.
const NOBODY: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(i, weight): (usize, &u32)| Member {
            name: format!("web-{i}"),
            weight: *weight,
            way: Way::Via(Via::Back),
            server: Some(100 + i as u64),
        };
        weights.iter().enumerate().map(member).collect()
    }

    fn backends(weights: &[u32]) -> Backends {
        Backends::new(members(weights), TableSize::default(), Arc::default(), None).unwrap()
    }

    /// Hashes that are spread evenly.
    fn hashes() -> impl Iterator<Item = u32> {
        (0..100_000u32).map(|i| i.wrapping_mul(0x9e37_79b9))
    }

    fn picks(b: &Backends) -> Vec<Option<u16>> {
        hashes().map(|hash| b.pick(hash).map(|(at, _)| at)).collect()
    }

    #[test]
    fn removing_one_of_n_moves_its_flows_and_at_most_one_percent_of_the_others() {
        for n in [2, 3, 5, 10, 40] {
            let all = backends(&vec![1; n]);
            let before = picks(&all);
            all.set_health(n / 2, State::Down);
            let after = picks(&all);
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let part = moved as f64 / before.len() as f64;
            assert!(part <= 1.0 / n as f64 + 0.01, "{n}: {part}");
            assert!(after.iter().all(|at| *at != Some((n / 2) as u16)));
            all.set_health(n / 2, State::Up);
            assert_eq!(picks(&all), before, "who comes back gets back what it had");
        }
    }

    #[test]
    fn new_flows_are_shared_out_by_weight() {
        let all = backends(&[1, 3, 0]);
        let mut counts = [0usize; 3];
        picks(&all).into_iter().flatten().for_each(|at| counts[usize::from(at)] += 1);
        let part = counts[0] as f64 / 100_000.0;
        assert!((0.24..0.26).contains(&part), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn only_a_backend_that_goes_down_lets_flows_be_decided_again() {
        let generation = Arc::new(AtomicU32::new(0));
        let all = Arc::new(
            Backends::new(members(&[1, 1]), TableSize::default(), generation.clone(), None)
                .unwrap(),
        );
        let raised = || generation.load(Ordering::Relaxed);
        all.set_drained("web-0", true).unwrap();
        all.set_health(1, State::Up);
        assert_eq!(raised(), 0);
        all.set_health(1, State::Down);
        assert_eq!(raised(), 1);
        assert_eq!(all.pick(7).map(|(at, _)| at), None, "one is drained, one is down");
        all.set_drained("web-0", false).unwrap();
        assert_eq!(all.pick(7).map(|(at, _)| at), Some(0));
        assert!(all.set_drained("web-7", true).unwrap_err().contains("web-0 web-1"));
    }

    #[test]
    fn the_list_says_of_each_backend_what_an_operator_wants_to_know() {
        let all = Arc::new(backends(&[1, 5, 0]));
        let handles = all.handles();
        let read = |name: &str| (handles.iter().find(|h| h.named.name == name).unwrap().read)();
        assert_eq!(read("backends"), "web-0 up 1 0\nweb-1 up 5 0\nweb-2 draining 0 0");
        let drain = handles.iter().find(|h| h.named.name == "drain").unwrap();
        drain.write.as_ref().unwrap()("web-1").unwrap();
        all.set_health(0, State::Down);
        all.pick(9);
        all.of_id(id_of("web-1")).unwrap().1.take();
        assert_eq!(read("backends"), "web-0 down 1 0\nweb-1 draining 5 1\nweb-2 draining 0 0");
        assert_eq!((read("drain"), read("enable")), ("web-1".into(), "web-0 web-2".into()));
    }

    #[test]
    fn a_backend_is_found_by_its_id_and_by_its_server_id() {
        let all = backends(&[1; 50]);
        for i in 0..50u16 {
            let (at, backend) = all.of_server(100 + u64::from(i)).unwrap();
            assert_eq!(at, i);
            assert_eq!(all.of_id(backend.id).unwrap().0, i);
        }
        assert!(all.of_id(0).is_none() && all.of_server(99).is_none());
    }

    #[test]
    fn after_a_reload_what_was_known_of_backends_still_is() {
        let old = Arc::new(backends(&[1, 1, 1]));
        old.set_health(0, State::Down);
        old.set_drained("web-1", true).unwrap();
        old.of_id(id_of("web-1")).unwrap().1.take();
        let new = members(&[1, 2, 1, 1]);
        let generation = Arc::default();
        let new = Backends::new(new, TableSize::default(), generation, Some(&old)).unwrap();
        let new = Arc::new(new);
        let list = (new.handles()[0].read)();
        assert_eq!(list, "web-0 down 1 0\nweb-1 draining 2 1\nweb-2 up 1 0\nweb-3 up 1 0");
        assert_eq!((new.health(0), new.health(2)), (State::Down, State::Up));
        assert!(picks(&new).iter().all(|at| matches!(at, Some(2 | 3))));
        old.of_id(id_of("web-1")).unwrap().1.give_back();
        assert!((new.handles()[0].read)().contains("web-1 draining 2 0"), "flows are shared");
    }

    #[test]
    fn two_backends_of_one_name_are_told() {
        let mut two = members(&[1, 1]);
        two[1].name = two[0].name.clone();
        let made = Backends::new(two, TableSize::default(), Arc::default(), None);
        assert_eq!(made.unwrap_err(), SameId(0, 1));
    }
}
