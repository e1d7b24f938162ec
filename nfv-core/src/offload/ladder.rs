//! The ladder: which of a port's classes its NIC tells apart, and by which rules.
//!
//! MARK with RSS (or with QUEUE, for a class that is bound to one worker), DROP for what is refused anyway; below that RSS
//! or QUEUE without MARK; below that one queue, and software. What is not told to the NIC arrives without a tag, and
//! software finds the class: that is always right. So a rule may be left out, and never be wrong: no packet may get a tag
//! that is not its class's, nor be dropped when its class is not.
//!
//! Classes overlap, the first one wins. Where one of them (or a part, a *cell*) is not told to the NIC, a later one that
//! overlaps it would take its packets. On a NIC with priorities a *shield* stands before the later one: a rule, as coarse as
//! need be, that takes packets of the earlier one and leaves them as they are. On a NIC without, the later one is cut around
//! all earlier ones, and where that takes many pieces it stays in software.
//!
//! No DPDK here. The NIC is asked a rule of each shape; what it cannot be asked is in [`Limits`].

mod bound;
mod order;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use self::bound::spreads;
pub use self::bound::{bound_to, deal};
use super::cell::{Cell, Fit, PLANES, Plane};
use super::facts::{Fields, Limits};
use super::marks::mark_form;
use super::profile::{FieldsSeen, Shape};
use super::rule::{Fate, Nic, NicRule, Pattern, Refusal};
use crate::dispatch::{ClassFate, MarkForm, PortClasses, Tag};
use crate::port_index::PortIndex;

/// What a NIC is to be told of a port's classes.
#[derive(Clone, Debug)]
pub struct Offload {
    /// Which port.
    pub port: PortIndex,
    /// In the order in which they are to be installed: the first ones alone are right too.
    pub rules: Vec<PlannedRule>,
    /// By the class's place.
    pub classes: Vec<Placed>,
    /// How it writes tags; `None`: it cannot.
    pub form: Option<MarkForm>,
}

/// A rule, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRule {
    /// What the NIC is told.
    pub rule: NicRule,
    /// The place of the class that it is for.
    pub class: usize,
    /// What it does for it.
    pub role: Role,
}

/// What a rule does for its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its packets are told apart.
    Tells,
    /// Its packets are kept from the rules of later classes.
    Shields,
}

/// Where a class got to.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The class.
    pub tag: Tag,
    /// The best rung of its rules.
    pub rung: Rung,
    /// How many rules tell its packets apart.
    pub rules: usize,
    /// Whether there was room for all of its rules.
    pub room: Room,
    /// Why it, or some of it, is not higher: a sentence each.
    pub why: Vec<String>,
}

/// Whether a NIC had room for a class's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes, or it takes none of them anyhow.
    Enough,
    /// It would take some, but classes of a larger share have the room.
    Crowded,
}

/// How much of a class's dispatching the NIC does, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// It refuses the packets.
    Drop,
    /// It tags them, and sends them to the worker that the class is bound to.
    MarkQueue,
    /// It tags them, and spreads them.
    MarkRss,
    /// It sends them to the worker.
    Queue,
    /// It spreads them.
    Rss,
    /// Nothing: they arrive where they arrive, and software hands them to their workers.
    HandOver,
}

/// What is known beside the classes and the NIC. The default: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// By the class's place, the queue of the worker that it is bound to.
    pub bound: &'a [Option<u16>],
    /// What the NIC did not take when it was installed, though it was validated.
    pub refused: &'a [(Pattern, Refusal)],
    /// How many rules there may be, where that is fewer than the NIC's facts say.
    pub room: Option<usize>,
}

