//! The plan as text, for people: at most 120 columns, but for the lines that are there to be copied.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nfv_core::offload::WithoutVlan;

use super::report::{ClassReport, PortReport, Report, Source};

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For files, pipes and `NO_COLOR`.
    Plain,
    /// For a terminal.
    Colored,
}

/// Whether classes alike are shown one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Where they are many, one line for those alike, and some of the rules.
    Short,
    /// All of them.
    Whole,
}

/// The whole plan.
pub fn text(report: &Report, look: Look, length: Length) -> String {
    let mut out = Page { text: String::new(), look };
    for port in &report.ports {
        out.port(port, report, length);
    }
    out.chains(report);
    if report.ports.iter().any(|port| !port.classes.is_empty()) {
        out.line(&format!(
            "clocks: what a packet costs a worker, and in brackets without the NIC's help; a model, from docs/numbers.md{}",
            match report.ports.iter().any(|p| p.queues > 1 && p.classes.iter().any(|c| c.rung == "software")) {
                true => "\n        (handing a packet over to another worker is not in it)",
                false => "",
            }
        ));
    }
    out.text
}

struct Page {
    text: String,
    look: Look,
}

/// Classes of one row.
struct Row<'r> {
    classes: Vec<&'r ClassReport>,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.look {
            Look::Plain => text.to_owned(),
            Look::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn port(&mut self, port: &PortReport, report: &Report, length: Length) {
        let name = self.paint(BOLD, &format!("port {}", port.port));
        let nic = match (port.nic, report.source) {
            (Some(nic), Source::Table) => format!("{nic}, by DPDK {}'s documents", report.dpdk),
            (Some(nic), Source::Device) => format!("{nic} ({}), its driver was asked", port.driver),
            (None, _) => format!("{}, its driver was asked", port.driver),
        };
        let (rules, classes) = (port.rules.len(), port.classes.len());
        let room = port.rules_max.filter(|room| *room > 0);
        let room = room.map(|room| format!(" of {room}")).unwrap_or_default();
        self.line(&format!(
            "{name}: {nic}; {}, {}, {rules}{room} rule{}",
            plural(usize::from(port.queues), "queue"),
            plural_of(classes, "class", "classes"),
            if rules == 1 { "" } else { "s" },
        ));
        if let Some(hash) = &port.hash {
            self.wrapped("  hash: ", &hash.words);
        }
        let pace = port.rules_per_second.map(|pace| pace.words()).unwrap_or_default();
        if !pace.is_empty() {
            self.line(&format!("  rules a second, measured: {pace}"));
        }
        for (why, rules) in &port.refused {
            self.wrapped("  ", &format!("{} refused: {why}", plural(*rules, "rule")));
        }
        if !port.offload {
            self.line(
                "  offload: false. A run gives it no rules; these are those that it would get",
            );
        }
        if port.classes.is_empty() {
            self.line(
                "  nothing can be told apart before it is looked at: all of it goes the usual way",
            );
            self.line("");
            return;
        }
        self.wrapped("  ", &format!(
            "of its traffic the NIC is likely to drop {}, and to tag {}; the rest is looked up by workers (shares: {})",
            percent(port.dropped_share),
            percent(port.tagged_share),
            port.shares
        ));
        self.line("");
        self.classes(port, length);
        self.software(port);
        self.rules(port, length);
    }

    fn classes(&mut self, port: &PortReport, length: Length) {
        let rows = rows(&port.classes, length);
        let numbers: Vec<String> = rows.iter().map(Row::numbers).collect();
        let width = numbers.iter().map(String::len).max().unwrap_or(0).max("class".len());
        let ways: Vec<String> =
            rows.iter().map(|row| cut(row.first().map_or("", |c| &c.way), WAY)).collect();
        let way_width =
            ways.iter().map(|w| w.chars().count()).max().unwrap_or(0).max("where".len());
        let head = format!(
            "  {:>width$}  {:>6}  {:10}  {:>5}  {:>9}  {:way_width$}  what",
            "class", "share", "rung", "rules", "clocks", "where"
        );
        let head = self.paint(DIM, &head);
        self.line(&head);
        let room =
            WIDTH.saturating_sub(2 + width + 2 + 6 + 2 + 10 + 2 + 5 + 2 + 9 + 2 + way_width + 2);
        for ((row, numbers), way) in rows.iter().zip(&numbers).zip(&ways) {
            let Some(first) = row.first() else { continue };
            let rung = self.paint(color_of(first.rung), &format!("{:10}", first.rung));
            let clocks = match first.cycles == first.cycles_in_software {
                true => first.cycles.to_string(),
                false => format!("{} ({})", first.cycles, first.cycles_in_software),
            };
            let rules: usize = row.classes.iter().map(|c| c.rules).sum();
            let share: f64 = row.classes.iter().map(|c| c.share).sum();
            let star = if first.rules > 0 && !first.why.is_empty() { "*" } else { "" };
            let line = format!(
                "  {numbers:>width$}  {:>6}  {rung}  {:>5}  {clocks:>9}  {way:way_width$}  {}",
                percent(share),
                format!("{rules}{star}"),
                cut(&row.what(), room)
            );
            self.line(&line);
        }
        if rows.len() < port.classes.len() {
            self.line("  (--all shows each class)");
        }
        self.line("");
    }

    /// What stays in software, and why: each reason once.
    fn software(&mut self, port: &PortReport) {
        let mut reasons: Vec<(&str, Vec<&ClassReport>)> = Vec::new();
        for class in &port.classes {
            for why in &class.why {
                match reasons.iter_mut().find(|(said, _)| said == why) {
                    Some((_, classes)) => classes.push(class),
                    None => reasons.push((why, vec![class])),
                }
            }
        }
        let head = self.paint(BOLD, "  in software");
        self.line(&head);
        for (why, classes) in reasons.iter().take(REASONS_MAX) {
            let numbers = numbers(classes.iter().map(|c| c.class));
            let share: f64 = classes.iter().map(|c| c.share).sum();
            let word = if classes.len() == 1 { "class" } else { "classes" };
            let partly = classes.iter().all(|c| c.rules > 0);
            let partly = if partly { ", in part (*)" } else { "" };
            self.wrapped(
                "    ",
                &format!("{word} {} ({}{partly}): {why}", cut(&numbers, 40), percent(share)),
            );
        }
        if reasons.len() > REASONS_MAX {
            self.line(&format!(
                "    and {} more reasons: --json has them",
                reasons.len() - REASONS_MAX
            ));
        }
        self.wrapped(
            "    ",
            "fragments, protocols other than TCP, UDP, SCTP and ICMP, and what is of no class: no rule names them",
        );
        let tagged = match port.without_vlan {
            WithoutVlan::Any => None,
            WithoutVlan::Untagged => Some("frames with a VLAN: a rule that names none takes none"),
            WithoutVlan::Unknown => Some(
                "perhaps frames with a VLAN: whether rules that name none take them is not documented",
            ),
        };
        if let Some(tagged) = tagged.filter(|_| !port.rules.is_empty()) {
            self.wrapped("    ", tagged);
        }
        self.line("");
    }

    fn rules(&mut self, port: &PortReport, length: Length) {
        if port.rules.is_empty() {
            return;
        }
        let head = self.paint(BOLD, "  rules, in order, as testpmd takes them");
        self.line(&head);
        let shown = if length == Length::Whole { port.rules.len() } else { RULES_MAX };
        for rule in port.rules.iter().take(shown) {
            self.line(&format!("    {}", rule.testpmd));
        }
        if let Some(more) = port.rules.len().checked_sub(shown).filter(|more| *more > 0) {
            self.line(&format!("    and {more} more: --all shows them"));
        }
        self.line("");
    }

    fn chains(&mut self, report: &Report) {
        let mut by_why: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
        for chain in &report.chains {
            by_why.entry((chain.same_shard, &chain.why)).or_default().push(&chain.chain);
        }
        if by_why.is_empty() {
            return;
        }
        let head = self.paint(BOLD, "both directions of a flow on one worker");
        self.line(&head);
        for ((same, why), chains) in by_why {
            let answer = if same { "yes" } else { "no" };
            self.wrapped("  ", &format!("{}: {answer}, {why}", chains.join(", ")));
        }
        self.line("");
    }

    /// Text in lines that fit, the later ones set in.
    fn wrapped(&mut self, lead: &str, text: &str) {
        let mut line = lead.to_owned();
        let indent = " ".repeat(lead.len() + 2);
        for word in text.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.trim() != "" {
                self.line(&line);
                line.clone_from(&indent);
            } else if !line.ends_with(' ') {
                line.push(' ');
            }
            let _ = write!(line, "{word}");
        }
        self.line(&line);
    }
}

