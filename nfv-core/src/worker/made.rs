//! Packets that are made where flows are kept: they go on from there, as if they had come through their chain so far.

use super::flows::become_of;
use super::{Io, Own};
use crate::chain::compile::{Plan, ProgramId, Step};
use crate::clock::Time;
use crate::dpdk::{BURST_MAX, Packet};
use crate::flow::{FlowRef, FlowRefusal};
use crate::nf::{Direction, Made, OUTBOX_MAX, Place, PortIndex, SynCookies};
use crate::packet::tcp_build::HANDSHAKE_MAX;
use crate::packet::{Headers, TCP_RESET_MAX, parse, tcp_reset_onward};

impl Own {
    /// Answers a SYN with a cookie, which the function at `at` of the plan gives: the SYN is no more, and the answer goes
    /// the other way from its piece on.
    #[cold]
    pub(super) fn give_cookie(
        &mut self,
        plan: &Plan,
        (piece, at): (usize, u16),
        (mut packet, headers): (Packet, &Headers),
        (port, direction): (PortIndex, Direction),
        now: Time,
    ) {
        let function = plan.functions.get(usize::from(at));
        let cookies = function.and_then(|f| Some((f, f.built.syn_cookies.as_ref()?)));
        let mut frame = [0; HANDSHAKE_MAX];
        let answered = cookies.and_then(|(function, cookies)| {
            let length = cookies.answer(packet.data(), headers, now, &mut frame)?;
            // In the SYN's own buffer, of which there is one for each.
            become_of(&mut packet, frame.get(..length)?).then_some((function, cookies))
        });
        let Some((function, cookies)) = answered else {
            return self.drop(packet, plan.cells.unkept.plus(FlowRefusal::NoCookie.index()));
        };
        let sent = function.cells.counters.plus(cookies.counters + SynCookies::SENT);
        self.cells.add(sent, 1);
        self.cells.add(plan.cells.consumed, 1);
        self.cells.add(plan.cells.created, 1);
        let back = match direction {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        };
        self.send_made(plan, (piece, back), packet, port);
    }

    /// Puts a reset in the place of a segment that is refused: it goes on from a place.
    #[cold]
    pub(super) fn reset_onward(
        &mut self,
        plan: &Plan,
        (frame, headers): (&[u8], &Headers),
        from: Place,
        now: Time,
    ) {
        let mut out = [0; TCP_RESET_MAX];
        let Some(length) = tcp_reset_onward(frame, headers, &mut out) else { return };
        if !self.answers.take(now) || self.made.len() >= OUTBOX_MAX {
            return self.cells.add(plan.cells.unanswered, 1);
        }
        let made = self.pool.packet_of(out.get(..length).unwrap_or_default());
        let headers = made.as_ref().and_then(|made| parse(made.data(), made.len()).ok());
        match made.zip(headers) {
            Some((packet, headers)) => {
                self.cells.add(plan.cells.created, 1);
                self.made.push(Made { packet, headers, from });
            }
            None => self.cells.add(plan.cells.unanswered, 1),
        }
    }

    /// Takes up what the flows made of a burst at a piece.
    #[inline]
    pub(super) fn take_up_made(&mut self, plan: &Plan, piece: usize, port: PortIndex) {
        while let Some(made) = self.flows.as_mut().and_then(|flows| flows.take_made()) {
            // Without it the server sends its SYN-ACK again, which then goes to the client, and the client answers.
            let Some(packet) = self.pool.packet_of(made.bytes()) else {
                self.cells.add(plan.cells.unanswered, 1);
                continue;
            };
            self.cells.add(plan.cells.created, 1);
            if made.goes_back && self.outbox.len() < OUTBOX_MAX {
                self.outbox.push((port, packet));
            } else {
                self.send_made(plan, (piece, made.direction), packet, port);
            }
        }
    }

    /// Sends a packet that was made at a piece on its way, when the burst at hand is done. `port`: of that burst.
    fn send_made(
        &mut self,
        plan: &Plan,
        (piece, direction): (usize, Direction),
        packet: Packet,
        port: PortIndex,
    ) {
        let place = place_behind(plan, piece, direction, port);
        let headers = parse(packet.data(), packet.len()).ok();
        match place.zip(headers) {
            Some((from, headers)) if self.made.len() < OUTBOX_MAX => {
                self.made.push(Made { packet, headers, from });
            }
            _ => self.drop(packet, plan.cells.unkept.plus(FlowRefusal::NoCookie.index())),
        }
    }

    /// Runs what was made to its end, a burst at a time.
    #[cold]
    pub(super) fn run_made(&mut self, plan: &Plan, io: &mut impl Io, now: Time) {
        let Some(mut burst) = self.spare.take() else { return };
        while let Some(first) = self.made.first() {
            let from = first.from;
            let same = self.made.iter().take(BURST_MAX).take_while(|made| made.from == from);
            for Made { packet, headers, .. } in self.made.drain(..same.count()) {
                burst.push(packet, &headers, FlowRef::NONE);
            }
            self.run_from(plan, (from.program, from.step), &mut burst, from.port, io, now);
        }
        self.spare = Some(burst);
    }
}

/// Behind a piece, in a direction.
fn place_behind(plan: &Plan, piece: usize, direction: Direction, port: PortIndex) -> Option<Place> {
    let [forward, reverse] = plan.pieces.get(piece)?.programs?;
    let (own, other) = match direction {
        Direction::Forward => (forward, reverse),
        Direction::Reverse => (reverse, forward),
    };
    let of = |id: ProgramId| plan.programs.get(usize::from(id.0));
    let is_it = |step: &Step| matches!(step, Step::Piece(at) if *at == piece);
    let step = of(own)?.steps.iter().position(is_it)? + 1;
    // Where the chain's packets of this direction come in, when it says so.
    let port = of(other)?.to.unwrap_or(port);
    Some(Place { program: own, step, port })
}
