//! Every mistake of a chain file, each with its place, shown the way the user wrote it.
//!
//! A reader that stops at its first error makes the user run the program once a mistake. Here
//! nothing stops: whoever finds a mistake notes it in the [`Report`] and goes on, and at the end
//! all of them are shown, sorted by place:
//!
//! ```text
//! edge.yaml:7:49: unknown key `dports` in a firewall rule
//!     7 |   edge: { type: firewall, rules: [ {allow: tcp, dports: 80} ] }
//!       |                                                 ^^^^^^ did you mean `dport`? keys: allow deny ...
//! ```
//!
//! The text is the user's, so it is shown with care: control characters become blanks (a file must
//! not drive the terminal), very long lines are cut around the mistake, and the number of entries
//! is bounded.
use std::fmt::Write as _;
use std::sync::Arc;

use super::source::{Source, Span};

/// Whether a chain with this entry may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may not.
    Error,
    /// It may, but it is hardly what the user meant.
    Warning,
}

/// Whether a rendered report carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Plain text: files, pipes, `NO_COLOR`.
    Never,
    /// For a terminal.
    Always,
}

/// One mistake: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    at: Span,
    severity: Severity,
    message: String,
    hint: String,
}

impl Entry {
    /// Adds what to do, shown beside the carets; several hints stand one after the other.
    pub fn hint(&mut self, hint: impl AsRef<str>) -> &mut Self {
        if !self.hint.is_empty() && !hint.as_ref().is_empty() {
            self.hint.push(' ');
        }
        self.hint.push_str(hint.as_ref());
        self
    }

    /// Where the mistake is.
    pub fn span(&self) -> Span {
        self.at
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Everything that is wrong with one chain file.
#[derive(Clone, Debug)]
pub struct Report {
    source: Arc<Source>,
    entries: Vec<Entry>,
    /// Stands in for the entries beyond [`ENTRIES_MAX`], so that callers need not care.
    beyond: Entry,
    errors: usize,
    warnings: usize,
}

impl Report {
    /// An empty report about `source`.
    pub fn new(source: Arc<Source>) -> Self {
        let beyond = Entry {
            at: Span::START,
            severity: Severity::Warning,
            message: String::new(),
            hint: String::new(),
        };
        Self { source, entries: Vec::new(), beyond, errors: 0, warnings: 0 }
    }

    /// Notes a mistake with which the chain file cannot be used.
    pub fn error(&mut self, at: Span, message: impl Into<String>) -> &mut Entry {
        self.errors += 1;
        self.add(at, Severity::Error, message.into())
    }

    /// Notes something that is allowed but hardly meant.
    pub fn warning(&mut self, at: Span, message: impl Into<String>) -> &mut Entry {
        self.warnings += 1;
        self.add(at, Severity::Warning, message.into())
    }

    /// A place as the report shows it, for an entry that speaks of another place than its own.
    pub fn place(&self, at: Span) -> String {
        format!("{}:{}:{}", self.source.name(), at.line, at.column)
    }

    /// Whether the chain file cannot be used.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The number of errors noted, also those beyond the ones that are shown.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// The number of warnings noted, also those beyond the ones that are shown.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Whether further entries are counted only: then hints that cost time are not worth it.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// The entries in order of place; at one place errors come before warnings.
    ///
    /// Entries that say the same about the same place (an alias is read once for each use) are one.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| (entry.at, entry.severity));
        entries.dedup();
        entries
    }

    /// The whole report as text: for each entry its place and message, the line, carets, the hint.
    pub fn render(&self, color: Color) -> String {
        let mut out = String::new();
        for entry in self.entries() {
            self.render_entry(entry, &Paint(color), &mut out);
        }
        let hidden = (self.errors + self.warnings).saturating_sub(self.entries.len());
        if hidden > 0 {
            let name = self.source.name();
            // Writing to a `String` cannot fail.
            let _ = writeln!(out, "{name}: and {hidden} more; mend the first ones and run again");
        }
        out
    }

    fn add(&mut self, at: Span, severity: Severity, message: String) -> &mut Entry {
        let entry = Entry { at, severity, message, hint: String::new() };
        if self.is_full() {
            self.beyond = entry;
            return &mut self.beyond;
        }
        self.entries.push_mut(entry)
    }

    fn render_entry(&self, entry: &Entry, paint: &Paint, out: &mut String) {
        let Span { line, column, start, end } = entry.at;
        let (start, end) = (start as usize, end as usize);
        let (text, line_start) = self.source.line_around(start);
        let before = text.get(..start - line_start.min(start)).unwrap_or(text);
        let marked = text
            .get(before.len()..end.saturating_sub(line_start).min(text.len()))
            .unwrap_or_default();
        let (indent, marked) = (before.chars().count(), marked.trim_end().chars().count().max(1));
        let window = Window::around(text.chars().count(), indent, marked);

        let number = line.to_string();
        let gutter = number.len().max(GUTTER);
        let place = paint.bold(&format!("{}:{line}:{column}:", self.source.name()));
        let kind = match entry.severity {
            Severity::Error => String::new(),
            Severity::Warning => format!("{} ", paint.yellow("warning:")),
        };
        let carets = "^".repeat(window.carets);
        let carets = match entry.severity {
            Severity::Error => paint.red(&carets),
            Severity::Warning => paint.yellow(&carets),
        };
        // Messages and hints repeat names from the file.
        let shown = |text: &str| text.chars().map(printable).collect::<String>();
        let hint = shown(&entry.hint);
        let gap = if hint.is_empty() { "" } else { " " };
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            out,
            "{place} {kind}{message}\n\
             {number:>gutter$} | {line}\n\
             {empty:>gutter$} | {indent}{carets}{gap}{hint}",
            message = shown(&entry.message),
            line = window.cut(text).trim_end(),
            empty = "",
            indent = " ".repeat(window.indent),
        );
    }
}

