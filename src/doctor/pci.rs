//! PCI devices: whether there is such a one, and who has it.
//!
//! DPDK drives a device through vfio-pci or a UIO driver; one that is still with its kernel driver
//! it passes over without a word. A few (NVIDIA, Microsoft) are the other way round: they are
//! driven through their kernel driver, and are lost to DPDK when taken from it.
use super::finding::{Finding, Severity};
use super::iommu;
use super::links::{self, Routes};
use super::machine::Machine;

/// A device on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PciDevice {
    /// `0000:03:02.0`.
    pub address: String,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Vendor and device, `8086:154c`.
    pub id: String,
    /// Its class, `0x020000` for Ethernet.
    pub class: String,
    /// Its interfaces in the kernel.
    pub interfaces: Vec<String>,
    /// Its NUMA node, where it has one.
    pub node: Option<u32>,
}

/// Who must have a device, for DPDK to drive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// vfio-pci, or a UIO driver.
    Userspace,
    /// This kernel driver.
    Kernel(&'static str),
}

impl PciDevice {
    pub fn read(machine: &Machine, address: &str) -> Option<Self> {
        let base = directory(address);
        let word = |name| {
            let text = machine.text(&format!("{base}/{name}"))?;
            Some(text.trim_start_matches("0x").to_owned())
        };
        let (vendor, device) = (word("vendor")?, word("device")?);
        // Drivers on a bus of their own, such as virtio's, have the interface one level down.
        let mut interfaces = machine.names(&format!("{base}/net"));
        for child in machine.names(&base).iter().filter(|name| name.starts_with("virtio")) {
            interfaces.extend(machine.names(&format!("{base}/{child}/net")));
        }
        Some(Self {
            address: address.to_owned(),
            driver: machine.link_name(&format!("{base}/driver")),
            id: format!("{vendor}:{device}"),
            class: word("class").unwrap_or_default(),
            interfaces,
            node: machine.number(&format!("{base}/numa_node")),
        })
    }

    /// All network devices, in the order of their addresses.
    pub fn network(machine: &Machine) -> Vec<Self> {
        let addresses = machine.names(DEVICES);
        let devices = addresses.iter().filter_map(|address| Self::read(machine, address));
        devices.filter(Self::is_network).collect()
    }

    pub fn is_network(&self) -> bool {
        self.class.starts_with(NETWORK_CLASS)
    }

    /// Who must have it.
    pub fn needs(&self) -> Needs {
        match self.id.split_once(':') {
            // ConnectX-3 and its VFs.
            Some(("15b3", "1003" | "1004" | "1007")) => Needs::Kernel("mlx4_core"),
            Some(("15b3", _)) => Needs::Kernel("mlx5_core"),
            Some(("1414", "00ba" | "00b9")) => Needs::Kernel("mana"),
            _ => Needs::Userspace,
        }
    }

    /// Whether a driver for userspace has it.
    pub fn is_in_userspace(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| USERSPACE.contains(&driver))
    }

    /// What it is and who has it: `0000:03:02.0 (8086:154c, iavf, ens3)`.
    pub fn describe(&self) -> String {
        let driver = self.driver.as_deref().unwrap_or("no driver");
        let mut words = vec![self.id.as_str(), driver];
        words.extend(self.interfaces.iter().map(String::as_str));
        format!("{} ({})", self.address, words.join(", "))
    }
}

/// The address that a user wrote, in full: `0000:03:02.0` of `03:02.0`; none for anything else.
pub(super) fn address(text: &str) -> Option<String> {
    let text = text.strip_prefix("pci:").unwrap_or(text);
    let hex = |digits: &str| {
        let right = !digits.is_empty() && digits.len() <= 8;
        let digits = right.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
        Some(digits)
    };
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let (domain, bus) = (hex(domain)?, hex(bus).filter(|bus| *bus <= 0xff)?);
    let device = hex(device).filter(|device| *device <= 0x1f)?;
    let function = hex(function).filter(|function| *function <= 7)?;
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
}

