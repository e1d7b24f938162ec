//! A port of DPDK's as a NIC that takes rules: each is made flat, and the driver asked for its words.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;

use super::facts::{Facts, Limits, WithoutVlan};
use super::marks::largest_mark;
use super::rule::{Fate, L4Item, Nic, NicRule, PortItem, Refusal, RuleId, Spread};
use crate::chain::value::Prefix;
use crate::dpdk::{
    FlowFate, FlowPort, FlowRule, FlowRules, Groups, HashFields, OpenPort, RssTable,
};
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
    /// By the hash's lowest bits, the queues of rules that spread packets themselves: as the table has them.
    list: Arc<[u16]>,
    /// Those rules.
    spreading: BTreeMap<u64, FlowRule>,
    /// The largest mark of a driver of which nothing else is known.
    largest_mark: OnceLock<Option<u32>>,
}

impl PortRules {
    /// Of a port that runs.
    pub fn of(port: &OpenPort) -> Self {
        // Where rules may lie in a second group without taking what has a VLAN along.
        let two = |facts: &Facts| {
            facts.groups && facts.templates && facts.without_vlan == WithoutVlan::Untagged
        };
        let second = Facts::of_driver(&port.driver).is_some_and(two);
        let groups = if second { Groups::Second } else { Groups::First };
        Self {
            driver: port.driver.clone(),
            queues: port.queues,
            list: (0..port.queues).collect(),
            spreading: BTreeMap::new(),
            rules: FlowRules::of(port, groups),
            spread: RssTable::of(port),
            form: AtomicUsize::new(0),
            largest_mark: OnceLock::new(),
        }
    }

    /// Where packets go by a rule, in the ways in which drivers want it said: the best first.
    fn forms(&self, fate: &Fate) -> Vec<FlowFate> {
        let rss = |by| FlowFate::Rss { queues: self.list.clone(), by };
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

    /// In the form that the driver took last: `validate` has found it, as a rule.
    fn in_last_form(&self, rule: &NicRule) -> Result<FlowRule, Refusal> {
        let mut forms = self.forms(&rule.fate);
        let last = self.form.load(Ordering::Relaxed).min(forms.len() - 1);
        flat(rule, forms.swap_remove(last)).map_err(Refusal)
    }

    /// In whichever form the driver takes it after all; `why`: what it said to the last one.
    fn in_another_form(&mut self, rule: &NicRule, why: Refusal) -> Result<RuleId, Refusal> {
        if self.forms(&rule.fate).len() == 1 {
            return Err(why);
        }
        let flat = self.try_forms(rule, |flat| self.rules.validate(flat).map(|()| flat.clone()))?;
        let made = self.rules.install_all(std::slice::from_ref(&flat)).pop();
        let id = made.unwrap_or(Err(why.0)).map_err(Refusal)?;
        Ok(self.keep(id, flat))
    }

    /// Notes a rule that goes by a list of queues.
    fn keep(&mut self, id: u64, rule: FlowRule) -> RuleId {
        if matches!(rule.fate, FlowFate::Rss { .. }) {
            self.spreading.insert(id, rule);
        }
        RuleId(id)
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
            match call(&flat(rule, fate.clone()).map_err(Refusal)?) {
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

    fn limits(&self) -> Limits {
        Facts::of_driver(&self.driver).map_or_else(
            || {
                let mark_max = *self.largest_mark.get_or_init(|| largest_mark(self));
                Limits { mark_max, ..Limits::default() }
            },
            Facts::limits,
        )
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        self.try_forms(rule, |flat| self.rules.validate(flat))
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        let made = self.install_all(std::slice::from_ref(rule)).pop();
        made.unwrap_or_else(|| Err(Refusal("it was not asked".to_owned())))
    }

    fn install_all(&mut self, rules: &[NicRule]) -> Vec<Result<RuleId, Refusal>> {
        let forms: Vec<Result<FlowRule, Refusal>> =
            rules.iter().map(|rule| self.in_last_form(rule)).collect();
        let flat: Vec<FlowRule> = forms.iter().flatten().cloned().collect();
        let mut made = self.rules.install_all(&flat).into_iter().zip(flat);
        let mut all = Vec::new();
        for (rule, form) in rules.iter().zip(forms) {
            let done = form.and_then(|_| match made.next() {
                Some((Ok(id), flat)) => Ok(self.keep(id, flat)),
                Some((Err(why), _)) => self.in_another_form(rule, Refusal(why)),
                None => Err(Refusal("it was not asked".to_owned())),
            });
            all.push(done);
        }
        all
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        self.remove_all(&[id]).pop().unwrap_or(Ok(()))
    }

    fn remove_all(&mut self, ids: &[RuleId]) -> Vec<Result<(), Refusal>> {
        let ids: Vec<u64> = ids.iter().map(|RuleId(id)| *id).collect();
        ids.iter().for_each(|id| drop(self.spreading.remove(id)));
        self.rules.remove_all(&ids).into_iter().map(|done| done.map_err(Refusal)).collect()
    }

    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        // The form that was taken: it is not validated again beside itself.
        let flat = self.in_last_form(rule)?;
        self.rules.change(id.0, &flat).map_err(Refusal)?;
        self.spreading.remove(&id.0);
        self.keep(id.0, flat);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.spreading.clear();
        self.rules.flush().map_err(Refusal)
    }

    fn forget(&mut self) {
        self.spreading.clear();
        self.rules.forget();
    }

    fn hits(&self, id: RuleId) -> Option<u64> {
        self.rules.hits(id.0)
    }

    fn spread(&self) -> Spread {
        Spread { key: self.spread.key(), table: self.spread.table() }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        self.spread.set(table).map_err(Refusal)?;
        self.list = shortest(table).into();
        // Rules that spread packets themselves go by a list of their own.
        for (id, rule) in &mut self.spreading {
            let FlowFate::Rss { by, .. } = rule.fate else { continue };
            let fate = FlowFate::Rss { queues: self.list.clone(), by };
            let then = FlowRule { fate, ..rule.clone() };
            if then == *rule {
                continue;
            }
            match self.rules.change(*id, &then) {
                Ok(()) => *rule = then,
                // The others are of the same driver.
                Err(why) => {
                    tracing::info!(
                        "rules of {} go on spreading packets as before ({why}): what they tag of moved shards is handed over",
                        self.driver
                    );
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The list that, some times over, is the table: by the lowest bits of a hash they say the same.
fn shortest(table: &[u16]) -> &[u16] {
    let is_period = |length: &usize| {
        let list = table.get(..*length).unwrap_or_default();
        table.len().is_multiple_of(*length) && table.chunks(*length).all(|part| part == list)
    };
    let length = (1..=table.len()).find(is_period).unwrap_or(table.len());
    table.get(..length).unwrap_or(table)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_list_of_queues_is_as_short_as_the_table_allows() {
        let turns = |queues| (0..128u16).map(|entry| entry % queues).collect::<Vec<u16>>();
        assert_eq!(shortest(&turns(4)), [0, 1, 2, 3]);
        assert_eq!(shortest(&turns(3)), turns(3), "a hash has other remainders by 3 than by 128");
        assert_eq!(shortest(&[1; 64]), [1]);
        let moved: Vec<u16> = (0..128).map(|entry| u16::from(entry % 128 == 77)).collect();
        assert_eq!(shortest(&moved).len(), 128);
        let large: Vec<u16> = moved.iter().chain(&moved).copied().collect();
        assert_eq!(shortest(&large), moved, "each shard has two entries");
        assert!(shortest(&[]).is_empty());
    }
}
