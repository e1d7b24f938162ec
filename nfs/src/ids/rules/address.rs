//! The addresses and ports of a rule's header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::intervals::Intervals;
use super::list::{self, Sign};
use super::mistake::{Read, broken};
use super::variables::Variables;

/// Which addresses a side of a rule may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Those of IPv4.
    pub v4: Intervals<u32>,
    /// Those of IPv6.
    pub v6: Intervals<u128>,
    /// Whether the list has a `!`: such a rule is not for a lookup by address alone ([`super::RuleKind`]).
    pub has_negation: bool,
}

impl Addresses {
    /// Whether it has this address. O(log n) of n ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// Whether it has all addresses.
    pub fn is_any(&self) -> bool {
        self.v4.is_all() && self.v6.is_all()
    }

    /// Reads a list as it stands in a rule's header.
    pub(super) fn read(text: &str, at: usize, variables: &Variables) -> Read<Self> {
        let list = AddressList::read(text, at, |name, at| match variables.address(name) {
            Some(found) => Ok(Arc::clone(found)),
            None => broken(at, format!("`${name}` is no address group: define it under `vars`")),
        })?;
        let v4 = difference(list.v4, list.names_any);
        let v6 = difference(list.v6, list.names_any);
        if v4.is_empty() && v6.is_empty() {
            return broken(at, format!("no address is left of `{text}`"));
        }
        Ok(Self { v4, v6, has_negation: list.has_negation })
    }
}

/// Which ports a side of a rule may have.
pub type Ports = Intervals<u16>;

/// Reads a list of ports as it stands in a rule's header.
pub(super) fn ports(text: &str, at: usize, variables: &Variables) -> Read<Ports> {
    let list = PortList::read(text, at, |name, at| match variables.port(name) {
        Some(found) => Ok(Arc::clone(found)),
        None => broken(at, format!("`${name}` is no port group: define it under `vars`")),
    })?;
    let ports = difference(list.0, Named::Nothing);
    if ports.is_empty() {
        return broken(at, format!("no port is left of `{text}`"));
    }
    Ok(ports)
}

/// What a list names, and what it takes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts<T> {
    with: Vec<(T, T)>,
    without: Vec<(T, T)>,
}

impl<T: Copy> Parts<T> {
    fn push(&mut self, sign: Sign, range: (T, T)) {
        match sign {
            Sign::With => self.with.push(range),
            Sign::Without => self.without.push(range),
        }
    }

    fn len(&self) -> usize {
        self.with.len() + self.without.len()
    }

    fn add(&mut self, sign: Sign, other: &Self) {
        let (with, without) = match sign {
            Sign::With => (&other.with, &other.without),
            Sign::Without => (&other.without, &other.with),
        };
        self.with.extend_from_slice(with);
        self.without.extend_from_slice(without);
    }
}

/// Whether a list names something, if only of the other family: what is only taken out is taken out of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Named {
    #[default]
    Nothing,
    Something,
}

fn difference<T: super::intervals::Bound>(parts: Parts<T>, named: Named) -> Intervals<T> {
    let with = match named {
        _ if !parts.with.is_empty() => Intervals::new(parts.with),
        Named::Nothing => Intervals::all(),
        Named::Something => Intervals::none(),
    };
    with.minus(&Intervals::new(parts.without))
}

/// A list of addresses before the one part is taken from the other: a variable's, which another list may contain.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressList {
    v4: Parts<u32>,
    v6: Parts<u128>,
    names_any: Named,
    has_negation: bool,
}

