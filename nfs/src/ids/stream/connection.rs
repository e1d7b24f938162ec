//! A connection's numbers, and which segments belong to it.
//!
//! The rules are those of a receiver (RFC 9293, RFC 7323, RFC 5961) where all receivers agree, and lenient where they do
//! not: who looks on must not be blinded by a segment that the target throws away, nor by one that it takes. What is
//! refused gets the name that Suricata's stream engine has for it.

use super::config::{Mode, OneSide, Settings};
use super::event::{Event, Events};
use super::half::{FINISHED, Half, REACH, RESET, SCALED, SEEN, SYN_SEEN};
use super::key::{End, Side};
use super::offers::Offers;
use super::policy::OverlapPolicy;
use super::segment::{ACK, FIN, RST, SYN, Segment, URG, before, later};
use super::state::TcpState;

/// A connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    /// By [`Side`]: what each sends.
    pub(super) halves: [Half; 2],
    /// [`Offers`] that may still turn out to be the ones.
    pub(super) offers: u32,
    pub(super) state: TcpState,
    /// Where it stood before a RST.
    pub(super) before_reset: TcpState,
    /// [`MIDSTREAM`] and others.
    pub(super) flags: u16,
}

/// What a segment is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of it.
    Taken,
    /// Part of it, but its payload is none of the stream's.
    NoPayload,
    /// Nothing that its receiver would take.
    Refused,
    /// The SYN of a new one with the same ends. This one is as it was.
    Reopens,
}

/// What tracking needs besides.
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) events: &'a mut Events,
    pub(super) offers: &'a mut Offers,
    pub(super) tick: u32,
    /// Bytes that this segment acknowledges and nobody saw.
    pub(super) unseen: u32,
}

impl Connection {
    /// Notes a segment.
    #[inline]
    pub(super) fn track(
        &mut self,
        segment: &Segment<'_>,
        side: Side,
        cx: &mut Surroundings<'_>,
    ) -> Step {
        if !segment.has(ACK) && segment.ack != 0 && !segment.has(RST) {
            cx.events.add(Event::PktBrokenAck);
        }
        let step = match self.state {
            TcpState::None | TcpState::SynSent => self.in_syn_sent(segment, side, cx),
            TcpState::SynRecv => self.in_syn_recv(segment, side, cx),
            TcpState::Closed => self.in_closed(segment, side, cx),
            _ => self.in_open(segment, side, cx),
        };
        if matches!(step, Step::Taken | Step::NoPayload) {
            self.half_mut(side).mark(SEEN);
        }
        step
    }

    /// The side that an end of the key is.
    #[inline]
    pub(super) fn side_of(&self, end: End) -> Side {
        if self.client() == end { Side::Client } else { Side::Server }
    }

    /// The end of the key that is the client.
    #[inline]
    pub(super) fn client(&self) -> End {
        if self.has(CLIENT_IS_HIGH) { End::High } else { End::Low }
    }

    #[inline]
    pub(super) fn half(&self, side: Side) -> &Half {
        let [client, server] = &self.halves;
        if side == Side::Client { client } else { server }
    }

    #[inline]
    pub(super) fn half_mut(&mut self, side: Side) -> &mut Half {
        let [client, server] = &mut self.halves;
        if side == Side::Client { client } else { server }
    }

