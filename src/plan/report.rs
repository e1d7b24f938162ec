//! The plan as data: what `--json` prints, with names that stay (docs/plan.md), and what the table is made of.

use nfv_core::chain::compile::{Plan, Program};
use nfv_core::chain::spec::{ChainFile, ChainSpec};
use nfv_core::control::nic_rules::NicReport;
use nfv_core::dispatch::{ClassFate, PortClasses};
use nfv_core::dpdk::SYMMETRIC_KEY;
use nfv_core::nf::{Direction, PortIndex};
use nfv_core::offload::{
    Asked, Facts, HashFacts, Installed, Nic, NicRule, Offload, Planned, PlannedRule, Role,
    RulesPerSecond, Spread, WithoutVlan, bound_to, plan as climb,
};
use serde::Serialize;

use super::{cost, testpmd, words};

/// Where it is known from what a NIC takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The table of drivers.
    Table,
    /// Its driver.
    Device,
}

/// What a report is made of.
#[derive(Debug)]
pub struct Known<'k> {
    /// The chain file's plan.
    pub plan: Plan,
    /// Where it is known from what NICs take.
    pub source: Source,
    /// What a run has seen of its NICs, and counted.
    pub running: &'k [NicReport],
    /// What is tried out.
    pub try_it: Try,
}

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// Nothing: NICs are only asked.
    Nothing,
    /// They are given the rules, and give them back.
    Install,
}

/// The plan of a chain file.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it is known from what the NICs take.
    pub source: Source,
    /// The release of DPDK that the table of drivers is from.
    pub dpdk: &'static str,
    /// The ports, in the file's order.
    pub ports: Vec<PortReport>,
    /// The chains, in the file's order.
    pub chains: Vec<ChainReport>,
}

/// A port.
#[derive(Debug, Serialize)]
pub struct PortReport {
    /// The user's name.
    pub port: String,
    /// Its NIC's name in the table of drivers, if it is there.
    pub nic: Option<&'static str>,
    /// Its driver, as DPDK names it.
    pub driver: String,
    /// Whether a run gives it rules: the port's key `offload`.
    pub offload: bool,
    /// Receive queues in use, one a worker.
    pub queues: u16,
    /// How many rules the NIC holds, if that is known.
    pub rules_max: Option<usize>,
    /// Which frames rules take that name no VLAN: `any`, `untagged` or `unknown`.
    pub without_vlan: WithoutVlan,
    /// How its hash stands; null for a driver that is neither asked nor in the table.
    pub hash: Option<HashReport>,
    /// How the classes' shares are known: `guessed`, or `counted` by a run.
    pub shares: &'static str,
    /// Rules a second, where they were measured: of a run, or tried out.
    pub rules_per_second: Option<RulesPerSecond>,
    /// Rules that were tried out and refused, by the driver's words: how many.
    pub refused: Vec<(String, usize)>,
    /// The classes, in order: a packet is of the first that it meets.
    pub classes: Vec<ClassReport>,
    /// The rules, in the order in which they are installed.
    pub rules: Vec<RuleReport>,
    /// The part of the traffic that the NIC drops.
    pub dropped_share: f64,
    /// The part of the traffic that it tags.
    pub tagged_share: f64,
}

/// How a NIC's hash stands.
#[derive(Debug, Serialize)]
pub struct HashReport {
    /// How its key is known: `set`, `read` or `measured`.
    pub key: &'static str,
    /// How its table is known.
    pub table: &'static str,
    /// The table's entries.
    pub entries: u16,
    /// Both in words.
    pub words: String,
}

/// A class.
#[derive(Debug, Serialize)]
pub struct ClassReport {
    /// Its number, from 1.
    pub class: u32,
    /// What its packets carry, where they carry it; null: the NIC's marks are too small.
    pub tag: Option<u32>,
    /// The part of the port's packets that it is likely to be.
    pub share: f64,
    /// What its packets are: any of these.
    pub what: Vec<String>,
    /// Its chain.
    pub chain: String,
    /// `forward` or `reverse`.
    pub direction: &'static str,
    /// `enter` or `drop`.
    pub fate: &'static str,
    /// Where it enters, or what drops it, in words.
    pub way: String,
    /// The rung that it got.
    pub rung: &'static str,
    /// How many rules tell it apart.
    pub rules: usize,
    /// What a packet that the NIC told apart costs a worker, in clocks.
    pub cycles: u32,
    /// What it costs without the NIC's help.
    pub cycles_in_software: u32,
    /// Why it, or some of it, is not higher.
    pub why: Vec<String>,
}

