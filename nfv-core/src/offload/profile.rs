//! A NIC that is not there: its driver's facts, and rules that are counted and compared against them.
//!
//! `nfv plan --nic` plans on it. The emulated NIC takes rules by it, and does what they say.

use std::collections::BTreeMap;

use super::facts::{Facts, Fields, Limits};
use super::rule::{Fate, L4Item, Nic, NicRule, Pattern, PortItem, Refusal, RuleId, Spread};
use crate::chain::value::Prefix;

/// A NIC by its facts.
#[derive(Clone, Debug)]
pub struct Profile {
    facts: &'static Facts,
    queues: u16,
    /// How many rules it holds, where that is another number than its facts'.
    room: Option<usize>,
    installed: BTreeMap<u64, NicRule>,
    next: u64,
    table: Vec<u16>,
}

impl Profile {
    /// One of that name, with so many queues; its table is dealt out to them in turn.
    pub fn named(name: &str, queues: u16) -> Option<Self> {
        Facts::named(name).map(|facts| Self::of(facts, queues))
    }

    /// One with those facts.
    pub fn of(facts: &'static Facts, queues: u16) -> Self {
        let table = (0..facts.hash.table).map(|at| at % queues.max(1)).collect();
        Self { facts, queues, room: None, installed: BTreeMap::new(), next: 1, table }
    }

    /// The same, holding so many rules.
    #[must_use]
    pub fn with_room(self, rules: usize) -> Self {
        Self { room: Some(rules), ..self }
    }

    /// What it goes by.
    pub const fn facts(&self) -> &'static Facts {
        self.facts
    }

    /// Its rules, with their numbers.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &NicRule)> {
        self.installed.iter().map(|(id, rule)| (RuleId(*id), rule))
    }

    /// Why it does not take a rule beside those that it has; `None`: it does.
    ///
    /// Compares it with each of them.
    pub fn refuses(&self, rule: &NicRule) -> Option<Refusal> {
        if let Some(refusal) = self.facts.refuses(rule) {
            return Some(refusal);
        }
        if let Fate::Queue(queue) = rule.fate
            && queue >= self.queues
        {
            return self.says(&format!("has {} queues, no number {queue}", self.queues));
        }
        if let Some(room) = self.limits().rules.filter(|room| self.installed.len() >= *room) {
            return self.says(&format!("holds {room} rules, and has them"));
        }
        let shape = Shape::of(&rule.pattern);
        for (id, other) in &self.installed {
            if other.priority == rule.priority && other.pattern.overlaps(&rule.pattern) {
                let levels = if self.facts.priorities > 1 { "at one priority" } else { "at all" };
                return self.says(&format!("takes no overlaps {levels}: overlaps rule {id}"));
            }
            let together = match self.facts.fields {
                Fields::Free => false,
                Fields::PerTransport => shape.transport == Shape::of(&other.pattern).transport,
                Fields::One => true,
            };
            if together && shape.fields != Shape::of(&other.pattern).fields {
                return self
                    .says(&format!("looks at the same fields in all rules: not as rule {id}"));
            }
            let ethertype = |p: &Pattern| (p.vlan.is_some(), p.vlan.is_none() && p.is_ipv6);
            if self.facts.by_ethertype
                && other.priority == rule.priority
                && ethertype(&other.pattern) != ethertype(&rule.pattern)
            {
                return self.says(&format!("takes one EtherType a priority: not as rule {id}"));
            }
        }
        None
    }

    fn says(&self, what: &str) -> Option<Refusal> {
        Some(Refusal(format!("{} {what}", self.facts.name)))
    }
}

impl Nic for Profile {
    fn driver(&self) -> &str {
        self.facts.drivers.first().map_or("", String::as_str)
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn limits(&self) -> Limits {
        let limits = self.facts.limits();
        Limits { rules: self.room.or(limits.rules), ..limits }
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        self.refuses(rule).map_or(Ok(()), Err)
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        self.validate(rule)?;
        let id = self.next;
        self.next += 1;
        self.installed.insert(id, rule.clone());
        Ok(RuleId(id))
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        let gone = self.installed.remove(&id.0).map(drop);
        gone.ok_or_else(|| Refusal(format!("{} has no rule {}", self.facts.name, id.0)))
    }

    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        if !self.facts.updates {
            return Err(Refusal(format!("{} changes no rules", self.facts.name)));
        }
        if let Some(refusal) = self.facts.refuses(rule) {
            return Err(refusal);
        }
        match self.installed.get_mut(&id.0) {
            Some(known) => known.clone_from(rule),
            None => return Err(Refusal(format!("{} has no rule {}", self.facts.name, id.0))),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.installed.clear();
        Ok(())
    }

    fn blank(&self) -> Option<Box<dyn Nic>> {
        Some(Box::new(Self { installed: BTreeMap::new(), ..self.clone() }))
    }

    fn hits(&self, _: RuleId) -> Option<u64> {
        None
    }

    fn spread(&self) -> Spread {
        let table = if self.facts.hash.table_read { self.table.clone() } else { Vec::new() };
        Spread { key: None, table }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        let size = self.facts.hash.table;
        if !self.facts.hash.table_set {
            return Err(Refusal(format!("{}'s table cannot be set", self.facts.name)));
        }
        if table.len() != usize::from(size) || table.iter().any(|queue| *queue >= self.queues) {
            return Err(Refusal(format!(
                "{}'s table has {size} entries of its queues",
                self.facts.name
            )));
        }
        self.table = table.to_vec();
        Ok(())
    }
}

/// What a pattern looks at, whatever it is to find there. Drivers take or refuse rules by it, with few exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Whether it is of IPv6, and its transport.
    pub transport: (bool, u8),
    /// What it looks at there.
    pub fields: FieldsSeen,
}

