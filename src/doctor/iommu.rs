//! vfio and the IOMMU: whether a device can be reached, and whether it can reach only what it may.
use super::finding::{Finding, Severity};
use super::limits;
use super::machine::{Capability, Machine};
use super::pci::{self, PciDevice};

/// What stands between vfio and a device that is bound to it, or will be.
pub(super) fn examine(
    machine: &Machine,
    subject: &str,
    device: &PciDevice,
    cannot: Severity,
) -> Vec<Finding> {
    match device.driver.as_deref() {
        Some("igb_uio" | "uio_pci_generic") => vec![without_iommu(subject, device)],
        Some("vfio-pci") => examine_bound(machine, subject, device, cannot),
        _ if has_iommu(machine) => Vec::new(),
        _ => vec![no_iommu(machine, subject)],
    }
}

/// Whether the kernel put any device into a group of an IOMMU.
fn has_iommu(machine: &Machine) -> bool {
    machine.names(GROUPS).iter().any(|group| !is_group_without_iommu(machine, group))
}

/// vfio makes groups of its own for devices without an IOMMU, and names them so.
fn is_group_without_iommu(machine: &Machine, group: &str) -> bool {
    machine.text(&format!("{GROUPS}/{group}/name")).as_deref() == Some("vfio-noiommu")
}

fn examine_bound(
    machine: &Machine,
    subject: &str,
    device: &PciDevice,
    cannot: Severity,
) -> Vec<Finding> {
    let address = &device.address;
    let Some(group) = machine.link_name(&format!("{}/iommu_group", pci::directory(address))) else {
        return vec![no_iommu(machine, subject)];
    };
    let unguarded = is_group_without_iommu(machine, &group);
    let mut findings = Vec::new();
    if unguarded {
        findings.push(without_iommu(subject, device));
    }
    findings.extend(peers(machine, subject, address, &group, cannot));
    let node = if unguarded { format!("noiommu-{group}") } else { group };
    findings.extend(node_of_group(machine, subject, &node, cannot));
    if unguarded && !machine.user().has(Capability::SysRawio) {
        let found = "vfio without an IOMMU needs CAP_SYS_RAWIO";
        let why =
            "a device without an IOMMU can write all memory; the kernel gives it to root only";
        let finding = Finding::new(cannot, subject, found).because(why);
        findings.push(finding.fix(limits::grant(machine, &[Capability::SysRawio])));
    }
    findings
}

/// A group goes to one process as a whole: no device of it may be with a kernel driver.
fn peers(
    machine: &Machine,
    subject: &str,
    address: &str,
    group: &str,
    cannot: Severity,
) -> Option<Finding> {
    let harmless = |driver: &str| HARMLESS.contains(&driver);
    let devices = machine.names(&format!("{GROUPS}/{group}/devices"));
    let others = devices.into_iter().filter(|other| other != address);
    let taken: Vec<PciDevice> = others
        .filter_map(|other| PciDevice::read(machine, &other))
        .filter(|other| other.driver.as_deref().is_some_and(|driver| !harmless(driver)))
        .collect();
    if taken.is_empty() {
        return None;
    }
    let list = taken.iter().map(PciDevice::describe).collect::<Vec<_>>().join(", ");
    let found = format!("IOMMU group {group} has devices with kernel drivers: {list}");
    let why = "a group goes to vfio as a whole, for its devices can reach each other (`group is \
               not viable`); another slot may have a group of its own";
    let fix = taken.iter().map(|other| {
        machine.write_command(
            &other.address,
            &format!("{}/driver/unbind", pci::directory(&other.address)),
        )
    });
    Some(Finding::new(cannot, subject, found).because(why).fix(fix))
}

/// The file through which this user reaches a group.
fn node_of_group(
    machine: &Machine,
    subject: &str,
    node: &str,
    cannot: Severity,
) -> Option<Finding> {
    // Newer kernels may have files by device instead; whether DPDK takes those is its version's.
    if machine.exists("/dev/vfio/devices") {
        return None;
    }
    let path = format!("/dev/vfio/{node}");
    let user = machine.user();
    match machine.permits(&user, &path, READ_AND_WRITE) {
        Some(true) => None,
        Some(false) => {
            let group = user.groups.first().copied().unwrap_or(user.uid);
            let found = format!("this user may not open {path}");
            let finding = Finding::new(cannot, subject, found);
            Some(finding.fix([format!("sudo chown {}:{group} {path}", user.uid)]))
        }
        None => {
            let finding = Finding::new(cannot, subject, format!("there is no {path}"));
            Some(match machine.container() {
                Some("kubernetes") => finding
                    .because("the pod did not get the device")
                    .fix(["# request it from the SR-IOV device plugin"]),
                Some(_) => finding
                    .because("the container did not get the device")
                    .fix([format!("docker run --device /dev/vfio/vfio --device {path} ...")]),
                None => finding
                    .because("vfio did not make it, or /dev is not the kernel's")
                    .fix([machine.as_root("modprobe vfio-pci")]),
            })
        }
    }
}

