//! Passive: packets go on at once, and an analyser on another core looks at them.
//!
//! ```text
//!   worker --+                                  +--> Inspector --> log
//!   worker --+--SharedPacket--> bounded queue --+    (a thread)
//! ```
//!
//! A worker adds one to the mbuf's count of references and puts it into a queue without locks; it never waits. When the queue
//! fills, flows are shed whole rather than packets at random, as half of a stream is of no use: of all flows those whose hash
//! is below a threshold are copied, and the threshold falls with the room that is left. What is shed is counted. The queue
//! is short beside the pools of ports: what waits in it is missing there.
//!
//! In a replay the analyser is the worker itself, behind each burst, so that the same capture has the same records.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use nfv_core::clock::Time;
use nfv_core::dpdk::{Packet, SharedPacket};
use nfv_core::nf::{Burst, Cx, PacketNf, PortIndex, Purpose};
use nfv_core::packet::packet_hash;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::inspector::{Inspector, Seen};
use super::nf::{Shared, Timer};
use super::output::Output;
use super::reasons;

/// A packet for the analyser.
#[derive(Debug)]
struct Copied {
    packet: SharedPacket,
    time: Time,
    port: u8,
    place: Option<u64>,
    fate: Fate,
}

/// What became of a packet before its copy is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Taken,
    /// Its headers cannot be read.
    Refused,
}

/// Looks at the packets of all workers.
#[derive(Debug)]
pub struct Analyser {
    queue: ArrayQueue<Copied>,
    /// Of its thread, but for a reload; in a replay of the worker.
    looks: Mutex<Looks>,
    /// The workers' time.
    now: AtomicU64,
    stops: AtomicBool,
    /// The functions, before and after reloads, that have it.
    users: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A function's hold of its analyser: the last one that ends it ends the analyser.
#[derive(Debug)]
pub struct AnalyserLease {
    analyser: Arc<Analyser>,
    has_ended: AtomicBool,
}

/// What packets are looked at with.
#[derive(Debug)]
struct Looks {
    shared: Arc<Shared>,
    inspector: Box<Inspector>,
    output: Output,
    start: Option<Time>,
    told: Time,
}

impl Analyser {
    /// Starts one, on a CPU of its own if there is any; in a replay without a thread.
    ///
    /// # Errors
    /// The machine has no more threads, or no such CPU.
    pub fn start(shared: &Arc<Shared>, cpu: Option<usize>) -> std::io::Result<Arc<Self>> {
        let looks = Looks {
            shared: shared.clone(),
            inspector: shared.inspector(),
            output: shared.beside.output(),
            start: None,
            told: Time(0),
        };
        let this = Arc::new(Self {
            queue: ArrayQueue::new(WAITING_MAX),
            looks: Mutex::new(looks),
            now: AtomicU64::new(0),
            stops: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            thread: Mutex::new(None),
        });
        if shared.purpose == Purpose::Run {
            let own = this.clone();
            let thread = std::thread::Builder::new().name("ids-analyser".into());
            let (told, pinned) = std::sync::mpsc::channel();
            let thread = thread.spawn(move || {
                let result = pin(cpu);
                let is_there = result.is_ok();
                let _ = told.send(result);
                if is_there {
                    own.run();
                }
            })?;
            pinned.recv().unwrap_or(Ok(()))?;
            *this.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
        Ok(this)
    }

    /// What waits is looked at, and all flows end.
    fn end(&self) {
        self.stops.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // A panic of the thread was told by it.
            let _ = thread.join();
        }
        let mut looks = self.looks();
        while self.look(&mut looks) > 0 {}
        let now = Time(self.now.load(Ordering::Relaxed));
        let Looks { inspector, output, start, .. } = &mut *looks;
        inspector.finish(now, output);
        output.tell_counts(inspector, start.unwrap_or(now), now);
        // It lets go of the log, which then ends.
        *output = Output::Nowhere;
    }

