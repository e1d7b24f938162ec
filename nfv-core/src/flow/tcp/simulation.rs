//! Two hosts that speak TCP over a network that loses, doubles and reorders, with a track in the middle.
//!
//! ```text
//!   host ---- legs[_][0] ----> track ---- legs[_][1] ----> host
//! ```

use std::collections::VecDeque;

use proptest::prelude::*;

use super::segment::{ACK, FIN, RST, SYN};
use super::*;
use crate::packet::TcpFlags;

/// What a host has of a connection. Its numbers are counted from its SYN, which is 0.
#[derive(Debug)]
struct Host {
    first: u32,
    scale: Option<u8>,
    /// Both hosts had one.
    scaled: bool,
    /// The other's shift.
    other_scale: u8,
    /// Most that it gives.
    window: u32,
    /// Number of its FIN.
    fin: u32,
    una: u32,
    nxt: u32,
    /// Where the other's window ends.
    edge: u32,
    /// First number of the other host's, once its SYN came.
    other: Option<u32>,
    rcv: u32,
    rcv_fin: Option<u32>,
    /// Came too early.
    early: Vec<(u32, u32)>,
    /// Where the window ends that it gave; it takes none back.
    given: u32,
}

impl Host {
    fn new(chance: &mut Chance, fin: u32) -> Self {
        let scale = [None, Some(0), Some(7), Some(14)][chance.below(4)];
        // A window that its scale leaves nothing of would never open.
        let least = 4 << scale.unwrap_or(0);
        let window = [100, 3_000, 60_000, 1_000_000][chance.below(4)].max(least);
        Self {
            first: chance.next().wrapping_sub(500),
            scale,
            scaled: false,
            other_scale: 0,
            window,
            fin,
            una: 0,
            nxt: 0,
            edge: 0,
            other: None,
            rcv: 0,
            rcv_fin: None,
            early: Vec::new(),
            given: 0,
        }
    }

    fn is_open(&self) -> bool {
        self.una > 0 && self.other.is_some()
    }

    fn is_done(&self) -> bool {
        self.una == self.fin + 1 && self.rcv_fin.is_some_and(|f| self.rcv == f + 1)
    }

    fn segment(&mut self, from: u32, to: u32, chance: &mut Chance) -> Segment {
        let mut flags = if self.other.is_some() { ACK } else { 0 };
        let is_syn = from == 0;
        let mut payload = to - from;
        if is_syn {
            flags |= SYN;
            payload -= 1;
        }
        if to == self.fin + 1 && from < to {
            flags |= FIN;
            payload -= 1;
        }
        // The application reads now and then; what was given stays.
        if chance.one_in(2) {
            self.given = self.given.max(self.rcv + self.window);
        }
        let shift = if self.scaled && !is_syn { self.scale.unwrap_or(0) } else { 0 };
        let window = u16::try_from((self.given - self.rcv) >> shift).unwrap_or(u16::MAX);
        let number = |n: u32| self.other.map_or(0, |other| other.wrapping_add(n));
        let sack = self.early.iter().map(|e| e.1).max().unwrap_or(0).max(self.rcv);
        Segment {
            flags: TcpFlags(flags),
            seq: self.first.wrapping_add(from),
            ack: number(self.rcv),
            sack: number(sack),
            window,
            payload,
            scale: if is_syn { self.scale } else { None },
            sack_permitted: is_syn,
        }
    }

