//! First match of a list of rules, a burst at a time: `cargo bench --bench classify`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfv_core::chain::compile::{Choice, Entry, compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::dpdk::{BURST_MAX, Eal};
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::packet::{AddressBytes, Headers, L3};

/// A port with so many matches, of which the last one takes everything.
fn entry(count: usize) -> Entry {
    let mut text = String::from("ports: { lan: net_null0, wan: net_null1 }\nchains:\n");
    for i in 0..count - 1 {
        let (a, b) = (i >> 8 & 255, i & 255);
        text += &format!(
            "  c{i}: {{ from: lan, match: {{ src: 172.16.{a}.{b}, protocol: tcp, dport: {} }}, to: wan }}\n",
            1000 + i
        );
    }
    text += "  rest: { from: lan, match: { family: ipv4 }, to: wan }\n";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("chains.yaml");
    std::fs::write(&path, text).expect("the file can be written");
    let source = Arc::new(Source::open(&path).expect("the file is there"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(&[]), &mut report);
    let plan = compile(&file.expect("it is a chain file"), &[], Purpose::Check, None, &mut report);
    plan.expect("it is right").entries.swap_remove(0)
}

fn classify(c: &mut Criterion) {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "1024"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("EAL starts");
    let headers: Vec<Headers> = (0..BURST_MAX as u8)
        .map(|i| {
            let (mut src, mut dst) = ([0; 16], [0; 16]);
            src[..4].copy_from_slice(&[10, 0, 0, i]);
            dst[..4].copy_from_slice(&[198, 18, 0, i]);
            let (src, dst) = (AddressBytes(src), AddressBytes(dst));
            Headers {
                src,
                dst,
                kind: L3::Ipv4,
                protocol: 17,
                sport: 1000,
                dport: 53,
                ..Headers::default()
            }
        })
        .collect();
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(BURST_MAX as u64));
    for count in [10, 1_000, 10_000] {
        let entry = entry(count);
        let Choice::Matched { classifier, .. } = &entry.all else { panic!("{count} matches pick") };
        let mut found = [0; BURST_MAX];
        group.bench_function(format!("{count} rules"), |b| {
            b.iter(|| {
                classifier.look_up_headers(black_box(&headers), PortIndex(0), false, &mut found);
                black_box(&mut found);
            });
        });
        assert!(found.iter().all(|f| *f as usize == count), "the last one takes them");
    }
}

criterion_group!(benches, classify);
criterion_main!(benches);
