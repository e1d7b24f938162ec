//! What makes the CPUs of workers slower or less even than they could be: notes, all of them.
use std::collections::HashMap;

use super::cpus::Layout;
use super::finding::{Finding, Severity};
use super::machine::Machine;
use crate::eal_args::{AsSet, read_set};

/// What is to be said of the CPUs of workers.
pub(super) fn examine(machine: &Machine, layout: &Layout) -> Vec<Finding> {
    let checks = [not_isolated, sharing_cores, slow_governor];
    checks.iter().filter_map(|check| check(machine, layout)).collect()
}

fn not_isolated(machine: &Machine, layout: &Layout) -> Option<Finding> {
    let isolated = machine.text(&format!("{CPUS}/isolated"))?;
    let isolated = read_set(&isolated).unwrap_or_default();
    let open = those(&layout.workers, |cpu| !isolated.contains(&cpu));
    // With so few CPUs the kernel needs each of them.
    if open.is_empty() || layout.room.len() < WORTH_ISOLATING || machine.container().is_some() {
        return None;
    }
    let list = AsSet(&open);
    let finding = note(format!("the CPUs of workers {list} are not isolated"));
    let why = "the kernel runs other threads there, for milliseconds at a time";
    let words = format!("isolcpus={list} nohz_full={list} rcu_nocbs={list}");
    Some(finding.because(why).fix(machine.kernel_line_commands(&words)))
}

fn sharing_cores(machine: &Machine, layout: &Layout) -> Option<Finding> {
    let core = |cpu: u32| {
        let path = format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list");
        read_set(&machine.text(&path)?)?.first().copied()
    };
    let mut workers_on: HashMap<u32, u32> = HashMap::new();
    for cpu in &layout.workers {
        *workers_on.entry(core(*cpu)?).or_default() += 1;
    }
    let pairs = those(&layout.workers, |cpu| core(cpu).is_some_and(|core| workers_on[&core] > 1));
    if pairs.is_empty() {
        return None;
    }
    let finding = note(format!("workers on {} share cores by hyper-threading", AsSet(&pairs)));
    let finding = finding.because("two threads of a core do the work of one and a quarter");
    // The first thread of each core, one for control and the others for workers.
    let firsts = those(&layout.room, |cpu| core(cpu) == Some(cpu));
    match firsts.get(..=layout.workers.len()) {
        Some(list) => Some(finding.fix([format!("nfv run -l {} ...", AsSet(list))])),
        None => Some(finding),
    }
}

fn slow_governor(machine: &Machine, layout: &Layout) -> Option<Finding> {
    let governor = |cpu| machine.text(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor"));
    let slow = those(&layout.workers, |cpu| governor(cpu).is_some_and(|g| g != "performance"));
    let name = governor(*slow.first()?)?;
    let finding = note(format!("the frequency governor of {} is {name}", AsSet(&slow)));
    let why = "it lowers the clock as it sees fit, and takes time to raise it";
    let files = format!("{CPUS}/cpu*/cpufreq/scaling_governor");
    let command = match machine.user().uid {
        0 => format!("echo performance | tee {files}"),
        _ => format!("echo performance | sudo tee {files}"),
    };
    Some(finding.because(why).fix([command]))
}

fn those(cpus: &[u32], wanted: impl Fn(u32) -> bool) -> Vec<u32> {
    cpus.iter().copied().filter(|cpu| wanted(*cpu)).collect()
}

fn note(found: String) -> Finding {
    Finding::new(Severity::Note, super::cpus::SUBJECT, found)
}

const CPUS: &str = "/sys/devices/system/cpu";
const WORTH_ISOLATING: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, ask, one};
    use super::*;

    fn examined(tree: &Tree) -> Vec<Finding> {
        let machine = tree.machine();
        examine(&machine, &Layout::read(&machine, &ask(&["-l", "0-2"], &[])))
    }

    #[test]
    fn isolated_cpus_are_fine_and_others_are_noted() {
        let tree = Tree::new();
        tree.file("sys/devices/system/cpu/isolated", "1-3");
        assert_eq!(examined(&tree), []);
        tree.file("sys/devices/system/cpu/isolated", "2\n");
        tree.file("etc/default/grub", "");
        let findings = examined(&tree);
        assert!(one(&findings, "workers 1 are not").fix[0].contains("isolcpus=1 nohz_full=1"));
        tree.file("sys/devices/system/cpu/isolated", "\n");
        one(&examined(&tree), "workers 1-2 are not isolated");
    }

    #[test]
    fn workers_on_one_core_are_told_of_free_ones() {
        let tree = Tree::new();
        tree.file("sys/devices/system/cpu/online", "0-7");
        tree.file("proc/self/status", "Cpus_allowed_list:\t0-7");
        let pair = |cpu: u32, list: &str| {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            tree.file(&path, list);
        };
        for cpu in 0..8 {
            pair(cpu, &format!("{cpu}"));
        }
        assert_eq!(examined(&tree), []);
        for cpu in [1, 2] {
            pair(cpu, "1-2");
        }
        let findings = examined(&tree);
        assert_eq!(one(&findings, "hyper-threading").fix, ["nfv run -l 0-1,3 ..."]);
    }

    #[test]
    fn a_governor_that_saves_power_is_noted() {
        let tree = Tree::new();
        let path = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
        tree.file(path, "performance");
        assert_eq!(examined(&tree), []);
        tree.file(path, "schedutil");
        one(&examined(&tree), "governor of 1 is schedutil");
    }
}
