//! Files of huge pages that an ended run left behind: they hold their pages until someone removes
//! them.
//!
//! A live process holds a shared `flock` on each of its files, or (with `--legacy-mem`) only maps
//! them; a file with neither is stale. EAL itself removes such files at its start where it may, so
//! what is left is a warning only where it may not.
use std::collections::{BTreeMap, HashSet};

use super::finding::{Finding, Severity};
use super::hugepages::Mount;
use super::machine::Machine;

/// The stale files in one hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    /// The hugetlbfs.
    pub directory: String,
    /// How many there are.
    pub files: usize,
    /// What they hold, in bytes.
    pub bytes: u64,
    /// Size of their pages, in KiB.
    pub kib: u64,
    /// Whether EAL can remove them.
    pub removable: bool,
}

/// Finds the stale files of all mounts.
pub(super) fn find(machine: &Machine, mounts: &[Mount]) -> Vec<Stale> {
    let files: Vec<(&Mount, String)> = mounts
        .iter()
        .flat_map(|mount| machine.names(&mount.at).into_iter().map(move |file| (mount, file)))
        .filter(|(_, file)| is_of_eal(file))
        .collect();
    if files.is_empty() {
        return Vec::new();
    }
    let used = used_inodes(machine);
    let mut found: BTreeMap<&str, Stale> = BTreeMap::new();
    for (mount, file) in files {
        let path = format!("{}/{file}", mount.at);
        if machine.inode(&path).is_none_or(|inode| used.contains(&inode)) {
            continue;
        }
        let stale = found.entry(&mount.at).or_insert_with(|| Stale {
            directory: mount.at.clone(),
            files: 0,
            bytes: 0,
            kib: mount.kib,
            removable: mount.writable,
        });
        stale.files += 1;
        stale.bytes = stale.bytes.saturating_add(machine.size(&path));
    }
    found.into_values().collect()
}

impl Stale {
    pub fn finding(&self, machine: &Machine) -> Finding {
        let Self { directory, files, bytes, removable, .. } = self;
        let plural = if *files == 1 { "file" } else { "files" };
        let found =
            format!("{files} {plural} {directory}/*map_* of ended runs hold {} MiB", bytes >> 20);
        let (severity, why) = match removable {
            true => (Severity::Note, "no process has them open; the next start removes them"),
            false => {
                (Severity::Warning, "no process has them open, and this user may not remove them")
            }
        };
        // `flock` makes sure: a file of a live process, even of another container, stays.
        let each = r#"flock -n "$f" rm "$f""#;
        let remove = format!("for f in {directory}/*map_*; do {}; done", machine.as_root(each));
        Finding::new(severity, "huge pages", found).because(why).fix([remove])
    }
}

/// Whether a file is named as EAL names its own, by prefix and number: `rtemap_12`.
fn is_of_eal(file: &str) -> bool {
    let prefix = file.trim_end_matches(|c: char| c.is_ascii_digit());
    prefix.ends_with("map_") && prefix.len() < file.len()
}

/// The files that are locked, or mapped by a process.
fn used_inodes(machine: &Machine) -> HashSet<(String, u64)> {
    let locks = machine.text("/proc/locks").unwrap_or_default();
    let mut used: HashSet<_> = locks.lines().filter_map(locked_inode).collect();
    let is_number = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    for process in machine.names("/proc").into_iter().filter(is_number) {
        let maps = machine.text(&format!("/proc/{process}/maps")).unwrap_or_default();
        used.extend(maps.lines().filter_map(mapped_inode));
    }
    used
}

/// The file of a line of `/proc/locks`: `1: FLOCK ADVISORY READ 812 00:2d:4711 0 EOF`.
pub(super) fn locked_inode(line: &str) -> Option<(String, u64)> {
    let file = line.split_whitespace().find(|word| word.matches(':').count() == 2)?;
    let (device, inode) = file.rsplit_once(':')?;
    Some((device.to_owned(), inode.parse().ok()?))
}

/// The file of a line of `/proc/PID/maps`: `7f00-7f20 rw-s 00000000 00:2d 4711 /dev/hugepages/x`.
fn mapped_inode(line: &str) -> Option<(String, u64)> {
    let mut words = line.split_whitespace().skip(3);
    let (device, inode) = (words.next()?, words.next()?.parse().ok()?);
    (inode != 0).then(|| (device.to_owned(), inode))
}

#[cfg(test)]
mod tests {
    use super::super::hugepages::HugePages;
    use super::super::testing::{Tree, ask};
    use super::*;

    fn stale(tree: &Tree) -> Vec<Stale> {
        HugePages::read(&tree.machine()).stale
    }

    fn tree_with_files() -> Tree {
        let tree = Tree::new();
        tree.huge_pages(512, 0);
        for file in ["rtemap_0", "rtemap_17", "othermap_3", "notes", "map_", "rtemap_x"] {
            tree.file(&format!("dev/hugepages/{file}"), "x");
        }
        tree
    }

    #[test]
    fn files_that_nobody_holds_are_stale() {
        let found = stale(&tree_with_files());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].files, 3);
        assert_eq!(stale(Tree::new().huge_pages(512, 512)), []);
    }

    #[test]
    fn a_lock_or_a_mapping_keeps_a_file_alive() {
        let tree = tree_with_files();
        let inode = |file: &str| {
            let inode = tree.machine().inode(&format!("/dev/hugepages/{file}"));
            inode.expect("the test made this file")
        };
        let (device, locked) = inode("othermap_3");
        tree.file("proc/locks", &format!("1: FLOCK  ADVISORY  READ 8 {device}:{locked} 0 EOF"));
        assert_eq!(stale(&tree)[0].files, 2);
        let (device, mapped) = inode("rtemap_17");
        tree.file("proc/77/maps", &format!("7f0-7f2 rw-s 000 {device} {mapped}  /dev/hugepages/r"));
        assert_eq!(stale(&tree)[0].files, 1);
    }

    #[test]
    fn the_command_removes_only_what_is_not_locked() {
        let tree = tree_with_files();
        let finding = stale(&tree)[0].finding(&tree.machine());
        assert_eq!(finding.severity, Severity::Note);
        let expected = r#"for f in /dev/hugepages/*map_*; do flock -n "$f" rm "$f"; done"#;
        assert_eq!(finding.fix, [expected]);
    }

    #[test]
    fn files_of_another_user_are_a_warning() {
        let tree = tree_with_files();
        tree.user(4242, &[]);
        assert_eq!(stale(&tree)[0].finding(&tree.machine()).severity, Severity::Warning);
    }

    #[test]
    fn pages_that_the_next_start_frees_count_as_usable() {
        let tree = Tree::new();
        tree.huge_pages(512, 0).file("dev/hugepages/rtemap_0", &"x".repeat(3 << 20));
        let machine = tree.machine();
        assert_eq!(HugePages::read(&machine).usable_mib(&ask(&[], &[])), 3);
    }
}
