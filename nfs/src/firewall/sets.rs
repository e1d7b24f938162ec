//! Sets: many addresses, or ports, from a file, that rules name.
//!
//! Addresses are sorted ranges that do not touch, looked up by halving: a flow's first packet pays 20 steps for a million
//! of them. The one rejected, rte_fib, answers in two loads, but takes 64 MiB for IPv4 alone, and cannot be replaced while
//! workers read it. A set is replaced as a whole: what a worker reads is never half of one file and half of another.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use nfv_core::chain::key::{Key, Names, Need, Shape, Table};
use nfv_core::chain::report::{Report, nearest, quoted};
use nfv_core::chain::section::Section;
use nfv_core::chain::source::Spanned;
use nfv_core::chain::value::{PortRange, Prefix, Scalar, ValueError};
use nfv_core::nf::{Handle, Named};
use nfv_core::packet::{AddressBytes, L3};

/// The key `sets` of a firewall.
pub const KEY: Key = Key {
    name: "sets",
    shape: Shape::Map {
        of: "set",
        key: &Shape::Name(Names::New),
        value: &Shape::Record(&Table { what: "a set", groups: &[SET] }),
    },
    need: Need::Optional,
    help: "addresses or ports from files, by the name that rules give",
};

const SET: &[Key] = &[
    Key {
        name: "file",
        shape: Shape::Text,
        need: Need::Required,
        help: "one address, prefix, port or range of ports a line; `#` or `;` begins a comment",
    },
    Key {
        name: "of",
        shape: Shape::Choice(&["addresses", "ports"]),
        need: Need::Default("addresses"),
        help: "what the file has",
    },
];

/// The sets of a firewall.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    sets: Vec<Arc<Set>>,
    /// Whose files are wrong.
    broken: Vec<String>,
}

/// A set, which the control side may replace at any time.
#[derive(Debug)]
pub struct Set {
    name: String,
    path: PathBuf,
    of: Of,
    members: ArcSwap<Members>,
}

/// What a set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// IPv4 and IPv6 addresses.
    Addresses,
    /// Ports of any protocol.
    Ports,
}

impl Of {
    fn word(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Ports => "ports",
        }
    }
}

impl Sets {
    /// Loads the files of a firewall's sets; reports all wrong lines, up to [`WRONG_MAX`] a file.
    pub fn read(section: &Section<'_>, report: &mut Report) -> Self {
        let mut sets = Self::default();
        for one in section.sections("sets") {
            let of = if one.choice("of") == Some("ports") { Of::Ports } else { Of::Addresses };
            let Some(path) = one.text("file").map(PathBuf::from) else { continue };
            match Members::load(&path, of) {
                Ok(members) => sets.sets.push(Arc::new(Set {
                    name: one.name().to_owned(),
                    path,
                    of,
                    members: ArcSwap::from_pointee(members),
                })),
                Err(wrong) => {
                    sets.broken.push(one.name().to_owned());
                    for line in wrong {
                        report.error(one.span_of("file"), line);
                    }
                }
            }
        }
        sets
    }

    /// The set that a rule names; reported when there is none, or one of the other kind.
    pub fn find(&self, name: &Spanned<String>, of: Of, report: &mut Report) -> Option<Arc<Set>> {
        if let Some(set) = self.sets.iter().find(|set| set.name == name.value) {
            if set.of == of {
                return Some(set.clone());
            }
            let message = format!("set {} has {}", quoted(&name.value), set.of.word());
            report.error(name.span, message).hint(format!("a set of {} goes here", of.word()));
            return None;
        }
        if self.broken.contains(&name.value) {
            return None;
        }
        let names = self.sets.iter().map(|set| set.name.as_str());
        let hint = match nearest(&name.value, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name it under `sets`, with its file".to_owned(),
        };
        report.error(name.span, format!("there is no set {}", quoted(&name.value))).hint(hint);
        None
    }

