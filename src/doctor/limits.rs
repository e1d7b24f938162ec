//! What this user may do: capabilities, locked memory, and what a container leaves of them.
use super::Ask;
use super::devices::Wanted;
use super::finding::{Finding, Severity};
use super::hugepages::HugePages;
use super::machine::{Capability, Machine};
use super::pci::{Needs, PciDevice};

/// What is to be said of the user's rights.
pub(super) fn examine(
    machine: &Machine,
    ask: &Ask,
    wanted: &[Wanted],
    pages: &HugePages,
) -> Vec<Finding> {
    let mut findings = vec![who(machine)];
    findings.extend(physical_addresses(machine, ask));
    let devices = wanted.iter().filter_map(|wanted| wanted.pci_address());
    let devices: Vec<PciDevice> =
        devices.filter_map(|address| PciDevice::read(machine, &address)).collect();
    if devices.iter().any(|device| device.needs() == Needs::Userspace) {
        findings.extend(locked_memory(machine, pages));
    }
    if devices.iter().any(|device| device.needs() != Needs::Userspace) {
        findings.extend(raw_for_verbs(machine));
    }
    findings
}

/// The commands that give this program capabilities.
pub(super) fn grant(machine: &Machine, capabilities: &[Capability]) -> Vec<String> {
    let names: Vec<&str> = capabilities.iter().map(|capability| capability.name()).collect();
    let bare = |name: &str| name.trim_start_matches("cap_").to_uppercase();
    match machine.container() {
        Some("kubernetes") => {
            let list: Vec<String> = names.iter().map(|name| bare(name)).collect();
            vec![format!("# securityContext: {{capabilities: {{add: [{}]}}}}", list.join(", "))]
        }
        Some(_) => {
            let list: Vec<String> =
                names.iter().map(|name| format!(" --cap-add {}", bare(name))).collect();
            vec![format!("docker run{} ...", list.concat())]
        }
        None => vec![format!("sudo setcap {}+ep \"$(command -v nfv)\"", names.join(","))],
    }
}

fn who(machine: &Machine) -> Finding {
    let user = machine.user();
    let known = [
        Capability::NetAdmin,
        Capability::NetRaw,
        Capability::IpcLock,
        Capability::SysRawio,
        Capability::SysAdmin,
    ];
    let has: Vec<&str> = known.iter().filter(|c| user.has(**c)).map(|c| c.name()).collect();
    let rights = match has.len() {
        0 => "no capability that DPDK uses".to_owned(),
        all if all == known.len() => "all capabilities that DPDK uses".to_owned(),
        _ => has.join(" "),
    };
    let name = if user.uid == 0 { "root".to_owned() } else { format!("uid {}", user.uid) };
    let place = match machine.container() {
        Some("container") => ", in a container",
        Some("docker") => ", in a container of docker",
        Some(_) => ", in a pod of kubernetes",
        None if machine.is_virtual() => ", in a VM",
        None => "",
    };
    Finding::new(Severity::Ok, "user", format!("{name}, {rights}{place}"))
}

/// `--iova-mode=pa` reads physical addresses, which the kernel shows to few.
fn physical_addresses(machine: &Machine, ask: &Ask) -> Option<Finding> {
    let asked = ask.eal.iova_mode.as_deref() == Some("pa");
    if !asked || machine.user().has(Capability::SysAdmin) {
        return None;
    }
    let found = "--iova-mode=pa needs CAP_SYS_ADMIN, which this user lacks";
    let why = "physical addresses are hidden from others; with an IOMMU `va` needs none";
    let fix = ["nfv run --iova-mode=va ...".to_owned()].into_iter();
    let fix = fix.chain(grant(machine, &[Capability::SysAdmin]));
    Some(Finding::new(Severity::Problem, "user", found).because(why).fix(fix))
}

