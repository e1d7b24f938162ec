//! A handshake of TLS.

use super::json::Object;
use super::text::Texts;
use super::time::seconds;
use super::{Place, Settings, TlsField};
use crate::ids::app::Side;
use crate::ids::app::tls::{Session, version_name};

/// A handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRecord {
    pub(super) words: Texts<WORDS>,
    pub(super) version: Option<u16>,
    pub(super) is_resumed: bool,
    /// From when and until when the certificate counts, in seconds since 1970.
    pub(super) validity: Option<(i64, i64)>,
    /// What client and server offer to speak.
    pub(super) protocols: [Vec<Vec<u8>>; 2],
    /// The certificate's other names.
    pub(super) alternatives: Vec<Vec<u8>>,
    /// The certificates, if they are wanted.
    pub(super) chain: Vec<Vec<u8>>,
}

/// The words of a record, by their place in [`TlsRecord::words`].
pub(super) mod word {
    pub const SUBJECT: usize = 0;
    pub const ISSUER: usize = 1;
    pub const SERIAL: usize = 2;
    pub const FINGERPRINT: usize = 3;
    pub const SERVER_NAME: usize = 4;
    pub const JA3: usize = 5;
    pub const JA3_STRING: usize = 6;
    pub const JA3S: usize = 7;
    pub const JA3S_STRING: usize = 8;
    pub const JA4: usize = 9;
}

impl TlsRecord {
    /// What `settings` want to be said; `None`: nothing.
    pub fn of(session: &Session, place: Place, settings: &Settings) -> Option<Self> {
        let wants_chain = match place {
            Place::Alert => false,
            Place::Record => {
                let tls = settings.tls.as_ref()?;
                if session.certificate().is_none()
                    && session.is_resumed()
                    && !tls.session_resumption
                {
                    return None;
                }
                let custom = tls.custom.as_deref().unwrap_or_default();
                custom.contains(&TlsField::Chain) || custom.contains(&TlsField::Certificate)
            }
        };
        let certificate = session.certificate();
        let (ja3, ja3s) = (session.ja3(), session.ja3s());
        let parts = [
            certificate.map(|c| c.subject.as_slice()),
            certificate.map(|c| c.issuer.as_slice()),
            certificate.map(|c| c.serial.as_slice()),
            certificate.map(|c| c.fingerprint.as_slice()),
            session.server_name(),
            ja3.map(|(_, hash)| hash),
            ja3.map(|(string, _)| string),
            ja3s.map(|(_, hash)| hash),
            ja3s.map(|(string, _)| string),
            session.ja4(),
        ];
        Some(Self {
            words: Texts::gather(parts, MOST_WORD),
            version: session.version(),
            is_resumed: session.is_resumed(),
            validity: certificate.map(|c| (c.not_before, c.not_after)),
            protocols: [Side::ToServer, Side::ToClient]
                .map(|side| session.protocols(side).to_vec()),
            alternatives: certificate.map(|c| c.alternatives.clone()).unwrap_or_default(),
            chain: if wants_chain { session.chain().to_vec() } else { Vec::new() },
        })
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        let lists = self.protocols.iter().flatten().chain(&self.alternatives).chain(&self.chain);
        let lists: usize = lists.map(|item| item.len() + size_of::<Vec<u8>>()).sum();
        size_of::<Self>() + self.words.bytes() + lists
    }
}

impl TlsRecord {
    pub(super) fn write(&self, settings: &Settings, o: &mut Object<'_>) {
        let tls = settings.tls.as_ref();
        let fields = match tls.and_then(|tls| tls.custom.as_deref()) {
            Some(custom) => custom,
            None if tls.is_none_or(|tls| tls.extended) => EXTENDED,
            None => BASIC,
        };
        self.write_fields(fields, o);
    }

    pub(super) fn write_in_alert(&self, o: &mut Object<'_>) {
        self.write_fields(EXTENDED, o);
    }

    fn write_fields(&self, fields: &[TlsField], o: &mut Object<'_>) {
        o.object("tls", |o| fields.iter().for_each(|field| self.write_field(*field, o)));
    }

    fn write_field(&self, field: TlsField, o: &mut Object<'_>) {
        use TlsField as F;
        let time = |o: &mut Object<'_>, key, time| o.text(key, Some(seconds(time).as_bytes()));
        let [client, server] = &self.protocols;
        match field {
            F::Subject => o.text("subject", self.words.get(word::SUBJECT)),
            F::Issuer => o.text("issuerdn", self.words.get(word::ISSUER)),
            F::Serial => o.text("serial", self.words.get(word::SERIAL)),
            F::Fingerprint => o.text("fingerprint", self.words.get(word::FINGERPRINT)),
            F::Sni => o.text("sni", self.words.get(word::SERVER_NAME)),
            F::Version => o.string("version", &version_text(self.version)),
            F::NotBefore => {
                if let Some((from, _)) = self.validity {
                    time(o, "notbefore", from);
                }
            }
            F::NotAfter => {
                if let Some((_, until)) = self.validity {
                    time(o, "notafter", until);
                }
            }
            F::SessionResumed => o.mark("session_resumed", self.is_resumed),
            F::Certificate => {
                o.base64("certificate", self.chain.first().map_or(&[], Vec::as_slice))
            }
            F::Chain if !self.chain.is_empty() => {
                o.list("chain", |list| self.chain.iter().for_each(|der| list.base64(der)));
            }
            F::Chain => {}
            F::Ja3 => self.write_hash("ja3", word::JA3, word::JA3_STRING, o),
            F::Ja3s => self.write_hash("ja3s", word::JA3S, word::JA3S_STRING, o),
            F::Ja4 => o.text("ja4", self.words.get(word::JA4)),
            F::ClientAlpns => write_list("client_alpns", client, o),
            F::ServerAlpns => write_list("server_alpns", server, o),
            F::SubjectAltName => write_list("subjectaltname", &self.alternatives, o),
        }
    }

    fn write_hash(&self, key: &str, hash: usize, string: usize, o: &mut Object<'_>) {
        if self.words.get(hash).is_some() {
            o.object(key, |o| {
                o.text("hash", self.words.get(hash));
                o.text("string", self.words.get(string));
            });
        }
    }
}

fn write_list(key: &str, list: &[Vec<u8>], o: &mut Object<'_>) {
    if !list.is_empty() {
        o.list(key, |out| list.iter().for_each(|item| out.text(item)));
    }
}

fn version_text(version: Option<u16>) -> String {
    match version {
        None => "UNDETERMINED".to_owned(),
        Some(version) => {
            version_name(version).map_or_else(|| format!("0x{version:04x}"), str::to_owned)
        }
    }
}

/// Without `extended`.
const BASIC: &[TlsField] = &[TlsField::Subject, TlsField::Issuer, TlsField::SessionResumed];

/// With `extended`, and in alerts.
const EXTENDED: &[TlsField] = &[
    TlsField::Subject,
    TlsField::Issuer,
    TlsField::SubjectAltName,
    TlsField::SessionResumed,
    TlsField::Serial,
    TlsField::Fingerprint,
    TlsField::Sni,
    TlsField::Version,
    TlsField::NotBefore,
    TlsField::NotAfter,
    TlsField::Ja3,
    TlsField::Ja3s,
    TlsField::Ja4,
    TlsField::ClientAlpns,
    TlsField::ServerAlpns,
];

const WORDS: usize = 10;

/// The parser's own bound of a message of a handshake.
const MOST_WORD: usize = 64 << 10;
