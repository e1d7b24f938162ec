//! The machine as its `/proc`, `/sys` and `/dev` tell it, or a tree of files that a test made.
//!
//! All facts come from files. So each check can be shown a machine that nobody has at hand, and
//! neither unsafe code nor a call into the kernel is needed. What cannot be read is not known, and
//! what is not known is never a reason to stop a run.
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Where facts are read from.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    runtime: Option<String>,
}

/// Who runs this process, and what the kernel lets it do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The effective user.
    pub uid: u32,
    /// The effective group, and the others.
    pub groups: Vec<u32>,
    capabilities: u64,
}

/// A capability of `capabilities(7)` that a run may need; its value is the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_DAC_OVERRIDE`: files of others.
    DacOverride = 1,
    /// `CAP_NET_ADMIN`: taps, and interfaces.
    NetAdmin = 12,
    /// `CAP_NET_RAW`: packet sockets.
    NetRaw = 13,
    /// `CAP_IPC_LOCK`: locked memory without a limit.
    IpcLock = 14,
    /// `CAP_SYS_RAWIO`: a device without an IOMMU.
    SysRawio = 17,
    /// `CAP_SYS_ADMIN`: physical addresses, and much else.
    SysAdmin = 21,
}

impl Machine {
    /// The machine on which this runs.
    pub fn here() -> Self {
        Self { root: PathBuf::from("/"), runtime: std::env::var("XDG_RUNTIME_DIR").ok() }
    }

    /// A machine whose files lie under `root`.
    #[cfg(test)]
    pub fn at(root: &std::path::Path) -> Self {
        Self { root: root.to_owned(), runtime: None }
    }

    /// Where `path`, an absolute one, really lies.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file without blanks at its ends, at most 4 MiB of it.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path(path)).ok()?;
        file.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number in a file, decimal.
    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The value behind `key` in a file of `Key: value` lines.
    pub fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// Whether there is such a file, directory or device.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a directory, sorted; none when it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let names = entries.take(NAMES_MAX).map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    /// The last part of what a symbolic link points to: in `/sys`, the name of a driver or a device.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The device and inode of a file as `/proc/locks` and `/proc/PID/maps` write them: `fd:00`, `12`.
    pub fn inode(&self, path: &str) -> Option<(String, u64)> {
        let meta = fs::metadata(self.path(path)).ok()?;
        let dev = meta.dev();
        let major = (dev >> 8 & 0xfff) | (dev >> 32 & !0xfff);
        let minor = (dev & 0xff) | (dev >> 12 & !0xff);
        Some((format!("{major:02x}:{minor:02x}"), meta.ino()))
    }

    /// The bytes that a file claims.
    pub fn size(&self, path: &str) -> u64 {
        fs::metadata(self.path(path)).map_or(0, |meta| meta.len())
    }

    /// Whether `user` may do to a file what `bits` say, of read 4, write 2 and execute 1; none when
    /// the file cannot be seen.
    pub fn permits(&self, user: &User, path: &str, bits: u32) -> Option<bool> {
        let meta = fs::metadata(self.path(path)).ok()?;
        let shift = match () {
            () if user.has(Capability::DacOverride) => return Some(true),
            () if meta.uid() == user.uid => 6,
            () if user.groups.contains(&meta.gid()) => 3,
            () => 0,
        };
        Some(meta.mode() >> shift & bits == bits)
    }