fn no_iommu(machine: &Machine, subject: &str) -> Finding {
    if machine.text(UNSAFE_MODE).is_some_and(|mode| mode == "Y") {
        return Finding::new(Severity::Warning, subject, "vfio will work without an IOMMU")
            .because(RISK);
    }
    let finding = Finding::new(Severity::Warning, subject, "there is no IOMMU, and vfio wants one");
    if machine.is_virtual() {
        return finding.because(format!("the VM was given none; {RISK}")).fix([
            "# on the host, for QEMU: -M q35,kernel-irqchip=split -device intel-iommu,intremap=on,\
             caching-mode=on"
                .to_owned(),
            "# or without one, at that risk:".to_owned(),
            machine.as_root("modprobe vfio enable_unsafe_noiommu_mode=1"),
            machine.write_command(1, UNSAFE_MODE),
        ]);
    }
    let line = machine.text("/proc/cmdline").unwrap_or_default();
    let intel = machine.text("/proc/cpuinfo").is_some_and(|text| text.contains("GenuineIntel"));
    let (why, fix) = match () {
        () if line.contains("iommu=off") => (
            "the kernel's command line turns it off",
            vec!["# remove iommu=off from the kernel's command line, and reboot".to_owned()],
        ),
        () if intel && !line.contains("intel_iommu=on") => (
            "the kernel was not told to use it",
            machine.kernel_line_commands("intel_iommu=on iommu=pt"),
        ),
        () => (
            "the firmware has it turned off",
            vec!["# turn on VT-d, AMD-Vi or SMMU in the firmware's setup, and reboot".to_owned()],
        ),
    };
    finding.because(why).fix(fix)
}

fn without_iommu(subject: &str, device: &PciDevice) -> Finding {
    let found = format!("{} works without an IOMMU", device.address);
    Finding::new(Severity::Warning, subject, found).because(RISK)
}

const RISK: &str = "without an IOMMU a device can read and write all memory of the machine: a wrong \
                    or hostile program owns it";
const GROUPS: &str = "/sys/kernel/iommu_groups";
const UNSAFE_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
/// Drivers in a group that do no direct memory access of their own.
const HARMLESS: &[&str] = &["vfio-pci", "pcieport", "pci-stub", "shpchp"];
const READ_AND_WRITE: u32 = 6;

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.0";
    const PEER: &str = "0000:03:02.1";

    fn examined(tree: &Tree) -> Vec<Finding> {
        let machine = tree.machine();
        let device = PciDevice::read(&machine, VF).expect("the test made this device");
        examine(&machine, "port lan", &device, Severity::Problem)
    }

    fn bound() -> Tree {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).pci(PEER, "8086:154c", Some("iavf"));
        tree
    }

    #[test]
    fn a_group_of_its_own_is_fine() {
        let tree = bound();
        tree.iommu_group("7", &[VF]).iommu_group("8", &[PEER]);
        assert_fine(&examined(&tree));
    }

    #[test]
    fn a_peer_with_its_kernel_driver_makes_the_group_useless() {
        let tree = bound();
        tree.iommu_group("7", &[VF, PEER]);
        let findings = examined(&tree);
        let finding = one(&findings, "IOMMU group 7");
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(
            finding.fix,
            ["echo 0000:03:02.1 > /sys/bus/pci/devices/0000:03:02.1/driver/unbind"]
        );
    }

    #[test]
    fn the_file_of_the_group_must_be_there_and_open() {
        let tree = bound();
        tree.iommu_group("7", &[VF]).user(4242, &[]);
        let findings = examined(&tree);
        assert_eq!(one(&findings, "may not open").fix, ["sudo chown 4242:4242 /dev/vfio/7"]);
        tree.remove("dev/vfio/7");
        let findings = examined(&tree);
        assert_eq!(one(&findings, "there is no /dev/vfio/7").severity, Severity::Problem);
        tree.file(".dockerenv", "");
        assert!(one(&examined(&tree), "no /dev/vfio/7").fix[0].contains("--device /dev/vfio/7"));
    }

    #[test]
    fn a_group_without_iommu_is_a_risk_with_a_name() {
        let tree = bound();
        tree.iommu_group("0", &[VF]).file("sys/kernel/iommu_groups/0/name", "vfio-noiommu");
        tree.file("dev/vfio/noiommu-0", "");
        let findings = examined(&tree);
        assert!(one(&findings, "works without an IOMMU").why.contains("all memory"));
        assert!(findings.iter().all(|finding| finding.severity < Severity::Problem));
        tree.user(4242, &[Capability::DacOverride]);
        assert_eq!(one(&examined(&tree), "CAP_SYS_RAWIO").severity, Severity::Problem);
    }

    #[test]
    fn an_intel_machine_is_told_the_kernels_line() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("iavf")).file("proc/cpuinfo", "vendor_id : GenuineIntel");
        tree.file("etc/default/grub", "");
        let findings = examined(&tree);
        let finding = one(&findings, "there is no IOMMU");
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.fix[0].contains("intel_iommu=on iommu=pt"));
        tree.file("proc/cmdline", "quiet intel_iommu=on");
        assert!(one(&examined(&tree), "no IOMMU").why.contains("firmware"));
        tree.iommu_group("1", &[PEER]);
        assert_fine(&examined(&tree));
    }

    #[test]
    fn a_virtual_machine_is_offered_both_ways() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("iavf")).file("proc/cpuinfo", "flags : hypervisor");
        let findings = examined(&tree);
        let finding = one(&findings, "there is no IOMMU");
        assert!(finding.why.contains("all memory"));
        assert_eq!(
            finding.fix.last().map(String::as_str),
            Some(&*format!("echo 1 > {UNSAFE_MODE}"))
        );
        tree.file(&UNSAFE_MODE[1..], "Y");
        assert!(one(&examined(&tree), "will work without an IOMMU").fix.is_empty());
    }

    #[test]
    fn uio_is_a_risk() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("igb_uio"));
        assert_eq!(examined(&tree)[0].severity, Severity::Warning);
    }
}
