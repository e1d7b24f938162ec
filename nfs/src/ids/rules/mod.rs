//! The rule language of Suricata and Snort: from text to what detection evaluates.
//!
//! ```text
//!   suricata.yaml --> Groups --> Variables --\
//!   classification.config ----> Classes -----+--> Setup
//!   events that are raised ------------------/      |
//!                                                   v
//!   rule files --> lines --> header, options --> Rules { rules, skipped, broken, replaced }
//! ```
//!
//! [`Rules::read`] reads all files and never stops at a rule: one that asks for what this IDS does not do is in
//! [`Rules::skipped`] with the keyword, one that Suricata refuses is in [`Rules::broken`] with what is wrong and where.
//!
//! What a later part does with a [`Rule`]:
//!
//! 1. [`Rule::kind`] and [`Rule::scope`] say on what it is evaluated: packets, streams, transactions, or once a flow.
//! 2. [`Rule::header`], [`Rule::protocol`] and [`Rule::flow`] choose its group; [`Rule::fast_pattern`] is what the group's
//!    prefilter looks for, in the buffer of [`Rule::inspects`] that it names, its transforms done.
//! 3. [`Rule::packet`], [`Rule::app`] and [`Rule::state`] are asked, then each of [`Rule::inspects`] in order. Within one of
//!    those a relative test stands behind the last match; when it fails, an earlier content is looked for once more, behind
//!    the beginning of its last match.
//! 4. On a match [`Rule::detection_filter`], [`Rule::threshold`] or [`Rule::rate_filter`] counts, and [`Rule::effects`] are left.
//!
//! A rule is bytes to all of this: only where words are expected it must be UTF-8. Nothing recurses on what is read, and
//! whatever a rule multiplies has a bound: groups and size of an expression, variables, the ranges of a list.
//!
//! Source: Suricata's user guide (<https://docs.suricata.io/en/latest/rules/>), and how its 8.0 behaves where that is silent.
//! Differs: `=>` rules are skipped, and so are the protocols and keywords that no table here has.

mod address;
mod bytes;
mod class;
mod classes;
mod content;
mod draft;
mod fast_pattern;
mod finish;
mod flow;
mod header;
mod inspect;
mod intervals;
mod keywords;
mod limits;
mod lines;
mod list;
mod mistake;
mod number;
mod options;
mod packet;
mod pcre;
mod rate;
mod regex;
mod rule;
mod state;
#[cfg(test)]
mod tests;
mod transform;
mod translate;
mod variables;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use self::address::{Addresses, Ports};
pub use self::classes::{BadClass, Classes};
pub use self::inspect::{
    Arithmetic, Base64Decode, ByteExtract, ByteJump, ByteMath, ByteTest, Capture, CaptureScope,
    Content, Encoding, FastPatternWish, Field, From, Inspect, IsDataAt, JumpBase, Operator, Pcre,
    Presence, Test, Value,
};
pub use self::intervals::{Bound, Intervals};
pub use self::limits::{AlertLimits, GroupSuppression};
pub use self::number::Compare;
pub use self::packet::{BitMode, Bits, FRAGMENT_BITS, IpOption, PacketTest, StreamSide};
pub use self::rate::{
    DetectionFilter, RateFilter, SuppressedEnd, Suppression, Threshold, ThresholdKind, Track,
    UniqueOn,
};
pub use self::regex::{Flags, Found, NotCompiled, Regex, Scratch, Source as RegexSource};
pub use self::rule::{
    Action, AppName, AppTest, Class, Direction, FastPattern, FlowState, FlowTest, Header, Only,
    Protocol, Reference, RejectTo, Rule, RuleKind, Scope, Tag, TagScope, TagUnit, Target,
};
pub use self::state::{Effect, IntegerChange, IntegerTest, IntegerValue, StateTest, Store};
pub use self::transform::{Transform, Transformed};
pub use self::variables::{BadVariable, Groups, NoYaml, Variables};
pub use super::buffer::{App, BUFFERS, Buffer, BufferInfo, Instances, Origin, Side};

use self::draft::{Draft, Shared};
use self::finish::Stand;
use self::keywords::Reader;
use self::mistake::{Kind, Mistake, Read, unsupported};

/// A file of rules.
#[derive(Clone, Copy, Debug)]
pub struct Source<'t> {
    /// What messages call it.
    pub name: &'t str,
    /// What is in it.
    pub text: &'t [u8],
}

/// What rules refer to.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'s> {
    /// The variables of their headers.
    pub variables: &'s Variables,
    /// Their classes.
    pub classes: &'s Classes,
    /// The events that this IDS raises, by the names that rules have for them: `stream.reassembly_overlap_different_data`,
    /// `http.request_field_too_long`, `applayer_detect_protocol_only_one_direction`, `ipv4.trunc_pkt`. A rule for another
    /// one is skipped.
    pub events: &'s [&'s str],
}

