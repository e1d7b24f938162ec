//! The kernel's twin of a routed port: a TAP interface of the same name, MAC, MTU and addresses.
//!
//! ```text
//!            worker                        control thread                     kernel
//!   port --> for the box itself? --TwinLink--> pump --write--> TAP --> ARP, ND, ping, FRR, sshd
//!   port <-- transmit <------------TwinLink--- pump <---read-- TAP <--+
//! ```
//!
//! The kernel answers for the box, so that everything an operator knows of a Linux interface works on a routed port; the
//! dataplane learns from it ([`netlink`](super::netlink)). The interface is not persistent: it goes with the process,
//! however that ends, so a crash leaves nothing behind.
//!
//! A worker cannot wake the control thread without a system call, so [`Twin::pump`] looks every 100 us while there are
//! frames and backs off to 1 ms while there are none. It keeps the time with a timerfd, as tokio's clock ticks in whole
//! milliseconds. Rejected: DPDK's own TAP and virtio-user ports, which take a queue, a worker's polling and (for
//! virtio-user) a kernel thread for a few frames a second.
mod timer;

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{fs, io};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rustix::io::Errno;
use tun_rs::{AsyncDevice, DeviceBuilder, Layer};

use self::timer::Timer;
use super::netlink::family;
use super::netlink::socket::Socket;

/// Largest frame that passes a twin, in bytes without the checksum: an MTU of 9,600 with Ethernet and one VLAN header.
pub const FRAME_MAX: usize = 9_618;

/// The dataplane's end of a twin: frames towards the kernel, frames from it.
///
/// Bounded both ways; what does not fit is counted by the implementer.
pub trait TwinLink: Send + Sync + 'static {
    /// Next frame for the kernel: `f` is called with its bytes, then the frame is freed. False when there is none.
    ///
    /// A complete Ethernet frame without checksum, of at most [`FRAME_MAX`] bytes.
    fn next_to_kernel(&self, f: &mut dyn FnMut(&[u8])) -> bool;
    /// Gives a frame from the kernel to the dataplane. False: no room; the frame is dropped there, and counted.
    #[allow(
        clippy::wrong_self_convention,
        reason = "says whence the frame comes; nothing is converted"
    )]
    fn from_kernel(&self, frame: &[u8]) -> bool;
}

/// What a twin is made of; the port's own values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinConfig {
    /// Name of the port, which the interface gets: 1 to 15 bytes, no space, `/`, `:` or `%`.
    pub name: String,
    /// The port's MAC, so that frames which the kernel builds come from it.
    pub mac: [u8; 6],
    /// Bytes of an IP packet, 68 to 9,600; 1,280 or more where there are IPv6 addresses.
    pub mtu: u16,
    /// Addresses with the prefix lengths of their networks.
    pub addresses: Vec<IpNet>,
}

/// A TAP interface that is up; it ends when this is dropped, or with the process.
pub struct Twin {
    device: AsyncDevice,
    name: String,
    interface: u32,
    counts: Counts,
}

/// What passed a twin, in frames. Monotone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwinCounts {
    /// Written to the kernel.
    pub to_kernel: u64,
    /// Not taken by the kernel: the interface is down, or the frame shorter than a header.
    pub refused_by_kernel: u64,
    /// Read from the kernel and taken by the dataplane.
    pub from_kernel: u64,
    /// Read from the kernel and not taken: no room, or longer than [`FRAME_MAX`] (the latter the dataplane never sees).
    pub refused_by_dataplane: u64,
}

/// What can change of the port that a twin stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its link.
    Carrier(Carrier),
    /// Its MAC address.
    Mac([u8; 6]),
}

/// Whether the port that a twin stands for has a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The port's link is up.
    Present,
    /// The port's link is down; routing daemons withdraw what they learned over it.
    Absent,
}