/// A rule.
#[derive(Debug, Serialize)]
pub struct RuleReport {
    /// The class that it is for.
    pub class: u32,
    /// `tells` its packets apart, or `shields` them from rules of later classes.
    pub role: &'static str,
    /// 0 comes first.
    pub priority: u32,
    /// As testpmd takes it.
    pub testpmd: String,
}

/// A chain.
#[derive(Debug, Serialize)]
pub struct ChainReport {
    /// Its name.
    pub chain: String,
    /// Whether both directions of its flows fall into one shard.
    pub same_shard: bool,
    /// Why.
    pub why: String,
}

impl Report {
    /// Plans each port on its NIC.
    pub fn of(file: &ChainFile, known: &Known<'_>, nics: Vec<Box<dyn Nic>>) -> Self {
        let plan = &known.plan;
        let port = |(at, nic): (u8, Box<dyn Nic>)| {
            let none = PortClasses { port: PortIndex(at), classes: Vec::new() };
            let found = plan.classes.ports.iter().find(|classes| classes.port == none.port);
            let report = PortReport::of(known, found.unwrap_or(&none), nic);
            let spec = file.ports.get(usize::from(at));
            PortReport { offload: spec.is_none_or(|spec| spec.offload), ..report }
        };
        let chain = |spec: &ChainSpec| {
            let is_it =
                |p: &&Program| p.direction == Direction::Forward && p.chain == spec.name.value;
            let program = plan.programs.iter().find(is_it)?;
            let answers = !spec.oneway && spec.to.is_some() && !spec.from.is_empty();
            let (same_shard, why) = words::directions(plan, program, answers);
            Some(ChainReport { chain: program.chain.clone(), same_shard, why })
        };
        Self {
            source: known.source,
            dpdk: Facts::release(),
            ports: (0..=u8::MAX).zip(nics).map(port).collect(),
            chains: file.chains.iter().filter_map(chain).collect(),
        }
    }
}

impl PortReport {
    fn of(known: &Known<'_>, classes: &PortClasses, nic: Box<dyn Nic>) -> Self {
        let (plan, boxed) = (&known.plan, nic);
        let nic = boxed.as_ref();
        let facts = Facts::of_driver(nic.driver());
        let bound = bound_to(plan, classes, nic);
        let offload = climb(classes, nic, Asked { bound: &bound, ..Asked::default() });
        let port = plan.ports.get(classes.port.index()).cloned().unwrap_or_default();
        let all = classes_of(plan, classes, &offload);
        let number = |at: usize| offload.classes.get(at).map_or(0, |placed| placed.tag.class());
        let rule = |planned: &PlannedRule| RuleReport {
            class: number(planned.class),
            role: match planned.role {
                Role::Tells => "tells",
                Role::Shields => "shields",
            },
            priority: planned.rule.priority,
            testpmd: testpmd::command(classes.port.index(), &planned.rule, facts),
        };
        let share = |rungs: &[&str]| {
            all.iter().filter(|c| rungs.contains(&c.rung)).map(|c| c.share).sum::<f64>()
        };
        let running = known.running.iter().find(|running| running.port == port);
        let counts = running.is_some_and(|r| r.counted.iter().any(|class| class.packets > 0));
        let (dropped_share, tagged_share) = (share(&["drop"]), share(&["mark+rss", "mark+queue"]));
        let mut report = Self {
            port,
            nic: facts.map(|facts| facts.name.as_str()),
            driver: nic.driver().to_owned(),
            offload: true,
            queues: nic.queues(),
            rules_max: nic.limits().rules,
            without_vlan: nic.limits().without_vlan,
            hash: match known.source {
                Source::Table => facts.map(|facts| HashReport::by(&facts.hash)),
                Source::Device => Some(HashReport::seen(&nic.spread())),
            },
            rules: offload.rules.iter().map(rule).collect(),
            shares: if counts { "counted" } else { "guessed" },
            rules_per_second: running.map(|running| running.rules_per_second),
            refused: Vec::new(),
            classes: all,
            dropped_share,
            tagged_share,
        };
        if let (Some(hash), Some(seen)) =
            (&mut report.hash, running.and_then(|r| r.hash.measured.as_ref()))
        {
            hash.words += &format!("; measured: {seen}");
        }
        if known.try_it == Try::Install {
            report.install(boxed, offload);
        }
        report
    }

