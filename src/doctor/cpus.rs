//! CPUs: those that EAL is told to use, against those that this process may have.
//!
//! Three sets, each within the next: the affinity of this process, the cpuset of its cgroup, the
//! CPUs that are online. EAL can leave its affinity, but not the cpuset: only what is outside of
//! that stops a run (`Cannot set affinity`).
use super::finding::{Finding, Severity};
use super::machine::Machine;
use super::{Ask, cgroup};
use crate::eal_args::{AsSet, Lcore, read_set};

/// How lcores lie on the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// CPUs that this process may have, ascending.
    pub room: Vec<u32>,
    /// CPUs on which workers run, ascending.
    pub workers: Vec<u32>,
    online: Vec<u32>,
    cpuset: Option<Vec<u32>>,
    lcores: Vec<Lcore>,
    main: Option<u32>,
    worker_ids: Vec<u32>,
}

impl Layout {
    pub fn read(machine: &Machine, ask: &Ask) -> Self {
        let set = |text: Option<String>| text.and_then(|text| read_set(&text)).unwrap_or_default();
        let online = set(machine.text("/sys/devices/system/cpu/online"));
        let affinity = set(machine.field("/proc/self/status", "Cpus_allowed_list"));
        let cpuset = cgroup::cpus(machine);
        let affinity = if affinity.is_empty() { online.clone() } else { affinity };
        let lcores = ask.eal.lcores.clone().unwrap_or_else(|| {
            affinity.iter().map(|cpu| Lcore { id: *cpu, cpus: vec![*cpu] }).collect()
        });
        let main = ask.eal.main_lcore.or_else(|| lcores.first().map(|lcore| lcore.id));
        let is_worker =
            |lcore: &&Lcore| Some(lcore.id) != main && !ask.eal.service.contains(&lcore.id);
        let mut workers: Vec<u32> =
            lcores.iter().filter(is_worker).flat_map(|lcore| lcore.cpus.clone()).collect();
        workers.sort_unstable();
        workers.dedup();
        let worker_ids = lcores.iter().filter(is_worker).map(|lcore| lcore.id).collect();
        let room = cpuset.clone().unwrap_or(affinity);
        Self { room, workers, online, cpuset, lcores, main, worker_ids }
    }

    /// The CPUs of all lcores, ascending.
    fn asked(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.lcores.iter().flat_map(|lcore| lcore.cpus.clone()).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }

    /// The option that gives as many lcores as were asked for, as far as there is room.
    fn fitting(&self) -> String {
        match self.room.as_slice() {
            [] => "nfv run -l 0-1 ...".to_owned(),
            [only] => format!("nfv run --lcores '(0-1)@{only}' ..."),
            room => {
                let count = self.asked().len().clamp(2, room.len());
                format!("nfv run -l {} ...", AsSet(&room[..count]))
            }
        }
    }
}

/// What is to be said of the lcores.
pub(super) fn examine(ask: &Ask, layout: &Layout) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (option, value) in &ask.eal.unread {
        let found = format!("{option} {value} cannot be read");
        let why = "EAL will say whether it is right; what depends on it is not checked here";
        findings.push(Finding::new(Severity::Warning, "EAL options", found).because(why));
    }
    if !layout.online.is_empty() {
        findings.extend(outside(layout));
    }
    if let Some(main) = ask.eal.main_lcore
        && !layout.lcores.iter().any(|lcore| lcore.id == main)
    {
        let found = format!("--main-lcore={main} is none of the lcores");
        let ids: Vec<u32> = layout.lcores.iter().map(|lcore| lcore.id).collect();
        let fix = ids.first().map(|id| format!("nfv run --main-lcore={id} ..."));
        let finding = Finding::new(Severity::Problem, SUBJECT, found);
        findings.push(finding.because(format!("they are {}", AsSet(&ids))).fix(fix));
    }
    if let Some(lcore) = layout.lcores.iter().find(|lcore| lcore.id >= LCORES_MAX) {
        let found = format!("lcore {} is beyond what DPDK is usually built for", lcore.id);
        let cpus = AsSet(&lcore.cpus);
        let why =
            format!("Debian's has {LCORES_MAX} lcores; --lcores gives any CPU a small number");
        let fix =
            format!("nfv run --lcores '0@{},1@{cpus}' ...", layout.room.first().unwrap_or(&0));
        findings.push(Finding::new(Severity::Warning, SUBJECT, found).because(why).fix([fix]));
    }
    if layout.worker_ids.is_empty() && !layout.lcores.is_empty() {
        let found = match layout.room.len() {
            0 | 1 => "there is one CPU, and no worker beside the control",
            _ => "there is one lcore, and no worker beside the control",
        };
        let why = "the main lcore controls and moves no packets; workers take an lcore each";
        let finding = Finding::new(Severity::Problem, SUBJECT, found).because(why);
        findings.push(finding.fix([layout.fitting()]).mistake());
    } else if layout.lcores.len() > layout.asked().len() {
        let found =
            format!("{} lcores share the CPUs {}", layout.lcores.len(), AsSet(&layout.asked()));
        let why = "workers never wait: lcores on one CPU only take turns";
        findings.push(Finding::new(Severity::Note, SUBJECT, found).because(why));
    }
    if findings.is_empty() {
        findings.push(Finding::new(Severity::Ok, SUBJECT, describe(layout)));
    }
    findings
}

