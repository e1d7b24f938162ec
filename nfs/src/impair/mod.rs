//! `impair`: makes its chain a bad link: slow, late, lossy.
//!
//! ```text
//!     in ---->[ impair ]----> next      kind: packet NF
//!
//! Keys   loss       0%     packets that get lost, each by itself
//!        duplicate  0%     packets that come twice
//!        corrupt    0%     packets with one bit flipped behind the Ethernet header
//!        reorder    0%     packets that are late by `late-by`, so that later ones overtake them
//!        late-by    5ms    by how much; up to 10s
//!        delay      0ms    of each packet; up to 10s
//!        jitter     0ms    up to so much more, of each packet for itself; the order stays
//!        rate       none   bits a second; what comes faster waits
//!        queue      256KiB what may wait for its turn at the rate
//!        packets    4096   that a worker holds at a time, for whatever reason
//!        way        both   `both` | `forward`: only the chain's direction | `reverse`: only answers
//!        seed       1      of its dice: the same seed and packets, the same fates
//! Drops  lost              as `loss` wants it
//!        queue_full        too much waits for its turn
//!        hold_full         more packets than `packets`
//! Handles loss duplicate corrupt reorder late-by delay jitter rate (rw)   as the keys; packets held keep their times
//! Counts duplicated_packets  copies made
//!        corrupted_packets   packets with a bit flipped
//!        late_packets        packets that others may overtake
//!        no_buffer_packets   copies that were not made: no buffer was free
//! Cost   60 ns a packet, besides waiting
//! State  one number a direction that workers share, where there is a rate; held packets are a worker's
//! ```
//!
//! Each direction is a link of its own, with these properties. A packet meets them in this order: it is lost or not,
//! copied or not, damaged or not; it waits for its turn at the rate, then takes `delay` and up to `jitter`; and when it
//! is late, `late-by` besides. What was damaged so that it is no packet any more is dropped as malformed behind.
//!
//! For tests, and to see what an application makes of a bad link: `nfv replay` does to a capture what `run` would,
//! the same each time. A run is the same each time on one worker; several have dice of their own. The rate is one for
//! all workers. Held packets keep their buffers: a port's `mempool-size` must have room for them.
//!
//! Linux' netem has most of this; it does not run in captures, and where jitter is wanted it reorders.

mod dice;
mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nfv_core::chain::key::{Key, Need, Shape};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::{Rate, RateUnit, Scalar, Size, Spelled};
use nfv_core::clock::Time;
use nfv_core::dpdk::Packet;
use nfv_core::nf::{
    Built, Burst, Cx, Direction, Handle, Holds, Kind, Named, PacketNf, Place, Profile, Reason,
    Shard, Sifted, Surroundings,
};

use self::dice::{Dice, PerMillion};
use self::held::{Full, Held};

/// The type of NF `impair`.
pub const KIND: Kind = Kind {
    name: "impair",
    profile: Profile {
        reads_payload: false,
        writes: true,
        drops: true,
        creates: true,
        routes: false,
    },
    keys: &[
        chance("loss", "packets that get lost, each by itself"),
        chance("duplicate", "packets that come twice"),
        chance("corrupt", "packets with one bit flipped behind the Ethernet header"),
        chance("reorder", "packets that are late, so that later ones overtake them"),
        time("late-by", "5ms", "by how much a late packet is late"),
        time("delay", "0ms", "of each packet"),
        time("jitter", "0ms", "up to so much more, of each packet for itself; the order stays"),
        Key {
            name: "rate",
            shape: Shape::Rate,
            need: Need::Optional,
            help: "bits a second; what comes faster waits",
        },
        Key {
            name: "queue",
            shape: Shape::Size,
            need: Need::Default("256KiB"),
            help: "what may wait for its turn at the rate",
        },
        Key {
            name: "packets",
            shape: Shape::Integer { min: 1, max: 1 << 20 },
            need: Need::Default("4096"),
            help: "packets that a worker holds at a time",
        },
        Key {
            name: "way",
            shape: Shape::Choice(&["both", "forward", "reverse"]),
            need: Need::Default("both"),
            help: "the direction of the chain that is impaired",
        },
        Key {
            name: "seed",
            shape: Shape::Integer { min: 0, max: u64::MAX },
            need: Need::Default("1"),
            help: "of its dice: the same seed and packets, the same fates",
        },
    ],
    drops: &[
        Named { name: "lost", help: "the link lost it, as `loss` wants it" },
        Named { name: "queue_full", help: "too much waits for its turn at the rate" },
        Named { name: "hold_full", help: "more packets are held than `packets`" },
    ],
    answers: &[],
    counters: &[
        Named { name: "duplicated_packets", help: "copies made" },
        Named { name: "corrupted_packets", help: "packets with a bit flipped" },
        Named { name: "late_packets", help: "packets that others may overtake" },
        Named { name: "no_buffer_packets", help: "copies not made: no buffer was free" },
    ],
    source: include_str!("mod.rs"),
    build,
};

