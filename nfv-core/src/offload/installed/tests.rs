use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::dpdk::RingPort;
use crate::offload::{
    AnyNic, EmulatedNic, L4Item, Lie, LiedTo, Pattern, PortItem, Refusal, Spread,
};

/// Of UDP to ports `first` to `last`.
fn planned(class: u32, priority: u32, (first, last): (u16, u16), fate: Fate) -> Planned {
    let l4 = L4Item::Udp { sport: PortItem::Any, dport: PortItem::Range(first, last) };
    let pattern = Pattern { vlan: None, is_ipv6: false, src: None, dst: None, l4 };
    let mark = (fate != Fate::Drop).then_some(class);
    Planned { class, rule: NicRule { pattern, priority, mark, count: true, fate } }
}

/// What a NIC had after each call.
type Seen = Arc<Mutex<Vec<Vec<NicRule>>>>;

/// A NIC that keeps what it had after each call, and refuses one priority.
#[derive(Debug)]
struct Watched {
    nic: AnyNic,
    rules: Vec<(RuleId, NicRule)>,
    seen: Seen,
    refuses: Option<u32>,
    changes: Changes,
}

/// Which rules it changes where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    None,
    All,
    /// Only so many.
    First(u32),
}

impl Watched {
    fn new(refuses: Option<u32>, changes: Changes) -> (Box<Self>, Seen) {
        let seen = Seen::default();
        let (nic, rules) = (AnyNic::new(2), Vec::new());
        (Box::new(Self { nic, rules, seen: Arc::clone(&seen), refuses, changes }), seen)
    }

    fn keep(&self) {
        let rules = self.rules.iter().map(|(_, rule)| rule.clone()).collect();
        self.seen.lock().unwrap().push(rules);
    }
}

impl Nic for Watched {
    fn driver(&self) -> &str {
        self.nic.driver()
    }

    fn queues(&self) -> u16 {
        self.nic.queues()
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        self.nic.validate(rule)
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        if self.refuses == Some(rule.priority) {
            return Err(Refusal("no room".to_owned()));
        }
        let id = self.nic.install(rule)?;
        self.rules.push((id, rule.clone()));
        self.keep();
        Ok(id)
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        self.rules.retain(|(own, _)| *own != id);
        self.keep();
        self.nic.remove(id)
    }

    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        self.changes = match self.changes {
            Changes::None | Changes::First(0) => return Err(Refusal("not here".to_owned())),
            Changes::First(more) => Changes::First(more - 1),
            Changes::All => Changes::All,
        };
        let own = self.rules.iter_mut().find(|(own, _)| *own == id);
        own.expect("it is there").1 = rule.clone();
        self.keep();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.rules.clear();
        self.nic.flush()
    }

    fn hits(&self, _: RuleId) -> Option<u64> {
        Some(1)
    }

    fn spread(&self) -> Spread {
        self.nic.spread()
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        self.nic.set_table(table)
    }
}

/// What rules do with a packet to a port: the tag, `Err` a drop.
fn treated<'r>(rules: impl Iterator<Item = &'r NicRule>, dport: u16) -> Result<Option<u32>, ()> {
    let takes = |rule: &&NicRule| rule.pattern.l4.ports().1.takes(dport);
    match rules.filter(takes).min_by_key(|rule| rule.priority) {
        Some(NicRule { fate: Fate::Drop, .. }) => Err(()),
        Some(rule) => Ok(rule.mark),
        None => Ok(None),
    }
}

const PORTS: std::ops::Range<u16> = 0..12;

/// Changes from one plan to another; a sentence about the first packet that was treated as by neither, in its time.
fn change(
    old: &[Planned],
    new: &[Planned],
    (refuses, changes): (Option<u32>, Changes),
    make_way: bool,
) -> Option<String> {
    let (nic, seen) = Watched::new(refuses, changes);
    let mut installed = Installed::none("p", nic);
    let step = || std::mem::take(&mut *seen.lock().unwrap());
    let by = |plan: &[Planned], port| treated(plan.iter().map(|p| &p.rule), port);
    let wrong = |when: &str,
                 states: Vec<Vec<NicRule>>,
                 allowed: &dyn Fn(u16) -> Vec<Result<Option<u32>, ()>>| {
        states.iter().find_map(|rules| {
            PORTS.clone().find_map(|port| {
                let is = treated(rules.iter(), port);
                let fine = is == Ok(None) || allowed(port).contains(&is);
                (!fine).then(|| format!("{when}: port {port} {is:?} by {rules:?}"))
            })
        })
    };
    installed.change(old.to_vec());
    let first = wrong("at the start", step(), &|port| vec![by(old, port)]);
    if make_way {
        installed.make_way(new);
    }
    let way = wrong("before the change", step(), &|port| vec![by(old, port)]);
    // Workers have changed: what is dropped now must be dropped by the new plan. Tags of the old one are known for it.
    let there: Vec<NicRule> =
        installed.rules().filter(|r| r.state.is_ok()).map(|r| r.planned.rule).collect();
    let old_tag = |port| by(old, port).ok().flatten().map(|tag| Ok(Some(tag)));
    let allowed = |port| [Some(by(new, port)), old_tag(port)].into_iter().flatten().collect();
    let between = wrong("right behind it", vec![there], &allowed);
    installed.change(new.to_vec());
    let then = wrong("while they change", step(), &allowed);
    first.or(way).or(between).or(then)
}

