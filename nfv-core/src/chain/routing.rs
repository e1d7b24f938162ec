//! The forwarding table as the chain file's ports section has it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::chain::port::Mode;
use crate::chain::report::{Report, quoted};
use crate::chain::spec::ChainFile;
use crate::flow::RouteTable;
use crate::nf::{Kind, PortIndex};

/// The forwarding table with what the ports' section says, when anything routes.
pub(super) fn route_table(
    file: &ChainFile,
    kinds: &[&'static Kind],
    report: &mut Report,
) -> Option<Arc<RouteTable>> {
    let routes = |name: &str| kinds.iter().any(|k| k.name == name && k.profile.routes);
    let routed = file.ports.iter().any(|p| p.mode == Mode::Routed);
    let span = file.ports.first()?.name.span;
    if !routed && !file.functions.iter().any(|f| routes(f.kind.name)) {
        return None;
    }
    let table = match RouteTable::create(file.ports.len()) {
        Ok(table) => table,
        Err(why) => {
            let hint = "it takes 200 MiB: give EAL more memory, `-m 1024`";
            report.error(span, format!("no forwarding table: {why}")).hint(hint);
            return None;
        }
    };
    for (index, port) in (0..=u8::MAX).map(PortIndex).zip(&file.ports) {
        for address in &port.addresses {
            if let Err(why) = table.add_port_address(index, address.value) {
                report.error(address.span, why.to_string());
            }
        }
        for (address, mac) in &port.neighbours {
            let on_link = |net: &IpNet| net.contains(&address.value);
            if !port.addresses.iter().any(|a| on_link(&a.value)) && !is_link_local(address.value) {
                let (port, address_text) = (quoted(&port.name.value), address.value);
                report
                    .error(address.span, format!("{address_text} is in no network of port {port}"))
                    .hint("a neighbour is on the port's link: give the port an address in its network");
                continue;
            }
            if let Err(why) = table.neighbour(index, address.value, Some(mac.value.bytes())) {
                report.error(address.span, why.to_string());
            }
        }
    }
    Some(Arc::new(table))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
