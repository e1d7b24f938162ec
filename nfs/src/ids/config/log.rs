//! Where records go, and which of them.

use std::path::PathBuf;

use nfv_core::nf::Surroundings;

use super::keys::LOG_TYPES;
use super::{SuricataYaml, Words};
use crate::ids::eve::{
    AlertSettings, AnomalySettings, DnsSettings, DnsVersion, DropSettings, DroppedFlows,
    HeaderDump, HttpSettings, Settings, StatsSettings, TlsField, TlsSettings,
};

/// Where records go, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Where.
    pub to: LogTo,
    /// Which.
    pub settings: Settings,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// To the end of a file.
    File(PathBuf),
    /// To who listens on a socket.
    Socket(PathBuf),
}

impl LogConfig {
    pub(super) fn read(
        yaml: &SuricataYaml,
        around: Surroundings<'_>,
        words: &mut Words<'_, '_>,
    ) -> Self {
        let own = words.section.record("log");
        let text = |key: &str| own.as_ref().and_then(|log| log.text(key)).map(PathBuf::from);
        let file = |path: PathBuf| {
            LogTo::File(match around.out {
                // A path of its own stays where it is.
                Some(folder) => folder.join(path),
                None => path,
            })
        };
        let to = match (text("socket"), text("file")) {
            (Some(_), Some(_)) => {
                let at = own.as_ref().map(|log| log.span_of("socket")).unwrap_or_default();
                words.report.error(at, "a log goes to a `file` or to a `socket`, not to both");
                file(PathBuf::from(FILE))
            }
            (Some(socket), None) => LogTo::Socket(socket),
            (None, path) => file(path.unwrap_or_else(|| PathBuf::from(FILE))),
        };
        let mut settings = eve_log(yaml, words);
        let guess = words.told(yaml.flag("detect.guess-applayer-tx"));
        if let (Some(guess), Some(alert)) = (guess, &mut settings.alert) {
            alert.guess_transaction = guess;
        }
        if let Some(log) = own {
            if log.has("types") {
                let types: Vec<String> =
                    log.values::<String>("types").into_iter().map(|t| t.value).collect();
                settings = only(settings, |kind| types.iter().any(|t| t == kind));
            }
            let seed = log.integer("community-id-seed").and_then(|seed| u16::try_from(seed).ok());
            match log.flag("community-id") {
                Some(true) => settings.community_id = Some(seed.unwrap_or(0)),
                Some(false) => settings.community_id = None,
                None => {}
            }
            if let (Some(true), Some(alert)) = (log.flag("payload"), &mut settings.alert) {
                (alert.payload, alert.payload_printable) = (true, true);
            }
        }
        Self { to, settings }
    }
}

/// Those of the kinds that are asked for; one that was not logged is logged as usual.
fn only(settings: Settings, asked: impl Fn(&str) -> bool) -> Settings {
    fn some<T: Default>(kept: Option<T>, is_asked: bool) -> Option<T> {
        is_asked.then(|| kept.unwrap_or_default())
    }
    Settings {
        alert: some(settings.alert, asked("alert")),
        drop: some(settings.drop, asked("drop")),
        flow: asked("flow"),
        http: some(settings.http, asked("http")),
        dns: some(settings.dns, asked("dns")),
        tls: some(settings.tls, asked("tls")),
        ssh: asked("ssh"),
        anomaly: some(settings.anomaly, asked("anomaly")),
        stats: some(settings.stats, asked("stats")),
        ..settings
    }
}

/// What the `eve-log` of a `suricata.yaml` asks for; all kinds where there is none.
fn eve_log(yaml: &SuricataYaml, words: &mut Words<'_, '_>) -> Settings {
    let usual = Settings::default();
    if !yaml.has(EVE) || words.told(yaml.flag(&format!("{EVE}.enabled"))) == Some(false) {
        return usual;
    }
    let kinds: Vec<&str> = LOG_TYPES
        .iter()
        .copied()
        .filter(|kind| {
            let path = format!("{EVE}.types.{kind}");
            yaml.words(&format!("{EVE}.types")).any(|word| word == *kind) || yaml.has(&path)
        })
        .collect();
    let community = words.told(yaml.flag(&format!("{EVE}.community-id"))) == Some(true);
    let seed = words.told(yaml.number(&format!("{EVE}.community-id-seed")));
    let seed = seed.and_then(|seed| u16::try_from(seed).ok()).unwrap_or(0);
    let settings = Settings {
        alert: Some(alert(&mut EveKind::of("alert", yaml, words))),
        drop: Some(drops(&mut EveKind::of("drop", yaml, words))),
        http: Some(http(&mut EveKind::of("http", yaml, words))),
        dns: Some(dns(&mut EveKind::of("dns", yaml, words))),
        tls: Some(tls(&mut EveKind::of("tls", yaml, words))),
        anomaly: Some(anomaly(&mut EveKind::of("anomaly", yaml, words))),
        stats: Some(StatsSettings::default()),
        metadata: true,
        community_id: community.then_some(seed),
        ..usual
    };
    let metadata = words.told(yaml.flag(&format!("{EVE}.metadata")));
    let metadata = metadata.unwrap_or(true);
    Settings { metadata, ..only(settings, |kind| kinds.contains(&kind)) }
}

