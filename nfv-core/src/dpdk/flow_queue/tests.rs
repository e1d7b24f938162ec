use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

/// The driver that is not there; one test at a time has it.
struct Fake {
    raw: *mut dpdk_sys::nfv_fake_flow,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());
const PORT: u16 = dpdk_sys::NFV_FAKE_PORT as u16;

impl Fake {
    fn with(depth: u32) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the driver's state is static, and this test's alone until the lock is let go.
        let raw = unsafe { dpdk_sys::nfv_fake_flow_reset() };
        let mut fake = Self { raw, _alone: alone };
        fake.set(|fake| fake.depth = depth);
        fake
    }

    fn set(&mut self, change: impl FnOnce(&mut dpdk_sys::nfv_fake_flow)) {
        // SAFETY: as in `with`: nobody else reads or writes it meanwhile.
        change(unsafe { &mut *self.raw });
    }

    fn seen(&self) -> dpdk_sys::nfv_fake_flow {
        // SAFETY: as in `with`.
        unsafe { *self.raw }
    }

    /// Marks and groups, in the order in which rules came to act.
    fn order(&self) -> Vec<(u32, u32)> {
        let seen = self.seen();
        let both = seen.marks.into_iter().zip(seen.groups);
        both.take(seen.marks_n as usize).collect()
    }

    fn queue(&self, groups: Groups) -> FlowQueue {
        let depth = open_queue(PORT).expect("it has one");
        FlowQueue::new(PORT, depth, groups, 2)
    }
}

fn rule(mark: u32, protocol: u8, dport: u16) -> FlowRule {
    let port = |port, mask| FlowPort { first: port, last: port, mask };
    FlowRule {
        priority: 0,
        is_ipv6: false,
        src: ([0; 16], 0),
        dst: ([0; 16], 0),
        vlan: None,
        protocol,
        sport: port(0, 0),
        dport: port(dport, u16::MAX),
        flags: (0, 0),
        icmp_type: None,
        mark: Some(mark),
        counts: true,
        fate: FlowFate::Rss { queues: [0, 1].into(), by: HashFields::OfPattern },
    }
}

fn rules(count: u16) -> Vec<FlowRule> {
    (0..count).map(|at| rule(u32::from(at) + 1, 17, 1000 + at)).collect()
}

fn whole(made: Vec<Result<Made, String>>) -> Vec<Made> {
    made.into_iter().map(|one| one.expect("it is taken")).collect()
}

#[test]
fn rules_of_one_shape_share_a_table_and_act_in_their_order() {
    let fake = Fake::with(256);
    let mut queue = fake.queue(Groups::First);
    let mut all = rules(40);
    // Another mask, and another fate, are another shape; another port or mark is not.
    all.push(FlowRule { src: ([10; 16], 8), ..rule(50, 17, 53) });
    all.push(FlowRule { mark: None, fate: FlowFate::Drop, ..rule(0, 17, 54) });
    let made = whole(queue.create(&all));
    let seen = fake.seen();
    assert_eq!((seen.rules, seen.tables, seen.templates, seen.mistakes), (42, 3, 6, 0));
    let marks: Vec<u32> = fake.order().into_iter().map(|(mark, _)| mark).collect();
    let expected: Vec<u32> = (1..=40).chain([50, 0]).collect();
    assert_eq!(marks, expected);
    assert!(queue.destroy(made).iter().all(Result::is_ok));
    let seen = fake.seen();
    assert_eq!((seen.rules, seen.tables, seen.templates, seen.mistakes), (0, 0, 0, 0));
}

#[test]
fn more_operations_than_the_queue_holds_wait_their_turn() {
    let fake = Fake::with(16);
    let mut queue = fake.queue(Groups::First);
    let made = whole(queue.create(&rules(500)));
    let seen = fake.seen();
    assert_eq!((seen.rules, seen.mistakes, seen.most_waiting), (500, 0, 16));
    assert!(seen.pushes < 200, "not one by one: {}", seen.pushes);
    assert!(queue.destroy(made).iter().all(Result::is_ok));
    assert_eq!((fake.seen().rules, fake.seen().tables), (0, 0));
    // A driver that holds fewer than it says is waited for, too.
    let fake = {
        drop(fake);
        Fake::with(8)
    };
    let depth = open_queue(PORT).expect("it has one");
    let mut queue = FlowQueue::new(PORT, 4 * depth, Groups::First, 2);
    whole(queue.create(&rules(100)));
    let seen = fake.seen();
    assert_eq!((seen.rules, seen.mistakes, seen.most_waiting), (100, 0, 8));
    assert!(seen.refused_full > 0, "it was full");
}

