//! Blocklists: addresses, prefixes, ports and domains that nobody is to talk to, from files of up to a million lines.
//!
//! ```text
//!   a flow's first packet --> both addresses, the port that it asks for --\
//!   DNS queries, TLS server names, HTTP hosts --> domains ----------------+--> Hit: an alert of the list's rule, perhaps a drop
//! ```
//!
//! Addresses are sorted ranges behind an index of their first 16 bits; domains are texts side by side behind a hash table, and
//! stand for the names below them, too. A million addresses take 8.3 MB, a million domains of 16 bytes 25 MB. Rejected:
//! `rte_fib`, which takes 64 MiB for IPv4 alone; hashes of domains without the domains, which let go of a few that were not
//! asked for.

mod domains;
mod ranges;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nfv_core::chain::value::{PortRange, Prefix, Scalar};

use self::domains::Domains;
use self::ranges::Ranges;
use crate::ids::rules::{Action, Classes, Rule, Rules, Setup, Source, Variables};

/// A blocklist as the chain file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its file.
    pub path: PathBuf,
    /// What is in it.
    pub kind: Kind,
    /// What becomes of packets that have one of it.
    pub action: ListAction,
}

/// What is in a blocklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses and prefixes.
    Addresses,
    /// Ports, and ranges of them.
    Ports,
    /// Domains, each with those below it.
    Domains,
}

/// What becomes of packets that have one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListAction {
    /// They are dropped, with all of their flow; and told.
    Drop,
    /// They are told.
    Alert,
}

/// All blocklists of an IDS. What one worker asks them for is read only.
#[derive(Debug, Default)]
pub struct Blocklists {
    lists: Vec<List>,
}

/// A blocklist.
#[derive(Debug)]
struct List {
    /// What its alerts are of.
    rule: Arc<Rule>,
    members: Members,
    entries: usize,
}

#[derive(Debug)]
enum Members {
    Addresses { v4: Ranges<u32>, v6: Ranges<u128> },
    Ports(Box<[u64]>),
    Domains(Domains),
}

impl Blocklists {
    /// Loads them all. Each is a rule of the group [`GROUP`], its number the place in the chain file, from 1.
    ///
    /// # Errors
    /// By place, a sentence for each line that is wrong, up to [`WRONG_MAX`] a file.
    pub fn load(all: &[Wanted]) -> Result<Self, Vec<(usize, String)>> {
        let (mut lists, mut wrong) = (Vec::new(), Vec::new());
        for (place, wanted) in all.iter().enumerate() {
            match Members::load(&wanted.path, wanted.kind) {
                Ok((members, entries)) => {
                    if let Some(rule) = rule(wanted, place + 1) {
                        lists.push(List { rule, members, entries });
                    }
                }
                Err(lines) => wrong.extend(lines.into_iter().map(|line| (place, line))),
            }
        }
        if wrong.is_empty() { Ok(Self { lists }) } else { Err(wrong) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Entries of each, with what its alerts say.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<Rule>, usize)> {
        self.lists.iter().map(|list| (&list.rule, list.entries))
    }

    /// The first list that has any of a flow's addresses, or the port that its first packet asks for.
    ///
    /// # Cost
    /// Of a million addresses, two loads and some steps: 60 ns when none of it is in the caches.
    pub fn flow(&self, ends: [IpAddr; 2], port: Option<u16>) -> Option<&Arc<Rule>> {
        let has = |list: &&List| match &list.members {
            Members::Addresses { v4, v6 } => ends.iter().any(|end| match end {
                IpAddr::V4(a) => v4.has(a.to_bits()),
                IpAddr::V6(a) => v6.has(a.to_bits()),
            }),
            Members::Ports(bits) => port.is_some_and(|port| {
                bits.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 == 1)
            }),
            Members::Domains(_) => false,
        };
        self.lists.iter().find(has).map(|list| &list.rule)
    }

    /// The first list that has a name, or one that it is below. Letters of either case, and a dot behind it, are the same.
    ///
    /// # Cost
    /// One hash of the name for each of its labels: up to [`domains::LABELS_MAX`], some 20 ns each.
    pub fn domain(&self, name: &[u8]) -> Option<&Arc<Rule>> {
        let has = |list: &&List| match &list.members {
            Members::Domains(domains) => domains.has(name),
            _ => false,
        };
        self.lists.iter().find(has).map(|list| &list.rule)
    }
}

