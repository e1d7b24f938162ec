//! What becomes of the rules that matched: their order, thresholds, `pass`, actions.

use super::flow::FlowState;
use super::rate::{self, Counted, Told};
use super::scene::Scene;
use super::tag;
use super::{Match, Matches, Origin};
use crate::ids::rules::{Action, RuleKind};

/// A rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub rule: u32,
    pub origin: Origin,
    pub transaction: Option<u64>,
}

/// Decides what is told and done.
pub(super) fn finish(
    scene: &Scene<'_>,
    mut state: Option<&mut FlowState>,
    hits: &mut Vec<Hit>,
    matches: &mut Matches,
) {
    // Of the same rule the latest transaction first, as Suricata has it.
    hits.sort_unstable_by_key(|hit| (hit.rule, std::cmp::Reverse(hit.transaction)));
    for hit in hits.drain(..) {
        let Some(rule) = scene.ruleset.rule(hit.rule) else { continue };
        let Counted { told, action: rated } =
            rate::count(scene, hit.rule, rule, state.as_deref_mut());
        if told != Told::Not {
            let of_flow = scene.flow.is_some() && is_of_flow(rule.kind, hit.origin);
            match rated.unwrap_or(rule.action) {
                Action::Pass => {
                    // Where drops go first, what they did stays done.
                    matches.passes_flow = of_flow && !matches.drops_flow;
                    if matches.passes_flow
                        && let Some(state) = state.as_deref_mut()
                    {
                        state.passes = true;
                    }
                    // What comes behind it in order is not told, and not done.
                    return;
                }
                action @ (Action::Drop | Action::Reject(_)) => {
                    matches.drops_flow |= of_flow;
                    if matches.action.is_none() {
                        matches.action = Some((hit.rule, action));
                        matches.is_rated = rated.is_some();
                    }
                }
                Action::Alert => {}
            }
        }
        if let Some(tag) = rule.tag.filter(|_| told != Told::Not) {
            tag::begin(tag, scene, state.as_deref_mut());
        }
        let [held_back, too_many] = &mut matches.untold;
        if told != Told::Yes || rule.noalert {
            *held_back += 1;
        } else if matches.told.len() < TOLD_MAX {
            let Hit { rule, origin, transaction } = hit;
            matches.told.push(Match { rule, origin, transaction, is_rated: rated.is_some() });
        } else {
            *too_many += 1;
        }
    }
    if matches.told.is_empty() {
        matches.is_tagged = tag::is_tagged(scene, state);
    }
}

/// Whether a rule's action is for the rest of the flow, too.
fn is_of_flow(kind: RuleKind, origin: Origin) -> bool {
    match kind {
        RuleKind::IpOnly
        | RuleKind::LikeIpOnly
        | RuleKind::Protocol
        | RuleKind::App
        | RuleKind::Transaction => true,
        RuleKind::PacketStream | RuleKind::Stream => origin == Origin::Stream,
        RuleKind::Packet | RuleKind::Event => false,
    }
}

/// Most alerts of a packet; Suricata's default.
pub(super) const TOLD_MAX: usize = 15;
