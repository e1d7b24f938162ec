//! A reload, as a worker sees it: what is next was made aside by the control side, and is exchanged between two bursts.

use std::any::Any;
use std::sync::Arc;

use super::flows::FlowEngine;
use super::fragments::Reassembly;
use super::tagged::TagCounts;
use super::{Instance, Mates, Seat, Worker};
use crate::account::Cells;
use crate::burst::Burst;
use crate::chain::compile::{Function, Plan, ProgramId};
use crate::clock::Time;
use crate::dpdk::ReserveError;
use crate::flow::{Paths, SHARDS};
use crate::nf::{Alarm, Nf, Shard};

/// All that a worker needs for another plan, made; afterwards, what it needed for the one before.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a burst of 3 KiB changes places by its pointer")]
pub struct Next {
    plan: Arc<Plan>,
    cells: Arc<Cells>,
    instances: Vec<Made<Instance>>,
    bursts: Vec<Option<Box<Burst>>>,
    touched: Vec<ProgramId>,
    /// When no flows were kept before.
    engine: Option<Box<FlowEngine>>,
    fragments: Option<Box<Reassembly>>,
    /// By shard, then by function.
    slices: Vec<Vec<Made<Box<dyn Any + Send>>>>,
    paths: Paths,
    tags: TagCounts,
    /// When what is in it ended.
    ended: Option<Time>,
}

impl Drop for Next {
    /// Where there is time for it: what no worker uses any more ends.
    fn drop(&mut self) {
        let Some(now) = self.ended else { return };
        for made in &mut self.instances {
            if let Made::New(instance) = made {
                instance.end(now);
            }
        }
    }
}

/// Something of a function.
#[derive(Debug)]
enum Made<T> {
    /// It is as it was: that of the function at this place before.
    Kept(usize),
    /// It takes over what that at this place before kept.
    Heir(usize, T),
    New(T),
}

impl Next {
    /// For worker `seat`, which runs `before`, to run `plan`, counting in `cells`.
    ///
    /// # Errors
    /// There is no address space for flows, of which there were none before.
    pub fn new(
        before: &Plan,
        plan: Arc<Plan>,
        cells: Arc<Cells>,
        (seat, mates): (Seat, Arc<Mates>),
        now: Time,
    ) -> Result<Self, ReserveError> {
        let kept = |f: &Function| {
            before.functions.iter().position(|old| Arc::ptr_eq(&old.built, &f.built))
        };
        let shard = Shard { index: seat.index, of: seat.of };
        let instance = |f: &Function| match kept(f) {
            Some(at) => Made::Kept(at),
            None => match (before.place_of(f.id), Instance::of(&f.built.nf, shard)) {
                (Some(at), new @ Instance::Packet(_)) => Made::Heir(at, new),
                (_, new) => Made::New(new),
            },
        };
        let slice = |f: &Function, index: u16| -> Made<Box<dyn Any + Send>> {
            match (kept(f), &f.built.nf) {
                (Some(at), _) => Made::Kept(at),
                (None, Nf::Flow(nf)) => Made::New(nf.any_slice(Shard { index, of: SHARDS })),
                (None, Nf::Packet(_)) => Made::New(Box::new(())),
            }
        };
        let slices = |index| plan.functions.iter().map(|f| slice(f, index)).collect();
        let begins = before.pieces.is_empty() && !plan.pieces.is_empty();
        let engine =
            begins.then(|| FlowEngine::new(&plan, seat, mates, now).map(Box::new)).transpose()?;
        Ok(Self {
            instances: plan.functions.iter().map(instance).collect(),
            bursts: plan.programs.iter().map(|_| Some(Box::new(Burst::empty()))).collect(),
            touched: Vec::with_capacity(plan.programs.len()),
            slices: if begins { Vec::new() } else { (0..SHARDS).map(slices).collect() },
            paths: Paths::new(),
            tags: TagCounts::new(&plan.tag_cells),
            fragments: engine.is_some().then(|| Box::new(Reassembly::new())),
            engine,
            cells,
            plan,
            ended: None,
        })
    }
}

impl Worker {
    /// Changes to another plan, between two bursts: no packet is under way. `next` has what was before, then.
    pub(super) fn change(&mut self, next: &mut Next, now: Time) {
        self.settle();
        let own = &mut self.own;
        std::mem::swap(&mut self.plan, &mut next.plan);
        std::mem::swap(&mut own.cells, &mut next.cells);
        std::mem::swap(&mut own.bursts, &mut next.bursts);
        std::mem::swap(&mut own.touched, &mut next.touched);
        std::mem::swap(&mut own.tags, &mut next.tags);
        let nothing = || Instance::Slice(Box::new(()));
        exchange(&mut own.instances, &mut next.instances, nothing, Instance::inherit);
        own.alarm = Alarm::SOON;
        next.ended = Some(now);
        match (&mut own.flows, next.engine.take()) {
            (Some(flows), _) => {
                flows.change(&self.plan, &mut next.paths, now);
                for (old, new) in flows.slices().zip(&mut next.slices) {
                    exchange(old, new, || Box::new(()), |_, _| {});
                }
            }
            (none, engine) => *none = engine,
        }
        if own.flows.is_some() && own.fragments.is_none() {
            own.fragments = next.fragments.take();
        }
        if let Some(flows) = &mut own.flows {
            flows.pick_up(&self.plan, now);
        }
    }
}

/// Puts what is new in its place, and what is kept from where it was; `new` has the rest then. `nothing` takes no memory.
fn exchange<T>(
    old: &mut Vec<T>,
    new: &mut Vec<Made<T>>,
    nothing: impl Fn() -> T,
    inherit: impl Fn(&mut T, &mut T),
) {
    let mut all = Vec::with_capacity(new.len());
    for made in new.drain(..) {
        all.push(match made {
            Made::New(one) => one,
            Made::Heir(at, mut one) => {
                if let Some(before) = old.get_mut(at) {
                    inherit(&mut one, before);
                }
                one
            }
            Made::Kept(at) => {
                old.get_mut(at).map_or_else(&nothing, |one| std::mem::replace(one, nothing()))
            }
        });
    }
    std::mem::swap(old, &mut all);
    new.extend(all.into_iter().map(Made::New));
}
