//! Connections that begin with a cookie: what is done in place of both ends until they know of each other.
//!
//! ```text
//!   SYN, while too many are half open --> would it be let through? it gets a cookie         nothing is kept
//!   ACK with a right cookie           --> decided as its SYN; goes on as that SYN           syn_sent
//!   the server's SYN-ACK              --> goes on as the ACK that opens the client's
//!                                         window; an ACK is made for the server             established
//!   whatever follows                  --> its numbers are shifted
//! ```
//!
//! TCP is followed in the server's numbers: a client's segment is looked at when it is shifted, a server's before.
//! The packets that go on are those that came, with other bytes: they need no room in the pool.

use super::act::{segment, unkept};
use super::decide::{About, count_once, turned};
use super::life::Moves;
use super::{Common, Leaves, Refused, Seat};
use crate::burst::{Slot, Verdict};
use crate::chain::compile::Plan;
use crate::dpdk::Packet;
use crate::flow::{
    Address, Change, FlowKey, FlowRef, FlowRefusal, Invalid, KEPT, Segment, Side, Strictness,
    Table, TcpState, TcpTrack, Way, flag, shift,
};
use crate::nf::{Direction, FlowStage, SynCookies, Via, clock, upper};
use crate::packet::tcp_build::{
    HANDSHAKE_MAX, Opened, Shift, Syn, SynOptions, ack_to_server, shift_seq, syn_ack_options,
    syn_to_server, window_to_client,
};
use crate::packet::{Fragment, Headers, parse, protocol};

/// A packet that was made at a piece, to go on behind it.
#[derive(Debug)]
pub struct Made {
    frame: Frame,
    /// Which way.
    pub direction: Direction,
    /// By the port that received what it answers, and no further through its chain.
    pub goes_back: bool,
}

impl Made {
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }
}

/// A segment of a handshake.
#[derive(Debug)]
struct Frame {
    bytes: [u8; HANDSHAKE_MAX],
    length: usize,
}

