//! `ratelimit`: holds its chains, or each source, to a rate; the excess is dropped.
//!
//! ```text
//!     in ---->[ ratelimit ]----> next      kind: packet NF
//!
//! Keys   rate           required  packets or bits a second: `10kpps`, `1Gbps`; bits are those of the frames without FCS
//!        burst          64KiB     what may pass at once after a pause, of a rate in bits; 1500B to 1GiB
//!        burst-packets  64        the same, of a rate in packets; 1 to 10^9
//!        per            class     `class`: all packets together | `source`: each source address for itself
//! Drops  over_rate                the bucket was empty
//! Handles rate (rw)              in the unit that it had; takes effect at once and keeps the buckets as they are
//! Counts passed_packets           packets within the rate
//! State  8 B; per source 512 KiB, and as much again a worker
//! ```
//!
//! Both directions of a chain draw on one bucket, and so do all chains that name the function. A packet longer than
//! `burst` never passes. A burst shorter than the pauses of a worker (tens of microseconds; 64 KiB are 50 us at 10 Gbps)
//! lets less pass than the rate.
//!
//! Sources are hashed to 65,536 buckets, so memory is bounded however many addresses are forged; two sources that meet
//! in a bucket share its rate. Frames that are not IP are one source.
//!
//! A bucket is one number that all workers share, the time at which it will be full again (the theoretical arrival time
//! of GCRA, ITU-T I.371). So that it is not written once a packet, a worker takes credit for up to 10 us of the rate and
//! spends that by itself. Credit is exact: what rounding to nanoseconds leaves over stays with the worker. The one
//! rejected: an even part of the rate for each worker, which a single flow, on one worker, could never use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::chain::key::{Key, Need, Shape};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::{Rate, RateUnit, Scalar, Size};
use nfv_core::clock::Time;
use nfv_core::nf::{
    Built, Burst, Cx, Handle, Kind, Named, PacketNf, Profile, Reason, Slot, Surroundings,
};
use nfv_core::packet::{Headers, L3};

/// The type of NF `ratelimit`.
pub const KIND: Kind = Kind {
    name: "ratelimit",
    profile: Profile {
        reads_payload: false,
        writes: false,
        drops: true,
        creates: false,
        routes: false,
    },
    keys: &[
        Key {
            name: "rate",
            shape: Shape::Rate,
            need: Need::Required,
            help: "packets or bits a second that pass",
        },
        Key {
            name: "burst",
            shape: Shape::Size,
            need: Need::Default("64KiB"),
            help: "what may pass at once after a pause, of a rate in bits; 1500B to 1GiB",
        },
        Key {
            name: "burst-packets",
            shape: Shape::Integer { min: 1, max: BURST_PACKETS_MAX },
            need: Need::Default("64"),
            help: "what may pass at once after a pause, of a rate in packets",
        },
        Key {
            name: "per",
            shape: Shape::Choice(&["class", "source"]),
            need: Need::Default("class"),
            help: "one bucket for all packets, or one for each source address",
        },
    ],
    drops: &[Named { name: "over_rate", help: "the bucket was empty" }],
    answers: &[],
    counters: &[Named { name: "passed_packets", help: "packets within the rate" }],
    source: include_str!("ratelimit.rs"),
    build,
};

const OVER_RATE: Reason = Reason(0);

fn build(section: &Section<'_>, _: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let rate = section.value::<Rate>("rate")?;
    let (other, hint) = match rate.unit() {
        RateUnit::Bits => ("burst-packets", "the rate is in bits: write `burst: 64KiB`"),
        RateUnit::Packets => ("burst", "the rate is in packets: write `burst-packets: 64`"),
    };
    if section.has(other) {
        let message = format!("`{other}` does not go with the unit of `rate`");
        report.error(section.span_of_key(other), message).hint(hint);
        return None;
    }
    let burst = match rate.unit() {
        RateUnit::Packets => section.integer("burst-packets")?,
        RateUnit::Bits => {
            let bytes = section.value::<Size>("burst")?.bytes();
            if !(BURST_BYTES_MIN..=BURST_BYTES_MAX).contains(&bytes) {
                let message = "a burst is at least one packet of 1500B, and at most 1GiB";
                report.error(section.span_of("burst"), message);
                return None;
            }
            bytes * 8
        }
    };
    let per = match section.choice("per")? {
        "source" => Per::Source,
        _ => Per::Class,
    };
    let buckets = Arc::new(Buckets::new(rate, burst, per));
    let handles = vec![rate_handle(buckets.clone())];
    Some(Built::packet(move || RateLimit::new(buckets.clone())).with_handles(handles))
}

