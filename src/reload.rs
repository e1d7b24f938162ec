//! Changing to another chain file while packets pass: checked and built aside, then exchanged, or left alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nfv_core::chain::compile::{Plan, compile};
use nfv_core::chain::report::{Color, Report};
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::{ChainFile, Idle};
use nfv_core::control::nic_rules::NicRules;
use nfv_core::control::requests::{Load, Reload};
use nfv_core::control::running::{Changed, Workers};
use nfv_core::nf::Purpose;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Config;
use crate::failure::Failure;

/// What [`Reload`] works with.
#[derive(Debug)]
pub struct Reloader {
    /// What runs.
    pub workers: Workers,
    /// The run's chain file.
    pub path: PathBuf,
    /// As it was when the run began: its ports stay.
    pub file: ChainFile,
    /// The rules of the ports' NICs.
    pub rules: Arc<NicRules>,
    /// Where the functions' tasks are run.
    pub tasks: UnboundedSender<Changed>,
}

impl Reloader {
    /// As the control side calls it.
    pub fn into_call(self) -> Reload {
        // What runs.
        let last = Mutex::new(self.file.clone());
        Arc::new(move |load| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let path = match load {
                Load::Same => return self.reclassify(&last),
                Load::Own => self.path.clone(),
                Load::File(path) => path,
            };
            let done = self.reload(&path).map(|(file, said)| {
                *last = file;
                said
            });
            match &done {
                Ok(said) => tracing::info!("{said}"),
                Err(why) => tracing::error!("not reloaded, what ran before goes on: {why}"),
            }
            done
        })
    }

    /// Makes the classes anew of what functions decide now; all else stays.
    fn reclassify(&self, file: &ChainFile) -> Result<String, String> {
        // There is nothing in it that has not been read before without a mistake.
        let source = Source::from_bytes("", Vec::new()).map_err(|why| why.to_string())?;
        let mut report = Report::new(Arc::new(source));
        let before = self.workers.now();
        let plan = compile(file, nfs::KINDS, Purpose::Run, Some(&before.plan), &mut report);
        let plan = plan.ok_or_else(|| report.render(Color::Never))?;
        let took = self.take(plan)?;
        Ok(format!("the workers know of it since {took:.1?}"))
    }

    fn reload(&self, path: &Path) -> Result<(ChainFile, String), String> {
        let shown = path.display();
        let config = Config::read(path).map_err(text)?;
        if !config.file.has_the_ports_of(&self.file) {
            return Err(format!(
                "{shown}: its ports are not those of the run; a reload changes functions and chains, ports need a new run"
            ));
        }
        let running = self.workers.now();
        let (file, plan) = config.compile(Purpose::Run, Some(&running.plan)).map_err(text)?;
        if file.flows.max > self.file.flows.max {
            tracing::warn!(
                "flows: max stays at {}, with which the run began: a larger one needs a new run",
                self.file.flows.max
            );
        }
        if file.workers.idle == Idle::Interrupt && self.file.workers.idle != Idle::Interrupt {
            tracing::warn!(
                "workers: idle: interrupt needs a new run, which asks the devices for interrupts; until then idle workers pause"
            );
        }
        let took = self.take(plan)?;
        Ok((file, format!("reloaded {shown}: the workers changed to it within {took:.1?}")))
    }

    /// Has the workers change to another plan. How long the slowest took.
    fn take(&self, plan: Plan) -> Result<Duration, String> {
        // What the NIC drops now and the new file lets live, it must let live before; and it may drop what the new file
        // drops only when no worker runs the old one any more.
        self.rules.make_way(&plan);
        let changed = self.workers.change(plan).inspect_err(|_| {
            self.rules.change(&self.workers.now().plan);
        })?;
        self.rules.change(&self.workers.now().plan);
        let took = changed.took;
        // The control thread ends after this.
        let _ = self.tasks.send(changed);
        Ok(took)
    }
}

fn text(why: Failure) -> String {
    match why {
        Failure::User(text) => text.trim_end().to_owned(),
        Failure::Machine(why) => format!("{why:#}"),
    }
}
