//! The captures and rules of Suricata's public verification suite, sent as their hosts sent them, and then evasively.

use std::path::{Path, PathBuf};

use nfv_core::packet::checksum::Sum;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

use std::collections::BTreeSet;

use super::super::*;
use super::fragments::{self, Fragments};
use crate::ids::detect;
use crate::ids::rules::{Buffer, PacketTest, Rule, RuleKind};
use crate::ids::stream::{Midstream, Mode, OneSide};

/// A case: what was captured, and what looks for what.
struct Case {
    name: String,
    frames: Vec<Vec<u8>>,
    stamps: Vec<u64>,
    settings: Arc<Settings>,
    ruleset: Arc<Ruleset>,
}

/// What is done to each packet.
#[derive(Clone, Copy, Debug)]
enum Evasion {
    None,
    /// Segments of so many bytes.
    Cut(usize),
    /// The same, each packet's last one first.
    Backwards(usize),
    /// Fragments.
    Fragments(Fragments),
}

#[test]
fn what_fires_on_captures_of_the_suite_fires_again_when_they_are_evasive() {
    let given = std::env::var_os("RULE_CASES").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| "../../shared/suricata-verify/cases".into());
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED evasion of rule cases: {} is not there", folder.display());
        return;
    };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let evasions = [
        Evasion::Cut(1),
        Evasion::Cut(3),
        Evasion::Backwards(1),
        Evasion::Backwards(11),
        Evasion::Fragments(Fragments::Cut(8)),
        Evasion::Fragments(Fragments::Backwards(8)),
        Evasion::Fragments(Fragments::Twice(24)),
    ];
    let (mut missing, mut runs, mut alerts) = (Vec::new(), 0, 0);
    for case in folders.iter().filter_map(|folder| Case::read(folder)) {
        let before = case.fired(Evasion::None);
        for evasion in evasions {
            let may_be_lost = |sid: &u32| {
                let rule = (0..).map_while(|n| case.ruleset.rule(n)).find(|rule| rule.sid == *sid);
                rule.is_none_or(|rule| !survives(rule, evasion))
            };
            let wanted: BTreeSet<u32> =
                before.iter().copied().filter(|sid| !may_be_lost(sid)).collect();
            if wanted.is_empty() {
                continue;
            }
            (runs, alerts) = (runs + 1, alerts + wanted.len());
            let found = case.fired(evasion);
            let lost: Vec<&u32> = wanted.difference(&found).collect();
            if !lost.is_empty() {
                missing.push(format!("{} {evasion:?}: {lost:?}", case.name));
            }
        }
    }
    println!("{runs} captures, {alerts} rules");
    assert!(runs > 100, "{runs}");
    assert!(missing.is_empty(), "{} of {runs}:\n{}", missing.len(), missing.join("\n"));
}

/// Whether a rule is about what an evasion leaves as it is.
fn survives(rule: &Rule, evasion: Evasion) -> bool {
    let is_of_ip = |test: &PacketTest| {
        use PacketTest::{FragmentBits, FragmentOffset, Id};
        matches!(test, Id(_) | FragmentBits(_) | FragmentOffset(_) | PacketTest::Event(_))
    };
    match evasion {
        Evasion::None => true,
        Evasion::Fragments(_) => {
            let headers = [Buffer::Ipv4Header, Buffer::Ipv6Header];
            let looks_at_ip = rule.inspects.iter().any(|i| headers.contains(&i.buffer));
            !rule.packet.iter().any(is_of_ip) && !looks_at_ip && rule.flow.fragment.is_none()
        }
        // Rules of packets are about the packets that there are.
        Evasion::Cut(_) | Evasion::Backwards(_) => {
            use RuleKind::{App, IpOnly, LikeIpOnly, Protocol, Stream, Transaction};
            let kinds = [App, IpOnly, LikeIpOnly, Protocol, Stream, Transaction];
            rule.packet.is_empty() && kinds.contains(&rule.kind)
        }
    }
}

