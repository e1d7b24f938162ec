//! What the EAL options ask for, as far as something of ours depends on it.
//!
//! EAL reads its options itself, from the same strings: nothing is taken out or rewritten here, and
//! an option that is not known is passed over, so a newer DPDK brings no error. The other way, a
//! table of all of EAL's options, would reject what the installed DPDK knows and we do not.
use nfv_core::chain::report::nearest;
use std::fmt;

/// The EAL options that decide what a run needs of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EalArgs {
    /// The lcores of `-l`, `--lcores` or `-c`, by number; none when EAL is to choose.
    pub lcores: Option<Vec<Lcore>>,
    /// Lcores of `-s` and `-S`, which run services and are no workers.
    pub service: Vec<u32>,
    /// `--main-lcore`.
    pub main_lcore: Option<u32>,
    /// Devices of `-a`, with their arguments.
    pub allow: Vec<String>,
    /// PCI addresses of `-b`.
    pub block: Vec<String>,
    /// Virtual devices of `--vdev`, with their arguments.
    pub vdevs: Vec<String>,
    /// `--no-huge`: ordinary pages.
    pub no_huge: bool,
    /// `--no-pci`: the PCI bus is not scanned.
    pub no_pci: bool,
    /// `--in-memory`: no file is made, neither for huge pages nor for a second process.
    pub in_memory: bool,
    /// `--no-shconf`: no file is shared with a second process.
    pub no_shconf: bool,
    /// `--huge-dir`: the one hugetlbfs to use.
    pub huge_dir: Option<String>,
    /// `--file-prefix`: what this process is called among those of one machine.
    pub file_prefix: Option<String>,
    /// `-m`: memory to take at the start, in MiB.
    pub memory: Option<u64>,
    /// `--socket-mem`: memory to take at the start from each NUMA node, in MiB.
    pub socket_mem: Vec<u64>,
    /// `--iova-mode`: `pa` or `va`.
    pub iova_mode: Option<String>,
    /// `--proc-type`: `primary`, `secondary` or `auto`.
    pub proc_type: Option<String>,
    /// Values that could not be read: the option, and its value.
    pub unread: Vec<(String, String)>,
}

/// One lcore: its number, and the CPUs on which its thread may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lcore {
    /// Its number.
    pub id: u32,
    /// Its CPUs, in order; one, unless `--lcores` says otherwise.
    pub cpus: Vec<u32>,
}

impl EalArgs {
    /// Reads `args`, up to a `--` or to their end. Later options win, as they do for EAL.
    pub fn read<S: AsRef<str>>(args: &[S]) -> Self {
        let mut eal = Self::default();
        let mut rest = args.iter().map(AsRef::as_ref).take_while(|arg| *arg != "--").peekable();
        while let Some(arg) = rest.next() {
            let Some((name, attached)) = split_option(arg) else { continue };
            if eal.flag(name) {
                continue;
            }
            if !VALUED.contains(&name) {
                continue;
            }
            if let Some(value) = attached.or_else(|| rest.next()) {
                eal.value(name, value);
            }
        }
        eal
    }

    /// The memory that EAL takes at its start, in MiB; 0 when it takes what it needs, when it does.
    pub fn memory_at_start(&self) -> u64 {
        let sum = self.socket_mem.iter().fold(0u64, |sum, node| sum.saturating_add(*node));
        self.memory.unwrap_or(0).max(sum)
    }

    fn flag(&mut self, name: &str) -> bool {
        let flag = match name {
            "--no-huge" => &mut self.no_huge,
            "--no-pci" => &mut self.no_pci,
            "--in-memory" => &mut self.in_memory,
            "--no-shconf" => &mut self.no_shconf,
            _ => return false,
        };
        *flag = true;
        true
    }

    fn value(&mut self, name: &str, value: &str) {
        let read = match name {
            "-l" | "--lcores" => self.set_lcores(read_lcores(value)),
            "-c" => self.set_lcores(read_mask(value).map(one_cpu_each)),
            "-s" => read_mask(value).map(|ids| self.service = ids).is_some(),
            "-S" => read_set(value).map(|ids| self.service = ids).is_some(),
            "--main-lcore" => value.parse().map(|id| self.main_lcore = Some(id)).is_ok(),
            "-m" => value.parse().map(|mib| self.memory = Some(mib)).is_ok(),
            "--socket-mem" => self.set_socket_mem(value),
            _ => {
                self.text(name, value);
                true
            }
        };
        if !read {
            self.unread.push((name.to_owned(), value.to_owned()));
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        let value = value.to_owned();
        match name {
            "-a" | "--allow" => self.allow.push(value),
            "-b" | "--block" => self.block.push(value),
            "--vdev" => self.vdevs.push(value),
            "--huge-dir" => self.huge_dir = Some(value),
            "--file-prefix" => self.file_prefix = Some(value),
            "--iova-mode" => self.iova_mode = Some(value),
            "--proc-type" => self.proc_type = Some(value),
            _ => {}
        }
    }

    fn set_lcores(&mut self, lcores: Option<Vec<Lcore>>) -> bool {
        let read = lcores.is_some();
        self.lcores = lcores;
        read
    }

    fn set_socket_mem(&mut self, value: &str) -> bool {
        let nodes: Option<Vec<u64>> = value.split(',').map(|mib| mib.parse().ok()).collect();
        nodes.map(|nodes| self.socket_mem = nodes).is_some()
    }
}

/// The name of an option and the value that is attached to it; none for what is no option.
fn split_option(arg: &str) -> Option<(&str, Option<&str>)> {
    if arg.starts_with("--") {
        return Some(match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg, None),
        });
    }
    let letter = arg.strip_prefix('-')?.chars().next()?;
    let (name, value) = arg.split_at(1 + letter.len_utf8());
    Some((name, (!value.is_empty()).then_some(value)))
}