/// The rule that a list's alerts are of.
fn rule(wanted: &Wanted, number: usize) -> Option<Arc<Rule>> {
    let action = match wanted.action {
        ListAction::Drop => Action::Drop,
        ListAction::Alert => Action::Alert,
    };
    let what = match wanted.kind {
        Kind::Addresses => "an address",
        Kind::Ports => "a port",
        Kind::Domains => "a domain",
    };
    // A name of a file may have what a rule's text may not.
    let name = wanted.path.display().to_string();
    let name: String = name.chars().map(|c| if "\";\\".contains(c) { '_' } else { c }).collect();
    let text = format!(
        "alert ip any any -> any any (msg:\"blocklist {name} has {what} of it\"; gid:{GROUP}; sid:{number}; rev:1;)"
    );
    let (variables, classes) = (Variables::default(), Classes::default());
    let setup = Setup { variables: &variables, classes: &classes, events: &[] };
    let rules = Rules::read(&[Source { name: &name, text: text.as_bytes() }], &setup);
    let mut rule = rules.rules.into_iter().next()?;
    rule.action = action;
    Some(Arc::new(rule))
}

impl Members {
    /// Reads a file, and says how many entries it has.
    fn load(path: &Path, kind: Kind) -> Result<(Self, usize), Vec<String>> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|why| vec![format!("{shown}: {why}")])?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(vec![format!("{shown}: larger than 256 MiB, which no blocklist is")]);
        }
        let mut making = Making::of(kind);
        let (mut entries, mut wrong) = (0, Vec::new());
        for (number, line) in (1..).zip(bytes.split(|b| *b == b'\n')) {
            let end = line.iter().position(|b| b"#;".contains(b)).unwrap_or(line.len());
            let text = line.get(..end).unwrap_or_default().trim_ascii();
            if text.is_empty() {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                wrong.push(format!("{shown}:{number}: more than {ENTRIES_MAX} entries"));
                break;
            }
            if let Err(why) = making.add(text) {
                if wrong.len() == WRONG_MAX {
                    wrong.push(format!("{shown}: and more wrong lines"));
                    break;
                }
                wrong.push(format!("{shown}:{number}: {why}"));
            }
        }
        if wrong.is_empty() { Ok((making.done(), entries)) } else { Err(wrong) }
    }
}

/// What has been read of a file.
enum Making {
    Addresses(Vec<(u32, u32)>, Vec<(u128, u128)>),
    Ports(Box<[u64]>),
    Domains(Vec<u8>, Vec<u32>),
}

impl Making {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Addresses => Self::Addresses(Vec::new(), Vec::new()),
            Kind::Ports => Self::Ports(vec![0; 1024].into()),
            Kind::Domains => Self::Domains(Vec::new(), Vec::new()),
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        // A line that is no text is shown as what can be shown of it, and is wrong.
        let text = String::from_utf8_lossy(line);
        match self {
            Self::Addresses(v4, v6) => {
                let net = Prefix::parse(&text).map_err(|why| why.message)?.net();
                match (net.network(), net.broadcast()) {
                    (IpAddr::V4(first), IpAddr::V4(last)) => {
                        v4.push((first.to_bits(), last.to_bits()));
                    }
                    (IpAddr::V6(first), IpAddr::V6(last)) => {
                        v6.push((first.to_bits(), last.to_bits()));
                    }
                    _ => {}
                }
            }
            Self::Ports(bits) => {
                let range = PortRange::parse(&text).map_err(|why| why.message)?;
                for port in range.first()..=range.last() {
                    if let Some(word) = bits.get_mut(usize::from(port / 64)) {
                        *word |= 1 << (port % 64);
                    }
                }
            }
            Self::Domains(texts, starts) => {
                let name = domains::normal(line).ok_or_else(|| format!("`{text}` is no domain"))?;
                starts.push(u32::try_from(texts.len()).map_err(|_| "too many".to_owned())?);
                texts.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                texts.extend_from_slice(&name);
            }
        }
        Ok(())
    }

    fn done(self) -> Members {
        match self {
            Self::Addresses(v4, v6) => {
                Members::Addresses { v4: Ranges::of(v4), v6: Ranges::of(v6) }
            }
            Self::Ports(bits) => Members::Ports(bits),
            Self::Domains(texts, starts) => Members::Domains(Domains::of(texts, &starts)),
        }
    }
}

