//! What a rule asks of one buffer, prepared for evaluation.

use hs::Case;

use super::finder::Finder;
use super::matcher::Pattern;
use crate::ids::rules::{
    Base64Decode, Buffer, ByteExtract, ByteJump, ByteMath, ByteTest, Compare, Content, From,
    Inspect, IsDataAt, JumpBase, Pcre, Presence, Rule, Test, Transform, Value,
};

/// All that a rule asks of one buffer.
#[derive(Debug)]
pub(super) struct Program {
    /// Which buffer.
    pub buffer: Buffer,
    /// What is done to its bytes first.
    pub transforms: Box<[Transform]>,
    /// One after another.
    pub steps: Box<[Step]>,
    /// What is asked of what a step of it decodes.
    pub decoded: Option<Box<Program>>,
    /// Whether what held once holds when more bytes follow.
    pub growth: Growth,
    /// Whether a step counts from the buffer's beginning.
    pub is_placed: bool,
    /// Whether a variable makes steps depend on others that they are not relative to.
    pub has_variables: bool,
}

/// What becomes of an answer when the buffer grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Yes stays yes.
    KeepsYes,
    /// It may change: the buffer is to be whole.
    MayChange,
}

/// A test, and what is known of it among the others.
#[derive(Debug)]
pub(super) struct Step {
    /// The test.
    pub test: Prepared,
    /// Whether a later one counts from where it matched: if that one fails, another match of this one may do.
    pub has_dependents: bool,
    /// Whether nothing before it matters to it: when it fails, all fails.
    pub is_independent: bool,
}

/// A test with what speeds it up.
#[derive(Debug)]
pub(super) enum Prepared {
    Content(Sought),
    Pcre(Pcre),
    IsDataAt(IsDataAt),
    ByteTest(ByteTest),
    ByteJump(ByteJump),
    ByteExtract(ByteExtract),
    ByteMath(ByteMath),
    Size(Compare<u64>),
    Base64(Base64Decode),
}

/// A content.
#[derive(Debug)]
pub(super) struct Sought {
    pub finder: Finder,
    pub presence: Presence,
    pub is_relative: bool,
    pub offset: Option<Value>,
    pub depth: Option<Value>,
    pub distance: Option<Value>,
    pub within: Option<Value>,
    pub ends_with: bool,
}

impl Program {
    /// Of all buffers of a rule; what is asked of decoded bytes goes with the first step that decodes.
    pub fn all_of(rule: &Rule) -> Box<[Self]> {
        let of_decoded = rule.inspects.iter().find(|i| i.buffer == Buffer::Base64Data);
        let mut decoded = of_decoded.map(|inspect| Box::new(Self::of(inspect)));
        let others = rule.inspects.iter().filter(|i| i.buffer != Buffer::Base64Data);
        others
            .map(|inspect| {
                let mut program = Self::of(inspect);
                if inspect.tests.iter().any(|test| matches!(test, Test::Base64Decode(_))) {
                    program.decoded = decoded.take();
                }
                program
            })
            .collect()
    }

    fn of(inspect: &Inspect) -> Self {
        let tests = &inspect.tests;
        let steps = tests.iter().enumerate().map(|(place, test)| Step {
            test: prepare(test),
            has_dependents: has_dependents(tests.get(place + 1..).unwrap_or_default()),
            is_independent: !is_relative(test) && !has_variable(test),
        });
        let keeps_yes = inspect.transforms.is_empty() && tests.iter().all(keeps_yes);
        Self {
            buffer: inspect.buffer,
            transforms: inspect.transforms.clone(),
            steps: steps.collect(),
            decoded: None,
            growth: if keeps_yes { Growth::KeepsYes } else { Growth::MayChange },
            is_placed: tests.iter().any(is_placed),
            has_variables: tests.iter().any(has_variable),
        }
    }
}

/// The pattern that a rule is looked up by, and the place of its buffer in [`Rule::inspects`].
pub(super) fn fast_pattern(rule: &Rule) -> Option<(usize, Pattern)> {
    let fast = rule.fast_pattern?;
    let test = rule.inspects.get(fast.inspect)?.tests.get(fast.test)?;
    let Test::Content(content) = test else { return None };
    let from = usize::from(fast.offset);
    let bytes = content.pattern.get(from..from + usize::from(fast.length))?;
    let case = if content.nocase { Case::Either } else { Case::Exact };
    (!bytes.is_empty()).then(|| (fast.inspect, Pattern::new(bytes, case)))
}

fn prepare(test: &Test) -> Prepared {
    match test {
        Test::Content(content) => Prepared::Content(sought(content)),
        Test::Pcre(pcre) => Prepared::Pcre(pcre.clone()),
        Test::IsDataAt(test) => Prepared::IsDataAt(*test),
        Test::ByteTest(test) => Prepared::ByteTest(*test),
        Test::ByteJump(jump) => Prepared::ByteJump(*jump),
        Test::ByteExtract(extract) => Prepared::ByteExtract(*extract),
        Test::ByteMath(math) => Prepared::ByteMath(*math),
        Test::Size(size) => Prepared::Size(*size),
        Test::Base64Decode(decode) => Prepared::Base64(*decode),
    }
}

