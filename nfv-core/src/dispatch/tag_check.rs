//! Whether a NIC tags packets as software would: one in so many is looked at.
//!
//! A driver may take a rule and do another thing. A wrong tag would have a packet pass that is to be refused, so the first
//! one that is seen ends the trust in all tags of the port, on the worker that sees it, at once. A tag that is missing only
//! costs time: it is counted by class, and the control side takes back rules that no packet meets.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::class::{PortClasses, Tag};
use super::classify::ClassifyError;
use super::mark::MarkForm;
use super::regions::is_taggable;
use super::twin::Twin;
use crate::dpdk::BURST_MAX;
use crate::packet::Headers;

/// The look at a port's tags. Shared by the workers, and written when one looks.
#[derive(Debug)]
pub struct TagCheck {
    twin: Twin,
    epoch: u8,
    form: MarkForm,
    /// The number of the first class.
    first: u32,
    classes: Box<[Seen]>,
    every: u32,
    is_wrong: AtomicBool,
    /// A packet whose tag was wrong: that tag, and the right one, 0 for none.
    wrong: [AtomicU32; 2],
}

/// Packets of a class that were looked at.
#[derive(Debug, Default)]
struct Seen {
    tagged: AtomicU32,
    untagged: AtomicU32,
}

impl TagCheck {
    /// Of a port's classes, whose tags its NIC writes in that form; one packet in `every` is looked at, 0: none.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(port: &PortClasses, form: MarkForm, every: u32) -> Result<Self, ClassifyError> {
        let first = port.classes.first().map_or(Tag(0), |class| class.tag);
        Ok(Self {
            twin: Twin::build(port)?,
            epoch: first.epoch(),
            form,
            first: first.class(),
            classes: port.classes.iter().map(|_| Seen::default()).collect(),
            every,
            is_wrong: AtomicBool::new(false),
            wrong: [const { AtomicU32::new(0) }; 2],
        })
    }

    /// One packet in so many is looked at; 0: none.
    #[inline]
    pub fn every(&self) -> u32 {
        self.every
    }

    /// Whether no tag was wrong so far.
    #[inline(always)]
    pub fn is_trusted(&self) -> bool {
        !self.is_wrong.load(Ordering::Relaxed)
    }

    /// The first wrong tag that was seen, and the right one; `None`: there was none.
    pub fn wrong(&self) -> Option<(Tag, Option<Tag>)> {
        let [was, is] = self.wrong.each_ref().map(|tag| tag.load(Ordering::Relaxed));
        (!self.is_trusted()).then_some((Tag(was), (is != 0).then_some(Tag(is))))
    }

    /// Of a class, how many packets came with its tag and how many without, of those that were looked at.
    pub fn seen(&self, class: u32) -> (u32, u32) {
        let at = class.checked_sub(self.first).and_then(|at| self.classes.get(at as usize));
        at.map_or((0, 0), |seen| {
            (seen.tagged.load(Ordering::Relaxed), seen.untagged.load(Ordering::Relaxed))
        })
    }

    /// Looks at a packet with that mark. Cost: a classification.
    #[cold]
    pub fn look(&self, mark: Option<u32>, headers: &Headers) {
        // Of an older plan's tag nothing is known here, and nobody goes by it.
        let tag = |mark| Some(Tag::new(self.epoch, self.form.class(mark, self.epoch)?));
        let mark = mark.and_then(tag);
        // What no rule can be about may have any.
        if !is_taggable(headers) {
            return;
        }
        let mut tags = [None; BURST_MAX];
        self.twin.tag(std::slice::from_ref(headers), &mut tags);
        let [right, ..] = tags;
        if let Some(mark) = mark.filter(|mark| Some(*mark) != right) {
            let [was, is] = &self.wrong;
            was.store(mark.0, Ordering::Relaxed);
            is.store(right.map_or(0, |tag| tag.0), Ordering::Relaxed);
            self.is_wrong.store(true, Ordering::Relaxed);
            return;
        }
        let at = right.and_then(|tag| tag.class().checked_sub(self.first));
        let Some(seen) = at.and_then(|at| self.classes.get(at as usize)) else { return };
        let count = if mark.is_some() { &seen.tagged } else { &seen.untagged };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
