//! Reading a chain file for a subcommand: every mistake in one go, then exit 2.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::{Color, Report};
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::nf::Purpose;

use crate::failure::Failure;

/// A chain file that has been read, and what is to be said of it.
#[derive(Debug)]
pub struct Config {
    /// What the file says.
    pub file: ChainFile,
    report: Report,
}

impl Config {
    /// Reads the file. The types of its values are checked; what they mean together is for [`Config::compile`].
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let source = Source::open(path)
            .map_err(|why| Failure::User(format!("nfv: {:#}", anyhow::Error::from(why))))?;
        let source = Arc::new(source);
        let mut report = Report::new(source.clone());
        let environment = |name: &str| std::env::var(name).ok();
        let file = ChainFile::read(&source, &environment, &function_types(nfs::KINDS), &mut report);
        match file {
            Some(file) => Ok(Self { file, report }),
            None => Err(refuse(&report)),
        }
    }

    /// Builds all functions and chains. EAL runs: rule tables live in its memory. `before`: what runs now, at a reload.
    pub fn compile(
        mut self,
        purpose: Purpose,
        before: Option<&Plan>,
    ) -> Result<(ChainFile, Plan), Failure> {
        match compile(&self.file, nfs::KINDS, purpose, before, &mut self.report) {
            Some(plan) if !self.report.has_errors() => {
                if self.report.warnings() > 0 {
                    eprint!("{}", self.report.render(color()));
                }
                Ok((self.file, plan))
            }
            _ => Err(refuse(&self.report)),
        }
    }
}

fn refuse(report: &Report) -> Failure {
    Failure::User(report.render(color()))
}

fn color() -> Color {
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stderr().is_terminal();
    if plain { Color::Never } else { Color::Always }
}

/// EAL's options where no device and no huge page is wanted.
pub fn small_eal() -> Vec<String> {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    options.map(str::to_owned).into()
}
