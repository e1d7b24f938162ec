//! The rules of all ports' NICs in a run: planned from the classes, given before traffic is let in, changed with the plan,
//! watched, taken back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::chain::compile::Plan;
use crate::dispatch::{
    Class, ClassKey, Classes, Counted, MarkForm, Measured, PortClasses, TagCheck,
};
use crate::flow::SHARDS;
use crate::offload::{
    Asked, Check, EmulatedNic, Facts, Fate, Installed, Nic, NicCounts, Pattern, Placed, Planned,
    Refusal, Room, RuleState, RulesPerSecond, Rung, bound_to, mark_form, plan,
};
use crate::packet::is_symmetric_key;
use crate::port_index::PortIndex;

/// The rules of all ports. Shared by those who control a run.
#[derive(Debug)]
pub struct NicRules(Mutex<Vec<PortRules>>);

/// What is known of a port's NIC when a run starts.
#[derive(Debug)]
pub struct PortNic {
    /// Which port.
    pub port: PortIndex,
    /// The user's name for it.
    pub name: String,
    /// What takes rules.
    pub nic: Box<dyn Nic>,
    /// The same, where it is emulated.
    pub emulated: Option<EmulatedNic>,
}

/// The rules of a port.
#[derive(Debug)]
struct PortRules {
    port: PortIndex,
    name: String,
    installed: Installed,
    /// The classes that its rules are for.
    classes: Option<PortClasses>,
    placed: Vec<Placed>,
    /// What was refused though it was validated.
    refused: Vec<(Pattern, Refusal)>,
    emulated: Option<EmulatedNic>,
    /// Whether tags are right, and since when there are any.
    check: Option<Arc<TagCheck>>,
    given: Instant,
    /// How it spreads packets, where it does not tell.
    measured: Option<Arc<Measured>>,
    /// Packets of classes that there were before.
    before: Counted,
    /// Packets that rules which stayed had dropped by then, by class.
    dropped_before: Counted,
}

/// What a port's NIC does of the work.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NicReport {
    /// The user's name of the port.
    pub port: String,
    /// Its driver.
    pub driver: String,
    /// How many classes the port has, and how many of them the NIC tells apart.
    pub classes: (usize, usize),
    /// Rules that were taken, and of which nothing else is known.
    pub accepted: usize,
    /// Rules that were seen to act.
    pub verified: usize,
    /// Rules that were refused, or taken back because they did not act: how many, and why, by reason.
    pub refused: Vec<(String, usize)>,
    /// Packets that the NIC dropped by rules, as far as it counts them. They were not received.
    pub dropped: u64,
    /// Why it is given no rules any more.
    pub stopped: Option<String>,
    /// The rules that are there, or were refused.
    pub rules: Vec<RuleReport>,
    /// How it spreads packets over its queues.
    pub hash: HashState,
    /// How many rules a second its driver took, changed and gave back.
    pub rules_per_second: RulesPerSecond,
    /// What was counted of classes, by the packets that were looked at and the NIC's own counts.
    pub counted: Vec<ClassCount>,
    /// What an emulated NIC counted.
    pub emulated: Option<NicCounts>,
}

/// How a NIC spreads packets, and how that is known: `set`, `read` or `measured`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HashState {
    /// Of its key.
    pub key: String,
    /// Of its table.
    pub table: String,
    /// What was measured, in words, where something has to be.
    pub measured: Option<String>,
}

/// Packets of a class.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct ClassCount {
    /// Its number.
    pub class: u32,
    /// What it is known by in another process.
    pub key: u64,
    /// About how many.
    pub packets: u64,
    /// What part of the port's packets it is taken to be from now on.
    pub share: f64,
}

/// A rule, as an operator reads it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RuleReport {
    /// The number of its class.
    pub class: u32,
    /// `drop`, `queue 1`, `rss`.
    pub fate: String,
    /// `accepted`, `verified`, or why it is not there.
    pub state: String,
    /// Packets that met it, where they are counted.
    pub hits: Option<u64>,
}