impl Frame {
    fn of(build: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Self> {
        let mut bytes = [0; HANDSHAKE_MAX];
        let length = build(&mut bytes)?;
        Some(Self { bytes, length })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn headers(&self) -> Option<Headers> {
        parse(self.bytes(), u32::try_from(self.length).ok()?).ok()
    }
}

/// A client's first ACK, with a right cookie.
#[derive(Debug)]
pub(super) struct Opening {
    /// The SYN that it stands for.
    frame: Frame,
    pub(super) headers: Headers,
    opened: Opened,
}

impl Opening {
    pub(super) fn segment(&self) -> Option<Segment> {
        segment(self.frame.bytes(), &self.headers)
    }

    pub(super) fn upper(&self) -> &[u8] {
        let (start, end) = (usize::from(self.headers.l4), usize::from(self.headers.l3_end));
        self.frame.bytes().get(start..end).unwrap_or_default()
    }

    /// Makes the ACK the SYN. False: it does not fit, and nothing is changed.
    pub(super) fn put_into(&self, seat: &Seat<'_>, slot: &mut Slot<'_>) -> bool {
        put_into(&self.frame, &self.headers, seat, slot)
    }

    /// What is kept until the server has answered.
    pub(super) fn cookie(&self) -> Shift {
        Shift { seq: self.opened.server_isn, timestamp: 0 }
    }
}

impl Common {
    /// What the first packet of a flow opens, if it is an ACK with a right cookie.
    ///
    /// # Errors
    /// It is a SYN that gets a cookie, or that would not be let through.
    #[inline]
    pub(super) fn opening<A: Address>(
        &mut self,
        table: &Table<A>,
        seat: &Seat<'_>,
        slot: &Slot<'_>,
        key: &FlowKey<A>,
    ) -> Result<Option<Opening>, Refused> {
        match self.guards.of(seat.number) {
            Some(guard) => self.opening_at(guard, table, seat, slot, key),
            None => Ok(None),
        }
    }

    #[inline(never)]
    fn opening_at<A: Address>(
        &mut self,
        guard: usize,
        table: &Table<A>,
        seat: &Seat<'_>,
        slot: &Slot<'_>,
        key: &FlowKey<A>,
    ) -> Result<Option<Opening>, Refused> {
        let h = &*slot.headers;
        if h.protocol != protocol::TCP || h.fragment != Fragment::Whole {
            return Ok(None);
        }
        match h.tcp_flags.0 & (SYN | ACK | RST | FIN) {
            SYN if self.guards.gives(seat.number) => {
                let shard = self.shard_of_first(table, seat, key);
                self.probe(guard, seat, slot, shard)?;
                Err(Refused(Verdict::Cookie(guard as u16)))
            }
            ACK => {
                let opening = opening_of(guard, seat, slot);
                if opening.is_some() {
                    count(guard, seat, SynCookies::OPENED);
                }
                Ok(opening)
            }
            _ => Ok(None),
        }
    }

    /// Asks the functions, up to the one that gives cookies, whether they would let a SYN through.
    fn probe(
        &mut self,
        guard: usize,
        seat: &Seat<'_>,
        slot: &Slot<'_>,
        shard: usize,
    ) -> Result<(), Refused> {
        let about = About {
            upper: upper(slot.packet, slot.headers),
            state: FlowStage::Probe,
            direction: seat.direction,
            hint: seat.hint.get(),
            until: Some(guard),
        };
        let (mut headers, mut kept) = (*slot.headers, [0; KEPT]);
        let decided = self.decide(seat, about, &mut headers, &mut kept, shard)?;
        self.give_back(seat.plan, seat.piece, &kept, shard, seat.now);
        count_once(seat, seat.direction, &decided.rules);
        Ok(())
    }

    /// A packet of a connection that began with a cookie.
    #[cold]
    pub(super) fn proxied<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let side = found.side();
        let Some(entry) = table.get(found.entry()) else { return Ok(Leaves::ByChain) };
        let by = entry.shift();
        match (side, entry.track.state()) {
            (Side::First, Some(TcpState::SynSent)) => self.early(table, seat, slot, found),
            (Side::Answer, Some(TcpState::SynSent)) => self.answered(table, seat, slot, found),
            (Side::First, _) => {
                shift(slot.packet.data_mut(), slot.headers, by, side);
                self.act_as_it_is(table, seat, slot, found)
            }
            (Side::Answer, _) => {
                let leaves = self.act_as_it_is(table, seat, slot, found)?;
                shift(slot.packet.data_mut(), slot.headers, by, side);
                Ok(leaves)
            }
        }
    }

    /// A client's packet before the server has answered: its window is closed, so it only asks whether it is open yet.
    fn early<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let Some(entry) = table.get(found.entry()) else { return Ok(Leaves::ByChain) };
        let (isn, cookie) = (entry.track.opener_isn(), entry.shift().seq);
        match slot.headers.tcp_flags.0 & (SYN | ACK | RST | FIN) {
            // One that was long under way, or the first of a client that begins anew.
            SYN => match Syn::read(slot.packet.data(), slot.headers) {
                Some(syn) if syn.client_isn != isn => self.reopened(table, seat, slot, found),
                _ => Err(unkept(FlowRefusal::Tcp(Invalid::UnexpectedSyn))),
            },
            ACK => {
                let guard = self.guards.of(seat.number);
                let opening = guard.and_then(|guard| opening_of(guard, seat, slot));
                let again = opening.filter(|o| {
                    (o.opened.client_isn, o.opened.server_isn) == (isn, cookie)
                        && o.put_into(seat, slot)
                });
                if again.is_none() {
                    return Err(not_open_yet());
                }
                // The SYN, or what the server said to it, was lost.
                if let Some(entry) = table.get_mut(found.entry()) {
                    entry.last_seen = seat.tick.0;
                }
                self.pass(table, seat, slot, found)
            }
            flags if flags & RST != 0 => self.act_as_it_is(table, seat, slot, found),
            _ => Err(not_open_yet()),
        }
    }

