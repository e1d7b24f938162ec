//! SR-IOV virtual functions: what only the host decides for them.
//!
//! The host's PF gives a VF its MAC address, drops what the VF sends under another (spoof check),
//! and lets it receive for others only if it is trusted. None of that is in `/sys`: so what is
//! certain (a random MAC, a PF that is down) is a warning, and the rest is a note that names the
//! commands.
use super::finding::{Finding, Severity};
use super::links;
use super::machine::Machine;
use super::pci::{self, PciDevice};

/// What is to be said of a device, when it is a VF.
pub(super) fn examine(machine: &Machine, subject: &str, device: &PciDevice) -> Vec<Finding> {
    let mut findings = match pf_of(machine, &device.address) {
        Some(pf) => on_the_host(machine, subject, device, &pf),
        None if machine.is_virtual() => in_a_vm(machine, subject, device),
        None => Vec::new(),
    };
    if let Some(last) = findings.last_mut() {
        last.fix.extend(reset_of(machine, device));
    }
    findings
}

/// How a VF is freed that was left in the middle of something: nothing in `/sys` says that it was.
fn reset_of(machine: &Machine, device: &PciDevice) -> Vec<String> {
    let directory = pci::directory(&device.address);
    let can = machine.names(&directory).iter().any(|name| name == "reset");
    if device.driver.as_deref() != Some("vfio-pci") || !can {
        return Vec::new();
    }
    vec![
        "# if a run finds no device here, since one before was killed: a reset of the function"
            .to_owned(),
        machine.write_command(1, &format!("{directory}/reset")),
    ]
}

/// The PF of a VF, as its host sees it.
struct Pf {
    /// Its address.
    address: String,
    /// Its interface, when the kernel has it.
    interface: Option<String>,
    /// The number of the VF.
    number: Option<u32>,
}

fn pf_of(machine: &Machine, vf: &str) -> Option<Pf> {
    let address = machine.link_name(&format!("{}/physfn", pci::directory(vf)))?;
    let base = pci::directory(&address);
    let number = machine.names(&base).into_iter().find_map(|name| {
        let number = name.strip_prefix("virtfn")?.parse().ok()?;
        (machine.link_name(&format!("{base}/{name}"))? == vf).then_some(number)
    });
    let interface = machine.names(&format!("{base}/net")).into_iter().next();
    Some(Pf { address, interface, number })
}

fn on_the_host(machine: &Machine, subject: &str, device: &PciDevice, pf: &Pf) -> Vec<Finding> {
    let (Some(interface), Some(number)) = (&pf.interface, pf.number) else {
        let found =
            format!("the VF {} has a PF without an interface ({})", device.address, pf.address);
        let why =
            "nobody can set its MAC address and trust while the PF is not with its kernel driver";
        return vec![Finding::new(Severity::Note, subject, found).because(why)];
    };
    let mut findings = Vec::new();
    if links::is_up(machine, interface) == Some(false) {
        let found = format!("the PF {interface} is down, and so is its VF {number}");
        let fix = machine.as_root(format!("ip link set dev {interface} up"));
        findings.push(Finding::new(Severity::Warning, subject, found).fix([fix]));
    } else if !links::has_carrier(machine, interface) {
        let found = format!("the PF {interface} of VF {number} has no carrier");
        let why = "no cable, or the other end is down";
        findings.push(Finding::new(Severity::Note, subject, found).because(why));
    }
    let mac = mac_of(machine, device).filter(|mac| !is_zero(mac));
    let mac = mac.unwrap_or_else(|| proposed_mac(&device.address));
    let found =
        format!("VF {number} of {interface}: its MAC, trust and spoof check are the PF's to set");
    let finding = Finding::new(Severity::Note, subject, found).because(WHY).fix([
        format!("ip link show dev {interface}   # shows them"),
        machine.as_root(format!("ip link set dev {interface} vf {number} mac {mac}")),
        machine.as_root(format!("ip link set dev {interface} vf {number} trust on spoofchk off")),
    ]);
    findings.extend(random_mac(machine, subject, device, interface, &number.to_string()));
    findings.push(finding);
    findings
}

