//! The tables of NICs follow their shards: each entry sends its part of all hashes to the worker that owns it.
//!
//! A table's entry is one shard, or one of several entries of a shard, or (with fewer entries than shards) a group of shards,
//! which moves as a whole then. A NIC whose table cannot be read or written, or whose hash is another one, goes on spreading
//! its own way: workers hand over what is not theirs.

use crate::flow::{SHARDS, ShardSet};
use crate::nf::PortIndex;
use crate::offload::{Nic, Spread};
use crate::packet::is_symmetric_key;
use crate::worker::Mates;

/// The ports' tables. Worker `w` has queue `w` of each port.
#[derive(Debug, Default)]
pub struct Tables {
    ports: Vec<PortTable>,
}

/// A port and its NIC.
#[derive(Debug)]
pub struct TablePort {
    /// Which one.
    pub port: PortIndex,
    /// The user's name.
    pub name: String,
    /// Descriptors of each of its receive rings.
    pub ring: u16,
    /// What has the table.
    pub nic: Box<dyn Nic>,
}

#[derive(Debug)]
struct PortTable {
    of: TablePort,
    /// As it is now; or why it does not follow.
    table: Result<Vec<u16>, String>,
}

/// Queues that had what goes elsewhere now, by worker: their ports, and the descriptors of their rings.
pub type Had = Vec<(u16, Vec<(PortIndex, u16)>)>;

impl Tables {
    /// Has the tables of ports follow from now on, before packets are let in; shards of one entry become one worker's.
    pub fn start(ports: Vec<TablePort>, mates: &Mates, workers: u16) -> Self {
        let tables = ports.into_iter().map(|of| {
            let table = usable(&of.nic.spread(), workers);
            PortTable { of, table }
        });
        let mut all = Self { ports: tables.collect() };
        let unit = all.unit();
        for shard in (0..SHARDS).filter(|_| unit < SHARDS) {
            mates.give(shard as u8, shard % unit % workers.max(1));
        }
        for port in &mut all.ports {
            port.write(|shard| mates.owner(shard));
        }
        all
    }

    /// By port, the entries of its table, which follows, or why it does not.
    pub fn list(&self) -> impl Iterator<Item = (&str, Result<usize, &str>)> {
        self.ports.iter().map(|port| {
            let table = port.table.as_ref().map(Vec::len).map_err(String::as_str);
            (port.of.name.as_str(), table)
        })
    }

    /// Writes all tables anew: a device was reset, and has its own again.
    pub fn restore(&mut self, mates: &Mates) {
        for port in &mut self.ports {
            port.write(|shard| mates.owner(shard));
        }
    }

    /// With each shard all that have an entry in common with it.
    pub fn whole(&self, moves: &[(u8, u16)]) -> Vec<(u8, u16)> {
        let unit = self.unit();
        // What is asked for last holds.
        let mut to = [None; SHARDS as usize];
        for (shard, worker) in moves {
            for (other, to) in (0..SHARDS).zip(&mut to) {
                if other % unit == u16::from(*shard) % unit {
                    *to = Some(*worker);
                }
            }
        }
        (0..=u8::MAX).zip(to).filter_map(|(shard, to)| Some((shard, to?))).collect()
    }

    /// Whether a table is to be rewritten when these shards become a worker's.
    pub fn follow(&self, shards: ShardSet, to: u16) -> bool {
        self.ports
            .iter()
            .filter_map(PortTable::table)
            .any(|table| rewritten(table, shards, to).any(|(now, then)| now != then))
    }

    /// Rewrites the tables so that these shards are a worker's. A table that cannot be written follows no more.
    pub fn rewrite(&mut self, shards: ShardSet, to: u16) -> Had {
        let mut had = Had::new();
        for port in &mut self.ports {
            let Some(table) = port.table() else { continue };
            let changed = rewritten(table, shards, to).filter(|(now, then)| now != then);
            let mut queues: Vec<u16> = changed.map(|(now, _)| now).collect();
            queues.sort_unstable();
            queues.dedup();
            if queues.is_empty() {
                continue;
            }
            let then = rewritten(table, shards, to).map(|(_, then)| then).collect();
            port.set(then);
            // Also when it failed: nobody knows what was written of it.
            let place = (port.of.port, port.of.ring);
            for queue in queues {
                match had.iter_mut().find(|(worker, _)| *worker == queue) {
                    Some((_, places)) => places.push(place),
                    None => had.push((queue, vec![place])),
                }
            }
        }
        had
    }

    /// Shards whose numbers differ by a multiple of this have an entry in common.
    fn unit(&self) -> u16 {
        let lengths = self.ports.iter().filter_map(PortTable::table).map(<[u16]>::len);
        lengths.filter_map(|len| u16::try_from(len).ok()).fold(SHARDS, u16::min)
    }
}

impl PortTable {
    fn table(&self) -> Option<&[u16]> {
        self.table.as_deref().ok()
    }

    /// Has each entry send to the owner of its shard.
    fn write(&mut self, owner: impl Fn(u8) -> u16) {
        let Some(table) = self.table() else { return };
        self.set((0..table.len()).map(|entry| owner(shard_of(entry))).collect());
    }

    fn set(&mut self, table: Vec<u16>) {
        self.table = match self.of.nic.set_table(&table) {
            Ok(()) => Ok(table),
            Err(why) => {
                tracing::warn!(
                    "port {}: its table cannot be written ({why}): what is of another worker's flows is handed over",
                    self.of.name
                );
                Err(format!("it cannot be written: {why}"))
            }
        };
    }
}