/// `1,2@(5-7),(3-5)@(0,2),(0,6),7-8`: without `@`, a group shares the CPUs of its own numbers, and
/// a lone number or range has one CPU each.
fn read_lcores(text: &str) -> Option<Vec<Lcore>> {
    let mut lcores: Vec<Lcore> = Vec::new();
    for part in split_outside_parentheses(text) {
        let (ids, cpus) = match part.split_once('@') {
            Some((ids, cpus)) => (read_group(ids)?, Some(read_group(cpus)?)),
            None if part.starts_with('(') => (read_group(part)?, Some(read_group(part)?)),
            None => (read_set(part)?, None),
        };
        for id in ids {
            let cpus = cpus.clone().unwrap_or_else(|| vec![id]);
            lcores.retain(|lcore| lcore.id != id);
            lcores.push(Lcore { id, cpus });
        }
    }
    lcores.sort_by_key(|lcore| lcore.id);
    (!lcores.is_empty()).then_some(lcores)
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        inside = if inside { c != ')' } else { c == '(' };
        c == ',' && !inside
    })
    .collect()
}

fn read_group(text: &str) -> Option<Vec<u32>> {
    match text.strip_prefix('(') {
        Some(group) => read_set(group.strip_suffix(')')?),
        None => read_set(text),
    }
}

fn one_cpu_each(ids: Vec<u32>) -> Vec<Lcore> {
    ids.into_iter().map(|id| Lcore { id, cpus: vec![id] }).collect()
}

/// Numbers and ranges with commas between them, as in `0-3,8`, sorted, each once; none when the
/// text is anything else, names no number, or one that no machine has.
pub fn read_set(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > NUMBER_MAX {
            return None;
        }
        numbers.extend(first..=last);
        numbers.sort_unstable();
        numbers.dedup();
    }
    Some(numbers)
}

/// A hexadecimal mask, with or without `0x`; none when it is anything else, or empty.
fn read_mask(text: &str) -> Option<Vec<u32>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut numbers = Vec::new();
    for (place, digit) in (0..=NUMBER_MAX / 4).zip(digits.chars().rev()) {
        let digit = digit.to_digit(16)?;
        numbers.extend((0..4).filter(|bit| digit >> bit & 1 == 1).map(|bit| place * 4 + bit));
    }
    let too_long = digits.len() > NUMBER_MAX as usize / 4 + 1;
    (!numbers.is_empty() && !too_long).then_some(numbers)
}

/// Numbers as a set that [`read_set`] reads: `0-3,8`.
pub struct AsSet<'n>(
    /// The numbers, ascending.
    pub &'n [u32],
);

impl fmt::Display for AsSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (at, run) in runs.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// Long options that EAL does not know, of any version from 22.11 to 25.11, each with the nearest that it does.
pub fn unknown_options(args: &[String]) -> Vec<(String, Option<&'static str>)> {
    let long = args.iter().filter(|word| word.starts_with("--"));
    let names = long.filter_map(|word| word.split('=').next());
    let unknown = names.filter(|name| !LONG.contains(name));
    unknown.map(|name| (name.to_owned(), nearest(name, LONG.iter().copied()))).collect()
}

/// EAL's long options.
const LONG: &[&str] = &[
    "--allow",
    "--base-virtaddr",
    "--block",
    "--create-uio-dev",
    "--file-prefix",
    "--force-max-simd-bitwidth",
    "--help",
    "--huge-dir",
    "--huge-unlink",
    "--huge-worker-stack",
    "--in-memory",
    "--iova-mode",
    "--lcores",
    "--legacy-mem",
    "--log-color",
    "--log-level",
    "--log-timestamp",
    "--main-lcore",
    "--match-allocations",
    "--mbuf-pool-ops-name",
    "--no-hpet",
    "--no-huge",
    "--no-pci",
    "--no-shconf",
    "--no-telemetry",
    "--proc-type",
    "--single-file-segments",
    "--socket-limit",
    "--socket-mem",
    "--syslog",
    "--telemetry",
    "--trace",
    "--trace-bufsz",
    "--trace-dir",
    "--trace-mode",
    "--vdev",
    "--vfio-intr",
    "--vfio-vf-token",
    "--vmware-tsc-map",
];