/// The user's text in a message: between backquotes, on one line, at most 60 characters.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    let mut chars = text.chars().map(printable);
    out.extend(chars.by_ref().take(QUOTED_MAX));
    if chars.next().is_some() {
        out.push_str("...");
    }
    out.push('`');
    out
}

/// The candidate that the user most likely meant by `word`, if one is near enough to suggest.
///
/// Case, `_` for `-`, one slip in three letters, and a name cut short are forgiven.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.is_empty() || word.len() > WORD_MAX {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    let slips = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= WORD_MAX)
        .filter_map(|candidate| {
            let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
            let cut_short = word.len() >= 3 && candidate.starts_with(&word);
            let cost = if cut_short { distance.min(slips) } else { distance };
            // A one-letter name is one slip away from every other: that is no suggestion.
            let shares = distance < word.chars().count().max(candidate.chars().count());
            (cost <= slips && shares).then_some((cost, candidate))
        })
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?" for [`nearest`], empty when nothing is near.
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    nearest(word, candidates).map(|name| format!("did you mean `{name}`?")).unwrap_or_default()
}

/// The part of a long line that is shown: all of a short one.
struct Window {
    skip: usize,
    take: usize,
    indent: usize,
    carets: usize,
}

impl Window {
    fn around(len: usize, indent: usize, marked: usize) -> Self {
        if len <= LINE_MAX {
            return Self { skip: 0, take: len, indent, carets: marked };
        }
        let skip = indent.saturating_sub(LINE_MAX / 3);
        let carets = marked.min(LINE_MAX - (indent - skip));
        Self { skip, take: LINE_MAX, indent: indent - skip, carets }
    }

    fn cut(&self, line: &str) -> String {
        line.chars().skip(self.skip).take(self.take).map(printable).collect()
    }
}

struct Paint(Color);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            Color::Never => text.to_owned(),
            Color::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("1;33", text)
    }
}

/// A character as it may be sent to a terminal, one column wide.
///
/// Control characters and the marks that reorder text would let a file draw what is not there.
fn printable(c: char) -> char {
    match c {
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    }
}

