//! What one thread gets from Hyperscan alone, as the figures of the IDS are compared with it: the payloads of a capture,
//! scanned for the fast patterns of a file of rules, all in one database, over and over.
//!
//!     cargo bench --bench raw_scan -- RULES CAPTURE SECONDS      prints {"gbps": .., "patterns": ..}

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use etherparse::SlicedPacket;
use hs::{Case, Database, Literal, Scratch};
use nfs::ids::rules::{Classes, Rule, Rules, Setup, Source, Test, Variables};
use pcap_file::pcap::PcapReader;
use rustix::time::{ClockId, clock_gettime};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [rules, capture, seconds] = words.as_slice() else {
        return Err(anyhow!("write it as RULES CAPTURE SECONDS"));
    };
    let patterns = patterns(rules)?;
    let payloads = payloads(capture)?;
    let literals: Vec<Literal<'_>> =
        patterns.iter().map(|(bytes, case)| Literal { bytes, case: *case }).collect();
    let database = Database::compile(&literals)?;
    let mut scratch = Scratch::default();
    scratch.fit(&database)?;
    let length: usize = payloads.iter().map(Vec::len).sum();
    let (window, mut scanned) = (Duration::from_secs_f64(seconds.parse()?), 0);
    let (mut found, start, had) = (Vec::new(), Instant::now(), cpu_time());
    while start.elapsed() < window {
        for payload in &payloads {
            found.clear();
            database.scan(payload, &mut scratch, &mut found)?;
        }
        scanned += length;
    }
    // Of a whole CPU, as nfv bench has it: on a machine that does other things too, seconds are not what they seem.
    let gbps = scanned as f64 * 8.0 / (cpu_time() - had).as_nanos() as f64;
    println!("{}", serde_json::json!({ "gbps": gbps, "patterns": patterns.len() }));
    Ok(())
}

/// For how long this thread had a CPU.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What the rules are looked up by, each once.
fn patterns(file: &str) -> anyhow::Result<BTreeSet<(Vec<u8>, Case)>> {
    let text = std::fs::read(file).with_context(|| format!("reading {file}"))?;
    let any = ["HOME_NET", "EXTERNAL_NET"].map(|name| (name.to_owned(), "any".to_owned()));
    let (variables, _) = Variables::new(&any, &[]);
    let (classes, _) = Classes::read("");
    let setup = Setup { variables: &variables, classes: &classes, events: &[] };
    let rules = Rules::read(&[Source { name: file, text: &text }], &setup);
    Ok(rules.rules.iter().filter_map(pattern).collect())
}

fn pattern(rule: &Rule) -> Option<(Vec<u8>, Case)> {
    let place = rule.fast_pattern?;
    let Test::Content(content) = rule.inspects.get(place.inspect)?.tests.get(place.test)? else {
        return None;
    };
    let from = usize::from(place.offset);
    let bytes = content.pattern.get(from..from + usize::from(place.length))?;
    Some((bytes.to_vec(), if content.nocase { Case::Either } else { Case::Exact }))
}

fn payloads(file: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut reader = PcapReader::new(File::open(file).with_context(|| format!("reading {file}"))?)?;
    let mut payloads = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        let sliced = SlicedPacket::from_ethernet(&packet.data)?;
        if let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport
            && !tcp.payload().is_empty()
        {
            payloads.push(tcp.payload().to_vec());
        }
    }
    Ok(payloads)
}
