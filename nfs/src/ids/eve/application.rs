//! What alerts and records say of a transaction.

use super::json::Object;
use super::{Body, DnsRecord, HttpRecord, Settings, SshRecord, TlsRecord};
use crate::ids::app::{Fields, Transaction};

/// What is said of a transaction.
#[derive(Clone, Debug)]
pub enum Application {
    /// `http`
    Http(Box<HttpRecord>),
    /// `dns`
    Dns(Box<DnsRecord>),
    /// `tls`
    Tls(Box<TlsRecord>),
    /// `ssh`
    Ssh(Box<SshRecord>),
}

/// Where it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a record of its own.
    Record,
    /// In an alert.
    Alert,
}

impl Application {
    /// What `settings` want to be said of a transaction; `None`: nothing.
    pub fn of(transaction: &Transaction, place: Place, settings: &Settings) -> Option<Self> {
        if place == Place::Alert && !settings.alert.as_ref().is_some_and(|alert| alert.metadata) {
            return None;
        }
        match transaction.fields() {
            Fields::Http(exchange) => {
                let http = HttpRecord::of(exchange, place, settings)?;
                Some(Self::Http(Box::new(http)))
            }
            Fields::Dns(message) => {
                let dns = DnsRecord::of(message, transaction.id(), place, settings)?;
                Some(Self::Dns(Box::new(dns)))
            }
            Fields::Tls(session) => {
                Some(Self::Tls(Box::new(TlsRecord::of(session, place, settings)?)))
            }
            Fields::Ssh(session) => {
                Some(Self::Ssh(Box::new(SshRecord::of(session, place, settings)?)))
            }
        }
    }

    /// The same as a record of its own.
    pub fn into_body(self) -> Body {
        match self {
            Self::Http(http) => Body::Http(http),
            Self::Dns(dns) => Body::Dns(dns),
            Self::Tls(tls) => Body::Tls(tls),
            Self::Ssh(ssh) => Body::Ssh(ssh),
        }
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Http(http) => http.bytes(),
            Self::Dns(dns) => dns.bytes(),
            Self::Tls(tls) => tls.bytes(),
            Self::Ssh(ssh) => ssh.bytes(),
        }
    }
}

impl Application {
    /// As alerts have it: all that is known.
    pub(super) fn write(&self, settings: &Settings, o: &mut Object<'_>) {
        match self {
            Self::Http(http) => http.write_in_alert(settings, o),
            Self::Dns(dns) => dns.write_in_alert(o),
            Self::Tls(tls) => tls.write_in_alert(o),
            Self::Ssh(ssh) => ssh.write(o),
        }
    }
}
