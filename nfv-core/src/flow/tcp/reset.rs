//! Resets: which of them end a connection.

use super::segment::before;
use super::{
    Change, Invalid, PICKED_UP, Segment, TcpState, TcpTrack, Way, check_ack_between, seen,
};

impl TcpTrack {
    /// A reset, which ends it at the number that its receiver expects.
    pub(super) fn reset(
        &mut self,
        state: TcpState,
        way: Way,
        s: &Segment,
    ) -> Result<Change, Invalid> {
        let (me, peer) = self.both(way);
        if self.has(PICKED_UP) && !self.is_seen_both() {
            self.check_seq(way, s).map_err(|_| Invalid::BadReset)?;
        } else if way == Way::Reply && !self.has(seen(Way::Reply)) {
            // It refuses the SYN, which it must acknowledge; numbers of its own it has none.
            if !s.has_ack() || check_ack_between(me.acked, s.ack, peer.end).is_err() {
                return Err(Invalid::BadReset);
            }
        } else if s.seq != peer.acked && s.seq != me.end {
            // To a connection of the past that its receiver told of: this one goes on. See `data`.
            return if state == TcpState::SynSent && s.seq == me.max_end {
                Ok(Change::Same)
            } else {
                self.inexact_reset(state, way, s)
            };
        }
        Ok(self.enter(TcpState::Closed))
    }

    /// A reset at another number than its receiver expects, as far as is known here. As Linux: in the window of a
    /// connection that stands it passes and changes nothing, as its receiver asks back and is told the right number
    /// (RFC 5961, section 3); in that of one that opens or closes it ends it. One that closes has all of its resets pass,
    /// so that nobody waits for the end of a time; those outside the window do not end it, which differs from Linux.
    fn inexact_reset(&mut self, state: TcpState, way: Way, s: &Segment) -> Result<Change, Invalid> {
        let (_, peer) = self.both(way);
        let is_new = !before(s.seq, peer.acked);
        let in_window =
            is_new && if s.has_ack() { self.check(way, s) } else { self.check_seq(way, s) }.is_ok();
        match state {
            TcpState::SynSent | TcpState::SynSent2 => Err(Invalid::BadReset),
            TcpState::SynReceived if in_window => Ok(self.enter(TcpState::Closed)),
            TcpState::Established if in_window => Ok(Change::Same),
            TcpState::SynReceived | TcpState::Established => Err(Invalid::BadReset),
            _ if in_window => Ok(self.enter(TcpState::Closed)),
            _ => Ok(Change::Same),
        }
    }
}
