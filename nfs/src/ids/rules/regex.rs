//! Regular expressions of rules: PCRE's language on bytes, in time that hostile input cannot stretch.
//!
//! Two engines. `regex-automata` looks at each byte a bounded number of times, whatever the expression and the bytes; it
//! takes all that a finite automaton can do, which is nearly all that rules write. Look-around, back references, atomic
//! groups and possessive repetitions go to `fancy-regex`, which backtracks, and gives up after [`STEPS_MAX`] steps: that is
//! no match, and [`Found::GaveUp`] for whoever counts. The one rejected is PCRE2 itself: it backtracks for every
//! expression, and its limit is all that stands between a crafted packet and a core. An expression that neither of the two
//! can express, or that takes more than [`SIZE_MAX`] bytes, is not compiled, and its rule is skipped.
//!
//! `fancy-regex` knows text and no bytes; so for its expressions each byte becomes the character of the same number, and
//! places are counted back. It folds the case of `\xe9` and `\xc9` then, which PCRE does not.
//!
//! An automaton is built while it is used, in a cache. Caches are not the expressions' own, of which there are thousands,
//! but lie in a [`Scratch`] of a worker, which has a budget.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::translate::{Dialect, Refused, translate};

/// A compiled expression.
#[derive(Debug)]
pub struct Regex {
    source: Source,
    engine: Engine,
    /// Different for each that was ever compiled.
    id: u64,
    /// Names of groups, with their numbers.
    names: Vec<(Box<str>, usize)>,
}

/// What an expression is compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// In PCRE's language.
    pub pattern: Box<[u8]>,
    /// Behind it.
    pub flags: Flags,
}

/// The flags of an expression that change what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `i`
    pub ignore_case: bool,
    /// `m`
    pub multi_line: bool,
    /// `s`
    pub dot_all: bool,
    /// `x`
    pub extended: bool,
    /// `A`
    pub anchored: bool,
    /// `E`
    pub dollar_end_only: bool,
    /// `G`
    pub ungreedy: bool,
}

/// What a search comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The first match: where it is.
    At(Range<usize>),
    /// There is none.
    Nothing,
    /// It took too long to say; to be taken as none, and counted.
    GaveUp,
}

/// Why an expression is not compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCompiled {
    /// PCRE would refuse it: at this byte, for this reason.
    Wrong(usize, String),
    /// PCRE would take it, and the two engines do not.
    Beyond(String),
}

/// What searches need besides the expression; one a worker.
#[derive(Debug)]
pub struct Scratch {
    /// By an expression's number; the one there is replaced.
    caches: Box<[Option<(u64, meta::Cache)>]>,
    latin: String,
}

