//! What is logged behind an alert: the packets of the flow, or of a host, for a while.

use std::net::IpAddr;

use nfv_core::clock::Time;

use super::flow::{FlowState, Tagged};
use super::memory::Key;
use super::packet::is_of_wire;
use super::scene::Scene;
use super::state::nanoseconds;
use crate::ids::rules::{Tag, TagScope, TagUnit};

/// A rule with a tag matched.
pub(super) fn begin(tag: Tag, scene: &Scene<'_>, state: Option<&mut FlowState>) {
    let now = scene.packet.time;
    let host = match tag.scope {
        TagScope::Session => {
            if let Some(state) = state {
                state.tag = Some(Tagged { left: tag.count.into(), unit: tag.unit, since: now });
            }
            return;
        }
        TagScope::Src => scene.packet.src,
        TagScope::Dst => scene.packet.dst,
    };
    let lasts = match tag.unit {
        TagUnit::Seconds => tag.count,
        TagUnit::Packets | TagUnit::Bytes => SECONDS_MAX,
    };
    scene.memory.with(Key::Tag(host), now, |entry, _| {
        entry.until = Time(now.0.saturating_add(nanoseconds(lasts)));
        entry.count = tag.count;
        entry.next = code(tag.unit);
    });
}

/// Whether a tag is on the packet; it counts for it.
pub(super) fn is_tagged(scene: &Scene<'_>, state: Option<&mut FlowState>) -> bool {
    if !is_of_wire(scene.packet) {
        return false;
    }
    let of_flow = state.is_some_and(|state| of_flow(scene, state));
    let of_hosts = scene.ruleset.tags_hosts
        && [scene.packet.src, scene.packet.dst].map(|host| of_host(scene, host)).contains(&true);
    of_flow || of_hosts
}

fn of_flow(scene: &Scene<'_>, state: &mut FlowState) -> bool {
    let Some(Tagged { left, unit, since }) = state.tag.as_mut() else { return false };
    let is_on = match unit {
        TagUnit::Seconds => {
            let until = since.0.saturating_add((*left).saturating_mul(nanoseconds(1)));
            scene.packet.time.0 <= until
        }
        unit => spend(left, size(*unit, scene)),
    };
    if !is_on {
        state.tag = None;
    }
    is_on
}

fn of_host(scene: &Scene<'_>, host: IpAddr) -> bool {
    let found = scene.memory.find(Key::Tag(host), |entry| {
        let is_within = scene.packet.time <= entry.until;
        let unit = [TagUnit::Packets, TagUnit::Bytes].into_iter().find(|u| code(*u) == entry.next);
        let Some(unit) = unit else { return is_within };
        let mut left = entry.count.into();
        let is_on = is_within && spend(&mut left, size(unit, scene));
        entry.count = u32::try_from(left).unwrap_or(0);
        is_on
    });
    found.unwrap_or(false)
}

/// Takes what a packet counts for; whether there was something left.
fn spend(left: &mut u64, size: u64) -> bool {
    let is_on = *left > 0;
    *left = left.saturating_sub(size);
    is_on
}

fn size(unit: TagUnit, scene: &Scene<'_>) -> u64 {
    match unit {
        TagUnit::Bytes => scene.packet.network.len() as u64,
        TagUnit::Packets | TagUnit::Seconds => 1,
    }
}

fn code(unit: TagUnit) -> u32 {
    match unit {
        TagUnit::Seconds => 0,
        TagUnit::Packets => 1,
        TagUnit::Bytes => 2,
    }
}

/// How long a host is tagged at most that is silent.
const SECONDS_MAX: u32 = 3_600;
