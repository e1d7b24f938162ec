//! A message.

use super::json::{List, Object};
use super::line::address_text;
use super::{DnsSettings, Place, Settings};
use crate::ids::app::dns::{Data, Message, Query, Record, rcode_name, type_name};

/// A message: a copy of what the parser made of it, which is in few pieces.
#[derive(Clone, Debug)]
pub struct DnsRecord {
    pub(super) message: Message,
    pub(super) transaction: u64,
}

impl DnsRecord {
    /// What `settings` want to be said; `None`: nothing.
    pub fn of(
        message: &Message,
        transaction: u64,
        place: Place,
        settings: &Settings,
    ) -> Option<Self> {
        if place == Place::Record {
            let dns = settings.dns.as_ref()?;
            let is_wanted = if message.is_response() { dns.responses } else { dns.requests };
            let is_type = |kind: u16| dns.types.as_ref().is_none_or(|types| types.contains(&kind));
            let has_type =
                message.queries().len() == 0 || message.queries().any(|query| is_type(query.kind));
            if !is_wanted || !has_type {
                return None;
            }
        }
        Some(Self { message: message.clone(), transaction })
    }

    /// The memory that it holds, with its own size.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.bytes()
    }
}

impl DnsRecord {
    /// The form of version 3, with what `settings` want.
    pub(super) fn write(&self, settings: &Settings, o: &mut Object<'_>) {
        let default = DnsSettings::default();
        let wanted = settings.dns.as_ref().unwrap_or(&default);
        self.write_message(wanted, o);
    }

    pub(super) fn write_in_alert(&self, o: &mut Object<'_>) {
        self.write_message(&DnsSettings { grouped: false, ..DnsSettings::default() }, o);
    }

    fn write_message(&self, wanted: &DnsSettings, o: &mut Object<'_>) {
        let message = &self.message;
        o.object("dns", |o| {
            o.number("version", 3u8);
            o.string("type", if message.is_response() { "response" } else { "request" });
            o.number("tx_id", self.transaction);
            o.number("id", message.id());
            self.write_flags(o);
            o.number("opcode", message.opcode());
            o.string("rcode", &rcode_text(message.rcode()));
            if message.queries().len() > 0 {
                o.list("queries", |list| {
                    message.queries().for_each(|query| list.object(|o| write_query(&query, o)));
                });
            }
            self.write_records(wanted, o);
        });
    }

    /// How many records it has in the form of version 2: a request one a query.
    pub(super) fn lines_of_old_form(&self) -> usize {
        if self.message.is_response() { 1 } else { self.message.queries().len() }
    }

    /// The form of version 2.
    pub(super) fn write_old(&self, query: usize, settings: &Settings, o: &mut Object<'_>) {
        let default = DnsSettings::default();
        let wanted = settings.dns.as_ref().unwrap_or(&default);
        let message = &self.message;
        let query = message.queries().nth(query);
        o.object("dns", |o| {
            o.number("version", 2u8);
            if !message.is_response() {
                o.string("type", "query");
                o.number("id", message.id());
                if let Some(query) = &query {
                    write_query(query, o);
                }
                o.number("tx_id", self.transaction);
                o.mark("z", message.has_z());
                o.number("opcode", message.opcode());
                return;
            }
            o.string("type", "answer");
            o.number("id", message.id());
            self.write_flags(o);
            o.number("opcode", message.opcode());
            if let Some(query) = &query {
                write_query(query, o);
            }
            o.string("rcode", &rcode_text(message.rcode()));
            self.write_records(wanted, o);
        });
    }

    fn write_flags(&self, o: &mut Object<'_>) {
        let message = &self.message;
        o.string("flags", &format!("{:x}", message.flags()));
        o.mark("qr", message.is_response());
        o.mark("aa", message.is_authoritative());
        o.mark("tc", message.is_truncated());
        o.mark("rd", message.is_recursion_desired());
        o.mark("ra", message.is_recursion_available());
        o.mark("z", message.has_z());
    }

    fn write_records(&self, wanted: &DnsSettings, o: &mut Object<'_>) {
        let message = &self.message;
        if message.answers().len() > 0 {
            if wanted.detailed {
                o.list("answers", |list| message.answers().for_each(|r| write_detailed(&r, list)));
            }
            if wanted.grouped {
                o.object("grouped", |o| write_grouped(message, o));
            }
        }
        if message.authorities().len() > 0 {
            o.list("authorities", |list| {
                message.authorities().for_each(|record| write_detailed(&record, list));
            });
        }
        // An OPT record without options says nothing.
        let is_empty = |r: &Record<'_>| r.kind == OPT && matches!(r.data, Data::Other(b""));
        let additionals = || message.additionals().filter(|record| !is_empty(record));
        if additionals().next().is_some() {
            o.list("additionals", |list| {
                additionals().for_each(|record| write_detailed(&record, list));
            });
        }
    }
}