/// Rules of random ranges, each at a priority of its own, with classes from a number on.
fn plan(from: u32) -> impl Strategy<Value = Vec<Planned>> {
    let rule = (PORTS, PORTS, any::<bool>());
    proptest::collection::vec(rule, 0..6).prop_map(move |rules| {
        let each = rules.into_iter().zip(0..);
        each.map(|((a, b, drops), at)| {
            let fate = if drops { Fate::Drop } else { Fate::Rss };
            planned(from + at, at, (a.min(b), a.max(b)), fate)
        })
        .collect()
    })
}

fn changes() -> impl Strategy<Value = Changes> {
    let first = (0u32..3).prop_map(Changes::First);
    prop_oneof![Just(Changes::None), Just(Changes::All), first]
}

proptest! {
    #[test]
    fn at_no_moment_is_a_packet_treated_as_by_neither_plan(
        old in plan(1),
        new in plan(100),
        refused in proptest::option::of(0u32..6),
        changes in changes(),
    ) {
        prop_assert_eq!(change(&old, &new, (refused, changes), true), None);
    }

    #[test]
    fn what_is_changed_where_it_is_does_no_harm_either(
        plan in plan(1), tags in 1u32..100, moved in 0usize..6, changes in changes(),
    ) {
        // The same packets, other tags, and perhaps another order.
        let mut other = plan.clone();
        for planned in other.iter_mut().filter(|planned| planned.rule.mark.is_some()) {
            planned.rule.mark = planned.rule.mark.map(|mark| mark + tags);
        }
        if moved < other.len() {
            other.swap(0, moved);
            (0..).zip(&mut other).for_each(|(at, planned)| planned.rule.priority = at);
        }
        prop_assert_eq!(change(&plan, &other, (None, changes), true), None);
    }

    #[test]
    fn rules_that_stay_do_no_harm_either(all in plan(1), less in 0usize..6, refused in proptest::option::of(0u32..6)) {
        let mut some = all.clone();
        if less < some.len() {
            some.remove(less);
        }
        prop_assert_eq!(change(&all, &some, (refused, Changes::All), true), None);
        prop_assert_eq!(change(&some, &all, (refused, Changes::All), true), None);
    }
}

#[test]
fn without_making_way_a_packet_is_dropped_that_the_new_plan_lets_live() {
    let old = [planned(1, 0, (1, 4), Fate::Drop)];
    let new = [planned(100, 0, (1, 4), Fate::Rss)];
    let all = (None, Changes::All);
    assert!(change(&old, &new, all, false).is_some());
    assert_eq!(change(&old, &new, all, true), None);
}

#[test]
fn tags_of_another_epoch_are_written_where_the_rules_are_and_each_call_is_timed() {
    let plan = |epoch: u32| {
        let ports = |at: u16| (at, at);
        let rule = |at: u16| planned(1000 * epoch + u32::from(at), 0, ports(at), Fate::Rss);
        let mut all: Vec<Planned> = (0..10).map(rule).collect();
        all.push(planned(7, 1, (0, 20), Fate::Drop));
        all
    };
    for (changes, done) in [
        (Changes::All, [11, 10, 0]),
        (Changes::None, [22, 0, 11]),
        // What lies behind one that is taken back has to go before it.
        (Changes::First(4), [18, 4, 7]),
    ] {
        let (nic, _) = Watched::new(None, changes);
        let mut installed = Installed::none("p", nic);
        installed.change(plan(1));
        installed.change(plan(2));
        assert!(installed.rules().all(|rule| rule.state.is_ok()));
        let pace = installed.pace();
        let [given, changed, taken] = [pace.given, pace.changed, pace.taken_back];
        assert_eq!([given.rules, changed.rules, taken.rules], done, "{changes:?}");
        let told = pace.per_second();
        assert_eq!(told.changed.is_some(), done[1] > 0);
        assert!(told.given.is_some_and(|n| n > 0.0));
    }
}

