//! Changing to another chain file while packets pass: checked and built aside, then exchanged, or left alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nfv_core::chain::spec::ChainFile;
use nfv_core::control::nic_rules::NicRules;
use nfv_core::control::requests::Reload;
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
        Arc::new(move |path| {
            let path = path.unwrap_or_else(|| self.path.clone());
            let done = self.reload(&path);
            match &done {
                Ok(said) => tracing::info!("{said}"),
                Err(why) => tracing::error!("not reloaded, what ran before goes on: {why}"),
            }
            done
        })
    }

    fn reload(&self, path: &Path) -> Result<String, String> {
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
        Ok(format!("reloaded {shown}: the workers changed to it within {took:.1?}"))
    }
}

fn text(why: Failure) -> String {
    match why {
        Failure::User(text) => text.trim_end().to_owned(),
        Failure::Machine(why) => format!("{why:#}"),
    }
}