    /// Something that it may send now, if there is anything.
    fn send(&mut self, chance: &mut Chance) -> Option<Segment> {
        if self.una == 0 {
            // Its SYN once more, if it has sent one: alone, or with the answer to the other's.
            return (self.nxt > 0).then(|| self.segment(0, 1, chance));
        }
        if !self.is_open() {
            return None;
        }
        let length = 1 + chance.upto(1_459);
        match chance.below(8) {
            0 | 1 => Some(self.segment(self.nxt, self.nxt, chance)),
            2 if self.una < self.nxt => {
                let to = self.nxt.min(self.una + length);
                Some(self.segment(self.una, to, chance))
            }
            // Keepalive.
            3 if self.una == self.nxt && self.nxt < self.fin + 1 && self.nxt > 1 => {
                let mut s = self.segment(self.nxt, self.nxt, chance);
                s.seq = s.seq.wrapping_sub(1);
                s.payload = chance.upto(1);
                Some(s)
            }
            // Probe of a closed window, with the byte behind it.
            4 if self.una == self.nxt && self.nxt == self.edge && self.nxt < self.fin => {
                self.nxt += 1;
                Some(self.segment(self.nxt - 1, self.nxt, chance))
            }
            _ if self.nxt <= self.fin => {
                // A FIN is no data, and may lie behind the window.
                let limit = if self.nxt == self.fin { u32::MAX } else { self.edge };
                let limit = limit.min(self.fin + 1);
                let to = limit.min(self.nxt + length);
                let from = self.nxt;
                self.nxt = self.nxt.max(to);
                (from < to).then(|| self.segment(from, to, chance))
            }
            _ => None,
        }
    }

    /// Takes a segment; returns the answer, if it asks for one.
    fn take(&mut self, s: &Segment, chance: &mut Chance) -> Option<Segment> {
        let TcpFlags(flags) = s.flags;
        let is_syn = flags & SYN != 0;
        let (Some(other), true) = (self.other.or(is_syn.then_some(s.seq)), flags & RST == 0) else {
            return None;
        };
        let is_known = self.other.is_some();
        if !is_known {
            self.other = Some(other);
            self.scaled = self.scale.is_some() && s.scale.is_some();
            if self.scaled {
                self.other_scale = s.scale.unwrap_or(0);
            }
            self.rcv = 1;
            self.given = 1 + self.window.min(65_535);
        }
        let window = u32::from(s.window) << if is_syn { 0 } else { self.other_scale };
        // Of a SYN that comes again nothing is taken.
        let again = is_syn && (self.una > 0 || is_known && flags & ACK == 0);
        let ack = if flags & ACK != 0 { s.ack.wrapping_sub(self.first) } else { 0 };
        assert!(ack <= self.nxt, "what was not sent is not acknowledged");
        if !again {
            self.una = self.una.max(ack);
            self.edge = self.edge.max(ack.max(1) + window);
        }
        let from = s.seq.wrapping_sub(other);
        let to = s.end().wrapping_sub(other);
        if from == to {
            return None;
        }
        if flags & FIN != 0 {
            self.rcv_fin = Some(to - 1);
        }
        self.early.push((from, to));
        while let Some(at) = self.early.iter().position(|(from, _)| *from <= self.rcv) {
            self.rcv = self.rcv.max(self.early.swap_remove(at).1);
        }
        self.given = self.given.max(self.rcv);
        if self.una == 0 {
            self.nxt = 1;
            return Some(self.segment(0, 1, chance));
        }
        Some(self.segment(self.nxt, self.nxt, chance))
    }
}

/// The network.
struct Line {
    chance: Chance,
    hosts: [Host; 2],
    legs: [[VecDeque<Segment>; 2]; 2],
    track: TcpTrack,
    /// One segment in so many is lost, and as many are doubled; 0: none.
    rate: usize,
    strictness: Strictness,
}

