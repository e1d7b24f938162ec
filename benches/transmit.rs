//! A burst through a worker, from dispatch to transmit, without a device: `cargo bench --bench transmit`.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfv_core::chain::compile::{compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Eal, Mempool, Packets};
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::worker::{Io, Seat, Ties, Worker};

/// Keeps what is sent, for the next burst.
struct Loop(Packets);

impl Io for Loop {
    fn receive(&mut self, _: PortIndex, _: &mut Packets) {}

    fn transmit(&mut self, _: PortIndex, packets: &mut Packets) {
        self.0.extend(packets.drain(..));
    }
}

fn transmit(c: &mut Criterion) {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("EAL starts");
    let pool = Mempool::create(1023, 2048, -1).expect("there is memory");
    let mut group = c.benchmark_group("transmit");
    group.throughput(Throughput::Elements(BURST_MAX as u64));
    for chain in ["forward", "firewall", "count"] {
        let path = format!("{}/chains/{chain}.yaml", env!("CARGO_MANIFEST_DIR"));
        let source = Arc::new(Source::open(path.as_ref()).expect("the chain is there"));
        let mut report = Report::new(source.clone());
        let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
        let file = file.expect("it is a chain file");
        let plan =
            compile(&file, nfs::KINDS, Purpose::Run, None, &mut report).expect("it is right");
        let cells = plan.ledger.cells();
        let (seat, start) = (Seat { index: 0, of: 1 }, Time(1));
        let worker = Worker::new(
            Arc::new(plan),
            cells,
            pool,
            seat,
            Ties::none().expect("there is memory"),
            start,
        );
        let mut worker = worker.expect("there is memory");
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1000, 53)
            .write(&mut frame, &[0; 18])
            .expect("memory takes all");
        let mut io = Loop(Packets::new());
        let mut packets: Packets = (0..BURST_MAX).filter_map(|_| pool.packet_of(&frame)).collect();
        group.bench_function(chain, |b| {
            b.iter(|| {
                worker.dispatch(PortIndex(0), &mut packets, &mut io, Time(1));
                std::mem::swap(&mut packets, &mut io.0);
                assert_eq!(packets.len(), BURST_MAX, "the chain lets them through");
            });
        });
        packets.drain(..).for_each(nfv_core::dpdk::Packet::free);
    }
}

criterion_group!(benches, transmit);
criterion_main!(benches);