/// Most entries kept; a file with more mistakes is not a chain file.
const ENTRIES_MAX: usize = 1000;
/// Longest source line shown whole, in characters.
const LINE_MAX: usize = 200;
/// Longest piece of the user's text quoted in a message, in characters.
const QUOTED_MAX: usize = 60;
/// Longest word compared with known names, in bytes.
const WORD_MAX: usize = 64;
/// Least width of the line numbers.
const GUTTER: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        Report::new(Arc::new(Source::from_bytes("edge.yaml", text.into()).unwrap()))
    }

    fn span(line: u32, column: u32, start: u32, end: u32) -> Span {
        Span { line, column, start, end }
    }

    #[test]
    fn an_entry_is_rendered_as_the_house_style_says() {
        let text = "\n\n\n\n\nfunctions:\n  edge: { type: firewall, rules: [ {allow: tcp, dports: 80} ] }\n";
        let mut report = report(text);
        let start = text.find("dports").unwrap() as u32;
        report
            .error(span(7, 49, start, start + 6), "unknown key `dports` in a firewall rule")
            .hint("did you mean `dport`?")
            .hint("keys: allow deny src dst sport dport in-port vlan flags");
        assert_eq!(
            report.render(Color::Never),
            "edge.yaml:7:49: unknown key `dports` in a firewall rule
    7 |   edge: { type: firewall, rules: [ {allow: tcp, dports: 80} ] }
      |                                                 ^^^^^^ did you mean `dport`? \
             keys: allow deny src dst sport dport in-port vlan flags\n"
        );
    }

    #[test]
    fn entries_come_in_order_of_place_and_once() {
        let mut report = report("a: 1\nb: 2\n");
        report.error(span(2, 1, 5, 6), "second");
        report.warning(span(1, 1, 0, 1), "unused");
        report.error(span(1, 1, 0, 1), "first");
        report.error(span(2, 1, 5, 6), "second");
        let messages: Vec<_> = report.entries().iter().map(|e| e.message().to_owned()).collect();
        assert_eq!(messages, ["first", "unused", "second"]);
        assert!(report.render(Color::Never).contains("edge.yaml:1:1: warning: unused\n"));
    }

    #[test]
    fn a_span_over_several_lines_is_marked_on_its_first() {
        let mut report = report("é: {x: 1,\n  y: 2}\n");
        report.error(span(1, 4, 4, 18), "no");
        assert!(report.render(Color::Never).ends_with("|    ^^^^^^\n"));
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_mistake() {
        let mut report = report(&format!("{}bad{}", " a".repeat(5000), " b".repeat(5000)));
        report.error(span(1, 10_001, 10_000, 10_003), "here");
        let shown = report.render(Color::Never);
        assert!(shown.len() < 600, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].find("bad"), lines[2].find("^^^"));
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let mut report = report("a: \"\x1b[2Jx\"\t# \u{202e}\n");
        report.error(span(1, 4, 3, 10), "bad \x1b[2J").hint("see \u{202e}");
        assert!(!report.render(Color::Never).contains(['\x1b', '\t', '\u{202e}']));
        assert_eq!(quoted("a\nb\x1b"), "`a b `");
    }

    #[test]
    fn a_report_is_bounded_and_says_how_much_is_left_out() {
        let mut report = report("x\n");
        for n in 0..5000 {
            report.error(span(1, 1, 0, 1), format!("mistake {n}")).hint("mend it");
        }
        assert_eq!(report.errors(), 5000);
        assert!(
            report
                .render(Color::Never)
                .ends_with("and 4000 more; mend the first ones and run again\n")
        );
    }

    #[test]
    fn a_place_outside_the_text_is_rendered_without_panic() {
        let mut report = report("é\n");
        report.error(span(9, 9, 1, 77), "odd");
        report.error(span(u32::MAX, 9, u32::MAX, 3), "odder");
        assert!(report.render(Color::Always).contains("odder"));
    }

    #[test]
    fn the_nearest_name_forgives_slips_case_underscores_and_shortening() {
        let keys = ["device", "mode", "rx-descriptors", "promiscuous", "dport", "to"];
        for (word, meant) in [
            ("dports", Some("dport")),
            ("Device", Some("device")),
            ("rx_descriptors", Some("rx-descriptors")),
            ("promisc", Some("promiscuous")),
            ("moed", Some("mode")),
            ("x", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }
}