/// The options that take a value and matter here.
const VALUED: &[&str] = &[
    "-l",
    "--lcores",
    "-c",
    "-s",
    "-S",
    "--main-lcore",
    "-a",
    "--allow",
    "-b",
    "--block",
    "--vdev",
    "--huge-dir",
    "--file-prefix",
    "-m",
    "--socket-mem",
    "--iova-mode",
    "--proc-type",
];

/// The greatest number of a CPU or an lcore: Linux is built for 8192 CPUs at most.
const NUMBER_MAX: u32 = 8191;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_eal_does_not_know_is_named_with_the_nearest() {
        let words = ["--no-huge", "--filee-prefix=x", "-l", "0", "--vdev", "net_null0"];
        let unknown = unknown_options(&words.map(str::to_owned));
        assert_eq!(unknown, [("--filee-prefix".to_owned(), Some("--file-prefix"))]);
    }

    fn lcores(text: &str) -> Vec<(u32, Vec<u32>)> {
        let read = EalArgs::read(&["--lcores", text]).lcores.expect("the test's list is right");
        read.into_iter().map(|lcore| (lcore.id, lcore.cpus)).collect()
    }

    #[test]
    fn a_value_may_stand_apart_behind_an_equals_sign_or_at_the_letter() {
        for args in [&["--vdev", "net_null0"][..], &["--vdev=net_null0"]] {
            assert_eq!(EalArgs::read(args).vdevs, ["net_null0"]);
        }
        for args in [&["-a", "03:00.0"][..], &["-a03:00.0"], &["--allow=03:00.0"]] {
            assert_eq!(EalArgs::read(args).allow, ["03:00.0"]);
        }
    }

    #[test]
    fn an_unknown_option_is_passed_over_with_its_value() {
        let eal = EalArgs::read(&["--log-level", "lib.eal:8", "-n", "4", "-v", "--no-huge"]);
        assert_eq!(eal, EalArgs { no_huge: true, ..EalArgs::default() });
    }

    #[test]
    fn what_follows_two_dashes_is_not_for_eal() {
        assert_eq!(EalArgs::read(&["--", "--no-huge", "-l", "0"]), EalArgs::default());
    }

    #[test]
    fn the_example_of_the_dpdk_guide_reads_as_it_says() {
        let expected = [
            (0, vec![0, 6]),
            (1, vec![1]),
            (2, vec![5, 6, 7]),
            (3, vec![0, 2]),
            (4, vec![0, 2]),
            (5, vec![0, 2]),
            (6, vec![0, 6]),
            (7, vec![7]),
            (8, vec![8]),
        ];
        assert_eq!(lcores("1,2@(5-7),(3-5)@(0,2),(0,6),7-8"), expected);
    }

    #[test]
    fn four_lcores_share_two_cpus() {
        let expected: Vec<_> = (0..4).map(|id| (id, vec![0, 1])).collect();
        assert_eq!(lcores("(0-3)@(0-1)"), expected);
    }

    #[test]
    fn a_mask_counts_bits_from_the_right() {
        for mask in ["0x15", "15"] {
            let ids = EalArgs::read(&["-c", mask]).lcores.expect("the mask is right");
            assert_eq!(ids.iter().map(|lcore| lcore.id).collect::<Vec<_>>(), [0, 2, 4]);
        }
    }

    #[test]
    fn a_list_that_is_none_is_kept_to_be_reported() {
        for list in ["", "a", "3-1", "0-99999999", "(0-1", "1@", "0,,1"] {
            let eal = EalArgs::read(&["-l", list]);
            assert_eq!((eal.lcores, eal.unread.len()), (None, 1), "{list:?}");
        }
        for mask in ["", "0", "0xzz"] {
            assert_eq!(EalArgs::read(&["-c", mask]).unread.len(), 1, "{mask:?}");
        }
    }

    #[test]
    fn an_option_without_its_value_is_no_panic() {
        assert_eq!(EalArgs::read(&["-l"]), EalArgs::default());
        assert_eq!(EalArgs::read(&["-", "", "-é", "--"]), EalArgs::default());
    }

    #[test]
    fn memory_of_all_nodes_adds_up() {
        assert_eq!(EalArgs::read(&["--socket-mem", "512,256"]).memory_at_start(), 768);
        assert_eq!(EalArgs::read(&["-m", "64"]).memory_at_start(), 64);
    }

    #[test]
    fn a_set_prints_as_it_reads() {
        for text in ["0-3,8", "5", "0,2,4-5"] {
            assert_eq!(AsSet(&read_set(text).expect("a set")).to_string(), text);
        }
    }
}
