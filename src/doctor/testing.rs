//! Machines for the tests of the checks: trees of files in a temporary directory.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::finding::{Finding, Severity};
use super::machine::{Capability, Machine};
use super::{Ask, EalArgs};

/// A machine that a test makes; at first root's, and otherwise empty.
pub(super) struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let tree = Self { directory };
        let all = "CapEff:\tffffffffffffffff\nCpus_allowed_list:\t0-3";
        tree.file("proc/self/status", &format!("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n{all}"));
        tree.file("sys/devices/system/cpu/online", "0-3");
        tree
    }

    pub fn machine(&self) -> Machine {
        Machine::at(self.directory.path())
    }

    pub fn file(&self, path: &str, text: &str) -> &Self {
        fs::write(self.prepare(path), text).expect("the test's file can be written");
        self
    }

    pub fn directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.directory.path().join(path)).expect("a directory can be made");
        self
    }

    /// Makes `path` a link whose target ends with `name`, as those of `/sys` do.
    pub fn link(&self, path: &str, name: &str) -> &Self {
        symlink(format!("../../somewhere/{name}"), self.prepare(path)).expect("a link can be made");
        self
    }

    pub fn remove(&self, path: &str) -> &Self {
        fs::remove_file(self.directory.path().join(path)).expect("the test made this file");
        self
    }

    pub fn user(&self, uid: u32, capabilities: &[Capability]) -> &Self {
        let bits = capabilities.iter().fold(0u64, |bits, c| bits | 1 << (*c as u32));
        let who = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}");
        let status = format!("{who}\nCapEff:\t{bits:016x}\nCpus_allowed_list:\t0-3");
        self.file("proc/self/status", &status)
    }

    /// Huge pages of 2 MiB on node 0, and their mount at `/dev/hugepages`.
    pub fn huge_pages(&self, total: u64, free: u64) -> &Self {
        self.huge_pages_unmounted(total, free);
        self.directory("dev/hugepages");
        self.file("proc/mounts", "none /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0")
    }

    pub fn huge_pages_unmounted(&self, total: u64, free: u64) -> &Self {
        let of = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
        for base in ["sys/kernel/mm/hugepages/hugepages-2048kB", of] {
            self.file(&format!("{base}/nr_hugepages"), &format!("{total}\n"));
            self.file(&format!("{base}/free_hugepages"), &format!("{free}\n"));
        }
        self
    }

    /// A network device on PCI, of a vendor and device such as `8086:154c`.
    pub fn pci(&self, address: &str, id: &str, driver: Option<&str>) -> &Self {
        let base = format!("sys/bus/pci/devices/{address}");
        let (vendor, device) = id.split_once(':').expect("an id has two parts");
        self.file(&format!("{base}/vendor"), &format!("0x{vendor}"));
        self.file(&format!("{base}/device"), &format!("0x{device}"));
        self.file(&format!("{base}/class"), "0x020000");
        if let Some(driver) = driver {
            self.link(&format!("{base}/driver"), driver);
            self.directory(&format!("sys/bus/pci/drivers/{driver}"));
        }
        self
    }

    /// An IOMMU group of devices, with its file for users.
    pub fn iommu_group(&self, group: &str, devices: &[&str]) -> &Self {
        for address in devices {
            self.directory(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"));
            self.link(&format!("sys/bus/pci/devices/{address}/iommu_group"), group);
        }
        self.file("dev/vfio/vfio", "").file(&format!("dev/vfio/{group}"), "")
    }

    /// Interfaces that are up, the last ones added to those before.
    pub fn interface(&self, name: &str, flags: &str) -> &Self {
        let known = fs::read_to_string(self.directory.path().join("proc/net/dev"));
        let known = known.unwrap_or_else(|_| "Inter-|\n face |\n".to_owned());
        self.file("proc/net/dev", &format!("{known}  {name}: 0 0\n"));
        self.file(&format!("sys/class/net/{name}/flags"), flags);
        self.file(&format!("sys/class/net/{name}/carrier"), "1")
    }

    fn prepare(&self, path: &str) -> PathBuf {
        let path = self.directory.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory can be made");
        }
        path
    }
}

/// What a run with these EAL options and devices asks for; the ports are called p0, p1 and so on.
pub(super) fn ask(eal: &[&str], devices: &[&str]) -> Ask {
    let named = devices.iter().enumerate().map(|(at, d)| (format!("p{at}"), (*d).to_owned()));
    Ask { eal: EalArgs::read(eal), devices: named.collect() }
}

/// The one finding whose text has `part` in it.
pub(super) fn one<'f>(findings: &'f [Finding], part: &str) -> &'f Finding {
    let mut with = findings.iter().filter(|f| f.found.contains(part) || f.why.contains(part));
    match (with.next(), with.next()) {
        (Some(finding), None) => finding,
        (None, _) => panic!("no finding says {part:?}: {findings:#?}"),
        (Some(_), Some(_)) => panic!("two findings say {part:?}: {findings:#?}"),
    }
}

/// Asserts that nothing is worse than a note.
pub(super) fn assert_fine(findings: &[Finding]) {
    let worse: Vec<_> = findings.iter().filter(|f| f.severity > Severity::Note).collect();
    assert!(worse.is_empty(), "{worse:#?}");
}