    /// What an operator reads how full the sets are by, and has files read again by. `generation` is raised then.
    pub fn handle(&self, generation: Arc<AtomicU32>) -> Option<Handle> {
        let (shown, sets) = (self.clone(), self.clone());
        (!self.sets.is_empty()).then(|| Handle {
            named: Named {
                name: "reload-sets",
                help: "entries of each set; a set's name, or `all`, has its file read again",
            },
            read: Box::new(move || {
                let one = |set: &Arc<Set>| format!("{} {}", set.name, set.members.load().len());
                shown.sets.iter().map(one).collect::<Vec<_>>().join(", ")
            }),
            write: Some(Box::new(move |name| sets.reload(name, &generation))),
        })
    }

    /// Reads files again. A file that is wrong leaves its set as it was.
    fn reload(&self, name: &str, generation: &AtomicU32) -> Result<(), String> {
        let chosen: Vec<_> = self.sets.iter().filter(|s| name == "all" || s.name == name).collect();
        if chosen.is_empty() {
            let names: Vec<_> = self.sets.iter().map(|set| set.name.as_str()).collect();
            return Err(format!("it is `all` or the name of a set: {}", names.join(" ")));
        }
        // All are read before any is replaced.
        let load = |set: &&Arc<Set>| Members::load(&set.path, set.of);
        let loaded: Result<Vec<_>, _> = chosen.iter().map(load).collect();
        for (set, members) in chosen.iter().zip(loaded.map_err(|wrong| wrong.join("\n"))?) {
            let old = set.members.swap(Arc::new(members));
            // A worker that still looks at the old one is done in less than a microsecond. It must not be the one that
            // frees it.
            while Arc::strong_count(&old) > 1 {
                std::thread::yield_now();
            }
        }
        generation.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Set {
    /// Whether an address is in it. Cost: of a million, 20 steps: 70 ns, and 250 ns when none of it is in the caches.
    pub fn has_address(&self, family: L3, address: AddressBytes) -> bool {
        match (&**self.members.load(), family) {
            (Members::Addresses { v4, .. }, L3::Ipv4) => v4.has(u32::from_be_bytes(address.v4())),
            (Members::Addresses { v6, .. }, L3::Ipv6) => v6.has(u128::from_be_bytes(address.v6())),
            _ => false,
        }
    }

    /// Whether a port is in it. Cost: one load.
    pub fn has_port(&self, port: u16) -> bool {
        match &**self.members.load() {
            Members::Ports { bits, .. } => {
                bits.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 == 1)
            }
            Members::Addresses { .. } => false,
        }
    }
}

/// What is in a set.
#[derive(Debug)]
enum Members {
    Addresses { v4: Ranges<u32>, v6: Ranges<u128>, lines: usize },
    Ports { bits: Box<[u64]>, lines: usize },
}

impl Members {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or has wrong lines: a sentence each, with the line's number.
    fn load(path: &Path, of: Of) -> Result<Self, Vec<String>> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|why| vec![format!("{shown}: {why}")])?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(vec![format!("{shown}: larger than 128 MiB, which no set is")]);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut bits = vec![0u64; 1024].into_boxed_slice();
        let mut put = |text: &str| -> Result<(), ValueError> {
            match of {
                Of::Addresses => {
                    let net = Prefix::parse(text)?.net();
                    let host = net.max_prefix_len() - net.prefix_len();
                    match net.network() {
                        std::net::IpAddr::V4(a) => {
                            let first = a.to_bits();
                            v4.push((first, first | low_ones(host) as u32));
                        }
                        std::net::IpAddr::V6(a) => {
                            let first = a.to_bits();
                            v6.push((first, first | low_ones(host)));
                        }
                    }
                }
                Of::Ports => {
                    let range = PortRange::parse(text)?;
                    for port in range.first()..=range.last() {
                        if let Some(word) = bits.get_mut(usize::from(port / 64)) {
                            *word |= 1 << (port % 64);
                        }
                    }
                }
            }
            Ok(())
        };
        let (mut lines, mut wrong) = (0, Vec::new());
        for (number, line) in (1..).zip(bytes.split(|b| *b == b'\n')) {
            let end = line.iter().position(|b| b"#;".contains(b)).unwrap_or(line.len());
            let text = line.get(..end).unwrap_or_default().trim_ascii();
            if text.is_empty() {
                continue;
            }
            lines += 1;
            if lines > ENTRIES_MAX {
                wrong.push(format!("{shown}:{number}: more than {ENTRIES_MAX} entries"));
                break;
            }
            // A line that is no text is shown as what can be shown of it, and is wrong.
            if let Err(why) = put(&String::from_utf8_lossy(text)) {
                if wrong.len() == WRONG_MAX {
                    wrong.push(format!("{shown}: and more wrong lines"));
                    break;
                }
                wrong.push(format!("{shown}:{number}: {}", why.message));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(match of {
            Of::Addresses => Self::Addresses { v4: Ranges::of(v4), v6: Ranges::of(v6), lines },
            Of::Ports => Self::Ports { bits, lines },
        })
    }

    /// Entries of its file.
    fn len(&self) -> usize {
        match self {
            Self::Addresses { lines, .. } | Self::Ports { lines, .. } => *lines,
        }
    }
}

/// Ranges in order, none of which meets another.
#[derive(Debug)]
struct Ranges<T> {
    firsts: Box<[T]>,
    /// Both ends are in a range.
    lasts: Box<[T]>,
}

impl<T: Ord + Copy> Ranges<T> {
    fn of(mut all: Vec<(T, T)>) -> Self {
        all.sort_unstable();
        let (mut firsts, mut lasts) = (Vec::new(), Vec::<T>::new());
        for (first, last) in all {
            match lasts.last_mut().filter(|before| first <= **before) {
                Some(before) => *before = last.max(*before),
                None => {
                    firsts.push(first);
                    lasts.push(last);
                }
            }
        }
        Self { firsts: firsts.into(), lasts: lasts.into() }
    }

