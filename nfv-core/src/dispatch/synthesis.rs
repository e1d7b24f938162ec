//! From chains and the rules of functions that keep no state to the traffic classes of a port.
//!
//! ```text
//!   chain 1 ---- rule 1 of its 1st function ---- rule 1 of its 2nd ..   class 1     what a packet meets first, at each
//!           |                               `--- rule 2 ..              class 2     step in the order of the walk
//!           |--- rule 2 (deny)                                          class 3
//!           `--- what meets no rule                                     class 4
//!   chain 2 ..
//! ```
//!
//! Each step ends with what meets no rule, so a packet that is in a chain's region is in one of its classes, and in none of
//! those behind it: the first that it meets is what the walk through matches and rules would find. A function that keeps
//! state, or sees packets, ends what can be decided: the class enters there. Where the combinations are too many, the last
//! function that made them so is asked itself; a first one that has too many alone decides its first rules only, and is asked
//! about what meets none of them.

use std::collections::HashMap;
use std::rc::Rc;

use super::class::{CLASSES_MAX, Class, ClassFate, PortClasses, Tag};
use super::cover::Cover;
use super::region::Region;
use super::regions::{Seen, is_at, regions_of};
use crate::chain::compile::{Function, Program, ProgramId, Step};
use crate::chain::matching::Match;
use crate::chain::piece::Piece;
use crate::nf::{Direction, PortIndex, Reason, Says, Surroundings};

/// A match of a port's, and the program that it leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane<'m> {
    /// As packets are when they come in.
    pub one: &'m Match,
    pub program: ProgramId,
}

/// What is known of a port's packets before they are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Each is told by its class.
    Plain,
    /// Some are not told by their class: those of known flows take the way of their flow, and those for the box itself are
    /// the kernel's. No class drops them.
    Guarded,
}

/// Makes the classes of one port after the other.
#[derive(Debug)]
pub(crate) struct Synthesis<'p> {
    functions: &'p [Function],
    programs: &'p [Program],
    pieces: &'p [Piece],
    around: Surroundings<'p>,
    epoch: u8,
    /// The next class's number.
    next: u32,
}

impl<'p> Synthesis<'p> {
    pub fn new(
        functions: &'p [Function],
        (programs, pieces): (&'p [Program], &'p [Piece]),
        around: Surroundings<'p>,
        epoch: u8,
    ) -> Self {
        Self { functions, programs, pieces, around, epoch, next: 1 }
    }