    /// The server's first packet.
    fn answered<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        match slot.headers.tcp_flags.0 & (SYN | ACK | RST | FIN) {
            flags if flags == SYN | ACK => self.accepted(table, seat, slot, found),
            flags if flags & RST != 0 => self.refused(table, seat, slot, found),
            _ => Err(not_open_yet()),
        }
    }

    /// The server's SYN-ACK.
    fn accepted<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let Some(entry) = table.get_mut(found.entry()) else { return Ok(Leaves::ByChain) };
        let goes_back = self.paths.via(entry.path(Side::First)) == Via::Back;
        let cookie = entry.shift().seq;
        let options = syn_ack_options(slot.packet.data(), slot.headers).ok_or_else(not_open_yet)?;
        let answer = segment(slot.packet.data(), slot.headers).ok_or_else(not_open_yet)?;
        let mut track = entry.track;
        take(&mut track, Way::Reply, &answer)?;
        let (scale, window) = track.opener_window();
        let cookies = self.guards.of(seat.number).and_then(|at| cookies_of(at, seat.plan));
        // With a scale of its own the client was told one.
        let told = scale.and(cookies.and_then(|c| c.server.window_scale));
        let window = window >> scale.filter(|_| options.window_scale.is_some()).unwrap_or(0);
        let opened = Opened {
            client_isn: answer.ack.wrapping_sub(1),
            server_isn: cookie,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            // It echoes the client's clock. Where ours stood is not kept; it has not gone back since.
            timestamps: options.timestamps.map(|(_, client)| (client, now_or_later(seat))),
        };
        let data = slot.packet.data();
        let mut by = Shift::default();
        let ack = Frame::of(|out| {
            let (length, found) = ack_to_server(data, slot.headers, &opened, out)?;
            by = found;
            Some(length)
        });
        let told = told.unwrap_or(0);
        let open = Frame::of(|out| window_to_client(data, slot.headers, &opened, told, out));
        let both = ack.zip(open).and_then(|(ack, open)| {
            let headers = (ack.headers()?, open.headers()?);
            let acked = segment(ack.bytes(), &headers.0)?;
            Some((ack, acked, open, headers.1))
        });
        let Some((ack, acked, open, of_open)) = both else { return Err(not_open_yet()) };
        take(&mut track, Way::Original, &acked)?;
        if !put_into(&open, &of_open, seat, slot) {
            return Err(not_open_yet());
        }
        entry.track = track;
        entry.flags |= flag::REPLIED;
        entry.last_seen = seat.tick.0;
        entry.put_shift(by);
        let made = Made { frame: ack, direction: turned(seat.direction), goes_back };
        // One for each packet of a burst: there is room. Without it the server would ask again.
        let _ = self.made.try_push(made);
        self.move_on(table, seat, found.entry(), Moves::On);
        if let Some(guard) = self.guards.of(seat.number)
            && !is_as_told(cookies, scale, &options)
        {
            count(guard, seat, SynCookies::UNLIKE);
        }
        self.pass(table, seat, slot, found)
    }

    /// The server's reset: to the client it has to have the number that comes next.
    fn refused<A: Address>(
        &mut self,
        table: &mut Table<A>,
        seat: &Seat<'_>,
        slot: &mut Slot<'_>,
        found: FlowRef,
    ) -> Result<Leaves, Refused> {
        let reset = segment(slot.packet.data(), slot.headers).ok_or_else(not_open_yet)?;
        let leaves = self.act_as_it_is(table, seat, slot, found)?;
        let Some(entry) = table.get_mut(found.entry()) else { return Ok(leaves) };
        if entry.track.state() == Some(TcpState::SynSent) {
            return Err(not_open_yet());
        }
        let next = entry.shift().seq.wrapping_add(1);
        let by = Shift { seq: next.wrapping_sub(reset.seq), timestamp: 0 };
        // As long as the flow is remembered, others follow it.
        entry.put_shift(by);
        let (start, end) = (usize::from(slot.headers.l4), usize::from(slot.headers.l3_end));
        if let Some(tcp) = slot.packet.data_mut().get_mut(start..end) {
            let _ = shift_seq(tcp, by.seq);
        }
        Ok(leaves)
    }
}

