//! What the control side asks of a running worker, and its answers: taken up between two bursts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;

use super::change::Next;
use super::drain::Drain;
use super::moves::{Hold, Parcel};
use super::{Bell, Io, Worker};
use crate::clock::Time;
use crate::flow::{FlowPage, ShardCounts, ShardSet};

/// A worker's desk. The control side writes orders, one at a time, and waits for the report.
#[derive(Debug)]
pub struct Desk {
    orders: ArrayQueue<Order>,
    reports: ArrayQueue<Order>,
    /// The worker has ended: no order is taken up any more.
    closed: AtomicBool,
    /// What wakes the worker, once there is one.
    bell: OnceLock<Arc<Bell>>,
}

/// Something to be done; a report is the order back, filled.
#[derive(Debug)]
pub enum Order {
    /// Change to what is next; what was before comes back, to be dropped by who has time.
    Change(Box<Next>),
    /// List flows.
    List(Box<FlowPage>),
    /// Add what shards have here.
    Count(Box<ShardCounts>),
    /// Know what was so when it was given.
    See,
    /// Have shards' packets wait; they do when it comes back empty.
    Hold(Option<Box<Hold>>),
    /// Take shards for the worker's own until their flows are let go.
    Keep(ShardSet),
    /// Look until queues have nothing of the time before; it comes back when that is so, and empty until then.
    Drain(Option<Box<Drain>>),
    /// Let wait what is of the shards' flows alone.
    Open,
    /// Let go a part of shards' flows.
    Export(Box<Parcel>),
    /// Take in what another worker has let go.
    Import(Box<Parcel>),
    /// Let wait no more packets. What they waited in comes back.
    Release(Option<Box<Hold>>),
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            orders: ArrayQueue::new(1),
            reports: ArrayQueue::new(1),
            closed: AtomicBool::new(false),
            bell: OnceLock::new(),
        }
    }
}

impl Desk {
    /// Leaves an order; `Err` when there is one already.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.push(order)?;
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
        Ok(())
    }

    /// What has been done.
    pub fn report(&self) -> Option<Order> {
        self.reports.pop()
    }

    /// Whether the worker has ended: who waits for a report waits no longer.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Who leaves an order rings it from now on.
    pub(super) fn has_bell(&self, bell: Arc<Bell>) {
        // A desk is one worker's.
        let _ = self.bell.set(bell);
    }

    /// The worker ends.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The worker's look: two loads.
    #[inline]
    pub(super) fn next(&self) -> Option<Order> {
        if self.orders.is_empty() { None } else { self.orders.pop() }
    }

    pub(super) fn done(&self, order: Order) {
        // There is room: who orders waits for the report.
        let _ = self.reports.push(order);
    }
}

impl Worker {
    /// Carries out an order, and reports it.
    #[cold]
    pub(super) fn carry_out(&mut self, mut order: Order, io: &mut impl Io, now: Time) {
        let Self { plan, own, .. } = self;
        match &mut order {
            Order::Change(next) => {
                // Where they were to go on may be no more.
                own.let_go(plan, io, now);
                self.change(next, now);
            }
            Order::List(page) => match &own.flows {
                Some(flows) => flows.list(page, now),
                None => page.next = None,
            },
            Order::Count(shards) => {
                if let Some(flows) = &own.flows {
                    flows.count(shards);
                }
            }
            Order::See => {}
            Order::Hold(hold) => own.hold = hold.take(),
            Order::Keep(shards) => own.keeps = *shards,
            Order::Drain(drain) => own.drain(drain),
            Order::Open => own.open(plan, io, now),
            Order::Export(parcel) => {
                // What goes on later would do so without its flow.
                own.let_go(plan, io, now);
                own.export(plan, parcel);
            }
            Order::Import(parcel) => own.import(plan, parcel, io, now),
            Order::Release(hold) => *hold = own.release(plan, io, now),
        }
        self.desk.done(order);
    }
}
