//! The rules, with their variables and classes, from files.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;

use super::SuricataYaml;
use crate::ids::detect;
use crate::ids::inspector::HEADER_EVENTS;
use crate::ids::rules::{
    AlertLimits, BadVariable, Classes, NotLoaded, Rules, Setup, Source, Variables,
};

/// What came of the files of rules.
#[derive(Debug)]
pub struct RuleFiles {
    /// The rules.
    pub rules: Rules,
    /// Their events, by number.
    pub events: Vec<String>,
    /// What the `threshold.config` says of them, if there is one.
    pub limits: Option<AlertLimits>,
}

/// Files, and how they were when they were read.
#[derive(Clone, Debug, Default)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// When a file was written, and its size.
type Stamp = (SystemTime, u64);

impl Stamps {
    /// Adds a file, as it is now: before it is read.
    pub fn add(&mut self, path: &Path) {
        self.0.push((path.to_owned(), stamp(path)));
    }

    /// Whether all are as they were.
    pub fn are_current(&self) -> bool {
        self.0.iter().all(|(path, then)| stamp(path) == *then)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

impl RuleFiles {
    /// Reads them. A rule that is wrong, or asks for what there is not, is left out and told; a file that cannot be read, or
    /// a variable, is a mistake. `None`: reported.
    pub(super) fn read(
        section: &Section<'_>,
        yaml: &SuricataYaml,
        stamps: &mut Stamps,
        report: &mut Report,
    ) -> Option<Self> {
        if let Some(path) = section.text("suricata-yaml") {
            stamps.add(Path::new(&path));
        }
        let variables = variables(section, yaml, report);
        let classes = classes(section, stamps, report);
        let headers = HEADER_EVENTS.iter().map(|name| (*name).to_owned());
        let events: Vec<String> = detect::events().into_iter().chain(headers).collect();
        let mut limits = limits(section, yaml, &variables, stamps, report);
        let mut files = Vec::new();
        for file in section.values::<String>("rules") {
            let path = Path::new(&file.value);
            stamps.add(path);
            match std::fs::read(path) {
                Ok(bytes) => files.push((file.value, bytes)),
                Err(why) => {
                    report.error(file.span, format!("{}: {why}", path.display()));
                }
            }
        }
        if report.has_errors() {
            return None;
        }
        let names: Vec<&str> = events.iter().map(String::as_str).collect();
        let setup = Setup { variables: &variables, classes: &classes, events: &names };
        let sources: Vec<Source<'_>> =
            files.iter().map(|(name, text)| Source { name, text }).collect();
        let mut rules = Rules::read(&sources, &setup);
        if let Some(limits) = &mut limits {
            limits.apply(&mut rules);
        }
        Some(Self { rules, events, limits })
    }

    /// What there is to tell: how many rules are loaded, and each that is not, with its place.
    pub fn notes(&self) -> Vec<String> {
        let Rules { rules, skipped, broken, replaced, .. } = &self.rules;
        let mut sum = format!(
            "{} rules loaded, {} skipped, {} broken",
            rules.len(),
            skipped.len(),
            broken.len()
        );
        if !replaced.is_empty() {
            let _ = write!(sum, ", {} replaced", replaced.len());
        }
        let of = |what: &'static str, rules: &[NotLoaded]| -> Vec<String> {
            rules.iter().map(|rule| format!("{what} {rule}")).collect()
        };
        let mut notes =
            [vec![sum], of("skipped", skipped), of("broken", broken), of("replaced", replaced)]
                .concat();
        if let Some(limits) = &self.limits {
            let AlertLimits { broken, unused, .. } = limits;
            notes.push(format!("{} limits loaded, {} broken", limits.len(), broken.len()));
            notes.extend(of("broken", broken));
            notes.extend(of("unused", unused));
        }
        notes
    }
}

/// What a `threshold.config` says. That of a `suricata.yaml` need not be there, as for Suricata.
fn limits(
    section: &Section<'_>,
    yaml: &SuricataYaml,
    variables: &Variables,
    stamps: &mut Stamps,
    report: &mut Report,
) -> Option<AlertLimits> {
    let own = section.text("threshold-file");
    let name = own.as_deref().or_else(|| yaml.word("threshold-file"))?;
    stamps.add(Path::new(name));
    match std::fs::read(name) {
        Ok(text) => Some(AlertLimits::read(&Source { name, text: &text }, variables)),
        Err(why) => {
            if own.is_some() {
                report.error(section.span_of("threshold-file"), format!("{name}: {why}"));
            } else {
                report.warning(section.span_of("suricata-yaml"), format!("{name}: {why}"));
            }
            None
        }
    }
}

/// Those that Suricata delivers, those of the `suricata.yaml` over them, and the chain file's over both.
fn variables(section: &Section<'_>, yaml: &SuricataYaml, report: &mut Report) -> Variables {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut addresses: Vec<_> = ADDRESSES.iter().copied().map(pair).collect();
    let mut ports: Vec<_> = PORTS.iter().copied().map(pair).collect();
    addresses.extend(groups(yaml, "vars.address-groups"));
    ports.extend(groups(yaml, "vars.port-groups"));
    if let Some(own) = section.record("vars") {
        for (key, all) in [("address-groups", &mut addresses), ("port-groups", &mut ports)] {
            for (name, values) in own.lists::<String>(key) {
                let values: Vec<String> = values.into_iter().map(|v| v.value).collect();
                all.push((name.value, list(&values)));
            }
        }
    }
    let (variables, wrong) = Variables::new(&addresses, &ports);
    for bad in roots(wrong) {
        // Where the chain file says it; else the suricata.yaml does.
        let own = section.record("vars").and_then(|own| {
            let groups = ["address-groups", "port-groups"].map(|key| own.lists::<String>(key));
            groups.into_iter().flatten().find(|(name, _)| name.value == bad.name)
        });
        let at = own.map_or_else(|| section.span_of("suricata-yaml"), |(name, _)| name.span);
        report.error(at, bad.to_string());
    }
    variables
}

/// Those that are wrong by themselves: one that names another is wrong because of that.
fn roots(wrong: Vec<BadVariable>) -> Vec<BadVariable> {
    let names = |bad: &BadVariable, other: &str| {
        let after = bad.value.split('$').skip(1);
        let name = |rest: &str| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rest.get(..end.unwrap_or(rest.len())) == Some(other)
        };
        after.into_iter().any(name)
    };
    // Circles have no beginning: all of theirs are told.
    let mut told: Vec<&BadVariable> =
        wrong.iter().filter(|bad| !wrong.iter().any(|other| names(bad, &other.name))).collect();
    if told.is_empty() {
        told = wrong.iter().collect();
    }
    told.into_iter().cloned().collect()
}

