//! What one call evaluates rules on, besides buffers, and whether a rule may match on it at all.

use super::event::is_event;
use super::flow::FlowState;
use super::memory::Memory;
use super::packet::{self, Around, is_of_wire};
use super::ruleset::{Ready, Ruleset};
use super::{FlowFacts, Packet};
use crate::ids::app::event::Event as AppEvent;
use crate::ids::app::{Fields, Protocol};
use crate::ids::rules::{App, AppName, AppTest, FlowState as Wanted, Only, Rule, RuleKind, Side};

/// A packet and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub ruleset: &'a Ruleset,
    pub memory: &'a Memory,
    pub packet: &'a Packet<'a>,
    pub flow: Option<FlowFacts>,
    /// The flow's side; of packets without a flow, to the server.
    pub side: Side,
    /// What the flow speaks, if that is known.
    pub application: Option<Protocol>,
    /// What it spoke before: on the packet on which an upgrade was found.
    pub former: Option<Protocol>,
    pub around: Around<'a>,
}

impl Scene<'_> {
    /// Whether all holds that a rule asks besides bytes and transactions.
    #[inline]
    pub fn admits(&self, rule: &Rule, ready: &Ready, state: Option<&FlowState>) -> bool {
        // What is left of a flow has no packet of its own.
        if rule.kind == RuleKind::Packet && !is_of_wire(self.packet) {
            return false;
        }
        if let Some(app) = rule.protocol {
            let is = |spoken: Option<Protocol>| spoken.and_then(application_of) == Some(app);
            // One packet may bring both the first word and the upgrade. Bytes are of the new application.
            let was = rule.inspects.is_empty() && is(self.former);
            if !is(self.application) && !was {
                return false;
            }
        }
        ready.header.matches(self.packet)
            && self.flow_is_so(rule)
            && rule.packet.iter().all(|test| packet::holds(test, self.packet, self.around))
            && rule.app.iter().all(|test| self.application_is(test))
            && ready.asked.iter().all(|asked| asked.holds(self.packet, state, self.memory))
    }

    fn flow_is_so(&self, rule: &Rule) -> bool {
        let wanted = &rule.flow;
        let fragment = match wanted.fragment {
            None => true,
            Some(Only::Only) => self.packet.was_fragmented,
            Some(Only::No) => !self.packet.was_fragmented,
        };
        let Some(flow) = self.flow else {
            return fragment && wanted.side.is_none() && wanted.state.is_none();
        };
        let state = match wanted.state {
            None | Some(Wanted::Stateless) => true,
            Some(Wanted::Established) => flow.is_established,
            Some(Wanted::NotEstablished) => !flow.is_established,
        };
        fragment && state && wanted.side.is_none_or(|side| side == flow.side)
    }

    /// Whether the flow's application is so; what is asked of transactions is asked there.
    fn application_is(&self, test: &AppTest) -> bool {
        let is = |name: AppName, spoken: Protocol| match name {
            AppName::App(app) => application_of(spoken) == Some(app),
            AppName::Failed => spoken == Protocol::Failed,
        };
        match test {
            AppTest::Is(name) => self.application.is_some_and(|spoken| is(*name, spoken)),
            AppTest::IsNot(name) => self.application.is_some_and(|spoken| !is(*name, spoken)),
            AppTest::DnsOpcode(_) | AppTest::TlsVersion(_) | AppTest::Event(_) => true,
        }
    }

    /// Whether what is asked of a transaction besides bytes holds; `None`: it may yet.
    pub fn transaction_is(
        &self,
        test: &AppTest,
        fields: &Fields,
        events: &[AppEvent],
    ) -> Option<bool> {
        match (test, fields) {
            (AppTest::DnsOpcode(compare), Fields::Dns(message)) => {
                Some(compare.matches(&message.opcode()))
            }
            (AppTest::TlsVersion(version), Fields::Tls(session)) => {
                session.version().map(|found| found == *version)
            }
            (AppTest::Event(event), _) => self.has_event(*event, events).then_some(true),
            (AppTest::Is(_) | AppTest::IsNot(_), _) => Some(true),
            (AppTest::DnsOpcode(_) | AppTest::TlsVersion(_), _) => Some(false),
        }
    }

    /// Whether one of these events is the one of this number.
    pub fn has_event(&self, event: u16, events: &[AppEvent]) -> bool {
        let (app, name) = self.ruleset.events.name(event);
        events.iter().any(|found| is_event(*found, app, name))
    }
}

/// The application that rules can name. `http` is HTTP of any version, as Suricata has it.
pub(super) fn application_of(protocol: Protocol) -> Option<App> {
    match protocol {
        Protocol::Http | Protocol::Http2 => Some(App::Http),
        Protocol::Dns => Some(App::Dns),
        Protocol::Tls => Some(App::Tls),
        Protocol::Ssh => Some(App::Ssh),
        _ => None,
    }
}
