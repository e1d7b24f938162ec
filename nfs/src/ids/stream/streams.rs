//! The TCP connections of one worker: what the rest of the IDS calls.

mod keep;
mod predicted;
mod tell;

use nfv_core::clock::Time;

use super::TICK_BITS;
use super::bytes::Window;
use super::config::{Mode, Settings};
use super::connection::{CLIENT_IS_HIGH, MIDSTREAM, Step, Surroundings, passes_by};
use super::counters::{Counter, Counters};
use super::event::Events;
use super::half::{STOPPED, UNWATCHED};
use super::key::{End, Key, Secret, Side};
use super::offers::Offers;
use super::open::{NotFollowed, open};
use super::segment::{ACK, RST, SYN, Segment, URG};
use super::state::{Phase, TcpState};
use super::store::{LARGE, Store};
use super::table::Table;
pub use predicted::Ahead;
use tell::keep_of;

/// Which connection: the number of its slot, from 1 on. Another one has it after [`Streams::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// Who is told the bytes of streams, each direction in order and each byte once.
pub trait Sink {
    /// Bytes that follow those before. `from`: whose they are. `offset`: of the first one, from the direction's start.
    fn data(&mut self, stream: StreamId, from: Side, offset: u64, bytes: &[u8]);
    /// Bytes that are missing.
    fn gap(&mut self, stream: StreamId, from: Side, offset: u64, length: u64);
}

/// What a segment was.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Outcome {
    /// Its connection, if it has one.
    pub stream: Option<StreamId>,
    /// Who sent it; without a connection, the client.
    pub side: Side,
    /// Where the connection stands now.
    pub state: TcpState,
    /// What is to be done with it.
    pub verdict: Verdict,
    /// What is odd about it.
    pub events: Events,
    /// Whether it is the connection's first.
    pub is_new: bool,
    /// Inline: whether some of its payload differs from what passed before; see [`Streams::normalize`].
    pub must_be_rewritten: bool,
    /// Whether nothing of the connection is looked at any more, in both directions.
    pub is_done: bool,
    /// Whether nothing of the segment's direction is.
    pub is_side_done: bool,
}

/// What a segment is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Part of it.
    Taken,
    /// Part of it; its payload, if it has any, is none of the stream's.
    NoPayload,
    /// No receiver would take it: inline it is best dropped.
    Refused,
    /// Of no connection that is followed.
    NotFollowed(NotFollowed),
    /// The SYN of a new connection with the same ends, and nothing was done: it is to be passed in again once
    /// the old one was finished and forgotten.
    Reopens,
}

/// Why a connection's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// No segment came for too long.
    Idle,
    /// It makes room for new ones.
    Surplus,
}

/// When a window is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once a chunk has come together.
    Full,
    /// Whatever there is.
    Now,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub struct View<'s> {
    /// Its ends.
    pub key: &'s Key,
    /// Which of them is the client.
    pub client: End,
    /// Where it stands.
    pub state: TcpState,
    /// Bytes that were told, by [`Side`].
    pub told: [u64; 2],
    /// Bytes that were sent, seen or not, by [`Side`]; they go round at 2^32.
    pub sent: [u32; 2],
    /// Whether its SYN was seen.
    pub began_with_syn: bool,
}

/// The TCP connections of one worker.
#[derive(Debug)]
pub struct Streams {
    settings: Settings,
    table: Table,
    offers: Offers,
    store: Store,
    counters: Counters,
    /// Where windows of several pieces are put together; never grows.
    scratch: Vec<u8>,
}