/// Says whether DPDK can have the device at `address`. `cannot` is how much it matters if not.
pub(super) fn examine(
    machine: &Machine,
    subject: &str,
    address: &str,
    cannot: Severity,
) -> Vec<Finding> {
    let Some(device) = PciDevice::read(machine, address) else {
        return vec![missing(machine, subject, address, cannot)];
    };
    if !device.is_network() {
        let found = format!("{address} ({}) is no network device", device.id);
        return vec![Finding::new(cannot, subject, found).because(listed(machine))];
    }
    match device.needs() {
        Needs::Kernel(driver) => examine_kernel(machine, subject, &device, driver, cannot),
        Needs::Userspace => examine_userspace(machine, subject, &device, cannot),
    }
}

fn examine_userspace(
    machine: &Machine,
    subject: &str,
    device: &PciDevice,
    cannot: Severity,
) -> Vec<Finding> {
    let address = &device.address;
    let mut findings = vec![match device.driver.as_deref() {
        Some(driver) if device.is_in_userspace() => {
            Finding::new(Severity::Ok, subject, format!("{address} is bound to {driver}"))
        }
        Some(driver) => {
            let named = device.interfaces.iter().map(|name| format!(" as {name}"));
            let found = format!(
                "{address} is bound to the kernel driver {driver}{}",
                named.collect::<String>()
            );
            let finding = Finding::new(cannot, subject, found);
            finding.because(why_not(machine, device)).fix(bind_commands(machine, device))
        }
        None => {
            let found = format!("{address} ({}) is bound to no driver", device.id);
            // The virtio driver can do with I/O ports alone.
            let severity = if device.id.starts_with("1af4:") { Severity::Warning } else { cannot };
            let why = "DPDK drives it through vfio-pci";
            let finding = Finding::new(severity, subject, found).because(why);
            finding.fix(bind_commands(machine, device))
        }
    }];
    findings.extend(iommu::examine(machine, subject, device, cannot));
    findings
}

fn examine_kernel(
    machine: &Machine,
    subject: &str,
    device: &PciDevice,
    driver: &str,
    cannot: Severity,
) -> Vec<Finding> {
    let address = &device.address;
    if device.driver.as_deref() != Some(driver) {
        let has = device.driver.as_deref().unwrap_or("no driver");
        let found = format!("{address} is bound to {has}, and must stay with {driver}");
        let why = "DPDK drives this one together with its kernel driver; without it there is `No \
                   Verbs device`";
        let load = format!("modprobe {driver}");
        let bind = bind_to(machine, address, driver);
        let fix = std::iter::once(machine.as_root(load)).chain(bind);
        return vec![Finding::new(cannot, subject, found).because(why).fix(fix)];
    }
    let found = format!("{address} is with {driver}, where DPDK needs it");
    let mut findings = vec![Finding::new(Severity::Ok, subject, found)];
    if driver.starts_with("mlx")
        && machine.names(&format!("{}/infiniband", directory(address))).is_empty()
    {
        let found = format!("{address} has no Verbs device");
        let why = "the kernel's RDMA modules are not loaded, or not allowed in here";
        let module = driver.replace("core", "ib");
        let fix = machine.as_root(format!("modprobe -a {module} ib_uverbs"));
        findings.push(Finding::new(Severity::Warning, subject, found).because(why).fix([fix]));
    }
    let links = device.interfaces.iter();
    findings.extend(links.map(|name| links::examine(machine, subject, name, Severity::Note)));
    findings
}

fn missing(machine: &Machine, subject: &str, address: &str, cannot: Severity) -> Finding {
    let found = format!("there is no PCI device {address}");
    let finding = Finding::new(cannot, subject, found).because(listed(machine)).mistake();
    match machine.container() {
        Some("kubernetes") => finding,
        _ if machine.exists("/sys/bus/pci/rescan") => {
            let rescan = machine.write_command(1, "/sys/bus/pci/rescan");
            finding.fix([format!("{rescan}   # if it was removed")])
        }
        _ => finding,
    }
}

/// The network devices that there are.
fn listed(machine: &Machine) -> String {
    let devices: Vec<String> =
        PciDevice::network(machine).iter().take(LISTED_MAX).map(PciDevice::describe).collect();
    match devices.is_empty() {
        true => "there is no network device on PCI".to_owned(),
        false => format!("there are: {}", devices.join(", ")),
    }
}

