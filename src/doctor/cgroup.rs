//! What the control group of this process lets it have: CPUs and huge pages.
//!
//! In a container these limits are the machine. Version 1 has a hierarchy for each controller,
//! version 2 has one; a limit of a parent holds for its children.
use super::machine::Machine;
use crate::eal_args::read_set;

/// The CPUs of the cpuset, ascending; none when there is no cpuset to be seen.
///
/// It is more than the affinity of this process, which EAL may widen up to the cpuset.
pub(super) fn cpus(machine: &Machine) -> Option<Vec<u32>> {
    let files = [
        ("cpuset", "cpuset.effective_cpus"),
        ("cpuset", "cpuset.cpus"),
        ("", "cpuset.cpus.effective"),
    ];
    files.iter().find_map(|(controller, file)| {
        // The nearest group that says something; on version 2 a group without the controller says
        // nothing.
        directories(machine, controller)
            .iter()
            .find_map(|directory| read_set(&machine.text(&format!("{directory}/{file}"))?))
    })
}

/// The huge pages of a size, in KiB, that this process may have, in bytes; none without a limit.
pub(super) fn huge_page_limit(machine: &Machine, kib: u64) -> Option<u64> {
    let size = match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    };
    let files = [
        ("hugetlb", format!("hugetlb.{size}.limit_in_bytes")),
        ("", format!("hugetlb.{size}.max")),
    ];
    let limits = files.iter().flat_map(|(controller, file)| {
        let directories = directories(machine, controller).into_iter();
        directories.filter_map(move |directory| machine.number(&format!("{directory}/{file}")))
    });
    // Version 1 writes no limit as the greatest number of pages that it can count.
    limits.filter(|limit: &u64| *limit < UNLIMITED).min()
}

/// The directories of this process's group and of its parents, nearest first. `controller` is empty
/// for version 2.
fn directories(machine: &Machine, controller: &str) -> Vec<String> {
    let text = machine.text("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let base = match controller {
        "" => ROOT.to_owned(),
        name => format!("{ROOT}/{name}"),
    };
    let mut path = path.unwrap_or("").trim_end_matches('/');
    let mut directories = vec![format!("{base}{path}")];
    while let Some((parent, _)) = path.rsplit_once('/') {
        path = parent;
        directories.push(format!("{base}{path}"));
    }
    directories
}

const ROOT: &str = "/sys/fs/cgroup";
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn version_2_gives_the_nearest_cpuset() {
        let tree = Tree::new();
        assert_eq!(cpus(&tree.machine()), None);
        tree.file("proc/self/cgroup", "0::/a/b");
        tree.file("sys/fs/cgroup/cpuset.cpus.effective", "0-7");
        tree.file("sys/fs/cgroup/a/cpuset.cpus.effective", "2-3");
        assert_eq!(cpus(&tree.machine()), Some(vec![2, 3]));
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let tree = Tree::new();
        tree.file("proc/self/cgroup", "4:memory:/x\n3:cpuset:/box\n0::/");
        tree.file("sys/fs/cgroup/cpuset/box/cpuset.cpus", "1");
        assert_eq!(cpus(&tree.machine()), Some(vec![1]));
    }

    #[test]
    fn the_lowest_limit_of_the_parents_holds() {
        let tree = Tree::new();
        tree.file("proc/self/cgroup", "0::/a/b");
        tree.file("sys/fs/cgroup/a/hugetlb.1GB.max", "1073741824");
        tree.file("sys/fs/cgroup/a/b/hugetlb.1GB.max", "max");
        assert_eq!(huge_page_limit(&tree.machine(), 1 << 20), Some(1 << 30));
        assert_eq!(huge_page_limit(&tree.machine(), 2048), None);
    }
}
