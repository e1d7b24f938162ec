//! Evaluates what a rule asks of one buffer.
//!
//! Tests hold one after another, each relative one behind the end of the last match. When one fails, the last match that others
//! count from is looked for once more behind the beginning of where it was, until there is none: so the *combination* is found
//! wherever it is. A step that counts from nothing decides alone. Steps and bytes are counted, and an evaluation that takes too
//! many comes to "no": what it costs has a bound, whatever the rule and the bytes.
//!
//! Source: how Suricata's content inspection behaves (it gives up after 3,000 steps, too). Differs: `endswith` negated asks for
//! the end of the buffer alone; a step whose place is a variable is tried again with other values of it.

use super::base64;
use super::number::Standing;
use super::program::{Growth, Prepared, Program, Sought, Step};
use crate::ids::rules::{Found, From, IsDataAt, Pcre, Presence, Scratch, Transformed};

/// A buffer, or what there is of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// How many bytes of it were before those and are gone.
    pub start: u64,
    /// Whether more may follow.
    pub extent: Extent,
}

/// Whether a buffer is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// It is.
    Whole,
    /// More may follow: what that could change is not answered yet.
    Growing,
}

impl<'b> View<'b> {
    /// Of a buffer that is whole.
    pub fn whole(bytes: &'b [u8]) -> Self {
        Self { bytes, start: 0, extent: Extent::Whole }
    }
}

/// What one worker needs to evaluate.
#[derive(Debug)]
pub(super) struct Engine {
    stack: Vec<Choice>,
    variables: Box<[u64; VARIABLES]>,
    expressions: Scratch,
    decoded: Vec<u8>,
    transformed: [Vec<u8>; 2],
    /// Evaluations that took too long to say.
    pub given_up: u64,
}

/// A match that others count from, and where the next one is looked for.
#[derive(Clone, Copy, Debug)]
struct Choice {
    step: usize,
    /// Where the last match before it ended.
    base: usize,
    /// The next one begins here or behind.
    from: usize,
}

/// What an evaluation may still take.
#[derive(Clone, Copy, Debug)]
struct Fuel {
    steps: u32,
    bytes: usize,
}

/// What a step comes to.
enum Answer {
    Yes,
    No,
}

impl Engine {
    /// `expressions`: bytes for the caches of regular expressions.
    pub fn new(expressions: usize) -> Self {
        Self {
            stack: Vec::new(),
            variables: Box::new([0; VARIABLES]),
            expressions: Scratch::new(expressions),
            decoded: Vec::new(),
            transformed: Default::default(),
            given_up: 0,
        }
    }

    /// Forgets what another rule extracted.
    pub fn begin_rule(&mut self, variables: u8) {
        if let Some(used) = self.variables.get_mut(..usize::from(variables)) {
            used.fill(0);
        }
    }

    /// Whether all that a program asks of a buffer holds.
    ///
    /// # Cost
    /// Of contents nanoseconds and 0.1 ns a byte; at most what [`STEPS_MAX`] and [`BYTES_MAX`] allow.
    pub fn holds(&mut self, program: &Program, view: View<'_>) -> bool {
        if view.extent == Extent::Growing && program.growth == Growth::MayChange {
            return false;
        }
        let mut fuel = Fuel { steps: STEPS_MAX, bytes: BYTES_MAX };
        if program.transforms.is_empty() {
            return self.run(program, view, &mut fuel);
        }
        let mut transformed = std::mem::take(&mut self.transformed);
        let holds = match transform(program, view.bytes, &mut transformed, &mut self.expressions) {
            Some(bytes) => self.run(program, View { bytes, ..view }, &mut fuel),
            None => false,
        };
        self.transformed = transformed;
        holds
    }

    /// Shows the bytes that a program's transforms make of others.
    pub fn transformed<R>(
        &mut self,
        program: &Program,
        bytes: &[u8],
        show: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        if program.transforms.is_empty() {
            return Some(show(bytes));
        }
        let Self { transformed, expressions, .. } = self;
        transform(program, bytes, transformed, expressions).map(show)
    }

    fn run(&mut self, program: &Program, view: View<'_>, fuel: &mut Fuel) -> bool {
        let floor = self.stack.len();
        let answer = self.search(program, view, fuel);
        self.stack.truncate(floor);
        matches!(answer, Answer::Yes)
    }

