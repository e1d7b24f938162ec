//! `nfv replay`: captures through the very code path of a run, on one worker, with the captures' stamps as the clock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nfv_core::account::{CellId, Side, Totals};
use nfv_core::chain::compile::{Function, Plan};
use nfv_core::clock::Time;
use nfv_core::dpdk::{BURST_MAX, Eal, Mempool, Packets, unaccounted_packets};
use nfv_core::flow::PortFacts;
use nfv_core::nf::{PortIndex, Purpose};
use nfv_core::worker::{Io, Seat, Ties, Worker};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use crate::capture::{Capture, Frame};
use crate::cli::ReplayArgs;
use crate::config::{Config, small_eal};
use crate::explain::Explain;
use crate::failure::{Failure, Outcome};
use crate::say::say;

/// Replays the captures, writes a capture for each port, and the report.
pub fn replay(args: &ReplayArgs) -> Outcome {
    let mut config = Config::read(&args.config)?;
    config.file.out = Some(args.out.clone());
    let _eal = Eal::start(&small_eal())?;
    // Functions write there, too.
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("making the folder {}", args.out.display()))?;
    let (file, plan) = config.compile(Purpose::Replay, None)?;
    if let Some(table) = &plan.routes {
        for (index, port) in (0..=u8::MAX).zip(&file.ports) {
            // Without a device: the address that the file gives, or one that says which port it is.
            let mac = port.mac.as_ref().map_or([2, 0, 0, 0, 0, index], |m| m.value.bytes());
            let mtu = port.mtu.as_ref().map_or(1500, |m| m.value);
            table.set_port(PortIndex(index), PortFacts { mac, mtu });
        }
    }
    let plan = Arc::new(plan);
    let mut captures = Vec::new();
    for input in &args.inputs {
        let (port, file) = input
            .split_once('=')
            .ok_or_else(|| Failure::User(format!("nfv: --in {input}: write it as PORT=FILE")))?;
        let index = plan.ports.iter().position(|p| p == port).ok_or_else(|| {
            let known = plan.ports.join(", ");
            Failure::User(format!(
                "nfv: --in {input}: no port `{port}` in the chain file; ports: {known}"
            ))
        })?;
        let capture =
            Capture::open(file.as_ref()).map_err(|why| Failure::User(format!("nfv: {why}")))?;
        captures.push((PortIndex(u8::try_from(index).context("too many ports")?), capture));
    }
    let mut out = Files::create(args, &plan)?;
    let pool = Mempool::create(POOL, ROOM, -1)?;
    let cells = plan.ledger.cells();
    let (seat, start) = (Seat { index: 0, of: 1 }, Time(0));
    let mut worker = Worker::new(plan.clone(), cells.clone(), pool, seat, Ties::none()?, start)?;

    let mut explain = args.explain.then(|| Explain::new(plan.clone(), cells.clone()));
    let most = if args.explain { 1 } else { BURST_MAX };
    let mut damaged = Vec::new();
    let mut too_long = 0u64;
    let mut heads: Vec<Option<Frame>> =
        captures.iter_mut().map(|(_, c)| next(c, &mut damaged)).collect();
    // The earliest frame of all captures, then those that follow it on the same port, up to a burst.
    while let Some(from) = earliest(&heads) {
        let Some((port, capture)) = captures.get_mut(from) else { break };
        let mut packets = Packets::new();
        let mut now = Time(0);
        let mut explained = None;
        while packets.len() < most && earliest(&heads) == Some(from) {
            let Some(frame) = heads.get_mut(from).and_then(Option::take) else { break };
            if packets.is_empty() {
                now = Time(frame.stamp);
            } else if frame.stamp != now.0 {
                // A burst has one time.
                if let Some(head) = heads.get_mut(from) {
                    *head = Some(frame);
                }
                break;
            }
            match pool.packet_of(&frame.bytes) {
                Some(mut packet) => {
                    packet.set_wire_length(frame.wire_length);
                    packet.set_place(frame.place);
                    packets.push(packet);
                }
                None => too_long += 1,
            }
            if args.explain {
                explained = Some(frame);
            }
            if let Some(head) = heads.get_mut(from) {
                *head = next(capture, &mut damaged);
            }
        }
        worker.dispatch(*port, &mut packets, &mut out, now);
        if let Some(why) = out.failed.take() {
            return Err(Failure::Machine(why));
        }
        worker.settle();
        if let (Some(explain), Some(frame)) = (&mut explain, &explained) {
            let name = plan.ports.get(port.index()).map_or("", String::as_str);
            say(&explain.packet(name, frame));
        }
    }
    // What is held comes out in its own time, if that is not too far away.
    let until = Time(out.now.0.saturating_add(AFTERWARDS));
    worker.wake_until(&mut out, until);
    let end = out.now;
    worker.end(&mut out, end);
    if let Some(why) = out.failed.take() {
        return Err(Failure::Machine(why));
    }
    drop(worker);
    let finished = plan.finish();
    out.finish()?;
    let totals = plan.ledger.totals(&[cells]);
    let report = report(&plan, &totals);
    let text = serde_json::to_string_pretty(&report)?;
    match &args.report {
        Some(file) => std::fs::write(file, text + "\n")
            .with_context(|| format!("writing {}", file.display()))?,
        None => say(&format!("{text}\n")),
    }
    let (balance, lost, left) =
        (totals.balance(&plan.ledger), unaccounted_packets(), pool.in_use());
    if balance != 0 || lost != 0 || left != 0 {
        return Err(anyhow!("the account does not balance: {balance} packets missing, {lost} unaccounted, {left} mbufs in use").into());
    }
    if too_long > 0 {
        damaged.push(format!("{too_long} frames are longer than {ROOM} bytes and were left out"));
    }
    finished.map_err(|why| anyhow!(why))?;
    if damaged.is_empty() {
        Ok(())
    } else {
        Err(Failure::User(format!("nfv: {}", damaged.join("\nnfv: "))))
    }
}

