//! Who feeds an emulated NIC in a bench: a thread of its own, on the main lcore's CPU.
//!
//! What the NIC decides for a frame is decided once and replayed, as hardware would decide without anybody's time; making
//! the packet, a mbuf and a copy, is the sender's work, too. So the worker is what is measured, as long as the sender has
//! to wait for it; how often it had to is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use nfv_core::dpdk::{BURST_MAX, EalThread, Mempool, cycles, cycles_per_second};
use nfv_core::offload::{Decision, Full, NicSide};

use crate::capture::{Capture, Frame};

/// What the sender does, and what it tells.
#[derive(Debug, Default)]
pub struct Orders {
    what: AtomicU32,
    /// Bursts for which there was room at once, and such that had to wait.
    at_once: AtomicU64,
    waited: AtomicU64,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// Nothing.
    Nothing,
    /// The traffic, as fast as the worker takes it, through the NIC's rules.
    All,
    /// The same, as if the NIC had none.
    AllUntold,
    /// The traffic at a fixed rate, through the rules.
    Good,
    /// The same with nine frames of the attack for each of its own.
    Attack,
    /// The same, as if the NIC had no rules.
    AttackUntold,
    /// It ends.
    End,
}

impl Orders {
    /// Has it send something else.
    pub fn set(&self, what: Send) {
        self.what.store(what as u32, Ordering::Release);
    }

    /// The part of the bursts for which the sender had to wait, since it was asked last.
    pub fn waited(&self) -> f64 {
        let (at_once, waited) =
            (self.at_once.swap(0, Ordering::Relaxed), self.waited.swap(0, Ordering::Relaxed));
        waited as f64 / (at_once + waited).max(1) as f64
    }

    fn get(&self) -> Send {
        let all = [
            Send::Nothing,
            Send::All,
            Send::AllUntold,
            Send::Good,
            Send::Attack,
            Send::AttackUntold,
        ];
        let what = self.what.load(Ordering::Acquire) as usize;
        all.get(what).copied().unwrap_or(Send::End)
    }
}

/// A sender that runs.
#[derive(Debug)]
pub struct Sender {
    thread: JoinHandle<()>,
    orders: Arc<Orders>,
}

impl Sender {
    /// Starts one, which sends nothing yet. `pool`: where its packets come from.
    pub fn start(
        side: NicSide,
        pool: Mempool,
        good: Vec<Frame>,
        attack: Vec<Frame>,
    ) -> anyhow::Result<Self> {
        let orders = Arc::new(Orders::default());
        let own = orders.clone();
        let body = move || Feed::new(side, pool, good, attack).run(&own);
        let thread = std::thread::Builder::new().name("sender".to_owned()).spawn(body);
        Ok(Self { thread: thread.context("starting the sender")?, orders })
    }

    /// What it is told, and tells.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Ends it, when the workers have ended.
    pub fn end(self) -> anyhow::Result<()> {
        self.orders.set(Send::End);
        self.thread.join().map_err(|_| anyhow!("the sender panicked"))
    }
}

/// Reads all frames of a capture.
pub fn frames(path: &std::path::Path) -> anyhow::Result<Vec<Frame>> {
    let mut capture = Capture::open(path).map_err(|why| anyhow!(why))?;
    let mut all = Vec::new();
    while let Some(frame) = capture.next() {
        all.push(frame.map_err(|why| anyhow!(why))?);
    }
    anyhow::ensure!(!all.is_empty(), "{}: there is no frame in it", path.display());
    Ok(all)
}

/// By what a NIC decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rules,
    Nothing,
}

/// Frames, what the NIC does with each by its rules and without, and which is next.
struct Loop {
    frames: Vec<(Frame, Decision, Decision)>,
    next: usize,
}

impl Loop {
    fn new(frames: Vec<Frame>, side: &mut NicSide) -> Self {
        let decide = |frame: Frame| {
            let told = side.decide(&frame.bytes, frame.wire_length);
            let untold = side.decide_without_rules(&frame.bytes, frame.wire_length);
            (frame, told, untold)
        };
        Self { frames: frames.into_iter().map(decide).collect(), next: 0 }
    }