    /// Looks with other rules and lists from now on, unless it does.
    fn change(&self, shared: &Arc<Shared>) {
        let mut looks = self.looks();
        if !Arc::ptr_eq(&looks.shared, shared) {
            looks.inspector.set_detector(shared.detector());
            looks.inspector.set_lists(shared.lists.clone());
            looks.shared = shared.clone();
        }
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while !self.stops.load(Ordering::Acquire) {
            let mut looks = self.looks();
            let looked_at = self.look(&mut looks);
            looks.tick(Time(self.now.load(Ordering::Relaxed)));
            drop(looks);
            if looked_at == 0 {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    /// Looks at what waits, up to a bound. How many there were.
    fn look(&self, looks: &mut Looks) -> usize {
        let mut looked_at = 0;
        while looked_at < AT_ONCE
            && let Some(copied) = self.queue.pop()
        {
            looks.packet(&copied);
            looked_at += 1;
        }
        looked_at
    }

    /// Of all hashes of flows, those below this are copied: all, until half of the queue is taken.
    fn threshold(&self) -> u64 {
        let half = WAITING_MAX / 2;
        let room = WAITING_MAX - self.queue.len().min(WAITING_MAX);
        ALL * room.min(half) as u64 / half as u64
    }
}

impl AnalyserLease {
    /// One more.
    pub fn of(analyser: &Arc<Analyser>) -> Self {
        analyser.users.fetch_add(1, Ordering::Relaxed);
        Self { analyser: analyser.clone(), has_ended: AtomicBool::new(false) }
    }

    /// No worker uses the function any more.
    pub fn end(&self) {
        if !self.has_ended.swap(true, Ordering::Relaxed)
            && self.analyser.users.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.analyser.end();
        }
    }
}

impl Drop for AnalyserLease {
    /// Of a function that no worker ever used: the file that has it is wrong elsewhere.
    fn drop(&mut self) {
        self.end();
    }
}

impl Looks {
    fn packet(&mut self, copied: &Copied) {
        let Copied { packet, time, port, place, fate } = copied;
        let seen = Seen {
            time: *time,
            frame: packet.data(),
            wire_length: packet.wire_length(),
            port: *port,
            place: *place,
        };
        self.start.get_or_insert(*time);
        match fate {
            // Nothing can be done about a packet that is gone.
            Fate::Taken => _ = self.inspector.packet(&seen, &mut self.output),
            Fate::Refused => self.inspector.refused(&seen, &mut self.output),
        }
    }

    fn tick(&mut self, now: Time) {
        let Some(start) = self.start else { return };
        self.inspector.tick(now, &mut self.output);
        if now.since(self.told) >= SECOND {
            self.told = now;
            self.output.tell_counts(&self.inspector, start, now);
        }
    }
}

/// A worker's, which gives the analyser what it sees.
#[derive(Debug)]
pub struct Tap {
    analyser: Arc<Analyser>,
    purpose: Purpose,
    timer: Timer,
}

impl Tap {
    /// To an analyser that looks with these rules and lists from now on.
    pub fn new(analyser: &Arc<Analyser>, shared: &Arc<Shared>) -> Self {
        analyser.change(shared);
        Self { analyser: analyser.clone(), purpose: shared.purpose, timer: Timer::default() }
    }
}

impl PacketNf for Tap {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let (port, time) = (burst.in_port.0, cx.now);
        let threshold = self.analyser.threshold();
        let (mut copied, mut shed) = (0, 0);
        for slot in burst.slots() {
            let place = match self.purpose {
                Purpose::Replay => slot.packet.place(),
                _ => None,
            };
            let is_wanted = spread(packet_hash(slot.packet, slot.headers)) < threshold;
            let packet = if is_wanted { cx.share(slot.packet) } else { None };
            let fate = Fate::Taken;
            let given = packet.map(|packet| Copied { packet, time, port, place, fate });
            match given.map(|one| self.analyser.queue.push(one)) {
                Some(Ok(())) => copied += 1,
                Some(Err(_)) | None => shed += 1,
            }
        }
        cx.count(reasons::COPIED, copied);
        cx.count(reasons::SHED_COPIES, shed);
        if self.purpose == Purpose::Replay {
            let mut looks = self.analyser.looks();
            while self.analyser.look(&mut looks) > 0 {}
            self.analyser.now.store(time.0, Ordering::Relaxed);
        }
    }

    fn refused(&mut self, packet: &Packet, in_port: PortIndex, cx: &mut Cx<'_>) {
        // They are of no flow: none is shed for them.
        let is_free = self.analyser.threshold() == ALL;
        let place = if self.purpose == Purpose::Replay { packet.place() } else { None };
        let copy = if is_free { cx.share(packet) } else { None };
        let copied = copy.map(|packet| Copied {
            packet,
            time: cx.now,
            port: in_port.0,
            place,
            fate: Fate::Refused,
        });
        match copied.map(|copied| self.analyser.queue.push(copied)) {
            Some(Ok(())) => cx.count(reasons::COPIED, 1),
            Some(Err(_)) | None => cx.count(reasons::SHED_COPIES, 1),
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if !self.timer.is_due(cx) {
            return;
        }
        self.analyser.now.fetch_max(cx.now.0, Ordering::Relaxed);
        if self.purpose == Purpose::Replay {
            self.analyser.looks().tick(cx.now);
        }
    }

    fn end(&mut self, now: Time) {
        self.analyser.now.fetch_max(now.0, Ordering::Relaxed);
    }
}

/// Has this thread run on one CPU.
fn pin(cpu: Option<usize>) -> std::io::Result<()> {
    let Some(cpu) = cpu.filter(|cpu| *cpu < CpuSet::MAX_CPU) else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Hashes of flows over all 32 bits: those of NICs differ in few of them where addresses do.
fn spread(hash: u32) -> u64 {
    (u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32
}

/// All hashes are below it.
const ALL: u64 = 1 << 32;
/// Packets that wait for the analyser: a part of what the pool of a port has.
const WAITING_MAX: usize = 1024;
/// Packets between two looks at what else there is to do.
const AT_ONCE: usize = 256;
/// How often an idle analyser looks.
const IDLE: Duration = Duration::from_micros(200);
/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