/// By entry, its queue now, and when these shards are a worker's.
fn rewritten(table: &[u16], shards: ShardSet, to: u16) -> impl Iterator<Item = (u16, u16)> {
    let then = move |entry: usize, now: u16| if shards.has(shard_of(entry)) { to } else { now };
    table.iter().enumerate().map(move |(entry, now)| (*now, then(entry, *now)))
}

/// The shard of an entry, or the first of its group.
fn shard_of(entry: usize) -> u8 {
    (entry % usize::from(SHARDS)) as u8
}

/// The table of a NIC, if shards can follow by it.
fn usable(spread: &Spread, workers: u16) -> Result<Vec<u16>, String> {
    let Spread { key, table } = spread;
    if workers < 2 {
        return Err("there is one worker".to_owned());
    }
    if table.is_empty() {
        return Err("the device has no table that could be read".to_owned());
    }
    match key {
        None => return Err("the device does not tell the key of its hash".to_owned()),
        Some(key) if !is_symmetric_key(key) => {
            return Err("the device's hash has another key".to_owned());
        }
        Some(_) => {}
    }
    if !table.len().is_power_of_two() {
        return Err(format!("the device's table has {} entries, no power of two", table.len()));
    }
    Ok(table.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::SYMMETRIC_KEY;
    use crate::offload::{NicRule, Refusal, RuleId};

    /// A NIC that has nothing but a table.
    #[derive(Debug)]
    struct OfTable {
        spread: Spread,
        fails: bool,
    }

    impl Nic for OfTable {
        fn driver(&self) -> &str {
            "table"
        }

        fn queues(&self) -> u16 {
            2
        }

        fn validate(&self, _: &NicRule) -> Result<(), Refusal> {
            Err(Refusal("no rules".to_owned()))
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
            self.spread.clone()
        }

        fn set_table(&mut self, table: &[u16]) -> Result<(), Refusal> {
            if self.fails {
                return Err(Refusal("Operation not permitted".to_owned()));
            }
            self.spread.table = table.to_vec();
            Ok(())
        }
    }

    fn port(number: u8, entries: usize, key: Option<Vec<u8>>, fails: bool) -> TablePort {
        let spread = Spread { key, table: vec![0; entries] };
        let (port, name) = (PortIndex(number), format!("p{number}"));
        TablePort { port, name, ring: 256, nic: Box::new(OfTable { spread, fails }) }
    }

    fn symmetric() -> Option<Vec<u8>> {
        Some(SYMMETRIC_KEY.repeat(20))
    }

    #[test]
    fn at_the_start_each_entry_sends_to_the_owner_of_its_shard_and_later_it_follows() {
        let mates = Mates::new(2, 1000).unwrap();
        let ports = vec![port(0, 128, symmetric(), false), port(1, 512, symmetric(), false)];
        let mut tables = Tables::start(ports, &mates, 2);
        let now = |tables: &Tables, at: usize| tables.ports[at].of.nic.spread().table;
        assert!((0u16..).zip(now(&tables, 0)).all(|(entry, queue)| queue == entry % 2));
        assert_eq!(now(&tables, 1).len(), 512);
        let shards: ShardSet = [4, 6].into_iter().collect();
        assert!(tables.follow(shards, 1) && !tables.follow(shards, 0));
        let had = tables.rewrite(shards, 1);
        assert_eq!(had, [(0, vec![(PortIndex(0), 256), (PortIndex(1), 256)])]);
        assert_eq!(now(&tables, 0)[3..8], [1, 1, 1, 1, 1]);
        let entries = [4, 132, 260, 388].map(|entry| now(&tables, 1)[entry]);
        assert_eq!(entries, [1; 4], "all entries of a shard");
        assert_eq!(now(&tables, 1).iter().filter(|queue| **queue == 1).count(), 4 * 66);
        assert_eq!(tables.rewrite(shards, 1), [], "they are there");
    }

    #[test]
    fn shards_of_one_entry_are_one_workers_and_move_together() {
        let mates = Mates::new(3, 1000).unwrap();
        let tables = Tables::start(vec![port(0, 64, symmetric(), false)], &mates, 3);
        assert!((0..64).all(|shard| mates.owner(shard) == mates.owner(shard + 64)));
        assert_eq!(tables.whole(&[(70, 2), (3, 1)]), [(3, 1), (6, 2), (67, 1), (70, 2)]);
        assert_eq!(Tables::default().whole(&[(70, 2), (70, 1)]), [(70, 1)]);
    }

    #[test]
    fn a_table_that_does_not_fit_is_left_alone_and_one_that_fails_follows_no_more() {
        let mates = Mates::new(2, 1000).unwrap();
        let other = Some(vec![1; 40]);
        let ports = vec![
            port(0, 0, symmetric(), false),
            port(1, 128, None, false),
            port(2, 128, other, false),
            port(3, 96, symmetric(), false),
            port(4, 128, symmetric(), true),
        ];
        let tables = Tables::start(ports, &mates, 2);
        let why: Vec<_> = tables.list().map(|(_, table)| table.unwrap_err()).collect();
        assert_eq!(
            why,
            [
                "the device has no table that could be read",
                "the device does not tell the key of its hash",
                "the device's hash has another key",
                "the device's table has 96 entries, no power of two",
                "it cannot be written: Operation not permitted",
            ]
        );
        assert!(!tables.follow([1].into_iter().collect(), 0));
    }
}
