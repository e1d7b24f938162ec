//! What is asked of a plan.

use std::sync::PoisonError;

use crate::chain::compile::{Function, FunctionId, Plan, Program, Step};
use crate::chain::spec::FunctionSpec;
use crate::dispatch::{Class, ClassFate, PortTags};
use crate::nf::{Direction, PortIndex, Task};

impl Plan {
    /// Where packets of a port are looked up when they come in.
    #[inline]
    pub(crate) fn entrance(&self, port: PortIndex) -> u16 {
        self.zones.of_port(port).place()
    }

    /// The function of a section's name and type.
    pub(super) fn namesake(&self, spec: &FunctionSpec) -> Option<&Function> {
        let same = |f: &&Function| f.name == spec.name.value && f.kind.name == spec.kind.name;
        self.functions.iter().find(same)
    }

    /// Where the function is that was `id` before a reload.
    pub(crate) fn place_of(&self, id: FunctionId) -> Option<usize> {
        self.functions.iter().position(|f| f.id == id)
    }

    /// The functions that packets of a program meet, in order.
    pub fn functions_of(&self, program: &Program) -> impl Iterator<Item = &Function> {
        let at = |step: &Step| -> Vec<usize> {
            match step {
                Step::Function { at, .. } => vec![*at],
                Step::Piece(piece) => {
                    let functions = self.pieces.get(*piece).map_or(&[][..], |p| &p.functions);
                    let mut all: Vec<usize> = functions.iter().filter_map(|f| f.at).collect();
                    if program.direction == Direction::Reverse {
                        all.reverse();
                    }
                    all
                }
            }
        };
        let all: Vec<usize> = program.steps.iter().flat_map(at).collect();
        all.into_iter().filter_map(|at| self.functions.get(at))
    }

    /// Whether the functions still decide what the classes say: else all packets go the untagged way, and NICs are to be told.
    pub fn are_classes_true(&self) -> bool {
        self.entries.iter().filter_map(|entry| entry.tags.as_ref()).all(PortTags::is_true)
    }

    /// Whether packets of a class may be of flows that are kept: then each belongs to the worker that has its flow.
    pub fn keeps_flows(&self, class: &Class) -> bool {
        let (ClassFate::Enter { program, .. } | ClassFate::Drop { program, .. }) = class.fate;
        let program = self.programs.get(usize::from(program.0));
        program.is_none_or(|p| p.steps.iter().any(|step| matches!(step, Step::Piece(_))))
    }

    /// What functions do beside the workers, with their names; once.
    pub fn tasks(&self) -> Vec<(String, Task)> {
        let take = |f: &Function| {
            let mut task = f.built.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.take().map(|task| (f.name.clone(), task))
        };
        self.functions.iter().filter_map(take).collect()
    }

    /// Opens the functions' logs again.
    pub fn reopen(&self) {
        self.functions.iter().filter_map(|f| f.built.reopen.as_ref()).for_each(|reopen| reopen());
    }

    /// Ends what functions do beside the workers, of which none uses the plan any more: files are written to their end.
    ///
    /// # Errors
    /// What was lost, a sentence for each function that lost something.
    pub fn finish(&self) -> Result<(), String> {
        let all = self.functions.iter().filter_map(|f| f.built.finish.as_ref());
        let lost: Vec<String> = all.filter_map(|finish| finish().err()).collect();
        if lost.is_empty() { Ok(()) } else { Err(lost.join("\n")) }
    }
}