    /// The classes of a port, of which these are all lanes, in order.
    pub fn port(&mut self, port: PortIndex, lanes: &[Lane<'_>], kind: Port) -> PortClasses {
        let most = lanes.iter().map(|lane| self.decidable(lane.program).len()).max().unwrap_or(0);
        let with = |depth, rules| self.with_depth(port, lanes, kind, (depth, rules));
        let whole = || (1..=most).rev().find_map(|depth| with(depth, Rules::All));
        let first = || {
            let rules = std::iter::successors(Some(REGIONS_MAX - 1), |rules| Some(rules / 2));
            let mut rules = rules.take_while(|rules| most > 0 && *rules >= FIRST_MIN);
            rules.find_map(|rules| with(1, Rules::First(rules)))
        };
        let made = whole().or_else(first).or_else(|| with(0, Rules::All));
        let mut drafts = made.unwrap_or_default();
        // A port with one chain that takes all needs no class for what only enters it.
        if let [lane] = lanes
            && *lane.one == Match::default()
        {
            let enters = |d: &Draft| d.decided.is_empty() && d.asked == 0 && !d.fate.is_drop();
            while drafts.last().is_some_and(enters) {
                drafts.pop();
            }
        }
        let room = CLASSES_MAX - (self.next - 1);
        if drafts.len() > room as usize {
            drafts.clear();
        }
        let classes = drafts.into_iter().zip(self.next..).map(|(draft, number)| Class {
            tag: Tag::new(self.epoch, number),
            regions: draft.regions,
            fate: draft.fate,
            decided: draft.decided,
            share: 0.0,
        });
        let classes: Vec<Class> = classes.collect();
        self.next += classes.len() as u32;
        let mut all = PortClasses { port, classes };
        all.guess_shares();
        all
    }

    /// The classes when of each chain at most `depth` functions are decided, the last of them by those rules; `None`: they
    /// are too many.
    fn with_depth(
        &self,
        port: PortIndex,
        lanes: &[Lane<'_>],
        kind: Port,
        (depth, last): (usize, Rules),
    ) -> Option<Vec<Draft>> {
        let mut levels = HashMap::new();
        let mut making = Making::new();
        for lane in lanes.iter().filter(|lane| is_at(lane.one, port, self.around)) {
            let Some(program) = self.programs.get(usize::from(lane.program.0)) else { continue };
            let seen = match program.direction {
                Direction::Forward => Seen::AsIs,
                Direction::Reverse => Seen::Turned,
            };
            let mut path = Vec::new();
            let decidable = self.decidable(lane.program).into_iter().take(depth);
            for (n, (at, reroutes)) in (1..).zip(decidable) {
                let rules = if n == depth { last } else { Rules::All };
                let level = match levels.get(&(at, seen, rules)) {
                    Some(known) => Rc::clone(known),
                    None => {
                        let level = Rc::new(self.level(at, port, seen, rules)?);
                        levels.insert((at, seen, rules), Rc::clone(&level));
                        level
                    }
                };
                path.push((at, level, reroutes));
            }
            let asked = self.asked_for(lane.program, port);
            let walk = Walk { functions: self.functions, program: lane.program, path, asked, kind };
            for region in regions_of(lane.one, Seen::AsIs)? {
                walk.descend(&region, 0, &mut Vec::new(), &mut making)?;
            }
        }
        Some(making.drafts)
    }

    /// The first functions of a program, as far as they decide by headers alone.
    fn decidable(&self, program: ProgramId) -> Vec<(usize, &'p [Option<ProgramId>])> {
        let steps = self.programs.get(usize::from(program.0)).map_or(&[][..], |p| &p.steps);
        let decides = |step: &'p Step| match step {
            Step::Function { at, reroutes, .. } => {
                let function = self.functions.get(*at)?;
                function.built.decides.as_ref().map(|_| (*at, reroutes.as_slice()))
            }
            Step::Piece(_) => None,
        };
        steps.iter().map_while(decides).collect()
    }

    /// What a function says of a port's packets, by those of its rules.
    fn level(&self, at: usize, port: PortIndex, seen: Seen, rules: Rules) -> Option<Level> {
        let decides = self.functions.get(at)?.built.decides.as_ref()?();
        let mut list = Vec::new();
        for (one, says) in decides.list.iter().filter(|(one, _)| is_at(one, port, self.around)) {
            let regions = regions_of(one, seen);
            match (rules, regions.filter(|regions| list.len() + regions.len() <= rules.most())) {
                (_, Some(regions)) => list.extend(regions.into_iter().map(|r| (r, *says))),
                (Rules::All, None) => return None,
                // It says itself what meets none of those before.
                (Rules::First(_), None) => return Some(Level { list, otherwise: Says::Ask }),
            }
        }
        Some(Level { list, otherwise: decides.otherwise })
    }

    /// What the function that keeps flows behind those wants to be told apart: virtual addresses.
    fn asked_for(&self, program: ProgramId, port: PortIndex) -> Vec<Region> {
        let program = self.programs.get(usize::from(program.0));
        let forward = program.filter(|p| p.direction == Direction::Forward);
        let piece = forward.and_then(|p| {
            p.steps.iter().find_map(|step| match step {
                Step::Piece(piece) => self.pieces.get(*piece),
                Step::Function { .. } => None,
            })
        });
        let first = piece.and_then(|p| p.functions.first()).and_then(|f| f.at);
        let keeps = |at: &usize| self.functions.get(*at).is_some_and(Function::keeps_flows);
        let Some(level) =
            first.filter(keeps).and_then(|at| self.level(at, port, Seen::AsIs, Rules::All))
        else {
            return Vec::new();
        };
        level.list.into_iter().map(|(region, _)| region).collect()
    }
}

/// By which of its rules a function decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rules {
    /// By all of them.
    All,
    /// By those that make the first so many regions.
    First(usize),
}

impl Rules {
    /// How many regions they may make.
    const fn most(self) -> usize {
        match self {
            Self::All => REGIONS_MAX,
            Self::First(most) => most,
        }
    }
}

/// What a function says of packets, in the regions that a port sees.
#[derive(Debug)]
struct Level {
    list: Vec<(Region, Says)>,
    otherwise: Says,
}

/// A class without its number.
#[derive(Debug)]
struct Draft {
    regions: Vec<Region>,
    fate: ClassFate,
    decided: Vec<(usize, Option<u32>)>,
    /// Which of those it is that a function wants told apart, though it decides nothing of them, from 1.
    asked: usize,
}

impl ClassFate {
    fn is_drop(&self) -> bool {
        matches!(self, Self::Drop { .. })
    }
}

