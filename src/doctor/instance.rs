//! A second instance beside the first: two primary processes need two file prefixes.
//!
//! Without `--file-prefix` each run takes one of its own, and this cannot happen.
use super::Ask;
use super::finding::{Finding, Severity};
use super::machine::Machine;
use super::stale::locked_inode;

/// Says whether another process has the configuration of this prefix.
pub(super) fn examine(machine: &Machine, ask: &Ask) -> Option<Finding> {
    let eal = &ask.eal;
    let shares_nothing = eal.in_memory || eal.no_shconf;
    let joins = matches!(eal.proc_type.as_deref(), Some("secondary" | "auto"));
    if shares_nothing || joins {
        return None;
    }
    let prefix = eal.file_prefix.as_deref()?;
    let process = owner(machine, prefix)?;
    let free =
        (2..1000).map(|n| format!("nfv{n}")).find(|prefix| owner(machine, prefix).is_none())?;
    let found = format!("process {process} runs under the file prefix `{prefix}`");
    let why = "two DPDK programs on one machine need two prefixes";
    let finding = Finding::new(Severity::Problem, "instance", found).because(why);
    Some(finding.fix([format!("nfv run --file-prefix={free} ...")]))
}

/// The process that holds the write lock on the configuration of a prefix.
fn owner(machine: &Machine, prefix: &str) -> Option<String> {
    let config = format!("{}/config", machine.runtime_directory(prefix));
    let inode = machine.inode(&config)?;
    let locks = machine.text("/proc/locks")?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let write = words.contains(&"WRITE") && !words.contains(&"->");
        let owner = words.get(4).filter(|_| write && locked_inode(line) == Some(inode.clone()))?;
        Some((*owner).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, ask};
    use super::*;

    fn tree_with_owner(prefix: &str) -> Tree {
        let tree = Tree::new();
        let config = format!("var/run/dpdk/{prefix}/config");
        tree.file(&config, "");
        let inode = tree.machine().inode(&config);
        let (device, inode) = inode.expect("the test made this file");
        tree.file("proc/locks", &format!("1: POSIX  ADVISORY  WRITE 812 {device}:{inode} 0 EOF"));
        tree
    }

    #[test]
    fn a_live_process_with_the_same_prefix_stops_a_run() {
        let tree = tree_with_owner("rte");
        let finding = examine(&tree.machine(), &ask(&["--file-prefix=rte"], &[]));
        let finding = finding.expect("812 lives");
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.found.contains("process 812"));
        assert_eq!(finding.fix, ["nfv run --file-prefix=nfv2 ..."]);
    }

    #[test]
    fn its_own_prefix_or_nothing_shared_lets_it_run() {
        let tree = tree_with_owner("rte");
        for eal in ["--file-prefix=nfv", "--in-memory", "--no-shconf", "--proc-type=secondary"] {
            let asked = ask(&["--file-prefix=rte", eal], &[]);
            assert_eq!(examine(&tree.machine(), &asked), None, "{eal}");
        }
        assert_eq!(examine(&tree.machine(), &ask(&[], &[])), None);
    }

    #[test]
    fn what_a_dead_process_left_stops_nothing() {
        let tree = Tree::new();
        tree.file("var/run/dpdk/rte/config", "");
        let asked = ask(&["--file-prefix=rte"], &[]);
        assert_eq!(examine(&tree.machine(), &asked), None);
        tree.file("proc/locks", "1: POSIX ADVISORY WRITE 812 00:00:1 0 EOF");
        assert_eq!(examine(&tree.machine(), &asked), None);
    }

    #[test]
    fn the_proposed_prefix_is_free() {
        let tree = tree_with_owner("nfv2");
        let finding = examine(&tree.machine(), &ask(&["--file-prefix=nfv2"], &[]));
        assert_eq!(finding.expect("812 lives").fix, ["nfv run --file-prefix=nfv3 ..."]);
    }
}
