//! `nfv plan`: what the NIC does of a chain file's dispatching, what stays in software, and why.
//!
//! With `--nic` by the table of what drivers take; else of the ports themselves, which are opened, and whose drivers are
//! asked. Nothing is installed.

mod cost;
mod report;
mod table;
mod testpmd;
mod words;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use nfv_core::chain::compile::Plan;
use nfv_core::chain::spec::Idle;
use nfv_core::control::nic_rules::NicReport;
use nfv_core::control::requests::{Answer, Request};
use nfv_core::dispatch::{ClassKey, Counted};
use nfv_core::dpdk::Eal;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::offload::{Facts, Nic, PortRules, Profile};

use self::report::{Known, Report, Source, Try};
use self::table::{Length, Look};
use crate::cli::PlanArgs;
use crate::config::{Config, small_eal};
use crate::ctl;
use crate::dataplane::{Opened, open_ports, start_eal};
use crate::emulated::Emulated;
use crate::failure::{Failure, Outcome};
use crate::say::say;

/// Plans, and prints the plan.
pub fn plan(eal_options: &[String], args: &PlanArgs) -> Outcome {
    let facts = args.nic.as_deref().map(facts_of).transpose()?;
    let config = Config::read(&args.config)?;
    let running = args.control.as_deref().map(running).transpose()?.unwrap_or_default();
    let known = |plan: Plan, source| {
        let try_it = if args.install { Try::Install } else { Try::Nothing };
        Known { plan: with_shares(plan, &running), source, running: &running, try_it }
    };
    let report = match facts {
        Some(facts) => {
            let _eal = Eal::start(&small_eal())?;
            let (file, plan) = config.compile(Purpose::Check, None)?;
            let nics = file.ports.iter().map(|_| boxed(Profile::of(facts, args.queues))).collect();
            Report::of(&file, &known(plan, Source::Table), nics)
        }
        None => {
            let (eal, lcores) = start_eal(eal_options, &config.file).inspect_err(|_| {
                eprintln!("nfv: `--nic DRIVER` plans without the devices: {}", names());
            })?;
            let (file, plan) = config.compile(Purpose::Check, None)?;
            let opened = open_ports(&eal, &file.ports, (lcores.len(), Idle::Poll))?;
            let Opened { ports, queues: _queues, emulated } = opened;
            let mut emulated: BTreeMap<PortIndex, Emulated> =
                emulated.into_iter().map(|one| (one.port, one)).collect();
            let nic = |(index, port)| match emulated.remove(&index) {
                Some(one) => boxed(one.nic),
                None => boxed(PortRules::of(port)),
            };
            let nics = (0..=u8::MAX).map(PortIndex).zip(&ports).map(nic).collect();
            Report::of(&file, &known(plan, Source::Device), nics)
        }
    };
    if args.json {
        say(&format!("{}\n", serde_json::to_string_pretty(&report)?));
        return Ok(());
    }
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
    let look = if plain { Look::Plain } else { Look::Colored };
    let length = if args.all { Length::Whole } else { Length::Short };
    say(&table::text(&report, look, length));
    Ok(())
}

/// What a run's NICs do, and what it counted.
fn running(socket: &Path) -> Result<Vec<NicReport>, Failure> {
    match ctl::ask(socket, &Request::Offload {})? {
        Answer::Ok(value) => Ok(serde_json::from_value(value)?),
        Answer::Error(why) => Err(Failure::User(format!("nfv: {why}"))),
    }
}

/// The plan with the shares that a run counted, of the classes that it has too.
fn with_shares(mut plan: Plan, running: &[NicReport]) -> Plan {
    for classes in &mut plan.classes.ports {
        let name = plan.ports.get(classes.port.index());
        let Some(port) = running.iter().find(|port| Some(&port.port) == name) else { continue };
        let mut counted = Counted::default();
        for class in &port.counted {
            counted.add(ClassKey(class.key), class.packets as f64);
        }
        *classes = classes.with_shares(&counted);
    }
    plan
}

fn boxed(nic: impl Nic + 'static) -> Box<dyn Nic> {
    Box::new(nic)
}

fn facts_of(name: &str) -> Result<&'static Facts, Failure> {
    Facts::named(name).or_else(|| Facts::of_driver(name)).ok_or_else(|| {
        let near = Facts::nearest(name);
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        Failure::User(format!("nfv: `{name}` is no NIC of the table; {near}there are: {}", names()))
    })
}

fn names() -> String {
    Facts::names().collect::<Vec<_>>().join(" ")
}
