//! A NIC's rule as testpmd's command line takes it (testpmd's guide, "Flow rules management"), to be tried by hand.

use std::fmt::Write as _;

use nfv_core::chain::value::Prefix;
use nfv_core::offload::{Facts, Fate, L4Item, NicRule, PortItem, Unsteered};

/// `flow create PORT ingress ...`, as a NIC with these facts wants it.
pub fn command(port: usize, rule: &NicRule, facts: Option<&Facts>) -> String {
    let mut text = format!("flow create {port} ingress ");
    if rule.priority > 0 {
        // Writing to a text does not fail.
        let _ = write!(text, "priority {} ", rule.priority);
    }
    let pattern = &rule.pattern;
    text.push_str("pattern eth / ");
    if let Some(vlan) = pattern.vlan {
        let _ = write!(text, "vlan vid is {vlan} / ");
    }
    text.push_str(if pattern.is_ipv6 { "ipv6" } else { "ipv4" });
    text.push_str(&address("src", pattern.src));
    text.push_str(&address("dst", pattern.dst));
    let ((sport, dport), rest) = (pattern.l4.ports(), " / end actions ");
    let ports = port_item("src", sport) + &port_item("dst", dport);
    let _ = match pattern.l4 {
        L4Item::Tcp { flags: (0, _), .. } => write!(text, " / tcp{ports}{rest}"),
        L4Item::Tcp { flags: (mask, value), .. } => {
            write!(text, " / tcp{ports} flags spec {value:#04x} flags mask {mask:#04x}{rest}")
        }
        L4Item::Udp { .. } => write!(text, " / udp{ports}{rest}"),
        L4Item::Sctp { .. } => write!(text, " / sctp{ports}{rest}"),
        L4Item::Icmp { kind } => {
            let item = if pattern.is_ipv6 { "icmp6" } else { "icmp" };
            let kind = kind.map(|kind| format!(" type is {kind}")).unwrap_or_default();
            write!(text, " / {item}{kind}{rest}")
        }
    };
    if let Some(mark) = rule.mark {
        let _ = write!(text, "mark id {mark} / ");
    }
    if rule.count {
        text.push_str("count / ");
    }
    let passes = facts.is_some_and(|facts| facts.unsteered == Unsteered::Passthru);
    let _ = match rule.fate {
        Fate::Drop => write!(text, "drop / end"),
        Fate::Queue(queue) => write!(text, "queue index {queue} / end"),
        Fate::Rss if passes => write!(text, "passthru / end"),
        Fate::Rss => write!(text, "rss / end"),
    };
    text
}

fn address(side: &str, prefix: Option<Prefix>) -> String {
    let Some(net) = prefix.map(Prefix::net) else { return String::new() };
    match (net.prefix_len(), net.addr()) {
        (0, _) => String::new(),
        (length, address) if length == net.max_prefix_len() => format!(" {side} is {address}"),
        (length, address) => format!(" {side} spec {address} {side} prefix {length}"),
    }
}

fn port_item(side: &str, port: PortItem) -> String {
    match port {
        PortItem::Any => String::new(),
        PortItem::Masked { value, mask: u16::MAX } => format!(" {side} is {value}"),
        PortItem::Masked { value, mask } => {
            format!(" {side} spec {value} {side} mask {mask:#06x}")
        }
        PortItem::Range(first, last) => format!(" {side} is {first} {side} last {last}"),
    }
}