/// What is said of a kind of records.
struct EveKind<'k, 'w, 's> {
    path: String,
    yaml: &'k SuricataYaml,
    words: &'k mut Words<'w, 's>,
}

impl<'k, 'w, 's> EveKind<'k, 'w, 's> {
    fn of(name: &str, yaml: &'k SuricataYaml, words: &'k mut Words<'w, 's>) -> Self {
        Self { path: format!("{EVE}.types.{name}"), yaml, words }
    }

    /// A flag, or what is so without it.
    fn flag(&mut self, key: &str, usual: bool) -> bool {
        let read = self.yaml.flag(&format!("{}.{key}", self.path));
        self.words.told(read).unwrap_or(usual)
    }

    fn word(&self, key: &str) -> Option<&str> {
        self.yaml.word(&format!("{}.{key}", self.path))
    }

    fn words(&self, key: &str) -> Option<Vec<&str>> {
        let path = format!("{}.{key}", self.path);
        let all: Vec<&str> = self.yaml.words(&path).collect();
        (!all.is_empty()).then_some(all)
    }
}

fn alert(kind: &mut EveKind<'_, '_, '_>) -> AlertSettings {
    let usual = AlertSettings::default();
    let size = kind.yaml.size(&format!("{}.payload-buffer-size", kind.path));
    let size = kind.words.told(size).and_then(|size| usize::try_from(size).ok());
    AlertSettings {
        metadata: kind.flag("metadata", usual.metadata),
        payload: kind.flag("payload", usual.payload),
        payload_printable: kind.flag("payload-printable", usual.payload_printable),
        payload_length: kind.flag("payload-length", usual.payload_length),
        payload_buffer_size: size.map_or(usual.payload_buffer_size, |size| size.min(PAYLOAD_MAX)),
        packet: kind.flag("packet", usual.packet),
        http_body: kind.flag("http-body", usual.http_body),
        http_body_printable: kind.flag("http-body-printable", usual.http_body_printable),
        tagged_packets: kind.flag("tagged-packets", usual.tagged_packets),
        verdict: kind.flag("verdict", usual.verdict),
        guess_transaction: usual.guess_transaction,
    }
}

fn drops(kind: &mut EveKind<'_, '_, '_>) -> DropSettings {
    let usual = DropSettings::default();
    DropSettings {
        alerts: kind.flag("alerts", usual.alerts),
        flows: match kind.word("flows") {
            Some("all") => DroppedFlows::All,
            Some("start") => DroppedFlows::Start,
            _ => usual.flows,
        },
        verdict: kind.flag("verdict", usual.verdict),
    }
}

fn http(kind: &mut EveKind<'_, '_, '_>) -> HttpSettings {
    let dump_headers = match kind.word("dump-all-headers") {
        Some("request") => HeaderDump::Request,
        Some("response") => HeaderDump::Response,
        Some("both") => HeaderDump::Both,
        _ => HeaderDump::None,
    };
    HttpSettings { extended: kind.flag("extended", true), dump_headers }
}

fn dns(kind: &mut EveKind<'_, '_, '_>) -> DnsSettings {
    let usual = DnsSettings::default();
    let formats = kind.words("formats");
    let has = |name: &str| formats.as_ref().is_none_or(|formats| formats.contains(&name));
    let (detailed, grouped) = (has("detailed"), has("grouped"));
    let version = match kind.word("version") {
        Some("2") => DnsVersion::V2,
        _ => usual.version,
    };
    let requests = kind.flag("requests", usual.requests);
    let responses = kind.flag("responses", usual.responses);
    DnsSettings { version, requests, responses, detailed, grouped, ..usual }
}

fn tls(kind: &mut EveKind<'_, '_, '_>) -> TlsSettings {
    let usual = TlsSettings::default();
    let custom = kind.words("custom");
    let custom = custom.map(|all| all.into_iter().filter_map(TlsField::of).collect());
    TlsSettings {
        extended: kind.flag("extended", true),
        session_resumption: kind.flag("session-resumption", usual.session_resumption),
        custom,
    }
}

fn anomaly(kind: &mut EveKind<'_, '_, '_>) -> AnomalySettings {
    let usual = AnomalySettings::default();
    AnomalySettings {
        decode: kind.flag("types.decode", usual.decode),
        stream: kind.flag("types.stream", usual.stream),
        applayer: kind.flag("types.applayer", usual.applayer),
    }
}

const EVE: &str = "outputs.eve-log";
/// Where records go when nothing is said.
const FILE: &str = "eve.json";
/// Bytes of a stream in an alert, whatever is asked for.
const PAYLOAD_MAX: usize = 64 << 10;
