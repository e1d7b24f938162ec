//! A NIC that takes every rule: the profile `any`. What an offload gains at best is measured with it.

use std::collections::BTreeSet;

use super::facts::{Fields, Limits, WithoutVlan};
use super::rule::{Nic, NicRule, Refusal, RuleId, Spread};
use crate::dpdk::SYMMETRIC_KEY;

/// It takes every rule, up to a million.
#[derive(Debug)]
pub struct AnyNic {
    queues: u16,
    rules: BTreeSet<RuleId>,
    next: u64,
    table: Vec<u16>,
}

impl AnyNic {
    /// With so many queues in use.
    pub fn new(queues: u16) -> Self {
        let table = (0..TABLE).map(|entry| entry % queues.max(1)).collect();
        Self { queues, rules: BTreeSet::new(), next: 1, table }
    }
}

impl Nic for AnyNic {
    fn driver(&self) -> &str {
        "any"
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn limits(&self) -> Limits {
        Limits {
            rules: Some(RULES_MAX),
            priorities: Some(u32::MAX),
            by_ethertype: false,
            fields: Fields::Free,
            without_vlan: WithoutVlan::Any,
            mark_max: Some(u32::MAX),
        }
    }

    fn validate(&self, _: &NicRule) -> Result<(), Refusal> {
        if self.rules.len() < RULES_MAX {
            return Ok(());
        }
        Err(Refusal(format!("it has {RULES_MAX} rules already")))
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        self.validate(rule)?;
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.insert(id);
        Ok(id)
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        match self.rules.remove(&id) {
            true => Ok(()),
            false => Err(Refusal("there is no such rule".to_owned())),
        }
    }

    fn change(&mut self, id: RuleId, _: &NicRule) -> Result<(), Refusal> {
        match self.rules.contains(&id) {
            true => Ok(()),
            false => Err(Refusal("there is no such rule".to_owned())),
        }
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.rules.clear();
        Ok(())
    }

    fn blank(&self) -> Option<Box<dyn Nic>> {
        Some(Box::new(Self::new(self.queues)))
    }

    fn hits(&self, _: RuleId) -> Option<u64> {
        None
    }

    fn spread(&self) -> Spread {
        let key = SYMMETRIC_KEY.repeat(KEY / SYMMETRIC_KEY.len());
        Spread { key: Some(key), table: self.table.clone() }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        if table.len() != self.table.len() {
            return Err(Refusal(format!("the table has {TABLE} entries, not {}", table.len())));
        }
        self.table = table.to_vec();
        Ok(())
    }
}

const RULES_MAX: usize = 1_000_000;
const TABLE: u16 = 128;
/// Bytes.
const KEY: usize = 40;
