//! Looks for many literals at once: by Vectorscan or Hyperscan where it is, else by an automaton in Rust.
//!
//! Both say the same of the same bytes: which of the literals are in them. What is compiled for the library can be kept in a
//! folder: compiling some thousand literals takes the library seconds, reading them back milliseconds.
//!
//! Of few literals Vectorscan 5.4.9 and others miss some that end within the last vector of a block
//! (<https://github.com/VectorCamp/vectorscan/issues/317>): there, and in what is short, the automaton looks as well.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use hs::{Case, Database, Literal};
use sha2::{Digest, Sha256};

/// Bytes to look for; those of [`Case::Either`] are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pattern {
    bytes: Box<[u8]>,
    case: Case,
}

impl Pattern {
    /// At least one byte.
    pub fn new(bytes: &[u8], case: Case) -> Self {
        match case {
            Case::Either if bytes.iter().any(u8::is_ascii_alphabetic) => {
                Self { bytes: bytes.to_ascii_lowercase().into(), case }
            }
            // Without letters both are the same, and one literal then serves for both.
            _ => Self { bytes: bytes.into(), case: Case::Exact },
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Compiled patterns; which is which is their place in what was compiled.
#[derive(Debug)]
pub(super) enum Matcher {
    /// By the library; and what looks at the ends of blocks, where it needs that.
    Library(Database, Option<Tail>),
    /// In Rust.
    Plain(Plain),
}

/// The automaton for the ends of blocks, and how many bytes of them it looks at.
#[derive(Debug)]
pub(super) struct Tail {
    plain: Plain,
    reach: usize,
}

/// What scans of one worker need.
#[derive(Debug, Default)]
pub(super) struct MatcherScratch {
    library: hs::Scratch,
    found: Vec<u32>,
    /// Looks for which no sieve is asked any more: too much was left in one.
    pub unsieved: u32,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// The library, where it is.
    Library,
    /// The automaton in Rust.
    Plain,
}

impl Matcher {
    /// Compiles patterns; at least one, none empty.
    fn compile(patterns: &[Pattern], engine: Engine, cache: Option<&Cache>) -> Self {
        if engine == Engine::Plain {
            return Self::Plain(Plain::compile(patterns));
        }
        let name = cache.map(|cache| cache.name(patterns));
        if let (Some(cache), Some(name)) = (cache, &name)
            && let Some(database) = cache.read(name)
        {
            let tail = Tail::of(&database, patterns);
            return Self::Library(database, tail);
        }
        let literals: Vec<Literal<'_>> =
            patterns.iter().map(|p| Literal { bytes: &p.bytes, case: p.case }).collect();
        let Ok(database) = Database::compile(&literals) else {
            return Self::Plain(Plain::compile(patterns));
        };
        if let (Some(cache), Some(name)) = (cache, &name) {
            cache.write(name, &database);
        }
        let tail = Tail::of(&database, patterns);
        Self::Library(database, tail)
    }

    /// Whether the library looks.
    #[cfg(test)]
    pub fn is_library(&self) -> bool {
        matches!(self, Self::Library(..))
    }

    /// Makes a worker's scratch fit.
    pub fn fit(&self, scratch: &mut MatcherScratch) {
        if let Self::Library(database, _) = self {
            // Where it fails, scans fail, and then all is a match: `look`.
            let _ = scratch.library.fit(database);
        }
    }

    /// The patterns that are in `bytes`, each at least once; `None`: that could not be found out, any may be.
    ///
    /// # Cost
    /// By the library some 0.1 ns a byte for few patterns, and 0.5 for thousands.
    pub fn look<'s>(&self, bytes: &[u8], scratch: &'s mut MatcherScratch) -> Option<&'s [u32]> {
        scratch.found.clear();
        match self {
            Self::Library(_, Some(tail)) if bytes.len() <= tail.reach => {
                tail.plain.look(bytes, &mut scratch.found);
            }
            Self::Library(database, tail) => {
                database.scan(bytes, &mut scratch.library, &mut scratch.found).ok()?;
                if let Some(Tail { plain, reach }) = tail {
                    let end = bytes.get(bytes.len().saturating_sub(*reach)..).unwrap_or_default();
                    plain.look(end, &mut scratch.found);
                }
            }
            Self::Plain(plain) => plain.look(bytes, &mut scratch.found),
        }
        Some(&scratch.found)
    }
}

impl Tail {
    /// Of few patterns one, if the library misses some of them; of many it misses none.
    fn of(database: &Database, patterns: &[Pattern]) -> Option<Self> {
        if patterns.len() >= FEW || finds_all(database, patterns) {
            return None;
        }
        let longest = patterns.iter().map(Pattern::len).max().unwrap_or(0);
        Some(Self { plain: Plain::compile(patterns), reach: longest + VECTOR })
    }
}

/// Whether the library finds patterns wherever they end: each of the first few of them, at the end of many blocks. About a
/// millisecond; that of a version that misses some of them has failed long before.
fn finds_all(database: &Database, patterns: &[Pattern]) -> bool {
    let (mut scratch, mut found) = (hs::Scratch::default(), Vec::new());
    if scratch.fit(database).is_err() {
        return false;
    }
    let mut finds = |place: u32, bytes: &[u8]| {
        found.clear();
        database.scan(bytes, &mut scratch, &mut found).is_ok() && found.contains(&place)
    };
    (0..).zip(patterns).take(TRIED).all(|(place, pattern)| {
        (128..192).all(|length| {
            (0..16).all(|behind| {
                let front = b"lorem ipsum dolor ".iter().cycle().take(length);
                let rest = b"lorem ipsum dolor ".iter().take(behind);
                let bytes: Vec<u8> = front.chain(&*pattern.bytes).chain(rest).copied().collect();
                finds(place, &bytes)
            })
        })
    })
}

/// The automata in Rust: one for each way to compare letters.
#[derive(Debug)]
pub(super) struct Plain {
    exact: Option<Automaton>,
    either: Option<Automaton>,
}

#[derive(Debug)]
struct Automaton {
    automaton: AhoCorasick,
    /// The place of each of its patterns.
    places: Box<[u32]>,
}

impl Plain {
    fn compile(patterns: &[Pattern]) -> Self {
        let of = |case: Case| {
            let (places, bytes): (Vec<u32>, Vec<&[u8]>) = (0..)
                .zip(patterns)
                .filter(|(_, p)| p.case == case)
                .map(|(place, p)| (place, &*p.bytes))
                .unzip();
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .ascii_case_insensitive(case == Case::Either)
                .build(bytes)
                .ok()
                .filter(|_| !places.is_empty())?;
            Some(Automaton { automaton, places: places.into() })
        };
        Self { exact: of(Case::Exact), either: of(Case::Either) }
    }