    fn search(&mut self, program: &Program, view: View<'_>, fuel: &mut Fuel) -> Answer {
        let floor = self.stack.len();
        let (mut at, mut position, mut again) = (0, 0, None);
        loop {
            let Some(step) = program.steps.get(at) else { return Answer::Yes };
            if fuel.steps == 0 || fuel.bytes == 0 {
                self.given_up += 1;
                return Answer::No;
            }
            fuel.steps -= 1;
            let is_first = again.is_none();
            let stand = Stand { at, position, again: again.take() };
            match self.step(program, step, stand, view, fuel) {
                Some(end) => {
                    position = end;
                    at += 1;
                    continue;
                }
                None if step.is_independent && is_first && !program.has_variables => {
                    return Answer::No;
                }
                None => {}
            }
            // The last match that others count from, once more.
            if self.stack.len() <= floor {
                return Answer::No;
            }
            let Some(choice) = self.stack.pop() else { return Answer::No };
            (at, position, again) = (choice.step, choice.base, Some(choice.from));
        }
    }

    /// The position behind a step that holds.
    fn step(
        &mut self,
        program: &Program,
        step: &Step,
        stand: Stand,
        view: View<'_>,
        fuel: &mut Fuel,
    ) -> Option<usize> {
        let bytes = view.bytes;
        let standing = Standing { bytes, position: stand.position, variables: &self.variables[..] };
        let keep = stand.position;
        match &step.test {
            Prepared::Content(content) => {
                let found = content.find(&standing, view.start, stand.again, fuel);
                match (content.presence, found) {
                    (Presence::Present, Place::At(place)) => {
                        if step.has_dependents && !content.ends_with {
                            self.choose(stand, place + 1);
                        }
                        Some(place + content.finder.len())
                    }
                    (Presence::Absent, Place::Nowhere) => Some(keep),
                    (Presence::Present, Place::Nowhere)
                    | (Presence::Absent, Place::At(_))
                    | (_, Place::Gone) => None,
                }
            }
            Prepared::Pcre(pcre) => self.expression(pcre, step, stand, view, fuel),
            Prepared::IsDataAt(test) => is_data_at(test, &standing).then_some(keep),
            Prepared::ByteTest(test) => standing.byte_test(test).then_some(keep),
            Prepared::ByteJump(jump) => standing.byte_jump(jump),
            Prepared::ByteExtract(extract) => {
                let (value, end) = standing.byte_extract(extract)?;
                self.extract(extract.variable, value);
                Some(end)
            }
            Prepared::ByteMath(math) => {
                let (value, end) = standing.byte_math(math)?;
                self.extract(math.variable, value);
                Some(end)
            }
            Prepared::Size(size) => {
                let size_of = view.start.saturating_add(bytes.len() as u64);
                size.matches(&size_of).then_some(keep)
            }
            Prepared::Base64(decode) => {
                let base = if decode.from == From::LastMatch { keep } else { 0 };
                let from = base.checked_add(usize::try_from(decode.offset).ok()?)?;
                let encoded = bytes.get(from..)?;
                let most = decode.bytes.and_then(|n| usize::try_from(n).ok());
                let encoded = encoded.get(..most.unwrap_or(usize::MAX).min(encoded.len()))?;
                let mut decoded = std::mem::take(&mut self.decoded);
                base64::decode(encoded, &mut decoded);
                let holds = !decoded.is_empty()
                    && program
                        .decoded
                        .as_ref()
                        .is_none_or(|program| self.run(program, View::whole(&decoded), fuel));
                self.decoded = decoded;
                holds.then_some(keep)
            }
        }
    }

    fn expression(
        &mut self,
        pcre: &Pcre,
        step: &Step,
        stand: Stand,
        view: View<'_>,
        fuel: &mut Fuel,
    ) -> Option<usize> {
        let hidden = if pcre.from == From::LastMatch { stand.position } else { 0 };
        let subject = view.bytes.get(hidden..)?;
        let from = stand.again.unwrap_or(0);
        fuel.bytes = fuel.bytes.saturating_sub(subject.len().saturating_sub(from));
        let found = pcre.regex.find(subject, from, &mut self.expressions);
        match (pcre.presence, found) {
            (Presence::Present, Found::At(range)) => {
                if step.has_dependents {
                    self.choose(stand, range.start + 1);
                }
                Some(hidden + range.end)
            }
            (Presence::Absent, Found::Nothing) => Some(stand.position),
            (_, Found::GaveUp) => {
                self.given_up += 1;
                None
            }
            _ => None,
        }
    }

    fn choose(&mut self, stand: Stand, from: usize) {
        self.stack.push(Choice { step: stand.at, base: stand.position, from });
    }

    fn extract(&mut self, variable: u8, value: u64) {
        if let Some(place) = self.variables.get_mut(usize::from(variable)) {
            *place = value;
        }
    }
}