impl Streams {
    /// None yet. `settings.budget` is obeyed to the byte; of it, at least 64 KiB each are taken.
    pub fn new(mut settings: Settings) -> Self {
        let connections = settings.budget.connections.max(BUDGET_MIN);
        let bytes = settings.budget.bytes.max(BUDGET_MIN);
        settings.history = settings.history.min((bytes / 16) as u32);
        let window = (bytes / 8).min(WINDOW_MAX);
        let scratch = settings.history as usize + 2 * LARGE + window;
        let scratch: Vec<u8> = Vec::with_capacity(scratch);
        let secret = Secret::random();
        let offers = connections / 64;
        Self {
            table: Table::new(connections - offers, secret),
            offers: Offers::new(offers, settings.offers),
            store: Store::new(bytes - scratch.capacity(), secret),
            counters: Counters::default(),
            scratch,
            settings,
        }
    }

    /// Who sees the bytes first.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Follows a segment, and tells `sink` what may be told now: of the other direction what it acknowledges, of its own
    /// what needs no acknowledgement.
    ///
    /// `from`: the end of `key` that sent it ([`Key::of`]). The segment's checksum is right, or nobody cares.
    /// # Cost
    /// About 300 ns for 1,460 bytes in order and their part of an acknowledgement for two segments, on a machine that was
    /// busy otherwise; the test `cost_of_segments` prints it.
    pub fn segment(
        &mut self,
        key: &Key,
        from: End,
        segment: &Segment<'_>,
        now: Time,
        sink: &mut impl Sink,
    ) -> Outcome {
        self.segment_of(None, (key, from), segment, now, sink)
    }

    /// The same of a segment whose connection is known, most likely: it is not looked up then.
    pub fn segment_of(
        &mut self,
        known: Option<StreamId>,
        (key, from): (&Key, End),
        segment: &Segment<'_>,
        now: Time,
        sink: &mut impl Sink,
    ) -> Outcome {
        let tick = tick(now);
        let mut events = Events::default();
        self.count_flags(segment);
        let is_its = |id: &StreamId| self.table.get(id.0).is_some_and(|s| s.key == *key);
        let number = known.filter(is_its).map_or_else(|| self.table.find(key), |id| id.0);
        if number == 0 {
            return self.begin(key, from, segment, tick, sink);
        }
        let Some(stream) = self.table.get_mut(number) else {
            return Outcome::not_followed(NotFollowed::NoSession, events);
        };
        let connection = &mut stream.connection;
        let side = connection.side_of(from);
        let was = connection.state;
        let mut cx = Surroundings {
            settings: &self.settings,
            events: &mut events,
            offers: &mut self.offers,
            tick,
            unseen: 0,
        };
        let step = connection.track(segment, side, &mut cx);
        let unseen = cx.unseen;
        let state = connection.state;
        let verdict = match step {
            Step::Taken => Verdict::Taken,
            Step::NoPayload => Verdict::NoPayload,
            Step::Refused => Verdict::Refused,
            Step::Reopens => Verdict::Reopens,
        };
        let mut outcome =
            Outcome { stream: Some(StreamId(number)), side, state, verdict, ..Outcome::EMPTY };
        match step {
            Step::Reopens => return outcome,
            Step::Refused => self.counters.add(Counter::InvalidPackets, 1),
            Step::Taken | Step::NoPayload => {
                if unseen > 0 {
                    self.counters.add(Counter::AckUnseenData, 1);
                }
                let how = How { side, was, step, tick };
                self.go_on(number, segment, how, &mut outcome, &mut events, sink);
            }
        }
        outcome.events = events;
        outcome
    }