fn in_a_vm(machine: &Machine, subject: &str, device: &PciDevice) -> Vec<Finding> {
    let driver = device.driver.as_deref().unwrap_or_default();
    if driver == "ena" || device.id.starts_with("1d0f:") {
        let found = format!("{} is an ENA: it takes no frames for other MACs", device.address);
        let why = "the cloud delivers to the addresses of the instance only";
        let fix = "# turn off the source/destination check of the instance, and route to it";
        return vec![Finding::new(Severity::Note, subject, found).because(why).fix([fix])];
    }
    let known = VF_IDS.contains(&device.id.as_str()) || VF_DRIVERS.contains(&driver);
    if !known {
        return Vec::new();
    }
    if let Some(finding) = random_mac(machine, subject, device, "PF", "N") {
        return vec![finding];
    }
    let address = &device.address;
    let found = format!("{address} is a VF: its MAC, trust and spoof check are the host's to set");
    vec![Finding::new(Severity::Note, subject, found).because(WHY).fix([
        "ip link show dev PF   # on the host, shows them; PF and N are those of this VF",
        "ip link set dev PF vf N trust on spoofchk off   # on the host",
    ])]
}

/// A MAC that the host did not set: the kernel made one up, which the PF takes for spoofed on some
/// NICs, and which is another one after the next reset.
fn random_mac(
    machine: &Machine,
    subject: &str,
    device: &PciDevice,
    pf: &str,
    number: &str,
) -> Option<Finding> {
    let mac = mac_of(machine, device)?;
    let random = device.interfaces.iter().any(|name| {
        machine.number(&format!("/sys/class/net/{name}/addr_assign_type")) == Some(NET_ADDR_RANDOM)
    });
    let found = match () {
        () if is_zero(&mac) => "the VF has no MAC address".to_owned(),
        () if random => format!("the VF made up its own MAC address, {mac}"),
        () => return None,
    };
    let mac = if is_zero(&mac) { proposed_mac(&device.address) } else { mac };
    let why = "the host set none: what it sends may be dropped as spoofed, and the address changes \
               with each reset";
    let place = if pf == "PF" { "   # on the host; PF and N are those of this VF" } else { "" };
    let fix = format!("ip link set dev {pf} vf {number} mac {mac}{place}");
    let fix = if pf == "PF" { fix } else { machine.as_root(fix) };
    Some(Finding::new(Severity::Warning, subject, found).because(why).fix([fix]))
}

/// The MAC address, while the kernel has the device.
fn mac_of(machine: &Machine, device: &PciDevice) -> Option<String> {
    let interface = device.interfaces.first()?;
    machine.text(&format!("/sys/class/net/{interface}/address"))
}

fn is_zero(mac: &str) -> bool {
    mac.chars().all(|c| c == '0' || c == ':')
}

