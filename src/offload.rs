//! What NICs do of the work, as text: for the summary of a run and `nfv ctl offload`.

use std::fmt::Write as _;

use nfv_core::control::nic_rules::{ClassCount, HashState, NicReport};

/// A few lines a port; none for a port whose NIC was given nothing and did nothing.
pub fn table(ports: &[NicReport]) -> String {
    let mut text = String::new();
    for port in ports {
        let NicReport { classes: (all, told), accepted, verified, .. } = port;
        let refused: usize = port.refused.iter().map(|(_, n)| n).sum();
        let is_idle = accepted + verified + refused == 0 && port.dropped == 0;
        if is_idle
            && port.stopped.is_none()
            && port.emulated.is_none()
            && port.hash.measured.is_none()
        {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "NIC of {} ({}): {told} of {all} classes, {} rules ({verified} verified), {refused} refused; it dropped {} packets",
            port.port,
            port.driver,
            accepted + verified,
            port.dropped
        );
        if let Some(measured) = &port.hash.measured {
            let HashState { key, table, .. } = &port.hash;
            let _ = writeln!(text, "  hash: key {key}, table {table}; measured: {measured}");
        }
        let pace = port.rules_per_second.words();
        if !pace.is_empty() {
            let _ = writeln!(text, "  rules a second: {pace}");
        }
        if let Some(why) = &port.stopped {
            let _ = writeln!(text, "  it is given no rules any more: {why}");
        }
        for (why, n) in &port.refused {
            let _ = writeln!(text, "  {n} refused: {why}");
        }
        if let Some(own) = &port.emulated {
            let _ = writeln!(
                text,
                "  emulated: received {}, dropped {}, missed {}, sent {}, unsent {}, left {}",
                own.received, own.dropped, own.missed, own.sent, own.unsent, own.left
            );
        }
    }
    text
}

/// A line a rule, behind one for each class that was counted.
pub fn rules(ports: &[NicReport]) -> String {
    let mut text = String::new();
    for port in ports {
        for class in &port.counted {
            let (name, ClassCount { class, packets, share, .. }) = (&port.port, class);
            let share = 100.0 * share;
            let _ = writeln!(text, "{name} class {class}: about {packets} packets, {share:.1} %");
        }
        for rule in &port.rules {
            let hits = rule.hits.map(|hits| format!(", {hits} packets")).unwrap_or_default();
            let (port, class) = (&port.port, rule.class);
            let _ = writeln!(text, "{port} class {class}: {}, {}{hits}", rule.fate, rule.state);
        }
    }
    text
}