impl Line {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed | 1);
        let fins = [1 + chance.upto(20_000), 1 + chance.upto(20_000)];
        let hosts = fins.map(|fin| Host::new(&mut chance, fin));
        let rate = [0, 4, 20][chance.below(3)];
        let mut line = Self {
            chance,
            hosts,
            legs: Default::default(),
            track: TcpTrack::default(),
            rate,
            strictness: Strictness::Strict,
        };
        let both_open = line.chance.one_in(4);
        for host in &mut line.hosts[..1 + usize::from(both_open)] {
            host.nxt = 1;
        }
        // The first segment is the opener's, whoever else opens.
        let syn = line.hosts[0].segment(0, 1, &mut line.chance);
        line.legs[0][0].push_back(syn);
        line.pass(0);
        line
    }

    fn step(&mut self) {
        let way = self.chance.below(2);
        match self.chance.below(5) {
            0 | 1 => {
                if let Some(s) = self.hosts[way].send(&mut self.chance) {
                    self.legs[way][0].push_back(s);
                }
            }
            2 | 3 => self.pass(way),
            _ => self.arrive(way),
        }
    }

    /// A segment comes by the track.
    fn pass(&mut self, way: usize) {
        let leg = &mut self.legs[way][0];
        // One may overtake another as long as that one is still of use: what comes later is an old duplicate, and
        // rightly invalid.
        if let [first, second, ..] = leg.make_contiguous()
            && self.chance.one_in(3)
            && (first.flags.0 | second.flags.0) & SYN == 0
            && first.end().wrapping_sub(self.hosts[way].first) > self.hosts[way].una
        {
            std::mem::swap(first, second);
        }
        let Some(segment) = leg.pop_front() else { return };
        if self.track != TcpTrack::default() && lose(&mut self.chance, self.rate) {
            return;
        }
        let copies = 1 + usize::from(lose(&mut self.chance, self.rate));
        for _ in 0..copies {
            let before = self.track;
            let by = if way == 0 { Way::Original } else { Way::Reply };
            let answer = self.track.next(by, &segment, self.strictness);
            // Of a connection that is picked up the first segments may tell nothing.
            let is_waiting = before == TcpTrack::default() && self.strictness == Strictness::Loose;
            assert!(
                is_waiting && answer == Err(Invalid::NotASyn)
                    || matches!(answer, Ok(Change::Same | Change::State(_) | Change::Over(_))),
                "{answer:?} of {by:?} {segment:#?} {before:#?} {:#?}",
                self.hosts
            );
            self.legs[way][1].push_back(segment);
        }
    }

    /// A segment comes to its receiver, in any order.
    fn arrive(&mut self, way: usize) {
        let leg = &mut self.legs[way][1];
        let Some(segment) = leg.remove(self.chance.below(4).min(leg.len().saturating_sub(1)))
        else {
            return;
        };
        if lose(&mut self.chance, self.rate) {
            return;
        }
        if let Some(answer) = self.hosts[1 - way].take(&segment, &mut self.chance) {
            self.legs[1 - way][0].push_back(answer);
        }
    }

    /// No SYN is under way any more, nor will one be.
    fn is_between_handshakes(&self) -> bool {
        let is_syn = |s: &Segment| s.flags.0 & SYN != 0;
        self.hosts.iter().all(Host::is_open) && !self.legs.iter().flatten().flatten().any(is_syn)
    }

    /// Nothing is lost any more: both sides send what they have.
    fn finish(&mut self) {
        self.rate = 0;
        for _ in 0..20_000 {
            for way in [0, 1] {
                let host = &mut self.hosts[way];
                let segment = if host.is_open() && host.una < host.nxt {
                    let to = host.nxt.min(host.una + 1_460);
                    Some(host.segment(host.una, to, &mut self.chance))
                } else {
                    host.send(&mut self.chance)
                };
                self.legs[way][0].extend(segment);
            }
            for way in [0, 1] {
                while !self.legs[way][0].is_empty() || !self.legs[way][1].is_empty() {
                    self.pass(way);
                    self.arrive(way);
                }
            }
            if self.hosts.iter().all(Host::is_done)
                && self.legs.iter().flatten().all(VecDeque::is_empty)
            {
                return;
            }
        }
        panic!("they do not come to an end: {:#?} {:#?}", self.hosts, self.track);
    }

    /// What somebody sends who does not see the connection.
    fn forge(&mut self) {
        let by = self.chance.below(2);
        let way = if by == 0 { Way::Original } else { Way::Reply };
        let far = 2_100_000 + self.chance.upto(u32::MAX - 4_200_000);
        let flags = [RST, RST | ACK, ACK, FIN | ACK][self.chance.below(4)];
        let segment = Segment {
            flags: TcpFlags(flags),
            seq: self.hosts[by].first.wrapping_add(far),
            ack: self.hosts[1 - by].first.wrapping_add(self.chance.upto(20_000)),
            window: 1_000,
            payload: self.chance.upto(1_400),
            ..Segment::default()
        };
        let before = self.track;
        let answer = self.track.next(way, &segment, Strictness::Strict);
        // Of a connection that closes all resets pass, and end nothing.
        let closes = !matches!(before.state(), Some(TcpState::SynReceived | TcpState::Established));
        let passes = closes && flags & RST != 0 && answer == Ok(Change::Same);
        assert!(answer.is_err() || passes, "{answer:?} {segment:#?} {before:#?}");
        assert_eq!(self.track, before);
    }

    /// What somebody sends who has guessed a window, but not the number: the connection stands, and goes on.
    fn forge_in_window(&mut self) {
        let by = self.chance.below(2);
        let way = if by == 0 { Way::Original } else { Way::Reply };
        let before = self.track;
        let (me, peer) = before.both(way);
        let room = me.max_end.wrapping_sub(peer.acked).min(1 << 30);
        let seq = peer.acked.wrapping_add(self.chance.upto(room));
        if before.state() != Some(TcpState::Established) || seq == peer.acked || seq == me.end {
            return;
        }
        let segment = Segment { flags: TcpFlags(RST), seq, ..Segment::default() };
        let answer = self.track.next(way, &segment, Strictness::Strict);
        assert_eq!(answer, Ok(Change::Same), "{segment:#?} {before:#?}");
        assert_eq!(self.track, before);
        // It is passed on, and its receiver asks back: an ACK, as it would send at any time.
        let host = &mut self.hosts[1 - by];
        let asks = host.segment(host.nxt, host.nxt, &mut self.chance);
        self.legs[1 - by][0].push_back(asks);
    }
}

