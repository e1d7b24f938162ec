//! What is known of NICs by their drivers, from DPDK's documents: `nics.yaml`, which says what it rests on.
//!
//! A driver is asked before it is relied on, where it is there to be asked. These facts serve where it is not: for
//! `nfv plan --nic`, for the emulated NIC, and for what no driver answers (how many rules fit, what a pattern without a VLAN
//! takes).

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rule::{Fate, L4Item, NicRule, PortItem, Refusal};
use crate::chain::node::{Content, Node, Style};
use crate::chain::report::{Report, nearest};
use crate::chain::source::Source;

/// What a driver takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Facts {
    /// The name that `nfv plan --nic` takes.
    pub name: String,
    /// The driver's names as DPDK has them.
    pub drivers: Vec<String>,
    /// Which NICs these are.
    pub devices: String,
    /// What a pattern may name.
    pub items: Vec<Item>,
    /// How addresses may be given.
    pub address: AddressFact,
    /// How source ports may be given.
    pub sport: PortFact,
    /// How destination ports may be given.
    pub dport: PortFact,
    /// Whether TCP flags can be looked at.
    pub tcp_flags: bool,
    /// Whether a transport alone is a pattern.
    pub bare: bool,
    /// Levels of priority; 1: none.
    pub priorities: u32,
    /// Whether a level is of one EtherType only.
    pub by_ethertype: bool,
    /// Whether rules can lie in tables that follow each other.
    pub groups: bool,
    /// Whether rules can be given by the template API.
    pub templates: bool,
    /// Whether what a rule does can be changed while it is there.
    pub updates: bool,
    /// Which rules must look at the same fields.
    pub fields: Fields,
    /// Which frames a pattern without a VLAN takes.
    pub without_vlan: WithoutVlan,
    /// What can be done with packets.
    pub actions: Vec<Action>,
    /// How "where it would go anyway" is said.
    pub unsteered: Unsteered,
    /// The largest mark.
    pub mark_max: u32,
    /// How many rules fit; `None`: it is not documented.
    pub rules: Option<usize>,
    /// The hash that spreads packets over queues.
    pub hash: HashFacts,
    /// DPDK's pages that say so.
    pub pages: Vec<String>,
}

/// What a pattern may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A VLAN id.
    Vlan,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMP of IPv6.
    Icmp6,
}

/// How addresses may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFact {
    /// Not at all.
    None,
    /// One address.
    Exact,
    /// A prefix.
    Prefix,
}

/// How ports may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortFact {
    /// Not at all.
    None,
    /// One port.
    Exact,
    /// Those with certain bits.
    Mask,
    /// Those between two.
    Range,
}

/// Which rules must look at the same fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fields {
    /// None.
    #[default]
    Free,
    /// Those of a family and transport.
    PerTransport,
    /// All.
    One,
}

/// Which frames a pattern without a VLAN takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutVlan {
    /// Tagged ones too.
    Any,
    /// Those without a tag.
    Untagged,
    /// One of the two; the same for all patterns.
    #[default]
    Unknown,
}

/// What can be done with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Refuse them.
    Drop,
    /// Send them to a queue.
    Queue,
    /// Spread them.
    Rss,
    /// Let them go on.
    Passthru,
    /// Write a number into them.
    Mark,
    /// Count them.
    Count,
}

/// How "where it would go anyway" is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsteered {
    /// By RSS over all queues.
    Rss,
    /// By letting them go on.
    Passthru,
    /// It cannot be said.
    None,
}

/// The hash that spreads packets over queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HashFacts {
    /// Bytes of its key; `None`: not documented.
    pub key: Option<u16>,
    /// Whether the key can be set.
    pub key_set: bool,
    /// Whether the key can be read.
    pub key_read: bool,
    /// Entries of its table; 0: there is none to speak of.
    pub table: u16,
    /// Whether the table can be set.
    pub table_set: bool,
    /// Whether the table can be read.
    pub table_read: bool,
}

/// What no driver can be asked, a rule at a time. The default is what is safe where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// How many rules fit.
    pub rules: Option<usize>,
    /// Levels of priority, as far as they are known.
    pub priorities: Option<u32>,
    /// Whether a level is of one EtherType only.
    pub by_ethertype: bool,
    /// Which rules must look at the same fields.
    pub fields: Fields,
    /// Which frames a pattern without a VLAN takes.
    pub without_vlan: WithoutVlan,
    /// The largest mark, as far as it is known.
    pub mark_max: Option<u32>,
}

