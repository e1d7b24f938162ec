//! What is logged, and how much of it. The words are those of `eve-log` in a suricata.yaml.

/// What is logged. Of a kind that is `None` or false no record is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `alert`
    pub alert: Option<AlertSettings>,
    /// `drop`
    pub drop: Option<DropSettings>,
    /// `flow`
    pub flow: bool,
    /// `http`
    pub http: Option<HttpSettings>,
    /// `dns`
    pub dns: Option<DnsSettings>,
    /// `tls`
    pub tls: Option<TlsSettings>,
    /// `ssh`
    pub ssh: bool,
    /// `anomaly`
    pub anomaly: Option<AnomalySettings>,
    /// `stats`
    pub stats: Option<StatsSettings>,
    /// `metadata`: flowbits and the like in every record.
    pub metadata: bool,
    /// `community-id` with its `community-id-seed`
    pub community_id: Option<u16>,
}

/// `alert`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// `metadata`: the flow, the application and the rule's own metadata.
    pub metadata: bool,
    /// `payload`: in base64.
    pub payload: bool,
    /// `payload-printable`
    pub payload_printable: bool,
    /// `payload-length`
    pub payload_length: bool,
    /// `payload-buffer-size`: bytes of a stream that are taken for it.
    pub payload_buffer_size: usize,
    /// `packet`: the frame in base64.
    pub packet: bool,
    /// `http-body`: in base64.
    pub http_body: bool,
    /// `http-body-printable`
    pub http_body_printable: bool,
    /// `tagged-packets`: packets of rules with `tag`.
    pub tagged_packets: bool,
    /// `verdict`
    pub verdict: bool,
    /// `detect.guess-applayer-tx`: what matched outside of transactions is told with the only one that is open.
    pub guess_transaction: bool,
}

/// `drop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropSettings {
    /// `alerts`: with the rule that dropped it.
    pub alerts: bool,
    /// `flows`
    pub flows: DroppedFlows,
    /// `verdict`
    pub verdict: bool,
}

/// Which packets of a flow that is dropped have a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedFlows {
    /// The first of each direction, and those that a rule matched.
    Start,
    /// Each.
    All,
}

/// `http`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// `extended`
    pub extended: bool,
    /// `dump-all-headers`
    pub dump_headers: HeaderDump,
}

/// Whose headers are logged whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderDump {
    /// `none`
    None,
    /// `request`
    Request,
    /// `response`
    Response,
    /// `both`
    Both,
}

/// `dns`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// `version`
    pub version: DnsVersion,
    /// `requests`
    pub requests: bool,
    /// `responses`
    pub responses: bool,
    /// `formats: detailed`
    pub detailed: bool,
    /// `formats: grouped`
    pub grouped: bool,
    /// `types`: of the queries; `None`: all.
    pub types: Option<Vec<u16>>,
}

/// The form of dns records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsVersion {
    /// A record a query, `type` is `query` or `answer`.
    V2,
    /// A record a message, `type` is `request` or `response`.
    V3,
}

/// `tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `extended`
    pub extended: bool,
    /// `session-resumption`: also of sessions without a certificate.
    pub session_resumption: bool,
    /// `custom`: these fields and no others.
    pub custom: Option<Vec<TlsField>>,
}

/// A field of `custom`; each is named as in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`TlsField::of` has the words")]
pub enum TlsField {
    Subject,
    Issuer,
    Serial,
    Fingerprint,
    Sni,
    Version,
    NotBefore,
    NotAfter,
    SessionResumed,
    Certificate,
    Chain,
    Ja3,
    Ja3s,
    Ja4,
    ClientAlpns,
    ServerAlpns,
    SubjectAltName,
}

/// `anomaly`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnomalySettings {
    /// `types: decode`
    pub decode: bool,
    /// `types: stream`
    pub stream: bool,
    /// `types: applayer`
    pub applayer: bool,
}

/// `stats`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsSettings {
    /// `interval`: seconds between records; of a replay there is one at the end.
    pub interval: u32,
}

impl Default for Settings {
    /// What a suricata.yaml has as it is delivered, and drops.
    fn default() -> Self {
        Self {
            alert: Some(AlertSettings::default()),
            drop: Some(DropSettings::default()),
            flow: true,
            http: Some(HttpSettings { extended: true, dump_headers: HeaderDump::None }),
            dns: Some(DnsSettings::default()),
            tls: Some(TlsSettings { extended: true, ..TlsSettings::default() }),
            ssh: true,
            anomaly: Some(AnomalySettings::default()),
            stats: Some(StatsSettings::default()),
            metadata: true,
            community_id: None,
        }
    }
}

impl Settings {
    /// Nothing is logged.
    pub fn none() -> Self {
        Self {
            alert: None,
            drop: None,
            flow: false,
            http: None,
            dns: None,
            tls: None,
            ssh: false,
            anomaly: None,
            stats: None,
            ..Self::default()
        }
    }
}

impl AlertSettings {
    /// Whether alerts have bodies of HTTP.
    pub fn wants_bodies(&self) -> bool {
        self.http_body || self.http_body_printable
    }

    /// Whether alerts have the bytes that a rule matched on.
    pub fn wants_payload(&self) -> bool {
        self.payload || self.payload_printable || self.payload_length
    }
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            metadata: true,
            payload: false,
            payload_printable: false,
            payload_length: false,
            payload_buffer_size: 4 << 10,
            packet: false,
            http_body: false,
            http_body_printable: false,
            tagged_packets: true,
            verdict: false,
            guess_transaction: false,
        }
    }
}

impl Default for DropSettings {
    fn default() -> Self {
        Self { alerts: true, flows: DroppedFlows::Start, verdict: false }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { extended: true, dump_headers: HeaderDump::None }
    }
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            version: DnsVersion::V3,
            requests: true,
            responses: true,
            detailed: true,
            grouped: true,
            types: None,
        }
    }
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { extended: false, session_resumption: true, custom: None }
    }
}

impl Default for AnomalySettings {
    fn default() -> Self {
        Self { decode: false, stream: false, applayer: true }
    }
}

impl Default for StatsSettings {
    fn default() -> Self {
        Self { interval: 8 }
    }
}

impl TlsField {
    /// By its word in `custom`.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "subject" => Self::Subject,
            "issuer" => Self::Issuer,
            "serial" => Self::Serial,
            "fingerprint" => Self::Fingerprint,
            "sni" => Self::Sni,
            "version" => Self::Version,
            "not_before" => Self::NotBefore,
            "not_after" => Self::NotAfter,
            "session_resumed" => Self::SessionResumed,
            "certificate" => Self::Certificate,
            "chain" => Self::Chain,
            "ja3" => Self::Ja3,
            "ja3s" => Self::Ja3s,
            "ja4" => Self::Ja4,
            "client_alpns" => Self::ClientAlpns,
            "server_alpns" => Self::ServerAlpns,
            "subjectaltname" => Self::SubjectAltName,
            _ => return None,
        })
    }
}
