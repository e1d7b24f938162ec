//! Which of two segments a receiver keeps where both have bytes.
//!
//! Receivers differ, so who overlaps segments with different bytes can show one stream to the target and another to who
//! looks on. Target-based reassembly (Novak and Sturges, "Target-Based TCP Stream Reassembly", 2007) answers as the
//! receiving host would: for each system, by how the later segment lies to the earlier one.
//!
//! ```text
//!   later segment, to the        bsd, windows,   linux   old-linux   solaris,   vista,   last
//!   earlier one                  irix, macos                         hpux11     first
//!   starts before, ends before       new          new       new       old       old     new
//!   starts before, ends at it        new          new       new       new       old     new
//!   starts before, ends behind       new          new       new       new       old     new
//!   starts at it,  ends before       old          old       old       old       old     new
//!   starts at it,  ends at it        old          old       new       new       old     new
//!   starts at it,  ends behind       old          new       new       new       old     new
//!   starts behind, ends before       old          old       old       old       old     new
//!   starts behind, ends at it        old          old       old       old       old     new
//!   starts behind, ends behind       old          old       old       new       old     new
//! ```

use std::cmp::Ordering::{Equal, Greater, Less};
use std::net::IpAddr;

use ipnet::IpNet;

/// How a receiver treats overlaps; the names are those of Suricata's `host-os-policy`, and `first` and `last`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OverlapPolicy {
    /// What came first stays.
    First,
    /// What came last wins.
    Last,
    /// BSD; what a host without an entry is taken for.
    #[default]
    Bsd,
    /// Linux since 2.4.
    Linux,
    /// Linux before 2.4.
    OldLinux,
    /// Windows up to XP.
    Windows,
    /// Windows Server 2003.
    Windows2k3,
    /// Windows Vista and later.
    Vista,
    /// Solaris.
    Solaris,
    /// HP-UX 10.
    Hpux10,
    /// HP-UX 11.
    Hpux11,
    /// IRIX.
    Irix,
    /// Mac OS.
    Macos,
}

/// Which of two segments' bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The earlier one's.
    Old,
    /// The later one's.
    New,
}

/// Where a segment lies: offsets of its first byte and of the one behind its last, from wherever both are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub start: i64,
    /// Behind its last byte.
    pub end: i64,
}

/// The policy of each host, by its address.
#[derive(Clone, Debug, Default)]
pub struct HostPolicies {
    /// Longest prefix first; of equal ones the later entry is first.
    prefixes: Vec<(IpNet, OverlapPolicy)>,
    default: OverlapPolicy,
}

impl OverlapPolicy {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::First,
        Self::Last,
        Self::Bsd,
        Self::Linux,
        Self::OldLinux,
        Self::Windows,
        Self::Windows2k3,
        Self::Vista,
        Self::Solaris,
        Self::Hpux10,
        Self::Hpux11,
        Self::Irix,
        Self::Macos,
    ];

    /// By its name in a configuration. `bsd-right` and `old-solaris` differ from `bsd` and `solaris` for fragments only.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bsd-right" => Some(Self::Bsd),
            "old-solaris" => Some(Self::Solaris),
            "hpux" => Some(Self::Hpux11),
            _ => Self::ALL.into_iter().find(|policy| policy.name() == name),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Bsd => "bsd",
            Self::Linux => "linux",
            Self::OldLinux => "old-linux",
            Self::Windows => "windows",
            Self::Windows2k3 => "windows2k3",
            Self::Vista => "vista",
            Self::Solaris => "solaris",
            Self::Hpux10 => "hpux10",
            Self::Hpux11 => "hpux11",
            Self::Irix => "irix",
            Self::Macos => "macos",
        }
    }

    /// Whose bytes are kept where both segments have some: `old` came before `new`.
    #[inline]
    pub fn winner(self, old: Range, new: Range) -> Winner {
        let starts = new.start.cmp(&old.start);
        let ends = new.end.cmp(&old.end);
        let takes_new = match self {
            Self::First | Self::Vista => false,
            Self::Last => true,
            Self::Bsd
            | Self::Windows
            | Self::Windows2k3
            | Self::Hpux10
            | Self::Irix
            | Self::Macos => starts == Less,
            Self::Linux => matches!((starts, ends), (Less, _) | (Equal, Greater)),
            Self::OldLinux => matches!((starts, ends), (Less, _) | (Equal, Equal | Greater)),
            Self::Solaris | Self::Hpux11 => {
                matches!((starts, ends), (Less | Equal, Equal | Greater) | (Greater, Greater))
            }
        };
        if takes_new { Winner::New } else { Winner::Old }
    }
}

