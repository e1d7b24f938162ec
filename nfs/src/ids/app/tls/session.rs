//! What is known of a TLS connection.

use super::certificate::Certificate;
use super::fingerprint::{Ja3, ja4};
use super::hello::{ClientHello, ServerHello};
use super::{CERTIFICATE_LENGTH, INVALID_CERTIFICATE};
use crate::ids::app::event::Events;
use crate::ids::app::reader::Reader;
use crate::ids::app::{Side, Stage};
use crate::ids::buffer::Buffer;

/// What is known of a TLS connection.
#[derive(Debug, Default)]
pub struct Session {
    stages: [Stage; 2],
    version: Option<u16>,
    server_name: Option<Vec<u8>>,
    /// Offered, and chosen.
    protocols: [Vec<Vec<u8>>; 2],
    ja3: Option<Ja3>,
    ja3s: Option<Ja3>,
    ja4: Option<Vec<u8>>,
    /// The client's, by which a server that resumes is known.
    ticket: Vec<u8>,
    is_resumed: bool,
    certificate: Option<Certificate>,
    chain: Vec<Vec<u8>>,
}

impl Session {
    /// `tls.version`: what the server chose, or before that the client's in its old place.
    pub fn version(&self) -> Option<u16> {
        self.version
    }

    /// `sni`
    pub fn server_name(&self) -> Option<&[u8]> {
        self.server_name.as_deref()
    }

    /// The server's certificate; its fields are `subject`, `issuerdn`, `serial`, `fingerprint`, `notbefore`, `notafter`.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The certificates as they were sent, in DER: `chain` of records, `tls.certs`, and by their number `tls.cert_chain_len`.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// `session_resumed`: no certificate is sent again.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// `client_alpns`, `server_alpns`
    pub fn protocols(&self, direction: Side) -> &[Vec<u8>] {
        &self.protocols[direction.index()]
    }

    /// `ja3` of records: string and hash.
    pub fn ja3(&self) -> Option<(&[u8], &[u8])> {
        self.ja3.as_ref().map(|ja3| (ja3.string.as_slice(), ja3.hash.as_slice()))
    }

    /// `ja3s` of records: string and hash.
    pub fn ja3s(&self) -> Option<(&[u8], &[u8])> {
        self.ja3s.as_ref().map(|ja3| (ja3.string.as_slice(), ja3.hash.as_slice()))
    }

    /// `ja4`
    pub fn ja4(&self) -> Option<&[u8]> {
        self.ja4.as_deref()
    }

    /// Whether there is enough for a record: the server has shown its certificate, or that it will not.
    pub fn is_worth_a_record(&self) -> bool {
        self.certificate.is_some() || self.stages[Side::ToClient.index()] >= Stage::Headers
    }

    /// See [`crate::ids::app::Transaction::buffer_at`].
    pub(crate) fn buffer(&self, buffer: Buffer, direction: Side, index: usize) -> Option<&[u8]> {
        use Buffer as B;
        // A certificate of the client is not read.
        let is_server = direction == Side::ToClient;
        let certificate = self.certificate.as_ref().filter(|_| is_server);
        let one = match buffer {
            B::TlsAlpn => return self.protocols(direction).get(index).map(Vec::as_slice),
            B::TlsSubjectAltName => return certificate?.alternatives.get(index).map(Vec::as_slice),
            B::TlsCerts if is_server => return self.chain.get(index).map(Vec::as_slice),
            B::TlsSni => self.server_name(),
            B::TlsCertSubject => certificate.map(|c| c.subject.as_slice()),
            B::TlsCertIssuer => certificate.map(|c| c.issuer.as_slice()),
            B::TlsCertSerial => certificate.map(|c| c.serial.as_slice()),
            B::TlsCertFingerprint => certificate.map(|c| c.fingerprint.as_slice()),
            B::Ja3Hash => self.ja3().map(|(_, hash)| hash),
            B::Ja3String => self.ja3().map(|(string, _)| string),
            B::Ja3sHash => self.ja3s().map(|(_, hash)| hash),
            B::Ja3sString => self.ja3s().map(|(string, _)| string),
            B::Ja4Hash => self.ja4(),
            _ => None,
        };
        one.filter(|bytes| index == 0 && !bytes.is_empty())
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        let ja3 = |ja3: &Option<Ja3>| ja3.as_ref().map_or(0, |ja3| ja3.string.capacity() + 32);
        let texts = self.protocols.iter().flatten().chain(&self.chain);
        size_of::<Self>()
            + self.certificate.as_ref().map_or(0, Certificate::bytes)
            + texts.map(|text| text.capacity() + 24).sum::<usize>()
            + ja3(&self.ja3)
            + ja3(&self.ja3s)
            + self.server_name.as_ref().map_or(0, Vec::capacity)
    }