/// Takes a segment into a track; it must be one of its connection.
fn take(track: &mut TcpTrack, way: Way, segment: &Segment) -> Result<(), Refused> {
    match track.next(way, segment, Strictness::Strict) {
        Ok(Change::State(_)) => Ok(()),
        Ok(_) => Err(not_open_yet()),
        Err(invalid) => Err(unkept(FlowRefusal::Tcp(invalid))),
    }
}

fn opening_of(guard: usize, seat: &Seat<'_>, slot: &Slot<'_>) -> Option<Opening> {
    let data = slot.packet.data();
    let (opened, syn) = cookies_of(guard, seat.plan)?.open(data, slot.headers, seat.now)?;
    // That of a SYN is not scaled.
    let window = u32::from(opened.window) << syn.options.window_scale.unwrap_or(0);
    let window = u16::try_from(window).unwrap_or(u16::MAX);
    let frame = Frame::of(|out| syn_to_server(data, slot.headers, &syn, window, out))?;
    let headers = frame.headers()?;
    Some(Opening { frame, headers, opened })
}

/// Makes a packet another one. False: it does not fit, and nothing is changed.
fn put_into(frame: &Frame, headers: &Headers, seat: &Seat<'_>, slot: &mut Slot<'_>) -> bool {
    if !become_of(slot.packet, frame.bytes()) {
        return false;
    }
    *slot.headers = *headers;
    seat.resized.set(true);
    true
}

/// Makes a packet these bytes. False: they do not fit, and nothing is changed.
pub(in crate::worker) fn become_of(packet: &mut Packet, bytes: &[u8]) -> bool {
    let there = packet.data().len();
    let fits = match bytes.len().checked_sub(there) {
        Some(more) => packet.append(bytes.get(..more).unwrap_or_default()),
        None => u16::try_from(there - bytes.len()).is_ok_and(|less| packet.trim(less)),
    };
    if fits {
        // A capture may have held less of it than there was.
        packet.set_wire_length(0);
        packet.data_mut().copy_from_slice(bytes);
    }
    fits
}

/// Whether the server is as the client was told. `scale`: the client's, which it gave if it was told the server's.
fn is_as_told(cookies: Option<&SynCookies>, scale: Option<u8>, said: &SynOptions) -> bool {
    let Some((cookies, _)) = cookies.zip(scale) else { return true };
    said.window_scale == cookies.server.window_scale && said.timestamps.is_some()
}

/// Our clock as far as any client may have seen it: the low bits of what it saw said something else.
fn now_or_later(seat: &Seat<'_>) -> u32 {
    clock(seat.now).wrapping_add(STAMP_BITS)
}

fn cookies_of(guard: usize, plan: &Plan) -> Option<&SynCookies> {
    plan.functions.get(guard)?.built.syn_cookies.as_ref()
}

fn count(guard: usize, seat: &Seat<'_>, which: usize) {
    if let (Some(function), Some(cookies)) =
        (seat.plan.functions.get(guard), cookies_of(guard, seat.plan))
    {
        seat.cells.add(function.cells.counters.plus(cookies.counters + which), 1);
    }
}

fn not_open_yet() -> Refused {
    unkept(FlowRefusal::Tcp(Invalid::NotOpenYet))
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// One more than those of a timestamp that mean something else.
const STAMP_BITS: u32 = 64;
