//! How a connection begins: with a SYN, or in the midst of things where that is wanted.

use super::config::{Midstream, OneSide, Settings};
use super::connection::{ASYNC, Connection, FAST_OPEN, MIDSTREAM};
use super::event::{Event, Events};
use super::half::SEEN;
use super::key::Side;
use super::segment::{ACK, FIN, RST, SCALE_MAX, SYN, Segment};
use super::state::TcpState;

/// Why a segment is no stream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFollowed {
    /// It belongs to no connection, and opens none: a RST, a FIN, or without flags.
    NoSession,
    /// It is in the midst of a connection whose SYN was not seen, and those are not picked up.
    Midstream,
    /// It would open a connection, and there is no room for one.
    NoRoom,
}

/// The connection that a segment opens, and the side that sent it.
pub(super) fn open(
    segment: &Segment<'_>,
    settings: &Settings,
    tick: u32,
    events: &mut Events,
) -> Result<(Connection, Side), NotFollowed> {
    if segment.has(RST) {
        events.add(Event::RstButNoSession);
        return Err(NotFollowed::NoSession);
    }
    if segment.has(FIN) {
        let is_odd = segment.has(SYN);
        events.add(if is_odd { Event::FinSyn } else { Event::FinButNoSession });
        return Err(NotFollowed::NoSession);
    }
    let picks_up = settings.midstream == Midstream::PickUp;
    let follows_one = settings.one_side == OneSide::Follow;
    match (segment.has(SYN), segment.has(ACK)) {
        (true, false) => Ok((of_syn(segment, tick), Side::Client)),
        (true, true) if picks_up || follows_one => Ok((of_syn_ack(segment, tick), Side::Server)),
        (false, true) if picks_up => {
            let mut connection = of_middle(segment);
            connection.flags |= if follows_one { ASYNC } else { 0 };
            Ok((connection, Side::Client))
        }
        (false, false) => Err(NotFollowed::NoSession),
        _ => Err(NotFollowed::Midstream),
    }
}

fn of_syn(segment: &Segment<'_>, tick: u32) -> Connection {
    let mut connection = Connection { state: TcpState::SynSent, ..Connection::default() };
    let [client, server] = &mut connection.halves;
    client.start(segment.seq);
    client.read_syn(segment, tick);
    client.send(segment, tick);
    server.window = u32::from(segment.window);
    if segment.has_fast_open {
        connection.flags |= FAST_OPEN;
    }
    connection
}

/// Nothing is known of the client but what it asked for.
fn of_syn_ack(segment: &Segment<'_>, tick: u32) -> Connection {
    let mut connection = Connection { state: TcpState::SynRecv, ..Connection::default() };
    connection.flags |= MIDSTREAM;
    let [client, server] = &mut connection.halves;
    server.start(segment.seq);
    server.read_syn(segment, tick);
    server.send(segment, tick);
    client.start(segment.ack.wrapping_sub(1));
    client.scale = SCALE_MAX;
    client.acknowledge(segment.ack, u32::from(segment.window) << SCALE_MAX);
    connection
}

/// Its sender is taken for the client. Windows are taken for as large as they can be, as their scale is not known.
fn of_middle(segment: &Segment<'_>) -> Connection {
    let mut connection = Connection { state: TcpState::Established, ..Connection::default() };
    connection.flags |= MIDSTREAM;
    let [client, server] = &mut connection.halves;
    client.start(segment.seq.wrapping_sub(1));
    server.start(segment.ack.wrapping_sub(1));
    (client.scale, server.scale) = (SCALE_MAX, SCALE_MAX);
    client.mark(SEEN);
    server.acknowledge(segment.ack, u32::from(segment.window) << SCALE_MAX);
    connection
}