/// A locally administered address that no other device of this machine gets.
fn proposed_mac(address: &str) -> String {
    let digits: Vec<u32> = address.chars().filter_map(|c| c.to_digit(16)).collect();
    let number = digits.iter().fold(0u64, |sum, digit| sum << 4 | u64::from(*digit));
    let bytes = number.to_be_bytes();
    let [.., a, b, c, d] = bytes;
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

const WHY: &str = "the PF drops what the VF sends from another MAC (spoof check), and an untrusted VF \
                   gets neither promiscuous mode nor all of multicast";
/// `NET_ADDR_RANDOM` of the kernel's `netdevice.h`.
const NET_ADDR_RANDOM: u32 = 1;
const VF_DRIVERS: &[&str] = &["iavf", "i40evf", "ixgbevf", "igbvf"];
/// VFs by vendor and device, for those that no kernel driver names: igbvf, ixgbevf, iavf, mlx, bnxt.
const VF_IDS: &[&str] = &[
    "8086:10ca",
    "8086:1520",
    "8086:10ed",
    "8086:1515",
    "8086:1564",
    "8086:1565",
    "8086:15a8",
    "8086:15c5",
    "8086:154c",
    "8086:1571",
    "8086:37cd",
    "8086:1889",
    "15b3:1004",
    "15b3:1014",
    "15b3:1016",
    "15b3:1018",
    "15b3:101a",
    "15b3:101c",
    "15b3:101e",
    "14e4:16dc",
    "14e4:16e1",
    "14e4:1806",
    "14e4:1807",
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.1";
    const PF: &str = "0000:03:00.0";

    fn examined(tree: &Tree) -> Vec<Finding> {
        let machine = tree.machine();
        let device = PciDevice::read(&machine, VF).expect("the test made this device");
        examine(&machine, "port lan", &device)
    }

    fn host() -> Tree {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).pci(PF, "8086:1572", Some("i40e"));
        tree.link(&format!("sys/bus/pci/devices/{VF}/physfn"), PF);
        tree.link(&format!("sys/bus/pci/devices/{PF}/virtfn0"), "0000:03:02.0");
        tree.link(&format!("sys/bus/pci/devices/{PF}/virtfn1"), VF);
        tree.directory(&format!("sys/bus/pci/devices/{PF}/net/ens3f0"));
        tree.interface("ens3f0", "0x1003");
        tree
    }

    /// A VM whose VF is with its kernel driver, with this MAC, assigned in this way.
    fn guest(mac: &str, assigned: &str) -> Tree {
        let tree = Tree::new();
        tree.file("proc/cpuinfo", "flags : hypervisor").pci(VF, "8086:10ca", Some("igbvf"));
        tree.directory(&format!("sys/bus/pci/devices/{VF}/net/ens5"));
        tree.file("sys/class/net/ens5/address", mac);
        tree.file("sys/class/net/ens5/addr_assign_type", assigned);
        tree
    }

    #[test]
    fn the_host_is_told_the_commands_of_this_very_vf() {
        let findings = examined(&host());
        assert_fine(&findings);
        let expected = "ip link set dev ens3f0 vf 1 trust on spoofchk off";
        assert_eq!(one(&findings, "VF 1 of ens3f0").fix[2], expected);
        assert_eq!(
            one(&findings, "VF 1 of").fix[1],
            "ip link set dev ens3f0 vf 1 mac 02:00:00:00:30:21"
        );
    }

    #[test]
    fn a_vf_that_may_be_stuck_can_be_reset() {
        let tree = host();
        tree.file(&format!("sys/bus/pci/devices/{VF}/reset"), "");
        let findings = examined(&tree);
        let fix = &one(&findings, "VF 1 of ens3f0").fix;
        let reset = format!("echo 1 > /sys/bus/pci/devices/{VF}/reset");
        assert_eq!(fix.last(), Some(&reset));
        assert!(!one(&examined(&host()), "VF 1 of").fix.contains(&reset), "it has none");
    }

    #[test]
    fn a_pf_that_is_down_takes_its_vfs_along() {
        let tree = host();
        tree.interface("ens3f0", "0x1002");
        let findings = examined(&tree);
        let finding = one(&findings, "the PF ens3f0 is down");
        assert_eq!(finding.fix, ["ip link set dev ens3f0 up"]);
    }

    #[test]
    fn a_pf_without_its_driver_is_noted() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).pci(PF, "8086:1572", Some("vfio-pci"));
        tree.link(&format!("sys/bus/pci/devices/{VF}/physfn"), PF);
        one(&examined(&tree), "a PF without an interface");
    }

    #[test]
    fn in_a_vm_a_mac_of_the_host_is_fine() {
        let findings = examined(&guest("52:54:00:12:34:56", "0"));
        assert_fine(&findings);
        assert!(one(&findings, "the host's to set").fix[1].contains("trust on"));
    }

    #[test]
    fn in_a_vm_a_made_up_mac_is_a_warning() {
        let findings = examined(&guest("9a:11:22:33:44:55", "1"));
        let finding = one(&findings, "made up its own MAC");
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.fix[0].contains("vf N mac 9a:11:22:33:44:55   # on the host"));
        one(&examined(&guest("00:00:00:00:00:00", "0")), "has no MAC address");
    }

    #[test]
    fn what_is_no_vf_is_not_spoken_of() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci"));
        assert_eq!(examined(&tree), []);
        let virtio = Tree::new();
        virtio.file("proc/cpuinfo", "flags : hypervisor").pci(VF, "1af4:1041", Some("virtio-pci"));
        assert_eq!(examined(&virtio), []);
    }

    #[test]
    fn ena_is_told_apart() {
        let tree = Tree::new();
        tree.file("proc/cpuinfo", "flags : hypervisor").pci(VF, "1d0f:ec20", Some("vfio-pci"));
        one(&examined(&tree), "is an ENA");
    }
}