fn outside(layout: &Layout) -> Option<Finding> {
    let asked = layout.asked();
    let not_in = |set: &[u32]| {
        let cpus: Vec<u32> = asked.iter().copied().filter(|cpu| !set.contains(cpu)).collect();
        (!cpus.is_empty()).then_some(cpus)
    };
    let room = AsSet(&layout.room);
    let say = |severity, found: String, why: &str| {
        Some(Finding::new(severity, SUBJECT, found).because(why).fix([layout.fitting()]).mistake())
    };
    if let Some(cpus) = not_in(&layout.online) {
        let found =
            format!("there is no CPU {}; there are {}", AsSet(&cpus), AsSet(&layout.online));
        return say(Severity::Problem, found, "EAL refuses an lcore whose CPU is not online");
    }
    let cpus = not_in(&layout.room)?;
    let found = format!("CPU {} is not for this process; {room} are", AsSet(&cpus));
    match layout.cpuset {
        Some(_) => say(
            Severity::Problem,
            found,
            "the cpuset of its cgroup or container has no others: EAL cannot set the affinity",
        ),
        None => say(
            Severity::Warning,
            found,
            "its affinity was narrowed (taskset, a service); EAL may be able to leave it",
        ),
    }
}

fn describe(layout: &Layout) -> String {
    let room = format!("{} for this process", AsSet(&layout.room));
    let main = layout.main.unwrap_or(0);
    let plural = if layout.worker_ids.len() == 1 { "worker" } else { "workers" };
    let workers = AsSet(&layout.worker_ids);
    format!("{room}: lcore {main} controls, {} {plural} on {workers}", layout.worker_ids.len())
}

pub(super) const SUBJECT: &str = "cpus";
/// `RTE_MAX_LCORE` of Debian's DPDK.
const LCORES_MAX: u32 = 128;

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, ask, assert_fine, one};
    use super::*;

    fn examined(tree: &Tree, eal: &[&str]) -> Vec<Finding> {
        let ask = ask(eal, &[]);
        examine(&ask, &Layout::read(&tree.machine(), &ask))
    }

    fn in_cpuset(cpus: &str) -> Tree {
        let tree = Tree::new();
        tree.file("proc/self/cgroup", "0::/").file("sys/fs/cgroup/cpuset.cpus.effective", cpus);
        tree
    }

    #[test]
    fn lcores_within_the_room_are_fine() {
        assert_fine(&examined(&Tree::new(), &["-l", "0-3"]));
        let findings = examined(&Tree::new(), &[]);
        assert_eq!(findings[0].found, "0-3 for this process: lcore 0 controls, 3 workers on 1-3");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_answered_with_a_list_that_fits() {
        let findings = examined(&Tree::new(), &["-l", "2-5"]);
        let finding = one(&findings, "there is no CPU 4-5; there are 0-3");
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(finding.fix, ["nfv run -l 0-3 ..."]);
    }

    #[test]
    fn the_cpuset_decides() {
        let findings = examined(&in_cpuset("2-3"), &["-l", "0-1"]);
        let finding = one(&findings, "CPU 0-1 is not for this process; 2-3 are");
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(finding.fix, ["nfv run -l 2-3 ..."]);
        assert_fine(&examined(&in_cpuset("2-3"), &["-l", "2-3"]));
    }

    #[test]
    fn a_narrow_affinity_is_a_doubt_and_no_more() {
        let tree = Tree::new();
        tree.file("proc/self/status", "Cpus_allowed_list:\t0-1");
        let findings = examined(&tree, &["-l", "0-3"]);
        assert_eq!(one(&findings, "CPU 2-3").severity, Severity::Warning);
    }

    #[test]
    fn one_cpu_carries_two_lcores() {
        let findings = examined(&in_cpuset("5"), &["-l", "5"]);
        assert_eq!(one(&findings, "one CPU").fix, ["nfv run --lcores '(0-1)@5' ..."]);
        let findings = examined(&in_cpuset("5"), &["--lcores", "(0-1)@5"]);
        assert_eq!(one(&findings, "share").severity, Severity::Note);
    }

    #[test]
    fn one_lcore_of_many_cpus_leaves_no_worker() {
        let findings = examined(&Tree::new(), &["-l", "3"]);
        assert_eq!(one(&findings, "one lcore").fix, ["nfv run -l 0-1 ..."]);
    }

    #[test]
    fn service_lcores_are_no_workers() {
        let layout = Layout::read(&Tree::new().machine(), &ask(&["-l", "0-3", "-S", "3"], &[]));
        assert_eq!(layout.workers, [1, 2]);
    }

    #[test]
    fn the_main_lcore_must_be_one() {
        let findings = examined(&Tree::new(), &["-l", "1-2", "--main-lcore=0"]);
        assert_eq!(one(&findings, "--main-lcore=0").severity, Severity::Problem);
        assert_fine(&examined(&Tree::new(), &["-l", "1-2", "--main-lcore=2"]));
    }

    #[test]
    fn numbers_beyond_the_build_of_dpdk_are_mapped() {
        let tree = Tree::new();
        tree.file("sys/devices/system/cpu/online", "0-255");
        tree.file("proc/self/status", "Cpus_allowed_list:\t0-255");
        let findings = examined(&tree, &["-l", "0,200"]);
        let finding = one(&findings, "lcore 200");
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.fix, ["nfv run --lcores '0@0,1@200' ..."]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_left_to_eal() {
        let findings = examined(&Tree::new(), &["-l", "0-x"]);
        assert_eq!(one(&findings, "-l 0-x cannot be read").severity, Severity::Warning);
    }
}
