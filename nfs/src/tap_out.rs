//! `tap-out`: writes a copy of each packet, or of those that match, to a pcapng file.
//!
//! ```text
//!     in ---->[ tap-out ]----> next      kind: packet NF
//!                 |
//!                 +---- copy ----> queue ----> writer thread ----> file
//!
//! Keys   file    required  the file; one that is there is replaced
//!        snap    256KiB    bytes of each packet that are kept, at least 60B
//!        match   none      one match or a list; only packets that meet one are written
//! Drops  none              the packet itself always goes on
//! Handles written (r)      packets in the file
//!         lost (r)         packets that the file would not take: the disk is full, say
//! Counts tapped_packets      packets given to the writer
//!        not_tapped_packets  packets that were not: no buffer was free, or too many wait for the writer
//! ```
//!
//! The disk is the writer thread's: a worker copies a packet, queues it and goes on. What is queued is in the file 100 ms
//! later, and all of it at the end of a run. When the file takes no more, the last packet that is whole in it stays the
//! last, the log says so once, packets pass as before, and the run ends with exit code 1. In a replay the worker waits
//! for the writer instead, so that nothing is left out.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use nfv_core::chain::key::{Key, Need, Shape};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::Size;
use nfv_core::clock::Time;
use nfv_core::dispatch::Selection;
use nfv_core::dpdk::Packet;
use nfv_core::nf::{
    Built, Burst, Cx, Handle, Kind, Named, PacketNf, Profile, Purpose, Surroundings,
};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

/// The type of NF `tap-out`.
pub const KIND: Kind = Kind {
    name: "tap-out",
    profile: Profile {
        reads_payload: true,
        writes: false,
        drops: false,
        creates: false,
        routes: false,
    },
    keys: &[
        Key {
            name: "file",
            shape: Shape::Text,
            need: Need::Required,
            help: "the pcapng file; one that is there is replaced",
        },
        Key {
            name: "snap",
            shape: Shape::Size,
            need: Need::Default("256KiB"),
            help: "bytes of each packet that are kept, at least 60B",
        },
        Selection::KEY,
    ],
    drops: &[],
    answers: &[],
    counters: &[
        Named { name: "tapped_packets", help: "packets given to the writer" },
        Named {
            name: "not_tapped_packets",
            help: "packets that were not: no buffer was free, or too many wait for the writer",
        },
    ],
    source: include_str!("tap_out.rs"),
    build,
};

const TAPPED: usize = 0;
const NOT_TAPPED: usize = 1;

fn build(section: &Section<'_>, around: Surroundings<'_>, report: &mut Report) -> Option<Built> {
    let snap = section.value::<Size>("snap").map(Size::bytes)?;
    if snap < SNAP_MIN {
        let message = "a packet is kept with at least 60B: the shortest Ethernet frame";
        report.error(section.span_of("snap"), message);
    }
    let chosen = Selection::read(section, around, report);
    let path = PathBuf::from(section.text("file")?);
    if report.has_errors() {
        return None;
    }
    let chosen = chosen?;
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(QUEUE_MAX),
        waits: around.purpose == Purpose::Replay,
        ends: AtomicBool::new(false),
        written: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    });
    let snap = u32::try_from(snap).unwrap_or(u32::MAX);
    let tap = shared.clone();
    let built = Built::packet(move || TapOut { shared: tap.clone(), snap, chosen: chosen.clone() });
    // A check leaves the disk as it is.
    if around.purpose == Purpose::Check {
        return Some(built);
    }
    let writer = match Writer::create(&path) {
        Ok(file) => Writing::start(file, shared.clone()),
        Err(why) => {
            report
                .error(section.span_of("file"), format!("{}: {why}", path.display()))
                .hint("name a file in a folder that is there and that this user may write");
            return None;
        }
    };
    let handles = handles(&shared);
    Some(built.with_handles(handles).with_finish(Box::new(move || writer.finish())))
}

fn handles(shared: &Arc<Shared>) -> Vec<Handle> {
    let read_only = |name, help, number: fn(&Shared) -> &AtomicU64| {
        let shared = shared.clone();
        Handle {
            named: Named { name, help },
            read: Box::new(move || number(&shared).load(Ordering::Relaxed).to_string()),
            write: None,
        }
    };
    vec![
        read_only("written", "packets in the file", |s| &s.written),
        read_only("lost", "packets that the file would not take", |s| &s.lost),
    ]
}

