//! Virtual devices: what each driver needs of the kernel.
use nfv_core::chain::report::nearest;

use super::finding::{Finding, Severity};
use super::limits;
use super::links::{self, Routes};
use super::machine::{Capability, Machine};

/// A virtual device as its user wrote it: `net_af_packet0,iface=wan0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vdev<'t> {
    /// Its name, with the number.
    pub name: &'t str,
    arguments: Vec<(&'t str, &'t str)>,
}

impl<'t> Vdev<'t> {
    pub fn read(text: &'t str) -> Self {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let arguments = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        Self { name, arguments }
    }

    /// Whether its name begins as those of virtual devices do.
    pub fn has_vdev_name(&self) -> bool {
        ["net_", "eth_", "virtio_user"].iter().any(|prefix| self.name.starts_with(prefix))
    }

    /// The driver: the name without its number, and without the old `eth_`.
    fn driver(&self) -> String {
        let name = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        match name.strip_prefix("eth_") {
            Some(rest) => format!("net_{rest}"),
            None if name == "virtio_user" => "net_virtio_user".to_owned(),
            None => name.to_owned(),
        }
    }

    fn argument(&self, key: &str) -> Option<&'t str> {
        let mut all = self.all(key);
        all.next_back()
    }

    /// All values of a key that may be given more than once.
    fn all(&self, key: &str) -> impl DoubleEndedIterator<Item = &'t str> {
        self.arguments.iter().filter(move |(name, _)| *name == key).map(|(_, value)| *value)
    }
}

/// Says what stands between a run and a virtual device. `cannot` is how much it matters.
pub(super) fn examine(
    machine: &Machine,
    subject: &str,
    vdev: &Vdev<'_>,
    cannot: Severity,
) -> Vec<Finding> {
    let check = Check { machine, subject, cannot };
    let driver = vdev.driver();
    match driver.as_str() {
        "net_af_packet" => check.af_packet(vdev),
        "net_af_xdp" => check.af_xdp(vdev),
        "net_tap" | "net_tun" => check.tap(vdev),
        "net_pcap" => check.pcap(vdev),
        "net_memif" => check.memif(vdev),
        "net_virtio_user" => check.virtio_user(vdev),
        // A driver may begin with the name of another: net_ringlike is none, but DPDK takes it.
        name if DRIVERS.iter().any(|driver| name.starts_with(driver)) => {
            vec![check.say(Severity::Ok, format!("{} needs nothing of the machine", vdev.name))]
        }
        name => {
            let known = DRIVERS.iter().chain(NEEDY).copied();
            let finding = format!("{} is no driver of the usual ones", name);
            let near = nearest(name, known.clone()).map(|near| format!("did you mean {near}? "));
            let list = known.collect::<Vec<_>>().join(" ");
            let why = format!("{}the usual ones: {list}", near.unwrap_or_default());
            vec![check.say(Severity::Warning, finding).because(why)]
        }
    }
}

/// One device under examination.
struct Check<'c> {
    machine: &'c Machine,
    subject: &'c str,
    cannot: Severity,
}

