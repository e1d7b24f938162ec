//! A request with its response, as detection and logs see it, whatever the protocol.

use std::collections::VecDeque;

use super::dns::Message;
use super::event::{Event, Events};
use super::http::Exchange;
use super::ssh::Session as Ssh;
use super::tls::Session as Tls;
use super::{Limits, Protocol};
use crate::ids::buffer::{App as Application, Buffer, Instances, Side};

/// How far a side of a transaction is. What each means by protocol:
///
/// | | HTTP | TLS | SSH | DNS |
/// |---|---|---|---|---|
/// | `Line` | request or status line is whole | hello is whole | banner is whole | - |
/// | `Headers` | headers are whole, a body may follow | certificate is whole | key exchange is whole | - |
/// | `Trailers` | chunked body is whole, trailers follow | - | - | - |
/// | `Complete` | all of it | encrypted from here | encrypted from here | the message |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing of this side was seen.
    #[default]
    Idle,
    /// Its first byte was.
    Started,
    /// See the table.
    Line,
    /// See the table.
    Headers,
    /// See the table.
    Trailers,
    /// Nothing more comes.
    Complete,
}

/// Whether a buffer can be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Not yet: more bytes are needed.
    Later,
    /// A body of which more may come.
    Growing,
    /// As it is now, it stays.
    Whole,
    /// This transaction has none, and will not.
    Never,
}

/// What of a body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyView<'a> {
    /// Place in the body of the first byte kept; above 0 once inspected bytes slid out.
    pub start: u64,
    /// The bytes, decoded and decompressed.
    pub bytes: &'a [u8],
    /// Up to where it was inspected.
    pub inspected: u64,
    /// Bytes of the body so far, those beyond the inspection limit included.
    pub total: u64,
    /// Whether bytes of the stream are missing in it.
    pub has_gaps: bool,
    /// Whether more may be kept.
    pub is_growing: bool,
}

/// What a protocol knows of a transaction.
#[derive(Debug)]
pub enum Fields {
    /// A request and its response.
    Http(Box<Exchange>),
    /// A message, of either direction.
    Dns(Box<Message>),
    /// A connection's handshake.
    Tls(Box<Tls>),
    /// A connection's handshake.
    Ssh(Box<Ssh>),
}

/// A request with its response.
#[derive(Debug)]
pub struct Transaction {
    id: u64,
    fields: Fields,
    stages: [Stage; 2],
    inspected: [Stage; 2],
    is_logged: bool,
    events: Events,
    told: usize,
}

impl Transaction {
    fn new(id: u64, fields: Fields) -> Self {
        Self {
            id,
            fields,
            stages: [Stage::Idle; 2],
            inspected: [Stage::Idle; 2],
            is_logged: false,
            events: Events::default(),
            told: 0,
        }
    }

    /// `tx_id`: its place in the flow, from 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whose it is.
    pub fn protocol(&self) -> Protocol {
        match self.fields {
            Fields::Http(_) => Protocol::Http,
            Fields::Dns(_) => Protocol::Dns,
            Fields::Tls(_) => Protocol::Tls,
            Fields::Ssh(_) => Protocol::Ssh,
        }
    }

    /// What the protocol knows of it, for logs and for keywords of numbers.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How far a side is.
    pub fn stage(&self, direction: Side) -> Stage {
        self.stages[direction.index()]
    }

    /// Up to where a side was inspected.
    pub fn inspected(&self, direction: Side) -> Stage {
        self.inspected[direction.index()]
    }

    /// Whether both sides are.
    pub fn is_complete(&self) -> bool {
        self.stages == [Stage::Complete; 2]
    }

    /// Whether its record was written.
    pub fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// What was remarked about it.
    pub fn events(&self) -> &[Event] {
        self.events.as_slice()
    }

    /// A buffer of one instance. `direction` chooses between those that both sides have; of a body, what is kept of it.
    pub fn buffer(&self, buffer: Buffer, direction: Side) -> Option<&[u8]> {
        self.buffer_at(buffer, direction, 0)
    }

    /// Instance `index` of a buffer of many, counted from 0; `None` behind the last.
    pub fn buffer_at(&self, buffer: Buffer, direction: Side, index: usize) -> Option<&[u8]> {
        if !self.may_have(buffer, direction) {
            return None;
        }
        if is_body(buffer) {
            return Some(self.body(direction)?.bytes).filter(|_| index == 0);
        }
        if buffer.info().instances == Instances::One && index > 0 {
            return None;
        }
        match &self.fields {
            Fields::Http(exchange) => {
                exchange.buffer(buffer, direction, index, self.stage(direction))
            }
            Fields::Dns(message) => message.buffer(buffer, direction, index),
            Fields::Tls(session) => session.buffer(buffer, direction, index),
            Fields::Ssh(session) => session.buffer(buffer, direction),
        }
    }

