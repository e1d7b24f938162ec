//! Patterns that are looked for in the same bytes, and the rules that each leads to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::matcher::{Compiler, Matcher, MatcherScratch, Pattern};
use super::sieve::Sieve;

/// Patterns with their rules, while they are gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    rules: BTreeMap<Pattern, Vec<u32>>,
}

impl Gathered {
    /// Adds a rule that is looked up by a pattern.
    pub fn add(&mut self, pattern: Pattern, rule: u32) {
        self.rules.entry(pattern).or_default().push(rule);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Adds those of another.
    pub fn add_all(&mut self, other: &Self) {
        for (pattern, rules) in &other.rules {
            self.rules.entry(pattern.clone()).or_default().extend(rules);
        }
    }

    /// Compiles them.
    pub fn compile(self, compiler: &mut Compiler) -> Patterns {
        let lengths = self.rules.keys().map(Pattern::len);
        let longest = lengths.clone().max().unwrap_or(0);
        let shortest = lengths.min().unwrap_or(0);
        let mut ends = Vec::with_capacity(self.rules.len());
        let mut rules = Vec::new();
        for list in self.rules.values() {
            rules.extend_from_slice(list);
            ends.push(rules.len());
        }
        let patterns: Vec<Pattern> = self.rules.into_keys().collect();
        let sieve = Sieve::of(patterns.iter().map(Pattern::bytes));
        let matcher = (!patterns.is_empty()).then(|| compiler.compile(patterns));
        Patterns { matcher, sieve, ends: ends.into(), rules: rules.into(), longest, shortest }
    }
}

/// Patterns with their rules.
#[derive(Debug)]
pub(super) struct Patterns {
    matcher: Option<Arc<Matcher>>,
    /// What is asked first about many bytes.
    sieve: Option<Sieve>,
    /// Of each pattern, where its rules end in `rules`.
    ends: Box<[usize]>,
    rules: Box<[u32]>,
    longest: usize,
    shortest: usize,
}

impl Patterns {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.matcher.is_none()
    }

    /// How many bytes before fresh ones a pattern that ends in them may begin.
    pub fn reach(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Adds the rules whose pattern is in `bytes`.
    pub fn look(&self, bytes: &[u8], scratch: &mut MatcherScratch, candidates: &mut Candidates) {
        let Some(matcher) = &self.matcher else { return };
        if bytes.len() < self.shortest {
            return;
        }
        if let Some(sieve) = self.sieve.as_ref().filter(|_| bytes.len() >= SIEVED_MIN) {
            if scratch.unsieved == 0 {
                if sieve.sift(bytes, |part| self.look_at(matcher, part, scratch, candidates)) {
                    return;
                }
                scratch.unsieved = UNSIEVED;
            }
            scratch.unsieved -= 1;
        }
        self.look_at(matcher, bytes, scratch, candidates);
    }

    fn look_at(
        &self,
        matcher: &Matcher,
        bytes: &[u8],
        scratch: &mut MatcherScratch,
        candidates: &mut Candidates,
    ) {
        let Some(found) = matcher.look(bytes, scratch) else {
            self.rules.iter().for_each(|rule| candidates.add(*rule));
            return;
        };
        for place in found {
            let Ok(place) = usize::try_from(*place) else { continue };
            let begin = place.checked_sub(1).and_then(|before| self.ends.get(before));
            let end = self.ends.get(place).copied().unwrap_or(0);
            let rules = self.rules.get(begin.copied().unwrap_or(0)..end);
            rules.unwrap_or_default().iter().for_each(|rule| candidates.add(*rule));
        }
    }
}

/// Rules to look at, each once.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    bits: Vec<u64>,
    list: Vec<u32>,
}

impl Candidates {
    /// With room for so many rules.
    pub fn new(rules: usize) -> Self {
        Self { bits: vec![0; rules.div_ceil(64)], list: Vec::new() }
    }

