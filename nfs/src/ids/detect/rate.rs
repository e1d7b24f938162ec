//! How many matches become alerts, and what too many do: `threshold`, `detection_filter`, and what a `threshold.config` adds.
//!
//! A time begins with the first match, and the first match behind its end begins the next; its last nanosecond is part of it.
//! The seconds of a rate filter's timeout are those of the clock, as Suricata has it.
//! Source: Suricata 8, user guide "Thresholding Keywords" and "Global-Thresholds".

use std::net::IpAddr;

use nfv_core::clock::Time;

use super::Packet;
use super::flow::FlowState;
use super::memory::{Age, Entry, Key, Memory};
use super::scene::Scene;
use super::state::nanoseconds;
use crate::ids::rules::{
    Action, DetectionFilter, RateFilter, Rule, Threshold, ThresholdKind, Track, UniqueOn,
};

/// What becomes of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Whether it is told.
    pub told: Told,
    /// What is done instead of what the rule says.
    pub action: Option<Action>,
}

/// Whether a match is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is.
    Yes,
    /// It is not, and its action is done.
    Silent,
    /// It is none yet.
    Not,
}

/// Counts a match of a rule. What is suppressed is not counted, nor is what has no addresses.
pub(super) fn count(
    scene: &Scene<'_>,
    number: u32,
    rule: &Rule,
    flow: Option<&mut FlowState>,
) -> Counted {
    let Scene { packet, memory, .. } = *scene;
    let as_it_is = |told| Counted { told, action: None };
    if packet.protocol == 0 && packet.network.is_empty() {
        return as_it_is(Told::Yes);
    }
    let is_suppressed = scene.ruleset.is_suppressed(rule, packet.src, packet.dst);
    if is_suppressed {
        return as_it_is(Told::Silent);
    }
    let Some(filter) = &rule.rate_filter else {
        return as_it_is(limited(number, rule, packet, flow, memory));
    };
    let id = [rule.gid, rule.sid, rule.rev];
    let mut is_on = false;
    tracked(number, id, filter.track, packet, flow, memory, |entry, age| {
        is_on = of_rate(filter, entry, age, packet.time);
        Told::Yes
    });
    Counted { told: Told::Yes, action: filter.action.filter(|_| is_on) }
}

/// Whether a match is told for all that the rule's filter or threshold says.
fn limited(
    number: u32,
    rule: &Rule,
    packet: &Packet<'_>,
    mut flow: Option<&mut FlowState>,
    memory: &Memory,
) -> Told {
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
            return if enough == Some(true) { Told::Yes } else { Told::Not };
        }
        let filtered =
            tracked(number, id, filter.track, packet, flow.as_deref_mut(), memory, |entry, age| {
                of_filter(filter, entry, age, packet.time)
            });
        if filtered != Told::Yes {
            return filtered;
        }
    }
    let Some(threshold) = &rule.threshold else { return Told::Yes };
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
    counted: impl FnOnce(&mut Entry, Age) -> Told,
) -> Told {
    if track != Track::Flow {
        let [one, other] = ends(track, packet);
        return memory.with(Key::Count(id, one, other), packet.time, counted);
    }
    let Some(flow) = flow else { return Told::Not };
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

fn of_threshold(threshold: &Threshold, entry: &mut Entry, age: Age, now: Time) -> Told {
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
        ThresholdKind::Limit if entry.count <= count => Told::Yes,
        ThresholdKind::Limit => Told::Silent,
        ThresholdKind::Threshold if entry.count >= count => {
            entry.count = 0;
            Told::Yes
        }
        ThresholdKind::Both if entry.count == count => Told::Yes,
        ThresholdKind::Both if entry.count > count => Told::Silent,
        _ => Told::Not,
    }
}

fn back_off(count: u32, multiplier: u32, entry: &mut Entry, age: Age) -> Told {
    if age == Age::New {
        entry.next = count;
        entry.until = Time(u64::MAX);
    }
    entry.count = entry.count.saturating_add(1);
    if entry.count == entry.next {
        entry.next = entry.next.saturating_mul(multiplier);
        return Told::Yes;
    }
    Told::Silent
}

fn of_filter(filter: &DetectionFilter, entry: &mut Entry, age: Age, now: Time) -> Told {
    if age == Age::Known && is_within(entry, filter.seconds, now) {
        entry.count = entry.count.saturating_add(1);
        if entry.count > filter.count {
            return Told::Yes;
        }
    } else {
        begin(entry, filter.seconds, now);
    }
    Told::Not
}

/// Whether the new action of a rate filter is on: from the match on that is one too many, until its time is up. The match that
/// comes first behind that is not counted.
fn of_rate(filter: &RateFilter, entry: &mut Entry, age: Age, now: Time) -> bool {
    let second = u32::try_from(now.0 / SECOND).unwrap_or(u32::MAX).max(1);
    if entry.next != 0 {
        let is_on = second.saturating_sub(entry.next) <= filter.timeout;
        if !is_on {
            entry.next = 0;
        }
        return is_on;
    }
    if age == Age::New || !is_within(entry, filter.seconds, now) {
        begin(entry, filter.seconds, now);
        return false;
    }
    entry.count = entry.count.saturating_add(1);
    let is_on = entry.count > filter.count;
    if is_on {
        entry.next = second;
        let end = now.0.saturating_add(nanoseconds(filter.timeout)).saturating_add(SECOND);
        entry.until = entry.until.max(Time(end));
    }
    is_on
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
const SECOND: u64 = 1_000_000_000;
