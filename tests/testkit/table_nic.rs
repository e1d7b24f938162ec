//! A NIC that has nothing but a table, which is where the test has it.

use nfv_core::dpdk::SYMMETRIC_KEY;
use nfv_core::offload::{Nic, NicRule, Refusal, RuleId, Spread};

/// By what its table is read and written.
pub struct TableNic<R, W> {
    queues: u16,
    read: R,
    write: W,
}

impl<R: Fn() -> Vec<u16>, W: Fn(&[u16])> TableNic<R, W> {
    pub fn new(queues: u16, read: R, write: W) -> Self {
        Self { queues, read, write }
    }
}

impl<R, W> std::fmt::Debug for TableNic<R, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableNic")
    }
}

impl<R: Fn() -> Vec<u16> + Send, W: Fn(&[u16]) + Send> Nic for TableNic<R, W> {
    fn driver(&self) -> &str {
        "table"
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn validate(&self, _: &NicRule) -> Result<(), Refusal> {
        Err(Refusal("it takes no rules".to_owned()))
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        self.validate(rule).map(|()| RuleId(0))
    }

    fn remove(&mut self, _: RuleId) -> Result<(), Refusal> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn hits(&self, _: RuleId) -> Option<u64> {
        None
    }

    fn spread(&self) -> Spread {
        Spread { key: Some(SYMMETRIC_KEY.repeat(20)), table: (self.read)() }
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        (self.write)(table);
        Ok(())
    }
}
