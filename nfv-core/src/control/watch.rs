//! What workers do, look by look: how busy each is, and what each shard has.

use std::sync::Arc;
use std::time::Instant;

use super::balance::Load;
use super::running::Running;
use crate::flow::ShardCounts;
use crate::worker::Mates;

/// The looks: each tells what workers did since the one before.
#[derive(Debug, Default)]
pub(super) struct Watch {
    since: Option<Look>,
    /// Rounds of moves that may still follow: what a move does is seen afterwards only.
    rounds: u32,
    /// What they did between the last two.
    pub load: Load,
}

/// What had been counted at a time.
#[derive(Debug)]
struct Look {
    at: Instant,
    running: Arc<Running>,
    /// By worker, nanoseconds.
    busy: Vec<u64>,
    /// By shard.
    packets: Vec<u64>,
}

impl Watch {
    /// Looks again.
    pub fn look(&mut self, running: &Arc<Running>, counts: &ShardCounts, mates: &Mates) {
        let now = Look {
            at: Instant::now(),
            running: running.clone(),
            busy: running.busy().collect(),
            packets: counts.packets.to_vec(),
        };
        // Counters begin anew with a plan.
        let since = self.since.take().filter(|since| Arc::ptr_eq(&since.running, running));
        self.load = since.map_or_else(Load::default, |since| now.load(&since, mates));
        self.since = Some(now);
    }

    /// The moves that are to be made now.
    pub fn moves(&mut self) -> Vec<(u8, u16)> {
        if self.load.is_uneven() && self.rounds == 0 {
            self.rounds = ROUNDS_MAX;
        }
        let moves = if self.rounds == 0 { Vec::new() } else { self.load.moves() };
        // A look of which nothing is known does not end it.
        if moves.is_empty() && !self.load.busy.is_empty() {
            self.rounds = 0;
        }
        self.rounds = self.rounds.saturating_sub(1);
        moves
    }

    /// Begins anew: what was done up to now says nothing of what comes.
    pub fn forget(&mut self) {
        self.since = None;
    }
}

impl Look {
    /// What was done since another.
    fn load(&self, since: &Self, mates: &Mates) -> Load {
        let passed = self.at.duration_since(since.at).as_nanos().max(1) as f64;
        let busy = self.busy.iter().zip(&since.busy);
        let part = |(now, then): (&u64, &u64)| now.saturating_sub(*then) as f64 / passed;
        let packets = self.packets.iter().zip(&since.packets);
        let packets = packets.map(|(now, then)| now.saturating_sub(*then));
        Load {
            busy: busy.map(part).map(|busy| busy.min(1.0)).collect(),
            shards: (0..=u8::MAX).map(|shard| mates.owner(shard)).zip(packets).collect(),
        }
    }
}

/// After so many rounds, each of 200 ms with the look at what it did, the load itself changes as fast.
const ROUNDS_MAX: u32 = 10;