#[test]
fn of_a_batch_of_which_one_fails_the_others_are_there() {
    let mut fake = Fake::with(64);
    fake.set(|fake| fake.fails_at = 7);
    let mut queue = fake.queue(Groups::First);
    let made = queue.create(&rules(30));
    let failed: Vec<usize> =
        (0..).zip(&made).filter(|(_, one)| one.is_err()).map(|(at, _)| at).collect();
    assert_eq!(failed, [6]);
    assert_eq!((fake.seen().rules, fake.seen().mistakes), (29, 0));
    let left: Vec<Made> = made.into_iter().filter_map(Result::ok).collect();
    assert!(queue.destroy(left).iter().all(Result::is_ok));
    assert_eq!((fake.seen().rules, fake.seen().tables), (0, 0), "its place was free, too");
}

#[test]
fn without_room_for_a_table_its_rules_are_refused_and_others_are_taken() {
    let mut fake = Fake::with(64);
    fake.set(|fake| fake.tables_max = 1);
    let mut queue = fake.queue(Groups::First);
    let tcp: Vec<FlowRule> = (0..3).map(|at| rule(100, 6, at)).collect();
    let made = queue.create(&[rules(5), tcp].concat());
    assert_eq!(made.iter().filter(|one| one.is_ok()).count(), 5);
    assert_eq!(made[5].as_ref().unwrap_err(), "Cannot allocate memory");
    assert!(queue.validate(&rule(1, 6, 80)).is_err() && queue.validate(&rule(1, 17, 9)).is_ok());
}

#[test]
fn a_table_that_is_full_is_followed_by_another() {
    let fake = Fake::with(256);
    let mut queue = fake.queue(Groups::First);
    let mut made = whole(queue.create(&rules(64)));
    assert_eq!(fake.seen().tables, 1);
    let more: Vec<FlowRule> = (0..10).map(|at| rule(200, 17, 5000 + at)).collect();
    made.extend(whole(queue.create(&more)));
    assert_eq!((fake.seen().tables, fake.seen().mistakes), (2, 0));
    queue.destroy(made);
    assert_eq!((fake.seen().tables, fake.seen().rules), (0, 0));
}

#[test]
fn the_second_group_is_entered_when_what_meets_no_rule_there_is_not_lost() {
    let fake = Fake::with(64);
    let mut queue = fake.queue(Groups::Second);
    let tagged = FlowRule { vlan: Some(7), ..rule(9, 6, 80) };
    let made = whole(queue.create(&[rule(1, 17, 53), rule(2, 6, 80), tagged]));
    let order = fake.order();
    // For each of TCP and UDP: what spreads the rest, what leads there; then the rules. What names a VLAN stays outside.
    assert_eq!(order, [(0, 1), (0, 0), (0, 1), (0, 0), (1, 1), (2, 1), (9, 0)]);
    assert_eq!((fake.seen().jumps, fake.seen().rules, fake.seen().mistakes), (2, 7, 0));
    // The way is closed behind the last rule of a transport, and before what spreads the rest goes.
    let mut made = made.into_iter();
    let udp = made.next().expect("there are three");
    queue.destroy(vec![udp]);
    assert_eq!((fake.seen().jumps, fake.seen().rules), (1, 4));
    queue.destroy(made.collect());
    let seen = fake.seen();
    assert_eq!((seen.jumps, seen.rules, seen.tables, seen.mistakes), (0, 0, 0, 0));
}

#[test]
fn a_driver_that_answers_nothing_is_given_up_and_one_without_templates_has_no_queue() {
    let mut fake = Fake::with(64);
    fake.set(|fake| fake.is_dead = 1);
    let mut queue = fake.queue(Groups::First);
    let made = queue.create(&rules(3));
    assert!(made.iter().all(|one| one.as_ref().is_err_and(|why| why == DEAD)), "{made:?}");
    assert!(queue.create(&rules(3)).iter().all(Result::is_err), "at once, this time");
    drop(fake);
    let _fake = Fake::with(0);
    assert_eq!(open_queue(PORT), None);
}