/// Plans what a NIC is told. Asks it some tens of times; takes a time that grows with the square of the classes that
/// overlap.
pub fn plan(classes: &PortClasses, nic: &dyn Nic, asked: Asked<'_>) -> Offload {
    let limits = nic.limits();
    let room = match (limits.rules, asked.room) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b).unwrap_or(usize::MAX),
    };
    let ladder = Ladder::new(classes, nic, limits, asked);
    let mut by_share: Vec<usize> = (0..classes.classes.len()).collect();
    by_share.sort_by(|a, b| ladder.share(*b).total_cmp(&ladder.share(*a)));
    let top = |count: usize| by_share.iter().take(count).copied();
    let mut best = ladder.try_with(top(by_share.len()));
    if best.entries.len() > room {
        // The most classes, by their share, that fit.
        let (mut fit, mut over) = (0, by_share.len());
        best = ladder.try_with(top(0));
        while over - fit > 1 {
            let half = fit.midpoint(over);
            let draft = ladder.try_with(top(half));
            if draft.entries.len() <= room {
                (fit, best) = (half, draft);
            } else {
                over = half;
            }
        }
        for at in by_share.iter().skip(fit) {
            if ladder.any_expressed(*at) {
                let why =
                    format!("the NIC holds {room} rules, and classes of a larger share have them");
                best.say(*at, None, why);
                best.crowded.push(*at);
            }
        }
    }
    ladder.finish(best)
}

/// A cell of a class.
#[derive(Clone, Debug)]
struct Part {
    class: usize,
    cell: Cell,
    told: Result<Told, Why>,
}

impl Part {
    /// The same, but told only if all of it looks at these fields.
    fn if_it_looks_at(&self, seen: Option<FieldsSeen>) -> Self {
        let fits = |told: &Told| seen.is_some() && the_fields(&told.patterns) == seen;
        let other =
            "the NIC's rules all look at the same fields, and others tell more of the traffic";
        let told = match &self.told {
            Ok(told) if !fits(told) => Err(other.to_owned()),
            told => told.clone(),
        };
        Self { told, ..self.clone() }
    }
}

/// How a cell is told.
#[derive(Clone, Debug)]
struct Told {
    patterns: Vec<Pattern>,
    act: Act,
}

/// Parts in the classes' order, by plane.
type ByPlane = Vec<(Plane, Vec<Part>)>;

/// Why a cell is not told.
type Why = String;

/// What a rule does with packets, its priority and pattern aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Act {
    rung: Rung,
    mark: Option<u32>,
    count: bool,
    queue: Option<u16>,
}

/// A rule before it has a priority.
#[derive(Clone, Debug)]
struct Entry {
    /// Whose packets it is about.
    class: usize,
    /// Of its plane, the place of the part that it was put there for.
    part: usize,
    pattern: Pattern,
    act: Act,
    role: Role,
}

/// A plan that may turn out not to fit.
#[derive(Debug, Default)]
struct Draft {
    /// Of a plane, in order; with their levels.
    entries: Vec<(Entry, u32)>,
    /// By class, what is not told and why, with the planes that it is of; none: all.
    why: BTreeMap<usize, Vec<(Why, Vec<Plane>)>>,
    /// Classes for which there was no room.
    crowded: Vec<usize>,
}

impl Draft {
    fn say(&mut self, class: usize, plane: Option<Plane>, why: Why) {
        let all = self.why.entry(class).or_default();
        let at = all.iter().position(|(said, _)| *said == why).unwrap_or(all.len());
        if at == all.len() {
            all.push((why, Vec::new()));
        }
        if let (Some((_, planes)), Some(plane)) = (all.get_mut(at), plane)
            && !planes.contains(&plane)
        {
            planes.push(plane);
        }
    }
}

/// What planning rests on.
struct Ladder<'a> {
    classes: &'a PortClasses,
    nic: &'a dyn Nic,
    limits: Limits,
    asked: Asked<'a>,
    levels: u32,
    form: Option<MarkForm>,
    /// By plane, in the classes' order.
    parts: BTreeMap<Plane, Vec<Part>>,
    /// What the NIC said to a shape.
    answers: RefCell<HashMap<(Shape, Act), Result<(), Refusal>>>,
}