    /// Who runs this process. With nothing known it is root, who lacks nothing.
    pub fn user(&self) -> User {
        let field = |key| self.field("/proc/self/status", key);
        let effective = |key| field(key)?.split_whitespace().nth(1)?.parse().ok();
        let capabilities = field("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
        let others = field("Groups").unwrap_or_default();
        let groups = effective("Gid").into_iter();
        // The root of a user namespace of its own is root over its network, and not over the machine.
        let reach = match self.text("/proc/self/uid_map") {
            Some(map) if !map.split_whitespace().eq(["0", "0", "4294967295"]) => {
                1 << Capability::NetAdmin as u32 | 1 << Capability::NetRaw as u32
            }
            _ => u64::MAX,
        };
        User {
            uid: effective("Uid").unwrap_or(0),
            groups: groups.chain(others.split_whitespace().flat_map(str::parse)).collect(),
            capabilities: capabilities.unwrap_or(u64::MAX) & reach,
        }
    }

    /// The directory in which EAL keeps what `prefix` shares among processes, as EAL picks it.
    pub fn runtime_directory(&self, prefix: &str) -> String {
        let base = match &self.runtime {
            _ if self.user().uid == 0 => "/var/run",
            Some(directory) => directory,
            None => "/tmp",
        };
        format!("{base}/dpdk/{prefix}")
    }

    /// A command that only root may give, as this user has to give it.
    pub fn as_root(&self, command: impl AsRef<str>) -> String {
        let command = command.as_ref();
        if self.user().uid == 0 { command.to_owned() } else { format!("sudo {command}") }
    }

    /// The command that writes `value` to a file of root.
    pub fn write_command(&self, value: impl std::fmt::Display, path: &str) -> String {
        match self.user().uid {
            0 => format!("echo {value} > {path}"),
            _ => format!("echo {value} | sudo tee {path}"),
        }
    }

    /// The commands that add `words` to the kernel's command line, for its next start.
    pub fn kernel_line_commands(&self, words: &str) -> Vec<String> {
        if !self.exists("/etc/default/grub") {
            return vec![format!("# add to the kernel's command line, and reboot: {words}")];
        }
        let edit = format!(r#"sed -i 's/^GRUB_CMDLINE_LINUX="/&{words} /' /etc/default/grub"#);
        vec![self.as_root(edit), format!("{}   # then reboot", self.as_root("update-grub"))]
    }

    /// Whether this is a virtual machine.
    pub fn is_virtual(&self) -> bool {
        let flags = || self.text("/proc/cpuinfo").unwrap_or_default();
        let hypervisor = |line: &str| {
            line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor")
        };
        let product = || self.text("/sys/class/dmi/id/product_name").unwrap_or_default();
        let is_product = |name: String| VIRTUAL_PRODUCTS.iter().any(|p| name.starts_with(p));
        self.exists("/sys/hypervisor/type")
            || flags().lines().any(hypervisor)
            || is_product(product())
    }

    /// The name of the container in which this runs: `docker`, `kubernetes` or just `container`.
    ///
    /// The image of a container may be that of a whole machine; there the namespaces are the first.
    pub fn container(&self) -> Option<&'static str> {
        let first = |of: &str, inode| {
            self.link_name(&format!("/proc/self/ns/{of}")).as_deref() == Some(inode)
        };
        if first("pid", FIRST_PID_NAMESPACE) && first("cgroup", FIRST_CGROUP_NAMESPACE) {
            return None;
        }
        let cgroup = self.text("/proc/1/cgroup").unwrap_or_default();
        let says = |words: &[&str]| words.iter().any(|word| cgroup.contains(word));
        let kubernetes = "/var/run/secrets/kubernetes.io";
        match () {
            () if says(&["kubepods"]) || self.exists(kubernetes) => Some("kubernetes"),
            () if says(&["docker"]) || self.exists("/.dockerenv") => Some("docker"),
            () if says(&["/lxc", "containerd", "libpod"]) => Some("container"),
            () if self.exists("/run/.containerenv") => Some("container"),
            () => None,
        }
    }
}

impl User {
    /// Whether the kernel grants it `capability`.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities >> (capability as u32) & 1 == 1
    }
}

impl Capability {
    /// Its name as commands write it: `cap_net_raw`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "cap_dac_override",
            Self::NetAdmin => "cap_net_admin",
            Self::NetRaw => "cap_net_raw",
            Self::IpcLock => "cap_ipc_lock",
            Self::SysRawio => "cap_sys_rawio",
            Self::SysAdmin => "cap_sys_admin",
        }
    }
}

/// Most bytes read of a file: `/proc/PID/maps` of a big process has some hundred KiB.
const TEXT_MAX: u64 = 4 << 20;

/// Most names read of a directory: more huge pages than that are not listed one by one.
const NAMES_MAX: usize = 1 << 17;

