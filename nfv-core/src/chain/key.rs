//! Tables of keys: what a mapping of the chain file may hold, said once.
//!
//! A table drives all that is said about a key: what is accepted (`check.rs`), what an NF reads
//! (`section.rs`), "did you mean", the JSON Schema for editors, and the manual pages.
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::report::{did_you_mean, quoted};
use super::value::{
    AddressRange, IcmpType, MacAddress, PortRange, Prefix, ProtocolMatch, Rate, Scalar, Size,
    TcpFlagsMatch, ValueError, Vlan, check_name,
};

/// One key that a mapping of the chain file may have.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kebab-case, an operator's word.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether it may be left out.
    pub need: Need,
    /// One sentence for an operator, without a full stop.
    pub help: &'static str,
}

/// Whether a key may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It may not.
    Required,
    /// It may, and then there is no value.
    Optional,
    /// It may, and then this is the value, as the user would write it.
    Default(&'static str),
}

/// What the value of a key looks like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Any text that is not empty.
    Text,
    /// A name that the file gives, or refers to.
    Name(Names),
    /// A whole number, both bounds included.
    Integer {
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// An IPv4 or IPv6 address.
    Address,
    /// An address of this box with its prefix length, `10.0.0.1/24`.
    Interface,
    /// An IPv4 or IPv6 prefix.
    Prefix,
    /// An IPv4 address or a range of them.
    Addresses,
    /// A transport port or a range of them.
    L4Ports,
    /// A protocol over IP, or `any`.
    Protocol,
    /// TCP flags, `syn,!ack`.
    TcpFlags,
    /// A type of ICMP message.
    IcmpType,
    /// The MAC address of a station.
    Mac,
    /// A VLAN id.
    Vlan,
    /// A time with its unit.
    Duration,
    /// A number of bytes with its unit.
    Size,
    /// Packets or bits a second, with their unit.
    Rate,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list, perhaps empty.
    List(&'static Shape),
    /// One, or a list of at least one.
    OneOrMany(&'static Shape),
    /// A mapping with the keys of a table.
    Record(&'static Table),
    /// A mapping with the keys of a table, or just the value of one of them.
    RecordOr {
        /// The key whose value may stand alone.
        short: &'static str,
        /// The table.
        table: &'static Table,
    },
    /// A function: a mapping whose `type` picks the table.
    Function,
    /// A mapping whose keys the user chooses.
    Map {
        /// What one entry is: "port".
        of: &'static str,
        /// What its keys look like; the shape of a scalar.
        key: &'static Shape,
        /// What its values look like.
        value: &'static Shape,
    },
    /// Anything; whoever reads it checks it.
    Any,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Names {
    /// Something that gets its name here.
    New,
    /// A port of the file.
    Port,
    /// A function of the file.
    Function,
    /// A chain of the file.
    Chain,
}

impl Names {
    /// What it stands for, in messages.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::New => "name",
            Self::Port => "port",
            Self::Function => "function",
            Self::Chain => "chain",
        }
    }
}

/// The keys of a mapping, and what the mapping is.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// With its article: "a firewall rule".
    pub what: &'static str,
    /// The keys, in groups, so that tables can share some ([`super::matching::HEADER_KEYS`]).
    pub groups: &'static [&'static [Key]],
}