fn write_query(query: &Query<'_>, o: &mut Object<'_>) {
    write_name(query.name, o);
    o.string("rrtype", &type_text(query.kind));
}

/// The root has an empty name, and a record has its name whatever it is.
fn write_name(name: &[u8], o: &mut Object<'_>) {
    if name.is_empty() {
        o.string("rrname", "");
    }
    o.text("rrname", Some(name));
}

/// A record; of texts each string is one.
fn write_detailed(record: &Record<'_>, list: &mut List<'_>) {
    let mut one = |write: &dyn Fn(&mut Object<'_>)| {
        list.object(|o| {
            write_name(record.name, o);
            o.string("rrtype", &type_text(record.kind));
            o.number("ttl", record.ttl);
            write(o);
        });
    };
    if let Data::Text(_) = &record.data {
        record.data.strings().for_each(|text| one(&|o| o.text("rdata", Some(text))));
        return;
    }
    one(&|o| match &record.data {
        Data::Address4(address) => o.string("rdata", &address.to_string()),
        Data::Address6(address) => o.string("rdata", &address_text((*address).into())),
        Data::Name(name) if record.kind != DNAME => o.text("rdata", Some(name)),
        Data::Mail { name, .. } => o.text("rdata", Some(name)),
        Data::Authority { .. } => o.object("soa", |o| write_object(&record.data, o)),
        Data::Service { .. } => o.object("srv", |o| write_object(&record.data, o)),
        Data::Fingerprint { .. } => o.object("sshfp", |o| write_object(&record.data, o)),
        Data::Other(bytes) if record.kind == NULL => o.text("rdata", Some(bytes)),
        Data::Other(bytes) if record.kind == OPT => {
            o.list("opt", |list| {
                for (code, data) in options(bytes) {
                    list.object(|o| {
                        o.number("code", code);
                        o.string("data", &hex(data, ""));
                    });
                }
            });
        }
        Data::Name(_) | Data::Text(_) | Data::Other(_) => {}
    });
}

/// What answers say, by their types.
fn write_grouped(message: &Message, o: &mut Object<'_>) {
    let says = |record: &Record<'_>| match &record.data {
        Data::Name(_) => record.kind != DNAME,
        Data::Other(_) => record.kind == NULL,
        _ => true,
    };
    for (index, record) in message.answers().enumerate() {
        let is_first = !message.answers().take(index).any(|other| other.kind == record.kind);
        if !is_first || !says(&record) {
            continue;
        }
        let same = message.answers().filter(|other| other.kind == record.kind);
        o.list(&type_text(record.kind), |list| {
            for record in same {
                match &record.data {
                    Data::Address4(address) => list.string(&address.to_string()),
                    Data::Address6(address) => list.string(&address_text((*address).into())),
                    Data::Name(name) | Data::Mail { name, .. } => list.text(name),
                    Data::Text(_) => record.data.strings().for_each(|text| list.text(text)),
                    Data::Authority { .. } | Data::Service { .. } | Data::Fingerprint { .. } => {
                        list.object(|o| write_object(&record.data, o));
                    }
                    Data::Other(bytes) => list.text(bytes),
                }
            }
        });
    }
}

/// What a record with several parts says.
fn write_object(data: &Data<'_>, o: &mut Object<'_>) {
    match data {
        Data::Authority { server, mailbox, numbers } => {
            o.text("mname", Some(server));
            o.text("rname", Some(mailbox));
            let keys = ["serial", "refresh", "retry", "expire", "minimum"];
            keys.iter().zip(numbers).for_each(|(key, number)| o.number(key, *number));
        }
        Data::Service { numbers, name } => {
            let keys = ["priority", "weight", "port"];
            keys.iter().zip(numbers).for_each(|(key, number)| o.number(key, *number));
            o.text("name", Some(name));
        }
        Data::Fingerprint { algorithm, kind, fingerprint } => {
            o.string("fingerprint", &hex(fingerprint, ":"));
            o.number("algo", *algorithm);
            o.number("type", *kind);
        }
        _ => {}
    }
}

/// The options of an OPT record: code and data (RFC 6891, section 6.1.2).
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    while let Some(([a, b, c, d], rest)) = bytes.split_first_chunk() {
        let (code, len) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let Some((data, rest)) = rest.split_at_checked(usize::from(len)) else { break };
        options.push((code, data));
        bytes = rest;
    }
    options
}

fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

fn type_text(kind: u16) -> String {
    type_name(kind).map_or_else(|| kind.to_string(), str::to_owned)
}

fn rcode_text(rcode: u16) -> String {
    rcode_name(rcode).map_or_else(|| rcode.to_string(), str::to_owned)
}

const NULL: u16 = 10;
const DNAME: u16 = 39;
const OPT: u16 = 41;
