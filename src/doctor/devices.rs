//! The devices that a run wants: those of the chain file, and those of the EAL options.
use super::Ask;
use super::finding::{Finding, Severity};
use super::links;
use super::machine::Machine;
use super::pci::{self, Needs, PciDevice};
use super::vdevs::{self, Vdev};
use super::vf;

/// A device that a run wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What it is called in findings: `port lan`, `-a 03:02.0`.
    pub subject: String,
    /// What its user wrote, with arguments.
    pub device: String,
    /// How much it matters when it cannot be had. EAL passes over one that only its options name.
    pub cannot: Severity,
}

impl Wanted {
    /// Its address, when it is on PCI.
    pub fn pci_address(&self) -> Option<String> {
        pci::address(self.device.split(',').next()?)
    }
}

/// All devices that are wanted: first those of ports, in their order.
pub(super) fn wanted(ask: &Ask) -> Vec<Wanted> {
    let name = |device: &str| device.split(',').next().unwrap_or_default().to_owned();
    let mut wanted: Vec<Wanted> = Vec::new();
    for (port, device) in &ask.devices {
        // A port may name a vdev whose arguments are in the EAL options.
        let given = ask.eal.vdevs.iter().find(|vdev| name(vdev) == *device);
        let device = given.unwrap_or(device).clone();
        let subject = format!("port {port}");
        wanted.push(Wanted { subject, device, cannot: Severity::Problem });
    }
    let options = [("-a", &ask.eal.allow), ("--vdev", &ask.eal.vdevs)];
    for (option, devices) in options {
        for device in devices {
            let of = |text: &str| pci::address(&name(text)).unwrap_or_else(|| name(text));
            if !wanted.iter().any(|other| of(&other.device) == of(device)) {
                let subject = format!("{option} {}", name(device));
                wanted.push(Wanted { subject, device: device.clone(), cannot: Severity::Warning });
            }
        }
    }
    wanted
}

/// Says of each device whether it can be had; with none wanted, which there are.
pub(super) fn examine(machine: &Machine, ask: &Ask, wanted: &[Wanted]) -> Vec<Finding> {
    if wanted.is_empty() {
        return there_are(machine);
    }
    wanted.iter().flat_map(|wanted| examine_one(machine, ask, wanted)).collect()
}

fn examine_one(machine: &Machine, ask: &Ask, wanted: &Wanted) -> Vec<Finding> {
    let Wanted { subject, device, cannot } = wanted;
    if let Some(address) = wanted.pci_address() {
        let mut findings = pci::examine(machine, subject, &address, *cannot);
        findings.extend(hidden(ask, wanted, &address));
        if let Some(device) = PciDevice::read(machine, &address) {
            findings.extend(vf::examine(machine, subject, &device));
        }
        return findings;
    }
    let vdev = Vdev::read(device);
    if vdev.has_vdev_name() {
        return vdevs::examine(machine, subject, &vdev, *cannot);
    }
    let interfaces = links::interfaces(machine);
    if interfaces.contains(device) {
        return vec![interface_as_device(machine, wanted)];
    }
    Vec::new()
}

/// A PCI device that EAL is told not to look at.
fn hidden(ask: &Ask, wanted: &Wanted, address: &str) -> Option<Finding> {
    let hidden = |option: &str| {
        let found = format!("{option} hides {address} from EAL");
        let fix = format!("# remove {option} from the EAL options");
        Finding::new(wanted.cannot, &wanted.subject, found).fix([fix]).mistake()
    };
    if ask.eal.no_pci {
        return Some(hidden("--no-pci"));
    }
    let blocked =
        ask.eal.block.iter().find(|text| pci::address(text).as_deref() == Some(address))?;
    Some(Finding { severity: Severity::Warning, ..hidden(&format!("-b {blocked}")) })
}