    /// What a segment that is part of its connection leads to.
    #[inline]
    fn go_on(
        &mut self,
        number: u32,
        segment: &Segment<'_>,
        how: How,
        outcome: &mut Outcome,
        events: &mut Events,
        sink: &mut impl Sink,
    ) {
        let id = StreamId(number);
        if segment.has(ACK) {
            self.tell(id, how.side.other(), events, sink);
            if how.was == TcpState::SynSent {
                self.drop_untaken(number);
            }
        }
        if how.step == Step::Taken && !segment.payload.is_empty() {
            let done = self.keep(number, how.side, segment, events);
            outcome.must_be_rewritten = done.differs && self.settings.mode == Mode::Inline;
            if done.is_beyond {
                outcome.verdict = Verdict::NoPayload;
            }
            self.tell(id, how.side, events, sink);
        }
        let Some(stream) = self.table.get(number) else { return };
        let [client, server] = &stream.connection.halves;
        outcome.is_done = client.has(STOPPED) && server.has(STOPPED);
        outcome.is_side_done = stream.connection.half(how.side).has(STOPPED);
        if stream.connection.state == TcpState::Closed && how.was != TcpState::Closed {
            self.tell_both(id, events, sink);
        }
        self.table.set_holding(number);
        self.table.touch(number, how.tick);
    }

    /// Forgets what a SYN brought and the server did not take: it is sent again, and may be something else then.
    fn drop_untaken(&mut self, number: u32) {
        let Some(stream) = self.table.get_mut(number) else { return };
        let client = stream.connection.half_mut(Side::Client);
        // What was taken is told by now, and may be kept to be shown.
        let is_untaken = client.bytes.told() == 0 && client.bytes.next() == client.next;
        if is_untaken && !client.bytes.is_empty() {
            client.bytes.forget(&mut self.store);
        }
    }

    fn begin(
        &mut self,
        key: &Key,
        from: End,
        segment: &Segment<'_>,
        tick: u32,
        sink: &mut impl Sink,
    ) -> Outcome {
        let mut events = Events::default();
        let (mut connection, side) = match open(segment, &self.settings, tick, &mut events) {
            Ok(opened) => opened,
            Err(why) => return Outcome::not_followed(why, events),
        };
        let client = if side == Side::Client { from } else { from.other() };
        if client == End::High {
            connection.flags |= CLIENT_IS_HIGH;
        }
        let [client_half, server_half] = &mut connection.halves;
        client_half.policy = self.settings.hosts.of(key.address(client.other()));
        server_half.policy = self.settings.hosts.of(key.address(client));
        let Some(number) = self.table.insert(key, connection, tick) else {
            self.counters.add(Counter::SsnMemcapDrop, 1);
            return Outcome::not_followed(NotFollowed::NoRoom, events);
        };
        self.counters.add(Counter::Sessions, 1);
        if connection.has(MIDSTREAM) {
            self.counters.add(Counter::MidstreamPickups, 1);
        }
        if !segment.has(SYN)
            && let Some(stream) = self.table.get_mut(number)
        {
            stream.connection.half_mut(side).send(segment, tick);
        }
        let mut outcome = Outcome {
            stream: Some(StreamId(number)),
            side,
            state: connection.state,
            verdict: Verdict::Taken,
            is_new: true,
            ..Outcome::EMPTY
        };
        let how = How { side, was: connection.state, step: Step::Taken, tick };
        self.go_on(number, segment, how, &mut outcome, &mut events, sink);
        outcome.events = events;
        outcome
    }

    fn count_flags(&mut self, segment: &Segment<'_>) {
        if segment.flags.0 & (SYN | RST | URG) == 0 {
            return;
        }
        match (segment.has(SYN), segment.has(ACK)) {
            (true, false) => self.counters.add(Counter::Syn, 1),
            (true, true) => self.counters.add(Counter::Synack, 1),
            _ => {}
        }
        self.counters.add(Counter::Rst, u64::from(segment.has(RST)));
        self.counters.add(Counter::Urg, u64::from(segment.has(URG)));
    }

    /// Inline: puts what passed before in the place of other bytes of a payload that is sent again. Returns how many
    /// were others. The packet's checksum is to be made right.
    pub fn normalize(&self, id: StreamId, side: Side, seq: u32, payload: &mut [u8]) -> u32 {
        let Some(stream) = self.table.get(id.0) else { return 0 };
        stream.connection.half(side).bytes.overwrite(&self.store, seq, payload)
    }

