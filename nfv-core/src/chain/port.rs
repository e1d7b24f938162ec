//! The ports of a chain file: what the user says of each, and what two of them cannot share.
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::device::Devices;
use super::environment::Environment;
use super::report::{Report, quoted};
use super::section::Section;
use super::source::{Span, Spanned};
use super::value::{MacAddress, check_name};
use crate::offload::EmulatedDevice;

/// What a port does with packets for the box itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A bump in the wire: it has no address.
    Transparent,
    /// It is a router's interface.
    Routed,
}

/// A port.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// The user's name for it.
    pub name: Spanned<String>,
    /// A PCI address, a vdev with its arguments, or the name of a device of the EAL options.
    pub device: Spanned<String>,
    /// Bump in the wire, or router.
    pub mode: Mode,
    /// The zone that it is in, with others of the same name; without one, with those that name none.
    pub zone: Option<Spanned<String>>,
    /// Its addresses with the lengths of their prefixes; `Mode::Routed` only.
    pub addresses: Vec<Spanned<IpNet>>,
    /// The MAC address to set; otherwise the device's own.
    pub mac: Option<Spanned<MacAddress>>,
    /// The MTU to set, 68 to 9600; otherwise the device's own.
    pub mtu: Option<Spanned<u16>>,
    /// Whether to receive frames for other stations.
    pub promiscuous: bool,
    /// Whether its NIC is given rules.
    pub offload: bool,
    /// Descriptors of each receive queue; otherwise the driver's preference.
    pub rx_descriptors: Option<u16>,
    /// Descriptors of each transmit queue; otherwise the driver's preference.
    pub tx_descriptors: Option<u16>,
    /// Mbufs in the port's mempool; otherwise what its queues need.
    pub mempool_size: Option<u32>,
    /// How long a start waits for the link.
    pub link_timeout: Duration,
    /// The name of the kernel's twin interface; `Mode::Routed` only.
    pub twin: Option<Spanned<String>>,
    /// Neighbours that need no resolution; `Mode::Routed` only.
    pub neighbours: Vec<(Spanned<IpAddr>, Spanned<MacAddress>)>,
}

/// Reads a port; none without a device, which is then in the report.
pub(super) fn read_port(
    section: &Section<'_>,
    devices: &mut Devices,
    environment: Environment<'_>,
    report: &mut Report,
) -> Option<PortSpec> {
    let spanned = |key: &str, text| Spanned::new(text, section.span_of(key));
    let small = |key: &str| section.integer(key).and_then(|number| u16::try_from(number).ok());
    let mode = match section.choice("mode") {
        Some("routed") => Mode::Routed,
        _ => Mode::Transparent,
    };
    let name = Spanned::new(section.name().to_owned(), section.span());
    // With a mode that is no mode, what it would allow is not known.
    let mode_known = section.choice("mode").is_some();
    for key in ["addresses", "twin", "neighbours"] {
        if mode_known && mode == Mode::Transparent && section.has(key) {
            report
                .error(
                    section.span_of_key(key),
                    format!(
                        "`{key}` needs `mode: routed`; port {} is transparent",
                        quoted(&name.value)
                    ),
                )
                .hint("a transparent port has no addresses: set the mode, or remove the key");
        }
    }
    let device = spanned("device", section.text("device")?);
    let device = devices.resolve(device, environment, report)?;
    if let Some(Err(why)) = EmulatedDevice::read(&device.value) {
        report.error(device.span, why).hint(
            "an emulated NIC is written as `emulated,profile=iavf,queues=4,wire=net_af_packet0,iface=eth1`",
        );
    }
    Some(PortSpec {
        device,
        zone: section.text("zone").map(|zone| spanned("zone", zone)),
        addresses: section.values("addresses"),
        mac: section.value("mac").map(|mac| Spanned::new(mac, section.span_of("mac"))),
        mtu: small("mtu").map(|mtu| Spanned::new(mtu, section.span_of("mtu"))),
        promiscuous: section.flag("promiscuous").unwrap_or(mode == Mode::Transparent),
        offload: section.flag("offload").unwrap_or(true),
        rx_descriptors: small("rx-descriptors"),
        tx_descriptors: small("tx-descriptors"),
        mempool_size: section.integer("mempool-size").and_then(|n| u32::try_from(n).ok()),
        link_timeout: section.value("link-timeout").unwrap_or_default(),
        twin: if mode == Mode::Routed { read_twin(section, &name, report) } else { None },
        neighbours: section.pairs("neighbours"),
        mode,
        name,
    })
}