/// An interface of the kernel where a device of DPDK belongs.
fn interface_as_device(machine: &Machine, wanted: &Wanted) -> Finding {
    let Wanted { subject, device, cannot } = wanted;
    let owner = PciDevice::network(machine).into_iter().find(|pci| pci.interfaces.contains(device));
    let found = format!("{device} is an interface of the kernel, not a device of DPDK");
    let mut fix =
        vec![format!("device: \"net_af_packet0,iface={device}\"   # shared with the kernel")];
    if let Some(PciDevice { address, .. }) = owner {
        fix.push(format!("device: \"{address}\"   # taken from the kernel, faster"));
    }
    Finding::new(*cannot, subject, found).because("the chain file takes either of these").fix(fix)
}

/// The network devices of the machine, when nothing was asked of any.
fn there_are(machine: &Machine) -> Vec<Finding> {
    let devices = PciDevice::network(machine);
    let usable = |device: &PciDevice| match device.needs() {
        Needs::Kernel(driver) => device.driver.as_deref() == Some(driver),
        Needs::Userspace => device.is_in_userspace(),
    };
    let mut findings: Vec<Finding> = devices
        .iter()
        .map(|device| {
            let state = if usable(device) { "ready for DPDK" } else { "with the kernel" };
            Finding::new(Severity::Ok, "device", format!("{}: {state}", device.describe()))
        })
        .collect();
    if findings.is_empty() {
        let found = "no network device on PCI";
        findings.push(
            Finding::new(Severity::Note, "device", found)
                .because("ports on vdevs (net_tap, net_af_packet) work without one"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, ask, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.0";

    fn examined(tree: &Tree, eal: &[&str], devices: &[&str]) -> Vec<Finding> {
        let ask = ask(eal, devices);
        examine(&tree.machine(), &ask, &wanted(&ask))
    }

    fn bound() -> Tree {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).iommu_group("7", &[VF]);
        tree
    }

    #[test]
    fn a_port_and_an_option_that_name_one_device_are_one() {
        let twice = ask(&["-a", "03:02.0,x=1", "--vdev=net_tap0,iface=a"], &[VF, "net_tap0"]);
        let wanted = wanted(&twice);
        assert_eq!(wanted.len(), 2);
        assert_eq!(wanted[1].device, "net_tap0,iface=a");
    }

    #[test]
    fn what_only_options_name_does_not_stop_a_run() {
        let findings = examined(&Tree::new(), &["-a", "03:02.0"], &[]);
        assert_eq!(one(&findings, "no PCI device").severity, Severity::Warning);
        let findings = examined(&Tree::new(), &[], &["03:02.0"]);
        assert_eq!(one(&findings, "no PCI device").severity, Severity::Problem);
    }

    #[test]
    fn options_that_hide_a_device_are_named() {
        assert_fine(&examined(&bound(), &[], &[VF]));
        let findings = examined(&bound(), &["--no-pci"], &[VF]);
        assert_eq!(one(&findings, "--no-pci hides").severity, Severity::Problem);
        let findings = examined(&bound(), &["-b", "03:02.0"], &[VF]);
        assert_eq!(one(&findings, "-b 03:02.0 hides").severity, Severity::Warning);
        assert_fine(&examined(&bound(), &["-b", "03:02.1"], &[VF]));
    }

    #[test]
    fn an_interface_is_answered_with_both_devices_for_it() {
        let tree = Tree::new();
        tree.interface("ens3", "0x1003").pci(VF, "8086:154c", Some("iavf"));
        tree.directory(&format!("sys/bus/pci/devices/{VF}/net/ens3"));
        let findings = examined(&tree, &[], &["ens3"]);
        let fix = &one(&findings, "ens3 is an interface of the kernel").fix;
        assert!(fix[0].starts_with("device: \"net_af_packet0,iface=ens3\""));
        assert!(fix[1].starts_with("device: \"0000:03:02.0\""));
    }

    #[test]
    fn a_device_of_an_unknown_kind_is_left_to_eal() {
        assert_eq!(examined(&Tree::new(), &[], &["auxiliary:mlx5_core.sf.4"]), []);
    }

    #[test]
    fn with_nothing_wanted_the_devices_are_listed() {
        let findings = examined(&bound(), &[], &[]);
        one(&findings, "0000:03:02.0 (8086:154c, vfio-pci): ready for DPDK");
        one(&examined(&Tree::new(), &[], &[]), "no network device on PCI");
    }
}