/// The groups of a `suricata.yaml`: a text each, or a list.
fn groups(yaml: &SuricataYaml, path: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for (name, word) in yaml.below(path) {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, words)) => words.push(word.to_owned()),
            None => all.push((name.to_owned(), vec![word.to_owned()])),
        }
    }
    all.into_iter().map(|(name, words)| (name, list(&words))).collect()
}

fn list(words: &[String]) -> String {
    match words {
        [one] => one.clone(),
        many => format!("[{}]", many.join(",")),
    }
}

fn classes(section: &Section<'_>, stamps: &mut Stamps, report: &mut Report) -> Classes {
    let Some(file) = section.text("classification") else { return Classes::default() };
    let at = section.span_of("classification");
    stamps.add(Path::new(&file));
    match std::fs::read(&file) {
        Ok(bytes) => {
            let (classes, wrong) = Classes::read(&String::from_utf8_lossy(&bytes));
            for bad in wrong.iter().take(WRONG_MAX) {
                report.warning(at, format!("{file}: {bad}"));
            }
            classes
        }
        Err(why) => {
            report.error(at, format!("{file}: {why}"));
            Classes::default()
        }
    }
}

/// Wrong lines of a classification that are told.
const WRONG_MAX: usize = 10;

/// `address-groups` as Suricata delivers them.
const ADDRESSES: &[(&str, &str)] = &[
    ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
    ("EXTERNAL_NET", "!$HOME_NET"),
    ("HTTP_SERVERS", "$HOME_NET"),
    ("SMTP_SERVERS", "$HOME_NET"),
    ("SQL_SERVERS", "$HOME_NET"),
    ("DNS_SERVERS", "$HOME_NET"),
    ("TELNET_SERVERS", "$HOME_NET"),
    ("AIM_SERVERS", "$EXTERNAL_NET"),
    ("DC_SERVERS", "$HOME_NET"),
    ("DNP3_SERVER", "$HOME_NET"),
    ("DNP3_CLIENT", "$HOME_NET"),
    ("MODBUS_CLIENT", "$HOME_NET"),
    ("MODBUS_SERVER", "$HOME_NET"),
    ("ENIP_CLIENT", "$HOME_NET"),
    ("ENIP_SERVER", "$HOME_NET"),
];

/// `port-groups` as Suricata delivers them.
const PORTS: &[(&str, &str)] = &[
    ("HTTP_PORTS", "80"),
    ("SHELLCODE_PORTS", "!80"),
    ("ORACLE_PORTS", "1521"),
    ("SSH_PORTS", "22"),
    ("DNP3_PORTS", "20000"),
    ("MODBUS_PORTS", "502"),
    ("FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]"),
    ("FTP_PORTS", "21"),
    ("GENEVE_PORTS", "6081"),
    ("VXLAN_PORTS", "4789"),
    ("TEREDO_PORTS", "3544"),
    ("SIP_PORTS", "[5060, 5061]"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> Vec<String> {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        roots(Variables::new(&pairs, &[]).1).into_iter().map(|bad| bad.name).collect()
    }

    #[test]
    fn of_variables_that_name_a_wrong_one_the_wrong_one_is_told() {
        let all =
            [("HOME", "10.0.0.0/99"), ("HOME_NET", "::/0"), ("OUT", "!$HOME"), ("A", "[$OUT]")];
        assert_eq!(told(&all), ["HOME"]);
        assert_eq!(told(&[("A", "$B"), ("B", "$A")]), ["A", "B"]);
        assert_eq!(told(&[("A", "$NOWHERE")]), ["A"]);
    }

    #[test]
    fn a_file_that_is_written_again_is_no_longer_what_was_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut stamps = Stamps::default();
        stamps.add(file.path());
        stamps.add(Path::new("/nowhere"));
        assert!(stamps.are_current());
        std::fs::write(file.path(), "more").unwrap();
        assert!(!stamps.are_current());
    }
}
