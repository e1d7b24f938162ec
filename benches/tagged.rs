//! A firewall of 1,000 rules on packets that a NIC told apart, and on those that it did not: `cargo bench --bench tagged`.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfv_core::chain::compile::{Plan, compile, function_types};
use nfv_core::chain::report::Report;
use nfv_core::chain::source::Source;
use nfv_core::chain::spec::ChainFile;
use nfv_core::clock::Time;
use nfv_core::dispatch::Twin;
use nfv_core::dpdk::{BURST_MAX, Eal, Mempool, Packet, Packets};
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::packet::{Headers, parse_into};
use nfv_core::worker::{Io, Seat, Ties, Worker};

/// What is sent comes back.
struct Loop(Packets);

impl Io for Loop {
    fn receive(&mut self, _: PortIndex, _: &mut Packets) {}

    fn transmit(&mut self, _: PortIndex, packets: &mut Packets) {
        for packet in packets.drain(..) {
            self.0.push(packet);
        }
    }
}

fn plan() -> Plan {
    let mut text = String::from("ports: { lan: net_null0, wan: net_null1 }\nfunctions:\n");
    text += "  edge:\n    type: firewall\n    rules:\n";
    for i in 0..1000 {
        let word = if i % 2 == 0 { "allow" } else { "deny" };
        let (a, b) = (i >> 8, i & 255);
        text += &format!("      - {{ {word}: udp, src: 10.0.{a}.{b}, dport: {} }}\n", 1000 + i);
    }
    text += "chains:\n  out: { from: lan, through: [edge], to: wan }\n";
    let source = Arc::new(Source::from_bytes("bench.yaml", text.into()).expect("it is text"));
    let mut report = Report::new(source.clone());
    let file = ChainFile::read(&source, &|_| None, &function_types(nfs::KINDS), &mut report);
    let file = file.expect("it is a chain file");
    compile(&file, nfs::KINDS, Purpose::Check, None, &mut report).expect("it is right")
}

/// One that the rule allows, of which there are 500.
fn packet(pool: Mempool, i: usize) -> Packet {
    let rule = i * 30 / 2 * 2;
    let port = (1000 + rule as u16).to_be_bytes();
    let mut frame =
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    frame.extend([10, 0, (rule >> 8) as u8, rule as u8, 198, 18, 0, 1]);
    frame.extend([0x30, 0, port[0], port[1], 0, 26, 0, 0]);
    frame.extend([0; 18]);
    pool.packet_of(&frame).expect("there is room")
}

fn tagged(c: &mut Criterion) {
    let options = ["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "512"];
    let _eal = Eal::start(&options.map(str::to_owned)).expect("EAL starts");
    let pool = Mempool::create(4095, 2048, -1).expect("there is memory");
    let plan = Arc::new(plan());
    let twin = Twin::build(&plan.classes.ports[0]).expect("there is memory");
    let (seat, now) = (Seat { index: 0, of: 1 }, Time(1));
    let ties = Ties::none().expect("there is room");
    let mut worker =
        Worker::new(plan.clone(), plan.ledger.cells(), pool, seat, ties, now).expect("it is made");
    let mut io = Loop((0..BURST_MAX).map(|i| packet(pool, i)).collect());
    let mut group = c.benchmark_group("firewall of 1,000 rules");
    group.throughput(Throughput::Elements(BURST_MAX as u64));
    for (name, all) in [("untagged", false), ("tagged", true)] {
        for packet in &mut io.0 {
            let (mut headers, mut tags) = (Headers::default(), [None; BURST_MAX]);
            parse_into(packet.data(), packet.len(), &mut headers).expect("it is right");
            twin.tag(&[headers], &mut tags);
            let mark = tags[0].map(|tag| tag.0);
            assert!(mark.is_some(), "each is of a class");
            packet.set_mark(mark.filter(|_| all));
        }
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut packets = io.0.take();
                worker.dispatch(PortIndex(0), &mut packets, &mut io, now);
            });
        });
        assert_eq!(io.0.len(), BURST_MAX, "all were let through");
    }
    worker.end(&mut io, now);
    Packet::free_all(&mut io.0);
}

criterion_group!(benches, tagged);
criterion_main!(benches);
