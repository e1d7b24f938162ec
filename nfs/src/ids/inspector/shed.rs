//! The budget of applications and of what detection keeps with flows.

use super::Inspector;
use super::counters::Counter;
use super::flow;

impl Inspector {
    /// Counts what a flow holds, and has the flows that were idle the longest give up theirs while all hold too much.
    pub(super) fn weigh(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        // Who has many transactions open is weighed at every sixteenth packet: it takes a look at each.
        let is_light = flow.app.as_ref().is_none_or(|app| app.transactions().len() <= FEW);
        let [to_server, to_client] = flow.counts.packets;
        if !is_light && (to_server + to_client) % 16 != 0 {
            return;
        }
        let app = flow.app.as_ref().map_or(0, |app| app.bytes());
        let state = flow.state.as_ref().map_or(0, |state| size_of_val(&**state) + state.bytes());
        let held = u32::try_from(app + state).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut flow.held, held);
        if held == before {
            return;
        }
        self.apps_held = (self.apps_held + held as usize).saturating_sub(before as usize);
        self.flows.set_holding(number, held > 0);
        while self.apps_held > self.settings.budget.apps {
            match self.flows.oldest_holder(number) {
                // Nobody else holds anything.
                0 => return self.give_up(number),
                oldest => self.give_up(oldest),
            }
        }
    }

    /// Has a flow give up what it holds: nobody looks at its bytes any more but as bytes.
    #[cold]
    fn give_up(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        if let Some(app) = flow.app.take() {
            flow.transactions += app.transactions().count();
            let shed = app.transactions().len() as u64;
            self.counters.add(Counter::AppsShed, 1);
            self.counters.add(Counter::TransactionsShed, shed);
        }
        flow.state = None;
        flow.mark(flow::NO_APP);
        let held = std::mem::take(&mut flow.held);
        self.apps_held = self.apps_held.saturating_sub(held as usize);
        self.flows.set_holding(number, false);
    }
}

/// Transactions that are looked at at every packet.
const FEW: usize = 16;