impl Check<'_> {
    fn say(&self, severity: Severity, found: impl Into<String>) -> Finding {
        Finding::new(severity, self.subject, found)
    }

    fn af_packet(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        let mut findings = self.interface(vdev, "iface");
        findings.extend(self.kernel_too(vdev));
        findings.extend(self.lacks(&[Capability::NetRaw], "packet sockets", self.cannot));
        findings
    }

    fn af_xdp(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        let mut findings = self.interface(vdev, "iface");
        findings.extend(self.lacks(&[Capability::NetRaw], "XDP sockets", self.cannot));
        // Since 5.8 CAP_BPF would do in place of CAP_SYS_ADMIN: so this is no certain problem.
        let needed = [Capability::NetAdmin, Capability::SysAdmin];
        findings.extend(self.lacks(&needed, "loading an XDP program", Severity::Warning));
        findings
    }

    fn tap(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.machine.exists(TUN) {
            let fix = match self.machine.container() {
                Some("kubernetes") => vec!["# mount /dev/net/tun of the host".to_owned()],
                Some(_) => vec![format!("docker run --device {TUN} --cap-add NET_ADMIN ...")],
                None => vec![self.machine.as_root("modprobe tun")],
            };
            let missing = self.say(self.cannot, format!("there is no {TUN}"));
            findings.push(missing.because("a tap is made through it").fix(fix));
        }
        findings.extend(self.lacks(&[Capability::NetAdmin], "making taps", self.cannot));
        if let Some(remote) = vdev.argument("remote") {
            findings.push(links::examine(self.machine, self.subject, remote, self.cannot));
        }
        if findings.is_empty() {
            let interface = vdev.argument("iface").unwrap_or("dtap0");
            findings.push(self.say(Severity::Ok, format!("the tap {interface} can be made")));
        }
        findings
    }

    fn pcap(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for file in vdev.all("rx_pcap").filter(|file| self.is_missing(file)) {
            let found = format!("there is no capture {file}");
            let finding = self.say(self.cannot, found).because("rx_pcap reads an existing file");
            findings.push(finding.mistake());
        }
        for file in vdev.all("tx_pcap") {
            findings.extend(self.directory_of(file, "tx_pcap makes a file, but no directory"));
        }
        let interfaces = ["rx_iface", "rx_iface_in", "tx_iface", "iface"];
        for interface in interfaces.iter().flat_map(|key| vdev.all(key)) {
            findings.push(links::examine(self.machine, self.subject, interface, self.cannot));
            findings.extend(self.lacks(&[Capability::NetRaw], "packet sockets", self.cannot));
        }
        if findings.is_empty() {
            findings.push(self.say(Severity::Ok, "the captures are there"));
        }
        findings
    }

    fn memif(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        // An abstract socket, the driver's default, has no file.
        let in_files = matches!(vdev.argument("socket-abstract"), Some("no"));
        let socket = vdev.argument("socket").unwrap_or("/run/memif.sock");
        let why = "the socket of a memif is made in an existing directory";
        let missing = if in_files { self.directory_of(socket, why) } else { None };
        vec![missing.unwrap_or_else(|| {
            self.say(Severity::Ok, format!("the memif socket {socket} can be had"))
        })]
    }

    fn virtio_user(&self, vdev: &Vdev<'_>) -> Vec<Finding> {
        let Some(path) = vdev.argument("path") else {
            let found = format!("{} has no path=", vdev.name);
            let why = "it is /dev/vhost-net for the kernel, or the socket of a vhost-user backend";
            return vec![self.say(self.cannot, found).because(why)];
        };
        if path != VHOST_NET {
            // A server makes its socket itself.
            let severity =
                if vdev.argument("server") == Some("1") { Severity::Ok } else { self.cannot };
            if self.is_missing(path) && severity > Severity::Ok {
                let why = "the backend that makes it does not run, or makes it elsewhere";
                return vec![self.say(severity, format!("there is no socket {path}")).because(why)];
            }
            return vec![self.say(Severity::Ok, format!("{path} can be had"))];
        }
        let mut findings = Vec::new();
        let user = self.machine.user();
        match self.machine.permits(&user, path, READ_AND_WRITE) {
            None => {
                let fix = match self.machine.container() {
                    Some("kubernetes") => vec!["# mount /dev/vhost-net of the host".to_owned()],
                    Some(_) => vec![format!("docker run --device {path} --device {TUN} ...")],
                    None => vec![self.machine.as_root("modprobe vhost-net")],
                };
                findings.push(self.say(self.cannot, format!("there is no {path}")).fix(fix));
            }
            Some(false) => {
                let fix = self.machine.as_root(format!("chmod a+rw {path}"));
                let found = format!("this user may not open {path}");
                findings.push(self.say(self.cannot, found).fix([fix]));
            }
            Some(true) => {}
        }
        findings.extend(self.lacks(&[Capability::NetAdmin], "making taps", self.cannot));
        if findings.is_empty() {
            findings.push(self.say(Severity::Ok, format!("{path} can be had")));
        }
        findings
    }

    /// The interface that an argument names.
    fn interface(&self, vdev: &Vdev<'_>, key: &str) -> Vec<Finding> {
        let Some(interface) = vdev.argument(key).filter(|name| !name.is_empty()) else {
            let found = format!("{} has no {key}=", vdev.name);
            let known = links::interfaces(self.machine).join(" ");
            return vec![
                self.say(self.cannot, found).because(format!("it stands on an interface: {known}")),
            ];
        };
        let there = links::examine(self.machine, self.subject, interface, self.cannot);
        let missing = there.severity == self.cannot && self.cannot > Severity::Warning;
        vec![if missing { there.fix(move_here(interface)) } else { there }]
    }

    /// A packet socket takes copies: the kernel sees, and answers, the same packets.
    fn kernel_too(&self, vdev: &Vdev<'_>) -> Option<Finding> {
        let interface = vdev.argument("iface")?;
        let why = "a packet socket gets copies; the kernel answers the same packets, with resets for \
                   connections that it does not know";
        let found = |what| format!("the kernel has {what} through {interface}, too");
        match links::routes(self.machine, interface) {
            Routes::None => None,
            Routes::Some => {
                let fix = self.machine.as_root(format!("ip addr flush dev {interface}"));
                Some(self.say(Severity::Note, found("addresses")).because(why).fix([fix]))
            }
            Routes::Default => {
                Some(self.say(Severity::Note, found("its default route")).because(why))
            }
        }
    }

    fn lacks(&self, needed: &[Capability], what: &str, severity: Severity) -> Option<Finding> {
        let user = self.machine.user();
        let lacking: Vec<Capability> =
            needed.iter().copied().filter(|capability| !user.has(*capability)).collect();
        if lacking.is_empty() {
            return None;
        }
        let names: Vec<String> = lacking.iter().map(|c| c.name().to_uppercase()).collect();
        let found = format!("{what} needs {}, which this user lacks", names.join(" and "));
        Some(self.say(severity, found).fix(limits::grant(self.machine, &lacking)))
    }

    /// Whether a path is certainly missing: a relative one depends on where the run starts.
    fn is_missing(&self, path: &str) -> bool {
        path.starts_with('/') && !self.machine.exists(path)
    }

    fn directory_of(&self, path: &str, why: &str) -> Option<Finding> {
        let (directory, _) = path.rsplit_once('/').filter(|(d, _)| d.starts_with('/'))?;
        if self.machine.exists(directory) {
            return None;
        }
        let finding = self.say(self.cannot, format!("there is no directory {directory}"));
        Some(finding.because(why).fix([format!("mkdir -p {directory}")]).mistake())
    }
}

