//! The one parse of a packet: `cargo bench --bench parse`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use nfv_core::packet::{Headers, parse_into};

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let build = |builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>| {
        let mut frame = Vec::new();
        builder.write(&mut frame, &[0; 18]).expect("memory takes all");
        frame
    };
    let link = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let v6 = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let mut tcp = Vec::new();
    let builder = link().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1000, 80, 1, 1024);
    builder.write(&mut tcp, &[0; 6]).expect("memory takes all");
    let outer = |id: u16| etherparse::VlanId::try_new(id).expect("below 4096");
    vec![
        ("udp", build(link().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1000, 53))),
        ("tcp", tcp),
        ("udp6", build(link().ipv6(v6(1), v6(2), 64).udp(1000, 53))),
        (
            "qinq",
            build(
                link()
                    .double_vlan(outer(100), outer(200))
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                    .udp(1000, 53),
            ),
        ),
    ]
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(32));
    for (name, frame) in frames() {
        let burst = vec![frame; 32];
        let mut headers = [Headers::default(); 32];
        group.bench_function(name, |b| {
            b.iter(|| {
                for (frame, headers) in burst.iter().zip(&mut headers) {
                    let parsed = parse_into(black_box(frame), frame.len() as u32, headers);
                    assert!(parsed.is_ok());
                }
                black_box(&mut headers);
            });
        });
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);
