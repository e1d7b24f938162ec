//! How rules of overlapping classes stand to each other: in levels of priority behind shields, or apart, in pieces.

use std::collections::HashMap;

use super::{Act, Draft, Entry, Ladder, Part, Role, Rung, Told, Why, the_fields};
use crate::offload::cell::Cell;
use crate::offload::facts::{Fields, WithoutVlan};
use crate::offload::rule::Pattern;

impl Ladder<'_> {
    /// With priorities: each cell as it is, behind shields for the earlier ones that are not told. When that takes more
    /// levels than there are, without the cells that are too deep.
    pub(super) fn layers<'t>(
        &self,
        parts: &'t [Part],
        told: &dyn Fn(usize) -> Option<&'t Told>,
        draft: &mut Draft,
    ) {
        let mut left_out = vec![false; parts.len()];
        for round in 0.. {
            let (entries, why) = self.layer(parts, &|at| {
                told(at).filter(|_| !left_out.get(at).copied().unwrap_or_default())
            });
            let levels = levels_of(&entries);
            let deep = entries.iter().zip(&levels).filter(|(_, level)| **level >= self.levels);
            let mut deep: Vec<usize> = deep.map(|(entry, _)| entry.part).collect();
            if deep.is_empty() {
                for (part, why) in why {
                    draft.say(part.class, Some(part.cell.plane), why);
                }
                for (part, _) in parts.iter().zip(&left_out).filter(|(_, out)| **out) {
                    let levels = self.levels;
                    let why = format!(
                        "it overlaps others, and would need more than {levels} levels of priority"
                    );
                    draft.say(part.class, Some(part.cell.plane), why);
                }
                draft.entries.extend(entries.into_iter().zip(levels));
                return;
            }
            if round >= ROUNDS_MAX {
                // What comes before the first that is too deep needs nothing of what comes behind it.
                let first = deep.iter().copied().min().unwrap_or_default();
                deep = (first..parts.len()).collect();
            }
            for at in deep {
                if let Some(left_out) = left_out.get_mut(at) {
                    *left_out = true;
                }
            }
        }
    }

    /// One try: the rules, and the parts that are not told for the sake of others.
    fn layer<'t>(
        &self,
        parts: &'t [Part],
        told: &dyn Fn(usize) -> Option<&'t Told>,
    ) -> (Vec<Entry>, Vec<(&'t Part, Why)>) {
        let (mut entries, mut why): (Vec<Entry>, Vec<(&Part, Why)>) = (Vec::new(), Vec::new());
        let mut installed = vec![false; parts.len()];
        // Shields that take more than they shield, and whose.
        let mut coarse: Vec<(Cell, usize)> = Vec::new();
        // By the cell that they shield, in whose sight: cells with that VLAN, or without one.
        let mut shielded: HashMap<usize, Vec<Option<u16>>> = HashMap::new();
        for (at, part) in parts.iter().enumerate() {
            let Some(this) = told(at) else { continue };
            let mut shields = Vec::new();
            let mut open = None;
            for (before, other) in parts.iter().enumerate().take(at) {
                if other.class == part.class || !other.cell.meets(&part.cell) {
                    continue;
                }
                let is_seen = other.cell.vlan.is_some()
                    || part.cell.vlan.is_none()
                    || self.limits.without_vlan == WithoutVlan::Any;
                let stands = installed.get(before) == Some(&true) && is_seen;
                let is_shielded =
                    || shielded.get(&before).is_some_and(|all| all.contains(&part.cell.vlan));
                if stands || is_shielded() {
                    continue;
                }
                match self.shield(&other.cell, &part.cell) {
                    Some((cell, told)) => {
                        if cell != other.cell {
                            coarse.push((cell, other.class));
                        }
                        shields.push((before, told));
                    }
                    None => {
                        open = Some(other.class);
                        break;
                    }
                }
            }
            if let Some(class) = open {
                let tag = self.number(class);
                why.push((part, format!("class {tag} comes first, and the NIC cannot be kept from taking its packets for this one's")));
                continue;
            }
            if let Some((_, class)) = coarse.iter().find(|(cell, _)| cell.meets(&part.cell)) {
                let tag = self.number(*class);
                let words = "comes first and is told coarsely: what they have in common is left to software";
                why.push((part, format!("class {tag} {words}")));
            }
            for (before, told) in shields {
                shielded.entry(before).or_default().push(part.cell.vlan);
                entries.extend(told.patterns.iter().map(|pattern| Entry {
                    class: parts.get(before).map_or(part.class, |other| other.class),
                    part: at,
                    pattern: *pattern,
                    act: told.act,
                    role: Role::Shields,
                }));
            }
            entries.extend(this.patterns.iter().map(|pattern| Entry {
                class: part.class,
                part: at,
                pattern: *pattern,
                act: this.act,
                role: Role::Tells,
            }));
            if let Some(installed) = installed.get_mut(at) {
                *installed = true;
            }
        }
        (entries, why)
    }

    /// What keeps packets of an earlier cell from a later one, and leaves some of the later one.
    fn shield(&self, earlier: &Cell, later: &Cell) -> Option<(Cell, Told)> {
        let act = Act { rung: Rung::Rss, mark: None, count: false, queue: None };
        let vlan = later.vlan.or(earlier.vlan);
        let as_seen = Cell { vlan, ..*earlier };
        let plain = later.vlan.is_none() && earlier.vlan.is_some();
        let blind = plain.then_some(Cell { vlan: None, ..*earlier });
        let all = as_seen
            .coarser()
            .chain(blind.into_iter().flat_map(|cell| cell.coarser().collect::<Vec<_>>()));
        let useful =
            |cell: &Cell| !cell.covers(later) || (cell.vlan.is_some() && later.vlan.is_none());
        all.filter(useful).find_map(|cell| {
            let told = self.tell(&cell, &[act]).ok();
            told.filter(|told| told.patterns.len() <= SHIELDS_MAX).map(|told| (cell, told))
        })
    }

    /// Without priorities: each cell without all earlier ones.
    pub(super) fn pieces<'t>(
        &self,
        parts: &[Part],
        told: &dyn Fn(usize) -> Option<&'t Told>,
        draft: &mut Draft,
    ) {
        for (at, part) in parts.iter().enumerate() {
            let Some(this) = told(at) else { continue };
            let plane = Some(part.cell.plane);
            let mut pieces = vec![part.cell];
            let mut first = None;
            for other in parts.iter().take(at).filter(|other| other.cell.meets(&part.cell)) {
                if pieces.len() > PIECES_MAX {
                    break;
                }
                if other.class != part.class {
                    first = first.or(Some(self.number(other.class)));
                }
                let cut = |piece: Cell| match piece.meets(&other.cell) {
                    true => piece.without(&other.cell),
                    false => vec![piece],
                };
                pieces = pieces.into_iter().flat_map(cut).collect();
            }
            let first = first.map_or("its own other part".to_owned(), |tag| format!("class {tag}"));
            if pieces.len() > PIECES_MAX {
                let why =
                    format!("{first} comes first and overlaps it, and the NIC has no priorities");
                draft.say(part.class, plane, why);
                continue;
            }
            let fields = the_fields(&this.patterns);
            let fits = |told: &Told| {
                self.limits.fields == Fields::Free || the_fields(&told.patterns) == fields
            };
            for piece in pieces {
                let told = if piece == part.cell {
                    Some(this.clone())
                } else {
                    self.tell(&piece, &[this.act]).ok().filter(fits)
                };
                let Some(told) = told else {
                    let why = format!(
                        "the NIC cannot be told what it has beside {first}, which comes first"
                    );
                    draft.say(part.class, plane, why);
                    continue;
                };
                let entry = |pattern: &Pattern| Entry {
                    class: part.class,
                    part: at,
                    pattern: *pattern,
                    act: told.act,
                    role: Role::Tells,
                };
                draft.entries.extend(told.patterns.iter().map(|p| (entry(p), 0)));
            }
        }
    }
}

/// Of each rule, how many must come before it, one after the other: those before it that a packet may meet too.
fn levels_of(entries: &[Entry]) -> Vec<u32> {
    let mut levels: Vec<u32> = Vec::with_capacity(entries.len());
    for entry in entries {
        let before = entries.iter().zip(&levels);
        let met = before.filter(|(other, _)| other.pattern.overlaps(&entry.pattern));
        let level = met.map(|(_, level)| level + 1).max().unwrap_or(0);
        levels.push(level);
    }
    levels
}

/// Most pieces that a cell is cut into.
const PIECES_MAX: usize = 8;
/// Most rules of a shield.
const SHIELDS_MAX: usize = 4;
/// How often a plane is planned anew before the rest of it is given up.
const ROUNDS_MAX: usize = 8;