/// `gid` of what blocklists tell.
pub const GROUP: u32 = 1000;
/// Most entries of a blocklist.
const ENTRIES_MAX: usize = 1_000_000;
const FILE_MAX: u64 = 256 << 20;
/// Wrong lines of a file that are told.
const WRONG_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::net::Ipv4Addr;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn lists(all: &[(&tempfile::NamedTempFile, Kind)]) -> Result<Blocklists, Vec<(usize, String)>> {
        let one = |(file, kind): &(&tempfile::NamedTempFile, Kind)| Wanted {
            path: file.path().to_owned(),
            kind: *kind,
            action: ListAction::Drop,
        };
        Blocklists::load(&all.iter().map(one).collect::<Vec<_>>())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_list_that_has_an_end_or_the_port_of_a_flow_is_found() {
        let (hosts, ports) = (file("192.0.2.1\n2001:db8::/32 # net\n"), file("6660-6669\n23\n"));
        let lists = lists(&[(&hosts, Kind::Addresses), (&ports, Kind::Ports)]).unwrap();
        let of = |a, b, port| lists.flow([ip(a), ip(b)], port).map(|rule| rule.sid);
        assert_eq!(of("192.0.2.1", "10.0.0.1", None), Some(1));
        assert_eq!(of("10.0.0.1", "192.0.2.1", Some(23)), Some(1));
        assert_eq!(of("::1", "2001:db8:7::1", Some(80)), Some(1));
        assert_eq!(of("10.0.0.1", "192.0.2.2", Some(6663)), Some(2));
        assert_eq!(of("10.0.0.1", "192.0.2.2", Some(80)), None);
        let rule = lists.flow([ip("::1"), ip("192.0.2.1")], None).unwrap();
        assert_eq!((rule.gid, rule.action), (GROUP, Action::Drop));
    }

    #[test]
    fn a_domain_stands_for_those_below_it_and_no_others() {
        let names = file("Example.com.\nevil.test ; bad\nxn--bcher-kva.example\n");
        let lists = lists(&[(&names, Kind::Domains)]).unwrap();
        let has = |name: &str| lists.domain(name.as_bytes()).is_some();
        for inside in ["example.com", "WWW.EXAMPLE.COM", "a.b.evil.test.", "xn--bcher-kva.example"]
        {
            assert!(has(inside), "{inside}");
        }
        for outside in ["com", "notexample.com", "example.com.org", "", ".", "test", "..com"] {
            assert!(!has(outside), "{outside}");
        }
    }

    #[test]
    fn wrong_lines_are_told_with_their_places() {
        let (hosts, names) = (file("10.0.0.1\nx\n"), file("ok.test\nno domain\n"));
        let wrong = lists(&[(&hosts, Kind::Addresses), (&names, Kind::Domains)]).unwrap_err();
        let shown: Vec<String> = wrong.iter().map(|(at, why)| format!("{at} {why}")).collect();
        let (a, b) = (hosts.path().display(), names.path().display());
        assert_eq!(
            shown,
            [
                format!("0 {a}:2: `x` is not an IPv4 or IPv6 prefix"),
                format!("1 {b}:2: `no domain` is no domain"),
            ]
        );
    }

    #[test]
    fn a_million_of_each_are_loaded_and_found_and_no_more() {
        let (mut hosts, mut names) = (String::new(), String::new());
        for i in 0..ENTRIES_MAX as u32 {
            writeln!(hosts, "{}", Ipv4Addr::from_bits(i.wrapping_mul(0x9e37_79b1))).unwrap();
            writeln!(names, "host{i}.example{}.test", i % 7).unwrap();
        }
        let (hosts, names) = (file(&hosts), file(&names));
        let start = std::time::Instant::now();
        let all = lists(&[(&hosts, Kind::Addresses), (&names, Kind::Domains)]).unwrap();
        println!("2,000,000 entries in {:?}", start.elapsed());
        for i in (0..ENTRIES_MAX as u32).step_by(997) {
            let address = Ipv4Addr::from_bits(i.wrapping_mul(0x9e37_79b1));
            assert!(all.flow([address.into(), ip("::1")], None).is_some(), "{address}");
            let name = format!("www.host{i}.example{}.test", i % 7);
            assert!(all.domain(name.as_bytes()).is_some(), "{name}");
            let other = format!("host{i}.example{}.test", i % 7 + 1);
            assert!(all.domain(other.as_bytes()).is_none(), "{other}");
        }
        let mut text = std::fs::read_to_string(hosts.path()).unwrap();
        text += "192.0.2.1\n";
        let wrong = lists(&[(&file(&text), Kind::Addresses)]).unwrap_err();
        assert!(wrong[0].1.ends_with(":1000001: more than 1000000 entries"), "{wrong:?}");
    }
}