    /// The body of a side; `None` for protocols and messages without one.
    pub fn body(&self, direction: Side) -> Option<BodyView<'_>> {
        let Fields::Http(exchange) = &self.fields else { return None };
        exchange.body(direction).view(self.stage(direction) < Stage::Trailers)
    }

    /// Whether `buffer` can be evaluated.
    pub fn ready(&self, buffer: Buffer, direction: Side) -> Ready {
        if !self.may_have(buffer, direction) {
            return Ready::Never;
        }
        let stage = self.stage(direction);
        let later_or_never = if stage < Stage::Complete { Ready::Later } else { Ready::Never };
        if is_body(buffer) {
            return match self.body(direction) {
                None => later_or_never,
                Some(body) if body.is_growing => Ready::Growing,
                Some(_) => Ready::Whole,
            };
        }
        if stage < needs(buffer) {
            later_or_never
        } else if self.buffer(buffer, direction).is_some() {
            Ready::Whole
        } else {
            Ready::Never
        }
    }

    /// Whether a buffer became whole, for the first time, in what was not inspected of a side. Of a body, which comes in
    /// pieces, [`BodyView::inspected`] says what is new.
    pub fn is_fresh(&self, buffer: Buffer, direction: Side) -> bool {
        let needed = needs(buffer);
        needed > self.inspected(direction) && needed <= self.stage(direction)
    }

    /// Whether a buffer is of this protocol and of this side.
    fn may_have(&self, buffer: Buffer, direction: Side) -> bool {
        let is_of_side = buffer.info().side.is_none_or(|side| side == direction);
        let protocol = match buffer.app() {
            Some(Application::Http) => Some(Protocol::Http),
            Some(Application::Dns) => Some(Protocol::Dns),
            Some(Application::Tls) => Some(Protocol::Tls),
            Some(Application::Ssh) => Some(Protocol::Ssh),
            None => is_body(buffer).then_some(Protocol::Http),
        };
        is_of_side && protocol == Some(self.protocol())
    }

    /// The memory that it holds, without its own size.
    pub fn bytes(&self) -> usize {
        let fields = match &self.fields {
            Fields::Http(exchange) => exchange.bytes(),
            Fields::Dns(message) => message.bytes(),
            Fields::Tls(session) => session.bytes(),
            Fields::Ssh(session) => session.bytes(),
        };
        fields + self.events.bytes()
    }

    /// For the parsers: a side has come this far.
    pub(super) fn reach(&mut self, direction: Side, stage: Stage) {
        let now = &mut self.stages[direction.index()];
        *now = stage.max(*now);
    }

    /// For the parsers: a side starts again, as after `100 Continue`.
    pub(super) fn fall_back(&mut self, direction: Side, stage: Stage) {
        self.stages[direction.index()] = stage;
        self.inspected[direction.index()] = stage.min(self.inspected[direction.index()]);
    }

    /// It has no record.
    pub(super) fn hide(&mut self) {
        self.is_logged = true;
    }

    pub(super) fn remark(&mut self, event: Event) {
        self.events.add(event);
    }

    pub(super) fn http_mut(&mut self) -> Option<(&mut Exchange, &mut Events)> {
        match &mut self.fields {
            Fields::Http(exchange) => Some((exchange, &mut self.events)),
            _ => None,
        }
    }

    pub(super) fn tls_mut(&mut self) -> Option<(&mut Tls, &mut Events)> {
        match &mut self.fields {
            Fields::Tls(session) => Some((session, &mut self.events)),
            _ => None,
        }
    }

    pub(super) fn ssh_mut(&mut self) -> Option<(&mut Ssh, &mut Events)> {
        match &mut self.fields {
            Fields::Ssh(session) => Some((session, &mut self.events)),
            _ => None,
        }
    }
}

/// The transactions of a flow that somebody still needs, in their order.
#[derive(Debug, Default)]
pub struct Transactions {
    open: VecDeque<Transaction>,
    next: u64,
    /// Those given up unseen because there were too many.
    shed: u64,
    /// The owner was told that there is no room, and made none.
    was_full: bool,
}

