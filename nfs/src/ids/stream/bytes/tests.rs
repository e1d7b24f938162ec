use proptest::prelude::*;

use super::super::key::Secret;
use super::*;

/// A direction by itself, and what it was told.
struct Rig {
    store: Store,
    bytes: Bytes,
    start: u32,
    judge: Judge,
    history: u32,
    /// What was told, and where it is missing.
    told: Vec<Option<u8>>,
}

impl Rig {
    fn new(start: u32, judge: Judge, history: u32) -> Self {
        let store = Store::new(1 << 20, Secret::random());
        Self { store, bytes: Bytes::starting(start), start, judge, history, told: Vec::new() }
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) -> Inserted {
        let seq = self.start.wrapping_add(at as u32);
        self.bytes.insert(&mut self.store, seq, bytes, self.judge)
    }

    fn tell(&mut self, to: usize, watch: Watch) {
        let to = self.start.wrapping_add(to as u32);
        let told = &mut self.told;
        self.bytes.tell(&self.store, Reach { data: to, hole: to, tail: to }, watch, |part| {
            match part {
                Told::Data { offset, bytes } => {
                    assert_eq!(offset, told.len() as u64);
                    told.extend(bytes.iter().copied().map(Some));
                }
                Told::Gap { offset, length } => {
                    assert_eq!(offset, told.len() as u64);
                    told.extend(std::iter::repeat_n(None, length as usize));
                }
            }
        });
        let keep = Keep { least: 0, history: self.history, unseen_max: u32::MAX / 2 };
        self.bytes.release(&mut self.store, keep);
    }

    fn end(mut self) -> Vec<Option<u8>> {
        self.bytes.forget(&mut self.store);
        assert_eq!(self.store.in_use(), 0);
        self.told
    }
}

/// What a receiver's queue holds, byte by byte: each with the segment that it is of.
struct Model {
    cells: Vec<Option<(u8, usize)>>,
    told: usize,
    policy: Option<OverlapPolicy>,
}

impl Model {
    /// Parts of one segment that lie together: start, end.
    fn runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in self.told..self.cells.len() {
            let Some((_, id)) = self.cells[at] else { continue };
            match runs.last_mut() {
                Some((start, end)) if *end == at && self.cells[*start].map(|c| c.1) == Some(id) => {
                    *end += 1;
                }
                _ => runs.push((at, at + 1)),
            }
        }
        runs
    }

    fn insert(&mut self, id: usize, at: usize, bytes: &[u8]) {
        let (start, end) = (at.max(self.told), at + bytes.len());
        if end <= start {
            return;
        }
        let range = |(a, b): (usize, usize)| Range { start: a as i64, end: b as i64 };
        for run in self.runs() {
            let (from, to) = (run.0.max(start), run.1.min(end));
            let is_same = (from..to).all(|i| self.cells[i].map(|c| c.0) == Some(bytes[i - at]));
            let wins = self.policy.is_some_and(|policy| {
                policy.winner(range(run), range((start, end))) == Winner::New
            });
            if from < to && !is_same && wins {
                for i in from..to {
                    self.cells[i] = Some((bytes[i - at], id));
                }
            }
        }
        for i in start..end {
            self.cells[i].get_or_insert((bytes[i - at], id));
        }
    }
}

fn judges() -> impl Strategy<Value = Judge> {
    let policies =
        (0..OverlapPolicy::ALL.len()).prop_map(|i| Judge::Receiver(OverlapPolicy::ALL[i]));
    prop_oneof![1 => Just(Judge::Passed), 13 => policies]
}

#[derive(Clone, Debug)]
enum Act {
    Segment(usize, Vec<u8>),
    Acknowledge(usize),
}