impl Facts {
    /// Those of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.nics.iter().find(|facts| facts.name == name)
    }

    /// Those of a driver, as DPDK names it.
    pub fn of_driver(driver: &str) -> Option<&'static Self> {
        TABLE.nics.iter().find(|facts| facts.drivers.iter().any(|d| d == driver))
    }

    /// The names that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.nics.iter().map(|facts| facts.name.as_str())
    }

    /// The name that was most likely meant.
    pub fn nearest(word: &str) -> Option<&'static str> {
        nearest(word, Self::names())
    }

    /// Which release of DPDK the facts are from.
    pub fn release() -> &'static str {
        &TABLE.release
    }

    /// Whether the driver takes any rule.
    pub fn takes_rules(&self) -> bool {
        !self.items.is_empty() && !self.actions.is_empty()
    }

    /// What it cannot be asked a rule at a time.
    pub fn limits(&self) -> Limits {
        Limits {
            rules: self.rules,
            priorities: Some(self.priorities),
            by_ethertype: self.by_ethertype,
            fields: self.fields,
            without_vlan: self.without_vlan,
            mark_max: (self.mark_max > 0).then_some(self.mark_max),
        }
    }

    /// Whether packets get a tag only together with a queue, though the NIC spreads all others by its table.
    pub fn tags_by_queue_only(&self) -> bool {
        let has = |action| self.actions.contains(&action);
        self.unsteered == Unsteered::None && has(Action::Mark) && has(Action::Queue)
    }

    /// Why the driver does not take a rule, whatever else it has; `None`: it does.
    pub fn refuses(&self, rule: &NicRule) -> Option<Refusal> {
        if !self.takes_rules() {
            return self.no("no rules (no rte_flow)");
        }
        self.refuses_pattern(rule).or_else(|| self.refuses_actions(rule))
    }

    fn refuses_pattern(&self, rule: &NicRule) -> Option<Refusal> {
        let p = &rule.pattern;
        let family = if p.is_ipv6 { Item::Ipv6 } else { Item::Ipv4 };
        let transport = match p.l4 {
            L4Item::Tcp { .. } => Item::Tcp,
            L4Item::Udp { .. } => Item::Udp,
            L4Item::Sctp { .. } => Item::Sctp,
            L4Item::Icmp { .. } if p.is_ipv6 => Item::Icmp6,
            L4Item::Icmp { .. } => Item::Icmp,
        };
        for item in [family, transport].into_iter().chain(p.vlan.map(|_| Item::Vlan)) {
            if !self.items.contains(&item) {
                return self.no(&format!("no item {}", item.word()));
            }
        }
        for prefix in [p.src, p.dst].into_iter().flatten() {
            let net = prefix.net();
            if (net.max_prefix_len() == 128) != p.is_ipv6 {
                return Some(Refusal(format!("{net} is of the other family")));
            }
            let need = match net.prefix_len() {
                0 => AddressFact::None,
                length if length == net.max_prefix_len() => AddressFact::Exact,
                _ => AddressFact::Prefix,
            };
            match self.address {
                has if need <= has => {}
                AddressFact::None => return self.no("no addresses"),
                _ => return self.no(&format!("no prefixes ({net}), only addresses")),
            }
        }
        let (sport, dport) = p.l4.ports();
        for (port, fact, side) in
            [(sport, self.sport, "source"), (dport, self.dport, "destination")]
        {
            let (need, what) = match port {
                PortItem::Any => (PortFact::None, ""),
                PortItem::Masked { mask: u16::MAX, .. } => (PortFact::Exact, "ports"),
                PortItem::Masked { .. } => (PortFact::Mask, "masks of ports"),
                PortItem::Range(..) => (PortFact::Range, "ranges of ports"),
            };
            if need > fact {
                return self.no(&format!("no {what} ({side})"));
            }
        }
        if !self.tcp_flags && matches!(p.l4, L4Item::Tcp { flags: (mask, _), .. } if mask != 0) {
            return self.no("no TCP flags");
        }
        if !self.bare && p.looks_at_nothing() {
            return self.no("no pattern without an address or a port");
        }
        None
    }

    fn refuses_actions(&self, rule: &NicRule) -> Option<Refusal> {
        let has = |action| self.actions.contains(&action);
        if rule.priority >= self.priorities {
            return match self.priorities {
                0 | 1 => self.no("no priorities"),
                levels => self.no(&format!("only {levels} levels of priority")),
            };
        }
        match rule.mark {
            Some(_) if !has(Action::Mark) => return self.no("no MARK"),
            Some(mark) if mark > self.mark_max => {
                return self.no(&format!("no MARK over {}", self.mark_max));
            }
            _ => {}
        }
        if rule.count && !has(Action::Count) {
            return self.no("no COUNT");
        }
        match rule.fate {
            Fate::Drop if rule.mark.is_some() => {
                Some(Refusal("DROP with MARK means nothing".into()))
            }
            Fate::Drop if !has(Action::Drop) => self.no("no DROP"),
            Fate::Queue(_) if !has(Action::Queue) => self.no("no QUEUE"),
            Fate::Rss if self.unsteered == Unsteered::None => self.no("no RSS in a rule"),
            _ => None,
        }
    }

    fn no(&self, what: &str) -> Option<Refusal> {
        Some(Refusal(format!("{} takes {what}", self.name)))
    }
}

