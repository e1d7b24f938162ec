//! What groups of expressions matched, kept under the names that rules have for them: `pcre:"/(...)/, flow:NAME"`.

use crate::ids::rules::{Capture, CaptureScope};

/// What a group matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its name; two for `pkt:key,pkt:value`, where one group is the other's name.
    pub name: Box<str>,
    /// The bytes, at most 1,024 of them.
    pub value: Box<[u8]>,
    /// What keeps it.
    pub scope: CaptureScope,
}

impl Captured {
    fn of(capture: &Capture, bytes: &[u8]) -> Self {
        let value = bytes.get(..VALUE_MAX).unwrap_or(bytes).into();
        Self { name: capture.name.clone(), value, scope: capture.scope }
    }
}

/// Keeps what the groups of a match are, in the order of `captures`; what an earlier match was under the same names is
/// forgotten.
pub(super) fn keep<'b>(
    all: &mut Vec<Captured>,
    captures: &[Capture],
    groups: impl Iterator<Item = Option<&'b [u8]>>,
) {
    for (capture, group) in captures.iter().zip(groups) {
        if let Some(bytes) = group {
            put(all, Captured::of(capture, bytes));
        }
    }
}

/// Adds one, or replaces the one of the same name; of too many no more are added.
pub(super) fn put(all: &mut Vec<Captured>, captured: Captured) {
    let has_room = all.len() < CAPTURED_MAX;
    let is_same =
        |known: &&mut Captured| (&known.name, known.scope) == (&captured.name, captured.scope);
    match all.iter_mut().find(is_same) {
        Some(known) => *known = captured,
        None if has_room => all.push(captured),
        None => {}
    }
}

/// Bytes that are kept of a group.
const VALUE_MAX: usize = 1024;
/// Groups that are kept of a rule, and with a flow.
const CAPTURED_MAX: usize = 32;