const LENGTH: usize = 120;

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // Two values only: some overlaps are the same, some are not.
    let bytes = prop::collection::vec(0u8..2, 1..20);
    let segment = (0..LENGTH - 20, bytes).prop_map(|(at, bytes)| Act::Segment(at, bytes));
    let acknowledge = (0..LENGTH / 4).prop_map(Act::Acknowledge);
    prop::collection::vec(prop_oneof![8 => segment, 1 => acknowledge], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn bytes_that_differ_are_told_as_the_receivers_queue_has_them(
        acts in acts(), judge in judges(), start: u32, history in prop_oneof![Just(0u32), 0u32..60],
    ) {
        let policy = match judge {
            Judge::Passed => None,
            Judge::Receiver(policy) => Some(policy),
        };
        let mut model = Model { cells: vec![None; LENGTH], told: 0, policy };
        let mut rig = Rig::new(start, judge, history);
        for (id, act) in acts.into_iter().enumerate() {
            match act {
                Act::Segment(at, bytes) => {
                    rig.insert(at, &bytes);
                    model.insert(id, at, &bytes);
                }
                Act::Acknowledge(more) => {
                    // No further than anything is, as no gap of one byte at the end is told.
                    let last = model.cells.iter().rposition(|cell| cell.is_some()).map_or(0, |i| i + 1);
                    let to = (model.told + more).min(last).max(model.told);
                    rig.tell(to, Watch::No);
                    model.told = to;
                }
            }
            let told: Vec<_> = model.cells[..model.told].iter().map(|c| c.map(|c| c.0)).collect();
            prop_assert_eq!(&rig.told, &told);
            let held: u32 = {
                let mut held = 0;
                rig.bytes.each_held(&rig.store, |_, bytes| held += PIECE + bytes.len() as u32);
                held
            };
            prop_assert_eq!(held, rig.bytes.held());
        }
        rig.end();
    }

    #[test]
    fn any_cut_order_repetition_and_overlap_of_the_same_bytes_gives_them_back(
        length in 1usize..6000,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1usize..3000), 0..60),
        order in any::<u64>(), judge in judges(), start: u32,
        steps in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let stream: Vec<u8> = (0..length).map(|i| (i * 31 + i / 251) as u8).collect();
        // Random pieces, and a row of others that has every byte.
        let mut pieces: Vec<(usize, usize)> = cuts
            .iter()
            .map(|(at, size)| (at.index(length), *size))
            .map(|(at, size)| (at, (at + size).min(length)))
            .collect();
        let mut at = 0;
        for (_, size) in cuts.iter().cycle().take(if cuts.is_empty() { 0 } else { 6000 }) {
            let end = (at + size).min(length);
            if at < end { pieces.push((at, end)); }
            at = end;
        }
        if at < length { pieces.push((at, length)); }
        pieces.sort_by_key(|piece| (piece.0 as u64 + 1).wrapping_mul(order | 1).rotate_left(23) ^ piece.1 as u64);
        let mut rig = Rig::new(start, judge, 500);
        let mut have = vec![false; length];
        let mut steps = steps.into_iter();
        for (from, to) in pieces {
            let done = rig.insert(from, &stream[from..to]);
            prop_assert!(!done.differs && done.refused == 0);
            have[from..to].fill(true);
            let whole = have.iter().position(|has| !has).unwrap_or(length);
            if let Some(step) = steps.next() {
                rig.tell(rig.told.len().max(step.index(whole + 1)), Watch::Yes);
            }
        }
        rig.tell(length, Watch::Yes);
        let told: Vec<u8> = rig.end().into_iter().flatten().collect();
        prop_assert_eq!(told, stream);
    }

    #[test]
    fn windows_show_every_byte_once_as_fresh_and_its_history_before_it(
        acts in prop::collection::vec((0usize..60, 1usize..50, 0usize..3), 1..40),
        start: u32, history in 0u32..40,
    ) {
        let stream: Vec<u8> = (0..4000).map(|i| (i * 7 + i / 256) as u8).collect();
        let mut rig = Rig::new(start, Judge::Passed, history);
        let mut scratch = Vec::with_capacity(history as usize + 2 * LARGE);
        let mut shown = Vec::new();
        let (mut at, mut last_gap) = (0, 0);
        for (skip, length, act) in acts {
            // One in three leaves a gap before it.
            let from = at + if act == 0 { skip } else { 0 };
            if from != at { last_gap = from; }
            at = from + length;
            rig.insert(from, &stream[from..at]);
            rig.tell(at, Watch::Yes);
            if act == 1 { continue; }
            while let Some(window) = rig.bytes.window(&rig.store, history, &mut scratch) {
                let offset = window.offset as usize;
                prop_assert_eq!(window.bytes, &stream[offset..offset + window.bytes.len()]);
                prop_assert!(window.history <= history as usize);
                let fresh = offset + window.history;
                prop_assert!(window.bytes.len() > window.history);
                shown.extend(fresh..offset + window.bytes.len());
                if offset + window.bytes.len() == at {
                    let wanted = (fresh - last_gap.min(fresh)).min(history as usize);
                    prop_assert!(window.history >= wanted, "{} of {}", window.history, wanted);
                }
            }
            rig.tell(at, Watch::Yes);
        }
        while let Some(window) = rig.bytes.window(&rig.store, history, &mut scratch) {
            let offset = window.offset as usize;
            shown.extend(offset + window.history..offset + window.bytes.len());
        }
        let told: Vec<usize> =
            rig.told.iter().enumerate().filter_map(|(i, byte)| byte.map(|_| i)).collect();
        prop_assert_eq!(shown, told);
    }
}