impl Transactions {
    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.open.iter()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<&Transaction> {
        self.open.get(self.place(id)?)
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many there were in all.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// Those given up unseen because there were too many.
    pub fn shed(&self) -> u64 {
        self.shed
    }

    /// Detection has seen all that there is of a side. Inspected bytes of its body slide out of the window.
    pub fn mark_inspected(&mut self, id: u64, direction: Side, limits: &Limits) {
        if let Some(tx) = self.get_mut(id) {
            tx.inspected[direction.index()] = tx.stage(direction);
            if let Fields::Http(exchange) = &mut tx.fields {
                exchange.body_mut(direction).slide(limits.body_window);
            }
        }
    }

    /// The record of a transaction was written, or nobody wants it.
    pub fn mark_logged(&mut self, id: u64) {
        if let Some(tx) = self.get_mut(id) {
            tx.is_logged = true;
        }
    }

    /// The remarks about a transaction that were not taken before.
    pub fn take_events(&mut self, id: u64) -> &[Event] {
        let Some(tx) = self.get_mut(id) else { return &[] };
        let from = std::mem::replace(&mut tx.told, tx.events.as_slice().len());
        tx.events.as_slice().get(from..).unwrap_or_default()
    }

    /// Frees those that are complete, inspected on both sides and logged.
    pub fn collect(&mut self) {
        let is_done = |tx: &Transaction| {
            tx.is_complete() && tx.inspected == [Stage::Complete; 2] && tx.is_logged
        };
        if self.open.iter().any(is_done) {
            self.open.retain(|tx| !is_done(tx));
        }
    }

    /// The memory that they hold.
    pub fn bytes(&self) -> usize {
        let slots = self.open.capacity() * size_of::<Transaction>();
        slots + self.open.iter().map(Transaction::bytes).sum::<usize>()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Transaction> {
        let place = self.place(id)?;
        self.open.get_mut(place)
    }

    /// The number of the next one.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// Whether one more may be opened. If not, the owner gets the chance to inspect and collect; if it was told before and
    /// nothing became free, the older half is given up: a flow of requests whose answers are not seen goes on.
    pub(super) fn has_room(&mut self, limits: &Limits) -> bool {
        if self.open.len() < limits.transactions.max(1) {
            self.was_full = false;
            return true;
        }
        self.was_full = !self.was_full;
        if self.was_full {
            return false;
        }
        // Half of them, so that a long flow is not told at each.
        let shed = self.open.len().div_ceil(2);
        self.open.drain(..shed);
        self.shed += shed as u64;
        true
    }

    /// Opens one. Asks nobody: see [`Transactions::has_room`].
    pub(super) fn open(&mut self, fields: Fields) -> &mut Transaction {
        let id = self.next;
        self.next += 1;
        self.open.push_back(Transaction::new(id, fields));
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    /// Opens one that is whole, of one direction: the other has nothing to wait for.
    pub(super) fn open_message(&mut self, fields: Fields, direction: Side) -> &mut Transaction {
        let tx = self.open(fields);
        tx.stages = [Stage::Complete; 2];
        tx.inspected[direction.opposite().index()] = Stage::Complete;
        tx
    }

    /// The other end closed: nothing more comes in `direction`.
    pub(super) fn finish(&mut self, direction: Side) {
        for tx in &mut self.open {
            tx.reach(direction, Stage::Complete);
        }
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Transaction> {
        self.open.back_mut()
    }

    /// They are in the order of their numbers, with holes where some were collected.
    fn place(&self, id: u64) -> Option<usize> {
        self.open.binary_search_by_key(&id, |tx| tx.id).ok()
    }
}

/// The stage at which a buffer has all that it will have.
fn needs(buffer: Buffer) -> Stage {
    use Buffer as B;
    match buffer {
        B::HttpUri
        | B::HttpUriRaw
        | B::HttpMethod
        | B::HttpRequestLine
        | B::HttpStatCode
        | B::HttpStatMsg
        | B::HttpResponseLine
        | B::HttpProtocol
        | B::TlsSni
        | B::TlsAlpn
        | B::Ja3Hash
        | B::Ja3String
        | B::Ja3sHash
        | B::Ja3sString
        | B::Ja4Hash
        | B::SshProto
        | B::SshSoftware => Stage::Line,
        _ if buffer.app() == Some(Application::Dns) => Stage::Complete,
        _ => Stage::Headers,
    }
}

/// Whether a buffer is a body, which comes in pieces: what was inspected slides out of it.
fn is_body(buffer: Buffer) -> bool {
    matches!(buffer, Buffer::HttpRequestBody | Buffer::HttpResponseBody | Buffer::FileData)
}
