//! A message: header, queries, records.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    INVALID_ADDITIONALS, INVALID_AUTHORITIES, INVALID_OPCODE, MALFORMED, NOT_REQUEST, NOT_RESPONSE,
    Z_FLAG, name,
};
use crate::ids::app::event::Event;
use crate::ids::app::reader::Reader;
use crate::ids::app::text::Span;
use crate::ids::app::{Limits, Side};
use crate::ids::buffer::Buffer;

/// A message. Names and data are kept in one piece of text.
#[derive(Clone, Debug)]
pub struct Message {
    direction: Side,
    id: u16,
    flags: u16,
    queries: Vec<Row>,
    answers: Vec<RecordRow>,
    authorities: Vec<RecordRow>,
    additionals: Vec<RecordRow>,
    text: Vec<u8>,
    is_malformed: bool,
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// What it asks about, labels joined by dots.
    pub name: &'a [u8],
    /// The type of record: see [`type_name`].
    pub kind: u16,
    /// The class: 1 is the Internet.
    pub class: u16,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is about, labels joined by dots.
    pub name: &'a [u8],
    /// Its type: see [`type_name`].
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data<'a>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// A
    Address4(Ipv4Addr),
    /// AAAA
    Address6(Ipv6Addr),
    /// CNAME, NS, PTR, DNAME
    Name(&'a [u8]),
    /// MX
    Mail {
        /// The lower is asked first.
        preference: u16,
        /// The server.
        name: &'a [u8],
    },
    /// SOA
    Authority {
        /// The first server.
        server: &'a [u8],
        /// The mailbox of whoever is responsible.
        mailbox: &'a [u8],
        /// Serial, refresh, retry, expire, minimum.
        numbers: [u32; 5],
    },
    /// SRV
    Service {
        /// Priority, weight, port.
        numbers: [u16; 3],
        /// The server.
        name: &'a [u8],
    },
    /// TXT: the strings, each behind its length of a byte.
    Text(&'a [u8]),
    /// SSHFP
    Fingerprint {
        /// Of the key.
        algorithm: u8,
        /// Of the fingerprint.
        kind: u8,
        /// The fingerprint.
        fingerprint: &'a [u8],
    },
    /// Any other, or one whose data does not fit its type.
    Other(&'a [u8]),
}

#[derive(Clone, Debug)]
struct Row {
    name: Span,
    kind: u16,
    class: u16,
}

#[derive(Clone, Debug)]
struct RecordRow {
    row: Row,
    ttl: u32,
    /// For types with names in their data: those, uncompressed, each behind the other.
    names: [Span; 2],
    data: Span,
}

impl Message {
    /// Takes a message apart as far as it goes.
    pub(super) fn read(bytes: &[u8], direction: Side, limits: &Limits) -> (Self, Vec<Event>) {
        let mut message = Self {
            direction,
            id: 0,
            flags: 0,
            queries: Vec::new(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            text: Vec::new(),
            is_malformed: false,
        };
        let mut events = Vec::new();
        if message.read_all(bytes, limits, &mut events).is_none() {
            message.is_malformed = true;
            events.push(MALFORMED);
        }
        (message, events)
    }

    fn read_all(&mut self, bytes: &[u8], limits: &Limits, events: &mut Vec<Event>) -> Option<()> {
        let mut header = Reader::new(bytes);
        self.id = header.short()?;
        self.flags = header.short()?;
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = header.short()?;
        }
        let is_response = self.flags & 0x8000 != 0;
        match (self.direction, is_response) {
            (Side::ToServer, true) => events.push(NOT_REQUEST),
            (Side::ToClient, false) => events.push(NOT_RESPONSE),
            _ => {}
        }
        if self.flags & 0x0040 != 0 {
            events.push(Z_FLAG);
        }
        if self.opcode() > 6 {
            events.push(INVALID_OPCODE);
        }
        let mut work =
            Work { bytes, at: super::HEADER_LEN, limits, left: limits.dns_records, events };
        let [queries, answers, authorities, additionals] = counts;
        self.queries = work.queries(queries, &mut self.text)?;
        self.answers = work.records(answers, &mut self.text)?;
        match work.records(authorities, &mut self.text) {
            Some(records) => self.authorities = records,
            None => {
                // The answers are what counts; Suricata keeps them, too.
                work.events.push(INVALID_AUTHORITIES);
                return Some(());
            }
        }
        match work.records(additionals, &mut self.text) {
            Some(records) => self.additionals = records,
            None => work.events.push(INVALID_ADDITIONALS),
        }
        Some(())
    }

    /// Of which side it is.
    pub fn direction(&self) -> Side {
        self.direction
    }

    /// `id` of records: the number that query and response share.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// `flags` of records, as a number.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Whether it says that it is a response: `qr` of records, and whether `type` is `response`.
    pub fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// `aa`
    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// `tc`
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// `rd`
    pub fn is_recursion_desired(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    /// `ra`
    pub fn is_recursion_available(&self) -> bool {
        self.flags & 0x0080 != 0
    }

    /// `z`
    pub fn has_z(&self) -> bool {
        self.flags & 0x0040 != 0
    }

    /// `dns.opcode`, and `opcode` of records.
    pub fn opcode(&self) -> u8 {
        u8::try_from(self.flags >> 11 & 0x0f).unwrap_or(0)
    }

    /// `dns.rcode`; `rcode` of records is its name: see [`rcode_name`].
    pub fn rcode(&self) -> u16 {
        self.flags & 0x000f
    }

    /// Whether a part of it could not be read; such a message has no record.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// `queries` of records.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = Query<'_>> {
        let text = &self.text;
        self.queries.iter().map(|row| Query {
            name: row.name.of(text),
            kind: row.kind,
            class: row.class,
        })
    }

    /// `answers` of records.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.answers.iter().map(|row| row.record(&self.text))
    }

    /// `authorities` of records.
    pub fn authorities(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.authorities.iter().map(|row| row.record(&self.text))
    }

    /// `additionals` of records.
    pub fn additionals(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.additionals.iter().map(|row| row.record(&self.text))
    }

    /// `dns.rrtype`: types of queries and answers.
    pub fn types(&self) -> impl Iterator<Item = u16> {
        let of_answers = self.answers.iter().map(|row| row.row.kind);
        self.queries.iter().map(|row| row.kind).chain(of_answers)
    }

    /// See [`crate::ids::app::Transaction::buffer_at`].
    pub(crate) fn buffer(&self, buffer: Buffer, direction: Side, index: usize) -> Option<&[u8]> {
        if direction != self.direction {
            return None;
        }
        let rows = |rows: &[RecordRow]| rows.get(index).map(|row| row.row.name);
        let name = match buffer {
            Buffer::DnsQuery | Buffer::DnsQueriesName => {
                self.queries.get(index).map(|row| row.name)
            }
            Buffer::DnsAnswersName => rows(&self.answers),
            Buffer::DnsAuthoritiesName => rows(&self.authorities),
            Buffer::DnsAdditionalsName => rows(&self.additionals),
            _ => None,
        };
        Some(name?.of(&self.text))
    }

    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        let records = [&self.answers, &self.authorities, &self.additionals];
        let records: usize = records.iter().map(|rows| rows.capacity()).sum();
        size_of::<Self>()
            + self.text.capacity()
            + self.queries.capacity() * size_of::<Row>()
            + records * size_of::<RecordRow>()
    }
}

/// A message on its way through.
struct Work<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
    /// Rows that may still be kept.
    left: usize,
    events: &'a mut Vec<Event>,
}

