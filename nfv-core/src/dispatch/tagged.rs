//! What a worker knows of a class: where its packets enter, and where they are counted as if each had been asked about.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::class::{Class, ClassFate, Classes};
use super::mark::MarkForm;
use super::regions::is_taggable;
use crate::account::CellId;
use crate::chain::compile::{Function, Program, ProgramId, Step};
use crate::dpdk::Packet;
use crate::packet::Headers;

/// The classes of a port by their numbers.
#[derive(Debug)]
pub struct PortTags {
    epoch: u8,
    /// How the port's NIC writes them, where that is not as they are.
    form: OnceLock<MarkForm>,
    /// The number of the first.
    first: u32,
    classes: Box<[Tagged]>,
    /// The generations of the functions that were asked when the classes were made, and what they were before that.
    asked: Box<[(Arc<AtomicU32>, u32)]>,
}

/// What becomes of a packet of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tagged {
    /// What is left of its program behind what is decided; of packets that are dropped nothing.
    pub left: Option<ProgramId>,
    /// Its program.
    pub program: ProgramId,
    /// Why it is dropped, otherwise.
    pub drops: CellId,
}

/// By class: where its packets, and their bytes, are counted.
#[derive(Debug, Default)]
pub struct TagCells {
    classes: Box<[ClassCells]>,
}

#[derive(Debug)]
pub(crate) struct ClassCells {
    pub packets: Box<[CellId]>,
    pub bytes: Box<[CellId]>,
}

impl PortTags {
    /// The number of a packet's class and what becomes of it; `None`: it has no tag of this plan and port, or one that no
    /// rule of a NIC's can have meant.
    ///
    /// Cost: two lines that a worker has read by then, and one of the class.
    #[inline(always)]
    pub(crate) fn of(&self, packet: &Packet, headers: &Headers) -> Option<(u32, Tagged)> {
        let mark = packet.mark()?;
        let number = self.form().class(mark, self.epoch)?;
        let at = number.checked_sub(self.first)?;
        let class = self.classes.get(at as usize)?;
        is_taggable(headers).then_some((number, *class))
    }

    #[inline(always)]
    fn form(&self) -> MarkForm {
        self.form.get().copied().unwrap_or(MarkForm::WIDE)
    }

    /// Says how the port's NIC writes tags: before the first one of this plan can come. What is said later has no effect.
    pub(crate) fn come_as(&self, form: MarkForm) {
        let _ = self.form.set(form);
    }

    /// Whether the functions still decide what the classes say: once a burst.
    #[inline]
    pub(crate) fn is_true(&self) -> bool {
        self.asked.iter().all(|(now, then)| now.load(Ordering::Acquire) == *then)
    }

    /// Why packets of a class are dropped, if they are.
    #[inline]
    pub(crate) fn reason(&self, class: u32) -> Option<CellId> {
        let at = class.checked_sub(self.first)?;
        let class = self.classes.get(at as usize)?;
        class.left.is_none().then_some(class.drops)
    }
}

impl TagCells {
    /// How many classes there are.
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Those of a class, by its number.
    pub(crate) fn get(&self, class: u32) -> Option<&ClassCells> {
        self.classes.get((class as usize).checked_sub(1)?)
    }
}

/// The generations of functions, to be read before they are asked what they decide.
pub(crate) fn generations(functions: &[Function]) -> Vec<u32> {
    let of = |f: &Function| f.built.generation.as_ref().map_or(0, |g| g.load(Ordering::Acquire));
    functions.iter().map(of).collect()
}

