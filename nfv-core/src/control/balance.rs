//! Which shards go where when one worker has too much to do and another too little.
//!
//! Shards, not classes, and as few of them as will do (RSS++, CoNEXT 2019): each move has packets wait for a moment, and
//! where a NIC's table cannot follow, each packet of the shard is handed over from then on.

/// What workers did for a while.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// By worker, the part of the time in which it had packets, 0 to 1.
    pub busy: Vec<f64>,
    /// By shard, its worker and about how many packets it had.
    pub shards: Vec<(u16, u64)>,
}

impl Load {
    /// Whether one has too much to do, and another has time.
    pub fn is_uneven(&self) -> bool {
        self.busy.iter().any(|b| *b > TOO_BUSY) && self.busy.iter().any(|b| *b < HAS_TIME)
    }

    /// The moves, each a shard and its new worker, after which all are about as busy; none, where they are.
    pub fn moves(&self) -> Vec<(u8, u16)> {
        let mut moves = Vec::new();
        let mut busy = self.busy.clone();
        let mut shards = self.shards();
        if self.spread() <= SPREAD {
            return moves;
        }
        while let (Some(most), Some(least)) = (highest(&busy), lowest(&busy)) {
            let (Some(high), Some(low)) = (busy.get(most).copied(), busy.get(least).copied())
            else {
                break;
            };
            let difference = high - low;
            // The largest that does not turn it round; else the smallest, if the difference is smaller then.
            let own = |(owner, _): &(u16, f64)| usize::from(*owner) == most;
            let all = shards.iter().enumerate().filter(|(_, s)| own(s) && s.1 > 0.0);
            let fits = all.clone().filter(|(_, (_, load))| *load <= difference / 2.0);
            let largest = fits.max_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
            let smallest = all.min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1));
            let smallest = smallest.filter(|(_, (_, load))| *load < difference - SPREAD / 2.0);
            let Some((shard, load)) = largest.or(smallest).map(|(shard, (_, load))| (shard, *load))
            else {
                break;
            };
            let (Ok(number), Ok(to)) = (u8::try_from(shard), u16::try_from(least)) else { break };
            moves.push((number, to));
            if let Some(place) = shards.get_mut(shard) {
                place.0 = to;
            }
            for (worker, by) in [(most, -load), (least, load)] {
                if let Some(busy) = busy.get_mut(worker) {
                    *busy += by;
                }
            }
            if spread(&busy) <= SPREAD || moves.len() >= self.shards.len() {
                break;
            }
        }
        moves
    }

    /// `93, 12`.
    pub fn percent(&self) -> String {
        let each = self.busy.iter().map(|busy| (100.0 * busy).round().to_string());
        each.collect::<Vec<_>>().join(", ")
    }

    /// Between the busiest worker and the least busy one.
    pub fn spread(&self) -> f64 {
        spread(&self.busy)
    }

    /// By shard, its worker and what part of the time that spent with it.
    fn shards(&self) -> Vec<(u16, f64)> {
        let all = |worker: u16| -> u64 {
            self.shards.iter().filter(|(w, _)| *w == worker).map(|(_, packets)| packets).sum()
        };
        let totals: Vec<u64> = (0..self.busy.len() as u16).map(all).collect();
        let part = |(worker, packets): &(u16, u64)| {
            let at = usize::from(*worker);
            let (total, busy) = (totals.get(at).copied(), self.busy.get(at).copied());
            let part = *packets as f64 / total.unwrap_or_default().max(1) as f64;
            (*worker, part * busy.unwrap_or_default())
        };
        self.shards.iter().map(part).collect()
    }
}

fn spread(busy: &[f64]) -> f64 {
    let most = busy.iter().copied().fold(0.0, f64::max);
    let least = busy.iter().copied().fold(f64::INFINITY, f64::min);
    if busy.is_empty() { 0.0 } else { most - least }
}

fn highest(busy: &[f64]) -> Option<usize> {
    busy.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(worker, _)| worker)
}

fn lowest(busy: &[f64]) -> Option<usize> {
    busy.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(worker, _)| worker)
}

/// A worker with less than this left over needs help.
const TOO_BUSY: f64 = 0.85;
/// One that is less busy than this can give it.
const HAS_TIME: f64 = 0.60;
/// As far apart as workers may be.
const SPREAD: f64 = 0.10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How busy workers are after moves, when a shard takes everywhere as much time.
    fn after(load: &Load) -> Vec<f64> {
        let mut busy = load.busy.clone();
        let parts = load.shards();
        for (shard, to) in load.moves() {
            let (from, part) = parts[usize::from(shard)];
            busy[usize::from(from)] -= part;
            busy[usize::from(to)] += part;
        }
        busy
    }

    #[test]
    fn it_begins_where_one_has_too_much_and_another_has_time_and_ends_where_they_are_even() {
        let shards: Vec<(u16, u64)> = (0..128).map(|s| (s % 2, 100)).collect();
        let load = |busy: [f64; 2]| Load { busy: busy.into(), shards: shards.clone() };
        assert!(!load([0.80, 0.10]).is_uneven(), "nobody is too busy");
        assert!(!load([0.99, 0.70]).is_uneven(), "nobody has time");
        assert!(load([0.90, 0.50]).is_uneven());
        assert!(!load([0.70, 0.50]).moves().is_empty());
        assert_eq!(load([0.60, 0.51]).moves(), []);
        assert_eq!(load([1.0, 1.0]).moves(), []);
    }

    #[test]
    fn as_few_shards_move_as_will_do() {
        // One shard has two fifths of a worker's packets, and to move it is just right.
        let mut shards: Vec<(u16, u64)> = (0..128).map(|s| (s % 2, 60)).collect();
        shards[6].1 = 63 * 60 * 2 / 3;
        let load = Load { busy: vec![1.0, 0.2], shards };
        assert_eq!(load.moves(), [(6, 1)]);
        assert!(spread(&after(&load)) <= SPREAD);
    }

    #[test]
    fn what_one_shard_alone_takes_is_not_carried_to_and_fro() {
        let mut shards: Vec<(u16, u64)> = (0..128).map(|s| (s % 2, 0)).collect();
        shards[0].1 = 1_000_000;
        shards[1].1 = 1;
        let load = Load { busy: vec![1.0, 0.0], shards: shards.clone() };
        assert_eq!(load.moves(), [], "it would only be the other one that has too much");
        shards[2].1 = 100_000;
        let load = Load { busy: vec![1.0, 0.0], shards };
        assert_eq!(load.moves(), [(2, 1)], "what is beside it goes");
    }

    proptest! {
        #[test]
        fn moves_never_make_it_worse_and_end_where_shards_are_small(
            busy in prop::collection::vec(0.0f64..=1.0, 2..6),
            packets in prop::collection::vec(1u64..1000, 128),
        ) {
            let workers = busy.len() as u16;
            let shards = (0u16..).zip(&packets).map(|(s, p)| (s % workers, *p)).collect();
            let load = Load { busy, shards };
            let end = spread(&after(&load));
            prop_assert!(end <= load.spread() + 1e-9);
            prop_assert!(end <= 0.15, "{:?} {:?}", load.busy, after(&load));
        }
    }
}