impl Work<'_> {
    fn queries(&mut self, count: u16, text: &mut Vec<u8>) -> Option<Vec<Row>> {
        let mut rows = Vec::new();
        for _ in 0..count {
            let row = self.row(text)?;
            if self.keeps() {
                rows.push(row);
            }
        }
        Some(rows)
    }

    fn records(&mut self, count: u16, text: &mut Vec<u8>) -> Option<Vec<RecordRow>> {
        let mut rows = Vec::new();
        for _ in 0..count {
            let row = self.row(text)?;
            let mut fields = Reader::new(self.bytes.get(self.at..)?);
            let ttl = fields.long()?;
            let data = fields.text()?;
            let start = self.bytes.len() - fields.rest().len() - data.len();
            self.at = start + data.len();
            if self.keeps() {
                let names = self.names(row.kind, start, text);
                let data = self.keep(data, text);
                rows.push(RecordRow { row, ttl, names, data });
            }
        }
        Some(rows)
    }

    fn row(&mut self, text: &mut Vec<u8>) -> Option<Row> {
        let (name, end) = self.name(self.at, text)?;
        let mut fields = Reader::new(self.bytes.get(end..)?);
        let (kind, class) = (fields.short()?, fields.short()?);
        self.at = end + 4;
        Some(Row { name, kind, class })
    }

    /// Reads a name into the text, if there is room for it.
    fn name(&mut self, start: usize, text: &mut Vec<u8>) -> Option<(Span, usize)> {
        let first = text.len();
        let read = name::read(self.bytes, start, text)?;
        if let Some(event) = read.event
            && !self.events.contains(&event)
        {
            self.events.push(event);
        }
        if text.len() > self.limits.dns_text || self.left == 0 {
            text.truncate(first);
        }
        Some((Span::new(first, text.len()), read.end))
    }

    /// The names in a record's data.
    fn names(&mut self, kind: u16, start: usize, text: &mut Vec<u8>) -> [Span; 2] {
        let first = match kind {
            kind::CNAME | kind::NS | kind::PTR | kind::DNAME | kind::SOA => start,
            kind::MX => start + 2,
            kind::SRV => start + 6,
            _ => return [Span::default(); 2],
        };
        let Some((one, end)) = self.name(first, text) else { return [Span::default(); 2] };
        let two = if kind == kind::SOA { self.name(end, text) } else { None };
        [one, two.map_or(Span::default(), |(span, _)| span)]
    }

    fn keep(&self, data: &[u8], text: &mut Vec<u8>) -> Span {
        if text.len() + data.len() > self.limits.dns_text {
            return Span::default();
        }
        text.extend_from_slice(data);
        Span::at(text.len() - data.len(), data)
    }

    fn keeps(&mut self) -> bool {
        let keeps = self.left > 0;
        self.left = self.left.saturating_sub(1);
        keeps
    }
}