/// The name of the twin: as said, else the port's; none for `none`, and for what the kernel would
/// not take.
fn read_twin(
    section: &Section<'_>,
    port: &Spanned<String>,
    report: &mut Report,
) -> Option<Spanned<String>> {
    let twin = match section.text("twin") {
        Some(twin) if twin == "none" => return None,
        Some(twin) => Spanned::new(twin, section.span_of("twin")),
        None if section.has("twin") || check_name(&port.value).is_err() => return None,
        None => port.clone(),
    };
    let length = twin.value.len();
    let odd = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '%';
    if length > INTERFACE_NAME_MAX || twin.value.contains(odd) || twin.value.starts_with('.') {
        report
            .error(twin.span, format!("{} cannot be the name of a kernel interface", quoted(&twin.value)))
            .hint("at most 15 characters, without blanks, `/`, `:` and `%`: set `twin`, or `twin: none`");
        return None;
    }
    Some(twin)
}

/// What two ports cannot share.
pub(super) fn check_ports(ports: &[PortSpec], report: &mut Report) {
    let mut devices = Taken::new("device", "a device belongs to one port");
    let mut addresses = Taken::new("address", "an address belongs to one port");
    let mut twins = Taken::new("twin", "give each its own `twin`");
    for port in ports {
        let name = &port.name.value;
        devices.take(port.device.value.to_ascii_lowercase(), port.device.span, name, report);
        for Spanned { value, span } in &port.addresses {
            addresses.take(value.addr(), *span, name, report);
        }
        if let Some(twin) = &port.twin {
            twins.take(twin.value.clone(), twin.span, name, report);
        }
    }
}

/// What can be had once.
struct Taken<T> {
    what: &'static str,
    hint: &'static str,
    by: HashMap<T, (String, Span)>,
}

impl<T: Eq + Hash> Taken<T> {
    fn new(what: &'static str, hint: &'static str) -> Self {
        Self { what, hint, by: HashMap::new() }
    }

    fn take(&mut self, value: T, at: Span, port: &str, report: &mut Report) {
        if let Some((first, span)) = self.by.get(&value) {
            let (line, column) = (span.line, span.column);
            report
                .error(
                    at,
                    format!(
                        "port {} has the {} of port {}",
                        quoted(port),
                        self.what,
                        quoted(first)
                    ),
                )
                .hint(format!("which has it in line {line}, column {column}; {}", self.hint));
        } else {
            self.by.insert(value, (port.to_owned(), at));
        }
    }
}

/// IFNAMSIZ without its zero byte.
const INTERFACE_NAME_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::super::testing::{mistakes, read};

    #[test]
    fn two_ports_share_no_device_address_or_twin() {
        assert_eq!(
            mistakes(
                "ports:\n\
                 \x20 a: { device: 0000:03:02.A, mode: routed, addresses: 10.0.0.1/24, twin: x }\n\
                 \x20 b: { device: 0000:03:02.a, mode: routed, addresses: 10.0.0.1/16, twin: x }\n\
                 chains: { c: { from: a, to: b } }\n"
            ),
            [
                "3:16: port `b` has the device of port `a`",
                "3:55: port `b` has the address of port `a`",
                "3:74: port `b` has the twin of port `a`",
            ]
        );
    }

    #[test]
    fn a_transparent_port_has_nothing_of_a_router() {
        assert_eq!(
            mistakes(
                "ports:\n  a: { device: x, addresses: [10.0.0.1/24], twin: none, neighbours: {} }\n\
                 chains: { c: { from: a, to: a } }\n"
            ),
            ["2:19", "2:45", "2:57"]
                .iter()
                .zip(["addresses", "twin", "neighbours"])
                .map(|(at, key)| format!(
                    "{at}: `{key}` needs `mode: routed`; port `a` is transparent"
                ))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_routed_port_has_a_twin_that_the_kernel_can_name_unless_it_wants_none() {
        let port = |name: &str, twin: &str| {
            format!(
                "ports: {{ {name}: {{ device: x, mode: routed{twin} }} }}\nchains: {{ c: {{ from: {name}, to: {name} }} }}\n"
            )
        };
        let twin = |text: &str| read(text).0.unwrap().ports[0].twin.clone().map(|twin| twin.value);
        assert_eq!(twin(&port("wan", "")), Some("wan".into()));
        assert_eq!(twin(&port("wan", ", twin: none")), None);
        let long = port("a-name-of-16-let", "");
        assert_eq!(
            mistakes(&long),
            ["1:10: `a-name-of-16-let` cannot be the name of a kernel interface"]
        );
        assert_eq!(mistakes(&port("wan", ", twin: a/b")).len(), 1);
        assert_eq!(mistakes(&port("a-name-of-16-let", ", twin: none")), Vec::<String>::new());
    }
}