/// vfio locks the memory that a device may reach.
fn locked_memory(machine: &Machine, pages: &HugePages) -> Option<Finding> {
    if machine.user().has(Capability::IpcLock) {
        return None;
    }
    let limits = machine.text("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    // `unlimited` is no number, and no limit.
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let kib = pages.sizes.iter().map(|size| size.total.saturating_mul(size.kib));
    let wanted = kib.fold(0u64, u64::saturating_add).max(LOCKED_MIN_KIB);
    if limit / 1024 >= wanted {
        return None;
    }
    let found = format!("locked memory is limited to {} MiB", limit >> 20);
    let why = format!("vfio locks what a device may reach, up to {} MiB here", wanted / 1024);
    let fix = match machine.container() {
        Some("kubernetes") => grant(machine, &[Capability::IpcLock]),
        Some(_) => vec!["docker run --ulimit memlock=-1 ...".to_owned()],
        None => vec!["sudo prlimit --pid $$ --memlock=unlimited   # of this shell".to_owned()],
    };
    Some(Finding::new(Severity::Warning, "user", found).because(why).fix(fix))
}

/// Verbs gives raw packet queues only to those who may have packet sockets.
fn raw_for_verbs(machine: &Machine) -> Option<Finding> {
    if machine.user().has(Capability::NetRaw) {
        return None;
    }
    let found = "raw packet queues of mlx5 need CAP_NET_RAW, which this user lacks";
    let finding = Finding::new(Severity::Warning, "user", found);
    Some(finding.fix(grant(machine, &[Capability::NetRaw])))
}

/// What a small run locks when huge pages do not say.
const LOCKED_MIN_KIB: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::super::testing::{Tree, ask, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.0";
    const LIMIT: &str = "Max locked memory         8388608              8388608              bytes";

    fn examined(tree: &Tree, eal: &[&str], device: &[&str]) -> Vec<Finding> {
        let (machine, ask) = (tree.machine(), ask(eal, device));
        examine(&machine, &ask, &devices::wanted(&ask), &HugePages::read(&machine))
    }

    #[test]
    fn root_has_all_it_takes() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).file("proc/self/limits", LIMIT);
        assert_fine(&examined(&tree, &["--iova-mode=pa"], &[VF]));
        assert_eq!(examined(&tree, &[], &[VF])[0].found, "root, all capabilities that DPDK uses");
    }

    #[test]
    fn locked_memory_matters_for_vfio_only() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).file("proc/self/limits", LIMIT);
        tree.user(4242, &[]);
        let findings = examined(&tree, &[], &[VF]);
        assert_eq!(one(&findings, "limited to 8 MiB").severity, Severity::Warning);
        assert_fine(&examined(&tree, &[], &["net_null0"]));
        tree.file("proc/self/limits", "Max locked memory         unlimited  unlimited  bytes");
        assert_fine(&examined(&tree, &[], &[VF]));
    }

    #[test]
    fn in_a_container_the_fix_is_for_the_container() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).file("proc/self/limits", LIMIT);
        tree.user(4242, &[]).file(".dockerenv", "");
        let findings = examined(&tree, &[], &[VF]);
        assert_eq!(one(&findings, "limited to").fix, ["docker run --ulimit memlock=-1 ..."]);
        let raw = [Capability::NetRaw];
        assert_eq!(grant(&tree.machine(), &raw), ["docker run --cap-add NET_RAW ..."]);
    }

    #[test]
    fn physical_addresses_are_for_few() {
        let tree = Tree::new();
        tree.user(4242, &[]);
        let findings = examined(&tree, &["--iova-mode=pa"], &[]);
        assert_eq!(one(&findings, "--iova-mode=pa needs").severity, Severity::Problem);
        assert_fine(&examined(&tree, &["--iova-mode=va"], &[]));
    }

    #[test]
    fn verbs_need_raw_sockets() {
        let tree = Tree::new();
        tree.pci(VF, "15b3:101e", Some("mlx5_core")).user(4242, &[]);
        one(&examined(&tree, &[], &[VF]), "need CAP_NET_RAW");
        tree.user(4242, &[Capability::NetRaw]);
        assert_fine(&examined(&tree, &[], &[VF]));
    }
}