const LOST: Reason = Reason(0);
const QUEUE_FULL: Reason = Reason(1);
const HOLD_FULL: Reason = Reason(2);
const DUPLICATED: usize = 0;
const CORRUPTED: usize = 1;
const LATE: usize = 2;
const NO_BUFFER: usize = 3;

const fn chance(name: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::Text, need: Need::Default("0%"), help }
}

const fn time(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, shape: Shape::Duration, need: Need::Default(default), help }
}

fn build(section: &Section<'_>, _: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let link = Arc::new(Link::default());
    for knob in KNOBS.iter().filter(|knob| section.has(knob.name) || knob.name != RATE) {
        let Some(text) = section.text(knob.name) else { continue };
        if let Err(why) = link.set(knob, &text) {
            report.error(section.span_of(knob.name), why);
        }
    }
    link.queue.store(section.value::<Size>("queue")?.bytes(), Ordering::Relaxed);
    let most = usize::try_from(section.integer("packets")?).ok()?;
    let ways = match section.choice("way")? {
        "forward" => [true, false],
        "reverse" => [false, true],
        _ => [true, true],
    };
    let seed = section.integer("seed")?;
    if report.has_errors() {
        return None;
    }
    let handles = KNOBS.iter().map(|knob| handle(knob, &link)).collect();
    let make = move |worker: Shard| Impair::new(link.clone(), ways, most, (seed, worker));
    Some(Built::packet_of(make).with_handles(handles))
}

fn handle(knob: &'static Knob, link: &Arc<Link>) -> Handle {
    let (shown, changed) = (link.clone(), link.clone());
    Handle {
        named: Named { name: knob.name, help: knob.help },
        read: Box::new(move || shown.text(knob)),
        write: Some(Box::new(move |text| changed.set(knob, text))),
    }
}

/// A property that an operator may change.
struct Knob {
    name: &'static str,
    help: &'static str,
    unit: Unit,
    of: fn(&Link) -> &AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Parts of a million.
    Chance,
    /// Nanoseconds.
    Time,
    /// Bits a second; 0: no limit.
    Rate,
}

const RATE: &str = "rate";

const KNOBS: &[Knob] = &[
    Knob { name: "loss", help: "packets that get lost", unit: Unit::Chance, of: |l| &l.loss },
    Knob {
        name: "duplicate",
        help: "packets that come twice",
        unit: Unit::Chance,
        of: |l| &l.duplicate,
    },
    Knob {
        name: "corrupt",
        help: "packets with one bit flipped",
        unit: Unit::Chance,
        of: |l| &l.corrupt,
    },
    Knob { name: "reorder", help: "packets that are late", unit: Unit::Chance, of: |l| &l.reorder },
    Knob {
        name: "late-by",
        help: "by how much a late packet is late",
        unit: Unit::Time,
        of: |l| &l.late_by,
    },
    Knob { name: "delay", help: "of each packet", unit: Unit::Time, of: |l| &l.delay },
    Knob { name: "jitter", help: "up to so much more", unit: Unit::Time, of: |l| &l.jitter },
    Knob { name: RATE, help: "bits a second, or `none`", unit: Unit::Rate, of: |l| &l.rate },
];

/// What all workers share: what the link is like, and by when each direction of it has carried what it took.
#[derive(Debug, Default)]
struct Link {
    loss: AtomicU64,
    duplicate: AtomicU64,
    corrupt: AtomicU64,
    reorder: AtomicU64,
    late_by: AtomicU64,
    delay: AtomicU64,
    jitter: AtomicU64,
    rate: AtomicU64,
    queue: AtomicU64,
    /// By direction, in nanoseconds.
    free_at: [AtomicU64; 2],
}