    /// Shows a window of a direction's bytes: those that none has shown, behind up to `history` that were.
    ///
    /// Returns `None` when there are none, or with [`When::Full`] less than a chunk. It shows bytes up to the next gap,
    /// so it is asked until there is `None`. Bytes of one piece are shown where they lie; of several, put together.
    pub fn window<R>(
        &mut self,
        id: StreamId,
        side: Side,
        when: When,
        look: impl FnOnce(Window<'_>) -> R,
    ) -> Option<R> {
        let stream = self.table.get_mut(id.0)?;
        let half = stream.connection.half_mut(side);
        let [to_server, to_client] = self.settings.chunk;
        let chunk = if side == Side::Client { to_server } else { to_client };
        let is_over = half.has(STOPPED);
        if when == When::Full && half.bytes.unseen() < chunk && !is_over {
            return None;
        }
        let history = self.settings.history;
        let window = half.bytes.window(&self.store, history, &mut self.scratch);
        let is_whole = !half.has_unshown;
        half.has_unshown &= window.is_none();
        let seen = window.map(|window| look(Window { is_whole, ..window }));
        half.bytes.release(&mut self.store, keep_of(&self.settings, half));
        self.table.set_holding(id.0);
        seen
    }

    /// Whether a direction has bytes that no window has shown.
    #[inline]
    pub fn has_unseen(&self, id: StreamId, side: Side) -> bool {
        self.table.get(id.0).is_some_and(|stream| stream.connection.half(side).bytes.unseen() > 0)
    }

    /// Shows all bytes of a direction that are held, told or not, with their offsets: for who logs them.
    pub fn each_held(&self, id: StreamId, side: Side, mut show: impl FnMut(u64, &[u8])) {
        let Some(stream) = self.table.get(id.0) else { return };
        let bytes = &stream.connection.half(side).bytes;
        bytes.each_held(&self.store, |distance, held| {
            show(bytes.told().saturating_add_signed(distance), held);
        });
    }

    /// Has a direction's bytes no more kept or told.
    pub fn stop(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let half = stream.connection.half_mut(side);
        half.mark(STOPPED | UNWATCHED);
        half.bytes.forget(&mut self.store);
        self.table.set_holding(id.0);
    }

    /// Has the segments of a direction that was stopped shown no more, but for those that begin or end something and for one
    /// now and then. What the other direction acknowledges tells how far it is.
    pub fn let_pass_by(&mut self, id: StreamId, side: Side) {
        if let Some(stream) = self.table.get_mut(id.0) {
            stream.connection.flags |= passes_by(side);
        }
    }

    /// Has no windows of a direction: they are then not kept for.
    pub fn unwatch(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let half = stream.connection.half_mut(side);
        half.mark(UNWATCHED);
        half.bytes.release(&mut self.store, keep_of(&self.settings, half));
        self.table.set_holding(id.0);
    }

    /// What is known of a connection.
    pub fn view(&self, id: StreamId) -> Option<View<'_>> {
        let stream = self.table.get(id.0)?;
        let connection = &stream.connection;
        let [client, server] = &connection.halves;
        Some(View {
            key: &stream.key,
            client: connection.client(),
            state: connection.state,
            told: [client.bytes.told(), server.bytes.told()],
            sent: [client.sent(), server.sent()],
            began_with_syn: !connection.has(MIDSTREAM),
        })
    }