/// Where an evaluation stands.
#[derive(Clone, Copy)]
struct Stand {
    /// The step.
    at: usize,
    /// The end of the last match.
    position: usize,
    /// The step matched before: the next match begins here or behind.
    again: Option<usize>,
}

/// Where a content is.
enum Place {
    At(usize),
    Nowhere,
    /// Where it would be is no more there, so nothing can be said.
    Gone,
}

impl Sought {
    fn find(
        &self,
        standing: &Standing<'_>,
        start: u64,
        again: Option<usize>,
        fuel: &mut Fuel,
    ) -> Place {
        let length = standing.bytes.len();
        let Some((low, high)) = self.bounds(standing, start) else { return Place::Gone };
        let low = again.unwrap_or(low);
        if low > high || high == 0 {
            return Place::Nowhere;
        }
        if self.ends_with {
            let place = length.checked_sub(self.finder.len());
            let place = place.filter(|place| *place >= low && high == length);
            return match place {
                Some(place) if self.finder.is_at(standing.bytes, place) => Place::At(place),
                _ => Place::Nowhere,
            };
        }
        match self.finder.find(standing.bytes, low..high) {
            Some(place) => {
                fuel.bytes = fuel.bytes.saturating_sub(place - low + self.finder.len());
                Place::At(place)
            }
            None => {
                fuel.bytes = fuel.bytes.saturating_sub(high - low);
                Place::Nowhere
            }
        }
    }

    /// From where to where it may be; `None`: that is before what is there.
    fn bounds(&self, standing: &Standing<'_>, start: u64) -> Option<(usize, usize)> {
        let length = i64::try_from(standing.bytes.len()).unwrap_or(i64::MAX);
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        let value = |value: Option<_>| value.map(|value| standing.value(value));
        let offset = value(self.offset);
        let (low, high) = if self.is_relative {
            let base = i64::try_from(standing.position).unwrap_or(i64::MAX);
            let distance = value(self.distance).unwrap_or(0);
            let mut low = base.saturating_add(distance).max(0);
            let mut high = length;
            if let Some(within) = value(self.within) {
                high = high.min(base.saturating_add(within).saturating_add(distance));
                if start != 0 && base == 0 {
                    high = gone_before(high, start)?;
                }
            }
            if let Some(depth) = value(self.depth) {
                high = high.min(base.saturating_add(depth));
            }
            low = low.max(offset.unwrap_or(0));
            (low, high)
        } else {
            let offset = offset.unwrap_or(0);
            let high = match value(self.depth) {
                Some(depth) => gone_before(offset.saturating_add(depth), start)?,
                None => length,
            };
            (offset.saturating_sub(start), high)
        };
        let size = |n: i64| usize::try_from(n.clamp(0, length)).unwrap_or(0);
        // Beyond the end is no place, not even for nothing.
        let low = if low > length { standing.bytes.len().saturating_add(1) } else { size(low) };
        Some((low, size(high)))
    }
}

/// An end, counted from what is there; `None`: it is before that.
fn gone_before(end: i64, start: i64) -> Option<i64> {
    match end > start || start == 0 {
        true => Some(end.saturating_sub(start)),
        false => None,
    }
}

fn is_data_at(test: &IsDataAt, standing: &Standing<'_>) -> bool {
    let offset = standing.value(test.offset);
    let length = i64::try_from(standing.bytes.len()).unwrap_or(i64::MAX);
    let is_there = match test.from {
        From::Start => offset < length,
        From::LastMatch => {
            let base = i64::try_from(standing.position).unwrap_or(i64::MAX);
            base.saturating_add(offset) <= length
        }
    };
    is_there == (test.presence == Presence::Present)
}

/// What transforms make of bytes; `None`: nothing.
fn transform<'t>(
    program: &Program,
    bytes: &[u8],
    [into, from]: &'t mut [Vec<u8>; 2],
    expressions: &mut Scratch,
) -> Option<&'t [u8]> {
    let mut is_first = true;
    for transform in &program.transforms {
        std::mem::swap(into, from);
        let input = if is_first { bytes } else { from.as_slice() };
        if transform.apply(input, into, expressions) == Transformed::Failed {
            return None;
        }
        is_first = false;
    }
    Some(into)
}

/// Most variables of a rule.
const VARIABLES: usize = 256;

/// Most steps of an evaluation: Suricata's default.
pub(super) const STEPS_MAX: u32 = 3_000;

/// Most bytes that an evaluation looks at, each as often as it does.
const BYTES_MAX: usize = 4 << 20;