impl Link {
    /// Sets a property from text.
    fn set(&self, knob: &Knob, text: &str) -> Result<(), String> {
        let value = match knob.unit {
            Unit::Chance => u64::from(PerMillion::parse(text)?.0),
            Unit::Time => {
                let time = Duration::parse(text).map_err(|why| why.to_string())?;
                if time > TIME_MAX {
                    return Err(format!("`{text}` is too long: up to 10s"));
                }
                u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
            }
            Unit::Rate if text == "none" => 0,
            Unit::Rate => {
                let rate = Rate::parse(text).map_err(|why| why.to_string())?;
                if rate.unit() != RateUnit::Bits {
                    return Err(format!("`{text}`: a link's rate is in bits, `20Mbps`"));
                }
                rate.per_second()
            }
        };
        (knob.of)(self).store(value, Ordering::Relaxed);
        Ok(())
    }

    /// A property as text.
    fn text(&self, knob: &Knob) -> String {
        let value = (knob.of)(self).load(Ordering::Relaxed);
        match knob.unit {
            Unit::Chance => PerMillion(u32::try_from(value).unwrap_or(u32::MAX)).to_string(),
            Unit::Time => Spelled(Duration::from_nanos(value)).to_string(),
            Unit::Rate if value == 0 => "none".to_owned(),
            Unit::Rate => format!("{value}bps"),
        }
    }

    /// When a packet that comes now has been carried at the link's rate; `None`: too much waits already.
    #[inline]
    fn carried(&self, way: usize, bytes: u32, now: Time) -> Option<Time> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Some(now);
        }
        let of = |bytes: u64| {
            let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate);
            u64::try_from(nanos).unwrap_or(u64::MAX)
        };
        let (takes, most) = (of(bytes.into()), of(self.queue.load(Ordering::Relaxed)));
        let free_at = self.free_at.get(way)?;
        let mut seen = free_at.load(Ordering::Relaxed);
        loop {
            let start = seen.max(now.0);
            // What is on its way already does not wait.
            if start - now.0 > most {
                return None;
            }
            let next = start.saturating_add(takes);
            match free_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Time(next)),
                Err(other) => seen = other,
            }
        }
    }
}

/// A worker's end of the link.
#[derive(Debug)]
struct Impair {
    link: Arc<Link>,
    /// Whether a direction is impaired.
    ways: [bool; 2],
    /// By direction.
    dice: [Dice; 2],
    /// By direction: when the packet before this one comes out, so that jitter does not reorder.
    last: [Time; 2],
    held: Held,
}

/// What is to happen to a packet.
struct Fate {
    due: Time,
    twice: bool,
}

impl Impair {
    fn new(link: Arc<Link>, ways: [bool; 2], most: usize, (seed, worker): (u64, Shard)) -> Self {
        let dice = |way| Dice::new(seed, 2 * u64::from(worker.index) + way);
        let (dice, last) = ([dice(0), dice(1)], [Time(0); 2]);
        Self { link, ways, dice, last, held: Held::new(most) }
    }

    /// Throws the dice for a packet. The same number of throws for each, whatever comes of them, so that one property
    /// may be changed and the others' victims stay the same.
    #[inline]
    fn fate(&mut self, way: usize, packet: &mut Packet, cx: &Cx<'_>) -> Result<Fate, Reason> {
        let Self { link, dice, last, .. } = self;
        let (Some(dice), Some(last)) = (dice.get_mut(way), last.get_mut(way)) else {
            return Err(LOST);
        };
        let hits = |dice: &mut Dice, chance: &AtomicU64| dice.hits(chance.load(Ordering::Relaxed));
        let [lost, twice, damaged, late] =
            [&link.loss, &link.duplicate, &link.corrupt, &link.reorder].map(|c| hits(dice, c));
        let (bit, jitter) = (dice.next(), dice.below(link.jitter.load(Ordering::Relaxed)));
        if lost {
            return Err(LOST);
        }
        if damaged {
            cx.count(CORRUPTED, 1);
            flip(packet.data_mut(), bit);
        }
        let carried = link.carried(way, packet.len(), cx.now).ok_or(QUEUE_FULL)?;
        let delay = link.delay.load(Ordering::Relaxed);
        let mut due = Time(carried.0.saturating_add(delay).saturating_add(jitter)).max(*last);
        *last = due;
        if late {
            cx.count(LATE, 1);
            due.0 = due.0.saturating_add(link.late_by.load(Ordering::Relaxed));
        }
        Ok(Fate { due, twice })
    }