/// What workers need of classes, by port, and where these are counted. `generations`: before the functions were asked. What is left of a program behind its first steps is
/// added to the programs.
pub(crate) fn compile_tags(
    classes: &Classes,
    functions: &[Function],
    programs: &mut Vec<Program>,
    generations: &[u32],
) -> (Vec<Option<PortTags>>, TagCells) {
    let whole = programs.len();
    let mut all = Vec::new();
    let mut ports = Vec::new();
    for port in &classes.ports {
        let Some(first) = port.classes.first() else {
            ports.push(None);
            continue;
        };
        let mut tagged = Vec::with_capacity(port.classes.len());
        for class in &port.classes {
            let (one, cells) = compile_class(class, functions, programs, whole);
            tagged.push(one);
            all.push(cells);
        }
        let (epoch, first) = (classes.epoch, first.tag.class());
        // Also who was asked and decided nothing may decide something by now, which does no harm.
        let deciding = |(at, function): (usize, &Function)| {
            let met = port.classes.iter().any(|class| class.decided.iter().any(|d| d.0 == at));
            let now = function.built.generation.clone().filter(|_| met)?;
            Some((now, generations.get(at).copied()?))
        };
        let asked = functions.iter().enumerate().filter_map(deciding).collect();
        let (form, classes) = (OnceLock::new(), tagged.into());
        ports.push(Some(PortTags { epoch, form, first, classes, asked }));
    }
    (ports, TagCells { classes: all.into() })
}

fn compile_class(
    class: &Class,
    functions: &[Function],
    programs: &mut Vec<Program>,
    whole: usize,
) -> (Tagged, ClassCells) {
    let of = |at: usize| functions.get(at).map(|f| &f.cells);
    let met = || class.decided.iter().filter_map(|(at, rule)| Some((of(*at)?, *rule)));
    let rule = |(cells, rule): (&crate::chain::cells::FunctionCells, Option<u32>)| {
        rule.map(|rule| cells.rules.plus(rule as usize))
    };
    let mut cells = ClassCells {
        packets: met().map(|(cells, _)| cells.packets).chain(met().filter_map(rule)).collect(),
        bytes: met().map(|(cells, _)| cells.bytes).collect(),
    };
    match class.fate {
        ClassFate::Enter { program, step } => {
            let left =
                if step == 0 { Some(program) } else { behind(programs, program, step, whole) };
            // As many programs as there may be: it is asked about each packet, and nothing is to be added.
            let left = left.unwrap_or_else(|| {
                cells = ClassCells { packets: Box::default(), bytes: Box::default() };
                program
            });
            let drops = CellId::default();
            (Tagged { left: Some(left), program, drops }, cells)
        }
        ClassFate::Drop { program, function, why } => {
            // Nobody runs the program on them, who would count them.
            if let Some(of) = programs.get(usize::from(program.0)) {
                let more = |cells: &[CellId], one| cells.iter().copied().chain([one]).collect();
                cells.packets = more(&cells.packets, of.packets);
                cells.bytes = more(&cells.bytes, of.bytes);
            }
            let drops =
                of(function).map_or(CellId::default(), |c| c.drops.plus(usize::from(why.0)));
            (Tagged { left: None, program, drops }, cells)
        }
    }
}

/// The program that is another one from a step on.
fn behind(
    programs: &mut Vec<Program>,
    of: ProgramId,
    step: usize,
    whole: usize,
) -> Option<ProgramId> {
    let is_it = |p: &Program| p.rest_of == Some((of, step));
    let known = programs.iter().skip(whole).position(is_it).map(|at| whole + at);
    if let Some(at) = known {
        return u16::try_from(at).ok().map(ProgramId);
    }
    let id = u16::try_from(programs.len()).ok().filter(|id| *id < PROGRAMS_MAX)?;
    let program = programs.get(usize::from(of.0))?;
    let steps: Vec<Step> = program.steps.iter().skip(step).cloned().collect();
    let rest = Program {
        chain: program.chain.clone(),
        direction: program.direction,
        steps,
        to: program.to,
        packets: program.packets,
        bytes: program.bytes,
        rest_of: Some((of, step)),
    };
    programs.push(rest);
    Some(ProgramId(id))
}

/// Numbers above stand for no program.
const PROGRAMS_MAX: u16 = u16::MAX - 8;
