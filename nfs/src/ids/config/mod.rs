//! What an `ids` is to do: the chain file's keys over those of a `suricata.yaml`, and the files that both name.

mod keys;
mod log;
mod rule_files;
mod streams;
mod suricata_yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::nf::Surroundings;

pub use self::keys::KEYS;
pub use self::log::{LogConfig, LogTo};
pub use self::rule_files::{RuleFiles, Stamps};
pub use self::streams::Memory;
use self::suricata_yaml::{BadWord, SuricataYaml};
use super::blocklist::{Blocklists, Kind, ListAction, Wanted};
use super::detect::ActionOrder;
use super::inspector::{Bypass, Checksums, Settings};
use super::stream;

/// What an `ids` is to do.
#[derive(Debug)]
pub struct Config {
    /// Whether rules drop packets.
    pub mode: Mode,
    /// Passive: where the analyser runs.
    pub analyser_cpu: Option<usize>,
    /// How a worker inspects.
    pub settings: Settings,
    /// What may be taken.
    pub memory: Memory,
    /// Where records go.
    pub log: LogConfig,
    /// The rules.
    pub rules: RuleFiles,
    /// All files that this was read from.
    pub stamps: Stamps,
    /// The blocklists.
    pub blocklists: Blocklists,
    /// Where compiled patterns are kept.
    pub cache: Option<PathBuf>,
    /// The actions in the order in which their rules are evaluated: `action-order` of a `suricata.yaml`.
    pub action_order: ActionOrder,
}

/// Whether rules drop packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They do, before anything of a packet leaves.
    Inline,
    /// They look at copies; the packets are gone by then.
    Passive,
}

impl Config {
    /// Reads all; every mistake is reported with its place.
    pub fn read(
        section: &Section<'_>,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let yaml = suricata_yaml(section, report);
        let mut words = Words { section, report };
        let memory = Memory::read(&yaml, &mut words);
        let mut settings = streams::read(&yaml, &memory, &mut words);
        let log = LogConfig::read(&yaml, around, &mut words);
        let mode = match section.choice("mode") {
            Some("passive") => Mode::Passive,
            _ => Mode::Inline,
        };
        settings.streams.mode = match mode {
            Mode::Inline => stream::Mode::Inline,
            Mode::Passive => stream::Mode::Passive,
        };
        settings.checksums = match section.choice("checksums") {
            Some("ignore") => Checksums::Ignore,
            _ => Checksums::Validate,
        };
        settings.bypass = match section.choice("bypass") {
            Some("off") => Bypass::Never,
            _ => Bypass::DeepOrEncrypted,
        };
        settings.records = log.settings.clone();
        settings.ports = around.ports.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut stamps = Stamps::default();
        let blocklists = blocklists(section, &mut stamps, report);
        let action_order = match yaml.has("action-order") {
            true => ActionOrder::of(yaml.words("action-order")),
            false => ActionOrder::default(),
        };
        let rules = RuleFiles::read(section, &yaml, &mut stamps, report)?;
        if report.has_errors() {
            return None;
        }
        Some(Self {
            mode,
            analyser_cpu: section.integer("analyser-cpu").and_then(|n| usize::try_from(n).ok()),
            settings,
            memory,
            blocklists,
            stamps,
            log,
            rules,
            cache: section.text("database-cache").map(PathBuf::from),
            action_order,
        })
    }
}

/// Reads words of a `suricata.yaml`, and reports those that are not what they should be.
pub(in crate::ids) struct Words<'w, 's> {
    /// The chain file's.
    pub section: &'w Section<'s>,
    /// Where mistakes go.
    pub report: &'w mut Report,
}

impl Words<'_, '_> {
    /// What was read; a mistake is told, and nothing was said then.
    pub fn told<T>(&mut self, read: Result<Option<T>, BadWord>) -> Option<T> {
        read.unwrap_or_else(|why| {
            self.report.error(self.place(&why.path), why.to_string());
            None
        })
    }

    /// Where what is said about a path of the `suricata.yaml` is said.
    fn place(&self, path: &str) -> nfv_core::chain::source::Span {
        let set = self.section.pairs::<String, String>("suricata-set");
        match set.iter().find(|(known, _)| known.value == path) {
            Some((_, word)) => word.span,
            None => self.section.span_of("suricata-yaml"),
        }
    }
}

/// What the `suricata.yaml` says, if there is one, and what is set over it.
fn suricata_yaml(section: &Section<'_>, report: &mut Report) -> SuricataYaml {
    let path = section.text("suricata-yaml");
    let mut yaml = match path.as_deref().map(|path| SuricataYaml::open(Path::new(path))) {
        None => SuricataYaml::default(),
        Some(Ok(yaml)) => yaml,
        Some(Err(why)) => {
            let shown = path.unwrap_or_default();
            report.error(section.span_of("suricata-yaml"), format!("{shown}: {why}"));
            SuricataYaml::default()
        }
    };
    for (path, word) in section.pairs::<String, String>("suricata-set") {
        yaml.set(&path.value, &word.value);
    }
    yaml
}

/// Loads the blocklists; reports what is wrong with each where the chain file names it.
fn blocklists(section: &Section<'_>, stamps: &mut Stamps, report: &mut Report) -> Blocklists {
    let one = |list: &Section<'_>| {
        Some(Wanted {
            path: list.text("file")?.into(),
            kind: match list.choice("kind")? {
                "port" => Kind::Ports,
                "domain" => Kind::Domains,
                _ => Kind::Addresses,
            },
            action: match list.choice("action")? {
                "alert" => ListAction::Alert,
                _ => ListAction::Drop,
            },
        })
    };
    let sections = section.sections("blocklists");
    let wanted: Option<Vec<Wanted>> = sections.iter().map(one).collect();
    // What is not there is reported already.
    let Some(wanted) = wanted else { return Blocklists::default() };
    wanted.iter().for_each(|list| stamps.add(&list.path));
    Blocklists::load(&wanted).unwrap_or_else(|wrong| {
        for (place, line) in wrong {
            let at = sections.get(place).map_or(section.span(), |list| list.span_of("file"));
            report.error(at, line);
        }
        Blocklists::default()
    })
}