    /// Takes a packet onto the link.
    #[inline]
    fn take(&mut self, way: usize, mut packet: Packet, place: Place, cx: &Cx<'_>) -> Sifted {
        let fate = match self.fate(way, &mut packet, cx) {
            Ok(fate) => fate,
            Err(why) => return Sifted::Dropped(packet, why),
        };
        if fate.twice {
            // A packet of a capture may have been longer on the wire than what is here of it.
            let held = u32::try_from(packet.data().len()).unwrap_or(u32::MAX);
            match cx.copy(&packet, held) {
                Some(copy) => {
                    cx.count(DUPLICATED, 1);
                    if let Err(Full(copy)) = self.held.push(fate.due, copy, place) {
                        cx.drop(copy, HOLD_FULL);
                    }
                }
                None => cx.count(NO_BUFFER, 1),
            }
        }
        match self.held.push(fate.due, packet, place) {
            Ok(()) => Sifted::Taken,
            Err(Full(packet)) => Sifted::Dropped(packet, HOLD_FULL),
        }
    }

    /// Sends on what is due by a time.
    fn send_due(&mut self, by: Time, cx: &mut Cx<'_>) {
        while cx.room() > 0 {
            let Some((packet, place)) = self.held.pop(by) else { break };
            if let Err(packet) = cx.resume(place, packet) {
                // There was room.
                cx.drop(packet, HOLD_FULL);
            }
        }
        if let Some(next) = self.held.next() {
            cx.wake_at(next);
        }
    }
}

impl PacketNf for Impair {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let way = match burst.direction {
            Direction::Forward => 0,
            Direction::Reverse => 1,
        };
        if !self.ways.get(way).is_some_and(|impaired| *impaired) {
            return;
        }
        let place = cx.place();
        burst.sift(|packet, _| self.take(way, packet, place, cx));
        self.send_due(cx.now, cx);
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        self.send_due(cx.now, cx);
    }

    fn let_go(&mut self, cx: &mut Cx<'_>) -> Holds {
        self.send_due(Time(u64::MAX), cx);
        if self.held.next().is_some() { Holds::Packets } else { Holds::Nothing }
    }
}

/// Flips the bit of that number, counted around, behind the Ethernet header.
fn flip(frame: &mut [u8], bit: u64) {
    let Some(behind) = frame.get_mut(ETHERNET..).filter(|rest| !rest.is_empty()) else { return };
    let bit = usize::try_from(bit >> 8).unwrap_or(0) % (behind.len() * 8);
    if let Some(byte) = behind.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

const ETHERNET: usize = 14;
const TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;

    use super::*;

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KIND.keys), Ok(()));
    }

    #[test]
    fn a_link_carries_its_rate_and_lets_no_more_wait_than_its_queue() {
        let link = Link::default();
        link.set(&KNOBS[7], "8Mbps").unwrap();
        link.queue.store(3000, Ordering::Relaxed);
        let now = Time(5_000_000);
        let carried: Vec<_> = (0..5).map(|_| link.carried(0, 1000, now)).collect();
        // A byte takes a microsecond. The fourth waits for 3,000 others, the fifth would for 4,000.
        let at = |ms: u64| Some(Time(now.0 + ms * 1_000_000));
        assert_eq!(carried, [at(1), at(2), at(3), at(4), None]);
        assert_eq!(link.carried(1, 1000, now), at(1), "the other direction is a link of its own");
        link.set(&KNOBS[7], "none").unwrap();
        assert_eq!(link.carried(0, 1000, now), Some(now), "control: without a rate none waits");
    }

    #[test]
    fn what_a_handle_shows_can_be_set_again() {
        let link = Link::default();
        for (knob, text) in KNOBS.iter().zip(["1%", "0.5%", "0%", "100%", "5ms", "1s", "0s"]) {
            link.set(knob, text).unwrap();
            assert_eq!(link.text(knob), text);
        }
        assert!(link.set(&KNOBS[0], "101%").is_err());
        assert!(link.set(&KNOBS[4], "11s").is_err());
        assert!(link.set(&KNOBS[7], "10kpps").is_err());
    }

    #[test]
    fn one_bit_is_flipped_and_never_in_the_ethernet_header() {
        for bit in 0..1000 {
            let mut frame = [0u8; 60];
            flip(&mut frame, bit << 8);
            assert_eq!(frame.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
            assert_eq!(frame[..ETHERNET], [0; ETHERNET]);
        }
        flip(&mut [0; ETHERNET], 7);
    }
}
