//! The rules that a port's NIC has: given, changed, taken back, and looked at whether they do what they say.
//!
//! At any moment, also between two calls, a packet must be treated as by all rules or as without a NIC's help. So rules are
//! given in the order in which they act and taken back the other way round: one that acts later never stands there without
//! those that it leaves packets to. Of a rule that is refused all that act behind it, and would get its packets, stay away.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::compare::Test;
use super::pace::Pace;
use super::probe;
use super::rule::{Fate, Met, Nic, NicRule, Pattern, Refusal, RuleId};
use crate::packet::parse;

/// A rule that a NIC is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The number of its class.
    pub class: u32,
    /// What it says.
    pub rule: NicRule,
}

/// How far a rule is known to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The driver took it.
    Accepted,
    /// A frame that it was shown, or a packet that came, was treated as it says.
    Verified,
}

/// A planned rule, and what became of it.
#[derive(Clone, Debug)]
pub struct RuleState {
    /// The rule.
    pub planned: Planned,
    /// `Err`: it is not there, and why.
    pub state: Result<Check, String>,
    /// Packets that met it, where the NIC counts them.
    pub hits: Option<u64>,
}

/// The rules of a port's NIC.
#[derive(Debug)]
pub struct Installed {
    nic: Box<dyn Nic>,
    /// The user's name of the port.
    port: String,
    /// What is to be there, in the order in which it acts.
    rules: Vec<One>,
    /// Packets that were dropped by rules that are no more.
    dropped_before: u64,
    /// Why no rule is given any more.
    stopped: Option<String>,
    /// How fast the driver is.
    pace: Pace,
}

#[derive(Debug)]
struct One {
    planned: Planned,
    state: Result<(RuleId, Check), String>,
    /// By the driver.
    was_refused: bool,
}

impl Installed {
    /// Of a NIC, which is freed of whatever rules it has: a process that crashed leaves some.
    pub fn none(port: &str, mut nic: Box<dyn Nic>) -> Self {
        if let Err(why) = nic.flush() {
            // Most drivers without rules say that they cannot flush them.
            tracing::debug!("port {port}: rules of before are not flushed: {why}");
        }
        Self {
            nic,
            port: port.to_owned(),
            rules: Vec::new(),
            dropped_before: 0,
            stopped: None,
            pace: Pace::default(),
        }
    }

    /// The NIC, to plan for.
    pub fn nic(&self) -> &dyn Nic {
        self.nic.as_ref()
    }

    /// The NIC, for its table.
    pub fn nic_mut(&mut self) -> &mut dyn Nic {
        self.nic.as_mut()
    }