/// Why a twin cannot be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The kernel would not take the name.
    #[error(
        "port `{name}`: its kernel interface cannot have this name: {why}; rename the port in the chain file"
    )]
    Name {
        /// Name of the port.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Some other interface has the name.
    #[error(
        "port `{name}`: an interface of this name exists already (`ip link show {name}`); rename the port in the chain file, or stop the program that owns it (another nfv?), or remove it: ip link del {name}"
    )]
    Taken {
        /// Name of the port.
        name: String,
    },
    /// The kernel gives no TAP interfaces here.
    #[error(
        "port `{name}`: /dev/net/tun cannot be used, so a routed port cannot have its kernel interface; load the driver (modprobe tun), in a container also pass the device (--device /dev/net/tun)"
    )]
    NoDriver {
        /// Name of the port.
        name: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Not root, and without the capability.
    #[error(
        "port `{name}`: {call}: no permission to make its kernel interface; run as root, or grant the capability (setcap cap_net_admin+ep on the program, --cap-add NET_ADMIN for a container)"
    )]
    Permission {
        /// Name of the port.
        name: String,
        /// The call that was refused.
        call: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another call failed.
    #[error("port `{name}`: {call} failed for its kernel interface{remedy}")]
    Call {
        /// Name of the port.
        name: String,
        /// The call that failed, with its argument.
        call: String,
        /// What to do, if known; begins with `; `.
        remedy: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The interface was removed while it was in use.
    #[error(
        "port `{name}`: its kernel interface was removed while in use (ip link del {name}?); nothing for the box itself passes the port until nfv is started again"
    )]
    Removed {
        /// Name of the port.
        name: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl Twin {
    /// Makes the interface, sets it up and brings it up. Call it in a tokio runtime with I/O.
    ///
    /// IPv6 addresses are usable after the kernel's duplicate detection, 1 to 2 s later, as on any interface.
    ///
    /// # Errors
    /// Every variant but `Removed`; nothing is left behind.
    pub async fn create(config: &TwinConfig) -> Result<Self, TwinError> {
        let name = config.name.as_str();
        check_name(name)?;
        let fail = |call: &str| {
            let call = call.to_owned();
            move |source| failed(name, call, "", source)
        };
        let mut netlink = Socket::open(&[]).map_err(fail("socket(AF_NETLINK)"))?;
        // The driver would join a persistent TAP that someone made by hand, and share its frames with its owner.
        if netlink.index_of(name).await.map_err(fail("RTM_GETLINK"))?.is_some() {
            return Err(TwinError::Taken { name: name.to_owned() });
        }
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .enable(false)
            .build_async()
            .map_err(|source| not_made(name, source))?;
        let interface = netlink.index_of(name).await.map_err(fail("RTM_GETLINK"))?;
        let interface = interface.ok_or_else(|| TwinError::Removed {
            name: name.to_owned(),
            source: Errno::NODEV.into(),
        })?;
        apply_settings(config);
        set_up(&mut netlink, interface, config).await?;
        Ok(Self { device, name: name.to_owned(), interface, counts: Counts::default() })
    }

    /// The name of the port and of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's index of the interface; what `netlink` events name.
    #[must_use]
    pub const fn interface(&self) -> u32 {
        self.interface
    }

    /// What passed so far.
    #[must_use]
    pub fn counts(&self) -> TwinCounts {
        let Counts { to_kernel, refused_by_kernel, from_kernel, refused_by_dataplane } =
            &self.counts;
        TwinCounts {
            to_kernel: to_kernel.load(Relaxed),
            refused_by_kernel: refused_by_kernel.load(Relaxed),
            from_kernel: from_kernel.load(Relaxed),
            refused_by_dataplane: refused_by_dataplane.load(Relaxed),
        }
    }

    /// Shows the kernel whether the port has a link, as a cable would.
    ///
    /// The kernel itself acts on such changes at most once a second, so a link that flaps is seen late.
    ///
    /// # Errors
    /// `Call`, or `Permission` when the capability was given up since.
    pub async fn set_carrier(&self, carrier: Carrier) -> Result<(), TwinError> {
        let fail =
            |source| failed(&self.name, format!("RTM_SETLINK carrier {carrier:?}"), "", source);
        let mut message = LinkMessage::default();
        message.header.index = self.interface;
        message.attributes.push(LinkAttribute::Carrier((carrier == Carrier::Present).into()));
        let mut netlink = Socket::open(&[]).map_err(fail)?;
        netlink.request(RouteNetlinkMessage::SetLink(message), 0).await.map_err(fail)
    }

    /// Gives the interface another MAC address: that of the port, where its host has changed it.
    ///
    /// # Errors
    /// As for [`Twin::set_carrier`].
    pub async fn set_mac(&self, mac: [u8; 6]) -> Result<(), TwinError> {
        let fail = |source| failed(&self.name, "RTM_SETLINK address".to_owned(), "", source);
        let mut message = LinkMessage::default();
        message.header.index = self.interface;
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        let mut netlink = Socket::open(&[]).map_err(fail)?;
        netlink.request(RouteNetlinkMessage::SetLink(message), 0).await.map_err(fail)
    }

    /// Shows the kernel what has changed of the port.
    ///
    /// # Errors
    /// As for [`Twin::set_carrier`].
    pub async fn follow(&self, change: Change) -> Result<(), TwinError> {
        match change {
            Change::Carrier(carrier) => self.set_carrier(carrier).await,
            Change::Mac(mac) => self.set_mac(mac).await,
        }
    }

    /// Passes frames both ways until the interface ends, and returns why. Cancel safe.
    ///
    /// # Cost
    /// One system call a frame; 1,000 wake-ups a second when there are none.
    pub async fn pump(&self, link: &impl TwinLink) -> TwinError {
        match self.try_pump(link).await {
            Ok(never) => match never {},
            Err(source) if source.raw_os_error() == Some(Errno::BADFD.raw_os_error()) => {
                TwinError::Removed { name: self.name.clone(), source }
            }
            Err(source) => failed(&self.name, "read, write or poll".to_owned(), "", source),
        }
    }

    async fn try_pump(&self, link: &impl TwinLink) -> io::Result<std::convert::Infallible> {
        // The device does not say that it can be written before it was asked once.
        self.device.writable().await?;
        let mut frame = vec![0; FRAME_MAX + 1];
        let mut timer = Timer::new()?;
        let mut pause = PAUSE_MIN;
        timer.arm(pause)?;
        loop {
            tokio::select! {
                ready = self.device.readable() => {
                    ready?;
                    self.read_some(link, &mut frame)?;
                }
                ready = timer.expired() => {
                    ready?;
                    let sent = self.write_some(link)?;
                    pause = if sent > 0 { PAUSE_MIN } else { PAUSE_MAX.min(pause * 2) };
                    timer.arm(pause)?;
                }
            }
        }
    }

    /// Reads at most [`TURN_MAX`] frames, so that the other direction and the other tasks get their turn.
    fn read_some(&self, link: &impl TwinLink, frame: &mut [u8]) -> io::Result<()> {
        for _ in 0..TURN_MAX {
            let length = match self.device.try_recv(frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                read => read?,
            };
            // A frame that was cut to the buffer fills it to the last byte, which no whole one does.
            let whole = frame.get(..length).filter(|frame| frame.len() <= FRAME_MAX);
            let taken = whole.is_some_and(|frame| link.from_kernel(frame));
            let Counts { from_kernel, refused_by_dataplane, .. } = &self.counts;
            if taken { from_kernel } else { refused_by_dataplane }.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Writes at most [`TURN_MAX`] frames; returns how many there were.
    fn write_some(&self, link: &impl TwinLink) -> io::Result<usize> {
        let mut removed = None;
        for sent in 0..TURN_MAX {
            let any = link.next_to_kernel(&mut |frame| {
                let Counts { to_kernel, refused_by_kernel, .. } = &self.counts;
                match self.device.try_send(frame) {
                    Ok(_) => to_kernel.fetch_add(1, Relaxed),
                    Err(error) => {
                        if error.raw_os_error() == Some(Errno::BADFD.raw_os_error()) {
                            removed = Some(error);
                        }
                        refused_by_kernel.fetch_add(1, Relaxed)
                    }
                };
            });
            if let Some(error) = removed {
                return Err(error);
            }
            if !any {
                return Ok(sent);
            }
        }
        Ok(TURN_MAX)
    }
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twin")
            .field("name", &self.name)
            .field("interface", &self.interface)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counts {
    to_kernel: AtomicU64,
    refused_by_kernel: AtomicU64,
    from_kernel: AtomicU64,
    refused_by_dataplane: AtomicU64,
}

/// Sets MAC and MTU, brings the interface up and gives it its addresses.
async fn set_up(
    netlink: &mut Socket,
    interface: u32,
    config: &TwinConfig,
) -> Result<(), TwinError> {
    let TwinConfig { name, mac, mtu, addresses } = config;
    let set = |attribute| {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        message.attributes.push(attribute);
        RouteNetlinkMessage::SetLink(message)
    };
    netlink.request(set(LinkAttribute::Address(mac.to_vec())), 0).await.map_err(|source| {
        let remedy = "; a port's MAC must be unicast and not zero";
        failed(name, format!("RTM_SETLINK address {}", colons(mac)), remedy, source)
    })?;
    netlink.request(set(LinkAttribute::Mtu((*mtu).into())), 0).await.map_err(|source| {
        let remedy = "; an MTU is 68 to 9600 bytes";
        failed(name, format!("RTM_SETLINK mtu {mtu}"), remedy, source)
    })?;
    let mut up = LinkMessage::default();
    up.header.index = interface;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    let raised = netlink.request(RouteNetlinkMessage::SetLink(up), 0).await;
    raised.map_err(|source| failed(name, "RTM_SETLINK up".to_owned(), "", source))?;
    for address in addresses {
        let message = RouteNetlinkMessage::NewAddress(address_message(interface, *address));
        let added = netlink.request(message, NLM_F_CREATE | NLM_F_EXCL).await;
        added.map_err(|source| {
            let remedy = match Errno::from_io_error(&source) {
                Some(Errno::EXIST) => "; the chain file gives it twice",
                Some(Errno::INVAL) if address.addr().is_ipv6() && *mtu < 1280 => {
                    "; IPv6 needs an MTU of at least 1280"
                }
                Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => "; this kernel runs without IPv6",
                _ => "",
            };
            failed(name, format!("RTM_NEWADDR {address}"), remedy, source)
        })?;
    }
    Ok(())
}

fn address_message(interface: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = interface;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if let IpNet::V4(net) = address
        && net.prefix_len() < 31
    {
        // As `ip addr add ... brd +`; a /31 has none (RFC 3021).
        message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
    }
    message
}

/// Makes the interface that of a router whose forwarding is done elsewhere. A setting that cannot be made is a warning:
/// a container may mount /proc/sys read-only, and most of its hosts have what is wanted.
fn apply_settings(config: &TwinConfig) {
    let v6 = config.addresses.iter().any(|address| address.addr().is_ipv6());
    // Where IPv6 is off by default, an operator who writes an IPv6 address wants it on here.
    let enable = v6.then_some(("ipv6", "disable_ipv6", "0", "its IPv6 addresses do not work"));
    for (family, key, value, otherwise) in enable.into_iter().chain(SETTINGS) {
        let path: PathBuf = ["/proc/sys/net", family, "conf", &config.name, key].iter().collect();
        match fs::read_to_string(&path) {
            Ok(now) if now.trim() == value => continue,
            // A kernel without IPv6, or without the option.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => {}
        }
        if let Err(error) = fs::write(&path, value) {
            tracing::warn!(
                port = config.name,
                "{} cannot be set to {value} ({error}); without it {otherwise}",
                path.display()
            );
        }
    }
}

/// Checks what the kernel would refuse with no more than `Invalid argument`, or read as a pattern.
fn check_name(name: &str) -> Result<(), TwinError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "the kernel's names have at most 15 bytes"
    } else if name == "." || name == ".." {
        "it means a directory"
    } else if name.bytes().any(|b| matches!(b, b'/' | b':' | b'%' | 0) || b.is_ascii_whitespace()) {
        "the kernel's names have no space, `/`, `:` or `%`"
    } else {
        return Ok(());
    };
    Err(TwinError::Name { name: name.to_owned(), why })
}

/// The error for a driver that would not make the interface.
fn not_made(name: &str, source: io::Error) -> TwinError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => TwinError::NoDriver { name, source },
        // Someone was faster since we looked.
        Some(Errno::BUSY | Errno::EXIST) => TwinError::Taken { name },
        _ => failed(&name, "TUNSETIFF on /dev/net/tun".to_owned(), "", source),
    }
}