impl<'a> Ladder<'a> {
    fn new(classes: &'a PortClasses, nic: &'a dyn Nic, limits: Limits, asked: Asked<'a>) -> Self {
        let (answers, form) = (RefCell::default(), mark_form(nic, classes));
        let mut ladder =
            Self { classes, nic, limits, asked, levels: 1, form, parts: BTreeMap::new(), answers };
        for (class, one) in classes.classes.iter().enumerate() {
            for (plane, region) in
                PLANES.iter().flat_map(|p| one.regions.iter().map(move |r| (*p, r)))
            {
                let Some((cell, fit)) = Cell::of(region, plane) else { continue };
                let told = match fit {
                    Fit::Exact => ladder.tell(&cell, &ladder.acts(class)),
                    Fit::Wider => Err("a condition that no pattern has".to_owned()),
                };
                ladder.parts.entry(plane).or_default().push(Part { class, cell, told });
            }
        }
        ladder.levels = ladder.levels_there_are();
        ladder.keep_to_the_same_fields();
        ladder
    }

    fn share(&self, class: usize) -> f64 {
        self.classes.classes.get(class).map_or(0.0, |c| c.share)
    }

    fn any_expressed(&self, class: usize) -> bool {
        self.parts.values().flatten().any(|part| part.class == class && part.told.is_ok())
    }

    /// What may be done with a class's packets, the best first.
    fn acts(&self, class: usize) -> Vec<Act> {
        let Some(one) = self.classes.classes.get(class) else { return Vec::new() };
        let queue = self.asked.bound.get(class).copied().flatten();
        let mark = self.form.and_then(|form| form.mark(one.tag));
        let tagged = match queue {
            Some(_) => Act { rung: Rung::MarkQueue, mark, count: true, queue },
            None => Act { rung: Rung::MarkRss, mark, count: true, queue },
        };
        let drop = Act { rung: Rung::Drop, mark: None, count: true, queue: None };
        let steered = Act { rung: Rung::Queue, mark: None, ..tagged };
        let mut acts = Vec::new();
        if matches!(one.fate, ClassFate::Drop { .. }) {
            acts.push(drop);
        }
        acts.extend(mark.map(|_| tagged));
        if queue.is_some() {
            acts.push(steered);
        }
        acts.into_iter().flat_map(|act| [act, Act { count: false, ..act }]).collect()
    }

    /// Tells a cell exactly, by the first act and the first way of saying it that the NIC takes. `Err`: what it said to the
    /// best act.
    fn tell(&self, cell: &Cell, acts: &[Act]) -> Result<Told, Why> {
        let ways = cell.patterns();
        let mut first = None;
        for act in acts {
            for patterns in &ways {
                match patterns.iter().try_for_each(|pattern| self.ask(pattern, *act)) {
                    Ok(()) => return Ok(Told { patterns: patterns.clone(), act: *act }),
                    Err(why) if !act.count => first = first.or(Some(why.0)),
                    Err(_) => {}
                }
            }
        }
        Err(first.unwrap_or_else(|| match (acts, self.form) {
            ([], Some(form)) => {
                let (bits, classes) = (form.bits(), form.classes());
                format!("the NIC's marks have {bits} bits, enough for {classes} classes of a port")
            }
            ([], None) => "the NIC's marks are too small for a tag".to_owned(),
            _ => "it takes too many patterns".to_owned(),
        }))
    }

    /// Asks the NIC, once a shape.
    fn ask(&self, pattern: &Pattern, act: Act) -> Result<(), Refusal> {
        if let Some((_, why)) = self.asked.refused.iter().find(|(refused, _)| refused == pattern) {
            return Err(why.clone());
        }
        // Asked with the largest tag that there will be, in any epoch: what it takes of that one, it takes of all.
        let last = self.classes.classes.last().map_or(1, |class| class.tag.class());
        let largest = self.form.map(|form| form.largest(last));
        let act = Act { mark: act.mark.and(largest), ..act };
        let key = (Shape::of(pattern), act);
        if let Some(answer) = self.answers.borrow().get(&key) {
            return answer.clone();
        }
        let answer = self.nic.validate(&rule(*pattern, act, 0));
        self.answers.borrow_mut().insert(key, answer.clone());
        answer
    }

