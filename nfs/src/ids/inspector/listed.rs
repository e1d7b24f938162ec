//! Blocklists: a flow's ends at its first packet, and the names that it asks for.

use std::sync::Arc;

use super::counters::Counter;
use super::decode::Upper;
use super::flow;
use super::look::Look;
use super::tell::{Ends, Way, apps_of, summary_of};
use super::worker::{Level, PASS, address};
use super::{Answer, Inspector, Recorder, Verdict};
use crate::ids::app::{Fields, Stage, Transaction};
use crate::ids::buffer::{Buffer, Side};
use crate::ids::eve::{Alert, AlertAction, Application, Body, DropReason, Place};
use crate::ids::rules::{Action, Rule};

impl Inspector {
    /// What becomes of the first packet of a flow whose ends, or whose port, are on a list; of one that is known, when the
    /// lists have changed. `None`: they are on none.
    #[inline]
    pub(super) fn listed(
        &mut self,
        look: &Look,
        level: &Level<'_>,
        recorder: &mut impl Recorder,
    ) -> Option<Verdict> {
        if self.lists.is_empty() {
            return None;
        }
        let flow = self.flows.get_mut(look.flow)?;
        let [to_server, to_client] = flow.counts.packets;
        let is_known = flow.has(flow::LOOKED_UP) == self.lists_turn;
        if is_known && to_server + to_client != 1 {
            return None;
        }
        if self.lists_turn {
            flow.mark(flow::LOOKED_UP)
        } else {
            flow.unmark(flow::LOOKED_UP)
        };
        let ip = level.decoded.ip.as_ref()?;
        let ends = [address(ip.kind, ip.src), address(ip.kind, ip.dst)];
        let port = match &level.decoded.upper {
            Upper::Tcp { .. } | Upper::Udp { .. } | Upper::Sctp { .. } => {
                Some(flow.key.ends.port(flow.client().other()))
            }
            _ => None,
        };
        let rule = self.lists.flow(ends, port).map(Arc::clone)?;
        Some(self.blocked(look, level, &rule, None, PASS, recorder))
    }

    /// The list that has a name which a flow asks for and that was not looked up yet, and the transaction that has it.
    #[inline]
    pub(super) fn listed_name(&self, look: &Look) -> Option<(Arc<Rule>, u64)> {
        if self.lists.is_empty() || !self.news.has_news {
            return None;
        }
        let app = self.flows.get(look.flow)?.app.as_deref()?;
        let new = app.transactions().iter().filter(|tx| {
            // Rules have not seen it either, which are evaluated behind this.
            let stage = tx.stage(look.side);
            let needed = needed(tx);
            stage >= needed && tx.inspected(look.side) < needed
        });
        new.filter_map(|tx| Some((self.name_of(tx, look.side)?, tx.id()))).next()
    }

    fn name_of(&self, tx: &Transaction, side: Side) -> Option<Arc<Rule>> {
        let buffer = match tx.fields() {
            Fields::Dns(_) => Buffer::DnsQuery,
            Fields::Tls(_) => Buffer::TlsSni,
            Fields::Http(_) => Buffer::HttpHost,
            Fields::Ssh(_) => return None,
        };
        let names = (0..NAMES_MAX).map_while(|index| tx.buffer_at(buffer, side, index));
        names.filter_map(|name| self.lists.domain(without_port(buffer, name))).next().cloned()
    }

    /// Tells what is on a list, and says what becomes of the packet, of which `verdict` was said before.
    #[cold]
    pub(super) fn blocked(
        &mut self,
        look: &Look,
        level: &Level<'_>,
        rule: &Arc<Rule>,
        transaction: Option<u64>,
        verdict: Verdict,
        recorder: &mut impl Recorder,
    ) -> Verdict {
        let drops = rule.action == Action::Drop && !self.is_passive();
        self.counters.add(Counter::Alerts, 1);
        if self.settings.records.alert.is_some() {
            let action = if drops { AlertAction::Blocked } else { AlertAction::Allowed };
            let mut alert = Alert::of(rule, action);
            alert.side = Some(look.side);
            if let Some(flow) = self.flows.get(look.flow) {
                alert.apps = apps_of(flow);
                alert.flow = Some(summary_of(flow));
                let found = transaction.and_then(|id| flow.app.as_ref()?.transactions().get(id));
                alert.application =
                    found.and_then(|tx| Application::of(tx, Place::Alert, &self.settings.records));
            }
            let mut head = self.head(Some(look.flow), &Ends::Packet(level), Way::Packet);
            head.transaction = transaction;
            self.tell(head, Body::Alert(Box::new(alert)), recorder);
        }
        if let Some(flow) = self.flows.get_mut(look.flow) {
            flow.mark(flow::ALERTED);
            if drops {
                flow.mark(flow::DROPPED);
            }
        }
        if !drops || verdict.answer.is_drop() {
            return verdict;
        }
        self.tell_drop_of(Some(look), level, DropReason::Blocklist, Some(rule.clone()), recorder);
        Verdict { answer: Answer::Drop, rewrite: None }
    }
}

/// How far a transaction is when its name is known.
fn needed(tx: &Transaction) -> Stage {
    match tx.fields() {
        Fields::Http(_) => Stage::Headers,
        Fields::Tls(_) | Fields::Ssh(_) => Stage::Line,
        Fields::Dns(_) => Stage::Complete,
    }
}

/// A host of HTTP may have its port behind it.
fn without_port(buffer: Buffer, name: &[u8]) -> &[u8] {
    match memchr::memchr(b':', name) {
        Some(colon) if buffer == Buffer::HttpHost => name.get(..colon).unwrap_or(name),
        _ => name,
    }
}

/// Questions of a DNS message that are looked up.
const NAMES_MAX: usize = 16;
