//! How many matches become alerts: `threshold` and `detection_filter`.
//!
//! A time begins with the first match, and the first match behind its end begins the next; its last nanosecond is part of it.
//! Source: Suricata 8, user guide "Thresholding Keywords".

use std::net::IpAddr;

use nfv_core::clock::Time;

use super::Packet;
use super::flow::FlowState;
use super::memory::{Age, Entry, Key, Memory};
use super::state::nanoseconds;
use crate::ids::rules::{DetectionFilter, Rule, Threshold, ThresholdKind, Track, UniqueOn};

/// What becomes of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is told.
    Told,
    /// It is not told, and its action is done.
    Silent,
    /// It is none yet.
    No,
}

/// Counts a match of a rule.
pub(super) fn count(
    number: u32,
    rule: &Rule,
    packet: &Packet<'_>,
    mut flow: Option<&mut FlowState>,
    memory: &Memory,
) -> Counted {
    if let Some(filter) = &rule.detection_filter {
        let ends = ends(filter.track, packet);
        let id = [rule.gid, rule.sid, rule.rev];
        if let Some(unique) = filter.unique_on
            && !is_new_port(filter, unique, id, ends, packet, memory)
        {
            // A port that was counted counts no more, and alerts if enough others were.
            let enough = memory.find(Key::Count(id, ends[0], ends[1]), |entry| {
                is_within(entry, filter.seconds, packet.time) && entry.count > filter.count
            });
            return if enough == Some(true) { Counted::Told } else { Counted::No };
        }
        let filtered =
            tracked(number, id, filter.track, packet, flow.as_deref_mut(), memory, |entry, age| {
                of_filter(filter, entry, age, packet.time)
            });
        if filtered != Counted::Told {
            return filtered;
        }
    }
    let Some(threshold) = &rule.threshold else { return Counted::Told };
    let id = [rule.gid, rule.sid, rule.rev];
    tracked(number, id, threshold.track, packet, flow, memory, |entry, age| {
        of_threshold(threshold, entry, age, packet.time)
    })
}

fn tracked(
    number: u32,
    id: [u32; 3],
    track: Track,
    packet: &Packet<'_>,
    flow: Option<&mut FlowState>,
    memory: &Memory,
    counted: impl FnOnce(&mut Entry, Age) -> Counted,
) -> Counted {
    if track != Track::Flow {
        let [one, other] = ends(track, packet);
        return memory.with(Key::Count(id, one, other), packet.time, counted);
    }
    let Some(flow) = flow else { return Counted::No };
    if let Some((_, entry)) = flow.counts.iter_mut().find(|(rule, _)| *rule == number) {
        return counted(entry, Age::Known);
    }
    let mut entry = Entry { since: packet.time, ..Entry::default() };
    let answer = counted(&mut entry, Age::New);
    if flow.counts.len() < COUNTS_MAX {
        flow.counts.push((number, entry));
    }
    answer
}

/// Whose matches are counted together.
fn ends(track: Track, packet: &Packet<'_>) -> [Option<IpAddr>; 2] {
    let (src, dst) = (packet.src, packet.dst);
    match track {
        Track::Src => [Some(src), None],
        Track::Dst => [None, Some(dst)],
        Track::Both => [Some(src.min(dst)), Some(src.max(dst))],
        Track::Rule | Track::Flow => [None, None],
    }
}

fn of_threshold(threshold: &Threshold, entry: &mut Entry, age: Age, now: Time) -> Counted {
    let Threshold { kind, count, seconds, .. } = *threshold;
    if let ThresholdKind::Backoff { multiplier } = kind {
        return back_off(count, multiplier, entry, age);
    }
    if age == Age::Known && is_within(entry, seconds, now) {
        entry.count = entry.count.saturating_add(1);
    } else {
        begin(entry, seconds, now);
    }
    match kind {
        ThresholdKind::Limit if entry.count <= count => Counted::Told,
        ThresholdKind::Limit => Counted::Silent,
        ThresholdKind::Threshold if entry.count >= count => {
            entry.count = 0;
            Counted::Told
        }
        ThresholdKind::Both if entry.count == count => Counted::Told,
        ThresholdKind::Both if entry.count > count => Counted::Silent,
        _ => Counted::No,
    }
}

fn back_off(count: u32, multiplier: u32, entry: &mut Entry, age: Age) -> Counted {
    if age == Age::New {
        entry.next = count;
        entry.until = Time(u64::MAX);
    }
    entry.count = entry.count.saturating_add(1);
    if entry.count == entry.next {
        entry.next = entry.next.saturating_mul(multiplier);
        return Counted::Told;
    }
    Counted::Silent
}

fn of_filter(filter: &DetectionFilter, entry: &mut Entry, age: Age, now: Time) -> Counted {
    if age == Age::Known && is_within(entry, filter.seconds, now) {
        entry.count = entry.count.saturating_add(1);
        if entry.count > filter.count {
            return Counted::Told;
        }
    } else {
        begin(entry, filter.seconds, now);
    }
    Counted::No
}

fn begin(entry: &mut Entry, seconds: u32, now: Time) {
    entry.since = now;
    entry.until = Time(now.0.saturating_add(nanoseconds(seconds)));
    entry.count = 1;
}

fn is_within(entry: &Entry, seconds: u32, now: Time) -> bool {
    now.0 <= entry.since.0.saturating_add(nanoseconds(seconds))
}

/// Whether a match has another port than those that were counted in this time.
fn is_new_port(
    filter: &DetectionFilter,
    unique: UniqueOn,
    id: [u32; 3],
    [one, other]: [Option<IpAddr>; 2],
    packet: &Packet<'_>,
    memory: &Memory,
) -> bool {
    let port = match unique {
        UniqueOn::SrcPort => packet.sport,
        UniqueOn::DstPort => packet.dport,
    };
    let since = memory.find(Key::Count(id, one, other), |entry| {
        is_within(entry, filter.seconds, packet.time).then_some(entry.since)
    });
    let since = since.flatten().unwrap_or(packet.time);
    let until = Time(since.0.saturating_add(nanoseconds(filter.seconds)));
    memory.with(Key::Port(id, one, other, port, since.0), packet.time, |entry, age| {
        entry.until = until;
        age == Age::New
    })
}

/// Most rules that are counted in a flow.
const COUNTS_MAX: usize = 64;
