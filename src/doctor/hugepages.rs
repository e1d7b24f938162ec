//! Huge pages: how many there are, on which node, and whether a process may have them.
//!
//! EAL needs three things of them: free pages, a mounted hugetlbfs that it may write (but for
//! `--in-memory`), and, in a container, a cgroup that lets it. Each missing one looks the same from
//! inside EAL (`Cannot get hugepage information`, or error 12 much later, at the first mempool).
use super::finding::{Finding, Severity};
use super::machine::Machine;
use super::stale::{self, Stale};
use super::{Ask, cgroup};

/// The huge pages of the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct HugePages {
    /// By size, largest first.
    pub sizes: Vec<Size>,
    /// Where files can be made of them.
    pub mounts: Vec<Mount>,
    /// Files that no process uses.
    pub stale: Vec<Stale>,
}

/// The huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Size of a page, in KiB.
    pub kib: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages that a process can have.
    pub free: u64,
    /// Pages of each NUMA node: node, total, free.
    pub nodes: Vec<(u32, u64, u64)>,
    /// What the cgroup lets this process have, in bytes.
    pub limit: Option<u64>,
}

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its directory.
    pub at: String,
    /// Size of its pages, in KiB.
    pub kib: u64,
    /// Whether this user may make files in it.
    pub writable: bool,
}

impl HugePages {
    pub fn read(machine: &Machine) -> Self {
        let mounts = read_mounts(machine);
        let stale = stale::find(machine, &mounts);
        Self { sizes: read_sizes(machine), mounts, stale }
    }

    /// MiB that a run could have: free pages, and those that EAL frees at its start.
    pub fn usable_mib(&self, ask: &Ask) -> u64 {
        let kib = self.sizes.iter().map(|size| self.usable_kib(size, ask));
        kib.fold(0, u64::saturating_add) / 1024
    }

    fn usable_kib(&self, size: &Size, ask: &Ask) -> u64 {
        if !ask.eal.in_memory && self.place(size, ask).is_none() {
            return 0;
        }
        let freed = self.stale.iter().filter(|s| s.kib == size.kib && s.removable);
        let freed = freed.map(|s| s.bytes / 1024).fold(0, u64::saturating_add);
        let kib = size.free.saturating_mul(size.kib).saturating_add(freed);
        size.limit.map_or(kib, |limit| kib.min(limit / 1024))
    }