impl NicRules {
    /// Of NICs, each of which is freed of what rules it has.
    pub fn none(nics: Vec<PortNic>) -> Self {
        let port = |nic: PortNic| PortRules {
            measured: to_be_measured(nic.nic.as_ref()),
            installed: Installed::none(&nic.name, nic.nic),
            port: nic.port,
            name: nic.name,
            classes: None,
            placed: Vec::new(),
            refused: Vec::new(),
            emulated: nic.emulated,
            check: None,
            given: Instant::now(),
            before: Counted::default(),
            dropped_before: Counted::default(),
        };
        Self(Mutex::new(nics.into_iter().map(port).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PortRules>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before workers change to a plan: no packet is dropped by a rule that lives then.
    pub fn make_way(&self, next: &Plan) {
        for port in self.lock().iter_mut() {
            port.make_way(next);
        }
    }

    /// Gives the rules of a plan that workers run, or are about to for the first time.
    pub fn change(&self, plan: &Plan) {
        for port in self.lock().iter_mut() {
            port.change(plan);
        }
    }

    /// Looks at what workers saw of tags: who tags wrongly gets no rules any more, and rules that no packet meets are taken
    /// back.
    pub fn look(&self) {
        for port in self.lock().iter_mut() {
            port.look();
        }
    }

    /// Puts back all rules of a port that was reset.
    pub fn restore(&self, port: PortIndex) {
        for one in self.lock().iter_mut().filter(|one| one.port == port) {
            one.installed.restore();
        }
    }

    /// Takes all rules back, at the end of a run, and lets go of the NICs, so that their ports can be closed.
    pub fn end(&self) {
        let ports = std::mem::take(&mut *self.lock());
        for mut port in ports {
            port.installed.end();
        }
    }

    /// What each NIC does of the work.
    pub fn report(&self) -> Vec<NicReport> {
        self.lock().iter().map(PortRules::report).collect()
    }

    /// By port, how it spreads packets, where that has to be measured.
    pub fn measured(&self) -> Vec<(String, String)> {
        let of = |one: &PortRules| Some((one.name.clone(), one.measured.as_ref()?.found().words()));
        self.lock().iter().filter_map(of).collect()
    }

    /// Packets that NICs dropped by rules, by port.
    pub fn dropped(&self) -> Vec<(String, u64)> {
        self.lock().iter().map(|one| (one.name.clone(), one.installed.dropped())).collect()
    }
}

impl PortRules {
    fn make_way(&mut self, plan: &Plan) {
        let next = of_port(&plan.classes, self.port);
        if self.classes.as_ref() == next {
            return self.have_checked(plan);
        }
        // Also of what rules of before write, workers are to know that it is not of this plan.
        self.have_read(plan, next);
        let planned = match (next, self.installed.nic().blank()) {
            (Some(next), Some(blank)) => self.plan(plan, next, blank.as_ref()).0,
            // It can be asked only when it has no rules.
            _ => Vec::new(),
        };
        self.installed.make_way(&planned);
    }

    fn change(&mut self, plan: &Plan) {
        let next = of_port(&plan.classes, self.port);
        if self.classes.as_ref() == next {
            self.have_checked(plan);
            if !self.is_another_worth_its_room() {
                return;
            }
            tracing::info!("port {}: more traffic is in classes without a rule", self.name);
        } else {
            self.before = self.counted();
            self.before.fade();
            self.classes = next.cloned();
            self.check = None;
        }
        self.refused.clear();
        self.given = Instant::now();
        self.give(plan, next);
        self.dropped_before = self.dropped_by_class();
    }

    /// Gives the rules for its classes.
    fn give(&mut self, plan: &Plan, next: Option<&PortClasses>) {
        self.have_read(plan, next);
        let Some(next) = next.filter(|next| !next.classes.is_empty()) else {
            self.placed.clear();
            return self.installed.change(Vec::new());
        };
        // A class that is refused in spite of all goes down a rung, and others are planned around it.
        for _ in 0..TRIES {
            let blank = self.installed.nic().blank();
            if blank.is_none() {
                self.installed.change(Vec::new());
            }
            let nic = blank.as_deref().unwrap_or_else(|| self.installed.nic());
            let (planned, placed) = self.plan(plan, next, nic);
            self.placed = placed;
            if self.check.is_none() && !planned.is_empty() {
                // Before the first tag comes.
                let form = mark_form(self.installed.nic(), next).unwrap_or(MarkForm::WIDE);
                match TagCheck::new(next, form, plan.workers.check_tags) {
                    Ok(check) => self.check = Some(Arc::new(check)),
                    Err(why) => return tracing::error!("port {}: no rules: {why}", self.name),
                }
                self.have_checked(plan);
            }
            self.installed.change(planned);
            let refused: Vec<_> = self.installed.refused().collect();
            if refused.is_empty() {
                break;
            }
            self.refused.extend(refused);
        }
        self.installed.verify();
    }

    /// Has workers that run a plan read tags as the NIC writes them.
    fn have_read(&self, plan: &Plan, classes: Option<&PortClasses>) {
        let Some(entry) = plan.entries.get(self.port.index()) else { return };
        if let Some(measured) = &self.measured {
            // Of a plan that runs already it is there.
            let _ = entry.measured.set(measured.clone());
        }
        if let (Some(tags), Some(classes)) = (&entry.tags, classes)
            && let Some(form) = mark_form(self.installed.nic(), classes)
        {
            tags.come_as(form);
        }
    }

    /// Has workers that run a plan look at tags.
    fn have_checked(&self, plan: &Plan) {
        self.have_read(plan, of_port(&plan.classes, self.port));
        let entry = plan.entries.get(self.port.index());
        if let (Some(entry), Some(check)) = (entry, &self.check) {
            // Of a plan that was given its rules already it is there.
            let _ = entry.check.set(check.clone());
        }
    }

    fn look(&mut self) {
        let Some(check) = &self.check else { return };
        if let Some((was, is)) = check.wrong() {
            let right = is.map_or("none".to_owned(), |tag| format!("class {}", tag.class()));
            let was = was.class();
            return self
                .installed
                .stop(&format!("it tagged a packet as of class {was}; it is of {right}"));
        }
        if self.given.elapsed() < PATIENCE {
            return;
        }
        let unmet = |class: &u32| {
            let (tagged, untagged) = check.seen(*class);
            tagged == 0 && untagged >= UNMET
        };
        let all: Vec<u32> = self.told_in_full().into_iter().filter(unmet).collect();
        for class in all {
            self.installed.give_up(class);
        }
    }

    fn plan(&self, of: &Plan, classes: &PortClasses, nic: &dyn Nic) -> (Vec<Planned>, Vec<Placed>) {
        let classes = &classes.with_shares(&self.counted());
        let bound = bound_to(of, classes, nic);
        let asked = Asked { bound: &bound, refused: &self.refused, room: None };
        let offload = plan(classes, nic, asked);
        let class = |at: usize| classes.classes.get(at).map_or(0, |c| c.tag.class());
        let rules = offload.rules.into_iter();
        let planned =
            rules.map(|one| Planned { class: class(one.class), rule: one.rule }).collect();
        (planned, offload.classes)
    }

    /// Packets of each class, as far as they are known: of those that a worker looks at, and those that rules dropped.
    fn counted(&self) -> Counted {
        let mut all = self.before.clone();
        let (Some(classes), Some(check)) = (&self.classes, &self.check) else { return all };
        if check.every() == 0 {
            return all;
        }
        let dropped = self.dropped_by_class();
        for class in &classes.classes {
            let (key, (tagged, untagged)) = (ClassKey::of(class), check.seen(class.tag.class()));
            let looked_at = f64::from(tagged) + f64::from(untagged);
            all.add(key, looked_at * f64::from(check.every()));
            let [now, then] =
                [&dropped, &self.dropped_before].map(|d| d.packets(key).unwrap_or_default());
            all.add(key, (now - then).max(0.0));
        }
        all
    }

    /// Packets that rules which are there have dropped, by class.
    fn dropped_by_class(&self) -> Counted {
        let mut all = Counted::default();
        let Some(classes) = &self.classes else { return all };
        let first = classes.classes.first().map_or(1, |class| class.tag.class());
        for rule in self.installed.rules().filter(|rule| rule.planned.rule.fate == Fate::Drop) {
            let at = rule.planned.class.checked_sub(first).map(|at| at as usize);
            let class = at.and_then(|at| classes.classes.get(at));
            if let (Some(class), Some(hits)) = (class, rule.hits) {
                all.add(ClassKey::of(class), hits as f64);
            }
        }
        all
    }

    /// Whether classes for which there was no room have much more traffic than those that have it.
    fn is_another_worth_its_room(&self) -> bool {
        let Some(classes) = &self.classes else { return false };
        if self.placed.iter().all(|placed| placed.room == Room::Enough) {
            return false;
        }
        let classes = classes.with_shares(&self.counted()).classes;
        let both = || classes.iter().zip(&self.placed);
        let told = both().filter(|(_, placed)| placed.rules > 0);
        let told: f64 = told.clone().map(|(class, _)| class.share).sum();
        let fit = both().filter(|(_, placed)| placed.rules > 0).count();
        let may = both().filter(|(_, p)| p.rules > 0 || p.room == Room::Crowded);
        let mut shares: Vec<f64> = may.map(|(class, _)| class.share).collect();
        shares.sort_by(|a, b| b.total_cmp(a));
        shares.iter().take(fit).sum::<f64>() > told + WORTH_IT
    }

    /// Classes all of whose packets meet a rule, as far as their plan says.
    fn told_in_full(&self) -> Vec<u32> {
        let full = |placed: &&Placed| placed.why.is_empty() && placed.rung <= Rung::MarkRss;
        self.placed.iter().filter(full).map(|placed| placed.tag.class()).collect()
    }

    fn report(&self) -> NicReport {
        let rules: Vec<RuleState> = self.installed.rules().collect();
        let count = |check| rules.iter().filter(|rule| rule.state == Ok(check)).count();
        let mut refused: Vec<(String, usize)> = Vec::new();
        let unplanned = self.refused.iter().map(|(_, why)| why.0.clone());
        let absent = rules.iter().filter_map(|rule| rule.state.clone().err());
        for why in absent.chain(unplanned) {
            match refused.iter_mut().find(|(known, _)| *known == why) {
                Some((_, n)) => *n += 1,
                None => refused.push((why, 1)),
            }
        }
        let told = self.placed.iter().filter(|placed| placed.rules > 0).count();
        NicReport {
            port: self.name.clone(),
            driver: self.installed.nic().driver().to_owned(),
            classes: (self.placed.len(), told),
            accepted: count(Check::Accepted),
            verified: count(Check::Verified),
            refused,
            dropped: self.installed.dropped(),
            stopped: self.installed.stopped().map(str::to_owned),
            rules: rules.iter().map(rule_report).collect(),
            hash: self.hash(),
            rules_per_second: self.installed.pace().per_second(),
            counted: self.class_counts(),
            emulated: self.emulated.as_ref().map(EmulatedNic::counts),
        }
    }
}

impl PortRules {
    fn hash(&self) -> HashState {
        let spread = self.installed.nic().spread();
        let word = |is_read, is_set| match (is_read, is_set) {
            (true, true) => "set",
            (true, false) => "read",
            (false, _) => "measured",
        };
        let table_set = Facts::of_driver(self.installed.nic().driver());
        let table_set = table_set.is_none_or(|facts| facts.hash.table_set);
        HashState {
            key: word(spread.key.is_some(), spread.key.as_deref().is_some_and(is_symmetric_key))
                .to_owned(),
            table: word(!spread.table.is_empty(), table_set).to_owned(),
            measured: self.measured.as_ref().map(|measured| measured.found().words()),
        }
    }

    fn class_counts(&self) -> Vec<ClassCount> {
        let Some(classes) = &self.classes else { return Vec::new() };
        let counted = self.counted();
        let of = |class: &Class| {
            let key = ClassKey::of(class);
            let packets = counted.packets(key)?;
            let (number, packets) = (class.tag.class(), packets.round() as u64);
            Some(ClassCount { class: number, key: key.0, packets, share: class.share })
        };
        classes.with_shares(&counted).classes.iter().filter_map(of).collect()
    }
}

/// Where something has to be measured of a NIC with several queues: nothing yet.
fn to_be_measured(nic: &dyn Nic) -> Option<Arc<Measured>> {
    let spread = nic.spread();
    let is_told = spread.key.is_some() && !spread.table.is_empty();
    let entries = u16::try_from(spread.table.len()).ok().filter(|entries| *entries > 0);
    (nic.queues() > 1 && !is_told).then(|| Arc::new(Measured::new(entries.unwrap_or(SHARDS))))
}

fn rule_report(rule: &RuleState) -> RuleReport {
    RuleReport {
        class: rule.planned.class,
        fate: match rule.planned.rule.fate {
            Fate::Drop => "drop".to_owned(),
            Fate::Queue(queue) => format!("queue {queue}"),
            Fate::Rss => "rss".to_owned(),
        },
        state: match &rule.state {
            Ok(Check::Accepted) => "accepted".to_owned(),
            Ok(Check::Verified) => "verified".to_owned(),
            Err(why) => why.clone(),
        },
        hits: rule.hits,
    }
}

fn of_port(classes: &Classes, port: PortIndex) -> Option<&PortClasses> {
    classes.ports.iter().find(|one| one.port == port)
}

/// How often a plan is made anew for what was refused.
const TRIES: usize = 4;
/// Rules change hands when so much more of the traffic meets them then.
const WORTH_IT: f64 = 0.05;
/// So long after rules were given packets may still come that met them not.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many packets of a class, of those that were looked at, without one that has its tag, and its rules do not act.
const UNMET: u32 = 16;