    /// How many levels of priority there are: those that the NIC's facts know, else as many as it takes when asked.
    fn levels_there_are(&self) -> u32 {
        let known = self.limits.priorities.map(|levels| match self.limits.by_ethertype {
            true => levels / ETHERTYPES,
            false => levels,
        });
        known.map(|levels| levels.max(1)).unwrap_or_else(|| {
            let told = self.parts.values().flatten().find_map(|part| part.told.as_ref().ok());
            let Some(told) = told else { return 1 };
            let Some(pattern) = told.patterns.first() else { return 1 };
            let takes = |p: &u32| self.nic.validate(&rule(*pattern, told.act, *p)).is_ok();
            [1, 2, 3, 4, 7, 15, 31, 63, 255]
                .into_iter()
                .take_while(takes)
                .last()
                .map_or(1, |p| p + 1)
        })
    }

    /// On a NIC whose rules must look at the same fields, some are told and the others are not: of the choices that there
    /// are, that by which the largest share is told in the end.
    fn keep_to_the_same_fields(&mut self) {
        let groups: Vec<Vec<Plane>> = match self.limits.fields {
            Fields::Free => return,
            Fields::PerTransport => self.parts.keys().map(|plane| vec![*plane]).collect(),
            Fields::One => vec![self.parts.keys().copied().collect()],
        };
        let mut cells = vec![0.0; self.classes.classes.len()];
        for part in self.parts.values().flatten() {
            cells.get_mut(part.class).into_iter().for_each(|n| *n += 1.0);
        }
        let weight = |class: usize| self.share(class) / cells.get(class).copied().unwrap_or(1.0);
        let mut kept = BTreeMap::new();
        for group in groups {
            let of = |plane: &Plane| self.parts.get(plane).map_or(&[][..], Vec::as_slice);
            let mut choices: Vec<(FieldsSeen, f64)> = Vec::new();
            for part in group.iter().flat_map(of) {
                let seen = part.told.as_ref().ok().and_then(|t| the_fields(&t.patterns));
                let Some(seen) = seen else { continue };
                match choices.iter_mut().find(|(other, _)| *other == seen) {
                    Some((_, sum)) => *sum += weight(part.class),
                    None => choices.push((seen, weight(part.class))),
                }
            }
            // Those of the largest share, before it is known what they meet.
            choices.sort_by(|a, b| b.1.total_cmp(&a.1));
            choices.truncate(CHOICES_MAX);
            let mut best: Option<(f64, ByPlane)> = None;
            for seen in choices.iter().map(|(seen, _)| Some(*seen)).chain([None]) {
                let only = |plane: &Plane| {
                    (*plane, of(plane).iter().map(|p| p.if_it_looks_at(seen)).collect())
                };
                let parts: ByPlane = group.iter().map(only).collect();
                let told = parts.iter().map(|(_, parts)| self.told_of(parts, &weight)).sum::<f64>();
                if best.as_ref().is_none_or(|(most, _)| told > *most) {
                    best = Some((told, parts));
                }
            }
            kept.extend(best.into_iter().flat_map(|(_, parts)| parts));
        }
        self.parts = kept;
    }

    /// The share of a plane's parts that is told, when all classes may be.
    fn told_of(&self, parts: &[Part], weight: &dyn Fn(usize) -> f64) -> f64 {
        let mut draft = Draft::default();
        self.arrange(parts, &|at| parts.get(at)?.told.as_ref().ok(), &mut draft);
        let tells = draft.entries.iter().filter(|(entry, _)| entry.role == Role::Tells);
        let told: BTreeMap<usize, usize> =
            tells.map(|(entry, _)| (entry.part, entry.class)).collect();
        told.values().map(|class| weight(*class)).sum()
    }