fn why_not(machine: &Machine, device: &PciDevice) -> String {
    let routes = |name: &&String| links::routes(machine, name);
    match device.interfaces.iter().max_by_key(routes) {
        Some(name) if links::routes(machine, name) == Routes::Default => format!(
            "DPDK passes over it; careful: the default route goes through {name}, and this machine \
             may be out of reach without it"
        ),
        Some(name) if links::routes(machine, name) == Routes::Some => {
            format!("DPDK passes over it; {name} has addresses, which the kernel will lose")
        }
        _ => "DPDK passes over a device that its kernel driver has".to_owned(),
    }
}

/// The commands that give a device to vfio-pci.
fn bind_commands(machine: &Machine, device: &PciDevice) -> Vec<String> {
    let mut commands = Vec::new();
    if !machine.exists("/sys/bus/pci/drivers/vfio-pci") {
        commands.push(machine.as_root("modprobe vfio-pci"));
    }
    let up = |name: &&String| links::is_up(machine, name) == Some(true);
    for name in device.interfaces.iter().filter(up) {
        commands.push(machine.as_root(format!("ip link set dev {name} down")));
    }
    commands.extend(bind_to(machine, &device.address, "vfio-pci"));
    commands
}

/// The commands that bind a device, by the tool that is installed, or by none.
fn bind_to(machine: &Machine, address: &str, driver: &str) -> Vec<String> {
    let installed = |tool: &str| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .iter()
            .any(|directory| machine.exists(&format!("{directory}/{tool}")))
    };
    if installed("dpdk-devbind.py") {
        return vec![machine.as_root(format!("dpdk-devbind.py -b {driver} {address}"))];
    }
    if installed("driverctl") {
        return vec![machine.as_root(format!("driverctl set-override {address} {driver}"))];
    }
    let base = directory(address);
    let mut commands = vec![machine.write_command(driver, &format!("{base}/driver_override"))];
    if machine.exists(&format!("{base}/driver"))
        || machine.link_name(&format!("{base}/driver")).is_some()
    {
        commands.push(machine.write_command(address, &format!("{base}/driver/unbind")));
    }
    commands.push(machine.write_command(address, "/sys/bus/pci/drivers_probe"));
    commands
}

/// The directory of a device.
pub(super) fn directory(address: &str) -> String {
    format!("{DEVICES}/{address}")
}

const DEVICES: &str = "/sys/bus/pci/devices";
const NETWORK_CLASS: &str = "02";
const LISTED_MAX: usize = 16;