impl<'r> Row<'r> {
    fn first(&self) -> Option<&'r ClassReport> {
        self.classes.first().copied()
    }

    fn numbers(&self) -> String {
        match self.classes.as_slice() {
            [] => String::new(),
            [one] => one.class.to_string(),
            [first, .., last] => format!("{}-{}", first.class, last.class),
        }
    }

    fn what(&self) -> String {
        let Some(first) = self.first() else { return String::new() };
        let more = first.what.len().saturating_sub(1);
        let what = first.what.first().map_or("", String::as_str);
        let what = if more > 0 { format!("{what} and {more} more") } else { what.to_owned() };
        match self.classes.len() {
            1 => what,
            count => format!("{count} alike, such as {what}"),
        }
    }
}

/// Classes that stand side by side and are alike but for their packets are one row, where there are many.
fn rows(classes: &[ClassReport], length: Length) -> Vec<Row<'_>> {
    let alike = |a: &ClassReport, b: &ClassReport| {
        (a.rung, &a.way, &a.why, a.rules > 0) == (b.rung, &b.way, &b.why, b.rules > 0)
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for class in classes {
        let joins = length == Length::Short && classes.len() > ROWS_MAX;
        match rows.last_mut() {
            Some(row) if joins && row.first().is_some_and(|first| alike(first, class)) => {
                row.classes.push(class);
            }
            _ => rows.push(Row { classes: vec![class] }),
        }
    }
    rows
}

/// `1, 3-5`.
fn numbers(all: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in all {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        p if p < 0.05 => "<0.1 %".to_owned(),
        p if p < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

/// At most so many characters; what is left out shows.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect()
}

fn plural(count: usize, word: &str) -> String {
    plural_of(count, word, &format!("{word}s"))
}

fn plural_of(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn color_of(rung: &str) -> &'static str {
    match rung {
        "drop" | "mark+rss" | "mark+queue" => "32",
        "queue" => "33",
        _ => "2",
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
/// Columns of a page.
const WIDTH: usize = 118;
/// The widest that a way is shown.
const WAY: usize = 36;
/// More classes than that are shown in rows of those alike.
const ROWS_MAX: usize = 24;
/// Rules that are shown unless all are asked for.
const RULES_MAX: usize = 24;
const REASONS_MAX: usize = 12;