    /// The mount in which EAL would make its files for pages of this size.
    fn place(&self, size: &Size, ask: &Ask) -> Option<&Mount> {
        let wanted = |mount: &Mount| match ask.eal.huge_dir.as_deref() {
            None => true,
            Some(dir) => {
                let inside = dir.strip_prefix(mount.at.trim_end_matches('/'));
                inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        self.mounts.iter().find(|m| m.kib == size.kib && m.writable && wanted(m))
    }
}

/// What is to be said of huge pages. `lack` is how much it matters that there are none.
pub(super) fn examine(
    machine: &Machine,
    ask: &Ask,
    pages: &HugePages,
    lack: Severity,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let usable = pages.usable_mib(ask);
    let reserved: Vec<&Size> = pages.sizes.iter().filter(|size| size.total > 0).collect();
    if reserved.is_empty() {
        findings.push(none_reserved(machine, pages, lack));
    }
    for size in &reserved {
        let found = format!("{} of {}", describe(size), name(size.kib));
        let severity = if size.free > 0 { Severity::Ok } else { Severity::Note };
        findings.push(Finding::new(severity, SUBJECT, found));
        if let Some(limit) =
            size.limit.filter(|limit| *limit / 1024 < size.free.saturating_mul(size.kib))
        {
            findings.push(limited(machine, size, limit));
        }
    }
    // One mount that works is enough, of whichever size.
    let placed = |size: &&Size| ask.eal.in_memory || pages.place(size, ask).is_some();
    if !reserved.is_empty() && !reserved.iter().any(placed) {
        findings.push(no_place(machine, ask, pages, reserved[0], lack));
    }
    let demand = ask.eal.memory_at_start();
    if !reserved.is_empty() && reserved.iter().any(placed) {
        if demand > usable {
            let option = if ask.eal.memory.is_some() { "-m" } else { "--socket-mem" };
            let found = format!("{option} asks for {demand} MiB; {usable} MiB can be had");
            let asked = Finding::new(Severity::Problem, SUBJECT, found)
                .because("EAL takes this memory before anything else, or does not start");
            findings.push(asked.fix(reserve(machine, reserved[0], demand)));
        } else if usable < ENOUGH_MIB {
            let found = format!("{usable} MiB can be had, less than a few ports need");
            let few = Finding::new(lack.min(Severity::Warning), SUBJECT, found)
                .because("pools of packets fail with `Cannot allocate memory`");
            findings.push(few.fix(reserve(machine, reserved[0], RESERVE_MIB)));
        }
    }
    findings.extend(pages.stale.iter().map(|stale| stale.finding(machine)));
    findings
}

/// `512 pages, 500 free`, and where they are when the machine has nodes.
fn describe(size: &Size) -> String {
    let Size { total, free, nodes, .. } = size;
    let each = nodes.iter().map(|(node, total, free)| format!("node {node}: {free} of {total}"));
    match nodes.len() {
        0 | 1 => format!("{free} of {total} free"),
        _ => format!("{free} of {total} free ({})", each.collect::<Vec<_>>().join(", ")),
    }
}

/// The name of a page size: `2 MiB`.
pub(super) fn name(kib: u64) -> String {
    match kib {
        kib if kib % (1 << 20) == 0 => format!("{} GiB", kib >> 20),
        kib if kib % 1024 == 0 => format!("{} MiB", kib / 1024),
        kib => format!("{kib} KiB"),
    }
}

fn none_reserved(machine: &Machine, pages: &HugePages, lack: Severity) -> Finding {
    let why = match lack {
        Severity::Problem => "PCI devices reach memory by physical pages that must not move",
        _ => {
            "ports of the kernel go on with ordinary pages (--no-huge), slower; PCI devices cannot"
        }
    };
    let finding = Finding::new(lack, SUBJECT, "none are reserved").because(why);
    // The smallest size can be reserved while the machine runs; the larger ones seldom.
    let Some(size) = pages.sizes.iter().min_by_key(|size| size.kib) else {
        return finding.because("this kernel has no huge pages (CONFIG_HUGETLBFS)");
    };
    let mounted = pages.mounts.iter().any(|mount| mount.kib == size.kib && mount.writable);
    let mount = (!mounted).then(|| mount_command(machine, size.kib));
    finding.fix(reserve(machine, size, RESERVE_MIB).into_iter().chain(mount.into_iter().flatten()))
}

fn no_place(
    machine: &Machine,
    ask: &Ask,
    pages: &HugePages,
    size: &Size,
    lack: Severity,
) -> Finding {
    let finding = |found: String| Finding::new(lack, SUBJECT, found);
    if let Some(dir) = &ask.eal.huge_dir {
        let fix = pages.mounts.iter().filter(|mount| mount.writable);
        let fix = fix.map(|mount| format!("nfv run --huge-dir={} ...", mount.at)).take(1);
        return finding(format!("--huge-dir={dir} is in no hugetlbfs that can be used"))
            .because("EAL looks for pages nowhere else")
            .fix(fix);
    }
    if let Some(mount) = pages.mounts.iter().find(|mount| mount.kib == size.kib) {
        let why = "hugetlbfs belongs to root; EAL makes a file for each page that it takes";
        let user = machine.user();
        let group = user.groups.first().copied().unwrap_or(user.uid);
        return finding(format!("this user may not write {}", mount.at)).because(why).fix([
            format!("sudo chown {}:{group} {}", user.uid, mount.at),
            "# or give EAL the option --in-memory, which makes no files".to_owned(),
        ]);
    }
    let why = match machine.container() {
        Some(_) => "a container sees the host's only when they are mounted into it",
        None => "EAL makes a file for each page that it takes, in a mounted hugetlbfs",
    };
    let fix = match machine.container() {
        Some("kubernetes") => vec!["# mount an emptyDir with medium: HugePages".to_owned()],
        Some(_) => vec!["docker run -v /dev/hugepages:/dev/hugepages ...".to_owned()],
        None => mount_command(machine, size.kib),
    };
    finding("reserved, but not mounted".to_owned()).because(why).fix(fix)
}

fn limited(machine: &Machine, size: &Size, limit: u64) -> Finding {
    let found = format!("the cgroup allows {} MiB in pages of {}", limit >> 20, name(size.kib));
    let why = "a page beyond that kills the process with a bus error";
    let fix = match machine.container() {
        Some("kubernetes") => {
            format!("# set resources.limits of the pod: hugepages-{}Mi: 1Gi", size.kib / 1024)
        }
        _ => "# raise hugetlb.*.max of the cgroup, from outside".to_owned(),
    };
    let severity = if limit == 0 { Severity::Warning } else { Severity::Note };
    Finding::new(severity, SUBJECT, found).because(why).fix([fix])
}

/// Reserves pages of a size until a run has `mib`, or what the machine can spare.
fn reserve(machine: &Machine, size: &Size, mib: u64) -> Vec<String> {
    let available = machine.field("/proc/meminfo", "MemAvailable");
    let available = available.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    let spare = available.map_or(u64::MAX, |kib| kib / 2);
    let more = mib.saturating_mul(1024).min(spare).div_ceil(size.kib).max(1);
    let pages = size.total.saturating_sub(size.free).saturating_add(more);
    let directory = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size.kib);
    vec![machine.write_command(pages, &format!("{directory}/nr_hugepages"))]
}

fn mount_command(machine: &Machine, kib: u64) -> Vec<String> {
    let at = match kib == default_kib(machine) {
        true => "/dev/hugepages".to_owned(),
        false => format!("/dev/hugepages-{}M", kib / 1024),
    };
    let mut commands = Vec::new();
    if !machine.exists(&at) {
        commands.push(machine.as_root(format!("mkdir -p {at}")));
    }
    let mount = format!("mount -t hugetlbfs -o pagesize={}M nodev {at}", kib / 1024);
    commands.push(machine.as_root(mount));
    commands
}

fn read_sizes(machine: &Machine) -> Vec<Size> {
    let mut sizes: Vec<Size> = Vec::new();
    for directory in machine.names(SIZES) {
        let Some(kib) = kib_of(&directory) else { continue };
        let count = |base: &str, which| {
            machine.number::<u64>(&format!("{base}/{directory}/{which}_hugepages")).unwrap_or(0)
        };
        let nodes = super::numa::nodes(machine).into_iter().map(|node| {
            let base = format!("/sys/devices/system/node/node{node}/hugepages");
            (node, count(&base, "nr"), count(&base, "free"))
        });
        // As EAL counts: without what others have reserved, with what the kernel adds on demand.
        let overcommit = count(SIZES, "nr_overcommit").saturating_sub(count(SIZES, "surplus"));
        let free = count(SIZES, "free").saturating_sub(count(SIZES, "resv"));
        let free = free.saturating_add(overcommit);
        let total = count(SIZES, "nr").saturating_add(overcommit);
        let limit = cgroup::huge_page_limit(machine, kib);
        sizes.push(Size { kib, total, free, nodes: nodes.collect(), limit });
    }
    sizes.sort_by_key(|size| std::cmp::Reverse(size.kib));
    sizes
}

/// The size in the name of a directory, `hugepages-2048kB`, in KiB.
fn kib_of(directory: &str) -> Option<u64> {
    let kib = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    (kib > 0).then_some(kib)
}

fn read_mounts(machine: &Machine) -> Vec<Mount> {
    let user = machine.user();
    let default = default_kib(machine);
    let text = machine.text("/proc/mounts").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (at, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
        if kind != "hugetlbfs" {
            return None;
        }
        let mut options = options.split(',');
        let writable = options.clone().next() != Some("ro")
            && machine.permits(&user, at, WRITE_AND_SEARCH) == Some(true);
        let size = options.find_map(|option| option.strip_prefix("pagesize="));
        let kib = size.and_then(read_size).unwrap_or(default);
        Some(Mount { at: at.to_owned(), kib, writable })
    });
    mounts.collect()
}