    /// Has client and server change places, where a parser found that who was picked up first is the server.
    pub fn turn(&mut self, id: StreamId) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        let connection = &mut stream.connection;
        if connection.has(MIDSTREAM) && connection.state == TcpState::Established {
            connection.halves.reverse();
            connection.flags ^= CLIENT_IS_HIGH;
        }
    }

    /// The connection of a key.
    pub fn find(&self, key: &Key) -> Option<StreamId> {
        Some(self.table.find(key)).filter(|number| *number != 0).map(StreamId)
    }

    /// A connection whose time is up: it is to be finished, looked at, and forgotten; then the next one is asked for.
    ///
    /// Of those that make room, the closed are first, then the new, then the established; of each, who was idle longest.
    pub fn due(&self, now: Time) -> Option<(StreamId, Over)> {
        let tick = tick(now);
        let most = self.table.most();
        let is_emergency = self.table.len() > most - most / 10;
        let timeouts = &self.settings.timeouts;
        let [new, established, closed] =
            if is_emergency { timeouts.emergency } else { timeouts.usual };
        let phases =
            [(Phase::Closed, closed), (Phase::New, new), (Phase::Established, established)];
        for (phase, seconds) in phases {
            let number = self.table.oldest(phase);
            if let Some(stream) = self.table.get(number)
                && idle(tick, stream.seen) > ticks(seconds)
            {
                return Some((StreamId(number), Over::Idle));
            }
        }
        let spare = (most / 64).clamp(1, SPARE_MAX);
        if self.table.len() + spare <= most {
            return None;
        }
        let mut oldest = phases.iter().map(|(phase, _)| self.table.oldest(*phase));
        oldest.find(|number| *number != 0).map(|number| (StreamId(number), Over::Surplus))
    }

    /// Tells all that is left of a connection, acknowledged or not. Its windows can be asked for still.
    pub fn finish(&mut self, id: StreamId, sink: &mut impl Sink) -> Events {
        let mut events = Events::default();
        self.tell_rest(id, &mut events, sink);
        self.table.set_holding(id.0);
        events
    }

    /// Forgets a connection and all that it held.
    pub fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.table.get_mut(id.0) else { return };
        for half in &mut stream.connection.halves {
            half.bytes.forget(&mut self.store);
        }
        self.offers.clear(&mut stream.connection.offers);
        self.table.remove(id.0);
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections that are followed.
    pub fn len(&self) -> u32 {
        self.table.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most connections that can be followed.
    pub fn most(&self) -> u32 {
        self.table.most()
    }

    /// Memory that it has of the allocator's: at most the budget's sum.
    pub fn reserved(&self) -> usize {
        self.table.reserved()
            + self.offers.reserved()
            + self.store.reserved()
            + self.scratch.capacity()
    }

    /// Memory of that in which bytes wait or are kept.
    pub fn bytes_in_use(&self) -> usize {
        self.store.in_use()
    }
}

impl Outcome {
    const EMPTY: Self = Self {
        stream: None,
        side: Side::Client,
        state: TcpState::None,
        verdict: Verdict::NoPayload,
        events: Events::NONE,
        is_new: false,
        must_be_rewritten: false,
        is_done: false,
        is_side_done: false,
    };

    fn not_followed(why: NotFollowed, events: Events) -> Self {
        Self { verdict: Verdict::NotFollowed(why), events, ..Self::EMPTY }
    }
}

/// How a segment was taken.
#[derive(Clone, Copy)]
struct How {
    side: Side,
    /// Where the connection stood before it.
    was: TcpState,
    step: Step,
    tick: u32,
}

#[inline]
fn tick(now: Time) -> u32 {
    (now.0 >> TICK_BITS) as u32
}

/// Ticks from `earlier` to `now`; 0 when that is the earlier one.
fn idle(now: u32, earlier: u32) -> u32 {
    u32::try_from(now.wrapping_sub(earlier).cast_signed()).unwrap_or(0)
}

/// Ticks of a number of seconds, at most a year's.
fn ticks(seconds: u32) -> u32 {
    ((u64::from(seconds.min(31_536_000)) * 1_000_000_000) >> TICK_BITS) as u32
}

/// Least memory of each kind.
const BUDGET_MIN: usize = 64 << 10;
/// Fresh bytes of several pieces that a window shows at once.
const WINDOW_MAX: usize = 64 << 10;
/// Places that are kept free for new connections: more than a burst has.
const SPARE_MAX: u32 = 64;
