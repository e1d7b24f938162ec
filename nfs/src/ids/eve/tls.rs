//! A handshake of TLS.

use super::text::Texts;
use super::{Place, Settings, TlsField};
use crate::ids::app::Side;
use crate::ids::app::tls::Session;

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

const WORDS: usize = 10;

/// The parser's own bound of a message of a handshake.
const MOST_WORD: usize = 64 << 10;
