//! Devices that the environment names: what Kubernetes' SR-IOV device plugin gives to a pod.
//!
//! The plugin puts the addresses of a resource's VFs into one variable, separated by commas:
//! `PCIDEVICE_INTEL_COM_SRIOV=0000:03:02.0,0000:03:02.1`. A port names the variable (`$PCIDEVICE_INTEL_COM_SRIOV`, or
//! `${...}` as anywhere in the file) or the resource (`intel.com/sriov`), and ports that name the same one take its
//! addresses in the order of the file. Rejected: an index behind the name, as the plugin's order says nothing about which
//! VF is which; where that matters each network has a resource of its own.

use std::collections::HashMap;

use super::environment::Environment;
use super::report::{Report, quoted};
use super::source::Spanned;

/// What ports have taken of lists of addresses so far.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// By list.
    taken: HashMap<String, usize>,
}

impl Devices {
    /// The device that a port means by what it says; `None` with a mistake, which is then in the report.
    pub(super) fn resolve(
        &mut self,
        said: Spanned<String>,
        environment: Environment<'_>,
        report: &mut Report,
    ) -> Option<Spanned<String>> {
        let span = said.span;
        let given = match variable_of(&said.value) {
            None => said.value,
            Some(names) => {
                let set = names.iter().find_map(|name| environment(name));
                let Some(given) = set.filter(|given| !given.is_empty()) else {
                    let name = names.first().map(String::as_str).unwrap_or_default();
                    report
                        .error(span, format!("the environment variable `{name}` is not set"))
                        .hint("Kubernetes' SR-IOV device plugin sets it in a pod that asks for the resource");
                    return None;
                };
                if let Some(odd) = given.split(',').find(|one| !is_pci_address(one)) {
                    let message =
                        format!("the environment has {}, which is no PCI address", quoted(odd));
                    report.error(span, message).hint(
                        "only resources of network devices are ports: their variable has addresses as `0000:03:02.0`",
                    );
                    return None;
                }
                given
            }
        };
        let addresses: Vec<&str> = given.split(',').collect();
        if addresses.len() < 2 || !addresses.iter().all(|one| is_pci_address(one)) {
            return Some(Spanned::new(given, span));
        }
        let taken = self.taken.entry(given.clone()).or_default();
        let Some(address) = addresses.get(*taken) else {
            let all = addresses.len();
            report
                .error(span, format!("there are {all} devices, and {all} ports have them: {given}"))
                .hint("each port takes the next one: ask for as many devices as there are ports");
            return None;
        };
        *taken += 1;
        Some(Spanned::new((*address).to_owned(), span))
    }
}

/// The variable that a port names, in the ways in which the plugin may have written it.
fn variable_of(said: &str) -> Option<Vec<String>> {
    let name = said.strip_prefix('$').unwrap_or(said);
    if name.starts_with(PREFIX) && !name.contains(',') {
        return Some(vec![name.to_owned()]);
    }
    let (domain, resource) = said.split_once('/')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    if !is_name(domain) || !is_name(resource) || !domain.contains('.') {
        return None;
    }
    let upper = format!("{PREFIX}{}_{}", domain, resource).to_ascii_uppercase().replace('.', "_");
    let plain = upper.replace('-', "_");
    Some(vec![upper, plain])
}

/// `0000:03:02.0` or `03:02.0`.
fn is_pci_address(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    let Some((place, function)) = text.rsplit_once('.') else { return false };
    let parts: Vec<&str> = place.split(':').collect();
    is_hex(function, 1)
        && match parts.as_slice() {
            [bus, device] => is_hex(bus, 2) && is_hex(device, 2),
            [domain, bus, device] => is_hex(domain, 4) && is_hex(bus, 2) && is_hex(device, 2),
            _ => false,
        }
}

const PREFIX: &str = "PCIDEVICE_";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::report::Report;
    use super::super::source::Source;
    use super::super::spec::ChainFile;
    use super::super::testing::shown;

    const SET: [(&str, &str); 4] = [
        ("PCIDEVICE_INTEL_COM_SRIOV", "0000:03:02.0,0000:03:02.1"),
        ("PCIDEVICE_EXAMPLE_ORG_WAN-NET", "0000:81:0a.3"),
        ("PCIDEVICE_EXAMPLE_ORG_FPGA", "/dev/intel-fpga-port.1"),
        ("PCIDEVICE_EXAMPLE_ORG_NONE", ""),
    ];

    /// The devices of ports that say this, and the mistakes.
    fn devices(said: &[&str]) -> (Vec<String>, Vec<String>) {
        let ports: String =
            (0..).zip(said).map(|(n, said)| format!("  p{n}: '{said}'\n")).collect();
        let names: Vec<String> = (0..said.len()).map(|n| format!("p{n}")).collect();
        let names = names.join(", ");
        let text = format!("ports:\n{ports}chains: {{ c: {{ from: [{names}], to: p0 }} }}\n");
        let source = Arc::new(Source::from_bytes("edge.yaml", text.into()).unwrap());
        let mut report = Report::new(source.clone());
        let environment =
            |name: &str| SET.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into());
        let file = ChainFile::read(&source, &environment, &[], &mut report).unwrap();
        (file.ports.into_iter().map(|port| port.device.value).collect(), shown(&report))
    }

    #[test]
    fn ports_that_name_one_variable_take_its_addresses_in_order() {
        for said in [
            "${PCIDEVICE_INTEL_COM_SRIOV}",
            "$PCIDEVICE_INTEL_COM_SRIOV",
            "PCIDEVICE_INTEL_COM_SRIOV",
            "intel.com/sriov",
        ] {
            let (devices, mistakes) = devices(&[said, "example.org/wan-net", said]);
            assert_eq!(mistakes, [] as [&str; 0], "{said}");
            assert_eq!(devices, ["0000:03:02.0", "0000:81:0a.3", "0000:03:02.1"], "{said}");
        }
    }

    #[test]
    fn other_devices_with_commas_stay_as_they_are() {
        let plain =
            ["net_tap0,iface=a", "0000:03:02.0,representor=1", "net_pcap0,rx_pcap=/tmp/a.b/c"];
        assert_eq!(devices(&plain), (plain.map(str::to_owned).into(), vec![]));
    }

    #[test]
    fn what_is_not_set_is_no_address_or_is_not_enough_is_a_mistake_with_its_place() {
        let not_set = |name| format!("2:7: the environment variable `{name}` is not set");
        assert_eq!(devices(&["$PCIDEVICE_X"]).1, [not_set("PCIDEVICE_X")]);
        assert_eq!(devices(&["example.org/none"]).1, [not_set("PCIDEVICE_EXAMPLE_ORG_NONE")]);
        assert_eq!(
            devices(&["example.org/fpga"]).1,
            ["2:7: the environment has `/dev/intel-fpga-port.1`, which is no PCI address"]
        );
        assert_eq!(
            devices(&["intel.com/sriov"; 3]).1,
            ["4:7: there are 2 devices, and 2 ports have them: 0000:03:02.0,0000:03:02.1"]
        );
    }
}