fn rate_handle(buckets: Arc<Buckets>) -> Handle {
    let shown = buckets.clone();
    let unit = match buckets.unit {
        RateUnit::Bits => "bps",
        RateUnit::Packets => "pps",
    };
    Handle {
        named: Named { name: "rate", help: "packets or bits a second that pass" },
        read: Box::new(move || format!("{}{unit}", shown.rate.load(Ordering::Relaxed))),
        write: Some(Box::new(move |text| {
            let rate = Rate::parse(text).map_err(|why| why.to_string())?;
            if rate.unit() != buckets.unit {
                return Err(format!("its unit is {unit}"));
            }
            buckets.rate.store(rate.per_second(), Ordering::Relaxed);
            Ok(())
        })),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Class,
    Source,
}

/// What all workers share. Amounts are in nano-units: 10^-9 packets or bits, so that one nanosecond is worth the rate.
#[derive(Debug)]
struct Buckets {
    /// Nano-units a nanosecond. An operator may change it.
    rate: AtomicU64,
    unit: RateUnit,
    /// What fits a bucket, in units.
    burst: u64,
    per: Per,
    /// When each bucket will be full, in nanoseconds.
    full_at: Box<[AtomicU64]>,
}

impl Buckets {
    /// Full ones; `burst` in units, at most 2^33.
    fn new(rate: Rate, burst: u64, per: Per) -> Self {
        let count = match per {
            Per::Class => 1,
            Per::Source => SOURCES,
        };
        Self {
            rate: AtomicU64::new(rate.per_second()),
            unit: rate.unit(),
            burst,
            per,
            full_at: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Which bucket a packet draws on.
    #[inline]
    fn of(&self, headers: &Headers) -> usize {
        match self.per {
            Per::Class => 0,
            Per::Source => hash(headers) % SOURCES,
        }
    }

    /// What a packet of that many bytes costs, in nano-units.
    #[inline]
    fn cost(&self, bytes: u32) -> u64 {
        match self.unit {
            RateUnit::Packets => NANO,
            // What saturates is longer than any burst.
            RateUnit::Bits => u64::from(bytes).saturating_mul(8 * NANO),
        }
    }

    /// Takes credit of at least `cost` nano-units from a bucket; `None` when it has less.
    #[inline]
    fn take(&self, bucket: usize, cost: u64, now: Time) -> Option<u64> {
        let full_at = self.full_at.get(bucket)?;
        let rate = self.rate.load(Ordering::Relaxed);
        // Nanoseconds in which an empty bucket fills; rounded up, or a burst of one packet could never be taken.
        let depth = (self.burst * NANO).div_ceil(rate);
        let quantum = (depth / 8).min(QUANTUM_MAX);
        let least = cost.div_ceil(rate);
        let mut seen = full_at.load(Ordering::Relaxed);
        loop {
            let start = seen.max(now.0);
            let room = now.0.saturating_add(depth).saturating_sub(start);
            if room < least {
                return None;
            }
            let taken = least.max(quantum.min(room));
            let next = start.saturating_add(taken);
            match full_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                // At most a burst and one nanosecond, below 2^63.
                Ok(_) => return Some(taken.saturating_mul(rate)),
                Err(other) => seen = other,
            }
        }
    }
}

/// Spreads source addresses over the buckets (the finalizer of MurmurHash3, on both halves).
#[inline]
fn hash(headers: &Headers) -> usize {
    let (address, family) = match headers.kind {
        L3::Ipv4 => (headers.src.0, 4),
        L3::Ipv6 => (headers.src.0, 6),
        L3::Arp | L3::Other => ([0; 16], 0),
    };
    let [a, b] = [address.first_chunk::<8>(), address.last_chunk::<8>()]
        .map(|half| half.map_or(0, |bytes| u64::from_ne_bytes(*bytes)));
    let mixed = mix(mix(a ^ family).wrapping_add(b));
    usize::from((mixed >> 48) as u16)
}

#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// A worker's part.
#[derive(Debug)]
struct RateLimit {
    buckets: Arc<Buckets>,
    /// Nano-units taken from each bucket and not spent yet.
    credit: Box<[u64]>,
}

impl RateLimit {
    fn new(buckets: Arc<Buckets>) -> Self {
        let credit = vec![0; buckets.full_at.len()].into();
        Self { buckets, credit }
    }

    /// Whether a packet is within the rate; then it is paid for.
    #[inline]
    fn pay(&mut self, bucket: usize, bytes: u32, now: Time) -> bool {
        let Some(credit) = self.credit.get_mut(bucket) else { return false };
        let cost = self.buckets.cost(bytes);
        if *credit < cost {
            let Some(taken) = self.buckets.take(bucket, cost - *credit, now) else { return false };
            *credit = credit.saturating_add(taken);
        }
        *credit = credit.saturating_sub(cost);
        true
    }

    #[inline]
    fn judge(&mut self, slot: &mut Slot<'_>, now: Time) -> bool {
        let bucket = self.buckets.of(slot.headers);
        let within = self.pay(bucket, slot.packet.len(), now);
        if !within {
            slot.drop(OVER_RATE);
        }
        within
    }
}

impl PacketNf for RateLimit {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let mut passed = 0;
        for mut slot in burst.slots() {
            passed += u64::from(self.judge(&mut slot, cx.now));
        }
        cx.count(0, passed);
    }
}

const NANO: u64 = 1_000_000_000;
/// All values of the hash.
const SOURCES: usize = 1 << 16;
/// Short beside any burst worth having, long beside the way of a cache line between cores.
const QUANTUM_MAX: u64 = 10_000;
const BURST_BYTES_MIN: u64 = 1_500;
/// In nano-bits it is just below 2^63.
const BURST_BYTES_MAX: u64 = 1 << 30;
const BURST_PACKETS_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;
    use nfv_core::packet::AddressBytes;

    use super::*;

    const SECOND: u64 = NANO;
    /// Of captures: nanoseconds since 1970.
    const START: u64 = 1_700_000_000 * SECOND;

    fn buckets(rate: &str, burst: u64, per: Per) -> Arc<Buckets> {
        Arc::new(Buckets::new(Rate::parse(rate).unwrap(), burst, per))
    }

    fn passed(nf: &mut RateLimit, bytes: u32, times: impl Iterator<Item = u64>) -> u64 {
        times.map(|t| u64::from(nf.pay(0, bytes, Time(START + t)))).sum()
    }

    fn from(kind: L3, last: u8) -> Headers {
        let mut src = [0; 16];
        src[3] = last;
        Headers { kind, src: AddressBytes(src), ..Headers::default() }
    }

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KIND.keys), Ok(()));
    }

    #[test]
    fn a_full_bucket_lets_one_burst_pass_at_once() {
        let mut nf = RateLimit::new(buckets("10pps", 64, Per::Class));
        assert_eq!(passed(&mut nf, 60, std::iter::repeat_n(0, 1000)), 64);
    }

    #[test]
    fn a_burst_of_one_packet_lets_one_pass_at_a_time() {
        let mut nf = RateLimit::new(buckets("3kpps", 1, Per::Class));
        assert_eq!(passed(&mut nf, 60, [0, 0, 333_333, 333_334, 333_335].into_iter()), 2);
    }

    #[test]
    fn a_long_pause_earns_no_more_than_a_burst() {
        let mut nf = RateLimit::new(buckets("1kpps", 5, Per::Class));
        assert_eq!(passed(&mut nf, 60, std::iter::repeat_n(0, 100)), 5);
        assert_eq!(passed(&mut nf, 60, std::iter::repeat_n(3600 * SECOND, 100)), 5);
    }

    #[test]
    fn over_seconds_exactly_the_rate_passes_and_the_first_burst() {
        // Nanoseconds a packet: 333,333.3; nothing is lost or won by rounding.
        let mut nf = RateLimit::new(buckets("3kpps", 4, Per::Class));
        let every_us = (0..10 * 1_000_000).map(|us| us * 1000);
        let count = passed(&mut nf, 60, every_us);
        assert!((30_000..=30_004).contains(&count), "{count}");
    }

    #[test]
    fn a_rate_in_bits_counts_the_bytes_of_packets() {
        let mut nf = RateLimit::new(buckets("1Gbps", 8 * 65_536, Per::Class));
        let mut bytes = 0;
        for us in 0..1_000_000 {
            for length in [60, 1514] {
                bytes += passed(&mut nf, length, std::iter::once(us * 1000)) * u64::from(length);
            }
        }
        let most = 1_000_000_000 / 8 + 65_536;
        assert!((most - 2 * 1514..=most).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_rate_that_an_operator_sets_holds_from_then_on() {
        let shared = buckets("1kpps", 1, Per::Class);
        let handle = rate_handle(shared.clone());
        let mut nf = RateLimit::new(shared);
        let every_us = |from: u64| (0..1_000_000).map(move |us| from + us * 1000);
        assert!((1000..=1001).contains(&passed(&mut nf, 60, every_us(0))));
        handle.write.as_ref().unwrap()("5kpps").unwrap();
        assert_eq!((handle.read)(), "5000pps");
        assert!((5000..=5001).contains(&passed(&mut nf, 60, every_us(SECOND))));
        for wrong in ["0pps", "fast", "1Gbps", ""] {
            assert!(handle.write.as_ref().unwrap()(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_workers_share_one_rate() {
        let shared = buckets("100kpps", 64, Per::Class);
        let (mut one, mut two) = (RateLimit::new(shared.clone()), RateLimit::new(shared));
        let mut count = 0;
        for us in 0..1_000_000 {
            count += passed(&mut one, 60, std::iter::once(us * 1000));
            count += passed(&mut two, 60, std::iter::once(us * 1000 + 500));
        }
        assert!((99_990..=100_064).contains(&count), "{count}");
    }

    #[test]
    fn one_worker_alone_may_use_the_whole_rate() {
        let shared = buckets("100kpps", 64, Per::Class);
        let (mut one, _idle) = (RateLimit::new(shared.clone()), RateLimit::new(shared));
        let count = passed(&mut one, 60, (0..1_000_000).map(|us| us * 1000));
        assert!((99_990..=100_064).contains(&count), "{count}");
    }

    #[test]
    fn threads_that_take_at_once_get_no_more_than_the_bucket_holds() {
        let shared = buckets("1Mpps", 100_000, Per::Class);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let mut nf = RateLimit::new(shared.clone());
                std::thread::spawn(move || passed(&mut nf, 60, std::iter::repeat_n(0, 60_000)))
            })
            .collect();
        let count: u64 = workers.into_iter().map(|w| w.join().unwrap()).sum();
        // Each worker may be left with less than a quantum, which is 10 packets here.
        assert!((100_000 - 40..=100_000).contains(&count), "{count}");
    }

    #[test]
    fn a_source_over_its_rate_leaves_others_theirs() {
        let buckets = buckets("1kpps", 10, Per::Source);
        let (greedy, modest) = (from(L3::Ipv4, 1), from(L3::Ipv4, 2));
        let (greedy, modest) = (buckets.of(&greedy), buckets.of(&modest));
        assert_ne!(greedy, modest);
        let mut nf = RateLimit::new(buckets);
        let of_greedy = (0..100).filter(|_| nf.pay(greedy, 60, Time(START))).count();
        let of_modest = (0..10).filter(|_| nf.pay(modest, 60, Time(START))).count();
        assert_eq!((of_greedy, of_modest), (10, 10));
    }

    #[test]
    fn the_ports_of_a_source_do_not_matter_and_its_family_does() {
        let buckets = buckets("1kpps", 10, Per::Source);
        let web = Headers { sport: 80, ..from(L3::Ipv4, 1) };
        assert_eq!(buckets.of(&web), buckets.of(&from(L3::Ipv4, 1)));
        assert_ne!(buckets.of(&web), buckets.of(&from(L3::Ipv6, 1)));
    }

    #[test]
    fn neighbouring_addresses_are_spread_evenly() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..10_000_u32 {
            let mut src = [0; 16];
            src[..4].copy_from_slice(&(0x0a00_0000 + i).to_be_bytes());
            seen.insert(hash(&Headers {
                kind: L3::Ipv4,
                src: AddressBytes(src),
                ..Headers::default()
            }));
        }
        // Of 10,000 in 65,536 at random, 9,274 are distinct.
        assert!((9_150..9_400).contains(&seen.len()), "{}", seen.len());
    }

    #[test]
    fn no_packet_length_rate_or_time_overflows() {
        for (rate, burst) in [("1bps", 8 << 30), ("1Tbps", 8 << 30), ("1Tbps", 12_000)] {
            let mut nf = RateLimit::new(buckets(rate, burst, Per::Class));
            for time in [0, START, u64::MAX - 1, u64::MAX] {
                assert!(!nf.pay(0, u32::MAX, Time(time)), "longer than any burst");
                nf.pay(0, 1500, Time(time));
            }
        }
        let mut nf = RateLimit::new(buckets("1000Gpps", 1, Per::Class));
        assert!(nf.pay(0, 60, Time(0)));
    }
}