    fn decide_again(&mut self, side: &mut NicSide) {
        for (frame, told, _) in &mut self.frames {
            *told = side.decide(&frame.bytes, frame.wire_length);
        }
    }

    fn next(&mut self, by: By) -> Option<(&Frame, Decision)> {
        let at = self.next;
        self.next = if at + 1 < self.frames.len() { at + 1 } else { 0 };
        let (frame, told, untold) = self.frames.get(at)?;
        Some((frame, if by == By::Rules { *told } else { *untold }))
    }
}

struct Feed {
    side: NicSide,
    pool: Mempool,
    version: u64,
    good: Loop,
    attack: Loop,
}

impl Feed {
    fn new(mut side: NicSide, pool: Mempool, good: Vec<Frame>, attack: Vec<Frame>) -> Self {
        let (good, attack) = (Loop::new(good, &mut side), Loop::new(attack, &mut side));
        Self { version: side.version(), side, pool, good, attack }
    }

    fn run(mut self, orders: &Orders) {
        let _known = EalThread::register();
        let between = cycles_per_second() * BURST_MAX as u64 / PACED;
        let mut due = cycles();
        loop {
            let what = orders.get();
            if self.side.version() != self.version {
                self.version = self.side.version();
                self.good.decide_again(&mut self.side);
                self.attack.decide_again(&mut self.side);
            }
            match what {
                Send::End => break,
                Send::Nothing => std::hint::spin_loop(),
                Send::All | Send::AllUntold => {
                    if !self.side.flush(Full::Wait) {
                        orders.waited.fetch_add(1, Ordering::Relaxed);
                        // Whoever polls the ring all the time takes its lines from the worker.
                        (0..PATIENCE).for_each(|_| std::hint::spin_loop());
                        continue;
                    }
                    orders.at_once.fetch_add(1, Ordering::Relaxed);
                    self.burst(if what == Send::All { By::Rules } else { By::Nothing });
                }
                Send::Good | Send::Attack | Send::AttackUntold => {
                    if cycles().wrapping_sub(due) > u64::MAX / 2 {
                        std::hint::spin_loop();
                        continue;
                    }
                    // Who fell behind does not catch up: a burst is a burst.
                    due = (due + between).max(cycles().saturating_sub(between));
                    let by = if what == Send::AttackUntold { By::Nothing } else { By::Rules };
                    self.burst(by);
                    if what != Send::Good {
                        self.attack(by);
                    }
                    self.side.flush(Full::Lose);
                }
            }
        }
        self.side.end();
    }

    /// A burst of the traffic.
    fn burst(&mut self, by: By) {
        for _ in 0..BURST_MAX {
            let Some((frame, decision)) = self.good.next(by) else { return };
            send(&mut self.side, &self.pool, frame, &decision);
        }
    }

    /// The attack that comes with a burst.
    fn attack(&mut self, by: By) {
        for _ in 0..ATTACK {
            self.side.flush(Full::Lose);
            for _ in 0..BURST_MAX {
                let Some((frame, decision)) = self.attack.next(by) else { return };
                send(&mut self.side, &self.pool, frame, &decision);
            }
        }
    }
}

fn send(side: &mut NicSide, pool: &Mempool, frame: &Frame, decision: &Decision) {
    side.meet(decision, 1);
    if decision.is_drop() {
        return;
    }
    // An empty pool is a queue without room.
    if let Some(packet) = pool.packet_of(&frame.bytes) {
        side.deliver(packet, decision);
    }
}

/// Packets of the traffic a second, where it is sent at a fixed rate: well below what any chain can do.
const PACED: u64 = 500_000;
/// Frames of an attack for each of the traffic.
const ATTACK: usize = 9;
/// Loops before a full ring is looked at again.
const PATIENCE: u32 = 64;
