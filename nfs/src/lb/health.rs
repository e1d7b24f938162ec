//! Whether backends are up: what checks say, the checks themselves, and who runs them.
//!
//! ```text
//!   Target --watch--> Probe::ask (TCP, HTTP) --Outcome--> Health::observe --Transition--> report(index, Transition)
//! ```
//!
//! [`Health`] is a pure state machine: it knows neither time nor network, so a replay can drive it. A check is one
//! connection with one time limit for everything, so a server that drips bytes is as late as a silent one. Answers come
//! from outside and are read to the end of the status line, at most [`probe::LINE_MAX`] bytes.
//!
//! [`watch`] is one future, so it needs no runtime's threads and its callback no lock. Rejected: a task for each target,
//! which wants `'static + Send` of the callback and somebody to end them; dropping `watch` ends all there is.

mod probe;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use probe::{Failure, Outcome};
pub use probe::{HttpGet, Probe, Statuses};

/// Whether a backend is to get new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Up, after enough checks in a row that passed.
    Rose,
    /// Down, after enough that failed; the last one's reason.
    Fell(Failure),
}

impl Transition {
    /// What it is now.
    pub const fn state(self) -> State {
        match self {
            Self::Rose => State::Up,
            Self::Fell(_) => State::Down,
        }
    }
}

/// How many checks in a row change a state, so that one lost packet does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Passed, to go up.
    pub rise: NonZeroU32,
    /// Failed, to go down.
    pub fall: NonZeroU32,
}

/// One backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    threshold: Threshold,
    state: State,
    /// Checks in a row that spoke against the state.
    against: u32,
    counts: Counts,
}

/// What an operator reads; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that could not be made.
    pub unknown: u64,
    /// Changes of state.
    pub transitions: u64,
}

impl Health {
    /// A backend of which nothing is known yet but `start`.
    pub fn new(threshold: Threshold, start: State) -> Self {
        Self { threshold, state: start, against: 0, counts: Counts::default() }
    }

    /// Takes in what a check said; `Some` if that changed the state.
    pub fn observe(&mut self, outcome: Outcome) -> Option<Transition> {
        let (transition, needed) = match outcome {
            Outcome::Passed => (Transition::Rose, self.threshold.rise),
            Outcome::Failed(why) => (Transition::Fell(why), self.threshold.fall),
            Outcome::Unknown => {
                self.counts.unknown += 1;
                return None;
            }
        };
        match transition.state() {
            State::Up => self.counts.passed += 1,
            State::Down => self.counts.failed += 1,
        }
        if transition.state() == self.state {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed.get() {
            return None;
        }
        (self.state, self.against) = (transition.state(), 0);
        self.counts.transitions += 1;
        Some(transition)
    }

    /// What it is now.
    #[cfg(test)]
    const fn state(&self) -> State {
        self.state
    }

    /// What was counted since the start.
    #[cfg(test)]
    const fn counts(&self) -> Counts {
        self.counts
    }
}

/// A backend to check.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens; IPv4 or IPv6.
    pub address: SocketAddr,
    /// What it is asked.
    pub probe: Probe,
    /// How often, and how long it may take.
    pub pace: Pace,
    /// How many checks change its state.
    pub threshold: Threshold,
    /// What it is before the first check; not reported.
    pub start: State,
}

/// How often a target is checked, and how long a check may take: always less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    interval: Duration,
    timeout: Duration,
}

/// Times that make no pace.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PaceError {
    /// A check would still run when the next is due.
    #[error("the timeout is {timeout:?}, which is not below the interval of {interval:?}")]
    Overlap {
        /// Asked for.
        interval: Duration,
        /// Asked for.
        timeout: Duration,
    },
    /// No check passes in no time.
    #[error("the timeout is 0: give at least 1ms")]
    NoTimeout,
    /// More than [`INTERVAL_MAX`].
    #[error("the interval is {0:?}: at most a day")]
    TooLong(Duration),
}

impl Pace {
    /// Checks every `interval`, each of which may take `timeout`.
    ///
    /// # Errors
    ///
    /// When the timeout is 0 or not below the interval, or the interval is more than a day.
    pub fn new(interval: Duration, timeout: Duration) -> Result<Self, PaceError> {
        if timeout.is_zero() {
            return Err(PaceError::NoTimeout);
        }
        if timeout >= interval {
            return Err(PaceError::Overlap { interval, timeout });
        }
        if interval > INTERVAL_MAX {
            return Err(PaceError::TooLong(interval));
        }
        Ok(Self { interval, timeout })
    }
}

