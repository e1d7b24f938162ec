//! The content that a rule is looked up by, chosen as Suricata does.
//!
//! The one that the rule names; else, of those in the buffers of the best priority, the longest, and of several as long
//! the one of the rarest bytes. A negated content is never chosen: that it is absent is nothing to look up.

use super::inspect::{Content, FastPatternWish, Inspect, Presence, Test};
use super::rule::FastPattern;
use crate::ids::buffer::{Buffer, BufferInfo};

/// Chooses among all contents of a rule.
pub(super) fn choose(inspects: &[Inspect]) -> Option<FastPattern> {
    let mut best: Option<(Rank, FastPattern)> = None;
    for (index, inspect) in inspects.iter().enumerate() {
        if inspect.buffer == Buffer::Base64Data {
            continue;
        }
        for (test, content) in contents(inspect) {
            if content.presence == Presence::Absent {
                continue;
            }
            let rank = Rank::of(inspect.buffer.info(), content);
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                let whole = (0, u16::try_from(content.pattern.len()).unwrap_or(u16::MAX));
                let (offset, length) = match content.fast {
                    FastPatternWish::Part { offset, length } => (offset, length),
                    _ => whole,
                };
                best = Some((rank, FastPattern { inspect: index, test, offset, length }));
            }
        }
    }
    best.map(|(_, pattern)| pattern)
}

/// Of two contents the greater one is chosen, of two that are equal the first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    named: bool,
    priority: std::cmp::Reverse<u8>,
    length: usize,
    strength: u32,
}

impl Rank {
    fn of(buffer: &BufferInfo, content: &Content) -> Self {
        Self {
            named: content.fast != FastPatternWish::None,
            priority: std::cmp::Reverse(buffer.priority),
            length: content.pattern.len(),
            strength: strength(&content.pattern),
        }
    }
}

fn contents(inspect: &Inspect) -> impl Iterator<Item = (usize, &Content)> {
    inspect.tests.iter().enumerate().filter_map(|(index, test)| match test {
        Test::Content(content) => Some((index, content)),
        _ => None,
    })
}

/// How rare bytes are: those that texts are made of count less, and one that was there before least.
fn strength(pattern: &[u8]) -> u32 {
    let mut seen = [false; 256];
    let one = |byte: &u8| {
        if std::mem::replace(&mut seen[usize::from(*byte)], true) {
            return 1;
        }
        match byte {
            byte if byte.is_ascii_alphabetic() => 3,
            b' '..=b'~' | 0 | 1 | 0xff => 4,
            _ => 6,
        }
    };
    pattern.iter().map(one).sum()
}