    fn look(&self, bytes: &[u8], found: &mut Vec<u32>) {
        let mut most = FOUND_MAX;
        for Automaton { automaton, places } in [&self.exact, &self.either].into_iter().flatten() {
            for hit in automaton.find_overlapping_iter(bytes) {
                found.extend(places.get(hit.pattern().as_usize()));
                if found.len() > most {
                    found.sort_unstable();
                    found.dedup();
                    most = FOUND_MAX.max(2 * found.len());
                }
            }
        }
    }
}

/// Compiles, and has those that want the same share it.
#[derive(Debug)]
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Cache>,
    known: HashMap<Vec<Pattern>, Arc<Matcher>>,
}

impl Compiler {
    /// `cache`: the folder where what the library compiled is kept.
    pub fn new(engine: Engine, cache: Option<&Path>) -> Self {
        Self { engine, cache: cache.and_then(Cache::new), known: HashMap::new() }
    }

    /// Compiles patterns, sorted.
    pub fn compile(&mut self, patterns: Vec<Pattern>) -> Arc<Matcher> {
        let (engine, cache) = (self.engine, self.cache.as_ref());
        let matcher = self.known.entry(patterns);
        let compile = |patterns: &Vec<Pattern>| Arc::new(Matcher::compile(patterns, engine, cache));
        Arc::clone(matcher.or_insert_with_key(compile))
    }

    /// All that it compiled.
    pub fn into_matchers(self) -> Vec<Arc<Matcher>> {
        self.known.into_values().collect()
    }
}

/// A folder with what the library compiled: a file's name is the library's version and the digest of the patterns, and it begins
/// with the digest of the rest. Whoever can write there can have the library read what he likes: it is a folder of root's.
#[derive(Debug)]
struct Cache {
    folder: PathBuf,
    version: String,
}

impl Cache {
    fn new(folder: &Path) -> Option<Self> {
        let version = hs::version()?;
        let number = version.split_whitespace().next().unwrap_or_default();
        let version: String =
            number.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        fs::create_dir_all(folder).ok()?;
        Some(Self { folder: folder.to_owned(), version })
    }

    fn name(&self, patterns: &[Pattern]) -> String {
        let mut digest = Sha256::new();
        for pattern in patterns {
            digest.update((pattern.bytes.len() as u64).to_le_bytes());
            digest.update([u8::from(pattern.case == Case::Either)]);
            digest.update(&pattern.bytes);
        }
        let hex: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
        format!("hs-{}-{hex}", self.version)
    }

    /// `None`: it is not there, or of another processor, or not what was written.
    fn read(&self, name: &str) -> Option<Database> {
        let file = fs::read(self.folder.join(name)).ok()?;
        let (digest, bytes) = file.split_at_checked(DIGEST)?;
        if Sha256::digest(bytes).as_slice() != digest {
            return None;
        }
        Database::deserialize(bytes).ok()
    }

    /// What cannot be written is compiled again next time.
    fn write(&self, name: &str, database: &Database) {
        let Ok(bytes) = database.serialize() else { return };
        // Under another name first: who reads meanwhile finds all of it or nothing.
        let unfinished = self.folder.join(format!("{name}.{}", std::process::id()));
        let written = fs::File::create(&unfinished).and_then(|mut file| {
            file.write_all(&Sha256::digest(&bytes))?;
            file.write_all(&bytes)
        });
        if written.and_then(|()| fs::rename(&unfinished, self.folder.join(name))).is_err() {
            let _ = fs::remove_file(&unfinished);
        }
    }
}

