//! A `suricata.yaml` as words by path: what an IDS takes over of one that is there already.
//!
//! ```text
//!   stream:                          stream.reassembly.depth          1mb
//!     reassembly:                    outputs.eve-log.types            flow
//!       depth: 1mb            -->    outputs.eve-log.types.alert.payload   yes
//! ```
//!
//! Lists have no numbers in a path: each of their elements is one more word of it, or goes on below it. So is a file read
//! whatever else is in it; what is not asked for is passed over, as most of such a file is about capturing.

use std::path::Path;

use granit_parser::{Event, Parser};

use crate::ids::rules::NoYaml;

/// What a file says, and what was set over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuricataYaml {
    /// Path and word, in the order of the file.
    words: Vec<(String, String)>,
}

/// A file that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// Not to be opened.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No YAML.
    #[error("{0}")]
    NoYaml(#[from] NoYaml),
    /// More than such files have.
    #[error("larger than {} KiB, which no suricata.yaml is", FILE_MAX >> 10)]
    TooLarge,
}

/// A word that is not what its path asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}: {word}` is not {what}")]
pub struct BadWord {
    /// Where it stands.
    pub path: String,
    /// The word.
    pub word: String,
    /// What it should be.
    pub what: &'static str,
}

impl SuricataYaml {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be opened, is too large, or is no YAML.
    pub fn open(path: &Path) -> Result<Self, NotRead> {
        if std::fs::metadata(path)?.len() > FILE_MAX {
            return Err(NotRead::TooLarge);
        }
        let text = std::fs::read(path)?;
        Ok(Self::read(&String::from_utf8_lossy(&text))?)
    }

    /// Reads a text. No recursion: the parser tells events, and where one is in the text is a stack of keys.
    ///
    /// # Errors
    /// It is no YAML.
    pub fn read(text: &str) -> Result<Self, NoYaml> {
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            flow_nesting_limit: NESTING_MAX,
            block_nesting_limit: NESTING_MAX,
        };
        options.set_emit_comments(false);
        let mut this = Self::default();
        let mut levels: Vec<Level> = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, _) = event
                .map_err(|error| NoYaml { line: error.marker().line(), why: error.to_string() })?;
            match event {
                Event::MappingStart(..) => levels.push(Level::Map(None)),
                Event::SequenceStart(..) => levels.push(Level::List),
                Event::MappingEnd | Event::SequenceEnd => {
                    levels.pop();
                    value_ended(&mut levels);
                }
                Event::Scalar(text, ..) => match levels.last_mut() {
                    Some(Level::Map(key @ None)) => *key = Some(text.into_owned()),
                    _ => {
                        this.words.push((path(&levels), text.into_owned()));
                        value_ended(&mut levels);
                    }
                },
                Event::Alias(_) | Event::UnresolvedAlias(_) => value_ended(&mut levels),
                _ => {}
            }
        }
        Ok(this)
    }

    /// Sets a word, as `--set PATH=WORD` does: those that were there are no more.
    pub fn set(&mut self, path: &str, word: &str) {
        self.words.retain(|(known, _)| known != path);
        self.words.push((path.to_owned(), word.to_owned()));
    }

    /// The word of a path; of several the last.
    pub fn word(&self, path: &str) -> Option<&str> {
        self.words.iter().rev().find(|(known, _)| known == path).map(|(_, word)| word.as_str())
    }

    /// All words of a path.
    pub fn words(&self, path: &str) -> impl Iterator<Item = &str> {
        self.words.iter().filter(move |(known, _)| known == path).map(|(_, word)| word.as_str())
    }

    /// Whether anything is said of a path or below it.
    pub fn has(&self, path: &str) -> bool {
        self.below(path).next().is_some() || self.word(path).is_some()
    }

    /// What is below a path: the rest of each path, and its word.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        self.words.iter().filter_map(move |(known, word)| {
            let rest = known.strip_prefix(path)?.strip_prefix('.')?;
            Some((rest, word.as_str()))
        })
    }

    /// The word of a path as `yes` or `no`, or whatever else stands for them.
    ///
    /// # Errors
    /// It is neither.
    pub fn flag(&self, path: &str) -> Result<Option<bool>, BadWord> {
        self.typed(path, "yes or no", |word| {
            let is = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w));
            match word {
                _ if is(&["yes", "true", "on", "1", "enabled"]) => Some(true),
                _ if is(&["no", "false", "off", "0", "disabled"]) => Some(false),
                _ => None,
            }
        })
    }

    /// The word of a path as a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, path: &str) -> Result<Option<u64>, BadWord> {
        self.typed(path, "a number", |word| word.parse().ok())
    }

    /// The word of a path as a number of bytes: `64kb`, `1 MiB`, `4096`. Suricata's `kb` are 1,024 bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn size(&self, path: &str) -> Result<Option<u64>, BadWord> {
        self.typed(path, "a size, such as `64mb`", size)
    }

    fn typed<T>(
        &self,
        path: &str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, BadWord> {
        let Some(word) = self.word(path) else { return Ok(None) };
        match read(word.trim_ascii()) {
            Some(value) => Ok(Some(value)),
            None => Err(BadWord { path: path.to_owned(), word: word.to_owned(), what }),
        }
    }
}