impl AddressList {
    /// Reads a list; `lookup` knows its variables.
    pub fn read(
        text: &str,
        at: usize,
        lookup: impl Fn(&str, usize) -> Read<Arc<Self>>,
    ) -> Read<Self> {
        let mut list = Self::default();
        list::items(text, at, |word, at, sign| {
            list.has_negation |= sign == Sign::Without;
            if let Some(name) = word.strip_prefix('$') {
                let other = lookup(name, at)?;
                list.v4.add(sign, &other.v4);
                list.v6.add(sign, &other.v6);
                list.has_negation |= other.has_negation;
                if list.v4.len() + list.v6.len() > RANGES_MAX {
                    return broken(at, format!("a list of more than {RANGES_MAX} ranges"));
                }
            } else if word == "any" {
                list.v4.push(sign, (u32::MIN, u32::MAX));
                list.v6.push(sign, (u128::MIN, u128::MAX));
            } else {
                match range_of(word) {
                    Some(Range::V4(range)) => list.v4.push(sign, range),
                    Some(Range::V6(range)) => list.v6.push(sign, range),
                    None => return broken(at, format!("`{word}` is no address")),
                }
            }
            Ok(())
        })?;
        let named = !list.v4.with.is_empty() || !list.v6.with.is_empty();
        list.names_any = if named { Named::Something } else { Named::Nothing };
        list.merge();
        Ok(list)
    }

    /// Keeps what variables name of variables from growing: a list is at most as long as it has ranges.
    fn merge(&mut self) {
        for ranges in [&mut self.v4.with, &mut self.v4.without] {
            *ranges = Intervals::new(std::mem::take(ranges)).ranges().to_vec();
        }
        for ranges in [&mut self.v6.with, &mut self.v6.without] {
            *ranges = Intervals::new(std::mem::take(ranges)).ranges().to_vec();
        }
    }
}

enum Range {
    V4((u32, u32)),
    V6((u128, u128)),
}

/// `ADDRESS`, `ADDRESS/LENGTH`, `ADDRESS/MASK` or `ADDRESS-ADDRESS`.
fn range_of(word: &str) -> Option<Range> {
    if let Some((first, last)) = word.split_once('-') {
        return match (first.trim_ascii().parse().ok()?, last.trim_ascii().parse().ok()?) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                Some(Range::V4((first.to_bits(), last.to_bits())))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                Some(Range::V6((first.to_bits(), last.to_bits())))
            }
            _ => None,
        };
    }
    let (address, mask) = match word.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (word, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let mask = mask.map_or(Some(u32::MAX), v4_mask)?;
            let first = address.to_bits() & mask;
            Some(Range::V4((first, first | !mask)))
        }
        IpAddr::V6(address) => {
            let length: u32 = mask.map_or(Some(128), |m| m.parse().ok().filter(|n| *n <= 128))?;
            let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - length).unwrap_or(0);
            let first = address.to_bits() & mask;
            Some(Range::V6((first, first | !mask)))
        }
    }
}

fn v4_mask(text: &str) -> Option<u32> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let mask = mask.to_bits();
        return (mask.leading_ones() == mask.count_ones()).then_some(mask);
    }
    let length: u32 = text.parse().ok().filter(|n| *n <= 32)?;
    Some(u32::MAX.checked_shl(Ipv4Addr::BITS - length).unwrap_or(0))
}

/// A list of ports before the one part is taken from the other.
#[derive(Clone, Debug, Default)]
pub(super) struct PortList(Parts<u16>);

impl PortList {
    /// Reads a list; `lookup` knows its variables.
    pub fn read(
        text: &str,
        at: usize,
        lookup: impl Fn(&str, usize) -> Read<Arc<Self>>,
    ) -> Read<Self> {
        let mut list = Parts::default();
        list::items(text, at, |word, at, sign| {
            if let Some(name) = word.strip_prefix('$') {
                list.add(sign, &lookup(name, at)?.0);
                if list.len() > RANGES_MAX {
                    return broken(at, format!("a list of more than {RANGES_MAX} ranges"));
                }
            } else {
                match port_range(word) {
                    Some(range) => list.push(sign, range),
                    None => return broken(at, format!("`{word}` is no port")),
                }
            }
            Ok(())
        })?;
        for ranges in [&mut list.with, &mut list.without] {
            *ranges = Intervals::new(std::mem::take(ranges)).ranges().to_vec();
        }
        Ok(Self(list))
    }
}

