//! The log of rules that say `log`: a line of JSON for each flow that one decides, or of a firewall without state for each
//! packet, up to the rule's rate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::{Protocol, ProtocolMatch, Scalar};
use nfv_core::clock::Time;
use nfv_core::control::journal::Journal;
use nfv_core::nf::{FlowView, PortIndex, Purpose, Surroundings};
use nfv_core::packet::{Headers, L3, NO_VLAN, protocol};
use serde::Serialize;

use super::rules::has_ports;

/// The key `log` of a rule.
pub const KEY: Key = Key {
    name: "log",
    shape: Shape::RecordOr {
        short: "enabled",
        table: &Table {
            what: "a rule's log",
            groups: &[&[
                Key {
                    name: "enabled",
                    shape: Shape::Flag,
                    need: Need::Default("true"),
                    help: "whether what the rule decides is written to `log-file`",
                },
                Key {
                    name: "rate",
                    shape: Shape::Integer { min: 1, max: 1_000_000 },
                    need: Need::Default("100"),
                    help: "most records a second; what is shed is counted in the next one",
                },
            ]],
        },
    },
    need: Need::Optional,
    help: "write what the rule decides to `log-file`; `{rate: 100}` is most records a second",
};

/// The key `log-file` of a firewall.
pub const FILE_KEY: Key = Key {
    name: "log-file",
    shape: Shape::Text,
    need: Need::Optional,
    help: "the file at whose end rules with `log` write, a JSON object a line",
};

/// How much of what a rule decides may be written. All workers share it.
#[derive(Debug)]
pub struct RuleLog {
    /// Nanoseconds a record.
    interval: u64,
    /// When a second's worth may be written at once again.
    full_at: AtomicU64,
    /// Since the last record that was written.
    shed: AtomicU64,
}

impl RuleLog {
    /// Of a rule; `None` when it does not log.
    pub fn read(rule: &Section<'_>) -> Option<Self> {
        let log = rule.record("log")?;
        if log.flag("enabled") == Some(false) {
            return None;
        }
        let interval = SECOND / log.integer("rate")?.max(1);
        Some(Self { interval, full_at: AtomicU64::new(0), shed: AtomicU64::new(0) })
    }

    /// Writes what a rule decided about a packet, unless there was too much of it.
    #[cold]
    pub fn write(&self, log: &Log, flow: &FlowView<'_>, rule: u32, verdict: &'static str) {
        if !self.may(flow.now) {
            self.shed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let shed = self.shed.swap(0, Ordering::Relaxed);
        let record = Record { headers: *flow.headers, in_port: flow.in_port, rule, verdict, shed };
        if log.0.write(flow.now, record).is_err() {
            self.shed.fetch_add(shed + 1, Ordering::Relaxed);
        }
    }

    /// Whether the rate allows one more.
    fn may(&self, now: Time) -> bool {
        let take = |full_at: u64| {
            let next = full_at.max(now.0).saturating_add(self.interval);
            (next <= now.0.saturating_add(SECOND)).then_some(next)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What a worker writes: plain bytes, without names.
#[derive(Debug)]
pub struct Record {
    headers: Headers,
    in_port: PortIndex,
    rule: u32,
    verdict: &'static str,
    shed: u64,
}

/// The log of a firewall.
#[derive(Clone, Debug)]
pub struct Log(pub Journal<Record>);

impl Log {
    /// Opens the file that rules write to. `Ok(None)`: none does, or it is only a check. `Err`: reported.
    pub fn open(
        section: &Section<'_>,
        around: Surroundings<'_>,
        rules: &[String],
        logs: bool,
        report: &mut Report,
    ) -> Result<Option<Self>, ()> {
        if !logs {
            return Ok(None);
        }
        let Some(path) = section.text("log-file").map(PathBuf::from) else {
            report
                .error(section.span_of("rules"), "a rule with `log`, and no `log-file`")
                .hint("name the file that it writes to: `log-file: /var/log/nfv/edge.jsonl`");
            return Err(());
        };
        // A check leaves the disk as it is.
        if around.purpose == Purpose::Check {
            return Ok(None);
        }
        let (function, ports) = (section.name().to_owned(), around.ports.to_vec());
        let rules = rules.to_vec();
        let show = move |record: Record| Line::of(&record, &function, &rules, &ports);
        match Journal::open(&path, WAITING_MAX, around.purpose, show) {
            Ok(journal) => Ok(Some(Self(journal))),
            Err(why) => {
                report
                    .error(section.span_of("log-file"), format!("{}: {why}", path.display()))
                    .hint("name a file in a folder that is there and that this user may write");
                Err(())
            }
        }
    }
}

/// A line of the log, behind its time.
#[derive(Debug, Serialize)]
struct Line {
    function: String,
    rule: String,
    verdict: &'static str,
    in_port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    /// Records of this rule that were not written since the last one that was.
    #[serde(skip_serializing_if = "is_zero")]
    shed: u64,
}

impl Line {
    fn of(record: &Record, function: &str, rules: &[String], ports: &[String]) -> Self {
        let h = &record.headers;
        let [src, dst] = [h.src, h.dst].map(|a| match h.kind {
            L3::Ipv4 => Some(Ipv4Addr::from(a.v4()).into()),
            L3::Ipv6 => Some(Ipv6Addr::from(a.v6()).into()),
            L3::Arp | L3::Other => None,
        });
        let number = h.protocol.to_string();
        let protocol = match (h.kind, ProtocolMatch::parse(&number)) {
            (L3::Arp, _) => "arp".to_owned(),
            (L3::Other, _) => format!("{:#06x}", h.ether_type),
            (_, Ok(ProtocolMatch::One(known))) => Protocol::to_string(&known),
            _ => number,
        };
        let ports_of = has_ports(h);
        let is_icmp = matches!(h.protocol, protocol::ICMP | protocol::ICMP6) && src.is_some();
        Self {
            function: function.to_owned(),
            rule: rules.get(record.rule as usize).cloned().unwrap_or_default(),
            verdict: record.verdict,
            in_port: ports.get(record.in_port.index()).cloned().unwrap_or_default(),
            vlan: (h.vlan != NO_VLAN).then_some(h.vlan),
            src,
            dst,
            protocol,
            sport: ports_of.then_some(h.sport),
            dport: ports_of.then_some(h.dport),
            icmp_type: is_icmp.then_some(h.icmp_type),
            shed: record.shed,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

const SECOND: u64 = 1_000_000_000;
/// Records that may wait for the file: 640 KiB, and 40,000 a second.
const WAITING_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_writes_its_rate_and_no_more() {
        let log =
            RuleLog { interval: SECOND / 10, full_at: AtomicU64::new(0), shed: AtomicU64::new(0) };
        let start = 1_700_000_000 * SECOND;
        let written = |from: u64, seconds: u64| {
            (0..seconds * 1000).filter(|ms| log.may(Time(start + from + ms * 1_000_000))).count()
        };
        // A second's worth at once, then the rate.
        assert!((29..=31).contains(&written(0, 2)), "{}", written(0, 2));
        assert!((99..=101).contains(&written(2 * SECOND, 10)));
        assert_eq!((0..100).filter(|_| log.may(Time(start + 3600 * SECOND))).count(), 10);
    }
}