/// The drivers that leave a device to a process.
const USERSPACE: &[&str] = &["vfio-pci", "igb_uio", "uio_pci_generic"];

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, assert_fine, one};
    use super::*;

    const VF: &str = "0000:03:02.0";

    fn examined(tree: &Tree) -> Vec<Finding> {
        examine(&tree.machine(), "port lan", VF, Severity::Problem)
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        for text in ["0000:03:02.0", "03:02.0", "3:2.0", "pci:0000:03:02.0", "0:03:02.0"] {
            assert_eq!(address(text).as_deref(), Some(VF), "{text}");
        }
        assert_eq!(address("10000:e1:00.1").as_deref(), Some("10000:e1:00.1"));
        for text in
            ["", "eth0", "net_tap0", "03:02", "03:20.0", "03:02.8", "1:2:3:4.0", ":.", "x:y.z"]
        {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn a_device_with_vfio_is_fine() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("vfio-pci")).iommu_group("7", &[VF]);
        assert_fine(&examined(&tree));
    }

    #[test]
    fn a_device_that_is_not_there_is_answered_with_those_that_are() {
        let tree = Tree::new();
        tree.pci("0000:03:02.1", "8086:154c", Some("iavf"));
        tree.directory("sys/bus/pci/devices/0000:03:02.1/net/ens3");
        let findings = examined(&tree);
        let finding = one(&findings, "there is no PCI device 0000:03:02.0");
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(finding.why, "there are: 0000:03:02.1 (8086:154c, iavf, ens3)");
    }

    #[test]
    fn a_kernel_driver_is_named_with_the_commands_that_take_the_device() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("iavf")).iommu_group("7", &[VF]);
        tree.directory(&format!("sys/bus/pci/devices/{VF}/net/ens3")).interface("ens3", "0x1003");
        tree.file("usr/bin/dpdk-devbind.py", "");
        let findings = examined(&tree);
        let finding = one(&findings, "bound to the kernel driver iavf as ens3");
        assert_eq!(finding.severity, Severity::Problem);
        let expected = [
            "modprobe vfio-pci",
            "ip link set dev ens3 down",
            "dpdk-devbind.py -b vfio-pci 0000:03:02.0",
        ];
        assert_eq!(finding.fix, expected);
        tree.directory("sys/bus/pci/drivers/vfio-pci");
        assert!(!one(&examined(&tree), "iavf").fix[0].contains("modprobe"));
    }

    #[test]
    fn without_a_tool_the_files_of_sys_bind() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("iavf")).directory("sys/bus/pci/drivers/vfio-pci");
        let fix = one(&examined(&tree), "kernel driver iavf").fix.clone();
        let base = format!("/sys/bus/pci/devices/{VF}");
        assert_eq!(fix[0], format!("echo vfio-pci > {base}/driver_override"));
        assert_eq!(fix[1], format!("echo {VF} > {base}/driver/unbind"));
        assert_eq!(fix[2], format!("echo {VF} > /sys/bus/pci/drivers_probe"));
        tree.file("usr/sbin/driverctl", "");
        let fix = one(&examined(&tree), "kernel driver iavf").fix.clone();
        assert_eq!(fix, [format!("driverctl set-override {VF} vfio-pci")]);
    }

    #[test]
    fn the_default_route_is_warned_of() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", Some("iavf"));
        tree.directory(&format!("sys/bus/pci/devices/{VF}/net/ens3")).interface("ens3", "0x1003");
        assert!(!one(&examined(&tree), "kernel driver").why.contains("route"));
        tree.file("proc/net/route", "ens3 00000000 010200C0 0003 0 0 0 00000000 0 0 0");
        assert!(
            one(&examined(&tree), "kernel driver").why.contains("default route goes through ens3")
        );
    }

    #[test]
    fn an_interface_of_virtio_is_one_level_down() {
        let tree = Tree::new();
        tree.pci(VF, "1af4:1041", Some("virtio-pci"));
        tree.directory(&format!("sys/bus/pci/devices/{VF}/virtio2/net/eth0"));
        one(&examined(&tree), "virtio-pci as eth0");
    }

    #[test]
    fn a_device_with_nobody_is_told_to_be_bound() {
        let tree = Tree::new();
        tree.pci(VF, "8086:154c", None).iommu_group("7", &[VF]);
        assert_eq!(one(&examined(&tree), "bound to no driver").severity, Severity::Problem);
    }

    #[test]
    fn mlx5_stays_with_its_kernel_driver() {
        let tree = Tree::new();
        tree.pci(VF, "15b3:101e", Some("mlx5_core"));
        tree.directory(&format!("sys/bus/pci/devices/{VF}/infiniband/mlx5_0"));
        assert_fine(&examined(&tree));
    }

    #[test]
    fn mlx5_without_verbs_is_a_warning() {
        let tree = Tree::new();
        tree.pci(VF, "15b3:101e", Some("mlx5_core"));
        let fix = one(&examined(&tree), "no Verbs device").fix.clone();
        assert_eq!(fix, ["modprobe -a mlx5_ib ib_uverbs"]);
    }

    #[test]
    fn mlx5_with_vfio_is_sent_back() {
        let tree = Tree::new();
        tree.pci(VF, "15b3:101e", Some("vfio-pci")).file("usr/bin/dpdk-devbind.py", "");
        let finding = one(&examined(&tree), "must stay with mlx5_core").clone();
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(finding.fix[1], "dpdk-devbind.py -b mlx5_core 0000:03:02.0");
    }

    #[test]
    fn what_is_no_network_device_is_refused() {
        let tree = Tree::new();
        tree.pci(VF, "8086:1234", Some("nvme"));
        tree.file(&format!("sys/bus/pci/devices/{VF}/class"), "0x010802");
        one(&examined(&tree), "is no network device");
    }
}