/// `any`, `80`, `80:90`, `80:` or `:80`.
fn port_range(word: &str) -> Option<(u16, u16)> {
    if word == "any" {
        return Some((u16::MIN, u16::MAX));
    }
    let Some((first, last)) = word.split_once(':') else {
        let port = word.parse().ok()?;
        return Some((port, port));
    };
    let end = |text: &str, open: u16| match text.trim_ascii() {
        "" => Some(open),
        port => port.parse().ok(),
    };
    let range = (end(first, u16::MIN)?, end(last, u16::MAX)?);
    (word != ":" && range.0 <= range.1).then_some(range)
}

/// Most ranges of a list, those of its variables each time counted that it names them.
const RANGES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let (variables, wrong) = Variables::new(
            &pairs(&[("HOME", "[192.168.0.0/16,10.0.0.0/8]"), ("OUTSIDE", "!$HOME")]),
            &pairs(&[("WEB", "[80,8080:8090]")]),
        );
        assert_eq!(wrong, []);
        variables
    }

    fn has(list: &str, address: &str) -> bool {
        Addresses::read(list, 0, &variables()).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_list_has_what_it_names_but_what_it_takes_out() {
        assert!(has("any", "1.2.3.4") && has("any", "2001:db8::1"));
        assert!(has("[10.0.0.0/8,!10.1.0.0/16]", "10.2.0.1"));
        assert!(!has("[10.0.0.0/8,!10.1.0.0/16]", "10.1.0.1"));
        assert!(!has("10.0.0.0/8", "2001:db8::1"));
        assert!(has("!10.0.0.0/8", "2001:db8::1"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("1.2.3.4-1.2.3.9", "1.2.3.9") && !has("1.2.3.4-1.2.3.9", "1.2.3.10"));
        assert!(has("10.0.0.0/255.0.0.0", "10.255.0.1") && has("0.0.0.0/0", "255.0.0.1"));
        assert!(has("::/0", "::") && !has("::/0", "1.1.1.1"));
    }

    #[test]
    fn a_variable_may_be_negated_and_be_in_a_list() {
        assert!(!has("$OUTSIDE", "10.0.0.1") && has("$OUTSIDE", "8.8.8.8"));
        assert!(has("!$OUTSIDE", "10.0.0.1") && !has("!$OUTSIDE", "8.8.8.8"));
        assert!(!has("[$HOME,!10.0.0.1]", "10.0.0.1") && has("[$HOME,!10.0.0.1]", "10.0.0.2"));
        assert!(!has("[8.8.8.8,$OUTSIDE]", "9.9.9.9"));
    }

    #[test]
    fn a_list_without_an_address_is_refused_at_its_place() {
        let wrong = |list| Addresses::read(list, 10, &variables()).unwrap_err();
        assert_eq!(wrong("!any").at, 10);
        assert_eq!(
            wrong("[1.1.1.1,!1.1.1.0/24]").text,
            "no address is left of `[1.1.1.1,!1.1.1.0/24]`"
        );
        assert_eq!(wrong("[1.1.1.1,nonsense]").at, 19);
        for list in [
            "1.2.3.4/33",
            "1.2.3",
            "1.2.3.9-1.2.3.1",
            "::/129",
            "1.1.1.1/0.255.0.0",
            "$NO",
            "1.1.1.1-::1",
        ] {
            assert_eq!(wrong(list).at, 10, "{list}");
        }
    }

    #[test]
    fn ports_are_read_as_addresses_are() {
        let read = |list| ports(list, 0, &variables());
        assert_eq!(read("1024:").unwrap().ranges(), [(1024, 65_535)]);
        assert_eq!(read(":1023").unwrap().ranges(), [(0, 1023)]);
        assert_eq!(read("[80:90,!85]").unwrap().ranges(), [(80, 84), (86, 90)]);
        assert_eq!(read("!$WEB").unwrap().ranges(), [(0, 79), (81, 8079), (8091, 65_535)]);
        assert!(read("any").unwrap().is_all());
        for list in ["65536", "1024:65536", "90:80", ":", "!any", "a", "-1", "$NO"] {
            assert!(read(list).is_err(), "{list}");
        }
    }
}