/// Numbers as good as random from a seed (xorshift), so that a case can be played again.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32).unwrap()
    }

    fn upto(&mut self, most: u32) -> u32 {
        self.next() % (most + 1)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next()).unwrap() % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

fn lose(chance: &mut Chance, rate: usize) -> bool {
    rate > 0 && chance.one_in(rate)
}

proptest! {
    #[test]
    fn a_connection_over_a_bad_network_is_right_from_beginning_to_end(seed: u64, steps in 0usize..4_000) {
        let mut line = Line::new(seed);
        for _ in 0..steps {
            line.step();
        }
        line.finish();
        prop_assert_eq!(line.track.state(), Some(TcpState::TimeWait));
    }

    #[test]
    fn a_connection_that_is_picked_up_is_right_to_its_end(seed: u64, unseen in 0usize..2_000, steps in 0usize..2_000) {
        let mut line = Line::new(seed);
        for i in 0..unseen + steps {
            if i >= unseen && line.strictness == Strictness::Strict && line.is_between_handshakes() {
                line.strictness = Strictness::Loose;
                line.track = TcpTrack::default();
            }
            line.step();
        }
        line.finish();
    }

    #[test]
    fn who_does_not_see_a_connection_cannot_change_it(seed: u64, steps in 0usize..1_000) {
        let mut line = Line::new(seed);
        for _ in 0..steps {
            line.step();
            if line.hosts.iter().all(Host::is_open) {
                line.forge();
            }
        }
    }

    #[test]
    fn who_guesses_a_window_does_not_end_a_connection_that_stands(seed: u64, steps in 0usize..1_000) {
        let mut line = Line::new(seed);
        for _ in 0..steps {
            line.step();
            if line.hosts.iter().all(Host::is_open) && line.chance.one_in(8) {
                line.forge_in_window();
            }
        }
        line.finish();
        prop_assert_eq!(line.track.state(), Some(TcpState::TimeWait));
    }
}