/// A size of a mount option, `2M`, in KiB.
fn read_size(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()?;
    match unit.to_ascii_uppercase() {
        'K' => Some(number),
        'M' => number.checked_mul(1 << 10),
        'G' => number.checked_mul(1 << 20),
        _ => Some(number / 1024),
    }
}

fn default_kib(machine: &Machine) -> u64 {
    let field = machine.field("/proc/meminfo", "Hugepagesize");
    field.and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(2048)
}

/// Below this a run does not get far: the pools of two ports with the usual descriptors.
pub(super) const ENOUGH_MIB: u64 = 64;
/// What to reserve when nothing is said: some ten ports.
const RESERVE_MIB: u64 = 1024;
const SUBJECT: &str = "huge pages";
const SIZES: &str = "/sys/kernel/mm/hugepages";
const WRITE_AND_SEARCH: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, ask, assert_fine, one};
    use super::*;

    fn examined(tree: &Tree, eal: &[&str]) -> Vec<Finding> {
        let machine = tree.machine();
        let pages = HugePages::read(&machine);
        examine(&machine, &ask(eal, &[]), &pages, Severity::Warning)
    }

    fn usable(tree: &Tree, eal: &[&str]) -> u64 {
        HugePages::read(&tree.machine()).usable_mib(&ask(eal, &[]))
    }

    #[test]
    fn reserved_and_mounted_pages_are_fine() {
        let tree = Tree::new();
        tree.huge_pages(512, 500);
        assert_fine(&examined(&tree, &[]));
        assert_eq!(one(&examined(&tree, &[]), "free").found, "500 of 512 free of 2 MiB");
        assert_eq!(usable(&tree, &[]), 1000);
    }

    #[test]
    fn without_pages_two_commands_reserve_and_mount_them() {
        let tree = Tree::new();
        tree.huge_pages_unmounted(0, 0).directory("dev/hugepages");
        let findings = examined(&tree, &[]);
        let expected = [
            "echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages",
        ];
        assert_eq!(one(&findings, "none are reserved").fix, expected);
    }

    #[test]
    fn no_more_is_reserved_than_half_of_the_memory() {
        let tree = Tree::new();
        tree.huge_pages(0, 0).file("proc/meminfo", "MemAvailable:   409600 kB");
        let findings = examined(&tree, &[]);
        assert!(one(&findings, "none are").fix[0].starts_with("echo 100 > "));
    }

    #[test]
    fn pages_without_a_mount_are_of_use_in_memory_only() {
        let tree = Tree::new();
        tree.huge_pages_unmounted(512, 512);
        let findings = examined(&tree, &[]);
        let finding = one(&findings, "not mounted");
        assert_eq!(finding.fix[0], "mkdir -p /dev/hugepages");
        assert_eq!(usable(&tree, &[]), 0);
        assert_fine(&examined(&tree, &["--in-memory"]));
        assert_eq!(usable(&tree, &["--in-memory"]), 1024);
    }

    #[test]
    fn pages_on_demand_count_and_those_reserved_by_others_do_not() {
        let tree = Tree::new();
        tree.huge_pages(100, 100);
        let base = "sys/kernel/mm/hugepages/hugepages-2048kB";
        tree.file(&format!("{base}/resv_hugepages"), "40");
        assert_eq!(usable(&tree, &[]), 120);
        tree.file(&format!("{base}/nr_overcommit_hugepages"), "50");
        tree.file(&format!("{base}/surplus_hugepages"), "10");
        assert_eq!(usable(&tree, &[]), 200);
    }

    #[test]
    fn a_mount_of_root_is_of_no_use_to_others() {
        let tree = Tree::new();
        tree.huge_pages(512, 512).user(4242, &[]);
        let findings = examined(&tree, &[]);
        let finding = one(&findings, "may not write /dev/hugepages");
        assert_eq!(finding.fix[0], "sudo chown 4242:4242 /dev/hugepages");
        assert_eq!(usable(&tree, &[]), 0);
    }

    #[test]
    fn a_mount_that_is_read_only_is_of_no_use() {
        let tree = Tree::new();
        tree.huge_pages(512, 512);
        tree.file("proc/mounts", "none /dev/hugepages hugetlbfs ro,pagesize=2M 0 0");
        assert_eq!(usable(&tree, &[]), 0);
    }

    #[test]
    fn the_huge_dir_must_be_a_mount() {
        let tree = Tree::new();
        tree.huge_pages(512, 512);
        let findings = examined(&tree, &["--huge-dir=/mnt/huge"]);
        let fix = &one(&findings, "--huge-dir=/mnt/huge").fix;
        assert_eq!(fix, &["nfv run --huge-dir=/dev/hugepages ..."]);
        assert_fine(&examined(&tree, &["--huge-dir=/dev/hugepages"]));
        assert_fine(&examined(&tree, &["--huge-dir=/dev/hugepages/nfv"]));
        assert_eq!(usable(&tree, &["--huge-dir=/dev/hugepages2"]), 0);
    }

    #[test]
    fn memory_asked_for_and_not_there_is_a_problem() {
        let tree = Tree::new();
        tree.huge_pages(512, 256);
        let findings = examined(&tree, &["-m", "1024"]);
        let finding = one(&findings, "-m asks for 1024 MiB; 512 MiB can be had");
        assert_eq!(finding.severity, Severity::Problem);
        // 256 are in use, 512 more make 1024 MiB.
        assert!(finding.fix[0].starts_with("echo 768 > "));
        assert_fine(&examined(&tree, &["-m", "512"]));
    }

    #[test]
    fn a_few_pages_are_not_enough() {
        let tree = Tree::new();
        tree.huge_pages(512, 4);
        let findings = examined(&tree, &[]);
        assert_eq!(one(&findings, "8 MiB can be had").severity, Severity::Warning);
    }

    #[test]
    fn the_limit_of_the_cgroup_is_the_limit() {
        let tree = Tree::new();
        tree.huge_pages(512, 512).file("proc/self/cgroup", "0::/pod");
        tree.file("sys/fs/cgroup/pod/hugetlb.2MB.max", "max");
        assert_eq!(usable(&tree, &[]), 1024);
        tree.file("sys/fs/cgroup/pod/hugetlb.2MB.max", "134217728");
        assert_eq!(usable(&tree, &[]), 128);
        assert!(one(&examined(&tree, &[]), "allows 128 MiB").why.contains("bus error"));
    }

    #[test]
    fn nonsense_in_the_files_is_no_panic() {
        let tree = Tree::new();
        tree.file("sys/kernel/mm/hugepages/hugepages-0kB/nr_hugepages", "5");
        tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "x");
        for size in ["4kB", "8kB"] {
            let base = format!("sys/kernel/mm/hugepages/hugepages-{size}");
            tree.file(&format!("{base}/free_hugepages"), &u64::MAX.to_string());
        }
        tree.file("proc/mounts", "a\n\nhugetlbfs hugetlbfs hugetlbfs\nn /x hugetlbfs pagesize=é 0");
        assert_eq!(usable(&tree, &[]), 0);
        examined(&tree, &["-m", "18446744073709551615"]);
    }
}