impl Table {
    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// A type of network function as the chain file sees it.
#[derive(Clone, Copy, Debug)]
pub struct FunctionType {
    /// The value of `type`.
    pub name: &'static str,
    /// Its keys beside `type`.
    pub keys: &'static [Key],
}

/// The key that every function has.
pub(crate) const TYPE_KEY: Key = Key {
    name: "type",
    shape: Shape::Text,
    need: Need::Required,
    help: "what kind of function it is",
};

impl Shape {
    /// Says what a value looks like, with its article, for messages and manual pages.
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Name(Names::New) => "a name".into(),
            Self::Name(of) => format!("the name of a {}", of.word()),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Flag => "true or false".into(),
            Self::Address => "an IPv4 or IPv6 address".into(),
            Self::Interface => "an address with a prefix length, such as `10.0.0.1/24`".into(),
            Self::Prefix => "an IPv4 or IPv6 prefix, such as `10.0.0.0/8`".into(),
            Self::Addresses => "an IPv4 address or a range, such as `192.0.2.1-192.0.2.9`".into(),
            Self::L4Ports => "a port or a range of ports, such as `443` or `1024-2047`".into(),
            Self::Protocol => "a protocol: tcp udp icmp icmp6 sctp, a number, or any".into(),
            Self::TcpFlags => "TCP flags, such as `syn,!ack`".into(),
            Self::IcmpType => "a type of ICMP message, such as `echo-request`".into(),
            Self::Mac => "a MAC address".into(),
            Self::Vlan => "a VLAN id from 1 to 4094".into(),
            Self::Duration => "a duration, such as `30s`".into(),
            Self::Size => "a size, such as `64KiB`".into(),
            Self::Rate => "a rate, such as `10kpps` or `1Gbps`".into(),
            Self::Choice(words) => format!("one of: {}", words.join(" ")),
            Self::List(of) => format!("a list; each: {}", of.describe()),
            Self::OneOrMany(of) => format!("one or a list; each: {}", of.describe()),
            Self::Record(table) => format!("{}: a mapping", table.what),
            Self::RecordOr { short, table } => {
                format!("{}: a mapping, or just its `{short}`", table.what)
            }
            Self::Function => "a function: a mapping with a `type`".into(),
            Self::Map { of, .. } => format!("a mapping, one entry for each {of}"),
            Self::Any => "anything".into(),
        }
    }

    /// Whether one scalar can be a value of this shape.
    pub(crate) const fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Self::List(_)
                | Self::OneOrMany(_)
                | Self::Record(_)
                | Self::RecordOr { .. }
                | Self::Function
                | Self::Map { .. }
                | Self::Any
        )
    }

    /// Judges the text of a scalar.
    ///
    /// # Errors
    /// What is wrong with it. A shape that is not a scalar's accepts no text.
    pub(crate) fn judge(&self, text: &str) -> Result<(), ValueError> {
        fn is<T: Scalar>(text: &str) -> Result<(), ValueError> {
            T::parse(text).map(drop)
        }
        match *self {
            Self::Text => is::<String>(text),
            Self::Name(Names::New) => check_name(text),
            // Whether there is such a one is found out by its name, with the nearest as a hint.
            Self::Name(_) => is::<String>(text),
            Self::Integer { min, max } => match u64::parse(text)? {
                number if (min..=max).contains(&number) => Ok(()),
                number => Err(ValueError::new(
                    format!("{number} is out of range"),
                    format!("{min} to {max}"),
                )),
            },
            Self::Flag => is::<bool>(text),
            Self::Address => is::<IpAddr>(text),
            Self::Interface => is::<IpNet>(text),
            Self::Prefix => is::<Prefix>(text),
            Self::Addresses => is::<AddressRange>(text),
            Self::L4Ports => is::<PortRange>(text),
            Self::Protocol => is::<ProtocolMatch>(text),
            Self::TcpFlags => is::<TcpFlagsMatch>(text),
            Self::IcmpType => is::<IcmpType>(text),
            Self::Mac => is::<MacAddress>(text),
            Self::Vlan => is::<Vlan>(text),
            Self::Duration => is::<Duration>(text),
            Self::Size => is::<Size>(text),
            Self::Rate => is::<Rate>(text),
            Self::Choice(words) if words.contains(&text) => Ok(()),
            Self::Choice(words) => {
                let near = did_you_mean(text, words.iter().copied());
                let hint = format!("{near} values: {}", words.join(" "));
                Err(ValueError::new(
                    format!("{} is not a value of it", quoted(text)),
                    hint.trim_start(),
                ))
            }
            Self::List(_)
            | Self::OneOrMany(_)
            | Self::Record(_)
            | Self::RecordOr { .. }
            | Self::Function
            | Self::Map { .. }
            | Self::Any => Err(ValueError::not(text, &self.describe(), "")),
        }
    }
}

/// Checks a table itself, for a test of whoever writes one.
///
/// # Errors
/// A sentence about the first key whose name is not kebab-case, whose name another key has, whose
/// default is not a value of its shape, or that has no help; in nested tables too.
pub fn check_keys<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for key in keys {
        let name = key.name;
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(kebab) {
            return Err(format!("`{name}` is not kebab-case"));
        }
        if seen.contains(&name) {
            return Err(format!("`{name}` is there twice"));
        }
        seen.push(name);
        if key.help.is_empty() || key.help.ends_with('.') {
            return Err(format!("`{name}`: help is one sentence without a full stop"));
        }
        if let Need::Default(text) = key.need {
            let shape = match key.shape {
                Shape::OneOrMany(of) => of,
                ref shape => shape,
            };
            shape.judge(text).map_err(|e| format!("default of `{name}`: {}", e.message))?;
        }
        check_shape(&key.shape)?;
    }
    Ok(())
}

fn check_shape(shape: &Shape) -> Result<(), String> {
    match shape {
        Shape::List(of) | Shape::OneOrMany(of) => check_shape(of),
        Shape::Record(table) => check_keys(table.keys()),
        Shape::RecordOr { short, table } => match table.keys().find(|key| key.name == *short) {
            Some(key) if key.shape.is_scalar() => check_keys(table.keys()),
            _ => Err(format!("`{short}` is no key of {} with a scalar value", table.what)),
        },
        Shape::Map { of, key, .. } if !key.is_scalar() => {
            Err(format!("the keys of a mapping are scalars, not those of each {of}"))
        }
        Shape::Map { value, .. } => check_shape(value),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(name: &'static str, shape: Shape, need: Need) -> Key {
        Key { name, shape, need, help: "help" }
    }

    #[test]
    fn a_table_with_a_mistake_is_found_by_its_test() {
        let sound = key("idle", Shape::Duration, Need::Default("30s"));
        assert_eq!(check_keys(&[sound]), Ok(()));
        for (wrong, why) in [
            (key("Idle", Shape::Duration, Need::Optional), "`Idle` is not kebab-case"),
            (key("idle", Shape::Text, Need::Optional), "`idle` is there twice"),
            (key("x", Shape::Duration, Need::Default("30")), "default of `x`: `30` has no unit"),
            (
                key("x", Shape::Integer { min: 1, max: 2 }, Need::Default("3")),
                "default of `x`: 3 is out of range",
            ),
            (
                Key { help: "", ..key("x", Shape::Any, Need::Optional) },
                "`x`: help is one sentence without a full stop",
            ),
        ] {
            assert_eq!(check_keys(&[sound, wrong]), Err(why.into()));
        }
    }
}