/// `PROC_PID_INIT_INO` and `PROC_CGROUP_INIT_INO` of the kernel, fixed since 3.8 and 4.6.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Beginnings of what virtual machines call themselves, for CPUs that have no flag for it.
const VIRTUAL_PRODUCTS: &[&str] =
    &["KVM", "VMware", "VirtualBox", "Standard PC", "QEMU", "Virtual Machine", "HVM domU"];

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn a_user_is_read_with_groups_and_capabilities() {
        let tree = Tree::new();
        let text = "Uid:\t9\t1000\t9\t9\nGid:\t9\t7\t9\t9\nGroups:\t4 5\nCapEff:\t0000000000002000";
        tree.file("proc/self/status", text);
        let user = tree.machine().user();
        assert_eq!((user.uid, user.groups.as_slice()), (1000, &[7, 4, 5][..]));
        assert!(user.has(Capability::NetRaw));
        assert!(!user.has(Capability::NetAdmin));
    }

    #[test]
    fn the_root_of_a_user_namespace_has_a_network_and_no_machine() {
        let tree = Tree::new();
        tree.file("proc/self/uid_map", "         0       1000          1\n");
        let user = tree.machine().user();
        assert!(user.has(Capability::NetRaw) && user.has(Capability::NetAdmin));
        assert!(!user.has(Capability::DacOverride) && !user.has(Capability::IpcLock));
    }

    #[test]
    fn commands_of_another_user_go_through_sudo() {
        let tree = Tree::new();
        assert_eq!(tree.machine().as_root("modprobe vfio-pci"), "modprobe vfio-pci");
        assert_eq!(tree.machine().write_command(4, "/sys/x"), "echo 4 > /sys/x");
        tree.user(1000, &[]);
        assert_eq!(tree.machine().as_root("modprobe vfio-pci"), "sudo modprobe vfio-pci");
        assert_eq!(tree.machine().write_command(4, "/sys/x"), "echo 4 | sudo tee /sys/x");
    }

    #[test]
    fn a_virtual_machine_is_known_by_its_cpu_or_its_maker() {
        let tree = Tree::new();
        assert!(!tree.machine().is_virtual());
        tree.file("proc/cpuinfo", "model name : hypervisor\nflags\t: fpu sse2");
        assert!(!tree.machine().is_virtual());
        tree.file("proc/cpuinfo", "flags\t: fpu hypervisor sse2");
        assert!(tree.machine().is_virtual());
        let arm = Tree::new();
        arm.file("sys/class/dmi/id/product_name", "KVM Virtual Machine");
        assert!(arm.machine().is_virtual());
    }

    #[test]
    fn a_container_is_known_by_its_cgroup_or_its_marker() {
        let tree = Tree::new();
        tree.file("proc/1/cgroup", "0::/init.scope");
        assert_eq!(tree.machine().container(), None);
        tree.file("proc/1/cgroup", "0::/kubepods.slice/pod1");
        assert_eq!(tree.machine().container(), Some("kubernetes"));
        let docker = Tree::new();
        docker.file(".dockerenv", "");
        assert_eq!(docker.machine().container(), Some("docker"));
        docker.link("proc/self/ns/pid", "pid:[4026531836]");
        assert_eq!(docker.machine().container(), Some("docker"));
        docker.link("proc/self/ns/cgroup", "cgroup:[4026531835]");
        assert_eq!(docker.machine().container(), None);
    }

    #[test]
    fn a_file_of_root_is_not_for_others_to_write() {
        let tree = Tree::new();
        tree.directory("dev/hugepages");
        let may = |tree: &Tree| {
            let machine = tree.machine();
            machine.permits(&machine.user(), "/dev/hugepages", 2)
        };
        assert_eq!(may(&tree), Some(true));
        tree.user(4242, &[]);
        assert_eq!(may(&tree), Some(false));
        tree.user(4242, &[Capability::DacOverride]);
        assert_eq!(may(&tree), Some(true));
        assert_eq!(tree.machine().permits(&tree.machine().user(), "/dev/none", 2), None);
    }
}