/// What workers and the writer share.
#[derive(Debug)]
struct Shared {
    queue: ArrayQueue<Tapped>,
    /// Whether a worker waits for room in the queue.
    waits: bool,
    /// No worker will queue anything more.
    ends: AtomicBool,
    written: AtomicU64,
    lost: AtomicU64,
}

/// A copy of a packet on its way to the file.
#[derive(Debug)]
struct Tapped {
    copy: Packet,
    /// Of the packet, of which the copy may be a part.
    length: u32,
    time: Time,
}

/// A worker's part.
#[derive(Debug)]
struct TapOut {
    shared: Arc<Shared>,
    snap: u32,
    chosen: Selection,
}

impl TapOut {
    /// Queues a copy, freed when there is no room. Whether there was.
    fn queue(&self, mut tapped: Tapped) -> bool {
        while let Err(back) = self.shared.queue.push(tapped) {
            if !self.shared.waits {
                back.copy.free();
                return false;
            }
            tapped = back;
            std::thread::yield_now();
        }
        true
    }
}

impl PacketNf for TapOut {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let found = self.chosen.look_up(burst);
        let (mut tapped, mut lost) = (0, 0);
        for (slot, _) in burst.slots().zip(found).filter(|(_, found)| *found != 0) {
            let length = slot.packet.len();
            // A packet of a capture may have been longer on the wire than what is here of it.
            let held = u32::try_from(slot.packet.data().len()).unwrap_or(u32::MAX);
            let Some(copy) = cx.copy(slot.packet, self.snap.min(held)) else {
                lost += 1;
                continue;
            };
            let mut taken = false;
            cx.give_away(copy, |copy| {
                taken = self.queue(Tapped { copy, length, time: cx.now });
            });
            if taken {
                tapped += 1;
            } else {
                lost += 1;
            }
        }
        cx.count(TAPPED, tapped);
        cx.count(NOT_TAPPED, lost);
    }
}

/// A writer thread at work.
struct Writing {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Result<(), String>>>>,
}