/// The fields of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldsSeen {
    vlan: bool,
    /// Bits of the source, short of all of them: prefixes of both families compare.
    src: Bits,
    dst: Bits,
    sport: Look,
    dport: Look,
    flags: u8,
    icmp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bits {
    None,
    First(u8),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Look {
    Mask(u16),
    Range,
}

impl Shape {
    /// That of a pattern.
    pub fn of(pattern: &Pattern) -> Self {
        let (sport, dport) = pattern.l4.ports();
        let (number, flags, icmp) = match pattern.l4 {
            L4Item::Tcp { flags: (mask, _), .. } => (6, mask, false),
            L4Item::Udp { .. } => (17, 0, false),
            L4Item::Sctp { .. } => (132, 0, false),
            L4Item::Icmp { kind } => (1, 0, kind.is_some()),
        };
        let fields = FieldsSeen {
            vlan: pattern.vlan.is_some(),
            src: bits(pattern.src),
            dst: bits(pattern.dst),
            sport: look(sport),
            dport: look(dport),
            flags,
            icmp,
        };
        Self { transport: (pattern.is_ipv6, number), fields }
    }
}

fn bits(prefix: Option<Prefix>) -> Bits {
    match prefix.map(|p| (p.net().prefix_len(), p.net().max_prefix_len())) {
        None | Some((0, _)) => Bits::None,
        Some((length, all)) if length == all => Bits::All,
        Some((length, _)) => Bits::First(length),
    }
}

fn look(port: PortItem) -> Look {
    match port {
        PortItem::Any => Look::Mask(0),
        PortItem::Masked { mask, .. } => Look::Mask(mask),
        PortItem::Range(..) => Look::Range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::value::Scalar;

    fn to(port: u16) -> NicRule {
        let dport = PortItem::Masked { value: port, mask: u16::MAX };
        let l4 = L4Item::Udp { sport: PortItem::Any, dport };
        let pattern = Pattern { vlan: None, is_ipv6: false, src: None, dst: None, l4 };
        NicRule { pattern, priority: 0, mark: Some(1), count: false, fate: Fate::Rss }
    }

    fn said(nic: &Profile, rule: &NicRule) -> String {
        nic.refuses(rule).map(|why| why.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_driver_refuses_what_it_does_not_take_in_words() {
        let counted = NicRule { count: true, ..to(53) };
        let nic = |name| Profile::named(name, 4).unwrap();
        assert_eq!(said(&nic("mlx5"), &counted), "");
        assert_eq!(said(&nic("i40e"), &counted), "i40e takes no COUNT");
        assert_eq!(said(&nic("igb"), &to(53)), "igb takes no MARK");
        assert_eq!(said(&nic("ena"), &to(53)), "ena takes no rules (no rte_flow)");
        let large = NicRule { mark: Some(1 << 20), ..to(53) };
        assert_eq!(said(&nic("cnxk"), &large), "cnxk takes no MARK over 65533");
        let later = NicRule { priority: 1, ..to(53) };
        assert_eq!(said(&nic("iavf"), &later), "iavf takes no priorities");
        let wide = Pattern { src: Prefix::parse("10.0.0.0/8").ok(), ..to(53).pattern };
        let wide = NicRule { pattern: wide, ..to(53) };
        assert_eq!(said(&nic("ice"), &wide), "ice takes no prefixes (10.0.0.0/8), only addresses");
        let queue = NicRule { fate: Fate::Queue(4), ..to(53) };
        assert_eq!(said(&nic("mlx5"), &queue), "mlx5 has 4 queues, no number 4");
    }

    #[test]
    fn a_rule_is_refused_beside_those_that_it_does_not_fit() {
        let mut nic = Profile::named("i40e", 2).unwrap().with_room(2);
        nic.install(&to(53)).unwrap();
        assert_eq!(said(&nic, &to(53)), "i40e takes no overlaps at all: overlaps rule 1");
        let other = Pattern { src: Prefix::parse("10.0.0.1").ok(), ..to(80).pattern };
        let other = NicRule { pattern: other, ..to(80) };
        assert_eq!(said(&nic, &other), "i40e looks at the same fields in all rules: not as rule 1");
        let second = nic.install(&to(80)).unwrap();
        assert_eq!(said(&nic, &to(81)), "i40e holds 2 rules, and has them");
        nic.remove(second).unwrap();
        assert!(nic.remove(second).is_err());
        assert_eq!(said(&nic, &to(81)), "");
    }

    #[test]
    fn a_table_is_of_its_size_and_of_queues_that_there_are() {
        let mut nic = Profile::named("igb", 2).unwrap();
        assert_eq!(nic.spread().table.len(), 128);
        assert!(nic.set_table(&[0; 64]).is_err() && nic.set_table(&[2; 128]).is_err());
        nic.set_table(&[1; 128]).unwrap();
        assert_eq!(nic.spread().table, [1; 128]);
        assert!(Profile::named("igbvf", 2).unwrap().set_table(&[]).is_err());
    }
}
