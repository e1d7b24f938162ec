//! A port of DPDK's as a NIC that takes rules: each is made flat, and the driver asked for its words.

use std::sync::atomic::{AtomicUsize, Ordering};

use ipnet::IpNet;

use super::rule::{Fate, L4Item, Nic, NicRule, PortItem, Refusal, RuleId, Spread};
use crate::chain::value::Prefix;
use crate::dpdk::{FlowFate, FlowPort, FlowRule, FlowRules, HashFields, OpenPort, RssTable};
use crate::packet::protocol;

/// The rules and the spread of a port.
#[derive(Debug)]
pub struct PortRules {
    driver: String,
    queues: u16,
    rules: FlowRules,
    spread: RssTable,
    /// Which way of saying [`Fate::Rss`] the driver took last: it is asked first.
    form: AtomicUsize,
}

impl PortRules {
    /// Of a port that runs.
    pub fn of(port: &OpenPort) -> Self {
        Self {
            driver: port.driver.clone(),
            queues: port.queues,
            rules: FlowRules::of(port),
            spread: RssTable::of(port),
            form: AtomicUsize::new(0),
        }
    }

    /// Where packets go by a rule, in the ways in which drivers want it said: the best first.
    fn forms(&self, fate: &Fate) -> Vec<FlowFate> {
        let rss = |by| FlowFate::Rss { queues: self.queues, by };
        match fate {
            Fate::Drop => vec![FlowFate::Drop],
            Fate::Queue(queue) => vec![FlowFate::Queue(*queue)],
            Fate::Rss => {
                let all = [rss(HashFields::OfPattern), rss(HashFields::OfDriver)];
                // One queue needs no hash.
                let first = (self.queues == 1).then_some(FlowFate::Queue(0));
                first.into_iter().chain(all).chain([FlowFate::PassThrough]).collect()
            }
        }
    }

    /// Tries the forms of a rule; the words are those about the best one.
    fn try_forms<T>(
        &self,
        rule: &NicRule,
        mut call: impl FnMut(&FlowRule) -> Result<T, String>,
    ) -> Result<T, Refusal> {
        let forms = self.forms(&rule.fate);
        let last = self.form.load(Ordering::Relaxed).min(forms.len() - 1);
        let order = std::iter::once(last).chain((0..forms.len()).filter(|at| *at != last));
        let mut words: Vec<(usize, String)> = Vec::new();
        for at in order {
            let Some(fate) = forms.get(at) else { continue };
            match call(&flat(rule, *fate).map_err(Refusal)?) {
                Ok(done) => {
                    if forms.len() > 1 {
                        self.form.store(at, Ordering::Relaxed);
                    }
                    return Ok(done);
                }
                Err(why) => words.push((at, why)),
            }
        }
        words.sort();
        Err(Refusal(words.into_iter().next().map(|(_, why)| why).unwrap_or_default()))
    }
}

impl Nic for PortRules {
    fn driver(&self) -> &str {
        &self.driver
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        self.try_forms(rule, |flat| self.rules.validate(flat))
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        // Which form it is has been found by `validate`, or is found here.
        let taken = self.try_forms(rule, |flat| self.rules.validate(flat).map(|()| *flat))?;
        self.rules.install(&taken).map(RuleId).map_err(Refusal)
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        self.rules.remove(id.0).map_err(Refusal)
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.rules.flush().map_err(Refusal)
    }

    fn forget(&mut self) {
        self.rules.forget();
    }

    fn hits(&self, id: RuleId) -> Option<u64> {
        self.rules.hits(id.0)
    }

    fn spread(&self) -> Spread {
        Spread { key: self.spread.key(), table: self.spread.table() }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        self.spread.set(table).map_err(Refusal)
    }
}

/// The rule as the driver's call takes it. `Err`: its addresses are of the other family.
fn flat(rule: &NicRule, fate: FlowFate) -> Result<FlowRule, String> {
    let pattern = &rule.pattern;
    let any = FlowPort { first: 0, last: 0, mask: 0 };
    let (icmp, icmp6) = (protocol::ICMP, protocol::ICMP6);
    let (protocol, (sport, dport), flags, icmp_type) = match pattern.l4 {
        L4Item::Tcp { sport, dport, flags } => {
            (protocol::TCP, (port(sport), port(dport)), flags, None)
        }
        L4Item::Udp { sport, dport } => (protocol::UDP, (port(sport), port(dport)), (0, 0), None),
        L4Item::Sctp { sport, dport } => (protocol::SCTP, (port(sport), port(dport)), (0, 0), None),
        L4Item::Icmp { kind } => {
            let protocol = if pattern.is_ipv6 { icmp6 } else { icmp };
            (protocol, (any, any), (0, 0), kind)
        }
    };
    Ok(FlowRule {
        priority: rule.priority,
        is_ipv6: pattern.is_ipv6,
        src: address(pattern.src, pattern.is_ipv6)?,
        dst: address(pattern.dst, pattern.is_ipv6)?,
        vlan: pattern.vlan,
        protocol,
        sport,
        dport,
        flags,
        icmp_type,
        mark: rule.mark,
        counts: rule.count,
        fate,
    })
}

fn port(item: PortItem) -> FlowPort {
    match item {
        PortItem::Any => FlowPort { first: 0, last: 0, mask: 0 },
        PortItem::Masked { value, mask } => FlowPort { first: value, last: value, mask },
        PortItem::Range(first, last) => FlowPort { first, last, mask: u16::MAX },
    }
}

fn address(prefix: Option<Prefix>, is_ipv6: bool) -> Result<([u8; 16], u8), String> {
    let mut bytes = [0; 16];
    match prefix.map(Prefix::net) {
        None => Ok((bytes, 0)),
        Some(IpNet::V4(net)) if !is_ipv6 => {
            bytes[..4].copy_from_slice(&net.addr().octets());
            Ok((bytes, net.prefix_len()))
        }
        Some(IpNet::V6(net)) if is_ipv6 => Ok((net.addr().octets(), net.prefix_len())),
        Some(net) => Err(format!("{net} is of the other family")),
    }
}