/// The next frame; what is wrong with the capture from here on is remembered.
fn next(capture: &mut Capture, damaged: &mut Vec<String>) -> Option<Frame> {
    match capture.next() {
        Some(Ok(frame)) => Some(frame),
        Some(Err(why)) => {
            damaged.push(why);
            None
        }
        None => None,
    }
}

fn earliest(heads: &[Option<Frame>]) -> Option<usize> {
    let known = heads.iter().enumerate().filter_map(|(i, f)| f.as_ref().map(|f| (f.stamp, i)));
    known.min().map(|(_, i)| i)
}

/// The captures that are written, by port.
struct Files {
    files: Vec<PcapWriter<BufWriter<File>>>,
    now: Time,
    failed: Option<anyhow::Error>,
}

impl Files {
    fn create(args: &ReplayArgs, plan: &Plan) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for port in &plan.ports {
            let path = args.out.join(format!("{port}.pcap"));
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            let header = PcapHeader {
                ts_resolution: TsResolution::NanoSecond,
                datalink: DataLink::ETHERNET,
                snaplen: 262_144,
                ..PcapHeader::default()
            };
            let writer = PcapWriter::with_header(BufWriter::new(file), header)
                .with_context(|| format!("writing {}", path.display()))?;
            files.push(writer);
        }
        Ok(Self { files, now: Time(0), failed: None })
    }

    fn finish(self) -> Outcome {
        for writer in self.files {
            let buffer = writer.into_writer();
            buffer.into_inner().map_err(|e| e.into_error()).context("writing a capture")?;
        }
        Ok(())
    }
}

impl Io for Files {
    fn receive(&mut self, _: PortIndex, _: &mut Packets) {}

    fn transmit(&mut self, port: PortIndex, packets: &mut Packets) {
        let stamp = Duration::from_nanos(self.now.0);
        for packet in packets.drain(..) {
            if let Some(file) = self.files.get_mut(port.index()) {
                let frame = PcapPacket::new(stamp, packet.len(), packet.data());
                if let Err(why) = file.write_packet(&frame) {
                    self.failed.get_or_insert(anyhow!(why).context("writing a capture"));
                }
            }
            packet.free();
        }
    }

    fn at(&mut self, now: Time) {
        self.now = now;
    }
}

fn report(plan: &Plan, totals: &Totals) -> serde_json::Value {
    let side = |s| totals.side(&plan.ledger, s);
    let drops: BTreeMap<String, u64> = totals
        .iter(&plan.ledger)
        .filter(|(c, v)| c.side == Side::Dropped && *v > 0)
        .map(|(c, v)| {
            let names: Vec<&str> = c.labels.iter().map(|(_, v)| v.as_str()).collect();
            (names.join("/"), v)
        })
        .collect();
    serde_json::json!({
        "rx_packets": side(Side::Received),
        "created_packets": side(Side::Created),
        "tx_packets": side(Side::Sent),
        "consumed_packets": side(Side::Consumed),
        "dropped_packets": side(Side::Dropped),
        "drops": drops,
        "functions": functions(plan, totals),
    })
}

/// By function: how many packets it saw, what it counts, and which of its rules decided how many.
fn functions(plan: &Plan, totals: &Totals) -> serde_json::Value {
    let of = |f: &Function| {
        let row = |names: Vec<&str>, first: CellId| -> serde_json::Map<_, _> {
            let value =
                |(i, name): (usize, &str)| (name.to_owned(), totals.get(first.plus(i)).into());
            names.into_iter().enumerate().map(value).collect()
        };
        let counters = f.kind.counters.iter().map(|c| c.name).collect();
        let rules = f.built.rules.iter().map(String::as_str).collect();
        let report = serde_json::json!({
            "type": f.kind.name,
            "packets": totals.get(f.cells.packets),
            "bytes": totals.get(f.cells.bytes),
            "counters": row(counters, f.cells.counters),
            "rules": row(rules, f.cells.rules),
        });
        (f.name.clone(), report)
    };
    plan.functions.iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

/// Nanoseconds after the last packet for which what NFs hold has time to come out.
const AFTERWARDS: u64 = 60_000_000_000;
/// Packets under way in a replay: a burst, and what NFs make and keep of it.
const POOL: u32 = 2047;
/// The most that one mbuf holds: 64 KiB with its head room.
const ROOM: u16 = u16::MAX - 128;