fn failed(name: &str, call: String, remedy: &'static str, source: io::Error) -> TwinError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => TwinError::Permission { name, call, source },
        _ => TwinError::Call { name, call, remedy, source },
    }
}

fn colons(mac: &[u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for (i, byte) in mac.iter().enumerate() {
        let sign = if i == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{sign}{byte:02x}");
    }
    text
}

/// Settings of the interface: family, key, value, and what goes wrong without it.
const SETTINGS: [(&str, &str, &str, &str); 8] = [
    // A host may forward for its containers; what arrives here was forwarded by the dataplane, if by anyone.
    ("ipv4", "forwarding", "0", "the kernel may forward packets a second time"),
    ("ipv4", "send_redirects", "0", "the kernel may redirect hosts past this router"),
    ("ipv4", "accept_redirects", "0", "hosts may change the routes of this router"),
    // Replies may take another port than requests (two uplinks): the dataplane's routes decide, not the kernel's.
    ("ipv4", "rp_filter", "0", "the kernel drops packets of asymmetric paths"),
    // Sets the router flag in neighbour advertisements (RFC 4861 section 7.2.4): hosts drop a router that lacks it.
    // It does not enable forwarding, which for IPv6 only `all` does.
    ("ipv6", "forwarding", "1", "hosts may take this router for a host"),
    ("ipv6", "accept_ra", "0", "another router's advertisements may change the routes of this one"),
    ("ipv6", "autoconf", "0", "the port may get addresses that the chain file does not name"),
    ("ipv6", "accept_redirects", "0", "hosts may change the routes of this router"),
];

/// `IFNAMSIZ` less its NUL.
const NAME_MAX: usize = 15;
/// Frames moved before the other tasks get a turn; one queue's worth.
const TURN_MAX: usize = 256;
/// How soon to look again for frames to the kernel while there are some.
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// How soon to look while there are none: adds at most this to a ping.
const PAUSE_MAX: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_would_not_take_is_refused_with_the_rule() {
        let cases = [
            ("", "empty"),
            ("a-very-long-name", "15 bytes"),
            ("..", "directory"),
            ("lan/1", "`/`"),
            ("lan 1", "space"),
            ("lan%d", "`%`"),
        ];
        for (name, rule) in cases {
            let error = check_name(name).expect_err(name).to_string();
            assert!(error.contains(rule) && error.contains("rename"), "{name}: {error}");
        }
        assert!(check_name("exactly-15-byte").is_ok());
    }

    #[test]
    fn a_missing_permission_names_the_capability() {
        let error = failed("wan", "TUNSETIFF".to_owned(), "", Errno::PERM.into());
        assert!(error.to_string().contains("cap_net_admin"), "{error}");
    }

    #[test]
    fn a_missing_driver_names_the_module() {
        let error = not_made("wan", Errno::NOENT.into());
        assert!(error.to_string().contains("modprobe tun"), "{error}");
    }
}
