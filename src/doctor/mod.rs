//! `nfv doctor`: looks at the machine before EAL does, and says what is wrong, why, and the command
//! that mends it.
//!
//! EAL reports a machine that is not ready by a number, late, or not at all: a port that its kernel
//! driver still has is just not there. So the same questions are asked first, of the same files.
//! The rule throughout: only what is certain to stop a run is a problem; a doubt is a warning, and a
//! run goes on. Checks do not change anything.
//!
//! ```text
//! EAL options, devices ---> Ask      +--> hugepages stale instance     --+
//!                            |       +--> devices pci iommu vf vdevs     +--> Finding, printed
//! /proc /sys /dev -----> Machine ----+--> cpus tuning numa limits links --+
//! ```
mod cgroup;
mod cpus;
mod devices;
mod finding;
mod hugepages;
mod instance;
mod iommu;
mod limits;
mod links;
mod machine;
mod numa;
mod pci;
mod stale;
#[cfg(test)]
mod testing;
mod tuning;
mod vdevs;
mod vf;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

pub use finding::{Color, Finding, Severity, print};
pub use machine::Machine;

use nfv_core::chain::port::PortSpec;

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::eal_args::EalArgs;
use crate::emulated::emulated;
use crate::failure::Failure;
use cpus::Layout;
use devices::Wanted;
use hugepages::{ENOUGH_MIB, HugePages};
use pci::{Needs, PciDevice};

/// What a run asks of the machine.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The EAL options.
    pub eal: EalArgs,
    /// The ports of the chain file: name, and device.
    pub devices: Vec<(String, String)>,
}

impl Ask {
    /// What a run with these EAL options and ports asks.
    pub fn new<'p>(eal: &[String], ports: impl IntoIterator<Item = &'p PortSpec>) -> Self {
        // An emulated NIC asks nothing of the machine but its wire.
        let device = |port: &PortSpec| match emulated(port) {
            Some(emulated) => emulated.wire,
            None => Some(port.device.value.clone()),
        };
        let named = |port: &PortSpec| Some((port.name.value.clone(), device(port)?));
        Self { eal: EalArgs::read(eal), devices: ports.into_iter().filter_map(named).collect() }
    }
}

/// What `nfv run` knows before EAL starts.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// All findings, by subject.
    pub findings: Vec<Finding>,
    /// Which memory to take.
    pub huge: HugeChoice,
    /// Whether a run cannot start: one of the findings is a problem.
    pub fatal: bool,
}

/// Which memory a run is to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HugeChoice {
    /// Huge pages, as EAL does without a word.
    Use,
    /// Ordinary pages: give EAL `--no-huge`, unless its options have it already.
    NoHuge {
        /// The reason, for the log.
        why: String,
    },
}