    /// Adds one, unless it is there.
    #[inline]
    pub fn add(&mut self, rule: u32) {
        let Some(word) = self.bits.get_mut(rule as usize / 64) else { return };
        let bit = 1 << (rule % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.list.push(rule);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Moves them, in their order, to the end of `to`.
    pub fn take(&mut self, to: &mut Vec<u32>) {
        if self.list.is_empty() {
            return;
        }
        for rule in &self.list {
            if let Some(word) = self.bits.get_mut(*rule as usize / 64) {
                *word = 0;
            }
        }
        self.list.sort_unstable();
        to.append(&mut self.list);
    }
}

/// Of fewer bytes a look at all of them costs no more than a sieve.
const SIEVED_MIN: usize = 256;
/// Looks for which a sieve that let too much through is not asked.
const UNSIEVED: u32 = 64;

#[cfg(test)]
mod tests {
    use hs::Case;

    use super::super::matcher::Engine;
    use super::*;

    fn looked_up(engine: Engine, bytes: &[u8]) -> Vec<u32> {
        let mut gathered = Gathered::default();
        let cases =
            [(&b"GET"[..], Case::Exact, 7), (b"get", Case::Either, 3), (b"GET", Case::Exact, 1)];
        for (pattern, case, rule) in cases {
            gathered.add(Pattern::new(pattern, case), rule);
        }
        let mut compiler = Compiler::new(engine, None);
        let patterns = gathered.compile(&mut compiler);
        let mut scratch = MatcherScratch::default();
        for matcher in compiler.into_matchers() {
            matcher.fit(&mut scratch);
        }
        let mut candidates = Candidates::new(10);
        patterns.look(bytes, &mut scratch, &mut candidates);
        let mut list = Vec::new();
        candidates.take(&mut list);
        assert!(candidates.is_empty());
        list
    }

    #[test]
    fn a_pattern_leads_to_all_its_rules_in_their_order_and_each_once() {
        for engine in [Engine::Library, Engine::Plain] {
            assert_eq!(looked_up(engine, b"GET GET get"), [1, 3, 7]);
            assert_eq!(looked_up(engine, b"Get"), [3]);
            assert!(looked_up(engine, b"GE").is_empty());
        }
    }

    #[test]
    fn behind_a_sieve_the_same_rules_are_found() {
        let token = |n: u32| format!("{:07x}z{n}", n.wrapping_mul(0x9e37_79b1) >> 4);
        for engine in [Engine::Library, Engine::Plain] {
            let mut gathered = Gathered::default();
            (0..200).for_each(|n| gathered.add(Pattern::new(token(n).as_bytes(), Case::Either), n));
            let mut compiler = Compiler::new(engine, None);
            let patterns = gathered.compile(&mut compiler);
            assert!(patterns.sieve.is_some());
            let (mut scratch, mut candidates) = (MatcherScratch::default(), Candidates::new(200));
            compiler.into_matchers().iter().for_each(|matcher| matcher.fit(&mut scratch));
            // None, a few, and more than are looked at one by one: then, and for a while, all of it is.
            for count in [0, 3, 60, 3, 0] {
                for gap in 290..300 {
                    let part = |n: u32| format!("{}{}", token(n).to_uppercase(), " ".repeat(gap));
                    let bytes =
                        format!("{}{}", ".".repeat(gap), (0..count).map(part).collect::<String>());
                    patterns.look(bytes.as_bytes(), &mut scratch, &mut candidates);
                    let mut list = Vec::new();
                    candidates.take(&mut list);
                    assert_eq!(list, (0..count).collect::<Vec<_>>(), "{count}, {gap}");
                }
            }
        }
    }

    #[test]
    fn a_scratch_that_does_not_fit_makes_all_rules_candidates() {
        if hs::version().is_none() {
            return;
        }
        let mut gathered = Gathered::default();
        gathered.add(Pattern::new(b"abc", Case::Exact), 5);
        let patterns = gathered.compile(&mut Compiler::new(Engine::Library, None));
        let mut candidates = Candidates::new(10);
        // Longer than what is looked at without the library.
        patterns.look(&[b'.'; 500], &mut MatcherScratch::default(), &mut candidates);
        let mut list = Vec::new();
        candidates.take(&mut list);
        assert_eq!(list, [5]);
    }
}