impl Case {
    /// `None`: it is of another kind of link, or there is nothing in it.
    fn read(folder: &Path) -> Option<Self> {
        let files = || std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        let of = |ending: &str| files().find(|path| path.extension().is_some_and(|e| e == ending));
        let mut reader = PcapReader::new(std::fs::File::open(of("pcap")?).ok()?).ok()?;
        if reader.header().datalink != DataLink::ETHERNET {
            return None;
        }
        let (mut frames, mut stamps) = (Vec::new(), Vec::new());
        while let Some(Ok(packet)) = reader.next_packet() {
            stamps.push(packet.timestamp.as_nanos() as u64);
            frames.push(packet.data.into_owned());
        }
        let text = std::fs::read(of("rules")?).ok()?;
        let test = std::fs::read_to_string(folder.join("test.yaml")).ok()?;
        let name = folder.file_name()?.to_string_lossy().into_owned();
        let mut settings = Settings::default();
        let has = |words: &str| test.contains(words);
        settings.checksums = Checksums::Ignore;
        if has("--simulate-ips") || name.contains("ips") {
            settings.streams.mode = Mode::Inline;
        }
        // Also those that were captured from their middle on: elsewhere packets are looked at one by one.
        settings.streams.midstream = Midstream::PickUp;
        if has("stream.async-oneside=true") {
            settings.streams.one_side = OneSide::Follow;
        }
        let events: Vec<String> = detect::events()
            .into_iter()
            .chain(HEADER_EVENTS.iter().map(|e| (*e).to_owned()))
            .collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let addresses = [
            own("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
            own("EXTERNAL_NET", "!$HOME_NET"),
        ];
        let ports = [own("HTTP_PORTS", "80"), own("SSH_PORTS", "22")];
        let (variables, _) = Variables::new(&addresses, &ports);
        let setup = Setup { variables: &variables, classes: &Classes::default(), events: &events };
        let rules = Rules::read(&[Source { name: "rules", text: &text }], &setup);
        let with = Compile { events: &events, ..Compile::default() };
        let ruleset = Arc::new(Ruleset::compile(rules, &with));
        Some(Self { name, frames, stamps, settings: Arc::new(settings), ruleset })
    }

    /// The numbers of the rules that fire.
    fn fired(&self, evasion: Evasion) -> BTreeSet<u32> {
        let detector = Detector::new(self.ruleset.clone(), Arc::new(Memory::new(1 << 20)));
        let mut inspector = Inspector::new(self.settings.clone(), detector);
        let mut told = Told::default();
        let mut known = BTreeSet::new();
        for ((number, frame), stamp) in (1..).zip(&self.frames).zip(&self.stamps) {
            // Of one that is met in its middle the first segment that is seen is the first that there is.
            let is_first = known.insert(frame.get(26..38).map(|ends| {
                let (one, other) =
                    ([&ends[..4], &ends[8..10]].concat(), [&ends[4..8], &ends[10..]].concat());
                if one < other { [one, other] } else { [other, one] }
            }));
            let evasion = match evasion {
                Evasion::Backwards(size) if is_first => Evasion::Cut(size),
                evasion => evasion,
            };
            for mut part in evasion.done_to(frame, number) {
                let seen = Seen {
                    time: Time(*stamp),
                    frame: &part,
                    wire_length: part.len() as u32,
                    port: 0,
                    place: None,
                };
                let verdict = inspector.packet(&seen, &mut told);
                if let Some(rewrite) = verdict.rewrite {
                    inspector.rewrite(&rewrite, &mut part);
                }
            }
        }
        inspector.finish(Time(self.stamps.last().copied().unwrap_or(0)), &mut told);
        let of = |record: &Record| match &record.body {
            Body::Alert(alert) => Some(alert.rule.sid),
            _ => None,
        };
        told.0.iter().filter_map(of).collect()
    }
}

impl Evasion {
    fn done_to(self, frame: &[u8], number: u32) -> Vec<Vec<u8>> {
        let is_plain = match frame {
            [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, 0x45, ..] => {
                let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                frame[20] & 0x3f == 0 && frame[21] == 0 && 14 + total == frame.len()
            }
            [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, 0x60, ..] if frame.len() > 54 => {
                let total = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
                matches!(frame[20], 6 | 17 | 58) && 54 + total == frame.len()
            }
            _ => false,
        };
        match self {
            _ if !is_plain => vec![frame.to_vec()],
            Self::None => vec![frame.to_vec()],
            Self::Cut(size) => cut(frame, size),
            Self::Backwards(size) => {
                let mut parts = cut(frame, size);
                parts.reverse();
                parts
            }
            Self::Fragments(how) => fragments::cut(frame, how, number),
        }
    }
}

/// A segment in several; those that open or end a connection stay whole.
fn cut(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let is_v4 = frame[12] == 8;
    let (at, protocol) = if is_v4 { (34, frame[23]) } else { (54, frame[20]) };
    let whole = || vec![frame.to_vec()];
    let Some(tcp) = frame.get(at..at + 20).filter(|_| protocol == 6) else { return whole() };
    let behind = at + usize::from(tcp[12] >> 4) * 4;
    let payload = frame.get(behind..).unwrap_or_default();
    // SYN, FIN, RST, URG; and no receiver takes what has no ACK.
    if tcp[13] & 0x27 != 0 || tcp[13] & 0x10 == 0 || payload.len() <= size {
        return whole();
    }
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let mut parts = Vec::new();
    for (number, piece) in payload.chunks(size).enumerate() {
        let mut part = frame[..behind].to_vec();
        part.extend_from_slice(piece);
        let length = (part.len() - at + if is_v4 { 20 } else { 0 }) as u16;
        let place = if is_v4 { 16 } else { 18 };
        part[place..place + 2].copy_from_slice(&length.to_be_bytes());
        if is_v4 {
            part[24..26].fill(0);
            let sum = Sum::of(&part[14..34]).checksum();
            part[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let seq = seq.wrapping_add((number * size) as u32);
        part[at + 4..at + 8].copy_from_slice(&seq.to_be_bytes());
        parts.push(part);
    }
    parts
}