    /// Each rule, in the order in which they act.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter().map(|one| RuleState {
            planned: one.planned.clone(),
            state: one.state.as_ref().map(|(_, check)| *check).map_err(String::clone),
            hits: one.state.as_ref().ok().and_then(|(id, _)| self.nic.hits(*id)),
        })
    }

    /// Packets that the NIC dropped by rules since the run began, as far as it counts them.
    pub fn dropped(&self) -> u64 {
        self.dropped_before + self.rules.iter().map(|one| self.dropped_by(one)).sum::<u64>()
    }

    /// How fast the driver gave, changed and took back rules.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Why the NIC is given no rules any more.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    fn dropped_by(&self, one: &One) -> u64 {
        match &one.state {
            Ok((id, _)) if one.planned.rule.fate == Fate::Drop => {
                self.nic.hits(*id).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// Before workers change to a plan with other rules: takes back those by which a packet is dropped that may live then.
    pub fn make_way(&mut self, next: &[Planned]) {
        let mut stays: Vec<bool> = Vec::new();
        for (at, one) in self.rules.iter().enumerate() {
            let rule = &one.planned.rule;
            let before = || self.rules.iter().zip(&stays).take(at);
            // It would get packets that are not its own.
            let exposed = before().any(|(b, stays)| !stays && acts_before(&b.planned.rule, rule));
            let is_there = |p: &Planned| before().any(|(b, stays)| *stays && b.planned == *p);
            let harms =
                rule.fate == Fate::Drop && !(fits(next, one) && in_front(next, rule).all(is_there));
            stays.push(one.state.is_ok() && !exposed && !harms);
        }
        self.take_back(&stays);
    }

    /// After workers have changed: changes what can be where it is, takes back what is not planned any more, and gives what is
    /// new.
    pub fn change(&mut self, mut next: Vec<Planned>) {
        if self.stopped.is_some() {
            return;
        }
        let before = self.pace;
        next.sort_by_key(|planned| planned.rule.priority);
        let stays = self.keep(&next);
        self.take_back(&stays);
        let mut kept = std::mem::take(&mut self.rules);
        let mut batch: Vec<usize> = Vec::new();
        for planned in next {
            if self
                .rules
                .last()
                .is_some_and(|one| one.planned.rule.priority != planned.rule.priority)
            {
                self.give(&mut batch);
            }
            if let Some(at) = kept.iter().position(|one| one.planned == planned) {
                self.rules.push(kept.swap_remove(at));
                continue;
            }
            batch.push(self.rules.len());
            self.rules.push(One { planned, state: Err(NOT_YET.to_owned()), was_refused: false });
        }
        self.give(&mut batch);
        self.tell(&before);
    }

    /// Which rules are to stay: those that are planned, and such that can be made what is planned, by which each packet is
    /// treated as by the old plan or by the new one while others go and come.
    fn keep(&mut self, next: &[Planned]) -> Vec<bool> {
        let mut stays: Vec<bool> = Vec::new();
        let mut can_change = true;
        for at in 0..self.rules.len() {
            let before = || self.rules.iter().zip(&stays).take(at);
            let is_there = |p: &Planned| before().any(|(b, stays)| *stays && b.planned == *p);
            let Some(one) = self.rules.get(at) else { break };
            let Ok((id, _)) = one.state else {
                stays.push(false);
                continue;
            };
            let behind_its_own = in_front(next, &one.planned.rule).all(is_there);
            if !behind_its_own || fits(next, one) || !can_change {
                stays.push(behind_its_own && fits(next, one));
                continue;
            }
            // What it did to packets is in its counter, so that one which drops is another rule.
            let is_same = |p: &&Planned| {
                let (is, was) = (&p.rule, &one.planned.rule);
                (is.pattern, is.priority, is.count) == (was.pattern, was.priority, was.count)
                    && is.fate != Fate::Drop
                    && was.fate != Fate::Drop
            };
            let Some(then) = next.iter().find(is_same) else {
                stays.push(false);
                continue;
            };
            let done = self.pace.changed.time(|| self.nic.change(id, &then.rule));
            if let (Ok(()), Some(one)) = (&done, self.rules.get_mut(at)) {
                *one = One {
                    planned: then.clone(),
                    state: Ok((id, Check::Accepted)),
                    was_refused: false,
                };
            }
            can_change = done.is_ok();
            stays.push(done.is_ok());
        }
        stays
    }

    /// Gives rules of one priority, by their places.
    fn give(&mut self, batch: &mut Vec<usize>) {
        let mut places = Vec::new();
        for at in batch.drain(..) {
            let Some(one) = self.rules.get(at) else { continue };
            let absent = |other: &&One| {
                other.state.is_err() && acts_before(&other.planned.rule, &one.planned.rule)
            };
            let absent = self.rules.iter().find(absent).map(|absent| absent.planned.class);
            match (absent, self.rules.get_mut(at)) {
                (Some(class), Some(one)) => {
                    let why = format!("a rule of class {class} that acts before it is not there");
                    one.state = Err(why);
                }
                _ => places.push(at),
            }
        }
        let rule = |at: &usize| self.rules.get(*at).map(|one| one.planned.rule.clone());
        let rules: Vec<NicRule> = places.iter().filter_map(rule).collect();
        if rules.is_empty() {
            return;
        }
        let start = Instant::now();
        let made = self.nic.install_all(&rules);
        let taken = made.iter().filter(|made| made.is_ok()).count();
        if taken == rules.len() {
            self.pace.given.add(taken as u64, start.elapsed());
        }
        for (at, made) in places.into_iter().zip(made) {
            let Some(one) = self.rules.get_mut(at) else { continue };
            one.was_refused = made.is_err();
            one.state = made.map(|id| (id, Check::Accepted)).map_err(|why| why.to_string());
        }
    }

    fn tell(&self, before: &Pace) {
        let done = self.pace.since(before);
        let refused = self.rules.iter().filter(|one| one.state.is_err()).count();
        if done.given.rules + done.changed.rules == 0 && refused == 0 {
            return;
        }
        let words = done.per_second().words();
        let pace = if words.is_empty() { words } else { format!("; a second: {words}") };
        tracing::info!(
            "port {}: {} rules in the NIC ({} given, {} changed, {} taken back{pace}), {refused} not taken",
            self.port,
            self.rules.len() - refused,
            done.given.rules,
            done.changed.rules,
            done.taken_back.rules,
        );
        if let Some(one) = self.rules.iter().find(|one| one.state.is_err()) {
            let why = one.state.as_ref().err().map_or("", String::as_str);
            tracing::warn!(
                "port {}: class {} stays in software: {why}",
                self.port,
                one.planned.class
            );
        }
    }

    /// Shows the NIC a frame for each rule, where it can be shown one. A rule that does another thing is taken back, with
    /// those that act behind it and would get its packets. Returns how many these were.
    pub fn verify(&mut self) -> usize {
        let mut gone = 0;
        loop {
            // Taking some back may change what others do.
            let wrong = self.wrong_ones();
            let Some(first) = wrong.first().and_then(|at| self.rules.get(*at)) else { return gone };
            tracing::warn!(
                "port {}: the NIC took {} rules and does not do what they say (class {} is the first); they are taken back",
                self.port,
                wrong.len(),
                first.planned.class
            );
            for at in &wrong {
                self.retire(*at, "it was taken, but does not do what it says");
            }
            gone += wrong.len() + self.retire_behind();
        }
    }

    /// Takes back rules of which one that acts before is not there.
    fn retire_behind(&mut self) -> usize {
        let mut gone = 0;
        for at in 0..self.rules.len() {
            let Some(one) = self.rules.get(at).filter(|one| one.state.is_ok()) else { continue };
            let rule = &one.planned.rule;
            let absent =
                |other: &One| other.state.is_err() && acts_before(&other.planned.rule, rule);
            if self.rules.iter().any(absent) {
                self.retire(at, "a rule that acts before it is not there");
                gone += 1;
            }
        }
        gone
    }

    /// Shows a frame for each rule, and says which are treated otherwise.
    fn wrong_ones(&mut self) -> Vec<usize> {
        let there = self.rules.iter().filter(|one| one.state.is_ok()).map(|one| &one.planned.rule);
        let vlan = self.nic.limits().without_vlan;
        let tests: Vec<Test> = there.map(|rule| Test::of(&rule.pattern, vlan)).collect();
        let mut wrong = Vec::new();
        let mut own = 0;
        for (at, one) in self.rules.iter_mut().enumerate() {
            let Ok((_, check)) = &mut one.state else { continue };
            // The frame that it is to treat, and not a rule that acts before it.
            let is_its = |frame: &Vec<u8>| {
                let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                let Ok(headers) = parse(frame, length) else { return false };
                tests.iter().position(|test| test.is_met_by(&headers)) == Some(own)
            };
            let frame = probe::frames(&one.planned.rule.pattern).find(is_its);
            own += 1;
            // Of one without such a frame nothing is known.
            let Some(frame) = frame else { continue };
            let Some(met) = self.nic.probe(&frame) else { return Vec::new() };
            if is_as(&one.planned.rule, met) {
                *check = Check::Verified;
            } else {
                wrong.push(at);
            }
        }
        wrong
    }

    fn retire(&mut self, at: usize, why: &str) {
        let dropped = self.rules.get(at).map_or(0, |one| self.dropped_by(one));
        self.dropped_before += dropped;
        let Some(one) = self.rules.get_mut(at) else { return };
        if let Ok((id, _)) = one.state
            && let Err(why) = self.nic.remove(id)
        {
            tracing::error!("port {}: a rule cannot be taken back: {why}", self.port);
        }
        one.state = Err(why.to_owned());
    }

    /// What the driver refused when it was to be installed.
    pub fn refused(&self) -> impl Iterator<Item = (Pattern, Refusal)> {
        self.rules.iter().filter(|one| one.was_refused).filter_map(|one| {
            let why = one.state.as_ref().err()?;
            Some((one.planned.rule.pattern, Refusal(why.clone())))
        })
    }

    /// Takes back the rules of a class: its packets do not meet them.
    pub fn give_up(&mut self, class: u32) {
        let mut gone = 0;
        for at in 0..self.rules.len() {
            let is_its = |one: &One| one.planned.class == class && one.state.is_ok();
            if self.rules.get(at).is_some_and(is_its) {
                self.retire(at, "it was taken, but packets of its class do not meet it");
                gone += 1;
            }
        }
        gone += self.retire_behind();
        if gone > 0 {
            tracing::warn!(
                "port {}: the NIC took the rules of class {class}, but packets of it do not meet them: {gone} are taken back",
                self.port
            );
        }
    }

    /// Takes all rules back for good: the NIC was found to do another thing than they say.
    pub fn stop(&mut self, why: &str) {
        if self.stopped.is_some() {
            return;
        }
        tracing::error!("port {}: no rules are given to the NIC any more: {why}", self.port);
        self.take_back(&[]);
        self.stopped = Some(why.to_owned());
    }

    /// Gives all rules again: the device was reset, and has none.
    pub fn restore(&mut self) {
        self.dropped_before = self.dropped();
        self.nic.forget();
        // A device that was only stopped may have them still.
        if let Err(why) = self.nic.flush() {
            tracing::debug!("port {}: rules of before are not flushed: {why}", self.port);
        }
        let all = std::mem::take(&mut self.rules);
        self.change(all.into_iter().map(|one| one.planned).collect());
        self.verify();
    }

    /// Takes all rules back, at the end of a run.
    pub fn end(&mut self) {
        self.take_back(&[]);
    }

    /// Takes back what does not stay, the last first.
    fn take_back(&mut self, stays: &[bool]) {
        let mut kept = Vec::new();
        let (mut batch, mut priority) = (Vec::new(), None);
        while let Some(one) = self.rules.pop() {
            if stays.get(self.rules.len()) == Some(&true) {
                kept.push(one);
                continue;
            }
            self.dropped_before += self.dropped_by(&one);
            let Ok((id, _)) = one.state else { continue };
            if priority.replace(one.planned.rule.priority) != Some(one.planned.rule.priority) {
                self.remove(&mut batch);
            }
            batch.push(id);
        }
        self.remove(&mut batch);
        kept.reverse();
        self.rules = kept;
    }

    /// Takes back rules of one priority.
    fn remove(&mut self, batch: &mut Vec<RuleId>) {
        if batch.is_empty() {
            return;
        }
        let start = Instant::now();
        let gone = self.nic.remove_all(batch);
        let (rules, took) = (batch.len() as u64, start.elapsed());
        batch.clear();
        match gone.into_iter().find_map(Result::err) {
            None => self.pace.taken_back.add(rules, took),
            Some(why) => {
                tracing::error!("port {}: a rule cannot be taken back: {why}", self.port);
            }
        }
    }
}

/// Whether a rule that is there is planned.
fn fits(next: &[Planned], one: &One) -> bool {
    next.contains(&one.planned)
}

/// Those of a plan that may get a rule's packets.
fn in_front<'p>(next: &'p [Planned], rule: &NicRule) -> impl Iterator<Item = &'p Planned> {
    next.iter().filter(move |planned| acts_before(&planned.rule, rule))
}

/// Whether a rule may get packets that another one would get without it.
fn acts_before(one: &NicRule, other: &NicRule) -> bool {
    one.priority < other.priority && one.pattern.overlaps(&other.pattern)
}

/// What is said of a rule until its driver has answered.
const NOT_YET: &str = "it is not given yet";

/// Whether a frame was treated as a rule says.
fn is_as(rule: &NicRule, met: Met) -> bool {
    match (&rule.fate, met) {
        (Fate::Drop, met) => met == Met::Dropped,
        (Fate::Queue(to), Met::Passed { queue, mark }) => *to == queue && mark == rule.mark,
        (Fate::Rss, Met::Passed { mark, .. }) => mark == rule.mark,
        (_, Met::Dropped) => false,
    }
}

#[cfg(test)]
mod tests;