impl Writing {
    fn start(mut writer: Writer<File>, shared: Arc<Shared>) -> Self {
        let own = shared.clone();
        let body = move || {
            let mut said = Ok(());
            let mut flushed = Instant::now();
            loop {
                // Looked at before the queue: what is queued before the end is written.
                let ends = own.ends.load(Ordering::Acquire);
                let mut idle = true;
                while let Some(tapped) = own.queue.pop() {
                    idle = false;
                    writer.add(&tapped);
                    tapped.copy.free();
                    if writer.is_full() {
                        break;
                    }
                }
                if writer.is_full() || ends || flushed.elapsed() >= FLUSH_EVERY {
                    flushed = Instant::now();
                    let result = writer.flush();
                    own.written.store(writer.written, Ordering::Relaxed);
                    own.lost.store(writer.lost, Ordering::Relaxed);
                    if let (Ok(()), Err(why)) = (&said, result) {
                        tracing::error!("{why}");
                        said = Err(why);
                    }
                }
                if ends && idle {
                    return said;
                }
                if idle {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        let thread = std::thread::Builder::new().name("tap-out".to_owned()).spawn(body);
        let thread = thread.inspect_err(|why| tracing::error!("tap-out: no thread: {why}")).ok();
        Self { shared, thread: Mutex::new(thread) }
    }

    /// Waits until all is written.
    fn finish(&self) -> Result<(), String> {
        self.shared.ends.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = thread.map_or(Ok(Ok(())), JoinHandle::join);
        ended.unwrap_or_else(|_| Err("tap-out: the writer panicked".to_owned()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // What is wrong is in the log.
        let _ = self.finish();
    }
}

/// Where a tap's bytes go.
trait Sink: Write {
    /// Keeps only the first `bytes`.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
    /// How many it has.
    fn size(&mut self) -> u64;
}

impl Sink for File {
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn size(&mut self) -> u64 {
        self.metadata().map_or(0, |m| m.len())
    }
}

/// Turns packets into blocks, and writes whole blocks.
struct Writer<S> {
    path: PathBuf,
    sink: S,
    /// Blocks that are not in the sink yet, and where each ends.
    blocks: PcapNgWriter<Vec<u8>>,
    ends: Vec<usize>,
    /// Bytes of whole blocks in the sink.
    size: u64,
    written: u64,
    lost: u64,
    failed: bool,
}

impl Writer<File> {
    fn create(path: &Path) -> io::Result<Self> {
        Self::new(path, File::create(path)?)
    }
}

impl<S: Sink> Writer<S> {
    fn new(path: &Path, sink: S) -> io::Result<Self> {
        let mut blocks = PcapNgWriter::new(Vec::new()).map_err(io_error)?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(9)],
        };
        blocks.write_pcapng_block(interface).map_err(io_error)?;
        let mut writer = Self {
            path: path.to_owned(),
            sink,
            blocks,
            ends: Vec::new(),
            size: 0,
            written: 0,
            lost: 0,
            failed: false,
        };
        writer.flush().map_err(io::Error::other)?;
        Ok(writer)
    }

    fn add(&mut self, tapped: &Tapped) {
        self.add_block(tapped.copy.data(), tapped.length, tapped.time);
    }

    fn add_block(&mut self, data: &[u8], length: u32, time: Time) {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(time.0),
            original_len: length,
            data: data.into(),
            options: Vec::new(),
        };
        if self.failed || self.blocks.write_pcapng_block(block).is_err() {
            self.lost += 1;
        } else {
            self.ends.push(self.blocks.get_ref().len());
        }
    }

    fn is_full(&self) -> bool {
        self.blocks.get_ref().len() >= BATCH
    }

    /// Writes what was added. After a failure the sink ends with its last whole block, and takes no more.
    fn flush(&mut self) -> Result<(), String> {
        let all = self.ends.len() as u64;
        let result = self.sink.write_all(self.blocks.get_ref());
        if result.is_ok() {
            self.size += self.blocks.get_ref().len() as u64;
            self.written += all;
        } else {
            self.failed = true;
            let there = self.sink.size().saturating_sub(self.size);
            let whole = self.ends.iter().take_while(|end| **end as u64 <= there).count();
            self.size += self.ends.get(..whole).and_then(<[usize]>::last).map_or(0, |e| *e as u64);
            self.written += whole as u64;
            self.lost += all - whole as u64;
            let _ = self.sink.cut(self.size);
        }
        self.ends.clear();
        self.blocks.get_mut().clear();
        let path = self.path.display();
        result.map_err(|why| {
            format!(
                "tap-out: {path}: {why}; its {} packets can be read, later ones are not written",
                self.written
            )
        })
    }
}

fn io_error(why: PcapError) -> io::Error {
    match why {
        PcapError::IoError(why) => why,
        other => io::Error::other(other),
    }
}

const SNAP_MIN: u64 = 60;
/// Packets that may wait for the writer: an eighth of the mbufs that a port has by default.
const QUEUE_MAX: usize = 512;
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Bytes that are written at once.
const BATCH: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use nfv_core::chain::key::check_keys;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    /// A disk with room for so many bytes.
    #[derive(Debug)]
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.1.saturating_sub(self.0.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(room);
            self.0.extend(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Disk {
        fn cut(&mut self, bytes: u64) -> io::Result<()> {
            self.0.truncate(bytes as usize);
            Ok(())
        }

        fn size(&mut self) -> u64 {
            self.0.len() as u64
        }
    }

    fn packets(bytes: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
        let mut reader = PcapNgReader::new(bytes).unwrap();
        let mut all = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(p) = block.unwrap() {
                let stamp = p.timestamp.as_nanos() as u64;
                all.push((stamp, p.original_len, p.data.into_owned()));
            }
        }
        all
    }

    #[test]
    fn the_keys_are_sound() {
        assert_eq!(check_keys(KIND.keys), Ok(()));
    }

    #[test]
    fn packets_are_read_back_as_they_were_with_their_nanoseconds() {
        let mut writer = Writer::new(Path::new("t"), Disk(Vec::new(), 1 << 20)).unwrap();
        let stamp = 1_700_000_000_123_456_789;
        writer.add_block(&[1; 61], 61, Time(stamp));
        writer.add_block(&[2; 64], 1500, Time(stamp + 1));
        writer.flush().unwrap();
        let expected = [(stamp, 61, vec![1; 61]), (stamp + 1, 1500, vec![2; 64])];
        assert_eq!(packets(&writer.sink.0), expected);
    }

    #[test]
    fn a_full_disk_ends_the_file_with_its_last_whole_packet() {
        for room in 100..600 {
            let Ok(mut writer) = Writer::new(Path::new("t"), Disk(Vec::new(), room)) else {
                continue;
            };
            for i in 0..4 {
                writer.add_block(&[i; 60], 60, Time(u64::from(i)));
                if i == 1 {
                    let _ = writer.flush();
                }
            }
            let _ = writer.flush();
            let there = packets(&writer.sink.0);
            assert_eq!(there.len() as u64, writer.written, "with {room} bytes of room");
            assert_eq!(writer.written + writer.lost, 4);
            assert_eq!(writer.failed, writer.lost > 0);
        }
    }
}