fn sought(content: &Content) -> Sought {
    let finder = match content.nocase {
        true => Finder::caseless(&content.pattern),
        false => Finder::exact(&content.pattern),
    };
    let length = Value::Number(i64::try_from(content.pattern.len()).unwrap_or(i64::MAX));
    let (offset, depth) = match content.starts_with {
        true => (Some(Value::Number(0)), Some(length)),
        false => (content.offset, content.depth),
    };
    Sought {
        finder,
        presence: content.presence,
        is_relative: content.is_relative(),
        offset,
        depth,
        distance: content.distance,
        within: content.within,
        ends_with: content.ends_with,
    }
}

/// Whether one of these, which follow a match, counts from where it was.
fn has_dependents(rest: &[Test]) -> bool {
    for test in rest {
        if is_relative(test) {
            return true;
        }
        if moves(test) {
            return false;
        }
    }
    false
}

/// Whether it counts from the last match.
fn is_relative(test: &Test) -> bool {
    let from = match test {
        Test::Content(content) => return content.is_relative(),
        Test::Size(_) => return false,
        Test::Pcre(pcre) => pcre.from,
        Test::IsDataAt(test) => test.from,
        Test::ByteTest(test) => test.field.from,
        Test::ByteJump(jump) => jump.field.from,
        Test::ByteExtract(extract) => extract.field.from,
        Test::ByteMath(math) => math.field.from,
        Test::Base64Decode(decode) => decode.from,
    };
    from == From::LastMatch
}

/// Whether later ones count from where it matched.
fn moves(test: &Test) -> bool {
    match test {
        Test::Content(content) => content.presence == Presence::Present,
        Test::Pcre(pcre) => pcre.presence == Presence::Present,
        Test::ByteJump(_) | Test::ByteExtract(_) | Test::ByteMath(_) => true,
        Test::IsDataAt(_) | Test::ByteTest(_) | Test::Size(_) | Test::Base64Decode(_) => false,
    }
}

/// Whether it is about certain places of the buffer.
fn is_placed(test: &Test) -> bool {
    match test {
        Test::Content(content) => content.is_absolute(),
        Test::Pcre(pcre) => pcre.from == From::Start && is_anchored(&pcre.regex.source().pattern),
        Test::Size(_) => true,
        Test::IsDataAt(test) => test.from == From::Start,
        Test::ByteTest(_) | Test::ByteJump(_) | Test::ByteExtract(_) | Test::ByteMath(_) => {
            !is_relative(test)
        }
        Test::Base64Decode(decode) => decode.from == From::Start,
    }
}

/// Whether an expression may ask where its subject begins. One that only looks so is taken for one.
fn is_anchored(pattern: &[u8]) -> bool {
    pattern.contains(&b'^') || pattern.windows(2).any(|pair| pair == b"\\A")
}

/// Whether an expression may ask where its subject ends, or for what is not there.
fn looks_ahead(pattern: &[u8]) -> bool {
    let pairs = [&b"\\z"[..], b"\\Z", b"\\b", b"\\B", b"?!"];
    pattern.contains(&b'$') || pattern.windows(2).any(|pair| pairs.contains(&pair))
}

fn keeps_yes(test: &Test) -> bool {
    match test {
        Test::Content(content) => content.presence == Presence::Present && !content.ends_with,
        Test::Pcre(pcre) => {
            pcre.presence == Presence::Present && !looks_ahead(&pcre.regex.source().pattern)
        }
        Test::IsDataAt(test) => test.presence == Presence::Present,
        Test::ByteJump(jump) => jump.base != JumpBase::End,
        Test::ByteTest(_) | Test::ByteExtract(_) | Test::ByteMath(_) => true,
        Test::Size(_) | Test::Base64Decode(_) => false,
    }
}

fn has_variable(test: &Test) -> bool {
    let is = |value: &Value| matches!(value, Value::Variable(_));
    match test {
        Test::Content(content) => {
            let values = [content.offset, content.depth, content.distance, content.within];
            values.iter().flatten().any(is)
        }
        Test::IsDataAt(test) => is(&test.offset),
        Test::ByteTest(test) => is(&test.value) || is(&test.field.offset) || is(&test.field.length),
        Test::ByteJump(jump) => {
            is(&jump.post_offset) || is(&jump.field.offset) || is(&jump.field.length)
        }
        Test::ByteExtract(extract) => is(&extract.field.offset) || is(&extract.field.length),
        Test::ByteMath(math) => is(&math.value) || is(&math.field.offset) || is(&math.field.length),
        Test::Pcre(_) | Test::Size(_) | Test::Base64Decode(_) => false,
    }
}