    #[inline]
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn in_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        side: Side,
        cx: &mut Surroundings<'_>,
    ) -> Step {
        if segment.has(RST) {
            return self.reset(segment, side, cx);
        }
        match (segment.has(SYN), segment.has(ACK), side) {
            (true, true, Side::Server) => self.take_syn_ack(segment, cx),
            (true, true, Side::Client) if self.has(FOUR_WAY) => {
                self.take_four_way_syn_ack(segment, cx)
            }
            (true, true, Side::Client) => refuse(cx, Event::HandshakeSynackInWrongDirection),
            (true, false, Side::Client) => self.take_syn_again(segment, cx),
            (true, false, Side::Server) => self.take_second_syn(segment, cx),
            // A split handshake begins with the server's bare ACK of the SYN.
            (false, true, Side::Server) => {
                let client = self.half(Side::Client);
                let acks_syn = segment.ack == client.isn.wrapping_add(1);
                if acks_syn && segment.length == 0 { Step::NoPayload } else { Step::Refused }
            }
            (false, true, Side::Client) if cx.settings.one_side == OneSide::Follow => {
                self.take_async(segment, cx)
            }
            _ => Step::Refused,
        }
    }

    /// The client's SYN once more: the same, or one that takes its place if the server answers it.
    fn take_syn_again(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        let isn = self.half(Side::Client).isn;
        if segment.seq == isn {
            return Step::NoPayload;
        }
        if !cx.offers.add(&mut self.offers, segment) {
            return refuse(cx, Event::HandshakeSynFlood);
        }
        Step::NoPayload
    }

    /// A SYN from the server: both open at once, or the handshake is split.
    fn take_second_syn(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        self.flags |= FOUR_WAY;
        self.hear_server(segment, cx.tick);
        Step::NoPayload
    }

    fn take_four_way_syn_ack(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        let [client, server] = &mut self.halves;
        if segment.ack != server.isn.wrapping_add(1) {
            return refuse(cx, Event::FourWaySynackWithWrongAck);
        }
        if segment.seq != client.isn {
            return refuse(cx, Event::FourWaySynackWithWrongSyn);
        }
        server.acknowledge(segment.ack, u32::from(segment.window));
        self.state = TcpState::SynRecv;
        Step::NoPayload
    }

    fn take_syn_ack(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        if !self.acks_a_syn(segment) {
            let Some(offer) = cx.offers.find(self.offers, segment.ack) else {
                return refuse(cx, Event::HandshakeSynackWithWrongAck);
            };
            // The server took another SYN than the first.
            let syn = offer.segment();
            let [client, server] = &mut self.halves;
            if !client.bytes.is_empty() {
                return refuse(cx, Event::HandshakeSynackWithWrongAck);
            }
            client.start(syn.seq);
            client.read_syn(&syn, cx.tick);
            server.window = u32::from(syn.window);
        }
        cx.offers.clear(&mut self.offers);
        self.hear_server(segment, cx.tick);
        let [client, server] = &mut self.halves;
        // The number of what was not taken is sent again.
        if before(segment.ack, client.next) {
            client.next = segment.ack;
            if self.flags & FAST_OPEN != 0 {
                cx.events.add(Event::HandshakeSynackTfoDataIgnored);
            }
        }
        client.acknowledge(segment.ack, u32::from(segment.window));
        server.edge = later(server.edge, server.acked.wrapping_add(server.window));
        self.state = TcpState::SynRecv;
        Step::Taken
    }

    /// Whether it acknowledges the client's SYN, or the SYN and its data.
    fn acks_a_syn(&self, segment: &Segment<'_>) -> bool {
        let client = self.half(Side::Client);
        let first = client.isn.wrapping_add(1);
        segment.ack.wrapping_sub(first) <= client.next.wrapping_sub(first)
    }

    fn hear_server(&mut self, segment: &Segment<'_>, tick: u32) {
        let server = self.half_mut(Side::Server);
        let window = server.window;
        server.start(segment.seq);
        server.read_syn(segment, tick);
        server.send(segment, tick);
        server.window = window;
        server.edge = server.acked.wrapping_add(window);
        let client = self.half_mut(Side::Client);
        client.window = u32::from(segment.window);
        client.edge = later(client.edge, client.acked.wrapping_add(client.window));
    }

    /// The client goes on although nobody answered: the other side is not seen.
    fn take_async(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        let [client, server] = &mut self.halves;
        if segment.seq != client.next && segment.seq != client.isn.wrapping_add(1) {
            return refuse(cx, Event::HandshakeAsyncWrongSeq);
        }
        server.start(segment.ack.wrapping_sub(1));
        server.acknowledge(segment.ack, u32::from(segment.window));
        client.send(segment, cx.tick);
        self.flags |= ASYNC | MIDSTREAM;
        self.state = TcpState::Established;
        Step::Taken
    }

    fn in_syn_recv(
        &mut self,
        segment: &Segment<'_>,
        side: Side,
        cx: &mut Surroundings<'_>,
    ) -> Step {
        if segment.has(RST) {
            return self.reset(segment, side, cx);
        }
        let [client, server] = &self.halves;
        match (segment.has(SYN), segment.has(ACK), side) {
            (true, true, Side::Client) if !self.has(FOUR_WAY) => {
                refuse(cx, Event::HandshakeSynackToserverOnSynRecv)
            }
            (true, true, Side::Client) => Step::NoPayload,
            (true, true, Side::Server) => {
                if !self.acks_a_syn(segment) {
                    return refuse(cx, Event::HandshakeSynackResendWithDifferentAck);
                }
                if segment.seq == server.isn {
                    return Step::NoPayload;
                }
                // The client's ACK will tell which one it got.
                if !cx.offers.add(&mut self.offers, segment) {
                    cx.events.add(Event::HandshakeSynackResendWithDiffSeq);
                    return refuse(cx, Event::HandshakeSynackFlood);
                }
                Step::NoPayload
            }
            (true, false, Side::Client) if segment.seq == client.isn => Step::NoPayload,
            (true, false, Side::Client) => refuse(cx, Event::HandshakeSynResendDiffSeqOnSynRecv),
            (true, false, Side::Server) if self.has(FOUR_WAY) => Step::NoPayload,
            (true, false, Side::Server) => refuse(cx, Event::HandshakeSynToclientOnSynRecv),
            (false, false, _) => Step::Refused,
            (false, true, Side::Client) => self.take_client_ack(segment, cx),
            (false, true, Side::Server) => self.take_server_ack(segment, cx),
        }
    }

    fn take_client_ack(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        let slack = self.slack();
        let [client, server] = &self.halves;
        let is_ack_right = segment.ack.wrapping_sub(server.isn.wrapping_add(1))
            <= server.next.wrapping_sub(server.isn.wrapping_add(1));
        let is_seq_right = segment.seq == client.next
            || (!before(segment.seq, client.isn.wrapping_add(1))
                && client.takes_end(segment, slack));
        if is_seq_right && !is_ack_right && !self.has(MIDSTREAM) {
            match cx.offers.find(self.offers, segment.ack) {
                // It answers another SYN-ACK than the first.
                Some(offer) if server.bytes.is_empty() => {
                    self.hear_server(&offer.segment(), cx.tick);
                }
                _ => return refuse(cx, Event::HandshakeRightSeqWrongAckEvasion),
            }
        } else if !is_seq_right {
            return if is_ack_right {
                Step::Refused
            } else {
                refuse(cx, Event::HandshakeWrongSeqWrongAck)
            };
        }
        cx.offers.clear(&mut self.offers);
        self.state = TcpState::Established;
        self.in_open(segment, Side::Client, cx)
    }

    /// The server goes on before the client's ACK was seen.
    fn take_server_ack(&mut self, segment: &Segment<'_>, cx: &mut Surroundings<'_>) -> Step {
        let [client, server] = &self.halves;
        let is_next = segment.seq == server.next;
        let acks_all = segment.ack == client.next;
        if self.has(FOUR_WAY) {
            if !is_next {
                return refuse(cx, Event::FourWayWrongSeq);
            }
            if !acks_all {
                return refuse(cx, Event::FourWayInvalidAck);
            }
        } else if self.has(MIDSTREAM) {
            // The client is not seen, so far.
            if cx.settings.one_side == OneSide::Follow {
                self.flags |= ASYNC;
            }
        } else if !self.has(FAST_OPEN) {
            let is_behind = before(server.next, segment.seq) && server.takes_end(segment, 0);
            if before(segment.ack, client.next) || !acks_all || !(is_next || is_behind) {
                return refuse(cx, Event::HandshakeAckInWrongDir);
            }
            if cx.settings.mode == Mode::Inline && segment.length > 0 {
                // On the path, the client's ACK would have been seen before the server had it.
                return refuse(cx, Event::HandshakeAckDataInject);
            }
        }
        self.state = TcpState::Established;
        self.in_open(segment, Side::Server, cx)
    }

    /// After a RST the other side may show that it has not taken it.
    fn in_closed(&mut self, segment: &Segment<'_>, side: Side, cx: &mut Surroundings<'_>) -> Step {
        if segment.has(SYN) && !segment.has(ACK) {
            return Step::Reopens;
        }
        let was_reset = self.half(side.other()).has(RESET) && !self.half(side).has(RESET);
        if segment.has(RST) || segment.has(SYN) || !was_reset || !self.has(WAS_OPEN) {
            return Step::NoPayload;
        }
        let after = std::mem::replace(&mut self.state, self.before_reset);
        let step = self.in_open(segment, side, cx);
        if step == Step::Taken {
            cx.events.add(Event::SuspectedRstInject);
            self.half_mut(side.other()).marks &= !RESET;
        } else {
            self.state = after;
        }
        step
    }

    /// From the handshake's end to the last ACK.
    #[inline]
    fn in_open(&mut self, segment: &Segment<'_>, side: Side, cx: &mut Surroundings<'_>) -> Step {
        if segment.has(RST) {
            return self.reset(segment, side, cx);
        }
        if segment.has(SYN) {
            return self.take_late_syn(segment, side, cx);
        }
        let slack = self.slack();
        let scale = self.shift(side);
        let peer_passes_by = self.has(passes_by(side.other()));
        let [client, server] = &mut self.halves;
        let (own, peer) = if side == Side::Client { (client, server) } else { (server, client) };
        if peer_passes_by {
            own.trust();
        }
        if !own.takes_stamp(segment, cx.tick) {
            return refuse(cx, Event::PktInvalidTimestamp);
        }
        let window = u32::from(segment.window) << scale;
        // A byte that was acknowledged, or none, just to be answered (RFC 9293, section 3.8.4).
        let is_keepalive = segment.seq == own.next.wrapping_sub(1)
            && segment.length <= 1
            && !segment.has(FIN)
            && own.acked == own.next;
        if !own.takes_end(segment, slack) {
            return refuse(cx, out_of_window(self.state, segment));
        }
        if segment.has(ACK) {
            if !peer.takes_ack(segment.ack, slack) {
                cx.events.add(Event::PktInvalidAck);
                return refuse(cx, invalid_ack(self.state, segment));
            }
            let shrinks = window < peer.window && peer.window - window > segment.length;
            if shrinks && before(peer.next, segment.ack) && before(own.next, segment.seq) {
                return refuse(cx, Event::PktBadWindowUpdate);
            }
        } else if !segment.has(FIN) && slack == 0 {
            // Receivers take nothing without an ACK once the handshake is done (RFC 9293, section 3.10.7.4).
            return Step::Refused;
        }
        if segment.length > 0 && !is_keepalive && !before(own.next, segment.end()) {
            if !before(own.acked, segment.end()) {
                cx.events.add(Event::PktSpuriousRetransmission);
                cx.events.add(match self.state {
                    TcpState::CloseWait => Event::ClosewaitPktBeforeLastAck,
                    _ => Event::EstPktBeforeLastAck,
                });
            } else {
                cx.events.add(Event::PktRetransmission);
            }
        }
        if segment.has(ACK) {
            let unseen = peer.acknowledge(segment.ack, window);
            cx.unseen = if peer_passes_by { 0 } else { unseen };
        }
        own.send(segment, cx.tick);
        if segment.has(FIN) {
            let is_first = !own.has(FINISHED);
            own.mark(FINISHED);
            if is_first {
                own.fin = segment.end().wrapping_sub(1);
            }
        }
        self.flags |= WAS_OPEN;
        if self.half(side.other()).has(SEEN) {
            self.flags &= !ASYNC;
        }
        self.advance(side);
        if is_keepalive { Step::NoPayload } else { Step::Taken }
    }

    /// Whether a segment is what is expected next of a side, with nothing odd about it: the next bytes, or none, and an
    /// acknowledgement of what was sent. Of such a segment [`Connection::track`] does what [`Connection::go_on`] does.
    #[inline]
    pub(super) fn expects(&self, segment: &Segment<'_>, side: Side, tick: u32) -> bool {
        let (own, peer) = (self.half(side), self.half(side.other()));
        self.state == TcpState::Established
            && segment.flags.0 & (SYN | FIN | RST | URG | ACK) == ACK
            && segment.length as usize == segment.payload.len()
            && segment.seq == own.next
            && segment.seq == own.bytes.next()
            && (!before(peer.bytes.next(), segment.ack) || self.has(passes_by(side.other())))
            && !before(segment.ack, peer.acked)
            && own.takes_stamp(segment, tick)
            && own.takes_end(segment, self.slack())
            && !self.has(ASYNC)
    }

    /// Notes a segment that was expected.
    #[inline]
    pub(super) fn go_on(&mut self, segment: &Segment<'_>, side: Side, tick: u32) {
        let window = u32::from(segment.window) << self.shift(side);
        self.half_mut(side.other()).acknowledge(segment.ack, window);
        let own = self.half_mut(side);
        own.send(segment, tick);
        own.mark(SEEN);
        self.flags |= WAS_OPEN;
    }

    /// Where it stands after a segment of a side.
    #[inline]
    fn advance(&mut self, side: Side) {
        let [client, server] = &self.halves;
        let fins = (client.has(FINISHED), server.has(FINISHED));
        if fins == (false, false) {
            return;
        }
        self.state = match (self.state, fins, side) {
            (TcpState::Established, (true, false), _) => TcpState::CloseWait,
            (TcpState::Established, (_, true), _) => TcpState::FinWait1,
            (TcpState::CloseWait, (_, true), _) => TcpState::LastAck,
            (TcpState::FinWait1 | TcpState::FinWait2, (true, _), _) if server.is_fin_taken() => {
                TcpState::TimeWait
            }
            (TcpState::FinWait1, (true, _), _) => TcpState::Closing,
            (TcpState::FinWait1, _, _) if server.is_fin_taken() => TcpState::FinWait2,
            (TcpState::Closing, _, _) if server.is_fin_taken() => TcpState::TimeWait,
            (TcpState::LastAck, _, _) if server.is_fin_taken() => TcpState::Closed,
            (TcpState::TimeWait, _, _) if client.is_fin_taken() => TcpState::Closed,
            (state, _, _) => state,
        };
    }

    /// A SYN or SYN-ACK after the handshake.
    fn take_late_syn(
        &mut self,
        segment: &Segment<'_>,
        side: Side,
        cx: &mut Surroundings<'_>,
    ) -> Step {
        let [client, server] = &self.halves;
        let is_closing = self.state != TcpState::Established;
        if !segment.has(ACK) {
            let is_over = matches!(self.state, TcpState::TimeWait | TcpState::LastAck);
            let is_other = segment.seq != self.half(side).isn;
            if is_over && is_other {
                return Step::Reopens;
            }
            let event = match side {
                _ if is_closing => Event::ShutdownSynResend,
                Side::Server => Event::EstSynToclient,
                Side::Client if is_other => Event::EstSynResendDiffSeq,
                Side::Client => Event::EstSynResend,
            };
            return refuse(cx, event);
        }
        let is_again = segment.seq == server.isn && segment.ack == client.isn.wrapping_add(1);
        let event = match side {
            Side::Client if self.has(FOUR_WAY) => return Step::NoPayload,
            Side::Client => Event::EstSynackToserver,
            // The client's ACK was lost, or has not come yet.
            Side::Server if is_again && server.next == server.isn.wrapping_add(1) => {
                return Step::NoPayload;
            }
            Side::Server if segment.ack != client.isn.wrapping_add(1) => {
                Event::EstSynackResendWithDifferentAck
            }
            Side::Server if segment.seq != server.isn => Event::EstSynackResendWithDiffSeq,
            Side::Server => Event::EstSynackResend,
        };
        refuse(cx, event)
    }

    /// A RST, taken as its receiver would take it. Its data is no part of the stream.
    fn reset(&mut self, segment: &Segment<'_>, side: Side, cx: &mut Surroundings<'_>) -> Step {
        let slack = self.slack();
        let [client, server] = &self.halves;
        let (own, peer) = if side == Side::Client { (client, server) } else { (server, client) };
        let is_taken = match (self.state, side) {
            // Of one that has said nothing, what it answers counts.
            (TcpState::SynSent, Side::Server) if !self.has(FOUR_WAY) => {
                segment.has(ACK) && self.acks_a_syn(segment)
            }
            _ if slack != 0 || !own.has(SEEN | SYN_SEEN) => {
                segment.seq.wrapping_sub(own.acked).cast_signed().unsigned_abs() < REACH
            }
            _ => {
                let is_known = !before(segment.seq, own.acked) && !before(own.next, segment.seq);
                match own.policy {
                    OverlapPolicy::Hpux11 => !before(segment.seq, own.acked),
                    OverlapPolicy::OldLinux | OverlapPolicy::Linux | OverlapPolicy::Solaris => {
                        is_known
                            || (!before(segment.seq, own.acked)
                                && !before(later(own.edge, own.next), segment.seq))
                    }
                    _ => is_known,
                }
            }
        };
        let is_ack_right = !segment.has(ACK)
            || self.state <= TcpState::SynRecv
            || peer.takes_ack(segment.ack, slack);
        if !is_taken || !is_ack_right {
            return refuse(cx, Event::RstInvalidAck);
        }
        self.before_reset = self.state;
        self.state = TcpState::Closed;
        cx.offers.clear(&mut self.offers);
        self.half_mut(side).mark(RESET);
        Step::NoPayload
    }

    /// How much further numbers may reach than is known: both sides' windows are known after a whole handshake only.
    #[inline]
    fn slack(&self) -> u32 {
        if self.flags & (MIDSTREAM | ASYNC) == 0 { 0 } else { REACH }
    }

    /// The shift of a side's windows.
    #[inline]
    fn shift(&self, side: Side) -> u8 {
        let [client, server] = &self.halves;
        let are_scaled = client.has(SCALED) && server.has(SCALED);
        if are_scaled || self.has(MIDSTREAM) { self.half(side).scale } else { 0 }
    }
}

