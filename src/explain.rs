//! `nfv replay --explain`: what became of each packet, and who decided it.
//!
//! Packets are sent through one at a time, and what the counters moved by says where each one went: the packet path
//! knows nothing of this, and cannot behave otherwise while it is looked at.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::account::{Cells, Counter, Totals};
use nfv_core::chain::compile::{Plan, Program};
use nfv_core::nf::Direction;
use nfv_core::packet::{Fragment, Headers, L3, NO_VLAN, flow_hash, parse, protocol};

use crate::capture::Frame;

/// Prints a paragraph for each packet.
#[derive(Debug)]
pub struct Explain {
    plan: Arc<Plan>,
    cells: Arc<Cells>,
    before: Totals,
    /// Of each port's capture, how many packets there were.
    numbers: HashMap<String, u64>,
}

impl Explain {
    /// Nothing has been counted yet.
    pub fn new(plan: Arc<Plan>, cells: Arc<Cells>) -> Self {
        let before = plan.ledger.totals(&[]);
        Self { plan, cells, before, numbers: HashMap::new() }
    }

    /// What became of a packet that a port has just received.
    pub fn packet(&mut self, port: &str, frame: &Frame) -> String {
        let number = self.numbers.entry(port.to_owned()).or_default();
        *number += 1;
        let (seconds, nanos) = (frame.stamp / 1_000_000_000, frame.stamp % 1_000_000_000);
        let mut text = format!("{port} {number}, {seconds}.{nanos:09}: {}\n", describe(frame));
        let now = self.plan.ledger.totals(std::slice::from_ref(&self.cells));
        let before = std::mem::replace(&mut self.before, now);
        let all = before.iter(&self.plan.ledger).zip(self.before.iter(&self.plan.ledger));
        let moved: Vec<(&Counter, u64)> = all
            .map(|((counter, was), (_, is))| (counter, is - was))
            .filter(|(_, by)| *by > 0)
            .collect();
        for program in self.plan.programs.iter().filter(|p| p.rest_of.is_none()) {
            let labels = [program.chain.as_str(), direction(program)];
            if of(&moved, "chain_packets").any(|l| l == labels) {
                let _ = writeln!(text, "  chain {}, {}", program.chain, direction(program));
                self.steps(program, &moved, &mut text);
            }
        }
        for (counter, by) in &moved {
            let labels: Vec<&str> = counter.labels.iter().map(|(_, v)| v.as_str()).collect();
            let name = labels.join("/");
            let _ = match counter.metric {
                "dropped_packets" => writeln!(text, "  dropped: {name}: {}", counter.help),
                "sent_packets" => writeln!(text, "  out of {name}{}", times(*by)),
                "to_kernel_packets" => writeln!(text, "  to the kernel's twin of {name}"),
                "created_packets" => writeln!(text, "  made besides{}", times(*by)),
                "consumed_packets" => writeln!(text, "  kept{}", times(*by)),
                _ => Ok(()),
            };
        }
        text
    }

    /// The functions that saw the packet, in the order in which it met them.
    fn steps(&self, program: &Program, moved: &[(&Counter, u64)], text: &mut String) {
        let functions = self.plan.functions_of(program);
        for f in functions.filter(|f| of(moved, "nf_packets").any(|l| l == [f.name.as_str()])) {
            let _ = write!(text, "    {} ({})", f.name, f.kind.name);
            let own = |l: &Vec<&str>| l.first().is_some_and(|nf| *nf == f.name);
            for labels in of(moved, "nf_rule_packets").chain(of(moved, "nf_counter")).filter(own) {
                let _ = write!(text, ": {}", labels.last().copied().unwrap_or_default());
            }
            text.push('\n');
        }
    }
}

/// The labels' values of a metric's counters that moved.
fn of<'m>(moved: &'m [(&Counter, u64)], metric: &'m str) -> impl Iterator<Item = Vec<&'m str>> {
    let all = moved.iter().filter(move |(c, _)| c.metric == metric);
    all.map(|(c, _)| c.labels.iter().map(|(_, v)| v.as_str()).collect())
}

fn direction(program: &Program) -> &'static str {
    match program.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
    }
}

fn times(n: u64) -> String {
    if n > 1 { format!(", {n} times") } else { String::new() }
}

/// `10.0.0.1:1000 > 10.0.0.2:53 udp, 60 bytes, flow 1f2e3d4c`: the hash that both directions share.
fn describe(frame: &Frame) -> String {
    let bytes = frame.wire_length;
    let h = match parse(&frame.bytes, frame.wire_length) {
        Ok(h) => h,
        Err(why) => return format!("{}, {bytes} bytes", why.name()),
    };
    let vlan = if h.vlan == NO_VLAN { String::new() } else { format!(", VLAN {}", h.vlan) };
    let fragment = match h.fragment {
        Fragment::Whole => "",
        Fragment::First => ", first fragment",
        Fragment::Later | Fragment::Following => ", later fragment",
    };
    let what = match h.kind {
        L3::Arp => "ARP".to_owned(),
        L3::Other => format!("ether type {:#06x}", h.ether_type),
        L3::Ipv4 => conversation(&h, h.src.v4().into(), h.dst.v4().into()),
        L3::Ipv6 => conversation(&h, h.src.v6().into(), h.dst.v6().into()),
    };
    let flow = match h.kind {
        L3::Ipv4 | L3::Ipv6 => format!(", flow {:08x}", flow_hash(&h)),
        L3::Arp | L3::Other => String::new(),
    };
    format!("{what}{fragment}{vlan}, {bytes} bytes{flow}")
}

fn conversation(h: &Headers, src: IpAddr, dst: IpAddr) -> String {
    let name = match h.protocol {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::SCTP => "sctp",
        protocol::ICMP | protocol::ICMP6 => {
            return format!("{src} > {dst} icmp type {} code {}", h.icmp_type, h.icmp_code);
        }
        other => return format!("{src} > {dst} protocol {other}"),
    };
    let end = |address, port| match address {
        IpAddr::V4(a) => format!("{a}:{port}"),
        IpAddr::V6(a) => format!("[{a}]:{port}"),
    };
    format!("{} > {} {name}", end(src, h.sport), end(dst, h.dport))
}