impl RecordRow {
    fn record<'a>(&self, text: &'a [u8]) -> Record<'a> {
        let Row { name, kind, class } = &self.row;
        let data = self.data.of(text);
        let data = self.typed(text, data).unwrap_or(Data::Other(data));
        Record { name: name.of(text), kind: *kind, class: *class, ttl: self.ttl, data }
    }

    fn typed<'a>(&self, text: &'a [u8], data: &'a [u8]) -> Option<Data<'a>> {
        let [one, two] = self.names.map(|span| span.of(text));
        let mut fields = Reader::new(data);
        Some(match self.row.kind {
            kind::A => Data::Address4(<[u8; 4]>::try_from(data).ok()?.into()),
            kind::AAAA => Data::Address6(<[u8; 16]>::try_from(data).ok()?.into()),
            kind::CNAME | kind::NS | kind::PTR | kind::DNAME => Data::Name(one),
            kind::MX => Data::Mail { preference: fields.short()?, name: one },
            kind::SOA => {
                let tail = data.len().checked_sub(20)?;
                let mut fields = Reader::new(data.get(tail..)?);
                let mut numbers = [0; 5];
                for number in &mut numbers {
                    *number = fields.long()?;
                }
                Data::Authority { server: one, mailbox: two, numbers }
            }
            kind::SRV => {
                let numbers = [fields.short()?, fields.short()?, fields.short()?];
                Data::Service { numbers, name: one }
            }
            kind::TXT => Data::Text(data),
            kind::SSHFP => Data::Fingerprint {
                algorithm: fields.byte()?,
                kind: fields.byte()?,
                fingerprint: fields.rest(),
            },
            _ => return None,
        })
    }
}

impl Data<'_> {
    /// The strings of a TXT record.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Reader::new(if let Data::Text(text) = self { text } else { &[] });
        std::iter::from_fn(move || rest.short_text())
    }
}

/// `rrtype` of records: a type's name; `None` for one without.
pub fn type_name(kind: u16) -> Option<&'static str> {
    TYPES.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// `rcode` of records: its name; `None` for one without.
pub fn rcode_name(rcode: u16) -> Option<&'static str> {
    RCODES.get(usize::from(rcode)).copied()
}

/// The types whose data is taken apart.
mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const SSHFP: u16 = 44;
}

/// IANA, DNS RCODEs.
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// IANA, Resource Record TYPEs.
const TYPES: [(u16, &str); 62] = [
    (1, "A"),
    (2, "NS"),
    (3, "MD"),
    (4, "MF"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (10, "NULL"),
    (11, "WKS"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (22, "NSAP"),
    (23, "NSAPPTR"),
    (24, "SIG"),
    (25, "KEY"),
    (26, "PX"),
    (27, "GPOS"),
    (28, "AAAA"),
    (29, "LOC"),
    (30, "NXT"),
    (33, "SRV"),
    (34, "ATMA"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (38, "A6"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (55, "HIP"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (249, "TKEY"),
    (250, "TSIG"),
    (252, "AXFR"),
    (254, "MAILA"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];