#[test]
fn behind_a_rule_that_is_refused_none_gets_its_packets() {
    let (nic, _) = Watched::new(Some(0), Changes::None);
    let mut installed = Installed::none("p", nic);
    installed.change(vec![
        planned(1, 0, (1, 2), Fate::Rss),
        planned(2, 1, (2, 3), Fate::Drop),
        planned(3, 2, (3, 4), Fate::Rss),
        planned(4, 2, (5, 6), Fate::Drop),
    ]);
    let states: Vec<_> = installed.rules().map(|rule| rule.state.map_err(drop)).collect();
    assert_eq!(states, [Err(()), Err(()), Err(()), Ok(Check::Accepted)]);
    let why = installed.rules().nth(1).unwrap().state.unwrap_err();
    assert_eq!(why, "a rule of class 1 that acts before it is not there");
}

#[test]
fn packets_that_rules_dropped_are_known_when_these_are_gone() {
    let (nic, _) = Watched::new(None, Changes::None);
    let mut installed = Installed::none("p", nic);
    installed.change(vec![planned(1, 0, (1, 2), Fate::Drop), planned(2, 1, (5, 6), Fate::Rss)]);
    assert_eq!(installed.dropped(), 1);
    installed.end();
    assert_eq!((installed.dropped(), installed.rules().count()), (1, 0));
}

fn emulated(lie: Option<Lie>) -> Installed {
    let lie = lie.map(|lie| (lie, LiedTo::All));
    let port = RingPort { into: Vec::new(), out: Vec::new() };
    let (nic, _) = EmulatedNic::new(Box::new(AnyNic::new(2)), 2, port, lie);
    let mut installed = Installed::none("p", Box::new(nic));
    installed.change(vec![planned(4, 0, (1, 2), Fate::Rss), planned(5, 1, (7, 7), Fate::Drop)]);
    installed
}

#[test]
fn a_rule_that_is_taken_and_does_another_thing_is_found_and_taken_back() {
    let mut honest = emulated(None);
    assert_eq!(honest.verify(), 0);
    assert!(honest.rules().all(|rule| rule.state == Ok(Check::Verified)));
    for (lie, left) in [(Lie::Mark, 1), (Lie::Tag, 1), (Lie::Match, 0)] {
        let mut liar = emulated(Some(lie));
        assert_eq!(liar.rules().filter(|rule| rule.state.is_ok()).count(), 2, "it takes all");
        liar.verify();
        assert_eq!(liar.rules().filter(|rule| rule.state.is_ok()).count(), left, "{lie:?}");
    }
}

#[test]
fn a_rule_is_shown_a_frame_that_no_rule_before_it_gets() {
    let port = RingPort { into: Vec::new(), out: Vec::new() };
    let lie = Some((Lie::Mark, LiedTo::All));
    let (nic, _) = EmulatedNic::new(Box::new(AnyNic::new(2)), 2, port, lie);
    let mut installed = Installed::none("p", Box::new(nic));
    installed.change(vec![
        planned(1, 0, (9000, 9002), Fate::Drop),
        planned(2, 1, (9000, 9009), Fate::Rss),
        // Nothing is left for it, so nothing is known of it.
        planned(3, 2, (9004, 9005), Fate::Drop),
    ]);
    assert_eq!(installed.verify(), 2);
    let states: Vec<_> = installed.rules().map(|rule| rule.state.map_err(drop)).collect();
    assert_eq!(states, [Ok(Check::Verified), Err(()), Err(())]);
}

#[test]
fn after_a_reset_all_rules_are_put_back() {
    let mut installed = emulated(None);
    installed.nic_mut().forget();
    assert!(installed.verify() > 0, "the device has none");
    let mut installed = emulated(None);
    installed.restore();
    assert!(installed.rules().all(|rule| rule.state == Ok(Check::Verified)));
}

#[test]
fn who_was_stopped_gets_no_rules_any_more() {
    let mut installed = emulated(None);
    installed.stop("it lies");
    installed.change(vec![planned(4, 0, (1, 2), Fate::Rss)]);
    assert_eq!((installed.rules().count(), installed.stopped()), (0, Some("it lies")));
}

#[test]
fn rules_that_a_process_left_when_it_crashed_are_flushed() {
    let port = RingPort { into: Vec::new(), out: Vec::new() };
    let (mut nic, _) = EmulatedNic::new(Box::new(AnyNic::new(2)), 2, port, None);
    nic.install(&planned(1, 0, (0, u16::MAX), Fate::Drop).rule).unwrap();
    let pattern = planned(1, 0, (53, 53), Fate::Drop).rule.pattern;
    let frame = probe::frames(&pattern).next().unwrap();
    assert_eq!(nic.probe(&frame), Some(Met::Dropped));
    let installed = Installed::none("p", Box::new(nic.clone()));
    assert!(matches!(installed.nic().probe(&frame), Some(Met::Passed { mark: None, .. })));
    assert_eq!(nic.flushes(), 1);
}