    fn arrange<'t>(
        &self,
        parts: &'t [Part],
        told: &dyn Fn(usize) -> Option<&'t Told>,
        draft: &mut Draft,
    ) {
        if self.levels > 1 {
            self.layers(parts, told, draft);
        } else {
            self.pieces(parts, told, draft);
        }
    }

    /// Plans with some of the classes told; the others are left to software.
    fn try_with(&self, classes: impl Iterator<Item = usize>) -> Draft {
        let mut wanted = vec![false; self.classes.classes.len()];
        for at in classes {
            if let Some(wanted) = wanted.get_mut(at) {
                *wanted = true;
            }
        }
        let mut draft = Draft::default();
        for (plane, parts) in &self.parts {
            let told = |at: usize| {
                let part = parts.get(at)?;
                let wanted = wanted.get(part.class).copied().unwrap_or_default();
                part.told.as_ref().ok().filter(|_| wanted)
            };
            self.arrange(parts, &told, &mut draft);
            for part in parts {
                if let Err(why) = &part.told {
                    draft.say(part.class, Some(*plane), why.clone());
                }
            }
        }
        draft
    }

    fn number(&self, class: usize) -> u32 {
        self.classes.classes.get(class).map_or(0, |c| c.tag.class())
    }

    /// Gives the rules their priorities, and says where each class got to.
    fn finish(&self, mut draft: Draft) -> Offload {
        // Those of a lower level come first: the rules that another needs before it are there before it is.
        draft.entries.sort_by_key(|(_, level)| *level);
        let rules: Vec<PlannedRule> = draft
            .entries
            .iter()
            .map(|(entry, level)| {
                let ethertype = match entry.pattern {
                    Pattern { vlan: Some(_), .. } => 2,
                    Pattern { is_ipv6, .. } => u32::from(is_ipv6),
                };
                let by = self.limits.by_ethertype;
                let priority = if by { level * ETHERTYPES + ethertype } else { *level };
                let rule = rule(entry.pattern, entry.act, priority);
                PlannedRule { rule, class: entry.class, role: entry.role }
            })
            .collect();
        let plain = self.plain_rung();
        let mut placed: Vec<Placed> = self
            .classes
            .classes
            .iter()
            .map(|class| Placed {
                tag: class.tag,
                rung: plain,
                rules: 0,
                room: Room::Enough,
                why: Vec::new(),
            })
            .collect();
        for at in &draft.crowded {
            if let Some(placed) = placed.get_mut(*at) {
                placed.room = Room::Crowded;
            }
        }
        for (entry, _) in draft.entries.iter().filter(|(entry, _)| entry.role == Role::Tells) {
            if let Some(placed) = placed.get_mut(entry.class) {
                placed.rung = placed.rung.min(entry.act.rung);
                placed.rules += 1;
            }
        }
        for (class, all) in draft.why {
            let is_of = |parts: &&Vec<Part>| parts.iter().any(|part| part.class == class);
            let planes_of = self.parts.values().filter(is_of).count();
            let said = all.into_iter().map(|(why, planes)| match planes.as_slice() {
                planes if planes.is_empty() || planes.len() == planes_of => why,
                planes => {
                    let names: Vec<&str> = planes.iter().map(|p| p.words()).collect();
                    format!("{}: {why}", names.join(", "))
                }
            });
            if let Some(placed) = placed.get_mut(class) {
                placed.why.extend(said);
            }
        }
        for (at, placed) in placed.iter_mut().enumerate() {
            if placed.rules == 0 && placed.why.is_empty() {
                let any = self.parts.values().flatten().any(|part| part.class == at);
                placed.why.push(match any {
                    true => "classes before it take all of it".to_owned(),
                    false => "it is of no transport that rules name".to_owned(),
                });
            }
        }
        Offload { port: self.classes.port, rules, classes: placed, form: self.form }
    }

    /// Where packets go that no rule is about.
    fn plain_rung(&self) -> Rung {
        let spreads = self.nic.queues() > 1 && spreads(self.nic);
        if spreads { Rung::Rss } else { Rung::HandOver }
    }
}

/// The fields that all of some patterns look at; `None`: not all at the same.
fn the_fields(patterns: &[Pattern]) -> Option<FieldsSeen> {
    let mut all = patterns.iter().map(|p| Shape::of(p).fields);
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

fn rule(pattern: Pattern, act: Act, priority: u32) -> NicRule {
    let fate = match (act.rung, act.queue) {
        (Rung::Drop, _) => Fate::Drop,
        (_, Some(queue)) => Fate::Queue(queue),
        (_, None) => Fate::Rss,
    };
    NicRule { pattern, priority, mark: act.mark, count: act.count, fate }
}

/// Most choices of fields that are tried.
const CHOICES_MAX: usize = 4;
/// IPv4, IPv6, and what has a VLAN.
const ETHERTYPES: u32 = 3;