impl HostPolicies {
    /// Policies of prefixes: the longest that holds an address counts. `default` is for addresses of none.
    pub fn new(mut prefixes: Vec<(IpNet, OverlapPolicy)>, default: OverlapPolicy) -> Self {
        prefixes.reverse();
        prefixes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self { prefixes, default }
    }

    /// The policy of a host.
    ///
    /// # Cost
    /// One comparison a prefix; asked once a direction of a connection.
    pub fn of(&self, host: IpAddr) -> OverlapPolicy {
        let found = self.prefixes.iter().find(|(net, _)| net.contains(&host));
        found.map_or(self.default, |(_, policy)| *policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Range = Range { start: 10, end: 20 };

    /// The rows of the module's table; columns: bsd, linux, old-linux, solaris, first, last. `n` takes the new bytes.
    const TABLE: [(i64, i64, &str); 9] = [
        (5, 15, "nnnoon"),
        (5, 20, "nnnnon"),
        (5, 25, "nnnnon"),
        (10, 15, "ooooon"),
        (10, 20, "oonnon"),
        (10, 25, "onnnon"),
        (12, 15, "ooooon"),
        (12, 20, "ooooon"),
        (12, 25, "ooonon"),
    ];

    #[test]
    fn each_policy_answers_each_kind_of_overlap_as_the_table_has_it() {
        use OverlapPolicy::*;
        let columns: [&[OverlapPolicy]; 6] = [
            &[Bsd, Windows, Windows2k3, Hpux10, Irix, Macos],
            &[Linux],
            &[OldLinux],
            &[Solaris, Hpux11],
            &[First, Vista],
            &[Last],
        ];
        assert_eq!(columns.iter().map(|c| c.len()).sum::<usize>(), OverlapPolicy::ALL.len());
        for (start, end, row) in TABLE {
            for (policies, wanted) in columns.iter().zip(row.chars()) {
                for policy in *policies {
                    let winner = policy.winner(OLD, Range { start, end });
                    let is_new = winner == Winner::New;
                    assert_eq!(is_new, wanted == 'n', "{} {start}..{end}", policy.name());
                }
            }
        }
    }

    #[test]
    fn a_policy_is_found_by_its_name_and_the_names_of_fragment_policies() {
        for policy in OverlapPolicy::ALL {
            assert_eq!(OverlapPolicy::named(policy.name()), Some(policy));
        }
        assert_eq!(OverlapPolicy::named("bsd-right"), Some(OverlapPolicy::Bsd));
        assert_eq!(OverlapPolicy::named("plan9"), None);
    }

    #[test]
    fn a_host_has_the_policy_of_its_longest_prefix() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let prefixes = vec![
            (net("2.2.2.2/32"), OverlapPolicy::OldLinux),
            (net("0.0.0.0/0"), OverlapPolicy::Windows),
            (net("2.0.0.0/8"), OverlapPolicy::Solaris),
            (net("fd00::/8"), OverlapPolicy::Linux),
        ];
        let hosts = HostPolicies::new(prefixes, OverlapPolicy::Bsd);
        let of = |text: &str| hosts.of(text.parse().expect("an address"));
        assert_eq!(of("2.2.2.2"), OverlapPolicy::OldLinux);
        assert_eq!(of("2.2.2.3"), OverlapPolicy::Solaris);
        assert_eq!(of("3.2.2.3"), OverlapPolicy::Windows);
        assert_eq!(of("fd12::1"), OverlapPolicy::Linux);
        assert_eq!(of("2001::1"), OverlapPolicy::Bsd);
    }
}