/// Runs `nfv doctor`: prints all findings, and with which memory a run would go.
///
/// Returns 0 when a run can start, and 1 when it cannot or the findings cannot be written.
/// # Errors
/// Those of a chain file with mistakes.
pub fn command(eal: &[String], args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let file = args.config.as_deref().map(Config::read).transpose()?;
    let ports = file.iter().flat_map(|config| &config.file.ports);
    let ask = Ask::new(eal, ports);
    let Preflight { findings, huge, fatal } = preflight(&Machine::here(), &ask);
    let mut out = io::stdout().lock();
    let color = color(out.is_terminal());
    print(&findings, &mut out, color)?;
    if let (HugeChoice::NoHuge { why }, false) = (huge, fatal) {
        writeln!(out, "it takes ordinary pages: {why}")?;
    }
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Colours are for terminals that have them, unless their user wants none.
fn color(terminal: bool) -> Color {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if terminal && !unwanted && !dumb { Color::Terminal } else { Color::Plain }
}

/// Checks all that a run needs, and chooses its memory. `nfv run` asks this before EAL starts.
///
/// Only a certain problem is fatal. What cannot be read is taken to be right.
pub fn preflight(machine: &Machine, ask: &Ask) -> Preflight {
    let pages = HugePages::read(machine);
    let wanted = devices::wanted(ask);
    let layout = Layout::read(machine, ask);
    let needs_huge = needs_huge_pages(machine, &wanted);
    let huge = choose(ask, &pages, needs_huge);

    let mut findings = limits::examine(machine, ask, &wanted, &pages);
    findings.extend(cpus::examine(ask, &layout));
    findings.extend(tuning::examine(machine, &layout));
    if ask.eal.no_huge {
        findings.push(ordinary_pages());
    } else {
        let lack = if needs_huge { Severity::Problem } else { Severity::Warning };
        findings.extend(hugepages::examine(machine, ask, &pages, lack));
    }
    findings.extend(instance::examine(machine, ask));
    findings.extend(devices::examine(machine, ask, &wanted));
    findings.extend(numa::examine(machine, &wanted, &pages, &layout.workers, &layout.room));
    let fatal = findings.iter().any(|finding| finding.severity == Severity::Problem);
    Preflight { findings, huge, fatal }
}

/// Whether a port of the chain file is on PCI, with a driver that wants huge pages.
fn needs_huge_pages(machine: &Machine, wanted: &[Wanted]) -> bool {
    let ports = wanted.iter().filter(|wanted| wanted.cannot == Severity::Problem);
    let devices = ports.filter_map(|port| PciDevice::read(machine, &port.pci_address()?));
    devices.into_iter().any(|device| device.needs() == Needs::Userspace)
}

fn choose(ask: &Ask, pages: &HugePages, needs_huge: bool) -> HugeChoice {
    let usable = pages.usable_mib(ask);
    let no_huge = |why: &str| HugeChoice::NoHuge { why: why.to_owned() };
    let reserved = pages.sizes.iter().any(|size| size.total > 0);
    match usable {
        _ if ask.eal.no_huge => no_huge("--no-huge was given"),
        _ if needs_huge => HugeChoice::Use,
        ENOUGH_MIB.. => HugeChoice::Use,
        0 if !reserved => no_huge("no huge pages are reserved"),
        0 => no_huge("the reserved huge pages are not mounted, not writable or all in use"),
        few => no_huge(&format!("only {few} MiB of huge pages can be had")),
    }
}

fn ordinary_pages() -> Finding {
    let found = "not used: --no-huge was given";
    Finding::new(Severity::Note, "huge pages", found).because("ordinary pages are slower")
}

#[cfg(test)]
mod tests {
    use super::testing::{Tree, ask, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.0";

    fn preflight(tree: &Tree, eal: &[&str], devices: &[&str]) -> Preflight {
        super::preflight(&tree.machine(), &ask(eal, devices))
    }

    fn why(huge: HugeChoice) -> String {
        match huge {
            HugeChoice::Use => String::new(),
            HugeChoice::NoHuge { why } => why,
        }
    }

    #[test]
    fn a_machine_that_is_ready_has_nothing_to_mend() {
        let tree = Tree::new();
        tree.huge_pages(512, 512).file("sys/devices/system/cpu/isolated", "1-3");
        tree.pci(VF, "8086:154c", Some("vfio-pci")).iommu_group("7", &[VF]);
        let flight = preflight(&tree, &["-l", "0-3"], &[VF]);
        assert_fine(&flight.findings);
        assert_eq!((flight.huge, flight.fatal), (HugeChoice::Use, false));
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_stops_no_run() {
        let flight = preflight(&Tree::new(), &[], &["net_null0", "net_pcap0,rx_pcap=in.pcap"]);
        assert!(!flight.fatal, "{:#?}", flight.findings);
    }

    #[test]
    fn without_huge_pages_virtual_devices_go_on_with_ordinary_ones() {
        let tree = Tree::new();
        tree.huge_pages(0, 0);
        let flight = preflight(&tree, &[], &["net_null0"]);
        assert!(!flight.fatal);
        assert_eq!(why(flight.huge), "no huge pages are reserved");
        tree.huge_pages(512, 4);
        assert!(why(preflight(&tree, &[], &["net_null0"]).huge).contains("only 8 MiB"));
        tree.huge_pages(512, 512);
        assert_eq!(preflight(&tree, &[], &["net_null0"]).huge, HugeChoice::Use);
    }

    #[test]
    fn without_huge_pages_a_pci_port_cannot_start() {
        let tree = Tree::new();
        tree.huge_pages(0, 0);
        tree.pci(VF, "8086:154c", Some("vfio-pci")).iommu_group("7", &[VF]);
        let flight = preflight(&tree, &[], &[VF]);
        assert!(flight.fatal);
        assert_eq!(flight.huge, HugeChoice::Use);
        assert_eq!(one(&flight.findings, "none are reserved").severity, Severity::Problem);
        // Whoever says so gets it.
        assert!(!preflight(&tree, &["--no-huge"], &[VF]).fatal);
    }

    #[test]
    fn what_only_options_name_asks_for_no_huge_pages() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).iommu_group("7", &[VF]);
        assert!(!preflight(&tree, &["-a", VF], &["net_null0"]).fatal);
    }

    #[test]
    fn no_huge_is_obeyed() {
        let tree = Tree::new();
        tree.huge_pages(512, 512);
        assert_eq!(why(preflight(&tree, &["--no-huge"], &[]).huge), "--no-huge was given");
    }
}
