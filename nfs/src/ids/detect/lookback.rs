//! How far behind itself a rule looks in a body once its pattern is found: bytes that nobody looks back at need not be kept.

use crate::ids::rules::{Presence, Rule, Test, Value};

/// How many bytes before the last one of its pattern a rule, which is looked up by one in a body, looks at most. `None`: any number,
/// or the body's beginning, or its end.
pub(super) fn of(rule: &Rule) -> Option<usize> {
    let fast = rule.fast_pattern?;
    let of_bodies = rule.inspects.iter().filter(|inspect| inspect.buffer.is_body());
    let [Test::Content(first), rest @ ..] = &*rule.inspects.get(fast.inspect)?.tests else {
        return None;
    };
    let is_plain = first.presence == Presence::Present
        && first.distance.is_none_or(|distance| distance == Value::Number(0))
        && first.within.is_none()
        && !first.is_absolute()
        && !first.ends_with;
    let is_only = fast.test == 0 && of_bodies.count() == 1;
    (is_plain && is_only && rest.iter().all(looks_on)).then_some(first.pattern.len())
}

/// Whether a test is of what is behind the last match.
fn looks_on(test: &Test) -> bool {
    let Test::Content(content) = test else { return false };
    let is_forward = |distance: Value| matches!(distance, Value::Number(0..));
    content.is_relative()
        && !content.is_absolute()
        && !content.ends_with
        && content.distance.is_none_or(is_forward)
}