/// The classes of a port in the making.
#[derive(Debug)]
struct Making {
    drafts: Vec<Draft>,
    regions: usize,
    /// Of the regions so far, in which a later one may lie.
    cover: Cover,
    /// Comparisons that may still be made.
    left: usize,
}

impl Making {
    fn new() -> Self {
        Self {
            drafts: Vec::new(),
            regions: 0,
            cover: Cover::with_work(COVER_WORK_MAX),
            left: MEETS_MAX,
        }
    }

    /// Adds a region behind all others; `None`: there are too many.
    fn add(
        &mut self,
        region: Region,
        fate: ClassFate,
        decided: &[(usize, Option<u32>)],
        asked: usize,
    ) -> Option<()> {
        if self.cover.around(None, &region).is_some() {
            return Some(());
        }
        self.regions += 1;
        if self.regions > REGIONS_MAX {
            return None;
        }
        self.cover.add(None, &region, self.regions);
        match self.drafts.last_mut() {
            Some(last) if (last.fate, last.asked) == (fate, asked) && last.decided == decided => {
                last.regions.push(region);
            }
            _ => self.drafts.push(Draft {
                regions: vec![region],
                fate,
                decided: decided.to_vec(),
                asked,
            }),
        }
        Some(())
    }
}

/// A function, what it says, and where its reasons to drop lead.
type Decidable<'w> = (usize, Rc<Level>, &'w [Option<ProgramId>]);

/// The walk through the functions of one program.
struct Walk<'w> {
    functions: &'w [Function],
    program: ProgramId,
    /// The functions that can be decided.
    path: Vec<Decidable<'w>>,
    /// What is told apart where it ends.
    asked: Vec<Region>,
    kind: Port,
}

impl Walk<'_> {
    /// Adds the classes of the packets of a region that come to a step. `None`: they are too many.
    fn descend(
        &self,
        region: &Region,
        step: usize,
        decided: &mut Vec<(usize, Option<u32>)>,
        to: &mut Making,
    ) -> Option<()> {
        let Some((at, level, reroutes)) = self.path.get(step) else {
            to.left = to.left.checked_sub(self.asked.len())?;
            for (asked, own) in (1..).zip(&self.asked) {
                if let Some(meet) = own.meet(region) {
                    to.add(meet, self.enters(step), decided, asked)?;
                }
            }
            return to.add(region.clone(), self.enters(step), decided, 0);
        };
        to.left = to.left.checked_sub(level.list.len())?;
        for (own, says) in &level.list {
            let Some(meet) = own.meet(region) else { continue };
            let is_all = meet == *region;
            self.take(meet, (*at, *says), reroutes, (step, decided), to)?;
            if is_all {
                return Some(());
            }
        }
        self.take(region.clone(), (*at, level.otherwise), reroutes, (step, decided), to)
    }

    /// What a function says of a region.
    fn take(
        &self,
        region: Region,
        (at, says): (usize, Says),
        reroutes: &[Option<ProgramId>],
        (step, decided): (usize, &mut Vec<(usize, Option<u32>)>),
        to: &mut Making,
    ) -> Option<()> {
        match says {
            Says::Pass { rule } => {
                decided.push((at, rule));
                let done = self.descend(&region, step + 1, decided, to);
                decided.pop();
                done
            }
            Says::Drop { why, rule } if self.ends(at, why, reroutes) => {
                decided.push((at, rule));
                let fate = ClassFate::Drop { program: self.program, function: at, why };
                let done = to.add(region, fate, decided, 0);
                decided.pop();
                done
            }
            Says::Drop { .. } | Says::Ask => to.add(region, self.enters(step), decided, 0),
        }
    }

    /// Whether a packet that a function refuses ends there without a word, wherever it is seen.
    fn ends(&self, at: usize, why: Reason, reroutes: &[Option<ProgramId>]) -> bool {
        let answers = self.functions.get(at).map_or(&[][..], |f| f.kind.answers);
        let Reason(reason) = why;
        self.kind == Port::Plain
            && reroutes.get(usize::from(reason)).copied().flatten().is_none()
            && !answers.iter().any(|(r, _)| *r == why)
    }

    fn enters(&self, step: usize) -> ClassFate {
        ClassFate::Enter { program: self.program, step }
    }
}

/// Regions of a port.
const REGIONS_MAX: usize = 65_536;
/// Fewer first rules are not worth the search for them.
const FIRST_MIN: usize = 64;
/// Comparisons of regions for a port: some tenths of a second.
const MEETS_MAX: usize = 8_000_000;
/// The same for what lies in another.
const COVER_WORK_MAX: u64 = 8_000_000;
