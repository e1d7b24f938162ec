//! Interfaces of the kernel: which there are, whether they are up, and what depends on them.
use std::borrow::Cow;

use nfv_core::chain::report::nearest;

use super::finding::{Finding, Severity};
use super::machine::Machine;

/// Which routes go through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routes {
    /// None.
    None,
    /// Some, so it has an address.
    Some,
    /// The default one among them: without it the machine may be out of reach.
    Default,
}

/// The interfaces of this network namespace, but for `lo`, sorted.
///
/// `/sys/class/net` may be that of another namespace: it is where `/sys` was mounted.
pub(super) fn interfaces(machine: &Machine) -> Vec<String> {
    let text = machine.text("/proc/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut names: Vec<String> = names.filter(|name| *name != "lo").map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Whether the interface is up; none when that cannot be seen.
pub(super) fn is_up(machine: &Machine, interface: &str) -> Option<bool> {
    let flags = machine.text(&format!("/sys/class/net/{interface}/flags"))?;
    let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
    Some(flags & IFF_UP != 0)
}

/// The routes through an interface, of both families.
pub(super) fn routes(machine: &Machine, interface: &str) -> Routes {
    let v4 = machine.text("/proc/net/route").unwrap_or_default();
    let v4 = v4.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ours = words.next()? == interface;
        let (destination, mask) = (words.next()?, words.nth(5)?);
        ours.then_some(is_default(destination == ZERO_V4 && mask == ZERO_V4))
    });
    let v6 = machine.text("/proc/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, .., flags, name] = words.as_slice() else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        // Each interface that is up has its local routes; only those through a gateway count.
        (*name == interface && flags & RTF_GATEWAY != 0)
            .then_some(is_default(destination.trim_matches('0').is_empty() && *length == "00"))
    });
    v4.chain(v6).max().unwrap_or(Routes::None)
}

fn is_default(default: bool) -> Routes {
    if default { Routes::Default } else { Routes::Some }
}

/// Says whether an interface that a device stands on is there, up and connected. `missing` is how
/// much it matters when it is not there.
pub(super) fn examine(
    machine: &Machine,
    subject: &str,
    interface: &str,
    missing: Severity,
) -> Finding {
    let known = interfaces(machine);
    if !known.iter().any(|name| name == interface) {
        let found = format!("there is no interface {interface}");
        let finding = Finding::new(missing, subject, found);
        return finding.because(there_are(&known, interface)).mistake();
    }
    let say =
        |severity, found: &str| Finding::new(severity, subject, format!("{interface} {found}"));
    match is_up(machine, interface) {
        Some(false) => say(Severity::Warning, "is down")
            .because("it takes and gives no packets until it is up")
            .fix([machine.as_root(format!("ip link set dev {interface} up"))]),
        Some(true) if !has_carrier(machine, interface) => {
            say(Severity::Note, "is up, without a carrier")
                .because("no cable, or the other end is down")
        }
        _ => say(Severity::Ok, "is up"),
    }
}

/// Whether something is at the other end, as far as can be seen.
pub(super) fn has_carrier(machine: &Machine, interface: &str) -> bool {
    machine.text(&format!("/sys/class/net/{interface}/carrier")).is_none_or(|text| text != "0")
}

/// What there is instead of a name, the nearest first.
pub(super) fn there_are(known: &[String], name: &str) -> Cow<'static, str> {
    if known.is_empty() {
        return "this network namespace has none but lo".into();
    }
    let mut list = known.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(" ");
    if known.len() > LISTED_MAX {
        list.push_str(" ...");
    }
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}? there are: {list}").into(),
        None => format!("there are: {list}").into(),
    }
}

const IFF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;
const ZERO_V4: &str = "00000000";
const LISTED_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn examined(tree: &Tree, interface: &str) -> Finding {
        examine(&tree.machine(), "port lan", interface, Severity::Problem)
    }

    #[test]
    fn an_interface_that_is_up_is_fine() {
        let tree = Tree::new();
        tree.interface("ens3", "0x1003");
        assert_eq!(examined(&tree, "ens3").severity, Severity::Ok);
    }

    #[test]
    fn one_that_is_down_is_told_how_to_come_up() {
        let tree = Tree::new();
        tree.interface("ens3", "0x1002");
        assert_eq!(examined(&tree, "ens3").severity, Severity::Warning);
        assert_eq!(examined(&tree, "ens3").fix, ["ip link set dev ens3 up"]);
    }

    #[test]
    fn one_without_a_carrier_is_noted() {
        let tree = Tree::new();
        tree.interface("ens3", "0x1003").file("sys/class/net/ens3/carrier", "0");
        assert_eq!(examined(&tree, "ens3").severity, Severity::Note);
    }

    #[test]
    fn one_that_is_missing_is_a_problem_with_the_names_there_are() {
        let tree = Tree::new();
        tree.interface("lo", "0x9").interface("ens3", "0x1003").interface("wan0", "0x1003");
        let finding = examined(&tree, "wan");
        assert_eq!(finding.severity, Severity::Problem);
        assert_eq!(finding.why, "did you mean wan0? there are: ens3 wan0");
        assert!(examined(&Tree::new(), "wan").why.contains("none but lo"));
    }

    #[test]
    fn the_default_route_is_told_from_others() {
        let tree = Tree::new();
        let lines = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
                     a 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n\
                     b 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0";
        tree.file("proc/net/route", lines);
        let zeros = "0".repeat(32);
        let line = |flags, name| {
            format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 {flags} {name}")
        };
        let v6 = format!("{}\n{}", line("00000003", "c"), line("00200200", "d"));
        tree.file("proc/net/ipv6_route", &v6);
        let routes = |name| routes(&tree.machine(), name);
        assert_eq!(routes("a"), Routes::Default);
        assert_eq!(routes("b"), Routes::Some);
        assert_eq!(routes("c"), Routes::Default);
        assert_eq!(routes("d"), Routes::None);
    }
}