    /// Gives the NIC the rules, has it change their tags, and takes them back.
    fn install(&mut self, nic: Box<dyn Nic>, offload: Offload) {
        let mut installed = Installed::none(&self.port, nic);
        let of = |planned: PlannedRule| Planned {
            class: offload.classes.get(planned.class).map_or(0, |placed| placed.tag.class()),
            rule: planned.rule,
        };
        let all: Vec<Planned> = offload.rules.into_iter().map(of).collect();
        installed.change(all.clone());
        for (_, why) in installed.refused() {
            match self.refused.iter_mut().find(|(known, _)| *known == why.0) {
                Some((_, rules)) => *rules += 1,
                None => self.refused.push((why.0, 1)),
            }
        }
        // As a reload does: all tags are of another epoch.
        let later = |planned: Planned| {
            let mark = planned.rule.mark.map(|mark| mark ^ 1);
            Planned { rule: NicRule { mark, ..planned.rule }, ..planned }
        };
        installed.change(all.into_iter().map(later).collect());
        installed.end();
        self.rules_per_second = Some(installed.pace().per_second());
    }
}

impl HashReport {
    /// By what its documents say.
    fn by(facts: &HashFacts) -> Self {
        Self {
            key: words::known_by(facts.key_set, facts.key_read),
            table: words::known_by(facts.table_set, facts.table_read),
            entries: facts.table,
            words: words::hash(facts),
        }
    }

    /// By what a port that is open tells. Its key was set when it was opened, if it could be.
    fn seen(spread: &Spread) -> Self {
        let ours =
            |key: &Vec<u8>| key.chunks(SYMMETRIC_KEY.len()).all(|part| part == SYMMETRIC_KEY);
        let facts = HashFacts {
            key: spread.key.as_ref().and_then(|key| u16::try_from(key.len()).ok()),
            key_set: spread.key.as_ref().is_some_and(ours),
            key_read: spread.key.is_some(),
            table: u16::try_from(spread.table.len()).unwrap_or(u16::MAX),
            table_set: !spread.table.is_empty(),
            table_read: !spread.table.is_empty(),
        };
        Self::by(&facts)
    }
}

fn classes_of(plan: &Plan, classes: &PortClasses, offload: &Offload) -> Vec<ClassReport> {
    let both = classes.classes.iter().zip(&offload.classes);
    both.map(|(class, placed)| {
        let (program, fate) = match class.fate {
            ClassFate::Enter { program, .. } => (program, "enter"),
            ClassFate::Drop { program, .. } => (program, "drop"),
        };
        let program = plan.programs.get(usize::from(program.0));
        let cost = cost::cost(plan, classes.port, class, placed);
        ClassReport {
            class: class.tag.class(),
            tag: offload.form.and_then(|form| form.mark(class.tag)),
            share: class.share,
            what: class.regions.iter().map(words::region).collect(),
            chain: program.map(|p| p.chain.clone()).unwrap_or_default(),
            direction: match program.map(|p| p.direction) {
                Some(Direction::Reverse) => "reverse",
                _ => "forward",
            },
            fate,
            way: words::way(plan, class),
            rung: words::rung(placed.rung),
            rules: placed.rules,
            cycles: cost.planned,
            cycles_in_software: cost.software,
            why: placed.why.clone(),
        }
    })
    .collect()
}
