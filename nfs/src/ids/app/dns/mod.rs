//! DNS over UDP and TCP (RFC 1035).
//!
//! Each message is a transaction of its own, as in Suricata since version 7: queries and responses are not paired, so that
//! no state stays when one of them is lost. Over TCP a message stands behind its length; it may be cut anywhere, and several
//! may come at once.

mod message;
mod name;
#[cfg(test)]
mod tests;

pub use message::{Data, Message, Query, Record, rcode_name, type_name};

use super::event::Event;
use super::{Fields, Input, Limits, Next, Outcome, Protocol, Side, Transactions};

/// The port of servers.
pub const PORT: u16 = 53;

/// Of a message's header.
pub const HEADER_LEN: usize = 12;

/// The parser of a flow.
#[derive(Debug)]
pub struct Dns {
    transport: Transport,
    /// A message over TCP, as far as it came, with its length in front; one a direction.
    partial: [Vec<u8>; 2],
    is_sure: bool,
    /// Bytes of TCP are missing: where the next message starts is unknown.
    is_lost: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Datagrams,
    Stream,
}

/// Whether the bytes behind a length are a header that such a direction's messages have.
pub(super) fn looks_like(header: &[u8], direction: Side) -> bool {
    let [_, _, flags, _, counts @ ..] = header else { return false };
    let is_response = flags & 0x80 != 0;
    let opcode = flags >> 3 & 0x0f;
    let count = |pair: &[u8]| pair.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b));
    let [questions, rest @ ..] =
        [0, 2, 4, 6].map(|at| count(counts.get(at..at + 2).unwrap_or_default()));
    let records = questions + rest.iter().sum::<u32>();
    header.len() >= HEADER_LEN
        && is_response == (direction == Side::ToClient)
        && opcode <= 6
        && records > 0
        && records <= MOST_RECORDS
}

impl Dns {
    /// Over UDP.
    pub(super) fn datagrams() -> Self {
        Self::new(Transport::Datagrams)
    }

    /// Over TCP.
    pub(super) fn stream() -> Self {
        Self::new(Transport::Stream)
    }

    fn new(transport: Transport) -> Self {
        Self {
            transport,
            partial: Default::default(),
            is_sure: transport == Transport::Stream,
            is_lost: [false; 2],
        }
    }

    /// The memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.partial.iter().map(Vec::capacity).sum()
    }

    pub(super) fn feed(
        &mut self,
        direction: Side,
        input: Input<'_>,
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        let outcome = Outcome::all(input);
        match (self.transport, input) {
            (Transport::Datagrams, Input::Bytes(bytes)) => {
                self.datagram(direction, bytes, txs, limits)
            }
            (Transport::Stream, Input::Bytes(bytes)) => self.segment(direction, bytes, txs, limits),
            (Transport::Stream, Input::Gap(_)) => {
                // The next piece is taken to start with a message, as clients and servers mostly send them so.
                self.is_lost[direction.index()] = true;
                self.partial[direction.index()] = Vec::new();
                outcome
            }
            _ => outcome,
        }
    }

    fn datagram(
        &mut self,
        direction: Side,
        bytes: &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        let mut outcome = Outcome { consumed: bytes.len(), has_news: true, next: Next::More };
        let mut direction = direction;
        if !self.is_sure {
            if looks_like(bytes, direction.opposite()) {
                direction = direction.opposite();
                outcome.next = Next::Swapped;
            } else if looks_like(bytes, direction) {
                outcome.next = Next::Known(Protocol::Dns);
            } else {
                return Outcome { has_news: false, next: Next::Failed, ..outcome };
            }
            self.is_sure = true;
        }
        if !txs.has_room(limits) {
            return Outcome { consumed: 0, ..outcome };
        }
        take_message(bytes, direction, txs, limits);
        outcome
    }

    fn segment(
        &mut self,
        direction: Side,
        bytes: &[u8],
        txs: &mut Transactions,
        limits: &Limits,
    ) -> Outcome {
        let mut outcome = Outcome { consumed: 0, has_news: false, next: Next::More };
        let side = direction.index();
        if std::mem::take(&mut self.is_lost[side])
            && !bytes.get(2..).is_some_and(|header| looks_like(header, direction))
        {
            self.is_lost[side] = true;
            return Outcome { consumed: bytes.len(), ..outcome };
        }
        let partial = &mut self.partial[side];
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = match partial.first_chunk() {
                Some(len) => 2 + usize::from(u16::from_be_bytes(*len)),
                None => 2,
            };
            let missing = len - partial.len().min(len);
            let is_last_part = partial.len() >= 2 && rest.len() >= missing;
            if is_last_part && !txs.has_room(limits) {
                break;
            }
            let (part, after) = rest.split_at_checked(missing.min(rest.len())).unwrap_or_default();
            partial.extend_from_slice(part);
            rest = after;
            if partial.len() == len && partial.len() > 2 {
                take_message(partial.get(2..).unwrap_or_default(), direction, txs, limits);
                partial.clear();
                outcome.has_news = true;
            } else if partial.as_slice() == [0, 0] {
                partial.clear();
            }
        }
        if partial.is_empty() {
            *partial = Vec::new();
        }
        outcome.consumed = bytes.len() - rest.len();
        outcome
    }
}

/// A message is whole: opens its transaction.
fn take_message(bytes: &[u8], direction: Side, txs: &mut Transactions, limits: &Limits) {
    let (message, events) = Message::read(bytes, direction, limits);
    let is_malformed = message.is_malformed();
    let tx = txs.open_message(Fields::Dns(Box::new(message)), direction);
    for event in events {
        tx.remark(event);
    }
    if is_malformed {
        tx.hide();
    }
}

/// More than any message that is asked or answered in earnest.
const MOST_RECORDS: u32 = 1024;

const MALFORMED: Event = Event::dns("malformed_data");
const NOT_REQUEST: Event = Event::dns("not_request");
const NOT_RESPONSE: Event = Event::dns("not_response");
const Z_FLAG: Event = Event::dns("z_flag_set");
const INVALID_OPCODE: Event = Event::dns("invalid_opcode");
const NAME_TOO_LONG: Event = Event::dns("name_too_long");
const ENDLESS_NAME: Event = Event::dns("infinite_loop");
const INVALID_ADDITIONALS: Event = Event::dns("invalid_additionals");
const INVALID_AUTHORITIES: Event = Event::dns("invalid_authorities");