/// The library's largest vector, in bytes.
const VECTOR: usize = 64;

/// Of few literals so many are looked for on trial.
const TRIED: usize = 16;

/// As many literals as the library has in its engine for few at most, and some more.
const FEW: usize = 128;

/// Bytes of a digest.
const DIGEST: usize = 32;

/// When so many matches came together, of those of one pattern one is kept.
const FOUND_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        let bytes = prop::collection::vec(prop::sample::select(b"aAbB\x00\xff*".to_vec()), 1..5);
        let case = prop::sample::select(vec![Case::Exact, Case::Either]);
        (bytes, case).prop_map(|(bytes, case)| Pattern::new(&bytes, case))
    }

    fn found(matcher: &Matcher, bytes: &[u8]) -> Vec<u32> {
        let mut scratch = MatcherScratch::default();
        matcher.fit(&mut scratch);
        let mut found = matcher.look(bytes, &mut scratch).unwrap().to_vec();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn naive(patterns: &[Pattern], bytes: &[u8]) -> Vec<u32> {
        let is_in = |p: &Pattern| {
            bytes.windows(p.len()).any(|window| match p.case {
                Case::Exact => *window == *p.bytes,
                Case::Either => window.eq_ignore_ascii_case(&p.bytes),
            })
        };
        (0..).zip(patterns).filter(|(_, p)| is_in(p)).map(|(place, _)| place).collect()
    }

    proptest! {
        #[test]
        fn both_matchers_find_the_patterns_that_are_there_and_no_other(
            patterns in prop::collection::btree_set(pattern(), 1..20),
            bytes in prop::collection::vec(prop::sample::select(b"aAbBc\x00\xff*".to_vec()), 0..60),
        ) {
            let patterns: Vec<Pattern> = patterns.into_iter().collect();
            let library = Matcher::compile(&patterns, Engine::Library, None);
            prop_assert_eq!(library.is_library(), hs::version().is_some());
            let plain = Matcher::compile(&patterns, Engine::Plain, None);
            prop_assert!(!plain.is_library());
            let expected = naive(&patterns, &bytes);
            prop_assert_eq!(found(&library, &bytes), expected.clone());
            prop_assert_eq!(found(&plain, &bytes), expected);
        }
    }

    #[test]
    fn of_few_patterns_none_is_missed_at_the_end_of_a_block() {
        // Of the blocks here the library alone, in the version that misses some, misses 1 in 100.
        let mut state = 1_u32;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        for round in 0..200 {
            let few = 1 + round % 6;
            let mut random =
                |length: usize| -> Vec<u8> { (0..length).map(|_| 33 + next(90) as u8).collect() };
            let patterns: Vec<Pattern> =
                (0..few).map(|i| Pattern::new(&random(2 + (round + i) % 9), Case::Exact)).collect();
            let matcher = Matcher::compile(&patterns, Engine::Library, None);
            for gap in 0..70 {
                for (place, pattern) in patterns.iter().enumerate() {
                    let mut block = random(80 + (round * 7 + gap) % 150);
                    block.extend_from_slice(&pattern.bytes);
                    block.extend(random(gap));
                    let found = found(&matcher, &block);
                    assert!(found.contains(&(place as u32)), "{pattern:?} {gap} before the end");
                }
            }
        }
    }

    #[test]
    fn what_was_compiled_is_read_back_unless_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let patterns = vec![Pattern::new(b"needle", Case::Either)];
        let compile =
            || Compiler::new(Engine::Library, Some(folder.path())).compile(patterns.clone());
        // Longer than what the automaton looks at.
        let found = |word: &str| found(&compile(), format!("{word:<200}").as_bytes());
        assert_eq!(found("a NEEDLE"), [0]);
        let files = || fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path());
        if hs::version().is_none() {
            assert_eq!(files().count(), 0);
            return;
        }
        assert_eq!(files().count(), 1);
        let file = files().next().unwrap();
        let whole = fs::read(&file).unwrap();
        // Of another database with a right digest nobody could know that it is another: so it is read.
        let other = Database::compile(&[Literal { bytes: b"other", case: Case::Exact }]).unwrap();
        let other = other.serialize().unwrap();
        fs::write(&file, [&Sha256::digest(&other)[..], &other].concat()).unwrap();
        assert_eq!(found("an other needle"), [0]);
        assert!(found("a needle").is_empty());
        let mut broken = whole.clone();
        *broken.last_mut().unwrap() ^= 1;
        fs::write(&file, broken).unwrap();
        assert_eq!(found("a needle"), [0]);
        assert_eq!(fs::read(&file).unwrap(), whole);
    }

    #[test]
    fn those_who_want_the_same_share_it() {
        let mut compiler = Compiler::new(Engine::Library, None);
        let one = compiler.compile(vec![Pattern::new(b"a", Case::Exact)]);
        let two = compiler.compile(vec![Pattern::new(b"a", Case::Exact)]);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(compiler.into_matchers().len(), 1);
    }
}