/// How an interface of another name or namespace becomes this one.
fn move_here(interface: &str) -> [String; 1] {
    [format!(
        "ip -all netns exec ip -brief link show dev {interface}   # is it in another namespace?"
    )]
}

const TUN: &str = "/dev/net/tun";
const VHOST_NET: &str = "/dev/vhost-net";
const READ_AND_WRITE: u32 = 6;

/// Drivers that need nothing that could be checked.
const DRIVERS: &[&str] = &["net_null", "net_ring", "net_vhost", "net_bonding", "net_failsafe"];
/// Drivers that are checked.
const NEEDY: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_tap",
    "net_tun",
    "net_pcap",
    "net_memif",
    "net_virtio_user",
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, assert_fine, one};
    use super::*;

    fn examined(tree: &Tree, vdev: &str) -> Vec<Finding> {
        examine(&tree.machine(), "port lan", &Vdev::read(vdev), Severity::Problem)
    }

    fn with_wan0() -> Tree {
        let tree = Tree::new();
        tree.interface("wan0", "0x1003");
        tree
    }

    #[test]
    fn af_packet_stands_on_an_interface() {
        let tree = with_wan0();
        assert_fine(&examined(&tree, "net_af_packet0,iface=wan0"));
        assert_fine(&examined(&tree, "eth_af_packet0,iface=wan0"));
        let findings = examined(&tree, "net_af_packet0,iface=wan1");
        assert_eq!(one(&findings, "no interface wan1").severity, Severity::Problem);
        assert!(one(&findings, "no interface").why.contains("did you mean wan0?"));
        one(&examined(&tree, "net_af_packet0"), "has no iface=");
    }

    #[test]
    fn af_packet_beside_the_kernels_addresses_is_noted() {
        let tree = with_wan0();
        tree.file("proc/net/route", "wan0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0");
        let findings = examined(&tree, "net_af_packet0,iface=wan0");
        assert_eq!(one(&findings, "the kernel has addresses").fix, ["ip addr flush dev wan0"]);
        tree.file("proc/net/route", "wan0 00000000 010200C0 0003 0 0 0 00000000 0 0 0");
        let findings = examined(&tree, "net_af_packet0,iface=wan0");
        assert!(one(&findings, "its default route").fix.is_empty());
    }

    #[test]
    fn packet_sockets_need_a_capability() {
        let tree = with_wan0();
        tree.user(4242, &[Capability::NetRaw]);
        assert_fine(&examined(&tree, "net_af_packet0,iface=wan0"));
        tree.user(4242, &[]);
        let findings = examined(&tree, "net_af_packet0,iface=wan0");
        assert_eq!(one(&findings, "needs CAP_NET_RAW").severity, Severity::Problem);
    }

    #[test]
    fn xdp_may_do_with_less_so_it_is_a_warning() {
        let tree = with_wan0();
        assert_fine(&examined(&tree, "net_af_xdp0,iface=wan0"));
        tree.user(4242, &[Capability::NetRaw]);
        let findings = examined(&tree, "net_af_xdp0,iface=wan0");
        let found = one(&findings, "needs CAP_NET_ADMIN and CAP_SYS_ADMIN");
        assert_eq!(found.severity, Severity::Warning);
    }

    #[test]
    fn a_tap_needs_its_device_and_a_capability() {
        let tree = Tree::new();
        assert_eq!(one(&examined(&tree, "net_tap0"), "no /dev/net/tun").fix, ["modprobe tun"]);
        tree.file("dev/net/tun", "");
        assert_fine(&examined(&tree, "net_tap0,iface=t0"));
        tree.user(4242, &[]);
        one(&examined(&tree, "net_tap0,iface=t0"), "needs CAP_NET_ADMIN");
        let tree = with_wan0();
        tree.file("dev/net/tun", "");
        one(&examined(&tree, "net_tap0,remote=wan9"), "no interface wan9");
    }

    #[test]
    fn a_capture_to_read_must_be_there() {
        let tree = Tree::new();
        tree.file("captures/in.pcap", "");
        assert_fine(&examined(
            &tree,
            "net_pcap0,rx_pcap=/captures/in.pcap,tx_pcap=/captures/o.pcap",
        ));
        one(
            &examined(&tree, "net_pcap0,rx_pcap=/captures/on.pcap"),
            "no capture /captures/on.pcap",
        );
        one(&examined(&tree, "net_pcap0,tx_pcap=/none/o.pcap"), "no directory /none");
        assert_fine(&examined(&tree, "net_pcap0,rx_pcap=relative.pcap"));
    }

    #[test]
    fn a_memif_socket_needs_a_directory_unless_it_is_abstract() {
        let tree = Tree::new();
        assert_fine(&examined(&tree, "net_memif0,socket=/run/m/a.sock"));
        let findings = examined(&tree, "net_memif0,socket=/run/m/a.sock,socket-abstract=no");
        assert_eq!(one(&findings, "no directory /run/m").fix, ["mkdir -p /run/m"]);
        tree.directory("run/m");
        assert_fine(&examined(&tree, "net_memif0,socket=/run/m/a.sock,socket-abstract=no"));
    }

    #[test]
    fn virtio_user_needs_its_other_half() {
        let tree = Tree::new();
        one(&examined(&tree, "virtio_user0"), "has no path=");
        let kernel = "virtio_user0,path=/dev/vhost-net";
        assert_eq!(one(&examined(&tree, kernel), "no /dev/vhost-net").fix, ["modprobe vhost-net"]);
        tree.file("dev/vhost-net", "");
        assert_fine(&examined(&tree, kernel));
        one(&examined(&tree, "net_virtio_user0,path=/run/v.sock"), "no socket /run/v.sock");
        assert_fine(&examined(&tree, "net_virtio_user0,path=/run/v.sock,server=1"));
    }

    #[test]
    fn an_unknown_driver_is_a_doubt_and_no_more() {
        let findings = examined(&Tree::new(), "net_af_paket0,iface=wan0");
        let finding = one(&findings, "net_af_paket");
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.why.contains("did you mean net_af_packet?"));
        assert_fine(&examined(&Tree::new(), "net_null0,copy=1"));
    }
}