/// Checks all targets at their paces, and reports each change of state with the target's index.
///
/// Never returns; dropping it closes what is open. A target's first check is somewhere within its first interval, by
/// `seed` and index (the same seed, the same plan), so that not all fire at once; those that fall into a pause of this
/// machine are left out. Of one target one check runs at a time, as its time limit is below its interval.
///
/// Needs a tokio runtime with net and time enabled; `report` is called on its thread and should not block.
pub async fn watch(targets: Vec<Target>, seed: u64, report: impl Fn(usize, Transition)) {
    let start = Instant::now();
    let report = &report;
    let checks = targets.iter().enumerate().map(|(index, target)| {
        let first = start + first_after(seed, index, target.pace.interval);
        Box::pin(async move {
            let mut health = Health::new(target.threshold, target.start);
            let mut due = interval_at(first, target.pace.interval);
            due.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                due.tick().await;
                let outcome = target.probe.ask(target.address, target.pace.timeout).await;
                if let Some(transition) = health.observe(outcome) {
                    report(index, transition);
                }
            }
        })
    });
    match all(checks.collect()).await {}
}

/// Somewhere within the interval, by SplitMix64's finalizer over seed and index.
fn first_after(seed: u64, index: usize, interval: Duration) -> Duration {
    let place = u64::try_from(index).unwrap_or(u64::MAX).wrapping_add(1);
    let mut x = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let nanos = (u128::from(x) * interval.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Runs all futures in this one, and polls only those that were woken: with a thousand targets, one each.
async fn all<F: Future<Output = Infallible>>(futures: Vec<Pin<Box<F>>>) -> Infallible {
    let woken = Arc::new(Mutex::new(Woken::default()));
    let mut all: Vec<_> = (futures.into_iter().enumerate())
        .map(|(index, future)| {
            let bell = Bell { index, rung: AtomicBool::new(false), woken: woken.clone() };
            (future, Arc::new(bell))
        })
        .collect();
    all.iter().for_each(|(_, bell)| bell.wake_by_ref());
    poll_fn(|cx| {
        let indices = {
            let mut woken = locked(&woken);
            woken.parent = Some(cx.waker().clone());
            std::mem::take(&mut woken.indices)
        };
        for index in indices {
            let Some((future, bell)) = all.get_mut(index) else { continue };
            // Before the poll, so that a wake during it is not lost.
            bell.rung.store(false, Ordering::SeqCst);
            let waker = Waker::from(bell.clone());
            if let Poll::Ready(never) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(never);
            }
        }
        Poll::Pending
    })
    .await
}

/// Which futures to poll, each once.
#[derive(Debug, Default)]
struct Woken {
    indices: Vec<usize>,
    parent: Option<Waker>,
}

/// One future's waker.
#[derive(Debug)]
struct Bell {
    index: usize,
    /// Is in the list already, which therefore is never longer than there are futures.
    rung: AtomicBool,
    woken: Arc<Mutex<Woken>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        let parent = {
            let mut woken = locked(&self.woken);
            woken.indices.push(self.index);
            woken.parent.clone()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// Nobody panics while holding it, and a list is right at any time.
fn locked(woken: &Mutex<Woken>) -> MutexGuard<'_, Woken> {
    woken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest time between two checks.
pub const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket};

    const FAILED: Outcome = Outcome::Failed(Failure::TimedOut);
    const FELL: Option<Transition> = Some(Transition::Fell(Failure::TimedOut));

    fn threshold(rise: u32, fall: u32) -> Threshold {
        let [rise, fall] = [rise, fall].map(|n| NonZeroU32::new(n).unwrap());
        Threshold { rise, fall }
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn target(address: SocketAddr, start: State) -> Target {
        let pace = Pace::new(millis(100), millis(90)).unwrap();
        Target { address, probe: Probe::Tcp, pace, threshold: threshold(2, 2), start }
    }

    /// What `watch` reports within a time.
    async fn reports(targets: Vec<Target>, time: Duration) -> Vec<(usize, State)> {
        let seen = RefCell::new(Vec::new());
        let watching =
            watch(targets, 1, |index, change| seen.borrow_mut().push((index, change.state())));
        assert!(tokio::time::timeout(time, watching).await.is_err(), "it never returns");
        seen.into_inner()
    }

    /// A port that is taken but does not listen, so that connections are refused for as long as it is held.
    fn nobody() -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        socket
    }

    #[test]
    fn a_backend_falls_after_enough_failures_in_a_row() {
        let mut health = Health::new(threshold(2, 3), State::Up);
        let said = [FAILED, FAILED, Outcome::Passed, FAILED, FAILED].map(|o| health.observe(o));
        assert_eq!(said, [None; 5]);
        assert_eq!(health.observe(FAILED), FELL);
        assert_eq!((health.observe(FAILED), health.state()), (None, State::Down));
    }

    #[test]
    fn a_backend_rises_after_enough_passes_in_a_row() {
        let mut health = Health::new(threshold(2, 3), State::Down);
        let said = [Outcome::Passed, FAILED, Outcome::Passed].map(|o| health.observe(o));
        assert_eq!(said, [None; 3]);
        assert_eq!(health.observe(Outcome::Passed), Some(Transition::Rose));
        assert_eq!(health.state(), State::Up);
    }

    #[test]
    fn a_want_of_our_own_neither_counts_nor_breaks_a_row() {
        let mut health = Health::new(threshold(1, 2), State::Up);
        let said = [FAILED, Outcome::Unknown].map(|o| health.observe(o));
        assert_eq!(said, [None; 2]);
        assert_eq!(health.observe(FAILED), FELL);
        assert_eq!(health.counts(), Counts { passed: 0, failed: 2, unknown: 1, transitions: 1 });
    }

    #[test]
    fn a_check_takes_less_than_the_time_to_the_next() {
        let (interval, timeout) = (millis(10), millis(10));
        assert_eq!(Pace::new(interval, timeout), Err(PaceError::Overlap { interval, timeout }));
        assert_eq!(Pace::new(interval, Duration::ZERO), Err(PaceError::NoTimeout));
        assert_eq!(Pace::new(Duration::MAX, timeout), Err(PaceError::TooLong(Duration::MAX)));
        assert!(Pace::new(interval, millis(9)).is_ok());
    }

    #[test]
    fn first_checks_spread_over_the_interval_as_the_seed_says() {
        let plan = |seed| (0..100).map(move |i| first_after(seed, i, millis(1000)));
        assert!(plan(7).eq(plan(7)) && !plan(7).eq(plan(8)));
        for tenth in 0..10 {
            let within = millis(100 * tenth)..millis(100 * (tenth + 1));
            let count = plan(7).filter(|first| within.contains(first)).count();
            assert!((3..=20).contains(&count), "{count} of 100 within {within:?}");
        }
    }

    #[tokio::test]
    async fn a_watch_reports_who_rises_and_who_falls_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = nobody();
        let (up, down) = (listener.local_addr().unwrap(), silent.local_addr().unwrap());
        let targets = vec![
            target(up, State::Down),
            target(down, State::Up),
            target(up, State::Up),
            target(down, State::Down),
        ];
        let mut seen = reports(targets, millis(700)).await;
        seen.sort_by_key(|(index, _)| *index);
        assert_eq!(seen, [(0, State::Up), (1, State::Down)]);
    }

    #[tokio::test]
    async fn a_backend_that_comes_later_is_found() {
        let socket = nobody();
        let address = socket.local_addr().unwrap();
        let late = async {
            tokio::time::sleep(millis(350)).await;
            let listener = socket.listen(16).unwrap();
            std::future::pending::<()>().await;
            drop(listener);
        };
        let seen = tokio::select! {
            seen = reports(vec![target(address, State::Up)], millis(1000)) => seen,
            () = late => unreachable!("it waits for ever"),
        };
        assert_eq!(seen, [(0, State::Down), (0, State::Up)]);
    }

    #[tokio::test]
    async fn of_a_silent_target_one_check_runs_at_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let get = HttpGet::new("a", "/", Statuses::default()).unwrap();
        let slow =
            Target { probe: Probe::Http(get), ..target(listener.local_addr().unwrap(), State::Up) };
        let all = AtomicUsize::new(0);
        let never_answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            loop {
                all.fetch_add(1, Ordering::SeqCst);
                let mut sink = Vec::new();
                // A check that overlaps this one would be accepted before this one's end is read.
                let next = tokio::select! {
                    biased;
                    _ = stream.read_to_end(&mut sink) => listener.accept().await,
                    _ = listener.accept() => panic!("a second check at once"),
                };
                (stream, _) = next.unwrap();
            }
        };
        let seen = tokio::select! {
            seen = reports(vec![slow], millis(700)) => seen,
            () = never_answers => unreachable!("it loops for ever"),
        };
        assert_eq!(seen, [(0, State::Down)]);
        assert!(all.load(Ordering::SeqCst) >= 3);
    }

    #[tokio::test]
    async fn a_watch_of_nobody_waits_and_one_of_many_can_move_between_threads() {
        assert_eq!(reports(Vec::new(), millis(20)).await, []);
        fn is_send(_: &impl Send) {}
        is_send(&watch(Vec::new(), 1, |_, _| ()));
    }

    proptest! {
        #[test]
        fn a_state_changes_exactly_after_a_row_of_its_length(
            rise in 1..5u32, fall in 1..5u32, passes in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut health = Health::new(threshold(rise, fall), State::Up);
            let (mut state, mut row) = (State::Up, 0);
            for (i, pass) in passes.iter().enumerate() {
                let outcome = if *pass { Outcome::Passed } else { FAILED };
                let against = *pass != (state == State::Up);
                row = if against { row + 1 } else { 0 };
                let needed = if *pass { rise } else { fall };
                let changed = health.observe(outcome);
                prop_assert_eq!(changed.is_some(), against && row == needed, "check {}", i);
                if let Some(to) = changed {
                    (state, row) = (to.state(), 0);
                }
                prop_assert_eq!(health.state(), state);
            }
            let counts = health.counts();
            prop_assert_eq!(counts.passed + counts.failed, passes.len() as u64);
        }
    }
}