/// What each policy keeps of `old` at 10..20 when `new` comes at another place: `.` is neither, `o` and `n` are theirs.
#[test]
fn each_policy_tells_what_its_receiver_keeps() {
    use OverlapPolicy::*;
    let rows: [(usize, usize, [&str; 6]); 4] = [
        // bsd, linux, old-linux, solaris, first, last
        (
            5,
            15,
            [
                "nnnnnnnnnnooooo",
                "nnnnnnnnnnooooo",
                "nnnnnnnnnnooooo",
                "nnnnnoooooooooo",
                "nnnnnoooooooooo",
                "nnnnnnnnnnooooo",
            ],
        ),
        (
            10,
            20,
            ["oooooooooo", "oooooooooo", "nnnnnnnnnn", "nnnnnnnnnn", "oooooooooo", "nnnnnnnnnn"],
        ),
        (
            10,
            23,
            [
                "oooooooooonnn",
                "nnnnnnnnnnnnn",
                "nnnnnnnnnnnnn",
                "nnnnnnnnnnnnn",
                "oooooooooonnn",
                "nnnnnnnnnnnnn",
            ],
        ),
        (
            13,
            23,
            [
                "oooooooooonnn",
                "oooooooooonnn",
                "oooooooooonnn",
                "ooonnnnnnnnnn",
                "oooooooooonnn",
                "ooonnnnnnnnnn",
            ],
        ),
    ];
    for (from, to, wanted) in rows {
        for (policy, wanted) in [Bsd, Linux, OldLinux, Solaris, First, Last].into_iter().zip(wanted)
        {
            let mut rig = Rig::new(u32::MAX - 12, Judge::Receiver(policy), 0);
            rig.insert(10, &[b'o'; 10]);
            let done = rig.insert(from, &vec![b'n'; to - from]);
            assert!(done.overlaps && done.differs);
            rig.tell(to.max(20), Watch::No);
            let told: String = rig.end().into_iter().flatten().map(char::from).collect();
            assert_eq!(told, wanted, "{} {from}..{to}", policy.name());
        }
    }
}

#[test]
fn a_byte_that_is_left_out_takes_no_offset() {
    let mut rig = Rig::new(u32::MAX - 1, Judge::Passed, 100);
    rig.insert(0, b"ab");
    assert!(rig.bytes.leave_out(&mut rig.store, 0));
    rig.insert(3, b"cd");
    rig.tell(5, Watch::Yes);
    let mut scratch = Vec::with_capacity(5000);
    let window = rig.bytes.window(&rig.store, 100, &mut scratch).expect("fresh bytes");
    assert_eq!((window.offset, window.bytes), (0, &b"abcd"[..]));
    rig.insert(5, b"e");
    assert!(rig.bytes.leave_out(&mut rig.store, 4));
    rig.insert(7, b"f");
    rig.tell(8, Watch::Yes);
    // Of the three numbers before the fresh ones, one is of no byte.
    let window = rig.bytes.window(&rig.store, 3, &mut scratch).expect("fresh bytes");
    assert_eq!((window.offset, window.history, window.bytes), (2, 2, &b"cdef"[..]));
    assert_eq!(rig.end(), b"abcdef".map(Some));
}

#[test]
fn a_window_between_each_two_gaps_takes_no_quadratic_time() {
    let time = |length: u32| {
        let mut store = Store::new(256 << 20, Secret::random());
        let mut bytes = Bytes::starting(0);
        let start = std::time::Instant::now();
        for at in 0..length {
            bytes.insert(&mut store, 2 * at + 1, b"x", Judge::Passed);
        }
        let end = 2 * length;
        bytes.tell(&store, Reach { data: end, hole: end, tail: end }, Watch::Yes, |_| {});
        let mut scratch = Vec::with_capacity(5000);
        let mut windows = 0;
        while let Some(window) = bytes.window(&store, 100, &mut scratch) {
            assert_eq!((window.offset, window.bytes), (2 * windows + 1, &b"x"[..]));
            windows += 1;
            bytes.release(&mut store, Keep { least: 0, history: 100, unseen_max: u32::MAX });
        }
        assert_eq!(windows, u64::from(length));
        bytes.forget(&mut store);
        assert_eq!(store.in_use(), 0);
        start.elapsed()
    };
    let (short, long) = (time(1 << 14), time(1 << 18));
    println!("windows between 16,384 gaps: {short:?}; between 262,144: {long:?}");
    // Quadratic, it would be minutes.
    assert!(long.as_secs() < 60);
}

#[test]
fn single_bytes_in_reverse_order_take_no_quadratic_time() {
    let time = |length: u32| {
        let mut store = Store::new(256 << 20, Secret::random());
        let mut bytes = Bytes::starting(7);
        let start = std::time::Instant::now();
        for at in (0..length).rev() {
            let done =
                bytes.insert(&mut store, 7 + at, &[at as u8], Judge::Receiver(OverlapPolicy::Bsd));
            assert_eq!(done.stored, 1);
        }
        let mut told = 0u32;
        let end = 7 + length;
        bytes.tell(&store, Reach { data: end, hole: end, tail: end }, Watch::No, |part| {
            if let Told::Data { bytes, .. } = part {
                assert_eq!(bytes, [told as u8]);
                told += 1;
            }
        });
        assert_eq!(told, length);
        bytes.release(&mut store, Keep { least: 0, history: 0, unseen_max: 0 });
        assert_eq!(store.in_use(), 0);
        start.elapsed()
    };
    let (short, long) = (time(1 << 16), time(1 << 20));
    println!("65,536 single bytes in reverse order: {short:?}; 1,048,576: {long:?}");
    // Quadratic, it would be a quarter of an hour.
    assert!(long.as_secs() < 60);
}
