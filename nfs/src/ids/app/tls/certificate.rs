//! A server's certificate (RFC 5280), as rules and records show it.

use sha1::{Digest, Sha1};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::ids::app::text::hex;

/// A certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `C=DE, O=Example, CN=www.example.com`
    pub subject: Vec<u8>,
    /// In the same form.
    pub issuer: Vec<u8>,
    /// `0A:1B:2C`
    pub serial: Vec<u8>,
    /// SHA-1, `0a:1b:2c`.
    pub fingerprint: Vec<u8>,
    /// From when it counts, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// DNS names and addresses that it is for as well.
    pub alternatives: Vec<Vec<u8>>,
}

impl Certificate {
    /// Reads one from DER.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let upper = |digits: Vec<u8>| digits.to_ascii_uppercase();
        Some(Self {
            subject: certificate.subject().to_string().into_bytes(),
            issuer: certificate.issuer().to_string().into_bytes(),
            serial: with_colons(&upper(hex(certificate.raw_serial()))),
            fingerprint: with_colons(&hex(&Sha1::digest(der))),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            alternatives: alternatives(&certificate),
        })
    }

    /// The memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.subject, &self.issuer, &self.serial, &self.fingerprint];
        let alternatives = self.alternatives.iter();
        texts.into_iter().chain(alternatives).map(|text| text.capacity() + 24).sum()
    }
}

fn alternatives(certificate: &X509Certificate<'_>) -> Vec<Vec<u8>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(name.as_bytes().to_vec())
        }
        GeneralName::IPAddress(address) => {
            let text = match *address {
                [a, b, c, d] => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
                _ => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*address).ok()?).to_string(),
            };
            Some(text.into_bytes())
        }
        _ => None,
    });
    names.take(MOST_ALTERNATIVES).collect()
}

/// Pairs of digits with colons between.
fn with_colons(digits: &[u8]) -> Vec<u8> {
    digits.chunks(2).collect::<Vec<_>>().join(&b':')
}

/// Names kept of one certificate.
const MOST_ALTERNATIVES: usize = 128;