impl Item {
    fn word(self) -> &'static str {
        match self {
            Self::Vlan => "VLAN",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
            Self::Icmp6 => "ICMPv6",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    release: String,
    nics: Vec<Facts>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    read(include_str!("nics.yaml")).expect("the file is part of the program, and a test reads it")
});

/// Reads the table with the chain file's YAML reader.
fn read(text: &str) -> Result<Table, String> {
    let source = Source::from_bytes("nics.yaml", text.into()).map_err(|why| why.to_string())?;
    let mut report = Report::new(source.into());
    let source = Source::from_bytes("nics.yaml", text.into()).map_err(|why| why.to_string())?;
    let node = Node::read(&source, &|_| None, &mut report);
    let node = node.filter(|_| !report.has_errors());
    let node = node.ok_or_else(|| report.render(crate::chain::report::Color::Never))?;
    serde_json::from_value(value(&node)).map_err(|why| why.to_string())
}

fn value(node: &Node) -> Value {
    match &node.content {
        Content::Null | Content::Broken => Value::Null,
        Content::Scalar(scalar) if scalar.style == Style::Quoted => scalar.text.clone().into(),
        Content::Scalar(scalar) => match (scalar.text.as_str(), scalar.text.parse::<u64>()) {
            ("true", _) => true.into(),
            ("false", _) => false.into(),
            (_, Ok(number)) => number.into(),
            (text, Err(_)) => text.into(),
        },
        Content::List(list) => list.iter().map(value).collect(),
        Content::Map(map) => {
            Value::Object(map.iter().map(|(key, node)| (key.value.clone(), value(node))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_drivers_is_read_and_has_all_that_were_promised() {
        let table = read(include_str!("nics.yaml")).unwrap();
        let names: Vec<&str> = table.nics.iter().map(|nic| nic.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "mlx5", "ice", "iavf", "i40e", "ixgbe", "ixgbevf", "igb", "igbvf", "bnxt", "cnxk",
                "ena", "virtio", "vmxnet3", "tap"
            ]
        );
        for nic in &table.nics {
            assert!(!nic.pages.is_empty() && !nic.drivers.is_empty(), "{}", nic.name);
            let marks = nic.actions.contains(&Action::Mark);
            assert_eq!(marks, nic.mark_max > 0, "{}", nic.name);
            assert_eq!(nic.takes_rules(), nic.rules != Some(0), "{}", nic.name);
            assert!(nic.priorities > 0, "{}", nic.name);
        }
        assert_eq!(Facts::of_driver("net_e1000_igb").unwrap().name, "igb");
        assert_eq!(Facts::nearest("ixgb"), Some("ixgbe"));
    }

    #[test]
    fn a_field_that_nobody_knows_is_an_error() {
        assert!(read("release: x\nnics: [{name: y, colour: red}]\n").is_err());
    }
}