    fn has(&self, one: T) -> bool {
        let before = self.firsts.partition_point(|first| *first <= one);
        before.checked_sub(1).and_then(|at| self.lasts.get(at)).is_some_and(|last| one <= *last)
    }
}

fn low_ones(count: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(count)).unwrap_or(0)
}

/// Most entries of a set.
const ENTRIES_MAX: usize = 1_000_000;
/// 128 bytes an entry.
const FILE_MAX: u64 = 128 << 20;
/// Wrong lines of a file that are said; more would hide what else is wrong.
const WRONG_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::net::IpAddr;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn set(path: &Path, of: Of) -> Set {
        let members = ArcSwap::from_pointee(Members::load(path, of).unwrap());
        Set { name: "bad".into(), path: path.to_owned(), of, members }
    }

    fn has(set: &Set, address: &str) -> bool {
        let mut bytes = [0; 16];
        let family = match address.parse().unwrap() {
            IpAddr::V4(a) => {
                bytes[..4].copy_from_slice(&a.octets());
                L3::Ipv4
            }
            IpAddr::V6(a) => {
                bytes = a.octets();
                L3::Ipv6
            }
        };
        set.has_address(family, AddressBytes(bytes))
    }

    #[test]
    fn a_file_has_addresses_and_prefixes_of_both_families_and_comments() {
        let text =
            "# bad\n192.0.2.1\n198.51.100.0/24 ; SBL1\n\n2001:db8::/32\n::1 # here\r\n0.0.0.0/8";
        let set = set(file(text).path(), Of::Addresses);
        for inside in ["192.0.2.1", "198.51.100.0", "198.51.100.255", "2001:db8:ffff::", "::1"] {
            assert!(has(&set, inside), "{inside}");
        }
        for outside in ["192.0.2.0", "192.0.2.2", "198.51.101.0", "2001:db9::", "::2", "1.0.0.0"] {
            assert!(!has(&set, outside), "{outside}");
        }
        assert_eq!(set.members.load().len(), 5);
    }

    #[test]
    fn ports_and_ranges_of_ports_are_sets_too() {
        let set = set(file("80\n8000-8100\n65535").path(), Of::Ports);
        let inside: Vec<u16> = (0..=u16::MAX).filter(|p| set.has_port(*p)).collect();
        let mut all: Vec<u16> = (8000..=8100).collect();
        all.insert(0, 80);
        all.push(65_535);
        assert_eq!(inside, all);
        assert!(!has(&set, "0.0.0.80"), "a port is no address");
    }

    #[test]
    fn each_wrong_line_is_said_by_its_number_and_not_more_than_ten() {
        let one = file("10.0.0.1\n10.0.0.1/8\nx");
        let wrong = Members::load(one.path(), Of::Addresses).unwrap_err();
        let path = one.path().display();
        assert_eq!(
            wrong,
            [
                format!("{path}:2: `10.0.0.1/8` has bits set behind its prefix length"),
                format!("{path}:3: `x` is not an IPv4 or IPv6 prefix"),
            ]
        );
        let many = file(&"x\n".repeat(1000));
        assert_eq!(Members::load(many.path(), Of::Addresses).unwrap_err().len(), WRONG_MAX + 1);
        let bytes = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bytes.path(), [0xff, 0xfe, b'\n']).unwrap();
        assert_eq!(Members::load(bytes.path(), Of::Ports).unwrap_err().len(), 1);
        assert!(Members::load(Path::new("/nowhere"), Of::Ports).is_err());
    }

    #[test]
    fn a_million_entries_are_loaded_and_no_more() {
        let mut text = String::new();
        for i in 0..ENTRIES_MAX as u32 {
            // Spread, so that none meets another.
            writeln!(text, "{}", std::net::Ipv4Addr::from_bits(i.wrapping_mul(0x9e37_79b1)))
                .unwrap();
        }
        let full = file(&text);
        let start = Instant::now();
        let set = set(full.path(), Of::Addresses);
        println!("a million entries in {:?}", start.elapsed());
        let start = Instant::now();
        let found = (0..1_000_000u32)
            .filter(|i| {
                let mut bytes = [0; 16];
                let address = i.wrapping_mul(0x85eb_ca6b);
                bytes[..4].copy_from_slice(&address.to_be_bytes());
                set.has_address(L3::Ipv4, AddressBytes(bytes))
            })
            .count();
        println!("{} ns a look-up, {found} found", start.elapsed().as_nanos() / 1_000_000);
        assert!(has(&set, "158.55.121.177"));
        text += "192.0.2.1";
        let wrong = Members::load(file(&text).path(), Of::Addresses).unwrap_err();
        assert!(wrong[0].ends_with(":1000001: more than 1000000 entries"), "{wrong:?}");
    }

    #[test]
    fn a_set_is_replaced_by_its_file_unless_that_is_wrong() {
        let file = file("192.0.2.1");
        let set = Arc::new(set(file.path(), Of::Addresses));
        let generation = Arc::new(AtomicU32::new(0));
        let handle =
            Sets { sets: vec![set.clone()], broken: vec![] }.handle(generation.clone()).unwrap();
        let write = |value: &str| handle.write.as_ref().unwrap()(value);
        assert_eq!((handle.read)(), "bad 1");
        std::fs::write(file.path(), "192.0.2.2\n192.0.2.3").unwrap();
        assert!(write("good").is_err(), "there is no such set");
        assert!(has(&set, "192.0.2.1"));
        write("bad").unwrap();
        assert!(!has(&set, "192.0.2.1") && has(&set, "192.0.2.2"));
        assert_eq!(((handle.read)().as_str(), generation.load(Ordering::Relaxed)), ("bad 2", 1));
        std::fs::write(file.path(), "x").unwrap();
        assert!(write("all").is_err());
        assert!(has(&set, "192.0.2.3"), "as it was");
    }

    proptest! {
        #[test]
        fn ranges_have_what_any_of_them_has(
            all in prop::collection::vec((0u32..200, 0u32..20), 0..30), one in 0u32..250,
        ) {
            let all: Vec<_> = all.into_iter().map(|(first, more)| (first, first + more)).collect();
            let any = all.iter().any(|(first, last)| (*first..=*last).contains(&one));
            prop_assert_eq!(Ranges::of(all).has(one), any);
        }
    }
}
