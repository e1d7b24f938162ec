//! Classes that are bound to a queue, where a NIC cannot spread the packets of a rule.

use super::super::facts::Facts;
use super::super::rule::Nic;
use crate::chain::compile::Plan;
use crate::dispatch::{Class, ClassFate, PortClasses};

/// The queues that classes are bound to: on a NIC that cannot be told how to spread packets, those that keep no flows are
/// dealt to all of them. On one that spreads by its table, but tags only what it steers, those of them that are no more than
/// a queue's part. Elsewhere none is bound.
pub fn bound_to(plan: &Plan, classes: &PortClasses, nic: &dyn Nic) -> Vec<Option<u16>> {
    let by_queue = Facts::of_driver(nic.driver()).is_some_and(Facts::tags_by_queue_only);
    if nic.queues() < 2 || spreads(nic) && !by_queue {
        return Vec::new();
    }
    let mut bound = deal(classes, |class| plan.keeps_flows(class), nic.queues());
    if spreads(nic) {
        let part = 1.0 / f64::from(nic.queues());
        for (queue, class) in bound.iter_mut().zip(&classes.classes) {
            *queue = queue.filter(|_| class.share <= part);
        }
    }
    bound
}

/// Gives classes without flows, by their share, to queues: any worker may have them. For NICs that cannot spread packets.
pub fn deal(
    classes: &PortClasses,
    keeps_flows: impl Fn(&Class) -> bool,
    queues: u16,
) -> Vec<Option<u16>> {
    let mut loads = vec![0.0f64; usize::from(queues.max(1))];
    let mut bound = vec![None; classes.classes.len()];
    let mut order: Vec<usize> = (0..classes.classes.len()).collect();
    order.sort_by(|a, b| {
        let share = |at: &usize| classes.classes.get(*at).map_or(0.0, |c| c.share);
        share(b).total_cmp(&share(a))
    });
    for at in order {
        let Some(class) = classes.classes.get(at) else { continue };
        if matches!(class.fate, ClassFate::Drop { .. }) || keeps_flows(class) {
            continue;
        }
        let least =
            loads.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(q, _)| q);
        if let Some(load) = loads.get_mut(least) {
            *load += class.share;
        }
        if let Some(queue) = bound.get_mut(at) {
            *queue = u16::try_from(least).ok();
        }
    }
    bound
}

/// Whether a NIC has a table by which it spreads packets over queues.
pub(super) fn spreads(nic: &dyn Nic) -> bool {
    let known = Facts::of_driver(nic.driver()).is_some_and(|facts| facts.hash.table > 0);
    known || !nic.spread().table.is_empty()
}