fn refuse(cx: &mut Surroundings<'_>, event: Event) -> Step {
    cx.events.add(event);
    Step::Refused
}

fn out_of_window(state: TcpState, segment: &Segment<'_>) -> Event {
    match (state, segment.has(FIN)) {
        (TcpState::FinWait1, true) => Event::Fin1FinWrongSeq,
        (TcpState::FinWait1, false) => Event::Fin1AckWrongSeq,
        (TcpState::FinWait2, true) => Event::Fin2FinWrongSeq,
        (TcpState::FinWait2, false) => Event::Fin2AckWrongSeq,
        (TcpState::CloseWait, true) => Event::ClosewaitFinOutOfWindow,
        (TcpState::CloseWait, false) => Event::ClosewaitAckOutOfWindow,
        (TcpState::Closing, _) => Event::ClosingAckWrongSeq,
        (TcpState::LastAck, _) => Event::LastackAckWrongSeq,
        (TcpState::TimeWait, _) => Event::TimewaitAckWrongSeq,
        (_, true) => Event::FinOutOfWindow,
        (_, false) => Event::EstPacketOutOfWindow,
    }
}

fn invalid_ack(state: TcpState, segment: &Segment<'_>) -> Event {
    match state {
        TcpState::FinWait1 => Event::Fin1InvalidAck,
        TcpState::FinWait2 => Event::Fin2InvalidAck,
        TcpState::CloseWait => Event::ClosewaitInvalidAck,
        TcpState::Closing => Event::ClosingInvalidAck,
        TcpState::LastAck => Event::LastackInvalidAck,
        TcpState::TimeWait => Event::TimewaitInvalidAck,
        _ if segment.has(FIN) => Event::FinInvalidAck,
        _ => Event::EstInvalidAck,
    }
}

/// Its SYN was not seen.
pub(super) const MIDSTREAM: u16 = 1;
/// One side alone was seen.
pub(super) const ASYNC: u16 = 2;
/// Both sides sent a SYN.
pub(super) const FOUR_WAY: u16 = 4;
/// Its SYN asked for, or brought, a fast open.
pub(super) const FAST_OPEN: u16 = 8;
/// It was open before a RST.
pub(super) const WAS_OPEN: u16 = 16;
/// The client is the higher end of its key.
pub(super) const CLIENT_IS_HIGH: u16 = 32;
/// It has bytes that wait or are kept.
pub(super) const HOLDS: u16 = 64;
/// The mark of a side whose segments are not all shown any more.
pub(super) fn passes_by(side: Side) -> u16 {
    if side == Side::Client { 1 << 10 } else { 1 << 11 }
}
/// The list that it is in, by its phase: two bits.
pub(super) const PHASE_SHIFT: u16 = 8;
