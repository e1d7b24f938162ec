//! The hellos of client and server (RFC 8446, section 4.1), as far as rules and fingerprints ask.

use super::{INVALID_SNI_LENGTH, INVALID_SNI_TYPE, MULTIPLE_SNI};
use crate::ids::app::event::Events;
use crate::ids::app::reader::Reader;

/// What a client says first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ClientHello<'a> {
    /// The version in its old place, which fingerprints take.
    pub version: u16,
    pub session: &'a [u8],
    pub ciphers: Vec<u16>,
    /// Types of the extensions, in their order.
    pub extensions: Vec<u16>,
    pub server_name: Option<&'a [u8]>,
    pub protocols: Vec<&'a [u8]>,
    pub versions: Vec<u16>,
    pub groups: Vec<u16>,
    pub point_formats: &'a [u8],
    pub signatures: Vec<u16>,
}

/// What a server answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello<'a> {
    /// The version in its old place, which fingerprints take.
    pub version: u16,
    pub session: &'a [u8],
    pub cipher: u16,
    pub extensions: Vec<u16>,
    pub protocols: Vec<&'a [u8]>,
    /// The version in its new place.
    pub selected: Option<u16>,
}

impl<'a> ClientHello<'a> {
    /// Reads one; `None` when its lengths lie.
    pub fn read(body: &'a [u8], events: &mut Events) -> Option<Self> {
        let mut fields = Reader::new(body);
        let version = fields.short()?;
        fields.take(RANDOM_LEN)?;
        let session = fields.short_text()?;
        let ciphers = Reader::new(fields.text()?).shorts().collect();
        fields.short_text()?;
        let mut hello = Self { version, session, ciphers, ..Self::default() };
        if fields.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader::new(fields.text()?);
        while !extensions.is_empty() {
            let (kind, data) = (extensions.short()?, extensions.text()?);
            hello.extensions.push(kind);
            let mut data = Reader::new(data);
            match kind {
                extension::SERVER_NAME => hello.take_server_name(data, events),
                extension::PROTOCOLS => hello.protocols = protocols(data),
                extension::GROUPS => {
                    hello.groups = Reader::new(data.text().unwrap_or_default()).shorts().collect();
                }
                extension::POINT_FORMATS => {
                    hello.point_formats = data.short_text().unwrap_or_default();
                }
                extension::SIGNATURES => {
                    hello.signatures =
                        Reader::new(data.text().unwrap_or_default()).shorts().collect();
                }
                extension::VERSIONS => {
                    let list = data.short_text().unwrap_or_default();
                    hello.versions = Reader::new(list).shorts().collect();
                }
                _ => {}
            }
        }
        Some(hello)
    }

    fn take_server_name(&mut self, mut data: Reader<'a>, events: &mut Events) {
        if self.server_name.is_some() {
            events.add(MULTIPLE_SNI);
            return;
        }
        // A server's echo and some clients leave it empty.
        let Some(mut list) = data.text().map(Reader::new) else { return };
        match (list.byte(), list.text()) {
            (Some(0), Some(name)) if name.len() <= LONGEST_NAME => self.server_name = Some(name),
            (Some(0), _) => events.add(INVALID_SNI_LENGTH),
            (Some(_), _) => events.add(INVALID_SNI_TYPE),
            (None, _) => {}
        }
    }
}

impl<'a> ServerHello<'a> {
    /// Reads one; `None` when its lengths lie.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut fields = Reader::new(body);
        let version = fields.short()?;
        fields.take(RANDOM_LEN)?;
        let session = fields.short_text()?;
        let cipher = fields.short()?;
        fields.byte()?;
        let mut hello = Self { version, session, cipher, ..Self::default() };
        if fields.is_empty() {
            return Some(hello);
        }
        let mut extensions = Reader::new(fields.text()?);
        while !extensions.is_empty() {
            let (kind, data) = (extensions.short()?, extensions.text()?);
            hello.extensions.push(kind);
            match kind {
                extension::PROTOCOLS => hello.protocols = protocols(Reader::new(data)),
                extension::VERSIONS => hello.selected = Reader::new(data).short(),
                _ => {}
            }
        }
        Some(hello)
    }
}

fn protocols(mut data: Reader<'_>) -> Vec<&[u8]> {
    let mut list = Reader::new(data.text().unwrap_or_default());
    std::iter::from_fn(|| list.short_text()).take(MOST_PROTOCOLS).collect()
}

/// IANA, TLS ExtensionType Values.
pub(super) mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const GROUPS: u16 = 10;
    pub const POINT_FORMATS: u16 = 11;
    pub const SIGNATURES: u16 = 13;
    pub const PROTOCOLS: u16 = 16;
    pub const VERSIONS: u16 = 43;
}

const RANDOM_LEN: usize = 32;

/// Of a host name, as Suricata has it.
const LONGEST_NAME: usize = 255;

/// Of an offer of protocols.
const MOST_PROTOCOLS: usize = 32;