    pub(super) fn stages(&self) -> [Stage; 2] {
        self.stages
    }

    pub(super) fn reach(&mut self, direction: Side, stage: Stage) {
        let now = &mut self.stages[direction.index()];
        *now = stage.max(*now);
    }

    /// A hello in the form of SSLv2, of whatever version.
    pub(super) fn old_hello(&mut self, version: u16) {
        self.version = Some(version);
    }

    /// The client's hello is whole; `false` when its lengths lie.
    pub(super) fn client_hello(&mut self, body: &[u8], events: &mut Events) -> bool {
        let Some(hello) = ClientHello::read(body, events) else { return false };
        // After a server's request to try again there is a second one, which says the same.
        if self.stages[Side::ToServer.index()] >= Stage::Line {
            return true;
        }
        self.version = Some(hello.version);
        self.server_name = hello.server_name.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        self.ticket = hello.session.to_vec();
        self.ja3 = Ja3::of_client(&hello);
        self.ja4 = Some(ja4(&hello));
        self.protocols[Side::ToServer.index()] = owned(&hello.protocols);
        self.reach(Side::ToServer, Stage::Headers);
        true
    }

    /// The server's hello is whole; `false` when its lengths lie.
    pub(super) fn server_hello(&mut self, body: &[u8]) -> bool {
        let Some(hello) = ServerHello::read(body) else { return false };
        let version = hello.selected.unwrap_or(hello.version);
        self.version = Some(version);
        self.protocols[Side::ToClient.index()] = owned(&hello.protocols);
        if self.ja3s.is_none() {
            self.ja3s = Ja3::of_server(&hello);
        }
        let is_same = !self.ticket.is_empty() && hello.session == self.ticket;
        self.is_resumed = is_same && version < ENCRYPTS_CERTIFICATES;
        self.reach(Side::ToClient, Stage::Line);
        true
    }

    /// The server's certificates are whole; `false` when their lengths lie.
    pub(super) fn certificates(&mut self, body: &[u8], events: &mut Events) -> bool {
        self.reach(Side::ToClient, Stage::Headers);
        if !self.chain.is_empty() {
            return true;
        }
        let mut fields = Reader::new(body);
        let Some(len) = fields.triple() else { return false };
        let Some(list) = fields.take(len) else {
            events.add(CERTIFICATE_LENGTH);
            return false;
        };
        let mut list = Reader::new(list);
        while !list.is_empty() && self.chain.len() < MOST_CERTIFICATES {
            let Some(der) = list.triple().and_then(|len| list.take(len)) else {
                events.add(CERTIFICATE_LENGTH);
                return false;
            };
            self.chain.push(der.to_vec());
        }
        let first = self.chain.first();
        self.certificate = first.and_then(|der| Certificate::read(der));
        if first.is_some() && self.certificate.is_none() {
            events.add(INVALID_CERTIFICATE);
        }
        true
    }

    /// A side goes on encrypted.
    pub(super) fn changes_cipher(&mut self, direction: Side) {
        let is_old = self.version.is_some_and(|version| version < ENCRYPTS_CERTIFICATES);
        let has_hello = self.stages[Side::ToClient.index()] >= Stage::Line;
        if direction == Side::ToClient && is_old && has_hello && self.chain.is_empty() {
            self.is_resumed = true;
        }
    }
}

/// `version` of records.
pub fn version_name(version: u16) -> Option<&'static str> {
    Some(match version {
        0x0002 => "SSLv2",
        0x0300 => "SSLv3",
        0x0301 => "TLSv1",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        _ => return None,
    })
}

fn owned(list: &[&[u8]]) -> Vec<Vec<u8>> {
    list.iter().map(|item| item.to_vec()).collect()
}

/// The version from which on certificates are encrypted.
const ENCRYPTS_CERTIFICATES: u16 = 0x0304;

/// Of a chain; each also counts against the limit of a message.
const MOST_CERTIFICATES: usize = 32;
