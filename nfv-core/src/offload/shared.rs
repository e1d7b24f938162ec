//! A NIC that several have: who gives it rules, and who writes its table. Its rules may have to follow the table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::facts::Limits;
use super::rule::{Met, Nic, NicRule, Refusal, RuleId, Spread};

/// One NIC in several hands. Cheap to clone; a call waits for those of the others.
#[derive(Clone, Debug)]
pub struct SharedNic {
    driver: String,
    queues: u16,
    nic: Arc<Mutex<Box<dyn Nic>>>,
}

impl SharedNic {
    /// Of a NIC.
    pub fn of(nic: impl Nic + 'static) -> Self {
        let (driver, queues) = (nic.driver().to_owned(), nic.queues());
        Self { driver, queues, nic: Arc::new(Mutex::new(Box::new(nic))) }
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Nic>> {
        self.nic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nic for SharedNic {
    fn driver(&self) -> &str {
        &self.driver
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn limits(&self) -> Limits {
        self.lock().limits()
    }

    fn validate(&self, rule: &NicRule) -> Result<(), Refusal> {
        self.lock().validate(rule)
    }

    fn install(&mut self, rule: &NicRule) -> Result<RuleId, Refusal> {
        self.lock().install(rule)
    }

    fn remove(&mut self, id: RuleId) -> Result<(), Refusal> {
        self.lock().remove(id)
    }

    fn install_all(&mut self, rules: &[NicRule]) -> Vec<Result<RuleId, Refusal>> {
        self.lock().install_all(rules)
    }

    fn remove_all(&mut self, ids: &[RuleId]) -> Vec<Result<(), Refusal>> {
        self.lock().remove_all(ids)
    }

    fn change(&mut self, id: RuleId, rule: &NicRule) -> Result<(), Refusal> {
        self.lock().change(id, rule)
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.lock().flush()
    }

    fn blank(&self) -> Option<Box<dyn Nic>> {
        self.lock().blank()
    }

    fn forget(&mut self) {
        self.lock().forget();
    }

    fn hits(&self, id: RuleId) -> Option<u64> {
        self.lock().hits(id)
    }

    fn spread(&self) -> Spread {
        self.lock().spread()
    }

    fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
        self.lock().set_table(table)
    }

    fn probe(&self, frame: &[u8]) -> Option<Met> {
        self.lock().probe(frame)
    }
}