/// Where in a text the parser is: in the value of a key, or in a list.
enum Level {
    Map(Option<String>),
    List,
}

/// A value is over: a key comes next.
fn value_ended(levels: &mut [Level]) {
    if let Some(Level::Map(key)) = levels.last_mut() {
        *key = None;
    }
}

fn path(levels: &[Level]) -> String {
    let keys = levels.iter().filter_map(|level| match level {
        Level::Map(key) => key.as_deref(),
        Level::List => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

fn size(word: &str) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let shift = match unit.trim_ascii().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The file that Suricata delivers has 90 KiB.
const FILE_MAX: u64 = 4 << 20;
const NESTING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "%YAML 1.1\n---\nstream:\n  midstream: yes\n  memcap: 64 MiB\n  reassembly: { depth: 1mb }\n\
        outputs:\n  - fast: { enabled: no }\n  - eve-log:\n      enabled: yes\n      types:\n        - alert:\n            payload: yes\n        - flow\n        - http\n\
        host-os-policy:\n  windows: [0.0.0.0/0, ::/0]\n  linux: []\n";

    #[test]
    fn words_are_found_by_their_paths_through_lists() {
        let yaml = SuricataYaml::read(FILE).unwrap();
        assert_eq!(yaml.flag("stream.midstream"), Ok(Some(true)));
        assert_eq!(yaml.size("stream.memcap"), Ok(Some(64 << 20)));
        assert_eq!(yaml.size("stream.reassembly.depth"), Ok(Some(1 << 20)));
        let types: Vec<_> = yaml.words("outputs.eve-log.types").collect();
        assert_eq!(types, ["flow", "http"]);
        assert_eq!(yaml.flag("outputs.eve-log.types.alert.payload"), Ok(Some(true)));
        assert_eq!(yaml.flag("outputs.fast.enabled"), Ok(Some(false)));
        let hosts: Vec<_> = yaml.below("host-os-policy").collect();
        assert_eq!(hosts, [("windows", "0.0.0.0/0"), ("windows", "::/0")]);
        assert!(yaml.has("stream") && yaml.has("stream.reassembly") && !yaml.has("str"));
        assert_eq!(yaml.flag("nowhere"), Ok(None));
    }

    #[test]
    fn what_is_set_is_so_whatever_the_file_says() {
        let mut yaml = SuricataYaml::read(FILE).unwrap();
        yaml.set("stream.midstream", "false");
        yaml.set("stream.async-oneside", "true");
        assert_eq!(yaml.flag("stream.midstream"), Ok(Some(false)));
        assert_eq!(yaml.flag("stream.async-oneside"), Ok(Some(true)));
    }

    #[test]
    fn a_word_of_the_wrong_kind_is_told_with_its_path() {
        let yaml = SuricataYaml::read("stream: { memcap: much, midstream: perhaps }").unwrap();
        let why = yaml.size("stream.memcap").unwrap_err().to_string();
        assert_eq!(why, "`stream.memcap: much` is not a size, such as `64mb`");
        assert!(yaml.flag("stream.midstream").is_err());
        assert_eq!(SuricataYaml::read("a: [").unwrap_err().line, 1);
    }
}