#[derive(Debug)]
enum Engine {
    Automaton(Box<meta::Regex>),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Regex {
    /// Compiles an expression. Some 10 to 1,000 us.
    ///
    /// # Errors
    /// [`NotCompiled`].
    pub fn new(source: Source) -> Result<Self, NotCompiled> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if source.pattern.len() > PATTERN_MAX {
            return Err(NotCompiled::Beyond(format!("it is longer than {PATTERN_MAX} bytes")));
        }
        let linear = translate(&source.pattern, source.flags, Dialect::Automaton);
        let (engine, names) = match linear {
            Ok(translated) => (automaton(&translated.text)?, translated.names),
            Err(Refused::Wrong(at, why)) => return Err(NotCompiled::Wrong(at, why)),
            Err(Refused::Beyond(why)) => return Err(NotCompiled::Beyond(why)),
            Err(Refused::NotRegular) => {
                let translated = translate(&source.pattern, source.flags, Dialect::Backtracking);
                match translated {
                    Ok(translated) => (backtracking(&translated.text)?, translated.names),
                    Err(Refused::Wrong(at, why)) => return Err(NotCompiled::Wrong(at, why)),
                    Err(Refused::Beyond(why)) => return Err(NotCompiled::Beyond(why)),
                    Err(Refused::NotRegular) => {
                        return Err(NotCompiled::Beyond("it is not regular".to_owned()));
                    }
                }
            }
        };
        Ok(Self { source, engine, names, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// What it was compiled from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The names of its groups, with the groups' numbers.
    pub fn names(&self) -> &[(Box<str>, usize)] {
        &self.names
    }

    /// How many groups it has that capture.
    pub fn groups_len(&self) -> usize {
        let all = match &self.engine {
            Engine::Automaton(regex) => {
                regex.group_info().group_len(regex_automata::PatternID::ZERO)
            }
            Engine::Backtracking(regex) => regex.captures_len(),
        };
        // The whole match is one.
        all.saturating_sub(1)
    }

    /// Whether the time of a search has no bound but [`STEPS_MAX`].
    pub fn backtracks(&self) -> bool {
        matches!(self.engine, Engine::Backtracking(_))
    }

    /// The first match that begins at `from` or behind it. `^` is the beginning of `bytes`, not `from`.
    ///
    /// # Cost
    /// Nanoseconds a byte; of one that backtracks up to [`STEPS_MAX`] steps, and a copy of `bytes`.
    pub fn find(&self, bytes: &[u8], from: usize, scratch: &mut Scratch) -> Found {
        if from > bytes.len() {
            return Found::Nothing;
        }
        match &self.engine {
            Engine::Automaton(regex) => {
                let input = Input::new(bytes).range(from..).anchored(Anchored::No);
                let cache = scratch.cache(self.id, regex);
                match regex.search_with(cache, &input) {
                    Some(found) => Found::At(found.range()),
                    None => Found::Nothing,
                }
            }
            Engine::Backtracking(regex) => {
                let from = scratch.copy(bytes, from);
                match regex.find_from_pos(scratch.latin.as_str(), from) {
                    Ok(Some(found)) => {
                        Found::At(scratch.place(found.start())..scratch.place(found.end()))
                    }
                    Ok(None) => Found::Nothing,
                    Err(_) => Found::GaveUp,
                }
            }
        }
    }

    /// Where the groups of the first match are: 0 is the whole match. `None`: there is no match, or it gave up.
    pub fn groups(
        &self,
        bytes: &[u8],
        from: usize,
        scratch: &mut Scratch,
    ) -> Option<Vec<Option<Range<usize>>>> {
        if from > bytes.len() {
            return None;
        }
        match &self.engine {
            Engine::Automaton(regex) => {
                let mut captures: Captures = regex.create_captures();
                let input = Input::new(bytes).range(from..);
                regex.search_captures_with(scratch.cache(self.id, regex), &input, &mut captures);
                if !captures.is_match() {
                    return None;
                }
                Some(captures.iter().map(|group| group.map(|span| span.range())).collect())
            }
            Engine::Backtracking(regex) => {
                let from = scratch.copy(bytes, from);
                let found = regex.captures_from_pos(scratch.latin.as_str(), from).ok()??;
                let place = |at| scratch.place(at);
                let groups = found.iter().map(|g| g.map(|g| place(g.start())..place(g.end())));
                Some(groups.collect())
            }
        }
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl Scratch {
    /// With room for caches of about `budget` bytes in all, and for the longest buffer twice.
    pub fn new(budget: usize) -> Self {
        let caches = (budget / CACHE_BYTES).max(1);
        Self { caches: (0..caches).map(|_| None).collect(), latin: String::new() }
    }

    fn cache(&mut self, id: u64, regex: &meta::Regex) -> &mut meta::Cache {
        let place = usize::try_from(id).unwrap_or(0) % self.caches.len();
        // `new` makes at least one.
        let cached = &mut self.caches[place];
        if cached.as_ref().is_none_or(|(owner, _)| *owner != id) {
            *cached = None;
        }
        &mut cached.get_or_insert_with(|| (id, regex.create_cache())).1
    }

    /// Makes characters of bytes; returns where the character of the byte at `from` begins.
    fn copy(&mut self, bytes: &[u8], from: usize) -> usize {
        let (before, behind) = bytes.split_at(from.min(bytes.len()));
        self.latin.clear();
        self.latin.extend(before.iter().map(|b| char::from(*b)));
        let start = self.latin.len();
        self.latin.extend(behind.iter().map(|b| char::from(*b)));
        start
    }

    /// The number of the byte whose character begins at `at`.
    fn place(&self, at: usize) -> usize {
        self.latin.get(..at).map_or(0, |before| before.chars().count())
    }
}

fn automaton(text: &str) -> Result<Engine, NotCompiled> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(SIZE_MAX))
        .hybrid_cache_capacity(CACHE_BYTES / 4)
        .utf8_empty(false)
        .onepass(false);
    let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(NESTING_MAX);
    match meta::Builder::new().configure(config).syntax(syntax).build(text) {
        Ok(regex) => Ok(Engine::Automaton(Box::new(regex))),
        Err(error) => {
            let why = match (error.size_limit(), error.syntax_error()) {
                (Some(_), _) => format!("it takes more than {SIZE_MAX} bytes"),
                (_, Some(_)) => "its syntax is not known".to_owned(),
                _ => error.to_string(),
            };
            Err(NotCompiled::Beyond(why))
        }
    }
}

fn backtracking(text: &str) -> Result<Engine, NotCompiled> {
    let built = fancy_regex::RegexBuilder::new(text)
        .backtrack_limit(STEPS_MAX)
        .delegate_size_limit(SIZE_MAX)
        .delegate_dfa_size_limit(CACHE_BYTES / 4)
        .build();
    match built {
        Ok(regex) => Ok(Engine::Backtracking(Box::new(regex))),
        Err(error) => Err(NotCompiled::Beyond(error.to_string())),
    }
}

/// Longest expression.
const PATTERN_MAX: usize = 8192;

/// Most bytes of a compiled expression.
pub const SIZE_MAX: usize = 1 << 20;

/// Most steps of one that backtracks, some 50 ns each. Each byte at which no match begins is one, so this is more than a
/// long body has bytes.
pub const STEPS_MAX: usize = 300_000;

/// About what the cache of an expression takes at most.
const CACHE_BYTES: usize = 256 << 10;

/// Deepest nesting of groups.
const NESTING_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str, flags: Flags) -> Regex {
        Regex::new(Source { pattern: pattern.as_bytes().into(), flags })
            .unwrap_or_else(|e| panic!("{pattern}: {e:?}"))
    }

    fn found(pattern: &str, bytes: &[u8]) -> Option<Range<usize>> {
        let regex = regex(pattern, Flags::default());
        match regex.find(bytes, 0, &mut Scratch::new(1 << 20)) {
            Found::At(at) => Some(at),
            Found::Nothing => None,
            Found::GaveUp => panic!("{pattern} gave up"),
        }
    }

    /// An expression, bytes, and where in them it matches.
    type Case = (&'static str, &'static [u8], Option<Range<usize>>);

    #[test]
    fn expressions_mean_what_they_mean_to_pcre() {
        let cases: [Case; 50] = [
            (r"^\x7c\xe0\x3a", b"\x7c\xe0\x3a", Some(0..3)),
            (r"\/[0-9]{2,8}\.functions", b"/1234.functions", Some(0..15)),
            (r"^(?:[a-z0-9]{64})\x0d\x0a", b"x", None),
            (r"a$", b"a\n", Some(0..2)),
            (r"a$", b"a\nb", None),
            (r"(?m)a$", b"a\nb", Some(0..1)),
            (r"(?m)^b", b"a\nb", Some(2..3)),
            (r"^b", b"a\nb", None),
            (r"a.b", b"a\nb", None),
            (r"(?s)a.b", b"a\nb", Some(0..3)),
            (r"a.b", b"a\xffb", Some(0..3)),
            (r"(?i)ABC", b"xabc", Some(1..4)),
            (r"a(?i)B(?-i)c", b"abc", Some(0..3)),
            (r"a(?i:B)C", b"abc", None),
            (r"[\w.-]+", b"a-.b", Some(0..4)),
            (r"[a-c-e]+", b"b-ed", Some(0..3)),
            (r"[]a]+", b"]a", Some(0..2)),
            (r"[^]a]+", b"]b", Some(1..2)),
            (r"[[&&]+", b"[&", Some(0..2)),
            (r"[[:alpha:]_]+", b"1a_", Some(1..3)),
            (r"[^[:^digit:]]+", b"a12", Some(1..3)),
            (r"[\x80-\xff]+", b"a\xff\xfe", Some(1..3)),
            (r"(?i)[^a]", b"A", None),
            (r"a{,3}", b"a{,3}", Some(0..5)),
            (r"{a}", b"{a}", Some(0..3)),
            (r"a{2}", b"aaa", Some(0..2)),
            (r"\<a\>", b"<a>", Some(0..3)),
            (r"\Q.*\E+", b"..**", Some(1..4)),
            (r"\012\0\x1", b"\n\0\x01", Some(0..3)),
            (r"\cA\e\a\t\f", b"\x01\x1b\x07\t\x0c", Some(0..5)),
            (r"\h+\v", b"\t \xa0\x0b", Some(0..4)),
            (r"a\Rb", b"a\r\nb", Some(0..4)),
            (
                r"(?x) a b # comment ( [
                c",
                b"abc",
                Some(0..3),
            ),
            (r"a(?#comment)b", b"ab", Some(0..2)),
            (r"(?U)a+", b"aaa", Some(0..1)),
            (r"a|", b"b", Some(0..0)),
            (r"(a)(b)\2\1", b"abba", Some(0..4)),
            (r"(?P<q>['x]).(?P=q)", b"'a'", Some(0..3)),
            (r"(?<q>a)\k<q>\g{-1}\g1", b"aaaa", Some(0..4)),
            (r"(?<!x)a(?=\xff)", b"xaya\xff", Some(3..4)),
            (r"(?<=\xff[\x00\x01])a", b"\xff\x00a", Some(2..3)),
            (r"(?!ab)a[\x80-\xff]", b"ab a\xe9", Some(3..5)),
            (r"(?>a+)b", b"aab", Some(0..3)),
            (r"a++b", b"aab", Some(0..3)),
            (r"a*+a", b"aaa", None),
            (r"(?=.)a\b", b"a\xe9", Some(0..1)),
            (r"(?=a)a$", b"a\n", Some(0..1)),
            (r"\bfoo\B", b"a food", Some(2..5)),
            (r"[\b]", b"a\x08", Some(1..2)),
            (r"\;\:\,\-\_\=\!\@\#\%\&\~\`\'", b";:,-_=!@#%&~`'", Some(0..14)),
        ];
        for (pattern, bytes, expected) in cases {
            assert_eq!(found(pattern, bytes), expected, "{pattern} on {bytes:?}");
        }
    }

    #[test]
    fn a_search_goes_on_from_where_it_is_told_and_its_beginning_stays() {
        let mut scratch = Scratch::new(0);
        for pattern in ["a", "(?=a)a"] {
            let regex = regex(pattern, Flags::default());
            assert_eq!(regex.find(b"\xffaa", 2, &mut scratch), Found::At(2..3), "{pattern}");
            assert_eq!(regex.find(b"\xffaa", 4, &mut scratch), Found::Nothing);
        }
        let start = regex("^a", Flags::default());
        assert_eq!(start.find(b"aa", 1, &mut scratch), Found::Nothing);
    }

    #[test]
    fn groups_are_told_by_their_numbers() {
        let mut scratch = Scratch::new(0);
        for pattern in [r"x(\xff)(b)?(c)", r"x(?=.)(\xff)(b)?(c)"] {
            let groups = regex(pattern, Flags::default()).groups(b"\xfex\xffc", 0, &mut scratch);
            assert_eq!(groups, Some(vec![Some(1..4), Some(2..3), None, Some(3..4)]), "{pattern}");
            assert_eq!(regex(pattern, Flags::default()).groups_len(), 3);
        }
    }

    #[test]
    fn a_match_far_into_a_buffer_is_found_whatever_finds_it() {
        let mut bytes = vec![b'a'; 60_000];
        bytes.extend_from_slice(b"xy");
        let mut scratch = Scratch::new(0);
        for pattern in ["xy", "x(?=y)", "(?<=a)xy", r"(x)(?!\1)y", "(?i)[^b]X(?=Y)"] {
            let begin = std::time::Instant::now();
            let found = regex(pattern, Flags::default()).find(&bytes, 0, &mut scratch);
            assert!(matches!(found, Found::At(_)), "{pattern}: {found:?}");
            println!("{pattern}: {:?}", begin.elapsed());
        }
    }

    #[test]
    fn flags_behind_an_expression_are_as_those_within() {
        let flags = Flags::default();
        let cases = [
            (Flags { ignore_case: true, ..flags }, "A", &b"a"[..], Found::At(0..1)),
            (Flags { dot_all: true, ..flags }, "a.", b"a\n", Found::At(0..2)),
            (Flags { multi_line: true, ..flags }, "^b", b"a\nb", Found::At(2..3)),
            (Flags { extended: true, ..flags }, "a b", b"ab", Found::At(0..2)),
            (Flags { anchored: true, ..flags }, "b|c", b"abc", Found::Nothing),
            (Flags { dollar_end_only: true, ..flags }, "a$", b"a\n", Found::Nothing),
            (Flags { ungreedy: true, ..flags }, "a+", b"aa", Found::At(0..1)),
        ];
        for (flags, pattern, bytes, expected) in cases {
            let found = regex(pattern, flags).find(bytes, 0, &mut Scratch::new(0));
            assert_eq!(found, expected, "{pattern} {flags:?}");
            assert_ne!(
                regex(pattern, Flags::default()).find(bytes, 0, &mut Scratch::new(0)),
                expected
            );
        }
    }

    #[test]
    fn what_pcre_refuses_is_wrong_and_what_we_cannot_is_beyond() {
        let of = |pattern: &str| {
            Regex::new(Source { pattern: pattern.as_bytes().into(), flags: Flags::default() })
                .map(drop)
                .map_err(|e| matches!(e, NotCompiled::Wrong(..)))
        };
        for pattern in [
            "(a", "a)", "[a", "\\", "[b-a]", "\\x{100}", "(?<a", "\\2", "(?y)", "[\\d-a]",
            "[a-\\d]", "\\I",
        ] {
            assert_eq!(of(pattern), Err(true), "{pattern}");
        }
        let nested = format!("{}a{}", "(".repeat(3000), ")".repeat(3000));
        for pattern in [
            "(?R)",
            "(?(1)a|b)",
            "(?|a)",
            "(*ACCEPT)",
            "\\p{Lu}",
            "(?:(?:a{1000}){1000}){1000}",
            &nested,
        ] {
            assert_eq!(of(pattern), Err(false), "{pattern}");
        }
    }

    #[test]
    fn a_crafted_text_takes_no_more_than_its_share_of_time() {
        let text = "a".repeat(65_535);
        let mut scratch = Scratch::new(0);
        let begin = std::time::Instant::now();
        let linear = regex("(?:a*)*b|(?:a|aa)+c|(?:.*){20}d", Flags::default());
        assert_eq!(linear.find(text.as_bytes(), 0, &mut scratch), Found::Nothing);
        let stubborn = regex(r"(a|aa)+\1b", Flags::default());
        let stubborn_begin = std::time::Instant::now();
        assert_eq!(stubborn.find(text.as_bytes(), 0, &mut scratch), Found::GaveUp);
        println!("one that backtracks gives up after {:?}", stubborn_begin.elapsed());
        assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    }
}