/// What the files of rules come to.
#[derive(Debug, Default)]
pub struct Rules {
    /// Those that are evaluated, in the order of the files.
    pub rules: Vec<Rule>,
    /// Those that ask for what this IDS does not do: [`NotLoaded::why`] is the keyword.
    pub skipped: Vec<NotLoaded>,
    /// Those that are wrong.
    pub broken: Vec<NotLoaded>,
    /// Those whose number a rule of a later revision has, or, of the same revision, an earlier one.
    pub replaced: Vec<NotLoaded>,
    /// What is not told of whole groups of rules.
    pub suppressed: Vec<GroupSuppression>,
}

/// A rule that is not evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLoaded {
    /// Its file.
    pub file: Arc<str>,
    /// The line of what `why` says, from 1.
    pub line: u32,
    /// The column, in bytes, from 1.
    pub column: u32,
    /// Its number, if it has one that can be read.
    pub sid: Option<u32>,
    /// Why it is not.
    pub why: String,
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.why)?;
        match self.sid {
            Some(sid) => write!(f, " (sid {sid})"),
            None => Ok(()),
        }
    }
}

impl Rules {
    /// Reads all rules of these files.
    ///
    /// # Cost
    /// Some 10 us a rule, and what its expressions take to compile.
    pub fn read(sources: &[Source<'_>], setup: &Setup<'_>) -> Self {
        let mut rules = Self::default();
        let mut reader = Reading { setup, table: keywords::table(), shared: Shared::default() };
        // By group and number: where the rule is in `found`.
        let mut numbers: HashMap<(u32, u32), usize> = HashMap::new();
        let mut found: Vec<Option<Rule>> = Vec::new();
        let names: Vec<Arc<str>> = sources.iter().map(|s| Arc::from(s.name)).collect();
        for (index, (source, name)) in sources.iter().zip(&names).enumerate() {
            for line in lines::rules(source.text) {
                let stand = Stand { source: index, line: line.number() };
                let not_loaded = |at, sid, why| {
                    let (line, column) = line.place(at);
                    NotLoaded { file: Arc::clone(name), line, column, sid, why }
                };
                let rule = match reader.rule(&line.text, stand) {
                    Ok(rule) => rule,
                    Err((mistake, sid)) => {
                        let list = match mistake.kind {
                            Kind::Broken => &mut rules.broken,
                            Kind::Unsupported => &mut rules.skipped,
                        };
                        list.push(not_loaded(mistake.at, sid, mistake.text));
                        continue;
                    }
                };
                let number = (rule.gid, rule.sid);
                let before = numbers.get(&number).and_then(|i| found.get_mut(*i));
                let Some(before) = before else {
                    numbers.insert(number, found.len());
                    found.push(Some(rule));
                    continue;
                };
                match before {
                    Some(older) if older.rev < rule.rev => {
                        let why =
                            format!("revision {} of {}:{} is newer", rule.rev, name, rule.line);
                        let file = names.get(older.source).map(Arc::clone).unwrap_or_default();
                        let sid = Some(older.sid);
                        rules.replaced.push(NotLoaded {
                            file,
                            line: older.line,
                            column: 1,
                            sid,
                            why,
                        });
                        *before = None;
                        numbers.insert(number, found.len());
                        found.push(Some(rule));
                    }
                    _ => {
                        let why = "a rule of this number and at least this revision comes before";
                        rules.replaced.push(not_loaded(0, Some(rule.sid), why.to_owned()));
                    }
                }
            }
        }
        rules.rules = found.into_iter().flatten().collect();
        rules
    }
}

struct Reading<'s> {
    setup: &'s Setup<'s>,
    table: HashMap<&'static str, Reader>,
    shared: Shared,
}

impl Reading<'_> {
    /// Reads one rule. What is wrong with it comes with its number.
    fn rule(&mut self, text: &[u8], stand: Stand) -> Result<Rule, (Mistake, Option<u32>)> {
        let cut = header::cut(text).map_err(|mistake| (mistake, None))?;
        let between = text.get(cut.options.clone()).unwrap_or_default();
        let options = options::keywords(between, cut.options.start).map_err(|m| (m, None))?;
        let sid = options.iter().find(|k| k.name == "sid").and_then(|k| k.value);
        let sid = sid.and_then(|v| v.text().ok()?.parse().ok());
        self.typed(&cut, &options, stand).map_err(|mistake| (mistake, sid))
    }

    fn typed(
        &mut self,
        cut: &header::Cut<'_>,
        options: &[options::Keyword<'_>],
        stand: Stand,
    ) -> Read<Rule> {
        // First of all: a rule with what is not known here may be right in ways that are not known here.
        let mut readers = Vec::with_capacity(options.len());
        for keyword in options {
            // Letters of either case are the same.
            let lower = || self.table.get_key_value(keyword.name.to_ascii_lowercase().as_str());
            match self.table.get_key_value(keyword.name).or_else(lower) {
                Some((name, reader)) => readers.push((*name, *reader)),
                None => return unsupported(keyword.at, keyword.name),
            }
        }
        let parsed = header::read(cut, self.setup.variables, &mut self.shared)?;
        let mut draft = Draft::new(self.setup, &mut self.shared, parsed.header);
        for (keyword, (name, reader)) in options.iter().zip(readers) {
            reader(&mut draft, &options::Keyword { name, ..*keyword })?;
        }
        finish::finish(draft, parsed.action, stand, cut.options.end)
    }
}
