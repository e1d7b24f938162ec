//! What a check found, and how it is printed.
use std::io::{self, Write};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// A run works, and could work better.
    Note,
    /// A run may work, less well or not for long.
    Warning,
    /// A run cannot start, for certain.
    Problem,
}

/// One fact of the machine: what it is, what it comes from, what changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, in two words: `huge pages`, `port lan`.
    pub subject: String,
    /// What was found, in one sentence.
    pub found: String,
    /// What it comes from or leads to; empty when that is plain.
    pub why: String,
    /// Commands that mend it, in order, ready to paste; a line that begins with `#` tells.
    pub fix: Vec<String>,
    /// Whether what was asked for is at fault, and not the machine.
    pub is_mistake: bool,
}

impl Finding {
    /// A finding with neither cause nor fix yet.
    pub fn new(severity: Severity, subject: impl Into<String>, found: impl Into<String>) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self { severity, subject, found, why: String::new(), fix: Vec::new(), is_mistake: false }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// The same, as a mistake of whoever asked for what is not there.
    #[must_use]
    pub fn mistake(self) -> Self {
        Self { is_mistake: true, ..self }
    }

    /// The same, with the commands that mend it.
    #[must_use]
    pub fn fix<C: Into<String>>(mut self, commands: impl IntoIterator<Item = C>) -> Self {
        self.fix = commands.into_iter().map(Into::into).collect();
        self
    }
}

/// Whether to colour what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Only text.
    Plain,
    /// With the colours of a terminal.
    Terminal,
}

/// Prints findings in their order, and their count.
///
/// # Errors
/// What writing to `to` says.
pub fn print(findings: &[Finding], to: &mut impl Write, color: Color) -> io::Result<()> {
    let subject_width = findings.iter().map(|f| f.subject.chars().count()).max().unwrap_or(0);
    let indent = SEVERITY_WIDTH + subject_width + 2 * GAP.len();
    for finding in findings {
        let Finding { severity, subject, found, why, fix, .. } = finding;
        let mark = paint(&format!("{:SEVERITY_WIDTH$}", severity.word()), severity.style(), color);
        let found = wrap(&sanitized(found), indent);
        writeln!(to, "{mark}{GAP}{:subject_width$}{GAP}{found}", sanitized(subject))?;
        let label = |word| paint(word, DIM, color);
        if !why.is_empty() {
            let why = wrap(&sanitized(why), indent + LABEL_WIDTH);
            writeln!(to, "{:indent$}{} {why}", "", label("why"))?;
        }
        for (at, command) in fix.iter().enumerate() {
            let label = label(if at == 0 { "fix" } else { "   " });
            writeln!(to, "{:indent$}{label} {}", "", sanitized(command))?;
        }
    }
    writeln!(to, "{}", summary(findings, color))
}

fn summary(findings: &[Finding], color: Color) -> String {
    let count = |of| findings.iter().filter(|f| f.severity == of).count();
    let kinds = [Severity::Problem, Severity::Warning, Severity::Note, Severity::Ok];
    let counts = kinds.map(|of| (of, count(of)));
    let counts = counts.iter().filter(|(_, n)| *n > 0).map(|(of, n)| {
        let plural = if *n == 1 || *of == Severity::Ok { "" } else { "s" };
        paint(&format!("{n} {}{plural}", of.word()), of.style(), color)
    });
    let verdict = match count(Severity::Problem) {
        0 => "a run can start",
        _ => "a run cannot start",
    };
    format!("\n{}: {verdict}", counts.collect::<Vec<_>>().join(", "))
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    fn style(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Note => "\x1b[36m",
            Self::Warning => "\x1b[33m",
            Self::Problem => "\x1b[1;31m",
        }
    }
}

fn paint(text: &str, style: &str, color: Color) -> String {
    match color {
        Color::Plain => text.to_owned(),
        Color::Terminal => format!("{style}{text}\x1b[0m"),
    }
}

/// Breaks a sentence at blanks, so that lines end before [`LINE_WIDTH`]; the first begins at
/// `indent`, and so do the others.
fn wrap(text: &str, indent: usize) -> String {
    let width = LINE_WIDTH.saturating_sub(indent).max(LINE_WIDTH / 3);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}

/// Names come from files and arguments: control characters do not reach the terminal.
fn sanitized(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Columns of the longest severity.
const SEVERITY_WIDTH: usize = 7;
/// Columns of `why` and `fix`, and of the blank behind them.
const LABEL_WIDTH: usize = 4;
/// What stands between columns.
const GAP: &str = "  ";
/// Where sentences break; commands do not, so that they can be pasted.
const LINE_WIDTH: usize = 100;
/// The style of labels.
const DIM: &str = "\x1b[2m";

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(findings: &[Finding], color: Color) -> String {
        let mut out = Vec::new();
        print(findings, &mut out, color).expect("a vector takes everything");
        String::from_utf8(out).expect("the text is UTF-8")
    }

    #[test]
    fn columns_are_aligned_and_the_last_line_counts() {
        let findings = [
            Finding::new(Severity::Ok, "cpus", "4 CPUs"),
            Finding::new(Severity::Problem, "port lan", "no such device")
                .because("it is not on the bus")
                .fix(["lspci", "reboot"]),
        ];
        let expected = "\
ok       cpus      4 CPUs
problem  port lan  no such device
                   why it is not on the bus
                   fix lspci
                       reboot

1 problem, 1 ok: a run cannot start
";
        assert_eq!(printed(&findings, Color::Plain), expected);
    }

    #[test]
    fn without_a_problem_a_run_can_start() {
        let findings = [Finding::new(Severity::Warning, "a", "b"); 1];
        let twice = [findings[0].clone(), findings[0].clone()];
        assert!(printed(&twice, Color::Plain).ends_with("\n2 warnings: a run can start\n"));
    }

    #[test]
    fn sentences_break_and_commands_do_not() {
        let long = "word ".repeat(60);
        let command = "cmd ".repeat(60);
        let finding = Finding::new(Severity::Note, "s", long.trim()).fix([command.trim()]);
        let text = printed(&[finding], Color::Plain);
        assert!(text.contains(command.trim()));
        let sentences = text.lines().filter(|line| line.contains("word"));
        assert!(sentences.clone().count() > 2);
        assert!(sentences.into_iter().all(|line| line.chars().count() <= LINE_WIDTH));
    }

    #[test]
    fn colour_is_for_terminals_and_control_characters_are_for_none() {
        let findings = [Finding::new(Severity::Ok, "a\x1b[2J", "b\nc")];
        assert!(!printed(&findings, Color::Plain).contains('\x1b'));
        assert!(printed(&findings, Color::Terminal).contains("\x1b[32mok     \x1b[0m"));
        assert!(!printed(&findings, Color::Terminal).contains("\x1b[2J"));
    }
}
